"""The event stores of the emulator: generated events, and stores that wrap others.

GeneratedEvents generates each event when it is read. A day is planned without generating any of its events: how
many there are, and the minute of each. RegionalEvents combines one store per region, VisibleEvents hides the
future, and SelfAudit adds an event for each ListEvents call.

Invariants of GeneratedEvents:
- the same position gives the same bytes in every process;
- a day's plan depends only on the seed, the target and the day, so any day can be planned without another;
- within a day, the minutes of the positions never decrease;
- reading a page costs its events and the planning of the days it passes, and an empty day costs one hash.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice

from ociaudit_emulator.event_generator import EventGenerator
from ociaudit_emulator.event_shape import AuditedCall, Outcome, encode_compact, shape_call
from ociaudit_emulator.event_store import START, EventStore, RawEvent, Slice, Span, Target
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.http import ApiCall
from ociaudit_emulator.randomness import draw_bytes
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.special_events import SpecialEvent
from ociaudit_emulator.tenancy import Tenancy
from ociaudit_emulator.time_formats import MINUTES_PER_DAY, MS_PER_MINUTE

_HOURS_PER_DAY = 24
_WORKDAY_FACTOR, _WEEKEND_FACTOR = 1.3, 0.25
# The relative load of each hour of a workday, from the hour in which the office opens.
_WORKDAY_HOURS = (60, 95, 100, 90, 45, 80, 100, 95, 70, 40, 22, 14, 10, 8, 7, 6, 5, 5, 5, 6, 8, 10, 16, 30)
_WEEKEND_HOURS = (10,) * _HOURS_PER_DAY
_POSITIONS_PER_DAY = 1 << 32
_LEAST_IN_ROOT_PER_DAY = 3
_CACHED_DAYS = 4096
_MAX_CALLS_PER_TARGET = 10_000
# Positions from here on belong to the events of calls; those of the wrapped store are smaller.
_FIRST_CALL_POSITION = 1 << 62


@dataclass(frozen=True, slots=True)
class EventRate:
    """The load of a target: its events on an average day, and the hour (UTC) in which its office opens."""

    events_per_day: float
    office_starts_hour: int
    least_per_day: int = 0


@dataclass(frozen=True, slots=True)
class OrdinaryEvents:
    """A day's ordinary events: their number, and the cumulative share of each hour."""

    count: int
    phase: float
    hour_ends: Sequence[float]

    def find_minute(self, ordinal: int) -> int:
        """Return the minute of the day of an event."""
        share = (ordinal + self.phase) / self.count
        hour = min(bisect_right(self.hour_ends, share), _HOURS_PER_DAY - 1)
        start = self.hour_ends[hour - 1] if hour else 0.0
        inside = (share - start) / (self.hour_ends[hour] - start)
        return hour * 60 + min(int(inside * 60), 59)

    def find_first(self, minute_of_day: int) -> int:
        """Return the ordinal of the first event that is not before a minute (0 to 1440)."""
        if minute_of_day >= MINUTES_PER_DAY:
            return self.count
        return bisect_left(range(self.count), minute_of_day, key=self.find_minute)


@dataclass(frozen=True, slots=True)
class PlannedEvent:
    """The event at a position of a day: its minute, and its index among the special events or -1."""

    minute_of_day: int
    special: int = -1


@dataclass(frozen=True, slots=True)
class DayPlan:
    """One target's day: ordinary events spread over its hours, and special events at fixed minutes."""

    ordinary: OrdinaryEvents
    special_minutes: Sequence[int]
    special_positions: Sequence[int]

    @property
    def count(self) -> int:
        """Return the number of the day's events."""
        return self.ordinary.count + len(self.special_minutes)

    def find(self, position: int) -> PlannedEvent:
        """Return the event at a position below `count`."""
        before = bisect_left(self.special_positions, position)
        if before < len(self.special_positions) and self.special_positions[before] == position:
            return PlannedEvent(self.special_minutes[before], before)
        return PlannedEvent(self.ordinary.find_minute(position - before))

    def find_first(self, minute_of_day: int) -> int:
        """Return the first position that is not before a minute (0 to 1440)."""
        return self.ordinary.find_first(minute_of_day) + bisect_left(self.special_minutes, minute_of_day)


_EMPTY_PLAN = DayPlan(OrdinaryEvents(0, 0.0, ()), (), ())


