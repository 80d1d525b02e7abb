"""Reading Logging Search: every event, whatever a query is limited to and however results are sorted."""

import asyncio
import json
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.client.logging_search import LoggingSearchReader, TooManyResults
from ociaudit.client.network import Endpoints
from ociaudit.client.transport import HttpResponse, PageLoop, RetryBudget
from ociaudit.errors import ServiceError
from ociaudit.events.event import read_order
from ociaudit.planning.shard import PageCursor, Shard, Target, Window, floor_minute
from support.connector_folders import make_api_event, make_cloud_event

START = datetime(2025, 6, 1, tzinfo=UTC)
START_MS = int(START.timestamp() * 1000)
MINUTE = floor_minute(START)
SHARD = Shard(Target("us-ashburn-1", "ocid1.compartment.oc1..aaaa"), Window(MINUTE, MINUTE + 60))


@dataclass
class SearchService:
    """A Logging Search that gives at most `cap` results a query, `page` a page, in some order; no HTTP."""

    times: list[int]
    cap: int = 10**9
    page: int = 1000
    order: str = "asc"
    is_end_included: bool = False
    states_total: bool = False
    loops: bool = False
    reject_tokens: int = 0
    requests: list[dict] = field(default_factory=list)

    async def fetch(self, url, parse, *, endpoint, retries, call):
        """Answer a request as `HttpClient.fetch` does."""
        assert (call.method, endpoint) == ("POST", SHARD.target.region)
        parts = urlsplit(url)
        assert parts.path == "/us-ashburn-1/20190909/search"
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = json.loads(call.body)
        self.requests.append({**query, **body})
        if "page" in query and self.reject_tokens:
            self.reject_tokens -= 1
            raise ServiceError("400 PaginationTokenExpired", status=400, code="x", is_oci=True)
        start, end = (self.read_ms(body[name]) for name in ("timeStart", "timeEnd"))
        assert end - start <= 14 * 86_400_000
        found = [number for number, time in enumerate(self.times) if start <= time < end + self.is_end_included]
        found.sort(key=lambda number: (self.times[number], number), reverse=self.order == "desc")
        if self.order == "random":
            random.Random(start).shuffle(found)
        found = found[: self.cap]
        first = int(query.get("page", 0))
        chosen = found[first : first + min(self.page, int(query["limit"]))]
        last = first + len(chosen)
        token = str(first if self.loops and first else last) if last < len(found) else None
        total = len(found) if self.states_total else len(chosen)
        content = {
            "results": [self.write(number) for number in chosen],
            "summary": {"resultCount": total, "fieldCount": 0},
            "fields": [],
        }
        data = json.dumps(content).encode()
        return HttpResponse(parse(data), len(data), token, "request", 1, START)

    def write(self, number):
        """Return an event as a result."""
        moment = datetime.fromtimestamp(self.times[number] / 1000, UTC)
        return {
            "data": {"datetime": self.times[number], "logContent": make_cloud_event(make_api_event(number, moment))}
        }

    @staticmethod
    def read_ms(text):
        """Return a time of a request in milliseconds."""
        return round(datetime.fromisoformat(text).timestamp() * 1000)


def read(service, shard=SHARD, cursor=None, pages=None):
    """Return the ids of a shard's events, and its last page; at most `pages` pages."""

    async def collect():
        reader = LoggingSearchReader(service, Endpoints("http://127.0.0.1:1/{region}"))
        ids, last = [], None
        async for page in reader.follow_shard(shard, cursor=cursor):
            ids += [read_order(event.order)[1] for event in page.events]
            last = page
            if pages is not None and page.number - (cursor.page if cursor else 0) >= pages:
                break
        return ids, last

    return asyncio.run(collect())


def name(number):
    """Return the id of an event."""
    return make_api_event(number, START)["eventId"]


def draw_times(count, seed):
    """Return times in the shard's hour, some of them equal."""
    rng = random.Random(seed)
    return [START_MS + rng.choice((rng.randrange(3_600_000), 1_000 * rng.randrange(3_600))) for _ in range(count)]


