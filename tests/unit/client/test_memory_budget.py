import asyncio

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.client.memory_budget import MemoryBudget


@given(st.lists(st.lists(st.integers(1, 60), min_size=1, max_size=6), min_size=1, max_size=8), st.integers(1, 100))
def test_the_limit_holds_and_every_response_finishes(responses: list[list[int]], limit: int) -> None:
    """Only the oldest reservation exceeds the limit, and every response is processed in the end."""
    budget = MemoryBudget(limit, max_responses=8)
    finished: list[int] = []

    async def read(number: int, chunks: list[int]) -> None:
        reservation = budget.reserve()
        for chunk in chunks:
            await reservation.acquire(chunk)
            is_oldest = next(iter(budget._reservations)) is reservation
            assert (
                budget.reserved_bytes <= limit
                or is_oldest
                or budget.reserved_bytes - reservation.reserved_bytes > limit - chunk
            )
            await asyncio.sleep(0)
        reservation.release()
        reservation.release()
        finished.append(number)

    async def read_all() -> None:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            for number, chunks in enumerate(responses):
                tasks.create_task(read(number, chunks))

    asyncio.run(read_all())
    assert sorted(finished) == list(range(len(responses)))
    assert budget.reserved_bytes == 0


def test_a_cancelled_wait_blocks_nothing() -> None:
    """When a reservation whose wait was cancelled is released, the others get their bytes."""

    async def scene() -> list[str]:
        budget = MemoryBudget(10, max_responses=8)
        first, second, third = budget.reserve(), budget.reserve(), budget.reserve()
        await first.acquire(10)
        waiting = asyncio.ensure_future(second.acquire(5))
        last = asyncio.ensure_future(third.acquire(5))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        second.release()
        first.release()
        await asyncio.wait_for(last, 5)
        return [str(waiting.cancelled()), str(third.reserved_bytes)]

    assert asyncio.run(scene()) == ["True", "5"]


def test_a_response_larger_than_the_budget_is_read() -> None:
    """The only reservation gets what it needs, even above the limit."""

    async def scene() -> int:
        reservation = MemoryBudget(10, max_responses=8).reserve()
        await reservation.acquire(1_000)
        await reservation.acquire(1_000)
        return reservation.reserved_bytes

    assert asyncio.run(scene()) == 2_000


def test_no_request_is_sent_while_enough_responses_wait() -> None:
    """A third request waits until one of two complete responses is processed; an incomplete one blocks nothing."""

    async def scene() -> None:
        budget = MemoryBudget(10, max_responses=2)
        first, second, third = budget.reserve(), budget.reserve(), budget.reserve()
        for reservation in (first, second, third):
            await reservation.acquire(1)
        first.mark_complete()
        await asyncio.wait_for(budget.wait_for_room(), 5)
        second.mark_complete()
        waiting = asyncio.ensure_future(budget.wait_for_room())
        await asyncio.sleep(0)
        third.release()
        await asyncio.sleep(0)
        assert not waiting.done()
        first.release()
        await asyncio.wait_for(waiting, 5)

    asyncio.run(scene())
