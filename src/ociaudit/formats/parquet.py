"""The format `parquet`: the columns of CSV with types, the free-form maps as JSON text, and the whole event.

Events become columns in Arrow's memory layout, one batch after another. A thread in which DuckDB works takes each batch
through Arrow's C stream interface, without copying it, and writes Parquet to a file in the scratch folder; at the end,
`finish` yields that file, so that its bytes take the path of every other format: hashed, private, and under the final
name only when complete. The layout of the C structures is fixed: https://arrow.apache.org/docs/format/CDataInterface.html
and CStreamInterface.html. Ctypes and 200 lines stand for a library that installs 166 MB.

Invariants
- Rows keep their order, and the same rows give the same bytes: DuckDB uses one thread, a batch ends after the same
  event however the events are handed over, and row groups are bounded.
- DuckDB writes the scratch file only; it loads no extension and never uses the network.
- Memory holds twelve batches and two row groups, whatever the size of the file.
- What an Arrow structure points to is kept in `_alive` until its consumer releases it.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import re
import struct
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing, suppress
from functools import cache
from itertools import accumulate, count
from pathlib import Path
from queue import Empty, Full, Queue
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeVar

import msgspec

from ociaudit.errors import DiskError, advise_full_disk
from ociaudit.events.columns import (
    COLUMNS,
    MAP_COLUMNS,
    NULL,
    Column,
    ColumnKind,
    Row,
    is_null,
    make_row,
    read_columns,
    read_facts_and_maps,
)
from ociaudit.formats.base import (
    EVENT_COLUMN,
    ORIGIN_COLUMNS,
    ROWS_PER_BATCH,
    EventEncoder,
    InvalidFile,
    Rows,
    check_rows,
    make_target,
)
from ociaudit.formats.compression import read_chunks
from ociaudit.planning.shard import Target

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCRATCH_NAME = "rows.parquet"
PARQUET_COLUMNS: tuple[Column, ...] = (*COLUMNS[:-1], *MAP_COLUMNS, COLUMNS[-1])
"""The columns of a Parquet file; `event` is the last one."""
SHA256_COLUMN = Column("event_sha256", "text", "the SHA-256 of the event's bytes, in hex")
SEGMENT_COLUMNS: tuple[Column, ...] = (*PARQUET_COLUMNS, SHA256_COLUMN)
"""The columns of an archive's segments."""

PARQUET_TYPES: MappingProxyType[ColumnKind, str] = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "VARCHAR"}
)
_FACT_NAMES = [column.name for column in COLUMNS[:-1]]
_BATCH_ROWS = 512
_BATCH_BYTES = 2 * 1024 * 1024
_BATCHES_AHEAD = 10
"""DuckDB takes as many batches as a row group has, and then takes none while it compresses them."""
_GROUP_BYTES = 24 * 1024 * 1024
_GROUP_ROWS = 16_384
_LEVEL = 1
"""Level 3 makes files 6 % smaller and takes 40 % longer."""
_SHA256_BYTES = 32
_PATIENCE_SECONDS = 0.1
_NO_EXTENSIONS = MappingProxyType({"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
_WRITER_SETTINGS = MappingProxyType({**_NO_EXTENSIONS, "threads": "1", "temp_directory": ""})
EVENTS_KEY = "oci_audit_events"
"""The key of a file's metadata whose value is the shape of the column `event`, which this program has written."""
_INNER_MESSAGE = re.compile(r'"exception_message":"((?:[^"\\]|\\.)*)"')
_SHOWN_VALUE = re.compile(r":? value \".*")
_MOST_SHOWN = 300
_GLOB_ESCAPES = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})

T = TypeVar("T")


def quote_sql(text: str) -> str:
    """Return a text as a literal of SQL."""
    return "'" + text.replace("'", "''") + "'"


def cast_json(column: str) -> str:
    r"""Return an expression of SQL for a column of JSON text as JSON, which is NULL only if the text is not JSON.

    DuckDB rejects escaped lone surrogates, which are valid in JSON; they become U+FFFD. While they are replaced,
    escaped backslashes and whole pairs are represented by control characters, which JSON does not contain.
    """
    high, low, lone = "[dD][89abAB][0-9a-fA-F]{2}", "[dD][c-fC-F][0-9a-fA-F]{2}", "[dD][89a-fA-F][0-9a-fA-F]{2}"
    text = rf"regexp_replace({column}, '\\\\', chr(1), 'g')"
    text = rf"regexp_replace({text}, '\\u({high})\\u({low})', chr(2) || '\1' || chr(3) || '\2', 'g')"
    text = rf"regexp_replace({text}, '\\u{lone}', '\\ufffd', 'g')"
    text = rf"replace(replace(replace({text}, chr(3), '\u'), chr(2), '\u'), chr(1), '\\')"
    return f"coalesce(TRY_CAST({column} AS JSON), TRY_CAST({text} AS JSON))"


