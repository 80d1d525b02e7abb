"""Events counted by time, in memory that does not grow with the range.

Owns: the bins, and how wide they are. Must not: read an event.

Invariants
- Every event with a time is in exactly one bin; a bin is only ever merged with its neighbours.
- No more bins are held than `_MOST_BINS` and what a batch adds, whatever times the events claim to have.

The events of a report's table: all of them, or a sample that prefers what people look for.

Owns: which events are kept while a file streams by. Must not: hold more than a few thousand of them.

Invariants
- A file that fits is kept whole.
- The same events in any order give the same sample: chance is a checksum of the event's id.
- What is preferred, in this order: what belongs to something worth a look, changes to IAM and failed sign-ins,
  failures, types that occur seldom, the rest.

One pass over the events of a report: the census, and what only a report needs.

Owns: the finer times, the sample for the table, changes to IAM that failed too, and names of compartments.
Must not: read files, hold all events, or judge what is worth a look.

Invariants
- Memory is bounded, and what is cut off is counted.
- Whatever the summary counts as well is counted by the census, so that both say the same.
"""

from __future__ import annotations

import heapq
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import msgspec

from ociaudit.analysis.classification import ORDINARY as COMMON
from ociaudit.analysis.classification import EventBatch, EventClass, read_batch
from ociaudit.analysis.stats import BoundedCounter, EventStats
from ociaudit.events.fields import NANOSECONDS, Facts, instant_of_minute
from ociaudit.formats.base import Record

EPOCH = instant_of_minute(0)
STEPS_SECONDS = (60, 300, 900, 3_600, 10_800, 21_600, 43_200, 86_400, 604_800, 2_419_200, 31_449_600)
"""Each is a multiple of the one before it, so that merged bins keep their borders."""
SERIES = ("success", "failure", "unknown")
_INDEX = {name: number for number, name in enumerate(SERIES)}
_MOST_BINS = 4_096
_MOST_SHOWN = 400
_OUTLIER_SHARE = 0.001
_OUTLIER_DISTANCE_SECONDS = 30 * 86_400


class Series(msgspec.Struct, frozen=True):
    """Counts in equal steps from `start` on, seconds since 1970; `outside` events lie before or behind."""

    start: int
    step: int
    success: tuple[int, ...]
    failure: tuple[int, ...]
    unknown: tuple[int, ...]
    outside: int


