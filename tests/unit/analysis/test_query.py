import csv
import datetime as dt
import json
import stat
import tempfile
from pathlib import Path

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.analysis import event_table as query_table
from ociaudit.analysis import query as query_module
from ociaudit.analysis.event_table import _mend
from ociaudit.analysis.query import NAMED_QUERIES, run_query
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.events.columns import COLUMNS, read_row
from ociaudit.formats.base import Record
from support.told_events import tell, tell_change, tell_sign_in, write_lines

EVENTS = [
    tell("ListUsers", hours=1),
    tell_sign_in("failure", "Jörg", hours=2),
    tell_change("UploadApiKey", hours=3, response={"status": "200", "payload": {"fingerprint": "aa"}}),
    tell("GetBucket", hours=4, where="10.0.0.1,10.0.0.2", status="404"),
]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """A small export."""
    path = tmp_path / "audit.json"
    path.write_bytes(write_lines(EVENTS))
    return path


def ask(path: Path, sql: str) -> list[tuple]:
    """Ask, and return all rows."""
    with run_query([path], sql) as answer:
        return [row for batch in answer.batches for row in batch]


def test_rows_are_those_of_the_columns(export: Path) -> None:
    """The table has what `read_row` reads, each in the column of its name."""
    (found, *_) = ask(export, "SELECT * EXCLUDE (event_time, response_time) FROM events WHERE event_name = 'GetBucket'")
    names = [column.name for column in COLUMNS if column.kind != "time"]
    expected = dict(zip([column.name for column in COLUMNS], read_row(Record(EVENTS[3], None)), strict=True))
    assert found == tuple(expected[name] for name in names)


def test_times_are_instants_in_utc(export: Path) -> None:
    """A time is an instant, and is shown in UTC wherever the machine is."""
    ((time, kind),) = ask(export, "SELECT min(event_time), typeof(min(event_time)) FROM events")
    assert time == dt.datetime(2025, 12, 1, 1, tzinfo=dt.UTC)
    assert kind == "TIMESTAMP WITH TIME ZONE"


def test_the_event_is_json(export: Path) -> None:
    """The whole event can be asked for anything in it."""
    sql = "SELECT event->>'$.data.response.payload.fingerprint' FROM events WHERE event_name = 'UploadApiKey'"
    assert ask(export, sql) == [("aa",)]


@pytest.mark.parametrize("columns", ["event_name", "event_name, event", "*"])
def test_no_row_is_lost_between_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns) -> None:
    """Rows keep number and order, however often the passing file is begun anew."""
    monkeypatch.setattr(query_table, "_CHUNK_BYTES", 5_000)
    path = tmp_path / "many.json"
    path.write_bytes(write_lines([tell(f"Name{number}", hours=number / 10) for number in range(700)]))
    with run_query([path], f"SELECT {columns} FROM events") as answer:
        at = answer.names.index("event_name")
        assert [row[at] for batch in answer.batches for row in batch] == [f"Name{number}" for number in range(700)]


def test_an_empty_export_has_no_rows(tmp_path: Path) -> None:
    """An export without events is a table without rows."""
    path = tmp_path / "none.json"
    path.write_bytes(write_lines([]))
    assert ask(path, "SELECT count(*) FROM events") == [(0,)]


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["'; DROP TABLE events; --", '"', "\x00", "\\N", "NULL", "", "\r\n", "{{", "=1+1", "\u202e", "a,b", "\\"]
)


