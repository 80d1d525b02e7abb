"""The plan: coarse shards for every place, minus what is already covered.

Owns: which questions are asked, and in which order. Must not: ask them.

Invariants
- The shards of a place are disjoint and their union is exactly the range minus the coverage given.
- No shard is longer than asked, except one that an earlier run had begun; none is shorter than a minute.
- A shard that an earlier run had begun goes on from its bookmark, as it was asked then.
- No shard reaches across `settled_until`: what may still change is asked apart from what may not. None reaches
  across a cut that an earlier run has made: a dense place is not begun anew in one piece.
- Every place is asked for its first window before any is asked for its second: one that is denied costs a request.

When a shard is asked in pieces instead of page by page.

Owns: the guess at how many pages a shard has, and the pieces. Pure. A wrong guess costs requests, never events:
what was read before the cut is kept, and the pieces make up the whole window.

Invariants
- The pieces of a window follow each other without hole or overlap, and none is shorter than a minute. There are
  at least two, whatever the policy says: so cutting comes to an end.
- A window of one minute is never cut; it is just paged.

How dense a place is, the spread of the first page's event times tells: twice the distance between their quartiles,
because late events stretch the plain span and hide density. A service that fills its pages from all over the
window defeats that; then the length of the chain tells.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil, inf

from ociaudit.planning.shard import PageCursor, Shard, Target
from ociaudit.planning.window import Coverage, Window, tile_window

PlannedShard = tuple[Shard, PageCursor | None]


@dataclass(frozen=True, slots=True)
class FetchState:
    """What earlier runs of a plan have brought: the minutes answered, the shards begun, those cut, those empty.

    `empty` are complete shards that brought no event and were not asked a second time to confirm that. `cuts` are
    the minutes, ascending, at which a dense place was cut into pieces.
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
    """Yield the shards to ask and where to go on in each: what was begun first, then window after window.

    It is lazy: 100,000 shards take no memory.
    """
    progress = progress or FetchState()
    known = {target: Coverage(progress.covered[target].windows) for target in targets if target in progress.covered}
    yield from _choose_begun(targets, window, progress, known)
    for settled in _split_at(window, (settled_until,)):
        for tile in tile_window(settled, max_minutes):
            for target in targets:
                for missing in known[target].find_missing(tile) if target in known else (tile,):
                    for piece in _split_at(missing, progress.splits.get(target, ())):
                        yield Shard(target, piece), None


def plan_regions(
    targets: Iterable[Target],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: FetchState | None = None,
) -> dict[str, Iterator[PlannedShard]]:
    """Return a plan for each region, so that none has to wait for another."""
    by_region: dict[str, list[Target]] = {}
    for target in targets:
        by_region.setdefault(target.region, []).append(target)
    return {
        region: plan_shards(own, window, max_minutes=max_minutes, settled_until=settled_until, progress=progress)
        for region, own in by_region.items()
    }


def _choose_begun(
    targets: Sequence[Target], window: Window, progress: FetchState, known: dict[Target, Coverage]
) -> Iterator[PlannedShard]:
    """Yield the begun shards that can go on as they are, and count them as known."""
    wanted = set(targets)
    for shard, cursor in sorted(progress.begun.items(), key=lambda pair: pair[0]):
        if shard.target not in wanted or not _lies_within(shard.window, window):
            continue
        own = known.setdefault(shard.target, Coverage())
        if own.find_missing(shard.window) == (shard.window,):
            own.add(shard.window)
            yield shard, cursor


def _lies_within(inner: Window, outer: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _split_at(window: Window, minutes: Sequence[int]) -> Iterator[Window]:
    """Split a window at those of the ascending `minutes` that lie inside it."""
    inside = minutes[bisect_right(minutes, window.start) : bisect_left(minutes, window.end)]
    start = window.start
    for end in (*inside, window.end):
        yield Window(start, end)
        start = end


NANOSECONDS_PER_MINUTE = 60_000_000_000
_FEWEST_TIMES = 4


@dataclass(frozen=True, slots=True)
class SplitPolicy:
    """When a shard is cut, in pages, and into how many pieces.

    Above `max_pages` estimated pages the window is cut into pieces of `pages_per_sub_shard`, at most `max_sub_shards`; so
    is a chain that has come to `max_attempt_pages` pages and is not at its end, as if it had `attempt_factor` times as many.
    Where that happened the estimate had failed: in the pieces a chain may be twice as long.
    """

    max_pages: float = 12.0
    pages_per_sub_shard: float = 8.0
    max_sub_shards: int = 32
    max_attempt_pages: int = 16
    attempt_factor: float = 4.0


def estimate_pages(window: Window, instants: Sequence[int]) -> float:
    """Return how many pages a window has if all are as dense as the one whose event times these are.

    `instants` are nanoseconds, unsorted. Too few of them tell nothing: then it is one.
    """
    if len(instants) < _FEWEST_TIMES:
        return 1.0
    times = sorted(instants)
    spread = 2 * (times[3 * len(times) // 4] - times[len(times) // 4])
    return window.minutes * NANOSECONDS_PER_MINUTE / spread if spread else inf


class SplitDecider:
    """Follows the pages of one shard, and tells when it should be cut."""

    def __init__(self, window: Window, policy: SplitPolicy, *, pages_before: int = 0) -> None:
        """Begin behind `pages_before` pages, of which nothing but their number is known."""
        self._window = window
        self._policy = policy
        self._pages = pages_before
        self.sub_windows: tuple[Window, ...] = ()
        """What is to be asked instead; empty as long as the shard is to be followed."""
        self.sub_policy = policy
        """When a piece is cut in its turn."""

    def record_page(self, instants: Sequence[int]) -> bool:
        """Take a page that is not the last, and return whether the shard is to be cut now."""
        self._pages += 1
        policy = self._policy
        estimate = 0.0
        if self._pages == 1:
            estimate = estimate_pages(self._window, instants)
        elif self._pages % policy.max_attempt_pages == 0:
            estimate = policy.attempt_factor * self._pages
            self.sub_policy = replace(policy, max_attempt_pages=2 * policy.max_attempt_pages)
        if estimate > policy.max_pages and self._window.minutes > 1:
            count = min(policy.max_sub_shards, self._window.minutes, estimate // policy.pages_per_sub_shard + 1)
            length = ceil(self._window.minutes / max(2, count))
            self.sub_windows = tuple(tile_window(self._window, length))
        return bool(self.sub_windows)
