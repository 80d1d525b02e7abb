import shutil
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme

import ociaudit
from support.emulator import Emulator
from support.exports import make_command, read_manifest
from support.forward_proxy import ForwardProxy, run_forward_proxy
from support.processes import Finished, run_process
from support.truth import find_compartment

REGION, DAY = "us-ashburn-1", "2025-06-02"
KEPT = ("--retention-days", "36500", "--events-per-day", "300")
SECRET = "open-sesame-proxy"
VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")


@dataclass(frozen=True)
class PrivateCa:
    """The files of a private CA: its certificate, and the certificate and key of a server on 127.0.0.1."""

    bundle: Path
    server_cert: Path
    server_key: Path


def make_private_ca(folder: Path, *, not_after: datetime | None = None) -> PrivateCa:
    """Create a private CA, and a certificate for 127.0.0.1 and no other name; by default it has not expired."""
    files = PrivateCa(folder / "ca.pem", folder / "server.pem", folder / "server_key.pem")
    ca = trustme.CA()
    server = ca.issue_cert("127.0.0.1", not_after=not_after)
    ca.cert_pem.write_to_path(str(files.bundle))
    server.cert_chain_pems[0].write_to_path(str(files.server_cert))
    server.private_key_pem.write_to_path(str(files.server_key))
    return files


@dataclass(frozen=True)
class Secured:
    """An emulator that serves TLS with a private CA's certificate, and a folder to export into."""

    emulator: Emulator
    ca: PrivateCa
    folder: Path
    compartment: str

    def export(self, *, url: str = "", **options: Any) -> Any:
        """Export a day of one compartment, in this process."""
        return ociaudit.export(
            DAY,
            DAY,
            output=self.folder / "a.json",
            config_file=str(self.emulator.config_path),
            endpoint=(url or self.emulator.url) + "/{region}",
            regions=[REGION],
            compartments=[self.compartment],
            is_subtree=False,
            **options,
        )

    def run(self, *options: str, **variables: str) -> Finished:
        """Export the same with the installed command."""
        scope = ("--region", REGION, "--compartment", self.compartment, "--no-subtree")
        command = make_command(self.emulator, "--start", DAY, "--end", DAY, *scope, "-o", "a.json", *options)
        endpoint = {"OCI_AUDIT_ENDPOINT": self.emulator.url + "/{region}"}
        return run_process(command, cwd=self.folder, variables={**endpoint, **variables})


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch) -> None:
    """Let no proxy or CA of the machine be in the way."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The emulator behind TLS, and the CA that its certificate is from."""
    ca = make_private_ca(tmp_path_factory.mktemp("ca"))
    tls = ("--tls-cert", str(ca.server_cert), "--tls-key", str(ca.server_key))
    with Emulator(*KEPT, *tls) as running:
        yield running, ca, find_compartment(running, "payments")


@pytest.fixture
def secured(served, tmp_path):
    """The same with an empty log and an empty folder."""
    emulator, ca, compartment = served
    emulator.clear_log()
    return Secured(emulator, ca, tmp_path, compartment)


@pytest.fixture
def proxy():
    """A forward proxy."""
    with run_forward_proxy() as running:
        yield running


def hash_names(bundle: Path, folder: Path) -> Path:
    """Put a CA into a folder under the name that OpenSSL looks for."""
    command = [str(shutil.which("openssl")), "x509", "-hash", "-noout", "-in", str(bundle)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    folder.mkdir()
    (folder / f"{done.stdout.strip()}.0").write_bytes(bundle.read_bytes())
    return folder


def test_a_private_ca_is_trusted_when_it_is_named(secured: Secured) -> None:
    """With --ca-bundle the command's export over TLS is complete, and the manifest does not speak of the bundle."""
    done = secured.run("--ca-bundle", str(secured.ca.bundle))
    assert done.code == 0, done.stderr
    manifest = read_manifest(secured.folder / "a.json")
    assert manifest["totals"]["written"] > 0
    assert str(secured.ca.bundle) not in str(manifest)


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "OCI_CLI_CERT_BUNDLE"])
def test_a_private_ca_may_be_named_by_a_variable(secured: Secured, name: str, monkeypatch) -> None:
    """The variables of other programs name the CAs too."""
    monkeypatch.setenv(name, str(secured.ca.bundle))
    assert secured.export().complete


