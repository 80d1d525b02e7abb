"""The Spark data source in Sail, an engine without a JVM; `make test-spark` tests it with Spark itself."""

import os
import subprocess
import sysconfig
from pathlib import Path

import pytest
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

import ociaudit.spark
from support import truth

EMULATOR_FLAGS = ("--events-per-day", "1500", "--page-size", "10")
START, END = "2025-06-02", "2025-06-03"
FIRST, LAST = "2025-06-02T00:00:00Z", "2025-06-04T00:00:00Z"
# The client still supports releases of pandas and protobuf that other packages of the tests are ahead of.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    """A session of a Sail server, which is a process of its own."""
    command = [Path(sysconfig.get_path("scripts")) / "sail", "spark", "server", "--ip", "127.0.0.1", "--port", "0"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path_factory.mktemp("home"))}
    server = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        line = next(line for line in server.stderr if "server on" in line)
        address = line.rpartition("server on ")[2].strip().rstrip(".")
        session = SparkSession.builder.remote(f"sc://{address}").getOrCreate()
        ociaudit.spark.register(session)
        yield session
        session.stop()
    finally:
        server.kill()
        server.wait()
        server.stderr.close()


@pytest.fixture
def load(spark, emulator):
    """Return a function that reads two days; options beat those that lead to the emulator."""

    def read(**options):
        given = {"configFile": str(emulator.config_path), "endpoint": emulator.url + "/{region}"}
        return spark.read.format("oci_audit").options(**{"start": START, "end": END, **given, **options}).load()

    return read


def test_rows_are_the_truth_and_the_coverage_names_the_gap(spark, load, emulator, tmp_path):
    """Every event that can be read is one row, byte for byte, and the forbidden compartment is in the coverage."""
    rows = load(ledger=str(tmp_path / "ledger")).collect()
    assert sorted(row.event.encode() for row in rows) == sorted(truth.list_events(emulator, FIRST, LAST))
    coverage = ociaudit.spark.coverage(spark, tmp_path / "ledger").collect()
    denied = {row.compartment for row in coverage if row.status == "denied"}
    assert denied == set(truth.list_compartments(emulator, is_forbidden=True))
    assert {row.verdict for row in coverage} == {"incomplete"}
    assert sum((row.end - row.start).total_seconds() for row in coverage) == 45 * 2 * 86_400


def test_a_gap_fails_the_job(load):
    """Without a ledger, the job fails with the compartment's path, the reason and a hint."""
    with pytest.raises(PySparkException, match=r"investigations: denied in [^(]*\(404\)(.|\n)*hint: "):
        load().count()


def test_an_unknown_option_is_refused(load):
    """An option with a typing error is refused with the nearest name."""
    with pytest.raises(PySparkException, match="did you mean requestsPerSecond"):
        load(requestPerSecond="3").count()
