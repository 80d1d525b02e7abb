"""`oci-audit summary`: what a file of events tells at a glance. Owns: its options.

What `oci-audit summary` says. Owns: its words and its layout. Must not: print, or count.

Invariant: every text of an event is cleaned before it is measured, so that columns stay in their places.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from ociaudit.analysis.summary import ActorEntry, CoverageEntry, DetectionEntry, Summary
from ociaudit.cli import console
from ociaudit.cli.console import clean_text


def summary(
    files: Annotated[list[Path], typer.Argument(help="Files with audit events; - is stdin.", metavar="FILE...")],
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print the summary as one JSON object.")] = False,
    event_counts: Annotated[
        Path | None, typer.Option(help="Write how often each eventName occurs, as a JSON object.", metavar="FILE")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file if it exists.")] = False,
) -> int:
    """Show what a file tells: range, gaps, what is worth a look, most frequent, failures, sign-ins, new, IAM."""
    from ociaudit.analysis.stats import EventStats, count_files
    from ociaudit.analysis.summary import encode_counts, make_summary, read_coverage
    from ociaudit.cli.console import interrupt_on_signals
    from ociaudit.cli.options import check_output
    from ociaudit.storage.atomic_io import write_file

    paths = [None if str(path) == "-" else path for path in files]
    if event_counts:
        check_output(event_counts, inputs=files, can_overwrite=overwrite)
    with interrupt_on_signals():
        stats = count_files(paths, EventStats)
    result = make_summary(stats, [read_coverage(path) for path in paths])
    if event_counts:
        write_file(event_counts, encode_counts(stats))
    if is_json:
        console.print_output(encode_summary(result))
    else:
        for line in describe_summary(result):
            console.print_output(line)
    return 0


_COLUMN = 32
_COUNT = 9
_ROWS = 8
_GAPS_SHOWN = 3
_STRONG = 5
_STRONG_SHOWN = 3
_WEAK_SHOWN = 3
_FAILURES_SHOWN = 5
_NEW_SHOWN = 4
_CHANGES_SHOWN = 3
_NAMES_SHOWN = 6
_LONGEST = 150
_SHORT_OCID = 12
_LABEL = 11


def describe_summary(summary: Summary) -> Iterator[str]:
    """Yield a screenful."""
    names = ", ".join(clean_text(one.file) for one in summary.files)
    size = f"{summary.raw_bytes / 1e6:,.1f} MB of JSON"
    yield f"{names}: {summary.events:,} events, {size}"
    if summary.first_event_time and summary.last_event_time:
        untimed = f"; {summary.untimed:,} without a readable time" if summary.untimed else ""
        first, last = _minute(summary.first_event_time), _minute(summary.last_event_time)
        yield f"{'event time':<{_LABEL}}{first} to {last} UTC{untimed}"
    for one in summary.files:
        yield from _describe_coverage(one, is_alone=len(summary.files) == 1)
    if summary.events:
        yield ""
        yield from _describe_findings(summary.findings)
        yield ""
        yield from _describe_tops(summary)
        yield ""
        yield from _describe_rest(summary)
    for limit in summary.limits:
        yield f"note: {limit}"


def encode_summary(summary: Summary) -> str:
    """Return the summary as one JSON object in ASCII: hostile characters stand as escapes, and nothing is lost."""
    return json.dumps(msgspec.to_builtins(summary))


def _describe_coverage(coverage: CoverageEntry, *, is_alone: bool) -> Iterator[str]:
    where = "" if is_alone else f" ({clean_text(coverage.file)})"
    if coverage.state == "unknown":
        yield f"{'coverage':<{_LABEL}}unknown: there is no manifest beside it{where}"
        return
    answered = f"{coverage.targets_answered:,} of {coverage.targets:,} targets (region × compartment) answered"
    asked = f"asked {coverage.asked_start} to {coverage.asked_end}"
    if coverage.state == "altered":
        text = "UNKNOWN: the manifest beside it tells another size; see `oci-audit verify`"
    elif coverage.state == "complete":
        text = f"complete: {answered}, {asked}"
    else:
        text = f"INCOMPLETE: {len(coverage.gaps):,} gaps, {answered}, {asked}"
    yield f"{'coverage':<{_LABEL}}{text}{where}"
    for gap in coverage.gaps[:_GAPS_SHOWN]:
        target = f"{gap.region} …{gap.compartment[-_SHORT_OCID:]}"
        yield _cut(f"{'':<{_LABEL}}GAP {gap.kind} {target} {gap.start} .. {gap.end} {gap.reason}")
    if len(coverage.gaps) > _GAPS_SHOWN:
        yield f"{'':<{_LABEL}}… and {len(coverage.gaps) - _GAPS_SHOWN:,} more gaps; all are in the manifest"
    for number, words in (
        (coverage.waived_gaps, "waived gaps"),
        (coverage.provisional, "windows provisional: asked too soon after their end"),
        (coverage.filtered, "events filtered out at export: what follows speaks of the rest"),
    ):
        if number:
            yield f"{'':<{_LABEL}}{number:,} {words}"


def _describe_findings(findings: Sequence[DetectionEntry]) -> Iterator[str]:
    strong = [one for one in findings if one.weight >= _STRONG]
    weak = [one for one in findings if one.weight < _STRONG]
    yield "worth a look" if findings else "worth a look: nothing that the rules know"
    for one in strong[:_STRONG_SHOWN]:
        yield _cut(f"!! {_name_finding(one)}, {_describe_range(one)}, {one.events:,} events")
        is_one_day = _is_one_day(one)
        for line in one.timeline:
            time = _minute(line.time) if line.time else "?"
            yield _cut(f"     {time[11:] if is_one_day else time[5:]}  {line.text}")
        if not one.timeline:
            yield _cut(f"     {'; '.join(one.reasons)}")
    for one in strong[_STRONG_SHOWN : 2 * _STRONG_SHOWN] + weak[:_WEAK_SHOWN]:
        mark = "!!" if one.weight >= _STRONG else "! "
        yield _cut(f"{mark} {_name_finding(one)}: {'; '.join(one.reasons)}; {_describe_range(one)}")
    left_out = max(len(strong) - 2 * _STRONG_SHOWN, 0) + max(len(weak) - _WEAK_SHOWN, 0)
    if left_out:
        yield f"   … and {left_out:,} more: --json lists them"


def _name_finding(finding: DetectionEntry) -> str:
    if not finding.principal:
        return finding.address
    return finding.principal + (f" from {finding.address}" if finding.address else "")


def _describe_range(finding: DetectionEntry) -> str:
    if not finding.first or not finding.last:
        return "at an unknown time"
    first, last = _minute(finding.first), _minute(finding.last)
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _is_one_day(finding: DetectionEntry) -> bool:
    days = {line.time[:10] for line in finding.timeline if line.time}
    return len(days) == 1 and (finding.first or "")[:10] in days


def _describe_tops(summary: Summary) -> Iterator[str]:
    """Yield event names, principals and addresses side by side."""
    columns = (
        ("events", list(summary.event_names.items())),
        (f"principals ({summary.principals_total:,})", [(one.name, one.events) for one in summary.principals]),
        (f"addresses ({summary.addresses_total:,})", [(one.name, one.events) for one in summary.addresses]),
    )
    yield "  ".join(_fit(f"{'':>{_COUNT}} {title}", _COLUMN) for title, _ in columns).rstrip()
    for row in zip_longest(*(entries[:_ROWS] for _, entries in columns)):
        cells = [f"{entry[1]:>{_COUNT},} {clean_text(entry[0])}" if entry else "" for entry in row]
        yield "  ".join(_fit(cell, _COLUMN) for cell in cells).rstrip()


def _describe_rest(summary: Summary) -> Iterator[str]:
    failed = summary.outcomes.get("failure", 0)
    share = f" ({failed / summary.events:.1%})" if failed else ""
    top = (f"{one.event_name or '(none)'} {one.status} × {one.events:,}" for one in summary.failures[:_FAILURES_SHOWN])
    yield _say("failures", f"{failed:,}{share}", top)
    yield _say("sign-ins", _describe_sign_ins(summary), _list_bad_days(summary.sign_ins_by_day))
    since = _minute(summary.new_since) if summary.new_since else "?"
    yield _say("new", f"since {since}: {summary.new_principals_total:,} principals", _name_new(summary.new_principals))
    yield _say("", f"since then {summary.new_addresses_total:,} addresses", _name_new(summary.new_addresses))
    yield _say("IAM", f"{summary.iam_changes:,} changes", _list_counts(summary.iam_change_names))
    for change in summary.iam_changes_latest[:_CHANGES_SHOWN]:
        who = f"{change.principal or '(unknown)'} from {change.address or 'an unknown address'}"
        yield _cut(f"{'':<{_LABEL}}{_minute(change.time) if change.time else '?'} {change.event_name} by {who}")


def _describe_sign_ins(summary: Summary) -> str:
    counts = summary.sign_ins
    unknown = f", {counts['unknown']:,} of unknown outcome" if counts.get("unknown") else ""
    return f"{sum(counts.values()):,}, {counts.get('failure', 0):,} failed{unknown}"


def _list_bad_days(days: Mapping[str, Mapping[str, int]]) -> Iterator[str]:
    ranked = sorted(days.items(), key=lambda item: (-item[1].get("failure", 0), item[0]))
    for day, outcomes in ranked[:_CHANGES_SHOWN]:
        if outcomes.get("failure"):
            yield f"{outcomes['failure']:,} failed on {day}"


def _name_new(seen: Sequence[ActorEntry]) -> Iterator[str]:
    for one in seen[:_NEW_SHOWN]:
        partner = f" ({one.with_[0]})" if one.with_ else ""
        yield f"{one.name}{partner} {one.events:,}"


def _list_counts(counts: Mapping[str, int]) -> Iterator[str]:
    for name, number in list(counts.items())[:_NAMES_SHOWN]:
        yield f"{name} {number:,}"


def _say(label: str, text: str, details: Iterable[str]) -> str:
    listed = ", ".join(details)
    return _cut(f"{label:<{_LABEL}}{text}{': ' if listed else ''}{listed}")


def _cut(text: str) -> str:
    """Return a line of events' own texts, cleaned and not too long."""
    clean = clean_text(text)
    return clean if len(clean) <= _LONGEST else clean[: _LONGEST - 1] + "…"


def _fit(text: str, width: int) -> str:
    """Bring a cleaned text to a width in a terminal's cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def _minute(time: str) -> str:
    """Return `YYYY-MM-DD HH:MM` of an RFC 3339 time in UTC."""
    return f"{time[:10]} {time[11:16]}"
