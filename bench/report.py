"""`oci-audit report` on many events, compared with parsing them once with the standard library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import run_measured

_MAX_SECONDS_PER_MILLION = 12
_MAX_PAGE_BYTES = 5_000_000
_MAX_MEMORY_BYTES = 250_000_000
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 2
_PARSE_ONLY = (
    "import json, sys\nfor line in open(sys.argv[1], 'rb'):\n    if line[0] == 123: json.loads(line.rstrip(b',\\n'))"
)


def run_report(workspace: Workspace) -> Sequence[Row]:
    """Measure a report on many events."""
    count = workspace.many_events
    if not workspace.has_space(count * _DISK_BYTES_PER_EVENT):
        return skip_without_space("report", count * _DISK_BYTES_PER_EVENT)
    folder = workspace.make_folder("report")
    served = make_event_file(folder / "events.ndjson", count, is_spread=True)
    export, page = folder / "audit.json", folder / "report.html"
    _write_array(served.path, export)
    served.path.unlink()
    used = run_measured([find_command(), "report", str(export), "-o", str(page)], folder)
    parsing = run_measured([sys.executable, "-c", _PARSE_ONLY, str(export)], folder)
    page_bytes = page.stat().st_size
    max_seconds = _MAX_SECONDS_PER_MILLION * count / 1_000_000
    speed = served.size_bytes / 1e6 / used.wall_seconds
    return [
        Row(
            f"oci-audit report, {count:,} events",
            {**used.list_figures(), "MB/s": speed},
            f"under {max_seconds:.0f} s",
            used.wall_seconds < max_seconds,
        ),
        Row("size of the page", {"page MB": page_bytes / 1e6}, "under 5 MB", page_bytes < _MAX_PAGE_BYTES),
        Row(
            "memory of the report",
            {"peak MB": used.peak_bytes / 1e6},
            "under 250 MB",
            used.peak_bytes < _MAX_MEMORY_BYTES,
        ),
        Row("json.loads of each line", parsing.list_figures()),
        Row("report / json.loads", {"ratio": used.wall_seconds / parsing.wall_seconds}),
    ]


def _write_array(lines: Path, output: Path) -> None:
    """Write the events as an export does: one array with one event per line."""
    with lines.open("rb") as source, output.open("wb") as file:
        file.write(b"[\n")
        previous = b""
        for line in source:
            if previous:
                file.write(previous + b",\n")
            previous = line.rstrip(b"\n")
        file.write(previous + b"\n]\n")
