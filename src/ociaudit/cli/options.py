"""Options of every command that signs in and asks. Owns: their names and help.

Options of every command that writes a file of events. Owns: their names and help.

The options that every command has which filters: defined once, given by a decorator.

Owns: their names, their help, and what they are as a `FilterSpec`. Must not: judge a value; `events.filters` does.

A command asks for its filter with a parameter `wanted: Filter`, is decorated with `take_filter`, and registered with
`cls=FilterCommand`, which gives the filters a section of their own in its help.

`--waive`: compartments whose denial is known. Owns: reading them from arguments and files.

A file that a command is asked to write. Owns: the refusals that come before any work.

Who watches a run: a person at a terminal, a person who reads a pipe, a program, or nobody.

Owns: the choice. Must not: print.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from ociaudit.cli import console
from ociaudit.cli.json_log import JsonLog
from ociaudit.cli.progress import BarProgress, LineProgress, QuietProgress
from ociaudit.errors import UsageError
from ociaudit.formats.compression import CompressionName
from ociaudit.formats.registry import FormatName
from ociaudit.planning.scope import check_ocid
from ociaudit.storage.atomic_io import check_replaceable, explain_disk

if TYPE_CHECKING:
    from ociaudit.events.filters import FilterSpec

    Filter = FilterSpec
else:
    Filter = Any  # msgspec and the matching are imported when a filter is made, so that `--help` stays quick


ProfileOption = Annotated[
    str | None, typer.Option(help="Profile of the OCI configuration.", show_default="DEFAULT", metavar="NAME")
]
ConfigFileOption = Annotated[
    str | None, typer.Option(help="OCI configuration file.", show_default="~/.oci/config", metavar="FILE")
]
# The kinds are spelled out: importing them would cost `--help` the time of everything behind them.
AuthOption = Annotated[
    Literal[
        "api_key",
        "security_token",
        "instance_principal",
        "resource_principal",
        "delegation_token",
        "oke_workload_identity",
    ]
    | None,
    typer.Option(
        help="Sign-in: api_key, security_token, instance_principal, resource_principal, delegation_token or "
        "oke_workload_identity.",
        show_default="what OCI_CLI_AUTH or the profile says",
        metavar="KIND",
    ),
]
CaBundleOption = Annotated[
    Path | None,
    typer.Option(
        help="PEM file of the certificate authorities to trust.",
        show_default="REQUESTS_CA_BUNDLE, SSL_CERT_FILE, or the system's",
        metavar="FILE",
    ),
]
RegionOption = Annotated[
    list[str] | None,
    typer.Option(help="Ask only this region; repeatable.", show_default="every subscribed one", metavar="REGION"),
]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        help="URL for all services; {service} and {region} are filled in.",
        envvar="OCI_AUDIT_ENDPOINT",
        metavar="URL",
    ),
]


FormatOption = Annotated[
    FormatName | None, typer.Option("--format", help="Format of the file.", show_default="by the suffix")
]
CompressOption = Annotated[
    CompressionName | None, typer.Option(help="Compression of json, ndjson and csv.", show_default="by the suffix")
]
ShapeOption = Annotated[
    Literal["api", "sdk", "cli"],
    typer.Option(help="Spelling of the fields: as served, as Oracle's SDK or as Oracle's command."),
]
WithOriginOption = Annotated[
    bool,
    typer.Option(
        "--with-origin",
        help="Put the region and compartment asked into each event, where they are known; for json, ndjson.",
    ),
]
RedactOption = Annotated[
    bool, typer.Option("--redact", help="Replace credential-like headers and values, so that it can be shared.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")]


PARAMETER = "wanted"
PANEL = "Filters"
_NOTE = "Values of one option are alternatives; different options must all be met; --exclude-... wins."


@dataclass(frozen=True, slots=True)
class FilterOption:
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

    def make_parameter(self) -> inspect.Parameter:
        """Return it as a parameter of a command."""
        kind: Any = list[str] | None if self.is_repeatable else str | None
        info = typer.Option(self.name, help=self.help, metavar=self.metavar, rich_help_panel=PANEL, show_default=False)
        return inspect.Parameter(
            self.parameter, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, info]
        )


_TWINS = (
    ("presets", "preset", "NAME", "events of this preset", "see `oci-audit presets`"),
    ("event_types", "event-type", "REGEX", "events whose type this expression is found in", ""),
    ("event_names", "event-name", "GLOB", "events of this name", ""),
    ("principals", "principal", "GLOB", "events of this principal, by name or OCID", ""),
    ("addresses", "ip", "ADDRESS", "events from this address or network (CIDR)", ""),
    ("compartment_names", "compartment-name", "GLOB", "events in a compartment of this name", ""),
    ("resources", "resource", "GLOB", "events on this resource, by name or OCID", ""),
    ("outcomes", "outcome", "OUTCOME", "events with this outcome", "success, failure, unknown"),
    ("statuses", "status", "STATUS", "events with this HTTP status", "404, 4xx, 400-499"),
)


def _make_options() -> tuple[FilterOption, ...]:
    wanted = [
        FilterOption(field, f"--{name}", metavar, f"Only {what}{f' ({more})' if more else ''}; repeatable.")
        for field, name, metavar, what, more in _TWINS
    ]
    times = [
        FilterOption("event_after", "--event-after", "TIME", "Only what happened then or later.", is_repeatable=False),
        FilterOption("event_before", "--event-before", "TIME", "Only what happened earlier.", is_repeatable=False),
    ]
    unwanted = [
        FilterOption(field, f"--exclude-{name}", metavar, f"No {what}; repeatable.", is_exclusion=True)
        for field, name, metavar, what, _ in _TWINS
    ]
    return (*wanted, *times, *unwanted)


FILTER_OPTIONS = _make_options()


def take_filter(command: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of a filter, in the place of its parameter `wanted`."""
    signature = inspect.signature(command, eval_str=True)
    parameters = [
        replacement
        for parameter in signature.parameters.values()
        for replacement in (
            [option.make_parameter() for option in FILTER_OPTIONS] if parameter.name == PARAMETER else [parameter]
        )
    ]

    @functools.wraps(command)
    def run(**values: Any) -> int:
        filled = {option: values.pop(option.parameter) for option in FILTER_OPTIONS}
        return command(**values, **{PARAMETER: _make_spec(filled)})

    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    del run.__wrapped__
    return run


