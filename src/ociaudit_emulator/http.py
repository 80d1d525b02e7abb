"""Requests and responses of the emulated services as values: errors, routing, paging and delivery.

No socket is involved: `server` reads requests from the wire and sends responses.

Invariants:
- a page token is opaque and bound to one query: with any other query it gets a 400;
- the union of a query's pages does not depend on the page size;
- page sizes and the order within a page depend only on the query.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import random
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from urllib.parse import parse_qsl, unquote

from ociaudit_emulator.event_store import START, RawEvent
from ociaudit_emulator.object_store import ByteRange, StoredObject
from ociaudit_emulator.randomness import draw_number
from ociaudit_emulator.settings import PageSize
from ociaudit_emulator.tenancy import HOME_REGION

NEXT_PAGE_HEADER = "opc-next-page"
_TOKEN_LAYOUT = struct.Struct(">16sqI?")
_CHECKSUM_BYTES = 12


class ApiError(Exception):
    """An error response with the status and the error code that Oracle uses."""

    def __init__(self, status: int, code: str, message: str) -> None:
        """Keep the status, the code and the message for the response's body."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def not_authenticated(reason: str = "") -> ApiError:
    """Return the 401 for a missing, invalid or outdated signature."""
    text = "The required information to complete authentication was not provided or was incorrect."
    return ApiError(401, "NotAuthenticated", f"{text} ({reason})" if reason else text)


def not_found() -> ApiError:
    """Return the 404 that does not reveal whether a resource is forbidden or unknown."""
    text = "Authorization failed or requested resource not found."
    return ApiError(404, "NotAuthorizedOrNotFound", text)


def missing_parameter(name: str) -> ApiError:
    """Return the 400 for an absent required query parameter."""
    return ApiError(400, "MissingParameter", f"Missing query parameter '{name}'.")


def invalid_parameter(message: str) -> ApiError:
    """Return the 400 for a parameter with an invalid value."""
    return ApiError(400, "InvalidParameter", message)


class Operation(StrEnum):
    """The emulated operations, by Oracle's names."""

    LIST_EVENTS = "ListEvents"
    GET_CONFIGURATION = "GetConfiguration"
    LIST_REGION_SUBSCRIPTIONS = "ListRegionSubscriptions"
    LIST_COMPARTMENTS = "ListCompartments"
    GET_COMPARTMENT = "GetCompartment"
    GET_TENANCY = "GetTenancy"
    SEARCH_LOGS = "SearchLogs"
    GET_NAMESPACE = "GetNamespace"
    GET_NAMESPACE_METADATA = "GetNamespaceMetadata"
    LIST_BUCKETS = "ListBuckets"
    CREATE_BUCKET = "CreateBucket"
    GET_BUCKET = "GetBucket"
    HEAD_BUCKET = "HeadBucket"
    DELETE_BUCKET = "DeleteBucket"
    LIST_OBJECTS = "ListObjects"
    PUT_OBJECT = "PutObject"
    GET_OBJECT = "GetObject"
    HEAD_OBJECT = "HeadObject"
    DELETE_OBJECT = "DeleteObject"
    CREATE_MULTIPART_UPLOAD = "CreateMultipartUpload"
    UPLOAD_PART = "UploadPart"
    LIST_MULTIPART_UPLOADS = "ListMultipartUploads"
    LIST_MULTIPART_UPLOAD_PARTS = "ListMultipartUploadParts"
    COMMIT_MULTIPART_UPLOAD = "CommitMultipartUpload"
    ABORT_MULTIPART_UPLOAD = "AbortMultipartUpload"


# The segments of a path; "*" matches the resource's id.
_ROUTES: Mapping[tuple[str, ...], Operation] = {
    ("20190901", "auditEvents"): Operation.LIST_EVENTS,
    ("20190901", "configuration"): Operation.GET_CONFIGURATION,
    ("20190909", "search"): Operation.SEARCH_LOGS,
    ("20160918", "compartments"): Operation.LIST_COMPARTMENTS,
    ("20160918", "compartments", "*"): Operation.GET_COMPARTMENT,
    ("20160918", "tenancies", "*"): Operation.GET_TENANCY,
    ("20160918", "tenancies", "*", "regionSubscriptions"): Operation.LIST_REGION_SUBSCRIPTIONS,
}
_VERSIONS = frozenset(route[0] for route in _ROUTES)
# Object Storage: what the path names, and the operation of each method.
_OBJECT_STORAGE = "n"
_OBJECT_ROUTES: Mapping[str, Mapping[str, Operation]] = {
    "": {"GET": Operation.GET_NAMESPACE},
    "n": {"GET": Operation.GET_NAMESPACE_METADATA},
    "n/b": {"GET": Operation.LIST_BUCKETS, "POST": Operation.CREATE_BUCKET},
    "n/b/": {"GET": Operation.GET_BUCKET, "HEAD": Operation.HEAD_BUCKET, "DELETE": Operation.DELETE_BUCKET},
    "n/b/o": {"GET": Operation.LIST_OBJECTS},
    "n/b/o/": {
        "PUT": Operation.PUT_OBJECT,
        "GET": Operation.GET_OBJECT,
        "HEAD": Operation.HEAD_OBJECT,
        "DELETE": Operation.DELETE_OBJECT,
    },
    "n/b/u": {"GET": Operation.LIST_MULTIPART_UPLOADS, "POST": Operation.CREATE_MULTIPART_UPLOAD},
    "n/b/u/": {
        "PUT": Operation.UPLOAD_PART,
        "GET": Operation.LIST_MULTIPART_UPLOAD_PARTS,
        "POST": Operation.COMMIT_MULTIPART_UPLOAD,
        "DELETE": Operation.ABORT_MULTIPART_UPLOAD,
    },
}


