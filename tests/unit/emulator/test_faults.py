import gzip
import json
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import pytest

from ociaudit_emulator.control import ControlError
from ociaudit_emulator.faults import FAULT_KINDS
from ociaudit_emulator.http import NEXT_PAGE_HEADER, CutShort, Reset, Stall, Whole
from support.emulated_service import EmulatedService
from support.emulator import split_array

START, END = "2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z"
QUIET = ("2025-12-01T00:00:00Z", "2025-12-01T00:10:00Z")
GZIP = {"accept-encoding": "gzip, deflate"}


def ask(service, **options):
    """The first page of a day of root, or a later one."""
    return service.list_events(service.tenancy.id, START, END, **options)


def read_token(response):
    """The token of the next page, if there is one."""
    return response.headers.get(NEXT_PAGE_HEADER)


def assert_fired(service, times=1):
    """Insist that the one fault fired so often and is completed."""
    (state,) = service.fault_states()
    assert state["fired"] == times
    assert state["completed"]


def test_a_status_comes_with_code_message_and_headers(service):
    """The fault `status` answers any status with its code, and with headers such as Retry-After."""
    options = {"status": 429, "message": "slow down", "headers": {"Retry-After": "3"}}
    service.add_fault("status", options=options)
    response = ask(service)
    assert (response.status, response.headers["Retry-After"]) == (429, "3")
    assert json.loads(response.body) == {"code": "TooManyRequests", "message": "slow down"}
    assert service.last_entry.fault == "status"
    assert_fired(service)
    assert ask(service).status == 200


@pytest.mark.parametrize(
    ("kind", "options", "delivery"),
    [
        ("reset", {}, Reset(None)),
        ("reset", {"afterBytes": 10}, Reset(10)),
        ("short_body", {"sentBytes": 100}, CutShort(100)),
        ("stall", {"seconds": 5}, Stall(5, "nothing")),
        ("stall", {"seconds": 0.5, "after": "headers"}, Stall(0.5, "headers")),
        ("stall", {"after": "half"}, Stall(60.0, "half")),
    ],
)
def test_a_fault_of_the_connection_changes_the_delivery_alone(service, kind, options, delivery):
    """Resets, short bodies and stalls leave the answer as it is and damage how it is delivered."""
    undisturbed = ask(service)
    service.add_fault(kind, options=options)
    response = ask(service)
    assert (response.body, response.delivery) == (undisturbed.body, delivery)
    assert service.last_entry.delivery == type(delivery).__name__
    assert_fired(service)


def test_a_short_body_is_never_the_whole_one(service):
    """Even when more is asked for, a short body lacks at least a byte of what was promised."""
    service.add_fault("short_body", options={"sentBytes": 10**9})
    response = ask(service)
    assert response.delivery == CutShort(len(response.body) - 1)


def test_a_cut_body_ends_cleanly_and_is_no_json(service):
    """The fault `cut_body` sends less, with the length of what is sent."""
    whole = ask(service)
    service.add_fault("cut_body")
    response = ask(service)
    assert response.delivery == Whole()
    assert whole.body.startswith(response.body)
    with pytest.raises(ValueError):
        json.loads(response.body)
    assert_fired(service)


def test_html_comes_with_200(service):
    """The fault `html` answers a web page with status 200 and its content type."""
    service.add_fault("html")
    response = ask(service)
    assert (response.status, response.content_type, response.headers.get(NEXT_PAGE_HEADER)) == (200, "text/html", None)
    assert response.body.startswith(b"<!DOCTYPE html>")
    assert_fired(service)


@pytest.mark.parametrize("body", ["object", "string", "strings", "numbers", "null", "nothing"])
def test_a_body_need_not_be_an_array_of_objects(service, body):
    """The fault `not_an_array` answers 200 with JSON that is no array of objects, or with nothing."""
    service.add_fault("not_an_array", options={"body": body})
    response = ask(service)
    content = json.loads(response.body) if body != "nothing" else None
    assert response.status == 200
    assert not isinstance(content, list) or not any(isinstance(one, dict) for one in content)
    assert_fired(service)


