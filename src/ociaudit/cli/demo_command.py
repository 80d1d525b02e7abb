"""`oci-audit demo` and `oci-audit emulator`: an export without an account, and the service that it reads from.

The emulator runs as a process of its own and is never imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ociaudit.cli import console
from ociaudit.cli.options import FILE, Command, option
from ociaudit.errors import ExitCode, OciAuditError, format_count

if TYPE_CHECKING:
    from ociaudit.analysis.summary import Overview
    from ociaudit.operations.export import ExportResult

_NAMES_SHOWN = 8
_FAILURES_SHOWN = 6


@click.command(
    cls=Command,
    examples=(("Export one day into a folder named try", "oci-audit demo --days 1 --folder try"),),
)
@option("--folder", type=FILE, default="oci-audit-demo", metavar="FOLDER", help="Where to write the files.")
@option("--days", type=click.IntRange(min=1), default=7, metavar="DAYS", help="How many days to export.")
def demo(*, folder: Path, days: int) -> int:
    """Export events from a synthetic tenancy served on this machine, show the result, and write a report."""
    from ociaudit.analysis.report import report_export
    from ociaudit.analysis.summary import make_overview
    from ociaudit.storage.atomic_io import make_private_folder

    if not folder.is_dir():  # the mode of a folder that exists is its owner's business
        make_private_folder(folder)
    output = folder / "audit.json"
    result = _export(folder, days, output)
    for line in describe_demo(result, make_overview(output)):
        console.print_output(line)
    with console.handle_signals(console.raise_interrupted):
        report = report_export(output, folder / "report.html", may_overwrite=True)
    console.print_output("")
    console.print_output(f"report: open {report.output.resolve()} in a browser")
    return ExitCode.OK


def _export(folder: Path, days: int, output: Path) -> ExportResult:
    from ociaudit import api
    from ociaudit.cli.export_command import choose_progress
    from ociaudit.operations.context import Cancellation, ConnectionOptions, ExportOptions
    from ociaudit.operations.resume import ResumeOptions

    progress = choose_progress(is_quiet=False)
    cancellation = Cancellation()
    with console.handle_signals(cancellation.cancel), _run_emulator(folder) as url:
        console.print_message(f"a synthetic tenancy is served at {url}")
        try:
            return api.run_export(
                ExportOptions(
                    start=f"{days}d",
                    end="now",
                    output=api.resolve_path(output),
                    resume=ResumeOptions(overwrite=True, restart=True),
                ),
                ConnectionOptions(config_file=str(folder / "config"), endpoint=url + "/{region}"),
                callbacks=progress,
                cancellation=cancellation,
            )
        finally:
            progress.close()


@contextlib.contextmanager
def _run_emulator(folder: Path) -> Iterator[str]:
    """Start the emulator on a free port, yield its URL, and end it; it also ends when this process dies."""
    import subprocess

    command = [
        sys.executable,
        "-m",
        "ociaudit_emulator",
        "--trust-config" if (folder / "config").exists() else "--write-config",
        str(folder),
        "--until-stdin-closes",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            url = process.stdout.readline().strip() if process.stdout else ""
            if not url.startswith("http"):
                raise OciAuditError("the emulator did not start", hint="see the lines that it printed above")
            yield url
        finally:
            process.terminate()


def describe_demo(result: ExportResult, overview: Overview) -> Iterator[str]:
    """Yield the screen of the demo, line by line."""
    from ociaudit.analysis.stats import rank_counts

    yield ""
    yield f"{format_count(overview.events, 'audit event')} in {result.output}"
    yield ""
    yield "most frequent"
    for name, number in rank_counts(overview.names, _NAMES_SHOWN):
        yield f"  {number:>7,}  {name}"
    yield ""
    yield f"failed sign-ins: {overview.sign_in_failures.total():,}"
    for (who, address), number in rank_counts(overview.sign_in_failures, _FAILURES_SHOWN):
        yield f"  {number:>7,}  {who} from {address}"
    yield ""
    yield from _describe_coverage(result)
    yield ""
    yield f"manifest: {result.manifest_path} (sha256:{result.digest})"
    yield ""
    yield "one of the users had a password guessed; see what the summary detects:"
    yield f"  oci-audit summary {result.output}"
    yield ""
    yield "with your own profile in ~/.oci/config:"
    yield "  oci-audit export --start 7d -o audit.json"
    yield "  oci-audit export --start 30d --event-type 'Login|ApiKey' -o logins.json"
    yield "  oci-audit export --start 90d --region eu-paris-1 -o 'audit-{start}.json.gz'"


def _describe_coverage(result: ExportResult) -> Iterator[str]:
    """Yield a table with a line per compartment and a column per region."""
    targets = result.manifest.coverage
    regions = sorted({target.region for target in targets})
    gaps = {gap.target: gap for gap in result.gaps}
    covered = {(target.region, target.compartment): bool(target.windows) for target in targets}
    yield f"coverage from {result.manifest.range.start} to {result.manifest.range.end}"
    paths = result.manifest.scope.compartment_paths
    names = {target.compartment: paths.get(target.compartment) or target.compartment for target in targets}
    width = max(map(len, names.values()), default=0)
    yield "  " + " " * (width + 2) + "  ".join(f"{region:<16}" for region in regions).rstrip()
    for compartment, name in sorted(names.items(), key=lambda item: item[1]):
        cells = ["complete" if covered.get((region, compartment)) else "GAP" for region in regions]
        yield f"  {name:{width}}  " + "  ".join(f"{cell:<16}" for cell in cells).rstrip()
    for line in console.list_gap_lines(result.gaps, paths, requested=result.manifest.range):
        yield line if line.startswith("    ") else f"  GAP {line.strip()}"
    yield f"  {len(covered) - len(gaps)} of {format_count(len(covered), 'target')} complete"
    if gaps:
        yield "  (one compartment of the synthetic tenancy is forbidden, to show what a gap looks like)"


@click.command(add_help_option=False, context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
@click.pass_context
def emulator(context: click.Context) -> NoReturn:
    """Serve a synthetic tenancy on this machine; `oci-audit emulator --help` shows its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "ociaudit_emulator", *context.args])  # noqa: S606
