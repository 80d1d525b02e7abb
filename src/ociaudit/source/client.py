"""A request brought to its end: at its endpoint's pace, repeated when that can help.

Owns: the repeats, and when to give up. Must not: know pages, shards or the disk.

Invariants
- Every attempt goes through the gate: the pace of an endpoint holds for retries as well.
- A wait holds no place: others ask meanwhile.
- Until the first usable answer everything together takes at most `first_answer_seconds`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeVar

from ociaudit.errors import ConnectionFailed, Refused, RequestError, ServiceUnreachable
from ociaudit.source.answer import Answer, FinishedRequest, finish_request
from ociaudit.source.byte_budget import ByteBudget, Hold
from ociaudit.source.clock import Clock
from ociaudit.source.gate import Gate, Permit
from ociaudit.source.retry import RetryBudget, RetryPolicy
from ociaudit.source.transport import show_host

T = TypeVar("T")
RetryObserver = Callable[[RequestError, float], None]
RequestObserver = Callable[[FinishedRequest], None]
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


class Sender(Protocol):
    """Sends one attempt; see `transport.Transport`, which is the real one."""

    @property
    def has_answered(self) -> bool:
        """Tell whether any usable answer has come."""
        ...

    async def send(self, url: str, check: Callable[[bytes], T], *, attempt: int, hold: Hold) -> Answer[T]:
        """Send the request once."""
        ...


class Client:
    """Fetches answers. Used inside one event loop."""

    def __init__(
        self,
        sender: Sender,
        *,
        gate: Gate,
        clock: Clock,
        budget: ByteBudget,
        retry: RetryPolicy | None = None,
        first_answer_seconds: float = 14.0,
        on_retry: RetryObserver | None = None,
        on_request: RequestObserver | None = None,
    ) -> None:
        """Ask through `sender`; the time for the first answer begins now."""
        self._sender = sender
        self._gate = gate
        self._clock = clock
        self._budget = budget
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._on_request = on_request
        self._first_answer_until = clock.monotonic() + first_answer_seconds

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> Answer[T]:
        """Send a signed GET until an answer's body passes `check`, and return it.

        The body's bytes count as held until the answer is released. `retries` is a budget over several requests.

        Raises:
            RequestError: the attempts are used up, or repeating cannot help.
            ServiceUnreachable: no usable answer has come from the service in good time.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                answer = await self._attempt(url, check, attempt, endpoint)
            except RequestError as error:
                wait = self._retry.choose_wait(error, attempt=attempt, chance=self._clock.draw(), budget=retries)
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

    async def _attempt(self, url: str, check: Callable[[bytes], T], attempt: int, endpoint: str) -> Answer[T]:
        await self._budget.wait_for_room()
        hold = self._budget.open()
        is_held = False
        try:
            async with self._gate.enter(endpoint) as permit:
                began_at = self._clock.monotonic()
                try:
                    answer = await self._send_in_time(url, check, attempt, hold)
                except RequestError as error:
                    self._tell_outcome(permit, error)
                    self._tell(url, attempt, began_at, error)
                    raise
                permit.note_good()
                self._tell(url, attempt, began_at, answer)
                hold.note_whole()
                is_held = True
                return answer
        finally:
            if not is_held:
                hold.release()

    def _tell(self, url: str, attempt: int, began_at: float, end: Answer[T] | RequestError) -> None:
        if self._on_request:
            self._on_request(finish_request(url, attempt, self._clock.monotonic() - began_at, end))

    async def _send_in_time(self, url: str, check: Callable[[bytes], T], attempt: int, hold: Hold) -> Answer[T]:
        if self._sender.has_answered:
            return await self._sender.send(url, check, attempt=attempt, hold=hold)
        try:
            async with asyncio.timeout(max(0.1, self._first_answer_until - self._clock.monotonic())):
                return await self._sender.send(url, check, attempt=attempt, hold=hold)
        except TimeoutError as error:
            raise ConnectionFailed(f"no answer from {show_host(url)} in time") from error

    def _tell_outcome(self, permit: Permit, error: RequestError) -> None:
        if not isinstance(error, Refused):
            permit.note_failure()
            return
        asked = error.retry_after_seconds
        wait = None if asked is None else min(asked, self._retry.max_retry_after_seconds)
        if error.status >= _FIRST_SERVER_ERROR:
            permit.note_failure(wait)
        elif error.status == _TOO_MANY_REQUESTS:
            permit.note_throttled(wait)
        else:
            permit.note_good()

    def _give_up_on_silence(self, error: RequestError, wait: float | None, url: str) -> None:
        if self._sender.has_answered:
            return
        if wait is None or self._first_answer_until - self._clock.monotonic() <= wait:
            hint = error.hint if error.hint != error.default_hint else None
            raise ServiceUnreachable(f"{show_host(url)} gave no usable answer: {error}", hint=hint) from error
