"""Synthetic tenancies for simulations: skewed compartments, working hours, bursts, and what a probe makes of them."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from ociaudit.client.audit import AuditReader
from ociaudit.client.network import Endpoints
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.transport import HttpClient, MemoryBudget
from ociaudit.operations.preview import Preview, Prober, Speed, count_windows
from ociaudit.planning.scope import make_targets
from ociaudit.planning.shard import MINUTES_PER_DAY, Target, Window
from ociaudit.storage.run_dir import ExportArguments, RunPlan
from support.simulated_service import PageOrder, SimulatedEvent, SimulatedService
from support.virtual_time import VirtualClock, run_in_virtual_time

BEGIN = 29_000_000
ROOT = "tenancy"


@dataclass(frozen=True)
class SyntheticTenancy:
    """A tenancy's targets and events over a window, and how its service cuts pages."""

    targets: tuple[Target, ...]
    window: Window
    events: Mapping[Target, list[SimulatedEvent]]
    page_size: int
    order: PageOrder

    @property
    def event_count(self) -> int:
        """Return the truth: how many events there are."""
        return sum(map(len, self.events.values()))


def make_tenancy(seed: int) -> SyntheticTenancy:
    """Draw a tenancy: from one target to 250, from a day to 120 days, even or skewed, steady or in bursts."""
    dice = random.Random(seed)
    regions = [f"r{number}" for number in range(dice.choice([1, 1, 2, 3, 4]))]
    compartments = [ROOT, *(f"c{number}" for number in range(dice.choice([0, 3, 10, 25, 60])))]
    targets = make_targets(regions, compartments)
    window = Window(BEGIN, BEGIN + dice.choice([1, 7, 14, 30, 60, 120]) * MINUTES_PER_DAY)
    skew = dice.choice([0.5, 1.0, 1.5, 2.0, 2.5])
    weights = [dice.lognormvariate(0, skew) * (3 if target.compartment == ROOT else 1) for target in targets]
    total = round(10 ** dice.uniform(2.5, 4.7))
    burst_share = dice.choice([0.0, 0.0, 0.2, 0.6])
    bursts = [
        (target, dice.uniform(0, window.minutes * 0.95), dice.choice([30, 600, 4_000]))
        for target in dice.choices(targets, weights, k=3)
    ]
    has_hours = dice.random() < 0.5
    events: dict[Target, list[SimulatedEvent]] = {}
    for number in range(total):
        if dice.random() < burst_share:
            target, start, length = dice.choice(bursts)
            minute = min(window.minutes - 0.01, start + dice.uniform(0, length))
        else:
            (target,) = dice.choices(targets, weights)
            minute = dice.uniform(0, window.minutes - 0.01)
            if has_hours and dice.random() < 0.8:  # most of it from eight to six
                minute = min(window.minutes - 0.01, minute // 1_440 * 1_440 + 480 + minute % 1_440 * 600 / 1_440)
        happened = BEGIN + minute - dice.expovariate(0.5)
        events.setdefault(target, []).append(SimulatedEvent(BEGIN + minute, happened, str(number)))
    order: PageOrder = dice.choice(["ascending", "ascending", "ascending", "descending"])
    return SyntheticTenancy(targets, window, events, dice.choice([100, 300, 1_000]), order)


def probe_tenancy(tenancy: SyntheticTenancy) -> Preview:
    """Return what `--dry-run --probe` finds, in virtual time."""
    service = SimulatedService(tenancy.events, page_size=tenancy.page_size, order=tenancy.order)
    plan = RunPlan(
        arguments=ExportArguments(start="", end="", profile=""),
        tenancy=ROOT,
        window=tenancy.window,
        targets=tenancy.targets,
        listed_compartments=None,
        started_at="",
    )
    preview = Preview(
        plan=plan,
        max_window_days=14,
        windows=count_windows(plan, 14, tenancy.window.end),
        settled_until=tenancy.window.end,
        is_beyond_retention=False,
        speed=Speed(),
    )
    found: list[Preview] = []

    async def probe() -> None:
        clock = VirtualClock(0)
        rate_limiter = RateLimiter(clock=clock, max_in_flight=1)
        budget = MemoryBudget(10**8, max_responses=1)
        client = HttpClient(service, rate_limiter=rate_limiter, clock=clock, budget=budget)
        audit = AuditReader(client, Endpoints("https://audit/{region}"))
        found.append(await Prober(audit, clock, preview).probe())
        await rate_limiter.close()

    run_in_virtual_time(probe())
    return found[0]
