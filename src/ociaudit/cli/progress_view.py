"""A run in words, while it works. Owns: the phrases of progress. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ociaudit.cli.figures import Figures, RegionFigures, ShardTime
from ociaudit.cli.wording import count, describe_seconds
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window, format_minute
from ociaudit.source.answer import FinishedRequest

_REGIONS_SHOWN = 12


def describe_plan(window: Window, places: Sequence[Place], shard_count: int) -> str:
    """Return what will be asked, in one line."""
    regions = len({place.region for place in places})
    compartments = len({place.compartment for place in places})
    return (
        f"asking {format_minute(window.start)} to {format_minute(window.end)} (processed time, end exclusive) "
        f"in {count(regions, 'region')} × {count(compartments, 'compartment')}: {count(shard_count, 'window')}"
    )


def describe_state(figures: Figures) -> str:
    """Return how far a run is, in one line."""
    if figures.to_write:
        return f"writing: {figures.written:,} of {figures.to_write:,} events"
    parts = [
        f"{figures.events:,} events ({figures.events / figures.elapsed_seconds:,.0f}/s)",
        f"{figures.shards_done:,} of {figures.shards:,} windows" + (f" ({figures.cuts:,} cut)" if figures.cuts else ""),
    ]
    if figures.in_flight is not None:
        parts.append(f"{figures.in_flight:,} in flight{_describe_rate(figures.per_second)}")
    if figures.throttled:
        parts.append(f"{figures.throttled:,} × 429")
    if figures.gaps:
        parts.append(count(figures.gaps, "gap"))
    left = figures.seconds_left
    if left is not None:
        parts.append(f"about {describe_seconds(left)} left")
    return ", ".join(parts)


def describe_regions(figures: Figures) -> Iterator[str]:
    """Yield a line for each region, the least finished first; nothing where there is only one."""
    if len(figures.regions) < 2:
        return
    ordered = sorted(figures.regions.items(), key=lambda item: (_measure(item[1]), item[0]))
    width = max(len(name) for name, _ in ordered)
    for name, region in ordered[:_REGIONS_SHOWN]:
        yield f"  {name:{width}}  {_describe_region(region)}"
    if len(ordered) > _REGIONS_SHOWN:
        yield f"  and {count(len(ordered) - _REGIONS_SHOWN, 'more region')}"


def describe_gap(gap: Gap) -> str:
    """Return region, compartment, window, reason and request id of a gap, in one line."""
    request_id = f" (opc-request-id {gap.request_id})" if gap.request_id else ""
    return f"{gap.kind} {gap.place.region} {gap.place.compartment} {gap.window}: {gap.reason}{request_id}"


def describe_request(request: FinishedRequest) -> str:
    """Return one attempt in one line: method, host, path, status, size, time, attempt and request id."""
    status = "no answer" if request.status is None else str(request.status)
    request_id = f" opc-request-id {request.request_id}" if request.request_id else ""
    error = f": {request.error}" if request.error else ""
    return (
        f"request: GET {request.host} {request.path} {status} {request.size_bytes:,} bytes {request.seconds:.3f} s "
        f"attempt {request.attempt}{request_id}{error}"
    )


def describe_shard_time(taken: ShardTime) -> str:
    """Return a shard, how long it took and what it brought."""
    return f"{taken.shard}: {taken.seconds:.1f} s, {count(taken.pages, 'page')}, {count(taken.events, 'event')}"


def describe_cut(shard: Shard, piece_count: int) -> str:
    """Return a cut in one line."""
    return f"cut: {shard} is dense and asked in {count(piece_count, 'piece')}"


def describe_pace(region: str, ceiling: int, per_second: float | None) -> str:
    """Return a region's pace in one line."""
    return f"pace: {region} up to {ceiling:,} in flight{_describe_rate(per_second) or ', no limit known'}"


def _describe_region(region: RegionFigures) -> str:
    parts = [f"{region.events:,} events", f"{region.shards_done:,} of {region.shards:,} windows"]
    if region.in_flight is not None:
        parts.append(f"{region.in_flight:,} of {region.ceiling:,} in flight{_describe_rate(region.per_second)}")
    if region.gaps:
        parts.append(count(region.gaps, "gap"))
    return ", ".join(parts)


def _describe_rate(per_second: float | None) -> str:
    return "" if per_second is None else f", pace {per_second:.1f}/s"


def _measure(region: RegionFigures) -> float:
    return region.shards_done / region.shards if region.shards else 1.0
