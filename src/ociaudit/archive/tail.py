"""The tail of an archive: the events of its newest commits, after a cursor that survives restarts.

A commit's events come by date, in canonical order. As long as the segments that it added are live, they are what it
added. Where a date was rewritten or compacted since, the commit's sidecar `tail/000000000042.ids`, which holds the
SHA-256 of every event that it added, finds them again. Old sidecars go; the dates of commits that have none are given
as a whole, once for all of these commits.

Invariants
- The cursor is saved after the events before it were written: a crash repeats events and never loses one.
- A position within a date is valid for the segments it was counted in. Where these have changed, the date begins again.
- A cursor names the commit before it by its digest, so that it cannot continue in another history.
- Memory holds the ids of one commit, and a batch.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from ociaudit.archive.commit import Commit, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog
from ociaudit.archive.reader import Archive, open_archive
from ociaudit.archive.segments import open_engine, read_date
from ociaudit.errors import CorruptRun, UsageError, format_count
from ociaudit.formats.base import Record
from ociaudit.planning.shard import format_minute
from ociaudit.storage.atomic_io import (
    check_replaceable,
    explain_disk,
    make_private_folder,
    new_file,
    remove_file,
    write_all,
    write_file,
)

_MAGIC = b"oci-audit-record-ids/1\n"
_DATE_LINE = re.compile(rb"(\d{4}-\d\d-\d\d|unknown) (\d{1,12})\n")
_ID_BYTES = 32
_BATCH_EVENTS = 500
_FLUSH_BYTES = 256 * 1024
_FLUSH_EVENTS = 20_000
"""After so many events that a filter drops, the cursor is saved."""
_BEGIN_AGAIN = "remove the file to begin at the first commit; every event is then given again"


class Cursor(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Where a reader is: all commits before `sequence` have been read, and of that commit all dates before `date`.

    `previous` is the digest of the commit before `sequence`. Of the events of `date`, `position` have been read, which
    were counted in the segments that `view` identifies.
    """

    schema: Literal["oci-audit-cursor/1"]
    archive: str
    sequence: int
    previous: str
    date: str = ""
    position: int = 0
    view: str = ""


class Batch(NamedTuple):
    """Events, possibly none, and the cursor after them."""

    records: list[Record]
    cursor: Cursor


def write_record_ids(folder: ArchiveFolder, sequence: int, ids: Mapping[str, bytes]) -> None:
    """Write the sidecar of a commit; nothing where the commit adds no event.

    `ids` holds the SHA-256 of every event that the commit adds, 32 bytes each, by date.

    Raises:
        DiskError: it cannot be written.
    """
    if not ids:
        return
    make_private_folder(folder.tail)
    path = folder.tail_path(sequence)
    with new_file(path) as descriptor:  # not joined first: a first sync may add millions
        write_all(descriptor, _MAGIC, path)
        for date, some in sorted(ids.items()):
            write_all(descriptor, f"{date} {len(some) // _ID_BYTES}\n".encode(), path)
            write_all(descriptor, some, path)


def read_record_ids(folder: ArchiveFolder, sequence: int) -> dict[str, frozenset[bytes]] | None:
    """Return the ids of the events that a commit added, by date; None if there is no sidecar.

    Raises:
        CorruptRun: the sidecar is damaged.
        DiskError: it cannot be read.
    """
    path = folder.tail_path(sequence)
    with explain_disk("read", path):
        if not path.is_file() or path.is_symlink():
            return None
        try:
            data = path.read_bytes()
        except FileNotFoundError:  # a sync has just removed it
            return None
    position, found = len(_MAGIC), {}
    while data.startswith(_MAGIC) and position < len(data):
        line = _DATE_LINE.match(data, position)
        end = line.end() + int(line[2]) * _ID_BYTES if line else 0
        if line is None or end > len(data):
            break
        ids = range(line.end(), end, _ID_BYTES)
        found[line[1].decode()] = frozenset(data[start : start + _ID_BYTES] for start in ids)
        position = end
    if position != len(data):
        raise CorruptRun(f"{path} is damaged", hint="remove it; events of that commit are then read by whole dates")
    return found


def drop_record_ids(folder: ArchiveFolder, *, before: datetime) -> int:
    """Remove the sidecars that were written before a moment; return how many.

    Raises:
        DiskError: one cannot be removed.
    """
    with explain_disk("list", folder.tail):
        paths = sorted(folder.tail.glob("*.ids")) if folder.tail.is_dir() else []
        old = [path for path in paths if path.lstat().st_mtime < before.timestamp()]
    for path in old:
        remove_file(path)
    return len(old)


