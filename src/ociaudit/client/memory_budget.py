"""How much of answers may be in memory, all requests together: bytes, and whole answers that nobody has worked off.

Owns: the counting. Must not: read.

Invariants
- No request leaves while as many answers wait as may: where answers come faster than they are worked off, a kill
  loses few of them. Working one off needs no other request, so the waiting ends.
- What is held is at most the limit, except that whoever has held bytes for longest always goes on: so somebody
  finishes, and gives back. A page may hold 20,000 events; one is always taken.
"""

from __future__ import annotations

import asyncio


class Reservation:
    """The bytes of one answer, from the first that is read until it is worked off."""

    def __init__(self, budget: MemoryBudget) -> None:
        """Hold nothing yet."""
        self._budget = budget
        self.held_bytes = 0

    async def take(self, count: int) -> None:
        """Wait until so many bytes more may be held, and hold them."""
        await self._budget.take(self, count)

    def record_complete(self) -> None:
        """The answer is whole, and waits to be worked off."""
        self._budget.record_complete(self)

    def release(self) -> None:
        """Give everything back; may be called again."""
        self._budget.release(self)


class MemoryBudget:
    """One budget over all requests, inside one event loop."""

    def __init__(self, max_bytes: int, *, max_responses: int) -> None:
        """Begin with nothing held."""
        self._max_bytes = max_bytes
        self._max_responses = max_responses
        self._whole: set[Reservation] = set()
        self._holds: dict[Reservation, None] = {}  # in the order in which they began
        self._waiting: list[asyncio.Future[None]] = []
        self.held_bytes = 0

    def open(self) -> Reservation:
        """Return a hold for one answer."""
        return Reservation(self)

    async def wait_for_room(self) -> None:
        """Wait until another answer may come."""
        while len(self._whole) >= self._max_responses:
            await self._wait()

    async def take(self, reservation: Reservation, count: int) -> None:
        """See `Hold.take`."""
        self._holds.setdefault(reservation)
        while self.held_bytes + count > self._max_bytes and next(iter(self._holds)) is not reservation:
            await self._wait()
        reservation.held_bytes += count
        self.held_bytes += count

    def record_complete(self, reservation: Reservation) -> None:
        """See `Hold.note_whole`."""
        self._whole.add(reservation)

    def release(self, reservation: Reservation) -> None:
        """See `Hold.release`."""
        self._whole.discard(reservation)
        self.held_bytes -= reservation.held_bytes
        reservation.held_bytes = 0
        self._holds.pop(reservation, None)
        waiting, self._waiting = self._waiting, []
        for turn in waiting:
            if not turn.done():
                turn.set_result(None)

    async def _wait(self) -> None:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn
