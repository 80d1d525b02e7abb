import duckdb
import pytest

from ociaudit.analysis.event_table import create_table
from ociaudit.analysis.query import NAMED_QUERIES, find_named_query
from ociaudit.analysis.sql_guard import COLUMN_NAMES, check_query
from ociaudit.errors import UsageError

ALL = frozenset(COLUMN_NAMES)


@pytest.fixture(scope="module")
def engine():
    """An engine with the empty table."""
    with duckdb.connect() as connection:
        create_table(connection)
        yield connection


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
    ],
)
def test_a_query_names_the_columns_that_it_needs(engine, sql, columns) -> None:
    """Only named columns are loaded, and all where a row may be meant as a whole."""
    assert check_query(sql, engine) == columns


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
def test_what_is_no_reading_select_is_refused(engine, sql) -> None:
    """Anything but one SELECT that reads the table is a matter of usage, with a hint."""
    with pytest.raises(UsageError) as caught:
        check_query(sql, engine)
    assert "SELECT" in caught.value.hint or "table" in caught.value.hint


@pytest.mark.parametrize("inner", ["INSERT INTO events(event_id) VALUES ('x') RETURNING *", "COPY events TO 'x'"])
def test_a_with_that_writes_is_refused(engine, inner) -> None:
    """Newer engines know writing statements inside WITH, and call the whole a SELECT; older ones cannot read them."""
    with pytest.raises(UsageError, match=r"may only read|cannot be read"):
        check_query(f"WITH a AS ({inner}) SELECT 1", engine)


@pytest.mark.parametrize("name", NAMED_QUERIES)
def test_named_queries_are_queries(engine, name) -> None:
    """Each named query passes the check; only one of them needs the whole event."""
    needed = check_query(NAMED_QUERIES[name].sql, engine)
    assert ("event" in needed) == (name == "new-api-keys")


def test_a_name_that_does_not_exist_has_near_ones() -> None:
    """A mistyped name is told with those that are near."""
    with pytest.raises(UsageError, match="sign-in-failures"):
        find_named_query("signin-failure")
    assert find_named_query("Top-Events").question
