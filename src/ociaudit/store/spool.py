"""Everything a run has received: the append-only log, and the journal that says what in it counts.

Owns: the writing of both, and the order in which they reach the disk. Must not: ask, or publish.

Invariants
- Log first, synced; then the journal's lines, synced. Bytes in the log that no line names do not count.
- Commits are grouped: whoever appends commits when `is_commit_due`, so at most `COMMIT_BYTES` or
  `COMMIT_SECONDS` of received pages are not yet safe.
- One thread at a time. Memory is the pages since the last commit and the index's chunk.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.events.event import Event
from ociaudit.plan.shard import Place
from ociaudit.store.durable import explain_disk, open_private, sync_data, sync_folder, write_all
from ociaudit.store.frames import BadBlock, FrameCodec, build_block, measure_head, train_dictionary
from ociaudit.store.index import OrderIndex
from ociaudit.store.journal import DictionaryLine, JournalLine, PageLine, encode_line
from ociaudit.store.run_folder import RunFolder

COMMIT_BYTES = 4 * 1024 * 1024
COMMIT_SECONDS = 0.25
_SAMPLE_COUNT = 400
_SAMPLE_BYTES = 4 * 1024 * 1024


class Spool:
    """A run's log and journal, open for appending. Used as a context manager: leaving it commits."""

    def __init__(
        self,
        folder: RunFolder,
        origins: Mapping[Place, int],
        *,
        monotonic: Callable[[], float],
        dictionary: bytes | None = None,
    ) -> None:
        """Open or create both files in `folder`; `origins` numbers the places that events may come from.

        `dictionary` is the one that stands in the log already, if one does.

        Raises:
            DiskError: a file cannot be opened.
        """
        self._folder = folder
        self.index = OrderIndex(folder.path)
        self._origins = origins
        self._monotonic = monotonic
        self._log = _AppendFile(folder.log_path)
        self._journal = _AppendFile(folder.journal_path)
        sync_folder(folder.path)
        self._codec = FrameCodec(dictionary)
        self._samples: list[bytes] | None = None if dictionary else []
        self._lines: list[JournalLine] = []
        self._committed_at = monotonic()
        self._has_failed = False

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit what has arrived and close; after a disk error only close."""
        try:
            if not self._has_failed:
                self.commit()
        finally:
            self._log.close()
            self._journal.close()

    def append_page(self, line: PageLine, events: list[Event]) -> None:
        """Take a page: `line` says what was answered, `events` are those that passed the filter.

        The line's offset, length and hash are filled in here.

        Raises:
            DiskError: the disk refused; nothing after the last commit counts.
        """
        self._learn(events)
        block, lengths = build_block(self._codec.compress([event.raw for event in events]))
        offset = self._log.append(block)
        self.index.add(
            events,
            origin=self._origins[line.shard.place],
            offset=offset + measure_head(len(lengths)),
            lengths=lengths,
        )
        digest = hashlib.sha256(block).hexdigest()
        self.append_line(msgspec.structs.replace(line, offset=offset, length=len(block), sha256=digest))

    def append_line(self, line: JournalLine) -> None:
        """Take a journal line."""
        self._lines.append(line)

    @property
    def is_commit_due(self) -> bool:
        """Tell whether enough has been taken, or long enough ago, to commit it."""
        return self._log.pending_bytes >= COMMIT_BYTES or self._monotonic() - self._committed_at >= COMMIT_SECONDS

    def commit(self) -> None:
        """Make everything taken so far durable: the log, then the lines that speak of it.

        Raises:
            DiskError: the disk refused.
        """
        try:
            self._write_out()
        except DiskError:
            self._has_failed = True  # what stands at the files' ends is not known: appending more could hide it
            raise
        self._committed_at = self._monotonic()

    def _write_out(self) -> None:
        if self._lines:
            self._log.flush()
            for line in self._lines:
                self._journal.append(encode_line(line))
            self._journal.flush()
            self._lines.clear()

    def open_reader(self) -> LogReader:
        """Return a reader of what has been committed."""
        self.commit()
        return LogReader(self._folder.log_path, self._codec)

    def _learn(self, events: list[Event]) -> None:
        """Collect samples; once there are enough, put a dictionary into the log and use it from here on."""
        if self._samples is None:
            return
        self._samples.extend(event.raw for event in events[: _SAMPLE_COUNT - len(self._samples)])
        if len(self._samples) < _SAMPLE_COUNT and sum(map(len, self._samples)) < _SAMPLE_BYTES:
            return
        dictionary = train_dictionary(self._samples)
        self._samples = None
        if dictionary is not None:
            self._codec = FrameCodec(dictionary)
            offset = self._log.append(dictionary)
            digest = hashlib.sha256(dictionary).hexdigest()
            self._lines.append(DictionaryLine(offset, len(dictionary), digest))


class LogReader:
    """Reads single events out of the log."""

    def __init__(self, path: Path, codec: FrameCodec) -> None:
        """Open the log at `path`.

        Raises:
            DiskError: it cannot be opened.
        """
        self._path = path
        self._codec = codec
        self._descriptor = open_private(path, os.O_RDONLY)

    def read(self, offset: int, length: int) -> bytes:
        """Return the event whose frame stands at `offset`.

        Raises:
            DiskError: the log cannot be read.
            CorruptRun: no frame stands there.
        """
        try:
            frame = os.pread(self._descriptor, length, offset)
        except OSError:
            with explain_disk("read", self._path):
                raise
        try:
            return self._codec.decompress(frame)
        except BadBlock as error:
            raise CorruptRun(
                f"{self._path} is damaged at byte {offset}: {error}",
                hint="run the same command again: damaged pages are found and asked again",
            ) from error

    def close(self) -> None:
        """Close the log."""
        os.close(self._descriptor)


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
