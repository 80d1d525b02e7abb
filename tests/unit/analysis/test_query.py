import contextlib
import csv
import datetime as dt
import gzip
import json
import random
import stat
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.analysis import query as query_module
from ociaudit.analysis.query import NAMED_QUERIES, _replace_lone_surrogates, run_query
from ociaudit.archive.inputs import open_input
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.events.columns import COLUMNS, read_row
from ociaudit.formats.base import EventEncoder, Record
from ociaudit.formats.parquet import Parquet
from ociaudit.formats.reader import NotPlainLines, open_records
from support.sample_events import encode_change, encode_event, encode_export, encode_sign_in

EVENTS = [
    encode_event("ListUsers", hours=1),
    encode_sign_in("failure", "Jörg", hours=2),
    encode_change("UploadApiKey", hours=3, response={"status": "200", "payload": {"fingerprint": "aa"}}),
    encode_event("GetBucket", hours=4, where="10.0.0.1,10.0.0.2", status="404"),
]


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Write a small export."""
    path = tmp_path / "audit.json"
    path.write_bytes(encode_export(EVENTS))
    return path


def fetch_rows(path: Path, sql: str) -> list[tuple]:
    """Run a query and return all rows."""
    with run_query([open_input(path)], sql) as result:
        return [row for batch in result.batches for row in batch]


def test_rows_have_the_values_of_the_columns(export: Path) -> None:
    """The table has the values that `read_row` returns, each in the column of its name."""
    (found, *_) = fetch_rows(
        export, "SELECT * EXCLUDE (event_time, response_time) FROM events WHERE event_name = 'GetBucket'"
    )
    names = [column.name for column in COLUMNS if column.kind != "time"]
    expected = dict(zip([column.name for column in COLUMNS], read_row(Record(EVENTS[3], None)), strict=True))
    assert found == tuple(expected[name] for name in names)


def test_times_are_instants_in_utc(export: Path) -> None:
    """A time is an instant in UTC, whatever the time zone of the machine."""
    ((time, kind),) = fetch_rows(export, "SELECT min(event_time), typeof(min(event_time)) FROM events")
    assert time == dt.datetime(2025, 12, 1, 1, tzinfo=dt.UTC)
    assert kind == "TIMESTAMP WITH TIME ZONE"


def test_the_event_is_json(export: Path) -> None:
    """A query can read any field of the whole event."""
    sql = "SELECT event->>'$.data.response.payload.fingerprint' FROM events WHERE event_name = 'UploadApiKey'"
    assert fetch_rows(export, sql) == [("aa",)]


@pytest.mark.parametrize("layout", ["lines", "array"])
@pytest.mark.parametrize("columns", ["event_name", "event_name, event", "event", "*"])
def test_no_row_is_lost_between_pieces(tmp_path: Path, columns, layout) -> None:
    """Rows keep their number and order in files that are read in many pieces."""
    path = tmp_path / "many.json"
    events = [encode_event(f"Name{number}", hours=number / 10) for number in range(3_000)]
    path.write_bytes(encode_export(events) if layout == "array" else b"\n".join(events))
    assert path.stat().st_size > 1024 * 1024
    with run_query([open_input(path)], f"SELECT {columns} FROM events") as result:
        rows = [row for batch in result.batches for row in batch]
    if columns == "event":
        assert [event.encode() for (event,) in rows] == events
    else:
        index = result.names.index("event_name")
        assert [row[index] for row in rows] == [f"Name{number}" for number in range(3_000)]


def test_an_empty_export_has_no_rows(tmp_path: Path) -> None:
    """An export without events is a table without rows."""
    path = tmp_path / "none.json"
    path.write_bytes(encode_export([]))
    assert fetch_rows(path, "SELECT count(*) FROM events") == [(0,)]


HOSTILE = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["'; DROP TABLE events; --", '"', "\x00", "\\N", "NULL", "", "\r\n", "{{", "=1+1", "\u202e", "a,b", "\\"]
)


@settings(max_examples=15)  # each starts an engine three times
@given(st.lists(st.tuples(HOSTILE, HOSTILE), min_size=1, max_size=8))
def test_hostile_text_is_unchanged(texts: list[tuple[str, str]]) -> None:
    """Quotes, SQL, control characters and empty texts are data, and an empty text is not NULL."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.json"
        path.write_bytes(encode_export([encode_event("X", who, message=message) for who, message in texts]))
        rows = fetch_rows(path, "SELECT principal_name, message, event->>'$.data.message' FROM events")
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
def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path, given_text, expected) -> None:
    """DuckDB rejects JSON with a lone surrogate; only that character is replaced, and the event stays readable."""
    assert json.loads(_replace_lone_surrogates(given_text.encode())) == expected
    path = tmp_path / "a.json"
    path.write_bytes(encode_export([encode_event("X", message="@").replace(b'"@"', given_text.encode())]))
    assert fetch_rows(path, "SELECT event->>'$.data.message' FROM events") == [(expected,)]


