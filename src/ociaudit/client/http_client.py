"""When to ask again, and how long to wait before.

Owns: the arithmetic of waiting. Pure: errors and chance come in, seconds come out.

Invariants
- At most `max_tries` tries per request: with 8 % bad answers, four would leave gaps in a large export.
- `Retry-After` is honoured where it is given, up to a bound that keeps a hostile value from stopping the run.
- The repeats of one shard have a budget that good answers fill again: with one in two bad it holds for ever,
  with worse a long attempt ends before it takes eight tries for every page.
- The wait grows to a bound and carries jitter, so that many clients do not come back at one moment.

A request brought to its end: at its endpoint's pace, repeated when that can help.

Owns: the repeats, and when to give up. Must not: know pages, shards or the disk.

Invariants
- Every try goes through the gate: the pace of an endpoint holds for retries as well.
- A wait holds no place: others ask meanwhile.
- Until the first usable answer everything together takes at most `first_answer_seconds`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from ociaudit.client.memory_budget import MemoryBudget, Reservation
from ociaudit.client.rate_limiter import RateLimiter, Slot
from ociaudit.client.transport import FinishedRequest, HttpResponse, finish_request, show_host
from ociaudit.clock import Clock
from ociaudit.errors import ConnectionFailed, RequestError, ServiceError, ServiceUnreachable


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently one request is repeated."""

    max_tries: int = 8
    first_wait_seconds: float = 0.2
    max_wait_seconds: float = 20.0
    max_retry_after_seconds: float = 300.0

    def choose_wait(
        self, error: RequestError, *, try_number: int, chance: float, budget: RetryBudget | None = None
    ) -> float | None:
        """Return the seconds to wait after failed try number `try_number` (from 1); None to give up.

        `chance` in [0, 1) is the jitter: between half of the wait and all of it. A repeat is taken from `budget`.
        """
        if not error.retryable or try_number >= self.max_tries:
            return None
        if budget is not None and not budget.take():
            return None
        wait = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (try_number - 1))
        wait *= 0.5 + chance / 2
        if isinstance(error, ServiceError) and error.retry_after_seconds is not None:
            return max(wait, min(error.retry_after_seconds, self.max_retry_after_seconds))
        return wait


class RetryBudget:
    """How many retries the requests of one shard may still take; every good answer gives one back."""

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


T = TypeVar("T")
RetryCallback = Callable[[RequestError, float], None]
RequestCallback = Callable[[FinishedRequest], None]
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


class Sender(Protocol):
    """Sends a request once; see `transport.Transport`, which is the real one."""

    @property
    def has_responded(self) -> bool:
        """Tell whether any usable answer has come."""
        ...

    async def send(
        self, url: str, check: Callable[[bytes], T], *, try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        """Send the request once."""
        ...


class Client:
    """Fetches answers. Used inside one event loop."""

    def __init__(
        self,
        sender: Sender,
        *,
        rate_limiter: RateLimiter,
        clock: Clock,
        budget: MemoryBudget,
        retry: RetryPolicy | None = None,
        first_response_seconds: float = 14.0,
        on_retry: RetryCallback | None = None,
        on_request: RequestCallback | None = None,
    ) -> None:
        """Ask through `sender`; the time for the first answer begins now."""
        self._sender = sender
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._budget = budget
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._on_request = on_request
        self._first_response_deadline = clock.monotonic() + first_response_seconds

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Send a signed GET until an answer's body passes `check`, and return it.

        The body's bytes count as held until the answer is released. `retries` is a budget over several requests.

        Raises:
            RequestError: the tries are used up, or repeating cannot help.
            ServiceUnreachable: no usable answer has come from the service in good time.
        """
        try_number = 0
        while True:
            try_number += 1
            try:
                answer = await self._try_once(url, check, try_number, endpoint)
            except RequestError as error:
                wait = self._retry.choose_wait(error, try_number=try_number, chance=self._clock.draw(), budget=retries)
                self._give_up_on_silence(error, wait, url)
                if wait is None:
                    raise
                if self._on_retry:
                    self._on_retry(error, wait)
            else:
                if retries is not None:
                    retries.refill()
                return answer
            await self._clock.sleep(wait)

    async def _try_once(self, url: str, check: Callable[[bytes], T], try_number: int, endpoint: str) -> HttpResponse[T]:
        await self._budget.wait_for_room()
        reservation = self._budget.open()
        is_held = False
        try:
            async with self._rate_limiter.enter(endpoint) as slot:
                began_at = self._clock.monotonic()
                try:
                    answer = await self._send_in_time(url, check, try_number, reservation)
                except RequestError as error:
                    self._report_outcome(slot, error)
                    self._notify(url, try_number, began_at, error)
                    raise
                slot.record_success()
                self._notify(url, try_number, began_at, answer)
                reservation.record_complete()
                is_held = True
                return answer
        finally:
            if not is_held:
                reservation.release()

    def _notify(self, url: str, try_number: int, began_at: float, end: HttpResponse[T] | RequestError) -> None:
        if self._on_request:
            self._on_request(finish_request(url, try_number, self._clock.monotonic() - began_at, end))

    async def _send_in_time(
        self, url: str, check: Callable[[bytes], T], try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        if self._sender.has_responded:
            return await self._sender.send(url, check, try_number=try_number, reservation=reservation)
        try:
            async with asyncio.timeout(max(0.1, self._first_response_deadline - self._clock.monotonic())):
                return await self._sender.send(url, check, try_number=try_number, reservation=reservation)
        except TimeoutError as error:
            raise ConnectionFailed(f"no answer from {show_host(url)} in time") from error

    def _report_outcome(self, slot: Slot, error: RequestError) -> None:
        if not isinstance(error, ServiceError):
            slot.record_failure()
            return
        asked = error.retry_after_seconds
        wait = None if asked is None else min(asked, self._retry.max_retry_after_seconds)
        if error.status >= _FIRST_SERVER_ERROR:
            slot.record_failure(wait)
        elif error.status == _TOO_MANY_REQUESTS:
            slot.record_throttled(wait)
        else:
            slot.record_success()

    def _give_up_on_silence(self, error: RequestError, wait: float | None, url: str) -> None:
        if self._sender.has_responded:
            return
        if wait is None or self._first_response_deadline - self._clock.monotonic() <= wait:
            hint = error.hint if error.hint != error.default_hint else None
            raise ServiceUnreachable(f"{show_host(url)} gave no usable answer: {error}", hint=hint) from error
