"""Time and randomness, passed as an argument so that a test can control them.

`client` and `operations` get the time, waits and randomness from a `Clock` alone; only deadlines use the event loop's
own time.
"""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the program needs of time and randomness."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; they never jump."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        ...

    def draw(self) -> float:
        """Return a random number in [0, 1), for jitter."""
        ...


class SystemClock:
    """The machine's own time and randomness."""

    def now(self) -> datetime:
        """Return the current time, timezone-aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; they never jump."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""
        import asyncio  # half of what the imports of a query take

        await asyncio.sleep(seconds)

    def draw(self) -> float:
        """Return a random number in [0, 1), for jitter; nothing secret depends on it."""
        return random.random()  # noqa: S311
