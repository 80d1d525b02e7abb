"""The path of a request through the emulated services, without a socket.

Invariants:
- no request with an invalid signature is served, except for instance metadata, which is not signed;
- the checks run in this order: signature, path, region, rate limit, the operation, scripted faults;
- a write to Object Storage meets the faults that prevent it before it is done, and an upload before its body is read.
"""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ociaudit_emulator.audit_api import AuditApi, IdentityApi, LoggingSearchApi, encode_results, read_search
from ociaudit_emulator.control import LogEntry
from ociaudit_emulator.event_store import START, EventStore, RawEvent, Span
from ociaudit_emulator.events import Appearance, SelfAudit, ServiceClock
from ociaudit_emulator.faults import DONE, NOT_DONE, Exchange, FaultTable
from ociaudit_emulator.federation import Federation, InstanceMetadata, is_federation, is_metadata
from ociaudit_emulator.http import (
    ApiCall,
    ApiError,
    ItemPage,
    Operation,
    ServerResponse,
    TokenCodec,
    error_response,
    items_response,
    not_authenticated,
    parse_call,
)
from ociaudit_emulator.object_api import OBJECT_OPERATIONS, UPLOADS, WRITES, ObjectApi, ObjectRequest
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.signature import DateCheck, KeyRing, SignedRequest, verify_signature
from ociaudit_emulator.tenancy import Tenancy, Timeline
from ociaudit_emulator.time_formats import MINUTES_PER_DAY, format_http_date

_ELSEWHERE_DAYS = 30
_AUDIT_OPERATIONS = frozenset({Operation.LIST_EVENTS, Operation.GET_CONFIGURATION, Operation.SEARCH_LOGS})


class RateLimit:
    """A token bucket per region that holds one second's worth of requests."""

    def __init__(self, per_second: float, read_monotonic_seconds: Callable[[], float]) -> None:
        """Start with full buckets."""
        self._per_second = per_second
        self._capacity = max(per_second, 1.0)
        self._read_seconds = read_monotonic_seconds
        self._buckets: dict[str, tuple[float, float]] = {}

    def try_acquire(self, region: str) -> bool:
        """Remove one request from a region's bucket, and return whether there was one left."""
        now = self._read_seconds()
        left, filled_at = self._buckets.get(region, (self._capacity, now))
        left = min(self._capacity, left + (now - filled_at) * self._per_second)
        is_allowed = left >= 1.0
        self._buckets[region] = (left - 1.0 if is_allowed else left, now)
        return is_allowed


@dataclass(frozen=True, slots=True)
class ServiceParts:
    """The collaborators of the request handler, created once at the start."""

    timeline: Timeline
    appearance: Appearance
    settings: Settings
    store: EventStore
    codec: TokenCodec
    key_ring: KeyRing
    clock: ServiceClock
    dates: DateCheck
    faults: FaultTable
    rate_limit: RateLimit | None
    self_audit: SelfAudit | None
    metadata: InstanceMetadata
    federation: Federation
    objects: ObjectApi


