"""Changes of an archive that no sync makes: files are imported, old dates are pruned. Each is one commit of the chain.

An export of our own, with its manifest, is as good as a sync where it holds everything as served: its events count, and
so does its coverage. Of any other file only the events count.

Invariants
- Everything that can be wrong with a file is known before the archive changes.
- A window of an export counts as asked when the export began, or now where that is said to be later: at the earliest.
- An import never widens what the archive follows, nor what it must hold, unless what it adds is without holes.
- Pruning takes whole dates. What was pruned is not requested again; an event of such a date that the service shows
  later, or that is imported, is kept until the next pruning.
- Pruned segments move to `replaced/` like any replaced one, and go with it a day later.
"""

from __future__ import annotations

import contextlib
import heapq
import shlex
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import msgspec

from ociaudit.archive.commit import UNKNOWN_DATE, Answered, Commit, Compartment, EventCounts, ScopeChange, SegmentEntry
from ociaudit.archive.commit_log import CommitLog, create_archive, is_archive, lock_archive
from ociaudit.archive.inputs import FileInput, expand_path
from ociaudit.archive.reader import open_archive
from ociaudit.archive.segments import MergeResult, merge_events, name_date, open_engine, read_date
from ociaudit.archive.state import ArchiveState, find_retention_start
from ociaudit.archive.tail import write_record_ids
from ociaudit.clock import Clock
from ociaudit.errors import CorruptRun, UnreadableInput, UsageError, format_count
from ociaudit.events.event import read_event
from ociaudit.events.filters import FilterSpec
from ociaudit.events.redaction import MARK
from ociaudit.formats.base import Record
from ociaudit.formats.reader import open_records
from ociaudit.operations.context import Callbacks, Cancellation
from ociaudit.operations.convert import OrderedRecords, choose_inputs, order_records
from ociaudit.operations.sync import append_commit, check_space, make_writer, recover_archive
from ociaudit.operations.verify import verify_export
from ociaudit.planning.shard import AskedSpan, Target, Window, floor_minute, format_second
from ociaudit.planning.time_range import parse_date
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.ledger import open_origins
from ociaudit.storage.manifest import Manifest, check_signing_key, load_manifest, name_manifest
from ociaudit.storage.merge import digest_value
from ociaudit.storage.verdict import hash_file

_NOTHING_ADDED = "before anything was added"
_SHORTEST_RETENTION_DAYS = 90
"""Assumed where an export could not read the retention period: then less of it counts as covered."""
_MARK = MARK.encode()
_Ordered = tuple[bytes, bytes]
"""A record as (order, raw)."""


@dataclass(frozen=True, slots=True)
class ImportedFile:
    """A file that is imported. `manifest` is None for files that are not exports of ours.

    `why_not` says why its coverage does not count; empty: it does.
    """

    path: Path
    sha256: str
    size_bytes: int
    manifest: Manifest | None
    why_not: str = ""

    @property
    def source(self) -> str:
        """Return how the commit names the file: a name that is not UTF-8 is replaced in part."""
        return f"sha256:{self.sha256} {self.path.name.encode(errors='replace').decode()}"


@dataclass(slots=True)
class ImportResult:
    """What an import added, or would add. `commit` is None where nothing was new, and in a dry run.

    `read` counts the events of the files, `added` those that the archive did not have. `skipped_targets` were covered
    by exports, and are not in the archive's scope.
    """

    files: tuple[ImportedFile, ...]
    read: int = 0
    added: int = 0
    added_by_date: dict[str, int] = field(default_factory=dict)
    covered_minutes: int = 0
    """How many minutes of targets are covered that were not before."""
    skipped_targets: int = 0
    is_new: bool = False
    """Whether the archive was, or would be, created."""
    commit: Commit | None = None


