"""CSV and Parquet as everyone's tools read them: the same values in DuckDB, pandas, Polars, PyArrow and `csv`."""

import csv
import io
import json
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ociaudit.events.columns import COLUMNS, MAP_COLUMNS, read_facts_and_maps, read_row
from ociaudit.formats.base import EventEncoder, Record
from ociaudit.formats.csv import FORMULA_SIGNS
from ociaudit.formats.parquet import PARQUET_COLUMNS
from ociaudit.planning.shard import Target
from support.forms import write_form

csv.field_size_limit(2**30)

HOSTILE = [
    "nul\0 inside",
    "\0",
    "=cmd|'/c calc'!A1",
    "+1",
    "-1",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "＝1",
    "'already",
    'say "x"',
    '"\r\n',
    '}"\r\n',
    "a,b;c",
    "line\nbreak\r\nand more",
    "\u2028\x85\x0b\x0c",
    "\x1b[31mred\x07",
    "\u202egnp.exe",
    "<script>alert(1)</script>",
    "'; DROP TABLE events; --",
    "NULL",
    "null",
    "NaN",
    "true",
    "007",
    "1e5",
    "2025-12-01T00:00:00Z",
    "",
    " ",
    "é日😀",
    "x" * 40_000,
]


def make_event(number: int, text: str) -> dict[str, object]:
    """An event with a text in every place where somebody may choose it."""
    return {
        "eventType": text,
        "eventId": f"{number}",
        "eventTime": f"2025-12-01T00:00:{number:02}.123456Z",
        "source": text,
        "data": {
            "eventName": text,
            "compartmentName": text,
            "resourceName": text,
            "freeformTags": {text: text},
            "identity": {"principalName": text, "userAgent": text, "ipAddress": f"10.0.0.{number}, {text}"},
            "request": {"action": "GET", "path": text, "headers": {"User-Agent": [text]}},
            "response": {"status": "404" if number % 2 else None, "responseTime": "no time", "message": text},
            "additionalDetails": {"n": 1, text: None},
        },
    }


RAWS = [json.dumps(make_event(at, text), ensure_ascii=at % 2 == 0).encode() for at, text in enumerate(HOSTILE)]
RAWS += [b"{}", rb'{"eventId":"half","data":{"eventName":"\ud800 half a pair","freeformTags":{"\udfff":"\\"}}}']
ORIGINS = [Target("us-ashburn-1", "ocid1.compartment.oc1..a") if at % 3 else None for at in range(len(RAWS))]
ROWS = [read_row(Record(raw, origin)) for raw, origin in zip(RAWS, ORIGINS, strict=True)]
NAMES = [column.name for column in COLUMNS]
TEXTS = [column.name for column in COLUMNS if column.kind in {"text", "json"}]


def defuse(value: object) -> object:
    """What a text cell says after a spreadsheet's formulas were defused."""
    return "'" + value if isinstance(value, str) and value[:1] in FORMULA_SIGNS else value


def expect(name: str, *, is_defused: bool) -> list[object]:
    """The values of a column."""
    values = [row[NAMES.index(name)] for row in ROWS]
    return list(map(defuse, values)) if is_defused else values


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory) -> Path:
    """A table of hostile events as CSV."""
    path = tmp_path_factory.mktemp("csv") / "audit.csv"
    path.write_bytes(write_form("csv", RAWS, origins=ORIGINS))
    return path


@pytest.fixture(scope="module")
def parquet_path(tmp_path_factory) -> Path:
    """The same as Parquet."""
    path = tmp_path_factory.mktemp("parquet") / "audit.parquet"
    path.write_bytes(write_form("parquet", RAWS, origins=ORIGINS))
    return path


def test_csv_is_read_by_the_standard_library(csv_path: Path) -> None:
    """Every cell comes back; absent is empty."""
    with csv_path.open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == NAMES
    assert rows == [["" if value is None else str(defuse(value)) for value in row] for row in ROWS]


def test_csv_keeps_absent_apart_from_empty(csv_path: Path) -> None:
    """A text is quoted, even an empty one, and what is absent is not."""
    lines = csv_path.read_bytes()
    assert b'"",' in lines
    assert lines.endswith(b'}"\r\n')
    assert lines.count(b'}"\r\n') == len(RAWS)


def test_csv_is_read_by_pandas(csv_path: Path) -> None:
    """With the types that the documentation names, texts are texts."""
    table = pd.read_csv(csv_path, dtype=dict.fromkeys(TEXTS, "string"), keep_default_na=False, na_values={})
    for name in TEXTS:
        assert table[name].tolist() == [value or "" for value in expect(name, is_defused=True)], name


def test_csv_is_read_by_polars(csv_path: Path) -> None:
    """Texts are texts where the types are said."""
    table = pl.read_csv(csv_path, schema_overrides=dict.fromkeys(NAMES, pl.String))
    for name in TEXTS:
        found = table[name].to_list()
        assert [value or None for value in found] == [value or None for value in expect(name, is_defused=True)], name


