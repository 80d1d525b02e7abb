import gzip
import json
from pathlib import Path

import pytest

from ociaudit.analysis.stats import EventStats, _count_carefully, _count_quickly, count_files
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.formats.reader import NotPlainLines, read_plain_lines
from support.told_events import tell, tell_change, tell_sign_in, write_lines

EVENTS = [
    tell("ListUsers", hours=1),
    tell_sign_in("failure", hours=2),
    tell_change("UploadApiKey", "Jörg", hours=3),
    tell("GetBucket", hours=4, where="10.0.0.1,10.0.0.2"),
    b'{"eventType":"x","eventTime":"2025-12-02T00:00:00Z","data":{"eventName":"\\ud800"}}',
]


def write(path: Path, data: bytes) -> Path:
    """Write a file."""
    path.write_bytes(data)
    return path


def count_both(path: Path) -> tuple[EventStats, EventStats]:
    """Count a file quickly and with care."""
    quick, careful = EventStats(), EventStats()
    assert _count_quickly(quick, path)
    _count_carefully(careful, path)
    return quick, careful


@pytest.mark.parametrize(
    ("layout", "number"),
    [("array", 0), *((layout, number) for layout in ("array", "lines") for number in (1, 2, 63, 64, 65, 66, 600))],
)
def test_both_ways_of_reading_count_the_same(tmp_path: Path, layout, number) -> None:
    """Our own layout and ndjson are read quickly, to the last event, and counted as they are with care."""
    events = (EVENTS * 200)[:number]
    data = write_lines(events) if layout == "array" else b"\n".join([*events, b""])
    quick, careful = count_both(write(tmp_path / "a.json", data))
    assert quick.events == careful.events == number
    assert quick.names.counts == careful.names.counts
    assert quick.sign_ins == careful.sign_ins
    assert [(one.name, one.first, one.last) for one in quick.list_principals()] == [
        (one.name, one.first, one.last) for one in careful.list_principals()
    ]


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([json.loads(one) for one in EVENTS[:4]], indent=2).encode(),
        json.dumps([json.loads(one) for one in EVENTS[:4]]).encode(),
        gzip.compress(write_lines(EVENTS[:4])),
        b"\n\n".join(EVENTS[:4]),
        b"\r\n".join([*EVENTS[:4], b""]),
        write_lines(EVENTS[:4]).replace(b"\n]", b"]"),
        write_lines(EVENTS[:4])[:-1],
    ],
    ids=["pretty", "one line", "gzip", "blank lines", "CRLF", "no last break", "no end of line"],
)
def test_any_other_layout_is_read_with_care(tmp_path: Path, data) -> None:
    """What is not in our layout counts the same; nothing is lost or counted twice on the way."""
    assert count_files([write(tmp_path / "a.json", data)]).events == 4


def test_another_spelling_is_read_with_care(tmp_path: Path) -> None:
    """Events as the SDK spells them, one in a line, are recognised although they are quickly cut."""
    sdk = {"event_type": "com.oraclecloud.x.ListUsers", "event_time": "2025-12-01T00:00:00.000000+00:00"}
    event = json.dumps({**sdk, "event_id": "1", "data": {"event_name": "ListUsers"}}).encode()
    stats = count_files([write(tmp_path / "a.json", write_lines([*EVENTS[:2], event]))])
    assert stats.events == 3
    assert stats.names.counts["ListUsers"] == 2


@pytest.mark.parametrize(
    "data",
    [
        write_lines(EVENTS)[:-40],
        write_lines(EVENTS)[:-2],
        write_lines(EVENTS).replace(b'"eventId"', b'"eventId', 1),
        write_lines(EVENTS) + b"{}\n",
        b"",
        b"[]x",
        b"no JSON at all\n",
        b'{"some":"object"}\n',
        b"[\n1,\n2\n]\n",
        b"\x1f\x8b\x08 cut",
    ],
)
def test_a_file_that_is_damaged_is_named(tmp_path: Path, data) -> None:
    """A file that is cut, empty, damaged or no file of events is an error that names it."""
    path = write(tmp_path / "bad.json", data)
    with pytest.raises(UnreadableInput, match=r"bad\.json"):
        count_files([path])


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file and a folder are a matter of usage."""
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError):
            count_files([path])


def test_files_are_counted_together(tmp_path: Path) -> None:
    """Several files are one census, also where one of them has to be read with care."""
    plain = write(tmp_path / "a.json", write_lines(EVENTS[:2]))
    packed = write(tmp_path / "b.json.gz", gzip.compress(write_lines(EVENTS[2:4])))
    assert count_files([plain, packed, plain]).events == 6


def test_a_line_of_any_length_is_not_held(tmp_path: Path) -> None:
    """A line that does not end is given to the careful reader."""
    path = write(tmp_path / "a.json", b"[\n" + b" " * 3_000_000)
    with path.open("rb") as file, pytest.raises(NotPlainLines):
        list(read_plain_lines(file))
