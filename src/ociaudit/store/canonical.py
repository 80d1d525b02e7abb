"""The log's events in canonical order, each record once.

Owns: what counts as the same record. Must not: write the output.

Invariants
- The order is (instant of `eventTime`, `eventId`, bytes); it depends on the records alone, not on how, when
  or how often they were read.
- Records that are equal to the byte come out once. Records that share an id and differ all come out.
- Memory grows only with the records that share one time and id: 180 bytes for each of them, at a time. Besides, a
  thousand records are in it.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

from ociaudit.events.event import cut_event_id, encode_instant, read_event_id
from ociaudit.events.fields import UNREADABLE_INSTANT, replace_surrogates
from ociaudit.store.external_sort import ExternalSort
from ociaudit.store.index import SUFFIX_BYTES, Location, OrderIndex, split_location
from ociaudit.store.log_reader import LogReader

_READ_AT_ONCE = 1_000
_GROUP_IN_MEMORY = 2_000
_MAX_CONFLICTS_LISTED = 1_000
_IDS_IN_MEMORY = 200_000
_FIRST_READABLE = encode_instant(UNREADABLE_INSTANT + 1)
_cut_order = itemgetter(slice(None, -SUFFIX_BYTES))


@dataclass(slots=True)
class MergeCounts:
    """What the merge met.

    `identical` records were dropped. `conflicting_count` ids have more than one record; the first thousand are
    named. `first_order` is that of the first event with a readable `eventTime`, `last_order` that of the last
    event. `outside` events have a readable `eventTime` outside the bounds given, `unreadable` have none.
    """

    written: int = 0
    identical: int = 0
    conflicting_count: int = 0
    conflicting_ids: list[str] = field(default_factory=list)
    first_order: bytes = b""
    last_order: bytes = b""
    outside: int = 0
    unreadable: int = 0


class CanonicalReader:
    """Reads the log in canonical order, once, and counts on the way."""

    def __init__(self, index: OrderIndex, log: LogReader, *, start: int, end: int) -> None:
        """Count as outside what happened before the instant `start`, or at or after `end`."""
        self._index = index
        self._log = log
        self._start = encode_instant(start)
        self._end = encode_instant(end)
        self._ids = ExternalSort(index.folder, "ids", max_entries=_IDS_IN_MEMORY)
        self.counts = MergeCounts()

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Yield (event, number of its origin).

        Raises:
            DiskError: the log or the index cannot be read.
            CorruptRun: the log is damaged.
        """
        singles: list[bytes] = []
        for _, group in groupby(self._index.iterate(), key=_cut_order):
            first, *others = group
            if not others:
                singles.append(first)
                if len(singles) < _READ_AT_ONCE:
                    continue
            yield from self._read_singles(singles)
            singles = []
            if others:
                yield from self._merge_several([first, *others])
        yield from self._read_singles(singles)
        self._count_conflicts()

    def _read_singles(self, entries: list[bytes]) -> Iterable[tuple[bytes, int]]:
        """Return records each of which is the only one of its time and id; nearly every one is."""
        self._count_records(list(map(_cut_order, entries)))
        origins, offsets, lengths = zip(*map(split_location, entries), strict=True) if entries else ((), (), ())
        return zip(self._log.read_many(offsets, lengths), origins, strict=True)

    def _merge_several(self, entries: list[bytes]) -> Iterator[tuple[bytes, int]]:
        """Yield the distinct records among those that share time and id, in the order of their bytes."""
        order = _cut_order(entries[0])
        group = list(map(split_location, entries))
        previous: bytes | None = None
        for raw, origin in self._sort_by_bytes(group):
            if raw == previous:
                self.counts.identical += 1
                continue
            previous = raw
            self._count_records([order])
            yield raw, origin

    def _sort_by_bytes(self, group: list[Location]) -> Iterator[tuple[bytes, int]]:
        """Sort (record, origin); a large group is sorted in pieces that are read again while merging."""
        pieces: list[list[Location]] = []
        for start in range(0, len(group), _GROUP_IN_MEMORY):
            piece = group[start : start + _GROUP_IN_MEMORY]
            piece.sort(key=self._read_sort_key)
            pieces.append(piece)
        return heapq.merge(*(map(self._read_sort_key, piece) for piece in pieces))

    def _read_sort_key(self, location: Location) -> tuple[bytes, int]:
        origin, offset, length = location
        return self._log.read(offset, length), origin

    def _count_records(self, orders: Sequence[bytes]) -> None:
        """Count records in their order."""
        if not orders:
            return
        counts = self.counts
        counts.written += len(orders)
        self._ids.pending.extend(map(cut_event_id, orders))
        self._ids.settle()
        counts.last_order = orders[-1]
        if counts.first_order and self._start <= orders[0] and orders[-1] < self._end:
            return
        for order in orders:
            if order < _FIRST_READABLE:
                counts.unreadable += 1
                continue
            counts.first_order = counts.first_order or order
            counts.outside += not self._start <= order < self._end

    def _count_conflicts(self) -> None:
        """Count the ids that more than one written record has; their times may differ."""
        previous = b""
        is_counted = False
        for event_id in self._ids.iterate():
            if event_id != previous:
                previous, is_counted = event_id, False
            elif event_id and not is_counted:
                is_counted = True
                self.counts.conflicting_count += 1
                if len(self.counts.conflicting_ids) < _MAX_CONFLICTS_LISTED:
                    self.counts.conflicting_ids.append(replace_surrogates(read_event_id(event_id)))
