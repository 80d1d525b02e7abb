"""The plan: coarse shards for every place, minus what is already covered.

Owns: which questions are asked. Must not: ask them.

Invariants
- The shards of a place are disjoint and their union is exactly the range minus the coverage given.
- No shard is longer than asked, except one that an earlier run had begun; none is shorter than a minute.
- A shard that an earlier run had begun goes on from its bookmark, as it was asked then.
- No shard reaches across `settled_until`: what may still change is asked apart from what may not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Bookmark, Place, Shard
from ociaudit.plan.window import Window, tile_window


@dataclass(frozen=True, slots=True)
class Progress:
    """What earlier runs of a plan have brought: the minutes answered, the shards begun, and those without events.

    `empty` are complete shards that brought no event and were not asked a second time to confirm that.
    """

    covered: Mapping[Place, Coverage] = field(default_factory=dict)
    begun: Mapping[Shard, Bookmark] = field(default_factory=dict)
    empty: frozenset[Shard] = frozenset()


def plan_shards(
    places: Iterable[Place],
    window: Window,
    *,
    max_minutes: int,
    settled_until: int,
    progress: Progress | None = None,
) -> Iterator[tuple[Shard, Bookmark | None]]:
    """Yield the shards to ask and where to go on in each, place by place and in time order.

    It is lazy: 100,000 shards take no memory.
    """
    progress = progress or Progress()
    begun: dict[Place, list[tuple[Shard, Bookmark]]] = {}
    for shard, bookmark in progress.begun.items():
        begun.setdefault(shard.place, []).append((shard, bookmark))
    for place in places:
        known = Coverage(progress.covered[place].windows if place in progress.covered else ())
        for shard, bookmark in sorted(begun.get(place, ()), key=lambda pair: pair[0]):
            if known.find_missing(shard.window) == (shard.window,) and _lies_within(shard.window, window):
                known.add(shard.window)
                yield shard, bookmark
        for missing in known.find_missing(window):
            for settled in _split_at(missing, settled_until):
                for tile in tile_window(settled, max_minutes):
                    yield Shard(place, tile), None


def _lies_within(inner: Window, outer: Window) -> bool:
    return outer.start <= inner.start and inner.end <= outer.end


def _split_at(window: Window, minute: int) -> Iterator[Window]:
    if window.start < minute < window.end:
        yield Window(window.start, minute)
        yield Window(minute, window.end)
    else:
        yield window
