"""The fields that the program reads from an event: key fields, facts, the outcome, and times as instants.

The key fields (`KeyFields`) identify and order an event. The facts (`Facts`) are the scalar fields behind columns,
filters, summaries and reports: who did what to which resource, from where, and with what outcome. A partial facts
model has only the fields that a caller needs, because reading all of them takes three times as long.

Invariants
- Reading never fails on an event that is a JSON object. A field of an unexpected type counts as absent, except that
  in facts a number is read as its digits, because Oracle writes such fields as text.
- No text of a fact contains a lone surrogate; it is replaced by its escape, so every text can be encoded as UTF-8.
- A field of a partial facts model has the value that it has in `Facts`; other fields do not exist.
- An instant is exact to the nanosecond and the same on every Python version.
- The texts are untrusted: they may be hostile on a terminal, in HTML, in CSV and in SQL.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Literal, NoReturn, TypeGuard, cast

import msgspec

NANOSECONDS = 1_000_000_000
UNREADABLE_INSTANT = 0
"""The instant of a missing or unreadable time; sorts before every real instant."""

Outcome = Literal["success", "failure", "unknown"]

_DAYS_TO_1970 = date(1970, 1, 1).toordinal()
_FIRST_SECOND = date.min.toordinal() * 86_400
_END_SECOND = (date.max.toordinal() + 1) * 86_400
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):?(\d\d))?", re.ASCII
)
_AUDIT_TIMES = re.compile(r"(?:\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z)+", re.ASCII)
_AUDIT_LENGTH = 24
_SECONDS = MappingProxyType({f"{second // 60:02}:{second % 60:02}": second * NANOSECONDS for second in range(3600)})
"""`MM:SS` -> nanoseconds; `_THOUSANDTHS` likewise."""
_THOUSANDTHS = MappingProxyType({f"{number:03}": number * 1_000_000 for number in range(1000)})
_OUTCOME_WORDS: Mapping[str, Outcome] = MappingProxyType({"success": "success", "failure": "failure"})
_SIGN_IN_TYPES = ("IdentitySignOn.", "sso.session.create.", "sso.authentication.")
_FIRST_FAILURE = 400
_MAX_STATUS_DIGITS = 9  # Python refuses to convert a number with thousands of digits

OUTCOME_BY_STATUS: Mapping[str | None, Outcome] = MappingProxyType(
    {str(status): "success" if status < _FIRST_FAILURE else "failure" for status in range(100, 600)}
)
"""HTTP status -> outcome; it decides the outcome of nearly every event."""


class DataFields(msgspec.Struct, gc=False, rename="camel"):
    """The key fields of `data`, in shape `api`."""

    event_name: str | None = None
    compartment_id: str | None = None


class KeyFields(msgspec.Struct, gc=False, rename="camel"):
    """The key fields of an event in shape `api`, each with its documented type."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: DataFields | None = None


class SdkDataFields(msgspec.Struct, gc=False):
    """`DataFields` in shape `sdk`."""

    event_name: str | None = None
    compartment_id: str | None = None


class SdkKeyFields(msgspec.Struct, gc=False):
    """`KeyFields` in shape `sdk`."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: SdkDataFields | None = None


class CliDataFields(msgspec.Struct, gc=False, rename="kebab"):
    """`DataFields` in shape `cli`."""

    event_name: str | None = None
    compartment_id: str | None = None


class CliKeyFields(msgspec.Struct, gc=False, rename="kebab"):
    """`KeyFields` in shape `cli`."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    data: CliDataFields | None = None


AnyKeyFields = KeyFields | SdkKeyFields | CliKeyFields
KEY_FIELDS_BY_SHAPE: Mapping[str, type[AnyKeyFields]] = MappingProxyType(
    {"api": KeyFields, "sdk": SdkKeyFields, "cli": CliKeyFields}
)
"""Shape -> the struct that reads its key fields."""


class Identity(msgspec.Struct, gc=False, rename="camel"):
    """The caller."""

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
    """The API request that the event records."""

    id: str | None = None
    path: str | None = None
    action: str | None = None


class Response(msgspec.Struct, gc=False, rename="camel"):
    """The response to that request."""

    status: str | None = None
    response_time: str | None = None
    message: str | None = None


class Details(msgspec.Struct, gc=False, rename="camel"):
    """The details that an identity domain adds."""

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
    """The facts of one event. The properties return empty models for those that the event does not have."""

    event_time: str | None = None
    event_id: str | None = None
    event_type: str | None = None
    source: str | None = None
    data: Data | None = None

    @property
    def details(self) -> Data:
        """Return `data`, or an empty model."""
        return self.data or _NO_DATA

    @property
    def identity(self) -> Identity:
        """Return `data.identity`, or an empty model."""
        return self.details.identity or _NO_IDENTITY

    @property
    def request(self) -> Request:
        """Return `data.request`, or an empty model."""
        return self.details.request or _NO_REQUEST

    @property
    def response(self) -> Response:
        """Return `data.response`, or an empty model."""
        return self.details.response or _NO_RESPONSE

    @property
    def instant(self) -> int:
        """Return the event time as an instant (see `read_instant`)."""
        return read_instant(self.event_time)

    @property
    def domain_event(self) -> str | None:
        """Return the identity domain's name for the event, for example `sso.session.create.success`."""
        details = self.details.additional_details
        return details.event_id if details else None

    @property
    def outcome(self) -> Outcome:
        """Return the outcome (see `judge_outcome`)."""
        return judge_outcome(self.response.status, self.domain_event, self.details.message)

    @property
    def is_sign_in(self) -> bool:
        """Return whether the event is a sign-in to the console, successful or not."""
        return is_sign_in(self.event_type, self.domain_event)

    @property
    def addresses(self) -> tuple[str, ...]:
        """Return the source addresses; Audit may write several in one field, separated by commas."""
        return split_addresses(self.identity.ip_address)


