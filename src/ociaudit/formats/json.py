"""One JSON array: a line `[`, an event per line with a comma behind every one but the last, a line `]`.

Owns: that form. Invariant: the file is valid JSON for any number of events, none included.

Lines of JSON: an event per line, each line ended by a line break.

Owns: that form. Invariant: a file of no events is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ociaudit.formats.base import EventShape
from ociaudit.planning.shard import Target


class JsonArray:
    """Writes events as one JSON array."""

    def __init__(self, spelling: EventShape | None = None) -> None:
        """Begin before the first event; without a spelling events stay as they are."""
        self._apply = (spelling or EventShape()).apply
        self._is_first = True

    def begin(self) -> bytes:
        """Open the array."""
        return b"[\n"

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' lines; the line break of the last one waits for what follows it."""
        lead = b"" if self._is_first else b",\n"
        self._is_first = False
        return lead + b",\n".join(self._apply(raws, origins))

    def finish(self) -> Iterator[bytes]:
        """Close the array."""
        yield b"]\n" if self._is_first else b"\n]\n"

    def close(self) -> None:
        """Nothing is held."""


class Ndjson:
    """Writes events as lines of JSON."""

    def __init__(self, spelling: EventShape) -> None:
        """Write events as `spelling` says."""
        self._apply = spelling.apply

    def begin(self) -> bytes:
        """Nothing stands before the first event."""
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' lines."""
        return b"\n".join([*self._apply(raws, origins), b""])

    def finish(self) -> Iterator[bytes]:
        """Nothing stands behind the last event."""
        yield b""

    def close(self) -> None:
        """Nothing is held."""
