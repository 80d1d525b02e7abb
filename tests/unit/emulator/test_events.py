import json
import os
import re
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit_emulator.event_generator import EventGenerator
from ociaudit_emulator.event_store import START, Span, Target
from ociaudit_emulator.events import GeneratedEvents
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.special_events import HOSTILE_TEXTS, SpecialCalendar
from ociaudit_emulator.tenancy import HOME_REGION, make_tenancy
from ociaudit_emulator.time_formats import parse_time_ms

TENANCY = make_tenancy(1)
READY_REGIONS = [region.name for region in TENANCY.regions if region.is_ready]
MINUTES_PER_DAY = 1440
# A Monday.
MONDAY = datetime(2025, 12, 1, tzinfo=UTC)
FIRST_MINUTE = int(MONDAY.timestamp()) // 60
WEEK = Span(FIRST_MINUTE, FIRST_MINUTE + 7 * MINUTES_PER_DAY)
ROOT = Target(HOME_REGION, TENANCY.id)
PAYMENTS = Target(HOME_REGION, next(one.id for one in TENANCY.compartments if one.name == "payments"))
STAMP = re.compile(rb'"eventTime": ?"([^"]*)"')

# What API-FACTS names as the records behind the names that people ask for.
WANTED_NAMES = {
    "UploadApiKey",
    "DeleteApiKey",
    "CreateAuthToken",
    "DeleteAuthToken",
    "CreateOrResetPassword",
    "UpdateUserUIPassword",
    "ChangePassword",
    "ResetPasswordAndAuthenticate",
    "CreateMfaTotpDevice",
    "ActivateMfaTotpDevice",
    "DeleteMfaTotpDevice",
    "GenerateTotpSeed",
    "InteractiveLogin",
    "FederatedInteractiveLogin",
    "VerifyMfaToken",
    "UpdateUserState",
}
WANTED_DOMAIN_EVENTS = {
    "sso.session.create.success",
    "sso.session.create.failure",
    "sso.session.modify.success",
    "sso.session.delete.success",
    "sso.authentication.failure",
    "sso.auth.factor.initiated",
    "admin.user.password.reset.success",
    "admin.me.password.change.success",
    "admin.me.locked.success",
}


def make_store(**options):
    """Made events with some settings."""
    return GeneratedEvents(
        TENANCY,
        Settings(**options),
        SpecialCalendar(TENANCY, 1).list_specials,
    )


def read_all(source, target, span, limit=1000):
    """Every event of a place and a span."""
    events, position = [], START
    while position is not None:
        part = source.read(target, span, position, limit)
        events += part.events
        position = part.next_position
    return events


def list_places():
    """Every place of the tenancy that can have events."""
    return [Target(region, one.id) for region in READY_REGIONS for one in TENANCY.compartments]


@pytest.fixture(scope="module")
def week():
    """Every event of one week, by place."""
    source = make_store()
    return {target: read_all(source, target, WEEK) for target in list_places()}


@pytest.fixture(scope="module")
def parsed(week):
    """The same week, parsed."""
    return {target: [json.loads(event) for event in events] for target, events in week.items()}


HASHING = """
import hashlib
from ociaudit_emulator.command_line import assemble
from ociaudit_emulator.settings import Settings
made = assemble(Settings(seed=5, now_ms=1765000000000), lambda: 1.0, lambda: 1.0)
digest = hashlib.sha256()
for one in made.tenancy.compartments:
    window = "startTime=2025-11-24T00:00:00Z&endTime=2025-12-01T00:00:00Z"
    for part in made.control.stream_events(f"/_emulator/events?compartmentId={one.id}&{window}"):
        digest.update(part)
print(digest.hexdigest())
"""


def hash_in_new_process(hash_seed):
    """The hash of a week, made by another process."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": f"UTC+{hash_seed}", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", HASHING], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_same_seed_gives_the_same_bytes_in_every_process():
    """Two processes with other hash seeds and time zones make a week byte for byte alike."""
    assert hash_in_new_process("1") == hash_in_new_process("2")


def test_another_seed_is_another_tenancy():
    """A seed changes every OCID, and leaves the regions."""
    other = make_tenancy(2)
    assert not {one.id for one in TENANCY.compartments} & {one.id for one in other.compartments}
    assert TENANCY.regions == other.regions


@settings(max_examples=40)
@given(st.lists(st.integers(0, 3 * MINUTES_PER_DAY), max_size=12), st.sampled_from([ROOT, PAYMENTS]))
def test_windows_that_tile_a_span_hold_its_events(cuts, target):
    """However a span is cut into windows, their events joined are the span's, in the same order."""
    source = make_store(events_per_day=800)
    span = Span(FIRST_MINUTE, FIRST_MINUTE + 3 * MINUTES_PER_DAY)
    edges = sorted({span.start_minute, span.end_minute, *(FIRST_MINUTE + cut for cut in cuts)})
    parts = [read_all(source, target, Span(start, end)) for start, end in pairwise(edges)]
    assert [event for part in parts for event in part] == read_all(source, target, span)


