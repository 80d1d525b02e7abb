"""The spellings of an event's fields: `api` as served, `sdk` as Oracle's SDK, `cli` as Oracle's command.

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
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal, get_args

import msgspec

from ociaudit.events.sdk_fields import EVENT, SDK_FIELDS, SEEN_BESIDE, TIME

Shape = Literal["api", "sdk", "cli"]
Reshape = Callable[[bytes], bytes]

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


def choose_shape(shape: Shape) -> Reshape:
    """Return the function that writes an event (one line of JSON as served) in a spelling, again as one line.

    It expects valid JSON, as `cut_page` gives it, and does not check it again.
    """
    return _RESHAPES[shape]


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
            values[index] = _respell_time(values[index])
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
        members = cut_object(value)
        values = [members.pop(name, _NULL) for name in self._fields]
        for index in self._times:
            values[index] = _respell_time(values[index])
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


_event_decoder = msgspec.json.Decoder(_make_struct(EVENT))


def _make_reshape(joint: str) -> Reshape:
    writer = _ModelWriter(EVENT, joint)

    def reshape(raw: bytes) -> bytes:
        try:
            served = _event_decoder.decode(raw)
        except (msgspec.MsgspecError, RecursionError):
            return writer.write_tolerantly(raw)
        return writer.write_quickly(served)

    return reshape


def _respell_time(value: bytes) -> bytes:
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


def cut_object(raw: bytes) -> dict[str, bytes]:
    """Cut an object that is known to be valid JSON into its members, each value to the byte.

    A value may be a `msgspec.Raw`, which pins the whole object. Of a name that comes twice the last value counts.
    """
    try:
        members: dict[str, bytes] = _members_decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):  # a lone surrogate, or what is nested very deeply
        return _cut_by_marks(raw)
    return members


def _cut_by_marks(raw: bytes) -> dict[str, bytes]:
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


_RESHAPES = MappingProxyType({"api": _keep_served, "sdk": _make_reshape("_"), "cli": _make_reshape("-")})
