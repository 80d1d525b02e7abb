"""The events of a file that this program wrote: do they ascend, and does none stand twice?

Owns: that check, block by block. Must not: read the file.

Invariants
- Events are made only of blocks in which something is unusual; a sound file costs one look at each line.
- Two records of the same time and id stand in the order of their bytes; in other shapes than `api`, whose bytes
  are derived, the order of equal ones is not looked at.
"""

from __future__ import annotations

from collections.abc import Callable

from ociaudit.events.event import Event
from ociaudit.formats.array_reader import LineBlock, cut_lines
from ociaudit.formats.line_scan import scan_block


class OrderCheck:
    """Takes the blocks of a file in turn; `count` is how many events they held."""

    def __init__(self, shape: str, *, report: Callable[[str, int], None]) -> None:
        """Check events in this shape; `report` gets what is wrong, in words, and at which byte."""
        self.count = 0
        self._shape = shape
        self._is_api = shape == "api"
        self._report = report
        self._previous = Event(b"", b"", "", None, None)

    def check(self, block: LineBlock) -> None:
        """Take the next lines.

        Raises:
            BadArray: they do not hold an event each.
        """
        scan = scan_block(block) if self._is_api else None
        if scan is not None and scan.first > self._previous.order:
            self.count += scan.events
            self._previous = scan.last
            return
        previous = self._previous
        batch = cut_lines(block, self._shape)
        for event, offset in zip(batch.events, batch.offsets, strict=True):
            if event.order <= previous.order:
                self._look_closer(previous, event, offset)
            previous = event
        self._previous = previous
        self.count += len(batch.events)

    def _look_closer(self, previous: Event, event: Event, offset: int) -> None:
        if event.order < previous.order or (self._is_api and event.raw < previous.raw):
            self._report("an event stands out of order", offset)
        elif self._is_api and event.raw == previous.raw:
            self._report("a record stands twice", offset)
