"""Counting what may have any number of values, in bounded memory.

Owns: that bound, and the words for what it cost.

Invariants
- No more than twice `limit` values are held.
- What was counted and what was dropped add up to everything that was added.
- Values that are frequent stay; a count may be too low only where `is_capped` says so.

One pass over events: everything that the summary and the report count.

Owns: the counting, and its bounds. Must not: open files, print, or judge what it counts.

Invariants
- Memory does not grow with the number of events: whatever can have any number of values is bounded, and says so.
- Each event is counted exactly once in `events`, `outcomes`, `statuses`, and in `hours` or `untimed`.
- The strings are the events' own: hostile on a screen, in HTML and elsewhere.
- Instants count nanoseconds as `events.fields.read_instant`; hours are whole hours of the same count.

From files to a census, or to whatever else counts events: quickly where a file allows it.

Owns: the choice between the quick and the careful way of reading. Must not: count.

Invariant: either way the census is the same; the quick way gives up at the first thing that is not as it should be.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import gt
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from ociaudit.analysis.activity import HOUR, Activity, ActivityTracker, ActorSummary, Step, make_step, summarize_actors
from ociaudit.analysis.classification import (
    ORDINARY,
    EventBatch,
    EventClass,
    EventKind,
    Pair,
    classify_event,
    read_batch,
)
from ociaudit.errors import UnreadableInput
from ociaudit.events.fields import UNREADABLE_INSTANT, Outcome
from ociaudit.formats.base import Record
from ociaudit.formats.reader import open_records, read_plain_lines
from ociaudit.storage.atomic_io import explain_disk

T = TypeVar("T")


class BoundedCounter(Generic[T]):
    """A counter that forgets the rarest values when there are too many of them."""

    __slots__ = ("counts", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        """Begin with nothing; `limit` is how many values are kept for sure."""
        self.counts: Counter[T] = Counter()
        self.dropped = 0
        """How many additions belong to values that were forgotten."""
        self.limit = limit

    def add(self, values: Iterable[T]) -> None:
        """Count each value once more."""
        self.counts.update(values)
        if len(self.counts) > 2 * self.limit:
            self._forget()

    @property
    def is_capped(self) -> bool:
        """Tell whether values were forgotten."""
        return self.dropped > 0

    def rank(self, number: int | None = None) -> list[tuple[T, int]]:
        """Return the most frequent values with their counts; equal counts by their text."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], str(item[0])))[:number]

    def _forget(self) -> None:
        total = self.counts.total()
        self.counts = Counter(dict(self.counts.most_common(self.limit)))
        self.dropped += total - self.counts.total()


_NAMES_KEPT = 20_000
_PEOPLE_KEPT = 50_000
_CHANGES_KEPT = 5_000
_HOURS_KEPT = 200_000
_MEANINGS_KEPT = 50_000


class Change(NamedTuple):
    """A change to IAM that did not fail."""

    step: Step
    principal: str
    address: str
    resource_name: str | None


