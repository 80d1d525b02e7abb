"""Copies of an archive that are taken while a sync commits, and what becomes of them."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from ociaudit.archive.commit_log import CommitLog, verify_chain
from ociaudit.archive.reader import load_state
from ociaudit.errors import CorruptRun
from ociaudit.operations import sync as sync_module
from ociaudit.operations.sync import SyncOptions, sync_archive
from support.archive_syncs import REGION, read_rows, read_state
from support.emulator import Emulator
from support.exports import make_tools

EMULATOR_FLAGS = ("--events-per-day", "1000")
PARTS = ("HEAD", "commits", "events", "replaced", "archive.json")
"""In the order of the documentation: what refers comes first."""
OPTIONS = {"regions": (REGION,), "compartments": ("root",), "is_subtree": False, "settle": "1m", "rescan": "1m"}


def link_tree(source: Path, goal: Path) -> None:
    """Copy a file or a folder by links, which is fast; the program never changes a file in place."""
    if source.is_dir():
        shutil.copytree(source, goal, copy_function=os.link, dirs_exist_ok=True)
    elif source.exists():
        goal.parent.mkdir(parents=True, exist_ok=True)
        os.link(source, goal)


@pytest.fixture(scope="module")
def moments(shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """An archive, and what was in its folder at each commit of its first two syncs, compactions included."""
    folder = tmp_path_factory.mktemp("copies")
    archive, found = folder / "archive", []

    def keep(_: object) -> None:
        found.append(folder / f"at-{len(found)}")
        for name in PARTS:
            link_tree(archive / name, found[-1] / name)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync_module, "_TILE_GROWTH", 1)
        patch.setattr(sync_module, "_DATES_PER_COMPACTION", 2)
        for _ in range(2):
            options = SyncOptions(archive=archive, start="10d", max_window_days=1, round_events=250, **OPTIONS)
            sync_archive(options, make_tools(shared_emulator), on_commit=keep)
    assert len(found) >= 5
    assert any((archive / "replaced").rglob("*.parquet")), "nothing was compacted"
    return archive, found


@contextlib.contextmanager
def assemble(folder: Path, parts: dict[str, Path]) -> Iterator[Path]:
    """Give a copy whose parts were taken at different moments."""
    copy = folder / "copy"
    for name, moment in parts.items():
        link_tree(moment / name, copy / name)
    try:
        yield copy
    finally:
        shutil.rmtree(copy)


def list_missing(copy: Path) -> list[str]:
    """Return the segments that the newest commit of a copy names and that the copy does not have."""
    paths = load_state(CommitLog.open(copy)).segments
    return [path for path in paths if not (copy / path).exists() and not (copy / "replaced" / path[7:]).exists()]


def test_a_copy_in_the_documented_order_is_whole_whatever_was_committed_meanwhile(moments, tmp_path: Path) -> None:
    """HEAD, commits, events, replaced, taken at any commits in this order, make a chain without a missing segment."""
    archive, found = moments
    found_in_replaced = behind = 0
    for head, commits, events, replaced in combinations_with_replacement(range(len(found)), 4):
        taken = {"HEAD": found[head], "commits": found[commits], "events": found[events], "replaced": found[replaced]}
        with assemble(tmp_path, {**taken, "archive.json": archive}) as copy:
            assert list_missing(copy) == []
            found_in_replaced += any(not (copy / path).exists() for path in read_state(copy).segments)
            behind += commits > head + 1
            if commits == len(found) - 1 or head == events:
                assert verify_chain(copy).faults == ()
    assert found_in_replaced
    assert behind


def test_the_other_order_would_not_do(moments, tmp_path: Path) -> None:
    """With segments first and HEAD last, a commit in between leaves a copy with a missing segment, or a HEAD ahead."""
    archive, found = moments
    broken = 0
    for events, commits, head in combinations_with_replacement(range(len(found)), 3):
        parts = {"events": found[events], "replaced": found[events], "commits": found[commits], "HEAD": found[head]}
        with assemble(tmp_path, {**parts, "archive.json": archive}) as copy:
            try:
                broken += bool(list_missing(copy))
            except CorruptRun as error:
                assert "does not exist" in str(error)  # noqa: PT017 - the error of a HEAD that is ahead
                broken += 1
    assert broken


def test_a_sync_on_a_copy_makes_it_equal_to_the_original(shared_emulator: Emulator, moments, tmp_path: Path) -> None:
    """Restored copies hold the original's rows after a sync of both, with every live segment in its place."""
    archive, found = moments
    last = len(found) - 1
    for number, (head, commits, events) in enumerate([(0, 0, last), (0, last // 2, last), (1, last, last)]):
        copy = tmp_path / f"restored-{number}"
        taken = {"HEAD": head, "commits": commits, "events": events, "replaced": last, "archive.json": last}
        for name, moment in taken.items():
            if (found[moment] / name).is_dir():
                shutil.copytree(found[moment] / name, copy / name)
            else:
                copy.mkdir(exist_ok=True)
                shutil.copy2(found[moment] / name, copy / name)
        for path in (copy, archive):
            sync_archive(SyncOptions(archive=path, **OPTIONS), make_tools(shared_emulator))
        assert verify_chain(copy).faults == ()
        state = read_state(copy)
        assert all((copy / path).exists() for path in state.segments)
        live = {str(path.relative_to(copy)) for path in (copy / "events").rglob("*.parquet")}
        assert live == set(state.segments)
        final_end = min(state.end, read_state(archive).end)
        assert final_end > state.start
        assert set(read_rows(copy)) <= set(read_rows(archive))
        sync_archive(SyncOptions(archive=copy, **OPTIONS), make_tools(shared_emulator))
        assert set(read_rows(archive)) <= set(read_rows(copy))
