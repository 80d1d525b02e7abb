"""Readers of JSON in any layout: the objects of a stream, one by one, without loading the file.

Two readers serve two purposes:

- `ObjectStream` reads every JSON input of `open_records`: the elements of an array, or objects that follow each other.
  Objects in lines, one or several each, are split by msgspec. Any other layout, lone surrogates and everything that
  msgspec rejects go through the standard library's scanner, which also locates errors.
- `read_any_array` reads one array for `diff`, element by element, with the byte at which each begins.

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
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import methodcaller
from typing import Literal, NamedTuple

import msgspec

from ociaudit.events.event import BadPage, Event, read_event, scan_value, skip_white_space
from ociaudit.formats.base import InvalidFile

Layout = Literal["array", "stream"]
_State = Literal["first", "element", "comma", "object", "end"]

_MAX_OBJECT_CHARACTERS = 64 * 1024 * 1024
_MAX_TAIL_CHARACTERS = 16 * 1024 * 1024
_LOOKAHEAD_CHARACTERS = 64
"""An error further than this from the end of the text stays an error, whatever follows."""
_ESCAPE_CHARACTERS = len("\\u0000")
_MAX_BYTES_WITHOUT_SEPARATOR: dict[Layout, int] = {"array": 1024 * 1024, "stream": _MAX_OBJECT_CHARACTERS}
_SEPARATORS: dict[Layout, bytes] = {"array": b",\n", "stream": b"\n"}

_is_object = methodcaller("startswith", b"{")
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class ObjectStream:
    """The objects of a stream, in batches; iterate it once."""

    def __init__(self, pieces: Iterator[bytes], layout: Layout, *, offset: int = 0, line: int = 1) -> None:
        """Start after an array's `[`, or before the first object of a stream; `offset` and `line` are that position."""
        self._pieces = pieces
        self._layout = layout
        self._separator = _SEPARATORS[layout]
        self._scanner = _Scanner("first" if layout == "array" else "object", offset, line)

    @property
    def tail(self) -> str:
        """What follows the array's end, once all objects have been read."""
        return self._scanner.tail

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
                objects = scanner.read(held[:end].decode("utf-8", "surrogateescape"))
                if not scanner.is_between_objects:
                    held = held[end:]
                    yield objects
                    break
                scanner.skip(len(self._separator), line_count=1)
            else:
                line_count = held.count(b"\n", 0, end) + 1 if self._layout == "stream" else None
                scanner.skip(end + len(self._separator), line_count=line_count)
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


class _Scanner:
    """Receives text as it is read and returns the objects that are complete."""

    def __init__(self, state: _State, offset: int, line: int) -> None:
        self._state = state
        self._text = ""
        self._tried = 0
        self._offset = offset
        self._line: int | None = line
        self.tail = ""

    @property
    def is_between_objects(self) -> bool:
        """Whether no text is held, and the next object or the array's end is expected."""
        return not self._text and self._state in {"comma", "object"}

    def skip(self, byte_count: int, *, line_count: int | None) -> None:
        """Count what was read without the scanner, including the separator after it.

        Without a count of lines, errors name no line from then on; in an array the byte is enough.
        """
        self._offset += byte_count
        self._line = None if line_count is None or self._line is None else self._line + line_count
        if self._state != "object":
            self._state = "element"

    def read(self, text: str, *, is_last: bool = False) -> list[bytes]:
        """Add text and return the objects that are complete now."""
        self._text += text
        if self._is_over():
            self._add_to_tail()
            return []
        if len(self._text) < 2 * self._tried and not is_last:
            return []  # scanning a large object again at each piece would take quadratic time
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
                self._read_mark(text, start)
                index = start + 1
        self._drop(text, index if self._is_over() else start)
        self._tried = len(self._text)
        if self._is_over():
            self._add_to_tail()
        elif is_last:
            self._check_end()
        elif len(self._text) > _MAX_OBJECT_CHARACTERS:
            raise InvalidFile(f"an object is longer than 64 MiB, {self._where(0)}")
        return objects

    def _is_over(self) -> bool:
        return self._state == "end"

    def _find_end(self, text: str, start: int, *, is_last: bool) -> int:
        """Return where an object ends, 0 if the end has not been read yet."""
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
            message = f"{error.msg[0].lower()}{error.msg[1:]}"
            raise InvalidFile(f"the JSON is {fault}: {message}, {self._where(max(error.pos, start))}") from error
        except ValueError as error:
            raise InvalidFile(f"this is not valid JSON: {error}, {self._where(start)}") from error

    def _encode(self, text: str, start: int, end: int) -> bytes:
        raw = text[start:end].encode("utf-8", "surrogateescape")
        try:
            raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise InvalidFile(f"this is not UTF-8, {self._where(start)}") from error
        return raw

    def _read_mark(self, text: str, index: int) -> None:
        match self._state, text[index]:
            case (("first" | "comma"), "]"):
                self._state = "end"
            case "comma", ",":
                self._state = "element"
            case "object", mark:
                raise InvalidFile(f"{mark!r} does not begin a JSON object, {self._where(index)}")
            case "comma", mark:
                raise InvalidFile(f"expected a comma, found {mark!r}, {self._where(index)}")
            case _:
                raise InvalidFile(f"an element of the array is not a JSON object, {self._where(index)}")

    def _add_to_tail(self) -> None:
        self.tail += self._text
        self._text = ""
        if len(self.tail) > _MAX_TAIL_CHARACTERS:
            raise InvalidFile(f"too much data follows the end of the array, {self._where(0)}")

    def _check_end(self) -> None:
        if self._state != "object":
            raise InvalidFile(f"the array is truncated, {self._where(len(self._text))}")

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


