"""How a run shows itself while it works: a bar on a terminal, plain lines elsewhere, nothing when quiet.

Owns: the numbers shown. Must not: print; `console` does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from ociaudit.cli import console
from ociaudit.cli.wording import count, describe_seconds
from ociaudit.errors import RequestError
from ociaudit.jobs.observer import Observer
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window, format_minute

_LINE_EVERY_SECONDS = 5.0
_GAPS_SAID = 40


class QuietProgress(Observer):
    """Says only what nobody else will say: notices. Gaps stand in the summary."""

    def close(self) -> None:
        """Take away what is still on the screen."""

    def on_notice(self, text: str) -> None:
        """Print the notice."""
        console.say(f"notice: {text}")


class LineProgress(QuietProgress):
    """Adds the plan at the beginning and a plain line every few seconds."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Count from nothing."""
        self._monotonic = monotonic
        self._began_at = self._said_at = monotonic()
        self._shards = 0
        self._shards_done = 0
        self._gaps = 0
        self._scanned = 0
        self._to_write = 0
        self._written = 0

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Print what will be asked."""
        regions = len({place.region for place in places})
        compartments = len({place.compartment for place in places})
        self._shards = shard_count
        console.say(
            f"asking {format_minute(window.start)} to {format_minute(window.end)} (processed time, end exclusive) "
            f"in {count(regions, 'region')} × {count(compartments, 'compartment')}: {count(shard_count, 'window')}"
        )

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        self._scanned += scanned
        self._tell_in_time()

    def on_shard_done(self, shard: Shard) -> None:
        """Count the window."""
        self._shards_done += 1
        self._tell_in_time()

    def on_gap(self, gap: Gap) -> None:
        """Count the gap, and print it as it happens; a region that is down would fill the screen, though."""
        self._gaps += 1
        if self._gaps <= _GAPS_SAID:
            console.say(f"gap: {describe_gap(gap)}")
        elif self._gaps == _GAPS_SAID + 1:
            console.say("gap: more of them; from here on they are only counted")

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Say why nothing moves, when the wait is long enough to wonder."""
        if wait_seconds >= 1:
            console.say(f"waiting {wait_seconds:.0f} s: {error}")

    def on_publish(self, event_count: int) -> None:
        """Turn to the writing."""
        self._to_write = event_count

    def on_written(self, event_count: int) -> None:
        """Count what stands in the output."""
        self._written += event_count
        self._tell_in_time()

    def describe(self) -> str:
        """Return the state in one line."""
        if self._to_write:
            return f"writing: {self._written:,} of {self._to_write:,} events"
        elapsed = max(0.001, self._monotonic() - self._began_at)
        gaps = f", {count(self._gaps, 'gap')}" if self._gaps else ""
        return (
            f"{self._scanned:,} events ({self._scanned / elapsed:,.0f}/s), "
            f"{self._shards_done:,} of {self._shards:,} windows{gaps}{self._estimate(elapsed)}"
        )

    @property
    def fraction(self) -> float:
        """Return how much of the present work is done, from 0 to 1."""
        if self._to_write:
            return min(1.0, self._written / self._to_write)
        return min(1.0, self._shards_done / self._shards) if self._shards else 0.0

    def _estimate(self, elapsed: float) -> str:
        if not self._shards_done or self._shards_done >= self._shards:
            return ""
        left = elapsed * (self._shards - self._shards_done) / self._shards_done
        return f", about {describe_seconds(left)} left"

    def _tell_in_time(self) -> None:
        now = self._monotonic()
        if now - self._said_at >= _LINE_EVERY_SECONDS:
            self._said_at = now
            console.say(self.describe())


class BarProgress(LineProgress):
    """Shows the same numbers on a bar that stays in its place."""

    def __init__(self) -> None:
        """Draw nothing yet."""
        super().__init__()
        self._bar = console.Bar()

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Print the plan and draw the bar below."""
        super().on_plan(window, places, shard_count)
        self._bar.start()

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _tell_in_time(self) -> None:
        self._bar.show(self.fraction, self.describe())


def choose_progress(*, is_quiet: bool) -> QuietProgress:
    """Return what fits who is watching."""
    if is_quiet:
        return QuietProgress()
    return BarProgress() if console.is_terminal() else LineProgress()


def describe_gap(gap: Gap) -> str:
    """Return region, compartment, window, reason and request id of a gap, in one line."""
    request_id = f" (opc-request-id {gap.request_id})" if gap.request_id else ""
    return f"{gap.kind} {gap.place.region} {gap.place.compartment} {gap.window}: {gap.reason}{request_id}"
