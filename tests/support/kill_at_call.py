"""The command line in a child process that kills itself at one chosen system call.

Counted are the calls that change the disk and come from `ociaudit.storage`, and where that is wanted the requests to
Object Storage. A call that only reads is not counted: a kill before it is a kill after the preceding change. The
program is unchanged; only the functions of the `os` and `fcntl` modules are wrapped, and only in the child.

Run as a script, as `KillableCommand` does, this module imports the program once and forks a child for every job, so
that a kill costs the milliseconds of the run and not the seconds of the imports.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import gc
import importlib
import io
import json
import os
import resource
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Literal, NoReturn, Self

When = Literal["before", "after", "torn", "full", "SIGTERM", "SIGINT"]
Program = Literal["main", "main_streamer", "main_logstreamer", "archive", "sync"]
_COUNTED = {
    os: (
        *("open", "write", "close", "fchmod", "chmod", "mkdir", "fsync", "fdatasync", "ftruncate"),
        *("replace", "rename", "link", "unlink", "rmdir"),
    ),
    fcntl: ("flock", "fcntl"),  # macOS syncs by the latter
}
_STORAGE = os.sep + os.path.join("ociaudit", "storage") + os.sep  # noqa: PTH118 -- compared with the names in frames
_TESTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended: its exit status (minus the signal's number if it was killed), its output and its calls.

    `calls` are descriptions of the counted calls; for a killed child they are empty. `is_signalled`: the words were
    printed at which the signal was to be sent.
    """

    status: int
    calls: tuple[str, ...]
    stdout: str
    stderr: str
    is_signalled: bool = False


class KillableCommand:
    """Runs the `oci-audit` command line in children, on request with a kill: `with KillableCommand() as run: ...`."""

    def __init__(self, **constants: float) -> None:
        """Replace `constants` of `storage.spool` or `client.object_storage`, so that a small run makes every call."""
        self._constants = constants
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        """Start the process that imports the program and forks the children."""
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(_TESTS)},
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the process."""
        if self._process is not None:
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    stream.close()
            self._process.wait()

    def __call__(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        variables: Mapping[str, str],
        call: int | None = None,
        when: When = "before",
        printed: str | None = None,
        program: Program = "main",
        counts_requests: bool = False,
    ) -> Ended:
        """Run `oci-audit ARGUMENTS`, or another program; with `call`, disturb it at that call (from 1), as `when` says.

        `before` and `after` kill it there; `torn` first writes half of the bytes; `full` does not kill it, but stops
        files from growing; the name of a signal sends that signal. With `printed`, the signal is sent instead when a
        line with these words is about to be printed on stderr, before its first character is.
        """
        running = self.start(
            arguments,
            cwd=cwd,
            variables=variables,
            call=call,
            when=when,
            printed=printed,
            program=program,
            counts_requests=counts_requests,
        )
        return running.wait()

    def start(
        self,
        arguments: Sequence[str],
        *,
        cwd: Path,
        variables: Mapping[str, str],
        call: int | None = None,
        when: When = "before",
        printed: str | None = None,
        program: Program = "main",
        counts_requests: bool = False,
    ) -> Running:
        """Start the command line, a script, `support.archives` or `.syncs`; call `wait` before starting the next."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            message = "not started: use it in a `with` statement"
            raise RuntimeError(message)
        job = {
            "constants": self._constants,
            "arguments": list(arguments),
            "cwd": str(cwd),
            "variables": dict(variables),
            "call": call,
            "when": when,
            "printed": printed,
            "program": program,
            "counts_requests": counts_requests,
        }
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        return Running(json.loads(process.stdout.readline()), process.stdin, process.stdout)


@dataclass(frozen=True, slots=True)
class Running:
    """A running child; signals can be sent to `process_id` until `wait` returns."""

    process_id: int
    jobs: IO[str]
    results: IO[str]

    def wait(self) -> Ended:
        """Return how it ended."""
        self.jobs.write("\n")
        self.jobs.flush()
        result = json.loads(self.results.readline())
        calls = tuple(result["calls"])
        return Ended(result["status"], calls, result["stdout"], result["stderr"], result["is_signalled"])


