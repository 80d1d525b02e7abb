"""One JSON array: a line `[`, an event per line with a comma behind every one but the last, a line `]`.

Owns: that form. Invariant: the file is valid JSON for any number of events, none included.
"""

from __future__ import annotations

from collections.abc import Sequence


class JsonArray:
    """Writes events as one JSON array."""

    def __init__(self) -> None:
        """Begin before the first event."""
        self._is_first = True

    def begin(self) -> bytes:
        """Open the array."""
        return b"[\n"

    def write(self, events: Sequence[bytes]) -> bytes:
        """Return the events' lines; the line break of the last one waits for what follows it."""
        lead = b"" if self._is_first else b",\n"
        self._is_first = False
        return lead + b",\n".join(events)

    def finish(self) -> bytes:
        """Close the array."""
        return b"]\n" if self._is_first else b"\n]\n"