class Engine(Protocol):
    """A DuckDB that several files share, from any thread."""

    def cursor(self) -> DuckDBPyConnection:
        """Return a connection of its own to the same DuckDB."""
        ...


class Parquet:
    """Writes events as rows of Parquet; `finish` yields the whole file."""

    def __init__(
        self,
        encoder: EventEncoder,
        scratch: Path,
        *,
        scratch_name: str = SCRATCH_NAME,
        engine: Engine | None = None,
        with_sha256: bool = False,
    ) -> None:
        """Write the column `event` in the encoder's shape; keep the file in the private folder `scratch` until the end.

        `engine` is one that several files share, because DuckDB takes 15 ms to start; files that are written at the
        same time need a `scratch_name` each. `with_sha256` adds the column `event_sha256`, that of the event as served.
        """
        self._shape = encoder.shape
        self._encode = EventEncoder(encoder.shape).encode
        self._columns = SEGMENT_COLUMNS if with_sha256 else PARQUET_COLUMNS
        self._engine = engine
        self._path = scratch.absolute() / scratch_name  # DuckDB gives a tilde at the beginning a meaning
        # Not an executor's thread: Python waits for these before it is known that nobody will call `close`.
        self._thread = threading.Thread(target=self._copy, name="parquet")
        self._result: Future[None] = Future()
        self._batches: Queue[_ArrowArray | None] = Queue(_BATCHES_AHEAD)
        self._is_stopped = False
        self._raws: list[bytes] = []
        self._events: list[bytes] = []
        self._origins: list[Target | None] = []
        self._size = 0
        self._with_sha256 = with_sha256
        self.sha256s = bytearray()
        """Those of the events so far, 32 bytes each, where the column is wanted."""

    def begin(self) -> bytes:
        """Create the scratch file and return nothing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            os.close(os.open(self._path, flags, 0o600))
        except OSError as error:
            raise self._explain("create", error.strerror or str(error)) from error
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Keep the events, or have them written, and return nothing.

        Raises:
            ValueError: an event is not a JSON object in UTF-8.
            DiskError: the scratch file cannot be written.
        """
        for raw, event, origin in zip(raws, self._encode(raws, origins), origins, strict=True):
            if self._with_sha256:
                self.sha256s += hashlib.sha256(raw).digest()
            self._raws.append(raw)
            self._events.append(event)
            self._origins.append(origin)
            self._size += len(raw)
            if len(self._raws) == _BATCH_ROWS or self._size >= _BATCH_BYTES:
                self._hand_over()
        return b""

    def finish(self) -> Generator[bytes]:
        """Yield the file when DuckDB has written all of it."""
        if self._raws:
            self._hand_over()
        self._put(None)
        self._wait()
        try:
            with self._path.open("rb", buffering=0) as file:
                yield from read_chunks(file)
        except OSError as error:
            raise self._explain("read", error.strerror or str(error)) from error

    def close(self) -> None:
        """Stop the thread and delete the scratch file."""
        self._is_stopped = True
        with suppress(Empty):
            while True:
                _release(self._batches.get_nowait())
        with suppress(Full):
            self._batches.put_nowait(None)
        if self._thread.ident is not None:
            self._thread.join()
        with suppress(Empty):
            while True:
                _release(self._batches.get_nowait())
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _hand_over(self) -> None:
        """Have the pending events written."""
        raws, events, origins = self._raws, self._events, self._origins
        self._raws, self._events, self._origins, self._size = [], [], [], 0
        table = _make_table(raws, events, origins)
        if self._with_sha256:
            table.append(_make_digests(bytes(self.sha256s[-_SHA256_BYTES * len(raws) :]), len(raws)))
        self._put(_export_batch(table, len(raws)))

    def _put(self, batch: _ArrowArray | None) -> None:
        """Wait until DuckDB takes a batch; None is the end."""
        if self._thread.ident is None:
            self._thread.start()
        while True:
            with suppress(Full):
                self._batches.put(batch, timeout=_PATIENCE_SECONDS)
                return
            if self._result.done():
                _release(batch)
                self._wait()

    def _wait(self) -> None:
        import duckdb

        try:
            self._result.result()
        except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
            hint = advise_full_disk(self._path) if "No space left on device" in str(error) else None
            raise self._explain("write to", describe_engine_error(error), hint) from error

    def _copy(self) -> None:
        """Have DuckDB write all batches."""
        try:
            with (
                closing(_ArrowStream(self._columns, self._take)) as stream,
                connect_writer() if self._engine is None else self._engine.cursor() as engine,
            ):
                engine.register("rows", stream)
                engine.execute(self._make_statement())
        except BaseException as error:  # noqa: BLE001 - for the one who waits for the result
            self._result.set_exception(error)
        else:
            self._result.set_result(None)

    def _take(self) -> _ArrowArray | None:
        while True:
            with suppress(Empty):
                batch = self._batches.get(timeout=_PATIENCE_SECONDS)
                break
            if not threading.main_thread().is_alive():  # nobody will call `close`; Python waits for this thread
                raise InterruptedError
        if self._is_stopped:
            _release(batch)
            raise InterruptedError
        return batch

    def _make_statement(self) -> str:
        """Return the SQL statement; it contains nothing from an event."""
        selected = ", ".join(
            f"{column.name}::{PARQUET_TYPES[column.kind]} AS {column.name}" for column in self._columns
        )
        return (
            f"COPY (SELECT {selected} FROM rows) TO {quote_sql(str(self._path))} (FORMAT parquet, COMPRESSION zstd, "  # noqa: S608 - the path is quoted
            f"COMPRESSION_LEVEL {_LEVEL}, ROW_GROUP_SIZE {_GROUP_ROWS}, ROW_GROUP_SIZE_BYTES {_GROUP_BYTES}, "
            f"KV_METADATA {{{EVENTS_KEY}: {quote_sql(self._shape)}}}, USE_TMP_FILE false)"
        )

    def _explain(self, action: str, reason: str, hint: str | None = None) -> DiskError:
        return DiskError(f"cannot {action} {self._path}: {reason}", hint=hint)


