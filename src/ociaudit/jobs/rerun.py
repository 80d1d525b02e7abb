"""What a command does about what an earlier one left: pure decisions on facts.

Owns: the table of docs/running-again.md. Must not: touch the disk.

Invariants
- Nothing that oci-audit did not write for the same request is replaced without being told to.
- A run that can be continued is never thrown away in silence.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ociaudit.errors import UsageError
from ociaudit.plan.time_range import is_relative
from ociaudit.plan.window import Window
from ociaudit.store.run_folder import ExportArguments


class Action(enum.Enum):
    """What to do."""

    BEGIN = "begin a new run, throwing away what may be left of another"
    RESUME = "go on with the run that was left"
    NOTHING = "the output is complete already"
    CLEAN_UP = "the output is complete; only the run directory is left to remove"


@dataclass(frozen=True, slots=True)
class Leftovers:
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
class RerunOptions:
    """What the command line said about leftovers."""

    overwrite: bool = False
    resume: bool = False
    restart: bool = False
    is_script: bool = False
    """The documented scripts have no such options: they overwrite, and discard what is not theirs."""


def choose_action(
    arguments: ExportArguments, left: Leftovers, options: RerunOptions, *, output: str, window: Window
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


def is_run_spent(arguments: ExportArguments, left: Leftovers, options: RerunOptions) -> bool:
    """Tell whether the run that was left has done all it can: its output stands complete, and its words moved on."""
    return _is_relative(arguments) and _is_finished(arguments, left) and not options.resume


def _is_finished(arguments: ExportArguments, left: Leftovers) -> bool:
    is_of_this_run = left.run == left.finished == arguments and left.output_is_ours
    return is_of_this_run and left.is_complete and (_is_relative(arguments) or not left.is_provisional)


def _is_relative(arguments: ExportArguments) -> bool:
    return is_relative(arguments.start) or is_relative(arguments.end)


def _check_resumable(run: ExportArguments, left: Leftovers, options: RerunOptions, output: str) -> None:
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
    arguments: ExportArguments, left: Leftovers, options: RerunOptions, output: str, window: Window
) -> Action:
    """Throw the run away, unless its output could be something else."""
    if left.run == arguments and (left.output_is_ours or left.may_replace):
        return Action.BEGIN
    return _check_output(arguments, left, options, output, window)


def _check_output(
    arguments: ExportArguments, left: Leftovers, options: RerunOptions, output: str, window: Window
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
