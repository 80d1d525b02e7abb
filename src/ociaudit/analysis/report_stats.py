"""The statistics of a report: what the summary counts, plus what only the report's page shows.

`ReportStats` passes each batch to `EventStats` and adds what the page needs beyond it: finer times, failed changes
to IAM, the names of compartments, and the events of the table. `TimeBins` counts events by time in bins that widen
as the range grows. `EventSample` keeps the events of the table: all of them, or a sample.

Invariants
- Memory is bounded, and what is cut off is counted. `TimeBins` holds at most `_MOST_BINS` bins plus those of one
  batch, whatever times the events claim; `EventSample` holds a few thousand events.
- Every event with a time is in exactly one bin; bins are only ever merged with their neighbours.
- Whatever the summary counts as well comes from `EventStats`, so that both report the same numbers.
- A file that fits is kept whole. Otherwise the same events in any order give the same sample, because the selection
  is pseudo-random by a checksum of the event's id. Preferred are, in this order: events of a detection, changes to
  IAM and failed sign-ins, failures, rare event types, all others.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ociaudit.analysis.classification import ORDINARY, EventBatch, EventClass, read_batch
from ociaudit.analysis.stats import BoundedCounter, EventStats
from ociaudit.events.fields import NANOSECONDS, Facts, instant_of_minute
from ociaudit.formats.base import Record

EPOCH = instant_of_minute(0)
"""The instant of 1970-01-01T00:00Z."""
STEPS_SECONDS = (60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200, 31_449_600)
"""The widths of bins. Each is a multiple of the previous one, so that merged bins keep their borders."""
SERIES = ("success", "failure", "unknown")
MOST_EVENTS = 2_000
MOST_BYTES = 2_500_000
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
_DETECTED_SHARE, _NOTABLE_SHARE, _FAILURE_SHARE, _RARE_SHARE = 0.3, 0.5, 0.65, 0.8
"""How full the sample may be after each of these groups is added, in this order, if not everything fits."""
_SAMPLED_PER_TYPE = 2
_MOST_SAMPLED_TYPES = 2_000
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
        self._heaps: tuple[list[SampledEvent], ...] = ([], [], [], [])
        self._rare: dict[str | None, list[SampledEvent]] = {}
        self._count = 0

    def add(self, raws: Sequence[bytes], facts: Sequence[Facts], groups: Sequence[int]) -> None:
        """Add a batch of candidates, each of a group: NOTABLE, FAILURE, WATCHED or OTHER."""
        orders = [-zlib.crc32(one.event_id.encode()) if one.event_id else 0 for one in facts]
        heaps, rare = self._heaps, self._rare
        full = [heap[0].order if len(heap) == MOST_EVENTS else _ALWAYS for heap in heaps]
        enough = {name: kept[0].order for name, kept in rare.items() if len(kept) == _SAMPLED_PER_TYPE}
        for index, (one, group, order) in enumerate(zip(facts, groups, orders, strict=True)):
            if order <= full[group] and order <= enough.get(one.event_type, _ALWAYS):
                continue
            raw = raws[index] if len(raws[index]) <= LONGEST_EVENT_BYTES else b""
            event = SampledEvent(order, self._count + index, raw, one)
            _push_bounded(heaps[group], event, MOST_EVENTS)
            if one.event_type in rare or len(rare) < _MOST_SAMPLED_TYPES:
                _push_bounded(rare.setdefault(one.event_type, []), event, _SAMPLED_PER_TYPE)
        self._count += len(facts)

    def choose(self, type_counts: Mapping[str, int], is_detected: Callable[[Facts], bool]) -> list[SampledEvent]:
        """Return the sample in the order of the file.

        `type_counts` decides which types are rare, `is_detected` which events belong to a detection.
        """
        notable, failures, watched, others = (sorted(heap, reverse=True) for heap in self._heaps)
        detected = [each for each in (*notable, *failures, *watched) if is_detected(each.facts)]
        rare = sorted((type_counts.get(name or "", 0), each) for name, kept in self._rare.items() for each in kept)
        stages: tuple[tuple[Sequence[SampledEvent], float], ...] = (
            (detected, _DETECTED_SHARE),
            (notable, _NOTABLE_SHARE),
            (failures, _FAILURE_SHARE),
            ([each for _, each in rare], _RARE_SHARE),
            (sorted([*watched, *others], reverse=True), 1.0),
            (detected, 1.0),
            (notable, 1.0),
            (failures, 1.0),
        )
        chosen: dict[int, SampledEvent] = {}
        used = 0
        for candidates, share in stages:
            for each in candidates:
                if each.number in chosen:
                    continue
                size = len(each.raw)
                if len(chosen) >= MOST_EVENTS * share or used + size > MOST_BYTES * share:
                    break
                chosen[each.number] = each
                used += size
        return [chosen[number] for number in sorted(chosen)]


def _push_bounded(heap: list[SampledEvent], event: SampledEvent, most: int) -> None:
    """Keep the `most` events of highest order in a heap."""
    if len(heap) < most:
        heapq.heappush(heap, event)
    elif event.order > heap[0].order:
        heapq.heapreplace(heap, event)


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
        self._add_to_sample(batch, event_classes)

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

    def _add_to_sample(self, batch: EventBatch, event_classes: Sequence[EventClass]) -> None:
        watched_pairs = self.stats.tracker.watched
        watched = {index for pair, index in batch.pairs if pair in watched_pairs} if watched_pairs else ()
        groups = [FAILURE if outcome == "failure" else OTHER for outcome in batch.outcomes]
        for index in watched:
            if groups[index] == OTHER:
                groups[index] = WATCHED
        for index, event_class in enumerate(event_classes):
            if event_class is not ORDINARY and (
                event_class.is_iam_change or (event_class.is_sign_in and groups[index] == FAILURE)
            ):
                groups[index] = NOTABLE
        self.sample.add(batch.raws, batch.facts, groups)

    def _name_compartment(self, compartment: str, name: str | None) -> None:
        if name and len(self.compartment_names) < _MOST_COMPARTMENTS and len(compartment) <= _LONGEST_NAME:
            self.compartment_names[compartment] = name[:_LONGEST_NAME]
