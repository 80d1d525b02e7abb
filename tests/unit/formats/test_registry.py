"""The contract that every format keeps, and what it says of itself."""

from __future__ import annotations

import csv
import io
import json
import os
import threading
from pathlib import Path

import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.errors import DiskError, UsageError
from ociaudit.events.event import parse_page
from ociaudit.formats.base import EventEncoder
from ociaudit.formats.compression import COMPRESSION_NAMES
from ociaudit.formats.parquet import ROWS_NAME
from ociaudit.formats.registry import FORMAT_NAMES, choose_output_format, make_format
from ociaudit.planning.shard import Target
from support.forms import write_form
from support.json_bodies import OBJECTS


@pytest.mark.parametrize(
    ("name", "form"),
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
def test_a_name_says_the_form(name, form) -> None:
    """The last suffixes count, whatever their case; without one, and for stdout, it is JSON."""
    chosen = choose_output_format(Path(name) if name is not None else None)
    assert ((chosen.format, chosen.compression), chosen.notices) == (form, ())


@pytest.mark.parametrize(
    "name", ["a.txt", "a.xlsx", "a.json.bz2", "a.tsv", "a.12.01", "a.txt.gz", "a.json.gz.zst", "a.gz.gz"]
)
def test_an_unknown_suffix_is_refused(name: str) -> None:
    """It is named, with what there is; in words any name will do."""
    with pytest.raises(UsageError, match=r"suffix \.") as caught:
        choose_output_format(Path(name))
    assert ".parquet" in caught.value.hint
    assert choose_output_format(Path(name), file_format="csv", compression="none").format == "csv"


@pytest.mark.parametrize("file_format", FORMAT_NAMES)
@pytest.mark.parametrize("compression", COMPRESSION_NAMES)
@pytest.mark.parametrize("name", ["a.json", "a.csv.gz", "a.txt", "a", None])
def test_words_win_over_the_suffix(file_format, compression, name) -> None:
    """What is said in words holds, with a notice for every suffix that says something else; Parquet is refused where
    nobody could read it.
    """
    path = Path(name) if name else None
    if file_format == "parquet" and (compression != "none" or path is None):
        with pytest.raises(UsageError):
            choose_output_format(path, file_format=file_format, compression=compression)
        return
    form = choose_output_format(path, file_format=file_format, compression=compression)
    assert (form.format, form.compression) == (file_format, compression)
    differs = {"a.json": [file_format != "json"], "a.csv.gz": [file_format != "csv", compression != "gz"]}
    assert len(form.notices) == sum(differs.get(name, []))
    assert all(name in notice and "--" in notice for notice in form.notices)


@pytest.mark.parametrize("name", ["a.parquet.gz", "a.parquet.zst"])
def test_parquet_is_not_compressed_twice(name: str) -> None:
    """No reader would open it."""
    with pytest.raises(UsageError, match="compressed inside"):
        choose_output_format(Path(name))


def test_parquet_is_no_stream() -> None:
    """It goes to a file."""
    with pytest.raises(UsageError, match="stdout"):
        choose_output_format(None, file_format="parquet")


@pytest.mark.parametrize("given", [{"file_format": "xml"}, {"compression": "zip"}])
def test_an_unknown_word_is_refused(given) -> None:
    """The library takes any text; it names what there is."""
    with pytest.raises(UsageError, match="there is no") as caught:
        choose_output_format(Path("a.json"), **given)
    assert "choose one of" in caught.value.hint


csv.field_size_limit(2**30)
every_format = pytest.mark.parametrize("name", FORMAT_NAMES)
origins = st.none() | st.builds(Target, st.text(max_size=5), st.text(max_size=5))


def read_json(text: str | bytes) -> object:
    """JSON with its numbers as they are written, of however many digits."""
    return json.loads(text, parse_int=str, parse_float=str)


def read_events(name: str, data: bytes) -> list[str]:
    """The events of a file as JSON text, read by what is not ours."""
    match name:
        case "json":
            return [json.dumps(event) for event in read_json(data)]
        case "ndjson":
            return data.decode().split("\n")[:-1]
        case "csv":
            return [row["event"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
        case _:
            return pyarrow.parquet.read_table(io.BytesIO(data)).column("event").to_pylist()


def cut(objects: list[str]) -> list[bytes]:
    """Events as a page gives them."""
    return [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]


@every_format
@settings(max_examples=25)
@given(objects=st.lists(OBJECTS, max_size=6), splits=st.lists(st.integers(0, 6), max_size=4), origin=origins)
def test_a_file_holds_its_events_and_does_not_know_of_batches(name, objects, splits, origin) -> None:
    """For any number of events, none included, a file holds them all in their order, whatever batches they came in."""
    raws = cut(objects)
    targets = [origin, None] * len(raws)
    whole = write_form(name, raws, origins=targets[: len(raws)])
    assert write_form(name, raws, origins=targets[: len(raws)], splits=splits) == whole
    found = read_events(name, whole)
    assert list(map(read_json, found)) == list(map(read_json, raws))
    if name != "json":  # whose reader gives no text
        assert [text.encode() for text in found] == raws


@every_format
def test_nothing_is_left_behind(name, tmp_path) -> None:
    """After `close` the scratch folder is empty and no thread runs, at whatever step the writing was broken off."""
    before = threading.active_count()
    for steps in range(5):
        layout = make_format(name, EventEncoder(), scratch=tmp_path)
        rest = None
        if steps > 0:
            layout.begin()
        if steps > 1:
            layout.write([b"{}"] * 10, [None] * 10)
        if steps > 2:
            rest = layout.finish()
            next(rest)
        if steps > 3:
            assert b"".join(rest) is not None
        if rest is not None:
            rest.close()
        layout.close()
        assert list(tmp_path.iterdir()) == []
        assert threading.active_count() == before


def test_parquet_keeps_its_rows_private(tmp_path) -> None:
    """The scratch file is for the owner alone, whatever the umask."""
    previous = os.umask(0)
    try:
        layout = make_format("parquet", EventEncoder(), scratch=tmp_path)
        layout.begin()
        assert (tmp_path / ROWS_NAME).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(previous)
        layout.close()


@pytest.mark.parametrize("name", ["a[1]*", "it's", "{start} %s ?", "-- x", '"', "b\\[1]\\", "c\\"])
def test_a_scratch_folder_may_have_any_name(tmp_path, name) -> None:
    """No name of a folder is taken for a pattern or for SQL."""
    scratch = tmp_path / name
    scratch.mkdir()
    (tmp_path / "a1").mkdir()
    (tmp_path / "a1" / ROWS_NAME).write_bytes(b"not this one")
    layout = make_format("parquet", EventEncoder(), scratch=scratch)
    layout.begin()
    layout.write([b'{"eventId":"i"}'], [None])
    assert read_events("parquet", b"".join(layout.finish())) == ['{"eventId":"i"}']
    layout.close()


def test_a_refused_scratch_file_is_an_error_of_the_disk(tmp_path) -> None:
    """It is named, and is no traceback."""
    layout = make_format("parquet", EventEncoder(), scratch=tmp_path / "missing")
    with pytest.raises(DiskError, match=ROWS_NAME):
        layout.begin()
    layout.close()


def test_a_scratch_file_that_is_gone_is_an_error_of_the_disk(tmp_path) -> None:
    """What DuckDB cannot read is said, and no file that is too short comes out."""
    layout = make_format("parquet", EventEncoder(), scratch=tmp_path)
    layout.begin()
    layout.write([b"{}"], [None])
    (tmp_path / ROWS_NAME).unlink()
    with pytest.raises(DiskError, match=ROWS_NAME):
        list(layout.finish())
    layout.close()


def test_a_full_disk_under_the_scratch_file_is_told(tmp_path) -> None:
    """What the disk refuses while rows are kept is an error of the disk."""
    (tmp_path / ROWS_NAME).symlink_to("/dev/full")
    raws = [b'{"a":"%b"}' % os.urandom(500_000).hex().encode()] * 3

    def write() -> None:
        for _ in range(20):
            layout.write(raws, [None] * 3)
        list(layout.finish())

    layout = make_format("parquet", EventEncoder(), scratch=tmp_path)
    layout.begin()
    with pytest.raises(DiskError, match="No space left"):
        write()
    layout.close()
