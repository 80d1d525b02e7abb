"""The interface between the services and the events they serve: a target, a time span, and slices of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

RawEvent = bytes | memoryview
START = -1


@dataclass(frozen=True, slots=True)
class Target:
    """A compartment in a region: what one ListEvents request covers."""

    region: str
    compartment_id: str


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open span of processing time, in minutes since 1970, UTC."""

    start_minute: int
    end_minute: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive events in processing order, the position of the next one (None at the end), and their minutes."""

    events: Sequence[RawEvent]
    next_position: int | None
    minutes: Sequence[int]


NOTHING = Slice((), None, ())


class EventStore(Protocol):
    """Events by target and processing time.

    Invariants:
    - the slices of a span, whatever their length, concatenate to the span's events;
    - spans that partition a larger span together hold exactly its events.
    """

    def read(self, target: Target, span: Span, position: int, limit: int) -> Slice:
        """Return at most `limit` events of the span, from a position on (START for the first)."""
        ...  # pragma: no cover
