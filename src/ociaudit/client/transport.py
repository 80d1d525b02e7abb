"""What comes of a request: a good answer for whoever asked, and a line for whoever watches.

Owns: these two forms. Must not: ask.

One try of a request over HTTP: signed, sent, checked.

Owns: the connections, the signature on each try, and the translation of everything that can go wrong on the
way into `errors.RequestError`. Must not: repeat, or know pages, shards or the disk.

Invariants
- An answer counts only when its body passed the caller's check; a bad body is a failed try.
- Every try is signed afresh: a signature is valid for five minutes.
- No header value of a request reaches a message.
"""

from __future__ import annotations

import platform
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Generic, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import msgspec
from yarl import URL

from ociaudit.client.memory_budget import Reservation
from ociaudit.client.network import choose_proxy, explain_certificate
from ociaudit.client.signer import Credentials
from ociaudit.clock import Clock
from ociaudit.errors import ConnectionFailed, InvalidResponse, RequestError, ServiceError
from ociaudit.version import VERSION

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class HttpResponse(Generic[T]):
    """A good answer: its checked body, and what the headers said."""

    body: T
    size_bytes: int
    next_token: str | None
    request_id: str | None
    tries: int
    asked_at: datetime
    reservation: Reservation | None = None
    """The body's bytes; whoever has worked it off releases them."""

    def release(self) -> None:
        """Give the body's bytes back to the budget."""
        if self.reservation is not None:
            self.reservation.release()


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """One try of a request, for those who watch: no header value, no token.

    `path` is the URL's without its query. `status` and `request_id` are None where nothing was answered,
    `error` is None where the answer was good.
    """

    host: str
    path: str
    status: int | None
    size_bytes: int
    seconds: float
    try_number: int
    request_id: str | None
    error: str | None


def finish_request(url: str, try_number: int, seconds: float, end: HttpResponse[T] | RequestError) -> FinishedRequest:
    """Return what watchers are told of a try that took so long and ended so."""
    parts = urlsplit(url)
    status: int | None = 200
    if not isinstance(end, HttpResponse | InvalidResponse):
        status = end.status if isinstance(end, ServiceError) else None
    return FinishedRequest(
        host=parts.netloc,
        path=parts.path,
        status=status,
        size_bytes=end.size_bytes if isinstance(end, HttpResponse) else 0,
        seconds=seconds,
        try_number=try_number,
        request_id=end.request_id,
        error=None if isinstance(end, HttpResponse) else str(end),
    )


USER_AGENT = f"oci-audit/{VERSION} python/{platform.python_version()}"
_OK = 200
_UNAUTHORIZED = 401
_BODY_SHOWN = 60
_CODE_SHOWN = 80
_MESSAGE_SHOWN = 500


@dataclass(frozen=True, slots=True)
class TransportLimits:
    """How long the program waits, in seconds, and how much it takes in one answer."""

    connect_seconds: float = 10.0
    silence_seconds: float = 60.0
    """Without a byte for this long, a try has failed. A page can take over ten seconds."""
    first_response_seconds: float = 14.0
    max_body_bytes: int = 512 * 1024 * 1024
    """A page of 20,000 events of 6 KB has 120 MB; an answer of more than this much is refused."""
    max_held_bytes: int = 96 * 1024 * 1024
    """Bodies of all requests together, from the first byte read until they are worked off; events take as much
    again. One answer may be larger."""
    max_in_flight: int = 16
    """Requests under way, all regions together; each has a connection."""
    max_per_second: float | None = None
    """Requests that may leave in a second, all regions together; None leaves it to the service's 429."""


class _ErrorBody(msgspec.Struct):
    code: str
    message: str = ""


