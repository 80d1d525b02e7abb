"""The emulator as a process, and its control endpoints.

It does not import the emulator: a contender sees nothing else of it either.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

_STOP_SECONDS = 10.0
# Requests to loopback bypass any proxy in the environment.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class EmulatorError(Exception):
    """The emulator did not start; the text has its exit code."""


class EmulatorProcess:
    """A running emulator with its own configuration folder; it ends with this process."""

    def __init__(self, folder: Path, *flags: str, events: Path | None = None) -> None:
        """Keep the options: `folder` for its configuration, and `events` for the file that it serves."""
        self.config_path = folder / "config"
        self._command = [sys.executable, "-m", "ociaudit_emulator", "--until-stdin-closes"]
        self._command += ["--write-config", str(folder)]
        # The events have fixed dates, which the service would forget one day.
        self._command += ["--retention-days", "36500", *flags]
        if events is not None:
            self._command += ["--events", str(events)]
        self.url = ""

    def __enter__(self) -> Self:
        """Start the emulator and wait until it listens; with many events, that takes a while."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.url = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.url.startswith("http://127.0.0.1:"):
            raise EmulatorError(f"the emulator did not start: exit {self._process.wait()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End the emulator."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def read_json(self, name: str) -> Any:
        """Return the response of a control endpoint."""
        with _OPENER.open(f"{self.url}/_emulator/{name}") as response:
            return json.load(response)

    def read_page_requests(self) -> list[dict[str, Any]]:
        """Return the requests for pages of events, oldest first."""
        return [entry for entry in self.read_json("log") if entry["operation"] == "ListEvents"]

    def count_page_requests(self) -> int:
        """Return the number of requests for pages of events."""
        return len(self.read_page_requests())

    def post(self, name: str, content: Any) -> None:
        """Send JSON to a control endpoint."""
        body = json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}/_emulator/{name}", data=body, method="POST")
        with _OPENER.open(request) as response:
            response.read()

    def clear_log(self) -> None:
        """Clear the log of requests."""
        request = urllib.request.Request(f"{self.url}/_emulator/log", method="DELETE")
        with _OPENER.open(request) as response:
            response.read()
