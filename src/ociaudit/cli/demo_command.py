"""`oci-audit demo`: the whole job on this machine, without an account.

Owns: starting the emulator, exporting from it as `export` would, and showing what came.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from ociaudit.cli import console


def demo(
    folder: Annotated[Path, typer.Option(help="Where its files go.", metavar="FOLDER")] = Path("oci-audit-demo"),
    days: Annotated[int, typer.Option(min=1, help="How many days to export.", metavar="DAYS")] = 7,
) -> int:
    """Export a made tenancy from a server on this machine, and show what came."""
    from ociaudit import library
    from ociaudit.cli.demo_view import describe_demo
    from ociaudit.cli.signals import stop_on_signals
    from ociaudit.cli.watching import choose_progress
    from ociaudit.insight.glance import glance_at
    from ociaudit.jobs.rerun import RerunOptions
    from ociaudit.jobs.stop import StopRequest
    from ociaudit.store.durable import make_private_folder

    if not folder.is_dir():  # the mode of a folder that exists is its owner's business
        make_private_folder(folder)
    output = folder / "audit.json"
    progress = choose_progress(is_quiet=False)
    stop = StopRequest()
    with stop_on_signals(stop), _run_emulator(folder) as url:
        console.say(f"a made tenancy answers at {url}")
        try:
            outcome = library.export(
                f"{days}d",
                "now",
                output=output,
                config_file=str(folder / "config"),
                endpoint=url + "/{region}",
                rerun=RerunOptions(overwrite=True, restart=True),
                observer=progress,
                stop=stop,
            )
        finally:
            progress.close()
    for line in describe_demo(outcome, glance_at(output)):
        console.say_answer(line)
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
