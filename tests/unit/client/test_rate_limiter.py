from __future__ import annotations

import asyncio
import contextlib
import random
from collections import deque
from collections.abc import Awaitable, Callable
from statistics import mean

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ociaudit.client.rate_limiter import EndpointLimit, RateLimiter, Slot
from support.virtual_time import VirtualClock, run_in_virtual_time

Scene = Callable[[RateLimiter], Awaitable[None]]


def run_scene(scene: Scene, *, max_in_flight: int = 16, max_per_second: float | None = None) -> float:
    """Run a scene in virtual time, and return how many seconds it took."""

    async def measure() -> float:
        rate_limiter = RateLimiter(clock=VirtualClock(), max_in_flight=max_in_flight, max_per_second=max_per_second)
        await scene(rate_limiter)
        assert all(limit.in_flight == 0 for limit in rate_limiter.limits_by_endpoint.values())
        await rate_limiter.close()
        return asyncio.get_running_loop().time()

    return run_in_virtual_time(measure())


async def request(rate_limiter: RateLimiter, endpoint: str, seconds: float = 1.0, *, is_success: bool = True) -> None:
    """Hold a slot for some seconds."""
    async with rate_limiter.acquire(endpoint) as slot:
        await asyncio.sleep(seconds)
        if is_success:
            slot.record_success()
        else:
            slot.record_failure()


def test_requests_in_flight_grow_from_two_to_the_ceiling() -> None:
    """One request is in flight until the first response, then two plus one per success, up to the ceiling."""
    seen: list[int] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def watch() -> None:
            async with rate_limiter.acquire("a") as slot:
                seen.append(rate_limiter.limits_by_endpoint["a"].in_flight)
                await asyncio.sleep(1)
                slot.record_success()

        await asyncio.gather(*(watch() for _ in range(40)))

    seconds = run_scene(scene, max_in_flight=8)
    assert seen[:4] == [1, 3, 3, 3]
    assert max(seen) == 8
    assert seconds == pytest.approx(7.0, abs=1.0)


def test_retry_after_of_a_503_pauses_its_endpoint() -> None:
    """A 503 with `Retry-After` pauses its endpoint for that time, and no other endpoint."""
    sent: list[tuple[str, float]] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def request_once(endpoint: str, *, is_success: bool) -> None:
            async with rate_limiter.acquire(endpoint) as slot:
                sent.append((endpoint, asyncio.get_running_loop().time()))
                await asyncio.sleep(0.5)
                if is_success:
                    slot.record_success()
                else:
                    slot.record_failure(20.0)

        await asyncio.gather(request_once("a", is_success=True), request_once("b", is_success=True))
        await request_once("a", is_success=False)
        await asyncio.gather(*(request_once(endpoint, is_success=True) for endpoint in "aabb"))

    run_scene(scene)
    assert [moment for endpoint, moment in sent if endpoint == "a"] == [0.0, 0.5, 21.0, 21.0]
    assert max(moment for endpoint, moment in sent if endpoint == "b") == 1.0


def test_a_rate_for_all_holds_across_endpoints() -> None:
    """Ten requests to two endpoints at two a second take four and a half seconds."""

    async def scene(rate_limiter: RateLimiter) -> None:
        await asyncio.gather(*(request(rate_limiter, endpoint, 0.0) for endpoint in "ab" * 5))

    assert run_scene(scene, max_per_second=2.0) == pytest.approx(4.5)


def test_a_shard_that_has_started_goes_first() -> None:
    """A reservation for a new shard waits until no other request could be sent."""
    order: list[str] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def start() -> None:
            await rate_limiter.reserve("a")
            order.append("new")
            await request(rate_limiter, "a")

        async def continue_shard() -> None:
            await request(rate_limiter, "a")
            order.append("continued")

        blocker = asyncio.ensure_future(request(rate_limiter, "a"))
        await asyncio.sleep(0.1)
        new = asyncio.ensure_future(start())
        await asyncio.sleep(0.1)
        await asyncio.gather(blocker, new, continue_shard(), continue_shard())

    run_scene(scene, max_in_flight=1)
    assert order == ["continued", "continued", "new"]


