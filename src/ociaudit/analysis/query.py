"""An SQL query over files of events, and the named queries.

`run_query` loads the events into a DuckDB database of its own, in a private folder that is deleted with the result.
The query runs on a second connection that is read-only, has no access to files, the network or extensions, and whose
settings are locked. docs/reference/query.md shows the text of each named query; a test keeps both equal.

Invariants
- A query is checked, including the names in it, before the first event is read.
- Memory is bounded by `MEMORY_LIMIT`; what does not fit is written to the private folder.
- Rows are yielded as they are produced: a result of any size is never held as a whole.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ociaudit.analysis.event_table import create_table, fill_table, run_call
from ociaudit.analysis.sql_guard import check_query, explain_error
from ociaudit.errors import UsageError
from ociaudit.formats.reader import check_distinct, ignore_incomplete

if TYPE_CHECKING:
    import duckdb

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


@dataclass(frozen=True, slots=True)
class QueryResult:
    """The rows of a result, in batches; `types` are DuckDB's own names of the columns' types."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def run_query(
    sources: Sequence[Path | None], sql: str, *, on_incomplete: Callable[[str], None] = ignore_incomplete
) -> Iterator[QueryResult]:
    """Run a query over the events of all files (None is stdin).

    Raises:
        UsageError: the query is not a valid SELECT over the table `events`, or a file does not exist or is named twice.
        UnreadableInput: a file does not hold audit events, or is truncated or damaged.
        DiskError: a file cannot be read, or a temporary file cannot be written.
    """
    import duckdb

    needed = _check(sql)
    check_distinct(sources)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as name:
        folder = Path(name)
        database = str(folder / "events.duckdb")
        spill = {"temp_directory": str(folder / "spill")}
        try:
            with duckdb.connect(database, config={**_LOAD_SETTINGS, **spill}) as connection:
                _configure(connection)
                create_table(connection)
                fill_table(connection, sources, needed, folder, on_incomplete=on_incomplete)
            with duckdb.connect(database, read_only=True, config={**_QUERY_SETTINGS, **spill}) as connection:
                _configure(connection)
                connection.execute("SET lock_configuration = true")
                run_call(connection, lambda: connection.execute(sql))
                described = connection.description or []
                names = tuple(str(column[0]) for column in described)
                types = tuple(str(column[1]) for column in described)
                yield QueryResult(names, types, _fetch(connection))
        except duckdb.Error as error:
            raise explain_error(error) from error


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
