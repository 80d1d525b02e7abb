"""The run directory beside an output, and the plan in it.

Owns: names and the plan file. Must not: decide whether to resume; that is the use case's.

`-o audit.json` makes `audit.json.run/` with `plan.json`, `journal.ndjson` and `events.log`.

Invariant: a run directory without a `plan.json` holds nothing that counts.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.events.filters import FilterSpec
from ociaudit.planning.shard import Target
from ociaudit.planning.window import Window
from ociaudit.storage.atomic_io import explain_disk, remove_file, remove_locked_folder, write_file

TimeBasis = Literal["processed-time", "event-time"]
PLAN_SCHEMA = "oci-audit-plan/1"
_OURS = re.compile(
    r"lock|(\.)?plan\.json(\.partial)?|journal\.ndjson|events\.log|(order|ids)-\d+\.part|rows\.ndjson\.zst"
)


class ExportArguments(msgspec.Struct, frozen=True, kw_only=True, rename={"time_basis": "by"}):
    """What was asked for, as typed, and of which tenancy; two runs with equal arguments are the same request.

    `event_types` are part of the filter; `filter` is the rest of it, and has none of its own. `time_basis` is the time
    that `start` and `end` mean; `late` is how long after the end processing was waited for, where they mean event time.
    """

    tenancy: str = ""
    start: str
    end: str
    profile: str
    regions: tuple[str, ...] = ()
    compartments: tuple[str, ...] = ()
    is_subtree: bool = True
    event_types: tuple[str, ...] = ()
    filter: FilterSpec = FilterSpec()
    time_basis: TimeBasis = "processed-time"
    late: str = ""
    shape: Literal["api", "sdk", "cli"] = "api"
    settle_minutes: int = 0
    """The range ends at least so long before the present, so that nothing in it is provisional."""
    format: Literal["json", "ndjson", "csv", "parquet"] = "json"
    compress: Literal["none", "gz", "zst"] = "none"
    with_origin: bool = False
    redact: bool = False

    @property
    def whole_filter(self) -> FilterSpec:
        """Return the filter with the event types in it."""
        return msgspec.structs.replace(self.filter, event_types=self.event_types)


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the arguments were resolved to, once, at the run's beginning.

    `origin` of an event is the index of its place in `places`. The request ids prove what the scope was
    made from; they are empty for what was named by hand. `id` binds the journal to the plan: it stays when the
    window of the same arguments grows, because its end was still to come.
    """

    schema: str = PLAN_SCHEMA
    id: str = ""
    arguments: ExportArguments
    tenancy: str
    window: Window
    event_window: Window | None = None
    targets: tuple[Target, ...]
    listed_compartments: tuple[str, ...] | None
    region_request_ids: tuple[str, ...] = ()
    compartment_request_ids: tuple[str, ...] = ()
    retention_days: int | None = None
    may_replace: bool = False
    started_at: str
    check: str = ""
    """The SHA-256 of the plan without it."""


def identify_plan(plan: RunPlan) -> str:
    """Return the id of a plan: the SHA-256 of all of it but its window."""
    return _hash(msgspec.structs.replace(plan, id="", window=Window(0, 1), check=""))


def _hash(plan: RunPlan) -> str:
    return hashlib.sha256(msgspec.json.encode(plan)).hexdigest()


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The paths of one run."""

    path: Path

    @property
    def plan_path(self) -> Path:
        """Where the plan stands."""
        return self.path / "plan.json"

    @property
    def journal_path(self) -> Path:
        """Where the journal stands."""
        return self.path / "journal.ndjson"

    @property
    def log_path(self) -> Path:
        """Where the events stand."""
        return self.path / "events.log"

    def check_ours(self) -> None:
        """Refuse a folder in which something else stands; it would be removed when the run is over.

        Raises:
            UsageError: it is not of this program.
            DiskError: it cannot be looked into.
        """
        with explain_disk("look into", self.path):
            names = os.listdir(self.path) if self.path.is_dir() else []
        foreign = sorted(name for name in names if not _OURS.fullmatch(name))
        if foreign:
            raise UsageError(
                f"{self.path} holds what is not of oci-audit, for example {foreign[0]}",
                hint="the run needs a folder of this name for itself: move it away, or choose another -o",
            )

    def read_plan(self) -> RunPlan | None:
        """Return the plan, or None when no run has begun here.

        Raises:
            CorruptRun: the file is not a plan of this version.
            DiskError: it cannot be read.
        """
        if not self.plan_path.exists():
            return None
        with explain_disk("read", self.plan_path):
            data = self.plan_path.read_bytes()
        try:
            plan = msgspec.json.decode(data, type=RunPlan)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise CorruptRun(f"{self.plan_path} is not a plan of oci-audit: {error}") from error
        if plan.schema != PLAN_SCHEMA:
            raise CorruptRun(
                f"{self.plan_path} is of form {plan.schema!r}; this version reads {PLAN_SCHEMA!r}",
                hint="finish the run with the version that began it, or begin anew with --restart",
            )
        unchecked = msgspec.structs.replace(plan, check="")
        if plan.id != identify_plan(plan) or plan.check != _hash(unchecked):
            raise CorruptRun(f"{self.plan_path} was changed after it was written")
        return unchecked

    def discard(self) -> None:
        """Forget the run in this folder; the plan goes first, so that a half-discarded run is none.

        Raises:
            DiskError: the disk refused.
        """
        for path in (self.plan_path, self.journal_path, self.log_path):
            remove_file(path)

    def remove(self) -> None:
        """Take the whole folder away; the plan goes first, so that a half-removed run is none.

        Raises:
            DiskError: the disk refused.
        """
        remove_locked_folder(self.path, first=self.plan_path)

    def write_plan(self, plan: RunPlan) -> None:
        """Write the plan, durably.

        Raises:
            DiskError: the disk refused.
        """
        checked = msgspec.structs.replace(plan, check=_hash(msgspec.structs.replace(plan, check="")))
        data = msgspec.json.format(msgspec.json.encode(checked), indent=1) + b"\n"
        write_file(self.plan_path, data)
