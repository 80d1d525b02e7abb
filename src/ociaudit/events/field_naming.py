"""The fields of an audit event that Oracle's Python SDK knows, in the API's spelling and the SDK's order.

Owns: that table. Source: `attribute_map` and `swagger_types` of the models in `oci.audit.models`.
Must not: import the SDK, which is big and slow to import; a contract test holds the table against it.

Invariant: a type that is itself a key of the table is a model; every other type is a value or a free map.

The spellings of an event's fields: `api` as served, `sdk` as Oracle's SDK, `cli` as Oracle's command.

Owns: the change from one spelling to another.
Must not: drop a field, or decode a value only to write it again.

Invariants, for `sdk` and `cli`
- Every field that the SDK knows is there at every model level, null where it is absent, in the SDK's order:
  `event_type` in `sdk`, `event-type` in `cli`. An absent or null model is null.
- Fields that the SDK does not know follow behind under their served names, sorted. A name that is already
  the new spelling of a field of the model gets underscores until it is free: a served `event_type` becomes
  `event_type_`.
- A time is written as Python's `isoformat` does; without an offset it is UTC, as in the SDK. One that is not
  RFC 3339, names no real instant, is finer than microseconds or is written with JSON escapes stays as served.
- Every other value keeps its bytes: free maps with their keys (the SDK would rename `_self`), numbers with
  their digits, lone surrogates as escapes, and values of an unexpected type, on which the SDK fails or which
  it tears apart.
- Of a key that comes twice in a model's object the last value counts, as in every common JSON reader.

The quick way is one pass of msgspec over an event of known fields and types. What it refuses goes the
tolerant way, which cuts one object after the other, takes anything and costs twice the time. Both write the
same.

An event in another tool's spelling, written as the Audit API spells it: the inverse of `events.shapes`.

Owns: which names mean the same. Must not: drop a field, change a value, or fill in what is not said.

Known spellings: the SDK's (`event_type`), the official command's (`event-type`), and CloudEvents 1.0 as Logging
Search and Connector Hub write it (`type`).

Invariants
- Only names of fields that the SDK knows change, and only at the level of its models; the keys of free maps, all
  values and the order of fields stay. A time stays as it is written.
- A name whose new spelling the same object already has stays: no field hides another.
- White space around the members of a model goes; within values none does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

TIME = "datetime"
"""The type of the fields that hold an RFC 3339 time."""

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
            "eventTime": TIME,
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
            "responseTime": TIME,
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
"""Model -> field as served -> the SDK's type."""

SEEN_BESIDE: Mapping[str, tuple[str, ...]] = MappingProxyType({"Data": ("internalDetails", "message")})
"""Model -> fields that Audit writes and the SDK does not know, sorted; being listed here only saves time."""


Shape = Literal["api", "sdk", "cli"]
Converter = Callable[[bytes], bytes]

SHAPES: tuple[Shape, ...] = get_args(Shape)

_NULL = b"null"
_NOTHING = b""
_CAPITAL = re.compile("[A-Z]")
_TIME = re.compile(
    rb'"(\d{4}-\d\d-\d\d[Tt ](?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{1,6}0*)?)'
    rb'(?:[Zz]|([+-](?:[01]\d|2[0-3])):?([0-5]\d))?"'
)
_STRING = rb'"(?:[^"\\]++|\\.)*+"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\],]")
_MEMBER = re.compile(rb"\s*(" + _STRING + rb")\s*:(.*)", re.DOTALL)

_members_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def choose_shape(shape: Shape) -> Converter:
    """Return the function that writes an event (one line of JSON as served) in a spelling, again as one line.

    It expects valid JSON, as `cut_page` gives it, and does not check it again.
    """
    return _CONVERTERS[shape]


