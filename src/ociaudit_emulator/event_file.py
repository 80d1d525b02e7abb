"""A file of events that is served byte for byte: mapped into memory, split into events, and indexed.

The file is a JSON array of objects, or one object per line. Each event belongs to one target, and to the minute of
its `eventTime`, or to the minute of the event before it if it has none.

Invariants:
- the file is neither copied nor changed, and an event costs 20 bytes of memory;
- every element is an object; anything else stops the scan with its position;
- the events of a target are in the order of their minutes, those of a minute in the order of the file;
- each byte is decoded as one character, so that positions in the text are positions in the file, and whitespace,
  line breaks and lone surrogates inside an event do no harm.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ociaudit_emulator.event_store import NOTHING, START, Slice, Span, Target
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy
from ociaudit_emulator.time_formats import MS_PER_MINUTE, parse_time_ms

Buffer = bytes | mmap.mmap

_SPACE = frozenset(b" \t\r\n")
_OPEN, _CLOSE, _COMMA = b"[],"
_BRACE = ord("{")
_FIRST_WINDOW_BYTES = 16 * 1024
_LONGEST_LINE_BYTES = 1024 * 1024
# When each of the first elements is on a line of its own, the rest is split line by line, which is faster.
_PARSED_ELEMENTS = 200
_NO_BRACKETS = bytes(set(range(256)) - set(b"{}[]"))
_DECODER = json.JSONDecoder(strict=False)
_TIME_KEY = b'"eventTime"'
_TIME = re.compile(rb'"eventTime"\s*:\s*"([^"\\]*)"')
_COMPARTMENT = re.compile(rb'"compartmentId"\s*:\s*"([^"\\]*)"')
_MINUTE_LENGTH = len("2025-12-01T00:00")
_RELEASE_BYTES = 64 * 1024 * 1024


class EventFileError(Exception):
    """A file of events that cannot be served; the text ends in a hint."""


class ScanError(Exception):
    """A defect in a file of events; the text says where it is."""


@dataclass(slots=True)
class _TargetIndex:
    """The events of one target: their offsets and lengths in the file, and their minutes since 1970."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    minutes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, offset: int, length: int, minute: int) -> None:
        """Add an event."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.minutes.append(minute)

    def sort(self) -> None:
        """Sort the events by minute; the sort is stable."""
        minutes = self.minutes
        if all(minutes[at] <= minutes[at + 1] for at in range(len(minutes) - 1)):
            return
        order = sorted(range(len(minutes)), key=minutes.__getitem__)
        self.offsets = array("Q", [self.offsets[at] for at in order])
        self.lengths = array("I", [self.lengths[at] for at in order])
        self.minutes = array("q", [minutes[at] for at in order])


class EventFile:
    """The store of the events of a file."""

    def __init__(self, buffer: Buffer, index: Mapping[Target, _TargetIndex]) -> None:
        """Keep the mapped file and its index."""
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._index = index
        self._served_bytes = 0

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the span, from a position on (START for the first)."""
        found = self._index.get(target)
        if found is None:
            return NOTHING
        first = bisect_left(found.minutes, span.start_minute) if position == START else position
        end = bisect_left(found.minutes, span.end_minute)
        until = min(end, first + limit)
        view = self._view
        events = [
            view[offset : offset + length]
            for offset, length in zip(found.offsets[first:until], found.lengths[first:until], strict=True)
        ]
        self._served_bytes += sum(found.lengths[first:until])
        if self._served_bytes > _RELEASE_BYTES:
            self._served_bytes = 0
            _release_pages(self._buffer)
        return Slice(events, until if until < end else None, found.minutes[first:until])


def open_event_file(path: Path, tenancy: Tenancy, settings: Settings) -> EventFile:
    """Map a file of events into memory and index it.

    Raises: EventFileError when it cannot be read, or is neither a JSON array of objects nor NDJSON.
    """
    find_target = _make_target_finder(tenancy, settings)
    try:
        with path.open("rb") as file:
            is_empty = file.seek(0, 2) == 0
            buffer: Buffer = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return EventFile(buffer, _index_events(buffer, find_target))
    except OSError as error:
        message = f"--events {path}: {error.strerror}; choose a readable file"
        raise EventFileError(message) from error
    except ScanError as error:
        message = f"--events {path}: {error}; provide a JSON array of events, or one event per line"
        raise EventFileError(message) from error


def _index_events(buffer: Buffer, find_target: Callable[[bytes], Target]) -> dict[Target, _TargetIndex]:
    """Return an index of every event by its target.

    Raises: ScanError.
    """
    index: dict[Target, _TargetIndex] = {}
    minute, released = 0, 0
    for start, end in scan_events(buffer):
        event = buffer[start:end]
        minute = _read_minute(event, minute)
        index.setdefault(find_target(event), _TargetIndex()).add(start, end - start, minute)
        if end - released > _RELEASE_BYTES:
            released = end
            _release_pages(buffer)
    for found in index.values():
        found.sort()
    return index


