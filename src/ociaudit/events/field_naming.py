"""Field naming: the shapes `api`, `sdk` and `cli` of an event, and conversion between them and from CloudEvents.

Shape `api` is the event as served, `sdk` names fields as Oracle's Python SDK does (`event_type`), and `cli` as Oracle's
CLI does (`event-type`). Input may also be a CloudEvents 1.0 event, as Logging Search and Connector Hub write it
(`type`). The table `SDK_FIELDS` has the fields that the SDK knows. It is a copy, because importing the SDK is slow; a
contract test compares it with the SDK.

Invariants of the conversion to `sdk` and `cli`
- No field is lost, and no value is decoded and encoded again.
- Every model has every field that the SDK knows, in the SDK's order, null if absent. An absent or null model is null.
- Fields that the SDK does not know follow under their served names, sorted. If such a name equals a converted name of
  the model, underscores are appended until it is unique: a served `event_type` becomes `event_type_`.
- A time is written as Python's `isoformat` does; without an offset it is UTC, as in the SDK. A time that is not RFC
  3339, does not exist, is finer than microseconds or contains JSON escapes stays as served.
- Every other value keeps its bytes: free maps with their keys (the SDK would rename `_self`), the digits of numbers,
  lone surrogates as escapes, and values of an unexpected type, which the SDK rejects or distorts.
- If a model's object has a key twice, the last value counts, as in every common JSON reader.

Invariants of the conversion to `api`
- Only names of fields that the SDK knows change, and only in its models. The keys of free maps, all values and the
  order of fields stay. A time stays as it is.
- A name is not converted if the object already has the converted name, so no field hides another.
- White space around the members of a model is removed; white space within values stays.

An event with known fields of known types is converted in one pass of msgspec. Any other event takes the lenient path,
which splits one object after another, accepts anything and takes twice the time. Both write the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from ociaudit.events.fields import NANOSECONDS, instant_of_minute, read_instant

Shape = Literal["api", "sdk", "cli"]
SHAPES: tuple[Shape, ...] = get_args(Shape)

FieldNaming = Literal["api", "sdk", "cli", "cloudevents"]
"""The shapes, and the other naming that input may have."""

Converter = Callable[[bytes], bytes]
"""Takes and returns an event as one line of JSON."""

ToApiShape = Callable[[Mapping[str, bytes]], bytes]
"""Takes the members of an event, as `split_members` returns them."""

TIME_TYPE = "datetime"
"""The SDK's type for RFC 3339 times."""

EVENT_MODEL = "AuditEvent"
"""The model of a whole event."""

SDK_FIELDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        EVENT_MODEL: {
            "eventType": "str",
            "cloudEventsVersion": "str",
            "eventTypeVersion": "str",
            "source": "str",
            "eventId": "str",
            "eventTime": TIME_TYPE,
            "contentType": "str",
            "data": "Data",
        },
        "Data": {
            "eventGroupingId": "str",
            "eventName": "str",
            "compartmentId": "str",
            "compartmentName": "str",
            "resourceName": "str",
            "resourceId": "str",
            "availabilityDomain": "str",
            "freeformTags": "dict(str, str)",
            "definedTags": "dict(str, dict(str, object))",
            "identity": "Identity",
            "request": "Request",
            "response": "Response",
            "stateChange": "StateChange",
            "additionalDetails": "dict(str, object)",
        },
        "Identity": {
            "principalName": "str",
            "principalId": "str",
            "authType": "str",
            "callerName": "str",
            "callerId": "str",
            "tenantId": "str",
            "ipAddress": "str",
            "credentials": "str",
            "userAgent": "str",
            "consoleSessionId": "str",
        },
        "Request": {
            "id": "str",
            "path": "str",
            "action": "str",
            "parameters": "dict(str, list[str])",
            "headers": "dict(str, list[str])",
        },
        "Response": {
            "status": "str",
            "responseTime": TIME_TYPE,
            "headers": "dict(str, list[str])",
            "payload": "dict(str, object)",
            "message": "str",
        },
        "StateChange": {
            "previous": "dict(str, object)",
            "current": "dict(str, object)",
        },
    }
)
"""Model -> field as served -> the SDK's type, in the SDK's order.

A type that is a key of this table is a model; every other type is a value or a free map. Source: `attribute_map` and
`swagger_types` of the models in `oci.audit.models`.
"""

