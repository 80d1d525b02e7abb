"""The formats `json` (one JSON array) and `ndjson` (one event per line): written, and read back in any layout.

An array has the line `[`, one event per line with a comma after all but the last, and the line `]`. A file of lines
has one event per line, each ended by a line break; without events it is empty.

The readers of this layout are fast and report the byte at which each event begins, for `verify` and `diff`.
`scan_block` is the fast path of `verify`: it checks a whole block of lines without creating events. Nearly every block
is ordinary: its times have milliseconds and end in `Z`, its ids are present, and its lines are in order. Then the text
of time and id compares as `Event.order` does.

`ObjectStream` reads JSON of unknown origin in any layout for `open_records`: the elements of an array, or objects that
follow each other, one by one, without loading the file. Objects in lines, one or several each, are split by msgspec.
Any other layout, lone surrogates and everything that msgspec rejects go through the standard library's scanner, which
also locates errors.

Over 700 lines, because what is written here and what is read back is one format.

Invariants
- The file is valid JSON in UTF-8 for any number of events, including none.
- A reader yields every event or object exactly once, in the file's order, byte for byte, or raises `InvalidFile`
  with the byte (and, where it is known, the line) at which the file goes wrong. Offsets count bytes of the
  uncompressed file.
- What `ObjectStream` yields is valid JSON in UTF-8. Memory holds one piece of the file and one object.
- A block that passes `scan_block` holds one JSON object in UTF-8 per line, in strictly ascending order. A block that
  does not pass may still be valid: the caller then parses it.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import lt, methodcaller
from typing import Literal, NamedTuple

import msgspec

from ociaudit.events.event import BadPage, Event, encode_order, parse_page, scan_value, skip_white_space
from ociaudit.events.field_naming import IDENTIFYING_NAMES
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


Layout = Literal["array", "stream"]
_State = Literal["first", "element", "comma", "object", "name", "error"]
_Frame = Literal["array", "object"]

_MAX_OBJECT_CHARACTERS = 64 * 1024 * 1024
_ENTERED_CHARACTERS = 1024 * 1024
"""A larger object is not held as a whole if it holds a list of events."""
_MAX_SKIPPED_LINES = 100
_SHOWN_CHARACTERS = 80
_ASCII = 127
_SURROGATES = ("\ud800", "\udfff")
LIST_NAMES = ("data", "results")
"""The members of a page that hold its events."""
_LIST_SIBLINGS = ("fields", "results", "summary")
HOLLOW_PAGE = b'{"data":null}'
"""The `PageRest` yielded for a `{"data":}`, which the OCI CLI leaves where --stream-output fails."""
_HOLLOW_PAGE = re.compile(r'\{\s*"data"\s*:\s*\}')
_MEMBER_NAME = re.compile(r'("(?:[^"\\]|\\.)*")\s*:\s*', re.DOTALL)
_LIST_OF_OBJECTS = re.compile(r"\[\s*[\[{]")
_ENCODED_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
_ERROR_LINE = re.compile(r"\s*(?:[\w.]*(?:Error|Exception|Timeout|Warning|Traceback|ERROR|WARNING)\b|Aborted|Killed)")
_NAMES = "|".join(map(re.escape, sorted({*IDENTIFYING_NAMES, "logContent"})))
_NAME_IN_TEXT = re.compile(rf'"(?:{_NAMES})\\*"[\s\\nrt]*:')
"""The name of a field of events in JSON that is inside of a string, or of strings inside of strings."""
_ESCAPED_IN_TEXT = re.compile(r"(?<!\\)\\+u00([2-7][0-9a-fA-F])")
_CLOUD_EVENT_IN_TEXT = ('"type', '"time', '"data')
DECODE_TEXT_HINT = "decode the text first, as fromjson of jq does"
_ERROR_LINE_HINT = "put the error and what follows it on lines of their own, or remove the error"
EXTRACT_HINT = "extract the list of events first, with jq for example"
MAX_DEPTH = 100
"""How deep arrays and pages around events may be nested; what an event holds may be deeper."""
_LOOKAHEAD_CHARACTERS = 64
"""An error further than this from the end of the text stays an error, whatever follows."""
_ESCAPE_CHARACTERS = len("\\u0000")
_MAX_BYTES_WITHOUT_SEPARATOR: dict[Layout, int] = {"array": 1024 * 1024, "stream": _MAX_OBJECT_CHARACTERS}
_SEPARATORS: dict[Layout, bytes] = {"array": b",\n", "stream": b"\n"}

_is_object = methodcaller("startswith", b"{")
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class PageRest(bytes):
    """An object with the members of a page whose events are read one by one: it is not an event, but may hold some."""

    __slots__ = ()


class ObjectStream:
    """The objects of a stream of JSON documents, in batches; iterate it once.

    A document is an object, or an array of objects (and of such arrays). An object of more than a megabyte that holds a
    list of events is not yielded as a whole: the elements of the list are yielded, and its other members as `PageRest`.
    """

    def __init__(
        self, pieces: Iterator[bytes], layout: Layout, *, offset: int = 0, line: int = 1, open_objects: int = 0
    ) -> None:
        """Start after an array's `[`, or before the first object of a stream; `offset` and `line` are that position.

        `open_objects` is the number of objects that the array is inside of.
        """
        self._pieces = pieces
        self._layout = layout
        self._separator = _SEPARATORS[layout]
        frames = _list_frames(open_objects) if layout == "array" else []
        self._scanner = _Scanner("first" if layout == "array" else "object", offset, line, frames)

    @property
    def skipped_lines(self) -> list[str]:
        """The lines between documents that are not JSON but the text of an error, as they were read."""
        return self._scanner.skipped_lines

    def __iter__(self) -> Iterator[list[bytes]]:
        """Yield the objects in batches.

        Raises:
            InvalidFile: the stream is not what its layout says, or is truncated.
        """
        held = b""
        waiting: list[bytes] = []  # joined when there is enough: to join each one would copy all before it each time
        waiting_bytes = tried_bytes = 0
        scanner = self._scanner
        for piece in self._pieces:
            waiting.append(piece)
            waiting_bytes += len(piece)
            if len(held) + waiting_bytes < 2 * tried_bytes:
                continue
            held = b"".join((held, *waiting))
            waiting, waiting_bytes = [], 0
            end = held.rfind(self._separator)
            if end < 0:
                tried_bytes = len(held)
                if len(held) < _MAX_BYTES_WITHOUT_SEPARATOR[self._layout]:
                    continue
                break
            tried_bytes = 0
            body = memoryview(held)[:end]
            objects = _split_array(body) if self._layout == "array" else _split_lines(bytes(body))
            if objects is None:
                objects = scanner.read(held[: end + 1].decode("utf-8", "surrogateescape"))
                if not scanner.is_between_objects:
                    held = held[end + 1 :]
                    yield objects
                    break
                held = held[end + 1 :]
            else:
                scanner.skip(end + len(self._separator), line_count=held.count(b"\n", 0, end) + 1)
                held = held[end + len(self._separator) :]
            if objects:
                yield objects
        yield from self._scan_rest(b"".join((held, *waiting)))

    def _scan_rest(self, held: bytes) -> Iterator[list[bytes]]:
        """Read everything that remains with the scanner."""
        decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        for piece in chain([held], self._pieces):
            if objects := self._scanner.read(decoder.decode(piece)):
                yield objects
        if objects := self._scanner.read(decoder.decode(b"", final=True), is_last=True):
            yield objects


def _split_array(body: bytes | memoryview) -> list[bytes] | None:
    """Split elements at the commas between them; None where one is not an object, or msgspec rejects them."""
    array = b"".join((b"[", body, b"]"))
    try:
        if not array.isascii():
            array.decode("utf-8")  # msgspec does not check the strings that it skips
        objects = list(map(bytes, _raw_decoder.decode(array)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return objects if objects and all(map(_is_object, objects)) else None


def _split_lines(body: bytes) -> list[bytes] | None:
    """Split lines that hold one object each, or nothing; None where a line holds anything else."""
    lines = [line for line in map(bytes.strip, body.split(b"\n")) if line]
    objects = _split_array(b",".join(lines)) if lines else []
    return objects if objects == lines else None


def _list_frames(open_objects: int) -> list[_Frame]:
    frames: list[_Frame] = ["object"] * open_objects
    return [*frames, "array"]


class _Scanner:
    """Receives text as it is read and returns the objects that are complete."""

    def __init__(self, state: _State, offset: int, line: int, frames: list[_Frame]) -> None:
        self._state: _State = state
        self._frames = frames
        self._depth = len(frames)
        self._text = ""
        self._tried = 0
        self._offset = offset
        self._line = line
        self.skipped_lines: list[str] = []

    @property
    def is_between_objects(self) -> bool:
        """Whether no text is held, and the reader may skip objects in the layout that it began with."""
        return (
            not self._text
            and len(self._frames) == self._depth
            and self._state == ("element" if self._frames else "object")
        )

    def skip(self, byte_count: int, *, line_count: int) -> None:
        """Count what was read without the scanner, including the separator after it."""
        self._offset += byte_count
        self._line += line_count
        if self._state != "object":
            self._state = "element"

    def read(self, text: str, *, is_last: bool = False) -> list[bytes]:
        """Add text and return the objects that are complete now."""
        self._text += text
        if len(self._text) < 2 * self._tried and not is_last:
            return []  # scanning a large object again at each piece would take quadratic time
        objects: list[bytes] = []
        text, index = self._text, 0
        while (start := skip_white_space(text, index)) < len(text):
            if text[start] == "{" and self._state in {"object", "first", "element", "error"}:
                end = self._read_object(text, start, objects, is_last=is_last)
            elif self._state == "name":
                end = self._read_member(text, start, objects, is_last=is_last)
            else:
                end = self._read_mark(text, start, is_last=is_last)
            if not end:
                break
            index = end
        self._drop(text, start)
        self._tried = len(self._text)
        if is_last:
            self._check_end()
        elif len(self._text) > _MAX_OBJECT_CHARACTERS:
            raise InvalidFile(f"an object is longer than 64 MiB, {self._where(0)}")
        return objects

    def _read_object(self, text: str, start: int, objects: list[bytes], *, is_last: bool) -> int:
        """Read an object, or enter it if it is large and holds a list of events; 0 if it is not complete."""
        if hollow := _HOLLOW_PAGE.match(text, start):
            objects.append(PageRest(HOLLOW_PAGE))
            return self._end_value(hollow.end())
        end = self._find_end(text, start, is_last=is_last)
        if end:
            objects.append(self._encode(text, start, end))
            return self._end_value(end)
        if len(text) - start < _ENTERED_CHARACTERS:
            return 0
        opening = find_list(text, start)
        if opening is None or not opening.prefix.endswith("["):
            return 0
        return self._enter(text, start, opening, objects)

    def _enter(self, text: str, start: int, opening: ListStart, objects: list[bytes]) -> int:
        end = start + len(opening.prefix)
        raw = self._encode(text, start, end)
        objects.append(PageRest(raw + b"]" + b"}" * opening.open_objects))
        self._open_frames(_list_frames(opening.open_objects), start)
        return end

    def _open_frames(self, frames: list[_Frame], index: int) -> None:
        """Begin to read the elements of an array that `index` is the beginning of, or is inside of an object there."""
        if len(self._frames) + len(frames) > MAX_DEPTH:
            raise InvalidFile(f"an array is nested too deeply, {self._where(index)}", hint=EXTRACT_HINT)
        self._frames += frames
        self._state = "first"

    def _read_member(self, text: str, start: int, objects: list[bytes], *, is_last: bool) -> int:
        """Read a member of an object that was entered; 0 if it is not complete."""
        match = _MEMBER_NAME.match(text, start)
        if match is None:
            if is_last or len(text) - start > _ENTERED_CHARACTERS:
                raise InvalidFile(f"the JSON is damaged: expected the name of a member, {self._where(start)}")
            return 0
        value_at = match.end()
        if json.loads(match[1]) in IDENTIFYING_NAMES:
            raise InvalidFile(f"an object is both an event and a list of events, {self._where(start)}")
        if value_at == len(text):
            return self._wait(text, is_last=is_last)
        end = self._find_end(text, value_at, is_last=is_last)
        if end and (end < len(text) or is_last):  # a number may continue
            objects.append(PageRest(b"{" + self._encode(text, start, end) + b"}"))
            return self._end_value(end)
        if len(text) - value_at > _ENTERED_CHARACTERS:
            if _LIST_OF_OBJECTS.match(text, value_at):
                self._open_frames(["array"], value_at)
                return value_at + 1
            if text[value_at] == "{" and (opening := find_list(text, value_at)) and opening.prefix.endswith("["):
                return self._enter(text, value_at, opening, objects)
        return self._wait(text, is_last=is_last)

    def _wait(self, text: str, *, is_last: bool) -> int:
        if is_last:
            raise InvalidFile(f"the JSON is truncated, {self._where(len(text))}")
        return 0

    def _end_value(self, end: int) -> int:
        self._state = "comma" if self._frames else "object"
        return end

    def _find_end(self, text: str, start: int, *, is_last: bool) -> int:
        """Return where a value ends, 0 if the end has not been read yet."""
        try:
            return int(scan_value(text, start)[1])
        except RecursionError as error:
            raise InvalidFile(f"an object is nested too deeply, {self._where(start)}") from error
        except json.JSONDecodeError as error:
            is_unterminated = error.msg.startswith("Unterminated")
            if not is_last and (is_unterminated or error.pos > len(text) - _LOOKAHEAD_CHARACTERS):
                return 0
            is_at_end = error.pos >= len(text.rstrip()) - (_ESCAPE_CHARACTERS if "escape" in error.msg else 0)
            fault = "truncated" if is_unterminated or is_at_end else "damaged"
            message = f"{error.msg[0].lower()}{error.msg[1:]}".removesuffix(" at")
            raise InvalidFile(f"the JSON is {fault}: {message}, {self._where(max(error.pos, start))}") from error
        except ValueError as error:
            raise InvalidFile(f"this is not valid JSON: {error}, {self._where(start)}") from error

    def _encode(self, text: str, start: int, end: int) -> bytes:
        raw = text[start:end].encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            at = start + len(raw[: error.start].decode("utf-8", "surrogateescape"))
            raise InvalidFile(
                f"this is not UTF-8 but {describe_bytes(raw, error.start)}, {self._where(at)}",
                encoding=guess_encoding(raw),
            ) from error
        return raw

    def _read_mark(self, text: str, index: int, *, is_last: bool) -> int:
        """Read a bracket, a comma or a line between documents; return its end, 0 if it is not complete."""
        mark = text[index]
        match self._state, mark:
            case (("first" | "comma" | "error"), "]") if self._frames[-1] == "array":
                self._frames.pop()
                return self._end_value(index + 1)
            case "comma", "}" if self._frames[-1] == "object":
                self._frames.pop()
                return self._end_value(index + 1)
            case (("comma" | "error"), ","):
                self._state = "name" if self._frames[-1] == "object" else "element"
            case (("object" | "first" | "element" | "error"), "["):
                self._open_frames(["array"], index)
            case "object", "\ufeff":
                pass
            case (("object" | "first" | "element" | "error"), '"'):
                return self._skip_string(text, index, is_last=is_last)
            case _:
                return self._skip_line(text, index, is_last=is_last)
        return index + 1

    def _skip_string(self, text: str, index: int, *, is_last: bool) -> int:
        """Skip a string among the objects that is the text of an error; 0 if it is not complete."""
        end = self._find_end(text, index, is_last=is_last)
        if not end:
            return 0
        line = json.loads(text[index:end])
        if not is_error_text(line):
            raise InvalidFile(self._describe_mark(text, index))
        self._note_line(line, index)
        return self._end_value(end)

    def _skip_line(self, text: str, index: int, *, is_last: bool) -> int:
        """Skip a line that says that the program which wrote the file failed."""
        end = text.find("\n", index)
        if end < 0 and not is_last and len(text) - index < _ENTERED_CHARACTERS:
            return 0
        line = text[index : end if end >= 0 else len(text)]
        is_in_object = bool(self._frames) and self._frames[-1] == "object"
        if not self._offset + index or is_in_object or not is_error_text(line):
            raise InvalidFile(self._describe_mark(text, index))
        self._note_line(line, index)
        if self._frames:
            self._state = "error"
        return index + len(line)

    def _note_line(self, line: str, index: int) -> None:
        """Note the text of an error; reject one that may have an event in it, which would be lost."""
        if holds_events_as_text(line) or all(name in line for name in _CLOUD_EVENT_IN_TEXT):
            raise InvalidFile(f"the text of an error has an event in it, {self._where(index)}", hint=_ERROR_LINE_HINT)
        if len(self.skipped_lines) < _MAX_SKIPPED_LINES:
            self.skipped_lines.append(line.strip()[:_SHOWN_CHARACTERS])

    def _describe_mark(self, text: str, index: int) -> str:
        """Return what is wrong with a text that is neither an object nor the text of an error."""
        mark, where = text[index], self._where(index)
        if _SURROGATES[0] <= mark <= _SURROGATES[1]:
            byte = mark.encode("utf-8", "surrogateescape")
            return f"this is not UTF-8, byte 0x{byte.hex()}, {where}; a part of the file may be in another encoding"
        if self._state == "object":
            return f"{mark!r} does not begin a JSON object, {where}"
        if self._state == "comma":
            return f"expected a comma, found {mark!r}, {where}"
        return f"an element of the array is not a JSON object, {where}"

    def _check_end(self) -> None:
        if self._frames:
            words = "the array is truncated" if self._frames[-1] == "array" else "the file is truncated after the array"
            raise InvalidFile(f"{words}, {self._where(len(self._text))}")

    def _drop(self, text: str, index: int) -> None:
        self._offset += _count_bytes(text, index)
        self._line += text.count("\n", 0, index)
        self._text = text[index:]

    def _where(self, index: int) -> str:
        offset = self._offset + _count_bytes(self._text, index)
        return f"at byte {offset:,} (line {self._line + self._text.count(chr(10), 0, index):,})"


def is_error_text(text: str) -> bool:
    """Return whether a text begins as the message of a program that failed does."""
    return _ERROR_LINE.match(text) is not None


def holds_events_as_text(text: str) -> bool:
    """Return whether a text may have an event in it: the name of a field of events, escaped any number of times."""
    if "u00" in text:
        text = _ESCAPED_IN_TEXT.sub(lambda match: chr(int(match[1], 16)), text)
    return _NAME_IN_TEXT.search(text) is not None


def describe_bytes(raw: bytes, at: int) -> str:
    """Return what the bytes of a text that is not UTF-8 seem to be; `at` is the first that is not."""
    if _ENCODED_SURROGATE.match(raw, at):
        return f"holds half of a character (a surrogate, as CESU-8 has it), byte 0x{raw[at]:02x}"
    words = {"CP1252": "Windows-1252 (cp1252)", "ISO-8859-1": "Latin-1 (ISO 8859-1)"}
    return f"{words.get(guess_encoding(raw) or '', 'damaged')}, byte 0x{raw[at]:02x}"


def guess_encoding(raw: bytes) -> str | None:
    """Return iconv's name of the encoding that a text that is not UTF-8 seems to be in, if it is in one."""
    if _ENCODED_SURROGATE.search(raw):
        return None
    if any(ord(char) > _ASCII and not _SURROGATES[0] <= char <= _SURROGATES[1] for char in _decode(raw)):
        return None  # some of it is UTF-8: the text is damaged, not in another encoding
    try:
        raw.decode("cp1252")
    except UnicodeDecodeError:
        return "ISO-8859-1"
    return "CP1252"


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


