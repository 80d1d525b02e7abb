"""In which form events are to stand in a file: the format, and the compression around it.

Owns: what names and suffixes mean, and which combinations there are. Must not: write.

Invariants
- What is said in words wins over the suffix, with a notice; an unknown suffix is refused, never guessed.
- A name without a suffix, and stdout, are `json`.

The writer of a form. Owns: which class writes which format.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from ociaudit.errors import UsageError
from ociaudit.formats.base import EventFormat, EventShape
from ociaudit.formats.compression import COMPRESSION_NAMES, CompressionName
from ociaudit.formats.csv import CsvTable
from ociaudit.formats.json import JsonArray, Ndjson
from ociaudit.formats.parquet import Parquet

FormatName = Literal["json", "ndjson", "csv", "parquet"]

FORMAT_NAMES: tuple[FormatName, ...] = get_args(FormatName)

_FORMATS: MappingProxyType[str, FormatName] = MappingProxyType(
    {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet"}
)
_COMPRESSIONS: MappingProxyType[str, CompressionName] = MappingProxyType({".gz": "gz", ".zst": "zst"})


@dataclass(frozen=True, slots=True)
class OutputFormat:
    """A format and a compression; `notices` say where a file's name says something else."""

    format: FormatName = "json"
    compression: CompressionName = "none"
    notices: tuple[str, ...] = ()


def choose_output_format(
    path: Path | None, *, file_format: str | None = None, compression: str | None = None
) -> OutputFormat:
    """Return the form of a file that is to be written; `path` None is stdout.

    Raises:
        UsageError: the suffix or a name is unknown, or the combination does not exist.
    """
    named_format, named_compression = _read_suffixes(path, is_known=file_format is not None)
    form = OutputFormat(
        _check_format(file_format) or named_format or "json",
        _check_compression(compression) or named_compression or "none",
        tuple(
            f"{path.name} will hold {said}, as {option} says"
            for said, named, option in (
                (file_format, named_format, "--format"),
                (compression and f"compression {compression}", named_compression, "--compress"),
            )
            if path is not None and said and named and said.rpartition(" ")[2] != named
        ),
    )
    if form.format == "parquet" and form.compression != "none":
        raise UsageError(
            f"Parquet is compressed inside; {form.compression} around it would keep every reader out",
            hint="write .parquet, without --compress",
        )
    if form.format == "parquet" and path is None:
        raise UsageError("Parquet cannot be written to stdout", hint="name a file: -o audit.parquet")
    return form


def _check_format(name: str | None) -> FormatName | None:
    for known in FORMAT_NAMES:
        if name == known:
            return known
    if name is None:
        return None
    raise UsageError(f"there is no format {name!r}", hint=f"choose one of {', '.join(FORMAT_NAMES)}")


def _check_compression(name: str | None) -> CompressionName | None:
    for known in COMPRESSION_NAMES:
        if name == known:
            return known
    if name is None:
        return None
    raise UsageError(f"there is no compression {name!r}", hint=f"choose one of {', '.join(COMPRESSION_NAMES)}")


def _read_suffixes(path: Path | None, *, is_known: bool) -> tuple[FormatName | None, CompressionName | None]:
    """Return what a file's name says; with `is_known` a suffix that says nothing is not refused."""
    if path is None:
        return None, None
    inner = Path(path.name.lower())
    compression = _COMPRESSIONS.get(inner.suffix)
    if compression:
        inner = inner.with_suffix("")
    if inner.suffix in _FORMATS:
        return _FORMATS[inner.suffix], compression
    if inner.suffix and not is_known:
        raise UsageError(
            f"{path.name}: the suffix {inner.suffix} names no format that can be written",
            hint=f"name it {', '.join(_FORMATS)}, the text ones with .gz or .zst behind it; or say --format",
        )
    return None, compression


def make_format(name: FormatName, spelling: EventShape, *, scratch: Path) -> EventFormat:
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
