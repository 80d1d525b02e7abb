"""Where a run works: its directory, its lock, and what earlier runs left there.

Owns: the files beside an output and the facts about them. Must not: decide what to do with them.

Invariants
- The run directory is locked while it is looked at and used; the lock dies with the process.
- A directory that was made here and in which no run began is taken away again.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from ociaudit.errors import CorruptRun, DiskError
from ociaudit.jobs.rerun import Leftovers
from ociaudit.plan.window import format_minute
from ociaudit.store.durable import (
    check_replaceable,
    explain_disk,
    lock_folder,
    make_private_folder,
)
from ociaudit.store.manifest import Manifest, decode_manifest
from ociaudit.store.replay import replay_journal
from ociaudit.store.run_folder import RunFolder, RunPlan


@dataclass(frozen=True, slots=True)
class Workspace:
    """An output's files. `output` is None when the events go to stdout."""

    folder: RunFolder
    output: Path | None
    manifest_path: Path | None
    ledger_path: Path
    plan: RunPlan | None
    plan_sha256: str
    manifest: Manifest | None
    left: Leftovers

    def begin_anew(self) -> Workspace:
        """Return the workspace without the run that was left in it.

        Raises:
            DiskError: it cannot be removed.
        """
        self.folder.discard()
        return replace(self, plan=None, plan_sha256="")


def resolve_run_path(output: Path) -> Path:
    """Return the run directory of an output."""
    return output.with_name(output.name + ".run")


@contextlib.contextmanager
def open_workspace(output: Path | None, *, manifest: Path | None, may_discard: bool = False) -> Iterator[Workspace]:
    """Lock the output's run directory and look at what is there.

    Without an output the directory is a private temporary one, and goes at the end. With `may_discard` an
    earlier run that is damaged counts as none: it may be thrown away.

    Raises:
        UsageError: the folder does not exist, or another process works on this output.
        DiskError: the folder cannot be written to.
        CorruptRun: what is there was damaged.
    """
    if manifest is not None:
        check_replaceable(manifest)
    if output is None:
        with _make_temporary_folder() as temporary:
            folder = RunFolder(Path(temporary))
            ledger = manifest or folder.path / "stdout"
            yield Workspace(folder, None, manifest, _name_ledger(ledger), None, "", None, Leftovers())
        return
    check_replaceable(output)
    folder = RunFolder(resolve_run_path(output))
    folder.check_ours()
    with _lock_run(folder) as is_held:  # whoever is refused here must not take the folder away from the other
        try:
            manifest_path = manifest or output.with_name(output.name + ".manifest.json")
            yield _look_around(folder, output, manifest_path, may_discard=may_discard)
        finally:
            if is_held() and not folder.plan_path.exists():
                folder.remove()


@contextlib.contextmanager
def _lock_run(folder: RunFolder) -> Iterator[Callable[[], bool]]:
    make_private_folder(folder.path)
    with contextlib.ExitStack() as stack:
        try:
            is_held = stack.enter_context(lock_folder(folder.path))
        except DiskError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            make_private_folder(folder.path)  # another run has ended just now, and has taken it away
            is_held = stack.enter_context(lock_folder(folder.path))
        yield is_held


def _make_temporary_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="oci-audit-")
    except OSError as error:
        raise DiskError(
            f"no temporary folder can be made: {error.strerror}",
            hint="make room in the folder for temporary files, or name another one with TMPDIR",
        ) from error


def _look_around(folder: RunFolder, output: Path, manifest_path: Path, *, may_discard: bool) -> Workspace:
    plan, plan_sha256, is_published = _read_run(folder, output, may_discard=may_discard)
    manifest = _read_manifest(manifest_path)
    left = Leftovers(
        output_exists=output.exists(),
        run=plan.arguments if plan else None,
        run_window=f"{format_minute(plan.window.start)} to {format_minute(plan.window.end)}" if plan else "",
        may_replace=plan.may_replace if plan else False,
        output_is_ours=is_published,
        finished=manifest.arguments if manifest else None,
        is_complete=manifest.complete if manifest else False,
        is_provisional=bool(manifest.provisional) if manifest else False,
        is_as_stated=_has_size(output, manifest.output.size_bytes) if manifest else True,
    )
    return Workspace(folder, output, manifest_path, _name_ledger(output), plan, plan_sha256, manifest, left)


def _read_run(folder: RunFolder, output: Path, *, may_discard: bool) -> tuple[RunPlan | None, str, bool]:
    """Return the plan, its SHA-256, and whether the output is of that run."""
    try:
        plan, plan_sha256 = folder.read_plan() or (None, "")
        return plan, plan_sha256, plan is not None and _is_published(folder, plan_sha256, output)
    except CorruptRun:
        if may_discard:
            return None, "", False
        raise


def _name_ledger(path: Path) -> Path:
    return path.with_name(path.name + ".ledger.ndjson")


def _read_manifest(path: Path) -> Manifest | None:
    if not path.exists():
        return None
    with explain_disk("read", path):
        data = path.read_bytes()
    with contextlib.suppress(CorruptRun):  # a foreign file of that name is no statement of ours
        return decode_manifest(data, where=str(path))
    return None


def _is_published(folder: RunFolder, plan_sha256: str, output: Path) -> bool:
    """Tell whether the output is one that this run was about to give its name."""
    if not output.exists() or not folder.journal_path.exists():
        return False
    with explain_disk("read", folder.journal_path), folder.journal_path.open("rb") as file:
        state = replay_journal(file, plan_sha256=plan_sha256, where=str(folder.journal_path))
    likely = {line.sha256 for line in state.published if _has_size(output, line.size_bytes)}
    if not likely:
        return False
    with explain_disk("read", output), output.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() in likely


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
