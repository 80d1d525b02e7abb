"""`oci-audit convert`: its options, its run and its messages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.console import describe_redaction
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    OUTPUT_FILE,
    STRICT_HELP,
    Command,
    argument,
    file_options,
    filter_options,
    limit_options,
    open_command_inputs,
    option,
)
from ociaudit.errors import ExitCode, format_count

if TYPE_CHECKING:
    from ociaudit.archive.inputs import Input, Limits
    from ociaudit.events.filters import FilterSpec
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.convert import Conversion

_STREAM = "-"
_INPUTS_SHOWN = 20


@click.command(
    cls=Command,
    usage="IN... -o FILE [OPTIONS]",
    examples=(
        (
            "Merge two exports, sorted and without duplicates",
            "oci-audit convert a.json b.json --sort -o merged.json.gz",
        ),
        ("Redact an export before sharing it", "oci-audit convert audit.json --redact -o to-share.json"),
        (
            "A month of an archive, like an export by event time",
            "oci-audit convert audit-archive --start 2025-12 --end 2025-12 -o december.json",
        ),
        ("Only sign-ins, as CSV", "oci-audit convert audit.json --preset sign-ins -o sign-ins.csv"),
    ),
)
@argument(
    "inputs",
    nargs=-1,
    required=True,
    type=FILE,
    metavar="IN...",
    help="Event files: exports, or output from Oracle's CLI, SDK, Connector Hub, or Logging Search, optionally "
    "compressed with gzip or zstd; archives; - is stdin.",
)
@option(
    "-o",
    "--output",
    section=OUTPUT,
    type=OUTPUT_FILE,
    required=True,
    metavar="FILE",
    help="Output file, or - for stdout. The file extension sets the format and compression.",
)
@file_options
@option(
    "--sort",
    section=OUTPUT,
    is_flag=True,
    help="Sort the events by time and write each record once, instead of keeping the input order.",
)
@option(
    "--valid-unicode",
    section=OUTPUT,
    is_flag=True,
    help="Replace lone surrogates, which jq and others reject, with U+FFFD.",
)
@filter_options
@limit_options
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
@option("-q", "--quiet", section=BEHAVIOR, is_flag=True, help="Print only notices and errors.")
def convert(
    inputs: tuple[Path, ...], *, output: Path, wanted: FilterSpec, limits: Limits, quiet: bool, **options: Any
) -> int:
    """Read event files in any supported format, or archives, and write the events to one file.

    Exit codes: 0 done, 2 usage, 5 disk, 6 an input is damaged or holds no events, 130 or 143 interrupted.
    """
    from ociaudit.operations.context import Cancellation

    target = _open_stream(output)
    cancellation = Cancellation()
    with console.handle_signals(cancellation.cancel):
        conversion = _convert(open_command_inputs(inputs, limits), target, wanted, options, cancellation)
        if not quiet:
            for line in describe_conversion(conversion, target):
                console.print_message(line)
    return ExitCode.OK


def _open_stream(path: Path) -> Path | None:
    """Return the path; None for stdin or stdout."""
    return None if str(path) == _STREAM else path


def _convert(
    inputs: tuple[Input, ...],
    output: Path | None,
    wanted: FilterSpec,
    options: Mapping[str, Any],
    cancellation: Cancellation,
) -> Conversion:
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.clock import SystemClock
    from ociaudit.events.filters import EventFilter
    from ociaudit.formats.base import EventEncoder
    from ociaudit.formats.registry import choose_output_format
    from ociaudit.operations.context import pin_filter
    from ociaudit.operations.convert import ConvertOptions, convert_events

    event_filter = EventFilter(pin_filter(wanted, now=SystemClock().now()))
    progress = QuietProgress()
    for notice in event_filter.notices:
        progress.on_notice(notice)
    convert_options = ConvertOptions(
        inputs=inputs,
        output=output,
        event_filter=event_filter,
        output_format=choose_output_format(
            output, file_format=options["file_format"], compression=options["compression"]
        ),
        encoder=EventEncoder(options["shape"], options["with_origin"]),
        is_sorted=options["sort"],
        is_redacted=options["redact"],
        is_valid_unicode=options["valid_unicode"],
        overwrite=options["overwrite"],
        is_strict=options["is_strict"],
    )
    return convert_events(convert_options, callbacks=progress, cancellation=cancellation)


def describe_conversion(conversion: Conversion, output: Path | None) -> Iterator[str]:
    """Yield what was read, what was written, and what was redacted."""
    for each in conversion.inputs[:_INPUTS_SHOWN]:
        yield f"{each.name}: {format_count(each.events, 'event')} ({each.description})"
        if each.unknown:
            yield f"  {format_count(each.unknown, 'object')} of an unknown kind, kept unchanged"
    if len(conversion.inputs) > _INPUTS_SHOWN:
        yield f"… and {format_count(len(conversion.inputs) - _INPUTS_SHOWN, 'more file')}"
    where = f" to {output}" if output else ""
    yield f"{format_count(conversion.written, 'event')} written{where} ({format_count(conversion.size_bytes, 'byte')})"
    yield (
        f"{conversion.read:,} read = {conversion.written:,} written + {conversion.filtered:,} filtered out + "
        f"{conversion.identical:,} identical"
        + (f" + {conversion.reserialised:,} reserialised" if conversion.reserialised else "")
    )
    if conversion.filtered and not conversion.written:
        yield f"no event matched the filter among {conversion.read:,} read"
    for name, values in conversion.nearest_values.items():
        yield f"hint: nearest {name} among the events read: {', '.join(map(console.clean_text, values))}"
    if conversion.conflicting_ids:
        yield f"{format_count(conversion.conflicting_ids, 'event id')} with more than one record; all are kept"
    if conversion.redacted_fields is not None:
        yield from describe_redaction(conversion.redacted_fields, conversion.redacted_events)
    if conversion.surrogates is not None:
        replaced = format_count(conversion.surrogates.replaced, "lone surrogate")
        yield f"replaced: {replaced} in {format_count(conversion.surrogates.events, 'event')}"
