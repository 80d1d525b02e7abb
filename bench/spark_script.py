"""A Spark job that writes every event of a range to Parquet, and says how long that took after Spark had started.

`python spark_script.py CONFIG ENDPOINT START END FOLDER`; the figures are in FOLDER.json, the ledger in FOLDER.ledger.
"""

import json
import os
import sys
import time
from pathlib import Path

from pyspark.sql import SparkSession

import ociaudit.spark

config_path, endpoint, start, end, folder = sys.argv[1:]
os.environ.update(PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
builder = SparkSession.builder.master("local[2]").config("spark.ui.enabled", "false")
spark = builder.config("spark.driver.host", "127.0.0.1").getOrCreate()
ociaudit.spark.register(spark)
spark.range(1000).repartition(2).rdd.map(lambda row: row.id).count()  # Python's workers have started, too
events = (
    spark.read.format("oci_audit")
    .options(configFile=config_path, endpoint=endpoint, start=start, end=end, ledger=folder + ".ledger")
    .load()
)
began_at = time.monotonic()
events.write.parquet(folder)
seconds = time.monotonic() - began_at
rows = spark.read.parquet(folder).count()
Path(folder + ".json").write_text(json.dumps({"seconds": seconds, "rows": rows}), encoding="utf-8")
spark.stop()
