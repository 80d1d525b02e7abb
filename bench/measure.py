"""Measurements of whole processes.

Contenders take turns, A B C A B C, so that a drift of the machine affects all of them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

_LAUNCHER = Path(__file__).with_name("launcher.py")
_INHERITED = ("PATH", "TMPDIR", "LANG", "LC_ALL")


class RunError(Exception):
    """A measured command failed, or its result is wrong."""


@dataclass(frozen=True, slots=True)
class Usage:
    """The resources of one run: elapsed time, CPU time (user and system), and the peak of resident memory."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int

    def list_figures(self) -> dict[str, float]:
        """Return the usage as figures of a row."""
        return {"wall s": self.wall_seconds, "CPU s": self.cpu_seconds, "peak MB": self.peak_bytes / 1e6}


@dataclass(frozen=True, slots=True)
class Contender:
    """A command in a comparison.

    `make_command` is called before each run, outside the measured time, with the folder that the command may write
    to. `check` is called after the run with the same folder, and raises RunError if the result is wrong; standard
    output is the file `stdout` in that folder.
    """

    name: str
    make_command: Callable[[Path], Sequence[str]]
    check: Callable[[Path], None]


def make_environment(home: Path) -> dict[str, str]:
    """Return an environment without a configuration or a proxy."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "HOME": str(home), "NO_PROXY": "127.0.0.1", "OCI_CLI_SUPPRESS_FILE_PERMISSIONS_WARNING": "1"}


def run_measured(
    command: Sequence[str],
    folder: Path,
    *,
    variables: Mapping[str, str] | None = None,
    codes: Sequence[int] = (0,),
) -> Usage:
    """Run a command to its end in a folder, which is also its home.

    Raises: RunError when it ends with another code than these, with the end of its output on stderr.
    """
    stdout, stderr = folder / "stdout", folder / "stderr"
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_LAUNCHER), str(stdout), str(stderr), *map(str, command)],
        cwd=folder,
        env={**make_environment(folder), **(variables or {})},
        capture_output=True,
        text=True,
        check=True,
    )
    used = json.loads(done.stdout)
    if used["code"] not in codes:
        output = stderr.read_text("utf-8", "replace")[-2_000:]
        raise RunError(f"{command[0]} exited with code {used['code']}: {output}")
    return Usage(used["wall_seconds"], used["cpu_seconds"], used["peak_bytes"])


def run_in_turns(
    contenders: Sequence[Contender], make_folder: Callable[[str], Path], *, rounds: int
) -> dict[str, list[Usage]]:
    """Run every contender once per round, and check each result.

    Raises: RunError.
    """
    usages: dict[str, list[Usage]] = {contender.name: [] for contender in contenders}
    for _ in range(rounds):
        for contender in contenders:
            folder = make_folder("contender")
            command = contender.make_command(folder)
            usages[contender.name].append(run_measured(command, folder))
            contender.check(folder)
            make_folder("contender")
    return usages


def choose_median(usages: Sequence[Usage]) -> Usage:
    """Return the median of each figure."""
    return Usage(
        median(usage.wall_seconds for usage in usages),
        median(usage.cpu_seconds for usage in usages),
        int(median(usage.peak_bytes for usage in usages)),
    )
