"""The output formats and compressions by name: which a file gets, and what writes it.

Invariants
- An option wins over the suffix, with a notice; an unknown suffix is rejected, never guessed.
- A name without a suffix, and stdout, are `json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal, get_args

from ociaudit.errors import UsageError
from ociaudit.formats.base import EventEncoder, EventFormat
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
    """A format and a compression; `notices` say where an option contradicts the file's name."""

    format: FormatName = "json"
    compression: CompressionName = "none"
    notices: tuple[str, ...] = ()


def choose_output_format(
    path: Path | None, *, file_format: str | None = None, compression: str | None = None
) -> OutputFormat:
    """Return the format and compression of an output; `path` None is stdout.

    Raises:
        UsageError: the suffix, the format or the compression is unknown, or the combination is not supported.
    """
    named_format, named_compression = _read_suffixes(path, is_format_given=file_format is not None)
    chosen = OutputFormat(
        _check_format(file_format) or named_format or "json",
        _check_compression(compression) or named_compression or "none",
        tuple(
            f"{path.name} will hold {given}, as {option} says"
            for given, named, option in (
                (file_format, named_format, "--format"),
                (compression and f"compression {compression}", named_compression, "--compress"),
            )
            if path is not None and given and named and given.rpartition(" ")[2] != named
        ),
    )
    if chosen.format == "parquet" and chosen.compression != "none":
        raise UsageError(
            f"Parquet is compressed inside; with {chosen.compression} around it no tool could read it",
            hint="name the file .parquet and omit --compress",
        )
    if chosen.format == "parquet" and path is None:
        raise UsageError("Parquet cannot be written to stdout", hint="name a file: -o audit.parquet")
    return chosen


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


def _read_suffixes(path: Path | None, *, is_format_given: bool) -> tuple[FormatName | None, CompressionName | None]:
    """Return what a file's name says; an unknown suffix is an error unless an option gives the format."""
    if path is None:
        return None, None
    inner = Path(path.name.lower())
    compression = _COMPRESSIONS.get(inner.suffix)
    if compression:
        inner = inner.with_suffix("")
    if inner.suffix in _FORMATS:
        return _FORMATS[inner.suffix], compression
    if inner.suffix and not is_format_given:
        raise UsageError(
            f"{path.name}: the suffix {inner.suffix} is not that of an output format",
            hint=f"use {', '.join(_FORMATS)} (all but .parquet may be followed by .gz or .zst), or add --format",
        )
    return None, compression


def make_format(name: FormatName, encoder: EventEncoder, *, scratch: Path) -> EventFormat:
    """Return a writer of a format; `scratch` is a private folder for data that has to wait until the end."""
    match name:
        case "json":
            return JsonArray(encoder)
        case "ndjson":
            return Ndjson(encoder)
        case "csv":
            return CsvTable(encoder)
        case "parquet":
            return Parquet(encoder, scratch)
