r"""The formats `json` (one JSON array) and `ndjson` (one event per line): written, and read back.

An array has the line `[`, one event per line with a comma after all but the last, and the line `]`. A file of lines
has one event per line, each ended by a line break; without events it is empty.

The readers here expect exactly this layout. They report the byte at which each event begins, for `verify` and `diff`.
Arrays in other layouts and input of unknown origin are read by `formats/json_reader.py`.

`scan_block` is the fast path of `verify`: it checks a whole block of lines without creating events. Nearly every block
is ordinary: its times have milliseconds and end in `Z`, its ids are present, and its lines are in order. Then the text
of time and id compares as `Event.order` does.

Invariants
- The file is valid JSON for any number of events, including none.
- A reader yields every event exactly once, in the file's order, or raises `InvalidFile` with the byte at which the file
  goes wrong. Offsets count bytes of the uncompressed file.
- A block that passes `scan_block` holds one JSON object in UTF-8 per line, in strictly ascending order. A block that
  does not pass may still be valid: the caller then parses it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import lt
from typing import NamedTuple

import msgspec

from ociaudit.events.event import BadPage, Event, encode_order, parse_page
from ociaudit.events.fields import is_day, read_instant
from ociaudit.formats.base import EventEncoder, InvalidFile
from ociaudit.planning.shard import Target

_ARRAY_START = b"[\n"
_SEPARATOR = b",\n"
_ARRAY_END = b"]\n"
_BLOCK_BYTES = 256 * 1024
"""A block that is parsed should fit in the processor's cache."""

_OPEN, _CLOSE, _COMMA = b"{},"
_ORDINARY_TIMES = re.compile(r"(?:\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z)+", re.ASCII)
_TIME_LENGTH = 24
_DAY_LENGTH = 10


class JsonArray:
    """Writes events as one JSON array."""

    def __init__(self, encoder: EventEncoder | None = None) -> None:
        """Encode events with `encoder`; without one they are written as they are."""
        self._encode = (encoder or EventEncoder()).encode
        self._is_first = True

    def begin(self) -> bytes:
        """Return the opening bracket."""
        return _ARRAY_START

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' lines; the next call decides how the last one ends."""
        lead = b"" if self._is_first else _SEPARATOR
        self._is_first = False
        return lead + _SEPARATOR.join(self._encode(raws, origins))

    def finish(self) -> Iterator[bytes]:
        """Yield the closing bracket."""
        yield _ARRAY_END if self._is_first else b"\n" + _ARRAY_END

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


class Ndjson:
    """Writes events as lines of JSON."""

    def __init__(self, encoder: EventEncoder) -> None:
        """Encode events with `encoder`."""
        self._encode = encoder.encode

    def begin(self) -> bytes:
        """Return nothing: the file begins with the first event."""
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' lines."""
        return b"\n".join([*self._encode(raws, origins), b""])

    def finish(self) -> Iterator[bytes]:
        """Yield nothing: the file ends with the last event."""
        yield b""

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


class LocatedEvents(NamedTuple):
    """Consecutive events of a file, with the byte at which each begins."""

    events: list[Event]
    offsets: list[int]


class LineBlock(NamedTuple):
    """Whole lines of an array, separated by comma and line break, with the offset of the first."""

    data: bytes
    offset: int


class BlockScan(NamedTuple):
    """How many events an ordinary block holds, the order of its first event, and its last event."""

    events: int
    first: bytes
    last: Event


def read_array(chunks: Iterable[bytes], *, shape: str = "api") -> Iterator[LocatedEvents]:
    """Yield the events of an array that `JsonArray` wrote, whose fields are in the given shape.

    Raises:
        InvalidFile: the bytes are not an array in this layout.
    """
    return (parse_block(block, shape) for block in read_line_blocks(chunks))


def read_line_blocks(chunks: Iterable[bytes]) -> Iterator[LineBlock]:
    """Yield the lines of an array that `JsonArray` wrote, in blocks; the content of the lines is not checked.

    Raises:
        InvalidFile: the bytes do not begin or end as `JsonArray` writes them.
    """
    stream = iter(chunks)
    chunk: bytes | None = _read_array_start(stream)
    offset = len(_ARRAY_START)
    rest = b""
    while chunk is not None:
        start = 0
        while start < len(chunk):
            end = start + _BLOCK_BYTES
            block_end = chunk.rfind(_SEPARATOR, start, end)
            if block_end < 0:
                rest += chunk[start:end]
                start = end
                continue
            block = LineBlock(rest + chunk[start:block_end], offset)
            yield block
            offset += len(block.data) + len(_SEPARATOR)
            rest, start = b"", block_end + len(_SEPARATOR)
        chunk = next(stream, None)
    if rest == _ARRAY_END and offset == len(_ARRAY_START):
        return
    if not rest.endswith(b"\n" + _ARRAY_END) or rest == b"\n" + _ARRAY_END:
        raise InvalidFile("the array is truncated or damaged", offset)
    yield LineBlock(rest[: -len(_ARRAY_END) - 1], offset)