def test_csv_is_read_by_duckdb(csv_path: Path) -> None:
    """With every type as text nothing is guessed; times and numbers can be cast."""
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in NAMES)
    dialect = "header = true, auto_detect = false, quote = '\"', escape = '\"'"
    source = f"read_csv('{csv_path}', {dialect}, columns = {{{columns}}})"
    for name in TEXTS:
        found = [value for (value,) in duckdb.sql(f"SELECT {name} FROM {source}").fetchall()]
        assert [value or None for value in found] == [value or None for value in expect(name, is_defused=True)], name
    assert duckdb.sql(f"SELECT count(event_time::TIMESTAMPTZ) FROM {source}").fetchall() == [(len(HOSTILE),)]


def read_with_pyarrow(path: Path) -> dict[str, list[object]]:
    """The columns as PyArrow reads them."""
    return pq.read_table(path).to_pydict()


def read_with_polars(path: Path) -> dict[str, list[object]]:
    """The columns as Polars reads them."""
    return pl.read_parquet(path).to_dict(as_series=False)


def read_with_duckdb(path: Path) -> dict[str, list[object]]:
    """The columns as DuckDB reads them."""
    relation = duckdb.connect().read_parquet(str(path))
    rows = relation.fetchall()
    return {name: [row[at] for row in rows] for at, name in enumerate(relation.columns)}


def read_with_pandas(path: Path) -> dict[str, list[object]]:
    """The columns as pandas reads them."""
    table = pd.read_parquet(path, dtype_backend="pyarrow")
    return {name: [None if value is pd.NA or value is pd.NaT else value for value in table[name]] for name in table}


@pytest.mark.parametrize("read", [read_with_pyarrow, read_with_polars, read_with_duckdb, read_with_pandas])
def test_parquet_has_the_same_values_everywhere(parquet_path: Path, read) -> None:
    """Every text to the character, every time in UTC to the microsecond, the status as a number, absent as null."""
    table = read(parquet_path)
    assert list(table) == [column.name for column in PARQUET_COLUMNS]
    for name in TEXTS:
        assert table[name] == expect(name, is_defused=False), name
    assert table["status"] == expect("status", is_defused=False)
    for name in ("event_time", "response_time"):
        found = [None if value is None else value.astimezone(UTC) for value in table[name]]
        assert found == [
            None if text is None else datetime.fromisoformat(text) for text in expect(name, is_defused=False)
        ]
    for at, column in enumerate(MAP_COLUMNS):
        assert table[column.name] == [read_facts_and_maps(raw)[1][at] for raw in RAWS], column.name


def test_parquet_has_one_schema(parquet_path: Path) -> None:
    """Texts are strings, times are instants in UTC in microseconds, the status is a 32 bit number; nothing else."""
    types = {"text": pa.string(), "json": pa.string(), "integer": pa.int32()}
    types["time"] = pa.timestamp("us", "UTC")
    schema = pq.read_schema(parquet_path)
    assert [(field.name, field.type) for field in schema] == [
        (column.name, types[column.kind]) for column in PARQUET_COLUMNS
    ]
    empty = pq.read_schema(io.BytesIO(write_form("parquet", [])))
    assert empty.equals(schema)


def test_row_groups_of_parquet_are_bounded() -> None:
    """However many events there are, and however long, a row group stays within reason, and all are compressed."""
    short = pq.ParquetFile(io.BytesIO(write_form("parquet", [b"{}"] * 40_000))).metadata
    assert max(short.row_group(at).num_rows for at in range(short.num_row_groups)) < 25_000
    long = [b'{"data":{"additionalDetails":{"a":"%b"}}}' % (b"x" * 12_000)] * 8_000
    groups = pq.ParquetFile(io.BytesIO(write_form("parquet", long))).metadata
    assert groups.num_row_groups > 1
    assert max(groups.row_group(at).num_rows for at in range(groups.num_row_groups)) < 5_000
    assert groups.row_group(0).column(0).compression == "ZSTD"


@pytest.mark.parametrize("name", ["csv", "parquet"])
@pytest.mark.parametrize("shape", ["sdk", "cli"])
def test_a_shape_changes_the_event_alone(name: str, shape: str) -> None:
    """The columns are the same in every shape; `event` is spelled as asked."""
    served = write_form(name, RAWS[:3], origins=ORIGINS[:3])
    shaped = write_form(name, RAWS[:3], origins=ORIGINS[:3], spelling=EventEncoder(shape, with_origin=True))
    tables = [
        pl.read_csv(io.BytesIO(data)) if name == "csv" else pl.read_parquet(io.BytesIO(data))
        for data in (served, shaped)
    ]
    assert tables[0].drop("event").equals(tables[1].drop("event"))
    assert tables[1]["event"].to_list() == [event.decode() for event in EventEncoder(shape).apply(RAWS[:3], ORIGINS[:3])]


def test_a_giant_event_is_not_cut() -> None:
    """An event of many megabytes, with escapes in it, comes through CSV and Parquet whole."""
    raw = json.dumps({"eventId": "i", "data": {"additionalDetails": {"a": '"' * 9_000_000}}}).encode()
    table = pq.read_table(io.BytesIO(write_form("parquet", [b"{}", raw, b"{}"])))
    assert table.column("event").to_pylist() == ["{}", raw.decode(), "{}"]
    csv.field_size_limit(2**30)
    rows = list(csv.DictReader(io.StringIO(write_form("csv", [raw]).decode(), newline="")))
    assert rows[0]["event"] == raw.decode()
