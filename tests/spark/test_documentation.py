"""The how-to of the data source, run from its first block to its last as in a notebook."""

import subprocess
import sys

import pytest

from support.documents import read_blocks
from support.emulator import Emulator
from support.processes import make_environment
from support.spark_sites import KEPT

HEAD = """
from pyspark.sql import SparkSession
builder = SparkSession.builder.master("local[2]").config("spark.driver.host", "127.0.0.1")
builder = builder.config("spark.ui.enabled", "false").config("spark.ui.showConsoleProgress", "false")
builder.getOrCreate().sparkContext.setLogLevel("ERROR")
"""
TAIL = """
batch, written = events.count(), spark.read.parquet("audit-events").count()
assert written and batch >= written, (batch, written)
assert spark.read.parquet("audit-stream").count(), "the stream is empty"
assert coverage.where("status = 'denied'").select("region").distinct().count() == 3
"""


@pytest.mark.timeout(900)
def test_the_examples_run(repository, tmp_path):
    """Every Python example that needs no secret store runs, in their order, and leaves the rows that it promises."""
    blocks = read_blocks(repository / "docs/how-to/spark.md")
    scripts = [block.text for block in blocks if block.not_run == "make test-spark runs it"]
    assert len(scripts) >= 4
    text = "\n".join([HEAD, *scripts, TAIL]).replace("/mnt/shared", str(tmp_path))
    with Emulator(*KEPT, "--events-per-day", "200", config_folder=tmp_path / ".oci") as emulator:
        environment = make_environment(
            tmp_path,
            OCI_AUDIT_ENDPOINT=emulator.url + "/{region}",
            PYSPARK_PYTHON=sys.executable,
            SPARK_LOCAL_IP="127.0.0.1",
        )
        done = subprocess.run(
            [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "investigations" in done.stdout
