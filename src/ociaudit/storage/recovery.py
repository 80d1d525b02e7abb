"""The spool of a run opened again, whatever happened to its directory in between.

Recovery finds out what in the log and the journal still counts, removes the rest, and fills the index of the spool.

Invariants
- Bytes of the log that the journal does not refer to are removed, and so is a torn end of the journal.
- A block whose hash does not match does not count any more (`VoidLine`), and neither does its shard's coverage.
- Without its dictionary nothing in the log can be read: everything is fetched again then, and a notice says so. The
  journal stays, because it knows which outputs are this run's.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ociaudit.errors import format_count
from ociaudit.events.event import read_event
from ociaudit.planning.planner import FetchState
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import explain_disk, open_private, sync_data
from ociaudit.storage.event_log import BadBlock, FrameCodec, measure_header, read_lengths
from ociaudit.storage.journal import CommittedPage, JournalState, RunLine, VoidLine, replay_journal
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Spool


@dataclass(slots=True)
class Recovered:
    """An open spool, what it already covers, and notices about what was lost."""

    spool: Spool
    progress: FetchState = field(default_factory=FetchState)
    state: JournalState = field(default_factory=JournalState)
    notices: tuple[str, ...] = ()


def open_spool(
    run_directory: RunDirectory,
    *,
    plan_id: str,
    origins: Mapping[Target, int],
    at: str,
    asked_by: tuple[str, str | None] = ("", None),
    on_page: Callable[[], None] = lambda: None,
) -> Recovered:
    """Open the spool of a new or an earlier run, ready for appending.

    `at` is the current time in RFC 3339, `asked_by` the principal and the key fingerprint; both go into the journal.
    `on_page` is called before each page that is read; it may raise to stop.

    Raises:
        CorruptRun: the journal is damaged before its end or belongs to another plan.
        DiskError: a file cannot be read or written.
    """
    state, notices = _read_state(run_directory.journal_path, plan_id)
    dictionary = _read_dictionary(run_directory.log_path, state)
    lost: list[VoidLine] = []
    if state.dictionary is not None and dictionary is None:
        notices.append("the dictionary of the event log is damaged: everything is fetched again")
        lost = [VoidLine(offset) for offset in (state.dictionary.offset, *state.pages)]
        for line in lost:
            state.apply(line)
    _truncate(run_directory.journal_path, state.length)
    _truncate(run_directory.log_path, _find_log_end(state))
    with contextlib.ExitStack() as stack:
        spool = stack.enter_context(Spool(run_directory, origins, dictionary=dictionary))
        spool.append_line(RunLine(plan_id, at, *asked_by))
        for line in lost:
            spool.append_line(line)
        damaged = _index_pages(run_directory.log_path, state, spool, origins, FrameCodec(dictionary), on_page=on_page)
        for page in damaged:
            line = VoidLine(page.offset)
            state.apply(line)
            spool.append_line(line)
        if damaged:
            notices.append(f"damaged pages in the event log: {len(damaged)}; their shards are fetched again")
        spool.commit()
        stack.pop_all()  # the caller closes the spool
    return Recovered(spool, state.compute_progress(), state, tuple(notices))


def _read_state(path: Path, plan_id: str) -> tuple[JournalState, list[str]]:
    if not path.exists():
        return JournalState(), []
    with explain_disk("read", path), path.open("rb") as file:
        state = replay_journal(file, plan_id=plan_id, where=str(path))
    torn = path.stat().st_size - state.length
    return state, [f"the journal's end is torn; {format_count(torn, 'byte')} discarded"] if torn else []


def _read_dictionary(log_path: Path, state: JournalState) -> bytes | None:
    line = state.dictionary
    if line is None:
        return None
    data = _read_range(log_path, line.offset, line.length)
    return data if hashlib.sha256(data).hexdigest() == line.sha256 else None


def _find_log_end(state: JournalState) -> int:
    ends = [page.offset + page.length for page in state.pages.values()]
    if state.dictionary:
        ends.append(state.dictionary.offset + state.dictionary.length)
    return max(ends, default=0)


def _truncate(path: Path, length: int) -> None:
    if not path.exists() or path.stat().st_size <= length:
        return
    descriptor = open_private(path, os.O_WRONLY)
    try:
        with explain_disk("truncate", path):
            os.ftruncate(descriptor, length)
        sync_data(descriptor, path)
    finally:
        os.close(descriptor)


def _index_pages(
    log_path: Path,
    state: JournalState,
    spool: Spool,
    origins: Mapping[Target, int],
    codec: FrameCodec,
    *,
    on_page: Callable[[], None],
) -> list[CommittedPage]:
    """Add the events of every sound page to the spool's index; return the pages that are damaged."""
    damaged: list[CommittedPage] = []
    for page in state.pages.values():
        on_page()
        block = _read_range(log_path, page.offset, page.length)
        if hashlib.sha256(block).digest() != page.digest or page.shard.target not in origins:
            damaged.append(page)
            continue
        try:
            lengths = read_lengths(block)
            position = measure_header(len(lengths))
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


def _read_range(path: Path, offset: int, length: int) -> bytes:
    if not path.exists():
        return b""
    with explain_disk("read", path), path.open("rb") as file:
        file.seek(offset)
        return file.read(length)
