"""Conversions to tables, compared with pandas and DuckDB; exports in another shape or to Parquet; memory for more."""

from __future__ import annotations

import csv
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace, skip_without_space
from bench.check import check_export, check_ids
from bench.contenders import find_command, make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import MEAN_BYTES, ServedEvents, make_event_file
from bench.measure import Contender, RunError, Usage, choose_median, run_in_turns, run_measured
from ociaudit.formats.parquet import PARQUET_COLUMNS, PARQUET_TYPES

_PANDAS = Path(__file__).with_name("pandas_script.py")
# The events as lines and as an array, and a table with its temporary file.
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 4
_PARQUET_FACTOR, _CSV_FACTOR, _SDK_FACTOR = 3, 5, 1.6
_CSV_MEMORY_BYTES = _PARQUET_MEMORY_BYTES = 300_000_000
_EXPORT_FACTOR = 1.25
_COPY = """
import duckdb, sys
source, output, columns = sys.argv[1:]
copied = f"SELECT {columns} FROM read_json_objects('{source}')"
connection = duckdb.connect()
connection.execute("SET enable_progress_bar = false")
connection.execute(f"COPY ({copied}) TO '{output}' (FORMAT parquet, COMPRESSION zstd)")
"""
_FIELD = re.compile(r"data\.[\w.]+|\b(?:eventTime|eventId|eventType|source)\b")
_MAX_GROWTH = 1.25


def run_formats(workspace: Workspace) -> Sequence[Row]:
    """Measure conversions and pandas, exports in two shapes, then conversions of many more events."""
    if not workspace.has_space(workspace.many_events * _DISK_BYTES_PER_EVENT):
        return skip_without_space("formats", workspace.many_events * _DISK_BYTES_PER_EVENT)
    folder = workspace.make_folder("formats")
    served, array = _make_array(folder, workspace.events)
    rows: list[Row] = []
    peaks: dict[str, int] = {}
    for suffix, factor in (("parquet", _PARQUET_FACTOR), ("csv", _CSV_FACTOR)):
        contenders = [_make_ours(array, served, suffix), _make_pandas(array, suffix)]
        usages = run_in_turns(contenders, lambda _: workspace.make_folder("formats/turn"), rounds=workspace.rounds)
        ours, theirs = (choose_median(usages[contender.name]) for contender in contenders)
        peaks[suffix] = ours.peak_bytes
        rows += [_make_row(contenders[0].name, ours, served), _make_row(contenders[1].name, theirs, served)]
        ratio = theirs.wall_seconds / ours.wall_seconds
        rows.append(
            Row(f"json → {suffix}: pandas / oci-audit", {"ratio": ratio}, f"at least {factor}", ratio >= factor)
        )
    rows += _run_copies(workspace, array, served)
    rows += _run_shapes(workspace, served)
    array.unlink()
    served.path.unlink()
    return [*rows, *_run_many(workspace, peaks)]


def _run_copies(workspace: Workspace, array: Path, served: ServedEvents) -> list[Row]:
    """Convert to Parquet in turns with a process in which DuckDB copies the same columns."""
    ours = _make_ours(array, served, "parquet")
    theirs = Contender(
        "json → parquet, DuckDB",
        lambda folder: [sys.executable, "-c", _COPY, str(array), str(folder / "table.parquet"), _list_copied()],
        lambda folder: _check_table(folder / "table.parquet", served),
    )
    usages = run_in_turns([ours, theirs], lambda _: workspace.make_folder("formats/turn"), rounds=workspace.rounds)
    of_ours, of_theirs = choose_median(usages[ours.name]), choose_median(usages[theirs.name])
    ratio = of_ours.wall_seconds / of_theirs.wall_seconds
    figures = {"ratio": ratio, "CPU ratio": of_ours.cpu_seconds / of_theirs.cpu_seconds}
    is_small = of_ours.peak_bytes < _PARQUET_MEMORY_BYTES
    return [
        _make_row(theirs.name, of_theirs, served),
        Row("json → parquet, oci-audit / DuckDB, the same columns", figures, "at most 1", ratio <= 1),
        Row("json → parquet, memory", {"peak MB": of_ours.peak_bytes / 1e6}, "under 300 MB", is_small),
    ]


def _list_copied() -> str:
    """Return the columns of our Parquet files as DuckDB extracts them, each from its main field."""
    copied = []
    for column in PARQUET_COLUMNS[:-1]:
        field = _FIELD.search(column.description)
        value = f"json->>'$.{field[0]}'" if field else "NULL::VARCHAR"
        copied.append(f"TRY_CAST({value} AS {PARQUET_TYPES[column.kind]}) AS {column.name}")
    return ", ".join([*copied, "json AS event"])


