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
    """A number by its text, because its digits are what must survive."""

    text: str


def read_json(raw: bytes) -> Any:
    """Read JSON without converting numbers, and refuse a key that comes twice."""

    def read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a key comes twice"
        return dict(pairs)

    return json.loads(raw, parse_int=Number, parse_float=Number, object_pairs_hook=read_object)


def write_json(value: Any) -> bytes:
    """Write JSON in which numbers are given by their text."""
    if isinstance(value, Number):
        return value.text.encode()
    if isinstance(value, dict):
        return b"{%b}" % b",".join(b"%b: %b" % (write_json(key), write_json(each)) for key, each in value.items())
    if isinstance(value, list):
        return b"[%b]" % b", ".join(map(write_json, value))
    return json.dumps(value).encode()


def converter(event: Any, shape: str = "sdk") -> Any:
    """Write an event, respell it and read the result."""
    return read_json(choose_shape(shape)(write_json(event)))


def apply(name: str, shape: str) -> str:
    """Spell a name of the API in a derived shape, by a way of its own."""
    return "".join(SEPARATORS[shape] + mark.lower() if mark.isupper() else mark for mark in name)


def put_at(target: tuple[str, ...], value: Any) -> Any:
    """Make an event that has nothing but a value at a place."""
    for name in reversed(target):
        value = {name: value}
    return value


def get_at(event: Any, target: tuple[str, ...], shape: str = "sdk") -> Any:
    """Find what stands in a respelled event at a place named as served."""
    for name in target:
        event = event[apply(name, shape)]
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
    """Draw an object of a model: some of its fields, of every type, among others that it does not know."""
    fields = SDK_FIELDS[model]
    spelled = [apply(name, shape) for name in fields for shape in SEPARATORS]
    others = [*spelled, *(name + "_" for name in spelled), *EXTRA_FIELDS.get(model, ()), "systemTags"]
    names = st.sampled_from([*fields]) | st.sampled_from(others) | free_names
    inner = [name for name, kind in fields.items() if kind in SDK_FIELDS]
    drawn = [*draw(st.lists(names, max_size=8, unique=True)), *filter(lambda _: draw(st.booleans()), inner)]
    return {
        name: draw(draw_object(fields[name]) | free_values if name in inner else free_values)
        for name in draw(st.permutations(list(dict.fromkeys(drawn))))
    }


events = draw_object(EVENT_MODEL)


def check_nothing_lost(served: dict[str, Any], respelled: Any, model: str, shape: str) -> None:
    """Check that the fields of a model come first, in its order, and all the others behind."""
    fields = SDK_FIELDS[model]
    spelled = [apply(name, shape) for name in fields]
    assert list(respelled)[: len(fields)] == spelled
    for name, kind in fields.items():
        value, found = served.get(name), respelled[apply(name, shape)]
        if kind in SDK_FIELDS and isinstance(value, dict):
            check_nothing_lost(value, found, kind, shape)
        else:
            assert found == (CONVERTED_TIME if kind == "datetime" and value == TIME else value)
    others = sorted(name for name in served if name not in fields)
    for name, (kept_name, value) in zip(others, list(respelled.items())[len(fields) :], strict=True):
        assert value == served[name]
        assert kept_name == (name if name not in spelled else name.ljust(max(len(kept_name), len(name) + 1), "_"))


@given(events)
def test_the_shape_api_is_the_event_as_served(event: Any) -> None:
    """In shape api not a byte of an event changes."""
    assert choose_shape("api")(write_json(event)) == write_json(event)


@derived_shape
@given(event=events)
def test_no_field_is_lost(shape: str, event: Any) -> None:
    """Every value that was served stands under its respelled name, whatever its type, to the digit."""
    check_nothing_lost(event, converter(event, shape), EVENT_MODEL, shape)


@derived_shape
@given(event=events)
def test_both_ways_write_the_same(shape: str, event: Any) -> None:
    """The tolerant way writes what the quick way writes, so what an event contains decides only the speed."""
    raw = write_json(event)
    assert _ModelWriter(EVENT_MODEL, SEPARATORS[shape]).write_leniently(raw) == choose_shape(shape)(raw)


@given(events)
def test_an_object_is_cut_by_its_marks_as_a_parser_cuts_it(event: Any) -> None:
    """Cutting by strings, brackets and commas alone finds the members that a parser finds."""
    raw = write_json(event)
    by_marks = _split_by_tokens(raw)
    assert {name: bytes(value) for name, value in split_members(raw).items()} == by_marks
    assert {name: read_json(value) for name, value in by_marks.items()} == event


@every_shape
@given(event=events)
def test_one_line_stays_one_line(shape: str, event: Any) -> None:
    """A respelled event has no line break."""
    assert b"\n" not in choose_shape(shape)(write_json(event))


