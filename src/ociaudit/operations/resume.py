"""What a command does about what an earlier one left: pure decisions on facts.

Owns: the table of docs/how-to/resuming.md. Must not: touch the disk.

Invariants
- Nothing that oci-audit did not write for the same request is replaced without being told to.
- A run that can be continued is never thrown away in silence.

Where a run works: its directory, its lock, and what earlier runs left there.

Owns: the files beside an output and the facts about them. Must not: decide what to do with them.

Invariants
- The run directory is locked while it is looked at and used; the lock dies with the process.
- A directory that was made here and in which no run began is taken away again.
"""

from __future__ import annotations

import contextlib
import enum
import hashlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ociaudit.errors import CorruptRun, DiskError, UsageError
from ociaudit.planning.time_range import is_relative
from ociaudit.planning.window import Window, parse_minute
from ociaudit.storage.atomic_io import (
    check_replaceable,
    explain_disk,
    lock_folder,
    make_private_folder,
)
from ociaudit.storage.journal import replay_journal
from ociaudit.storage.manifest import Manifest, decode_manifest, name_ledger, name_manifest
from ociaudit.storage.run_dir import ExportArguments, RunFolder, RunPlan
from ociaudit.storage.signing import name_signature


class Action(enum.Enum):
    """What to do."""

    BEGIN = "begin a new run, throwing away what may be left of another"
    RESUME = "go on with the run that was left"
    NOTHING = "the output is complete already"
    CLEAN_UP = "the output is complete; only the run directory is left to remove"


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What stands on the disk.

    `run` are the arguments of the run directory's plan. `output_is_ours`: the output was published by that
    run. `finished` are the arguments of the manifest beside the output; `is_complete` is what it states.
    `is_as_stated`: the output has the size that the manifest states.
    """

    output_exists: bool = False
    run: ExportArguments | None = None
    run_window: Window | None = None
    may_replace: bool = False
    output_is_ours: bool = False
    finished: ExportArguments | None = None
    finished_window: Window | None = None
    is_complete: bool = False
    is_provisional: bool = False
    is_as_stated: bool = True
    foreign: tuple[str, ...] = ()
    """Names of files that an export would replace and that are of nobody known."""


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """What the command line said about leftovers."""

    overwrite: bool = False
    resume: bool = False
    restart: bool = False
    is_script: bool = False
    """The documented scripts have no such options: they overwrite, and discard what is not theirs."""


def choose_action(
    arguments: ExportArguments, left: PreviousRun, options: ResumeOptions, *, output: str, window: Window
) -> Action:
    """Decide what to do; `window` is what the arguments mean now.

    Raises:
        UsageError: a person has to say which of several things is meant; the message shows them.
    """
    if left.run is None or is_run_spent(arguments, left, options):
        if options.resume:
            raise UsageError(f"there is no run to resume beside {output}", hint="leave --resume away to begin one")
        return _check_output(arguments, left, options, output, window)
    if _is_finished(arguments, left) and not options.overwrite:
        is_wanted = options.resume if _is_relative(arguments) else left.finished_window == window
        if is_wanted and not options.is_script:
            return Action.CLEAN_UP
    if options.restart:
        return _check_restart(arguments, left, options, output, window)
    if left.run != arguments:
        if options.is_script:
            return Action.BEGIN
        raise UsageError(
            f"a run with other arguments was left unfinished: {describe_difference(left.run, arguments)}",
            hint="repeat the earlier command to finish it, choose another -o, or throw it away with --restart",
        )
    _check_resumable(left.run, left, options, output)
    return Action.RESUME


def is_run_spent(arguments: ExportArguments, left: PreviousRun, options: ResumeOptions) -> bool:
    """Tell whether the run that was left has done all it can: its output stands complete, and its words moved on."""
    return _is_relative(arguments) and _is_finished(arguments, left) and not options.resume


def _is_finished(arguments: ExportArguments, left: PreviousRun) -> bool:
    is_of_this_run = left.run == left.finished == arguments and left.output_is_ours
    return is_of_this_run and left.is_complete and (_is_relative(arguments) or not left.is_provisional)


def _is_relative(arguments: ExportArguments) -> bool:
    return is_relative(arguments.start) or is_relative(arguments.end)


def _check_resumable(run: ExportArguments, left: PreviousRun, options: ResumeOptions, output: str) -> None:
    if options.is_script:
        return
    if _is_relative(run) and not options.resume:
        raise UsageError(
            f"a run over {left.run_window} was left unfinished; {run.start!r} to {run.end!r} means something else now",
            hint="--resume finishes that range, --restart throws it away and begins with the present one",
        )
    if left.output_exists and not (left.output_is_ours or left.may_replace or options.overwrite):
        raise UsageError(
            f"{output} appeared while the run was interrupted, and is not of this run",
            hint="move it away, or replace it with --overwrite",
        )


def _check_restart(
    arguments: ExportArguments, left: PreviousRun, options: ResumeOptions, output: str, window: Window
) -> Action:
    """Throw the run away, unless its output could be something else."""
    if left.run == arguments and (left.output_is_ours or left.may_replace):
        return Action.BEGIN
    return _check_output(arguments, left, options, output, window)


def _check_output(
    arguments: ExportArguments, left: PreviousRun, options: ResumeOptions, output: str, window: Window
) -> Action:
    if options.overwrite or options.is_script:
        return Action.BEGIN
    if left.foreign:
        raise UsageError(
            f"{', '.join(left.foreign)} beside {output} would be replaced, and no export of oci-audit made it",
            hint="move it away, choose another -o, or replace it with --overwrite",
        )
    if not left.output_exists:
        return Action.BEGIN
    if options.restart and left.finished == arguments and not left.is_complete and left.is_as_stated:
        return Action.BEGIN
    is_same = left.finished == arguments and left.finished_window == window and not _is_relative(arguments)
    if is_same and not left.is_as_stated:
        raise UsageError(
            f"{output} has not the size that the manifest beside it states",
            hint="see what is wrong with `oci-audit verify`, or ask for everything anew with --overwrite",
        )
    if is_same and left.is_complete:
        return Action.NOTHING
    if is_same:
        raise UsageError(
            f"{output} is incomplete, and its run directory is gone",
            hint="ask for everything anew with --overwrite, or choose another -o",
        )
    if left.finished is not None:
        raise UsageError(
            f"{output} exists, {_describe_origin(left.finished, arguments)}",
            hint="choose another -o, or replace it with --overwrite",
        )
    raise UsageError(f"{output} exists", hint="choose another -o, or replace it with --overwrite")


def _describe_origin(before: ExportArguments, now: ExportArguments) -> str:
    if before == now:
        return f"made earlier, when {now.start!r} to {now.end!r} meant another range"
    return f"made with other arguments: {describe_difference(before, now)}"


def describe_difference(before: ExportArguments, now: ExportArguments) -> str:
    """Name the arguments that differ, with both values."""
    parts = [
        f"{name} was {_show(getattr(before, name))}, is {_show(getattr(now, name))}"
        for name in ExportArguments.__struct_fields__
        if getattr(before, name) != getattr(now, name)
    ]
    return "; ".join(parts)


def _show(value: object) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "(all)"
    return str(value)


@dataclass(frozen=True, slots=True)
class Workspace:
    """An output's files. `output` is None when the events go to stdout."""

    folder: RunFolder
    output: Path | None
    manifest_path: Path | None
    ledger_path: Path
    plan: RunPlan | None
    manifest: Manifest | None
    left: PreviousRun

    def discard_previous(self) -> Workspace:
        """Return the workspace without the run that was left in it.

        Raises:
            DiskError: it cannot be removed.
        """
        self.folder.discard()
        return replace(self, plan=None, left=replace(self.left, run=None, run_window=None))

    def widen(self, window: Window) -> Workspace:
        """Return the workspace with a plan whose window has grown with the present, and write that plan.

        Raises:
            DiskError: it cannot be written.
        """
        if self.plan is None or window.end <= self.plan.window.end:
            return self
        plan = msgspec.structs.replace(self.plan, window=Window(self.plan.window.start, window.end))
        self.folder.write_plan(plan)
        return replace(self, plan=plan)


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
            yield Workspace(folder, None, manifest, name_ledger(ledger), None, None, PreviousRun())
        return
    check_replaceable(output)
    manifest_path = manifest or name_manifest(output)
    _check_distinct(output, manifest_path)
    folder = RunFolder(resolve_run_path(output))
    folder.check_ours()
    with _lock_run(folder) as is_held:  # whoever is refused here must not take the folder away from the other
        try:
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
    plan, is_published = _read_run(folder, output, may_discard=may_discard)
    manifest = _read_manifest(manifest_path)
    left = PreviousRun(
        output_exists=output.exists(),
        run=plan.arguments if plan else None,
        run_window=plan.window if plan else None,
        may_replace=plan.may_replace if plan else False,
        output_is_ours=is_published,
        finished=manifest.arguments if manifest else None,
        finished_window=_read_window(manifest) if manifest else None,
        foreign=_find_foreign(output, manifest_path, manifest) if plan is None else (),
        is_complete=manifest.complete if manifest else False,
        is_provisional=bool(manifest.provisional) if manifest else False,
        is_as_stated=_has_size(output, manifest.output.size_bytes) if manifest else True,
    )
    return Workspace(folder, output, manifest_path, name_ledger(output), plan, manifest, left)


