import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.columns import COLUMNS, read_row, read_status, show_time
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
    """The columns of an event by name."""
    return dict(zip(NAMES, read_row(Record(json.dumps(event).encode(), origin)), strict=True))


def test_every_column_is_read_from_its_field() -> None:
    """A full event fills every column with the value of the field that the column names."""
    assert read(FULL, Target("us-ashburn-1", "asked")) == VALUES
    assert list(VALUES) == NAMES


def test_an_empty_event_has_no_values() -> None:
    """Without fields and origin all is None but the outcome, which is unknown, and the event."""
    row = read({})
    assert {name: value for name, value in row.items() if value is not None} == {"outcome": "unknown", "event": "{}"}


@pytest.mark.parametrize(
    ("served", "shown"),
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
def test_a_time_is_shown_in_utc(served, shown) -> None:
    """A time stays as Audit writes it, any other form is converted, and what is no time is None."""
    assert show_time(served) == shown


@pytest.mark.parametrize(
    ("served", "status"), [("200", 200), ("0", 0), ("٤٠٤", None), ("OK", None), ("9" * 5000, None), (None, None)]
)
def test_a_status_is_a_number_or_none(served, status) -> None:
    """Only plain digits are a status."""
    assert read_status(served) == status


@given(st.text() | st.just("\ud800x"), st.text())
def test_every_text_of_a_row_can_be_encoded(name: str, agent: str) -> None:
    """Whatever stands in an event, lone surrogates included, a row can be written in UTF-8, and the event is whole."""
    event = {"data": {"eventName": name, "identity": {"userAgent": agent, "ipAddress": name}}}
    row = read(event)
    assert all(value.encode() is not None for value in row.values() if isinstance(value, str))
    assert json.loads(row["event"]) == event
