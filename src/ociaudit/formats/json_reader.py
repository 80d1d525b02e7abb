"""Events read back from a JSON array, with the place of each in the file.

Owns: cutting an array into its elements while it streams by. Must not: hold the file.

A file that `oci-audit export` is known to have written is cut line by line. Any other JSON array of objects,
however it is laid out, is cut by the standard library's scanner.

Invariants
- Every element comes out once, in the file's order, or `BadArray` names the byte at which the file goes wrong.
- Offsets count bytes of the uncompressed array.

JSON objects cut out of a stream: the elements of an array, or objects one behind the other.

Owns: where an object begins and ends, and what may stand between. Must not: know what an object means.

Whatever stands in lines, an object or more in each, is cut by msgspec. Any other layout, lone surrogates and
whatever msgspec refuses go through the standard library's scanner, which also finds the place of a mistake.

Invariants
- Every object comes out once, in order, to the byte; or `BadFile` says from which byte and line on it goes wrong.
- What comes out is valid JSON in UTF-8.
- One piece and one object are held.

A block of lines looked at in one pass: is all of it in order, and valid?

Owns: telling a block in which nothing stands out from one that needs a closer look. Must not: judge the latter.

Nearly every block is ordinary: its times have milliseconds and end with `Z`, its ids are there, and each line is
greater than the one before it. Then time and id as text compare as `Event.order` does, and no event has to be made.

Invariants
- A block that passes holds one JSON object in UTF-8 per line, in strictly ascending order.
- Whatever is unusual is "no", never an error: a block that does not pass may be sound all the same.
"""

from __future__ import annotations

import codecs
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import chain
from operator import lt, methodcaller
from typing import BinaryIO, Literal, NamedTuple

import msgspec
import zstandard

from ociaudit.events.event import BadPage, Event, encode_order, parse_page, read_event, scan_value, skip_white_space
from ociaudit.events.fields import UNREADABLE_INSTANT, read_instant
from ociaudit.formats.compression import BadFile

_HEAD = b"[\n"
_BETWEEN = b",\n"
_TAIL = b"\n]\n"
_MAX_ELEMENT_CHARACTERS = 64 * 1024 * 1024
_READ_BYTES = 4 * 1024 * 1024
_SPLIT_BYTES = 256 * 1024
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


class ElementBatch(NamedTuple):
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


def read_array(chunks: Iterable[bytes], *, shape: str = "api", is_ours: bool = False) -> Iterator[ElementBatch]:
    """Yield the events of an array whose bytes come in `chunks`, spelled as `shape` says.

    With `is_ours` the layout is that of `json_array`, to the byte, and is read six times as fast.

    Raises:
        BadArray: the bytes are not a JSON array of objects.
    """
    stream = iter(chunks)
    if is_ours:
        yield from (split_lines(block, shape) for block in read_line_blocks(stream))
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
            end = start + _SPLIT_BYTES
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


def split_lines(block: LineBlock, shape: str) -> ElementBatch:
    """Cut a block into its events.

    Raises:
        BadArray: it does not hold one event in each line.
    """
    body, offset = block
    try:
        events = parse_page(b"[" + body + b"]", shape)
    except BadPage as error:
        raise BadArray(f"this is not valid JSON: {error}", offset + _find_bad_line(body)) from error
    offsets: list[int] = []
    position = offset
    for event in events:
        offsets.append(position)
        position += len(event.raw) + len(_BETWEEN)
    if _BETWEEN.join([event.raw for event in events]) != body:
        raise BadArray("the events do not stand one in a line", offset)
    return ElementBatch(events, offsets)


def _find_bad_line(body: bytes) -> int:
    """Return where the first line begins that is no event."""
    position = 0
    for line in body.split(_BETWEEN):
        try:
            parse_page(b"[" + line + b"]")
        except BadPage:
            return position
        position += len(line) + len(_BETWEEN)
    return 0


