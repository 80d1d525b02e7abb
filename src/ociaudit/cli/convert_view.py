"""How a conversion ended, in words. Owns: the summary lines. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ociaudit.cli.redaction_view import describe_redaction
from ociaudit.cli.wording import count
from ociaudit.jobs.convert import Conversion

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
    if conversion.redacted_fields is not None:
        yield from describe_redaction(conversion.redacted_fields, conversion.redacted_events)