class _ModelWriter:
    """Writes the objects of one model in one spelling."""

    def __init__(self, model: str, joint: str) -> None:
        fields = SDK_FIELDS[model]
        beside = SEEN_BESIDE.get(model, ())
        spelled = [_CAPITAL.sub(lambda capital: joint + capital[0].lower(), name) for name in fields]
        self._fields = tuple(fields)
        self._taken = frozenset(spelled)
        self._known = b"{" + b",".join(b'"%b":%%b' % name.encode() for name in spelled)
        self._whole = self._known + b"%b" * len(beside) + b"}"
        self._times = [index for index, kind in enumerate(fields.values()) if kind == TIME]
        self._models = [
            (index, _ModelWriter(kind, joint)) for index, kind in enumerate(fields.values()) if kind in SDK_FIELDS
        ]
        self._beside = [(index, b',"%b":%%b' % name.encode()) for index, name in enumerate(beside, len(fields))]

    def write_quickly(self, served: msgspec.Struct | None) -> bytes:
        """Write an object that has no other fields than its struct."""
        if served is None:
            return _NULL
        values: list[Any] = list(msgspec.structs.astuple(served))
        for index in self._times:
            values[index] = _convert_time(values[index])
        for index, writer in self._models:
            values[index] = writer.write_quickly(values[index])
        for index, member in self._beside:
            if values[index] is not _NOTHING:
                values[index] = member % values[index]
        return self._whole % tuple(values)

    def write_tolerantly(self, value: bytes) -> bytes:
        """Write any object; null and values of an unexpected type come back as they are."""
        value = bytes(value).strip()  # a msgspec.Raw is not quite bytes
        if not value.startswith(b"{"):
            return value
        members = split_members(value)
        values = [members.pop(name, _NULL) for name in self._fields]
        for index in self._times:
            values[index] = _convert_time(values[index])
        for index, writer in self._models:
            values[index] = writer.write_tolerantly(values[index])
        unknown = [b",%b:%b" % (self._name_unknown(name, members), members[name]) for name in sorted(members)]
        return self._known % tuple(values) + b"".join(unknown) + b"}"

    def _name_unknown(self, name: str, unknown: dict[str, bytes]) -> bytes:
        """Write the name of a field that the SDK does not know, changed only where it would hide another."""
        if name in self._taken:
            while name in self._taken or name in unknown:
                name += "_"
        return json.dumps(name).encode()  # in ASCII: a lone surrogate stays the escape that it was


def _make_struct(model: str) -> Any:
    """Make the struct into which the quick way reads a model."""
    known = [
        (name, _make_struct(kind) | None, None) if kind in SDK_FIELDS else (name, msgspec.Raw, _NULL)
        for name, kind in SDK_FIELDS[model].items()
    ]
    beside = [(name, msgspec.Raw, _NOTHING) for name in SEEN_BESIDE.get(model, ())]
    return msgspec.defstruct(model, [*known, *beside], forbid_unknown_fields=True, gc=False)


_event_decoder = msgspec.json.Decoder(_make_struct(EVENT_MODEL))


def _make_converter(joint: str) -> Converter:
    writer = _ModelWriter(EVENT_MODEL, joint)

    def converter(raw: bytes) -> bytes:
        try:
            served = _event_decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return writer.write_tolerantly(raw)
        return writer.write_quickly(served)

    return converter


def _convert_time(value: bytes) -> bytes:
    """Write a time as the SDK's `to_dict` does, if no part of it is lost by that."""
    match = _TIME.fullmatch(value)
    if match is None:
        return value
    text, hours, minutes = match.groups()
    try:
        time = datetime.fromisoformat(text.decode()).isoformat().encode()  # an offset would slow both down
    except ValueError:
        return value
    if hours is None or hours + minutes == b"-0000":
        return b'"%b+00:00"' % time
    return b'"%b%b:%b"' % (time, hours, minutes)


def split_members(raw: bytes) -> dict[str, bytes]:
    """Cut an object that is known to be valid JSON into its members, each value to the byte.

    A value may be a `msgspec.Raw`, which pins the whole object. Of a name that comes twice the last value counts.
    """
    try:
        members: dict[str, bytes] = _members_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):  # a lone surrogate, or what is nested very deeply
        return _split_by_marks(raw)
    return members


def _split_by_marks(raw: bytes) -> dict[str, bytes]:
    """Cut an object that is known to be valid JSON, by nothing but its strings, brackets and commas."""
    members: dict[str, bytes] = {}
    depth = start = 0
    for token in _TOKEN.finditer(raw):
        mark = token[0]
        if depth == 1 and mark in {b",", b"}"}:
            member = _MEMBER.fullmatch(raw, start, token.start())
            if member is not None:  # there is none in an empty object
                members[json.loads(member[1])] = member[2].strip()
        if mark in {b"{", b"["}:
            depth += 1
        elif mark in {b"}", b"]"}:
            depth -= 1
        if depth == 1 and mark in {b"{", b","}:
            start = token.end()
    return members


