"""How fast one region endpoint is asked.

Owns: the decision whether a request may leave now. Pure: moments come in as seconds of one clock, in order.
Must not: wait, or know what is asked.

Invariants
- Once it has answered, two requests may be in flight, and one more for every good answer, up to the ceiling.
  Before, and after three failures in a row, it is in doubt, and asked one at a time.
- There is no rate limit until the service's first 429. That shows its ceiling: the good answers of the last second,
  or, where they are few, of the time of four. The pace is 85 % of it at once, and then a cubic of the time since:
  back at 95 % within four seconds, flat around the ceiling, and faster and faster above it, should the service allow
  more than it did.
- A 429 in the first second, or after next to nothing was answered, shows no ceiling: then the pace is halved, from
  four a second at first, and doubles with every second of good answers, of which there must be two: growing faster
  than answers come would pass a low limit again and again.
- One cut per round trip: a 429 to a request that left before the last cut tells nothing new.
- It grows no further than twice of what is used: a limit that the service sets later is found as soon.
- `Retry-After` stops the endpoint once, until the latest moment that was named; that time is no time of good answers.
- What leaves is spaced evenly: nothing is saved up for a burst.

Who may ask now: one pace per region endpoint, under one ceiling for all.

Owns: the order in which waiting requests leave. Must not: send, or know what is asked.

Invariants
- Never more than `max_in_flight` requests are under way, all regions together; from two on, one more for every
  good answer. Never more than `max_per_second` leave in a second, where that is given.
- A shard that has begun goes before one that has not: `reserve` waits until nobody else could leave.
- A dead region does not slow the others: regions in doubt share half of the places, beyond the first question to
  each, and one that is silent for `_SILENT_SECONDS` does not count in the growth from two.
- Among regions that could send, the one with the fewest requests under way is next.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from ociaudit.clock import Clock

FIRST_IN_FLIGHT = 2
_SHORTEST_MEASURE_SECONDS = 1.0
_AFTER_CUT = 0.85
_CUBIC_SECONDS = 20.0
"""The ceiling is reached again after half of this, and doubled after one and a half."""
_PLATEAU_SECONDS = _CUBIC_SECONDS * (1 - _AFTER_CUT) ** (1 / 3)
_LOW_PER_SECOND = 4.0
_SLOWEST_PER_SECOND = 0.5
_DOUBTFUL_FAILURES = 3
_RESPONSES_PER_DOUBLING = 2
_MOST_DOUBLINGS = 30.0


class EndpointLimit:
    """The pace of one endpoint."""

    def __init__(self, *, max_in_flight: int) -> None:
        """Begin without a rate limit; `max_in_flight` is the ceiling of requests under way."""
        self.max_in_flight = max_in_flight
        self.allowed_in_flight = min(FIRST_IN_FLIGHT, max_in_flight)
        self.in_flight = 0
        self.per_second: float | None = None
        """The requests that may leave in a second; None as long as the service has not said 429."""
        self.sent_at: float | None = None
        """When the latest request left; None before the first."""
        self._failures: int | None = None
        self._ceiling: float | None = None
        self._next_at = 0.0
        self._paused_until = 0.0
        self._began_at: float | None = None
        self._cut_at = -1.0
        self._good_since_cut = 0
        self._searched_from = _LOW_PER_SECOND
        self._good: deque[float] = deque()

    @property
    def is_proven(self) -> bool:
        """Tell whether the endpoint answers: it has, and did not fail several times in a row since."""
        return self._failures is not None and self._failures < _DOUBTFUL_FAILURES

    @property
    def has_responded(self) -> bool:
        """Tell whether the endpoint has ever answered."""
        return self._failures is not None

    @property
    def has_room(self) -> bool:
        """Tell whether another request may be in flight; while the endpoint is in doubt, it is asked one at a time."""
        return self.in_flight < (self.allowed_in_flight if self.is_proven else 1)

    def find_next_moment(self) -> float:
        """Return the moment from which on the next request may leave; what lies in the past means now."""
        return max(self._next_at, self._paused_until)

    def record_sent(self, now: float) -> None:
        """A request leaves."""
        self.in_flight += 1
        self.sent_at = now
        if self._began_at is None:
            self._began_at = now
        if self.per_second is not None:
            self._next_at = max(now, self._next_at) + 1 / self.per_second

    def record_end(self) -> None:
        """A request ended without an answer that tells anything about the pace; it was given up, perhaps."""
        self.in_flight -= 1

    def record_success(self, now: float) -> None:
        """A request was answered."""
        self.in_flight -= 1
        self._failures = 0
        self.allowed_in_flight = min(self.max_in_flight, self.allowed_in_flight + 1)
        self._good.append(now)
        self._good_since_cut += 1
        self._forget(now)
        self._grow(now)

    def record_failure(self) -> None:
        """A request failed: a lone 500 or a broken connection cuts nothing, and adds nothing."""
        self.in_flight -= 1
        if self._failures is not None:
            self._failures += 1

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing leave for so long: the service has asked for it."""
        self._paused_until = max(self._paused_until, now + seconds)

    def record_throttled(self, now: float, *, sent_at: float, retry_after_seconds: float | None) -> None:
        """A request was answered with 429."""
        self.in_flight -= 1
        self._failures = 0
        if retry_after_seconds is not None:
            self.pause(now, retry_after_seconds)
        if sent_at <= self._cut_at:
            return
        self._forget(now)
        measured = len(self._good) / self._measured_seconds
        lowest = _LOW_PER_SECOND if self.per_second is None else max(self.per_second / 2, _SLOWEST_PER_SECOND)
        is_reported = (
            self._began_at is not None and now - self._began_at >= self._measured_seconds and measured >= lowest
        )
        if is_reported:
            self._ceiling = measured if self.per_second is None else min(measured, self.per_second)
            self.per_second = _AFTER_CUT * self._ceiling
        else:
            self._ceiling = None
            self.per_second = lowest
        self._cut_at = now
        self._good_since_cut = 0
        self._searched_from = self.per_second
        self._next_at = now + 1 / self.per_second

    def _grow(self, now: float) -> None:
        if self.per_second is None:
            return
        passed = max(0.0, now - max(self._cut_at, self._paused_until))
        if self._ceiling is None:
            doublings = min(passed, self._good_since_cut / _RESPONSES_PER_DOUBLING, _MOST_DOUBLINGS)
            wanted = self._searched_from * 2**doublings
        else:
            wanted = self._ceiling * (1 + ((passed - _PLATEAU_SECONDS) / _CUBIC_SECONDS) ** 3)
        used = max(len(self._good) / self._measured_seconds, _LOW_PER_SECOND)
        self.per_second = max(min(wanted, 2 * used), min(wanted, self.per_second))

    def _forget(self, now: float) -> None:
        while self._good and self._good[0] <= now - self._measured_seconds:
            self._good.popleft()

    @property
    def _measured_seconds(self) -> float:
        """How far back answers are counted: a slow pace takes longer to show."""
        return max(_SHORTEST_MEASURE_SECONDS, _LOW_PER_SECOND / (self.per_second or _LOW_PER_SECOND))