_NO_DATA = Data()
_NO_IDENTITY = Identity()
_NO_REQUEST = Request()
_NO_RESPONSE = Response()
_facts_decoder = msgspec.json.Decoder(Facts)
_MODEL_BY_PREFIX: Mapping[str, type[msgspec.Struct]] = MappingProxyType(
    {
        "": Facts,
        "data.": Data,
        "data.identity.": Identity,
        "data.request.": Request,
        "data.response.": Response,
        "data.additional_details.": Details,
    }
)
_MODEL_BY_FIELD = {prefix.split(".")[-2]: model for prefix, model in _MODEL_BY_PREFIX.items() if prefix}
_PROPERTIES = {name: value for name, value in vars(Facts).items() if isinstance(value, property)}


def read_facts(raw: bytes) -> Facts:
    """Return the facts of an event in shape `api`.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        return _facts_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return read_facts_leniently(raw)


def read_facts_leniently(raw: bytes) -> Facts:
    """Return the facts of an event with fields of any type and lone surrogates; slower than `read_facts`.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        event = json.loads(raw, parse_int=str, parse_float=str, parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("the event is nested too deeply") from error
    if not isinstance(event, dict):
        raise ValueError("the event is not a JSON object")  # noqa: TRY004 - bad data, not a bad argument
    facts: Facts = _fill(Facts, event)
    return facts


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_sdk_facts(event: Mapping[str, Any]) -> Facts:
    """Return the facts of an event in shape `sdk`, as `oci.util.to_dict` returns it."""
    facts: Facts = _fill(Facts, event, is_sdk=True)
    return facts


def split_addresses(text: str | None) -> tuple[str, ...]:
    """Return the distinct addresses of a comma-separated list, in their order."""
    if not text:
        return ()
    if "," not in text:
        return (text.strip(),)
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def make_facts_reader(needed: Collection[str]) -> Callable[[bytes], Facts]:
    """Return a function like `read_facts` that reads only these fields, named like `data.identity.principal_name`.

    The function raises what `read_facts` raises.
    """
    decode = msgspec.json.Decoder(make_facts_model(needed)).decode

    def read(raw: bytes) -> Facts:
        try:
            return decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return read_facts(raw)

    return read


def make_facts_model(needed: Collection[str]) -> type[Facts]:
    """Return a partial facts model: a struct with these fields of `Facts` and no others."""
    return cast(type[Facts], _make_partial_model("", needed))


def _make_partial_model(prefix: str, needed: Collection[str]) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, None]] = []
    for name in _MODEL_BY_PREFIX[prefix].__struct_fields__:
        path = prefix + name
        if f"{path}." in _MODEL_BY_PREFIX:
            if any(one.startswith(f"{path}.") for one in needed):
                fields.append((name, _make_partial_model(f"{path}.", needed) | None, None))
        elif path in needed:
            fields.append((name, str | None, None))
    return msgspec.defstruct(
        f"Partial{_MODEL_BY_PREFIX[prefix].__name__}",
        fields,
        gc=False,
        rename="camel",
        namespace={} if prefix else _PROPERTIES,
    )


def _fill(kind: type[msgspec.Struct], served: Mapping[str, Any], *, is_sdk: bool = False) -> Any:
    # The additional details are a free map, whose keys are as served in shape `sdk` too.
    served_names = kind.__struct_fields__ if is_sdk and kind is not Details else kind.__struct_encode_fields__
    values: dict[str, Any] = {}
    for name, served_name in zip(kind.__struct_fields__, served_names, strict=True):
        value = served.get(served_name)
        if name in _MODEL_BY_FIELD:
            values[name] = _fill(_MODEL_BY_FIELD[name], value, is_sdk=is_sdk) if isinstance(value, Mapping) else None
        else:
            values[name] = replace_surrogates(value) if isinstance(value, str) else None
    return kind(**values)


def read_key_fields_leniently(event: Mapping[str, object], kind: type[AnyKeyFields] = KeyFields) -> KeyFields:
    """Return the key fields of an event whose fields may have any type; a wrong type counts as absent."""
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


def _text_or_none(value: object) -> str | None:
    return value if isinstance(value, str) else None


