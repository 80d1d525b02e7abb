"""The canonical order of what the log holds, sorted outside memory.

Owns: sorting. Must not: read events; it orders what it was told of them.

An entry is bytes: the event's `order`, then its origin, offset and length in the log, so that comparing
entries compares (instant, id, origin, offset). Entries are sorted in chunks; full chunks go to part files,
which are merged when the order is asked for.

Invariants
- Everything added comes out once, in ascending order.
- At most `max_entries` entries are in memory, and one batch per part file while merging.
- The part files are disposable: they belong to this process and are made again from the log by the next.
"""

from __future__ import annotations

import heapq
import marshal
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from ociaudit.events.event import Event
from ociaudit.store.durable import explain_disk, open_private

_SUFFIX = struct.Struct(">IQI")
"""Origin, offset and length, behind an event's order; big-endian, so that bytes compare like numbers."""
SUFFIX_BYTES = _SUFFIX.size
_BATCH = 512


Location = tuple[int, int, int]
"""Where an event stands: the number of the place it was asked from, its frame's offset in the log, its length."""


def split_entry(entry: bytes) -> tuple[bytes, Location]:
    """Return the event's order and its location."""
    return entry[:-SUFFIX_BYTES], _SUFFIX.unpack_from(entry, len(entry) - SUFFIX_BYTES)


class OrderIndex:
    """Collects the events' places in the log and gives them back in canonical order."""

    def __init__(self, folder: Path, *, max_entries: int = 200_000) -> None:
        """Keep part files in `folder`; `max_entries` entries of about 150 bytes stay in memory."""
        self._folder = folder
        self._max_entries = max_entries
        self._entries: list[bytes] = []
        self._parts: list[Path] = []
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
        append = self._entries.append
        for event, length in zip(events, lengths, strict=True):
            append(event.order + pack(origin, offset, length))
            offset += length
        self._count += len(events)
        if len(self._entries) >= self._max_entries:
            self._write_part()

    def iterate(self) -> Iterator[bytes]:
        """Yield every entry, ascending; `split_entry` takes one apart.

        Raises:
            DiskError: a part file cannot be read.
        """
        self._entries.sort()
        if not self._parts:
            return iter(self._entries)
        return heapq.merge(iter(self._entries), *map(_read_part, self._parts))

    def _write_part(self) -> None:
        path = self._folder / f"order-{len(self._parts):05}.part"
        self._entries.sort()
        descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        with explain_disk("write to", path), os.fdopen(descriptor, "wb") as file:
            for start in range(0, len(self._entries), _BATCH):
                marshal.dump(self._entries[start : start + _BATCH], file)
        self._parts.append(path)
        self._entries.clear()


def _read_part(path: Path) -> Iterator[bytes]:
    # marshal is safe here: the file is private and was written by this very process
    with explain_disk("read", path), path.open("rb") as file:
        while True:
            try:
                batch = marshal.load(file)  # noqa: S302
            except EOFError:
                return
            yield from batch
