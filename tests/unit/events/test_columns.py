import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.columns import (
    COLUMNS,
    MAP_COLUMNS,
    format_time,
    is_null,
    list_fields,
    make_row,
    read_columns,
    read_facts_and_maps,
    read_row,
)
from ociaudit.events.fields import make_facts_reader, read_facts, read_status
from ociaudit.formats.base import Record
from ociaudit.planning.shard import Target

FULL = {
    "eventType": "t",
    "source": "s",
    "eventId": "i",
    "eventTime": "2025-12-01T01:00:00.5+01:00",
    "data": {
        "eventGroupingId": "g",
        "eventName": "n",
        "compartmentId": "c",
        "compartmentName": "cn",
        "resourceName": "r",
        "resourceId": "ri",
        "availabilityDomain": "ad",
        "message": "said",
        "identity": {
            "principalName": "pn",
            "principalId": "pi",
            "authType": "natv",
            "callerName": "can",
            "callerId": "cai",
            "tenantId": "ti",
            "ipAddress": "10.0.64.84, 252.138.125.19",
            "userAgent": "ua",
            "consoleSessionId": "cs",
        },
        "request": {"id": "q", "path": "/p", "action": "GET"},
        "response": {"status": "404", "responseTime": "2025-12-01T00:00:00.500Z", "message": None},
        "additionalDetails": {"eventId": "sso.authentication.failure", "n": 1},
    },
}
VALUES = {
    "event_time": "2025-12-01T00:00:00.500Z",
    "event_id": "i",
    "event_type": "t",
    "event_name": "n",
    "source": "s",
    "outcome": "failure",
    "status": 404,
    "origin_region": "us-ashburn-1",
    "origin_compartment": "asked",
    "compartment_id": "c",
    "compartment_name": "cn",
    "principal_name": "pn",
    "principal_id": "pi",
    "auth_type": "natv",
    "caller_name": "can",
    "caller_id": "cai",
    "tenant_id": "ti",
    "ip_address": "10.0.64.84",
    "ip_addresses": "10.0.64.84, 252.138.125.19",
    "user_agent": "ua",
    "console_session_id": "cs",
    "resource_name": "r",
    "resource_id": "ri",
    "availability_domain": "ad",
    "request_id": "q",
    "request_action": "GET",
    "request_path": "/p",
    "response_time": "2025-12-01T00:00:00.500Z",
    "message": "said",
    "event_grouping_id": "g",
    "event": json.dumps(FULL),
}
NAMES = [column.name for column in COLUMNS]


def read(event: object, origin: Target | None = None) -> dict[str, object]:
    """Return the columns of an event by name."""
    return dict(zip(NAMES, read_row(Record(json.dumps(event).encode(), origin)), strict=True))


def test_every_column_is_read_from_its_field() -> None:
    """A full event fills every column with the value of its field."""
    assert read(FULL, Target("us-ashburn-1", "asked")) == VALUES
    assert list(VALUES) == NAMES


def test_an_empty_event_has_no_values() -> None:
    """An event without fields and origin has only the outcome `unknown` and the event itself."""
    row = read({})
    assert {name: value for name, value in row.items() if value is not None} == {"outcome": "unknown", "event": "{}"}


@pytest.mark.parametrize(
    ("served", "formatted"),
    [
        ("2025-12-01T08:00:00.000Z", "2025-12-01T08:00:00.000Z"),
        ("2025-12-01T08:00:00Z", "2025-12-01T08:00:00Z"),
        ("2025-12-01t08:00:00.000z", "2025-12-01T08:00:00Z"),
        ("2025-12-01T08:00:00.123456789-02:30", "2025-12-01T10:30:00.123456789Z"),
        ("2025-12-31T23:59:60.000Z", "2026-01-01T00:00:00Z"),
        ("2025-13-01T08:00:00.000Z", None),
        ("yesterday", None),
        (None, None),
    ],
)
def test_a_time_is_formatted_in_utc(served, formatted) -> None:
    """A time in Audit's form is unchanged, one in another form is converted, and an unreadable one is None."""
    assert format_time(served) == formatted