def _read_freely(stream: Iterator[bytes], shape: str) -> Iterator[ElementBatch]:
    """Read an array of any layout, element by element."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    splitter = _ElementSplitter(shape)
    for chunk in chain(filter(None, stream), [b""]):  # the empty one is the end
        try:
            splitter.feed(decoder.decode(chunk, final=not chunk))
        except UnicodeDecodeError as error:
            raise BadArray("this is not UTF-8", splitter.offset) from error
        batch = splitter.cut()
        if batch.events:
            yield batch
    splitter.finish()


class _ElementSplitter:
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

    def cut(self) -> ElementBatch:
        batch = ElementBatch([], [])
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


Layout = Literal["array", "stream"]
_State = Literal["first", "element", "comma", "object", "end"]

_MAX_OBJECT_CHARACTERS = 64 * 1024 * 1024
_MAX_TAIL_CHARACTERS = 16 * 1024 * 1024
_SURE_CHARACTERS = 64
"""A mistake this far from the end of what is there stays one, whatever comes."""
_ESCAPE_CHARACTERS = len("\\u0000")
_MOST_WITHOUT_BREAK: dict[Layout, int] = {"array": 1024 * 1024, "stream": _MAX_OBJECT_CHARACTERS}
_BREAKS: dict[Layout, bytes] = {"array": b",\n", "stream": b"\n"}

_is_object = methodcaller("startswith", b"{")
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class ObjectStream:
    """Cuts a stream into its objects."""

    def __init__(self, pieces: Iterator[bytes], layout: Layout, *, offset: int = 0, line: int = 1) -> None:
        """Begin behind an array's `[`, or before the first object of a stream; that is at `offset`, in `line`."""
        self._pieces = pieces
        self._layout = layout
        self._between = _BREAKS[layout]
        self._scan = _Scanner("first" if layout == "array" else "object", offset, line)

    @property
    def tail(self) -> str:
        """What stands behind the array's end, once all objects are out."""
        return self._scan.tail

    def __iter__(self) -> Iterator[list[bytes]]:
        """Yield the objects in batches.

        Raises:
            BadFile: what comes is not what it should be.
        """
        held = b""
        tried_bytes = 0
        scan = self._scan
        for piece in self._pieces:
            held += piece
            if len(held) < 2 * tried_bytes:
                continue
            cut = held.rfind(self._between)
            if cut < 0:
                tried_bytes = len(held)
                if len(held) < _MOST_WITHOUT_BREAK[self._layout]:
                    continue
                break
            tried_bytes = 0
            body = memoryview(held)[:cut]
            objects = _split_array(body) if self._layout == "array" else _split_lines(bytes(body))
            if objects is None:
                objects = scan.cut(held[:cut].decode("utf-8", "surrogateescape"))
                if not scan.is_between_objects:
                    held = held[cut:]
                    yield objects
                    break
                scan.move(len(self._between), line_count=1)
            else:
                line_count = held.count(b"\n", 0, cut) + 1 if self._layout == "stream" else None
                scan.move(cut + len(self._between), line_count=line_count)
            held = held[cut + len(self._between) :]
            if objects:
                yield objects
        yield from self._scan_rest(held)

    def _scan_rest(self, held: bytes) -> Iterator[list[bytes]]:
        """Go through all that is still to come with the scanner."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for piece in chain([held], self._pieces):
            if objects := self._scan.cut(decoder.decode(piece)):
                yield objects
        if objects := self._scan.cut(decoder.decode(b"", final=True), is_last=True):
            yield objects


def _split_array(body: bytes | memoryview) -> list[bytes] | None:
    """Cut elements with commas between them; None where they are no objects, or not for msgspec."""
    array = b"".join((b"[", body, b"]"))
    try:
        if not array.isascii():
            array.decode("utf-8")  # msgspec does not look into what it only cuts
        objects = list(map(bytes, _raw_decoder.decode(array)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return objects if objects and all(map(_is_object, objects)) else None


def _split_lines(body: bytes) -> list[bytes] | None:
    """Cut lines that hold an object each, or nothing."""
    lines = [line for line in map(bytes.strip, body.split(b"\n")) if line]
    objects = _split_array(b",".join(lines)) if lines else []
    return objects if objects == lines else None


class _Scanner:
    """Takes text as it comes and gives back the objects that are whole."""

    def __init__(self, state: _State, offset: int, line: int) -> None:
        self._state = state
        self._text = ""
        self._tried = 0
        self._offset = offset
        self._line: int | None = line
        self.tail = ""

    @property
    def is_between_objects(self) -> bool:
        """Tell whether nothing is held and the next object, or the array's end, is expected."""
        return not self._text and self._state in {"comma", "object"}

    def move(self, byte_count: int, *, line_count: int | None) -> None:
        """Take note of what was cut elsewhere, with the comma or line break behind it.

        Where the lines were not counted, none is named any more; in an array bytes say enough.
        """
        self._offset += byte_count
        self._line = None if line_count is None or self._line is None else self._line + line_count
        if self._state != "object":
            self._state = "element"

    def cut(self, text: str, *, is_last: bool = False) -> list[bytes]:
        """Return the objects that are whole now."""
        self._text += text
        if self._is_over():
            self._take_tail()
            return []
        if len(self._text) < 2 * self._tried and not is_last:
            return []  # reading a large object anew at each piece would take for ever
        objects: list[bytes] = []
        text, index = self._text, 0
        while (start := skip_white_space(text, index)) < len(text) and not self._is_over():
            if text[start] == "{" and self._state != "comma":
                end = self._find_end(text, start, is_last=is_last)
                if not end:
                    break
                objects.append(self._encode(text, start, end))
                index = end
                self._state = "object" if self._state == "object" else "comma"
            else:
                self._take_mark(text, start)
                index = start + 1
        self._drop(text, index if self._is_over() else start)
        self._tried = len(self._text)
        if self._is_over():
            self._take_tail()
        elif is_last:
            self._finish()
        elif len(self._text) > _MAX_OBJECT_CHARACTERS:
            raise BadFile(f"an object does not end within 64 MiB, from {self._where(0)}")
        return objects

    def _is_over(self) -> bool:
        return self._state == "end"

    def _find_end(self, text: str, start: int, *, is_last: bool) -> int:
        """Return where an object ends, 0 where that is still to come."""
        try:
            return int(scan_value(text, start)[1])
        except RecursionError as error:
            raise BadFile(f"an object is nested too deeply, {self._where(start)}") from error
        except json.JSONDecodeError as error:
            is_unterminated = error.msg.startswith("Unterminated")
            if is_last or not (is_unterminated or error.pos > len(text) - _SURE_CHARACTERS):
                is_at_end = error.pos >= len(text.rstrip()) - (_ESCAPE_CHARACTERS if "escape" in error.msg else 0)
                what = "is cut" if is_unterminated or is_at_end else "is damaged"
                target = self._where(max(error.pos, start))
                raise BadFile(f"the JSON {what}: {error.msg[0].lower()}{error.msg[1:]}, {target}") from error
            return 0
        except ValueError as error:
            raise BadFile(f"this is not valid JSON: {error}, {self._where(start)}") from error

    def _encode(self, text: str, start: int, end: int) -> bytes:
        raw = text[start:end].encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadFile(f"this is not UTF-8, {self._where(start)}") from error
        return raw

    def _take_mark(self, text: str, index: int) -> None:
        match self._state, text[index]:
            case (("first" | "comma"), "]"):
                self._state = "end"
            case "comma", ",":
                self._state = "element"
            case "object", mark:
                raise BadFile(f"{mark!r} is not the beginning of a JSON object, {self._where(index)}")
            case "comma", mark:
                raise BadFile(f"{mark!r} stands where a comma should, {self._where(index)}")
            case _:
                raise BadFile(f"an element of the array is not a JSON object, {self._where(index)}")

    def _take_tail(self) -> None:
        self.tail += self._text
        self._text = ""
        if len(self.tail) > _MAX_TAIL_CHARACTERS:
            raise BadFile(f"too much stands behind the end of the array, {self._where(0)}")

    def _finish(self) -> None:
        if self._state != "object":
            raise BadFile(f"the array is cut, {self._where(len(self._text))}")

    def _drop(self, text: str, index: int) -> None:
        self._offset += _count_bytes(text, index)
        if self._line is not None:
            self._line += text.count("\n", 0, index)
        self._text = text[index:]

    def _where(self, index: int) -> str:
        offset = self._offset + _count_bytes(self._text, index)
        line = "" if self._line is None else f" (line {self._line + self._text.count(chr(10), 0, index):,})"
        return f"at byte {offset:,}{line}"


