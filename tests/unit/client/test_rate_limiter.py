from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.client.rate_limiter import EndpointLimit, RateLimiter
from support.virtual_time import VirtualClock, run_in_virtual_time

Scene = Callable[[RateLimiter], Awaitable[None]]


def play(scene: Scene, *, max_in_flight: int = 16, max_per_second: float | None = None) -> float:
    """Play a scene in virtual time, and return how long it took."""

    async def run() -> float:
        rate_limiter = RateLimiter(clock=VirtualClock(), max_in_flight=max_in_flight, max_per_second=max_per_second)
        await scene(rate_limiter)
        assert all(limit.in_flight == 0 for limit in rate_limiter.limits_by_endpoint.values())
        await rate_limiter.close()
        return asyncio.get_running_loop().time()

    return run_in_virtual_time(run())


async def ask(rate_limiter: RateLimiter, endpoint: str, seconds: float = 1.0, *, is_good: bool = True) -> None:
    """Hold a place for some seconds."""
    async with rate_limiter.enter(endpoint) as slot:
        await asyncio.sleep(seconds)
        if is_good:
            slot.record_success()
        else:
            slot.record_failure()


def test_it_grows_from_two_to_the_ceiling() -> None:
    """One until the region answers, and then one more than two for every good answer; never more than allowed."""
    seen: list[int] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def watch() -> None:
            async with rate_limiter.enter("a") as slot:
                seen.append(rate_limiter.limits_by_endpoint["a"].in_flight)
                await asyncio.sleep(1)
                slot.record_success()

        await asyncio.gather(*(watch() for _ in range(40)))

    seconds = play(scene, max_in_flight=8)
    assert seen[:4] == [1, 3, 3, 3]
    assert max(seen) == 8
    assert seconds == pytest.approx(7.0, abs=1.0)


def test_a_region_that_asks_for_time_gets_it_whatever_it_answered() -> None:
    """A 503 with `Retry-After` stops its region for so long, once, and no other one."""
    left: list[tuple[str, float]] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def ask_once(endpoint: str, *, is_good: bool) -> None:
            async with rate_limiter.enter(endpoint) as slot:
                left.append((endpoint, asyncio.get_running_loop().time()))
                await asyncio.sleep(0.5)
                if is_good:
                    slot.record_success()
                else:
                    slot.record_failure(20.0)

        await asyncio.gather(ask_once("a", is_good=True), ask_once("b", is_good=True))
        await ask_once("a", is_good=False)
        await asyncio.gather(*(ask_once(endpoint, is_good=True) for endpoint in "aabb"))

    play(scene)
    assert [moment for endpoint, moment in left if endpoint == "a"] == [0.0, 0.5, 21.0, 21.0]
    assert max(moment for endpoint, moment in left if endpoint == "b") == 1.0


def test_an_interval_for_all_holds_across_endpoints() -> None:
    """Ten requests of two endpoints at two a second take four and a half seconds, and their own time."""

    async def scene(rate_limiter: RateLimiter) -> None:
        await asyncio.gather(*(ask(rate_limiter, endpoint, 0.0) for endpoint in "ab" * 5))

    assert play(scene, max_per_second=2.0) == pytest.approx(4.5)


def test_what_has_begun_goes_first() -> None:
    """Who reserves a place for something new waits until nobody else could leave."""
    order: list[str] = []

    async def scene(rate_limiter: RateLimiter) -> None:
        async def begin() -> None:
            await rate_limiter.reserve("a")
            order.append("new")
            await ask(rate_limiter, "a")

        async def go_on() -> None:
            await ask(rate_limiter, "a")
            order.append("begun")

        blocker = asyncio.ensure_future(ask(rate_limiter, "a"))
        await asyncio.sleep(0.1)
        new = asyncio.ensure_future(begin())
        await asyncio.sleep(0.1)
        await asyncio.gather(blocker, new, go_on(), go_on())

    play(scene, max_in_flight=1)
    assert order == ["begun", "begun", "new"]


