"""What a redaction touched, in words. Owns: these lines. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ociaudit.cli.wording import count

_PATHS_SHOWN = 30


def describe_redaction(fields: Mapping[str, int], events: int) -> Iterator[str]:
    """Yield how many values were replaced in which fields."""
    if not fields:
        yield "redacted: nothing in it looked like a credential"
        return
    yield f"redacted: {count(sum(fields.values()), 'value')} in {count(events, 'event')}"
    for path, number in list(fields.items())[:_PATHS_SHOWN]:
        yield f"  {number:>8,}  {path}"
    if len(fields) > _PATHS_SHOWN:
        yield f"  … and {count(len(fields) - _PATHS_SHOWN, 'more field')}"
