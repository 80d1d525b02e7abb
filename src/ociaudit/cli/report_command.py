"""`oci-audit report`: its options, its run and its messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ociaudit.cli import console
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    OUTPUT_FILE,
    STRICT_HELP,
    Command,
    argument,
    limit_options,
    option,
)
from ociaudit.errors import format_count

if TYPE_CHECKING:
    from ociaudit.analysis.report import ReportOutcome
    from ociaudit.archive.inputs import Limits


@click.command(
    cls=Command,
    usage="FILE -o FILE [OPTIONS]",
    examples=(("Write a report for an export", "oci-audit report audit.json -o audit.html"),),
)
@argument("file", type=FILE, metavar="FILE", help="Events file written by `oci-audit export`, or an archive.")
@option("-o", "--output", section=OUTPUT, type=OUTPUT_FILE, required=True, metavar="FILE", help="HTML page to write.")
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
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
def report(file: Path, *, limits: Limits, output: Path, manifest: Path | None, overwrite: bool, is_strict: bool) -> int:
    """Write one HTML page with timeline, coverage, sign-ins, IAM changes, IP addresses, and events. Works offline.

    The page loads no external resources, so you can open it directly from disk.

    Exit codes when the page is written: 0 complete, 10 the export has gaps, 7 the file does not match its manifest.
    Exit codes when it is not: 2 usage error, 5 disk error, 6 the file cannot be read.
    """
    from ociaudit.analysis.report import report_input
    from ociaudit.archive.inputs import open_input
    from ociaudit.clock import SystemClock

    with console.handle_signals(console.raise_interrupted):
        result = report_input(
            open_input(file, limits, now=SystemClock().now(), manifest_path=manifest),
            output,
            may_overwrite=overwrite,
            on_incomplete=console.choose_notice(is_strict=is_strict),
        )
    for line in _describe_result(result):
        console.print_message(line)
    return result.exit_code


def _describe_result(result: ReportOutcome) -> Iterator[str]:
    table = "all" if result.events == result.events_in_table else f"{result.events_in_table:,}"
    events = format_count(result.events, "event")
    yield f"{result.output}: {events}, {table} of them in the table, {format_count(result.size_bytes, 'byte')}"
    yield from result.verdict_text
    for finding in result.findings:
        yield f"finding: {finding}"
