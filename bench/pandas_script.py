"""A script that writes events as a table with pandas, by the documented recipe.

`python pandas_script.py INPUT OUTPUT`
"""

import json
import sys
from pathlib import Path

import pandas as pd

source, output = sys.argv[1:]
with Path(source).open(encoding="utf-8") as file:
    table = pd.json_normalize(json.load(file))
if output.endswith(".csv"):
    table.to_csv(output, index=False, errors="backslashreplace")
else:
    table.to_parquet(output, compression="zstd")
