"""What an earlier run left beside an output, and what a command does about it.

`open_workspace` locks the run directory and collects the facts (`PreviousRun`); `choose_action` decides on them,
without touching the disk. docs/how-to/resuming.md lists every case.

Invariants
- Nothing that oci-audit did not write for the same request is replaced unless an option says so.
- A run that can be resumed is never discarded silently.
- The run directory is locked while it is inspected and used; the lock dies with the process.
- A directory that was created here and in which no run began is removed again.
"""

from __future__ import annotations

import contextlib
import enum
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ociaudit.errors import CorruptRun, DiskError, UsageError
from ociaudit.planning.shard import Window
from ociaudit.planning.time_range import is_relative
from ociaudit.storage.atomic_io import (
    check_name_length,
    check_replaceable,
    explain_disk,
    lock_folder,
    make_private_folder,
    reject_existing,
)
from ociaudit.storage.journal import replay_journal
from ociaudit.storage.manifest import Manifest, load_manifest, name_ledger, name_manifest, name_signature
from ociaudit.storage.run_dir import ExportArguments, RunDirectory, RunPlan
from ociaudit.storage.verdict import hash_file


class Action(enum.Enum):
    """What to do."""

    BEGIN = "begin a new run, discarding what may be left of another"
    RESUME = "resume the run that was left"
    NOTHING = "the output exists and has no gap that is not waived"
    CLEAN_UP = "the same, and only the run directory is left to remove"