def check_cursor_path(path: Path, archive: Path) -> None:
    """Check that a cursor can be kept in a file, before any event is given.

    Raises:
        UsageError: it is a folder or a device, or inside the archive.
        DiskError: its folder cannot be inspected.
    """
    check_replaceable(path, option="--cursor")
    with explain_disk("look at", path):
        parent = path.absolute().parent
        is_inside = archive.resolve() in (parent.resolve() / path.name).parents
    if is_inside:
        raise UsageError(f"the cursor {path} is inside the archive", hint="keep it outside, beside what reads events")


def load_cursor(path: Path, archive_id: str) -> Cursor | None:
    """Return the cursor in a file; None if there is no such file.

    Raises:
        UsageError: it belongs to another archive, or is not a cursor.
        DiskError: it cannot be read.
    """
    with explain_disk("read", path):
        if not path.exists():
            return None
        data = path.read_bytes()
    try:
        cursor = msgspec.json.decode(data, type=Cursor)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise UsageError(f"{path} is not a cursor of oci-audit tail: {error}", hint=_BEGIN_AGAIN) from error
    if cursor.sequence < 1 or cursor.position < 0:
        raise UsageError(f"{path} is not a cursor of oci-audit tail: it names no position", hint=_BEGIN_AGAIN)
    if cursor.archive != archive_id:
        raise UsageError(
            f"{path} is the cursor of another archive",
            hint="name another file with --cursor to begin at the first commit of this archive",
        )
    return cursor


def save_cursor(path: Path, cursor: Cursor) -> None:
    """Write the cursor durably.

    Raises:
        DiskError: it cannot be written.
    """
    write_file(path, msgspec.json.encode(cursor) + b"\n")


def make_first_cursor(log: CommitLog) -> Cursor:
    """Return the cursor before an archive's first commit."""
    return Cursor(schema="oci-audit-cursor/1", archive=log.header.id, sequence=1, previous=log.origin)


def read_tail(
    archive: Archive, cursor: Cursor, *, scratch: Path, on_notice: Callable[[str], None] = lambda _: None
) -> Iterator[Batch]:
    """Yield the events of the commits after a cursor up to the newest, each batch with the cursor after it.

    `scratch` is a private folder that nothing else uses meanwhile. `on_notice` gets sentences for a person: what is
    given again, and what is no longer there.

    Raises:
        UsageError: the cursor is not one of this archive's history.
        CorruptRun: a commit or a segment is missing or damaged.
    """
    return _Tail(archive, scratch, on_notice).read(cursor)