def test_a_body_need_not_be_utf_8(service):
    """The fault `invalid_utf8` puts bytes into a string that no decoder takes."""
    service.add_fault("invalid_utf8")
    with pytest.raises(UnicodeDecodeError):
        ask(service).body.decode()
    assert_fired(service)


def test_an_event_can_nest_too_deeply(service):
    """The fault `deep_nesting` answers an event that overflows a recursive parser."""
    service.add_fault("deep_nesting")
    with pytest.raises(RecursionError):
        json.loads(ask(service).body)
    assert_fired(service)


@pytest.mark.parametrize("how", ["truncated", "garbage"])
def test_gzip_can_be_broken_for_those_who_accept_it(service, how):
    """The fault `bad_gzip` waits for a client that accepts gzip, and then cannot be expanded."""
    service.add_fault("bad_gzip", options={"how": how})
    assert "Content-Encoding" not in ask(service).headers
    assert service.fault_states()[0]["fired"] == 0
    response = ask(service, headers=GZIP)
    assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises((EOFError, gzip.BadGzipFile, OSError)):
        gzip.decompress(response.body)
    assert_fired(service)


def test_an_empty_page_leads_to_the_real_one(service):
    """The fault `empty_page` answers no events and a token, and the token gives the page that was due."""
    whole = ask(service)
    service.add_fault("empty_page", match={"page": "first"})
    empty = ask(service)
    assert empty.body == b"[]"
    real = ask(service, page=read_token(empty))
    assert (real.body, read_token(real)) == (whole.body, read_token(whole))
    assert_fired(service)


def test_an_empty_page_loses_nothing_in_the_middle(service):
    """Empty pages before every later page change nothing in what a window holds."""
    undisturbed = service.list_all_events(service.tenancy.id, START, END)
    service.add_fault("empty_page", match={"page": "later"}, times=3)
    assert service.list_all_events(service.tenancy.id, START, END) == undisturbed
    assert_fired(service, times=3)


def test_an_empty_token_comes_on_the_last_page(service):
    """The fault `empty_token` waits for a page that is the last, and adds the header without a value."""
    service.add_fault("empty_token")
    assert read_token(ask(service))
    response = service.list_events(service.tenancy.id, *QUIET)
    assert response.headers[NEXT_PAGE_HEADER] == ""
    assert_fired(service)


def test_a_repeated_token_is_the_one_that_was_sent(service):
    """The fault `repeated_token` answers a later page with the token it was asked with."""
    service.add_fault("repeated_token", match={"page": "later"}, times=None)
    token = read_token(ask(service))
    assert read_token(ask(service, page=token)) == token
    assert read_token(ask(service, page=token)) == token


def test_a_repeated_token_of_a_first_page_leads_back_to_itself(service):
    """On a first page the fault gives a token that loops for ever, although it fired only once."""
    service.add_fault("repeated_token", match={"page": "first"})
    first = ask(service)
    token = read_token(first)
    for _ in range(3):
        response = ask(service, page=token)
        assert (response.body, read_token(response)) == (first.body, token)
    assert_fired(service)


def test_a_token_can_expire(service):
    """The fault `expired_token` refuses a token with 400 PaginationTokenExpired, and no first page."""
    service.add_fault("expired_token")
    token = read_token(ask(service))
    response = ask(service, page=token)
    assert (response.status, json.loads(response.body)["code"]) == (400, "PaginationTokenExpired")
    assert_fired(service)
    assert ask(service, page=token).status == 200


def test_a_foreign_token_is_refused_when_it_is_used(service):
    """The fault `foreign_token` gives a token that gets 400 in the window it was given for."""
    service.add_fault("foreign_token")
    assert ask(service, page=read_token(ask(service))).status == 400
    assert_fired(service)


def test_events_can_come_twice_in_a_page(service):
    """The fault `duplicate_within` puts some of a page's events into it again, byte for byte."""
    usual = split_array(ask(service).body)
    service.add_fault("duplicate_within", options={"count": 5})
    events = split_array(ask(service).body)
    assert events[: len(usual)] == usual
    assert events[len(usual) :] == usual[:5]
    assert_fired(service)


