import json
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.field_naming import (
    EVENT_MODEL,
    EXTRA_FIELDS,
    SDK_FIELDS,
    SHAPES,
    TO_API_SHAPE,
    FieldNaming,
    _event_decoder,
    _ModelWriter,
    _split_by_tokens,
    choose_shape,
    detect_naming,
    split_members,
    write_name,
)
from ociaudit.events.fields import read_instant

SEPARATORS = {"sdk": "_", "cli": "-"}
MODEL_PATHS = {
    EVENT_MODEL: (),
    "Data": ("data",),
    "Identity": ("data", "identity"),
    "Request": ("data", "request"),
    "Response": ("data", "response"),
    "StateChange": ("data", "stateChange"),
}
FREE_MAPS = [
    (*MODEL_PATHS[model], name)
    for model, fields in SDK_FIELDS.items()
    for name, kind in fields.items()
    if kind.startswith("dict")
]
LONE_SURROGATE = json.loads('"\\ud800"')

every_shape = pytest.mark.parametrize("shape", SHAPES)
derived_shape = pytest.mark.parametrize("shape", sorted(SEPARATORS))
every_model = pytest.mark.parametrize("model", MODEL_PATHS)


class Number(NamedTuple):
    """A number as its text, because its digits must not change."""

    text: str


def read_json(raw: bytes) -> Any:
    """Parse JSON without converting numbers, and reject a repeated key."""

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key is repeated"
        return dict(pairs)

    return json.loads(raw, parse_int=Number, parse_float=Number, object_pairs_hook=read_object)


def write_json(value: Any) -> bytes:
    """Return JSON, with numbers written as their text."""
    if isinstance(value, Number):
        return value.text.encode()
    if isinstance(value, dict):
        return b"{%b}" % b",".join(b"%b: %b" % (write_json(key), write_json(each)) for key, each in value.items())
    if isinstance(value, list):
        return b"[%b]" % b", ".join(map(write_json, value))
    return json.dumps(value).encode()


def convert(event: Any, shape: str = "sdk") -> Any:
    """Return an event after conversion to a shape."""
    return read_json(choose_shape(shape)(write_json(event)))


def convert_name(name: str, shape: str) -> str:
    """Return an API name in a derived shape, independently of the program."""
    return "".join(SEPARATORS[shape] + mark.lower() if mark.isupper() else mark for mark in name)


def put_at(path: tuple[str, ...], value: Any) -> Any:
    """Return an event that has nothing but a value at a path."""
    for name in reversed(path):
        value = {name: value}
    return value


def get_at(event: Any, path: tuple[str, ...], shape: str = "sdk") -> Any:
    """Return the value in a converted event at a path given in API names."""
    for name in path:
        event = event[convert_name(name, shape)]
    return event


TIME = "2019-09-18T00:10:59.252Z"
CONVERTED_TIME = "2019-09-18T00:10:59.252000+00:00"

scalars = (
    st.none()
    | st.booleans()
    | st.text(max_size=8)
    | st.text(st.characters(categories=["Cs", "Cc", "L"]), max_size=4)
    | st.integers().map(lambda number: Number(str(number)))
    | st.sampled_from(["1.0", "1.10", "-0", "-0.0", "1e999", "1E-400", "12" * 2500]).map(Number)
    | st.sampled_from([TIME, "2019-09-18T00:10:59.123456789Z", "{[,]}", '\\"', '"},', "\\"])
)
free_names = st.text(max_size=4) | st.sampled_from(["eventType", "event_type", "_self", LONE_SURROGATE])
free_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(free_names, inner, max_size=3),
    max_leaves=5,
)


