"""An archive open for reading: one commit's view of it, or a part of that, as events, coverage and verdict.

`open_archive` opens an archive; `Archive.select` limits it to a range of event times, regions and compartments. The
events come in canonical order, those of unknown date first, or as an expression for DuckDB.

Invariants
- A view is that of one commit: every live segment of it, each row once. It does not change when a sync commits
  meanwhile.
- Readers take no lock. A segment that is replaced meanwhile is read from `replaced/`.
- Only the segments of dates within the view are opened. Memory does not grow with the archive.
- Events with an unreadable time are in every range, as in an export by event time.
- Nothing is written to the archive.
"""

from __future__ import annotations

import contextlib
import os
import resource
import tempfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import msgspec

from ociaudit.archive.commit import UNKNOWN_DATE, ArchiveHeader, Commit, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog
from ociaudit.archive.segments import (
    REPLACED_FOLDER,
    check_file,
    find_segment,
    list_columns,
    open_engine,
    open_segment,
    read_date,
)
from ociaudit.archive.state import ArchiveState, clip, find_provisional, judge_archive
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.events.columns import COLUMNS, Column, ColumnKind
from ociaudit.events.fields import instant_of_minute
from ociaudit.formats.base import Record
from ociaudit.formats.parquet import PARQUET_TYPES, cast_json, connect_writer, quote_sql
from ociaudit.planning.scope import find_compartment, suggest_region
from ociaudit.planning.shard import MINUTES_PER_DAY, Coverage, Gap, Target, Window, format_minute, parse_minute
from ociaudit.storage.manifest import CoveredTarget, GapEntry, ProvisionalEntry, make_gap_entry
from ociaudit.storage.verdict import Verdict

_BATCH = 500
_FILES_SPARE = 128
"""How many descriptors are left for everything else."""
_LOST = "lost: retention passed before the service answered"


@dataclass(frozen=True)
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
        return judge_archive(self.state)

    def select(
        self,
        *,
        start: int | None = None,
        end: int | None = None,
        regions: Iterable[str] = (),
        compartments: Iterable[str] = (),
    ) -> ArchiveView:
        """Return a part of the archive.

        `start` and `end` are minutes of event time, `[start, end)`; regions are names or keys; compartments are names,
        paths or OCIDs, each with those below it. Without any, all are included.

        Raises:
            UsageError: the archive knows no such region or compartment, or a name means several.
        """
        return ArchiveView(
            self, start, end, self._choose_regions(list(regions)), self._choose_compartments(list(compartments))
        )

    def _choose_regions(self, named: Sequence[str]) -> frozenset[str] | None:
        if not named:
            return None
        from ociaudit.client.network import split_regions  # slow to import

        known = {target.region for target in self.state.targets}
        chosen = split_regions(named)
        for name in chosen:
            if name not in known:
                raise UsageError(
                    f"the archive {self.folder.path} has no region {name!r}",
                    hint=suggest_region(name, known) or f"its regions are: {', '.join(sorted(known)) or 'none'}",
                )
        return frozenset(chosen)

    def _choose_compartments(self, named: Sequence[str]) -> frozenset[str] | None:
        if not named:
            return None
        paths = self.paths
        chosen: set[str] = set()
        for text in named:
            ocid = find_compartment(text, paths)
            if ocid not in paths:
                raise UsageError(
                    f"the archive {self.folder.path} has no compartment {ocid}",
                    hint="check the OCID; a name or a path such as root/production will do, too",
                )
            if ocid == self.header.tenancy:
                return None
            above = paths[ocid] + "/"
            chosen |= {ocid, *(one for one, path in paths.items() if path.startswith(above))}
        return frozenset(chosen)

    @property
    def paths(self) -> dict[str, str]:
        """Return the paths of all compartments that were ever listed, by OCID."""
        return {ocid: one.path for ocid, one in self.state.compartments.items()}


