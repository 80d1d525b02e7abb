"""What a whole sweep may bring, judged from a few first pages.

Owns: which windows are sampled, and the arithmetic from a sample to a total. Must not: ask.

Invariants
- The sample is spread over places and over time by a fixed rule: the same plan is sampled at the same windows.
- Root compartments are a part of their own, because sign-ins and identity land there; each part has its own mean.
- A guess only ever informs a person. Coverage is never claimed from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ociaudit.planning.shard import Shard, Target
from ociaudit.planning.window import Window

_ROOT_SHARE = 0.25
_STEPS = (0.7548776662466927, 0.5698402909980532)  # of the plastic number: even over a square, however many points
_GOLDEN = 0.6180339887498949
_STANDARD_ERRORS = 2.0
_RULE_OF_THREE = 3.0
_SLICES_PER_WINDOW = 16
_SHORTEST_SPREAD_MINUTES = 0.01  # events at one instant: no page tells more


@dataclass(frozen=True, slots=True)
class ScopePart:
    """Places that are alike enough for one mean, and how each of them is asked."""

    targets: Sequence[Target]
    tiles: Sequence[Window]

    @property
    def count(self) -> int:
        """Return how many windows that makes."""
        return len(self.targets) * len(self.tiles)

    @property
    def minutes(self) -> int:
        """Return how many minutes these windows have together."""
        return len(self.targets) * sum(tile.minutes for tile in self.tiles)

    def choose(self, limit: int) -> Iterator[Shard]:
        """Yield at most `limit` different windows, spread over places and time."""
        if self.count <= limit:
            yield from (Shard(target, tile) for target in self.targets for tile in self.tiles)
            return
        chosen: set[tuple[int, int]] = set()
        for step in range(self.count * len(_STEPS) * _SLICES_PER_WINDOW):
            if len(chosen) == limit:
                return
            sides = (len(self.targets), len(self.tiles))
            spot = tuple(int((0.5 + step * by) % 1.0 * side) for by, side in zip(_STEPS, sides, strict=True))
            if spot not in chosen:
                chosen.add((spot[0], spot[1]))
                yield Shard(self.targets[spot[0]], self.tiles[spot[1]])


@dataclass(frozen=True, slots=True)
class Probe:
    """One first page: what it held, and whether more would follow.

    `spread_minutes` is the time that its events are spread over, without the outermost: a late one stretches it.
    """

    shard: Shard
    events: int
    size_bytes: int
    seconds: float
    has_more: bool
    spread_minutes: float

    @property
    def covered_minutes(self) -> float:
        """Return how many minutes the page speaks of: all of the window, or those that its events are spread over."""
        minutes: float = self.shard.window.minutes
        return max(_SHORTEST_SPREAD_MINUTES, min(self.spread_minutes, minutes)) if self.has_more else minutes

    @property
    def at_least(self) -> int:
        """Return how many events the window has for sure."""
        return self.events + self.has_more


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled window: its first page, and those of slices of it where that page was not all."""

    first: Probe
    slices: tuple[Probe, ...] = ()

    @property
    def per_minute(self) -> float:
        """Return the events of its pages by the minutes they cover: a burst has no more weight than it lasts."""
        probes = (self.first, *self.slices)
        return sum(probe.events for probe in probes) / sum(probe.covered_minutes for probe in probes)

    @property
    def events(self) -> float:
        """Return how many events the window may have."""
        return max(self.first.at_least, self.per_minute * self.first.shard.window.minutes)

    @property
    def pages(self) -> float:
        """Return how many pages the window may have."""
        if not self.first.has_more:
            return 1.0
        return max(2.0, math.ceil(self.events / max(1, self.first.events)))


@dataclass(frozen=True, slots=True)
class Amount:
    """A guess, and the range of two standard errors of the sample around it."""

    likely: float
    low: float
    high: float

    def scale(self, factor: float) -> Amount:
        """Return all three numbers multiplied."""
        return Amount(self.likely * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sweep may bring. `unlike_share`: so much of the windows may be unlike all that were sampled (95 %)."""

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
    """Return the root compartments and all others as parts; a part without places is left out."""
    roots = [target for target in targets if target.compartment == tenancy]
    others = [target for target in targets if target.compartment != tenancy]
    return tuple(ScopePart(some, tiles) for some in (roots, others) if some)


def share_probes(parts: Sequence[ScopePart], limit: int) -> list[int]:
    """Return how many windows of each part are sampled: a quarter in the roots, the rest elsewhere."""
    if len(parts) == 1:
        return [min(limit, parts[0].count)]
    roots = min(parts[0].count, max(1, round(limit * _ROOT_SHARE), limit - parts[1].count))
    return [roots, min(parts[1].count, limit - roots)]


def choose_slices(probe: Probe, count: int) -> Iterator[Shard]:
    """Yield short windows inside a dense one, spread over it, each meant to fit into a page."""
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
    """Return what all parts may hold together; None where nothing was sampled.

    `concurrency` is how many requests are in flight, `max_per_second` how many are sent at most; the time is that of
    answers, without any pause the service asks.
    """
    windows = [one for _, some in sampled for one in some]
    if not windows:
        return None
    probes = [probe for one in windows for probe in (one.first, *one.slices)]
    seen = sum(one.first.at_least for one in windows)
    known = [(part, some) for part, some in sampled if some]
    minutes = [
        (part.minutes, part.count, [one.events / one.first.shard.window.minutes for one in some])
        for part, some in known
    ]
    pages = [(part.count, part.count, [one.pages for one in some]) for part, some in known]
    count = sum(part.count for part, _ in known)
    events = _add_up(minutes, least=seen)
    requests = _add_up(pages, least=count)
    total = sum(probe.events for probe in probes)
    seconds = sum(probe.seconds for probe in probes) / len(probes)
    is_whole = len(windows) == count
    dense = sum(one.first.has_more for one in windows)
    return Estimate(
        events=events,
        size_bytes=events.scale(sum(probe.size_bytes for probe in probes) / total if total else 0.0),
        requests=requests,
        seconds=requests.scale(max(seconds / concurrency, 1 / max_per_second if max_per_second else 0.0)),
        windows=count,
        sampled=len(windows),
        dense=dense,
        unlike_share=0.0 if is_whole else min(1.0, _RULE_OF_THREE / len(windows)),
        is_exact=is_whole and not dense,
        seconds_per_request=seconds,
    )


def _add_up(parts: Iterable[tuple[int, int, Sequence[float]]], *, least: float) -> Amount:
    """Add up parts of (size, windows, values per unit of size), with two standard errors."""
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
