"""One pass over events: everything that the summary and the report count.

Owns: the counting, and its bounds. Must not: open files, print, or judge what it counts.

Invariants
- Memory does not grow with the number of events: whatever can have any number of values is bounded, and says so.
- Each event is counted exactly once in `events`, `outcomes`, `statuses`, and in `hours` or `untimed`.
- The strings are the events' own: hostile on a screen, in HTML and elsewhere.
- Instants count nanoseconds as `events.fields.read_instant`; hours are whole hours of the same count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import gt
from typing import NamedTuple

from ociaudit.events.facts import Data, Identity, Response, read_facts, split_addresses
from ociaudit.events.fields import UNREADABLE_INSTANT, read_instant
from ociaudit.events.outcome import Outcome, judge_outcome
from ociaudit.formats.record import Record
from ociaudit.insight.meaning import ORDINARY, Meaning, find_meaning
from ociaudit.insight.sighting import Sighting, list_sightings
from ociaudit.insight.tally import Tally
from ociaudit.insight.trace import HOUR, Seen, Step, Trace, make_step

_NAMES_KEPT = 20_000
_PEOPLE_KEPT = 50_000
_TRACES_KEPT = 50_000
_CHANGES_KEPT = 5_000
_HOURS_KEPT = 200_000
_MEANINGS_KEPT = 50_000
_NO_DATA, _NO_IDENTITY, _NO_RESPONSE = Data(), Identity(), Response()
_MeaningKey = tuple[str | None, str | None, str | None]


class Change(NamedTuple):
    """A change to IAM that did not fail."""

    step: Step
    principal: str
    address: str
    resource_name: str | None


@dataclass(slots=True)
class Census:
    """Counts over events. A missing principal or address is an empty text in `traces`, and counts nowhere else."""

    events: int = 0
    raw_bytes: int = 0
    first: int = UNREADABLE_INSTANT
    last: int = UNREADABLE_INSTANT
    untimed: int = 0
    """Events whose time is missing or unreadable."""
    disordered: int = 0
    """Events that are earlier than the one before them."""
    types: Tally[str] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    names: Tally[str] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    principals: Tally[str] = field(default_factory=lambda: Tally(_PEOPLE_KEPT))
    addresses: Tally[str] = field(default_factory=lambda: Tally(_PEOPLE_KEPT))
    compartments: Tally[str] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    failures: Tally[tuple[str, str]] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    """(event name, status) of what failed; either may be an empty text."""
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    """Class of the status -> events: `2xx` to `5xx`, `none`, `other`."""
    hours: Counter[int] = field(default_factory=Counter)
    failures_by_hour: Counter[int] = field(default_factory=Counter)
    sign_ins: Counter[tuple[int, Outcome]] = field(default_factory=Counter)
    """(hour, outcome) -> sign-ins."""
    traces: dict[tuple[str, str], Trace] = field(default_factory=dict)
    """(principal, address) -> what was done. A principal without a name stands under its id."""
    traces_dropped: int = 0
    """How many pairs of principal and address were forgotten, because there were too many."""
    change_names: Tally[str] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    changes: list[Change] = field(default_factory=list)
    """Changes to IAM, in the file's order; the first thousands of them, `change_names` counts all."""
    _meanings: dict[_MeaningKey, Meaning] = field(default_factory=dict)
    _newest: int = UNREADABLE_INSTANT

    def add(self, batch: Sequence[Record]) -> None:
        """Count events.

        Raises:
            ValueError: one is not a JSON object.
        """
        facts = [read_facts(raw) for raw, _ in batch]
        datas = [one.data or _NO_DATA for one in facts]
        identities = [data.identity or _NO_IDENTITY for data in datas]
        statuses = [(data.response or _NO_RESPONSE).status for data in datas]
        outcomes = list(map(_judge, datas, statuses))
        instants = [read_instant(one.event_time) for one in facts]
        people = [one.principal_name or one.principal_id or one.caller_name or "" for one in identities]
        sources = [split_addresses(one.ip_address) or ("",) for one in identities]

        self.events += len(facts)
        self.raw_bytes += sum([len(raw) for raw, _ in batch])
        self.types.add([one.event_type for one in facts if one.event_type])
        self.names.add([data.event_name for data in datas if data.event_name])
        self.compartments.add([data.compartment_id for data in datas if data.compartment_id])
        self.principals.add(filter(None, people))
        self.addresses.add(filter(None, chain.from_iterable(sources)))
        self.outcomes.update(outcomes)
        for status, number in Counter(statuses).items():
            self.statuses[_name_class(status)] += number
        failed = [index for index, outcome in enumerate(outcomes) if outcome == "failure"]
        self.failures.add([(datas[index].event_name or "", statuses[index] or "") for index in failed])
        self.failures_by_hour.update([instants[index] // HOUR for index in failed if instants[index]])
        self._add_times(instants)
        raws = [raw for raw, _ in batch]
        for seen in map(Seen, raws, facts, people, sources, instants, outcomes):
            self._follow(seen)
        self._keep_bounds()

    def list_principals(self) -> list[Sighting]:
        """Return the principals that were followed with their addresses, by first seen."""
        return list_sightings((person, address, trace) for (person, address), trace in self.traces.items())

    def list_addresses(self) -> list[Sighting]:
        """Return the addresses that were followed with their principals, by first seen."""
        return list_sightings((address, person, trace) for (person, address), trace in self.traces.items())

    def _add_times(self, instants: Sequence[int]) -> None:
        known = [instant for instant in instants if instant]
        self.untimed += len(instants) - len(known)
        if not known:
            return
        earliest = min(known)
        self.first = min(self.first, earliest) if self.first else earliest
        self.last = max(self.last, *known)
        self.hours.update([instant // HOUR for instant in known])
        self.disordered += sum(map(gt, chain((self._newest,), known), known))
        self._newest = known[-1]

    def _follow(self, seen: Seen) -> None:
        """Note what matters of an event, with its principal and each of its addresses."""
        data = seen.facts.data or _NO_DATA
        details = data.additional_details
        key = (seen.facts.event_type, data.event_name, details.event_id if details else None)
        meaning = self._meanings.get(key) or self._learn_meaning(key)
        step = None if meaning is ORDINARY else self._take_special(seen, meaning)
        for address in seen.sources:
            trace = self.traces.get((seen.person, address))
            if trace is None:
                trace = self.traces[seen.person, address] = Trace(seen.instant)
            trace.note_event(seen)
            if step:
                trace.note_step(step)
            elif meaning.is_sign_in:
                trace.note_sign_in(seen.instant, seen.outcome)
            elif trace.guess or trace.steps:
                trace.note_use(seen)

    def _take_special(self, seen: Seen, meaning: Meaning) -> Step | None:
        """Count a sign-in or a change; return a change, or what blinds those who watch, as a step."""
        if meaning.is_sign_in and seen.instant:
            self.sign_ins[seen.instant // HOUR, seen.outcome] += 1
        if seen.outcome == "failure" or not (meaning.is_iam_change or meaning.kind == "blinding"):
            return None
        step = make_step(seen, meaning.kind)
        if meaning.is_iam_change:
            self.change_names.add([step.name])
            if len(self.changes) < _CHANGES_KEPT:
                self.changes.append(Change(step, seen.person, seen.sources[0], seen.facts.details.resource_name))
        return step

    def _learn_meaning(self, key: _MeaningKey) -> Meaning:
        meaning = find_meaning(*key)
        if len(self._meanings) < _MEANINGS_KEPT:
            self._meanings[key] = meaning
        return meaning

    def _keep_bounds(self) -> None:
        """Forget the rarest of what nobody bounds: times and names can be made up by the million."""
        for counter in (self.hours, self.failures_by_hour, self.sign_ins):
            if len(counter) > _HOURS_KEPT:
                for key, _ in counter.most_common()[_HOURS_KEPT // 2 :]:
                    del counter[key]
        if len(self.traces) > 2 * _TRACES_KEPT:
            ranked = sorted(self.traces.items(), key=lambda item: (item[1].weight, item[1].events), reverse=True)
            self.traces = dict(ranked[:_TRACES_KEPT])
            self.traces_dropped += len(ranked) - _TRACES_KEPT


def take_census(batches: Iterable[Sequence[Record]]) -> Census:
    """Count all events.

    Raises:
        ValueError: one is not a JSON object.
    """
    census = Census()
    for batch in batches:
        census.add(batch)
    return census


def _judge(data: Data, status: str | None) -> Outcome:
    details = data.additional_details
    return judge_outcome(status, details.event_id if details else None, data.message)


def _name_class(status: str | None) -> str:
    if not status:
        return "none"
    return f"{status[0]}xx" if len(status) == 3 and status.isdecimal() and status[0] in "12345" else "other"