def write_parquet(path: Path) -> None:
    """Write the events as this program writes Parquet."""
    with contextlib.closing(Parquet(EventEncoder(), path.parent)) as parquet:
        parquet.begin()
        parquet.write(EVENTS, [None] * len(EVENTS))
        path.write_bytes(b"".join(parquet.finish()))


def test_our_own_parquet_is_loaded_directly(export: Path, tmp_path: Path) -> None:
    """A Parquet file with our columns gives the same rows, even if its name looks like a glob pattern."""
    folder = tmp_path / "a[b]*"
    folder.mkdir()
    path = folder / "x?.parquet"
    write_parquet(path)
    assert query_module._is_loaded(open_input(path))
    sql = "SELECT * FROM events ORDER BY event_id"
    assert fetch_rows(path, sql) == fetch_rows(export, sql)
    assert fetch_rows(path, "SELECT count(*) FROM events") == [(len(EVENTS),)]


@pytest.mark.parametrize("shape", ["sdk", "cli"])
def test_parquet_in_another_shape_is_read_as_events(tmp_path: Path, shape: str) -> None:
    """The column `event` is in the API's shape, whatever the shape is in which the file holds it."""
    path = tmp_path / "a.parquet"
    with contextlib.closing(Parquet(EventEncoder(shape), tmp_path)) as parquet:
        parquet.begin()
        parquet.write(EVENTS, [None] * len(EVENTS))
        path.write_bytes(b"".join(parquet.finish()))
    rows = fetch_rows(path, "SELECT event->>'$.eventType' FROM events")
    assert rows == [(json.loads(event).get("eventType"),) for event in EVENTS]


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ("'not json'", None),
        ("NULL", None),
        ("""'{"foo":1}'""", None),
        ("""'{"data":[' || event || ',' || event || ']}'""", 2 * len(EVENTS)),
        ("'[' || event || ',' || event || ']'", None),
        ("event || ' ' || event", None),
    ],
)
def test_parquet_of_another_program_holds_the_events_that_are_in_it(
    tmp_path: Path, value: str, rows: int | None
) -> None:
    """A file with all of our columns that this program did not write is read as any other, or rejected."""
    path, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    with contextlib.closing(Parquet(EventEncoder(), tmp_path)) as parquet:
        parquet.begin()
        parquet.write(EVENTS, [None] * len(EVENTS))
        path.write_bytes(b"".join(parquet.finish()))
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT * REPLACE ({value} AS event) FROM read_parquet('{path}')) TO '{other}' (FORMAT parquet)"
        )
    if rows is None:
        with pytest.raises(UnreadableInput, match=r"b\.parquet"):
            fetch_rows(other, "SELECT event FROM events")
    else:
        assert len(fetch_rows(other, "SELECT event FROM events")) == rows


CELLS = {
    "null": None,
    "empty text": "",
    "half an object": "{",
    "two events": f"{EVENTS[0].decode()},{EVENTS[1].decode()}",
    "a number": "12",
    "an array": f"[{EVENTS[0].decode()}]",
    "an object that is not an event": "{}",
    "a page": f'{{"data":[{",".join(event.decode() for event in EVENTS)}]}}',
    "another event": EVENTS[1].decode(),
    "an event as it was": EVENTS[0].decode(),
}


