"""`python -m bench [--quick] [--full] [--only NAME] [--json FILE] [--document]`, from the root of the repository.

Owns: which benchmarks there are, their order, and what is printed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.benchmark import ROOT, Benchmark, Row, Workshop
from bench.beside import run_beside
from bench.disk import run_disk
from bench.document import update_document
from bench.filters import run_filters
from bench.formats import run_formats
from bench.insight import run_insight
from bench.machine import describe_machine
from bench.report import run_report
from bench.resume import run_resume
from bench.shards import run_shards
from bench.size import run_dense, run_full, run_growth, run_memory
from bench.stages import run_stages
from bench.sweep import run_pace, run_quiet, run_sweep
from bench.table import write_json, write_table
from bench.verify import run_verify

BENCHMARKS = (
    Benchmark("beside", "an export beside Oracle's command, its SDK and curl: median of the rounds", run_beside),
    Benchmark("memory", "an export of many events, once", run_memory),
    Benchmark("filter", "an export with and without a filter: median of the rounds", run_filters),
    Benchmark("verify", "the proof of an export, from the disk's cache", run_verify),
    Benchmark("formats", "events as tables beside pandas, and in another spelling", run_formats),
    Benchmark("insight", "a summary and queries of many events", run_insight),
    Benchmark("report", "one page from many events, once", run_report),
    Benchmark("resume", "a SIGKILL at half of the pages, then the same command", run_resume),
    Benchmark("shards", "publishing the same events from many shards and from few", run_shards),
    Benchmark("disk", "the most that run directory and output take while an export runs", run_disk),
    Benchmark("sweep", "3 regions, 41 compartments, 90 days; 80 % of the events in 3 days of one", run_sweep),
    Benchmark("quiet", "a year of compartments in which next to nothing happens", run_quiet),
    Benchmark("pace", "a service that allows 20 requests a second", run_pace),
    Benchmark("stages", "where the time of an export goes: stages, and steps of the hot path alone", run_stages),
    Benchmark("full", "five million events, end to end", run_full, is_default=False),
    Benchmark("dense", "two million events in one window", run_dense, is_default=False),
    Benchmark("growth", "1, 4 and 16 million small events", run_growth, is_default=False),
)


def main(arguments: Sequence[str]) -> int:
    """Run what was asked for and return the exit code: 0, whatever the figures are."""
    options = _read_options(arguments)
    chosen = [one for one in BENCHMARKS if one.name in options.only] if options.only else _choose(options)
    machine = describe_machine()
    print("\n".join(f"{name + ':':<20}{value}" for name, value in machine.items()))
    results: list[tuple[Benchmark, Sequence[Row]]] = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="oci-audit-bench-") as folder:
        workshop = _make_workshop(Path(folder), is_quick=options.quick)
        for benchmark in chosen:
            print(f"\n{benchmark.name}: {benchmark.title}\n", flush=True)
            rows = benchmark.run(workshop)
            workshop.make_folder(benchmark.name)
            print(write_table(rows), flush=True)
            results.append((benchmark, rows))
            write_json(options.json, machine, results)
    if options.document:
        update_document(machine, results)
    print(f"\n{time.monotonic() - began:.0f} s; the figures are in {options.json}")
    return 0


def _make_workshop(folder: Path, *, is_quick: bool) -> Workshop:
    if is_quick:
        return Workshop(folder, events=20_000, rounds=1, many_events=100_000, shards=1_000, is_quick=True)
    return Workshop(folder, events=100_000, rounds=3, many_events=1_000_000, shards=10_000)


def _choose(options: argparse.Namespace) -> list[Benchmark]:
    return [benchmark for benchmark in BENCHMARKS if benchmark.is_default or options.full]


def _read_options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure speed and memory of whole processes.")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--quick", action="store_true", help="few events, one round: whether it works, not how fast")
    parser.add_argument("--full", action="store_true", help="millions of events too; needs 67 GB of disk")
    parser.add_argument("--only", action="append", choices=names, help="this benchmark alone; repeatable")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "latest.json", metavar="FILE")
    parser.add_argument("--document", action="store_true", help="put the figures into docs/explanation/performance.md")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