def make_segment_row(raw: bytes, origin: Target | None) -> Row:
    """Return the row of an event in a segment, with a value for each of `SEGMENT_COLUMNS`, times as text.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    facts, maps = read_facts_and_maps(raw)
    texts = (None if is_null(value) else str(value, "utf-8") for value in maps)
    return (*make_row(facts, origin), *texts, raw.decode(), hashlib.sha256(raw).hexdigest())


def connect_writer(**settings: str) -> DuckDBPyConnection:
    """Return a connection to a new DuckDB in memory, with the settings that make a file's bytes reproducible."""
    import duckdb

    engine = duckdb.connect(config={**_WRITER_SETTINGS, **settings})
    engine.execute("SET enable_progress_bar = false")
    return engine


class _ArrowSchema(ctypes.Structure):
    """`struct ArrowSchema` of the Arrow C data interface."""


class _ArrowArray(ctypes.Structure):
    """`struct ArrowArray` of the Arrow C data interface."""


class _ArrowArrayStream(ctypes.Structure):
    """`struct ArrowArrayStream` of the Arrow C stream interface."""


_ReleaseSchema = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ArrowSchema))
_ReleaseArray = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ArrowArray))
_ReleaseStream = ctypes.CFUNCTYPE(None, ctypes.POINTER(_ArrowArrayStream))
_GetSchema = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_ArrowArrayStream), ctypes.POINTER(_ArrowSchema))
_GetNext = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_ArrowArrayStream), ctypes.POINTER(_ArrowArray))
_GetLastError = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.POINTER(_ArrowArrayStream))
_ArrowSchema._fields_ = [
    ("format", ctypes.c_char_p),
    ("name", ctypes.c_char_p),
    ("metadata", ctypes.c_char_p),
    ("flags", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowSchema))),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseSchema),
    ("private_data", ctypes.c_void_p),
]
_ArrowArray._fields_ = [
    ("length", ctypes.c_int64),
    ("null_count", ctypes.c_int64),
    ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64),
    ("n_children", ctypes.c_int64),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", _ReleaseArray),
    ("private_data", ctypes.c_void_p),
]
_ArrowArrayStream._fields_ = [
    ("get_schema", _GetSchema),
    ("get_next", _GetNext),
    ("get_last_error", _GetLastError),
    ("release", _ReleaseStream),
    ("private_data", ctypes.c_void_p),
]