def test_a_dead_region_leaves_half_of_the_places() -> None:
    """Eight regions that never answer do not keep another from its work, not even at the very beginning."""

    async def scene(rate_limiter: RateLimiter) -> None:
        dead = [asyncio.ensure_future(ask(rate_limiter, f"dead{number}", 600, is_good=False)) for number in range(8)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await asyncio.gather(*(ask(rate_limiter, "alive") for _ in range(64)))
        for one in dead:
            one.cancel()
        await asyncio.wait(dead)

    assert play(scene) < 60


def test_a_place_that_is_not_needed_goes_to_the_next() -> None:
    """Given back, or cancelled while waiting or at the very moment of being let through."""

    async def scene(rate_limiter: RateLimiter) -> None:
        await rate_limiter.reserve("a")
        rate_limiter.give_back("a")
        holder = asyncio.ensure_future(ask(rate_limiter, "a", 5))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(ask(rate_limiter, "a")) for _ in range(5)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await holder
        waiting[1].cancel()
        for task in waiting:
            with contextlib.suppress(asyncio.CancelledError):
                await task

    play(scene, max_in_flight=1)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.sampled_from(["good", "bad", "429", "cancel"]), st.floats(0, 3)),
        min_size=1,
        max_size=40,
    ),
    st.integers(1, 6),
)
def test_everybody_is_let_through_in_the_end(drawn: list[tuple[str, str, float]], max_in_flight: int) -> None:
    """Whatever happens to requests, the places are never more than allowed and all come back."""
    most = 0

    async def scene(rate_limiter: RateLimiter) -> None:
        async def one(endpoint: str, kind: str, seconds: float) -> None:
            nonlocal most
            async with rate_limiter.enter(endpoint) as slot:
                most = max(most, sum(limit.in_flight for limit in rate_limiter.limits_by_endpoint.values()))
                await asyncio.sleep(seconds)
                if kind == "good":
                    slot.record_success()
                elif kind == "bad":
                    slot.record_failure()
                elif kind == "429":
                    slot.record_throttled(None)

        tasks = [asyncio.ensure_future(one(*each)) for each in drawn]
        await asyncio.sleep(0.5)
        for task, (_, kind, _) in zip(tasks, drawn, strict=True):
            if kind == "cancel":
                task.cancel()
        await asyncio.wait(tasks)

    play(scene, max_in_flight=max_in_flight)
    assert most <= max_in_flight


def answer_evenly(limit: EndpointLimit, *, begin: float, per_second: float, seconds: float) -> float:
    """Send and answer requests one after the other at an even rate; return the moment of the last."""
    now = begin
    for number in range(int(per_second * seconds)):
        now = begin + number / per_second
        limit.record_sent(now)
        limit.record_success(now)
    return now


def follow(limit: EndpointLimit, begin: float, *, seconds: int) -> dict[int, float]:
    """Send and answer as fast as the pace lets; return the pace at each whole second."""
    limits_by_endpoint: dict[int, float] = {}
    now = begin
    while now < begin + seconds:
        now = max(now, limit.find_next_moment())
        limit.record_sent(now)
        limit.record_success(now)
        limits_by_endpoint[int(now - begin)] = limit.per_second or 0.0
    return limits_by_endpoint


def throttle(limit: EndpointLimit, now: float, *, retry_after_seconds: float | None = None) -> None:
    """Send a request that is answered with 429 at once."""
    limit.record_sent(now)
    limit.record_throttled(now, sent_at=now, retry_after_seconds=retry_after_seconds)


def test_it_begins_with_two_and_grows_with_every_good_answer() -> None:
    """Up to the ceiling."""
    limit = EndpointLimit(max_in_flight=4)
    assert (limit.allowed_in_flight, limit.has_room) == (2, True)
    limit.record_sent(0.0)
    assert not limit.has_room
    limit.record_end()
    allowed = []
    for _ in range(4):
        limit.record_sent(0.0)
        limit.record_success(0.0)
        allowed.append(limit.allowed_in_flight)
    assert allowed == [3, 4, 4, 4]


def test_there_is_no_rate_limit_before_the_first_429() -> None:
    """Whatever else goes wrong."""
    limit = EndpointLimit(max_in_flight=4)
    answer_evenly(limit, begin=0.0, per_second=500.0, seconds=3.0)
    limit.record_sent(3.0)
    limit.record_failure()
    assert limit.per_second is None
    assert limit.find_next_moment() <= 3.0


def test_an_endpoint_that_fails_is_asked_one_at_a_time() -> None:
    """From the third failure in a row to the next good answer; a lone one changes nothing."""
    limit = EndpointLimit(max_in_flight=4)
    answer_evenly(limit, begin=0.0, per_second=10.0, seconds=1.0)
    proven = []
    for _ in range(3):
        limit.record_sent(1.0)
        limit.record_failure()
        proven.append(limit.is_proven)
    assert proven == [True, True, False]
    limit.record_sent(1.0)
    assert not limit.has_room
    limit.record_success(1.0)
    assert limit.is_proven
    assert limit.has_room


