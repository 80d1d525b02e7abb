"""The faults that only a page can have: wrong tokens, and events too often.

Owns: these kinds.
Must not: decide when a fault fires.

The kinds of scripted faults, by name.

Owns: the registry, and the faults that any answer can get.
Must not: decide when a fault fires.

To add a kind, write one function: it gets the exchange and the options, and gives the answer
that goes out instead, or None when such an answer cannot have this fault.

The scripted faults: which requests they hit, how often, and what has fired.

Owns: the table of entries and their matching.
Must not: know what a fault does (that is `fault_kinds` and `page_faults`).

Invariants:
- a request is hit by one fault at most: the first entry, in the order given, that matches,
  is not completed, has skipped as many requests as it should and can be applied;
- an entry counts only what it did: a fault that could not be applied has not fired.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from ociaudit_emulator.http import (
    NEXT_PAGE_HEADER,
    Call,
    Cursor,
    CutShort,
    Exchange,
    FaultOptions,
    FaultRequestError,
    Operation,
    Page,
    Reset,
    Response,
    ServiceError,
    Stall,
    TokenCodec,
    error_response,
    items_response,
    join_page,
    json_response,
    not_authenticated,
)
from ociaudit_emulator.instants import MS_PER_MINUTE, format_http_date, parse_instant_ms, read_clock_seconds
from ociaudit_emulator.signature import MAX_SKEW_SECONDS

ApplyPageFault = Callable[[Exchange, FaultOptions], Response | None]
_COUNT = frozenset({"count"})


def _empty_page(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Answer no items, and a token that leads to the page that was asked for."""
    if exchange.page is None:
        return None
    return items_response((), exchange.codec.encode(exchange.page.here))


