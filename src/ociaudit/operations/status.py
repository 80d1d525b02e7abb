"""The upkeep of an archive: its status, its metrics for Prometheus, and the loop that keeps it current.

`make_status` states what an archive holds, what is missing and what the next sync would request. `MetricsFile` writes
the same in a few numbers after each attempt. `SyncLoop` runs one sync after another, until it is stopped.

Invariants
- A status is that of one commit; nothing is requested, and nothing is written to the archive.
- Metrics contain no event, no name and no OCID, so that another user may read them.
- A sync that fails does not end the loop, unless no later one could do better.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec

from ociaudit.archive.reader import Archive, open_archive
from ociaudit.archive.state import (
    Day,
    due_rings,
    find_retention_start,
    list_open_gaps,
    list_targets,
    make_calendar,
    plan_asks,
)
from ociaudit.clock import Clock
from ociaudit.errors import (
    AccessError,
    ConfigError,
    CorruptRun,
    DiskError,
    ExitCode,
    Interrupted,
    OciAuditError,
    UsageError,
    find_exit_status,
)
from ociaudit.operations.context import Cancellation, run_async
from ociaudit.operations.sync import count_requests
from ociaudit.planning.shard import (
    MINUTES_PER_DAY,
    Gap,
    Target,
    Window,
    floor_minute,
    format_minute,
)
from ociaudit.storage.atomic_io import check_replaceable, explain_disk, write_file
from ociaudit.storage.verdict import Verdict, describe_headline, describe_verdict

T = TypeVar("T")
METRICS_MODE = 0o644
_FIRST_BACKOFF_SECONDS = 60.0
_MAX_WINDOW_MINUTES = 14 * MINUTES_PER_DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class NextSync:
    """What a sync would request at the minute `now`; `begin` and `end` are minutes, None if nothing is to be requested.

    `rings` are the rescan rings that are due, in minutes.
    """

    now: int
    begin: int | None
    end: int | None
    targets: int
    windows: int
    requests_at_least: int
    rings: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The status of an archive as of its newest commit.

    `current_until` is the present, in minutes, of the last sync that requested all that was due; None before the first.
    `age` is how long ago that was. `size_bytes` is that of the live segments. `lost` are windows that passed out of
    retention unanswered.
    """

    archive: Archive
    verdict: Verdict
    current_until: int | None
    age: timedelta | None
    size_bytes: int
    lost: Mapping[Target, tuple[Window, ...]]
    calendar: tuple[Day, ...]
    next_sync: NextSync | None
    """None before the first commit."""

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return the open gaps, the waived ones left out."""
        return list_open_gaps(self.archive.state)

    @property
    def own_share(self) -> float:
        """Return the share of the events that are ListEvents calls of the syncs themselves, 0 to 1."""
        totals = self.archive.state.totals
        return totals.own / totals.rows if totals.rows else 0.0

    def is_stale(self, max_age: timedelta | None) -> bool:
        """Return whether the last sync that requested all that was due is longer ago than that."""
        return max_age is not None and (self.age is None or self.age > max_age)

    def find_exit_code(self, max_age: timedelta | None) -> ExitCode:
        """Return `STALE` for an archive that is not current, else the exit code of the verdict."""
        return ExitCode.STALE if self.is_stale(max_age) else self.verdict.exit_code


def make_status(archive: Archive, *, now: datetime) -> Status:
    """Return the status of an archive, without a request."""
    state = archive.state
    current_until = max(state.ring_runs.values(), default=None)
    segments = state.segments.values()
    return Status(
        archive=archive,
        verdict=archive.verdict,
        current_until=current_until,
        age=None if current_until is None else timedelta(minutes=max(0, floor_minute(now) - current_until)),
        size_bytes=sum(one.size_bytes for one in segments),
        lost={target: one.lost for target, one in sorted(state.targets.items()) if one.lost},
        calendar=make_calendar(state),
        next_sync=_plan_next(archive, floor_minute(now)) if state.sequence else None,
    )


def _plan_next(archive: Archive, now: int) -> NextSync:
    state = archive.state
    due = due_rings(state, now=now, rings=state.rings)
    asks = plan_asks(
        state,
        now=now,
        settle=state.settle_minutes,
        due=due,
        retention_start=find_retention_start(now, state.retention_days),
        targets=list_targets(state),
    )
    windows, requests = count_requests(asks, max_window_minutes=_MAX_WINDOW_MINUTES)
    return NextSync(
        now=now,
        begin=min((some[0].start for some in asks.values()), default=None),
        end=max((some[-1].end for some in asks.values()), default=None),
        targets=len(asks),
        windows=windows,
        requests_at_least=requests,
        rings=due,
    )


def encode_status(status: Status, *, max_age: timedelta | None) -> str:
    """Return a status as one JSON object; docs/reference/status.md describes it."""
    archive, state, totals = status.archive, status.archive.state, status.archive.state.totals
    verdict, following = status.verdict, status.next_sync
    has_commits = bool(state.sequence)
    content: dict[str, Any] = {
        "archive": str(archive.folder.path),
        "id": archive.header.id,
        "tenancy": archive.header.tenancy,
        "created_at": archive.header.created_at,
        "verdict": verdict.kind if has_commits else "unknown",
        "verdict_text": describe_verdict(verdict) if has_commits else [],
        "exit_code": status.find_exit_code(max_age),
        "is_stale": status.is_stale(max_age),
        "sequence": state.sequence,
        "digest": state.digest,
        "start": format_minute(state.start) if state.end else None,
        "end": format_minute(state.end) if state.end else None,
        "final_until": verdict.final_until if has_commits else None,
        "last_sync": None if status.current_until is None else format_minute(status.current_until),
        "age_minutes": None if status.age is None else status.age // timedelta(minutes=1),
        "last_commit_at": state.last_sync_at or None,
        "events": totals.rows,
        "segments": len(state.segments),
        "size_bytes": status.size_bytes,
        "requests": totals.requests,
        "regions": list(state.regions),
        "compartments": {ocid: one.path for ocid, one in sorted(state.compartments.items())},
        "targets": verdict.targets if has_commits else 0,
        "closed": verdict.closed,
        "waived": list(state.waived),
        "gaps": [_encode_gap(gap) for gap in status.gaps],
        "lost": [_encode_window(target, one) for target, windows in status.lost.items() for one in windows],
        "late": {
            "events": totals.late,
            "after_final": totals.late_after_final,
            "median_minutes": totals.late_median_minutes,
            "worst_minutes": totals.late_worst_minutes,
        },
        "own_calls": {"events": totals.own, "share": round(status.own_share, 4)},
        "settle_minutes": state.settle_minutes,
        "rings_minutes": list(state.rings),
        "retention_days": state.retention_days,
        "next_sync": None if following is None else _encode_next(following),
        "calendar": [msgspec.to_builtins(day) for day in status.calendar],
    }
    return json.dumps(content)


def _encode_next(following: NextSync) -> dict[str, Any]:
    return {
        "begin": None if following.begin is None else format_minute(following.begin),
        "end": None if following.end is None else format_minute(following.end),
        "targets": following.targets,
        "windows": following.windows,
        "requests_at_least": following.requests_at_least,
        "rings_minutes": list(following.rings),
    }


def _encode_window(target: Target, window: Window) -> dict[str, str]:
    return {
        "region": target.region,
        "compartment": target.compartment,
        "start": format_minute(window.start),
        "end": format_minute(window.end),
    }


def _encode_gap(gap: Gap) -> dict[str, str | None]:
    named = _encode_window(gap.target, gap.window)
    return {**named, "kind": gap.kind, "reason": gap.reason, "request_id": gap.request_id}


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """How one run of a sync ended: its exit status, its error if it failed, and what it took."""

    exit_status: int
    error: OciAuditError | None = None
    requests: int = 0
    throttled: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class _Metric:
    name: str
    kind: str
    help: str
    value: float | None


class MetricsFile:
    """A file of metrics in Prometheus' text format, for the textfile collector of node_exporter."""

    def __init__(self, path: Path, archive: Path) -> None:
        """Check that `path` can be written.

        Raises:
            UsageError: its folder does not exist, or it is not a file.
            DiskError: it cannot be inspected.
        """
        check_replaceable(path, option="--metrics-file")
        if path.resolve().is_relative_to(archive.resolve()):
            raise UsageError(
                f"{path} is inside the archive {archive}", hint="choose a file outside it for --metrics-file"
            )
        self._path = path
        self._archive = archive

    def write(self, attempt: Attempt, *, now: datetime) -> None:
        """Replace the file, mode 0644 unless it exists with another; what is not known of the archive is left out.

        Raises:
            DiskError: it cannot be written; the previous file is unchanged.
        """
        with explain_disk("look at", self._path):
            mode = self._path.stat().st_mode & 0o777 if self._path.exists() else METRICS_MODE
        status = None
        with contextlib.suppress(OciAuditError):
            status = make_status(open_archive(self._archive), now=now)
        write_file(self._path, format_metrics(attempt, status, now=now).encode(), mode=mode)


