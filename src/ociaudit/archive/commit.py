"""The statements of an archive: `archive.json`, HEAD, and the commits, as data.

A commit states what one sync asked, what was answered, what is missing, and which segments hold the events. Commits are
an append-only chain: each names the digest of the one before it, the first that of `archive.json`.

Invariants
- A digest is the SHA-256 of a file's bytes.
- Times are whole minutes since 1970-01-01T00:00Z, except `at`, which is RFC 3339 and for people.
- A commit repeats nothing that an earlier one states: of the scope it holds what has changed.
- A commit contains no key, token, header value or event.
- A path in a valid commit is that of a segment: what a crafted archive names elsewhere is never read or removed.
"""

from __future__ import annotations

import re
from datetime import date
from typing import Literal

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.planning.shard import Gap, Target, Window

ARCHIVE_SCHEMA = "oci-audit-archive/1"
COMMIT_SCHEMA = "oci-audit-commit/1"
UNKNOWN_DATE = "unknown"
"""The date of events whose `eventTime` cannot be read."""
DIGEST = re.compile(r"[0-9a-f]{64}")
DATE_FOLDER = re.compile(rf"event_date=([0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}|{UNKNOWN_DATE})")
SEGMENT_PATH = re.compile(rf"events/{DATE_FOLDER.pattern}/([0-9a-f]{{32}})\.parquet")

CommitKind = Literal["sync", "compaction", "import", "prune"]


class ArchiveHeader(msgspec.Struct, frozen=True, kw_only=True):
    """The file `archive.json`: which archive this is. It never changes."""

    schema: Literal["oci-audit-archive/1"] = "oci-audit-archive/1"
    id: str
    tenancy: str
    created_at: str


class Head(msgspec.Struct, frozen=True):
    """The file `HEAD`: the newest commit."""

    sequence: int
    digest: str


class SegmentEntry(msgspec.Struct, frozen=True, order=True):
    """A segment: one immutable Parquet file with events of one date, in canonical order.

    `path` is relative to the archive, `events/event_date=YYYY-MM-DD/<id>.parquet`. `rows_sha256` covers origin and raw
    event of every row in order; it does not depend on how the Parquet file was written.
    """

    path: str
    date: str
    rows: int
    size_bytes: int
    sha256: str
    rows_sha256: str


class Compartment(msgspec.Struct, frozen=True):
    """A compartment as the service lists it: its path such as `root/production`, and its lifecycle state."""

    path: str
    state: str


class ScopeChange(msgspec.Struct, frozen=True, kw_only=True):
    """What has changed in the scope since the commit before.

    `compartments` are those new or changed, by OCID; `unlisted` are no longer listed.
    """

    added_regions: tuple[str, ...] = ()
    removed_regions: tuple[str, ...] = ()
    compartments: dict[str, Compartment] = {}
    unlisted: tuple[str, ...] = ()


class Selection(msgspec.Struct, frozen=True):
    """What an archive follows, as named: regions and compartments; empty means all. A later commit may only widen it.

    `compartments` are OCIDs. `is_subtree`: whether a compartment includes those below it.
    """

    regions: tuple[str, ...] = ()
    compartments: tuple[str, ...] = ()
    is_subtree: bool = True

    def includes(self, other: Selection) -> bool:
        """Return whether everything in `other` is named here, too."""
        has_regions = not self.regions or (bool(other.regions) and set(other.regions) <= set(self.regions))
        if self.compartments and not (other.compartments and set(other.compartments) <= set(self.compartments)):
            return False
        return has_regions and (self.is_subtree or not self.compartments or not other.is_subtree)


class Answered(msgspec.Struct, frozen=True, omit_defaults=True):
    """Windows that were answered completely for each of some targets; `targets` None: for every other open target.

    `asked_at` is the earliest minute at which they can have been requested; None: the `now` of the commit.
    """

    windows: tuple[Window, ...]
    targets: tuple[Target, ...] | None = None
    asked_at: int | None = None


class TargetWindow(msgspec.Struct, frozen=True, order=True):
    """A window of one target."""

    target: Target
    window: Window


class LateArrivals(msgspec.Struct, frozen=True):
    """Events that appeared after the minute of their `eventTime` had been answered for their target.

    `median_minutes` and `worst_minutes` are how old that minute was when it was last answered without them, so they
    are lower bounds of how late the events appeared. `after_final` of them appeared when that minute was final already.
    """

    count: int = 0
    after_final: int = 0
    median_minutes: int = 0
    worst_minutes: int = 0


class EventCounts(msgspec.Struct, frozen=True):
    """What a commit did with events: `received` = `added` + `known` + `identical` + `reserialised`.

    `identical` repeat another record of the same run, `known` one that the archive has. `conflicting` ids have more
    than one record. `own` of the added events are ListEvents calls of the principal that syncs.
    """

    received: int = 0
    added: int = 0
    known: int = 0
    identical: int = 0
    reserialised: int = 0
    conflicting: int = 0
    own: int = 0


