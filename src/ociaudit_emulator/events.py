"""How many events there are, and in which minute each stands, without making any of them.

Owns: the count of a day, its spread over office hours, and where special events stand in between.
Must not: make events.

Invariants:
- everything about a day depends on its names alone, so any day can be planned without another;
- inside a day the minutes of the positions never go back;
- an empty day costs one hash.

The made tenancy's events, generated when they are asked for.

Owns: which event stands at which position of which day, as bytes.
Must not: keep events, or depend on anything but seed, place and minute.

Invariants:
- the same position gives the same bytes in every process;
- to read a page costs its events and the days that it passes over, nothing else.

Events of several regions, each region's from a source of its own.

Owns: which source answers for which region.
Must not: know how a source makes or finds its events.

Events that are processed by now: the future is not served.

Owns: the present as the emulator sees it, and the cut that it makes in a source.
Must not: make events.

Self-audit: every ListEvents call becomes an event of the compartment that it asked.

Owns: the events of the calls served so far, up to a bound.
Must not: touch other events.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.drawing import EventDrawing
from ociaudit_emulator.event_shape import Call as EventCall
from ociaudit_emulator.event_shape import Outcome, shape_call, write_compact
from ociaudit_emulator.event_source import START, EventSource, RawEvent, Slice, Span, Target
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.http import Call
from ociaudit_emulator.instants import MINUTES_PER_DAY, MS_PER_MINUTE
from ociaudit_emulator.randomness import draw_bytes
from ociaudit_emulator.special_events import Special
from ociaudit_emulator.tenancy import Tenancy

_HOURS_PER_DAY = 24
_WORKDAY_FACTOR, _WEEKEND_FACTOR = 1.3, 0.25
# How busy each hour of a workday is, from the hour in which the office opens.
_WORKDAY_HOURS = (60, 95, 100, 90, 45, 80, 100, 95, 70, 40, 22, 14, 10, 8, 7, 6, 5, 5, 5, 6, 8, 10, 16, 30)
_WEEKEND_HOURS = (10,) * _HOURS_PER_DAY


@dataclass(frozen=True, slots=True)
class EventRate:
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


def plan_day(event_rate: EventRate, day: int, name: str, special_minutes: Sequence[int]) -> DayPlan:
    """Plan a day (counted since 1970) of a place that has a name, and special events.

    The special minutes are in ascending order; a special stands after its minute's ordinary events.
    """
    drawn = draw_bytes("day", name, day)
    count = _draw_count(event_rate, day, drawn)
    if count == 0 and not special_minutes:
        return EMPTY_DAY
    spread = Spread(count, drawn[8] / 256, _draw_hour_ends(event_rate, day, drawn))
    positions = [spread.find_first(minute + 1) + at for at, minute in enumerate(special_minutes)]
    return DayPlan(spread, special_minutes, positions)


def is_weekend(day: int) -> bool:
    """Say whether a day since 1970 is a Saturday or a Sunday."""
    return (day + 3) % 7 >= 5


def _draw_count(event_rate: EventRate, day: int, drawn: bytes) -> int:
    """Draw how many ordinary events a day has: around its average, more on workdays."""
    if event_rate.events_per_day <= 0:
        return 0
    factor = _WEEKEND_FACTOR if is_weekend(day) else _WORKDAY_FACTOR
    noise = 0.8 + 0.4 * drawn[0] / 255
    chance = int.from_bytes(drawn[1:5], "big") / 2**32
    return max(math.floor(event_rate.events_per_day * factor * noise + chance), event_rate.least_per_day)


def _draw_hour_ends(event_rate: EventRate, day: int, drawn: bytes) -> list[float]:
    """Draw which share of a day's events has come by the end of each hour."""
    hours = _WEEKEND_HOURS if is_weekend(day) else _WORKDAY_HOURS
    weights = [
        hours[(hour - event_rate.office_starts_hour) % _HOURS_PER_DAY] * (0.5 + drawn[16 + hour] / 255)
        for hour in range(_HOURS_PER_DAY)
    ]
    total = sum(weights)
    return [end / total for end in accumulate(weights)]


_POSITIONS_PER_DAY = 1 << 32
_LEAST_IN_ROOT = 3
_DAYS_REMEMBERED = 4096

ListSpecials = Callable[[Target, int], Sequence[Special]]


@dataclass(frozen=True, slots=True)
class _Day:
    """One place's day: its plan, and the special events that the plan refers to."""

    plan: DayPlan
    specials: Sequence[Special]


_NO_DAY = _Day(EMPTY_DAY, ())


