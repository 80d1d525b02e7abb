"""What changes while time passes: the clock, which events have appeared, their bytes, and the tenancy."""

import json
from email.utils import parsedate_to_datetime
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from ociaudit_emulator.command_line import main
from ociaudit_emulator.control import ControlError
from ociaudit_emulator.event_shape import reserialise
from ociaudit_emulator.settings import PageSize
from ociaudit_emulator.special_events import HOSTILE_TEXTS
from ociaudit_emulator.time_formats import format_time_ms, parse_time_ms
from support.emulated_service import NOW, NOW_SECONDS, EmulatedService
from support.emulator import read_seen_event, split_array

DAY = ("2025-12-09T00:00:00Z", "2025-12-10T00:00:00Z")
HALF = "2025-12-09T12:00:00Z"
HOUR_MS = 3_600_000


def control(service, method, name, content=None):
    """The JSON that a control request returns."""
    body = b"" if content is None else json.dumps(content).encode()
    return json.loads(service.assembly.control.respond(method, f"/_emulator/{name}", body).body)


def read_truth(service, compartment_id, at=None, window=DAY, region="us-ashburn-1"):
    """The truth about a window."""
    query = f"region={region}&compartmentId={compartment_id}&startTime={window[0]}&endTime={window[1]}"
    parts = service.assembly.control.stream_events(f"/_emulator/truth?{query}" + (f"&at={at}" if at else ""))
    return [read_seen_event(one) for one in split_array(b"".join(parts))]


def list_day(service, compartment_id, region=""):
    """The set of the events that the service lists for a day."""
    return set(service.list_all_events(compartment_id, *DAY, region=region))


def list_names(service):
    """The compartments that the service lists, with their states."""
    page = json.loads(
        service.get(
            "/20160918/compartments",
            compartmentId=service.tenancy.id,
            accessLevel="ANY",
            compartmentIdInSubtree="true",
            limit="1000",
        ).body
    )
    return {one["name"]: one["lifecycleState"] for one in page}


@pytest.fixture
def payments(service):
    """The compartment with the most events."""
    return service.find_compartment("payments")


def test_the_date_of_a_response_follows_a_clock_that_was_set(service):
    """The clock advances and goes back on request, and the Date header of a response with it."""
    for change, expected in [({"advance": "3h"}, 3 * 3600), ({"advance": "-1d"}, -21 * 3600), ({"now": NOW}, 0)]:
        state = control(service, "POST", "clock", change)
        assert state["now"] == format_time_ms((NOW_SECONDS + expected) * 1000)
        response = service.list_events(service.tenancy.id, *DAY)
        assert parsedate_to_datetime(response.headers["Date"]).timestamp() == NOW_SECONDS + expected


def test_a_running_clock_moves_with_the_machines(service):
    """A clock that runs keeps its distance to the machine's clock, and DELETE returns to the clock of the start."""
    control(service, "POST", "clock", {"now": "2025-12-01T00:00:00Z", "isRunning": True})
    service.seconds += 90
    assert control(service, "GET", "clock")["now"] == "2025-12-01T00:01:30.000Z"
    control(service, "POST", "clock", {"isRunning": False})
    service.seconds += 90
    assert control(service, "GET", "clock")["now"] == "2025-12-01T00:01:30.000Z"
    assert control(service, "DELETE", "clock")["now"] == NOW.replace("Z", ".000Z")


def test_the_real_clock_adds_no_date():
    """Without a clock of its own the emulator leaves the Date header to the server."""
    service = EmulatedService(now_ms=None)
    assert "Date" not in service.list_events(service.tenancy.id, *DAY).headers


def test_dates_of_signatures_are_checked_against_the_chosen_clock(service):
    """A signature's date is compared with the machine's clock, or with the service's, with any tolerance."""

    def read_status():
        return service.list_events(service.tenancy.id, *DAY).status

    control(service, "POST", "clock", {"advance": "2h"})
    assert read_status() == 200
    control(service, "POST", "clock", {"signatureClock": "service"})
    assert read_status() == 401
    control(service, "POST", "clock", {"skewToleranceSeconds": 7200})
    assert read_status() == 200
    control(service, "POST", "clock", {"skewToleranceSeconds": 7199})
    assert read_status() == 401
    control(service, "DELETE", "clock")
    assert read_status() == 200


