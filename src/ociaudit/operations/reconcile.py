"""Reconciliation: what a delivery (A) lacks, doubles or holds beyond what ListEvents gave (B), by target and day.

A is what a Connector Hub delivered, or any file of events; B is an export, an archive, or any other file. Events are
matched by id; what has no partner then, by time (to the millisecond), type and request id, because no source says
that a connector keeps the ids. Both are sorted outside memory and read side by side.

What only one of the two covers is not a difference. Coverage is what a manifest or an archive states. A connector's
folder covers the named range, else the time from its first to its last file, in whatever the other one covers; a file
that states nothing is taken to cover what the other one does.

Invariants
- Every event of A is exactly one of: matched, doubled, surplus, not comparable; every event of B exactly one of:
  matched, doubled, lost, not comparable.
- Copies of one id are one event; each further copy is doubled, unless B has as many different records of that id. So
  are records of the time, type and request id of a matched one that B does not have.
- Memory does not grow with the files: only days and the targets with differences are kept, up to a limit.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import chain, groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeVar

import msgspec

from ociaudit.archive.inputs import ConnectorInput, Input, Limits, open_input
from ociaudit.errors import UnreadableInput, UsageError, format_count
from ociaudit.events.event import encode_order
from ociaudit.events.fields import (
    NANOSECONDS,
    UNREADABLE_INSTANT,
    format_instant,
    instant_of_minute,
    make_facts_reader,
    minute_of_instant,
)
from ociaudit.events.filters import EventFilter, FilterSpec
from ociaudit.formats.base import Record
from ociaudit.formats.reader import reject_incomplete
from ociaudit.operations.context import Cancellation
from ociaudit.operations.diff import map_coverage
from ociaudit.planning.shard import Coverage, Target, Window, format_minute
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.manifest import Manifest
from ociaudit.storage.merge import ExternalSort
from ociaudit.storage.verdict import VerdictKind

_ENTRIES_IN_MEMORY = 100_000
_MAX_ROWS = 100_000
_MAX_RECORDS = 1_000
_EXAMPLES = 20
_HASH_BYTES = 8
_MILLISECOND = NANOSECONDS // 1_000
_NO_DATE = "unknown"
_FACTS = ("event_time", "event_id", "event_type", "data.compartment_id", "data.request.id")
_read_facts = make_facts_reader(_FACTS)
K = TypeVar("K")


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is compared of an event. `region` is empty where it is unknown; `record` is a hash of the event's bytes."""

    is_b: bool
    event_id: str
    millisecond: int
    event_type: str
    request_id: str
    region: str
    compartment: str
    record: bytes

    @property
    def instant(self) -> int:
        """Return when the event happened, to the millisecond."""
        return self.millisecond * _MILLISECOND

    @property
    def date(self) -> str:
        """Return the day on which the event happened."""
        return _NO_DATE if self.instant == UNREADABLE_INSTANT else format_instant(self.instant)[:10]


class Row(NamedTuple):
    """A target and a day; the region is empty where it is unknown."""

    region: str
    compartment: str
    date: str


@dataclass(slots=True)
class Counts:
    """Numbers of events. `matched` events are in both; `doubled` are further copies in A."""

    matched: int = 0
    lost: int = 0
    doubled: int = 0
    surplus: int = 0

    @property
    def is_same(self) -> bool:
        """Return whether there is no difference."""
        return not (self.lost or self.doubled or self.surplus)

    def add(self, other: Counts) -> None:
        """Add the numbers of another one."""
        self.matched += other.matched
        self.lost += other.lost
        self.doubled += other.doubled
        self.surplus += other.surplus


@dataclass(slots=True)
class SideCounts:
    """One of the two: its events, how many of them are outside of what both cover, and what it covers, in words."""

    name: str
    events: int = 0
    not_comparable: int = 0
    doubled: int = 0
    covers: str = ""


