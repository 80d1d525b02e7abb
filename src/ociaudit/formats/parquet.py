"""The format `parquet`: the columns of CSV with types, the free-form maps as JSON text, and the whole event.

Rows wait in one compressed file in the scratch folder. At the end DuckDB reads it once and writes Parquet into a pipe,
so that the bytes take the path of every other format: hashed, private, and under the final name only when complete.

Invariants
- Rows keep their order, and the same rows give the same bytes: DuckDB uses one thread and bounded row groups.
- DuckDB reads the scratch file and writes the pipe; it loads no extension and never uses the network.
- Memory holds two row groups, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Protocol

import msgspec
import zstandard

from ociaudit.errors import DiskError
from ociaudit.events.columns import COLUMNS, MAP_COLUMNS, Column, ColumnKind, make_row, read_facts_and_maps
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
from ociaudit.planning.shard import Target

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

SCRATCH_NAME = "rows.ndjson.zst"
PARQUET_COLUMNS: tuple[Column, ...] = (*COLUMNS[:-1], *MAP_COLUMNS, COLUMNS[-1])
"""The columns of a Parquet file; `event` is the last one."""
SHA256_COLUMN = Column("event_sha256", "text", "the SHA-256 of the event's bytes, in hex")
SEGMENT_COLUMNS: tuple[Column, ...] = (*PARQUET_COLUMNS, SHA256_COLUMN)
"""The columns of an archive's segments."""

PARQUET_TYPES: MappingProxyType[ColumnKind, str] = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "VARCHAR"}
)
_GROUP_BYTES = 24 * 1024 * 1024
_MIN_GROUP_ROWS, _MAX_GROUP_ROWS = 2_048, 16_384
_MIN_OBJECT_BYTES = 4 * 1024 * 1024
_MAX_GROWTH = 6
"""A row holds its event twice, whole and in parts, with the quotes escaped; a shape adds names."""
_LEVEL = 1
"""Level 3 makes files 6 % smaller and takes 40 % longer."""
_SCRATCH_LEVEL = 1
_READ_BYTES = 1024 * 1024
_NO_EXTENSIONS = MappingProxyType({"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
_WRITER_SETTINGS = MappingProxyType({**_NO_EXTENSIONS, "threads": "1", "temp_directory": ""})
_GLOB_CHARACTER = re.compile(r"[*?\[\\]")
_GLOB_ESCAPES = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})

