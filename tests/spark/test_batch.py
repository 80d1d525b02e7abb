"""A range read by Spark in one process: the rows, what is missing, options, and secrets."""

import configparser
import hashlib
import json
import subprocess
from pathlib import Path

import duckdb
import pytest
from pyspark.errors import PySparkException
from pyspark.sql import functions

import ociaudit.spark
from support.processes import find_command, make_environment
from support.spark_sites import END, START, collect_events
from support.truth import find_compartment, list_compartments

EMULATOR_FLAGS = ("--events-per-day", "1500", "--page-size", "10")
pytestmark = pytest.mark.timeout(300)


def export_parquet(site):
    """Export the same three days with the command, and return the Parquet file."""
    output = site.folder / "audit.parquet"
    command = [find_command("oci-audit"), "export", "--config-file", str(site.emulator.config_path), "--quiet"]
    environment = make_environment(site.folder, OCI_AUDIT_ENDPOINT=site.emulator.url + "/{region}")
    done = subprocess.run(
        [*command, f"--start={START}", f"--end={END}", "-o", str(output)], env=environment, check=False
    )
    assert done.returncode == 10  # the forbidden compartment
    return output


def test_rows_are_those_of_an_export(site):
    """Every row has the values of the Parquet file of an export, and the event byte for byte."""
    rows = site.load(ledger=str(site.folder / "ledger")).collect()
    with duckdb.connect() as engine:
        engine.execute("SET TimeZone = 'UTC'")
        exported = engine.execute("SELECT * FROM read_parquet(?)", [str(export_parquet(site))])
        names = [one[0] for one in exported.description]
        expected = [dict(zip(names, row, strict=True)) for row in exported.fetchall()]
    for row in expected:
        for name in ("event_time", "response_time"):
            row[name] = row[name] and row[name].replace(tzinfo=None)
        row["event_sha256"] = hashlib.sha256(row["event"].encode()).hexdigest()
    got = sorted((row.asDict() for row in rows), key=lambda row: row["event"])
    assert sorted(row["event"].encode() for row in expected) == site.list_truth()
    assert got == sorted(expected, key=lambda row: row["event"])


def test_dense_shards_are_split_within_a_task_and_yield_each_record_once(site):
    """With few partitions and long windows, tasks split shards, request events twice, and yield them once."""
    frame = site.load(numPartitions="1", maxWindowDays="3", ledger=str(site.folder / "ledger"))
    assert frame.rdd.getNumPartitions() == 1
    site.emulator.clear_log()
    assert collect_events(frame) == site.list_truth()
    windows = {(one["region"], one["compartmentId"], one["startTime"]) for one in site.list_page_requests()}
    assert len(windows) > 45, "no shard was split"


def test_a_gap_fails_the_job_with_the_target_and_the_reason(site):
    """Without a ledger, a forbidden compartment fails the job, and the message names it, the reason and what to do."""
    with pytest.raises(PySparkException) as caught:
        site.load().count()
    message = str(caught.value)
    assert "root/security/investigations: denied" in message
    assert list_compartments(site.emulator, is_forbidden=True)[0] in message
    assert "404" in message
    assert "hint:" in message


def test_a_ledger_records_the_gap_and_the_job_continues(site):
    """With a ledger the job yields what can be read, and the coverage names the gap and the verdict."""
    folder = str(site.folder / "ledger")
    assert collect_events(site.load(ledger=folder)) == site.list_truth()
    coverage = ociaudit.spark.coverage(site.spark, folder)
    denied = coverage.where("status = 'denied'").collect()
    assert {row.compartment for row in denied} == set(list_compartments(site.emulator, is_forbidden=True))
    assert {row.compartment_path for row in denied} == {"root/security/investigations"}
    assert all("404" in row.reason and row.request_id for row in denied)
    answered = coverage.where("status = 'answered'")
    minutes = answered.select(functions.sum(functions.expr("(unix_timestamp(end) - unix_timestamp(start)) / 60")))
    assert minutes.first()[0] == 42 * 3 * 1440
    (verdict,) = coverage.select("verdict", "verdict_text").distinct().collect()
    assert verdict.verdict == "incomplete"
    assert "in 3 of 45 targets" in verdict.verdict_text


def test_a_readable_scope_is_complete(site):
    """Without a forbidden compartment, the verdict is complete, and every row is final."""
    folder = str(site.folder / "ledger")
    compartments = ",".join(find_compartment(site.emulator, name) for name in ("payments", "legacy-erp"))
    site.load(ledger=folder, compartments=compartments).count()
    coverage = ociaudit.spark.coverage(site.spark, folder)
    assert [row.verdict for row in coverage.select("verdict").distinct().collect()] == ["complete"]
    assert coverage.where("NOT is_final").count() == 0


