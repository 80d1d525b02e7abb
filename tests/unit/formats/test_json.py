"""The formats `json` and `ndjson`: what they write is read back, and what passes the quick scan passes a full parse."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.formats.base import InvalidFile
from ociaudit.formats.compression import decompress
from ociaudit.formats.json import LineBlock, parse_block, read_array, read_ndjson, scan_block
from support.event_files import make_event_file
from support.json_bodies import OBJECTS


@given(st.lists(OBJECTS, max_size=6), st.lists(st.integers(0, 6), max_size=4))
def test_an_array_is_valid_json_however_it_is_batched(objects: list[str], splits: list[int]) -> None:
    """A file of any number of events has one event per line, whatever the batches."""
    events = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    written = make_event_file("json", events, splits=splits)
    assert written == b"[\n" + b",\n".join(events) + (b"\n]\n" if events else b"]\n")
    assert [event.raw for event in parse_page(written)] == events


@pytest.mark.parametrize(
    ("events", "file"), [([], b"[\n]\n"), ([b"{}"], b"[\n{}\n]\n"), ([b"{}"] * 2, b"[\n{},\n{}\n]\n")]
)
def test_the_layout_is_fixed(events: list[bytes], file: bytes) -> None:
    """An array is a bracket, one line per event with a comma after all but the last, and a bracket."""
    assert make_event_file("json", events) == file
    assert json.loads(file) == [{}] * len(events)


def split(data: bytes, splits: list[int]) -> list[bytes]:
    """Split bytes as a file may be read."""
    bounds = [0, *sorted(min(position, len(data)) for position in splits), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read(data: bytes, splits: list[int] | None = None) -> list[tuple[int, bytes]]:
    """Read an array and return (offset, event)."""
    return [
        (offset, event.raw)
        for batch in read_array(decompress(split(data, splits or []), is_single=True)[1])
        for event, offset in zip(batch.events, batch.offsets, strict=True)
    ]


positions = st.lists(st.integers(0, 400), max_size=4)


@given(st.lists(OBJECTS, max_size=4), positions)
def test_an_own_array_is_read_back(objects: list[str], splits: list[int]) -> None:
    """Every event is read with the byte at which it begins, however the file is chunked."""
    events = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    data = make_event_file("json", events)
    found = read(data, splits)
    assert [raw for _, raw in found] == events
    assert all(data[offset : offset + len(raw)] == raw for offset, raw in found)
    assert read(gzip.compress(data), [split + 2 for split in splits]) == found


@given(st.lists(OBJECTS, max_size=3), st.data())
def test_a_truncated_file_is_never_a_shorter_array(objects: list[str], data: st.DataObject) -> None:
    """No prefix of a file is accepted, compressed or not, and the error names a byte of that prefix."""
    good = make_event_file("json", [parse_page(f"[{each}]".encode())[0].raw for each in objects])
    length = data.draw(st.integers(0, len(good.rstrip()) - 1))
    with pytest.raises(InvalidFile) as caught:
        read(good[:length])
    assert 0 <= caught.value.offset <= length
    packed = gzip.compress(good)
    with pytest.raises(InvalidFile):
        read(packed[: data.draw(st.integers(0, len(packed) - 1))])


@pytest.mark.parametrize("more", [b"x", b"[]", b"\0", b"\xc3", b",", b"{}", b"\n]\n"])
@pytest.mark.parametrize("good", [b"[\n{}\n]\n", b"[\n]\n"])
def test_nothing_may_follow_the_array(good: bytes, more: bytes) -> None:
    """Data after the end of the array, or of its compressed stream, is rejected."""
    for data in (good + more, gzip.compress(good + more), gzip.compress(good) + more, gzip.compress(good) * 2):
        with pytest.raises(InvalidFile):
            read(data)


@pytest.mark.parametrize(
    "data", [b"[{}]", b"[\n{}\n]", b"[\n{},{}\n]\n", b"[\r\n{}\r\n]\r\n", b"[\n]", b"[\n{}\n]\n\n", b""]
)
def test_another_layout_is_not_our_own(data: bytes) -> None:
    """Where the program's own layout is expected, any other is rejected."""
    with pytest.raises(InvalidFile):
        read(data)


@given(st.binary(max_size=40))
def test_noise_is_rejected_or_json(noise: bytes) -> None:
    """Any bytes are rejected, or read as the standard library reads them."""
    try:
        found = read(noise)
    except InvalidFile:
        return
    assert [json.loads(raw) for _, raw in found] == json.loads(noise)


TIMES = st.sampled_from(
    [
        "2025-06-01T00:00:00.000Z",
        "2025-06-01T00:00:00.001Z",
        "2025-06-01T23:59:59.999Z",
        "2025-06-02T00:00:00.000Z",
        "2025-02-30T00:00:00.000Z",
        "2025-06-31T00:00:00.000Z",
        "2025-13-01T00:00:00.000Z",
        "2025-06-01T23:59:60.500Z",
        "2025-06-01T24:00:00.000Z",
        "2025-06-01T00:00:00.00Z",
        "2025-06-01T00:00:00.000000Z",
        "2025-06-01T00:00:00+00:0",
        "2025-06-01t00:00:00.000Z",
        "2025-06-01T00:00:00.000z",
        "२025-06-01T00:00:00.000Z",
        "",
        None,
        7,
    ]
)
IDS = st.one_of(st.text(alphabet='ab\0! "\\é\uffff\U0001f600', max_size=3), st.none(), st.integers())
GARNISH = st.sampled_from(
    ['"a":1', '"a":[{},{}]', '"a":"\\ud800"', '"a":"é"', '"a":}', '"a":[{},\n{}]', '"a":\r1', ' "a":1']
)