def test_dead_regions_leave_half_of_the_slots() -> None:
    """Eight regions that never respond do not block another one, not even at the start."""

    async def scene(rate_limiter: RateLimiter) -> None:
        dead = [
            asyncio.ensure_future(request(rate_limiter, f"dead{number}", 600, is_success=False)) for number in range(8)
        ]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await asyncio.gather(*(request(rate_limiter, "alive") for _ in range(64)))
        for one in dead:
            one.cancel()
        await asyncio.wait(dead)

    assert run_scene(scene) < 60


def test_a_slot_that_is_not_needed_goes_to_the_next_request() -> None:
    """A slot is free again when it is returned, or when its request is cancelled before or after the grant."""

    async def scene(rate_limiter: RateLimiter) -> None:
        await rate_limiter.reserve("a")
        rate_limiter.release_reserved("a")
        holder = asyncio.ensure_future(request(rate_limiter, "a", 5))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(request(rate_limiter, "a")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await holder
        waiting[1].cancel()
        for task in waiting:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    run_scene(scene, max_in_flight=1)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["success", "failure", "429", "cancel"]), st.floats(0, 3)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 6),
)
def test_every_request_gets_a_slot_in_the_end(drawn: list[tuple[str, str, float]], max_in_flight: int) -> None:
    """However requests end, no more slots than allowed are in use, and all are returned."""
    most = 0

    async def scene(rate_limiter: RateLimiter) -> None:
        async def request_once(endpoint: str, kind: str, seconds: float) -> None:
            nonlocal most
            async with rate_limiter.acquire(endpoint) as slot:
                most = max(most, sum(limit.in_flight for limit in rate_limiter.limits_by_endpoint.values()))
                await asyncio.sleep(seconds)
                if kind == "success":
                    slot.record_success()
                elif kind == "failure":
                    slot.record_failure()
                elif kind == "429":
                    slot.record_throttled(None)

        tasks = [asyncio.ensure_future(request_once(*each)) for each in drawn]
        await asyncio.sleep(0.5)
        for task, (_, kind, _) in zip(tasks, drawn, strict=True):
            if kind == "cancel":
                task.cancel()
        await asyncio.wait(tasks)

    run_scene(scene, max_in_flight=max_in_flight)
    assert most <= max_in_flight


def succeed_evenly(limit: EndpointLimit, *, start: float, per_second: float, seconds: float) -> float:
    """Record requests that succeed immediately at an even rate; return the moment of the last."""
    now = start
    for number in range(int(per_second * seconds)):
        now = start + number / per_second
        limit.record_sent(now)
        limit.record_success(now)
    return now


def succeed_at_full_rate(limit: EndpointLimit, start: float, *, seconds: int) -> dict[int, float]:
    """Record requests that succeed immediately, as fast as allowed; return the rate in each second."""
    rates: dict[int, float] = {}
    now = start
    while now < start + seconds:
        now = max(now, limit.next_send_at)
        limit.record_sent(now)
        limit.record_success(now)
        rates[int(now - start)] = limit.per_second or 0.0
    return rates


def throttle(limit: EndpointLimit, now: float, *, retry_after_seconds: float | None = None) -> None:
    """Record a request that gets a 429 immediately."""
    limit.record_sent(now)
    limit.record_throttled(now, sent_at=now, retry_after_seconds=retry_after_seconds)


def test_requests_in_flight_grow_with_every_success() -> None:
    """A success allows one more request in flight, up to the ceiling."""
    limit = EndpointLimit(max_in_flight=4)
    assert (limit.allowed_in_flight, limit.has_free_slot) == (2, True)
    limit.record_sent(0.0)
    assert not limit.has_free_slot
    limit.record_abandoned()
    allowed = []
    for _ in range(4):
        limit.record_sent(0.0)
        limit.record_success(0.0)
        allowed.append(limit.allowed_in_flight)
    assert allowed == [3, 4, 4, 4]


def test_there_is_no_rate_limit_before_the_first_429() -> None:
    """Neither successes nor failures without a 429 set a rate limit."""
    limit = EndpointLimit(max_in_flight=4)
    succeed_evenly(limit, start=0.0, per_second=500.0, seconds=3.0)
    limit.record_sent(3.0)
    limit.record_failure()
    assert limit.per_second is None
    assert limit.next_send_at <= 3.0


def test_a_failing_endpoint_has_one_request_in_flight() -> None:
    """An endpoint is unproven from the third failure in a row to the next success."""
    limit = EndpointLimit(max_in_flight=4)
    succeed_evenly(limit, start=0.0, per_second=10.0, seconds=1.0)
    proven = []
    for _ in range(3):
        limit.record_sent(1.0)
        limit.record_failure()
        proven.append(limit.is_proven)
    assert proven == [True, True, False]
    limit.record_sent(1.0)
    assert not limit.has_free_slot
    limit.record_success(1.0)
    assert limit.is_proven
    assert limit.has_free_slot


