import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.facts import Facts, read_facts, read_loose_facts, split_addresses

FULL = {
    "eventTime": "2025-12-01T00:00:00.5Z",
    "eventId": "id",
    "eventType": "com.oraclecloud.identitySignOn.InteractiveLogin",
    "source": "s",
    "data": {
        "eventGroupingId": "g",
        "eventName": "InteractiveLogin",
        "compartmentId": "c",
        "compartmentName": "cn",
        "resourceName": "r",
        "resourceId": "ri",
        "availabilityDomain": "ad",
        "message": " InteractiveLogin failed",
        "identity": {"principalName": "eve", "ipAddress": "10.0.64.84,252.138.125.19", "userAgent": "ua"},
        "request": {"id": "q", "path": "/p", "action": "GET"},
        "response": {"status": None, "responseTime": "t", "message": None},
        "additionalDetails": {"eventId": "sso.authentication.failure", "n": 1},
    },
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(
                ["data", "identity", "response", "status", "additionalDetails", "eventId", "message", "ipAddress"]
            ),
            inner,
            max_size=4,
        )
    ),
)


def encode(event: object) -> bytes:
    """Write an event as Oracle does."""
    return json.dumps(event).encode()


def test_everything_people_ask_about_is_read() -> None:
    """Fields of every model, the outcome and the addresses."""
    facts = read_facts(encode(FULL))
    assert (facts.event_id, facts.details.event_name, facts.identity.principal_name) == (
        "id",
        "InteractiveLogin",
        "eve",
    )
    assert (facts.request.action, facts.response.response_time) == ("GET", "t")
    assert facts.addresses == ("10.0.64.84", "252.138.125.19")
    assert facts.outcome == "failure"
    assert facts.is_sign_in
    assert facts.instant % 1_000_000_000 == 500_000_000


@given(st.dictionaries(st.sampled_from(["data", "eventType", "eventTime", "eventId"]), anything, max_size=4))
def test_no_event_is_too_odd(event: dict[str, Any]) -> None:
    """Whatever an event holds, it has facts, and all their texts can be encoded."""
    facts = read_facts(encode(event))
    for text in (facts.event_time, facts.event_id, facts.identity.ip_address, facts.response.status, facts.outcome):
        assert text is None or text.encode() is not None
    assert facts.is_sign_in in {True, False}
    assert isinstance(facts.addresses, tuple)


@given(st.dictionaries(st.sampled_from(["data", "eventType"]), anything, max_size=2))
def test_both_ways_of_reading_agree(event: dict[str, Any]) -> None:
    """What the quick way accepts, the slow way reads alike, but for models that are absent."""
    quick, slow = read_facts(encode(event)), read_loose_facts(encode(event))
    assert (quick.details, quick.event_type) == (slow.details, slow.event_type)


@pytest.mark.parametrize(
    ("event", "status"),
    [
        (b'{"data":{"response":{"status":200}}}', "200"),
        (b'{"data":{"response":{"status":"\\ud800"}}}', "\\ud800"),
        (b'{"data":{"response":{"status":[]}}}', None),
        (b'{"data":{"response":"200"}}', None),
        (b'{"data":[]}', None),
        (b"{}", None),
    ],
)
def test_what_has_an_unexpected_type_is_absent_and_numbers_are_digits(event: bytes, status: str | None) -> None:
    """A lone surrogate is an escape."""
    assert read_facts(event).response.status == status


@pytest.mark.parametrize("raw", [b"[]", b"", b"{", b'"x"', b'{"data":' + b"[" * 100_000])
def test_what_is_no_object_is_an_error(raw: bytes) -> None:
    """The caller has checked its events; a mistake is not hidden."""
    with pytest.raises(ValueError, match=r"JSON|nested|Expecting"):
        read_facts(raw)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [(None, ()), ("", ()), (" 10.0.0.1 ", ("10.0.0.1",)), ("a, b,,c", ("a", "b", "c")), (",", ())],
)
def test_a_comma_list_is_several_addresses(text: str | None, addresses: tuple[str, ...]) -> None:
    """White space around them does not count."""
    assert split_addresses(text) == addresses


def test_an_empty_event_has_no_facts() -> None:
    """Every property answers."""
    assert (Facts().outcome, Facts().is_sign_in, Facts().addresses, Facts().instant) == ("unknown", False, (), 0)
