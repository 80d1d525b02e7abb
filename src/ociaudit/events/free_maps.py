"""The parts of an event whose keys are anybody's: tags, headers, parameters, payloads; each as its JSON.

Owns: which they are, and how they are cut out beside the facts. Must not: decode them.

Invariants
- A part is given to the byte as served; one that is absent or null is None.
- Cutting never fails on an event that is a JSON object; the facts are those of `events.facts`.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ociaudit.events.columns import Column
from ociaudit.events.facts import Data, Details, Facts, Request, Response, read_facts
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

Maps = tuple[str | None, ...]
"""A value for each of `MAP_COLUMNS`."""

_NULL = b"null"
_ABSENT = msgspec.Raw(_NULL)


class _Request(Request, gc=False, rename="camel"):
    parameters: msgspec.Raw = _ABSENT
    headers: msgspec.Raw = _ABSENT


class _Response(Response, gc=False, rename="camel"):
    headers: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


class _Data(Data, gc=False, rename="camel"):
    request: _Request | None = None
    response: _Response | None = None
    freeform_tags: msgspec.Raw = _ABSENT
    defined_tags: msgspec.Raw = _ABSENT
    state_change: msgspec.Raw = _ABSENT
    additional_details: msgspec.Raw = _ABSENT  # type: ignore[assignment] # replaced as soon as it has been cut out


class _Facts(Facts, gc=False, rename="camel"):
    data: _Data | None = None


_facts_decoder = msgspec.json.Decoder(_Facts)
_details_decoder = msgspec.json.Decoder(Details | None)
_NO_REQUEST = _Request()
_NO_RESPONSE = _Response()
_NO_MAPS: Maps = (None,) * len(MAP_COLUMNS)


def read_facts_and_maps(raw: bytes) -> tuple[Facts, Maps]:
    """Read an event's facts and, in the same pass, cut out its free maps.

    Raises:
        ValueError: the bytes are not a JSON object.
    """
    try:
        facts = _facts_decoder.decode(raw)
        data = facts.data
        if data is None:
            return facts, _NO_MAPS
        details = data.additional_details
        data.additional_details = _details_decoder.decode(details)
    except (msgspec.MsgspecError, RecursionError):
        return read_facts(raw), _cut_tolerantly(raw)
    request = data.request or _NO_REQUEST
    response = data.response or _NO_RESPONSE
    return facts, (
        _show(data.freeform_tags),
        _show(data.defined_tags),
        _show(request.parameters),
        _show(request.headers),
        _show(response.headers),
        _show(response.payload),
        _show(data.state_change),
        _show(details),
    )


def _show(value: bytes) -> str | None:
    text = str(value, "utf-8")  # a msgspec.Raw equals no bytes
    return None if text == "null" else text


def _cut_tolerantly(raw: bytes) -> Maps:
    """Cut an event with fields of any type, object after object."""
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
