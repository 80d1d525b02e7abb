"""The command `oci-audit`: its commands, and the one place where an error becomes an exit status.

Owns: the top of the program. Must not: import anything heavy before a command is chosen.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Annotated

import typer
from typer.exceptions import TyperException

from ociaudit.cli import console
from ociaudit.errors import Interrupted, OciAuditError, UsageError
from ociaudit.version import VERSION

USAGE_EXIT_CODE = 2
BUG_EXIT_CODE = 1
SIGNAL_EXIT_BASE = 128
_PROGRAM = "oci-audit"

app = typer.Typer(
    name=_PROGRAM,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


@app.callback(invoke_without_command=True)
def describe(
    *, version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False
) -> None:
    """Every audit event of an Oracle Cloud tenancy, once, provably, fast."""
    if version:
        console.say_answer(f"oci-audit {VERSION}")
        raise typer.Exit


def main() -> None:
    """Run the command line and exit."""
    from ociaudit.cli import demo_command, diff_command, emulator_command, export_command, verify_command

    app.command("export")(export_command.export)
    app.command("verify")(verify_command.verify)
    app.command("diff")(diff_command.diff)
    app.command("demo")(demo_command.demo)
    app.command(
        "emulator",
        add_help_option=False,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    )(emulator_command.emulator)
    sys.exit(run_guarded(lambda: app(standalone_mode=False)))


def run_guarded(work: Callable[[], object]) -> int:
    """Do the work and return the exit status; what is raised is explained on stderr."""
    console.fill_closed_streams()
    try:
        status = work()
    except OciAuditError as error:
        console.say_error(error)
        return SIGNAL_EXIT_BASE + error.signal_number if isinstance(error, Interrupted) else error.exit_code
    except TyperException as error:
        describe_problem: Callable[[], str] = getattr(error, "format_message", error.__str__)
        console.say_error(UsageError(describe_problem(), hint=f"see `{_PROGRAM} --help`"))
        return USAGE_EXIT_CODE
    except (KeyboardInterrupt, typer.Abort):
        console.say_error(OciAuditError("interrupted", hint="run the same command again"))
        return SIGNAL_EXIT_BASE + signal.SIGINT
    except Exception as error:
        console.say_bug(error)
        return BUG_EXIT_CODE
    return status if isinstance(status, int) else 0