@dataclass(slots=True)
class Reconciliation:
    """What reconciling has found.

    `rows` are the targets and days with differences, `days` all days; `left_out` counts the events of further ones.
    `start` and `end` limit what was compared, where that is known; they are equal where that is nothing.
    """

    a: SideCounts
    b: SideCounts
    totals: Counts = field(default_factory=Counts)
    matched_by_id: int = 0
    matched_by_key: int = 0
    conflicting_ids: int = 0
    """Ids of which B has several different records."""
    rows: dict[Row, Counts] = field(default_factory=dict)
    days: dict[str, Counts] = field(default_factory=dict)
    left_out: int = 0
    lost_examples: list[Entry] = field(default_factory=list)
    surplus_examples: list[Entry] = field(default_factory=list)
    doubled_examples: list[Entry] = field(default_factory=list)
    start: str | None = None
    end: str | None = None
    paths: dict[str, str] = field(default_factory=dict)
    """The compartments' paths by OCID, where B states them."""
    notes: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Return whether A holds exactly what B holds, once, as far as they can be compared."""
        return self.totals.is_same

    @property
    def is_compared(self) -> bool:
        """Return whether anything could be compared: False where each event is one that the other should not have."""
        return not self.is_same or self.totals.matched > 0 or not (self.a.not_comparable or self.b.not_comparable)

    def list_rows(self) -> list[tuple[Row, Counts]]:
        """Return the targets and days with differences, those with most losses first."""
        found = ((row, counts) for row, counts in self.rows.items() if not counts.is_same)
        return sorted(found, key=lambda one: (-one[1].lost, -one[1].surplus, -one[1].doubled, one[0]))


@dataclass(frozen=True, slots=True)
class ReconcileRange:
    """The minutes of event time to compare; None: not limited."""

    start: int | None = None
    end: int | None = None

    def holds(self, instant: int) -> bool:
        """Return whether an event at this instant is in the range; one without a readable time is."""
        if instant == UNREADABLE_INSTANT:
            return True
        return (self.start is None or instant >= instant_of_minute(self.start)) and (
            self.end is None or instant < instant_of_minute(self.end)
        )


def open_side(path: Path | None, limits: Limits, *, now: datetime, url: str = "") -> Input:
    """Return an input to reconcile; None is stdin. The times in `limits` select from archives and connectors' folders.

    `url` is what the path is a copy of.

    Raises:
        UsageError, CorruptRun, DiskError: as `archive.inputs.open_input`.
    """
    if path is None:
        return open_input(None)
    with explain_disk("look at", path):
        is_file = path.is_file()
    return open_input(path, None if is_file else limits, now=now, url=url)


def reconcile_inputs(
    a: Input,
    b: Input,
    *,
    within: ReconcileRange | None = None,
    is_strict: bool = False,
    cancellation: Cancellation | None = None,
) -> Reconciliation:
    """Compare what was delivered (A) with what ListEvents gave (B).

    Raises:
        UsageError: the two are the wrong way round, or one cannot be used.
        UnreadableInput: an input holds no audit events, or is damaged.
        CorruptRun: a manifest or an archive cannot be read.
        DiskError: something cannot be read or written.
        Interrupted: a stop was requested.
    """
    if isinstance(b, ConnectorInput) and not isinstance(a, ConnectorInput):
        raise UsageError(
            f"{b.name} is the folder of a connector, and named second",
            hint=f"name first what was delivered, then what it is compared with: {b.name} {a.name}",
        )
    if a.path is None and b.path is None:
        raise UsageError("stdin is named twice", hint="name - once")
    sides = (_Side(a), _Side(b))
    found = Reconciliation(SideCounts(a.name), SideCounts(b.name), paths=dict(sides[1].facts.paths))
    limits = within or ReconcileRange()
    _describe_scope(found, sides, limits)
    cancelled = cancellation or Cancellation()
    on_incomplete = reject_incomplete if is_strict else found.notes.append
    matcher = _Matcher(found, sides)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as scratch:
        by_id = ExternalSort(Path(scratch), "ids", max_entries=_ENTRIES_IN_MEMORY)
        for side, other, counts in ((*sides, found.a), (*sides[::-1], found.b)):
            reader = _EntryReader(side, other, counts, limits, is_b=counts is found.b)
            with side.source.open(needs_origins=True, on_incomplete=on_incomplete) as records:
                for batch in records:
                    cancelled.check("while comparing; nothing was written", is_kept=False)
                    by_id.pending += map(_encode_by_id, reader.read(batch))
                    by_id.write_if_full()
        by_key = ExternalSort(Path(scratch), "keys", max_entries=_ENTRIES_IN_MEMORY)
        for group in _group(by_id.iterate()):
            by_key.pending += map(_encode_by_key, matcher.match_ids(group))
            by_key.write_if_full()
        cancelled.check("while comparing; nothing was written", is_kept=False)
        for group in _group(by_key.iterate()):
            matcher.match_keys(group)
    matcher.finish()
    return found


class _Side:
    """One of the two inputs: what it states about what it covers."""

    def __init__(self, source: Input) -> None:
        self.source = source
        self.facts = source.read_facts()
        statement = self.facts.statement
        spec = statement.arguments.whole_filter if isinstance(statement, Manifest) else FilterSpec()
        self.filter = EventFilter(spec) if spec != FilterSpec() else None
        self.files: Window | None = None
        """The minutes from a connector's first file to its last one."""
        self.span: Window | None = None
        """The minutes of which a connector should have delivered everything."""
        if isinstance(source, ConnectorInput) and source.deliveries:
            first = source.deliveries[0].start
            self.files = Window(first, max(first + 1, *(one.end for one in source.deliveries)))
            start = self.files.start if source.start is None else source.start
            end = self.files.end if source.end is None else source.end
            self.span = Window(start, max(start + 1, end))
        self._by_compartment: dict[str, list[tuple[str, Coverage]]] | None = None
        if statement is not None:
            self._by_compartment = {}
            for target, coverage in map_coverage(statement).items():
                self._by_compartment.setdefault(target.compartment, []).append((target.region, coverage))

    def covers(self, entry: Entry) -> bool:
        """Return whether this side should hold an event of the other one."""
        if self.span is None and self._by_compartment is None:
            return True
        if entry.instant == UNREADABLE_INSTANT:
            return False
        minute = minute_of_instant(entry.instant)
        if self.span is not None:
            return self.span.start <= minute < self.span.end
        known = self._by_compartment or {}
        places = known.get(entry.compartment, ()) if entry.compartment else list(chain.from_iterable(known.values()))
        coverages = [coverage for region, coverage in places if not entry.region or region == entry.region]
        moment = Window(minute, minute + 1)
        return bool(coverages) and not any(coverage.find_missing(moment) for coverage in coverages)

    def find_range(self) -> Window | None:
        """Return the minutes from the first to the last that are covered; None if nothing is stated."""
        if self.span is not None or self._by_compartment is None:
            return self.span
        windows = [one for some in self._by_compartment.values() for _, each in some for one in each.windows]
        return Window(min(one.start for one in windows), max(one.end for one in windows)) if windows else None

    def describe(self) -> str:
        """Return what is covered, in words."""
        if self.span is not None:
            files = f"{self.files}, by the names of its files"
            return files if self.span == self.files else f"{self.span}, as named; its files: {files}"
        window = self.find_range()
        if self._by_compartment is None:
            return "not stated; taken to be what the other one covers"
        places = [region for some in self._by_compartment.values() for region, _ in some]
        scope = f"{format_count(len(places), 'target')} in {format_count(len(set(places)), 'region')}"
        return f"{window}, {scope}" if window else f"nothing of {scope}"


