"""The segments of an archive: immutable Parquet files with the events of one date each, in canonical order.

New events are merged with the live segments of their dates. A date that gains events gets one more segment. A date is
rewritten into a single segment when a stored record has to change: another serialisation of it has smaller bytes, or a
smaller target served the same bytes. Compaction is the same rewrite without new events.

Invariants
- A live segment is never modified, and nothing is removed. What a killed process leaves is unreferenced.
- The canonical order is (instant of `eventTime`, `eventId`, bytes). No two rows of a date have the same instant, id and
  JSON value: of several serialisations the smallest bytes are kept, with the smallest target that served them. So the
  rows of a date depend on the records alone, and not on when and in how many parts they arrived.
- A segment's name is derived from its rows: equal rows have an equal name and, from equal versions of the writer, equal
  bytes.
- Memory holds the records of one microsecond, or all those of unreadable time, and row groups; not a date or a run.
  Scratch files are private to the process and disposable.
- A path is checked before it is opened: it matches `SEGMENT_PATH`, no part of it below the archive is a symbolic link,
  and all are on the archive's device.
"""

# Over 700 lines: writing, merging, compacting, reading and checking a segment share one order and one set of columns.

from __future__ import annotations

import errno
import hashlib
import heapq
import os
import stat
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import chain, groupby, islice, pairwise
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Any, Self

import msgspec
import zstandard

from ociaudit.archive.commit import SEGMENT_PATH, UNKNOWN_DATE, EventCounts, SegmentEntry
from ociaudit.errors import CorruptRun, DiskError, format_count
from ociaudit.events.event import (
    BadPage,
    encode_instant,
    encode_order,
    extract_event_id,
    read_event,
    read_instant_of,
)
from ociaudit.events.fields import UNREADABLE_INSTANT, instant_of_minute, minute_of_instant, read_facts, read_instant
from ociaudit.formats.base import EventEncoder, Record, make_target
from ociaudit.formats.parquet import (
    SEGMENT_COLUMNS,
    Engine,
    Parquet,
    connect_writer,
    describe_engine_error,
    make_segment_row,
)
from ociaudit.planning.shard import MINUTES_PER_DAY, Target, format_minute
from ociaudit.storage.atomic_io import explain_disk, make_private_folder, new_file, write_all
from ociaudit.storage.merge import digest_value

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

EVENTS_FOLDER, REPLACED_FOLDER = "events", "replaced"
OnAdded = Callable[[bytes, Target | None, bytes], None]
"""Gets (raw, origin, order) of an added record."""
OrderedEvent = tuple[bytes, bytes, Target | None]
"""An event as (order, raw, origin)."""
Check = Callable[[], None]
"""Called often, from any thread; may raise to stop."""
_Origin = tuple[bool, str, str]
"""An origin as it sorts: (is unknown, region, compartment)."""
_Item = tuple[bytes, bytes, _Origin]
"""A record as it sorts: (order, raw, origin)."""
_StoredKey = tuple[int, str | None, str, _Origin]
"""What identifies a stored record without its bytes: (microsecond, `event_id`, `event_sha256`, origin)."""

_FIRST_MICROSECOND = instant_of_minute(0) // 1_000
_NO_MICROSECOND = -_FIRST_MICROSECOND - 1
"""The microsecond of an unreadable time; sorts before every other."""
_MICROSECONDS = 1_000_000
_EVENTS_PER_BATCH = 1_000
_EVENTS_PER_FRAME = 500
_FILES_PER_READ = 64
"""How many files are open at the same time; macOS allows 256 to a process."""
_BYTES_PER_READ = 1024 * 1024
_LENGTH_BYTES = 4
_ID_DIGITS = 32
_ENGINE_MEMORY = "1GiB"
_PARQUET_MAGIC = b"PAR1"
_PARQUET_TAIL_BYTES = 8
"""The length of the footer, and the magic number."""
_NOT_A_FILE = frozenset({errno.ELOOP, errno.ENOTDIR})
_RESTORE_HINT = "restore the file from a backup; nothing in the archive has been changed"
_KEY_COLUMNS = (
    f"coalesce(epoch_us(event_time), {_NO_MICROSECOND}) AS microsecond, event_id, event_sha256, origin_region, "
    "origin_compartment"
)
_RECORD_COLUMNS = (
    f"coalesce(epoch_us(event_time), {_NO_MICROSECOND}) AS microsecond, event, origin_region, origin_compartment"
)


class _OrderFields(msgspec.Struct, gc=False, rename="camel"):
    """The fields that give an event its place."""

    event_time: str | None = None
    event_id: str | None = None


