from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.fields import (
    NANOSECONDS,
    UNREADABLE_INSTANT,
    Facts,
    _read_any_instant,
    format_instant,
    instant_of_minute,
    is_sign_in,
    judge_outcome,
    make_facts_reader,
    read_facts,
    read_facts_leniently,
    read_instant,
    read_instants,
    read_key_fields_leniently,
    read_sdk_facts,
    replace_surrogates,
    split_addresses,
)

ORDINAL_ZERO = datetime(1, 1, 1, tzinfo=UTC) - datetime.resolution * 0
DAY = 86_400 * NANOSECONDS
naive_times = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29))  # noqa: DTZ001 - hypothesis wants them naive
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


def count_nanoseconds(moment: datetime) -> Fraction:
    """Return the instant of a moment, by exact arithmetic of the standard library."""
    return Fraction((moment - ORDINAL_ZERO) // timedelta(microseconds=1)) * 1000 + DAY


@given(naive_times, st.text("0123456789", max_size=12), offsets, st.sampled_from("Tt "), st.booleans())
def test_an_instant_is_exact_to_the_nanosecond(
    time: datetime, digits: str, offset: int, letter: str, has_colon: bool
) -> None:
    """Any RFC 3339 time is read exactly to the nanosecond, whatever its offset and number of digits."""
    time = time.replace(microsecond=0)
    sign, minutes = "-+"[offset >= 0], abs(offset)
    text = time.isoformat().replace("T", letter) + (f".{digits}" if digits else "")
    text += f"{sign}{minutes // 60:02}{':' if has_colon else ''}{minutes % 60:02}"
    expected = count_nanoseconds(time.replace(tzinfo=UTC) - timedelta(minutes=offset))
    assert read_instant(text) == expected + int((digits + "0" * 9)[:9])


@given(naive_times, st.sampled_from("Zz"))
def test_the_fast_path_agrees_with_the_general_one(time: datetime, zone: str) -> None:
    """A time with milliseconds and Z, which has a fast path, gives the same instant as on the general path."""
    text = time.isoformat(timespec="milliseconds")
    assert read_instant(text + zone) == read_instant(text + "+00:00") > 0


@given(st.text("0123456789-:.TZtz +x", max_size=32) | st.text(max_size=32))
def test_any_text_is_read_or_unreadable(text: str) -> None:
    """No text makes reading fail, and a readable time formats to a text with the same instant."""
    instant = read_instant(text)
    if instant != UNREADABLE_INSTANT:
        assert read_instant(format_instant(instant)) == instant


@given(st.data(), naive_times)
def test_a_damaged_time_is_not_guessed(data: st.DataObject, time: datetime) -> None:
    """A letter in place of a digit or colon makes a time unreadable."""
    text = time.isoformat(timespec="milliseconds") + "Z"
    target = data.draw(st.sampled_from([*range(10), *range(11, 23)]))
    assert read_instant(text[:target] + "X" + text[target + 1 :]) == UNREADABLE_INSTANT


@given(st.integers(DAY, 3_652_060 * DAY - 1))
def test_a_formatted_instant_parses_back(instant: int) -> None:
    """Every instant of the years 1 to 9999 survives formatting and parsing, with 0, 3, 6 or 9 digits."""
    text = format_instant(instant)
    assert read_instant(text) == instant
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z", text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2025-12-01",
        "2025-12-01T08:00Z",
        "2025-12-01T24:00:00.000Z",
        "2025-12-01T08:60:00.000Z",
        "2025-12-01T08:00:61.000Z",
        "2025-02-29T08:00:00.000Z",
        "2025-13-01T08:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "2025-12-01T08:00x59.123Z",
        "2025-12-01T08:00:00+24:00",
        "2025-12-01T08:00:00+01:60",
        "٢٠٢٥-12-01T08:00:00.000Z",
        "2025-12-01T08:00:²0.000Z",
        " 2025-12-01T08:00:00.000Z",
        "2025-12-01T08:00:00.000Z\n",
        "9999-12-31T23:59:59.999-00:01",
        "9999-12-31T23:59:60Z",
        "0001-01-01T00:00:00+00:01",
        "\ud800",
    ],
)
def test_an_invalid_time_is_unreadable(text: str | None) -> None:
    """A missing, impossible, damaged or out-of-range time is unreadable, and sorts first."""
    assert read_instant(text) == UNREADABLE_INSTANT < read_instant("0001-01-01T00:00:00Z")


