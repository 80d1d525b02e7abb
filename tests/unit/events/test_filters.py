import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.events.conditions import RECORDED_AS, find_aliases, find_recorded_names
from ociaudit.events.event import BadPage, Event, parse_page, read_event
from ociaudit.events.fields import read_facts, read_instant
from ociaudit.events.filters import Criteria, EventFilter, FilterSpec, TimeSpan
from support import naive_filter
from support.drawn_shards import make_event

EVENTS = [make_event(number) for number in range(3)]


def make_raw(**changes: Any) -> bytes:
    """Return an event with these fields: `a__b=1` means {"a": {"b": 1}}."""
    event: dict[str, Any] = {}
    for path, value in changes.items():
        *folders, name = path.split("__")
        inner = event
        for folder in folders:
            inner = inner.setdefault(folder, {})
        inner[name] = value
    return json.dumps(event).encode()


def passes(spec: FilterSpec, raw: bytes) -> bool:
    """Return whether an event passes, and check that all three methods agree."""
    event_filter = EventFilter(spec)
    results = {
        event_filter.is_wanted(raw),
        bool(event_filter.select([read_event(raw)])),
        event_filter.is_wanted_by_facts(read_facts(raw)),
    }
    assert len(results) == 1
    return results.pop()


def test_an_empty_filter_lets_everything_pass() -> None:
    """A filter without conditions lets every event pass and is falsy."""
    assert EventFilter().select(EVENTS) == EVENTS
    assert not EventFilter()
    assert not EventFilter(FilterSpec())
    assert EventFilter(FilterSpec()).is_wanted(b"anything")


@pytest.mark.parametrize(
    ("patterns", "is_wanted"),
    [
        (["Made"], True),
        (["^com\\.oraclecloud"], True),
        (["made"], False),
        (["nothing", "test"], True),
        (["^Made"], False),
        ([""], True),
    ],
)
def test_any_event_type_pattern_is_enough(patterns: list[str], is_wanted: bool) -> None:
    """A pattern may match anywhere in the type, case-sensitively, and one of several is enough."""
    assert EventFilter(patterns).select(EVENTS) == (EVENTS if is_wanted else [])


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("a**", "multiple repeat at position 2"),
        ("(", "position 0"),
        ("[z-a]", "position 1"),
        ("a{99999999999999}", "repetition number is too large"),
        ("(" * 5_000 + ")" * 5_000, "recursion"),
        ("\\", "bad escape"),
    ],
)
def test_an_invalid_pattern_is_named_with_its_position(pattern: str, words: str) -> None:
    """A pattern that cannot be compiled is a usage error that says what is wrong and where."""
    with pytest.raises(UsageError, match=words) as caught:
        EventFilter(["good", pattern])
    assert repr(pattern) in str(caught.value)


@pytest.mark.parametrize("alias", RECORDED_AS)
def test_an_alias_leads_to_the_recorded_names(alias: str) -> None:
    """A pattern that mentions an alias, in any case, finds the names that Audit records."""
    assert find_recorded_names(f".*{alias.lower()}$") == (alias, RECORDED_AS[alias])
    assert find_recorded_names("LaunchInstance") is None


