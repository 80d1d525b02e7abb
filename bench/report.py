"""`oci-audit report`: a page from many events, beside reading them once with the standard library."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop, note_lack_of_room
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import run_measured

_MOST_SECONDS_A_MILLION = 20
_MOST_PAGE_BYTES = 5_000_000
_MOST_MEMORY_BYTES = 250_000_000
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 2
_JUST_READING = (
    "import json, sys\nfor line in open(sys.argv[1], 'rb'):\n    if line[0] == 123: json.loads(line.rstrip(b',\\n'))"
)


def run_report(workshop: Workshop) -> Sequence[Row]:
    """Measure it over many events."""
    count = workshop.many_events
    if not workshop.has_room(count * _DISK_BYTES_PER_EVENT):
        return note_lack_of_room("report", count * _DISK_BYTES_PER_EVENT)
    folder = workshop.make_folder("report")
    made = make_event_file(folder / "events.ndjson", count, is_spread=True)
    export, page = folder / "audit.json", folder / "report.html"
    _write_array(made.path, export)
    made.path.unlink()
    used = run_measured([find_command(), "report", str(export), "-o", str(page)], folder)
    reading = run_measured([sys.executable, "-c", _JUST_READING, str(export)], folder)
    page_bytes = page.stat().st_size
    most_seconds = _MOST_SECONDS_A_MILLION * count / 1_000_000
    speed = made.size_bytes / 1e6 / used.wall_seconds
    return [
        Row(
            f"oci-audit report, {count:,} events",
            {**used.list_figures(), "MB/s": speed},
            f"under {most_seconds:.0f} s",
            used.wall_seconds < most_seconds,
        ),
        Row("the page", {"page MB": page_bytes / 1e6}, "under 5 MB", page_bytes < _MOST_PAGE_BYTES),
        Row("its memory", {"peak MB": used.peak_bytes / 1e6}, "under 250 MB", used.peak_bytes < _MOST_MEMORY_BYTES),
        Row("json.loads of each line, nothing else", reading.list_figures()),
        Row("beside that", {"ratio": used.wall_seconds / reading.wall_seconds}),
    ]


def _write_array(lines: Path, output: Path) -> None:
    """Write the events as an export holds them: one array, an event a line."""
    with lines.open("rb") as source, output.open("wb") as file:
        file.write(b"[\n")
        previous = b""
        for line in source:
            if previous:
                file.write(previous + b",\n")
            previous = line.rstrip(b"\n")
        file.write(previous + b"\n]\n")
