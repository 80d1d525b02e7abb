"""`oci-audit diff`: its options, its run and its screen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import FILE, Command, argument, json_option
from ociaudit.errors import ExitCode

if TYPE_CHECKING:
    from ociaudit.events.event import Event
    from ociaudit.operations.diff import Difference, Side

_EXAMPLES_SHOWN = 5


@click.command(
    cls=Command,
    examples=(("Compare an export with a later one of the same range", "oci-audit diff december.json again.json"),),
)
@argument("a", type=FILE, metavar="A", help="An export, or any JSON array of audit events.")
@argument("b", type=FILE, metavar="B", help="The export or JSON array to compare with A.")
@json_option
def diff(a: Path, b: Path, *, as_json: bool) -> int:
    """Compare two exports event by event, within the time range that both cover.

    Exit codes: 0 no difference, 7 they differ, 6 a file cannot be read as a JSON array of events.
    """
    from ociaudit.operations.diff import compare_exports

    difference = compare_exports(a, b)
    if as_json:
        console.print_output(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.print_output(line)
    return ExitCode.OK if difference.is_same else ExitCode.DIFFERENT


def describe_difference(difference: Difference, a: Path, b: Path) -> Iterator[str]:
    """Yield the comparison, line by line."""
    sides = (("A", a, difference.a), ("B", b, difference.b))
    for name, path, side in sides:
        yield f"{name} {path}: {side.events:,} events"
    yield f"in both        {difference.in_both:,}"
    for name, _, side in sides:
        yield f"only in {name}      {side.only:,}"
        for event in side.examples[:_EXAMPLES_SHOWN]:
            yield f"  {_describe_event(event)}"
    yield f"same id, other bytes: {difference.changed_ids:,}"
    for event_id in difference.changed_examples[:_EXAMPLES_SHOWN]:
        yield f"  {event_id}"
    for name, _, side in sides:
        if side.not_comparable:
            yield f"not comparable {side.not_comparable:,} events of {name} are outside the range that both cover"
    for note in difference.notes:
        yield f"note: {note}"
    yield "no difference" if difference.is_same else "THEY DIFFER"


def encode_difference(difference: Difference) -> str:
    """Return the comparison as one JSON object."""
    import msgspec

    fields = {
        "is_same": difference.is_same,
        "in_both": difference.in_both,
        "a": _encode_side(difference.a),
        "b": _encode_side(difference.b),
        "changed_ids": difference.changed_ids,
        "changed_examples": difference.changed_examples,
        "notes": difference.notes,
    }
    return msgspec.json.encode(fields).decode()


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
