"""What a caller of the library asks for, as the program's own words.

Owns: the reading of dates, spans and paths, and their refusal. Must not: read the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any

from ociaudit.errors import UsageError
from ociaudit.events.filters import FilterSpec
from ociaudit.jobs.order import choose_time, split_filter
from ociaudit.plan.time_range import parse_duration
from ociaudit.source.credentials import Credentials
from ociaudit.source.transport import TransportLimits
from ociaudit.store.run_folder import ExportArguments, TimeKind

When = str | date | datetime


def describe_request(
    credentials: Credentials,
    start: When,
    end: When,
    *,
    regions: Sequence[str],
    compartments: Sequence[str],
    is_subtree: bool,
    by: TimeKind,
    late: str | None,
    settle: str | None,
    event_types: Sequence[str] = (),
    wanted: FilterSpec | None = None,
    **form: Any,
) -> ExportArguments:
    """Return what is asked for; `form` is how it is to be written.

    Raises:
        UsageError: a span is none, or `late` goes with a range of processed time.
    """
    return ExportArguments(
        tenancy=credentials.tenancy,
        start=_write_when(start),
        end=_write_when(end),
        profile=credentials.profile,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=is_subtree,
        **split_filter(event_types, wanted),
        **choose_time(by, late),
        settle_minutes=parse_duration(settle) if settle is not None else 0,
        **form,
    )


def locate(path: str | Path | None) -> Path | None:
    """Return where a file really is to stand: a link is kept, and what it leads to is replaced."""
    return Path(path).resolve() if path is not None else None


def make_limits(concurrency: int, max_requests_per_second: float | None) -> TransportLimits:
    """Return how much may be asked at a time.

    Raises:
        UsageError: nothing could be asked.
    """
    if concurrency < 1:
        raise UsageError("concurrency below one", hint="the default is 16; 1 asks one question after the other")
    if max_requests_per_second is not None and not max_requests_per_second > 0:
        raise UsageError("the most requests per second must be more than none", hint="leave it out for no such limit")
    return TransportLimits(max_in_flight=concurrency, max_per_second=max_requests_per_second)


def check_window_days(days: int) -> int:
    """Return the longest window of a question, in days.

    Raises:
        UsageError: it is none.
    """
    if days < 1:
        raise UsageError(f"a window of {days} days is none", hint="choose at least 1")
    return days


def _write_when(moment: When) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()
