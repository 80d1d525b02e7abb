"""The Delta log of an archive: `events/_delta_log/`, by which engines read the segments as one exact Delta table.

The log is derived from the commits: each commit that adds or replaces segments becomes one entry, with the archive as
`appId` and the commit's sequence as its version. The state of the table is read with delta-rs. Its Python interface can
add files, but not remove others in the same transaction without a change of data, which is what compaction is; so the
entries, lines of JSON of a published format, are written here.

Invariants
- An entry is created whole and exclusively under the next version: a writer that is behind fails, rows never double.
- Entries follow the archive's commits: what a crash between the two left out is written by the next call.
- A table that another program has changed is not written to.
- Nothing here is needed to read the archive. Without its log the table is built again from the live segments.
"""

from __future__ import annotations

import re
import stat
import uuid
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from ociaudit.archive.commit import Commit, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog
from ociaudit.archive.segments import EVENTS_FOLDER
from ociaudit.archive.state import ArchiveState
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.events.columns import ColumnKind
from ociaudit.formats.parquet import SEGMENT_COLUMNS
from ociaudit.storage.atomic_io import create_exclusively, explain_disk, make_private_folder, remove_file
from ociaudit.version import VERSION

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOG_NAME = "_delta_log"
PARTITION = "event_date"
_KEPT = "interval 36500 days"
_PROPERTIES = MappingProxyType(
    {
        "delta.deletedFileRetentionDuration": _KEPT,
        "delta.logRetentionDuration": _KEPT,
        "delta.enableExpiredLogCleanup": "false",
        "delta.checkpointInterval": "2147483647",
    }
)
"""No checkpoints, which would be Parquet files below `events/`, and nothing that any program may clean up."""
_TYPES: MappingProxyType[ColumnKind, str] = MappingProxyType(
    {"text": "string", "time": "timestamp", "integer": "integer", "json": "string"}
)
_PARTIAL = re.compile(r"\.[0-9]{20}\.json(\.[a-z0-9_]+)?\.partial")
_ENTRY = re.compile(rf"{EVENTS_FOLDER}/{LOG_NAME}/[0-9]{{20}}\.json")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")
_REBUILD = "remove the folder, then run: oci-audit sync ARCHIVE --delta; it is built again from the archive"
_Action = dict[str, dict[str, Any]]


def is_log_entry(path: str) -> bool:
    """Return whether a path, relative to an archive, is that of an entry of its Delta log."""
    return _ENTRY.fullmatch(path) is not None


def has_log(folder: ArchiveFolder) -> bool:
    """Return whether an archive has a Delta log.

    Raises:
        DiskError: its folder cannot be inspected.
    """
    with explain_disk("look into", folder.events):
        return (folder.events / LOG_NAME).is_dir()


def check_delta(archive: Path) -> None:
    """Check that an archive can have a Delta log, before any work is done for it.

    Raises:
        UsageError: the package for it is not installed, or it cannot open the folder.
    """
    if _ESCAPE.search(str(archive.absolute())):  # delta-rs decodes the path of a table once too often
        raise UsageError(
            f"--delta cannot open {archive.absolute()}: its path contains a percent sign and two digits",
            hint="move the archive to a folder of another name, or omit --delta",
        )
    try:
        import deltalake  # noqa: F401 - whether it is there is the question
    except ImportError as error:
        raise UsageError(
            "--delta needs the package deltalake, which is not installed",
            hint="install it with: pip install 'oci-audit-streamer[delta]'",
        ) from error


def update_delta(log: CommitLog, state: ArchiveState) -> int:
    """Bring the Delta log up to the newest commit; return how many entries were written. The caller holds the lock.

    `state` is that of the newest commit. Without a log, the first entry has all live segments.

    Raises:
        UsageError: as in `check_delta`, or another program wrote an entry meanwhile.
        CorruptRun: the log is not that of this archive's commits.
        DiskError: it cannot be read or written.
    """
    check_delta(log.folder.path)
    folder = log.folder.events / LOG_NAME
    _check_folder(folder)
    make_private_folder(folder)
    _remove_partial(folder)
    if not any(folder.glob("*.json")):
        if not state.segments:
            return 0
        _write(folder, 0, _make_first(log, state))
        return 1
    table = _open(log.folder.events, folder)
    done = _find_sequence(table, log, folder)
    pending = [one for one in log.read_commits(done + 1) if one.added or one.replaced]
    files = {_strip(uri) for uri in table.file_uris()}
    for commit in pending:
        files = files - {_name(path) for path in commit.replaced} | {_name(one.path) for one in commit.added}
    if files != {_name(path) for path in state.segments}:
        raise CorruptRun(f"{folder} is not the log of this archive: another program has written to it", hint=_REBUILD)
    known = _find_sizes(log, {path for commit in pending for path in commit.replaced})
    for version, commit in enumerate(pending, table.version() + 1):
        _write(folder, version, _make_entry(log, commit, known))
    return len(pending)


def _check_folder(folder: Path) -> None:
    """Check that the log is a folder, if it exists: what a link leads to is not written."""
    with explain_disk("look into", folder):
        try:
            mode = folder.lstat().st_mode
        except FileNotFoundError:
            return
    if not stat.S_ISDIR(mode):
        raise CorruptRun(f"{folder} is a link or a file, not a folder", hint=_REBUILD)


