"""Events as rows: the scalar columns of CSV, Parquet and queries, the whole event, and the free maps as JSON.

The free maps are the parts of an event with arbitrary keys: tags, headers, parameters and payloads. They are read in
the same pass as the facts, without being decoded.

Invariants
- A row has a value or None for every column. Reading never fails on an event that is a JSON object.
- Nothing is guessed: the origin is the one on the record, or None.
- Every text can be encoded as UTF-8. A lone surrogate is replaced by its escape; in `event` it stays as in the JSON.
- A time is RFC 3339 in UTC: as served if Audit wrote it in that form with milliseconds, else converted. An unreadable
  time is None, and remains in `event`.
- A free map is the JSON byte for byte as served; an absent or null one is None.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter
from types import MappingProxyType
from typing import Literal, NamedTuple, Protocol, cast

import msgspec

from ociaudit.events.field_naming import split_members
from ociaudit.events.fields import (
    UNREADABLE_INSTANT,
    Data,
    Details,
    Facts,
    Identity,
    Request,
    Response,
    are_audit_times,
    format_instant,
    is_day,
    judge_outcome,
    read_facts,
    read_instant,
    read_status,
    split_addresses,
)

ColumnKind = Literal["text", "time", "integer", "json"]
Value = str | int | None
Row = tuple[Value, ...]


class Column(NamedTuple):
    """A column: its name, its kind, and the field or a description of its source."""

    name: str
    kind: ColumnKind
    description: str


COLUMNS: tuple[Column, ...] = (
    Column("event_time", "time", "eventTime"),
    Column("event_id", "text", "eventId"),
    Column("event_type", "text", "eventType"),
    Column("event_name", "text", "data.eventName"),
    Column("source", "text", "source"),
    Column(
        "outcome",
        "text",
        "success, failure or unknown: by data.response.status, data.additionalDetails.eventId or data.message",
    ),
    Column("status", "integer", "data.response.status"),
    Column("origin_region", "text", "the region the event was fetched from"),
    Column("origin_compartment", "text", "the compartment it was fetched from"),
    Column("compartment_id", "text", "data.compartmentId"),
    Column("compartment_name", "text", "data.compartmentName"),
    Column("principal_name", "text", "data.identity.principalName"),
    Column("principal_id", "text", "data.identity.principalId"),
    Column("auth_type", "text", "data.identity.authType"),
    Column("caller_name", "text", "data.identity.callerName"),
    Column("caller_id", "text", "data.identity.callerId"),
    Column("tenant_id", "text", "data.identity.tenantId"),
    Column("ip_address", "text", "the first address of data.identity.ipAddress"),
    Column("ip_addresses", "text", "data.identity.ipAddress, which may be a comma list"),
    Column("user_agent", "text", "data.identity.userAgent"),
    Column("console_session_id", "text", "data.identity.consoleSessionId"),
    Column("resource_name", "text", "data.resourceName"),
    Column("resource_id", "text", "data.resourceId"),
    Column("availability_domain", "text", "data.availabilityDomain"),
    Column("request_id", "text", "data.request.id"),
    Column("request_action", "text", "data.request.action"),
    Column("request_path", "text", "data.request.path"),
    Column("response_time", "time", "data.response.responseTime"),
    Column("message", "text", "data.response.message, else data.message"),
    Column("event_grouping_id", "text", "data.eventGroupingId"),
    Column("event", "json", "the whole event as JSON"),
)
"""The columns of a row, in order."""
COLUMN_NAMES = tuple(column.name for column in COLUMNS)

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
"""The columns of the free maps, in order; each description is the path of the field."""

Maps = tuple[msgspec.Raw | bytes, ...]
"""JSON text for each of `MAP_COLUMNS`; `null` where there is no such field."""

_NO_DATA = Data()
_NO_IDENTITY = Identity()
_NO_REQUEST = Request()
_NO_RESPONSE = Response()
_NO_DETAILS = Details()
_AUDIT_TIME = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)
NULL = b"null"
"""The JSON text of a map that is not there."""
_ABSENT = msgspec.Raw(NULL)


class Origin(Protocol):
    """The region and compartment of the request that returned an event."""

    @property
    def region(self) -> str:
        """Return the region."""
        ...

    @property
    def compartment(self) -> str:
        """Return the compartment."""
        ...


class EventWithOrigin(Protocol):
    """An event with its origin, such as `formats.base.Record`."""

    @property
    def raw(self) -> bytes:
        """Return the event as one line of JSON in shape `api`."""
        ...

    @property
    def origin(self) -> Origin | None:
        """Return the origin, if known."""
        ...


class _RequestMaps(Request, gc=False, rename="camel"):
    parameters: msgspec.Raw = _ABSENT
    headers: msgspec.Raw = _ABSENT


class _ResponseMaps(Response, gc=False, rename="camel"):
    headers: msgspec.Raw = _ABSENT
    payload: msgspec.Raw = _ABSENT


class _DataMaps(Data, gc=False, rename="camel"):
    request: _RequestMaps | None = None
    response: _ResponseMaps | None = None
    freeform_tags: msgspec.Raw = _ABSENT
    defined_tags: msgspec.Raw = _ABSENT
    state_change: msgspec.Raw = _ABSENT
    additional_details: msgspec.Raw = _ABSENT  # type: ignore[assignment] # replaced once it has been extracted


class _EventMaps(Facts, gc=False, rename="camel"):
    data: _DataMaps | None = None


_facts_decoder = msgspec.json.Decoder(_EventMaps)
_details_decoder = msgspec.json.Decoder(Details | None)
_NO_REQUEST_MAPS = _RequestMaps()
_NO_RESPONSE_MAPS = _ResponseMaps()
_NO_MAPS: Maps = (_ABSENT,) * len(MAP_COLUMNS)


class _Source(NamedTuple):
    """The fields that a column is made of, named as in `fields.make_facts_model`, and how; None: it is the field.

    `is_repetitive`: in many events there are few different values, so each is converted once.
    """

    fields: tuple[str, ...]
    convert: Callable[..., Value] | None = None
    is_repetitive: bool = False


def _choose_address(addresses: str | None) -> str | None:
    if not addresses:
        return None
    return addresses.strip() if "," not in addresses else next(iter(split_addresses(addresses)), None)


def _choose_message(of_response: str | None, of_data: str | None) -> str | None:
    return of_data if of_response is None else of_response


def format_time(text: str | None) -> str | None:
    """Return a served time as RFC 3339 in UTC, or None if it is unreadable."""
    if text is None:
        return None
    if _AUDIT_TIME.fullmatch(text) and is_day(text[:10]):
        return text
    instant = read_instant(text)
    return None if instant == UNREADABLE_INSTANT else format_instant(instant)


_OUTCOME_FIELDS = ("data.response.status", "data.additional_details.event_id", "data.message")
_DERIVED: Mapping[str, _Source] = MappingProxyType(
    {
        "event_time": _Source(("event_time",), format_time),
        "outcome": _Source(_OUTCOME_FIELDS, judge_outcome, is_repetitive=True),
        "status": _Source(("data.response.status",), read_status, is_repetitive=True),
        "ip_address": _Source(("data.identity.ip_address",), _choose_address),
        "ip_addresses": _Source(("data.identity.ip_address",)),
        "response_time": _Source(("data.response.response_time",), format_time),
        "message": _Source(("data.response.message", "data.message"), _choose_message),
    }
)
"""The columns whose value is not simply the field that their description names."""
_ORIGIN_PARTS: Mapping[str, Callable[[Origin | None], str | None]] = MappingProxyType(
    {
        "origin_region": lambda origin: origin.region if origin else None,
        "origin_compartment": lambda origin: origin.compartment if origin else None,
    }
)
_CAPITAL = re.compile("[A-Z]")
_SOURCES: Mapping[str, _Source] = MappingProxyType(
    {
        column.name: _DERIVED.get(column.name)
        or _Source((_CAPITAL.sub(lambda match: f"_{match[0].lower()}", column.description),))
        for column in COLUMNS[:-1]
        if column.name not in _ORIGIN_PARTS
    }
)
_PARENTS: Mapping[str, tuple[str, str, object]] = MappingProxyType(
    {
        "data.": ("", "data", _NO_DATA),
        "data.identity.": ("data.", "identity", _NO_IDENTITY),
        "data.request.": ("data.", "request", _NO_REQUEST),
        "data.response.": ("data.", "response", _NO_RESPONSE),
        "data.additional_details.": ("data.", "additional_details", _NO_DETAILS),
    }
)
"""Prefix of fields -> the prefix of the object that holds theirs, its name there, and the value where it is missing.

