import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.memory_budget import MemoryBudget


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 100))
def test_the_limit_holds_and_everybody_finishes(answers: list[list[int]], limit: int) -> None:
    """Only the answer that has held bytes for longest goes beyond the limit; all are worked off in the end."""
    budget = MemoryBudget(limit, max_responses=8)
    finished: list[int] = []

    async def read(number: int, pieces: list[int]) -> None:
        reservation = budget.open()
        for piece in pieces:
            await reservation.take(piece)
            is_oldest = next(iter(budget._holds)) is reservation
            assert budget.held_bytes <= limit or is_oldest or budget.held_bytes - reservation.held_bytes > limit - piece
            await asyncio.sleep(0)
        reservation.release()
        reservation.release()
        finished.append(number)

    async def read_all() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for number, pieces in enumerate(answers):
                tasks.create_task(read(number, pieces))

    asyncio.run(read_all())
    assert sorted(finished) == list(range(len(answers)))
    assert budget.held_bytes == 0


def test_whoever_waits_and_is_cancelled_holds_nothing_back() -> None:
    """Its bytes are given back by whoever cancelled it; the others go on."""

    async def scene() -> list[str]:
        budget = MemoryBudget(10, max_responses=8)
        first, second, third = budget.open(), budget.open(), budget.open()
        await first.take(10)
        waiting = asyncio.ensure_future(second.take(5))
        behind = asyncio.ensure_future(third.take(5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        second.release()
        first.release()
        await asyncio.wait_for(behind, 5)
        return [str(waiting.cancelled()), str(third.held_bytes)]

    assert asyncio.run(scene()) == ["True", "5"]


def test_an_answer_larger_than_the_budget_is_taken() -> None:
    """Alone, but it is taken: a page may hold 20,000 events."""

    async def scene() -> int:
        reservation = MemoryBudget(10, max_responses=8).open()
        await reservation.take(1_000)
        await reservation.take(1_000)
        return reservation.held_bytes

    assert asyncio.run(scene()) == 2_000


def test_no_request_leaves_while_enough_answers_wait() -> None:
    """The third goes on when one of two whole answers has been worked off; one that is not whole holds up nobody."""

    async def scene() -> None:
        budget = MemoryBudget(10, max_responses=2)
        first, second, third = budget.open(), budget.open(), budget.open()
        for reservation in (first, second, third):
            await reservation.take(1)
        first.record_complete()
        await asyncio.wait_for(budget.wait_for_room(), 5)
        second.record_complete()
        waiting = asyncio.ensure_future(budget.wait_for_room())
        await asyncio.sleep(0)
        third.release()
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scene())
