"""`oci-audit report`: an export as one page to look at. Owns: its options and its words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ociaudit.cli import console
from ociaudit.cli.verify_command import ALTERED_EXIT_CODE, INCOMPLETE_EXIT_CODE

if TYPE_CHECKING:
    from ociaudit.analysis.report import ReportOutcome


def report(
    file: Annotated[Path, typer.Argument(help="The file that oci-audit export wrote.", metavar="FILE")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write.", metavar="FILE")],
    manifest: Annotated[
        Path | None, typer.Option(help="Its manifest.", show_default="beside the file", metavar="FILE")
    ] = None,
    is_overwriting: Annotated[bool, typer.Option("--overwrite", help="Replace a page that exists.")] = False,
) -> int:
    """Write one HTML page: timeline, coverage, sign-ins, changes to IAM, addresses, events. Offline.

    The page loads nothing, and opens from disk. Exit codes, the page being written: 0, 10 the export has gaps,
    7 the file is not the one of its manifest; and without a page: 2 usage, 5 disk, 6 the file cannot be read.
    """
    from ociaudit.analysis.report import report_export
    from ociaudit.cli.console import interrupt_on_signals

    with interrupt_on_signals():
        outcome = report_export(file, output, manifest_path=manifest, may_overwrite=is_overwriting)
    for line in _describe(outcome):
        console.print_message(line)
    return _EXIT_CODES[outcome.verdict]


_EXIT_CODES = {"complete": 0, "unknown": 0, "incomplete": INCOMPLETE_EXIT_CODE, "altered": ALTERED_EXIT_CODE}
_VERDICTS = {
    "complete": "the export is complete",
    "unknown": "coverage unknown: there is no manifest beside the file",
    "altered": "WARNING: this is not the file of its manifest; run oci-audit verify",
}


def _describe(outcome: ReportOutcome) -> list[str]:
    table = "all" if outcome.events == outcome.events_in_table else f"{outcome.events_in_table:,}"
    gaps = f"{outcome.gaps:,} {'gap' if outcome.gaps == 1 else 'gaps'}"
    return [
        f"{outcome.output}: {outcome.events:,} events, {table} of them in the table, {outcome.size_bytes:,} bytes",
        _VERDICTS.get(outcome.verdict, f"NOT complete: {gaps}; the page says so on top"),
        *(f"worth a look: {finding}" for finding in outcome.findings),
    ]
