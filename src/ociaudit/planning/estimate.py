"""The estimate of an export's size and duration, extrapolated from the first pages of a few sampled windows.

It chooses the windows to sample and does the arithmetic; requests are sent elsewhere.

Invariants
- The sample is spread over targets and time by a fixed rule: the same plan is sampled at the same windows.
- Root compartments are a part of their own, because sign-ins and identity events are recorded there. Each part has
  its own mean.
- An estimate only informs the user; coverage is never derived from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ociaudit.planning.shard import Shard, Target
from ociaudit.planning.window import Window

_ROOT_SHARE = 0.25
# Powers of the plastic number: multiples modulo 1 fill a square evenly, however many points are taken.
_STEPS = (0.7548776662466927, 0.5698402909980532)
_GOLDEN = 0.6180339887498949
_STANDARD_ERRORS = 2.0
_RULE_OF_THREE = 3.0
_SLICES_PER_WINDOW = 16
_SHORTEST_SPREAD_MINUTES = 0.01  # for pages whose events all have the same time


@dataclass(frozen=True, slots=True)
class ScopePart:
    """Targets similar enough for one mean, and the windows that each of them is fetched in."""

    targets: Sequence[Target]
    tiles: Sequence[Window]

    @property
    def count(self) -> int:
        """Return how many windows these targets have together."""
        return len(self.targets) * len(self.tiles)

    @property
    def minutes(self) -> int:
        """Return how many minutes these windows have together."""
        return len(self.targets) * sum(tile.minutes for tile in self.tiles)

    def choose(self, limit: int) -> Iterator[Shard]:
        """Yield at most `limit` different windows, spread over targets and time."""
        if self.count <= limit:
            yield from (Shard(target, tile) for target in self.targets for tile in self.tiles)
            return
        chosen: set[tuple[int, int]] = set()
        for step in range(self.count * len(_STEPS) * _SLICES_PER_WINDOW):
            if len(chosen) == limit:
                return
            sides = (len(self.targets), len(self.tiles))
            row, column = (int((0.5 + step * by) % 1.0 * side) for by, side in zip(_STEPS, sides, strict=True))
            if (row, column) not in chosen:
                chosen.add((row, column))
                yield Shard(self.targets[row], self.tiles[column])


@dataclass(frozen=True, slots=True)
class Probe:
    """The first page of a window: its size, and whether more pages follow.

    `spread_minutes` is the time that its events span, without the outermost ones, because late events stretch it.
    """

    shard: Shard
    events: int
    size_bytes: int
    seconds: float
    has_more: bool
    spread_minutes: float

    @property
    def covered_minutes(self) -> float:
        """Return how many minutes the page covers: the whole window, or the span of its events if more pages follow."""
        minutes: float = self.shard.window.minutes
        return max(_SHORTEST_SPREAD_MINUTES, min(self.spread_minutes, minutes)) if self.has_more else minutes

    @property
    def at_least(self) -> int:
        """Return the least number of events that the window can have."""
        return self.events + self.has_more


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled window: its first page and, if more pages follow it, the first pages of slices of the window."""

    first: Probe
    slices: tuple[Probe, ...] = ()

    @property
    def per_minute(self) -> float:
        """Return the events per minute over the minutes that the pages cover, so a burst weighs by its length."""
        probes = (self.first, *self.slices)
        return sum(probe.events for probe in probes) / sum(probe.covered_minutes for probe in probes)

    @property
    def events(self) -> float:
        """Return the estimated number of events in the window."""
        return max(self.first.at_least, self.per_minute * self.first.shard.window.minutes)

    @property
    def pages(self) -> float:
        """Return the estimated number of pages in the window."""
        if not self.first.has_more:
            return 1.0
        return max(2.0, math.ceil(self.events / max(1, self.first.events)))


