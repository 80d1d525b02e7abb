"""The head of a report: what the file is, and whether it is complete.

Owns: that verdict, in words. Must not: count events, or draw.

Invariants
- Without a manifest nothing is said to be complete.
- Gaps, a file that is not the one of its manifest, and a manifest that was changed are never just mentioned:
  they are the verdict.

The page of a report: one HTML file that needs nothing else.

Owns: putting data, style and script together so that nothing in the data can become markup or code.
Must not: count, or read events.

Invariants
- The page loads nothing: its policy allows its own script and style, by their hashes, and nothing else.
- Data stands in a JSON block in which `<`, `>`, `&` and the line separators are escaped; what stands in the HTML
  itself is escaped by jinja2, and control characters and marks of direction in it are made visible.

The report of an export: from a file of events to one page.

Owns: the steps. Must not: count, judge or draw.

Invariants
- What is read is only read; the page gets its name when it is whole, and is private from its first byte.
- Nothing that stands there is replaced unless asked for, and never the input, its manifest or its ledger.
"""

from __future__ import annotations

import base64
import hashlib
import unicodedata
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.analysis.report_data import CoverageMap, GapRow, ReportData, list_gaps, make_report_data, map_coverage
from ociaudit.analysis.report_stats import ReportStats
from ociaudit.analysis.stats import feed_files
from ociaudit.analysis.summary import list_limits
from ociaudit.errors import UsageError
from ociaudit.events.fields import format_instant
from ociaudit.storage.atomic_io import check_replaceable, explain_disk, write_file
from ociaudit.storage.manifest import Manifest, ManifestFile, load_manifest, name_ledger, name_manifest
from ociaudit.version import VERSION

Verdict = Literal["complete", "incomplete", "unknown", "altered"]
_TARGETS_NAMED = 3


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of the file itself; `digest` and `size_bytes` are those of the bytes read."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ReportHead:
    """What stands on top of the page; texts may be hostile."""

    title: str
    verdict: Verdict
    headline: str
    explanation: Sequence[str]
    file: Sequence[tuple[str, str, str]]
    """(word, value, form): range and digests; the form is `code` for digests and names."""
    facts: Sequence[tuple[str, str, str]]
    """The same for what matters less."""
    run_stats: Sequence[tuple[str, str, str]]
    """(word, number, tone)."""
    gaps: Sequence[GapRow]
    gaps_left_out: int
    notes: Sequence[str]


def make_head(
    file: FileFacts, statement: ManifestFile | None, tally: ReportStats, data: ReportData, version: str
) -> ReportHead:
    """Say what the file is, and whether it is complete."""
    manifest = statement.manifest if statement else None
    verdict, headline, explanation = _judge(file, statement, tally, data.coverage)
    gaps, left_out = list_gaps(manifest, tally.compartment_names) if manifest else ([], 0)
    return ReportHead(
        title=file.name,
        verdict=verdict,
        headline=headline,
        explanation=explanation,
        file=_name_file(file, manifest, tally),
        facts=_list_facts(file, manifest, version),
        run_stats=_list_figures(tally, data),
        gaps=gaps,
        gaps_left_out=left_out,
        notes=_list_notes(manifest, tally),
    )


def _judge(
    file: FileFacts, statement: ManifestFile | None, tally: ReportStats, coverage: CoverageMap | None
) -> tuple[Verdict, str, list[str]]:
    if statement is None or coverage is None:
        text = "There is no manifest beside this file. Nobody can say from it alone what was asked, or what is missing."
        return "unknown", "Coverage unknown", [text]
    manifest = statement.manifest
    if not statement.has_own_digest:
        return "altered", "The manifest was changed", ["Its digest does not fit its content; do not rely on it."]
    if manifest.output.sha256 != file.digest or manifest.totals.written != tally.stats.events:
        text = (
            "The bytes of this file are not those that its manifest states. Run oci-audit verify to see from where on."
        )
        return "altered", "This is not the file of its manifest", [text]
    if manifest.gaps or not manifest.complete:
        return "incomplete", "NOT complete", _describe_gaps(manifest, coverage)
    text = f"All {coverage.targets:,} places (region × compartment) answered for the whole range."
    waived = f" {len(manifest.waived_gaps):,} known denials are waived." if manifest.waived_gaps else ""
    return "complete", "Complete", [text + waived]


def _describe_gaps(manifest: Manifest, coverage: CoverageMap) -> list[str]:
    kinds = {kind: sum(gap.kind == kind for gap in manifest.gaps) for kind in ("denied", "failed")}
    counted = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    compartments = {gap.compartment for gap in manifest.gaps}
    regions = sorted({gap.region for gap in manifest.gaps})
    shown = ", ".join(regions[:_TARGETS_NAMED]) + (" and more" if len(regions) > _TARGETS_NAMED else "")
    gaps = _count(len(manifest.gaps), "gap", "gaps")
    where = f"{_count(len(compartments), 'compartment', 'compartments')} in {shown}"
    complete = f"{coverage.targets - coverage.targets_with_gaps:,} of {coverage.targets:,} places are complete."
    return [
        f"{gaps} ({counted or 'no reason stated'}): {where}.",
        f"{complete} What happened in the gaps is not in this report.",
    ]


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _name_file(file: FileFacts, manifest: Manifest | None, tally: ReportStats) -> list[tuple[str, str, str]]:
    if manifest:
        span = f"{show_minute(manifest.range.start)} to {show_minute(manifest.range.end)} UTC, {manifest.range.time}"
        statement = f"sha256:{manifest.digest}"
    else:
        times = [format_instant(instant)[:16].replace("T", " ") for instant in (tally.stats.first, tally.stats.last)]
        span = (
            f"{times[0]} to {times[1]} UTC, the first and the last event"
            if tally.stats.first
            else "no event has a time"
        )
        statement = "none beside the file"
    return [("Range", span, ""), ("File", f"sha256:{file.digest}", "code"), ("Manifest", statement, "code")]