class _EntryReader:
    """Makes entries of the records of one side, and counts them."""

    def __init__(self, side: _Side, other: _Side, counts: SideCounts, limits: ReconcileRange, *, is_b: bool) -> None:
        self._name, self._filter, self._counts = side.source.name, other.filter, counts
        self._limits, self._is_b = limits, is_b

    def read(self, batch: Iterable[Record]) -> Iterator[Entry]:
        """Yield the entries of the events in the range; what the other side's filter omits is not comparable."""
        for raw, origin in batch:
            entry = self._make_entry(raw, origin)
            if not self._limits.holds(entry.instant):
                continue
            self._counts.events += 1
            if self._filter is not None and not self._filter.is_wanted(raw):
                self._counts.not_comparable += 1
                continue
            yield entry

    def _make_entry(self, raw: bytes, origin: Target | None) -> Entry:
        try:
            facts = _read_facts(raw)
        except ValueError as error:
            raise UnreadableInput(f"{self._name}: an event cannot be read: {error}") from error
        compartment = facts.details.compartment_id or ""
        if origin is not None:
            compartment = origin.compartment
        elif b'"compartmentid"' in raw:
            compartment = _read_log_compartment(raw) or compartment
        return Entry(
            self._is_b,
            facts.event_id or "",
            facts.instant // _MILLISECOND,
            facts.event_type or "",
            facts.request.id or "",
            origin.region if origin is not None else "",
            compartment,
            hashlib.blake2b(raw, digest_size=_HASH_BYTES).digest(),
        )


