"""What is worth a look: who guessed a password, and what was done with it afterwards.

Owns: the few patterns, and the steps that tell each as a story. Must not: decide guilt, or print.

Invariants
- Memory is bounded: so many addresses are followed, and of each so many names and changes.
- A story needs its events in the order of their times, as an export has them; in a file of another order some
  are not found.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

from ociaudit.events.facts import Facts
from ociaudit.events.fields import NANOSECONDS
from ociaudit.events.outcome import Outcome

Severity = Literal["high", "medium"]
_LEAST_FAILED_SIGN_INS = 5
_LEAST_REFUSALS = 8
_LEAST_REFUSED_SHARE = 0.5
_MOST_FOLLOWED = 2_000
_MOST_CHANGES = 20
_MOST_NAMES = 40
_MOST_FINDINGS = 12
_MOST_POLICIES = 200
_MOST_PRINCIPALS = 20_000
_AFTERMATH_NANOSECONDS = 24 * 3_600 * NANOSECONDS
_WIDE_GRANT = ("any-user", "manage all-resources in tenancy")
_NAMES_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Step:
    """A part of a story, from `first` to `last` (instants); `tone` is how bad it looks."""

    first: int
    last: int
    text: str
    detail: str
    tone: Literal["bad", "warn", "calm"]


@dataclass(frozen=True, slots=True)
class Finding:
    """Something worth a look; `search` finds its events in the table."""

    severity: Severity
    title: str
    search: str
    steps: tuple[Step, ...]


@dataclass(slots=True)
class _Followed:
    """An address from which a sign-in failed."""

    failed: int = 0
    first_failure: int = 0
    last_failure: int = 0
    signed_in: int | None = None
    victims: Counter[str] = field(default_factory=Counter)
    principal_ids: set[str] = field(default_factory=set)
    changes: list[tuple[int, Facts, str]] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    calls_other: int = 0
    first_call: int = 0
    last_call: int = 0


class IntrusionWatch:
    """Follows what looks like an intrusion while events stream by."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._followed: dict[str, _Followed] = {}
        self._policies: list[tuple[int, Facts, str, str]] = []
        self._changes: list[tuple[int, Facts, str]] = []
        self._refusals: dict[str, list[int]] = {}

    def watch(
        self,
        facts: Facts,
        raw: bytes,
        instant: int,
        addresses: tuple[str, ...],
        outcome: Outcome,
        *,
        is_sign_in: bool,
        is_change: bool,
    ) -> bool:
        """Look at an event, and tell whether it is part of what an intruder seems to do."""
        is_part = False
        if is_sign_in:
            for address in addresses:
                is_part |= self._watch_sign_in(address, facts, instant, outcome)
            return is_part
        if is_change and outcome != "failure":
            is_part = self._watch_change(facts, raw, instant, addresses)
        elif self._followed and not is_change:
            for address in addresses:
                followed = self._followed.get(address)
                if followed is not None and followed.signed_in is not None:
                    _count_call(followed, facts, instant)
                    is_part = True
        name = facts.identity.principal_name
        if name and (name in self._refusals or (outcome == "failure" and len(self._refusals) < _MOST_PRINCIPALS)):
            counts = self._refusals.setdefault(name, [0, 0, instant, instant])
            counts[0] += 1
            counts[1] += outcome == "failure"
            counts[3] = max(counts[3], instant)
        return is_part

    def list_findings(self) -> list[Finding]:
        """Return what was found, the worst first."""
        found = [
            finding
            for address, followed in self._followed.items()
            if (finding := self._tell_guessing(address, followed)) is not None
        ]
        told = {step.first for finding in found for step in finding.steps}
        for instant, facts, address, statement in self._policies:
            if instant not in told:
                found.append(_tell_policy(instant, facts, address, statement))
        for name, (calls, refused, first, last) in self._refusals.items():
            if refused >= _LEAST_REFUSALS and refused >= calls * _LEAST_REFUSED_SHARE:
                found.append(_tell_refusals(name, calls, refused, first, last))
        found.sort(key=lambda finding: (finding.severity != "high", -len(finding.steps), finding.steps[0].first))
        return found[:_MOST_FINDINGS]

    def _watch_sign_in(self, address: str, facts: Facts, instant: int, outcome: Outcome) -> bool:
        followed = self._followed.get(address)
        if outcome == "failure":
            if followed is None:
                if len(self._followed) >= _MOST_FOLLOWED:
                    return False
                followed = self._followed[address] = _Followed(first_failure=instant)
            if followed.signed_in is None:
                followed.failed += 1
                followed.last_failure = max(instant, followed.last_failure)
                followed.victims[_name(facts)] += 1
        elif outcome == "success" and followed is not None and followed.signed_in is None:
            if followed.failed < _LEAST_FAILED_SIGN_INS:
                del self._followed[address]  # somebody mistyped
            else:
                followed.signed_in = instant
                return True
        return False

    def _watch_change(self, facts: Facts, raw: bytes, instant: int, addresses: tuple[str, ...]) -> bool:
        what = ""
        if "policy" in (facts.event_type or "").casefold():
            what = find_wide_grant(raw)
            if what and len(self._policies) < _MOST_POLICIES:
                self._policies.append((instant, facts, ", ".join(addresses), what))
        is_followed = False
        for address in addresses:
            followed = self._followed.get(address)
            if followed is not None and followed.signed_in is not None:
                is_followed = True
                if facts.identity.principal_id:
                    followed.principal_ids.add(facts.identity.principal_id)
                if len(followed.changes) < _MOST_CHANGES:
                    followed.changes.append((instant, facts, what))
        if not is_followed and any(followed.signed_in for followed in self._followed.values()):
            self._changes.append((instant, facts, ", ".join(addresses)))
            del self._changes[:-_MOST_POLICIES]
        return is_followed

    def _tell_guessing(self, address: str, followed: _Followed) -> Finding | None:
        if followed.failed < _LEAST_FAILED_SIGN_INS:
            return None
        victim = followed.victims.most_common(1)[0][0]
        who = victim if len(followed.victims) == 1 else f"{len(followed.victims)} accounts"
        steps = [
            Step(followed.first_failure, followed.last_failure, f"{followed.failed:,} failed sign-ins", who, "bad")
        ]
        if followed.signed_in is None:
            return Finding("medium", f"Password guessing against {who} from {address}", address, tuple(steps))
        steps.append(Step(followed.signed_in, followed.signed_in, "signed in", f"as {victim}", "bad"))
        for instant, facts, what in followed.changes:
            steps.append(Step(instant, instant, facts.details.event_name or "?", what or _target(facts), "bad"))
        if followed.calls:
            steps.append(_tell_calls(followed))
        until = max(step.last for step in steps) + _AFTERMATH_NANOSECONDS
        steps += [
            Step(instant, instant, facts.details.event_name or "?", f"by {_name(facts)} from {where}", "calm")
            for instant, facts, where in self._changes
            if followed.signed_in < instant <= until and facts.details.resource_id in followed.principal_ids
        ][:_MOST_CHANGES]
        steps.sort(key=lambda step: step.first)
        has_key = any(facts.details.event_name == "UploadApiKey" for _, facts, _ in followed.changes)
        rest = ", then added an API key and used it" if has_key and followed.calls else ""
        return Finding("high", f"{address} guessed the password of {victim}{rest}", address, tuple(steps))