def format_metrics(attempt: Attempt, status: Status | None, *, now: datetime) -> str:
    """Return metrics in Prometheus' text format."""
    lines: list[str] = []
    for one in (*_list_attempt_metrics(attempt, now), *(_list_archive_metrics(status, now) if status else ())):
        if one.value is not None:
            lines += (f"# HELP {one.name} {one.help}", f"# TYPE {one.name} {one.kind}", f"{one.name} {one.value:.15g}")
    return "\n".join(lines) + "\n"


def _list_attempt_metrics(attempt: Attempt, now: datetime) -> Iterator[_Metric]:
    prefix = "oci_audit_last_attempt"
    yield _Metric(f"{prefix}_timestamp_seconds", "gauge", "When the last sync ended, well or not.", now.timestamp())
    yield _Metric(f"{prefix}_exit_code", "gauge", "Its exit code: 0 complete, 10 with gaps.", attempt.exit_status)
    yield _Metric(f"{prefix}_duration_seconds", "gauge", "How long it took.", attempt.seconds)
    yield _Metric(f"{prefix}_requests", "gauge", "The requests that it sent.", attempt.requests)
    yield _Metric(f"{prefix}_throttled", "gauge", "How many of them got the status 429.", attempt.throttled)
    failed = isinstance(attempt.error, AccessError | ConfigError)
    refused = "1 if it could not sign in or was refused permission, else 0."
    yield _Metric("oci_audit_sign_in_failed", "gauge", refused, failed)


