"""`oci-audit summary` and `oci-audit query`, compared with ten lines of Python and with DuckDB on the same files.

The script does the minimum for a result: it parses each line with the standard library and counts event names. A
process that asks DuckDB reads the file with `read_json_objects` and extracts one value of each event.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import zstandard

from bench.benchmark import Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import Contender, RunError, Usage, choose_median, run_in_turns, run_measured

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
_MAX_QUERY_RATIO = 1.5
_MAX_QUERY_BYTES = 400_000_000
_ASK_DUCKDB = """
import duckdb, json, sys
path, column = sys.argv[1:]
sql = f"SELECT json->>'{column}' AS value, count(*) AS n FROM read_json_objects(?) GROUP BY 1 ORDER BY ALL"
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
print(json.dumps(connection.execute(sql, [path]).fetchall()))
"""
_QUESTIONS = (
    ("by event name", "event_name", "$.data.eventName"),
    ("by request path", "event->>'$.data.request.path'", "$.data.request.path"),
)
"""(words, our column, the path of the same value for DuckDB)."""


def run_insight(workspace: Workspace) -> Sequence[Row]:
    """Measure a summary of many events, queries of the default number beside DuckDB, and the memory of one of many."""
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
    rows += _run_queries(workspace)
    sql = "SELECT event->>'$.data.request.path' AS path, count(*) FROM events GROUP BY 1"
    used = run_measured([find_command(), "query", str(path), sql, "-o", "rows.json"], folder)
    name = f"memory of a query by request path, {workspace.many_events:,} events"
    is_reached = used.peak_bytes < _MAX_QUERY_BYTES
    return [*rows, Row(name, used.list_figures(), "under 400 MB", is_reached)]


def _run_queries(workspace: Workspace) -> list[Row]:
    """Measure queries of every layout, in turns with a process that asks DuckDB the same of the same file."""
    rows: list[Row] = []
    for path in _make_files(workspace.make_folder("insight/few"), workspace.events):
        for words, column, json_path in _QUESTIONS:
            sql = f"SELECT {column} AS value, count(*) AS n FROM events GROUP BY 1 ORDER BY ALL"
            contenders = [
                _make_contender("oci-audit", [find_command(), "query", str(path), sql, "--format", "json"], workspace),
                _make_contender("DuckDB", [sys.executable, "-c", _ASK_DUCKDB, str(path), json_path], workspace),
            ]
            usages = run_in_turns(contenders, lambda _: workspace.make_folder("insight/turn"), rounds=workspace.rounds)
            ours, theirs = (choose_median(usages[contender.name]) for contender in contenders)
            kind = path.name.removeprefix("events.")
            rows += [
                Row(f"query {words}, {kind}, oci-audit", ours.list_figures()),
                Row(f"query {words}, {kind}, DuckDB", theirs.list_figures()),
            ]
            ratio = ours.wall_seconds / theirs.wall_seconds
            figures = {"ratio": ratio, "CPU ratio": ours.cpu_seconds / theirs.cpu_seconds}
            is_reached = ratio <= _MAX_QUERY_RATIO
            rows.append(
                Row(f"query {words}, {kind}: oci-audit / DuckDB", figures, f"at most {_MAX_QUERY_RATIO}", is_reached)
            )
        path.unlink()
    return rows


def _make_contender(name: str, command: Sequence[str], workspace: Workspace) -> Contender:
    def check(folder: Path) -> None:
        rows = json.loads((folder / "stdout").read_text("utf-8"))
        counts = [row["n"] if isinstance(row, dict) else row[1] for row in rows]
        if sum(counts) != workspace.events:
            raise RunError(f"{name} counted {sum(counts):,} events instead of {workspace.events:,}")

    return Contender(name, lambda _: command, check)


def _make_files(folder: Path, count: int) -> Iterator[Path]:
    """Yield the same events as lines, as an array, and as compressed lines; the caller deletes the files."""
    lines = make_event_file(folder / "served.ndjson", count).path
    data = lines.read_bytes()
    lines.unlink()
    for suffix, pack in (
        ("ndjson", bytes),
        ("json", lambda data: b"[\n" + data[:-1].replace(b"}\n{", b"},\n{") + b"\n]\n"),
        ("ndjson.gz", lambda data: gzip.compress(data, 6)),
        ("ndjson.zst", zstandard.ZstdCompressor(3).compress),
    ):
        path = folder / f"events.{suffix}"
        path.write_bytes(pack(data))
        yield path


def _measure(workspace: Workspace, folder: Path, command: Sequence[str]) -> Usage:
    return choose_median([run_measured(command, folder) for _ in range(workspace.rounds)])