def _release_pages(buffer: Buffer) -> None:
    """Release the memory of the mapped file; the system reads it again when needed."""
    if isinstance(buffer, mmap.mmap):
        buffer.madvise(mmap.MADV_DONTNEED)


def _make_target_finder(tenancy: Tenancy, settings: Settings) -> Callable[[bytes], Target]:
    """Return the function from an event to its target.

    Raises: EventFileError when a flag names an unknown region or compartment.
    """
    region = settings.events_region or HOME_REGION
    if region not in tenancy.region_by_name:
        message = (
            f"--events-region {region}: not a region of the tenancy; use one of {', '.join(tenancy.region_by_name)}"
        )
        raise EventFileError(message)
    targets = {one.encode(): Target(region, one) for one in tenancy.compartment_by_id}
    fixed = settings.events_compartment
    if fixed is not None:
        if fixed.encode() not in targets:
            message = f"--events-compartment {fixed}: not in the tenancy; /_emulator/tenancy lists the compartments"
            raise EventFileError(message)
        return lambda _event: targets[fixed.encode()]
    return lambda event: targets.get(_read_compartment(event, targets), targets[tenancy.id.encode()])


def _read_compartment(event: bytes, targets: Mapping[bytes, Target]) -> bytes:
    """Return an event's compartment; the event is parsed only if its text names several."""
    found = set(_COMPARTMENT.findall(event))
    if len(found) <= 1 or not found & targets.keys():
        return next(iter(found), b"")
    data = json.loads(event).get("data")
    return str(data.get("compartmentId", "") if isinstance(data, dict) else "").encode("utf-8", "replace")


def _read_minute(event: bytes, default: int) -> int:
    """Return the minute of an event's time; the event is parsed only if its text has several times."""
    if event.count(_TIME_KEY) == 1:
        found = _TIME.search(event)
        text = found[1].decode("latin-1") if found else ""
    else:
        text = str(json.loads(event).get("eventTime", ""))
    try:
        if text.endswith("Z"):
            return _parse_minute(text[:_MINUTE_LENGTH])
        return parse_time_ms(text) // MS_PER_MINUTE
    except ValueError:
        return default


@lru_cache(maxsize=4096)
def _parse_minute(text: str) -> int:
    """Return a UTC time without seconds as a minute since 1970."""
    return parse_time_ms(f"{text}:00Z") // MS_PER_MINUTE


def scan_events(buffer: Buffer) -> Iterator[tuple[int, int]]:
    """Yield the start and the end of each object in a JSON array, or in a sequence of objects.

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
    """Return the start of the array element after a comma."""
    if at >= len(buffer):
        message = f"the JSON array is not closed at the end of the file, byte {at}"
        raise ScanError(message)
    if buffer[at] != _COMMA:
        message = f"byte {at} should be a comma or the array's end"
        raise ScanError(message)
    return _skip_space(buffer, at + 1)


def _is_line(buffer: Buffer, start: int, end: int) -> bool:
    """Return whether an element is on a line of its own."""
    after = buffer[end : end + 4].lstrip(b" \t\r,")
    return buffer.find(b"\n", start, end) < 0 and after[:1] in {b"\n", b""}


def _find_line_end(buffer: Buffer, at: int) -> int:
    """Return the end of an element that is a line of its own; 0 when only a parser can decide.

    A JSON string cannot contain a line break. So a line that begins and ends as an object does, with all brackets
    in between balanced, is one object.
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
    """Parse the object that starts at a byte, and return its end.

    Raises: ScanError.
    """
    if at >= len(buffer) or buffer[at] != _BRACE:
        message = f"byte {at} should be the start of a JSON object"
        raise ScanError(message)
    window = _FIRST_WINDOW_BYTES
    while True:
        text = buffer[at : at + window].decode("latin-1")
        try:
            return at + int(_DECODER.raw_decode(text)[1])
        except json.JSONDecodeError as error:
            if at + window >= len(buffer):
                message = f"the object at byte {at} is not valid JSON: {error.msg}"
                raise ScanError(message) from error
            window *= 4
        except RecursionError as error:
            message = f"the object at byte {at} is nested too deeply"
            raise ScanError(message) from error


def _skip_space(buffer: Buffer, at: int) -> int:
    """Return the position of the next byte that is not whitespace."""
    while at < len(buffer) and buffer[at] in _SPACE:
        at += 1
    return at
