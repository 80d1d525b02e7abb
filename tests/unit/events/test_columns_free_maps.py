import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.columns import MAP_COLUMNS, make_row, read_facts_and_maps
from ociaudit.events.fields import read_facts

NAMES = [column.name for column in MAP_COLUMNS]
PATHS = [column.description.split(".") for column in MAP_COLUMNS]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
models = st.dictionaries(st.sampled_from(["headers", "parameters", "payload", "other"]), values, max_size=4) | values
events = st.fixed_dictionaries(
    {},
    optional={
        "eventId": values,
        "data": st.fixed_dictionaries(
            {},
            optional={
                "request": models,
                "response": models,
                "freeformTags": values,
                "definedTags": values,
                "stateChange": values,
                "additionalDetails": values | st.dictionaries(st.just("eventId"), st.just("a.b.failure") | values),
                "message": values,
            },
        )
        | values,
    },
)


def find(event: Any, path: list[str]) -> Any:
    """What stands at a path, None where nothing does."""
    for name in path:
        event = event.get(name) if isinstance(event, dict) else None
    return event


@given(events, st.booleans(), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_every_map_is_cut_out_as_it_stands(event: Any, is_ascii: bool, marks: tuple[str, str]) -> None:
    """Whatever stands in an event, each part is its own JSON, and null or absent is None."""
    try:
        raw = json.dumps(event, ensure_ascii=is_ascii, separators=marks).encode()
    except UnicodeEncodeError:
        raw = json.dumps(event, separators=marks).encode()
    found = read_facts_and_maps(raw)[1]
    assert [None if text is None else json.loads(text) for text in found] == [find(event, path) for path in PATHS]
    assert all(text is None or text.encode() in raw for text in found)
    assert make_row(read_facts_and_maps(raw)[0], None) == make_row(read_facts(raw), None)


def test_a_part_keeps_its_bytes() -> None:
    """White space, digits and escapes inside it stay."""
    raw = rb'{"data":{"freeformTags": { "a" : 1.00 , "b":"\u0041\ud800" } ,"stateChange":null}}'
    row = dict(zip(NAMES, read_facts_and_maps(raw)[1], strict=True))
    assert row.pop("freeform_tags") == r'{ "a" : 1.00 , "b":"\u0041\ud800" }'
    assert set(row.values()) == {None}


@pytest.mark.parametrize("raw", [b"{}", b'{"data":null}', b'{"data":[1]}', b'{"data":{"request":"x","response":1}}'])
def test_an_event_without_parts_has_none(raw: bytes) -> None:
    """Whatever stands in the models' places."""
    assert set(read_facts_and_maps(raw)[1]) == {None}
