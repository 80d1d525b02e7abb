"""What a run shows while it works: a block on a terminal, plain lines elsewhere, nothing when quiet.

`RunStats` counts what the callbacks of a run report, and keeps no more than the shards in flight and the slowest few.
The functions `describe_...` turn its numbers into lines. `QuietProgress`, `LineProgress` and `BarProgress` decide which
lines are printed when.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ociaudit.cli import console
from ociaudit.cli.console import describe_gap, describe_target, format_duration, format_size
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import OciAuditError, RequestError, ServiceError, format_count
from ociaudit.operations.context import Callbacks
from ociaudit.operations.export import ExportResult
from ociaudit.planning.shard import Gap, Shard, Target, Window, format_minute

if TYPE_CHECKING:
    from ociaudit.operations.sync import SyncResult  # imports what an export does not need

VERBOSE, VERY_VERBOSE = 1, 2
SLOWEST_KEPT = 5
_TOO_MANY_REQUESTS = 429
_LINE_EVERY_SECONDS = 5.0
_REGIONS_EVERY_SECONDS = 30.0
_REGIONS_AFTER_SECONDS = 10.0
_BLOCK_EVERY_SECONDS = 0.1
_REGIONS_SHOWN = 12
_GAPS_PRINTED = 40
_SLOW_SECONDS = 1.0
_SLOWEST_SHOWN = 3


@dataclass(slots=True)
class RegionStats:
    """The numbers of one region. `shards` grows as dense ones are split; a rate limit is None while none is known."""

    shards: int = 0
    shards_done: int = 0
    events: int = 0
    gaps: int = 0
    in_flight: int | None = None
    ceiling: int | None = None
    per_second: float | None = None


@dataclass(frozen=True, slots=True, order=True)
class ShardTime:
    """How long a shard took, from its first request to its last page."""

    seconds: float
    shard: Shard
    pages: int
    events: int


@dataclass(slots=True)
class _StartedShard:
    at: float
    pages: int = 0
    events: int = 0


@dataclass(slots=True, kw_only=True)
class RunStats(Callbacks):
    """The statistics of a run so far. `waived` are the OCIDs of compartments whose denial is known.

    `paths` are the paths of compartments by OCID.
    """

    monotonic: Callable[[], float] = time.monotonic
    waived: frozenset[str] = frozenset()
    paths: Mapping[str, str] = field(default_factory=dict)
    regions: dict[str, RegionStats] = field(default_factory=dict)
    shards: int = 0
    shards_done: int = 0
    splits: int = 0
    gaps: int = 0
    waived_gaps: int = 0
    events: int = 0
    requests: int = 0
    throttled: int = 0
    received_bytes: int = 0
    to_write: int | None = None
    written: int = 0
    kept: tuple[Path, int] | None = None
    """The run directory that stays, and its size in bytes."""
    began_at: float = field(init=False)
    _done_at: float = field(init=False)
    slow: list[ShardTime] = field(default_factory=list)
    _started: dict[Shard, _StartedShard] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Start the clock."""
        self.began_at = self._done_at = self.monotonic()

    def on_scope(self, paths: Mapping[str, str], waived: frozenset[str]) -> None:
        """Keep the names."""
        self.paths, self.waived = paths, waived

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """Divide the shards among the regions in proportion to their targets, which usually have the same windows.

        A sync plans again after each of its rounds; the shards of earlier rounds are done.
        """
        self.to_write, self.written = None, 0
        self.shards = self.shards_done + shard_count
        for name, number in Counter(target.region for target in targets).items():
            region = self.regions.setdefault(name, RegionStats())
            region.shards = region.shards_done + round(shard_count * number / len(targets))

    def on_request(self, request: FinishedRequest) -> None:
        """Count the request."""
        self.requests += 1
        self.received_bytes += request.size_bytes
        self.throttled += request.status == _TOO_MANY_REQUESTS

    def on_rate(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Keep the rate limit."""
        run_stats = self.regions.setdefault(region, RegionStats())
        run_stats.in_flight, run_stats.ceiling, run_stats.per_second = in_flight, ceiling, per_second

    def on_split(self, shard: Shard, sub_shard_count: int) -> None:
        """Count the sub-shards instead of the shard."""
        self.splits += 1
        self.shards += sub_shard_count - 1
        self._find(shard).shards += sub_shard_count - 1
        self._started.pop(shard, None)

    def on_shard_begun(self, shard: Shard) -> None:
        """Record the time; a sync does not know the number of its shards from the start."""
        self._started.setdefault(shard, _StartedShard(self.monotonic()))
        self.shards = max(self.shards, self.shards_done + len(self._started))

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        self.events += scanned
        self._find(shard).events += scanned
        started = self._started.setdefault(shard, _StartedShard(self.monotonic()))
        started.pages += 1
        started.events += scanned

    def on_shard_done(self, shard: Shard) -> None:
        """Count the shard, and keep it if it is among the slowest."""
        self.shards_done += 1
        self._done_at = self.monotonic()
        region = self._find(shard)
        region.shards_done += 1
        region.shards = max(region.shards, region.shards_done)
        taken = self.find_time(shard)
        self._started.pop(shard, None)
        if taken is not None:
            push = heapq.heappush if len(self.slow) < SLOWEST_KEPT else heapq.heappushpop
            push(self.slow, taken)

    def on_gap(self, gap: Gap) -> None:
        """Count the gap as a gap or as a waived one."""
        self._started.pop(Shard(gap.target, gap.window), None)
        if self.is_waived(gap):
            self.waived_gaps += 1
        else:
            self.gaps += 1
            self.regions.setdefault(gap.target.region, RegionStats()).gaps += 1

    def on_publish(self, event_count: int) -> None:
        """Switch from requesting to writing."""
        self.to_write = event_count

    def on_written(self, event_count: int) -> None:
        """Count the events written to the output."""
        self.written += event_count

    def on_kept(self, folder: Path, size_bytes: int) -> None:
        """Keep which directory stays."""
        self.kept = folder, size_bytes

    def is_waived(self, gap: Gap) -> bool:
        """Return whether a gap is a denial that is known."""
        return gap.kind == "denied" and gap.target.compartment in self.waived

    def find_time(self, shard: Shard) -> ShardTime | None:
        """Return how long a shard in flight has taken so far; None if it is not in flight."""
        started = self._started.get(shard)
        return ShardTime(self.monotonic() - started.at, shard, started.pages, started.events) if started else None

    @property
    def elapsed_seconds(self) -> float:
        """Return how long the run has taken so far; never zero."""
        return max(0.001, self.monotonic() - self.began_at)

    @property
    def fraction(self) -> float:
        """Return how much of the current phase is done, from 0 to 1."""
        if self.to_write:
            return min(1.0, self.written / self.to_write)
        return min(1.0, self.shards_done / self.shards) if self.shards else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Return how long requesting may still take, judged by the shards done; None if unknown.

        It is unknown, too, once no shard has been done for longer than that, for example while retries wait.
        """
        if not self.shards_done or self.shards_done >= self.shards or self.to_write is not None:
            return None
        left = self.elapsed_seconds * (self.shards - self.shards_done) / self.shards_done
        return left if left >= self.monotonic() - self._done_at else None

    @property
    def in_flight(self) -> int | None:
        """Return the requests in flight in all regions; None before any was reported."""
        known = [region.in_flight for region in self.regions.values() if region.in_flight is not None]
        return sum(known) if known else None

    @property
    def per_second(self) -> float | None:
        """Return the sum of the known rate limits, in requests per second; None if none is known."""
        known = [region.per_second for region in self.regions.values() if region.per_second is not None]
        return sum(known) if known else None

    @property
    def slowest(self) -> list[ShardTime]:
        """Return the slowest shards, the slowest first."""
        return sorted(self.slow, reverse=True)

    def _find(self, shard: Shard) -> RegionStats:
        return self.regions.setdefault(shard.target.region, RegionStats())


def describe_plan(
    window: Window, targets: Sequence[Target], shard_count: int, *, time_basis: str = "processed time"
) -> str:
    """Return what will be requested, in one line; `time_basis` is the time that the window means."""
    regions = len({target.region for target in targets})
    compartments = len({target.compartment for target in targets})
    return (
        f"requesting {format_minute(window.start)} to {format_minute(window.end)} ({time_basis}, end exclusive) "
        f"in {format_count(regions, 'region')} × {format_count(compartments, 'compartment')}: "
        f"{format_count(shard_count, 'window')}"
    )


def describe_state(run_stats: RunStats) -> str:
    """Return how far a run is, in one line."""
    if run_stats.to_write:
        return f"writing: {run_stats.written:,} of {format_count(run_stats.to_write, 'event')}"
    parts = [
        f"{format_count(run_stats.events, 'event')} ({run_stats.events / run_stats.elapsed_seconds:,.0f}/s)",
        f"{run_stats.shards_done:,} of {format_count(run_stats.shards, 'window')}"
        + (f" ({run_stats.splits:,} split)" if run_stats.splits else ""),
    ]
    if run_stats.in_flight is not None:
        parts.append(f"{run_stats.in_flight:,} in flight{_describe_rate(run_stats.per_second)}")
    if run_stats.throttled:
        parts.append(f"{run_stats.throttled:,} × 429")
    if run_stats.gaps:
        parts.append(format_count(run_stats.gaps, "gap"))
    left = run_stats.seconds_left
    if left is not None:
        parts.append(f"about {format_duration(left)} left")
    return ", ".join(parts)


def describe_regions(run_stats: RunStats) -> Iterator[str]:
    """Yield a line for each region, the least finished first; nothing if there is only one."""
    if len(run_stats.regions) < 2:
        return
    ordered = sorted(run_stats.regions.items(), key=lambda item: (_find_share(item[1]), item[0]))
    width = max(len(name) for name, _ in ordered)
    for name, region in ordered[:_REGIONS_SHOWN]:
        yield f"  {name:{width}}  {_describe_region(region)}"
    if len(ordered) > _REGIONS_SHOWN:
        yield f"  and {format_count(len(ordered) - _REGIONS_SHOWN, 'more region')}"


def describe_shard(shard: Shard, paths: Mapping[str, str]) -> str:
    """Return a shard by region, path and window."""
    return f"{describe_target(shard.target, paths)} {shard.window}"


def describe_request(request: FinishedRequest) -> str:
    """Return one request in one line: method, host, path, status, size, time, attempt and request id."""
    status = "no response" if request.status is None else str(request.status)
    request_id = f" opc-request-id {request.request_id}" if request.request_id else ""
    error = f": {request.error}" if request.error else ""
    return (
        f"request: GET {request.host} {request.path} {status} {format_count(request.size_bytes, 'byte')} "
        f"{request.seconds:.3f} s attempt {request.try_number}{request_id}{error}"
    )


def describe_shard_time(taken: ShardTime, paths: Mapping[str, str]) -> str:
    """Return a shard, how long it took and what it returned."""
    pages, events = format_count(taken.pages, "page"), format_count(taken.events, "event")
    return f"{describe_shard(taken.shard, paths)}: {taken.seconds:.1f} s, {pages}, {events}"


def describe_effort(run_stats: RunStats) -> Iterator[str]:
    """Yield what a run took, and its slowest windows if one was slow; nothing if nothing was requested."""
    if not run_stats.requests:
        return
    elapsed = run_stats.elapsed_seconds
    requests = f"{format_count(run_stats.requests, 'request')} ({run_stats.requests / elapsed:,.1f}/s)"
    yield (
        f"took {format_duration(elapsed)}: {requests}, {run_stats.throttled:,} × 429, "
        f"{format_size(run_stats.received_bytes)} received, {format_count(run_stats.splits, 'window')} split"
    )
    slowest = [taken for taken in run_stats.slowest if taken.seconds >= _SLOW_SECONDS][:_SLOWEST_SHOWN]
    if slowest:
        yield "slowest windows:"
    for taken in slowest:
        yield f"  {describe_shard_time(taken, run_stats.paths)}"


def describe_split(shard: Shard, sub_shard_count: int, paths: Mapping[str, str]) -> str:
    """Return a split in one line."""
    return (
        f"split: {describe_shard(shard, paths)} is dense and requested as {format_count(sub_shard_count, 'sub-shard')}"
    )


def describe_rate(region: str, ceiling: int, per_second: float | None) -> str:
    """Return a region's rate limit in one line."""
    return f"rate: {region} up to {ceiling:,} in flight{_describe_rate(per_second) or ', no limit known'}"


def _describe_region(region: RegionStats) -> str:
    parts = [format_count(region.events, "event"), f"{region.shards_done:,} of {format_count(region.shards, 'window')}"]
    if region.in_flight is not None:
        parts.append(f"{region.in_flight:,} of {region.ceiling:,} in flight{_describe_rate(region.per_second)}")
    if region.gaps:
        parts.append(format_count(region.gaps, "gap"))
    return ", ".join(parts)


def _describe_rate(per_second: float | None) -> str:
    return "" if per_second is None else f", at most {per_second:.1f}/s"


def _find_share(region: RegionStats) -> float:
    return region.shards_done / region.shards if region.shards else 1.0


class QuietProgress(RunStats):
    """Prints only notices; gaps are in the summary."""

    def close(self) -> None:
        """Remove what is still on the screen."""

    def report_error(self, error: OciAuditError) -> bool:
        """Report what stopped the run, and return whether that was done; here the end of the program reports it."""
        return False

    def report_end(self, result: ExportResult, *, exit_code: int) -> bool:
        """Report how the run ended, and return whether that was done; here the summary reports it."""
        return False

    def report_sync(self, result: SyncResult, *, exit_code: int) -> bool:
        """Report how a sync ended, and return whether that was done; here the summary reports it."""
        return False

    def report_wait(self, until: str) -> None:
        """Report when a sync that failed is tried again; here the command prints it."""

    def on_notice(self, text: str) -> None:
        """Print the notice."""
        console.print_message(f"notice: {text}")


class LineProgress(QuietProgress):
    """Prints the plan first, then a line every few seconds."""

    def __init__(
        self,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        verbosity: int = 0,
        time_basis: str = "processed time",
    ) -> None:
        """Start at zero. `verbosity` 1 adds windows, splits and every retry, 2 every request."""
        super().__init__(monotonic=monotonic)
        self._time_basis = time_basis
        self._verbosity = verbosity
        self._has_reported_throttling = False
        self._printed_at = self._regions_printed_at = self.began_at

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """Print what will be requested."""
        super().on_plan(window, targets, shard_count)
        console.print_message(describe_plan(window, targets, shard_count, time_basis=self._time_basis))

    def on_request(self, request: FinishedRequest) -> None:
        """Count the request."""
        super().on_request(request)
        if self._verbosity >= VERY_VERBOSE:
            console.print_message(describe_request(request))
        self._report_if_due()

    def on_rate(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Print a changed limit; the number in flight changes too often to print."""
        before = self.regions.get(region)
        has_changed = before is None or (before.ceiling, before.per_second) != (ceiling, per_second)
        super().on_rate(region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)
        if self._verbosity >= VERBOSE and has_changed:
            console.print_message(describe_rate(region, ceiling, per_second))
        self._report_if_due()

    def on_split(self, shard: Shard, sub_shard_count: int) -> None:
        """Count the split."""
        super().on_split(shard, sub_shard_count)
        if self._verbosity >= VERBOSE:
            console.print_message(describe_split(shard, sub_shard_count, self.paths))

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        super().on_page(shard, scanned=scanned, kept=kept)
        self._report_if_due()

    def on_shard_done(self, shard: Shard) -> None:
        """Count the window."""
        taken = self.find_time(shard)
        super().on_shard_done(shard)
        if self._verbosity >= VERBOSE:
            console.print_message(
                f"done: {describe_shard_time(taken, self.paths) if taken else describe_shard(shard, self.paths)}"
            )
        self._report_if_due()

    def on_gap(self, gap: Gap) -> None:
        """Count the gap, which the end of the run names; when verbose, print it with its request id, up to a number."""
        super().on_gap(gap)
        if self._verbosity < VERBOSE:
            return
        number = self.gaps + self.waived_gaps
        if number <= _GAPS_PRINTED:
            console.print_message(f"{'waived' if self.is_waived(gap) else 'gap'}: {describe_gap(gap, self.paths)}")
        elif number == _GAPS_PRINTED + 1:
            console.print_message("gap: more gaps follow and are only counted")

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Print why the run waits, if it waits for a second or more; of throttling only that it has begun."""
        if self._verbosity < VERBOSE and isinstance(error, ServiceError) and error.status == _TOO_MANY_REQUESTS:
            if not self._has_reported_throttling:
                self._has_reported_throttling = True
                console.print_message("throttled: the service responds 429; requests slow down and continue")
            return
        if wait_seconds >= 1 or self._verbosity >= VERBOSE:
            console.print_message(
                f"waiting {wait_seconds:.0f} s: {error}" if wait_seconds >= 1 else f"retrying: {error}"
            )

    def on_written(self, event_count: int) -> None:
        """Count the events written to the output."""
        super().on_written(event_count)
        self._report_if_due()

    def describe(self) -> str:
        """Return the state in one line."""
        return describe_state(self)

    def _report_if_due(self) -> None:
        now = self.monotonic()
        if now - self._printed_at < _LINE_EVERY_SECONDS:
            return
        self._printed_at = now
        console.print_message(self.describe())
        if now - self._regions_printed_at >= _REGIONS_EVERY_SECONDS:
            self._regions_printed_at = now
            for line in describe_regions(self):
                console.print_message(line)


class BarProgress(LineProgress):
    """Shows the same numbers in a block at the bottom of the terminal."""

    def __init__(self, *, verbosity: int = 0, time_basis: str = "processed time") -> None:
        """Prepare the block without drawing it."""
        super().__init__(verbosity=verbosity, time_basis=time_basis)
        self._bar = console.ProgressBar()

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """Print the plan and draw the block below."""
        super().on_plan(window, targets, shard_count)
        self._bar.start(self.describe())

    def close(self) -> None:
        """Remove the block."""
        self._bar.stop()

    def _report_if_due(self) -> None:
        now = self.monotonic()
        if now - self._printed_at < _BLOCK_EVERY_SECONDS and self.fraction < 1:
            return
        self._printed_at = now
        is_long = self.elapsed_seconds >= _REGIONS_AFTER_SECONDS
        self._bar.show(self.fraction, self.describe(), tuple(describe_regions(self)) if is_long else ())