def import_files(
    archive: Path,
    paths: Sequence[Path],
    *,
    clock: Clock,
    is_dry_run: bool = False,
    signing_key: Path | None = None,
    callbacks: Callbacks | None = None,
    cancellation: Cancellation | None = None,
) -> ImportResult:
    """Add the events of files to an archive, and what exports of ours cover; return what was added.

    Raises:
        UsageError: a file is missing, an export is of another tenancy, redacted, or named twice; there is no archive
            and no export says whose it would be; another process is writing to it.
        CorruptRun: an export or its manifest is altered, a file is damaged or holds what is not an event, or the
            archive is damaged.
        DiskError: something cannot be read or written.
        Interrupted: a stop was requested; nothing was added.
    """
    watch, cancelled = callbacks or Callbacks(), cancellation or Cancellation()
    if signing_key is not None:
        check_signing_key(signing_key)
    now = clock.now()
    chosen = choose_inputs([FileInput(file) for path in paths for file in expand_path(path)], watch)
    files = []
    for path in (source.path for source in chosen if source.path is not None):
        cancelled.check(_NOTHING_ADDED, is_kept=False)
        files.append(_examine(path))
    tenancy = _choose_tenancy(archive, files)
    work = _Import(archive, files, watch, cancelled, floor_minute(now))
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as temporary, work.order(Path(temporary)) as ordered:
        if is_dry_run:
            work.preview(ordered, Path(temporary))
            return work.result
        create_archive(archive, tenancy=tenancy, now=now)
        with lock_archive(archive):
            log = CommitLog.open(archive)
            log.check_key(signing_key)
            state = recover_archive(log, now=now)
            check_space(log.folder, "this import", sum(one.size_bytes for one in files))
            work.commit(log, state, ordered, Path(temporary), at=now, signing_key=signing_key)
    return work.result


def _examine(path: Path) -> ImportedFile:
    """Check a file, and against its manifest if it has one.

    Raises:
        UsageError: it is not a file, or redacted.
        CorruptRun: it is not the file of its manifest, or the manifest is altered.
        DiskError: it cannot be read.
    """
    with explain_disk("read", path):
        if not path.is_file():
            raise UsageError(f"{path} is not a plain file", hint="save what it gives in a file, and import that")
    sha256, size = hash_file(path)
    if load_manifest(name_manifest(path)) is None:
        return ImportedFile(path, sha256, size, None, "there is no manifest beside it")
    verification = verify_export(path)
    manifest = verification.manifest
    if manifest.redaction is not None or manifest.arguments.redact:
        raise UsageError(
            f"{path} is redacted; an archive holds events as the service returned them",
            hint="import the export from before the redaction",
        )
    if verification.problems:
        problem = verification.problems[0]
        raise CorruptRun(
            f"{path} or its manifest is altered: {problem.file}: {problem.text}",
            hint=f"see everything that is wrong with: oci-audit verify {shlex.quote(str(path))}, "
            "then restore both from a copy",
        )
    return ImportedFile(path, sha256, size, manifest, _explain_partial(manifest))


def _explain_partial(manifest: Manifest) -> str:
    """Return why an export's coverage does not count: some events of its windows are not in it as served."""
    arguments = manifest.arguments
    if arguments.whole_filter != FilterSpec() or manifest.totals.filtered > manifest.totals.outside_event_range:
        return "it is filtered"
    if arguments.source != "list-events":
        return "it was read from Logging Search, not from ListEvents"
    if manifest.event_range is not None:
        return "it holds a range of event time, which leaves out events of its windows"
    if arguments.shape != "api":
        return f"its events have the shape {arguments.shape}, not the one served"
    return ""


def _choose_tenancy(archive: Path, files: Sequence[ImportedFile]) -> str:
    """Return the tenancy of an archive, or of the one to be created.

    Raises:
        UsageError: an export is of another tenancy, or no file says of which it is.
    """
    tenancy = open_archive(archive).header.tenancy if is_archive(archive) else ""
    where = f"the archive {archive}" if tenancy else ""
    for one in files:
        if one.manifest is None:
            continue
        stated = one.manifest.asked_by.tenancy
        if tenancy and stated != tenancy:
            raise UsageError(
                f"{one.path} is an export of the tenancy {stated}, and {where} is of {tenancy}",
                hint="an archive holds one tenancy: import this file into another folder",
            )
        tenancy, where = stated, where or str(one.path)
    if not tenancy:
        raise UsageError(
            f"{archive} is not an archive, and no file with a manifest says whose events it would hold",
            hint=f"create it first with: oci-audit sync {shlex.quote(str(archive))}",
        )
    return tenancy