def test_the_sdk_spelling_is_snake_case() -> None:
    """In shape sdk the fields of the models are in snake case and the values keep their bytes."""
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


def test_the_cli_spelling_is_kebab_case() -> None:
    """The shape cli differs from the shape sdk in its hyphens only."""
    raw = b'{"eventType":"x","data":{"identity":{"userAgent":"a_b"},"response":{"responseTime":null}}}'
    expected = choose_shape("sdk")(raw).replace(b"_", b"-").replace(b"a-b", b"a_b")
    assert choose_shape("cli")(raw) == expected
    assert b'"user-agent":"a_b"' in expected


@derived_shape
@every_model
def test_absent_fields_are_null(shape: str, model: str) -> None:
    """An object without fields becomes all the fields of its model, each of them null."""
    found = get_at(converter(put_at(MODEL_PATHS[model], {}), shape), MODEL_PATHS[model], shape)
    assert found == dict.fromkeys([apply(name, shape) for name in SDK_FIELDS[model]])


@derived_shape
@every_model
def test_a_null_model_is_null(shape: str, model: str) -> None:
    """A model that is null stays null instead of becoming an object of nulls."""
    assert get_at(converter(put_at(MODEL_PATHS[model], None), shape), MODEL_PATHS[model], shape) is None


@derived_shape
@pytest.mark.parametrize("target", FREE_MAPS, ids=".".join)
def test_free_maps_keep_their_keys(shape: str, target: tuple[str, ...]) -> None:
    """The keys of a free map are no fields: their names stay, even those that the SDK would rename."""
    free_map = {
        "eventType": {"userAgent": 1},
        "_self": 2,
        "self_uri": [{"responseTime": TIME}],
        "A-b_C": None,
    }
    found = converter(put_at(target, json.loads(json.dumps(free_map), parse_int=Number)), shape)
    assert get_at(found, target, shape) == json.loads(json.dumps(free_map), parse_int=Number)


@derived_shape
@every_model
def test_unknown_fields_are_kept_behind(shape: str, model: str) -> None:
    """At every level the fields that the SDK does not know keep their names and follow behind, sorted."""
    unknown = {
        "tagSlug": None,
        "systemTags": {"eventType": "x"},
        "Event-Type": "y",
        "message\n": LONE_SURROGATE,
    }
    found = get_at(converter(put_at(MODEL_PATHS[model], unknown), shape), MODEL_PATHS[model], shape)
    assert list(found.items())[len(SDK_FIELDS[model]) :] == sorted(unknown.items())


def test_a_name_that_is_taken_gets_underscores() -> None:
    """A served name that is a new spelling of a field of the model is made free, and hides nothing."""
    event = {"event_type": "a", "event_type_": "b", "eventType": "c", "event-type": "d", "event_id": "e"}
    sdk, cli = converter(event, "sdk"), converter(event, "cli")
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
    """Where an object is expected, a value of another type stays as it was served."""
    assert get_at(converter(put_at(MODEL_PATHS[model], value), shape), MODEL_PATHS[model], shape) == value


@derived_shape
@pytest.mark.parametrize("value", [True, [], {}, {"eventTime": "x"}, Number("200"), Number("1e999")])
def test_a_field_of_another_type_is_kept(shape: str, value: Any) -> None:
    """Where a text or a time is expected, a value of another type stays as it was served."""
    found = converter({"eventId": value, "eventTime": value, "data": {"freeformTags": value}}, shape)
    assert get_at(found, ("eventId",), shape) == value
    assert get_at(found, ("eventTime",), shape) == value
    assert get_at(found, ("data", "freeformTags"), shape) == value


