"""Events read back from a JSON array, with the place of each in the file.

Owns: cutting an array into its elements while it streams by. Must not: hold the file.

A file that `oci-audit export` is known to have written is cut line by line. Any other JSON array of objects,
however it is laid out, is cut by the standard library's scanner.

Invariants
- Every element comes out once, in the file's order, or `BadArray` names the byte at which the file goes wrong.
- Offsets count bytes of the uncompressed array.
"""

from __future__ import annotations

import codecs
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO, Literal, NamedTuple

import zstandard

from ociaudit.events.event import Event
from ociaudit.events.page import BadPage, cut_page, read_event, scan_value, skip_white_space

_HEAD = b"[\n"
_BETWEEN = b",\n"
_TAIL = b"\n]\n"
_MAX_ELEMENT_CHARACTERS = 64 * 1024 * 1024
_READ_BYTES = 4 * 1024 * 1024
_CUT_BYTES = 256 * 1024
"""What is cut at a time stays in the processor's cache; reading and hashing like larger pieces."""
_GZIP_MAGIC = b"\x1f\x8b"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BYTES = 64 * 1024
"""zstd gives all that a piece holds at once: a small piece keeps that bounded."""
_GZIP_WINDOW = 31


class BadArray(ValueError):
    """A file that is not the array it should be; `offset` is the byte from which on it cannot be read."""

    def __init__(self, message: str, offset: int) -> None:
        """Keep the byte beside the message."""
        super().__init__(f"{message}, from byte {offset}")
        self.offset = offset


class Batch(NamedTuple):
    """Consecutive events of a file, with the offset of each."""

    events: list[Event]
    offsets: list[int]


class LineBlock(NamedTuple):
    """Whole lines of a file, an event in each and commas between them, with the offset of the first."""

    data: bytes
    offset: int


def read_chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file's bytes in large pieces."""
    while chunk := file.read(_READ_BYTES):
        yield chunk


def unpack_chunks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the uncompressed bytes of a file that may be gzip or zstd.

    Raises:
        BadArray: the compressed stream is damaged or cut; the offset counts compressed bytes.
    """
    stream = iter(chunks)
    first = next(stream, b"")
    if first.startswith(_ZSTD_MAGIC):
        yield from _unpack_zstd(chain([first], stream))
        return
    if not first.startswith(_GZIP_MAGIC):
        yield first
        yield from stream
        return
    unpacker = zlib.decompressobj(_GZIP_WINDOW)
    position = 0
    chunk: bytes | None = first
    while chunk is not None:
        packed = chunk
        while packed:  # a bounded piece at a time: a small file can unpack to anything
            try:
                yield unpacker.decompress(packed, _READ_BYTES)
            except zlib.error as error:
                raise BadArray(f"the gzip stream is damaged ({error})", position) from error
            packed = unpacker.unconsumed_tail
        position += len(chunk)
        chunk = next(stream, None)
    if not unpacker.eof:
        raise BadArray("the gzip stream is cut", position)
    if unpacker.unused_data:
        raise BadArray("something stands behind the end of the gzip stream", position - len(unpacker.unused_data))


def _unpack_zstd(chunks: Iterable[bytes]) -> Iterator[bytes]:
    unpacker = zstandard.ZstdDecompressor().decompressobj()
    position = 0
    for chunk in chunks:
        for start in range(0, len(chunk), _ZSTD_BYTES):
            if unpacker.eof:
                raise BadArray("something stands behind the end of the zstd stream", position)
            piece = chunk[start : start + _ZSTD_BYTES]
            try:
                yield unpacker.decompress(piece)
            except zstandard.ZstdError as error:
                raise BadArray(f"the zstd stream is damaged ({error})", position) from error
            position += len(piece)
            if unpacker.unused_data:
                behind = position - len(unpacker.unused_data)
                raise BadArray("something stands behind the end of the zstd stream", behind)
    if not unpacker.eof:
        raise BadArray("the zstd stream is cut", position)


def read_array(chunks: Iterable[bytes], *, shape: str = "api", is_ours: bool = False) -> Iterator[Batch]:
    """Yield the events of an array whose bytes come in `chunks`, spelled as `shape` says.

    With `is_ours` the layout is that of `json_array`, to the byte, and is read six times as fast.

    Raises:
        BadArray: the bytes are not a JSON array of objects.
    """
    stream = iter(chunks)
    if is_ours:
        yield from (cut_lines(block, shape) for block in read_line_blocks(stream))
    else:
        yield from _read_freely(stream, shape)


def read_line_blocks(chunks: Iterable[bytes]) -> Iterator[LineBlock]:
    """Yield the lines of the layout that `json_array` writes, some at a time.

    That is `[`, an event a line with a comma behind all but the last, `]`. What the lines hold is not looked at.

    Raises:
        BadArray: the bytes do not begin or end like that layout.
    """
    stream = iter(chunks)
    chunk: bytes | None = _take_head(stream)
    offset = len(_HEAD)
    rest = b""
    while chunk is not None:
        start = 0
        while start < len(chunk):
            end = start + _CUT_BYTES
            cut = chunk.rfind(_BETWEEN, start, end)
            if cut < 0:
                rest += chunk[start:end]
                start = end
                continue
            block = LineBlock(rest + chunk[start:cut], offset)
            yield block
            offset += len(block.data) + len(_BETWEEN)
            rest, start = b"", cut + len(_BETWEEN)
        chunk = next(stream, None)
    if rest == b"]\n" and offset == len(_HEAD):
        return
    if not rest.endswith(_TAIL) or rest == _TAIL:
        raise BadArray("the array is cut or damaged", offset)
    yield LineBlock(rest[: -len(_TAIL)], offset)


def _take_head(stream: Iterator[bytes]) -> bytes:
    """Take the array's beginning off the stream and return what came with it."""
    text = b""
    while len(text) < len(_HEAD):
        chunk = next(stream, None)
        if chunk is None:
            raise BadArray("the array is cut or damaged", 0)
        text += chunk
    if not text.startswith(_HEAD):
        raise BadArray("this is not an array of events, one in a line", 0)
    return text[len(_HEAD) :]


