"""A stream read by Spark: offsets, late events, and a query that is killed and started again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pyspark.errors import StreamingQueryException

from support.spark_sites import START, Site, start_query
from support.truth import find_compartment

EMULATOR_FLAGS = (
    *("--events-per-day", "20000", "--clock-start", "2025-06-02T06:00:00Z"),
    *("--delayed-share", "0.5", "--delayed-by", "90m"),
)
REGION = "us-ashburn-1"
pytestmark = pytest.mark.timeout(900)
SCRIPT = """
import json, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.spark_sites import start_query, start_spark
folder = Path(sys.argv[2])
spark = start_spark("local[2]", folder)
start_query(spark, folder, json.loads(sys.argv[3]), processingTime="1 second").awaitTermination()
"""


def make_options(site: Site) -> dict[str, str]:
    """Return the options of the stream of one compartment."""
    compartment = find_compartment(site.emulator, "payments")
    scope = {"start": START + "T00:00:00Z", "regions": REGION, "compartments": compartment}
    return {**scope, "rescan": "2h", **site.connection}


def run_query(site: Site) -> list[bytes]:
    """Let the query take what is available, and return the events in its sink, repeats included."""
    for _ in range(5):
        query = start_query(site.spark, site.folder, make_options(site), availableNow=True)
        try:
            assert query.awaitTermination(400), "the query did not end"
            break
        except StreamingQueryException as error:
            if "failed to connect back" not in str(error):  # Spark gives Python ten seconds to start, however busy
                raise
    return sorted(row.event.encode() for row in site.spark.read.parquet(str(site.folder / "events")).collect())


def list_visible(site: Site, end: str, at: str) -> list[bytes]:
    """Return what the service shows at an instant of what was processed until `end`."""
    compartment = find_compartment(site.emulator, "payments")
    seen = site.emulator.truth(REGION, compartment, START + "T00:00:00Z", end, at=at)
    return sorted({one.event for one in seen})


def test_late_events_come_in_later_batches_and_distinct_rows_are_the_truth(site):
    """What appeared after its batch is a row of a later one, repeats are removable, and nothing settled is missing."""
    site.emulator.clock(now="2025-06-02T06:00:00Z", isRunning=False)
    early = set(run_query(site))
    assert early == set(list_visible(site, "2025-06-02T05:45:00Z", "2025-06-02T06:00:00Z"))
    site.emulator.clock(now="2025-06-02T07:30:00Z", isRunning=False)
    run_query(site)
    site.emulator.clock(now="2025-06-02T12:00:00Z", isRunning=False)
    rows = run_query(site)
    late = set(list_visible(site, "2025-06-02T05:45:00Z", "2025-06-02T12:00:00Z")) - early
    assert late, "no event was late"
    assert len(rows) > len(set(rows)), "no event was read again"
    # What was processed in the last two hours before the last batch, and appeared since, is for a later rescan.
    assert set(list_visible(site, "2025-06-02T07:15:00Z", "2025-06-02T12:00:00Z")) <= set(rows)
    assert set(rows) <= set(list_visible(site, "2025-06-02T11:45:00Z", "2025-06-02T12:00:00Z"))


def test_a_killed_query_continues_without_loss(site):
    """A query killed while a batch is fetched, and started again, has every event; its distinct rows are the truth."""
    site.emulator.clock(now="2025-06-02T18:00:00Z", isRunning=False)
    site.emulator.faults([{"operation": "ListEvents", "times": 8, "fault": {"kind": "stall", "seconds": 60}}])
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parents[1]), str(site.folder)]
    command.append(json.dumps(make_options(site)))
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    for _ in range(1800):
        if site.list_page_requests() or process.poll() is not None:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert sum(one["fired"] for one in site.emulator.fault_states()) > 0
    assert list((site.folder / "checkpoint" / "offsets").glob("0"))
    assert not list((site.folder / "checkpoint" / "commits").glob("0")), "the kill came after the batch"
    site.emulator.clear_faults()
    rows = run_query(site)
    assert sorted(set(rows)) == list_visible(site, "2025-06-02T17:45:00Z", "2025-06-02T18:00:00Z")
