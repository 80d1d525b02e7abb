"""The events of a report's table: all of them, or a sample that prefers what people look for.

Owns: which events are kept while a file streams by. Must not: hold more than a few thousand of them.

Invariants
- A file that fits is kept whole.
- The same events in any order give the same sample: chance is a checksum of the event's id.
- What is preferred, in this order: what belongs to something worth a look, changes to IAM and failed sign-ins,
  failures, types that occur seldom, the rest.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ociaudit.events.facts import Facts

MOST_EVENTS = 2_000
MOST_BYTES = 2_500_000
LONGEST_EVENT_BYTES = 65_536
"""A longer event is listed without its JSON."""
NOTABLE, FAILURE, FOLLOWED, ORDINARY = range(4)
"""A FOLLOWED event is of somebody who has done something special; it counts when that turns out to be a story."""
_TOLD_SHARE, _NOTABLE_SHARE, _FAILURE_SHARE, _RARE_SHARE = 0.3, 0.5, 0.65, 0.8
"""Up to which part of the room each may fill it, in this order, when there is too much."""
_PER_TYPE = 2
_MOST_TYPES = 2_000
_ALWAYS = -(1 << 32)


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
        self._heaps: tuple[list[Kept], ...] = ([], [], [], [])
        self._rare: dict[str | None, list[Kept]] = {}
        self._count = 0

    def add(self, raws: Sequence[bytes], facts: Sequence[Facts], ranks: Sequence[int]) -> None:
        """Offer events, each of a rank: NOTABLE, FAILURE, FOLLOWED or ORDINARY."""
        orders = [-zlib.crc32(one.event_id.encode()) if one.event_id else 0 for one in facts]
        heaps, rare = self._heaps, self._rare
        full = [heap[0].order if len(heap) == MOST_EVENTS else _ALWAYS for heap in heaps]
        enough = {name: kept[0].order for name, kept in rare.items() if len(kept) == _PER_TYPE}
        for index, (one, rank, order) in enumerate(zip(facts, ranks, orders, strict=True)):
            if order <= full[rank] and order <= enough.get(one.event_type, _ALWAYS):
                continue
            kept = Kept(order, self._count + index, _cut(raws[index]), one)
            _keep_best(heaps[rank], kept, MOST_EVENTS)
            if one.event_type in rare or len(rare) < _MOST_TYPES:
                _keep_best(rare.setdefault(one.event_type, []), kept, _PER_TYPE)
        self._count += len(facts)

    def choose(self, type_counts: Mapping[str, int], is_told: Callable[[Facts], bool]) -> list[Kept]:
        """Return the sample in the file's order; `type_counts` tell which types are rare."""
        notable, failures, followed, ordinary = (sorted(heap, reverse=True) for heap in self._heaps)
        told = [each for each in (*notable, *failures, *followed) if is_told(each.facts)]
        rare = sorted((type_counts.get(name or "", 0), each) for name, kept in self._rare.items() for each in kept)
        stages: tuple[tuple[Sequence[Kept], float], ...] = (
            (told, _TOLD_SHARE),
            (notable, _NOTABLE_SHARE),
            (failures, _FAILURE_SHARE),
            ([each for _, each in rare], _RARE_SHARE),
            (sorted([*followed, *ordinary], reverse=True), 1.0),
            (told, 1.0),
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


def _keep_best(heap: list[Kept], kept: Kept, most: int) -> None:
    if len(heap) < most:
        heapq.heappush(heap, kept)
    elif kept.order > heap[0].order:
        heapq.heapreplace(heap, kept)


def _skip_known(candidates: Sequence[Kept], chosen: dict[int, Kept]) -> Iterator[Kept]:
    return (each for each in candidates if each.number not in chosen)


def _cut(raw: bytes) -> bytes:
    return raw if len(raw) <= LONGEST_EVENT_BYTES else b""