@dataclass(frozen=True, slots=True)
class ApiCall:
    """A request to one operation: region, operation, resource id and query parameters; for an object, its names."""

    region: str
    operation: Operation
    resource_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    namespace: str = ""
    bucket: str = ""
    object_name: str = ""

    def require(self, name: str) -> str:
        """Return a parameter's value.

        Raises: ApiError (400) when it is absent or empty.
        """
        value = self.parameters.get(name)
        if not value:
            raise missing_parameter(name)
        return value


def parse_call(method: str, target: str) -> ApiCall:
    """Parse the method, path and query of a request; a path without a region belongs to the home region.

    Raises: ApiError (404, 405) for an unknown path or method.
    """
    path, _, query = target.partition("?")
    segments = path.strip("/").split("/")
    if _OBJECT_STORAGE in segments[:2]:
        return _parse_object_call(method, path, query)
    region = HOME_REGION if segments[0] in _VERSIONS else segments.pop(0)
    resource_id = unquote(segments[2]) if len(segments) > 2 else ""
    operation = _ROUTES.get(tuple("*" if at == 2 else segment for at, segment in enumerate(segments)))
    if operation is None:
        raise ApiError(404, "NotFound", f"No operation of this service has the path {path}.")
    accepted = "POST" if operation is Operation.SEARCH_LOGS else "GET"
    if method != accepted:
        raise ApiError(405, "MethodNotAllowed", f"{operation} accepts {accepted}, not {method}.")
    return ApiCall(region, operation, resource_id, dict(parse_qsl(query, keep_blank_values=True)))


def _parse_object_call(method: str, path: str, query: str) -> ApiCall:
    """Parse a request to Object Storage, `[/REGION]/n/NAMESPACE/b/BUCKET/o/OBJECT`; an object's name can have slashes.

    Raises: ApiError (404, 405).
    """
    segments = path[1:].split("/", 1)
    region = HOME_REGION if segments[0] == _OBJECT_STORAGE else segments[0]
    # The empty text before the first slash, `n`, the namespace, `b`, the bucket, `o` or `u`, the object's name.
    rest = path[len(f"/{region}") :] if segments[0] != _OBJECT_STORAGE else path
    _, _, namespace, b, bucket, kind, name = [*rest.split("/", 6), *[""] * 6][:7]
    route = "n" if namespace else ""
    route += f"/{b}" if b else ""
    route += f"/{kind}" if kind else "/" if bucket else ""
    route += "/" if name else ""
    methods = _OBJECT_ROUTES.get(route)
    if methods is None:
        raise ApiError(404, "NotFound", f"No operation of this service has the path {path}.")
    if method not in methods:
        raise ApiError(405, "MethodNotAllowed", f"{path} accepts {', '.join(methods)}, not {method}.")
    return ApiCall(
        region,
        methods[method],
        parameters=dict(parse_qsl(query, keep_blank_values=True)),
        namespace=unquote(namespace),
        bucket=unquote(bucket),
        object_name=unquote(name),
    )


@dataclass(frozen=True, slots=True)
class Cursor:
    """The start of a page within the results of one query."""

    query: str
    position: int = START
    page_number: int = 0
    is_looping: bool = False