@st.composite
def draw_object(draw: st.DrawFn, model: str) -> dict[str, Any]:
    """Draw an object of a model: some of its fields, of any type, among unknown ones."""
    fields = SDK_FIELDS[model]
    converted = [convert_name(name, shape) for name in fields for shape in SEPARATORS]
    others = [*converted, *(name + "_" for name in converted), *EXTRA_FIELDS.get(model, ()), "systemTags"]
    names = st.sampled_from([*fields]) | st.sampled_from(others) | free_names
    inner = [name for name, kind in fields.items() if kind in SDK_FIELDS]
    drawn = [*draw(st.lists(names, max_size=8, unique=True)), *filter(lambda _: draw(st.booleans()), inner)]
    return {
        name: draw(draw_object(fields[name]) | free_values if name in inner else free_values)
        for name in draw(st.permutations(list(dict.fromkeys(drawn))))
    }


events = draw_object(EVENT_MODEL)


def check_nothing_lost(served: dict[str, Any], converted: Any, model: str, shape: str) -> None:
    """Check that the fields of a model come first, in its order, followed by all others."""
    fields = SDK_FIELDS[model]
    names = [convert_name(name, shape) for name in fields]
    assert list(converted)[: len(fields)] == names
    for name, kind in fields.items():
        value, found = served.get(name), converted[convert_name(name, shape)]
        if kind in SDK_FIELDS and isinstance(value, dict):
            check_nothing_lost(value, found, kind, shape)
        else:
            assert found == (CONVERTED_TIME if kind == "datetime" and value == TIME else value)
    others = sorted(name for name in served if name not in fields)
    for name, (kept_name, value) in zip(others, list(converted.items())[len(fields) :], strict=True):
        assert value == served[name]
        assert kept_name == (name if name not in names else name.ljust(max(len(kept_name), len(name) + 1), "_"))


@given(events)
def test_the_shape_api_is_the_event_as_served(event: Any) -> None:
    """Shape `api` does not change a byte of an event."""
    assert choose_shape("api")(write_json(event)) == write_json(event)


@derived_shape
@given(event=events)
def test_no_field_is_lost(shape: str, event: Any) -> None:
    """Every served value is under its converted name, whatever its type, digit for digit."""
    check_nothing_lost(event, convert(event, shape), EVENT_MODEL, shape)


@derived_shape
@given(event=events)
def test_both_paths_write_the_same(shape: str, event: Any) -> None:
    """The lenient path writes the same bytes as the fast one, so the content of an event affects only the speed."""
    raw = write_json(event)
    assert _ModelWriter(EVENT_MODEL, SEPARATORS[shape]).write_leniently(raw) == choose_shape(shape)(raw)


@given(events)
def test_splitting_by_tokens_agrees_with_a_parser(event: Any) -> None:
    """Splitting by strings, brackets and commas alone finds the members that a parser finds."""
    raw = write_json(event)
    by_tokens = _split_by_tokens(raw)
    assert {name: bytes(value) for name, value in split_members(raw).items()} == by_tokens
    assert {name: read_json(value) for name, value in by_tokens.items()} == event


@every_shape
@given(event=events)
def test_one_line_stays_one_line(shape: str, event: Any) -> None:
    """A converted event has no line break."""
    assert b"\n" not in choose_shape(shape)(write_json(event))


def test_the_shape_sdk_is_snake_case() -> None:
    """Shape `sdk` has the fields of the models in snake case, and the values keep their bytes."""
    raw = (
        b'{"eventType":"com.oraclecloud.x","eventTime":"2019-09-18T00:10:59.252Z","data":{"message":" done",'
        b'"eventName":"X","stateChange":{"current":{"sizeInGBs": 1.10}}}}'
    )
    assert choose_shape("sdk")(raw) == (
        b'{"event_type":"com.oraclecloud.x","cloud_events_version":null,"event_type_version":null,"source":null,'
        b'"event_id":null,"event_time":"2019-09-18T00:10:59.252000+00:00","content_type":null,'
        b'"data":{"event_grouping_id":null,"event_name":"X","compartment_id":null,"compartment_name":null,'
        b'"resource_name":null,"resource_id":null,"availability_domain":null,"freeform_tags":null,'
        b'"defined_tags":null,"identity":null,"request":null,"response":null,'
        b'"state_change":{"previous":null,"current":{"sizeInGBs": 1.10}},"additional_details":null,'
        b'"message":" done"}}'
    )