def _read_array_start(stream: Iterator[bytes]) -> bytes:
    """Consume the beginning of the array and return the bytes that were read beyond it."""
    text = b""
    while len(text) < len(_ARRAY_START):
        chunk = next(stream, None)
        if chunk is None:
            raise InvalidFile("the array is truncated or damaged", 0)
        text += chunk
    if not text.startswith(_ARRAY_START):
        raise InvalidFile("this is not an array with one event per line", 0)
    return text[len(_ARRAY_START) :]


def parse_block(block: LineBlock, shape: str) -> LocatedEvents:
    """Return the events of a block.

    Raises:
        InvalidFile: the block does not hold one event per line.
    """
    data, offset = block
    try:
        events = parse_page(b"[" + data + b"]", shape)
    except BadPage as error:
        raise InvalidFile(f"this is not valid JSON: {error}", offset + _find_invalid_line(data)) from error
    if _SEPARATOR.join([event.raw for event in events]) != data:
        raise InvalidFile("the array does not have one event per line", offset)
    return _locate(events, offset, len(_SEPARATOR))


def _find_invalid_line(data: bytes) -> int:
    """Return the position of the first line that is not an event."""
    position = 0
    for line in data.split(_SEPARATOR):
        try:
            parse_page(b"[" + line + b"]")
        except BadPage:
            return position
        position += len(line) + len(_SEPARATOR)
    return 0


def _locate(events: list[Event], offset: int, separator_length: int) -> LocatedEvents:
    """Return consecutive events, the first of them at `offset`, with the offset of each."""
    offsets: list[int] = []
    for event in events:
        offsets.append(offset)
        offset += len(event.raw) + separator_length
    return LocatedEvents(events, offsets)


def read_ndjson(chunks: Iterable[bytes], *, shape: str = "api") -> Iterator[LocatedEvents]:
    """Yield the events of a file that `Ndjson` wrote, whose fields are in the given shape.

    Raises:
        InvalidFile: a line is not exactly one event, or the last line has no line break.
    """
    offset = 0
    rest = b""
    for chunk in chunks:
        rest += chunk
        end = rest.rfind(b"\n")
        if end >= 0:
            yield _parse_lines(rest[:end].split(b"\n"), offset, shape)
            offset += end + 1
            rest = rest[end + 1 :]
    if rest:
        raise InvalidFile("the last line is truncated", offset)


def _parse_lines(lines: list[bytes], offset: int, shape: str) -> LocatedEvents:
    try:
        events = parse_page(b"[" + b",".join(lines) + b"]", shape)
    except BadPage:
        events = []
    if [event.raw for event in events] == lines:
        return _locate(events, offset, len(b"\n"))
    for line in lines:
        try:
            if [event.raw for event in parse_page(b"[" + line + b"]", shape)] != [line]:
                raise InvalidFile("a line does not hold exactly one event", offset)
        except BadPage as error:
            raise InvalidFile(f"this is not valid JSON: {error}", offset) from error
        offset += len(line) + 1
    raise InvalidFile("the file does not have one event per line", offset)


class _Line(msgspec.Struct, gc=False, rename="camel"):
    event_time: str
    event_id: str


_decode_line = msgspec.json.Decoder(_Line).decode


class _UnusualLineError(Exception):
    """A line that does not begin or end as the program writes it."""


def scan_block(block: LineBlock) -> BlockScan | None:
    """Return what an ordinary block in shape `api` holds, or None if the block has to be parsed."""
    data = block.data
    try:
        if not data.isascii():
            data.decode("utf-8")  # msgspec does not check the strings that it skips
        lines, last_start = _decode_lines(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError, _UnusualLineError):
        return None
    times = [line.event_time for line in lines]
    keys = [line.event_time + line.event_id for line in lines]
    if not all(map(lt, keys, keys[1:])) or not _are_ordinary(times):
        return None
    first, last = _encode_order(lines[0]), _encode_order(lines[-1])
    return BlockScan(len(lines), first, Event(data[last_start:], last, "", None, None))


def _decode_lines(data: bytes) -> tuple[list[_Line], int]:
    """Return the fields of each line and the position of the last one; each line is decoded separately."""
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


def _are_ordinary(times: list[str]) -> bool:
    """Return whether the texts of the times compare as their instants do."""
    is_fixed = all(len(time) == _TIME_LENGTH for time in times) and _ORDINARY_TIMES.fullmatch("".join(times))
    return bool(is_fixed) and all(map(is_day, {time[:_DAY_LENGTH] for time in times}))


def _encode_order(line: _Line) -> bytes:
    return encode_order(read_instant(line.event_time), line.event_id)
