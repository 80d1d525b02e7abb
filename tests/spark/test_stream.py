"""A stream read by Spark: offsets, late events, and a query that is killed and started again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.spark_sites import START, Site
from support.truth import find_compartment

EMULATOR_FLAGS = (
    "--events-per-day",
    "3000",
    "--clock-start",
    "2025-06-02T06:00:00Z",
    "--delayed-share",
    "0.2",
    "--delayed-by",
    "90m",
)
pytestmark = pytest.mark.timeout(300)
QUERY = """
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from support.spark_sites import start_spark
spark = start_spark("local[2]", Path(sys.argv[2]) / "spark")
events = spark.readStream.format("oci_audit").options(
    start="2025-06-02T00:00:00Z", configFile=sys.argv[3], endpoint=sys.argv[4], compartments=sys.argv[5],
    regions="us-ashburn-1", rescan="2h").load()
query = (events.select("event", "event_sha256").writeStream.format("parquet")
    .option("path", sys.argv[2] + "/events").option("checkpointLocation", sys.argv[2] + "/checkpoint")
    .trigger(**eval(sys.argv[6])).start())
query.awaitTermination()
"""


def run_query(site: Site, trigger: str) -> subprocess.Popen:
    """Start a query as a process of its own; its sink and checkpoint are in the site's folder."""
    folder = str(site.folder)
    compartment = find_compartment(site.emulator, "payments")
    tests = str(Path(__file__).parents[1])
    options = [tests, folder, site.connection["configFile"], site.connection["endpoint"], compartment, trigger]
    (site.folder / "spark").mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, "-c", QUERY, *options], stdin=subprocess.PIPE)


def read_sink(site: Site) -> list[bytes]:
    """Return the events in the sink, repeats included."""
    rows = site.spark.read.parquet(str(site.folder / "events")).collect()
    return sorted(row.event.encode() for row in rows)


def list_visible(site: Site, end: str, at: str) -> list[bytes]:
    """Return what the service shows, at an instant, of the first hours."""
    compartment = find_compartment(site.emulator, "payments")
    seen = site.emulator.truth("us-ashburn-1", compartment, START + "T00:00:00Z", end, at=at)
    return sorted({one.event for one in seen})


def test_late_events_come_in_later_batches_and_distinct_rows_are_the_truth(site):
    """Three runs of a query at three times: what appeared late is a row of a later batch, and repeats are removable."""
    for now in ("2025-06-02T06:00:00Z", "2025-06-02T07:30:00Z", "2025-06-02T12:00:00Z"):
        site.emulator.clock(now=now, isRunning=False)
        assert run_query(site, "{'availableNow': True}").wait(timeout=200) == 0
        rows = read_sink(site)
        if now == "2025-06-02T06:00:00Z":
            early = set(rows)
    late = [one for one in list_visible(site, "2025-06-02T05:45:00Z", "2025-06-02T12:00:00Z") if one not in early]
    assert late, "no event was late"
    assert sorted(set(rows)) == list_visible(site, "2025-06-02T11:45:00Z", "2025-06-02T12:00:00Z")


def test_a_killed_query_continues_without_loss(site):
    """A query killed while a batch is fetched, and started again, has every event; its distinct rows are the truth."""
    site.emulator.clock(now="2025-06-02T18:00:00Z", isRunning=False)
    site.emulator.faults([{"operation": "ListEvents", "times": 8, "fault": {"kind": "stall", "seconds": 20}}])
    process = run_query(site, "{'processingTime': '1 second'}")
    for _ in range(600):
        if len(site.list_page_requests()) >= 2:
            break
        time.sleep(0.1)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert sum(one["fired"] for one in site.emulator.fault_states()) > 0
    assert not list((site.folder / "checkpoint" / "commits").glob("[0-9]*")), "the kill came after the batch"
    site.emulator.clear_faults()
    assert run_query(site, "{'availableNow': True}").wait(timeout=200) == 0
    assert sorted(set(read_sink(site))) == list_visible(site, "2025-06-02T17:45:00Z", "2025-06-02T18:00:00Z")
