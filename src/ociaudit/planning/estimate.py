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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ociaudit.planning.shard import Shard, Target, Window

_ROOT_SHARE = 0.25
# Powers of the plastic number: multiples modulo 1 fill a square evenly, however many points are taken.
_STEPS = (0.7548776662466927, 0.5698402909980532)
_GOLDEN = 0.6180339887498949
_STANDARD_ERRORS = 2.0
_USUAL_SPREAD, _USUAL_WEIGHT = 1.5, 4
"""The usual standard deviation of the logarithms of densities, and how many values it counts as."""
_GREATEST_SPREAD, _GREATEST_ERROR = 4.0, 2.5
_MISSED = 1.75
"""A sample misses the densest windows more often than it has too many of them: the power of the upper factor."""
_USUAL_PAGE = 100
"""Events per page where no page was full."""
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
    def events(self) -> float:
        """Return the estimated number of events in the window.

        The first page counts for the minutes that it covers, the mean density of the slices for the others, so that a
        burst weighs by its length.
        """
        first, minutes = self.first, self.first.shard.window.minutes
        if not first.has_more:
            return first.events
        densities = self._list_densities()
        density = sum(densities) / len(densities)
        return max(first.at_least, first.events + density * (minutes - first.covered_minutes))

    @property
    def factor(self) -> float:
        """Return by which factor the window can have more or fewer events than estimated; 1 where they are counted."""
        if not self.first.has_more:
            return 1.0
        densities = self._list_densities()
        minutes = self.first.shard.window.minutes
        return _find_factor([each * minutes for each in densities], of=math.inf)

    def _list_densities(self) -> list[float]:
        """Return events per minute: those of the slices, which are spread over the window, else of the first page."""
        return [probe.events / probe.covered_minutes for probe in self.slices or (self.first,)]

    @property
    def pages(self) -> float:
        """Return the estimated number of pages in the window."""
        if not self.first.has_more:
            return 1.0
        return max(2.0, math.ceil(self.events / max(1, self.first.events)))


@dataclass(frozen=True, slots=True)
class Amount:
    """An estimated quantity, and the range that holds the true one in at least nine of ten tenancies."""

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
    known = [(part, some) for part, some in sampled if some]
    count = sum(part.count for part, _ in known)
    events = _extrapolate(known, least=sum(one.first.at_least for one in windows))
    requests = _estimate_requests(known, events)
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


def _extrapolate(parts: Sequence[tuple[ScopePart, Sequence[Sampled]]], *, least: float) -> Amount:
    """Return the events of all windows of the parts, given the sampled ones.

    Two things are uncertain: how the windows that were not sampled differ from the sampled ones, and how many events a
    dense window has. These are independent and add up as squares, except that dense windows can all have fewer events
    than estimated for one reason: each starts in a burst, or in working hours.
    """
    likely = below = above = 0.0
    for part, some in parts:
        scale = part.minutes / sum(one.first.shard.window.minutes for one in some)
        amount = scale * sum(one.events for one in some)
        likely += amount
        if len(some) < part.count:
            factor = _find_factor([one.events for one in some], of=part.count)
            above += ((amount + scale) * factor**_MISSED - amount) ** 2  # as if one event more had been seen
            below += (amount - amount / factor) ** 2
        above += sum((scale * one.events * (one.factor - 1)) ** 2 for one in some)
        below += sum(scale * one.events * (1 - 1 / one.factor) for one in some) ** 2
    likely = max(least, likely)
    return Amount(likely, max(least, likely - math.sqrt(below)), likely + math.sqrt(above))


def _find_factor(values: Sequence[float], *, of: float) -> float:
    """Return by which factor the mean of `of` values can differ from that of a sample of them.

    The values are taken as log-normal, as the densities of compartments are: a few have most of the events, and a small
    sample easily misses them. What a few values show of their spread is mixed with the spread that is usual.
    """
    logs = [math.log(value + 0.5) for value in values]
    mean = sum(logs) / len(logs)
    squares = sum((each - mean) ** 2 for each in logs) + _USUAL_WEIGHT * _USUAL_SPREAD**2
    spread = squares / (len(logs) - 1 + _USUAL_WEIGHT)
    error = math.sqrt(math.expm1(min(spread, _GREATEST_SPREAD)) / len(logs) * (1 - len(logs) / of))
    return math.exp(min(_STANDARD_ERRORS * error, _GREATEST_ERROR))


def _estimate_requests(parts: Sequence[tuple[ScopePart, Sequence[Sampled]]], events: Amount) -> Amount:
    """Return the pages: one for each window, and more where it is dense."""
    count = sum(part.count for part, _ in parts)
    likely = sum(part.count / len(some) * sum(one.pages for one in some) for part, some in parts)
    probes = [probe for _, some in parts for one in some for probe in (one.first, *one.slices)]
    page = max([probe.events for probe in probes if probe.has_more], default=0)
    page = page or max([_USUAL_PAGE, *(probe.events for probe in probes)])
    low, high = (events.low - count * page) / page, events.high / page
    return Amount(likely, min(likely, max(count, count + low)), max(likely, count + high))