def test_a_429_shows_the_ceiling() -> None:
    """After a 429 the rate is 90 % of the last second's successes, over 95 % four seconds later, and above it later."""
    limit = EndpointLimit(max_in_flight=4)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    throttle(limit, now)
    assert limit.per_second == pytest.approx(18.0)
    rates = succeed_at_full_rate(limit, now, seconds=30)
    assert rates[4] > 19.0
    assert rates[10] == pytest.approx(20.0, rel=0.01)
    assert rates[25] > 24.0


def test_a_confirmed_ceiling_is_tried_more_rarely() -> None:
    """A second 429 at the same rate leaves more of it, for longer; one at another rate starts from the beginning."""
    limit = EndpointLimit(max_in_flight=4)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    throttle(limit, now)
    now = succeed_evenly(limit, start=now + 1, per_second=20.0, seconds=9.0)
    throttle(limit, now)
    assert limit.per_second == pytest.approx(0.97 * 0.98 * 20, rel=0.02)
    rates = succeed_at_full_rate(limit, now, seconds=24)
    assert max(rates.values()) < 20.2
    now = succeed_evenly(limit, start=now + 30, per_second=10.0, seconds=9.0)
    throttle(limit, now)
    assert limit.per_second == pytest.approx(9.0)


def test_the_rate_does_not_grow_during_a_pause() -> None:
    """After a minute of Retry-After the rate is what it was before."""
    limit = EndpointLimit(max_in_flight=4)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    throttle(limit, now, retry_after_seconds=60.0)
    limit.record_sent(now + 60)
    limit.record_success(now + 60)
    assert limit.per_second == pytest.approx(18.0, rel=0.01)


def test_an_unused_rate_does_not_grow() -> None:
    """With one success a second for an hour, the rate stays near the initial one."""
    limit = EndpointLimit(max_in_flight=4)
    throttle(limit, 0.0)
    for second in range(1, 3_600):
        limit.record_sent(second)
        limit.record_success(second)
    assert limit.per_second <= 8.0


def test_a_rejected_burst_is_one_reduction() -> None:
    """A 429 to a request that was sent before the last reduction does not reduce the rate again."""
    limit = EndpointLimit(max_in_flight=16)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    for _ in range(5):
        limit.record_sent(now)
    for _ in range(5):
        limit.record_throttled(now + 0.01, sent_at=now, retry_after_seconds=None)
    assert limit.per_second == pytest.approx(18.0)
    assert limit.in_flight == 0


def test_several_retry_after_do_not_add_up() -> None:
    """The endpoint is paused until the latest moment that was named."""
    limit = EndpointLimit(max_in_flight=16)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    for seconds in (5.0, 9.0, 2.0):
        throttle(limit, now, retry_after_seconds=seconds)
    assert limit.next_send_at == pytest.approx(now + 9.0)


