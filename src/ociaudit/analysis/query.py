"""A question in SQL about files of events.

Owns: the engine that answers it, and what that engine may: nothing but think.

The events are loaded into a database of its own, in a private folder that goes with the answer. The query runs on
a second connection, which is read-only, has neither files, network nor extensions, and whose settings are locked.

Invariants
- A query is checked, names and all, before the first event is read.
- Memory is bounded by `MEMORY_LIMIT`; what does not fit goes into the private folder.
- Rows come as they are made: an answer of any size is not held.

Queries that are asked again and again, by name.

Owns: their text. docs/reference/query.md shows each of them; a test holds the two together.
"""

from __future__ import annotations

import difflib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from ociaudit.analysis.event_table import create_table, fill_table, run_call
from ociaudit.analysis.sql_guard import check_query, explain_refusal
from ociaudit.errors import UsageError

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
class QueryResult:
    """The rows of an answer, in batches; `types` are DuckDB's own names of the columns' types."""

    names: tuple[str, ...]
    types: tuple[str, ...]
    batches: Iterator[list[tuple[Any, ...]]]


@contextmanager
def run_query(sources: Sequence[Path | None], sql: str) -> Iterator[QueryResult]:
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
                yield QueryResult(names, types, _fetch(engine))
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


class NamedQuery(NamedTuple):
    """What a query answers, and its SQL."""

    question: str
    sql: str


NAMED_QUERIES = MappingProxyType(
    {
        "top-events": NamedQuery(
            "What happens most?",
            """
SELECT event_name, count(*) AS n, count(DISTINCT principal_name) AS principals,
       count(*) FILTER (outcome = 'failure') AS failures
FROM events GROUP BY event_name ORDER BY n DESC, event_name LIMIT 25""",
        ),
        "principals": NamedQuery(
            "Who does how much, from how many addresses, and how often does it fail?",
            """
SELECT coalesce(principal_name, principal_id) AS principal, count(*) AS n,
       count(*) FILTER (outcome = 'failure') AS failures, count(DISTINCT ip_address) AS addresses,
       min(event_time) AS first_seen, max(event_time) AS last_seen
FROM events GROUP BY principal ORDER BY n DESC, principal""",
        ),
        "sign-in-failures": NamedQuery(
            "Whose sign-ins failed, from where, and did one succeed afterwards?",
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
            "Which API keys were made, by whom, and what is their fingerprint?",
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
            "What is refused to whom?",
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
            "With which tools is the tenancy used?",
            """
SELECT regexp_extract(user_agent, '^[^ ]+') AS tool, count(*) AS n, count(DISTINCT principal_name) AS principals
FROM events GROUP BY tool ORDER BY n DESC, tool LIMIT 25""",
        ),
    }
)


def find_named_query(name: str) -> NamedQuery:
    """Return the query of a name.

    Raises:
        UsageError: there is none; near names are in the message.
    """
    query = NAMED_QUERIES.get(name.casefold())
    if query is None:
        near = difflib.get_close_matches(name.casefold(), NAMED_QUERIES, n=3, cutoff=0.4)
        meant = f"; near: {', '.join(near)}" if near else ""
        raise UsageError(f"no query is named {name!r}{meant}", hint="`oci-audit query --list` shows all of them")
    return query
