"""An SQL query over files of events, the check that it passes first, and the named queries.

A query must be one SELECT over the table `events`. DuckDB parses it, and `check_query` examines the syntax tree: the
first of two barriers. The check also finds which columns the query needs.

`run_query` loads the events into a DuckDB database of its own, in a private folder that is deleted with the result.
The query runs on a second connection that is read-only, has no access to files, the network or extensions, and whose
settings are locked. docs/reference/query.md shows the text of each named query; a test keeps both equal.

Parquet files with our own columns are loaded by DuckDB itself. All other files are read as events, whose rows pass
through a temporary file of JSON lines that is loaded and emptied every 64 MiB.

Invariants
- Only statements without side effects pass: every node of the tree is one that reads, and every table function is one
  that makes rows from its arguments.
- The columns loaded are those that the query names, or all columns where it may need more than it names.
- The table has every column, in the order of `events.columns`; columns that are not needed are NULL.
- No text of an event ever becomes part of an SQL statement.
- A signal interrupts every long call: DuckDB works outside Python, which handles signals only between its own
  instructions, so the calls run in a thread that the main thread waits for.
- A query is checked, including the names in it, before the first event is read.
- Memory is bounded by `MEMORY_LIMIT`, whatever the input's size; what does not fit is written to the private folder.
- Rows are yielded as they are produced: a result of any size is never held as a whole.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import tempfile
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import msgspec

from ociaudit.archive.inputs import Input
from ociaudit.archive.reader import ArchiveView, SegmentScan, quote_sql
from ociaudit.errors import CorruptRun, DiskError, OciAuditError, UnreadableInput, UsageError
from ociaudit.events.columns import COLUMNS, Column, ColumnKind, read_row
from ociaudit.formats.base import Record
from ociaudit.formats.parquet import cast_json
from ociaudit.formats.reader import check_distinct, ignore_incomplete
from ociaudit.storage.atomic_io import explain_disk, open_private, write_all

if TYPE_CHECKING:
    import duckdb

TABLE = "events"
"""The one table that a query may read."""
COLUMN_NAMES = tuple(column.name for column in COLUMNS)
_ALL_COLUMNS = frozenset(COLUMN_NAMES)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_ROW_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat"})
_ONE_SELECT = (
    "write one SELECT over the table `events`, for example: SELECT event_name, count(*) FROM events GROUP BY 1"
)
_MISSING_COLUMN = re.compile(r'Referenced column "(?P<name>.+?)" (?:was )?not found', re.DOTALL)
_MISSING_COLUMN_OF_TABLE = re.compile(r'does not have a column named "(?P<name>.+?)"', re.DOTALL)
_MISSING_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist", re.DOTALL)


def check_query(sql: str, connection: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the names of the columns that a query needs; the connection is used only to parse the query.

    Raises:
        UsageError: the query is not a single SELECT, or does something other than read the table.
    """
    import duckdb

    try:
        statements = connection.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        if kinds != ["SELECT"]:
            found = " and ".join(kinds[:5]) or "empty"
            raise UsageError(f"the query is not a single SELECT statement, but {found}", hint=_ONE_SELECT)
        row = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
        tree = json.loads(row[0] if row else "{}")
    except duckdb.Error as error:
        raise explain_error(error) from error
    except RecursionError as error:
        raise UsageError("the query is nested too deeply", hint=_ONE_SELECT) from error
    if tree.get("error") or "statements" not in tree:
        raise UsageError(
            f"the query is not a single SELECT statement: {tree.get('error_message', '')}", hint=_ONE_SELECT
        )
    _check_tree(tree["statements"])
    return _find_columns(tree["statements"])


def explain_error(error: duckdb.Error) -> OciAuditError:
    """Return DuckDB's error as an error of our own, with a hint."""
    import duckdb

    text = str(error)
    first_line = text.partition("\n")[0]
    for pattern in (_MISSING_COLUMN, _MISSING_COLUMN_OF_TABLE):
        if match := pattern.search(text):
            return _explain_missing_column(match["name"])
    if match := _MISSING_TABLE.search(text):
        return UsageError(f"there is no table {match['name']!r}", hint=f"the only table is `{TABLE}`: FROM {TABLE}")
    if isinstance(error, duckdb.IOException):
        return DiskError(
            f"the query failed on a disk error: {first_line}", hint="free disk space for temporary files, or set TMPDIR"
        )
    if isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(
            f"the query exceeds its memory limit: {first_line}", hint="reduce the number of rows or groups"
        )
    if isinstance(error, duckdb.PermissionException):
        return UsageError(
            f"a query may only read the table `{TABLE}`: {first_line}", hint="name the files before the query"
        )
    if isinstance(error, duckdb.ParserException):
        return UsageError(f"the query cannot be parsed: {first_line}", hint=_ONE_SELECT)
    return UsageError(f"the query failed: {first_line}", hint="see docs/reference/query.md for working examples")


