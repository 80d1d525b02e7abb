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

from ociaudit.events.fields import UNREADABLE_INSTANT
from ociaudit.events.outcome import Outcome
from ociaudit.formats.record import Record
from ociaudit.insight.batch import Batch, EventKind, Pair, read_batch
from ociaudit.insight.following import Following
from ociaudit.insight.meaning import ORDINARY, Meaning, find_meaning
from ociaudit.insight.sighting import Sighting, list_sightings
from ociaudit.insight.tally import Tally
from ociaudit.insight.trace import HOUR, Step, Trace, make_step

_NAMES_KEPT = 20_000
_PEOPLE_KEPT = 50_000
_CHANGES_KEPT = 5_000
_HOURS_KEPT = 200_000
_MEANINGS_KEPT = 50_000


class Change(NamedTuple):
    """A change to IAM that did not fail."""

    step: Step
    principal: str
    address: str
    resource_name: str | None


@dataclass(slots=True)
class Census:
    """Counts over events. A missing name, principal or address counts nowhere; in `traces` it is an empty text."""

    events: int = 0
    raw_bytes: int = 0
    first: int = UNREADABLE_INSTANT
    last: int = UNREADABLE_INSTANT
    untimed: int = 0
    """Events whose time is missing or unreadable."""
    untyped: int = 0
    """Events that have neither a time nor a type: perhaps none of Audit's, or in another spelling."""
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
    """Class of the status -> events: `1xx` to `5xx`, `none`, `other`."""
    hours: Counter[int] = field(default_factory=Counter)
    failures_by_hour: Counter[int] = field(default_factory=Counter)
    sign_ins: Counter[tuple[int, Outcome]] = field(default_factory=Counter)
    """(hour, outcome) -> sign-ins."""
    change_names: Tally[str] = field(default_factory=lambda: Tally(_NAMES_KEPT))
    changes: list[Change] = field(default_factory=list)
    """Changes to IAM, in the file's order; the first thousands of them, `change_names` counts all."""
    following: Following = field(default_factory=Following)
    _meanings: dict[EventKind, Meaning] = field(default_factory=dict)
    _newest: int = UNREADABLE_INSTANT

    @property
    def traces(self) -> dict[Pair, Trace]:
        """(principal, address) -> what was done. A principal without a name stands under its id."""
        return self.following.traces

    def add(self, records: Sequence[Record]) -> None:
        """Count events.

        Raises:
            ValueError: one is not a JSON object.
        """
        self.add_raws([raw for raw, _ in records])

    def add_raws(self, raws: Sequence[bytes]) -> None:
        """Count events, each one line of JSON in shape `api`.

        Raises:
            ValueError: one is not a JSON object.
        """
        self.add_batch(read_batch(raws))

    def add_batch(self, batch: Batch) -> list[Meaning]:
        """Count events that are read, and return what each means, for whoever counts more."""
        instants = batch.instants
        self.events += len(batch.raws)
        self.raw_bytes += sum(map(len, batch.raws))
        self.untyped += sum([not (one.event_type or one.event_time) for one in batch.facts])
        self.types.add([one.event_type for one in batch.facts if one.event_type])
        self.names.add([data.event_name for data in batch.datas if data.event_name])
        self.compartments.add([data.compartment_id for data in batch.datas if data.compartment_id])
        self.principals.add(filter(None, batch.people))
        self.addresses.add([pair[1] for pair, _ in batch.pairs if pair[1]])
        self.outcomes.update(batch.outcomes)
        for status, number in Counter(batch.statuses).items():
            self.statuses[_name_class(status)] += number
        failed = [index for index, outcome in enumerate(batch.outcomes) if outcome == "failure"]
        self.failures.add([(batch.datas[index].event_name or "", batch.statuses[index] or "") for index in failed])
        self.failures_by_hour.update([instants[index] // HOUR for index in failed if instants[index]])
        self._add_times(instants)
        meanings = self._add_special(batch)
        for counter in (self.hours, self.failures_by_hour, self.sign_ins):
            _keep_bound(counter)
        return meanings

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
        ordered = sorted(known)
        first, last = ordered[0], ordered[-1]
        if first < self._newest or ordered != known:
            self.disordered += sum(map(gt, chain((self._newest,), known), known))
        self._newest = known[-1]
        self.first = min(self.first, first) if self.first else first
        self.last = max(self.last, last)
        if first // HOUR == last // HOUR:  # so it is for nearly all neighbours
            self.hours[first // HOUR] += len(known)
        else:
            self.hours.update([instant // HOUR for instant in known])

    def _add_special(self, batch: Batch) -> list[Meaning]:
        """Count sign-ins and changes, and follow who did what from where."""
        known = self._meanings
        meanings = [known.get(kind) or self._learn_meaning(kind) for kind in batch.kinds]
        steps: dict[int, Step] = {}
        for index, meaning in enumerate(meanings):
            if meaning is not ORDINARY:
                instant, outcome = batch.instants[index], batch.outcomes[index]
                if meaning.is_sign_in and instant:
                    self.sign_ins[instant // HOUR, outcome] += 1
                if outcome != "failure" and (meaning.is_iam_change or meaning.kind == "blinding"):
                    steps[index] = make_step(batch.facts[index], batch.raws[index], instant, meaning.kind)
        seen: set[int] = set()
        for (person, address), index in batch.pairs if steps else ():
            if index in steps and meanings[index].is_iam_change and index not in seen:
                seen.add(index)  # an event with several addresses is one change
                self.change_names.add([steps[index].name])
                if len(self.changes) < _CHANGES_KEPT:
                    self.changes.append(Change(steps[index], person, address, batch.datas[index].resource_name))
        self.following.add(batch, meanings, steps)
        return meanings

    def _learn_meaning(self, kind: EventKind) -> Meaning:
        meaning = find_meaning(kind, None, None) if isinstance(kind, str) else find_meaning(*kind)
        if len(self._meanings) < _MEANINGS_KEPT:
            self._meanings[kind] = meaning
        return meaning


def take_census(batches: Iterable[Sequence[Record]]) -> Census:
    """Count all events.

    Raises:
        ValueError: one is not a JSON object.
    """
    census = Census()
    for batch in batches:
        census.add(batch)
    return census


def _name_class(status: str | None) -> str:
    if not status:
        return "none"
    return (
        f"{status[0]}xx"
        if len(status) == 3 and status.isascii() and status.isdigit() and status[0] in "12345"
        else "other"
    )


def _keep_bound(counter: Counter[int] | Counter[tuple[int, Outcome]]) -> None:
    """Forget the rarest hours: nobody has records of twenty years, but anybody can make up times."""
    if len(counter) > _HOURS_KEPT:
        for key, _ in counter.most_common()[_HOURS_KEPT // 2 :]:
            del counter[key]