def test_the_shape_cli_is_kebab_case() -> None:
    """Shape `cli` differs from shape `sdk` only in its hyphens."""
    raw = b'{"eventType":"x","data":{"identity":{"userAgent":"a_b"},"response":{"responseTime":null}}}'
    expected = choose_shape("sdk")(raw).replace(b"_", b"-").replace(b"a-b", b"a_b")
    assert choose_shape("cli")(raw) == expected
    assert b'"user-agent":"a_b"' in expected


@derived_shape
@every_model
def test_absent_fields_are_null(shape: str, model: str) -> None:
    """An object without fields is converted to all fields of its model, each null."""
    found = get_at(convert(put_at(MODEL_PATHS[model], {}), shape), MODEL_PATHS[model], shape)
    assert found == dict.fromkeys([convert_name(name, shape) for name in SDK_FIELDS[model]])


@derived_shape
@every_model
def test_a_null_model_is_null(shape: str, model: str) -> None:
    """A null model stays null instead of becoming an object of nulls."""
    assert get_at(convert(put_at(MODEL_PATHS[model], None), shape), MODEL_PATHS[model], shape) is None


@derived_shape
@pytest.mark.parametrize("path", FREE_MAPS, ids=".".join)
def test_free_maps_keep_their_keys(shape: str, path: tuple[str, ...]) -> None:
    """The keys of a free map do not change, even those that the SDK would rename."""
    free_map = {
        "eventType": {"userAgent": 1},
        "_self": 2,
        "self_uri": [{"responseTime": TIME}],
        "A-b_C": None,
    }
    found = convert(put_at(path, json.loads(json.dumps(free_map), parse_int=Number)), shape)
    assert get_at(found, path, shape) == json.loads(json.dumps(free_map), parse_int=Number)


@derived_shape
@every_model
def test_unknown_fields_follow_the_known_ones(shape: str, model: str) -> None:
    """Fields that the SDK does not know keep their names and follow the known ones at every level, sorted."""
    unknown = {
        "tagSlug": None,
        "systemTags": {"eventType": "x"},
        "Event-Type": "y",
        "message\n": LONE_SURROGATE,
    }
    found = get_at(convert(put_at(MODEL_PATHS[model], unknown), shape), MODEL_PATHS[model], shape)
    assert list(found.items())[len(SDK_FIELDS[model]) :] == sorted(unknown.items())


def test_a_name_that_is_taken_gets_underscores() -> None:
    """A served name that equals a converted name of the model gets underscores, and hides nothing."""
    event = {"event_type": "a", "event_type_": "b", "eventType": "c", "event-type": "d", "event_id": "e"}
    sdk, cli = convert(event, "sdk"), convert(event, "cli")
    assert (sdk["event_type"], sdk["event_type__"], sdk["event_type_"], sdk["event-type"]) == (
        "c",
        "a",
        "b",
        "d",
    )
    assert (sdk["event_id"], sdk["event_id_"]) == (None, "e")
    assert (cli["event-type"], cli["event-type_"], cli["event_type"], cli["event_type_"]) == (
        "c",
        "d",
        "a",
        "b",
    )


@derived_shape
@every_model
@pytest.mark.parametrize("value", ["x", "", "{}", True, [], [{"eventType": "x"}], Number("5"), Number("1.0")])
def test_a_model_of_another_type_is_kept(shape: str, model: str, value: Any) -> None:
    """A value of another type in place of an object stays as served."""
    assert get_at(convert(put_at(MODEL_PATHS[model], value), shape), MODEL_PATHS[model], shape) == value