def test_the_option_beats_a_variable(secured: Secured, monkeypatch) -> None:
    """A bundle that was named by hand is read, and the one of a variable is not even looked at."""
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.folder / "missing.pem"))
    assert secured.export(ca_bundle=secured.ca.bundle).complete


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_a_folder_of_authorities_is_a_bundle(secured: Secured, monkeypatch) -> None:
    """A folder as OpenSSL and requests know it is taken too."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(hash_names(secured.ca.bundle, secured.folder / "authorities")))
    assert secured.export().complete


def test_an_authority_that_is_not_trusted_stops_the_run(secured: Secured) -> None:
    """Without the CA nothing is asked, exit 4, and the hint names --ca-bundle."""
    done = secured.run()
    assert done.code == 4, done.stderr
    assert "is not trusted" in done.error_lines[0]
    assert "--ca-bundle" in done.hint_lines[0]
    assert not secured.emulator.log()


def test_a_bundle_replaces_the_authorities_of_the_system(secured: Secured) -> None:
    """With another CA than the server's nothing is asked either."""
    (secured.folder / "other").mkdir()
    other = make_private_ca(secured.folder / "other")
    with pytest.raises(ociaudit.OciAuditError, match="is not trusted") as caught:
        secured.export(ca_bundle=other.bundle)
    assert caught.value.exit_code == 4
    assert not secured.emulator.log()


def test_a_certificate_of_another_name_is_refused(secured: Secured) -> None:
    """A trusted certificate for another host is not accepted: names are checked."""
    with pytest.raises(ociaudit.OciAuditError, match="is not trusted") as caught:
        secured.export(ca_bundle=secured.ca.bundle, url=secured.emulator.url.replace("127.0.0.1", "localhost"))
    assert caught.value.exit_code == 4
    assert not secured.emulator.log()


def test_an_expired_certificate_is_refused(tmp_path: Path) -> None:
    """A certificate that expired yesterday is not accepted, even though its CA is trusted."""
    ca = make_private_ca(tmp_path, not_after=datetime.now(UTC) - timedelta(days=1))
    with Emulator(*KEPT, "--tls-cert", str(ca.server_cert), "--tls-key", str(ca.server_key)) as emulator:
        expired = Secured(emulator, ca, tmp_path, find_compartment(emulator, "payments"))
        emulator.clear_log()
        with pytest.raises(ociaudit.OciAuditError, match=r"is not trusted.*expired") as caught:
            expired.export(ca_bundle=ca.bundle)
        assert caught.value.exit_code == 4
        assert not emulator.log()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "no certificate"),
        (b"garbage", "no certificate"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate"),
        ("server_key", "no certificate"),
        ("server_cert", "no certificate of an authority"),
    ],
)
def test_a_bundle_that_is_none_is_refused(secured: Secured, content, words: str, monkeypatch) -> None:
    """A missing, empty or foreign file is exit 2 with its name and who named it, before anything is asked."""
    bundle = secured.folder / "bundle.pem"
    if content is not None:
        bundle.write_bytes(content if isinstance(content, bytes) else getattr(secured.ca, content).read_bytes())
    with pytest.raises(ociaudit.OciAuditError, match=words) as by_option:
        secured.export(ca_bundle=bundle)
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    with pytest.raises(ociaudit.OciAuditError, match=words) as by_variable:
        secured.export()
    assert by_option.value.exit_code == by_variable.value.exit_code == 2
    assert f"--ca-bundle {bundle}" in str(by_option.value)
    assert f"SSL_CERT_FILE {bundle}" in str(by_variable.value)
    assert not secured.emulator.log()


def test_a_missing_bundle_ends_the_command(secured: Secured) -> None:
    """The command says it in one sentence with a hint, and leaves nothing behind."""
    done = secured.run("--ca-bundle", "missing.pem")
    assert done.code == 2, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1
    assert list(secured.folder.iterdir()) == []


def test_an_https_export_goes_through_the_proxy(secured: Secured, proxy: ForwardProxy) -> None:
    """The command's connections are CONNECTs to the proxy; what its URL holds stays between the two."""
    url = f"http://reader:{SECRET}@{proxy.address}"
    done = secured.run("--ca-bundle", str(secured.ca.bundle), HTTPS_PROXY=url)
    assert done.code == 0, done.stderr
    assert set(proxy.asked) == {("CONNECT", secured.emulator.url.removeprefix("https://"))}
    assert all(text and text.startswith("Basic ") for text in proxy.credentials)
    assert SECRET not in done.stderr + (secured.folder / "a.json.manifest.json").read_text()
    assert secured.emulator.log()


