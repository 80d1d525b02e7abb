"""Sweeps of whole tenancies: a skewed one, a quiet one, and one with a rate limit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from bench.benchmark import Row, Workspace
from bench.check import check_export
from bench.emulator import EmulatorProcess
from bench.events_file import END, make_event_file
from bench.measure import Usage, run_measured
from bench.sweep_tenancy import HOME, REGIONS, SweepTenancy, join_served, list_compartments

_COMPARTMENTS, _DAYS, _WINDOW_DAYS = 41, 90, 14
_DENSE_DAYS, _DENSE_SHARE = 3, 0.8
_CONCURRENCY = 16
_MAX_WALL, _MIN_GAIN, _MAX_REQUESTS = 1.2, 5, 1.1
_QUIET_DAYS, _QUIET_EVENTS_EACH, _MAX_QUIET_REQUESTS = 365, 5, 30
_ALLOWED_PER_SECOND, _MIN_PER_SECOND, _MAX_REJECTED = 20, 18, 0.03
_RATE_DAYS = 84
_OK, _TOO_MANY = 200, 429


def run_sweep(workspace: Workspace) -> Sequence[Row]:
    """Sweep three regions with four fifths of the events in three days of one compartment."""
    events, latency_ms = (6_000, 20) if workspace.is_quick else (60_000, 300)
    folder = workspace.make_folder("sweep")
    tenancy = _make_skewed(folder, events)
    pages = tenancy.count_pages(_WINDOW_DAYS)
    with tenancy.serve(folder / "config", f"--latency-ms={latency_ms}") as emulator:
        used = _export(emulator, tenancy, workspace.make_folder("sweep/run"))
        requests = emulator.count_page_requests()
    sequential = pages * latency_ms / 1_000
    ideal = sequential / _CONCURRENCY
    wall, gain, excess = used.wall_seconds / ideal, sequential / used.wall_seconds, requests / pages
    return [
        Row("export", {**used.list_figures(), "requests": requests}),
        Row(f"{pages:,} pages, {_CONCURRENCY} in flight", {"wall s": ideal, "requests": pages}),
        Row(f"{pages:,} pages, sequentially (computed)", {"wall s": sequential, "requests": pages}),
        Row("time / ideal", {"ratio": wall}, f"at most {_MAX_WALL}", wall <= _MAX_WALL),
        Row("sequential / time", {"ratio": gain}, f"at least {_MIN_GAIN}", gain >= _MIN_GAIN),
        Row("requests / pages", {"ratio": excess}, f"at most {_MAX_REQUESTS}", excess <= _MAX_REQUESTS),
    ]


def run_quiet(workspace: Workspace) -> Sequence[Row]:
    """Sweep a year of compartments with few events."""
    targets = 20 if workspace.is_quick else 200
    folder = workspace.make_folder("quiet")
    tenancy = _make_quiet(folder, targets, _QUIET_DAYS, events=targets * _QUIET_EVENTS_EACH)
    with tenancy.serve(folder / "config") as emulator:
        used = _export(emulator, tenancy, workspace.make_folder("quiet/run"))
        requests = emulator.count_page_requests() / targets
    target = f"at most {_MAX_QUIET_REQUESTS}"
    figures = {**used.list_figures(), "requests each": requests}
    return [Row(f"{targets} compartments, {_QUIET_DAYS} days", figures, target, requests <= _MAX_QUIET_REQUESTS)]


def run_rate(workspace: Workspace) -> Sequence[Row]:
    """Sweep a service with a rate limit."""
    targets = 20 if workspace.is_quick else 200
    folder = workspace.make_folder("rate")
    tenancy = _make_quiet(folder, targets, _RATE_DAYS, events=targets)
    with tenancy.serve(folder / "config", f"--rate-limit={_ALLOWED_PER_SECOND}", "--latency-ms=100") as emulator:
        _export(emulator, tenancy, workspace.make_folder("rate/run"))
        log = emulator.read_page_requests()
    served = [entry for entry in log if entry["status"] == _OK]
    rejected = sum(entry["status"] == _TOO_MANY for entry in log) / len(log)
    speed = len(served) / (max(entry["ended"] for entry in served) - min(entry["started"] for entry in log))
    name = f"{len(served):,} requests, {_ALLOWED_PER_SECOND}/s allowed"
    return [
        Row(name, {"requests/s": speed}, f"at least {_MIN_PER_SECOND}/s", speed >= _MIN_PER_SECOND),
        Row("rejected with 429", {"share": rejected}, f"at most {_MAX_REJECTED:.0%}", rejected <= _MAX_REJECTED),
    ]


def _make_skewed(folder: Path, events: int) -> SweepTenancy:
    more, compartments = list_compartments(folder / "names", _COMPARTMENTS)
    dense_events = int(events * _DENSE_SHARE)
    dense_end = END - timedelta(days=30)
    dense = make_event_file(
        folder / "dense", dense_events, days=_DENSE_DAYS, end=dense_end, compartments=compartments[1:2], seed=1
    )
    each = (events - dense_events) // len(REGIONS)
    quiet = [
        make_event_file(folder / region, each, days=_DAYS, compartments=compartments, seed=2 + number)
        for number, region in enumerate(REGIONS)
    ]
    files = {region: served.path for region, served in zip(REGIONS, quiet, strict=True)}
    with files[HOME].open("ab") as file:
        file.write(dense.path.read_bytes())
    return SweepTenancy(join_served([dense, *quiet], quiet[0]), files, more)


def _make_quiet(folder: Path, targets: int, days: int, *, events: int) -> SweepTenancy:
    more, compartments = list_compartments(folder / "names", targets)
    served = make_event_file(folder / HOME, events, days=days, compartments=compartments)
    return SweepTenancy(served, {HOME: served.path}, more)


def _export(emulator: EmulatorProcess, tenancy: SweepTenancy, folder: Path) -> Usage:
    output = folder / "audit.json"
    used = run_measured(tenancy.make_command(emulator, output), folder)
    check_export(output, tenancy.served)
    return used
