"""One pass over the events of a report: everything that is counted.

Owns: the counting. Must not: read files, hold all events, or judge what is worth a look.

Invariants
- Memory is bounded: by distinct names, by minutes, by events kept; what is cut off is counted.
- An event without a readable time counts everywhere but on a time axis.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from ociaudit.events.facts import Facts, read_facts
from ociaudit.events.fields import UNREADABLE_INSTANT
from ociaudit.events.outcome import is_sign_in
from ociaudit.formats.record import Record
from ociaudit.insight.event_sample import FAILURE, NOTABLE, ORDINARY, EventSample
from ociaudit.insight.identity_changes import is_identity_change
from ociaudit.insight.intrusions import IntrusionWatch
from ociaudit.insight.time_bins import SERIES, TimeBins

LONGEST_TEXT = 400
MOST_CHANGES = 1_000
_MOST_NAMES = 100_000
_MOST_TYPES = 20_000
_MOST_COMPARTMENTS = 20_000
_MOST_PRINCIPALS_OF_ADDRESS = 3
_SERIES = {name: number for number, name in enumerate(SERIES)}
_ONE_ITSELF, _ONE_FAILURE = 0, 1


class Change(NamedTuple):
    """An identity change; `instant` first, so that they sort by time."""

    instant: int
    number: int
    facts: Facts


@dataclass(slots=True)
class Seen:
    """What is known of one source address."""

    first: int
    last: int
    events: int = 0
    failures: int = 0
    failed_sign_ins: int = 0
    changes: int = 0
    principals: set[str] = field(default_factory=set)


class NameCounter:
    """Events and failures by name; when there are too many names, the rarer half is forgotten, and counted."""

    def __init__(self, limit: int) -> None:
        """Begin with nothing."""
        self._limit = limit
        self.counts: dict[str, list[int]] = {}
        self.forgotten = 0

    def add(self, name: str, *, is_failure: bool) -> None:
        """Count an event."""
        counts = self.counts.get(name)
        if counts is None:
            if len(name) > LONGEST_TEXT:
                self.add(shorten(name), is_failure=is_failure)
                return
            counts = self.counts[name] = [0, 0]
            if len(self.counts) > self._limit:
                self._forget()
                self.counts[name] = counts
        counts[_ONE_ITSELF] += 1
        if is_failure:
            counts[_ONE_FAILURE] += 1

    def rank(self, number: int) -> list[tuple[str, int, int]]:
        """Return the most frequent names as (name, events, failures)."""
        ranked = heapq.nsmallest(number, self.counts.items(), key=lambda item: (-item[1][0], item[0]))
        return [(name, events, failures) for name, (events, failures) in ranked]

    def _forget(self) -> None:
        ranked = sorted(self.counts.items(), key=lambda item: -item[1][0])
        self.forgotten += len(ranked) - self._limit // 2
        self.counts = dict(ranked[: self._limit // 2])


class ReportTally:
    """The counts of a report."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.events = 0
        self.outcomes = [0, 0, 0]
        self.sign_in_outcomes = [0, 0, 0]
        self.changes = 0
        self.without_time = 0
        self.times = TimeBins()
        self.sign_ins = TimeBins()
        self.types = NameCounter(_MOST_TYPES)
        self.principals = NameCounter(_MOST_NAMES)
        self.addresses: dict[str, Seen] = {}
        self.addresses_forgotten = 0
        self.latest_changes: list[Change] = []
        self.compartment_names: dict[str, str] = {}
        self.sample = EventSample()
        self.intrusions = IntrusionWatch()
        self._kinds: dict[tuple[str | None, str | None], tuple[bool, bool]] = {}

    def add(self, batch: Iterable[Record]) -> None:
        """Count events.

        Raises:
            ValueError: one is not a JSON object.
        """
        for record in batch:
            self._add_event(record.raw, read_facts(record.raw))

    def _add_event(self, raw: bytes, facts: Facts) -> None:
        self.events += 1
        instant = facts.instant
        outcome = facts.outcome
        series = _SERIES[outcome]
        is_failure = outcome == "failure"
        is_login, is_change = self.tell_kind(facts.event_type, facts.domain_event)
        self.outcomes[series] += 1
        if instant == UNREADABLE_INSTANT:
            self.without_time += 1
        else:
            self.times.add(instant, series)
        self.types.add(facts.event_type or "(no type)", is_failure=is_failure)
        identity = facts.identity
        if identity.principal_name:
            self.principals.add(identity.principal_name, is_failure=is_failure)
        addresses = facts.addresses
        is_failed_login = is_login and is_failure
        for address in addresses:
            seen = self._see_address(address, instant, identity.principal_name)
            seen.events += 1
            seen.failures += is_failure
            seen.changes += is_change
            seen.failed_sign_ins += is_failed_login
        details = facts.details
        if details.compartment_id and details.compartment_id not in self.compartment_names:
            self._name_compartment(details.compartment_id, details.compartment_name)
        if is_login:
            self.sign_in_outcomes[series] += 1
            if instant != UNREADABLE_INSTANT:
                self.sign_ins.add(instant, series)
        if is_change:
            self._add_change(facts, instant)
        is_part = self.intrusions.watch(
            facts, raw, instant, addresses, outcome, is_sign_in=is_login, is_change=is_change
        )
        rank = NOTABLE if is_change or is_failed_login or is_part else FAILURE if is_failure else ORDINARY
        self.sample.add(raw, facts, rank)

    def tell_kind(self, event_type: str | None, domain_event: str | None) -> tuple[bool, bool]:
        """Tell whether it is a sign-in, and whether an identity change; never both."""
        key = event_type, domain_event
        known = self._kinds.get(key)
        if known is None:
            if len(self._kinds) > _MOST_TYPES:
                self._kinds.clear()
            is_change = is_identity_change(event_type, domain_event)
            known = self._kinds[key] = (not is_change and is_sign_in(event_type, domain_event), is_change)
        return known

    def _see_address(self, address: str, instant: int, principal: str | None) -> Seen:
        seen = self.addresses.get(address)
        if seen is None:
            address = shorten(address)
            seen = self.addresses.get(address)
        if seen is None:
            if len(self.addresses) >= _MOST_NAMES:
                self._forget_addresses()
            seen = self.addresses[address] = Seen(first=instant, last=instant)
        if instant != UNREADABLE_INSTANT:
            seen.last = max(seen.last, instant)
            if instant < seen.first or seen.first == UNREADABLE_INSTANT:
                seen.first = instant
        if principal and len(seen.principals) < _MOST_PRINCIPALS_OF_ADDRESS:
            seen.principals.add(shorten(principal))
        return seen

    def _forget_addresses(self) -> None:
        """Forget the half that did least: those with failed sign-ins or changes stay longest."""
        ranked = sorted(
            self.addresses.items(),
            key=lambda item: (item[1].failed_sign_ins + item[1].changes, item[1].events),
            reverse=True,
        )
        self.addresses_forgotten += len(ranked) - _MOST_NAMES // 2
        self.addresses = dict(ranked[: _MOST_NAMES // 2])

    def _add_change(self, facts: Facts, instant: int) -> None:
        self.changes += 1
        change = Change(instant, self.events, facts)
        if len(self.latest_changes) < MOST_CHANGES:
            heapq.heappush(self.latest_changes, change)
        else:
            heapq.heappushpop(self.latest_changes, change)

    def _name_compartment(self, compartment: str, name: str | None) -> None:
        if name and len(self.compartment_names) < _MOST_COMPARTMENTS and len(compartment) <= LONGEST_TEXT:
            self.compartment_names[compartment] = shorten(name)


def shorten(text: str) -> str:
    """Return a text that is not too long to be kept by the thousand."""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
