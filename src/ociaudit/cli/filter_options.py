"""The options that every command has which filters: defined once, given by a decorator.

Owns: their names, their help, and what they are as a `FilterSpec`. Must not: judge a value; `events.filters` does.

A command asks for its filter with a parameter `wanted: Filter`, is decorated with `take_filter`, and registered with
`cls=FilterCommand`, which gives the filters a section of their own in its help.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from ociaudit.events.filters import FilterSpec

    Filter = FilterSpec
else:
    Filter = Any  # msgspec and the matching are imported when a filter is made, so that `--help` stays quick

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
                place = "Arguments" if parameter.param_type_name == "argument" else "Options"
                records[getattr(parameter, "rich_help_panel", None) or place].append(record)
        for title, rows in records.items():
            if not rows:
                continue
            with formatter.section(title):
                if title == PANEL:
                    formatter.write_text(_NOTE)
                formatter.write_dl(rows)