def find_wide_grant(raw: bytes) -> str:
    """Return the first statement in an event that grants everything or lets everybody, or nothing."""
    if not any(mark.encode() in raw for mark in _WIDE_GRANT):
        return ""
    try:
        waiting = [json.loads(raw)]
    except (ValueError, RecursionError):
        return ""
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and "allow " in value.casefold() and any(mark in value for mark in _WIDE_GRANT):
            return value.encode("utf-8", "backslashreplace").decode()[:300]
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return ""


def _count_call(followed: _Followed, facts: Facts, instant: int) -> None:
    if not followed.calls:
        followed.first_call = instant
    followed.last_call = max(instant, followed.last_call)
    name = facts.details.event_name or "?"
    if name in followed.calls or len(followed.calls) < _MOST_NAMES:
        followed.calls[name] += 1
    else:
        followed.calls_other += 1


def _tell_calls(followed: _Followed) -> Step:
    number = followed.calls.total() + followed.calls_other
    ranked = sorted(followed.calls.items(), key=lambda item: (-item[1], item[0]))
    names = ", ".join(f"{name} {count:,}" for name, count in ranked[:_NAMES_SHOWN])
    more = f" and {len(ranked) - _NAMES_SHOWN} more kinds" if len(ranked) > _NAMES_SHOWN else ""
    return Step(followed.first_call, followed.last_call, f"{number:,} calls", names + more, "bad")


def _tell_policy(instant: int, facts: Facts, where: str, statement: str) -> Finding:
    name = facts.details.event_name or "policy changed"
    step = Step(instant, instant, name, f"by {_name(facts)} from {where or 'an unknown address'}: {statement}", "bad")
    return Finding("high", f"A policy that grants everything: {statement}", facts.event_id or "", (step,))


def _tell_refusals(name: str, calls: int, refused: int, first: int, last: int) -> Finding:
    step = Step(first, last, f"{refused:,} of {calls:,} calls failed", f"by {name}", "warn")
    return Finding("medium", f"{name} is refused most of what it asks", name, (step,))


def _name(facts: Facts) -> str:
    return (facts.identity.principal_name or facts.identity.principal_id or "(unknown)")[:200]


def _target(facts: Facts) -> str:
    return (facts.details.resource_name or f"by {_name(facts)}")[:200]
