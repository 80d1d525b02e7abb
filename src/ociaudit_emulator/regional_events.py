"""Events of several regions, each region's from a source of its own.

Owns: which source answers for which region.
Must not: know how a source makes or finds its events.
"""

from __future__ import annotations

from collections.abc import Mapping

from ociaudit_emulator.event_source import EventSource, Place, Slice, Span


class RegionalEvents:
    """A source made of one for each region; a region without one has no events."""

    def __init__(self, sources: Mapping[str, EventSource]) -> None:
        """Keep the sources by region."""
        self._sources = sources

    def read(self, place: Place, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        source = self._sources.get(place.region)
        return Slice((), None) if source is None else source.read(place, span, position, limit)
