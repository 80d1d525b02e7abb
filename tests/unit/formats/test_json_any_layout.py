import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.formats.base import InvalidFile
from ociaudit.formats.json import ObjectStream
from support.json_bodies import OBJECTS, SPACES, WHITE_SPACE, write_body


def split(data: bytes, splits: list[int]) -> list[bytes]:
    """Split bytes as a pipe may deliver them."""
    bounds = [0, *sorted(min(position, len(data)) for position in splits), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read_array(data: bytes, splits: list[int] | None = None) -> list[bytes]:
    """Read the elements of an array that begins with its first byte."""
    stream = ObjectStream(iter(split(data[1:], splits or [])), "array", offset=1)
    return [one for batch in stream for one in batch]


def read_stream(data: bytes, splits: list[int] | None = None) -> list[bytes]:
    """Read objects that follow each other."""
    return [one for batch in ObjectStream(iter(split(data, splits or [])), "stream") for one in batch]


several = st.lists(OBJECTS, max_size=5)
positions = st.lists(st.integers(0, 400), max_size=5)


@given(several, SPACES, positions)
def test_an_array_of_any_layout_is_read_byte_for_byte(objects: list[str], spaces: list[str], splits: list[int]) -> None:
    """Every element is read in order with its bytes, wherever the file is split on the way."""
    body = write_body(objects, spaces).strip().encode()
    assert read_array(body, splits) == [one.encode() for one in objects]


@given(several, st.sampled_from([",\n", ",", ", ", " ,\n\n", ",\r\n"]), positions)
def test_lines_of_an_array_are_its_elements(objects: list[str], between: str, splits: list[int]) -> None:
    """The elements are the same with one per line, or all on one line."""
    assert read_array(f"[{between.join(objects)}]".encode(), splits) == [one.encode() for one in objects]


@given(
    several,
    st.lists(WHITE_SPACE, min_size=6, max_size=6),
    st.sampled_from(["\n", "\r\n", "", "\n\n"]),
    positions,
)
def test_consecutive_objects_are_all_read(
    objects: list[str], spaces: list[str], between: str, splits: list[int]
) -> None:
    """Every object is read byte for byte: in lines, between blank lines, over several lines, or without white space."""
    text = between.join(space + one for space, one in zip(spaces, objects, strict=False)) + spaces[-1]
    assert read_stream(text.encode(), splits) == [one.encode() for one in objects]


@given(st.lists(OBJECTS, min_size=1, max_size=4), st.data(), positions)
def test_a_truncated_array_is_never_a_shorter_array(objects: list[str], data: st.DataObject, splits: list[int]) -> None:
    """An array without its last bytes is rejected, wherever it ends."""
    body = f"[{data.draw(st.sampled_from([',', chr(44) + chr(10)])).join(objects)}]".encode()
    kept = data.draw(st.integers(1, len(body) - 1))
    with pytest.raises(InvalidFile, match="byte"):
        read_array(body[:kept], splits)


@given(st.lists(OBJECTS, min_size=1, max_size=4), st.data(), positions)
def test_truncated_lines_lose_nothing_unnoticed(objects: list[str], data: st.DataObject, splits: list[int]) -> None:
    """Lines that end inside an object are rejected, after every complete object has been read."""
    text = "\n".join(objects).encode()
    kept = data.draw(st.integers(1, len(text) - 1))
    ends = list(itertools.accumulate(len(one.encode()) + 1 for one in objects))
    whole = [one.encode() for one, end in zip(objects, ends, strict=True) if end - 1 <= kept]
    if kept in ends or kept + 1 in ends:
        assert read_stream(text[:kept], splits) == whole
    else:
        with pytest.raises(InvalidFile, match="byte"):
            read_stream(text[:kept], splits)


@given(several, st.data(), positions)
@example(['{"a":1}', '{"b":2}'], None, [])
def test_accepted_input_is_json(objects: list[str], data: st.DataObject | None, splits: list[int]) -> None:
    """A file with a changed byte is rejected, or its elements are those that a JSON parser finds."""
    body = bytearray(f"[{(',' + chr(10)).join(objects)}]".encode())
    if data is not None:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    if body[:1] != b"[":
        return
    try:
        found = read_array(bytes(body), splits)
    except InvalidFile:
        return
    expected = json.loads(body.decode("utf-8"), parse_int=str, parse_float=str)
    assert [json.loads(one, parse_int=str, parse_float=str) for one in found] == expected


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (['{"a":1}', '{"a":oops}', '{"a":2}'], r"byte 13 \(line 2\)"),
        (['{"a":1}', "", '{"a":2},', '{"a":3}'], r"',' does not begin a JSON object, at byte 16 \(line 3\)"),
        (['{"a":1}', "[1]"], r"line 2"),
        (['{"a":1},{"b":2}'], r"line 1"),
        (['{"a":[1', '2]},{"b":1}'], r"line"),
        (['{"a":"\\ud800"}', '{"a":"\\ud800'], r"truncated.*line 2"),
    ],
)
def test_an_error_names_its_byte_and_line(lines: list[str], where: str) -> None:
    """The message about an invalid line names its byte and its number."""
    with pytest.raises(InvalidFile, match=where):
        read_stream("\n".join(lines).encode())


def test_an_error_far_before_the_end_is_found_immediately() -> None:
    """Damage is reported as soon as it is read, before the rest of the file."""
    read = []

    def generate():
        for number in range(100):
            read.append(number)
            yield b'{"a": oops}' + b" " * 1000 + b"\n"

    with pytest.raises(InvalidFile, match="byte 6"):
        list(ObjectStream(generate(), "stream"))
    assert len(read) < 10


def test_bytes_that_are_not_utf8_are_rejected() -> None:
    """Bytes that are not UTF-8 are rejected inside a text and outside, on the fast path and off it."""
    for body in (b'[{"a":"\xff"},\n{"b":1}]', b'[{"a":"\xff"}]', b'[{"a":1},\n\xff{"b":1}]'):
        with pytest.raises(InvalidFile, match="byte"):
            read_array(body)


def test_excessive_depth_is_rejected() -> None:
    """An object nested a hundred thousand levels deep is an error like any other, not a crash."""
    with pytest.raises(InvalidFile, match="nested too deeply"):
        read_stream(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def test_a_large_object_is_read_in_linear_time() -> None:
    """An object in a thousand pieces is not scanned again for each of them."""
    raw = b'{"a":"' + b"x" * 8_000_000 + b'"}'
    assert read_array(b"[" + raw + b"]", list(range(0, len(raw), 8000))) == [raw]
    assert read_stream(raw, list(range(0, len(raw), 8000))) == [raw]


def test_a_lone_surrogate_does_not_end_the_fast_path() -> None:
    """An object that msgspec rejects is read by the scanner, in its place."""
    lines = [b'{"n":1}', b'{"a":"\\ud800"}', b'{"n":2}']
    assert read_stream(b"\n".join(lines) + b"\n", [8, 23]) == lines
