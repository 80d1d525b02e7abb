"""The refusals that the service answers, as one exception.

Owns: the codes and texts of Oracle's error bodies.
Must not: know HTTP objects.

From a request's path to the operation that it names.

Owns: the paths of the emulated services, bare or below a region.
Must not: run an operation.

Pages and their tokens.

Owns: how many events a page holds, the order inside it, and tokens bound to their question.
Must not: know what is being paged.

Invariants:
- a token tells nothing and fits one question only: any other question gets a 400 for it;
- the union of a question's pages does not depend on the size of the pages;
- sizes and orders depend on the question and the seed alone.

What goes back for one request, before it is on the wire.

Owns: the answer's value and the ways in which it can be delivered.
Must not: touch a socket.

One request and its undisturbed answer, as the faults see them.

Owns: what a fault may look at and use.
Must not: apply a fault.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import random
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

from ociaudit_emulator.behaviour import PageSize
from ociaudit_emulator.event_source import START, RawEvent
from ociaudit_emulator.randomness import draw_number
from ociaudit_emulator.tenancy import HOME_REGION


class ServiceError(Exception):
    """A refusal with the status and the error code that Oracle answers."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the status, the code and the message for the answer's body."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def not_authenticated(reason: str = "") -> ServiceError:
    """Make the 401 that a bad, missing or outdated signature gets."""
    text = "The required information to complete authentication was not provided or was incorrect."
    return ServiceError(401, "NotAuthenticated", f"{text} ({reason})" if reason else text)


def not_found() -> ServiceError:
    """Make the 404 that does not say whether a thing is forbidden or unknown."""
    text = "Authorization failed or requested resource not found."
    return ServiceError(404, "NotAuthorizedOrNotFound", text)


def missing_parameter(name: str) -> ServiceError:
    """Make the 400 for a required query parameter that is absent."""
    return ServiceError(400, "MissingParameter", f"Missing query parameter '{name}'.")


def invalid_parameter(message: str) -> ServiceError:
    """Make the 400 for a parameter with an impossible value."""
    return ServiceError(400, "InvalidParameter", message)


class Operation(StrEnum):
    """What can be asked, by Oracle's names."""

    LIST_EVENTS = "ListEvents"
    GET_CONFIGURATION = "GetConfiguration"
    LIST_REGION_SUBSCRIPTIONS = "ListRegionSubscriptions"
    LIST_COMPARTMENTS = "ListCompartments"
    GET_COMPARTMENT = "GetCompartment"
    GET_TENANCY = "GetTenancy"


@dataclass(frozen=True, slots=True)
class Call:
    """One request to a service: where, what, about which resource, with which parameters."""

    region: str
    operation: Operation
    resource_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)

    def require(self, name: str) -> str:
        """Give a parameter's value.

        Raises: ServiceError (400) when it is absent or empty.
        """
        value = self.parameters.get(name)
        if not value:
            raise missing_parameter(name)
        return value


# A path's segments; "*" stands for the resource's id.
_ROUTES: Mapping[tuple[str, ...], Operation] = {
    ("20190901", "auditEvents"): Operation.LIST_EVENTS,
    ("20190901", "configuration"): Operation.GET_CONFIGURATION,
    ("20160918", "compartments"): Operation.LIST_COMPARTMENTS,
    ("20160918", "compartments", "*"): Operation.GET_COMPARTMENT,
    ("20160918", "tenancies", "*"): Operation.GET_TENANCY,
    ("20160918", "tenancies", "*", "regionSubscriptions"): Operation.LIST_REGION_SUBSCRIPTIONS,
}
_VERSIONS = frozenset(route[0] for route in _ROUTES)


def find_call(method: str, target: str) -> Call:
    """Find what a request asks for.

    Raises: ServiceError (404, 405) when nothing here has that path or method.
    """
    path, _, query = target.partition("?")
    segments = path.strip("/").split("/")
    region = HOME_REGION if segments[0] in _VERSIONS else segments.pop(0)
    resource_id = unquote(segments[2]) if len(segments) > 2 else ""
    operation = _ROUTES.get(tuple("*" if at == 2 else part for at, part in enumerate(segments)))
    if operation is None:
        raise ServiceError(404, "NotFound", f"No operation of this service has the path {path}.")
    if method != "GET":
        raise ServiceError(405, "MethodNotAllowed", f"{operation} is asked with GET, not {method}.")
    return Call(region, operation, resource_id, dict(parse_qsl(query, keep_blank_values=True)))


