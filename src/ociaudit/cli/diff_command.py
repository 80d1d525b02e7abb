"""`oci-audit diff`: do two exports hold the same? Owns: its options and its words.

What `oci-audit diff` says. Owns: its words. Must not: print, or compare anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ociaudit.cli import console
from ociaudit.events.event import Event, read_order
from ociaudit.events.fields import format_instant
from ociaudit.operations.diff import Difference, Side

DIFFERENT_EXIT_CODE = 7


def diff(
    a: Annotated[Path, typer.Argument(help="An export, or any JSON array of audit events.", metavar="A")],
    b: Annotated[Path, typer.Argument(help="Another one.", metavar="B")],
    *,
    is_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> int:
    """Compare two exports event by event, within what both of them cover.

    Exit codes: 0 no difference, 7 they differ, 6 a file cannot be read as a JSON array of events.
    """
    from ociaudit.operations.diff import compare_exports

    difference = compare_exports(a, b)
    if is_json:
        console.print_output(encode_difference(difference))
    else:
        for line in describe_difference(difference, a, b):
            console.print_output(line)
    return 0 if difference.is_same else DIFFERENT_EXIT_CODE


_EXAMPLES_SHOWN = 5


def describe_difference(difference: Difference, a: Path, b: Path) -> Iterator[str]:
    """Yield the comparison, line by line."""
    for name, path, side in (("A", a, difference.a), ("B", b, difference.b)):
        yield f"{name} {path}: {side.events:,} events"
    yield f"in both        {difference.in_both:,}"
    for name, side in (("A", difference.a), ("B", difference.b)):
        yield f"only in {name}      {side.only:,}"
        for event in side.examples[:_EXAMPLES_SHOWN]:
            yield f"  {_describe_event(event)}"
    yield f"same id, other bytes: {difference.changed_ids:,}"
    for event_id in difference.changed_examples[:_EXAMPLES_SHOWN]:
        yield f"  {event_id}"
    for name, side in (("A", difference.a), ("B", difference.b)):
        if side.not_comparable:
            yield f"not comparable {side.not_comparable:,} events of {name} lie outside what both cover"
    for note in difference.notes:
        yield f"note: {note}"
    yield "no difference" if difference.is_same else "THEY DIFFER"


def encode_difference(difference: Difference) -> str:
    """Return the comparison as one JSON object."""
    answer = {
        "is_same": difference.is_same,
        "in_both": difference.in_both,
        "a": _encode_side(difference.a),
        "b": _encode_side(difference.b),
        "changed_ids": difference.changed_ids,
        "changed_examples": difference.changed_examples,
        "notes": difference.notes,
    }
    return msgspec.json.encode(answer).decode()


def _encode_side(side: Side) -> dict[str, Any]:
    return {
        "events": side.events,
        "only": side.only,
        "not_comparable": side.not_comparable,
        "examples": [_describe_event(event) for event in side.examples],
    }


def _describe_event(event: Event) -> str:
    instant, event_id = read_order(event.order)
    time = format_instant(instant) if instant else "(no time)"
    return f"{time} {event_id or '(no id)'} {event.event_type}".encode("utf-8", "replace").decode()
