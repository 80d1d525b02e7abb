"""Every pair of principal and address, followed through the events.

Owns: the traces and their bound. Must not: judge.

Invariants
- There are never more than 100,000 traces and what a batch adds; those that are forgotten are counted, and a
  trace with something special goes last.
- First and last are exact in whatever order events come; what came after what is told in the order of reading.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from operator import attrgetter

from ociaudit.insight.batch import Batch, Pair
from ociaudit.insight.meaning import Meaning
from ociaudit.insight.trace import Step, Trace

_TRACES_KEPT = 50_000
_IDS_KEPT = 50_000
_get_id, _get_name = attrgetter("principal_id"), attrgetter("principal_name")


@dataclass(slots=True)
class Following:
    """What each principal did from each address."""

    traces: dict[Pair, Trace] = field(default_factory=dict)
    """(principal, address) -> what was done; either may be an empty text."""
    dropped: int = 0
    """How many traces were forgotten."""
    names_by_id: dict[str | None, str | None] = field(default_factory=dict)
    """A principal's id -> its name, for the first fifty thousand."""
    _watched: set[Pair] = field(default_factory=set)

    @property
    def watched(self) -> AbstractSet[Pair]:
        """The pairs that have done something after which each call is of interest."""
        return self._watched

    def add(self, batch: Batch, meanings: Sequence[Meaning], steps: Mapping[int, Step]) -> None:
        """Follow events; `meanings` has one for each, `steps` holds those that are a step by their index."""
        self._count(batch)
        special = set(steps).union([index for index, meaning in enumerate(meanings) if meaning.is_sign_in])
        watched = self._watched  # there may be many: they are not copied for every batch
        interesting = {pair for pair, index in batch.pairs if index in special or pair in watched}
        if interesting:
            for pair, index in batch.pairs:
                if pair in interesting:
                    self._note(batch, pair, index, meanings[index], steps.get(index))
        if len(self.names_by_id) < _IDS_KEPT:
            self.names_by_id.update(zip(map(_get_id, batch.identities), map(_get_name, batch.identities), strict=True))
        if len(self.traces) > 2 * _TRACES_KEPT:
            self._forget()

    def _count(self, batch: Batch) -> None:
        """Count, and find first and last."""
        traces, instants = self.traces, batch.instants
        find = traces.get
        for pair, index in batch.pairs:
            instant = instants[index]
            trace = find(pair)
            if trace is None:
                traces[pair] = Trace(instant)
                continue
            trace.events += 1
            if instant > trace.last:  # noqa: PLR1730 - asked of every event, and `max` takes three times as long
                trace.last = instant
            if instant < trace.first or not trace.first:
                trace.first = instant or trace.first
        for pair, index in batch.pairs:
            if batch.outcomes[index] == "failure":
                traces[pair].failures += 1

    def _note(self, batch: Batch, pair: Pair, index: int, meaning: Meaning, step: Step | None) -> None:
        special = self.traces[pair].begin_special()
        if step:
            special.note_step(step)
        elif meaning.is_sign_in:
            special.note_sign_in(batch.instants[index], batch.outcomes[index])
        elif special.is_watched:
            special.note_use(batch.instants[index], batch.datas[index].event_name, batch.identities[index].user_agent)
        if special.is_watched:
            self._watched.add(pair)

    def _forget(self) -> None:
        """Forget half of the traces: first those that only failed, then the shortest."""
        ranks = [trace.rank for trace in self.traces.values()]
        last = sorted(ranks, reverse=True)[_TRACES_KEPT]
        room = _TRACES_KEPT - sum(rank > last for rank in ranks)
        kept: dict[Pair, Trace] = {}
        for (pair, trace), rank in zip(self.traces.items(), ranks, strict=True):
            if rank == last:  # of equals those stay that came first: their first is exact
                room -= 1
            if rank > last or (rank == last and room >= 0):
                kept[pair] = trace
        self.dropped += len(self.traces) - len(kept)
        self.traces = kept
        self._watched &= self.traces.keys()
