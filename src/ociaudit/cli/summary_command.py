"""`oci-audit summary`: its options, its run and its screen.

Invariant: every text of an event is cleaned before it is measured, so that columns stay aligned.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociaudit.cli import console
from ociaudit.cli.console import clean_text
from ociaudit.cli.options import FILE, Command, argument, check_output, option
from ociaudit.errors import ExitCode, format_count

if TYPE_CHECKING:
    from ociaudit.analysis.summary import ActorEntry, CoverageEntry, DetectionEntry, Summary

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
_LINE_WIDTH = 150
_SHORT_OCID = 12
_LABEL = 11


@click.command(
    cls=Command,
    examples=(
        ("Summarize an export", "oci-audit summary audit.json"),
        ("Write event counts by name to a separate file", "oci-audit summary audit.json --event-counts counts.json"),
    ),
)
@argument("files", nargs=-1, required=True, type=FILE, metavar="FILE...", help="Event files, or - for stdin.")
@option("--json", "as_json", is_flag=True, help="Print the summary as one JSON object.")
@option(
    "--event-counts",
    type=FILE,
    metavar="FILE",
    help="Write how often each eventName occurs to this file, as a JSON object.",
)
@option("--overwrite", is_flag=True, help="Overwrite that file if it exists.")
def summary(files: tuple[Path, ...], *, as_json: bool, event_counts: Path | None, overwrite: bool) -> int:
    """Show range, gaps, findings, most frequent events, failures, sign-ins, newly seen actors, and IAM changes."""
    from concurrent.futures import ThreadPoolExecutor

    from ociaudit.analysis.stats import EventStats, count_files
    from ociaudit.analysis.summary import encode_counts, make_summary, read_coverage
    from ociaudit.storage.atomic_io import write_file

    paths = [None if str(path) == "-" else path for path in files]
    if event_counts:
        check_output(event_counts, inputs=files, can_overwrite=overwrite)
    with console.handle_signals(console.raise_interrupted), ThreadPoolExecutor(1) as executor:
        coverage = executor.submit(lambda: [read_coverage(path) for path in paths])  # hashing releases the lock
        stats = count_files(paths, EventStats)
        result = make_summary(stats, coverage.result())
    if event_counts:
        write_file(event_counts, encode_counts(stats))
    if as_json:
        console.print_output(encode_summary(result))
    else:
        for line in describe_summary(result):
            console.print_output(line)
    return ExitCode.OK


def describe_summary(summary: Summary) -> Iterator[str]:
    """Yield the screen, line by line."""
    names = ", ".join(clean_text(one.file) for one in summary.files)
    size = f"{summary.raw_bytes / 1e6:,.1f} MB of JSON"
    yield f"{names}: {format_count(summary.events, 'event')}, {size}"
    if summary.first_event_time and summary.last_event_time:
        untimed = f"; {summary.untimed:,} without a readable time" if summary.untimed else ""
        first, last = _format_minute(summary.first_event_time), _format_minute(summary.last_event_time)
        yield f"{'event time':<{_LABEL}}{first} to {last} UTC{untimed}"
    for one in summary.files:
        yield from _describe_coverage(one, is_alone=len(summary.files) == 1)
    if summary.events:
        yield ""
        yield from _describe_detections(summary.findings)
        yield ""
        yield from _describe_tops(summary)
        yield ""
        yield from _describe_rest(summary)
    for limit in summary.limits:
        yield f"note: {limit}"


def encode_summary(summary: Summary) -> str:
    """Return the summary as one JSON object in ASCII: hostile characters are escaped, and nothing is lost."""
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(summary))


def _describe_coverage(coverage: CoverageEntry, *, is_alone: bool) -> Iterator[str]:
    where = "" if is_alone else f" ({clean_text(coverage.file)})"
    headline, *qualifiers = coverage.verdict
    yield f"{'coverage':<{_LABEL}}{clean_text(headline)}{where}"
    if coverage.state in {"unknown", "altered"}:
        return
    yield f"{'':<{_LABEL}}requested {coverage.asked_start} to {coverage.asked_end}"
    for line in qualifiers:
        yield f"{'':<{_LABEL}}{clean_text(line)}"
    for gap in coverage.gaps[:_GAPS_SHOWN]:
        target = f"{gap.region} …{gap.compartment[-_SHORT_OCID:]}"
        yield _truncate(f"{'':<{_LABEL}}GAP {gap.kind} {target} {gap.start} .. {gap.end} {gap.reason}")
    if len(coverage.gaps) > _GAPS_SHOWN:
        more = format_count(len(coverage.gaps) - _GAPS_SHOWN, "more gap")
        yield f"{'':<{_LABEL}}… and {more}; the manifest lists all"
    if coverage.filtered:
        filtered = format_count(coverage.filtered, "event")
        yield f"{'':<{_LABEL}}{filtered} filtered out at export: what follows describes the rest"


def _describe_detections(detections: Sequence[DetectionEntry]) -> Iterator[str]:
    strong = [one for one in detections if one.weight >= _STRONG]
    weak = [one for one in detections if one.weight < _STRONG]
    yield "findings" if detections else "findings: no rule matched"
    for one in strong[:_STRONG_SHOWN]:
        yield _truncate(f"!! {_name_detection(one)}, {_describe_range(one)}, {format_count(one.events, 'event')}")
        is_one_day = _is_one_day(one)
        for line in one.timeline:
            time = _format_minute(line.time) if line.time else "?"
            yield _truncate(f"     {time[11:] if is_one_day else time[5:]}  {line.text}")
        if not one.timeline:
            yield _truncate(f"     {'; '.join(one.reasons)}")
    for one in strong[_STRONG_SHOWN : 2 * _STRONG_SHOWN] + weak[:_WEAK_SHOWN]:
        mark = "!!" if one.weight >= _STRONG else "! "
        yield _truncate(f"{mark} {_name_detection(one)}: {'; '.join(one.reasons)}; {_describe_range(one)}")
    more = max(len(strong) - 2 * _STRONG_SHOWN, 0) + max(len(weak) - _WEAK_SHOWN, 0)
    if more:
        yield f"   … and {more:,} more: --json lists them"


def _name_detection(detection: DetectionEntry) -> str:
    if not detection.principal:
        return detection.address
    return detection.principal + (f" from {detection.address}" if detection.address else "")


def _describe_range(detection: DetectionEntry) -> str:
    if not detection.first or not detection.last:
        return "at an unknown time"
    first, last = _format_minute(detection.first), _format_minute(detection.last)
    if first == last:
        return first
    return f"{first} to {last[11:] if first[:10] == last[:10] else last}"


def _is_one_day(detection: DetectionEntry) -> bool:
    days = {line.time[:10] for line in detection.timeline if line.time}
    return len(days) == 1 and (detection.first or "")[:10] in days


def _describe_tops(summary: Summary) -> Iterator[str]:
    """Yield event names, principals and addresses side by side."""
    columns = (
        ("events", list(summary.event_names.items())),
        (f"principals ({summary.principals_total:,})", [(one.name, one.events) for one in summary.principals]),
        (f"addresses ({summary.addresses_total:,})", [(one.name, one.events) for one in summary.addresses]),
    )
    yield "  ".join(_fit(f"{'':>{_COUNT}} {title}", _COLUMN) for title, _ in columns).rstrip()
    for row in itertools.zip_longest(*(entries[:_ROWS] for _, entries in columns)):
        cells = [f"{entry[1]:>{_COUNT},} {clean_text(entry[0])}" if entry else "" for entry in row]
        yield "  ".join(_fit(cell, _COLUMN) for cell in cells).rstrip()


def _describe_rest(summary: Summary) -> Iterator[str]:
    failed = summary.outcomes.get("failure", 0)
    share = f" ({failed / summary.events:.1%})" if failed else ""
    top = (f"{one.event_name or '(none)'} {one.status} × {one.events:,}" for one in summary.failures[:_FAILURES_SHOWN])
    yield _format_row("failures", f"{failed:,}{share}", top)
    yield _format_row("sign-ins", _describe_sign_ins(summary), _list_bad_days(summary.sign_ins_by_day))
    since = _format_minute(summary.new_since) if summary.new_since else "?"
    yield _format_row(
        "new",
        f"since {since}: {format_count(summary.new_principals_total, 'principal')}",
        _name_new(summary.new_principals),
    )
    yield _format_row(
        "", f"since then {format_count(summary.new_addresses_total, 'address')}", _name_new(summary.new_addresses)
    )
    yield _format_row("IAM", format_count(summary.iam_changes, "change"), _list_counts(summary.iam_change_names))
    for change in summary.iam_changes_latest[:_CHANGES_SHOWN]:
        who = f"{change.principal or '(unknown)'} from {change.address or 'an unknown address'}"
        yield _truncate(
            f"{'':<{_LABEL}}{_format_minute(change.time) if change.time else '?'} {change.event_name} by {who}"
        )


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


def _format_row(label: str, text: str, details: Iterable[str]) -> str:
    listed = ", ".join(details)
    return _truncate(f"{label:<{_LABEL}}{text}{': ' if listed else ''}{listed}")


def _truncate(text: str) -> str:
    """Return a line with text of events, cleaned and truncated to the width of the screen."""
    clean = clean_text(text)
    return clean if len(clean) <= _LINE_WIDTH else clean[: _LINE_WIDTH - 1] + "…"


def _fit(text: str, width: int) -> str:
    """Pad or truncate cleaned text to a width in terminal cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def _format_minute(time: str) -> str:
    """Return `YYYY-MM-DD HH:MM` of an RFC 3339 time in UTC."""
    return f"{time[:10]} {time[11:16]}"