def _read_run(folder: RunFolder, output: Path, *, may_discard: bool) -> tuple[RunPlan | None, bool]:
    """Return the plan, and whether the output is of that run."""
    try:
        plan = folder.read_plan()
        return plan, plan is not None and _is_published(folder, plan.id, output)
    except CorruptRun:
        if may_discard:
            return None, False
        raise


def _read_window(manifest: Manifest) -> Window | None:
    try:
        return Window(parse_minute(manifest.range.start), parse_minute(manifest.range.end))
    except ValueError:
        return None


def _find_foreign(output: Path, manifest_path: Path, manifest: Manifest | None) -> tuple[str, ...]:
    """Return the files that would be replaced and that no manifest of ours speaks of."""
    if manifest is not None:
        return ()
    beside = (manifest_path, name_signature(manifest_path), name_ledger(output))
    return tuple(path.name for path in beside if path.exists())


def _check_distinct(output: Path, manifest_path: Path) -> None:
    """Refuse names that would let one file of a run replace another."""
    names = [output, manifest_path, name_signature(manifest_path), name_ledger(output), resolve_run_path(output)]
    if len(set(names)) < len(names) or resolve_run_path(output) in manifest_path.parents:
        raise UsageError(
            f"the manifest {manifest_path} would stand where another file of this export stands",
            hint="choose another name with --manifest, or leave it away",
        )


def _read_manifest(path: Path) -> Manifest | None:
    if not path.exists():
        return None
    with explain_disk("read", path):
        data = path.read_bytes()
    with contextlib.suppress(CorruptRun):  # a foreign file of that name is no statement of ours
        return decode_manifest(data, where=str(path))
    return None


def _is_published(folder: RunFolder, plan_id: str, output: Path) -> bool:
    """Tell whether the output is one that this run was about to give its name."""
    if not output.exists() or not folder.journal_path.exists():
        return False
    with explain_disk("read", folder.journal_path), folder.journal_path.open("rb") as file:
        state = replay_journal(file, plan_id=plan_id, where=str(folder.journal_path))
    likely = {line.sha256 for line in state.published if _has_size(output, line.size_bytes)}
    if not likely:
        return False
    with explain_disk("read", output), output.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() in likely


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
