"""HTTP: signed requests with rate limit, memory budget and retries, and their validated responses.

`Transport` keeps the connections, signs a request, sends it once, and translates everything that can go wrong on the
way into `errors.RequestError`. `HttpClient.fetch` returns a validated response or raises; `RetryPolicy` decides whether
and when a failed request is sent again. `HttpResponse` is what the caller gets, and `FinishedRequest` is what progress
and logs get. `PageTokens` detects a paginated listing that does not end.

`MemoryBudget` limits what all requests together hold in memory: the bytes of response bodies, and the number of
complete responses that wait to be processed.

Invariants
- No request is sent while the maximum number of complete responses wait: where responses arrive faster than they are
  processed, a kill loses few of them. Processing a response needs no other request, so the wait ends.
- The reserved bytes stay within the limit, with one exception: the oldest reservation always gets what it needs. One
  request can therefore always finish and release its bytes, and a page larger than the budget (one may hold 20,000
  events) is still read.
- A response counts only if its body passes the caller's `parse`; a request with an invalid body has failed.
- Every request is signed when it is sent: a signature is valid for five minutes.
- No value of a request header reaches a message.
- Every try of a request goes through the rate limiter, retries included. A request that waits for its next try holds
  no slot.
- At most `max_tries` tries per request: with 8 % invalid responses, four would leave gaps in a large export.
- `Retry-After` is honoured up to a bound, so that a hostile value cannot stop the run.
- The requests of one shard share a `RetryBudget` that successes refill. With one response in two invalid it lasts for
  ever; with more, a long shard fails before every page has taken eight tries.
- Backoff grows to a bound and has jitter, so that many clients do not come back at the same moment.
- Until the first usable response, all requests together take at most `first_response_seconds`.
"""

# Over 700 lines: a request is signed, sent, limited, budgeted and tried again by one set of promises.

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from ociaudit.client.network import choose_proxy, describe_failure, explain_certificate, explain_proxy, show_proxy
from ociaudit.client.rate_limiter import RateLimiter, Slot
from ociaudit.client.signer import Credentials
from ociaudit.clock import Clock
from ociaudit.errors import (
    ConnectionFailed,
    DiskError,
    InvalidResponse,
    RequestError,
    ServiceError,
    ServiceUnreachable,
)
from ociaudit.version import VERSION

T = TypeVar("T")
USER_AGENT = f"oci-audit/{VERSION} python/{platform.python_version()}"
_OK = 200
_UNAUTHORIZED = 401
_CHUNK_BYTES = 256 * 1024
_READ_BYTES = 4 * _CHUNK_BYTES
_INVITED_BYTES = 1024 * 1024
"""A larger body is sent when the service has agreed to receive it, so that a refusal costs nothing."""
_MAX_BODY_SHOWN = 60
_MAX_CODE_SHOWN = 80
_MAX_MESSAGE_SHOWN = 500


class MemoryBudget:
    """One budget for all requests. Used inside one event loop."""

    def __init__(self, max_bytes: int, *, max_responses: int) -> None:
        """Start with nothing reserved."""
        self._max_bytes = max_bytes
        self._max_responses = max_responses
        self._complete: set[Reservation] = set()
        self._reservations: dict[Reservation, None] = {}  # oldest first
        self._waiting: list[asyncio.Future[None]] = []
        self.reserved_bytes = 0

    def reserve(self) -> Reservation:
        """Return an empty reservation for one response."""
        return Reservation(self)

    async def wait_for_room(self) -> None:
        """Wait until another response may be requested."""
        while len(self._complete) >= self._max_responses:
            await self._wait()

    async def acquire(self, reservation: Reservation, count: int) -> None:
        """Implement `Reservation.acquire`."""
        self._reservations.setdefault(reservation)
        while self.reserved_bytes + count > self._max_bytes and next(iter(self._reservations)) is not reservation:
            await self._wait()
        reservation.reserved_bytes += count
        self.reserved_bytes += count

    def mark_complete(self, reservation: Reservation) -> None:
        """Implement `Reservation.mark_complete`."""
        self._complete.add(reservation)

    def release(self, reservation: Reservation) -> None:
        """Implement `Reservation.release`."""
        self._complete.discard(reservation)
        self.reserved_bytes -= reservation.reserved_bytes
        reservation.reserved_bytes = 0
        self._reservations.pop(reservation, None)
        waiting, self._waiting = self._waiting, []
        for wake_up in waiting:
            if not wake_up.done():
                wake_up.set_result(None)

    async def _wait(self) -> None:
        wake_up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(wake_up)
        await wake_up


