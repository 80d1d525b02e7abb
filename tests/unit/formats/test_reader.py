import csv
import gzip
import io
import json
import os
import random
import subprocess
import tracemalloc
from collections.abc import Callable
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.errors import OciAuditError, UnreadableInput, UsageError
from ociaudit.events.field_naming import Shape, choose_shape
from ociaudit.formats import reader
from ociaudit.formats.base import InvalidFile, Record
from ociaudit.formats.reader import (
    FilePart,
    NotPlainLines,
    open_part,
    open_plain,
    open_records,
    read_plain_events,
    reject_incomplete,
    split_plain,
)
from ociaudit.planning.shard import Target

TARGET = Target("us-ashburn-1", "ocid1.compartment.oc1..a")


def make_event(number: int) -> dict[str, Any]:
    """Return an event in the API's shape."""
    return {
        "eventType": f"com.oraclecloud.x.Y{number}",
        "eventId": f"id-{number}",
        "eventTime": f"2025-12-01T00:00:0{number}.000Z",
        "data": {"eventName": "Y", "identity": {"userAgent": 'é,"\n\r\u2028'}, "freeformTags": {"a_b": "=1"}},
    }


RAWS = [
    json.dumps(make_event(number), separators=(",", ":"), ensure_ascii=number % 2 == 0).encode() for number in range(5)
]


def convert_events(shape: Shape) -> list[Any]:
    """Return the events in the shape of another tool, as JSON values."""
    return [json.loads(choose_shape(shape)(raw)) for raw in RAWS]


def write_table(*, has_header: bool = True) -> str:
    """Return the events as a CSV with some of our columns."""
    text = io.StringIO()
    writer = csv.writer(text)
    if has_header:
        writer.writerow(["event_time", "origin_region", "origin_compartment", "event"])
    for number, raw in enumerate(RAWS):
        writer.writerow(["2025", *(("", "") if number else (TARGET.region, TARGET.compartment)), raw.decode()])
    return text.getvalue()


def make_cloud_event(number: int) -> dict[str, Any]:
    """Return an event as Connector Hub writes it."""
    event = make_event(number)
    return {
        "type": event["eventType"],
        "time": event["eventTime"],
        "id": event["eventId"],
        "specversion": "1.0",
        "data": event["data"],
    }


@pytest.fixture
def write(tmp_path: Path) -> Callable[[bytes | str], Path]:
    """Return a function that writes a file whose name implies no format."""

    def write_file(content: bytes | str, name: str = "file") -> Path:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write_file


def read(path: Path) -> tuple[list[Record], str]:
    """Read a file; return its records and its description."""
    with open_records(path) as source:
        records = [record for batch in source for record in batch]
        assert source.records == len(records) == source.kinds.total()
        assert source.name == str(path)
        return records, source.description


OURS = b"[\n" + b",\n".join(RAWS) + b"\n]\n"
AS_SERVED: dict[str, bytes | str] = {
    "our array": OURS,
    "no line breaks": b"[" + b",".join(RAWS) + b"]",
    "byte order mark": b"\xef\xbb\xbf" + OURS,
    "white space before": b"\n\n  " + OURS,
    "lines": b"\n".join(RAWS) + b"\n",
    "lines of Windows": b"\r\n".join(RAWS),
    "no line break at the end": b"\n".join(RAWS),
    "gzip": gzip.compress(OURS, mtime=0),
    "gzip members": b"".join(gzip.compress(raw + b"\n", mtime=0) for raw in RAWS),
    "zstd": zstandard.compress(b"\n".join(RAWS)),
    "zstd frames": b"".join(zstandard.compress(raw + b"\n") for raw in RAWS),
    "data": b'{"data": \n[' + b",\n".join(RAWS) + b'],\n "opc-next-page": "x"}',
    "next page before data": b'{"opc-next-page":"x","data":[' + b",".join(RAWS) + b"]}",
    "two arrays": b"[" + RAWS[0] + b"," + RAWS[1] + b"]\n[" + b",".join(RAWS[2:]) + b"]",
    "byte order marks between": b"\n".join(b"\xef\xbb\xbf" + raw for raw in RAWS),
    "a page in each line": b"\n".join(b'{"data":[%b]}' % raw for raw in RAWS),
    "a page among lines": RAWS[0] + b'\n{"results":[' + b",".join(RAWS[1:4]) + b"]}\n" + RAWS[4],
    "pages in an array": b"[" + b",".join(b'{"data":{"results":[%b]}}' % raw for raw in RAWS) + b"]",
    "arrays in an array": b"[" + b",".join(b"[%b]" % raw for raw in RAWS) + b"]",
    "two lists": b'{"items":[%b],"results":[%b],"data":[%b]}' % (RAWS[0], RAWS[1], b",".join(RAWS[2:])),
    "one name twice": b'{"data":[],"data":[' + b",".join(RAWS) + b"]}",
    "a hollow page between": RAWS[0] + b'\n{ "data": \n}\n' + b"\n".join(RAWS[1:]),
    "an error between": b"[" + RAWS[0] + b"]\nServiceError:\n[" + b",".join(RAWS[1:]) + b"]",
    "CSV": write_table(),
    "CSV with a byte order mark": "\ufeff" + write_table(),
    "CSV after empty lines": "\r\n\n" + write_table(),
    "CSV gzip": gzip.compress(write_table().encode(), mtime=0),
    "CSV with quoted header": '"event_time","origin_region","origin_compartment","event"\r\n'
    + write_table(has_header=False),
}


