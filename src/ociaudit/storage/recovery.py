"""A run directory opened again after anything may have happened to it.

Owns: finding out what of log and journal still counts. Must not: ask anything.

Invariants
- What the journal does not name is cut off; a torn last line of the journal is cut off.
- A block whose hash does not fit counts no more (`VoidLine`), and neither does its shard's coverage.
- Without its dictionary nothing of the log can be read: everything is asked again then, and that is said. The
  journal stays, because it tells which outputs are of this run.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ociaudit.events.event import read_event
from ociaudit.planning.planner import FetchState
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import explain_disk, open_private, sync_data
from ociaudit.storage.event_log import BadBlock, FrameCodec, measure_head, read_lengths
from ociaudit.storage.journal import CommittedPage, JournalState, RunLine, VoidLine, replay_journal
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Spool


@dataclass(slots=True)
class Recovered:
    """An open spool, what it already covers, and what had to be given up."""

    spool: Spool
    progress: FetchState = field(default_factory=FetchState)
    state: JournalState = field(default_factory=JournalState)
    notices: tuple[str, ...] = ()


def open_spool(
    folder: RunDirectory,
    *,
    plan_id: str,
    origins: Mapping[Target, int],
    at: str,
    asked_by: tuple[str, str | None] = ("", None),
    on_page: Callable[[], None] = lambda: None,
) -> Recovered:
    """Open a run's spool, new or left over, ready for appending.

    `at` is the present in RFC 3339, `asked_by` principal and key fingerprint, for the journal. `on_page` is called
    before each page that is read, and may raise to stop here.

    Raises:
        CorruptRun: the journal is damaged in the middle or belongs to another plan.
        DiskError: the disk refused.
    """
    state, notices = _read_state(folder, plan_id)
    dictionary = _read_dictionary(folder, state)
    lost: list[int] = []
    if state.dictionary is not None and dictionary is None:
        notices.append("the log's dictionary is damaged: everything is asked again")
        lost = [state.dictionary.offset, *state.pages]
        state.dictionary = None
        state.pages.clear()
    _truncate_file(folder, folder.journal_path, state.length)
    _truncate_file(folder, folder.log_path, _find_log_end(state))
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(Spool(folder, origins, dictionary=dictionary))
        spool.append_line(RunLine(plan_id, at, *asked_by))
        for offset in lost:
            spool.append_line(VoidLine(offset))
        damaged = _index_pages(folder, state, spool, origins, FrameCodec(dictionary), on_page=on_page)
        for page in damaged:
            state.forget(page)
            spool.append_line(VoidLine(page.offset))
        if damaged:
            notices.append(f"{len(damaged)} pages of the log are damaged; their shards are asked again")
        spool.commit()
        stack.pop_all()  # open, for whoever asked
    return Recovered(spool, state.find_progress(), state, tuple(notices))


def _read_state(folder: RunDirectory, plan_id: str) -> tuple[JournalState, list[str]]:
    path = folder.journal_path
    if not path.exists():
        return JournalState(), []
    with explain_disk("read", path), path.open("rb") as file:
        state = replay_journal(file, plan_id=plan_id, where=str(path))
    torn = path.stat().st_size - state.length
    return state, [f"the journal's end is torn; {torn:,} bytes are cut off"] if torn else []


def _read_dictionary(folder: RunDirectory, state: JournalState) -> bytes | None:
    line = state.dictionary
    if line is None:
        return None
    data = _read_range(folder, line.offset, line.length)
    return data if hashlib.sha256(data).hexdigest() == line.sha256 else None


def _find_log_end(state: JournalState) -> int:
    ends = [page.offset + page.length for page in state.pages.values()]
    if state.dictionary:
        ends.append(state.dictionary.offset + state.dictionary.length)
    return max(ends, default=0)


def _truncate_file(folder: RunDirectory, path: os.PathLike[str], length: int) -> None:
    target = folder.path / path
    if not target.exists() or target.stat().st_size <= length:
        return
    descriptor = open_private(target, os.O_WRONLY)
    try:
        with explain_disk("cut", target):
            os.ftruncate(descriptor, length)
        sync_data(descriptor, target)
    finally:
        os.close(descriptor)


def _index_pages(
    folder: RunDirectory,
    state: JournalState,
    spool: Spool,
    origins: Mapping[Target, int],
    codec: FrameCodec,
    *,
    on_page: Callable[[], None],
) -> list[CommittedPage]:
    """Put the events of every sound page into the spool's index; return the pages that are damaged."""
    damaged: list[CommittedPage] = []
    for page in state.pages.values():
        on_page()
        block = _read_range(folder, page.offset, page.length)
        if hashlib.sha256(block).digest() != page.digest or page.shard.target not in origins:
            damaged.append(page)
            continue
        try:
            lengths = read_lengths(block)
            position = measure_head(len(lengths))
            offset = page.offset + position
            events = []
            for length in lengths:
                events.append(read_event(codec.decompress(block[position : position + length])))
                position += length
        except (BadBlock, ValueError):
            damaged.append(page)
            continue
        spool.index.add(events, origin=origins[page.shard.target], offset=offset, lengths=lengths)
    return damaged


def _read_range(folder: RunDirectory, offset: int, length: int) -> bytes:
    path = folder.log_path
    if not path.exists():
        return b""
    with explain_disk("read", path), path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