class TimeBins:
    """Counts per bin and outcome."""

    def __init__(self) -> None:
        """Begin with bins of a minute."""
        self._level = 0
        self._width = STEPS_SECONDS[0] * NANOSECONDS
        self._bins: dict[int, list[int]] = {}

    def add(self, instants: Iterable[int], outcomes: Iterable[str]) -> None:
        """Count events; one without a time is left out."""
        width = self._width
        pairs = zip(instants, outcomes, strict=True)
        counted = Counter([((instant - EPOCH) // width, outcome) for instant, outcome in pairs if instant])
        for (key, outcome), number in counted.items():
            counts = self._bins.get(key)
            if counts is None:
                counts = self._bins[key] = [0] * len(SERIES)
            counts[_INDEX[outcome]] += number
        while len(self._bins) > _MOST_BINS:
            self._widen(self._level + 1)

    def find_range(self) -> tuple[int, int] | None:
        """Return (first, end) in seconds since 1970, without the few events whose time is far from all others."""
        keys = sorted(self._bins)
        if not keys:
            return None
        step = STEPS_SECONDS[self._level]
        allowed = sum(map(sum, self._bins.values())) * _OUTLIER_SHARE
        first = _skip_outliers([(key, sum(self._bins[key])) for key in keys], allowed, step)
        last = _skip_outliers([(-key, sum(self._bins[key])) for key in reversed(keys)], allowed, step)
        return first * step, (1 - last) * step

    def show(self, start: int, end: int) -> Series:
        """Return the bins of a range, seconds since 1970, as many as a screen can show."""
        level = next(
            (
                number
                for number, step in enumerate(STEPS_SECONDS)
                if number >= self._level and -(-end // step) - start // step <= _MOST_SHOWN
            ),
            len(STEPS_SECONDS) - 1,
        )
        shown = TimeBins()
        shown._level, shown._bins = self._level, {key: list(counts) for key, counts in self._bins.items()}
        shown._widen(level)
        step = STEPS_SECONDS[level]
        first, last = start // step, -(-end // step)
        columns = success, failure, unknown = [[0] * max(1, last - first) for _ in SERIES]
        outside = 0
        for key, counts in shown._bins.items():
            if not first <= key < last:
                outside += sum(counts)
                continue
            for column, count in zip(columns, counts, strict=True):
                column[key - first] = count
        return Series(first * step, step, tuple(success), tuple(failure), tuple(unknown), outside)

    def _widen(self, level: int) -> None:
        factor = STEPS_SECONDS[level] // STEPS_SECONDS[self._level]
        merged: dict[int, list[int]] = {}
        for key, counts in self._bins.items():
            into = merged.setdefault(key // factor, [0] * len(SERIES))
            for number, count in enumerate(counts):
                into[number] += count
        self._level, self._bins = level, merged
        self._width = STEPS_SECONDS[level] * NANOSECONDS


def _skip_outliers(bins: Sequence[tuple[int, int]], allowed: float, step: int) -> int:
    """Return the first key that is no outlier: few events before it, and a long time without any."""
    skipped = 0
    first = bins[0][0]
    for (key, count), (following, _) in pairwise(bins):
        skipped += count
        if skipped > allowed:
            break
        if (following - key) * step > _OUTLIER_DISTANCE_SECONDS:
            first = following
    return first


MOST_EVENTS = 2_000
MOST_BYTES = 2_500_000
LONGEST_EVENT_BYTES = 65_536
"""A longer event is listed without its JSON."""
NOTABLE, FAILURE, FOLLOWED, ORDINARY = range(4)
"""A FOLLOWED event is of somebody who has done something special; it counts when that turns out to be a story."""
_TOLD_SHARE, _NOTABLE_SHARE, _FAILURE_SHARE, _RARE_SHARE = 0.3, 0.5, 0.65, 0.8
"""Up to which part of the room each may fill it, in this order, when there is too much."""
_PER_TYPE = 2
_MOST_SAMPLED_TYPES = 2_000
_ALWAYS = -(1 << 32)


class Kept(NamedTuple):
    """An event in the sample; `order` is its chance, `number` its place in the file."""

    order: int
    number: int
    raw: bytes
    facts: Facts


class EventSample:
    """Keeps events as they come, and chooses at the end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._heaps: tuple[list[Kept], ...] = ([], [], [], [])
        self._rare: dict[str | None, list[Kept]] = {}
        self._count = 0

    def add(self, raws: Sequence[bytes], facts: Sequence[Facts], ranks: Sequence[int]) -> None:
        """Offer events, each of a rank: NOTABLE, FAILURE, FOLLOWED or ORDINARY."""
        orders = [-zlib.crc32(one.event_id.encode()) if one.event_id else 0 for one in facts]
        heaps, rare = self._heaps, self._rare
        full = [heap[0].order if len(heap) == MOST_EVENTS else _ALWAYS for heap in heaps]
        enough = {name: kept[0].order for name, kept in rare.items() if len(kept) == _PER_TYPE}
        for index, (one, rank, order) in enumerate(zip(facts, ranks, orders, strict=True)):
            if order <= full[rank] and order <= enough.get(one.event_type, _ALWAYS):
                continue
            kept = Kept(order, self._count + index, _cut(raws[index]), one)
            _keep_best(heaps[rank], kept, MOST_EVENTS)
            if one.event_type in rare or len(rare) < _MOST_SAMPLED_TYPES:
                _keep_best(rare.setdefault(one.event_type, []), kept, _PER_TYPE)
        self._count += len(facts)

    def choose(self, type_counts: Mapping[str, int], is_reported: Callable[[Facts], bool]) -> list[Kept]:
        """Return the sample in the file's order; `type_counts` tell which types are rare."""
        notable, failures, followed, ordinary = (sorted(heap, reverse=True) for heap in self._heaps)
        told = [each for each in (*notable, *failures, *followed) if is_reported(each.facts)]
        rare = sorted((type_counts.get(name or "", 0), each) for name, kept in self._rare.items() for each in kept)
        stages: tuple[tuple[Sequence[Kept], float], ...] = (
            (told, _TOLD_SHARE),
            (notable, _NOTABLE_SHARE),
            (failures, _FAILURE_SHARE),
            ([each for _, each in rare], _RARE_SHARE),
            (sorted([*followed, *ordinary], reverse=True), 1.0),
            (told, 1.0),
            (notable, 1.0),
            (failures, 1.0),
        )
        chosen: dict[int, Kept] = {}
        used = 0
        for candidates, share in stages:
            for each in _skip_known(candidates, chosen):
                size = len(each.raw)
                if len(chosen) >= MOST_EVENTS * share or used + size > MOST_BYTES * share:
                    break
                chosen[each.number] = each
                used += size
        return [chosen[number] for number in sorted(chosen)]


def _keep_best(heap: list[Kept], kept: Kept, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, kept)
    elif kept.order > heap[0].order:
        heapq.heapreplace(heap, kept)


def _skip_known(candidates: Sequence[Kept], chosen: dict[int, Kept]) -> Iterator[Kept]:
    return (each for each in candidates if each.number not in chosen)


def _cut(raw: bytes) -> bytes:
    return raw if len(raw) <= LONGEST_EVENT_BYTES else b""


MOST_CHANGES = 1_000
_MOST_TYPES = 20_000
_MOST_COMPARTMENTS = 20_000
_LONGEST_NAME = 200


class LatestChange(NamedTuple):
    """An identity change; `instant` first, so that they sort by time."""

    instant: int
    number: int
    facts: Facts


class ReportStats:
    """The counts of a report."""

    def __init__(self) -> None:
        """Begin with nothing."""
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
        """How many events have neither a time nor a type."""
        return self.stats.untyped

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
        batch = read_batch(raws)
        before = self.stats.events
        event_classes = self.stats.add_batch(batch)
        self.times.add(batch.instants, batch.outcomes)
        self._add_special(batch, event_classes, before)
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
        self._offer(batch, event_classes)

    def _add_special(self, batch: EventBatch, event_classes: Sequence[EventClass], before: int) -> None:
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

    def _offer(self, batch: EventBatch, event_classes: Sequence[EventClass]) -> None:
        """Offer each event to the sample."""
        watched = self.stats.following.watched
        followed = {index for pair, index in batch.pairs if pair in watched} if watched else ()
        ranks = [FAILURE if outcome == "failure" else ORDINARY for outcome in batch.outcomes]
        for index in followed:
            if ranks[index] == ORDINARY:
                ranks[index] = FOLLOWED
        for index, event_class in enumerate(event_classes):
            if event_class is not COMMON and (
                event_class.is_iam_change or (event_class.is_sign_in and ranks[index] == FAILURE)
            ):
                ranks[index] = NOTABLE
        self.sample.add(batch.raws, batch.facts, ranks)

    def _name_compartment(self, compartment: str, name: str | None) -> None:
        if name and len(self.compartment_names) < _MOST_COMPARTMENTS and len(compartment) <= _LONGEST_NAME:
            self.compartment_names[compartment] = name[:_LONGEST_NAME]