class Reservation:
    """The bytes of one response, from the first byte read until the response is processed."""

    def __init__(self, budget: MemoryBudget) -> None:
        """Reserve nothing yet."""
        self._budget = budget
        self.reserved_bytes = 0

    async def acquire(self, count: int) -> None:
        """Wait until `count` more bytes may be reserved, and reserve them."""
        await self._budget.acquire(self, count)

    def mark_complete(self) -> None:
        """Record that the response is complete and waits to be processed."""
        self._budget.mark_complete(self)

    def release(self) -> None:
        """Release all bytes; calling it again has no effect."""
        self._budget.release(self)


@dataclass(frozen=True, slots=True)
class FilePart:
    """A part of an open file as a request's body: it is read again for every try. The file must not change."""

    descriptor: int
    start: int
    length: int

    async def read_chunks(self) -> AsyncIterator[bytes]:
        """Yield the bytes; memory does not grow with them.

        Raises:
            OSError: they cannot be read, or the file has become shorter.
        """
        end = self.start + self.length
        for start in range(self.start, end, _READ_BYTES):
            wanted = min(_READ_BYTES, end - start)
            data = await asyncio.to_thread(os.pread, self.descriptor, wanted, start)
            if len(data) != wanted:
                raise OSError("the file that is being sent has become shorter")
            for at in range(0, wanted, _CHUNK_BYTES):
                yield data[at : at + _CHUNK_BYTES]


@dataclass(frozen=True, slots=True)
class Call:
    """What a request is beside its URL. No header's value reaches a message.

    A body of bytes is signed, unless it `is_upload`, as a part of a file is. `accepted` are the statuses of success.
    """

    method: str = "GET"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | FilePart | None = None
    is_upload: bool = False
    accepted: frozenset[int] = frozenset({_OK})
    is_decoded: bool = True
    """Whether a compressed body is decompressed; an object is what is stored, compressed or not."""

    @property
    def signed_body(self) -> bytes | None:
        """Return the body that is part of the signature, if there is one."""
        return self.body if isinstance(self.body, bytes) and not self.is_upload else None

    @property
    def size_bytes(self) -> int:
        """Return the length of the body."""
        return self.body.length if isinstance(self.body, FilePart) else len(self.body or b"")


GET = Call()


@dataclass(frozen=True, slots=True)
class HttpResponse(Generic[T]):
    """A valid response: its parsed body, and what the headers contain.

    `tries` is the number of the try that succeeded, from 1.
    """

    body: T
    size_bytes: int
    next_token: str | None
    request_id: str | None
    tries: int
    requested_at: datetime
    reservation: Reservation | None = None
    """The memory that the body takes; the caller releases it when the response is processed."""
    status: int = _OK
    headers: Mapping[str, str] = field(default_factory=dict)

    def release(self) -> None:
        """Return the body's bytes to the memory budget."""
        if self.reservation is not None:
            self.reservation.release()


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One try of a request, as progress and logs show it: no header value, no token.

    `path` is that of the URL, without the query. `status` and `request_id` are None if no response arrived, `error`
    is None if the response was valid. `try_number` counts from 1.
    """

    host: str
    path: str
    status: int | None
    size_bytes: int
    seconds: float
    try_number: int
    request_id: str | None
    error: str | None


def finish_request(
    url: str, try_number: int, seconds: float, result: HttpResponse[T] | RequestError
) -> FinishedRequest:
    """Return the record of a try that took `seconds` and had this result."""
    parts = urlsplit(url)
    status = result.status if isinstance(result, HttpResponse | ServiceError) else None
    if isinstance(result, InvalidResponse):
        status = _OK
    return FinishedRequest(
        host=parts.netloc,
        path=parts.path,
        status=status,
        size_bytes=result.size_bytes if isinstance(result, HttpResponse) else 0,
        seconds=seconds,
        try_number=try_number,
        request_id=result.request_id,
        error=None if isinstance(result, HttpResponse) else str(result),
    )


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How long requests may take, and how many and how large they may be."""

    connect_seconds: float = 10.0
    silence_seconds: float = 60.0
    """A request fails after this long without a byte. A page can take over ten seconds."""
    first_response_seconds: float = 14.0
    max_body_bytes: int = 512 * 1024 * 1024
    """A page of 20,000 events of 6 KB has 120 MB; a larger response than this is rejected."""
    memory_budget_bytes: int = 96 * 1024 * 1024
    """The bodies of all requests together, from the first byte read until they are processed. The events parsed from
    them take as much again. A single response may be larger."""
    max_in_flight: int = 16
    """Requests in flight, all regions together; each has a connection."""
    max_per_second: float | None = None
    """Requests sent in a second, all regions together; None leaves the rate to the service's 429."""


