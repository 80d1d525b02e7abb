"""The event stores of the emulator: generated events, and stores that wrap others.

GeneratedEvents generates each event when it is read. A day is planned without generating any of its events: how
many there are, and the minute of each. RegionalEvents combines one store per region, VisibleEvents shows what the
service shows at the present instant, and SelfAudit adds an event for each ListEvents call.

Invariants of GeneratedEvents:
- the same position gives the same bytes in every process;
- a day's plan depends only on the seed, the target and the day, so any day can be planned without another;
- within a day, the minutes of the positions never decrease;
- reading a page costs its events and the planning of the days it passes, and an empty day costs one hash.

Invariants of VisibleEvents:
- when an event appears, and how it is serialised at an instant, depends only on the seed, the rules and its bytes;
- nothing is remembered: with the clock at the same instant again, a read gives the same events.
"""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left, bisect_right
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate, islice

from ociaudit_emulator.event_generator import EventGenerator
from ociaudit_emulator.event_shape import AuditedCall, Outcome, encode_compact, reserialise, shape_call
from ociaudit_emulator.event_store import NOTHING, START, EventStore, RawEvent, Slice, Span, Target
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.http import ApiCall
from ociaudit_emulator.randomness import draw_bytes
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.special_events import SpecialEvent
from ociaudit_emulator.tenancy import Tenancy, Timeline
from ociaudit_emulator.time_formats import MINUTES_PER_DAY, MS_PER_DAY, MS_PER_MINUTE, parse_span_ms, parse_time_ms

_HOURS_PER_DAY = 24
_WORKDAY_FACTOR, _WEEKEND_FACTOR = 1.3, 0.25
# The relative load of each hour of a workday, from the hour in which the office opens.
_WORKDAY_HOURS = (60, 95, 100, 90, 45, 80, 100, 95, 70, 40, 22, 14, 10, 8, 7, 6, 5, 5, 5, 6, 8, 10, 16, 30)
_WEEKEND_HOURS = (10,) * _HOURS_PER_DAY
_POSITIONS_PER_DAY = 1 << 32
_LEAST_IN_ROOT_PER_DAY = 3
_CACHED_DAYS = 4096
_MAX_CALLS_PER_TARGET = 10_000
_EVENTS_PER_READ = 500
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
        self._planned_day = lru_cache(maxsize=_CACHED_DAYS)(self._plan)

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the span, from a position on (START for the first)."""
        day, at = self._find_start(target, span) if position == START else divmod(position, _POSITIONS_PER_DAY)
        events: list[bytes] = []
        minutes: list[int] = []
        while day * MINUTES_PER_DAY < span.end_minute:
            planned = self._day(target, day)
            stop = self._find_stop(planned.plan, day, span)
            room = limit - len(events)
            if at < stop and room == 0:
                return Slice(events, day * _POSITIONS_PER_DAY + at, minutes)
            until = min(stop, at + room)
            for number in range(at, until):
                event = planned.plan.find(number)
                minute = day * MINUTES_PER_DAY + event.minute_of_day
                minutes.append(minute)
                events.append(self._generate(target, minute, planned, number, event))
            if until < stop:
                return Slice(events, day * _POSITIONS_PER_DAY + until, minutes)
            day, at = day + 1, 0
        return Slice(events, None, minutes)

    def _find_start(self, target: Target, span: Span) -> tuple[int, int]:
        """Return the day in which a span starts, and its first position in that day."""
        day, minute = divmod(span.start_minute, MINUTES_PER_DAY)
        return day, self._day(target, day).plan.find_first(minute)

    def _find_stop(self, plan: DayPlan, day: int, span: Span) -> int:
        """Return the position in a day at which a span ends."""
        minutes_left = span.end_minute - day * MINUTES_PER_DAY
        return plan.count if minutes_left >= MINUTES_PER_DAY else plan.find_first(minutes_left)

    def _generate(self, target: Target, minute: int, planned: _Day, number: int, event: PlannedEvent) -> bytes:
        """Return the event at a position of a day."""
        if event.special < 0:
            return self._generator.draw_event(target, minute, number)
        special = planned.specials[event.special]
        return special.make(self._generator.draw_event_values(target, minute, special.name))

    def _day(self, target: Target, day: int) -> _Day:
        """Return the plan of one target's day; it depends on the load, which a new subscription changes."""
        return self._planned_day(target, day, self._find_event_rate(target))

    def _plan(self, target: Target, day: int, event_rate: EventRate) -> _Day:
        """Plan one target's day."""
        if self._events_per_day == 0:
            return _EMPTY_DAY
        specials = self._list_specials(target, day)
        minutes = [special.minute_of_day for special in specials]
        name = f"{self._seed} {target.region} {target.compartment_id}"
        plan = plan_day(event_rate, day, name, minutes)
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
        return NOTHING if store is None else store.read(target, span, position, limit)


