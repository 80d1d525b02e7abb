"""A run as lines of JSON on stderr, for programs that watch.

Owns: which line comes when. Must not: say anything that is not such a line.

Invariants
- One object per line; nothing in it acts on a terminal, whatever the service or an event says.
- The last line is `end` or `error`; when quiet, only if something is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import msgspec

from ociaudit.cli import console
from ociaudit.cli.exit_status import find_exit_status
from ociaudit.cli.figures import ShardTime
from ociaudit.cli.log_lines import (
    CutLine,
    EndLine,
    ErrorLine,
    GapLine,
    LogLine,
    NoticeLine,
    PaceLine,
    PlanLine,
    ProgressLine,
    RegionProgress,
    RequestLine,
    RetryLine,
    ShardLine,
    SlowShard,
)
from ociaudit.cli.progress import VERBOSE, VERY_VERBOSE, QuietProgress
from ociaudit.errors import OciAuditError, RequestError
from ociaudit.jobs.export import Outcome
from ociaudit.plan.shard import Gap, Place, Shard
from ociaudit.plan.window import Window, format_minute
from ociaudit.source.answer import FinishedRequest

_LINE_EVERY_SECONDS = 5.0


def _read_clock() -> datetime:
    return datetime.now(UTC)


class JsonLog(QuietProgress):
    """Says everything as lines of JSON. When quiet: notices, gaps, errors, and an end that is not complete."""

    def __init__(
        self,
        *,
        is_quiet: bool = False,
        verbosity: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _read_clock,
    ) -> None:
        """Count from nothing. `verbosity` 1 adds shards, cuts and pace, 2 every request."""
        super().__init__(monotonic=monotonic)
        self._is_quiet = is_quiet
        self._verbosity = verbosity
        self._now = now
        self._said_at = self.began_at

    def tell_error(self, error: OciAuditError) -> bool:
        """Say what stopped the run."""
        request_id = error.request_id if isinstance(error, RequestError) else None
        exit_code = find_exit_status(error)
        self._say(ErrorLine, message=str(error), hint=error.hint, request_id=request_id, exit_code=exit_code)
        return True

    def tell_end(self, outcome: Outcome, *, exit_code: int) -> bool:
        """Say how the run ended."""
        totals = outcome.manifest.totals
        if not self._is_quiet or exit_code:
            self._say(
                EndLine,
                complete=outcome.complete,
                exit_code=exit_code,
                was_complete_before=outcome.was_complete_before,
                output=str(outcome.output) if outcome.output else None,
                manifest=str(outcome.manifest_path) if outcome.manifest_path else None,
                digest=outcome.digest,
                written=totals.written,
                scanned=totals.scanned,
                filtered=totals.filtered,
                identical=totals.identical,
                conflicting_ids=totals.conflicting_ids,
                provisional=len(outcome.manifest.provisional),
                gaps=len(outcome.gaps),
                waived=len(outcome.waived),
                requests=self.requests,
                throttled=self.throttled,
                seconds=_round(self.elapsed_seconds),
                slowest=[_show_time(taken) for taken in self.slowest],
            )
        return True

    def on_notice(self, text: str) -> None:
        """Say the notice."""
        self._say(NoticeLine, message=text)

    def on_plan(self, window: Window, places: Sequence[Place], shard_count: int) -> None:
        """Say what will be asked."""
        super().on_plan(window, places, shard_count)
        if not self._is_quiet:
            self._say(
                PlanLine,
                **_show_window(window),
                regions=len({place.region for place in places}),
                compartments=len({place.compartment for place in places}),
                shards=shard_count,
            )

    def on_request(self, request: FinishedRequest) -> None:
        """Count the attempt."""
        super().on_request(request)
        if self._verbosity >= VERY_VERBOSE:
            fields = asdict(request)
            size, seconds = fields.pop("size_bytes"), _round(fields.pop("seconds"))
            self._say(RequestLine, method="GET", bytes=size, seconds=seconds, **fields)
        self._tell_in_time()

    def on_pace(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Keep the pace; what is only in flight changes too often to be said."""
        before = self.regions.get(region)
        has_changed = before is None or (before.ceiling, before.per_second) != (ceiling, per_second)
        super().on_pace(region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)
        if self._verbosity >= VERBOSE and has_changed:
            self._say(PaceLine, region=region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)

    def on_cut(self, shard: Shard, piece_count: int) -> None:
        """Count the cut."""
        super().on_cut(shard, piece_count)
        if self._verbosity >= VERBOSE:
            self._say(CutLine, **_show_shard(shard), pieces=piece_count)

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        super().on_page(shard, scanned=scanned, kept=kept)
        self._tell_in_time()

    def on_shard_done(self, shard: Shard) -> None:
        """Count the shard."""
        taken = self.find_time(shard)
        super().on_shard_done(shard)
        if self._verbosity >= VERBOSE:
            self._say(
                ShardLine,
                **_show_shard(shard),
                seconds=_round(taken.seconds) if taken else None,
                pages=taken.pages if taken else None,
                events=taken.events if taken else None,
            )
        self._tell_in_time()

    def on_gap(self, gap: Gap) -> None:
        """Say the gap."""
        super().on_gap(gap)
        self._say(
            GapLine,
            **_show_shard(Shard(gap.place, gap.window)),
            kind=gap.kind,
            reason=gap.reason,
            request_id=gap.request_id,
            waived=self.is_waived(gap),
        )

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Say why a request is repeated."""
        if not self._is_quiet:
            self._say(RetryLine, reason=str(error), wait_seconds=_round(wait_seconds), request_id=error.request_id)

    def on_written(self, event_count: int) -> None:
        """Count what stands in the output."""
        super().on_written(event_count)
        self._tell_in_time()

    def _tell_in_time(self) -> None:
        now = self.monotonic()
        if self._is_quiet or now - self._said_at < _LINE_EVERY_SECONDS:
            return
        self._said_at = now
        left = self.seconds_left
        self._say(
            ProgressLine,
            phase="asking" if self.to_write is None else "writing",
            seconds=_round(self.elapsed_seconds),
            events=self.events,
            events_per_second=_round(self.events / self.elapsed_seconds),
            shards=self.shards,
            shards_done=self.shards_done,
            cuts=self.cuts,
            requests=self.requests,
            throttled=self.throttled,
            received_bytes=self.received_bytes,
            in_flight=self.in_flight,
            per_second=self.per_second,
            gaps=self.gaps,
            waived=self.waived_gaps,
            seconds_left=_round(left) if left is not None else None,
            to_write=self.to_write,
            written=self.written,
            regions=[RegionProgress(region=name, **asdict(region)) for name, region in sorted(self.regions.items())],
        )

    def _say(self, line: type[LogLine], /, **fields: Any) -> None:
        at = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = _clean(msgspec.to_builtins(line(at=at, **fields)))
        console.say(msgspec.json.encode(content).decode())


def _clean(content: Any) -> Any:
    """Replace in every text what is not a visible character."""
    if isinstance(content, str):
        return console.clean_text(content)
    if isinstance(content, dict):
        return {name: _clean(value) for name, value in content.items()}
    return [_clean(value) for value in content] if isinstance(content, list) else content


def _show_shard(shard: Shard) -> dict[str, str]:
    return {"region": shard.place.region, "compartment": shard.place.compartment, **_show_window(shard.window)}


def _show_window(window: Window) -> dict[str, str]:
    return {"start": format_minute(window.start), "end": format_minute(window.end)}


def _show_time(taken: ShardTime) -> SlowShard:
    return SlowShard(**_show_shard(taken.shard), seconds=_round(taken.seconds), pages=taken.pages, events=taken.events)


def _round(number: float) -> float:
    return round(number, 3)
