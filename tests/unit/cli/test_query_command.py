import csv
import datetime as dt
import io
import json
import unicodedata
import uuid
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis.query import NAMED_QUERIES, QueryResult
from ociaudit.cli.query_command import _split_arguments, encode_csv, encode_json, format_table
from ociaudit.errors import UsageError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp\r\nforged\u2028"


def make_result(
    rows: list[tuple], names: tuple[str, ...] = (), types: tuple[str, ...] = (), batch: int = 2
) -> QueryResult:
    """Return a result of these rows."""
    width = len(rows[0]) if rows else len(names)
    return QueryResult(
        names or tuple(f"c{number}" for number in range(width)),
        types or ("VARCHAR",) * width,
        (rows[start : start + batch] for start in range(0, len(rows), batch)),
    )


@pytest.mark.parametrize(
    "sql",
    [
        *(named.sql for named in NAMED_QUERIES.values()),
        *("SELECT '" + "x" * length + "'" for length in (245, 246, 247, 4_087, 200_000)),
        "a" * 256,
        "SELECT '\0'",
        "SELECT '\udcff'",
        "SELECT 'ö'" + "ö" * 128,
        "link",
        "",
    ],
)
def test_any_text_can_be_a_query(sql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last argument is the query, whatever its length and characters, unless something exists under this name."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("link")  # nothing is found under this name, either
    assert _split_arguments(["a.json", sql], None) == (["a.json"], sql)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.json", "file"), ("folder", "folder"), ("/dev/null", "file"), ("oci://n/b/a.json", "URL")]
)
def test_an_input_is_not_a_query(name: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last argument is an input, the message says what it is and that the query is missing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.json").touch()
    with pytest.raises(UsageError, match=f"the query is missing: the last argument, {name}, is a {kind}$"):
        _split_arguments(["b.json", name], None)


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=9))
def test_json_is_what_went_in(rows) -> None:
    """JSON has every row, in ASCII, one per line, for any text."""
    data = b"".join(encode_json(make_result(rows, ("a", "b"))))
    assert json.loads(data) == [{"a": a, "b": b} for a, b in rows]
    assert data.isascii()
    assert data.count(b"\n") == (len(rows) + 2 if rows else 1)


def test_json_keeps_every_digit_of_the_event() -> None:
    """A column of JSON is unchanged in the result, including numbers that floating point would change."""
    event = '{"n":18446744073709551615,"r":1.10E+2,"t":"größe \u202e"}'
    data = b"".join(encode_json(make_result([(event,), (None,)], types=("JSON",))))
    assert b"18446744073709551615" in data
    assert b"1.10E+2" in data
    assert data.isascii()
    assert json.loads(data) == [{"c0": json.loads(event)}, {"c0": None}]


def test_every_kind_of_value_has_a_form() -> None:
    """Every type of value of DuckDB has a form in JSON and CSV."""
    moment = dt.datetime(2025, 12, 1, 8, tzinfo=dt.UTC)
    row = (
        True, 1, 1.5, float("nan"), Decimal("1.10"), Decimal(3), moment, moment.date(), moment.time(),
        dt.timedelta(hours=1), b"\x00\xff", [1, None, "x"], {"a": moment}, uuid.UUID(int=1), None,
    )  # fmt: skip
    (found,) = json.loads(b"".join(encode_json(make_result([row]))))
    assert list(found.values()) == [
        True, 1, 1.5, None, 1.1, 3, "2025-12-01T08:00:00.000Z", "2025-12-01", "08:00:00",
        "1:00:00", "AP8=", [1, None, "x"], {"a": "2025-12-01T08:00:00.000Z"}, str(uuid.UUID(int=1)), None,
    ]  # fmt: skip
    (_, cells) = csv.reader(io.StringIO(b"".join(encode_csv(make_result([row]))).decode()))
    assert cells[6] == "2025-12-01T08:00:00.000Z"
    assert cells[11] == '[1, null, "x"]'


