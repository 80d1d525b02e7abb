"""Where events come from, seen by those who serve them.

Owns: the protocol of a source, and the words place, span and slice.
Must not: know how a source makes or finds its events.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

RawEvent = bytes | memoryview
START = -1


@dataclass(frozen=True, slots=True)
class Target:
    """A compartment in a region: what one question can ask about."""

    region: str
    compartment_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of processed time, in minutes since 1970, UTC."""

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Some events in the order of processing, and the position after them, if more follow."""

    events: Sequence[RawEvent]
    next_position: int | None


class EventSource(Protocol):
    """Events by place and processed time.

    Invariants: the slices of a span, however long each is, joined are the span's events;
    spans that tile a span hold together exactly its events.
    """

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Read at most `limit` events of the span from a position (START for the first)."""
        ...  # pragma: no cover