_order_decoder = msgspec.json.Decoder(list[_OrderFields])
_frame_encoder = msgspec.msgpack.Encoder()
_frame_decoder = msgspec.msgpack.Decoder(list[_Item])


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What a merge did: `added` segments are on stable storage, `replaced` paths are no longer part of the archive.

    `received` = `added` + `known` + `identical` + `reserialised`. `conflicting` counts the pairs of time and id that
    gained a record and have more than one; `own` is not counted. `record_ids` holds the SHA-256 of every added record,
    32 bytes each, by date and in canonical order.
    """

    added: tuple[SegmentEntry, ...]
    replaced: tuple[str, ...]
    counts: EventCounts
    record_ids: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(slots=True)
class _Tally:
    """`EventCounts` while it is being counted."""

    received: int = 0
    added: int = 0
    known: int = 0
    identical: int = 0
    reserialised: int = 0
    conflicting: int = 0

    def freeze(self) -> EventCounts:
        return EventCounts(
            received=self.received,
            added=self.added,
            known=self.known,
            identical=self.identical,
            reserialised=self.reserialised,
            conflicting=self.conflicting,
        )


def merge_events(
    archive: Path,
    live: Mapping[str, Sequence[SegmentEntry]],
    events: Iterable[tuple[bytes, Target | None]],
    **given: Any,
) -> MergeResult:
    """Do what `merge_ordered` does with events that are (raw, origin): their order is read from them."""
    return merge_ordered(archive, live, _order_events(events), **given)


def merge_ordered(
    archive: Path,
    live: Mapping[str, Sequence[SegmentEntry]],
    events: Iterable[OrderedEvent],
    *,
    scratch: Path,
    on_added: OnAdded | None = None,
    engine: Engine | None = None,
    check: Check = lambda: None,
) -> MergeResult:
    """Write the events that the archive does not have into new segments.

    `live` are the live segments by date. `events` come in canonical order, then by origin; repeated ones
    are dropped and counted. `on_added` gets each added record once, in canonical order. `scratch` is a private folder
    that nothing else uses meanwhile. `engine` is one from `open_engine` that several calls share. What `check` raises
    ends the merge; segments that are complete by then are unreferenced.

    Raises:
        CorruptRun: a live segment of a touched date is missing, damaged or not a plain file of the archive.
        DiskError: a segment or a scratch file cannot be written.
        ValueError: the events are not in canonical order.
    """
    tally = _Tally()
    with _use_engine(engine, scratch) as shared, _SegmentWriter(archive, scratch, shared, check) as writer:
        merge = _Merge(writer, tally, on_added)
        for date, items in groupby(_reduce(_read_items(events, tally), tally), key=_DateFinder().find):
            merge.merge_date(date, live.get(date, ()), items)
        added, replaced = tuple(sorted(writer.finish())), tuple(sorted(merge.replaced))
    return MergeResult(added, replaced, tally.freeze(), merge.record_ids)


def compact_date(
    archive: Path,
    date: str,
    entries: Sequence[SegmentEntry],
    *,
    scratch: Path,
    engine: Engine | None = None,
    check: Check = lambda: None,
) -> SegmentEntry | None:
    """Write all rows of a date's live segments into one; return None if there is nothing to do.

    `scratch`, `engine` and `check` are as in `merge_events`.

    Raises:
        CorruptRun: a segment is missing, damaged or not a plain file of the archive.
        DiskError: the segment cannot be written.
    """
    if len(entries) <= 1:
        return None
    with _use_engine(engine, scratch) as shared, _SegmentWriter(archive, scratch, shared, check) as writer:
        writer.write(date, _reduce(_read_stored(archive, entries, shared), _Tally()))
        return writer.finish()[0]


def read_date(
    archive: Path,
    entries: Sequence[SegmentEntry],
    *,
    scratch: Path,
    engine: Engine | None = None,
    between: tuple[int, int] | None = None,
) -> Iterator[Record]:
    """Yield the records of a date's live segments in canonical order.

    A segment that has been replaced is read from `replaced/`. `scratch` and `engine` are as in `merge_events`. Of
    `between`, two instants, the first is included; None: all records.

    Raises:
        CorruptRun: a segment is missing, damaged or not a plain file of the archive.
    """
    span = None
    if between is not None:
        first, last = between[0], between[1] - 1
        span = (first // 1_000 - _FIRST_MICROSECOND, last // 1_000 - _FIRST_MICROSECOND)
    with _use_engine(engine, scratch) as shared:
        for order, raw, origin in _reduce(_read_stored(archive, entries, shared, span), _Tally()):
            if between is None or between[0] <= read_instant_of(order) < between[1]:
                yield Record(raw, _target_of(origin))


@contextmanager
def open_engine(scratch: Path) -> Iterator[Engine]:
    """Yield a DuckDB that sorts in at most 1 GiB of memory and otherwise in the private folder `scratch`.

    It is started when it is needed first.
    """
    with closing(_LazyEngine(scratch)) as engine:
        yield engine


class _LazyEngine:
    """A DuckDB that is started at the first use: a sync in which nothing happened needs none."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._lock = threading.Lock()
        self._connection: DuckDBPyConnection | None = None

    def cursor(self) -> DuckDBPyConnection:
        with self._lock:
            if self._connection is None:
                folder = str(self._scratch / "duckdb")
                self._connection = connect_writer(temp_directory=folder, memory_limit=_ENGINE_MEMORY)
            return self._connection.cursor()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


