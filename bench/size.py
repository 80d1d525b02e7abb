"""The same export over many more events: memory must stay flat, and so must the time per event."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop, note_lack_of_room
from bench.check import check_export
from bench.contenders import make_export_command
from bench.events_file import MEAN_BYTES, Made, make_event_file
from bench.measure import Usage, choose_median, run_measured
from bench.server import Server

# The events, the output, and the log of the run.
_DISK_BYTES_PER_EVENT = int(MEAN_BYTES * 2.5)
_FIVE_MILLION = 5_000_000
_MEMORY_BYTES, _MEMORY_BYTES_AT_FIVE_MILLION = 150_000_000, 200_000_000
_MOST_SLOWDOWN = 1.10
_MEMORY_BYTES_OF_ONE_SHARD = 300_000_000
# As small as an event of the made tenancy gets without headers, payloads and tags.
_SMALL_BYTES, _GROWTH_FACTORS, _MOST_SPREAD = 1_670, (1, 4, 16), 1.15


def run_memory(workshop: Workshop) -> Sequence[Row]:
    """Measure one export of many events."""
    count = workshop.many_events
    if not workshop.has_room(count * _DISK_BYTES_PER_EVENT):
        return note_lack_of_room("memory", count * _DISK_BYTES_PER_EVENT)
    used = _measure_export(workshop, count, rounds=1)
    return [
        Row(
            f"{count:,} events",
            {**used.list_figures(), "events/s": count / used.wall_seconds},
            "under 150 MB",
            used.peak_bytes < _MEMORY_BYTES,
        )
    ]


def run_full(workshop: Workshop) -> Sequence[Row]:
    """Measure five million events beside the usual number."""
    needed = _FIVE_MILLION * _DISK_BYTES_PER_EVENT
    if not workshop.has_room(needed):
        return note_lack_of_room("full", needed)
    few = _measure_export(workshop, workshop.events, rounds=3)
    many = _measure_export(workshop, _FIVE_MILLION, rounds=1)
    few_each, many_each = few.wall_seconds / workshop.events, many.wall_seconds / _FIVE_MILLION
    slowdown = many_each / few_each
    return [
        Row(f"{workshop.events:,} events", {**few.list_figures(), "µs/event": few_each * 1e6}),
        Row(f"{_FIVE_MILLION:,} events", {**many.list_figures(), "µs/event": many_each * 1e6}),
        Row("time per event", {"ratio": slowdown}, "at most 1.10", slowdown <= _MOST_SLOWDOWN),
        Row(
            "memory",
            {"peak MB": many.peak_bytes / 1e6},
            "under 200 MB",
            many.peak_bytes < _MEMORY_BYTES_AT_FIVE_MILLION,
        ),
    ]


def run_dense(workshop: Workshop) -> Sequence[Row]:
    """Measure events that all lie in one window: what one shard costs must not grow with it."""
    count = workshop.many_events * 2
    if not workshop.has_room(count * _DISK_BYTES_PER_EVENT):
        return note_lack_of_room("dense", count * _DISK_BYTES_PER_EVENT)
    used = _measure_export(workshop, count, rounds=1, days=1)
    is_small = used.peak_bytes < _MEMORY_BYTES_OF_ONE_SHARD
    return [Row(f"{count:,} events in one shard", used.list_figures(), "under 300 MB", is_small)]


def run_growth(workshop: Workshop) -> Sequence[Row]:
    """Measure a number of small events, four times and sixteen times as many."""
    counts = [workshop.many_events * factor for factor in _GROWTH_FACTORS]
    needed = counts[-1] * int(_SMALL_BYTES * 2.5)
    if not workshop.has_room(needed):
        return note_lack_of_room("growth", needed)
    usages = [_measure_export(workshop, count, rounds=1, is_short=True) for count in counts]
    each = [usage.wall_seconds / count for usage, count in zip(usages, counts, strict=True)]
    spread = max(each) / min(each)
    peak = max(usage.peak_bytes for usage in usages)
    return [
        *(
            Row(f"{count:,} events of {_SMALL_BYTES:,} bytes", {**usage.list_figures(), "µs/event": seconds * 1e6})
            for count, usage, seconds in zip(counts, usages, each, strict=True)
        ),
        Row("time per event, most / least", {"ratio": spread}, "at most 1.15", spread <= _MOST_SPREAD),
        Row("memory", {"peak MB": peak / 1e6}, "under 200 MB", peak < _MEMORY_BYTES_AT_FIVE_MILLION),
    ]


def _measure_export(workshop: Workshop, count: int, *, rounds: int, days: int = 14, is_short: bool = False) -> Usage:
    folder = workshop.make_folder("size")
    made = make_event_file(folder / "events.ndjson", count, days=days, is_short=is_short)
    with Server(folder / "config", events=made.path) as server:
        usages = [_export(server, made, workshop.make_folder("size/run")) for _ in range(rounds)]
    workshop.make_folder("size")
    return choose_median(usages)


def _export(server: Server, made: Made, folder: Path) -> Usage:
    output = folder / "audit.json"
    used = run_measured(make_export_command(server, made, output), folder)
    check_export(output, made)
    return used
