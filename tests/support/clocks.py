"""Clocks for tests that run the program in their own process.

Owns: real time that does not wait, and real time that is wrong.
Must not: change what the time is for anybody else.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta


class NoWaitClock:
    """The machine's own time, but every wait is over at once; `waits` are those that were asked for."""

    def __init__(self) -> None:
        """Begin without waits."""
        self.waits: list[float] = []

    def now(self) -> datetime:
        """Return the present."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary beginning."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Note the wait, and do not wait; others may go on."""
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def draw(self) -> float:
        """Return the middle of all chances."""
        return 0.5


class SkewedClock(NoWaitClock):
    """A clock that goes right, but shows another time."""

    def __init__(self, ahead: timedelta) -> None:
        """Show a time that lies so far ahead of the real one, or behind it when negative."""
        super().__init__()
        self._ahead = ahead

    def now(self) -> datetime:
        """Return what the clock shows."""
        return super().now() + self._ahead


class FastForwardClock(NoWaitClock):
    """A clock that jumps over every wait: nobody waits, and the time has passed all the same."""

    def monotonic(self) -> float:
        """Return seconds from an arbitrary beginning, with those that were jumped over."""
        return super().monotonic() + sum(self.waits)
