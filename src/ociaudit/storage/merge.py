"""The event log, and its events in canonical order, each record once.

The log (`events.log`) is a sequence of blocks and, at most once, a compression dictionary; the journal records where
each begins. A block holds the events of one page: the number of frames and the length of each (32 bits,
little-endian), then the frames. A frame is one event, compressed with zstd and the dictionary trained on the run's
first events. Events that arrived before there was a dictionary are compressed without one; a reader that has the
dictionary reads both.

Three parts build on the log. `ExternalSort` sorts more byte strings than fit in memory. `EventIndex` sorts where
the events are in the log, without their bytes. `CanonicalReader` reads the events in that order, drops repeated
records and counts.

An entry of the index is an event's `order` (`events/event.py`), followed by its origin, offset and length, so that
comparing entries compares (instant of `eventTime`, `eventId`, origin, offset).

Invariants
- Given the dictionary, every frame can be read alone: only the frames requested are decompressed.
- A frame carries a checksum of its event: damaged bytes are rejected, never published.
- Reading many events takes few system calls: frames that are close together in the log are read together.
- The order is (instant of `eventTime`, `eventId`, bytes). It depends on the records alone, not on how, when or how
  often they were read.
- Records that are identical byte for byte are returned once. So are records with the same JSON value in other bytes,
  as the smallest of these; they count apart. Records that share an id and differ in value are all returned.
- Memory does not grow with the log, except for 260 bytes per record that shares its time and id with others, for one
  such group at a time.
- The part files on disk are disposable: they belong to this process, and the next one writes them again.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import marshal
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, groupby, islice
from operator import itemgetter
from pathlib import Path

import zstandard

from ociaudit.errors import CorruptRun
from ociaudit.events.event import Event, encode_instant, extract_event_id, read_event_id
from ociaudit.events.fields import UNREADABLE_INSTANT, replace_surrogates
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


Location = tuple[int, int, int]
"""Where an event is: the number of its target, its frame's offset in the log and the frame's length in bytes."""
_LOCATION = struct.Struct(">IQI")
"""A location as the end of an index entry; big-endian, so that bytes compare like numbers."""
SUFFIX_BYTES = _LOCATION.size
_split_order = itemgetter(slice(None, -SUFFIX_BYTES))
_FIRST_READABLE = encode_instant(UNREADABLE_INSTANT + 1)

_ENTRIES_PER_WRITE = 512
_EVENTS_PER_READ = 1_000
_GROUP_IN_BATCH = 8
_GROUP_IN_MEMORY = 2_000
_IDS_IN_MEMORY = 200_000
_MAX_CONFLICTS_LISTED = 1_000


class ExternalSort:
    """Sorts byte strings; full chunks go to part files, which are merged when the result is read."""

    def __init__(self, folder: Path, name: str, *, max_entries: int) -> None:
        """Keep at most `max_entries` entries in memory and write part files `<name>-<number>.part` to `folder`."""
        self._folder = folder
        self._name = name
        self._max_entries = max_entries
        self._parts: list[Path] = []
        self.pending: list[bytes] = []
        """The entries since the last part file: append here, then call `write_if_full`."""

    def write_if_full(self) -> None:
        """Write a part file if a chunk's worth of entries is in memory.

        Raises:
            DiskError: it cannot be written.
        """
        if len(self.pending) >= self._max_entries:
            self._write_part()

    def iterate(self) -> Iterator[bytes]:
        """Yield every entry once, ascending; may be called again.

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
            for start in range(0, len(self.pending), _ENTRIES_PER_WRITE):
                marshal.dump(self.pending[start : start + _ENTRIES_PER_WRITE], file)
        self._parts.append(path)
        self.pending.clear()


def _read_part(path: Path) -> Iterator[bytes]:
    # marshal is safe here: the file is private, and this very process wrote it
    with explain_disk("read", path), path.open("rb") as file:
        while True:
            try:
                batch = marshal.load(file)  # noqa: S302
            except EOFError:
                return
            yield from batch


