"""The format `csv`, as everyone's tools read it, and its rows counted."""

import csv
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats.base import InvalidFile
from ociaudit.formats.csv import count_csv_rows
from support.event_files import make_event_file
from support.hostile_events import HOSTILE_TEXTS, NAMES, ORIGINS, RAWS, ROWS, TEXTS, defuse, expect_column

csv.field_size_limit(2**30)

texts = st.lists(st.text(alphabet='}"\r\n,a', max_size=6), max_size=5)
sizes = st.integers(1, 50)


@pytest.fixture(scope="module")
def csv_path(tmp_path_factory) -> Path:
    """Write hostile events as CSV."""
    path = tmp_path_factory.mktemp("csv") / "audit.csv"
    path.write_bytes(make_event_file("csv", RAWS, origins=ORIGINS))
    return path


def test_csv_is_read_by_the_standard_library(csv_path: Path) -> None:
    """Every cell is read back; an absent value is an empty cell."""
    with csv_path.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert header == NAMES
    assert rows == [["" if value is None else str(defuse(value)) for value in row] for row in ROWS]


def test_csv_keeps_absent_apart_from_empty(csv_path: Path) -> None:
    """A text is quoted, even an empty one; an absent value is not."""
    lines = csv_path.read_bytes()
    assert b'"",' in lines
    assert lines.endswith(b'}"\r\n')
    assert lines.count(b'}"\r\n') == len(RAWS)


def test_csv_is_read_by_pandas(csv_path: Path) -> None:
    """With the types that the documentation names, pandas reads every text as it was written."""
    table = pd.read_csv(csv_path, dtype=dict.fromkeys(TEXTS, "string"), keep_default_na=False, na_values={})
    for name in TEXTS:
        assert table[name].tolist() == [value or "" for value in expect_column(name, is_defused=True)], name


def test_csv_is_read_by_polars(csv_path: Path) -> None:
    """With every type as text, Polars reads every text as it was written."""
    table = pl.read_csv(csv_path, schema_overrides=dict.fromkeys(NAMES, pl.String))
    for name in TEXTS:
        found = table[name].to_list()
        assert [value or None for value in found] == [
            value or None for value in expect_column(name, is_defused=True)
        ], name


def test_csv_is_read_by_duckdb(csv_path: Path) -> None:
    """With every type as text, DuckDB reads every text as it was written, and can cast the times."""
    columns = ", ".join(f"'{name}': 'VARCHAR'" for name in NAMES)
    dialect = "header = true, auto_detect = false, quote = '\"', escape = '\"'"
    source = f"read_csv('{csv_path}', {dialect}, columns = {{{columns}}})"
    for name in TEXTS:
        found = [value for (value,) in duckdb.sql(f"SELECT {name} FROM {source}").fetchall()]
        assert [value or None for value in found] == [
            value or None for value in expect_column(name, is_defused=True)
        ], name
    assert duckdb.sql(f"SELECT count(event_time::TIMESTAMPTZ) FROM {source}").fetchall() == [(len(HOSTILE_TEXTS),)]


def split(data: bytes, size: int) -> list[bytes]:
    """Split bytes into chunks of one size."""
    return [data[start : start + size] for start in range(0, len(data), size)]


def text_to_json(text: str) -> bytes:
    """Return a text as JSON."""
    return b'"' + b"".join(b"\\u%04x" % ord(character) for character in text) + b'"'


@given(texts, sizes)
def test_rows_of_csv_are_counted(names: list[str], size: int) -> None:
    """A row counts once, whatever its cells hold and however the file is chunked; a truncated file is rejected."""
    raws = [b'{"data":{"eventName":%b}}' % text_to_json(name) for name in names]
    data = make_event_file("csv", raws)
    assert count_csv_rows(split(data, size)) == len(names)
    with pytest.raises(InvalidFile):
        count_csv_rows(split(data[:-1], size))


def test_a_file_in_one_chunk_is_counted(csv_path: Path) -> None:
    """The rows of a file that arrives in one chunk are counted."""
    assert count_csv_rows([make_event_file("csv", [b"{}"])]) == 1
    assert count_csv_rows([csv_path.read_bytes()]) == len(RAWS)


@pytest.mark.parametrize("data", [b"", b"event_time\r\n", b"[\n]\n"])
def test_another_csv_is_rejected(data: bytes) -> None:
    """A file that does not begin with the header of an export is rejected."""
    with pytest.raises(InvalidFile, match="header"):
        count_csv_rows([data] if data else [])
