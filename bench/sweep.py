"""A whole tenancy swept: many quiet places and one that is dense; quiet ones alone; and a service that sets a limit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from bench.benchmark import Row, Workshop
from bench.check import check_export
from bench.events_file import END, make_event_file
from bench.measure import Usage, run_measured
from bench.scene import HOME, REGIONS, Scene, join_made, list_compartments
from bench.server import Server

_PLACES, _DAYS, _WINDOW_DAYS = 41, 90, 14
_DENSE_DAYS, _DENSE_SHARE = 3, 0.8
_CONCURRENCY = 16
_MOST_WALL, _LEAST_GAIN, _MOST_REQUESTS = 1.2, 5, 1.1
_QUIET_DAYS, _QUIET_EVENTS_EACH, _MOST_QUIET_REQUESTS = 365, 5, 30
_ALLOWED_PER_SECOND, _LEAST_PER_SECOND, _MOST_REFUSED = 20, 18, 0.03
_PACE_DAYS = 84
_OK, _TOO_MANY = 200, 429


def run_sweep(workshop: Workshop) -> Sequence[Row]:
    """Sweep three regions, four fifths of whose events lie in three days of one compartment."""
    events, latency_ms = (6_000, 20) if workshop.is_quick else (60_000, 300)
    folder = workshop.make_folder("sweep")
    scene = _make_skewed(folder, events)
    pages = scene.count_pages(_WINDOW_DAYS)
    with scene.serve(folder / "config", f"--latency-ms={latency_ms}") as server:
        used = _export(server, scene, workshop.make_folder("sweep/run"))
        requests = server.count_page_requests()
    one_by_one = pages * latency_ms / 1_000
    ideal = one_by_one / _CONCURRENCY
    wall, gain, asked = used.wall_seconds / ideal, one_by_one / used.wall_seconds, requests / pages
    return [
        Row("export", {**used.list_figures(), "requests": requests}),
        Row(f"{pages:,} pages, {_CONCURRENCY} at a time", {"wall s": ideal, "requests": pages}),
        Row(f"{pages:,} pages, one after the other (computed)", {"wall s": one_by_one, "requests": pages}),
        Row("time / ideal", {"ratio": wall}, f"at most {_MOST_WALL}", wall <= _MOST_WALL),
        Row("one after the other / time", {"ratio": gain}, f"at least {_LEAST_GAIN}", gain >= _LEAST_GAIN),
        Row("requests / pages", {"ratio": asked}, f"at most {_MOST_REQUESTS}", asked <= _MOST_REQUESTS),
    ]


def run_quiet(workshop: Workshop) -> Sequence[Row]:
    """Sweep a year of compartments in which next to nothing happens."""
    targets = 20 if workshop.is_quick else 200
    folder = workshop.make_folder("quiet")
    scene = _make_quiet(folder, targets, _QUIET_DAYS, events=targets * _QUIET_EVENTS_EACH)
    with scene.serve(folder / "config") as server:
        used = _export(server, scene, workshop.make_folder("quiet/run"))
        requests = server.count_page_requests() / targets
    target = f"at most {_MOST_QUIET_REQUESTS}"
    run_stats = {**used.list_figures(), "requests each": requests}
    return [Row(f"{targets} compartments, {_QUIET_DAYS} days", run_stats, target, requests <= _MOST_QUIET_REQUESTS)]


def run_pace(workshop: Workshop) -> Sequence[Row]:
    """Sweep a service that refuses what is more than so many requests in a second."""
    targets = 20 if workshop.is_quick else 200
    folder = workshop.make_folder("pace")
    scene = _make_quiet(folder, targets, _PACE_DAYS, events=targets)
    with scene.serve(folder / "config", f"--rate-limit={_ALLOWED_PER_SECOND}", "--latency-ms=100") as server:
        _export(server, scene, workshop.make_folder("pace/run"))
        log = server.read_page_requests()
    answered = [entry for entry in log if entry["status"] == _OK]
    refused = sum(entry["status"] == _TOO_MANY for entry in log) / len(log)
    speed = len(answered) / (max(entry["ended"] for entry in answered) - min(entry["started"] for entry in log))
    name = f"{len(answered):,} requests, {_ALLOWED_PER_SECOND}/s allowed"
    return [
        Row(name, {"requests/s": speed}, f"at least {_LEAST_PER_SECOND}/s", speed >= _LEAST_PER_SECOND),
        Row("answered 429", {"share": refused}, f"at most {_MOST_REFUSED:.0%}", refused <= _MOST_REFUSED),
    ]


def _make_skewed(folder: Path, events: int) -> Scene:
    more, compartments = list_compartments(folder / "names", _PLACES)
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
    files = {region: made.path for region, made in zip(REGIONS, quiet, strict=True)}
    with files[HOME].open("ab") as file:
        file.write(dense.path.read_bytes())
    return Scene(join_made([dense, *quiet], quiet[0]), files, more)


def _make_quiet(folder: Path, targets: int, days: int, *, events: int) -> Scene:
    more, compartments = list_compartments(folder / "names", targets)
    made = make_event_file(folder / HOME, events, days=days, compartments=compartments)
    return Scene(made, {HOME: made.path}, more)


def _export(server: Server, scene: Scene, folder: Path) -> Usage:
    output = folder / "audit.json"
    used = run_measured(scene.make_command(server, output), folder)
    check_export(output, scene.made)
    return used
