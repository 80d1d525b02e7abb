from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.events.event import (
    BadPage,
    _parse_slowly,
    encode_instant,
    encode_order,
    extract_event_id,
    join_lines,
    parse_page,
    read_event,
    read_order,
    replace_lone_surrogates,
)
from ociaudit.events.fields import UNREADABLE_INSTANT
from support.json_bodies import OBJECTS, SPACES, VALUES, write_body

instants = st.integers(0, 2**70) | st.integers(0, 3)
ids = st.text(st.characters() | st.characters(categories=["Cs"])) | st.text("\0\x01a\xff\ud800\udfff\ue000", max_size=4)


def list_code_points(text: str) -> list[int]:
    """Return the code points of a text, which define the order."""
    return list(map(ord, text))


@given(instants, ids, instants, ids)
@example(0, "a", 0, "a\0")
@example(0, "a\0", 0, "a\x01")
@example(0, "\udfff", 0, "\ue000")
@example(0, "\uffff", 0, "\U00010000")
def test_encoded_orders_compare_like_the_pairs(instant: int, event_id: str, other: int, other_id: str) -> None:
    """Encoded orders compare like (instant, code points of the id), for any id."""
    left, right = encode_order(instant, event_id), encode_order(other, other_id)
    pair, other_pair = (instant, list_code_points(event_id)), (other, list_code_points(other_id))
    assert (left < right, left == right) == (pair < other_pair, pair == other_pair)


@given(ids, ids, st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16))
def test_no_order_is_a_prefix_of_another(event_id: str, other_id: str, suffix: bytes, other: bytes) -> None:
    """Bytes appended to an order decide only between equal orders."""
    left, right = encode_order(7, event_id), encode_order(7, other_id)
    if left != right:
        assert (left + suffix < right + other) == (left < right)


@given(instants, ids)
def test_an_order_decodes_to_its_instant_and_id(instant: int, event_id: str) -> None:
    """Decoding is the inverse of encoding, and the encoded id is empty exactly if the id is."""
    order = encode_order(instant, event_id)
    assert read_order(order) == (instant, event_id)
    assert bool(extract_event_id(order)) == bool(event_id)


@given(instants, ids, instants)
def test_an_instant_bounds_its_events(instant: int, event_id: str, bound: int) -> None:
    """The bytes of an instant are at most the order of its events, and above that of every earlier event."""
    assert (encode_order(instant, event_id) >= encode_instant(bound)) == (instant >= bound)


@given(st.none() | st.integers() | st.text(max_size=5), st.none() | st.booleans() | st.text(max_size=5))
def test_an_event_without_time_or_id_sorts_first_and_is_kept(time: object, event_id: object) -> None:
    """An event with a missing or unreadable time, or without an id, sorts before all others."""
    event = read_event(json.dumps({"eventTime": time, "eventId": event_id}).encode())
    assert read_order(event.order) == (UNREADABLE_INSTANT, event_id if isinstance(event_id, str) else "")
    assert event.order < read_event(b'{"eventTime":"0001-01-01T00:00:00Z"}').order


def read_value(text: str) -> object:
    """Parse JSON with the standard library, numbers as their text."""
    return json.loads(text, parse_int=str, parse_float=str)


def remove_line_breaks(text: str) -> bytes:
    """Remove the line breaks, independently of the program."""
    return text.replace("\n", "").replace("\r", "").encode()


@given(st.lists(OBJECTS, max_size=4), SPACES)
def test_every_element_becomes_an_event_as_served(objects: list[str], spaces: list[str]) -> None:
    """A page of n objects gives n events in order, each with the bytes as served but without line breaks."""
    events = parse_page(write_body(objects, spaces).encode())
    assert [event.raw for event in events] == [remove_line_breaks(each) for each in objects]


@given(st.lists(OBJECTS, max_size=4), SPACES)
def test_events_have_the_value_that_was_served(objects: list[str], spaces: list[str]) -> None:
    """The standard library parses an event and the served object to the same value."""
    body = write_body(objects, spaces)
    assert [read_value(event.raw.decode()) for event in parse_page(body.encode())] == read_value(body)