class _Log(msgspec.Struct):
    compartmentid: str | None = None


class _Delivered(msgspec.Struct):
    oracle: _Log | None = None


_decode_delivered = msgspec.json.Decoder(_Delivered).decode


def _read_log_compartment(raw: bytes) -> str | None:
    """Return the compartment of the log that a connector delivered."""
    try:
        log = _decode_delivered(raw).oracle
    except (msgspec.MsgspecError, RecursionError):
        return None
    return log.compartmentid if log is not None else None


class _Matcher:
    """Matches groups of entries, and counts."""

    def __init__(self, found: Reconciliation, sides: tuple[_Side, _Side]) -> None:
        self._found = found
        self._sides = sides
        self._matched: Counter[Row] = Counter()

    def match_ids(self, group: Iterator[Entry]) -> Iterator[Entry]:
        """Match the entries of one id, and yield one of those that only one side has; those without an id, all."""
        firsts: list[Entry | None] = [None, None]
        copies = [0, 0]
        records: set[bytes] = set()
        for entry in group:
            if not entry.event_id:
                yield entry
                continue
            copies[entry.is_b] += 1
            firsts[entry.is_b] = firsts[entry.is_b] or entry
            if entry.is_b and len(records) < _MAX_RECORDS:
                records.add(entry.record)
        a, b = firsts
        self._found.conflicting_ids += len(records) > 1
        matched = max(1, min(copies[0], len(records)))
        self._found.b.doubled += max(0, copies[1] - matched)
        if a is not None and b is not None:
            self._found.matched_by_id += matched
            for _ in range(matched):
                self._count_match(b)
            self._count_doubled(a, copies[0] - matched, b)
        elif a is not None:
            self._count_doubled(a, copies[0] - 1, a)
            yield a
        elif b is not None:
            yield b

    def match_keys(self, group: Iterator[Entry]) -> None:
        """Match the entries of one time, type and request id."""
        waiting: list[Entry] = []
        matched = 0
        seen: tuple[set[bytes], set[bytes]] = (set(), set())
        for entry in group:  # those of A come first
            if not entry.event_id and entry.record in seen[entry.is_b]:
                if entry.is_b:
                    self._found.b.doubled += 1
                else:
                    self._count_doubled(entry, 1, entry)
                continue
            seen[entry.is_b].add(entry.record)
            if not entry.is_b:
                waiting.append(entry)
            elif waiting:
                waiting.pop()
                matched += 1
                self._found.matched_by_key += 1
                self._count_match(entry)
            else:
                self._count_only(entry)
        for entry in waiting:
            if matched and entry.request_id:  # delivered again under another id
                self._count_doubled(entry, 1, entry)
            else:
                self._count_only(entry)

    def finish(self) -> None:
        """Fill in what is known at the end."""
        found = self._found
        for row, counts in found.rows.items():
            counts.matched = self._matched[row]
        for examples in (found.lost_examples, found.surplus_examples, found.doubled_examples):
            examples.sort(key=lambda one: (one.instant, one.event_id))
        if found.matched_by_key and not found.matched_by_id:
            found.notes.append("no id of A is in B: all events were matched by time, type and request id")
        elif found.matched_by_key:
            found.notes.append(
                f"{format_count(found.matched_by_key, 'event')} without a common id matched by time, type and request"
            )
        if found.conflicting_ids:
            found.notes.append(
                f"{format_count(found.conflicting_ids, 'id')} with several different records in B; one of them in A "
                "counts as matched"
            )
        if found.b.doubled:
            records = format_count(found.b.doubled, "further record")
            found.notes.append(f"B itself holds {records} of events that are counted already")
        if found.left_out:
            found.notes.append(
                f"{format_count(found.left_out, 'event')} of further targets and days count in the totals only"
            )

    def _count_match(self, entry: Entry) -> None:
        self._found.totals.matched += 1
        if counts := _find_counts(self._found.days, entry.date):
            counts.matched += 1
        row = Row(entry.region, entry.compartment, entry.date)
        if row in self._matched or len(self._matched) < _MAX_ROWS:
            self._matched[row] += 1

    def _count_doubled(self, entry: Entry, copies: int, place: Entry) -> None:
        """Count further copies of an event of A, at the place where it belongs."""
        if copies <= 0:
            return
        if not self._sides[1].covers(place):
            self._found.a.not_comparable += copies
            return
        self._found.a.doubled += copies
        self._add(place, Counts(doubled=copies))
        _keep_example(self._found.doubled_examples, entry)

    def _count_only(self, entry: Entry) -> None:
        """Count an event that only one side has."""
        if not self._sides[not entry.is_b].covers(entry):
            (self._found.b if entry.is_b else self._found.a).not_comparable += 1
        elif entry.is_b:
            self._add(entry, Counts(lost=1))
            _keep_example(self._found.lost_examples, entry)
        else:
            self._add(entry, Counts(surplus=1))
            _keep_example(self._found.surplus_examples, entry)

    def _add(self, entry: Entry, difference: Counts) -> None:
        found = self._found
        found.totals.add(difference)
        row = Row(entry.region, entry.compartment, entry.date)
        if day := _find_counts(found.days, entry.date):
            day.add(difference)
        if counts := _find_counts(found.rows, row):
            counts.add(difference)
        else:
            found.left_out += difference.lost + difference.doubled + difference.surplus