def _explain_missing_column(name: str) -> UsageError:
    near = difflib.get_close_matches(name.casefold(), COLUMN_NAMES, n=3, cutoff=0.5)
    near += [column for column in COLUMN_NAMES if name.casefold() in column and column not in near][:3]
    suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
    return UsageError(f"there is no column {name!r}{suggestion}", hint=f"the columns are {', '.join(COLUMN_NAMES)}")


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a tree of JSON values."""
    pending = [tree]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending += value.values()
        elif isinstance(value, list):
            pending += value


def _check_tree(tree: Any) -> None:
    for node in _walk(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READING_NODES:
            word = kind.removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
            raise UsageError(f"the query contains {word}; a query may only read", hint=_ONE_SELECT)
        if kind == "TABLE_FUNCTION":
            function = node.get("function") or {}
            name = str(function.get("function_name", "")).casefold()
            if name not in _ROW_FUNCTIONS:
                raise UsageError(
                    f"the query calls {name}(); a query may only read the table `{TABLE}`",
                    hint="name the files before the query; the table holds the events of all of them",
                )


def _find_columns(tree: Any) -> frozenset[str]:
    """Return the columns that a query names, or all of them where it may use a row as a whole."""
    nodes = list(_walk(tree))
    row_names = {TABLE}
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            row_names |= {str(node.get("table_name", "")).casefold(), str(node.get("alias", "")).casefold()}
    needed: set[str] = set()
    for node in nodes:
        is_whole = node.get("class") in {"STAR", "POSITIONAL_REFERENCE"} or node.get("ref_type") == "NATURAL"
        if is_whole or node.get("type") in {"SHOW_REF", "PIVOT"}:
            return _ALL_COLUMNS
        parts = [str(name).casefold() for name in node.get("column_names") or ()]
        if len(parts) == 1 and parts[0] in row_names:
            return _ALL_COLUMNS
        needed.update(parts)
        needed.update(str(name).casefold() for name in node.get("using_columns") or ())
    return frozenset(needed & _ALL_COLUMNS)


MEMORY_LIMIT = "1GiB"
_BATCH_ROWS = 500
_LOAD_SETTINGS: Mapping[str, str] = MappingProxyType(
    {
        "memory_limit": MEMORY_LIMIT,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
)
_QUERY_SETTINGS: Mapping[str, str] = MappingProxyType({**_LOAD_SETTINGS, "enable_external_access": "false"})
_ORIGIN_COLUMNS = frozenset({"origin_region", "origin_compartment"})
SQL_TYPES: Mapping[ColumnKind, str] = MappingProxyType(
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


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a result, in batches; `types` are DuckDB's own names of the columns' types."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def run_query(
    sources: Sequence[Input], sql: str, *, on_incomplete: Callable[[str], None] = ignore_incomplete
) -> Iterator[QueryResult]:
    """Run a query over the events of all inputs.

    Raises:
        UsageError: the query is not a valid SELECT over the table `events`, or a file does not exist or is named twice.
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        CorruptRun: a segment of an archive is missing or damaged.
        DiskError: a file cannot be read, or a temporary file cannot be written.
    """
    import duckdb

    needed = _check(sql)
    check_distinct([source.path for source in sources])
    views = [source.view for source in sources if source.view is not None]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oci-audit-")))
        spill = {"temp_directory": str(folder / "spill")}
        try:
            if len(views) == len(sources):
                scans = [stack.enter_context(view.open_scan()) for view in views]
                connection = stack.enter_context(duckdb.connect(config={**_LOAD_SETTINGS, **spill}))
                _configure(connection)
                _create_view(connection, scans)
            else:
                database = str(folder / "events.duckdb")
                with duckdb.connect(database, config={**_LOAD_SETTINGS, **spill}) as connection:
                    _configure(connection)
                    create_table(connection)
                    fill_table(connection, sources, needed, folder, on_incomplete=on_incomplete)
                reading = duckdb.connect(database, read_only=True, config={**_QUERY_SETTINGS, **spill})
                connection = stack.enter_context(reading)
                _configure(connection)
            connection.execute("SET lock_configuration = true")
            run_call(connection, lambda: connection.execute(sql))
            described = connection.description or []
            names = tuple(str(column[0]) for column in described)
            types = tuple(str(column[1]) for column in described)
            yield QueryResult(names, types, _fetch(connection))
        except duckdb.Error as error:
            raise _find_damage(views, error) or explain_error(error) from error


def _find_damage(views: Sequence[ArchiveView], error: duckdb.Error) -> CorruptRun | None:
    """Return the error for a damaged segment, if the query failed because of one: only the bytes of all tell."""
    import duckdb

    of_queries = (
        *(duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException, duckdb.PermissionException),
        *(duckdb.ConversionException, duckdb.OutOfRangeException),
        *(duckdb.OutOfMemoryException, duckdb.InterruptException),
    )
    if isinstance(error, of_queries):
        return None
    return next((damage for view in views if (damage := view.find_damage()) is not None), None)


def _create_view(connection: duckdb.DuckDBPyConnection, scans: Sequence[SegmentScan]) -> None:
    """Make `events` a view of segments, and close the connection to all other files."""
    allowed = ", ".join(quote_sql(path) for scan in scans for path in scan.paths)
    connection.execute(f"SET allowed_paths = [{allowed}]")
    connection.execute("SET enable_external_access = false")
    selects = " UNION ALL ".join(scan.select(COLUMNS, SQL_TYPES) for scan in scans)
    connection.execute(f"CREATE VIEW {TABLE} AS {selects}")


def connect_archive(view: ArchiveView) -> duckdb.DuckDBPyConnection:
    """Return a connection of its own whose view `events` has the rows of an archive, each once.

    The segments stay open as long as the connection exists, so that the rows are those of one commit.

    Raises:
        CorruptRun: a segment is missing or damaged.
        DiskError: one cannot be opened.
    """
    import duckdb

    with ExitStack() as stack:
        scan = stack.enter_context(view.open_scan())
        connection = duckdb.connect()
        _configure(connection)
        connection.execute(f"CREATE VIEW {TABLE} AS {scan.select(COLUMNS, SQL_TYPES)}")
        weakref.finalize(connection, stack.pop_all().close)
    return connection


def _check(sql: str) -> frozenset[str]:
    """Check a query against an empty table and return the columns that it needs."""
    import duckdb

    with duckdb.connect(config={**_QUERY_SETTINGS}) as connection:
        _configure(connection)
        create_table(connection)
        connection.execute("SET lock_configuration = true")
        needed = check_query(sql, connection)
        try:
            connection.execute(f"EXPLAIN {sql}")
        except duckdb.Error as error:
            raise explain_error(error) from error
    return needed


def _configure(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")


def _fetch(connection: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := run_call(connection, lambda: connection.fetchmany(_BATCH_ROWS)):
        yield rows


class NamedQuery(NamedTuple):
    """The question that a query answers, and its SQL."""

    question: str
    sql: str


NAMED_QUERIES = MappingProxyType(
    {
        "top-events": NamedQuery(
            "Which events are most frequent?",
            """
