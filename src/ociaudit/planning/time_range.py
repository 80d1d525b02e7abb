"""Times, durations and ranges as a user types them, resolved to whole UTC minutes.

The current time is an argument; nothing here reads a clock. docs/reference/times-and-scope.md lists every form.

Invariants
- Every accepted text has one meaning. A form that people read in two ways is rejected, with the readings.
- Rounding never loses an event: a start is rounded down and an end up, both to whole minutes. An age and `now` are
  rounded down as either, because they mean the last whole minute.
- A day, week or month is one of UTC. As the end it is included; a time as the end is excluded.
- The end is at most the current minute, minus the time given for events to settle.
"""

from __future__ import annotations

import contextlib
import functools
import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from difflib import get_close_matches
from pathlib import PurePath
from zoneinfo import ZoneInfo, available_timezones

from ociaudit.errors import UsageError
from ociaudit.planning.shard import MINUTES_PER_DAY, Window, floor_minute, format_minute

_FORMATS_HINT = (
    "write a date (2025-12-01 or 01.12.25), yesterday, a month (2025-12), a week (2025-W49 or last week), a time with "
    "its offset or zone (2025-12-01T08:00:00Z, 2025-12-01 09:00 Europe/Berlin), an age (7d, 36h, 90m) or now"
)
_DURATION_HINT = "write whole minutes, hours, days or weeks, such as 15m, 1h, 2d or 1w"
_ZONE_HINT = "write an offset (+01:00), Z for UTC, or a zone's full name (Europe/Berlin)"
_DIGITS_HINT = "8 digits are a date (20251201), 10 are seconds and 13 are milliseconds since 1970"
_MAX_DURATION_DAYS = 3660
_MINUTES = {"w": 7 * MINUTES_PER_DAY, "d": MINUTES_PER_DAY, "h": 60, "m": 1}
_SPANS = (
    re.compile(
        r"(?:(?P<w>\d{1,9}) ?(?:w|weeks?))? ?(?:(?P<d>\d{1,9}) ?(?:d|days?))? ?"
        r"(?:(?P<h>\d{1,9}) ?(?:h|hours?))? ?(?:(?P<m>\d{1,9}) ?(?:m|min|minutes?))?",
        re.ASCII,
    ),
    re.compile(r"p(?:(?P<w>\d{1,9})w)?(?:(?P<d>\d{1,9})d)?(?:t(?:(?P<h>\d{1,9})h)?(?:(?P<m>\d{1,9})m)?)?", re.ASCII),
)
_CALENDAR_SPAN = re.compile(r"p?(\d+) ?(mo|months?|y|years?)( ago)?|p(\d+[ymwd])*(t(\d+[hms])*)?", re.ASCII)
_DAY = (
    r"(?:(?P<year>\d{4})(?P<separator>[-/]?)(?P<month>\d\d)(?P=separator)(?P<day>\d\d)"
    r"|(?P<first_day>\d\d)\.(?P<middle_month>\d\d)\.(?P<last_year>\d{4}|\d\d))"
)
_DATE = re.compile(_DAY, re.ASCII)
_TIME = re.compile(
    _DAY + r"[t ](?P<hour>\d\d)(?P<colon>:?)(?P<minute>\d\d)(?:(?P=colon)(?P<second>\d\d)(?P<fraction>[.,]\d+)?)? ?"
    r"(?P<zone>z|[+-]\d\d(?::?\d\d)?|[a-z][a-z0-9_+-]*(?:/[a-z0-9_+-]+)*)?",
    re.ASCII,
)
_OFFSET = re.compile(r"(?P<sign>[+-])(?P<hours>\d\d):?(?P<minutes>\d\d)?", re.ASCII)
_POSIX_ZONE = re.compile(r"etc/gmt[+-]?\d+", re.ASCII)
_MONTH = re.compile(r"(\d{4})-(\d\d)", re.ASCII)
_WEEK = re.compile(r"(\d{4})-?W(\d\d)", re.ASCII)
_MILLISECOND_DIGITS = 13
_PER_SECOND = {10: 1, _MILLISECOND_DIGITS: 1000}
_ABSOLUTE_HINT = "write a date (2025-12-01), a week (2025-W49) or a time with its zone (2025-12-01T08:00Z)"
_TWO_READINGS = re.compile(r"(\d{1,2})[/-](\d{1,2})[/-](\d{4}|\d\d)(?![\d/-]).*", re.ASCII)
_SCRIPT_DATE = re.compile(r"\d{4}-\d\d-\d\d|\d\d\.\d\d\.\d\d", re.ASCII)
_CALENDAR_WORDS = ("today", "yesterday", "this week", "last week", "this month", "last month")
_MIN_MINUTE = floor_minute(datetime.min.replace(tzinfo=UTC))
_MAX_MINUTE = floor_minute(datetime.max.replace(tzinfo=UTC))
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class TypedTime:
    """The minutes that a text means as the start of a range, included, and as its end, excluded.

    `is_relative`: an age or `now`, whose minutes move with the present.
    """

    as_start: int
    as_end: int
    is_relative: bool = False