def test_delayed_events_appear_when_the_truth_says(payments):
    """At each instant the service lists exactly the events that the truth calls visible, and in the end all."""
    service = EmulatedService(delayed_share=0.3, delayed_by="6h")
    truth = read_truth(service, payments)
    late = [one for one in truth if parse_time_ms(one.visible_from) - parse_time_ms(one.minute) > 60_000]
    assert 0.2 < len(late) / len(truth) < 0.4
    sizes = []
    for hours in range(0, 60, 4):
        at = format_time_ms(parse_time_ms(DAY[0]) + hours * HOUR_MS)
        control(service, "POST", "clock", {"now": at})
        shown = list_day(service, payments)
        assert shown == {one.event for one in truth if one.visible_from <= at}
        assert shown == {one.event for one in read_truth(service, payments, at=at)}
        sizes.append(len(shown))
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert sizes[-1] == len(truth)
    assert any(0 < before < after for before, after in pairwise(sizes))


def test_changes_come_from_a_file_too(tmp_path, capsys):
    """`--changes` schedules what a file says; a file that says nothing valid ends the start with its name."""
    path = tmp_path / "changes.json"
    path.write_text('[{"change": "createCompartment", "name": "project-x"}]', "utf-8")
    assert "project-x" in list_names(EmulatedService(changes_file=path))
    path.write_text('[{"change": "paint"}]', "utf-8")
    assert main(["--changes", str(path)]) == 2
    assert f"--changes {path}: a change is" in capsys.readouterr().err
    assert main(["--changes", str(tmp_path / "none.json")]) == 2
    assert "No such file" in capsys.readouterr().err


def test_events_of_a_file_wait_once_the_clock_is_set(tmp_path):
    """A file's events are always there, except delayed ones, until the clock is set; then all wait for their minute."""
    path = tmp_path / "events.json"
    lines = [json.dumps({"eventId": str(n), "eventTime": f"2025-12-09T{n:02}:30:00Z"}) for n in range(24)]
    path.write_text("\n".join(lines), "utf-8")
    service = EmulatedService(events_file=path, now_ms=parse_time_ms(HALF))
    root = service.tenancy.id
    assert len(list_day(service, root)) == 24
    assert {one.visible_from for one in read_truth(service, root)} == {None}
    control(service, "POST", "appearance", {"delays": [{"by": "3h", "distribution": "fixed"}]})
    assert len(list_day(service, root)) == 9
    control(service, "POST", "clock", {"now": HALF})
    control(service, "DELETE", "appearance")
    assert len(list_day(service, root)) == 12
    assert len(read_truth(service, root, at=HALF)) == 12


@pytest.mark.parametrize("size", [1, 7, 100])
def test_hidden_events_do_not_disturb_pages(payments, size):
    """Pages of any size hold the same events while others are hidden, and each full page has its size."""
    service = EmulatedService(delayed_share=0.5, delayed_by="20d", page_size=PageSize(size, size))
    pages = service.list_pages(payments, *DAY)
    listed = [event for page in pages for event in page]
    assert sorted(listed) == sorted(one.event for one in read_truth(service, payments, at="now"))
    assert len(set(listed)) == len(listed) > 20
    assert {len(page) for page in pages[:-2]} <= {size}


@pytest.mark.parametrize(
    ("distribution", "low", "high"), [("fixed", 1.0, 1.0), ("uniform", 0.4, 0.6), ("exponential", 0.15, 0.35)]
)
def test_delays_have_the_distribution_asked_for(service, payments, distribution, low, high):
    """The mean delay, as a part of the longest, is that of the distribution; none is longer."""
    rule = {"by": "10h", "distribution": distribution, "compartmentId": payments}
    control(service, "POST", "appearance", {"delays": [rule]})
    delays = [
        (parse_time_ms(one.visible_from) - parse_time_ms(one.minute) - 60_000) / (10 * HOUR_MS)
        for one in read_truth(service, payments)
    ]
    assert low <= sum(delays) / len(delays) <= high
    assert min(delays) > 0
    assert max(delays) <= 1.0


