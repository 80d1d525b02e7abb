"""`oci-audit diff`: its options, its run and its screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import FILE, Command, argument, json_option, limit_options, open_command_inputs, strict_option
from ociaudit.errors import ExitCode, format_count

if TYPE_CHECKING:
    from ociaudit.archive.inputs import Limits
    from ociaudit.events.event import Event
    from ociaudit.operations.diff import Difference, Side

_EXAMPLES_SHOWN = 5
_PATHS_SHOWN = 10
_FIELDS_SHOWN = 5
_LONGEST_SHOWN = 60


@click.command(
    cls=Command,
    examples=(("Compare an export with a later one of the same range", "oci-audit diff december.json again.json"),),
)
@argument("a", type=FILE, metavar="A", help="An export, any file of audit events, or an archive.")
@argument("b", type=FILE, metavar="B", help="The file or archive to compare with A.")
@limit_options
@json_option
@strict_option
def diff(a: Path, b: Path, *, limits: Limits, as_json: bool, is_strict: bool) -> int:
    """Compare two exports, or archives, event by event, within the time range that both cover.

    Exit codes: 0 no difference, 7 they differ, 6 a file cannot be read as audit events.
    """
    from ociaudit.operations.diff import compare_inputs

    first, second = open_command_inputs((a, b), limits)
    difference = compare_inputs(first, second, is_strict=is_strict)
    if as_json:
        console.print_data(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.print_output(line)
    return ExitCode.OK if difference.is_same else ExitCode.DIFFERENT


def describe_difference(difference: Difference, a: Path, b: Path) -> Iterator[str]:
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
