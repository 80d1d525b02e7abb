"""The HTTP server: reads requests from the wire and sends answers back.

Owns: aiohttp, the latency, and when a request began and ended.
Must not: decide what an answer says.
"""

from __future__ import annotations

import asyncio
import ssl
import time

from aiohttp import web

from ociaudit_emulator.answer import answer_error
from ociaudit_emulator.control import PREFIX, Control, ControlError
from ociaudit_emulator.delivery import deliver
from ociaudit_emulator.request_log import LogEntry, RequestLog
from ociaudit_emulator.routing import Operation
from ociaudit_emulator.service import Service
from ociaudit_emulator.service_error import ServiceError
from ociaudit_emulator.signature import SignedRequest

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
        answer = self._service.serve(SignedRequest(request.method, request.raw_path, headers, body), entry)
        if self._latency_seconds and entry.operation == Operation.LIST_EVENTS and entry.status != _TOO_MANY:
            await asyncio.sleep(self._latency_seconds)
        response = await deliver(request, answer)
        entry.ended = time.monotonic()
        return response

    async def _handle_control(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a control request."""
        try:
            if request.raw_path.startswith(f"{PREFIX}events"):
                return await self._stream_events(request)
            answer = self._control.answer(request.method, request.raw_path, await request.read())
        except ControlError as error:
            answer = answer_error(ServiceError(400, "BadControlRequest", str(error)))
        return await deliver(request, answer)

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