EXTRA_FIELDS: Mapping[str, tuple[str, ...]] = MappingProxyType({"Data": ("internalDetails", "message")})
"""Model -> fields that Audit writes and the SDK does not know, sorted; listing them here only saves time."""

_CLOUD_EVENT_NAMES = MappingProxyType(
    {
        "type": "eventType",
        "specversion": "cloudEventsVersion",
        "dataschema": "eventTypeVersion",
        "id": "eventId",
        "time": "eventTime",
        "datacontenttype": "contentType",
        "source": "source",
        "data": "data",
        "oracle": "oracle",
    }
)
"""CloudEvents 1.0 name -> Audit's name, which follows an early draft of CloudEvents."""

_MILLISECOND = NANOSECONDS // 1000
_MAX_DIGITS = 18
_NULL = b"null"
_ABSENT = b""
_CAPITAL = re.compile("[A-Z]")
_TIME = re.compile(
    rb'"(\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6}0*)?)'
    rb'(?:[Zz]|([+-](?:[01]\d|2[0-3])):?([0-5]\d))?"'
)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\],]")
_MEMBER = re.compile(rb"\s*(" + _STRING + rb")\s*:(.*)", re.DOTALL)

_members_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, msgspec.Raw])
_elements_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(list[msgspec.Raw])
_IDENTIFYING_FIELDS = ("eventType", "eventId", "eventTime", "cloudEventsVersion", "eventTypeVersion")


def choose_shape(shape: Shape) -> Converter:
    """Return the function that converts an event from shape `api` to `shape`.

    It expects valid JSON, as in `Event.raw`, and does not validate it again.
    """
    return _CONVERTERS[shape]


def detect_naming(members: Mapping[str, bytes]) -> FieldNaming | None:
    """Return the field naming of an event, or None if the object has no name that identifies one.

    If an object has names of several shapes, `api` wins over `sdk`, and `sdk` over `cli`.
    """
    for naming, names in _IDENTIFYING_NAMES_BY_SHAPE.items():
        if not names.isdisjoint(members):
            return naming
    if "type" in members and ("specversion" in members or ("data" in members and "time" in members)):
        return "cloudevents"
    return None


def split_members(raw: bytes) -> dict[str, bytes]:
    """Return the members of an object that is known to be valid JSON, each value byte for byte.

    A value may be a `msgspec.Raw`, which keeps the whole object in memory. Of a repeated name the last value counts.
    """
    try:
        members: dict[str, bytes] = _members_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):  # a lone surrogate, or very deep nesting
        return _split_by_tokens(raw)
    return members


def unwrap_log(wrapper: Mapping[str, bytes]) -> dict[str, bytes] | None:
    """Return the members of the event in a wrapper with `logContent`, followed by the wrapper's own; None without one.

    A `datetime` that is the event's own time in milliseconds is left out. A member whose name the event has gets
    underscores until its name is free.
    """
    others = dict(wrapper)
    text = bytes(others.pop("logContent", b""))
    content = split_members(text) if text.startswith(b"{") else {}
    if not content:
        return None
    if _is_same_time(others.get("datetime"), content.get("time")):
        del others["datetime"]
    for name, value in others.items():
        while name in content:
            name += "_"  # noqa: PLW2901 - the wrapper's members must not hide those of the event
        content[name] = value
    return content


def _is_same_time(milliseconds: bytes | None, time: bytes | None) -> bool:
    digits = bytes(milliseconds or b"")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return False
    try:
        text = msgspec.json.decode(time or b"null", type=str)
    except msgspec.MsgspecError:
        return False
    instant = instant_of_minute(0) + int(digits) * _MILLISECOND
    return read_instant(text) // _MILLISECOND == instant // _MILLISECOND


