"""The lines of `--log-format json`: their names and fields, which are an interface.

Owns: these forms; docs/logs.md lists them, and a test compares. Must not: print, or count.
"""

from __future__ import annotations

import msgspec


class LogLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="event"):
    """What every line has. `at` is the local clock's time in UTC, to the millisecond."""

    at: str


class NoticeLine(LogLine, frozen=True, kw_only=True, tag="notice"):
    """Something a person should know, and that does not stop the run."""

    message: str


class PlanLine(LogLine, frozen=True, kw_only=True, tag="plan"):
    """What will be asked."""

    start: str
    end: str
    regions: int
    compartments: int
    shards: int


class RegionProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One region's part of a progress line."""

    region: str
    events: int
    shards: int
    shards_done: int
    gaps: int
    in_flight: int | None
    ceiling: int | None
    per_second: float | None


class ProgressLine(LogLine, frozen=True, kw_only=True, tag="progress"):
    """How far the run is, every few seconds."""

    phase: str
    seconds: float
    events: int
    events_per_second: float
    shards: int
    shards_done: int
    cuts: int
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


class PlaceLine(LogLine, frozen=True, kw_only=True):
    """A line about one question."""

    region: str
    compartment: str
    start: str
    end: str


class GapLine(PlaceLine, frozen=True, kw_only=True, tag="gap"):
    """A question did not come back complete."""

    kind: str
    reason: str
    request_id: str | None
    waived: bool


class ShardLine(PlaceLine, frozen=True, kw_only=True, tag="shard"):
    """A question is answered to its end."""

    seconds: float | None
    pages: int | None
    events: int | None


class CutLine(PlaceLine, frozen=True, kw_only=True, tag="cut"):
    """A dense question is asked in pieces instead."""

    pieces: int


class RetryLine(LogLine, frozen=True, kw_only=True, tag="retry"):
    """A request failed and is asked again after a wait."""

    reason: str
    wait_seconds: float
    request_id: str | None


class PaceLine(LogLine, frozen=True, kw_only=True, tag="pace"):
    """How fast a region is asked has changed."""

    region: str
    in_flight: int
    ceiling: int
    per_second: float | None


class RequestLine(LogLine, frozen=True, kw_only=True, tag="request"):
    """One attempt of a request has ended."""

    method: str
    host: str
    path: str
    status: int | None
    bytes: int
    seconds: float
    attempt: int
    request_id: str | None
    error: str | None


class ErrorLine(LogLine, frozen=True, kw_only=True, tag="error"):
    """What stopped the run; the last line."""

    message: str
    hint: str
    request_id: str | None
    exit_code: int


class SlowShard(msgspec.Struct, frozen=True, kw_only=True):
    """One of the slowest questions."""

    region: str
    compartment: str
    start: str
    end: str
    seconds: float
    pages: int
    events: int


class EndLine(LogLine, frozen=True, kw_only=True, tag="end"):
    """How the run ended; the last line."""

    complete: bool
    exit_code: int
    was_complete_before: bool
    output: str | None
    manifest: str | None
    digest: str | None
    written: int
    scanned: int
    filtered: int
    identical: int
    conflicting_ids: int
    provisional: int
    gaps: int
    waived: int
    requests: int
    throttled: int
    seconds: float
    slowest: list[SlowShard]


LINES: tuple[type[LogLine], ...] = (
    NoticeLine,
    PlanLine,
    ProgressLine,
    GapLine,
    RetryLine,
    ShardLine,
    CutLine,
    PaceLine,
    RequestLine,
    ErrorLine,
    EndLine,
)
