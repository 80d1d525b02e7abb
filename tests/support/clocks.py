"""Clocks for tests that run the program in their own process: real time without waits, or with an error."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta


class NoWaitClock:
    """The machine's time, with waits that end immediately; `waits` are the requested ones."""

    def __init__(self) -> None:
        """Start without waits."""
        self.waits: list[float] = []

    def now(self) -> datetime:
        """Return the current time."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Record the wait and yield to other tasks."""
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def draw(self) -> float:
        """Return the middle of the range of random numbers."""
        return 0.5


class SkewedClock(NoWaitClock):
    """A clock with a constant error."""

    def __init__(self, ahead: timedelta) -> None:
        """Keep the error; the clock is behind when it is negative."""
        super().__init__()
        self._ahead = ahead

    def now(self) -> datetime:
        """Return the current time plus the error."""
        return super().now() + self._ahead


class FastForwardClock(NoWaitClock):
    """A clock that skips every wait: its time advances without waiting."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start, including the skipped waits."""
        return super().monotonic() + sum(self.waits)
