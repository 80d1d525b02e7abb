"""The emulator as a process, and its control endpoints.

Owns: starting and ending it. Must not: import it; a contender sees nothing else of it either.
"""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

_STOP_SECONDS = 10.0
# Loopback is asked directly, whatever proxy the environment names.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ServerError(Exception):
    """The emulator did not start; the text is what it said."""


class Server:
    """A running emulator, with a configuration of its own in a folder; ends with this process."""

    def __init__(self, folder: Path, *flags: str, events: Path | None = None) -> None:
        """Keep what it is started with: `folder` is for its configuration, `events` what it serves."""
        self.config_path = folder / "config"
        self._command = [sys.executable, "-m", "ociaudit_emulator", "--until-stdin-closes"]
        self._command += ["--write-config", str(folder), *flags]
        if events is not None:
            self._command += ["--events", str(events)]
        self.url = ""

    def __enter__(self) -> Self:
        """Start it, and wait until it answers: with many events that takes a while."""
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )
        self.url = self._process.stdout.readline().strip() if self._process.stdout else ""
        if not self.url.startswith("http://127.0.0.1:"):
            raise ServerError(f"the emulator did not start: exit {self._process.wait()}")
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()

    def read_json(self, name: str) -> Any:
        """Ask a control endpoint."""
        with _OPENER.open(f"{self.url}/_emulator/{name}") as response:
            return json.load(response)

    def read_page_requests(self) -> list[dict[str, Any]]:
        """Return the requests for pages of events, oldest first."""
        return [entry for entry in self.read_json("log") if entry["operation"] == "ListEvents"]

    def count_page_requests(self) -> int:
        """Return how many pages of events were asked for."""
        return len(self.read_page_requests())

    def clear_log(self) -> None:
        """Forget the requests served so far."""
        request = urllib.request.Request(f"{self.url}/_emulator/log", method="DELETE")
        with _OPENER.open(request) as response:
            response.read()
