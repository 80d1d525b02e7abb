"""Readers of JSON in any layout: the objects of a stream, one by one, without loading the file.

`ObjectStream` reads every JSON input of `open_records`: the elements of an array, or objects that follow each other.
Objects in lines, one or several each, are split by msgspec. Any other layout, lone surrogates and everything that
msgspec rejects go through the standard library's scanner, which also locates errors.

Files in the program's own layout have faster readers, in `formats/json.py` and `reader.read_plain_lines`.

Invariants
- A reader yields every object exactly once, in order, byte for byte, or raises `InvalidFile` with the byte (and, where
  it is known, the line) at which the file goes wrong.
- What it yields is valid JSON in UTF-8.
- Memory holds one piece of the file and one object.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from itertools import chain
from operator import methodcaller
from typing import Literal, NamedTuple

import msgspec

from ociaudit.events.event import scan_value, skip_white_space
from ociaudit.events.field_naming import IDENTIFYING_NAMES
from ociaudit.formats.base import InvalidFile

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
        tried_bytes = 0
        scanner = self._scanner
        for piece in self._pieces:
            held += piece
            if len(held) < 2 * tried_bytes:
                continue
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
        yield from self._scan_rest(held)

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
        self._frames += _list_frames(opening.open_objects)
        self._state = "first"
        return end

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
                self._frames.append("array")
                self._state = "first"
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
                self._frames.append("array")
                self._state = "first"
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
        self._note_line(line)
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
        self._note_line(line)
        if self._frames:
            self._state = "error"
        return index + len(line)

    def _note_line(self, line: str) -> None:
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
