"""The report of an export or an archive: one self-contained HTML page.

`report_input` reads the input and what is stated about it, counts the events, and writes the page. The head of the
page, built here, states what the input is and whether it is complete; `report_data` builds what the page's script
draws.

Invariants
- Inputs are only read. The output is private from its first byte, appears under its name only when it is whole, and
  replaces an existing file only on request, never the input, its manifest or its ledger.
- Without a manifest, nothing is called complete. Gaps, a file that does not match its manifest, and a manifest that
  was changed are the verdict itself, not a note beside it.
- The page loads nothing: its content security policy allows only its own script and style, by their hashes.
- Nothing in the data can become markup or code. The JSON block escapes `<`, `>`, `&` and the line separators;
  jinja2 escapes the text of the HTML, and invisible characters in it are shown by their number.
"""

from __future__ import annotations

import base64
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ociaudit.analysis.report_data import CoverageMap, GapRow, ReportData, list_gaps, make_report_data, map_coverage
from ociaudit.analysis.report_stats import ReportStats
from ociaudit.analysis.stats import count_files
from ociaudit.analysis.summary import list_limits
from ociaudit.archive.inputs import Input, InputFacts
from ociaudit.errors import ExitCode, UsageError, format_count
from ociaudit.events.fields import format_instant
from ociaudit.formats.reader import ignore_incomplete
from ociaudit.planning.time_range import reject_placeholders
from ociaudit.storage.atomic_io import check_replaceable, is_part_of, write_file
from ociaudit.storage.manifest import CoverageStatement
from ociaudit.storage.verdict import VerdictKind, describe_verdict
from ociaudit.version import VERSION

if TYPE_CHECKING:
    from markupsafe import Markup

_REGIONS_SHOWN = 3
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
_WHOLE = re.compile(
    r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,9})?)?Z?)?\b|\b[a-z]{2}(?:-[a-z]{2,12}){1,2}-\d{1,2}\b"
)
_LABELLED = re.compile(r"\s*(\S(?:\S| (?=\S)){0,16}) {2,}(\S.*)")
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


@dataclass(frozen=True, slots=True)
class ReportOutcome:
    """What `report_input` wrote; each of `findings` is one line of text."""

    output: Path
    size_bytes: int
    events: int
    events_in_table: int
    verdict: VerdictKind
    verdict_text: tuple[str, ...]
    """The verdict in words: the headline, then its qualifiers."""
    exit_code: ExitCode
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReportHead:
    """The static part of the page; all texts may be hostile."""

    title: str
    verdict: VerdictKind
    words: tuple[str, ...]
    exit_code: ExitCode
    headline: str
    explanation: Sequence[str]
    file: Sequence[tuple[str, str, str]]
    """(label, value, class): the range and the digests; the class is `code` for digests and ids."""
    facts: Sequence[tuple[str, str, str]]
    """The same for what matters less."""
    figures: Sequence[tuple[str, str, str]]
    """(label, number, tone)."""
    gaps: Sequence[GapRow]
    gaps_left_out: int
    notes: Sequence[str]


def report_input(
    source: Input,
    output: Path,
    *,
    may_overwrite: bool = False,
    on_incomplete: Callable[[str], None] = ignore_incomplete,
) -> ReportOutcome:
    """Write the report of an export or an archive.

    Raises:
        UsageError: the input does not exist, or the output would replace something.
        UnreadableInput: the file does not hold audit events, or is truncated or damaged.
        CorruptRun: the manifest cannot be read, or the archive is damaged.
        DiskError: an input cannot be read, or the output cannot be written.
    """
    if not source.is_rereadable:
        raise UsageError(f"{source.name} is not a file", hint="pass a file that oci-audit export wrote, or an archive")
    _check_output(output, source, may_overwrite=may_overwrite)
    with ThreadPoolExecutor(1) as executor:
        stated = executor.submit(source.read_facts, with_digest=True)  # hashing releases the interpreter lock
        report_stats = count_files([source], ReportStats, on_incomplete=on_incomplete)
        facts = _check_count(stated.result(), report_stats)
    names = {**report_stats.compartment_names, **facts.paths}
    coverage = _map_readable_coverage(facts.statement, names) if facts.statement else None
    noun = "archive" if source.view is not None else "file" if source.file is not None else "folder"
    span = _choose_time_span(coverage, report_stats)
    data = make_report_data(report_stats, coverage, span, source.open_origins(), noun=noun)
    head = _make_head(facts, names, report_stats, data)
    page = _render_page(head, data)
    write_file(output, page, may_replace=may_overwrite)
    return ReportOutcome(
        output=output,
        size_bytes=len(page),
        events=report_stats.stats.events,
        events_in_table=len(data.sample),
        verdict=head.verdict,
        verdict_text=head.words,
        exit_code=head.exit_code,
        findings=tuple(
            f"{' from '.join(filter(None, (one.principal, one.address)))}: {one.reasons}" for one in data.findings
        ),
    )


