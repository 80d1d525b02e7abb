import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.events.field_naming import SHAPES, choose_shape
from ociaudit.formats.base import EventEncoder, add_origin
from ociaudit.planning.shard import Target
from support.json_bodies import OBJECTS

TARGET = Target("us-ashburn-1", "ocid1.compartment.oc1..a")
SHOWN = {"region": TARGET.region, "compartment": TARGET.compartment}
targets = st.none() | st.builds(Target, st.text(max_size=9), st.text(max_size=9))


@given(OBJECTS, targets)
def test_an_origin_is_the_last_member(text: str, target: Target | None) -> None:
    """The origin follows the unchanged bytes of the event, and the result is one line of valid JSON."""
    (event,) = parse_page(f"[{text}]".encode())
    written = add_origin(event.raw, target)
    assert b"\n" not in written
    assert written.startswith(event.raw.rstrip()[:-1])
    pairs = json.loads(written, object_pairs_hook=list, parse_int=str, parse_float=str)
    assert pairs[:-1] == json.loads(event.raw, object_pairs_hook=list, parse_int=str, parse_float=str)
    name, value = pairs[-1]
    assert value == (None if target is None else [("region", target.region), ("compartment", target.compartment)])
    assert name not in {name for name, _ in pairs[:-1]}


@pytest.mark.parametrize(
    ("event", "name"),
    [
        (b"{}", "origin"),
        (b'{ "a" : 1 }', "origin"),
        (b'{"origin":1}', "origin_"),
        (b'{"origin":1,"origin_":2}', "origin__"),
        (rb'{"\u006frigin":1}', "origin_"),
        (b'{"origin_":1}', "origin"),
        (b'{"a":"\\"origin\\""}', "origin"),
        (b'{"a":{"origin":1}}', "origin"),
        (rb'{"origin":"\ud800"}', "origin_"),
    ],
)
def test_a_field_of_that_name_is_kept(event: bytes, name: str) -> None:
    """An event's own `origin` is kept: ours gets underscores until its name is free, escapes or not."""
    written = json.loads(add_origin(event, TARGET))
    assert list(written)[-1] == name
    assert written.pop(name) == SHOWN
    assert written == json.loads(event)


@given(OBJECTS, targets)
def test_shape_and_origin_combine(text: str, target: Target | None) -> None:
    """The shape is applied before the origin; in shape `api` without origin the events are not even copied."""
    raws = [event.raw for event in parse_page(f"[{text}]".encode())]
    for shape in SHAPES:
        reshaped = [choose_shape(shape)(raw) for raw in raws]
        assert EventEncoder(shape).encode(raws, [target]) == reshaped
        assert EventEncoder(shape, with_origin=True).encode(raws, [target]) == [
            add_origin(raw, target) for raw in reshaped
        ]
    assert EventEncoder().encode(raws, [target]) is raws
