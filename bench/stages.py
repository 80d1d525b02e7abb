"""The time of an export by stage, and the CPU time of the steps of its hot path."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.benchmark import Row, Workspace
from bench.emulator import EmulatorProcess
from bench.events_file import make_event_file
from bench.measure import run_measured

_CLOCK = Path(__file__).with_name("stages_clock.py")


def run_stages(workspace: Workspace) -> Sequence[Row]:
    """Measure the stages of an export, and the steps of its hot path separately."""
    folder = workspace.make_folder("stages")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    runs = []
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        for _ in range(workspace.rounds):
            run = workspace.make_folder("stages/run")
            arguments = [
                served.start,
                served.end,
                run / "audit.json",
                emulator.config_path,
                emulator.url,
                served.tenancy,
            ]
            run_measured([sys.executable, str(_CLOCK), *map(str, arguments), str(served.path)], run)
            runs.append(json.loads((run / "stdout").read_text("utf-8")))
    rows: list[Row] = []
    for part, unit in (("stages", "wall s"), ("steps", "CPU s")):
        for name in runs[0][part]:
            seconds = median(run[part][name] for run in runs)
            rows.append(Row(name, {unit: seconds, "µs/event": seconds / served.count * 1e6}))
    return rows
