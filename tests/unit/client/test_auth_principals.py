import asyncio
import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import oci._vendor.requests
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from oci._vendor.requests.exceptions import ConnectionError as NoConnectionError
from oci.auth.signers import (
    EphemeralResourcePrincipalSigner,
    InstancePrincipalsDelegationTokenSigner,
    InstancePrincipalsSecurityTokenSigner,
    OkeWorkloadIdentityResourcePrincipalSigner,
)

from ociaudit.client import auth as principals
from ociaudit.client.auth import load_credentials
from ociaudit.client.signer import Credentials
from ociaudit.errors import ConfigError, OciAuditError, ServiceUnreachable, SignInRejected

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
END = 4_000_000_000
TENANCY, REGION = "ocid1.tenancy.oc1..home", "eu-frankfurt-1"
WORKLOAD = "ocid1.workload.oc1..pod"
USER = "ocid1.user.oc1..anna"


def make_token(**claims: object) -> str:
    """Make an unsigned token."""
    body = base64.urlsafe_b64encode(json.dumps({"iat": END - 3600, "exp": END, **claims}).encode()).rstrip(b"=")
    return f"eyJhbGciOiJub25lIn0.{body.decode()}.c2ln"


@dataclass
class ClusterService:
    """The token service of a cluster, as its client sees it; it records the requests."""

    token: str = field(default_factory=lambda: make_token(sub=WORKLOAD, res_tenant=TENANCY))
    status_code: int = 200
    failure: Exception | None = None
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    url: str = ""
    reason: str = "because"
    headers: dict[str, str] = field(default_factory=dict)

    def post(self, url: str, **options: Any) -> "ClusterService":
        """Return a token, or fail."""
        self.requests.append((url, options))
        if self.failure:
            raise self.failure
        return self

    @property
    def ok(self) -> bool:
        """Return whether the response is a success."""
        return self.status_code == 200

    @property
    def content(self) -> bytes:
        """Return the body."""
        return base64.b64encode(json.dumps({"token": f"ST${self.token}"}).encode())


@pytest.fixture
def cluster(monkeypatch) -> ClusterService:
    """A cluster whose token service responds without a socket."""
    service = ClusterService()
    monkeypatch.setattr(oci._vendor.requests.Session, "post", service.post)
    return service


@pytest.fixture
def pod(tmp_path: Path) -> dict[str, str]:
    """The variables of a pod."""
    (tmp_path / "token").write_text(make_token(sub="system:serviceaccount:audit:reader"))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return {
        "KUBERNETES_SERVICE_HOST": "10.96.0.1",
        "OCI_RESOURCE_PRINCIPAL_REGION": "fra",
        "OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH": str(tmp_path / "token"),
        "OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH": str(tmp_path / "ca.pem"),
    }


def sign(credentials: Credentials) -> dict[str, str]:
    """Sign a request as the transport does."""
    return credentials.sign(url="https://h/p", host="h", path="/p", now_seconds=1_700_000_000)


def test_a_pod_signs_with_the_token_of_its_cluster(cluster: ClusterService, pod: dict[str, str]) -> None:
    """The token is requested from the cluster's address, trusting its CA, with the account's token."""
    credentials = load_credentials(auth="oke_workload_identity", environment=pod)
    (url, options), *more = cluster.requests
    assert not more
    assert url == "https://10.96.0.1:12250/resourcePrincipalSessionTokens"
    assert options["verify"] == pod["OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH"]
    token = Path(pod["OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH"]).read_text()
    assert options["headers"]["Authorization"] == f"Bearer {token}"
    assert (credentials.tenancy, credentials.region, credentials.principal) == (TENANCY, REGION, WORKLOAD)
    assert (credentials.fingerprint, credentials.profile) == (None, "oke_workload_identity")
    assert f'keyId="ST${cluster.token}"' in sign(credentials)["authorization"]
    assert cluster.token not in repr(credentials)
    assert "any-user" in credentials.format_policy("read audit-events")
    assert "workload" in credentials.format_policy("read audit-events")


def test_a_pod_may_get_its_token_from_a_variable(cluster: ClusterService, pod: dict[str, str]) -> None:
    """A variable with the account's token beats the file."""
    token = make_token(sub="system:serviceaccount:audit:other")
    load_credentials(
        auth="oke_workload_identity", environment={**pod, "OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_STRING": token}
    )
    assert cluster.requests[0][1]["headers"]["Authorization"] == f"Bearer {token}"


