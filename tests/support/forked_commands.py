"""Commands of the program that run in children of a process which has imported the program already.

Owns: that process, and how its children run. Starting Python and importing the program takes more than half of the CPU
time of a small command, and the suite runs thousands; a fork takes milliseconds. What runs is the installed program,
unchanged, in a process of its own with its own arguments, folder, environment and streams.

Must not: run what depends on how Python starts. `can_fork` says what does.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import gc
import importlib
import json
import os
import pkgutil
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MAX_MESSAGE_BYTES = 64 * 1024
_READ_BY_PYTHON = ("PYTHON", "LC_", "LANG", "TZ", "SSL_", "OPENSSL_", "COVERAGE_", "LD_")
"""How the names of variables begin that the interpreter or a library reads when it starts."""
_NOT_IMPORTED = ("ociaudit.spark", "ociaudit.__main__")


def can_fork(program: str, command: Sequence[str], variables: Mapping[str, str]) -> bool:
    """Return whether a command is that program, and nothing in its environment matters before it begins."""
    is_plain = not any(name.startswith(_READ_BY_PYTHON) for name in variables)
    return (
        hasattr(socket, "send_fds")
        and command[0] == program
        and is_plain
        and "COVERAGE_PROCESS_START" not in os.environ
    )


def run_forked(
    arguments: Sequence[str], *, cwd: Path, environment: Mapping[str, str], timeout: float
) -> tuple[int, bytes, bytes]:
    """Run `oci-audit` with these arguments (the first is the program), and return its exit status and its output.

    Raises:
        subprocess.TimeoutExpired: it does not end; it has been killed.
    """
    job = {"arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment)}
    pipes = [os.pipe() for _ in range(3)]
    socket.send_fds(_start_server(), [json.dumps(job).encode()], [writing for _, writing in pipes])
    for _, writing in pipes:
        os.close(writing)
    status, stdout, stderr = [reading for reading, _ in pipes]
    texts = {descriptor: bytearray() for descriptor in (status, stdout, stderr)}
    deadline = time.monotonic() + timeout
    with selectors.DefaultSelector() as selector:
        for descriptor in texts:
            selector.register(descriptor, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(max(0.0, deadline - time.monotonic())):
                data = os.read(key.fd, 1 << 16)
                texts[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
                    os.close(key.fd)
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(texts[status].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired(list(arguments), timeout)
    return int(texts[status].split()[1]), bytes(texts[stdout]), bytes(texts[stderr])


@functools.cache
def _start_server() -> socket.socket:
    """Start the process that forks, which ends with this one, and return the channel to it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
        )

    def stop() -> None:
        ours.close()
        server.wait()

    atexit.register(stop)
    return ours


def _serve(channel: socket.socket) -> dict[str, Any] | None:
    """Fork a child for every job that arrives; return the job in the child, and None when there are no more."""
    for module in pkgutil.walk_packages(importlib.import_module("ociaudit").__path__, "ociaudit."):
        if module.name not in _NOT_IMPORTED:
            importlib.import_module(module.name)
    importlib.import_module("duckdb")
    gc.freeze()  # so that no collection copies the memory that the children share
    while True:
        data, descriptors, _, _ = socket.recv_fds(channel, _MAX_MESSAGE_BYTES, 3)
        if not data:
            return None
        if os.fork() == 0:
            if os.fork() == 0:
                channel.close()
                if (job := _watch(json.loads(data), *descriptors)) is not None:
                    return job
            os._exit(0)
        for descriptor in descriptors:
            os.close(descriptor)
        os.wait()


def _watch(job: dict[str, Any], status: int, stdout: int, stderr: int) -> dict[str, Any] | None:
    """Fork the command, and report its process id and its exit status; return the job in the command's process."""
    child = os.fork()
    if child == 0:
        for descriptor, stream in ((stdout, 1), (stderr, 2)):
            os.dup2(descriptor, stream)
            os.close(descriptor)
        os.close(status)
        return job
    os.close(stdout)
    os.close(stderr)
    os.write(status, f"{child} ".encode())
    _, state = os.waitpid(child, 0)
    os.write(status, str(os.waitstatus_to_exitcode(state)).encode())
    return None


def _run(job: Mapping[str, Any]) -> None:
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    sys.argv = job["arguments"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    gc.unfreeze()
    from ociaudit.cli.app import main

    main()


if __name__ == "__main__":
    wanted = _serve(socket.socket(fileno=int(sys.argv[1])))
    if wanted is not None:
        _run(wanted)