class TokenCodec:
    """The encoding of cursors as opaque page tokens."""

    def __init__(self, seed: int) -> None:
        """Derive the key that authenticates tokens from the seed."""
        self._key = hashlib.blake2b(f"page-tokens {seed}".encode(), digest_size=32).digest()

    def encode(self, cursor: Cursor) -> str:
        """Return the token of a cursor."""
        query_digest = self._digest_query(cursor.query)
        content = _TOKEN_LAYOUT.pack(query_digest, cursor.position, cursor.page_number, cursor.is_looping)
        return base64.urlsafe_b64encode(self._checksum(content) + content).decode().rstrip("=")

    def decode(self, token: str, query: str) -> Cursor:
        """Return the cursor of a token that was sent with a query.

        Raises: ApiError (400) for a malformed token, or one of another query.
        """
        try:
            raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except (binascii.Error, ValueError) as error:
            raise _unreadable_token() from error
        checksum, content = raw[:_CHECKSUM_BYTES], raw[_CHECKSUM_BYTES:]
        if len(content) != _TOKEN_LAYOUT.size or checksum != self._checksum(content):
            raise _unreadable_token()
        query_digest, position, page_number, is_looping = _TOKEN_LAYOUT.unpack(content)
        if query_digest != self._digest_query(query):
            message = "The page token belongs to another compartment, region or time range."
            raise invalid_parameter(message)
        return Cursor(query, position, page_number, is_looping)

    def _digest_query(self, query: str) -> bytes:
        return hashlib.blake2b(query.encode(), digest_size=16, key=self._key).digest()

    def _checksum(self, content: bytes) -> bytes:
        return hashlib.blake2b(content, digest_size=_CHECKSUM_BYTES, key=self._key).digest()


def _unreadable_token() -> ApiError:
    return ApiError(400, "PaginationTokenFormat", "The page token cannot be read.")


@dataclass(frozen=True, slots=True)
class ItemPage:
    """The items of a page, its cursor, and the cursor of the next page; None on the last page."""

    items: Sequence[RawEvent]
    cursor: Cursor
    next_cursor: Cursor | None


def choose_page_size(size: PageSize, cursor: Cursor) -> int:
    """Return the number of events on a page; the same page always has the same number."""
    spread = size.largest - size.smallest
    if spread == 0:
        return size.smallest
    return size.smallest + draw_number("page-size", cursor.query, cursor.page_number) % (spread + 1)


def shuffle_page(events: Sequence[RawEvent], cursor: Cursor) -> list[RawEvent]:
    """Return a page's events in random order; the same page always has the same order."""
    shuffled = list(events)
    random.Random(f"{cursor.query} {cursor.position}").shuffle(shuffled)
    return shuffled


def join_page(events: Sequence[RawEvent]) -> bytes:
    """Return events as a JSON array, the body of a page, with each event's bytes unchanged."""
    if not events:
        return b"[]"
    # One join and no concatenation: pages are large, and each copy of one costs.
    parts: list[RawEvent] = [b","] * (2 * len(events) + 1)
    parts[0], parts[1::2], parts[-1] = b"[", events, b"]"
    return b"".join(parts)


# The request log shows the names of the following five classes as `delivery`.


@dataclass(frozen=True, slots=True)
class Whole:
    """Send the response unchanged."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Reset the connection after this many bytes of the body; before the status line when None."""

    after_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class CutShort:
    """Announce the whole body, send this many bytes of it, and close the connection."""

    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Send `nothing`, the `headers`, or `half` of the body; then wait, and close the connection."""

    seconds: float
    after: str = "nothing"


@dataclass(frozen=True, slots=True)
class ResetUpload:
    """Reset the connection when this many bytes of the request's body have arrived."""

    received_bytes: int


Delivery = Whole | Reset | CutShort | Stall | ResetUpload
WHOLE = Whole()


@dataclass(frozen=True, slots=True)
class ServerResponse:
    """Status, headers, body and delivery of a response; `item_count` is for the request log.

    `content` is a range of an object that is sent as the body, read from its files part by part.
    """

    body: bytes
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    delivery: Delivery = WHOLE
    item_count: int = 0
    content: tuple[StoredObject, ByteRange] | None = None

    def with_content_as_body(self) -> ServerResponse:
        """Return a copy with its content read into the body, for what changes bodies."""
        if self.content is None:
            return self
        one, span = self.content
        return replace(self, body=b"".join(one.read_chunks(span)), content=None)

    def with_header(self, name: str, value: str) -> ServerResponse:
        """Return a copy with one more header."""
        return replace(self, headers={**self.headers, name: value})


def json_response(content: object) -> ServerResponse:
    """Return a response with a JSON value as its body."""
    return ServerResponse(json.dumps(content, separators=(",", ":")).encode())


def items_response(items: Sequence[RawEvent], token: str | None) -> ServerResponse:
    """Return a response with a page of items and the token of the next page, if there is one."""
    headers = {} if token is None else {NEXT_PAGE_HEADER: token}
    return ServerResponse(join_page(items), headers=headers, item_count=len(items))


def error_response(error: ApiError) -> ServerResponse:
    """Return the response of an error."""
    return replace(json_response({"code": error.code, "message": error.message}), status=error.status)
