"""Half-open windows of whole UTC minutes, and how a long one is tiled.

Owns: the arithmetic of one window. Must not: know regions, the clock, or what was answered.

Invariants
- A window is never empty: `start < end`.
- The tiles of a window follow each other without hole or overlap and none is longer than asked.
"""

from __future__ import annotations

from collections.abc import Iterator
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
