"""The plan of an export: coarse shards for every target, the rule for splits, and the estimate of size and duration.

Invariants of a plan
- The shards of a target are disjoint, and their union is exactly the range minus the coverage given.
- No shard is longer than the given maximum, except one that an earlier run started; none is shorter than a minute.
- A shard that an earlier run started keeps its window and continues from its page cursor.
- No shard crosses `settled_until`, so minutes that may still change are separate from those that may not. No shard
  crosses a split of an earlier run, so a dense target is not fetched as one coarse shard again.
- Every target's first window comes before any target's second: a denied target costs one request.

Invariants of a split
- The sub-windows are consecutive, without holes or overlaps, and none is shorter than a minute. There are at least
  two, whatever the policy, so that splitting ends.
- A window of one minute is never split; its pages are fetched one after the other.

Invariants of shares
- Each minute of a target is in exactly one share. The windows of one target are spread over the shares, because a dense
  target is dense in all of them.

The density of a target is estimated from the event times of the first page: twice the distance between their
quartiles, because late events stretch the full range and hide density. If the service fills pages from all over the
window, this estimate fails, and the number of pages read decides. A wrong estimate costs requests but never events:
pages read before the split are kept, and the sub-shards make up the whole window.

The estimate is extrapolated from the first pages of a few sampled windows. This module chooses the windows and does the
arithmetic; requests are sent elsewhere.

Invariants of an estimate
- The sample is spread over targets and time by a fixed rule: the same plan is sampled at the same windows.
- Root compartments are a part of their own, because sign-ins and identity events are recorded there. Each part has
  its own mean.
- It only informs the user; coverage is never derived from it.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, gcd, inf

from ociaudit.planning.shard import Coverage, PageCursor, Shard, Target, Window, tile_window

PlannedShard = tuple[Shard, PageCursor | None]
"""A shard to fetch, and where to continue if an earlier run started it."""

_NANOSECONDS_PER_MINUTE = 60_000_000_000
_MIN_SAMPLE = 4
_PIECES_PER_SHARE = 8
_MAX_PIECES = 200_000
_SHORTEST_PIECE_MINUTES = 10
_CHECKED_PAGES = (4, 8)
"""After these pages it is checked, too, how far the pages have come."""


@dataclass(frozen=True, slots=True)
class FetchState:
    """The result of earlier runs of a plan.

    `covered` has the minutes answered, `begun` the shards started but not complete. `empty` are complete shards that
    returned no events and were not fetched again to confirm it. `splits` are the minutes, ascending, at which a dense
    target was split into sub-shards.
    """

    covered: Mapping[Target, Coverage] = field(default_factory=dict)
    begun: Mapping[Shard, PageCursor] = field(default_factory=dict)
    empty: frozenset[Shard] = frozenset()
    splits: Mapping[Target, Sequence[int]] = field(default_factory=dict)


def plan_shards(
    targets: Sequence[Target],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: FetchState | None = None,
) -> Iterator[PlannedShard]:
    """Yield the shards to fetch: first those already started, then window after window.

    The plan is lazy: its memory does not grow with the number of shards.
    """
    progress = progress or FetchState()
    known = {target: Coverage(progress.covered[target].windows) for target in targets if target in progress.covered}
    yield from _plan_started(targets, window, progress, known)
    for part in _split_at(window, (settled_until,)):
        for tile in tile_window(part, max_minutes):
            for target in targets:
                for missing in known[target].find_missing(tile) if target in known else (tile,):
                    for sub_window in _split_at(missing, progress.splits.get(target, ())):
                        yield Shard(target, sub_window), None


def plan_regions(
    targets: Iterable[Target],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: FetchState | None = None,
) -> dict[str, Iterator[PlannedShard]]:
    """Return one plan per region, so that no region waits for another."""
    by_region: dict[str, list[Target]] = {}
    for target in targets:
        by_region.setdefault(target.region, []).append(target)
    return {
        region: plan_shards(own, window, max_minutes=max_minutes, settled_until=settled_until, progress=progress)
        for region, own in by_region.items()
    }


def _plan_started(
    targets: Sequence[Target], window: Window, progress: FetchState, known: dict[Target, Coverage]
) -> Iterator[PlannedShard]:
    """Yield the started shards that lie in `window` and overlap nothing known, and add them to `known`."""
    wanted = set(targets)
    for shard, cursor in sorted(progress.begun.items(), key=lambda pair: pair[0]):
        if shard.target not in wanted or not _contains(window, shard.window):
            continue
        own = known.setdefault(shard.target, Coverage())
        if own.find_missing(shard.window) == (shard.window,):
            own.add(shard.window)
            yield shard, cursor


def _contains(outer: Window, inner: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _split_at(window: Window, minutes: Sequence[int]) -> Iterator[Window]:
    """Split a window at those of the ascending `minutes` that lie inside it."""
    inside = minutes[bisect_right(minutes, window.start) : bisect_left(minutes, window.end)]
    start = window.start
    for end in (*inside, window.end):
        yield Window(start, end)
        start = end


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """When a shard is split, in pages, and into how many sub-shards.

    A window with more than `max_pages` estimated pages is split into sub-shards of `pages_per_sub_shard`, at most
    `max_sub_shards`. An attempt that has read `max_attempt_pages` pages and is not at its end is split as if it had
    `attempt_factor` times as many. In that case the estimate failed, so the limit doubles for the sub-shards.
    """

    max_pages: float = 12.0
    pages_per_sub_shard: float = 8.0
    max_sub_shards: int = 32
    max_attempt_pages: int = 16
    attempt_factor: float = 4.0


class SplitDecider:
    """Decides after each page of one shard whether to split it."""

    def __init__(self, window: Window, policy: SplitPolicy, *, pages_before: int = 0) -> None:
        """Start after `pages_before` pages whose event times are unknown."""
        self._window = window
        self._policy = policy
        self._pages = pages_before
        self._medians: list[int] = []
        self.sub_windows: tuple[Window, ...] = ()
        """The windows to fetch instead; empty as long as the shard is not split."""
        self.sub_policy = policy
        """The policy for the sub-shards."""

    def record_page(self, instants: Sequence[int]) -> bool:
        """Record a page that is not the last, given its event times in nanoseconds; return whether to split now."""
        self._pages += 1
        policy = self._policy
        estimate = 0.0
        if instants:
            self._medians.append(sorted(instants)[len(instants) // 2])
        if self._pages == 1:
            estimate = _estimate_pages(self._window, instants)
        elif self._pages % policy.max_attempt_pages == 0 or self._pages in _CHECKED_PAGES:
            estimate = self._estimate_rest()
        if estimate > policy.max_pages and self._window.minutes > 1:
            count = min(policy.max_sub_shards, self._window.minutes, estimate // policy.pages_per_sub_shard + 1)
            length = ceil(self._window.minutes / max(2, count))
            self.sub_windows = tuple(tile_window(self._window, length))
        return bool(self.sub_windows)

    def _estimate_rest(self) -> float:
        """Return how many pages are left, by how far the pages have come; 0 if that is too early to say.

        Pages that do not move through the window in one direction show nothing; then their number decides.
        """
        policy, pages = self._policy, self._pages
        is_long = pages % policy.max_attempt_pages == 0
        if len(self._medians) == pages and _is_monotonic(self._medians):
            start = self._window.start if self._medians[-1] >= self._medians[0] else self._window.end
            come = abs(self._medians[-1] - start * _NANOSECONDS_PER_MINUTE)
            length = self._window.minutes * _NANOSECONDS_PER_MINUTE
            return pages * (length / come - 1) if come else inf
        if not is_long:
            return 0.0
        self.sub_policy = replace(policy, max_attempt_pages=2 * policy.max_attempt_pages)
        return policy.attempt_factor * pages


def _is_monotonic(values: Sequence[int]) -> bool:
    return list(values) in (sorted(values), sorted(values, reverse=True))


def _estimate_pages(window: Window, instants: Sequence[int]) -> float:
    """Return how many pages a window has if all are as dense as the one with these event times, in any order."""
    if len(instants) < _MIN_SAMPLE:
        return 1.0
    times = sorted(instants)
    spread = 2 * (times[3 * len(times) // 4] - times[len(times) // 4])
    return window.minutes * _NANOSECONDS_PER_MINUTE / spread if spread else inf


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


Share = tuple[tuple[Window, tuple[Target, ...]], ...]
"""Part of a plan: windows, each with the targets to request it for."""


def share_work(
    targets: Sequence[Target], window: Window, *, tenancy: str, max_minutes: int, share_count: int
) -> tuple[int, list[Share]]:
    """Divide a window of all targets into at most `share_count` shares of about the same expected work.

    Return the longest window of a request in minutes, and the shares. The windows of root compartments, where sign-ins
    and identity events are recorded, are dealt apart from the others'. Where there are few targets the windows become
    shorter, so that every share gets some.
    """
    tiles = -(-window.minutes // max_minutes)
    wanted = max(tiles, -(-_PIECES_PER_SHARE * share_count // max(1, len(targets))))
    per_target = max(1, min(wanted, _MAX_PIECES // max(1, len(targets)), window.minutes // _SHORTEST_PIECE_MINUTES))
    if per_target > tiles:
        max_minutes = length = -(-window.minutes // per_target)
    else:
        length = -(-tiles // per_target) * max_minutes
    windows = list(tile_window(window, length))
    roots = [target for target in targets if target.compartment == tenancy]
    others = [target for target in targets if target.compartment != tenancy]
    shares: list[dict[Window, list[Target]]] = [{} for _ in range(share_count)]
    dealt = 0
    for some in (roots, others):  # the windows of either are alike
        turns_per_round = share_count // gcd(len(some), share_count)
        for turn, piece in enumerate(windows):
            # After each round a target would get the same shares again; the shift gives its windows to the next ones.
            for number, target in enumerate(some, dealt + turn // turns_per_round):
                shares[number % share_count].setdefault(piece, []).append(target)
            dealt += len(some)
    return max_minutes, [
        tuple((piece, tuple(some)) for piece, some in sorted(share.items())) for share in shares if share
    ]
