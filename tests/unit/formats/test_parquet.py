"""The format `parquet`, as everyone's tools read it; its rows counted; its scratch file."""

import io
import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, nullcontext
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import DiskError
from ociaudit.events.columns import MAP_COLUMNS, is_null, make_row, read_facts_and_maps
from ociaudit.events.fields import read_facts, replace_surrogates
from ociaudit.formats import parquet
from ociaudit.formats.base import EventEncoder, InvalidFile
from ociaudit.formats.parquet import (
    PARQUET_COLUMNS,
    SCRATCH_NAME,
    count_parquet_rows,
    describe_engine_error,
    read_parquet,
)
from ociaudit.formats.registry import make_format
from support.event_files import make_event_file
from support.hostile_events import ORIGINS, RAWS, TEXTS, expect_column


@pytest.fixture(scope="module")
def parquet_path(tmp_path_factory) -> Path:
    """Write hostile events as Parquet."""
    path = tmp_path_factory.mktemp("parquet") / "audit.parquet"
    path.write_bytes(make_event_file("parquet", RAWS, origins=ORIGINS))
    return path


def read_with_pyarrow(path: Path) -> dict[str, list[object]]:
    """Read the columns with PyArrow."""
    return pq.read_table(path).to_pydict()


def read_with_polars(path: Path) -> dict[str, list[object]]:
    """Read the columns with Polars."""
    return pl.read_parquet(path).to_dict(as_series=False)


def read_with_duckdb(path: Path) -> dict[str, list[object]]:
    """Read the columns with DuckDB."""
    relation = duckdb.connect().read_parquet(str(path))
    rows = relation.fetchall()
    return {name: [row[at] for row in rows] for at, name in enumerate(relation.columns)}


def read_with_pandas(path: Path) -> dict[str, list[object]]:
    """Read the columns with pandas."""
    table = pd.read_parquet(path, dtype_backend="pyarrow")
    return {name: [None if value is pd.NA or value is pd.NaT else value for value in table[name]] for name in table}


@pytest.mark.parametrize("read", [read_with_pyarrow, read_with_polars, read_with_duckdb, read_with_pandas])
def test_parquet_has_the_same_values_everywhere(parquet_path: Path, read) -> None:
    """Every reader sees the same texts, times in UTC to the microsecond, the status as a number, and absent as null."""
    table = read(parquet_path)
    assert list(table) == [column.name for column in PARQUET_COLUMNS]
    for name in TEXTS:
        assert table[name] == expect_column(name, is_defused=False), name
    assert table["status"] == expect_column("status", is_defused=False)
    for name in ("event_time", "response_time"):
        found = [None if value is None else value.astimezone(UTC) for value in table[name]]
        assert found == [
            None if text is None else datetime.fromisoformat(text) for text in expect_column(name, is_defused=False)
        ]
    for at, column in enumerate(MAP_COLUMNS):
        served = [read_facts_and_maps(raw)[1][at] for raw in RAWS]
        assert table[column.name] == [None if is_null(text) else bytes(text).decode() for text in served], column.name


@pytest.mark.parametrize("folder", [".", "origin_region=eu-paris-1/origin_compartment=zzz", "event=login", "status=5"])
def test_folders_named_like_columns_give_no_values(parquet_path: Path, tmp_path: Path, folder: str) -> None:
    """A file gives the events and origins that it holds, whatever the folders are called that it is in."""
    path = tmp_path / folder / "q.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(parquet_path.read_bytes())
    rows = [row for batch in read_parquet(path) for row in zip(*batch, strict=True)]
    assert rows == list(zip(RAWS, ORIGINS, strict=True))


def test_parquet_has_one_schema(parquet_path: Path) -> None:
    """Texts are strings, times are UTC microseconds, the status is a 32-bit integer, with and without rows."""
    types = {"text": pa.string(), "json": pa.string(), "integer": pa.int32()}
    types["time"] = pa.timestamp("us", "UTC")
    schema = pq.read_schema(parquet_path)
    assert [(field.name, field.type) for field in schema] == [
        (column.name, types[column.kind]) for column in PARQUET_COLUMNS
    ]
    empty = pq.read_schema(io.BytesIO(make_event_file("parquet", [])))
    assert empty.equals(schema)


