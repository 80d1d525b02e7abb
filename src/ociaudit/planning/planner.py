"""The plan of an export: coarse shards for every target, minus the coverage of earlier runs, and the rule for splits.

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
"""

from __future__ import annotations

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
