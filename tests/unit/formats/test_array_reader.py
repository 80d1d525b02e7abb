import gzip
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.page import cut_page
from ociaudit.formats.array_reader import BadArray, read_array, unpack_chunks
from support.forms import write_form
from support.json_bodies import OBJECTS, SPACES, write_body


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    """Split bytes as a file may come."""
    bounds = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read(data: bytes, cuts: list[int] | None = None, *, is_ours: bool = False) -> list[tuple[int, bytes]]:
    """Read an array and return (offset, event)."""
    return [
        (offset, event.raw)
        for batch in read_array(unpack_chunks(split(data, cuts or [])), is_ours=is_ours)
        for event, offset in zip(batch.events, batch.offsets, strict=True)
    ]


def write_lines(events: list[bytes]) -> bytes:
    """Write an array as the program does."""
    return write_form("json", events)


cut_places = st.lists(st.integers(0, 400), max_size=4)


@given(st.lists(OBJECTS, max_size=4), cut_places)
def test_what_the_program_wrote_is_read_back(objects: list[str], cuts: list[int]) -> None:
    """Every event, with the byte at which it stands, however the file comes in pieces."""
    events = [event.raw for event in cut_page(f"[{','.join(objects)}]".encode())]
    data = write_lines(events)
    found = read(data, cuts, is_ours=True)
    assert found == read(data, cuts)
    assert [raw for _, raw in found] == events
    assert all(data[offset : offset + len(raw)] == raw for offset, raw in found)
    assert read(gzip.compress(data), [cut + 2 for cut in cuts]) == found


@given(st.lists(OBJECTS, max_size=4), SPACES, cut_places)
def test_any_layout_is_read(objects: list[str], spaces: list[str], cuts: list[int]) -> None:
    """An array that somebody else laid out gives the same events as a page would, with their bytes' places."""
    data = write_body(objects, spaces).encode()
    found = read(data, cuts)
    assert [raw for _, raw in found] == [event.raw for event in cut_page(data)]
    assert [data[offset : offset + 1] for offset, _ in found] == [b"{"] * len(objects)


@given(st.lists(OBJECTS, max_size=3), SPACES, st.booleans(), st.data())
def test_a_cut_file_is_never_a_shorter_array(
    objects: list[str], spaces: list[str], is_ours: bool, data: st.DataObject
) -> None:
    """No prefix passes for the array, compressed or not, and the error names a byte of what there is."""
    good = write_lines([cut_page(f"[{each}]".encode())[0].raw for each in objects])
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
