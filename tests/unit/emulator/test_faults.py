import gzip
import json
import math
from email.utils import parsedate_to_datetime

import pytest

from ociaudit_emulator.control import ControlError
from ociaudit_emulator.faults import FAULT_KINDS
from ociaudit_emulator.http import NEXT_PAGE_HEADER, CutShort, Reset, Stall, Whole
from ociaudit_emulator.object_api import make_namespace
from support.emulated_service import NOW_SECONDS, EmulatedService
from support.emulator import split_array

START, END = "2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z"
QUIET = ("2025-12-01T00:00:00Z", "2025-12-01T00:10:00Z")
GZIP = {"accept-encoding": "gzip, deflate"}


def list_page(service, **options):
    """The response with a page of one day of root: the first, or that of a token."""
    return service.list_events(service.tenancy.id, START, END, **options)


def read_token(response):
    """The token of the next page, if there is one."""
    return response.headers.get(NEXT_PAGE_HEADER)


def assert_fired(service, times=1):
    """Assert that the only fault fired this often and is completed."""
    (state,) = service.fault_states()
    assert state["fired"] == times
    assert state["completed"]


def test_a_status_has_code_message_and_headers(service):
    """The fault `status` returns any status with its code, and with headers such as Retry-After."""
    options = {"status": 429, "message": "slow down", "headers": {"Retry-After": "3"}}
    service.add_fault("status", options=options)
    response = list_page(service)
    assert (response.status, response.headers["Retry-After"]) == (429, "3")
    assert json.loads(response.body) == {"code": "TooManyRequests", "message": "slow down"}
    assert service.last_entry.fault == "status"
    assert_fired(service)
    assert list_page(service).status == 200


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
def test_a_fault_of_the_connection_changes_only_the_delivery(service, kind, options, delivery):
    """Resets, short bodies and stalls change the delivery of a response, and not its content."""
    undisturbed = list_page(service)
    service.add_fault(kind, options=options)
    response = list_page(service)
    assert (response.body, response.delivery) == (undisturbed.body, delivery)
    assert service.last_entry.delivery == type(delivery).__name__
    assert_fired(service)


def test_a_short_body_is_never_whole(service):
    """A short body lacks at least one byte of the announced length, whatever its options."""
    service.add_fault("short_body", options={"sentBytes": 10**9})
    response = list_page(service)
    assert response.delivery == CutShort(len(response.body) - 1)


def test_a_cut_body_ends_cleanly_and_is_not_json(service):
    """The fault `cut_body` sends a truncated body with a matching length."""
    whole = list_page(service)
    service.add_fault("cut_body")
    response = list_page(service)
    assert response.delivery == Whole()
    assert whole.body.startswith(response.body)
    with pytest.raises(ValueError):
        json.loads(response.body)
    assert_fired(service)


def test_html_has_status_200(service):
    """The fault `html` returns a web page with status 200 and its content type."""
    service.add_fault("html")
    response = list_page(service)
    assert (response.status, response.content_type, response.headers.get(NEXT_PAGE_HEADER)) == (200, "text/html", None)
    assert response.body.startswith(b"<!DOCTYPE html>")
    assert_fired(service)


@pytest.mark.parametrize("body", ["object", "string", "strings", "numbers", "null", "nothing"])
def test_a_body_need_not_be_an_array_of_objects(service, body):
    """The fault `not_an_array` returns 200 with JSON that is not an array of objects, or an empty body."""
    service.add_fault("not_an_array", options={"body": body})
    response = list_page(service)
    content = json.loads(response.body) if body != "nothing" else None
    assert response.status == 200
    assert not isinstance(content, list) or not any(isinstance(one, dict) for one in content)
    assert_fired(service)


def test_a_body_need_not_be_utf_8(service):
    """The fault `invalid_utf8` inserts bytes that no UTF-8 decoder accepts into a string."""
    service.add_fault("invalid_utf8")
    with pytest.raises(UnicodeDecodeError):
        list_page(service).body.decode()
    assert_fired(service)


def test_an_event_can_be_nested_too_deeply(service):
    """The fault `deep_nesting` returns an event that overflows a recursive parser."""
    service.add_fault("deep_nesting")
    with pytest.raises(RecursionError):
        json.loads(list_page(service).body)
    assert_fired(service)


