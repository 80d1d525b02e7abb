"""Authentication: which kind of sign-in is used, and the credentials it results in.

API keys and sessions come from a profile. What runs inside Oracle Cloud has a principal of its own: instances,
resources, pods, and users for whom an instance acts. `load_principal` builds the SDK's signers for these. Variables
come as an argument, with two exceptions inside the SDK: it reads `OCI_METADATA_BASE_URL`, and everything for resource
principals of other versions than 2.2, from the process's environment.

Invariants
- An argument beats a variable, and a variable beats the profile.
- A signer that cannot be built is an error within seconds, with a hint.
- The SDK's exceptions are translated here, and no part of a certificate, key, pass phrase or token appears in a message
  or a repr.
"""

from __future__ import annotations

import shlex
import socket
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from ociaudit.client.config_file import (
    REGION_VARIABLE,
    TENANCY_VARIABLE,
    Profile,
    clean_variables,
    read_profile,
    resolve_region,
)
from ociaudit.client.network import apply_region_settings, is_safe_url
from ociaudit.client.signer import (
    AUTH_KINDS,
    AuthKind,
    Credentials,
    LoadedSigner,
    RefreshingSigner,
    load_api_key,
    load_session,
    read_claims,
    read_token,
)
from ociaudit.errors import ConfigError, OciAuditError, ServiceUnreachable, SignInRejected, UsageError

_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_AUTH_VARIABLE = "OCI_CLI_AUTH"
_KIND_ALIASES: Mapping[str, AuthKind] = {
    "instance_obo_user": "delegation_token",
    "delegation_token_with_instance_principal": "delegation_token",
}
_KINDS_WITHOUT_PROFILE = frozenset[AuthKind]({"instance_principal", "resource_principal", "oke_workload_identity"})
_OTHER_REGION = "a region that the tenancy is not subscribed to gives the same error"
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
class SignIn:
    """The options of a sign-in, and whether the `OCI_CLI_*` variables of Oracle's CLI apply."""

    profile: str | None
    config_file: str | None
    auth: str | None
    uses_cli_variables: bool

    def load(self, environment: Mapping[str, str], ca_bundle: Path | None) -> Credentials:
        """Sign in; raises the errors of `load_credentials`."""
        if not self.uses_cli_variables:
            environment = {name: text for name, text in environment.items() if not name.startswith("OCI_CLI_")}
        return load_credentials(
            self.config_file, self.profile, auth=self.auth, environment=environment, ca_bundle=ca_bundle
        )


def load_credentials(
    config_file: str | None = None,
    profile: str | None = None,
    *,
    auth: str | None = None,
    environment: Mapping[str, str] = _NO_VARIABLES,
    ca_bundle: Path | None = None,
) -> Credentials:
    """Sign in according to the arguments, the variables in `environment`, and the profile, in this order.

    `ca_bundle` holds the CAs for the requests that fetch a token; None means the system's.

    Raises:
        UsageError: `auth` is not a kind of sign-in.
        ConfigError: the file, the profile, a field or the key is missing, malformed or unreadable, or the kind of
            sign-in cannot work here.
        SignInRejected, ServiceUnreachable: no token was issued.
    """
    apply_region_settings(environment)
    environment = clean_variables(environment)
    kind = _choose_kind(auth, environment)
    context = PrincipalContext(environment, ca_bundle)
    if kind in _KINDS_WITHOUT_PROFILE:
        return _load_principal(kind, context)
    found = read_profile(config_file, profile, environment)
    kind = kind or _read_kind(found)
    if kind in _KINDS_WITHOUT_PROFILE:
        return _load_principal(kind, context)
    if kind == "delegation_token":
        return _load_delegation(found, context)
    return _load_session(found) if kind == "security_token" else _load_api_key(found)


def _choose_kind(auth: str | None, environment: Mapping[str, str]) -> AuthKind | None:
    if auth is not None:
        if auth not in AUTH_KINDS:
            raise UsageError(f"unknown kind of sign-in: {auth!r}", hint=_list_kinds("--auth"))
        return auth
    text = environment.get(_AUTH_VARIABLE, "")
    return _parse_kind(text, f"{_AUTH_VARIABLE} is {text!r}", _AUTH_VARIABLE) if text else None