_Row = msgspec.defstruct(
    "_Row", [(column.name, object, None) for column in SEGMENT_COLUMNS], omit_defaults=True, gc=False
)
_encoder = msgspec.json.Encoder()


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
        """Write the column `event` in the encoder's shape; keep rows in the private folder `scratch` until the end.

        `engine` is one that several files share, because DuckDB takes 15 ms to start; files that are written at the
        same time need a `scratch_name` each. `with_sha256` adds the column `event_sha256`, that of the event as served.
        """
        self._encode = EventEncoder(encoder.shape).encode
        self._columns = SEGMENT_COLUMNS if with_sha256 else PARQUET_COLUMNS
        self._with_sha256 = with_sha256
        self._engine = engine
        self._path = scratch / scratch_name
        self._file: BinaryIO | None = None
        self._compressor = zstandard.ZstdCompressor(_SCRATCH_LEVEL).compressobj()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._compressing: Future[bytes] | None = None
        self._rows = self._bytes = self._longest = 0
        self.sha256s = bytearray()
        """Those of the events so far, 32 bytes each, where the column is wanted."""

    def begin(self) -> bytes:
        """Create the scratch file and return nothing."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")
        except OSError as error:
            raise self._explain("create", error) from error
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Keep the events' rows and return nothing."""
        data = _encoder.encode_lines(self._make_rows(raws, origins))
        self._rows += len(raws)
        self._bytes += len(data)
        self._longest = max(self._longest, *map(len, raws), 0)
        self._wait_for_compression()
        self._compressing = self._thread.submit(self._compressor.compress, data)
        return b""

    def _make_rows(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> list[msgspec.Struct]:
        events = self._encode(raws, origins)
        if not self._with_sha256:
            return list(map(_make_row, raws, events, origins))
        digests = [hashlib.sha256(raw).digest() for raw in raws]
        self.sha256s += b"".join(digests)
        return list(map(make_segment_row, raws, events, origins, digests))

    def finish(self) -> Generator[bytes]:
        """Yield the file as DuckDB writes it."""
        self._wait_for_compression()
        self._append(self._compressor.flush())
        self._close_file()
        with _avoid_glob(self._path) as path:
            reading, writing = os.pipe()
            done = self._thread.submit(_copy, self._make_statement(path, writing), writing, self._engine)
            try:
                while piece := os.read(reading, _READ_BYTES):
                    yield piece
            finally:
                os.close(reading)  # if the caller stops early, DuckDB's next write fails and ends the thread
                wait([done])
            try:
                done.result()
            except OSError as error:
                raise self._explain("read", error) from error

    def close(self) -> None:
        """Stop the thread and delete the scratch file."""
        self._thread.shutdown()
        with suppress(DiskError):
            self._close_file()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _wait_for_compression(self) -> None:
        """Append the rows that the thread has compressed."""
        compressing, self._compressing = self._compressing, None
        if compressing is not None:
            self._append(compressing.result())

    def _append(self, data: bytes) -> None:
        try:
            if self._file is not None:
                self._file.write(data)
        except OSError as error:
            raise self._explain("write to", error) from error

    def _close_file(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            raise self._explain("write to", error) from error

    def _explain(self, action: str, error: OSError) -> DiskError:
        return DiskError(f"cannot {action} {self._path}: {error.strerror or error}")

    def _make_statement(self, path: Path, descriptor: int) -> str:
        """Return the SQL statement; it contains nothing from an event."""
        columns = ", ".join(f"{column.name}: '{PARQUET_TYPES[column.kind]}'" for column in self._columns)
        mean = self._bytes // max(self._rows, 1) + 1
        group = max(_MIN_GROUP_ROWS, min(_MAX_GROUP_ROWS, _GROUP_BYTES // mean))
        return (
            f"COPY (FROM read_json({_quote(str(path))}, format = 'newline_delimited', records = true, "
            f"compression = 'zstd', maximum_object_size = {max(_MIN_OBJECT_BYTES, self._longest * _MAX_GROWTH)}, "
            f"columns = {{{columns}}})) "
            f"TO '/dev/fd/{descriptor}' (FORMAT parquet, COMPRESSION zstd, "
            f"COMPRESSION_LEVEL {_LEVEL}, ROW_GROUP_SIZE {group}, USE_TMP_FILE false)"
        )


def _make_row(raw: bytes, event: bytes, origin: Target | None) -> msgspec.Struct:
    facts, maps = read_facts_and_maps(raw)
    row: msgspec.Struct = _Row(*make_row(facts, origin), *maps, event.decode())
    return row


def make_segment_row(raw: bytes, event: bytes, origin: Target | None, digest: bytes) -> msgspec.Struct:
    """Return the row of an event in a segment: a struct with a member for each of `SEGMENT_COLUMNS`, times as text.

    `digest` is the SHA-256 of `raw`.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    facts, maps = read_facts_and_maps(raw)
    row: msgspec.Struct = _Row(*make_row(facts, origin), *maps, event.decode(), digest.hex())
    return row


def connect_writer(**settings: str) -> DuckDBPyConnection:
    """Return a connection to a new DuckDB in memory, with the settings that make a file's bytes reproducible."""
    import duckdb

    engine = duckdb.connect(config={**_WRITER_SETTINGS, **settings})
    engine.execute("SET enable_progress_bar = false")
    return engine


def _copy(statement: str, descriptor: int, shared: Engine | None) -> None:
    """Run a statement that writes into a pipe, and close the pipe.

    Raises:
        OSError: DuckDB could not read or write.
    """
    import duckdb

    try:
        with connect_writer() if shared is None else shared.cursor() as engine:
            engine.execute(statement)
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        raise OSError(str(error).partition("\n")[0]) from error
    finally:
        os.close(descriptor)


@contextmanager
def _avoid_glob(path: Path) -> Iterator[Path]:
    """Yield a path that DuckDB does not take for a pattern: the path itself, or a link to it in a private folder."""
    if not _GLOB_CHARACTER.search(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="oci-audit-") as folder:
        link = Path(folder) / SCRATCH_NAME
        link.symlink_to(path.absolute())
        yield link


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def read_parquet(path: Path) -> Iterator[Rows]:
    """Yield the rows of a Parquet file that has the column `event`.

    Raises:
        InvalidFile: the file is truncated or damaged, has no such column, or an event in it is not a JSON object.
    """
    import duckdb

    escaped = str(path).translate(_GLOB_ESCAPES)
    with duckdb.connect(config=dict(_NO_EXTENSIONS)) as connection:
        try:
            columns = connection.read_parquet(escaped).columns
            if EVENT_COLUMN not in columns:
                raise InvalidFile(f"the Parquet file has no column {EVENT_COLUMN!r}, only {', '.join(columns[:40])}")
            wanted = ", ".join(name if name in columns else "NULL" for name in (EVENT_COLUMN, *ORIGIN_COLUMNS))
            row_count = 0
            statement = f"SELECT {wanted} FROM read_parquet(?)"  # noqa: S608 - only the constant names above
            result = connection.execute(statement, [escaped])
            while batch := result.fetchmany(ROWS_PER_BATCH):
                if any(not isinstance(row[0], str) for row in batch):
                    raise InvalidFile(f"the column {EVENT_COLUMN!r} does not hold text after row {row_count:,}")
                events = [row[0].encode() for row in batch]
                yield check_rows(events, [make_target(row[1], row[2]) for row in batch], row_count)
                row_count += len(batch)
        except duckdb.Error as error:
            raise InvalidFile(f"the Parquet file is truncated or damaged: {str(error).splitlines()[0]}") from error


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
        raise InvalidFile(f"this is not a Parquet file ({str(error).partition(chr(10))[0]})", 0) from error
    return int(found[0]) if found else 0