@derived_shape
@pytest.mark.parametrize("value", [True, [], {}, {"eventTime": "x"}, Number("200"), Number("1e999")])
def test_a_field_of_another_type_is_kept(shape: str, value: Any) -> None:
    """A value of another type in place of a text or a time stays as served."""
    found = convert({"eventId": value, "eventTime": value, "data": {"freeformTags": value}}, shape)
    assert get_at(found, ("eventId",), shape) == value
    assert get_at(found, ("eventTime",), shape) == value
    assert get_at(found, ("data", "freeformTags"), shape) == value


@derived_shape
@pytest.mark.parametrize(
    ("served", "converted"),
    [
        (TIME, CONVERTED_TIME),
        ("2019-09-18T00:10:59Z", "2019-09-18T00:10:59+00:00"),
        ("2019-09-18T00:10:59.000Z", "2019-09-18T00:10:59+00:00"),
        ("2019-09-18T00:10:59.5Z", "2019-09-18T00:10:59.500000+00:00"),
        ("2019-09-18T00:10:59.252278Z", "2019-09-18T00:10:59.252278+00:00"),
        ("2019-09-18T00:10:59.252278000Z", "2019-09-18T00:10:59.252278+00:00"),
        ("2019-09-18T00:10:59+02:00", "2019-09-18T00:10:59+02:00"),
        ("2019-09-18T00:10:59.5-0930", "2019-09-18T00:10:59.500000-09:30"),
        ("2019-09-18T00:10:59-00:00", "2019-09-18T00:10:59+00:00"),
        ("2019-09-18T00:10:59", "2019-09-18T00:10:59+00:00"),
        ("2019-09-18t00:10:59z", "2019-09-18T00:10:59+00:00"),
        ("2019-09-18 00:10:59Z", "2019-09-18T00:10:59+00:00"),
    ],
)
def test_times_are_written_as_isoformat_does(shape: str, served: str, converted: str) -> None:
    """A converted time has six fractional digits or none, and keeps its offset, written with a colon."""
    found = convert({"eventTime": served, "data": {"response": {"responseTime": served}}}, shape)
    assert get_at(found, ("eventTime",), shape) == converted
    assert get_at(found, ("data", "response", "responseTime"), shape) == converted


@derived_shape
@pytest.mark.parametrize(
    "served",
    [
        "2019-09-18T00:10:59.1234567Z",
        "2019-09-18T00:10:59.123456001Z",
        "2019-02-30T00:00:00Z",
        "2019-09-18T24:00:00Z",
        "2016-12-31T23:59:60Z",
        "0000-01-01T00:00:00Z",
        "2019-09-18T00:10:59+24:00",
        "2019-09-18T00:10:590Z",
        "2019-09-18",
        "1568765459252",
        "２０１９-09-18T00:10:59Z",
        "2019-09-18T00:10:59Z ",
        "yesterday",
        "",
    ],
)
def test_other_times_stay_as_served(shape: str, served: str) -> None:
    """A time that cannot be converted without loss or doubt stays as served."""
    assert get_at(convert({"eventTime": served}, shape), ("eventTime",), shape) == served


@derived_shape
def test_a_lone_surrogate_stays_an_escape(shape: str) -> None:
    """A lone surrogate in a value or a name stays an escape, and the event stays valid UTF-8."""
    raw = rb'{"eventId":"i","data":{"identity":{"userAgent":"\ud800","\udfff":1},"eventName":"n"}}'
    with pytest.raises(ValueError, match="malformed"):
        _event_decoder.decode(raw)
    converted = choose_shape(shape)(raw)
    assert rb'"\ud800"' in converted
    assert get_at(json.loads(converted.decode()), ("data", "identity"), shape)["\udfff"] == 1


