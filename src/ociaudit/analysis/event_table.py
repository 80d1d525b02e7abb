"""The DuckDB table that holds the events of any files, in a database file in a private folder.

Parquet files with our own columns are loaded by DuckDB itself. All other files are read as events, whose rows pass
through a temporary file of JSON lines that is loaded and emptied every 64 MiB.

Invariants
- The table has every column, in the order of `events.columns`; columns that are not needed are NULL.
- Memory and the temporary file do not grow with the input.
- No text of an event ever becomes part of an SQL statement.
- A signal interrupts every long call: DuckDB works outside Python, which handles signals only between its own
  instructions, so the calls run in a thread that the main thread waits for.
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
from ociaudit.formats.reader import ignore_incomplete, open_records
from ociaudit.storage.atomic_io import explain_disk, open_private, write_all
from ociaudit.storage.ledger import open_origins

if TYPE_CHECKING:
    import duckdb

TABLE = "events"
_ORIGIN_COLUMNS = frozenset({"origin_region", "origin_compartment"})
SQL_TYPES = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "JSON"}
)
"""Kind of column -> its type in the table."""
_CHUNK_BYTES = 64 * 1024 * 1024
_LEAST_OBJECT_BYTES = 4 * 1024 * 1024
_PARQUET_MAGIC = b"PAR1"
_GLOB_CHARACTERS = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})
_ESCAPED_SURROGATE = re.compile(
    rb"(\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})|\\u[dD][89a-fA-F][0-9a-fA-F]{2}"
)
"""Group 1 is an escaped backslash or a whole pair, both to be kept; anything else is a lone surrogate."""
_encoder = msgspec.json.Encoder()
T = TypeVar("T")


def run_call(connection: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> T:
    """Return the result of a call that uses the connection; an exception while waiting interrupts the call."""
    with ThreadPoolExecutor(1, thread_name_prefix="duckdb") as executor:
        result = executor.submit(call)
        try:
            return result.result()
        finally:
            if not result.done():  # a signal handler raised an exception
                connection.interrupt()


def create_table(connection: duckdb.DuckDBPyConnection) -> None:
    """Create the empty table."""
    columns = ", ".join(f"{column.name} {SQL_TYPES[column.kind]}" for column in COLUMNS)
    connection.execute(f"CREATE TABLE {TABLE} ({columns})")


def fill_table(
    connection: duckdb.DuckDBPyConnection,
    sources: Sequence[Path | None],
    needed: Collection[str],
    folder: Path,
    *,
    on_incomplete: Callable[[str], None] = ignore_incomplete,
) -> None:
    """Load the `needed` columns of all files (None is stdin) into the table; `folder` holds the temporary file.

    Raises:
        UsageError: a file does not exist.
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        DiskError: a file cannot be read, or the temporary file cannot be written.
    """
    columns = [column for column in COLUMNS if column.name in needed]
    columns = columns or list(COLUMNS[1:2])  # a query that needs no column still counts rows
    with _RowLoader(connection, columns, folder / "rows.ndjson") as loader:
        for source in sources:
            if source is None or not _load_parquet(connection, source, columns):
                needs_origins = not _ORIGIN_COLUMNS.isdisjoint(needed)
                origins = open_origins(source) if source is not None and needs_origins else None
                with open_records(source, origins=origins, on_incomplete=on_incomplete) as records:
                    for batch in records:
                        try:
                            loader.add(batch)
                        except ValueError as error:
                            raise UnreadableInput(f"{records.name}: an event cannot be read: {error}") from error


class _RowLoader:
    """Loads rows into the table by way of a temporary file of JSON lines."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, columns: Sequence[Column], path: Path) -> None:
        self._connection = connection
        self._path = path
        self._columns = columns
        self._pick = itemgetter(*(COLUMNS.index(column) for column in columns), 0)  # 0 makes it always a tuple
        self._row = msgspec.defstruct("Row", [(column.name, object) for column in columns])
        self._has_event = any(column.kind == "json" for column in columns)
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
            batch = [record._replace(raw=_replace_lone_surrogates(record.raw)) for record in batch]
        lines = [_encoder.encode(self._row(*self._pick(read_row(record))[:-1])) for record in batch]
        data = b"\n".join([*lines, b""])
        write_all(self._descriptor, data, self._path)
        self._bytes += len(data)
        self._longest = max(self._longest, *map(len, lines))
        if self._bytes >= _CHUNK_BYTES:
            self._flush()

    def _flush(self) -> None:
        """Load the temporary file into the table and empty it."""
        if not self._bytes:
            return
        json_types = ", ".join(
            f"{column.name}: '{'INTEGER' if column.kind == 'integer' else 'VARCHAR'}'" for column in self._columns
        )
        sql = (
            f"INSERT INTO {TABLE} ({_list_names(self._columns)}) SELECT {_list_casts(self._columns)} "  # noqa: S608 - names of columns
            f"FROM read_json(?, format = 'newline_delimited', records = true, columns = {{{json_types}}}, "
            f"maximum_object_size = {max(_LEAST_OBJECT_BYTES, self._longest + 1024)})"
        )
        run_call(self._connection, lambda: self._connection.execute(sql, [_escape_glob(self._path)]))
        with explain_disk("empty", self._path):
            os.ftruncate(self._descriptor, 0)
            os.lseek(self._descriptor, 0, os.SEEK_SET)
        self._bytes = self._longest = 0


def _load_parquet(connection: duckdb.DuckDBPyConnection, source: Path, columns: Sequence[Column]) -> bool:
    """Load a Parquet file that has our own columns; return False if the file is not one."""
    import duckdb

    with explain_disk("read", source):
        if not source.is_file():
            return False
        with source.open("rb") as file:
            if file.read(len(_PARQUET_MAGIC)) != _PARQUET_MAGIC:
                return False
    scan = "FROM read_parquet(?, hive_partitioning = false)"
    sql = f"INSERT INTO {TABLE} ({_list_names(columns)}) SELECT {_list_casts(columns)} {scan}"
    try:
        described = connection.execute(f"DESCRIBE {scan}", [_escape_glob(source)]).fetchall()
        if not {column.name for column in COLUMNS} <= {row[0] for row in described}:
            return False
        run_call(connection, lambda: connection.execute(sql, [_escape_glob(source)]))
    except (duckdb.InvalidInputException, duckdb.IOException, duckdb.ConversionException) as error:
        first_line = str(error).partition("\n")[0]
        raise UnreadableInput(f"{source}: the Parquet file is truncated or damaged: {first_line}") from error
    return True


def _list_names(columns: Sequence[Column]) -> str:
    return ", ".join(column.name for column in columns)


def _list_casts(columns: Sequence[Column]) -> str:
    """Return the columns for SELECT; those that are not text are cast, and a value that cannot be cast is NULL."""
    return ", ".join(
        column.name if column.kind == "text" else f"TRY_CAST({column.name} AS {SQL_TYPES[column.kind]})"
        for column in columns
    )


def _escape_glob(path: Path) -> str:
    return str(path).translate(_GLOB_CHARACTERS)


def _replace_lone_surrogates(raw: bytes) -> bytes:
    r"""Replace escaped lone surrogates by U+FFFD: JSON with them is valid, but DuckDB rejects it."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    return _ESCAPED_SURROGATE.sub(lambda match: match[1] or rb"\ufffd", raw)
