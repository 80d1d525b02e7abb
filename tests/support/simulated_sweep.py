"""A whole sweep against a simulated service, in virtual time: the program's own planner, gate, client and sweep.

Owns: putting them together, and what came of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from ociaudit.client.audit import AuditReader, Page
from ociaudit.client.http_client import Client
from ociaudit.client.memory_budget import MemoryBudget
from ociaudit.client.network import Endpoints
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import Credentials
from ociaudit.operations.context import Callbacks
from ociaudit.operations.fetcher import Fetcher, GapTracker
from ociaudit.planning.planner import FetchState, SplitPolicy, plan_regions
from ociaudit.planning.shard import Gap, Shard, Target
from ociaudit.planning.window import Coverage, Window
from support.simulated_service import SimulatedService
from support.virtual_time import VirtualClock, run_in_virtual_time

_POLICY = SplitPolicy()
_CREDENTIALS = Credentials("tenancy", "r0", "user", "ab", "DEFAULT", "api_key", _signer=lambda _: None)


class AcceptedKey:
    """An identity service that knows the key."""

    async def is_sign_in_accepted(self) -> bool:
        """Say yes."""
        return True


@dataclass(slots=True)
class Swept:
    """What a sweep brought. `ids` are those of all pages, `coverage` what is claimed."""

    gaps: tuple[Gap, ...] = ()
    ids: set[str] = field(default_factory=set)
    coverage: dict[Target, Coverage] = field(default_factory=dict)
    seconds: float = 0.0
    region_seconds: dict[str, float] = field(default_factory=dict)
    pages: int = 0
    splits: list[tuple[Shard, tuple[Window, ...]]] = field(default_factory=list)


class _IdSink:
    def __init__(self, swept: Swept) -> None:
        self._swept = swept

    async def handle_page(self, page: Page) -> None:
        self._swept.pages += 1
        self._swept.ids.update(event.order[9:-2].decode() for event in page.events)
        self._swept.region_seconds[page.shard.target.region] = asyncio.get_running_loop().time()

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        self._swept.splits.append((shard, pieces))


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
) -> Swept:
    """Sweep the places, and return what came."""
    swept = Swept()

    async def sweep() -> None:
        clock = VirtualClock(service.seed)
        rate_limiter = RateLimiter(clock=clock, max_in_flight=max_in_flight, max_per_second=max_per_second)
        budget = MemoryBudget(held_bytes, max_responses=max_in_flight)
        client = Client(service, rate_limiter=rate_limiter, clock=clock, budget=budget)
        callbacks = Callbacks()
        work = Fetcher(
            audit=AuditReader(client, Endpoints("https://audit/{region}")),
            rate_limiter=rate_limiter,
            gap_tracker=GapTracker(
                identity=AcceptedKey(), credentials=_CREDENTIALS, callbacks=callbacks, has_responded_before=False
            ),
            handler=_IdSink(swept),
            targets=targets,
            window=window,
            covered=progress.covered if progress else {},
            callbacks=callbacks,
            split_policy=split_policy,
            deadline_seconds=deadline_seconds,
        )
        plan = plan_regions(targets, window, max_minutes=max_minutes, settled_until=window.end, progress=progress)
        swept.gaps = await work.run(plan)
        swept.coverage = work.coverage
        swept.seconds = asyncio.get_running_loop().time()
        assert budget.held_bytes == 0
        assert all(limit.in_flight == 0 for limit in rate_limiter.limits_by_endpoint.values())
        await rate_limiter.close()

    run_in_virtual_time(sweep())
    return swept
