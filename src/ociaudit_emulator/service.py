"""The service's rate limit: so many requests per second and region.

Owns: the count of what is allowed now.
Must not: read a clock by itself.

The emulated services as one function from a request to its answer, without a socket.

Owns: the order of the checks, and what the log says about a request.
Must not: know aiohttp.

Invariants:
- nothing is answered to a request whose signature is not good, except the metadata that an instance asks for;
- the order is: signature, path, region, rate limit, the operation, scripted faults.
"""

from __future__ import annotations

import gzip
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ociaudit_emulator.audit_api import AuditApi
from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.control import LogEntry
from ociaudit_emulator.event_source import START, EventSource, RawEvent, Span
from ociaudit_emulator.events import Present, SelfAudit
from ociaudit_emulator.faults import FaultTable
from ociaudit_emulator.federation import Federation, is_federation
from ociaudit_emulator.http import (
    Call,
    Exchange,
    Operation,
    Page,
    Response,
    ServiceError,
    TokenCodec,
    error_response,
    find_call,
    items_response,
    not_authenticated,
)
from ociaudit_emulator.identity_api import IdentityApi
from ociaudit_emulator.instance_metadata import InstanceMetadata, is_metadata
from ociaudit_emulator.instants import MINUTES_PER_DAY
from ociaudit_emulator.signature import KeyRing, SignedRequest, verify_signature
from ociaudit_emulator.tenancy import Tenancy


class RateLimit:
    """One bucket per region, filled steadily; it holds one second's worth of requests."""

    def __init__(self, per_second: float, read_monotonic_seconds: Callable[[], float]) -> None:
        """Begin with full buckets."""
        self._per_second = per_second
        self._capacity = max(per_second, 1.0)
        self._read_seconds = read_monotonic_seconds
        self._buckets: dict[str, tuple[float, float]] = {}

    def try_acquire(self, region: str) -> bool:
        """Take one request from a region's bucket; say whether there was one left."""
        now = self._read_seconds()
        left, filled_at = self._buckets.get(region, (self._capacity, now))
        left = min(self._capacity, left + (now - filled_at) * self._per_second)
        is_allowed = left >= 1.0
        self._buckets[region] = (left - 1.0 if is_allowed else left, now)
        return is_allowed


_ELSEWHERE_DAYS = 30
_AUDIT_OPERATIONS = frozenset({Operation.LIST_EVENTS, Operation.GET_CONFIGURATION})


@dataclass(frozen=True, slots=True)
class Services:
    """Everything that the service works with; made once at the start."""

    tenancy: Tenancy
    behaviour: Behaviour
    source: EventSource
    codec: TokenCodec
    key_ring: KeyRing
    present: Present
    faults: FaultTable
    rate_limit: RateLimit | None
    self_audit: SelfAudit | None
    metadata: InstanceMetadata
    federation: Federation


