"""Publishing: from merged events to an output under its final name, and the ledger and manifest that describe it.

Invariants
- The bytes depend on the records, the shape, the format and the compression, and on nothing else.
- The next chunk is encoded while the last one is hashed and written; at most two chunks are in memory.
- `scanned = written + filtered + identical + reserialised`, or the run directory is corrupt and no manifest is written.
- The ledger is written before the manifest that names its hash.
"""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import msgspec

from ociaudit.client.signer import Credentials
from ociaudit.errors import CorruptRun, DiskError, format_count
from ociaudit.events.event import read_order
from ociaudit.events.fields import format_instant
from ociaudit.formats.base import EventFormat
from ociaudit.formats.compression import Compressor
from ociaudit.operations.context import is_beyond_retention
from ociaudit.planning.shard import Coverage, Gap, Target, format_minute, format_second
from ociaudit.planning.time_range import parse_duration
from ociaudit.storage.atomic_io import new_file, write_all, write_to_reader
from ociaudit.storage.journal import JournalLine, VoidLine, decode_line
from ociaudit.storage.ledger import BlockDigest, BlockLine, LedgerTotals, OriginLine, find_void_lines, make_ledger
from ociaudit.storage.manifest import (
    CoveredTarget,
    EventRange,
    EventTimes,
    FileEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Redaction,
    Scope,
    Tool,
    Totals,
    make_gap_entry,
)
from ociaudit.storage.merge import MergeCounts
from ociaudit.storage.run_dir import RunDirectory, RunPlan
from ociaudit.version import VERSION

