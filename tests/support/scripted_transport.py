"""A transport without a network that returns responses from a table; it neither retries nor waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from ociaudit.client.transport import HttpResponse, RetryBudget
from ociaudit.errors import InvalidResponse, RequestError

T = TypeVar("T")
Reply = tuple[bytes, str | None] | RequestError
RESPONDED_AT = datetime(2025, 12, 10, 12, 0, tzinfo=UTC)


class ScriptedTransport:
    """A transport that returns the replies of a page token in turn; the last reply of a token repeats."""

    def __init__(self, replies: Mapping[str | None, Sequence[Reply]]) -> None:
        """Keep the replies by requested token: each is (body, next token), or an error."""
        self._replies = {token: list(replies_of_token) for token, replies_of_token in replies.items()}
        self.tokens: list[str | None] = []
        self.urls: list[str] = []
        self.endpoints: set[str] = set()
        self.open_requests = 0

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Return the next reply for the token in the URL."""
        self.endpoints.add(endpoint)
        query = parse_qs(urlsplit(url).query)
        token = query["page"][0] if "page" in query else None
        self.tokens.append(token)
        self.urls.append(url)
        self.open_requests += 1
        try:
            await asyncio.sleep(0)
        finally:
            self.open_requests -= 1
        replies = self._replies[token]
        reply = replies.pop(0) if len(replies) > 1 else replies[0]
        if isinstance(reply, RequestError):
            raise reply
        body, next_token = reply
        try:
            checked = check(body)
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidResponse(str(error), request_id="request-bad") from error
        return HttpResponse(checked, len(body), next_token, f"request-{len(self.tokens)}", 1, RESPONDED_AT)


class SilentTransport:
    """A transport that never responds; a request ends only when it is cancelled."""

    def __init__(self) -> None:
        """Start without requests."""
        self.has_request = asyncio.Event()
        self.cancelled = 0

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Wait forever."""
        self.has_request.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("nobody sets this event")