@dataclass(frozen=True)
class ArchiveView:
    """A part of an archive: event times `[start, end)` in minutes, regions, compartments; None: not limited.

    Its properties `window`, `coverage`, `gaps`, `waived_gaps` and `provisional` are as in a manifest.
    """

    archive: Archive
    start: int | None = None
    end: int | None = None
    regions: frozenset[str] | None = None
    compartments: frozenset[str] | None = None

    @property
    def selected(self) -> Window:
        """Return the range that was selected, else what the archive is to hold."""
        state = self.archive.state
        end = state.end if self.end is None else self.end
        start = max(min(state.start, end - 1), 0) if self.start is None else self.start
        return Window(start, max(end, start + 1))

    @property
    def window(self) -> Window:
        """Return the range that the view is about: what is selected and was not pruned, or all of it if all was."""
        selected = self.selected
        start = max(selected.start, self.archive.state.pruned_before)
        return Window(start, selected.end) if start < selected.end else selected

    @property
    def is_limited_in_time(self) -> bool:
        """Return whether a range of event times was selected."""
        return self.start is not None or self.end is not None

    @cached_property
    def targets(self) -> frozenset[Target]:
        """Return the targets within the view, of regions that are in scope."""
        return frozenset(
            target for _, group in self.archive.state.group_targets() for target in group if self._includes(target)
        )

    def judge(self, *, is_anchored: bool = False) -> Verdict:
        """Return what may be said of this part; `is_anchored` is as in `judge_archive`."""
        return judge_archive(
            self.archive.state,
            window=self.selected if self.is_limited_in_time else None,
            targets=None if self.regions is None and self.compartments is None else self.targets,
            regions=self.regions,
            is_anchored=is_anchored,
        )

    @cached_property
    def coverage(self) -> tuple[CoveredTarget, ...]:
        """Return what is covered of each target; not what was pruned since."""
        return tuple(
            CoveredTarget(target.region, target.compartment, tuple(map(_format_window, self._cover(target))))
            for target in sorted(self.targets)
        )

    def _cover(self, target: Target) -> tuple[Window, ...]:
        if self.window.end <= self.archive.state.pruned_before:
            return ()
        holes = Coverage(self.archive.state.targets[target].coverage.find_missing(self.window))
        return holes.find_missing(self.window)

    @property
    def gaps(self) -> tuple[GapEntry, ...]:
        """Return the open gaps and what is lost, but for what is waived."""
        state = self.archive.state
        lost = [
            make_gap_entry(Gap(target, window, "failed", _LOST))
            for target in sorted(self.targets)
            for window in clip(state.targets[target].lost, self.window)
        ]
        return (*self._list_gaps(is_waived=False), *lost)

    @property
    def waived_gaps(self) -> tuple[GapEntry, ...]:
        """Return the gaps that are waived."""
        return tuple(self._list_gaps(is_waived=True))

    def _list_gaps(self, *, is_waived: bool) -> Iterator[GapEntry]:
        waived = set(self.archive.state.waived)
        for gap in self.archive.state.gaps:
            if (gap.kind == "denied" and gap.target.compartment in waived) == is_waived and gap.target in self.targets:
                for window in clip((gap.window,), self.window):
                    yield make_gap_entry(msgspec.structs.replace(gap, window=window))

    @property
    def provisional(self) -> tuple[ProvisionalEntry, ...]:
        """Return what is covered and not final."""
        state = self.archive.state
        return tuple(
            ProvisionalEntry(target.region, target.compartment, *_format_window(window), "")
            for target in sorted(self.targets)
            for window in find_provisional(state, state.targets[target], self.window)
        )

    def list_dates(self) -> Iterator[tuple[str, tuple[SegmentEntry, ...], Window | None]]:
        """Yield the dates within the view, the unknown one first, with their live segments.

        The third item is the part of the date that is within the view; None: all of it.
        """
        segments = self.archive.state.group_segments()
        if UNKNOWN_DATE in segments:
            yield UNKNOWN_DATE, segments.pop(UNKNOWN_DATE), None
        for date, entries in segments.items():
            first = parse_minute(f"{date}T00:00:00Z")
            start = first if self.start is None else max(first, self.start)
            end = first + MINUTES_PER_DAY if self.end is None else min(first + MINUTES_PER_DAY, self.end)
            if start < end:
                part = Window(start, end)
                yield date, entries, part if part.minutes < MINUTES_PER_DAY else None

    def read(self) -> Iterator[list[Record]]:
        """Yield the events in canonical order, in batches, none of them empty.

        Raises:
            CorruptRun: a segment is missing or damaged.
            DiskError: one cannot be read.
        """
        batch: list[Record] = []
        with tempfile.TemporaryDirectory(prefix="oci-audit-") as name, open_engine(Path(name)) as engine:
            for _, entries, part in self.list_dates():
                between = (instant_of_minute(part.start), instant_of_minute(part.end)) if part else None
                for record in read_date(
                    self.archive.folder.path, entries, scratch=Path(name), engine=engine, between=between
                ):
                    if self._is_everywhere or (record.origin is not None and self._includes(record.origin)):
                        batch.append(record)
                        if len(batch) >= _BATCH:
                            yield batch
                            batch = []
        if batch:
            yield batch

    @property
    def _is_everywhere(self) -> bool:
        return self.regions is None and self.compartments is None

    def _includes(self, target: Target) -> bool:
        return (self.regions is None or target.region in self.regions) and (
            self.compartments is None or target.compartment in self.compartments
        )

    @contextlib.contextmanager
    def open_scan(self) -> Iterator[SegmentScan]:
        """Hold the segments of the view open for DuckDB.

        Raises:
            CorruptRun: a segment is missing, or is not a plain file of the archive.
            DiskError: one cannot be opened.
        """
        with contextlib.ExitStack() as stack:
            path = self.archive.folder.path
            entries = [entry for _, some, _ in self.list_dates() for entry in some]
            held = _allow_files(len(entries))
            groups: dict[frozenset[str], list[str]] = {}
            paths: list[str] = []
            for number, entry in enumerate(reversed(entries)):  # the oldest are the least likely to be replaced
                with contextlib.ExitStack() as passing:
                    descriptor = open_segment(path, entry)
                    (stack if number < held else passing).callback(os.close, descriptor)
                    file = f"/dev/fd/{descriptor}" if number < held else str(find_segment(path, entry))
                    columns = list_columns(descriptor, entry)
                groups.setdefault(columns, []).append(file)
                below = entry.path.partition("/")[2]
                real = path.resolve()
                paths += [file, str(real / entry.path), str(real / REPLACED_FOLDER / below)]
            yield SegmentScan(self, tuple((names, tuple(files)) for names, files in groups.items()), tuple(paths))

    def count_regions(self) -> Counter[str]:
        """Return how many events each region served, as far as that is known.

        Raises:
            CorruptRun: a segment is missing or damaged.
        """
        counts: Counter[str] = Counter()
        column = next(column for column in COLUMNS if column.name == "origin_region")
        with self.open_scan() as scan, explain_engine(self), connect_writer() as engine:
            rows = engine.execute(f"SELECT origin_region, count(*) FROM ({scan.select([column])}) GROUP BY 1")  # noqa: S608
            counts.update({region: number for region, number in rows.fetchall() if region})
        return counts

    def find_damage(self) -> CorruptRun | None:
        """Return the error for the first segment whose bytes are not those of its commit; None if there is none."""
        for _, entries, _ in self.list_dates():
            for entry in entries:
                try:
                    check_file(self.archive.folder.path, entry)
                except CorruptRun as error:
                    return error
        return None

    def make_condition(self) -> str:
        """Return the SQL condition, with ` WHERE`, that the rows of the view's dates must meet; empty if none."""
        conditions = []
        times = []
        if self.start is not None:
            times.append(f"event_time >= {quote_sql(format_minute(self.start))}::TIMESTAMPTZ")
        if self.end is not None:
            times.append(f"event_time < {quote_sql(format_minute(self.end))}::TIMESTAMPTZ")
        if times:
            conditions.append(f"(event_time IS NULL OR ({' AND '.join(times)}))")
        for column, values in (("origin_region", self.regions), ("origin_compartment", self.compartments)):
            if values is not None:
                conditions.append(f"{column} IN ({', '.join(map(quote_sql, sorted(values))) or 'NULL'})")
        return f" WHERE {' AND '.join(conditions)}" if conditions else ""


