"""Commands on a pseudo-terminal: what a user of a screen of 80 columns sees."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.processes import make_environment

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def run_on_screen(
    command: Sequence[str],
    folder: Path,
    variables: Mapping[str, str],
    *,
    columns: int = 80,
    stdout: Path | None = None,
) -> tuple[int, str]:
    """Run a command on a terminal, and return its exit code and what the terminal got; stdout may go to a file."""
    leader, follower = pty.openpty()
    settings = {"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "40", **variables}
    with (
        contextlib.nullcontext(follower) if stdout is None else stdout.open("wb") as output,
        subprocess.Popen(
            command,
            cwd=folder,
            env=make_environment(folder, **settings),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=follower,
        ) as process,
    ):
        os.close(follower)
        seen = bytearray()
        while True:
            try:
                data = os.read(leader, 65536)
            except OSError:  # the other end is closed
                break
            if not data:
                break
            seen += data
        os.close(leader)
        return process.wait(timeout=60), seen.decode()


def read_lines(seen: str) -> list[str]:
    """Return the lines that a terminal got, without colors and movements of the cursor."""
    return [line for text in _ESCAPE.sub("", seen).split("\n") for line in text.rstrip("\r").split("\r")]