@dataclass(slots=True)
class EventStats:
    """Counts over events. A missing name, principal or address counts nowhere; in `traces` it is an empty text."""

    events: int = 0
    raw_bytes: int = 0
    first: int = UNREADABLE_INSTANT
    last: int = UNREADABLE_INSTANT
    untimed: int = 0
    """Events whose time is missing or unreadable."""
    untyped: int = 0
    """Events that have neither a time nor a type: perhaps none of Audit's, or in another spelling."""
    disordered: int = 0
    """Events that are earlier than the one before them."""
    types: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    names: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    principals: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_PEOPLE_KEPT))
    addresses: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_PEOPLE_KEPT))
    compartments: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    failures: BoundedCounter[tuple[str, str]] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    """(event name, status) of what failed; either may be an empty text."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    """Class of the status -> events: `1xx` to `5xx`, `none`, `other`."""
    hours: Counter[int] = field(default_factory=Counter)
    failures_by_hour: Counter[int] = field(default_factory=Counter)
    sign_ins: Counter[tuple[int, Outcome]] = field(default_factory=Counter)
    """(hour, outcome) -> sign-ins."""
    change_names: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    changes: list[Change] = field(default_factory=list)
    """Changes to IAM, in the file's order; the first thousands of them, `change_names` counts all."""
    following: ActivityTracker = field(default_factory=ActivityTracker)
    _meanings: dict[EventKind, EventClass] = field(default_factory=dict)
    _newest: int = UNREADABLE_INSTANT

    @property
    def activities(self) -> dict[Pair, Activity]:
        """(principal, address) -> what was done. A principal without a name stands under its id."""
        return self.following.activities

    def add(self, records: Sequence[Record]) -> None:
        """Count events.

        Raises:
            ValueError: one is not a JSON object.
        """
        self.add_raws([raw for raw, _ in records])

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count events, each one line of JSON in shape `api`.

        Raises:
            ValueError: one is not a JSON object.
        """
        self.add_batch(read_batch(raws))

    def add_batch(self, batch: EventBatch) -> list[EventClass]:
        """Count events that are read, and return what each means, for whoever counts more."""
        instants = batch.instants
        self.events += len(batch.raws)
        self.raw_bytes += sum(map(len, batch.raws))
        self.untyped += sum([not (one.event_type or one.event_time) for one in batch.facts])
        self.types.add([one.event_type for one in batch.facts if one.event_type])
        self.names.add([data.event_name for data in batch.datas if data.event_name])
        self.compartments.add([data.compartment_id for data in batch.datas if data.compartment_id])
        self.principals.add(filter(None, batch.people))
        self.addresses.add([pair[1] for pair, _ in batch.pairs if pair[1]])
        self.outcomes.update(batch.outcomes)
        for status, number in Counter(batch.statuses).items():
            self.statuses[_name_class(status)] += number
        failed = [index for index, outcome in enumerate(batch.outcomes) if outcome == "failure"]
        self.failures.add([(batch.datas[index].event_name or "", batch.statuses[index] or "") for index in failed])
        self.failures_by_hour.update([instants[index] // HOUR for index in failed if instants[index]])
        self._add_times(instants)
        event_classes = self._add_special(batch)
        for counter in (self.hours, self.failures_by_hour, self.sign_ins):
            _keep_bound(counter)
        return event_classes

    def list_principals(self) -> list[ActorSummary]:
        """Return the principals that were followed with their addresses, by first seen."""
        return summarize_actors((person, address, activity) for (person, address), activity in self.activities.items())

    def list_addresses(self) -> list[ActorSummary]:
        """Return the addresses that were followed with their principals, by first seen."""
        return summarize_actors((address, person, activity) for (person, address), activity in self.activities.items())

    def _add_times(self, instants: Sequence[int]) -> None:
        known = [instant for instant in instants if instant]
        self.untimed += len(instants) - len(known)
        if not known:
            return
        ordered = sorted(known)
        first, last = ordered[0], ordered[-1]
        if first < self._newest or ordered != known:
            self.disordered += sum(map(gt, chain((self._newest,), known), known))
        self._newest = known[-1]
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)
        if first // HOUR == last // HOUR:  # so it is for nearly all neighbours
            self.hours[first // HOUR] += len(known)
        else:
            self.hours.update([instant // HOUR for instant in known])

    def _add_special(self, batch: EventBatch) -> list[EventClass]:
        """Count sign-ins and changes, and follow who did what from where."""
        known = self._meanings
        event_classes = [known.get(kind) or self._learn_meaning(kind) for kind in batch.kinds]
        steps: dict[int, Step] = {}
        for index, event_class in enumerate(event_classes):
            if event_class is not ORDINARY:
                instant, outcome = batch.instants[index], batch.outcomes[index]
                if event_class.is_sign_in and instant:
                    self.sign_ins[instant // HOUR, outcome] += 1
                if outcome != "failure" and (event_class.is_iam_change or event_class.kind == "blinding"):
                    steps[index] = make_step(batch.facts[index], batch.raws[index], instant, event_class.kind)
        seen: set[int] = set()
        for (person, address), index in batch.pairs if steps else ():
            if index in steps and event_classes[index].is_iam_change and index not in seen:
                seen.add(index)  # an event with several addresses is one change
                self.change_names.add([steps[index].name])
                if len(self.changes) < _CHANGES_KEPT:
                    self.changes.append(Change(steps[index], person, address, batch.datas[index].resource_name))
        self.following.add(batch, event_classes, steps)
        return event_classes

    def _learn_meaning(self, kind: EventKind) -> EventClass:
        event_class = classify_event(kind, None, None) if isinstance(kind, str) else classify_event(*kind)
        if len(self._meanings) < _MEANINGS_KEPT:
            self._meanings[kind] = event_class
        return event_class


def collect_stats(batches: Iterable[Sequence[Record]]) -> EventStats:
    """Count all events.

    Raises:
        ValueError: one is not a JSON object.
    """
    stats = EventStats()
    for batch in batches:
        stats.add(batch)
    return stats


def _name_class(status: str | None) -> str:
    if not status:
        return "none"
    return (
        f"{status[0]}xx"
        if len(status) == 3 and status.isascii() and status.isdigit() and status[0] in "12345"
        else "other"
    )


def _keep_bound(counter: Counter[int] | Counter[tuple[int, Outcome]]) -> None:
    """Forget the rarest hours: nobody has records of twenty years, but anybody can make up times."""
    if len(counter) > _HOURS_KEPT:
        for key, _ in counter.most_common()[_HOURS_KEPT // 2 :]:
            del counter[key]


_BUFFER_BYTES = 256 * 1024


class Counting(Protocol):
    """Whatever counts events batch by batch."""

    @property
    def untyped(self) -> int:
        """How many events have neither a time nor a type: perhaps they are in another spelling."""

    def add(self, records: Sequence[Record]) -> None:
        """Count events; ValueError: one is not a JSON object."""

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count events, each one line of JSON; raises as `add`."""


