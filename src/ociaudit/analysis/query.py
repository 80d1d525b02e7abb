"""An SQL query over files of events, the check that it passes first, and the named queries.

A query must be one SELECT over the table `events`. DuckDB parses it, and `check_query` examines the syntax tree: the
first of two barriers. The check also finds which columns the query needs.

`run_query` gives DuckDB a view `events` of files, the only ones that it can read, and asks it whether the query is a
single SELECT, too. It has no access to the network or extensions, and its settings are locked. Columns other than the
whole event are written, as rows, to a file in a private folder that is deleted with the result; of a large file, other
processes write the rows of their parts. A query that needs
nothing but the whole event of plain files reads these files themselves, while a thread checks that they are what DuckDB
takes them for; if they are not, or anything fails, all is read as rows. Parquet files with our own columns, and
archives beside files, are loaded into a database in the private folder, which is then opened read-only.
docs/reference/query.md shows the text of each named query; a test keeps both equal.

Over 700 lines, of which a seventh is the named queries: what a query may do, and each way in which it reads the same
rows, is one promise.

Invariants
- Only statements without side effects pass: every node of the tree is one that reads, and every table function is one
  that makes rows from its arguments.
- The columns read are those that the query names, or all columns where it may need more than it names.
- The rows are those of the records that `open_records` reads, in their order, whichever way they are read. No row of a
  file is given before the whole file has been checked.
- The table has every column, in the order of `events.columns`; columns that are not needed are NULL.
- No text of an event ever becomes part of an SQL statement.
- A signal interrupts every long call: DuckDB works outside Python, which handles signals only between its own
  instructions, so the calls run in a thread that the main thread waits for.
- A query is checked, including the names in it, before the first event is read.
- Memory is bounded by `MEMORY_LIMIT`, whatever the input's size; what does not fit is written to the private folder.
- Rows are yielded as they are produced: a result of any size is never held as a whole.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import json
import os
import re
import tempfile
import threading
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypeVar

import msgspec

from ociaudit.archive.inputs import Input
from ociaudit.errors import CorruptRun, DiskError, OciAuditError, UnreadableInput, UsageError
from ociaudit.events.columns import COLUMN_NAMES, COLUMNS, Column, ColumnKind, list_fields, read_columns
from ociaudit.events.fields import Facts, make_facts_model, make_facts_reader
from ociaudit.formats.base import EVENT_COLUMN, ORIGIN_COLUMNS, Record
from ociaudit.formats.compression import decompress
from ociaudit.formats.parquet import EVENTS_KEY, cast_json, describe_engine_error, escape_glob, quote_sql
from ociaudit.formats.reader import (
    FilePart,
    check_distinct,
    count_helpers,
    ignore_incomplete,
    open_part,
    open_plain,
    read_plain_events,
    split_plain,
    start_helper,
)
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import explain_disk, open_private, write_all

if TYPE_CHECKING:
    import duckdb

    from ociaudit.archive.reader import ArchiveView, SegmentScan

TABLE = "events"
"""The one table that a query may read."""
_ALL_COLUMNS = frozenset(COLUMN_NAMES)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_ROW_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat"})
_NOWHERE = 2**64 - 1
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
    first_line = describe_engine_error(error)
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
    nodes = [node for node in _walk(tree) if not _is_order_by_all(node)]
    row_names = {TABLE}
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            row_names |= {str(node.get("table_name", "")).casefold(), str(node.get("alias", "")).casefold()}
    needed: set[str] = set()
    for node in nodes:
        is_whole = node.get("class") in ("STAR", "POSITIONAL_REFERENCE") or node.get("ref_type") == "NATURAL"
        has_own_names = node.get("type") == "BASE_TABLE" and node.get("column_name_alias")
        if is_whole or has_own_names or node.get("type") in ("SHOW_REF", "PIVOT"):  # a type may be an object, too
            return _ALL_COLUMNS
        parts = _list_parts(node)
        if parts and parts[-1] in row_names:
            return _ALL_COLUMNS
        needed.update(parts)
        needed.update(str(name).casefold() for name in node.get("using_columns") or ())
    return frozenset(needed & _ALL_COLUMNS)


def _list_parts(node: Mapping[str, Any]) -> list[str]:
    """Return the parts of the name that a node refers to; of a call, those before the function: `event_name.lower()`.

    DuckDB parses what precedes the function as a schema, and takes it for a column if there is no such schema.
    """
    parts = node.get("column_names") or ()
    if node.get("class") in ("FUNCTION", "WINDOW"):
        parts = (node.get("qualified_name") or {}).get("path", ())[:-1]
    return [str(part).casefold() for part in parts]


def _is_order_by_all(node: Mapping[str, Any]) -> bool:
    """Return whether a node is the star that DuckDB makes of ORDER BY ALL, which means the selected columns.

    Unlike a star that was written, it has no place in the text.
    """
    return node.get("class") == "STAR" and node.get("columns") is True and node.get("query_location") == _NOWHERE


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
_ORIGIN_COLUMNS = frozenset(ORIGIN_COLUMNS)
SQL_TYPES: Mapping[ColumnKind, str] = MappingProxyType(
    {"text": "VARCHAR", "time": "TIMESTAMP WITH TIME ZONE", "integer": "INTEGER", "json": "JSON"}
)
"""Kind of column -> its type in the table."""
_LEAST_OBJECT_BYTES = 4 * 1024 * 1024
_LONGEST_WHOLE_EVENT = 1024 * 1024
_MOST_WHOLE_FILES = 64
_HEAD_BYTES = 64 * 1024
_COMPRESSIONS: Mapping[str, str] = MappingProxyType({"": "none", "gzip": "gzip", "zstd": "zstd"})
"""Our names of compressions -> those of DuckDB."""
_LEAST_SPLIT_BYTES = 128 * 1024 * 1024
_HEAD_START_BYTES = 40 * 1024 * 1024
"""What this process reads until the others have started."""
_MOST_HELPERS = 3
_DATABASE_NAME = "events.duckdb"
_PARQUET_MAGIC = b"PAR1"
_PARQUET_SCAN = "FROM read_parquet(?, hive_partitioning = false)"
_SHAPE_OF_EVENTS = "SELECT decode(value) FROM parquet_kv_metadata(?) WHERE decode(key) = ?"
_WRITTEN_BY = "SELECT created_by FROM parquet_file_metadata(?)"
_OUR_WRITER = "DuckDB"
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
        try:
            if len(views) == len(sources):
                scans = [stack.enter_context(view.open_scan()) for view in views]
                connection = _connect_to_scans(stack, scans, folder)
                _execute(connection, sql)
            else:
                whole = _try_whole_events(stack, sources, needed, sql, folder)
                if whole is None:
                    parts = _load_rows(sources, needed, folder, on_incomplete=on_incomplete)
                    connection = _connect_to_parts(stack, parts, folder)
                    _execute(connection, sql)
                else:
                    connection = whole
            described = connection.description or []
            names = tuple(str(column[0]) for column in described)
            types = tuple(str(column[1]) for column in described)
            yield QueryResult(names, types, _fetch(connection))
        except duckdb.Error as error:
            raise _find_damage(views, error) or explain_error(error) from error


def _connect_to_scans(stack: ExitStack, scans: Sequence[SegmentScan], folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a locked connection whose view `events` is that of segments."""
    connection = _open_engine(stack, folder)
    selects = [scan.select(COLUMNS, SQL_TYPES) for scan in scans]
    _close_to_others(connection, [path for scan in scans for path in scan.paths])
    connection.execute(f"CREATE VIEW {TABLE} AS {' UNION ALL '.join(selects)}")
    connection.execute("SET lock_configuration = true")
    return connection


