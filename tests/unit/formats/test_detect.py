import json
from collections import Counter

import pytest
from hypothesis import example, given, reject
from hypothesis import strategies as st

from ociaudit.events.event import parse_page
from ociaudit.events.field_naming import TO_API_SHAPE, split_members
from ociaudit.formats import detect as detect_module
from ociaudit.formats.base import InvalidFile, Record
from ociaudit.formats.detect import ObjectDetector, compact_json, split_origin
from ociaudit.planning.shard import Target
from support.json_bodies import OBJECTS

TARGET = Target("us-ashburn-1", "ocid1.compartment.oc1..a")
ORIGIN = b'"origin":{"region":"us-ashburn-1","compartment":"ocid1.compartment.oc1..a"}'
CLOUD_EVENT = {
    "type": "T",
    "time": "2022-03-09T17:18:33.983Z",
    "id": "i",
    "source": "s",
    "specversion": "1.0",
    "data": {"eventName": "E", "compartmentId": "ocid1.compartment.oc1..other"},
    "oracle": {"compartmentid": "ocid1.compartment.oc1..a", "loggroupid": "_Audit"},
}
MILLISECONDS = 1646846313983


def detect(raw: bytes | dict[str, object]) -> Record:
    """Detect one object."""
    return ObjectDetector().detect([raw if isinstance(raw, bytes) else json.dumps(raw).encode()])[0]


def kind_of(raw: bytes) -> str:
    """Return the kind as which one object is counted."""
    detector = ObjectDetector()
    detector.detect([raw])
    (kind,) = [kind for kind, count in detector.kinds.items() if count]
    return kind


@given(OBJECTS)
def test_an_event_on_one_line_keeps_every_byte(text: str) -> None:
    """An event that the service sent and an export wrote is read back byte for byte, odd ones too."""
    raw = parse_page(f"[{text}]".encode())[0].raw
    head = raw[: raw.index(b"{") + 1]
    detectable = head + b'"eventType":"x"' + (b"," if raw[len(head) :].strip() != b"}" else b"") + raw[len(head) :]
    try:
        found = detect(detectable)
    except InvalidFile as error:
        assert "both an event and a list of events" in str(error)  # noqa: PT017 - what has events in it is refused
        reject()
    assert found == Record(detectable, None)
    assert kind_of(detectable) == "api"


@given(OBJECTS)
def test_the_origin_is_removed_again(text: str) -> None:
    """An event with the origin of `--with-origin` is split into its own bytes and that origin."""
    raw = parse_page(f"[{text}]".encode())[0].raw
    is_empty = not raw[:-1].strip().removeprefix(b"{").strip()
    for name in (b'"origin"', b'"origin_"'):
        with_origin = raw[:-1] + (b"" if is_empty else b",") + ORIGIN.replace(b'"origin"', name) + b"}"
        assert split_origin(with_origin) == (raw, TARGET)
        without = raw[:-1] + (b"" if is_empty else b",") + name + b":null}"
        assert split_origin(without) == (raw, None)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"eventType":"x"}',
        b'{"eventType":"x",%b,"a":1}' % ORIGIN,
        b'{"eventType":"x","data":{"a":1,%b}}' % ORIGIN,
        b'{"eventType":"x","origin":{"region":"a","compartment":"b","more":1}}',
        b'{"eventType":"x","origin":{"compartment":"b","region":"a"}}',
        b'{"eventType":"x","origin":{"region":"a"}}',
        b'{"eventType":"x","origin":{"region":1,"compartment":"b"}}',
        b'{"eventType":"x","a":"\\"origin\\":{\\"region\\":\\"a\\",\\"compartment\\":\\"b\\"}}"}',
        b'{"eventType":"x","a":"y,\\"origin\\":null}"}',
    ],
)
def test_another_origin_is_a_field_like_any_other(raw: bytes) -> None:
    """Only a last member with exactly region and compartment is ours; any other `origin` is kept."""
    assert detect(raw) == Record(raw, None)


def test_an_origin_with_white_space_is_ours_too() -> None:
    """Our origin is found in an export that another tool has reformatted."""
    event = {"eventType": "x", "origin": {"region": TARGET.region, "compartment": TARGET.compartment}}
    for layout in (json.dumps(event), json.dumps(event, indent=2), json.dumps(event, separators=(" ,", " : "))):
        assert detect(layout.encode()).origin == TARGET
        assert b"origin" not in detect(layout.encode()).raw


