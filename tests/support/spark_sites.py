"""A Spark session with an emulator that its tasks read from, for the tests with a real Spark.

Owns: the session's settings, and what the rows must be. Must not: judge what comes out.
"""

from __future__ import annotations

import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.streaming.query import StreamingQuery

import ociaudit.spark
from support import truth
from support.emulator import Emulator

KEPT = ("--retention-days", "36500")
START, END = "2025-06-02", "2025-06-04"
FIRST, LAST = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"


@dataclass(frozen=True)
class Site:
    """A Spark session and an emulator that its tasks read from."""

    spark: SparkSession
    emulator: Emulator
    folder: Path

    def load(self, **options: str) -> DataFrame:
        """Return the events of three days as a DataFrame; options beat those of the site."""
        given = {"start": START, "end": END, **self.connection, **options}
        return self.spark.read.format("oci_audit").options(**given).load()

    @property
    def connection(self) -> dict[str, str]:
        """Return the options that lead to the emulator."""
        return {"configFile": str(self.emulator.config_path), "endpoint": self.emulator.url + "/{region}"}

    def list_truth(self, start: str = FIRST, end: str = LAST) -> list[bytes]:
        """Return every event that can be read, sorted by bytes."""
        return sorted(truth.list_events(self.emulator, start, end))

    def list_page_requests(self) -> list[dict[str, Any]]:
        """Return the requests for events that the emulator has served."""
        return [one for one in self.emulator.log() if one["operation"] == "ListEvents"]


def collect_events(frame: DataFrame) -> list[bytes]:
    """Return the raw events of a DataFrame, sorted by bytes."""
    return sorted(row.event.encode() for row in frame.select("event").collect())


def start_spark(master: str, folder: Path, **settings: str) -> SparkSession:
    """Start a session in which only failures are logged, with its folders in a temporary one."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"
    os.environ["SPARK_LOCAL_DIRS"] = str(folder)
    logging.getLogger("py4j").setLevel(logging.ERROR)
    builder = SparkSession.builder.master(master).config("spark.ui.enabled", "false")
    builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.sql.session.timeZone", "UTC")
    builder = builder.config("spark.ui.showConsoleProgress", "false").config("spark.sql.shuffle.partitions", "2")
    builder = builder.config("spark.sql.warehouse.dir", str(folder / "warehouse"))
    for name, value in settings.items():
        builder = builder.config(name.replace("_", "."), value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    ociaudit.spark.register(spark)
    return spark


def start_query(spark: SparkSession, folder: Path, options: dict[str, str], **trigger: Any) -> StreamingQuery:
    """Start a query that appends the events of a stream to Parquet files; sink and checkpoint are in the folder."""
    events = spark.readStream.format("oci_audit").options(**options).load().select("event", "event_sha256")
    writer = events.writeStream.format("parquet").option("checkpointLocation", str(folder / "checkpoint"))
    return writer.trigger(**trigger).start(str(folder / "events"))