class _Counter:
    """Counts calls and kills the process at one of them."""

    def __init__(self, call: int | None, when: When) -> None:
        self._call = call
        self._when = when
        self.calls: list[str] = []

    def wrap(self, module: Any, name: str) -> None:
        """Replace a function of a module by one that counts."""
        function: Callable[..., Any] = getattr(module, name)

        @functools.wraps(function)
        def counting(*arguments: Any, **options: Any) -> Any:
            if not _is_from_storage():
                return function(*arguments, **options)
            self.calls.append(_describe(name, arguments))
            is_chosen = len(self.calls) == self._call
            if is_chosen and self._when == "before":
                _kill()
            if is_chosen and self._when == "torn" and name == "write":
                function(arguments[0], bytes(arguments[1])[: (len(arguments[1]) + 1) // 2])
                _kill()
            if is_chosen and self._when == "full":
                self._call = None
                _limit_file(arguments[0], len(arguments[1]) // 2)
            if is_chosen and self._when in {"SIGTERM", "SIGINT"}:
                os.kill(os.getpid(), signal.Signals[self._when])
            try:
                return function(*arguments, **options)
            finally:
                if is_chosen and self._when in {"before", "after", "torn"}:
                    _kill()

        setattr(module, name, counting)

    def wrap_requests(self) -> None:
        """Count the requests to Object Storage, too; their answers have arrived when `after` kills."""
        from ociaudit.client.transport import GET, Transport

        send = Transport.send

        async def counting(self_: Transport, url: str, *arguments: Any, **options: Any) -> Any:
            if "/n/" not in url:
                return await send(self_, url, *arguments, **options)
            self.calls.append(f"{options.get('call', GET).method} {url.partition('/n/')[2]}")
            is_chosen = len(self.calls) == self._call
            if is_chosen and self._when == "before":
                _kill()
            try:
                return await send(self_, url, *arguments, **options)
            finally:
                if is_chosen:
                    _kill()

        Transport.send = counting  # type: ignore[assignment,method-assign]


def _is_from_storage() -> bool:
    """Return whether the call comes from `ociaudit.storage`, directly or through the standard library."""
    frame = sys._getframe(2)
    for _ in range(8):
        if _STORAGE in frame.f_code.co_filename:
            return True
        if "ociaudit" in frame.f_code.co_filename or frame.f_back is None:
            return False
        frame = frame.f_back
    return False


def _limit_file(descriptor: int, room: int) -> None:
    """Simulate a full disk: no file may become longer than `room` bytes more than this one is now."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (os.fstat(descriptor).st_size + room, hard))


def _describe(name: str, arguments: tuple[Any, ...]) -> str:
    shown = ", ".join(f"{len(each)} bytes" if isinstance(each, bytes | memoryview) else str(each) for each in arguments)
    return f"{name}({shown})"


def _kill() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("unreachable")


def _serve() -> None:
    """Import the program, then run every job in a child."""
    import ociaudit.api

    _ = ociaudit.api
    _skip_key_validation()
    for line in sys.stdin:
        job = json.loads(line)
        pipes = [os.pipe() for _ in range(3)]
        child = os.fork()
        if child == 0:
            _run_child(job, *(writing for _, writing in pipes))
        for _, writing in pipes:
            os.close(writing)
        print(child, flush=True)
        stdout, stderr, record = _read_all([reading for reading, _ in pipes])
        sys.stdin.readline()  # `wait` was called: no signal follows, and the process id may be used again
        _, state = os.waitpid(child, 0)
        recorded = json.loads(record or '{"calls": [], "modules": [], "is_signalled": false}')
        result = {
            "status": os.waitstatus_to_exitcode(state),
            "calls": recorded["calls"],
            "stdout": stdout,
            "stderr": stderr,
            "is_signalled": recorded["is_signalled"],
        }
        print(json.dumps(result), flush=True)
        _import_modules(recorded["modules"])


def _read_all(descriptors: Sequence[int]) -> list[str]:
    """Read several pipes to their ends; pipes, because the child may not be able to write to files."""
    texts = {descriptor: bytearray() for descriptor in descriptors}
    with selectors.DefaultSelector() as selector:
        for descriptor in descriptors:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select():
                data = os.read(key.fd, 1 << 16)
                texts[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
    return [text.decode("utf-8", "backslashreplace") for text in texts.values()]


def _skip_key_validation() -> None:
    """Load keys without checking that their primes are primes, which takes half of the time of a small export."""
    from cryptography.hazmat.primitives import serialization

    load = serialization.load_pem_private_key
    serialization.load_pem_private_key = functools.partial(load, unsafe_skip_rsa_key_validation=True)


def _import_modules(names: Sequence[str]) -> None:
    """Import what a child imported, so that the next child has it already."""
    for name in names:
        if name not in sys.modules:
            with contextlib.suppress(ImportError):
                importlib.import_module(name)


def _run_child(job: Mapping[str, Any], output: int, errors: int, record: int) -> NoReturn:
    """Run the command line in this process, write what it did to `record` and exit."""
    gc.disable()  # a collection would copy the memory pages that are shared with the parent
    from ociaudit.cli import app, script_commands
    from ociaudit.client import object_storage
    from ociaudit.storage import spool
    from support import archives, syncs

    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(errors, 2)
    printer = _SignallingText(2, job["printed"], job["when"])
    sys.stdout, sys.stderr = _open_text(1), printer
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["variables"])
    sys.argv = ["oci-audit", *job["arguments"]]
    for name, value in job["constants"].items():
        setattr(spool if hasattr(spool, name) else object_storage, name, value)
    counter = _Counter(job["call"], job["when"])
    for module, names in _COUNTED.items():
        for name in names:
            if hasattr(module, name):
                counter.wrap(module, name)
    if job["counts_requests"]:
        counter.wrap_requests()
    status: object = 0
    try:
        if job["program"] == "archive":
            archives.main()
        elif job["program"] == "sync":
            syncs.main()
        else:
            getattr(app if job["program"] == "main" else script_commands, job["program"])()
    except SystemExit as exit_:
        status = exit_.code
    sys.stdout.flush()
    sys.stderr.flush()
    with os.fdopen(record, "w") as file:
        file.write(
            json.dumps({"calls": counter.calls, "modules": sorted(sys.modules), "is_signalled": printer.is_signalled})
        )
    os._exit(status if isinstance(status, int) else 1)


class _SignallingText(io.TextIOWrapper):
    """A stream of text that sends a signal to its own process before it writes certain words for the first time."""

    def __init__(self, descriptor: int, words: str | None, when: When) -> None:
        super().__init__(
            os.fdopen(descriptor, "wb", closefd=False),
            encoding="utf-8",
            errors="backslashreplace",
            line_buffering=True,
        )
        self._words = words
        self._when = when
        self.is_signalled = False

    def write(self, text: str) -> int:
        if self._words is not None and self._words in text and not self.is_signalled:
            self.is_signalled = True
            os.kill(os.getpid(), signal.Signals[self._when])
        return super().write(text)


def _open_text(descriptor: int) -> IO[str]:
    return os.fdopen(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    _serve()
