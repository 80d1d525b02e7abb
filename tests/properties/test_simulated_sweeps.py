"""The program's own planner, rate limiter, client and fetcher against synthetic tenancies in virtual time."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ociaudit.planning.planner import FetchState, SplitDecider, SplitPolicy
from ociaudit.planning.shard import Coverage, Target, Window
from support.simulated_service import PageOrder, SimulatedEvent, SimulatedService
from support.simulated_sweep import SweepResult, simulate_sweep
from support.synthetic_tenancy import make_tenancy

BEGIN = 29_000_000
DAY = 1440
TARGETS = [Target(region, compartment) for region in ("r0", "r1", "r2") for compartment in "abc"]
WINDOW = Window(BEGIN, BEGIN + 3 * DAY)

bursts = st.tuples(
    st.sampled_from(TARGETS),
    st.integers(0, 3 * DAY - 1),
    st.sampled_from([1, 7, 60, 700, 3 * DAY]),
    st.integers(1, 150),
    st.sampled_from([0, 2, 2_000]),
)
tenancies = st.lists(bursts, max_size=5)


def make_events(drawn: Sequence[tuple[Target, int, int, int, int]]) -> Mapping[Target, list[SimulatedEvent]]:
    """Make events in bursts: where, from when, for how many minutes, how many, and how late at most."""
    events: dict[Target, list[SimulatedEvent]] = {}
    for burst, (target, start, minutes, count, late) in enumerate(drawn):
        for number in range(count):
            processed = BEGIN + min(3 * DAY - 0.001, start + minutes * number / count)
            happened = processed - late * ((number * 7) % 11) / 11
            events.setdefault(target, []).append(SimulatedEvent(processed, happened, f"{burst}-{number}"))
    return events


def check_nothing_is_missed(
    service: SimulatedService, swept: SweepResult, targets: Sequence[Target] = tuple(TARGETS)
) -> None:
    """Check that coverage and gaps partition the plan, and that every event of covered windows was received."""
    for target in targets:
        covered = swept.coverage.get(target, Coverage())
        gaps = [gap.window for gap in swept.gaps if gap.target == target]
        minutes = sum(window.minutes for window in (*covered.windows, *gaps))
        assert minutes == WINDOW.minutes
        assert not Coverage([*covered.windows, *gaps]).find_missing(WINDOW)
        for event in service.events.get(target, ()):
            is_covered = not covered.find_missing(Window(int(event.processed), int(event.processed) + 1))
            assert not is_covered or event.id in swept.ids


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=tenancies,
    order=st.sampled_from(["ascending", "descending", "random"]),
    page_size=st.sampled_from([2, 20, 500]),
    max_in_flight=st.integers(1, 8),
    max_minutes=st.sampled_from([61, DAY, 14 * DAY]),
    policy=st.builds(
        SplitPolicy,
        max_pages=st.sampled_from([2.0, 12.0]),
        pages_per_sub_shard=st.sampled_from([1.0, 8.0, 100.0]),
        max_sub_shards=st.sampled_from([1, 2, 32]),
        max_attempt_pages=st.sampled_from([2, 16]),
    ),
    held_bytes=st.sampled_from([1, 3_000, 10**8]),
)
def test_nothing_is_missed_whatever_the_density(
    drawn: Sequence[tuple[Target, int, int, int, int]],
    order: PageOrder,
    page_size: int,
    max_in_flight: int,
    max_minutes: int,
    policy: SplitPolicy,
    held_bytes: int,
) -> None:
    """Every event is received, coverage has no holes or overlaps, and requests in flight stay within the limit."""
    service = SimulatedService(make_events(drawn), page_size=page_size, order=order)
    swept = simulate_sweep(
        service,
        TARGETS,
        WINDOW,
        max_in_flight=max_in_flight,
        max_minutes=max_minutes,
        split_policy=policy,
        held_bytes=held_bytes,
    )
    assert swept.gaps == ()
    assert swept.ids == {event.id for own in service.events.values() for event in own}
    assert service.most_in_flight <= max_in_flight
    check_nothing_is_missed(service, swept)
    for shard, pieces in swept.splits:
        assert shard.window.minutes > 1
        assert Coverage(pieces).windows == (shard.window,)
        assert sum(piece.minutes for piece in pieces) == shard.window.minutes


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    drawn=tenancies,
    failure_share=st.sampled_from([0.0, 0.1, 0.6]),
    per_second=st.sampled_from([None, 1.0, 10.0]),
    retry_after=st.sampled_from([None, 1.0]),
    denied=st.frozensets(st.sampled_from(TARGETS), max_size=2),
    dead=st.frozensets(st.sampled_from(["r0", "r1"])),
    deadline=st.sampled_from([None, 0.1, 5.0]),
    seed=st.integers(0, 3),
)
def test_failures_are_gaps(
    drawn: Sequence[tuple[Target, int, int, int, int]],
    failure_share: float,
    per_second: float | None,
    retry_after: float | None,
    denied: frozenset[Target],
    dead: frozenset[str],
    deadline: float | None,
    seed: int,
) -> None:
    """With failures, denials, dead regions, rate limits and a deadline, a window is covered or a gap, never both."""
    service = SimulatedService(
        make_events(drawn),
        page_size=20,
        failure_share=failure_share,
        per_second=per_second,
        retry_after_seconds=retry_after,
        denied=denied,
        dead_regions=dead,
        seed=seed,
    )
    swept = simulate_sweep(service, TARGETS, WINDOW, max_minutes=DAY, deadline_seconds=deadline)
    check_nothing_is_missed(service, swept)
    if deadline is None and not failure_share:
        gone = {target for target in TARGETS if target in denied or target.region in dead}
        assert {gap.target for gap in swept.gaps} == gone


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(drawn=tenancies, deadline=st.floats(0.5, 30.0), seed=st.integers(0, 3))
def test_a_second_sweep_requests_what_the_first_did_not(
    drawn: Sequence[tuple[Target, int, int, int, int]], deadline: float, seed: int
) -> None:
    """Windows covered before the deadline are not requested again, and both sweeps together have every event."""
    service = SimulatedService(make_events(drawn), page_size=20, seed=seed)
    first = simulate_sweep(service, TARGETS, WINDOW, deadline_seconds=deadline, max_minutes=DAY)
    known = {target: Coverage(coverage.windows) for target, coverage in first.coverage.items()}
    second = simulate_sweep(service, TARGETS, WINDOW, max_minutes=DAY, progress=FetchState(covered=known))
    assert second.gaps == ()
    assert first.ids | second.ids == {event.id for own in service.events.values() for event in own}
    check_nothing_is_missed(service, SweepResult(ids=first.ids | second.ids, coverage=second.coverage))


def test_a_dead_region_does_not_slow_the_others() -> None:
    """With one of three regions silent, the other two take at most 15 % longer than without it."""
    events = make_events([(target, 0, 3 * DAY, 3_000, 0) for target in TARGETS[3:]])
    alive = SimulatedService(events)
    swept_alive = simulate_sweep(alive, TARGETS[3:], WINDOW, max_minutes=60)
    half_dead = SimulatedService(events, dead_regions=frozenset({"r0"}))
    swept = simulate_sweep(half_dead, TARGETS, WINDOW, max_minutes=60)
    seconds = max(swept.region_seconds[region] for region in ("r1", "r2"))
    assert seconds <= 1.15 * swept_alive.seconds
    assert {gap.target.region for gap in swept.gaps} == {"r0"}


@pytest.mark.parametrize("bucket", [5.0, 20.0])
@pytest.mark.parametrize("latency", [0.005, 0.05, 0.3])
def test_a_rate_limit_is_used_and_rarely_hit(bucket: float, latency: float) -> None:
    """Of 20 allowed requests a second at least 18 are made, and at most 3 in a hundred are throttled."""
    targets = [Target("r0", str(number)) for number in range(10)]
    service = SimulatedService({}, latency_seconds=latency, per_second=20.0, bucket=bucket)
    swept = simulate_sweep(service, targets, Window(BEGIN, BEGIN + 1_200 * DAY), max_minutes=10 * DAY)
    assert swept.gaps == ()
    assert 1_200 / swept.seconds >= 18
    assert service.throttled <= 0.03 * service.requests["r0"]


@pytest.mark.parametrize("retry_after", [None, 1.0])
@pytest.mark.parametrize("per_second", [1.0, 2.0, 3.0])
def test_a_very_low_limit_is_enough(per_second: float, retry_after: float | None) -> None:
    """Under a very low limit there is no gap, 60 % of the allowed rate is used, and at most 15 % are throttled."""
    targets = [Target("r0", str(number)) for number in range(10)]
    service = SimulatedService({}, per_second=per_second, retry_after_seconds=retry_after)
    swept = simulate_sweep(service, targets, Window(BEGIN, BEGIN + 300 * DAY), max_minutes=10 * DAY)
    assert swept.gaps == ()
    assert 300 / swept.seconds >= 0.6 * per_second
    assert service.throttled <= 0.15 * service.requests["r0"]


def test_a_cap_is_kept() -> None:
    """The configured maximum rate is kept, whatever the service allows."""
    service = SimulatedService({}, latency_seconds=0.01)
    swept = simulate_sweep(service, TARGETS, WINDOW, max_minutes=60, max_per_second=10.0)
    assert service.requests.total() / swept.seconds <= 10.2


@pytest.mark.parametrize("order", ["ascending", "descending", "random"])
def test_a_skewed_tenancy_costs_little_more_than_the_minimum(order: PageOrder) -> None:
    """With four fifths of the events in three days of one target, requests and time stay close to the minimum."""
    targets = [Target(f"r{region}", str(number)) for region in range(3) for number in range(41)]
    window = Window(BEGIN, BEGIN + 90 * DAY)
    dice = random.Random(7)
    minutes = [(targets[60], 31 * DAY + dice.uniform(0, 3 * DAY)) for _ in range(48_000)]
    minutes += [(dice.choice(targets), dice.uniform(0, 90 * DAY)) for _ in range(12_000)]
    events: dict[Target, list[SimulatedEvent]] = {}
    for number, (target, minute) in enumerate(minutes):
        processed = BEGIN + minute
        events.setdefault(target, []).append(SimulatedEvent(processed, processed - dice.expovariate(0.5), str(number)))
    in_windows = Counter(
        (target, int(event.processed - BEGIN) // (14 * DAY)) for target, own in events.items() for event in own
    )
    pages = sum(max(1, ceil(in_windows[target, index] / 100)) for target in targets for index in range(7))
    service = SimulatedService(events, order=order)
    swept = simulate_sweep(service, targets, window)
    assert len(swept.ids) == 60_000
    most_requests, most_time = (1.15, 1.3) if order == "random" else (1.1, 1.2)  # a shuffled page hides density
    assert service.requests.total() <= most_requests * pages
    assert swept.seconds <= most_time * pages * 0.3 / 16


def test_splits_fetch_little_twice() -> None:
    """Over synthetic tenancies at most 4 % of the events are fetched twice, and no tenancy has half of them twice."""
    events = again = splits = 0
    for seed in range(30, 60):
        tenancy = make_tenancy(seed)
        service = SimulatedService(tenancy.events, page_size=tenancy.page_size, order=tenancy.order)
        swept = simulate_sweep(service, tenancy.targets, tenancy.window)
        assert len(swept.ids) == tenancy.event_count
        assert swept.received - tenancy.event_count <= 0.55 * tenancy.event_count
        events += tenancy.event_count
        again += swept.received - tenancy.event_count
        splits += len(swept.splits)
    assert splits >= 20
    assert again <= 0.04 * events


def test_quiet_targets_cost_one_request_per_window() -> None:
    """A year of a quiet compartment in windows of fourteen days costs 27 requests."""
    targets = [Target("r0", str(number)) for number in range(20)]
    service = SimulatedService({})
    simulate_sweep(service, targets, Window(BEGIN, BEGIN + 365 * DAY))
    assert service.requests.total() == 27 * 20


@given(
    instants=st.lists(st.integers(0, 10**17), max_size=30),
    minutes=st.integers(2, 10**6),
    pages=st.integers(1, 40),
    policy=st.builds(SplitPolicy, max_pages=st.floats(0.1, 100), pages_per_sub_shard=st.floats(0.1, 100)),
)
def test_a_split_covers_the_window(instants: list[int], minutes: int, pages: int, policy: SplitPolicy) -> None:
    """For any event times and policy, a split has 2 to 32 consecutive sub-shards that cover the window."""
    window = Window(BEGIN, BEGIN + minutes)
    decider = SplitDecider(window, policy)
    for _ in range(pages):
        if decider.record_page(instants):
            break
    if decider.sub_windows:
        assert 2 <= len(decider.sub_windows) <= 32
        assert [decider.sub_windows[0].start, decider.sub_windows[-1].end] == [window.start, window.end]
        assert all(
            one.end == other.start for one, other in zip(decider.sub_windows, decider.sub_windows[1:], strict=False)
        )


@given(st.lists(st.integers(0, 10**17), max_size=30), st.integers(1, 40))
def test_a_minute_is_never_split(instants: list[int], pages: int) -> None:
    """A window of one minute is paged, however dense it is."""
    decider = SplitDecider(Window(BEGIN, BEGIN + 1), SplitPolicy())
    assert not any(decider.record_page(instants) for _ in range(pages))
