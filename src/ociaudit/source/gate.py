"""Who may ask now: one pace per region endpoint, under one ceiling for all.

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

from ociaudit.source.clock import Clock
from ociaudit.source.pace import FIRST_IN_FLIGHT, Pace

_SILENT_SECONDS = 3.0
OnPace = Callable[[str, Pace], None]


@dataclass(slots=True)
class Permit:
    """A request under way. Whoever holds it says how it ended; if nobody does, it was given up."""

    pace: Pace
    sent_at: float
    clock: Clock
    _is_told: bool = False

    def note_good(self) -> None:
        """The answer was good, or a refusal that says nothing about the pace."""
        self._is_told = True
        self.pace.note_good(self.clock.monotonic())

    def note_failure(self, retry_after_seconds: float | None = None) -> None:
        """No answer, a bad one, or an error of the service's, which may have said when to come back."""
        self._is_told = True
        self.pace.note_failure()
        if retry_after_seconds is not None:
            self.pace.pause(self.clock.monotonic(), retry_after_seconds)

    def note_throttled(self, retry_after_seconds: float | None) -> None:
        """The answer was 429."""
        self._is_told = True
        self.pace.note_throttled(self.clock.monotonic(), sent_at=self.sent_at, retry_after_seconds=retry_after_seconds)

    def close(self) -> None:
        """Give the place back."""
        if not self._is_told:
            self._is_told = True
            self.pace.note_end()


@dataclass(slots=True)
class _Lane:
    """One endpoint: its pace, and who waits for it."""

    pace: Pace
    begun: deque[asyncio.Future[None]] = field(default_factory=deque)
    fresh: deque[asyncio.Future[None]] = field(default_factory=deque)
    reserved: int = 0


class _Places(NamedTuple):
    """Whether any place is free, and one for a region in doubt; and when the next silent one frees another."""

    has_any: bool
    has_doubtful: bool
    silent_at: float


class Gate:
    """Lets requests through, in their turn. Used inside one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        max_in_flight: int = 16,
        max_per_second: float | None = None,
        on_pace: OnPace | None = None,
    ) -> None:
        """Begin with two places."""
        self._clock = clock
        self._max_in_flight = max_in_flight
        self._allowed = min(FIRST_IN_FLIGHT, max_in_flight)
        self._interval = 1 / max_per_second if max_per_second else 0.0
        self._next_at = 0.0
        self._on_pace = on_pace
        self._lanes: dict[str, _Lane] = {}
        self._alarm: asyncio.Task[None] | None = None
        self._alarm_at = float("inf")

    @contextlib.asynccontextmanager
    async def enter(self, endpoint: str) -> AsyncIterator[Permit]:
        """Wait for a place, and hold it for the time of the block."""
        lane = self._find_lane(endpoint)
        if lane.reserved:
            lane.reserved -= 1
        else:
            await self._wait(lane, lane.begun)
        permit = Permit(lane.pace, self._clock.monotonic(), self._clock)
        told = lane.pace.per_second
        try:
            yield permit
        finally:
            permit.close()
            if lane.pace.is_proven:
                self._allowed = min(self._max_in_flight, self._allowed + 1)
            if self._on_pace and lane.pace.per_second != told:
                self._on_pace(endpoint, lane.pace)
            self._let_through()

    async def reserve(self, endpoint: str) -> None:
        """Wait until a new shard may begin: the next `enter` of this endpoint does not wait."""
        lane = self._find_lane(endpoint)
        await self._wait(lane, lane.fresh)
        lane.reserved += 1

    def give_back(self, endpoint: str) -> None:
        """A reserved place is not needed."""
        lane = self._find_lane(endpoint)
        lane.reserved -= 1
        lane.pace.note_end()
        self._let_through()

    async def close(self) -> None:
        """End the alarm."""
        if self._alarm is not None:
            self._alarm.cancel()
            await asyncio.wait([self._alarm])

    @property
    def paces(self) -> dict[str, Pace]:
        """Return the pace of every endpoint that was asked."""
        return {endpoint: lane.pace for endpoint, lane in self._lanes.items()}

    @property
    def max_in_flight(self) -> int:
        """Return how many requests may be under way, all regions together."""
        return self._max_in_flight

    def is_failing(self, endpoint: str) -> bool:
        """Tell whether an endpoint that has answered fails again and again."""
        pace = self._find_lane(endpoint).pace
        return pace.has_answered and not pace.is_proven

    def _find_lane(self, endpoint: str) -> _Lane:
        lane = self._lanes.get(endpoint)
        if lane is None:
            lane = self._lanes[endpoint] = _Lane(Pace(max_in_flight=self._max_in_flight))
        return lane

    async def _wait(self, lane: _Lane, queue: deque[asyncio.Future[None]]) -> None:
        """Wait in a queue; when this returns, the pace has counted the request as sent."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue.append(turn)
        self._let_through()
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():  # let through and cancelled in one moment
                lane.pace.note_end()
                self._let_through()
            elif turn in queue:
                queue.remove(turn)
            raise

    def _let_through(self) -> None:
        """Give places to those who wait, as long as there are any."""
        now = self._clock.monotonic()
        while True:
            waiting = [lane for lane in self._lanes.values() if lane.begun or lane.fresh]
            if not waiting:
                return
            ready: list[_Lane] = []
            places = self._count_places(now)
            wake_at = places.silent_at
            for lane in waiting:
                if not lane.pace.has_room:
                    continue
                moment = max(lane.pace.find_next_moment(), self._next_at)
                if moment > now:
                    wake_at = min(wake_at, moment)
                elif places.has_any and (lane.pace.is_proven or lane.pace.sent_at is None or places.has_doubtful):
                    ready.append(lane)
            if not ready:
                self._set_alarm(wake_at, now)
                return
            lane = min(ready, key=lambda lane: (not lane.begun, lane.pace.in_flight))
            turn = (lane.begun or lane.fresh).popleft()
            if turn.done():  # cancelled
                continue
            lane.pace.note_sent(now)
            self._next_at = max(now, self._next_at) + self._interval
            turn.set_result(None)

    def _count_places(self, now: float) -> _Places:
        in_flight = doubtful = silent = 0
        silent_at = float("inf")
        for lane in self._lanes.values():
            pace = lane.pace
            in_flight += pace.in_flight
            if pace.in_flight and not pace.is_proven and pace.sent_at is not None:
                doubtful += pace.in_flight
                if now - pace.sent_at >= _SILENT_SECONDS:
                    silent += pace.in_flight
                else:
                    silent_at = min(silent_at, pace.sent_at + _SILENT_SECONDS)
        return _Places(
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
