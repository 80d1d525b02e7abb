"""A block that passes the quick look is one in which the careful look finds nothing."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats.array_reader import BadArray, LineBlock, cut_lines
from ociaudit.formats.line_scan import scan_block

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
    events = cut_lines(block, "api").events
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
        cut_lines(LineBlock(b'{"a":1},\n{"a":}', 100), "api")
    assert caught.value.offset == 109