def plan_day(event_rate: EventRate, day: int, name: str, special_minutes: Sequence[int]) -> DayPlan:
    """Return the plan of a day (counted since 1970) for the target of this name.

    The special minutes are in ascending order; a special event follows the ordinary events of its minute.
    """
    drawn = draw_bytes("day", name, day)
    count = _draw_count(event_rate, day, drawn)
    if count == 0 and not special_minutes:
        return _EMPTY_PLAN
    ordinary = OrdinaryEvents(count, drawn[8] / 256, _draw_hour_ends(event_rate, day, drawn))
    positions = [ordinary.find_first(minute + 1) + at for at, minute in enumerate(special_minutes)]
    return DayPlan(ordinary, special_minutes, positions)


def _is_weekend(day: int) -> bool:
    return (day + 3) % 7 >= 5


def _draw_count(event_rate: EventRate, day: int, drawn: bytes) -> int:
    """Return the number of a day's ordinary events: random around the average, higher on workdays."""
    if event_rate.events_per_day <= 0:
        return 0
    factor = _WEEKEND_FACTOR if _is_weekend(day) else _WORKDAY_FACTOR
    noise = 0.8 + 0.4 * drawn[0] / 255
    rounding = int.from_bytes(drawn[1:5], "big") / 2**32
    return max(math.floor(event_rate.events_per_day * factor * noise + rounding), event_rate.least_per_day)


def _draw_hour_ends(event_rate: EventRate, day: int, drawn: bytes) -> list[float]:
    """Return the share of a day's events that has happened by the end of each hour."""
    hours = _WEEKEND_HOURS if _is_weekend(day) else _WORKDAY_HOURS
    weights = [
        hours[(hour - event_rate.office_starts_hour) % _HOURS_PER_DAY] * (0.5 + drawn[16 + hour] / 255)
        for hour in range(_HOURS_PER_DAY)
    ]
    total = sum(weights)
    return [end / total for end in accumulate(weights)]


ListSpecials = Callable[[Target, int], Sequence[SpecialEvent]]


@dataclass(frozen=True, slots=True)
class _Day:
    """One target's day: its plan, and the special events that the plan refers to."""

    plan: DayPlan
    specials: Sequence[SpecialEvent]


_EMPTY_DAY = _Day(_EMPTY_PLAN, ())


class GeneratedEvents:
    """The store of the synthetic tenancy's events."""

    def __init__(self, tenancy: Tenancy, settings: Settings, list_specials: ListSpecials) -> None:
        """Keep what the events depend on, without generating any."""
        self._tenancy = tenancy
        self._seed = settings.seed
        self._events_per_day = settings.events_per_day
        self._generator = EventGenerator(tenancy, settings)
        self._list_specials = list_specials
        self._day = lru_cache(maxsize=_CACHED_DAYS)(self._plan)

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the span, from a position on (START for the first)."""
        day, at = self._find_start(target, span) if position == START else divmod(position, _POSITIONS_PER_DAY)
        events: list[bytes] = []
        while day * MINUTES_PER_DAY < span.end_minute:
            planned = self._day(target, day)
            stop = self._find_stop(planned.plan, day, span)
            room = limit - len(events)
            if at < stop and room == 0:
                return Slice(events, day * _POSITIONS_PER_DAY + at)
            until = min(stop, at + room)
            events.extend(self._generate(target, day, planned, number) for number in range(at, until))
            if until < stop:
                return Slice(events, day * _POSITIONS_PER_DAY + until)
            day, at = day + 1, 0
        return Slice(events, None)

    def _find_start(self, target: Target, span: Span) -> tuple[int, int]:
        """Return the day in which a span starts, and its first position in that day."""
        day, minute = divmod(span.start_minute, MINUTES_PER_DAY)
        return day, self._day(target, day).plan.find_first(minute)

    def _find_stop(self, plan: DayPlan, day: int, span: Span) -> int:
        """Return the position in a day at which a span ends."""
        minutes_left = span.end_minute - day * MINUTES_PER_DAY
        return plan.count if minutes_left >= MINUTES_PER_DAY else plan.find_first(minutes_left)

    def _generate(self, target: Target, day: int, planned: _Day, number: int) -> bytes:
        """Return the event at a position of a day."""
        event = planned.plan.find(number)
        minute = day * MINUTES_PER_DAY + event.minute_of_day
        if event.special < 0:
            return self._generator.draw_event(target, minute, number)
        special = planned.specials[event.special]
        return special.make(self._generator.draw_event_values(target, minute, special.name))

    def _plan(self, target: Target, day: int) -> _Day:
        """Plan one target's day."""
        if self._events_per_day == 0:
            return _EMPTY_DAY
        specials = self._list_specials(target, day)
        minutes = [special.minute_of_day for special in specials]
        name = f"{self._seed} {target.region} {target.compartment_id}"
        plan = plan_day(self._find_event_rate(target), day, name, minutes)
        return _EMPTY_DAY if plan is _EMPTY_PLAN else _Day(plan, specials)

    def _find_event_rate(self, target: Target) -> EventRate:
        region = self._tenancy.region_by_name[target.region]
        compartment = self._tenancy.compartment_by_id[target.compartment_id]
        per_day = self._events_per_day * region.share * compartment.share
        least = _LEAST_IN_ROOT_PER_DAY if compartment is self._tenancy.root else 0
        return EventRate(per_day, region.office_starts_hour, least)


