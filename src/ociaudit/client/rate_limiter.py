"""The rate limiter: which request may be sent next, and when.

A request waits for a *slot*, is in flight while it holds the slot, and reports how it ended. `RateLimiter` grants the
slots. It keeps one `EndpointLimit` per region endpoint, and the ceilings `max_in_flight` and `max_per_second` apply to
all endpoints together.

Requests in flight

- Never more than `max_in_flight` in total. The limit starts at two and grows by one with every success.
- The same holds for each endpoint once it is *proven*. Before its first response, and after three failures in a row,
  an endpoint is unproven and has one request in flight at most.
- A dead region does not slow down the others. Unproven endpoints share half of the slots, beyond the first request to
  each of them, and one that has been silent for `_SILENT_SECONDS` does not count while the limit grows from two.
- A request that continues a shard goes before one that starts a shard: `reserve` waits until no other request could be
  sent. Among the endpoints that are ready, the one with the fewest requests in flight is next.

Rate limit of an endpoint

- There is none until the service's first 429. Requests are then spaced evenly; no burst is saved up.
- The 429 shows the ceiling: the successes per second, measured over the last second, or at a low rate over the time
  that four requests take. From then on the rate is a cubic of the time since the 429, as in TCP's CUBIC
  (docs/adr/0008). With plateau C, after t seconds it is

      C * (1 + ((t - P) / K) ** 3)    where P = K * (1 - start) ** (1 / 3)

  It starts below C, stays flat around C, and then grows faster and faster, in case the service allows more than it did.
- A ceiling is an estimate until the next 429 shows the same one, give or take a tenth: C is the ceiling, the start is
  90 % of it, and K is 20 s. Once it is confirmed, C is 98 % of the ceiling, the start is 97 % of that, and K is 40 s:
  each 429 may cost a second of `Retry-After`, so a limit that is known is tried more rarely and more gently.
- A 429 in the first second, or after next to no successes, shows no ceiling. The rate then starts at three quarters of
  those successes (at four a second if there were none), or is halved if there was one, and doubles every second. Each
  doubling needs two successes: a rate that grows faster than responses arrive would exceed a low limit again and again.
- One reduction per round trip: a 429 to a request that was sent before the last reduction adds no information.
- The rate grows to twice the rate in use at most, so that a limit that appears later is found quickly.
- `Retry-After` pauses the endpoint until the latest moment that was named. The rate does not grow during the pause.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ociaudit.clock import Clock

INITIAL_IN_FLIGHT = 2
_UNPROVEN_AFTER_FAILURES = 3
_SILENT_SECONDS = 3.0
_MIN_MEASURED_SECONDS = 1.0
_CONFIRMING_SHARE = 0.1
_INITIAL_PER_SECOND = 4.0
_INITIAL_SHARE = 0.75
_LEAST_SHARE_USED = 1 / 3
_MIN_PER_SECOND = 0.5
_SUCCESSES_PER_DOUBLING = 2
_MAX_DOUBLINGS = 30.0


class _Curve(NamedTuple):
    """The rate after a 429: it starts at a share of the plateau."""

    plateau: float
    start: float
    cubic_seconds: float

    def compute_rate(self, seconds: float) -> float:
        """Return the requests per second so many seconds after the 429."""
        return float(self.plateau * (1 + (seconds / self.cubic_seconds - (1 - self.start) ** (1 / 3)) ** 3))


class EndpointLimit:
    """What one endpoint allows: requests in flight, and requests per second.

    It neither waits nor reads a clock. Moments are seconds of one clock, passed in ascending order.
    """

    def __init__(self, *, max_in_flight: int) -> None:
        """Start without a rate limit; `max_in_flight` is the ceiling of the requests in flight."""
        self.max_in_flight = max_in_flight
        self.allowed_in_flight = min(INITIAL_IN_FLIGHT, max_in_flight)
        self.in_flight = 0
        self.per_second: float | None = None
        """The requests that may be sent in a second; None until the first 429."""
        self.last_sent_at: float | None = None
        self._first_sent_at: float | None = None
        self._failures_in_a_row: int | None = None
        """None until the first response."""
        self._ceiling: float | None = None
        self._curve: _Curve | None = None
        """None without a 429, or while the rate doubles."""
        self._next_at = 0.0
        self._paused_until = 0.0
        self._reduced_at = -1.0
        self._successes_since_reduction = 0
        self._doubled_from = _INITIAL_PER_SECOND
        self._successes: deque[float] = deque()

    @property
    def has_responded(self) -> bool:
        """Return whether the endpoint has ever responded."""
        return self._failures_in_a_row is not None

    @property
    def is_proven(self) -> bool:
        """Return whether the endpoint responds: it has, and has not failed three times in a row since."""
        return self._failures_in_a_row is not None and self._failures_in_a_row < _UNPROVEN_AFTER_FAILURES

    @property
    def has_free_slot(self) -> bool:
        """Return whether another request may be in flight."""
        return self.in_flight < (self.allowed_in_flight if self.is_proven else 1)

    @property
    def next_send_at(self) -> float:
        """Return the moment from which the next request may be sent; a moment in the past means now."""
        return max(self._next_at, self._paused_until)

    def record_sent(self, now: float) -> None:
        """Record that a request is sent."""
        self.in_flight += 1
        self.last_sent_at = now
        if self._first_sent_at is None:
            self._first_sent_at = now
        if self.per_second is not None:
            self._next_at = max(now, self._next_at) + 1 / self.per_second

    def record_abandoned(self) -> None:
        """Record that a request ended without a response; it was cancelled, for example."""
        self.in_flight -= 1

    def record_success(self, now: float) -> None:
        """Record a response that shows that the endpoint works."""
        self.in_flight -= 1
        self._failures_in_a_row = 0
        self.allowed_in_flight = min(self.max_in_flight, self.allowed_in_flight + 1)
        self._successes.append(now)
        self._successes_since_reduction += 1
        self._drop_old_successes(now)
        self._grow(now)

    def record_failure(self) -> None:
        """Record a failed request: a lone 500 or broken connection neither lowers nor raises the rate."""
        self.in_flight -= 1
        if self._failures_in_a_row is not None:
            self._failures_in_a_row += 1

    def record_throttled(self, now: float, *, sent_at: float, retry_after_seconds: float | None) -> None:
        """Record a 429 to the request that was sent at `sent_at`."""
        self.in_flight -= 1
        self._failures_in_a_row = 0
        if retry_after_seconds is not None:
            self.pause(now, retry_after_seconds)
        if sent_at > self._reduced_at:
            self._drop_old_successes(now)
            self._reduce(now)

    def pause(self, now: float, seconds: float) -> None:
        """Send nothing for this long, because the service asked for it."""
        self._paused_until = max(self._paused_until, now + seconds)

    def _reduce(self, now: float) -> None:
        before, self._ceiling = self._ceiling, self._measure_ceiling(now)
        if self._ceiling is None:
            self._curve = None
            if self.per_second is not None:
                self.per_second = max(self.per_second / 2, _MIN_PER_SECOND)
            else:
                self.per_second = _INITIAL_SHARE * len(self._successes) or _INITIAL_PER_SECOND
        else:
            is_confirmed = before is not None and abs(self._ceiling - before) <= _CONFIRMING_SHARE * before
            self._curve = _Curve(0.98 * self._ceiling, 0.97, 40.0) if is_confirmed else _Curve(self._ceiling, 0.9, 20.0)
            self.per_second = self._curve.compute_rate(0.0)
        self._reduced_at = now
        self._successes_since_reduction = 0
        self._doubled_from = self.per_second
        self._next_at = now + 1 / self.per_second

    def _measure_ceiling(self, now: float) -> float | None:
        """Return the rate that the successes before a 429 show; None if there were too few, or for too short a time.

        Their number is a whole one. If it fits the rate in use, that is the better estimate. The rate never sinks below
        `_MIN_PER_SECOND`, however few requests succeeded: at one request in minutes, no recovery would be noticed.
        """
        count, seconds = len(self._successes), self._measured_seconds
        used = self.per_second
        least = _INITIAL_PER_SECOND if used is None else _LEAST_SHARE_USED * used
        if self._first_sent_at is None or now - self._first_sent_at < seconds or count / seconds < least:
            return None
        if used is not None and count + 1 >= used * seconds:
            return max(_MIN_PER_SECOND, min(used, (count + 0.75) / seconds))
        return max(_MIN_PER_SECOND, count / seconds)

    def _grow(self, now: float) -> None:
        if self.per_second is None:
            return
        passed = max(0.0, now - max(self._reduced_at, self._paused_until))
        if self._curve is None:
            doublings = min(passed, self._successes_since_reduction / _SUCCESSES_PER_DOUBLING, _MAX_DOUBLINGS)
            wanted = self._doubled_from * 2**doublings
        else:
            wanted = self._curve.compute_rate(passed)
        used = max(len(self._successes) / self._measured_seconds, _INITIAL_PER_SECOND)
        self.per_second = max(min(wanted, 2 * used), min(wanted, self.per_second))

    def _drop_old_successes(self, now: float) -> None:
        while self._successes and self._successes[0] <= now - self._measured_seconds:
            self._successes.popleft()

    @property
    def _measured_seconds(self) -> float:
        """How far back successes are counted: a low rate takes longer to show."""
        return max(_MIN_MEASURED_SECONDS, _INITIAL_PER_SECOND / (self.per_second or _INITIAL_PER_SECOND))


OnRate = Callable[[str, EndpointLimit], None]


@dataclass(slots=True)
class Slot:
    """The right to have one request in flight.

    Its holder reports how the request ended. A slot that is released without a report counts as abandoned.
    """

    limit: EndpointLimit
    sent_at: float
    clock: Clock
    _is_reported: bool = False

    def record_success(self) -> None:
        """Report a good response, or an error that says nothing about the rate."""
        self._is_reported = True
        self.limit.record_success(self.clock.monotonic())

    def record_failure(self, retry_after_seconds: float | None = None) -> None:
        """Report no response, an invalid one, or a server error, with its `Retry-After` if it had one."""
        self._is_reported = True
        self.limit.record_failure()
        if retry_after_seconds is not None:
            self.limit.pause(self.clock.monotonic(), retry_after_seconds)

    def record_throttled(self, retry_after_seconds: float | None) -> None:
        """Report a 429, with its `Retry-After` if it had one."""
        self._is_reported = True
        self.limit.record_throttled(
            self.clock.monotonic(), sent_at=self.sent_at, retry_after_seconds=retry_after_seconds
        )

    def release(self) -> None:
        """Return the slot."""
        if not self._is_reported:
            self._is_reported = True
            self.limit.record_abandoned()


@dataclass(slots=True)
class _EndpointState:
    """One endpoint: its limit, and the requests that wait for a slot to continue or to start a shard."""

    limit: EndpointLimit
    continuing: deque[asyncio.Future[None]] = field(default_factory=deque)
    starting: deque[asyncio.Future[None]] = field(default_factory=deque)
    reserved: int = 0


class _FreeSlots(NamedTuple):
    """Whether any slot is free, whether one is free for an unproven endpoint, and when the next endpoint is silent."""

    has_any: bool
    has_unproven: bool
    silent_at: float


class RateLimiter:
    """Grants slots to requests. Used inside one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        max_in_flight: int = 16,
        max_per_second: float | None = None,
        on_rate: OnRate | None = None,
    ) -> None:
        """Start with two slots; `on_rate` is called with an endpoint and its limit whenever its rate has changed."""
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._allowed_in_flight = min(INITIAL_IN_FLIGHT, max_in_flight)
        self._interval_seconds = 1 / max_per_second if max_per_second else 0.0
        self._next_at = 0.0
        self._on_rate = on_rate
        self._states: dict[str, _EndpointState] = {}
        self._timer: asyncio.Task[None] | None = None
        self._timer_at = float("inf")

    @contextlib.asynccontextmanager
    async def acquire(self, endpoint: str) -> AsyncIterator[Slot]:
        """Wait for a slot, and hold it for the duration of the block."""
        state = self._find_state(endpoint)
        if state.reserved:
            state.reserved -= 1
        else:
            await self._wait(state, state.continuing)
        slot = Slot(state.limit, self._clock.monotonic(), self._clock)
        rate_before = state.limit.per_second
        try:
            yield slot
        finally:
            slot.release()
            if state.limit.is_proven:
                self._allowed_in_flight = min(self._max_in_flight, self._allowed_in_flight + 1)
            if self._on_rate and state.limit.per_second != rate_before:
                self._on_rate(endpoint, state.limit)
            self._grant_slots()

    async def reserve(self, endpoint: str) -> None:
        """Wait until a new shard may start: the next `acquire` for this endpoint does not wait."""
        state = self._find_state(endpoint)
        await self._wait(state, state.starting)
        state.reserved += 1

    def release_reserved(self, endpoint: str) -> None:
        """Return a reserved slot that is not needed."""
        state = self._find_state(endpoint)
        state.reserved -= 1
        state.limit.record_abandoned()
        self._grant_slots()

    async def close(self) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()
            await asyncio.wait([self._timer])

    @property
    def limits_by_endpoint(self) -> dict[str, EndpointLimit]:
        """Return the limit of every endpoint that has been requested."""
        return {endpoint: state.limit for endpoint, state in self._states.items()}

    @property
    def max_in_flight(self) -> int:
        """Return how many requests may be in flight, all endpoints together."""
        return self._max_in_flight

    def is_failing(self, endpoint: str) -> bool:
        """Return whether an endpoint that has responded now fails again and again."""
        limit = self._find_state(endpoint).limit
        return limit.has_responded and not limit.is_proven

    def _find_state(self, endpoint: str) -> _EndpointState:
        state = self._states.get(endpoint)
        if state is None:
            state = self._states[endpoint] = _EndpointState(EndpointLimit(max_in_flight=self._max_in_flight))
        return state

    async def _wait(self, state: _EndpointState, queue: deque[asyncio.Future[None]]) -> None:
        """Wait in a queue; when this returns, the endpoint's limit has recorded the request as sent."""
        grant: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(grant)
        self._grant_slots()
        try:
            await grant
        except asyncio.CancelledError:
            if grant.done() and not grant.cancelled():  # granted and cancelled in the same iteration of the loop
                state.limit.record_abandoned()
                self._grant_slots()
            elif grant in queue:
                queue.remove(grant)
            raise

    def _grant_slots(self) -> None:
        """Grant slots to waiting requests for as long as there are free ones."""
        now = self._clock.monotonic()
        while (state := self._choose_endpoint(now)) is not None:
            grant = (state.continuing or state.starting).popleft()
            if grant.done():  # cancelled
                continue
            state.limit.record_sent(now)
            self._next_at = max(now, self._next_at) + self._interval_seconds
            grant.set_result(None)

    def _choose_endpoint(self, now: float) -> _EndpointState | None:
        """Return the endpoint whose request is sent next; if it is too early for all, set the timer instead."""
        waiting = [state for state in self._states.values() if state.continuing or state.starting]
        if not waiting:
            return None
        ready: list[_EndpointState] = []
        slots = self._count_free_slots(now)
        wake_at = slots.silent_at
        for state in waiting:
            limit = state.limit
            if not limit.has_free_slot:
                continue
            send_at = max(limit.next_send_at, self._next_at)
            if send_at > now:
                wake_at = min(wake_at, send_at)
            elif slots.has_any and (limit.is_proven or limit.last_sent_at is None or slots.has_unproven):
                ready.append(state)
        if ready:
            return min(ready, key=lambda state: (not state.continuing, state.limit.in_flight))
        self._set_timer(wake_at, now)
        return None

    def _count_free_slots(self, now: float) -> _FreeSlots:
        in_flight = unproven = silent = 0
        silent_at = float("inf")
        for state in self._states.values():
            limit = state.limit
            in_flight += limit.in_flight
            if limit.in_flight and not limit.is_proven and limit.last_sent_at is not None:
                unproven += limit.in_flight
                if now - limit.last_sent_at >= _SILENT_SECONDS:
                    silent += limit.in_flight
                else:
                    silent_at = min(silent_at, limit.last_sent_at + _SILENT_SECONDS)
        return _FreeSlots(
            has_any=in_flight < self._max_in_flight and in_flight - silent < self._allowed_in_flight,
            has_unproven=unproven < max(1, self._max_in_flight // 2),
            silent_at=silent_at,
        )

    def _set_timer(self, moment: float, now: float) -> None:
        """Try to grant slots again at this moment, unless an earlier timer is set."""
        if moment == float("inf") or (self._timer is not None and not self._timer.done() and self._timer_at <= moment):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = moment
        self._timer = asyncio.create_task(self._grant_slots_later(max(0.0, moment - now)))

    async def _grant_slots_later(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._timer_at = float("inf")
        self._timer = None
        self._grant_slots()
