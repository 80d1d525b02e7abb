"""Events as Python's own objects, for whoever iterates.

Owns: turning the lines of a stream into dictionaries. Must not: ask.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Self

from ociaudit.events.shapes import Shape, choose_shape
from ociaudit.jobs.stream import EventStream
from ociaudit.plan.shard import Gap


class Events:
    """The events of `stream`: an iterator of dictionaries, which can be closed early."""

    def __init__(self, lines: EventStream, shape: Shape) -> None:
        """Read from `lines` and spell as `shape` says."""
        self._lines = lines
        self._reshape = choose_shape(shape)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next event; see `stream` for what is raised."""
        event: dict[str, Any] = json.loads(self._reshape(next(self._lines)), parse_int=_parse_int)
        return event

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return what did not come back complete; final when the iteration has ended."""
        return self._lines.gaps

    def close(self) -> None:
        """End the requests under way."""
        self._lines.close()


def _parse_int(text: str) -> int | str:
    """Numbers of thousands of digits, which Python will not convert, stay text."""
    try:
        return int(text)
    except ValueError:
        return text
