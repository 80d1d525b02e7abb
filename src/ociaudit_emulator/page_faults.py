"""The faults that only a page can have: wrong tokens, and events too often.

Owns: these kinds.
Must not: decide when a fault fires.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from ociaudit_emulator.answer import NEXT_PAGE_HEADER, Answer, answer_error, answer_items
from ociaudit_emulator.exchange import Exchange, FaultOptions
from ociaudit_emulator.paging import Cursor, join_page
from ociaudit_emulator.service_error import ServiceError

ApplyPageFault = Callable[[Exchange, FaultOptions], Answer | None]
_COUNT = frozenset({"count"})


def _answer_empty_page(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Answer no items, and a token that leads to the page that was asked for."""
    if exchange.page is None:
        return None
    return answer_items((), exchange.codec.encode(exchange.page.here))


def _answer_empty_token(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Answer the last page with a token header that is there, but empty."""
    if exchange.page is None or exchange.page.following is not None:
        return None
    return exchange.answer.with_header(NEXT_PAGE_HEADER, "")


def _answer_repeated_token(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Answer the token that was sent, or for a first page one that leads back to itself."""
    if exchange.page is None:
        return None
    token = exchange.call.parameters.get("page")
    if not token:
        token = exchange.codec.encode(replace(exchange.page.here, is_looping=True))
    return exchange.answer.with_header(NEXT_PAGE_HEADER, token)


def _answer_expired_token(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Refuse a token as too old."""
    if not exchange.call.parameters.get("page"):
        return None
    return answer_error(ServiceError(400, "PaginationTokenExpired", "The page token has expired."))


def _answer_foreign_token(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Answer a token that belongs to another question."""
    if exchange.page is None:
        return None
    here = exchange.page.here
    token = exchange.codec.encode(Cursor(f"not {here.question}", here.position, here.page_number + 1))
    return exchange.answer.with_header(NEXT_PAGE_HEADER, token)


def _duplicate_within(exchange: Exchange, options: FaultOptions) -> Answer | None:
    """Put some of the page's items into it twice."""
    if exchange.page is None or not exchange.page.items:
        return None
    items = exchange.page.items
    again = list(items[: options.read_count("count", 3)])
    return _with_items(exchange, [*items, *again])


def _duplicate_across(exchange: Exchange, options: FaultOptions) -> Answer | None:
    """Put events into the page that belong into other windows of the same place."""
    if exchange.page is None:
        return None
    strangers = exchange.read_elsewhere(options.read_count("count", 3))
    if not strangers:
        return None
    return _with_items(exchange, [*exchange.page.items, *strangers])


def _change_copy(exchange: Exchange, options: FaultOptions) -> Answer | None:
    """Put copies into the page that keep the id and differ in another field."""
    if exchange.page is None or not exchange.page.items:
        return None
    chosen = exchange.page.items[: options.read_count("count", 1)]
    copies = [_write_changed(bytes(item), is_time_changed=options.read_flag("changeEventTime")) for item in chosen]
    return _with_items(exchange, [*exchange.page.items, *copies])


def _write_changed(item: bytes, *, is_time_changed: bool) -> bytes:
    """Write an event's copy with another time, or with a field that it did not have."""
    event = json.loads(item)
    if is_time_changed:
        event["eventTime"] = _shift_time(str(event.get("eventTime", "")))
    else:
        event["emulatorChanged"] = "the same id with other bytes"
    return json.dumps(event, separators=(",", ":")).encode()


def _shift_time(text: str) -> str:
    """Give the time one second later; an unreadable one becomes a readable one."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime(2020, 1, 1, tzinfo=UTC)
    return (moment + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")


def _with_items(exchange: Exchange, items: list[bytes | memoryview]) -> Answer:
    """Give the page's answer with other items."""
    return replace(exchange.answer, body=join_page(items), item_count=len(items))


PAGE_FAULTS: Mapping[str, tuple[ApplyPageFault, frozenset[str]]] = {
    "empty_page": (_answer_empty_page, frozenset()),
    "empty_token": (_answer_empty_token, frozenset()),
    "repeated_token": (_answer_repeated_token, frozenset()),
    "expired_token": (_answer_expired_token, frozenset()),
    "foreign_token": (_answer_foreign_token, frozenset()),
    "duplicate_within": (_duplicate_within, _COUNT),
    "duplicate_across": (_duplicate_across, _COUNT),
    "same_id_other_bytes": (_change_copy, _COUNT | {"changeEventTime"}),
}