def test_a_429_shows_the_ceiling() -> None:
    """The good answers of the last second; the pace is 85 % of it, 95 % four seconds later, and above it later."""
    limit = EndpointLimit(max_in_flight=4)
    now = answer_evenly(limit, begin=0.0, per_second=20.0, seconds=3.0)
    throttle(limit, now)
    assert limit.per_second == pytest.approx(17.0)
    limits_by_endpoint = follow(limit, now, seconds=30)
    assert limits_by_endpoint[4] > 19.0
    assert limits_by_endpoint[10] == pytest.approx(20.0, rel=0.01)
    assert limits_by_endpoint[25] > 24.0


def test_a_pause_is_no_time_of_good_answers() -> None:
    """After a minute of Retry-After the pace is where it was, not where a minute of growth would have brought it."""
    limit = EndpointLimit(max_in_flight=4)
    now = answer_evenly(limit, begin=0.0, per_second=20.0, seconds=3.0)
    throttle(limit, now, retry_after_seconds=60.0)
    limit.record_sent(now + 60)
    limit.record_success(now + 60)
    assert limit.per_second == pytest.approx(17.0, rel=0.01)


def test_what_is_not_used_does_not_grow() -> None:
    """With one answer a second for an hour, the pace stays near the lowest, and no number grows beyond all bounds."""
    limit = EndpointLimit(max_in_flight=4)
    throttle(limit, 0.0)
    for second in range(1, 3_600):
        limit.record_sent(second)
        limit.record_success(second)
    assert limit.per_second <= 8.0


def test_a_burst_that_is_refused_is_one_cut() -> None:
    """Requests that left before the cut tell nothing new."""
    limit = EndpointLimit(max_in_flight=16)
    now = answer_evenly(limit, begin=0.0, per_second=20.0, seconds=3.0)
    for _ in range(5):
        limit.record_sent(now)
    for _ in range(5):
        limit.record_throttled(now + 0.01, sent_at=now, retry_after_seconds=None)
    assert limit.per_second == pytest.approx(17.0)
    assert limit.in_flight == 0


def test_retry_after_stops_the_endpoint_once() -> None:
    """Until the latest moment that was named; several do not add up."""
    limit = EndpointLimit(max_in_flight=16)
    now = answer_evenly(limit, begin=0.0, per_second=20.0, seconds=3.0)
    for seconds in (5.0, 9.0, 2.0):
        throttle(limit, now, retry_after_seconds=seconds)
    assert limit.find_next_moment() == pytest.approx(now + 9.0)


def test_a_storm_of_429_is_no_ceiling_either() -> None:
    """The pace is halved from one round trip to the next, to one in two seconds, and is back soon after."""
    limit = EndpointLimit(max_in_flight=16)
    now = answer_evenly(limit, begin=0.0, per_second=20.0, seconds=3.0)
    limits_by_endpoint = []
    for number in range(8):
        throttle(limit, now + 2 + number)
        limits_by_endpoint.append(limit.per_second)
    assert limits_by_endpoint == [4.0, 2.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert max(follow(limit, now + 10, seconds=10).values()) > 20


def test_an_early_429_is_no_ceiling() -> None:
    """The pace begins low and doubles every second, until it knows more."""
    limit = EndpointLimit(max_in_flight=16)
    throttle(limit, 0.0)
    assert limit.per_second == 4.0
    limits_by_endpoint = follow(limit, 0.0, seconds=5)
    assert limits_by_endpoint[1] > 6
    assert limits_by_endpoint[4] > 30


moves = st.lists(
    st.tuples(
        st.sampled_from(["good", "failure", "throttled", "end"]),
        st.floats(0.0, 2.0, allow_nan=False),
        st.none() | st.floats(0.0, 100.0),
    ),
    max_size=60,
)


@given(moves, st.integers(1, 32))
def test_whatever_comes_the_pace_goes_on(drawn: list[tuple[str, float, float | None]], max_in_flight: int) -> None:
    """Requests under way are counted right, there is always a next moment, and the rate is never nothing."""
    limit = EndpointLimit(max_in_flight=max_in_flight)
    now = 0.0
    for kind, seconds, retry_after in drawn:
        now = max(now, limit.find_next_moment())
        limit.record_sent(now)
        sent_at, now = now, now + seconds
        if kind == "good":
            limit.record_success(now)
        elif kind == "failure":
            limit.record_failure()
        elif kind == "end":
            limit.record_end()
        else:
            limit.record_throttled(now, sent_at=sent_at, retry_after_seconds=retry_after)
        assert limit.in_flight == 0
        assert min(2, max_in_flight) <= limit.allowed_in_flight <= max_in_flight
        assert limit.per_second is None or limit.per_second >= 0.42
        assert limit.find_next_moment() <= now + 102.5
