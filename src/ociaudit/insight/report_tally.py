"""One pass over the events of a report: the census, and what only a report needs.

Owns: the finer times, the sample for the table, changes to IAM that failed too, and names of compartments.
Must not: read files, hold all events, or judge what is worth a look.

Invariants
- Memory is bounded, and what is cut off is counted.
- Whatever the summary counts as well is counted by the census, so that both say the same.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple

from ociaudit.events.facts import Facts
from ociaudit.formats.record import Record
from ociaudit.insight.batch import Batch, read_batch
from ociaudit.insight.census import Census
from ociaudit.insight.event_sample import FAILURE, FOLLOWED, NOTABLE, ORDINARY, EventSample
from ociaudit.insight.meaning import ORDINARY as COMMON
from ociaudit.insight.meaning import Meaning
from ociaudit.insight.tally import Tally
from ociaudit.insight.time_bins import TimeBins

MOST_CHANGES = 1_000
_MOST_TYPES = 20_000
_MOST_COMPARTMENTS = 20_000
_LONGEST_NAME = 200


class LatestChange(NamedTuple):
    """An identity change; `instant` first, so that they sort by time."""

    instant: int
    number: int
    facts: Facts


class ReportTally:
    """The counts of a report."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.census = Census()
        self.times = TimeBins()
        self.sign_ins = TimeBins()
        self.failed_types: Tally[str] = Tally(_MOST_TYPES)
        self.changes = 0
        self.failed_changes = 0
        self.latest_changes: list[LatestChange] = []
        self.compartment_names: dict[str, str] = {}
        self.sample = EventSample()

    @property
    def untyped(self) -> int:
        """How many events have neither a time nor a type."""
        return self.census.untyped

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
        batch = read_batch(raws)
        before = self.census.events
        meanings = self.census.add_batch(batch)
        self.times.add(batch.instants, batch.outcomes)
        self._add_special(batch, meanings, before)
        self.failed_types.add(
            [
                one.event_type
                for one, outcome in zip(batch.facts, batch.outcomes, strict=True)
                if outcome == "failure" and one.event_type
            ]
        )
        for data in batch.datas:
            if data.compartment_id and data.compartment_id not in self.compartment_names:
                self._name_compartment(data.compartment_id, data.compartment_name)
        self._offer(batch, meanings)

    def _add_special(self, batch: Batch, meanings: Sequence[Meaning], before: int) -> None:
        sign_ins = [index for index, meaning in enumerate(meanings) if meaning.is_sign_in]
        self.sign_ins.add([batch.instants[index] for index in sign_ins], [batch.outcomes[index] for index in sign_ins])
        for index, meaning in enumerate(meanings):
            if not meaning.is_iam_change:
                continue
            self.changes += 1
            self.failed_changes += batch.outcomes[index] == "failure"
            change = LatestChange(batch.instants[index], before + index, batch.facts[index])
            if len(self.latest_changes) < MOST_CHANGES:
                heapq.heappush(self.latest_changes, change)
            else:
                heapq.heappushpop(self.latest_changes, change)

    def _offer(self, batch: Batch, meanings: Sequence[Meaning]) -> None:
        """Offer each event to the sample."""
        watched = self.census.following.watched
        followed = {index for pair, index in batch.pairs if pair in watched} if watched else ()
        ranks = [FAILURE if outcome == "failure" else ORDINARY for outcome in batch.outcomes]
        for index in followed:
            if ranks[index] == ORDINARY:
                ranks[index] = FOLLOWED
        for index, meaning in enumerate(meanings):
            if meaning is not COMMON and (meaning.is_iam_change or (meaning.is_sign_in and ranks[index] == FAILURE)):
                ranks[index] = NOTABLE
        self.sample.add(batch.raws, batch.facts, ranks)

    def _name_compartment(self, compartment: str, name: str | None) -> None:
        if name and len(self.compartment_names) < _MOST_COMPARTMENTS and len(compartment) <= _LONGEST_NAME:
            self.compartment_names[compartment] = name[:_LONGEST_NAME]
