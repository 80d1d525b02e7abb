"""A receiver of events like Splunk's HTTP Event Collector and OpenSearch's bulk API, which fails now and then.

Owns: which requests fail, and how: rejected, accepted without an answer, or accepted in part.
Must not: remove repeats; that is what its test does.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

_WORKS = ("",) * 4
_FAULTS = ("", "reject", "partial", *_WORKS, "drop", *_WORKS)
"""What happens to one request after the other, again and again."""


class SiemReceiver:
    """The receiver; `events` are all that it stored, repeats included, in the order of arrival."""

    def __init__(self, faults: Sequence[str] = _FAULTS) -> None:
        """Choose what happens to requests: an empty text means nothing does."""
        self.events: list[dict[str, Any]] = []
        self.fired: Counter[str] = Counter()
        self._faults, self._requests = faults, 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _make_handler(self._handle))
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Give its address."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        """Start."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handle(self, path: str, body: bytes) -> tuple[int, bytes] | None:
        """Store the events of a request and return status and answer; None closes the connection without one."""
        with self._lock:
            fault = self._faults[self._requests % len(self._faults)]
            self._requests += 1
            self.fired[fault] += 1
            if fault == "reject":
                return 503, b'{"text":"Server is busy","code":9}'
            lines = [json.loads(line) for line in body.splitlines()]
            events = lines[1::2] if path == "/_bulk" else [line["event"] for line in lines]
            kept = events[: len(events) // 2] if fault == "partial" else events
            self.events += kept
            if fault == "drop":
                return None
            if path == "/_bulk":
                return 200, json.dumps({"errors": fault == "partial"}).encode()
            return (400, b'{"code":6}') if fault == "partial" else (200, b'{"text":"Success","code":0}')


def _make_handler(handle: Callable[[str, bytes], tuple[int, bytes] | None]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            answer = handle(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            if answer is None:
                self.close_connection = True
                return
            self.send_response(answer[0])
            self.send_header("Content-Length", str(len(answer[1])))
            self.end_headers()
            self.wfile.write(answer[1])

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002 - http.server's name
            """Print nothing."""

    return Handler
