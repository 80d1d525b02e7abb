"""An event loop whose time jumps forward: a year of waiting takes as long as the work in it.

It does not work with real sockets or threads.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
START = datetime(2025, 12, 10, 12, 0, tzinfo=UTC)


class _JumpingSelector(selectors.SelectSelector):
    """A selector that never waits, but counts the seconds it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("all tasks are waiting, and nothing can wake them")
            self.passed_seconds += max(0.0, timeout)
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time is the time it would have waited."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_seconds


class VirtualClock:
    """The time of a jumping loop, with reproducible randomness."""

    def __init__(self, seed: int = 0) -> None:
        """Seed the randomness."""
        self._random = random.Random(seed)

    def now(self) -> datetime:
        """Return the current time."""
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's time in seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait in the loop's time."""
        await asyncio.sleep(seconds)

    def draw(self) -> float:
        """Return a number in [0, 1)."""
        return self._random.random()


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in a loop whose time jumps, and return its result."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)
