"""The events of a report's table: all of them, or a sample that prefers what people look for.

Owns: which events are kept while a file streams by. Must not: hold more than a few thousand of them.

Invariants
- A file that fits is kept whole.
- The same events in any order give the same sample: chance is a checksum of the event's id.
- What is preferred, in this order: identity changes and failed sign-ins, failures, types that occur seldom, the rest.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ociaudit.events.facts import Facts

MOST_EVENTS = 2_000
MOST_BYTES = 2_500_000
LONGEST_EVENT_BYTES = 65_536
"""A longer event is listed without its JSON."""
NOTABLE, FAILURE, ORDINARY = 0, 1, 2
_SHARES = (0.4, 0.65)
"""Up to which part of the room notable events may fill, and failures after them, when there are too many."""
_RARE_SHARE = 0.8
_PER_TYPE = 2
_MOST_TYPES = 2_000


class Kept(NamedTuple):
    """An event in the sample; `order` is its chance, `number` its place in the file."""

    order: int
    number: int
    raw: bytes
    facts: Facts


class EventSample:
    """Keeps events as they come, and chooses at the end."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._heaps: tuple[list[Kept], ...] = ([], [], [])
        self._rare: dict[str, list[Kept]] = {}
        self._count = 0

    def add(self, raw: bytes, facts: Facts, rank: int) -> None:
        """Offer an event of a rank: NOTABLE, FAILURE or ORDINARY."""
        self._count += 1
        order = -zlib.crc32((facts.event_id or "").encode())
        kept = self._rare.get(facts.event_type or "")
        if kept is None and len(self._rare) < _MOST_TYPES:
            kept = self._rare[facts.event_type or ""] = []
        if kept is not None:
            if len(kept) < _PER_TYPE:
                heapq.heappush(kept, Kept(order, self._count, _cut(raw), facts))
            elif order > kept[0].order:
                heapq.heapreplace(kept, Kept(order, self._count, _cut(raw), facts))
        heap = self._heaps[rank]
        if len(heap) < MOST_EVENTS:
            heapq.heappush(heap, Kept(order, self._count, _cut(raw), facts))
        elif order > heap[0].order:
            heapq.heapreplace(heap, Kept(order, self._count, _cut(raw), facts))

    def choose(self, type_counts: dict[str, int]) -> list[Kept]:
        """Return the sample in the file's order; `type_counts` tell which types are rare."""
        notable, failures, ordinary = (sorted(heap, reverse=True) for heap in self._heaps)
        rare = sorted((type_counts.get(name, 0), each) for name, kept in self._rare.items() for each in kept)
        stages: tuple[tuple[Sequence[Kept], float], ...] = (
            (notable, _SHARES[0]),
            (failures, _SHARES[1]),
            ([each for _, each in rare], _RARE_SHARE),
            (ordinary, 1.0),
            (notable, 1.0),
            (failures, 1.0),
        )
        chosen: dict[int, Kept] = {}
        used = 0
        for candidates, share in stages:
            for each in _skip_known(candidates, chosen):
                size = len(each.raw)
                if len(chosen) >= MOST_EVENTS * share or used + size > MOST_BYTES * share:
                    break
                chosen[each.number] = each
                used += size
        return [chosen[number] for number in sorted(chosen)]


def _skip_known(candidates: Sequence[Kept], chosen: dict[int, Kept]) -> Iterator[Kept]:
    return (each for each in candidates if each.number not in chosen)


def _cut(raw: bytes) -> bytes:
    return raw if len(raw) <= LONGEST_EVENT_BYTES else b""