def test_columns_of_one_name_are_distinguished() -> None:
    """A column name that occurs twice gets a suffix, because an object cannot have it twice."""
    (found,) = json.loads(b"".join(encode_json(make_result([(1, 2, 3)], ("a", "a", "a_2")))))
    assert found == {"a": 1, "a_2": 2, "a_2_2": 3}


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=9))
def test_csv_can_be_read_and_runs_nothing(rows) -> None:
    """A CSV reader gets every cell; only one that a spreadsheet would run has an apostrophe in front."""
    text = b"".join(encode_csv(make_result(rows, ("a", "b")))).decode()
    head, *found = csv.reader(io.StringIO(text, newline=""))
    assert head == ["a", "b"]
    for before, after in zip(rows, found, strict=True):
        for cell, read in zip(before, after, strict=True):
            assert read in {cell, "'" + cell}
            assert read[:1] not in {"=", "+", "-", "@", "\t", "\r", "\n"}


def test_numbers_are_not_defused() -> None:
    """A negative number does not get an apostrophe."""
    assert b"".join(encode_csv(make_result([(-1, "-1")]))).endswith(b"-1,'-1\r\n")


@pytest.mark.parametrize("width", [None, 40, 80])
def test_a_table_is_safe_on_a_terminal(width) -> None:
    """No cell or name has a character that a terminal acts on, and a row is one line."""
    lines = list(format_table(make_result([(HOSTILE, 1)] * 5, (HOSTILE, "n"), ("VARCHAR", "BIGINT")), width=width))
    assert len(lines) == 8
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} for char in "".join(lines))
    assert lines[-1] == "(5 rows)"


def test_a_wide_table_fits_the_terminal() -> None:
    """On a terminal wide columns are truncated, with wide characters counted as two cells; in a file they are whole."""
    rows = [("x" * 300, "漢字" * 60, 12345)]
    answer = ("a", "b", "n"), ("VARCHAR", "VARCHAR", "BIGINT")
    lines = list(format_table(make_result(rows, *answer), width=80))
    assert all(sum(2 if ord(char) > 0x2E80 else 1 for char in line) <= 80 for line in lines)
    assert "…" in lines[2]
    assert lines[2].endswith("12345")
    whole = list(format_table(make_result(rows, *answer), width=None))
    assert "x" * 300 in whole[2]


def test_a_table_without_rows_has_its_header() -> None:
    """A table without rows has its header and says so."""
    assert list(format_table(make_result([], ("event_name",)), width=80)) == ["event_name", "----------", "(0 rows)"]


OCIDS = [f"ocid1.{kind}.oc1..{'a' * 60}" for kind in ("compartment", "user", "instance.region1")]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("width", [40, 80])
def test_an_ocid_is_whole_on_a_terminal(width: int, count: int) -> None:
    """Rows whose OCIDs would be cut are shown one column per line, each OCID unbroken."""
    names = ("compartment_id", "principal_id", "event")[:count]
    event = json.dumps({"a": OCIDS[2], "text": "x" * 300 + " words " * 40})
    rows = [(OCIDS[0], OCIDS[1], event)[:count]]
    lines = list(format_table(make_result(rows, names, ("VARCHAR",) * count), width=width))
    for ocid in OCIDS[:count]:
        assert any(ocid in line for line in lines), lines
    assert all(len(line) <= width for line in lines if "ocid1." not in line)
    if count == 3:
        text = "".join(line.strip(" ") for line in lines)
        assert "x" * 300 in text
        assert text.replace(" ", "").count("words") == 40
    assert lines[-1] == "(1 row)"


def test_a_cell_that_is_cut_in_a_later_batch_is_said_to_be() -> None:
    """The note below a table holds for every row, not only for those that the widths were taken from."""
    lines = list(format_table(make_result([("a",), ("x" * 70,)], ("text",), ("VARCHAR",), batch=1), width=80))
    assert lines[-2].endswith("…")
    assert "… marks what did not fit" in lines[-1]
