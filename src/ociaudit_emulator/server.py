"""The HTTP server: it reads requests from the wire and sends responses, whole or damaged.

It owns the client's connection, the latency, and the times at which a request starts and ends. It never
changes the content of a response.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from ociaudit_emulator.control import PREFIX, Control, ControlError, LogEntry, RequestLog
from ociaudit_emulator.http import (
    ApiError,
    CutShort,
    Operation,
    Reset,
    ResetUpload,
    ServerResponse,
    Stall,
    error_response,
)
from ociaudit_emulator.object_store import Blob, ObjectStore
from ociaudit_emulator.request_handler import RequestHandler, is_object_upload
from ociaudit_emulator.signature import SignedRequest
from ociaudit_emulator.time_formats import format_http_date, read_clock_seconds

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 0.2
_BACKLOG = 1024
_TOO_MANY_REQUESTS = 429
_UPLOAD_BUFFER_BYTES = 1024 * 1024
_KEPT_BLOCK_BYTES = 16 * 1024 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)


class Server:
    """The emulated services and the control endpoints on loopback."""

    def __init__(
        self,
        handler: RequestHandler,
        control: Control,
        log: RequestLog,
        objects: ObjectStore,
        latency_seconds: float,
    ) -> None:
        """Keep the collaborators."""
        self._objects = objects
        self._handler = handler
        self._control = control
        self._log = log
        self._latency_seconds = latency_seconds

    async def start(self, port: int, context: ssl.SSLContext | None = None) -> tuple[web.ServerRunner, int]:
        """Start to listen, with TLS if there is a context; return the runner that stops it, and the port.

        Raises: OSError when the port is not available.
        """
        _keep_large_blocks()
        server = web.Server(self._handle, access_log=None, read_bufsize=_UPLOAD_BUFFER_BYTES)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, HOST, port, backlog=_BACKLOG, ssl_context=context).start()
        listening: tuple[str, int] = runner.addresses[0]
        return runner, listening[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.raw_path.startswith(PREFIX):
            return await self._handle_control(request)
        path, _, query = request.raw_path.partition("?")
        entry = LogEntry(request.method, path, query, started=time.monotonic())
        entry.userAgent = request.headers.get("User-Agent")
        self._log.add(entry)
        headers = {name.lower(): value for name, value in request.headers.items()}
        signed = SignedRequest(request.method, request.raw_path, headers)
        if is_object_upload(request.method, request.raw_path):
            response = await self._handle_upload(request, signed, entry)
        else:
            _invite_body(request)
            body = await request.read() if request.can_read_body else b""
            response = self._handler.handle(replace(signed, body=body), entry)
        is_page = entry.operation in {Operation.LIST_EVENTS, Operation.SEARCH_LOGS}
        if self._latency_seconds and is_page and entry.status != _TOO_MANY_REQUESTS:
            await asyncio.sleep(self._latency_seconds)
        delivered = await deliver(request, response)
        entry.ended = time.monotonic()
        return delivered

    async def _handle_upload(self, request: web.BaseRequest, signed: SignedRequest, entry: LogEntry) -> ServerResponse:
        """Return the response to an upload: a refusal immediately, any other when its body has been received."""
        refusal = self._handler.admit(signed, entry)
        if refusal is not None and not isinstance(refusal.delivery, ResetUpload):
            return refusal
        _invite_body(request)
        if refusal is not None and isinstance(refusal.delivery, ResetUpload):
            left = refusal.delivery.received_bytes
            while left > 0 and (chunk := await request.content.read(left)):
                left -= len(chunk)
                entry.receivedBytes += len(chunk)
            return refusal
        blob = await self._receive(request, entry)
        return self._handler.handle(replace(signed, blob=blob), entry)

    async def _receive(self, request: web.BaseRequest, entry: LogEntry) -> Blob:
        """Write the body of an upload to a file, chunk by chunk."""
        writer = self._objects.start_blob()
        try:
            async for chunk in request.content.iter_any():
                writer.write(chunk)
                entry.receivedBytes = writer.size
        except BaseException:
            writer.discard()
            raise
        return writer.finish()

    async def _handle_control(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.raw_path.startswith((f"{PREFIX}events", f"{PREFIX}truth")):
                return await self._stream_events(request)
            response = self._control.respond(request.method, request.raw_path, await request.read())
        except ControlError as error:
            response = error_response(ApiError(400, "BadControlRequest", str(error)))
        return await deliver(request, response)

    async def _stream_events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the events part by part, however many there are."""
        parts = self._control.stream_events(request.raw_path)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response