def write_name(name: str) -> bytes:
    """Return a member's name as JSON; a lone surrogate is written as its escape."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return b'"%b"' % name.encode()
    return json.dumps(name).encode()


class _ModelWriter:
    """Converts the objects of one model to one shape."""

    def __init__(self, model: str, separator: str) -> None:
        fields = SDK_FIELDS[model]
        extra = EXTRA_FIELDS.get(model, ())
        names = [_convert_name(name, separator) for name in fields]
        self._fields = tuple(fields)
        self._names = frozenset(names)
        self._known = b"{" + b",".join(b'"%b":%%b' % name.encode() for name in names)
        self._whole = self._known + b"%b" * len(extra) + b"}"
        self._times = [index for index, kind in enumerate(fields.values()) if kind == TIME_TYPE]
        self._models = [
            (index, _ModelWriter(kind, separator)) for index, kind in enumerate(fields.values()) if kind in SDK_FIELDS
        ]
        self._extra = [(index, b',"%b":%%b' % name.encode()) for index, name in enumerate(extra, len(fields))]

    def write_quickly(self, served: msgspec.Struct | None) -> bytes:
        """Return the converted object, which has no other fields than its struct."""
        if served is None:
            return _NULL
        values: list[Any] = list(msgspec.structs.astuple(served))
        for index in self._times:
            values[index] = _convert_time(values[index])
        for index, writer in self._models:
            values[index] = writer.write_quickly(values[index])
        for index, member in self._extra:
            if values[index] is not _ABSENT:
                values[index] = member % values[index]
        return self._whole % tuple(values)

    def write_leniently(self, value: bytes) -> bytes:
        """Return the converted object; null and values of other types are returned as they are."""
        value = bytes(value).strip()  # a msgspec.Raw lacks the methods of bytes
        if not value.startswith(b"{"):
            return value
        members = split_members(value)
        values = [members.pop(name, _NULL) for name in self._fields]
        for index in self._times:
            values[index] = _convert_time(values[index])
        for index, writer in self._models:
            values[index] = writer.write_leniently(values[index])
        unknown = [b",%b:%b" % (self._write_unknown_name(name, members), members[name]) for name in sorted(members)]
        return self._known % tuple(values) + b"".join(unknown) + b"}"

    def _write_unknown_name(self, name: str, unknown: dict[str, bytes]) -> bytes:
        """Return the name of a field that the SDK does not know as JSON, changed only if it would hide another."""
        if name in self._names:
            while name in self._names or name in unknown:
                name += "_"
        return json.dumps(name).encode()  # in ASCII, so that a lone surrogate is written as its escape


def _make_struct(model: str) -> Any:
    """Return the struct that the fast path decodes a model into."""
    known = [
        (name, _make_struct(kind) | None, None) if kind in SDK_FIELDS else (name, msgspec.Raw, _NULL)
        for name, kind in SDK_FIELDS[model].items()
    ]
    extra = [(name, msgspec.Raw, _ABSENT) for name in EXTRA_FIELDS.get(model, ())]
    return msgspec.defstruct(model, [*known, *extra], forbid_unknown_fields=True, gc=False)


_event_decoder = msgspec.json.Decoder(_make_struct(EVENT_MODEL))


def _make_converter(separator: str) -> Converter:
    writer = _ModelWriter(EVENT_MODEL, separator)

    def convert(raw: bytes) -> bytes:
        try:
            served = _event_decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return writer.write_leniently(raw)
        return writer.write_quickly(served)

    return convert


class _ModelReader:
    """Converts the objects of one model to shape `api`."""

    def __init__(self, names: Mapping[str, str], models: Mapping[str, _ModelReader]) -> None:
        """Store the mappings from foreign name to API name, and from foreign name to the reader of that model."""
        self._heads = {name: b'"%b":' % new.encode() for name, new in names.items()}
        self._new_names = frozenset(new for name, new in names.items() if new != name)
        self._models = models

    def to_api_shape(self, members: Mapping[str, bytes]) -> bytes:
        """Return an object of the model with the API's names."""
        heads = self._heads if self._new_names.isdisjoint(members) else self._choose_heads(members)
        models = self._models
        return b"{%b}" % b",".join(
            [
                b"%b%b"
                % (
                    heads.get(name) or b"%b:" % write_name(name),
                    models[name].convert_value(value) if name in models else value,
                )
                for name, value in members.items()
            ]
        )

    def _choose_heads(self, members: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the renamed heads without those whose new name the object already has."""
        taken = {b'"%b":' % name.encode() for name in self._new_names.intersection(members)}
        return {name: head for name, head in self._heads.items() if head not in taken}

    def convert_value(self, value: bytes) -> bytes:
        """Return a converted model; a value that is not an object is returned as it is."""
        value = bytes(value)  # a msgspec.Raw lacks the methods of bytes
        return self.to_api_shape(split_members(value)) if value.startswith(b"{") else value


def _make_reader(model: str, separator: str) -> _ModelReader:
    names: dict[str, str] = {}
    models: dict[str, _ModelReader] = {}
    for name, kind in SDK_FIELDS[model].items():
        foreign = _convert_name(name, separator)
        names[foreign] = name
        if kind in SDK_FIELDS:
            models[foreign] = _make_reader(kind, separator)
    return _ModelReader(MappingProxyType(names), MappingProxyType(models))


def _convert_name(name: str, separator: str) -> str:
    """Return an API name with its words in lower case, joined by `separator`."""
    return _CAPITAL.sub(lambda capital: separator + capital[0].lower(), name)


def _convert_time(value: bytes) -> bytes:
    """Return a time as the SDK's `to_dict` writes it, if that loses no part of it."""
    match = _TIME.fullmatch(value)
    if match is None:
        return value
    text, hours, minutes = match.groups()
    try:
        time = datetime.fromisoformat(text.decode()).isoformat().encode()  # an offset would slow down both calls
    except ValueError:
        return value
    if hours is None or hours + minutes == b"-0000":
        return b'"%b+00:00"' % time
    return b'"%b%b:%b"' % (time, hours, minutes)


def _split_by_tokens(raw: bytes) -> dict[str, bytes]:
    return dict(list_members(raw))


def list_members(raw: bytes) -> list[tuple[str, bytes]]:
    """Return all members of an object that is known to be valid JSON, in order, repeated names included.

    They are found by strings, brackets and commas alone.
    """
    members: list[tuple[str, bytes]] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if depth == 1 and mark in {b",", b"}"}:
            member = _MEMBER.fullmatch(raw, start, token.start())
            if member is not None:  # an empty object has none
                members.append((json.loads(member[1]), member[2].strip()))
        if mark in {b"{", b"["}:
            depth += 1
        elif mark in {b"}", b"]"}:
            depth -= 1
        if depth == 1 and mark in {b"{", b","}:
            start = token.end()
    return members


def list_elements(raw: bytes) -> list[bytes]:
    """Return the elements of an array that is known to be valid JSON, each byte for byte."""
    try:
        return list(map(bytes, _elements_decoder.decode(raw)))
    except (msgspec.MsgspecError, RecursionError):  # a lone surrogate, or very deep nesting
        pass
    elements: list[bytes] = []
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if depth == 1 and mark in {b",", b"]"} and (element := raw[start : token.start()].strip()):
            elements.append(element)
        if mark in {b"{", b"["}:
            depth += 1
        elif mark in {b"}", b"]"}:
            depth -= 1
        if depth == 1 and mark in {b"[", b","} and (mark == b"," or start == 0):
            start = token.end()
    return elements


def _keep_served(raw: bytes) -> bytes:
    return raw


_CONVERTERS = MappingProxyType({"api": _keep_served, "sdk": _make_converter("_"), "cli": _make_converter("-")})

TO_API_SHAPE: Mapping[FieldNaming, ToApiShape] = MappingProxyType(
    {
        "sdk": _make_reader(EVENT_MODEL, "_").to_api_shape,
        "cli": _make_reader(EVENT_MODEL, "-").to_api_shape,
        "cloudevents": _ModelReader(_CLOUD_EVENT_NAMES, MappingProxyType({})).to_api_shape,
    }
)
"""Field naming -> the function that converts an event to shape `api`; it writes one line if the values are one line."""

_IDENTIFYING_NAMES_BY_SHAPE: Mapping[FieldNaming, frozenset[str]] = MappingProxyType(
    {
        "api": frozenset(_IDENTIFYING_FIELDS),
        "sdk": frozenset(_convert_name(name, "_") for name in _IDENTIFYING_FIELDS),
        "cli": frozenset(_convert_name(name, "-") for name in _IDENTIFYING_FIELDS),
    }
)

IDENTIFYING_NAMES = frozenset({"specversion"}).union(*_IDENTIFYING_NAMES_BY_SHAPE.values())
"""Names of members that only an event has, in any field naming."""