def _run_many(workspace: Workspace, peaks: dict[str, int]) -> list[Row]:
    """Convert many events: memory must not grow with their number."""
    folder = workspace.make_folder("formats/many")
    served, array = _make_array(folder, workspace.many_events)
    rows: list[Row] = []
    for suffix, before in peaks.items():
        contender = _make_ours(array, served, suffix)
        used = run_measured(
            contender.make_command(workspace.make_folder("formats/turn")), workspace.folder / "formats/turn"
        )
        contender.check(workspace.folder / "formats/turn")
        rows.append(_make_row(contender.name, used, served))
        growth = used.peak_bytes / before
        name = f"json → {suffix}, memory for {served.count:,} events / for fewer"
        rows.append(Row(name, {"ratio": growth}, f"at most {_MAX_GROWTH}", growth <= _MAX_GROWTH))
        if suffix == "csv":
            is_reached = used.peak_bytes < _CSV_MEMORY_BYTES
            rows.append(Row("json → csv, memory", {"peak MB": used.peak_bytes / 1e6}, "under 300 MB", is_reached))
    return rows


def _run_shapes(workspace: Workspace, served: ServedEvents) -> list[Row]:
    """Export the same events as served and in the SDK's shape."""

    def make_contender(shape: str, check: Callable[[Path, ServedEvents], None]) -> Contender:
        return Contender(
            f"export --shape {shape}",
            lambda folder: make_export_command(emulator, served, folder / "audit.json", "--shape", shape),
            lambda folder: check(folder / "audit.json", served),
        )

    with EmulatorProcess(workspace.make_folder("formats/config"), events=served.path) as emulator:
        contenders = [
            make_contender("api", check_export),
            make_contender("sdk", check_ids),
            Contender(
                "export to parquet",
                lambda folder: make_export_command(emulator, served, folder / "audit.parquet"),
                lambda folder: _check_table(folder / "audit.parquet", served),
            ),
        ]
        usages = run_in_turns(contenders, lambda _: workspace.make_folder("formats/turn"), rounds=workspace.rounds)
    medians = api, sdk, parquet = [choose_median(usages[contender.name]) for contender in contenders]
    ratio, parquet_ratio = (one.wall_seconds / api.wall_seconds for one in (sdk, parquet))
    is_fast = parquet_ratio <= _EXPORT_FACTOR
    return [
        *(_make_row(contender.name, usage, served) for contender, usage in zip(contenders, medians, strict=True)),
        Row("export to parquet / to json", {"ratio": parquet_ratio}, f"at most {_EXPORT_FACTOR}", is_fast),
        Row("shape sdk / shape api", {"ratio": ratio}, f"at most {_SDK_FACTOR}", ratio <= _SDK_FACTOR),
    ]


def _make_array(folder: Path, count: int) -> tuple[ServedEvents, Path]:
    """Write events, as lines and as an array like that of an export."""
    served = make_event_file(folder / "events.ndjson", count)
    array = folder / "events.json"
    with served.path.open("rb") as lines, array.open("wb") as file:
        file.write(b"[\n")
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"") + line[:-1])
        file.write(b"\n]\n")
    return served, array


def _make_ours(array: Path, served: ServedEvents, suffix: str) -> Contender:
    command = [find_command(), "convert", str(array), "-o"]
    return Contender(
        f"json → {suffix}, oci-audit",
        lambda folder: [*command, str(folder / f"table.{suffix}")],
        lambda folder: _check_table(folder / f"table.{suffix}", served),
    )


def _make_pandas(array: Path, suffix: str) -> Contender:
    command = [sys.executable, str(_PANDAS), str(array)]
    return Contender(
        f"json → {suffix}, pandas", lambda folder: [*command, str(folder / f"table.{suffix}")], lambda _: None
    )


def _check_table(path: Path, served: ServedEvents) -> None:
    """Check that a table has a row for each event.

    Raises: RunError.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        count = pq.read_metadata(path).num_rows
    else:
        with path.open(encoding="utf-8", newline="") as file:
            count = sum(1 for _ in csv.reader(file)) - 1
    if count != served.count:
        raise RunError(f"{path.name} has {count:,} rows instead of {served.count:,}")


def _make_row(name: str, usage: Usage, served: ServedEvents) -> Row:
    return Row(
        f"{name}, {served.count:,} events", {**usage.list_figures(), "events/s": served.count / usage.wall_seconds}
    )