def test_events_of_other_windows_can_come(service):
    """The fault `duplicate_across` adds events that the same compartment holds outside the window."""
    usual = split_array(ask(service).body)
    service.add_fault("duplicate_across", options={"count": 4})
    strangers = split_array(ask(service).body)[len(usual) :]
    before = service.list_all_events(service.tenancy.id, "2025-11-01T00:00:00Z", START)
    assert len(strangers) == 4
    assert set(strangers) <= set(before)
    assert_fired(service)


@pytest.mark.parametrize("is_time_changed", [False, True])
def test_the_same_id_can_come_with_other_bytes(service, is_time_changed):
    """The fault `same_id_other_bytes` adds a copy with the same eventId that differs, if wanted in its time."""
    usual = split_array(ask(service).body)
    service.add_fault("same_id_other_bytes", options={"changeEventTime": is_time_changed})
    (changed,) = split_array(ask(service).body)[len(usual) :]
    original, copy = json.loads(usual[0]), json.loads(changed)
    assert copy["eventId"] == original["eventId"]
    assert copy != original
    assert (copy["eventTime"] != original["eventTime"]) is is_time_changed
    assert_fired(service)


def test_every_kind_of_fault_can_fire():
    """Each kind in the registry fires on a first page, a later page, a last one, or the configuration."""
    for kind in FAULT_KINDS:
        service = EmulatedService()
        service.add_fault(kind)
        token = read_token(ask(service, headers=GZIP))
        if token:
            ask(service, page=token, headers=GZIP)
        service.list_events(service.tenancy.id, *QUIET, headers=GZIP)
        service.get("/20190901/configuration", compartmentId=service.tenancy.id)
        assert_fired(service)


@pytest.mark.parametrize(
    ("seconds", "status"), [(400, 401), (-400, 401), (301, 401), (300, 200), (-60.5, 200), (0, 200)]
)
def test_a_skewed_clock_shows_in_the_date_and_refuses_beyond_five_minutes(service, seconds, status):
    """The fault `skewed_clock` moves the answer's Date, and what Oracle would refuse then is refused."""
    service.add_fault("skewed_clock", options={"seconds": seconds})
    response = ask(service)
    assert response.status == status
    there = parsedate_to_datetime(response.headers["Date"])
    assert abs((there - datetime.now(UTC)).total_seconds() - seconds) < 60
    assert_fired(service)


def test_retention_can_be_said_to_be_short(service):
    """The fault `retention` changes what GetConfiguration answers, and passes over everything else."""
    service.add_fault("retention", options={"days": 30})
    assert ask(service).status == 200
    response = service.get("/20190901/configuration", compartmentId=service.tenancy.id)
    assert json.loads(response.body) == {"retentionPeriodDays": 30}
    assert_fired(service)


def test_page_faults_hit_listings_of_compartments_too(service):
    """A paged listing of compartments can have the faults of a page."""
    service.add_fault("empty_page", operation="ListCompartments")
    parameters = {"compartmentId": service.tenancy.id, "compartmentIdInSubtree": "true"}
    assert ask(service).body != b"[]"
    empty = service.get("/20160918/compartments", **parameters)
    assert empty.body == b"[]"
    real = service.get("/20160918/compartments", **parameters, page=read_token(empty))
    assert len(json.loads(real.body)) == len(service.tenancy.compartments) - 1


@pytest.mark.parametrize(
    ("match", "is_hit"),
    [
        ({}, True),
        ({"region": "us-ashburn-1"}, True),
        ({"region": "ap-tokyo-1"}, False),
        ({"compartmentId": "root"}, True),
        ({"compartmentId": "payments"}, False),
        ({"startTime": "2025-12-01T01:00:00+01:00"}, True),
        ({"startTime": END}, False),
        ({"endTime": END}, True),
        ({"startBefore": START}, False),
        ({"startBefore": END}, True),
        ({"startFrom": START}, True),
        ({"startFrom": END}, False),
        ({"covers": "2025-12-01T12:00:00Z"}, True),
        ({"covers": END}, False),
        ({"page": "first"}, True),
        ({"page": "later"}, False),
        ({"page": "any", "region": "us-ashburn-1", "covers": START}, True),
    ],
)
def test_a_fault_hits_what_it_matches(service, match, is_hit):
    """All conditions of an entry must hold for a request to be hit."""
    known = {one.name: one.id for one in service.tenancy.compartments}
    service.add_fault("status", match={name: known.get(value, value) for name, value in match.items()})
    assert (ask(service).status == 500) is is_hit


