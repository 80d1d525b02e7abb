"""When a shard is asked in pieces instead of page by page.

Owns: the guess at how many pages a shard has, and the pieces. Pure. A wrong guess costs requests, never events:
what was read before the cut is kept, and the pieces make up the whole window.

Invariants
- The pieces of a window follow each other without hole or overlap, and none is shorter than a minute. There are
  at least two, whatever the policy says: so cutting comes to an end.
- A window of one minute is never cut; it is just paged.

How dense a place is, the spread of the first page's event times tells: twice the distance between their quartiles,
because late events stretch the plain span and hide density. A service that fills its pages from all over the
window defeats that; then the length of the chain tells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil, inf

from ociaudit.plan.window import Window, tile_window

NANOSECONDS_PER_MINUTE = 60_000_000_000
_FEWEST_TIMES = 4


@dataclass(frozen=True, slots=True)
class CutPolicy:
    """When a shard is cut, in pages, and into how many pieces.

    Above `max_pages` estimated pages the window is cut into pieces of `pages_per_piece`, at most `max_pieces`; so
    is a chain that has come to `max_chain` pages and is not at its end, as if it had `chain_guess` times as many.
    Where that happened the estimate had failed: in the pieces a chain may be twice as long.
    """

    max_pages: float = 12.0
    pages_per_piece: float = 8.0
    max_pieces: int = 32
    max_chain: int = 16
    chain_guess: float = 4.0


def estimate_pages(window: Window, instants: Sequence[int]) -> float:
    """Return how many pages a window has if all are as dense as the one whose event times these are.

    `instants` are nanoseconds, unsorted. Too few of them tell nothing: then it is one.
    """
    if len(instants) < _FEWEST_TIMES:
        return 1.0
    times = sorted(instants)
    spread = 2 * (times[3 * len(times) // 4] - times[len(times) // 4])
    return window.minutes * NANOSECONDS_PER_MINUTE / spread if spread else inf


class ShardWatch:
    """Follows the pages of one shard, and tells when it should be cut."""

    def __init__(self, window: Window, policy: CutPolicy, *, pages_before: int = 0) -> None:
        """Begin behind `pages_before` pages, of which nothing but their number is known."""
        self._window = window
        self._policy = policy
        self._pages = pages_before
        self.pieces: tuple[Window, ...] = ()
        """What is to be asked instead; empty as long as the shard is to be followed."""
        self.piece_policy = policy
        """When a piece is cut in its turn."""

    def note_page(self, instants: Sequence[int]) -> bool:
        """Take a page that is not the last, and return whether the shard is to be cut now."""
        self._pages += 1
        policy = self._policy
        estimate = 0.0
        if self._pages == 1:
            estimate = estimate_pages(self._window, instants)
        elif self._pages % policy.max_chain == 0:
            estimate = policy.chain_guess * self._pages
            self.piece_policy = replace(policy, max_chain=2 * policy.max_chain)
        if estimate > policy.max_pages and self._window.minutes > 1:
            count = min(policy.max_pieces, self._window.minutes, estimate // policy.pages_per_piece + 1)
            length = ceil(self._window.minutes / max(2, count))
            self.pieces = tuple(tile_window(self._window, length))
        return bool(self.pieces)
