"""How an answer reaches the wire: whole by aiohttp, or damaged by hand.

Owns: everything that touches the client's connection.
Must not: change what an answer says.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import web

from ociaudit_emulator.answer import Answer, CutShort, Reset, Stall
from ociaudit_emulator.instants import format_http_date, read_clock_seconds

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


async def deliver(request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
    """Send an answer in the way that it wants."""
    delivery = answer.delivery
    if isinstance(delivery, Reset):
        return _send_part(request, answer, delivery.after_bytes, is_reset=True)
    if isinstance(delivery, CutShort):
        return _send_part(request, answer, delivery.sent_bytes, is_reset=False)
    if isinstance(delivery, Stall):
        return await _send_slowly(request, answer, delivery)
    return web.Response(
        body=answer.body, status=answer.status, headers=answer.headers, content_type=answer.content_type
    )


def _send_part(
    request: web.BaseRequest, answer: Answer, sent_bytes: int | None, *, is_reset: bool
) -> web.StreamResponse:
    """Send the head and a part of the body, and end the connection."""
    transport = request.transport
    if transport is None:
        return HandWritten()
    if sent_bytes is not None:
        transport.write(_write_head(answer) + answer.body[:sent_bytes])
    if is_reset:
        _make_reset(transport)
        transport.abort()
    else:
        transport.close()
    return HandWritten()


async def _send_slowly(request: web.BaseRequest, answer: Answer, stall: Stall) -> web.StreamResponse:
    """Send nothing, the head or half of the body; be silent, then end the connection."""
    transport = request.transport
    if transport is not None and stall.after != "nothing":
        half = answer.body[: len(answer.body) // 2] if stall.after == "half" else b""
        transport.write(_write_head(answer) + half)
    await asyncio.sleep(stall.seconds)
    if transport is not None:
        transport.close()
    return HandWritten()


def _make_reset(transport: asyncio.Transport) -> None:
    """Let the end of the connection be a reset."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)


def _write_head(answer: Answer) -> bytes:
    """Write the status line and the headers, promising the whole body."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Date: {format_http_date(int(read_clock_seconds()))}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
