"""The dry run: what an export would request, and an estimate of what it would return.

Nothing is written, and what earlier runs left is not looked at.

Invariants
- Without probing, only the scope is requested: regions, compartments, retention.
- Probing sends at most `MAX_PROBES` requests for pages, one after the other, and reports how many.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ociaudit.client.audit import Page, PageReader
from ociaudit.client.transport import FinishedRequest
from ociaudit.clock import Clock
from ociaudit.errors import RequestError, ServiceError
from ociaudit.events.event import read_order
from ociaudit.operations.context import (
    Callbacks,
    ExportOptions,
    RunContext,
    Service,
    check_scope,
    connect,
    is_beyond_retention,
    make_plan,
    resolve_times,
    run_async,
    settled_until,
)
from ociaudit.planning.planner import (
    Amount,
    Estimate,
    Probe,
    Sampled,
    choose_slices,
    divide_targets,
    estimate_total,
    plan_shards,
    share_probes,
)
from ociaudit.planning.shard import MINUTES_PER_DAY, Shard, Target, Window, format_minute
from ociaudit.storage.run_dir import ExportArguments, RunPlan

MAX_PROBES = 24
_SLICES = 8
_OUTERMOST = 20
_NANOSECONDS_PER_MINUTE = 60 * 10**9


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast the export may be: requests in flight, and requests per second in total if limited."""

    concurrency: int = 16
    max_per_second: float | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """What an export would request. Windows after the minute `settled_until` would be provisional.

    `requests_made` counts the preview's own requests. `failed` are the probes that got no page, with the reason.
    """

    plan: RunPlan
    max_window_days: int
    windows: int
    settled_until: int
    is_beyond_retention: bool
    speed: Speed
    requests_made: int = 0
    probes: int = 0
    estimate: Estimate | None = None
    failed: tuple[tuple[Shard, RequestError], ...] = ()

    @property
    def regions(self) -> list[str]:
        """Return the names of the regions."""
        return sorted({target.region for target in self.plan.targets})

    @property
    def compartment_count(self) -> int:
        """Return how many compartments there are."""
        return len({target.compartment for target in self.plan.targets})


