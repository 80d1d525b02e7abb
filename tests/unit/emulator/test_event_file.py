import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit_emulator.event_file import EventFileError, ScanError, open_event_file, scan_events
from ociaudit_emulator.settings import PageSize, Settings
from ociaudit_emulator.tenancy import make_tenancy
from support.emulated_service import EmulatedService

TENANCY = make_tenancy(1)
START, END = "2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z"
PAYMENTS = next(one.id for one in TENANCY.compartments if one.name == "payments")

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.sampled_from(["{", "}],[", '\\"', "\ud800"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
KEYS = st.text() | st.sampled_from(["eventTime", "cloudEventsVersion", "eventId", "compartmentId"])
OBJECTS = st.dictionaries(KEYS, JSON_VALUES, max_size=5)
LAYOUTS = st.sampled_from([None, 0, 1, "\t"])


def split(content):
    """The elements of a file, as bytes."""
    return [content[start:end] for start, end in scan_events(content)]


def make_event(time, compartment="ocid1.compartment.oc1..elsewhere", **fields):
    """A small event with a time and a compartment."""
    return {
        "eventType": "com.oraclecloud.x.Y",
        "cloudEventsVersion": "0.1",
        "eventTime": time,
        "data": {"compartmentId": compartment},
        **fields,
    }


def write_lines(path, events):
    """A file with one event per line."""
    path.write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in events))
    return path


@settings(max_examples=60)
@given(
    st.lists(st.tuples(OBJECTS, LAYOUTS), max_size=6), st.sampled_from(["[{}]", " [\n{}\r\n]\n", "\n{}\n"]), st.data()
)
def test_any_file_is_split_into_its_exact_elements(objects, frame, data):
    """Arrays and sequences of objects in any layout are split into their exact bytes."""
    elements = [json.dumps(one, indent=layout).encode() for one, layout in objects]
    is_array = "[" in frame
    gaps = [",", ",\n", " ,\r\n\t"] if is_array else ["\n", "\r\n", "\n\n"]
    before, after = frame.split("{}")
    content = before.encode()
    for number, element in enumerate(elements):
        content += (data.draw(st.sampled_from(gaps)).encode() if number else b"") + element
    content += after.encode()
    assert split(content) == elements


@pytest.mark.parametrize("frame", ["[\n{}\n]\n", "{}\n"])
def test_a_long_file_of_lines_is_split_exactly(frame):
    """Beyond the elements that are parsed, unusual lines are split exactly as well."""
    plain = json.dumps(make_event(START, nested=[{"a": [1, 2]}, {"b": "}{ ]["}])).encode()
    odd = [
        json.dumps(make_event(START, agent="}} ]] {{{")).encode(),
        json.dumps(make_event(START, agent="]")).encode(),
        json.dumps(make_event(START), indent=1).encode(),
        b"{}",
    ]
    events = [plain] * 300 + odd + [plain]
    separator = b",\n" if "[" in frame else b"\n"
    before, after = frame.split("{}")
    assert split(before.encode() + separator.join(events) + after.encode()) == events


def test_two_events_on_a_late_line_are_two():
    """A line with two events, after many lines with one, is split in two."""
    plain = json.dumps(make_event(START)).encode()
    content = b"[\n" + b",\n".join([plain] * 300) + b",\n" + plain + b"," + plain + b"\n]"
    assert split(content) == [plain] * 302


def test_a_line_with_several_events_is_split():
    """An array on one line, and events that share a line, are split like any other."""
    events = [json.dumps(make_event(START, number=number)).encode() for number in range(5)]
    content = b"[" + b",".join(events[:3]) + b",\n" + b",".join(events[3:]) + b"\n]"
    assert split(content) == events


def test_brackets_in_strings_do_not_confuse_the_scan():
    """Brackets inside strings are text, even where a line looks like a whole event."""
    event = json.dumps(make_event(START, agent="}} ]] {{{"), indent=1).encode()
    assert split(b"[" + event + b",\n" + event + b"]") == [event, event]


@pytest.mark.parametrize("content", [b"", b"[]", b" \n[ ]\n", b"\n\n"])
def test_a_file_without_events_is_valid(content):
    """An empty file and an empty array hold no events."""
    assert split(content) == []