@given(st.lists(OBJECTS, max_size=4), SPACES)
def test_the_slow_parser_agrees_with_the_fast_one(objects: list[str], spaces: list[str]) -> None:
    """Both parsers return the same events, key fields included."""
    body = write_body(objects, spaces)
    assert _parse_slowly(body, "api") == parse_page(body.encode())


@given(OBJECTS)
def test_an_event_is_read_from_its_line_as_from_its_page(served: str) -> None:
    """An event read from its line equals the one read from its page, so a resumed run orders it the same."""
    (event,) = parse_page(f"[{served}]".encode())
    assert read_event(event.raw) == event


@given(st.lists(OBJECTS, min_size=1, max_size=2), SPACES, st.data())
def test_a_truncated_body_is_never_a_shorter_page(objects: list[str], spaces: list[str], data: st.DataObject) -> None:
    """No prefix of a valid body is a page."""
    body = write_body(objects, spaces).rstrip().encode()
    length = data.draw(st.integers(0, len(body) - 1))
    with pytest.raises(BadPage):
        parse_page(body[:length])


def test_every_prefix_of_a_page_is_bad() -> None:
    """Every prefix of a page with nested values, escapes and a surrogate is rejected."""
    body = b'[{"eventId":"\\ud800","a":[{"b":1.5e3},null]},\n {"data":{"eventName":"\xc3\xa9"}}]'
    assert len(parse_page(body)) == 2
    for length in range(len(body)):
        with pytest.raises(BadPage):
            parse_page(body[:length])


@given(VALUES, SPACES)
def test_only_an_array_is_a_page(value: str, spaces: list[str]) -> None:
    """A body is valid exactly if it is an array of objects."""
    body = "".join(spaces) + value
    read = read_value(body)
    if isinstance(read, list) and all(isinstance(each, dict) for each in read):
        assert len(parse_page(body.encode())) == len(read)
    else:
        with pytest.raises(BadPage):
            parse_page(body.encode())


@given(VALUES, SPACES)
def test_an_array_with_another_value_is_a_bad_page(value: str, spaces: list[str]) -> None:
    """An array with one element that is not an object is rejected."""
    body = write_body(["{}", value, "{}"], spaces).encode()
    if value.startswith("{"):
        assert len(parse_page(body)) == 3
    else:
        with pytest.raises(BadPage):
            parse_page(body)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b" \n", id="white-space"),
        pytest.param(b"{}", id="object"),
        pytest.param(b"null", id="null"),
        pytest.param(b"\xef\xbb\xbf[]", id="byte-order-mark"),
        pytest.param("[{}]".encode("utf-16"), id="utf-16"),
        pytest.param(b'[{"a":"\xff"}]', id="invalid-utf-8"),
        pytest.param(b'[{"a":"\xed\xa0\x80"}]', id="surrogate-in-utf-8"),
        pytest.param(b'[{"a":"\xc0\xaf"}]', id="overlong-utf-8"),
        pytest.param(b'[{"a":NaN}]', id="nan"),
        pytest.param(b'[{"a":-Infinity}]', id="infinity"),
        pytest.param(b"[{}] []", id="second-array"),
        pytest.param(b"[{}]\0", id="zero-after"),
        pytest.param(b"[{}]]", id="bracket-after"),
        pytest.param(b"[{},]", id="trailing-comma"),
        pytest.param(b"[,{}]", id="leading-comma"),
        pytest.param(b"[{}{}]", id="no-comma"),
        pytest.param(b"[{}\x0c]", id="form-feed"),
        pytest.param(b"[{}\xc2\xa0]", id="no-break-space"),
        pytest.param(b'[{"a":"x\ny"}]', id="line-break-in-string"),
        pytest.param(b'[{"a\n":1}]', id="line-break-in-name"),
        pytest.param(b'[{"a":"\x00"}]', id="control-character"),
        pytest.param(b'[{"a":"\\x41"}]', id="unknown-escape"),
        pytest.param(b'[{"a":"\\u00g0"}]', id="bad-hex"),
        pytest.param(b'[{"a":01}]', id="leading-zero"),
        pytest.param(b'[{"a":1.}]', id="no-fraction"),
        pytest.param(b'[{"a":+1}]', id="plus"),
        pytest.param(b"[{a:1}]", id="bare-name"),
        pytest.param(b"[{'a':1}]", id="single-quotes"),
        pytest.param(b"[{}/* comment */]", id="comment"),
        pytest.param(b"<html><body>502 Bad Gateway</body></html>", id="html"),
        pytest.param(b"[" * 100_000, id="never-closed"),
        pytest.param(b'[{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", id="deep-array"),
        pytest.param(b'[{"a":' * 50_000 + b"{}" + b"}]" * 50_000, id="deep-object"),
        pytest.param(b'[{"eventId":"\\ud800","a":' + b"[" * 100_000 + b"]" * 100_000 + b"}]", id="deep-slow"),
    ],
)
def test_a_bad_body_is_a_bad_page(body: bytes) -> None:
    """A body that is not a JSON array of objects in UTF-8 is rejected with a message, by both parsers."""
    with pytest.raises(BadPage, match=r"\w{3}"):
        parse_page(body)


