"""What a query may be: one SELECT over the table `events`, and which columns it needs.

Owns: the refusals before anything is read, and the words of DuckDB's own. Must not: run a query.

DuckDB's parser takes the query apart; the tree that it gives back is walked. This is the first of two fences:
the connection that runs the query has neither files nor network, and its settings are locked (`insight/query`).

Invariants
- Only statements without an effect pass: every node of the tree is one of those that read, every table function
  one of those that make rows of their arguments.
- The columns are those that the query names, or all where it may need more than it names.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ociaudit.analysis.event_table import TABLE
from ociaudit.errors import DiskError, OciAuditError, UsageError
from ociaudit.events.columns import COLUMNS

if TYPE_CHECKING:
    import duckdb


COLUMN_NAMES = tuple(column.name for column in COLUMNS)
_KNOWN = frozenset(COLUMN_NAMES)
_READING_NODES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
_ROW_FUNCTIONS = frozenset({"unnest", "range", "generate_series", "json_each", "json_tree", "repeat"})
_ONE_SELECT = (
    "a query is one SELECT over the table `events`, for example: SELECT event_name, count(*) FROM events GROUP BY 1"
)
_MISSING_COLUMN = re.compile(r'Referenced column "(?P<name>.+?)" (?:was )?not found', re.DOTALL)
_MISSING_COLUMN_OF_TABLE = re.compile(r'does not have a column named "(?P<name>.+?)"', re.DOTALL)
_MISSING_TABLE = re.compile(r"Table with name (?P<name>.+?) does not exist", re.DOTALL)


def check_query(sql: str, engine: duckdb.DuckDBPyConnection) -> frozenset[str]:
    """Return the names of the columns that a query needs; `engine` is asked for its syntax tree alone.

    Raises:
        UsageError: it is not one SELECT, or calls what it may not.
    """
    import duckdb

    try:
        statements = engine.extract_statements(sql)
        kinds = [statement.type.name for statement in statements]
        if kinds != ["SELECT"]:
            found = "nothing" if not kinds else " and ".join(kinds[:5])
            raise UsageError(f"the query is {found}, and not one SELECT", hint=_ONE_SELECT)
        row = engine.execute("SELECT json_serialize_sql(?::VARCHAR)", [sql]).fetchone()
        tree = json.loads(row[0] if row else "{}")
    except duckdb.Error as error:
        raise explain_refusal(error) from error
    except RecursionError as error:
        raise UsageError("the query is nested too deeply", hint=_ONE_SELECT) from error
    if tree.get("error") or "statements" not in tree:
        raise UsageError(f"the query is not one SELECT: {tree.get('error_message', '')}", hint=_ONE_SELECT)
    _check_tree(tree["statements"])
    return _find_columns(tree["statements"])


def explain_refusal(error: duckdb.Error) -> OciAuditError:
    """Return what DuckDB refused, in our words where a reader is helped by them."""
    import duckdb

    text = str(error)
    first = text.partition("\n")[0]
    for pattern in (_MISSING_COLUMN, _MISSING_COLUMN_OF_TABLE):
        if match := pattern.search(text):
            return _explain_column(match["name"])
    if match := _MISSING_TABLE.search(text):
        return UsageError(f"there is no table {match['name']!r}", hint=f"the one table is `{TABLE}`: FROM {TABLE}")
    if isinstance(error, duckdb.IOException):
        return DiskError(f"the query could not go on: {first}", hint="make room for temporary files, or set TMPDIR")
    if isinstance(error, duckdb.OutOfMemoryException):
        return UsageError(f"the query needs more memory than it may have: {first}", hint="ask for fewer rows or groups")
    if isinstance(error, duckdb.PermissionException):
        return UsageError(
            f"a query reads the table `{TABLE}` and nothing else: {first}", hint="name the files before the query"
        )
    if isinstance(error, duckdb.ParserException):
        return UsageError(f"the query cannot be read: {first}", hint=_ONE_SELECT)
    return UsageError(f"the query cannot be answered: {first}", hint="for examples, see docs/reference/query.md")


def _explain_column(name: str) -> UsageError:
    near = difflib.get_close_matches(name.casefold(), COLUMN_NAMES, n=3, cutoff=0.5)
    near += [column for column in COLUMN_NAMES if name.casefold() in column and column not in near][:3]
    meant = f"; near: {', '.join(near)}" if near else ""
    return UsageError(f"there is no column {name!r}{meant}", hint=f"the columns are: {', '.join(COLUMN_NAMES)}")


def _walk(tree: Any) -> Iterator[dict[str, Any]]:
    """Yield every object of a tree."""
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            yield value
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value


def _check_tree(tree: Any) -> None:
    for node in _walk(tree):
        kind = node.get("type")
        if isinstance(kind, str) and kind.endswith("_NODE") and kind not in _READING_NODES:
            word = kind.removesuffix("_NODE").removesuffix("_QUERY").replace("_", " ")
            raise UsageError(f"the query has a {word} in it, and may only read", hint=_ONE_SELECT)
        if kind == "TABLE_FUNCTION":
            function = node.get("function") or {}
            name = str(function.get("function_name", "")).casefold()
            if name not in _ROW_FUNCTIONS:
                raise UsageError(
                    f"the query calls {name}(), and may only read the table `{TABLE}`",
                    hint="name the files before the query; all of them are in that table",
                )


def _find_columns(tree: Any) -> frozenset[str]:
    """Return the columns that are named; all of them where a row may be meant as a whole."""
    nodes = list(_walk(tree))
    rows = {TABLE}
    for node in nodes:
        if node.get("type") == "BASE_TABLE":
            rows |= {str(node.get("table_name", "")).casefold(), str(node.get("alias", "")).casefold()}
    needed: set[str] = set()
    for node in nodes:
        is_whole = node.get("class") in {"STAR", "POSITIONAL_REFERENCE"} or node.get("ref_type") == "NATURAL"
        if is_whole or node.get("type") in {"SHOW_REF", "PIVOT"}:
            return _KNOWN
        parts = [str(name).casefold() for name in node.get("column_names") or ()]
        if len(parts) == 1 and parts[0] in rows:
            return _KNOWN
        needed.update(parts)
        needed.update(str(name).casefold() for name in node.get("using_columns") or ())
    return frozenset(needed & _KNOWN)