def test_a_fault_can_wait_and_repeat(service):
    """An entry lets `skip` matching requests pass and hits `times` of those that follow."""
    service.add_fault("status", skip=2, times=3)
    assert [ask(service).status for _ in range(7)] == [200, 200, 500, 500, 500, 200, 200]
    assert_fired(service, times=3)


def test_a_fault_without_end_is_never_completed(service):
    """An entry whose `times` is null goes on for ever."""
    service.add_fault("status", times=None)
    assert {ask(service).status for _ in range(20)} == {500}
    (state,) = service.fault_states()
    assert (state["fired"], state["completed"]) == (20, False)


def test_faults_take_turns(service):
    """A request is hit by the first entry that is ready; the next entry hits the next request."""
    service.add_fault("status", options={"status": 503})
    service.add_fault("status", options={"status": 429})
    assert [ask(service).status for _ in range(3)] == [503, 429, 200]


def test_faults_can_be_forgotten(service):
    """DELETE removes all entries, and a GET tells them with what they did."""
    service.add_fault("status", times=None)
    service.assembly.control.respond("DELETE", "/_emulator/faults", b"")
    assert ask(service).status == 200
    assert service.assembly.control.respond("GET", "/_emulator/faults", b"").body == b"[]"


def test_a_fault_needs_a_good_signature(service):
    """An unsigned request neither gets a fault nor uses one up."""
    service.add_fault("status")
    request = service.make_request("/20190901/configuration", key_id="nobody")
    assert service.serve(request).status == 401
    assert service.fault_states()[0]["fired"] == 0


@pytest.mark.parametrize(
    ("entries", "wanted"),
    [
        (b"{", "Expecting"),
        (b"{}", "list"),
        (b"[1]", "object"),
        (b'[{"fault":{"kind":"flood"}}]', "flood"),
        (b'[{"fault":{}}]', "fault.kind"),
        (b'[{"fualt":{"kind":"html"}}]', "fualt"),
        (b'[{"operation":"GetEvents","fault":{"kind":"html"}}]', "GetEvents"),
        (b'[{"fault":{"kind":"html","size":1}}]', "size"),
        (b'[{"fault":{"kind":"status","status":"x"}}]', "status"),
        (b'[{"fault":{"kind":"status","headers":[]}}]', "headers"),
        (b'[{"fault":{"kind":"skewed_clock","seconds":1e999}}]', "seconds"),
        (b'[{"fault":{"kind":"skewed_clock","seconds":"now"}}]', "seconds"),
        (b'[{"fault":{"kind":"retention","days":-1}}]', "days"),
        (b'[{"fault":{"kind":"stall","after":"lunch"}}]', "lunch"),
        (b'[{"match":{"page":"last"},"fault":{"kind":"html"}}]', "last"),
        (b'[{"match":{"covers":"now"},"fault":{"kind":"html"}}]', "covers"),
        (b'[{"match":{"user":"x"},"fault":{"kind":"html"}}]', "user"),
        (b'[{"times":-1,"fault":{"kind":"html"}}]', "times"),
        (b'[{"skip":null,"fault":{"kind":"html"}}]', "skip"),
        (b'[{"fault":{"kind":"html"}},{"fault":{"kind":"flood"}}]', "flood"),
    ],
)
def test_a_wrong_fault_is_refused_with_what_would_be_right(service, entries, wanted):
    """A fault that cannot be understood is refused when it is sent, and none of the list is taken."""
    with pytest.raises(ControlError, match=wanted):
        service.assembly.control.respond("POST", "/_emulator/faults", entries)
    assert service.fault_states() == []