@settings(max_examples=40)
@given(st.integers(1, 400))
def test_the_size_of_the_pages_does_not_change_the_events(limit):
    """Pages of any size joined are the same events in the same order."""
    source = make_store(events_per_day=800)
    span = Span(FIRST_MINUTE + 100, FIRST_MINUTE + 2 * MINUTES_PER_DAY + 77)
    assert read_all(source, ROOT, span, limit) == read_all(source, ROOT, span, 10_000)


def test_only_the_events_of_the_page_are_made(monkeypatch):
    """The first page of a year at a million events a day makes exactly its own events."""
    made = []
    draw = EventGenerator.draw_event

    def count(drawing, target, minute, number):
        made.append(minute)
        return draw(drawing, target, minute, number)

    monkeypatch.setattr(EventGenerator, "draw_event", count)
    source = make_store(events_per_day=1_000_000)
    part = source.read(PAYMENTS, Span(FIRST_MINUTE - 300 * MINUTES_PER_DAY, FIRST_MINUTE), START, 100)
    assert len(part.events) == 100
    assert part.next_position is not None
    assert len(made) <= 100


def test_an_event_lies_in_its_processed_minute(week):
    """Without late events, the event time of an event is in the minute in which it was processed."""
    source = make_store()
    for minute in range(FIRST_MINUTE, FIRST_MINUTE + MINUTES_PER_DAY):
        for event in source.read(PAYMENTS, Span(minute, minute + 1), START, 100).events:
            assert parse_time_ms(STAMP.search(event)[1].decode()) // 60_000 == minute


def test_late_events_happened_earlier():
    """With a late share of a half about half of the events happened before their window, at most so long."""
    source = make_store(late_share=0.5, late_minutes=30, events_per_day=20_000)
    start = FIRST_MINUTE + 15 * 60
    delays = [
        minute - parse_time_ms(STAMP.search(event)[1].decode()) // 60_000
        for minute in range(start, start + 120)
        for event in source.read(PAYMENTS, Span(minute, minute + 1), START, 1000).events
    ]
    assert 0.35 < sum(delay > 0 for delay in delays) / len(delays) < 0.65
    assert max(delays) <= 31


def test_every_region_has_root_events_every_day():
    """On each of 60 days the root compartment of every region has events."""
    source = make_store()
    for region in READY_REGIONS:
        for day in range(60):
            start = FIRST_MINUTE + day * MINUTES_PER_DAY
            span = Span(start, start + MINUTES_PER_DAY)
            assert source.read(Target(region, TENANCY.id), span, START, 1).events


def test_weekends_are_quiet_and_office_hours_are_busy(week):
    """A weekend day holds less than half of a workday, and the day's hours hold more than the night's."""
    days, hours = Counter(), Counter()
    for target, events in week.items():
        for event in events:
            moment = datetime.fromisoformat(STAMP.search(event)[1].decode()[:19])
            days[moment.weekday() >= 5] += 1
            if target.region == HOME_REGION:
                hours[13 <= moment.hour < 22] += 1
    assert days[True] / 2 < days[False] / 5 / 2
    assert hours[True] > 2 * hours[False]


def test_the_tenancy_has_about_as_many_events_as_asked_for(week):
    """A week of the usual tenancy holds about 2,000 events a day."""
    assert 1500 < sum(map(len, week.values())) / 7 < 2500


def test_an_empty_tenancy_can_be_made():
    """With no events a day there is not even a special one."""
    assert read_all(make_store(events_per_day=0), ROOT, WEEK) == []


def test_no_event_comes_twice(week):
    """Over a whole week of all places every eventId is its own."""
    ids = [json.loads(event)["eventId"] for events in week.values() for event in events]
    assert len(set(ids)) == len(ids)


def test_events_are_as_large_as_real_ones(week):
    """The average event has between 1.5 and 4 KB."""
    sizes = [len(event) for events in week.values() for event in events]
    assert 1500 < sum(sizes) / len(sizes) < 4000


def test_there_are_forty_event_types_of_fifteen_services(parsed):
    """One week shows at least 40 event types of 15 services, written as Audit writes them."""
    types = {event["eventType"] for events in parsed.values() for event in events}
    assert len(types) >= 40
    assert len({name.split(".")[2] for name in types}) >= 15
    assert all(name.startswith("com.oraclecloud.") for name in types)
    assert all(name.split(".")[3] != name.split(".")[3].lower() for name in types)


def test_the_names_people_ask_for_come_every_week(parsed):
    """Every record that API-FACTS names for sign-ins and credentials is there within a week."""
    events = parsed[ROOT]
    assert {event["data"].get("eventName") for event in events} >= WANTED_NAMES
    details = [event["data"].get("additionalDetails") or {} for event in events]
    assert {one.get("eventId") for one in details} >= WANTED_DOMAIN_EVENTS