def _keep_large_blocks() -> None:
    """Make the C library keep freed blocks of up to the size of a page's body for the next page.

    It returns to the system any block larger than the largest one ever freed. Without this, the memory of each
    page would be fetched, zeroed and returned again, which costs more than filling it.
    """
    bytes(_KEPT_BLOCK_BYTES)


def _invite_body(request: web.BaseRequest) -> None:
    """Ask a client that waits for it to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def deliver(request: web.BaseRequest, response: ServerResponse) -> web.StreamResponse:
    """Send a response as its delivery says: whole through aiohttp, otherwise directly on the transport."""
    delivery = response.delivery
    if isinstance(delivery, ResetUpload):
        return _send_part(request, response, None, is_reset=True)
    if isinstance(delivery, Reset):
        return _send_part(request, response, delivery.after_bytes, is_reset=True)
    if isinstance(delivery, CutShort):
        return _send_part(request, response, delivery.sent_bytes, is_reset=False)
    if isinstance(delivery, Stall):
        return await _send_and_stall(request, response, delivery)
    if response.content is not None:
        return await _send_content(request, response)
    return web.Response(
        body=response.body, status=response.status, headers=response.headers, content_type=response.content_type
    )


async def _send_content(request: web.BaseRequest, response: ServerResponse) -> web.StreamResponse:
    """Send a range of an object, chunk by chunk; for HEAD, its length alone."""
    if response.content is None:
        return web.Response(status=response.status)
    one, span = response.content
    sent = web.StreamResponse(status=response.status, headers=response.headers)
    sent.content_type = response.content_type
    sent.content_length = span.length
    await sent.prepare(request)
    if request.method != "HEAD":
        for chunk in one.read_chunks(span):
            await sent.write(chunk)
    await sent.write_eof()
    return sent


class SentResponse(web.StreamResponse):
    """A response that is already on the wire, so that aiohttp adds nothing."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write nothing."""
        self._eof_sent = True
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


def _send_part(
    request: web.BaseRequest, response: ServerResponse, sent_bytes: int | None, *, is_reset: bool
) -> web.StreamResponse:
    """Send the head and a part of the body, or nothing; then reset or close the connection."""
    transport = request.transport
    if transport is None:
        return SentResponse()
    if sent_bytes is not None:
        transport.write(_format_head(response) + response.body[:sent_bytes])
    if is_reset:
        _disable_linger(transport)
        transport.abort()
    else:
        transport.close()
    return SentResponse()


async def _send_and_stall(request: web.BaseRequest, response: ServerResponse, stall: Stall) -> web.StreamResponse:
    """Send nothing, the head or half of the body; then wait, and close the connection."""
    transport = request.transport
    if transport is not None and stall.after != "nothing":
        half = response.body[: len(response.body) // 2] if stall.after == "half" else b""
        transport.write(_format_head(response) + half)
    await asyncio.sleep(stall.seconds)
    if transport is not None:
        transport.close()
    return SentResponse()


def _disable_linger(transport: asyncio.Transport) -> None:
    """Make the kernel reset the connection when it is closed."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def _format_head(response: ServerResponse) -> bytes:
    """Return the status line and the headers, with the length of the whole body."""
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        *([] if "Date" in response.headers else [f"Date: {format_http_date(int(read_clock_seconds()))}"]),
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