@pytest.mark.parametrize("name", AS_SERVED)
def test_events_as_served_are_read_byte_for_byte(name: str, write: Callable[..., Path]) -> None:
    """Events as served have the same bytes from every kind of file, whatever its name."""
    records, description = read(write(AS_SERVED[name]))
    assert [record.raw for record in records] == RAWS
    assert "in the API's shape" in description
    assert records[0].origin == (TARGET if "CSV" in name else None)
    assert all(record.origin is None for record in records[1:])


FOREIGN: dict[str, tuple[Any, str]] = {
    "oci audit event list": (json.dumps({"data": convert_events("cli")}, indent=2, sort_keys=True), "OCI CLI"),
    "oci --stream-output": ('{ "data": \n' + json.dumps(convert_events("cli"), indent=2) + "\n}\n", "OCI CLI"),
    "SDK array": (json.dumps(convert_events("sdk")), "SDK"),
    "SDK lines": ("\n".join(map(json.dumps, convert_events("sdk"))), "SDK"),
    "Connector Hub": (
        gzip.compress("\n".join(json.dumps(make_cloud_event(number)) for number in range(5)).encode(), mtime=0),
        "CloudEvents",
    ),
    "Logging Search": (
        json.dumps(
            {
                "results": [{"data": {"datetime": 1, "logContent": make_cloud_event(number)}} for number in range(5)],
                "summary": {"resultCount": 5},
                "fields": [],
            }
        ),
        "CloudEvents",
    ),
    "oci logging-search": (
        json.dumps(
            {"data": {"fields": [], "results": [{"data": {"logContent": make_cloud_event(n)}} for n in range(5)]}},
            indent=1,
        ),
        "CloudEvents",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_tools_hold_the_same_events(name: str, write: Callable[..., Path]) -> None:
    """Type, id, time and data are read in the API's shape from every tool's files."""
    content, words = FOREIGN[name]
    records, description = read(write(content))
    assert words in description
    assert len(records) == len(RAWS)
    for number, record in enumerate(records):
        event, expected = json.loads(record.raw), make_event(number)
        assert (event["eventType"], event["eventId"]) == (expected["eventType"], expected["eventId"])
        assert event["eventTime"][:19] == expected["eventTime"][:19]
        assert event["data"]["identity"]["userAgent"] == expected["data"]["identity"]["userAgent"]
        assert event["data"]["freeformTags"] == {"a_b": "=1"}
        assert b"\n" not in record.raw


def test_shapes_may_be_mixed(write: Callable[..., Path]) -> None:
    """Each record is detected on its own; unknown objects among events are kept and counted."""
    mixed = [
        RAWS[0],
        json.dumps(convert_events("sdk")[1]).encode(),
        b'{"odd":1}',
        json.dumps(convert_events("cli")[2]).encode(),
    ]
    path = write(b"\n".join(mixed))
    with open_records(path) as source:
        records = [record for batch in source for record in batch]
    assert source.kinds == {"api": 1, "sdk": 1, "cli": 1, "unknown": 1}
    assert [json.loads(record.raw).get("eventId") for record in records] == ["id-0", "id-1", None, "id-2"]


@pytest.mark.parametrize("data", [None, [], {}, {"results": [{}]}, {"fields": 1}])
def test_an_event_with_odd_data_is_an_event(data: object, write: Callable[..., Path]) -> None:
    """An object with a name that only events have is an event, whatever its `data` or `results` is."""
    events = [
        json.dumps({"event_type": "x", "data": data}),
        json.dumps({"data": None, "specversion": "1", "type": "y"}),
    ]
    for content in ("\n".join(events), "\n".join(reversed(events)), events[0]):
        assert len(read(write(content))[0]) == content.count("\n") + 1


def test_parquet_is_read_through_its_event_column(tmp_path: Path) -> None:
    """A Parquet file of another engine is read through its column `event`, under a name full of special characters."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "odd [name]*?'.bin"
    regions = [TARGET.region, *[None] * 4]
    compartments = [TARGET.compartment, *[None] * 4]
    table = pa.table(
        {"event": [raw.decode() for raw in RAWS], "origin_region": regions, "origin_compartment": compartments}
    )
    pq.write_table(table, path)
    records, description = read(path)
    assert [record.raw for record in records] == RAWS
    assert [record.origin for record in records] == [TARGET, *[None] * 4]
    assert description.startswith("Parquet")
    pq.write_table(table.select(["event"]), path)
    assert [record.raw for record in read(path)[0]] == RAWS
    pq.write_table(table.rename_columns(["x", "y", "z"]), path)
    with pytest.raises(UnreadableInput, match="no column 'event', only x, y, z"):
        read(path)


EMPTY: dict[str, bytes] = {
    "our array": b"[\n]\n",
    "data": b'{"data": []}',
    "data null, as the command streams nothing": b'{ "data": \nnull\n}\n',
    "results": b'{"results":[],"summary":{}}',
    "two responses": b'{"data":[]}{"data":[]}',
}


@pytest.mark.parametrize("name", EMPTY)
def test_a_file_without_events_is_read(name: str, write: Callable[..., Path]) -> None:
    """A complete file without events has no records."""
    assert read(write(EMPTY[name]))[0] == []


def test_an_empty_file_of_lines_is_detected_by_its_name(tmp_path: Path) -> None:
    """An empty file is accepted only if its name says that it holds lines."""
    for name in ("a.ndjson", "a.jsonl", "A.NDJSON"):
        (tmp_path / name).touch()
        assert read(tmp_path / name)[0] == []
    (tmp_path / "a.ndjson.gz").write_bytes(gzip.compress(b""))
    assert read(tmp_path / "a.ndjson.gz")[0] == []
    (tmp_path / "a.json").touch()
    with pytest.raises(UnreadableInput, match=r"a\.json is empty"):
        read(tmp_path / "a.json")


INVALID: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "is empty"),
    "white space": (b" \n\t", "is empty"),
    "truncated array": (OURS[:-40], r"truncated.*byte [\d,]+"),
    "array without end": (OURS[:-3], r"the array is truncated, at byte"),
    "truncated lines": (b"\n".join(RAWS)[:-4], r"truncated.*line 5"),
    "truncated after the events": (b'{"data":[' + RAWS[0] + b"]", "truncated after the array.*byte .*line 1"),
    "text after the array": (OURS + b"500 events", r"'5' does not begin a JSON object, at byte [\d,]+ \(line 8\)"),
    "an error printed into the stream": (b'{ "data": \n[' + RAWS[0] + b',\n{"status": 500, boo}\n]}', "damaged.*byte"),
    "two events in one wrapper": (
        b'{"logContent":{"eventId":"1"},"logContent":{"eventId":"2"}}',
        "the member 'logContent' twice",
    ),
    "two data with one event each": (
        b'{"data":{"logContent":{"eventId":"1"}},"data":{"logContent":{"eventId":"2"}}}',
        "the member 'data' twice",
    ),
    "an event with a list of events": (b'{"data":[{"eventId":"1"}],"eventTime":"x"}', "both an event and a list"),
    "an object": (b'{"a":1}', "none of its JSON objects is an audit event \\(1 checked"),
    "an array of objects": (b'[{"a":1},{"b":2}]', "none .* an audit event \\(2 checked"),
    "many objects": (b'{"a":1}\n' * 5000, "none .* an audit event \\([0-9,]+ checked"),
    "a list of names": (b'["eventType"]', "an element of the array is not a JSON object, at byte 1"),
    "a name beside an event": (b'[%b,"x"]' % RAWS[0], "an element of the array is not a JSON object, at byte"),
    "null beside an event": (b"[%b,null]" % RAWS[0], "expected a comma|an element of the array is not a JSON object"),
    "null in a page": (b'{"data":[%b,null]}' % RAWS[0], "an element of a list of events is not a JSON object: null"),
    "an event as text in a page": (
        b'{"data":[%b,"{\\"eventId\\":1}"]}' % RAWS[0],
        "'data' of an object holds events as text",
    ),
    "error text without events": (b'["ServiceError: boo"]', "no event, only an error: ServiceError: boo"),
    "events as text beside a list": (
        b'{"data":[%b],"body":"[{\\"eventId\\":\\"9\\"}]"}' % RAWS[0],
        "'body' of an object holds events as text",
    ),
    "events as text below": (
        b'%b\n{"result":{"_raw":"{\\"eventType\\" : 1}"}}' % RAWS[0],
        "'result' of an object holds events as text",
    ),
    "events as texts in a list": (
        b'{"data":[%b],"results":["{\\"eventId\\":1}"]}' % RAWS[0],
        "'results' of an object holds events as text",
    ),
    "an event with a list of events in another member": (
        b'{"eventId":"1","eventType":"x","others":[{"eventId":"2","eventType":"x","eventTime":"y"}]}',
        "both an event and a list of events in 'others'",
    ),
    "other data after gzip": (
        gzip.compress(b"{}", mtime=0) + RAWS[0],
        r"gzip stream is damaged: what follows it is not gzip, at byte 22",
    ),
    "gzip after zstd": (
        zstandard.compress(b"{}") + gzip.compress(OURS),
        rf"zstd stream is damaged: what follows it is not zstd, at byte {len(zstandard.compress(b'{}'))}",
    ),
    "a skippable frame": (b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstandard.compress(OURS), "skippable frame first"),
    "an encoded surrogate": (b'[{"eventType":"\xed\xa0\x80"}]', r"half of a character .* at byte 15 \(line 1\)"),
    "UTF-16 after UTF-8": (
        RAWS[0] + b"\n" + OURS.decode().encode("utf-16"),
        r"not UTF-8, byte 0xff, at byte .*\(line 2\)",
    ),
    "a control character": (b'{"eventId":"\1"}', r"invalid control character, at byte 12"),
    "a number": (b"17", "neither JSON nor CSV nor Parquet"),
    "text": (b"hello\nworld", "neither JSON nor CSV nor Parquet.*hello"),
    "bytes": (bytes(range(128, 256)), "neither JSON nor CSV nor Parquet"),
    "HTML": (b"<!doctype html><html>", "HTML or XML"),
    "UTF-16": (OURS.decode().encode("utf-16"), "UTF-16"),
    "ZIP": (b"PK\x03\x04....", "ZIP"),
    "compressed twice": (gzip.compress(gzip.compress(OURS, mtime=0)), "compressed twice"),
    "truncated gzip": (gzip.compress(OURS, mtime=0)[:-9], "gzip stream is truncated"),
    "damaged gzip": (
        gzip.compress(OURS, mtime=0)[:60] + b"\0\0\0\0" + gzip.compress(OURS, mtime=0)[64:],
        "gzip stream is damaged",
    ),
    "truncated zstd": (zstandard.compress(OURS)[:-9], "zstd stream is truncated"),
    "another CSV": (b"a,b\r\n1,2\r\n", "CSV without the column 'event'"),
    "truncated CSV": (write_table().encode()[:-20], "CSV is truncated or damaged"),
    "CSV with a cell too few": (b"event_time,event\r\n2025\r\n", "does not have 2 cells"),
    "CSV with a truncated event": (
        b'event_time,event\r\n2025,"{""eventType"":""x"\r\n',
        "the event in row 1 is truncated or not a JSON",
    ),
    "CSV with truncated events": (
        b'event_time,event\r\n2025,"{""eventType"":""x"""\r\n',
        "the event in row 1 is truncated or not a JSON",
    ),
    "CSV with two events in a cell": (b'event_time,event\r\n2025,"{},{}"\r\n', "row 1 holds 2 events"),
    "CSV that is not UTF-8": (
        b"event_time,event\r\n\xe4,{}\r\n",
        r"not UTF-8 but Windows-1252 \(cp1252\), byte 0xe4, at byte 18 \(line 2\)",
    ),
    "CSV with one column twice": (b"event,event\r\n{},{}\r\n", "more than one column 'event'"),
    "CSV whose header is a text": (b'"x,event,y"\r\n1\r\n', "no column 'event'"),
    "truncated Parquet": (b"PAR1" + bytes(100), "Parquet file is truncated or damaged"),
    "compressed Parquet": (gzip.compress(b"PAR1" + bytes(100)), "Parquet can only be read from an uncompressed file"),
    "Latin-1": (b'[{"eventType":"\xe9"}]', "not UTF-8"),
    "very deep": (b'{"eventType":' + b"[" * 100_000, "nested too deeply"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_input_is_rejected_in_words(name: str, write: Callable[..., Path]) -> None:
    """The error says what is wrong, in which file and where, and what to do, with exit code 6."""
    content, words = INVALID[name]
    path = write(content)
    with pytest.raises(UnreadableInput, match=words) as caught:
        read(path)
    assert str(caught.value).startswith(str(path))
    assert caught.value.hint
    assert caught.value.exit_code == 6
    assert "\n" not in str(caught.value)


def test_a_folder_or_a_missing_file_is_rejected(tmp_path: Path) -> None:
    """A folder and a missing file are usage errors."""
    with pytest.raises(UsageError, match="is a folder"):
        read(tmp_path)
    with pytest.raises(UsageError, match="does not exist"):
        read(tmp_path / "no")


@pytest.mark.parametrize("kept", range(0, len(OURS), 7))
def test_an_array_truncated_anywhere_is_rejected(kept: int, write: Callable[..., Path]) -> None:
    """An export that ends at any byte before its end is rejected."""
    with pytest.raises(OciAuditError):
        read(write(OURS[:kept]))


def test_stdin_is_read_as_a_stream(write: Callable[..., Path]) -> None:
    """A pipe delivers the same events; Parquet needs a file, and the error says so."""
    reading, writing = os.pipe()
    os.write(writing, gzip.compress(OURS, mtime=0))
    os.close(writing)
    with open_records(None, stdin=reading) as source:
        assert [record.raw for batch in source for record in batch] == RAWS
        assert source.name == "stdin"
    os.close(reading)
    descriptor = os.open(write(b"PAR1" + bytes(50)), os.O_RDONLY)
    with (
        pytest.raises(UnreadableInput, match="Parquet can only be read from an uncompressed file"),
        open_records(None, stdin=descriptor),
    ):
        pass
    os.close(descriptor)


def test_records_are_yielded_while_the_file_is_read(tmp_path: Path) -> None:
    """The first batch is yielded before the rest of a large file is read."""
    path = tmp_path / "big"
    path.write_bytes(b"[\n" + b",\n".join(RAWS * 20_000) + b"\n]\n")
    with open_records(path) as source:
        batches = iter(source)
        first = next(batches)
        assert 0 < len(first) < 5_000
        assert len(first) + sum(map(len, batches)) == 100_000


def test_large_pages_behind_each_other_are_read_in_pieces(write: Callable[..., Path]) -> None:
    """Every event of pages of more than a megabyte is read, those of a second list and of a later document too."""
    many = b",".join([RAWS[0]] * 10_000)
    page = b'{"fields":["a"],"data":{"results":[%b],"summary":{}},"more":[%b],"n":12}' % (many, many)
    for between in (b"\n", b""):
        records = read(write(page + between + page + between + b"[%b]" % many))[0]
        assert [record.raw for record in records] == [RAWS[0]] * 50_000
    event = b'{"data":[%b],"eventTime":"x"}' % many
    with pytest.raises(UnreadableInput, match="both an event and a list"):
        read(write(RAWS[0] + b"\n" + event))


INCOMPLETE: dict[str, tuple[bytes, str]] = {
    "next page": (b'{"data":[%b],"opc-next-page":"x"}' % RAWS[0], "names a next page"),
    "next page in the headers": (b'{"data":[%b],"headers":{"opc-next-page":"x"}}' % RAWS[0], "names a next page"),
    "next page before the list": (b'{"opc_next_page":"x","results":[%b]}' % RAWS[0], "names a next page"),
    "next page in pairs": (b'{"data":[%b],"headers":[["Opc-Next-Page","x"]]}' % RAWS[0], "names a next page"),
    "next page in a response": (
        b'{"data":[%b],"response":{"headers":{"opc-next-page":"x"}}}' % RAWS[0],
        "names a next page",
    ),
    "next link": (b'{"items":[%b],"links":{"next":"https://example.com"}}' % RAWS[0], "names a next page"),
    "has more": (b'{"items":[%b],"hasMore":true}' % RAWS[0], "says that it is truncated"),
    "truncated": (b'{"data":[%b],"isTruncated":true}' % RAWS[0], "says that it is truncated"),
    "error beside": (b'{"data":[%b],"code":"InternalError","message":"m"}' % RAWS[0], "an error: InternalError m"),
    "error among": (RAWS[0] + b'\n{"code":"TooMany","status":429,"message":"m"}', "an error: TooMany m"),
    "hollow": (RAWS[0] + b'\n{ "data": \n}\n', "without its list"),
    "error text as an element": (b'[%b,"ServiceError: boo",%b]' % tuple(RAWS[:2]), "an error: ServiceError: boo"),
    "error text in a page": (b'{"data":[%b,"ServiceError: boo",%b]}' % tuple(RAWS[:2]), "an error: ServiceError: boo"),
    "error text as a line": (b'%b\n"ServiceError: boo"\n%b' % tuple(RAWS[:2]), "an error: ServiceError: boo"),
    "error text printed into an array": (
        b"[%b,\nServiceError: boo\n%b]" % tuple(RAWS[:2]),
        "an error: ServiceError: boo",
    ),
    "error text before a comma": (b"[%b\nServiceError: boo\n,%b]" % tuple(RAWS[:2]), "an error: ServiceError: boo"),
    "error text at the end of an array": (b"[%b\nServiceError: boo\n]" % RAWS[0], "an error: ServiceError: boo"),
    "error text": (RAWS[0] + b"\nServiceError: boo\n" + RAWS[1], "an error: ServiceError: boo"),
    "a large page": (
        b'{"data":[%b],"isTruncated":true}' % b",".join([RAWS[0]] * 20_000),
        "says that it is truncated",
    ),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_input_that_says_it_is_not_whole_is_read_with_a_notice(name: str, write: Callable[..., Path]) -> None:
    """The events are read, the notice says what is missing, and a strict reader rejects the input."""
    content, words = INCOMPLETE[name]
    path = write(content)
    notices: list[str] = []
    with open_records(path, on_incomplete=notices.append) as source:
        count = sum(map(len, source))
    assert count - source.kinds["unknown"] == content.count(b'"eventId"')
    assert len(notices) == 1
    assert words in notices[0]
    with (
        pytest.raises(UnreadableInput, match="is not whole"),
        open_records(path, on_incomplete=reject_incomplete) as source,
    ):
        list(source)


def test_a_whole_input_has_no_notice(write: Callable[..., Path]) -> None:
    """Empty markers, and what an event's own response says, are not a sign of missing events."""
    event = b'{"eventId":"x","data":{"response":{"headers":{"opc-next-page":["x"]}}},"isTruncated":true}'
    page = b'{"opc-next-page":null,"isTruncated":false,"errors":[],"data":[%b]}' % event
    notices: list[str] = []
    succeeded = (
        b'{"code":200,"message":"OK","response":{"status":404,"message":"x"},"links":{"next":null},"data":[%b]}' % event
    )
    for content in (page, event, succeeded, succeeded.replace(b"200", b'"Success"')):
        with open_records(write(content), on_incomplete=notices.append) as source:
            list(source)
    assert notices == []


WIDE = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be", "cp1252")


@pytest.mark.parametrize("encoding", WIDE)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_the_command_for_another_encoding_works(encoding: str, suffix: str, write: Callable[..., Path]) -> None:
    """An input in another encoding is rejected by name, and the suggested command makes it readable."""
    text = '[\n{"eventId": "1"},\n{"eventId": "\u00fcml"}\n]'
    content = text.encode(encoding)
    path = write(gzip.compress(content) if suffix else content, f"o'dd name{suffix}")
    with pytest.raises(UnreadableInput, match="1252" if encoding == "cp1252" else encoding[:6].upper()) as caught:
        read(path)
    if encoding == "cp1252":
        at = content.index(b"\xfc")
        assert f"at byte {at} (line 3)" in str(caught.value)
    else:
        assert "at byte 0 (line 1)" in str(caught.value)
    subprocess.run(["sh", "-c", caught.value.hint.removeprefix("convert it: ")], check=True)
    assert [json.loads(record.raw)["eventId"] for record in read(Path(f"{path}.utf8"))[0]] == ["1", "\u00fcml"]


@pytest.mark.parametrize("marks", [(1, 1), (3,), (1, 0, 1)])
@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("table", [OURS, write_table().encode(), b"\n".join(RAWS)])
def test_a_byte_order_mark_twice_is_rejected_with_the_command_that_removes_it(
    marks: tuple[int, ...], suffix: str, table: bytes, write: Callable[..., Path]
) -> None:
    """Byte order marks before the first document, empty lines between or not, are rejected with byte and line."""
    content = b"\r\n".join(b"\xef\xbb\xbf" * count for count in marks) + table
    path = write(gzip.compress(content) if suffix else content, f"o'dd name{suffix}")
    second = content.index(b"\xef\xbb\xbf", 3)
    line = 1 + content.count(b"\n", 0, second)
    where = rf"byte order mark twice, at byte {second} \(line {line}\)"
    with pytest.raises(UnreadableInput, match=where) as caught:
        read(path)
    subprocess.run(["sh", "-c", caught.value.hint.removeprefix("convert it: ")], check=True)
    assert [record.raw for record in read(Path(f"{path}.utf8"))[0]] == RAWS


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'<134>1 2025-12-01T00:00:00Z host oci - - - {"eventId":"1"}', "syslog"),
        (b'Dec  1 00:00:00 host oci: {"eventId":"1"}', "syslog"),
        (b"event_time;event\r\n2025;{}\r\n", "CSV with semicolons"),
        (b"event_time\tevent\n2025\t{}\n", "CSV with tabs"),
        (b"event_time,event\r2025,{}\r", "CR alone"),
        (b"\xc3\xaf\xc2\xbb\xc2\xbf{}", "encoded twice"),
        (b"PK\x03\x04", "ZIP"),
        (b"BZh9", "bzip2"),
        (b"\xfd7zXZ\0", "with xz"),
        (b"<html>", "HTML"),
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "compressed twice"),
        (b"name,status\na,200\n", "without the column 'event'"),
    ],
)
def test_foreign_files_are_named_for_what_they_are(content: bytes, words: str, write: Callable[..., Path]) -> None:
    """Syslog lines, and tables with other separators or line ends, are rejected by name; the hint says what helps."""
    with pytest.raises(UnreadableInput, match=words) as caught:
        read(write(content))
    assert "create it again" not in caught.value.hint