@pytest.mark.parametrize(
    ("spec", "raw", "is_wanted"),
    [
        ({"event_names": "createvcn"}, make_raw(data__eventName="CreateVcn"), True),
        ({"event_names": "create"}, make_raw(data__eventName="CreateVcn"), False),
        ({"event_names": ["x", "c?eate*"]}, make_raw(data__eventName="CreateVcn"), True),
        ({"event_names": "SSO.*"}, make_raw(data__additionalDetails__eventId="sso.session.create.success"), True),
        ({"event_names": "*"}, make_raw(data__additionalDetails__eventId="sso.session.create.success"), False),
        ({"principals": "JÖRG"}, make_raw(data__identity__principalName="Jörg"), True),
        ({"principals": "strasse"}, make_raw(data__identity__principalName="Straße"), True),
        ({"principals": "ocid1.user.*"}, make_raw(data__identity__principalId="ocid1.user.oc1..a"), True),
        ({"principals": "a*b"}, make_raw(data__identity__principalName="a\nb"), True),
        ({"principals": "*"}, make_raw(data__identity=None), False),
        ({"principals": "[a-c]x"}, make_raw(data__identity__principalName="Bx"), True),
        ({"principals": "a[*]"}, make_raw(data__identity__principalName="a*"), True),
        ({"principals": "[a"}, make_raw(data__identity__principalName="[A"), True),
        ({"principals": "*ud800*"}, b'{"data":{"identity":{"principalName":"\\ud800"}}}', True),
        ({"compartment_names": "prod*"}, make_raw(data__compartmentName="Production"), True),
        ({"resources": "OCID1.vcn*"}, make_raw(data__resourceName="net", data__resourceId="ocid1.vcn.oc1"), True),
        ({"resources": "net"}, make_raw(data__resourceName="net", data__resourceId="ocid1.vcn.oc1"), True),
        ({"addresses": "10.0.0.0/8"}, make_raw(data__identity__ipAddress="192.0.2.1, 10.9.8.7"), True),
        ({"addresses": "10.1.2.3/8"}, make_raw(data__identity__ipAddress="10.9.8.7"), True),
        ({"addresses": "10.0.0.0/8"}, make_raw(data__identity__ipAddress="11.9.8.7"), False),
        ({"addresses": "1.1.1.1, 2001:DB8::/32"}, make_raw(data__identity__ipAddress="2001:db8:0::1"), True),
        ({"addresses": "0.0.0.0/0"}, make_raw(data__identity__ipAddress="2001:db8::1"), False),
        ({"addresses": "10.0.0.0/8"}, make_raw(data__identity__ipAddress="::ffff:10.0.0.5"), True),
        ({"addresses": "::ffff:10.0.0.0/104"}, make_raw(data__identity__ipAddress="10.0.0.5"), True),
        ({"addresses": "fe80::/10"}, make_raw(data__identity__ipAddress="fe80::1%eth0"), True),
        ({"addresses": "0.0.0.0/0,::/0"}, make_raw(data__identity__ipAddress="unknown, , 300.1.1.1"), False),
        ({"addresses": "192.0.2.9"}, make_raw(data__identity__ipAddress="1.1.1.1," * 100_000 + "192.0.2.9"), True),
        ({"addresses": "192.0.2.9"}, make_raw(data__identity__ipAddress="1.1.1.1," * 100_000), False),
        ({"event_types": ".*"}, make_raw(eventType=None), False),
        ({"event_types": "^$"}, make_raw(eventType=None), False),
        ({"event_types": "^(?!com)"}, make_raw(eventType=None), False),
        ({"statuses": "404"}, make_raw(data__response__status="404"), True),
        ({"statuses": "404"}, make_raw(data__response__status=404), True),
        ({"statuses": "2xx,4XX"}, make_raw(data__response__status="499"), True),
        ({"statuses": "400-403"}, make_raw(data__response__status="404"), False),
        ({"statuses": "400-499"}, make_raw(data__response__status="9" * 5_000), False),
        ({"statuses": "400-499"}, make_raw(data__response__status=None), False),
        ({"outcomes": "Failure"}, make_raw(data__response__status="404"), True),
        ({"outcomes": "unknown"}, make_raw(), True),
        ({"outcomes": "unknown,success"}, make_raw(data__message="it failed"), False),
        ({"event_after": "2025-12-01"}, make_raw(eventTime="2025-12-01T00:00:00Z"), True),
        ({"event_after": "01.12.25"}, make_raw(eventTime="2025-11-30T23:59:59.999999999Z"), False),
        ({"event_after": "2025-12-01T09:00+01:00"}, make_raw(eventTime="2025-12-01T08:00:00Z"), True),
        ({"event_after": "2025-12-01 08:01Z"}, make_raw(eventTime="2025-12-01T08:00:59.9Z"), False),
        ({"event_before": "2025-12-01T01:00:00+01:00"}, make_raw(eventTime="2025-12-01T00:00:00Z"), False),
        ({"event_before": "2025-12-01T00:00:00.000000001Z"}, make_raw(eventTime="2025-12-01T00:00:00Z"), True),
        ({"event_before": "2025-12-01"}, make_raw(eventTime="some day"), True),
        ({"event_after": "2025-12-01"}, make_raw(), True),
        ({"presets": "DELETIONS"}, make_raw(eventType="com.oraclecloud.virtualNetwork.DeleteVcn"), True),
        ({"presets": "deletions"}, make_raw(eventType="com.oraclecloud.a.DeleteB.begin"), True),
        ({"presets": "deletions"}, make_raw(eventType="com.oraclecloud.a.ListDeleted"), False),
        ({"presets": "api-keys,mfa"}, make_raw(eventType="com.oraclecloud.identityControlPlane.UploadApiKey"), True),
    ],
)
def test_each_condition_lets_its_events_pass(spec: dict[str, Any], raw: bytes, is_wanted: bool) -> None:
    """Each condition decides as documented for typical values, absent fields, unexpected types and hostile texts."""
    assert passes(FilterSpec(**spec), raw) is is_wanted


