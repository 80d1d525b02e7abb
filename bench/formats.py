"""Events as tables, beside pandas; the price of another spelling; and whether memory stays flat."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.benchmark import Row, Workshop, note_lack_of_room
from bench.check import check_export, check_ids
from bench.contenders import find_command, make_export_command
from bench.events_file import MEAN_BYTES, Made, make_event_file
from bench.measure import Contender, RunError, Usage, choose_median, run_in_turns, run_measured
from bench.server import Server

_PANDAS = Path(__file__).with_name("pandas_script.py")
# The events as lines and as an array, and a table with its scratch file.
_DISK_BYTES_PER_EVENT = MEAN_BYTES * 4
_PARQUET_FACTOR, _CSV_FACTOR, _SDK_FACTOR = 3, 5, 1.6
_CSV_MEMORY_BYTES = 300_000_000
_MOST_GROWTH = 1.25


def run_formats(workshop: Workshop) -> Sequence[Row]:
    """Measure conversions beside pandas, then ours over many more events, then exports in two spellings."""
    if not workshop.has_room(workshop.many_events * _DISK_BYTES_PER_EVENT):
        return note_lack_of_room("formats", workshop.many_events * _DISK_BYTES_PER_EVENT)
    folder = workshop.make_folder("formats")
    made, array = _make_array(folder, workshop.events)
    rows: list[Row] = []
    peaks: dict[str, int] = {}
    for suffix, factor in (("parquet", _PARQUET_FACTOR), ("csv", _CSV_FACTOR)):
        contenders = [_make_ours(array, made, suffix), _make_pandas(array, suffix)]
        usages = run_in_turns(contenders, lambda _: workshop.make_folder("formats/turn"), rounds=workshop.rounds)
        ours, theirs = (choose_median(usages[contender.name]) for contender in contenders)
        peaks[suffix] = ours.peak_bytes
        rows += [_show(contenders[0].name, ours, made), _show(contenders[1].name, theirs, made)]
        ratio = theirs.wall_seconds / ours.wall_seconds
        rows.append(
            Row(f"json → {suffix}: pandas / oci-audit", {"ratio": ratio}, f"at least {factor}", ratio >= factor)
        )
    rows += _run_shapes(workshop, made)
    array.unlink()
    made.path.unlink()
    return [*rows, *_run_many(workshop, peaks)]


def _run_many(workshop: Workshop, peaks: dict[str, int]) -> list[Row]:
    """Convert many events: memory must not have grown with them."""
    folder = workshop.make_folder("formats/many")
    made, array = _make_array(folder, workshop.many_events)
    rows: list[Row] = []
    for suffix, before in peaks.items():
        contender = _make_ours(array, made, suffix)
        used = run_measured(
            contender.make_command(workshop.make_folder("formats/turn")), workshop.folder / "formats/turn"
        )
        contender.check(workshop.folder / "formats/turn")
        rows.append(_show(contender.name, used, made))
        growth = used.peak_bytes / before
        name = f"json → {suffix}, memory of {made.count:,} events / of fewer"
        rows.append(Row(name, {"ratio": growth}, f"at most {_MOST_GROWTH}", growth <= _MOST_GROWTH))
        if suffix == "csv":
            is_reached = used.peak_bytes < _CSV_MEMORY_BYTES
            rows.append(Row("json → csv, memory", {"peak MB": used.peak_bytes / 1e6}, "under 300 MB", is_reached))
    return rows


def _run_shapes(workshop: Workshop, made: Made) -> list[Row]:
    """Export the same events as served and in the SDK's spelling."""

    def make_contender(shape: str, check: Callable[[Path, Made], None]) -> Contender:
        return Contender(
            f"export --shape {shape}",
            lambda folder: make_export_command(server, made, folder / "audit.json", "--shape", shape),
            lambda folder: check(folder / "audit.json", made),
        )

    with Server(workshop.make_folder("formats/config"), events=made.path) as server:
        contenders = [make_contender("api", check_export), make_contender("sdk", check_ids)]
        usages = run_in_turns(contenders, lambda _: workshop.make_folder("formats/turn"), rounds=workshop.rounds)
    api, sdk = (choose_median(usages[contender.name]) for contender in contenders)
    ratio = sdk.wall_seconds / api.wall_seconds
    return [
        *(_show(contender.name, usage, made) for contender, usage in zip(contenders, (api, sdk), strict=True)),
        Row("shape sdk / shape api", {"ratio": ratio}, f"at most {_SDK_FACTOR}", ratio <= _SDK_FACTOR),
    ]


def _make_array(folder: Path, count: int) -> tuple[Made, Path]:
    """Make events, as lines and as the array that an export is."""
    made = make_event_file(folder / "events.ndjson", count)
    array = folder / "events.json"
    with made.path.open("rb") as lines, array.open("wb") as file:
        file.write(b"[\n")
        for number, line in enumerate(lines):
            file.write((b",\n" if number else b"") + line[:-1])
        file.write(b"\n]\n")
    return made, array


def _make_ours(array: Path, made: Made, suffix: str) -> Contender:
    command = [find_command(), "convert", str(array), "-o"]
    return Contender(
        f"json → {suffix}, oci-audit",
        lambda folder: [*command, str(folder / f"table.{suffix}")],
        lambda folder: _check_table(folder / f"table.{suffix}", made),
    )


def _make_pandas(array: Path, suffix: str) -> Contender:
    command = [sys.executable, str(_PANDAS), str(array)]
    return Contender(
        f"json → {suffix}, pandas", lambda folder: [*command, str(folder / f"table.{suffix}")], lambda _: None
    )


def _check_table(path: Path, made: Made) -> None:
    """Check that a table has a row for each event.

    Raises: RunError.
    """
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        count = pq.read_metadata(path).num_rows
    else:
        with path.open(encoding="utf-8", newline="") as file:
            count = sum(1 for _ in csv.reader(file)) - 1
    if count != made.count:
        raise RunError(f"{path.name} has {count:,} rows, and not {made.count:,}")


def _show(name: str, usage: Usage, made: Made) -> Row:
    return Row(f"{name}, {made.count:,} events", {**usage.list_figures(), "events/s": made.count / usage.wall_seconds})