@derived_shape
@pytest.mark.parametrize("extra", [b'"source":null', b'"new" : "x"', rb'"\ud800" : "x"'])
def test_white_space_around_tokens_changes_no_field(shape: str, extra: bytes) -> None:
    """White space around an event and between its tokens changes no field, on either path."""
    raw = b' { "eventId" : "i" , "data" : { "eventName" : "n" , "identity" : { } } , %b }\t' % extra
    close = b'{"eventId":"i","data":{"eventName":"n","identity":{}},%b}' % extra.replace(b" ", b"")
    assert choose_shape(shape)(raw) == choose_shape(shape)(close)


@derived_shape
def test_a_deeply_nested_payload_is_kept(shape: str) -> None:
    """A payload nested too deeply for a parser is kept."""
    payload = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    raw = b'{"eventId":"i","data":{"response":{"status":"200","payload":%b}}}' % payload
    with pytest.raises(RecursionError):
        _event_decoder.decode(raw)
    converted = choose_shape(shape)(raw)
    assert b'"payload":%b,' % payload in converted
    assert b'"status":"200"' in converted


@derived_shape
def test_the_last_value_of_a_repeated_key_counts(shape: str) -> None:
    """A repeated key of a model has its last value on both paths; in a free map all its values stay."""
    data = b'"data":{"request":{"id":"x"}},"data":{"additionalDetails":{"k":1,"k":2}}'
    twice = b'{"eventId":"a",%b,"eventId":"b"}' % data
    quick, lenient = (choose_shape(shape)(raw) for raw in (twice, twice[:-1] + b',"new":0,"new":1}'))
    assert lenient == quick[:-1] + b',"new":1}'
    found = json.loads(quick)
    assert get_at(found, ("eventId",), shape) == "b"
    assert get_at(found, ("data", "request"), shape) is None
    assert b'{"k":1,"k":2}' in quick


@derived_shape
def test_escaped_names_are_unescaped(shape: str) -> None:
    """A field whose served name contains escapes is recognised on both paths."""
    quick, lenient = rb'{"event\u0049d":"i"}', rb'{"event\u0049d":"i","\ud800":1}'
    assert get_at(json.loads(choose_shape(shape)(quick)), ("eventId",), shape) == "i"
    assert get_at(json.loads(choose_shape(shape)(lenient)), ("eventId",), shape) == "i"


@pytest.mark.parametrize("name", EXTRA_FIELDS["Data"])
def test_known_fields_take_the_fast_path(name: str) -> None:
    """An event with every field of the SDK and every known extra field is converted in one pass."""
    event: dict[str, Any] = {}
    for model, path in MODEL_PATHS.items():
        level = event
        for part in path:
            level = level[part]
        level |= {field: {} if kind in SDK_FIELDS else "x" for field, kind in SDK_FIELDS[model].items()}
    event["data"][name] = "x"
    _event_decoder.decode(write_json(event))
    check_nothing_lost(event, convert(event), EVENT_MODEL, "sdk")


@pytest.mark.parametrize("model", EXTRA_FIELDS)
def test_extra_fields_are_sorted_and_unknown_to_the_sdk(model: str) -> None:
    """The extra fields are not fields of the SDK, and are in the order of unknown fields."""
    assert list(EXTRA_FIELDS[model]) == sorted(set(EXTRA_FIELDS[model]) - set(SDK_FIELDS[model]))