def _list_archive_metrics(status: Status, now: datetime) -> Iterator[_Metric]:
    state, totals, verdict = status.archive.state, status.archive.state.totals, status.verdict
    has_commits = state.sequence > 0
    success = None if status.current_until is None else status.current_until * 60
    lag = max(0.0, now.timestamp() - state.end * 60) if has_commits else None
    yield _Metric(
        "oci_audit_last_success_timestamp_seconds",
        "gauge",
        "When the last sync began that requested all that was due.",
        success,
    )
    yield _Metric("oci_audit_lag_seconds", "gauge", "How long before the last attempt the archive ends.", lag)
    yield _Metric("oci_audit_sequence", "gauge", "The sequence of the newest commit.", state.sequence)
    yield _Metric("oci_audit_events", "gauge", "The events in the archive.", totals.rows)
    yield _Metric("oci_audit_size_bytes", "gauge", "The size of its live segments.", status.size_bytes)
    yield _Metric("oci_audit_gaps", "gauge", "The open gaps.", verdict.gaps if has_commits else None)
    lost = verdict.lost if has_commits else None
    yield _Metric("oci_audit_lost_windows", "gauge", "The windows that passed out of retention unanswered.", lost)
    late = "Events that appeared after their minute was answered."
    yield _Metric("oci_audit_late_events_total", "counter", late, totals.late)
    yield _Metric("oci_audit_requests_total", "counter", "The requests for events of all commits.", totals.requests)


