"""The spool: everything a run has received, as an append-only event log and the journal that says what in it counts.

Invariants
- The log is written and synced first, then the journal's lines. Bytes in the log that no line refers to do not count.
- Commits are grouped: the caller that appends commits after `COMMIT_BYTES` of events or `COMMIT_SECONDS`.
- What is appended between two commits is a batch. One thread may append while another writes a batch, so that
  compression, hashing and the disk do not delay requests. Batches are written one at a time, in their order.
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
from ociaudit.storage.event_log import FrameCodec, LogReader, build_block, measure_header, train_dictionary
from ociaudit.storage.journal import DictionaryLine, JournalLine, PageLine, encode_line
from ociaudit.storage.merge import EventIndex
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
