"""Byte strings sorted outside memory.

Owns: the part files. Must not: know what the entries mean.

Entries are sorted in chunks; full chunks go to part files, which are merged when the order is asked for.

Invariants
- Everything added comes out once, in ascending order, as often as it is asked for.
- At most `max_entries` entries are in memory, and one batch per part file while merging.
- The part files are disposable: they belong to this process and are made again by the next.

The canonical order of what the log holds.

Owns: what an entry of the index is. Must not: read events; it orders what it was told of them.

An entry is bytes: the event's `order`, then its origin, offset and length in the log, so that comparing
entries compares (instant, id, origin, offset).

Invariant: everything added comes out once, in ascending order; memory does not grow with it.

The log's events in canonical order, each record once.

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
import marshal
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from ociaudit.events.event import Event, encode_instant, extract_event_id, read_event_id
from ociaudit.events.fields import UNREADABLE_INSTANT, replace_surrogates
from ociaudit.storage.atomic_io import explain_disk, open_private
from ociaudit.storage.event_log import LogReader

_BATCH = 512


class ExternalSort:
    """Takes byte strings and gives them back in order."""

    def __init__(self, folder: Path, name: str, *, max_entries: int) -> None:
        """Keep part files `<name>-<number>.part` in `folder`."""
        self._folder = folder
        self._name = name
        self._max_entries = max_entries
        self._parts: list[Path] = []
        self.pending: list[bytes] = []
        """What has been added since the last part; append here, then call `settle`."""

    def settle(self) -> None:
        """Write a part when there is a chunk's worth in memory.

        Raises:
            DiskError: it cannot be written.
        """
        if len(self.pending) >= self._max_entries:
            self._write_part()

    def iterate(self) -> Iterator[bytes]:
        """Yield every entry, ascending.

        Raises:
            DiskError: a part file cannot be read.
        """
        self.pending.sort()
        if not self._parts:
            return iter(self.pending)
        return heapq.merge(iter(self.pending), *map(_read_part, self._parts))

    def _write_part(self) -> None:
        path = self._folder / f"{self._name}-{len(self._parts):05}.part"
        self.pending.sort()
        descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with explain_disk("write to", path), os.fdopen(descriptor, "wb") as file:
            for start in range(0, len(self.pending), _BATCH):
                marshal.dump(self.pending[start : start + _BATCH], file)
        self._parts.append(path)
        self.pending.clear()


def _read_part(path: Path) -> Iterator[bytes]:
    # marshal is safe here: the file is private and was written by this very process
    with explain_disk("read", path), path.open("rb") as file:
        while True:
            try:
                batch = marshal.load(file)  # noqa: S302
            except EOFError:
                return
            yield from batch


_SUFFIX = struct.Struct(">IQI")
"""Origin, offset and length, behind an event's order; big-endian, so that bytes compare like numbers."""
SUFFIX_BYTES = _SUFFIX.size

Location = tuple[int, int, int]
"""Where an event stands: the number of the place it was asked from, its frame's offset in the log, its length."""


def split_location(entry: bytes) -> Location:
    """Return where an entry's event stands; what is before the last `SUFFIX_BYTES` is its order."""
    return _SUFFIX.unpack_from(entry, len(entry) - SUFFIX_BYTES)


class EventIndex:
    """Collects the events' places in the log and gives them back in canonical order."""

    def __init__(self, folder: Path, *, max_entries: int = 200_000) -> None:
        """Keep part files in `folder`; `max_entries` entries of about 150 bytes stay in memory."""
        self.folder = folder
        self._sort = ExternalSort(folder, "order", max_entries=max_entries)
        self._count = 0

    def __len__(self) -> int:
        """Return how many events have been added."""
        return self._count

    def add(self, events: Sequence[Event], *, origin: int, offset: int, lengths: Sequence[int]) -> None:
        """Add events whose frames stand one behind the other in the log, the first at `offset`.

        Raises:
            DiskError: a part file cannot be written.
        """
        pack = _SUFFIX.pack
        append = self._sort.pending.append
        for event, length in zip(events, lengths, strict=True):
            append(event.order + pack(origin, offset, length))
            offset += length
        self._count += len(events)
        self._sort.settle()

    def iterate(self) -> Iterator[bytes]:
        """Yield every entry, ascending; `split_location` tells where it leads.

        Raises:
            DiskError: a part file cannot be read.
        """
        return self._sort.iterate()


_READ_AT_ONCE = 1_000
_GROUP_IN_MEMORY = 2_000
_MAX_CONFLICTS_LISTED = 1_000
_IDS_IN_MEMORY = 200_000
_FIRST_READABLE = encode_instant(UNREADABLE_INSTANT + 1)
_split_order = itemgetter(slice(None, -SUFFIX_BYTES))


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

    def __init__(self, index: EventIndex, log: LogReader, *, start: int, end: int) -> None:
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
        for _, group in groupby(self._index.iterate(), key=_split_order):
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
        self._count_records(list(map(_split_order, entries)))
        origins, offsets, lengths = zip(*map(split_location, entries), strict=True) if entries else ((), (), ())
        return zip(self._log.read_many(offsets, lengths), origins, strict=True)

    def _merge_several(self, entries: list[bytes]) -> Iterator[tuple[bytes, int]]:
        """Yield the distinct records among those that share time and id, in the order of their bytes."""
        order = _split_order(entries[0])
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
        self._ids.pending.extend(map(extract_event_id, orders))
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
