"""Given events served byte for byte: a file, mapped into memory, and an index of its events.

Owns: which event of the file belongs to which place and minute.
Must not: copy the file, or write any event anew.

Invariants:
- each event is in one place, in the minute of its `eventTime`, or of the event before it without one;
- the events of a place are in the order of their minutes, those of a minute in the order of the file;
- an event costs 20 bytes of memory.
"""

from __future__ import annotations

import json
import mmap
import re
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.event_scanner import Buffer, ScanError, scan_events
from ociaudit_emulator.event_source import START, Place, Slice, Span
from ociaudit_emulator.instants import MS_PER_MINUTE, parse_instant_ms
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

_TIME_KEY = b'"eventTime"'
_TIME = re.compile(rb'"eventTime"\s*:\s*"([^"\\]*)"')
_COMPARTMENT = re.compile(rb'"compartmentId"\s*:\s*"([^"\\]*)"')
_MINUTE_LENGTH = len("2025-12-01T00:00")
_RELEASE_BYTES = 64 * 1024 * 1024


class EventFileError(Exception):
    """A file of events that cannot be served; the text says what to do."""


@dataclass(slots=True)
class _PlaceIndex:
    """The events of one place: where each stands in the file, and its minute."""

    offsets: array[int] = field(default_factory=lambda: array("Q"))
    lengths: array[int] = field(default_factory=lambda: array("I"))
    minutes: array[int] = field(default_factory=lambda: array("q"))

    def add(self, offset: int, length: int, minute: int) -> None:
        """Add an event."""
        self.offsets.append(offset)
        self.lengths.append(length)
        self.minutes.append(minute)

    def sort(self) -> None:
        """Bring the events into the order of their minutes."""
        minutes = self.minutes
        if all(minutes[at] <= minutes[at + 1] for at in range(len(minutes) - 1)):
            return
        order = sorted(range(len(minutes)), key=minutes.__getitem__)
        self.offsets = array("Q", [self.offsets[at] for at in order])
        self.lengths = array("I", [self.lengths[at] for at in order])
        self.minutes = array("q", [minutes[at] for at in order])


class EventFile:
    """The source of given events."""

    def __init__(self, buffer: Buffer, index: Mapping[Place, _PlaceIndex]) -> None:
        """Keep the mapped file and its index."""
        self._buffer = buffer
        self._view = memoryview(buffer)
        self._index = index
        self._served_bytes = 0

    def read(self, place: Place, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        found = self._index.get(place)
        if found is None:
            return Slice((), None)
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
            release_pages(self._buffer)
        return Slice(events, until if until < end else None)


def open_event_file(path: Path, tenancy: Tenancy, behaviour: Behaviour) -> EventFile:
    """Map a file of events into memory and index it.

    Raises: EventFileError when it cannot be read or is no JSON array or NDJSON of objects.
    """
    find_place = _make_place_finder(tenancy, behaviour)
    try:
        with path.open("rb") as file:
            is_empty = file.seek(0, 2) == 0
            buffer: Buffer = b"" if is_empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return EventFile(buffer, index_events(buffer, find_place))
    except OSError as error:
        message = f"--events {path}: {error.strerror}; name a file that can be read"
        raise EventFileError(message) from error
    except ScanError as error:
        message = f"--events {path}: {error}; give a JSON array of events, or one event per line"
        raise EventFileError(message) from error


def index_events(buffer: Buffer, find_place: Callable[[bytes], Place]) -> dict[Place, _PlaceIndex]:
    """Find every event's place and minute.

    Raises: ScanError.
    """
    index: dict[Place, _PlaceIndex] = {}
    minute, released = 0, 0
    for start, end in scan_events(buffer):
        event = buffer[start:end]
        minute = _read_minute(event, minute)
        index.setdefault(find_place(event), _PlaceIndex()).add(start, end - start, minute)
        if end - released > _RELEASE_BYTES:
            released = end
            release_pages(buffer)
    for found in index.values():
        found.sort()
    return index


def release_pages(buffer: Buffer) -> None:
    """Let the system take back the memory that the mapped file takes; it is read again when needed."""
    if isinstance(buffer, mmap.mmap):
        buffer.madvise(mmap.MADV_DONTNEED)


def _make_place_finder(tenancy: Tenancy, behaviour: Behaviour) -> Callable[[bytes], Place]:
    """Make the function that finds an event's place.

    Raises: EventFileError when a flag names an unknown place.
    """
    region = behaviour.events_region or HOME_REGION
    if region not in tenancy.region_by_name:
        message = f"--events-region {region}: not a region of the tenancy; {', '.join(tenancy.region_by_name)} are"
        raise EventFileError(message)
    places = {one.encode(): Place(region, one) for one in tenancy.compartment_by_id}
    fixed = behaviour.events_compartment
    if fixed is not None:
        if fixed.encode() not in places:
            message = f"--events-compartment {fixed}: not in the tenancy; /_emulator/tenancy lists what is"
            raise EventFileError(message)
        return lambda _event: places[fixed.encode()]
    return lambda event: places.get(_read_compartment(event, places), places[tenancy.id.encode()])


def _read_compartment(event: bytes, places: Mapping[bytes, Place]) -> bytes:
    """Read an event's compartment; when the text names several, parse to know the right one."""
    found = set(_COMPARTMENT.findall(event))
    if len(found) <= 1 or not found & places.keys():
        return next(iter(found), b"")
    data = json.loads(event).get("data")
    return str(data.get("compartmentId", "") if isinstance(data, dict) else "").encode("utf-8", "replace")


def _read_minute(event: bytes, default: int) -> int:
    """Read the minute of an event's time; when the text has several, parse to know the right one."""
    if event.count(_TIME_KEY) == 1:
        found = _TIME.search(event)
        text = found[1].decode("latin-1") if found else ""
    else:
        text = str(json.loads(event).get("eventTime", ""))
    try:
        if text.endswith("Z"):
            return _parse_minute(text[:_MINUTE_LENGTH])
        return parse_instant_ms(text) // MS_PER_MINUTE
    except ValueError:
        return default


@lru_cache(maxsize=4096)
def _parse_minute(text: str) -> int:
    """Read a time without its seconds, in UTC."""
    return parse_instant_ms(f"{text}:00Z") // MS_PER_MINUTE
