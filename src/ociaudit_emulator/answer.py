"""What goes back for one request, before it is on the wire.

Owns: the answer's value and the ways in which it can be delivered.
Must not: touch a socket.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from ociaudit_emulator.event_source import RawEvent
from ociaudit_emulator.paging import Cursor, join_page
from ociaudit_emulator.service_error import ServiceError

NEXT_PAGE_HEADER = "opc-next-page"


@dataclass(frozen=True, slots=True)
class Whole:
    """Deliver the answer as it is."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection after some bytes of the body; before any answer when None."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CutShort:
    """Promise the whole body, send so many bytes of it and close."""

    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Send nothing, the headers, or half of the body; then be silent and close."""

    seconds: float
    after: str = "nothing"


Delivery = Whole | Reset | CutShort | Stall
WHOLE = Whole()


@dataclass(frozen=True, slots=True)
class Page:
    """The items of a paged answer, the cursor that led to it, and the one to go on with."""

    items: Sequence[RawEvent]
    here: Cursor
    following: Cursor | None


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, headers and body; `item_count` is for the log."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delivery: Delivery = WHOLE
    item_count: int = 0

    def with_header(self, name: str, value: str) -> Answer:
        """Give the same answer with one more header."""
        return replace(self, headers={**self.headers, name: value})


def answer_json(content: object) -> Answer:
    """Answer a value as JSON."""
    return Answer(json.dumps(content, separators=(",", ":")).encode())


def answer_items(items: Sequence[RawEvent], token: str | None) -> Answer:
    """Answer a page of items, with the token of the next one if there is one."""
    headers = {} if token is None else {NEXT_PAGE_HEADER: token}
    return Answer(join_page(items), headers=headers, item_count=len(items))


def answer_error(error: ServiceError) -> Answer:
    """Answer a refusal."""
    content = {"code": error.code, "message": error.message}
    return Answer(json.dumps(content, separators=(",", ":")).encode(), status=error.status)
