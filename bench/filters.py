"""The cost of a filter: the same export with and without one, in turns.

The measured filters read fields of every event and pass all events: they do all of their work, and dropped events
save none. No two events here have the same address, so that a cache does not help.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace
from bench.check import check_export
from bench.contenders import make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import ServedEvents, make_event_file
from bench.measure import Contender, RunError, choose_median, run_in_turns

_NONE = "no filter"
_ALL_PASS: dict[str, tuple[str, ...]] = {
    "event type": ("--event-type", "oraclecloud"),
    "outcome and principal": ("--outcome", "success,failure,unknown", "--exclude-principal", "nobody"),
    "address": ("--exclude-ip", "203.0.113.9"),
}
_FEW_PASS = "preset iam"
_MAX_RATIO = 1.10


def run_filters(workspace: Workspace) -> Sequence[Row]:
    """Measure an export without a filter, with filters that pass everything, and with one that drops most events."""
    folder = workspace.make_folder("filter")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        contenders = [
            _make_contender(_NONE, emulator, served),
            *(_make_contender(name, emulator, served, *options) for name, options in _ALL_PASS.items()),
            _make_contender(_FEW_PASS, emulator, served, "--preset", "iam", passes_all=False),
        ]
        usages = run_in_turns(contenders, lambda name: workspace.make_folder(f"filter/{name}"), rounds=workspace.rounds)
    medians = {name: choose_median(runs) for name, runs in usages.items()}
    rows = [Row(name, used.list_figures()) for name, used in medians.items()]
    for name in (*_ALL_PASS, _FEW_PASS):
        ratio = medians[name].wall_seconds / medians[_NONE].wall_seconds
        cpu = medians[name].cpu_seconds / medians[_NONE].cpu_seconds
        figures = {"ratio": ratio, "CPU ratio": cpu}
        rows.append(Row(f"{name} / {_NONE}", figures, f"at most {_MAX_RATIO:.2f}", ratio <= _MAX_RATIO))
    return rows


def _make_contender(
    name: str, emulator: EmulatorProcess, served: ServedEvents, *options: str, passes_all: bool = True
) -> Contender:
    def check(folder: Path) -> None:
        if passes_all:
            check_export(folder / "audit.json", served)
        else:
            _check_totals(folder / "audit.json.manifest.json", served)

    return Contender(
        name, lambda folder: make_export_command(emulator, served, folder / "audit.json", *options, "--quiet"), check
    )


def _check_totals(manifest: Path, served: ServedEvents) -> None:
    totals = json.loads(manifest.read_bytes())["totals"]
    # A dense window is split: its first page is fetched again, and its events are scanned again.
    if totals["scanned"] < served.count or not 0 < totals["written"] < served.count:
        raise RunError(f"a filter that drops most events wrote {totals['written']:,} of {totals['scanned']:,}")
