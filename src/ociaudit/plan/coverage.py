"""Interval arithmetic: which minutes of a place have been answered complete.

Owns: unions and differences of windows. Must not: know why a window was or was not answered.

Invariants
- The windows of a coverage are sorted, disjoint and not adjacent.
- `missing(range) + covered part of range == range`, whatever the boundaries of the shards were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from ociaudit.plan.window import Window


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
