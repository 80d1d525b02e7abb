"""Time as the emulator counts it: whole minutes and milliseconds since 1970, UTC.

Owns: reading and writing the time formats of the API.
Must not: read a clock, except in `read_clock_seconds`, which is passed as an argument.
"""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

MINUTES_PER_DAY = 1440
MS_PER_MINUTE = 60_000

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
    r"(?:([Zz])|([+-])(\d\d):?(\d\d))"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def read_clock_seconds() -> float:
    """Read the machine's clock, in seconds since 1970."""
    return time.time()


@lru_cache(maxsize=1024)
def parse_instant_ms(text: str) -> int:
    """Read an RFC 3339 time as milliseconds since 1970, finer digits dropped.

    Raises: ValueError when the text is no such time.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        message = f"not an RFC 3339 time: {text!r}"
        raise ValueError(message)
    year, month, day, hour, minute = (int(part) for part in found.groups()[:5])
    second = int(found[6] or 0)
    moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=_read_zone(found))
    extra_ms = 1000 if second == 60 else int((found[7] or "0").ljust(3, "0")[:3])
    return (moment - _EPOCH) // timedelta(milliseconds=1) + extra_ms


def _read_zone(found: re.Match[str]) -> timezone:
    """Turn the zone of a matched RFC 3339 time into an offset."""
    if found[8]:
        return UTC
    offset = timedelta(hours=int(found[10]), minutes=int(found[11]))
    return timezone(offset if found[9] == "+" else -offset)


def format_instant_ms(instant_ms: int) -> str:
    """Write milliseconds since 1970 as the API does: `2025-12-01T08:30:00.000Z`."""
    minute, rest_ms = divmod(instant_ms, MS_PER_MINUTE)
    second, fraction_ms = divmod(rest_ms, 1000)
    return f"{_format_minute_prefix(minute)}:{second:02d}.{fraction_ms:03d}Z"


def format_minute(minute: int) -> str:
    """Write a minute since 1970 as `2025-12-01T08:30:00Z`."""
    return f"{_format_minute_prefix(minute)}:00Z"


@lru_cache(maxsize=1024)
def _format_minute_prefix(minute: int) -> str:
    """Write a minute since 1970 without its seconds."""
    moment = _EPOCH + timedelta(minutes=minute)
    return moment.strftime("%Y-%m-%dT%H:%M").rjust(16, "0")


def format_http_date(second: int) -> str:
    """Write seconds since 1970 as an HTTP date, whatever the locale."""
    minute, rest = divmod(second, 60)
    return f"{_format_http_prefix(minute)}:{rest:02d} GMT"


@lru_cache(maxsize=1024)
def _format_http_prefix(minute: int) -> str:
    """Write a minute since 1970 as an HTTP date without its seconds."""
    moment = _EPOCH + timedelta(minutes=minute)
    weekday, month = _WEEKDAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{weekday}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M}"


@lru_cache(maxsize=256)
def parse_http_date_seconds(text: str) -> int:
    """Read an HTTP date such as `Sun, 08 Dec 2019 03:08:53 GMT`, in seconds since 1970.

    Raises: ValueError when the text is no such date.
    """
    _, _, rest = text.partition(",")
    parts = rest.split()
    if len(parts) != 5 or parts[1] not in _MONTHS or parts[4] not in {"GMT", "UTC", "+0000"}:
        message = f"not an HTTP date: {text!r}"
        raise ValueError(message)
    hour, minute, second = (int(part) for part in parts[3].split(":"))
    month = _MONTHS.index(parts[1]) + 1
    moment = datetime(int(parts[2]), month, int(parts[0]), hour, minute, second, tzinfo=UTC)
    return int((moment - _EPOCH).total_seconds())