@pytest.mark.parametrize("how", ["truncated", "garbage"])
def test_gzip_can_be_corrupt_for_clients_that_accept_it(service, how):
    """The fault `bad_gzip` applies to clients that accept gzip, and returns data that cannot be decompressed."""
    service.add_fault("bad_gzip", options={"how": how})
    assert "Content-Encoding" not in list_page(service).headers
    assert service.fault_states()[0]["fired"] == 0
    response = list_page(service, headers=GZIP)
    assert response.headers["Content-Encoding"] == "gzip"
    with pytest.raises((EOFError, gzip.BadGzipFile, OSError)):
        gzip.decompress(response.body)
    assert_fired(service)


def test_an_empty_page_leads_to_the_real_one(service):
    """The fault `empty_page` returns no events and a token, and the token returns the requested page."""
    whole = list_page(service)
    service.add_fault("empty_page", match={"page": "first"})
    empty = list_page(service)
    assert empty.body == b"[]"
    real = list_page(service, page=read_token(empty))
    assert (real.body, read_token(real)) == (whole.body, read_token(whole))
    assert_fired(service)


def test_an_empty_page_loses_nothing_in_the_middle(service):
    """Empty pages before every later page do not change the events of a window."""
    undisturbed = service.list_all_events(service.tenancy.id, START, END)
    service.add_fault("empty_page", match={"page": "later"}, times=3)
    assert service.list_all_events(service.tenancy.id, START, END) == undisturbed
    assert_fired(service, times=3)


def test_an_empty_token_is_on_the_last_page(service):
    """The fault `empty_token` applies to a last page, and adds the header without a value."""
    service.add_fault("empty_token")
    assert read_token(list_page(service))
    response = service.list_events(service.tenancy.id, *QUIET)
    assert response.headers[NEXT_PAGE_HEADER] == ""
    assert_fired(service)


def test_a_repeated_token_is_the_one_that_was_sent(service):
    """The fault `repeated_token` returns a later page with the token of its request."""
    service.add_fault("repeated_token", match={"page": "later"}, times=None)
    token = read_token(list_page(service))
    assert read_token(list_page(service, page=token)) == token
    assert read_token(list_page(service, page=token)) == token


def test_a_repeated_token_of_a_first_page_leads_back_to_itself(service):
    """On a first page, the fault returns a token that loops forever, although it fires only once."""
    service.add_fault("repeated_token", match={"page": "first"})
    first = list_page(service)
    token = read_token(first)
    for _ in range(3):
        response = list_page(service, page=token)
        assert (response.body, read_token(response)) == (first.body, token)
    assert_fired(service)


def test_a_token_can_expire(service):
    """The fault `expired_token` rejects a token with 400 PaginationTokenExpired, and no first page."""
    service.add_fault("expired_token")
    token = read_token(list_page(service))
    response = list_page(service, page=token)
    assert (response.status, json.loads(response.body)["code"]) == (400, "PaginationTokenExpired")
    assert_fired(service)
    assert list_page(service, page=token).status == 200


def test_a_foreign_token_is_rejected_when_it_is_used(service):
    """The fault `foreign_token` returns a token that gets 400 in the window that returned it."""
    service.add_fault("foreign_token")
    assert list_page(service, page=read_token(list_page(service))).status == 400
    assert_fired(service)


def test_events_can_be_duplicated_within_a_page(service):
    """The fault `duplicate_within` repeats some of a page's events, byte for byte."""
    usual = split_array(list_page(service).body)
    service.add_fault("duplicate_within", options={"count": 5})
    events = split_array(list_page(service).body)
    assert events[: len(usual)] == usual
    assert events[len(usual) :] == usual[:5]
    assert_fired(service)


def test_events_of_other_windows_can_be_added(service):
    """The fault `duplicate_across` adds events of the same compartment from outside the window."""
    usual = split_array(list_page(service).body)
    service.add_fault("duplicate_across", options={"count": 4})
    others = split_array(list_page(service).body)[len(usual) :]
    before = service.list_all_events(service.tenancy.id, "2025-11-01T00:00:00Z", START)
    assert len(others) == 4
    assert set(others) <= set(before)
    assert_fired(service)


