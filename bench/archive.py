"""Archives: a first sync beside an export, a sync in which nothing happened, a query, and opening many commits."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from bench.benchmark import ROOT, Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.emulator import EmulatorProcess
from bench.events_file import END, MEAN_BYTES, ServedEvents, make_event_file
from bench.measure import RunError, Usage, choose_median, make_environment, run_measured

_OPEN_CLOCK = Path(__file__).with_name("open_clock.py")
_MORE_COMPARTMENTS = 27  # the synthetic tenancy has 14 readable ones, and a forbidden one
_FIRST_EVENTS, _MANY_EVENTS = 200_000, (1_000_000, 10_000_000)
_SHORT_BYTES = 1_670
_MAX_FIRST, _MAX_REQUESTS, _MAX_SECONDS, _MAX_GROWTH, _MAX_OPENING = 1.25, 1.1, 3.0, 1.15, 1.5
_MEMORY_BYTES = 200_000_000
_MAX_QUERY, _MAX_START_SECONDS, _QUERY_ROUNDS = 1.3, 0.25, 5
_COMMITS = (10, 10_000)
_STOP_ROUNDS, _MAX_STOP_SECONDS, _TERMINATED = 5, 2.0, 143
_QUERY = "SELECT event_name, outcome, count(*) FROM {} GROUP BY ALL ORDER BY 3 DESC"
_DUCKDB = """
import sys, duckdb
for row in duckdb.sql(sys.argv[1]).fetchall():
    print(*row)
