import gzip
import json
from pathlib import Path

import pytest

from ociaudit.analysis.stats import EventStats, _count_plain_lines, _count_records, count_files
from ociaudit.archive.inputs import open_input, open_inputs
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.formats.reader import NotPlainLines, read_plain_lines
from support.sample_events import encode_change, encode_event, encode_export, encode_sign_in

EVENTS = [
    encode_event("ListUsers", hours=1),
    encode_sign_in("failure", hours=2),
    encode_change("UploadApiKey", "Jörg", hours=3),
    encode_event("GetBucket", hours=4, where="10.0.0.1,10.0.0.2"),
    b'{"eventType":"x","eventTime":"2025-12-02T00:00:00Z","data":{"eventName":"\\ud800"}}',
]


def write(path: Path, data: bytes) -> Path:
    """Write a file."""
    path.write_bytes(data)
    return path


def count_both_ways(path: Path) -> tuple[EventStats, EventStats]:
    """Count a file line by line and with the reader of any format."""
    fast, slow = EventStats(), EventStats()
    assert _count_plain_lines(fast, path)
    _count_records(slow, open_input(path))
    return fast, slow


@pytest.mark.parametrize(
    ("layout", "number"),
    [("array", 0), *((layout, number) for layout in ("array", "lines") for number in (1, 2, 63, 64, 65, 66, 600))],
)
def test_both_readers_count_the_same(tmp_path: Path, layout, number) -> None:
    """Our own layout and NDJSON are counted line by line to the last event, with the result of the full reader."""
    events = (EVENTS * 200)[:number]
    data = encode_export(events) if layout == "array" else b"\n".join([*events, b""])
    fast, slow = count_both_ways(write(tmp_path / "a.json", data))
    assert fast.events == slow.events == number
    assert fast.names.counts == slow.names.counts
    assert fast.sign_ins == slow.sign_ins
    assert [(one.name, one.first, one.last) for one in fast.list_actors()[0]] == [
        (one.name, one.first, one.last) for one in slow.list_actors()[0]
    ]


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([json.loads(one) for one in EVENTS[:4]], indent=2).encode(),
        json.dumps([json.loads(one) for one in EVENTS[:4]]).encode(),
        gzip.compress(encode_export(EVENTS[:4])),
        b"\n\n".join(EVENTS[:4]),
        b"\r\n".join([*EVENTS[:4], b""]),
        encode_export(EVENTS[:4]).replace(b"\n]", b"]"),
        encode_export(EVENTS[:4])[:-1],
    ],
    ids=["pretty", "one line", "gzip", "blank lines", "CRLF", "no last break", "no end of line"],
)
def test_any_other_layout_is_counted(tmp_path: Path, data) -> None:
    """A file in another layout gives the same counts; switching readers neither loses nor repeats an event."""
    assert count_files([open_input(write(tmp_path / "a.json", data))], EventStats).events == 4


def test_another_shape_is_counted(tmp_path: Path) -> None:
    """Events in shape `sdk`, one in each line, are recognized."""
    sdk = {"event_type": "com.oraclecloud.x.ListUsers", "event_time": "2025-12-01T00:00:00.000000+00:00"}
    event = json.dumps({**sdk, "event_id": "1", "data": {"event_name": "ListUsers"}}).encode()
    stats = count_files([open_input(write(tmp_path / "a.json", encode_export([*EVENTS[:2], event])))], EventStats)
    assert stats.events == 3
    assert stats.names.counts["ListUsers"] == 2


@pytest.mark.parametrize(
    "data",
    [
        encode_export(EVENTS)[:-40],
        encode_export(EVENTS)[:-2],
        encode_export(EVENTS).replace(b'"eventId"', b'"eventId', 1),
        encode_export(EVENTS) + b"{\n",
        b"",
        b"[]x",
        b"no JSON at all\n",
        b'{"some":"object"}\n',
        b"[\n1,\n2\n]\n",
        b"\x1f\x8b\x08 cut",
        encode_export(EVENTS).replace(b'"data":', b'"x":NaN,"data":', 1),
        encode_export(EVENTS).replace(b'"data":', b'"x":-Infinity,"data":', 1),
        encode_export([*EVENTS, b'{"eventType":"a","eventTime":"2025-12-01T00:00:00Z","data":[%b]}' % EVENTS[0]]),
        encode_export([*EVENTS, b'{"eventType":"a","eventTime":"2025-12-01T00:00:00Z","results":[%b]}' % EVENTS[0]]),
        encode_export([*EVENTS, b'{"eventId":"a","eventTime":"2025-12-01T00:00:00Z","results":[%b]}' % EVENTS[0]]),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, data) -> None:
    """A file that is truncated, empty, damaged or does not hold events is an error that names it."""
    path = write(tmp_path / "bad.json", data)
    with pytest.raises(UnreadableInput, match=r"bad\.json"):
        count_files([open_input(path)], EventStats)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    """A missing file or a folder is a usage error."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError):
            count_files([open_input(path)], EventStats)


def test_files_are_counted_together(tmp_path: Path) -> None:
    """Several files give one set of statistics, also where one of them needs the full reader."""
    plain = write(tmp_path / "a.json", encode_export(EVENTS[:2]))
    packed = write(tmp_path / "b.json.gz", gzip.compress(encode_export(EVENTS[2:4])))
    again = write(tmp_path / "c.json", encode_export(EVENTS[:2]))
    assert count_files(open_inputs([plain, packed, again]), EventStats).events == 6


@pytest.mark.parametrize("kind", ["one line", "another shape", "a mixture"])
def test_no_file_is_read_again_for_each_other_one(tmp_path: Path, kind: str) -> None:
    """However many files are not what they seem to be, each is read three times at most, and a notice given once."""
    data = {
        "one line": json.dumps([json.loads(EVENTS[0])]).encode(),
        "another shape": b'{"event-id":"1","event-type":"x","event-time":"2025-12-01T00:00:00Z","data":{}}\n',
    }
    page = b'{"opc-next-page":"x","data":[%b]}\n' % EVENTS[0]
    kinds = [*data.values(), encode_export(EVENTS[:1]), page] if kind == "a mixture" else [data[kind]]
    paths = [write(tmp_path / f"{at}.json", kinds[at % len(kinds)]) for at in range(40)]
    made: list[EventStats] = []
    reasons: list[str] = []

    def make_counter() -> EventStats:
        made.append(EventStats())
        return made[-1]

    assert count_files(open_inputs(paths), make_counter, on_incomplete=reasons.append).events == 40
    assert len(made) <= 3
    assert len(reasons) == len(set(reasons)) == (10 if kind == "a mixture" else 0)


def test_an_endless_line_is_not_held_in_memory(tmp_path: Path) -> None:
    """A line that does not end makes the fast path give up."""
    path = write(tmp_path / "a.json", b"[\n" + b" " * 3_000_000)
    with path.open("rb") as file, pytest.raises(NotPlainLines):
        list(read_plain_lines(file))
