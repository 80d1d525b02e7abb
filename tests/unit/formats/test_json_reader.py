"""A block that passes the quick look is one in which the careful look finds nothing."""

from __future__ import annotations

import gzip
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.formats.json_reader import BadArray, LineBlock, read_array, scan_block, split_lines, unpack_chunks
from support.forms import write_form
from support.json_bodies import OBJECTS, SPACES, write_body


def split(data: bytes, splits: list[int]) -> list[bytes]:
    """Split bytes as a file may come."""
    bounds = [0, *sorted(min(cut, len(data)) for cut in splits), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read(data: bytes, splits: list[int] | None = None, *, is_ours: bool = False) -> list[tuple[int, bytes]]:
    """Read an array and return (offset, event)."""
    return [
        (offset, event.raw)
        for batch in read_array(unpack_chunks(split(data, splits or [])), is_ours=is_ours)
        for event, offset in zip(batch.events, batch.offsets, strict=True)
    ]


def write_lines(events: list[bytes]) -> bytes:
    """Write an array as the program does."""
    return write_form("json", events)


split_targets = st.lists(st.integers(0, 400), max_size=4)


@given(st.lists(OBJECTS, max_size=4), split_targets)
def test_what_the_program_wrote_is_read_back(objects: list[str], splits: list[int]) -> None:
    """Every event, with the byte at which it stands, however the file comes in pieces."""
    events = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    data = write_lines(events)
    found = read(data, splits, is_ours=True)
    assert found == read(data, splits)
    assert [raw for _, raw in found] == events
    assert all(data[offset : offset + len(raw)] == raw for offset, raw in found)
    assert read(gzip.compress(data), [cut + 2 for cut in splits]) == found


@given(st.lists(OBJECTS, max_size=4), SPACES, split_targets)
def test_any_layout_is_read(objects: list[str], spaces: list[str], splits: list[int]) -> None:
    """An array that somebody else laid out gives the same events as a page would, with their bytes' places."""
    data = write_body(objects, spaces).encode()
    found = read(data, splits)
    assert [raw for _, raw in found] == [event.raw for event in parse_page(data)]
    assert [data[offset : offset + 1] for offset, _ in found] == [b"{"] * len(objects)


@given(st.lists(OBJECTS, max_size=3), SPACES, st.booleans(), st.data())
def test_a_cut_file_is_never_a_shorter_array(
    objects: list[str], spaces: list[str], is_ours: bool, data: st.DataObject
) -> None:
    """No prefix passes for the array, compressed or not, and the error names a byte of what there is."""
    good = write_lines([parse_page(f"[{each}]".encode())[0].raw for each in objects])
    if not is_ours:
        good = write_body(objects, spaces).rstrip().encode()
    length = data.draw(st.integers(0, len(good.rstrip()) - 1))
    with pytest.raises(BadArray) as caught:
        read(good[:length], is_ours=is_ours)
    assert 0 <= caught.value.offset <= length
    packed = gzip.compress(good)
    with pytest.raises(BadArray):
        read(packed[: data.draw(st.integers(0, len(packed) - 1))])


@pytest.mark.parametrize("more", [b"x", b"[]", b"\0", b"\xc3", b",", b"{}", b"\n]\n"])
@pytest.mark.parametrize("good", [b"[\n{}\n]\n", b"[{}]", b"[\n]\n", b"[]"])
def test_nothing_may_stand_behind_the_array(good: bytes, more: bytes) -> None:
    """What follows the end, in the file or behind its compressed stream, is noticed."""
    for data in (good + more, gzip.compress(good + more), gzip.compress(good) + more, gzip.compress(good) * 2):
        for is_ours in (False, True):
            with pytest.raises(BadArray):
                read(data, is_ours=is_ours)


@pytest.mark.parametrize(
    "data", [b"[{}]", b"[\n{}\n]", b"[\n{},{}\n]\n", b"[\r\n{}\r\n]\r\n", b"[\n]", b"[\n{}\n]\n\n", b""]
)
def test_another_layout_is_not_that_of_the_program(data: bytes) -> None:
    """Where the program's own layout is expected, to the byte, no other passes for it."""
    with pytest.raises(BadArray):
        read(data, is_ours=True)


@given(st.binary(max_size=40))
def test_noise_is_no_array_or_json(noise: bytes) -> None:
    """Any bytes are refused or read as the standard library reads them."""
    try:
        found = read(noise)
    except BadArray:
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
def test_what_passes_is_sound(lines: list[bytes]) -> None:
    """Where the quick look says yes, the careful one finds as many events, strictly ascending, the same last one."""
    block = LineBlock(b",\n".join(lines), 2)
    scan = scan_block(block)
    if scan is None:
        return
    events = split_lines(block, "api").events
    orders = [event.order for event in events]
    assert all(one < next_one for one, next_one in itertools.pairwise(orders))
    assert (scan.events, scan.first, scan.last.order) == (len(events), orders[0], orders[-1])
    assert scan.last.raw == events[-1].raw


@given(
    st.lists(
        st.tuples(st.datetimes(), st.text(alphabet='ab\0! "\\é\uffff\U0001f600', max_size=3)), min_size=1, unique=True
    )
)
def test_what_is_ordinary_passes(pairs: list[tuple[object, str]]) -> None:
    """Events in order with times in milliseconds need no closer look, whatever their ids are; out of order they do."""
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
def test_what_is_odd_does_not_pass(data: bytes) -> None:
    """Lines within an event, bytes that are no UTF-8, and what is no event need a closer look."""
    assert scan_block(LineBlock(data, 2)) is None


def test_a_block_of_nonsense_is_located() -> None:
    """The careful look names the line that is no event."""
    with pytest.raises(BadArray) as caught:
        split_lines(LineBlock(b'{"a":1},\n{"a":}', 100), "api")
    assert caught.value.offset == 109