def _open_engine(
    stack: ExitStack, folder: Path, database: str = ":memory:", *, is_read_only: bool = False
) -> duckdb.DuckDBPyConnection:
    """Return a connection that spills into the private folder and is closed with the stack."""
    import duckdb

    settings: dict[str, Any] = {**_LOAD_SETTINGS, "temp_directory": str(folder / "spill")}
    connection = stack.enter_context(duckdb.connect(database, read_only=is_read_only, config=settings))
    _configure(connection)
    return connection


def _close_to_others(connection: duckdb.DuckDBPyConnection, paths: Sequence[Path | str]) -> None:
    """Let a connection read these files and no others; DuckDB checks a path as the query has it, and as it opens it."""
    names = [name for path in paths for name in (str(path), escape_glob(Path(path)))]
    connection.execute(f"SET allowed_paths = [{', '.join(map(quote_sql, names))}]")
    connection.execute("SET enable_external_access = false")


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


def _execute(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Run a query if the engine, too, finds that it is a single SELECT: it could write to a file that it may read."""
    connection.execute(f"EXPLAIN FROM query({quote_sql(sql)})")
    run_call(connection, lambda: connection.execute(sql))


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


def create_table(connection: duckdb.DuckDBPyConnection, name: str = TABLE) -> None:
    """Create an empty table with all columns."""
    columns = ", ".join(f"{column.name} {SQL_TYPES[column.kind]}" for column in COLUMNS)
    connection.execute(f"CREATE TABLE {name} ({columns})")


def _try_whole_events(
    stack: ExitStack, sources: Sequence[Input], needed: Collection[str], sql: str, folder: Path
) -> duckdb.DuckDBPyConnection | None:
    """Run a query that needs only whole events on the files themselves; None if they have to be read in another way.

    DuckDB reads a file while a thread checks it, and nothing of the result is used if the check fails.
    """
    import duckdb

    paths = [source.file.absolute() for source in sources if source.file is not None and source.file.is_file()]
    if set(needed) != {EVENT_COLUMN} or len(paths) < len(sources) or len(paths) > _MOST_WHOLE_FILES:
        return None
    found = list(map(_identify, paths))
    selects = [select for select in map(_select_whole_events, paths) if select]
    if len(selects) < len(paths):
        return None
    with ExitStack() as own:
        executor = own.enter_context(ThreadPoolExecutor(1, thread_name_prefix="check"))
        is_stopped = threading.Event()
        own.callback(is_stopped.set)
        try:
            connection = _open_engine(own, folder)
            _close_to_others(connection, paths)
            connection.execute(f"CREATE VIEW {TABLE} AS {' UNION ALL '.join(selects)}")
            connection.execute("SET lock_configuration = true")
            check = executor.submit(_are_whole_events, paths, is_stopped)
            _execute(connection, sql)
            if not check.result() or list(map(_identify, paths)) != found:
                return None
        except (duckdb.Error, OSError):
            return None
        stack.enter_context(own.pop_all())
    return connection


def _identify(path: Path) -> tuple[int, ...]:
    """Return what changes if a file changes."""
    with explain_disk("read", path):
        status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _select_whole_events(path: Path) -> str:
    """Return a SELECT of all columns, of which only `event` has values; empty if the file is not one of plain lines."""
    with explain_disk("read", path), path.open("rb", buffering=0) as file:
        head = file.read(_HEAD_BYTES)
    try:
        compression, pieces = decompress([head])
        start = next(pieces, b"")
    except ValueError:
        return ""
    if start[:2] != b"[\n" and start[:1] != b"{":
        return ""
    layout = "array" if start[:1] == b"[" else "newline_delimited"
    scan = (
        f"read_json_objects({quote_sql(escape_glob(path))}, format = '{layout}', hive_partitioning = false, "
        f"compression = '{_COMPRESSIONS[compression]}', maximum_object_size = {2 * _LONGEST_WHOLE_EVENT})"
    )
    columns = ", ".join(
        f"json AS {EVENT_COLUMN}" if column.name == EVENT_COLUMN else f"NULL::{SQL_TYPES[column.kind]} AS {column.name}"
        for column in COLUMNS
    )
    return f"SELECT {columns} FROM {scan}"  # noqa: S608 - quoted


def _are_whole_events(paths: Sequence[Path], is_stopped: threading.Event) -> bool:
    """Return whether each line of each file is an event that DuckDB reads as `open_records` does."""
    try:
        for path in paths:
            with open_plain(path) as file:
                for events in read_plain_events(file):
                    for event in events:
                        _decode_object(event)
                    if is_stopped.is_set() or any(map(_is_unsafe, events)):
                        return False
    except (ValueError, msgspec.MsgspecError, RecursionError, OSError):
        return False
    return True


class _AnyObject(msgspec.Struct):
    """Any JSON object, of which no member is read."""


_decode_object = msgspec.json.Decoder(_AnyObject).decode


def _is_unsafe(raw: bytes) -> bool:
    """Return whether an event may have a lone surrogate, or is very long."""
    return len(raw) > _LONGEST_WHOLE_EVENT or (b"\\" in raw and (b"\\ud" in raw or b"\\uD" in raw))


class _Part(NamedTuple):
    """A SELECT of rows with all columns, and the file that it reads; None if it reads a table."""

    select: str
    path: Path | None


def _connect_to_parts(stack: ExitStack, parts: Sequence[_Part], folder: Path) -> duckdb.DuckDBPyConnection:
    """Return a locked connection whose view `events` has the rows of all parts; a database is opened read-only."""
    database = folder / _DATABASE_NAME
    has_tables = database.exists()
    connection = _open_engine(stack, folder, str(database) if has_tables else ":memory:", is_read_only=has_tables)
    _close_to_others(connection, [part.path for part in parts if part.path])
    connection.execute(f"CREATE TEMP VIEW {TABLE} AS {' UNION ALL '.join(part.select for part in parts)}")
    connection.execute("SET lock_configuration = true")
    return connection


def _load_rows(
    sources: Sequence[Input], needed: Collection[str], folder: Path, *, on_incomplete: Callable[[str], None]
) -> list[_Part]:
    """Write or load the needed columns of all inputs, in `folder`; the parts are in the order of the inputs.

    Raises:
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        DiskError: a file cannot be read, or the temporary file cannot be written.
    """
    columns = [column for column in COLUMNS if column.name in needed]
    columns = columns or [COLUMNS[1]]  # a query that needs no column still counts rows
    parts: list[_Part] = []
    for is_table, group in groupby(sources, key=_is_loaded):
        if is_table:
            parts.append(_load_table(list(group), columns, folder, f"part_{len(parts)}"))
            continue
        split = ((source, _split(source, columns)) for source in group)
        for is_large, some in groupby(split, key=lambda one: len(one[1]) > 1):
            if is_large:
                for source, pieces in some:
                    path = folder / f"rows_{len(parts)}"
                    parts += _write_in_parallel(columns, path, source, pieces, on_incomplete)
                continue
            with _RowFile(columns, folder / f"rows_{len(parts)}") as rows:
                for source, _ in some:
                    _write_rows(rows, source, on_incomplete)
                parts.append(rows.make_part())
    return parts


def _split(source: Input, columns: Sequence[Column]) -> list[FilePart]:
    """Return the parts of a large file that several processes read; no part or one if they would not pay."""
    names = {column.name for column in columns}
    if source.file is None or not source.file.is_file() or EVENT_COLUMN in names:
        return []
    if not _ORIGIN_COLUMNS.isdisjoint(names) and source.open_origins():
        return []
    helpers = min(count_helpers(), _MOST_HELPERS)
    if not helpers:
        return []
    with explain_disk("read", source.file):
        return split_plain(source.file, helpers + 1, smallest=_LEAST_SPLIT_BYTES, head_start=_HEAD_START_BYTES)


def _write_in_parallel(
    columns: Sequence[Column],
    path: Path,
    source: Input,
    pieces: Sequence[FilePart],
    on_incomplete: Callable[[str], None],
) -> list[_Part]:
    """Write the rows of a large file, of which other processes read all parts but the first one.

    If anything fails, all of it is read here, which gives the same error.
    """
    with _RowFile(columns, path) as rows, ExitStack() as stack:
        try:
            helpers = [
                stack.enter_context(_RowHelper(columns, piece, path.with_name(f"{path.name}_{number}")))
                for number, piece in enumerate(pieces[1:])
            ]
            with open_part(pieces[0]) as file:
                for events in read_plain_events(file):
                    rows.add_plain(events)
            return [rows.make_part(), *[helper.make_part() for helper in helpers]]
        except (ValueError, msgspec.MsgspecError, RecursionError, OSError):
            stack.close()
            rows.cut(0)
            _write_rows(rows, source, on_incomplete)
            return [rows.make_part()]


class _RowTask(msgspec.Struct):
    """What a process that writes rows has to do."""

    columns: list[str]
    part: FilePart
    path: bytes


class _RowAnswer(msgspec.Struct):
    """The SELECT of the rows that such a process has written."""

    select: str


class _RowHelper:
    """A process that writes the rows of a part of a file. Use it as a context manager."""

    def __init__(self, columns: Sequence[Column], part: FilePart, path: Path) -> None:
        self._path = path
        self._process = start_helper("ociaudit.analysis.query", "serve_rows")
        self._task = _encoder.encode(_RowTask([column.name for column in columns], part, os.fsencode(path)))

    def __enter__(self) -> Self:
        try:
            with contextlib.closing(self._process.stdin or io.BytesIO()) as stdin:
                stdin.write(self._task)
        except OSError:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process.wait()

    def make_part(self) -> _Part:
        """Wait for the process, and return what selects its rows.

        Raises:
            ValueError: the process failed: the part is not what it should be, or something ended it.
        """
        answer = self._process.stdout.read() if self._process.stdout is not None else b""
        if self._process.wait() != 0:
            raise ValueError
        return _Part(msgspec.json.decode(answer, type=_RowAnswer).select, self._path)


def serve_rows() -> None:
    """Do the `_RowTask` on stdin, and answer with a `_RowAnswer` on stdout."""
    with open(0, "rb") as stdin:
        task = msgspec.json.decode(stdin.read(), type=_RowTask)
    columns = [column for column in COLUMNS if column.name in task.columns]
    with _RowFile(columns, Path(os.fsdecode(task.path))) as rows, open_part(task.part) as file:
        for events in read_plain_events(file):
            rows.add_plain(events)
    with open(1, "wb") as stdout:
        stdout.write(_encoder.encode(_RowAnswer(rows.make_part().select)))


def _is_loaded(source: Input) -> bool:
    """Return whether DuckDB loads an input itself: an archive, or a Parquet file that this program wrote.

    In any other file, the column `event` may be in another shape, or hold several events, or none. That includes a
    file that another program made of ours: pyarrow copies our metadata, but states itself as the writer, and DuckDB,
    which is our writer, does not copy them.
    """
    import duckdb

    if source.view is not None or source.file is None:
        return source.view is not None
    with explain_disk("read", source.file):
        if not source.file.is_file():
            return False
        with source.file.open("rb") as file:
            if file.read(len(_PARQUET_MAGIC)) != _PARQUET_MAGIC:
                return False
    with _explain_parquet(source.file), duckdb.connect(config=dict(_LOAD_SETTINGS)) as connection:
        path = escape_glob(source.file)
        shapes = connection.execute(_SHAPE_OF_EVENTS, [path, EVENTS_KEY]).fetchall()
        writers = connection.execute(_WRITTEN_BY, [path]).fetchall()
        described = connection.execute(f"DESCRIBE {_PARQUET_SCAN}", [path]).fetchall()
    is_ours = shapes == [("api",)] and all(str(writer).startswith(_OUR_WRITER) for (writer,) in writers)
    return is_ours and {column.name for column in COLUMNS} <= {row[0] for row in described}


def _load_table(sources: Sequence[Input], columns: Sequence[Column], folder: Path, name: str) -> _Part:
    """Load columns of Parquet files and archives into a table of the database in `folder`."""
    with ExitStack() as stack:
        connection = _open_engine(stack, folder, str(folder / _DATABASE_NAME))
        create_table(connection, name)
        for source in sources:
            if source.view is not None:
                scan = stack.enter_context(source.view.open_scan())
                select, values = scan.select(columns, SQL_TYPES), []
            elif source.file is not None:
                select, values = f"SELECT {_list_casts(columns)} {_PARQUET_SCAN}", [escape_glob(source.file)]
            insert = f"INSERT INTO {name} ({', '.join(column.name for column in columns)}) {select}"
            with _explain_parquet(source.file) if source.file is not None else contextlib.nullcontext():
                run_call(connection, partial(connection.execute, insert, values))
    return _Part(f"SELECT * FROM {name}", None)  # noqa: S608 - a constant and a number


@contextmanager
def _explain_parquet(path: Path) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        is_ours = isinstance(error, duckdb.InterruptException | duckdb.OutOfMemoryException)
        if is_ours or "No space left" in str(error):
            raise
        reason = describe_engine_error(error)
        raise UnreadableInput(f"{path}: the Parquet file is truncated or damaged: {reason}") from error


def _write_rows(rows: _RowFile, source: Input, on_incomplete: Callable[[str], None]) -> None:
    """Write the rows of a file or stdin."""
    if source.file is not None and source.file.is_file() and not (rows.needs_origins and source.open_origins()):
        start = rows.size_bytes
        with explain_disk("read", source.file), open_plain(source.file) as file:
            try:
                for events in read_plain_events(file):
                    rows.add_plain(events)
            except (ValueError, msgspec.MsgspecError, RecursionError):  # not plain lines, or not JSON
                rows.cut(start)
            else:
                return
    _write_records(rows, source, on_incomplete)


def _write_records(rows: _RowFile, source: Input, on_incomplete: Callable[[str], None]) -> None:
    """Write the rows of an input of any kind."""
    with source.open(needs_origins=rows.needs_origins, on_incomplete=on_incomplete) as records:
        for batch in records:
            try:
                rows.add(batch)
            except ValueError as error:
                raise UnreadableInput(f"{records.name}: an event cannot be read: {error}") from error


class _RowFile:
    """A file of rows for DuckDB.

    Without the column `event` a row is a JSON object. With it, a row is the JSON array of all other values, a control
    character, and the event as it is: JSON contains neither that character nor a line break.
    """

    def __init__(self, columns: Sequence[Column], path: Path) -> None:
        self._path = path
        self._columns = [column for column in columns if column.name != EVENT_COLUMN]
        self._has_event = len(self._columns) < len(columns)
        self._names = [column.name for column in self._columns]
        self._row = msgspec.defstruct("Row", [(name, object) for name in self._names], array_like=self._has_event)
        needed = list_fields(self._names)
        self._read_facts = make_facts_reader(needed)
        self._decode = msgspec.json.Decoder(make_facts_model(needed)).decode
        self._descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._longest = 0
        self.size_bytes = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    @property
    def needs_origins(self) -> bool:
        return not _ORIGIN_COLUMNS.isdisjoint(self._names)

    def add(self, batch: Sequence[Record]) -> None:
        """Add records.

        Raises:
            ValueError: one is not a JSON object.
        """
        raws = [record.raw for record in batch]
        self._add(raws, list(map(self._read_facts, raws)), [record.origin for record in batch])

    def add_plain(self, raws: Sequence[bytes]) -> None:
        """Add events without origins, each of which may be anything.

        Raises:
            ValueError, msgspec.MsgspecError, RecursionError: one is not a JSON object, or has a lone surrogate.
        """
        try:
            facts = list(map(self._decode, raws))
        except msgspec.ValidationError:
            for raw in raws:
                _decode_object(raw)
            facts = list(map(self._read_facts, raws))
        self._add(raws, facts, [None] * len(raws))

    def _add(self, raws: Sequence[bytes], facts: list[Facts], origins: Sequence[Target | None]) -> None:
        table = read_columns(facts, origins, self._names)
        rows = list(map(self._row, *table)) if table else [self._row()] * len(raws)
        lines = _encoder.encode_lines(rows)
        if self._has_event:
            cells = lines.split(b"\n")[:-1]
            events = map(_replace_lone_surrogates, raws)
            lines = b"".join([b"%b\1%b\n" % pair for pair in zip(cells, events, strict=True)])
            self._longest = max(self._longest, *map(len, raws))
        if len(lines) > _LEAST_OBJECT_BYTES or not self._has_event:
            self._longest = max(self._longest, len(lines) if len(raws) == 1 else max(map(len, lines.split(b"\n"))))
        write_all(self._descriptor, lines, self._path)
        self.size_bytes += len(lines)

    def cut(self, size_bytes: int) -> None:
        """Remove what was written after the file had this size."""
        with explain_disk("empty", self._path):
            os.ftruncate(self._descriptor, size_bytes)
            os.lseek(self._descriptor, size_bytes, os.SEEK_SET)
        self.size_bytes = size_bytes

    def make_part(self) -> _Part:
        """Return what selects the rows; call it after the last row."""
        if not self.size_bytes:
            return _Part(_select_columns({}) + " WHERE false", None)
        path = quote_sql(escape_glob(self._path))
        longest = max(_LEAST_OBJECT_BYTES, self._longest + 1024)
        if self._has_event:
            values = {name: f"cells->>'$[{number}]'" for number, name in enumerate(self._names)}
            scan = (
                f"read_csv({path}, auto_detect = false, header = false, delim = chr(1), quote = '', escape = '', "
                f"columns = {{cells: 'VARCHAR', event: 'VARCHAR'}}, hive_partitioning = false, "
                f"max_line_size = {longest}, buffer_size = {4 * longest})"
            )
            return _Part(f"{_select_columns({**values, EVENT_COLUMN: EVENT_COLUMN})} FROM {scan}", self._path)
        types = ", ".join(f"{one.name}: '{'INTEGER' if one.kind == 'integer' else 'VARCHAR'}'" for one in self._columns)
        scan = (
            f"read_json({path}, format = 'newline_delimited', records = true, columns = {{{types}}}, "
            f"hive_partitioning = false, maximum_object_size = {longest})"
        )
        return _Part(f"{_select_columns({name: name for name in self._names})} FROM {scan}", self._path)


def _select_columns(values: Mapping[str, str]) -> str:
    """Return SELECT with all columns of the table; one without an expression of SQL is NULL."""
    casts = [
        f"{_cast(column, values[column.name])} AS {column.name}"
        if column.name in values
        else f"NULL::{SQL_TYPES[column.kind]} AS {column.name}"
        for column in COLUMNS
    ]
    return f"SELECT {', '.join(casts)}"


def _cast(column: Column, value: str) -> str:
    """Return an expression of the column's type; a value that cannot be cast is NULL."""
    return value if column.kind == "text" else f"TRY_CAST({value} AS {SQL_TYPES[column.kind]})"


def _list_casts(columns: Sequence[Column]) -> str:
    """Return columns of a Parquet file for SELECT."""
    return ", ".join(
        cast_json(column.name) if column.kind == "json" else _cast(column, column.name) for column in columns
    )


def _replace_lone_surrogates(raw: bytes) -> bytes:
    r"""Replace escaped lone surrogates by U+FFFD: JSON with them is valid, but DuckDB rejects it."""
    if b"\\" not in raw or (b"\\ud" not in raw and b"\\uD" not in raw):  # one byte is found much faster than three
        return raw
    return _ESCAPED_SURROGATE.sub(lambda match: match[1] or rb"\ufffd", raw)
