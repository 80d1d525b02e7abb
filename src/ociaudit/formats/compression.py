"""Compression of a file's bytes. Owns: that the same bytes give the same compressed bytes.

The bytes of a file that may be compressed, as a stream of uncompressed pieces.

Owns: gzip and zstd, told by their first bytes. Must not: know what the bytes mean.

Invariants
- Several gzip members or zstd frames one behind the other are one stream, as archives and `cat` make them.
- A stream that is cut or damaged ends in `BadFile`; nothing of it is passed over in silence.
- Pieces are bounded: a small file can unpack to anything.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import BinaryIO, Literal, Protocol, get_args

import zstandard

CompressionName = Literal["none", "gz", "zst"]
COMPRESSION_NAMES: tuple[CompressionName, ...] = get_args(CompressionName)

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


GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_GZIP_WINDOW = 31
_READ_BYTES = 4 * 1024 * 1024
_PIECE_BYTES = 256 * 1024
"""What is cut at a time stays in the processor's cache; reading likes larger pieces."""
_PACKED_BYTES = 64 * 1024
"""zstd gives all that a piece holds at once: a small piece keeps that bounded."""


class BadFile(ValueError):
    """A file that is not what it should be; the message says what is wrong and where."""


class _Unpacker(Protocol):
    """One gzip member or zstd frame."""

    @property
    def eof(self) -> bool:
        """Tell whether its end has been reached."""
        ...

    @property
    def unused_data(self) -> bytes:
        """Return what stands behind its end."""
        ...


def read_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes in pieces."""
    while chunk := file.read(_READ_BYTES):
        for start in range(0, len(chunk), _PIECE_BYTES):
            yield chunk[start : start + _PIECE_BYTES]


def unpack_pieces(pieces: Iterator[bytes]) -> tuple[str, Iterator[bytes]]:
    """Return the name of the compression ("" where there is none), and the uncompressed pieces.

    Raises:
        BadFile: while iterating: the stream is damaged or cut.
    """
    first = b""
    while len(first) < len(ZSTD_MAGIC) and (piece := next(pieces, b"")):
        first += piece
    whole = chain([first], pieces) if first else pieces
    if first.startswith(GZIP_MAGIC):
        return "gzip", _unpack(whole, "gzip", _start_gzip)
    if first.startswith(ZSTD_MAGIC):
        return "zstd", _unpack(whole, "zstd", _start_zstd)
    return "", whole


def _unpack(
    pieces: Iterator[bytes], name: str, start: Callable[[], tuple[_Unpacker, Callable[[bytes], Iterator[bytes]]]]
) -> Iterator[bytes]:
    unpacker, feed = start()
    position = 0
    is_begun = False
    for piece in pieces:
        position += len(piece)
        packed = piece
        while packed:
            if not is_begun:
                packed = packed.lstrip(b"\0")  # padding behind a member, as tapes and block devices leave it
                if not packed:
                    break
                unpacker, feed = start()
                is_begun = True
            try:
                yield from feed(packed)
            except (zlib.error, zstandard.ZstdError) as error:
                raise BadFile(f"the {name} stream is damaged ({error}), before byte {position:,}") from error
            packed = unpacker.unused_data if unpacker.eof else b""
            is_begun = not unpacker.eof
    if is_begun:
        raise BadFile(f"the {name} stream is cut at byte {position:,}")


def _start_gzip() -> tuple[_Unpacker, Callable[[bytes], Iterator[bytes]]]:
    unpacker = zlib.decompressobj(_GZIP_WINDOW)

    def feed(packed: bytes) -> Iterator[bytes]:
        while packed:
            piece = unpacker.decompress(packed, _PIECE_BYTES)
            packed = unpacker.unconsumed_tail
            if piece:
                yield piece

    return unpacker, feed


def _start_zstd() -> tuple[_Unpacker, Callable[[bytes], Iterator[bytes]]]:
    unpacker = zstandard.ZstdDecompressor().decompressobj()

    def feed(packed: bytes) -> Iterator[bytes]:
        for start in range(0, len(packed), _PACKED_BYTES):
            if piece := unpacker.decompress(packed[start : start + _PACKED_BYTES]):
                yield piece

    return unpacker, feed
