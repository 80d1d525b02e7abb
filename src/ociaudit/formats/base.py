"""What every format is: something that takes events in order and writes bytes.

Owns: the interface. Each implementation is a file of its own; one contract suite runs over all.

Invariants
- `begin`, any number of `write`, then `finish`; the bytes returned, one behind the other, are the file.
- Nothing is kept but what the next call needs: memory does not grow with the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class EventFormat(Protocol):
    """Turns events (JSON objects, one line each) into the bytes of a file."""

    def begin(self) -> bytes:
        """Return the bytes before the first event."""
        ...

    def write(self, events: Sequence[bytes]) -> bytes:
        """Return the bytes of the next events; `events` is not empty."""
        ...

    def finish(self) -> bytes:
        """Return the bytes after the last event."""
        ...
