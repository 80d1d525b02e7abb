"""Lines of JSON: an event per line, each line ended by a line break.

Owns: that form. Invariant: a file of no events is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ociaudit.formats.spelling import Spelling
from ociaudit.plan.shard import Place


class Ndjson:
    """Writes events as lines of JSON."""

    def __init__(self, spelling: Spelling) -> None:
        """Write events as `spelling` says."""
        self._spell = spelling.spell

    def begin(self) -> bytes:
        """Nothing stands before the first event."""
        return b""

    def write(self, raws: Sequence[bytes], origins: Sequence[Place | None]) -> bytes:
        """Return the events' lines."""
        return b"\n".join([*self._spell(raws, origins), b""])

    def finish(self) -> Iterator[bytes]:
        """Nothing stands behind the last event."""
        yield b""

    def close(self) -> None:
        """Nothing is held."""
