"""What every format is: something that takes events in order and gives the bytes of a file.

Owns: the interface. Each implementation is a file of its own; one contract suite runs over all.

Invariants
- `begin`, any number of `write`, then `finish` to its end; the bytes given, one behind the other, are the file.
- The same events, with the same origins, give the same bytes, in whatever batches they come.
- Memory does not grow with the file. What must be kept until the end stands in a scratch folder, and `close`
  takes it away; it is called once, at the end or after any failure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from ociaudit.plan.shard import Place


class EventFormat(Protocol):
    """Turns events (JSON objects as served, one line each) into the bytes of a file."""

    def begin(self) -> bytes:
        """Return the bytes before the first event."""
        ...

    def write(self, raws: Sequence[bytes], origins: Sequence[Place | None]) -> bytes:
        """Return the bytes that are ready; `origins` are the events' own, one each, and `raws` is not empty."""
        ...

    def finish(self) -> Iterator[bytes]:
        """Yield the bytes after the last event; to be read to its end or closed."""
        ...

    def close(self) -> None:
        """Give back what is held outside memory."""
        ...
