"""An export that is killed halfway and started again: how many pages it fetches a second time."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace
from bench.check import check_export
from bench.contenders import make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import ServedEvents, make_event_file
from bench.measure import make_environment, run_measured

_KILLS = 3
_POLL_SECONDS = 0.02
_MAX_SHARE = 0.55
# Without latency, a page takes less time than reading the log, and the kill would miss its moment.
_LATENCY_MS = 4


def run_resume(workspace: Workspace) -> Sequence[Row]:
    """Kill an export after half of the pages, several times, and count the requests of the second run."""
    folder = workspace.make_folder("resume")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    with EmulatorProcess(folder / "config", "--latency-ms", str(_LATENCY_MS), events=served.path) as emulator:
        whole = _count_whole_run(emulator, served, workspace.make_folder("resume/whole"))
        # Each kill is slightly later than the previous one, so that not all happen at the same stage of a commit.
        kills = [
            _kill_and_resume(
                emulator, served, workspace.make_folder("resume/run"), pages=whole * (100 + 3 * number) // 200
            )
            for number in range(_KILLS)
        ]
    fetched_twice = [before + after - whole for before, after in kills]
    # Normalized to a kill at exactly half.
    share = 0.5 + max(fetched_twice) / whole
    return [
        Row(
            f"kill at {before / whole:.0%} of {whole:,} requests",
            {"after": after, "fetched twice": before + after - whole, "share": after / whole},
        )
        for before, after in kills
    ] + [Row("worst case, normalized to a kill at 50 %", {"share": share}, "at most 0.55", share <= _MAX_SHARE)]


def _count_whole_run(emulator: EmulatorProcess, served: ServedEvents, folder: Path) -> int:
    run_measured(make_export_command(emulator, served, folder / "audit.json"), folder)
    count = emulator.count_page_requests()
    emulator.clear_log()
    return count


def _kill_and_resume(emulator: EmulatorProcess, served: ServedEvents, folder: Path, *, pages: int) -> tuple[int, int]:
    """Return the requests before and after the kill."""
    output = folder / "audit.json"
    command = make_export_command(emulator, served, output, "--quiet")
    with subprocess.Popen(command, cwd=folder, env=make_environment(folder)) as process:
        while process.poll() is None and emulator.count_page_requests() < pages:
            time.sleep(_POLL_SECONDS)
        process.kill()
    time.sleep(5 * _LATENCY_MS / 1000)  # requests in flight are in the log by then
    before = emulator.count_page_requests()
    emulator.clear_log()
    run_measured(command, folder)
    check_export(output, served)
    after = emulator.count_page_requests()
    emulator.clear_log()
    return before, after
