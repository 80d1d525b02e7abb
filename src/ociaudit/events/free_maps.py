"""The parts of an event whose keys are anybody's: tags, headers, parameters, payloads; each as its JSON.

Owns: which they are, and how they are cut out. Must not: decode them.

Invariants
- A part is given to the byte as served; one that is absent or null is None.
- Cutting never fails on an event that is a JSON object.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ociaudit.events.columns import Column
from ociaudit.events.shapes import cut_object

MAP_COLUMNS: tuple[Column, ...] = (
    Column("freeform_tags", "json", "data.freeformTags"),
    Column("defined_tags", "json", "data.definedTags"),
    Column("request_parameters", "json", "data.request.parameters"),
    Column("request_headers", "json", "data.request.headers"),
    Column("response_headers", "json", "data.response.headers"),
    Column("response_payload", "json", "data.response.payload"),
    Column("state_change", "json", "data.stateChange"),
    Column("additional_details", "json", "data.additionalDetails"),
)
"""The columns of these parts, in their order."""

_ABSENT = msgspec.Raw(b"null")
_NULL = b"null"


class _Request(msgspec.Struct, gc=False):
    parameters: msgspec.Raw = _ABSENT
    headers: msgspec.Raw = _ABSENT


class _Response(msgspec.Struct, gc=False):
    headers: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


class _Data(msgspec.Struct, gc=False, rename="camel"):
    freeform_tags: msgspec.Raw = _ABSENT
    defined_tags: msgspec.Raw = _ABSENT
    request: _Request | None = None
    response: _Response | None = None
    state_change: msgspec.Raw = _ABSENT
    additional_details: msgspec.Raw = _ABSENT


class _Event(msgspec.Struct, gc=False):
    data: _Data | None = None


_decoder = msgspec.json.Decoder(_Event)
_NO_DATA = _Data()
_NO_REQUEST = _Request()
_NO_RESPONSE = _Response()


def read_maps(raw: bytes) -> tuple[str | None, ...]:
    """Return an event's free maps as JSON, one for each of `MAP_COLUMNS`."""
    try:
        event = _decoder.decode(raw)
    except (msgspec.MsgspecError, RecursionError):
        return _read_tolerantly(raw)
    data = event.data or _NO_DATA
    request = data.request or _NO_REQUEST
    response = data.response or _NO_RESPONSE
    return (
        _show(data.freeform_tags),
        _show(data.defined_tags),
        _show(request.parameters),
        _show(request.headers),
        _show(response.headers),
        _show(response.payload),
        _show(data.state_change),
        _show(data.additional_details),
    )


def _show(value: bytes) -> str | None:
    text = str(value, "utf-8")  # a msgspec.Raw equals no bytes
    return None if text == "null" else text


def _read_tolerantly(raw: bytes) -> tuple[str | None, ...]:
    """Read an event with fields of any type, object after object."""
    data = _cut_member(cut_object(raw), "data")
    parts = {"data": data, "request": _cut_member(data, "request"), "response": _cut_member(data, "response")}
    values = []
    for column in MAP_COLUMNS:
        model, name = column.description.rsplit(".", 2)[-2:]
        values.append(_show(bytes(parts[model].get(name, _NULL))))
    return tuple(values)


def _cut_member(members: Mapping[str, bytes], name: str) -> Mapping[str, bytes]:
    value = bytes(members.get(name, _NULL)).strip()
    return cut_object(value) if value.startswith(b"{") else {}
