"""The throughput of `oci-audit verify`."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from bench.benchmark import Row, Workspace
from bench.contenders import find_command, make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import make_event_file
from bench.measure import choose_median, run_measured

_MIN_MB_PER_SECOND = 300


def run_verify(workspace: Workspace) -> Sequence[Row]:
    """Measure the verification of an export of the default number of events."""
    done = subprocess.run([find_command(), "verify", "--help"], capture_output=True, check=False)
    if done.returncode != 0:
        return [Row("oci-audit verify: not available", target=f"at least {_MIN_MB_PER_SECOND} MB/s")]
    folder = workspace.make_folder("verify")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    output = folder / "audit.json"
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        run_measured(make_export_command(emulator, served, output), folder)
    used = choose_median(
        [run_measured([find_command(), "verify", str(output)], folder) for _ in range(workspace.rounds)]
    )
    speed = output.stat().st_size / 1e6 / used.wall_seconds
    return [
        Row(
            f"oci-audit verify, {output.stat().st_size / 1e6:.0f} MB",
            {**used.list_figures(), "MB/s": speed},
            f"at least {_MIN_MB_PER_SECOND} MB/s",
            speed >= _MIN_MB_PER_SECOND,
        )
    ]
