"""What the event of an API call looks like: its fields, as Audit writes them.

Owns: names, nesting and order of the fields.
Must not: draw anything; every value that varies is an argument.

Events in quantity: an event's text is made once, and its varying values are put in by position.

Owns: the text with gaps.
Must not: know what the values mean.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields

from ociaudit_emulator.event_types import EventType
from ociaudit_emulator.tenancy import Principal, PrincipalKind

JsonObject = dict[str, object]

# Services whose records still have the older form: a source, and the message inside the response.
_OLDER_FORM = frozenset({"computeApi", "virtualNetwork", "blockVolumes", "LoadBalancer"})
_ISSUER = "authService.oracle.com"
_AUTHORIZATION = (
    'Signature keyId="{}***",version="1",headers="date (request-target) host accept opc-request-id",signature="*****"'
)


@dataclass(frozen=True, slots=True)
class Fill:
    """The values that differ from one event to the next, as they stand inside JSON strings."""

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


FILL_NAMES = tuple(field.name for field in fields(Fill))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended; `code` is empty when it was a success."""

    status: str
    code: str = ""

    def describe(self, name: str) -> str:
        """Say it as the records do."""
        return f"{name} failed with response '{self.code}'" if self.code else f"{name} succeeded"


@dataclass(frozen=True, slots=True)
class Call:
    """Who did what in which tenancy, and how it ended."""

    tenancy_id: str
    event_type: EventType
    principal: Principal
    outcome: Outcome


def shape_call(call: Call, fill: Fill) -> JsonObject:
    """Shape the event of an API call."""
    event_type = call.event_type
    is_older = event_type.service in _OLDER_FORM
    source = event_type.service if is_older else ""
    event = shape_envelope(event_type, source, fill)
    event["data"] = _shape_older_data(call, fill) if is_older else _shape_newer_data(call, fill)
    return event


def shape_envelope(event_type: EventType, source: str, fill: Fill) -> JsonObject:
    """Shape what stands around the data."""
    return {
        "eventType": event_type.full_name,
        "cloudEventsVersion": "0.1",
        "eventTypeVersion": "2.0",
        "source": source,
        "eventId": fill.event_id,
        "eventTime": fill.event_time,
        "contentType": "application/json",
    }


def _shape_older_data(call: Call, fill: Fill) -> JsonObject:
    """Shape the data of a service with the older form."""
    name = call.event_type.name
    return {
        "eventGroupingId": fill.grouping_id,
        "eventName": name,
        "compartmentId": fill.compartment_id,
        "compartmentName": fill.compartment_name,
        "resourceName": fill.resource_name,
        "resourceId": fill.resource_id if call.event_type.resource else "",
        "availabilityDomain": fill.availability_domain,
        "freeformTags": {"owner": "platform", "cost-center": "4711"},
        "definedTags": {"Oracle-Tags": {"CreatedBy": call.principal.name, "CreatedOn": fill.event_time}},
        "identity": _shape_identity(call, fill),
        "request": _shape_request(call, fill),
        "response": {
            "status": call.outcome.status,
            "responseTime": fill.response_time,
            "headers": _shape_response_headers(fill),
            "payload": _shape_payload(call, fill),
            "message": call.outcome.describe(name),
        },
        "stateChange": _shape_state_change(call, fill),
        "additionalDetails": {"imageId": "", "shape": "VM.Standard.E5.Flex", "type": "CustomerVmi"},
        "internalDetails": {},
    }


def _shape_newer_data(call: Call, fill: Fill) -> JsonObject:
    """Shape the data of a service with the newer form: sorted keys, and a message of its own."""
    name = call.event_type.name
    return {
        "additionalDetails": {"X-Real-Port": 57470} if call.event_type.is_change else None,
        "availabilityDomain": fill.availability_domain,
        "compartmentId": fill.compartment_id,
        "compartmentName": fill.compartment_name,
        "definedTags": None,
        "eventGroupingId": fill.grouping_id,
        "eventName": name,
        "freeformTags": None,
        "identity": _shape_identity(call, fill),
        "message": call.outcome.describe(name),
        "request": _shape_request(call, fill),
        "resourceId": fill.resource_id if call.event_type.resource else None,
        "response": {
            "headers": _shape_response_headers(fill),
            "message": None,
            "payload": _shape_payload(call, fill),
            "responseTime": fill.response_time,
            "status": call.outcome.status,
        },
        "stateChange": _shape_state_change(call, fill),
    }


