"""What the event of a sign-in looks like: most of what a call has is null.

Owns: names, nesting and order of the fields.
Must not: draw anything; every value that varies is an argument.
"""

from __future__ import annotations

from dataclasses import dataclass

from ociaudit_emulator.event_shape import Fill, JsonObject, shape_envelope
from ociaudit_emulator.event_types import EventType


@dataclass(frozen=True, slots=True)
class SignIn:
    """A sign-in or a change of one's own password; it tells its outcome in words only."""

    tenancy_id: str
    event_type: EventType
    principal_name: str
    user_agent: str
    domain_event: str
    is_success: bool


def shape_sign_in(sign_in: SignIn, fill: Fill) -> JsonObject:
    """Shape the event of a sign-in."""
    event = shape_envelope(sign_in.event_type, "", fill)
    name = sign_in.event_type.name
    ending = "succeeded" if sign_in.is_success else "failed"
    event["data"] = {
        "additionalDetails": _shape_sign_in_details(sign_in, fill),
        "availabilityDomain": fill.availability_domain,
        "compartmentId": sign_in.tenancy_id,
        "compartmentName": fill.compartment_name,
        "definedTags": None,
        "eventGroupingId": None,
        "eventName": name,
        "freeformTags": None,
        "identity": {
            "authType": None,
            "callerId": None,
            "callerName": None,
            "consoleSessionId": None,
            "credentials": None,
            "ipAddress": fill.ip_address,
            "principalId": None,
            "principalName": sign_in.principal_name,
            "tenantId": sign_in.tenancy_id,
            "userAgent": sign_in.user_agent,
        },
        "message": f" {name} {ending}",
        "request": {"action": None, "headers": None, "id": fill.request_id, "parameters": None, "path": None},
        "resourceId": None,
        "response": {
            "headers": None,
            "message": None,
            "payload": None,
            "responseTime": fill.response_time,
            "status": None,
        },
        "stateChange": {"current": None, "previous": None},
    }
    return event


def _shape_sign_in_details(sign_in: SignIn, fill: Fill) -> JsonObject:
    """Shape what the identity domain adds: the outcome stands in `eventId`."""
    comment = "Session create success" if sign_in.is_success else "Invalid credentials"
    factor = "AUTH_SUCCESS" if sign_in.is_success else "AUTH_FAILED"
    return {
        "actorDisplayName": sign_in.principal_name.partition("@")[0],
        "actorOcid": fill.session_id,
        "actorType": "User",
        "clientIp": fill.ip_address,
        "domainName": "idcs-example",
        "domainDisplayName": "Default",
        "eventId": sign_in.domain_event,
        "hostIp": "10.244.28.18",
        "message": comment,
        "rId": "0:1:6:14",
        "ssoApplicationId": "LoginClient_APPID",
        "ssoApplicationName": "IAM LoginClient",
        "ssoBrowser": "Firefox",
        "ssoComments": comment,
        "ssoCompletedFactors": f"{{USERNAME_PASSWORD={factor}}}",
        "ssoIdentityProvider": "UserNamePassword",
        "ssoIdentityProviderType": "LOCAL",
        "ssoMatchedSignOnPolicy": "DefaultSignOnPolicy",
        "ssoMatchedSignOnRuleName": "Default Sign-On Rule",
        "ssoPlatform": "Windows",
        "ssoProtectedResource": "https://cloud.oracle.com",
        "ssoSessionId": fill.session_id,
        "ssoUserAgent": sign_in.user_agent,
        "loginAttempt": 1,
    }