def test_a_partial_read_is_not_complete(site):
    """A job that runs one partition of four leaves the others unreported, and is incomplete."""
    folder = str(site.folder / "ledger")
    compartment = find_compartment(site.emulator, "payments")
    rows = site.load(ledger=folder, numPartitions="4", compartments=compartment).rdd
    site.spark.sparkContext.runJob(rows, list, [0])
    coverage = ociaudit.spark.coverage(site.spark, folder)
    assert coverage.where("status = 'unreported'").count() == 3
    (row,) = coverage.select("verdict", "verdict_text").distinct().collect()
    assert row.verdict == "incomplete"
    assert "3 unrequested windows" in row.verdict_text


def test_the_rate_is_that_of_all_tasks_together(site):
    """In no second do the tasks together send more requests than the option allows, with two tasks at work."""
    site.load(ledger=str(site.folder / "ledger"), requestsPerSecond="20", numPartitions="4", end=START).count()
    requests = site.list_page_requests()
    times = sorted(one["started"] for one in requests)
    most = max(sum(1 for other in times if time <= other < time + 1) for time in times)
    assert len(times) >= 45
    assert most <= 20 + 2, "each of the two tasks may send one at the start of the second"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"numPartition": "2"}, "did you mean numPartitions"),
        ({"configfiles": "x"}, "did you mean configFile"),
        ({"numPartitions": "many"}, "not a whole number above 0"),
        ({"numPartitions": "5000"}, "more than 256"),
        ({"requestsPerSecond": "0"}, "requestsPerSecond"),
        ({"rescan": "2h"}, "only a stream"),
        ({"auth": "kerberos"}, "unknown kind of sign-in"),
        ({"ledger": "s3://bucket/ledger"}, "is a URL"),
        ({"ledger": "/proc/ledger"}, "/proc/ledger"),
        ({"start": ""}, "start is missing"),
        ({"regions": "mars-north-1"}, "mars-north-1"),
    ],
)
def test_what_is_wrong_with_an_option_is_said(site, options, words):
    """A wrong option fails the read with a sentence about that option, and a hint."""
    with pytest.raises(PySparkException) as caught:
        site.load(**options).count()
    assert words in str(caught.value)
    assert "hint:" in str(caught.value)


def test_another_schema_is_refused(site):
    """A schema that is not the source's is refused, and the message names the first difference."""
    reader = site.spark.read.format("oci_audit").options(start=START, **site.connection)
    with pytest.raises(PySparkException, match="column 1 of the schema is event_time string"):
        reader.schema("event_time string, event string").load().count()


def test_a_range_before_the_retention_period_is_refused(site):
    """Without a ledger, a range that begins before the retention period fails on the driver, with the period."""
    with pytest.raises(PySparkException, match=r"before what the tenancy keeps: 36,500 days"):
        site.load(start="1920-01-01").count()


@pytest.mark.parametrize("path", ["nowhere", "empty", "damaged"])
def test_an_unreadable_ledger_is_named(site, path):
    """A ledger folder that does not exist, is empty or is damaged gives a sentence with its name."""
    folder = site.folder / path
    if path != "nowhere":
        folder.mkdir()
    if path == "damaged":
        (folder / "a.jsonl").write_bytes(b'{"kind":"end","windows":3}\n')
    with pytest.raises(ociaudit.OciAuditError, match=path):
        ociaudit.spark.coverage(site.spark, folder)


def test_the_key_is_never_shown(site, capfd):
    """A key given as an option signs the requests, and is in no plan, error or output of the processes."""
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(site.emulator.config_path)
    profile = parser["DEFAULT"]
    key = Path(profile["key_file"]).read_text()
    own = {name: profile[name] for name in ("user", "fingerprint", "tenancy", "region")}
    frame = (
        site.spark.read.format("oci_audit")
        .options(start=START, end=START, endpoint=site.connection["endpoint"], keyContent=key, **own)
        .load()
    )
    lines = [line for line in key.splitlines() if len(line) > 40]
    for mode in ("simple", "extended", "codegen", "cost", "formatted"):
        frame.explain(mode=mode)
    with pytest.raises(PySparkException, match="investigations: denied") as caught:
        frame.count()
    shown = (
        "".join(capfd.readouterr())
        + str(caught.value)
        + json.dumps(str(frame))
        + frame._jdf.queryExecution().toString()
    )
    assert lines
    assert not [line for line in lines if line in shown]
    broken = frame.sparkSession.read.format("oci_audit").options(start=START, keyContent=key[:-200], **own)
    with pytest.raises(PySparkException) as caught:
        broken.load().count()
    assert not [line for line in lines if line in str(caught.value)]
