"""How the emulated service behaves: the command line's flags as one value.

Owns: names and defaults of every behaviour.
Must not: be changed after the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_RETENTION_DAYS = 365


@dataclass(frozen=True, slots=True)
class PageSize:
    """How many events a page holds: fixed when both ends are the same."""

    smallest: int = 100
    largest: int = 100


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Everything that a flag can change in how the service answers."""

    seed: int = 1
    events_file: Path | None = None
    events_compartment: str | None = None
    events_region: str | None = None
    more_events: tuple[tuple[str, Path], ...] = ()
    more_compartments: int = 0
    events_per_day: int = 2000
    page_size: PageSize = PageSize()
    latency_ms: float = 0.0
    rate_limit_per_second: float | None = None
    retry_after_seconds: int | None = None
    late_share: float = 0.0
    late_minutes: int = 30
    retention_days: int | None = None
    now_ms: int | None = None
    is_strict_about_minutes: bool = False
    is_self_auditing: bool = False
    is_shuffling: bool = True
    is_gzip_allowed: bool = False
    token_seconds: float = 1200.0

    @property
    def kept_days(self) -> int | None:
        """Give for how many days events are kept; None for ever, which only a given file is."""
        if self.retention_days is None and self.events_file is None:
            return DEFAULT_RETENTION_DAYS
        return self.retention_days
