"""What only one part of the program may do.

- Only `store/durable` syncs, replaces and renames.
- Only `cli/console` prints.
- Only `cli` exits; only `cli` and `library` read the environment.
- `events/` and `plan/` know no clock, sleep, randomness, socket or file.

The emulator is a program of its own, and is not bound by these.
"""

import ast
from collections.abc import Callable, Iterator, Sequence

from support.floors import PROGRAM
from support.sources import SourceFile, Violation

DURABLE_NAMES = {
    "fcntl.F_FULLFSYNC",
    "os.fdatasync",
    "os.fsync",
    "os.rename",
    "os.renames",
    "os.replace",
    "os.sync",
    "shutil.move",
}
PRINTING_NAMES = {
    "click.echo",
    "click.secho",
    "rich.print",
    "sys.__stderr__",
    "sys.__stdout__",
    "sys.stderr",
    "sys.stdout",
    "traceback.print_exc",
    "traceback.print_exception",
    "traceback.print_stack",
    "typer.echo",
    "typer.secho",
}
PRINTING_CALLS = {
    "logging.StreamHandler",
    "logging.basicConfig",
    "print",
    "rich.console.Console",
    "rich.get_console",
}
EXITING_NAMES = {"os._exit", "os.abort", "sys.exit", "typer.Exit", "typer.Abort", "click.exceptions.Exit"}
EXITING_CALLS = {"SystemExit", "exit", "quit"}
ENVIRONMENT_NAMES = {
    "os.environ",
    "os.environb",
    "os.getenv",
    "os.getenvb",
    "os.path.expandvars",
    "os.putenv",
}
IMPURE_MODULES = {
    "aiohttp",
    "asyncio",
    "http.client",
    "http.server",
    "oci",
    "random",
    "requests",
    "secrets",
    "select",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "urllib.request",
    "uuid",
}
CLOCK_NAMES = {
    "datetime.date.today",
    "datetime.datetime.now",
    "datetime.datetime.today",
    "datetime.datetime.utcnow",
}


def find_ban_violations(sources: Sequence[SourceFile]) -> list[Violation]:
    """Everything in these files that is another part's to do."""
    return sorted(
        violation for source in sources if source.parts[0] == PROGRAM for check in CHECKS for violation in check(source)
    )


def check_durability(source: SourceFile) -> Iterator[Violation]:
    """Syncing and renaming outside `store/durable`, a `Path`'s own methods included."""
    if source.path == f"{PROGRAM}/store/durable.py":
        return
    yield from _find_references(source, DURABLE_NAMES, "durable", "only store/durable does that")
    for name, call in source.calls:
        # A lone positional argument tells Path.replace from str.replace, and from those of dates and classes.
        is_path_replace = name.endswith(".replace") and len(call.args) == 1 and not call.keywords
        if (is_path_replace or name.endswith(".rename")) and name not in DURABLE_NAMES:
            what = f"calls {name}(): only store/durable does that"
            yield Violation(source.path, call.lineno, "durable", what)


def check_printing(source: SourceFile) -> Iterator[Violation]:
    """Anything that reaches a terminal from outside `cli/console`."""
    if source.path == f"{PROGRAM}/cli/console.py":
        return
    yield from _find_references(source, PRINTING_NAMES, "print", "only cli/console prints")
    yield from _find_calls(source, PRINTING_CALLS, "print", "only cli/console prints")


def check_exits(source: SourceFile) -> Iterator[Violation]:
    """Ending the process from outside `cli`."""
    if source.parts[1] in {"cli", "__main__"}:
        return
    yield from _find_references(source, EXITING_NAMES, "exit", "only cli exits")
    yield from _find_calls(source, EXITING_CALLS, "exit", "only cli exits")
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name) and node.exc.id == "SystemExit":
            yield Violation(source.path, node.lineno, "exit", "raises SystemExit: only cli exits")


def check_environment(source: SourceFile) -> Iterator[Violation]:
    """Reading the environment outside `cli` and `library`."""
    if source.parts[1] not in {"cli", "library"}:
        what = "only cli and library read the environment"
        yield from _find_references(source, ENVIRONMENT_NAMES, "environment", what)


def check_purity(source: SourceFile) -> Iterator[Violation]:
    """A clock, sleep, randomness, socket or file in `events/` or `plan/`."""
    if source.parts[1] not in {"events", "plan"}:
        return
    for imported in source.imports:
        if any(f"{imported.name}.".startswith(f"{module}.") for module in IMPURE_MODULES):
            what = f"imports {imported.name}: events and plan are pure"
            yield Violation(source.path, imported.line, "pure", what)
    yield from _find_references(source, CLOCK_NAMES, "pure", "the time of day arrives as an argument")
    yield from _find_calls(source, {"open"}, "pure", "events and plan know no files")


def _find_references(source: SourceFile, names: set[str], rule: str, why: str) -> Iterator[Violation]:
    for name, line in source.references:
        if name in names:
            yield Violation(source.path, line, rule, f"{name}: {why}")


def _find_calls(source: SourceFile, names: set[str], rule: str, why: str) -> Iterator[Violation]:
    for name, call in source.calls:
        if name in names:
            yield Violation(source.path, call.lineno, rule, f"{name}(): {why}")


CHECKS: tuple[Callable[[SourceFile], Iterator[Violation]], ...] = (
    check_durability,
    check_printing,
    check_exits,
    check_environment,
    check_purity,
)
