"""The format of the event log: events compressed one by one, stored page by page, and read back singly or in batches.

The log (`events.log`) is a sequence of blocks and, at most once, a compression dictionary; the journal records where
each begins. A block holds the events of one page: the number of frames and the length of each (32 bits,
little-endian), then the frames. A frame is one event, compressed with zstd and the dictionary trained on the run's
first events. Events that arrived before there was a dictionary are compressed without one; a reader that has the
dictionary reads both.

Invariants
- Given the dictionary, every frame can be read alone: only the frames requested are decompressed.
- A frame carries a checksum of its event: damaged bytes are rejected, never published.
- Reading many events takes few system calls: frames that are close together in the log are read together.
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
_MAX_GAP_BYTES = 4 * 1024
"""Frames up to this far apart are read in one call: reading the gap costs less than another call."""


class BadBlock(ValueError):
    """A block or frame that this program did not write, or that is damaged."""


class FrameCodec:
    """Compresses and decompresses single events."""

    def __init__(self, dictionary: bytes | None = None) -> None:
        """Use a trained dictionary, or none."""
        data = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        if data is not None:
            data.precompute_compress(level=_LEVEL)
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL, dict_data=data, write_checksum=True)
        self._decompressor = zstandard.ZstdDecompressor(dict_data=data)

    def compress(self, events: Sequence[bytes]) -> list[bytes]:
        """Return the frame of each event; no event may be empty. One call for many events is a third faster."""
        if not events:
            return []
        frames = self._compressor.multi_compress_to_buffer(list(events))
        return [frames[number].tobytes() for number in range(len(frames))]

    def decompress(self, frame: bytes) -> bytes:
        """Return the event of a frame.

        Raises:
            BadBlock: the bytes are not a frame of this dictionary.
        """
        try:
            return self._decompressor.decompress(frame)
        except zstandard.ZstdError as error:
            raise BadBlock(f"a frame cannot be decompressed: {error}") from error

    def decompress_many(self, frames: Sequence[bytes | memoryview]) -> list[bytes]:
        """Return the event of each frame.

        Raises:
            BadBlock: at least one of them is not a frame of this dictionary; the error does not say which.
        """
        if not frames:
            return []
        try:
            events = self._decompressor.multi_decompress_to_buffer(list(frames))
        except (zstandard.ZstdError, ValueError) as error:
            raise BadBlock(f"a frame cannot be decompressed: {error}") from error
        return [events[number].tobytes() for number in range(len(events))]


def train_dictionary(samples: Sequence[bytes]) -> bytes | None:
    """Return a dictionary for events like `samples`, or None if they are too few or too uniform to train one."""
    try:
        return zstandard.train_dictionary(DICTIONARY_BYTES, list(samples), d=8, steps=1).as_bytes()
    except zstandard.ZstdError:
        return None


def build_block(frames: Sequence[bytes]) -> tuple[bytes, list[int]]:
    """Return the block that holds `frames`, and the length of each frame in bytes."""
    lengths = [len(frame) for frame in frames]
    return struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths) + b"".join(frames), lengths


def measure_header(count: int) -> int:
    """Return how many bytes a block of `count` frames has before its first frame."""
    return _COUNT.size * (count + 1)


def read_lengths(block: bytes) -> list[int]:
    """Return the lengths of a block's frames, in bytes.

    Raises:
        BadBlock: the lengths do not add up to the length of the block.
    """
    try:
        (count,) = _COUNT.unpack_from(block)
        lengths = list(struct.unpack_from(f"<{count}I", block, _COUNT.size))
    except struct.error as error:
        raise BadBlock("a block of the event log is shorter than its header") from error
    if measure_header(count) + sum(lengths) != len(block):
        raise BadBlock("the frames of a block do not add up to its length")
    return lengths


class LogReader:
    """Reads events from the log by offset and length."""

    def __init__(self, path: Path, codec: FrameCodec) -> None:
        """Open the log at `path`.

        Raises:
            DiskError: it cannot be opened.
        """
        self._path = path
        self._codec = codec
        self._descriptor = open_private(path, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        """Return the event whose frame has `length` bytes from `offset` on.

        Raises:
            DiskError: the log cannot be read.
            CorruptRun: there is no sound frame at `offset`.
        """
        try:
            return self._codec.decompress(self._pread(length, offset))
        except BadBlock as error:
            raise CorruptRun(
                f"{self._path} is damaged at byte {offset}: {error}",
                hint="run the same command again: it finds the damaged pages and fetches them again",
            ) from error

    def read_many(self, offsets: Sequence[int], lengths: Sequence[int]) -> list[bytes]:
        """Return the events whose frames begin at these offsets, in this order.

        Raises:
            DiskError, CorruptRun: as `read`.
        """
        frames: list[memoryview] = [memoryview(b"")] * len(offsets)
        for numbers in _group_neighbours(offsets, lengths):
            start, last = offsets[numbers[0]], numbers[-1]
            span = memoryview(self._pread(offsets[last] + lengths[last] - start, start))
            for number in numbers:
                position = offsets[number] - start
                frames[number] = span[position : position + lengths[number]]
        try:
            return self._codec.decompress_many(frames)
        except BadBlock:
            return list(map(self.read, offsets, lengths))  # raises for the frame that is damaged

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)

    def _pread(self, length: int, offset: int) -> bytes:
        try:
            return os.pread(self._descriptor, length, offset)
        except OSError:
            with explain_disk("read", self._path):
                raise


def _group_neighbours(offsets: Sequence[int], lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield groups of frame numbers that are close together in the log, each group in the order of the log."""
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
