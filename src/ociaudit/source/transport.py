"""One request after another over HTTP: signed, sent, checked, repeated when that can help.

Owns: the connection, the signature on each attempt, the translation of everything that can go wrong on the
way into `errors.RequestError`, and the repeats. Must not: know pages, shards or the disk.

Invariants
- An answer counts only when its body passed the caller's check; a bad body is a failed attempt.
- Every attempt is signed afresh: a signature is valid for five minutes.
- Until the first usable answer everything together takes at most `first_answer_seconds`.
- No header value of a request reaches a message.
"""

from __future__ import annotations

import asyncio
import platform
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # documented, not in typeshed

import aiohttp
import msgspec
from yarl import URL

from ociaudit.errors import BadAnswer, ConnectionFailed, Refused, RequestError, ServiceUnreachable
from ociaudit.source.answer import Answer
from ociaudit.source.certificates import explain_certificate
from ociaudit.source.clock import Clock
from ociaudit.source.credentials import Credentials
from ociaudit.source.retry import RetryPolicy
from ociaudit.version import VERSION

T = TypeVar("T")
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
    """Without a byte for this long, an attempt has failed. A page can take over ten seconds."""
    first_answer_seconds: float = 14.0
    max_body_bytes: int = 512 * 1024 * 1024
    """A page of 20,000 events of 6 KB has 120 MB; this much may be in memory for each request in flight."""


class _ErrorBody(msgspec.Struct):
    code: str
    message: str = ""


RetryObserver = Callable[[RequestError, float], None]


class Transport:
    """Sends signed GET requests. Used as an async context manager, inside one event loop."""

    def __init__(
        self,
        credentials: Credentials,
        *,
        clock: Clock,
        retry: RetryPolicy | None = None,
        limits: TransportLimits | None = None,
        on_retry: RetryObserver | None = None,
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
        self._retry = retry or RetryPolicy()
        self._limits = limits or TransportLimits()
        self._on_retry = on_retry
        self._opened_at = 0.0
        self._has_answered = False
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
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"user-agent": USER_AGENT, "accept": "application/json"},
            read_bufsize=2**20,
        )
        self._opened_at = self._clock.monotonic()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._session.close()

    async def fetch(self, url: str, check: Callable[[bytes], T]) -> Answer[T]:
        """Send a signed GET and return the answer whose body `check` accepted.

        `url` is complete and already encoded. `check` turns the body into what the caller wants and raises
        ValueError or msgspec's own error for a body that must not count.

        Raises:
            RequestError: the attempts are used up, or repeating cannot help.
            ServiceUnreachable: no usable answer has come since the transport was opened.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                return await self._attempt_in_time(url, check, attempt)
            except RequestError as error:
                wait = self._retry.choose_wait(error, attempt=attempt, chance=self._clock.draw())
                self._give_up_on_silence(error, wait, url)
                if wait is None:
                    raise
                if self._on_retry:
                    self._on_retry(error, wait)
            await self._clock.sleep(wait)

    async def _attempt_in_time(self, url: str, check: Callable[[bytes], T], attempt: int) -> Answer[T]:
        if self._has_answered:
            return await self._attempt(url, check, attempt)
        try:
            async with asyncio.timeout(max(0.1, self._seconds_for_first_answer())):
                return await self._attempt(url, check, attempt)
        except TimeoutError as error:
            raise ConnectionFailed(f"no answer from {_show_host(url)} in time") from error

    async def _attempt(self, url: str, check: Callable[[bytes], T], attempt: int) -> Answer[T]:
        """Ask, with a token that was renewed in time, and once more when renewing it may help against a 401."""
        signer = await self._credentials.prepare(self._clock.now().timestamp())
        try:
            return await self._send(url, check, attempt)
        except Refused as error:
            if error.status != _UNAUTHORIZED or not await self._credentials.renew(signer):
                raise
        return await self._send(url, check, attempt)

    async def _send(self, url: str, check: Callable[[bytes], T], attempt: int) -> Answer[T]:
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
                proxy=self._choose_proxy(url),
                ssl=self._ssl,
            ) as response:
                body = await self._read_body(response)
        except aiohttp.ClientConnectorCertificateError as error:
            raise explain_certificate(_show_host(url), _describe(error)) from error
        except TimeoutError as error:
            raise ConnectionFailed(f"{_show_host(url)} fell silent") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ConnectionFailed(f"the connection to {_show_host(url)} failed: {_describe(error)}") from error
        request_id = _read_request_id(response)
        self._date = (self._clock.now(), response.headers.get("Date"))
        if response.status != _OK:
            raise self._refuse(response, body)
        try:
            checked = check(body)
            token = _read_token(response)
        except (ValueError, RecursionError, msgspec.MsgspecError) as error:
            raise BadAnswer(f"{_show_host(url)} answered 200, but {error}", request_id=request_id) from error
        self._has_answered = True
        return Answer(checked, len(body), token, request_id, attempt, asked_at)

    async def _read_body(self, response: aiohttp.ClientResponse) -> bytes:
        """Read a body to its end, uncompressed, but not without end."""
        pieces: list[bytes] = []
        size = 0
        limit = self._limits.max_body_bytes
        async for piece in response.content.iter_any():
            size += len(piece)
            if size > limit:
                raise BadAnswer(
                    f"{_show_host(str(response.url))} sends more than {limit:,} bytes in one answer",
                    request_id=_read_request_id(response),
                )
            pieces.append(piece)
        return b"".join(pieces)

    def _choose_proxy(self, url: str) -> str | None:
        parts = urlsplit(url)
        if not self._proxies or proxy_bypass_environment(parts.netloc, dict(self._proxies)):
            return None
        return self._proxies.get(parts.scheme) or self._proxies.get("all")

    def _refuse(self, response: aiohttp.ClientResponse, body: bytes) -> Refused:
        request_id = _read_request_id(response)
        try:
            oci = msgspec.json.decode(body, type=_ErrorBody)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            shown = body[:_BODY_SHOWN].decode("utf-8", "replace")
            message = f"{_show_host(str(response.url))} answered {response.status} with no error of Oracle's: {shown!r}"
            code = ""
        else:
            self._has_answered = True
            message = f"{response.status} {oci.code[:_CODE_SHOWN]}: {oci.message[:_MESSAGE_SHOWN]}"
            code = oci.code
        return Refused(
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
            return float(text)
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

    def _seconds_for_first_answer(self) -> float:
        return self._opened_at + self._limits.first_answer_seconds - self._clock.monotonic()

    def _give_up_on_silence(self, error: RequestError, wait: float | None, url: str) -> None:
        if self._has_answered:
            return
        if wait is None or self._seconds_for_first_answer() <= wait:
            hint = error.hint if error.hint != error.default_hint else None
            raise ServiceUnreachable(f"{_show_host(url)} gave no usable answer: {error}", hint=hint) from error


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


def _show_host(url: str) -> str:
    return urlsplit(url).netloc


def _describe(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientResponseError):  # its text holds the URL: of a proxy, password included
        return f"{error.status} {_escape(error.message)[:_MESSAGE_SHOWN]}"
    return _escape(str(error))[:_MESSAGE_SHOWN] or type(error).__name__