@pytest.mark.parametrize("sql", ["SELECT count(*) FROM events", "SELECT event_name, count(*) FROM events GROUP BY 1"])
@pytest.mark.parametrize("cell", CELLS)
def test_parquet_that_pyarrow_edited_is_read_as_every_command_reads_it(tmp_path: Path, cell: str, sql: str) -> None:
    """A file of ours that pyarrow wrote again, with our metadata, has the events that its cells hold, or is refused."""
    path, other = tmp_path / "a.parquet", tmp_path / "b.parquet"
    write_parquet(path)
    table = pq.read_table(path)
    cells = [CELLS[cell], *table["event"].to_pylist()[1:]]
    edited = table.set_column(table.schema.get_field_index("event"), "event", pa.array(cells, pa.string()))
    pq.write_table(edited, other)
    assert pq.read_metadata(other).metadata[b"oci_audit_events"] == b"api"
    try:
        with open_records(other) as source:
            events = [json.loads(record.raw) for batch in source for record in batch]
    except UnreadableInput:
        with pytest.raises(UnreadableInput, match=r"b\.parquet"):
            fetch_rows(other, sql)
    else:
        names = Counter(event.get("data", {}).get("eventName") for event in events)
        expected = names.items() if "GROUP BY" in sql else [(names.total(),)]
        assert sorted(fetch_rows(other, sql), key=repr) == sorted(expected, key=repr)


