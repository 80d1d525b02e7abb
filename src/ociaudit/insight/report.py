"""The report of an export: from a file of events to one page.

Owns: the steps. Must not: count, judge or draw.

Invariants
- What is read is only read; the page gets its name when it is whole, and is private from its first byte.
- Nothing that stands there is replaced unless asked for, and never the input, its manifest or its ledger.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ociaudit.errors import UsageError
from ociaudit.insight.counting import feed_files
from ociaudit.insight.report_coverage import map_coverage
from ociaudit.insight.report_data import make_report_data
from ociaudit.insight.report_head import FileFacts, Statement, Verdict, make_head
from ociaudit.insight.report_page import write_page
from ociaudit.insight.report_tally import ReportTally
from ociaudit.plan.window import parse_minute
from ociaudit.store.durable import check_replaceable, explain_disk, write_file
from ociaudit.store.manifest import Manifest, decode_manifest, has_own_digest, name_ledger, name_manifest
from ociaudit.version import VERSION

_A_DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """What was written."""

    output: Path
    size_bytes: int
    events: int
    events_in_table: int
    verdict: Verdict
    gaps: int
    findings: tuple[str, ...]


def report_export(
    source: Path, output: Path, *, manifest_path: Path | None = None, may_overwrite: bool = False
) -> ReportOutcome:
    """Write a report of an export.

    Raises:
        UsageError: there is no such file, or the output would replace something.
        UnreadableInput: the file holds no audit events, or is cut or damaged.
        CorruptRun: its manifest cannot be read.
        DiskError: the disk refused.
    """
    if not source.is_file():
        raise UsageError(f"{source} is not a file", hint="name a file that oci-audit export wrote")
    statement_path = manifest_path or name_manifest(source)
    check_output(output, source, statement_path, may_overwrite=may_overwrite)
    statement = _read_statement(statement_path, is_required=manifest_path is not None)
    with ThreadPoolExecutor(1) as aside:
        digest = aside.submit(_hash_file, source)  # on another core: hashing leaves the interpreter alone
        tally = feed_files([source], ReportTally)
        file = FileFacts(source.name, *digest.result())
    manifest = statement.manifest if statement else None
    coverage = map_coverage(manifest, tally.compartment_names) if manifest else None
    data = make_report_data(tally, coverage, _choose_span(manifest, tally))
    head = make_head(file, statement, tally, data, VERSION)
    page = write_page(head, data)
    write_file(output, page)
    return ReportOutcome(
        output=output,
        size_bytes=len(page),
        events=tally.census.events,
        events_in_table=len(data.sample),
        verdict=head.verdict,
        gaps=len(manifest.gaps) if manifest else 0,
        findings=tuple(
            f"{' from '.join(filter(None, (one.principal, one.address)))}: {one.reasons}" for one in data.findings
        ),
    )


def check_output(output: Path, source: Path, manifest_path: Path, *, may_overwrite: bool) -> None:
    """Refuse an output that would replace an input, or anything else without being told to.

    Raises:
        UsageError: it would.
        DiskError: its folder cannot be written to.
    """
    inputs = (source, manifest_path, name_ledger(source))
    for path in inputs:
        if output.resolve() == path.resolve() or (output.exists() and path.exists() and output.samefile(path)):
            raise UsageError(f"{output} is what the report is made from", hint="choose another file with -o")
    check_replaceable(output)
    if output.exists() and not may_overwrite:
        raise UsageError(f"{output} exists", hint="choose another file with -o, or replace it with --overwrite")


def _read_statement(path: Path, *, is_required: bool) -> Statement | None:
    if not path.is_file():
        if is_required:
            raise UsageError(f"{path} is not a file", hint="name the manifest of the export, or leave --manifest out")
        return None
    with explain_disk("read", path):
        content = path.read_bytes()
    return Statement(decode_manifest(content, where=str(path)), has_own_digest(content))


def _hash_file(path: Path) -> tuple[str, int]:
    with explain_disk("read", path), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _choose_span(manifest: Manifest | None, tally: ReportTally) -> tuple[int, int]:
    """Return the range of the time axes in seconds since 1970: what was asked, else what the events span."""
    if manifest is not None:
        return parse_minute(manifest.range.start) * 60, parse_minute(manifest.range.end) * 60
    return tally.times.find_range() or (0, _A_DAY_SECONDS)