def _check_output(output: Path, source: Input, *, may_overwrite: bool) -> None:
    """Raise an error if the output would replace an input, or any other file without permission."""
    for path in filter(None, (source.path, *source.sidecars)):
        if is_part_of(output, path):
            raise UsageError(
                f"{output} would replace a file that the report is made from", hint="choose another file with -o"
            )
    if str(output) == "-":
        raise UsageError("a report is written to a file", hint="name one with -o, for example -o report.html")
    reject_placeholders(output)
    check_replaceable(output)
    if output.exists() and not may_overwrite:
        raise UsageError(f"{output} exists", hint="choose another file with -o, or replace it with --overwrite")


def _check_count(facts: InputFacts, report_stats: ReportStats) -> InputFacts:
    """Return the facts; of a file that holds another number of events than its manifest states, it is altered."""
    if facts.events in {None, report_stats.stats.events}:
        return facts
    verdict = facts.verdict.mark_altered()
    return replace(facts, verdict=verdict, words=tuple(describe_verdict(verdict)))


def _map_readable_coverage(statement: CoverageStatement, names: dict[str, str]) -> CoverageMap | None:
    """Return the map of what is stated; None if a time in it cannot be read, which makes the verdict altered."""
    try:
        return map_coverage(statement, names)
    except ValueError:
        return None


def _choose_time_span(coverage: CoverageMap | None, report_stats: ReportStats) -> tuple[int, int] | None:
    """Return the range of the time axes in seconds since 1970: the requested one, else that of the events, if any."""
    if coverage is not None:
        return coverage.range_start, coverage.range_end
    return report_stats.times.find_range()


def _make_head(facts: InputFacts, names: dict[str, str], report_stats: ReportStats, data: ReportData) -> ReportHead:
    verdict = facts.verdict
    headline, explanation = _explain_verdict(facts, data.coverage, data.noun)
    gaps, gaps_left_out = list_gaps(facts.statement, names) if facts.statement else ([], 0)
    return ReportHead(
        title=Path(facts.name).name,
        verdict=verdict.kind,
        words=facts.words,
        exit_code=verdict.exit_code,
        headline=headline,
        explanation=explanation,
        file=_describe_input(facts, report_stats),
        facts=_list_facts(facts),
        figures=_list_figures(report_stats, data),
        gaps=gaps,
        gaps_left_out=gaps_left_out,
        notes=_list_notes(facts, report_stats),
    )


def _explain_verdict(facts: InputFacts, coverage: CoverageMap | None, noun: str) -> tuple[str, list[str]]:
    """Return the headline of the page and the lines below it."""
    headline, *qualifiers = (line[0].upper() + line[1:] for line in facts.words)
    lines = [f"{line}." for line in qualifiers]
    if facts.statement is None:
        lines.append(f"The {noun} alone does not show what was requested or is missing.")
    elif facts.verdict.kind is VerdictKind.ALTERED:
        what = "content of the file" if facts.has_own_digest else "digest of the manifest"
        lines.append(f"The {what} is not what the manifest states: do not rely on what this page says about coverage.")
    elif facts.verdict.kind is VerdictKind.INCOMPLETE and coverage is not None:
        lines = [*_describe_gaps(facts.statement, coverage), *lines]
    return headline, lines


def _describe_gaps(stated: CoverageStatement, coverage: CoverageMap) -> list[str]:
    counts = {kind: sum(gap.kind == kind for gap in stated.gaps) for kind in ("denied", "failed")}
    by_kind = " and ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    compartments = {gap.compartment for gap in stated.gaps}
    regions = sorted({gap.region for gap in stated.gaps})
    shown = ", ".join(regions[:_REGIONS_SHOWN]) + (" and others" if len(regions) > _REGIONS_SHOWN else "")
    where = f"{format_count(len(compartments), 'compartment')} in {shown}"
    whole = coverage.targets - coverage.targets_with_gaps - coverage.targets_waived
    answered = f"{whole:,} of {format_count(coverage.targets, 'target')}"
    counted = f"{format_count(len(stated.gaps), 'gap')} ({by_kind or 'no reason stated'}): {where}."
    rest = f"{answered} answered completely. This report does not show what happened in the gaps."
    return [counted, rest] if stated.gaps else [rest]


