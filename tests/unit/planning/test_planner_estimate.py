import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.planning.planner import (
    Probe,
    Sampled,
    ScopePart,
    choose_slices,
    divide_targets,
    estimate_total,
    share_probes,
)
from ociaudit.planning.shard import Shard, Target, Window, tile_window

ROOT = "ocid1.tenancy.oc1..t"


def make_part(targets: int, tiles: int) -> ScopePart:
    """Make a part of some targets with windows of an hour each."""
    some = [Target("r", f"c{number:04}") for number in range(targets)]
    return ScopePart(some, list(tile_window(Window(0, tiles * 60), 60)))


def probe_shard(shard: Shard, per_minute: float, *, page: int = 100) -> Probe:
    """Return the first page of a window with evenly spread events, in time order."""
    total = round(per_minute * shard.window.minutes)
    events = min(total, page)
    spread = events / per_minute if per_minute else 0.0
    return Probe(shard, events, events * 1000, 0.3, total > page, spread)


def sample_part(part: ScopePart, per_minute: float, limit: int = 16) -> list[Sampled]:
    """Return a sample of a part that is equally dense everywhere."""
    return [Sampled(probe_shard(shard, per_minute)) for shard in part.choose(limit)]


@given(st.integers(1, 60), st.integers(1, 400), st.integers(1, 40))
def test_a_sample_has_the_requested_size_and_no_window_twice(targets: int, tiles: int, limit: int) -> None:
    """A sample has the requested number of different windows, or all of them if the part has fewer."""
    part = make_part(targets, tiles)
    chosen = list(part.choose(limit))
    assert len(chosen) == len(set(chosen)) == min(limit, part.count)
    assert {shard.window for shard in chosen} <= set(part.tiles)
    assert list(part.choose(limit)) == chosen


def test_a_sample_is_spread_over_targets_and_time() -> None:
    """Sixteen of 200 × 26 windows touch every quarter of the targets and every quarter of the time."""
    chosen = list(make_part(200, 26).choose(16))
    assert len({shard.target for shard in chosen}) == 16
    assert {int(shard.target.compartment[1:]) // 50 for shard in chosen} == {0, 1, 2, 3}
    assert {shard.window.start * 4 // (26 * 60) for shard in chosen} == {0, 1, 2, 3}


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 24))
def test_every_probe_is_assigned_to_a_part(roots: int, others: int, limit: int) -> None:
    """The parts together get every probe that they have windows for, and root compartments get at least one."""
    parts = [make_part(roots, 1), make_part(others, 1)]
    shares = share_probes(parts, limit)
    assert sum(shares) == min(limit, roots + others)
    assert shares[0] >= 1
    assert all(0 <= share <= part.count for share, part in zip(shares, parts, strict=True))


def test_root_compartments_are_a_part_of_their_own() -> None:
    """The root compartment of every region is in the first part; without other compartments it is the only part."""
    targets = [Target(region, name) for region in ("a", "b") for name in ("c1", ROOT)]
    roots, others = divide_targets(targets, [Window(0, 1)], tenancy=ROOT)
    assert [target.compartment for target in roots.targets] == [ROOT, ROOT]
    assert [target.compartment for target in others.targets] == ["c1", "c1"]
    assert len(divide_targets(targets[:1], [Window(0, 1)], tenancy=ROOT)) == 1


@given(st.integers(1, 1000), st.integers(1, 60 * 24 * 14), st.integers(0, 40), st.floats(0, 30_000))
def test_slices_lie_inside_their_window(start: int, minutes: int, count: int, spread: float) -> None:
    """Every slice lies inside its window, whatever the length of the window and the spread of its events."""
    window = Window(start, start + minutes)
    slices = list(
        choose_slices(Probe(Shard(Target("r", "c"), window), 100, 1, 0.1, has_more=True, spread_minutes=spread), count)
    )
    assert len(slices) == count
    assert all(window.start <= one.window.start < one.window.end <= window.end for one in slices)


@pytest.mark.parametrize("per_minute", [0.0, 0.5, 3.0, 400.0])
def test_an_even_tenancy_is_estimated_exactly(per_minute: float) -> None:
    """If every window is alike, the estimate is the truth, and the range allows for windows that are not."""
    part = make_part(40, 50)
    estimate = estimate_total([(part, sample_part(part, per_minute))], concurrency=4)
    assert estimate is not None
    truth = per_minute * part.minutes
    assert estimate.events.likely == pytest.approx(truth, rel=0.02)
    assert estimate.events.low <= truth <= estimate.events.high
    assert truth / 50 <= estimate.events.low
    pages = max(1, math.ceil(per_minute * 60 / 100))
    assert estimate.requests.likely == pytest.approx(part.count * pages, rel=0.05)
    assert estimate.seconds.likely == pytest.approx(estimate.requests.likely * 0.3 / 4)
    assert not estimate.is_exact