def _make_spec(filled: dict[FilterOption, Sequence[str] | str | None]) -> Filter:
    from ociaudit.events.filters import Criteria, FilterSpec

    values = {False: dict[str, Any](), True: dict[str, Any]()}
    for option, value in filled.items():
        if value is not None and value != []:
            values[option.is_exclusion][option.field] = value if isinstance(value, str) else tuple(value)
    return FilterSpec(**values[False], exclude=Criteria(**values[True]))


class FilterCommand(TyperCommand):
    """A command whose help shows the filters below the other options."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the options in two sections."""
        records: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": [], PANEL: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                target = "Arguments" if parameter.param_type_name == "argument" else "Options"
                records[getattr(parameter, "rich_help_panel", None) or target].append(record)
        for title, rows in records.items():
            if not rows:
                continue
            with formatter.section(title):
                if title == PANEL:
                    formatter.write_text(_NOTE)
                formatter.write_dl(rows)


def read_waivers(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the OCIDs named directly, or line by line in files; `#` begins a comment.

    Raises:
        UsageError: an argument is neither an OCID nor a readable file of them.
    """
    return tuple(check_ocid(ocid) for argument in arguments for ocid in _expand(argument))


def _expand(argument: str) -> Iterator[str]:
    if argument.startswith("ocid1."):
        yield argument
        return
    try:
        text = Path(argument).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"--waive {argument}: neither an OCID nor a readable file",
            hint="name an OCID, or a file with one in each line",
        ) from error
    for line in text.splitlines():
        ocid = line.split("#", 1)[0].strip()
        if ocid:
            yield ocid


def check_output(path: Path, *, inputs: Sequence[Path], can_overwrite: bool) -> None:
    """Refuse an output that is an input, that exists, or that cannot be written.

    Raises:
        UsageError: it is an input, exists and may not be replaced, or is no file.
        DiskError: its folder cannot be written to.
    """
    check_replaceable(path)
    with explain_disk("look at", path):
        is_there = path.exists()
        is_input = is_there and any(one.exists() and path.samefile(one) for one in inputs)
    if is_input:
        raise UsageError(f"{path} is an input, and would be replaced by the output", hint="choose another output")
    if is_there and not can_overwrite:
        raise UsageError(f"{path} exists", hint="choose another name, or --overwrite to replace it")


LogFormat = Literal["text", "json"]


def choose_progress(*, is_quiet: bool, log_format: LogFormat = "text", verbosity: int = 0) -> QuietProgress:
    """Return what fits who is watching.

    Raises:
        UsageError: it is to be quiet and verbose at once.
    """
    if is_quiet and verbosity:
        raise UsageError("--quiet and --verbose exclude each other", hint="leave one of them away")
    if log_format == "json":
        return JsonLog(is_quiet=is_quiet, verbosity=verbosity)
    if is_quiet:
        return QuietProgress()
    return BarProgress(verbosity=verbosity) if console.is_terminal() else LineProgress(verbosity=verbosity)
