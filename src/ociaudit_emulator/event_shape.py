"""The JSON shape of audit events: names, nesting and order of the fields, as the Audit service writes them.

Every value that varies is an argument. For large numbers of events, a Template renders the JSON text of one
call once and inserts the values of each event.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ociaudit_emulator.event_types import EventType
from ociaudit_emulator.tenancy import Principal, PrincipalKind

JsonObject = dict[str, object]

# Services whose records still have the older form: with a source, and with the message inside the response.
_OLDER_FORM_SERVICES = frozenset({"computeApi", "virtualNetwork", "blockVolumes", "LoadBalancer"})
_ISSUER = "authService.oracle.com"
_AUTHORIZATION = (
    'Signature keyId="{}***",version="1",headers="date (request-target) host accept opc-request-id",signature="*****"'
)


@dataclass(frozen=True, slots=True)
class EventValues:
    """The values that differ between events, escaped as the content of JSON strings."""

    event_id: str
    event_time: str
    response_time: str
    http_date: str
    grouping_id: str
    request_id: str
    resource_id: str
    resource_name: str
    compartment_id: str
    compartment_name: str
    region: str
    availability_domain: str
    ip_address: str
    session_id: str


PLACEHOLDERS = EventValues(**{field.name: f"@@{field.name}@@" for field in fields(EventValues)})
_PLACEHOLDER = re.compile(r"@@(\w+)@@")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a call: its status, and an error code that is empty for a success."""

    status: str
    code: str = ""

    def describe(self, name: str) -> str:
        """Return the outcome as the message of an event."""
        return f"{name} failed with response '{self.code}'" if self.code else f"{name} succeeded"


@dataclass(frozen=True, slots=True)
class AuditedCall:
    """An API call that leaves an event: tenancy, operation, caller and outcome."""

    tenancy_id: str
    event_type: EventType
    principal: Principal
    outcome: Outcome


def shape_call(call: AuditedCall, values: EventValues) -> JsonObject:
    """Return the event of an API call."""
    event_type = call.event_type
    is_older = event_type.service in _OLDER_FORM_SERVICES
    source = event_type.service if is_older else ""
    event = shape_envelope(event_type, source, values)
    event["data"] = _shape_older_data(call, values) if is_older else _shape_newer_data(call, values)
    return event


def shape_envelope(event_type: EventType, source: str, values: EventValues) -> JsonObject:
    """Return the fields of an event around its `data`."""
    return {
        "eventType": event_type.full_name,
        "cloudEventsVersion": "0.1",
        "eventTypeVersion": "2.0",
        "source": source,
        "eventId": values.event_id,
        "eventTime": values.event_time,
        "contentType": "application/json",
    }


def _shape_older_data(call: AuditedCall, values: EventValues) -> JsonObject:
    """Return the `data` of a service with the older form."""
    name = call.event_type.name
    return {
        "eventGroupingId": values.grouping_id,
        "eventName": name,
        "compartmentId": values.compartment_id,
        "compartmentName": values.compartment_name,
        "resourceName": values.resource_name,
        "resourceId": values.resource_id if call.event_type.resource else "",
        "availabilityDomain": values.availability_domain,
        "freeformTags": {"owner": "platform", "cost-center": "4711"},
        "definedTags": {"Oracle-Tags": {"CreatedBy": call.principal.name, "CreatedOn": values.event_time}},
        "identity": _shape_identity(call, values),
        "request": _shape_request(call, values),
        "response": {
            "status": call.outcome.status,
            "responseTime": values.response_time,
            "headers": _shape_response_headers(values),
            "payload": _shape_payload(call, values),
            "message": call.outcome.describe(name),
        },
        "stateChange": _shape_state_change(call, values),
        "additionalDetails": {"imageId": "", "shape": "VM.Standard.E5.Flex", "type": "CustomerVmi"},
        "internalDetails": {},
    }


def _shape_newer_data(call: AuditedCall, values: EventValues) -> JsonObject:
    """Return the `data` of a service with the newer form: keys in order, and the message outside the response."""
    name = call.event_type.name
    return {
        "additionalDetails": {"X-Real-Port": 57470} if call.event_type.is_change else None,
        "availabilityDomain": values.availability_domain,
        "compartmentId": values.compartment_id,
        "compartmentName": values.compartment_name,
        "definedTags": None,
        "eventGroupingId": values.grouping_id,
        "eventName": name,
        "freeformTags": None,
        "identity": _shape_identity(call, values),
        "message": call.outcome.describe(name),
        "request": _shape_request(call, values),
        "resourceId": values.resource_id if call.event_type.resource else None,
        "response": {
            "headers": _shape_response_headers(values),
            "message": None,
            "payload": _shape_payload(call, values),
            "responseTime": values.response_time,
            "status": call.outcome.status,
        },
        "stateChange": _shape_state_change(call, values),
    }


def _shape_identity(call: AuditedCall, values: EventValues) -> JsonObject:
    principal = call.principal
    is_console = principal.kind in {PrincipalKind.CONSOLE, PrincipalKind.FEDERATED}
    key_id = f"{call.tenancy_id}/{principal.id}/{principal.fingerprint}"
    return {
        "principalName": principal.name,
        "principalId": principal.id,
        "authType": principal.kind.value,
        "callerName": None,
        "callerId": None,
        "tenantId": call.tenancy_id,
        "ipAddress": values.ip_address,
        "credentials": "***" if is_console else key_id,
        "userAgent": principal.user_agent,
        "consoleSessionId": values.session_id if is_console else None,
    }