def test_a_pod_refreshes_its_token(cluster: ClusterService, pod: dict[str, str]) -> None:
    """A token is requested again near its expiry and after a rejection, but never by signing."""
    credentials = load_credentials(auth="oke_workload_identity", environment=pod)
    sign(credentials)
    assert len(cluster.requests) == 1
    cluster.token = make_token(sub=WORKLOAD, res_tenant=TENANCY, jti="second")
    number = asyncio.run(credentials.prepare(END - 100))
    assert (number, len(cluster.requests)) == (1, 2)
    assert f'keyId="ST${cluster.token}"' in sign(credentials)["authorization"]
    cluster.token = make_token(sub=WORKLOAD, res_tenant=TENANCY, jti="third")
    assert asyncio.run(credentials.refresh(number)) is True
    assert f'keyId="ST${cluster.token}"' in sign(credentials)["authorization"]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"status_code": 403}, SignInRejected, "403"),
        ({"token": "garbage"}, ConfigError, "token cannot be parsed"),
        ({"failure": NoConnectionError("secret-text")}, ServiceUnreachable, "issued no token"),
        ({"failure": RuntimeError("secret-text")}, ConfigError, "cannot sign in here"),
    ],
)
def test_a_cluster_that_issues_no_token_is_explained(
    cluster: ClusterService,
    pod: dict[str, str],
    changes: dict[str, Any],
    error: type[OciAuditError],
    words: str,
    monkeypatch,
) -> None:
    """Any exception of the SDK becomes an error with a hint and without the SDK's message."""
    monkeypatch.setattr(principals, "_make_retries", oci.retry.NoneRetryStrategy)
    for name, value in changes.items():
        setattr(cluster, name, value)
    with pytest.raises(error, match=words) as caught:
        load_credentials(auth="oke_workload_identity", environment=pod)
    assert caught.value.hint
    assert "secret-text" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH", None, "cannot be read"),
        ("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH", "garbage", "token cannot be parsed"),
        ("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH", make_token(exp=1), "has expired"),
        ("OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH", None, "cannot be read"),
    ],
)
def test_a_pod_without_its_files_is_a_configuration_error(
    cluster: ClusterService,
    pod: dict[str, str],
    tmp_path: Path,
    name: str,
    content: str | None,
    words: str,
    monkeypatch,
) -> None:
    """A missing or damaged file of the pod is a configuration error."""
    monkeypatch.setattr(principals, "_make_retries", oci.retry.NoneRetryStrategy)
    path = tmp_path / "changed"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=words):
        load_credentials(auth="oke_workload_identity", environment={**pod, name: str(path)})


@dataclass
class Instance:
    """What the SDK's signer of an instance was built with."""

    options: dict[str, Any] = field(default_factory=dict)


@pytest.fixture
def instance(monkeypatch) -> Instance:
    """An instance whose metadata and token the SDK's signer has without a request."""
    built = Instance()

    def build(signer: Any, **options: Any) -> None:
        built.options = options
        signer.tenancy_id, signer.region = "ocid1.tenancy.oc1..instance", "us-phoenix-1"
        token = make_token(sub="ocid1.instance.oc1.phx.one")
        headers = options.get("generic_headers", ["date", "(request-target)", "host"])
        signer.api_key, signer.private_key = f"ST${token}", KEY
        signer.create_signers(signer.api_key, KEY, headers, [])

    monkeypatch.setattr(InstancePrincipalsSecurityTokenSigner, "__init__", build)
    monkeypatch.setattr(principals, "_check_metadata_service", lambda *_: None)
    return built


def write_profile(folder: Path, **fields: str) -> str:
    """Write a profile with a delegation token in a file beside it."""
    (folder / "delegation").write_text(make_token(sub=USER, tenant=TENANCY) + "\n")
    fields = {"delegation_token_file": str(folder / "delegation"), **fields}
    path = folder / "config"
    path.write_text("[DEFAULT]\n" + "".join(f"{name}={value}\n" for name, value in fields.items()))
    return str(path)


@pytest.mark.parametrize("way", ["option", "variable", "profile"])
def test_an_instance_acts_for_the_user_of_a_delegation_token(instance: Instance, tmp_path: Path, way: str) -> None:
    """The token is sent in a signed header, and principal and tenancy are the user's."""
    options: dict[str, Any] = {}
    fields: dict[str, str] = {}
    if way == "option":
        options["auth"] = "delegation_token"
    elif way == "variable":
        options["environment"] = {"OCI_CLI_AUTH": "instance_obo_user"}
    else:
        fields["authentication_type"] = "instance_principal"
    credentials = load_credentials(write_profile(tmp_path, **fields), **options)
    token = (tmp_path / "delegation").read_text().strip()
    assert instance.options["delegation_token"] == token
    headers = sign(credentials)
    assert headers["opc-obo-token"] == token
    assert 'headers="date (request-target) host opc-obo-token"' in headers["authorization"]
    assert (credentials.kind, credentials.principal, credentials.tenancy) == ("delegation_token", USER, TENANCY)
    assert (credentials.region, credentials.fingerprint) == ("us-phoenix-1", None)
    assert token not in repr(credentials)
    assert "Allow group" in credentials.format_policy("read audit-events")


