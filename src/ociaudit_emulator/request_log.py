"""What was asked: one entry per request served, for tests to read.

Owns: the entries and their bound.
Must not: hold a token, a signature or a key.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, dataclass

MAX_ENTRIES = 50_000


@dataclass(slots=True)
class LogEntry:
    """One request, filled in as it is served; the names are those of the JSON answer."""

    method: str
    path: str
    query: str
    region: str | None = None
    operation: str | None = None
    compartmentId: str | None = None  # noqa: N815 -- the API's spelling
    startTime: str | None = None  # noqa: N815 -- the API's spelling
    endTime: str | None = None  # noqa: N815 -- the API's spelling
    hasPage: bool = False  # noqa: N815 -- the API's spelling
    status: int = 0
    code: str | None = None
    items: int = 0
    key: str | None = None
    userAgent: str | None = None  # noqa: N815 -- the API's spelling
    requestId: str | None = None  # noqa: N815 -- the API's spelling
    started: float = 0.0
    ended: float = 0.0
    fault: str | None = None
    delivery: str = "Whole"


class RequestLog:
    """The last requests, oldest first."""

    def __init__(self) -> None:
        """Begin empty."""
        self._entries: deque[LogEntry] = deque(maxlen=MAX_ENTRIES)
        self._added = 0

    def add(self, entry: LogEntry) -> None:
        """Add an entry; the oldest goes when there are too many."""
        self._entries.append(entry)
        self._added += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self._added = 0

    def list_entries(self) -> list[dict[str, object]]:
        """Give the entries as JSON objects."""
        return [asdict(entry) for entry in self._entries]

    @property
    def dropped_count(self) -> int:
        """Count the entries that went because there were too many."""
        return self._added - len(self._entries)
