"""The time range of an export: the times a user types, resolved to one window of whole UTC minutes.

The current time is an argument; nothing here reads a clock.

Invariants
- Rounding never loses an event: a start is rounded down and an end up, both to whole minutes. As an end, an age
  or `now` is rounded down, because it means the last whole minute.
- A date as the end includes that whole day; a time as the end is exclusive.
- The end is at most the current minute, minus the time given for events to settle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ociaudit.errors import UsageError
from ociaudit.planning.window import MINUTES_PER_DAY, Window, floor_minute, format_minute

_FORMATS_HINT = (
    "write a date (2025-12-01 or 01.12.25), a time with its offset (2025-12-01T08:00:00Z), an age (7d, 36h, 90m) or now"
)
_DURATION_HINT = "write whole minutes, hours or days: 15m, 1h, 2d; windows are whole minutes"
_AGE = re.compile(r"(\d{1,9})\s*([dhm])", re.ASCII)
_ALMOST_A_MINUTE = timedelta(minutes=1, microseconds=-1)
_MINUTES = {"d": MINUTES_PER_DAY, "h": 60, "m": 1}
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_MAX_DURATION_DAYS = 3660
_DATE_FORMATS = (
    (re.compile(r"\d{4}-\d\d-\d\d", re.ASCII), "%Y-%m-%d"),
    (re.compile(r"\d\d\.\d\d\.\d\d", re.ASCII), "%d.%m.%y"),
)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A resolved range: the window to fetch, and the notices for the user.

    `is_clipped`: the typed end is in the future, so the same input resolves to a longer window later. `event_window` is
    the range of event times, if the input meant those.
    """

    window: Window
    is_clipped: bool = False
    notices: tuple[str, ...] = ()
    event_window: Window | None = None

    @property
    def named_window(self) -> Window:
        """Return the range that the user typed."""
        return self.event_window or self.window


def is_relative(text: str) -> bool:
    """Return whether the meaning of a typed time depends on the current time: an age, or `now`."""
    return text.strip().lower() == "now" or _AGE.fullmatch(text.strip().lower()) is not None


def parse_duration(text: str) -> int:
    """Return the minutes of a duration such as `15m`, `1h` or `2d`.

    Raises:
        UsageError: the text has another form (seconds included, because windows are whole minutes), or is too long.
    """
    found = _AGE.fullmatch(text.strip().lower())
    if not found:
        raise UsageError(f"the duration {text!r} is not in a known format", hint=_DURATION_HINT)
    minutes = int(found[1]) * _MINUTES[found[2]]
    if minutes > _MAX_DURATION_DAYS * MINUTES_PER_DAY:
        raise UsageError(f"the duration {text!r} exceeds {_MAX_DURATION_DAYS:,} days", hint=_DURATION_HINT)
    return minutes


def resolve_range(start: str, end: str, *, now: datetime, settle_minutes: int = 0) -> TimeRange:
    """Resolve two typed times to the window to fetch, which ends at least `settle_minutes` before `now`.

    Raises:
        UsageError: a time is unreadable, or the start is in the future, not before the end, or not settled yet.
    """
    current = floor_minute(now)
    latest = current - settle_minutes
    first = _resolve_start(start, now=now)
    last = _resolve_end(end, now=now)
    if first >= current:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) is in the future; now is {format_minute(current)}",
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
    elif last > latest and not is_relative(end):  # `now` means the last settled minute
        notices = (f"the end {format_minute(last)} has not settled yet; fetching until {format_minute(latest)}",)
    return TimeRange(Window(first, min(last, latest)), last > latest and not is_relative(end), notices)


def resolve_event_range(start: str, end: str, *, late: str, now: datetime) -> TimeRange:
    """Resolve two typed event times to the window of processed time that holds nearly all of these events.

    An event is processed after it happened, so the window reaches from the start until `late` after the end, but not
    beyond `now`. The range of event times itself is not clipped at `now`.

    Raises:
        UsageError: as for `resolve_range`, or `late` is not a duration.
    """
    late_minutes = parse_duration(late)
    event_window = Window(resolve_range(start, end, now=now).window.start, _resolve_end(end, now=now))
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
    return TimeRange(window, until > current and not is_relative(end), tuple(notices), event_window)


def expand_name(name: str, window: Window) -> str:
    """Return a file name with `{start}` and `{end}` filled in: as days if the window is whole days, else as minutes.

    For whole days, `{end}` is the last day inside the window.
    """
    start, end = format_minute(window.start), format_minute(window.end)
    if window.start % MINUTES_PER_DAY == 0 and window.end % MINUTES_PER_DAY == 0:
        start, end = start[:10], format_minute(window.end - 1)[:10]
    else:
        start, end = (text[:16].replace(":", "") + "Z" for text in (start, end))
    return name.replace("{start}", start).replace("{end}", end)


def parse_date(text: str) -> datetime | None:
    """Return midnight UTC of `YYYY-MM-DD` or `DD.MM.YY`, or None if the text has neither form.

    Raises:
        UsageError: the text has one of the forms, but the day does not exist.
    """
    for pattern, directive in _DATE_FORMATS:
        if pattern.fullmatch(text):
            try:
                return datetime.strptime(text, directive).replace(tzinfo=UTC)
            except ValueError as error:
                raise UsageError(f"the date {text!r} does not exist", hint=_FORMATS_HINT) from error
    return None


def _resolve_start(text: str, *, now: datetime) -> int:
    text = text.strip()
    return floor_minute(parse_date(text) or _parse_moment(text, now=now))


def _resolve_end(text: str, *, now: datetime) -> int:
    text = text.strip()
    if is_relative(text):  # both ends of `7d` to `now` are rounded alike
        return floor_minute(_parse_moment(text, now=now))
    day = parse_date(text)
    try:
        if day:
            return floor_minute(day + timedelta(days=1))
        moment = _parse_moment(text, now=now)
        truncated = timedelta(microseconds=1 if _BEYOND_MICROSECONDS.search(text) else 0)
        return floor_minute(moment + truncated + _ALMOST_A_MINUTE)
    except OverflowError as error:
        raise UsageError(f"the time {text!r} is out of range; years end with 9999", hint=_FORMATS_HINT) from error


def _parse_moment(text: str, *, now: datetime) -> datetime:
    if text.lower() == "now":
        return now
    age = _AGE.fullmatch(text.lower())
    try:
        if age:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        if not _TIME.fullmatch(text):
            raise UsageError(f"the time {text!r} is not in a known format", hint=_FORMATS_HINT)
        moment = datetime.fromisoformat(text.upper().replace(",", "."))
        if moment.tzinfo is None:
            raise UsageError(
                f"the time {text!r} has no UTC offset",
                hint="add Z for UTC, or an offset such as +01:00",
            )
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"the time {text!r} does not exist", hint=_FORMATS_HINT) from error
