"""The installed commands as processes, for tests.

Owns: finding them, an environment that knows nothing of the machine's user, and how they ended.
Must not: import what they run.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_SECONDS = 60.0
_INHERITED = ("PATH", "TMPDIR", "LANG", "LC_ALL", "CI", "COVERAGE_PROCESS_START")
_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@dataclass(frozen=True, slots=True)
class Finished:
    """How a process ended, and what it wrote."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def error_lines(self) -> list[str]:
        """Give the lines on stderr that name an error."""
        return [line for line in self.stderr.splitlines() if line.startswith("error: ")]

    @property
    def hint_lines(self) -> list[str]:
        """Give the lines on stderr that say what to do."""
        return [line for line in self.stderr.splitlines() if line.startswith("hint: ")]


def find_command(name: str) -> str:
    """Return the path of an installed command: the one beside the Python that runs the tests."""
    path = Path(sysconfig.get_path("scripts")) / name
    if not path.exists():
        message = f"{path} is not installed: run `make setup`"
        raise FileNotFoundError(message)
    return str(path)


def make_environment(home: Path, **variables: str) -> dict[str, str]:
    """Return an environment in which nobody has an OCI configuration or a proxy."""
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {**inherited, "HOME": str(home), **variables}


def start_process(
    command: Sequence[str],
    *,
    cwd: Path,
    variables: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> subprocess.Popen[bytes]:
    """Start a command in a folder, which is its home too; `before` runs in the new process."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=make_environment(cwd, **(variables or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=before,  # noqa: PLW1509 -- no threads run in a test process at that moment that hold locks
    )


def finish_process(process: subprocess.Popen[bytes]) -> Finished:
    """Wait for a process and return how it ended."""
    try:
        stdout, stderr = process.communicate(timeout=TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Finished(process.returncode, stdout, stderr.decode())


def run_process(
    command: Sequence[str],
    *,
    cwd: Path,
    variables: Mapping[str, str] | None = None,
    before: Callable[[], None] | None = None,
) -> Finished:
    """Run a command to its end."""
    return finish_process(start_process(command, cwd=cwd, variables=variables, before=before))


def obey_file_modes() -> None:
    """Let even root obey the modes of files; to be called in a new process, before it becomes the command.

    Raises: OSError when the process may not give up its privilege.
    """
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "the privilege to ignore file modes cannot be given up")