@given(st.binary(max_size=60))
def test_random_bytes_are_a_page_only_if_they_are_json(noise: bytes) -> None:
    """Random bytes are rejected, or the standard library parses them to the same values."""
    try:
        events = parse_page(noise)
    except BadPage:
        return
    assert [json.loads(event.raw) for event in events] == json.loads(noise)


@given(st.lists(OBJECTS, min_size=1, max_size=2), st.data())
def test_a_changed_byte_is_a_bad_page_or_still_json(objects: list[str], data: st.DataObject) -> None:
    """A body with one byte changed is rejected, or every event of it is still valid JSON on one line."""
    body = bytearray(write_body(objects, []).encode())
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        events = parse_page(bytes(body))
    except BadPage:
        return
    for event in events:
        assert isinstance(read_value(event.raw.decode()), dict)
        assert b"\n" not in event.raw
        assert b"\r" not in event.raw


@pytest.mark.parametrize(
    ("served", "name"),
    [
        (b'{"data":{"eventName":"a","eventName":"b"}}', "b"),
        (b'{"data":{"eventName":"a"},"data":{}}', None),
        (b'{"data":{"eventName":"\\ud83d\\ude00"}}', "\U0001f600"),
        (b'{"data":{"event\\u004eame":"x"}}', "x"),
        (b'{"data":{"eventName":5}}', None),
        (b'{"data":[{"eventName":"x"}]}', None),
        (b'{"data":null}', None),
    ],
)
def test_key_fields_are_read_as_any_json_reader_does(served: bytes, name: str | None) -> None:
    """The last value of a repeated key counts, and a value of another type counts as absent."""
    assert read_event(served).event_name == name


def test_a_line_with_two_events_is_rejected() -> None:
    """A line with two events is not read as one."""
    with pytest.raises(BadPage, match="2 events"):
        read_event(b"{},{}")


def test_only_line_breaks_are_removed() -> None:
    """White space between tokens other than line breaks stays as served."""
    assert join_lines(b'{\r\n\t"a" : 1\n}') == b'{\t"a" : 1}'


@given(st.lists(st.sampled_from([r"\ud800", r"\uDBFF", r"\udc00", r"\uDFFF", r"\\", "ud800", r"\n", "a", r"\u0041"])))
def test_lone_surrogates_are_replaced_and_nothing_else(parts: list[str]) -> None:
    """Every surrogate without its other half becomes U+FFFD; pairs, and backslashes that are text, are unchanged."""
    raw = f'{{"x":"{"".join(parts)}"}}'.encode()
    valid, number = replace_lone_surrogates(raw)
    text, old = json.loads(valid)["x"], json.loads(raw)["x"]
    lone = sum(0xD800 <= ord(char) <= 0xDFFF for char in old)
    assert text == "".join("\N{REPLACEMENT CHARACTER}" if 0xD800 <= ord(char) <= 0xDFFF else char for char in old)
    text.encode()  # fails with a lone surrogate
    assert number == lone == text.count("\N{REPLACEMENT CHARACTER}")
    assert replace_lone_surrogates(valid) == (valid, 0)
