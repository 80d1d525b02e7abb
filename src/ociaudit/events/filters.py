"""Which events are written: regular expressions searched in the event type.

Owns: the decision for one event. Must not: count, print, or change an event.
Invariant: a filter without patterns lets every event pass.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence

from ociaudit.errors import UsageError
from ociaudit.events.event import Event


class EventFilter:
    """Lets an event pass when any of the patterns is found in its `eventType`."""

    def __init__(self, event_types: Sequence[str] = ()) -> None:
        """Compile the patterns.

        Raises:
            UsageError: a pattern is no regular expression; the message says which one and where.
        """
        self.patterns = tuple(event_types)
        self._searches = tuple(_compile_pattern(pattern).search for pattern in event_types)

    def __bool__(self) -> bool:
        """Tell whether anything is filtered at all."""
        return bool(self._searches)

    def is_type_wanted(self, event_type: str) -> bool:
        """Tell whether an event of this type passes."""
        return not self._searches or any(search(event_type) for search in self._searches)

    def select(self, events: list[Event]) -> list[Event]:
        """Return the events that pass, in their order."""
        if not self._searches:
            return events
        return [event for event in events if self.is_type_wanted(event.event_type)]


def _compile_pattern(pattern: str) -> re.Pattern[str]:
    try:
        with warnings.catch_warnings():  # a doubtful set such as [[a] still means what it meant
            warnings.simplefilter("ignore", FutureWarning)
            return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        where = f" at position {error.pos}" if isinstance(error, re.error) and error.pos is not None else ""
        what = error.msg if isinstance(error, re.error) else str(error)
        raise UsageError(
            f"the event filter {pattern!r} is not a regular expression: {what}{where}",
            hint="write a Python regular expression, for example 'Instance|Compute'; \\. means a real dot",
        ) from error
