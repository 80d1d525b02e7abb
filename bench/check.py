"""Checks of a contender's result, so that a broken contender cannot win."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

from bench.events_file import ServedEvents, add_to_digest
from bench.measure import RunError

_EVENT_ID = re.compile(rb'"event(?:Id|_id|-id)"\s*:\s*"([0-9a-f-]{36})"')


def check_ids(path: Path, served: ServedEvents) -> None:
    """Check that a file in any shape holds the ids of the served events, each once.

    Raises: RunError.
    """
    count = digest = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for found in _EVENT_ID.finditer(content):
            count += 1
            digest = add_to_digest(digest, found[1])
    if (count, digest) != (served.count, served.ids_digest):
        raise RunError(f"{path.name} holds {count:,} events instead of the {served.count:,} that were served")


def check_export(path: Path, served: ServedEvents) -> None:
    """Check that an export holds the served events, byte for byte.

    Raises: RunError.
    """
    count = digest = 0
    with path.open("rb") as file:
        for line in file:
            event = line.rstrip(b",\n")
            if event in {b"[", b"]"}:
                continue
            count += 1
            digest = add_to_digest(digest, event)
    if (count, digest) != (served.count, served.lines_digest):
        raise RunError(f"{path.name} holds {count:,} events instead of the {served.count:,} that were served")