def test_row_groups_of_parquet_are_bounded() -> None:
    """Row groups are bounded in rows and in bytes, and compressed, however many and however long the events are."""
    short = pq.ParquetFile(io.BytesIO(make_event_file("parquet", [b"{}"] * 40_000))).metadata
    assert max(short.row_group(at).num_rows for at in range(short.num_row_groups)) < 25_000
    long = [b'{"data":{"additionalDetails":{"a":"%b"}}}' % (b"x" * 12_000)] * 8_000
    groups = pq.ParquetFile(io.BytesIO(make_event_file("parquet", long))).metadata
    assert groups.num_row_groups > 1
    assert max(groups.row_group(at).num_rows for at in range(groups.num_row_groups)) < 5_000
    assert groups.row_group(0).column(0).compression == "ZSTD"


def test_rows_of_parquet_are_counted() -> None:
    """The count is the file's own; a file that is not Parquet is rejected."""
    for data, count in ((make_event_file("parquet", [b"{}"] * 7), 7), (make_event_file("parquet", []), 0)):
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.flush()
            assert count_parquet_rows(file) == count
            file.truncate(len(data) // 2)
            with pytest.raises(InvalidFile, match="Parquet"):
                count_parquet_rows(file)


def test_parquet_keeps_its_rows_private(tmp_path) -> None:
    """Only the owner can read the scratch file, whatever the umask."""
    previous = os.umask(0)
    try:
        writer = make_format("parquet", EventEncoder(), scratch=tmp_path)
        writer.begin()
        assert (tmp_path / SCRATCH_NAME).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(previous)
        writer.close()


@pytest.mark.parametrize("name", ["a[1]*", "it's", "{start} %s ?", "-- x", '"', "b\\[1]\\", "c\\"])
def test_a_scratch_folder_may_have_any_name(tmp_path, name) -> None:
    """The name of a folder is never taken for a glob pattern or for SQL."""
    scratch = tmp_path / name
    scratch.mkdir()
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / SCRATCH_NAME).write_bytes(b"not this one")
    writer = make_format("parquet", EventEncoder(), scratch=scratch)
    writer.begin()
    writer.write([b'{"eventId":"i"}'], [None])
    table = pq.read_table(io.BytesIO(b"".join(writer.finish())))
    assert table.column("event").to_pylist() == ['{"eventId":"i"}']
    writer.close()


def test_a_scratch_file_that_cannot_be_created_is_an_error_of_the_disk(tmp_path) -> None:
    """A scratch file that cannot be created is a `DiskError` that names it."""
    writer = make_format("parquet", EventEncoder(), scratch=tmp_path / "missing")
    with pytest.raises(DiskError, match=SCRATCH_NAME):
        writer.begin()
    writer.close()


def test_a_scratch_file_that_is_gone_is_an_error_of_the_disk(tmp_path) -> None:
    """A scratch file that is gone after DuckDB has written it is a `DiskError` that names it, not an empty output."""
    writer = make_format("parquet", EventEncoder(), scratch=tmp_path)
    writer.begin()
    writer.write([b"{}"], [None])
    (tmp_path / SCRATCH_NAME).unlink()
    (tmp_path / SCRATCH_NAME).mkdir()
    with pytest.raises(DiskError, match=SCRATCH_NAME):
        list(writer.finish())
    writer.close()


def test_a_full_disk_under_the_scratch_file_is_reported(tmp_path) -> None:
    """A disk that fills up while rows are kept is a `DiskError`."""
    (tmp_path / SCRATCH_NAME).symlink_to("/dev/full")
    raws = [b'{"a":"%b"}' % os.urandom(500_000).hex().encode()] * 3

    def write() -> None:
        for _ in range(20):
            writer.write(raws, [None] * 3)
        list(writer.finish())

    writer = make_format("parquet", EventEncoder(), scratch=tmp_path)
    writer.begin()
    with pytest.raises(DiskError, match="No space left"):
        write()
    writer.close()
    assert not parquet._alive


def test_closing_ends_what_is_under_way(tmp_path) -> None:
    """A writer that is closed in the middle, or after something that is no event, leaves no thread and no memory."""
    for number, last in enumerate((b"{}", b"not JSON", b'{"a":"\xff"}')):
        writer = make_format("parquet", EventEncoder(), scratch=tmp_path)
        writer.begin()
        writer.write([b'{"n":%d}' % at for at in range(9_000)], [None] * 9_000)
        with nullcontext() if number == 0 else pytest.raises(ValueError):
            writer.write([last] * 2_000, [None] * 2_000)
        assert writer._thread.is_alive()
        writer.close()
        assert not parquet._alive
        assert not list(tmp_path.iterdir())
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("parquet")]