@dataclass(slots=True, kw_only=True)
class SyncLoop:
    """Runs one sync after another: every `every_seconds`, counted from the start of each, for `for_seconds` at most.

    A failed sync is tried again after a minute, then two, and so on up to the interval, each with jitter.
    `on_failure` gets the error and the time of the next try.
    """

    clock: Clock
    every_seconds: float
    for_seconds: float | None
    cancellation: Cancellation
    on_failure: Callable[[OciAuditError, datetime], None] = field(default=lambda *_: None)

    def run(self, sync: Callable[[], T]) -> T:
        """Call `sync` until the time is over; return what the last call returned.

        Raises:
            Interrupted: a stop was requested, in a sync or between two.
            OciAuditError: the last sync failed; or one failed in a way that time does not heal.
        """
        began = self.clock.monotonic()
        failures, is_first = 0, True
        while True:
            cycle_began, error, result = self.clock.monotonic(), None, None
            self.cancellation.check("between two syncs; everything is committed")
            try:
                result = sync()
                failures = 0
            except OciAuditError as caught:
                if _is_lasting(caught, is_first=is_first):
                    raise
                error, failures = caught, failures + 1
            is_first = False
            passed = self.clock.monotonic() - cycle_began
            wait = max(0.0, self.every_seconds - passed) if error is None else self._draw_backoff(failures)
            if self.for_seconds is not None and self.clock.monotonic() + wait - began >= self.for_seconds:
                if error is not None:
                    raise error
                return cast(T, result)
            if error is not None:
                self.on_failure(error, self.clock.now() + timedelta(seconds=wait))
            self._sleep(wait)

    def _draw_backoff(self, failures: int) -> float:
        longest = min(_FIRST_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 30), max(self.every_seconds, 1.0))
        return longest * (0.5 + self.clock.draw() / 2)

    def _sleep(self, seconds: float) -> None:
        """Wait, and stop immediately where that is requested.

        Raises:
            Interrupted: a stop was requested.
        """

        async def sleep() -> None:
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(self.clock.sleep(seconds))
            self.cancellation.attach(lambda: loop.call_soon_threadsafe(task.cancel))
            try:
                await asyncio.wait([task])
            finally:
                self.cancellation.attach(None)

        run_async(sleep)
        self.cancellation.check("between two syncs; everything is committed")


def _is_lasting(error: OciAuditError, *, is_first: bool) -> bool:
    """Return whether trying again is of no use: a damaged archive, a bug, or what was wrong from the start."""
    is_permanent = isinstance(error, Interrupted | CorruptRun) or find_exit_status(error) == ExitCode.BUG
    return is_permanent or (is_first and isinstance(error, UsageError | DiskError))


def describe_age(age: timedelta | None) -> str:
    """Return how old the last sync is, for people: `45 min`, `3.2 h`, `2.0 days`."""
    if age is None:
        return "never"
    minutes = age / timedelta(minutes=1)
    if minutes < 90:
        return f"{minutes:.0f} min ago"
    return f"{minutes / 60:.1f} h ago" if minutes < 2 * MINUTES_PER_DAY else f"{minutes / MINUTES_PER_DAY:.1f} days ago"


def summarize(status: Status) -> str:
    """Return the verdict in one line; an archive without a commit has none."""
    if not status.archive.state.sequence:
        return "INCOMPLETE: no sync has committed anything yet"
    return describe_headline(status.verdict)