def _empty_token(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Answer the last page with a token header that is there, but empty."""
    if exchange.page is None or exchange.page.following is not None:
        return None
    return exchange.response.with_header(NEXT_PAGE_HEADER, "")


def _repeated_token(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Answer the token that was sent, or for a first page one that leads back to itself."""
    if exchange.page is None:
        return None
    token = exchange.call.parameters.get("page")
    if not token:
        token = exchange.codec.encode(replace(exchange.page.here, is_looping=True))
    return exchange.response.with_header(NEXT_PAGE_HEADER, token)


def _expired_token(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Refuse a token as too old."""
    if not exchange.call.parameters.get("page"):
        return None
    return error_response(ServiceError(400, "PaginationTokenExpired", "The page token has expired."))


def _foreign_token(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Answer a token that belongs to another question."""
    if exchange.page is None:
        return None
    here = exchange.page.here
    token = exchange.codec.encode(Cursor(f"not {here.query}", here.position, here.page_number + 1))
    return exchange.response.with_header(NEXT_PAGE_HEADER, token)


def _duplicate_within(exchange: Exchange, options: FaultOptions) -> Response | None:
    """Put some of the page's items into it twice."""
    if exchange.page is None or not exchange.page.items:
        return None
    items = exchange.page.items
    again = list(items[: options.read_count("count", 3)])
    return _with_items(exchange, [*items, *again])


def _duplicate_across(exchange: Exchange, options: FaultOptions) -> Response | None:
    """Put events into the page that belong into other windows of the same place."""
    if exchange.page is None:
        return None
    strangers = exchange.read_elsewhere(options.read_count("count", 3))
    if not strangers:
        return None
    return _with_items(exchange, [*exchange.page.items, *strangers])


def _change_copy(exchange: Exchange, options: FaultOptions) -> Response | None:
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


def _with_items(exchange: Exchange, items: list[bytes | memoryview]) -> Response:
    """Give the page's answer with other items."""
    return replace(exchange.response, body=join_page(items), item_count=len(items))


PAGE_FAULTS: Mapping[str, tuple[ApplyPageFault, frozenset[str]]] = {
    "empty_page": (_empty_page, frozenset()),
    "empty_token": (_empty_token, frozenset()),
    "repeated_token": (_repeated_token, frozenset()),
    "expired_token": (_expired_token, frozenset()),
    "foreign_token": (_foreign_token, frozenset()),
    "duplicate_within": (_duplicate_within, _COUNT),
    "duplicate_across": (_duplicate_across, _COUNT),
    "same_id_other_bytes": (_change_copy, _COUNT | {"changeEventTime"}),
}


ApplyFault = Callable[[Exchange, FaultOptions], Response | None]

_NESTING = 100_000
_HTML = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>Please sign in.</body></html>\n"
_OTHER_BODIES: Mapping[str, bytes] = {
    "object": b'{"items":[],"message":"this is no array"}',
    "string": b'"this is no array"',
    "strings": b'["this","is","no","array","of","objects"]',
    "numbers": b"[1,2,3]",
    "null": b"null",
    "nothing": b"",
}
_USUAL_CODES = {
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


@dataclass(frozen=True, slots=True)
class FaultKind:
    """One kind of fault: what it does, and which options it has."""

    apply: ApplyFault
    options: frozenset[str] = frozenset()


def _status_response(_exchange: Exchange, options: FaultOptions) -> Response:
    """Answer an error instead."""
    status = options.read_count("status", 500)
    code = options.read_text("code", _USUAL_CODES.get(status, "InternalServerError"))
    error = ServiceError(status, code, options.read_text("message", "A scripted fault."))
    return replace(error_response(error), headers=options.read_headers())


def _reset_connection(exchange: Exchange, options: FaultOptions) -> Response:
    """Reset the connection, at once or after some bytes of the body."""
    after_bytes = options.read_count("afterBytes", 0) if "afterBytes" in options.values else None
    return replace(exchange.response, delivery=Reset(after_bytes))


def _send_short_body(exchange: Exchange, options: FaultOptions) -> Response:
    """Promise the whole body and close before its end."""
    sent = options.read_count("sentBytes", len(exchange.response.body) // 2)
    return replace(exchange.response, delivery=CutShort(min(sent, len(exchange.response.body) - 1)))


def _cut_body(exchange: Exchange, options: FaultOptions) -> Response:
    """Send a body that ends too early, with the length that it has."""
    length = options.read_count("keptBytes", len(exchange.response.body) // 2)
    return replace(exchange.response, body=exchange.response.body[: min(length, len(exchange.response.body) - 1)])


def _html_response(exchange: Exchange, _options: FaultOptions) -> Response:
    """Answer a web page with status 200, as a proxy does that wants a sign-in."""
    return replace(exchange.response, body=_HTML, content_type="text/html", status=200, headers={}, item_count=0)


def _no_array(exchange: Exchange, options: FaultOptions) -> Response:
    """Answer JSON that is not an array of objects."""
    body = _OTHER_BODIES[options.read_choice("body", tuple(_OTHER_BODIES))]
    return replace(exchange.response, body=body, status=200, item_count=0)


def _invalid_utf8(exchange: Exchange, _options: FaultOptions) -> Response | None:
    """Put bytes that are no UTF-8 into the last string of the body."""
    at = exchange.response.body.rfind(b'"')
    if at < 0:
        return None
    body = exchange.response.body[:at] + b"\xff\xfe" + exchange.response.body[at:]
    return replace(exchange.response, body=body)


def _deep_nesting(exchange: Exchange, options: FaultOptions) -> Response:
    """Answer one event that nests deeper than a parser can follow."""
    depth = options.read_count("depth", _NESTING)
    body = b'[{"eventId":"deep","data":' + b"[" * depth + b"]" * depth + b"}]"
    return replace(exchange.response, body=body, item_count=1)


def _stall(exchange: Exchange, options: FaultOptions) -> Response:
    """Be silent for a while, then close; before the answer, or within it."""
    after = options.read_choice("after", ("nothing", "headers", "half"))
    return replace(exchange.response, delivery=Stall(options.read_number("seconds", 60.0), after))


def _bad_gzip(exchange: Exchange, options: FaultOptions) -> Response | None:
    """Answer compressed bytes that cannot be expanded; only to those who accept gzip."""
    if not exchange.is_gzip_accepted:
        return None
    packed = gzip.compress(exchange.response.body, compresslevel=1, mtime=0)
    how = options.read_choice("how", ("truncated", "garbage"))
    body = packed[: len(packed) // 2] if how == "truncated" else b"\x1f\x8b and no gzip"
    return replace(exchange.response, body=body).with_header("Content-Encoding", "gzip")


def _skew_clock(exchange: Exchange, options: FaultOptions) -> Response:
    """Answer as a service whose clock is so far ahead (behind, when negative), and refuse what is too far off."""
    seconds = options.read_any_number("seconds", 0.0)
    response = exchange.response
    if abs(seconds) > MAX_SKEW_SECONDS:
        response = error_response(not_authenticated("the date is more than five minutes away from the service's clock"))
    return response.with_header("Date", format_http_date(int(read_clock_seconds() + seconds)))


def _retention_response(exchange: Exchange, options: FaultOptions) -> Response | None:
    """Answer another number of days for which events are kept; only to those who ask for it."""
    days = options.read_count("days", 90)
    if exchange.call.operation is not Operation.GET_CONFIGURATION:
        return None
    return json_response({"retentionPeriodDays": days})


FAULT_KINDS: Mapping[str, FaultKind] = {
    "status": FaultKind(_status_response, frozenset({"status", "code", "message", "headers"})),
    "reset": FaultKind(_reset_connection, frozenset({"afterBytes"})),
    "short_body": FaultKind(_send_short_body, frozenset({"sentBytes"})),
    "cut_body": FaultKind(_cut_body, frozenset({"keptBytes"})),
    "html": FaultKind(_html_response),
    "not_an_array": FaultKind(_no_array, frozenset({"body"})),
    "invalid_utf8": FaultKind(_invalid_utf8),
    "deep_nesting": FaultKind(_deep_nesting, frozenset({"depth"})),
    "stall": FaultKind(_stall, frozenset({"seconds", "after"})),
    "bad_gzip": FaultKind(_bad_gzip, frozenset({"how"})),
    "skewed_clock": FaultKind(_skew_clock, frozenset({"seconds"})),
    "retention": FaultKind(_retention_response, frozenset({"days"})),
    **{name: FaultKind(apply, options) for name, (apply, options) in PAGE_FAULTS.items()},
}


_ANY = "*"
_ENTRY_KEYS = frozenset({"operation", "match", "skip", "times", "fault"})
_PAGE_CHOICES = frozenset({"first", "later", "any"})
_TIME_MATCHES = frozenset({"startTime", "endTime", "startBefore", "startFrom", "covers"})
_MATCH_KEYS = _TIME_MATCHES | {"region", "compartmentId", "page"}
_PROBED = Cursor("probe")
# Every new fault is tried on this exchange, so that wrong options are refused when they are sent.
_PROBE = Exchange(
    Call("", Operation.LIST_EVENTS),
    Response(b'[{"eventId":"probe"}]'),
    Page([b'{"eventId":"probe"}'], _PROBED, None),
    TokenCodec(0),
    is_gzip_accepted=True,
    read_elsewhere=lambda _count: (),
)


@dataclass(slots=True)
class FaultEntry:
    """One entry of the table: what it hits, and what it has done so far."""

    operation: str
    match: Mapping[str, str]
    skip: int
    times: int | None
    kind: str
    options: FaultOptions
    seen: int = 0
    fired: int = 0
    minutes: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_completed(self) -> bool:
        """Say whether the fault has fired as often as it should."""
        return self.times is not None and self.fired >= self.times

    def describe(self) -> dict[str, object]:
        """Give the entry as a JSON object, with what it has done."""
        return {
            "operation": self.operation,
            "match": dict(self.match),
            "skip": self.skip,
            "times": self.times,
            "fault": {"kind": self.kind, **self.options.values},
            "seen": self.seen,
            "fired": self.fired,
            "completed": self.is_completed,
        }

    def is_match(self, call: Call) -> bool:
        """Say whether the entry is about such a request."""
        if self.operation not in {_ANY, call.operation}:
            return False
        return all(self._is_met(name, value, call) for name, value in self.match.items())

    def _is_met(self, name: str, value: str, call: Call) -> bool:
        """Say whether one condition holds."""
        if name == "region":
            return call.region == value
        if name == "compartmentId":
            return value in {call.parameters.get("compartmentId"), call.resource_id}
        if name == "page":
            return value == "any" or (value == "later") == bool(call.parameters.get("page"))
        return self._is_time_met(name, call)

    def _is_time_met(self, name: str, call: Call) -> bool:
        """Say whether a condition about the window holds."""
        start, end = (_read_minute(call.parameters.get(key)) for key in ("startTime", "endTime"))
        wanted = self.minutes[name]
        if start is None or end is None:
            return False
        return {
            "startTime": start == wanted,
            "endTime": end == wanted,
            "startBefore": start < wanted,
            "startFrom": start >= wanted,
            "covers": start <= wanted < end,
        }[name]


class FaultTable:
    """The scripted faults, in the order in which they were given."""

    def __init__(self) -> None:
        """Begin without faults."""
        self._entries: list[FaultEntry] = []

    def add(self, content: object) -> None:
        """Add the entries of a JSON list.

        Raises: FaultRequestError, and then adds none.
        """
        if not isinstance(content, list):
            message = "the faults are a JSON list of objects; send a list, even for one fault"
            raise FaultRequestError(message)
        self._entries.extend([read_entry(one) for one in content])

    def clear(self) -> None:
        """Forget every fault."""
        self._entries.clear()

    def describe(self) -> list[dict[str, object]]:
        """Give all entries as JSON objects."""
        return [entry.describe() for entry in self._entries]

    def apply(self, exchange: Exchange) -> tuple[Response, str | None]:
        """Give the answer that a request gets, and the kind of the fault that hit it, if any."""
        for entry in self._find_ready(exchange.call):
            changed = FAULT_KINDS[entry.kind].apply(exchange, entry.options)
            if changed is not None:
                entry.fired += 1
                return changed, entry.kind
        return exchange.response, None

    def _find_ready(self, call: Call) -> Iterator[FaultEntry]:
        """Find the entries that may hit a request, and count it for those that let it pass."""
        for entry in self._entries:
            if entry.is_completed or not entry.is_match(call):
                continue
            entry.seen += 1
            if entry.seen > entry.skip:
                yield entry


def read_entry(content: object) -> FaultEntry:
    """Read one entry as it was sent.

    Raises: FaultRequestError, whose text says what is wrong and what would be right.
    """
    entry = _read_object(content, "a fault entry", _ENTRY_KEYS)
    operation = str(entry.get("operation", _ANY))
    if operation not in {_ANY, *Operation}:
        raise _wrong("operation", operation, {_ANY, *Operation})
    fault = dict(_read_object(entry.get("fault"), "the key 'fault'", None))
    kind = str(fault.pop("kind", ""))
    if kind not in FAULT_KINDS:
        raise _wrong("fault.kind", kind, set(FAULT_KINDS))
    unknown = fault.keys() - FAULT_KINDS[kind].options
    if unknown:
        raise _wrong(f"option of '{kind}'", ", ".join(sorted(unknown)), set(FAULT_KINDS[kind].options))
    options = FaultOptions(kind, fault)
    FAULT_KINDS[kind].apply(_PROBE, options)
    match = _read_match(entry.get("match", {}))
    return FaultEntry(
        operation=operation,
        match=match,
        skip=_read_count(entry.get("skip", 0), "skip") or 0,
        times=_read_count(entry.get("times", 1), "times"),
        kind=kind,
        options=options,
        minutes={name: _require_minute(name, match[name]) for name in _TIME_MATCHES & match.keys()},
    )


def _read_match(content: object) -> Mapping[str, str]:
    """Read the conditions of an entry."""
    match = {name: str(value) for name, value in _read_object(content, "the key 'match'", _MATCH_KEYS).items()}
    if match.get("page", "any") not in _PAGE_CHOICES:
        raise _wrong("match.page", match["page"], set(_PAGE_CHOICES))
    return match


def _read_object(content: object, name: str, allowed: frozenset[str] | None) -> dict[str, object]:
    """Insist on a JSON object with known keys."""
    if not isinstance(content, dict):
        message = f"{name} is a JSON object; see docs/reference/emulator.md for its keys"
        raise FaultRequestError(message)
    if allowed is not None and content.keys() - allowed:
        raise _wrong(f"key of {name}", ", ".join(sorted(content.keys() - allowed)), set(allowed))
    return content


def _read_count(value: object, name: str) -> int | None:
    """Read a count; null only for `times`, where it means for ever."""
    if value is None and name == "times":
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        message = f"{name} is {value!r}; it must be a whole number from 0, or null for times without end"
        raise FaultRequestError(message)
    return value


def _require_minute(name: str, value: str) -> int:
    """Read a time of the conditions."""
    minute = _read_minute(value)
    if minute is None:
        message = f"match.{name} is {value!r}; write it as 2025-12-01T00:00:00Z"
        raise FaultRequestError(message)
    return minute


def _read_minute(value: str | None) -> int | None:
    """Read a time as a minute since 1970; None when it is none."""
    try:
        return None if value is None else parse_instant_ms(value) // MS_PER_MINUTE
    except ValueError:
        return None


def _wrong(name: str, value: str, allowed: set[str]) -> FaultRequestError:
    """Make the error for a value that is not among the allowed ones."""
    return FaultRequestError(f"unknown {name}: {value!r}; it is one of {', '.join(sorted(allowed)) or 'none'}")
