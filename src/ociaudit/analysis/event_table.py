"""Calls of DuckDB that a signal can end.

Owns: that. DuckDB works outside Python for as long as it takes, and Python handles signals in between only; so the
work is done by a thread, and whoever waits for it is told of a signal at once.

Events of any files as a table of DuckDB, in a file of its own in a private folder.

Owns: how rows get into the table. Must not: run anybody's query.

Our own Parquet is read by DuckDB itself. Everything else is read as events, whose rows pass through a file of
lines that is begun anew every 64 MB.

Invariants
- The table has every column, in the order of `events/columns`; those that are not needed are NULL.
- Memory and the passing file do not grow with the input.
- No text of an event ever stands in a statement.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from ociaudit.errors import UnreadableInput
from ociaudit.events.columns import COLUMNS, Column, read_row
from ociaudit.formats.base import Record
from ociaudit.formats.reader import open_records
from ociaudit.storage.atomic_io import explain_disk, open_private, write_all

if TYPE_CHECKING:
    import duckdb

if TYPE_CHECKING:
    import duckdb


T = TypeVar("T")


def run_call(engine: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> T:
    """Return what a call of the engine returns; what is raised while waiting ends the call."""
    with ThreadPoolExecutor(1, thread_name_prefix="duckdb") as thread:
        result = thread.submit(call)
        try:
            return result.result()
        finally:
            if not result.done():  # a signal ended the waiting
                engine.interrupt()


TABLE = "events"
SQL_TYPES = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "JSON"}
)
"""Kind of column -> its type in the table."""
_CHUNK_BYTES = 64 * 1024 * 1024
_LEAST_OBJECT_BYTES = 4 * 1024 * 1024
_PARQUET_MAGIC = b"PAR1"
_GLOB_MARKS = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})
_ESCAPED_HALF = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""A backslash that is text, or a whole pair; else a lone surrogate."""
_encoder = msgspec.json.Encoder()


def create_table(engine: duckdb.DuckDBPyConnection) -> None:
    """Create the empty table."""
    columns = ", ".join(f"{column.name} {SQL_TYPES[column.kind]}" for column in COLUMNS)
    engine.execute(f"CREATE TABLE {TABLE} ({columns})")


def fill_table(
    engine: duckdb.DuckDBPyConnection, sources: Sequence[Path | None], needed: Collection[str], folder: Path
) -> None:
    """Put the events of all files (None is stdin) into the table.

    Raises:
        UsageError: a file does not exist.
        UnreadableInput: a file is not what it should be.
        DiskError: the disk refused.
    """
    columns = [column for column in COLUMNS if column.name in needed]
    with _Loader(engine, columns, folder / "rows.ndjson") as loader:
        for source in sources:
            if source is None or not _fill_from_parquet(engine, source, columns):
                with open_records(source) as records:
                    for batch in records:
                        try:
                            loader.add(batch)
                        except ValueError as error:
                            raise UnreadableInput(f"{records.name}: an event cannot be read: {error}") from error


class _Loader:
    """Carries rows through a file of lines into the table."""

    def __init__(self, engine: duckdb.DuckDBPyConnection, columns: Sequence[Column], path: Path) -> None:
        self._engine = engine
        self._path = path
        self._columns = columns or COLUMNS[1:2]  # a query that needs no column still counts rows
        self._pick = itemgetter(*(COLUMNS.index(column) for column in self._columns), 0)
        fields = [(column.name, object) for column in self._columns]
        self._row = msgspec.defstruct("Row", fields)
        self._has_event = any(column.kind == "json" for column in self._columns)
        self._descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._bytes = self._longest = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._flush()
        finally:
            os.close(self._descriptor)

    def add(self, batch: Sequence[Record]) -> None:
        if self._has_event:
            batch = [record._replace(raw=_mend(record.raw)) for record in batch]
        lines = [_encoder.encode(self._row(*self._pick(read_row(record))[:-1])) for record in batch]
        data = b"\n".join([*lines, b""])
        write_all(self._descriptor, data, self._path)
        self._bytes += len(data)
        self._longest = max(self._longest, *map(len, lines))
        if self._bytes >= _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        if not self._bytes:
            return
        served = ", ".join(
            f"{column.name}: '{'INTEGER' if column.kind == 'integer' else 'VARCHAR'}'" for column in self._columns
        )
        statement = (
            f"INSERT INTO {TABLE} ({_list_names(self._columns)}) SELECT {_list_casts(self._columns)} "  # noqa: S608 - names of columns
            f"FROM read_json(?, format = 'newline_delimited', records = true, columns = {{{served}}}, "
            f"maximum_object_size = {max(_LEAST_OBJECT_BYTES, self._longest + 1024)})"
        )
        run_call(self._engine, lambda: self._engine.execute(statement, [_escape_glob(self._path)]))
        with explain_disk("empty", self._path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._bytes = self._longest = 0


def _fill_from_parquet(engine: duckdb.DuckDBPyConnection, source: Path, columns: Sequence[Column]) -> bool:
    """Let DuckDB read a Parquet file that has our columns; tell whether it is one."""
    import duckdb

    with explain_disk("read", source):
        if not source.is_file():
            return False
        with source.open("rb") as file:
            if file.read(len(_PARQUET_MAGIC)) != _PARQUET_MAGIC:
                return False
    columns = columns or COLUMNS[1:2]
    scan = "FROM read_parquet(?, hive_partitioning = false)"
    load = f"INSERT INTO {TABLE} ({_list_names(columns)}) SELECT {_list_casts(columns)} {scan}"
    try:
        described = engine.execute(f"DESCRIBE {scan}", [_escape_glob(source)]).fetchall()
        if not {column.name for column in COLUMNS} <= {row[0] for row in described}:
            return False
        run_call(engine, lambda: engine.execute(load, [_escape_glob(source)]))
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.ConversionException) as error:
        first = str(error).partition("\n")[0]
        raise UnreadableInput(f"{source}: the Parquet file is cut or damaged: {first}") from error
    return True


def _list_names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _list_casts(columns: Sequence[Column]) -> str:
    """Cast what is no text; what cannot be is NULL, which a time that is none is already."""
    return ", ".join(
        column.name if column.kind == "text" else f"TRY_CAST({column.name} AS {SQL_TYPES[column.kind]})"
        for column in columns
    )


def _escape_glob(path: Path) -> str:
    return str(path).translate(_GLOB_MARKS)


def _mend(raw: bytes) -> bytes:
    r"""Put U+FFFD where a lone surrogate is escaped: such JSON is valid, and no JSON for DuckDB."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    return _ESCAPED_HALF.sub(lambda match: match[1] or rb"\ufffd", raw)
