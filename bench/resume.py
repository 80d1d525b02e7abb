"""An export that is killed half-way and started again: how much it asks for a second time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop
from bench.check import check_export
from bench.contenders import make_export_command
from bench.events_file import Made, make_event_file
from bench.measure import make_environment, run_measured
from bench.server import Server

_KILLS = 3
_POLL_SECONDS = 0.02
_MOST_SHARE = 0.55
_LATENCY_MS = 4
"""So that the moment of the kill can be met: without it a page takes less than the look at the log does."""


def run_resume(workshop: Workshop) -> Sequence[Row]:
    """Kill at half of the pages, several times, and count the requests of the second run."""
    folder = workshop.make_folder("resume")
    made = make_event_file(folder / "events.ndjson", workshop.events)
    with Server(folder / "config", "--latency-ms", str(_LATENCY_MS), events=made.path) as server:
        whole = _count_whole_run(server, made, workshop.make_folder("resume/whole"))
        # One shortly behind the other, so that not all meet the same moment of a commit.
        kills = [
            _kill_and_resume(server, made, workshop.make_folder("resume/run"), pages=whole * (100 + 3 * number) // 200)
            for number in range(_KILLS)
        ]
    asked_twice = [before + after - whole for before, after in kills]
    # As if every kill had come at exactly half.
    share = 0.5 + max(asked_twice) / whole
    return [
        Row(
            f"kill at {before / whole:.0%} of {whole:,} requests",
            {"after it": after, "asked twice": before + after - whole, "share": after / whole},
        )
        for before, after in kills
    ] + [Row("the worst, had it come at exactly 50 %", {"share": share}, "at most 0.55", share <= _MOST_SHARE)]


def _count_whole_run(server: Server, made: Made, folder: Path) -> int:
    run_measured(make_export_command(server, made, folder / "audit.json"), folder)
    count = server.count_page_requests()
    server.clear_log()
    return count


def _kill_and_resume(server: Server, made: Made, folder: Path, *, pages: int) -> tuple[int, int]:
    """Return the requests before and after the kill."""
    output = folder / "audit.json"
    command = make_export_command(server, made, output, "--quiet")
    with subprocess.Popen(command, cwd=folder, env=make_environment(folder)) as process:
        while process.poll() is None and server.count_page_requests() < pages:
            time.sleep(_POLL_SECONDS)
        process.kill()
    time.sleep(5 * _LATENCY_MS / 1000)  # what was on its way is in the log by then
    before = server.count_page_requests()
    server.clear_log()
    run_measured(command, folder)
    check_export(output, made)
    after = server.count_page_requests()
    server.clear_log()
    return before, after
