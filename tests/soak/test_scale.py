"""The figures of docs/explanation/scale.md: one task of a sweep of 60,000 targets over a year, in virtual time."""

import random

import pytest

from ociaudit.planning.planner import FetchState, share_work
from ociaudit.planning.shard import MINUTES_PER_DAY, Coverage, Target, Window, floor_minute
from support.simulated_service import SimulatedEvent, SimulatedService
from support.simulated_sweep import simulate_sweep
from support.virtual_time import START

REGIONS, COMPARTMENTS, EVENTS = 30, 2_000, 20_000_000
END = floor_minute(START)
YEAR = Window(END - 365 * MINUTES_PER_DAY, END)
TARGETS = [Target(f"r{region}", f"c{number}") for region in range(REGIONS) for number in range(COMPARTMENTS)]


def draw_events(parts):
    """Return the events of a task: half of the year's 20 million are in one target of a hundred."""
    rng = random.Random(1)
    hot = set(rng.sample(TARGETS, len(TARGETS) // 100))
    events = {}
    for target, coverage in parts.items():
        others = len(hot) if target in hot else len(TARGETS) - len(hot)
        share = sum(window.minutes for window in coverage.windows) / YEAR.minutes
        count = int(EVENTS / 2 / others * share + rng.random())
        drawn = (rng.choice(coverage.windows) for _ in range(count))
        times = (rng.uniform(window.start, window.end) for window in drawn)
        events[target] = [SimulatedEvent(time, time, f"{target}{number}") for number, time in enumerate(times)]
    return events


@pytest.mark.parametrize(
    ("tasks", "days", "requests", "hours"), [(64, 14, 27_200, 0.09), (256, 14, 6_900, 0.02), (64, 90, 6_900, 0.02)]
)
def test_a_task_needs_what_the_page_says(tasks, days, requests, hours):
    """A task of so many sends within a tenth of the requests, and takes within a fifth of the hours, of the table."""
    longest, shares = share_work(TARGETS, YEAR, tenancy="c0", max_minutes=days * MINUTES_PER_DAY, share_count=tasks)
    parts = {}
    for window, some in shares[0]:
        for target in some:
            parts.setdefault(target, Coverage()).add(window)
    service = SimulatedService(draw_events(parts), latency_seconds=0.2)
    elsewhere = {target: Coverage(missing) for target, own in parts.items() if (missing := own.find_missing(YEAR))}
    result = simulate_sweep(service, sorted(parts), YEAR, max_minutes=longest, progress=FetchState(covered=elsewhere))
    assert not result.gaps
    assert len(shares) == tasks
    assert sum(service.requests.values()) == pytest.approx(requests, rel=0.1)
    assert result.seconds / 3600 == pytest.approx(hours, rel=0.25)