@derived_shape
@pytest.mark.parametrize(
    ("served", "respelled"),
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
def test_times_are_written_as_isoformat_does(shape: str, served: str, respelled: str) -> None:
    """A time has a fraction of six digits or none, and an offset with a colon; it keeps its offset."""
    found = converter({"eventTime": served, "data": {"response": {"responseTime": served}}}, shape)
    assert get_at(found, ("eventTime",), shape) == respelled
    assert get_at(found, ("data", "response", "responseTime"), shape) == respelled


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
    """A time that cannot be respelled without loss or doubt stays the text that it was."""
    assert get_at(converter({"eventTime": served}, shape), ("eventTime",), shape) == served


@derived_shape
def test_a_lone_surrogate_stays_an_escape(shape: str) -> None:
    """Half of a surrogate pair, in a value or in a name, comes through, and the event stays valid UTF-8."""
    raw = rb'{"eventId":"i","data":{"identity":{"userAgent":"\ud800","\udfff":1},"eventName":"n"}}'
    with pytest.raises(ValueError, match="malformed"):
        _event_decoder.decode(raw)
    respelled = choose_shape(shape)(raw)
    assert rb'"\ud800"' in respelled
    assert get_at(json.loads(respelled.decode()), ("data", "identity"), shape)["\udfff"] == 1


@derived_shape
@pytest.mark.parametrize("extra", [b'"source":null', b'"new" : "x"', rb'"\ud800" : "x"'])
def test_white_space_around_tokens_is_no_obstacle(shape: str, extra: bytes) -> None:
    """White space around an event and between its tokens changes no field, in either way."""
    raw = b' { "eventId" : "i" , "data" : { "eventName" : "n" , "identity" : { } } , %b }\t' % extra
    close = b'{"eventId":"i","data":{"eventName":"n","identity":{}},%b}' % extra.replace(b" ", b"")
    assert choose_shape(shape)(raw) == choose_shape(shape)(close)


@derived_shape
def test_depth_is_no_obstacle(shape: str) -> None:
    """A payload nested deeper than any parser follows is kept."""
    payload = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
    raw = b'{"eventId":"i","data":{"response":{"status":"200","payload":%b}}}' % payload
    with pytest.raises(RecursionError):
        _event_decoder.decode(raw)
    respelled = choose_shape(shape)(raw)
    assert b'"payload":%b,' % payload in respelled
    assert b'"status":"200"' in respelled


@derived_shape
def test_of_a_key_that_comes_twice_the_last_counts(shape: str) -> None:
    """A repeated key of a model has its last value, in both ways; in a free map all its values stay."""
    data = b'"data":{"request":{"id":"x"}},"data":{"additionalDetails":{"k":1,"k":2}}'
    twice = b'{"eventId":"a",%b,"eventId":"b"}' % data
    quickly, tolerantly = (choose_shape(shape)(raw) for raw in (twice, twice[:-1] + b',"new":0,"new":1}'))
    assert tolerantly == quickly[:-1] + b',"new":1}'
    found = json.loads(quickly)
    assert get_at(found, ("eventId",), shape) == "b"
    assert get_at(found, ("data", "request"), shape) is None
    assert b'{"k":1,"k":2}' in quickly


@derived_shape
def test_escaped_names_are_the_names_they_say(shape: str) -> None:
    """A field whose served name is written with escapes is that field, in both ways."""
    quick, tolerant = rb'{"event\u0049d":"i"}', rb'{"event\u0049d":"i","\ud800":1}'
    assert get_at(json.loads(choose_shape(shape)(quick)), ("eventId",), shape) == "i"
    assert get_at(json.loads(choose_shape(shape)(tolerant)), ("eventId",), shape) == "i"


@pytest.mark.parametrize("name", EXTRA_FIELDS["Data"])
def test_what_audit_is_known_to_write_goes_the_quick_way(name: str) -> None:
    """An event in which every field is known, or known to be seen beside the SDK's, is read in one pass."""
    event: dict[str, Any] = {}
    for model, target in MODEL_PATHS.items():
        level = event
        for part in target:
            level = level[part]
        level |= {field: {} if kind in SDK_FIELDS else "x" for field, kind in SDK_FIELDS[model].items()}
    event["data"][name] = "x"
    _event_decoder.decode(write_json(event))
    check_nothing_lost(event, converter(event), EVENT_MODEL, "sdk")


@pytest.mark.parametrize("model", EXTRA_FIELDS)
def test_the_fields_seen_beside_are_sorted_and_unknown(model: str) -> None:
    """The fields listed as seen beside the SDK's are none of them, and in the order of unknown fields."""
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


known_events = draw_model(EVENT_MODEL)


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


@derived_shape
@given(event=known_events)
def test_a_spelling_and_back_gives_every_known_field(shape: FieldNaming, event: dict[str, Any]) -> None:
    """From the API's spelling to another tool's and back: the same fields with the same values, and nulls at most."""
    there = choose_shape("sdk" if shape == "sdk" else "cli")(json.dumps(event).encode())
    check_fields(event, json.loads(to_api_shape(there, shape)), EVENT_MODEL)


@derived_shape
@given(event=known_events)
def test_back_and_there_gives_the_same_bytes(shape: FieldNaming, event: dict[str, Any]) -> None:
    """From another tool's spelling to the API's and back: the same bytes."""
    converter = choose_shape("sdk" if shape == "sdk" else "cli")
    there = converter(json.dumps(event).encode())
    assert converter(to_api_shape(there, shape)) == there


@given(event=known_events)
def test_what_is_spelled_as_the_api_does_has_nothing_to_change(event: dict[str, Any]) -> None:
    """Every field of the API's spelling keeps its name under the other spellings' rules, and its value its bytes."""
    raw = json.dumps(event, separators=(",", ":")).encode()
    assert to_api_shape(raw, "sdk") == to_api_shape(raw, "cli") == raw


@derived_shape
@given(event=known_events)
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
def test_a_value_in_place_of_a_model_is_kept_in_shape_api(value: str) -> None:
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