SELECT event_name, count(*) AS n, count(DISTINCT principal_name) AS principals,
       count(*) FILTER (outcome = 'failure') AS failures
FROM events GROUP BY event_name ORDER BY n DESC, event_name LIMIT 25""",
        ),
        "principals": NamedQuery(
            "How active is each principal, from how many addresses, and how often do its calls fail?",
            """
SELECT coalesce(principal_name, principal_id) AS principal, count(*) AS n,
       count(*) FILTER (outcome = 'failure') AS failures, count(DISTINCT ip_address) AS addresses,
       min(event_time) AS first_seen, max(event_time) AS last_seen
FROM events GROUP BY principal ORDER BY n DESC, principal""",
        ),
        "sign-in-failures": NamedQuery(
            "Whose sign-ins failed, from where, and did any succeed?",
            """
SELECT principal_name, ip_address, count(*) FILTER (outcome = 'failure') AS failures,
       count(*) FILTER (outcome = 'success') AS successes,
       min(event_time) FILTER (outcome = 'failure') AS first_failure, max(event_time) AS last_event
FROM events WHERE event_type LIKE '%IdentitySignOn.%'
GROUP BY ALL HAVING failures > 0 ORDER BY failures DESC, first_failure""",
        ),
        "iam-changes": NamedQuery(
            "Who changed users, groups, policies or credentials?",
            """
SELECT event_time, event_name, principal_name, ip_address, resource_name, resource_id, event_id
FROM events WHERE event_type LIKE '%identityControlPlane.%' AND outcome = 'success'
  AND NOT regexp_matches(event_name, '^(Get|List|Search|Validate)')
ORDER BY event_time""",
        ),
        "new-api-keys": NamedQuery(
            "Which API keys were created, by whom, and with which fingerprint?",
            """
SELECT event_time, principal_name, ip_address, resource_id AS user_id,
       event->>'$.data.response.payload.fingerprint' AS fingerprint, event_id
