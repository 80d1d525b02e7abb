"""The manifest and the ledger of a finished pass.

Owns: what the manifest states about a run. Must not: decide whether a run is good.

Invariants
- `scanned = written + filtered + identical`, or the run directory is corrupt and nothing is stated.
- The ledger is written before the manifest that names its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from pathlib import Path

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.events.event import read_order
from ociaudit.events.fields import format_instant
from ociaudit.jobs.publish import WrittenFile
from ociaudit.jobs.scope import is_beyond_retention
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Gap, Place
from ociaudit.plan.time_range import parse_duration
from ociaudit.plan.window import format_minute
from ociaudit.source.credentials import Credentials
from ociaudit.store.canonical import MergeCounts
from ociaudit.store.durable import new_file, write_all
from ociaudit.store.journal import JournalLine, VoidLine, decode_line
from ociaudit.store.ledger import BlockLine, LedgerTotals, find_void_lines, make_ledger
from ociaudit.store.manifest import (
    CoveredPlace,
    EventRange,
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Redaction,
    Scope,
    Tool,
    Totals,
)
from ociaudit.store.run_folder import RunFolder, RunPlan
from ociaudit.version import VERSION

_LINES_PER_WRITE = 1_000


@dataclass(frozen=True, slots=True)
class Findings:
    """All that a pass has found, ready to be stated."""

    plan: RunPlan
    credentials: Credentials
    coverage: Mapping[Place, Coverage]
    gaps: Sequence[Gap]
    waived: Sequence[Gap]
    counts: MergeCounts
    totals: LedgerTotals
    output: FileEntry
    ledger: FileEntry
    skew_seconds: float | None
    finished_at: datetime
    redaction: Redaction | None = None


def write_ledger(folder: RunFolder, path: Path, totals: LedgerTotals, blocks: Sequence[BlockLine]) -> FileEntry:
    """Write the ledger from the run's journal and the output's `blocks`, fill `totals`, and return its entry.

    Raises:
        DiskError: the disk refused.
    """
    has_void = any(isinstance(line, VoidLine) for line in _read_journal(folder))  # hardly ever; memory is per page then
    void = find_void_lines(_read_journal(folder)) if has_void else set()
    encoder = msgspec.json.Encoder()
    digest = hashlib.sha256()
    size = 0
    with new_file(path) as descriptor:
        lines = chain(make_ledger(_read_journal(folder), void, totals), blocks)
        for chunk in _in_chunks(encoder.encode(line) + b"\n" for line in lines):
            write_all(descriptor, chunk, path)
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(path.name, size, digest.hexdigest())


def make_manifest(found: Findings) -> Manifest:
    """State what was found.

    Raises:
        CorruptRun: the counts of journal and log do not add up.
    """
    plan, counts = found.plan, found.counts
    if found.totals.kept != counts.written + counts.identical:
        raise CorruptRun(
            f"the journal speaks of {found.totals.kept} events, the log holds {counts.written + counts.identical}"
        )
    return Manifest(
        complete=not found.gaps,
        tool=Tool("oci-audit", VERSION),
        arguments=plan.arguments,
        asked_by=Principal(plan.tenancy, found.credentials.principal, found.credentials.fingerprint),
        also_asked_by=_state_others(found),
        range=Range(format_minute(plan.window.start), format_minute(plan.window.end)),
        event_range=_state_event_range(plan),
        event_times=_state_event_times(counts),
        scope=_state_scope(found),
        totals=_state_totals(found),
        conflicting_ids=tuple(counts.conflicting_ids),
        coverage=tuple(_state_coverage(place, found.coverage.get(place)) for place in plan.places),
        gaps=tuple(map(_state_gap, found.gaps)),
        waived_gaps=tuple(map(_state_gap, found.waived)),
        provisional=tuple(
            ProvisionalEntry(line.region, line.compartment, line.start, line.end, line.last_at or "")
            for line in found.totals.provisional
        ),
        redaction=found.redaction,
        output=found.output,
        ledger=found.ledger,
        clock_skew_seconds=found.skew_seconds,
        started_at=plan.started_at,
        finished_at=found.finished_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    )


def describe_file(path: Path, written: WrittenFile) -> FileEntry:
    """Return a written file's entry."""
    return FileEntry(path.name, written.size_bytes, written.sha256)


def _state_others(found: Findings) -> tuple[Principal, ...]:
    own = (found.credentials.principal, found.credentials.fingerprint)
    others = sorted(found.totals.asked_by - {own, ("", None)}, key=str)
    return tuple(Principal(found.plan.tenancy, principal, fingerprint) for principal, fingerprint in others)


def _state_event_times(counts: MergeCounts) -> EventTimes:
    return EventTimes(
        first=format_instant(read_order(counts.first_order)[0]) if counts.first_order else None,
        last=format_instant(read_order(counts.last_order)[0]) if counts.first_order else None,
        outside_range=counts.outside,
        unreadable=counts.unreadable,
    )


def _state_event_range(plan: RunPlan) -> EventRange | None:
    window, late = plan.event_window, plan.arguments.late
    if window is None:
        return None
    is_settled = plan.window.end >= window.end + parse_duration(late)
    return EventRange(format_minute(window.start), format_minute(window.end), late, is_settled=is_settled)


def _state_scope(found: Findings) -> Scope:
    plan = found.plan
    return Scope(
        regions=tuple(sorted({place.region for place in plan.places})),
        compartments=tuple(sorted({place.compartment for place in plan.places})),
        region_request_ids=plan.region_request_ids,
        compartment_request_ids=plan.compartment_request_ids,
        unlisted_compartments_seen=tuple(sorted(found.totals.unlisted)),
        retention_days=plan.retention_days,
        reaches_beyond_retention=is_beyond_retention(plan, now=found.finished_at),
    )


def _state_totals(found: Findings) -> Totals:
    totals, counts = found.totals, found.counts
    return Totals(
        scanned=totals.scanned,
        written=counts.written,
        filtered=totals.scanned - totals.kept,
        identical=counts.identical,
        conflicting_ids=counts.conflicting_count,
        shards=totals.shards,
        confirmed_empty=totals.confirmed,
        pages=totals.pages,
        requests=totals.requests,
        outside_event_range=totals.outside,
    )


def _state_coverage(place: Place, coverage: Coverage | None) -> CoveredPlace:
    windows = coverage.windows if coverage else ()
    return CoveredPlace(
        place.region,
        place.compartment,
        tuple((format_minute(w.start), format_minute(w.end)) for w in windows),
    )


def _state_gap(gap: Gap) -> GapEntry:
    return GapEntry(
        region=gap.place.region,
        compartment=gap.place.compartment,
        start=format_minute(gap.window.start),
        end=format_minute(gap.window.end),
        kind=gap.kind,
        reason=gap.reason,
        request_id=gap.request_id,
    )


def _read_journal(folder: RunFolder) -> Iterator[JournalLine]:
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
