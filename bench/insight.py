"""`oci-audit summary` and `oci-audit query` over many events, compared with ten lines of Python.

All read the file of events, one per line. The script does the minimum for a result: it parses each line with the
standard library and counts event names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import Usage, choose_median, run_measured

_MIN_MB_PER_SECOND = 200
_MAX_BYTES = 300_000_000
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 2
_SCRIPT = """
import collections, json, sys
names = collections.Counter()
with open(sys.argv[1], "rb") as file:
    for line in file:
        names[json.loads(line)["data"]["eventName"]] += 1
print(names.most_common(8))
"""
_FEW_COLUMNS = "SELECT event_name, outcome, count(*) FROM events GROUP BY ALL ORDER BY 3 DESC"
_WHOLE_EVENT = "SELECT event->>'$.data.request.action' AS action, count(*) FROM events GROUP BY 1"


def run_insight(workspace: Workspace) -> Sequence[Row]:
    """Measure a summary of many events, and queries over the default number, because queries load their columns."""
    needed = workspace.many_events * _DISK_BYTES_PER_EVENT
    if not workspace.has_space(needed):
        return skip_without_space("insight", needed)
    folder = workspace.make_folder("insight")
    path = make_event_file(folder / "events.ndjson", workspace.many_events).path
    megabytes = path.stat().st_size / 1e6
    summary = _measure(workspace, folder, [find_command(), "summary", str(path)])
    script = _measure(workspace, folder, [sys.executable, "-c", _SCRIPT, str(path)])
    speed = megabytes / summary.wall_seconds
    rows = [
        Row(
            f"oci-audit summary, {workspace.many_events:,} events, {megabytes:,.0f} MB",
            {**summary.list_figures(), "MB/s": speed},
            f"at least {_MIN_MB_PER_SECOND} MB/s",
            speed >= _MIN_MB_PER_SECOND,
        ),
        Row("json.loads and a Counter", {**script.list_figures(), "MB/s": megabytes / script.wall_seconds}),
        Row(
            "memory of the summary",
            {"peak MB": summary.peak_bytes / 1e6},
            "under 300 MB",
            summary.peak_bytes < _MAX_BYTES,
        ),
    ]
    few = make_event_file(workspace.make_folder("insight/few") / "events.ndjson", workspace.events).path
    for name, sql in (("of two columns", _FEW_COLUMNS), ("of the whole event", _WHOLE_EVENT)):
        used = _measure(workspace, folder, [find_command(), "query", str(few), sql])
        each = {"µs/event": used.wall_seconds / workspace.events * 1e6}
        rows.append(Row(f"oci-audit query {name}, {workspace.events:,} events", {**used.list_figures(), **each}))
    return rows


def _measure(workspace: Workspace, folder: Path, command: Sequence[str]) -> Usage:
    return choose_median([run_measured(command, folder) for _ in range(workspace.rounds)])
