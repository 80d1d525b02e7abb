import json

import pytest

from ociaudit_emulator.http import NEXT_PAGE_HEADER
from ociaudit_emulator.settings import PageSize
from support.emulated_service import EmulatedService
from support.emulator import split_array

START, END = "2025-12-01T00:00:00Z", "2025-12-02T00:00:00Z"


def read_code(response):
    """The status and the code of an error."""
    return response.status, json.loads(response.body)["code"]


def test_the_pages_together_hold_the_window(service):
    """Following the tokens to the last page returns each event of the window once."""
    pages = service.list_pages(service.tenancy.id, START, END)
    events = [event for page in pages for event in page]
    assert len(pages) > 1
    assert {len(page) for page in pages[:-1]} == {100}
    assert len(set(events)) == len(events)


def test_the_control_stream_holds_the_events_of_the_pages(service):
    """The unsigned stream holds the same bytes as the pages, in processing order."""
    query = f"compartmentId={service.tenancy.id}&startTime={START}&endTime={END}"
    stream = split_array(b"".join(service.assembly.control.stream_events(f"/_emulator/events?{query}")))
    paged = service.list_all_events(service.tenancy.id, START, END)
    assert sorted(stream) == sorted(paged)
    assert stream != paged, "pages are shuffled by default"


@pytest.mark.parametrize("name", ["compartmentId", "startTime", "endTime"])
def test_a_missing_parameter_is_named(service, name):
    """A request without compartment, start or end gets 400 MissingParameter."""
    parameters = {"compartmentId": service.tenancy.id, "startTime": START, "endTime": END}
    del parameters[name]
    response = service.get("/20190901/auditEvents", **parameters)
    assert read_code(response) == (400, "MissingParameter")
    assert name in response.body.decode()


@pytest.mark.parametrize(
    ("start", "end"),
    [
        (END, START),
        (START, START),
        ("2025-12-01", END),
        ("yesterday", END),
        (START, "2025-13-01T00:00:00Z"),
        ("2024-12-09T00:00:00Z", END),
    ],
    ids=["reversed", "empty", "only a date", "words", "month 13", "older than retention"],
)
def test_an_invalid_window_is_rejected(service, start, end):
    """A window that is empty, unreadable or older than retention gets 400 InvalidParameter."""
    assert read_code(service.list_events(service.tenancy.id, start, end)) == (400, "InvalidParameter")


@pytest.mark.parametrize(
    "start",
    [
        "2025-12-01T00:00:00.000Z",
        "2025-12-01T00:00:00.000000Z",
        "2025-12-01T01:30:00+01:30",
        "2025-11-30T23:00:00.0-01:00",
        "2025-12-01T00:00Z",
        "2025-12-01T0:00:00Z",
        "2025-12-01T1:30:00+01:30",
    ],
)
def test_every_form_of_a_time_is_the_same_query(service, start):
    """Fractions and offsets, as the official clients send them, return the same events."""
    response = service.list_events(service.tenancy.id, start, END)
    assert response.body == service.list_events(service.tenancy.id, START, END).body


def test_the_first_day_of_the_retention_period_can_be_read(service):
    """A window may start on the first day of the retention period."""
    response = service.list_events(service.tenancy.id, "2024-12-10T00:00:00Z", "2024-12-11T00:00:00Z")
    assert response.status == 200


def test_seconds_are_rejected_only_with_strict_minutes(service):
    """The seconds of a start are ignored, and get 400 with --strict-minutes."""
    start = "2025-12-01T00:00:30Z"
    strict = EmulatedService(is_strict_about_minutes=True)
    assert service.list_events(service.tenancy.id, start, END).status == 200
    assert read_code(strict.list_events(strict.tenancy.id, start, END)) == (400, "InvalidParameter")


@pytest.mark.parametrize("name", ["investigations", "unknown"])
def test_forbidden_and_unknown_compartments_look_the_same(service, name):
    """A forbidden compartment gets the same 404 as one that does not exist."""
    known = service.find_compartment("investigations")
    response = service.list_events(known if name == "investigations" else f"{known}x", START, END)
    assert read_code(response) == (404, "NotAuthorizedOrNotFound")


def test_the_deleted_compartment_can_be_read(service):
    """The events of a DELETED compartment can still be read."""
    events = service.list_all_events(service.find_compartment("retired-2019"), "2025-11-01T00:00:00Z", END)
    assert events


@pytest.mark.parametrize("region", ["sa-saopaulo-1", "eu-nowhere-9"])
def test_a_region_that_is_not_subscribed_is_401(service, region):
    """A region that is unknown, or whose subscription is in progress, gets 401, as with Oracle."""
    response = service.list_events(service.tenancy.id, START, END, region=region)
    assert read_code(response) == (401, "NotAuthenticated")


def test_the_bare_path_is_the_home_region(service):
    """The path without a region returns the events of us-ashburn-1, and other regions return others."""
    bare, home, other = (
        service.list_events(service.tenancy.id, START, END, region=region).body
        for region in ("", "us-ashburn-1", "ap-tokyo-1")
    )
    assert bare == home != other


@pytest.mark.parametrize(
    "change",
    [
        {"end": "2025-12-03T00:00:00Z"},
        {"start": "2025-12-01T00:01:00Z"},
        {"region": "eu-frankfurt-1"},
        {"compartment": "payments"},
    ],
)
def test_a_token_is_valid_only_for_its_own_window(service, change):
    """A token sent with another window, region or compartment gets 400."""
    token = service.list_events(service.tenancy.id, START, END).headers[NEXT_PAGE_HEADER]
    compartment = service.find_compartment(change.get("compartment", "root"))
    response = service.list_events(
        compartment,
        change.get("start", START),
        change.get("end", END),
        region=change.get("region", ""),
        page=token,
    )
    assert read_code(response) == (400, "InvalidParameter")


