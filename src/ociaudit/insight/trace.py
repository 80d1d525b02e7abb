"""What one principal did from one address, as far as it may matter to somebody who looks for trouble.

Owns: what is remembered of such a pair while the events stream by. Must not: judge.

Invariants
- A trace is bounded: long lists are cut, and what was left out is counted.
- Failed sign-ins belong to the success that follows within an hour, in the order in which events are read.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, NamedTuple

from ociaudit.events.facts import Facts
from ociaudit.events.fields import NANOSECONDS, replace_surrogates
from ociaudit.events.outcome import Outcome
from ociaudit.insight.meaning import Kind

HOUR = 3600 * NANOSECONDS
_STEPS_KEPT = 24
_NAMES_KEPT = 40
_TOOLS_KEPT = 8
_NOTE_CHARACTERS = 200


class Seen(NamedTuple):
    """One event as it is followed; `sources` has at least one address, which may be an empty text."""

    raw: bytes
    facts: Facts
    person: str
    sources: tuple[str, ...]
    instant: int
    outcome: Outcome


class Step(NamedTuple):
    """Something that was done: `note` is the fingerprint of a new key or the statements of a policy."""

    instant: int
    kind: Kind | None
    name: str
    event_id: str | None
    resource_id: str | None
    note: str


class Guess(NamedTuple):
    """Failed sign-ins, and the success that followed."""

    failures: int
    first: int
    success: int


class Trace:
    """One principal from one address."""

    __slots__ = (
        "after", "events", "failed_sign_ins", "failures", "first", "guess", "last", "principal_id", "sign_ins", "steps",
        "steps_left_out", "streak", "streak_first", "streak_last", "tools", "uses",
    )  # fmt: skip

    def __init__(self, instant: int) -> None:
        """Begin with the first event."""
        self.first = self.last = instant
        self.events = 0
        self.failures = 0
        self.principal_id: str | None = None
        self.sign_ins = self.failed_sign_ins = 0
        self.streak = self.streak_first = self.streak_last = 0
        self.guess: Guess | None = None
        self.steps: list[Step] = []
        self.steps_left_out = 0
        self.uses: Counter[str] = Counter()
        """Name -> how often it was called since the first step or guess."""
        self.tools: dict[str, int] = {}
        """User agent -> when it was first used since the first step or guess."""
        self.after = 0
        """When the first call since then was made, 0 if none was."""

    @property
    def weight(self) -> int:
        """Tell how little this may be forgotten: 2 after something special, 1 unless there is nothing but failure."""
        return 2 if self.steps or self.guess else int(self.failures < self.events)

    def note_event(self, seen: Seen) -> None:
        """Count an event."""
        instant = seen.instant
        self.events += 1
        self.last = max(self.last, instant)
        if instant < self.first or not self.first:
            self.first = instant or self.first
        if seen.outcome == "failure":
            self.failures += 1
        if self.principal_id is None:
            self.principal_id = seen.facts.identity.principal_id

    def note_sign_in(self, instant: int, outcome: Outcome) -> None:
        """Take a sign-in into account."""
        if outcome == "failure":
            self.failed_sign_ins += 1
            if not self.streak or instant - self.streak_last > HOUR:
                self.streak, self.streak_first = 0, instant
            self.streak += 1
            self.streak_last = instant
        elif outcome == "success":
            self.sign_ins += 1
            is_longest = self.guess is None or self.streak > self.guess.failures
            if self.streak and instant - self.streak_last <= HOUR and is_longest:
                self.guess = Guess(self.streak, self.streak_first, instant)
            self.streak = 0

    def note_step(self, step: Step) -> None:
        """Remember something that was done."""
        if len(self.steps) < _STEPS_KEPT:
            self.steps.append(step)
        else:
            self.steps_left_out += 1

    def note_use(self, seen: Seen) -> None:
        """Remember an ordinary call of somebody who has done something special."""
        if not self.after:
            self.after = seen.instant
        name, tool = seen.facts.details.event_name or "", seen.facts.identity.user_agent
        if name in self.uses or len(self.uses) < _NAMES_KEPT:
            self.uses[name] += 1
        if tool and tool not in self.tools and len(self.tools) < _TOOLS_KEPT:
            self.tools[tool] = seen.instant


def make_step(seen: Seen, kind: Kind | None) -> Step:
    """Make a step of an event; its JSON is read whole where it may name a key or a policy's statements."""
    facts = seen.facts
    details = facts.details
    note = _find_note(seen.raw) if kind in {"credential", "rights"} else ""
    name = details.event_name or facts.event_type or ""
    return Step(seen.instant, kind, name, facts.event_id, details.resource_id, note)


def _find_note(raw: bytes) -> str:
    try:
        data = json.loads(raw).get("data")
    except (ValueError, RecursionError):
        return ""
    for path in (("response", "payload"), ("stateChange", "current"), ("request", "payload")):
        place: Any = data
        for name in path:
            place = place.get(name) if isinstance(place, dict) else None
        if isinstance(place, dict):
            fingerprint, statements = place.get("fingerprint"), place.get("statements")
            if isinstance(fingerprint, str):
                return replace_surrogates(fingerprint[:_NOTE_CHARACTERS])
            if isinstance(statements, list):
                return replace_surrogates("; ".join(map(str, _put_widest_first(statements)))[:_NOTE_CHARACTERS])
    return ""


def _put_widest_first(statements: list[Any]) -> list[Any]:
    """Put first what gives most, so that cutting a long list does not hide it."""
    return sorted(statements, key=lambda one: not is_wide_open(str(one)))


def is_wide_open(statement: str) -> bool:
    """Tell whether a policy's statement gives everything to many: `any-user`, or `manage all-resources in tenancy`."""
    words = " ".join(statement.casefold().split())
    return "any-user to manage" in words or "any-group to manage" in words or "manage all-resources in tenancy" in words