@pytest.mark.parametrize("name", ["principals", "resources", "addresses", "outcomes", "event_names", "presets"])
def test_an_excluded_event_never_passes(name: str) -> None:
    """An exclusion wins over the same condition, and does not affect events without the field."""
    value = {"addresses": "1.2.3.4", "outcomes": "failure", "presets": "sign-ins"}.get(name, "a")
    raw = make_raw(
        eventType="com.oraclecloud.IdentitySignOn.a",
        data__eventName="A",
        data__resourceName="a",
        data__response__status="500",
        data__identity={"principalName": "a", "ipAddress": "1.2.3.4"},
    )
    assert passes(FilterSpec(**{name: value}), raw)
    assert not passes(FilterSpec(**{name: value}, exclude=Criteria(**{name: value})), raw)
    assert not passes(FilterSpec(exclude=Criteria(**{name: value})), raw)
    assert passes(FilterSpec(exclude=Criteria(**{name: value})), make_raw(eventId="other"))


WORDS = ["alice", "Bob", "a*", "*", "[ab]*", "", "ocid1.user.oc1..x", "\ud800"]
TYPES = [
    "com.oraclecloud.identityControlPlane.UploadApiKey",
    "com.oraclecloud.IdentitySignOn.InteractiveLogin",
    "com.oraclecloud.IdentitySignOn.VerifyMfaToken",
    "com.oraclecloud.computeApi.LaunchInstance.begin",
    "",
]
DOMAIN_NAMES = ["sso.session.create.success", "sso.session.delete.success", "SSO.Authentication.Failure", "x.failure"]
STATUSES = ["200", "404", "500", "٤٠٤", "x", 404]
ADDRESSES = ["10.1.2.3", "192.0.2.1,10.1.2.3", "2001:db8::1", "::ffff:10.1.2.3", "nonsense", " 192.0.2.1 ,", ""]
TIMES = ["2025-12-01T00:00:00Z", "2025-12-01T12:00:00.5Z", "2025-12-02T00:00:00.000Z", "never"]


def maybe(values: list[Any]) -> st.SearchStrategy[Any]:
    """Draw one of some values, null, or a value of a wrong type."""
    return st.sampled_from([*values, *values, None, {"a": 1}])