def _shape_request(call: AuditedCall, values: EventValues) -> JsonObject:
    event_type = call.event_type
    parameters = {"compartmentId": [values.compartment_id]} if event_type.action == "GET" else {}
    return {
        "id": values.request_id,
        "path": event_type.path.format(id=values.resource_id, name=values.resource_name),
        "action": event_type.action,
        "parameters": parameters,
        "headers": _shape_request_headers(call, values),
    }


def _shape_request_headers(call: AuditedCall, values: EventValues) -> JsonObject:
    """Return the request's headers: those of a browser for the console, otherwise those of an SDK."""
    principal = call.principal
    headers: JsonObject = {
        "Accept": ["*/*"],
        "Accept-Encoding": ["gzip, deflate, br"],
        "Authorization": [_AUTHORIZATION.format(principal.id[:24])],
        "Connection": ["keep-alive"],
        "Content-Type": ["application/json"],
        "Date": [values.http_date],
        "User-Agent": [principal.user_agent],
        "X-Forwarded-For": [values.ip_address],
        "X-Real-IP": [values.ip_address],
        "opc-principal": [_encode_opc_principal(call, values)],
        "opc-request-id": [values.request_id],
    }
    if principal.kind in {PrincipalKind.CONSOLE, PrincipalKind.FEDERATED}:
        headers["Accept-Language"] = ["en-US,en;q=0.5"]
        headers["Origin"] = ["https://cloud.oracle.com"]
        headers["Referer"] = ["https://cloud.oracle.com/"]
    else:
        headers["opc-client-info"] = [principal.user_agent.partition(" ")[0]]
    return headers


def _encode_opc_principal(call: AuditedCall, values: EventValues) -> str:
    """Return the header in which services forward the caller's identity, with secrets masked."""
    claims = {
        "pstype": call.principal.kind.value,
        "h_host": f"{call.event_type.service.lower()}.{values.region}.oraclecloud.com",
        "ptype": "instance" if call.principal.kind is PrincipalKind.INSTANCE else "user",
        "authorization": 'Signature algorithm="rsa-sha256",signature="*****",version="1"',
    }
    content = {
        "tenantId": call.tenancy_id,
        "subjectId": call.principal.id,
        "claims": [{"key": key, "value": value, "issuer": _ISSUER} for key, value in claims.items()],
    }
    return json.dumps(content, separators=(",", ":"))


def _shape_response_headers(values: EventValues) -> JsonObject:
    return {
        "Access-Control-Expose-Headers": [
            "opc-previous-page,opc-next-page,opc-client-info,ETag,opc-total-items,opc-request-id,Location"
        ],
        "Content-Type": ["application/json"],
        "Date": [values.http_date],
        "X-Content-Type-Options": ["nosniff"],
        "opc-request-id": [values.request_id],
    }


def _shape_payload(call: AuditedCall, values: EventValues) -> JsonObject | None:
    """Return the recorded body of the response; only a change has one."""
    if not call.event_type.is_change:
        return None
    return {"resourceName": values.resource_name, "id": values.resource_id}


def _shape_state_change(call: AuditedCall, values: EventValues) -> JsonObject:
    if call.event_type.action != "PUT" or call.outcome.code:
        return {"previous": {}, "current": {}}
    return {
        "previous": {"displayName": values.resource_name, "lifecycleState": "AVAILABLE"},
        "current": {"displayName": values.resource_name, "lifecycleState": "UPDATING", "version": 2},
    }


class Template:
    """The JSON text of an event, with placeholders for its values."""

    def __init__(self, event: JsonObject) -> None:
        """Convert an event whose values are PLACEHOLDERS to a format string."""
        text = encode_compact(event).decode().replace("%", "%%")
        self._text = _PLACEHOLDER.sub(r"%(\1)s", text)

    def render(self, values: Mapping[str, str]) -> bytes:
        """Return the event with these values, which are already escaped for JSON."""
        return (self._text % values).encode()


def encode_compact(event: JsonObject) -> bytes:
    """Return an event as JSON without whitespace, in UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object in their order, repeated names included."""


class _Number(str):
    """A number with the digits that it is written with."""

    __slots__ = ()


_READER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=_Number, parse_float=_Number)
_WAYS = 3


def reserialise(event: bytes, turn: int) -> bytes:
    """Return an event as the same JSON value in other bytes; turn 0 and every fourth turn keep it as it is.

    The other turns reverse the order of names, add spaces, and escape what need not be escaped. An event that is
    not strict JSON in UTF-8 keeps its bytes.
    """
    way = turn % (_WAYS + 1)
    if way == 0:
        return event
    try:
        value = _READER.decode(event.decode())
    except (ValueError, RecursionError):
        return event
    return _write_value(value, way).encode()


def _write_value(value: object, way: int) -> str:
    """Return a JSON value in one of the ways: 1 with names reversed, 2 with spaces, 3 with escapes."""
    comma, colon = (", ", " : ") if way == 2 else (",", ":")
    if isinstance(value, _Pairs):
        names = {name for name, _ in value}
        members = reversed(value) if way == 1 and len(names) == len(value) else value
        return f"{{{comma.join(f'{_write_text(name, way)}{colon}{_write_value(one, way)}' for name, one in members)}}}"
    if isinstance(value, list):
        return f"[{comma.join(_write_value(one, way) for one in value)}]"
    if isinstance(value, _Number):
        return str(value)
    return _write_text(value, way) if isinstance(value, str) else json.dumps(value)


def _write_text(text: str, way: int) -> str:
    """Return a JSON string; with escapes, every `o` and every character that is not ASCII is written as its code."""
    written = json.dumps(text)
    # No escape sequence contains the letter, so each one is a character of the text.
    return written.replace("o", r"\u006f") if way == 3 else written