@dataclass(slots=True)
class _RequestCounter(Callbacks):
    """Passes on what a preview reports, and counts its requests."""

    inner: Callbacks
    count: int = field(default=0)

    def on_notice(self, text: str) -> None:
        """Pass it on."""
        self.inner.on_notice(text)

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Pass it on."""
        self.inner.on_retry(error, wait_seconds)

    def on_request(self, request: FinishedRequest) -> None:
        """Count it and pass it on."""
        self.count += 1
        self.inner.on_request(request)


def preview_export(options: ExportOptions, context: RunContext, *, is_probing: bool) -> Preview:
    """Find out what an export with these options would request.

    Raises:
        OciAuditError: as the export itself would, before its first request for events.
    """
    now = context.clock.now()
    arguments = options.to_arguments(context.credentials, now=now)
    time_range = resolve_times(arguments, now=now)
    check_scope(arguments, context.endpoints)
    for notice in time_range.notices:
        context.callbacks.on_notice(notice)
    counter = _RequestCounter(context.callbacks)

    async def request() -> Preview:
        async with connect(replace(context, callbacks=counter)) as service:
            preview = await _request_scope(arguments, context, service, time_range.window, options.max_window_days)
            preview = replace(preview, speed=Speed(context.limits.max_in_flight, context.limits.max_per_second))
            if is_probing:
                preview = await Prober(service.choose_reader(options.source), context.clock, preview).probe()
            return replace(preview, requests_made=counter.count)

    return run_async(request)


async def _request_scope(
    arguments: ExportArguments, context: RunContext, service: Service, window: Window, max_window_days: int
) -> Preview:
    now = context.clock.now()
    plan = await make_plan(
        arguments, window=window, service=service, now=now, may_replace=False, callbacks=context.callbacks
    )
    settled = settled_until(now)
    return Preview(
        plan=plan,
        max_window_days=max_window_days,
        windows=count_windows(plan, max_window_days, settled),
        settled_until=settled,
        is_beyond_retention=is_beyond_retention(plan, now=now),
        speed=Speed(),
    )


def count_windows(plan: RunPlan, max_window_days: int, settled: int) -> int:
    """Return how many windows the plan has, before any is split."""
    return len(plan.targets) * len(_tile(plan, max_window_days, settled))


def _tile(plan: RunPlan, max_window_days: int, settled: int) -> list[Window]:
    """Return the first windows of a target; they are the same for every target."""
    shards = plan_shards(
        plan.targets[:1], plan.window, max_minutes=max_window_days * MINUTES_PER_DAY, settled_until=settled
    )
    return [shard.window for shard, _ in shards]


class Prober:
    """Requests the first pages of a sample of windows."""

    def __init__(self, reader: PageReader, clock: Clock, preview: Preview) -> None:
        """Probe what `preview` plans, through `reader`."""
        self._reader = reader
        self._clock = clock
        self._preview = preview
        self._sent = 0
        self._failed: list[tuple[Shard, RequestError]] = []
        self._denied: set[Target] = set()

    async def probe(self) -> Preview:
        """Request the sample and return the preview with the estimate."""
        preview = self._preview
        tiles = _tile(preview.plan, preview.max_window_days, preview.settled_until)
        parts = divide_targets(preview.plan.targets, tiles, tenancy=preview.plan.tenancy)
        # Slices of dense windows count towards the same maximum; where every window fits in it, all are requested.
        limit = preview.windows if preview.windows <= MAX_PROBES else MAX_PROBES - _SLICES
        shares = share_probes(parts, limit)
        firsts = [await self._request_all(part.choose(share)) for part, share in zip(parts, shares, strict=True)]
        sampled = await self._slice(firsts)
        speed = preview.speed
        estimate = estimate_total(
            list(zip(parts, sampled, strict=True)), concurrency=speed.concurrency, max_per_second=speed.max_per_second
        )
        return replace(preview, probes=self._sent, estimate=estimate, failed=tuple(self._failed))

    async def _slice(self, firsts: Sequence[Sequence[Probe]]) -> list[list[Sampled]]:
        """Request slices of the windows that have more than one page, the densest first."""
        dense = [probe for some in firsts for probe in some if probe.has_more]
        dense.sort(key=lambda probe: -probe.events / probe.covered_minutes)
        room = MAX_PROBES - self._sent
        slices: dict[Shard, tuple[Probe, ...]] = {}
        for number, probe in enumerate(dense[:room]):
            count = room // len(dense) + (number < room % len(dense))
            slices[probe.shard] = tuple(await self._request_all(choose_slices(probe, count)))
        return [[Sampled(probe, slices.get(probe.shard, ())) for probe in some] for some in firsts]

    async def _request_all(self, shards: Iterable[Shard]) -> list[Probe]:
        probes = []
        for shard in shards:
            if shard.target in self._denied:
                continue
            self._sent += 1
            began_at = self._clock.monotonic()
            try:
                page = await self._reader.read_first_page(shard)
            except RequestError as error:
                self._failed.append((shard, error))
                if isinstance(error, ServiceError) and not error.retryable:
                    self._denied.add(shard.target)
                continue
            probes.append(_make_probe(page, self._clock.monotonic() - began_at))
        return probes


def _make_probe(page: Page, seconds: float) -> Probe:
    return Probe(
        shard=page.shard,
        events=len(page.events),
        size_bytes=page.size_bytes,
        seconds=seconds,
        has_more=not page.is_last,
        spread_minutes=_measure_spread([read_order(event.order)[0] for event in page.events]),
    )


def _measure_spread(instants: list[int]) -> float:
    """Return over how many minutes a page's events are spread, ignoring the outermost twentieth at either end."""
    if not instants:
        return 0.0
    instants = sorted(instants)
    cut = len(instants) // _OUTERMOST
    inner = instants[-1 - cut] - instants[cut]
    return inner / (1 - 2 * cut / len(instants)) / _NANOSECONDS_PER_MINUTE


def encode_preview(preview: Preview) -> dict[str, Any]:
    """Return the preview of a dry run as one JSON object."""
    plan, estimate = preview.plan, preview.estimate
    return {
        "start": format_minute(plan.window.start),
        "end": format_minute(plan.window.end),
        "regions": preview.regions,
        "compartments": preview.compartment_count,
        "targets": len(plan.targets),
        "max_window_days": preview.max_window_days,
        "requests_at_least": preview.windows,
        "requests_made": preview.requests_made,
        "retention_days": plan.retention_days,
        "is_beyond_retention": preview.is_beyond_retention,
        "settled_until": format_minute(preview.settled_until),
        "is_provisional": plan.window.end > preview.settled_until,
        "estimate": _encode_estimate(preview, estimate) if estimate else None,
        "refused": [
            {
                "region": shard.target.region,
                "compartment": shard.target.compartment,
                "start": format_minute(shard.window.start),
                "end": format_minute(shard.window.end),
                "reason": str(error),
                "request_id": error.request_id,
            }
            for shard, error in preview.failed
        ],
    }


def _encode_estimate(preview: Preview, estimate: Estimate) -> dict[str, Any]:
    def show(amount: Amount) -> dict[str, float]:
        return {"likely": round(amount.likely), "low": round(amount.low), "high": round(amount.high)}

    return {
        "questions": preview.probes,
        "windows": estimate.windows,
        "windows_sampled": estimate.sampled,
        "windows_dense": estimate.dense,
        "unlike_share": round(estimate.unlike_share, 4),
        "is_exact": estimate.is_exact,
        "concurrency": preview.speed.concurrency,
        "max_requests_per_second": preview.speed.max_per_second,
        "seconds_per_request": round(estimate.seconds_per_request, 4),
        "events": show(estimate.events),
        "bytes": show(estimate.size_bytes),
        "requests": show(estimate.requests),
        "seconds": show(estimate.seconds),
    }
