"""Event names: the patterns that match them, and the aliases for names that Audit does not record.

An alias is an event name that documentation or users mention (`LoginFailure`). A filter that names it matches the
events that Audit records instead. Source: Oracle's documentation and recorded events.

Invariants
- Matching ignores case, the prefix `com.oraclecloud.` and the suffixes `.begin` and `.end`.
- A pattern with a service (`virtualNetwork.CreateVcn`) matches that service; one without (`CreateVcn`) any service.
- A pattern that begins with `sso.` or `admin.` is an identity domain's name for an event, which is recorded in
  `data.additionalDetails.eventId`.
- Every value of the alias table is a part of real event types, in their true case, or an identity domain's name.
- An alias for a success or a failure matches only the recorded events with that outcome.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ociaudit.events.fields import Outcome

RECORDED_AS = MappingProxyType(
    {
        "CreateApiKey": ("identityControlPlane.UploadApiKey",),
        "UpdateUserPassword": (
            "identityControlPlane.CreateOrResetPassword",
            "IdentityProvisioning.UpdateUserUIPassword",
            "IdentitySignOn.ChangePassword",
            "IdentitySignOn.ResetPasswordAndAuthenticate",
            "admin.user.password.reset.success",
            "admin.me.password.change.success",
        ),
        "UpdateUserMfaStatus": (
            "CreateMfaTotpDevice",
            "ActivateMfaTotpDevice",
            "DeleteMfaTotpDevice",
            "GenerateTotpSeed",
            "sso.auth.factor.initiated",
        ),
        "LoginSuccess": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.success",
        ),
        "LoginFailure": (
            "IdentitySignOn.InteractiveLogin",
            "IdentitySignOn.FederatedInteractiveLogin",
            "IdentitySignOn.VerifyMfaToken",
            "sso.session.create.failure",
            "sso.authentication.failure",
        ),
        "SessionStart": ("sso.session.create.success", "sso.session.modify.success"),
        "SessionTimeout": ("sso.session.delete.success",),
        "LockUser": ("identityControlPlane.UpdateUserState", "admin.me.locked.success"),
    }
)
"""Alias -> the names that Audit records."""

_ALIAS_OUTCOMES: Mapping[str, Outcome] = MappingProxyType({"LoginSuccess": "success", "LoginFailure": "failure"})
_ALIAS_BY_FOLDED_NAME = MappingProxyType({alias.casefold(): alias for alias in RECORDED_AS})
_PLAIN_NAMES = re.compile(r"\w+(\|\w+)*")
_PREFIX = "com.oraclecloud."
_STAGES = (".begin", ".end")
_DOMAIN_PREFIXES = ("sso.", "admin.")


@dataclass(frozen=True, slots=True)
class NameRule:
    """Any of these name patterns, in which `*` matches any text; with an `outcome`, only events with that outcome."""

    patterns: tuple[str, ...]
    outcome: Outcome | None = None

    @property
    def is_about_domains(self) -> bool:
        """Return whether a pattern can match an identity domain's name for an event."""
        return any(map(_is_domain_name, self.patterns))


class NameMatcher:
    """Matches event names against patterns."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns."""
        self._fullmatch = re.compile("|".join(map(_translate, patterns)) or r"(?!)").fullmatch

    def __call__(self, name: str | None) -> bool:
        """Return whether a pattern matches this event type or identity domain's name."""
        return name is not None and self._fullmatch(_strip(name)) is not None


def find_recorded_names(pattern: str) -> tuple[str, tuple[str, ...]] | None:
    """Return (alias, recorded names) of the first alias that occurs in `pattern`, or None."""
    folded = pattern.casefold()
    for alias, recorded in RECORDED_AS.items():
        if alias.casefold() in folded:
            return alias, recorded
    return None


def find_aliases(pattern: str) -> tuple[str, ...]:
    """Return the aliases among the alternatives of a pattern of plain names: `LoginFailure`, `Compute|LoginFailure`."""
    if not _PLAIN_NAMES.fullmatch(pattern):
        return ()
    found = (_ALIAS_BY_FOLDED_NAME.get(name.casefold()) for name in pattern.split("|"))
    return tuple(name for name in found if name)


def list_name_rules(alias: str) -> tuple[NameRule, ...]:
    """Return the rules of an alias. An identity domain's names state the outcome, so their rule does not check it."""
    recorded = RECORDED_AS[alias]
    types = tuple(name for name in recorded if not _is_domain_name(name))
    names = tuple(name for name in recorded if _is_domain_name(name))
    rules = (NameRule(types, _ALIAS_OUTCOMES.get(alias)), NameRule(names))
    return tuple(name_rule for name_rule in rules if name_rule.patterns)


def describe_alias(alias: str) -> str:
    """Return a notice that says which recorded names an alias matches."""
    parts = [
        ", ".join(name_rule.patterns) + (f" with outcome {name_rule.outcome}" if name_rule.outcome else "")
        for name_rule in list_name_rules(alias)
    ]
    return f"Audit does not record {alias}; the filter matches {'; '.join(parts)} instead"


def _is_domain_name(name: str) -> bool:
    return name.casefold().startswith(_DOMAIN_PREFIXES)


def _strip(name: str) -> str:
    folded = name.casefold().removeprefix(_PREFIX)
    for stage in _STAGES:
        folded = folded.removesuffix(stage)
    return folded


def _translate(pattern: str) -> str:
    folded = _strip(pattern)
    if "." not in folded:
        folded = f"*.{folded}"
    return ".*".join(map(re.escape, folded.split("*"))).join(("(?s:", ")"))