def _read_kind(profile: Profile) -> AuthKind:
    """Return the kind of sign-in that a profile is made for."""
    text = profile.fields.get("authentication_type")
    if text:
        kind = _parse_kind(text, f"{profile.where}: authentication_type is {text!r}", "authentication_type")
        has_delegation = kind == "instance_principal" and profile.fields.get("delegation_token_file")
        return "delegation_token" if has_delegation else kind
    return "security_token" if profile.fields.get("security_token_file") else "api_key"


def _parse_kind(text: str, what: str, where: str) -> AuthKind:
    kind = _KIND_ALIASES.get(text, text)
    if kind not in AUTH_KINDS:
        raise ConfigError(f"{what}, which is not a known kind of sign-in", hint=_list_kinds(where))
    return kind


def _list_kinds(where: str) -> str:
    return f"{where} is one of {', '.join(AUTH_KINDS)}"


def _load_api_key(profile: Profile) -> Credentials:
    signer = load_api_key(profile)
    user, fingerprint = profile.fields["user"], profile.fields["fingerprint"]
    return Credentials(
        tenancy=profile.fields["tenancy"],
        region=profile.resolve_region(),
        principal=user,
        fingerprint=fingerprint,
        profile=profile.name,
        kind="api_key",
        _signer=signer,
        rejection_hint=f"check that user {user} has an API key with fingerprint {fingerprint}, "
        f"and that key_file of profile {profile.name} is its private key; {_OTHER_REGION}",
    )


def _load_session(profile: Profile) -> Credentials:
    hint = f"start a new session with: {_format_session_command(profile)}"

    def load() -> LoadedSigner:
        return load_session(profile, hint)

    first = load()
    return Credentials(
        tenancy=profile.fields["tenancy"],
        region=profile.resolve_region(),
        principal=first.claims.principal or profile.fields.get("user") or "session token",
        fingerprint=None,
        profile=profile.name,
        kind="security_token",
        _signer=RefreshingSigner(first, load),
        rejection_hint=f"{hint}; then run the same command again (before a session expires, "
        f"`oci session refresh --profile {shlex.quote(profile.name)}` extends it, also for a run in progress)",
    )


def _format_session_command(profile: Profile) -> str:
    """Return the command of Oracle's CLI that starts a new session for a profile."""
    words = ["oci", "session", "authenticate", "--profile-name", profile.name]
    if profile.fields.get("region"):
        words += ["--region", profile.fields["region"]]
    if profile.location is not None:
        words += ["--config-location", profile.location]
    return shlex.join(words)


def _load_delegation(profile: Profile, context: PrincipalContext) -> Credentials:
    profile.require("delegation_token_file")
    hint = "have the service that issued the delegation token write a new one (Cloud Shell does so automatically)"

    def read() -> str:
        return read_token(profile, "delegation_token_file", hint)

    user = read_claims(read())
    fields = profile.fields
    region = profile.resolve_region() if fields.get("region") else None
    return _load_principal(
        "delegation_token",
        replace(context, read_delegation_token=read),
        principal=user.principal or fields.get("user"),
        tenancy=fields.get("tenancy") or user.tenancy,
        region=region,
        profile=profile.name,
    )


def _load_principal(
    kind: AuthKind,
    context: PrincipalContext,
    *,
    principal: str | None = None,
    tenancy: str | None = None,
    region: str | None = None,
    profile: str | None = None,
) -> Credentials:
    """Sign in as a principal of this kind; the arguments beat what its token says."""

    def load() -> LoadedSigner:
        return load_principal(kind, context)

    first = load()
    region = region or context.environment.get(REGION_VARIABLE) or first.region
    tenancy = tenancy or context.environment.get(TENANCY_VARIABLE) or first.tenancy
    if not region or not tenancy:
        missing, variable = ("region", REGION_VARIABLE) if not region else ("tenancy", TENANCY_VARIABLE)
        raise ConfigError(f"{kind}: the {missing} is not known", hint=f"name it with {variable}")
    name = principal or first.claims.principal or kind
    return Credentials(
        tenancy=tenancy,
        region=resolve_region(region, kind),
        principal=name,
        fingerprint=None,
        profile=profile or kind,
        kind=kind,
        _signer=RefreshingSigner(first, load),
        rejection_hint=f"check the clock, and that {name} still exists in tenancy {tenancy}; {_OTHER_REGION}",
    )


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

    def sign(request: Any, *, enforce_content_headers: bool = True) -> None:
        # Not the signer's own call: that of some kinds requests a new token first, and would block the event loop.
        from oci.signer import AbstractBaseSigner

        AbstractBaseSigner.__call__(signer, request, enforce_content_headers=enforce_content_headers)

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
