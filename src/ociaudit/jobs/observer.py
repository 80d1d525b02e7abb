"""What a run tells whoever watches it. Owns: the interface. Must not: print."""

from __future__ import annotations

from collections.abc import Sequence

from ociaudit.errors import RequestError
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.answer import FinishedRequest


class Observer:
    """Told of everything that happens; this one does nothing with it."""

    def on_notice(self, text: str) -> None:
        """Something a person should know, and that does not stop the run."""

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """The scope is known; so many shards will be asked at least."""

    def on_request(self, request: FinishedRequest) -> None:
        """An attempt of a request has ended, well or not."""

    def on_pace(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """How fast a region is asked has changed: requests under way, how many may be, and the pace kept, if any."""

    def on_cut(self, shard: Shard, piece_count: int) -> None:
        """A dense shard is asked in so many pieces instead."""

    def on_shard_begun(self, shard: Shard) -> None:
        """The first question of a shard goes out; told again where it is asked anew."""

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """A page of a shard has arrived: events scanned, and those that passed the filter."""

    def on_shard_done(self, shard: Shard) -> None:
        """A shard is complete."""

    def on_gap(self, gap: Gap) -> None:
        """A shard did not come back complete."""

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """A request failed and is repeated after a wait."""

    def on_publish(self, event_count: int) -> None:
        """All shards are answered; so many events in the spool are being put in order."""

    def on_written(self, event_count: int) -> None:
        """So many events more stand in the output."""