class ListStart(NamedTuple):
    """Where the list of events in an object begins.

    `prefix` is the text up to and including its `[`, or the null in its place; `open_objects` is the number of objects
    around it.
    """

    prefix: str
    open_objects: int


def find_list(text: str, start: int = 0) -> ListStart | None:
    """Return where the list of events begins in the object at `start`, None if the text shows none."""
    end, open_objects = _find_list(text, start)
    return ListStart(text[start:end], open_objects) if end else None


def _find_list(text: str, start: int, *, is_inner: bool = False) -> tuple[int, int]:
    """Return where the beginning of the list ends, or 0, and the number of objects around it."""
    index = skip_white_space(text, start + 1)
    while text[index : index + 1] == '"':
        try:
            name, index = scan_value(text, index)
            if name in IDENTIFYING_NAMES:
                return 0, 0
            index = skip_white_space(text, index)
            if text[index : index + 1] != ":":
                return 0, 0
            index = skip_white_space(text, index + 1)
            if is_inner and name not in _LIST_SIBLINGS:
                return 0, 0
            if name in LIST_NAMES and text.startswith("[", index):
                return index + 1, 1
            if name in LIST_NAMES and text.startswith("null", index) and not is_inner:
                is_event = IDENTIFYING_NAMES.intersection(scan_value(text, start)[0])
                return (0, 0) if is_event else (index + 4, 1)
            if name == "data" and not is_inner and text.startswith("{", index):
                end, depth = _find_list(text, index, is_inner=True)
                return end, depth + 1
            index = skip_white_space(text, scan_value(text, index)[1])
        except (ValueError, RecursionError):
            return 0, 0
        if text[index : index + 1] != ",":
            return 0, 0
        index = skip_white_space(text, index + 1)
    return 0, 0


def _count_bytes(text: str, index: int) -> int:
    return index if text.isascii() else len(text[:index].encode("utf-8", "surrogateescape"))