An object comes after the one that holds it."""


_PREFIXES: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        column.name: frozenset(
            prefix
            for prefix in _PARENTS
            for field in (_SOURCES[column.name].fields if column.name in _SOURCES else ())
            if field.startswith(prefix)
        )
        for column in COLUMNS[:-1]
    }
)
"""Column -> the prefixes of the objects that its fields are in."""


def list_fields(columns: Iterable[str]) -> frozenset[str]:
    """Return the fields of `Facts` that columns are made of, named as in `fields.make_facts_model`."""
    return frozenset(field for name in columns for field in (_SOURCES[name].fields if name in _SOURCES else ()))


def read_columns(
    facts: Sequence[Facts], origins: Sequence[Origin | None], columns: Iterable[str]
) -> list[Sequence[Value]]:
    """Return the values of each column, of which there is one for each event; `columns` does not include `event`.

    The facts may be partial: they have at least the fields of `list_fields`.
    """
    wanted = list(columns)
    # No function that calls itself: such a closure is a cycle, and would keep the events until cycles are searched for.
    objects: dict[str, Sequence[object]] = {"": facts}
    for prefix, (outer, name, absent) in _PARENTS.items():
        if outer in objects and any(prefix in _PREFIXES[column] for column in wanted):
            objects[prefix] = [value or absent for value in map(attrgetter(name), objects[outer])]

    def list_values(field: str) -> list[Value]:
        prefix, dot, name = field.rpartition(".")
        return list(map(attrgetter(name), objects[prefix + dot]))

    table: list[Sequence[Value]] = []
    for column in wanted:
        if column in _ORIGIN_PARTS:
            table.append(list(map(_ORIGIN_PARTS[column], origins)))
            continue
        source = _SOURCES[column]
        values = [list_values(field) for field in source.fields]
        table.append(_convert(source, values))
    return table


def _convert(source: _Source, values: Sequence[list[Value]]) -> Sequence[Value]:
    convert = source.convert
    if convert is None:
        return values[0]
    if source.is_repetitive:
        keys = list(zip(*values, strict=True))
        known = {key: convert(*key) for key in set(keys)}
        return [known[key] for key in keys]
    if convert is format_time:
        texts = cast(list[str | None], values[0])
        if are_audit_times(texts) and all(map(is_day, {text[:10] for text in texts})):
            return texts
    return list(map(convert, *values))


def read_row(record: EventWithOrigin) -> Row:
    """Return the row of an event, with one value for each of `COLUMNS`.

    Raises:
        ValueError: the record is not a JSON object in UTF-8.
    """
    raw = record.raw
    return (*make_row(read_facts(raw), record.origin), raw.decode())


def make_row(facts: Facts, origin: Origin | None) -> Row:
    """Return the row of an event with these facts, without its last value (the event itself)."""
    data = facts.data or _NO_DATA
    identity = data.identity or _NO_IDENTITY
    request = data.request or _NO_REQUEST
    response = data.response or _NO_RESPONSE
    details = data.additional_details
    addresses = identity.ip_address
    return (
        format_time(facts.event_time),
        facts.event_id,
        facts.event_type,
        data.event_name,
        facts.source,
        judge_outcome(response.status, details.event_id if details else None, data.message),
        read_status(response.status),
        origin.region if origin else None,
        origin.compartment if origin else None,
        data.compartment_id,
        data.compartment_name,
        identity.principal_name,
        identity.principal_id,
        identity.auth_type,
        identity.caller_name,
        identity.caller_id,
        identity.tenant_id,
        next(iter(split_addresses(addresses)), None) if addresses else None,
        addresses,
        identity.user_agent,
        identity.console_session_id,
        data.resource_name,
        data.resource_id,
        data.availability_domain,
        request.id,
        request.action,
        request.path,
        format_time(response.response_time),
        data.message if response.message is None else response.message,
        data.event_grouping_id,
    )


def read_facts_and_maps(raw: bytes) -> tuple[Facts, Maps]:
    """Return the facts of an event and its free maps, in the order of `MAP_COLUMNS`, read in one pass.

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
        return read_facts(raw), _extract_leniently(raw)
    request = data.request or _NO_REQUEST_MAPS
    response = data.response or _NO_RESPONSE_MAPS
    return facts, (
        data.freeform_tags,
        data.defined_tags,
        request.parameters,
        request.headers,
        response.headers,
        response.payload,
        data.state_change,
        details,
    )


def is_null(value: msgspec.Raw | bytes) -> bool:
    """Return whether the text of a map is `null`."""
    return len(value) == len(NULL) and bytes(value) == NULL  # a msgspec.Raw never equals bytes


def _extract_leniently(raw: bytes) -> Maps:
    """Return the free maps of an event whose fields may have any type, by splitting one object after another."""
    data = _extract_member(split_members(raw), "data")
    parts = {"data": data, "request": _extract_member(data, "request"), "response": _extract_member(data, "response")}
    values = []
    for column in MAP_COLUMNS:
        model, name = column.description.rsplit(".", 2)[-2:]
        values.append(bytes(parts[model].get(name, NULL)))
    return tuple(values)


def _extract_member(members: Mapping[str, bytes], name: str) -> Mapping[str, bytes]:
    value = bytes(members.get(name, NULL)).strip()
    return split_members(value) if value.startswith(b"{") else {}