def cut_lines(block: LineBlock, shape: str) -> Batch:
    """Cut a block into its events.

    Raises:
        BadArray: it does not hold one event in each line.
    """
    body, offset = block
    try:
        events = cut_page(b"[" + body + b"]", shape)
    except BadPage as error:
        raise BadArray(f"this is not valid JSON: {error}", offset + _find_bad_line(body)) from error
    offsets: list[int] = []
    position = offset
    for event in events:
        offsets.append(position)
        position += len(event.raw) + len(_BETWEEN)
    if _BETWEEN.join([event.raw for event in events]) != body:
        raise BadArray("the events do not stand one in a line", offset)
    return Batch(events, offsets)


def _find_bad_line(body: bytes) -> int:
    """Return where the first line begins that is no event."""
    position = 0
    for line in body.split(_BETWEEN):
        try:
            cut_page(b"[" + line + b"]")
        except BadPage:
            return position
        position += len(line) + len(_BETWEEN)
    return 0


def _read_freely(stream: Iterator[bytes], shape: str) -> Iterator[Batch]:
    """Read an array of any layout, element by element."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    cutter = _ElementCutter(shape)
    for chunk in chain(filter(None, stream), [b""]):  # the empty one is the end
        try:
            cutter.feed(decoder.decode(chunk, final=not chunk))
        except UnicodeDecodeError as error:
            raise BadArray("this is not UTF-8", cutter.offset) from error
        batch = cutter.cut()
        if batch.events:
            yield batch
    cutter.finish()


class _ElementCutter:
    """Takes text as it comes and gives back the elements that are whole."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._text = ""
        self._expected: Literal["[", "first", "comma", "element", "end"] = "["
        self.offset = 0
        """The byte of the file at which what is still held begins."""

    def feed(self, text: str) -> None:
        if len(self._text) > _MAX_ELEMENT_CHARACTERS:
            raise BadArray("this is not valid JSON", self.offset)
        self._text += text

    def cut(self) -> Batch:
        batch = Batch([], [])
        text, index = self._text, 0
        while (start := skip_white_space(text, index)) < len(text):
            self.offset += start - index
            index = start
            if self._expected in {"first", "element"} and text[start] == "{":
                try:
                    end = scan_value(text, start)[1]
                except (ValueError, RecursionError):
                    break  # not whole yet, or never: `finish` and `feed` tell
                raw = text[start:end].encode("utf-8")
                batch.events.append(_read_element(raw, self._shape, self.offset))
                batch.offsets.append(self.offset)
                self.offset += len(raw)
                index = end
                self._expected = "comma"
            else:
                self._take_mark(text[start])
                self.offset += 1
                index = start + 1
        else:
            self.offset += start - index
            index = start
        self._text = text[index:]
        return batch

    def finish(self) -> None:
        if self._expected != "end":
            raise BadArray("the array is cut, or this is not valid JSON", self.offset)

    def _take_mark(self, mark: str) -> None:
        match self._expected, mark:
            case "[", "[":
                self._expected = "first"
            case (("first" | "comma"), "]"):
                self._expected = "end"
            case "comma", ",":
                self._expected = "element"
            case "[", _:
                raise BadArray("this is not a JSON array", self.offset)
            case _:
                raise BadArray(f"{mark!r} is not what should stand here", self.offset)


def _read_element(raw: bytes, shape: str, offset: int) -> Event:
    try:
        return read_event(raw, shape)
    except BadPage as error:
        raise BadArray(f"this is not an event: {error}", offset) from error
