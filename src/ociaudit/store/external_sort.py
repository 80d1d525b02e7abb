"""Byte strings sorted outside memory.

Owns: the part files. Must not: know what the entries mean.

Entries are sorted in chunks; full chunks go to part files, which are merged when the order is asked for.

Invariants
- Everything added comes out once, in ascending order, as often as it is asked for.
- At most `max_entries` entries are in memory, and one batch per part file while merging.
- The part files are disposable: they belong to this process and are made again by the next.
"""

from __future__ import annotations

import heapq
import marshal
import os
from collections.abc import Iterator
from pathlib import Path

from ociaudit.store.durable import explain_disk, open_private

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
