"""The few fields the program reads from an event, and the instant in `eventTime`.

Owns: how an event's time and names are read. Must not: change an event, or know where it came from.

Invariants
- A field of an unexpected type counts as absent; reading never fails on an event that is a JSON object.
- An instant is exact to the nanosecond and the same on every Python version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType

import msgspec

NANOSECONDS = 1_000_000_000
UNREADABLE_INSTANT = 0
"""Stands for a missing or unreadable `eventTime`; sorts before every real instant."""
_DAYS_TO_1970 = date(1970, 1, 1).toordinal()
_FIRST_SECOND = date.min.toordinal() * 86_400
_END_SECOND = (date.max.toordinal() + 1) * 86_400

_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)


class DataFields(msgspec.Struct, gc=False, rename="camel"):
    """What is read from an event's `data`."""

    event_name: str | None = None
    compartment_id: str | None = None


class KeyFields(msgspec.Struct, gc=False, rename="camel"):
    """What is read from an event, in the API's spelling, when every field has its documented type."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: DataFields | None = None


class SdkDataFields(msgspec.Struct, gc=False):
    """`DataFields` in the SDK's spelling."""

    event_name: str | None = None
    compartment_id: str | None = None


class SdkKeyFields(msgspec.Struct, gc=False):
    """`KeyFields` in the SDK's spelling."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: SdkDataFields | None = None


class CliDataFields(msgspec.Struct, gc=False, rename="kebab"):
    """`DataFields` in the CLI's spelling."""

    event_name: str | None = None
    compartment_id: str | None = None


class CliKeyFields(msgspec.Struct, gc=False, rename="kebab"):
    """`KeyFields` in the CLI's spelling."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: CliDataFields | None = None


AnyKeyFields = KeyFields | SdkKeyFields | CliKeyFields
SPELLED_FIELDS: Mapping[str, type[AnyKeyFields]] = MappingProxyType(
    {"api": KeyFields, "sdk": SdkKeyFields, "cli": CliKeyFields}
)
"""Shape -> the struct that reads its spelling."""


def read_loose_fields(event: Mapping[str, object], kind: type[AnyKeyFields] = KeyFields) -> KeyFields:
    """Read the key fields of an event whose fields may be of any type; a wrong type counts as absent."""
    time, identifier, event_type, data = (event.get(name) for name in kind.__struct_encode_fields__)
    inner = data if isinstance(data, Mapping) else {}
    data_kind = {KeyFields: DataFields, SdkKeyFields: SdkDataFields, CliKeyFields: CliDataFields}[kind]
    name, compartment = (inner.get(name) for name in data_kind.__struct_encode_fields__)
    return KeyFields(
        event_time=_text_or_none(time),
        event_id=_text_or_none(identifier),
        event_type=_text_or_none(event_type),
        data=DataFields(event_name=_text_or_none(name), compartment_id=_text_or_none(compartment)),
    )


def read_instant(text: str | None) -> int:
    """Return the nanoseconds from 0001-01-01T00:00Z to an RFC 3339 time, or `UNREADABLE_INSTANT`.

    Digits beyond the nanosecond are cut; a time without an offset is UTC, as Oracle's SDK takes it. A time that
    UTC puts outside the years 1 to 9999 is unreadable: RFC 3339 can write it only with the offset.
    """
    if text is None:
        return UNREADABLE_INSTANT
    if len(text) == 24 and text[16] == ":" and text[19] == "." and text[23] == "Z":
        milliseconds = text[17:19] + text[20:23]
        if milliseconds.isdigit() and milliseconds.isascii():
            minute = _read_minute(text[:16])
            if minute and milliseconds < "60":
                return minute + int(milliseconds) * 1_000_000
    return _read_any_instant(text)


def instant_of_minute(minute: int) -> int:
    """Return the instant at which a minute since 1970-01-01T00:00Z begins."""
    return (_DAYS_TO_1970 * 1440 + minute) * 60 * NANOSECONDS


def minute_of_instant(instant: int) -> int:
    """Return the minute since 1970-01-01T00:00Z that holds an instant."""
    return instant // (60 * NANOSECONDS) - _DAYS_TO_1970 * 1440


def format_instant(instant: int) -> str:
    """Write an instant as RFC 3339 in UTC, with as many digits (three, six or nine) as it needs."""
    seconds, nanoseconds = divmod(instant, NANOSECONDS)
    days, second_of_day = divmod(seconds, 86_400)
    minutes, second = divmod(second_of_day, 60)
    fraction = f".{nanoseconds:09}"
    while fraction.endswith(("000", ".")):
        fraction = fraction[: -3 if fraction.endswith("000") else -1]
    return f"{date.fromordinal(days).isoformat()}T{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction}Z"


def replace_surrogates(text: str) -> str:
    """Write lone surrogates, which valid JSON can hold and no file in UTF-8, as the escapes they came as."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


@lru_cache(maxsize=4096)
def _read_minute(text: str) -> int:
    """Read `YYYY-MM-DDTHH:MM`; neighbouring events share their minute, so this is nearly always cached."""
    return _read_any_instant(text + ":00Z")


def _read_any_instant(text: str) -> int:
    match = _RFC3339.fullmatch(text)
    if match is None:
        return UNREADABLE_INSTANT
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    fraction, sign, offset_hours, offset_minutes = match.groups()[6:]
    if hour > 23 or minute > 59 or second > 60:
        return UNREADABLE_INSTANT
    try:
        days = date(year, month, day).toordinal()
    except ValueError:
        return UNREADABLE_INSTANT
    seconds = ((days * 24 + hour) * 60 + minute) * 60 + second
    if sign:
        if int(offset_hours) > 23 or int(offset_minutes) > 59:
            return UNREADABLE_INSTANT
        offset = (int(offset_hours) * 60 + int(offset_minutes)) * 60
        seconds -= offset if sign == "+" else -offset
    if not _FIRST_SECOND <= seconds < _END_SECOND:
        return UNREADABLE_INSTANT
    return seconds * NANOSECONDS + int((fraction or "0").ljust(9, "0")[:9])
