"""gzip and zstd: compression of output files, and decompression of input files.

The compression of an input is detected from its first bytes, never from its name.

Invariants
- The same bytes give the same compressed bytes, in whatever pieces they arrive.
- Consecutive gzip members or zstd frames are one stream, as archives and `cat` create them, unless the caller allows
  only one. An output of this program is exactly one.
- A stream that is truncated or damaged raises `InvalidFile`; no part of it is skipped silently.
- A small file can expand to any size, so what is decompressed is yielded in bounded pieces.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from itertools import chain
from typing import Any, BinaryIO, Literal, NamedTuple, Protocol, get_args

import zstandard

from ociaudit.formats.base import InvalidFile

CompressionName = Literal["none", "gz", "zst"]
COMPRESSION_NAMES: tuple[CompressionName, ...] = get_args(CompressionName)

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_GZIP_WINDOW = 31  # zlib: a 32 KiB window with a gzip header, whose time stamp stays zero
_GZIP_LEVEL = 6
_ZSTD_LEVEL = 3

_CHUNK_BYTES = 4 * 1024 * 1024
"""Reading and hashing are fastest in large chunks."""
_PIECE_BYTES = 256 * 1024
"""Pieces that are parsed should fit in the processor's cache."""
_COMPRESSED_BYTES = 64 * 1024
_ZSTD_INPUT_BYTES = 1024
"""zstd returns everything that its input expands to: from so few bytes at most 32 MiB, four bytes for each block."""
_WINDOW_REFUSED = "requires too much memory"
"""What the library says of a frame that `zstd --long=28` or more wrote: memory is bounded, so its limit stays."""
_SKIPPABLE_FRAME = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")


class Compressor(Protocol):
    """Compresses the bytes of one file."""

    def compress(self, data: bytes) -> bytes:
        """Return the compressed bytes that are ready."""
        ...

    def flush(self) -> bytes:
        """Return the rest, and the end mark."""
        ...


class NoCompression:
    """Leaves the bytes as they are."""

    def compress(self, data: bytes) -> bytes:
        """Return the bytes unchanged."""
        return data

    def flush(self) -> bytes:
        """Return nothing."""
        return b""


def make_compressor(name: CompressionName) -> Compressor:
    """Return a compressor. A gzip header has neither name nor time; a zstd frame ends with a checksum."""
    match name:
        case "gz":
            return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW)
        case "zst":
            return zstandard.ZstdCompressor(_ZSTD_LEVEL, write_checksum=True).compressobj()
        case _:
            return NoCompression()


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes in chunks of up to 4 MiB, a good size for hashing."""
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk


def read_pieces(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes in pieces of up to 256 KiB, a good size for parsing."""
    return _split(read_chunks(file), _PIECE_BYTES)


def decompress(chunks: Iterable[bytes], *, is_single: bool = False) -> tuple[str, Iterator[bytes]]:
    """Return the name of the compression ("" for none) and the uncompressed bytes.

    With `is_single` the file must be exactly one gzip member or zstd frame.

    Raises:
        InvalidFile: while iterating: the stream is damaged or truncated; the offset counts compressed bytes.
    """
    stream = iter(chunks)
    first = b""
    while len(first) < len(ZSTD_MAGIC) and (chunk := next(stream, b"")):
        first += chunk
    whole = chain([first], stream) if first else stream
    for magic, codec in _CODECS.items():
        if first.startswith(magic):
            return codec.name, _decompress(_split(whole, _COMPRESSED_BYTES), codec, is_single=is_single)
    return "", whole


def _split(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


class _Codec(NamedTuple):
    """How to decompress one gzip member or zstd frame: create a decompressor, then feed it.

    `feed` yields what its bytes expand to, in bounded pieces, and returns those that follow the end.
    """

    name: str
    magic: bytes
    create: Callable[[], Any]
    feed: Callable[[Any, bytes], Generator[bytes, None, bytes]]


def _decompress(pieces: Iterator[bytes], codec: _Codec, *, is_single: bool) -> Iterator[bytes]:
    decompressor: Any = codec.create()
    is_inside = True
    offset = 0
    for piece in pieces:
        data = piece
        while data:
            start = offset + len(piece) - len(data)
            if not is_inside:
                if is_single:
                    raise InvalidFile(f"data follows the end of the {codec.name} stream", start)
                data = data.lstrip(b"\0")  # padding after a member, as tapes and block devices leave it
                if not data:
                    break
                decompressor = codec.create()
                is_inside = True
                start = offset + len(piece) - len(data)
                if codec.magic == ZSTD_MAGIC and _SKIPPABLE_FRAME.match(data):
                    raise InvalidFile(
                        "a skippable frame follows a zstd frame",
                        start,
                        hint="decompress it first: zstd -dc",
                    )
                if not codec.magic.startswith(data[: len(codec.magic)]):
                    raise InvalidFile(f"the {codec.name} stream is damaged: what follows it is not {codec.name}", start)
            try:
                data = yield from codec.feed(decompressor, data)
            except (zlib.error, zstandard.ZstdError) as error:
                raise _explain(error, codec.name, start) from error
            is_inside = not decompressor.eof
        offset += len(piece)
    if is_inside:
        raise InvalidFile(f"the {codec.name} stream is truncated", offset)


def _explain(error: Exception, name: str, offset: int) -> InvalidFile:
    """Return the error for a stream that cannot be decompressed."""
    if _WINDOW_REFUSED in str(error):
        reason = "its zstd window is larger than 128 MiB, the most that is read"
        return InvalidFile(reason, offset, hint="decompress it first: zstd -dc --long=31")
    return InvalidFile(f"the {name} stream is damaged ({error})", offset)


def _feed_gzip(decompressor: Any, data: bytes) -> Generator[bytes, None, bytes]:
    while data and not decompressor.eof:  # at its end, what follows it is in `unconsumed_tail`, too
        piece = decompressor.decompress(data, _PIECE_BYTES)
        data = decompressor.unconsumed_tail
        if piece:
            yield piece
    unused: bytes = decompressor.unused_data
    return unused


def _feed_zstd(decompressor: Any, data: bytes) -> Generator[bytes, None, bytes]:
    ready: list[bytes] = []
    size = position = 0
    while position < len(data) and not decompressor.eof:
        piece = decompressor.decompress(data[position : position + _ZSTD_INPUT_BYTES])
        position += _ZSTD_INPUT_BYTES
        ready.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(ready)
            ready, size = [], 0
    if size:
        yield b"".join(ready)
    unused: bytes = decompressor.unused_data
    return unused + data[position:]


_CODECS = {
    GZIP_MAGIC: _Codec("gzip", GZIP_MAGIC, lambda: zlib.decompressobj(_GZIP_WINDOW), _feed_gzip),
    ZSTD_MAGIC: _Codec("zstd", ZSTD_MAGIC, lambda: zstandard.ZstdDecompressor().decompressobj(), _feed_zstd),
}
