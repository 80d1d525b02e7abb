"""How an answer reaches the wire: whole by aiohttp, or damaged by hand.

Owns: everything that touches the client's connection.
Must not: change what an answer says.

The HTTP server: reads requests from the wire and sends answers back.

Owns: aiohttp, the latency, and when a request began and ended.
Must not: decide what an answer says.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from ociaudit_emulator.control import PREFIX, Control, ControlError, LogEntry, RequestLog
from ociaudit_emulator.http import CutShort, Operation, Reset, Response, ServiceError, Stall, error_response
from ociaudit_emulator.instants import format_http_date, read_clock_seconds
from ociaudit_emulator.service import Service
from ociaudit_emulator.signature import SignedRequest

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter


_NO_LINGER = struct.pack("ii", 1, 0)


class HandWritten(web.StreamResponse):
    """An answer that has already been written, as far as it should be; aiohttp adds nothing."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write nothing."""
        self._eof_sent = True
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Write nothing."""


async def deliver(request: web.BaseRequest, response: Response) -> web.StreamResponse:
    """Send an answer in the way that it wants."""
    delivery = response.delivery
    if isinstance(delivery, Reset):
        return _send_part(request, response, delivery.after_bytes, is_reset=True)
    if isinstance(delivery, CutShort):
        return _send_part(request, response, delivery.sent_bytes, is_reset=False)
    if isinstance(delivery, Stall):
        return await _send_slowly(request, response, delivery)
    return web.Response(
        body=response.body, status=response.status, headers=response.headers, content_type=response.content_type
    )


def _send_part(
    request: web.BaseRequest, response: Response, sent_bytes: int | None, *, is_reset: bool
) -> web.StreamResponse:
    """Send the head and a part of the body, and end the connection."""
    transport = request.transport
    if transport is None:
        return HandWritten()
    if sent_bytes is not None:
        transport.write(_write_head(response) + response.body[:sent_bytes])
    if is_reset:
        _make_reset(transport)
        transport.abort()
    else:
        transport.close()
    return HandWritten()


async def _send_slowly(request: web.BaseRequest, response: Response, stall: Stall) -> web.StreamResponse:
    """Send nothing, the head or half of the body; be silent, then end the connection."""
    transport = request.transport
    if transport is not None and stall.after != "nothing":
        half = response.body[: len(response.body) // 2] if stall.after == "half" else b""
        transport.write(_write_head(response) + half)
    await asyncio.sleep(stall.seconds)
    if transport is not None:
        transport.close()
    return HandWritten()


def _make_reset(transport: asyncio.Transport) -> None:
    """Let the end of the connection be a reset."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def _write_head(response: Response) -> bytes:
    """Write the status line and the headers, promising the whole body."""
    lines = [
        f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}",
        f"Date: {format_http_date(int(read_clock_seconds()))}",
        f"Content-Type: {response.content_type}",
        f"Content-Length: {len(response.body)}",
        *(f"{name}: {value}" for name, value in response.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


HOST = "127.0.0.1"
_SHUTDOWN_SECONDS = 0.2
_BACKLOG = 1024
_TOO_MANY = 429
_KEPT_BLOCK_BYTES = 16 * 1024 * 1024


class Server:
    """Serves the services and the control endpoints on loopback."""

    def __init__(self, service: Service, control: Control, log: RequestLog, latency_seconds: float) -> None:
        """Keep the collaborators."""
        self._service = service
        self._control = control
        self._log = log
        self._latency_seconds = latency_seconds

    async def start(self, port: int, context: ssl.SSLContext | None = None) -> tuple[web.ServerRunner, int]:
        """Begin to listen, with TLS if there is a context; give the runner to stop it by, and the port.

        Raises: OSError when the port cannot be had.
        """
        _keep_large_blocks()
        server = web.Server(self._handle, access_log=None)
        runner = web.ServerRunner(server, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS)
        await runner.setup()
        await web.TCPSite(runner, HOST, port, backlog=_BACKLOG, ssl_context=context).start()
        listening: tuple[str, int] = runner.addresses[0]
        return runner, listening[1]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        if request.raw_path.startswith(PREFIX):
            return await self._handle_control(request)
        path, _, query = request.raw_path.partition("?")
        entry = LogEntry(request.method, path, query, started=time.monotonic())
        entry.userAgent = request.headers.get("User-Agent")
        self._log.add(entry)
        headers = {name.lower(): value for name, value in request.headers.items()}
        body = await request.read() if request.can_read_body else b""
        response = self._service.serve(SignedRequest(request.method, request.raw_path, headers, body), entry)
        if self._latency_seconds and entry.operation == Operation.LIST_EVENTS and entry.status != _TOO_MANY:
            await asyncio.sleep(self._latency_seconds)
        delivered = await deliver(request, response)
        entry.ended = time.monotonic()
        return delivered

    async def _handle_control(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a control request."""
        try:
            if request.raw_path.startswith(f"{PREFIX}events"):
                return await self._stream_events(request)
            response = self._control.response(request.method, request.raw_path, await request.read())
        except ControlError as error:
            response = error_response(ServiceError(400, "BadControlRequest", str(error)))
        return await deliver(request, response)

    async def _stream_events(self, request: web.BaseRequest) -> web.StreamResponse:
        """Send the truth part by part, however long it is."""
        parts = self._control.stream_events(request.raw_path)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        for part in parts:
            await response.write(part)
        await response.write_eof()
        return response


def _keep_large_blocks() -> None:
    """Let the C library keep blocks as large as a page for the next one.

    It gives back to the system what is larger than the largest block ever freed; without this each
    page's memory would be fetched, zeroed and given back again, which costs more than to fill it.
    """
    bytes(_KEPT_BLOCK_BYTES)