def test_a_rule_can_choose_events_and_the_first_one_counts(service, payments):
    """A rule about one target and window delays its events by exactly its span; others appear in time."""
    rules = [
        {"compartmentId": payments, "startTime": HALF, "endTime": DAY[1], "by": "119m", "distribution": "fixed"},
        {"compartmentId": payments, "by": "1d", "distribution": "fixed", "share": 0},
    ]
    control(service, "POST", "appearance", {"delays": rules})
    for one in read_truth(service, payments):
        delay = parse_time_ms(one.visible_from) - parse_time_ms(one.minute)
        assert delay == (120 if one.minute >= HALF.replace("Z", ".000Z") else 1) * 60_000


def test_the_same_seed_delays_the_same_events(payments):
    """Which events are delayed, and by how much, depends on the seed alone."""
    one, same = (EmulatedService(delayed_share=0.3) for _ in range(2))
    assert read_truth(one, payments) == read_truth(same, payments)


def test_reserialised_events_keep_their_value(payments):
    """Later reads give a share of the events in other bytes with the same JSON value; the truth knows them."""
    service = EmulatedService(reserialised_share=0.5, reserialised_after="10m")
    control(service, "POST", "clock", {"now": DAY[1]})
    forms = {}
    for _ in range(4):
        for event in list_day(service, payments):
            forms.setdefault(json.loads(event)["eventId"], set()).add(event)
        shown = {one.event for one in read_truth(service, payments, at=control(service, "GET", "clock")["now"])}
        assert shown == list_day(service, payments)
        control(service, "POST", "clock", {"advance": "10m"})
    changed = [one for one in forms.values() if len(one) > 1]
    assert 0.4 < len(changed) / len(forms) < 0.6
    for one in changed:
        assert len({json.dumps(json.loads(event), sort_keys=True) for event in one}) == 1


@pytest.mark.parametrize("turn", [1, 2, 3])
@pytest.mark.parametrize(
    "event",
    [
        rb'{"a":-0,"b":1.50E+2,"c":123456789012345678901234567890,"d":[],"e":{},"f":null,"g":"o"}',
        rb'{"text":"na\u00efve \ud83d lone, \\o \/ \u006f","key o":"\ud83d\ude00"}',
        *(json.dumps({"z": text, "a": [text]}, ensure_ascii=False).encode() for text in HOSTILE_TEXTS.values()),
    ],
)
def test_every_reserialisation_is_the_same_json_value(event, turn):
    """Reserialised JSON has other bytes and the same value, with each number's own digits."""

    def read(text):
        return json.loads(text, parse_int=lambda digits: ("int", digits), parse_float=lambda digits: ("float", digits))

    other = reserialise(event, turn)
    assert other != event
    assert read(other) == read(event)
    assert reserialise(event, 4) == event


@pytest.mark.parametrize("event", [b'{"a":1,"a":2}', b"\xff", b'{"a":"\n"}'])
def test_what_is_not_plain_json_keeps_its_meaning(event):
    """Repeated names keep their order, and bytes that are not strict JSON are left alone."""
    other = reserialise(event, 1)
    assert other == event


