"""Events as compressed frames, and frames as the blocks that stand in the log.

Owns: the form of a block and of the compression. Must not: write files.

A block is one page: the number of frames and the length of each (32 bits, little-endian), then the frames.
A frame is one event, compressed with zstd against a dictionary trained on the run's first events; events that
came before there was a dictionary are compressed without, and a reader that has it reads both.

Invariants
- Every frame can be read alone, given the dictionary; nothing but the frame's bytes is decompressed for it.
- A frame carries a checksum of its event: what the disk changed is refused, not published.

Single events read out of the log.

Owns: the reading. Must not: know which events count.

Invariants
- Many events are read in few calls: what stands close together in the log is read at once, and decompressed at once.
- Nothing but the frames asked for is decompressed.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import zstandard

from ociaudit.errors import CorruptRun
from ociaudit.storage.atomic_io import explain_disk, open_private

DICTIONARY_BYTES = 64 * 1024
_LEVEL = 1
_COUNT = struct.Struct("<I")


class BadBlock(ValueError):
    """A block or frame that this program did not write."""


class FrameCodec:
    """Compresses and decompresses single events."""

    def __init__(self, dictionary: bytes | None = None) -> None:
        """Work with a trained dictionary, or without."""
        data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        if data is not None:
            data.precompute_compress(level=_LEVEL)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=data, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=data)

    def compress(self, events: Sequence[bytes]) -> list[bytes]:
        """Return a frame for each event, none of which is empty; one call for many is a third quicker."""
        if not events:
            return []
        frames = self._compressor.multi_compress_to_buffer(list(events))
        return [frames[number].tobytes() for number in range(len(frames))]

    def decompress(self, frame: bytes) -> bytes:
        """Return the event.

        Raises:
            BadBlock: the bytes are no frame of this dictionary.
        """
        try:
            return self._decompressor.decompress(frame)
        except zstandard.ZstdError as error:
            raise BadBlock(f"a frame cannot be decompressed: {error}") from error

    def decompress_many(self, frames: Sequence[bytes | memoryview]) -> list[bytes]:
        """Return the event of each frame.

        Raises:
            BadBlock: one of them is no frame of this dictionary; which one is not told.
        """
        if not frames:
            return []
        try:
            events = self._decompressor.multi_decompress_to_buffer(list(frames))
        except (zstandard.ZstdError, ValueError) as error:
            raise BadBlock(f"a frame cannot be decompressed: {error}") from error
        return [events[number].tobytes() for number in range(len(events))]


def train_dictionary(samples: Sequence[bytes]) -> bytes | None:
    """Return a dictionary for events like `samples`, or None when they are too few or too odd to learn from."""
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, list(samples), d=8, steps=1).as_bytes()
    except zstandard.ZstdError:
        return None


def build_block(frames: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Return the block that holds `frames`, and the length of each."""
    lengths = [len(frame) for frame in frames]
    return struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths) + b"".join(frames), lengths


def measure_head(count: int) -> int:
    """Return the bytes before the first of `count` frames in a block."""
    return _COUNT.size * (count + 1)


def read_lengths(block: bytes) -> list[int]:
    """Return the lengths of a block's frames.

    Raises:
        BadBlock: the lengths do not add up to the block.
    """
    try:
        (count,) = _COUNT.unpack_from(block)
        lengths = list(struct.unpack_from(f"<{count}I", block, _COUNT.size))
    except struct.error as error:
        raise BadBlock("a block of the log is too short for its own head") from error
    if measure_head(count) + sum(lengths) != len(block):
        raise BadBlock("the frames of a block do not add up to its length")
    return lengths


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
