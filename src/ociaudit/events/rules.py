"""What an event has to be called to count as something: patterns of names, and an outcome if that matters.

Owns: the form of such rules, and how they are matched. Must not: know which rules there are.

Invariants
- Case never matters. `com.oraclecloud.` in front and `.begin` or `.end` behind are not looked at.
- A pattern with a service (`virtualNetwork.CreateVcn`) means that service; one without (`CreateVcn`) any.
- A pattern that begins with `sso.` or `admin.` is a name that an identity domain gives, which stands in
  `data.additionalDetails.eventId`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ociaudit.events.outcome import Outcome

_PREFIX = "com.oraclecloud."
_STAGES = (".begin", ".end")
_DOMAIN_PREFIXES = ("sso.", "admin.")


@dataclass(frozen=True, slots=True)
class Rule:
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


def list_patterns(rules: Iterable[Rule]) -> tuple[str, ...]:
    """Return every pattern of some rules, each once, in their order."""
    return tuple(dict.fromkeys(pattern for rule in rules for pattern in rule.patterns))


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
