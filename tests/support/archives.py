"""Archives of small commits, written by the commit log itself."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ociaudit.archive.commit import Commit, SegmentEntry, Writer
from ociaudit.archive.commit_log import CommitLog, create_archive, lock_archive
from ociaudit.storage.atomic_io import make_private_folder, write_file

TENANCY = "ocid1.tenancy.oc1..example"
NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)
WRITER = Writer("0.1.0", "1.4.0")


def make_segment(number: int, date: str = "2026-02-28") -> SegmentEntry:
    """Return the entry of a segment, different for each number."""
    rows = hashlib.sha256(b"rows %d" % number).hexdigest()
    file = hashlib.sha256(b"file %d" % number).hexdigest()
    return SegmentEntry(f"events/event_date={date}/{rows[:32]}.parquet", date, 10, 1_000, file, rows)


def make_commit(log: CommitLog, *, added: Iterable[SegmentEntry] = (), reason: str = "") -> Commit:
    """Return the next commit of a log."""
    return Commit(
        sequence=log.next_sequence,
        previous=log.previous,
        kind="sync",
        at="2026-03-01T12:31:00Z",
        writer=WRITER,
        run_id=f"run {log.next_sequence}",
        added=tuple(added),
        reason=reason,
    )


def write_archive(path: Path, count: int, *, signing_key: Path | None = None) -> CommitLog:
    """Create an archive with so many commits and return its log."""
    create_archive(path, tenancy=TENANCY, now=NOW)
    log = CommitLog.open(path)
    for number in range(1, count + 1):
        log.append(make_commit(log, added=[make_segment(number)]), signing_key=signing_key)
    return log


def make_key(path: Path) -> Path:
    """Create an SSH key without a passphrase."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


def main() -> None:
    """Sync like a writer, to be killed at any call: `COUNT PATH [KEY]` brings an archive to so many commits.

    Every acknowledged commit is printed: its sequence and digest.
    """
    count, path = int(sys.argv[1]), Path(sys.argv[2])
    key = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    create_archive(path, tenancy=TENANCY, now=NOW)
    with lock_archive(path):
        log = CommitLog.open(path)
        known = [entry.path for commit in log.read_commits() for entry in commit.added]
        log.recover(known=known)
        while log.next_sequence <= count:
            segment = make_segment(log.next_sequence)
            make_private_folder(log.folder.segment_path(segment.path).parent)
            write_file(log.folder.segment_path(segment.path), b"rows")
            write_file(log.folder.tail_path(log.next_sequence), b"ids")
            head = log.append(make_commit(log, added=[segment]), signing_key=key)
            print(head.sequence, head.digest, flush=True)
            log.write_checkpoint(b"state")
