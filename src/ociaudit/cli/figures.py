"""What a run amounts to so far, counted from what it tells.

Owns: the numbers. Must not: print, or keep more than a few shards that are under way or were slow.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ociaudit.jobs.observer import Observer
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.answer import FinishedRequest

SLOWEST_KEPT = 5
_TOO_MANY_REQUESTS = 429


@dataclass(slots=True)
class RegionFigures:
    """One region's part. `shards` grows where dense ones are cut; the pace is None until it is known."""

    shards: int = 0
    shards_done: int = 0
    events: int = 0
    gaps: int = 0
    in_flight: int | None = None
    ceiling: int | None = None
    per_second: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class ShardTime:
    """How long a shard took, from its first question to its last page."""

    seconds: float
    shard: Shard
    pages: int
    events: int


@dataclass(slots=True)
class _Begun:
    at: float
    pages: int = 0
    events: int = 0


@dataclass(slots=True, kw_only=True)
class Figures(Observer):
    """Counts what it is told. `waived` are compartments whose denial is known."""

    monotonic: Callable[[], float] = time.monotonic
    waived: frozenset[str] = frozenset()
    regions: dict[str, RegionFigures] = field(default_factory=dict)
    shards: int = 0
    shards_done: int = 0
    cuts: int = 0
    gaps: int = 0
    waived_gaps: int = 0
    events: int = 0
    requests: int = 0
    throttled: int = 0
    received_bytes: int = 0
    to_write: int | None = None
    written: int = 0
    began_at: float = field(init=False)
    slow: list[ShardTime] = field(default_factory=list)
    _begun: dict[Shard, _Begun] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin to count the time."""
        self.began_at = self.monotonic()

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Share the windows out over the regions: every place is asked in the same ones, as a rule."""
        self.shards = shard_count
        for place in places:
            self.regions.setdefault(place.region, RegionFigures()).shards += 1
        for region in self.regions.values():
            region.shards = round(shard_count * region.shards / len(places))

    def on_request(self, request: FinishedRequest) -> None:
        """Count the attempt."""
        self.requests += 1
        self.received_bytes += request.size_bytes
        self.throttled += request.status == _TOO_MANY_REQUESTS

    def on_pace(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Keep the pace."""
        figures = self.regions.setdefault(region, RegionFigures())
        figures.in_flight, figures.ceiling, figures.per_second = in_flight, ceiling, per_second

    def on_cut(self, shard: Shard, piece_count: int) -> None:
        """Count the pieces in place of the shard."""
        self.cuts += 1
        self.shards += piece_count - 1
        self._find(shard).shards += piece_count - 1
        self._begun.pop(shard, None)

    def on_shard_begun(self, shard: Shard) -> None:
        """Note the time."""
        self._begun.setdefault(shard, _Begun(self.monotonic()))

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        self.events += scanned
        self._find(shard).events += scanned
        begun = self._begun.setdefault(shard, _Begun(self.monotonic()))
        begun.pages += 1
        begun.events += scanned

    def on_shard_done(self, shard: Shard) -> None:
        """Count the shard, and keep it if it was slow."""
        self.shards_done += 1
        self._find(shard).shards_done += 1
        taken = self.find_time(shard)
        self._begun.pop(shard, None)
        if taken is not None:
            push = heapq.heappush if len(self.slow) < SLOWEST_KEPT else heapq.heappushpop
            push(self.slow, taken)

    def on_gap(self, gap: Gap) -> None:
        """Count the gap, or the waived one."""
        self._begun.pop(Shard(gap.place, gap.window), None)
        if self.is_waived(gap):
            self.waived_gaps += 1
        else:
            self.gaps += 1
            self.regions.setdefault(gap.place.region, RegionFigures()).gaps += 1

    def on_publish(self, event_count: int) -> None:
        """Turn to the writing."""
        self.to_write = event_count

    def on_written(self, event_count: int) -> None:
        """Count what stands in the output."""
        self.written += event_count

    def is_waived(self, gap: Gap) -> bool:
        """Tell whether a gap is a denial that is known."""
        return gap.kind == "denied" and gap.place.compartment in self.waived

    def find_time(self, shard: Shard) -> ShardTime | None:
        """Return how long a shard under way has taken so far; None for one that is not."""
        begun = self._begun.get(shard)
        return ShardTime(self.monotonic() - begun.at, shard, begun.pages, begun.events) if begun else None

    @property
    def elapsed_seconds(self) -> float:
        """Return how long it has taken so far; never zero."""
        return max(0.001, self.monotonic() - self.began_at)

    @property
    def fraction(self) -> float:
        """Return how much of the present work is done, from 0 to 1."""
        if self.to_write:
            return min(1.0, self.written / self.to_write)
        return min(1.0, self.shards_done / self.shards) if self.shards else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return how long the asking may still take, judged by the shards done; None where nothing is known."""
        if not self.shards_done or self.shards_done >= self.shards or self.to_write is not None:
            return None
        return self.elapsed_seconds * (self.shards - self.shards_done) / self.shards_done

    @property
    def in_flight(self) -> int | None:
        """Return the requests under way in all regions; None where no pace was told."""
        known = [region.in_flight for region in self.regions.values() if region.in_flight is not None]
        return sum(known) if known else None

    @property
    def per_second(self) -> float | None:
        """Return the pace of all regions that keep one; None where none does."""
        known = [region.per_second for region in self.regions.values() if region.per_second is not None]
        return sum(known) if known else None

    @property
    def slowest(self) -> list[ShardTime]:
        """Return the slowest shards, the slowest first."""
        return sorted(self.slow, reverse=True)

    def _find(self, shard: Shard) -> RegionFigures:
        return self.regions.setdefault(shard.place.region, RegionFigures())
