"""What an event has to be called to count as something: patterns of names, and an outcome if that matters.

Owns: the form of such rules, and how they are matched. Must not: know which rules there are.

Invariants
- Case never matters. `com.oraclecloud.` in front and `.begin` or `.end` behind are not looked at.
- A pattern with a service (`virtualNetwork.CreateVcn`) means that service; one without (`CreateVcn`) any.
- A pattern that begins with `sso.` or `admin.` is a name that an identity domain gives, which stands in
  `data.additionalDetails.eventId`.

The event names people ask for, and what Audit really records.

Owns: that table, and what such a name means in a filter. Source: Oracle's documentation and recorded events.

Invariants
- Every value of the table is a fragment of real event types, in their true casing, or an identity domain's
  own name of an event.
- A name that stands for a success or a failure means the recorded events with that outcome.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from ociaudit.events.fields import Outcome

_PREFIX = "com.oraclecloud."
_STAGES = (".begin", ".end")
_DOMAIN_PREFIXES = ("sso.", "admin.")


@dataclass(frozen=True, slots=True)
class NameRule:
    """Any of these names; with an `outcome`, only where the event tells of that one. `*` stands for anything."""

    patterns: tuple[str, ...]
    outcome: Outcome | None = None

    @property
    def is_about_domains(self) -> bool:
        """Tell whether an identity domain's own name of an event can meet it."""
        return any(map(is_domain_name, self.patterns))


class NameMatcher:
    """Tells whether a name is one of those that patterns describe."""

    def __init__(self, patterns: Sequence[str]) -> None:
        """Compile the patterns."""
        self._fullmatch = re.compile("|".join(map(_translate, patterns)) or r"(?!)").fullmatch

    def __call__(self, name: str | None) -> bool:
        """Tell whether a pattern describes this event type, or identity domain's name."""
        return name is not None and self._fullmatch(_strip(name)) is not None


def is_domain_name(name: str) -> bool:
    """Tell whether a name or pattern is of the kind that an identity domain gives its events."""
    return name.casefold().startswith(_DOMAIN_PREFIXES)


def list_patterns(rules: Iterable[NameRule]) -> tuple[str, ...]:
    """Return every pattern of some rules, each once, in their order."""
    return tuple(dict.fromkeys(pattern for name_rule in rules for pattern in name_rule.patterns))


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
"""Asked-for name -> what the events are called in Audit."""

_MEANT_OUTCOMES: Mapping[str, Outcome] = MappingProxyType({"LoginSuccess": "success", "LoginFailure": "failure"})
_BY_FOLDED_NAME = MappingProxyType({asked.casefold(): asked for asked in RECORDED_AS})
_PLAIN_NAMES = re.compile(r"\w+(\|\w+)*")


def find_recorded_names(pattern: str) -> tuple[str, tuple[str, ...]] | None:
    """Return (asked-for name, recorded names) when `pattern` mentions a name that Audit does not record."""
    folded = pattern.casefold()
    for asked, recorded in RECORDED_AS.items():
        if asked.casefold() in folded:
            return asked, recorded
    return None


def find_asked_names(pattern: str) -> tuple[str, ...]:
    """Return the names of the table that an expression is made of: `LoginFailure`, or `Compute|LoginFailure`."""
    if not _PLAIN_NAMES.fullmatch(pattern):
        return ()
    found = (_BY_FOLDED_NAME.get(name.casefold()) for name in pattern.split("|"))
    return tuple(name for name in found if name)


def list_name_rules(asked: str) -> tuple[NameRule, ...]:
    """Return what a name of the table means; what a domain calls a failure needs no look at the outcome."""
    recorded = RECORDED_AS[asked]
    types = tuple(name for name in recorded if not is_domain_name(name))
    names = tuple(name for name in recorded if is_domain_name(name))
    rules = (NameRule(types, _MEANT_OUTCOMES.get(asked)), NameRule(names))
    return tuple(name_rule for name_rule in rules if name_rule.patterns)


def describe_name_meaning(asked: str) -> str:
    """Say what a name of the table is taken for."""
    outcome = _MEANT_OUTCOMES.get(asked)
    parts = [
        ", ".join(name_rule.patterns) + (f" with outcome {outcome}" if name_rule.outcome else "")
        for name_rule in list_name_rules(asked)
    ]
    return f"Audit records no {asked}; it is taken for {'; '.join(parts)}"