class RequestHandler:
    """The emulated services as one function from a request to its response."""

    def __init__(self, parts: ServiceParts) -> None:
        """Keep the collaborators."""
        self._parts = parts
        read_now_ms = parts.clock.read_ms
        self._audit = AuditApi(
            parts.timeline, parts.settings, parts.store, parts.codec, read_now_ms, appearance=parts.appearance
        )
        self._identity = IdentityApi(self._read_tenancy, parts.codec)
        self._search = LoggingSearchApi(parts.timeline, parts.settings, parts.store, parts.codec, read_now_ms)

    def _read_tenancy(self) -> Tenancy:
        """Return the tenancy as it is now."""
        return self._parts.timeline.at(self._parts.clock.read_ms())

    def handle(self, request: SignedRequest, entry: LogEntry) -> ServerResponse:
        """Return the response to a request, and fill in its log entry."""
        try:
            response = self._respond(request, entry)
        except ApiError as error:
            entry.code = error.code
            response = error_response(error)
        return self._complete(request, entry, response)

    def admit(self, request: SignedRequest, entry: LogEntry) -> ServerResponse | None:
        """Return the response to an upload that is refused before its body is read; None for any other request."""
        try:
            response = self._admit(request, entry)
        except ApiError as error:
            entry.code = error.code
            response = error_response(error)
        return None if response is None else self._complete(request, entry, response)

    def _admit(self, request: SignedRequest, entry: LogEntry) -> ServerResponse | None:
        """Check an upload as far as its head allows, and apply the faults that prevent it."""
        call = self._check(request, entry)
        response, entry.fault = self._parts.faults.apply(self._make_exchange(call, request), NOT_DONE)
        if entry.fault is not None:
            return response
        self._parts.objects.admit(ObjectRequest(call, request.headers))
        return None

    def _complete(self, request: SignedRequest, entry: LogEntry, response: ServerResponse) -> ServerResponse:
        """Fill in the log entry of a response, and add what every response has."""
        entry.status, entry.items = response.status, response.item_count
        entry.delivery = type(response.delivery).__name__
        entry.requestId = _make_request_id(request.headers.get("opc-request-id", ""))
        if not self._parts.clock.is_real and "Date" not in response.headers:
            response = response.with_header("Date", format_http_date(self._parts.clock.read_ms() // 1000))
        response = response.with_header("opc-request-id", entry.requestId)
        if entry.namespace is not None:
            client_id = request.headers.get("opc-client-request-id")
            return response if client_id is None else response.with_header("opc-client-request-id", client_id)
        return self._compress(request, response)

    def _respond(self, request: SignedRequest, entry: LogEntry) -> ServerResponse:
        """Check a request, run its operation and apply the scripted faults."""
        if is_metadata(request):
            return self._parts.metadata.respond(request)
        if is_federation(request):
            return self._parts.federation.respond(request, self._parts.dates)
        call = self._check(request, entry)
        if call.operation in OBJECT_OPERATIONS:
            return self._respond_object(call, request, entry)
        rejection = self._check_rate(call)
        if rejection is not None:
            entry.code = "TooManyRequests"
            return rejection
        if self._parts.self_audit is not None and call.operation is Operation.LIST_EVENTS:
            self._parts.self_audit.record(call)
        response, entry.fault = self._parts.faults.apply(self._run(call, request))
        return response

    def _check(self, request: SignedRequest, entry: LogEntry) -> ApiCall:
        """Check a request's signature, path and region, and return its call.

        Raises: ApiError.
        """
        is_upload = is_object_upload(request.method, request.target)
        signer = verify_signature(
            request, self._parts.key_ring.find_signer, self._parts.dates, is_body_signed=not is_upload
        )
        entry.key = signer.label
        call = parse_call(request.method, request.target)
        if call.operation is Operation.SEARCH_LOGS:
            call = replace(call, parameters={**call.parameters, **read_search(request.body)})
        _fill_entry(entry, call)
        self._check_region(call)
        return call

    def _respond_object(self, call: ApiCall, request: SignedRequest, entry: LogEntry) -> ServerResponse:
        """Run an operation of Object Storage and apply the scripted faults."""
        faults, exchange = self._parts.faults, self._make_exchange(call, request)
        is_write = call.operation in WRITES
        if is_write and call.operation not in UPLOADS:
            response, entry.fault = faults.apply(exchange, NOT_DONE)
            if entry.fault is not None:
                return response
        try:
            response = self._parts.objects.run(ObjectRequest(call, request.headers, request.body, request.blob))
        except ApiError as error:
            entry.code = error.code
            response = error_response(error)
        if not faults.is_waiting(call):
            return response
        exchange = replace(exchange, response=response.with_content_as_body())
        response, entry.fault = faults.apply(exchange, DONE if is_write else None)
        return response

    def _make_exchange(self, call: ApiCall, request: SignedRequest) -> Exchange:
        """Return what the faults need to know about a request to Object Storage, before there is a response."""
        now_seconds = self._parts.clock.read_ms() / 1000
        codec = self._parts.codec
        return Exchange(call, ServerResponse(b""), None, codec, _accepts_gzip(request), lambda _: (), now_seconds)

    def _check_region(self, call: ApiCall) -> None:
        """Reject a region that the tenancy is not subscribed to, with a 401 as Oracle does."""
        region = self._read_tenancy().region_by_name.get(call.region)
        if region is None or not region.is_ready:
            raise not_authenticated(f"the tenancy has not subscribed to {call.region}")

    def _check_rate(self, call: ApiCall) -> ServerResponse | None:
        """Return the 429 for an Audit request over the rate limit; None below it."""
        rate_limit = self._parts.rate_limit
        if rate_limit is None or call.operation not in _AUDIT_OPERATIONS or rate_limit.try_acquire(call.region):
            return None
        response = error_response(ApiError(429, "TooManyRequests", "Too many requests for the user."))
        seconds = self._parts.settings.retry_after_seconds
        return response if seconds is None else response.with_header("Retry-After", str(seconds))

    def _run(self, call: ApiCall, request: SignedRequest) -> Exchange:
        """Run the operation of a call, and return what the faults need to know about it."""
        page: ItemPage | None = None
        encode = encode_results if call.operation is Operation.SEARCH_LOGS else items_response
        try:
            if call.operation is Operation.LIST_EVENTS:
                page = self._audit.list_events(call)
            elif call.operation is Operation.LIST_COMPARTMENTS:
                page = self._identity.list_compartments(call)
            elif call.operation is Operation.SEARCH_LOGS:
                page = self._search.search(call)
            response = self._run_unpaged(call) if page is None else self._encode_page(page, encode)
        except ApiError as error:
            response = error_response(error)

        def read_elsewhere(count: int) -> Sequence[RawEvent]:
            return self._read_elsewhere(call, count)

        now_seconds = self._parts.clock.read_ms() / 1000
        accepts_gzip = _accepts_gzip(request)
        return Exchange(call, response, page, self._parts.codec, accepts_gzip, read_elsewhere, now_seconds, encode)

    def _run_unpaged(self, call: ApiCall) -> ServerResponse:
        """Run an operation without pages."""
        if call.operation is Operation.GET_CONFIGURATION:
            return self._audit.get_configuration(call)
        if call.operation is Operation.GET_TENANCY:
            return self._identity.get_tenancy(call)
        if call.operation is Operation.GET_COMPARTMENT:
            return self._identity.get_compartment(call)
        return self._identity.list_region_subscriptions(call)

    def _encode_page(
        self, page: ItemPage, encode: Callable[[Sequence[RawEvent], str | None], ServerResponse]
    ) -> ServerResponse:
        token = None if page.next_cursor is None else self._parts.codec.encode(page.next_cursor)
        return encode(page.items, token)

    def _read_elsewhere(self, call: ApiCall, count: int) -> Sequence[RawEvent]:
        """Return events of the target of a ListEvents call from outside its window."""
        if call.operation is not Operation.LIST_EVENTS:
            return ()
        query = self._audit.read_query(call)
        margin = _ELSEWHERE_DAYS * MINUTES_PER_DAY
        before = Span(query.span.start_minute - margin, query.span.start_minute)
        after = Span(query.span.end_minute, query.span.end_minute + margin)
        store = self._parts.store
        found = store.read(query.target, before, START, count).events
        return found or store.read(query.target, after, START, count).events

    def _compress(self, request: SignedRequest, response: ServerResponse) -> ServerResponse:
        """Return the response with a gzip body, if the settings allow it and the client accepts it."""
        is_wanted = self._parts.settings.is_gzip_allowed and _accepts_gzip(request)
        if not is_wanted or "Content-Encoding" in response.headers:
            return response
        compressed = replace(response, body=gzip.compress(response.body, compresslevel=1, mtime=0))
        return compressed.with_header("Content-Encoding", "gzip").with_header("Vary", "Accept-Encoding")


def is_object_upload(method: str, target: str) -> bool:
    """Return whether a request sends an object or a part."""
    try:
        return method == "PUT" and parse_call(method, target).operation in UPLOADS
    except ApiError:
        return False


def _accepts_gzip(request: SignedRequest) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def _fill_entry(entry: LogEntry, call: ApiCall) -> None:
    """Write the parameters of a call into the log entry."""
    entry.region = call.region
    entry.operation = str(call.operation)
    entry.compartmentId = call.parameters.get("compartmentId")
    entry.startTime = call.parameters.get("startTime")
    entry.endTime = call.parameters.get("endTime")
    entry.hasPage = bool(call.parameters.get("page"))
    if call.operation in OBJECT_OPERATIONS:
        entry.namespace, entry.bucket, entry.object = call.namespace, call.bucket or None, call.object_name or None
        entry.uploadPartNum = call.parameters.get("uploadPartNum")


def _make_request_id(client_part: str) -> str:
    """Return a request id that begins with the client's own."""
    parts = [secrets.token_hex(16).upper() for _ in range(3)]
    if client_part:
        parts[0] = client_part
    return "/".join(parts)
