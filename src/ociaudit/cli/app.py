"""The command `oci-audit`: the table of its commands, and the one place where an error becomes an exit status.

A command's module is imported when the command is run or its help is shown, so that `oci-audit --help` needs nothing
but click. Three small commands are here: `doctor`, and `presets` and `completion`, which list what the command line
itself knows.
"""

from __future__ import annotations

import gc
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from ociaudit.cli import console
from ociaudit.cli.options import (
    OUTPUT,
    Command,
    argument,
    complete_names,
    complete_presets,
    json_option,
    make_connection_options,
    make_general_options,
    option,
    region_option,
    render_help,
    sign_in_options,
)
from ociaudit.errors import ExitCode, OciAuditError, UsageError, find_exit_status
from ociaudit.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

    from ociaudit.events.filters import Preset
    from ociaudit.operations.doctor import CheckResult

_PROGRAM = "oci-audit"
_COMPLETION_VARIABLE = "_OCI_AUDIT_COMPLETE"
_SHELLS = ("bash", "zsh", "fish")
_LONGEST_MESSAGE = 300


class LazyCommand(NamedTuple):
    """Where a command is defined, as `module:attribute`, and its line in the list of commands."""

    target: str
    short_help: str


COMMANDS: Mapping[str, LazyCommand] = MappingProxyType(
    {
        "export": LazyCommand(
            "ociaudit.cli.export_command:export", "Write every audit event of a time range to one file."
        ),
        "sync": LazyCommand("ociaudit.cli.archive_commands:sync", "Keep an archive of all audit events current."),
        "status": LazyCommand(
            "ociaudit.cli.archive_commands:status", "Show what an archive holds, and what is missing."
        ),
        "tail": LazyCommand("ociaudit.cli.tail_commands:tail", "Print the events that an archive has gained."),
        "import": LazyCommand("ociaudit.cli.tail_commands:import_command", "Add event files to an archive."),
        "prune": LazyCommand("ociaudit.cli.tail_commands:prune", "Remove old events from an archive."),
        "doctor": LazyCommand("ociaudit.cli.app:doctor", "Check that everything is ready for an export."),
        "verify": LazyCommand("ociaudit.cli.verify_command:verify", "Check an export against its manifest."),
        "diff": LazyCommand("ociaudit.cli.file_commands:diff", "Compare two exports event by event."),
        "reconcile": LazyCommand(
            "ociaudit.cli.file_commands:reconcile", "Find what a connector lost, doubled or added."
        ),
        "presets": LazyCommand("ociaudit.cli.app:presets", "List the named filters."),
        "convert": LazyCommand("ociaudit.cli.file_commands:convert", "Convert event files to another format."),
        "summary": LazyCommand("ociaudit.cli.summary_command:summary", "Summarize event files on one screen."),
        "query": LazyCommand("ociaudit.cli.query_command:query", "Run a SQL SELECT on event files."),
        "report": LazyCommand(
            "ociaudit.cli.summary_command:report", "Create a self-contained HTML report from an export."
        ),
        "demo": LazyCommand("ociaudit.cli.demo_command:demo", "Try an export without an account."),
        "emulator": LazyCommand("ociaudit.cli.demo_command:emulator", "Serve a synthetic tenancy on this machine."),
        "completion": LazyCommand("ociaudit.cli.app:completion", "Print a completion script for a shell."),
    }
)


class Program(click.Group):
    """The group of all commands, each of which is imported when it is needed."""

    examples = (
        ("Export the last seven days of the whole tenancy", "oci-audit export --start 7d -o audit.json"),
        ("Summarize what happened", "oci-audit summary audit.json"),
    )

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, the most common first."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is no command of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name].target.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name.

        Raises:
            UsageError: there is none; the hint names the nearest.
        """
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            raise UsageError(f"no such command '{name}'", hint=_suggest(name, COMMANDS, ctx))
        return super().resolve_command(ctx, args)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, with `--color` and `--help` at the end."""
        return [*self.params, *make_general_options(self)]

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as it is printed to stdout."""
        return _render_program_help(ctx, color=console.uses_color())

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`, without importing a command."""
        commands = {name: command.short_help for name, command in COMMANDS.items()}
        return complete_names(commands, incomplete) or click.Command.shell_complete(self, ctx, incomplete)