_SILENT_SECONDS = 3.0
OnRate = Callable[[str, EndpointLimit], None]


@dataclass(slots=True)
class Slot:
    """A request under way. Whoever holds it says how it ended; if nobody does, it was given up."""

    limit: EndpointLimit
    sent_at: float
    clock: Clock
    _is_reported: bool = False

    def record_success(self) -> None:
        """The answer was good, or a refusal that says nothing about the pace."""
        self._is_reported = True
        self.limit.record_success(self.clock.monotonic())

    def record_failure(self, retry_after_seconds: float | None = None) -> None:
        """No answer, a bad one, or an error of the service's, which may have said when to come back."""
        self._is_reported = True
        self.limit.record_failure()
        if retry_after_seconds is not None:
            self.limit.pause(self.clock.monotonic(), retry_after_seconds)

    def record_throttled(self, retry_after_seconds: float | None) -> None:
        """The answer was 429."""
        self._is_reported = True
        self.limit.record_throttled(
            self.clock.monotonic(), sent_at=self.sent_at, retry_after_seconds=retry_after_seconds
        )

    def close(self) -> None:
        """Give the place back."""
        if not self._is_reported:
            self._is_reported = True
            self.limit.record_end()


@dataclass(slots=True)
class _EndpointState:
    """One endpoint: its pace, and who waits for it."""

    limit: EndpointLimit
    begun: deque[asyncio.Future[None]] = field(default_factory=deque)
    fresh: deque[asyncio.Future[None]] = field(default_factory=deque)
    reserved: int = 0


class _FreeSlots(NamedTuple):
    """Whether any place is free, and one for a region in doubt; and when the next silent one frees another."""

    has_any: bool
    has_doubtful: bool
    silent_at: float