_EVENTS_PER_CHUNK = 1_000
_LINES_PER_WRITE = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What was written: size, SHA-256, and the SHA-256 up to each block, so that damage can be located."""

    size_bytes: int
    sha256: str
    blocks: tuple[BlockLine, ...]


def write_events(
    events: Iterable[tuple[bytes, T]],
    *,
    locate: Callable[[T], Target | None],
    event_format: EventFormat,
    compressor: Compressor,
    write: Callable[[bytes], None],
    on_written: Callable[[int], None],
    on_origins: Callable[[Sequence[T]], None] | None = None,
) -> WrittenFile:
    """Write events through `write` and return what was written; `locate` turns what accompanies each into its origin.

    `on_origins` gets what accompanies the events, batch by batch in their order.

    Raises:
        DiskError: as `write` does, or a format's scratch file cannot be written.
    """
    digest = BlockDigest()

    def put(chunk: bytes) -> None:
        data = compressor.compress(chunk)
        digest.update(data)
        write(data)

    with (
        closing(event_format),
        ThreadPoolExecutor(1, thread_name_prefix="publish") as thread,
        closing(_make_chunks(events, locate, event_format, on_written, on_origins)) as chunks,
    ):
        pending: Future[None] | None = None
        for chunk in chunks:
            if pending is not None:
                pending.result()
            pending = thread.submit(put, chunk)
        if pending is not None:
            pending.result()
    rest = compressor.flush()
    digest.update(rest)
    write(rest)
    blocks = digest.finish()
    return WrittenFile(digest.size_bytes, digest.sha256, blocks)


def _make_chunks(
    events: Iterable[tuple[bytes, T]],
    locate: Callable[[T], Target | None],
    event_format: EventFormat,
    on_written: Callable[[int], None],
    on_origins: Callable[[Sequence[T]], None] | None,
) -> Generator[bytes]:
    yield event_format.begin()
    stream = iter(events)
    while batch := list(islice(stream, _EVENTS_PER_CHUNK)):
        origins = [origin for _, origin in batch]
        if on_origins is not None:
            on_origins(origins)
        yield event_format.write([raw for raw, _ in batch], list(map(locate, origins)))
        on_written(len(batch))
    yield from event_format.finish()


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """Everything that a manifest states about a run."""

    plan: RunPlan
    credentials: Credentials
    coverage: Mapping[Target, Coverage]
    gaps: Sequence[Gap]
    waived: Sequence[Gap]
    counts: MergeCounts
    totals: LedgerTotals
    output: FileEntry
    ledger: FileEntry
    skew_seconds: float | None
    finished_at: datetime
    redaction: Redaction | None = None


def write_ledger(
    folder: RunDirectory, path: Path, totals: LedgerTotals, output_lines: Iterable[BlockLine | OriginLine]
) -> FileEntry:
    """Write the ledger from the run's journal and the lines about the output, fill `totals`, and return its entry.

    Raises:
        DiskError: it cannot be written.
    """
    has_void = any(
        isinstance(line, VoidLine) for line in _read_journal(folder)
    )  # rare; memory then grows with the pages
    void = find_void_lines(_read_journal(folder)) if has_void else set()
    encoder = msgspec.json.Encoder()
    digest = hashlib.sha256()
    size = 0
    with new_file(path) as descriptor:
        lines = chain(make_ledger(_read_journal(folder), void, totals), output_lines)
        for chunk in _in_chunks(encoder.encode(line) + b"\n" for line in lines):
            write_all(descriptor, chunk, path)
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(path.name, size, digest.hexdigest())


def make_manifest(found: ManifestFacts) -> Manifest:
    """Return the manifest.

    Raises:
        CorruptRun: the counts of journal and event log do not add up.
    """
    plan, counts = found.plan, found.counts
    merged = counts.written + counts.identical + counts.reserialised
    if found.totals.kept != merged:
        raise CorruptRun(f"the journal counts {format_count(found.totals.kept, 'event')}, the event log holds {merged}")
    return Manifest(
        complete=not found.gaps,
        tool=Tool("oci-audit", VERSION),
        arguments=plan.arguments,
        asked_by=Principal(plan.tenancy, found.credentials.principal, found.credentials.fingerprint),
        also_asked_by=_make_others(found),
        range=Range(
            format_minute(plan.window.start),
            format_minute(plan.window.end),
            "event time" if plan.arguments.source == "logging-search" else "processed time",
        ),
        event_range=_make_event_range(plan),
        event_times=_make_event_times(counts),
        scope=_make_scope(found),
        totals=_make_totals(found),
        conflicting_ids=tuple(counts.conflicting_ids),
        coverage=tuple(_make_coverage(target, found.coverage.get(target)) for target in plan.targets),
        gaps=tuple(map(make_gap_entry, found.gaps)),
        waived_gaps=tuple(map(make_gap_entry, found.waived)),
        provisional=tuple(
            ProvisionalEntry(line.region, line.compartment, line.start, line.end, line.last_at or "")
            for line in found.totals.provisional
        ),
        redaction=found.redaction,
        output=found.output,
        ledger=found.ledger,
        clock_skew_seconds=found.skew_seconds,
        started_at=plan.started_at,
        finished_at=format_second(found.finished_at),
    )


def _make_others(found: ManifestFacts) -> tuple[Principal, ...]:
    own = (found.credentials.principal, found.credentials.fingerprint)
    others = sorted(found.totals.asked_by - {own, ("", None)}, key=str)
    return tuple(Principal(found.plan.tenancy, principal, fingerprint) for principal, fingerprint in others)


def _make_event_times(counts: MergeCounts) -> EventTimes:
    return EventTimes(
        first=format_instant(read_order(counts.first_order)[0]) if counts.first_order else None,
        last=format_instant(read_order(counts.last_order)[0]) if counts.first_order else None,
        outside_range=counts.outside,
        unreadable=counts.unreadable,
    )


def _make_event_range(plan: RunPlan) -> EventRange | None:
    window, late = plan.event_window, plan.arguments.late
    if window is None:
        return None
    is_settled = plan.window.end >= window.end + parse_duration(late)
    return EventRange(format_minute(window.start), format_minute(window.end), late, is_settled=is_settled)


def _make_scope(found: ManifestFacts) -> Scope:
    plan, unlisted = found.plan, found.totals.unlisted
    compartments = sorted({target.compartment for target in plan.targets})
    paths = {**unlisted, **(plan.listed_compartments or {})}
    return Scope(
        regions=tuple(sorted({target.region for target in plan.targets})),
        compartments=tuple(compartments),
        region_request_ids=plan.region_request_ids,
        compartment_request_ids=plan.compartment_request_ids,
        unlisted_compartments_seen=tuple(sorted(unlisted)),
        retention_days=plan.retention_days,
        reaches_beyond_retention=is_beyond_retention(plan, now=found.finished_at),
        compartment_paths={ocid: paths[ocid] for ocid in sorted({*compartments, *unlisted}) if paths.get(ocid)},
    )


def _make_totals(found: ManifestFacts) -> Totals:
    totals, counts = found.totals, found.counts
    return Totals(
        scanned=totals.scanned,
        written=counts.written,
        filtered=totals.scanned - totals.kept,
        identical=counts.identical,
        reserialised=counts.reserialised,
        conflicting_ids=counts.conflicting_count,
        shards=totals.shards,
        confirmed_empty=totals.confirmed,
        pages=totals.pages,
        requests=totals.requests,
        outside_event_range=totals.outside,
        fetched_twice=min(counts.identical, totals.refetched),
    )


def _make_coverage(target: Target, coverage: Coverage | None) -> CoveredTarget:
    windows = coverage.windows if coverage else ()
    return CoveredTarget(
        target.region,
        target.compartment,
        tuple((format_minute(w.start), format_minute(w.end)) for w in windows),
    )


def _read_journal(folder: RunDirectory) -> Iterator[JournalLine]:
    with folder.journal_path.open("rb") as file:
        yield from map(decode_line, file)


def _in_chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _LINES_PER_WRITE:
            yield b"".join(chunk)
            chunk.clear()
    yield b"".join(chunk)


@contextmanager
def open_output_target(
    output: Path | None, *, stdout: int, check_cancelled: Callable[[], None]
) -> Iterator[Callable[[bytes], None]]:
    """Yield the function that writes; `output` None means the descriptor `stdout`.

    After a clean exit the file has its name; after an exception nothing has changed under that name.

    Raises:
        DiskError: the file cannot be written, or stdout was closed.
        Interrupted: as `check_cancelled` does.
    """
    if output is None:
        yield lambda data: write_to_stdout(stdout, data, check_cancelled)
        return
    with new_file(output) as descriptor:

        def write(data: bytes) -> None:
            check_cancelled()
            write_all(descriptor, data, output)

        yield write


def write_to_stdout(descriptor: int, data: bytes, check_cancelled: Callable[[], None]) -> None:
    """Write to a reader that may pause.

    Raises:
        DiskError: the reader has closed its end.
    """
    try:
        write_to_reader(descriptor, data, Path("stdout"), check=check_cancelled)
    except DiskError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in {errno.EPIPE, errno.EBADF}:
            raise DiskError(
                "stdout was closed before all events were written",
                hint="let the reader read to the end, or use -o FILE",
            ) from error
        raise