RAWS = st.fixed_dictionaries(
    {
        "eventType": st.sampled_from([*TYPES, None]),
        "eventTime": maybe(TIMES),
        "data": st.none()
        | st.fixed_dictionaries(
            {
                "eventName": maybe(["UploadApiKey", "InteractiveLogin", *WORDS]),
                "compartmentName": maybe(WORDS),
                "resourceName": maybe(WORDS),
                "resourceId": maybe(WORDS),
                "message": maybe(["it failed", "Succeeded", "so so"]),
                "identity": st.none()
                | st.fixed_dictionaries(
                    {"principalName": maybe(WORDS), "principalId": maybe(WORDS), "ipAddress": maybe(ADDRESSES)}
                ),
                "response": st.none() | st.fixed_dictionaries({"status": maybe(STATUSES)}),
                "additionalDetails": st.none() | st.fixed_dictionaries({"eventId": maybe(DOMAIN_NAMES)}),
            }
        ),
    }
)


def choose(*values: str) -> st.SearchStrategy[tuple[str, ...]]:
    """Draw none, one or two of some values."""
    return st.lists(st.sampled_from(values), max_size=2).map(tuple)


GLOBS = choose("alice", "BOB", "a*", "?ob", "[!a]*", "ocid1.*")
CRITERIA = {
    "event_types": choose("Login", "^com", "loginfailure", "CreateApiKey", "Instance"),
    "event_names": choose("uploadapikey", "Interactive*", "sso.*", "LoginFailure", "SessionTimeout", "*"),
    "principals": GLOBS,
    "addresses": choose("10.0.0.0/8", "192.0.2.1, 2001:db8::/32", "::/0", "10.1.2.3"),
    "compartment_names": GLOBS,
    "resources": GLOBS,
    "outcomes": choose("success", "FAILURE,unknown"),
    "statuses": choose("404", "4xx", "400-599", "2xx, 500"),
}
SPECS = st.fixed_dictionaries(
    {
        **{name: st.just(()) | values for name, values in CRITERIA.items()},
        "event_after": st.sampled_from([None, None, "2025-12-01T00:00:00Z", "2025-12-01T12:00:00.5Z"]),
        "event_before": st.sampled_from([None, None, "2025-12-02T00:00:00Z", "2025-12-03T00:00:00Z"]),
        "exclude": st.just({}) | st.fixed_dictionaries({}, optional=CRITERIA),
    }
)


@given(SPECS, st.lists(RAWS, max_size=8))
@settings(max_examples=400)
def test_a_filter_agrees_with_its_naive_definition(spec: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """For any filter and events, exactly the events pass that a naive implementation of the rules lets pass."""
    lines = [json.dumps(event).encode() for event in events]
    expected = [naive_filter.is_wanted(escape_surrogates(event), spec) for event in events]
    event_filter = EventFilter(FilterSpec(**spec | {"exclude": Criteria(**spec["exclude"])}))
    served = parse_page(b"[" + b",".join(lines) + b"]")
    wanted = [event for event, passed in zip(served, expected, strict=True) if passed]
    assert event_filter.select(served) == wanted
    with_facts = event_filter.select(event_filter.parse_page(b"[" + b",".join(lines) + b"]"))
    assert [msgspec.structs.replace(event, facts=None) for event in with_facts] == wanted
    assert [event_filter.is_wanted(line) for line in lines] == expected
    assert [event_filter.is_wanted_by_facts(read_facts(line)) for line in lines] == expected


def escape_surrogates(value: Any) -> Any:
    """Return a value with lone surrogates replaced by their escapes."""
    if isinstance(value, dict):
        return {name: escape_surrogates(inner) for name, inner in value.items()}
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"addresses": "10.0.0.0/33"}, r"'10.0.0.0/33' is neither an address nor a network: /33"),
        ({"addresses": "10.0.0.256"}, r"'10.0.0.256'"),
        ({"addresses": "10.0.0.1,,10.0.0.2"}, "empty address"),
        ({"addresses": "2001:db8::/200"}, "/200"),
        ({"addresses": "localhost"}, "'localhost'"),
        ({"outcomes": "succes"}, "'succes' is not an outcome; did you mean success"),
        ({"outcomes": ""}, "empty outcome"),
        ({"statuses": "40"}, "'40' is not an HTTP status"),
        ({"statuses": "499-400"}, "'499-400' ends before it starts"),
        ({"statuses": "xx4"}, "'xx4'"),
        ({"presets": "sign-in"}, "'sign-in' is not a preset; did you mean sign-ins"),
        ({"presets": "zzz"}, "'zzz' is not a preset$"),
        ({"principals": " "}, "empty principal"),
        ({"event_names": ["a", ""]}, "empty event name"),
        ({"event_after": "7d"}, "'7d'"),
        ({"event_after": "2025-12-01T10:00:00"}, "'2025-12-01T10:00:00'"),
        ({"event_before": "2025-02-30"}, "'2025-02-30'"),
        ({"event_before": "30.02.25"}, "'30.02.25'"),
        ({"event_after": "2025-12-02", "event_before": "2025-12-01"}, "no event can be after"),
        ({"event_after": "2025-12-01", "event_before": "01.12.25"}, "no event can be after"),
        ({"exclude": Criteria(addresses="nowhere")}, "'nowhere'"),
        ({"exclude": Criteria(event_types="(")}, "position 0"),
    ],
)
def test_invalid_values_are_named(spec: dict[str, Any], words: str) -> None:
    """An invalid value is a usage error that names it and has a hint."""
    with pytest.raises(UsageError, match=words) as caught:
        EventFilter(FilterSpec(**spec))
    assert caught.value.hint