@dataclass(frozen=True, slots=True)
class SegmentScan:
    """The segments of a view, open for DuckDB, by the columns that they have; `paths` are all names they can have."""

    view: ArchiveView
    groups: tuple[tuple[frozenset[str], tuple[str, ...]], ...]
    paths: tuple[str, ...]

    def select(self, columns: Sequence[Column], types: Mapping[ColumnKind, str] = PARQUET_TYPES) -> str:
        """Return a SELECT of some columns of every row, each once; a column that a segment does not have is NULL.

        `types` are the SQL types of kinds of columns; a text that is not JSON is NULL.
        """
        condition = self.view.make_condition()
        selects = []
        for names, files in self.groups:
            wanted = [_select_column(column, names, types[column.kind]) for column in columns]
            source = f"read_parquet([{', '.join(map(quote_sql, files))}], hive_partitioning = false)"
            selects.append(f"SELECT {', '.join(wanted)} FROM {source}{condition}")  # noqa: S608 - quoted
        nothing = ", ".join(f"NULL::{types[one.kind]} AS {one.name}" for one in columns)
        return " UNION ALL ".join(selects) or f"SELECT {nothing} WHERE false"


@contextlib.contextmanager
def explain_engine(view: ArchiveView) -> Iterator[None]:
    """Turn an error of DuckDB that comes from a damaged segment into one that names the segment.

    Raises:
        CorruptRun: a segment is damaged.
    """
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        damage = view.find_damage()
        if damage is None:
            raise
        raise damage from error


def _allow_files(wanted: int) -> int:
    """Let this process hold so many more files open, as far as the system permits; return how many it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + _FILES_SPARE
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            soft = limit
    return wanted if soft == resource.RLIM_INFINITY else max(soft - _FILES_SPARE, 0)


def _select_column(column: Column, names: Collection[str], sql_type: str) -> str:
    if column.name in names and sql_type == PARQUET_TYPES[column.kind]:
        return column.name
    if column.name in names and column.kind == "json":
        return f"{cast_json(column.name)} AS {column.name}"
    return f"TRY_CAST({column.name if column.name in names else 'NULL'} AS {sql_type}) AS {column.name}"


def _format_window(window: Window) -> tuple[str, str]:
    return format_minute(window.start), format_minute(window.end)


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
