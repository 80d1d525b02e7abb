"""Scenarios of syncs that are killed at a call to the disk, and what must hold after the next sync."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from ociaudit.archive.reader import open_archive
from support.emulator import Emulator
from support.kill_at_call import KillableCommand, When
from support.run_directories import list_committed, list_requests
from support.simulated_archive import Row, check_counts, check_files, read_rows
from support.syncs import FLAGS, SyncStand

KILLED = -9
CHANGES = ("mkdir(", "open(", "write(", "ftruncate(", "replace(", "link(", "unlink(", "rmdir(")


class Outcome(NamedTuple):
    """What an archive holds, however it came about."""

    rows: list[Row]
    covered: dict[Any, Any]
    start: int
    end: int


@dataclass(frozen=True)
class Scenario:
    """A sync that is killed: `kept` is a copy of the archive that it begins with, if it exists."""

    stand: SyncStand
    kept: Path
    calls: tuple[str, ...]
    expected: Outcome
    sequence: int


@contextmanager
def open_stand(folder: Path) -> Iterator[SyncStand]:
    """Yield a stand whose clock is at noon; every page is a commit of the spool."""
    with Emulator(*FLAGS) as emulator, KillableCommand(COMMIT_BYTES=0) as command:
        yield SyncStand(emulator, command, folder)


def prepare_first(stand: SyncStand) -> Scenario:
    """Return the first sync of an archive."""
    return _prepare(stand, stand.folder / "none")


def prepare_compaction(stand: SyncStand) -> Scenario:
    """Return a sync that adds events, and compacts a day of four segments."""
    for _ in range(3):
        assert stand.sync().status == 0
        stand.emulator.clock(advance="5h")
    kept = stand.folder / "kept"
    shutil.copytree(stand.archive, kept, symlinks=True)
    scenario = _prepare(stand, kept)
    assert {commit.kind for commit in open_archive(stand.archive).log.read_commits()} == {"sync", "compaction"}
    assert any("/replaced/" in call for call in scenario.calls)
    return scenario


def _prepare(stand: SyncStand, kept: Path) -> Scenario:
    stand.restore(kept)
    ended = stand.sync()
    assert ended.status == 0, ended.stderr
    return Scenario(stand, kept, ended.calls, read_outcome(stand), open_archive(stand.archive).state.sequence)


def read_outcome(stand: SyncStand) -> Outcome:
    """Check an archive, and return what it holds."""
    check_files(stand.archive)
    check_counts(stand.archive)
    state = open_archive(stand.archive).state
    # How finality is written down depends on the number of commits.
    covered = {
        target: one.coverage.collapse(reach=state.reach, now=state.now).spans for target, one in state.targets.items()
    }
    return Outcome(read_rows(stand.archive, stand.folder / "scratch"), covered, state.start, state.end)


def choose_calls(scenario: Scenario, when: When, count: int | None) -> list[int]:
    """Return the numbers of calls to be killed at: those that change the disk, `count` of them evenly spread."""
    wanted = ("write(",) if when in {"torn", "full"} else CHANGES
    numbers = [number for number, call in enumerate(scenario.calls, 1) if call.startswith(wanted)]
    return numbers if count is None else numbers[:: max(1, len(numbers) // count)]


def check_kill(scenario: Scenario, call: int, when: When = "before", *, status: int = KILLED) -> None:
    """Disturb the sync at a call, then sync again: the archive is the expected one, and nothing is fetched twice."""
    stand = scenario.stand
    stand.restore(scenario.kept)
    disturbed = stand.sync(call=call, when=when)
    where = f"{when} {call}: {scenario.calls[call - 1]}"
    assert disturbed.status == status, f"{where}: {disturbed.status} {disturbed.stderr}"
    committed = set(list_committed(stand.archive / "work").values())
    has_committed = _count_commits(stand) == scenario.sequence
    stand.emulator.clear_log()
    again = stand.sync()
    assert again.status == 0, f"{where}: {again.stderr}"
    requests = set(list_requests(stand.emulator.log()))
    assert has_committed or not committed & requests, where
    assert read_outcome(stand) == scenario.expected, where


def _count_commits(stand: SyncStand) -> int:
    return len(list((stand.archive / "commits").glob("*.json"))) if stand.archive.exists() else 0


def check_kills(scenario: Scenario, when: When, count: int | None, *, status: int = KILLED) -> int:
    """Check as many kills as there are calls, or about `count`; return how many."""
    numbers = choose_calls(scenario, when, count)
    for number in numbers:
        check_kill(scenario, number, when, status=status)
    return len(numbers)


Prepare = Callable[[SyncStand], Scenario]
PREPARE: Sequence[Prepare] = (prepare_first, prepare_compaction)
