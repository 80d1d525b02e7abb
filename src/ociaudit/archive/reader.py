"""An archive open for reading: one commit's view of it, as events, coverage and verdict.

Invariants
- A view is that of one commit: every live segment of it, each row once, in canonical order. It does not change when a
  sync commits meanwhile.
- Readers take no lock. A segment that is replaced meanwhile is read from `replaced/`.
- Nothing is written to the archive.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ociaudit.archive.commit import ArchiveHeader, Commit
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog
from ociaudit.archive.state import ArchiveState, judge_archive
from ociaudit.storage.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive as of its newest commit when it was opened."""

    log: CommitLog
    state: ArchiveState

    @property
    def folder(self) -> ArchiveFolder:
        """Return the paths."""
        return self.log.folder

    @property
    def header(self) -> ArchiveHeader:
        """Return what never changes: id, tenancy, time of creation."""
        return self.log.header

    @property
    def verdict(self) -> Verdict:
        """Return what may be said of the whole archive."""
        return judge_archive(self.state, is_anchored=False)


def open_archive(path: Path) -> Archive:
    """Open an archive for reading.

    Raises:
        UsageError: the folder is not an archive.
        CorruptRun: the chain of commits is damaged, or was written by a newer version.
        DiskError: a file cannot be read.
    """
    log = CommitLog.open(path)
    return Archive(log, load_state(log))


def load_state(log: CommitLog) -> ArchiveState:
    """Return what the commits of an archive add up to: its newest checkpoint, and the commits after that.

    Raises:
        CorruptRun: a commit is missing or damaged.
    """
    checkpoint = log.read_checkpoint()
    state = ArchiveState.decode(checkpoint.data) if checkpoint else ArchiveState()
    held: Commit | None = None
    for commit in log.read_commits(state.sequence + 1):
        if held is not None:
            state.apply(held, commit.previous)
        held = commit
    if held is not None and log.head is not None:
        state.apply(held, log.head.digest)
    return state
