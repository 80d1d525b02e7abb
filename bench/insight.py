"""`oci-audit summary` and `oci-audit query` over many events, beside ten lines of Python.

Both read the file of events itself, one per line. The script does the least that gives an answer: it decodes each
line with the standard library and counts event names.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop, note_lack_of_room
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import Usage, choose_median, run_measured

_LEAST_MB_PER_SECOND = 200
_MOST_BYTES = 300_000_000
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


def run_insight(workshop: Workshop) -> Sequence[Row]:
    """Measure them over many events; queries over the usual number, because they load what they ask."""
    needed = workshop.many_events * _DISK_BYTES_PER_EVENT
    if not workshop.has_room(needed):
        return note_lack_of_room("insight", needed)
    folder = workshop.make_folder("insight")
    path = make_event_file(folder / "events.ndjson", workshop.many_events).path
    megabytes = path.stat().st_size / 1e6
    summary = _measure(workshop, folder, [find_command(), "summary", str(path)])
    script = _measure(workshop, folder, [sys.executable, "-c", _SCRIPT, str(path)])
    speed = megabytes / summary.wall_seconds
    rows = [
        Row(
            f"oci-audit summary, {workshop.many_events:,} events, {megabytes:,.0f} MB",
            {**summary.list_figures(), "MB/s": speed},
            f"at least {_LEAST_MB_PER_SECOND} MB/s",
            speed >= _LEAST_MB_PER_SECOND,
        ),
        Row("json.loads and a Counter", {**script.list_figures(), "MB/s": megabytes / script.wall_seconds}),
        Row(
            "memory of the summary",
            {"peak MB": summary.peak_bytes / 1e6},
            "under 300 MB",
            summary.peak_bytes < _MOST_BYTES,
        ),
    ]
    few = make_event_file(workshop.make_folder("insight/few") / "events.ndjson", workshop.events).path
    for name, sql in (("of two columns", _FEW_COLUMNS), ("into the whole event", _WHOLE_EVENT)):
        used = _measure(workshop, folder, [find_command(), "query", str(few), sql])
        each = {"µs/event": used.wall_seconds / workshop.events * 1e6}
        rows.append(Row(f"oci-audit query {name}, {workshop.events:,} events", {**used.list_figures(), **each}))
    return rows


def _measure(workshop: Workshop, folder: Path, command: Sequence[str]) -> Usage:
    return choose_median([run_measured(command, folder) for _ in range(workshop.rounds)])
