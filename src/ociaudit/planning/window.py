"""Half-open windows of whole UTC minutes, and coverage: the union of the windows answered for one target.

Invariants
- A window is never empty: `start < end`.
- The tiles of a window are consecutive, without holes or overlaps, and none is longer than the given maximum.
- The windows of a coverage are sorted, disjoint and not adjacent.
- The missing and the covered parts of a window make up the window, wherever the boundaries of the shards were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

import msgspec

MINUTES_PER_DAY = 24 * 60
SETTLE_MINUTES = 15
"""Events usually show up within 15 minutes of being processed; a window requested earlier may still grow."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)


class Window(msgspec.Struct, frozen=True, order=True, array_like=True):
    """`[start, end)` in whole minutes since 1970-01-01T00:00Z."""

    start: int
    end: int

    def __post_init__(self) -> None:
        """Reject an empty window; creating one is a bug."""
        if self.start >= self.end:
            raise ValueError(f"empty window: {self.start} is not before {self.end}")

    def __str__(self) -> str:
        """Return both ends in RFC 3339."""
        return f"{format_minute(self.start)} .. {format_minute(self.end)}"

    @property
    def minutes(self) -> int:
        """Return the length in minutes."""
        return self.end - self.start


def tile_window(window: Window, max_minutes: int) -> Iterator[Window]:
    """Yield consecutive windows of at most `max_minutes` that make up `window`."""
    for start in range(window.start, window.end, max_minutes):
        yield Window(start, min(start + max_minutes, window.end))


def floor_minute(moment: datetime) -> int:
    """Return the minute that contains a timezone-aware datetime."""
    return (moment - _EPOCH) // _MINUTE


def format_second(moment: datetime) -> str:
    """Write a UTC time as RFC 3339, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_minute(minute: int) -> str:
    """Return a minute in the form that the API expects: `2025-12-01T08:00:00Z`."""
    moment = _EPOCH + minute * _MINUTE
    return moment.replace(tzinfo=None).isoformat() + "Z"  # strftime writes the year 999 with three digits


def parse_minute(text: str) -> int:
    """Return the minute that `format_minute` wrote.

    Raises:
        ValueError: the text is not in that form.
    """
    return floor_minute(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC))


class Coverage:
    """The union of the windows answered for one target."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        """Start with the union of `windows`."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for window in windows:
            self.add(window)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Return the merged windows, in time order."""
        return tuple(map(Window, self._starts, self._ends))

    def add(self, window: Window) -> None:
        """Add a window; adjacent and overlapping windows become one."""
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
        """Return a copy of this coverage without the minutes of `window`."""
        return Coverage(part for own in self.windows for part in Coverage([window]).find_missing(own))