@contextmanager
def _use_engine(engine: Engine | None, scratch: Path) -> Iterator[Engine]:
    if engine is not None:
        yield engine
        return
    with open_engine(scratch) as own:
        yield own


class _Merge:
    """Merges new records with the stored ones, date by date."""

    def __init__(self, writer: _SegmentWriter, tally: _Tally, on_added: OnAdded | None) -> None:
        self._writer = writer
        self._archive = writer.archive
        self._scratch = writer.scratch
        self._engine = writer.engine
        self._tally = tally
        self._on_added = on_added
        self.replaced: list[str] = []
        self.record_ids: dict[str, bytes] = {}
        """The SHA-256 of every added record, by date."""

    def merge_date(self, date: str, entries: Sequence[SegmentEntry], new: Iterable[_Item]) -> None:
        """Merge the new records of a date, canonical and each once, with its live segments."""
        if not entries:
            self._write_added(date, self._add(new))
            return
        with closing(_Stage(self._scratch)) as unknown:
            doubtful = self._drop_known(entries, new, unknown)
            if doubtful is None:
                if unknown.count:
                    self._write_added(date, self._add(unknown.read()))
                return
            with closing(_Stage(self._scratch)) as added:
                if not self._classify(entries, doubtful, unknown, added):
                    if added.count:
                        self._write_added(date, added.read())
                    return
                if added.count:
                    self.record_ids[date] = b"".join(hashlib.sha256(raw).digest() for _, raw, _ in added.read())
            stored = _read_stored(self._archive, entries, self._engine)
            self._writer.write(date, _reduce(heapq.merge(stored, unknown.read()), _Tally()))
            self.replaced.extend(entry.path for entry in entries)

    def _write_added(self, date: str, items: Iterable[_Item]) -> None:
        """Write a segment of records all of which are added."""
        if digests := self._writer.write(date, items):
            self.record_ids[date] = digests

    def _add(self, items: Iterable[_Item]) -> Iterator[_Item]:
        """Yield records, each of which is added, and count them."""
        previous, members = b"", 0
        for item in items:
            if item[0] == previous:
                members += 1
                self._count_conflict(previous, members if members == 2 else 0)
            else:
                previous, members = item[0], 1
            self._report(item)
            yield item

    def _report(self, item: _Item) -> None:
        order, raw, origin = item
        self._tally.added += 1
        if self._on_added is not None:
            self._on_added(raw, _target_of(origin), order)

    def _count_conflict(self, order: bytes, members: int) -> None:
        if members > 1 and extract_event_id(order):
            self._tally.conflicting += 1

    def _drop_known(
        self, entries: Sequence[SegmentEntry], new: Iterable[_Item], unknown: _Stage
    ) -> tuple[int, int] | None:
        """Count the records that are stored already, and keep the others in `unknown`, by columns without the events.

        Return the first and last microsecond at which a record shares time and id with a stored one of other bytes, or
        has a smaller origin than the stored one; None if there is no such microsecond.
        """
        doubtful: list[int] = []
        stored: _StoredGroups | None = None
        for microsecond, group in groupby(new, key=_microsecond_of):
            stored = stored or _StoredGroups(_read_keys(self._archive, entries, self._engine, (microsecond, None)))
            rows = stored.find(microsecond)
            origins = {sha256: origin for _, _, sha256, origin in rows}
            ids = {event_id for _, event_id, _, _ in rows}
            for item in group:
                origin = origins.get(hashlib.sha256(item[1]).hexdigest()) if rows else None
                if origin is not None:
                    self._tally.known += 1
                    if item[2] >= origin:
                        continue
                unknown.append(item)
                if origin is not None or (rows and read_facts(item[1]).event_id in ids):
                    doubtful.append(microsecond)
                    doubtful[1:] = doubtful[-1:]
        return (doubtful[0], doubtful[-1]) if doubtful else None

    def _classify(self, entries: Sequence[SegmentEntry], span: tuple[int, int], unknown: _Stage, added: _Stage) -> bool:
        """Compare records with the stored events; return whether a stored record has to change.

        Records that are added go to `added`. Only stored records within `span` can share time and id with a new one.
        """
        stored = ((item, False) for item in _read_stored(self._archive, entries, self._engine, span))
        merged = heapq.merge(stored, ((item, True) for item in unknown.read()))
        has_changed = False
        for number, (order, group) in enumerate(groupby(merged, key=lambda pair: pair[0][0])):
            if number % _EVENTS_PER_BATCH == 0:
                self._writer.check()
            members = list(group)
            if len(members) == 1:
                if members[0][1]:
                    self._keep_added(members[0][0], added)
                continue
            by_value: dict[bytes, list[tuple[_Item, bool]]] = {}
            for member in members:
                by_value.setdefault(digest_value(member[0][1]), []).append(member)
            gained = 0
            for versions in by_value.values():
                if len(versions) == 1 and versions[0][1]:
                    self._keep_added(versions[0][0], added)
                    gained += 1
                elif len(versions) > 1:
                    has_changed |= versions[0][1]
                    self._tally.reserialised += versions[0][0][1] != versions[1][0][1]
            self._count_conflict(order, len(by_value) if gained else 0)
        return has_changed

    def _keep_added(self, item: _Item, added: _Stage) -> None:
        self._report(item)
        added.append(item)


