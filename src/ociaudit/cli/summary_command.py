"""`oci-audit summary` and `oci-audit report`: their options, their runs, and the summary's screen.

Invariant: every text of an event is cleaned before it is measured, so that columns stay aligned.
"""

from __future__ import annotations

import gc
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociaudit.cli import console
from ociaudit.cli.console import clean_text, fit_widths, list_names
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    OUTPUT_FILE,
    OUTPUT_PLACE,
    PLACE,
    STRICT_HELP,
    Command,
    Places,
    argument,
    check_output,
    limit_options,
    open_command_inputs,
    option,
    place_options,
)
from ociaudit.errors import ExitCode, format_count

if TYPE_CHECKING:
    from ociaudit.analysis.report import ReportOutcome
    from ociaudit.analysis.summary import ActorEntry, CoverageEntry, DetectionEntry, Summary
    from ociaudit.archive.inputs import Limits
    from ociaudit.client.object_storage import ObjectUrl

_ROWS = 8
_GAP_LINES_SHOWN = 6
_FILES_SHOWN = 4
_HARMLESS = {"altered": -2, "incomplete": -1, "unknown": 1, "complete": 2}
_STRONG = 5
_STRONG_SHOWN = 3
_WEAK_SHOWN = 3
_FAILURES_SHOWN = 5
_NEW_SHOWN = 4
_CHANGES_SHOWN = 3
_NAMES_SHOWN = 6
_LINE_WIDTH = 150
_SCREEN_WIDTH = 80
_LABEL = 11


@click.command(
    cls=Command,
    examples=(
        ("Summarize an export", "oci-audit summary audit.json"),
        ("Write event counts by name to a separate file", "oci-audit summary audit.json --event-counts counts.json"),
    ),
)
@argument(
    "files",
    nargs=-1,
    required=True,
    type=PLACE,
    metavar="FILE...",
    help="Event files, oci:// URLs of them, or archives, or - for stdin.",
)
@option("--json", "as_json", section=OUTPUT, is_flag=True, help="Print the summary as one JSON object.")
@option(
    "--event-counts",
    section=OUTPUT,
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Write how often each eventName occurs to this file, as a JSON object.",
)
@option("--overwrite", section=OUTPUT, is_flag=True, help="Overwrite the --event-counts file if it exists.")
@limit_options
@place_options
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
def summary(
    files: tuple[Path | ObjectUrl, ...],
    *,
    limits: Limits,
    places: Places,
    as_json: bool,
    event_counts: Path | None,
    overwrite: bool,
    is_strict: bool,
) -> int:
    """Show range, gaps, findings, most frequent events, failures, sign-ins, newly seen actors, and IAM changes."""
    from concurrent.futures import ThreadPoolExecutor

    from ociaudit.analysis.stats import EventStats, count_files
    from ociaudit.analysis.summary import encode_counts, make_summary, read_coverage
    from ociaudit.storage.atomic_io import write_file

    gc.disable()  # what is counted makes no cycles, and many objects take long to search for some
    if event_counts:
        local = [one for one in files if isinstance(one, Path)]
        check_output(event_counts, inputs=local, can_overwrite=overwrite)
    inputs = open_command_inputs(files, limits, places)
    with console.handle_signals(console.raise_interrupted), ThreadPoolExecutor(1) as executor:
        coverage = executor.submit(lambda: [read_coverage(source) for source in inputs])  # hashing releases the lock
        stats = count_files(inputs, EventStats, on_incomplete=console.choose_notice(is_strict=is_strict))
        result = make_summary(stats, coverage.result())
    if event_counts:
        write_file(event_counts, encode_counts(stats))
    if as_json:
        console.print_data(encode_summary(result))
    else:
        for line in describe_summary(result, width=console.find_width()):
            console.print_output(line)
    return ExitCode.OK


