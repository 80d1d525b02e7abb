"""Half-open windows of whole UTC minutes, and how a long one is tiled.

Owns: the arithmetic of one window. Must not: know regions, the clock, or what was answered.

Invariants
- A window is never empty: `start < end`.
- The tiles of a window follow each other without hole or overlap and none is longer than asked.

Interval arithmetic: which minutes of a place have been answered complete.

Owns: unions and differences of windows. Must not: know why a window was or was not answered.

Invariants
- The windows of a coverage are sorted, disjoint and not adjacent.
- `missing(range) + covered part of range == range`, whatever the boundaries of the shards were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

MINUTES_PER_DAY = 24 * 60
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


class Window(msgspec.Struct, frozen=True, order=True, array_like=True):
    """`[start, end)` in whole minutes since 1970-01-01T00:00Z."""

    start: int
    end: int

    def __post_init__(self) -> None:
        """Refuse an empty window; planning one is a bug."""
        if self.start >= self.end:
            raise ValueError(f"empty window: {self.start} is not before {self.end}")

    def __str__(self) -> str:
        """Show both ends in RFC 3339."""
        return f"{format_minute(self.start)} .. {format_minute(self.end)}"

    @property
    def minutes(self) -> int:
        """Length in minutes."""
        return self.end - self.start


def tile_window(window: Window, max_minutes: int) -> Iterator[Window]:
    """Yield consecutive windows of at most `max_minutes` that make up `window`."""
    for start in range(window.start, window.end, max_minutes):
        yield Window(start, min(start + max_minutes, window.end))


def floor_minute(moment: datetime) -> int:
    """Return the minute that holds an aware datetime."""
    return (moment - _EPOCH) // _MINUTE


def format_minute(minute: int) -> str:
    """Write a minute as the API wants it: `2025-12-01T08:00:00Z`."""
    moment = _EPOCH + minute * _MINUTE
    return moment.replace(tzinfo=None).isoformat() + "Z"  # strftime writes the year 999 with three digits


def parse_minute(text: str) -> int:
    """Read what `format_minute` wrote.

    Raises:
        ValueError: the text is not in that form.
    """
    return floor_minute(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC))


class Coverage:
    """A union of windows of one place (region and compartment)."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        """Begin with the union of `windows`."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for window in windows:
            self.add(window)

    @property
    def windows(self) -> tuple[Window, ...]:
        """The merged windows, in time order."""
        return tuple(map(Window, self._starts, self._ends))

    def add(self, window: Window) -> None:
        """Count a window as answered; touching windows become one."""
        low = bisect_left(self._ends, window.start)
        high = bisect_right(self._starts, window.end)
        start, end = window.start, window.end
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def find_missing(self, window: Window) -> tuple[Window, ...]:
        """Return the parts of `window` that are not covered, in time order."""
        missing: list[Window] = []
        position = window.start
        for index in range(bisect_right(self._ends, window.start), len(self._starts)):
            start, end = self._starts[index], self._ends[index]
            if start >= window.end:
                break
            if start > position:
                missing.append(Window(position, start))
            position = max(position, end)
        if position < window.end:
            missing.append(Window(position, window.end))
        return tuple(missing)

    def without(self, window: Window) -> Coverage:
        """Return this coverage less a window."""
        return Coverage(part for own in self.windows for part in Coverage([window]).find_missing(own))
