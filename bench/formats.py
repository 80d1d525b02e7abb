"""Conversions to tables, compared with pandas; the cost of another shape; and the memory for more events."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.benchmark import Row, Workspace, skip_without_space
from bench.check import check_export, check_ids
from bench.contenders import find_command, make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import MEAN_BYTES, ServedEvents, make_event_file
from bench.measure import Contender, RunError, Usage, choose_median, run_in_turns, run_measured

_PANDAS = Path(__file__).with_name("pandas_script.py")
# The events as lines and as an array, and a table with its temporary file.
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 4
_PARQUET_FACTOR, _CSV_FACTOR, _SDK_FACTOR = 3, 5, 1.6
_CSV_MEMORY_BYTES = 300_000_000
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
    rows += _run_shapes(workspace, served)
    array.unlink()
    served.path.unlink()
    return [*rows, *_run_many(workspace, peaks)]


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
        contenders = [make_contender("api", check_export), make_contender("sdk", check_ids)]
        usages = run_in_turns(contenders, lambda _: workspace.make_folder("formats/turn"), rounds=workspace.rounds)
    api, sdk = (choose_median(usages[contender.name]) for contender in contenders)
    ratio = sdk.wall_seconds / api.wall_seconds
    return [
        *(_make_row(contender.name, usage, served) for contender, usage in zip(contenders, (api, sdk), strict=True)),
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
