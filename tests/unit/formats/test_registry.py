"""The choice of an output format, and the contract that every format keeps."""

from __future__ import annotations

import csv
import io
import json
import threading
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.events.event import parse_page
from ociaudit.formats.base import EventEncoder
from ociaudit.formats.compression import COMPRESSION_NAMES
from ociaudit.formats.registry import FORMAT_NAMES, choose_output_format, make_format
from ociaudit.planning.shard import Target
from support.event_files import make_event_file
from support.hostile_events import ORIGINS, RAWS
from support.json_bodies import OBJECTS


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.json", ("json", "none")),
        ("a.ndjson", ("ndjson", "none")),
        ("a.jsonl", ("ndjson", "none")),
        ("a.csv", ("csv", "none")),
        ("a.parquet", ("parquet", "none")),
        ("a.json.gz", ("json", "gz")),
        ("a.ndjson.zst", ("ndjson", "zst")),
        ("A.CSV.GZ", ("csv", "gz")),
        ("a.gz", ("json", "gz")),
        ("a.2025-12-01.json", ("json", "none")),
        ("a", ("json", "none")),
        (".json", ("json", "none")),
        ("gz", ("json", "none")),
        (".gz", ("json", "none")),
        (None, ("json", "none")),
    ],
)
def test_a_name_implies_format_and_compression(name, expected) -> None:
    """The last suffixes count, in any case; without one, and for stdout, the format is JSON."""
    chosen = choose_output_format(Path(name) if name is not None else None)
    assert ((chosen.format, chosen.compression), chosen.notices) == (expected, ())


@pytest.mark.parametrize(
    "name", ["a.txt", "a.xlsx", "a.json.bz2", "a.tsv", "a.12.01", "a.txt.gz", "a.json.gz.zst", "a.gz.gz"]
)
def test_an_unknown_suffix_is_rejected(name: str) -> None:
    """The error names the suffix and the known ones; with an explicit format any name is accepted."""
    with pytest.raises(UsageError, match=r"suffix \.") as caught:
        choose_output_format(Path(name))
    assert ".parquet" in caught.value.hint
    assert choose_output_format(Path(name), file_format="csv", compression="none").format == "csv"


@pytest.mark.parametrize("file_format", FORMAT_NAMES)
@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
@pytest.mark.parametrize("name", ["a.json", "a.csv.gz", "a.txt", "a", None])
def test_options_win_over_the_suffix(file_format, compression, name) -> None:
    """An explicit format or compression wins, with a notice for each suffix that contradicts it; Parquet is rejected
    where nobody could read it.
    """
    path = Path(name) if name else None
    if file_format == "parquet" and (compression != "none" or path is None):
        with pytest.raises(UsageError):
            choose_output_format(path, file_format=file_format, compression=compression)
        return
    chosen = choose_output_format(path, file_format=file_format, compression=compression)
    assert (chosen.format, chosen.compression) == (file_format, compression)
    differs = {"a.json": [file_format != "json"], "a.csv.gz": [file_format != "csv", compression != "gz"]}
    assert len(chosen.notices) == sum(differs.get(name, []))
    assert all(name in notice and "--" in notice for notice in chosen.notices)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet.zst"])
def test_parquet_is_not_compressed_twice(name: str) -> None:
    """Parquet inside gzip or zstd is rejected, because no reader opens it."""
    with pytest.raises(UsageError, match="compressed inside"):
        choose_output_format(Path(name))


def test_parquet_needs_a_file() -> None:
    """Parquet cannot be written to stdout."""
    with pytest.raises(UsageError, match="stdout"):
        choose_output_format(None, file_format="parquet")


@pytest.mark.parametrize("given", [{"file_format": "xml"}, {"compression": "zip"}])
def test_an_unknown_name_is_rejected(given) -> None:
    """An unknown format or compression is an error whose hint lists the known ones."""
    with pytest.raises(UsageError, match="there is no") as caught:
        choose_output_format(Path("a.json"), **given)
    assert "choose one of" in caught.value.hint


