"""A stop asked for from outside, by a signal or by closing a stream.

Owns: passing the wish on. Must not: install signal handlers; only `cli` does.
"""

from __future__ import annotations

from collections.abc import Callable

from ociaudit.errors import Interrupted


class StopRequest:
    """Remembers that somebody wants the run to stop, and wakes whoever waits."""

    def __init__(self) -> None:
        """Nobody wants to stop yet."""
        self.signal_number: int | None = None
        self._wake: Callable[[], object] | None = None

    def ask(self, signal_number: int) -> None:
        """Ask the run to stop; safe to call from a signal handler, and again."""
        self.signal_number = signal_number
        if self._wake is not None:
            self._wake()

    def attach(self, wake: Callable[[], object] | None) -> None:
        """Call `wake` when a stop is asked for; at once, if it has been asked for already."""
        self._wake = wake
        if wake is not None and self.signal_number is not None:
            wake()

    def check(self, moment: str = "") -> None:
        """Stop here if that was asked for; `moment` says in the message how far the run had got.

        Raises:
            Interrupted: it was.
        """
        if self.signal_number is not None:
            raise Interrupted(f"interrupted {moment}".rstrip(), signal_number=self.signal_number)
