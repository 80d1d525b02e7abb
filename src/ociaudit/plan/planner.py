"""The plan: coarse shards for every place, minus what is already covered.

Owns: which questions are asked, and in which order. Must not: ask them.

Invariants
- The shards of a place are disjoint and their union is exactly the range minus the coverage given.
- No shard is longer than asked, except one that an earlier run had begun; none is shorter than a minute.
- A shard that an earlier run had begun goes on from its bookmark, as it was asked then.
- No shard reaches across `settled_until`: what may still change is asked apart from what may not. None reaches
  across a cut that an earlier run has made: a dense place is not begun anew in one piece.
- Every place is asked for its first window before any is asked for its second: one that is denied costs a request.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Bookmark, Place, Shard
from ociaudit.plan.window import Window, tile_window

Ask = tuple[Shard, Bookmark | None]


@dataclass(frozen=True, slots=True)
class Progress:
    """What earlier runs of a plan have brought: the minutes answered, the shards begun, those cut, those empty.

    `empty` are complete shards that brought no event and were not asked a second time to confirm that. `cuts` are
    the minutes, ascending, at which a dense place was cut into pieces.
    """

    covered: Mapping[Place, Coverage] = field(default_factory=dict)
    begun: Mapping[Shard, Bookmark] = field(default_factory=dict)
    empty: frozenset[Shard] = frozenset()
    cuts: Mapping[Place, Sequence[int]] = field(default_factory=dict)


def plan_shards(
    places: Sequence[Place],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: Progress | None = None,
) -> Iterator[Ask]:
    """Yield the shards to ask and where to go on in each: what was begun first, then window after window.

    It is lazy: 100,000 shards take no memory.
    """
    progress = progress or Progress()
    known = {place: Coverage(progress.covered[place].windows) for place in places if place in progress.covered}
    yield from _choose_begun(places, window, progress, known)
    for settled in _split_at(window, (settled_until,)):
        for tile in tile_window(settled, max_minutes):
            for place in places:
                for missing in known[place].find_missing(tile) if place in known else (tile,):
                    for piece in _split_at(missing, progress.cuts.get(place, ())):
                        yield Shard(place, piece), None


def plan_regions(
    places: Iterable[Place],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: Progress | None = None,
) -> dict[str, Iterator[Ask]]:
    """Return a plan for each region, so that none has to wait for another."""
    by_region: dict[str, list[Place]] = {}
    for place in places:
        by_region.setdefault(place.region, []).append(place)
    return {
        region: plan_shards(own, window, max_minutes=max_minutes, settled_until=settled_until, progress=progress)
        for region, own in by_region.items()
    }


def _choose_begun(
    places: Sequence[Place], window: Window, progress: Progress, known: dict[Place, Coverage]
) -> Iterator[Ask]:
    """Yield the begun shards that can go on as they are, and count them as known."""
    wanted = set(places)
    for shard, bookmark in sorted(progress.begun.items(), key=lambda pair: pair[0]):
        if shard.place not in wanted or not _lies_within(shard.window, window):
            continue
        own = known.setdefault(shard.place, Coverage())
        if own.find_missing(shard.window) == (shard.window,):
            own.add(shard.window)
            yield shard, bookmark


def _lies_within(inner: Window, outer: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _split_at(window: Window, minutes: Sequence[int]) -> Iterator[Window]:
    """Split a window at those of the ascending `minutes` that lie inside it."""
    inside = minutes[bisect_right(minutes, window.start) : bisect_left(minutes, window.end)]
    start = window.start
    for end in (*inside, window.end):
        yield Window(start, end)
        start = end
