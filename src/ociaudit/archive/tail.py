"""The tail of an archive: the events of its newest commits, behind a cursor that survives restarts.

Each commit that adds events has a sidecar, `tail/000000000042.ids`, with the SHA-256 of every added event by date. It
says which rows of a segment are new where a date was rewritten, and finds a commit's events again after compaction. Old
sidecars go; a cursor that is older gets the whole dates that such a commit touched, once more.

Invariants
- A commit's events come in one order: by date, then canonical. A cursor is a position in it.
- The caller saves the cursor after it has written the events, so that a crash repeats events and never loses one.
- Memory holds the ids of one date of one commit.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec

from ociaudit.archive.commit import Commit, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.formats.base import Record
from ociaudit.storage.atomic_io import explain_disk, make_private_folder, remove_file, write_file

_MAGIC = b"oci-audit-record-ids/1\n"
_DATE_LINE = re.compile(rb"(\d{4}-\d\d-\d\d|unknown) (\d+)\n")
_ID_BYTES = 32
_NAME = "{:012}.ids"
ReadDate = Callable[[tuple[SegmentEntry, ...]], Iterator[Record]]
"""Reads the rows of a date's segments in canonical order."""


class Cursor(msgspec.Struct, frozen=True):
    """Where a reader is: `position` events of commit `sequence` have been read, and all of the commits before."""

    archive: str
    sequence: int
    position: int = 0
    schema: str = "oci-audit-cursor/1"


@dataclass(frozen=True, slots=True)
class TailedEvent:
    """An event, and the cursor behind it."""

    record: Record
    cursor: Cursor


class RecordIds:
    """Collects the ids of the events that a commit adds, for its sidecar."""

    def __init__(self) -> None:
        """Start without ids."""
        self._by_date: dict[str, bytearray] = {}

    def add(self, date: str, raw: bytes) -> None:
        """Add an event of this date."""
        self._by_date.setdefault(date, bytearray()).extend(hashlib.sha256(raw).digest())

    def write(self, folder: ArchiveFolder, sequence: int) -> None:
        """Write the sidecar of a commit; nothing where the commit adds no event.

        Raises:
            DiskError: it cannot be written.
        """
        if not self._by_date:
            return
        parts = [_MAGIC]
        for date, ids in sorted(self._by_date.items()):
            parts += [f"{date} {len(ids) // _ID_BYTES}\n".encode(), bytes(ids)]
        make_private_folder(folder.tail)
        write_file(folder.tail / _NAME.format(sequence), b"".join(parts))


def read_record_ids(folder: ArchiveFolder, sequence: int) -> dict[str, frozenset[bytes]] | None:
    """Return the ids of the events that a commit added, by date; None if there is no sidecar.

    Raises:
        CorruptRun: the sidecar is damaged.
    """
    path = folder.tail / _NAME.format(sequence)
    with explain_disk("read", path):
        if not path.is_file() or path.is_symlink():
            return None
        data = path.read_bytes()
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
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} is not a cursor of oci-audit tail: {error}", hint="name another file to begin at the first commit"
        ) from error
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


def tail_commits(
    folder: ArchiveFolder,
    commits: Iterable[Commit],
    cursor: Cursor,
    *,
    live: Callable[[], Mapping[str, tuple[SegmentEntry, ...]]],
    read_date: ReadDate,
    on_notice: Callable[[str], None],
) -> Iterator[TailedEvent]:
    """Yield the events of commits behind the cursor, each with the cursor behind it.

    `live` returns the present segments by date. `read_date` looks for a replaced segment where it was moved to.

    Raises:
        CorruptRun: a sidecar or a segment is damaged.
    """
    for commit in commits:
        if commit.sequence < cursor.sequence or commit.kind not in {"sync", "import"} or not commit.added:
            continue
        skip = cursor.position if commit.sequence == cursor.sequence else 0
        records = _read_added(folder, commit, live(), read_date, on_notice)
        for number, record in enumerate(records, 1):
            if number > skip:
                yield TailedEvent(record, Cursor(cursor.archive, commit.sequence, number))


def _read_added(
    folder: ArchiveFolder,
    commit: Commit,
    live: Mapping[str, tuple[SegmentEntry, ...]],
    read_date: ReadDate,
    on_notice: Callable[[str], None],
) -> Iterator[Record]:
    """Yield the events that a commit added, by date and in canonical order."""
    ids = read_record_ids(folder, commit.sequence)
    added: dict[str, list[SegmentEntry]] = {}
    for entry in commit.added:
        added.setdefault(entry.date, []).append(entry)
    if ids is None:
        on_notice(
            f"commit {commit.sequence} is older than its record of new events; the whole of "
            f"{', '.join(sorted(added))} is given again"
        )
    for date, entries in sorted(added.items()):
        present = live.get(date, ())
        sources = tuple(entry for entry in entries if entry in present)
        records = read_date(tuple(entries) if len(sources) == len(entries) else present)
        if ids is None:
            yield from records
        else:
            wanted = ids.get(date, frozenset())
            yield from (one for one in records if hashlib.sha256(one.raw).digest() in wanted)