def test_a_writer_that_is_never_closed_does_not_keep_the_process(tmp_path) -> None:
    """A program that ends without closing its writer ends."""
    program = f"""
from pathlib import Path
from ociaudit.formats.base import EventEncoder
from ociaudit.formats.parquet import Parquet
writer = Parquet(EventEncoder(), Path({str(tmp_path)!r}))
writer.begin()
writer.write([b"{{}}"] * 5_000, [None] * 5_000)
"""
    subprocess.run([sys.executable, "-c", program], timeout=60, check=True)


texts = st.text(max_size=12) | st.none()
served = st.fixed_dictionaries(
    {},
    optional={
        "eventId": texts,
        "eventTime": st.sampled_from(["2026-01-02T03:04:05.678Z", "never"]),
        "data": st.fixed_dictionaries(
            {},
            optional={
                "resourceName": texts,
                "freeformTags": st.dictionaries(st.text(max_size=3), texts, max_size=2) | st.none(),
                "response": st.fixed_dictionaries({"status": st.sampled_from(["200", "404", "x"]) | st.none()}),
            },
        ),
    },
)


@given(st.lists(st.lists(served, max_size=70), max_size=4))
def test_any_consumer_reads_the_batches_as_they_were_made(batches: list[list[dict[str, object]]]) -> None:
    """PyArrow, which takes the columns out of a batch, validates each; all that a structure points to is freed."""
    raws = [[json.dumps(event).encode() for event in batch] for batch in batches if batch]
    tables = [parquet._make_table(batch, batch, [None] * len(batch)) for batch in raws]
    pending = [parquet._export_batch(table, len(batch)) for table, batch in zip(tables, raws, strict=True)]
    with closing(parquet._ArrowStream(PARQUET_COLUMNS, lambda: pending.pop(0) if pending else None)) as stream:
        reader = pa.RecordBatchReader.from_stream(stream)
        found = list(reader)
        del reader
    for batch, table in zip(found, raws, strict=True):
        batch.validate(full=True)
        rows = batch.to_pydict()
        assert rows["event"] == [raw.decode() for raw in table]
        assert rows["event_id"] == [replace_surrogates_in(json.loads(raw).get("eventId")) for raw in table]
        maps = [read_facts_and_maps(raw)[1][0] for raw in table]
        assert rows["freeform_tags"] == [None if is_null(text) else bytes(text).decode() for text in maps]
        assert rows["status"] == [make_row(read_facts(raw), None)[6] for raw in table]
    column = found[0].column("event") if found else None
    found = batch = None
    if column is not None:  # it outlives its batch
        assert column.to_pylist() == [raw.decode() for raw in raws[0]]
    column = None
    assert not parquet._alive


def test_a_batch_that_nobody_takes_is_freed() -> None:
    """An array gives its memory back, whether a consumer took it or not."""
    batch = parquet.SegmentBatch(RAWS, ORIGINS)
    taken = pa.record_batch(batch)
    assert taken.column("event").to_pylist() == [raw.decode() for raw in RAWS]
    assert taken.schema.names == [column.name for column in parquet.SEGMENT_COLUMNS]
    del batch, taken
    del_me = parquet.SegmentBatch(RAWS, ORIGINS)
    assert parquet._alive
    del del_me
    assert not parquet._alive


def replace_surrogates_in(value: object) -> object:
    """Return a value as the columns hold it."""
    return replace_surrogates(value) if isinstance(value, str) else None


def test_a_stream_that_stops_is_an_error_for_its_consumer() -> None:
    """What `take` raises ends the stream with an error, not as if it were complete."""

    def stop() -> None:
        raise InterruptedError

    with closing(parquet._ArrowStream(PARQUET_COLUMNS, stop)) as stream, duckdb.connect() as connection:
        with pytest.raises(duckdb.Error, match="the stream was stopped"):
            connection.execute("SELECT count(*) FROM stream")
        with pytest.raises(ValueError, match="has been read"):
            stream.__arrow_c_stream__()
    assert not parquet._alive


def test_an_error_inside_an_error_is_what_is_reported() -> None:
    """Of an error that the engine wraps in JSON, a person reads the message alone."""
    inner = r'{"exception_type":"IO","exception_message":"Could not write file \"x\": No space left","errno":"28"}'
    error = OSError(f"IO Error: Async write failed for range [offset=39902, size=129997]: {inner}")
    assert describe_engine_error(error) == r"Could not write file \"x\": No space left"
