"""Imports and prunings as processes, killed at every call that changes the disk; the same command makes up for it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from ociaudit.operations.verify import verify_archive
from support.event_archives import EventArchive, make_event
from support.kill_at_call import KillableCommand
from support.killed_syncs import CHANGES, KILLED
from support.processes import make_environment
from support.simulated_archive import Row, check_files, read_rows

pytestmark = pytest.mark.timeout(900)  # two processes for every call

IMPORT = ("import", "archive", "more.ndjson")
PRUNE = ("prune", "archive", "--before", "2025-12-02", "--yes")


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """An archive of two dates, and beside it a file that adds to both, with one record in fewer bytes."""
    archive = EventArchive(tmp_path / "kept")
    archive.add([make_event(number, date=date) for number in range(5) for date in ("2025-12-01", "2025-12-02")])
    smaller = make_event(1).replace(b": ", b":").replace(b", ", b",")
    more = [make_event(50), smaller, make_event(51, date="2025-12-02"), make_event(52, date="2025-12-03")]
    (tmp_path / "more.ndjson").write_bytes(b"".join(raw + b"\n" for raw in more))
    return archive.path


@pytest.mark.parametrize("arguments", [IMPORT, PRUNE], ids=lambda arguments: arguments[0])
def test_kill_at_every_call(kept: Path, tmp_path: Path, arguments: Sequence[str]) -> None:
    """Killed before a change or within a write, the archive is as before or after; the same command completes it."""
    archive = tmp_path / "archive"
    environment = make_environment(tmp_path)

    def read() -> list[Row]:
        return read_rows(archive, tmp_path / "scratch")

    def restore() -> None:
        shutil.rmtree(archive, ignore_errors=True)
        shutil.copytree(kept, archive, symlinks=True)

    with KillableCommand() as command:
        restore()
        before = read()
        ended = command(arguments, cwd=tmp_path, variables=environment)
        assert ended.status == 0, ended.stderr
        after = read()
        assert before != after
        kills = [(number, call, "before") for number, call in enumerate(ended.calls, 1) if call.startswith(CHANGES)]
        kills += [(number, call, "torn") for number, call in enumerate(ended.calls, 1) if call.startswith("write(")]
        assert len(kills) >= 10
        for number, call, when in kills:
            restore()
            where = f"{when} {number}: {call}"
            killed = command(arguments, cwd=tmp_path, variables=environment, call=number, when=when)
            assert killed.status == KILLED, f"{where}: {killed.stderr}"
            assert read() in (before, after), where
            again = command(arguments, cwd=tmp_path, variables=environment)
            assert again.status == 0, f"{where}: {again.stderr}"
            assert read() == after, where
            check_files(archive)
            assert verify_archive(archive).problems == [], where
