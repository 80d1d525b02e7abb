"""Events that are processed by now: the future is not served.

Owns: the present as the emulator sees it, and the cut that it makes in a source.
Must not: make events.
"""

from __future__ import annotations

from collections.abc import Callable

from ociaudit_emulator.event_source import EventSource, Place, Slice, Span
from ociaudit_emulator.instants import MS_PER_MINUTE


class Present:
    """The emulator's now: the machine's clock, or a moment that does not move."""

    def __init__(self, read_clock_seconds: Callable[[], float], fixed_ms: int | None) -> None:
        """Keep the clock, and the moment that stands in for it if there is one."""
        self._read_clock_seconds = read_clock_seconds
        self._fixed_ms = fixed_ms

    def read_ms(self) -> int:
        """Give now in milliseconds since 1970."""
        return int(self._read_clock_seconds() * 1000) if self._fixed_ms is None else self._fixed_ms

    def read_minute(self) -> int:
        """Give the minute that is running now, since 1970."""
        return self.read_ms() // MS_PER_MINUTE


class VisibleEvents:
    """A source without its future: the running minute and everything after it is empty."""

    def __init__(self, source: EventSource, present: Present) -> None:
        """Wrap a source."""
        self._source = source
        self._present = present

    def read(self, place: Place, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the past part of the span."""
        end_minute = min(span.end_minute, self._present.read_minute())
        if end_minute <= span.start_minute:
            return Slice((), None)
        return self._source.read(place, Span(span.start_minute, end_minute), position, limit)