class RegionalEvents:
    """A store with one store per region; a region without one has no events."""

    def __init__(self, stores: Mapping[str, EventStore]) -> None:
        """Keep the stores by region."""
        self._stores = stores

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the span, from a position on (START for the first)."""
        store = self._stores.get(target.region)
        return Slice((), None) if store is None else store.read(target, span, position, limit)


class ServiceClock:
    """The current time of the emulated services: the machine's clock, or a fixed time."""

    def __init__(self, read_clock_seconds: Callable[[], float], fixed_ms: int | None) -> None:
        """Keep the machine's clock and the fixed time, which takes precedence."""
        self._read_clock_seconds = read_clock_seconds
        self._fixed_ms = fixed_ms

    def read_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return int(self._read_clock_seconds() * 1000) if self._fixed_ms is None else self._fixed_ms

    def read_minute(self) -> int:
        """Return the current minute since 1970."""
        return self.read_ms() // MS_PER_MINUTE


class VisibleEvents:
    """A store without its future: the current minute and later ones have no events."""

    def __init__(self, store: EventStore, clock: ServiceClock) -> None:
        """Wrap a store."""
        self._store = store
        self._clock = clock

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the past part of the span."""
        end_minute = min(span.end_minute, self._clock.read_minute())
        if end_minute <= span.start_minute:
            return Slice((), None)
        return self._store.read(target, Span(span.start_minute, end_minute), position, limit)


class SelfAudit:
    """A store that adds an event for each recorded ListEvents call, after the events of the store it wraps.

    It keeps the latest 10,000 calls of each target.
    """

    def __init__(self, store: EventStore, tenancy: Tenancy, settings: Settings, clock: ServiceClock) -> None:
        """Wrap a store; start without calls."""
        self._store = store
        self._tenancy = tenancy
        self._generator = EventGenerator(tenancy, settings)
        self._clock = clock
        self._recorded = 0
        self._events: defaultdict[Target, deque[tuple[int, int, bytes]]] = defaultdict(
            lambda: deque(maxlen=_MAX_CALLS_PER_TARGET)
        )

    def record(self, call: ApiCall) -> None:
        """Add the event of a ListEvents call; a call for an unknown compartment adds none."""
        target = Target(call.region, call.parameters.get("compartmentId", ""))
        if target.compartment_id not in self._tenancy.compartment_by_id:
            return
        self._recorded += 1
        minute = self._clock.read_minute()
        values = self._generator.draw_event_values(target, minute, f"self-audit {self._recorded}")
        event_type = find_event_type("ListEvents")
        audited = AuditedCall(self._tenancy.id, event_type, self._tenancy.config_user, Outcome("200"))
        self._events[target].append((minute, self._recorded, encode_compact(shape_call(audited, values))))

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events: first those of the wrapped store, then those of the calls."""
        if position >= _FIRST_CALL_POSITION:
            return self._read_calls(target, span, position - _FIRST_CALL_POSITION, limit)
        found = self._store.read(target, span, position, limit)
        if found.next_position is not None:
            return found
        calls = self._read_calls(target, span, 0, limit - len(found.events))
        events: list[RawEvent] = [*found.events, *calls.events]
        return Slice(events, calls.next_position)

    def _read_calls(self, target: Target, span: Span, first_number: int, limit: int) -> Slice:
        """Return the events of the calls in a span, from the call with a number on."""
        kept = self._events.get(target, ())
        begin = max(
            bisect_left(kept, span.start_minute, key=lambda one: one[0]),
            bisect_left(kept, first_number, key=lambda one: one[1]),
        )
        end = bisect_left(kept, span.end_minute, key=lambda one: one[0])
        events = [one[2] for one in islice(kept, begin, min(end, begin + limit))]
        if begin + limit >= end:
            return Slice(events, None)
        return Slice(events, _FIRST_CALL_POSITION + kept[begin + limit][1])