class _Part(NamedTuple):
    """The events of one date of a commit: what is read, and how.

    `added`: the segments are what the commit added. `ids`: the sidecar says which of their rows. `whole`: all rows.
    """

    date: str
    how: Literal["added", "ids", "whole"]
    entries: tuple[SegmentEntry, ...]

    @property
    def view(self) -> str:
        """Return what identifies the rows that a position counts."""
        text = "\n".join([self.how, *(one.path for one in self.entries)])
        return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Tail:
    """One reading of an archive's tail."""

    def __init__(self, archive: Archive, scratch: Path, on_notice: Callable[[str], None]) -> None:
        self._archive, self._scratch, self._on_notice = archive, scratch, on_notice
        self._live = archive.state.group_segments()
        self._digests: dict[int, str] = {}
        self._prunes: list[tuple[int, str]] = []
        """The sequences of the commits that pruned, and the date before which each did."""
        self._ids: tuple[int, dict[str, frozenset[bytes]] | None] = (0, None)

    def read(self, cursor: Cursor) -> Iterator[Batch]:
        """Yield the batches after a cursor."""
        log = self._archive.log
        commits = self._list_commits(cursor)
        if not commits:
            if cursor.sequence < log.next_sequence:
                yield Batch([], self._place(cursor, log.next_sequence, log.previous))
            return
        plans = self._plan(commits)
        with open_engine(self._scratch) as engine:
            for commit in commits:
                for part in plans[commit.sequence]:
                    if commit.sequence == cursor.sequence and part.date < cursor.date:
                        continue
                    start = self._place(cursor, commit.sequence, commit.previous, part)
                    is_same = start == msgspec.structs.replace(cursor, position=0)
                    done = cursor.position if is_same else 0
                    records = self._read_part(commit, part, engine)
                    for _ in islice(records, done):
                        pass
                    while batch := list(islice(records, _BATCH_EVENTS)):
                        done += len(batch)
                        yield Batch(batch, msgspec.structs.replace(start, position=done))
                yield Batch([], self._place(cursor, commit.sequence + 1, self._digests[commit.sequence]))
        yield Batch([], self._place(cursor, log.next_sequence, log.previous))

    def _place(self, cursor: Cursor, sequence: int, previous: str, part: _Part | None = None) -> Cursor:
        date, view = (part.date, part.view) if part else ("", "")
        return msgspec.structs.replace(cursor, sequence=sequence, previous=previous, date=date, position=0, view=view)

    def _list_commits(self, cursor: Cursor) -> list[Commit]:
        """Return the commits from the cursor on that add events; note what was pruned, and the digests after them."""
        log = self._archive.log
        if cursor.sequence > log.next_sequence:
            raise UsageError(
                f"the cursor is at commit {cursor.sequence} and the archive ends at {log.next_sequence - 1}: "
                "the archive was restored from an older copy",
                hint=_BEGIN_AGAIN,
            )
        commits: list[Commit] = []
        last = 0
        previous = log.previous
        for commit in log.read_commits(cursor.sequence):
            if last:
                self._digests[last] = commit.previous
            else:
                previous = commit.previous
            last = commit.sequence
            if commit.kind in {"sync", "import"} and commit.added:
                commits.append(commit)
            if commit.kind == "prune":
                self._prunes.append((commit.sequence, format_minute(commit.start)[:10]))
        self._digests[last] = log.previous
        if previous != cursor.previous:
            raise UsageError(
                f"commit {cursor.sequence - 1}, which the cursor follows, is not in this archive: "
                "the archive was restored from a copy and has other commits since then",
                hint=_BEGIN_AGAIN,
            )
        return commits

    def _plan(self, commits: Sequence[Commit]) -> dict[int, list[_Part]]:
        """Decide how the events of each commit are found; report what is given again and what was pruned."""
        plans: dict[int, list[_Part]] = {}
        last_whole: dict[str, int] = {}
        gone: dict[str, None] = {}
        for commit in commits:
            is_found = self._archive.folder.tail_path(commit.sequence).is_file()
            rewritten = {path.split("/")[1].removeprefix("event_date=") for path in commit.replaced}
            for date, entries in _group(commit.added):
                if any(commit.sequence < sequence and date < before for sequence, before in self._prunes):
                    gone[date] = None
                    continue
                part = _Part(date, "ids" if is_found else "whole", self._live.get(date, ()))
                if date not in rewritten and all(one.path in self._archive.state.segments for one in entries):
                    part = _Part(date, "added", entries)
                plans.setdefault(commit.sequence, []).append(part)
                if part.how == "whole":
                    last_whole[date] = commit.sequence
        if gone:
            self._on_notice(f"events of {_name_dates(gone)} were pruned before they were read here")
        if last_whole:
            self._on_notice(
                f"the record of what was new goes back less far than the cursor: {_name_dates(last_whole)} "
                f"{'is' if len(last_whole) == 1 else 'are'} given as a whole, and events of "
                f"{'it' if len(last_whole) == 1 else 'them'} may come again"
            )
        return {
            commit.sequence: [
                part
                for part in plans.get(commit.sequence, ())
                if part.how != "whole" or last_whole[part.date] == commit.sequence
            ]
            for commit in commits
        }

    def _read_part(self, commit: Commit, part: _Part, engine: object) -> Iterator[Record]:
        """Yield the events of a date of a commit."""
        ids = self._read_ids(commit, part) if part.how == "ids" else None
        found = 0
        for record in self._read_rows(part, engine):
            if ids is None:
                yield record
            elif hashlib.sha256(record.raw).digest() in ids:
                found += 1
                yield record
        if ids is not None and found < len(ids):
            # A record of which smaller bytes came later has another id now.
            self._on_notice(
                f"{format_count(len(ids) - found, 'event')} of commit {commit.sequence} came again in other bytes "
                f"since: the whole of {part.date} is given again"
            )
            yield from (one for one in self._read_rows(part, engine) if hashlib.sha256(one.raw).digest() not in ids)

    def _read_rows(self, part: _Part, engine: object) -> Iterator[Record]:
        return read_date(self._archive.folder.path, part.entries, scratch=self._scratch, engine=engine)  # type: ignore[arg-type]

    def _read_ids(self, commit: Commit, part: _Part) -> frozenset[bytes] | None:
        """Return the ids of a date of a commit; None if its sidecar is gone or damaged, so that all rows count."""
        if self._ids[0] != commit.sequence:
            try:
                self._ids = (commit.sequence, read_record_ids(self._archive.folder, commit.sequence))
            except CorruptRun as error:
                self._on_notice(f"{error}: the dates of commit {commit.sequence} are given as a whole")
                self._ids = (commit.sequence, None)
        found = self._ids[1]
        return None if found is None else found.get(part.date)