@pytest.mark.parametrize("name", ["https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxy_has_several_spellings(
    secured: Secured, proxy: ForwardProxy, name: str, scheme: str, monkeypatch
) -> None:
    """The variable may be written small, stand for all schemes, and name host and port alone."""
    monkeypatch.setenv(name, scheme + proxy.address)
    assert secured.export(ca_bundle=secured.ca.bundle).complete
    assert {method for method, _ in proxy.asked} == {"CONNECT"}


def test_a_proxy_does_not_weaken_the_check(secured: Secured, proxy: ForwardProxy, monkeypatch) -> None:
    """Through a proxy, too, an authority that is not trusted stops the run."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    with pytest.raises(ociaudit.OciAuditError, match="is not trusted") as caught:
        secured.export()
    assert caught.value.exit_code == 4
    assert "--ca-bundle" in caught.value.hint
    assert proxy.asked
    assert not secured.emulator.log()


@pytest.mark.parametrize("exceptions", ["127.0.0.1", "*", "example.com,127.0.0.1"])
def test_an_exception_goes_past_the_proxy(secured: Secured, proxy: ForwardProxy, exceptions: str, monkeypatch) -> None:
    """A host in NO_PROXY is asked directly."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", exceptions)
    assert secured.export(ca_bundle=secured.ca.bundle).complete
    assert proxy.asked == []


@pytest.mark.parametrize(
    "url", ["http://[::1", "socks5://127.0.0.1:9", "http://", f"http://a:{SECRET}@:x", "http://h:0"]
)
def test_a_variable_that_names_no_proxy_is_refused(secured: Secured, url: str, monkeypatch) -> None:
    """What is no proxy for HTTP is exit 2 with the variable's name, and never gone past in silence."""
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ociaudit.OciAuditError, match="HTTPS_PROXY") as caught:
        secured.export(ca_bundle=secured.ca.bundle)
    assert caught.value.exit_code == 2
    assert SECRET not in f"{caught.value} {caught.value.hint}"
    assert not secured.emulator.log()


def test_a_dead_proxy_is_explained(secured: Secured) -> None:
    """A proxy that does not listen ends with exit 4, and its password is not told."""
    done = secured.run("--ca-bundle", str(secured.ca.bundle), HTTPS_PROXY=f"http://reader:{SECRET}@127.0.0.1:9")
    assert done.code == 4, done.stderr
    assert len(done.error_lines) == len(done.hint_lines) == 1
    assert SECRET not in done.stderr
    assert "the proxy http://127.0.0.1:9 cannot be reached" in done.stderr
    assert " object at " not in done.stderr
    assert not secured.emulator.log()


@pytest.mark.parametrize(("status", "words"), [(403, "allow CONNECT to"), (407, "USER:PASSWORD"), (502, "allow")])
def test_the_refusal_of_a_proxy_is_not_the_services(
    secured: Secured, proxy: ForwardProxy, status: int, words: str
) -> None:
    """A proxy that refuses the connection is named with its status, and the hint says whom to ask."""
    proxy.refusal = status
    url = f"http://reader:{SECRET}@{proxy.address}"
    done = secured.run("--ca-bundle", str(secured.ca.bundle), HTTPS_PROXY=url)
    assert done.code == 4, done.stderr
    assert f"the proxy http://{proxy.address} refused to connect to " in done.error_lines[0]
    assert str(status) in done.error_lines[0]
    assert words in done.hint_lines[0]
    assert proxy.asked
    assert SECRET not in done.stderr


def test_plain_http_goes_through_its_own_proxy(proxy: ForwardProxy, tmp_path: Path, monkeypatch) -> None:
    """HTTP_PROXY serves http alone: the whole URL is asked of it, and the signature still holds behind it."""
    monkeypatch.setenv("http_proxy", f"http://{proxy.address}")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with Emulator(*KEPT) as emulator:
        plain = Secured(emulator, make_private_ca(tmp_path), tmp_path, find_compartment(emulator, "payments"))
        assert plain.export().complete
        assert {method for method, _ in proxy.asked} == {"GET"}
        assert all(target.startswith(emulator.url) for _, target in proxy.asked)
