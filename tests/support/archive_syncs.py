"""Syncs of an archive from an emulator: as the installed command, and in this process.

Owns: the small scope that keeps them quick, and where the command finds the emulator.
Must not: judge what is in the archive.
"""

from __future__ import annotations

import hashlib
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import duckdb

from ociaudit.archive.reader import open_archive
from ociaudit.archive.state import ArchiveState
from support.emulator import Emulator
from support.exports import point_at
from support.processes import Finished, find_command, run_process, start_process

REGION = "us-ashburn-1"
ONE_TARGET = ("--region", REGION, "--compartment", "payments", "--no-subtree")
"""A scope of one target."""


def make_sync_command(emulator: Emulator, archive: str | Path, *arguments: str) -> list[str]:
    """Return the command line of a sync with the emulator's configuration."""
    return [find_command("oci-audit"), "sync", str(archive), "--config-file", str(emulator.config_path), *arguments]


def run_sync(
    emulator: Emulator,
    folder: Path,
    *arguments: str,
    archive: str | Path = "archive",
    wrap: Callable[[list[str]], list[str]] = list,
    variables: Mapping[str, str] | None = None,
) -> Finished:
    """Run `oci-audit sync` against an emulator, in a folder; `wrap` may put something before the command."""
    command = wrap(make_sync_command(emulator, archive, *arguments))
    return run_process(command, cwd=folder, variables={**point_at(emulator), **(variables or {})})


def start_sync(emulator: Emulator, folder: Path, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a sync of `archive` in a folder."""
    return start_process(make_sync_command(emulator, "archive", *arguments), cwd=folder, variables=point_at(emulator))


def run_status(folder: Path, *arguments: str, archive: str = "archive") -> Finished:
    """Run `oci-audit status` in a folder."""
    return run_process([find_command("oci-audit"), "status", archive, *arguments], cwd=folder)


def read_lines_until(process: subprocess.Popen[bytes], text: str) -> str:
    """Return what a process prints to stderr, up to the line that contains a text."""
    lines = []
    stderr = process.stderr
    assert stderr is not None
    while line := stderr.readline().decode():
        lines.append(line)
        if text in line:
            return "".join(lines)
    message = f"{text!r} was not printed: {''.join(lines)}"
    raise AssertionError(message)


def read_state(archive: Path) -> ArchiveState:
    """Return the state of an archive."""
    return open_archive(archive).state


def read_rows(archive: Path) -> list[tuple[str, str, str]]:
    """Return region, compartment and digest of every row of the live segments, sorted."""
    state = read_state(archive)
    paths = [archive / path for path in state.segments]
    found = [
        str(path if path.exists() else archive / "replaced" / path.relative_to(archive / "events")) for path in paths
    ]
    if not found:
        return []
    query = "SELECT origin_region, origin_compartment, event_sha256 FROM read_parquet(?)"
    return sorted(duckdb.execute(query, [found]).fetchall())


def hash_tree(folder: Path) -> dict[str, str]:
    """Return the digest of every file below a folder by its path, and an empty text for every folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in sorted(folder.rglob("*"))
    }