class ServiceClock:
    """The current time of the emulated services: the machine's clock, ahead of it or behind it, or stopped."""

    def __init__(self, read_clock_seconds: Callable[[], float], fixed_ms: int | None, offset_ms: int = 0) -> None:
        """Keep the machine's clock, the time at which the clock is stopped, and otherwise how far it is ahead."""
        self._read_clock_seconds = read_clock_seconds
        self._first = (fixed_ms, offset_ms)
        self._stopped_ms, self._offset_ms = self._first
        self.is_set = offset_ms != 0

    @property
    def is_running(self) -> bool:
        """Return whether the clock moves with the machine's."""
        return self._stopped_ms is None

    @property
    def is_real(self) -> bool:
        """Return whether this is the machine's time."""
        return self.is_running and self._offset_ms == 0

    def read_machine_ms(self) -> int:
        """Return the time of the machine's clock in milliseconds since 1970."""
        return int(self._read_clock_seconds() * 1000)

    def read_ms(self) -> int:
        """Return the time in milliseconds since 1970."""
        return self.read_machine_ms() + self._offset_ms if self._stopped_ms is None else self._stopped_ms

    def read_minute(self) -> int:
        """Return the current minute since 1970."""
        return self.read_ms() // MS_PER_MINUTE

    def set(self, time_ms: int, *, is_running: bool) -> None:
        """Set the clock to an instant, earlier ones included, and let it run from there or stop it."""
        self.is_set = True
        self._stopped_ms = None if is_running else time_ms
        self._offset_ms = time_ms - self.read_machine_ms()

    def reset(self) -> None:
        """Return to the clock of the start."""
        self._stopped_ms, self._offset_ms = self._first
        self.is_set = self._offset_ms != 0


class RuleError(Exception):
    """A rule about delays or serialisations that is not valid; the text says what would be."""


_DISTRIBUTIONS = ("uniform", "exponential", "fixed")
_RULE_KEYS = frozenset({"share", "by", "distribution", "after", "region", "compartmentId", "startTime", "endTime"})
_DRAW_RANGE = 2.0**48
# Of the longest delay; e to the power of -4 is 2 %, which is where the exponential distribution is cut off.
_MEAN_DELAY = 0.25


@dataclass(frozen=True, slots=True)
class AppearanceRule:
    """A share of the events of some targets and minutes, and how long after its first possible instant it changes.

    For a delay, `span_ms` is the longest delay. For a serialisation, it is the time after which an event that has
    appeared is served with other bytes, and again after each further such time.
    """

    share: float
    span_ms: int
    distribution: str = "uniform"
    region: str | None = None
    compartment_id: str | None = None
    start_minute: float = -math.inf
    end_minute: float = math.inf

    def covers(self, target: Target, minute: int) -> bool:
        """Return whether the rule is about an event of this target and minute."""
        return (
            self.region in {None, target.region}
            and self.compartment_id in {None, target.compartment_id}
            and self.start_minute <= minute < self.end_minute
        )

    def draw_delay_ms(self, drawn: bytes) -> int:
        """Return the delay of an event, from 1 ms to the longest; 0 for an event outside the share."""
        if int.from_bytes(drawn[:6], "big") / _DRAW_RANGE >= self.share:
            return 0
        if self.distribution == "fixed":
            return self.span_ms
        part = int.from_bytes(drawn[6:12], "big") / _DRAW_RANGE
        if self.distribution == "exponential":
            part = min(-math.log(1 - part) * _MEAN_DELAY, 1.0)
        return max(math.ceil(part * self.span_ms), 1)


def read_rule(content: object) -> AppearanceRule:
    """Return the rule that a JSON object describes.

    Raises: RuleError.
    """
    if not isinstance(content, dict) or content.keys() - _RULE_KEYS:
        message = f"a rule is a JSON object with keys of {', '.join(sorted(_RULE_KEYS))}; got {content!r}"
        raise RuleError(message)
    share = content.get("share", 1)
    distribution = content.get("distribution", "uniform")
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
        message = f"share is {share!r}; it must be a number from 0 to 1"
        raise RuleError(message)
    if distribution not in _DISTRIBUTIONS:
        message = f"distribution is {distribution!r}; use one of {', '.join(_DISTRIBUTIONS)}"
        raise RuleError(message)
    try:
        span_ms = parse_span_ms(str(content.get("by", content.get("after", ""))))
        bounds = [
            parse_time_ms(str(content[name])) // MS_PER_MINUTE if name in content else otherwise
            for name, otherwise in (("startTime", -math.inf), ("endTime", math.inf))
        ]
    except ValueError as error:
        message = f"{error}; a rule needs 'by' (delays) or 'after' (reserialised) such as 3h, and times in RFC 3339"
        raise RuleError(message) from error
    if span_ms <= 0:
        message = "the span of a rule must be longer than 0"
        raise RuleError(message)
    return AppearanceRule(
        share, span_ms, distribution, content.get("region"), content.get("compartmentId"), bounds[0], bounds[1]
    )


