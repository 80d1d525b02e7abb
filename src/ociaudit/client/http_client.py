"""The HTTP client: one request with rate limit, memory budget and retries.

`HttpClient.fetch` returns a validated response or raises. `RetryPolicy` decides whether and when a failed request is
sent again. `PageTokens` detects a paginated listing that does not end.

Invariants
- Every try of a request goes through the rate limiter, retries included. A request that waits for its next try holds
  no slot.
- At most `max_tries` tries per request: with 8 % invalid responses, four would leave gaps in a large export.
- `Retry-After` is honoured up to a bound, so that a hostile value cannot stop the run.
- The requests of one shard share a `RetryBudget` that successes refill. With one response in two invalid it lasts for
  ever; with more, a long shard fails before every page has taken eight tries.
- Backoff grows to a bound and has jitter, so that many clients do not come back at the same moment.
- Until the first usable response, all requests together take at most `first_response_seconds`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ociaudit.client.rate_limiter import RateLimiter, Slot
from ociaudit.client.transport import (
    FinishedRequest,
    HttpResponse,
    MemoryBudget,
    Reservation,
    extract_host,
    finish_request,
)
from ociaudit.clock import Clock
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError, ServiceUnreachable

T = TypeVar("T")
RetryCallback = Callable[[RequestError, float], None]
RequestCallback = Callable[[FinishedRequest], None]
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


class Sender(Protocol):
    """Sends a request once; `transport.Transport` is the real one."""

    @property
    def has_responded(self) -> bool:
        """Return whether any usable response has arrived."""
        ...

    async def send(
        self, url: str, parse: Callable[[bytes], T], *, try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        """Send the request once."""
        ...


class HttpClient:
    """Fetches responses. Used inside one event loop."""

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
        """Send requests through `sender`; the time limit for the first response starts now.

        `on_retry` is called with the error and the seconds until the next try, `on_request` after every try.
        """
        self._sender = sender
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._budget = budget
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._on_request = on_request
        self._first_response_deadline = clock.monotonic() + first_response_seconds

    async def fetch(
        self, url: str, parse: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Send a signed GET until `parse` accepts the body of a response, and return that response.

        The body counts against the memory budget until the response is released. `endpoint` names the rate limit
        that applies. `retries` is a budget shared by several requests.

        Raises:
            RequestError: no tries are left, or a retry cannot help.
            ServiceUnreachable: the service has given no usable response within the time limit.
        """
        try_number = 0
        while True:
            try_number += 1
            try:
                response = await self._try_once(url, parse, try_number, endpoint)
            except RequestError as error:
                wait = self._retry.choose_wait(error, try_number=try_number, jitter=self._clock.draw(), budget=retries)
                self._check_service_responds(error, wait, url)
                if wait is None:
                    raise
                if self._on_retry:
                    self._on_retry(error, wait)
            else:
                if retries is not None:
                    retries.refill()
                return response
            await self._clock.sleep(wait)

    async def _try_once(self, url: str, parse: Callable[[bytes], T], try_number: int, endpoint: str) -> HttpResponse[T]:
        await self._budget.wait_for_room()
        reservation = self._budget.reserve()
        is_kept = False
        try:
            async with self._rate_limiter.acquire(endpoint) as slot:
                started_at = self._clock.monotonic()
                try:
                    response = await self._send_in_time(url, parse, try_number, reservation)
                except RequestError as error:
                    self._report_failure(slot, error)
                    self._report_request(url, try_number, started_at, error)
                    raise
                slot.record_success()
                self._report_request(url, try_number, started_at, response)
                reservation.mark_complete()
                is_kept = True
                return response
        finally:
            if not is_kept:
                reservation.release()

    async def _send_in_time(
        self, url: str, parse: Callable[[bytes], T], try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        if self._sender.has_responded:
            return await self._sender.send(url, parse, try_number=try_number, reservation=reservation)
        try:
            async with asyncio.timeout(max(0.1, self._first_response_deadline - self._clock.monotonic())):
                return await self._sender.send(url, parse, try_number=try_number, reservation=reservation)
        except TimeoutError as error:
            raise ConnectionFailed(f"{extract_host(url)} did not respond in time") from error

    def _report_failure(self, slot: Slot, error: RequestError) -> None:
        """Report to the rate limiter what an error says about the endpoint."""
        if not isinstance(error, ServiceError):
            slot.record_failure()
            return
        requested = error.retry_after_seconds
        wait = None if requested is None else min(requested, self._retry.max_retry_after_seconds)
        if error.status >= _FIRST_SERVER_ERROR:
            slot.record_failure(wait)
        elif error.status == _TOO_MANY_REQUESTS:
            slot.record_throttled(wait)
        else:
            slot.record_success()

    def _report_request(
        self, url: str, try_number: int, started_at: float, result: HttpResponse[T] | RequestError
    ) -> None:
        if self._on_request:
            self._on_request(finish_request(url, try_number, self._clock.monotonic() - started_at, result))

    def _check_service_responds(self, error: RequestError, wait: float | None, url: str) -> None:
        """Raise if the service has never responded and this error was the last, or the next try would be too late."""
        if self._sender.has_responded:
            return
        if wait is None or self._first_response_deadline - self._clock.monotonic() <= wait:
            hint = error.hint if error.hint != error.default_hint else None
            raise ServiceUnreachable(f"no usable response from {extract_host(url)}: {error}", hint=hint) from error


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is tried, and how long the waits between the tries are."""

    max_tries: int = 8
    first_wait_seconds: float = 0.2
    max_wait_seconds: float = 20.0
    max_retry_after_seconds: float = 300.0

    def choose_wait(
        self, error: RequestError, *, try_number: int, jitter: float, budget: RetryBudget | None = None
    ) -> float | None:
        """Return the seconds to wait after failed try number `try_number` (from 1); None to give up.

        `jitter` in [0, 1) chooses between half of the backoff and all of it. A retry is deducted from `budget`.
        """
        if not error.retryable or try_number >= self.max_tries:
            return None
        if budget is not None and not budget.deduct():
            return None
        backoff = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (try_number - 1))
        wait = backoff * (0.5 + jitter / 2)
        if isinstance(error, ServiceError) and error.retry_after_seconds is not None:
            return max(wait, min(error.retry_after_seconds, self.max_retry_after_seconds))
        return wait


class RetryBudget:
    """The retries that several requests share; every success returns one."""

    def __init__(self, size: int = 24) -> None:
        """Start with a full budget."""
        self._size = size
        self._left = size

    def deduct(self) -> bool:
        """Use one retry; return False if none is left."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def refill(self) -> None:
        """Return one retry to the budget."""
        self._left = min(self._size, self._left + 1)


class PageLoop(InvalidResponse):
    """The service returned a page token that it had returned before in the same listing."""


class PageTokens:
    """The page tokens of one pass over a paginated listing. None is followed twice, so the pass ends."""

    def __init__(self, first: str | None = None) -> None:
        """Start with the token that the first request carries, if it carries one."""
        self._seen = {first} if first is not None else set()

    def record(self, response: HttpResponse[Any]) -> None:
        """Record the token of the next page; a response that repeats a token is released.

        Raises:
            PageLoop: the token is not new.
        """
        token = response.next_token
        if token in self._seen:
            response.release()
            raise PageLoop("the service returned the same page token twice", request_id=response.request_id)
        if token is not None:
            self._seen.add(token)