def _shape_identity(call: Call, fill: Fill) -> JsonObject:
    """Shape who called."""
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
        "ipAddress": fill.ip_address,
        "credentials": "***" if is_console else key_id,
        "userAgent": principal.user_agent,
        "consoleSessionId": fill.session_id if is_console else None,
    }


def _shape_request(call: Call, fill: Fill) -> JsonObject:
    """Shape what was asked."""
    event_type = call.event_type
    parameters = {"compartmentId": [fill.compartment_id]} if event_type.action == "GET" else {}
    return {
        "id": fill.request_id,
        "path": event_type.path.format(id=fill.resource_id, name=fill.resource_name),
        "action": event_type.action,
        "parameters": parameters,
        "headers": _shape_request_headers(call, fill),
    }


def _shape_request_headers(call: Call, fill: Fill) -> JsonObject:
    """Shape the request's headers: those of a browser for the console, of an SDK otherwise."""
    principal = call.principal
    headers: JsonObject = {
        "Accept": ["*/*"],
        "Accept-Encoding": ["gzip, deflate, br"],
        "Authorization": [_AUTHORIZATION.format(principal.id[:24])],
        "Connection": ["keep-alive"],
        "Content-Type": ["application/json"],
        "Date": [fill.http_date],
        "User-Agent": [principal.user_agent],
        "X-Forwarded-For": [fill.ip_address],
        "X-Real-IP": [fill.ip_address],
        "opc-principal": [_write_opc_principal(call, fill)],
        "opc-request-id": [fill.request_id],
    }
    if principal.kind in {PrincipalKind.CONSOLE, PrincipalKind.FEDERATED}:
        headers["Accept-Language"] = ["en-US,en;q=0.5"]
        headers["Origin"] = ["https://cloud.oracle.com"]
        headers["Referer"] = ["https://cloud.oracle.com/"]
    else:
        headers["opc-client-info"] = [principal.user_agent.partition(" ")[0]]
    return headers


def _write_opc_principal(call: Call, fill: Fill) -> str:
    """Write the header in which services pass on who called, secrets masked."""
    claims = {
        "pstype": call.principal.kind.value,
        "h_host": f"{call.event_type.service.lower()}.{fill.region}.oraclecloud.com",
        "ptype": "instance" if call.principal.kind is PrincipalKind.INSTANCE else "user",
        "authorization": 'Signature algorithm="rsa-sha256",signature="*****",version="1"',
    }
    content = {
        "tenantId": call.tenancy_id,
        "subjectId": call.principal.id,
        "claims": [{"key": key, "value": value, "issuer": _ISSUER} for key, value in claims.items()],
    }
    return json.dumps(content, separators=(",", ":"))


def _shape_response_headers(fill: Fill) -> JsonObject:
    """Shape the response's headers."""
    return {
        "Access-Control-Expose-Headers": [
            "opc-previous-page,opc-next-page,opc-client-info,ETag,opc-total-items,opc-request-id,Location"
        ],
        "Content-Type": ["application/json"],
        "Date": [fill.http_date],
        "X-Content-Type-Options": ["nosniff"],
        "opc-request-id": [fill.request_id],
    }


def _shape_payload(call: Call, fill: Fill) -> JsonObject | None:
    """Shape the response's body: there is one after a change."""
    if not call.event_type.is_change:
        return None
    return {"resourceName": fill.resource_name, "id": fill.resource_id}


def _shape_state_change(call: Call, fill: Fill) -> JsonObject:
    """Shape what an update has changed."""
    if call.event_type.action != "PUT" or call.outcome.code:
        return {"previous": {}, "current": {}}
    return {
        "previous": {"displayName": fill.resource_name, "lifecycleState": "AVAILABLE"},
        "current": {"displayName": fill.resource_name, "lifecycleState": "UPDATING", "version": 2},
    }


_MARK = re.compile(r"@@(\w+)@@")
MARKED_FILL = Fill(**{name: f"@@{name}@@" for name in FILL_NAMES})


class Template:
    """An event's JSON text in which the marked values are gaps."""

    def __init__(self, event: JsonObject) -> None:
        """Keep the text of an event that was shaped with MARKED_FILL."""
        text = write_compact(event).decode().replace("%", "%%")
        self._text = _MARK.sub(r"%(\1)s", text)

    def render(self, values: Mapping[str, str]) -> bytes:
        """Put the values into the gaps; they are the contents of JSON strings already."""
        return (self._text % values).encode()


def write_compact(event: JsonObject) -> bytes:
    """Write an event without white space, in UTF-8."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()
