"""Compression by suffix. Owns: which suffix means what, and that the same input gives the same bytes."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Protocol

from ociaudit.errors import UsageError

_GZIP_HEAD_WINDOW = 31  # zlib: a 32 KiB window with a gzip header, whose time stamp stays zero
_LEVEL = 6
_OTHER_FORMS = frozenset({".csv", ".tsv", ".parquet", ".ndjson", ".jsonl", ".zst", ".bz2", ".xz", ".zip"})


class Compressor(Protocol):
    """What stands between a format and the file."""

    def compress(self, data: bytes) -> bytes:
        """Return what is ready of the compressed bytes."""
        ...

    def flush(self) -> bytes:
        """Return the rest, and the end mark."""
        ...


class Plain:
    """No compression."""

    def compress(self, data: bytes) -> bytes:
        """Return the bytes as they are."""
        return data

    def flush(self) -> bytes:
        """Return nothing."""
        return b""


def check_suffix(path: Path) -> None:
    """Refuse a name that promises a form which is not written.

    Raises:
        UsageError: the suffix is that of another format or compression.
    """
    if path.suffix.lower() in _OTHER_FORMS:
        raise UsageError(
            f"{path.name} promises a form that is not written here", hint="write .json or .json.gz, and convert that"
        )


def choose_compressor(path: Path | None) -> Compressor:
    """Return gzip for `.gz`, plain otherwise and for stdout (None). The gzip header has neither name nor time."""
    if path is not None and path.suffix == ".gz":
        return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP_HEAD_WINDOW)
    return Plain()
