"""The events of a file that this program wrote: do they ascend, and does none stand twice?

Owns: that check, block by block. Must not: read the file.

Invariants
- Events are made only of blocks in which something is unusual; a sound file costs one look at each line.
- Two records of the same time and id stand in the order of their bytes as served; where those were derived from,
  by another spelling, an origin or redaction, the order of equal ones is not looked at.
- Of redacted events only the times are compared: the order is that of the events as served, and an id may be gone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ociaudit.events.event import Event, read_instant_of
from ociaudit.formats.array_reader import LineBlock, cut_lines
from ociaudit.formats.line_scan import scan_block


class OrderCheck:
    """Takes the blocks of a file in turn; `count` is how many events they held."""

    def __init__(
        self, shape: str, *, is_as_served: bool = True, is_redacted: bool = False, report: Callable[[str, int], None]
    ) -> None:
        """Check events in this shape; `report` gets what is wrong, in words, and at which byte.

        `is_as_served`: their bytes are those that Oracle sent.
        """
        self.count = 0
        self._shape = shape
        self._is_as_served = shape == "api" and is_as_served and not is_redacted
        self._is_redacted = is_redacted
        self._report = report
        self._previous = Event(b"", b"", "", None, None)

    def check(self, block: LineBlock) -> None:
        """Take the next lines.

        Raises:
            BadArray: they do not hold an event each.
        """
        scan = scan_block(block) if self._shape == "api" and not self._is_redacted else None
        if scan is not None and scan.first > self._previous.order:
            self.count += scan.events
            self._previous = scan.last
            return
        batch = cut_lines(block, self._shape)
        self.check_events(batch.events, batch.offsets)

    def check_events(self, events: Sequence[Event], offsets: Sequence[int]) -> None:
        """Take the next events, with the byte at which each begins."""
        previous = self._previous
        for event, offset in zip(events, offsets, strict=True):
            if event.order <= previous.order:
                self._look_closer(previous, event, offset)
            previous = event
        self._previous = previous
        self.count += len(events)

    def _look_closer(self, previous: Event, event: Event, offset: int) -> None:
        if self._is_redacted and read_instant_of(event.order) >= read_instant_of(previous.order):
            return
        if event.order < previous.order or (self._is_as_served and event.raw < previous.raw):
            self._report("an event stands out of order", offset)
        elif self._is_as_served and event.raw == previous.raw:
            self._report("a record stands twice", offset)