def _find_counts(known: dict[K, Counts], key: K) -> Counts | None:
    """Return the counts of a key; None if there are too many others."""
    counts = known.get(key)
    if counts is None and len(known) < _MAX_ROWS:
        counts = known[key] = Counts()
    return counts


def _keep_example(examples: list[Entry], entry: Entry) -> None:
    if len(examples) < _EXAMPLES:
        examples.append(entry)


def _describe_scope(found: Reconciliation, sides: tuple[_Side, _Side], limits: ReconcileRange) -> None:
    """State what both cover, and what limits the comparison."""
    found.a.covers, found.b.covers = sides[0].describe(), sides[1].describe()
    ranges = [one for one in (side.find_range() for side in sides) if one is not None]
    starts = [one.start for one in ranges] + ([limits.start] if limits.start is not None else [])
    ends = [one.end for one in ranges] + ([limits.end] if limits.end is not None else [])
    found.start = format_minute(max(starts)) if starts else None
    found.end = format_minute(min(ends)) if ends else None
    if starts and ends and max(starts) >= min(ends):
        found.end = found.start
        found.notes.append("the two have no time in common: nothing can be compared")
    for name, side in zip("AB", sides, strict=True):
        if side.facts.statement is not None:
            found.notes.append(f"{name}: {'; '.join(side.facts.words)}")
        if side.filter is not None:
            found.notes.append(f"{name} is filtered; what its filter omits is not comparable")
        if side.facts.verdict.kind is VerdictKind.ALTERED:
            found.notes.append(f"{name} is not the file of its manifest")


_encode_entry = msgspec.msgpack.Encoder().encode
_decode_entry = msgspec.msgpack.Decoder(Entry).decode


def _encode_by_id(entry: Entry) -> bytes:
    """Return an entry that sorts by id; entries without one sort by time, type and request id."""
    key = encode_order(0, entry.event_id) if entry.event_id else _make_key(entry)
    return _join(key, entry)


def _encode_by_key(entry: Entry) -> bytes:
    return _join(_make_key(entry), entry)


def _make_key(entry: Entry) -> bytes:
    """Return what identifies an event without its id; its first byte differs from that of a key with an id."""
    return b"\xff" + encode_order(entry.instant, f"{entry.event_type.lower()}\n{entry.request_id}")


def _join(key: bytes, entry: Entry) -> bytes:
    return len(key).to_bytes(4, "big") + key + _encode_entry(entry)


def _split(encoded: bytes) -> tuple[bytes, Entry]:
    end = 4 + int.from_bytes(encoded[:4], "big")
    return encoded[4:end], _decode_entry(memoryview(encoded)[end:])


def _group(encoded: Iterable[bytes]) -> Iterator[Iterator[Entry]]:
    """Yield the entries of each key; those of A come first."""
    for _, group in groupby(map(_split, encoded), key=itemgetter(0)):
        yield (entry for _, entry in group)
