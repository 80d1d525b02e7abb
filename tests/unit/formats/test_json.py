import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from support.forms import write_form
from support.json_bodies import OBJECTS


def write(events: list[bytes], splits: list[int]) -> bytes:
    """Write events in batches that end at `cuts`."""
    return write_form("json", events, splits=splits)


@given(st.lists(OBJECTS, max_size=6), st.lists(st.integers(0, 6), max_size=4))
def test_an_array_is_valid_json_however_it_was_cut(objects: list[str], splits: list[int]) -> None:
    """For any number of events, none included, the file is the events, one in a line, and does not know of batches."""
    events = [event.raw for event in parse_page(f"[{','.join(objects)}]".encode())]
    written = write(events, [min(cut, len(events)) for cut in splits])
    assert written == b"[\n" + b",\n".join(events) + (b"\n]\n" if events else b"]\n")
    assert [event.raw for event in parse_page(written)] == events


@pytest.mark.parametrize(
    ("events", "file"), [([], b"[\n]\n"), ([b"{}"], b"[\n{}\n]\n"), ([b"{}"] * 2, b"[\n{},\n{}\n]\n")]
)
def test_the_layout_is_fixed(events: list[bytes], file: bytes) -> None:
    """A bracket, a line for each event with a comma behind all but the last, a bracket."""
    assert write(events, []) == file
    assert json.loads(file) == [{}] * len(events)
