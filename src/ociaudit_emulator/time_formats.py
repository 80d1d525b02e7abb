"""The time formats of the API and of HTTP, as minutes, seconds and milliseconds since 1970, UTC."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

MINUTES_PER_DAY = 1440
MS_PER_MINUTE = 60_000
MS_PER_DAY = MINUTES_PER_DAY * MS_PER_MINUTE

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d?\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?"
    r"(?:([Zz])|([+-])(\d\d):?(\d\d))"
)
"""RFC 3339, and an hour of one digit: Oracle's TypeScript SDK sends `T0:00:00Z`."""
_SPAN = re.compile(r"(-?)((?:\d+[dhms])+)")
_UNIT_MS = {"d": MS_PER_DAY, "h": 3_600_000, "m": MS_PER_MINUTE, "s": 1000}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def read_clock_seconds() -> float:
    """Return the time of the machine's clock in seconds since 1970."""
    return time.time()


@lru_cache(maxsize=1024)
def parse_time_ms(text: str) -> int:
    """Return an RFC 3339 time as milliseconds since 1970; finer digits are dropped.

    Raises: ValueError.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        message = f"not an RFC 3339 time: {text!r}"
        raise ValueError(message)
    year, month, day, hour, minute = (int(part) for part in found.groups()[:5])
    second = int(found[6] or 0)
    moment = datetime(year, month, day, hour, minute, min(second, 59), tzinfo=_parse_offset(found))
    extra_ms = 1000 if second == 60 else int((found[7] or "0").ljust(3, "0")[:3])
    return (moment - _EPOCH) // timedelta(milliseconds=1) + extra_ms


def parse_span_ms(text: str) -> int:
    """Return a span such as `3h`, `1d12h` or `-90s` in milliseconds.

    Raises: ValueError.
    """
    found = _SPAN.fullmatch(text)
    if found is None:
        message = f"not a span: {text!r}"
        raise ValueError(message)
    total = sum(int(number) * _UNIT_MS[unit] for number, unit in re.findall(r"(\d+)([dhms])", found[2]))
    return -total if found[1] else total


def _parse_offset(found: re.Match[str]) -> timezone:
    """Return the UTC offset of a matched RFC 3339 time."""
    if found[8]:
        return UTC
    offset = timedelta(hours=int(found[10]), minutes=int(found[11]))
    return timezone(offset if found[9] == "+" else -offset)


def format_time_ms(time_ms: int) -> str:
    """Return milliseconds since 1970 in the API's format: `2025-12-01T08:30:00.000Z`."""
    minute, rest_ms = divmod(time_ms, MS_PER_MINUTE)
    second, fraction_ms = divmod(rest_ms, 1000)
    return f"{_format_minute_prefix(minute)}:{second:02d}.{fraction_ms:03d}Z"


def format_minute(minute: int) -> str:
    """Return a minute since 1970 in the format `2025-12-01T08:30:00Z`."""
    return f"{_format_minute_prefix(minute)}:00Z"


@lru_cache(maxsize=1024)
def _format_minute_prefix(minute: int) -> str:
    moment = _EPOCH + timedelta(minutes=minute)
    return moment.strftime("%Y-%m-%dT%H:%M").rjust(16, "0")


def format_http_date(second: int) -> str:
    """Return seconds since 1970 as an HTTP date (RFC 9110), whatever the locale."""
    minute, rest = divmod(second, 60)
    return f"{_format_http_prefix(minute)}:{rest:02d} GMT"


@lru_cache(maxsize=1024)
def _format_http_prefix(minute: int) -> str:
    moment = _EPOCH + timedelta(minutes=minute)
    weekday, month = _WEEKDAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{weekday}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M}"


@lru_cache(maxsize=256)
def parse_http_date_seconds(text: str) -> int:
    """Return an HTTP date such as `Sun, 08 Dec 2019 03:08:53 GMT` as seconds since 1970.

    Raises: ValueError.
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