def _count_bytes(text: str, index: int) -> int:
    return index if text.isascii() else len(text[:index].encode("utf-8", "surrogateescape"))


_TIMES = re.compile(r"(?:\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z)+", re.ASCII)
_TIME_LENGTH = 24
_DAY_LENGTH = 10
_OPEN, _CLOSE, _COMMA = b"{},"


class _Line(msgspec.Struct, gc=False, rename="camel"):
    event_time: str
    event_id: str


class Scan(NamedTuple):
    """How many events an ordinary block holds, the order of its first one, and its last one."""

    events: int
    first: bytes
    last: Event


_decode_line = msgspec.json.Decoder(_Line).decode


def scan_block(block: LineBlock) -> Scan | None:
    """Return what an ordinary block in shape `api` holds; None where one has to look closer."""
    data = block.data
    try:
        if not data.isascii():
            data.decode("utf-8")  # msgspec does not look into what it only passes over
        lines, last_start = _decode_lines(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, _UnusualLineError):
        return None
    times = [line.event_time for line in lines]
    keys = [line.event_time + line.event_id for line in lines]
    if not all(map(lt, keys, keys[1:])) or not _are_plain(times):
        return None
    first, last = _encode_order(lines[0]), _encode_order(lines[-1])
    return Scan(len(lines), first, Event(data[last_start:], last, "", None, None))


class _UnusualLineError(Exception):
    """A line that does not begin or end as ours do."""


def _decode_lines(data: bytes) -> tuple[list[_Line], int]:
    """Return the fields of each line, and where the last one begins; each line is decoded by itself."""
    view = memoryview(data)
    lines: list[_Line] = []
    start = 0
    while (end := data.find(b"\n", start)) >= 0:
        if data[start] != _OPEN or data[end - 2] != _CLOSE or data[end - 1] != _COMMA:
            raise _UnusualLineError
        lines.append(_decode_line(view[start : end - 1]))
        start = end + 1
    if data[start : start + 1] != b"{" or data[-1] != _CLOSE or b"\r" in data:
        raise _UnusualLineError
    lines.append(_decode_line(view[start:]))
    return lines, start


def _are_plain(times: list[str]) -> bool:
    """Tell whether times compare as text like the instants they stand for."""
    is_fixed = all(len(time) == _TIME_LENGTH for time in times) and _TIMES.fullmatch("".join(times))
    return bool(is_fixed) and all(map(_is_day, {time[:_DAY_LENGTH] for time in times}))


@lru_cache(maxsize=1024)
def _is_day(text: str) -> bool:
    return read_instant(f"{text}T00:00:00Z") != UNREADABLE_INSTANT


def _encode_order(line: _Line) -> bytes:
    return encode_order(read_instant(line.event_time), line.event_id)