@pytest.mark.parametrize("token", ["x", "AAAA", "ä", "A" * 80])
def test_an_invalid_token_is_rejected(service, token):
    """A page parameter that is not a token of this service gets 400 PaginationTokenFormat."""
    response = service.list_events(service.tenancy.id, START, END, page=token)
    assert read_code(response) == (400, "PaginationTokenFormat")


def test_a_token_survives_a_restart(service):
    """A token of one process is valid in the next one with the same seed."""
    token = service.list_events(service.tenancy.id, START, END).headers[NEXT_PAGE_HEADER]
    again = EmulatedService()
    first, second = (one.list_events(one.tenancy.id, START, END, page=token) for one in (service, again))
    assert first.status == 200
    assert first.body == second.body


def test_the_future_is_empty():
    """The current minute and later ones have no events, and their page is empty."""
    service = EmulatedService()
    response = service.list_events(service.tenancy.id, "2025-12-10T12:34:00Z", "2025-12-11T00:00:00Z")
    assert (response.status, response.body) == (200, b"[]")


def test_the_retention_period_is_returned_and_applied():
    """GetConfiguration returns the retention period that ListEvents applies."""
    service = EmulatedService(retention_days=90)
    response = service.get("/20190901/configuration", compartmentId=service.tenancy.id)
    assert json.loads(response.body) == {"retentionPeriodDays": 90}
    old = service.list_events(service.tenancy.id, "2025-09-10T00:00:00Z", "2025-09-12T00:00:00Z")
    assert read_code(old) == (400, "InvalidParameter")


def test_too_many_requests_get_429_without_retry_after():
    """A region over the rate limit returns 429 until time has passed; other regions do not."""
    service = EmulatedService(rate_limit_per_second=2)
    codes = [service.list_events(service.tenancy.id, START, END).status for _ in range(3)]
    assert codes == [200, 200, 429]
    rejected = service.list_events(service.tenancy.id, START, END)
    assert "Retry-After" not in rejected.headers
    assert service.list_events(service.tenancy.id, START, END, region="ap-tokyo-1").status == 200
    service.monotonic += 0.5
    assert service.list_events(service.tenancy.id, START, END).status == 200


def test_a_429_can_have_retry_after():
    """With --retry-after every 429 has that header."""
    service = EmulatedService(rate_limit_per_second=1, retry_after_seconds=7)
    service.list_events(service.tenancy.id, START, END)
    assert service.list_events(service.tenancy.id, START, END).headers["Retry-After"] == "7"


def test_the_identity_service_is_not_limited():
    """The rate limit applies only to the Audit service."""
    service = EmulatedService(rate_limit_per_second=1)
    codes = [service.get(f"/20160918/tenancies/{service.tenancy.id}").status for _ in range(5)]
    assert codes == [200] * 5


def test_pages_are_compressed_only_for_clients_that_accept_gzip():
    """With --gzip, a client that accepts gzip gets it, and others get the plain page."""
    service = EmulatedService(is_gzip_allowed=True)
    plain = service.list_events(service.tenancy.id, START, END)
    compressed = service.list_events(service.tenancy.id, START, END, headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in plain.headers
    assert compressed.headers["Content-Encoding"] == "gzip"
    assert len(compressed.body) < len(plain.body) / 3


def test_each_call_becomes_an_event_with_self_audit():
    """With --self-audit, a ListEvents call is an event of the current minute in the requested compartment."""
    service = EmulatedService(is_self_auditing=True)
    window = ("2025-12-10T12:34:00Z", "2025-12-10T12:35:00Z")
    first = service.list_all_events(service.tenancy.id, *window)
    second = service.list_all_events(service.tenancy.id, *window)
    elsewhere = service.list_all_events(service.find_compartment("payments"), *window)
    assert [len(first), len(second), len(elsewhere)] == [1, 2, 1]
    assert json.loads(first[0])["eventType"] == "com.oraclecloud.Audit.ListEvents"
    assert first[0] in second


def test_the_events_of_calls_are_paged():
    """The events of calls follow the others, and none is lost between pages."""
    service = EmulatedService(is_self_auditing=True, page_size=PageSize(3, 3), is_shuffling=False)
    window = ("2025-12-10T12:00:00Z", "2025-12-10T12:35:00Z")
    for _ in range(10):
        service.list_events(service.tenancy.id, *window)
    pages = service.list_pages(service.tenancy.id, *window)
    events = [event for page in pages for event in page]
    assert len(set(events)) == len(events)
    # The requests for these pages are events as well.
    assert sum(b"Audit.ListEvents" in event for event in events) >= 10


def test_the_log_entry_describes_the_request(service):
    """A request's entry has operation, region, window, page, status, items and request id."""
    response = service.list_events(
        service.tenancy.id, START, END, region="eu-frankfurt-1", headers={"opc-request-id": "mine"}
    )
    entry = service.last_entry
    assert (entry.operation, entry.region, entry.compartmentId) == (
        "ListEvents",
        "eu-frankfurt-1",
        service.tenancy.id,
    )
    assert (entry.startTime, entry.endTime, entry.hasPage) == (START, END, False)
    assert (entry.status, entry.items) == (200, len(split_array(response.body)))
    assert entry.requestId == response.headers["opc-request-id"]
    assert entry.requestId.startswith("mine/")


def test_an_unknown_path_is_404(service):
    """A signed request for an unknown path gets 404."""
    assert read_code(service.get("/20190901/nothing")) == (404, "NotFound")
    assert read_code(service.get("/us-ashburn-1/")) == (404, "NotFound")