def test_damage_in_parquet_is_named_and_shows_no_event(tmp_path: Path) -> None:
    """Wherever bytes of a Parquet file are changed, the error names the file, and never prints an event."""
    path = tmp_path / "a.parquet"
    with contextlib.closing(Parquet(EventEncoder(), tmp_path)) as parquet:
        parquet.begin()
        parquet.write([encode_event("X", message=f"secret-{n}" * 20) for n in range(200)], [None] * 200)
        data = b"".join(parquet.finish())
    messages = []
    for position in range(4, len(data), max(1, len(data) // 60)):
        path.write_bytes(data[:position] + b"X" * 30 + data[position + 30 :])
        try:
            fetch_rows(path, "SELECT count(event), count(event_name) FROM events")
        except UnreadableInput as error:
            messages.append(str(error))
    assert len(messages) > 5
    assert all("a.parquet" in text and "secret" not in text and len(text) < 600 for text in messages)


@pytest.mark.parametrize("name", ["~", "~root", "a:b", "%41", "s3:"])
def test_a_name_means_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """No file name means more to DuckDB than the file."""
    monkeypatch.chdir(tmp_path)
    with contextlib.closing(Parquet(EventEncoder(), tmp_path)) as parquet:
        parquet.begin()
        parquet.write(EVENTS, [None] * len(EVENTS))
        Path(name).write_bytes(b"".join(parquet.finish()))
    assert fetch_rows(Path(name), "SELECT count(*) FROM events") == [(len(EVENTS),)]


@pytest.mark.parametrize("sql", ["SELECT event FROM events", "SELECT event_name, event FROM events"])
@pytest.mark.parametrize("name", ["x*y", "[c]", "a[b", "**", "q'uote", "#h", "%41"])
def test_a_folder_named_like_a_pattern_means_itself(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, sql: str
) -> None:
    """Neither the folder of the input nor that of the temporary files is taken for a pattern, however it is read."""
    expected = fetch_rows(export, sql)
    folder = tmp_path / name
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    if sql == "SELECT event FROM events":
        monkeypatch.setattr(query_module, "_load_rows", lambda *_, **__: pytest.fail("rows were written"))
    assert fetch_rows(export.rename(folder / "audit.json"), sql) == expected


@pytest.mark.parametrize("name", ["json", "event", "event_name", "cells", "origin_region", "event_time"])
@pytest.mark.parametrize("kind", ["ndjson", "csv", "our parquet", "other parquet"])
@pytest.mark.parametrize(
    "sql", ["SELECT event FROM events", "SELECT event_name, event_time, origin_region FROM events"]
)
def test_a_folder_named_like_a_column_gives_no_values(
    export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kind: str, sql: str
) -> None:
    """A folder's name is never the value of a column, whether it is that of the input or of the temporary files."""
    expected = fetch_rows(export, sql)
    folder = tmp_path / f"{name}=zzz"
    folder.mkdir()
    path = folder / "a"
    if kind == "ndjson":
        path.write_bytes(b"\n".join([*EVENTS, b""]))
    elif kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([["event"], *([event.decode()] for event in EVENTS)])
    else:
        write_parquet(path)
        if kind == "other parquet":
            pq.write_table(pq.ParquetFile(path).read(), path)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    assert fetch_rows(path, sql) == expected


ODD_LINES = (
    b'{"eventType":"a","data":{"eventName":"x","eventName":"y"}}',
    b'{"eventType":"a","data":{"eventName":5,"message":1e400}}',
    rb'{"eventType":"a","data":{"eventName":"\ud800","x":"\ud83d\ude00 \u0000"}}',
    b'{"eventType":"a","data":{"request":{"path":"/p"},"n":[1.00,12345678901234567890123]}}',
    b'{"eventType":"a","data":null,"origin":{"region":"r","compartment":"c"}}',
    b'{"eventType":"a","eventTime":"2025-12-01T00:00:00.000Z","data":{"eventName":"z"}} ',
    b'{"event-type":"a","event-time":"2025-12-01T00:00:00Z","event-id":"1","data":{"event-name":"kebab"}}',
    b'{"data":[{"eventType":"a","data":{"eventName":"in a page"}}],"opc-next-page":"p"}',
    b'{"datetime":1,"logContent":{"type":"t","id":"i","time":"2025-12-01T00:00:00Z","data":{"eventName":"log"}}}',
    b'{"eventType":"a","data":{"eventName":' + b"[" * 1_100 + b"]" * 1_100 + b"}}",
    b'{"eventType":"a","x":[',
    b'{"eventType":"b"}]}{}',
    b'{"eventType":"a"}{"eventType":"b"}',
    b'{"eventType":"a","n":NaN}',
    b'{"eventType":"a","n":1,}',
    b'{"eventType":"a","n":Infinity,"m":01}',
    b'{"eventType":"a","s":"\xff"}',
    b'{"eventType":"a","s":"\x01"}',
    b'{"eventType":"a","s":"\xc3\xb6"}',
    b'{"eventType":"a","s":1}\r',
    b"",
    b"[]",
    b"{}",
    b"null",
    b"ServiceError: it failed",
    b"\xef\xbb\xbf{}",
)
QUERIES = (
    "SELECT count(*) FROM events",
    "SELECT event_name, message, outcome, status FROM events",
    "SELECT event FROM events",
    "SELECT event->>'$.data.request.path', event->'$.data.n', length(event) FROM events",
    "SELECT a.event->>'$.data.eventName' FROM events a, (SELECT event FROM events LIMIT 1) b",
    "SELECT event_name, origin_region, event FROM events",
    "SELECT * FROM events WHERE event_name IS NOT NULL LIMIT 2",
)
lines = st.sampled_from(EVENTS) | st.sampled_from(ODD_LINES)


def read_either_way(path: Path, sql: str) -> object:
    """Return the rows of a query, or the class of its error."""
    try:
        return fetch_rows(path, sql)
    except UnreadableInput as error:
        return type(error)


@settings(max_examples=40, deadline=None)  # each starts an engine four times
@given(
    st.lists(lines, min_size=1, max_size=6),
    st.sampled_from(["lines", "lines without the last break", "array"]),
    st.sampled_from(
        [bytes, gzip.compress, zstandard.compress, lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])]
    ),
    st.sampled_from(QUERIES),
)
def test_every_way_to_read_a_file_gives_the_same_rows(given_lines: list[bytes], layout: str, pack, sql: str) -> None:
    """Whatever a file holds, the fast ways give the rows, or the error, of the reader of any layout."""
    body = {"lines": b"\n".join([*given_lines, b""]), "array": encode_export(given_lines)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a[1]*.json"
        path.write_bytes(pack(body.get(layout, b"\n".join(given_lines))))
        fast = read_either_way(path, sql)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(query_module, "read_plain_events", give_up)
            slow = read_either_way(path, sql)
    assert fast == slow


SCALARS = (
    "SELECT event_name, event_time, status FROM events",
    "SELECT count(*) FROM events",
    "SELECT origin_region, event_name FROM events",
)


@settings(max_examples=25, deadline=None)  # each starts processes
@given(
    st.lists(st.sampled_from(EVENTS) | lines, min_size=1, max_size=12),
    st.sampled_from(["lines", "lines without the last break", "array"]),
    st.sampled_from(SCALARS),
    st.integers(1, 3),
    st.sampled_from([0, 100, 2_000]),
)
def test_several_processes_give_the_rows_of_one(
    given_lines: list[bytes], layout: str, sql: str, helpers: int, head_start: int
) -> None:
    """Wherever a file is cut, and whatever it holds, its rows, their order and its errors are the same."""
    body = {"lines": b"\n".join([*given_lines, b""]), "array": encode_export(given_lines)}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a[1]*.json"
        path.write_bytes(body.get(layout, b"\n".join(given_lines)))
        expected = read_either_way(path, sql)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(query_module, "_LEAST_SPLIT_BYTES", 1)
            patch.setattr(query_module, "_HEAD_START_BYTES", head_start)
            patch.setattr(query_module, "count_helpers", lambda: helpers)
            assert read_either_way(path, sql) == expected


@pytest.mark.parametrize("helpers", [1, 3])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_the_rows_of_other_processes_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, helpers: int, pack: Callable[[bytes], bytes]
) -> None:
    """Where nothing fails, this process reads its own part alone."""
    monkeypatch.setattr(query_module, "_LEAST_SPLIT_BYTES", 1)
    monkeypatch.setattr(query_module, "_HEAD_START_BYTES", 0)
    monkeypatch.setattr(query_module, "count_helpers", lambda: helpers)
    monkeypatch.setattr(query_module, "_write_rows", lambda *_: pytest.fail("all was read here"))
    path = tmp_path / "a.json"
    draw = random.Random(1)  # so that a compressed file has several pieces
    types = [draw.randbytes(600).hex() for _ in range(1_500)]
    path.write_bytes(pack(encode_export([b'{"eventId":"1","eventType":"%b"}' % one.encode() for one in types])))
    assert fetch_rows(path, "SELECT event_type FROM events") == [(one,) for one in types]


