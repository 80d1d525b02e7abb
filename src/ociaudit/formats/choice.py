"""The writer of a form. Owns: which class writes which format."""

from __future__ import annotations

from pathlib import Path

from ociaudit.formats.base import EventFormat
from ociaudit.formats.csv_table import CsvTable
from ociaudit.formats.form import FormatName
from ociaudit.formats.json_array import JsonArray
from ociaudit.formats.ndjson import Ndjson
from ociaudit.formats.parquet import Parquet
from ociaudit.formats.spelling import Spelling


def make_format(name: FormatName, spelling: Spelling, *, scratch: Path) -> EventFormat:
    """Return what writes a format; `scratch` is a private folder for what has to wait until the end."""
    match name:
        case "json":
            return JsonArray(spelling)
        case "ndjson":
            return Ndjson(spelling)
        case "csv":
            return CsvTable(spelling)
        case "parquet":
            return Parquet(spelling, scratch)
