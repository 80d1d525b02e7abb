"""When a principal or an address was seen, and with whom. Owns: that view of the traces. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import attrgetter
from typing import NamedTuple

from ociaudit.insight.trace import Trace


class Sighting(NamedTuple):
    """A principal or an address; instants as in the census, 0 where no time could be read."""

    name: str
    first: int
    last: int
    events: int
    failures: int
    partners: tuple[str, ...]
    """The addresses of a principal, or the principals of an address, by first seen; an empty text is none."""


_get_first_and_name = attrgetter("first", "name")


def list_sightings(pairs: Iterable[tuple[str, str, Trace]]) -> list[Sighting]:
    """Gather (name, partner, trace) by name, and return them by first seen; an empty name is left out."""
    gathered: defaultdict[str, list[tuple[str, Trace]]] = defaultdict(list)
    for name, partner, trace in pairs:
        if name:
            gathered[name].append((partner, trace))
    return sorted(map(_gather, gathered.items()), key=_get_first_and_name)


def _gather(item: tuple[str, list[tuple[str, Trace]]]) -> Sighting:
    name, found = item
    if len(found) == 1:  # so it is for nearly all addresses
        partner, trace = found[0]
        return Sighting(name, trace.first, trace.last, trace.events, trace.failures, (partner,))
    found.sort(key=lambda one: (one[1].first, one[0]))
    traces = [trace for _, trace in found]
    return Sighting(
        name=name,
        first=min((trace.first for trace in traces if trace.first), default=0),
        last=max(trace.last for trace in traces),
        events=sum(trace.events for trace in traces),
        failures=sum(trace.failures for trace in traces),
        partners=tuple(partner for partner, _ in found),
    )