@dataclass(frozen=True, slots=True)
class Amount:
    """An estimated quantity, and the range of two standard errors around it."""

    likely: float
    low: float
    high: float

    def scale(self, factor: float) -> Amount:
        """Return this amount with all three numbers multiplied by `factor`."""
        return Amount(self.likely * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """The estimated size and duration of an export.

    `unlike_share` is the share of windows that may be unlike every sampled one (at 95 % confidence).
    """

    events: Amount
    size_bytes: Amount
    requests: Amount
    seconds: Amount
    windows: int
    sampled: int
    dense: int
    unlike_share: float
    is_exact: bool
    seconds_per_request: float = 0.0


def divide_targets(targets: Sequence[Target], tiles: Sequence[Window], *, tenancy: str) -> tuple[ScopePart, ...]:
    """Return the root compartments and all others as parts, omitting a part without targets."""
    roots = [target for target in targets if target.compartment == tenancy]
    others = [target for target in targets if target.compartment != tenancy]
    return tuple(ScopePart(some, tiles) for some in (roots, others) if some)


def share_probes(parts: Sequence[ScopePart], limit: int) -> list[int]:
    """Return how many windows to sample in each part: a quarter in the root compartments, the rest elsewhere."""
    if len(parts) == 1:
        return [min(limit, parts[0].count)]
    roots = min(parts[0].count, max(1, round(limit * _ROOT_SHARE), limit - parts[1].count))
    return [roots, min(parts[1].count, limit - roots)]


def choose_slices(probe: Probe, count: int) -> Iterator[Shard]:
    """Yield `count` short windows spread over a dense one, each meant to fit in one page."""
    window = probe.shard.window
    length = window.minutes / _SLICES_PER_WINDOW
    if probe.spread_minutes:
        length = min(length, probe.spread_minutes / 2)
    length = max(1, int(length))
    for number in range(1, count + 1):
        start = window.start + int(number * _GOLDEN % 1.0 * (window.minutes - length + 1))
        yield Shard(probe.shard.target, Window(start, start + length))


def estimate_total(
    sampled: Sequence[tuple[ScopePart, Sequence[Sampled]]], *, concurrency: int, max_per_second: float | None = None
) -> Estimate | None:
    """Return the estimate for all parts together, or None if nothing was sampled.

    `concurrency` is the number of requests in flight, `max_per_second` the most that are sent per second. The duration
    counts response times only, without the pauses that a rate limit may require.
    """
    windows = [one for _, some in sampled for one in some]
    if not windows:
        return None
    probes = [probe for one in windows for probe in (one.first, *one.slices)]
    observed = sum(one.first.at_least for one in windows)
    known = [(part, some) for part, some in sampled if some]
    minutes = [
        (part.minutes, part.count, [one.events / one.first.shard.window.minutes for one in some])
        for part, some in known
    ]
    pages = [(part.count, part.count, [one.pages for one in some]) for part, some in known]
    count = sum(part.count for part, _ in known)
    events = _extrapolate(minutes, least=observed)
    requests = _extrapolate(pages, least=count)
    total = sum(probe.events for probe in probes)
    seconds = sum(probe.seconds for probe in probes) / len(probes)
    is_complete = len(windows) == count
    dense = sum(one.first.has_more for one in windows)
    return Estimate(
        events=events,
        size_bytes=events.scale(sum(probe.size_bytes for probe in probes) / total if total else 0.0),
        requests=requests,
        seconds=requests.scale(max(seconds / concurrency, 1 / max_per_second if max_per_second else 0.0)),
        windows=count,
        sampled=len(windows),
        dense=dense,
        unlike_share=0.0 if is_complete else min(1.0, _RULE_OF_THREE / len(windows)),
        is_exact=is_complete and not dense,
        seconds_per_request=seconds,
    )


def _extrapolate(parts: Iterable[tuple[int, int, Sequence[float]]], *, least: float) -> Amount:
    """Return the sum over parts of (size, number of windows, sampled values per unit of size), and its range."""
    likely = variance = 0.0
    for size, count, values in parts:
        mean = sum(values) / len(values)
        likely += size * mean
        if len(values) == count:
            continue
        spread = sum((value - mean) ** 2 for value in values) / (len(values) - 1) if len(values) > 1 else mean**2
        variance += size**2 * spread / len(values) * (1 - len(values) / count)
    error = _STANDARD_ERRORS * math.sqrt(variance)
    likely = max(least, likely)
    return Amount(likely, max(least, likely - error), likely + error)
