"""Archives with real events, grown commit by commit through the archive's own parts, without a service.

Owns: which events a commit adds, and when a date is compacted.
Must not: judge what readers of the archive give.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from ociaudit.archive.commit import Commit
from ociaudit.archive.commit_log import CommitLog, create_archive, lock_archive
from ociaudit.archive.segments import compact_date, merge_events
from ociaudit.archive.tail import write_record_ids
from ociaudit.events.event import read_event
from ociaudit.operations.sync import append_commit, recover_archive
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import make_private_folder
from support.archives import WRITER

TENANCY = "ocid1.tenancy.oc1..example"
TARGET = Target("eu-frankfurt-1", "ocid1.compartment.oc1..a")
NOW = datetime(2026, 3, 1, 12, 30, 15, tzinfo=UTC)


def make_event(number: int, *, date: str = "2025-12-01", **more: object) -> bytes:
    """Return an event; its number makes its time and id."""
    time = f"{date}T{number // 3600 % 24:02}:{number // 60 % 60:02}:{number % 60:02}.000Z"
    return json.dumps({"eventTime": time, "eventId": f"{number:06}", **more}).encode()


def sort_raws(raws: Iterable[bytes]) -> list[bytes]:
    """Return events in canonical order."""
    return sorted(raws, key=lambda raw: (read_event(raw).order, raw))


class EventArchive:
    """An archive that grows by the events that a test names."""

    def __init__(self, path: Path, *, tenancy: str = TENANCY) -> None:
        """Create the archive."""
        self.path = path
        self.scratch = path / "work"
        create_archive(path, tenancy=tenancy, now=NOW)

    def add(self, raws: Sequence[bytes], *, target: Target | None = TARGET, with_ids: bool = True) -> Commit:
        """Commit events as a sync does."""
        with lock_archive(self.path):
            log = CommitLog.open(self.path)
            state = recover_archive(log, now=NOW)
            make_private_folder(self.scratch)
            merged = merge_events(
                self.path,
                state.group_segments(),
                [(raw, target) for raw in sort_raws(raws)],
                scratch=self.scratch,
            )
            shutil.rmtree(self.scratch)
            commit = self._make(log, "sync", added=merged.added, replaced=merged.replaced, counts=merged.counts)
            if with_ids:
                write_record_ids(log.folder, commit.sequence, merged.record_ids)
            return append_commit(log, state, commit, signing_key=None)

    def compact(self, date: str, *, keeps_replaced: bool = False) -> None:
        """Rewrite a date into one segment; without `keeps_replaced` as if a day had passed since."""
        with lock_archive(self.path):
            log = CommitLog.open(self.path)
            state = recover_archive(log, now=NOW)
            make_private_folder(self.scratch)
            entries = state.group_segments()[date]
            entry = compact_date(self.path, date, entries, scratch=self.scratch)
            shutil.rmtree(self.scratch)
            assert entry is not None
            commit = self._make(log, "compaction", added=(entry,), replaced=tuple(one.path for one in entries))
            append_commit(log, state, commit, signing_key=None)
            if not keeps_replaced:
                shutil.rmtree(log.folder.replaced / f"event_date={date}")

    def _make(self, log: CommitLog, kind: str, **facts: object) -> Commit:
        return Commit(
            sequence=log.next_sequence,
            previous=log.previous,
            kind=kind,  # type: ignore[arg-type]
            at="2026-03-01T12:31:00Z",
            writer=WRITER,
            run_id=f"run {log.next_sequence}",
            **facts,  # type: ignore[arg-type]
        )