def test_a_leap_second_is_the_next_minute() -> None:
    """Second 60 counts as the first second of the next minute."""
    assert read_instant("2016-12-31T23:59:60Z") == read_instant("2017-01-01T00:00:00Z")
    assert read_instant("2016-12-31T23:59:60.500Z") == read_instant("2017-01-01T00:00:00.5Z")


@given(st.integers(-1_000_000_000, 4_000_000_000))
def test_a_minute_starts_at_its_instant(minute: int) -> None:
    """A minute since 1970 converts to the instant at which it starts."""
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    if -1_035_000_000 < minute < 4_000_000_000:
        assert instant_of_minute(minute) == count_nanoseconds(moment + timedelta(minutes=minute))


@given(
    st.dictionaries(st.sampled_from(["eventTime", "eventId", "eventType", "data"]), st.from_type(object), max_size=4)
)
def test_a_field_of_another_type_counts_as_absent(event: dict[str, object]) -> None:
    """Reading key fields never fails, whatever their types."""
    fields = read_key_fields_leniently(event)
    assert fields.event_id is None or isinstance(fields.event_id, str)
    assert fields.data is not None


@given(st.text(st.characters(categories=["L", "Cs", "Nd"])))
def test_a_text_can_be_encoded_after_surrogates_are_replaced(text: str) -> None:
    """A text with lone surrogates becomes one that UTF-8 can encode; any other text is unchanged."""
    clean = replace_surrogates(text)
    clean.encode()
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert clean == text


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
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
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
    """Return an event as JSON bytes."""
    return json.dumps(event).encode()


def test_the_facts_of_every_model_are_read() -> None:
    """Facts have the fields of every model, the outcome and the addresses."""
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
def test_every_object_has_facts(event: dict[str, Any]) -> None:
    """Any JSON object has facts, and all their texts can be encoded."""
    facts = read_facts(encode(event))
    for text in (facts.event_time, facts.event_id, facts.identity.ip_address, facts.response.status, facts.outcome):
        assert text is None or text.encode() is not None
    assert facts.is_sign_in in {True, False}
    assert isinstance(facts.addresses, tuple)


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_what_is_not_json_has_no_facts(constant: bytes) -> None:
    """Python reads these as numbers; JSON has none of them."""
    with pytest.raises(ValueError, match="is not JSON"):
        read_facts(b'{"eventType":"a","data":{"x":%b}}' % constant)


@given(st.dictionaries(st.sampled_from(["data", "eventType"]), anything, max_size=2))
def test_lenient_reading_agrees_with_the_fast_one(event: dict[str, Any]) -> None:
    """Facts read leniently equal those read fast, except for absent models."""
    fast, lenient = read_facts(encode(event)), read_facts_leniently(encode(event))
    assert (fast.details, fast.event_type) == (lenient.details, lenient.event_type)


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
def test_a_field_of_an_unexpected_type_is_absent_unless_a_number(event: bytes, status: str | None) -> None:
    """A number is read as its digits, a lone surrogate as its escape, and any other type as absent."""
    assert read_facts(event).response.status == status


@pytest.mark.parametrize("raw", [b"[]", b"", b"{", b'"x"', b'{"data":' + b"[" * 100_000])
def test_bytes_that_are_not_an_object_are_an_error(raw: bytes) -> None:
    """Reading facts from anything but a JSON object raises ValueError."""
    with pytest.raises(ValueError, match=r"JSON|nested|Expecting"):
        read_facts(raw)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [(None, ()), ("", ()), (" 10.0.0.1 ", ("10.0.0.1",)), ("a, b,,c", ("a", "b", "c")), (",", ())],
)
def test_a_comma_separated_list_is_several_addresses(text: str | None, addresses: tuple[str, ...]) -> None:
    """White space around the addresses of a list is removed."""
    assert split_addresses(text) == addresses


def test_an_empty_event_has_no_facts() -> None:
    """Every property of empty facts has a value."""
    assert (Facts().outcome, Facts().is_sign_in, Facts().addresses, Facts().instant) == ("unknown", False, (), 0)


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
    """Return an event with a value at each path."""
    event: dict[str, Any] = {"rest": {"deep": [1, "ü", {"eventType": "no"}]}}
    for path, value in values.items():
        *folders, name = path.split(".")
        inner = event
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = dict(value) if isinstance(value, dict) else value
    return event


def read(facts: Facts, path: str) -> str | None:
    """Return a field, or None if a model on its path is missing."""
    value: Any = facts
    for name in path.split("."):
        value = getattr(value, name) if value is not None else None
    return value


