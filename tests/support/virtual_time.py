"""An event loop whose time jumps: a year of waiting takes as long as the work in it.

Owns: that loop, and the clock that goes with it. Must not: be used where real sockets or threads are waited for.
"""

from __future__ import annotations

import asyncio
import random
import selectors
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

T = TypeVar("T")
BEGIN = datetime(2025, 12, 10, 12, 0, tzinfo=UTC)


class _JumpingSelector(selectors.SelectSelector):
    """Does not wait: it tells how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.passed_seconds = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise AssertionError("everybody waits, and nothing will ever happen")
            self.passed_seconds += max(0.0, timeout)
        return ready


class _JumpingLoop(asyncio.SelectorEventLoop):
    """Its time is what would have been waited."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.passed_seconds


class VirtualClock:
    """The time of a jumping loop, and chance that is the same every time."""

    def __init__(self, seed: int = 0) -> None:
        """Roll the dice from a seed."""
        self._dice = random.Random(seed)

    def now(self) -> datetime:
        """Return the present."""
        return BEGIN + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        """Return the loop's seconds."""
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        """Wait, in the loop's time."""
        await asyncio.sleep(seconds)

    def draw(self) -> float:
        """Return a number in [0, 1)."""
        return self._dice.random()


def run_in_virtual_time(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end in a loop whose time jumps."""
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        return runner.run(work)