texts = st.text(max_size=5) | st.sampled_from([TIME, "event_type", "event-type", json.loads('"\\ud800"')])
plain_values = st.recursive(
    st.none() | st.booleans() | texts | st.integers(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=4,
)
free_maps = st.dictionaries(
    st.sampled_from(["event_name", "event-name", "ipAddress", "_self", "a_b"]), plain_values, max_size=3
)


@st.composite
def draw_model(draw: st.DrawFn, model: str) -> dict[str, Any]:
    """Draw an object of a model with some of the fields that the SDK knows."""
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


known_events = draw_model(EVENT_MODEL)


def to_api_shape(raw: bytes, naming: FieldNaming) -> bytes:
    """Return an event in shape `api`."""
    return TO_API_SHAPE[naming](split_members(raw))


def check_fields(served: dict[str, Any], back: dict[str, Any], model: str) -> None:
    """Check that every served field is back with its value, and that all others are null."""
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


@derived_shape
@given(event=known_events)
def test_a_round_trip_from_api_keeps_every_known_field(shape: FieldNaming, event: dict[str, Any]) -> None:
    """Conversion from shape `api` and back gives the same fields with the same values, and adds only nulls."""
    there = choose_shape("sdk" if shape == "sdk" else "cli")(json.dumps(event).encode())
    check_fields(event, json.loads(to_api_shape(there, shape)), EVENT_MODEL)


@derived_shape
@given(event=known_events)
def test_a_round_trip_to_api_gives_the_same_bytes(shape: FieldNaming, event: dict[str, Any]) -> None:
    """Conversion to shape `api` and back gives the same bytes."""
    converter = choose_shape("sdk" if shape == "sdk" else "cli")
    there = converter(json.dumps(event).encode())
    assert converter(to_api_shape(there, shape)) == there


@given(event=known_events)
def test_shape_api_needs_no_conversion(event: dict[str, Any]) -> None:
    """An event in shape `api` is unchanged by the conversions from the other shapes."""
    raw = json.dumps(event, separators=(",", ":")).encode()
    assert to_api_shape(raw, "sdk") == to_api_shape(raw, "cli") == raw


@derived_shape
@given(event=known_events)
def test_the_field_naming_is_detected(shape: str, event: dict[str, Any]) -> None:
    """Every shape is detected from a converted event, and shape `api` if the event has an identifying name."""
    assert (
        detect_naming(split_members(choose_shape("sdk" if shape == "sdk" else "cli")(json.dumps(event).encode())))
        == shape
    )
    identifying = {"eventType", "eventId", "eventTime", "cloudEventsVersion", "eventTypeVersion"}
    assert detect_naming(split_members(json.dumps(event).encode())) == (
        None if identifying.isdisjoint(event) else "api"
    )


@pytest.mark.parametrize(
    ("names", "naming"),
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
def test_the_field_naming_is_detected_by_identifying_names(names: set[str], naming: str | None) -> None:
    """The field naming is detected by identifying names, and `api` wins if an object has names of several."""
    assert detect_naming(dict.fromkeys(names, b"1")) == naming


def test_no_converted_name_hides_another() -> None:
    """If an object has a field under both names, both stay as they are."""
    raw = b'{"event_type":"a","data":{"event_name":"b","eventName":"c"},"event_id":"d"}'
    assert to_api_shape(raw, "sdk") == b'{"eventType":"a","data":{"event_name":"b","eventName":"c"},"eventId":"d"}'


def test_unknown_fields_keep_name_value_and_position() -> None:
    """Fields that the SDK does not know keep their names, values and positions, and numbers their digits."""
    raw = (
        b'{"event-id":"x","some-thing":{"event-id":1.10},"data":{"message":" M","sys_tags":{"a-b":1e999}},"\\ud800":0}'
    )
    assert to_api_shape(raw, "cli") == raw.replace(b'{"event-id":"x"', b'{"eventId":"x"')


@pytest.mark.parametrize("value", ["null", '"text"', "[1]", "17"])
def test_a_value_in_place_of_a_model_is_kept_in_shape_api(value: str) -> None:
    """A value in place of a model is unchanged by the conversion to shape `api`."""
    raw = f'{{"event_id":"x","data":{value}}}'.encode()
    assert to_api_shape(raw, "sdk") == raw.replace(b"event_id", b"eventId")


def test_cloud_events_get_audits_names() -> None:
    """A CloudEvents 1.0 event from Connector Hub gets Audit's names, and keeps all values and `oracle`."""
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
    """Any member name is written as JSON that parses to the same name."""
    assert json.loads(write_name(name)) == name
