"""Presets: named filters for common questions about audit events, and the event names that each matches.

Sources: event types recorded in public repositories, the operations of Oracle's SDK (an event is named after its
operation), Oracle's list of identity-domain events, and the event types that public checks of the CIS OCI Foundations
Benchmark look for. Matching ignores case, so the names of the Events service match too.

Invariant: a preset for changes never matches a read-only operation.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ociaudit.errors import UsageError
from ociaudit.events.conditions import NameRule, suggest


@dataclass(frozen=True, slots=True)
class PresetPart:
    """A part of a preset: its title and its rule."""

    title: str
    name_rule: NameRule


@dataclass(frozen=True, slots=True)
class Preset:
    """A named filter; an event passes if the rule of any part matches."""

    name: str
    title: str
    parts: tuple[PresetPart, ...]

    @property
    def rules(self) -> tuple[NameRule, ...]:
        """Return the rules of all parts."""
        return tuple(part.name_rule for part in self.parts)


_IAM = "identityControlPlane"
_SIGN_INS = ("IdentitySignOn.*", "sso.session.create.*", "sso.authentication.*")


def _part(title: str, *patterns: str) -> PresetPart:
    return PresetPart(title, NameRule(patterns))


def _iam(*names: str) -> tuple[str, ...]:
    return tuple(f"{_IAM}.{name}" for name in names)


def _edit(service: str, nouns: str, verbs: str = "Create Update Delete") -> tuple[str, ...]:
    """Return the operation names of every verb with every noun; without a service, for any service."""
    prefix = f"{service}." if service else ""
    return tuple(f"{prefix}{verb}{noun}" for noun in nouns.split() for verb in verbs.split())


def _change(nouns: str) -> tuple[str, ...]:
    """Return the names of the operations that change network resources, in any service."""
    moved = tuple(f"Change{noun}Compartment" for noun in nouns.split())
    return (*_edit("", nouns), *moved)


_POLICIES = _edit(_IAM, "Policy")
_NSG_RULES = _edit("", "NetworkSecurityGroupSecurityRules", "Add Update Remove")
_GATEWAYS = (
    *_change("Drg InternetGateway LocalPeeringGateway NatGateway ServiceGateway"),
    *_edit("", "DrgAttachment"),
    *("UpgradeDrg", "ConnectLocalPeeringGateways", "AttachServiceId", "DetachServiceId"),
)

PRESETS = (
    Preset(
        "iam",
        "changes to identities and permissions: users, groups, policies, credentials, compartments, domains",
        (
            _part(
                "identity service",
                *_iam("Create*", "Update*", "Delete*", "Add*", "Remove*", "Upload*", "Generate*", "Reset*"),
                *_iam("Activate*", "Deactivate*", "Change*", "Move*", "Recover*", "Bulk*", "Import*", "Enable*"),
                *_edit("Compartments", "*", "Create Update Delete Move Recover"),
                *("IdentityProvisioning.Create*", "IdentityProvisioning.Update*", "IdentityProvisioning.Delete*"),
                *("IdentitySignOn.ChangePassword", "IdentitySignOn.ResetPasswordAndAuthenticate"),
            ),
            _part(
                "identity domains",
                *("admin.user.*", "admin.me.*", "admin.group.*", "admin.dynamicresourcegroup.*", "admin.grant.*"),
                *("admin.app.*", "admin.approle.*", "admin.policy.*", "admin.rule.*", "admin.passwordpolicy.*"),
                *("admin.identityprovider.*", "admin.apikey.*", "admin.authtoken.*", "admin.customersecretkey.*"),
                *("admin.smtpcredential.*", "admin.oauth2clientcredential.*", "admin.authenticationfactor*"),
                "sso.bypasscode.*",
            ),
        ),
    ),
    Preset("sign-ins", "sign-ins to the console, successful or not", (_part("sign-ins", *_SIGN_INS),)),
    Preset(
        "sign-in-failures",
        "sign-ins that failed",
        (PresetPart("sign-ins with outcome failure", NameRule(_SIGN_INS, "failure")),),
    ),
    Preset(
        "mfa",
        "multi-factor authentication: devices, bypass codes, settings and their use",
        (
            _part("identity service", *_edit("", "MfaTotpDevice", "Create Activate Update Delete"), "GenerateTotpSeed"),
            _part("sign-in", "IdentitySignOn.VerifyMfaToken"),
            _part(
                "identity domains",
                *("sso.auth.factor.*", "sso.bypasscode.*", "admin.me.mfa.*", "admin.user.mfa.*"),
                "admin.authenticationfactor*",
            ),
        ),
    ),
    Preset(
        "api-keys",
        "API keys uploaded and deleted",
        (
            _part("identity service", *_edit(_IAM, "ApiKey", "Upload Delete")),
            _part("identity domains", "admin.apikey.*"),
        ),
    ),
    Preset(
        "auth-tokens",
        "other user credentials: auth tokens, secret keys, SMTP, OAuth and database credentials",
        (
            _part(
                "identity service",
                *_edit(_IAM, "AuthToken SwiftPassword CustomerSecretKey SmtpCredential OAuthClientCredential"),
                *_edit(_IAM, "DbCredential", "Create Delete"),
            ),
            _part(
                "identity domains",
                *("admin.authtoken.*", "admin.customersecretkey.*", "admin.smtpcredential.*"),
                "admin.oauth2clientcredential.*",
            ),
        ),
    ),
    Preset(
        "passwords",
        "passwords set, changed and reset, and password policies",
        (
            _part(
                "identity service",
                *_iam("CreateOrResetPassword", "CreateOrResetUIPassword"),
                "IdentityProvisioning.UpdateUserUIPassword",
            ),
            _part("sign-in", "IdentitySignOn.ChangePassword", "IdentitySignOn.ResetPasswordAndAuthenticate"),
            _part("identity domains", "admin.user.password.*", "admin.me.password.*", "admin.passwordpolicy.*"),
        ),
    ),
    Preset(
        "sessions",
        "console sessions started, changed and ended",
        (_part("identity domains", "sso.session.create.*", "sso.session.modify.*", "sso.session.delete.*"),),
    ),
    Preset(
        "user-locking",
        "users locked, unlocked, activated and deactivated",
        (
            _part("identity service", *_iam("UpdateUserState", "ActivateUser", "DeactivateUser")),
            _part(
                "identity domains",
                *("admin.me.locked.*", "admin.me.unlocked.*", "admin.me.mfa.locked.*", "admin.user.locked.*"),
                *("admin.user.unlocked.*", "admin.user.activated.*", "admin.user.deactivated.*"),
            ),
        ),
    ),
    Preset(
        "policy-changes",
        "changes to IAM, sign-on and authentication policies",
        (
            _part("identity service", *_POLICIES, *_iam("UpdateAuthenticationPolicy")),
            _part("identity domains", "admin.policy.*", "admin.rule.*", "admin.passwordpolicy.*"),
        ),
    ),
    Preset(
        "network-changes",
        "changes to networks, subnets, routes, security rules, gateways, public addresses and external connections",
        (
            _part(
                "networks and routes",
                *_change("Vcn Subnet Vlan RouteTable DhcpOptions"),
                *_edit("", "VcnCidr", "Add Modify Remove"),
                *_edit("", "DrgRouteTable DrgRouteDistribution"),
                *_edit("", "DrgRouteRules DrgRouteDistributionStatements", "Add Update Remove"),
            ),
            _part("security lists and groups", *_change("SecurityList NetworkSecurityGroup"), *_NSG_RULES),
            _part("gateways", *_GATEWAYS),
            _part("public addresses", *_change("PublicIp PublicIpPool")),
            _part(
                "external connections",
                *_change("Cpe IPSecConnection VirtualCircuit CrossConnect RemotePeeringConnection"),
                *("ConnectRemotePeeringConnections", "UpdateIPSecConnectionTunnel*"),
            ),
        ),
    ),
    Preset(
        "deletions",
        "everything deleted, terminated or scheduled for deletion, in any service",
        (
            _part(
                "any service",
                *("Delete*", "Terminate*", "Purge*", "BulkDelete*", "CascadeDelete*", "Schedule*Deletion"),
            ),
            _part("identity domains", "admin.*.delete.*", "sso.bypasscode.delete.*"),
        ),
    ),
    Preset(
        "cis",
        "events that the CIS OCI Foundations Benchmark requires to be monitored: 4.3 to 4.12, 4.15 and 4.18",
        (
            _part("4.3 identity providers", *_edit(_IAM, "IdentityProvider"), "admin.identityprovider.*"),
            _part("4.4 identity provider group mappings", *_edit(_IAM, "IdpGroupMapping")),
            _part(
                "4.5 groups",
                *_edit(_IAM, "Group"),
                *_iam("AddUserToGroup", "RemoveUserFromGroup"),
                "admin.group.*",
            ),
            _part("4.6 policies", *_POLICIES),
            _part(
                "4.7 users",
                *_edit(_IAM, "User"),
                *_iam("UpdateUserCapabilities", "UpdateUserState"),
                *("admin.user.create.*", "admin.user.update.*", "admin.user.delete.*"),
                *("admin.user.activated.*", "admin.user.deactivated.*"),
            ),
            _part("4.8 networks", *_change("Vcn")),
            _part("4.9 route tables", *_change("RouteTable")),
            _part("4.10 security lists", *_change("SecurityList")),
            _part("4.11 network security groups", *_change("NetworkSecurityGroup"), *_NSG_RULES),
            _part("4.12 network gateways", *_GATEWAYS),
            _part(
                "4.15 Cloud Guard problems",
                *("CloudGuard.ProblemDetected", "CloudGuard.ProblemDismissed", "CloudGuard.ProblemRemediated"),
            ),
            _part("4.18 sign-ins of local users", "IdentitySignOn.InteractiveLogin"),
        ),
    ),
)
"""Every preset, in display order."""

PRESET_NAMES = tuple(preset.name for preset in PRESETS)


def find_preset(name: str) -> Preset:
    """Return a preset by its name, ignoring case.

    Raises:
        UsageError: no preset has this name; the message suggests similar names.
    """
    folded = name.strip().casefold()
    for preset in PRESETS:
        if preset.name == folded:
            return preset
    raise UsageError(
        f"{name!r} is not a preset{suggest(name, PRESET_NAMES)}",
        hint=f"`oci-audit presets` lists them: {', '.join(PRESET_NAMES)}",
    )


def list_preset_rules(names: Iterable[str]) -> tuple[NameRule, ...]:
    """Return the rules of the named presets.

    Raises:
        UsageError: a name is not that of a preset.
    """
    return tuple(name_rule for name in names for name_rule in find_preset(name).rules)
