"""When to ask again, and how long to wait before.

Owns: the arithmetic of waiting. Pure: errors and chance come in, seconds come out.

Invariants
- At most `max_attempts` attempts per request: with 8 % bad answers, four would leave gaps in a large export.
- `Retry-After` is honoured where it is given, up to a bound that keeps a hostile value from stopping the run.
- The repeats of one shard have a budget that good answers fill again: with one in two bad it holds for ever,
  with worse a long chain ends before it takes eight attempts for every page.
- The wait grows to a bound and carries jitter, so that many clients do not come back at one moment.
"""

from __future__ import annotations

from dataclasses import dataclass

from ociaudit.errors import Refused, RequestError


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently one request is repeated."""

    max_attempts: int = 8
    first_wait_seconds: float = 0.2
    max_wait_seconds: float = 20.0
    max_retry_after_seconds: float = 300.0

    def choose_wait(
        self, error: RequestError, *, attempt: int, chance: float, budget: RetryBudget | None = None
    ) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt` (from 1); None to give up.

        `chance` in [0, 1) is the jitter: between half of the wait and all of it. A repeat is taken from `budget`.
        """
        if not error.retryable or attempt >= self.max_attempts:
            return None
        if budget is not None and not budget.take():
            return None
        wait = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (attempt - 1))
        wait *= 0.5 + chance / 2
        if isinstance(error, Refused) and error.retry_after_seconds is not None:
            return max(wait, min(error.retry_after_seconds, self.max_retry_after_seconds))
        return wait


class RetryBudget:
    """How many repeats a chain of requests may still take; every good answer gives one back."""

    def __init__(self, size: int = 24) -> None:
        """Begin with all of it."""
        self._size = size
        self._left = size

    def take(self) -> bool:
        """Take one repeat; False when none is left."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def refill(self) -> None:
        """Give one back."""
        self._left = min(self._size, self._left + 1)
