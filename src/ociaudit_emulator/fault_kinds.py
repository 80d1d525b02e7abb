"""The kinds of scripted faults, by name.

Owns: the registry, and the faults that any answer can get.
Must not: decide when a fault fires.

To add a kind, write one function: it gets the exchange and the options, and gives the answer
that goes out instead, or None when such an answer cannot have this fault.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ociaudit_emulator.answer import Answer, CutShort, Reset, Stall, answer_error, answer_json
from ociaudit_emulator.exchange import Exchange, FaultOptions
from ociaudit_emulator.instants import format_http_date, read_clock_seconds
from ociaudit_emulator.page_faults import PAGE_FAULTS
from ociaudit_emulator.routing import Operation
from ociaudit_emulator.service_error import ServiceError, not_authenticated
from ociaudit_emulator.signature import MAX_SKEW_SECONDS

ApplyFault = Callable[[Exchange, FaultOptions], Answer | None]

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


def _answer_status(_exchange: Exchange, options: FaultOptions) -> Answer:
    """Answer an error instead."""
    status = options.read_count("status", 500)
    code = options.read_text("code", _USUAL_CODES.get(status, "InternalServerError"))
    error = ServiceError(status, code, options.read_text("message", "A scripted fault."))
    return replace(answer_error(error), headers=options.read_headers())


def _reset_connection(exchange: Exchange, options: FaultOptions) -> Answer:
    """Reset the connection, at once or after some bytes of the body."""
    after_bytes = options.read_count("afterBytes", 0) if "afterBytes" in options.values else None
    return replace(exchange.answer, delivery=Reset(after_bytes))


def _send_short_body(exchange: Exchange, options: FaultOptions) -> Answer:
    """Promise the whole body and close before its end."""
    sent = options.read_count("sentBytes", len(exchange.answer.body) // 2)
    return replace(exchange.answer, delivery=CutShort(min(sent, len(exchange.answer.body) - 1)))


def _cut_body(exchange: Exchange, options: FaultOptions) -> Answer:
    """Send a body that ends too early, with the length that it has."""
    length = options.read_count("keptBytes", len(exchange.answer.body) // 2)
    return replace(exchange.answer, body=exchange.answer.body[: min(length, len(exchange.answer.body) - 1)])


def _answer_html(exchange: Exchange, _options: FaultOptions) -> Answer:
    """Answer a web page with status 200, as a proxy does that wants a sign-in."""
    return replace(exchange.answer, body=_HTML, content_type="text/html", status=200, headers={}, item_count=0)


def _answer_no_array(exchange: Exchange, options: FaultOptions) -> Answer:
    """Answer JSON that is not an array of objects."""
    body = _OTHER_BODIES[options.read_choice("body", tuple(_OTHER_BODIES))]
    return replace(exchange.answer, body=body, status=200, item_count=0)


def _answer_invalid_utf8(exchange: Exchange, _options: FaultOptions) -> Answer | None:
    """Put bytes that are no UTF-8 into the last string of the body."""
    at = exchange.answer.body.rfind(b'"')
    if at < 0:
        return None
    body = exchange.answer.body[:at] + b"\xff\xfe" + exchange.answer.body[at:]
    return replace(exchange.answer, body=body)


def _answer_deep_nesting(exchange: Exchange, options: FaultOptions) -> Answer:
    """Answer one event that nests deeper than a parser can follow."""
    depth = options.read_count("depth", _NESTING)
    body = b'[{"eventId":"deep","data":' + b"[" * depth + b"]" * depth + b"}]"
    return replace(exchange.answer, body=body, item_count=1)


def _stall(exchange: Exchange, options: FaultOptions) -> Answer:
    """Be silent for a while, then close; before the answer, or within it."""
    after = options.read_choice("after", ("nothing", "headers", "half"))
    return replace(exchange.answer, delivery=Stall(options.read_number("seconds", 60.0), after))


def _answer_bad_gzip(exchange: Exchange, options: FaultOptions) -> Answer | None:
    """Answer compressed bytes that cannot be expanded; only to those who accept gzip."""
    if not exchange.is_gzip_accepted:
        return None
    packed = gzip.compress(exchange.answer.body, compresslevel=1, mtime=0)
    how = options.read_choice("how", ("truncated", "garbage"))
    body = packed[: len(packed) // 2] if how == "truncated" else b"\x1f\x8b and no gzip"
    return replace(exchange.answer, body=body).with_header("Content-Encoding", "gzip")


def _skew_clock(exchange: Exchange, options: FaultOptions) -> Answer:
    """Answer as a service whose clock is so far ahead (behind, when negative), and refuse what is too far off."""
    seconds = options.read_any_number("seconds", 0.0)
    answer = exchange.answer
    if abs(seconds) > MAX_SKEW_SECONDS:
        answer = answer_error(not_authenticated("the date is more than five minutes away from the service's clock"))
    return answer.with_header("Date", format_http_date(int(read_clock_seconds() + seconds)))


def _answer_retention(exchange: Exchange, options: FaultOptions) -> Answer | None:
    """Answer another number of days for which events are kept; only to those who ask for it."""
    days = options.read_count("days", 90)
    if exchange.call.operation is not Operation.GET_CONFIGURATION:
        return None
    return answer_json({"retentionPeriodDays": days})


FAULT_KINDS: Mapping[str, FaultKind] = {
    "status": FaultKind(_answer_status, frozenset({"status", "code", "message", "headers"})),
    "reset": FaultKind(_reset_connection, frozenset({"afterBytes"})),
    "short_body": FaultKind(_send_short_body, frozenset({"sentBytes"})),
    "cut_body": FaultKind(_cut_body, frozenset({"keptBytes"})),
    "html": FaultKind(_answer_html),
    "not_an_array": FaultKind(_answer_no_array, frozenset({"body"})),
    "invalid_utf8": FaultKind(_answer_invalid_utf8),
    "deep_nesting": FaultKind(_answer_deep_nesting, frozenset({"depth"})),
    "stall": FaultKind(_stall, frozenset({"seconds", "after"})),
    "bad_gzip": FaultKind(_answer_bad_gzip, frozenset({"how"})),
    "skewed_clock": FaultKind(_skew_clock, frozenset({"seconds"})),
    "retention": FaultKind(_answer_retention, frozenset({"days"})),
    **{name: FaultKind(apply, options) for name, (apply, options) in PAGE_FAULTS.items()},
}