@pytest.mark.parametrize(
    ("served", "status"), [("200", 200), ("0", 0), ("٤٠٤", None), ("OK", None), ("9" * 5000, None), (None, None)]
)
def test_a_status_is_a_number_or_none(served, status) -> None:
    """Only a text of ASCII digits is a status."""
    assert read_status(served) == status


@given(st.text() | st.just("\ud800x"), st.text())
def test_every_text_of_a_row_can_be_encoded(name: str, agent: str) -> None:
    """Every text of a row can be encoded as UTF-8, even with lone surrogates, and the event is complete."""
    event = {"data": {"eventName": name, "identity": {"userAgent": agent, "ipAddress": name}}}
    row = read(event)
    assert all(value.encode() is not None for value in row.values() if isinstance(value, str))
    assert json.loads(row["event"]) == event


MAP_NAMES = [column.name for column in MAP_COLUMNS]
MAP_PATHS = [column.description.split(".") for column in MAP_COLUMNS]

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
    """Return the value at a path, or None."""
    for name in path:
        event = event.get(name) if isinstance(event, dict) else None
    return event


@given(events, st.booleans(), st.sampled_from([(",", ":"), (" , ", " : ")]))
def test_every_free_map_is_its_json_as_served(event: Any, is_ascii: bool, marks: tuple[str, str]) -> None:
    """For any event, each free map is its JSON as served, and a null or absent one is null."""
    try:
        raw = json.dumps(event, ensure_ascii=is_ascii, separators=marks).encode()
    except UnicodeEncodeError:
        raw = json.dumps(event, separators=marks).encode()
    found = [bytes(text) for text in read_facts_and_maps(raw)[1]]
    assert [json.loads(text) for text in found] == [find(event, path) for path in MAP_PATHS]
    assert [is_null(text) for text in found] == [find(event, path) is None for path in MAP_PATHS]
    assert all(is_null(text) or text in raw for text in found)
    assert make_row(read_facts_and_maps(raw)[0], None) == make_row(read_facts(raw), None)


def test_a_free_map_keeps_its_bytes() -> None:
    """A free map keeps its white space, digits and escapes."""
    raw = rb'{"data":{"freeformTags": { "a" : 1.00 , "b":"\u0041\ud800" } ,"stateChange":null}}'
    row = dict(zip(MAP_NAMES, map(bytes, read_facts_and_maps(raw)[1]), strict=True))
    assert row.pop("freeform_tags") == rb'{ "a" : 1.00 , "b":"\u0041\ud800" }'
    assert set(row.values()) == {b"null"}


@pytest.mark.parametrize("raw", [b"{}", b'{"data":null}', b'{"data":[1]}', b'{"data":{"request":"x","response":1}}'])
def test_an_event_without_free_maps_has_none(raw: bytes) -> None:
    """Values of other types in place of the models give no free maps."""
    assert all(map(is_null, read_facts_and_maps(raw)[1]))


@given(st.lists(events, max_size=4), st.lists(st.sampled_from(NAMES[:-1]), unique=True))
def test_some_columns_have_the_values_of_the_whole_row(given_events: list[Any], names: list[str]) -> None:
    """Any choice of columns, read from partial facts, has the values of the whole rows."""
    raws = [json.dumps(event).encode() for event in [FULL, *given_events]]
    origins = [Target("us-ashburn-1", "asked"), *([None] * len(given_events))]
    facts = list(map(make_facts_reader(list_fields(names)), raws))
    rows = [dict(zip(NAMES, read_row(Record(*pair)), strict=True)) for pair in zip(raws, origins, strict=True)]
    assert list(map(list, read_columns(facts, origins, names))) == [[row[name] for row in rows] for name in names]
