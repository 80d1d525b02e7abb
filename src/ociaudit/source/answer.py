"""What comes of a request: a good answer for whoever asked, and a line for whoever watches.

Owns: these two forms. Must not: ask.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from ociaudit.errors import BadAnswer, Refused, RequestError
from ociaudit.source.byte_budget import Hold

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Answer(Generic[T]):
    """A good answer: its checked body, and what the headers said."""

    body: T
    size_bytes: int
    next_token: str | None
    request_id: str | None
    attempts: int
    asked_at: datetime
    hold: Hold | None = None
    """The body's bytes; whoever has worked it off releases them."""

    def release(self) -> None:
        """Give the body's bytes back to the budget."""
        if self.hold is not None:
            self.hold.release()


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One attempt, for those who watch: no header value, no token.

    `path` is the URL's without its query. `status` and `request_id` are None where nothing was answered,
    `error` is None where the answer was good.
    """

    host: str
    path: str
    status: int | None
    size_bytes: int
    seconds: float
    attempt: int
    request_id: str | None
    error: str | None


def finish_request(url: str, attempt: int, seconds: float, end: Answer[T] | RequestError) -> FinishedRequest:
    """Return what watchers are told of an attempt that took so long and ended so."""
    parts = urlsplit(url)
    status: int | None = 200
    if not isinstance(end, Answer | BadAnswer):
        status = end.status if isinstance(end, Refused) else None
    return FinishedRequest(
        host=parts.netloc,
        path=parts.path,
        status=status,
        size_bytes=end.size_bytes if isinstance(end, Answer) else 0,
        seconds=seconds,
        attempt=attempt,
        request_id=end.request_id,
        error=None if isinstance(end, Answer) else str(end),
    )