def judge_outcome(status: str | None, detail: str | None, message: str | None) -> Outcome:
    """Return the outcome by the first of these that states it.

    They are `response.status`, the suffix of `additionalDetails.eventId` (`detail`), and `data.message`. Sign-ins have
    no status and state their outcome in words. Source: recorded events.
    """
    known = OUTCOME_BY_STATUS.get(status)
    if known is not None:
        return known
    if status and status.isascii() and status.isdigit():
        return "success" if len(status) <= _MAX_STATUS_DIGITS and int(status) < _FIRST_FAILURE else "failure"
    if detail:
        word = _OUTCOME_WORDS.get(detail.rsplit(".", 1)[-1])
        if word is not None:
            return word
    folded = message.casefold() if message else ""
    if "fail" in folded:
        return "failure"
    return "success" if "succe" in folded else "unknown"


def read_status(text: str | None) -> int | None:
    """Return an HTTP status as a number, or None if the text is not one."""
    if text is not None and len(text) <= _MAX_STATUS_DIGITS and text.isascii() and text.isdigit():
        return int(text)
    return None


def is_sign_in(event_type: str | None, detail: str | None) -> bool:
    """Return whether an event is a sign-in to the console, successful or not; `detail` as in `judge_outcome`."""
    return any(kind in text for text in (event_type, detail) if text for kind in _SIGN_IN_TYPES)


def read_instant(text: str | None) -> int:
    """Return the instant of an RFC 3339 time, or `UNREADABLE_INSTANT`.

    An instant is in nanoseconds; 0001-01-01T00:00Z is one day, 86,400 × 10⁹. Digits beyond the nanosecond are
    truncated. A time without an offset is UTC, as in Oracle's SDK. A time outside the years 1 to 9999 in UTC is
    unreadable, because RFC 3339 can write it only with an offset.
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


def read_instants(texts: Sequence[str | None]) -> list[int]:
    """Return what `read_instant` returns for each text; faster for times as Audit writes them."""
    if are_audit_times(texts):
        hours = _Hours()
        instants = [hours[text[:13]] + _SECONDS[text[14:19]] + _THOUSANDTHS[text[20:23]] for text in texts]
        if UNREADABLE_INSTANT not in hours.values():
            return instants
    return list(map(read_instant, texts))


def are_audit_times(texts: Sequence[str | None]) -> TypeGuard[Sequence[str]]:
    """Return whether all texts have the form of times as Audit writes them; their days need not exist."""
    if set(map(type, texts)) != {str}:
        return False
    times = cast(Sequence[str], texts)
    return set(map(len, times)) == {_AUDIT_LENGTH} and _AUDIT_TIMES.fullmatch("".join(times)) is not None


class _Hours(dict[str, int]):
    """`YYYY-MM-DDTHH` -> the instant at which the hour begins, or `UNREADABLE_INSTANT`."""

    def __missing__(self, hour: str) -> int:
        instant = self[hour] = _read_minute(f"{hour}:00")
        return instant


@lru_cache(maxsize=1024)
def is_day(text: str) -> bool:
    """Return whether `YYYY-MM-DD` is a day that exists; cached, because adjacent events share their day."""
    return read_instant(f"{text}T00:00:00.001Z") != UNREADABLE_INSTANT


def instant_of_minute(minute: int) -> int:
    """Return the instant at which a minute since 1970-01-01T00:00Z begins."""
    return (_DAYS_TO_1970 * 1440 + minute) * 60 * NANOSECONDS


def minute_of_instant(instant: int) -> int:
    """Return the minute since 1970-01-01T00:00Z that contains an instant."""
    return instant // (60 * NANOSECONDS) - _DAYS_TO_1970 * 1440


def format_instant(instant: int) -> str:
    """Return an instant as RFC 3339 in UTC, with as many fractional digits as it needs: none, three, six or nine."""
    seconds, nanoseconds = divmod(instant, NANOSECONDS)
    days, second_of_day = divmod(seconds, 86_400)
    minutes, second = divmod(second_of_day, 60)
    fraction = f".{nanoseconds:09}"
    while fraction.endswith(("000", ".")):
        fraction = fraction[: -3 if fraction.endswith("000") else -1]
    return f"{date.fromordinal(days).isoformat()}T{minutes // 60:02}:{minutes % 60:02}:{second:02}{fraction}Z"


@lru_cache(maxsize=4096)
def _read_minute(text: str) -> int:
    """Return the instant of `YYYY-MM-DDTHH:MM`; adjacent events share their minute, so it is often cached."""
    hour, minute = text[11:13], text[14:16]
    is_ordinary = text[10] == "T" and text[13] == ":" and (hour + minute).isdigit() and text.isascii()
    if not is_ordinary or hour > "23" or minute > "59":
        return UNREADABLE_INSTANT
    day = _read_day(text[:10])
    return day + (int(hour) * 60 + int(minute)) * 60 * NANOSECONDS if day else UNREADABLE_INSTANT


@lru_cache(maxsize=1024)
def _read_day(text: str) -> int:
    """Return the instant at which `YYYY-MM-DD` begins."""
    return _read_any_instant(text + "T00:00:00Z")


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


def replace_surrogates(text: str) -> str:
    """Return a text with lone surrogates, which JSON allows and UTF-8 does not, replaced by their escapes."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()
