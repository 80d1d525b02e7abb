"""Everything a run has received: the append-only log, and the journal that says what in it counts.

Owns: the writing of both, and the order in which they reach the disk. Must not: ask, or publish.

Invariants
- Log first, synced; then the journal's lines, synced. Bytes in the log that no line names do not count.
- Commits are grouped: whoever appends sees to a commit after `COMMIT_BYTES` of events or `COMMIT_SECONDS`.
- What was appended between two commits is a batch. One thread may append while another writes a batch out:
  compressing, hashing and the disk do not hold up the questions. One batch at a time, in their order.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ociaudit.errors import DiskError
from ociaudit.events.event import Event
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import open_private, sync_data, sync_folder, write_all
from ociaudit.storage.event_log import FrameCodec, LogReader, build_block, measure_head, train_dictionary
from ociaudit.storage.journal import DictionaryLine, JournalLine, PageLine, encode_line
from ociaudit.storage.merge import EventIndex
from ociaudit.storage.run_dir import RunDirectory

COMMIT_BYTES = 1 * 1024 * 1024
COMMIT_SECONDS = 0.25
_SAMPLE_COUNT = 400
_SAMPLE_BYTES = 4 * 1024 * 1024


@dataclass(slots=True)
class PendingBatch:
    """Journal lines in their order, a page's with its events; and how many bytes these have."""

    entries: list[tuple[JournalLine, Sequence[Event] | None]] = field(default_factory=list)
    event_bytes: int = 0


class Spool:
    """A run's log and journal, open for appending. Used as a context manager: leaving it commits."""

    def __init__(
        self,
        folder: RunDirectory,
        origins: Mapping[Target, int],
        *,
        dictionary: bytes | None = None,
    ) -> None:
        """Open or create both files in `folder`; `origins` numbers the places that events may come from.

        `dictionary` is the one that stands in the log already, if one does.

        Raises:
            DiskError: a file cannot be opened.
        """
        self._folder = folder
        self.index = EventIndex(folder.path)
        self._origins = origins
        self._log = _AppendFile(folder.log_path)
        self._journal = _AppendFile(folder.journal_path)
        sync_folder(folder.path)
        self._codec = FrameCodec(dictionary)
        self._samples: list[bytes] | None = None if dictionary else []
        self._batch = PendingBatch()
        self._has_failed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, activity: TracebackType | None
    ) -> None:
        """Commit what has arrived and close; after a disk error only close."""
        try:
            if not self._has_failed:
                self.commit()
        finally:
            self._log.close()
            self._journal.close()

    def append_page(self, line: PageLine, events: Sequence[Event]) -> None:
        """Take a page: `line` says what was answered, `events` are those that passed the filter.

        The line's offset, length and hash are filled in when it is written out.
        """
        self._batch.entries.append((line, events))
        self._batch.event_bytes += sum(len(event.raw) for event in events)

    def append_line(self, line: JournalLine) -> None:
        """Take a journal line."""
        self._batch.entries.append((line, None))

    @property
    def pending_bytes(self) -> int:
        """Return how many bytes of events wait for the next commit."""
        return self._batch.event_bytes

    def pop_batch(self) -> PendingBatch:
        """Return what was taken since the last batch, to be written out; called by whoever appends."""
        batch, self._batch = self._batch, PendingBatch()
        return batch

    def write_batch(self, batch: PendingBatch) -> None:
        """Make a batch durable: the log, then the lines that speak of it.

        Raises:
            DiskError: the disk refused; nothing after the last commit counts.
        """
        try:
            lines = list(self._store(batch))
            if lines:
                self._log.flush()
                for line in lines:
                    self._journal.append(encode_line(line))
                self._journal.flush()
        except DiskError:
            self._has_failed = True  # what stands at the files' ends is not known: appending more could hide it
            raise

    def commit(self) -> None:
        """Make everything taken so far durable.

        Raises:
            DiskError: the disk refused; nothing after the last commit counts.
        """
        self.write_batch(self.pop_batch())

    def _store(self, batch: PendingBatch) -> Iterator[JournalLine]:
        """Put a batch's events into the log and the index; yield its lines, a page's with the place of its events."""
        raws = [event.raw for _, events in batch.entries for event in events or ()]
        yield from self._learn(raws)
        frames = iter(self._codec.compress(raws))  # in one call: each waits for Python's lock when it returns
        for line, events in batch.entries:
            if events is None or not isinstance(line, PageLine):
                yield line
                continue
            block, lengths = build_block(list(islice(frames, len(events))))
            offset = self._log.append(block)
            self.index.add(
                events,
                origin=self._origins[line.shard.target],
                offset=offset + measure_head(len(lengths)),
                lengths=lengths,
            )
            digest = hashlib.sha256(block).hexdigest()
            yield msgspec.structs.replace(line, offset=offset, length=len(block), sha256=digest)

    def open_reader(self) -> LogReader:
        """Return a reader of what has been committed."""
        self.commit()
        return LogReader(self._folder.log_path, self._codec)

    def _learn(self, raws: Sequence[bytes]) -> Iterator[DictionaryLine]:
        """Collect samples; once there are enough, put a dictionary into the log and use it from here on."""
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
        """Take bytes and return the offset at which they will stand."""
        offset = self._end
        self._end += len(data)
        self._pending.append(data)
        self.pending_bytes += len(data)
        return offset

    def flush(self) -> None:
        """Write and sync what was taken."""
        if self._pending:
            write_all(self._descriptor, b"".join(self._pending), self._path)
            self._pending.clear()
            self.pending_bytes = 0
            sync_data(self._descriptor, self._path)

    def close(self) -> None:
        os.close(self._descriptor)