@settings(max_examples=15)  # each starts an engine three times
@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=8))
def test_hostile_text_comes_out_as_it_went_in(texts: list[tuple[str, str]]) -> None:
    """Quotes, SQL, control characters and empty texts are data, and an empty text is not NULL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(write_lines([tell("X", who, message=message) for who, message in texts]))
        rows = ask(path, "SELECT principal_name, message, event->>'$.data.message' FROM events")
    assert rows == [(who, message, message) for who, message in texts]


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        (r'"a\ud800b"', "a\N{REPLACEMENT CHARACTER}b"),
        (r'"\ud83d\ude00"', "\N{GRINNING FACE}"),
        (r'"\\ud800"', r"\ud800"),
        (r'"\ud800\ud83d\ude00"', "\N{REPLACEMENT CHARACTER}\N{GRINNING FACE}"),
        (r'"\\\udBFF"', "\\\N{REPLACEMENT CHARACTER}"),
        (r'"\udc00"', "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_half_a_surrogate_pair_becomes_a_replacement(tmp_path: Path, given_text, expected) -> None:
    """DuckDB refuses such JSON; the rest of the event must not be lost with it."""
    assert json.loads(_mend(given_text.encode())) == expected
    path = tmp_path / "a.json"
    path.write_bytes(write_lines([tell("X", message="@").replace(b'"@"', given_text.encode())]))
    assert ask(path, "SELECT event->>'$.data.message' FROM events") == [(expected,)]


def test_our_own_parquet_is_read_as_it_is(export: Path, tmp_path: Path) -> None:
    """A Parquet file with our columns gives the same rows; its name may look like a pattern."""
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    path = folder / "x?.parquet"
    columns = ", ".join(column.name for column in COLUMNS)
    with duckdb.connect() as engine:
        query_table.create_table(engine)
        query_table.fill_table(engine, [export], {column.name for column in COLUMNS}, folder)
        engine.execute(f"COPY (SELECT {columns} FROM events) TO '{path}' (FORMAT parquet)")
    sql = "SELECT * FROM events ORDER BY event_id"
    assert ask(path, sql) == ask(export, sql)
    assert ask(path, "SELECT count(*) FROM events") == [(len(EVENTS),)]


@pytest.mark.parametrize("cut", [4, 40, -30])
def test_a_cut_parquet_is_named(tmp_path: Path, cut) -> None:
    """A Parquet file that is cut is an error that names it."""
    path = tmp_path / "cut.parquet"
    with duckdb.connect() as engine:
        engine.execute(f"COPY (SELECT 1 AS a) TO '{path}' (FORMAT parquet)")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnreadableInput, match=r"cut\.parquet"):
        ask(path, "SELECT 1 FROM events")


def test_an_unknown_column_is_told_with_near_ones(export: Path) -> None:
    """The message has the names that were probably meant, the hint has all."""
    with pytest.raises(
        UsageError, match=r"no column 'principal'; near: principal_(id|name), principal_(id|name)"
    ) as caught:
        ask(export, "SELECT principal FROM events")
    assert "event_time, event_id" in caught.value.hint
    with pytest.raises(UsageError, match="near: event_type"):
        ask(export, "SELECT e.eventtype FROM events e")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM audit", "no table 'audit'"),
        ("SELECT * FROM 'other.csv'", "and nothing else"),
        ("SELECT no_such_function(event_id) FROM events", "cannot be answered"),
        ("SELECT event_id::INTEGER FROM events", "cannot be answered"),
        ("SELECT ? FROM events", "cannot be answered"),
        ("SELECT getenv('HOME')", "cannot be answered"),
        ("SELECT * FROM df", "no table 'df'"),
    ],
)
def test_other_mistakes_are_sentences(export: Path, sql, words) -> None:
    """What cannot be answered is a matter of usage, in a sentence and not in a trace."""
    df = [1]  # a variable that DuckDB would find, were it allowed to
    with pytest.raises(UsageError, match=words):
        ask(export, sql)
    assert df


def test_a_query_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    """A mistake in the query is told although the file does not even exist."""
    with pytest.raises(UsageError, match="no column 'nope'"):
        ask(tmp_path / "none.json", "SELECT nope FROM events")


# The second fence, tried by itself: what would happen if a statement got past the first.
@pytest.mark.parametrize(
    "sql",
    [
        "COPY events TO '{folder}/out.csv'",
        "COPY events TO '{folder}/audit.json'",
        "COPY (SELECT 1) TO '{folder}/audit.json' (FORMAT parquet, USE_TMP_FILE false)",
        "WITH a AS (COPY events TO '{folder}/audit.json') SELECT 1",
        "EXPORT DATABASE '{folder}/all'",
        "ATTACH '{folder}/other.duckdb'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('{folder}/audit.json')",
        "SELECT * FROM read_blob('{folder}/audit.json')",
        "SELECT * FROM read_json('http://127.0.0.1:1/x')",
        "SELECT * FROM glob('{folder}/*')",
        "SELECT * FROM '{folder}/audit.json'",
        "SELECT getenv('HOME')",
        "SELECT * FROM df",
        "INSERT INTO events(event_id) VALUES ('x')",
        "UPDATE events SET event_id = 'x'",
        "DELETE FROM events",
        "CREATE TABLE t AS SELECT 1",
        "SET enable_external_access = true",
        "SET memory_limit = '100GB'",
        "SET lock_configuration = false",
        "PRAGMA enable_profiling",
    ],
)
def test_the_engine_itself_has_no_hands(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql) -> None:
    """Without the check the engine still refuses, and no file has changed or appeared."""
    monkeypatch.setattr(query_module, "_rehearse", lambda _: frozenset({"event_id"}))
    before = export.read_bytes()
    with pytest.raises(UsageError):
        ask(export, sql.format(folder=tmp_path))
    assert export.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_what_is_kept_meanwhile_is_private_and_goes(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loaded events stand in a folder for the owner alone, which is gone when the answer is read."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with run_query([export], "SELECT event_id FROM events") as answer:
        (folder,) = scratch.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert sum(map(len, answer.batches)) == len(EVENTS)
    assert list(scratch.iterdir()) == []
    with pytest.raises(UsageError):
        ask(export, "SELECT event_id::INTEGER FROM events")
    assert list(scratch.iterdir()) == []


def test_csv_is_an_input_too(export: Path, tmp_path: Path) -> None:
    """A CSV with the column `event` is read as the events in it."""
    path = tmp_path / "audit.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["event"], *([event.decode()] for event in EVENTS)])
    sql = "SELECT event_name FROM events"
    assert ask(path, sql) == ask(export, sql)


@pytest.mark.parametrize(
    "sql",
    [
        *(query.sql for query in NAMED_QUERIES.values()),
        "SELECT count(*) FROM (SELECT DISTINCT * FROM events)",
        "SELECT e FROM events e ORDER BY e.event_id",
        "SELECT event_id FROM events a NATURAL JOIN events b ORDER BY 1",
        "SELECT #4 FROM events ORDER BY 1",
        "SELECT max(events) IS NULL FROM events",
        "SELECT event_name FROM events WHERE to_json(events)->>'outcome' = 'failure'",
        "WITH events AS (SELECT event_name AS event FROM events) SELECT event FROM events ORDER BY 1",
        "SELECT list_transform([status], lambda event_id: event_id + 1) FROM events ORDER BY 1",
    ],
)
def test_leaving_columns_out_changes_no_answer(export: Path, monkeypatch: pytest.MonkeyPatch, sql) -> None:
    """An answer is the same whether only the columns that are needed are loaded or all of them."""
    few = ask(export, sql)
    monkeypatch.setattr(query_module, "_rehearse", lambda _: frozenset(column.name for column in COLUMNS))
    assert ask(export, sql) == few
