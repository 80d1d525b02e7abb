"""The Audit API: the events of a shard, page by page, and the retention period.

`PageReader` is how any service of events is read; `AuditReader` asks ListEvents.

A shard is read in *attempts*. An attempt is one pass over the shard's pages from the first; when the service rejects a
page token, the next attempt begins. `Page.attempt` and `PageCursor.attempt` number them.

Invariants
- A shard is complete only at a response without a next page token.
- No token is requested twice in one attempt, so looping tokens end it (`PageLoop`).
- While the caller processes a page, the next one is already requested: one page ahead, never more.
- The bytes of a page are released when the caller wants the next one.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

import msgspec

from ociaudit.client.network import Endpoints
from ociaudit.client.transport import HttpClient, HttpResponse, PageLoop, PageTokens, RetryBudget
from ociaudit.errors import RequestError, ServiceError
from ociaudit.events.event import Event, parse_page
from ociaudit.planning.shard import PageCursor, Shard, format_minute

ParsePage = Callable[[bytes], list[Event]]
_Request = asyncio.Task[HttpResponse[list[Event]]]
_MAX_RESTARTS = 2
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Page:
    """One response for a shard: its events, and the token of the next page.

    `attempt` is the number of the attempt, and `number` counts its pages from 1. `tries` is how many tries the
    request took.
    """

    shard: Shard
    attempt: int
    number: int
    events: list[Event]
    size_bytes: int
    next_token: str | None
    request_id: str | None
    tries: int
    requested_at: datetime

    @property
    def is_last(self) -> bool:
        """Return whether the shard is complete with this page."""
        return self.next_token is None


class PageReader(ABC):
    """Reads shards page by page; a subclass knows the requests of a service."""

    @abstractmethod
    async def fetch_page(self, shard: Shard, token: str | None, retries: RetryBudget) -> HttpResponse[list[Event]]:
        """Return the response with a page of a shard: the first, or the one of a token of its own.

        Raises:
            RequestError: the page could not be fetched.
        """

    async def read_first_page(self, shard: Shard) -> Page:
        """Return the first page of a shard, without a request for the next one.

        Raises:
            RequestError: the page could not be fetched.
        """
        response = await self._request(shard, None, RetryBudget())
        response.release()
        return _make_page(shard, 0, 1, response)

    async def follow_shard(
        self,
        shard: Shard,
        *,
        cursor: PageCursor | None = None,
        should_stop: Callable[[Page], bool] = lambda _: False,
    ) -> AsyncGenerator[Page, None]:
        """Yield the shard's pages to the last one, starting after `cursor` or at the first page.

        When the service rejects a page token or repeats one, the shard is read from its first page again, twice at
        most; events that were read before arrive again as identical records. `should_stop` is called with every page
        that has a next one, before that one is requested. If it returns True, the page is yielded as the last.

        Raises:
            RequestError: a page could not be fetched.
        """
        attempt, number, token = (cursor.attempt, cursor.page, cursor.token) if cursor else (0, 0, None)
        restarts = 0
        tokens = PageTokens(token)
        retries = RetryBudget()
        request: _Request | None = self._request(shard, token, retries)
        try:
            while request is not None:
                try:
                    response = await request
                    tokens.record(response)
                except RequestError as error:
                    if token is None or restarts == _MAX_RESTARTS or not _is_token_rejected(error):
                        raise
                    restarts, attempt, number, token = restarts + 1, attempt + 1, 0, None
                    tokens = PageTokens()
                    request = self._request(shard, None, retries)
                    continue
                number += 1
                token = response.next_token
                page = _make_page(shard, attempt, number, response)
                is_followed = token is not None and not should_stop(page)
                request = self._request(shard, token, retries) if is_followed else None
                try:
                    yield page
                finally:
                    response.release()
        finally:
            if request is not None:
                await _discard(request)

    def _request(self, shard: Shard, token: str | None, retries: RetryBudget) -> _Request:
        return asyncio.create_task(self.fetch_page(shard, token, retries))


class AuditReader(PageReader):
    """Reads from the Audit service of any region."""

    def __init__(self, client: HttpClient, endpoints: Endpoints, *, parse: ParsePage = parse_page) -> None:
        """Send requests through `client` to the addresses of `endpoints`; `parse` turns a page's body into events."""
        self._parse = parse
        self._client = client
        self._endpoints = endpoints

    async def read_retention_days(self, *, region: str, tenancy: str) -> int:
        """Return how many days the tenancy keeps audit events (`GetConfiguration`).

        Raises:
            RequestError: the service gave no valid response.
        """
        query = urlencode({"compartmentId": tenancy})
        url = f"{self._endpoints.locate('audit', region)}/configuration?{query}"
        response = await self._client.fetch(url, _parse_configuration, endpoint=region)
        response.release()
        return response.body.retentionPeriodDays

    async def fetch_page(self, shard: Shard, token: str | None, retries: RetryBudget) -> HttpResponse[list[Event]]:
        """Return a page of ListEvents."""
        query = {
            "compartmentId": shard.target.compartment,
            "startTime": format_minute(shard.window.start),
            "endTime": format_minute(shard.window.end),
        }
        if token is not None:
            query["page"] = token
        region = shard.target.region
        base = self._endpoints.locate("audit", region)
        url = f"{base}/auditEvents?{urlencode(query, quote_via=quote)}"
        return await self._client.fetch(url, self._parse, endpoint=region, retries=retries)


def _make_page(shard: Shard, attempt: int, number: int, response: HttpResponse[list[Event]]) -> Page:
    return Page(
        shard=shard,
        attempt=attempt,
        number=number,
        events=response.body,
        size_bytes=response.size_bytes,
        next_token=response.next_token,
        request_id=response.request_id,
        tries=response.tries,
        requested_at=response.requested_at,
    )


def _is_token_rejected(error: RequestError) -> bool:
    return isinstance(error, PageLoop) or (isinstance(error, ServiceError) and error.status == _BAD_REQUEST)


async def _discard(request: _Request) -> None:
    """Cancel a request, and retrieve its result so that asyncio does not warn about it."""
    request.cancel()
    await asyncio.wait([request])
    if not request.cancelled() and request.exception() is None:
        request.result().release()


class _Configuration(msgspec.Struct):
    retentionPeriodDays: int  # noqa: N815 - the API's name


def _parse_configuration(body: bytes) -> _Configuration:
    return msgspec.json.decode(body, type=_Configuration)
