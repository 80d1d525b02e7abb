"""Self-audit: every ListEvents call becomes an event of the compartment that it asked.

Owns: the events of the calls served so far, up to a bound.
Must not: touch other events.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from itertools import islice

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.drawing import EventDrawing
from ociaudit_emulator.event_shape import Call as EventCall
from ociaudit_emulator.event_shape import Outcome, shape_call
from ociaudit_emulator.event_source import EventSource, Place, RawEvent, Slice, Span
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.routing import Call
from ociaudit_emulator.template import write_compact
from ociaudit_emulator.tenancy import Tenancy
from ociaudit_emulator.visible_events import Present

_MAX_EVENTS_PER_PLACE = 10_000
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
        self._events: defaultdict[Place, deque[tuple[int, int, bytes]]] = defaultdict(
            lambda: deque(maxlen=_MAX_EVENTS_PER_PLACE)
        )

    def record(self, call: Call) -> None:
        """Make the event of a ListEvents call; a call for an unknown place leaves none."""
        place = Place(call.region, call.parameters.get("compartmentId", ""))
        if place.compartment_id not in self._tenancy.compartment_by_id:
            return
        self._served += 1
        minute = self._present.read_minute()
        fill = self._drawing.draw_fill(place, minute, f"self-audit {self._served}")
        outcome = Outcome("200")
        event_type = find_event_type("ListEvents")
        event = shape_call(EventCall(self._tenancy.id, event_type, self._tenancy.config_user, outcome), fill)
        self._events[place].append((minute, self._served, write_compact(event)))

    def read(self, place: Place, span: Span, position: int, limit: int) -> Slice:
        """Read the wrapped source's events first, then those of the calls."""
        if position >= _FIRST_POSITION:
            return self._read_own(place, span, position - _FIRST_POSITION, limit)
        part = self._source.read(place, span, position, limit)
        if part.next_position is not None:
            return part
        own = self._read_own(place, span, 0, limit - len(part.events))
        events: list[RawEvent] = [*part.events, *own.events]
        return Slice(events, own.next_position)

    def _read_own(self, place: Place, span: Span, first_number: int, limit: int) -> Slice:
        """Read the calls' events of a span, from the one with a number on."""
        kept = self._events.get(place, ())
        begin = max(
            bisect_left(kept, span.start_minute, key=lambda one: one[0]),
            bisect_left(kept, first_number, key=lambda one: one[1]),
        )
        end = bisect_left(kept, span.end_minute, key=lambda one: one[0])
        events = [one[2] for one in islice(kept, begin, min(end, begin + limit))]
        if begin + limit >= end:
            return Slice(events, None)
        return Slice(events, _FIRST_POSITION + kept[begin + limit][1])
