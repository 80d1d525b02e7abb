"""The few fields the program reads from an event, and the instant in `eventTime`.

Owns: how an event's time and names are read. Must not: change an event, or know where it came from.

Invariants
- A field of an unexpected type counts as absent; reading never fails on an event that is a JSON object.
- An instant is exact to the nanosecond and the same on every Python version.

Whether what an event tells of succeeded.

Owns: that decision, from the three places in which Audit may state it. Pure.
Source: recorded events; sign-ins have no status and tell their outcome in words.

What people ask about an event: who did what to what, from where, and how it ended.

Owns: the scalar fields of an event behind columns, filters, summaries and reports, read in one pass.
Must not: know any of those, or change an event.

Invariants
- Reading never fails on an event that is a JSON object; a field of an unexpected type counts as absent,
  except that a number is read as its digits where Oracle writes text.
- No text holds a lone surrogate: it stands as the escape it came as, so every text can be encoded.
- The strings are the events' own: hostile on a screen, in HTML, in CSV and in SQL.

Facts of an event with no more fields than somebody needs, because reading all of them takes three times as long.

Owns: such readers. Must not: read any field otherwise than `events.facts` does.

Invariant: what a slim reader's answer has, `read_facts` would have as well; whatever was not named is not there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, cast

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
KEY_FIELDS_BY_SHAPE: Mapping[str, type[AnyKeyFields]] = MappingProxyType(
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


Outcome = Literal["success", "failure", "unknown"]

_WORDS: Mapping[str, Outcome] = MappingProxyType({"success": "success", "failure": "failure"})
_SIGN_IN_TYPES = ("IdentitySignOn.", "sso.session.create.", "sso.authentication.")
_FIRST_FAILURE = 400
_LONGEST_STATUS = 9  # Python refuses to read numbers of thousands of digits
OUTCOME_BY_STATUS: Mapping[str | None, Outcome] = MappingProxyType(
    {str(status): "success" if status < _FIRST_FAILURE else "failure" for status in range(100, 600)}
)
"""What the statuses of HTTP tell by themselves: so it is for nearly every event."""


def judge_outcome(status: str | None, detail: str | None, message: str | None) -> Outcome:
    """Judge by `response.status`, else by the suffix of `additionalDetails.eventId`, else by `data.message`."""
    known = OUTCOME_BY_STATUS.get(status)
    if known is not None:
        return known
    if status and status.isascii() and status.isdigit():
        return "success" if len(status) <= _LONGEST_STATUS and int(status) < _FIRST_FAILURE else "failure"
    if detail:
        word = _WORDS.get(detail.rsplit(".", 1)[-1])
        if word is not None:
            return word
    folded = message.casefold() if message else ""
    if "fail" in folded:
        return "failure"
    return "success" if "succe" in folded else "unknown"


def is_sign_in(event_type: str | None, detail: str | None) -> bool:
    """Tell whether an event is somebody signing in to the console, or trying to; `detail` as in `judge_outcome`."""
    return any(kind in text for text in (event_type, detail) if text for kind in _SIGN_IN_TYPES)


class Identity(msgspec.Struct, gc=False, rename="camel"):
    """Who asked."""

    principal_name: str | None = None
    principal_id: str | None = None
    auth_type: str | None = None
    caller_name: str | None = None
    caller_id: str | None = None
    tenant_id: str | None = None
    ip_address: str | None = None
    user_agent: str | None = None
    console_session_id: str | None = None


class Request(msgspec.Struct, gc=False, rename="camel"):
    """What was asked."""

    id: str | None = None
    path: str | None = None
    action: str | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """What was answered."""

    status: str | None = None
    response_time: str | None = None
    message: str | None = None


class Details(msgspec.Struct, gc=False, rename="camel"):
    """What an identity domain adds."""

    event_id: str | None = None


class Data(msgspec.Struct, gc=False, rename="camel"):
    """The event's `data`."""

    event_grouping_id: str | None = None
    event_name: str | None = None
    compartment_id: str | None = None
    compartment_name: str | None = None
    resource_name: str | None = None
    resource_id: str | None = None
    availability_domain: str | None = None
    message: str | None = None
    identity: Identity | None = None
    request: Request | None = None
    response: Response | None = None
    additional_details: Details | None = None


