"""Principals of what runs inside Oracle Cloud: instances, resources, pods, and users for whom an instance acts.

`load_principal` builds the SDK's own signers. Variables come as an argument, with two exceptions inside the SDK: it
reads `OCI_METADATA_BASE_URL`, and everything for resource principals of other versions than 2.2, from the process's
environment.

Invariants
- A signer that cannot be built is an error within seconds, with a hint.
- The SDK's exceptions are translated here, and no text of a certificate, key or token appears in a message.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ociaudit.client.network import is_safe_url
from ociaudit.client.signer import AuthKind, LoadedSigner, read_claims
from ociaudit.errors import ConfigError, OciAuditError, ServiceUnreachable, SignInRejected

_SIGN_IN_SECONDS = 10.0
_METADATA_SECONDS = 2.0
_METADATA_HOSTS = ("169.254.169.254", "fd00:c1::a9fe:a9fe")
_TOKEN_SERVICE_PORT = "12250"
_DEFAULT_CLUSTER_CA = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt"
_WHERE_IT_WORKS: Mapping[AuthKind, str] = {
    "instance_principal": "on a compute instance of Oracle Cloud",
    "delegation_token": "on a compute instance of Oracle Cloud (Cloud Shell is one)",
    "resource_principal": "in resources that have a principal, such as functions",
    "oke_workload_identity": "in pods of an enhanced OKE cluster",
}


@dataclass(frozen=True, slots=True)
class PrincipalContext:
    """What a signer is built from: variables, CAs to trust (None for the system's), how to read a delegation token."""

    environment: Mapping[str, str]
    ca_bundle: Path | None = None
    read_delegation_token: Callable[[], str] = str


def load_principal(kind: AuthKind, context: PrincipalContext) -> LoadedSigner:
    """Return a new signer of this kind; blocks for ten seconds at most.

    Raises:
        ConfigError: this kind cannot work on this machine, or something that it needs is missing.
        SignInRejected: Oracle rejected the request for a token.
        ServiceUnreachable: the service that issues tokens does not respond.
    """
    build = {
        "instance_principal": _build_instance,
        "delegation_token": _build_delegation,
        "resource_principal": _build_resource,
        "oke_workload_identity": _build_workload,
    }[kind]
    signer = _call_in_time(lambda: _translate_errors(kind, lambda: build(context)), kind)
    token = str(signer.api_key).removeprefix("ST$")
    claims = read_claims(token)
    region = getattr(signer, "region", None)

    def sign(request: Any) -> None:
        # Not the signer's own call: that of some kinds requests a new token first, and would block the event loop.
        from oci.signer import AbstractBaseSigner

        AbstractBaseSigner.__call__(signer, request)

    tenancy = getattr(signer, "tenancy_id", None) or claims.tenancy
    return LoadedSigner(sign, token, claims, tenancy=tenancy, region=region)


def _build_instance(context: PrincipalContext) -> Any:
    from oci.auth.signers import InstancePrincipalsSecurityTokenSigner

    _check_metadata_service(context.environment, "instance_principal")
    return InstancePrincipalsSecurityTokenSigner(**_make_federation_options(context))


def _build_delegation(context: PrincipalContext) -> Any:
    from oci.auth.signers import InstancePrincipalsDelegationTokenSigner

    delegation_token = context.read_delegation_token()
    _check_metadata_service(context.environment, "delegation_token")
    return InstancePrincipalsDelegationTokenSigner(
        delegation_token=delegation_token, **_make_federation_options(context)
    )


def _build_resource(context: PrincipalContext) -> Any:
    from oci.auth.signers import EphemeralResourcePrincipalSigner, get_resource_principals_signer

    find = context.environment.get
    version = find("OCI_RESOURCE_PRINCIPAL_VERSION")
    if not version:
        raise ConfigError(
            "resource_principal: OCI_RESOURCE_PRINCIPAL_VERSION is not set", hint=_hint_where("resource_principal")
        )
    if version != "2.2":
        return get_resource_principals_signer()
    missing = [name for name in ("OCI_RESOURCE_PRINCIPAL_RPST", "OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM") if not find(name)]
    if missing:
        raise ConfigError(
            f"resource_principal: {' and '.join(missing)} not set", hint=_hint_where("resource_principal")
        )
    return EphemeralResourcePrincipalSigner(
        session_token=find("OCI_RESOURCE_PRINCIPAL_RPST"),
        private_key=find("OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM"),
        private_key_passphrase=find("OCI_RESOURCE_PRINCIPAL_PRIVATE_PEM_PASSPHRASE") or None,
        region=find("OCI_RESOURCE_PRINCIPAL_REGION"),
    )


def _build_workload(context: PrincipalContext) -> Any:
    from oci.auth.rpt_path_providers import DefaultServiceAccountTokenProvider, SuppliedServiceAccountTokenProvider
    from oci.auth.signers import OkeWorkloadIdentityResourcePrincipalSigner

    find = context.environment.get
    host = find("KUBERNETES_SERVICE_HOST")
    if not host:
        raise ConfigError(
            "oke_workload_identity: KUBERNETES_SERVICE_HOST is not set", hint=_hint_where("oke_workload_identity")
        )
    supplied = find("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_STRING")
    provider: Any
    if supplied:
        provider = SuppliedServiceAccountTokenProvider(token_string=supplied)
    else:
        provider = DefaultServiceAccountTokenProvider()
        path = find("OCI_KUBERNETES_SERVICE_ACCOUNT_TOKEN_PATH")
        if path:
            provider.override_sa_token_path(path)
    return OkeWorkloadIdentityResourcePrincipalSigner(
        sa_token_provider=provider,
        sa_cert_path=find("OCI_KUBERNETES_SERVICE_ACCOUNT_CERT_PATH") or _DEFAULT_CLUSTER_CA,
        service_host=host,
        service_port=_TOKEN_SERVICE_PORT,
        region=find("OCI_RESOURCE_PRINCIPAL_REGION"),
        retry_strategy=_make_retries(),
    )


def _make_federation_options(context: PrincipalContext) -> dict[str, Any]:
    from oci.circuit_breaker import NoCircuitBreakerStrategy

    options = {
        "retry_strategy": _make_retries(),
        "federation_client_retry_strategy": _make_retries(),
        "federation_client_circuit_breaker_strategy": NoCircuitBreakerStrategy(),
    }
    endpoint = context.environment.get("OCI_CLI_FEDERATION_ENDPOINT", "").strip()
    if endpoint and not is_safe_url(endpoint):
        raise ConfigError(
            f"OCI_CLI_FEDERATION_ENDPOINT is {endpoint!r}, which is not an https URL",
            hint="write it as https://auth.<region>.oraclecloud.com/v1/x509, or unset it",
        )
    if endpoint:
        options["federation_endpoint"] = endpoint
    if context.ca_bundle is not None:
        options["federation_client_cert_bundle_verify"] = str(context.ca_bundle)
    return options


def _make_retries() -> Any:
    """Return a retry strategy for a person who waits; the SDK's own takes eight tries over minutes."""
    from oci.retry import RetryStrategyBuilder

    return RetryStrategyBuilder(
        max_attempts=3,
        total_elapsed_time_seconds=8,
        service_error_retry_config={-1: [], 429: []},
        retry_max_wait_between_calls_seconds=2,
    ).get_retry_strategy()


def _check_metadata_service(environment: Mapping[str, str], kind: AuthKind) -> None:
    """Fail immediately if no metadata service listens; the SDK would try for minutes."""
    base = environment.get("OCI_METADATA_BASE_URL", "").strip()
    try:
        parts = urlsplit(base)
        addresses = [(parts.hostname or "", parts.port or 80)] if base else [(host, 80) for host in _METADATA_HOSTS]
    except ValueError as error:
        raise ConfigError(f"OCI_METADATA_BASE_URL is {base!r}, which is not a URL", hint=_hint_where(kind)) from error
    for address in addresses:
        try:
            socket.create_connection(address, _METADATA_SECONDS).close()
        except (OSError, UnicodeError):
            continue
        return
    raise ConfigError(
        f"{kind}: the metadata service of an instance does not respond at {addresses[0][0]}", hint=_hint_where(kind)
    )


def _call_in_time(load: Callable[[], Any], kind: AuthKind) -> Any:
    """Call `load` in its own thread with a time limit: some of the SDK's own limits are a minute."""
    results: list[Any] = []
    failures: list[OciAuditError] = []

    def run() -> None:
        try:
            results.append(load())
        except OciAuditError as error:
            failures.append(error)

    thread = threading.Thread(target=run, name="ociaudit-sign-in", daemon=True)
    thread.start()
    thread.join(_SIGN_IN_SECONDS)
    if failures:
        raise failures[0]
    if not results:
        raise ServiceUnreachable(
            f"{kind}: no token was issued within {_SIGN_IN_SECONDS:.0f} s", hint=_hint_network("the token service")
        )
    return results[0]


def _translate_errors(kind: AuthKind, build: Callable[[], Any]) -> Any:
    from jwt.exceptions import InvalidTokenError
    from oci._vendor.requests.exceptions import RequestException
    from oci.auth.certificate_retriever import InvalidCertificateFromInstanceMetadataError
    from oci.exceptions import InvalidPrivateKey, MissingPrivateKeyPassphrase, ServiceError

    try:
        return build()
    except OciAuditError:
        raise
    except InvalidTokenError as error:
        raise ConfigError(f"{kind}: the token cannot be parsed", hint=_hint_where(kind)) from error
    except (InvalidPrivateKey, MissingPrivateKeyPassphrase) as error:
        raise ConfigError(f"{kind}: the private key cannot be read: {error}", hint=_hint_where(kind)) from error
    except InvalidCertificateFromInstanceMetadataError as error:
        raise ConfigError(f"{kind}: the metadata service returned no certificate", hint=_hint_where(kind)) from error
    except ServiceError as error:
        raise _translate_service_error(kind, error) from error
    except RequestException as error:
        host = urlsplit(str(getattr(error.request, "url", ""))).netloc or "the token service"
        raise ServiceUnreachable(
            f"{kind}: {host} issued no token: {_name_error(error)}", hint=_hint_network(host)
        ) from error
    except OSError as error:
        what = f"{error.filename} cannot be read: {error.strerror}" if error.filename else str(error)
        raise ConfigError(f"{kind}: {what}", hint=_hint_where(kind)) from error
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
        raise ConfigError(
            f"{kind}: the SDK cannot sign in here: {_name_error(error)}", hint=_hint_where(kind)
        ) from error


def _translate_service_error(kind: AuthKind, error: Any) -> OciAuditError:
    if error.code is None:  # the metadata service's errors have no code
        return ConfigError(
            f"{kind}: the metadata service answered {error.status}, so it is not that of Oracle Cloud",
            hint=_hint_where(kind),
        )
    request_id = f" (opc-request-id {error.request_id})" if error.request_id else ""
    return SignInRejected(
        f"{kind}: Oracle issued no token: {error.status} {str(error.code)[:80]}{request_id}",
        hint="check the clock; "
        + (
            "workload identity needs an enhanced cluster"
            if kind == "oke_workload_identity"
            else "the instance may be new or terminated: try again in a minute"
        ),
    )


def _name_error(error: Exception) -> str:
    """Return the type of the error only, because the SDK's messages may contain keys and tokens."""
    return "the token to present has expired" if "has expired" in str(error) else type(error).__name__


def _hint_where(kind: AuthKind) -> str:
    return f"it works only {_WHERE_IT_WORKS[kind]}; elsewhere use --auth api_key or --auth security_token"


def _hint_network(host: str) -> str:
    return (
        f"check that {host} can be reached from here (a service gateway or route, HTTPS_PROXY and NO_PROXY); "
        "if a proxy intercepts TLS, name its CA with --ca-bundle"
    )
