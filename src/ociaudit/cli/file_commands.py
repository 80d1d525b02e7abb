"""`oci-audit convert`, `diff` and `reconcile`: commands on files of events, with their options, runs and screens."""

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
    OUTPUT_FILE,
    OUTPUT_PLACE,
    PLACE,
    STRICT_HELP,
    Command,
    Places,
    argument,
    check_output,
    file_options,
    filter_options,
    json_option,
    limit_options,
    open_command_inputs,
    option,
    place_options,
    strict_option,
)
from ociaudit.errors import ExitCode, UsageError, format_count

if TYPE_CHECKING:
    from ociaudit.archive.inputs import Input, Limits
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.events.event import Event
    from ociaudit.events.filters import FilterSpec
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.convert import Conversion
    from ociaudit.operations.diff import Difference, Side
    from ociaudit.operations.reconcile import Counts, Entry, Reconciliation, Row, SideCounts

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
    help="Event files, or oci:// URLs of them: exports, or output from Oracle's CLI, SDK, Connector Hub, or Logging "
    "Search, optionally compressed with gzip or zstd; archives; folders of Connector Hub; - is stdin.",
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

    convert_options = ConvertOptions(
        inputs=inputs,
        output=output,
        event_filter=EventFilter(pin_filter(wanted, now=SystemClock().now())),
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
    return convert_events(convert_options, callbacks=QuietProgress(), cancellation=cancellation)


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

    Exit codes: 0 no difference, 7 they differ or nothing could be compared, 6 a file cannot be read as audit events,
    3 or 4 a URL cannot be used.
    """
    from ociaudit.operations.diff import compare_inputs

    first, second = open_command_inputs((a, b), limits, places)
    difference = compare_inputs(first, second, is_strict=is_strict)
    if as_json:
        console.print_data(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.print_output(line)
    return ExitCode.OK if difference.is_same and difference.is_compared else ExitCode.DIFFERENT


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
    is_same = _name_sameness(difference.a, difference.b, is_compared=difference.is_compared)
    yield is_same if difference.is_same else "THEY DIFFER"


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
        "is_compared": difference.is_compared,
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


_ROWS_SHOWN, _ROWS_ON_PAGE = 20, 2_000
_COUNT_NAMES = ("lost", "doubled", "surplus", "matched")


@click.command(
    cls=Command,
    examples=(
        ("Did the connector deliver everything that an export has?", "oci-audit reconcile logs december.json"),
        ("One week of it, also as a page", "oci-audit reconcile logs audit-archive --start 7d --html reconcile.html"),
    ),
)
@argument(
    "a", type=PLACE, metavar="A", help="What was delivered: a folder of Connector Hub, any file of events, or its URL."
)
@argument(
    "b", type=PLACE, metavar="B", help="What ListEvents gave: an export, an archive, any file of events, or its URL."
)
@option("--start", "limit_start", metavar="TIME", help="Only events that happened at this time or later.")
@option("--end", "limit_end", metavar="TIME", help="Only events before the end of this time.")
@place_options
@json_option
@option("--html", "page", type=OUTPUT_FILE, metavar="FILE", help="Also write a page with the result to this file.")
@option("--overwrite", is_flag=True, help="Overwrite the page if it exists.")
@strict_option
def reconcile(
    a: Path | ObjectUrl,
    b: Path | ObjectUrl,
    *,
    limit_start: str | None,
    limit_end: str | None,
    places: Places,
    as_json: bool,
    page: Path | None,
    overwrite: bool,
    is_strict: bool,
) -> int:
    """Find what a delivery (A) lacks, doubles or holds beyond what ListEvents gave (B), by target and day.

    Events are matched by id, otherwise by time, type and request id. What only one of the two covers is not compared.

    Exit codes: 0 no difference, 7 they differ or nothing could be compared, 6 an input is damaged or holds no events,
    2 usage, 5 disk, 3 or 4 a URL cannot be used, 130 or 143 interrupted.
    """
    from ociaudit.archive.inputs import Limits
    from ociaudit.clock import SystemClock
    from ociaudit.operations.reconcile import ReconcileRange, open_side, reconcile_inputs

    if page is not None:
        if page.suffix.lower() not in {".html", ".htm"}:
            raise UsageError(f"--html {page}: the name of a page ends in .html", hint="for example: --html result.html")
        local = [one for one in (a, b) if isinstance(one, Path)]
        check_output(page, inputs=local, can_overwrite=overwrite)
    now, limits = SystemClock().now(), Limits(limit_start, limit_end)
    within = ReconcileRange(*limits.resolve_times(now=now))
    cancellation = places.cancellation
    paths = [_open_stream(places.fetch(place, limits=limits)) for place in (a, b)]
    with console.handle_signals(cancellation.cancel):
        sides = [places.fill(open_side(path, limits, now=now, url=places.find_url(path))) for path in paths]
        for notice in filter(None, (side.find_notice() for side in sides if side.file is None)):
            console.print_notice(notice)
        found = reconcile_inputs(sides[0], sides[1], within=within, is_strict=is_strict, cancellation=cancellation)
    if page is not None:
        _write_page(page, found)
    if as_json:
        console.print_data(encode_reconciliation(found))
    else:
        for line in describe_reconciliation(found):
            console.print_output(line)
    return ExitCode.OK if found.is_same and found.is_compared else ExitCode.DIFFERENT


def describe_reconciliation(found: Reconciliation) -> Iterator[str]:
    """Yield the result, line by line."""
    yield from _describe_facts(found)
    rows = found.list_rows()
    if rows:
        yield f"{'day':<12}{''.join(f'{name:>10}' for name in _COUNT_NAMES)}  target"
    for row, counts in rows[:_ROWS_SHOWN]:
        numbers = "".join(f"{getattr(counts, name):>10,}" for name in _COUNT_NAMES)
        yield f"{row.date:<12}{numbers}  {_describe_place(row, found)}"
    if len(rows) > _ROWS_SHOWN:
        yield f"… and {len(rows) - _ROWS_SHOWN:,} more; see --json"
    for name, examples in _list_examples(found):
        for entry in examples[:_EXAMPLES_SHOWN]:
            yield f"{name:<9}{_describe_entry(entry)}"
    for note in found.notes:
        yield f"note: {note}"
    yield _summarize(found)


def _summarize(found: Reconciliation) -> str:
    totals = found.totals
    if totals.lost:
        return f"THEY DIFFER: A lacks {format_count(totals.lost, 'event')} that B holds"
    if not found.is_same:
        return "THEY DIFFER: A lacks nothing that B holds, and holds more"
    return _name_sameness(found.a, found.b, is_compared=found.is_compared)


def _name_sameness(a: Side | SideCounts, b: Side | SideCounts, *, is_compared: bool) -> str:
    """Return the result of a comparison that found no difference; never more than was compared."""
    if not is_compared:
        return "NOTHING COMPARED: no event is in what both cover"
    return "no difference in what both cover" if a.not_comparable or b.not_comparable else "no difference"


def _describe_facts(found: Reconciliation) -> Iterator[str]:
    for name, side in (("A", found.a), ("B", found.b)):
        yield f"{name} {side.name}: {format_count(side.events, 'event')}"
        yield f"  covers       {side.covers}"
    if found.start and found.start == found.end:
        yield "compared       nothing"
    elif found.start or found.end:
        yield f"compared       {found.start or 'the beginning'} to {found.end or 'the end'}"
    yield (
        f"matched        {found.totals.matched:,} ({found.matched_by_id:,} by id, {found.matched_by_key:,} by time, "
        "type and request id)"
    )
    yield f"lost           {found.totals.lost:,} (in B, not in A)"
    yield f"doubled        {found.totals.doubled:,} (further copies in A)"
    yield f"surplus        {found.totals.surplus:,} (in A, not in B)"
    for name, side in (("A", found.a), ("B", found.b)):
        if side.not_comparable:
            events = format_count(side.not_comparable, "event")
            yield f"not comparable {events} of {name}: not covered by the other, or omitted by its filter"


def _list_examples(found: Reconciliation) -> tuple[tuple[str, list[Entry]], ...]:
    return (
        ("lost", found.lost_examples),
        ("doubled", found.doubled_examples),
        ("surplus", found.surplus_examples),
    )


def _describe_place(row: Row, found: Reconciliation) -> str:
    place = found.paths.get(row.compartment) or row.compartment or "(no compartment)"
    return f"{row.region or '(region unknown)'} {place}"


def _describe_entry(entry: Entry) -> str:
    from ociaudit.events.fields import format_instant

    time = format_instant(entry.instant) if entry.instant else "(no time)"
    return f"{time} {entry.event_id or '(no id)'} {entry.event_type}"


def encode_reconciliation(found: Reconciliation) -> str:  # long because: it names every member of the object
    """Return the result as one JSON object."""
    import msgspec

    from ociaudit.events.fields import format_instant

    def encode_counts(counts: Counts) -> dict[str, int]:
        return {name: getattr(counts, name) for name in _COUNT_NAMES}

    fields = {
        "is_same": found.is_same,
        "is_compared": found.is_compared,
        "compared": {"start": found.start, "end": found.end},
        **{
            name: {
                "name": side.name.encode("utf-8", "replace").decode(),
                "events": side.events,
                "covers": side.covers,
                "not_comparable": side.not_comparable,
                "doubled": side.doubled,
            }
            for name, side in (("a", found.a), ("b", found.b))
        },
        "totals": encode_counts(found.totals),
        "matched_by": {"id": found.matched_by_id, "time_type_request": found.matched_by_key},
        "rows": [
            {
                "region": row.region or None,
                "compartment": row.compartment or None,
                "path": found.paths.get(row.compartment),
                "date": row.date,
                **encode_counts(counts),
            }
            for row, counts in found.list_rows()
        ],
        "days": [{"date": date, **encode_counts(counts)} for date, counts in sorted(found.days.items())],
        "examples": {
            name: [
                {
                    "event_id": entry.event_id or None,
                    "event_time": format_instant(entry.instant) if entry.instant else None,
                    "event_type": entry.event_type,
                    "request_id": entry.request_id or None,
                    "region": entry.region or None,
                    "compartment": entry.compartment or None,
                }
                for entry in examples
            ]
            for name, examples in _list_examples(found)
        },
        "notes": found.notes,
    }
    return msgspec.json.encode(fields).decode()


def _write_page(page: Path, found: Reconciliation) -> None:
    from ociaudit.analysis.report import render_asset
    from ociaudit.storage.atomic_io import write_file

    rows = [
        (row.date, *(getattr(counts, name) for name in _COUNT_NAMES), _describe_place(row, found))
        for row, counts in found.list_rows()
    ]
    days = [(date, *(getattr(counts, name) for name in _COUNT_NAMES)) for date, counts in sorted(found.days.items())]
    examples = [
        (name, _describe_entry(entry), entry.request_id) for name, some in _list_examples(found) for entry in some
    ]
    facts = (line.replace("not comparable ", "not comparable  ") for line in _describe_facts(found))
    tables = [
        ("Targets and days with differences", ("day", *_COUNT_NAMES, "target"), rows[:_ROWS_ON_PAGE], rows),
        ("Days", ("day", *_COUNT_NAMES), days[:_ROWS_ON_PAGE], days),
        ("Examples", ("", "event", "request id"), examples, examples),
    ]
    write_file(
        page,
        render_asset(
            "reconcile.html",
            "status.css",
            title=f"{found.a.name} and {found.b.name}",
            verdict=("complete" if found.is_compared else "unknown") if found.is_same else "incomplete",
            headline=_summarize(found),
            lines=[
                *(line.replace("not comparable ", "not comparable  ") for line in facts),
                *(f"note           {note}" for note in found.notes),
            ],
            tables=[(name, heads, shown, len(every) - len(shown)) for name, heads, shown, every in tables],
        ),
    )