def describe_summary(summary: Summary, *, width: int | None = None) -> Iterator[str]:
    """Yield the screen, line by line; `width` is that of the terminal, if it goes to one."""
    names = list_names([clean_text(one.file) for one in summary.files], shown=_FILES_SHOWN)
    size = f"{summary.raw_bytes / 1e6:,.1f} MB of JSON"
    yield f"{names}: {format_count(summary.events, 'event')}, {size}"
    if summary.first_event_time and summary.last_event_time:
        untimed = f"; {summary.untimed:,} without a readable time" if summary.untimed else ""
        first, last = _format_minute(summary.first_event_time), _format_minute(summary.last_event_time)
        yield f"{'event time':<{_LABEL}}{first} to {last} UTC{untimed}"
    yield from _describe_files(summary.files)
    if summary.events:
        yield ""
        yield from _describe_detections(summary.findings)
        yield ""
        yield from _describe_tops(summary, _SCREEN_WIDTH if width is None else width)
        yield ""
        yield from _describe_rest(summary)
    for limit in summary.limits:
        yield f"note: {limit}"


def encode_summary(summary: Summary) -> str:
    """Return the summary as one JSON object in ASCII: hostile characters are escaped, and nothing is lost."""
    import json

    import msgspec

    return json.dumps(msgspec.to_builtins(summary))


def _describe_files(files: Sequence[CoverageEntry]) -> Iterator[str]:
    """Yield the coverage of the files: of all if they are few, otherwise of the worst, and how many there are."""
    ranked = sorted(files, key=lambda one: _HARMLESS.get(one.state, 0)) if len(files) > _FILES_SHOWN else files
    for one in ranked[:_FILES_SHOWN]:
        yield from _describe_coverage(one, is_alone=len(files) == 1)
    if len(files) > _FILES_SHOWN:
        states = Counter(one.state for one in files)
        counts = ", ".join(
            f"{states[state]:,} {state}" for state in sorted(states, key=lambda one: _HARMLESS.get(one, 0))
        )
        yield f"{'':<{_LABEL}}of {len(files):,} files: {counts}; --json lists them"


def _describe_coverage(coverage: CoverageEntry, *, is_alone: bool) -> Iterator[str]:
    where = "" if is_alone else f" ({clean_text(coverage.file)})"
    headline, *qualifiers = coverage.verdict
    yield f"{'coverage':<{_LABEL}}{clean_text(headline)}{where}"
    if coverage.state == "unknown":
        return
    if coverage.state == "altered":
        yield from (f"{'':<{_LABEL}}{clean_text(line)}" for line in qualifiers)
        return
    yield f"{'':<{_LABEL}}requested {coverage.asked_start} to {coverage.asked_end}"
    for line in qualifiers:
        yield f"{'':<{_LABEL}}{clean_text(line)}"
    yield from _describe_gaps(coverage)
    if coverage.filtered:
        filtered = format_count(coverage.filtered, "event")
        yield f"{'':<{_LABEL}}{filtered} filtered out at export, and not in this summary"


def _describe_gaps(coverage: CoverageEntry) -> Iterator[str]:
    from ociaudit.storage.manifest import Range

    requested = Range(coverage.asked_start or "", coverage.asked_end or "")
    lines = list(console.list_gap_entries(coverage.gaps, coverage.compartment_paths, requested))
    for line in lines[:_GAP_LINES_SHOWN]:
        is_continued = line.startswith("    ")
        yield f"{'':<{_LABEL}}{'    ' if is_continued else 'GAP '}{clean_text(line.strip())}"
    if len(lines) > _GAP_LINES_SHOWN:
        yield f"{'':<{_LABEL}}… and more gaps; all are in the manifest"


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