@dataclass(frozen=True, slots=True)
class PreviousRun:
    """What an earlier run left on disk.

    `run` are the arguments of the run directory's plan. `output_is_ours`: that run published the output. `finished` are
    the arguments of the manifest beside the output, and `is_complete` is what it states. `is_as_stated`: the output has
    the size that the manifest states.
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
    """Names of files that an export would replace and that no export is known to have written."""


@dataclass(frozen=True, slots=True)
class ResumeOptions:
    """What the command line says about an earlier run."""

    overwrite: bool = False
    resume: bool = False
    restart: bool = False
    is_script: bool = False
    """The documented scripts have no such options: they overwrite, and discard what is not theirs."""


def choose_action(
    arguments: ExportArguments, previous: PreviousRun, options: ResumeOptions, *, output: str, window: Window
) -> Action:
    """Decide what to do; `window` is what the arguments mean now.

    Raises:
        UsageError: several things could be meant; the message lists them with their options.
    """
    if previous.run is None or is_run_spent(arguments, previous, options):
        if options.resume:
            raise UsageError(f"there is no run to resume beside {output}", hint="omit --resume to begin one")
        return _check_output(arguments, previous, options, output, window)
    if _is_finished(arguments, previous) and not options.overwrite:
        is_wanted = options.resume if has_relative_range(arguments) else previous.finished_window == window
        if is_wanted and not options.is_script:
            return Action.CLEAN_UP
    if options.restart:
        return _check_restart(arguments, previous, options, output, window)
    if previous.run != arguments:
        if options.is_script:
            return Action.BEGIN
        raise UsageError(
            f"a run with other arguments was left unfinished: {describe_difference(previous.run, arguments)}",
            hint="repeat the earlier command to finish it, choose another -o, or discard it with "
            f"{_name_restart(arguments, previous)}",
        )
    _check_resumable(arguments, previous, options, output)
    return Action.RESUME


def is_run_spent(arguments: ExportArguments, previous: PreviousRun, options: ResumeOptions) -> bool:
    """Return whether the earlier run is done: its output is complete, and its relative range has moved on."""
    return has_relative_range(arguments) and _is_finished(arguments, previous) and not options.resume


def _is_finished(arguments: ExportArguments, previous: PreviousRun) -> bool:
    is_of_this_run = previous.run == previous.finished == arguments and previous.output_is_ours
    return is_of_this_run and previous.is_complete and (has_relative_range(arguments) or not previous.is_provisional)


def has_relative_range(arguments: ExportArguments) -> bool:
    """Return whether the range as typed moves with the present: an age, or `now`."""
    return is_relative(arguments.start) or is_relative(arguments.end)


def name_repetition(arguments: ExportArguments, options: ResumeOptions) -> str:
    """Return the options with which the same command continues a run that is kept, for `OciAuditError.repeat_with`."""
    needs_resume = has_relative_range(arguments) and not (options.resume or options.is_script)
    if options.restart:
        return "with --resume in place of --restart" if needs_resume else "without --restart"
    return "with --resume" if needs_resume else ""


def _check_resumable(run: ExportArguments, previous: PreviousRun, options: ResumeOptions, output: str) -> None:
    if options.is_script:
        return
    if has_relative_range(run) and not options.resume:
        raise UsageError(
            f"a run over {previous.run_window} was left unfinished; "
            f"{run.start!r} to {run.end!r} now means another range",
            hint=f"--resume finishes that range, {_name_restart(run, previous)} discards it and begins with the "
            "present one",
        )
    if previous.output_exists and not (previous.output_is_ours or previous.may_replace or options.overwrite):
        raise UsageError(
            f"{output} appeared while the run was interrupted, and this run did not write it",
            hint="move it away, or replace it with --overwrite",
        )
    if not (previous.may_replace or options.overwrite):
        _reject_foreign(previous, output)


def _reject_foreign(previous: PreviousRun, output: str) -> None:
    if previous.foreign:
        raise UsageError(
            f"{', '.join(previous.foreign)} beside {output} would be replaced, and no manifest says that oci-audit "
            "wrote it",
            hint="move it away, choose another -o, or replace it with --overwrite",
        )


def _check_restart(
    arguments: ExportArguments, previous: PreviousRun, options: ResumeOptions, output: str, window: Window
) -> Action:
    """Discard the run with what it published, unless that is complete or the output could be something else."""
    if _may_discard_output(arguments, previous):
        return Action.BEGIN
    return _check_output(arguments, previous, options, output, window)


def _may_discard_output(arguments: ExportArguments, previous: PreviousRun) -> bool:
    """Return whether the output goes with its run: an incomplete one, or any of the same request."""
    if previous.run == arguments:
        return previous.output_is_ours or previous.may_replace
    return previous.output_is_ours and not previous.is_complete


def _name_restart(arguments: ExportArguments, previous: PreviousRun) -> str:
    """Return the options that discard the run and begin again."""
    is_free = not previous.output_exists or _may_discard_output(arguments, previous)
    return "--restart" if is_free else "--restart --overwrite"


def _check_output(
    arguments: ExportArguments, previous: PreviousRun, options: ResumeOptions, output: str, window: Window
) -> Action:
    if options.overwrite or options.is_script:
        return Action.BEGIN
    _reject_foreign(previous, output)
    if not previous.output_exists:
        return Action.BEGIN
    if options.restart and previous.finished == arguments and not previous.is_complete and previous.is_as_stated:
        return Action.BEGIN
    is_same = (
        previous.finished == arguments and previous.finished_window == window and not has_relative_range(arguments)
    )
    if is_same and not previous.is_as_stated:
        raise UsageError(
            f"{output} does not have the size that its manifest states",
            hint="check it with `oci-audit verify`, or fetch everything again with --overwrite",
        )
    if is_same and previous.is_complete:
        return Action.NOTHING
    if is_same:
        raise UsageError(
            f"{output} is incomplete, and its run directory is gone",
            hint="fetch everything again with --overwrite, or choose another -o",
        )
    if previous.finished is not None:
        raise UsageError(
            f"{output} exists, {_describe_origin(previous.finished, arguments)}",
            hint="choose another -o, or replace it with --overwrite",
        )
    raise UsageError(f"{output} exists", hint="choose another -o, or replace it with --overwrite")


def _describe_origin(before: ExportArguments, now: ExportArguments) -> str:
    if before == now:
        return f"written earlier, when {now.start!r} to {now.end!r} meant another range"
    return f"written with other arguments: {describe_difference(before, now)}"


def describe_difference(before: ExportArguments, now: ExportArguments) -> str:
    """Return the arguments that differ, with both values."""
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
class Leftover:
    """An unfinished run of a request like the present one, whose output is named after another range.

    `plan` is None if the run cannot be resumed, and `problem` says why.
    """

    output: Path
    plan: RunPlan | None
    problem: str = ""

    def __str__(self) -> str:
        """Return where it is, of which range, and what finishes it."""
        folder = resolve_run_path(self.output)
        if self.plan is None:
            return f"{folder.name} cannot be resumed ({self.problem}); remove it with: rm -r {shlex.quote(str(folder))}"
        arguments = self.plan.arguments
        words = ["--start", arguments.start, "--end", arguments.end, "-o", str(self.output)]
        words += ["--resume"] if has_relative_range(arguments) else []
        return (
            f"the run over {self.plan.event_window or self.plan.window} in {folder.name} is not finished; "
            f"to finish it, run this command with these in place of its own range and -o: {shlex.join(words)}"
        )


def find_leftovers(pattern: Path, output: Path, arguments: ExportArguments) -> tuple[Leftover, ...]:
    """Return the unfinished runs of other ranges whose outputs were named by `pattern`, in the order of their names.

    `output` is what the pattern means now. A run that a process is working on is not a leftover.
    """
    name = re.escape(pattern.name + ".run")
    for placeholder in ("{start}", "{end}"):
        name = name.replace(re.escape(placeholder), "[0-9TZ-]+")
    with explain_disk("look into", pattern.parent):
        folders = sorted(path for path in pattern.parent.glob("*.run") if re.fullmatch(name, path.name))
    found = (_inspect_leftover(RunDirectory(path), arguments) for path in folders if path != resolve_run_path(output))
    return tuple(leftover for leftover in found if leftover is not None)


def _inspect_leftover(folder: RunDirectory, arguments: ExportArguments) -> Leftover | None:
    output = folder.path.with_name(folder.path.name.removesuffix(".run"))
    try:
        if not folder.plan_path.exists():
            return None
        with lock_folder(folder.path):
            plan = folder.read_plan()
    except CorruptRun as error:
        return Leftover(output, None, str(error))
    except (UsageError, DiskError):  # in use, or not ours to read
        return None
    if plan is None or msgspec.structs.replace(plan.arguments, start=arguments.start, end=arguments.end) != arguments:
        return None
    return Leftover(output, plan)


def choose_leftover(leftovers: Sequence[Leftover], arguments: ExportArguments) -> Leftover | None:
    """Return the one leftover that `--resume` means; None if there is none of the same arguments.

    Raises:
        UsageError: there are several.
    """
    same = [one for one in leftovers if one.plan is not None and one.plan.arguments == arguments]
    if len(same) > 1:
        raise UsageError(
            f"{len(same)} runs can be resumed: {', '.join(one.output.name for one in same)}",
            hint=f"name one: -o {shlex.quote(str(same[0].output))}",
        )
    return same[0] if same else None


@dataclass(frozen=True, slots=True)
class Workspace:
    """An output's files. `output` is None when the events go to stdout."""

    folder: RunDirectory
    output: Path | None
    manifest_path: Path | None
    ledger_path: Path
    plan: RunPlan | None
    manifest: Manifest | None
    previous: PreviousRun
    existing: frozenset[Path] = frozenset()
    """Which files of the export were here when it began."""

    def reject_appeared(self) -> None:
        """Check that no other program has created a file that this run is about to write.

        Raises:
            UsageError: one has.
        """
        if self.output is not None and self.manifest_path is not None:
            names = _list_files(self.output, self.manifest_path)
            reject_existing(*(path for path in names if path not in self.existing))

    def discard_previous(self) -> Workspace:
        """Remove the earlier run and return the workspace without it.

        Raises:
            DiskError: it cannot be removed.
        """
        self.folder.discard()
        return replace(self, plan=None, previous=replace(self.previous, run=None, run_window=None))

    def widen(self, window: Window) -> Workspace:
        """Write a plan whose window reaches further, as the present has moved on, and return the workspace with it.

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
    """Lock the output's run directory and inspect it.

    Without an output the directory is a private temporary one, removed at the end. With `may_discard`, a damaged
    earlier run counts as none.

    Raises:
        UsageError: the folder does not exist, or another process works on this output.
        DiskError: the folder cannot be written to.
        CorruptRun: the earlier run is damaged.
    """
    if manifest is not None:
        check_replaceable(manifest)
    if output is None:
        with _make_temporary_folder() as temporary:
            folder = RunDirectory(Path(temporary))
            ledger = manifest or folder.path / "stdout"
            yield Workspace(folder, None, manifest, name_ledger(ledger), None, None, PreviousRun())
        return
    check_replaceable(output)
    manifest_path = manifest or name_manifest(output)
    _check_distinct(output, manifest_path)
    folder = RunDirectory(resolve_run_path(output))
    folder.check_ours()
    with _lock_run(folder) as is_held:  # a process that fails here must not remove the directory of the other
        try:
            yield _inspect(folder, output, manifest_path, may_discard=may_discard)
        finally:
            if is_held() and not folder.plan_path.exists():
                folder.remove()


@contextlib.contextmanager
def _lock_run(folder: RunDirectory) -> Iterator[Callable[[], bool]]:
    make_private_folder(folder.path)
    with contextlib.ExitStack() as stack:
        try:
            is_held = stack.enter_context(lock_folder(folder.path))
        except DiskError as error:
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
            make_private_folder(folder.path)  # another run has just ended and removed it
            is_held = stack.enter_context(lock_folder(folder.path))
        yield is_held


def _make_temporary_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="oci-audit-")
    except OSError as error:
        raise DiskError(
            f"no temporary folder can be created: {error.strerror}",
            hint="free space in the folder for temporary files, or name another one with TMPDIR",
        ) from error


def _inspect(folder: RunDirectory, output: Path, manifest_path: Path, *, may_discard: bool) -> Workspace:
    plan, is_published = _read_run(folder, output, may_discard=may_discard)
    manifest = _read_manifest(manifest_path)
    previous = PreviousRun(
        output_exists=output.exists(),
        run=plan.arguments if plan else None,
        run_window=plan.window if plan else None,
        may_replace=plan.may_replace if plan else False,
        output_is_ours=is_published,
        finished=manifest.arguments if manifest else None,
        finished_window=_read_window(manifest) if manifest else None,
        foreign=_find_foreign(output, manifest_path) if manifest is None and not is_published else (),
        is_complete=manifest.complete if manifest else False,
        is_provisional=bool(manifest.provisional) if manifest else False,
        is_as_stated=_has_size(output, manifest.output.size_bytes) if manifest else True,
    )
    existing = frozenset(path for path in _list_files(output, manifest_path) if path.exists())
    return Workspace(folder, output, manifest_path, name_ledger(output), plan, manifest, previous, existing)


def _read_run(folder: RunDirectory, output: Path, *, may_discard: bool) -> tuple[RunPlan | None, bool]:
    """Return the plan, and whether that run published the output."""
    try:
        plan = folder.read_plan()
        return plan, plan is not None and _is_published(folder, plan.id, output)
    except CorruptRun:
        if may_discard:
            return None, False
        raise


def _read_window(manifest: Manifest) -> Window | None:
    try:
        return manifest.window
    except ValueError:
        return None


def _list_files(output: Path, manifest_path: Path) -> tuple[Path, ...]:
    """Return the files that an export writes, the output first."""
    return output, manifest_path, name_signature(manifest_path), name_ledger(output)


def _find_foreign(output: Path, manifest_path: Path) -> tuple[str, ...]:
    """Return the names of the files beside the output that would be replaced."""
    return tuple(path.name for path in _list_files(output, manifest_path)[1:] if path.exists())


def _check_distinct(output: Path, manifest_path: Path) -> None:
    """Reject names that would let one file of a run replace another, or that are too long."""
    names = [*_list_files(output, manifest_path), resolve_run_path(output)]
    if len(set(names)) < len(names) or resolve_run_path(output) in manifest_path.parents:
        raise UsageError(
            f"the manifest {manifest_path} would replace another file of this export",
            hint="choose another name with --manifest, or omit it",
        )
    for path in names:
        check_name_length(path)


def _read_manifest(path: Path) -> Manifest | None:
    try:
        found = load_manifest(path)
    except CorruptRun:  # a foreign file of that name is not a manifest
        return None
    return found.manifest if found else None


def _is_published(folder: RunDirectory, plan_id: str, output: Path) -> bool:
    """Return whether the output is the file that this run was publishing."""
    if not output.exists() or not folder.journal_path.exists():
        return False
    with explain_disk("read", folder.journal_path), folder.journal_path.open("rb") as file:
        state = replay_journal(file, plan_id=plan_id, where=str(folder.journal_path))
    likely = {line.sha256 for line in state.published if _has_size(output, line.size_bytes)}
    if not likely:
        return False
    return hash_file(output)[0] in likely


def _has_size(path: Path, size_bytes: int) -> bool:
    return path.exists() and path.stat().st_size == size_bytes
