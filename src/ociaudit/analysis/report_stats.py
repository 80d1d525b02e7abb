"""The statistics of a report: what the summary counts, plus what only the report's page shows.

`ReportStats` passes each batch to `EventStats` and adds what the page needs beyond it: finer times, failed changes
to IAM, the names of compartments, and the events of the table. `TimeBins` counts events by time in bins that widen
as the range grows. `EventSample` keeps the events of the table: all of them, or a sample. `FindingReserve` keeps
events of each principal and address, so that those of a finding can be in the table whatever else is in the file.

Invariants
- Memory is bounded, and what is cut off is counted. `TimeBins` holds at most `_MOST_BINS` bins plus those of one
  batch, whatever times the events claim; `EventSample` and `FindingReserve` hold a fixed number of bytes.
- Every event with a time is in exactly one bin; bins are only ever merged with their neighbours.
- Whatever the summary counts as well comes from `EventStats`, so that both report the same numbers.
- A file that fits is kept whole. Otherwise the selection is pseudo-random by a checksum of the event's id, not by its
  place in the file. First come the events of findings, in up to half of the table; then changes to IAM, to monitoring
  and failed sign-ins; then failures; then rare event types; then all others.
- A finding that is small enough has all of its events in the table; several share the room, the smallest first.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ociaudit.analysis.activity import ORDINARY, ActivityTracker, EventBatch, EventClass, Pair, read_batch
from ociaudit.analysis.stats import BoundedCounter, EventStats
from ociaudit.events.fields import NANOSECONDS, Facts, instant_of_minute, read_facts
from ociaudit.formats.base import Record

EPOCH = instant_of_minute(0)
"""The instant of 1970-01-01T00:00Z."""
STEPS_SECONDS = (60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200, 31_449_600)
"""The widths of bins. Each is a multiple of the previous one, so that merged bins keep their borders."""
SERIES = ("success", "failure", "unknown")
MOST_EVENTS = 2_000
MOST_BYTES = 3_200_000
"""What the JSON of these events may take in the page."""
MOST_RESERVED_BYTES = 24_000_000
"""What the events that are kept in case they belong to a finding may take in memory."""
LONGEST_EVENT_BYTES = 65_536
"""A longer event is listed without its JSON."""
NOTABLE, FAILURE, WATCHED, OTHER = range(4)
"""The groups of events. A WATCHED event belongs to a watched pair, which may turn out to be a detection."""
MOST_CHANGES = 1_000
_SERIES_INDEX = {name: number for number, name in enumerate(SERIES)}
_MOST_BINS = 4_096
_MOST_SHOWN = 400
_OUTLIER_SHARE = 0.001
_OUTLIER_DISTANCE_SECONDS = 30 * 86_400
_FINDINGS_BYTES_SHARE = 0.7
_FINDINGS_SHARE, _NOTABLE_SHARE, _FAILURE_SHARE, _RARE_SHARE = 0.5, 0.65, 0.75, 0.85
"""How full the sample may be after each of these groups is added, in this order, if not everything fits."""
_SAMPLED_PER_TYPE = 2
_MOST_SAMPLED_TYPES = 2_000
_MOST_RARE_BYTES = 8_000_000
_MOST_RESERVED_PER_PAIR = int(MOST_EVENTS * _FINDINGS_SHARE)
_RESERVED_OVERHEAD_BYTES = 300
_KEPT_AFTER_TRIM = 0.8
_ORDINARY, _FAILING, _WATCHED = range(3)
_RESERVE_LIMITS: tuple[tuple[int, int, int], ...] = (
    *((most // 8, most // 2, most) for most in (8_000, 4_000, 2_000, *range(1_000, 256, -64))),
    *((32 >> shift, 128 >> shift, 256) for shift in range(9)),
    *((0, 0, 256 >> shift) for shift in range(1, 10)),
)
"""How many events a pair of each rank may keep, at most 1,000, from an empty reserve to one of very many pairs."""
_BAND = 1 << 32
_BANDS = (2 * _BAND, _BAND, 0, 0)
"""What is added to the order of an event of each group: NOTABLE events exceed failures, and these all others."""
_ALWAYS = -(1 << 32)
_MOST_TYPES = 20_000
_MOST_COMPARTMENTS = 20_000
_LONGEST_NAME = 200


class Series(msgspec.Struct, frozen=True):
    """Counts in bins of `step` seconds from `start` (seconds since 1970); `outside` counts all other events."""

    start: int
    step: int
    success: tuple[int, ...]
    failure: tuple[int, ...]
    unknown: tuple[int, ...]
    outside: int


class TimeBins:
    """Counts of events by time and outcome."""

    def __init__(self) -> None:
        """Start with bins of one minute."""
        self._level = 0
        self._width = STEPS_SECONDS[0] * NANOSECONDS
        self._bins: dict[int, list[int]] = {}

    def add(self, instants: Iterable[int], outcomes: Iterable[str]) -> None:
        """Count events; those without a time are skipped."""
        width = self._width
        pairs = zip(instants, outcomes, strict=True)
        counted = Counter([((instant - EPOCH) // width, outcome) for instant, outcome in pairs if instant])
        for (key, outcome), number in counted.items():
            counts = self._bins.get(key)
            if counts is None:
                counts = self._bins[key] = [0] * len(SERIES)
            counts[_SERIES_INDEX[outcome]] += number
        while len(self._bins) > _MOST_BINS:
            self._widen(self._level + 1)

    def find_range(self) -> tuple[int, int] | None:
        """Return (start, end) in seconds since 1970, without the few events whose time is far from all others.

        None if no event has a time.
        """
        keys = sorted(self._bins)
        if not keys:
            return None
        step = STEPS_SECONDS[self._level]
        allowed = sum(map(sum, self._bins.values())) * _OUTLIER_SHARE
        first = _skip_outliers([(key, sum(self._bins[key])) for key in keys], allowed, step)
        last = _skip_outliers([(-key, sum(self._bins[key])) for key in reversed(keys)], allowed, step)
        return first * step, (1 - last) * step

    def make_series(self, start: int, end: int) -> Series:
        """Return the counts of a range, in seconds since 1970, in at most 400 bins or else in the widest bins."""
        level = next(
            (
                number
                for number, step in enumerate(STEPS_SECONDS)
                if number >= self._level and -(-end // step) - start // step <= _MOST_SHOWN
            ),
            len(STEPS_SECONDS) - 1,
        )
        step = STEPS_SECONDS[level]
        first, last = start // step, -(-end // step)
        columns = success, failure, unknown = [[0] * max(1, last - first) for _ in SERIES]
        outside = 0
        for key, counts in self._merge_bins(level).items():
            if not first <= key < last:
                outside += sum(counts)
                continue
            for column, count in zip(columns, counts, strict=True):
                column[key - first] = count
        return Series(first * step, step, tuple(success), tuple(failure), tuple(unknown), outside)

    def _widen(self, level: int) -> None:
        self._level, self._bins = level, self._merge_bins(level)
        self._width = STEPS_SECONDS[level] * NANOSECONDS

    def _merge_bins(self, level: int) -> dict[int, list[int]]:
        """Return the bins as bins of a level that is at least as wide."""
        factor = STEPS_SECONDS[level] // STEPS_SECONDS[self._level]
        merged: dict[int, list[int]] = {}
        for key, counts in self._bins.items():
            total = merged.setdefault(key // factor, [0] * len(SERIES))
            for number, count in enumerate(counts):
                total[number] += count
        return merged


def _skip_outliers(bins: Sequence[tuple[int, int]], allowed: float, step: int) -> int:
    """Return the first key that is not an outlier; outliers are few and far before all other events."""
    skipped = 0
    first = bins[0][0]
    for (key, count), (following, _) in pairwise(bins):
        skipped += count
        if skipped > allowed:
            break
        if (following - key) * step > _OUTLIER_DISTANCE_SECONDS:
            first = following
    return first


class SampledEvent(NamedTuple):
    """An event in the sample; `order` is its pseudo-random sort key, `number` its position in the file."""

    order: int
    number: int
    raw: bytes
    facts: Facts


class EventSample:
    """A sample of the events of a file: candidates are kept while it is read, and chosen from at the end."""

    def __init__(self) -> None:
        """Start empty."""
        self._heaps: tuple[BoundedHeap, ...] = tuple(BoundedHeap(MOST_EVENTS, MOST_BYTES) for _ in range(4))
        self._rare: dict[str | None, BoundedHeap] = {}
        self._rare_bytes = 0
        self._enough: dict[str | None, int] = {}
        """Event type -> the order that an event of it must exceed, for types of which there are enough."""
        self._count = 0

    def add(self, raws: Sequence[bytes], facts: Sequence[Facts], groups: Sequence[int]) -> list[int]:
        """Add a batch of candidates, each of a group, and return their sort keys.

        The groups are NOTABLE, FAILURE, WATCHED and OTHER.
        """
        orders = [-zlib.crc32(one.event_id.encode()) if one.event_id else 0 for one in facts]
        heaps, enough = self._heaps, self._enough
        full = [heap.threshold for heap in heaps]
        for index, (one, group, order) in enumerate(zip(facts, groups, orders, strict=True)):
            if order <= full[group] and order <= enough.get(one.event_type, _ALWAYS):
                continue
            raw = raws[index] if len(raws[index]) <= LONGEST_EVENT_BYTES else b""
            event = SampledEvent(order, self._count + index, raw, one)
            heaps[group].push(event)
            self._push_rare(one.event_type, event)
        self._count += len(facts)
        return orders

    @property
    def held_bytes(self) -> int:
        """Return the bytes of all candidates."""
        return sum(heap.size_bytes for heap in self._heaps) + self._rare_bytes

    def _push_rare(self, event_type: str | None, event: SampledEvent) -> None:
        """Keep a few events of each type, as long as there is room."""
        kept = self._rare.get(event_type)
        if self._rare_bytes + len(event.raw) > _MOST_RARE_BYTES or (
            not kept and len(self._rare) >= _MOST_SAMPLED_TYPES
        ):
            return
        if kept is None:
            kept = self._rare[event_type] = BoundedHeap(_SAMPLED_PER_TYPE, MOST_BYTES)
        before = kept.size_bytes
        kept.push(event)
        self._rare_bytes += kept.size_bytes - before
        if kept.is_full:
            self._enough[event_type] = kept.threshold

    def choose(self, type_counts: Mapping[str, int], findings: Sequence[Sequence[SampledEvent]]) -> list[SampledEvent]:
        """Return the sample in the order of the file.

        `type_counts` decides which types are rare; `findings` are the reserved events of each finding, the most
        important first.
        """
        notable, failures, watched, others = (sorted(heap.events, reverse=True) for heap in self._heaps)
        rare = sorted(
            (type_counts.get(name or "", 0), each) for name, kept in self._rare.items() for each in kept.events
        )
        stages: tuple[tuple[Sequence[SampledEvent], float], ...] = (
            (notable, _NOTABLE_SHARE),
            (failures, _FAILURE_SHARE),
            ([each for _, each in sorted(rare)], _RARE_SHARE),
            (sorted([*watched, *others], reverse=True), 1.0),
            (notable, 1.0),
            (failures, 1.0),
        )
        chosen = _choose_from_findings(findings)
        used = sum(_measure(each.raw) for each in chosen.values())
        for candidates, share in stages:
            for each in candidates:
                if each.number in chosen:
                    continue
                size = _measure(each.raw)
                if len(chosen) >= MOST_EVENTS * share or used + size > MOST_BYTES * share:
                    break
                chosen[each.number] = each
                used += size
        return [chosen[number] for number in sorted(chosen)]


def _measure(raw: bytes) -> int:
    """Return the bytes that the JSON of an event takes in the page, where it is a text in JSON."""
    return len(raw) + sum(map(raw.count, (b'"', b"\\"))) + 5 * sum(map(raw.count, (b"<", b">", b"&")))


def _choose_from_findings(findings: Sequence[Sequence[SampledEvent]]) -> dict[int, SampledEvent]:
    """Return the events of findings that fit into their share of the table, by their numbers.

    The smallest finding is served first and each may take an equal part of what is left, so that a large one does not
    crowd out a small one. Where their bytes do not fit, the most important events keep their JSON and the others are
    rows without it. An event of several findings takes its place once.
    """
    chosen: dict[int, SampledEvent] = {}
    events, room = int(MOST_EVENTS * _FINDINGS_SHARE), MOST_BYTES * _FINDINGS_BYTES_SHARE
    for served, finding in enumerate(sorted(findings, key=len)):
        most = [each for each in finding if each.number not in chosen][: events // (len(findings) - served)]
        most_bytes = room / (len(findings) - served)
        events -= len(most)
        for each in most:
            size = _measure(each.raw)
            has_room = size <= most_bytes
            chosen[each.number] = each if has_room else each._replace(raw=b"")
            most_bytes, room = (most_bytes - size, room - size) if has_room else (most_bytes, room)
    return chosen


class BoundedHeap:
    """The events of highest order, at most a number of them and at most a number of bytes."""

    __slots__ = ("_most", "_most_bytes", "events", "size_bytes")

    def __init__(self, most: int, most_bytes: int) -> None:
        """Start empty."""
        self.events: list[SampledEvent] = []
        self.size_bytes = 0
        self._most = most
        self._most_bytes = most_bytes

    @property
    def is_full(self) -> bool:
        """Return whether an event can only replace another one."""
        return len(self.events) >= self._most or self.size_bytes >= self._most_bytes

    @property
    def threshold(self) -> int:
        """Return the order that an event must exceed to be kept."""
        return self.events[0].order if self.is_full else _ALWAYS

    def push(self, event: SampledEvent) -> None:
        """Keep an event if its order is high enough; events beyond the limits go, the lowest order first."""
        if event.order <= self.threshold:
            return
        heapq.heappush(self.events, event)
        self.size_bytes += len(event.raw)
        while len(self.events) > self._most or self.size_bytes - len(self.events[0].raw) >= self._most_bytes:
            self.size_bytes -= len(heapq.heappop(self.events).raw)


_Reserved = tuple[int, int, bytes, Facts | None, int]
"""(key, number, raw, facts, size) of a reserved event; facts only where it is too long for raw. A plain tuple: many."""


class _PairReserve:
    """The reserved events of one pair: a heap of at most `most` events."""

    __slots__ = ("events", "most")

    def __init__(self, most: int) -> None:
        self.events: list[_Reserved] = []
        self.most = most

    @property
    def floor(self) -> int:
        """Return the key that an event must exceed to be kept."""
        return self.events[0][0] if len(self.events) >= self.most else _ALWAYS

    def cut(self) -> int:
        """Keep the events of the highest keys, at most `most`, and return the bytes that this frees."""
        ordered = sorted(self.events)
        first = len(ordered) - self.most
        self.events = ordered[first:]  # ascending order is a heap
        return sum(size for *_, size in ordered[:first])


class FindingReserve:
    """Events of each (principal, address), from which the events of findings are taken at the end.

    Which pairs are findings is known only when everything is read. Until then each pair keeps up to 1,000 events,
    changes and failed sign-ins first, then failures. When the reserve is full, the largest pairs give up most: all
    pairs of a rank are cut to the same number of events, ordinary ones to the fewest, watched ones to the most.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.size_bytes = 0
        self._pairs: dict[Pair, _PairReserve] = {}
        self._floors: dict[Pair, int] = {}
        """Pair -> its floor, so that most events are passed over with one look."""
        self._level = 0
        self._watched = 0
        self._is_reduced = False
        """Whether pairs that were watched before may have to be widened again."""
        self._dropped = 0

    def add(
        self, batch: EventBatch, groups: Sequence[int], orders: Sequence[int], stats: EventStats, first: int
    ) -> None:
        """Add a batch of events, which `stats` has counted; the first of them has the number `first`.

        `groups` and `orders` are as in `EventSample.add`.
        """
        self._widen(batch, stats.tracker)
        floors = self._floors
        unknown = _ALWAYS if self._limit(_ORDINARY) else _BAND  # without room for ordinary pairs, only NOTABLE events
        keys = [order + _BANDS[group] for order, group in zip(orders, groups, strict=True)]
        for pair, index in batch.pairs:
            if keys[index] > floors.get(pair, unknown):
                self._keep(pair, keys[index], first + index, batch.raws[index], batch.facts[index])
        if self._dropped != stats.tracker.dropped:
            self._dropped = stats.tracker.dropped
            self._forget(stats.tracker.activities)
        if self.size_bytes > MOST_RESERVED_BYTES:
            self._trim(stats)

    def _keep(self, pair: Pair, key: int, number: int, raw: bytes, facts: Facts) -> None:
        kept = self._pairs.get(pair)
        if kept is None or key > _BAND:
            most = max(kept.most if kept else 0, self._limit(_FAILING if key > _BAND else _ORDINARY))
            if not most:
                return
            kept = self._pairs.setdefault(pair, _PairReserve(most))
            kept.most = most
        size = len(raw) + _RESERVED_OVERHEAD_BYTES  # of a long event the facts remain, which can be as long
        event = (key, number, raw, None, size) if len(raw) <= LONGEST_EVENT_BYTES else (key, number, b"", facts, size)
        events = kept.events
        if len(events) < kept.most:
            heapq.heappush(events, event)
            self.size_bytes += size
        else:
            self.size_bytes += size - heapq.heappushpop(events, event)[4]
        self._floors[pair] = events[0][0] if len(events) >= kept.most else _ALWAYS

    def _widen(self, batch: EventBatch, tracker: ActivityTracker) -> None:
        """Let pairs that are watched from now on keep more events than others: they have events in this batch."""
        most = self._limit(_WATCHED)
        if len(tracker.watched) == self._watched or not most:
            return
        self._watched = len(tracker.watched)
        pairs = self._pairs
        wanted = tracker.watched if self._is_reduced else {pair for pair, _ in batch.pairs if pair in tracker.watched}
        self._is_reduced = False
        for pair in wanted:
            kept = pairs.get(pair)
            if kept is None:
                kept = pairs[pair] = _PairReserve(most)
            elif kept.most < most:
                kept.most = most
            else:
                continue
            self._floors[pair] = kept.floor

    def _forget(self, known: Collection[Pair]) -> None:
        """Give up the pairs that are no longer known."""
        self._is_reduced = True
        self._pairs = {pair: kept for pair, kept in self._pairs.items() if pair in known}
        self._floors = {pair: kept.floor for pair, kept in self._pairs.items()}
        self.size_bytes = sum(size for kept in self._pairs.values() for *_, size in kept.events)

    def _trim(self, stats: EventStats) -> None:
        """Give up events until there is room again; on the last level nothing is kept."""
        self._is_reduced = True
        ranks = _rank_pairs(self._pairs, stats)
        while self.size_bytes > MOST_RESERVED_BYTES * _KEPT_AFTER_TRIM:
            self._level = min(self._level + 1, len(_RESERVE_LIMITS) - 1)
            limits = [self._limit(rank) for rank in (_ORDINARY, _FAILING, _WATCHED)]
            for pair, kept in self._pairs.items():
                kept.most = limits[ranks[pair]]
                if len(kept.events) > kept.most:
                    self.size_bytes -= kept.cut()
        self._pairs = {pair: kept for pair, kept in self._pairs.items() if kept.events}
        self._floors = {pair: kept.floor for pair, kept in self._pairs.items()}

    def list_events(self, pairs: Iterable[Pair]) -> list[SampledEvent]:
        """Return the reserved events of some pairs, each once, the most important first."""
        found = {event[1]: event for pair in pairs if pair in self._pairs for event in self._pairs[pair].events}
        return [
            SampledEvent(key, number, raw, facts or read_facts(raw))
            for key, number, raw, facts, _ in sorted(found.values(), reverse=True)[:_MOST_RESERVED_PER_PAIR]
        ]

    def _limit(self, rank: int) -> int:
        """Return how many events a pair of this rank may keep."""
        return min(_MOST_RESERVED_PER_PAIR, _RESERVE_LIMITS[self._level][rank])