def test_a_compartment_comes_gets_a_name_and_goes(service):
    """A compartment is listed from its creation, under its name of the time, then as DELETED with 404, then not."""
    created, renamed = control(
        service,
        "POST",
        "changes",
        [
            {"change": "createCompartment", "at": DAY[0], "name": "project-x", "parent": "production", "share": 0.3},
            {"change": "renameCompartment", "at": HALF, "compartment": "project-x", "name": "project-y"},
        ],
    )
    ocid = created["compartmentId"]
    assert renamed["compartmentId"] == ocid
    deletion = {"change": "deleteCompartment", "at": DAY[1], "compartment": "project-y", "listedDays": 30}
    control(service, "POST", "changes", [deletion])

    def look(at):
        control(service, "POST", "clock", {"now": at})
        names = list_names(service)
        found = next((name for name in names if name.startswith("project")), None)
        return found, names.get(found), service.list_events(ocid, *DAY).status

    assert look("2025-12-08T23:59:00Z") == (None, None, 404)
    assert look("2025-12-09T00:00:00Z") == ("project-x", "ACTIVE", 200)
    assert look("2025-12-09T12:00:00Z") == ("project-y", "ACTIVE", 200)
    assert look("2025-12-10T00:00:00Z") == ("project-y", "DELETED", 404)
    assert look("2026-01-08T23:59:00Z") == ("project-y", "DELETED", 404)
    assert look("2026-01-09T00:00:00Z") == (None, None, 404)
    assert look("2025-12-09T23:59:00Z") == ("project-y", "ACTIVE", 200)
    week = ("2025-12-05T00:00:00Z", "2025-12-12T00:00:00Z")
    truth = read_truth(service, ocid, window=week)
    assert DAY[0] <= truth[0].minute.replace(".000", "")
    assert truth[-1].minute.replace(".000", "") < DAY[1]
    for one in truth:
        name = "project-x" if one.minute < HALF else "project-y"
        assert json.loads(one.event)["data"]["compartmentName"] == name


def test_permission_can_be_given_and_taken(service, payments):
    """A forbidden compartment becomes readable, and a readable one forbidden, at their instants."""
    changes = [
        {"change": "allowCompartment", "compartment": "investigations"},
        {"change": "forbidCompartment", "compartment": payments, "at": "2025-12-10T13:00:00Z"},
    ]
    control(service, "POST", "changes", changes)
    denied = service.find_compartment("investigations")

    def look():
        return service.list_events(denied, *DAY).status, service.list_events(payments, *DAY).status

    assert look() == (200, 200)
    control(service, "POST", "clock", {"now": "2025-12-10T13:00:00Z"})
    assert look() == (200, 404)
    control(service, "POST", "clock", {"now": "2025-12-10T12:00:00Z"})
    assert look() == (404, 200)
    control(service, "DELETE", "changes")
    assert control(service, "GET", "changes") == []


def test_a_region_is_subscribed_later(service, payments):
    """A region rejects requests until its subscription, and has events of the time after it."""
    for name in ("uk-london-1", "sa-saopaulo-1"):
        change = {"change": "subscribeRegion", "at": HALF, "region": name, "share": 0.9}
        assert service.list_events(payments, *DAY, region=name).status == 401
        control(service, "POST", "changes", [change])
        control(service, "POST", "clock", {"now": "2025-12-09T11:59:00Z"})
        assert service.list_events(payments, *DAY, region=name).status == 401
        control(service, "POST", "clock", {"now": DAY[1]})
        assert len(list_day(service, payments, region=name)) > 50
        assert min(one.minute for one in read_truth(service, payments, region=name)) >= HALF.replace("Z", "")
        regions = json.loads(service.get(f"/20160918/tenancies/{service.tenancy.id}/regionSubscriptions").body)
        assert (name, "READY") in {(one["regionName"], one["status"]) for one in regions}


def test_retention_moves_with_the_clock(payments):
    """A window that retention has passed is 400, or empty where the options say so, event by event."""
    window = ("2025-11-30T00:00:00Z", "2025-12-01T00:00:00Z")
    strict = EmulatedService(retention_days=10)
    lenient = EmulatedService(retention_days=10, is_expired_empty=True)
    assert strict.list_events(payments, *window).status == 200
    control(strict, "POST", "clock", {"advance": "1d"})
    assert strict.list_events(payments, *window).status == 400
    truth = read_truth(lenient, payments, window=window)
    counts = []
    for hours in (-13, 0, 6, 12):
        at = format_time_ms((NOW_SECONDS + hours * 3600) * 1000)
        control(lenient, "POST", "clock", {"now": at})
        shown = set(lenient.list_all_events(payments, *window))
        assert shown == {one.event for one in truth if at < one.visible_until}
        counts.append(len(shown))
    assert counts[0] == len(truth) > counts[1] > counts[2] > 0 == counts[3]


