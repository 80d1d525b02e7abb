"""How numbers are said. Owns: these phrases. Must not: print."""

from __future__ import annotations

_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def describe_seconds(seconds: float) -> str:
    """Return a span as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe_bytes(size: float) -> str:
    """Return a size as a person says it."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:.0f} bytes"


def count(number: int, noun: str) -> str:
    """Return `1 gap` or `2 gaps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