@pytest.mark.parametrize(
    ("content", "byte"),
    [
        (b"[1]", "byte 1"),
        (b"hello", "byte 0"),
        (b'[{"a":1}', "byte 8"),
        (b'[{"a":1} {"a":2}]', "byte 9"),
        (b'[{"a":1},]', "byte 9"),
        (b'{"a":1}\n{"a":', "byte 8"),
        (b'[{"a":' + b"[" * 100_000, "byte 1"),
    ],
)
def test_a_defect_in_the_file_is_reported_with_its_position(content, byte):
    """An element that is not a JSON object stops the scan, with its position in bytes."""
    with pytest.raises(ScanError, match=byte):
        split(content)


def test_events_of_a_file_are_served_byte_for_byte(tmp_path):
    """A page holds the bytes of the file, escapes and whitespace included."""
    odd = b'{ "eventTime" : "2025-12-01T10:00:00.5Z",\n "agent": "\\ud800 \\u00e4 \xc3\xa4" , "n": 1.10E+2 }'
    plain = json.dumps(make_event("2025-12-01T09:00:00Z")).encode()
    path = tmp_path / "events.json"
    path.write_bytes(b"[\n" + odd + b" ,\n" + plain + b"\n]\n")
    service = EmulatedService(events_file=path, is_shuffling=False)
    assert service.list_all_events(service.tenancy.id, START, END) == [plain, odd]


def test_each_event_is_in_the_minute_of_its_time(tmp_path):
    """A window holds the events whose eventTime is in it, offsets and missing times included."""
    times = ["2025-12-01T10:00:59.999Z", "2025-12-01T12:01:00+02:00", None, "2025-12-01T10:02:00Z", "soon"]
    events = [make_event(time, number=number) for number, time in enumerate(times)]
    service = EmulatedService(events_file=write_lines(tmp_path / "e.ndjson", events), is_shuffling=False)

    def list_numbers(start, end):
        found = service.list_all_events(service.tenancy.id, f"2025-12-01T{start}:00Z", f"2025-12-01T{end}:00Z")
        return [json.loads(event)["number"] for event in found]

    assert list_numbers("10:00", "10:01") == [0]
    assert list_numbers("10:01", "10:02") == [1, 2]
    assert list_numbers("10:02", "10:03") == [3, 4]
    assert list_numbers("09:00", "11:00") == [0, 1, 2, 3, 4]


def test_a_time_inside_the_data_is_not_the_events_own(tmp_path):
    """When an event has another eventTime at a deeper level, the outer one counts."""
    event = {"data": {"request": {"eventTime": "2025-12-05T00:00:00Z"}}, **make_event("2025-12-01T10:00:00Z")}
    event["data"] = {"payload": {"eventTime": "2025-12-05T00:00:00Z"}}
    service = EmulatedService(events_file=write_lines(tmp_path / "e.ndjson", [event]))
    assert len(service.list_all_events(service.tenancy.id, START, END)) == 1


def test_events_go_to_the_compartment_that_they_name(tmp_path):
    """An event of a compartment of the tenancy is in that compartment, and any other is in root."""
    nested = make_event(START, PAYMENTS, response={"compartmentId": TENANCY.id})
    events = [make_event(START, PAYMENTS), nested, make_event(START), make_event(START, TENANCY.id)]
    service = EmulatedService(events_file=write_lines(tmp_path / "e.ndjson", events))
    assert len(service.list_all_events(PAYMENTS, START, END)) == 2
    assert len(service.list_all_events(service.tenancy.id, START, END)) == 2
    assert service.list_all_events(PAYMENTS, START, END, region="ap-tokyo-1") == []


def test_all_events_can_be_assigned_to_one_target(tmp_path):
    """With --events-compartment and --events-region, every event is in that target."""
    path = write_lines(tmp_path / "e.ndjson", [make_event(START, PAYMENTS), make_event(START)])
    security = next(one.id for one in TENANCY.compartments if one.name == "security")
    service = EmulatedService(events_file=path, events_compartment=security, events_region="ap-tokyo-1")
    assert len(service.list_all_events(security, START, END, region="ap-tokyo-1")) == 2
    assert service.list_all_events(PAYMENTS, START, END) == []


def test_each_region_can_have_a_file(tmp_path):
    """With --events-also, another region serves the events of its own file, and only those."""
    home = write_lines(tmp_path / "home.ndjson", [make_event(START, PAYMENTS)])
    tokyo = write_lines(tmp_path / "tokyo.ndjson", [make_event(START, PAYMENTS), make_event(START, PAYMENTS)])
    service = EmulatedService(events_file=home, more_events=(("ap-tokyo-1", tokyo),))
    assert len(service.list_all_events(PAYMENTS, START, END)) == 1
    assert len(service.list_all_events(PAYMENTS, START, END, region="ap-tokyo-1")) == 2
    assert service.list_all_events(PAYMENTS, START, END, region="eu-frankfurt-1") == []
    for region in ("us-ashburn-1", "mars-1"):
        with pytest.raises(EventFileError, match=f"{region}"):
            EmulatedService(events_file=home, more_events=((region, tokyo),))
    with pytest.raises(EventFileError, match="--events FILE"):
        EmulatedService(more_events=(("ap-tokyo-1", tokyo),))


