"""A block of lines looked at in one pass: is all of it in order, and valid?

Owns: telling a block in which nothing stands out from one that needs a closer look. Must not: judge the latter.

Nearly every block is ordinary: its times have milliseconds and end with `Z`, its ids are there, and each line is
greater than the one before it. Then time and id as text compare as `Event.order` does, and no event has to be made.

Invariants
- A block that passes holds one JSON object in UTF-8 per line, in strictly ascending order.
- Whatever is unusual is "no", never an error: a block that does not pass may be sound all the same.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import lt
from typing import NamedTuple

import msgspec

from ociaudit.events.event import Event, encode_order
from ociaudit.events.fields import UNREADABLE_INSTANT, read_instant
from ociaudit.formats.array_reader import LineBlock

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