def test_an_event_formatted_for_reading_becomes_one_line() -> None:
    """The white space between the tokens of an event that spans lines is removed; that within texts is kept."""
    event = {"eventType": "a  b", "data": {"x": [1, {}], "y": "\n \u2028"}}
    assert detect(json.dumps(event, indent=2).encode()).raw == json.dumps(event, separators=(",", ":")).encode()
    surrogate = b'{\n "eventType" : "\\ud800 x" ,\r\n "a" : [ 1 , 2 ] }'
    assert detect(surrogate).raw == b'{"eventType":"\\ud800 x","a":[1,2]}'
    assert compact_json(surrogate) == b'{"eventType":"\\ud800 x","a":[1,2]}'


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b'{"eventType":"x"}', "api"),
        (b'{"data":{},"eventTime":null}', "api"),
        (b'{"event_id":"x"}', "sdk"),
        (b'{"event-id":"x"}', "cli"),
        (json.dumps(CLOUD_EVENT).encode(), "cloudevents"),
        (json.dumps({"data": {"datetime": 1, "logContent": CLOUD_EVENT}}).encode(), "cloudevents"),
        (json.dumps({"datetime": 1, "logContent": {"eventId": "x"}}).encode(), "api"),
        (b'{"logContent":"text"}', "unknown"),
        (b'{"logContent":{"a":1}}', "unknown"),
        (b'{"data":{"eventName":"x"}}', "unknown"),
        (b"{}", "unknown"),
    ],
)
def test_the_kind_follows_from_the_object_alone(raw: bytes, kind: str) -> None:
    """An object's own names decide its kind; an object without such a name is kept, and counted as unknown."""
    assert kind_of(raw) == kind
    if kind == "unknown" and b"logContent" not in raw:
        assert detect(raw).raw == raw


def test_a_wrapper_of_connector_hub_names_the_origin() -> None:
    """The region is `regionId`, the compartment is the log's own `oracle.compartmentid`, and neither is the event's."""
    record = detect({"datetime": MILLISECONDS, "logContent": CLOUD_EVENT, "regionId": "us-ashburn-1"})
    assert record.origin == TARGET
    event = json.loads(record.raw)
    assert event["eventType"] == "T"
    assert event["data"] == CLOUD_EVENT["data"]
    assert event["oracle"] == CLOUD_EVENT["oracle"]
    assert event["regionId"] == "us-ashburn-1"
    assert "datetime" not in event


@pytest.mark.parametrize(
    "wrapper",
    [
        {"datetime": MILLISECONDS, "logContent": CLOUD_EVENT},
        {"data": {"datetime": MILLISECONDS, "logContent": CLOUD_EVENT}},
        {"regionId": "us-ashburn-1", "logContent": {**CLOUD_EVENT, "oracle": None}},
        {"regionId": "us-ashburn-1", "logContent": {**CLOUD_EVENT, "oracle": {}}},
        {"regionId": 17, "logContent": CLOUD_EVENT},
        CLOUD_EVENT,
    ],
)
def test_half_an_origin_is_not_an_origin(wrapper: dict[str, object]) -> None:
    """Without a region or a compartment the origin is unknown; it is not guessed from the event."""
    assert detect(wrapper).origin is None


def test_other_members_of_a_wrapper_are_kept() -> None:
    """Members of a wrapper are kept under a free name, and so is a `datetime` that is not the event's time."""
    wrapper = {"datetime": 17, "logContent": CLOUD_EVENT, "source": "hub", "data": {"more": 1}}
    event = json.loads(detect(wrapper).raw)
    assert event["datetime"] == 17
    assert event["source"] == "s"
    assert event["source_"] == "hub"
    assert event["data_"] == {"more": 1}
    for odd in ("17", 1e3, None, -5, 10**30):
        assert json.loads(detect({"datetime": odd, "logContent": CLOUD_EVENT}).raw)["datetime"] == odd


@given(st.lists(st.sampled_from([b'{"eventType":"x"}', b'{"event_id":"x"}', b"{}", b'{"eventId":"x",%b}' % ORIGIN])))
def test_the_counts_add_up(raws: list[bytes]) -> None:
    """Every object becomes one record and counts as one kind; origins are counted separately."""
    detector = ObjectDetector()
    records = detector.detect(raws)
    assert len(records) == len(raws) == detector.kinds.total()
    assert detector.with_origin == sum(b"origin" in raw for raw in raws)
    given_origins = [TARGET] * len(raws)
    assert [each.origin for each in ObjectDetector().detect(raws, given_origins)] == given_origins


CLOUD_VALUES = st.one_of(
    st.none(),
    st.integers(-9, 9),
    st.text(max_size=4),
    st.lists(st.fixed_dictionaries({"eventId": st.text(max_size=2)}), max_size=2),
    st.dictionaries(st.sampled_from(["eventName", "origin", "eventType", "logContent", "x"]), st.text(max_size=3)),
)


@given(
    st.dictionaries(
        st.sampled_from(["data", "id", "type", "time", "specversion", "source", "oracle", "origin", "eventId", "x"]),
        CLOUD_VALUES,
    ),
    st.booleans(),
)
@example({"data": {}, "id": "i", "specversion": "1.0", "time": "t", "type": "x", "source": "s"}, False)
@example({"data": [{"eventId": "i"}], "id": "i", "specversion": "1.0", "time": "t", "type": "x"}, False)
@example({"data": {"eventType": "x"}, "id": "i", "specversion": "1.0", "time": "t", "type": "x"}, True)
def test_the_fast_way_of_cloud_events_gives_what_the_general_one_gives(members: dict, is_indented: bool) -> None:
    """A bare CloudEvent that is renamed quickly gets the same bytes as through all checks."""
    raw = json.dumps(members, indent=1 if is_indented else None).encode()
    quick = detect_module._rename_cloud_event(raw)
    if quick is not None:
        assert TO_API_SHAPE["cloudevents"](split_members(raw)) == quick
        detector = ObjectDetector()
        assert [detector._detect_event(raw, None)] == [Record(quick, None)]
        assert detector.kinds == Counter(cloudevents=1)
