"""Counting what may have any number of values, in bounded memory.

Owns: that bound, and the words for what it cost.

Invariants
- No more than twice `limit` values are held.
- What was counted and what was dropped add up to everything that was added.
- Values that are frequent stay; a count may be too low only where `is_capped` says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Generic, TypeVar

T = TypeVar("T")


class Tally(Generic[T]):
    """A counter that forgets the rarest values when there are too many of them."""

    __slots__ = ("counts", "dropped", "limit")

    def __init__(self, limit: int) -> None:
        """Begin with nothing; `limit` is how many values are kept for sure."""
        self.counts: Counter[T] = Counter()
        self.dropped = 0
        """How many additions belong to values that were forgotten."""
        self.limit = limit

    def add(self, values: Iterable[T]) -> None:
        """Count each value once more."""
        self.counts.update(values)
        if len(self.counts) > 2 * self.limit:
            self._forget()

    @property
    def is_capped(self) -> bool:
        """Tell whether values were forgotten."""
        return self.dropped > 0

    def rank(self, number: int | None = None) -> list[tuple[T, int]]:
        """Return the most frequent values with their counts; equal counts by their text."""
        return sorted(self.counts.items(), key=lambda item: (-item[1], str(item[0])))[:number]

    def _forget(self) -> None:
        total = self.counts.total()
        self.counts = Counter(dict(self.counts.most_common(self.limit)))
        self.dropped += total - self.counts.total()
