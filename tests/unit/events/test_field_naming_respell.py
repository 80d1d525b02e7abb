import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.field_naming import (
    EVENT_MODEL,
    SDK_FIELDS,
    TO_API_SHAPE,
    FieldNaming,
    choose_shape,
    detect_naming,
    split_members,
    write_name,
)
from ociaudit.events.fields import read_instant

TIME = "2019-09-18T00:10:59.252Z"
derived = pytest.mark.parametrize("shape", ["sdk", "cli"])

texts = st.text(max_size=5) | st.sampled_from([TIME, "event_type", "event-type", json.loads('"\\ud800"')])
values = st.recursive(
    st.none() | st.booleans() | texts | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
free_maps = st.dictionaries(
    st.sampled_from(["event_name", "event-name", "ipAddress", "_self", "a_b"]), values, max_size=3
)


@st.composite
def draw_model(draw: st.DrawFn, model: str) -> dict[str, Any]:
    """Draw an object of a model, with any of the fields that the SDK knows."""
    fields = SDK_FIELDS[model]
    drawn: dict[str, Any] = {}
    for name in draw(st.lists(st.sampled_from(list(fields)), unique=True)):
        kind = fields[name]
        if kind in SDK_FIELDS:
            drawn[name] = draw(draw_model(kind))
        elif kind == "datetime":
            drawn[name] = draw(st.sampled_from([TIME, "2019-09-18T02:10:59+02:00", "yesterday"]))
        else:
            drawn[name] = draw(free_maps if kind.startswith("dict") else texts | st.none())
    return drawn


events = draw_model(EVENT_MODEL)


def to_api_shape(raw: bytes, spelling: FieldNaming) -> bytes:
    """Write an event of a spelling as the API does."""
    return TO_API_SHAPE[spelling](split_members(raw))


def check_fields(served: dict[str, Any], back: dict[str, Any], model: str) -> None:
    """Check that every field the SDK knows is there again, and that nothing came but nulls."""
    fields = SDK_FIELDS[model]
    assert set(served) <= set(back) <= {*served, *fields}
    for name, value in back.items():
        kind = fields[name]
        if kind in SDK_FIELDS and isinstance(value, dict):
            check_fields(served[name], value, kind)
        elif kind == "datetime" and value:
            assert read_instant(value) == read_instant(served[name])
        else:
            assert value == served.get(name)


@derived
@given(event=events)
def test_a_spelling_and_back_gives_every_known_field(shape: FieldNaming, event: dict[str, Any]) -> None:
    """From the API's spelling to another tool's and back: the same fields with the same values, and nulls at most."""
    there = choose_shape("sdk" if shape == "sdk" else "cli")(json.dumps(event).encode())
    check_fields(event, json.loads(to_api_shape(there, shape)), EVENT_MODEL)


@derived
@given(event=events)
def test_back_and_there_gives_the_same_bytes(shape: FieldNaming, event: dict[str, Any]) -> None:
    """From another tool's spelling to the API's and back: the same bytes."""
    converter = choose_shape("sdk" if shape == "sdk" else "cli")
    there = converter(json.dumps(event).encode())
    assert converter(to_api_shape(there, shape)) == there


@given(event=events)
def test_what_is_spelled_as_the_api_does_has_nothing_to_change(event: dict[str, Any]) -> None:
    """Every field of the API's spelling keeps its name under the other spellings' rules, and its value its bytes."""
    raw = json.dumps(event, separators=(",", ":")).encode()
    assert to_api_shape(raw, "sdk") == to_api_shape(raw, "cli") == raw


@derived
@given(event=events)
def test_a_spelling_is_recognised(shape: str, event: dict[str, Any]) -> None:
    """What a shape wrote is known for that spelling; an event is known for the API's if it has a name to tell by."""
    assert (
        detect_naming(split_members(choose_shape("sdk" if shape == "sdk" else "cli")(json.dumps(event).encode())))
        == shape
    )
    is_tellable = not {"eventType", "eventId", "eventTime", "cloudEventsVersion", "eventTypeVersion"}.isdisjoint(event)
    assert detect_naming(split_members(json.dumps(event).encode())) == ("api" if is_tellable else None)


@pytest.mark.parametrize(
    ("names", "spelling"),
    [
        ({"eventType", "event_type", "event-type", "type", "specversion"}, "api"),
        ({"event_id", "event-id"}, "sdk"),
        ({"event-time", "type", "specversion"}, "cli"),
        ({"type", "specversion"}, "cloudevents"),
        ({"type", "data", "time"}, "cloudevents"),
        ({"type", "time"}, None),
        ({"data", "source", "contentType"}, None),
        (set(), None),
    ],
)
def test_the_spelling_is_told_by_names_that_nothing_else_has(names: set[str], spelling: str | None) -> None:
    """Of several spellings in one object the API's counts first."""
    assert detect_naming(dict.fromkeys(names, b"1")) == spelling


def test_a_name_does_not_hide_another() -> None:
    """Where an object has a field in both spellings, both stay as they are."""
    raw = b'{"event_type":"a","data":{"event_name":"b","eventName":"c"},"event_id":"d"}'
    assert to_api_shape(raw, "sdk") == b'{"eventType":"a","data":{"event_name":"b","eventName":"c"},"eventId":"d"}'


def test_unknown_fields_keep_name_value_and_place() -> None:
    """Fields that the SDK does not know, and the digits of numbers, pass through."""
    raw = (
        b'{"event-id":"x","some-thing":{"event-id":1.10},"data":{"message":" M","sys_tags":{"a-b":1e999}},"\\ud800":0}'
    )
    assert to_api_shape(raw, "cli") == raw.replace(b'{"event-id":"x"', b'{"eventId":"x"')


@pytest.mark.parametrize("value", ["null", '"text"', "[1]", "17"])
def test_a_model_of_another_type_is_kept(value: str) -> None:
    """Where a model should be and is not, the value stays."""
    raw = f'{{"event_id":"x","data":{value}}}'.encode()
    assert to_api_shape(raw, "sdk") == raw.replace(b"event_id", b"eventId")


def test_cloud_events_get_the_names_of_audit() -> None:
    """CloudEvents 1.0 as Connector Hub writes it: renamed fields, all values, `oracle` kept."""
    raw = (
        b'{"data":{"eventName":"E","type":"t"},"dataschema":"2.0","id":"i","oracle":{"compartmentid":"c"},"source":"s",'
        b'"specversion":"1.0","time":"2022-03-09T17:18:33.983Z","type":"T","datacontenttype":"application/json"}'
    )
    assert json.loads(to_api_shape(raw, "cloudevents")) == {
        "data": {"eventName": "E", "type": "t"},
        "eventTypeVersion": "2.0",
        "eventId": "i",
        "oracle": {"compartmentid": "c"},
        "source": "s",
        "cloudEventsVersion": "1.0",
        "eventTime": "2022-03-09T17:18:33.983Z",
        "eventType": "T",
        "contentType": "application/json",
    }


@given(texts)
def test_a_name_is_written_as_json(name: str) -> None:
    """Whatever a member is called, its name is written as JSON that says the same."""
    assert json.loads(write_name(name)) == name
