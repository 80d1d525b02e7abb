"""What one principal did from one address, as far as it may matter to somebody who looks for trouble.

Owns: what is remembered of such a pair while the events stream by. Must not: judge.

Invariants
- A trace is bounded: long lists are cut, and what was left out is counted.
- Failed sign-ins belong to the success that follows within an hour, in the order in which events are read.

Every pair of principal and address, followed through the events.

Owns: the traces and their bound. Must not: judge.

Invariants
- There are never more than 100,000 traces and what a batch adds; those that are forgotten are counted, and a
  trace with something special goes last.
- First and last are exact in whatever order events come; what came after what is told in the order of reading.

When a principal or an address was seen, and with whom. Owns: that view of the traces. Pure.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from ociaudit.analysis.classification import ChangeKind, EventBatch, EventClass, Pair
from ociaudit.events.fields import NANOSECONDS, Facts, Outcome, replace_surrogates

HOUR = 3600 * NANOSECONDS
_STEPS_KEPT = 24
_NAMES_KEPT = 40
_TOOLS_KEPT = 8
_NOTE_CHARACTERS = 200
_MOST_EVENTS = 2**50


class Step(NamedTuple):
    """Something that was done: `note` is the fingerprint of a new key or the statements of a policy."""

    instant: int
    kind: ChangeKind | None
    name: str
    event_id: str | None
    resource_id: str | None
    note: str


class Guess(NamedTuple):
    """Failed sign-ins, and the success that followed."""

    failures: int
    first: int
    success: int


class Special:
    """What one principal did from one address that not everybody does."""

    __slots__ = (
        "failed_sign_ins", "guess", "sign_ins", "steps", "steps_left_out", "streak", "streak_first", "streak_last",
        "tools", "use_first", "use_last", "uses", "uses_left_out",
    )  # fmt: skip

    def __init__(self) -> None:
        """Begin with nothing."""
        self.sign_ins = self.failed_sign_ins = 0
        self.streak = self.streak_first = self.streak_last = 0
        """The failed sign-ins since the last success, none longer than an hour after the one before."""
        self.guess: Guess | None = None
        self.steps: tuple[Step, ...] = ()
        self.steps_left_out = 0
        self.uses: Counter[str] = Counter()
        """Name -> how often it was called since the first step or guess; a name that is missing is empty."""
        self.uses_left_out = 0
        self.use_first = self.use_last = 0
        self.tools: dict[str, int] = {}
        """User agent -> when it was first used since the first step or guess."""

    @property
    def is_watched(self) -> bool:
        """Tell whether something has happened after which each call is of interest."""
        return bool(self.steps) or self.guess is not None

    def record_sign_in(self, instant: int, outcome: Outcome) -> None:
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

    def record_step(self, step: Step) -> None:
        """Remember something that was done."""
        if len(self.steps) < _STEPS_KEPT:
            self.steps += (step,)
        else:
            self.steps_left_out += 1

    def record_use(self, instant: int, name: str | None, tool: str | None) -> None:
        """Remember an ordinary call of somebody who has done something special."""
        self.use_first = self.use_first or instant
        self.use_last = max(self.use_last, instant)
        if (name or "") in self.uses or len(self.uses) < _NAMES_KEPT:
            self.uses[name or ""] += 1
        else:
            self.uses_left_out += 1
        if tool and tool not in self.tools and len(self.tools) < _TOOLS_KEPT:
            self.tools[tool] = instant


_NOTHING = Special()
"""What most have done; only `begin_special` gives what may be added to, and never this."""


class Activity:
    """One principal from one address: instants are 0 while no time could be read."""

    __slots__ = ("_special", "events", "failures", "first", "last")

    def __init__(self, instant: int) -> None:
        """Begin with the first event."""
        self.events = 1
        self.failures = 0
        self.first = self.last = instant
        self._special: Special | None = None

    @property
    def special(self) -> Special:
        """What was done that not everybody does; empty for most."""
        return self._special or _NOTHING

    @property
    def is_special(self) -> bool:
        """Tell whether anything was done that not everybody does."""
        return self._special is not None

    @property
    def rank(self) -> int:
        """Tell how little this may be forgotten: least where all failed, most after something special; then by size."""
        if self._special is not None and self._special.is_watched:
            return 2 * _MOST_EVENTS + self.events
        return self.events if self.failures >= self.events else _MOST_EVENTS + self.events

    def begin_special(self) -> Special:
        """Return what was done that not everybody does, to add to it."""
        if self._special is None:
            self._special = Special()
        return self._special


def make_step(facts: Facts, raw: bytes, instant: int, kind: ChangeKind | None) -> Step:
    """Make a step of an event; its JSON is read whole where it may name a key or a policy's statements."""
    details = facts.details
    note = _find_detail(raw) if kind in {"credential", "rights"} else ""
    return Step(
        instant=instant,
        kind=kind,
        name=details.event_name or facts.event_type or "",
        event_id=facts.event_id,
        resource_id=details.resource_id,
        note=note,
    )


def is_wide_open(statement: str) -> bool:
    """Tell whether a policy's statement gives everything, or something to manage to everybody."""
    words = " ".join(statement.casefold().split())
    return "any-user to manage" in words or "any-group to manage" in words or "manage all-resources in tenancy" in words