def _describe_tops(summary: Summary, screen_width: int) -> Iterator[str]:
    """Yield event names, principals and addresses side by side; on a narrow screen, one below the other."""
    from rich.cells import cell_len

    columns = (
        ("events", list(summary.event_names.items())),
        (f"principals ({summary.principals_total:,})", [(one.name, one.events) for one in summary.principals]),
        (f"addresses ({summary.addresses_total:,})", [(one.name, one.events) for one in summary.addresses]),
    )
    shown = [(title, entries[:_ROWS]) for title, entries in columns]
    cells = [_align(title, [(clean_text(name), number) for name, number in entries]) for title, entries in shown]
    if screen_width < _SCREEN_WIDTH:
        yield from (_fit(cell, screen_width).rstrip() for column in cells for cell in column)
        return
    widths = fit_widths([max(map(cell_len, column)) for column in cells], _SCREEN_WIDTH)
    for row in itertools.zip_longest(*cells, fillvalue=""):
        yield "  ".join(_fit(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _align(title: str, entries: Sequence[tuple[str, int]]) -> list[str]:
    """Return a column: its title, and the numbers flush right before the names."""
    width = max((len(f"{number:,}") for _, number in entries), default=0)
    return [f"{'':>{width}} {title}", *(f"{number:>{width},} {name}" for name, number in entries)]


def _describe_rest(summary: Summary) -> Iterator[str]:
    regions = Counter[str]()
    for file in summary.files:
        regions.update(file.regions)
    if regions:
        yield _format_row("regions", f"{len(regions):,}", _list_counts(dict(regions.most_common())))
    failed = summary.outcomes.get("failure", 0)
    share = f" ({failed / summary.events:.1%})" if failed else ""
    top = (
        " ".join(filter(None, (one.event_name or "(none)", one.status, f"× {one.events:,}")))
        for one in summary.failures[:_FAILURES_SHOWN]
    )
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
    """Return a line with text of events, cleaned and truncated between words to two lines of a screen."""
    clean = clean_text(text)
    if len(clean) <= _LINE_WIDTH:
        return clean
    words = clean[: _LINE_WIDTH - 1].rstrip(" ")
    cut = words.rfind(" ", _LINE_WIDTH // 2)
    return (words[: cut + 1] if cut > 0 else words) + "…"


def _fit(text: str, width: int) -> str:
    """Pad or truncate cleaned text to a width in terminal cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return set_cell_size(text, width)
    return set_cell_size(text, width - 1) + "…"


def _format_minute(time: str) -> str:
    """Return `YYYY-MM-DD HH:MM` of an RFC 3339 time in UTC."""
    return f"{time[:10]} {time[11:16]}"


@click.command(
    cls=Command,
    usage="FILE -o FILE [OPTIONS]",
    examples=(("Write a report for an export", "oci-audit report audit.json -o audit.html"),),
)
@argument(
    "file", type=PLACE, metavar="FILE", help="Events file written by `oci-audit export`, its oci:// URL, or an archive."
)
@option(
    "-o",
    "--output",
    section=OUTPUT,
    type=OUTPUT_PLACE,
    required=True,
    metavar="FILE|URL",
    help="HTML page to write, or oci://bucket@namespace/name.",
)
@option(
    "--manifest",
    section=OUTPUT,
    type=FILE,
    metavar="FILE",
    show_default="next to the file",
    help="Manifest of the export.",
)
@option("--overwrite", section=OUTPUT, is_flag=True, help="Overwrite an existing page.")
@limit_options
@place_options
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
def report(
    file: Path | ObjectUrl,
    *,
    limits: Limits,
    places: Places,
    output: Path | ObjectUrl,
    manifest: Path | None,
    overwrite: bool,
    is_strict: bool,
) -> int:
    """Write one HTML page with timeline, coverage, sign-ins, IAM changes, IP addresses, and events. Works offline.

    The page loads no external resources, so you can open it directly from disk.

    Exit codes when the page is written: 0 complete, 10 the export has gaps, 7 the file does not match its manifest.
    Exit codes when it is not: 2 usage error, 3 or 4 a URL cannot be used, 5 disk error, 6 the file cannot be read.
    """
    from ociaudit.analysis.report import report_input
    from ociaudit.archive.inputs import open_input
    from ociaudit.clock import SystemClock

    gc.disable()  # as in `summary`
    with (
        console.handle_signals(console.raise_interrupted),
        places.stage(output, may_overwrite=overwrite) as page,
    ):
        path = places.fetch(file, limits=limits)
        url = places.find_url(path)
        source = open_input(path, limits, now=SystemClock().now(), manifest_path=manifest, url=url)
        result = report_input(
            places.fill(source),
            page,
            may_overwrite=overwrite,
            on_incomplete=console.choose_notice(is_strict=is_strict),
        )
    for line in describe_report(result, output):
        console.print_message(line)
    return result.exit_code


def describe_report(result: ReportOutcome, output: Path | ObjectUrl) -> Iterator[str]:
    """Yield what was written, the verdict and the findings, line by line."""
    table = f", {result.events_in_table:,} of them in the table"
    if result.events == result.events_in_table:
        table = ", all of them in the table" if result.events > 1 else ""
    yield f"{output}: {format_count(result.events, 'event')}{table}, {format_count(result.size_bytes, 'byte')}"
    yield from result.verdict_text
    for finding in result.findings:
        yield f"finding: {finding}"