def _rank_pairs(pairs: Iterable[Pair], stats: EventStats) -> dict[Pair, int]:
    """Return how likely each pair is part of a finding."""
    tracker = stats.tracker
    credentials = (change for change in stats.changes if change.step.kind == "credential")
    owners = {tracker.names_by_id.get(one.step.resource_id or "") or one.principal for one in credentials}
    watched, activities = tracker.watched, tracker.activities
    ranks = {}
    for pair in pairs:
        activity = activities[pair]
        if pair in watched:
            ranks[pair] = _WATCHED
        elif (
            2 * activity.failures >= activity.events
            or pair[0] in owners
            or (activity.is_notable and activity.notable.failed_sign_ins)
        ):
            ranks[pair] = _FAILING
        else:
            ranks[pair] = _ORDINARY
    return ranks


class LatestChange(NamedTuple):
    """A change to IAM; `instant` comes first, so that changes sort by time."""

    instant: int
    number: int
    facts: Facts


class ReportStats:
    """The statistics of a report."""

    def __init__(self) -> None:
        """Start empty."""
        self.stats = EventStats()
        self.times = TimeBins()
        self.sign_ins = TimeBins()
        self.failed_types: BoundedCounter[str] = BoundedCounter(_MOST_TYPES)
        self.changes = 0
        self.failed_changes = 0
        self.latest_changes: list[LatestChange] = []
        self.compartment_names: dict[str, str] = {}
        self.sample = EventSample()
        self.reserve = FindingReserve()

    @property
    def untyped(self) -> int:
        """Number of events with neither a time nor a type: they may be in another shape."""
        return self.stats.untyped

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
        batch = read_batch(raws)
        before = self.stats.events
        event_classes = self.stats.add_batch(batch)
        self.times.add(batch.instants, batch.outcomes)
        self._add_notable(batch, event_classes, before)
        self.failed_types.add(
            [
                one.event_type
                for one, outcome in zip(batch.facts, batch.outcomes, strict=True)
                if outcome == "failure" and one.event_type
            ]
        )
        for data in batch.datas:
            if data.compartment_id and data.compartment_id not in self.compartment_names:
                self._name_compartment(data.compartment_id, data.compartment_name)
        self._add_to_sample(batch, event_classes, before)

    def _add_notable(self, batch: EventBatch, event_classes: Sequence[EventClass], before: int) -> None:
        """Count sign-ins and changes to IAM; `before` is the number of events before this batch."""
        sign_ins = [index for index, event_class in enumerate(event_classes) if event_class.is_sign_in]
        self.sign_ins.add([batch.instants[index] for index in sign_ins], [batch.outcomes[index] for index in sign_ins])
        for index, event_class in enumerate(event_classes):
            if not event_class.is_iam_change:
                continue
            self.changes += 1
            self.failed_changes += batch.outcomes[index] == "failure"
            change = LatestChange(batch.instants[index], before + index, batch.facts[index])
            if len(self.latest_changes) < MOST_CHANGES:
                heapq.heappush(self.latest_changes, change)
            else:
                heapq.heappushpop(self.latest_changes, change)

    def _add_to_sample(self, batch: EventBatch, event_classes: Sequence[EventClass], before: int) -> None:
        watched_pairs = self.stats.tracker.watched
        watched = {index for pair, index in batch.pairs if pair in watched_pairs} if watched_pairs else ()
        groups = [FAILURE if outcome == "failure" else OTHER for outcome in batch.outcomes]
        for index in watched:
            if groups[index] == OTHER:
                groups[index] = WATCHED
        for index, event_class in enumerate(event_classes):
            if event_class is not ORDINARY and (
                event_class.is_iam_change
                or event_class.kind == "monitoring"
                or (event_class.is_sign_in and groups[index] == FAILURE)
            ):
                groups[index] = NOTABLE
        orders = self.sample.add(batch.raws, batch.facts, groups)
        self.reserve.add(batch, groups, orders, self.stats, before)

    def _name_compartment(self, compartment: str, name: str | None) -> None:
        if name and len(self.compartment_names) < _MOST_COMPARTMENTS and len(compartment) <= _LONGEST_NAME:
            self.compartment_names[compartment] = name[:_LONGEST_NAME]