def _find_detail(raw: bytes) -> str:
    try:
        data = json.loads(raw).get("data")
    except (ValueError, RecursionError):
        return ""
    for path in (("response", "payload"), ("stateChange", "current"), ("request", "payload")):
        target: Any = data
        for name in path:
            target = target.get(name) if isinstance(target, dict) else None
        if isinstance(target, dict):
            fingerprint, statements = target.get("fingerprint"), target.get("statements")
            if isinstance(fingerprint, str):
                return replace_surrogates(fingerprint[:_NOTE_CHARACTERS])
            if isinstance(statements, list):
                widest_first = sorted(map(str, statements), key=lambda one: not is_wide_open(one))
                return replace_surrogates("; ".join(widest_first)[:_NOTE_CHARACTERS])
    return ""


_TRACES_KEPT = 50_000
_IDS_KEPT = 50_000
_get_id, _get_name = attrgetter("principal_id"), attrgetter("principal_name")


@dataclass(slots=True)
class ActivityTracker:
    """What each principal did from each address."""

    activities: dict[Pair, Activity] = field(default_factory=dict)
    """(principal, address) -> what was done; either may be an empty text."""
    dropped: int = 0
    """How many traces were forgotten."""
    names_by_id: dict[str | None, str | None] = field(default_factory=dict)
    """A principal's id -> its name, for the first fifty thousand."""
    _watched: set[Pair] = field(default_factory=set)

    @property
    def watched(self) -> AbstractSet[Pair]:
        """The pairs that have done something after which each call is of interest."""
        return self._watched

    def add(self, batch: EventBatch, event_classes: Sequence[EventClass], steps: Mapping[int, Step]) -> None:
        """Follow events; `meanings` has one for each, `steps` holds those that are a step by their index."""
        self._count(batch)
        special = set(steps).union([index for index, event_class in enumerate(event_classes) if event_class.is_sign_in])
        watched = self._watched  # there may be many: they are not copied for every batch
        interesting = {pair for pair, index in batch.pairs if index in special or pair in watched}
        if interesting:
            for pair, index in batch.pairs:
                if pair in interesting:
                    self._record(batch, pair, index, event_classes[index], steps.get(index))
        if len(self.names_by_id) < _IDS_KEPT:
            self.names_by_id.update(zip(map(_get_id, batch.identities), map(_get_name, batch.identities), strict=True))
        if len(self.activities) > 2 * _TRACES_KEPT:
            self._forget()

    def _count(self, batch: EventBatch) -> None:
        """Count, and find first and last."""
        activities, instants = self.activities, batch.instants
        find = activities.get
        for pair, index in batch.pairs:
            instant = instants[index]
            activity = find(pair)
            if activity is None:
                activities[pair] = Activity(instant)
                continue
            activity.events += 1
            if instant > activity.last:  # noqa: PLR1730 - asked of every event, and `max` takes three times as long
                activity.last = instant
            if instant < activity.first or not activity.first:
                activity.first = instant or activity.first
        for pair, index in batch.pairs:
            if batch.outcomes[index] == "failure":
                activities[pair].failures += 1

    def _record(self, batch: EventBatch, pair: Pair, index: int, event_class: EventClass, step: Step | None) -> None:
        special = self.activities[pair].begin_special()
        if step:
            special.record_step(step)
        elif event_class.is_sign_in:
            special.record_sign_in(batch.instants[index], batch.outcomes[index])
        elif special.is_watched:
            special.record_use(batch.instants[index], batch.datas[index].event_name, batch.identities[index].user_agent)
        if special.is_watched:
            self._watched.add(pair)

    def _forget(self) -> None:
        """Forget half of the traces: first those that only failed, then the shortest."""
        ranks = [activity.rank for activity in self.activities.values()]
        last = sorted(ranks, reverse=True)[_TRACES_KEPT]
        room = _TRACES_KEPT - sum(rank > last for rank in ranks)
        kept: dict[Pair, Activity] = {}
        for (pair, activity), rank in zip(self.activities.items(), ranks, strict=True):
            if rank == last:  # of equals those stay that came first: their first is exact
                room -= 1
            if rank > last or (rank == last and room >= 0):
                kept[pair] = activity
        self.dropped += len(self.activities) - len(kept)
        self.activities = kept
        self._watched &= self.activities.keys()


class ActorSummary(NamedTuple):
    """A principal or an address; instants as in the census, 0 where no time could be read."""

    name: str
    first: int
    last: int
    events: int
    failures: int
    partners: tuple[str, ...]
    """The addresses of a principal, or the principals of an address, by first seen; an empty text is none."""


_get_first_and_name = attrgetter("first", "name")


def summarize_actors(pairs: Iterable[tuple[str, str, Activity]]) -> list[ActorSummary]:
    """Gather (name, partner, trace) by name, and return them by first seen; an empty name is left out."""
    gathered: defaultdict[str, list[tuple[str, Activity]]] = defaultdict(list)
    for name, partner, activity in pairs:
        if name:
            gathered[name].append((partner, activity))
    return sorted(map(_gather, gathered.items()), key=_get_first_and_name)


def _gather(item: tuple[str, list[tuple[str, Activity]]]) -> ActorSummary:
    name, found = item
    if len(found) == 1:  # so it is for nearly all addresses
        partner, activity = found[0]
        return ActorSummary(name, activity.first, activity.last, activity.events, activity.failures, (partner,))
    found.sort(key=lambda one: (one[1].first, one[0]))
    activities = [activity for _, activity in found]
    return ActorSummary(
        name=name,
        first=min((activity.first for activity in activities if activity.first), default=0),
        last=max(activity.last for activity in activities),
        events=sum(activity.events for activity in activities),
        failures=sum(activity.failures for activity in activities),
        partners=tuple(partner for partner, _ in found),
    )
