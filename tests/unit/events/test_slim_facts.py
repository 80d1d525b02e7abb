import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.facts import Facts, read_facts, read_sdk_facts
from ociaudit.events.slim_facts import make_reader

PATHS = {
    "event_type": "eventType",
    "event_time": "eventTime",
    "data.event_name": "data.eventName",
    "data.message": "data.message",
    "data.identity.principal_name": "data.identity.principalName",
    "data.identity.ip_address": "data.identity.ipAddress",
    "data.response.status": "data.response.status",
    "data.additional_details.event_id": "data.additionalDetails.eventId",
}
VALUES = st.sampled_from(["a", "ü", "\ud800", "", None, 12, 1.5, True, [], {"a": 1}])


def make_event(values: dict[str, Any]) -> dict[str, Any]:
    """Make an event with a value at each path; a model whose parent is no model is left out."""
    event: dict[str, Any] = {"rest": {"deep": [1, "ü", {"eventType": "no"}]}}
    for path, value in values.items():
        *folders, name = path.split(".")
        inner = event
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = dict(value) if isinstance(value, dict) else value
    return event


def read(facts: Facts, path: str) -> str | None:
    """Return a field, None where a model on the way is missing."""
    value: Any = facts
    for name in path.split("."):
        value = getattr(value, name) if value is not None else None
    return value


@given(
    st.sets(st.sampled_from(sorted(PATHS)), min_size=1),
    st.dictionaries(st.sampled_from([*PATHS.values(), "data", "data.response"]), VALUES),
)
def test_a_slim_reader_reads_as_the_full_one(needed: set[str], values: dict[str, Any]) -> None:
    """Whatever an event holds, each field that was asked for is what all facts have there."""
    try:
        raw = json.dumps(make_event(values)).encode()
    except (TypeError, AttributeError):  # a value where a model would have to be
        return
    slim, full = make_reader(needed)(raw), read_facts(raw)
    assert {path: read(slim, path) for path in needed} == {path: read(full, path) for path in needed}


def test_a_slim_reader_leaves_out_what_nobody_needs() -> None:
    """Fields that were not named are not there, and the properties work on those that were."""
    raw = b'{"eventType":"t","data":{"message":"m","response":{"status":"404","message":"n"}}}'
    facts = make_reader({"data.response.status", "data.message", "data.additional_details.event_id"})(raw)
    assert facts.outcome == "failure"
    assert not hasattr(facts, "event_type")
    assert not hasattr(facts.response, "message")


@pytest.mark.parametrize("raw", [b"[]", b"1", b"{", b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"])
def test_what_is_no_event_is_refused_as_ever(raw: bytes) -> None:
    """A slim reader refuses what the full one refuses, or skips what is too deep to be of interest."""
    with pytest.raises(ValueError):
        read_facts(raw)
    try:
        facts = make_reader({"event_type"})(raw)
    except ValueError:
        return
    assert facts.event_type is None


def test_the_sdks_spelling_is_read_too() -> None:
    """Field names are the SDK's, keys of free maps are as served."""
    facts = read_sdk_facts(
        {
            "event_type": "t",
            "event_time": None,
            "data": {
                "event_name": "n",
                "identity": {"principal_name": "\ud800"},
                "additional_details": {"eventId": "sso.session.create.success"},
                "response": {"status": 404},
            },
        }
    )
    assert (facts.event_type, facts.details.event_name, facts.identity.principal_name) == ("t", "n", "\\ud800")
    assert facts.domain_event == "sso.session.create.success"