class RateLimiter:
    """Lets requests through, in their turn. Used inside one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        max_in_flight: int = 16,
        max_per_second: float | None = None,
        on_rate: OnRate | None = None,
    ) -> None:
        """Begin with two places."""
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._allowed = min(FIRST_IN_FLIGHT, max_in_flight)
        self._interval = 1 / max_per_second if max_per_second else 0.0
        self._next_at = 0.0
        self._on_rate = on_rate
        self._states: dict[str, _EndpointState] = {}
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = float("inf")

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: str) -> AsyncIterator[Slot]:
        """Wait for a place, and hold it for the time of the block."""
        state = self._find_state(endpoint)
        if state.reserved:
            state.reserved -= 1
        else:
            await self._wait(state, state.begun)
        slot = Slot(state.limit, self._clock.monotonic(), self._clock)
        told = state.limit.per_second
        try:
            yield slot
        finally:
            slot.close()
            if state.limit.is_proven:
                self._allowed = min(self._max_in_flight, self._allowed + 1)
            if self._on_rate and state.limit.per_second != told:
                self._on_rate(endpoint, state.limit)
            self._let_through()

    async def reserve(self, endpoint: str) -> None:
        """Wait until a new shard may begin: the next `enter` of this endpoint does not wait."""
        state = self._find_state(endpoint)
        await self._wait(state, state.fresh)
        state.reserved += 1

    def give_back(self, endpoint: str) -> None:
        """A reserved place is not needed."""
        state = self._find_state(endpoint)
        state.reserved -= 1
        state.limit.record_end()
        self._let_through()

    async def close(self) -> None:
        """End the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            await asyncio.wait([self._alarm])

    @property
    def limits_by_endpoint(self) -> dict[str, EndpointLimit]:
        """Return the pace of every endpoint that was asked."""
        return {endpoint: state.limit for endpoint, state in self._states.items()}

    @property
    def max_in_flight(self) -> int:
        """Return how many requests may be under way, all regions together."""
        return self._max_in_flight

    def is_failing(self, endpoint: str) -> bool:
        """Tell whether an endpoint that has answered fails again and again."""
        limit = self._find_state(endpoint).limit
        return limit.has_responded and not limit.is_proven

    def _find_state(self, endpoint: str) -> _EndpointState:
        state = self._states.get(endpoint)
        if state is None:
            state = self._states[endpoint] = _EndpointState(EndpointLimit(max_in_flight=self._max_in_flight))
        return state

    async def _wait(self, state: _EndpointState, waiting: deque[asyncio.Future[None]]) -> None:
        """Wait in a queue; when this returns, the pace has counted the request as sent."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting.append(turn)
        self._let_through()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let through and cancelled in one moment
                state.limit.record_end()
                self._let_through()
            elif turn in waiting:
                waiting.remove(turn)
            raise

    def _let_through(self) -> None:
        """Give places to those who wait, as long as there are any."""
        now = self._clock.monotonic()
        while True:
            waiting = [state for state in self._states.values() if state.begun or state.fresh]
            if not waiting:
                return
            ready: list[_EndpointState] = []
            slots = self._count_free_slots(now)
            wake_at = slots.silent_at
            for state in waiting:
                if not state.limit.has_room:
                    continue
                moment = max(state.limit.find_next_moment(), self._next_at)
                if moment > now:
                    wake_at = min(wake_at, moment)
                elif slots.has_any and (state.limit.is_proven or state.limit.sent_at is None or slots.has_doubtful):
                    ready.append(state)
            if not ready:
                self._set_alarm(wake_at, now)
                return
            state = min(ready, key=lambda state: (not state.begun, state.limit.in_flight))
            turn = (state.begun or state.fresh).popleft()
            if turn.done():  # cancelled
                continue
            state.limit.record_sent(now)
            self._next_at = max(now, self._next_at) + self._interval
            turn.set_result(None)

    def _count_free_slots(self, now: float) -> _FreeSlots:
        in_flight = doubtful = silent = 0
        silent_at = float("inf")
        for state in self._states.values():
            limit = state.limit
            in_flight += limit.in_flight
            if limit.in_flight and not limit.is_proven and limit.sent_at is not None:
                doubtful += limit.in_flight
                if now - limit.sent_at >= _SILENT_SECONDS:
                    silent += limit.in_flight
                else:
                    silent_at = min(silent_at, limit.sent_at + _SILENT_SECONDS)
        return _FreeSlots(
            has_any=in_flight < self._max_in_flight and in_flight - silent < self._allowed,
            has_doubtful=doubtful < max(1, self._max_in_flight // 2),
            silent_at=silent_at,
        )

    def _set_alarm(self, moment: float, now: float) -> None:
        """Look again at that moment, unless it will be looked at before."""
        if moment == float("inf") or (self._alarm is not None and not self._alarm.done() and self._alarm_at <= moment):
            return
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm_at = moment
        self._alarm = asyncio.create_task(self._ring(max(0.0, moment - now)))

    async def _ring(self, seconds: float) -> None:
        await self._clock.sleep(seconds)
        self._alarm_at = float("inf")
        self._alarm = None
        self._let_through()
