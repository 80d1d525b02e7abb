"""The canonical order of what the log holds.

Owns: what an entry of the index is. Must not: read events; it orders what it was told of them.

An entry is bytes: the event's `order`, then its origin, offset and length in the log, so that comparing
entries compares (instant, id, origin, offset).

Invariant: everything added comes out once, in ascending order; memory does not grow with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

from ociaudit.events.event import Event
from ociaudit.store.external_sort import ExternalSort

_SUFFIX = struct.Struct(">IQI")
"""Origin, offset and length, behind an event's order; big-endian, so that bytes compare like numbers."""
SUFFIX_BYTES = _SUFFIX.size

Location = tuple[int, int, int]
"""Where an event stands: the number of the place it was asked from, its frame's offset in the log, its length."""


def split_location(entry: bytes) -> Location:
    """Return where an entry's event stands; what is before the last `SUFFIX_BYTES` is its order."""
    return _SUFFIX.unpack_from(entry, len(entry) - SUFFIX_BYTES)


class OrderIndex:
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
