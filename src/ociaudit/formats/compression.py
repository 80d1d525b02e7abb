"""Compression of a file's bytes. Owns: that the same bytes give the same compressed bytes."""

from __future__ import annotations

import zlib
from typing import Protocol

import zstandard

from ociaudit.formats.form import CompressionName

_GZIP_HEAD_WINDOW = 31  # zlib: a 32 KiB window with a gzip header, whose time stamp stays zero
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3


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


def make_compressor(name: CompressionName) -> Compressor:
    """Return what compresses. A gzip header has neither name nor time; a zstd frame ends with a check sum."""
    match name:
        case "gz":
            return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_HEAD_WINDOW)
        case "zst":
            return zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compressobj()
        case _:
            return Plain()
