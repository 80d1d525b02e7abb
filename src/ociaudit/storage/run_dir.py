"""The run directory beside an output, the plan in it, and private folders for what lies here only for a while.

`-o audit.json` creates `audit.json.run/` with `plan.json`, `journal.ndjson` and `events.log`. Whether a run is resumed
is decided in `operations/resume.py`.

Invariants
- Nothing in a run directory without a `plan.json` counts.
- A plan that was changed, damaged or written in another format is rejected by name.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.errors import CorruptRun, DiskError, UsageError
from ociaudit.events.filters import FilterSpec
from ociaudit.planning.shard import Target, Window
from ociaudit.storage.atomic_io import (
    explain_disk,
    lock_folder,
    make_private_folder,
    remove_file,
    remove_locked_folder,
    write_file,
)

EventSource = Literal["list-events", "logging-search"]
"""The services that have audit events: ListEvents of Audit, and Logging Search."""
TimeBasis = Literal["processed-time", "event-time"]
PLAN_SCHEMA = "oci-audit-plan/3"
_OWN_NAMES = re.compile(
    r"lock|(\.)?plan\.json(\.partial)?|journal\.ndjson|events\.log|(order|ids)-\d+\.part|rows\.ndjson\.zst"
)


class ExportArguments(msgspec.Struct, frozen=True, kw_only=True, rename={"time_basis": "by"}):
    """What an export is of, as typed, and of which tenancy; two exports with equal arguments are the same request.

    `event_types` are part of the filter; `filter` is the rest of it, without event types of its own. `time_basis` is
    the time that `start` and `end` refer to; `late` is how long after `end` an event may have been processed, if that
    is the event time.
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
    source: EventSource = "list-events"
    """The service that gave the events; Logging Search selects by event time."""
    shape: Literal["api", "sdk", "cli"] = "api"
    settle_minutes: int = 0
    """The range ends at least this long before the start of the run, so that nothing in it is provisional."""
    format: Literal["json", "ndjson", "csv", "parquet"] = "json"
    compress: Literal["none", "gz", "zst"] = "none"
    with_origin: bool = False
    redact: bool = False

    @property
    def whole_filter(self) -> FilterSpec:
        """Return the filter with the event types included."""
        return msgspec.structs.replace(self.filter, event_types=self.event_types)


class RunPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the arguments were resolved to, once, when the run started.

    An event's origin is the index of its target in `targets`. `listed_compartments` are the paths of the root and of
    all listed compartments by OCID, None if they were not listed. The request ids are those of the listings that the
    scope was resolved from; they are empty for what was named on the command line. `id` binds the journal to the plan;
    it does not change when the window of the same arguments grows because its end was in the future.
    """

    schema: str = PLAN_SCHEMA
    id: str = ""
    arguments: ExportArguments
    tenancy: str
    window: Window
    event_window: Window | None = None
    targets: tuple[Target, ...]
    listed_compartments: dict[str, str] | None
    region_request_ids: tuple[str, ...] = ()
    compartment_request_ids: tuple[str, ...] = ()
    retention_days: int | None = None
    may_replace: bool = False
    started_at: str
    check: str = ""
    """The SHA-256 of the plan without this field."""


class _PlanHeader(msgspec.Struct, frozen=True):
    schema: str


def identify_plan(plan: RunPlan) -> str:
    """Return the id of a plan: the SHA-256 of all of it except its window."""
    return _hash(msgspec.structs.replace(plan, id="", window=Window(0, 1), check=""))


def _hash(plan: RunPlan) -> str:
    return hashlib.sha256(msgspec.json.encode(plan)).hexdigest()


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The paths of one run and its plan file."""

    path: Path

    @property
    def plan_path(self) -> Path:
        """Return the path of the plan."""
        return self.path / "plan.json"

    @property
    def journal_path(self) -> Path:
        """Return the path of the journal."""
        return self.path / "journal.ndjson"

    @property
    def log_path(self) -> Path:
        """Return the path of the event log."""
        return self.path / "events.log"

    def measure(self) -> int:
        """Return the size of its files in bytes; 0 if there is no run in it."""
        try:
            return sum(path.stat().st_size for path in self.path.iterdir()) if self.plan_path.exists() else 0
        except OSError:
            return 0

    def check_ours(self) -> None:
        """Check that the directory has no foreign files: it is removed when the run is over.

        Raises:
            UsageError: it contains a file that this program did not write.
            DiskError: it cannot be listed.
        """
        with explain_disk("list", self.path):
            names = os.listdir(self.path) if self.path.is_dir() else []
        foreign = sorted(name for name in names if not _OWN_NAMES.fullmatch(name))
        if foreign:
            raise UsageError(
                f"{self.path} contains files that oci-audit did not write, for example {foreign[0]}",
                hint="the run needs this directory for itself: move it away, or choose another output with -o",
            )

    def read_plan(self) -> RunPlan | None:
        """Return the plan, or None if no run has started here.

        Raises:
            CorruptRun: the file is not a plan, was changed, or has the format of another version.
            DiskError: it cannot be read.
        """
        if not self.plan_path.exists():
            return None
        with explain_disk("read", self.plan_path):
            data = self.plan_path.read_bytes()
        try:
            schema = msgspec.json.decode(data, type=_PlanHeader).schema
            plan = msgspec.json.decode(data, type=RunPlan) if schema == PLAN_SCHEMA else None
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise CorruptRun(f"{self.plan_path} is not a plan of oci-audit: {error}") from error
        if plan is None:
            raise CorruptRun(
                f"{self.plan_path} has the format {schema!r}; this version of oci-audit reads {PLAN_SCHEMA!r}",
                hint="finish the run with the version that started it, or start again with --restart",
            )
        unchecked = msgspec.structs.replace(plan, check="")
        if plan.id != identify_plan(plan) or plan.check != _hash(unchecked):
            raise CorruptRun(f"{self.plan_path} was changed after it was written")
        return unchecked

    def discard(self) -> None:
        """Remove the run's files; the plan goes first, so that nothing of a half-discarded run counts.

        Raises:
            DiskError: a file cannot be removed.
        """
        for path in (self.plan_path, self.journal_path, self.log_path):
            remove_file(path)

    def remove(self) -> None:
        """Remove the whole directory; the plan goes first, so that nothing of a half-removed run counts.

        Raises:
            DiskError: it cannot be removed.
        """
        remove_locked_folder(self.path, first=self.plan_path)

    def write_plan(self, plan: RunPlan) -> None:
        """Write the plan durably.

        Raises:
            DiskError: it cannot be written.
        """
        checked = msgspec.structs.replace(plan, check=_hash(msgspec.structs.replace(plan, check="")))
        data = msgspec.json.format(msgspec.json.encode(checked), indent=1) + b"\n"
        write_file(self.plan_path, data)


_SCRATCH_PREFIX = "scratch-"
_SCRATCH_UNLOCKED_SECONDS = 60
"""A folder that is older than another by more than this has its lock, or its process is gone."""


def make_private_folders(path: Path) -> None:
    """Create a folder, mode 0700, and those above it that do not exist.

    Raises:
        DiskError: one cannot be created.
    """
    with explain_disk("look into", path):
        is_there = path.is_dir()
    if not is_there:
        make_private_folders(path.parent)
        make_private_folder(path)


@contextlib.contextmanager
def open_scratch(parent: Path) -> Iterator[Path]:
    """Yield a new private folder in `parent`, and remove it; those that killed processes have left go, too.

    Raises:
        DiskError: it cannot be created or removed.
    """
    make_private_folders(parent)
    with explain_disk("create a folder in", parent):
        path = Path(tempfile.mkdtemp(prefix=_SCRATCH_PREFIX, dir=parent))
    with lock_folder(path):
        try:
            _sweep_scratch(path)
            yield path
        finally:
            remove_locked_folder(path, first=path / "lock")


def _sweep_scratch(own: Path) -> None:
    """Remove older folders beside `own` whose processes are gone: their locks ended with them."""
    with explain_disk("look into", own.parent):
        newest = own.stat().st_mtime - _SCRATCH_UNLOCKED_SECONDS
        found = [one for one in own.parent.glob(f"{_SCRATCH_PREFIX}*") if one.is_dir() and not one.is_symlink()]
        old = [one for one in found if one.stat().st_mtime < newest]
    for path in old:
        with contextlib.suppress(UsageError, DiskError), lock_folder(path):  # in use, or not ours
            remove_locked_folder(path, first=path / "lock")
