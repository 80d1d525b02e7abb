"""Whether a contender's result is right, so that a broken one cannot win.

Owns: the comparison with the events that were served.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from bench.events_file import Made, add_digest
from bench.measure import RunError

_EVENT_ID = re.compile(rb'"event(?:Id|_id|-id)"\s*:\s*"([0-9a-f-]{36})"')


def check_ids(path: Path, made: Made) -> None:
    """Check that a file in any spelling holds the ids of the events that were made, each once.

    Raises: RunError.
    """
    count = digest = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in _EVENT_ID.finditer(content):
            count += 1
            digest = add_digest(digest, found[1])
    if (count, digest) != (made.count, made.ids_digest):
        raise RunError(f"{path.name} holds {count:,} events, and not the {made.count:,} that were served")


def check_export(path: Path, made: Made) -> None:
    """Check that an export holds the events that were made, to the byte.

    Raises: RunError.
    """
    count = digest = 0
    with path.open("rb") as file:
        for line in file:
            event = line.rstrip(b",\n")
            if event in {b"[", b"]"}:
                continue
            count += 1
            digest = add_digest(digest, event)
    if (count, digest) != (made.count, made.lines_digest):
        raise RunError(f"{path.name} holds {count:,} events, and not the {made.count:,} that were served")
