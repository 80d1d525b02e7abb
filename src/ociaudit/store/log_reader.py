"""Single events read out of the log.

Owns: the reading. Must not: know which events count.

Invariants
- Many events are read in few calls: what stands close together in the log is read at once, and decompressed at once.
- Nothing but the frames asked for is decompressed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ociaudit.errors import CorruptRun
from ociaudit.store.durable import explain_disk, open_private
from ociaudit.store.frames import BadBlock, FrameCodec

_MAX_GAP_BYTES = 4 * 1024
"""How much may lie between two frames that are read in one call: reading it costs less than another call."""


class LogReader:
    """Reads single events out of the log."""

    def __init__(self, path: Path, codec: FrameCodec) -> None:
        """Open the log at `path`.

        Raises:
            DiskError: it cannot be opened.
        """
        self._path = path
        self._codec = codec
        self._descriptor = open_private(path, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        """Return the event whose frame stands at `offset`.

        Raises:
            DiskError: the log cannot be read.
            CorruptRun: no frame stands there.
        """
        try:
            return self._codec.decompress(self._pread(length, offset))
        except BadBlock as error:
            raise CorruptRun(
                f"{self._path} is damaged at byte {offset}: {error}",
                hint="run the same command again: damaged pages are found and asked again",
            ) from error

    def read_many(self, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Return the events whose frames stand at these offsets, in this order.

        Raises:
            DiskError, CorruptRun: as `read`.
        """
        frames: list[memoryview] = [memoryview(b"")] * len(offsets)
        for numbers in _find_neighbours(offsets, lengths):
            start, last = offsets[numbers[0]], numbers[-1]
            span = memoryview(self._pread(offsets[last] + lengths[last] - start, start))
            for number in numbers:
                position = offsets[number] - start
                frames[number] = span[position : position + lengths[number]]
        try:
            return self._codec.decompress_many(frames)
        except BadBlock:
            return list(map(self.read, offsets, lengths))  # which tells the one that is damaged

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError:
            with explain_disk("read", self._path):
                raise


def _find_neighbours(offsets: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield the numbers of frames that stand close together, each group in the order of the log."""
    group: list[int] = []
    end = 0
    for number in sorted(range(len(offsets)), key=offsets.__getitem__):
        if group and offsets[number] > end + _MAX_GAP_BYTES:
            yield group
            group = []
        group.append(number)
        end = offsets[number] + lengths[number]
    if group:
        yield group
