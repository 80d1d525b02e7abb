"""The spool: everything a run has received, as an append-only event log and the journal that says what in it counts.

`open_spool` opens it, whatever happened to its directory since an earlier run: it finds out what in the log and the
journal still counts, removes the rest, and fills the index.

Invariants
- Bytes of the log that the journal does not refer to are removed, and so is a torn end of the journal.
- A block whose hash does not match does not count any more (`VoidLine`), and neither does its shard's coverage.
- Without its dictionary nothing in the log can be read: everything is fetched again then, and a notice says so. The
  journal stays, because it knows which outputs are this run's.
- The log is written and synced first, then the journal's lines. Bytes in the log that no line refers to do not count.
- Commits are grouped: the caller that appends commits after `COMMIT_BYTES` of events or `COMMIT_SECONDS`.
- What is appended between two commits is a batch. One thread may append while another writes a batch, so that
  compression, hashing and the disk do not delay requests. Batches are written one at a time, in their order.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ociaudit.errors import DiskError, format_count
from ociaudit.events.event import Event, read_event
from ociaudit.planning.planner import FetchState
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import explain_disk, open_private, sync_data, sync_folder, write_all
from ociaudit.storage.journal import (
    CommittedPage,
    DictionaryLine,
    JournalLine,
    JournalState,
    PageLine,
    RunLine,
    VoidLine,
    encode_line,
    replay_journal,
)
from ociaudit.storage.merge import (
    BadBlock,
    EventIndex,
    FrameCodec,
    LogReader,
    build_block,
    measure_header,
    read_lengths,
    train_dictionary,
)
from ociaudit.storage.run_dir import RunDirectory

COMMIT_BYTES = 1 * 1024 * 1024
COMMIT_SECONDS = 0.25
_SAMPLE_COUNT = 400
_SAMPLE_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class PendingBatch:
    """Journal lines that are not committed yet, in their order."""

    entries: list[tuple[JournalLine, Sequence[Event] | None]] = field(default_factory=list)
    """Each line; that of a page with its events."""
    event_bytes: int = 0
    """How many bytes these events have."""


class Spool:
    """A run's log and journal, open for appending; a context manager that commits when it is left."""

    def __init__(
        self,
        run_directory: RunDirectory,
        origins: Mapping[Target, int],
        *,
        dictionary: bytes | None = None,
    ) -> None:
        """Open or create both files; `origins` numbers the targets that events may come from.

        `dictionary` is the one that the log already contains, if it does.

        Raises:
            DiskError: a file cannot be opened.
        """
        self._log_path = run_directory.log_path
        self.index = EventIndex(run_directory.path)
        """Where every event in the log is."""
        self._origins = origins
        self._log = _AppendFile(run_directory.log_path)
        self._journal = _AppendFile(run_directory.journal_path)
        sync_folder(run_directory.path)
        self._codec = FrameCodec(dictionary)
        self._samples: list[bytes] | None = None if dictionary else []
        self._batch = PendingBatch()
        self._has_failed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Commit what has been appended and close both files; after a disk error only close them."""
        try:
            if not self._has_failed:
                self.commit()
        finally:
            self._log.close()
            self._journal.close()

    def append_page(self, line: PageLine, events: Sequence[Event]) -> None:
        """Append a page: `line` describes the response, `events` are those that passed the filter.

        The line's offset, length and hash are filled in when its batch is written.
        """
        self._batch.entries.append((line, events))
        self._batch.event_bytes += sum(len(event.raw) for event in events)

    def append_line(self, line: JournalLine) -> None:
        """Append a journal line."""
        self._batch.entries.append((line, None))

    @property
    def pending_bytes(self) -> int:
        """Return how many bytes of events the next batch has so far."""
        return self._batch.event_bytes

    def pop_batch(self) -> PendingBatch:
        """Return what has been appended since the last batch; called by the thread that appends."""
        batch, self._batch = self._batch, PendingBatch()
        return batch

    def write_batch(self, batch: PendingBatch) -> None:
        """Make a batch durable: first the log, then the lines that refer to it.

        Raises:
            DiskError: a write fails; nothing after the last commit counts.
        """
        try:
            lines = list(self._store(batch))
            if lines:
                self._log.flush()
                for line in lines:
                    self._journal.append(encode_line(line))
                self._journal.flush()
        except DiskError:
            self._has_failed = True  # the ends of the files are unknown now; appending more could hide the damage
            raise

    def commit(self) -> None:
        """Make everything appended so far durable.

        Raises:
            DiskError: a write fails; nothing after the last commit counts.
        """
        self.write_batch(self.pop_batch())

    def _store(self, batch: PendingBatch) -> Iterator[JournalLine]:
        """Add a batch's events to the log and the index; yield its lines, a page's with where its block is."""
        raws = [event.raw for _, events in batch.entries for event in events or ()]
        yield from self._train(raws)
        frames = iter(self._codec.compress(raws))  # one call: each call waits for the GIL when it returns
        for line, events in batch.entries:
            if events is None or not isinstance(line, PageLine):
                yield line
                continue
            block, lengths = build_block(list(islice(frames, len(events))))
            offset = self._log.append(block)
            self.index.add(
                events,
                origin=self._origins[line.shard.target],
                offset=offset + measure_header(len(lengths)),
                lengths=lengths,
            )
            digest = hashlib.sha256(block).hexdigest()
            yield msgspec.structs.replace(line, offset=offset, length=len(block), sha256=digest)

    def open_reader(self) -> LogReader:
        """Return a reader of what has been committed."""
        self.commit()
        return LogReader(self._log_path, self._codec)

    def _train(self, raws: Sequence[bytes]) -> Iterator[DictionaryLine]:
        """Collect samples; once there are enough, add a dictionary to the log and use it from now on."""
        if self._samples is None:
            return
        self._samples.extend(raws[: _SAMPLE_COUNT - len(self._samples)])
        if len(self._samples) < _SAMPLE_COUNT and sum(map(len, self._samples)) < _SAMPLE_BYTES:
            return
        dictionary = train_dictionary(self._samples)
        self._samples = None
        if dictionary is not None:
            self._codec = FrameCodec(dictionary)
            offset = self._log.append(dictionary)
            digest = hashlib.sha256(dictionary).hexdigest()
            yield DictionaryLine(offset, len(dictionary), digest)


class _AppendFile:
    """A file that is only ever appended to, and synced on demand."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._end = os.fstat(self._descriptor).st_size
        self._pending: list[bytes] = []
        self.pending_bytes = 0

    def append(self, data: bytes) -> int:
        """Queue bytes and return the offset that they will have."""
        offset = self._end
        self._end += len(data)
        self._pending.append(data)
        self.pending_bytes += len(data)
        return offset

    def flush(self) -> None:
        """Write and sync what is queued."""
        if self._pending:
            write_all(self._descriptor, b"".join(self._pending), self._path)
            self._pending.clear()
            self.pending_bytes = 0
            sync_data(self._descriptor, self._path)

    def close(self) -> None:
        os.close(self._descriptor)


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
