"""A transport without a network: it answers from a table of pages, as a service would.

Owns: the answers. Must not: repeat, wait, or decide what a caller should do.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qs, urlsplit

import msgspec

from ociaudit.client.http_client import RetryBudget
from ociaudit.client.transport import HttpResponse
from ociaudit.errors import InvalidResponse, RequestError

T = TypeVar("T")
Reply = tuple[bytes, str | None] | RequestError
ASKED_AT = datetime(2025, 12, 10, 12, 0, tzinfo=UTC)


class ScriptedTransport:
    """Answers each page token from a table; where a token has several replies they come one after the other."""

    def __init__(self, replies: Mapping[str | None, Sequence[Reply]]) -> None:
        """Take (body, next token), or an error, by the token asked; the last reply of a token stays."""
        self._replies = {token: list(several) for token, several in replies.items()}
        self.tokens: list[str | None] = []
        self.urls: list[str] = []
        self.endpoints: set[str] = set()
        self.open_requests = 0

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Answer the token in the URL."""
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
        several = self._replies[token]
        reply = several.pop(0) if len(several) > 1 else several[0]
        if isinstance(reply, RequestError):
            raise reply
        body, next_token = reply
        try:
            checked = check(body)
        except (ValueError, msgspec.MsgspecError) as error:
            raise InvalidResponse(str(error), request_id="request-bad") from error
        return HttpResponse(checked, len(body), next_token, f"request-{len(self.tokens)}", 1, ASKED_AT)


class SilentTransport:
    """Never answers; a request ends only when it is cancelled."""

    def __init__(self) -> None:
        """Begin with nothing asked."""
        self.has_request = asyncio.Event()
        self.cancelled = 0

    async def fetch(
        self, url: str, check: Callable[[bytes], T], *, endpoint: str, retries: RetryBudget | None = None
    ) -> HttpResponse[T]:
        """Wait for ever."""
        self.has_request.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        raise AssertionError("nobody sets this event")
