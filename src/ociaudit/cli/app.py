"""The command `oci-audit`: its commands, and the one place where an error becomes an exit status.

Owns: the top of the program. Must not: import anything heavy before a command is chosen.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ociaudit.cli import console
from ociaudit.errors import SIGNAL_EXIT_BASE, OciAuditError, UsageError, find_exit_status
from ociaudit.version import VERSION

USAGE_EXIT_CODE = 2
BUG_EXIT_CODE = 1
_PROGRAM = "oci-audit"

app = typer.Typer(
    name=_PROGRAM,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def describe(
    context: typer.Context,
    *,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    """Every audit event of an Oracle Cloud tenancy, once, provably, fast."""
    if version:
        console.print_output(f"oci-audit {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        for line in context.get_help().splitlines():
            console.print_message(line)
        raise typer.Exit(USAGE_EXIT_CODE)


def main() -> None:
    """Run the command line and exit."""
    # What is imported is no garbage, and events make no cycles: looking for them less saves a tenth of a second.
    gc.set_threshold(50_000, 50, 50)
    register_commands()
    sys.exit(run_guarded(lambda: app(prog_name=_PROGRAM, standalone_mode=False)))


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that are no text: they could not be written down in a plan or a manifest.

    Raises:
        UsageError: one is not UTF-8.
    """
    for argument in arguments:
        if any("\ud800" <= character <= "\udfff" for character in argument):
            raise UsageError(
                f"the argument {argument!r} is not UTF-8", hint="type it in UTF-8, as the locale should say"
            )


def register_commands() -> typer.Typer:
    """Give the program its commands; done once, and late, so that importing this module stays quick."""
    from ociaudit.cli import (
        convert_command,
        demo_command,
        diff_command,
        doctor_command,
        export_command,
        presets_command,
        query_command,
        report_command,
        summary_command,
        verify_command,
    )
    from ociaudit.cli.options import FilterCommand

    app.command("export", short_help="Write every audit event of a range into one file.", cls=FilterCommand)(
        export_command.export
    )
    app.command("doctor", short_help="Check that everything is in place for an export.")(doctor_command.doctor)
    app.command("verify", short_help="Check an export against its manifest.")(verify_command.verify)
    app.command("diff", short_help="Compare two exports event by event.")(diff_command.diff)
    app.command("presets", short_help="List the filters that have a name.")(presets_command.presets)
    app.command("convert", short_help="Write events of files in another form.", cls=FilterCommand)(
        convert_command.convert
    )
    app.command("summary", short_help="Show what a file of events tells.")(summary_command.summary)
    app.command("query", short_help="Ask one SELECT over the events of any files.")(query_command.query)
    app.command("report", short_help="Write an export as one page to look at.")(report_command.report)
    app.command("demo", short_help="Try it without an account.")(demo_command.demo)
    app.command(
        "emulator",
        short_help="Serve a made tenancy on this machine.",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(demo_command.emulator)
    return app


def run_guarded(work: Callable[[], object]) -> int:
    """Do the work and return the exit status; what is raised is explained on stderr."""
    console.fill_closed_streams()
    try:
        check_arguments(sys.argv[1:])
        status = work()
    except OciAuditError as error:
        console.print_error(error)
        return find_exit_status(error)
    except TyperException as error:
        describe_problem: Callable[[], str] = getattr(error, "format_message", error.__str__)
        context: typer.Context | None = getattr(error, "ctx", None)
        command = context.command_path if context else _PROGRAM
        console.print_error(UsageError(describe_problem(), hint=f"see `{command} --help`"))
        return USAGE_EXIT_CODE
    except (KeyboardInterrupt, typer.Abort):
        console.print_error(OciAuditError("interrupted", hint="run the same command again"))
        return SIGNAL_EXIT_BASE + signal.SIGINT
    except Exception as error:
        console.print_bug(error)
        return BUG_EXIT_CODE
    return status if isinstance(status, int) else 0