class EventIndex:
    """Collects where the events are in the log, and returns that in canonical order."""

    def __init__(self, folder: Path, *, max_entries: int = 200_000) -> None:
        """Write part files to `folder`; at most `max_entries` entries of about 150 bytes stay in memory."""
        self.folder = folder
        self._sort = ExternalSort(folder, "order", max_entries=max_entries)
        self._count = 0

    def __len__(self) -> int:
        """Return how many events have been added."""
        return self._count

    def add(self, events: Sequence[Event], *, origin: int, offset: int, lengths: Sequence[int]) -> None:
        """Add events whose frames have these lengths and follow each other in the log from `offset` on.

        Raises:
            DiskError: a part file cannot be written.
        """
        pack = _LOCATION.pack
        append = self._sort.pending.append
        for event, length in zip(events, lengths, strict=True):
            append(event.order + pack(origin, offset, length))
            offset += length
        self._count += len(events)
        self._sort.write_if_full()

    def iterate(self) -> Iterator[bytes]:
        """Yield every entry, ascending; `split_location` returns where its event is.

        Raises:
            DiskError: a part file cannot be read.
        """
        return self._sort.iterate()


def split_location(entry: bytes) -> Location:
    """Return where an entry's event is; everything before the last `SUFFIX_BYTES` bytes is the event's order."""
    return _LOCATION.unpack_from(entry, len(entry) - SUFFIX_BYTES)


@dataclass(slots=True)
class MergeCounts:
    """What a pass over the log has counted."""

    written: int = 0
    identical: int = 0
    """Records that were dropped because they repeat another one byte for byte."""
    reserialised: int = 0
    """Records that were dropped because they have the JSON value of another one, in other bytes."""
    conflicting_count: int = 0
    """Ids that have more than one record."""
    conflicting_ids: list[str] = field(default_factory=list)
    """The first thousand of them."""
    first_order: bytes = b""
    """The order of the first event with a readable `eventTime`; empty if there is none."""
    last_order: bytes = b""
    """The order of the last event; empty if there is none."""
    outside: int = 0
    """Events with a readable `eventTime` outside the given bounds."""
    unreadable: int = 0
    """Events without a readable `eventTime`."""


def digest_value(raw: bytes) -> bytes:
    """Return a hash that two records share if they are the same JSON value: keys in any order, numbers as written.

    What the scanner cannot read, such as very deep nesting, is the same only if its bytes are.
    """
    try:
        value = _parse_value(raw.decode("utf-8", "surrogatepass"))
        text = repr(value)
    except (ValueError, RecursionError):
        return hashlib.sha256(raw).digest()
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _sort_pairs(pairs: list[tuple[str, object]]) -> tuple[str, list[tuple[str, object]]]:
    """Return an object as something that is not a list; values of a repeated key keep their order."""
    return "object", sorted(pairs, key=itemgetter(0))


_parse_value = json.JSONDecoder(
    object_pairs_hook=_sort_pairs,
    parse_int=lambda text: ("number", text),
    parse_float=lambda text: ("number", text),
).decode


