"""What a filter costs an export: the same export with and without one, in turns.

The filters that count look at facts of every event and let all of them pass: all of their work is done, and
none is saved by what they drop. No two events here have the same address, so that nothing remembered helps.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop
from bench.check import check_export
from bench.contenders import make_export_command
from bench.events_file import Made, make_event_file
from bench.measure import Contender, RunError, choose_median, run_in_turns
from bench.server import Server

_NONE = "no filter"
_ALL_PASS: dict[str, tuple[str, ...]] = {
    "event type": ("--event-type", "oraclecloud"),
    "outcome and principal": ("--outcome", "success,failure,unknown", "--exclude-principal", "nobody"),
    "address": ("--exclude-ip", "203.0.113.9"),
}
_FEW_PASS = "preset iam"
_MOST_RATIO = 1.10


def run_filters(workshop: Workshop) -> Sequence[Row]:
    """Measure an export without a filter, with some that let everything pass, and with one that drops most."""
    folder = workshop.make_folder("filter")
    made = make_event_file(folder / "events.ndjson", workshop.events)
    with Server(folder / "config", events=made.path) as server:
        contenders = [
            _make_contender(_NONE, server, made),
            *(_make_contender(name, server, made, *options) for name, options in _ALL_PASS.items()),
            _make_contender(_FEW_PASS, server, made, "--preset", "iam", passes_all=False),
        ]
        usages = run_in_turns(contenders, lambda name: workshop.make_folder(f"filter/{name}"), rounds=workshop.rounds)
    medians = {name: choose_median(runs) for name, runs in usages.items()}
    rows = [Row(name, used.list_figures()) for name, used in medians.items()]
    for name in (*_ALL_PASS, _FEW_PASS):
        ratio = medians[name].wall_seconds / medians[_NONE].wall_seconds
        cpu = medians[name].cpu_seconds / medians[_NONE].cpu_seconds
        run_stats = {"ratio": ratio, "CPU ratio": cpu}
        rows.append(Row(f"{name} / {_NONE}", run_stats, f"at most {_MOST_RATIO:.2f}", ratio <= _MOST_RATIO))
    return rows


def _make_contender(name: str, server: Server, made: Made, *options: str, passes_all: bool = True) -> Contender:
    def check(folder: Path) -> None:
        if passes_all:
            check_export(folder / "audit.json", made)
        else:
            _check_sum(folder / "audit.json.manifest.json", made)

    return Contender(
        name, lambda folder: make_export_command(server, made, folder / "audit.json", *options, "--quiet"), check
    )


def _check_sum(manifest: Path, made: Made) -> None:
    totals = json.loads(manifest.read_bytes())["totals"]
    # A dense window is cut: its first pages are asked again, and what they bring is scanned again.
    if totals["scanned"] < made.count or not 0 < totals["written"] < made.count:
        raise RunError(f"a filter that drops most has written {totals['written']:,} of {totals['scanned']:,} events")
