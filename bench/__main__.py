"""The command line of the benchmarks, `python -m bench`, from the root of the repository."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.archive import run_first_sync, run_large_archive, run_open, run_quiet_sync, run_stop
from bench.benchmark import ROOT, Benchmark, Row, Workspace
from bench.beside import run_beside
from bench.connector import run_connector
from bench.disk import run_disk
from bench.document import update_document
from bench.filters import run_filters
from bench.formats import run_formats
from bench.insight import run_insight
from bench.machine import describe_machine
from bench.measure import RunError
from bench.report import run_report
from bench.resume import run_resume
from bench.shards import run_shards
from bench.size import run_dense, run_full, run_growth, run_memory
from bench.spark import run_spark
from bench.stages import run_stages
from bench.sweep import run_quiet, run_rate, run_sweep
from bench.table import write_json, write_table
from bench.upload import run_upload
from bench.verify import run_verify

BENCHMARKS = (
    Benchmark("beside", "an export compared with Oracle's CLI, its SDK and curl: median of the rounds", run_beside),
    Benchmark("memory", "an export of many events, once", run_memory),
    Benchmark("filter", "an export with and without a filter: median of the rounds", run_filters),
    Benchmark("verify", "the verification of an export, from the disk cache", run_verify),
    Benchmark("formats", "events as tables compared with pandas, and in another shape", run_formats),
    Benchmark("connector", "a folder of Connector Hub to Parquet, compared with DuckDB's read_json", run_connector),
    Benchmark("insight", "a summary and queries of many events", run_insight),
    Benchmark("report", "a report on many events, once", run_report),
    Benchmark("resume", "a SIGKILL after half of the pages, then the same command", run_resume),
    Benchmark("shards", "publishing the same events from many shards and from few", run_shards),
    Benchmark("disk", "the peak disk usage of run directory and output during an export", run_disk),
    Benchmark("sweep", "3 regions, 41 compartments, 90 days; 80 % of the events in 3 days of one", run_sweep),
    Benchmark("quiet", "a year of compartments with few events", run_quiet),
    Benchmark("rate", "a service that allows 20 requests a second", run_rate),
    Benchmark("first-sync", "the first sync of an archive compared with an export to Parquet", run_first_sync),
    Benchmark("quiet-sync", "3 regions, 41 compartments: a sync in which nothing happened", run_quiet_sync),
    Benchmark("open", "opening an archive after many commits", run_open),
    Benchmark("spark", "the Spark data source compared with an export to Parquet, from a slow service", run_spark),
    Benchmark("stop", "SIGTERM while the service does not answer a sync", run_stop),
    Benchmark("upload", "the upload of a large file to Object Storage compared with curl -T", run_upload),
    Benchmark("stages", "the time of an export by stage, and the CPU time of the steps of the hot path", run_stages),
    Benchmark("full", "five million events, end to end", run_full, is_default=False),
    Benchmark("dense", "two million events in one window", run_dense, is_default=False),
    Benchmark("large-archive", "quiet syncs of 1 and 10 million events", run_large_archive, is_default=False),
    Benchmark("growth", "1, 4 and 16 million small events", run_growth, is_default=False),
)


def main(arguments: Sequence[str]) -> int:
    """Run the selected benchmarks and return the exit code: 0 whatever the figures are, 1 if one could not be run."""
    options = _read_options(arguments)
    chosen = [one for one in BENCHMARKS if one.name in options.only] if options.only else _choose(options)
    machine = describe_machine()
    print("\n".join(f"{name + ':':<20}{value}" for name, value in machine.items()))
    results: list[tuple[Benchmark, Sequence[Row]]] = []
    broken: list[str] = []
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oci-audit-bench-") as folder:
        workspace = _make_workspace(Path(folder), is_quick=options.quick)
        for benchmark in chosen:
            print(f"\n{benchmark.name}: {benchmark.title}\n", flush=True)
            try:
                rows = benchmark.run(workspace)
            except RunError as error:
                print(f"NOT MEASURED: {error}", flush=True)
                broken.append(benchmark.name)
                continue
            finally:
                workspace.make_folder(benchmark.name)
            print(write_table(rows), flush=True)
            results.append((benchmark, rows))
            write_json(options.json, machine, results)
    print(f"\n{time.monotonic() - started:.0f} s; the figures are in {options.json}")
    if broken:
        print(f"not measured: {', '.join(broken)}", file=sys.stderr)
        return 1
    if options.document:
        update_document(machine, results)
    return 0


def _make_workspace(folder: Path, *, is_quick: bool) -> Workspace:
    if is_quick:
        return Workspace(folder, events=20_000, rounds=1, many_events=100_000, shards=1_000, is_quick=True)
    return Workspace(folder, events=100_000, rounds=3, many_events=1_000_000, shards=10_000)


def _choose(options: argparse.Namespace) -> list[Benchmark]:
    return [benchmark for benchmark in BENCHMARKS if benchmark.is_default or options.full]


def _read_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed and memory of whole processes.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--quick", action="store_true", help="few events and one round, to check that it works")
    parser.add_argument("--full", action="store_true", help="include millions of events; needs 67 GB of disk")
    parser.add_argument("--only", action="append", choices=names, help="run only this benchmark; repeatable")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "latest.json", metavar="FILE")
    parser.add_argument("--document", action="store_true", help="write the figures to docs/explanation/performance.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