def test_syslog_lines_are_rejected_with_the_command_that_removes_their_headers(write: Callable[..., Path]) -> None:
    """What the hint says to type gives a file that can be read."""
    header = b"Dec  1 00:00:00 host oci: "
    path = write(b"\n".join(header + raw for raw in RAWS) + b"\n", "o'dd name")
    with pytest.raises(UnreadableInput, match="syslog") as caught:
        read(path)
    subprocess.run(["sh", "-c", caught.value.hint.removeprefix("convert it: ")], check=True)
    assert [record.raw for record in read(Path(f"{path}.utf8"))[0]] == RAWS


def read_parts(parts: list[FilePart]) -> list[list[bytes]]:
    """Return the events of each part."""
    found = []
    for part in parts:
        with open_part(part) as file:
            found.append([event for batch in read_plain_events(file) for event in batch])
    return found


@pytest.mark.parametrize("layout", ["array", "lines", "lines without the last break"])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("head_start", [0, 5_000])
def test_the_parts_of_a_file_hold_its_events(tmp_path: Path, layout: str, count: int, head_start: int) -> None:
    """A file of plain lines is cut into as many parts as wanted, and each reads like a file; together they are all."""
    separator, start, end = {"array": (b",\n", b"[\n", b"\n]\n"), "lines": (b"\n", b"", b"\n")}.get(
        layout, (b"\n", b"", b"")
    )
    path = tmp_path / "a.json"
    path.write_bytes(start + separator.join(RAWS * 60) + end)
    parts = split_plain(path, count, head_start=head_start)
    assert len(parts) == count
    found = read_parts(parts)
    assert all(found)
    assert [event for events in found for event in events] == RAWS * 60
    assert count == 1 or not head_start or len(found[0]) > len(found[1])


