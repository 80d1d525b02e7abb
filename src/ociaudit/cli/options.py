"""The parts that commands are built from: options in titled sections, options that commands share, and help.

A command is a function decorated with `click.command(cls=Command, examples=...)` and with options from this module.
Its help shows the options in sections, in the order in which they are declared, and ends with examples.

Invariants
- Help fits in 80 columns, and a line never breaks inside a word.
- Importing this module imports click, `console` and nothing else, because `--help` needs it.
"""

# Over 700 lines: every option that two commands share is declared here, with what turns its value into arguments.

from __future__ import annotations

import contextlib
import errno
import functools
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from ociaudit.cli import console
from ociaudit.cli.console import wrap_text
from ociaudit.errors import OciAuditError, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

    from ociaudit.archive.inputs import Input, Limits
    from ociaudit.archive.remote import RemoteArchive
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.events.filters import FilterSpec
    from ociaudit.operations.context import Cancellation, ConnectionOptions, RunContext

SCOPE, OUTPUT, FILTERS, SIGN_IN, SPEED, BEHAVIOR = "Scope", "Output", "Filters", "Sign-in", "Speed", "Behavior"
ARCHIVES, STORES = "Archives", "Object storage"
_OPTIONS = "Options"

_WIDTH = 80
_COPY_PATIENCE_SECONDS = 60.0
"""How long a reader of an archive at a URL waits for another one that is copying from it."""
_WIDEST_LABEL = 26  # an option that is wider has its help on the next line
_NOTES = {
    FILTERS: "Each is repeatable, except --event-after and --event-before. Values of the same option are combined "
    "with OR, different options with AND. Exclusions take precedence.",
    ARCHIVES: "These select from an archive; --start and --end also from a folder of Connector Hub. They apply to no "
    "other input.",
    STORES: "These apply to URLs such as oci://bucket@namespace/name.",
}

# Spelled out, because importing the modules that define them would slow `--help` down; a test compares.
AUTH_KINDS = (
    "api_key",
    "security_token",
    "instance_principal",
    "resource_principal",
    "delegation_token",
    "oke_workload_identity",
)
FORMATS = ("json", "ndjson", "csv", "parquet")
COMPRESSIONS = ("none", "gz", "zst")
SHAPES = ("api", "sdk", "cli")

# Options whose values are fields of `ConnectionOptions` as they are.
_CONNECTION_FIELDS = (
    *("profile", "config_file", "auth", "ca_bundle", "endpoint"),
    *("concurrency", "max_requests_per_second"),
)

F = TypeVar("F", bound=Callable[..., Any])


class PathType(click.Path):
    """A `pathlib.Path`, which the shell completes; the command itself reports what is wrong with the file."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path, whatever is there; raises a usage error where the name is too long for the file system."""
        from pathlib import Path  # imports more than `--help` needs

        path = Path(value)
        try:
            path.lstat()  # how long a name may be differs from one file system to another
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise UsageError(
                    f"{path} cannot be the name of a file: it is too long", hint="name a file with a shorter name"
                ) from error
        return path


class PlaceType(PathType):
    """The path of a file, or the URL of an object; `-` is stdin."""

    _may_be_folder = True

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the `ObjectUrl`; raises a usage error for a URL of another kind."""
        text = str(value)
        if "://" not in text:
            return super().convert(value, param, ctx)
        from ociaudit.client.object_storage import is_object_url, parse_object_url

        if not is_object_url(text):
            return super().convert(value, param, ctx)
        return parse_object_url(text.removesuffix("/") if self._may_be_folder else text)


class OutputPlaceType(PlaceType):
    """The path of a file to write, or the URL of an object; `-` is stdout."""

    _may_be_folder = False

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path or the `ObjectUrl`; raises a usage error where neither can be written."""
        from pathlib import Path

        from ociaudit.storage.atomic_io import name_output

        place = super().convert(value, param, ctx)
        return name_output(value) if isinstance(place, Path) else place


