"""A table as Parquet: the columns of CSV, typed, the free maps as JSON text, and the whole event.

Owns: that form: schema, row groups, compression. The file itself is written by DuckDB.

Rows wait in one compressed file of the scratch folder; at the end DuckDB reads them once and writes Parquet into
a pipe, so that the bytes go the way of every other format: hashed, private, and named when they are whole.

Invariants
- Rows keep their order, and the same rows give the same bytes: one thread of DuckDB, bounded row groups.
- DuckDB reads the scratch file and writes the pipe; it loads no extension, and asks the network for nothing.
- Memory is that of two row groups, whatever the file's size.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import BinaryIO

import msgspec
import zstandard

from ociaudit.errors import DiskError
from ociaudit.events.columns import COLUMNS, MAP_COLUMNS, Column, ColumnKind, make_row, read_facts_and_maps
from ociaudit.formats.base import (
    EVENT_COLUMN,
    ORIGIN_COLUMNS,
    ROWS_PER_BATCH,
    EventShape,
    Rows,
    check_rows,
    make_target,
)
from ociaudit.formats.compression import BadFile
from ociaudit.planning.shard import Target

ROWS_NAME = "rows.ndjson.zst"
PARQUET_COLUMNS: tuple[Column, ...] = (*COLUMNS[:-1], *MAP_COLUMNS, COLUMNS[-1])
"""The columns of a Parquet file; `event` is the last one."""
SQL_TYPES: MappingProxyType[ColumnKind, str] = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "VARCHAR"}
)

_GROUP_BYTES = 48 * 1024 * 1024
_FEWEST_ROWS, _MOST_ROWS = 2_048, 16_384
_LEAST_OBJECT_BYTES = 4 * 1024 * 1024
_MOST_GROWTH = 6
"""An event stands in its row twice, in whole and in parts, with its quotes escaped; a shape adds names."""
_LEVEL = 1
"""Level 3 makes files 6 % smaller, and takes 40 % longer."""
_ROWS_LEVEL = 1
_READ_BYTES = 1024 * 1024
_PATTERN = re.compile(r"[*?\[\\]")
_SETTINGS = MappingProxyType(
    {
        "threads": "1",
        "temp_directory": "",
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
    }
)

_Row = msgspec.defstruct(
    "_Row", [(column.name, object, None) for column in PARQUET_COLUMNS], omit_defaults=True, gc=False
)
_encoder = msgspec.json.Encoder()
_GLOB_MARKS = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})
_READER_SETTINGS = MappingProxyType({"autoinstall_known_extensions": False, "autoload_known_extensions": False})


class Parquet:
    """Writes events as rows of Parquet; all of it comes at the end."""

    def __init__(self, spelling: EventShape, scratch: Path) -> None:
        """Write the column `event` as `spelling` says; keep rows in the private folder `scratch` until the end."""
        self._apply = EventShape(spelling.shape).apply
        self._path = scratch / ROWS_NAME
        self._file: BinaryIO | None = None
        self._packer = zstandard.ZstdCompressor(_ROWS_LEVEL).compressobj()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._packing: Future[bytes] | None = None
        self._rows = self._bytes = self._longest = 0

    def begin(self) -> bytes:
        """Open the scratch file; Parquet begins at the end."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        try:
            self._file = os.fdopen(os.open(self._path, flags, 0o600), "wb")
        except OSError as error:
            raise self._explain("create", error) from error
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Keep the events' rows."""
        rows = list(map(_make_row, raws, self._apply(raws, origins), origins))
        data = _encoder.encode_lines(rows)
        self._rows += len(rows)
        self._bytes += len(data)
        self._longest = max(self._longest, *map(len, raws), 0)
        self._settle()
        self._packing = self._thread.submit(self._packer.compress, data)
        return b""

    def finish(self) -> Iterator[bytes]:
        """Have DuckDB write the file, and yield it as it comes."""
        self._settle()
        self._keep(self._packer.flush())
        self._close_rows()
        with _give_plain_name(self._path) as path:
            reading, writing = os.pipe()
            done = self._thread.submit(_copy, self._make_statement(path, writing), writing)
            try:
                while piece := os.read(reading, _READ_BYTES):
                    yield piece
            finally:
                os.close(reading)  # where nobody wants the rest, DuckDB's next write ends it
                wait([done])
            try:
                done.result()
            except OSError as error:
                raise self._explain("read", error) from error

    def close(self) -> None:
        """Take the scratch file away."""
        self._thread.shutdown()
        with suppress(DiskError):
            self._close_rows()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _settle(self) -> None:
        """Keep what has been compressed beside."""
        packing, self._packing = self._packing, None
        if packing is not None:
            self._keep(packing.result())

    def _keep(self, data: bytes) -> None:
        try:
            if self._file is not None:
                self._file.write(data)
        except OSError as error:
            raise self._explain("write to", error) from error

    def _close_rows(self) -> None:
        file, self._file = self._file, None
        try:
            if file is not None:
                file.close()
        except OSError as error:
            raise self._explain("write to", error) from error

    def _explain(self, action: str, error: OSError) -> DiskError:
        return DiskError(f"cannot {action} {self._path}: {error.strerror or error}")

    def _make_statement(self, path: Path, descriptor: int) -> str:
        """Write the statement; nothing of an event stands in it."""
        columns = ", ".join(f"{column.name}: '{SQL_TYPES[column.kind]}'" for column in PARQUET_COLUMNS)
        mean = self._bytes // max(self._rows, 1) + 1
        group = max(_FEWEST_ROWS, min(_MOST_ROWS, _GROUP_BYTES // mean))
        return (
            f"COPY (FROM read_json({_quote(str(path))}, format = 'newline_delimited', records = true, "
            f"compression = 'zstd', maximum_object_size = {max(_LEAST_OBJECT_BYTES, self._longest * _MOST_GROWTH)}, "
            f"columns = {{{columns}}})) "
            f"TO '/dev/fd/{descriptor}' (FORMAT parquet, COMPRESSION zstd, "
            f"COMPRESSION_LEVEL {_LEVEL}, ROW_GROUP_SIZE {group}, USE_TMP_FILE false)"
        )


def _make_row(raw: bytes, event: bytes, origin: Target | None) -> msgspec.Struct:
    facts, maps = read_facts_and_maps(raw)
    row: msgspec.Struct = _Row(*make_row(facts, origin), *maps, event.decode())
    return row


def _copy(statement: str, descriptor: int) -> None:
    """Run a statement that writes into a pipe, and close the pipe.

    Raises:
        OSError: DuckDB could not read or write.
    """
    import duckdb

    try:
        with duckdb.connect(config=dict(_SETTINGS)) as engine:
            engine.execute("SET enable_progress_bar = false")
            engine.execute(statement)
    except duckdb.IOException as error:
        raise OSError(str(error).partition("\n")[0]) from error
    finally:
        os.close(descriptor)


@contextmanager
def _give_plain_name(path: Path) -> Iterator[Path]:
    """Give a path that DuckDB does not take for a pattern: itself, or a link in a private folder."""
    if not _PATTERN.search(str(path)):
        yield path
        return
    with TemporaryDirectory(prefix="oci-audit-") as folder:
        link = Path(folder) / ROWS_NAME
        link.symlink_to(path.absolute())
        yield link


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def read_parquet(path: Path) -> Iterator[Rows]:
    """Yield the rows of a Parquet file that has the column `event`.

    Raises:
        BadFile: the file is cut or damaged, or has no such column, or an event in it is no JSON object.
    """
    import duckdb

    with duckdb.connect(config={**_READER_SETTINGS}) as connection:
        try:
            source = connection.read_parquet(str(path).translate(_GLOB_MARKS))
            columns = source.columns
            if EVENT_COLUMN not in columns:
                raise BadFile(f"the Parquet file has no column {EVENT_COLUMN!r}, only {', '.join(columns[:40])}")
            wanted = ", ".join(name if name in columns else "NULL" for name in (EVENT_COLUMN, *ORIGIN_COLUMNS))
            row_count = 0
            result = connection.execute(
                f"SELECT {wanted} FROM read_parquet(?)",  # noqa: S608 - only names from above
                [str(path).translate(_GLOB_MARKS)],
            )
            while batch := result.fetchmany(ROWS_PER_BATCH):
                if any(not isinstance(row[0], str) for row in batch):
                    raise BadFile(f"the column {EVENT_COLUMN!r} holds no text behind row {row_count:,}")
                events = [row[0].encode() for row in batch]
                yield check_rows(events, [make_target(row[1], row[2]) for row in batch], row_count)
                row_count += len(batch)
        except duckdb.Error as error:
            raise BadFile(f"the Parquet file is cut or damaged: {str(error).splitlines()[0]}") from error
