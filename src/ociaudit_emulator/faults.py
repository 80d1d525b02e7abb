"""Scripted faults: which requests they hit, how often, and what they do to the response.

To add a kind of fault, write one function and register it in FAULT_KINDS. The function gets the exchange and
the options, and returns the response to send instead, or None when the fault does not apply to this response.

Invariants:
- a request is hit by at most one fault: the first entry, in the order given, that matches, is not completed,
  has skipped its number of requests, and applies;
- an entry counts only what it did: a fault that did not apply has not fired.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ociaudit_emulator.event_store import RawEvent
from ociaudit_emulator.http import (
    NEXT_PAGE_HEADER,
    ApiCall,
    ApiError,
    Cursor,
    CutShort,
    ItemPage,
    Operation,
    Reset,
    ResetUpload,
    ServerResponse,
    Stall,
    TokenCodec,
    error_response,
    items_response,
    json_response,
    not_authenticated,
)
from ociaudit_emulator.signature import MAX_SKEW_SECONDS
from ociaudit_emulator.time_formats import MS_PER_MINUTE, format_http_date, parse_time_ms

_MAX_SECONDS = 10**8
_NESTING_DEPTH = 100_000
_COUNT_OPTION = frozenset({"count"})
_HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
_OTHER_BODIES: Mapping[str, bytes] = {
    "object": b'{"items":[],"message":"this is not an array"}',
    "string": b'"this is not an array"',
    "strings": b'["this","is","no","array","of","objects"]',
    "numbers": b"[1,2,3]",
    "null": b"null",
    "nothing": b"",
}
_DEFAULT_CODES = {
    400: "InvalidParameter",
    401: "NotAuthenticated",
    403: "NotAllowed",
    404: "NotAuthorizedOrNotFound",
    409: "IncorrectState",
    429: "TooManyRequests",
    502: "BadGateway",
    503: "ServiceUnavailable",
    504: "GatewayTimeout",
}
_ANY_OPERATION = "*"
_UPLOADS = frozenset({Operation.PUT_OBJECT, Operation.UPLOAD_PART})
_ENTRY_KEYS = frozenset({"operation", "match", "skip", "times", "fault", "effect"})
# Of a write that a fault affects: whether it is done before its response is lost or changed.
EFFECTS = NOT_DONE, DONE = "none", "done"
_PAGE_CHOICES = frozenset({"first", "later", "any"})
_TIME_CONDITIONS = frozenset({"startTime", "endTime", "startBefore", "startFrom", "covers"})
_NAME_CONDITIONS = frozenset({"bucket", "object", "uploadPartNum"})
_MATCH_KEYS = _TIME_CONDITIONS | _NAME_CONDITIONS | {"region", "compartmentId", "page"}


class FaultRequestError(Exception):
    """A scripted fault that is not valid; the text says what would be."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, its undisturbed response, and what a fault needs to make another response.

    `page` is None for responses without pages. `read_elsewhere` returns events of the same target
    from outside the requested window. `encode_items` writes a page's items.
    """

    call: ApiCall
    response: ServerResponse
    page: ItemPage | None
    codec: TokenCodec
    is_gzip_accepted: bool
    read_elsewhere: Callable[[int], Sequence[RawEvent]]
    now_seconds: float = 0.0
    encode_items: Callable[[Sequence[RawEvent], str | None], ServerResponse] = items_response


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """The options of one scripted fault; reading an invalid one raises FaultRequestError."""

    kind: str
    values: Mapping[str, object]

    def read_number(self, name: str, default: float) -> float:
        """Return a number that is not negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            message = f"option {name} of '{self.kind}' is {value!r}; it must be a number from 0"
            raise FaultRequestError(message)
        return value

    def read_signed_number(self, name: str, default: float) -> float:
        """Return a number that may be negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MAX_SECONDS:
            allowed = f"a number from -{_MAX_SECONDS} to {_MAX_SECONDS}"
            message = f"option {name} of '{self.kind}' is {value!r}; it must be {allowed}"
            raise FaultRequestError(message)
        return value

    def read_count(self, name: str, default: int) -> int:
        """Return a whole number that is not negative."""
        return int(self.read_number(name, default))

    def read_text(self, name: str, default: str) -> str:
        """Return a text."""
        return str(self.values.get(name, default))

    def read_choice(self, name: str, choices: Sequence[str]) -> str:
        """Return one of a few texts; the first is the default."""
        value = self.read_text(name, choices[0])
        if value not in choices:
            message = f"option {name} of '{self.kind}' is {value!r}; it must be one of {', '.join(choices)}"
            raise FaultRequestError(message)
        return value

    def read_flag(self, name: str) -> bool:
        """Return a boolean; false by default."""
        return bool(self.values.get(name, False))

    def read_headers(self) -> dict[str, str]:
        """Return the headers to send."""
        headers = self.values.get("headers", {})
        if not isinstance(headers, dict):
            message = f"option headers of '{self.kind}' must be a JSON object of strings"
            raise FaultRequestError(message)
        return {str(name): str(value) for name, value in headers.items()}


ApplyFault = Callable[[Exchange, FaultOptions], ServerResponse | None]


@dataclass(frozen=True, slots=True)
class FaultKind:
    """A kind of fault: the function that applies it, and the names of its options."""

    apply: ApplyFault
    options: frozenset[str] = frozenset()


# Faults that apply to pages only: wrong tokens, and repeated events.


def _insert_empty_page(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Return no items, and a token of the requested page."""
    if exchange.page is None:
        return None
    return exchange.encode_items((), exchange.codec.encode(exchange.page.cursor))