def _list_facts(file: FileFacts, manifest: Manifest | None, version: str) -> list[tuple[str, str, str]]:
    facts = [("Size", f"{file.size_bytes:,} bytes", "")]
    if manifest:
        facts.append(("Asked by", manifest.asked_by.principal, "code"))
        facts.append(("Tenancy", manifest.asked_by.tenancy, "code"))
    return [*facts, ("Made with", f"oci-audit {version}", "")]


def _list_figures(tally: ReportStats, data: ReportData) -> list[tuple[str, str, str]]:
    stats = tally.stats
    failures, changes = stats.outcomes["failure"], tally.changes - tally.failed_changes
    failed_sign_ins = sum(number for (_, outcome), number in stats.sign_ins.items() if outcome == "failure")
    return [
        ("events", f"{stats.events:,}", ""),
        ("failures", f"{failures:,}", "bad" if failures else ""),
        ("failed sign-ins", f"{failed_sign_ins:,}", "bad" if failed_sign_ins else ""),
        ("changes to IAM", f"{changes:,}", "warn" if changes else ""),
        ("principals", f"{data.principals.distinct:,}", ""),
        ("source addresses", f"{data.top_addresses.distinct:,}", ""),
    ]


def _list_notes(manifest: Manifest | None, tally: ReportStats) -> list[str]:
    notes = []
    if manifest and manifest.provisional:
        notes.append(f"{len(manifest.provisional):,} windows were asked too soon after their end to be final.")
    if manifest and manifest.totals.filtered:
        notes.append(f"The export was filtered: {manifest.totals.filtered:,} events were left out.")
    if manifest and manifest.scope.reaches_beyond_retention:
        notes.append("The range reaches beyond what the tenancy keeps.")
    if tally.stats.untimed:
        notes.append(f"{tally.stats.untimed:,} events have no readable time; they are on no time axis.")
    notes += [f"Not exact: {limit}." for limit in list_limits(tally.stats, ())]
    return notes


def show_minute(text: str) -> str:
    """Return a time of a manifest as people read it; all times of a report are UTC."""
    return text.removesuffix("Z").removesuffix(":00").replace("T", " ")


_ASSETS = files("ociaudit.analysis") / "assets"
_STYLES = ("uPlot.min.css", "report.css")
_SCRIPTS = ("uPlot.iife.min.js", "report_text.js", "report_charts.js", "report_tables.js", "report.js")
_ESCAPES: dict[str, str | int | None] = {
    "<": "\\u003c",
    ">": "\\u003e",
    "&": "\\u0026",
    "\u2028": "\\u2028",
    "\u2029": "\\u2029",
}
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def write_page(head: ReportHead, data: ReportData) -> bytes:
    """Return the page."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = show_hidden
    environment.filters["minute"] = show_minute
    style, script = (join_assets(names) for names in (_STYLES, _SCRIPTS))
    page = environment.from_string(_read_asset("report.html")).render(
        head=head,
        data_json=encode_for_page(data),
        style=style,
        script=script,
        style_hash=hash_source(style),
        script_hash=hash_source(script),
    )
    return page.encode("utf-8")


def encode_for_page(data: object) -> str:
    """Return JSON that can stand in a script element: nothing in it can end the element or begin a comment."""
    text = msgspec.json.encode(data).decode("utf-8")
    return text.translate(str.maketrans(_ESCAPES))


def show_hidden(text: str) -> str:
    """Return text in which every character that cannot be seen, or turns others around, is named."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in text
    )


def hash_source(text: str) -> str:
    """Return the hash by which a content security policy knows an inline script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def join_assets(names: tuple[str, ...]) -> str:
    """Return files of the package, one after the other."""
    return "\n".join(_read_asset(name) for name in names)


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")


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
    manifest_path_beside = manifest_path or name_manifest(source)
    check_output(output, source, manifest_path_beside, may_overwrite=may_overwrite)
    statement = _read_manifest_file(manifest_path_beside, is_required=manifest_path is not None)
    with ThreadPoolExecutor(1) as aside:
        digest = aside.submit(_hash_file, source)  # on another core: hashing leaves the interpreter alone
        tally = feed_files([source], ReportStats)
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
        events=tally.stats.events,
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


def _read_manifest_file(path: Path, *, is_required: bool) -> ManifestFile | None:
    if not path.is_file():
        if is_required:
            raise UsageError(f"{path} is not a file", hint="name the manifest of the export, or leave --manifest out")
        return None
    return load_manifest(path)


def _hash_file(path: Path) -> tuple[str, int]:
    with explain_disk("read", path), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _choose_span(manifest: Manifest | None, tally: ReportStats) -> tuple[int, int]:
    """Return the range of the time axes in seconds since 1970: what was asked, else what the events span."""
    if manifest is not None:
        return manifest.window.start * 60, manifest.window.end * 60
    return tally.times.find_range() or (0, _A_DAY_SECONDS)
