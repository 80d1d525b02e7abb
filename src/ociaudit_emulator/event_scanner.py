"""Cuts a file of events into its events, without changing a byte.

Owns: where in a JSON array or in NDJSON each element begins and ends.
Must not: interpret an event, or hold more than one in memory.

Invariants:
- every element is an object; anything else stops with the place of the fault;
- a file whose first elements, all parsed, are a line each is cut line by line from then on, which is
  quicker; a line whose brackets do not pair up is parsed all the same;
- white space, line breaks and lone surrogates inside an element do no harm: each byte is taken
  for one character, so that places in the text are places in the file.
"""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator

Buffer = bytes | mmap.mmap

_SPACE = frozenset(b" \t\r\n")
_OPEN, _CLOSE, _COMMA = b"[],"
_BRACE = ord("{")
_FIRST_WINDOW_BYTES = 16 * 1024
_LONGEST_LINE_BYTES = 1024 * 1024
_PARSED_ELEMENTS = 200
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_DECODER = json.JSONDecoder(strict=False)


class ScanError(Exception):
    """The file is not what it should be at some place; the text says which and why."""


def scan_events(buffer: Buffer) -> Iterator[tuple[int, int]]:
    """Find where each object of a JSON array, or of a row of objects, begins and ends.

    Raises: ScanError.
    """
    at = _skip_space(buffer, 0)
    is_array = at < len(buffer) and buffer[at] == _OPEN
    if is_array:
        at = _skip_space(buffer, at + 1)
        if buffer[at : at + 1] == b"]":
            return
    number, is_by_line = 0, True
    while at < len(buffer) or is_array:
        if number < _PARSED_ELEMENTS:
            end = _find_element_end(buffer, at)
            number, is_by_line = number + 1, is_by_line and _is_line(buffer, at, end)
        else:
            end = (_find_line_end(buffer, at) if is_by_line else 0) or _find_element_end(buffer, at)
        yield at, end
        at = _skip_space(buffer, end)
        if is_array:
            if buffer[at : at + 1] == b"]":
                return
            at = _skip_comma(buffer, at)


def _skip_comma(buffer: Buffer, at: int) -> int:
    """Step over the comma between two elements of an array."""
    if at >= len(buffer):
        message = f"the JSON array is not closed at the end of the file, byte {at}"
        raise ScanError(message)
    if buffer[at] != _COMMA:
        message = f"byte {at} should be a comma or the array's end"
        raise ScanError(message)
    return _skip_space(buffer, at + 1)


def _is_line(buffer: Buffer, start: int, end: int) -> bool:
    """Say whether an element stands on a line of its own."""
    after = buffer[end : end + 4].lstrip(b" \t\r,")
    return buffer.find(b"\n", start, end) < 0 and after[:1] in {b"\n", b""}


def _find_line_end(buffer: Buffer, at: int) -> int:
    """Find the end of an element that is a line of its own; 0 when a real parse must decide.

    A line break cannot stand inside a JSON string, so a line that begins and ends as an object does,
    with all brackets between paired, is one.
    """
    line_end = buffer.find(b"\n", at, at + _LONGEST_LINE_BYTES)
    line = buffer[at:line_end].rstrip(b" \t\r,") if line_end >= 0 else b""
    if not (line.startswith(b"{") and line.endswith(b"}")):
        return 0
    inside = line.translate(None, _NO_BRACKETS)[1:-1]
    length = len(inside) + 1
    while len(inside) < length:
        length = len(inside)
        inside = inside.replace(b"[]", b"").replace(b"{}", b"")
    return 0 if inside else at + len(line)


def _find_element_end(buffer: Buffer, at: int) -> int:
    """Find the end of the object that begins at a byte, by parsing it.

    Raises: ScanError.
    """
    if at >= len(buffer) or buffer[at] != _BRACE:
        message = f"byte {at} should begin a JSON object"
        raise ScanError(message)
    window = _FIRST_WINDOW_BYTES
    while True:
        text = buffer[at : at + window].decode("latin-1")
        try:
            return at + int(_DECODER.raw_decode(text)[1])
        except json.JSONDecodeError as error:
            if at + window >= len(buffer):
                message = f"the object that begins at byte {at} is no JSON: {error.msg}"
                raise ScanError(message) from error
            window *= 4
        except RecursionError as error:
            message = f"the object that begins at byte {at} nests too deeply"
            raise ScanError(message) from error


def _skip_space(buffer: Buffer, at: int) -> int:
    """Find the next byte that is no white space."""
    while at < len(buffer) and buffer[at] in _SPACE:
        at += 1
    return at