def _send_empty_token(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Add an empty token header to the last page."""
    if exchange.page is None or exchange.page.next_cursor is not None:
        return None
    return exchange.response.with_header(NEXT_PAGE_HEADER, "")


def _repeat_token(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Return the token that was sent; for a first page, return one that leads to itself."""
    if exchange.page is None:
        return None
    token = exchange.call.parameters.get("page")
    if not token:
        token = exchange.codec.encode(replace(exchange.page.cursor, is_looping=True))
    return exchange.response.with_header(NEXT_PAGE_HEADER, token)


def _reject_token(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Reject a token as expired."""
    if not exchange.call.parameters.get("page"):
        return None
    return error_response(ApiError(400, "PaginationTokenExpired", "The page token has expired."))


def _send_foreign_token(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Return a token that belongs to another query."""
    if exchange.page is None:
        return None
    cursor = exchange.page.cursor
    token = exchange.codec.encode(Cursor(f"not {cursor.query}", cursor.position, cursor.page_number + 1))
    return exchange.response.with_header(NEXT_PAGE_HEADER, token)


def _duplicate_items(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Repeat some of the page's items."""
    if exchange.page is None or not exchange.page.items:
        return None
    items = exchange.page.items
    return _replace_items(exchange, [*items, *items[: options.read_count("count", 3)]])


def _add_items_of_other_windows(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Add events of the same target from outside the requested window."""
    if exchange.page is None:
        return None
    others = exchange.read_elsewhere(options.read_count("count", 3))
    if not others:
        return None
    return _replace_items(exchange, [*exchange.page.items, *others])


def _add_changed_copies(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Add copies of events that keep the id and differ in another field."""
    if exchange.page is None or not exchange.page.items:
        return None
    chosen = exchange.page.items[: options.read_count("count", 1)]
    copies = [_change_event(bytes(item), is_time_changed=options.read_flag("changeEventTime")) for item in chosen]
    return _replace_items(exchange, [*exchange.page.items, *copies])


def _change_event(item: bytes, *, is_time_changed: bool) -> bytes:
    """Return an event with another time, or with an additional field."""
    event = json.loads(item)
    if is_time_changed:
        event["eventTime"] = _shift_time(str(event.get("eventTime", "")))
    else:
        event["emulatorChanged"] = "the same id with other bytes"
    return json.dumps(event, separators=(",", ":")).encode()


def _shift_time(text: str) -> str:
    """Return the time one second later; an unreadable one becomes a fixed time."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime(2020, 1, 1, tzinfo=UTC)
    return (moment + timedelta(seconds=1)).isoformat().replace("+00:00", "Z")


def _replace_items(exchange: Exchange, items: Sequence[RawEvent]) -> ServerResponse:
    return replace(exchange.response, body=exchange.encode_items(items, None).body, item_count=len(items))


# Faults that apply to any response.


def _replace_with_status(_exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Return an error instead."""
    status = options.read_count("status", 500)
    code = options.read_text("code", _DEFAULT_CODES.get(status, "InternalServerError"))
    error = ApiError(status, code, options.read_text("message", "A scripted fault."))
    return replace(error_response(error), headers=options.read_headers())


def _reset_connection(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Reset the connection, before the response or after some bytes of the body."""
    after_bytes = options.read_count("afterBytes", 0) if "afterBytes" in options.values else None
    return replace(exchange.response, delivery=Reset(after_bytes))


def _reset_upload(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Reset the connection while the body of an upload arrives."""
    received = options.read_count("receivedBytes", 0)
    if exchange.call.operation not in _UPLOADS:
        return None
    return replace(exchange.response, delivery=ResetUpload(received))


def _send_short_body(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Announce the whole body and close the connection before its end."""
    sent = options.read_count("sentBytes", len(exchange.response.body) // 2)
    return replace(exchange.response, delivery=CutShort(min(sent, len(exchange.response.body) - 1)))


def _truncate_body(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Send a truncated body with a matching length."""
    length = options.read_count("keptBytes", len(exchange.response.body) // 2)
    return replace(exchange.response, body=exchange.response.body[: min(length, len(exchange.response.body) - 1)])


def _replace_with_html(exchange: Exchange, _options: FaultOptions) -> ServerResponse:
    """Return a web page with status 200, as a proxy with a sign-in page does."""
    return replace(exchange.response, body=_HTML, content_type="text/html", status=200, headers={}, item_count=0)


def _replace_with_other_json(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Return JSON that is not an array of objects, or an empty body."""
    body = _OTHER_BODIES[options.read_choice("body", tuple(_OTHER_BODIES))]
    return replace(exchange.response, body=body, status=200, item_count=0)


def _insert_invalid_utf8(exchange: Exchange, _options: FaultOptions) -> ServerResponse | None:
    """Insert bytes that are not valid UTF-8 into the last string of the body."""
    at = exchange.response.body.rfind(b'"')
    if at < 0:
        return None
    body = exchange.response.body[:at] + b"\xff\xfe" + exchange.response.body[at:]
    return replace(exchange.response, body=body)


def _replace_with_deep_nesting(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Return an event that is nested too deeply for a recursive parser."""
    depth = options.read_count("depth", _NESTING_DEPTH)
    body = b'[{"eventId":"deep","data":' + b"[" * depth + b"]" * depth + b"}]"
    return replace(exchange.response, body=body, item_count=1)


def _stall(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Stop sending before or within the response, and close the connection after some time."""
    after = options.read_choice("after", ("nothing", "headers", "half"))
    return replace(exchange.response, delivery=Stall(options.read_number("seconds", 60.0), after))


def _corrupt_gzip(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Return gzip data that cannot be decompressed; only to clients that accept gzip."""
    if not exchange.is_gzip_accepted:
        return None
    compressed = gzip.compress(exchange.response.body, compresslevel=1, mtime=0)
    how = options.read_choice("how", ("truncated", "garbage"))
    body = compressed[: len(compressed) // 2] if how == "truncated" else b"\x1f\x8b and no gzip"
    return replace(exchange.response, body=body).with_header("Content-Encoding", "gzip")


def _skew_clock(exchange: Exchange, options: FaultOptions) -> ServerResponse:
    """Shift the service's clock: change the `Date` header, and return a 401 if the skew is too large.

    The clock is ahead when `seconds` is positive, and behind when it is negative.
    """
    seconds = options.read_signed_number("seconds", 0.0)
    response = exchange.response
    if abs(seconds) > MAX_SKEW_SECONDS:
        response = error_response(not_authenticated("the date is more than five minutes away from the service's clock"))
    return response.with_header("Date", format_http_date(int(exchange.now_seconds + seconds)))


def _replace_retention(exchange: Exchange, options: FaultOptions) -> ServerResponse | None:
    """Return another retention period from GetConfiguration."""
    days = options.read_count("days", 90)
    if exchange.call.operation is not Operation.GET_CONFIGURATION:
        return None
    return json_response({"retentionPeriodDays": days})


FAULT_KINDS: Mapping[str, FaultKind] = {
    "status": FaultKind(_replace_with_status, frozenset({"status", "code", "message", "headers"})),
    "reset": FaultKind(_reset_connection, frozenset({"afterBytes"})),
    "reset_upload": FaultKind(_reset_upload, frozenset({"receivedBytes"})),
    "short_body": FaultKind(_send_short_body, frozenset({"sentBytes"})),
    "cut_body": FaultKind(_truncate_body, frozenset({"keptBytes"})),
    "html": FaultKind(_replace_with_html),
    "not_an_array": FaultKind(_replace_with_other_json, frozenset({"body"})),
    "invalid_utf8": FaultKind(_insert_invalid_utf8),
    "deep_nesting": FaultKind(_replace_with_deep_nesting, frozenset({"depth"})),
    "stall": FaultKind(_stall, frozenset({"seconds", "after"})),
    "bad_gzip": FaultKind(_corrupt_gzip, frozenset({"how"})),
    "skewed_clock": FaultKind(_skew_clock, frozenset({"seconds"})),
    "retention": FaultKind(_replace_retention, frozenset({"days"})),
    "empty_page": FaultKind(_insert_empty_page),
    "empty_token": FaultKind(_send_empty_token),
    "repeated_token": FaultKind(_repeat_token),
    "expired_token": FaultKind(_reject_token),
    "foreign_token": FaultKind(_send_foreign_token),
    "duplicate_within": FaultKind(_duplicate_items, _COUNT_OPTION),
    "duplicate_across": FaultKind(_add_items_of_other_windows, _COUNT_OPTION),
    "same_id_other_bytes": FaultKind(_add_changed_copies, _COUNT_OPTION | {"changeEventTime"}),
}


# Each new fault is applied to this exchange first, so that invalid options are rejected when they are sent.
_PROBE = Exchange(
    ApiCall("", Operation.LIST_EVENTS),
    ServerResponse(b'[{"eventId":"probe"}]'),
    ItemPage([b'{"eventId":"probe"}'], Cursor("probe"), None),
    TokenCodec(0),
    is_gzip_accepted=True,
    read_elsewhere=lambda _count: (),
)


@dataclass(slots=True)
class FaultEntry:
    """One scripted fault: the requests it hits, and what it has done so far."""

    operation: str
    match: Mapping[str, str]
    skip: int
    times: int | None
    kind: str
    options: FaultOptions
    effect: str = NOT_DONE
    seen: int = 0
    fired: int = 0
    minutes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_completed(self) -> bool:
        """Return whether the fault has fired its number of times."""
        return self.times is not None and self.fired >= self.times

    def describe(self) -> dict[str, object]:
        """Return the entry as a JSON object, with its counters."""
        return {
            "operation": self.operation,
            "match": dict(self.match),
            "skip": self.skip,
            "times": self.times,
            "effect": self.effect,
            "fault": {"kind": self.kind, **self.options.values},
            "seen": self.seen,
            "fired": self.fired,
            "completed": self.is_completed,
        }

    def matches(self, call: ApiCall) -> bool:
        """Return whether all conditions of the entry hold for a request."""
        if self.operation not in {_ANY_OPERATION, call.operation}:
            return False
        return all(self._is_met(name, value, call) for name, value in self.match.items())

    def _is_met(self, name: str, value: str, call: ApiCall) -> bool:
        if name == "region":
            return call.region == value
        if name in _NAME_CONDITIONS:
            given = {"bucket": call.bucket, "object": call.object_name}
            return value == given.get(name, call.parameters.get(name))
        if name == "compartmentId":
            return value in {call.parameters.get("compartmentId"), call.resource_id}
        if name == "page":
            return value == "any" or (value == "later") == bool(call.parameters.get("page"))
        return self._is_time_met(name, call)

    def _is_time_met(self, name: str, call: ApiCall) -> bool:
        start, end = (_parse_minute(call.parameters.get(key)) for key in ("startTime", "endTime"))
        minute = self.minutes[name]
        if start is None or end is None:
            return False
        return {
            "startTime": start == minute,
            "endTime": end == minute,
            "startBefore": start < minute,
            "startFrom": start >= minute,
            "covers": start <= minute < end,
        }[name]


class FaultTable:
    """The scripted faults, in the order in which they were added."""

    def __init__(self) -> None:
        """Start without faults."""
        self._entries: list[FaultEntry] = []

    def add(self, content: object) -> None:
        """Add the entries of a JSON list; all of them, or none.

        Raises: FaultRequestError.
        """
        if not isinstance(content, list):
            message = "the faults are not a JSON list; send a list of objects, even for one fault"
            raise FaultRequestError(message)
        self._entries.extend([parse_entry(one) for one in content])

    def clear(self) -> None:
        """Remove all faults."""
        self._entries.clear()

    def describe(self) -> list[dict[str, object]]:
        """Return all entries as JSON objects."""
        return [entry.describe() for entry in self._entries]

    def is_waiting(self, call: ApiCall) -> bool:
        """Return whether a fault might affect a request."""
        return any(entry.matches(call) and not entry.is_completed for entry in self._entries)

    def apply(self, exchange: Exchange, effect: str | None = None) -> tuple[ServerResponse, str | None]:
        """Return the response to send, and the kind of the fault that fired, if any.

        A write is offered twice: before it is done, to the faults that prevent it, and afterwards to the others.
        """
        for entry in self._find_ready(exchange.call, effect):
            changed = FAULT_KINDS[entry.kind].apply(exchange, entry.options)
            if changed is not None:
                entry.fired += 1
                return changed, entry.kind
        return exchange.response, None

    def _find_ready(self, call: ApiCall, effect: str | None) -> Iterator[FaultEntry]:
        """Yield the entries that may hit a request, and count the request for each matching entry."""
        for entry in self._entries:
            if effect is not None and entry.effect != effect:
                continue
            if entry.is_completed or not entry.matches(call):
                continue
            entry.seen += 1
            if entry.seen > entry.skip:
                yield entry


def parse_entry(content: object) -> FaultEntry:
    """Return the entry that a JSON object describes.

    Raises: FaultRequestError.
    """
    entry = _read_object(content, "a fault entry", _ENTRY_KEYS)
    operation = str(entry.get("operation", _ANY_OPERATION))
    if operation not in {_ANY_OPERATION, *Operation}:
        raise _unknown_value("operation", operation, {_ANY_OPERATION, *Operation})
    fault = dict(_read_object(entry.get("fault"), "the key 'fault'", None))
    kind = str(fault.pop("kind", ""))
    if kind not in FAULT_KINDS:
        raise _unknown_value("fault.kind", kind, set(FAULT_KINDS))
    unknown = fault.keys() - FAULT_KINDS[kind].options
    if unknown:
        raise _unknown_value(f"option of '{kind}'", ", ".join(sorted(unknown)), set(FAULT_KINDS[kind].options))
    options = FaultOptions(kind, fault)
    FAULT_KINDS[kind].apply(_PROBE, options)
    match = _read_match(entry.get("match", {}))
    effect = str(entry.get("effect", NOT_DONE))
    if effect not in EFFECTS:
        raise _unknown_value("effect", effect, set(EFFECTS))
    return FaultEntry(
        operation=operation,
        match=match,
        skip=_read_count(entry.get("skip", 0), "skip") or 0,
        times=_read_count(entry.get("times", 1), "times"),
        kind=kind,
        options=options,
        effect=effect,
        minutes={name: _read_minute(name, match[name]) for name in _TIME_CONDITIONS & match.keys()},
    )


def _read_match(content: object) -> Mapping[str, str]:
    """Return the conditions of an entry."""
    match = {name: str(value) for name, value in _read_object(content, "the key 'match'", _MATCH_KEYS).items()}
    if match.get("page", "any") not in _PAGE_CHOICES:
        raise _unknown_value("match.page", match["page"], set(_PAGE_CHOICES))
    return match


def _read_object(content: object, name: str, allowed: frozenset[str] | None) -> dict[str, object]:
    """Return a JSON object, after a check that its keys are known."""
    if not isinstance(content, dict):
        message = f"{name} is not a JSON object; see docs/reference/emulator.md for its keys"
        raise FaultRequestError(message)
    if allowed is not None and content.keys() - allowed:
        raise _unknown_value(f"key of {name}", ", ".join(sorted(content.keys() - allowed)), set(allowed))
    return content


def _read_count(value: object, name: str) -> int | None:
    """Return a count; None is allowed only for `times`, where it means without limit."""
    if value is None and name == "times":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{name} is {value!r}; it must be a whole number from 0, or null for `times` without limit"
        raise FaultRequestError(message)
    return value


def _read_minute(name: str, value: str) -> int:
    """Return the time of a condition as a minute since 1970."""
    minute = _parse_minute(value)
    if minute is None:
        message = f"match.{name} is {value!r}; write it as 2025-12-01T00:00:00Z"
        raise FaultRequestError(message)
    return minute


def _parse_minute(value: str | None) -> int | None:
    """Return a time as a minute since 1970; None when it is absent or unreadable."""
    try:
        return None if value is None else parse_time_ms(value) // MS_PER_MINUTE
    except ValueError:
        return None


def _unknown_value(name: str, value: str, allowed: set[str]) -> FaultRequestError:
    """Return the error for a value that is not allowed."""
    return FaultRequestError(f"unknown {name}: {value!r}; use one of {', '.join(sorted(allowed)) or 'none'}")