def test_quiet_compartments_hold_only_the_events_of_the_file(tmp_path):
    """Additional compartments exist, can be read, and hold the file's events and no others."""
    names = {one.name: one.id for one in make_tenancy(1, more_compartments=300).compartments}
    path = write_lines(tmp_path / "e.ndjson", [make_event(START, names["quiet-0300"])])
    service = EmulatedService(events_file=path, more_compartments=300)
    assert len(service.tenancy.compartment_by_id) == len(TENANCY.compartments) + 300
    assert len(service.list_all_events(names["quiet-0300"], START, END)) == 1
    assert service.list_all_events(names["quiet-0001"], START, END) == []
    synthetic = EmulatedService(more_compartments=1)
    assert synthetic.list_all_events(names["quiet-0001"], "2025-12-01T00:00:00Z", "2025-12-05T00:00:00Z") == []


@pytest.mark.parametrize("size", [1, 7, 500])
def test_pages_of_any_size_hold_the_file(tmp_path, size):
    """The pages of an unsorted file hold its events in the order of their minutes."""
    minutes = [(number * 37) % 600 for number in range(600)]
    events = [make_event(f"2025-12-01T{at // 60:02d}:{at % 60:02d}:00Z", number=at) for at in minutes]
    path = write_lines(tmp_path / "e.ndjson", events)
    service = EmulatedService(events_file=path, page_size=PageSize(size, size), is_shuffling=False)
    found = service.list_all_events(service.tenancy.id, START, END)
    assert [json.loads(event)["number"] for event in found] == sorted(minutes)


def test_events_of_a_file_never_expire(tmp_path):
    """A file's events can be read however old they are, unless a retention period is set."""
    path = write_lines(tmp_path / "e.ndjson", [make_event("2019-09-18T00:10:59.252Z")])
    window = ("2019-09-01T00:00:00Z", "2019-10-01T00:00:00Z")
    for retention, status in ((None, 200), (90, 400)):
        service = EmulatedService(events_file=path, retention_days=retention)
        assert service.list_events(service.tenancy.id, *window).status == status


@pytest.mark.parametrize("kind", ["duplicate_across", "duplicate_within", "same_id_other_bytes", "empty_page"])
def test_faults_apply_to_events_of_a_file(tmp_path, kind):
    """Scripted faults apply to pages of a file as they do to generated ones."""
    events = [make_event(f"2025-12-{day:02d}T10:00:00Z", eventId=str(day)) for day in range(1, 10)]
    service = EmulatedService(events_file=write_lines(tmp_path / "e.ndjson", events))
    service.add_fault(kind)
    service.list_all_events(service.tenancy.id, "2025-12-03T00:00:00Z", "2025-12-05T00:00:00Z")
    assert service.fault_states()[0]["completed"]


def test_an_empty_file_is_an_empty_tenancy(tmp_path):
    """An empty file serves no events."""
    path = tmp_path / "e.ndjson"
    path.touch()
    service = EmulatedService(events_file=path)
    assert service.list_all_events(service.tenancy.id, START, END) == []


@pytest.mark.parametrize(
    ("content", "options", "expected"),
    [
        (None, {}, "choose a readable file"),
        (b"[1]", {}, "provide a JSON array of events, or one event per line"),
        (b"[]", {"events_region": "mars-1"}, "--events-region mars-1"),
        (b"[]", {"events_compartment": "x"}, "--events-compartment x"),
    ],
)
def test_a_file_that_cannot_be_served_is_rejected_with_a_hint(tmp_path, content, options, expected):
    """A missing or invalid file, and an unknown target for it, stop the start with a hint."""
    path = tmp_path / "events.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EventFileError, match=expected):
        open_event_file(path, TENANCY, Settings(**options))


def test_the_file_is_not_copied(tmp_path):
    """A large file is mapped, and a page returns views of it."""
    path = write_lines(tmp_path / "e.ndjson", [make_event(START, number=number) for number in range(1000)])
    source = open_event_file(path, TENANCY, Settings())
    (found,) = source._index.values()
    assert len(found.offsets) == 1000
    assert isinstance(source._view[0:10], memoryview)