def test_a_filter_is_stored_as_typed() -> None:
    """A filter decodes equal to itself, omits empty fields, and accepts texts and lists alike."""
    spec = FilterSpec(principals="a", statuses=["4xx"], event_after="01.12.25", exclude=Criteria(outcomes=["unknown"]))
    data = msgspec.json.encode(spec)
    assert json.loads(data) == {
        "principals": ["a"],
        "statuses": ["4xx"],
        "event_after": "01.12.25",
        "exclude": {"outcomes": ["unknown"]},
    }
    assert msgspec.json.decode(data, type=FilterSpec) == spec
    assert msgspec.json.encode(FilterSpec()) == b"{}"
    assert str(spec) == "principal 'a'; status '4xx'; event time from '01.12.25'; not outcome 'unknown'"
    assert str(FilterSpec()) == "(all)"


def test_each_alias_has_one_notice() -> None:
    """Each alias has one notice, wherever and however often it was typed."""
    spec = FilterSpec(
        event_names=["loginfailure", "LaunchInstance"],
        event_types=["Compute|LoginFailure", ".*CreateApiKey$"],
        exclude=Criteria(event_names=["CreateApiKey"]),
    )
    first, second = EventFilter(spec).notices
    assert first.startswith("Audit does not record LoginFailure; the filter matches IdentitySignOn.InteractiveLogin, ")
    assert (
        "VerifyMfaToken with outcome failure; sso.session.create.failure, sso.authentication.failure instead" in first
    )
    assert second == "Audit does not record CreateApiKey; the filter matches identityControlPlane.UploadApiKey instead"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("LoginFailure", ("LoginFailure",)),
        ("compute|LOCKUSER|SessionStart", ("LockUser", "SessionStart")),
        ("LoginFailure$", ()),
        ("(LoginFailure)", ()),
        ("UploadApiKey", ()),
        ("", ()),
    ],
)
def test_only_plain_names_are_aliases(pattern: str, found: tuple[str, ...]) -> None:
    """A regular expression with other characters than names and bars contains no alias."""
    assert find_aliases(pattern) == found


