"""The Logging Search API as a second source of audit events: those of a shard by event time, page by page.

A search selects from the log `_Audit` of one compartment, sorted by time: at most 14 days a query, and at most 1,000
results a page. Each result holds an event as a CloudEvent, which gets the API's names (`events/field_naming`).

How many results the pages of one query can have together is not documented, so the end of the pages proves nothing
where a query had 100 results or more. It is then asked again from its last millisecond to its end, until nothing new
comes: whatever the limit is, no result is passed over. Should the results not be sorted, the query is repeated in two
halves instead. What is left to ask and the service's page token are the shard's page token, so a run is resumed there.

Invariants
- A shard is complete only when each of its queries had fewer results than any limit, or nothing after the last one.
- A result that is not an event makes the whole page invalid.
- Results that arrive again, because a query is repeated, are identical records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlencode

import msgspec

from ociaudit.client.audit import PageReader, ParsePage
from ociaudit.client.network import Endpoints
from ociaudit.client.transport import Call, HttpClient, HttpResponse, RetryBudget
from ociaudit.errors import RequestError
from ociaudit.events.event import Event, parse_page, scan_value, skip_white_space
from ociaudit.events.field_naming import (
    TO_API_SHAPE,
    detect_naming,
    list_elements,
    list_members,
    split_members,
    unwrap_log,
    write_name,
)
from ociaudit.planning.shard import Shard

MAX_QUERY_DAYS = 14
_MAX_RESULTS = 1_000
_FEW_RESULTS = 100
"""No service with pages of a thousand limits a query to fewer."""
_ROUND_RESULTS = 500
_UNSORTED = -1
_MS_PER_MINUTE = 60_000
_MAX_DIGITS = 15
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class TooManyResults(RequestError):
    """A millisecond with as many results as one query can give."""

    default_hint = "export this range from ListEvents: omit --source"


@dataclass(frozen=True, slots=True)
class _Search:
    """Where a shard has come: the parts that are not complete, `[start, end)` in milliseconds since 1970.

    `token` is the service's page token in the first part, None at its beginning; `newest` is the latest time in the
    pages before, 0 without one, and -1 where their results were not sorted.
    """

    parts: tuple[tuple[int, int], ...]
    token: str | None = None
    newest: int = 0

    def __str__(self) -> str:
        """Write it as a page token."""
        parts = ",".join(f"{start}-{end}" for start, end in self.parts)
        return f"{parts}|{self.newest}|{self.token or ''}"

    @classmethod
    def parse(cls, text: str) -> _Search:
        """Read what `str` wrote."""
        parts, newest, token = text.split("|", 2)
        bounds = [part.split("-") for part in parts.split(",")]  # no time is negative
        return cls(tuple((int(start), int(end)) for start, end in bounds), token or None, int(newest))

    def follow(self, found: _Found, token: str | None) -> _Search | None:
        """Return what comes after a page, given the service's token; None after the last.

        Raises:
            TooManyResults: a millisecond has too many results to be read.
        """
        is_sorted = self.newest != _UNSORTED and [self.newest, *found.times] == sorted([self.newest, *found.times])
        newest = max(self.newest, *found.times, 0) if is_sorted else _UNSORTED
        if token is not None:
            return replace(self, token=token, newest=newest)
        (start, end), *rest = self.parts
        is_small = len(found.times) < _FEW_RESULTS and found.stated <= len(found.times)
        if (self.token is None and is_small) or newest >= end:
            return _Search(tuple(rest)) if rest else None
        if is_sorted and newest - 1 > start:  # a millisecond earlier, should the service leave the start out
            return _Search(((newest - 1, end), *rest))
        if not is_sorted and end - start > 2:
            middle = (start + end) // 2
            return _Search(((start, middle), (middle, end), *rest))
        if len(found.times) % _ROUND_RESULTS == 0:
            raise TooManyResults(
                f"the millisecond {_format_ms(start)} has {len(found.times):,} results or more, and the service gives "
                "no others"
            )
        return _Search(tuple(rest)) if rest else None


class _Result(msgspec.Struct):
    data: msgspec.Raw


class _Summary(msgspec.Struct, rename="camel"):
    result_count: int | None = None


class _Response(msgspec.Struct):
    results: list[_Result]
    summary: _Summary | None = None


@dataclass(frozen=True, slots=True)
class _Found:
    """The events of a page, the time of each result, and how many results the service says there are."""

    events: list[Event]
    times: list[int]
    stated: int


_decode_response = msgspec.json.Decoder(_Response).decode


class LoggingSearchReader(PageReader):
    """Reads from Logging Search of any region."""

    def __init__(self, client: HttpClient, endpoints: Endpoints, *, parse: ParsePage = parse_page) -> None:
        """Send requests through `client`; `parse` turns an array of events in shape `api` into events."""
        self._parse = parse
        self._client = client
        self._endpoints = endpoints

    async def fetch_page(self, shard: Shard, token: str | None, retries: RetryBudget) -> HttpResponse[list[Event]]:
        """Return a page of SearchLogs, with a token of its own."""
        search = _Search(((shard.window.start * _MS_PER_MINUTE, shard.window.end * _MS_PER_MINUTE),))
        if token is not None:
            search = _Search.parse(token)
        query = {"limit": str(_MAX_RESULTS)} | ({"page": search.token} if search.token is not None else {})
        region = shard.target.region
        url = f"{self._endpoints.locate('logging', region)}/search?{urlencode(query, quote_via=quote)}"
        call = Call(method="POST", body=_write_body(shard, search.parts[0]))
        response = await self._client.fetch(url, self._read_results, endpoint=region, retries=retries, call=call)
        try:
            following = search.follow(response.body, response.next_token)
        except TooManyResults:
            response.release()
            raise
        return HttpResponse(
            body=response.body.events,
            size_bytes=response.size_bytes,
            next_token=None if following is None else str(following),
            request_id=response.request_id,
            tries=response.tries,
            requested_at=response.requested_at,
            reservation=response.reservation,
        )

    def _read_results(self, body: bytes) -> _Found:
        """Return the events in a response.

        Raises:
            ValueError: it is not a response of a search, or a result is not an event.
        """
        text = body.decode("utf-8")  # msgspec does not validate what it skips
        try:
            response = _decode_response(body)
        except msgspec.ValidationError:
            raise
        except msgspec.DecodeError:  # not JSON, or with a lone surrogate
            results, stated = _split_slowly(text, body), None
        else:
            results = [bytes(one.data) for one in response.results]
            stated = response.summary.result_count if response.summary is not None else None
        read = [_read_result(data) for data in results]
        events = self._parse(b"[" + b",".join([raw for raw, _ in read]) + b"]")
        return _Found(events, [time for _, time in read], stated or 0)


def _split_slowly(text: str, body: bytes) -> list[bytes]:
    """Return the `data` of each result, with the standard library's scanner, which accepts lone surrogates.

    Raises:
        ValueError: it is not JSON, or has no list of results.
    """
    start = skip_white_space(text, 0)
    _, end = scan_value(text, start)
    if skip_white_space(text, end) != len(text) or text[start] != "{":
        raise ValueError("it is not a JSON object")
    listed = dict(list_members(body)).get("results", b"")
    if not listed.startswith(b"["):
        raise ValueError("it has no list of results")
    elements = list_elements(listed)
    if not all(element.startswith(b"{") for element in elements):
        raise ValueError("a result is not a JSON object")
    return [dict(list_members(element)).get("data", b"") for element in elements]


def _read_result(data: bytes) -> tuple[bytes, int]:
    """Return the event of a result in shape `api`, and the time by which the service sorts, in milliseconds.

    Raises:
        ValueError: there is no event, or no time.
    """
    wrapper = split_members(data) if data.startswith(b"{") else {}
    digits = bytes(wrapper.get("datetime", b""))
    members = unwrap_log(wrapper)
    naming = None if members is None else detect_naming(members)
    if members is None or naming is None:
        raise ValueError("a result holds no event")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        raise ValueError("a result has no time")
    if naming in TO_API_SHAPE:
        return TO_API_SHAPE[naming](members), int(digits)
    return b"{%b}" % b",".join([b"%b:%b" % (write_name(name), value) for name, value in members.items()]), int(digits)


def _write_body(shard: Shard, part: tuple[int, int]) -> bytes:
    return msgspec.json.encode(
        {
            "timeStart": _format_ms(part[0]),
            "timeEnd": _format_ms(part[1]),
            "searchQuery": f'search "{shard.target.compartment}/_Audit" | sort by datetime asc',
            "isReturnFieldInfo": False,
        }
    )


def _format_ms(time_ms: int) -> str:
    moment = _EPOCH + timedelta(milliseconds=time_ms)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time_ms % 1000:03}Z"
