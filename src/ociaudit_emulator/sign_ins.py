"""The events of sign-ins and credential changes, the operations that people search for by name.

The shape of a sign-in differs from that of an API call: most of its fields are null. When each event happens is
decided by `special_events`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ociaudit_emulator.event_shape import (
    AuditedCall,
    EventValues,
    JsonObject,
    Outcome,
    encode_compact,
    shape_call,
    shape_envelope,
)
from ociaudit_emulator.event_types import (
    CHANGE_PASSWORD,
    CREDENTIAL_TYPES,
    FEDERATED_LOGIN,
    INTERACTIVE_LOGIN,
    RESET_PASSWORD,
    VERIFY_MFA,
    EventType,
    find_event_type,
)
from ociaudit_emulator.tenancy import Tenancy

MakeEvent = Callable[[Tenancy, EventValues], bytes]


@dataclass(frozen=True, slots=True)
class SignInAttempt:
    """A sign-in or a change of the user's own password; its event has no status, only a message."""

    tenancy_id: str
    event_type: EventType
    principal_name: str
    user_agent: str
    domain_event: str
    is_success: bool


def shape_sign_in(sign_in: SignInAttempt, values: EventValues) -> JsonObject:
    """Return the event of a sign-in."""
    event = shape_envelope(sign_in.event_type, "", values)
    name = sign_in.event_type.name
    ending = "succeeded" if sign_in.is_success else "failed"
    event["data"] = {
        "additionalDetails": _shape_sign_in_details(sign_in, values),
        "availabilityDomain": values.availability_domain,
        "compartmentId": sign_in.tenancy_id,
        "compartmentName": values.compartment_name,
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
            "ipAddress": values.ip_address,
            "principalId": None,
            "principalName": sign_in.principal_name,
            "tenantId": sign_in.tenancy_id,
            "userAgent": sign_in.user_agent,
        },
        "message": f" {name} {ending}",
        "request": {"action": None, "headers": None, "id": values.request_id, "parameters": None, "path": None},
        "resourceId": None,
        "response": {
            "headers": None,
            "message": None,
            "payload": None,
            "responseTime": values.response_time,
            "status": None,
        },
        "stateChange": {"current": None, "previous": None},
    }
    return event


def _shape_sign_in_details(sign_in: SignInAttempt, values: EventValues) -> JsonObject:
    """Return the details that the identity domain adds; their `eventId` holds the outcome."""
    comment = "Session create success" if sign_in.is_success else "Invalid credentials"
    factor = "AUTH_SUCCESS" if sign_in.is_success else "AUTH_FAILED"
    return {
        "actorDisplayName": sign_in.principal_name.partition("@")[0],
        "actorOcid": values.session_id,
        "actorType": "User",
        "clientIp": values.ip_address,
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
        "ssoSessionId": values.session_id,
        "ssoUserAgent": sign_in.user_agent,
        "loginAttempt": 1,
    }


@dataclass(frozen=True, slots=True)
class _DomainEvent:
    """An event of an identity domain, recorded with an operation."""

    name: str
    event_type: EventType
    principal_name: str

    @property
    def is_success(self) -> bool:
        """Return whether the name is not that of a failure."""
        return not self.name.endswith("failure")


_DOMAIN_EVENTS = (
    _DomainEvent("sso.session.create.success", INTERACTIVE_LOGIN, "anna.berg@example.com"),
    _DomainEvent("sso.session.create.failure", INTERACTIVE_LOGIN, "mei.tanaka@example.com"),
    _DomainEvent("sso.authentication.failure", INTERACTIVE_LOGIN, "tom.okafor@example.com"),
    _DomainEvent("sso.session.modify.success", INTERACTIVE_LOGIN, "anna.berg@example.com"),
    _DomainEvent("sso.session.delete.success", INTERACTIVE_LOGIN, "anna.berg@example.com"),
    _DomainEvent("sso.session.create.success", FEDERATED_LOGIN, "exampleidp/li.wei@example.com"),
    _DomainEvent("sso.auth.factor.initiated", VERIFY_MFA, "jörg.müller@example.com"),
    _DomainEvent("sso.authentication.failure", VERIFY_MFA, "jörg.müller@example.com"),
    _DomainEvent("admin.me.password.change.success", CHANGE_PASSWORD, "mei.tanaka@example.com"),
    _DomainEvent("admin.user.password.reset.success", RESET_PASSWORD, "tom.okafor@example.com"),
    _DomainEvent("admin.me.locked.success", find_event_type("UpdateUserState"), "exampleidp/li.wei@example.com"),
)


def _make_domain_event(event: _DomainEvent, tenancy: Tenancy, values: EventValues) -> bytes:
    user_agent = tenancy.find_principal(event.principal_name).user_agent
    sign_in = SignInAttempt(
        tenancy.id,
        event.event_type,
        event.principal_name,
        user_agent,
        event.name,
        is_success=event.is_success,
    )
    return encode_compact(shape_sign_in(sign_in, values))


def _make_credential_change(event_type: EventType, tenancy: Tenancy, values: EventValues) -> bytes:
    """Return the event of a change of credentials in the console."""
    call = AuditedCall(tenancy.id, event_type, tenancy.find_principal("anna.berg@example.com"), Outcome("200"))
    return encode_compact(shape_call(call, values))


SIGN_INS: Mapping[str, MakeEvent] = {
    **{f"{one.event_type.name} {one.name}": partial(_make_domain_event, one) for one in _DOMAIN_EVENTS},
    **{one.name: partial(_make_credential_change, one) for one in CREDENTIAL_TYPES},
}
