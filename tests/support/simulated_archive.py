"""Archives of a simulated tenancy: syncs that may be killed at any call to the disk, and what an archive must hold.

The expectation is made from what the tenancy served and when; of the program it uses only the archive's reader.
"""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from ociaudit.archive.commit_log import CommitLog, verify_chain
from ociaudit.archive.reader import load_state, open_archive
from ociaudit.archive.segments import check_segment, read_date
from ociaudit.archive.state import ArchiveState
from ociaudit.archive.tail import read_record_ids
from ociaudit.errors import Interrupted
from ociaudit.operations.sync import SyncOptions, SyncResult, sync_archive
from ociaudit.planning.shard import Target, Window
from support.simulated_tenancy import SimulatedTenancy

_CHANGES = ("write", "mkdir", "ftruncate", "replace", "rename", "link", "unlink", "rmdir")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """The process was killed; nothing that it does afterwards reaches the disk."""


class Row(NamedTuple):
    """A row of an archive: its date, its event and its origin."""

    date: str
    raw: bytes
    origin: Target | None


class _Disk:
    """Counts the calls that change the disk; from call number `last` on, none is carried out."""

    def __init__(self, last: int | None, *, is_torn: bool, on_last: Callable[[], object] | None = None) -> None:
        self._on_last = on_last
        self.count = 0
        self.is_dead = False
        self._last = last
        self._is_torn = is_torn
        self._lock = threading.Lock()

    def wrap(self, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def counting(*arguments: Any, **options: Any) -> Any:
            with self._lock:
                self.count += 1
                is_last = self.count == self._last and not self.is_dead
                self.is_dead |= is_last and self._on_last is None
            if is_last and self._on_last is not None:
                self._on_last()
            if is_last and self._is_torn and name == "write":
                function(arguments[0], bytes(arguments[1])[: (len(arguments[1]) + 1) // 2])
            if self.is_dead:
                raise Killed
            return function(*arguments, **options)

        return counting

    def wrap_open(self) -> Callable[..., Any]:
        counted, plain = self.wrap("open"), os.open

        def opening(path: Any, flags: int, *arguments: Any, **options: Any) -> Any:
            return (counted if flags & _WRITING else plain)(path, flags, *arguments, **options)

        return opening


@contextmanager
def watch_disk(
    last: int | None = None, *, is_torn: bool = False, on_last: Callable[[], object] | None = None
) -> Iterator[_Disk]:
    """Let the process die at a call to the disk: that call and all later ones fail. Nothing is synced, for speed.

    With `on_last` that is called instead.
    """
    disk = _Disk(last, is_torn=is_torn, on_last=on_last)

    def skip(*_: Any) -> None:
        if disk.is_dead:
            raise Killed

    wrapped: dict[str, Any] = {name: disk.wrap(name) for name in _CHANGES}
    wrapped |= {"open": disk.wrap_open()} | {name: skip for name in ("fsync", "fdatasync") if hasattr(os, name)}
    with ExitStack() as stack:
        for name, function in wrapped.items():
            stack.enter_context(patch.object(os, name, function))
        yield disk


def sync(tenancy: SimulatedTenancy, options: SyncOptions) -> SyncResult:
    """Sync once; errors pass through."""
    with tenancy.install() as context, watch_disk():
        return sync_archive(options, context)


def kill_sync(tenancy: SimulatedTenancy, options: SyncOptions, call: int, *, is_torn: bool = False) -> bool:
    """Sync, and die at this call to the disk; return whether that happened before the end."""
    with tenancy.install() as context, watch_disk(call, is_torn=is_torn) as disk:
        try:
            sync_archive(options, context)
        except BaseException:
            if not disk.is_dead:
                raise
    return disk.is_dead


def signal_sync(tenancy: SimulatedTenancy, options: SyncOptions, call: int) -> bool:
    """Sync, and get SIGTERM at this call to the disk; return whether that ended the sync."""
    with tenancy.install() as context, watch_disk(call, on_last=lambda: context.cancellation.cancel(signal.SIGTERM)):
        try:
            sync_archive(options, context)
        except Interrupted as error:
            return error.signal_number == signal.SIGTERM
    return False


def read_rows(path: Path, scratch: Path) -> list[Row]:
    """Return the rows of an archive."""
    archive = open_archive(path)
    scratch.mkdir(exist_ok=True)
    return [
        Row(date, record.raw, record.origin)
        for date, entries in archive.state.group_segments().items()
        for record in read_date(path, entries, scratch=scratch)
    ]


def read_value(raw: bytes) -> str:
    """Return what two serialisations of a record share."""
    return json.dumps(json.loads(raw), sort_keys=True)


def check_files(path: Path) -> None:
    """Check the chain, every live segment, and that no other file is where segments are."""
    assert verify_chain(path).faults == ()
    state = open_archive(path).state
    for entry in state.segments.values():
        check_segment(path, entry)
    assert {one.relative_to(path).as_posix() for one in path.glob("events/*/*")} == set(state.segments)
    assert not (path / "work").exists()


def check_rows(tenancy: SimulatedTenancy, path: Path, scratch: Path) -> list[Row]:
    """Check that an archive has what it claims to have, each record once, and nothing that was not served."""
    state = open_archive(path).state
    rows = read_rows(path, scratch)
    values = Counter(read_value(row.raw) for row in rows)
    assert [value for value, count in values.items() if count > 1] == []
    for row in rows:
        assert row.raw in tenancy.served
        assert row.origin in tenancy.served[row.raw] or row.origin in {
            target
            for raw, targets in tenancy.served.items()
            if read_value(raw) == read_value(row.raw)
            for target in targets
        }
    missing = [
        (target, record)
        for target, own in tenancy.records.items()
        for record in own
        if _is_claimed(state, target, record.processed, record.visible) and read_value(record.forms[0]) not in values
    ]
    assert missing == []
    assert state.totals.rows == state.totals.added == len(rows)
    return rows


def _is_claimed(state: ArchiveState, target: Target, processed: int, visible: int) -> bool:
    """Return whether the archive claims to have asked for a minute when a record of it was shown."""
    known = state.targets.get(target)
    span = known.coverage.find_span(processed) if known else None
    if span is None:
        return False
    return visible <= (processed + state.reach if span.asked_at is None else span.asked_at)


def check_counts(path: Path) -> None:
    """Check what every commit counts against the state before it and the record ids that it left."""
    log = CommitLog.open(path)
    state = ArchiveState()
    held = None
    for commit in log.read_commits():
        if held is not None:
            state.apply(held, commit.previous)
        held = commit
        counts = commit.counts
        assert counts.received == counts.added + counts.known + counts.identical + counts.reserialised
        if commit.kind == "sync" and counts.added:
            ids = read_record_ids(log.folder, commit.sequence)
            assert ids is not None
            assert sum(map(len, ids.values())) == counts.added
        assert commit.late.after_final <= commit.late.count <= counts.added
        rows = sum(one.rows for one in commit.added) - sum(state.segments[one].rows for one in commit.replaced)
        assert rows == counts.added
    if held is not None and log.head is not None:
        state.apply(held, log.head.digest)
    assert state == load_state(log)


def find_holes(state: ArchiveState, target: Target) -> tuple[Window, ...]:
    """Return what of a target is expected to be covered, and is neither covered nor lost."""
    one = state.targets[target]
    if one.since >= state.end:
        return ()
    lost = {minute for window in one.lost for minute in range(window.start, window.end)}
    missing = one.coverage.find_missing(Window(one.since, state.end))
    return tuple(window for window in missing if not set(range(window.start, window.end)) <= lost)


def find_uncovered(state: ArchiveState, target: Target, window: Window) -> tuple[Window, ...]:
    """Return what of a window is not covered."""
    return state.targets[target].coverage.find_missing(window)