class _Import:
    """One import, from the files' records to the commit."""

    def __init__(
        self,
        archive: Path,
        files: Sequence[ImportedFile],
        callbacks: Callbacks,
        cancellation: Cancellation,
        now: int,
    ) -> None:
        self._archive, self._files = archive, tuple(files)
        self._callbacks, self._cancellation, self._now = callbacks, cancellation, now
        self.result = ImportResult(self._files, is_new=not is_archive(archive))

    @contextlib.contextmanager
    def order(self, scratch: Path) -> Iterator[OrderedRecords]:
        """Read all files, and yield their records ready to be iterated in canonical order."""
        manifests = [one.manifest for one in self._files if one.manifest is not None]
        targets = sorted({entry.target for manifest in manifests for entry in manifest.coverage})
        with order_records(scratch / "order", self._read(), targets) as ordered:
            yield ordered

    def _read(self) -> Iterator[list[Record]]:
        for one in self._files:
            marked = 0
            origins = open_origins(one.path) if one.manifest is not None else None
            with open_records(one.path, origins=origins, on_incomplete=self._callbacks.on_notice) as source:
                for batch in source:
                    self._cancellation.check(_NOTHING_ADDED, is_kept=False)
                    self.result.read += len(batch)
                    marked += sum(_MARK in record.raw for record in batch)
                    yield batch
                if source.kinds["unknown"]:
                    raise UnreadableInput(
                        f"{one.path} holds {format_count(source.kinds['unknown'], 'object')} that "
                        f"{'is' if source.kinds['unknown'] == 1 else 'are'} not audit events",
                        hint=f"keep its events alone with: oci-audit convert {shlex.quote(str(one.path))} "
                        "--event-type . -o events.json",
                    )
            if marked and one.manifest is None:
                self._callbacks.on_notice(
                    f"{one.path}: {format_count(marked, 'event')} with {MARK} in it: it may have been redacted"
                )

    def preview(self, ordered: OrderedRecords, scratch: Path) -> None:
        """Count what would be added."""
        state = ArchiveState()
        if not self.result.is_new:
            state = open_archive(self._archive).state
        live = state.group_segments()
        with open_engine(scratch) as engine:
            for date, group in groupby(_order(ordered.iterate()), key=lambda one: name_date(one[0])):
                stored = read_date(self._archive, live.get(date, ()), scratch=scratch, engine=engine)
                added = self._count_new(group, _order(stored) if date in live else iter(()))
                if added:
                    self.result.added_by_date[date] = added
        self.result.added = sum(self.result.added_by_date.values())
        self._state_coverage(
            state, Commit(sequence=state.sequence + 1, previous="", kind="import", at="", writer=make_writer())
        )

    def _count_new(self, new: Iterable[_Ordered], stored: Iterable[_Ordered]) -> int:
        """Return how many records of a date are not stored, in these bytes or as the same JSON value in others."""
        count = 0
        merged = heapq.merge(((*one, False) for one in stored), ((*one, True) for one in new))
        for _, some in groupby(merged, key=itemgetter(0)):
            self._cancellation.check(_NOTHING_ADDED, is_kept=False)
            known: list[bytes] = []
            arrived: list[bytes] = []
            for _, raw, is_new in some:
                (arrived if is_new else known).append(raw)
            values = set(map(digest_value, known)) if arrived else set()
            count += sum(raw not in known and digest_value(raw) not in values for raw in arrived)
        return count

    def commit(
        self,
        log: CommitLog,
        state: ArchiveState,
        ordered: OrderedRecords,
        scratch: Path,
        *,
        at: datetime,
        signing_key: Path | None,
    ) -> None:
        """Merge the records with the archive, and commit what is new."""
        by_date = self.result.added_by_date

        def record(_: bytes, __: Target | None, order: bytes) -> None:
            date = name_date(order)
            by_date[date] = by_date.get(date, 0) + 1

        merged = merge_events(
            self._archive, state.group_segments(), self._iterate(ordered), scratch=scratch, on_added=record
        )
        self.result.added = merged.counts.added
        commit = Commit(
            sequence=log.next_sequence,
            previous=log.previous,
            kind="import",
            at=format_second(at),
            writer=make_writer(),
            added=merged.added,
            replaced=merged.replaced,
            counts=_add_counts(merged, ordered),
            sources=tuple(one.source for one in self._files),
        )
        commit = self._state_coverage(state, commit)
        if merged.added or merged.replaced or self.result.covered_minutes:
            write_record_ids(log.folder, commit.sequence, merged.record_ids)
            self.result.commit = append_commit(log, state, commit, signing_key=signing_key)

    def _iterate(self, ordered: OrderedRecords) -> Iterator[tuple[bytes, Target | None]]:
        for number, record in enumerate(ordered.iterate()):
            if number % 1_000 == 0:
                self._cancellation.check(_NOTHING_ADDED, is_kept=False)
            yield record.raw, record.origin

    def _state_coverage(self, state: ArchiveState, commit: Commit) -> Commit:
        """Return the commit with what the exports cover, and count what that adds."""
        answers, skipped = self._collect_answers(state)
        self.result.skipped_targets = len(skipped)
        if not answers:
            return commit
        is_first = not state.now
        if is_first:
            windows = [window for one in answers for window in one.windows]
            commit = msgspec.structs.replace(
                commit,
                now=min(one.asked_at or 0 for one in answers),
                start=min(window.start for window in windows) if not state.start else 0,
                end=max(min(window.end, one.asked_at or 0) for one in answers for window in one.windows),
                scope=self._describe_scope(state),
            )
        else:
            commit = msgspec.structs.replace(commit, now=state.now, retention_days=state.retention_days)
        commit = msgspec.structs.replace(commit, answered=answers)
        after = state.copy()
        after.apply(commit, "")
        before = {target: one.coverage for target, one in state.targets.items()}
        self.result.covered_minutes = sum(
            _count_minutes(one.coverage.spans) - _count_minutes(before[target].spans if target in before else ())
            for target, one in after.targets.items()
        )
        if not is_first and (start := _find_earlier_start(after)) < state.start:
            commit = msgspec.structs.replace(commit, start=start)
        return commit

    def _collect_answers(self, state: ArchiveState) -> tuple[tuple[Answered, ...], set[Target]]:
        """Return what the exports cover of the archive's targets, and the targets that are not its own."""
        answers: list[Answered] = []
        skipped: set[Target] = set()
        for one in self._files:
            if one.manifest is None or one.why_not:
                continue
            manifest = one.manifest
            asked_at, oldest = self._find_times(manifest)
            by_windows: dict[tuple[Window, ...], list[Target]] = {}
            for entry in manifest.coverage:
                if state.now and entry.target not in state.targets:
                    skipped.update([entry.target] if entry.windows else ())
                    continue
                windows = entry.coverage.without(Window(0, oldest)).windows if oldest > 0 else entry.coverage.windows
                windows = tuple(window for window in windows if window.start < asked_at)
                if windows:
                    by_windows.setdefault(windows, []).append(entry.target)
            answers += [Answered(windows, tuple(sorted(some)), asked_at) for windows, some in by_windows.items()]
        return tuple(answers), skipped

    def _find_times(self, manifest: Manifest) -> tuple[int, int]:
        """Return the minute at which an export began, and the oldest minute that was inside retention at its end."""
        began, ended = _read_second(manifest.started_at), _read_second(manifest.finished_at)
        ahead = timedelta(seconds=max(0.0, manifest.clock_skew_seconds or 0.0))
        asked_at = min(floor_minute(began - ahead), self._now)
        retention = manifest.scope.retention_days or _SHORTEST_RETENTION_DAYS
        return asked_at, find_retention_start(floor_minute(ended), retention)

    def _describe_scope(self, state: ArchiveState) -> ScopeChange:
        """Return the scope that the exports state, for an archive that no sync has listed yet.

        Whether a compartment is active is for the first sync to find out.
        """
        regions: set[str] = set()
        compartments: dict[str, Compartment] = {}
        for one in self._files:
            if one.manifest is not None and not one.why_not:
                paths = one.manifest.scope.compartment_paths
                regions.update(entry.region for entry in one.manifest.coverage)
                compartments.update(
                    (entry.compartment, Compartment(paths.get(entry.compartment, ""), ""))
                    for entry in one.manifest.coverage
                )
        return ScopeChange(
            added_regions=tuple(sorted(regions - set(state.regions))),
            compartments={ocid: compartments[ocid] for ocid in sorted(compartments) if ocid not in state.compartments},
        )