_NULLABLE = 2
_EIO = 5
_FORMATS: MappingProxyType[ColumnKind, bytes] = MappingProxyType(
    {"text": b"u", "time": b"u", "integer": b"i", "json": b"u"}
)
"""Arrow's names of the types: `u` is UTF-8, `i` a 32-bit integer. Consumers make times of the texts."""
_STOPPED = ctypes.create_string_buffer(b"the stream was stopped")
_SCHEMA_CAPSULE, _ARRAY_CAPSULE, _STREAM_CAPSULE = b"arrow_schema", b"arrow_array", b"arrow_array_stream"
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_bytes_address = ctypes.pythonapi.PyBytes_AsString  # ctypes.cast would leave a cycle that holds the bytes
_bytes_address.restype = ctypes.c_void_p
_bytes_address.argtypes = [ctypes.py_object]
_alive: dict[int, Any] = {}
"""What a structure points to, by its `private_data`."""
_keys = count(1)


def _keep(value: Any) -> int:
    key = next(_keys)
    _alive[key] = value
    return key


def _release(structure: Any) -> None:
    """Release a structure that no consumer has taken."""
    if structure is not None and structure.release:
        structure.release(ctypes.byref(structure))


def _drop(structure: Any) -> None:
    """Do what a release callback has to: release what is inside, free all, and mark the structure as released."""
    for number in range(structure.n_children):
        _release(structure.children[number].contents)
    _alive.pop(structure.private_data, None)
    structure.release = type(structure.release)()


def _drop_at(pointer: Any) -> None:
    _drop(pointer.contents)


_release_schema, _release_array = _ReleaseSchema(_drop_at), _ReleaseArray(_drop_at)


class _Column:
    """A column of a batch: Arrow's buffers (a bitmap of the values that are not null, offsets if any, data)."""

    def __init__(self, *buffers: bytes | None, nulls: int) -> None:
        self.buffers = buffers
        self.nulls = nulls


def _make_table(raws: Sequence[bytes], events: Sequence[bytes], origins: Sequence[Target | None]) -> list[_Column]:
    """Return the columns of events, `event` last.

    Raises:
        ValueError: an event is not a JSON object in UTF-8.
    """
    facts, maps = zip(*map(read_facts_and_maps, raws), strict=True)
    values = read_columns(facts, origins, _FACT_NAMES)
    table = [
        _make_integers(column) if kind.kind == "integer" else _make_texts(column)  # type: ignore[arg-type]
        for kind, column in zip(COLUMNS, values, strict=False)
    ]
    table += map(_make_maps, zip(*maps, strict=True))
    for event in events:
        if not event.isascii():
            event.decode()  # msgspec does not check the strings that it skips
    table.append(_Column(None, _add_up(map(len, events)), b"".join(events), nulls=0))
    return table


def _make_digests(digests: bytes, count: int) -> _Column:
    return _Column(None, _add_up([2 * _SHA256_BYTES] * count), digests.hex().encode(), nulls=0)