@pytest.mark.parametrize("is_time_changed", [False, True])
def test_the_same_id_can_have_other_bytes(service, is_time_changed):
    """The fault `same_id_other_bytes` adds a copy with the same eventId and another field or another time."""
    usual = split_array(list_page(service).body)
    service.add_fault("same_id_other_bytes", options={"changeEventTime": is_time_changed})
    (changed,) = split_array(list_page(service).body)[len(usual) :]
    original, copy = json.loads(usual[0]), json.loads(changed)
    assert copy["eventId"] == original["eventId"]
    assert copy != original
    assert (copy["eventTime"] != original["eventTime"]) is is_time_changed
    assert_fired(service)


def test_every_kind_of_fault_can_fire():
    """Each registered kind fires on a first page, a later page, a last page, the configuration, or an upload."""
    for kind in FAULT_KINDS:
        service = EmulatedService()
        service.add_fault(kind)
        token = read_token(list_page(service, headers=GZIP))
        if token:
            list_page(service, page=token, headers=GZIP)
        service.list_events(service.tenancy.id, *QUIET, headers=GZIP)
        service.get("/20190901/configuration", compartmentId=service.tenancy.id)
        service.upload(f"/n/{make_namespace(service.tenancy)}/b/none/o/a", b"")
        assert_fired(service)


@pytest.mark.parametrize(
    ("seconds", "status"), [(400, 401), (-400, 401), (301, 401), (300, 200), (-60.5, 200), (0, 200)]
)
def test_a_skewed_clock_shifts_the_date_and_rejects_beyond_five_minutes(service, seconds, status):
    """The fault `skewed_clock` shifts the response's Date, and requests that Oracle would reject are rejected."""
    service.add_fault("skewed_clock", options={"seconds": seconds})
    response = list_page(service)
    assert response.status == status
    service_time = parsedate_to_datetime(response.headers["Date"])
    assert service_time.timestamp() == math.floor(NOW_SECONDS + seconds)
    assert_fired(service)


def test_the_retention_period_can_be_changed(service):
    """The fault `retention` changes the response of GetConfiguration, and applies to nothing else."""
    service.add_fault("retention", options={"days": 30})
    assert list_page(service).status == 200
    response = service.get("/20190901/configuration", compartmentId=service.tenancy.id)
    assert json.loads(response.body) == {"retentionPeriodDays": 30}
    assert_fired(service)


def test_page_faults_apply_to_compartments(service):
    """Faults of pages apply to a paged listing of compartments."""
    service.add_fault("empty_page", operation="ListCompartments")
    parameters = {"compartmentId": service.tenancy.id, "compartmentIdInSubtree": "true"}
    assert list_page(service).body != b"[]"
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
    assert (list_page(service).status == 500) is is_hit


def test_a_fault_can_skip_and_repeat(service):
    """An entry skips `skip` matching requests and hits the next `times`."""
    service.add_fault("status", skip=2, times=3)
    assert [list_page(service).status for _ in range(7)] == [200, 200, 500, 500, 500, 200, 200]
    assert_fired(service, times=3)


def test_a_fault_without_limit_is_never_completed(service):
    """An entry whose `times` is null fires without limit."""
    service.add_fault("status", times=None)
    assert {list_page(service).status for _ in range(20)} == {500}
    (state,) = service.fault_states()
    assert (state["fired"], state["completed"]) == (20, False)


def test_the_first_ready_fault_fires(service):
    """The first entry that is ready hits a request, and the next entry hits the next request."""
    service.add_fault("status", options={"status": 503})
    service.add_fault("status", options={"status": 429})
    assert [list_page(service).status for _ in range(3)] == [503, 429, 200]


def test_faults_can_be_removed(service):
    """DELETE removes all entries, and GET returns the remaining ones."""
    service.add_fault("status", times=None)
    service.assembly.control.respond("DELETE", "/_emulator/faults", b"")
    assert list_page(service).status == 200
    assert service.assembly.control.respond("GET", "/_emulator/faults", b"").body == b"[]"


def test_a_fault_requires_a_valid_signature(service):
    """A request with an invalid signature neither gets a fault nor counts for one."""
    service.add_fault("status")
    request = service.make_request("/20190901/configuration", key_id="nobody")
    assert service.serve(request).status == 401
    assert service.fault_states()[0]["fired"] == 0


@pytest.mark.parametrize(
    ("entries", "expected"),
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
def test_an_invalid_fault_is_rejected_with_a_hint(service, entries, expected):
    """An invalid fault is rejected when it is sent, and no fault of its list is added."""
    with pytest.raises(ControlError, match=expected):
        service.assembly.control.respond("POST", "/_emulator/faults", entries)
    assert service.fault_states() == []