@st.composite
def draw_line(draw: st.DrawFn) -> bytes:
    """Write one event, ordinary or not."""
    fields = {"eventTime": draw(TIMES), "eventId": draw(IDS)}
    text = json.dumps(fields, ensure_ascii=draw(st.booleans()))
    if draw(st.integers(0, 3)) == 0:
        text = text[:-1] + "," + draw(GARNISH) + "}"
    if draw(st.integers(0, 9)) == 0:
        text = draw(st.sampled_from([" {}", "{} ", "{{}}", "[{}]", "{},", "{}{}"])).replace("{}", text, 1)
    return text.encode()


@given(st.lists(draw_line(), min_size=1, max_size=4))
def test_a_block_that_passes_is_valid(lines: list[bytes]) -> None:
    """In a block that passes the scan, parsing finds as many events, strictly ascending, with the same last one."""
    block = LineBlock(b",\n".join(lines), 2)
    scan = scan_block(block)
    if scan is None:
        return
    events = parse_block(block, "api").events
    orders = [event.order for event in events]
    assert all(one < next_one for one, next_one in itertools.pairwise(orders))
    assert (scan.events, scan.first, scan.last.order) == (len(events), orders[0], orders[-1])
    assert scan.last.raw == events[-1].raw


@given(
    st.lists(
        st.tuples(st.datetimes(), st.text(alphabet='ab\0! "\\é\uffff\U0001f600', max_size=3)), min_size=1, unique=True
    )
)
def test_an_ordinary_block_passes(pairs: list[tuple[object, str]]) -> None:
    """Events in order with times in milliseconds pass the scan, whatever their ids; out of order they do not."""
    shown = sorted({(f"{moment:%Y-%m-%dT%H:%M:%S}.123Z".rjust(24, "0"), name) for moment, name in pairs})
    lines = [json.dumps({"eventTime": time, "eventId": name}).encode() for time, name in shown]
    scan = scan_block(LineBlock(b",\n".join(lines), 2))
    assert scan is not None
    assert scan.events == len(lines)
    assert scan.last.raw == lines[-1]
    if len(lines) > 1:
        assert scan_block(LineBlock(b",\n".join(reversed(lines)), 2)) is None
    assert scan_block(LineBlock(b",\n".join([*lines, lines[-1]]), 2)) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"eventTime":"2025-06-01T00:00:00.000Z","eventId":"a","x":[{},\n{}]}',
        b'{"eventTime":"2025-06-01T00:00:00.000Z","eventId":"a"}\n',
        b'{"eventTime":"2025-06-01T00:00:00.000Z","eventId":"a"\xff}',
        b'{"eventTime":"2025-06-01T00:00:00.000Z","eventId":"a","x":"\xff"}',
        b"\n",
        b"{",
        b"{}",
    ],
)
def test_an_odd_block_does_not_pass(data: bytes) -> None:
    """Events over several lines, bytes that are not UTF-8, and lines that are not events do not pass the scan."""
    assert scan_block(LineBlock(data, 2)) is None


def test_an_invalid_line_is_located() -> None:
    """Parsing a block names the byte of the line that is not an event."""
    with pytest.raises(InvalidFile) as caught:
        parse_block(LineBlock(b'{"a":1},\n{"a":}', 100), "api")
    assert caught.value.offset == 109


@given(st.lists(OBJECTS, max_size=5), st.integers(1, 50))
def test_own_lines_are_read_back(objects: list[str], size: int) -> None:
    """Every event is read with the byte at which it begins, however the file is chunked."""
    raws = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    data = make_event_file("ndjson", raws)
    batches = list(read_ndjson(split(data, list(range(size, len(data), size)))))
    assert [event.raw for batch in batches for event in batch.events] == raws
    for batch in batches:
        for event, offset in zip(batch.events, batch.offsets, strict=True):
            assert data[offset:].startswith(event.raw + b"\n")


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (b"{}\n{}", 3),
        (b"{}\n{\n", 3),
        (b"{}\n\n{}\n", 3),
        (b"{}\n[]\n", 3),
        (b"{}\n{},{}\n", 3),
        (b"{},\n{}\n", 0),
        (b"{}\n {}\n", 3),
        (b"[\n{}\n]\n", 0),
        (b"x", 0),
    ],
)
def test_an_invalid_file_of_lines_is_located(data: bytes, offset: int) -> None:
    """The error names the byte at which the invalid line begins."""
    with pytest.raises(InvalidFile) as caught:
        list(read_ndjson([data]))
    assert caught.value.offset == offset
