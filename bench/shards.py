"""The cost of publishing the same events from 10,000 small shards and from 100 large ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import ROOT, Row, Workspace
from bench.check import check_export
from bench.emulator import EmulatorProcess
from bench.events_file import ServedEvents, make_event_file
from bench.measure import Usage, run_measured

_MAX_RATIO = 3
_FEW_SHARDS = 100
_PUBLISH_CLOCK = Path(__file__).with_name("publish_clock.py")


def run_shards(workspace: Workspace) -> Sequence[Row]:
    """Export with windows of one day, and with windows a hundred times as long."""
    folder = workspace.make_folder("shards")
    compartments = 14  # the readable ones of the synthetic tenancy
    days = -(-workspace.shards // compartments)
    served = make_event_file(folder / "events.ndjson", workspace.events, days=days, is_spread=True)
    long_days = -(-days // max(1, _FEW_SHARDS // len(served.compartments)))
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        runs = [
            _export(emulator, served, workspace.make_folder("shards/run"), window_days=window_days)
            for window_days in (long_days, 1, long_days)
        ]
    few = min(runs[0], runs[2], key=lambda run: run["publish s"])
    many = runs[1]
    ratio = many["publish s"] / few["publish s"]
    return [
        Row(f"{few['shards']:,} shards", few),
        Row(f"{many['shards']:,} shards", many),
        Row("publishing", {"ratio": ratio}, f"at most {_MAX_RATIO}", ratio <= _MAX_RATIO),
    ]


def _export(emulator: EmulatorProcess, served: ServedEvents, folder: Path, *, window_days: int) -> dict[str, float]:
    output = folder / "audit.json"
    arguments = [served.start, served.end, str(output), str(emulator.config_path), emulator.url, str(window_days)]
    used: Usage = run_measured(
        [sys.executable, str(_PUBLISH_CLOCK), *arguments, *served.compartments],
        folder,
        variables={"PYTHONPATH": str(ROOT)},
    )
    check_export(output, served)
    clock = json.loads((folder / "stdout").read_text())
    return {"shards": clock["shards"], "publish s": clock["publish_seconds"], **used.list_figures()}
