"""How a conversion ended, in words. Owns: the summary lines. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ociaudit.cli.progress import count
from ociaudit.jobs.convert import Conversion

_PATHS_SHOWN = 30
_INPUTS_SHOWN = 20


def describe_conversion(conversion: Conversion, output: Path | None) -> Iterator[str]:
    """Yield what was read, what became of it, and what redaction touched."""
    for each in conversion.inputs[:_INPUTS_SHOWN]:
        yield f"{each.name}: {count(each.events, 'event')} ({each.description})"
        if each.unknown:
            yield f"  {count(each.unknown, 'object')} in it of no known kind, kept as they are"
    if len(conversion.inputs) > _INPUTS_SHOWN:
        yield f"… and {count(len(conversion.inputs) - _INPUTS_SHOWN, 'more file')}"
    where = f" to {output}" if output else ""
    yield f"{count(conversion.written, 'event')} written{where} ({conversion.size_bytes:,} bytes)"
    yield (
        f"{conversion.read:,} read = {conversion.written:,} written + {conversion.filtered:,} filtered out + "
        f"{conversion.identical:,} identical"
    )
    if conversion.conflicting_ids:
        yield f"{count(conversion.conflicting_ids, 'event id')} with more than one record; all are kept"
    yield from describe_redaction(conversion.redacted_fields, conversion.redacted_events)


def describe_redaction(fields: dict[str, int], events: int) -> Iterator[str]:
    """Yield how many values were replaced in which fields."""
    if not fields:
        return
    yield f"redacted: {count(sum(fields.values()), 'value')} in {count(events, 'event')}"
    for path, number in list(fields.items())[:_PATHS_SHOWN]:
        yield f"  {number:>8,}  {path}"
    if len(fields) > _PATHS_SHOWN:
        yield f"  … and {count(len(fields) - _PATHS_SHOWN, 'more field')}"