class CanonicalReader:
    """Reads the log in canonical order, once, and counts."""

    def __init__(self, index: EventIndex, log: LogReader, *, start: int, end: int) -> None:
        """Count events before the instant `start`, and at or after `end`, as outside."""
        self._index = index
        self._log = log
        self._start = encode_instant(start)
        self._end = encode_instant(end)
        self._ids = ExternalSort(index.folder, "ids", max_entries=_IDS_IN_MEMORY)
        self.counts = MergeCounts()

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        """Yield (event, number of its origin); `counts` is complete afterwards.

        Raises:
            DiskError: the log or the index cannot be read.
            CorruptRun: the log is damaged.
        """
        groups: list[list[bytes]] = []
        waiting = 0
        for _, entries in groupby(self._index.iterate(), key=_split_order):
            group = list(entries)
            if len(group) > _GROUP_IN_BATCH:
                yield from self._read_groups(groups)
                groups, waiting = [], 0
                yield from self._merge_group(group)
                continue
            groups.append(group)
            waiting += len(group)
            if waiting >= _EVENTS_PER_READ:
                yield from self._read_groups(groups)
                groups, waiting = [], 0
        yield from self._read_groups(groups)
        self._count_conflicts()

    def iterate_all(self) -> Iterator[tuple[bytes, bytes, int]]:
        """Yield (order, event, number of its origin), repeated records included, those by origin; nothing is counted.

        Raises:
            DiskError: the log or the index cannot be read.
            CorruptRun: the log is damaged.
        """
        orders: list[bytes] = []
        locations: list[Location] = []
        for order, group in groupby(self._index.iterate(), key=_split_order):
            first, *others = map(split_location, group)
            if not others:
                orders.append(order)
                locations.append(first)
                if len(locations) < _EVENTS_PER_READ:
                    continue
            yield from self._read_ordered(orders, locations)
            orders, locations = [], []
            if others:
                for raw, origin in self._sort_by_bytes([first, *others]):
                    yield order, raw, origin
        yield from self._read_ordered(orders, locations)

    def _read_ordered(
        self, orders: Sequence[bytes], locations: Sequence[Location]
    ) -> Iterator[tuple[bytes, bytes, int]]:
        for order, (raw, origin) in zip(orders, self._read_locations(locations), strict=True):
            yield order, raw, origin

    def _read_locations(self, locations: Sequence[Location]) -> Iterable[tuple[bytes, int]]:
        origins, offsets, lengths = zip(*locations, strict=True) if locations else ((), (), ())
        return zip(self._log.read_many(offsets, lengths), origins, strict=True)

    def _read_groups(self, groups: list[list[bytes]]) -> Iterable[tuple[bytes, int]]:
        """Return the distinct records of small groups; nearly all have one record, alone with its time and id."""
        entries = list(chain.from_iterable(groups))
        records = iter(self._read_locations(list(map(split_location, entries))))
        if len(entries) == len(groups):
            self._count_records(list(map(_split_order, entries)))
            return records
        distinct: list[tuple[bytes, int]] = []
        orders: list[bytes] = []
        for group in groups:
            found = list(islice(records, len(group)))
            distinct += self._drop_repeats(sorted(found)) if len(found) > 1 else found
            orders += [_split_order(group[0])] * (len(distinct) - len(orders))
        self._count_records(orders)
        return distinct

    def _merge_group(self, entries: list[bytes]) -> Iterator[tuple[bytes, int]]:
        """Yield the distinct records of a large group, in the order of their bytes."""
        order = _split_order(entries[0])
        for record in self._drop_repeats(self._sort_by_bytes(list(map(split_location, entries)))):
            self._count_records([order])
            yield record

    def _drop_repeats(self, records: Iterable[tuple[bytes, int]]) -> Iterator[tuple[bytes, int]]:
        """Yield the distinct ones among records that share time and id, given in the order of their bytes."""
        previous: bytes | None = None
        values: set[bytes] = set()
        for raw, origin in records:
            if raw == previous:
                self.counts.identical += 1
                continue
            if previous is not None:
                values = values or {digest_value(previous)}
                value = digest_value(raw)
                if value in values:
                    self.counts.reserialised += 1
                    previous = raw
                    continue
                values.add(value)
            previous = raw
            yield raw, origin

    def _sort_by_bytes(self, group: list[Location]) -> Iterator[tuple[bytes, int]]:
        """Yield (record, origin), ascending; parts of a large group are sorted first and read again for the merge."""
        parts: list[list[Location]] = []
        for start in range(0, len(group), _GROUP_IN_MEMORY):
            part = group[start : start + _GROUP_IN_MEMORY]
            part.sort(key=self._read_sort_key)
            parts.append(part)
        return heapq.merge(*(map(self._read_sort_key, part) for part in parts))

    def _read_sort_key(self, location: Location) -> tuple[bytes, int]:
        origin, offset, length = location
        return self._log.read(offset, length), origin

    def _count_records(self, orders: Sequence[bytes]) -> None:
        """Count records, given in canonical order."""
        if not orders:
            return
        counts = self.counts
        counts.written += len(orders)
        self._ids.pending.extend(map(extract_event_id, orders))
        self._ids.write_if_full()
        counts.last_order = orders[-1]
        if counts.first_order and self._start <= orders[0] and orders[-1] < self._end:
            return  # all are readable and inside
        for order in orders:
            if order < _FIRST_READABLE:
                counts.unreadable += 1
                continue
            counts.first_order = counts.first_order or order
            counts.outside += not self._start <= order < self._end

    def _count_conflicts(self) -> None:
        """Count the ids that have more than one written record; the records' times may differ."""
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