def compress(data: bytes, compression: str) -> bytes:
    """Return the data as one gzip member or zstd frame."""
    return gzip.compress(data) if compression == "gz" else zstandard.compress(data)


@pytest.mark.parametrize("compression", ["gz", "zst"])
@pytest.mark.parametrize("layout", ["array", "lines"])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_the_parts_of_a_compressed_file_hold_its_events(
    tmp_path: Path, compression: str, layout: str, count: int
) -> None:
    """A compressed file is cut as well; each process reads it from the beginning, so that later parts are smaller."""
    draw = random.Random(count)
    events = [b'{"eventId":"%d","data":{"text":"%s"}}' % (n, draw.randbytes(1_000).hex().encode()) for n in range(1500)]
    data = b"[\n" + b",\n".join(events) + b"\n]\n" if layout == "array" else b"\n".join(events) + b"\n"
    path = tmp_path / "a.json"
    path.write_bytes(compress(data, compression))
    parts = split_plain(path, count)
    assert len(parts) == count
    found = read_parts(parts)
    assert [event for some in found for event in some] == events
    assert len(found[0]) > len(found[-1]) > 0
    assert len(split_plain(path, count, smallest=100_000_000)) == 1


@given(
    st.lists(st.sampled_from([b"", b"x", b"x" * 30, b"y" * 400]), max_size=40),
    st.integers(1, 40),
    st.lists(st.integers(0, 60), max_size=5),
    st.booleans(),
    st.sampled_from(["gz", "zst"]),
)
def test_wherever_a_compressed_file_is_cut_its_lines_are_those_of_the_file(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[bytes],
    piece: int,
    cuts: list[int],
    ends_with_break: bool,
    compression: str,
) -> None:
    """Each line belongs to exactly one part, also where no line begins in a part, or a part begins with a line."""
    data = b"\n".join([b"{}", *texts]) + (b"\n" if ends_with_break else b"")
    compressed = compress(data, compression)
    path = tmp_path_factory.mktemp("cut") / "a"
    path.write_bytes(compressed)
    bounds = sorted({min(piece * cut, len(compressed)) for cut in cuts} | {0, len(compressed)})
    parts = [FilePart(bytes(path), first, last, is_compressed=True) for first, last in pairwise(bounds)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "_COMPRESSED_BYTES", piece)
        texts_read = [open_part(part).read() for part in parts]
    assert b"".join(texts_read) == data
    starts = accumulate(map(len, texts_read), initial=0)
    assert all(
        start == 0 or data[start - 1 : start] == b"\n" for start, text in zip(starts, texts_read, strict=False) if text
    )


