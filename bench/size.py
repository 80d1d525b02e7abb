"""The same export with many more events: neither memory nor the time per event may grow with their number."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace, skip_without_space
from bench.check import check_export
from bench.contenders import make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import MEAN_BYTES, ServedEvents, make_event_file
from bench.measure import Usage, choose_median, run_measured

# The events, the output, and the event log of the run.
_DISK_BYTES_PER_EVENT = int(MEAN_BYTES * 2.5)
_FIVE_MILLION = 5_000_000
_MEMORY_BYTES, _MEMORY_BYTES_AT_FIVE_MILLION = 150_000_000, 200_000_000
_MAX_SLOWDOWN = 1.10
_MEMORY_BYTES_OF_ONE_SHARD = 300_000_000
# The size of a synthetic event without headers, payloads and tags.
_SMALL_BYTES, _GROWTH_FACTORS, _MAX_SPREAD = 1_670, (1, 4, 16), 1.15


def run_memory(workspace: Workspace) -> Sequence[Row]:
    """Measure one export of many events."""
    count = workspace.many_events
    if not workspace.has_space(count * _DISK_BYTES_PER_EVENT):
        return skip_without_space("memory", count * _DISK_BYTES_PER_EVENT)
    used = _measure_export(workspace, count, rounds=1)
    return [
        Row(
            f"{count:,} events",
            {**used.list_figures(), "events/s": count / used.wall_seconds},
            "under 150 MB",
            used.peak_bytes < _MEMORY_BYTES,
        )
    ]


def run_full(workspace: Workspace) -> Sequence[Row]:
    """Measure five million events and the default number."""
    needed = _FIVE_MILLION * _DISK_BYTES_PER_EVENT
    if not workspace.has_space(needed):
        return skip_without_space("full", needed)
    few = _measure_export(workspace, workspace.events, rounds=3)
    many = _measure_export(workspace, _FIVE_MILLION, rounds=1)
    few_each, many_each = few.wall_seconds / workspace.events, many.wall_seconds / _FIVE_MILLION
    slowdown = many_each / few_each
    return [
        Row(f"{workspace.events:,} events", {**few.list_figures(), "µs/event": few_each * 1e6}),
        Row(f"{_FIVE_MILLION:,} events", {**many.list_figures(), "µs/event": many_each * 1e6}),
        Row("time per event", {"ratio": slowdown}, "at most 1.10", slowdown <= _MAX_SLOWDOWN),
        Row(
            "memory",
            {"peak MB": many.peak_bytes / 1e6},
            "under 200 MB",
            many.peak_bytes < _MEMORY_BYTES_AT_FIVE_MILLION,
        ),
    ]


def run_dense(workspace: Workspace) -> Sequence[Row]:
    """Measure events that are all in one window: memory must not grow with the size of a shard."""
    count = workspace.many_events * 2
    if not workspace.has_space(count * _DISK_BYTES_PER_EVENT):
        return skip_without_space("dense", count * _DISK_BYTES_PER_EVENT)
    used = _measure_export(workspace, count, rounds=1, days=1)
    is_small = used.peak_bytes < _MEMORY_BYTES_OF_ONE_SHARD
    return [Row(f"{count:,} events in one shard", used.list_figures(), "under 300 MB", is_small)]


def run_growth(workspace: Workspace) -> Sequence[Row]:
    """Measure small events, then four times and sixteen times as many."""
    counts = [workspace.many_events * factor for factor in _GROWTH_FACTORS]
    needed = counts[-1] * int(_SMALL_BYTES * 2.5)
    if not workspace.has_space(needed):
        return skip_without_space("growth", needed)
    usages = [_measure_export(workspace, count, rounds=1, is_short=True) for count in counts]
    each = [usage.wall_seconds / count for usage, count in zip(usages, counts, strict=True)]
    spread = max(each) / min(each)
    peak = max(usage.peak_bytes for usage in usages)
    return [
        *(
            Row(f"{count:,} events of {_SMALL_BYTES:,} bytes", {**usage.list_figures(), "µs/event": seconds * 1e6})
            for count, usage, seconds in zip(counts, usages, each, strict=True)
        ),
        Row("time per event, longest / shortest", {"ratio": spread}, "at most 1.15", spread <= _MAX_SPREAD),
        Row("memory", {"peak MB": peak / 1e6}, "under 200 MB", peak < _MEMORY_BYTES_AT_FIVE_MILLION),
    ]


def _measure_export(workspace: Workspace, count: int, *, rounds: int, days: int = 14, is_short: bool = False) -> Usage:
    folder = workspace.make_folder("size")
    served = make_event_file(folder / "events.ndjson", count, days=days, is_short=is_short)
    with EmulatorProcess(folder / "config", events=served.path) as emulator:
        usages = [_export(emulator, served, workspace.make_folder("size/run")) for _ in range(rounds)]
    workspace.make_folder("size")
    return choose_median(usages)


def _export(emulator: EmulatorProcess, served: ServedEvents, folder: Path) -> Usage:
    output = folder / "audit.json"
    used = run_measured(make_export_command(emulator, served, output), folder)
    check_export(output, served)
    return used