def _keep_served(raw: bytes) -> bytes:
    return raw


_CONVERTERS = MappingProxyType({"api": _keep_served, "sdk": _make_converter("_"), "cli": _make_converter("-")})


FieldNaming = Literal["api", "sdk", "cli", "cloudevents"]
ToApiShape = Callable[[Mapping[str, bytes]], bytes]
"""Takes an event's members, as `cut_object` gives them."""

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
"""How CloudEvents 1.0 names what Audit, which follows an early draft of it, calls otherwise."""


class _ModelReader:
    """Renames the fields of one model's objects."""

    def __init__(self, names: Mapping[str, str], models: Mapping[str, _ModelReader]) -> None:
        """Keep foreign name -> the API's name, the same or another, and foreign name -> the reader of its model."""
        self._heads = {name: b'"%b":' % new.encode() for name, new in names.items()}
        self._new_names = frozenset(new for name, new in names.items() if new != name)
        self._models = models

    def to_api_shape(self, members: Mapping[str, bytes]) -> bytes:
        """Write an object of the model with the API's names."""
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
        """Return the renamings without those whose new name is there already."""
        taken = {b'"%b":' % name.encode() for name in self._new_names.intersection(members)}
        return {name: head for name, head in self._heads.items() if head not in taken}

    def convert_value(self, value: bytes) -> bytes:
        """Write a model; what is no object stays as it is."""
        value = bytes(value)  # a msgspec.Raw is not quite bytes
        return self.to_api_shape(split_members(value)) if value.startswith(b"{") else value


def write_name(name: str) -> bytes:
    """Write a member's name; a lone surrogate stays the escape that it was."""
    if name.isascii() and name.isprintable() and '"' not in name and "\\" not in name:
        return b'"%b"' % name.encode()
    return json.dumps(name).encode()


def _make_reader(model: str, joint: str) -> _ModelReader:
    names: dict[str, str] = {}
    models: dict[str, _ModelReader] = {}
    for name, kind in SDK_FIELDS[model].items():
        spelled = _CAPITAL.sub(lambda capital: joint + capital[0].lower(), name)
        names[spelled] = name
        if kind in SDK_FIELDS:
            models[spelled] = _make_reader(kind, joint)
    return _ModelReader(MappingProxyType(names), MappingProxyType(models))


TO_API_SHAPE: Mapping[FieldNaming, ToApiShape] = MappingProxyType(
    {
        "sdk": _make_reader(EVENT_MODEL, "_").to_api_shape,
        "cli": _make_reader(EVENT_MODEL, "-").to_api_shape,
        "cloudevents": _ModelReader(_CLOUD_EVENT_NAMES, MappingProxyType({})).to_api_shape,
    }
)
"""Spelling -> the function that writes an event of it as the API does, in one line if its values are."""

_SURE_NAMES = ("eventType", "eventId", "eventTime", "cloudEventsVersion", "eventTypeVersion")
_SURE: Mapping[FieldNaming, frozenset[str]] = MappingProxyType(
    {
        "api": frozenset(_SURE_NAMES),
        "sdk": frozenset(_CAPITAL.sub(lambda capital: "_" + capital[0].lower(), name) for name in _SURE_NAMES),
        "cli": frozenset(_CAPITAL.sub(lambda capital: "-" + capital[0].lower(), name) for name in _SURE_NAMES),
    }
)


IDENTIFYING_NAMES = frozenset({"specversion"}).union(*_SURE.values())
"""Names of members that only an event has, whoever wrote it."""


def detect_naming(members: Mapping[str, bytes]) -> FieldNaming | None:
    """Tell how an object spells an event's fields; None where it has none of the names by which that is known.

    Several spellings in one object: the API's counts before the SDK's, that before the command's.
    """
    for spelling, names in _SURE.items():
        if not names.isdisjoint(members):
            return spelling
    if "type" in members and ("specversion" in members or ("data" in members and "time" in members)):
        return "cloudevents"
    return None
