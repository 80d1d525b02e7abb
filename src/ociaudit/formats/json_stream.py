"""JSON objects cut out of a stream: the elements of an array, or objects one behind the other.

Owns: where an object begins and ends, and what may stand between. Must not: know what an object means.

Whatever stands in lines, an object or more in each, is cut by msgspec. Any other layout, lone surrogates and
whatever msgspec refuses go through the standard library's scanner, which also finds the place of a mistake.

Invariants
- Every object comes out once, in order, to the byte; or `BadFile` says from which byte and line on it goes wrong.
- What comes out is valid JSON in UTF-8.
- One piece and one object are held.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from itertools import chain
from operator import methodcaller
from typing import Literal

import msgspec

from ociaudit.events.page import scan_value, skip_white_space
from ociaudit.formats.unpacking import BadFile

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
            objects = _cut_array(body) if self._layout == "array" else _cut_lines(bytes(body))
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


def _cut_array(body: bytes | memoryview) -> list[bytes] | None:
    """Cut elements with commas between them; None where they are no objects, or not for msgspec."""
    array = b"".join((b"[", body, b"]"))
    try:
        if not array.isascii():
            array.decode("utf-8")  # msgspec does not look into what it only cuts
        objects = list(map(bytes, _raw_decoder.decode(array)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return objects if objects and all(map(_is_object, objects)) else None


def _cut_lines(body: bytes) -> list[bytes] | None:
    """Cut lines that hold an object each, or nothing."""
    lines = [line for line in map(bytes.strip, body.split(b"\n")) if line]
    objects = _cut_array(b",".join(lines)) if lines else []
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
                place = self._where(max(error.pos, start))
                raise BadFile(f"the JSON {what}: {error.msg[0].lower()}{error.msg[1:]}, {place}") from error
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