@pytest.mark.parametrize("shift_days", range(0, 21, 3))
def test_every_oddity_comes_every_week(shift_days):
    """Whenever a week begins, it holds every oddity of real records at least once."""
    start = WEEK.start_minute + shift_days * MINUTES_PER_DAY + 700
    events = read_all(make_store(), ROOT, Span(start, start + 7 * MINUTES_PER_DAY))
    bodies = [(event, json.loads(event)) for event in events]
    datas = [body["data"] for _, body in bodies]
    identities = [data.get("identity") or {} for data in datas]
    assert any((data.get("response") or {"status": ""})["status"] is None for data in datas)
    assert any("," in (identity.get("ipAddress") or "") for identity in identities)
    assert any(identity.get("authType", "") is None for identity in identities)
    assert any(b"\\ud800 " in event for event in events)
    assert any(b"\n" in event for event in events)
    assert any(b"\\ud83d\\udd11" in event and "🔑".encode() in event for event in events)
    for name in ("systemTags", "securityAttributes", "internalDetails", "message"):
        assert any(name in data for data in datas)
    assert any("tagSlug" in body for _, body in bodies)
    assert any(18446744073709551615 in (data.get("additionalDetails") or {}).values() for data in datas)
    assert any(len(body["eventTime"]) == len("2025-12-01T00:00:00.123123456Z") for _, body in bodies)
    assert any(len(event) > 60_000 for event in events)
    assert any(data.get("identity", "") is None for data in datas)
    agents = {identity.get("userAgent") for identity in identities}
    assert agents >= set(HOSTILE_TEXTS.values())
    groups = Counter(data.get("eventGroupingId") for data in datas)
    assert any(count == 2 for group, count in groups.items() if group)


def test_all_kinds_of_principals_call(parsed):
    """A week holds calls of users, consoles, instances and a federated session, ten principals at least."""
    identities = [event["data"].get("identity") or {} for events in parsed.values() for event in events]
    assert {one.get("authType") for one in identities} >= {"natv", "natf", "fed", "resource", None}
    assert len({one.get("principalId") for one in identities}) >= 10


def test_every_ocid_of_the_tenancy_is_well_formed():
    """Tenancy, compartments and principals have OCIDs of the documented form."""
    form = re.compile(r"ocid1\.[a-z0-9]+\.oc1\.[a-z]*\.[a-z2-7]{60}")
    ids = [TENANCY.id, *(one.id for one in TENANCY.compartments), *(one.id for one in TENANCY.principals)]
    assert all(form.fullmatch(one) for one in ids)


def test_the_tenancy_is_as_large_as_promised():
    """There are three regions, twelve compartments (nested, one DELETED, one forbidden), ten principals."""
    compartments = TENANCY.compartments[1:]
    assert len(READY_REGIONS) >= 3
    assert len(compartments) >= 12
    assert any(one.parent_id != TENANCY.id for one in compartments)
    assert [one.state for one in compartments].count("DELETED") == 1
    assert [one.is_forbidden for one in compartments].count(True) == 1
    assert len(TENANCY.principals) >= 10


def test_the_forbidden_compartment_has_events_to_miss(week):
    """The forbidden compartment is not empty, so that leaving it out is a loss."""
    forbidden = next(one.id for one in TENANCY.compartments if one.is_forbidden)
    assert week[Target(HOME_REGION, forbidden)]


def test_a_quiet_year_passes_quickly():
    """A year of a compartment without a single event is planned without making one."""
    source = make_store(events_per_day=1)
    quiet = next(one.id for one in TENANCY.compartments if one.name == "legacy-erp")
    span = Span(FIRST_MINUTE - 365 * MINUTES_PER_DAY, FIRST_MINUTE)
    assert len(read_all(source, Target("ap-tokyo-1", quiet), span)) <= 2


def test_a_start_in_the_middle_of_a_minute_list_is_exact():
    """A window of one dense minute holds exactly the events of that minute."""
    source = make_store(events_per_day=1_000_000)
    start = FIRST_MINUTE + 15 * 60
    counts = [len(read_all(source, PAYMENTS, Span(minute, minute + 1))) for minute in range(start, start + 5)]
    assert sum(counts) == len(read_all(source, PAYMENTS, Span(start, start + 5)))
    assert min(counts) > 100


def test_the_days_of_a_month_differ():
    """No two days of a month are alike in their number of events."""
    source = make_store(events_per_day=50_000)
    starts = [int((MONDAY + timedelta(days=day)).timestamp()) // 60 for day in (0, 1, 7, 8)]
    counts = {len(read_all(source, PAYMENTS, Span(start, start + 600))) for start in starts}
    assert len(counts) > 1
