"""What an export is to do, and with whose help. Owns: the two argument bundles of the job."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from ociaudit.errors import UsageError
from ociaudit.events.filters import FilterSpec
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.rerun import RerunOptions
from ociaudit.jobs.stop import StopRequest
from ociaudit.source.clock import Clock
from ociaudit.source.credentials import Credentials
from ociaudit.source.endpoints import Endpoints
from ociaudit.source.retry import RetryPolicy
from ociaudit.source.transport import TransportLimits
from ociaudit.store.run_folder import ExportArguments, TimeKind

Tally = Literal["event_type", "event_name"]
DEFAULT_LATE = "1h"
"""How long after the end of a range of event times processing is asked for."""


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """One export.

    `output` None means stdout. `manifest` None puts it beside the output. `waived` are compartments whose
    denial is known and does not make the run incomplete. `tally` is what is counted over all scanned events.
    """

    arguments: ExportArguments
    output: Path | None
    manifest: Path | None = None
    max_window_days: int = 14
    rerun: RerunOptions = field(default_factory=RerunOptions)
    waived: frozenset[str] = frozenset()
    tally: Tally | None = None
    signing_key: Path | None = None
    confirm_empty: bool = False
    """Ask shards that brought no event once more at the end."""
    deadline_seconds: float | None = None
    """How long may be asked; what is not answered by then becomes gaps."""


@dataclass(frozen=True, slots=True)
class Tools:
    """The collaborators of a run."""

    credentials: Credentials
    endpoints: Endpoints
    clock: Clock
    observer: Observer = field(default_factory=Observer)
    stop: StopRequest = field(default_factory=StopRequest)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: TransportLimits = field(default_factory=TransportLimits)
    proxies: Mapping[str, str] = field(default_factory=dict)
    """Scheme to proxy URL, and `no` for the exceptions, as `urllib.request.getproxies_environment` gives them."""
    ssl_context: ssl.SSLContext | None = None
    """Which certificates are trusted; None for those that the system trusts."""
    stdout: int = 1
    """The descriptor that `output=None` writes to."""


def split_filter(event_types: Sequence[str], spec: FilterSpec | None) -> dict[str, Any]:
    """Return the arguments that a filter is stored in; event types stand apart, wherever they were named."""
    spec = spec or FilterSpec()
    return {
        "event_types": (*event_types, *spec.event_types),
        "filter": msgspec.structs.replace(spec, event_types=()),
    }


def check_time_kind(text: str) -> TimeKind:
    """Return which time a range means.

    Raises:
        UsageError: the text is no kind of time.
    """
    folded = text.strip().casefold()
    if folded == "event-time":
        return "event-time"
    if folded == "processed-time":
        return "processed-time"
    raise UsageError(f"a range cannot be one of {text!r}", hint="write --by event-time, or leave --by away")


def choose_time(by: TimeKind, late: str | None) -> dict[str, Any]:
    """Return the arguments that say which time a range means.

    Raises:
        UsageError: `late` is given, and the range is one of processed time.
    """
    if by == "event-time":
        return {"by": by, "late": late if late is not None else DEFAULT_LATE}
    if late is not None:
        raise UsageError(
            "late events are waited for only by event time", hint="add --by event-time, or leave --late away"
        )
    return {}
