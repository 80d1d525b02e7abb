"""`oci-audit verify`: how many bytes of an export it proves in a second."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from bench.benchmark import Row, Workshop
from bench.contenders import find_command, make_export_command
from bench.events_file import make_event_file
from bench.measure import choose_median, run_measured
from bench.server import Server

_LEAST_MB_PER_SECOND = 300


def run_verify(workshop: Workshop) -> Sequence[Row]:
    """Measure it over an export of the usual number of events."""
    known = subprocess.run([find_command(), "verify", "--help"], capture_output=True, check=False)
    if known.returncode != 0:
        return [Row("oci-audit verify: not there yet", target=f"at least {_LEAST_MB_PER_SECOND} MB/s")]
    folder = workshop.make_folder("verify")
    made = make_event_file(folder / "events.ndjson", workshop.events)
    output = folder / "audit.json"
    with Server(folder / "config", events=made.path) as server:
        run_measured(make_export_command(server, made, output), folder)
    used = choose_median(
        [run_measured([find_command(), "verify", str(output)], folder) for _ in range(workshop.rounds)]
    )
    speed = output.stat().st_size / 1e6 / used.wall_seconds
    return [
        Row(
            f"oci-audit verify, {output.stat().st_size / 1e6:.0f} MB",
            {**used.list_figures(), "MB/s": speed},
            f"at least {_LEAST_MB_PER_SECOND} MB/s",
            speed >= _LEAST_MB_PER_SECOND,
        )
    ]
