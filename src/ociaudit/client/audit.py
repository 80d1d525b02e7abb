"""One shard's pages, followed to the end.

Owns: the order of questions within a shard. Must not: decide which shards to ask, or keep events.

Invariants
- A chain ends only where an answer has no next token.
- A token is never asked twice in one chain, so a chain of looping tokens ends (`PageLoop`).
- While a page is being worked on, the next one is already on its way: one page ahead, never more.
- The bytes of a page are given back to the budget when the next one is wanted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote, urlencode

import msgspec

from ociaudit.client.http_client import Client, RetryBudget
from ociaudit.client.network import Endpoints
from ociaudit.client.transport import HttpResponse
from ociaudit.errors import InvalidResponse, ServiceError
from ociaudit.events.event import Event, parse_page
from ociaudit.planning.shard import PageCursor, Shard
from ociaudit.planning.window import format_minute

ParsePage = Callable[[bytes], list[Event]]
_MAX_RESTARTS = 2
_BAD_REQUEST = 400


@dataclass(frozen=True, slots=True)
class Page:
    """One answer to a shard: its events and where it goes on.

    `number` counts from 1 within a chain. When the service refuses a token the shard is asked from its first
    page again, which is the next chain. `is_last`: with this page the shard is complete.
    """

    shard: Shard
    chain: int
    number: int
    events: list[Event]
    size_bytes: int
    next_token: str | None
    request_id: str | None
    attempts: int
    asked_at: datetime

    @property
    def is_last(self) -> bool:
        """Tell whether the shard ends here."""
        return self.next_token is None


class PageLoop(InvalidResponse):
    """The service gave a token that it had given before in the same chain."""


class _Configuration(msgspec.Struct):
    retentionPeriodDays: int  # noqa: N815 - the API's spelling


def _go_on(_: Page) -> bool:
    return False


class AuditReader:
    """Asks the Audit service of any region."""

    def __init__(self, client: Client, endpoints: Endpoints, *, cut: ParsePage = parse_page) -> None:
        """Ask through `client`, at the addresses of `endpoints`; `cut` makes events of a page's body."""
        self._cut = cut
        self._client = client
        self._endpoints = endpoints

    async def read_retention_days(self, *, region: str, tenancy: str) -> int:
        """Return how many days the tenancy keeps audit events (`GetConfiguration`).

        Raises:
            RequestError: no good answer.
        """
        query = urlencode({"compartmentId": tenancy})
        url = f"{self._endpoints.locate('audit', region)}/configuration?{query}"
        answer = await self._client.fetch(url, _check_configuration, endpoint=region)
        answer.release()
        return answer.body.retentionPeriodDays

    async def read_first_page(self, shard: Shard) -> Page:
        """Ask for the first page of a shard alone.

        Raises:
            RequestError: it could not be had.
        """
        answer = await self._ask(shard, None, RetryBudget())
        answer.release()
        return _make_page(shard, 0, 1, answer)

    async def follow_shard(
        self, shard: Shard, *, cursor: PageCursor | None = None, is_cancelled: Callable[[Page], bool] = _go_on
    ) -> AsyncGenerator[Page, None]:
        """Yield the shard's pages to the end, beginning behind `bookmark` or at the first page.

        When the service refuses a token, or goes round in circles, the shard is asked again from its first
        page, twice at most; what was read already comes again as identical records. `should_stop` is asked of
        every page that another follows, before that one is asked for; the page is yielded all the same.

        Raises:
            RequestError: a page could not be had.
        """
        chain, number, token = (cursor.attempt, cursor.page, cursor.token) if cursor else (0, 0, None)
        restarts = 0
        seen = {token} if token is not None else set()
        retries = RetryBudget()
        asking: asyncio.Task[HttpResponse[list[Event]]] | None = self._ask(shard, token, retries)
        try:
            while asking is not None:
                try:
                    answer = await asking
                    _check_token_is_new(answer, seen)
                except (ServiceError, PageLoop) as error:
                    if token is None or restarts == _MAX_RESTARTS or not _is_token_refused(error):
                        raise
                    restarts, chain, number, token = restarts + 1, chain + 1, 0, None
                    seen.clear()
                    asking = self._ask(shard, None, retries)
                    continue
                number += 1
                token = answer.next_token
                page = _make_page(shard, chain, number, answer)
                asking = None
                if token is not None and not is_cancelled(page):
                    seen.add(token)
                    asking = self._ask(shard, token, retries)
                try:
                    yield page
                finally:
                    answer.release()
        finally:
            if asking is not None:
                await _discard(asking)

    def _ask(self, shard: Shard, token: str | None, retries: RetryBudget) -> asyncio.Task[HttpResponse[list[Event]]]:
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
        return asyncio.create_task(self._client.fetch(url, self._cut, endpoint=region, retries=retries))


def _make_page(shard: Shard, chain: int, number: int, answer: HttpResponse[list[Event]]) -> Page:
    return Page(
        shard=shard,
        chain=chain,
        number=number,
        events=answer.body,
        size_bytes=answer.size_bytes,
        next_token=answer.next_token,
        request_id=answer.request_id,
        attempts=answer.attempts,
        asked_at=answer.asked_at,
    )


def _check_token_is_new(answer: HttpResponse[list[Event]], seen: set[str]) -> None:
    if answer.next_token in seen:
        answer.release()
        raise PageLoop("the service goes round in circles: it gave a page token twice", request_id=answer.request_id)


def _is_token_refused(error: ServiceError | PageLoop) -> bool:
    return isinstance(error, PageLoop) or error.status == _BAD_REQUEST


async def _discard(task: asyncio.Task[HttpResponse[list[Event]]]) -> None:
    """End a request that nobody waits for any more, and take its outcome so that nothing complains."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and task.exception() is None:
        task.result().release()


def _check_configuration(body: bytes) -> _Configuration:
    return msgspec.json.decode(body, type=_Configuration)