"""
_DENIED = (0, 10)
"""The exit codes of a success; one compartment of the synthetic tenancy is forbidden, which is a gap."""


def run_first_sync(workspace: Workspace) -> Sequence[Row]:
    """Sync a new archive and export to Parquet, in turns: the same tenancy, the same events."""
    count = 20_000 if workspace.is_quick else _FIRST_EVENTS
    if not workspace.has_space(count * MEAN_BYTES * 4):
        return skip_without_space("first-sync", count * MEAN_BYTES * 4)
    folder = workspace.make_folder("first-sync")
    served = make_event_file(folder / "events.ndjson", count)
    syncs: list[Usage] = []
    exports: list[Usage] = []
    with EmulatorProcess(folder / "config", "--now", _format_now(), events=served.path) as emulator:
        for _ in range(workspace.rounds):
            run = workspace.make_folder("first-sync/run")
            command = [find_command(), "export", *_connect(emulator), "--start", served.start, "--end", served.end]
            exports.append(run_measured([*command, "-o", str(run / "audit.parquet")], run, codes=_DENIED))
            syncs.append(_sync(emulator, served, run))
            _check_rows(run / "archive", count)
    export, sync = choose_median(exports), choose_median(syncs)
    ratio = sync.wall_seconds / export.wall_seconds
    return [
        Row("export to Parquet", {**export.list_figures(), "events/s": count / export.wall_seconds}),
        Row("first sync", {**sync.list_figures(), "events/s": count / sync.wall_seconds}),
        Row("sync / export", {"ratio": ratio}, f"at most {_MAX_FIRST}", ratio <= _MAX_FIRST),
    ]


def run_quiet_sync(workspace: Workspace) -> Sequence[Row]:
    """Sync an archive of a million short events in which nothing has happened for an hour."""
    return _run_quiet(workspace, (20_000,) if workspace.is_quick else _MANY_EVENTS[:1])


def run_large_archive(workspace: Workspace) -> Sequence[Row]:
    """Sync archives of 1 and 10 million short events in which nothing has happened for an hour."""
    return _run_quiet(workspace, _MANY_EVENTS)


def run_open(workspace: Workspace) -> Sequence[Row]:
    """Open an archive of ten commits, and one of ten thousand."""
    few, many = (10, 1_000) if workspace.is_quick else _COMMITS
    seconds = {}
    for count in (few, many):
        folder = workspace.make_folder("open")
        command = [sys.executable, str(_OPEN_CLOCK), str(folder / "archive"), str(count)]
        run_measured(command, folder, variables={"PYTHONPATH": str(ROOT)})
        seconds[count] = float((folder / "stdout").read_text())
    ratio = seconds[many] / seconds[few]
    return [
        *(Row(f"{count:,} commits", {"CPU ms": 1_000 * each}) for count, each in seconds.items()),
        Row("many / few", {"ratio": ratio}, f"at most {_MAX_OPENING}", ratio <= _MAX_OPENING),
    ]


def run_stop(workspace: Workspace) -> Sequence[Row]:
    """Send SIGTERM to a sync while the service does not answer."""
    folder = workspace.make_folder("stop")
    seconds = []
    with EmulatorProcess(folder / "config") as emulator:
        stall = {"operation": "ListEvents", "times": 1_000_000, "fault": {"kind": "stall", "seconds": 600}}
        emulator.post("faults", [stall])
        for number in range(_STOP_ROUNDS):
            before = emulator.read_json("faults")[0]["fired"]
            command = [find_command(), "sync", str(folder / str(number)), *_connect(emulator), "--start", "2d"]
            process = subprocess.Popen(command, env=make_environment(folder), stderr=subprocess.DEVNULL)
            while emulator.read_json("faults")[0]["fired"] == before:
                time.sleep(0.05)
            started = time.monotonic()
            process.terminate()
            if process.wait() != _TERMINATED:
                raise RunError(f"the sync ended with {process.returncode}")
            seconds.append(time.monotonic() - started)
    worst = max(seconds)
    name = f"SIGTERM, worst of {_STOP_ROUNDS}"
    return [Row(name, {"wall s": worst}, f"at most {_MAX_STOP_SECONDS:.0f} s", worst <= _MAX_STOP_SECONDS)]


def _run_quiet(workspace: Workspace, counts: Sequence[int]) -> list[Row]:
    needed = int(max(counts) * _SHORT_BYTES * 2.5)
    if not workspace.has_space(needed):
        return skip_without_space("quiet-sync", needed)
    empty, _ = _measure_quiet(workspace, 100)
    rows = [Row("archive of 100 events", empty.list_figures())]
    walls: list[float] = []
    for count in counts:
        used, requests = _measure_quiet(workspace, count)
        walls.append(used.wall_seconds)
        queries = _measure_query(workspace.folder / "quiet-sync", count)
        more = used.wall_seconds - empty.wall_seconds
        name = f"archive of {count:,} events"
        rows += [
            Row(name, {**used.list_figures(), "requests each": requests}),
            Row(f"{name}, requests", {"ratio": requests}, f"at most {_MAX_REQUESTS}", requests <= _MAX_REQUESTS),
            Row(f"{name}, more than of 100", {"wall s": more}, f"at most {_MAX_SECONDS}", more <= _MAX_SECONDS),
            Row(f"{name}, memory", {"peak MB": used.peak_bytes / 1e6}, "under 200 MB", used.peak_bytes < _MEMORY_BYTES),
            *queries,
        ]
    if len(walls) > 1:
        growth = walls[-1] / walls[0]
        rows.append(Row("10 million / 1 million", {"ratio": growth}, f"at most {_MAX_GROWTH}", growth <= _MAX_GROWTH))
    return rows


def _measure_query(folder: Path, count: int) -> list[Row]:
    """Query two columns of the archive in a folder, and with DuckDB alone, in turns; the fastest of each counts."""
    files = f"read_parquet('{folder / 'archive' / 'events'}/event_date=*/*.parquet')"
    ours, alone = [], []
    for _ in range(_QUERY_ROUNDS):
        ours.append(run_measured([find_command(), "query", str(folder / "archive"), _QUERY.format("events")], folder))
        alone.append(run_measured([sys.executable, "-c", _DUCKDB, _QUERY.format(files)], folder))
    query, duckdb = min(ours, key=_read_wall), min(alone, key=_read_wall)
    limit = _MAX_QUERY * duckdb.wall_seconds + _MAX_START_SECONDS
    name = f"query of two columns of {count:,} events"
    target = f"at most {_MAX_QUERY} of DuckDB alone and {_MAX_START_SECONDS} s"
    return [
        Row(f"DuckDB, {name}", duckdb.list_figures()),
        Row(name, query.list_figures(), f"{target}: {limit:.2f} s", query.wall_seconds <= limit),
    ]


def _read_wall(usage: Usage) -> float:
    return usage.wall_seconds


def _measure_quiet(workspace: Workspace, count: int) -> tuple[Usage, float]:
    """Return what a sync takes in which nothing happened, and its requests for each of 3 × 41 targets."""
    folder = workspace.make_folder("quiet-sync")
    served = make_event_file(folder / "events.ndjson", count, days=90, is_short=True, is_spread=True)
    flags = ("--now", _format_now(), f"--compartments={_MORE_COMPARTMENTS}")
    with EmulatorProcess(folder / "config", *flags, events=served.path) as emulator:
        _sync(emulator, served, folder)
        _check_rows(folder / "archive", count)
        usages = []
        for _ in range(3):
            _advance(emulator, "1h")
            emulator.clear_log()
            usages.append(_sync(emulator, served, folder))
        requests = emulator.read_page_requests()
    targets = {(entry["region"], entry["compartmentId"]) for entry in requests}
    return choose_median(usages), len(requests) / len(targets)


def _sync(emulator: EmulatorProcess, served: ServedEvents, folder: Path) -> Usage:
    """Sync the archive in a folder."""
    command = [find_command(), "sync", str(folder / "archive"), *_connect(emulator), "--start", served.start]
    return run_measured(command, folder, codes=_DENIED)


def _connect(emulator: EmulatorProcess) -> list[str]:
    return ["--config-file", str(emulator.config_path), "--endpoint", emulator.url + "/{region}"]


def _format_now() -> str:
    """Return noon of the day after the last event."""
    return f"{END + timedelta(hours=12):%Y-%m-%dT%H:%M:%SZ}"


def _advance(emulator: EmulatorProcess, span: str) -> None:
    emulator.post("clock", {"advance": span})


def _check_rows(archive: Path, count: int) -> None:
    """Check that an archive's segments have so many rows.

    Raises: RunError.
    """
    commits = [json.loads(path.read_bytes()) for path in sorted((archive / "commits").glob("*.json"))]
    replaced = {path for commit in commits for path in commit.get("replaced", ())}
    rows = sum(one["rows"] for commit in commits for one in commit.get("added", ()) if one["path"] not in replaced)
    if rows != count:
        raise RunError(f"the archive has {rows:,} rows instead of {count:,}")