class OutputType(PathType):
    """The path of a file to write; `-` is stdout."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path; raises a usage error where it cannot be the name of a file."""
        from ociaudit.storage.atomic_io import name_output

        return name_output(value)


FILE = PathType()
PLACE = PlaceType()
OUTPUT_FILE = OutputType()
OUTPUT_PLACE = OutputPlaceType()


class Option(click.Option):
    """An option that help shows in a section of its own title; `aliases` are accepted and not shown."""

    def __init__(self, *args: Any, section: str = _OPTIONS, aliases: Sequence[str] = (), **attributes: Any) -> None:
        super().__init__(*args, **attributes)
        self.section = section
        self.aliases = frozenset(aliases)


class Argument(click.Argument):
    """A positional argument with a help text."""

    def __init__(self, *args: Any, help: str = "", **attributes: Any) -> None:  # noqa: A002 - as click's options
        super().__init__(*args, **attributes)
        self.help = help


class Command(click.Command):
    """A command whose help has sections and ends with examples.

    `examples` are pairs of a description and a command line. `usage` is what follows the command's name in the first
    line of the help, where it is not derived from the parameters. Every command takes `--color` and `--help`.
    """

    def __init__(
        self, *args: Any, examples: Sequence[tuple[str, str]] = (), usage: str = "", **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.usage = usage

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an error knows the command, so that its hint can name it."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the parameters, with `--color` and `--help` at the end."""
        return [*self.params, *make_general_options(self)]

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return what follows the command's name in its usage line: required options, then the arguments."""
        if self.usage:
            return [self.usage]
        required = [_format_usage(one) for one in self.params if isinstance(one, click.Option) and one.required]
        return [*required, "[OPTIONS]", *(one.make_metavar(ctx) for one in self.params if is_argument(one))]

    def get_help(self, ctx: click.Context) -> str:
        """Return the help as it is printed to stdout."""
        return render_help(self, ctx, color=console.uses_color())


def is_argument(parameter: click.Parameter) -> bool:
    """Return whether a parameter is positional."""
    return isinstance(parameter, click.Argument)


def option(*names: str, section: str = _OPTIONS, aliases: Sequence[str] = (), **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that gives a command an option; see `Option` and `click.option`."""
    return click.option(*names, *aliases, cls=Option, section=section, aliases=aliases, **attributes)


def argument(name: str, **attributes: Any) -> Callable[[F], F]:
    """Return a decorator that gives a command a positional argument; see `Argument` and `click.argument`."""
    return click.argument(name, cls=Argument, **attributes)


def combine(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that applies several, so that the first one's option comes first in the help."""

    def decorate(command: F) -> F:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


def make_general_options(command: click.Command) -> list[Option]:
    """Return the options that every command has: `--color` and, unless it is switched off, `--help`."""
    sections = {getattr(one, "section", _OPTIONS) for one in command.params if isinstance(one, click.Option)}
    section = _OPTIONS if sections <= {_OPTIONS, STORES} else BEHAVIOR
    color = Option(
        ["--color"],
        section=section,
        type=click.Choice(["auto", "always", "never"]),
        show_default="auto",
        help="When to use color; auto uses color on a terminal unless NO_COLOR is set.",
        is_eager=True,
        expose_value=False,
        callback=_set_color,
    )
    show_help = Option(
        ["-h", "--help"],
        section=section,
        is_flag=True,
        is_eager=True,
        expose_value=False,
        help="Show this help and exit.",
        callback=_show_help,
    )
    return [color, show_help] if command.add_help_option else [color]


def _set_color(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.color = context.find_root().color = {"always": True, "never": False}.get(value)


def _show_help(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's protocol
    if value and not context.resilient_parsing:
        console.print_lines(context.get_help())
        context.exit()


def render_help(
    command: click.Command, context: click.Context, *, color: bool, commands: Mapping[str, str] | None = None
) -> str:
    """Return a command's help: usage, description, commands with their short help, options, examples."""

    def style_title(text: str) -> str:
        return click.style(text, bold=True) if color else text

    def style_label(text: str) -> str:
        return click.style(text, fg="cyan") if color else text

    usage = f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    lines = [f"{style_title('Usage:')} {usage}"]
    for paragraph in (command.help or "").split("\n\n"):
        lines += ["", *wrap_text(" ".join(paragraph.split()))]
    for title, rows in _collect_sections(command, context, commands or {}).items():
        lines += ["", style_title(f"{title}:")]
        lines += (f"  {line}" for line in wrap_text(_NOTES.get(title, ""), _WIDTH - 2))
        lines += _lay_out(rows, style_label)
    examples: Sequence[tuple[str, str]] = getattr(command, "examples", ())
    if examples:
        lines += ["", style_title("Examples:")]
    for number, (description, command_line) in enumerate(examples):
        lines += [""] * (number > 0)
        lines += (f"  # {line}" for line in wrap_text(description, _WIDTH - 4))
        lines += [f"  {command_line}"]
    return "\n".join(lines)


def _collect_sections(
    command: click.Command, context: click.Context, commands: Mapping[str, str]
) -> dict[str, list[tuple[str, str]]]:
    """Return rows of label and help by section title; arguments first, then sections in order of declaration."""
    parameters = command.get_params(context)
    sections: dict[str, list[tuple[str, str]]] = {
        "Arguments": [(one.make_metavar(context), one.help or "") for one in parameters if isinstance(one, Argument)],
        "Commands": list(commands.items()),
    }
    for one in parameters:
        if isinstance(one, Option) and not one.hidden:
            sections.setdefault(one.section, []).append((_format_label(one), _describe_option(one, context)))
    return {title: rows for title, rows in sections.items() if rows}


def _lay_out(rows: Sequence[tuple[str, str]], style_label: Callable[[str], str]) -> Iterator[str]:
    """Yield the rows of a section in two columns."""
    column = max(len(label) for label, _ in rows if len(label) <= _WIDEST_LABEL or len(rows) == 1)
    for label, text in rows:
        lines = wrap_text(text, _WIDTH - column - 4)
        shown = f"  {style_label(label)}"
        if lines and len(label) <= column:
            shown += " " * (column - len(label) + 2) + lines.pop(0)
        yield shown
        yield from (" " * (column + 4) + line for line in lines)


def _format_label(parameter: Option) -> str:
    """Return the names of an option, the short one first, and its metavar."""
    names = sorted((name for name in parameter.opts if name not in parameter.aliases), key=len)
    return ", ".join(names) + _format_metavar(parameter)


def _format_usage(parameter: click.Option) -> str:
    return min(parameter.opts, key=len) + _format_metavar(parameter)


def _format_metavar(parameter: click.Option) -> str:
    if parameter.is_flag or parameter.count:
        return ""
    if parameter.metavar is None and isinstance(parameter.type, click.Choice):
        return f" {'|'.join(parameter.type.choices)}"
    return f" {parameter.metavar or parameter.type.name.upper()}"


def _describe_option(parameter: Option, context: click.Context) -> str:
    """Return an option's help with its default and its environment variable."""
    extra = []
    if parameter.envvar:
        extra.append(f"environment variable: {parameter.envvar}")
    default = parameter.get_default(context, call=False)
    if isinstance(parameter.show_default, str):
        extra.append(f"default: {parameter.show_default}")
    elif (
        default != ""
        and isinstance(default, str | int | float | os.PathLike)
        and not isinstance(default, bool)
        and not parameter.count
    ):
        extra.append(f"default: {default}")
    if parameter.required:
        extra.append("required")
    return (parameter.help or "") + "".join(f" [{one}]" for one in extra)


def _make_sign_in_options(section: str) -> tuple[Callable[[F], F], ...]:
    """Return the options of a sign-in, for one section of the help."""
    return (
        option(
            "--profile",
            section=section,
            metavar="NAME",
            show_default="DEFAULT",
            help="Profile in the OCI configuration file.",
        ),
        option(
            "--config-file",
            section=section,
            metavar="FILE",
            show_default="~/.oci/config",
            help="OCI configuration file.",
        ),
        option(
            "--auth",
            section=section,
            type=click.Choice(AUTH_KINDS),
            metavar="KIND",
            show_default="OCI_CLI_AUTH, otherwise the method that the profile uses",
            help=f"How to sign in: {', '.join(AUTH_KINDS[:-1])} or {AUTH_KINDS[-1]}.",
        ),
        option(
            "--ca-bundle",
            section=section,
            type=FILE,
            metavar="FILE",
            show_default="REQUESTS_CA_BUNDLE, SSL_CERT_FILE, or the system's",
            help="PEM file with the CA certificates to trust.",
        ),
        option(
            "--endpoint",
            section=section,
            envvar="OCI_AUDIT_ENDPOINT",
            metavar="URL",
            help="URL template for all services; {service} and {region} are replaced.",
        ),
    )


sign_in_options = combine(*_make_sign_in_options(SIGN_IN))
"""The parameters `profile`, `config_file`, `auth`, `ca_bundle` and `endpoint`."""


def _make_work_folder_option(section: str) -> Callable[[F], F]:
    return option(
        "--work-folder",
        section=section,
        type=FILE,
        metavar="FOLDER",
        show_default="oci-audit in XDG_CACHE_HOME, or ~/.cache/oci-audit",
        help="With an oci:// URL: private folder for what is not uploaded yet, and for local copies.",
    )


work_folder_option = _make_work_folder_option(OUTPUT)
"""The parameter `work_folder`."""
_STORE_OPTIONS = combine(_make_work_folder_option(STORES), *_make_sign_in_options(STORES))
_STORE_NAMES = ("work_folder", "profile", "config_file", "auth", "ca_bundle", "endpoint")


class Places:
    """Files and objects that a command reads and writes: an object is copied to a private folder, or from there.

    The connection is made when the first URL is met. `close` removes the copies.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        """Keep the values of the options for URLs."""
        self._values = values
        self._stack = contextlib.ExitStack()
        self._urls: dict[Path, str] = {}
        self._archives: dict[Path, RemoteArchive] = {}
        self._contexts: dict[str, RunContext] = {}
        self._scratch: Path | None = None

    @functools.cached_property
    def cancellation(self) -> Cancellation:
        """Return what stops work with a store; a command that can be stopped uses the same one."""
        from ociaudit.operations.context import Cancellation

        return Cancellation()

    def connect(self, place: ObjectUrl) -> RunContext:
        """Return the collaborators of requests to a store; only Oracle's needs a profile."""
        from dataclasses import replace

        from ociaudit import api

        if place.scheme not in self._contexts:
            context = api.resolve_store(place, make_connection_options(self._values))
            self._contexts[place.scheme] = replace(context, cancellation=self.cancellation)
        return self._contexts[place.scheme]

    @functools.cached_property
    def work_folder(self) -> Path:
        """Return the work folder."""
        from ociaudit import api

        return api.resolve_work_folder(self._values["work_folder"])

    def fetch(self, place: Any, *, is_whole: bool = False, limits: Limits | None = None) -> Path:
        """Return a file's path, or that of a copy of an object; for an archive, of a folder as `copy_archive` makes it.

        Of what connectors delivered below a URL, the folder has the files that `limits` select.

        Raises:
            OciAuditError: there is neither an object nor an archive, or it cannot be copied.
        """
        from pathlib import Path

        if isinstance(place, Path):
            return place
        from ociaudit.archive.inputs import download_input
        from ociaudit.operations.context import use_store
        from ociaudit.storage.run_dir import make_private_folders

        folder = self._open_scratch() / str(len(self._urls) + 1)
        make_private_folders(folder)
        context = self.connect(place)
        with console.handle_signals(self.cancellation.cancel):
            copied = use_store(
                context,
                place,
                lambda store: download_input(store, place, folder),
                moment=f"while reading {place}",
                is_kept=False,
            )
        if copied is not None:
            self._urls[copied] = str(place)
            return copied
        found = self.copy_archive(place, is_whole=is_whole) or self._copy_deliveries(place, folder, limits)
        if found is None:
            raise UsageError(
                f"there is no object {place}, no archive of that name, and no file of Connector Hub below it",
                hint="check the name; `oci os object list` lists the names in a bucket",
            )
        return found

    def _copy_deliveries(self, place: ObjectUrl, folder: Path, limits: Limits | None) -> Path | None:
        """Return the folder of copies of what connectors delivered below a URL, within the limits; None if nothing.

        Raises:
            OciAuditError: it cannot be listed or copied.
        """
        from ociaudit.archive.inputs import (
            describe_left_out,
            download_deliveries,
            list_delivered_objects,
            select_deliveries,
        )
        from ociaudit.clock import SystemClock
        from ociaudit.operations.context import use_store

        context, moment = self.connect(place), f"while reading {place}"
        with console.handle_signals(self.cancellation.cancel):
            listed = use_store(context, place, lambda store: list_delivered_objects(store, place), moment=moment)
            if not listed:
                return None
            start, end = limits.resolve_times(now=SystemClock().now()) if limits is not None else (None, None)
            chosen = select_deliveries(listed, start, end)
            if len(chosen) < len(listed):
                console.print_notice(describe_left_out(str(place), len(listed) - len(chosen), len(listed)))
            if not chosen:
                raise UsageError(f"{place} has no file for this range", hint="choose another --start or --end")
            use_store(context, place, lambda store: download_deliveries(store, place, chosen, folder), moment=moment)
        self._urls[folder] = str(place)
        return folder

    def copy_archive(self, place: Any, *, is_whole: bool = False) -> Path | None:
        """Return the folder of a copy of the archive at a URL; None if there is no archive.

        It has the commits; `fill` copies segments. With `is_whole` everything is copied again, to be verified.

        Raises:
            OciAuditError: it cannot be copied.
        """
        from ociaudit import api

        path, url = api.place_archive(place, self._values["work_folder"], kind="copies")
        if url is None:
            return None
        context = self.connect(url)
        if is_whole:
            path = self._open_scratch() / "archive"
        remote = api.open_remote_archive(url, path, context)
        with console.handle_signals(self.cancellation.cancel):
            if not remote.exists():  # else the folder of a copy would be left behind
                return None
            with self._hold(path):
                if not remote.pull():
                    return None
                self._urls[path] = str(url)
                self._archives[path] = remote
                if is_whole:
                    remote.fetch_everything()
        return path

    def open_archive_folder(self, place: Any) -> Path:
        """Return the folder of an archive, or that of a copy of one at a URL, which has the commits.

        Raises:
            UsageError: there is no archive at the URL.
            OciAuditError: it cannot be copied.
        """
        from pathlib import Path

        if isinstance(place, Path):
            return place
        path = self.copy_archive(place)
        if path is None:
            hint = f"create one with: oci-audit sync {shlex.quote(str(place))}"
            raise UsageError(f"{place} is not an archive", hint=hint)
        return path

    def fill(self, source: Input) -> Input:
        """Copy the segments that a view of an archive at a URL needs; return the input.

        Raises:
            OciAuditError: one cannot be copied.
        """
        remote = self._archives.get(source.path) if source.path is not None else None
        if remote is not None and source.view is not None and source.path is not None:
            entries = [one for _, some, _ in source.view.list_dates() for one in some]
            with self._hold(source.path):
                remote.fetch(entries)
        return source

    def follow(self, path: Path, since: int) -> int:
        """Copy what a tail needs from commit `since` on, after a look at the store; return the commit after them.

        Raises:
            OciAuditError: it cannot be copied.
        """
        with self._hold(path):
            self._archives[path].pull()
            return self._archives[path].fetch_for_tail(since)

    def _hold(self, path: Path) -> contextlib.AbstractContextManager[None]:
        """Return a context with the lock of a copy, which waits for another reader that is copying."""
        from ociaudit.archive.remote import hold_copy

        def check() -> None:
            self.cancellation.check(f"while another process was copying {self._urls.get(path, path)}", is_kept=False)

        return hold_copy(path, patience_seconds=_COPY_PATIENCE_SECONDS, check=check)

    def is_copy(self, path: Path) -> bool:
        """Return whether a folder is a copy of an archive at a URL."""
        return path in self._archives

    def stage(self, place: Any, *, may_overwrite: bool) -> contextlib.AbstractContextManager[Path]:
        """Return a context with the path to write, whose file goes to the URL at its end if `place` is one.

        Raises:
            OciAuditError: there is an object already, or the store cannot be used.
        """
        from pathlib import Path

        if isinstance(place, Path):
            return contextlib.nullcontext(place)
        from ociaudit.operations.publish import stage_output

        return stage_output(place, self.work_folder, self.connect(place), may_overwrite=may_overwrite)

    def find_url(self, path: Path | None) -> str:
        """Return what a file is a copy of; empty for any other."""
        return self._urls.get(path, "") if path is not None else ""

    def call_by_url(self, text: str) -> str:
        """Return a text in which copies are called by their URLs."""
        for path, url in self._urls.items():
            text = text.replace(str(path), url)
        return text

    def explain(self, error: OciAuditError) -> None:
        """Call copies by their URLs in an error."""
        if error.args:
            error.args = (self.call_by_url(str(error.args[0])), *error.args[1:])
        error.hint = self.call_by_url(error.hint)

    def close(self) -> None:
        """Remove the copies."""
        self._stack.close()

    def _open_scratch(self) -> Path:
        from ociaudit.storage.run_dir import open_scratch

        if self._scratch is None:
            self._scratch = self._stack.enter_context(open_scratch(self.work_folder))
        return self._scratch


def place_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options for URLs; the command gets them as one `Places`, named `places`."""

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        places = Places({name: values.pop(name) for name in _STORE_NAMES})
        try:
            return command(**values, places=places)
        except OciAuditError as error:
            places.explain(error)
            raise
        finally:
            places.close()

    return _STORE_OPTIONS(run)


def make_connection_options(values: Mapping[str, Any]) -> ConnectionOptions:
    """Return the connection options among the values of a command's options."""
    from ociaudit.operations.context import ConnectionOptions

    return ConnectionOptions(**{name: values[name] for name in _CONNECTION_FIELDS if name in values})


region_option = option(
    "--region",
    "regions",
    section=SCOPE,
    multiple=True,
    metavar="REGION",
    show_default="every subscribed region",
    help="Only this region, by name or key (iad); repeatable, or a comma list.",
)

scope_options = combine(
    region_option,
    option(
        "--compartment",
        "compartments",
        section=SCOPE,
        multiple=True,
        metavar="NAME|OCID",
        show_default="the whole tenancy",
        help="Only this compartment and those below it, by name, path (root/prod/pay) or OCID; repeatable.",
    ),
    option(
        "--no-subtree",
        section=SCOPE,
        is_flag=True,
        help="Exclude child compartments.",
    ),
    option(
        "--waive",
        section=SCOPE,
        multiple=True,
        metavar="NAME|OCID|FILE",
        help="Compartment where access is expected to be denied, or a file that lists such compartments; its gaps do "
        "not cause exit code 10. Repeatable.",
    ),
)
"""The parameters `regions`, `compartments`, `no_subtree` and `waive`."""

speed_options = combine(
    option(
        "--concurrency",
        section=SPEED,
        type=click.IntRange(min=1),
        default=16,
        metavar="COUNT",
        help="Maximum number of concurrent requests across all regions.",
    ),
    option(
        "--max-requests-per-second",
        section=SPEED,
        type=float,
        metavar="NUMBER",
        show_default="no limit until the service returns HTTP 429",
        help="Maximum number of requests per second.",
    ),
    option(
        "--max-window-days",
        section=SPEED,
        type=click.IntRange(min=1),
        default=14,
        metavar="DAYS",
        help="Maximum length of the time window of one request, in days.",
    ),
)
"""The parameters `concurrency`, `max_requests_per_second` and `max_window_days`."""

message_options = combine(
    option("-q", "--quiet", section=BEHAVIOR, is_flag=True, help="Print only notices, gaps, and errors."),
    option(
        "-v",
        "--verbose",
        section=BEHAVIOR,
        count=True,
        help="Print more; -vv prints a line per request.",
    ),
    option(
        "--log-format",
        section=BEHAVIOR,
        type=click.Choice(["text", "json"]),
        default="text",
        help="Format of the messages on stderr.",
    ),
)
"""The parameters `quiet`, `verbose` and `log_format`."""

file_options = combine(
    option(
        "--format",
        "file_format",
        section=OUTPUT,
        type=click.Choice(FORMATS),
        metavar="FORMAT",
        show_default="from the file extension",
        help=f"Format of the file: {', '.join(FORMATS[:-1])}, or {FORMATS[-1]}.",
    ),
    option(
        "--compress",
        "compression",
        section=OUTPUT,
        type=click.Choice(COMPRESSIONS),
        show_default="from the file extension",
        help="Compression of json, ndjson, and csv files.",
    ),
    option(
        "--shape",
        section=OUTPUT,
        type=click.Choice(SHAPES),
        default="api",
        help="Field names and structure: api (as the API returns them), sdk (as in Oracle's Python SDK), or cli (as in "
        "Oracle's CLI).",
    ),
    option(
        "--with-origin",
        section=OUTPUT,
        is_flag=True,
        help="Add to each event the region and compartment it was fetched from, if known (json and ndjson only).",
    ),
    option(
        "--redact",
        section=OUTPUT,
        is_flag=True,
        help="Replace credential-like headers and values. Names, IP addresses, and OCIDs remain.",
    ),
    option("--overwrite", section=OUTPUT, is_flag=True, help="Overwrite an existing output file."),
)
"""The parameters `file_format`, `compression`, `shape`, `with_origin`, `redact` and `overwrite`."""

_LIMIT_OPTIONS = combine(
    option(
        "--start",
        "limit_start",
        section=ARCHIVES,
        metavar="TIME",
        show_default="all the input holds",
        help="Only events that happened at this time or later.",
    ),
    option("--end", "limit_end", section=ARCHIVES, metavar="TIME", help="Only events before the end of this time."),
    option(
        "--region",
        "limit_regions",
        section=ARCHIVES,
        multiple=True,
        metavar="REGION",
        help="Only events from this region, by name or key (iad); repeatable, or a comma list.",
    ),
    option(
        "--compartment",
        "limit_compartments",
        section=ARCHIVES,
        multiple=True,
        metavar="NAME",
        help="Only events from this compartment and those below it, by name, path or OCID; repeatable.",
    ),
)


def limit_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that select from an archive; the command gets them as one `Limits`, named `limits`."""

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        from ociaudit.archive.inputs import Limits

        limits = Limits(
            start=values.pop("limit_start"),
            end=values.pop("limit_end"),
            regions=values.pop("limit_regions"),
            compartments=values.pop("limit_compartments"),
        )
        return command(**values, limits=limits)

    return _LIMIT_OPTIONS(run)


def open_command_inputs(named: Iterable[Path | ObjectUrl], limits: Limits, places: Places) -> tuple[Input, ...]:
    """Return the inputs that a command line names; `-` is stdin.

    Raises:
        OciAuditError: as `archive.inputs.open_inputs` and `Places.fetch`.
    """
    from ociaudit.archive.inputs import open_inputs
    from ociaudit.clock import SystemClock

    paths = [None if str(place) == "-" else places.fetch(place, limits=limits) for place in named]
    inputs = open_inputs(paths, limits, now=SystemClock().now(), find_url=places.find_url)
    return tuple(map(places.fill, inputs))


json_option = option("--json", "as_json", is_flag=True, help="Print one JSON object.")
STRICT_HELP = "Exit 6 if an input itself says that it is not whole."
strict_option = option("--strict", "is_strict", is_flag=True, help=STRICT_HELP)


class FilterOption(NamedTuple):
    """An option, and the field of `FilterSpec` or of its `exclude` that it fills."""

    field: str
    name: str
    metavar: str
    help: str
    is_exclusion: bool = False
    is_repeatable: bool = True

    @property
    def parameter(self) -> str:
        """Return the name of the option's parameter."""
        return self.name.removeprefix("--").replace("-", "_")

    def decorate(self, command: F) -> F:
        """Give a command this option."""
        return option(
            self.name,
            self.parameter,
            section=FILTERS,
            multiple=self.is_repeatable,
            metavar=self.metavar,
            help=self.help,
            shell_complete=complete_presets if self.field == "presets" else None,
        )(command)


_CRITERIA = (
    ("presets", "preset", "NAME", "events that match this preset", "see `oci-audit presets`"),
    ("event_types", "event-type", "REGEX", "events whose type matches this regular expression anywhere", ""),
    ("event_names", "event-name", "GLOB", "events with this name", ""),
    ("principals", "principal", "GLOB", "events by this principal (name or OCID)", ""),
    ("addresses", "ip", "ADDRESS", "events from this address or network (CIDR)", ""),
    ("compartment_names", "compartment-name", "GLOB", "events in a compartment with this name", ""),
    ("resources", "resource", "GLOB", "events on this resource (name or OCID)", ""),
    ("outcomes", "outcome", "OUTCOME", "events with this outcome", "success, failure, unknown"),
    ("statuses", "status", "STATUS", "events with this HTTP status", "404, 4xx, 400-499"),
)
FILTER_OPTIONS = (
    *(
        FilterOption(field, f"--{name}", metavar, f"Only {what}{f' ({more})' if more else ''}.")
        for field, name, metavar, what, more in _CRITERIA
    ),
    FilterOption("event_after", "--event-after", "TIME", "Only events at this time or later.", is_repeatable=False),
    FilterOption("event_before", "--event-before", "TIME", "Only events before this time.", is_repeatable=False),
    *(
        FilterOption(field, f"--exclude-{name}", metavar, f"Exclude {what}.", is_exclusion=True)
        for field, name, metavar, what, _ in _CRITERIA
    ),
)


def filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command every filter option; the command gets them as one `FilterSpec`, named `wanted`."""

    @functools.wraps(command)
    def run(**values: Any) -> Any:
        filled = {one: values.pop(one.parameter) for one in FILTER_OPTIONS}
        return command(**values, wanted=_make_spec(filled))

    return combine(*(one.decorate for one in FILTER_OPTIONS))(run)


def _make_spec(filled: Mapping[FilterOption, Sequence[str] | str | None]) -> FilterSpec:
    from ociaudit.events.filters import Criteria, FilterSpec

    values = {False: dict[str, Any](), True: dict[str, Any]()}
    for one, value in filled.items():
        if value is not None and value != ():
            values[one.is_exclusion][one.field] = value
    return FilterSpec(**values[False], exclude=Criteria(**values[True]))


def complete_presets(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the presets that begin with `incomplete`, for the shell."""
    from ociaudit.events.filters import PRESETS

    return complete_names({preset.name: preset.title for preset in PRESETS}, incomplete)


def complete_names(described: Mapping[str, str], incomplete: str) -> list[CompletionItem]:
    """Return the names that begin with `incomplete`, with their descriptions, for the shell."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(name, help=text) for name, text in described.items() if name.startswith(incomplete)]


def check_output(path: Path, *, inputs: Iterable[Path], can_overwrite: bool) -> None:
    """Check that an output may be written before any work is done.

    Raises:
        UsageError: it is an input, it exists and may not be replaced, or it is not a file.
        DiskError: its folder cannot be written to.
    """
    from ociaudit.planning.time_range import reject_placeholders
    from ociaudit.storage.atomic_io import check_replaceable, explain_disk, is_part_of

    reject_placeholders(path)
    check_replaceable(path)
    if any(is_part_of(path, one) for one in inputs if str(one) != "-"):
        raise UsageError(f"{path} is an input, or inside one, and would replace it", hint="choose another output")
    with explain_disk("look at", path):
        exists = path.exists()
    if exists and not can_overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or --overwrite to replace it")
