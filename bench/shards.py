"""The same events from 10,000 small shards and from 100 large ones: what that costs when they are published."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import ROOT, Row, Workshop
from bench.check import check_export
from bench.events_file import Made, make_event_file
from bench.measure import Usage, run_measured
from bench.server import Server

_MOST_RATIO = 3
_FEW_SHARDS = 100
_PUBLISH_CLOCK = Path(__file__).with_name("publish_clock.py")


def run_shards(workshop: Workshop) -> Sequence[Row]:
    """Export with windows of one day, and with windows a hundred times as long."""
    folder = workshop.make_folder("shards")
    compartments = 14  # of the made tenancy, those that may be read
    days = -(-workshop.shards // compartments)
    made = make_event_file(folder / "events.ndjson", workshop.events, days=days, is_spread=True)
    long_days = -(-days // max(1, _FEW_SHARDS // len(made.compartments)))
    with Server(folder / "config", events=made.path) as server:
        runs = [
            _export(server, made, workshop.make_folder("shards/run"), window_days=window_days)
            for window_days in (long_days, 1, long_days)
        ]
    few = min(runs[0], runs[2], key=lambda run: run["publish s"])
    many = runs[1]
    ratio = many["publish s"] / few["publish s"]
    return [
        Row(f"{few['shards']:,} shards", few),
        Row(f"{many['shards']:,} shards", many),
        Row("publishing", {"ratio": ratio}, f"at most {_MOST_RATIO}", ratio <= _MOST_RATIO),
    ]


def _export(server: Server, made: Made, folder: Path, *, window_days: int) -> dict[str, float]:
    output = folder / "audit.json"
    arguments = [made.start, made.end, str(output), str(server.config_path), server.url, str(window_days)]
    used: Usage = run_measured(
        [sys.executable, str(_PUBLISH_CLOCK), *arguments, *made.compartments],
        folder,
        variables={"PYTHONPATH": str(ROOT)},
    )
    check_export(output, made)
    clock = json.loads((folder / "stdout").read_text())
    return {"shards": clock["shards"], "publish s": clock["publish_seconds"], **used.list_figures()}