_LAYOUT = struct.Struct(">16sqI?")
_CHECK_BYTES = 12


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where in the answers to one question a page begins."""

    query: str
    position: int = START
    page_number: int = 0
    is_looping: bool = False


class TokenCodec:
    """Turns cursors into opaque tokens and back."""

    def __init__(self, seed: int) -> None:
        """Derive the key that protects tokens from the seed."""
        self._key = hashlib.blake2b(f"page-tokens {seed}".encode(), digest_size=32).digest()

    def encode(self, cursor: Cursor) -> str:
        """Make the token that leads to a cursor's page."""
        content = _LAYOUT.pack(self._bind(cursor.query), cursor.position, cursor.page_number, cursor.is_looping)
        return base64.urlsafe_b64encode(self._check(content) + content).decode().rstrip("=")

    def decode(self, token: str, query: str) -> Cursor:
        """Read a token that was sent with a question.

        Raises: ServiceError (400) for a token that is garbled or of another question.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as error:
            raise _unreadable() from error
        check, content = raw[:_CHECK_BYTES], raw[_CHECK_BYTES:]
        if len(content) != _LAYOUT.size or check != self._check(content):
            raise _unreadable()
        bound, position, page_number, is_looping = _LAYOUT.unpack(content)
        if bound != self._bind(query):
            message = "The page token belongs to another compartment, region or time range."
            raise invalid_parameter(message)
        return Cursor(query, position, page_number, is_looping)

    def _bind(self, query: str) -> bytes:
        """Shorten a question to the bytes that tie a token to it."""
        return hashlib.blake2b(query.encode(), digest_size=16, key=self._key).digest()

    def _check(self, content: bytes) -> bytes:
        """Compute the bytes that show a token was made here."""
        return hashlib.blake2b(content, digest_size=_CHECK_BYTES, key=self._key).digest()


def _unreadable() -> ServiceError:
    """Make the 400 for something that is no token of this service."""
    return ServiceError(400, "PaginationTokenFormat", "The page token cannot be read.")


def choose_page_size(size: PageSize, cursor: Cursor) -> int:
    """Choose how many events a page holds: the same page always the same number."""
    spread = size.largest - size.smallest
    if spread == 0:
        return size.smallest
    return size.smallest + draw_number("page-size", cursor.query, cursor.page_number) % (spread + 1)


def shuffle_page(events: Sequence[RawEvent], cursor: Cursor) -> list[RawEvent]:
    """Put a page's events out of order: the same page always into the same order."""
    shuffled = list(events)
    order = random.Random(f"{cursor.query} {cursor.position}")
    order.shuffle(shuffled)
    return shuffled


def join_page(events: Sequence[RawEvent]) -> bytes:
    """Write events as the JSON array that is a page's body, the events' bytes untouched."""
    if not events:
        return b"[]"
    # One join and no concatenation: pages are large, and each copy of one costs.
    pieces: list[RawEvent] = [b","] * (2 * len(events) + 1)
    pieces[0], pieces[1::2], pieces[-1] = b"[", events, b"]"
    return b"".join(pieces)


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
class Response:
    """Status, headers and body; `item_count` is for the log."""

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delivery: Delivery = WHOLE
    item_count: int = 0

    def with_header(self, name: str, value: str) -> Response:
        """Give the same answer with one more header."""
        return replace(self, headers={**self.headers, name: value})


def json_response(content: object) -> Response:
    """Answer a value as JSON."""
    return Response(json.dumps(content, separators=(",", ":")).encode())


def items_response(items: Sequence[RawEvent], token: str | None) -> Response:
    """Answer a page of items, with the token of the next one if there is one."""
    headers = {} if token is None else {NEXT_PAGE_HEADER: token}
    return Response(join_page(items), headers=headers, item_count=len(items))


def error_response(error: ServiceError) -> Response:
    """Answer a refusal."""
    content = {"code": error.code, "message": error.message}
    return Response(json.dumps(content, separators=(",", ":")).encode(), status=error.status)


MAX_SECONDS = 10**8


class FaultRequestError(Exception):
    """A scripted fault that cannot be understood; the text says what would be right."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request, the answer it would get, and what a fault needs to make another one.

    `page` is None for answers without pages; `read_elsewhere` gives events of the same place
    from outside the request's window.
    """

    call: Call
    response: Response
    page: Page | None
    codec: TokenCodec
    is_gzip_accepted: bool
    read_elsewhere: Callable[[int], Sequence[RawEvent]]


@dataclass(frozen=True, slots=True)
class FaultOptions:
    """The options of one scripted fault, read with defaults."""

    kind: str
    values: Mapping[str, object]

    def read_number(self, name: str, default: float) -> float:
        """Read a number that is not negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            message = f"option {name} of '{self.kind}' is {value!r}; it must be a number from 0"
            raise FaultRequestError(message)
        return value

    def read_any_number(self, name: str, default: float) -> float:
        """Read a number, which may be negative."""
        value = self.values.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= MAX_SECONDS:
            message = (
                f"option {name} of '{self.kind}' is {value!r}; it must be a number from -{MAX_SECONDS} to {MAX_SECONDS}"
            )
            raise FaultRequestError(message)
        return value

    def read_count(self, name: str, default: int) -> int:
        """Read a whole number that is not negative."""
        return int(self.read_number(name, default))

    def read_text(self, name: str, default: str) -> str:
        """Read a text."""
        return str(self.values.get(name, default))

    def read_choice(self, name: str, choices: Sequence[str]) -> str:
        """Read one of a few texts; the first is the default."""
        value = self.read_text(name, choices[0])
        if value not in choices:
            message = f"option {name} of '{self.kind}' is {value!r}; it is one of {', '.join(choices)}"
            raise FaultRequestError(message)
        return value

    def read_flag(self, name: str) -> bool:
        """Read a yes or no; no by default."""
        return bool(self.values.get(name, False))

    def read_headers(self) -> dict[str, str]:
        """Read headers to send."""
        headers = self.values.get("headers", {})
        if not isinstance(headers, dict):
            message = f"option headers of '{self.kind}' must be a JSON object of texts"
            raise FaultRequestError(message)
        return {str(name): str(value) for name, value in headers.items()}