class Transport:
    """Sends signed GET requests. Used as an async context manager, inside one event loop."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        clock: Clock,
        limits: TransportLimits | None = None,
        proxies: Mapping[str, str] | None = None,
        ssl_context: ssl.SSLContext | None = None,
    ) -> None:
        """Keep the collaborators; nothing is opened yet.

        `proxies` is what `urllib.request.getproxies_environment` returns: scheme to URL, and `no` for exceptions.
        `ssl_context` says which certificates are trusted; None means those that the system trusts.
        """
        self._proxies = proxies or {}
        self._ssl = ssl_context or True
        self._credentials = credentials
        self._clock = clock
        self._limits = limits or TransportLimits()
        self.has_responded = False
        """Whether any usable answer, or a refusal in Oracle's words, has come."""
        self._date: tuple[datetime, str | None] = (clock.now(), None)  # of the latest answer: here, and as it said

    async def __aenter__(self) -> Self:
        """Open the connection pool."""
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=self._limits.connect_seconds, sock_read=self._limits.silence_seconds
        )
        # Not trust_env: it looks for a netrc at every request, in a thread, and would put its password into the
        # header that carries the signature. The proxies of the environment come as an argument.
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(limit=self._limits.max_in_flight),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": USER_AGENT, "accept": "application/json"},
            read_bufsize=2**18,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, activity: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(
        self, url: str, check: Callable[[bytes], T], *, try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        """Send one signed GET and return the answer whose body `check` accepted.

        A token that nears its end is renewed before, and one that is refused (401) once after, with a second try.
        `url` is complete and already encoded. `check` turns the body into what the caller wants and raises
        ValueError or msgspec's own error for a body that must not count. The body's bytes are held in `hold`.

        Raises:
            RequestError: no good answer.
        """
        signer = await self._credentials.prepare(self._clock.now().timestamp())
        try:
            return await self._send(url, check, try_number, reservation)
        except ServiceError as error:
            if error.status != _UNAUTHORIZED or not await self._credentials.refresh(signer):
                raise
        return await self._send(url, check, try_number, reservation)

    async def _send(
        self, url: str, check: Callable[[bytes], T], try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        parts = urlsplit(url)
        asked_at = self._clock.now()
        headers = self._credentials.sign(
            url=url,
            host=parts.netloc,
            path=f"{parts.path}?{parts.query}" if parts.query else parts.path,
            now_seconds=asked_at.timestamp(),
        )
        try:
            async with self._session.get(
                URL(url, encoded=True),
                headers=headers,
                allow_redirects=False,
                proxy=choose_proxy(url, self._proxies),
                ssl=self._ssl,
            ) as response:
                body = await self._read_body(response, reservation)
        except aiohttp.ClientConnectorCertificateError as error:
            raise explain_certificate(show_host(url), _describe(error)) from error
        except TimeoutError as error:
            raise ConnectionFailed(f"{show_host(url)} fell silent") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionFailed(f"the connection to {show_host(url)} failed: {_describe(error)}") from error
        request_id = _read_request_id(response)
        self._date = (self._clock.now(), response.headers.get("Date"))
        if response.status != _OK:
            raise self._refuse(response, body)
        try:
            checked = check(body)
            token = _read_token(response)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise InvalidResponse(f"{show_host(url)} answered 200, but {error}", request_id=request_id) from error
        self.has_responded = True
        return HttpResponse(checked, len(body), token, request_id, try_number, asked_at, reservation)

    async def _read_body(self, response: aiohttp.ClientResponse, reservation: Reservation) -> bytes:
        """Read a body to its end, uncompressed, but not without end."""
        pieces: list[bytes] = []
        size = 0
        limit = self._limits.max_body_bytes
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > limit:
                raise InvalidResponse(
                    f"{show_host(str(response.url))} sends more than {limit:,} bytes in one answer",
                    request_id=_read_request_id(response),
                )
            await reservation.take(len(piece))
            pieces.append(piece)
        return b"".join(pieces)

    def _refuse(self, response: aiohttp.ClientResponse, body: bytes) -> ServiceError:
        request_id = _read_request_id(response)
        try:
            oci = msgspec.json.decode(body, type=_ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            shown = body[:_BODY_SHOWN].decode("utf-8", "replace")
            message = f"{show_host(str(response.url))} answered {response.status} with no error of Oracle's: {shown!r}"
            code = ""
        else:
            self.has_responded = True
            message = f"{response.status} {oci.code[:_CODE_SHOWN]}: {oci.message[:_MESSAGE_SHOWN]}"
            code = oci.code
        return ServiceError(
            message,
            status=response.status,
            code=code,
            is_oci=bool(code),
            request_id=request_id,
            retry_after_seconds=self._read_retry_after(response.headers.get("Retry-After")),
            skew_seconds=self.skew_seconds,
        )

    def _read_retry_after(self, text: str | None) -> float | None:
        if text is None:
            return None
        if text.strip().isdecimal():
            return float(text.strip())
        try:
            return max(0.0, (parsedate_to_datetime(text) - self._clock.now()).total_seconds())
        except (ValueError, TypeError, OverflowError):
            return None

    @property
    def skew_seconds(self) -> float | None:
        """Return how far the local clock was ahead of the service's at the latest answer, if that said its time."""
        here, there = self._date
        try:
            return (here - parsedate_to_datetime(there)).total_seconds() if there else None
        except (ValueError, TypeError, OverflowError):
            return None


def _read_token(response: aiohttp.ClientResponse) -> str | None:
    """Return the next page's token; an empty one means the end, as an absent one does."""
    token = response.headers.get("opc-next-page") or None
    if token is not None and not token.isascii():
        raise ValueError("the token of the next page is not ASCII")
    return token


def _read_request_id(response: aiohttp.ClientResponse) -> str | None:
    """Return the `opc-request-id`; bytes that are no text in it could not be written anywhere."""
    request_id = response.headers.get("opc-request-id")
    return _escape(request_id) if request_id else None


def _escape(text: str) -> str:
    """Write bytes that were no text, which Python keeps as lone surrogates, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def show_host(url: str) -> str:
    """Return the host and port of a URL, for a message."""
    return urlsplit(url).netloc


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):  # its text holds the URL: of a proxy, password included
        return f"{error.status} {_escape(error.message)[:_MESSAGE_SHOWN]}"
    return _escape(str(error))[:_MESSAGE_SHOWN] or type(error).__name__
