"""How a run shows itself while it works: a block on a terminal, plain lines elsewhere, nothing when quiet.

Owns: what is said when. Must not: print; `console` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ociaudit.cli import console
from ociaudit.cli.figures import Figures
from ociaudit.cli.progress_view import (
    describe_cut,
    describe_gap,
    describe_pace,
    describe_plan,
    describe_regions,
    describe_request,
    describe_shard_time,
    describe_state,
)
from ociaudit.errors import OciAuditError, RequestError
from ociaudit.jobs.export import Outcome
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.answer import FinishedRequest

VERBOSE, VERY_VERBOSE = 1, 2
_LINE_EVERY_SECONDS = 5.0
_REGIONS_EVERY_SECONDS = 30.0
_REGIONS_AFTER_SECONDS = 10.0
_BLOCK_EVERY_SECONDS = 0.1
_GAPS_SAID = 40


class QuietProgress(Figures):
    """Says only what nobody else will say: notices. Gaps stand in the summary."""

    def close(self) -> None:
        """Take away what is still on the screen."""

    def tell_error(self, error: OciAuditError) -> bool:
        """Say what stopped the run, and return whether that was done; here the program's end does it."""
        return False

    def tell_end(self, outcome: Outcome, *, exit_code: int) -> bool:
        """Say how the run ended, and return whether that was done; here the summary does it."""
        return False

    def on_notice(self, text: str) -> None:
        """Print the notice."""
        console.say(f"notice: {text}")


class LineProgress(QuietProgress):
    """Adds the plan at the beginning and a plain line every few seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic, verbosity: int = 0) -> None:
        """Count from nothing. `verbosity` 1 adds windows, cuts and every retry, 2 every request."""
        super().__init__(monotonic=monotonic)
        self._verbosity = verbosity
        self._said_at = self._regions_said_at = self.began_at

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Print what will be asked."""
        super().on_plan(window, places, shard_count)
        console.say(describe_plan(window, places, shard_count))

    def on_request(self, request: FinishedRequest) -> None:
        """Count the attempt."""
        super().on_request(request)
        if self._verbosity >= VERY_VERBOSE:
            console.say(describe_request(request))
        self._tell_in_time()

    def on_pace(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Keep the pace; what is only in flight changes too often to be said."""
        before = self.regions.get(region)
        has_changed = before is None or (before.ceiling, before.per_second) != (ceiling, per_second)
        super().on_pace(region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)
        if self._verbosity >= VERBOSE and has_changed:
            console.say(describe_pace(region, ceiling, per_second))
        self._tell_in_time()

    def on_cut(self, shard: Shard, piece_count: int) -> None:
        """Count the cut."""
        super().on_cut(shard, piece_count)
        if self._verbosity >= VERBOSE:
            console.say(describe_cut(shard, piece_count))

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        super().on_page(shard, scanned=scanned, kept=kept)
        self._tell_in_time()

    def on_shard_done(self, shard: Shard) -> None:
        """Count the window."""
        begun = self.find_time(shard)
        super().on_shard_done(shard)
        if self._verbosity >= VERBOSE:
            console.say(f"done: {describe_shard_time(begun) if begun else shard}")
        self._tell_in_time()

    def on_gap(self, gap: Gap) -> None:
        """Count the gap, and print it as it happens; a region that is down would fill the screen, though."""
        super().on_gap(gap)
        said = self.gaps + self.waived_gaps
        if said <= _GAPS_SAID:
            console.say(f"{'waived' if self.is_waived(gap) else 'gap'}: {describe_gap(gap)}")
        elif said == _GAPS_SAID + 1:
            console.say("gap: more of them; from here on they are only counted")

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Say why nothing moves, when the wait is long enough to wonder."""
        if wait_seconds >= 1 or self._verbosity >= VERBOSE:
            console.say(f"waiting {wait_seconds:.0f} s: {error}" if wait_seconds >= 1 else f"asking again: {error}")

    def on_written(self, event_count: int) -> None:
        """Count what stands in the output."""
        super().on_written(event_count)
        self._tell_in_time()

    def describe(self) -> str:
        """Return the state in one line."""
        return describe_state(self)

    def _tell_in_time(self) -> None:
        now = self.monotonic()
        if now - self._said_at < _LINE_EVERY_SECONDS:
            return
        self._said_at = now
        console.say(self.describe())
        if now - self._regions_said_at >= _REGIONS_EVERY_SECONDS:
            self._regions_said_at = now
            for line in describe_regions(self):
                console.say(line)


class BarProgress(LineProgress):
    """Shows the same numbers in a block that stays in its place."""

    def __init__(self, *, verbosity: int = 0) -> None:
        """Draw nothing yet."""
        super().__init__(verbosity=verbosity)
        self._bar = console.Bar()

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Print the plan and draw the block below."""
        super().on_plan(window, places, shard_count)
        self._bar.start()

    def close(self) -> None:
        """Take the block away."""
        self._bar.stop()

    def _tell_in_time(self) -> None:
        now = self.monotonic()
        if now - self._said_at < _BLOCK_EVERY_SECONDS and self.fraction < 1:
            return
        self._said_at = now
        is_long = self.elapsed_seconds >= _REGIONS_AFTER_SECONDS
        self._bar.show(self.fraction, self.describe(), tuple(describe_regions(self)) if is_long else ())