@given(
    st.sets(st.sampled_from(sorted(PATHS)), min_size=1),
    st.dictionaries(st.sampled_from([*PATHS.values(), "data", "data.response"]), VALUES),
)
def test_a_partial_reader_agrees_with_the_full_one(needed: set[str], values: dict[str, Any]) -> None:
    """For any event, each requested field has the value that it has in the full facts."""
    try:
        raw = json.dumps(make_event(values)).encode()
    except (TypeError, AttributeError):  # a value in place of a model
        return
    partial, full = make_facts_reader(needed)(raw), read_facts(raw)
    assert {path: read(partial, path) for path in needed} == {path: read(full, path) for path in needed}


def test_a_partial_reader_omits_other_fields() -> None:
    """Fields that were not requested do not exist, and the properties work on those that were."""
    raw = b'{"eventType":"t","data":{"message":"m","response":{"status":"404","message":"n"}}}'
    facts = make_facts_reader({"data.response.status", "data.message", "data.additional_details.event_id"})(raw)
    assert facts.outcome == "failure"
    assert not hasattr(facts, "event_type")
    assert not hasattr(facts.response, "message")


@pytest.mark.parametrize("raw", [b"[]", b"1", b"{", b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"])
def test_a_partial_reader_rejects_what_the_full_one_rejects(raw: bytes) -> None:
    """A partial reader rejects what the full one rejects, or skips nesting that is too deep to matter."""
    with pytest.raises(ValueError):
        read_facts(raw)
    try:
        facts = make_facts_reader({"event_type"})(raw)
    except ValueError:
        return
    assert facts.event_type is None


def test_the_sdk_shape_is_read_too() -> None:
    """Facts are read from shape `sdk`, with the keys of free maps as served."""
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


@pytest.mark.parametrize(
    ("status", "detail", "message", "outcome"),
    [
        ("200", None, None, "success"),
        ("399", None, None, "success"),
        ("404", "sso.session.create.success", None, "failure"),
        ("9" * 5_000, None, None, "failure"),
        (None, "sso.session.create.success", None, "success"),
        (None, "sso.authentication.failure", "succeeded", "failure"),
        (None, None, " InteractiveLogin succeeded", "success"),
        (None, "admin.me.locked", "Login FAILED", "failure"),
        ("OK", None, None, "unknown"),
        ("٤٠٤", None, None, "unknown"),
        ("", "", "", "unknown"),
        (None, None, None, "unknown"),
    ],
)
def test_the_outcome_is_the_first_one_stated(
    status: str | None, detail: str | None, message: str | None, outcome: str
) -> None:
    """The status decides the outcome, else the suffix of the event id in the details, else the message."""
    assert judge_outcome(status, detail, message) == outcome


@given(st.none() | st.text(), st.none() | st.text(), st.none() | st.text())
def test_every_text_has_an_outcome(status: str | None, detail: str | None, message: str | None) -> None:
    """Any texts give an outcome, and are a sign-in or not."""
    assert judge_outcome(status, detail, message) in {"success", "failure", "unknown"}
    assert is_sign_in(status, detail) in {True, False}


@given(
    st.text(st.sampled_from("0123456789٣TtZz:.- +"), max_size=24)
    | st.builds(
        "{}-{}-{}{}{}{}{}:{}.{}{}".format,
        *(
            st.sampled_from(part)
            for part in (["2024", "0001", "0000", "9999"], ["02", "13", "1", "٠٢"], ["29", "30", "00"])
        ),
        *(st.sampled_from(part) for part in ("Tt ", ["00", "23", "24", "2٣"], ":.", ["00", "59", "60", "+1"])),
        *(st.sampled_from(part) for part in (["00", "59", "60", "61"], ["000", "999", "9٩9"], "Zz")),
    )
)
def test_the_quick_way_reads_times_like_the_general_one(text: str) -> None:
    """Whatever looks like the usual form of a time has the instant that the general parser gives it."""
    assert read_instant(text) == _read_any_instant(text)


@given(
    st.lists(
        st.none()
        | st.text("0123456789-T:.Z", min_size=24, max_size=24)
        | st.sampled_from(["", "2025-02-29T01:02:03.004Z", "2025-12-01T24:00:00.000Z", "2025-12-31T23:59:60.000Z"])
        | st.datetimes().map(lambda time: time.isoformat(timespec="milliseconds") + "Z"),
        max_size=6,
    )
)
def test_many_instants_are_those_of_each(texts: list[str | None]) -> None:
    """Times that are read together have the instants of each."""
    assert read_instants(texts) == list(map(read_instant, texts))