def parse_time(text: str, *, now: datetime) -> TypedTime:
    """Parse a time in any of the forms of docs/reference/times-and-scope.md.

    Raises:
        UsageError: the text has another form, means nothing that exists, or could mean two things.
    """
    folded = _fold(text)
    age = _parse_age(folded)
    if age is not None:
        minute = floor_minute(now) - age
        return _check_range(TypedTime(minute, minute, is_relative=True), text)
    period = _parse_period(_resolve_word(folded, now) or folded, text)
    if period:
        return _check_range(TypedTime(_to_minute(period[0]), _to_minute(period[1])), text)
    moment = _parse_epoch(folded) or _parse_moment(folded, text)
    if moment is None:
        raise _explain_unknown(folded, text)
    seconds, has_fraction = moment
    return _check_range(TypedTime(seconds // 60, -(-(seconds + has_fraction) // 60)), text)


def is_relative(text: str) -> bool:
    """Return whether the meaning of a typed time moves with the present: an age, or `now`."""
    return _parse_age(_fold(text)) is not None


def pin_time(text: str, *, now: datetime) -> str:
    """Return the time with a word of the calendar (`yesterday`, `last week`) replaced by the period that it means.

    A request that is kept with the words would mean another day tomorrow. Any other text is returned as it is.
    """
    return _resolve_word(_fold(text), now) or text


def pin_instant(text: str, *, now: datetime) -> str:
    """Return a typed time, which is not an age, as a date or an RFC 3339 time in UTC, to the digit that was typed.

    A day, week or month means its first instant.

    Raises:
        UsageError: the text is an age, or cannot be read as `parse_time` reads it.
    """
    folded = _fold(text)
    if _parse_age(folded) is not None:
        raise UsageError(
            f"{text!r} is an age, which would mean another time in every run", hint=f"{_ABSOLUTE_HINT}, or yesterday"
        )
    if period := _parse_period(_resolve_word(folded, now) or folded, text):
        return date.fromordinal(period[0]).isoformat()
    start = parse_time(text, now=now).as_start
    seconds = (_parse_epoch(folded) or _parse_moment(folded, text) or (60 * start, False))[0]
    found = _TIME.fullmatch(folded)
    fraction = ((found and found["fraction"]) or "").replace(",", ".")
    if folded.isdecimal() and len(folded) == _MILLISECOND_DIGITS:
        fraction = f".{folded[-3:]}"
    return (_EPOCH + seconds * _SECOND).isoformat()[:19] + fraction + "Z"


def parse_duration(text: str, *, option: str = "") -> int:
    """Return the minutes of a duration such as `15m`, `1h`, `2d12h` or `P7D`; an error names the option that has it.

    Raises:
        UsageError: the text has another form (seconds included), or is too long.
    """
    minutes, where = _parse_span(_fold(text)), option and f"{option}: "
    if minutes is None:
        raise UsageError(f"{where}the duration {text!r} is not in a known format", hint=_DURATION_HINT)
    if minutes > _MAX_DURATION_DAYS * MINUTES_PER_DAY:
        raise UsageError(f"{where}the duration {text!r} exceeds {_MAX_DURATION_DAYS:,} days", hint=_DURATION_HINT)
    return minutes


def parse_date(text: str) -> datetime | None:
    """Return midnight UTC of `YYYY-MM-DD` or `DD.MM.YY`, or None if the text has neither form.

    Raises:
        UsageError: the text has one of the forms, but the day does not exist.
    """
    found = _DATE.fullmatch(text) if _SCRIPT_DATE.fullmatch(text) else None
    return datetime.combine(_read_day(found, text), datetime.min.time(), UTC) if found else None


def _fold(text: str) -> str:
    return " ".join(text.split()).lower()


def _check_range(typed: TypedTime, text: str) -> TypedTime:
    if typed.as_start < _MIN_MINUTE:
        raise UsageError(f"the time {text!r} does not exist: years begin with 0001", hint=_FORMATS_HINT)
    if typed.as_end > _MAX_MINUTE:
        raise UsageError(f"the time {text!r} is out of range; years end with 9999", hint=_FORMATS_HINT)
    return typed


def _to_minute(ordinal: int) -> int:
    return (ordinal - _EPOCH_ORDINAL) * MINUTES_PER_DAY


def _parse_age(folded: str) -> int | None:
    """Return the minutes before now that an age means; 0 for `now`, and None for any other text."""
    return 0 if folded == "now" else _parse_span(folded.removesuffix(" ago"))


def _parse_span(folded: str) -> int | None:
    for pattern in _SPANS:
        found = pattern.fullmatch(folded)
        if found and any(found.groups()):
            return sum(int(count) * _MINUTES[unit] for unit, count in found.groupdict(default="0").items())
    return None


def _resolve_word(folded: str, now: datetime) -> str | None:
    """Return the date, week or month that a word of the calendar means, or None if it is not one."""
    today = now.astimezone(UTC).date()
    first, unit = folded.partition(" ")[::2]
    back = first == "last"
    if folded in {"today", "yesterday"}:
        return (today - timedelta(days=folded == "yesterday")).isoformat()
    if folded in {"this week", "last week"}:
        year, week, _ = (today - timedelta(weeks=back)).isocalendar()
        return f"{year:04}-W{week:02}"
    if unit == "month" and first in {"this", "last"}:
        return (today.replace(day=1) - timedelta(days=back)).isoformat()[:7]
    return None


def _parse_period(folded: str, text: str) -> tuple[int, int] | None:
    """Return the ordinals of the first day and of the day after the last, or None if the text is not a period."""
    found = _DATE.fullmatch(folded)
    if found:
        ordinal = _read_day(found, text).toordinal()
        return ordinal, ordinal + 1
    try:
        if found := _MONTH.fullmatch(folded):
            first, days = date(int(found[1]), int(found[2]), 1).toordinal(), monthrange(int(found[1]), int(found[2]))[1]
        elif found := _WEEK.fullmatch(folded.upper()):
            first, days = date.fromisocalendar(int(found[1]), int(found[2]), 1).toordinal(), 7
        else:
            return None
    except ValueError as error:
        raise UsageError(f"the period {text!r} does not exist", hint=_FORMATS_HINT) from error
    return first, first + days


def _read_day(found: re.Match[str], text: str) -> date:
    part = found.groupdict()
    year = _read_year(part["year"] or part["last_year"])
    try:
        return date(year, int(part["month"] or part["middle_month"]), int(part["day"] or part["first_day"]))
    except ValueError as error:
        hint = _DIGITS_HINT if text.strip().isdecimal() else _FORMATS_HINT
        raise UsageError(f"the date {text!r} does not exist", hint=hint) from error


def _read_year(digits: str) -> int:
    """Return a year; one of two digits is between 1969 and 2068, as in POSIX."""
    year = int(digits)
    return year + (0 if len(digits) > 2 else 2000 if year < 69 else 1900)


def _parse_epoch(folded: str) -> tuple[int, bool] | None:
    """Return whole seconds since 1970 and whether there is a fraction more, for 10 or 13 digits."""
    if not (folded.isascii() and folded.isdecimal() and len(folded) in _PER_SECOND):
        return None
    seconds, rest = divmod(int(folded), _PER_SECOND[len(folded)])
    return seconds, bool(rest)


def _parse_moment(folded: str, text: str) -> tuple[int, bool] | None:
    """Return whole seconds since 1970 and whether there is a fraction more, for a date with a time and a zone."""
    found = _TIME.fullmatch(folded)
    if not found:
        return None
    try:
        day = _read_day(found, text)
        local = datetime.combine(day, time(int(found["hour"]), int(found["minute"]), int(found["second"] or 0)), UTC)
        if found["zone"] is None:
            raise UsageError(
                f"the time {text!r} has no UTC offset",
                hint="add Z for UTC, an offset (+01:00) or the full name of a zone (Europe/Berlin)",
            )
        offset = _parse_offset(found["zone"])
    except ValueError as error:
        raise UsageError(f"the time {text!r} does not exist", hint=_FORMATS_HINT) from error
    if offset is None:
        offset = _read_offset(local, _find_zone(found["zone"], text), text)
    seconds = (local - _EPOCH) // _SECOND - offset
    return seconds, bool((found["fraction"] or "").strip(".,0"))


def _parse_offset(zone: str) -> int | None:
    """Return the seconds of an offset from UTC, or None for the name of a zone; raises ValueError for +24:00."""
    if zone in {"z", "utc", "gmt"}:
        return 0
    found = _OFFSET.fullmatch(zone)
    if not found:
        return None
    offset = time(int(found["hours"]), int(found["minutes"] or 0))
    return (offset.hour * 60 + offset.minute) * (-60 if found["sign"] == "-" else 60)


def _find_zone(folded: str, text: str) -> ZoneInfo:
    names = _list_zones()
    if "/" not in folded or _POSIX_ZONE.fullmatch(folded):  # CST is three zones, and Etc/GMT+5 is UTC-5
        raise UsageError(f"the time {text!r} names its zone in an ambiguous form", hint=_ZONE_HINT)
    if folded not in names:
        nearest = get_close_matches(folded, names, n=1)
        hint = f"did you mean {names[nearest[0]]}? {_ZONE_HINT}" if nearest else _ZONE_HINT
        raise UsageError(f"the time {text!r} names an unknown zone", hint=hint)
    return ZoneInfo(names[folded])


@functools.cache
def _list_zones() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()}


def _read_offset(local: datetime, zone: ZoneInfo, text: str) -> int:
    """Return the seconds between a local time and UTC.

    Raises:
        UsageError: clocks show that time twice or never, because they are turned back or forward.
    """
    offsets = [local.replace(tzinfo=zone, fold=fold).utcoffset() or timedelta() for fold in (0, 1)]
    if offsets[0] == offsets[1]:
        return offsets[0] // _SECOND
    written = [local.replace(tzinfo=timezone(offset)).isoformat() for offset in offsets]
    fact = "twice" if offsets[0] > offsets[1] else "never"
    raise UsageError(
        f"clocks in {zone.key} show the time {text!r} {fact}: they change from {written[0][19:]} to {written[1][19:]}",
        hint=f"write the offset: {' or '.join(written)}",
    )


def _explain_unknown(folded: str, text: str) -> UsageError:
    """Return the error for a text in no known form, with the nearest form as its hint."""
    readings = _list_readings(folded)
    if len(readings) > 1:
        return UsageError(f"the date {text!r} can mean {' or '.join(readings)}", hint=f"write {' or '.join(readings)}")
    hint = _FORMATS_HINT
    if readings:
        hint = f"write {readings[0]}"
    elif folded.isdecimal():
        hint = _DIGITS_HINT
    elif _CALENDAR_SPAN.fullmatch(folded):
        hint = "write weeks, days, hours or minutes (30d, 1w, P30D, PT90M); a month or year has no fixed length"
    elif nearest := get_close_matches(folded, ("now", *_CALENDAR_WORDS), n=1, cutoff=0.75):
        hint = f"did you mean {nearest[0]}? {_FORMATS_HINT}"
    return UsageError(f"the time {text!r} is not in a known format", hint=hint)


def _list_readings(folded: str) -> list[str]:
    """Return the dates that a date in an ambiguous form can mean: month first, day first or year first."""
    found = _TWO_READINGS.fullmatch(folded)
    if not found:
        return []
    first, middle, last = found.groups()
    orders = [(last, first, middle), (last, middle, first)] + [(first, middle, last)] * (len(last) == 2)
    readings = []
    for year, month, day in orders:
        with contextlib.suppress(ValueError):
            readings.append(date(_read_year(year), int(month), int(day)).isoformat())
    return sorted(set(readings))


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
    late_minutes = parse_duration(late, option="--late")
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


def reject_placeholders(path: PurePath) -> None:
    """Check that a file name has no placeholder, where nothing would fill it in.

    Raises:
        UsageError: it has.
    """
    found = _PLACEHOLDER.findall(path.name)
    if found:
        raise UsageError(
            f"the file name {path.name} has the placeholder {', '.join(found)}, which only export fills in",
            hint="write the name without braces",
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