@given(
    count=st.integers(0, 700),
    cap=st.sampled_from([100, 101, 137, 250, 10**9]),
    page=st.sampled_from([40, 100, 500, 1000]),
    order=st.sampled_from(["asc", "desc", "random"]),
    is_end_included=st.booleans(),
    states_total=st.booleans(),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_every_event_is_read_whatever_limits_a_query(count, cap, page, order, is_end_included, states_total, seed):
    """All events of a shard arrive, with any limit from 100 on, page size, order and meaning of the end."""
    service = SearchService(draw_times(count, seed), cap, page, order, is_end_included, states_total)
    ids, last = read(service)
    assert set(ids) == {name(number) for number in range(count)}
    assert last.is_last
    assert all(request["timeStart"] < request["timeEnd"] for request in service.requests)


def test_few_results_are_one_request_and_many_one_more(tmp_path):
    """A query of less than 100 results is believed; a larger one is asked again from its last millisecond on."""
    few, many = SearchService(draw_times(99, 1)), SearchService(draw_times(900, 1))
    assert len(read(few)[0]) == 99
    assert len(few.requests) == 1
    ids, _ = read(many)
    assert len(set(ids)) == 900
    assert len(many.requests) == 2
    assert many.requests[0]["searchQuery"] == f'search "{SHARD.target.compartment}/_Audit" | sort by datetime asc'
    assert many.requests[0]["limit"] == "1000"


@pytest.mark.parametrize("pages", [1, 2, 3])
def test_a_shard_is_resumed_behind_any_page(pages):
    """The token of a page is enough to continue, in the middle of a query or between two."""
    service = SearchService(draw_times(450, 2), cap=200, page=100)
    before, page = read(service, pages=pages)
    after, last = read(service, cursor=PageCursor(page.attempt, page.number, page.next_token))
    assert set(before) | set(after) == {name(number) for number in range(450)}
    assert last.is_last


def test_a_rejected_or_looping_token_starts_the_shard_again_or_fails():
    """A rejected token begins another attempt; tokens that loop end in PageLoop."""
    service = SearchService(draw_times(350, 3), page=100, reject_tokens=1)
    ids, last = read(service)
    assert set(ids) == {name(number) for number in range(350)}
    assert last.attempt == 1
    with pytest.raises(PageLoop):
        read(SearchService(draw_times(350, 3), page=100, loops=True))


def test_a_millisecond_with_too_many_results_is_an_error():
    """500 results in one millisecond and nothing more are not believed: the shard fails, with the time."""
    service = SearchService([START_MS + 5_000] * 700, cap=500)
    with pytest.raises(TooManyResults, match=r"2025-06-01T00:00:0[45]\.\d{3}Z has 500 results or more"):
        read(service)
    assert len(set(read(SearchService([START_MS + 5_000] * 499, cap=500))[0])) == 499


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"results":null}',
        b'{"items":[]}',
        b'{"results":[1]}',
        b'{"results":[{"data":{"datetime":1}}]}',
        b'{"results":[{"data":{"logContent":{"id":"x","type":"t","specversion":"1.0"}}}]}',
        b'{"results":[{"data":{"datetime":1,"logContent":{"a":1}}}]}',
        b'{"results":[{"data":{"datetime":1,"logContent":{"id":"\\ud800"}}',
        b'{"results":["\\ud800"]}',
        b'{"other":"\\ud800"}',
        b'{"results":[{"data":"\xff"}]}',
    ],
)
def test_a_body_that_is_not_a_search_s_response_is_invalid(body):
    """What is not results with events raises ValueError, so that the request is tried again."""
    reader = LoggingSearchReader(None, Endpoints("http://127.0.0.1:1"))
    with pytest.raises(ValueError):
        reader._read_results(body)


def test_a_result_with_a_lone_surrogate_keeps_every_field():
    """A body that msgspec rejects is read by the scanner, with the same fields."""
    event = make_api_event(7, START)
    event["data"]["text"] = "\ud800"
    content = {"results": [{"data": {"datetime": START_MS, "logContent": make_cloud_event(event)}}]}
    reader = LoggingSearchReader(None, Endpoints("http://127.0.0.1:1"))
    found = reader._read_results(json.dumps(content).encode())
    assert found.times == [START_MS]
    read_back = json.loads(found.events[0].raw)
    assert read_back["data"] == event["data"]
    assert read_back["oracle"]["loggroupid"] == "_Audit"
    assert "datetime" not in read_back


def test_the_retry_budget_is_that_of_the_shard():
    """All requests of a shard share one budget of retries."""
    budgets = []

    class Recording(SearchService):
        async def fetch(self, url, parse, **options):
            budgets.append(options["retries"])
            return await super().fetch(url, parse, **options)

    read(Recording(draw_times(300, 4), page=100))
    assert len(budgets) > 2
    assert len(set(map(id, budgets))) == 1
    assert isinstance(budgets[0], RetryBudget)