class Transport:
    """Sends signed requests. Used as an async context manager, inside one event loop."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        clock: Clock,
        limits: TransportLimits | None = None,
        proxies: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Keep the arguments; no connection is opened yet.

        `proxies` is what `urllib.request.getproxies_environment` returns: scheme to URL, and `no` for exceptions.
        `ssl_context` decides which certificates are trusted; None means those that the system trusts.
        """
        self._proxies = proxies or {}
        self._ssl = ssl_context or True
        self._credentials = credentials
        self._clock = clock
        self._limits = limits or TransportLimits()
        self.has_responded = False
        """Whether any usable response has arrived: a valid one, or an error in Oracle's format."""
        self._latest_dates: tuple[datetime, str | None] = (clock.now(), None)
        """When the latest response arrived by the local clock, and its `Date` header."""

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect_seconds, sock_read=self._limits.silence_seconds
        )
        # Not trust_env: it looks for a netrc file with every request, in a thread, and would put the password from it
        # into the header that carries the signature. The environment's proxies come as an argument.
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=self._limits.max_in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": USER_AGENT, "accept": "application/json"},
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    @property
    def skew_seconds(self) -> float | None:
        """Return how far the local clock was ahead of the latest response's `Date`; None if that is not known."""
        here, there = self._latest_dates
        try:
            return (here - parsedate_to_datetime(there)).total_seconds() if there else None
        except (ValueError, TypeError, OverflowError):
            return None

    async def send(
        self,
        url: str,
        parse: Callable[[bytes], T],
        *,
        try_number: int,
        reservation: Reservation,
        call: Call = GET,
    ) -> HttpResponse[T]:
        """Send one signed request and return the response whose body `parse` accepted.

        A token that is about to expire is refreshed first. After a 401 the token is refreshed once, and the request is
        sent a second time. `url` is complete and already encoded. `parse` turns the body into what the caller wants;
        it raises ValueError or a msgspec error for an invalid body. The body's bytes are added to `reservation`.

        Raises:
            RequestError: there was no valid response.
        """
        signer = await self._credentials.prepare(self._clock.now().timestamp())
        try:
            return await self._send(url, parse, try_number, reservation, call)
        except ServiceError as error:
            if error.status != _UNAUTHORIZED or not await self._credentials.refresh(signer):
                raise
        return await self._send(url, parse, try_number, reservation, call)

    async def _send(
        self, url: str, parse: Callable[[bytes], T], try_number: int, reservation: Reservation, call: Call
    ) -> HttpResponse[T]:
        parts = urlsplit(url)
        requested_at = self._clock.now()
        headers = self._credentials.sign(
            url=url,
            host=parts.netloc,
            path=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            now_seconds=requested_at.timestamp(),
            method=call.method,
            signed_body=call.signed_body,
        )
        proxy = choose_proxy(url, self._proxies)
        try:
            async with self._open(url, headers, proxy, call) as response:
                body = await self._read_body(response, reservation)
        except aiohttp.ClientConnectorCertificateError as error:
            raise explain_certificate(parts.netloc, _describe(error)) from error
        except (aiohttp.ClientHttpProxyError, aiohttp.ClientProxyConnectionError) as error:
            status = error.status if isinstance(error, aiohttp.ClientHttpProxyError) else None
            raise explain_proxy(proxy or "", parts.netloc, status, _describe(error)) from error
        except TimeoutError as error:
            raise ConnectionFailed(f"{parts.netloc} stopped responding") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionFailed(f"the connection to {parts.netloc} failed: {_describe(error)}") from error
        request_id = _read_request_id(response)
        self._latest_dates = (self._clock.now(), response.headers.get("Date"))
        if response.status not in call.accepted:
            self.has_responded |= call.method == "HEAD" and request_id is not None  # an error without a body
            raise self._make_service_error(response, body, proxy)
        try:
            parsed = parse(body)
            token = _read_token(response)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidResponse(
                f"{parts.netloc} answered {response.status}, but {error}", request_id=request_id
            ) from error
        self.has_responded = True
        return HttpResponse(
            parsed, len(body), token, request_id, try_number, requested_at, reservation, response.status,
            response.headers,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def _open(
        self, url: str, headers: dict[str, str], proxy: str | None, call: Call
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request, and yield the response as soon as its headers are there.

        aiohttp's time limit for silence counts while a body is sent, too. A body has a limit of its own, which each
        chunk that leaves renews.
        """
        if call.body is None:
            async with self._session.request(
                call.method,
                URL(url, encoded=True),
                headers={**headers, **call.headers},
                allow_redirects=False,
                proxy=proxy,
                ssl=self._ssl,
                auto_decompress=call.is_decoded,
            ) as response:
                yield response
            return
        silence = self._limits.silence_seconds
        async with asyncio.timeout(silence) as limit:
            body = call.body if isinstance(call.body, bytes) else _SentPart(call.body, limit, silence)
            try:
                response = await self._session.request(
                    call.method,
                    URL(url, encoded=True),
                    headers={**headers, **call.headers, "content-length": str(call.size_bytes)},
                    data=body,
                    expect100=call.size_bytes > _INVITED_BYTES,
                    allow_redirects=False,
                    proxy=proxy,
                    ssl=self._ssl,
                    timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._limits.connect_seconds),
                )
            except aiohttp.ClientError as error:
                if isinstance(body, _SentPart) and body.problem is not None:
                    raise DiskError(f"the file that is sent cannot be read: {body.problem}") from error
                raise
            try:
                yield response
            finally:
                if response.status in call.accepted:
                    response.release()
                else:
                    response.close()  # the rest of the body may not have been sent

    async def _read_body(self, response: aiohttp.ClientResponse, reservation: Reservation) -> bytes:
        """Read a body to its end, decompressed, up to the size limit."""
        chunks: list[bytes] = []
        size = 0
        limit = self._limits.max_body_bytes
        async for chunk in response.content.iter_any():
            size += len(chunk)
            if size > limit:
                raise InvalidResponse(
                    f"{extract_host(str(response.url))} sent more than {limit:,} bytes in one response",
                    request_id=_read_request_id(response),
                )
            await reservation.acquire(len(chunk))
            chunks.append(chunk)
        return b"".join(chunks)

    def _make_service_error(
        self, response: aiohttp.ClientResponse, body: bytes, proxy: str | None = None
    ) -> ServiceError:
        try:
            oci = msgspec.json.decode(body, type=_ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            shown = body[:_MAX_BODY_SHOWN].decode("utf-8", "replace")
            host = extract_host(str(response.url))
            sender = f"the proxy {show_proxy(proxy)}, or {host} behind it," if proxy else host
            message = f"{sender} answered {response.status} without an OCI error: {shown!r}"
            code = ""
        else:
            self.has_responded = True
            message = f"{response.status} {oci.code[:_MAX_CODE_SHOWN]}: {oci.message[:_MAX_MESSAGE_SHOWN]}"
            code = oci.code
        return ServiceError(
            message,
            status=response.status,
            code=code,
            is_oci=bool(code),
            request_id=_read_request_id(response),
            retry_after_seconds=self._parse_retry_after(response.headers.get("Retry-After")),
            skew_seconds=self.skew_seconds,
        )

    def _parse_retry_after(self, text: str | None) -> float | None:
        """Return the seconds that a `Retry-After` header asks for, in either form of RFC 9110; None if it has none."""
        if text is None:
            return None
        if text.strip().isdecimal():
            return float(text.strip())
        try:
            return max(0.0, (parsedate_to_datetime(text) - self._clock.now()).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None


class _SentPart:
    """The body of one try; aiohttp reads it again where it opens another connection for a request."""

    def __init__(self, part: FilePart, limit: asyncio.Timeout, silence_seconds: float) -> None:
        self._part = part
        self._limit = limit
        self._silence_seconds = silence_seconds
        self.problem: OSError | None = None
        """Why the file cannot be read; aiohttp reports that as an error of the connection."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._part.read_chunks():
                yield chunk
                self._limit.reschedule(asyncio.get_running_loop().time() + self._silence_seconds)
        except OSError as error:
            self.problem = error
            raise


class _ErrorBody(msgspec.Struct):
    code: str
    message: str = ""


def _read_token(response: aiohttp.ClientResponse) -> str | None:
    """Return the next page's token; an empty header means the end, as an absent one does."""
    token = response.headers.get("opc-next-page") or None
    if token is not None and not token.isascii():
        raise ValueError("the token of the next page is not ASCII")
    return token


def _read_request_id(response: aiohttp.ClientResponse) -> str | None:
    request_id = response.headers.get("opc-request-id")
    return _escape(request_id) if request_id else None


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):  # its text has the URL: of a proxy, including the password
        return f"{error.status} {_escape(error.message)[:_MAX_MESSAGE_SHOWN]}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return _describe_cause(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):  # its text has the connection's key, a Python object
        return _describe_cause(error.os_error)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return "the server closed it"
    return _describe_cause(error)


def _describe_cause(error: Exception) -> str:
    text = describe_failure(error)
    if " object at 0x" in text:
        text = ""
    return _escape(text)[:_MAX_MESSAGE_SHOWN] or type(error).__name__


def _escape(text: str) -> str:
    """Escape the lone surrogates that Python keeps for bytes that are not text; no file could hold them."""
    return text.encode("utf-8", "backslashreplace").decode()


def extract_host(url: str) -> str:
    """Return the host and port of a URL."""
    return urlsplit(url).netloc


RetryCallback = Callable[[RequestError, float], None]
RequestCallback = Callable[[FinishedRequest], None]
_TOO_MANY_REQUESTS = 429
_FIRST_SERVER_ERROR = 500


class Sender(Protocol):
    """Sends a request once; `transport.Transport` is the real one."""

    @property
    def has_responded(self) -> bool:
        """Return whether any usable response has arrived."""
        ...

    async def send(
        self,
        url: str,
        parse: Callable[[bytes], T],
        *,
        try_number: int,
        reservation: Reservation,
        call: Call = GET,
    ) -> HttpResponse[T]:
        """Send the request once."""
        ...


class HttpClient:
    """Fetches responses. Used inside one event loop."""

    def __init__(
        self,
        sender: Sender,
        *,
        rate_limiter: RateLimiter,
        clock: Clock,
        budget: MemoryBudget,
        retry: RetryPolicy | None = None,
        first_response_seconds: float = 14.0,
        on_retry: RetryCallback | None = None,
        on_request: RequestCallback | None = None,
    ) -> None:
        """Send requests through `sender`; the time limit for the first response starts now.

        `on_retry` is called with the error and the seconds until the next try, `on_request` after every try.
        """
        self._sender = sender
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._budget = budget
        self._retry = retry or RetryPolicy()
        self._on_retry = on_retry
        self._on_request = on_request
        self._first_response_deadline = clock.monotonic() + first_response_seconds

    async def fetch(
        self,
        url: str,
        parse: Callable[[bytes], T],
        *,
        endpoint: str,
        retries: RetryBudget | None = None,
        call: Call = GET,
    ) -> HttpResponse[T]:
        """Send a signed request until `parse` accepts the body of a response, and return that response.

        The body counts against the memory budget until the response is released. `endpoint` names the rate limit
        that applies. `retries` is a budget shared by several requests.

        Raises:
            RequestError: no tries are left, or a retry cannot help.
            ServiceUnreachable: the service has given no usable response within the time limit.
        """
        try_number = 0
        while True:
            try_number += 1
            try:
                response = await self._try_once(url, parse, try_number, endpoint, call)
            except RequestError as error:
                wait = self._retry.choose_wait(error, try_number=try_number, jitter=self._clock.draw(), budget=retries)
                self._check_service_responds(error, wait, url)
                if wait is None:
                    raise
                if self._on_retry:
                    self._on_retry(error, wait)
            else:
                if retries is not None:
                    retries.refill()
                return response
            await self._clock.sleep(wait)

    async def _try_once(
        self, url: str, parse: Callable[[bytes], T], try_number: int, endpoint: str, call: Call
    ) -> HttpResponse[T]:
        await self._budget.wait_for_room()
        reservation = self._budget.reserve()
        is_kept = False
        try:
            async with self._rate_limiter.acquire(endpoint) as slot:
                started_at = self._clock.monotonic()
                try:
                    response = await self._send_in_time(url, parse, try_number, reservation, call)
                except RequestError as error:
                    self._report_failure(slot, error)
                    self._report_request(url, try_number, started_at, error)
                    raise
                slot.record_success()
                self._report_request(url, try_number, started_at, response)
                reservation.mark_complete()
                is_kept = True
                return response
        finally:
            if not is_kept:
                reservation.release()

    async def _send_in_time(
        self, url: str, parse: Callable[[bytes], T], try_number: int, reservation: Reservation, call: Call
    ) -> HttpResponse[T]:
        if self._sender.has_responded:
            return await self._sender.send(url, parse, try_number=try_number, reservation=reservation, call=call)
        try:
            async with asyncio.timeout(max(0.1, self._first_response_deadline - self._clock.monotonic())):
                return await self._sender.send(url, parse, try_number=try_number, reservation=reservation, call=call)
        except TimeoutError as error:
            raise ConnectionFailed(f"{extract_host(url)} did not respond in time") from error

    def _report_failure(self, slot: Slot, error: RequestError) -> None:
        """Report to the rate limiter what an error says about the endpoint."""
        if not isinstance(error, ServiceError):
            slot.record_failure()
            return
        requested = error.retry_after_seconds
        wait = None if requested is None else min(requested, self._retry.max_retry_after_seconds)
        if error.status >= _FIRST_SERVER_ERROR:
            slot.record_failure(wait)
        elif error.status == _TOO_MANY_REQUESTS:
            slot.record_throttled(wait)
        else:
            slot.record_success()

    def _report_request(
        self, url: str, try_number: int, started_at: float, result: HttpResponse[T] | RequestError
    ) -> None:
        if self._on_request:
            self._on_request(finish_request(url, try_number, self._clock.monotonic() - started_at, result))

    def _check_service_responds(self, error: RequestError, wait: float | None, url: str) -> None:
        """Raise if the service has never responded and this error was the last, or the next try would be too late."""
        if self._sender.has_responded:
            return
        if wait is None or self._first_response_deadline - self._clock.monotonic() <= wait:
            hint = error.hint if error.hint != error.default_hint else None
            raise ServiceUnreachable(f"no usable response from {extract_host(url)}: {error}", hint=hint) from error


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a request is tried, and how long the waits between the tries are."""

    max_tries: int = 8
    first_wait_seconds: float = 0.2
    max_wait_seconds: float = 20.0
    max_retry_after_seconds: float = 300.0

    def choose_wait(
        self, error: RequestError, *, try_number: int, jitter: float, budget: RetryBudget | None = None
    ) -> float | None:
        """Return the seconds to wait after failed try number `try_number` (from 1); None to give up.

        `jitter` in [0, 1) chooses between half of the backoff and all of it. A retry is deducted from `budget`.
        """
        if not error.retryable or try_number >= self.max_tries:
            return None
        if budget is not None and not budget.deduct():
            return None
        backoff = min(self.max_wait_seconds, self.first_wait_seconds * 2.0 ** (try_number - 1))
        wait = backoff * (0.5 + jitter / 2)
        if isinstance(error, ServiceError) and error.retry_after_seconds is not None:
            return max(wait, min(error.retry_after_seconds, self.max_retry_after_seconds))
        return wait


class RetryBudget:
    """The retries that several requests share; every success returns one."""

    def __init__(self, size: int = 24) -> None:
        """Start with a full budget."""
        self._size = size
        self._left = size

    def deduct(self) -> bool:
        """Use one retry; return False if none is left."""
        if not self._left:
            return False
        self._left -= 1
        return True

    def refill(self) -> None:
        """Return one retry to the budget."""
        self._left = min(self._size, self._left + 1)


class PageLoop(InvalidResponse):
    """The service returned a page token that it had returned before in the same listing."""


class PageTokens:
    """The page tokens of one pass over a paginated listing. None is followed twice, so the pass ends."""

    def __init__(self, first: str | None = None) -> None:
        """Start with the token that the first request carries, if it carries one."""
        self._seen = {first} if first is not None else set()

    def record(self, response: HttpResponse[Any]) -> None:
        """Record the token of the next page; a response that repeats a token is released.

        Raises:
            PageLoop: the token is not new.
        """
        token = response.next_token
        if token in self._seen:
            response.release()
            raise PageLoop("the service returned the same page token twice", request_id=response.request_id)
        if token is not None:
            self._seen.add(token)
