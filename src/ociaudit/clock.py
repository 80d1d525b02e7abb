"""Time and chance as arguments, so that a test can hold them still.

Owns: the protocol and the real one. Nothing else in `source` or `jobs` reads a clock, sleeps or rolls dice.
"""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """What the program needs of time."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds from an arbitrary beginning; never jumps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...

    def draw(self) -> float:
        """Return a random number in [0, 1)."""
        ...


class SystemClock:
    """The machine's own time and chance."""

    def now(self) -> datetime:
        """Return the present, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return seconds from an arbitrary beginning."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)

    def draw(self) -> float:
        """Return a random number in [0, 1) for jitter; nothing secret depends on it."""
        return random.random()  # noqa: S311