@pytest.mark.parametrize("compression", ["gz", "zst"])
def test_a_damaged_end_of_a_compressed_file_is_found_by_the_last_part(tmp_path: Path, compression: str) -> None:
    """The first part does not read the end; the last one does, and fails."""
    draw = random.Random(1)
    events = [b'{"eventId":"%d","data":{"text":"%s"}}' % (n, draw.randbytes(1_000).hex().encode()) for n in range(1500)]
    path = tmp_path / "a.json"
    path.write_bytes(compress(b"\n".join(events) + b"\n", compression)[:-3])
    first, last = split_plain(path, 2)
    assert read_parts([first])[0] == events[: len(read_parts([first])[0])]
    with pytest.raises(InvalidFile, match="truncated"):
        read_parts([last])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"[\n]\n",
        RAWS[0],
        b"[\n" + RAWS[0] + b"\n]\n",
        json.dumps([json.loads(raw) for raw in RAWS]).encode(),
        json.dumps([json.loads(raw) for raw in RAWS], indent=1).encode(),
        gzip.compress(b"\n".join(RAWS * 60), mtime=0),
        b"\r\n\r\n".join(RAWS),
        b"{" + b" " * 3_000_000,
    ],
)
def test_what_is_not_plain_lines_is_one_part(tmp_path: Path, data: bytes) -> None:
    """A file that is not cut between two events is one part, which is the file itself, or turns out not to be plain."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    parts = split_plain(path, 4)
    if len(parts) == 1:
        with open_part(parts[0]) as part, open_plain(path) as file:
            assert part.read() == file.read()
        return
    with pytest.raises(NotPlainLines):  # it was cut between lines, and its parts show that these are no events
        read_parts(parts)


_TAIL = '"id":"9","specversion":"1.0","time":"2025-12-01T00:00:00Z","type":"T"}'
LOST = {
    "api": RAWS[1].decode(),
    "data first": '{"data":{"a":"' + "x" * 90 + '"},' + _TAIL,
    "data first, without a version": '{"data":{"a":"' + "x" * 90 + '"},' + _TAIL.replace('"specversion":"1.0",', ""),
    "sdk": '{"event_type":"T","event_id":"9"}',
    "escaped name": '{"event\\u0054ype":"T"}',
    "page": '{"data":[%s,%s]}' % (RAWS[1].decode(), RAWS[2].decode()),  # noqa: UP031 - braces
}
ERROR_TEXTS = ("Killed", "WARNING: a\nKilled", "WARNING: " + "slow " * 40, "Error: ")


@pytest.mark.parametrize("event", LOST)
@pytest.mark.parametrize("error", ERROR_TEXTS)
@pytest.mark.parametrize("layout", ["lines", "array", "text", "text in array"])
def test_an_event_on_a_skipped_line_is_refused(event: str, error: str, layout: str, write: Callable[..., Path]) -> None:
    """What is skipped as the text of an error is searched whole, and an event in it refused with its line."""
    first, last = RAWS[0].decode(), RAWS[3].decode()
    line = error + LOST[event]
    contents = {
        "lines": f"{first}\n{line}\n{last}",
        "array": f"[{first},\n{line}\n,{last}]",
        "text": f"{first}\n{json.dumps(line)}\n{last}",
        "text in array": f"[{first},\n{json.dumps(error + json.dumps(LOST[event]))},{last}]",
    }
    with pytest.raises(UnreadableInput, match=r"text of an error has an event in it, at byte [\d,]+ \(line [23]\)"):
        read(write(contents[layout].encode()))


@pytest.mark.parametrize(
    "member", ['"items":[%s]', '"items":[[%s]]', '"items":[{"body":%s}]', '"data":["Error: x",%s]']
)
def test_an_event_as_text_in_a_list_is_refused(member: str, write: Callable[..., Path]) -> None:
    """An event as text in a list of any name is refused, not dropped beside a real one."""
    listed = member.replace("[", "[" + RAWS[0].decode() + ",", 1) % json.dumps(RAWS[1].decode())
    with pytest.raises(UnreadableInput, match="holds events as text"):
        read(write(b"{%b}" % listed.encode()))


@pytest.mark.parametrize("inner", ["api", "sdk", "data first", "escaped name"])
@pytest.mark.parametrize(
    "outer",
    [
        '{"eventType":"batch","data":[%s]}',
        '{"eventId":"batch","data":[null, %s]}',
        '{"eventTime":"x","data":{"data":[%s]}}',
        '{"event_id":"x","results":[[%s]]}',
        '{"type":"T","specversion":"1.0","id":"1","time":"x","data":{"results":[%s]}}',
    ],
)
def test_an_event_that_is_a_list_of_events_is_refused(inner: str, outer: str, write: Callable[..., Path]) -> None:
    """An event that holds a list of events is refused in every naming of the inner ones, on the fast path too."""
    with pytest.raises(UnreadableInput, match="both an event and a list of events in"):
        read(write((outer.replace("%s", LOST[inner])).encode()))


@pytest.mark.parametrize("space", ["", " "])
def test_an_event_with_lists_of_objects_is_an_event(space: str, write: Callable[..., Path]) -> None:
    """What an event says of a resource may have lists of objects, with names of events in them too."""
    event = make_event(0)
    event["data"]["stateChange"] = {"current": {"rules": [{"eventType": "x", "eventId": "y", "eventTime": "z"}]}}
    event["data"]["additionalDetails"] = {"list": [{"eventId": "x"}], "text": RAWS[1].decode()}
    raw = json.dumps(event, separators=("," + space, ":" + space)).encode()
    assert [record.raw for record in read(write(raw))[0]] == [raw]


@pytest.mark.parametrize("depth", [90, 450, 500, 900, 990, 5000])
@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]"), ('{"a":[', "]}"), ('{"meta":', "}")])
def test_deep_nesting_is_read_or_refused(depth: int, opening: str, closing: str, write: Callable[..., Path]) -> None:
    """An event below many levels of arrays and pages is read, or refused as nested too deeply."""
    levels = depth // len(opening.replace('"a":', "").replace('"meta":', ""))
    content = opening * levels + "[" + RAWS[0].decode() + "]" + closing * levels
    if depth < 100:
        assert [record.raw for record in read(write(content.encode()))[0]] == RAWS[:1]
        return
    with pytest.raises(UnreadableInput, match="nested too deeply"):
        read(write(content.encode()))


@pytest.mark.parametrize("space", [b" ", b"\n", b"\r\n", b"\t"])
def test_white_space_before_the_events_takes_constant_memory(space: bytes, write: Callable[..., Path]) -> None:
    """Leading white space that expands to many megabytes is dropped while it is read."""
    path = write(gzip.compress(space * (48_000_000 // len(space)) + RAWS[0]), "a.gz")
    tracemalloc.start()
    try:
        assert [record.raw for record in read(path)[0]] == RAWS[:1]
        assert tracemalloc.get_traced_memory()[1] < 16_000_000
    finally:
        tracemalloc.stop()