def _print_version(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's protocol
    if value and not context.resilient_parsing:
        console.print_output(f"{_PROGRAM} {VERSION}")
        context.exit()


@click.group(cls=Program, name=_PROGRAM, invoke_without_command=True)
@option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Print the version."
)
@click.pass_context
def app(context: click.Context) -> int:
    """Export every audit event from an OCI tenancy, with a manifest of what is complete and what is missing."""
    if context.invoked_subcommand is not None:
        return ExitCode.OK
    console.print_lines(_render_program_help(context, color=console.uses_color(to_stderr=True)), to_stderr=True)
    return ExitCode.USAGE


def _render_program_help(context: click.Context, *, color: bool) -> str:
    commands = {name: command.short_help for name, command in COMMANDS.items()}
    return render_help(context.command, context, color=color, commands=commands)


@click.command(
    cls=Command,
    examples=(
        ("Bash: load completion in this session", "source <(oci-audit completion bash)"),
        ("Zsh: load completion in this session", "source <(oci-audit completion zsh)"),
        (
            "Fish: load completion in every session",
            "oci-audit completion fish > ~/.config/fish/completions/oci-audit.fish",
        ),
    ),
)
@argument("shell", type=click.Choice(_SHELLS), metavar="SHELL", help=f"{', '.join(_SHELLS[:-1])} or {_SHELLS[-1]}.")
def completion(shell: str) -> int:
    """Print a shell completion script for commands, options, and option values."""
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise UsageError(f"click has no completion for {shell}", hint=f"choose one of {', '.join(_SHELLS)}")
    console.print_lines(kind(app, {}, _PROGRAM, _COMPLETION_VARIABLE).source())
    return ExitCode.OK


def main() -> None:
    """Run the command line and exit."""
    # What is imported lives as long as the process, and events make no cycles: collecting less often saves 0.1 s.
    gc.set_threshold(50_000, 50, 50)
    instruction = os.environ.get(_COMPLETION_VARIABLE)
    if instruction:
        from click.shell_completion import shell_complete

        sys.exit(shell_complete(app, {}, _PROGRAM, _COMPLETION_VARIABLE, instruction))
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: Sequence[str]) -> int:
    """Run `oci-audit` with these arguments and return the exit status."""
    with ExitStack() as stack:

        def run() -> object:
            # The context stays open until an error is printed, because it knows whether to use color.
            context = stack.enter_context(app.make_context(_PROGRAM, list(arguments)))
            return app.invoke(context)

        return run_guarded(run, arguments)


def run_guarded(work: Callable[[], object], arguments: Sequence[str] = ()) -> int:
    """Do the work and return the exit status; an exception is explained on stderr.

    `arguments` are those of the command line, which are checked first.
    """
    console.fill_closed_streams()
    try:
        with console.end_cleanly():
            check_arguments(arguments)
            status = work()
    except OciAuditError as error:
        console.print_error(error)
        return find_exit_status(error)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        console.print_error(_translate(error, arguments))
        return ExitCode.USAGE
    except (KeyboardInterrupt, click.Abort):
        console.print_error(OciAuditError("interrupted", hint="run the same command again"))
        return ExitCode.INTERRUPTED
    except Exception as error:
        console.print_bug(error)
        return ExitCode.BUG
    return status if isinstance(status, int) else ExitCode.OK


def check_arguments(arguments: Sequence[str]) -> None:
    """Check that the arguments are text: others could not be written to a plan or a manifest.

    Raises:
        UsageError: one is not UTF-8.
    """
    for argument_ in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument_):
            raise UsageError(f"the argument {argument_!r} is not UTF-8", hint="type it in UTF-8, and check the locale")


def _translate(error: click.ClickException, arguments: Sequence[str]) -> UsageError:
    """Return what click rejected as an error of ours, with a suggestion for a misspelled option, or an example."""
    context: click.Context | None = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption):
        message, names = error.message, error.possibilities or _find_long_option(error.option_name, arguments, context)
    else:
        message, names = error.format_message(), ()
    message = message.removesuffix(".")
    if len(message) > _LONGEST_MESSAGE:  # it names every argument that is too many
        message = f"{message[:_LONGEST_MESSAGE].rpartition(' ')[0]} …"
    hint = _make_hint(names, context)
    examples: Sequence[tuple[str, str]] = getattr(context.command, "examples", ()) if context else ()
    if isinstance(error, click.MissingParameter) and examples:
        hint = f"for example: {examples[0][1]}; {hint}"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _find_long_option(short: str, arguments: Sequence[str], context: click.Context | None) -> Sequence[str]:
    """Return the option that is nearest to one typed with a single hyphen; click reads `-start` as `-s`."""
    from difflib import get_close_matches

    names = [name for one in context.command.get_params(context) for name in one.opts] if context else []
    typed = next((one for one in arguments if one.startswith(short) and len(one) > len(short)), "")
    return get_close_matches(f"-{typed.partition('=')[0]}", names, n=1)