class _StoredGroups:
    """Stored keys, ascending by microsecond, of which one microsecond's are taken at a time."""

    def __init__(self, keys: Iterator[_StoredKey]) -> None:
        self._groups = groupby(keys, key=itemgetter(0))
        self._microsecond: int | None = _NO_MICROSECOND - 1
        self._group: Iterator[_StoredKey] = iter(())

    def find(self, microsecond: int) -> list[_StoredKey]:
        """Return the keys of a microsecond; each call must name a later one."""
        while self._microsecond is not None and self._microsecond < microsecond:
            self._microsecond, self._group = next(self._groups, (None, iter(())))
        return list(self._group) if self._microsecond == microsecond else []


class _Stage:
    """Records in canonical order in a nameless scratch file, written once and then read as often as needed."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._pending: list[_Item] = []
        self._file: IO[bytes] | None = None
        self._compressor = zstandard.ZstdCompressor(level=1)
        self.count = 0

    def append(self, item: _Item) -> None:
        """Add a record.

        Raises:
            DiskError: it cannot be written.
        """
        self.count += 1
        self._pending.append(item)
        if len(self._pending) >= _EVENTS_PER_FRAME:
            self._flush()

    def read(self) -> Iterator[_Item]:
        """Yield the records.

        Raises:
            DiskError: they cannot be read.
        """
        if self._file is None:
            yield from self._pending  # few records need no file
            return
        self._flush()
        decompress = zstandard.ZstdDecompressor().decompress
        with explain_disk("read a scratch file in", self._scratch):
            self._file.seek(0)
            while length := int.from_bytes(self._file.read(_LENGTH_BYTES), "big"):
                yield from _frame_decoder.decode(decompress(self._file.read(length)))

    def close(self) -> None:
        """Delete the file."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()

    def _flush(self) -> None:
        frame = self._compressor.compress(_frame_encoder.encode(self._pending))
        self._pending.clear()
        with explain_disk("write a scratch file in", self._scratch):
            if self._file is None:
                self._file = TemporaryFile(dir=self._scratch)  # noqa: SIM115 - `close` closes it
            self._file.write(len(frame).to_bytes(_LENGTH_BYTES, "big") + frame)
            self._file.flush()


@dataclass(slots=True)
class _Unpublished:
    """A segment whose rows are complete and whose file does not exist yet."""

    date: str
    parquet: Parquet
    digest: Any = field(default_factory=hashlib.sha256)
    rows: int = 0
    hashing: Future[None] | None = None
    """The rows that are being added to the digest."""

    def wait(self) -> None:
        """Wait until the digest covers all rows so far."""
        hashing, self.hashing = self.hashing, None
        if hashing is not None:
            hashing.result()


class _SegmentWriter:
    """Writes segments. While DuckDB converts one and it goes to stable storage, the rows of the next are encoded."""

    def __init__(self, archive: Path, scratch: Path, engine: Engine, check: Check) -> None:
        self.check = check
        self.archive = archive
        self.scratch = scratch
        self.engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="segments")
        self._hashing = ThreadPoolExecutor(1, thread_name_prefix="hashing")
        self._publishing: Future[SegmentEntry] | None = None
        self._entries: list[SegmentEntry] = []
        self._count = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._hashing.shutdown()
        self._thread.shutdown()

    def write(self, date: str, items: Iterable[_Item]) -> bytes:
        """Write a segment with these records, canonical and each once, unless there are none; return their SHA-256s.

        Raises:
            DiskError: this segment or the one before it cannot be written.
        """
        stream = iter(items)
        first = list(islice(stream, _EVENTS_PER_BATCH))
        if not first:
            return b""
        self._count += 1
        parquet = Parquet(
            EventEncoder(),
            self.scratch,
            scratch_name=f"rows-{self._count % 2}.parquet",
            engine=self.engine,
            with_sha256=True,
        )
        segment = _Unpublished(date, parquet)
        with ExitStack() as stack:
            stack.callback(parquet.close)
            parquet.begin()
            for batch in chain([first], iter(lambda: list(islice(stream, _EVENTS_PER_BATCH)), [])):
                self.check()
                self._encode_rows(segment, batch)
            segment.wait()
            self._wait()
            stack.pop_all()
        self._publishing = self._thread.submit(_publish, self.archive, segment, self.check)
        return bytes(parquet.sha256s)

    def _encode_rows(self, segment: _Unpublished, batch: Sequence[_Item]) -> None:
        """Add a batch of rows; while they are encoded, those of this batch are hashed."""
        segment.rows += len(batch)
        rows = b"".join(chain.from_iterable(_frame_row(origin, raw) for _, raw, origin in batch))
        segment.wait()
        segment.hashing = self._hashing.submit(segment.digest.update, rows)
        segment.parquet.write([raw for _, raw, _ in batch], [_target_of(origin) for _, _, origin in batch])

    def finish(self) -> list[SegmentEntry]:
        """Wait until all segments are on stable storage and return them.

        Raises:
            DiskError: one cannot be written.
        """
        self._wait()
        return self._entries

    def _wait(self) -> None:
        publishing, self._publishing = self._publishing, None
        if publishing is not None:
            self._entries.append(publishing.result())