def test_the_range_holds_the_truth_of_an_uneven_tenancy() -> None:
    """If one target in four is busy, the range contains the truth and is wide."""
    part = make_part(200, 26)

    def density(shard: Shard) -> float:
        return 20.0 if int(shard.target.compartment[1:]) % 4 == 0 else 0.01

    sampled = [Sampled(probe_shard(shard, density(shard))) for shard in part.choose(16)]
    estimate = estimate_total([(part, sampled)], concurrency=1)
    assert estimate is not None
    truth = (20.0 / 4 + 0.01 * 3 / 4) * part.minutes
    assert estimate.events.low < truth < estimate.events.high
    assert estimate.events.high > 1.3 * estimate.events.likely
    assert estimate.unlike_share == pytest.approx(3 / 16)


def test_a_sample_of_everything_is_exact() -> None:
    """If every window was sampled and none has a second page, the numbers are exact and no share is unknown."""
    part = make_part(3, 2)
    estimate = estimate_total([(part, sample_part(part, 1.0))], concurrency=1)
    assert estimate is not None
    assert estimate.is_exact
    assert estimate.unlike_share == 0
    assert (estimate.events.low, estimate.events.likely, estimate.events.high) == (360.0, 360.0, 360.0)
    assert estimate.requests.likely == 6


def test_a_rate_limit_bounds_the_duration() -> None:
    """An export takes at least as long as its requests at the allowed rate, whatever the concurrency."""
    part = make_part(40, 50)
    sampled = sample_part(part, 0.5)
    free = estimate_total([(part, sampled)], concurrency=64)
    capped = estimate_total([(part, sampled)], concurrency=64, max_per_second=10.0)
    slow = estimate_total([(part, sampled)], concurrency=1, max_per_second=10.0)
    assert free is not None
    assert capped is not None
    assert slow is not None
    assert free.seconds.likely == pytest.approx(2000 * 0.3 / 64)
    assert capped.seconds.likely == pytest.approx(200)
    assert slow.seconds.likely == pytest.approx(600)


def test_without_responses_there_is_no_estimate() -> None:
    """A sample in which every request failed gives no estimate."""
    assert estimate_total([(make_part(3, 2), [])], concurrency=1) is None


def test_slices_correct_a_first_page_that_misleads() -> None:
    """Slices outweigh a first page from a busy hour of a quiet window, but never below the events observed."""
    shard = Shard(Target("r", "c"), Window(0, 6000))
    first = Probe(shard, 100, 1, 0.1, has_more=True, spread_minutes=60)
    quiet = tuple(Probe(one, 0, 1, 0.1, has_more=False, spread_minutes=0) for one in choose_slices(first, 9))
    assert Sampled(first).events == pytest.approx(10_000)
    assert Sampled(first, quiet).events == 101
    assert Sampled(Probe(shard, 100, 1, 0.1, has_more=True, spread_minutes=6000), quiet).events == 101


@given(
    st.lists(st.tuples(st.integers(0, 500), st.booleans(), st.floats(0, 1e6)), min_size=1, max_size=24),
    st.integers(1, 64),
)
def test_an_estimate_is_ordered_and_never_below_what_was_observed(
    pages: list[tuple[int, bool, float]], concurrency: int
) -> None:
    """For any pages, low ≤ likely ≤ high, and low is at least the events observed and a request per window."""
    part = make_part(5, 30)
    sampled = [
        Sampled(Probe(shard, events, events * 900, 0.2, has_more=has_more, spread_minutes=spread))
        for shard, (events, has_more, spread) in zip(part.choose(len(pages)), pages, strict=True)
    ]
    estimate = estimate_total([(part, sampled)], concurrency=concurrency)
    assert estimate is not None
    for amount in (estimate.events, estimate.requests, estimate.size_bytes, estimate.seconds):
        assert 0 <= amount.low <= amount.likely <= amount.high
    assert estimate.events.low >= sum(events for events, _, _ in pages)
    assert estimate.requests.low >= part.count
