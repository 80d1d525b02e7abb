"""The Spark data source compared with an export of the same events to Parquet, after Spark has started."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import ROOT, Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.emulator import EmulatorProcess
from bench.events_file import MEAN_BYTES, ServedEvents, make_event_file
from bench.measure import RunError, choose_median, run_measured

_SCRIPT = Path(__file__).with_name("spark_script.py")
_EVENTS, _LATENCY_MS, _MAX_RATIO = 300_000, 100, 1.3
_DENIED = (0, 10)
"""The exit codes of a success; one compartment of the synthetic tenancy is forbidden, which is a gap."""


def run_spark(workspace: Workspace) -> Sequence[Row]:
    """Read with Spark `local[2]` and export to Parquet, in turns, from a service that takes 100 ms for a page."""
    python = Path(os.environ.get("OCI_AUDIT_SPARK_VENV") or ROOT / ".venv-spark") / "bin/python"
    if not python.exists():
        return [Row("spark: skipped, needs `make setup-spark`")]
    count = 20_000 if workspace.is_quick else _EVENTS
    if not workspace.has_space(count * MEAN_BYTES * 4):
        return skip_without_space("spark", count * MEAN_BYTES * 4)
    folder = workspace.make_folder("spark")
    served = make_event_file(folder / "events.ndjson", count)
    exports, reads = [], []
    flags = ("--latency-ms", str(_LATENCY_MS))
    with EmulatorProcess(folder / "config", *flags, events=served.path) as emulator:
        for _ in range(workspace.rounds):
            run = workspace.make_folder("spark/run")
            exports.append(run_measured(_make_export(emulator, served, run), run, codes=_DENIED))
            reads.append(_read(python, emulator, served, run))
    export = choose_median(exports)
    read = sorted(reads)[len(reads) // 2]
    ratio = read / export.wall_seconds
    return [
        Row("export to Parquet", {**export.list_figures(), "events/s": count / export.wall_seconds}),
        Row("spark local[2] to Parquet, after its start", {"wall s": read, "events/s": count / read}),
        Row("spark / export", {"ratio": ratio}, f"at most {_MAX_RATIO}", ratio <= _MAX_RATIO),
    ]


def _make_export(emulator: EmulatorProcess, served: ServedEvents, run: Path) -> list[str]:
    connection = ["--config-file", str(emulator.config_path), "--endpoint", emulator.url + "/{region}"]
    window = ["--start", served.start, "--end", served.end]
    return [find_command(), "export", *connection, *window, "-o", str(run / "audit.parquet")]


def _read(python: Path, emulator: EmulatorProcess, served: ServedEvents, run: Path) -> float:
    """Return how many seconds Spark took for the read, without its own start."""
    arguments = [emulator.config_path, emulator.url + "/{region}", served.start, served.end, run / "rows"]
    run_measured([str(python), str(_SCRIPT), *map(str, arguments)], run)
    figures = json.loads((run / "rows.json").read_text(encoding="utf-8"))
    if figures["rows"] != served.count:
        raise RunError(f"Spark wrote {figures['rows']} rows of {served.count} events")
    return float(figures["seconds"])