def _frame_row(origin: _Origin, raw: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what `rows_sha256` covers of a row, in parts: region, compartment and event, each after its length."""
    return _frame_origin(origin), len(raw).to_bytes(_LENGTH_BYTES, "big"), raw


@lru_cache(maxsize=4096)
def _frame_origin(origin: _Origin) -> bytes:
    parts = [part.encode() for part in origin[1:]]
    return b"".join(len(part).to_bytes(_LENGTH_BYTES, "big") + part for part in parts)


def _publish(archive: Path, segment: _Unpublished, check: Check) -> SegmentEntry:
    """Give a segment its name, complete and synced."""
    with closing(segment.parquet) as parquet:
        rows_sha256 = segment.digest.hexdigest()
        folder = _make_date_folder(archive, segment.date)
        path = folder / f"{rows_sha256[:_ID_DIGITS]}.parquet"
        digest = hashlib.sha256()
        size = 0
        with new_file(path) as descriptor, closing(parquet.finish()) as pieces:
            for piece in pieces:
                check()
                write_all(descriptor, piece, path)
                digest.update(piece)
                size += len(piece)
    name = path.relative_to(archive).as_posix()
    return SegmentEntry(name, segment.date, segment.rows, size, digest.hexdigest(), rows_sha256)


def _make_date_folder(archive: Path, date: str) -> Path:
    """Return the folder of a date's segments, durable; a symbolic link in its place is refused."""
    path = archive
    for name in (EVENTS_FOLDER, f"event_date={date}"):
        path /= name
        with explain_disk("look into", path):
            is_missing = not os.path.lexists(path)
            is_folder = is_missing or (
                stat.S_ISDIR(path.lstat().st_mode) and path.lstat().st_dev == archive.stat().st_dev
            )
        if not is_folder:
            raise CorruptRun(f"{path} is not a folder of the archive's own disk", hint=_RESTORE_HINT)
        if is_missing:
            make_private_folder(path)
    return path


def _read_items(events: Iterable[OrderedEvent], tally: _Tally) -> Iterator[_Item]:
    """Yield records as they sort, and count them."""
    for order, raw, origin in events:
        tally.received += 1
        yield order, raw, _origin_of(origin)


def _order_events(events: Iterable[tuple[bytes, Target | None]]) -> Iterator[OrderedEvent]:
    stream = iter(events)
    while batch := list(islice(stream, _EVENTS_PER_BATCH)):
        for order, (raw, origin) in zip(_read_orders([raw for raw, _ in batch]), batch, strict=True):
            yield order, raw, origin


def _reduce(items: Iterable[_Item], tally: _Tally) -> Iterator[_Item]:
    """Yield each distinct record of a canonical sequence once: the smallest bytes, the smallest origin.

    Raises:
        ValueError: the order is not canonical.
    """
    previous: _Item = (b"", b"", (False, "", ""))
    values: set[bytes] = set()
    for item in items:
        before, previous = previous, item
        if item[0] > before[0]:
            values = set()
        elif item < before:
            raise ValueError("the events are not in canonical order")
        elif item[1] == before[1]:
            tally.identical += 1
            continue
        else:
            values = values or {digest_value(before[1])}
            value = digest_value(item[1])
            if value in values:
                tally.reserialised += 1
                continue
            values.add(value)
        yield item


def _read_orders(raws: Sequence[bytes]) -> list[bytes]:
    try:
        fields = _order_decoder.decode(b"[" + b",".join(raws) + b"]")
        if len(fields) == len(raws):
            return [encode_order(read_instant(each.event_time), each.event_id or "") for each in fields]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        pass
    return [read_event(raw).order for raw in raws]


def _microsecond_of(item: _Item) -> int:
    """Return the microsecond since 1970 in which a record's `eventTime` lies, as the column `event_time` has it."""
    instant = read_instant_of(item[0])
    return _NO_MICROSECOND if instant == UNREADABLE_INSTANT else instant // 1_000 - _FIRST_MICROSECOND


class _DateFinder:
    """Finds the dates of records in canonical order, by one comparison each for those of the same date."""

    def __init__(self) -> None:
        self._date = ""
        self._end = b""
        """The smallest order of a later date."""

    def find(self, item: _Item) -> str:
        order = item[0]
        if order >= self._end:
            self._date = name_date(order)
            instant = read_instant_of(order)
            after = UNREADABLE_INSTANT + 1
            if instant != UNREADABLE_INSTANT:
                after = instant_of_minute((minute_of_instant(instant) // MINUTES_PER_DAY + 1) * MINUTES_PER_DAY)
            self._end = encode_instant(after)
        return self._date


def name_date(order: bytes) -> str:
    """Return the UTC date of an event by its `order`, `UNKNOWN_DATE` if its time is unreadable."""
    instant = read_instant_of(order)
    return (
        UNKNOWN_DATE if instant == UNREADABLE_INSTANT else _format_date(minute_of_instant(instant) // MINUTES_PER_DAY)
    )


@lru_cache(maxsize=64)
def _format_date(day: int) -> str:
    return format_minute(day * MINUTES_PER_DAY)[:10]


@lru_cache(maxsize=4096)
def _origin_of(target: Target | None) -> _Origin:
    return (False, target.region, target.compartment) if target else (True, "", "")


@lru_cache(maxsize=4096)
def _target_of(origin: _Origin) -> Target | None:
    return make_target(origin[1], origin[2])


@lru_cache(maxsize=4096)
def _make_origin(region: str | None, compartment: str | None) -> _Origin:
    """Return the origin that two columns state."""
    return _origin_of(make_target(region, compartment))


def _read_stored(
    archive: Path,
    entries: Sequence[SegmentEntry],
    engine: Engine,
    span: tuple[int, int | None] | None = None,
) -> Iterator[_Item]:
    """Yield the stored records in canonical order; `span` is the first and last microsecond wanted."""
    rows = _query(archive, entries, engine, _RECORD_COLUMNS, span)
    for _, group in groupby(rows, key=itemgetter(0)):
        for_sorting = list(group)
        raws = [row[1].encode() for row in for_sorting]
        try:
            orders = _read_orders(raws)
        except BadPage as error:
            raise CorruptRun(
                f"a segment of {entries[0].date} holds text that is not an event: {error}", hint=_RESTORE_HINT
            ) from error
        origins = [_make_origin(row[2], row[3]) for row in for_sorting]
        yield from sorted(zip(orders, raws, origins, strict=True))


def _read_keys(
    archive: Path, entries: Sequence[SegmentEntry], engine: Engine, span: tuple[int, int | None]
) -> Iterator[_StoredKey]:
    for microsecond, event_id, sha256, region, compartment in _query(archive, entries, engine, _KEY_COLUMNS, span):
        yield microsecond, event_id, sha256, _make_origin(region, compartment)


def _query(
    archive: Path,
    entries: Sequence[SegmentEntry],
    engine: Engine,
    columns: str,
    span: tuple[int, int | None] | None,
) -> Iterator[tuple[Any, ...]]:
    """Yield rows of segments, ascending by microsecond, the first of `columns`.

    Raises:
        CorruptRun: a segment is missing, damaged or not a plain file of the archive.
    """
    import duckdb

    condition = _make_condition(span)
    batches = [entries[at : at + _FILES_PER_READ] for at in range(0, len(entries), _FILES_PER_READ)]
    try:
        with engine.cursor() as cursor:
            if len(batches) == 1:
                with _open_segments(archive, entries) as source:
                    is_sorted = len(entries) == 1 and columns == _RECORD_COLUMNS  # sorting events is slow, keys is not
                    ordering = "" if is_sorted else " ORDER BY microsecond"
                    cursor.execute(f"SELECT {columns} FROM {source}{condition}{ordering}")  # noqa: S608 - constants
                    yield from _fetch(cursor, entries)
                return
            for number, batch in enumerate(batches):
                with _open_segments(archive, batch) as source:
                    verb = "INSERT INTO rows" if number else "CREATE OR REPLACE TEMP TABLE rows AS"
                    cursor.execute(f"{verb} SELECT {columns} FROM {source}{condition}")  # noqa: S608 - constants
            cursor.execute("SELECT * FROM rows ORDER BY microsecond")
            yield from _fetch(cursor, entries)
    except duckdb.OutOfMemoryException as error:
        raise DiskError(f"cannot sort the segments of {entries[0].date}: {describe_engine_error(error)}") from error
    except duckdb.Error as error:
        raise CorruptRun(
            f"a segment of {entries[0].date} cannot be read: {describe_engine_error(error)}", hint=_RESTORE_HINT
        ) from error


def _fetch(cursor: DuckDBPyConnection, entries: Sequence[SegmentEntry]) -> Iterator[tuple[Any, ...]]:
    last = _NO_MICROSECOND
    while rows := cursor.fetchmany(_EVENTS_PER_BATCH):
        for row in rows:
            if row[0] < last:
                raise CorruptRun(f"the rows of {entries[0].path} are not in order", hint=_RESTORE_HINT)
            last = row[0]
            yield row


def _make_condition(span: tuple[int, int | None] | None) -> str:
    """Return a condition that DuckDB can check against the statistics of row groups; in whole seconds, rounded out."""
    if span is None or span[0] == _NO_MICROSECOND:
        return ""
    first, last = span
    condition = f" WHERE event_time >= to_timestamp({first // _MICROSECONDS})"
    return condition if last is None else f"{condition} AND event_time < to_timestamp({last // _MICROSECONDS + 1})"


@contextmanager
def _open_segments(archive: Path, entries: Sequence[SegmentEntry]) -> Iterator[str]:
    """Yield the expression that reads segments which are open; one that is moved meanwhile is still read."""
    with ExitStack() as stack:
        files: list[str] = []
        for entry in entries:
            descriptor = open_segment(archive, entry)
            stack.callback(os.close, descriptor)
            files.append(f"'/dev/fd/{descriptor}'")
        yield f"read_parquet([{', '.join(files)}], hive_partitioning = false)"


def check_segment_path(entry: SegmentEntry) -> tuple[str, ...]:
    """Return the parts of a segment's path, which must match `SEGMENT_PATH`, its date and its rows.

    Raises:
        CorruptRun: it does not.
    """
    match = SEGMENT_PATH.fullmatch(entry.path)
    if match is None or match[1] != entry.date or match[2] != entry.rows_sha256[:_ID_DIGITS]:
        raise CorruptRun(
            f"a commit names {entry.path!r} as a segment of {entry.date!r}, which is not the path of one",
            hint="the commit has been altered; restore the archive from a backup",
        )
    return tuple(entry.path.split("/"))


def open_segment(archive: Path, entry: SegmentEntry) -> int:
    """Return the descriptor of a segment, open for reading; one that has been replaced is found in `replaced/`.

    Raises:
        CorruptRun: it is missing, has another size, or is not a plain file of the archive.
        DiskError: it cannot be opened.
    """
    events, *below = check_segment_path(entry)
    try:
        return _open_below(archive, (events, *below), entry)
    except FileNotFoundError:
        pass
    try:
        return _open_below(archive, (REPLACED_FOLDER, *below), entry)
    except FileNotFoundError:
        raise CorruptRun(f"the segment {entry.path} is missing", hint=_RESTORE_HINT) from None


def find_segment(archive: Path, entry: SegmentEntry) -> Path:
    """Return where a segment lies now; `open_segment` has checked that it does."""
    path = archive / entry.path
    return path if path.exists() else archive.joinpath(REPLACED_FOLDER, *check_segment_path(entry)[1:])


def list_columns(descriptor: int, entry: SegmentEntry) -> frozenset[str]:
    """Return which of a segment's columns the file has, by the names in its footer; an older one may lack some.

    Raises:
        CorruptRun: the file is not Parquet.
        DiskError: it cannot be read.
    """
    with explain_disk("read", Path(entry.path)):
        tail = os.pread(descriptor, _PARQUET_TAIL_BYTES, max(entry.size_bytes - _PARQUET_TAIL_BYTES, 0))
        length = int.from_bytes(tail[:4], "little")
        if tail[4:] != _PARQUET_MAGIC or length + _PARQUET_TAIL_BYTES > entry.size_bytes:
            raise CorruptRun(f"the segment {entry.path} is truncated or damaged", hint=_RESTORE_HINT)
        footer = os.pread(descriptor, length, entry.size_bytes - _PARQUET_TAIL_BYTES - length)
    names = [column.name for column in SEGMENT_COLUMNS]
    return frozenset(name for name in names if bytes([len(name)]) + name.encode() in footer)


def _open_below(archive: Path, parts: Sequence[str], entry: SegmentEntry) -> int:
    """Open a plain file, folder by folder, so that no part of its path can be a link or another device."""
    path = archive.joinpath(*parts)
    flags = os.O_RDONLY | os.O_CLOEXEC
    with ExitStack() as stack:
        try:
            descriptor = os.open(archive, flags | os.O_DIRECTORY)
            stack.callback(os.close, descriptor)
            device = os.fstat(descriptor).st_dev
            for part in parts:
                kind = os.O_DIRECTORY if part != parts[-1] else os.O_NONBLOCK  # a pipe must not block
                descriptor = os.open(part, flags | os.O_NOFOLLOW | kind, dir_fd=descriptor)
                stack.callback(os.close, descriptor)
                if os.fstat(descriptor).st_dev != device:
                    raise CorruptRun(f"{path} is not on the device of the archive", hint=_RESTORE_HINT)
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise CorruptRun(f"{path} is not a plain file", hint=_RESTORE_HINT)
            if found.st_size != entry.size_bytes:
                text = f"{path} has {format_count(found.st_size, 'byte')}, its commit states {entry.size_bytes:,}"
                raise CorruptRun(text, hint=_RESTORE_HINT)
            return os.dup(descriptor)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                text = f"a part of {path} is a symbolic link or not a folder"
                raise CorruptRun(text, hint=_RESTORE_HINT) from error
            raise DiskError(f"cannot open {path}: {error.strerror or error}") from error


def check_segment(archive: Path, entry: SegmentEntry) -> None:
    """Check everything that a segment's entry states, and that its columns are those of its events.

    Raises:
        CorruptRun: something differs; the message says what and in which row.
        DiskError: the file cannot be read.
    """
    import duckdb

    descriptor = open_segment(archive, entry)
    try:
        _check_hash(archive, descriptor, entry)
        with connect_writer() as engine:
            _check_rows(engine, f"'/dev/fd/{descriptor}'", entry)
    except duckdb.Error as error:
        raise _differs(entry, f"it cannot be read as Parquet: {describe_engine_error(error)}") from error
    finally:
        os.close(descriptor)


def read_record_hashes(archive: Path, entries: Sequence[SegmentEntry]) -> frozenset[bytes]:
    """Return the SHA-256 of every event in segments, as their column states them.

    Raises:
        CorruptRun: a segment is missing or damaged.
    """
    if not entries:
        return frozenset()
    with connect_writer() as engine:
        keys = _query(archive, entries, engine, _KEY_COLUMNS, None)
        return frozenset(bytes.fromhex(sha256) for _, _, sha256, _, _ in keys)


def check_file(archive: Path, entry: SegmentEntry) -> None:
    """Check that a segment's bytes are those of its entry.

    Raises:
        CorruptRun: they are not, or it is missing.
        DiskError: it cannot be read.
    """
    descriptor = open_segment(archive, entry)
    try:
        _check_hash(archive, descriptor, entry)
    finally:
        os.close(descriptor)


def _check_hash(archive: Path, descriptor: int, entry: SegmentEntry) -> None:
    if _hash_file(descriptor, archive / entry.path) != entry.sha256:
        raise _differs(entry, "its SHA-256 is not the one that its commit states")


def _differs(entry: SegmentEntry, text: str) -> CorruptRun:
    return CorruptRun(f"the segment {entry.path} is altered: {text}", hint=_RESTORE_HINT)


def _hash_file(descriptor: int, path: Path) -> str:
    digest = hashlib.sha256()
    offset = 0
    with explain_disk("read", path):
        while piece := os.pread(descriptor, _BYTES_PER_READ, offset):
            digest.update(piece)
            offset += len(piece)
    return digest.hexdigest()


def _check_rows(engine: DuckDBPyConnection, file: str, entry: SegmentEntry) -> None:
    names = [column.name for column in SEGMENT_COLUMNS]
    source = f"read_parquet({file}, hive_partitioning = false)"
    found = engine.execute(f"SELECT * FROM {source} LIMIT 0").description  # noqa: S608 - a number and constants
    if [each[0] for each in found or ()] != names:
        raise _differs(entry, "its columns are not those of a segment")
    wanted = [f"epoch_us({each.name})" if each.kind == "time" else each.name for each in SEGMENT_COLUMNS]
    engine.execute(f"SELECT {', '.join(wanted)} FROM {source}")  # noqa: S608 - a number and constants
    digest = hashlib.sha256()
    count = 0
    last: tuple[bytes, bytes] = (b"", b"")
    while rows := engine.fetchmany(_EVENTS_PER_BATCH):
        items = [_check_row(entry, count + at, row) for at, row in enumerate(rows, 1)]
        digest.update(b"".join(chain.from_iterable(_frame_row(origin, raw) for _, raw, origin in items)))
        places = [last, *(item[:2] for item in items)]
        for at, (before, after) in enumerate(pairwise(places), count + 1):
            if before >= after:
                raise _differs(entry, f"row {at:,} is not after the row before it")
        last = places[-1]
        count += len(rows)
    if count != entry.rows:
        raise _differs(entry, f"it has {format_count(count, 'row')}, its commit states {entry.rows:,}")
    if digest.hexdigest() != entry.rows_sha256:
        raise _differs(entry, "its rows are not those that its commit states")


def _check_row(entry: SegmentEntry, number: int, row: tuple[Any, ...]) -> _Item:
    """Return the record of a row whose columns agree with its event."""
    values = dict(zip((column.name for column in SEGMENT_COLUMNS), row, strict=True))
    event = values["event"]
    raw = event.encode() if isinstance(event, str) else b""
    target = make_target(values["origin_region"], values["origin_compartment"])
    try:
        order = read_event(raw).order
        expected = make_segment_row(raw, target)
    except ValueError as error:
        raise _differs(entry, f"row {number:,} does not hold an event: {error}") from error
    for column, value, right in zip(SEGMENT_COLUMNS, row, expected, strict=True):
        if value != (_read_microsecond(right) if column.kind == "time" else right):
            raise _differs(entry, f"the column {column.name} of row {number:,} is not that of its event")
    item = (order, raw, _origin_of(target))
    if name_date(item[0]) != entry.date:
        raise _differs(entry, f"the event in row {number:,} is of {name_date(item[0])}")
    return item


def _read_microsecond(time: Any) -> int | None:
    instant = read_instant(time)
    return None if instant == UNREADABLE_INSTANT else instant // 1_000 - _FIRST_MICROSECOND