def _make_texts(values: Sequence[str | None]) -> _Column:
    first, length = values[0], len(values)
    if first == values[-1] and values.count(first) == length:  # which is common
        data = (first or "").encode()
        bitmap, nulls = (None, 0) if first is not None else (bytes(-(-length // 8)), length)
        return _Column(bitmap, _add_up([len(data)] * length), data * length, nulls=nulls)
    present, bitmap, nulls = _split_nulls(values, "")
    text = "".join(present)
    data = text.encode()
    lengths = map(len, present) if len(data) == len(text) else (len(value.encode()) for value in present)
    return _Column(bitmap, _add_up(lengths), data, nulls=nulls)


def _make_maps(values: Sequence[msgspec.Raw | bytes]) -> _Column:
    lengths = list(map(len, values))
    if len(NULL) not in lengths:
        return _Column(None, _add_up(lengths), b"".join(values), nulls=0)
    present, bitmap, nulls = _split_nulls(
        [
            None if length == len(NULL) and is_null(value) else value
            for value, length in zip(values, lengths, strict=True)
        ],
        b"",
    )
    return _Column(bitmap, _add_up(map(len, present)), b"".join(present), nulls=nulls)


def _make_integers(values: Sequence[int | None]) -> _Column:
    present, bitmap, nulls = _split_nulls(values, 0)
    return _Column(bitmap, struct.pack(f"{len(present)}i", *present), nulls=nulls)


def _add_up(lengths: Iterable[int]) -> bytes:
    """Return the offsets of texts of these lengths, and that of the end."""
    offsets = list(accumulate(lengths, initial=0))
    return struct.pack(f"{len(offsets)}i", *offsets)


def _split_nulls(values: Sequence[T | None], absent: T) -> tuple[Sequence[T], bytes | None, int]:
    """Return the values with `absent` for each null, the bitmap of those that are not null, and the number of nulls."""
    if None not in values:
        return values, None, 0  # type: ignore[return-value] # there is no None
    is_present = [value is not None for value in values]
    bits = int("".join(["01"[one] for one in reversed(is_present)]), 2)
    present = [absent if value is None else value for value in values]
    return present, bits.to_bytes((len(values) + 7) // 8, "little"), is_present.count(False)


def _export_batch(table: Sequence[_Column], length: int) -> _ArrowArray:
    """Return a batch as a structure whose children are its columns."""
    children = _make_array_type(_ArrowArray, len(table))()
    for child, column in zip(children, table, strict=True):
        _fill_array(child, length, column.nulls, column.buffers)
    batch = _ArrowArray()
    _fill_array(batch, length, 0, [None], children)
    return batch


def _fill_array(
    place: _ArrowArray,
    length: int,
    nulls: int,
    buffers: Sequence[bytes | None],
    children: ctypes.Array[_ArrowArray] | None = None,
) -> None:
    addresses = _make_array_type(ctypes.c_void_p, len(buffers))(*map(_find_address, buffers))
    place.length, place.null_count, place.offset = length, nulls, 0
    place.n_buffers, place.buffers = len(buffers), addresses
    place.n_children, place.children = _point_to(children)
    place.release = _release_array
    place.private_data = _keep((addresses, buffers, children, place.children))


def _find_address(buffer: bytes | None) -> int | None:
    return None if buffer is None else _bytes_address(buffer)


@cache
def _make_array_type(kind: Any, length: int) -> Any:
    """Return the type of an array; ctypes would create one each time, which only the search for cycles frees."""
    return kind * length


def _point_to(children: Any) -> tuple[int, Any]:
    """Return the number of children, and an array of pointers to them."""
    if children is None:
        return 0, None
    pointer = ctypes.POINTER(children._type_)
    return len(children), _make_array_type(pointer, len(children))(*map(pointer, children))


class SegmentBatch:
    """Events with `SEGMENT_COLUMNS` as one Arrow array, times as text, for any consumer; it can be read once."""

    def __init__(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> None:
        """Make the columns of events.

        Raises:
            ValueError: an event is not a JSON object in UTF-8.
        """
        digests = b"".join([hashlib.sha256(raw).digest() for raw in raws])
        table = [*_make_table(raws, raws, origins), _make_digests(digests, len(raws))]
        self._schema = _ArrowSchema()
        _describe_batch(self._schema, SEGMENT_COLUMNS)
        self._array = _export_batch(table, len(raws))

    def __arrow_c_array__(self, _: object = None) -> tuple[object, object]:
        """Return capsules with the schema and the array."""
        return (
            _new_capsule(ctypes.addressof(self._schema), _SCHEMA_CAPSULE, None),
            _new_capsule(ctypes.addressof(self._array), _ARRAY_CAPSULE, None),
        )

    def __del__(self) -> None:
        """Release what no consumer has taken."""
        _release(self._schema)
        _release(self._array)


class _ArrowStream:
    """An Arrow stream of the batches that `take` returns until it returns None, which can be read once.

    It says that it failed if `take` raises.
    """

    def __init__(self, columns: Sequence[Column], take: Callable[[], _ArrowArray | None]) -> None:
        self._columns = columns
        self.take = take
        self._stream = _ArrowArrayStream(*_STREAM_CALLBACKS, _keep(self))
        self._schema = _ArrowSchema()

    def __arrow_c_schema__(self) -> object:
        """Return a capsule with the schema."""
        self.fill_schema(self._schema)
        return _new_capsule(ctypes.addressof(self._schema), _SCHEMA_CAPSULE, None)

    def __arrow_c_stream__(self, _: object = None) -> object:
        """Return a capsule with the stream, once."""
        if not self._stream.release:
            raise ValueError("the stream has been read")
        return _new_capsule(ctypes.addressof(self._stream), _STREAM_CAPSULE, None)

    def close(self) -> None:
        """Release what no consumer has taken."""
        _release(self._schema)
        _release(self._stream)

    def fill_schema(self, place: _ArrowSchema) -> None:
        """Describe a batch."""
        _describe_batch(place, self._columns)


def _describe_batch(place: _ArrowSchema, columns: Sequence[Column]) -> None:
    children = _make_array_type(_ArrowSchema, len(columns))()
    for child, column in zip(children, columns, strict=True):
        _fill_schema(child, _FORMATS[column.kind], column.name.encode())
    _fill_schema(place, b"+s", b"", children)


def _fill_schema(
    place: _ArrowSchema, kind: bytes, name: bytes, children: ctypes.Array[_ArrowSchema] | None = None
) -> None:
    place.format, place.name, place.flags = kind, name, _NULLABLE
    place.n_children, place.children = _point_to(children)
    place.release = _release_schema
    place.private_data = _keep((kind, name, children, place.children))


def _get_schema(stream: Any, place: Any) -> int:
    _alive[stream.contents.private_data].fill_schema(place.contents)
    return 0


def _get_next(stream: Any, place: Any) -> int:
    try:
        batch = _alive[stream.contents.private_data].take()
    except BaseException:  # noqa: BLE001 - it cannot cross C; who stops the stream knows why
        return _EIO
    if batch is None:
        place.contents.release = _ReleaseArray()
    else:
        ctypes.memmove(place, ctypes.byref(batch), ctypes.sizeof(_ArrowArray))
    return 0


def _get_last_error(_: Any) -> int:
    return ctypes.addressof(_STOPPED)  # without a text, DuckDB ends the process


def _release_stream(pointer: Any) -> None:
    _alive.pop(pointer.contents.private_data, None)
    pointer.contents.release = _ReleaseStream()


_STREAM_CALLBACKS = (
    _GetSchema(_get_schema),
    _GetNext(_get_next),
    _GetLastError(_get_last_error),
    _ReleaseStream(_release_stream),
)


def describe_engine_error(error: Exception) -> str:
    """Return what DuckDB says: one short line, without a value that it shows, which may be a whole event."""
    line = str(error).partition("\n")[0]
    if inner := _INNER_MESSAGE.search(line):
        line = inner[1]
    line = _SHOWN_VALUE.sub("", line)
    return line if len(line) <= _MOST_SHOWN else f"{line[:_MOST_SHOWN]}…"


def escape_glob(path: Path) -> str:
    """Return a path as DuckDB takes it for itself: its patterns are escaped, and it does not begin with a tilde."""
    return str(path.absolute()).translate(_GLOB_ESCAPES)


def read_parquet(path: Path) -> Iterator[Rows]:
    """Yield the rows of a Parquet file that has the column `event`.

    Raises:
        InvalidFile: the file is truncated or damaged, has no such column, or an event in it is not a JSON object.
    """
    import duckdb

    escaped = escape_glob(path)
    with duckdb.connect(config=dict(_NO_EXTENSIONS)) as connection:
        try:
            columns = connection.read_parquet(escaped, hive_partitioning=False).columns
            if EVENT_COLUMN not in columns:
                raise InvalidFile(f"the Parquet file has no column {EVENT_COLUMN!r}, only {', '.join(columns[:40])}")
            wanted = ", ".join(name if name in columns else "NULL" for name in (EVENT_COLUMN, *ORIGIN_COLUMNS))
            row_count = 0
            statement = f"SELECT {wanted} FROM read_parquet(?, hive_partitioning = false)"  # noqa: S608 - only the constant names above
            result = connection.execute(statement, [escaped])
            while batch := result.fetchmany(ROWS_PER_BATCH):
                if any(not isinstance(row[0], str) for row in batch):
                    raise InvalidFile(f"the column {EVENT_COLUMN!r} does not hold text after row {row_count:,}")
                events = [row[0].encode() for row in batch]
                yield check_rows(events, [make_target(row[1], row[2]) for row in batch], row_count)
                row_count += len(batch)
        except duckdb.Error as error:
            raise InvalidFile(f"the Parquet file is truncated or damaged: {describe_engine_error(error)}") from error


def count_parquet_rows(file: BinaryIO) -> int:
    """Return the number of rows that a Parquet file states.

    Raises:
        InvalidFile: it is not a Parquet file.
    """
    import duckdb

    try:
        with duckdb.connect() as engine:
            found = engine.execute(
                "SELECT num_rows FROM parquet_file_metadata(?)", [f"/dev/fd/{file.fileno()}"]
            ).fetchone()
    except duckdb.Error as error:
        raise InvalidFile(f"this is not a Parquet file ({describe_engine_error(error)})", 0) from error
    return int(found[0]) if found else 0