class LocatedEvents(NamedTuple):
    """Consecutive events of a file, with the byte at which each begins."""

    events: list[Event]
    offsets: list[int]


def read_any_array(chunks: Iterable[bytes], shape: str) -> Iterator[LocatedEvents]:
    """Yield the events of a JSON array in any layout, whose fields are in the given shape.

    Raises:
        InvalidFile: the bytes are not a JSON array of objects.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    splitter = _ElementSplitter(shape)
    for chunk in chain(filter(None, chunks), [b""]):  # the empty one is the end
        try:
            splitter.add(decoder.decode(chunk, final=not chunk))
        except UnicodeDecodeError as error:
            raise InvalidFile("this is not UTF-8", splitter.offset) from error
        batch = splitter.split()
        if batch.events:
            yield batch
    splitter.finish()


class _ElementSplitter:
    """Receives the text of an array as it is read and returns the elements that are complete."""

    def __init__(self, shape: str) -> None:
        self._shape = shape
        self._text = ""
        self._expected: Literal["[", "first", "comma", "element", "end"] = "["
        self.offset = 0
        """The byte of the file at which the held text begins."""

    def add(self, text: str) -> None:
        if len(self._text) > _MAX_OBJECT_CHARACTERS:
            raise InvalidFile("this is not valid JSON", self.offset)
        self._text += text

    def split(self) -> LocatedEvents:
        batch = LocatedEvents([], [])
        text, index = self._text, 0
        while (start := skip_white_space(text, index)) < len(text):
            self.offset += start - index
            index = start
            if self._expected in {"first", "element"} and text[start] == "{":
                try:
                    end = scan_value(text, start)[1]
                except (ValueError, RecursionError):
                    break  # incomplete, or invalid: `finish` and `add` raise
                raw = text[start:end].encode("utf-8")
                batch.events.append(_read_element(raw, self._shape, self.offset))
                batch.offsets.append(self.offset)
                self.offset += len(raw)
                index = end
                self._expected = "comma"
            else:
                self._read_mark(text[start])
                self.offset += 1
                index = start + 1
        else:
            self.offset += start - index
            index = start
        self._text = text[index:]
        return batch

    def finish(self) -> None:
        if self._expected != "end":
            raise InvalidFile("the array is truncated, or this is not valid JSON", self.offset)

    def _read_mark(self, mark: str) -> None:
        match self._expected, mark:
            case "[", "[":
                self._expected = "first"
            case (("first" | "comma"), "]"):
                self._expected = "end"
            case "comma", ",":
                self._expected = "element"
            case "[", _:
                raise InvalidFile("this is not a JSON array", self.offset)
            case _:
                raise InvalidFile(f"unexpected {mark!r}", self.offset)


def _read_element(raw: bytes, shape: str, offset: int) -> Event:
    try:
        return read_event(raw, shape)
    except BadPage as error:
        raise InvalidFile(f"this is not an event: {error}", offset) from error
