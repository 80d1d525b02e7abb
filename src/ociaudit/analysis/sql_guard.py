"""The check of a query before it runs: it must be one SELECT over the table `events`.

DuckDB parses the query, and the syntax tree that it returns is checked. This is the first of two barriers: the
connection that runs the query has no access to files or the network, and its settings are locked (`analysis.query`).
The check also finds which columns the query needs, and `explain_error` turns DuckDB's errors into our own.

Invariants
- Only statements without side effects pass: every node of the tree is one that reads, and every table function is one
  that makes rows from its arguments.
- The columns found are those that the query names, or all columns where it may need more than it names.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ociaudit.errors import DiskError, OciAuditError, UsageError
from ociaudit.events.columns import COLUMNS

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