class Service:
    """Answers the requests of Oracle's clients."""

    def __init__(self, services: Services, now_seconds: Present) -> None:
        """Keep the collaborators; the second clock is the one that signatures are held against."""
        self._services = services
        self._clock = now_seconds
        self._audit = AuditApi(
            services.tenancy, services.behaviour, services.source, services.codec, services.present.read_ms
        )
        self._identity = IdentityApi(services.tenancy, services.codec)

    def serve(self, request: SignedRequest, entry: LogEntry) -> Response:
        """Answer a request and fill in its log entry."""
        try:
            response = self._serve(request, entry)
        except ServiceError as error:
            entry.code = error.code
            response = error_response(error)
        entry.status, entry.items = response.status, response.item_count
        entry.delivery = type(response.delivery).__name__
        entry.requestId = _make_request_id(request.headers.get("opc-request-id", ""))
        response = response.with_header("opc-request-id", entry.requestId)
        return self._compress(request, response)

    def _serve(self, request: SignedRequest, entry: LogEntry) -> Response:
        """Check a request, run its operation and apply the scripted faults."""
        now_seconds = self._clock.read_ms() / 1000
        if is_metadata(request):
            return self._services.metadata.response(request)
        if is_federation(request):
            return self._services.federation.response(request, now_seconds)
        signer = verify_signature(request, self._services.key_ring.find_signer, now_seconds)
        entry.key = signer.label
        call = find_call(request.method, request.target)
        _fill_entry(entry, call)
        self._check_region(call)
        limited = self._limit(call)
        if limited is not None:
            entry.code = "TooManyRequests"
            return limited
        self._record(call)
        response, page = self._run(call)
        is_gzip_accepted = "gzip" in request.headers.get("accept-encoding", "")

        def read_elsewhere(count: int) -> Sequence[RawEvent]:
            return self._read_elsewhere(call, count)

        exchange = Exchange(call, response, page, self._services.codec, is_gzip_accepted, read_elsewhere)
        response, entry.fault = self._services.faults.apply(exchange)
        return response

    def _check_region(self, call: Call) -> None:
        """Refuse a region that the tenancy has not subscribed to, as Oracle does: with 401."""
        region = self._services.tenancy.region_by_name.get(call.region)
        if region is None or not region.is_ready:
            raise not_authenticated(f"the tenancy has not subscribed to {call.region}")

    def _limit(self, call: Call) -> Response | None:
        """Refuse an Audit request when there are too many, with Retry-After if that is wanted."""
        rate_limit = self._services.rate_limit
        if rate_limit is None or call.operation not in _AUDIT_OPERATIONS or rate_limit.try_acquire(call.region):
            return None
        response = error_response(ServiceError(429, "TooManyRequests", "Too many requests for the user."))
        seconds = self._services.behaviour.retry_after_seconds
        return response if seconds is None else response.with_header("Retry-After", str(seconds))

    def _run(self, call: Call) -> tuple[Response, Page | None]:
        """Run the operation; a page is given beside its answer, for the faults."""
        try:
            if call.operation is Operation.LIST_EVENTS:
                return self._page_response(self._audit.list_events(call))
            if call.operation is Operation.LIST_COMPARTMENTS:
                return self._page_response(self._identity.list_compartments(call))
            return self._run_unpaged(call), None
        except ServiceError as error:
            return error_response(error), None

    def _run_unpaged(self, call: Call) -> Response:
        """Run an operation that has no pages."""
        if call.operation is Operation.GET_CONFIGURATION:
            return self._audit.get_configuration(call)
        if call.operation is Operation.GET_TENANCY:
            return self._identity.get_tenancy(call)
        if call.operation is Operation.GET_COMPARTMENT:
            return self._identity.get_compartment(call)
        return self._identity.list_region_subscriptions(call)

    def _page_response(self, page: Page) -> tuple[Response, Page]:
        """Answer a page."""
        token = None if page.following is None else self._services.codec.encode(page.following)
        return items_response(page.items, token), page

    def _read_elsewhere(self, call: Call, count: int) -> Sequence[RawEvent]:
        """Read events of the place that a ListEvents call asks, from outside its window."""
        if call.operation is not Operation.LIST_EVENTS:
            return ()
        query = self._audit.read_query(call)
        margin = _ELSEWHERE_DAYS * MINUTES_PER_DAY
        before = Span(query.span.start_minute - margin, query.span.start_minute)
        after = Span(query.span.end_minute, query.span.end_minute + margin)
        source = self._services.source
        found = source.read(query.target, before, START, count).events
        return found or source.read(query.target, after, START, count).events

    def _record(self, call: Call) -> None:
        """Let a ListEvents call become an event itself, if that is wanted."""
        if self._services.self_audit is not None and call.operation is Operation.LIST_EVENTS:
            self._services.self_audit.record(call)

    def _compress(self, request: SignedRequest, response: Response) -> Response:
        """Compress the body if the emulator may and the client can."""
        is_wanted = "gzip" in request.headers.get("accept-encoding", "")
        if not (self._services.behaviour.is_gzip_allowed and is_wanted) or "Content-Encoding" in response.headers:
            return response
        packed = replace(response, body=gzip.compress(response.body, compresslevel=1, mtime=0))
        return packed.with_header("Content-Encoding", "gzip").with_header("Vary", "Accept-Encoding")


def _fill_entry(entry: LogEntry, call: Call) -> None:
    """Write what was asked into the log entry."""
    entry.region = call.region
    entry.operation = str(call.operation)
    entry.compartmentId = call.parameters.get("compartmentId")
    entry.startTime = call.parameters.get("startTime")
    entry.endTime = call.parameters.get("endTime")
    entry.hasPage = bool(call.parameters.get("page"))


def _make_request_id(client_part: str) -> str:
    """Make a request id that begins with the client's own."""
    parts = [secrets.token_hex(16).upper() for _ in range(3)]
    if client_part:
        parts[0] = client_part
    return "/".join(parts)