def _describe_input(facts: InputFacts, report_stats: ReportStats) -> list[tuple[str, str, str]]:
    first, last = report_stats.stats.first, report_stats.stats.last
    if facts.start and facts.end:
        span = f"{_show_minute(facts.start)} to {_show_minute(facts.end)} UTC, {facts.basis}"
    else:
        minutes = f"{_show_minute(format_instant(first))} to {_show_minute(format_instant(last))}" if first else ""
        span = f"{minutes} UTC, the first and the last event" if first else "no event has a time"
    return [("Range", span, ""), *((label, value, "code") for label, value in facts.labels)]


def _list_facts(facts: InputFacts) -> list[tuple[str, str, str]]:
    return [
        ("Size", format_count(facts.size_bytes, "byte"), ""),
        *((label, value, "code") for label, value in facts.requested_by),
        ("Created with", f"oci-audit {VERSION}", ""),
    ]


def _list_figures(report_stats: ReportStats, data: ReportData) -> list[tuple[str, str, str]]:
    stats = report_stats.stats
    failures, changes = stats.outcomes["failure"], report_stats.changes - report_stats.failed_changes
    failed_sign_ins = sum(number for (_, outcome), number in stats.sign_ins.items() if outcome == "failure")
    return [
        ("events", f"{stats.events:,}", ""),
        ("failures", f"{failures:,}", "bad" if failures else ""),
        ("failed sign-ins", f"{failed_sign_ins:,}", "bad" if failed_sign_ins else ""),
        ("changes to IAM", f"{changes:,}", "warn" if changes else ""),
        ("principals", f"{data.principals.distinct:,}", ""),
        ("source addresses", f"{data.top_addresses.distinct:,}", ""),
    ]


def _list_notes(facts: InputFacts, report_stats: ReportStats) -> list[str]:
    notes = []
    if facts.filtered:
        notes.append(f"The export was filtered: {format_count(facts.filtered, 'event')} omitted.")
    if report_stats.stats.untimed:
        events = format_count(report_stats.stats.untimed, "event")
        notes.append(f"{events} without a readable time: not on any time axis.")
    notes += [f"Not exact: {limit}." for limit in list_limits(report_stats.stats, ())]
    return notes


def _show_minute(time: str) -> str:
    """Return `YYYY-MM-DD HH:MM` of an RFC 3339 time; all times of a report are UTC."""
    return time[:16].replace("T", " ")


def _render_page(head: ReportHead, data: ReportData) -> bytes:
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(visible=show_hidden, minute=_show_minute, whole=keep_whole)
    style, script = _join_assets(_STYLES), _join_assets(_SCRIPTS)
    page = environment.from_string(_read_asset("report.html")).render(
        head=head,
        data_json=encode_for_page(data),
        style=style,
        script=script,
        style_hash=hash_source(style),
        script_hash=hash_source(script),
        noun=data.noun,
    )
    return page.encode("utf-8")


def render_asset(name: str, style_name: str, **values: object) -> bytes:
    """Return a page without a script from the assets; `values` may be hostile."""
    import jinja2

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters.update(visible=show_hidden, whole=keep_whole, facts=split_facts)
    style = _read_asset(style_name)
    page = environment.from_string(_read_asset(name)).render(style=style, style_hash=hash_source(style), **values)
    return page.encode("utf-8")


def encode_for_page(data: object) -> str:
    """Return JSON that is safe inside a script element: nothing in it can end the element or start a comment."""
    text = msgspec.json.encode(data).decode("utf-8")
    return text.translate(str.maketrans(_ESCAPES))


def show_hidden(text: str) -> str:
    """Return text in which every invisible or direction-changing character is replaced by its number."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        f"⟨U+{ord(char):04X}⟩" if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in text
    )


def keep_whole(text: str) -> Markup:
    """Return text as HTML in which invisible characters are shown, and no line breaks inside a date or a region."""
    from markupsafe import Markup, escape

    # Nothing in a match needs escaping, and no match can be longer than a phone is wide.
    return Markup(_WHOLE.sub(r'<span class="whole">\g<0></span>', str(escape(show_hidden(text)))))  # noqa: S704


def split_facts(lines: Iterable[str]) -> list[tuple[str, str]]:
    """Return (label, text) of lines of a screen, in which two spaces or more follow a label; "" where there is none."""
    found = [(_LABELLED.fullmatch(line), line) for line in lines]
    return [(match[1], match[2]) if match else ("", line.strip()) for match, line in found]


def hash_source(text: str) -> str:
    """Return the hash source expression that allows an inline script or style in a content security policy."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")


@cache
def _join_assets(names: tuple[str, ...]) -> str:
    return "\n".join(_read_asset(name) for name in names)


def _read_asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
