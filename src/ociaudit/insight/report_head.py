"""The head of a report: what the file is, and whether it is complete.

Owns: that verdict, in words. Must not: count events, or draw.

Invariants
- Without a manifest nothing is said to be complete.
- Gaps, a file that is not the one of its manifest, and a manifest that was changed are never just mentioned:
  they are the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ociaudit.events.fields import format_instant
from ociaudit.insight.report_coverage import CoverageMap, GapRow, list_gaps
from ociaudit.insight.report_data import ReportData
from ociaudit.insight.report_tally import ReportTally
from ociaudit.insight.summary import list_limits
from ociaudit.store.manifest import Manifest

Verdict = Literal["complete", "incomplete", "unknown", "altered"]
_PLACES_NAMED = 3


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What is known of the file itself; `digest` and `size_bytes` are those of the bytes read."""

    name: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Statement:
    """A manifest as it was found: its content, and whether its digest of itself is right."""

    manifest: Manifest
    has_own_digest: bool


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
    figures: Sequence[tuple[str, str, str]]
    """(word, number, tone)."""
    gaps: Sequence[GapRow]
    gaps_left_out: int
    notes: Sequence[str]


def make_head(
    file: FileFacts, statement: Statement | None, tally: ReportTally, data: ReportData, version: str
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
        figures=_list_figures(tally, data),
        gaps=gaps,
        gaps_left_out=left_out,
        notes=_list_notes(manifest, tally),
    )


def _judge(
    file: FileFacts, statement: Statement | None, tally: ReportTally, coverage: CoverageMap | None
) -> tuple[Verdict, str, list[str]]:
    if statement is None or coverage is None:
        text = "There is no manifest beside this file. Nobody can say from it alone what was asked, or what is missing."
        return "unknown", "Coverage unknown", [text]
    manifest = statement.manifest
    if not statement.has_own_digest:
        return "altered", "The manifest was changed", ["Its digest does not fit its content; do not rely on it."]
    if manifest.output.sha256 != file.digest or manifest.totals.written != tally.census.events:
        text = (
            "The bytes of this file are not those that its manifest states. Run oci-audit verify to see from where on."
        )
        return "altered", "This is not the file of its manifest", [text]
    if manifest.gaps or not manifest.complete:
        return "incomplete", "NOT complete", _describe_gaps(manifest, coverage)
    text = f"All {coverage.places:,} places (region × compartment) answered for the whole range."
    waived = f" {len(manifest.waived_gaps):,} known denials are waived." if manifest.waived_gaps else ""
    return "complete", "Complete", [text + waived]


def _describe_gaps(manifest: Manifest, coverage: CoverageMap) -> list[str]:
    kinds = {kind: sum(gap.kind == kind for gap in manifest.gaps) for kind in ("denied", "failed")}
    counted = " and ".join(f"{count:,} {kind}" for kind, count in kinds.items() if count)
    compartments = {gap.compartment for gap in manifest.gaps}
    regions = sorted({gap.region for gap in manifest.gaps})
    shown = ", ".join(regions[:_PLACES_NAMED]) + (" and more" if len(regions) > _PLACES_NAMED else "")
    gaps = _count(len(manifest.gaps), "gap", "gaps")
    where = f"{_count(len(compartments), 'compartment', 'compartments')} in {shown}"
    complete = f"{coverage.places - coverage.places_with_gaps:,} of {coverage.places:,} places are complete."
    return [
        f"{gaps} ({counted or 'no reason stated'}): {where}.",
        f"{complete} What happened in the gaps is not in this report.",
    ]


def _count(number: int, one: str, many: str) -> str:
    return f"{number:,} {one if number == 1 else many}"


def _name_file(file: FileFacts, manifest: Manifest | None, tally: ReportTally) -> list[tuple[str, str, str]]:
    if manifest:
        span = f"{show_minute(manifest.range.start)} to {show_minute(manifest.range.end)} UTC, {manifest.range.time}"
        statement = f"sha256:{manifest.digest}"
    else:
        times = [format_instant(instant)[:16].replace("T", " ") for instant in (tally.census.first, tally.census.last)]
        span = (
            f"{times[0]} to {times[1]} UTC, the first and the last event"
            if tally.census.first
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


def _list_figures(tally: ReportTally, data: ReportData) -> list[tuple[str, str, str]]:
    census = tally.census
    failures, changes = census.outcomes["failure"], tally.changes - tally.failed_changes
    failed_sign_ins = sum(number for (_, outcome), number in census.sign_ins.items() if outcome == "failure")
    return [
        ("events", f"{census.events:,}", ""),
        ("failures", f"{failures:,}", "bad" if failures else ""),
        ("failed sign-ins", f"{failed_sign_ins:,}", "bad" if failed_sign_ins else ""),
        ("changes to IAM", f"{changes:,}", "warn" if changes else ""),
        ("principals", f"{data.principals.distinct:,}", ""),
        ("source addresses", f"{data.top_addresses.distinct:,}", ""),
    ]


def _list_notes(manifest: Manifest | None, tally: ReportTally) -> list[str]:
    notes = []
    if manifest and manifest.provisional:
        notes.append(f"{len(manifest.provisional):,} windows were asked too soon after their end to be final.")
    if manifest and manifest.totals.filtered:
        notes.append(f"The export was filtered: {manifest.totals.filtered:,} events were left out.")
    if manifest and manifest.scope.reaches_beyond_retention:
        notes.append("The range reaches beyond what the tenancy keeps.")
    if tally.census.untimed:
        notes.append(f"{tally.census.untimed:,} events have no readable time; they are on no time axis.")
    notes += [f"Not exact: {limit}." for limit in list_limits(tally.census, ())]
    return notes


def show_minute(text: str) -> str:
    """Return a time of a manifest as people read it; all times of a report are UTC."""
    return text.removesuffix("Z").removesuffix(":00").replace("T", " ")
