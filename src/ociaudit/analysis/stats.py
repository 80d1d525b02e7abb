"""The statistics of events: everything that the summary and the report count, in one pass over the inputs.

`EventStats` counts batches of events and feeds the activity tracker; `BoundedCounter` counts values of which there
may be any number. `count_files` reads files into an `EventStats`, or into another counter of events: line by line
where the layout allows it, otherwise with the reader of any format. The result is the same either way; the fast path
stops at the first line that is not as expected, and the file is read again.

Invariants
- Memory does not grow with the number of events: whatever can have any number of values is bounded and reports
  what it dropped.
- Every event is counted exactly once in `events`, `outcomes` and `statuses`.
- Instants are nanoseconds as in `events.fields.read_instant`; hours are whole hours of the same count.
- All strings are the events' own and therefore untrusted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import gt
from pathlib import Path
from typing import Generic, NamedTuple, Protocol, TypeVar

from ociaudit.analysis.activity import (
    HOUR,
    ORDINARY,
    Activity,
    ActivityTracker,
    ActorSummary,
    ClassificationKey,
    EventBatch,
    EventClass,
    Pair,
    Step,
    classify_event,
    make_step,
    read_batch,
    summarize_actors,
)
from ociaudit.archive.inputs import Input
from ociaudit.errors import UnreadableInput
from ociaudit.events.fields import UNREADABLE_INSTANT, Outcome
from ociaudit.formats.base import Record
from ociaudit.formats.compression import decompress
from ociaudit.formats.reader import (
    check_distinct,
    ignore_incomplete,
    open_plain,
    read_countable_lines,
    read_plain_events,
)
from ociaudit.storage.atomic_io import explain_disk

_NAMES_KEPT = 20_000
_ACTORS_KEPT = 50_000
_CHANGES_KEPT = 5_000
_HOURS_KEPT = 200_000
_CLASSES_KEPT = 50_000
_MOST_RESTARTS = 2
"""After so many, all files that follow are read the slow way: each restart reads all files before it again."""
T = TypeVar("T")


def rank_counts(counts: Mapping[T, int], number: int | None = None) -> list[tuple[T, int]]:
    """Return the `number` most frequent values, or all of them, with their counts; equal counts by text."""
    return sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))[:number]


class BoundedCounter(Generic[T]):
    """A counter that drops the rarest values when there are too many.

    It holds at most twice `limit` values between two calls. The counts and `dropped` add up to the number of values
    added. A frequent value stays; a count can be too low only if `is_capped`.
    """

    __slots__ = ("counts", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        """Start empty; at least `limit` values are always kept."""
        self.counts: Counter[T] = Counter()
        self.dropped = 0
        """Sum of the counts that were dropped."""
        self.limit = limit

    def add(self, values: Iterable[T]) -> None:
        """Count each value once more."""
        self.counts.update(values)
        if len(self.counts) > 2 * self.limit:
            total = self.counts.total()
            self.counts = Counter(dict(self.counts.most_common(self.limit)))
            self.dropped += total - self.counts.total()

    @property
    def is_capped(self) -> bool:
        """Return whether values were dropped."""
        return self.dropped > 0

    def rank(self, number: int | None = None) -> list[tuple[T, int]]:
        """Return the most frequent values as `rank_counts` does."""
        return rank_counts(self.counts, number)


class Change(NamedTuple):
    """A change to IAM that did not fail."""

    step: Step
    principal: str
    address: str
    resource_name: str | None


@dataclass(slots=True)
class EventStats:
    """Counts of events. A missing name, principal or address is not counted; in `activities` it is an empty text."""

    events: int = 0
    raw_bytes: int = 0
    first: int = UNREADABLE_INSTANT
    last: int = UNREADABLE_INSTANT
    untimed: int = 0
    """Events whose time is missing or unreadable."""
    untyped: int = 0
    """Events with neither a time nor a type: they may not be audit events, or may be in another shape."""
    disordered: int = 0
    """Events that are earlier than the previous one."""
    types: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    names: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    failures: BoundedCounter[tuple[str, str]] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    """(event name, status) of failed events; either may be an empty text."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    """Class of the HTTP status -> events: `1xx` to `5xx`, `none`, `other`."""
    sign_ins: Counter[tuple[int, Outcome]] = field(default_factory=Counter)
    """(hour, outcome) -> sign-ins."""
    are_principals_capped: bool = False
    """Whether there are so many principals that some were dropped; `are_addresses_capped` likewise."""
    are_addresses_capped: bool = False
    change_names: BoundedCounter[str] = field(default_factory=lambda: BoundedCounter(_NAMES_KEPT))
    changes: list[Change] = field(default_factory=list)
    """The first 5,000 changes to IAM, in the order of the file; `change_names` counts all of them."""
    tracker: ActivityTracker = field(default_factory=ActivityTracker)
    _classes: dict[ClassificationKey, EventClass] = field(default_factory=dict)
    _newest: int = UNREADABLE_INSTANT
    _seen: tuple[set[str], set[str]] | None = None
    """All principals and all addresses, as soon as there may be too many of them."""

    @property
    def activities(self) -> dict[Pair, Activity]:
        """(principal, address) -> activity; a principal without a name appears under its id."""
        return self.tracker.activities

    def add(self, records: Sequence[Record]) -> None:
        """Count a batch of events.

        Raises:
            ValueError: one of them is not a JSON object.
        """
        self.add_raws([raw for raw, _ in records])

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count a batch of events, each one line of JSON in shape `api`.

        Raises:
            ValueError: one of them is not a JSON object.
        """
        self.add_batch(read_batch(raws))

    def add_batch(self, batch: EventBatch) -> list[EventClass]:
        """Count a batch of parsed events and return the classification of each."""
        instants = batch.instants
        self.events += len(batch.raws)
        self.raw_bytes += sum(map(len, batch.raws))
        types = [one.event_type for one in batch.facts if one.event_type]
        if len(types) < len(batch.raws):
            self.untyped += sum([not (one.event_type or one.event_time) for one in batch.facts])
        self.types.add(types)
        self.names.add([data.event_name for data in batch.datas if data.event_name])
        if self._seen or len(self.activities) + len(batch.pairs) > 2 * _ACTORS_KEPT:
            self._note_actors([pair for pair, _ in batch.pairs])
        self.outcomes.update(batch.outcomes)
        for status, number in Counter(batch.statuses).items():
            self.statuses[_name_status_class(status)] += number
        failed = [index for index, outcome in enumerate(batch.outcomes) if outcome == "failure"]
        self.failures.add([(batch.datas[index].event_name or "", batch.statuses[index] or "") for index in failed])
        self._add_times(instants)
        event_classes = self._add_notable(batch)
        _drop_rarest_hours(self.sign_ins)
        return event_classes

    def _note_actors(self, pairs: Sequence[Pair]) -> None:
        """Note whether there are too many principals or addresses; until now the activities had all of them."""
        if self._seen is None:
            self._seen = ({pair[0] for pair in self.activities}, {pair[1] for pair in self.activities})
        are_capped = [self.are_principals_capped, self.are_addresses_capped]
        for at, seen in enumerate(self._seen):
            if not are_capped[at]:
                seen.update([pair[at] for pair in pairs])
                seen.discard("")
                are_capped[at] = len(seen) > 2 * _ACTORS_KEPT
            if are_capped[at]:
                seen.clear()
        self.are_principals_capped, self.are_addresses_capped = are_capped

    def list_actors(self) -> tuple[list[ActorSummary], list[ActorSummary]]:
        """Return the principals with their addresses, and the addresses with their principals, by first seen."""
        return summarize_actors(self.activities)

    def _add_times(self, instants: Sequence[int]) -> None:
        readable = [instant for instant in instants if instant]
        self.untimed += len(instants) - len(readable)
        if not readable:
            return
        ordered = sorted(readable)
        first = ordered[0]
        if first < self._newest or ordered != readable:
            self.disordered += sum(map(gt, chain((self._newest,), readable), readable))
        self._newest = readable[-1]
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, ordered[-1])

    def _add_notable(self, batch: EventBatch) -> list[EventClass]:
        """Classify the events, count sign-ins and changes, and track activities."""
        known = self._classes
        event_classes = [known.get(key) or self._classify(key) for key in batch.keys]
        steps: dict[int, Step] = {}
        for index, event_class in enumerate(event_classes):
            if event_class is not ORDINARY:
                instant, outcome = batch.instants[index], batch.outcomes[index]
                if event_class.is_sign_in and instant:
                    self.sign_ins[instant // HOUR, outcome] += 1
                if outcome != "failure" and (event_class.is_iam_change or event_class.kind == "monitoring"):
                    steps[index] = make_step(batch.facts[index], batch.raws[index], instant, event_class.kind)
        seen: set[int] = set()
        for (principal, address), index in batch.pairs if steps else ():
            if index in steps and event_classes[index].is_iam_change and index not in seen:
                seen.add(index)  # an event with several addresses is one change
                self.change_names.add([steps[index].name])
                if len(self.changes) < _CHANGES_KEPT:
                    self.changes.append(Change(steps[index], principal, address, batch.datas[index].resource_name))
        self.tracker.add(batch, event_classes, steps)
        return event_classes

    def _classify(self, key: ClassificationKey) -> EventClass:
        event_class = classify_event(key, None, None) if isinstance(key, str) else classify_event(*key)
        if len(self._classes) < _CLASSES_KEPT:
            self._classes[key] = event_class
        return event_class


def _name_status_class(status: str | None) -> str:
    if not status:
        return "none"
    is_http = len(status) == 3 and status.isascii() and status.isdigit() and status[0] in "12345"
    return f"{status[0]}xx" if is_http else "other"


def _drop_rarest_hours(counter: Counter[tuple[int, Outcome]]) -> None:
    """Drop the rarest half of too many hours: no real file spans 20 years, but forged times can."""
    if len(counter) > _HOURS_KEPT:
        for key, _ in counter.most_common()[_HOURS_KEPT // 2 :]:
            del counter[key]


class EventCounter(Protocol):
    """Anything that counts events batch by batch; both methods raise ValueError for what is not a JSON object."""

    @property
    def untyped(self) -> int:
        """Number of events with neither a time nor a type: they may be in another shape."""

    def add(self, records: Sequence[Record]) -> None:
        """Count a batch of events."""

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count a batch of events, each one line of JSON in shape `api`."""


C = TypeVar("C", bound=EventCounter)


def count_files(
    inputs: Sequence[Input],
    make_counter: Callable[[], C],
    *,
    on_incomplete: Callable[[str], None] = ignore_incomplete,
) -> C:
    """Count the events of all inputs with the counter that `make_counter` returns.

    Raises:
        UsageError: a file does not exist, or is named twice.
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        CorruptRun: an archive is damaged.
        DiskError: a file cannot be read.
    """
    check_distinct([source.path for source in inputs])
    is_once = not all(source.is_rereadable for source in inputs)
    # A stream cannot be read a second time.
    slow = {number for number, source in enumerate(inputs) if is_once or source.file is None}
    noticed: set[str] = set()

    def notice(reason: str) -> None:
        if reason not in noticed:
            noticed.add(reason)
            on_incomplete(reason)

    restarts = 0
    while True:
        counter = make_counter()
        number = 0
        try:
            for number, source in enumerate(inputs):
                if number in slow or source.file is None or not _count_plain_lines(counter, source.file):
                    _count_records(counter, source, notice)
        except _WronglyCounted:
            restarts += 1
            slow.update([number] if restarts < _MOST_RESTARTS else range(number, len(inputs)))
            continue
        return counter


class _WronglyCounted(Exception):
    """Events of a file were counted before it turned out to be one of another kind."""


def _count_plain_lines(counter: EventCounter, path: Path) -> bool:
    """Count the events of a file with one event in each line; return False if it is not one.

    Raises:
        _WronglyCounted: only a later line showed that.
    """
    if not path.is_file():
        return False
    has_counted = False
    with explain_disk("read", path), open_plain(path) as file:
        try:
            is_compressed = bool(decompress([file.peek()])[0])
            for batch in read_plain_events(file) if is_compressed else read_countable_lines(file):
                has_counted = True
                counter.add_raws(batch)
                if counter.untyped:  # perhaps another shape
                    raise _WronglyCounted
        except ValueError as error:  # NotPlainLines, or not the JSON of an event
            if has_counted:
                raise _WronglyCounted from error
            return False
    return True


def _count_records(
    counter: EventCounter, source: Input, on_incomplete: Callable[[str], None] = ignore_incomplete
) -> None:
    """Count the events of an input of any kind."""
    with source.open(on_incomplete=on_incomplete) as records:
        for batch in records:
            try:
                counter.add(batch)
            except ValueError as error:
                raise UnreadableInput(
                    f"{source.name}: an event cannot be read: {error}",
                    hint="export the file again, or restore it from a backup",
                ) from error
