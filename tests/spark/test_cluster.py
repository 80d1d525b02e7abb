"""A range read by Spark on a cluster of two workers, each a process of its own: kills, retries, one rate for all."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ociaudit.spark
from support.spark_sites import START, Site, collect_events
from support.truth import list_compartments

MASTER = "local-cluster[2,1,1024]"
EMULATOR_FLAGS = ("--events-per-day", "1500", "--page-size", "20", "--latency-ms", "100")
pytestmark = pytest.mark.timeout(400)


def list_executors(application_id: str) -> list[int]:
    """Return the processes of a Spark application's executors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:  # it has ended meanwhile
            continue
        if b"org.apache.spark.executor.CoarseGrainedExecutorBackend" in words and application_id.encode() in words:
            found.append(int(path.parent.name))
    return found


def wait_for_requests(site: Site, count: int) -> None:
    """Wait until the emulator has served so many requests for events."""
    for _ in range(600):
        if len(site.list_page_requests()) >= count:
            return
        time.sleep(0.1)
    raise AssertionError(f"the emulator did not serve {count} requests")


def test_rows_are_the_truth_and_a_gap_is_recorded(site):
    """Two workers yield every event that can be read, byte for byte, and the ledger names the forbidden compartment."""
    folder = str(site.folder / "ledger")
    assert collect_events(site.load(ledger=folder)) == site.list_truth()
    coverage = ociaudit.spark.coverage(site.spark, folder)
    denied = {row.compartment for row in coverage.where("status = 'denied'").collect()}
    assert denied == set(list_compartments(site.emulator, is_forbidden=True))
    assert coverage.where("status = 'unreported'").count() == 0


def test_a_killed_worker_loses_and_repeats_nothing(site):
    """An executor killed while its tasks fetch changes no row, and the coverage counts every minute once."""
    folder = str(site.folder / "ledger")
    frame = site.load(ledger=folder, numPartitions="4")
    with ThreadPoolExecutor(1) as thread:
        running = thread.submit(collect_events, frame)
        wait_for_requests(site, 20)
        before = len(site.list_page_requests())
        victim = list_executors(site.spark.sparkContext.applicationId)[0]
        os.kill(victim, signal.SIGKILL)
        events = running.result(timeout=300)
    firsts = [one for one in site.list_page_requests() if not one["hasPage"]]
    asked = [(one["region"], one["compartmentId"], one["startTime"], one["endTime"]) for one in firsts]
    assert before >= 20
    assert len(asked) > len(set(asked)), "no window was requested again: the kill came too late"
    assert events == site.list_truth()
    coverage = ociaudit.spark.coverage(site.spark, folder)
    (minutes,) = coverage.selectExpr("sum((unix_timestamp(end) - unix_timestamp(start)) / 60)").first()
    assert minutes == 45 * 3 * 1440


def test_the_rate_holds_for_the_whole_cluster(site):
    """In no second do the workers together send more requests than the option allows."""
    site.load(ledger=str(site.folder / "ledger"), requestsPerSecond="12", numPartitions="4", end=START).count()
    requests = site.list_page_requests()
    times = sorted(one["started"] for one in requests)
    most = max(sum(1 for other in times if time_ <= other < time_ + 1) for time_ in times)
    assert len({one["key"] for one in requests}) == 1
    assert len(times) >= 45
    assert most <= 12 + 2, "each of the two workers may send one at the start of the second"


def test_a_task_that_fails_once_is_repeated_and_counted_once(site):
    """A task whose first attempt fails after its rows yields them once, and its two ledger files count as one."""
    folder = site.folder / "ledger"
    marker = site.folder / "failed"

    def fail_once(rows):
        yield from rows
        if not marker.exists():
            marker.write_text("")
            raise RuntimeError("a fault after the last row")

    frame = site.load(ledger=str(folder), numPartitions="1").select("event")
    events = sorted(row.event.encode() for row in frame.rdd.mapPartitions(fail_once).collect())
    assert marker.exists()
    assert events == site.list_truth()
    assert len(list(folder.glob("*.jsonl"))) == 2
    coverage = ociaudit.spark.coverage(site.spark, folder)
    (minutes,) = coverage.selectExpr("sum((unix_timestamp(end) - unix_timestamp(start)) / 60)").first()
    assert minutes == 45 * 3 * 1440