class Writer(msgspec.Struct, frozen=True):
    """The versions that wrote a commit's segments."""

    oci_audit: str
    duckdb: str


class Commit(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="schema", tag="oci-audit-commit/1"
):
    """One commit. In its file, the field `schema` names the format.

    `previous` is the digest of the commit before, or of `archive.json`. `now` is the present that the run trusted: the
    smaller of the local clock and the service's, when it was planned; every window in `answered` was requested then or
    later. `start` is the first minute that the archive is to hold, `end` the end of what was requested. `rings` are
    the rescan rings in force, in minutes, ascending, and `rings_run` those that ran. `answered` are the windows that
    count as covered. `gaps` are open after this commit. `closed` targets answered 404 and are deleted; `lost` windows
    passed out of retention unanswered.
    """

    sequence: int
    previous: str
    kind: CommitKind
    at: str
    run_id: str = ""
    writer: Writer
    key_fingerprint: str | None = None
    """In the first commit: the SHA-256 fingerprint of the key that signs all commits."""
    now: int = 0
    start: int = 0
    end: int = 0
    settle_minutes: int = 0
    rings: tuple[int, ...] = ()
    rings_run: tuple[int, ...] = ()
    retention_days: int | None = None
    requests: int = 0
    selection: Selection | None = None
    """What the archive follows from this commit on; None: as before."""
    scope: ScopeChange | None = None
    answered: tuple[Answered, ...] = ()
    gaps: tuple[Gap, ...] = ()
    waived: tuple[str, ...] = ()
    """Compartments whose denial is known."""
    closed: tuple[Target, ...] = ()
    reopened: tuple[Target, ...] = ()
    lost: tuple[TargetWindow, ...] = ()
    added: tuple[SegmentEntry, ...] = ()
    replaced: tuple[str, ...] = ()
    """Paths of segments that are no longer part of the archive."""
    counts: EventCounts = EventCounts()
    late: LateArrivals = LateArrivals()
    sources: tuple[str, ...] = ()
    """Imported files: `sha256:<64 hex digits> <name>`."""
    reason: str = ""
    """Why events were pruned, in the words of who did it."""


def encode_commit(commit: Commit) -> bytes:
    """Return the bytes of a commit's file."""
    return msgspec.json.encode(commit) + b"\n"


def check_segment_path(path: str, *, where: str) -> None:
    """Check that a path in a commit is that of a segment: `events/event_date=YYYY-MM-DD/<32 hex digits>.parquet`.

    Raises:
        CorruptRun: it is not; `where` names the commit.
    """
    match = SEGMENT_PATH.fullmatch(path)
    if match is None or not _is_date(match[1]):
        raise _refuse(where, f"it names {path!r}, which is not the path of a segment")


def validate_commit(commit: Commit, *, where: str = "") -> None:
    """Check what the type of a commit does not: paths, dates, digests and counts. `where` names the file.

    Raises:
        CorruptRun: something in it cannot be what oci-audit wrote; the message names commit and path.
    """
    where = where or f"commit {commit.sequence}"
    if commit.sequence < 1:
        raise _refuse(where, f"its sequence is {commit.sequence}")
    if not DIGEST.fullmatch(commit.previous):
        raise _refuse(where, "it does not name the commit before")
    if commit.key_fingerprint is not None and commit.sequence > 1:
        raise _refuse(where, "it names a key, which only the first commit does")
    paths = [*(entry.path for entry in commit.added), *commit.replaced]
    for path in paths:
        check_segment_path(path, where=where)
    if len(set(paths)) < len(paths):
        raise _refuse(where, f"it names {next(path for path in paths if paths.count(path) > 1)} twice")
    for entry in commit.added:
        expected = f"events/event_date={entry.date}/{entry.rows_sha256[:32]}.parquet"
        if entry.path != expected or not DIGEST.fullmatch(entry.rows_sha256) or not DIGEST.fullmatch(entry.sha256):
            raise _refuse(where, f"date or digests of {entry.path} do not match its path")
        if entry.rows < 1 or entry.size_bytes < 1:
            raise _refuse(where, f"{entry.path} has {entry.rows} rows in {entry.size_bytes} bytes")


def _refuse(where: str, problem: str) -> CorruptRun:
    return CorruptRun(
        f"{where} is not what oci-audit wrote: {problem}",
        hint="nothing was changed; restore the archive from a backup that you trust",
    )


def _is_date(text: str) -> bool:
    try:
        return text == UNKNOWN_DATE or bool(date.fromisoformat(text))
    except ValueError:
        return False
