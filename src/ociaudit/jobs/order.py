"""What an export is to do, and with whose help. Owns: the two argument bundles of the job."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ociaudit.jobs.observer import Observer
from ociaudit.jobs.rerun import RerunOptions
from ociaudit.jobs.stop import StopRequest
from ociaudit.source.auth import Credentials
from ociaudit.source.clock import Clock
from ociaudit.source.endpoints import Endpoints
from ociaudit.source.retry import RetryPolicy
from ociaudit.source.transport import TransportLimits
from ociaudit.store.run_folder import ExportArguments

Tally = Literal["event_type", "event_name"]


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
    stdout: int = 1
    """The descriptor that `output=None` writes to."""
