"""Where the time of an export goes."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.benchmark import Row, Workshop
from bench.events_file import make_event_file
from bench.measure import run_measured
from bench.server import Server

_CLOCK = Path(__file__).with_name("stages_clock.py")


def run_stages(workshop: Workshop) -> Sequence[Row]:
    """Time the stages of an export, and the steps of its hot path alone."""
    folder = workshop.make_folder("stages")
    made = make_event_file(folder / "events.ndjson", workshop.events)
    runs = []
    with Server(folder / "config", events=made.path) as server:
        for _ in range(workshop.rounds):
            run = workshop.make_folder("stages/run")
            arguments = [made.start, made.end, run / "audit.json", server.config_path, server.url, made.tenancy]
            run_measured([sys.executable, str(_CLOCK), *map(str, arguments), str(made.path)], run)
            runs.append(json.loads((run / "stdout").read_text("utf-8")))
    rows: list[Row] = []
    for part, unit in (("stages", "wall s"), ("steps", "CPU s alone")):
        for name in runs[0][part]:
            seconds = median(run[part][name] for run in runs)
            rows.append(Row(name, {unit: seconds, "µs/event": seconds / made.count * 1e6}))
    return rows
