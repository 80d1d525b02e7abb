"""How many events there are, and in which minute each stands, without making any of them.

Owns: the count of a day, its spread over office hours, and where special events stand in between.
Must not: make events.

Invariants:
- everything about a day depends on its names alone, so any day can be planned without another;
- inside a day the minutes of the positions never go back;
- an empty day costs one hash.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from ociaudit_emulator.chance import draw_bytes
from ociaudit_emulator.instants import MINUTES_PER_DAY

_HOURS_PER_DAY = 24
_WORKDAY_FACTOR, _WEEKEND_FACTOR = 1.3, 0.25
# How busy each hour of a workday is, from the hour in which the office opens.
_WORKDAY_HOURS = (60, 95, 100, 90, 45, 80, 100, 95, 70, 40, 22, 14, 10, 8, 7, 6, 5, 5, 5, 6, 8, 10, 16, 30)
_WEEKEND_HOURS = (10,) * _HOURS_PER_DAY


@dataclass(frozen=True, slots=True)
class Pace:
    """How busy a place is: its events on an average day, and when its office opens (UTC)."""

    events_per_day: float
    office_starts_hour: int
    least_per_day: int = 0


@dataclass(frozen=True, slots=True)
class Spread:
    """A day's ordinary events: how many, and how they are spread over its hours."""

    count: int
    phase: float
    hour_ends: Sequence[float]

    def find_minute(self, ordinal: int) -> int:
        """Find the minute of the day in which an ordinary event stands."""
        share = (ordinal + self.phase) / self.count
        hour = min(bisect_right(self.hour_ends, share), _HOURS_PER_DAY - 1)
        start = self.hour_ends[hour - 1] if hour else 0.0
        inside = (share - start) / (self.hour_ends[hour] - start)
        return hour * 60 + min(int(inside * 60), 59)

    def find_first(self, minute_of_day: int) -> int:
        """Find the first ordinary event that does not stand before a minute (0 to 1440)."""
        if minute_of_day >= MINUTES_PER_DAY:
            return self.count
        return bisect_left(range(self.count), minute_of_day, key=self.find_minute)


@dataclass(frozen=True, slots=True)
class Stand:
    """What stands at a position of a day: a special by its index, or an ordinary event (-1)."""

    minute_of_day: int
    special: int = -1


@dataclass(frozen=True, slots=True)
class DayPlan:
    """One place's day: ordinary events spread over its hours, special ones at their minutes."""

    spread: Spread
    special_minutes: Sequence[int]
    special_positions: Sequence[int]

    @property
    def count(self) -> int:
        """Count the day's events."""
        return self.spread.count + len(self.special_minutes)

    def find(self, position: int) -> Stand:
        """Tell what stands at a position below `count`."""
        before = bisect_left(self.special_positions, position)
        if before < len(self.special_positions) and self.special_positions[before] == position:
            return Stand(self.special_minutes[before], before)
        return Stand(self.spread.find_minute(position - before))

    def find_first(self, minute_of_day: int) -> int:
        """Find the first position that does not stand before a minute (0 to 1440)."""
        return self.spread.find_first(minute_of_day) + bisect_left(self.special_minutes, minute_of_day)


EMPTY_DAY = DayPlan(Spread(0, 0.0, ()), (), ())


def plan_day(pace: Pace, day: int, name: str, special_minutes: Sequence[int]) -> DayPlan:
    """Plan a day (counted since 1970) of a place that has a name, and special events.

    The special minutes are in ascending order; a special stands after its minute's ordinary events.
    """
    drawn = draw_bytes("day", name, day)
    count = _draw_count(pace, day, drawn)
    if count == 0 and not special_minutes:
        return EMPTY_DAY
    spread = Spread(count, drawn[8] / 256, _draw_hour_ends(pace, day, drawn))
    positions = [spread.find_first(minute + 1) + at for at, minute in enumerate(special_minutes)]
    return DayPlan(spread, special_minutes, positions)


def is_weekend(day: int) -> bool:
    """Say whether a day since 1970 is a Saturday or a Sunday."""
    return (day + 3) % 7 >= 5


def _draw_count(pace: Pace, day: int, drawn: bytes) -> int:
    """Draw how many ordinary events a day has: around its average, more on workdays."""
    if pace.events_per_day <= 0:
        return 0
    factor = _WEEKEND_FACTOR if is_weekend(day) else _WORKDAY_FACTOR
    noise = 0.8 + 0.4 * drawn[0] / 255
    chance = int.from_bytes(drawn[1:5], "big") / 2**32
    return max(math.floor(pace.events_per_day * factor * noise + chance), pace.least_per_day)


def _draw_hour_ends(pace: Pace, day: int, drawn: bytes) -> list[float]:
    """Draw which share of a day's events has come by the end of each hour."""
    hours = _WEEKEND_HOURS if is_weekend(day) else _WORKDAY_HOURS
    weights = [
        hours[(hour - pace.office_starts_hour) % _HOURS_PER_DAY] * (0.5 + drawn[16 + hour] / 255)
        for hour in range(_HOURS_PER_DAY)
    ]
    total = sum(weights)
    return [end / total for end in accumulate(weights)]