@pytest.mark.parametrize("program", ["/bin/false", "/bin/true", "/bin/cat", "/nowhere", "killed"])
def test_a_process_that_fails_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """If another process cannot start, fails, is killed or answers nonsense, all rows are read here."""
    monkeypatch.setattr(query_module, "_LEAST_SPLIT_BYTES", 1)
    monkeypatch.setattr(query_module, "_HEAD_START_BYTES", 0)
    monkeypatch.setattr(query_module, "count_helpers", lambda: 3)
    attempts: list[str] = []
    started: list[subprocess.Popen[bytes]] = []

    def start(*_: str) -> subprocess.Popen[bytes]:
        attempts.append(program)
        command = ["/bin/sleep", "600"] if program == "killed" else [program]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        if program == "killed":
            started[-1].kill()
        return started[-1]

    monkeypatch.setattr(query_module, "start_helper", start)
    path = tmp_path / "a.json"
    path.write_bytes(encode_export(EVENTS * 100))
    assert fetch_rows(path, "SELECT count(event_type) FROM events") == [(len(EVENTS) * 100,)]
    assert attempts
    assert all(process.poll() is not None for process in started)


def give_up(_: object) -> list[list[bytes]]:
    """Read nothing in the fast way."""
    raise NotPlainLines


@pytest.mark.parametrize("suffix", ["json", "json.gz", "ndjson", "ndjson.zst"])
def test_whole_events_are_read_from_the_file_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix) -> None:
    """A query of nothing but whole events of a plain file writes no rows."""
    monkeypatch.setattr(query_module, "_load_rows", lambda *_, **__: pytest.fail("rows were written"))
    path = tmp_path / f"a.{suffix}"
    body = encode_export(EVENTS) if "ndjson" not in suffix else b"\n".join([*EVENTS, b""])
    pack = {"gz": gzip.compress, "zst": zstandard.compress}.get(suffix.rpartition(".")[2], bytes)
    path.write_bytes(pack(body))
    assert fetch_rows(path, "SELECT event FROM events") == [(event.decode(),) for event in EVENTS]


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is given of a file that was not the same at the end as at the beginning."""
    path = tmp_path / "a.ndjson"
    path.write_bytes(EVENTS[0] + b"\n")
    check = query_module._are_whole_events

    def append(*arguments: object) -> bool:
        is_whole = check(*arguments)
        with path.open("ab") as file:
            file.write(EVENTS[1] + b"\n")
        return is_whole

    monkeypatch.setattr(query_module, "_are_whole_events", append)
    assert len(fetch_rows(path, "SELECT event FROM events")) == 2


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT event, (SELECT max(x) FROM (SELECT unnest([1]) AS x)) FROM events WHERE event IS NULL",
        "SELECT event FROM events, read_text('{other}')",
        "SELECT event FROM '{other}'",
    ],
)
def test_whole_events_are_behind_the_fence(tmp_path: Path, sql) -> None:
    """The engine that reads a file of the query itself reads no other file."""
    path, other = tmp_path / "a.ndjson", tmp_path / "b.ndjson"
    path.write_bytes(EVENTS[0] + b"\n")
    other.write_bytes(EVENTS[1] + b"\n")
    if "{other}" in sql:
        with pytest.raises(UsageError):
            fetch_rows(path, sql.format(other=other))
    else:
        assert fetch_rows(path, sql) == []
    with contextlib.ExitStack() as stack:
        connection = query_module._open_engine(stack, tmp_path)
        query_module._close_to_others(connection, [path])
        assert connection.execute(f"SELECT count(*) FROM read_json_objects('{path}')").fetchall() == [(1,)]
        with pytest.raises(duckdb.PermissionException):
            connection.execute(f"SELECT count(*) FROM read_json_objects('{other}')")


@pytest.mark.parametrize("column", ["event", "event_name", "event, message"])
def test_a_long_event_is_read(tmp_path: Path, column) -> None:
    """An event of several megabytes is a row like any other."""
    path = tmp_path / "a.json"
    path.write_bytes(encode_export([*EVENTS, encode_event("Long", message="x" * 9_000_000)]))
    assert len(fetch_rows(path, f"SELECT {column} FROM events")) == len(EVENTS) + 1


@pytest.mark.parametrize("cut", [4, 40, -30])
def test_a_truncated_parquet_is_named(tmp_path: Path, cut) -> None:
    """A truncated Parquet file is an error that names it."""
    path = tmp_path / "cut.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"COPY (SELECT 1 AS a) TO '{path}' (FORMAT parquet)")
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UnreadableInput, match=r"cut\.parquet"):
        fetch_rows(path, "SELECT 1 FROM events")


def test_an_unknown_column_gets_suggestions(export: Path) -> None:
    """The message suggests similar columns, and the hint lists all of them."""
    with pytest.raises(
        UsageError, match=r"no column 'principal'; did you mean principal_(id|name) or principal_(id|name)"
    ) as caught:
        fetch_rows(export, "SELECT principal FROM events")
    assert "event_time, event_id" in caught.value.hint
    with pytest.raises(UsageError, match="did you mean event_type"):
        fetch_rows(export, "SELECT e.eventtype FROM events e")


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT * FROM audit", "no table 'audit'"),
        ("SELECT * FROM 'other.csv'", "may only read the table"),
        ("SELECT no_such_function(event_id) FROM events", "the query failed"),
        ("SELECT event_id::INTEGER FROM events", "the query failed"),
        ("SELECT ? FROM events", "the query failed"),
        ("SELECT getenv('HOME')", "the query failed"),
        ("SELECT * FROM df", "no table 'df'"),
    ],
)
def test_other_mistakes_are_usage_errors(export: Path, sql, words) -> None:
    """A query that fails is a usage error with a readable message, not a traceback."""
    df = [1]  # a variable that DuckDB would find if it were allowed to
    with pytest.raises(UsageError, match=words):
        fetch_rows(export, sql)
    assert df


def test_a_query_is_checked_before_anything_is_read(tmp_path: Path) -> None:
    """A mistake in the query is reported even if the file does not exist."""
    with pytest.raises(UsageError, match="no column 'nope'"):
        fetch_rows(tmp_path / "none.json", "SELECT nope FROM events")


# The second barrier on its own: what would happen if a statement passed the first one.
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
def test_the_connection_cannot_write(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql) -> None:
    """Without the check the connection still rejects the statement, and no file is changed or created."""
    monkeypatch.setattr(query_module, "_check", lambda _: frozenset({"event_id"}))
    before = export.read_bytes()
    with pytest.raises(UsageError):
        fetch_rows(export, sql.format(folder=tmp_path))
    assert export.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["audit.json"]


def test_temporary_files_are_private_and_deleted(export: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loaded events are in a folder that only the owner can read, and that is deleted with the result."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    with run_query([open_input(export)], "SELECT event_id FROM events") as result:
        (folder,) = scratch.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert sum(map(len, result.batches)) == len(EVENTS)
    assert list(scratch.iterdir()) == []
    with pytest.raises(UsageError):
        fetch_rows(export, "SELECT event_id::INTEGER FROM events")
    assert list(scratch.iterdir()) == []


def test_csv_is_an_input(export: Path, tmp_path: Path) -> None:
    """A CSV file with the column `event` gives the events in it."""
    path = tmp_path / "audit.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["event"], *([event.decode()] for event in EVENTS)])
    sql = "SELECT event_name FROM events"
    assert fetch_rows(path, sql) == fetch_rows(export, sql)


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
        "SELECT a, c FROM events AS e(a, b, c) ORDER BY 1",
        "SELECT count(x) FROM events AS t(x) JOIN events u ON true",
        "WITH e(a, b) AS (FROM events) SELECT b FROM e ORDER BY 1",
        "SELECT x FROM (FROM events) AS t(x) ORDER BY 1",
        "SELECT event_name.upper() FROM events ORDER BY 1",
        "SELECT e.event_name.upper().len() FROM events e ORDER BY e.event_id.lower()",
        "SELECT e.to_json() FROM events e ORDER BY 1",
        "SELECT to_json(main.events) FROM events ORDER BY 1",
        "SELECT (events).event_name FROM events ORDER BY 1",
        "SELECT max(e).event_name, list(e)[1].event_id IS NULL FROM events e",
        "SELECT COLUMNS('event_n.*') FROM events ORDER BY 1",
        "SELECT * EXCLUDE (event_id) REPLACE (1 AS status) FROM events ORDER BY ALL",
        "SELECT * LIKE 'event_n%' FROM events ORDER BY 1",
        "SELECT event_name, count(*) FROM events GROUP BY ALL ORDER BY ALL",
        "SELECT event_name FROM events a JOIN events b USING (event_name, status) ORDER BY 1",
        "SELECT b.event_name FROM events a POSITIONAL JOIN events b ORDER BY 1",
        "SELECT a.event_name FROM events a ASOF JOIN events b USING (event_name, event_time) ORDER BY 1",
        "SELECT l.n FROM events e, LATERAL (SELECT e.event_name AS n) l ORDER BY 1",
        "SELECT x.event_name FROM events e, LATERAL (SELECT e) l(x) ORDER BY 1",
        "SELECT event_id FROM events UNION BY NAME SELECT event_name FROM events ORDER BY ALL",
        "SELECT lag(event_name) OVER w FROM events WINDOW w AS (PARTITION BY outcome ORDER BY event_time) ORDER BY 1",
        "SELECT * FROM events PIVOT (count(*) FOR outcome IN ('failure', 'success') GROUP BY event_name) ORDER BY 1",
        "SELECT k, v FROM events UNPIVOT (v FOR k IN (outcome, event_id)) ORDER BY ALL",
        "SELECT column_name, count FROM (SUMMARIZE events)",
        "DESCRIBE events",
        "SELECT event_name FROM events USING SAMPLE 100% ORDER BY 1",
        "SELECT event_name FROM events TABLESAMPLE reservoir(100) ORDER BY 1",
    ],
)
def test_omitting_columns_changes_no_result(export: Path, monkeypatch: pytest.MonkeyPatch, sql) -> None:
    """A result is the same whether only the needed columns are loaded or all of them."""
    with_needed_columns = fetch_rows(export, sql)
    monkeypatch.setattr(query_module, "_check", lambda _: frozenset(column.name for column in COLUMNS))
    assert fetch_rows(export, sql) == with_needed_columns