C = TypeVar("C", bound=Counting)


def count_files(paths: Sequence[Path | None]) -> EventStats:
    """Count the events of all files; None is stdin. Raises as `feed_files`."""
    return feed_files(paths, EventStats)


def feed_files(paths: Sequence[Path | None], begin: Callable[[], C]) -> C:
    """Return a count of the events of all files, begun by `begin`; None is stdin.

    Raises:
        UsageError: a file does not exist.
        UnreadableInput: a file is not what it should be.
        DiskError: a file cannot be read.
    """
    careful = set(paths) if None in paths else set()  # stdin cannot be read twice
    while True:
        stats = begin()
        for path in paths:
            if path is None or path in careful:
                _count_carefully(stats, path)
            elif not _count_quickly(stats, path):
                careful.add(path)
                break
        else:
            return stats


def _count_quickly(stats: Counting, path: Path) -> bool:
    """Count the events of a file; tell whether that was possible. If not, the census is spoilt."""
    if not path.is_file():
        return False
    with explain_disk("read", path), path.open("rb", buffering=_BUFFER_BYTES) as file:
        try:
            for batch in read_plain_lines(file):
                stats.add_raws(batch)
                if stats.untyped:  # perhaps another spelling
                    return False
        except ValueError:  # NotPlainLines, or not the JSON of an event
            return False
    return True


def _count_carefully(stats: Counting, path: Path | None) -> None:
    with open_records(path) as source:
        for batch in source:
            try:
                stats.add(batch)
            except ValueError as error:
                raise UnreadableInput(
                    f"{source.name}: an event cannot be read: {error}", hint="make the file anew, or restore it"
                ) from error
