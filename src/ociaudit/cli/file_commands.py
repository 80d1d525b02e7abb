"""`oci-audit convert` and `diff`: commands on files of events, with their options, their runs and their screens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.console import describe_redaction
from ociaudit.cli.options import (
    BEHAVIOR,
    OUTPUT,
    OUTPUT_PLACE,
    PLACE,
    STRICT_HELP,
    Command,
    Places,
    argument,
    file_options,
    filter_options,
    json_option,
    limit_options,
    open_command_inputs,
    option,
    place_options,
    strict_option,
)
from ociaudit.errors import ExitCode, format_count

if TYPE_CHECKING:
    from ociaudit.archive.inputs import Input, Limits
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.events.event import Event
    from ociaudit.events.filters import FilterSpec
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.convert import Conversion
    from ociaudit.operations.diff import Difference, Side

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
    type=PLACE,
    metavar="IN...",
    help="Event files, or oci:// URLs of them: exports, or "
    "output from Oracle's CLI, SDK, Connector Hub, or Logging Search, optionally "
    "compressed with gzip or zstd; archives; - is stdin.",
)
@option(
    "-o",
    "--output",
    section=OUTPUT,
    type=OUTPUT_PLACE,
    required=True,
    metavar="FILE|URL",
    help="Output file, oci://bucket@namespace/name, or - for stdout. The extension sets the format and compression.",
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
@place_options
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
@option("-q", "--quiet", section=BEHAVIOR, is_flag=True, help="Print only notices and errors.")
def convert(
    inputs: tuple[Path | ObjectUrl, ...],
    *,
    output: Path | ObjectUrl,
    wanted: FilterSpec,
    limits: Limits,
    places: Places,
    quiet: bool,
    **options: Any,
) -> int:
    """Read event files in any supported format, or archives, and write the events to one file.

    Exit codes: 0 done, 2 usage, 3 or 4 a URL cannot be used, 5 disk, 6 an input is damaged or holds no events, 130 or
    143 interrupted.
    """
    cancellation = places.cancellation
    with console.handle_signals(cancellation.cancel):
        with places.stage(output, may_overwrite=options["overwrite"]) as path:
            sources = open_command_inputs(inputs, limits, places)
            conversion = _convert(sources, _open_stream(path), wanted, options, cancellation)
        if not quiet:
            for line in describe_conversion(conversion, None if str(output) == _STREAM else output):
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


def describe_conversion(conversion: Conversion, output: Path | ObjectUrl | None) -> Iterator[str]:
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


_EXAMPLES_SHOWN = 5
_PATHS_SHOWN = 10
_FIELDS_SHOWN = 5
_LONGEST_SHOWN = 60


@click.command(
    cls=Command,
    examples=(("Compare an export with a later one of the same range", "oci-audit diff december.json again.json"),),
)
@argument("a", type=PLACE, metavar="A", help="An export, any file of audit events or its URL, or an archive.")
@argument("b", type=PLACE, metavar="B", help="The file, URL or archive to compare with A.")
@limit_options
@place_options
@json_option
@strict_option
def diff(
    a: Path | ObjectUrl, b: Path | ObjectUrl, *, limits: Limits, places: Places, as_json: bool, is_strict: bool
) -> int:
    """Compare two exports, or archives, event by event, within the time range that both cover.

    Exit codes: 0 no difference, 7 they differ, 6 a file cannot be read as audit events, 3 or 4 a URL cannot be used.
    """
    from ociaudit.operations.diff import compare_inputs

    first, second = open_command_inputs((a, b), limits, places)
    difference = compare_inputs(first, second, is_strict=is_strict)
    if as_json:
        console.print_data(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.print_output(line)
    return ExitCode.OK if difference.is_same else ExitCode.DIFFERENT


def describe_difference(difference: Difference, a: Path | ObjectUrl, b: Path | ObjectUrl) -> Iterator[str]:
    """Yield the comparison, line by line."""
    sides = (("A", a, difference.a), ("B", b, difference.b))
    for name, path, side in sides:
        yield f"{name} {path}: {format_count(side.events, 'event')}"
    yield f"in both        {difference.in_both:,}"
    for name, _, side in sides:
        yield f"only in {name}      {side.only:,}"
        for event in side.examples[:_EXAMPLES_SHOWN]:
            yield f"  {_describe_event(event)}"
    yield from _describe_changes(difference)
    for name, _, side in sides:
        if side.not_comparable:
            events = format_count(side.not_comparable, "event")
            yield f"not comparable {events} of {name} outside the range that both cover"
    for note in difference.notes:
        yield f"note: {note}"
    yield "no difference" if difference.is_same else "THEY DIFFER"


def _describe_changes(difference: Difference) -> Iterator[str]:
    """Yield how many events changed, in which fields, and examples."""
    yield f"changed        {difference.changed:,}"
    if difference.reserialized:
        yield f"  {format_count(difference.reserialized, 'event')} of them with the same values, written differently"
    for path, number in difference.changed_fields.most_common(_PATHS_SHOWN):
        yield f"  {number:>9,}  {path}"
    for changed in difference.changed_examples[:_EXAMPLES_SHOWN]:
        yield f"  {changed.event_id}"
        for each in changed.fields[:_FIELDS_SHOWN]:
            yield f"    {each.path}: {_show_value(each.old)} → {_show_value(each.new)}"


def encode_difference(difference: Difference) -> str:
    """Return the comparison as one JSON object."""
    import msgspec

    fields = {
        "is_same": difference.is_same,
        "in_both": difference.in_both,
        "a": _encode_side(difference.a),
        "b": _encode_side(difference.b),
        "changed": difference.changed,
        "reserialized": difference.reserialized,
        "changed_fields": dict(difference.changed_fields.most_common()),
        "changed_examples": difference.changed_examples,
        "notes": difference.notes,
    }
    return msgspec.json.encode(fields).decode()


def _show_value(text: str | None) -> str:
    if text is None:
        return "(none)"
    return text if len(text) <= _LONGEST_SHOWN else text[: _LONGEST_SHOWN - 1] + "…"


def _encode_side(side: Side) -> dict[str, Any]:
    return {
        "events": side.events,
        "only": side.only,
        "not_comparable": side.not_comparable,
        "examples": [_describe_event(event) for event in side.examples],
    }


def _describe_event(event: Event) -> str:
    from ociaudit.events.event import read_order
    from ociaudit.events.fields import format_instant

    instant, event_id = read_order(event.order)
    time = format_instant(instant) if instant else "(no time)"
    return f"{time} {event_id or '(no id)'} {event.event_type}".encode("utf-8", "replace").decode()
