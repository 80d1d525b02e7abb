"""A whole sweep against a simulated service in virtual time, with the program's own planner, client and fetcher."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ociaudit.client.audit import AuditReader, Page
from ociaudit.client.network import Endpoints
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import HttpClient, MemoryBudget
from ociaudit.operations.context import Callbacks
from ociaudit.operations.fetcher import Fetcher, GapTracker
from ociaudit.planning.planner import FetchState, SplitPolicy, plan_regions
from ociaudit.planning.shard import Coverage, Gap, Shard, Target, Window
from support.simulated_service import SimulatedService
from support.virtual_time import VirtualClock, run_in_virtual_time

_POLICY = SplitPolicy()
_CREDENTIALS = Credentials("tenancy", "r0", "user", "ab", "DEFAULT", "api_key", _signer=lambda _: None)


class AcceptedKey:
    """An identity service that accepts the key."""

    async def is_sign_in_accepted(self) -> bool:
        """Return True."""
        return True


@dataclass(slots=True)
class SweepResult:
    """The result of a sweep: `ids` are those of the `received` events, and `coverage` is what the sweep claims."""

    gaps: tuple[Gap, ...] = ()
    ids: set[str] = field(default_factory=set)
    coverage: dict[Target, Coverage] = field(default_factory=dict)
    seconds: float = 0.0
    region_seconds: dict[str, float] = field(default_factory=dict)
    pages: int = 0
    received: int = 0
    splits: list[tuple[Shard, tuple[Window, ...]]] = field(default_factory=list)


class _IdSink:
    def __init__(self, result: SweepResult) -> None:
        self._result = result

    async def handle_page(self, page: Page) -> None:
        self._result.pages += 1
        self._result.received += len(page.events)
        self._result.ids.update(event.order[9:-2].decode() for event in page.events)
        self._result.region_seconds[page.shard.target.region] = asyncio.get_running_loop().time()

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        self._result.splits.append((shard, pieces))


def simulate_sweep(
    service: SimulatedService,
    targets: Sequence[Target],
    window: Window,
    *,
    max_in_flight: int = 16,
    max_minutes: int = 14 * 1440,
    split_policy: SplitPolicy | None = _POLICY,
    max_per_second: float | None = None,
    deadline_seconds: float | None = None,
    progress: FetchState | None = None,
    held_bytes: int = 10**8,
) -> SweepResult:
    """Sweep the targets over the window, and return the result."""
    result = SweepResult()

    async def sweep() -> None:
        clock = VirtualClock(service.seed)
        rate_limiter = RateLimiter(clock=clock, max_in_flight=max_in_flight, max_per_second=max_per_second)
        budget = MemoryBudget(held_bytes, max_responses=max_in_flight)
        client = HttpClient(service, rate_limiter=rate_limiter, clock=clock, budget=budget)
        callbacks = Callbacks()
        fetcher = Fetcher(
            audit=AuditReader(client, Endpoints("https://audit/{region}")),
            rate_limiter=rate_limiter,
            gap_tracker=GapTracker(
                identity=AcceptedKey(), credentials=_CREDENTIALS, callbacks=callbacks, has_responded_before=False
            ),
            handler=_IdSink(result),
            targets=targets,
            window=window,
            covered=progress.covered if progress else {},
            callbacks=callbacks,
            split_policy=split_policy,
            deadline_seconds=deadline_seconds,
        )
        plan = plan_regions(targets, window, max_minutes=max_minutes, settled_until=window.end, progress=progress)
        result.gaps = await fetcher.run(plan)
        result.coverage = fetcher.coverage
        result.seconds = asyncio.get_running_loop().time()
        assert budget.reserved_bytes == 0
        assert all(limit.in_flight == 0 for limit in rate_limiter.limits_by_endpoint.values())
        await rate_limiter.close()

    run_in_virtual_time(sweep())
    return result
