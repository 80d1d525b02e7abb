"""The time range a person typed, as one window of whole UTC minutes.

Owns: every form a time may be typed in, and what happens at the present.
Must not: read a clock; the present is an argument.

Invariants
- Rounding never loses an event: a start is rounded down, an end up, both to whole minutes; an age or `now` as
  end is rounded down, because it means the last whole minute.
- A date as end includes that whole day; a time as end is exclusive.
- The end is at most the current minute, less what is given for events to settle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ociaudit.errors import UsageError
from ociaudit.planning.window import MINUTES_PER_DAY, Window, floor_minute, format_minute

FORMS_HINT = (
    "write a date (2025-12-01 or 01.12.25), a time with its offset (2025-12-01T08:00:00Z), an age (7d, 36h, 90m) or now"
)
_DURATION_HINT = "write whole minutes, hours or days: 15m, 1h, 2d; windows are whole minutes"
_AGE = re.compile(r"(\d{1,9})\s*([dhm])", re.ASCII)
_ALMOST_A_MINUTE = timedelta(minutes=1, microseconds=-1)
_MINUTES = {"d": MINUTES_PER_DAY, "h": 60, "m": 1}
_UNITS = {"d": "days", "h": "hours", "m": "minutes"}
_LONGEST_MINUTES = 3660 * MINUTES_PER_DAY
_DATE_FORMS = (
    (re.compile(r"\d{4}-\d\d-\d\d", re.ASCII), "%Y-%m-%d"),
    (re.compile(r"\d\d\.\d\d\.\d\d", re.ASCII), "%d.%m.%y"),
)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}\d*[1-9]", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d([.,]\d+)?)?([Zz]|[+-]\d\d:?\d\d)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class TimeRange:
    """A resolved range: the window to ask, and what had to be said about it.

    `is_clipped`: the end typed is still to come; the same words will mean a longer window later. `event_window` is the
    range of event times, where the words meant those.
    """

    window: Window
    is_clipped: bool = False
    notices: tuple[str, ...] = ()
    event_window: Window | None = None

    @property
    def named_window(self) -> Window:
        """Return the range that was named."""
        return self.event_window or self.window


def is_relative(text: str) -> bool:
    """Tell whether a typed time means something else tomorrow: an age, or `now`."""
    return text.strip().lower() == "now" or _AGE.fullmatch(text.strip().lower()) is not None


def parse_duration(text: str) -> int:
    """Read a span such as `15m`, `1h` or `2d` and return its minutes.

    Raises:
        UsageError: it has another form; seconds have, too, because windows are whole minutes.
    """
    found = _AGE.fullmatch(text.strip().lower())
    if not found:
        raise UsageError(f"the span {text!r} has no form that oci-audit knows", hint=_DURATION_HINT)
    minutes = int(found[1]) * _MINUTES[found[2]]
    if minutes > _LONGEST_MINUTES:
        raise UsageError(f"the span {text!r} is longer than any range", hint=_DURATION_HINT)
    return minutes


def resolve_range(start: str, end: str, *, now: datetime, settle_minutes: int = 0) -> TimeRange:
    """Turn two typed times into the window to ask, which ends at least `settle_minutes` before now.

    Raises:
        UsageError: a time is unreadable, the start lies in the future or not before the end.
    """
    current = floor_minute(now)
    latest = current - settle_minutes
    first = _resolve_start(start, now=now)
    last = _resolve_end(end, now=now)
    if first >= current:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) lies in the future; now is {format_minute(current)}",
            hint="audit events exist only for the past; choose an earlier --start",
        )
    if first >= last:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) is not before the end {end!r} ({format_minute(last)})",
            hint="exchange them, or choose an end after the start",
        )
    if first >= latest:
        raise UsageError(
            f"the start {start!r} ({format_minute(first)}) lies within the last {settle_minutes} minutes, "
            "which --settle leaves out",
            hint="choose an earlier --start, or a shorter --settle",
        )
    notices: tuple[str, ...] = ()
    if last > current:
        notices = (f"the end {format_minute(last)} lies in the future; asking until {format_minute(latest)}",)
    elif last > latest and not is_relative(end):  # `now` is understood as the last settled minute
        notices = (f"the end {format_minute(last)} has not settled yet; asking until {format_minute(latest)}",)
    return TimeRange(Window(first, min(last, latest)), last > latest and not is_relative(end), notices)


def resolve_event_range(start: str, end: str, *, late: str, now: datetime) -> TimeRange:
    """Turn two typed event times into the window of processed time that has nearly all of these events.

    An event is processed after it happened, so it is asked from the start until `late` after the end, and not beyond
    the present. The range of event times itself is not cut off at the present.

    Raises:
        UsageError: as `resolve_range`, and where `late` is no span of time.
    """
    late_minutes = parse_duration(late)
    event_window = Window(resolve_range(start, end, now=now).window.start, _resolve_end(end, now=now))
    current = floor_minute(now)
    until = event_window.end + late_minutes
    event_class = f"the range is one of event times, {event_window}"
    notices = [f"{event_class}; what was processed until {late} after it is asked, what happened outside it is dropped"]
    if until > current:
        notices.append(
            f"{late} after the end is still to come, so events of the range may be missing; asking until "
            f"{format_minute(current)}"
        )
    window = Window(event_window.start, min(until, current))
    return TimeRange(window, until > current and not is_relative(end), tuple(notices), event_window)


def expand_name(name: str, window: Window) -> str:
    """Replace `{start}` and `{end}` in a file name: days where the window holds whole days, minutes otherwise.

    `{end}` of whole days is the last day inside, as a person would name it.
    """
    start, end = format_minute(window.start), format_minute(window.end)
    if window.start % MINUTES_PER_DAY == 0 and window.end % MINUTES_PER_DAY == 0:
        start, end = start[:10], format_minute(window.end - 1)[:10]
    else:
        start, end = (text[:16].replace(":", "") + "Z" for text in (start, end))
    return name.replace("{start}", start).replace("{end}", end)


def parse_date(text: str) -> datetime | None:
    """Read `YYYY-MM-DD` or `DD.MM.YY` as midnight UTC; None when the text has neither form.

    Raises:
        UsageError: it has the form, and there is no such day.
    """
    for form, directive in _DATE_FORMS:
        if form.fullmatch(text):
            try:
                return datetime.strptime(text, directive).replace(tzinfo=UTC)
            except ValueError as error:
                raise UsageError(f"there is no day {text!r}", hint=FORMS_HINT) from error
    return None


def _resolve_start(text: str, *, now: datetime) -> int:
    text = text.strip()
    return floor_minute(parse_date(text) or _parse_moment(text, now=now))


def _resolve_end(text: str, *, now: datetime) -> int:
    text = text.strip()
    if is_relative(text):  # ages and now are fuzzy anyway; both ends are rounded alike
        return floor_minute(_parse_moment(text, now=now))
    day = parse_date(text)
    try:
        if day:
            return floor_minute(day + timedelta(days=1))
        moment = _parse_moment(text, now=now)
        cut_off = timedelta(microseconds=1 if _BEYOND_MICROSECONDS.search(text) else 0)
        return floor_minute(moment + cut_off + _ALMOST_A_MINUTE)
    except OverflowError as error:
        raise UsageError(f"the time {text!r} is beyond the calendar", hint=FORMS_HINT) from error


def _parse_moment(text: str, *, now: datetime) -> datetime:
    if text.lower() == "now":
        return now
    age = _AGE.fullmatch(text.lower())
    try:
        if age:
            return now - timedelta(**{_UNITS[age[2]]: int(age[1])})
        if not _TIME.fullmatch(text):
            raise UsageError(f"the time {text!r} has no form that oci-audit knows", hint=FORMS_HINT)
        moment = datetime.fromisoformat(text.upper().replace(",", "."))
        if moment.tzinfo is None:
            raise UsageError(
                f"the time {text!r} does not say its offset from UTC",
                hint="add Z for UTC, or an offset such as +01:00",
            )
        return moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"the time {text!r} does not exist", hint=FORMS_HINT) from error
