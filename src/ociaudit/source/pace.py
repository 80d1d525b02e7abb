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
"""

from __future__ import annotations

from collections import deque

FIRST_IN_FLIGHT = 2
_SHORTEST_MEASURE_SECONDS = 1.0
_AFTER_CUT = 0.85
_CUBIC_SECONDS = 20.0
"""The ceiling is reached again after half of this, and doubled after one and a half."""
_PLATEAU_SECONDS = _CUBIC_SECONDS * (1 - _AFTER_CUT) ** (1 / 3)
_LOW_PER_SECOND = 4.0
_SLOWEST_PER_SECOND = 0.5
_DOUBTFUL_FAILURES = 3
_ANSWERS_PER_DOUBLING = 2
_MOST_DOUBLINGS = 30.0


class Pace:
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
    def has_answered(self) -> bool:
        """Tell whether the endpoint has ever answered."""
        return self._failures is not None

    @property
    def has_room(self) -> bool:
        """Tell whether another request may be in flight; while the endpoint is in doubt, it is asked one at a time."""
        return self.in_flight < (self.allowed_in_flight if self.is_proven else 1)

    def find_next_moment(self) -> float:
        """Return the moment from which on the next request may leave; what lies in the past means now."""
        return max(self._next_at, self._paused_until)

    def note_sent(self, now: float) -> None:
        """A request leaves."""
        self.in_flight += 1
        self.sent_at = now
        if self._began_at is None:
            self._began_at = now
        if self.per_second is not None:
            self._next_at = max(now, self._next_at) + 1 / self.per_second

    def note_end(self) -> None:
        """A request ended without an answer that tells anything about the pace; it was given up, perhaps."""
        self.in_flight -= 1

    def note_good(self, now: float) -> None:
        """A request was answered."""
        self.in_flight -= 1
        self._failures = 0
        self.allowed_in_flight = min(self.max_in_flight, self.allowed_in_flight + 1)
        self._good.append(now)
        self._good_since_cut += 1
        self._forget(now)
        self._grow(now)

    def note_failure(self) -> None:
        """A request failed: a lone 500 or a broken connection cuts nothing, and adds nothing."""
        self.in_flight -= 1
        if self._failures is not None:
            self._failures += 1

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing leave for so long: the service has asked for it."""
        self._paused_until = max(self._paused_until, now + seconds)

    def note_throttled(self, now: float, *, sent_at: float, retry_after_seconds: float | None) -> None:
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
        is_told = self._began_at is not None and now - self._began_at >= self._measured_seconds and measured >= lowest
        if is_told:
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
            doublings = min(passed, self._good_since_cut / _ANSWERS_PER_DOUBLING, _MOST_DOUBLINGS)
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
