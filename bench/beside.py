"""A comparison of `oci-audit export` with Oracle's own CLI, its SDK and curl."""

from __future__ import annotations

from collections.abc import Sequence

from bench.benchmark import Row, Workspace
from bench.contenders import CURL, OFFICIAL_CLI, OURS, SDK, list_contenders
from bench.emulator import EmulatorProcess
from bench.events_file import make_event_file
from bench.measure import Usage, choose_median, run_in_turns

_CLI_FACTOR, _SDK_FACTOR, _CURL_FACTOR = 5, 11, 4
_MAX_MEMORY_BYTES = 150_000_000


def run_beside(workspace: Workspace) -> Sequence[Row]:
    """Measure every contender over the same pages."""
    folder = workspace.make_folder("beside")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        contenders = list_contenders(emulator, served, workspace.make_folder("beside/first"))
        usages = run_in_turns(contenders, lambda name: workspace.make_folder(f"beside/{name}"), rounds=workspace.rounds)
    medians = {name: choose_median(runs) for name, runs in usages.items()}
    rows = [
        Row(name, {**usage.list_figures(), "events/s": served.count / usage.wall_seconds})
        for name, usage in medians.items()
    ]
    return [*rows, *_compare(medians)]


def _compare(medians: dict[str, Usage]) -> list[Row]:
    ours = medians[OURS]
    rows: list[Row] = []
    for name, factor in ((OFFICIAL_CLI, _CLI_FACTOR), (SDK, _SDK_FACTOR)):
        if name in medians:
            ratio = medians[name].wall_seconds / ours.wall_seconds
            rows.append(Row(f"{name} / {OURS}", {"ratio": ratio}, f"at least {factor}", ratio >= factor))
        else:
            rows.append(Row(f"{name}: not installed; run `make setup-contract`"))
    if CURL in medians:
        ratio = ours.wall_seconds / medians[CURL].wall_seconds
        rows.append(Row(f"{OURS} / {CURL}", {"ratio": ratio}, f"at most {_CURL_FACTOR}", ratio <= _CURL_FACTOR))
    else:
        rows.append(Row(f"{CURL}: not installed"))
    peak = ours.peak_bytes
    rows.append(Row(f"{OURS}, memory", {"peak MB": peak / 1e6}, "under 150 MB", peak < _MAX_MEMORY_BYTES))
    return rows
