"""The fields of an audit event that Oracle's Python SDK knows, in the API's spelling and the SDK's order.

Owns: that table. Source: `attribute_map` and `swagger_types` of the models in `oci.audit.models`.
Must not: import the SDK, which is big and slow to import; a contract test holds the table against it.

Invariant: a type that is itself a key of the table is a model; every other type is a value or a free map.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TIME = "datetime"
"""The type of the fields that hold an RFC 3339 time."""

EVENT = "AuditEvent"
"""The model of a whole event."""

SDK_FIELDS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        EVENT: {
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