def _remove_partial(folder: Path) -> None:
    """Remove what a killed writer left; engines do not look at it."""
    with explain_disk("list", folder):
        partial = [one for one in folder.iterdir() if _PARTIAL.fullmatch(one.name) and one.is_file()]
    for one in partial:
        remove_file(one)


def _open(events: Path, folder: Path) -> DeltaTable:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    try:
        return DeltaTable(events)
    except (DeltaError, OSError, ValueError) as error:
        text = str(error).partition("\n")[0]
        raise CorruptRun(f"{folder} cannot be read as a Delta log: {text}", hint=_REBUILD) from error


def _find_sequence(table: DeltaTable, log: CommitLog, folder: Path) -> int:
    """Return the commit that the table holds."""
    done = table.transaction_version(log.header.id)
    if done is None:
        raise CorruptRun(f"{folder} is the log of another table, not of this archive", hint=_REBUILD)
    if done >= log.next_sequence:
        raise CorruptRun(
            f"{folder} is at commit {done}, and the archive ends at {log.next_sequence - 1}: it was restored "
            "from an older copy",
            hint=_REBUILD,
        )
    return done


def _find_sizes(log: CommitLog, paths: set[str]) -> dict[str, SegmentEntry]:
    """Return the entries of segments that are replaced, from the commits that added them."""
    if not paths:
        return {}
    return {one.path: one for commit in log.read_commits() for one in commit.added if one.path in paths}


def _make_first(log: CommitLog, state: ArchiveState) -> Iterator[_Action]:
    newest = next(log.read_commits(state.sequence))
    fields = [
        *({"name": one.name, "type": _TYPES[one.kind]} for one in SEGMENT_COLUMNS),
        {"name": PARTITION, "type": "string"},
    ]
    schema = {"type": "struct", "fields": [{**one, "nullable": True, "metadata": {}} for one in fields]}
    yield _describe(newest, "WRITE", {"mode": "Append"})
    yield {"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}
    yield {
        "metaData": {
            "id": str(uuid.UUID(log.header.id)),
            "name": "oci-audit",
            "format": {"provider": "parquet", "options": {}},
            "schemaString": msgspec.json.encode(schema).decode(),
            "partitionColumns": [PARTITION],
            "configuration": dict(_PROPERTIES),
            "createdTime": _to_milliseconds(log.header.created_at),
        }
    }
    yield _state_sequence(log, newest)
    for _, entry in sorted(state.segments.items()):
        yield _add(entry, newest, is_change=True)


def _make_entry(log: CommitLog, commit: Commit, known: dict[str, SegmentEntry]) -> Iterator[_Action]:
    """Yield the actions of a commit; compaction changes no data."""
    is_change = commit.kind != "compaction"
    operation = {"compaction": "OPTIMIZE", "prune": "DELETE"}.get(commit.kind, "WRITE")
    yield _describe(commit, operation, {"mode": "Append"} if operation == "WRITE" else {})
    yield _state_sequence(log, commit)
    for path in commit.replaced:
        entry = known[path]
        yield {
            "remove": {
                "path": _name(path),
                "deletionTimestamp": _to_milliseconds(commit.at),
                "dataChange": is_change,
                "extendedFileMetadata": True,
                "partitionValues": {PARTITION: entry.date},
                "size": entry.size_bytes,
            }
        }
    for entry in commit.added:
        yield _add(entry, commit, is_change=is_change)


def _describe(commit: Commit, operation: str, parameters: dict[str, str]) -> _Action:
    return {
        "commitInfo": {
            "timestamp": _to_milliseconds(commit.at),
            "operation": operation,
            "operationParameters": parameters,
            "engineInfo": f"oci-audit:{VERSION}",
            "sequence": commit.sequence,
        }
    }


def _state_sequence(log: CommitLog, commit: Commit) -> _Action:
    stated = {"appId": log.header.id, "version": commit.sequence, "lastUpdated": _to_milliseconds(commit.at)}
    return {"txn": stated}


def _add(entry: SegmentEntry, commit: Commit, *, is_change: bool) -> _Action:
    return {
        "add": {
            "path": _name(entry.path),
            "partitionValues": {PARTITION: entry.date},
            "size": entry.size_bytes,
            "modificationTime": _to_milliseconds(commit.at),
            "dataChange": is_change,
            "stats": f'{{"numRecords":{entry.rows}}}',
        }
    }


def _write(folder: Path, version: int, actions: Iterable[_Action]) -> None:
    """Create the entry of a version, whole.

    Raises:
        UsageError: there is one already.
        DiskError: it cannot be written.
    """
    path = folder / f"{version:020}.json"
    if not create_exclusively(path, b"".join(msgspec.json.encode(one) + b"\n" for one in actions)):
        raise UsageError(
            f"another program has written {path}",
            hint="only oci-audit may write to this table; run the same command again to see what it did",
        )


def _name(path: str) -> str:
    """Return the path of a segment relative to the table, of the one relative to the archive."""
    return path.removeprefix(f"{EVENTS_FOLDER}/")


def _strip(uri: str) -> str:
    return "/".join(unquote(part) for part in uri.split("/")[-2:])


def _to_milliseconds(time: str) -> int:
    return int(datetime.fromisoformat(time).timestamp() * 1000)