FROM events WHERE event_name IN ('UploadApiKey', 'CreateApiKey') AND outcome = 'success' ORDER BY event_time""",
        ),
        "new-addresses": NamedQuery(
            "Which addresses did a principal use for the first time in the last quarter of the file?",
            """
WITH seen AS (
  SELECT principal_name, ip_address, min(event_time) AS first_seen, count(*) AS n
  FROM events WHERE ip_address IS NOT NULL GROUP BY ALL),
bounds AS (SELECT min(event_time) AS first_event, max(event_time) AS last_event FROM events)
SELECT seen.principal_name, seen.ip_address, seen.first_seen, seen.n
FROM seen, bounds WHERE first_seen > last_event - (last_event - first_event) / 4 ORDER BY first_seen""",
        ),
        "failures": NamedQuery(
            "Which calls fail most often, and for whom?",
            """
SELECT event_name, status, principal_name, count(*) AS n
FROM events WHERE outcome = 'failure' GROUP BY ALL ORDER BY n DESC, event_name, principal_name LIMIT 50""",
        ),
        "deletions": NamedQuery(
            "What was deleted or terminated?",
            """
SELECT event_time, event_name, principal_name, ip_address, resource_name, compartment_name
FROM events WHERE regexp_matches(event_name, '^(Delete|Terminate|Remove|Purge)') AND outcome = 'success'
ORDER BY event_time""",
        ),
        "per-hour": NamedQuery(
            "How many events are there in each hour?",
            """
SELECT date_trunc('hour', event_time) AS hour, count(*) AS n, count(*) FILTER (outcome = 'failure') AS failures
FROM events GROUP BY hour ORDER BY hour""",
        ),
        "tools": NamedQuery(
            "Which tools access the tenancy?",
            """
SELECT regexp_extract(user_agent, '^[^ ]+') AS tool, count(*) AS n, count(DISTINCT principal_name) AS principals
FROM events GROUP BY tool ORDER BY n DESC, tool LIMIT 25""",
        ),
    }
)


def find_named_query(name: str) -> NamedQuery:
    """Return the named query; the case of the name does not matter.

    Raises:
        UsageError: there is no such query; the message suggests similar names.
    """
    query = NAMED_QUERIES.get(name.casefold())
    if query is None:
        near = difflib.get_close_matches(name.casefold(), NAMED_QUERIES, n=3, cutoff=0.4)
        suggestion = f"; did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"no query is named {name!r}{suggestion}", hint="`oci-audit query --list` lists all names")
    return query


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
    sources: Sequence[Input],
    needed: Collection[str],
    folder: Path,
    *,
    on_incomplete: Callable[[str], None] = ignore_incomplete,
) -> None:
    """Load the `needed` columns of all inputs into the table; `folder` holds the temporary file.

    Raises:
        UsageError: a file does not exist.
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        DiskError: a file cannot be read, or the temporary file cannot be written.
    """
    columns = [column for column in COLUMNS if column.name in needed]
    columns = columns or list(COLUMNS[1:2])  # a query that needs no column still counts rows
    with _RowLoader(connection, columns, folder / "rows.ndjson") as loader:
        for source in sources:
            if source.view is not None:
                _load_segments(connection, source.view, columns)
            elif source.file is None or not _load_parquet(connection, source.file, columns):
                needs_origins = not _ORIGIN_COLUMNS.isdisjoint(needed)
                with source.open(needs_origins=needs_origins, on_incomplete=on_incomplete) as records:
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


def _load_segments(connection: duckdb.DuckDBPyConnection, view: ArchiveView, columns: Sequence[Column]) -> None:
    """Load the segments of an archive."""
    with view.open_scan() as scan:
        sql = f"INSERT INTO {TABLE} ({_list_names(columns)}) {scan.select(columns, SQL_TYPES)}"
        run_call(connection, lambda: connection.execute(sql))


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
    casts: Mapping[str, Callable[[str], str]] = {"text": str, "json": cast_json}
    return ", ".join(
        casts[column.kind](column.name)
        if column.kind in casts
        else f"TRY_CAST({column.name} AS {SQL_TYPES[column.kind]})"
        for column in columns
    )


def _escape_glob(path: Path) -> str:
    return str(path).translate(_GLOB_CHARACTERS)


def _replace_lone_surrogates(raw: bytes) -> bytes:
    r"""Replace escaped lone surrogates by U+FFFD: JSON with them is valid, but DuckDB rejects it."""
    if b"\\ud" not in raw and b"\\uD" not in raw:
        return raw
    return _ESCAPED_SURROGATE.sub(lambda match: match[1] or rb"\ufffd", raw)
