"""When to ask again, and how long to wait before.

Owns: the arithmetic of waiting. Pure: errors and chance come in, seconds come out.

Invariants
- At most `max_attempts` attempts per request: with 8 % bad answers, four would leave gaps in a large export.
- `Retry-After` is honoured where it is given, up to a bound that keeps a hostile value from stopping the run.
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

    def choose_wait(self, error: RequestError, *, attempt: int, chance: float) -> float | None:
        """Return the seconds to wait after failed attempt number `attempt` (from 1); None to give up.

        `chance` in [0, 1) is the jitter: between half of the wait and all of it.
        """
        if not error.retryable or attempt >= self.max_attempts:
            return None
        wait = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (attempt - 1))
        wait *= 0.5 + chance / 2
        if isinstance(error, Refused) and error.retry_after_seconds is not None:
            return max(wait, min(error.retry_after_seconds, self.max_retry_after_seconds))
        return wait