@dataclass(slots=True)
class Appearance:
    """How events appear: delayed, with other bytes later, and until retention ends."""

    seed: int
    delays: Sequence[AppearanceRule] = ()
    reserialised: Sequence[AppearanceRule] = ()
    is_expired_empty: bool = False

    @property
    def is_plain(self) -> bool:
        """Return whether every event appears in time and keeps its bytes."""
        return not self.delays and not self.reserialised

    def find_delay_ms(self, target: Target, minute: int, event: RawEvent) -> int:
        """Return how long after the end of its minute an event appears, by the first rule that covers it."""
        rule = next((one for one in self.delays if one.covers(target, minute)), None)
        return 0 if rule is None else rule.draw_delay_ms(self._draw("delay", event))

    def serialise(self, target: Target, minute: int, event: RawEvent, shown_ms: int) -> RawEvent:
        """Return the bytes of an event that appeared this many milliseconds ago."""
        rule = next((one for one in self.reserialised if one.covers(target, minute)), None)
        if rule is None or rule.draw_delay_ms(self._draw("bytes", event)) == 0:
            return event
        return reserialise(bytes(event), shown_ms // rule.span_ms)

    def _draw(self, name: str, event: RawEvent) -> bytes:
        """Return bytes that depend only on the seed and the event."""
        return hashlib.blake2b(event, digest_size=12, key=f"{name} {self.seed}".encode()).digest()


@dataclass(frozen=True, slots=True)
class HistoricEvent:
    """An event, its minute, and the instants from and until which it is shown; None without such an instant."""

    minute: int
    event: RawEvent
    visible_ms: int | None
    hidden_ms: int | None

    def is_visible(self, at_ms: int) -> bool:
        """Return whether the event is shown at an instant."""
        return (self.visible_ms is None or self.visible_ms <= at_ms) and (
            self.hidden_ms is None or at_ms < self.hidden_ms
        )


@dataclass(frozen=True, slots=True)
class VisibleEvents:
    """A store that shows what the service shows at the present instant.

    The current minute and later ones have no events, nor has a target outside its life. The events of a file are
    always there, until the clock is set.
    """

    store: EventStore
    clock: ServiceClock
    timeline: Timeline
    appearance: Appearance
    is_always_there: bool = False

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the visible part of the span."""
        now_ms = self.clock.read_ms()
        visible = self._clip(target, span, now_ms)
        if visible is None:
            return NOTHING
        if self.appearance.is_plain:
            return self.store.read(target, visible, position, limit)
        return self._read_appeared(target, visible, position, limit, now_ms)

    def list_history(self, target: Target, span: Span, at_ms: int | None) -> Iterator[HistoricEvent]:
        """Yield every event of a span that ever appears, or those shown at an instant with their bytes then."""
        lived = self._clip_life(target, span)
        position: int | None = START if lived is not None else None
        while position is not None and lived is not None:
            found = self.store.read(target, lived, position, _EVENTS_PER_READ)
            for minute, event in zip(found.minutes, found.events, strict=True):
                one = self._describe(target, minute, event, at_ms)
                if at_ms is None or one.is_visible(at_ms):
                    yield one
            position = found.next_position

    def _read_appeared(self, target: Target, span: Span, position: int, limit: int, now_ms: int) -> Slice:
        """Return the events that have appeared, with the bytes of this instant."""
        events: list[RawEvent] = []
        minutes: list[int] = []
        at: int | None = position
        while at is not None and len(events) < limit:
            found = self.store.read(target, span, at, limit - len(events))
            for minute, event in zip(found.minutes, found.events, strict=True):
                shown_ms = now_ms - self._find_visible_ms(target, minute, event)
                if shown_ms >= 0 or self._is_there(target, minute, event):
                    events.append(self.appearance.serialise(target, minute, event, max(shown_ms, 0)))
                    minutes.append(minute)
            at = found.next_position
        return Slice(events, at, minutes)

    def _describe(self, target: Target, minute: int, event: RawEvent, at_ms: int | None) -> HistoricEvent:
        """Return an event with the instants of its appearance and of its end."""
        visible_ms = self._find_visible_ms(target, minute, event)
        kept_days = self.timeline.find_kept_days(self.clock.read_ms() if at_ms is None else at_ms)
        hidden_ms = None
        if kept_days is not None:
            hidden_ms = minute * MS_PER_MINUTE + kept_days * MS_PER_DAY + 1
            if not self.appearance.is_expired_empty:
                hidden_ms = (minute // MINUTES_PER_DAY + kept_days + 1) * MS_PER_DAY
        if at_ms is not None and at_ms >= visible_ms:
            event = self.appearance.serialise(target, minute, event, at_ms - visible_ms)
        is_there = self._is_there(target, minute, event)
        return HistoricEvent(minute, event, None if is_there else visible_ms, hidden_ms)

    def _find_visible_ms(self, target: Target, minute: int, event: RawEvent) -> int:
        """Return the instant at which an event appears."""
        return (minute + 1) * MS_PER_MINUTE + self.appearance.find_delay_ms(target, minute, event)

    def _is_there(self, target: Target, minute: int, event: RawEvent) -> bool:
        """Return whether an event is shown whatever the clock says."""
        if not self.is_always_there or self.clock.is_set:
            return False
        return self.appearance.find_delay_ms(target, minute, event) == 0

    def _clip(self, target: Target, span: Span, now_ms: int) -> Span | None:
        """Return the part of a span in which there are events at an instant."""
        end_minute = span.end_minute
        if not self.is_always_there or self.clock.is_set:
            end_minute = min(end_minute, now_ms // MS_PER_MINUTE)
        kept_days = self.timeline.find_kept_days(now_ms) if self.appearance.is_expired_empty else None
        start_minute = span.start_minute
        if kept_days is not None:
            start_minute = max(start_minute, -((kept_days * MS_PER_DAY - now_ms) // MS_PER_MINUTE))
        return self._clip_life(target, Span(start_minute, end_minute))

    def _clip_life(self, target: Target, span: Span) -> Span | None:
        """Return the part of a span in which a target exists."""
        first, end = self.timeline.find_life(target.region, target.compartment_id)
        clipped = Span(int(max(span.start_minute, first)), int(min(span.end_minute, end)))
        return clipped if clipped.start_minute < clipped.end_minute else None


class SelfAudit:
    """A store that adds an event for each recorded ListEvents call, after the events of the store it wraps.

    It keeps the latest 10,000 calls of each target.
    """

    def __init__(self, store: VisibleEvents, tenancy: Tenancy, settings: Settings, clock: ServiceClock) -> None:
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
        kept = self._events[target]
        # With a clock that was set back, a call is recorded in the minute of the one before it.
        minute = max(self._clock.read_minute(), kept[-1][0] if kept else 0)
        values = self._generator.draw_event_values(target, minute, f"self-audit {self._recorded}")
        event_type = find_event_type("ListEvents")
        audited = AuditedCall(self._tenancy.id, event_type, self._tenancy.config_user, Outcome("200"))
        kept.append((minute, self._recorded, encode_compact(shape_call(audited, values))))

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events: first those of the wrapped store, then those of the calls."""
        if position >= _FIRST_CALL_POSITION:
            return self._read_calls(target, span, position - _FIRST_CALL_POSITION, limit)
        found = self._store.read(target, span, position, limit)
        if found.next_position is not None:
            return found
        calls = self._read_calls(target, span, 0, limit - len(found.events))
        events: list[RawEvent] = [*found.events, *calls.events]
        return Slice(events, calls.next_position, [*found.minutes, *calls.minutes])

    def list_history(self, target: Target, span: Span, at_ms: int | None) -> Iterator[HistoricEvent]:
        """Yield the events of the wrapped store, then those of the calls, which appear in the minute of the call."""
        yield from self._store.list_history(target, span, at_ms)
        calls = self._read_calls(target, span, 0, _MAX_CALLS_PER_TARGET)
        for minute, event in zip(calls.minutes, calls.events, strict=True):
            if at_ms is None or minute * MS_PER_MINUTE <= at_ms:
                yield HistoricEvent(minute, event, minute * MS_PER_MINUTE, None)

    def _read_calls(self, target: Target, span: Span, first_number: int, limit: int) -> Slice:
        """Return the events of the calls in a span, from the call with a number on."""
        kept = self._events.get(target, ())
        begin = max(
            bisect_left(kept, span.start_minute, key=lambda one: one[0]),
            bisect_left(kept, first_number, key=lambda one: one[1]),
        )
        end = bisect_left(kept, span.end_minute, key=lambda one: one[0])
        calls = list(islice(kept, begin, min(end, begin + limit)))
        events, minutes = [one[2] for one in calls], [one[0] for one in calls]
        if begin + limit >= end:
            return Slice(events, None, minutes)
        return Slice(events, _FIRST_CALL_POSITION + kept[begin + limit][1], minutes)
