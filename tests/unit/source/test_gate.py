import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.source.gate import Gate
from support.virtual_time import VirtualClock, run_in_virtual_time

Scene = Callable[[Gate], Awaitable[None]]


def play(scene: Scene, *, max_in_flight: int = 16, max_per_second: float | None = None) -> float:
    """Play a scene in virtual time, and return how long it took."""

    async def run() -> float:
        gate = Gate(clock=VirtualClock(), max_in_flight=max_in_flight, max_per_second=max_per_second)
        await scene(gate)
        assert all(pace.in_flight == 0 for pace in gate.paces.values())
        await gate.close()
        return asyncio.get_running_loop().time()

    return run_in_virtual_time(run())


async def ask(gate: Gate, endpoint: str, seconds: float = 1.0, *, is_good: bool = True) -> None:
    """Hold a place for some seconds."""
    async with gate.enter(endpoint) as permit:
        await asyncio.sleep(seconds)
        if is_good:
            permit.note_good()
        else:
            permit.note_failure()


def test_it_grows_from_two_to_the_ceiling() -> None:
    """One until the region answers, and then one more than two for every good answer; never more than allowed."""
    seen: list[int] = []

    async def scene(gate: Gate) -> None:
        async def watch() -> None:
            async with gate.enter("a") as permit:
                seen.append(gate.paces["a"].in_flight)
                await asyncio.sleep(1)
                permit.note_good()

        await asyncio.gather(*(watch() for _ in range(40)))

    seconds = play(scene, max_in_flight=8)
    assert seen[:4] == [1, 3, 3, 3]
    assert max(seen) == 8
    assert seconds == pytest.approx(7.0, abs=1.0)


def test_a_region_that_asks_for_time_gets_it_whatever_it_answered() -> None:
    """A 503 with `Retry-After` stops its region for so long, once, and no other one."""
    left: list[tuple[str, float]] = []

    async def scene(gate: Gate) -> None:
        async def ask_once(endpoint: str, *, is_good: bool) -> None:
            async with gate.enter(endpoint) as permit:
                left.append((endpoint, asyncio.get_running_loop().time()))
                await asyncio.sleep(0.5)
                if is_good:
                    permit.note_good()
                else:
                    permit.note_failure(20.0)

        await asyncio.gather(ask_once("a", is_good=True), ask_once("b", is_good=True))
        await ask_once("a", is_good=False)
        await asyncio.gather(*(ask_once(endpoint, is_good=True) for endpoint in "aabb"))

    play(scene)
    assert [moment for endpoint, moment in left if endpoint == "a"] == [0.0, 0.5, 21.0, 21.0]
    assert max(moment for endpoint, moment in left if endpoint == "b") == 1.0


def test_an_interval_for_all_holds_across_endpoints() -> None:
    """Ten requests of two endpoints at two a second take four and a half seconds, and their own time."""

    async def scene(gate: Gate) -> None:
        await asyncio.gather(*(ask(gate, endpoint, 0.0) for endpoint in "ab" * 5))

    assert play(scene, max_per_second=2.0) == pytest.approx(4.5)


def test_what_has_begun_goes_first() -> None:
    """Who reserves a place for something new waits until nobody else could leave."""
    order: list[str] = []

    async def scene(gate: Gate) -> None:
        async def begin() -> None:
            await gate.reserve("a")
            order.append("new")
            await ask(gate, "a")

        async def go_on() -> None:
            await ask(gate, "a")
            order.append("begun")

        blocker = asyncio.ensure_future(ask(gate, "a"))
        await asyncio.sleep(0.1)
        new = asyncio.ensure_future(begin())
        await asyncio.sleep(0.1)
        await asyncio.gather(blocker, new, go_on(), go_on())

    play(scene, max_in_flight=1)
    assert order == ["begun", "begun", "new"]


def test_a_dead_region_leaves_half_of_the_places() -> None:
    """Eight regions that never answer do not keep another from its work, not even at the very beginning."""

    async def scene(gate: Gate) -> None:
        dead = [asyncio.ensure_future(ask(gate, f"dead{number}", 600, is_good=False)) for number in range(8)]
        await asyncio.sleep(0.1)
        async with asyncio.timeout(60):
            await asyncio.gather(*(ask(gate, "alive") for _ in range(64)))
        for one in dead:
            one.cancel()
        await asyncio.wait(dead)

    assert play(scene) < 60


def test_a_place_that_is_not_needed_goes_to_the_next() -> None:
    """Given back, or cancelled while waiting or at the very moment of being let through."""

    async def scene(gate: Gate) -> None:
        await gate.reserve("a")
        gate.give_back("a")
        holder = asyncio.ensure_future(ask(gate, "a", 5))
        await asyncio.sleep(0)
        waiting = [asyncio.ensure_future(ask(gate, "a")) for _ in range(5)]
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

    async def scene(gate: Gate) -> None:
        async def one(endpoint: str, kind: str, seconds: float) -> None:
            nonlocal most
            async with gate.enter(endpoint) as permit:
                most = max(most, sum(pace.in_flight for pace in gate.paces.values()))
                await asyncio.sleep(seconds)
                if kind == "good":
                    permit.note_good()
                elif kind == "bad":
                    permit.note_failure()
                elif kind == "429":
                    permit.note_throttled(None)

        tasks = [asyncio.ensure_future(one(*each)) for each in drawn]
        await asyncio.sleep(0.5)
        for task, (_, kind, _) in zip(tasks, drawn, strict=True):
            if kind == "cancel":
                task.cancel()
        await asyncio.wait(tasks)

    play(scene, max_in_flight=max_in_flight)
    assert most <= max_in_flight
