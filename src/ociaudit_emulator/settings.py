"""The settings of one emulator: the command line's flags as a value that does not change after the start."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_RETENTION_DAYS = 365


@dataclass(frozen=True, slots=True)
class PageSize:
    """The number of events on a page: a range, or a fixed number when both ends are equal."""

    smallest: int = 100
    largest: int = 100


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that a flag can change in what the services contain and how they respond."""

    seed: int = 1
    events_file: Path | None = None
    events_compartment: str | None = None
    events_region: str | None = None
    more_events: tuple[tuple[str, Path], ...] = ()
    more_compartments: int = 0
    events_per_day: int = 2000
    page_size: PageSize = PageSize()
    search_cap: int | None = None
    latency_ms: float = 0.0
    rate_limit_per_second: float | None = None
    retry_after_seconds: int | None = None
    late_share: float = 0.0
    late_minutes: int = 30
    retention_days: int | None = None
    now_ms: int | None = None
    clock_start_ms: int | None = None
    delayed_share: float = 0.0
    delayed_by: str = "3h"
    delay_distribution: str = "uniform"
    reserialised_share: float = 0.0
    reserialised_after: str = "1m"
    is_expired_empty: bool = False
    changes_file: Path | None = None
    buckets: tuple[str, ...] = ()
    is_commit_unconditional: bool = False
    is_strict_about_minutes: bool = False
    is_self_auditing: bool = False
    is_shuffling: bool = True
    is_gzip_allowed: bool = False
    token_seconds: float = 1200.0

    @property
    def kept_days(self) -> int | None:
        """Return the retention in days; None if events never expire, the default for events from a file."""
        if self.retention_days is None and self.events_file is None:
            return DEFAULT_RETENTION_DAYS
        return self.retention_days
