"""The installed commands as processes, for tests.

Owns: finding them, an environment that knows nothing of the machine's user, and how they ended.
Must not: import what they run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.forked_commands import can_fork, run_forked

TIMEOUT_SECONDS = 60.0
_INHERITED = ("PATH", "TMPDIR", "LANG", "LC_ALL", "CI", "COVERAGE_PROCESS_START")
# Root without CAP_DAC_OVERRIDE (1) and CAP_DAC_READ_SEARCH (2); 24 is PR_CAPBSET_DROP.
_DROP_CAPABILITIES = """
import ctypes, os, sys
libc = ctypes.CDLL(None)
for capability in (1, 2):
    if libc.prctl(24, capability, 0, 0, 0) != 0:
        sys.exit("the privilege to ignore file modes cannot be given up")
os.execv(sys.argv[1], sys.argv[1:])
"""


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
    command: Sequence[str], *, cwd: Path, variables: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a command in a folder, which is its home too."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=make_environment(cwd, **(variables or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
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


def run_process(command: Sequence[str], *, cwd: Path, variables: Mapping[str, str] | None = None) -> Finished:
    """Run a command to its end; `oci-audit` without a new start of Python where that makes no difference."""
    if can_fork(str(Path(sysconfig.get_path("scripts")) / "oci-audit"), command, variables or {}):
        environment = make_environment(cwd, **(variables or {}))
        code, stdout, stderr = run_forked(command, cwd=cwd, environment=environment, timeout=TIMEOUT_SECONDS)
        return Finished(code, stdout, stderr.decode())
    return finish_process(start_process(command, cwd=cwd, variables=variables))


def prepare_in_shell(preparation: str, command: Sequence[str]) -> list[str]:
    """Return a command before which a shell does something, such as `umask 0` or `exec >&-`."""
    return ["/bin/sh", "-c", f'{preparation}; exec "$@"', "sh", *command]


def obey_file_modes(command: Sequence[str]) -> list[str]:
    """Return a command that obeys the modes of files even when root runs the tests."""
    if os.geteuid() != 0 or not sys.platform.startswith("linux"):
        return list(command)
    return [sys.executable, "-I", "-S", "-c", _DROP_CAPABILITIES, *command]