csv.field_size_limit(2**30)
every_format = pytest.mark.parametrize("name", FORMAT_NAMES)
origins = st.none() | st.builds(Target, st.text(max_size=5), st.text(max_size=5))


def read_json(text: str | bytes) -> object:
    """Parse JSON and keep its numbers as they are written, whatever their length."""
    return json.loads(text, parse_int=str, parse_float=str)


def read_events(name: str, data: bytes) -> list[str]:
    """Read the events of a file as JSON text, with other libraries than ours."""
    match name:
        case "json":
            return [json.dumps(event) for event in read_json(data)]
        case "ndjson":
            return data.decode().split("\n")[:-1]
        case "csv":
            return [row["event"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
        case _:
            return pq.read_table(io.BytesIO(data)).column("event").to_pylist()


def parse(objects: list[str]) -> list[bytes]:
    """Return events as a page gives them."""
    return [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]


@every_format
@settings(max_examples=25)
@given(objects=st.lists(OBJECTS, max_size=6), splits=st.lists(st.integers(0, 6), max_size=4), origin=origins)
def test_a_file_holds_its_events_however_they_are_batched(name, objects, splits, origin) -> None:
    """A file holds any number of events in their order, and its bytes do not depend on the batches."""
    raws = parse(objects)
    targets = [origin, None] * len(raws)
    whole = make_event_file(name, raws, origins=targets[: len(raws)])
    assert make_event_file(name, raws, origins=targets[: len(raws)], splits=splits) == whole
    found = read_events(name, whole)
    assert list(map(read_json, found)) == list(map(read_json, raws))
    if name != "json":  # whose reader returns no text
        assert [text.encode() for text in found] == raws


@every_format
def test_close_releases_everything(name, tmp_path) -> None:
    """After `close` the scratch folder is empty and no thread runs, at whatever step writing stopped."""
    before = threading.active_count()
    for steps in range(5):
        writer = make_format(name, EventEncoder(), scratch=tmp_path)
        rest = None
        if steps > 0:
            writer.begin()
        if steps > 1:
            writer.write([b"{}"] * 10, [None] * 10)
        if steps > 2:
            rest = writer.finish()
            next(rest)
        if steps > 3:
            assert b"".join(rest) is not None
        if rest is not None:
            rest.close()
        writer.close()
        assert list(tmp_path.iterdir()) == []
        assert threading.active_count() == before


@pytest.mark.parametrize("name", ["csv", "parquet"])
@pytest.mark.parametrize("shape", ["sdk", "cli"])
def test_a_shape_changes_the_event_alone(name: str, shape: str) -> None:
    """The columns are the same in every shape; only `event` follows it."""
    served = make_event_file(name, RAWS[:3], origins=ORIGINS[:3])
    shaped = make_event_file(name, RAWS[:3], origins=ORIGINS[:3], encoder=EventEncoder(shape, with_origin=True))
    tables = [
        pl.read_csv(io.BytesIO(data)) if name == "csv" else pl.read_parquet(io.BytesIO(data))
        for data in (served, shaped)
    ]
    assert tables[0].drop("event").equals(tables[1].drop("event"))
    encoded = EventEncoder(shape).encode(RAWS[:3], ORIGINS[:3])
    assert tables[1]["event"].to_list() == [event.decode() for event in encoded]


def test_a_giant_event_is_not_truncated() -> None:
    """CSV and Parquet hold an event of many megabytes with escapes completely."""
    raw = json.dumps({"eventId": "i", "data": {"additionalDetails": {"a": '"' * 9_000_000}}}).encode()
    table = pq.read_table(io.BytesIO(make_event_file("parquet", [b"{}", raw, b"{}"])))
    assert table.column("event").to_pylist() == ["{}", raw.decode(), "{}"]
    csv.field_size_limit(2**30)
    rows = list(csv.DictReader(io.StringIO(make_event_file("csv", [raw]).decode(), newline="")))
    assert rows[0]["event"] == raw.decode()
