"""The time range of an export: the times a user types, resolved to one window of whole UTC minutes.

The current time is an argument; nothing here reads a clock.

Invariants
- Rounding never loses an event: a start is rounded down and an end up, both to whole minutes. As an end, an age
  or `now` is rounded down, because it means the last whole minute.
- A day, week or month as the end is included; a time as the end is excluded.
- The end is at most the current minute, minus the time given for events to settle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePath

from ociaudit.errors import UsageError
from ociaudit.planning.typed_time import parse_duration, parse_time
from ociaudit.planning.window import MINUTES_PER_DAY, Window, floor_minute, format_minute

_PLACEHOLDER = re.compile(r"\{\w*\}")
_PLACEHOLDERS = frozenset({"{start}", "{end}"})


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A resolved range: the window to fetch, and the notices for the user.

    `is_clipped`: the typed end is in the future, so the same input resolves to a longer window later; `typed_end` is
    then that end. `event_window` is the range of event times, if the input meant those; it is never clipped.
    """

    window: Window
    is_clipped: bool = False
    notices: tuple[str, ...] = ()
    event_window: Window | None = None
    typed_end: int | None = None

    @property
    def named_window(self) -> Window:
        """Return the range that the user typed."""
        return self.event_window or self.window


def resolve_range(start: str, end: str, *, now: datetime, settle_minutes: int = 0) -> TimeRange:
    """Resolve two typed times to the window to fetch, which ends at least `settle_minutes` before `now`.

    Raises:
        UsageError: a time is unreadable, or the start is in the future, not before the end, or not settled yet.
    """
    current = floor_minute(now)
    latest = current - settle_minutes
    typed_end = parse_time(end, now=now)
    first, last = parse_time(start, now=now).as_start, typed_end.as_end
    if first >= current:
        problem = "is in the future" if first > current else "is the current minute, which has not ended"
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) {problem}; now is {format_minute(current)}",
            hint="choose an earlier --start",
        )
    if first >= last:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) is not before the end {end!r} ({format_minute(last)})",
            hint="swap them, or choose a later --end",
        )
    if first >= latest:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) is within the last {settle_minutes} minutes, "
            "which --settle omits",
            hint="choose an earlier --start, or a shorter --settle",
        )
    notices: tuple[str, ...] = ()
    if last > current:
        notices = (f"the end {format_minute(last)} is in the future; fetching until {format_minute(latest)}",)
    elif last > latest and not typed_end.is_relative:  # `now` means the last settled minute
        notices = (f"the end {format_minute(last)} has not settled yet; fetching until {format_minute(latest)}",)
    is_clipped = last > latest and not typed_end.is_relative
    return TimeRange(Window(first, min(last, latest)), is_clipped, notices, typed_end=last if is_clipped else None)


def resolve_event_range(start: str, end: str, *, late: str, now: datetime) -> TimeRange:
    """Resolve two typed event times to the window of processed time that holds nearly all of these events.

    An event is processed after it happened, so the window reaches from the start until `late` after the end, but not
    beyond `now`. The range of event times itself is not clipped at `now`.

    Raises:
        UsageError: as for `resolve_range`, or `late` is not a duration.
    """
    late_minutes = parse_duration(late)
    typed_end = parse_time(end, now=now)
    event_window = Window(resolve_range(start, end, now=now).window.start, typed_end.as_end)
    current = floor_minute(now)
    until = event_window.end + late_minutes
    notice = (
        f"the range is in event times, {event_window}: "
        f"events processed until {late} after it are fetched, and those that happened outside it are dropped"
    )
    notices = [notice]
    if until > current:
        notices.append(
            f"{late} after the end is in the future, so events of the range may be missing; fetching until "
            f"{format_minute(current)}"
        )
    window = Window(event_window.start, min(until, current))
    return TimeRange(window, until > current and not typed_end.is_relative, tuple(notices), event_window)


def check_placeholders(path: PurePath) -> None:
    """Check that a path's file name has no placeholder but `{start}` and `{end}`, and its folders have neither.

    Raises:
        UsageError: it has.
    """
    unknown = sorted(set(_PLACEHOLDER.findall(path.name)) - _PLACEHOLDERS)
    if unknown:
        raise UsageError(
            f"the file name {path.name} has the unknown placeholder {', '.join(unknown)}",
            hint="{start} and {end} are filled in; any other name is written without braces",
        )
    if any(one in str(path.parent) for one in _PLACEHOLDERS):
        raise UsageError(
            f"the folder {path.parent} has a placeholder",
            hint="{start} and {end} are filled in only in the file name",
        )


def expand_name(name: str, window: Window, *, typed_end: int | None = None) -> str:
    """Return a file name with `{start}` and `{end}` filled in: as days if the window is whole days, else as minutes.

    For whole days, `{end}` is the last day inside the window. Where the window is clipped before `typed_end`, `{end}`
    is the minute at which it ends, and `{start}` is what it will be when the range is over.
    """
    start, end = (format_minute(minute)[:16].replace(":", "") + "Z" for minute in (window.start, window.end))
    whole_end = window.end if typed_end is None else typed_end
    if window.start % MINUTES_PER_DAY == 0 and whole_end % MINUTES_PER_DAY == 0:
        start = start[:10]
        end = end if whole_end > window.end else format_minute(window.end - 1)[:10]
    return name.replace("{start}", start).replace("{end}", end)
