"""What a filter says: the form in which filters are typed, stored and stated.

Owns: `Criteria` and `FilterSpec`, and the instants between which a filter's events must lie.
Must not: decide for an event.

Invariants
- Everything is kept as typed; two filters typed alike are equal.
- A text stands for a list of one.

Which events are written: the decision for one event.

Owns: how the conditions of a filter are combined. Must not: count, print, or change an event.

Invariants
- An empty filter lets every event pass.
- Values of one option are alternatives; different options must all be met; what is excluded stays out, whatever
  else is met.
- A field that an event does not have meets no condition, so it neither lets the event in nor keeps it out. Times
  are the other way round: an event whose time cannot be read is never dropped for its time.
- No fact is read that the filter does not need, and none at all where type, name and time decide.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import msgspec

from ociaudit.errors import UsageError
from ociaudit.events.conditions import (
    TYPE_FIELDS,
    Condition,
    Test,
    match_addresses,
    match_name_rules,
    match_names,
    match_outcomes,
    match_statuses,
    match_texts,
    match_types,
    split_list,
)
from ociaudit.events.event import Event, encode_instant, make_page_parser, parse_page
from ociaudit.events.event_names import describe_name_meaning, find_asked_names
from ociaudit.events.fields import UNREADABLE_INSTANT, Facts, make_reader, read_instant
from ociaudit.events.presets import list_rules

_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_GERMAN_DAY = re.compile(r"(\d\d)\.(\d\d)\.(\d\d)", re.ASCII)
_OFFSET = re.compile(r"([Zz]|[+-]\d\d:?\d\d)$", re.ASCII)
_WORDS = {
    "presets": "preset",
    "event_types": "event type",
    "event_names": "event name",
    "principals": "principal",
    "addresses": "address",
    "compartment_names": "compartment",
    "resources": "resource",
    "outcomes": "outcome",
    "statuses": "status",
}


class Criteria(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is looked for; each field holds alternatives as typed, an empty one says nothing.

    `event_types` are regular expressions searched in the event type, with case. The other texts are shell-style
    patterns (`*`, `?`, `[…]`) for a whole value, without case. `addresses`, `outcomes`, `statuses` and `presets` may be
    comma lists.
    """

    presets: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    principals: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    compartment_names: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Take a text for a list of one, and a list for a tuple."""
        for name in Criteria.__struct_fields__:
            value: str | Sequence[str] = getattr(self, name)
            values = (value,) if isinstance(value, str) else tuple(value)
            msgspec.structs.force_setattr(self, name, values)

    def __str__(self) -> str:
        """Show it to a person."""
        return "; ".join(self._describe()) or "(all)"

    def _describe(self) -> Iterator[str]:
        for name, word in _WORDS.items():
            values = getattr(self, name)
            if values:
                yield f"{word} {' or '.join(map(repr, values))}"


class FilterSpec(Criteria, frozen=True, kw_only=True, omit_defaults=True):
    """A whole filter: what is looked for, what is left out, and between which times an event happened.

    `event_after` and `event_before` are days (their beginning) or times with an offset; the first is included, the
    second is not.
    """

    event_after: str | None = None
    event_before: str | None = None
    exclude: Criteria = Criteria()

    def _describe(self) -> Iterator[str]:
        yield from super()._describe()
        if self.event_after is not None:
            yield f"event time from {self.event_after!r}"
        if self.event_before is not None:
            yield f"event time before {self.event_before!r}"
        yield from (f"not {text}" for text in self.exclude._describe())  # noqa: SLF001 - of its own kind


def read_bounds(spec: FilterSpec) -> tuple[int | None, int | None]:
    """Return the instants between which an event must have happened, the first included.

    Raises:
        UsageError: one cannot be read, or there is no time between them.
    """
    after = _read_moment(spec.event_after, "after") if spec.event_after is not None else None
    before = _read_moment(spec.event_before, "before") if spec.event_before is not None else None
    if after is not None and before is not None and after >= before:
        raise UsageError(
            f"no event can lie after {spec.event_after!r} and before {spec.event_before!r}",
            hint="exchange them, or choose a later --event-before",
        )
    return after, before


def _read_moment(text: str, what: str) -> int:
    """Return the instant of a day's beginning, or of a time with an offset."""
    stripped = text.strip()
    german = _GERMAN_DAY.fullmatch(stripped)
    if german:
        stripped = f"20{german[3]}-{german[2]}-{german[1]}"
    if _DAY.fullmatch(stripped):
        stripped += "T00:00:00Z"
    instant = read_instant(stripped) if _OFFSET.search(stripped) else UNREADABLE_INSTANT
    if instant == UNREADABLE_INSTANT:
        raise UsageError(
            f"the time {text!r} of events to come {what} cannot be read",
            hint="write a day (2025-12-01 or 01.12.25) or a time with its offset (2025-12-01T08:00:00Z); "
            "an age would mean something else in every run",
        )
    return instant


_MAX_VERDICTS = 10_000
_MAX_REMEMBERED_NAME = 500
_AFTER_ALL = b"\xff"
_FIRST_READABLE = encode_instant(UNREADABLE_INSTANT + 1)
_Verdict = tuple[Test, ...] | None
"""What is left to test of events of one type and name; None: they are out."""


