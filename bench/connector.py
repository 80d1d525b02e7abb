"""A folder of a Connector Hub to Parquet, compared with DuckDB's own reader of JSON over the same files."""

from __future__ import annotations

import gzip
import json
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import duckdb

from bench.benchmark import Row, Workspace, skip_without_space
from bench.contenders import find_command
from bench.events_file import MEAN_BYTES, make_event_file
from bench.measure import Contender, RunError, choose_median, run_in_turns, run_measured

_EVENTS_PER_FILE = 250
_CONNECTOR = "ocid1.serviceconnector.oc1.iad.amaaaaaabench"
_OURS, _DUCKDB, _WHOLE = "oci-audit convert", "duckdb read_json", "duckdb read_json, every field"
_DUCKDB_OPTIONS = {_DUCKDB: "", _WHOLE: ", union_by_name = true, sample_size = -1"}
"""The usual call takes the fields from a sample, and drops those that it has not seen in it."""
_LEAST_RATIO = 2.0
_BYTES_PER_EVENT = MEAN_BYTES * 2
_COPY = """
import sys, duckdb
connection = duckdb.connect(config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"})
connection.execute("SET enable_progress_bar = false")
scan = f"read_json('{sys.argv[1]}/*/*.log.gz'{sys.argv[3]})"
connection.execute(f"COPY (FROM {scan}) TO '{sys.argv[2]}' (FORMAT parquet)")
"""


def run_connector(workspace: Workspace) -> Sequence[Row]:
    """Measure files of 250 events in turns, then five times as many alone: DuckDB would need all memory for them."""
    count, more = workspace.events, workspace.many_events // 2
    if not workspace.has_space(more * _BYTES_PER_EVENT):
        return skip_without_space("connector", more * _BYTES_PER_EVENT)
    folder = workspace.make_folder("connector") / "archive"
    files = _make_folder(folder, count)
    usages = run_in_turns(
        [
            Contender(
                _OURS,
                lambda output: [find_command(), "convert", str(folder), "-o", str(output / "events.parquet"), "-q"],
                lambda output: _check(output, count),
            ),
            *(_make_duckdb(name, options, folder, count) for name, options in _DUCKDB_OPTIONS.items()),
        ],
        workspace.make_folder,
        rounds=workspace.rounds,
    )
    ours = choose_median(usages[_OURS])
    rows = [Row(f"{_OURS}, {files:,} files, {count:,} events", ours.list_figures())]
    for name in _DUCKDB_OPTIONS:
        theirs = choose_median(usages[name])
        ratio = theirs.wall_seconds / ours.wall_seconds
        is_target = name == _DUCKDB
        rows += [
            Row(f"{name}, the same files", theirs.list_figures()),
            Row(
                f"{name} / {_OURS}",
                {"ratio": ratio, "CPU ratio": theirs.cpu_seconds / ours.cpu_seconds},
                "at least 2" if is_target else "",
                ratio >= _LEAST_RATIO if is_target else None,
            ),
        ]
    folder = workspace.make_folder("connector/more") / "archive"
    files = _make_folder(folder, more)
    used = run_measured(
        [find_command(), "convert", str(folder), "-o", str(folder.with_name("events.parquet")), "-q"], folder.parent
    )
    return [*rows, Row(f"{_OURS}, {files:,} files, {more:,} events", used.list_figures())]


def _make_duckdb(name: str, options: str, folder: Path, count: int) -> Contender:
    return Contender(
        name,
        lambda output: [sys.executable, "-c", _COPY, str(folder), str(output / "events.parquet"), options],
        lambda output: _check(output, count),
    )


def _make_folder(folder: Path, count: int) -> int:
    """Write the events as a connector does: bare CloudEvents, one per line, in files that follow each other."""
    connector = folder / _CONNECTOR
    connector.mkdir(parents=True)
    served = make_event_file(folder.with_name("events.ndjson"), count, is_spread=True)
    moment = datetime.fromisoformat(served.start)
    step = (datetime.fromisoformat(served.end) - moment) * _EVENTS_PER_FILE / count
    with served.path.open("rb") as lines:
        for batch in iter(partial(_take, lines), []):
            name = f"{moment:%Y%m%dT%H%M%SZ}_{moment + step:%Y%m%dT%H%M%SZ}.0.log.gz"
            content = b"".join(map(_make_cloud_event, batch))
            (connector / name).write_bytes(gzip.compress(content, 6, mtime=0))
            moment += step
    served.path.unlink()
    return len(list(connector.iterdir()))


def _take(lines: BinaryIO) -> list[bytes]:
    return list(islice(lines, _EVENTS_PER_FILE))


def _make_cloud_event(line: bytes) -> bytes:
    event = json.loads(line)
    data = event["data"]
    record = {
        "data": data,
        "dataschema": "2.0",
        "id": event["eventId"],
        "oracle": {
            "compartmentid": data.get("compartmentId"),
            "ingestedtime": event["eventTime"],
            "loggroupid": "_Audit",
            "tenantid": "ocid1.tenancy.oc1..bench",
        },
        "source": event.get("source"),
        "specversion": "1.0",
        "time": event["eventTime"],
        "type": event["eventType"],
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _check(output: Path, count: int) -> None:
    with duckdb.connect() as engine:
        (found,) = engine.execute("SELECT count(*) FROM read_parquet(?)", [str(output / "events.parquet")]).fetchall()
    if found[0] != count:
        raise RunError(f"{output} holds {found[0]:,} events instead of {count:,}")