class Facts(msgspec.Struct, gc=False, rename="camel"):
    """One event as people ask about it; every model may be absent, `data` never is."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    source: str | None = None
    data: Data | None = None

    @property
    def details(self) -> Data:
        """Return `data`, empty where the event has none."""
        return self.data or _NO_DATA

    @property
    def identity(self) -> Identity:
        """Return who asked, empty where the event does not say."""
        return self.details.identity or _NO_IDENTITY

    @property
    def request(self) -> Request:
        """Return what was asked, empty where the event does not say."""
        return self.details.request or _NO_REQUEST

    @property
    def response(self) -> Response:
        """Return what was answered, empty where the event does not say."""
        return self.details.response or _NO_RESPONSE

    @property
    def instant(self) -> int:
        """Return the event's time in nanoseconds, as `events.fields.read_instant` counts them."""
        return read_instant(self.event_time)

    @property
    def domain_event(self) -> str | None:
        """Return the identity domain's own name of the event, for example `sso.session.create.success`."""
        details = self.details.additional_details
        return details.event_id if details else None

    @property
    def outcome(self) -> Outcome:
        """Return whether it succeeded, as far as the event tells."""
        return judge_outcome(self.response.status, self.domain_event, self.details.message)

    @property
    def is_sign_in(self) -> bool:
        """Tell whether it is somebody signing in to the console, or trying to."""
        return is_sign_in(self.event_type, self.domain_event)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the source addresses: Audit may write several into one field, with commas."""
        return split_addresses(self.identity.ip_address)


_NO_DATA = Data()
_NO_IDENTITY = Identity()
_NO_REQUEST = Request()
_NO_RESPONSE = Response()
_facts_decoder = msgspec.json.Decoder(Facts)


def read_facts(raw: bytes) -> Facts:
    """Read an event: a JSON object in the API's spelling.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        return _facts_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return read_loose_facts(raw)


def read_loose_facts(raw: bytes) -> Facts:
    """Read an event with fields of any type, lone surrogates included; slower than `read_facts`.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        event = json.loads(raw, parse_int=str, parse_float=str)
    except RecursionError as error:
        raise ValueError("nested too deeply to be read") from error
    if not isinstance(event, dict):
        raise ValueError("this is not a JSON object")  # noqa: TRY004 - bad data, not a bad argument
    facts: Facts = _fill(Facts, event)
    return facts


def read_sdk_facts(event: Mapping[str, Any]) -> Facts:
    """Read an event in the SDK's spelling, as `oci.util.to_dict` gives it."""
    facts: Facts = _fill(Facts, event, is_sdk=True)
    return facts


def split_addresses(text: str | None) -> tuple[str, ...]:
    """Return the addresses of a comma list, in its order."""
    if not text:
        return ()
    if "," not in text:
        return (text.strip(),)
    return tuple(part.strip() for part in text.split(",") if part.strip())


_MODELS: Mapping[str, type[msgspec.Struct]] = {
    "data": Data,
    "identity": Identity,
    "request": Request,
    "response": Response,
    "additional_details": Details,
}


def _fill(kind: type[msgspec.Struct], served: Mapping[str, Any], *, is_sdk: bool = False) -> Any:
    # In the SDK's spelling the keys of free maps, as the additional details are, stay as served.
    spellings = kind.__struct_fields__ if is_sdk and kind is not Details else kind.__struct_encode_fields__
    values: dict[str, Any] = {}
    for name, spelled in zip(kind.__struct_fields__, spellings, strict=True):
        value = served.get(spelled)
        if name in _MODELS:
            values[name] = _fill(_MODELS[name], value, is_sdk=is_sdk) if isinstance(value, Mapping) else None
        else:
            values[name] = replace_surrogates(value) if isinstance(value, str) else None
    return kind(**values)


_SLIM_MODELS: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        "": Facts,
        "data.": Data,
        "data.identity.": Identity,
        "data.request.": Request,
        "data.response.": Response,
        "data.additional_details.": Details,
    }
)
_PROPERTIES = {name: value for name, value in vars(Facts).items() if isinstance(value, property)}


def make_reader(needed: Collection[str]) -> Callable[[bytes], Facts]:
    """Return a function like `read_facts` for these fields, named like `data.identity.principal_name`.

    Raises: what `read_facts` raises, when it is called.
    """
    decode = msgspec.json.Decoder(make_model(needed)).decode

    def read(raw: bytes) -> Facts:
        try:
            return decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return read_facts(raw)

    return read


def make_model(needed: Collection[str]) -> type[Facts]:
    """Return a struct with these fields of `Facts` and no others."""
    return cast(type[Facts], _make_model("", needed))


def _make_model(prefix: str, needed: Collection[str]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, None]] = []
    for name in _SLIM_MODELS[prefix].__struct_fields__:
        path = prefix + name
        if f"{path}." in _SLIM_MODELS:
            if any(one.startswith(f"{path}.") for one in needed):
                fields.append((name, _make_model(f"{path}.", needed) | None, None))
        elif path in needed:
            fields.append((name, str | None, None))
    return msgspec.defstruct(
        f"Slim{_SLIM_MODELS[prefix].__name__}",
        fields,
        gc=False,
        rename="camel",
        namespace={} if prefix else _PROPERTIES,
    )
