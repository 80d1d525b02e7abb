"""Authentication: which kind of sign-in is used, and the credentials it results in.

Invariants
- An argument beats a variable, and a variable beats the profile.
- No part of a key, pass phrase or token appears in a message or a repr.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

from ociaudit.client.config_file import (
    REGION_VARIABLE,
    TENANCY_VARIABLE,
    Profile,
    clean_variables,
    read_profile,
    resolve_region,
)
from ociaudit.client.instance_principals import PrincipalContext, load_principal
from ociaudit.client.network import apply_region_settings
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
from ociaudit.errors import ConfigError, UsageError

_NO_VARIABLES: Mapping[str, str] = MappingProxyType({})
_AUTH_VARIABLE = "OCI_CLI_AUTH"
_KIND_ALIASES: Mapping[str, AuthKind] = {
    "instance_obo_user": "delegation_token",
    "delegation_token_with_instance_principal": "delegation_token",
}
_KINDS_WITHOUT_PROFILE = frozenset[AuthKind]({"instance_principal", "resource_principal", "oke_workload_identity"})
_OTHER_REGION = "a region that the tenancy is not subscribed to gives the same error"


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
