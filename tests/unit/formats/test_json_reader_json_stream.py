import itertools
import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ociaudit.formats.compression import BadFile
from ociaudit.formats.json_reader import ObjectStream
from support.json_bodies import OBJECTS, SPACES, WHITE_SPACE, write_body


def cut(data: bytes, targets: list[int]) -> list[bytes]:
    """Cut bytes as a pipe may give them."""
    bounds = [0, *sorted(min(target, len(data)) for target in targets), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read_array(data: bytes, targets: list[int] | None = None) -> list[bytes]:
    """Read the elements of an array that begins with its first byte."""
    stream = ObjectStream(iter(cut(data[1:], targets or [])), "array", offset=1)
    objects = [one for batch in stream for one in batch]
    assert not stream.tail.strip()
    return objects


def read_stream(data: bytes, targets: list[int] | None = None) -> list[bytes]:
    """Read objects that stand one behind the other."""
    return [one for batch in ObjectStream(iter(cut(data, targets or [])), "stream") for one in batch]


several = st.lists(OBJECTS, max_size=5)
targets_to_split = st.lists(st.integers(0, 400), max_size=5)


@given(several, SPACES, targets_to_split)
def test_an_array_of_any_layout_gives_its_elements_to_the_byte(
    objects: list[str], spaces: list[str], targets: list[int]
) -> None:
    """Every element, in order, with its bytes, wherever the file is cut on the way."""
    body = write_body(objects, spaces).strip().encode()
    assert read_array(body, targets) == [one.encode() for one in objects]


@given(several, st.sampled_from([",\n", ",", ", ", " ,\n\n", ",\r\n"]), targets_to_split)
def test_lines_of_an_array_give_its_elements(objects: list[str], between: str, targets: list[int]) -> None:
    """An element a line, or all in one line: the same elements."""
    assert read_array(f"[{between.join(objects)}]".encode(), targets) == [one.encode() for one in objects]


@given(
    several,
    st.lists(WHITE_SPACE, min_size=6, max_size=6),
    st.sampled_from(["\n", "\r\n", "", "\n\n"]),
    targets_to_split,
)
def test_objects_one_behind_the_other_are_all_read(
    objects: list[str], spaces: list[str], between: str, targets: list[int]
) -> None:
    """Lines, blank lines, objects over several lines, or no white space at all: every object, to the byte."""
    text = between.join(space + one for space, one in zip(spaces, objects, strict=False)) + spaces[-1]
    assert read_stream(text.encode(), targets) == [one.encode() for one in objects]


@given(st.lists(OBJECTS, min_size=1, max_size=4), st.data(), targets_to_split)
def test_a_cut_array_is_never_a_shorter_array(objects: list[str], data: st.DataObject, targets: list[int]) -> None:
    """An array without its last bytes is refused, wherever it ends."""
    body = f"[{data.draw(st.sampled_from([',', chr(44) + chr(10)])).join(objects)}]".encode()
    kept = data.draw(st.integers(1, len(body) - 1))
    with pytest.raises(BadFile, match="byte"):
        read_array(body[:kept], targets)


@given(st.lists(OBJECTS, min_size=1, max_size=4), st.data(), targets_to_split)
def test_cut_lines_lose_nothing_unnoticed(objects: list[str], data: st.DataObject, targets: list[int]) -> None:
    """Lines that end inside an object are refused; before that one, every object has come out."""
    text = "\n".join(objects).encode()
    kept = data.draw(st.integers(1, len(text) - 1))
    ends = list(itertools.accumulate(len(one.encode()) + 1 for one in objects))
    whole = [one.encode() for one, end in zip(objects, ends, strict=True) if end - 1 <= kept]
    if kept in ends or kept + 1 in ends:
        assert read_stream(text[:kept], targets) == whole
    else:
        with pytest.raises(BadFile, match="byte"):
            read_stream(text[:kept], targets)


@given(several, st.data(), targets_to_split)
@example(['{"a":1}', '{"b":2}'], None, [])
def test_what_is_accepted_is_json(objects: list[str], data: st.DataObject | None, targets: list[int]) -> None:
    """A byte changed anywhere makes the file refused, or what comes out is what a JSON parser finds in it."""
    body = bytearray(f"[{(',' + chr(10)).join(objects)}]".encode())
    if data is not None:
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    if body[:1] != b"[":
        return
    try:
        found = read_array(bytes(body), targets)
    except (BadFile, AssertionError):
        return
    expected = json.loads(body.decode("utf-8"), parse_int=str, parse_float=str)
    assert [json.loads(one, parse_int=str, parse_float=str) for one in found] == expected


@pytest.mark.parametrize(
    ("lines", "where"),
    [
        (['{"a":1}', '{"a":oops}', '{"a":2}'], r"byte 13 \(line 2\)"),
        (['{"a":1}', "", '{"a":2},', '{"a":3}'], r"',' is not the beginning of a JSON object, at byte 16 \(line 3\)"),
        (['{"a":1}', "[1]"], r"line 2"),
        (['{"a":1},{"b":2}'], r"line 1"),
        (['{"a":[1', '2]},{"b":1}'], r"line"),
        (['{"a":"\\ud800"}', '{"a":"\\ud800'], r"cut.*line 2"),
    ],
)
def test_a_mistake_is_named_with_its_byte_and_line(lines: list[str], where: str) -> None:
    """Whoever has to repair a file is told where."""
    with pytest.raises(BadFile, match=where):
        read_stream("\n".join(lines).encode())


def test_a_mistake_far_before_the_end_is_found_at_once() -> None:
    """Damage is reported where it is met; what comes behind is not read first."""
    taken = []

    def give():
        for number in range(100):
            taken.append(number)
            yield b'{"a": oops}' + b" " * 1000 + b"\n"

    with pytest.raises(BadFile, match="byte 6"):
        list(ObjectStream(give(), "stream"))
    assert len(taken) < 10


def test_what_is_no_utf8_is_refused() -> None:
    """Bytes that are not UTF-8 are refused inside a text and outside, quick way or not."""
    for body in (b'[{"a":"\xff"},\n{"b":1}]', b'[{"a":"\xff"}]', b'[{"a":1},\n\xff{"b":1}]'):
        with pytest.raises(BadFile, match="byte"):
            read_array(body)


def test_depth_without_end_is_refused() -> None:
    """An object nested a hundred thousand times is an error like any other, not a crash."""
    with pytest.raises(BadFile, match="nested too deeply"):
        read_stream(b'{"a":' * 100_000 + b"1" + b"}" * 100_000)


def test_a_large_object_is_read_in_linear_time() -> None:
    """An object that comes in a thousand pieces is read, and not read anew for each of them."""
    raw = b'{"a":"' + b"x" * 8_000_000 + b'"}'
    assert read_array(b"[" + raw + b"]", list(range(0, len(raw), 8000))) == [raw]
    assert read_stream(raw, list(range(0, len(raw), 8000))) == [raw]


def test_a_lone_surrogate_does_not_end_the_quick_way() -> None:
    """What msgspec refuses comes out by the other way, in its place."""
    lines = [b'{"n":1}', b'{"a":"\\ud800"}', b'{"n":2}']
    assert read_stream(b"\n".join(lines) + b"\n", [8, 23]) == lines
