"""What an export must hold, made from what the emulator says it would serve.

Owns: an own reading of `eventTime` and an own canonical order, so that a mistake of the program shows.
Must not: import the program.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from fractions import Fraction
from typing import Any

from support.emulator import Emulator

_TIME = re.compile(r"(.{19})(\.\d+)?(Z|[+-]\d\d:\d\d)")


def list_regions(emulator: Emulator) -> list[str]:
    """Return the regions that can be asked."""
    return sorted(one["name"] for one in emulator.tenancy()["regions"] if one["status"] == "READY")


def list_compartments(emulator: Emulator, *, is_forbidden: bool = False) -> list[str]:
    """Return the readable compartments, or the forbidden ones."""
    return sorted(one["id"] for one in emulator.tenancy()["compartments"] if one["isForbidden"] is is_forbidden)


def find_compartment(emulator: Emulator, name: str) -> str:
    """Return the OCID of a compartment."""
    found: str = next(one["id"] for one in emulator.tenancy()["compartments"] if one["name"] == name)
    return found


def list_descendants(emulator: Emulator, ocid: str) -> list[str]:
    """Return a compartment and everything below it."""
    below = {ocid}
    for one in emulator.tenancy()["compartments"]:  # parents come before their children
        if one["parentId"] in below:
            below.add(one["id"])
    return sorted(below)


def list_events(
    emulator: Emulator,
    start: str,
    end: str,
    *,
    regions: Sequence[str] | None = None,
    compartments: Sequence[str] | None = None,
) -> list[bytes]:
    """Return the lines that an export of `[start, end)` must hold, in canonical order."""
    lines = [
        join_lines(event)
        for region in (list_regions(emulator) if regions is None else regions)
        for compartment in (list_compartments(emulator) if compartments is None else compartments)
        for event in emulator.events(region, compartment, start, end)
    ]
    return sort_events(set(lines))


def join_lines(event: bytes) -> bytes:
    """Take out the line breaks, which in JSON stand only between tokens."""
    return event.replace(b"\r", b"").replace(b"\n", b"")


def sort_events(lines: Iterable[bytes]) -> list[bytes]:
    """Put lines into canonical order: time to the nanosecond, id, bytes."""
    return sorted(lines, key=_make_sort_key)


def write_array(lines: Sequence[bytes]) -> bytes:
    """Write the file that holds these lines."""
    return b"[\n" + b",\n".join(lines) + (b"\n" if lines else b"") + b"]\n"


def _make_sort_key(line: bytes) -> tuple[Fraction, str, bytes]:
    event: dict[str, Any] = json.loads(line)
    match = _TIME.fullmatch(event.get("eventTime") or "")
    if match is None:
        return Fraction(-1), event.get("eventId") or "", line
    moment = datetime.fromisoformat(match[1] + match[3].replace("Z", "+00:00"))
    return Fraction(int(moment.timestamp())) + Fraction("0" + (match[2] or ".0")), event.get("eventId") or "", line
