"""`oci-audit demo`: the whole job on this machine, without an account.

Owns: starting the emulator, exporting from it as `export` would, and showing what came.

What the demo shows of an export. Owns: its lines. Must not: print.

`oci-audit emulator`: Oracle's side on this machine. Owns: starting its process; it is never imported.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ociaudit.analysis.stats import rank_counts
from ociaudit.analysis.summary import Overview
from ociaudit.cli import console
from ociaudit.operations.export import ExportResult


def demo(
    folder: Annotated[Path, typer.Option(help="Where its files go.", metavar="FOLDER")] = Path("oci-audit-demo"),
    days: Annotated[int, typer.Option(min=1, help="How many days to export.", metavar="DAYS")] = 7,
) -> int:
    """Export a made tenancy from a server on this machine, and show what came."""
    from ociaudit import api
    from ociaudit.analysis.summary import make_overview
    from ociaudit.cli.console import cancel_on_signals
    from ociaudit.cli.options import choose_progress
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.resume import ResumeOptions
    from ociaudit.storage.atomic_io import make_private_folder

    if not folder.is_dir():  # the mode of a folder that exists is its owner's business
        make_private_folder(folder)
    output = folder / "audit.json"
    progress = choose_progress(is_quiet=False)
    stop = Cancellation()
    with cancel_on_signals(stop), _run_emulator(folder) as url:
        console.print_message(f"a made tenancy answers at {url}")
        try:
            outcome = api.export(
                f"{days}d",
                "now",
                output=output,
                config_file=str(folder / "config"),
                endpoint=url + "/{region}",
                resume_options=ResumeOptions(overwrite=True, restart=True),
                callbacks=progress,
                stop=stop,
            )
        finally:
            progress.close()
    for line in describe_demo(outcome, make_overview(output)):
        console.print_output(line)
    return 0


@contextlib.contextmanager
def _run_emulator(folder: Path) -> Iterator[str]:
    """Start the emulator on a free port and end it; it ends by itself should this process die."""
    from ociaudit.errors import OciAuditError

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
                raise OciAuditError("the emulator did not start", hint="see what it printed above")
            yield url
        finally:
            process.terminate()


_NAMES_SHOWN = 8
_FAILURES_SHOWN = 6
_SHORT_OCID = 12


def describe_demo(outcome: ExportResult, glance: Overview) -> Iterator[str]:
    """Yield the demo's screen."""
    yield ""
    yield f"{glance.events:,} audit events in {outcome.output}"
    yield ""
    yield "most frequent"
    for name, number in rank_counts(glance.names, _NAMES_SHOWN):
        yield f"  {number:>7,}  {name}"
    yield ""
    yield f"failed sign-ins: {glance.sign_in_failures.total():,}"
    for (who, address), number in rank_counts(glance.sign_in_failures, _FAILURES_SHOWN):
        yield f"  {number:>7,}  {who} from {address}"
    yield ""
    yield from _draw_coverage(outcome)
    yield ""
    yield f"the proof: {outcome.manifest_path} (sha256:{outcome.digest})"
    yield ""
    yield "somebody's password was guessed in it; see what the summary points at:"
    yield f"  oci-audit summary {outcome.output}"
    yield ""
    yield "with your own profile in ~/.oci/config:"
    yield "  oci-audit export --start 7d -o audit.json"
    yield "  oci-audit export --start 2025-12-01 --end 2025-12-07 --event-type 'Login|ApiKey' -o logins.json"
    yield "  oci-audit export --start 90d --region eu-frankfurt-1 -o 'audit-{start}.json.gz'"


def _draw_coverage(outcome: ExportResult) -> Iterator[str]:
    """Yield a table: a line per compartment, a column per region."""
    targets = outcome.manifest.coverage
    regions = sorted({target.region for target in targets})
    gaps = {gap.target: gap for gap in outcome.gaps}
    covered = {(target.region, target.compartment): bool(target.windows) for target in targets}
    yield f"coverage from {outcome.manifest.range.start} to {outcome.manifest.range.end}"
    yield "  " + " " * (_SHORT_OCID + 3) + "  ".join(f"{region:<16}" for region in regions).rstrip()
    for compartment in sorted({target.compartment for target in targets}):
        cells = ["complete" if covered.get((region, compartment)) else "GAP" for region in regions]
        yield f"  …{compartment[-_SHORT_OCID:]}  " + "  ".join(f"{cell:<16}" for cell in cells).rstrip()
    for gap in gaps.values():
        yield f"  GAP {gap.target.region} …{gap.target.compartment[-_SHORT_OCID:]} {gap.reason}"
    yield f"  {len(covered) - len(gaps)} of {len(covered)} places complete"
    if gaps:
        yield "  (one compartment of the made tenancy is forbidden, so that you see what a gap looks like)"


def emulator(context: typer.Context) -> None:
    """Serve a made tenancy on this machine; `oci-audit emulator --help` shows its own options."""
    os.execv(sys.executable, [sys.executable, "-m", "ociaudit_emulator", *context.args])  # noqa: S606
