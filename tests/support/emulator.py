"""The emulator as a process, for tests, with its control endpoints.

It does not import the emulator: tests see what every client sees.
"""

from __future__ import annotations

import importlib.util
import json
import os
import selectors
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cryptography.hazmat.primitives import serialization

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_SOURCES = Path(__file__).resolve().parents[2] / "src"
# Requests to loopback bypass any proxy in the environment; control requests do not test the certificate.
_OPENER = urllib.request.build_opener(
    urllib.request.ProxyHandler({}),
    urllib.request.HTTPSHandler(context=ssl._create_unverified_context()),
)


class EmulatorError(Exception):
    """The emulator did not start, or rejected a control request; the text is its output."""


class Emulator:
    """A running emulator: `with Emulator("--seed", "7") as emulator: ...`.

    It writes a configuration to a temporary folder, or to `config_folder`; with `write_config=False` it writes
    none. It ends with this process, whatever happens.
    """

    def __init__(self, *flags: str, config_folder: Path | None = None, write_config: bool = True) -> None:
        """Keep the flags; `start` starts the process."""
        self._flags = [str(flag) for flag in flags]
        self._own_folder: tempfile.TemporaryDirectory[str] | None = None
        self._config_folder = config_folder
        self._is_config_written = write_config
        self._process: subprocess.Popen[str] | None = None
        self._url = ""

    def __enter__(self) -> Self:
        """Start the process."""
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process."""
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it accepts connections.

        Raises: EmulatorError with its output on stderr.
        """
        command = [sys.executable, "-m", "ociaudit_emulator", "--until-stdin-closes", *self._flags]
        if self._is_config_written:
            command += ["--write-config", str(self.config_path.parent)]
        # Stays open as long as the process may write to it.
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 -- closed by stop()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=_make_environment(),
        )
        self._url = self._read_first_line().strip()
        if not self._url.startswith(("http://127.0.0.1:", "https://127.0.0.1:")):
            code = self._end_process()
            self._errors.seek(0)
            message = f"the emulator did not start, exit {code}: {self._errors.read() or self._url!r}"
            self.stop()
            raise EmulatorError(message)

    def stop(self) -> int:
        """End the process, remove its files, and return its exit code; calling it again has no effect."""
        if self._process is None:
            return 0
        code = self._end_process()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        self._process = None
        self._errors.close()
        if self._own_folder is not None:
            self._own_folder.cleanup()
            self._own_folder = None
        return code

    def _end_process(self) -> int:
        """Terminate the process, kill it if it does not end, and return its exit code."""
        if self._process is None:
            return 0
        if self._url:
            self._process.terminate()
        try:
            return self._process.wait(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    @property
    def url(self) -> str:
        """Return the base URL, the endpoint of every service in the home region."""
        return self._url

    @property
    def port(self) -> int:
        """Return the port."""
        return int(self._url.rpartition(":")[2])

    @property
    def process_id(self) -> int:
        """Return the process id, for tests that measure the process."""
        if self._process is None:
            message = "the emulator is not running; call start() first"
            raise EmulatorError(message)
        return self._process.pid

    @property
    def config_path(self) -> Path:
        """Return the path of the OCI configuration, with the profiles DEFAULT and SESSION."""
        if self._config_folder is not None:
            return self._config_folder / "config"
        if self._own_folder is None:
            self._own_folder = tempfile.TemporaryDirectory(prefix="emulator-config-")
        return Path(self._own_folder.name) / "oci" / "config"

    def endpoint(self, region: str) -> str:
        """Return the endpoint of every service in a region."""
        return f"{self._url}/{region}"

    def tenancy(self) -> dict[str, Any]:
        """Return what was generated from the seed: regions, compartments, principals, the attack scenario."""
        content: dict[str, Any] = json.loads(self.request("GET", "tenancy"))
        return content

    def events(self, region: str, compartment_id: str, start: str, end: str) -> list[bytes]:
        """Return the ground truth: every event processed in a span, as bytes, in processing order."""
        query = urllib.parse.urlencode(
            {"region": region, "compartmentId": compartment_id, "startTime": start, "endTime": end}
        )
        return split_array(self.request("GET", f"events?{query}"))

    def log(self) -> list[dict[str, Any]]:
        """Return the requests served so far, oldest first."""
        content: list[dict[str, Any]] = json.loads(self.request("GET", "log"))
        return content

    def clear_log(self) -> None:
        """Clear the log of requests."""
        self.request("DELETE", "log")

    def faults(self, entries: list[dict[str, Any]]) -> None:
        """Add scripted faults."""
        self.request("POST", "faults", json.dumps(entries).encode())

    def fault_states(self) -> list[dict[str, Any]]:
        """Return the scripted faults with their counters, among them `fired` and `completed`."""
        content: list[dict[str, Any]] = json.loads(self.request("GET", "faults"))
        return content

    def clear_faults(self) -> None:
        """Remove all scripted faults."""
        self.request("DELETE", "faults")

    def clock(self, **changes: Any) -> dict[str, Any]:
        """Change the services' clock (`now`, `advance`, `isRunning`, …) if something is given; return its state."""
        body = json.dumps(changes).encode() if changes else None
        content: dict[str, Any] = json.loads(self.request("POST" if changes else "GET", "clock", body))
        return content

    def change(self, *changes: dict[str, Any]) -> list[dict[str, Any]]:
        """Schedule changes of the tenancy, and return them with the OCIDs of their compartments."""
        content: list[dict[str, Any]] = json.loads(self.request("POST", "changes", json.dumps(changes).encode()))
        return content

    def set_appearance(self, **rules: Any) -> None:
        """Replace the rules about `delays`, `reserialised` events and `expired` windows."""
        self.request("POST", "appearance", json.dumps(rules).encode())

    def truth(self, region: str, compartment_id: str, start: str, end: str, at: str | None = None) -> list[SeenEvent]:
        """Return the events of a span that ever appear, or those shown at an instant, in processing order."""
        names = {"region": region, "compartmentId": compartment_id, "startTime": start, "endTime": end}
        query = urllib.parse.urlencode(names | ({} if at is None else {"at": at}))
        return [read_seen_event(one) for one in split_array(self.request("GET", f"truth?{query}"))]

    def create_bucket(self, name: str, region: str = "us-ashburn-1") -> None:
        """Create a bucket in the root compartment, unless it exists."""
        self.request("POST", "buckets", json.dumps([{"name": name, "region": region}]).encode())

    def list_objects(self, bucket: str, region: str = "us-ashburn-1") -> list[dict[str, Any]]:
        """Return a bucket's objects in the order of their names: `name`, `size`, `etag`, `md5`, `headers`."""
        query = urllib.parse.urlencode({"region": region, "bucket": bucket})
        content: list[dict[str, Any]] = json.loads(self.request("GET", f"objects?{query}"))
        return content

    def count_uploads(self, bucket: str) -> int:
        """Return the number of a bucket's multipart uploads that are neither committed nor aborted."""
        buckets = json.loads(self.request("GET", "buckets"))
        return sum(one["uploads"] for one in buckets if one["name"] == bucket)

    def read_object(self, bucket: str, name: str, region: str = "us-ashburn-1") -> bytes:
        """Return the content of an object."""
        return self.request("GET", "objects?" + _name_object(bucket, name, region))

    def write_object(self, bucket: str, name: str, content: bytes, region: str = "us-ashburn-1") -> None:
        """Write an object as another client would, without conditions; at most 1 MB."""
        self.request("PUT", "objects?" + _name_object(bucket, name, region), content)

    def delete_object(self, bucket: str, name: str, region: str = "us-ashburn-1") -> None:
        """Remove an object as another client would."""
        self.request("DELETE", "objects?" + _name_object(bucket, name, region))

    def issue_token(self, key_file: Path, *, kind: str = "user", seconds: float = 3600.0) -> str:
        """Return a token for the key in a file, as Oracle issues it to a user's session, an instance or a resource."""
        key = serialization.load_pem_private_key(key_file.read_bytes(), None).public_key()
        pem = key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        content = {"publicKey": pem.decode(), "kind": kind, "seconds": seconds}
        token: str = json.loads(self.request("POST", "tokens", json.dumps(content).encode()))["token"]
        return token

    def end_tokens(self) -> None:
        """End every token used so far; one that was issued and not used yet stays valid."""
        self.request("DELETE", "tokens")

    def request(self, method: str, name: str, body: bytes | None = None) -> bytes:
        """Send a control request and return the body of the response.

        Raises: EmulatorError with the body of an error.
        """
        url = f"{self._url}/_emulator/{name}"
        request = urllib.request.Request(url, data=body, method=method)
        try:
            with _OPENER.open(request, timeout=_START_SECONDS) as response:
                content: bytes = response.read()
                return content
        except urllib.error.HTTPError as error:
            with error:
                raise EmulatorError(error.read().decode()) from error

    def _read_first_line(self) -> str:
        """Return the line with the URL; empty if the process ended or took too long."""
        process = self._process
        if process is None or process.stdout is None:
            return ""
        deadline = time.monotonic() + _START_SECONDS
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            if selector.select(deadline - time.monotonic()):
                return process.stdout.readline()
        return ""


def _name_object(bucket: str, name: str, region: str) -> str:
    """Return the query that names an object."""
    return urllib.parse.urlencode({"region": region, "bucket": bucket, "name": name})


@dataclass(frozen=True)
class SeenEvent:
    """An event of the truth: its bytes, its minute, and from and until when the service shows it (RFC 3339, UTC)."""

    event: bytes
    minute: str
    visible_from: str | None
    visible_until: str | None


def read_seen_event(element: bytes) -> SeenEvent:
    """Return an element of the truth, with the exact bytes of its event."""
    head, _, event = element.partition(b',"event":')
    content = json.loads(head + b"}")
    return SeenEvent(event[:-1], content["minute"], content["visibleFrom"], content["visibleUntil"])


def split_array(body: bytes) -> list[bytes]:
    """Return the elements of a JSON array as their exact bytes.

    Raises: ValueError when the body is not a JSON array.
    """
    # Each byte is decoded as one character, so that positions in the text are positions in the bytes.
    text = body.decode("latin-1")
    decoder = json.JSONDecoder(strict=False)
    at = _skip_space(text, 0)
    if text[at : at + 1] != "[":
        message = "the body is not a JSON array"
        raise ValueError(message)
    elements: list[bytes] = []
    at = _skip_space(text, at + 1)
    while text[at : at + 1] != "]":
        _, end = decoder.raw_decode(text, at)
        elements.append(body[at:end])
        at = _skip_space(text, end)
        if text[at : at + 1] == ",":
            at = _skip_space(text, at + 1)
    return elements


def _skip_space(text: str, at: int) -> int:
    """Return the position of the next character that is not whitespace."""
    while text[at : at + 1] in {" ", "\t", "\r", "\n"} and at < len(text):
        at += 1
    return at


def _make_environment() -> dict[str, str]:
    """Return the environment in which the process finds the emulator, also when it is not installed."""
    environment = dict(os.environ)
    if importlib.util.find_spec("ociaudit_emulator") is not None:
        return environment
    environment["PYTHONPATH"] = os.pathsep.join(part for part in (environment.get("PYTHONPATH"), str(_SOURCES)) if part)
    return environment