def _group(entries: Iterable[SegmentEntry]) -> list[tuple[str, tuple[SegmentEntry, ...]]]:
    by_date: dict[str, list[SegmentEntry]] = {}
    for entry in sorted(entries):
        by_date.setdefault(entry.date, []).append(entry)
    return [(date, tuple(some)) for date, some in sorted(by_date.items())]


def _name_dates(dates: Collection[str]) -> str:
    ordered = sorted(dates)
    if len(ordered) <= 2:
        return " and ".join(ordered)
    return f"{format_count(len(ordered), 'date')} from {ordered[0]} to {ordered[-1]}"


@dataclass(frozen=True, slots=True)
class TailOutput:
    """Where events go: `encode` returns the lines to write for some records, `write` writes them and returns then.

    `wait` waits about a second for the next commit; None ends at the newest commit. `check` may raise to stop; it is
    called only where the saved cursor is after everything that was written.
    """

    encode: Callable[[Sequence[Record]], Sequence[bytes]]
    write: Callable[[bytes], None]
    check: Callable[[], None]
    wait: Callable[[], None] | None = None


def tail_archive(
    path: Path,
    output: TailOutput,
    *,
    cursor_path: Path | None,
    scratch: Path,
    on_notice: Callable[[str], None] = lambda _: None,
) -> int:
    """Write the events after the cursor in a file, from the first commit on if there is no file; return how many.

    The cursor is saved each time after events were written. Without `output.wait` this returns at the newest commit.

    Raises:
        UsageError: `path` is not an archive, or the cursor is not one of it.
        CorruptRun: the archive is damaged.
        DiskError: something cannot be read or written.
    """
    archive = open_archive(path)
    cursor: Cursor | None = None
    if cursor_path is not None:
        check_cursor_path(cursor_path, path)
        cursor = load_cursor(cursor_path, archive.header.id)
    writer = _TailWriter(output, cursor_path, cursor or make_first_cursor(archive.log))
    writer.save()  # what cannot be saved is known before the first event is given
    while True:
        try:
            for batch in read_tail(archive, writer.cursor, scratch=scratch, on_notice=on_notice):
                writer.add(batch)
            writer.flush()
        except CorruptRun:
            writer.flush()
            if CommitLog.open(path).head == archive.log.head:
                raise
            # A reader that paused for a day misses segments that were replaced meanwhile; a new view has the others.
        else:
            if output.wait is None:
                return writer.written
            while CommitLog.open(path).head == archive.log.head:
                output.wait()
        archive = open_archive(path)


class _TailWriter:
    """Writes events in portions, and saves the cursor after each."""

    def __init__(self, output: TailOutput, path: Path | None, cursor: Cursor) -> None:
        self._output, self._path = output, path
        self._lines: list[bytes] = []
        self._bytes = self._events = 0
        self._saved: Cursor | None = None
        self.cursor = cursor
        """The one after everything added, written or not."""
        self.written = 0

    def add(self, batch: Batch) -> None:
        """Take a batch, and write everything so far if it is enough."""
        self._output.check()
        lines = self._output.encode(batch.records) if batch.records else ()
        self._lines += lines
        self._bytes += sum(map(len, lines))
        self._events += len(batch.records)
        self.cursor = batch.cursor
        if self._bytes >= _FLUSH_BYTES or self._events >= _FLUSH_EVENTS:
            self.flush()

    def flush(self) -> None:
        """Write what was added, then save the cursor."""
        lines, self._lines, self._bytes, self._events = self._lines, [], 0, 0
        if lines:
            self._output.write(b"".join(line + b"\n" for line in lines))
            self.written += len(lines)
        if self.cursor != self._saved:
            self.save()

    def save(self) -> None:
        """Save the cursor."""
        if self._path is not None:
            save_cursor(self._path, self.cursor)
        self._saved = self.cursor
