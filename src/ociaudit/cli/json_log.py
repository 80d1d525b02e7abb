"""The log of a run as JSON lines on stderr, for programs that watch it (`--log-format json`).

The records are a public interface: docs/reference/logs.md lists them, and a test compares. `JsonLog` decides which is
written when.

Invariants
- Each line is one object, and nothing in it acts on a terminal, no matter what the service or an event contains.
- The last line is `end`, `sync` or `error`; when quiet, only if something is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from ociaudit.cli import console
from ociaudit.cli.progress import VERBOSE, VERY_VERBOSE, QuietProgress, ShardTime
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import OciAuditError, RequestError, find_exit_status
from ociaudit.operations.export import ExportResult
from ociaudit.planning.shard import Gap, Shard, Target, Window, format_minute

if TYPE_CHECKING:
    from ociaudit.operations.sync import SyncResult  # imports what an export does not need

_LINE_EVERY_SECONDS = 5.0


class LogRecord(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """The fields of every line. `at` is the local clock's time in UTC, to the millisecond."""

    at: str


class NoticeRecord(LogRecord, frozen=True, kw_only=True, tag="notice"):
    """Something worth knowing that does not stop the run."""

    message: str


class PlanRecord(LogRecord, frozen=True, kw_only=True, tag="plan"):
    """What will be requested."""

    start: str
    end: str
    regions: int
    compartments: int
    shards: int


class RegionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The numbers of one region in a progress line."""

    region: str
    events: int
    shards: int
    shards_done: int
    gaps: int
    in_flight: int | None
    ceiling: int | None
    per_second: float | None


class ProgressRecord(LogRecord, frozen=True, kw_only=True, tag="progress"):
    """How far the run is, every few seconds."""

    phase: str
    seconds: float
    events: int
    events_per_second: float
    shards: int
    shards_done: int
    splits: int
    requests: int
    throttled: int
    received_bytes: int
    in_flight: int | None
    per_second: float | None
    gaps: int
    waived: int
    seconds_left: float | None
    to_write: int | None
    written: int
    regions: list[RegionProgress]


class TargetRecord(LogRecord, frozen=True, kw_only=True):
    """A line about one shard."""

    region: str
    compartment: str
    start: str
    end: str


class GapRecord(TargetRecord, frozen=True, kw_only=True, tag="gap"):
    """A shard that did not come back complete."""

    kind: str
    reason: str
    request_id: str | None
    waived: bool


class ShardRecord(TargetRecord, frozen=True, kw_only=True, tag="shard"):
    """A shard that is complete."""

    seconds: float | None
    pages: int | None
    events: int | None


class SplitRecord(TargetRecord, frozen=True, kw_only=True, tag="split"):
    """A dense shard that is requested as sub-shards instead."""

    sub_shards: int


class RetryRecord(LogRecord, frozen=True, kw_only=True, tag="retry"):
    """A failed request that is retried after a wait."""

    reason: str
    wait_seconds: float
    request_id: str | None


class RateRecord(LogRecord, frozen=True, kw_only=True, tag="rate"):
    """A changed rate limit of a region."""

    region: str
    in_flight: int
    ceiling: int
    per_second: float | None


class RequestRecord(LogRecord, frozen=True, kw_only=True, tag="request"):
    """One attempt of a request, when it ends."""

    method: str
    host: str
    path: str
    status: int | None
    bytes: int
    seconds: float
    attempt: int
    request_id: str | None
    error: str | None


class ErrorRecord(LogRecord, frozen=True, kw_only=True, tag="error"):
    """What stopped the run; the last line."""

    message: str
    hint: str
    request_id: str | None
    exit_code: int


class SlowShard(msgspec.Struct, frozen=True, kw_only=True):
    """One of the slowest shards."""

    region: str
    compartment: str
    start: str
    end: str
    seconds: float
    pages: int
    events: int


class EndRecord(LogRecord, frozen=True, kw_only=True, tag="end"):
    """How the run ended; the last line."""

    complete: bool
    verdict: str
    is_final: bool
    exit_code: int
    was_complete_before: bool
    output: str | None
    manifest: str | None
    digest: str | None
    written: int
    scanned: int
    filtered: int
    identical: int
    reserialised: int
    fetched_twice: int
    conflicting_ids: int
    provisional: int
    gaps: int
    waived: int
    requests: int
    throttled: int
    seconds: float
    slowest: list[SlowShard]


class SyncRecord(LogRecord, frozen=True, kw_only=True, tag="sync"):
    """How a sync ended: the last line or, with --every, one line for each sync."""

    complete: bool
    verdict: str
    is_final: bool
    exit_code: int
    archive: str
    was_created: bool
    sequence: int
    digest: str
    start: str
    end: str
    added: int
    received: int
    known: int
    identical: int
    reserialised: int
    conflicting: int
    late: int
    late_median_minutes: int
    late_worst_minutes: int
    compacted: int
    gaps: int
    lost: int
    closed: int
    waived: int
    warnings: list[str]
    requests: int
    throttled: int
    seconds: float


class WaitRecord(LogRecord, frozen=True, kw_only=True, tag="wait"):
    """When a sync that failed is tried again, with --every."""

    until: str


RECORDS: tuple[type[LogRecord], ...] = (
    NoticeRecord,
    PlanRecord,
    ProgressRecord,
    GapRecord,
    RetryRecord,
    ShardRecord,
    SplitRecord,
    RateRecord,
    RequestRecord,
    ErrorRecord,
    EndRecord,
    SyncRecord,
    WaitRecord,
)


def _read_clock() -> datetime:
    return datetime.now(UTC)


class JsonLog(QuietProgress):
    """Logs everything as JSON lines; when quiet, only notices, gaps, errors, and an end that is not complete."""

    def __init__(
        self,
        *,
        is_quiet: bool = False,
        verbosity: int = 0,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _read_clock,
    ) -> None:
        """Start at zero. `verbosity` 1 adds shards, splits and rate limits, 2 every request."""
        super().__init__(monotonic=monotonic)
        self._is_quiet = is_quiet
        self._verbosity = verbosity
        self._now = now
        self._logged_at = self.began_at

    def report_error(self, error: OciAuditError) -> bool:
        """Log what stopped the run."""
        request_id = error.request_id if isinstance(error, RequestError) else None
        exit_code = find_exit_status(error)
        self._log(ErrorRecord, message=str(error), hint=error.hint, request_id=request_id, exit_code=exit_code)
        return True

    def report_end(self, result: ExportResult, *, exit_code: int) -> bool:
        """Log how the run ended."""
        totals = result.manifest.totals
        if not self._is_quiet or exit_code:
            self._log(
                EndRecord,
                complete=result.complete,
                verdict=result.verdict.kind,
                is_final=result.verdict.is_final,
                exit_code=exit_code,
                was_complete_before=result.was_complete_before,
                output=result.shown_output,
                manifest=result.shown_manifest,
                digest=result.digest,
                written=totals.written,
                scanned=totals.scanned,
                filtered=totals.filtered,
                identical=totals.identical,
                reserialised=totals.reserialised,
                fetched_twice=totals.fetched_twice,
                conflicting_ids=totals.conflicting_ids,
                provisional=len(result.manifest.provisional),
                gaps=len(result.gaps),
                waived=len(result.waived),
                requests=self.requests,
                throttled=self.throttled,
                seconds=_round(self.elapsed_seconds),
                slowest=[_encode_time(taken) for taken in self.slowest],
            )
        return True

    def report_sync(self, result: SyncResult, *, exit_code: int) -> bool:
        """Log how a sync ended."""
        state, verdict, totals = result.state, result.verdict, result.totals
        if not self._is_quiet or exit_code or result.warnings:
            self._log(
                SyncRecord,
                complete=not exit_code,
                verdict=verdict.kind,
                is_final=verdict.is_final,
                exit_code=exit_code,
                archive=str(result.folder.path),
                was_created=result.was_created,
                sequence=state.sequence,
                digest=state.digest,
                start=format_minute(state.start),
                end=format_minute(state.end),
                added=totals.added,
                received=totals.received,
                known=totals.known,
                identical=totals.identical,
                reserialised=totals.reserialised,
                conflicting=totals.conflicting,
                late=totals.late,
                late_median_minutes=totals.late_median_minutes,
                late_worst_minutes=totals.late_worst_minutes,
                compacted=sum(len(one.added) for one in result.commits if one.kind == "compaction"),
                gaps=verdict.gaps,
                lost=verdict.lost,
                closed=verdict.closed,
                waived=len(verdict.waived),
                warnings=list(result.warnings),
                requests=self.requests,
                throttled=self.throttled,
                seconds=_round(self.elapsed_seconds),
            )
        return True

    def report_wait(self, until: str) -> None:
        """Log when a sync that failed is tried again."""
        self._log(WaitRecord, until=until)

    def on_notice(self, text: str) -> None:
        """Log the notice."""
        self._log(NoticeRecord, message=text)

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """Log what will be requested."""
        super().on_plan(window, targets, shard_count)
        if not self._is_quiet:
            self._log(
                PlanRecord,
                **_encode_window(window),
                regions=len({target.region for target in targets}),
                compartments=len({target.compartment for target in targets}),
                shards=shard_count,
            )

    def on_request(self, request: FinishedRequest) -> None:
        """Count the request, and log it if very verbose."""
        super().on_request(request)
        if self._verbosity >= VERY_VERBOSE:
            fields = asdict(request)
            size, seconds = fields.pop("size_bytes"), _round(fields.pop("seconds"))
            attempt = fields.pop("try_number")  # the published key
            self._log(RequestRecord, method="GET", bytes=size, seconds=seconds, attempt=attempt, **fields)
        self._report_if_due()

    def on_rate(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Log a changed limit; the number in flight changes too often to log."""
        before = self.regions.get(region)
        has_changed = before is None or (before.ceiling, before.per_second) != (ceiling, per_second)
        super().on_rate(region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)
        if self._verbosity >= VERBOSE and has_changed:
            self._log(RateRecord, region=region, in_flight=in_flight, ceiling=ceiling, per_second=per_second)

    def on_split(self, shard: Shard, sub_shard_count: int) -> None:
        """Count the split."""
        super().on_split(shard, sub_shard_count)
        if self._verbosity >= VERBOSE:
            self._log(SplitRecord, **_encode_shard(shard), sub_shards=sub_shard_count)

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Count the events."""
        super().on_page(shard, scanned=scanned, kept=kept)
        self._report_if_due()

    def on_shard_done(self, shard: Shard) -> None:
        """Count the shard."""
        taken = self.find_time(shard)
        super().on_shard_done(shard)
        if self._verbosity >= VERBOSE:
            self._log(
                ShardRecord,
                **_encode_shard(shard),
                seconds=_round(taken.seconds) if taken else None,
                pages=taken.pages if taken else None,
                events=taken.events if taken else None,
            )
        self._report_if_due()

    def on_gap(self, gap: Gap) -> None:
        """Log the gap."""
        super().on_gap(gap)
        self._log(
            GapRecord,
            **_encode_shard(Shard(gap.target, gap.window)),
            kind=gap.kind,
            reason=gap.reason,
            request_id=gap.request_id,
            waived=self.is_waived(gap),
        )

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Log why a request is retried."""
        if not self._is_quiet:
            self._log(RetryRecord, reason=str(error), wait_seconds=_round(wait_seconds), request_id=error.request_id)

    def on_written(self, event_count: int) -> None:
        """Count the events written to the output."""
        super().on_written(event_count)
        self._report_if_due()

    def _report_if_due(self) -> None:
        now = self.monotonic()
        if self._is_quiet or now - self._logged_at < _LINE_EVERY_SECONDS:
            return
        self._logged_at = now
        left = self.seconds_left
        self._log(
            ProgressRecord,
            phase="requesting" if self.to_write is None else "writing",
            seconds=_round(self.elapsed_seconds),
            events=self.events,
            events_per_second=_round(self.events / self.elapsed_seconds),
            shards=self.shards,
            shards_done=self.shards_done,
            splits=self.splits,
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

    def _log(self, record: type[LogRecord], /, **fields: Any) -> None:
        at = self._now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        content = _clean(msgspec.to_builtins(record(at=at, **fields)))
        console.print_data(msgspec.json.encode(content).decode(), to_stderr=True)


def _clean(content: Any) -> Any:
    """Replace what is not a visible character in every string, however deep."""
    if isinstance(content, str):
        return console.clean_text(content)
    if isinstance(content, dict):
        return {name: _clean(value) for name, value in content.items()}
    return [_clean(value) for value in content] if isinstance(content, list) else content


def _encode_shard(shard: Shard) -> dict[str, str]:
    return {"region": shard.target.region, "compartment": shard.target.compartment, **_encode_window(shard.window)}


def _encode_window(window: Window) -> dict[str, str]:
    return {"start": format_minute(window.start), "end": format_minute(window.end)}


def _encode_time(taken: ShardTime) -> SlowShard:
    return SlowShard(
        **_encode_shard(taken.shard), seconds=_round(taken.seconds), pages=taken.pages, events=taken.events
    )


def _round(number: float) -> float:
    return round(number, 3)