class GeneratedEvents:
    """The source of made events."""

    def __init__(self, tenancy: Tenancy, behaviour: Behaviour, list_specials: ListSpecials) -> None:
        """Keep what the events depend on; nothing is made yet."""
        self._tenancy = tenancy
        self._seed = behaviour.seed
        self._events_per_day = behaviour.events_per_day
        self._drawing = EventDrawing(tenancy, behaviour)
        self._list_specials = list_specials
        self._day = lru_cache(maxsize=_DAYS_REMEMBERED)(self._plan)

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        day, at = self._begin(target, span) if position == START else divmod(position, _POSITIONS_PER_DAY)
        events: list[bytes] = []
        while day * MINUTES_PER_DAY < span.end_minute:
            planned = self._day(target, day)
            stop = self._find_stop(planned.plan, day, span)
            room = limit - len(events)
            if at < stop and room == 0:
                return Slice(events, day * _POSITIONS_PER_DAY + at)
            until = min(stop, at + room)
            events.extend(self._make(target, day, planned, number) for number in range(at, until))
            if until < stop:
                return Slice(events, day * _POSITIONS_PER_DAY + until)
            day, at = day + 1, 0
        return Slice(events, None)

    def _begin(self, target: Target, span: Span) -> tuple[int, int]:
        """Find the day and the position at which a span begins."""
        day, minute = divmod(span.start_minute, MINUTES_PER_DAY)
        return day, self._day(target, day).plan.find_first(minute)

    def _find_stop(self, plan: DayPlan, day: int, span: Span) -> int:
        """Find the position in a day at which a span ends."""
        minutes_left = span.end_minute - day * MINUTES_PER_DAY
        return plan.count if minutes_left >= MINUTES_PER_DAY else plan.find_first(minutes_left)

    def _make(self, target: Target, day: int, planned: _Day, number: int) -> bytes:
        """Make the event at a position of a day."""
        stand = planned.plan.find(number)
        minute = day * MINUTES_PER_DAY + stand.minute_of_day
        if stand.special < 0:
            return self._drawing.draw_event(target, minute, number)
        special = planned.specials[stand.special]
        return special.write(self._drawing.draw_fill(target, minute, special.name))

    def _plan(self, target: Target, day: int) -> _Day:
        """Plan one place's day."""
        if self._events_per_day == 0:
            return _NO_DAY
        specials = self._list_specials(target, day)
        minutes = [special.minute_of_day for special in specials]
        name = f"{self._seed} {target.region} {target.compartment_id}"
        plan = plan_day(self._find_event_rate(target), day, name, minutes)
        return _NO_DAY if plan is EMPTY_DAY else _Day(plan, specials)

    def _find_event_rate(self, target: Target) -> EventRate:
        """Find how busy a place is."""
        region = self._tenancy.region_by_name[target.region]
        compartment = self._tenancy.compartment_by_id[target.compartment_id]
        per_day = self._events_per_day * region.share * compartment.share
        least = _LEAST_IN_ROOT if compartment is self._tenancy.root else 0
        return EventRate(per_day, region.office_starts_hour, least)


class RegionalEvents:
    """A source made of one for each region; a region without one has no events."""

    def __init__(self, sources: Mapping[str, EventSource]) -> None:
        """Keep the sources by region."""
        self._sources = sources

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        source = self._sources.get(target.region)
        return Slice((), None) if source is None else source.read(target, span, position, limit)


class Present:
    """The emulator's now: the machine's clock, or a moment that does not move."""

    def __init__(self, read_clock_seconds: Callable[[], float], fixed_ms: int | None) -> None:
        """Keep the clock, and the moment that stands in for it if there is one."""
        self._read_clock_seconds = read_clock_seconds
        self._fixed_ms = fixed_ms

    def read_ms(self) -> int:
        """Give now in milliseconds since 1970."""
        return int(self._read_clock_seconds() * 1000) if self._fixed_ms is None else self._fixed_ms

    def read_minute(self) -> int:
        """Give the minute that is running now, since 1970."""
        return self.read_ms() // MS_PER_MINUTE


class VisibleEvents:
    """A source without its future: the running minute and everything after it is empty."""

    def __init__(self, source: EventSource, present: Present) -> None:
        """Wrap a source."""
        self._source = source
        self._present = present

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the past part of the span."""
        end_minute = min(span.end_minute, self._present.read_minute())
        if end_minute <= span.start_minute:
            return Slice((), None)
        return self._source.read(target, Span(span.start_minute, end_minute), position, limit)


_MAX_EVENTS_PER_TARGET = 10_000
# Positions from here on are those of the calls' events; the wrapped source stays below.
_FIRST_POSITION = 1 << 62


class SelfAudit:
    """A source with the calls' own events after those of the source that it wraps."""

    def __init__(self, source: EventSource, tenancy: Tenancy, behaviour: Behaviour, present: Present) -> None:
        """Wrap a source; begin without calls."""
        self._source = source
        self._tenancy = tenancy
        self._drawing = EventDrawing(tenancy, behaviour)
        self._present = present
        self._served = 0
        self._events: defaultdict[Target, deque[tuple[int, int, bytes]]] = defaultdict(
            lambda: deque(maxlen=_MAX_EVENTS_PER_TARGET)
        )

    def record(self, call: Call) -> None:
        """Make the event of a ListEvents call; a call for an unknown place leaves none."""
        target = Target(call.region, call.parameters.get("compartmentId", ""))
        if target.compartment_id not in self._tenancy.compartment_by_id:
            return
        self._served += 1
        minute = self._present.read_minute()
        fill = self._drawing.draw_fill(target, minute, f"self-audit {self._served}")
        outcome = Outcome("200")
        event_type = find_event_type("ListEvents")
        event = shape_call(EventCall(self._tenancy.id, event_type, self._tenancy.config_user, outcome), fill)
        self._events[target].append((minute, self._served, write_compact(event)))

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Read the wrapped source's events first, then those of the calls."""
        if position >= _FIRST_POSITION:
            return self._read_own(target, span, position - _FIRST_POSITION, limit)
        part = self._source.read(target, span, position, limit)
        if part.next_position is not None:
            return part
        own = self._read_own(target, span, 0, limit - len(part.events))
        events: list[RawEvent] = [*part.events, *own.events]
        return Slice(events, own.next_position)

    def _read_own(self, target: Target, span: Span, first_number: int, limit: int) -> Slice:
        """Read the calls' events of a span, from the one with a number on."""
        kept = self._events.get(target, ())
        begin = max(
            bisect_left(kept, span.start_minute, key=lambda one: one[0]),
            bisect_left(kept, first_number, key=lambda one: one[1]),
        )
        end = bisect_left(kept, span.end_minute, key=lambda one: one[0])
        events = [one[2] for one in islice(kept, begin, min(end, begin + limit))]
        if begin + limit >= end:
            return Slice(events, None)
        return Slice(events, _FIRST_POSITION + kept[begin + limit][1])