def _suggest(name: str, names: Iterable[str], context: click.Context) -> str:
    from difflib import get_close_matches

    return _make_hint(get_close_matches(name, names, n=1), context)


def _make_hint(names: Sequence[str], context: click.Context | None) -> str:
    see = f"see `{context.command_path if context else _PROGRAM} --help`"
    return f"did you mean {names[0]}? {see}" if names else see


@click.command(
    cls=Command,
    examples=(
        ("List all presets", "oci-audit presets"),
        ("Show the event types that one preset matches", "oci-audit presets api-keys"),
    ),
)
@argument("name", required=False, metavar="[NAME]", shell_complete=complete_presets, help="Preset to show in full.")
@json_option
def presets(name: str | None, *, as_json: bool) -> int:
    """List the named filters for --preset; with NAME, show the event types that the preset matches.

    Exit codes: 0 listed, 2 no preset with that name.
    """
    from ociaudit.events.filters import PRESETS, find_preset

    chosen = (find_preset(name),) if name is not None else PRESETS
    if as_json:
        import json

        console.print_data(json.dumps({preset.name: _encode_preset(preset) for preset in chosen}))
        return ExitCode.OK
    for line in _describe_list(chosen) if name is None else _describe_preset(chosen[0]):
        console.print_output(line)
    return ExitCode.OK


def _describe_list(chosen: Sequence[Preset]) -> Iterator[str]:
    width = max(len(preset.name) for preset in chosen)
    for preset in chosen:
        yield f"{preset.name:<{width}}  {preset.title}"


def _describe_preset(preset: Preset) -> Iterator[str]:
    yield f"{preset.name}: {preset.title}"
    for part in preset.parts:
        yield f"  {part.title}"
        for pattern in part.name_rule.patterns:
            yield f"    {pattern}"


def _encode_preset(preset: Preset) -> dict[str, Any]:
    return {
        "title": preset.title,
        "parts": [
            {"title": part.title, "event_types": part.name_rule.patterns, "outcome": part.name_rule.outcome}
            for part in preset.parts
        ],
    }


_STATUS_WIDTH = 8


@click.command(
    cls=Command,
    examples=(
        ("Check everything with the default profile", "oci-audit doctor"),
        ("Check one region and print JSON for scripts", "oci-audit doctor --region eu-frankfurt-1 --json"),
    ),
)
@region_option
@option("--json", "as_json", section=OUTPUT, is_flag=True, help="Print one JSON object.")
@sign_in_options
def doctor(*, as_json: bool, **options: Any) -> int:
    """Check sign-in, proxy, certificates, clock, regions, permissions, and retention, and show how to fix problems.

    Exit codes: 0 nothing failed, 3 a check failed, 2 usage.
    """
    results = _diagnose(options)
    if as_json:
        import json

        console.print_data(json.dumps(encode_results(results)))
    else:
        for line in describe_results(results):
            console.print_output(line)
    return ExitCode.OK if is_ready(results) else ExitCode.NOT_READY


def _diagnose(options: dict[str, Any]) -> tuple[CheckResult, ...]:
    from ociaudit import api

    return api.diagnose(make_connection_options(options), regions=options["regions"])


def is_ready(results: Sequence[CheckResult]) -> bool:
    """Return whether no check failed."""
    return not any(result.status == "failed" for result in results)


def describe_results(results: Sequence[CheckResult]) -> Iterator[str]:
    """Yield a line for each check, what to do below it, and the totals at the end."""
    width = max((len(result.check) for result in results), default=0)
    margin = " " * (_STATUS_WIDTH + 1)
    for result in results:
        yield f"{result.status:{_STATUS_WIDTH}} {result.check:{width}}  {result.message}"
        if result.hint:
            yield f"{margin}hint: {result.hint}"
        if result.policy:
            yield f"{margin}policy: {result.policy}"
    totals = Counter(result.status for result in results)
    yield ", ".join(f"{number} {status}" for status, number in totals.items())


def encode_results(results: Sequence[CheckResult]) -> dict[str, Any]:
    """Return the results as one JSON object; `is_ready` if no check failed."""
    return {
        "is_ready": is_ready(results),
        "findings": [
            {
                "check": result.check,
                "status": result.status,
                "message": result.message,
                "hint": result.hint,
                "policy": result.policy,
            }
            for result in results
        ],
    }