def _order(records: Iterable[Record]) -> Iterator[_Ordered]:
    return ((read_event(one.raw).order, one.raw) for one in records)


def _read_second(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _count_minutes(spans: Iterable[AskedSpan]) -> int:
    return sum(span.end - span.start for span in spans)


def _find_earlier_start(state: ArchiveState) -> int:
    """Return the first minute from which on every target is covered up to the archive's start.

    Targets that are not covered at that start, such as those denied, do not count.
    """
    starts = []
    for one, targets in state.group_targets():
        is_open = any(state.is_open(target) for target in targets)
        if is_open and state.start and one.coverage.find_span(state.start) is not None:
            missing = one.coverage.find_missing(Window(0, state.start))
            starts.append(missing[-1].end if missing else 0)
    return max(starts, default=state.start)


def _add_counts(merged: MergeResult, ordered: OrderedRecords) -> EventCounts:
    """Return the counts of a merge with what the files repeated among themselves."""
    repeated, same = ordered.counts.identical, ordered.counts.reserialised
    return msgspec.structs.replace(
        merged.counts,
        received=merged.counts.received + repeated + same,
        identical=merged.counts.identical + repeated,
        reserialised=merged.counts.reserialised + same,
    )


@dataclass(frozen=True, slots=True)
class PruneResult:
    """What a pruning removed, or would remove, of the dates before a date; `commit` is None before it was confirmed."""

    before: str
    dates: tuple[str, ...]
    events: int
    size_bytes: int
    is_needed: bool
    """False where all of it was pruned before, or the archive begins later."""
    commit: Commit | None = None


def parse_prune_date(text: str, *, now: datetime) -> str:
    """Return a date as `YYYY-MM-DD`.

    Raises:
        UsageError: it is not a date, or in the future.
    """
    day = parse_date(text)
    if day is None:
        raise UsageError(
            f"{text!r} is not a date; whole dates are pruned", hint="give a date in UTC: --before 2024-01-01"
        )
    if day > now:
        raise UsageError(f"{day:%Y-%m-%d} is in the future", hint="give a date up to today")
    return f"{day:%Y-%m-%d}"


def prune_archive(
    archive: Path,
    before: str,
    *,
    clock: Clock,
    is_confirmed: bool,
    reason: str = "",
    signing_key: Path | None = None,
) -> PruneResult:
    """Remove the events of all UTC dates before a date from an archive, if that is confirmed; return what goes.

    Events of unreadable time stay.

    Raises:
        UsageError: `before` is not a date or in the future, the folder is not an archive, another process is writing.
        CorruptRun: the archive is damaged.
        DiskError: something cannot be written.
    """
    now = clock.now()
    date = parse_prune_date(before, now=now)
    if signing_key is not None:
        check_signing_key(signing_key)
    if not is_confirmed:
        return _plan_pruning(open_archive(archive).state, date)[0]
    with lock_archive(archive):
        log = CommitLog.open(archive)
        log.check_key(signing_key)
        state = recover_archive(log, now=now)
        result, segments = _plan_pruning(state, date)
        if not result.is_needed:
            return result
        commit = Commit(
            sequence=log.next_sequence,
            previous=log.previous,
            kind="prune",
            at=format_second(now),
            writer=make_writer(),
            start=_find_minute(date),
            replaced=tuple(one.path for one in segments),
            reason=reason,
        )
        commit = append_commit(log, state, commit, signing_key=signing_key)
    return PruneResult(result.before, result.dates, result.events, result.size_bytes, is_needed=True, commit=commit)


def _plan_pruning(state: ArchiveState, before: str) -> tuple[PruneResult, list[SegmentEntry]]:
    """Return what goes, and its segments in order."""
    by_date: Mapping[str, Sequence[SegmentEntry]] = {
        date: some for date, some in state.group_segments().items() if date != UNKNOWN_DATE and date < before
    }
    segments = [one for some in by_date.values() for one in some]
    is_needed = bool(segments) or max(state.start, state.pruned_before) < _find_minute(before)
    result = PruneResult(
        before,
        tuple(by_date),
        sum(one.rows for one in segments),
        sum(one.size_bytes for one in segments),
        is_needed=is_needed and state.sequence > 0,
    )
    return result, segments


def _find_minute(date: str) -> int:
    return floor_minute(datetime.fromisoformat(f"{date}T00:00:00+00:00"))