def test_a_delegation_token_is_read_again(instance: Instance, tmp_path: Path) -> None:
    """A refresh of the signer reads the delegation token again, which may have been replaced."""
    credentials = load_credentials(write_profile(tmp_path), auth="delegation_token")
    (tmp_path / "delegation").write_text(make_token(sub=USER, jti="second"))
    asyncio.run(credentials.refresh(0))
    assert instance.options["delegation_token"] == (tmp_path / "delegation").read_text()


def test_the_profile_names_tenancy_and_region_of_a_delegation(instance: Instance, tmp_path: Path) -> None:
    """Variables beat the profile, and the profile beats the instance."""
    where = write_profile(tmp_path, tenancy="ocid1.tenancy.oc1..profile", region="nrt")
    credentials = load_credentials(where, auth="delegation_token")
    assert (credentials.tenancy, credentials.region) == ("ocid1.tenancy.oc1..profile", "ap-tokyo-1")
    variables = {"OCI_CLI_REGION": "lhr", "OCI_CLI_TENANCY": "ocid1.tenancy.oc1..variable"}
    credentials = load_credentials(where, auth="delegation_token", environment=variables)
    assert (credentials.tenancy, credentials.region) == ("ocid1.tenancy.oc1..variable", "uk-london-1")


@pytest.mark.parametrize("content", [None, "", "two words", 'quote"quote', "line\nline", "ümlaut", "\x00"])
def test_an_invalid_delegation_token_is_a_configuration_error(
    instance: Instance, tmp_path: Path, content: str | None
) -> None:
    """A file without a token is a configuration error that names the field."""
    where = write_profile(tmp_path)
    path = tmp_path / "delegation"
    path.unlink()
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="delegation_token_file"):
        load_credentials(where, auth="delegation_token")
    assert instance.options == {}


def test_an_instance_signs_in_its_own_name(instance: Instance, tmp_path: Path) -> None:
    """An instance needs no configuration file, and its token requests trust the named CAs."""
    variables = {"OCI_CLI_FEDERATION_ENDPOINT": "https://auth.example.com/v1/x509", "OCI_CLI_TENANCY": TENANCY}
    credentials = load_credentials(
        "/missing/config", auth="instance_principal", environment=variables, ca_bundle=tmp_path / "ca.pem"
    )
    assert instance.options["federation_endpoint"] == "https://auth.example.com/v1/x509"
    assert instance.options["federation_client_cert_bundle_verify"] == str(tmp_path / "ca.pem")
    assert (credentials.tenancy, credentials.region) == (TENANCY, "us-phoenix-1")
    assert credentials.principal == "ocid1.instance.oc1.phx.one"
    assert "dynamic-group" in credentials.format_policy("read audit-events")


def test_signing_requests_no_token(instance: Instance, monkeypatch) -> None:
    """Signing avoids the SDK signer's own call, which may request a token and block the event loop."""

    def fail(*_: object) -> None:
        raise AssertionError("requested a token")

    monkeypatch.setattr(InstancePrincipalsSecurityTokenSigner, "__call__", fail)
    credentials = load_credentials(auth="instance_principal")
    assert "ST$" in sign(credentials)["authorization"]


def test_a_resource_of_another_version_is_left_to_the_sdk(monkeypatch) -> None:
    """For versions other than 2.2 the SDK chooses the signer."""
    token = make_token(sub="ocid1.fnfunc.oc1..f", res_tenant=TENANCY)
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    signer = EphemeralResourcePrincipalSigner(session_token=token, private_key=pem, region="fra")
    monkeypatch.setattr("oci.auth.signers.get_resource_principals_signer", lambda: signer)
    credentials = load_credentials(auth="resource_principal", environment={"OCI_RESOURCE_PRINCIPAL_VERSION": "1.1"})
    assert (credentials.tenancy, credentials.region) == (TENANCY, REGION)
    assert credentials.principal == "ocid1.fnfunc.oc1..f"


def test_the_sdk_still_has_these_signers() -> None:
    """The SDK has the signers that these tests replace, with the same base classes."""
    assert issubclass(InstancePrincipalsDelegationTokenSigner, InstancePrincipalsSecurityTokenSigner)
    assert OkeWorkloadIdentityResourcePrincipalSigner.__mro__[1].__name__ == "SecurityTokenSigner"