class EventFilter:
    """Decides by a filter, event by event."""

    def __init__(self, spec: FilterSpec | Sequence[str] = ()) -> None:
        """Compile a filter, or event types alone.

        Raises:
            UsageError: a value cannot be used; the message says which one and why.
        """
        self.spec = spec if isinstance(spec, FilterSpec) else FilterSpec(event_types=tuple(spec))
        self._wanted = _list_conditions(self.spec)
        self._unwanted = _list_conditions(self.spec.exclude)
        after, before = read_bounds(self.spec)
        self._has_bounds = after is not None or before is not None
        self._first = encode_instant(after) if after is not None else b""
        self._end = encode_instant(before) if before is not None else _AFTER_ALL
        needed = frozenset[str]().union(*(one.needed for one in (*self._wanted, *self._unwanted)))
        self.parse_page: Callable[[bytes], list[Event]] = make_page_parser(needed) if needed else parse_page
        """Cuts a page as `events.page.cut_page` does; the events know what `select` will look at."""
        self._read_rest: Callable[[bytes], Facts] = make_reader(needed)
        self._read_all: Callable[[bytes], Facts] = make_reader(needed | TYPE_FIELDS | {"event_time"})
        self._verdicts: dict[tuple[str, str | None], _Verdict] = {}

    def __bool__(self) -> bool:
        """Tell whether anything is filtered at all."""
        return bool(self._wanted or self._unwanted or self._has_bounds)

    @property
    def notices(self) -> tuple[str, ...]:
        """Return what a person should be told: which names are taken for others."""
        patterns = (
            pattern
            for criteria in (self.spec, self.spec.exclude)
            for pattern in (*criteria.event_names, *criteria.event_types)
        )
        asked = dict.fromkeys(name for pattern in patterns for name in find_asked_names(pattern))
        return tuple(map(describe_name_meaning, asked))

    def select(self, events: list[Event]) -> list[Event]:
        """Return the events that pass, in their order."""
        if not self:
            return events
        if self._has_bounds:
            events = [event for event in events if self._is_between(event.order)]
        return [event for event in events if self._is_event_wanted(event)]

    def is_wanted(self, raw: bytes) -> bool:
        """Tell whether an event passes; `raw` is a JSON object in the API's spelling.

        Raises:
            ValueError: it is no JSON object.
        """
        return not self or self.is_wanted_by_facts(self._read_all(raw))

    def is_wanted_by_facts(self, facts: Facts) -> bool:
        """Tell whether an event passes, of which all facts are known."""
        if self._has_bounds and not self._is_between(encode_instant(facts.instant)):
            return False
        tests = self._judge(facts.event_type or "", facts.details.event_name)
        return tests is not None and all(test(facts) for test in tests)

    def _is_event_wanted(self, event: Event) -> bool:
        tests = self._judge(event.event_type, event.event_name)
        if not tests:
            return tests is not None
        facts = event.facts or self._read_rest(event.raw)
        for test in tests:  # noqa: SIM110 - a generator costs as much as a test
            if not test(facts):
                return False
        return True

    def _is_between(self, order: bytes) -> bool:
        return self._first <= order < self._end or order < _FIRST_READABLE

    def _judge(self, event_type: str, event_name: str | None) -> _Verdict:
        """Return what is left to test; the same types and names come again and again."""
        key = (event_type, event_name)
        try:
            return self._verdicts[key]
        except KeyError:
            verdict = self._decide(event_type, event_name)
            if len(event_type) + len(event_name or "") <= _MAX_REMEMBERED_NAME:
                if len(self._verdicts) >= _MAX_VERDICTS:
                    self._verdicts.clear()
                self._verdicts[key] = verdict
            return verdict

    def _decide(self, event_type: str, event_name: str | None) -> _Verdict:
        tests: list[Test] = []
        for conditions, is_unwanted in ((self._wanted, False), (self._unwanted, True)):
            for condition in conditions:
                decided = condition.decide(event_type, event_name)
                if not isinstance(decided, bool):
                    tests.append(_negate(decided) if is_unwanted else decided)
                elif decided is is_unwanted:
                    return None
        return tuple(tests)


class TimeSpan:
    """Lets an event pass that happened in a range of time, or of which nobody knows when it happened."""

    def __init__(self, start: int, end: int) -> None:
        """Take the instants `[start, end)`."""
        self._first, self._end = encode_instant(start), encode_instant(end)

    def select(self, events: list[Event]) -> list[Event]:
        """Return the events that pass, in their order."""
        first, end = self._first, self._end
        return [event for event in events if first <= event.order < end or event.order < _FIRST_READABLE]


def _negate(test: Test) -> Test:
    return lambda facts: not test(facts)


def _list_conditions(criteria: Criteria) -> tuple[Condition, ...]:
    found: list[Condition] = []
    if criteria.presets:
        found.append(match_name_rules(list_rules(split_list(criteria.presets, "preset"))))
    if criteria.event_types:
        found.append(match_types(criteria.event_types))
    if criteria.event_names:
        found.append(match_names(criteria.event_names))
    if criteria.principals:
        needed = ("data.identity.principal_name", "data.identity.principal_id")
        found.append(match_texts(criteria.principals, "principal", _read_principal, *needed))
    if criteria.addresses:
        found.append(match_addresses(criteria.addresses))
    if criteria.compartment_names:
        found.append(match_texts(criteria.compartment_names, "compartment", _read_compartment, "data.compartment_name"))
    if criteria.resources:
        needed = ("data.resource_name", "data.resource_id")
        found.append(match_texts(criteria.resources, "resource", _read_resource, *needed))
    if criteria.outcomes:
        found.append(match_outcomes(criteria.outcomes))
    if criteria.statuses:
        found.append(match_statuses(criteria.statuses))
    return tuple(found)


def _read_principal(facts: Facts) -> tuple[str | None, str | None]:
    data = facts.data
    identity = data.identity if data is not None else None
    return (identity.principal_name, identity.principal_id) if identity is not None else (None, None)


def _read_compartment(facts: Facts) -> tuple[str | None, str | None]:
    return facts.details.compartment_name, None


def _read_resource(facts: Facts) -> tuple[str | None, str | None]:
    data = facts.data
    return (data.resource_name, data.resource_id) if data is not None else (None, None)
