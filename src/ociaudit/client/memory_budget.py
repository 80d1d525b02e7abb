"""The memory budget: how much of the responses may be in memory, all requests together.

It limits two things: the bytes of response bodies, and the number of complete responses that wait to be processed.

Invariants
- No request is sent while the maximum number of complete responses wait: where responses arrive faster than they are
  processed, a kill loses few of them. Processing a response needs no other request, so the wait ends.
- The reserved bytes stay within the limit, with one exception: the oldest reservation always gets what it needs. One
  request can therefore always finish and release its bytes, and a page larger than the budget (one may hold 20,000
  events) is still read.
"""

from __future__ import annotations

import asyncio


class MemoryBudget:
    """One budget for all requests. Used inside one event loop."""

    def __init__(self, max_bytes: int, *, max_responses: int) -> None:
        """Start with nothing reserved."""
        self._max_bytes = max_bytes
        self._max_responses = max_responses
        self._complete: set[Reservation] = set()
        self._reservations: dict[Reservation, None] = {}  # oldest first
        self._waiting: list[asyncio.Future[None]] = []
        self.reserved_bytes = 0

    def reserve(self) -> Reservation:
        """Return an empty reservation for one response."""
        return Reservation(self)

    async def wait_for_room(self) -> None:
        """Wait until another response may be requested."""
        while len(self._complete) >= self._max_responses:
            await self._wait()

    async def acquire(self, reservation: Reservation, count: int) -> None:
        """Implement `Reservation.acquire`."""
        self._reservations.setdefault(reservation)
        while self.reserved_bytes + count > self._max_bytes and next(iter(self._reservations)) is not reservation:
            await self._wait()
        reservation.reserved_bytes += count
        self.reserved_bytes += count

    def mark_complete(self, reservation: Reservation) -> None:
        """Implement `Reservation.mark_complete`."""
        self._complete.add(reservation)

    def release(self, reservation: Reservation) -> None:
        """Implement `Reservation.release`."""
        self._complete.discard(reservation)
        self.reserved_bytes -= reservation.reserved_bytes
        reservation.reserved_bytes = 0
        self._reservations.pop(reservation, None)
        waiting, self._waiting = self._waiting, []
        for wake_up in waiting:
            if not wake_up.done():
                wake_up.set_result(None)

    async def _wait(self) -> None:
        wake_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(wake_up)
        await wake_up


class Reservation:
    """The bytes of one response, from the first byte read until the response is processed."""

    def __init__(self, budget: MemoryBudget) -> None:
        """Reserve nothing yet."""
        self._budget = budget
        self.reserved_bytes = 0

    async def acquire(self, count: int) -> None:
        """Wait until `count` more bytes may be reserved, and reserve them."""
        await self._budget.acquire(self, count)

    def mark_complete(self) -> None:
        """Record that the response is complete and waits to be processed."""
        self._budget.mark_complete(self)

    def release(self) -> None:
        """Release all bytes; calling it again has no effect."""
        self._budget.release(self)
