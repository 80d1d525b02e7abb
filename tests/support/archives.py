"""Archives of small commits, written by the commit log itself; and small ones with real segments."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from ociaudit.archive.commit import Answered, Commit, Compartment, ScopeChange, SegmentEntry, Writer
from ociaudit.archive.commit_log import CommitLog, create_archive, lock_archive
from ociaudit.archive.segments import merge_events
from ociaudit.archive.state import ArchiveState
from ociaudit.archive.tail import write_record_ids
from ociaudit.events.event import read_event
from ociaudit.planning.shard import Target, Window, parse_minute
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


REGIONS = ("eu-frankfurt-1", "us-ashburn-1")
PATHS = {
    TENANCY: "root",
    "ocid1.compartment.oc1..prod": "root/production",
    "ocid1.compartment.oc1..pay": "root/production/payments",
    "ocid1.compartment.oc1..test": "root/test",
}
WINDOW = Window(parse_minute("2026-02-25T00:00:00Z"), parse_minute("2026-03-01T00:00:00Z"))
Events = Sequence[tuple[bytes, Target | None]]


def make_event(time: str, number: int, **more: object) -> bytes:
    """Return an event as served; its number is its id."""
    event = {"eventTime": time, "eventId": f"{number:06}", "eventType": "com.oraclecloud.test", **more}
    return json.dumps(event).encode()


def build_archive(
    path: Path,
    batches: Iterable[Events],
    *,
    signing_key: Path | None = None,
    rewrite: Callable[[Path], None] | None = None,
) -> CommitLog:
    """Write an archive with one commit for each batch of events, all of `WINDOW` answered; return its log.

    Replaced segments go to `replaced/`. `rewrite` may change a segment's file before it is committed.
    """
    create_archive(path, tenancy=TENANCY, now=NOW)
    log, state, scratch = CommitLog.open(path), ArchiveState(), path.with_name(f"{path.name}-scratch")
    scratch.mkdir(mode=0o700, exist_ok=True)
    for batch in batches:
        events = sorted(batch, key=lambda item: (read_event(item[0]).order, item[0]))
        merged = merge_events(
            path,
            state.group_segments(),
            events,
            scratch=scratch,
        )
        added = tuple(_describe_again(path, entry, rewrite) for entry in merged.added)
        commit = Commit(
            sequence=log.next_sequence,
            previous=log.previous,
            kind="sync",
            at="2026-03-01T12:31:00Z",
            writer=WRITER,
            run_id=f"run {log.next_sequence}",
            now=WINDOW.end + 10_000,
            start=WINDOW.start,
            end=WINDOW.end,
            settle_minutes=15,
            rings=(120,),
            rings_run=(120,),
            scope=None if state.sequence else _SCOPE,
            answered=(Answered((WINDOW,)),),
            added=added,
            replaced=merged.replaced,
            counts=merged.counts,
        )
        head = log.append(commit, signing_key=signing_key)
        (written,) = log.read_commits(commit.sequence)
        state.apply(written, head.digest)
        write_record_ids(log.folder, commit.sequence, merged.record_ids)
        for name in merged.replaced:
            goal = log.folder.replaced_path(name)
            make_private_folder(goal.parent)
            (path / name).rename(goal)
    log.write_checkpoint(state.encode())
    return log


_SCOPE = ScopeChange(
    added_regions=REGIONS, compartments={ocid: Compartment(name, "ACTIVE") for ocid, name in PATHS.items()}
)


def _describe_again(path: Path, entry: SegmentEntry, rewrite: Callable[[Path], None] | None) -> SegmentEntry:
    if rewrite is None:
        return entry
    rewrite(path / entry.path)
    data = (path / entry.path).read_bytes()
    return msgspec.structs.replace(entry, size_bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


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