def test_a_series_of_429_shows_no_ceiling() -> None:
    """The rate is halved per round trip, down to one request in two seconds, and recovers soon after."""
    limit = EndpointLimit(max_in_flight=16)
    now = succeed_evenly(limit, start=0.0, per_second=20.0, seconds=3.0)
    rates = []
    for number in range(8):
        throttle(limit, now + 2 + number)
        rates.append(limit.per_second)
    assert rates == [4.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert max(succeed_at_full_rate(limit, now + 10, seconds=10).values()) > 20


def test_an_early_429_shows_no_ceiling() -> None:
    """After a 429 in the first second the rate starts at four and doubles every second."""
    limit = EndpointLimit(max_in_flight=16)
    throttle(limit, 0.0)
    assert limit.per_second == 4.0
    rates = succeed_at_full_rate(limit, 0.0, seconds=5)
    assert rates[1] > 6
    assert rates[4] > 30


def test_a_429_in_the_first_second_starts_below_its_successes() -> None:
    """With twelve successes before it, the rate starts at nine; the successes of half a second show no ceiling."""
    limit = EndpointLimit(max_in_flight=16)
    now = succeed_evenly(limit, start=0.0, per_second=24.0, seconds=0.5)
    throttle(limit, now)
    assert limit.per_second == 9.0
    assert succeed_at_full_rate(limit, now, seconds=3)[2] > 30


class SlidingSecond:
    """A service that takes `per_second` requests in any second, and names a `Retry-After` with every second 429."""

    def __init__(self, per_second: int, latency_seconds: float, seed: int) -> None:
        self.per_second = per_second
        self.latency_seconds = latency_seconds
        self.random = random.Random(seed)
        self.taken: deque[float] = deque()
        self.sent = self.refused = 0

    async def handle(self, slot: Slot) -> float | None:
        """Answer a request, and return the wait that a 429 asks for; None for a success."""
        await asyncio.sleep(self.latency_seconds * self.random.uniform(0.3, 0.7))
        now = asyncio.get_running_loop().time()
        self.sent += 1
        while self.taken and self.taken[0] <= now - 1:
            self.taken.popleft()
        is_taken = len(self.taken) < self.per_second
        if is_taken:
            self.taken.append(now)
        await asyncio.sleep(self.latency_seconds * self.random.uniform(0.3, 0.7))
        if is_taken:
            slot.record_success()
            return None
        self.refused += 1
        retry_after = 1.0 if self.refused % 2 == 0 else None
        slot.record_throttled(retry_after)
        return retry_after or 0.2


def measure_rate(service: SlidingSecond, requests: int) -> float:
    """Send requests, 24 at a time, until each has succeeded; return how many did in a second."""

    async def scene(rate_limiter: RateLimiter) -> None:
        waiting = list(range(requests))

        async def work() -> None:
            while waiting:
                waiting.pop()
                wait: float | None = 0.0
                while wait is not None:
                    await asyncio.sleep(wait)
                    async with rate_limiter.acquire("a") as slot:
                        wait = await service.handle(slot)

        await asyncio.gather(*(work() for _ in range(24)))

    return requests / run_scene(scene)


@pytest.mark.parametrize("latency_seconds", [0.005, 0.03, 0.08])
def test_a_limit_of_twenty_in_a_second_is_used(latency_seconds: float) -> None:
    """In a minute, nine tenths of the limit are used on average, and at most three requests in a hundred refused."""
    services = [SlidingSecond(20, latency_seconds, seed) for seed in range(8)]
    rates = [measure_rate(service, 1_200) for service in services]
    assert mean(rates) >= 18.0
    assert all(service.refused <= 0.03 * service.sent for service in services)


@pytest.mark.parametrize("per_second", [1, 2, 3, 5])
def test_a_low_limit_is_used(per_second: int) -> None:
    """In two minutes, 85 % of a limit of one to five requests in a second are used on average."""
    rates = [measure_rate(SlidingSecond(per_second, 0.05, seed), 120 * per_second) for seed in range(8)]
    assert mean(rates) >= 0.85 * per_second
    assert min(rates) >= 0.75 * per_second


outcomes = st.lists(
    st.tuples(
        st.sampled_from(["success", "failure", "throttled", "abandoned"]),
        st.floats(0.0, 2.0, allow_nan=False),
        st.none() | st.floats(0.0, 100.0),
    ),
    max_size=60,
)


@given(outcomes, st.integers(1, 32))
@example(
    [
        ("success", 1.0, None),
        ("throttled", 0.0, None),
        ("success", 0.0, None),
        ("throttled", 0.0, None),
        ("failure", 0.0, None),
        ("throttled", 1.0, None),
    ],
    1,
)  # the rate measured is below the least one
def test_there_is_always_a_next_moment_to_send(
    drawn: list[tuple[str, float, float | None]], max_in_flight: int
) -> None:
    """However requests end, those in flight are counted correctly, and the rate never falls to zero."""
    limit = EndpointLimit(max_in_flight=max_in_flight)
    now = 0.0
    for kind, seconds, retry_after in drawn:
        now = max(now, limit.next_send_at)
        limit.record_sent(now)
        sent_at, now = now, now + seconds
        if kind == "success":
            limit.record_success(now)
        elif kind == "failure":
            limit.record_failure()
        elif kind == "abandoned":
            limit.record_abandoned()
        else:
            limit.record_throttled(now, sent_at=sent_at, retry_after_seconds=retry_after)
        assert limit.in_flight == 0
        assert min(2, max_in_flight) <= limit.allowed_in_flight <= max_in_flight
        assert limit.per_second is None or limit.per_second >= 0.42
        assert limit.next_send_at <= now + 102.5
