"""Events counted by time, in memory that does not grow with the range.

Owns: the bins, and how wide they are. Must not: read an event.

Invariants
- Every event with a time is in exactly one bin; a bin is only ever merged with its neighbours.
- No more bins are held than `_MOST_BINS` and what a batch adds, whatever times the events claim to have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise

import msgspec

from ociaudit.events.fields import NANOSECONDS, instant_of_minute

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