def test_the_cache_of_decisions_is_bounded() -> None:
    """The cached decisions are limited in number and in the length of their names."""
    event_filter = EventFilter(["1"])
    for number in range(20_005):
        event_filter.is_wanted(make_raw(eventType=f"t{number}"))
    assert len(event_filter._decisions) <= 10_000
    before = len(event_filter._decisions)
    assert event_filter.is_wanted(make_raw(eventType="1" * 501))
    assert len(event_filter._decisions) == before


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'[{"eventType":"a",\n"data":{"message":"m"}} ,{"data":null}]',
        b'[{"eventType":"\xc3\xbc","data":{"response":{"status":404}}},{"eventType":"b"}]',
        b'[{"eventType":"\\ud800"},{"eventType":"b"}]',
    ],
)
def test_a_filter_parses_pages_as_without_one(body: bytes) -> None:
    """A filter's page parser returns the same events, whether facts could be read in the same pass or not."""
    event_filter = EventFilter(FilterSpec(statuses="404", outcomes="unknown,failure"))
    parsed = event_filter.parse_page(body)
    assert [msgspec.structs.replace(event, facts=None) for event in parsed] == parse_page(body)
    assert EventFilter(["a"]).parse_page is parse_page


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"[{}", b'["\xff"]', b"[{}]x", b"[" * 100_000])
def test_a_filter_rejects_bad_pages_as_without_one(body: bytes) -> None:
    """A filter's page parser rejects a bad page with the same message."""
    with pytest.raises(BadPage) as plain:
        parse_page(body)
    with pytest.raises(BadPage) as own:
        EventFilter(FilterSpec(statuses="404")).parse_page(body)
    assert str(own.value) == str(plain.value)


@given(st.lists(st.sampled_from([*TIMES, "2025-12-01T11:59:59.999999999Z", None]), max_size=6))
def test_a_span_keeps_its_events_and_those_without_a_time(times: list[str | None]) -> None:
    """A span includes its start, excludes its end, and keeps events without a readable time."""
    start, end = read_instant("2025-12-01T00:00:00Z"), read_instant("2025-12-01T12:00:00.5Z")
    events = [read_event(make_raw(eventTime=time)) for time in times]
    kept = {"2025-12-01T00:00:00Z", "2025-12-01T11:59:59.999999999Z", "never", None}
    expected = [event for event, time in zip(events, times, strict=True) if time in kept]
    assert TimeSpan(start, end).select(events) == expected


PEOPLE = ["anna.berg@example.com", "bob@example.com", "carol@example.com"]


def parse_people(spec: FilterSpec) -> tuple[EventFilter, list[Event]]:
    """Return a filter and a page of events of a few people, parsed as an export does."""
    event_filter = EventFilter(spec)
    body = json.dumps(
        [
            {
                "eventName": "x",
                "data": {"eventName": "GetUser", "identity": {"principalName": one, "ipAddress": "192.0.2.7"}},
            }
            for one in PEOPLE
        ]
    )
    return event_filter, event_filter.parse_page(body.encode())


@pytest.mark.parametrize(
    ("spec", "nearest"),
    [
        (FilterSpec(principals=("anna.berg",)), {"principal": ("anna.berg@example.com",)}),
        (FilterSpec(principals=("Bob",)), {"principal": ("bob@example.com",)}),
        (
            FilterSpec(principals=("carrol@example.com",)),
            {"principal": ("carol@example.com", "bob@example.com", "anna.berg@example.com")},
        ),
        (FilterSpec(principals=("zzz",)), {}),
        (FilterSpec(addresses=("192.0.2.8",)), {"address": ("192.0.2.7",)}),
        (FilterSpec(event_names=("GetUsr",)), {"event name": ("GetUser",)}),
        (FilterSpec(statuses=("404",)), {}),
    ],
)
def test_a_filter_without_matches_suggests_the_nearest_values(
    spec: FilterSpec, nearest: dict[str, tuple[str, ...]]
) -> None:
    """A filter that matched nothing names the values of its own fields that come nearest."""
    event_filter, events = parse_people(spec)
    assert event_filter.select(events) == []
    assert event_filter.suggest_values() == nearest


def test_a_filter_with_matches_suggests_nothing() -> None:
    """As soon as an event matches, no values are kept."""
    event_filter, events = parse_people(FilterSpec(principals=("bob@example.com",)))
    assert len(event_filter.select(events)) == 1
    assert event_filter.suggest_values() == {}
