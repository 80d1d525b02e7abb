"""`oci-audit demo` and `oci-audit emulator`: an export and an archive without an account, and the service behind them.

The emulator runs as a process of its own and is never imported.
"""

from __future__ import annotations

import contextlib
import os
import shlex
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
    from ociaudit.operations.context import Cancellation, ConnectionOptions
    from ociaudit.operations.export import ExportResult

_NAMES_SHOWN = 8
_FAILURES_SHOWN = 6
_ARCHIVE_NAME = "archive"
_ADVICE = (
    "",
    "with your own profile in ~/.oci/config:",
    "  oci-audit export --start 7d -o audit.json",
    "  oci-audit export --start 30d --event-type 'Login|ApiKey' -o logins.json",
    "  oci-audit export --start 90d --region eu-paris-1 -o 'audit-{start}.json.gz'",
    "  oci-audit sync audit-archive",
)


@click.command(
    cls=Command,
    examples=(("Export one day into a folder named try", "oci-audit demo --days 1 --folder try"),),
)
@option("--folder", type=FILE, default="oci-audit-demo", metavar="FOLDER", help="Where to write the files.")
@option("--days", type=click.IntRange(min=1), default=7, metavar="DAYS", help="How many days to export.")
def demo(*, folder: Path, days: int) -> int:
    """Export events from a synthetic tenancy on this machine, keep an archive of them, and write a report."""
    from ociaudit.analysis.report import report_input
    from ociaudit.analysis.summary import make_overview
    from ociaudit.archive.inputs import FileInput
    from ociaudit.operations.context import Cancellation, ConnectionOptions
    from ociaudit.storage.atomic_io import make_private_folder

    if not folder.is_dir():  # the mode of a folder that exists is its owner's business
        make_private_folder(folder)
    output = folder / "audit.json"
    cancellation = Cancellation()
    with console.handle_signals(cancellation.cancel), _run_emulator(folder) as url:
        console.print_message(f"a synthetic tenancy is served at {url}")
        connection = ConnectionOptions(config_file=str(folder / "config"), endpoint=url + "/{region}")
        result = _export(connection, days, output, cancellation)
        for line in describe_demo(result, make_overview(output)):
            console.print_output(line)
        _keep_archive(folder / _ARCHIVE_NAME, connection, url, cancellation)
    for line in _ADVICE:
        console.print_output(line)
    with console.handle_signals(console.raise_interrupted):
        report = report_input(FileInput(output), folder / "report.html", may_overwrite=True)
    console.print_output("")
    console.print_output(f"report: open {report.output.resolve()} in a browser")
    return ExitCode.OK


def _export(connection: ConnectionOptions, days: int, output: Path, cancellation: Cancellation) -> ExportResult:
    from ociaudit import api
    from ociaudit.cli.export_command import choose_progress
    from ociaudit.operations.context import ExportOptions
    from ociaudit.operations.resume import ResumeOptions

    progress = choose_progress(is_quiet=False)
    try:
        return api.run_export(
            ExportOptions(
                start=f"{days}d",
                end="now",
                output=api.resolve_path(output),
                resume=ResumeOptions(overwrite=True, restart=True),
            ),
            connection,
            callbacks=progress,
            cancellation=cancellation,
        )
    finally:
        progress.close()


def _keep_archive(archive: Path, connection: ConnectionOptions, url: str, cancellation: Cancellation) -> None:
    """Sync a new archive twice, some hours apart, with events that appear late; print both screens and the status."""
    from ociaudit import api
    from ociaudit.archive.reader import open_archive
    from ociaudit.cli.archive_commands import describe_status, describe_sync, draw_calendar
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.clock import SystemClock
    from ociaudit.operations.status import make_status
    from ociaudit.operations.sync import SyncOptions
    from ociaudit.storage.atomic_io import remove_locked_folder

    remove_locked_folder(archive, first=archive / "archive.json")  # of an earlier demo
    options = SyncOptions(archive=archive, start="3d", rescan="26h,7d", waived=frozenset({"investigations"}))
    _control(url, "appearance", {"delays": [{"share": 0.2, "by": "1d"}]})
    for moment, hours in (("six hours ago", "-6h"), ("now", "6h")):
        _control(url, "clock", {"advance": hours})
        progress = QuietProgress()
        result = api.run_sync(options, connection, callbacks=progress, cancellation=cancellation)
        console.print_output("")
        console.print_output(f"oci-audit sync {shlex.quote(str(archive))} ({moment})")
        for line in describe_sync(result, progress, {"quiet": False, "verbose": 0}):
            console.print_output(f"  {line}")
    status = make_status(open_archive(archive), now=SystemClock().now())
    console.print_output("")
    console.print_output(f"oci-audit status {shlex.quote(str(archive))}")
    for line in describe_status(status, None):
        console.print_output(f"  {line}")
    console.print_lines("\n".join(f"  {line}" for line in draw_calendar(status.calendar, has_color=False)))


def _control(url: str, name: str, content: object) -> None:
    """Send a control request to the emulator, past any proxy."""
    import json
    from urllib.request import ProxyHandler, Request, build_opener

    request = Request(f"{url}/_emulator/{name}", data=json.dumps(content).encode(), method="POST")  # noqa: S310
    with build_opener(ProxyHandler({})).open(request) as response:
        response.read()


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
    others = overview.sign_in_failures.total()
    yield f"failed sign-ins: {others:,}"
    for (who, address), number in rank_counts(overview.sign_in_failures, _FAILURES_SHOWN):
        yield f"  {number:>7,}  {who} from {address}"
        others -= number
    if others:
        yield f"  {others:>7,}  others"
    yield ""
    yield from _describe_coverage(result)
    yield ""
    yield f"manifest: {result.manifest_path} (sha256:{result.digest})"
    yield ""
    yield "one of the users had a password guessed; see what the summary detects:"
    yield f"  oci-audit summary {shlex.quote(str(result.output))}"


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