def test_the_retention_period_changes_with_time(service):
    """GetConfiguration returns the period that holds at the time."""
    control(service, "POST", "changes", [{"change": "setRetention", "days": 90, "at": "2025-12-10T13:00:00Z"}])

    def read_days():
        content = json.loads(service.get("/20190901/configuration", compartmentId=service.tenancy.id).body)
        return content["retentionPeriodDays"]

    assert read_days() == 365
    control(service, "POST", "clock", {"advance": "1h"})
    assert read_days() == 90


def test_self_audit_survives_a_clock_that_goes_back(payments):
    """Calls recorded before and after the clock was set back are all served and all in the truth."""
    service = EmulatedService(is_self_auditing=True, events_per_day=0)
    window = ("2025-12-10T00:00:00Z", "2025-12-11T00:00:00Z")
    service.list_events(payments, *window)
    control(service, "POST", "clock", {"advance": "-2h"})
    service.list_events(payments, *window)
    control(service, "POST", "clock", {"advance": "4h"})
    assert len(read_truth(service, payments, window=window)) == 2
    assert len(service.list_all_events(payments, *window)) == 3


@examples(max_examples=20, deadline=None)
@given(st.lists(st.integers(-(10**7), 10**7), min_size=1, max_size=6))
def test_the_state_depends_on_the_instant_alone(steps):
    """However the clock got to an instant, the service shows what the truth says for it."""
    service = EmulatedService(delayed_share=0.5, delayed_by="2d", reserialised_share=0.3, events_per_day=300)
    compartment_id = service.find_compartment("payments")
    for seconds in steps:
        control(service, "POST", "clock", {"now": format_time_ms((NOW_SECONDS + seconds) * 1000)})
    shown = set(service.list_all_events(compartment_id, "2025-12-01T00:00:00Z", DAY[0]))
    at = control(service, "GET", "clock")["now"]
    truth = read_truth(service, compartment_id, at=at, window=("2025-12-01T00:00:00Z", DAY[0]))
    assert shown == {one.event for one in truth}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("clock", {"advance": "soon"}, "write it as 3h"),
        ("clock", {"now": "yesterday"}, "2025-12-01T00:00:00Z"),
        ("clock", {"isRunning": 1}, "true or false"),
        ("clock", {"skewToleranceSeconds": -1}, "a number from 0"),
        ("clock", {"speed": 2}, "advance"),
        ("clock", [], "JSON object"),
        ("appearance", {"delays": {"by": "3h"}}, "lists of rules"),
        ("appearance", {"delays": [{"by": "3 hours"}]}, "such as 3h"),
        ("appearance", {"delays": [{"by": "-3h"}]}, "longer than 0"),
        ("appearance", {"delays": [{"by": "3h", "share": 2}]}, "from 0 to 1"),
        ("appearance", {"delays": [{"by": "3h", "distribution": "normal"}]}, "exponential"),
        ("appearance", {"expired": "gone"}, "empty or error"),
        ("changes", {}, "not a JSON list"),
        ("changes", [{"change": "paint"}], "createCompartment"),
        ("changes", [{"change": "createCompartment"}], "missing: name"),
        ("changes", [{"change": "setRetention", "days": 9, "weeks": 1}], "unknown: weeks"),
        ("changes", [{"change": "setRetention", "days": "90"}], "not of the expected type"),
        ("changes", [{"change": "setRetention", "days": 90, "at": "noon"}], "2025-12-01T00:00:00Z"),
        ("changes", [{"change": "deleteCompartment", "compartment": "nowhere"}], "unknown compartment"),
        ("changes", [{"change": "subscribeRegion", "region": "eu-frankfurt-1"}], "from the start"),
    ],
)
def test_an_invalid_control_request_says_what_would_be_valid(service, name, content, words):
    """An invalid clock, rule or change is rejected with a hint, and nothing has changed."""
    before = control(service, "GET", name)
    with pytest.raises(ControlError, match=words.replace("(", r"\(")):
        control(service, "POST", name, content)
    assert control(service, "GET", name) == before


def test_of_a_list_of_changes_all_are_made_or_none(service):
    """An invalid change at the end of a list undoes those before it."""
    with pytest.raises(ControlError):
        control(service, "POST", "changes", [{"change": "createCompartment", "name": "x"}, {"change": "paint"}])
    assert control(service, "GET", "changes") == []
    assert "x" not in list_names(service)
