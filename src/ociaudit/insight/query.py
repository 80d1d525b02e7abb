"""A question in SQL about files of events.

Owns: the engine that answers it, and what that engine may: nothing but think.

The events are loaded into a database of its own, in a private folder that goes with the answer. The query runs on
a second connection, which is read-only, has neither files, network nor extensions, and whose settings are locked.

Invariants
- A query is checked, names and all, before the first event is read.
- Memory is bounded by `MEMORY_LIMIT`; what does not fit goes into the private folder.
- Rows come as they are made: an answer of any size is not held.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from ociaudit.insight.engine import run_call
from ociaudit.insight.query_check import check_query, explain_refusal
from ociaudit.insight.query_table import create_table, fill_table

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT = "1GiB"
_ROWS = 500
_LOADING: Mapping[str, str] = MappingProxyType(
    {
        "memory_limit": MEMORY_LIMIT,
        "autoinstall_known_extensions": "false",
        "autoload_known_extensions": "false",
        "allow_community_extensions": "false",
        "python_enable_replacements": "false",
    }
)
_ANSWERING: Mapping[str, str] = MappingProxyType({**_LOADING, "enable_external_access": "false"})


@dataclass(frozen=True, slots=True)
class Answer:
    """The rows of an answer, in batches; `types` are DuckDB's own names of the columns' types."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def answer_query(sources: Sequence[Path | None], sql: str) -> Iterator[Answer]:
    """Answer a query over the events of all files; None is stdin.

    Raises:
        UsageError: the query is not one that can be answered, or a file does not exist.
        UnreadableInput: a file is not what it should be.
        DiskError: the disk refused.
    """
    import duckdb

    needed = _rehearse(sql)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as name:
        folder = Path(name)
        database = str(folder / "events.duckdb")
        spill = {"temp_directory": str(folder / "spill")}
        try:
            with duckdb.connect(database, config={**_LOADING, **spill}) as engine:
                _settle(engine)
                create_table(engine)
                fill_table(engine, sources, needed, folder)
            with duckdb.connect(database, read_only=True, config={**_ANSWERING, **spill}) as engine:
                _settle(engine)
                engine.execute("SET lock_configuration = true")
                run_call(engine, lambda: engine.execute(sql))
                described = engine.description or []
                names = tuple(str(column[0]) for column in described)
                types = tuple(str(column[1]) for column in described)
                yield Answer(names, types, _fetch(engine))
        except duckdb.Error as error:
            raise explain_refusal(error) from error


def _rehearse(sql: str) -> frozenset[str]:
    """Check a query against an empty table, and return the columns that it needs."""
    import duckdb

    with duckdb.connect(config={**_ANSWERING}) as engine:
        _settle(engine)
        create_table(engine)
        engine.execute("SET lock_configuration = true")
        needed = check_query(sql, engine)
        try:
            engine.execute(f"EXPLAIN {sql}")
        except duckdb.Error as error:
            raise explain_refusal(error) from error
    return needed


def _settle(engine: duckdb.DuckDBPyConnection) -> None:
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute("SET enable_progress_bar = false")


def _fetch(engine: duckdb.DuckDBPyConnection) -> Iterator[list[tuple[Any, ...]]]:
    while rows := run_call(engine, lambda: engine.fetchmany(_ROWS)):
        yield rows
