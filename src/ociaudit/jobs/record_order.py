"""Records of any files in canonical order, each once.

Owns: the scratch file in which they wait. Order and identity are those of `store.canonical`, as in an export.

Invariants
- Memory does not grow with the records: they wait compressed in one private file, their order in part files.
- A record that several files hold is given out once; if only some of them know its origin, with that origin.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path

from ociaudit.errors import UnreadableInput
from ociaudit.events.page import BadPage, cut_page
from ociaudit.formats.record import Record
from ociaudit.plan.shard import Place
from ociaudit.store.canonical import CanonicalReader, MergeCounts
from ociaudit.store.durable import make_private_folder, open_private, write_all
from ociaudit.store.frames import FrameCodec, train_dictionary
from ociaudit.store.index import OrderIndex
from ociaudit.store.log_reader import LogReader

_UNKNOWN_ORIGIN = 2**32 - 1
"""Sorts behind every known one, so that of equal records the one with an origin is kept."""
_END = 2**71
_SAMPLE_EVENTS = 400


class OrderedRecords:
    """Takes records in any order and gives them back in canonical order."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`, which is private, empty, and removed by the caller."""
        make_private_folder(folder)
        self._path = folder / "records"
        self._index = OrderIndex(folder)
        self._descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._codec: FrameCodec | None = None
        self._offset = 0
        self._numbers: dict[Place | None, int] = {None: _UNKNOWN_ORIGIN}
        self._places: list[Place] = []
        self.counts = MergeCounts()
        """What the merge met; filled while the records are given out."""

    def add(self, records: Sequence[Record]) -> None:
        """Take records.

        Raises:
            DiskError: there is no room.
        """
        for origin, group in groupby(records, key=lambda record: record.origin):
            self._add([record.raw for record in group], self._number_origin(origin))

    def iterate(self) -> Iterator[Record]:
        """Yield the records, once.

        Raises:
            DiskError: they cannot be read back.
        """
        reader = LogReader(self._path, self._codec or FrameCodec())
        with contextlib.closing(reader):
            merge = CanonicalReader(self._index, reader, start=0, end=_END)
            self.counts = merge.counts
            for raw, number in merge:
                yield Record(raw, None if number == _UNKNOWN_ORIGIN else self._places[number])

    def close(self) -> None:
        """Close the scratch file."""
        os.close(self._descriptor)

    def _add(self, raws: list[bytes], origin: int) -> None:
        if self._codec is None:
            self._codec = FrameCodec(train_dictionary(raws[:_SAMPLE_EVENTS]))
        frames = self._codec.compress(raws)
        write_all(self._descriptor, b"".join(frames), self._path)
        try:
            events = cut_page(b"[" + b",".join(raws) + b"]")
        except BadPage as error:  # what a reader gives is valid JSON, but one may be nested too deeply for this
            raise UnreadableInput(f"an event cannot be put in order: {error}", hint="convert without --sort") from error
        lengths = list(map(len, frames))
        self._index.add(events, origin=origin, offset=self._offset, lengths=lengths)
        self._offset += sum(lengths)

    def _number_origin(self, origin: Place | None) -> int:
        number = self._numbers.get(origin)
        if number is None:
            number = self._numbers[origin] = len(self._places)
            if origin is not None:
                self._places.append(origin)
        return number


@contextmanager
def order_records(scratch: Path, batches: Iterable[Sequence[Record]]) -> Iterator[OrderedRecords]:
    """Take all records of `batches`; `scratch` is a folder name that is free to use."""
    ordered = OrderedRecords(scratch)
    with contextlib.closing(ordered):
        for batch in batches:
            ordered.add(batch)
        yield ordered
