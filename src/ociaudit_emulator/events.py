"""The made tenancy's events, generated when they are asked for.

Owns: which event stands at which position of which day, as bytes.
Must not: keep events, or depend on anything but seed, place and minute.

Invariants:
- the same position gives the same bytes in every process;
- to read a page costs its events and the days that it passes over, nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.density import EMPTY_DAY, DayPlan, Pace, plan_day
from ociaudit_emulator.drawing import EventDrawing
from ociaudit_emulator.event_source import START, Place, Slice, Span
from ociaudit_emulator.instants import MINUTES_PER_DAY
from ociaudit_emulator.specials import Special
from ociaudit_emulator.tenancy import Tenancy

_POSITIONS_PER_DAY = 1 << 32
_LEAST_IN_ROOT = 3
_DAYS_REMEMBERED = 4096

ListSpecials = Callable[[Place, int], Sequence[Special]]


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

    def read(self, place: Place, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        day, at = self._begin(place, span) if position == START else divmod(position, _POSITIONS_PER_DAY)
        events: list[bytes] = []
        while day * MINUTES_PER_DAY < span.end_minute:
            planned = self._day(place, day)
            stop = self._find_stop(planned.plan, day, span)
            room = limit - len(events)
            if at < stop and room == 0:
                return Slice(events, day * _POSITIONS_PER_DAY + at)
            until = min(stop, at + room)
            events.extend(self._make(place, day, planned, number) for number in range(at, until))
            if until < stop:
                return Slice(events, day * _POSITIONS_PER_DAY + until)
            day, at = day + 1, 0
        return Slice(events, None)

    def _begin(self, place: Place, span: Span) -> tuple[int, int]:
        """Find the day and the position at which a span begins."""
        day, minute = divmod(span.start_minute, MINUTES_PER_DAY)
        return day, self._day(place, day).plan.find_first(minute)

    def _find_stop(self, plan: DayPlan, day: int, span: Span) -> int:
        """Find the position in a day at which a span ends."""
        minutes_left = span.end_minute - day * MINUTES_PER_DAY
        return plan.count if minutes_left >= MINUTES_PER_DAY else plan.find_first(minutes_left)

    def _make(self, place: Place, day: int, planned: _Day, number: int) -> bytes:
        """Make the event at a position of a day."""
        stand = planned.plan.find(number)
        minute = day * MINUTES_PER_DAY + stand.minute_of_day
        if stand.special < 0:
            return self._drawing.draw_event(place, minute, number)
        special = planned.specials[stand.special]
        return special.write(self._drawing.draw_fill(place, minute, special.name))

    def _plan(self, place: Place, day: int) -> _Day:
        """Plan one place's day."""
        if self._events_per_day == 0:
            return _NO_DAY
        specials = self._list_specials(place, day)
        minutes = [special.minute_of_day for special in specials]
        name = f"{self._seed} {place.region} {place.compartment_id}"
        plan = plan_day(self._find_pace(place), day, name, minutes)
        return _NO_DAY if plan is EMPTY_DAY else _Day(plan, specials)

    def _find_pace(self, place: Place) -> Pace:
        """Find how busy a place is."""
        region = self._tenancy.region_by_name[place.region]
        compartment = self._tenancy.compartment_by_id[place.compartment_id]
        per_day = self._events_per_day * region.share * compartment.share
        least = _LEAST_IN_ROOT if compartment is self._tenancy.root else 0
        return Pace(per_day, region.office_starts_hour, least)
