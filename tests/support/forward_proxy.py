"""A forward proxy on loopback: CONNECT for https, whole URLs for http.

Owns: the proxy, in threads of its own, and what was asked of it.
Must not: look into what it carries.
"""

from __future__ import annotations

import contextlib
import http.client
import http.server
import selectors
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

_SECONDS = 30.0
_HOP_HEADERS = {"connection", "proxy-connection", "proxy-authorization", "keep-alive", "transfer-encoding"}


class ForwardProxy(http.server.ThreadingHTTPServer):
    """A proxy that remembers the method and target of each request, and the credentials sent with it."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port; nothing is served yet."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str]] = []
        self.credentials: list[str | None] = []
        self.refusal: int | None = None
        """The status with which every CONNECT is refused."""

    @property
    def address(self) -> str:
        """Give host and port."""
        return f"127.0.0.1:{self.server_address[1]}"


@contextlib.contextmanager
def run_forward_proxy() -> Iterator[ForwardProxy]:
    """Run a proxy for the time of the block."""
    with ForwardProxy() as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Carries one client's requests."""

    server: ForwardProxy

    def do_CONNECT(self) -> None:
        """Join the client with whom it wants to talk to, and let bytes pass until one side ends."""
        self._remember()
        if self.server.refusal is not None:
            self.send_error(self.server.refusal)
            return
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), _SECONDS) as far:
            self.send_response(200)
            self.end_headers()
            _carry(self.connection, far)
        self.close_connection = True

    def do_GET(self) -> None:
        """Ask for the whole URL and hand the answer on."""
        self._remember()
        parts = urlsplit(self.path)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_SECONDS)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP_HEADERS}
        with contextlib.closing(connection):
            connection.request("GET", self.path.partition(parts.netloc)[2], headers=headers)
            answer = connection.getresponse()
            body = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in {*_HOP_HEADERS, "content-length"}:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    def _remember(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.server.credentials.append(self.headers.get("Proxy-Authorization"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 -- the base class's name
        """Say nothing."""


def _carry(near: socket.socket, far: socket.socket) -> None:
    """Let bytes pass in both directions until one side ends."""
    with selectors.DefaultSelector() as selector:
        selector.register(near, selectors.EVENT_READ, (near, far))
        selector.register(far, selectors.EVENT_READ, (far, near))
        while True:
            for key, _ in selector.select(_SECONDS):
                one, other = key.data
                try:
                    data = one.recv(65536)
                    if not data:
                        return
                    other.sendall(data)
                except OSError:
                    return
