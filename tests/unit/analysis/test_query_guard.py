import duckdb
import pytest

from ociaudit.analysis.query import COLUMN_NAMES, NAMED_QUERIES, check_query, create_table, find_named_query
from ociaudit.errors import UsageError

ALL = frozenset(COLUMN_NAMES)


@pytest.fixture(scope="module")
def connection():
    """Open a connection with the empty table."""
    with duckdb.connect() as opened:
        create_table(opened)
        yield opened


@pytest.mark.parametrize(
    ("sql", "columns"),
    [
        ("SELECT count(*) FROM events", set()),
        ("SELECT event_name, count(*) AS n FROM events GROUP BY ALL ORDER BY n", {"event_name"}),
        ("select E.Event_Name from Events e where e.OUTCOME = 'failure'", {"event_name", "outcome"}),
        ("SELECT a.event_id FROM events a JOIN events b USING (request_id)", {"event_id", "request_id"}),
        ("WITH x AS (SELECT status FROM events) SELECT max(status) FROM x;", {"status"}),
        ("SELECT event.data.identity FROM events", {"event"}),
        ("SELECT event->>'$.data' FROM events", {"event"}),
        ("SELECT u FROM (SELECT unnest([1, 2]) AS u)", set()),
        ("SELECT (SELECT max(event_time) FROM events)", {"event_time"}),
        ("SELECT event_name, count(*) FROM events GROUP BY ALL ORDER BY ALL DESC", {"event_name"}),
        ("SELECT event_name FROM events ORDER BY COLUMNS(*)", ALL),
        ("SELECT * FROM events ORDER BY ALL", ALL),
        ("SELECT * FROM events", ALL),
        ("FROM events", ALL),
        ("SELECT e.* FROM events e", ALL),
        ("SELECT e FROM events e", ALL),
        ("SELECT events FROM events", ALL),
        ("SELECT COLUMNS('event_.*') FROM events", ALL),
        ("SELECT #1 FROM events", ALL),
        ("SELECT a.event_id FROM events a NATURAL JOIN events b", ALL),
        ("DESCRIBE events", ALL),
        ("SUMMARIZE events", ALL),
        ("TABLE events", ALL),
        ("SELECT count(*) FROM (SELECT DISTINCT * FROM events)", ALL),
        ("UNPIVOT events ON status", ALL),
        ("SELECT a, c FROM events AS e(a, b, c)", ALL),
        ("SELECT count(x) FROM events AS t(x) JOIN events u ON true", ALL),
        ("WITH e(a) AS (SELECT event_id FROM events) SELECT a FROM e", {"event_id"}),
        ("SELECT event_name.upper().len() FROM events", {"event_name"}),
        ("SELECT e.event_name.upper() FROM events e", {"event_name"}),
        ("SELECT e.to_json() FROM events e", ALL),
        ("SELECT main.events FROM events", ALL),
        ("SELECT event_name FROM events USING SAMPLE 3", {"event_name"}),
        ("SELECT event_name FROM events TABLESAMPLE reservoir(10%)", {"event_name"}),
    ],
)
def test_the_needed_columns_are_found(connection, sql, columns) -> None:
    """Only the named columns are needed, or all of them where the query may use a row as a whole."""
    assert check_query(sql, connection) == columns


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "-- nothing",
        ";",
        "SELECT 1; SELECT 2",
        "SELECT 1; COPY events TO 'x'",
        "COPY events TO 'x'",
        "COPY (SELECT 1) TO 'x'",
        "ATTACH 'x'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "PRAGMA database_list",
        "SET threads = 1",
        "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1",
        "CREATE TABLE x AS SELECT 1",
        "INSERT INTO events SELECT * FROM events",
        "DELETE FROM events",
        "EXPORT DATABASE 'x'",
        "CHECKPOINT",
        "SELEC 1",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM glob('/*')",
        "SELECT (SELECT max(content) FROM read_text('/etc/passwd'))",
        "WITH x AS (SELECT * FROM read_blob('x')) SELECT 1 FROM x",
        "SELECT * FROM query('SELECT 1')",
        "SELECT * FROM duckdb_settings()",
        "SELECT 1 WHERE EXISTS (SELECT * FROM read_parquet('x'))",
        "SELECT " + "(" * 5000 + "1" + ")" * 5000,
    ],
)
def test_anything_but_a_reading_select_is_rejected(connection, sql) -> None:
    """Anything but a single SELECT that reads the table is a usage error with a hint."""
    with pytest.raises(UsageError) as caught:
        check_query(sql, connection)
    assert "SELECT" in caught.value.hint or "table" in caught.value.hint


@pytest.mark.parametrize("inner", ["INSERT INTO events(event_id) VALUES ('x') RETURNING *", "COPY events TO 'x'"])
def test_a_with_that_writes_is_rejected(connection, inner) -> None:
    """A writing statement inside WITH, which newer DuckDB versions parse as part of a SELECT, is a usage error."""
    with pytest.raises(UsageError, match=r"may only read|cannot be parsed"):
        check_query(f"WITH a AS ({inner}) SELECT 1", connection)


@pytest.mark.parametrize("name", NAMED_QUERIES)
def test_named_queries_pass_the_check(connection, name) -> None:
    """Each named query passes the check; only one of them needs the whole event."""
    needed = check_query(NAMED_QUERIES[name].sql, connection)
    assert ("event" in needed) == (name == "new-api-keys")


def test_an_unknown_name_gets_suggestions() -> None:
    """An unknown name of a query is an error that suggests similar names, and case does not matter."""
    with pytest.raises(UsageError, match="sign-in-failures"):
        find_named_query("signin-failure")
    assert find_named_query("Top-Events").question
