"""What the event of a sign-in looks like: most of what a call has is null.

Owns: names, nesting and order of the fields.
Must not: draw anything; every value that varies is an argument.

Sign-ins and credential changes: everything that people look for by name.

Owns: the turns of sign-ins (old style and identity domains) and of changed credentials.
Must not: decide when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ociaudit_emulator.event_shape import Call, Fill, JsonObject, Outcome, shape_call, shape_envelope, write_compact
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


WriteTurn = Callable[[Tenancy, Fill], bytes]


@dataclass(frozen=True, slots=True)
class _DomainEvent:
    """What an identity domain records beside an operation."""

    name: str
    event_type: EventType
    principal_name: str

    @property
    def is_success(self) -> bool:
        """Say whether it went well; the name's ending tells."""
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


def _write_domain_event(event: _DomainEvent, tenancy: Tenancy, fill: Fill) -> bytes:
    """Write what an identity domain recorded."""
    user_agent = tenancy.find_principal(event.principal_name).user_agent
    sign_in = SignIn(
        tenancy.id,
        event.event_type,
        event.principal_name,
        user_agent,
        event.name,
        is_success=event.is_success,
    )
    return write_compact(shape_sign_in(sign_in, fill))


def _write_credential_change(event_type: EventType, tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a change of someone's credentials, made in the console."""
    call = Call(tenancy.id, event_type, tenancy.find_principal("anna.berg@example.com"), Outcome("200"))
    return write_compact(shape_call(call, fill))


SIGN_INS: Mapping[str, WriteTurn] = {
    **{f"{one.event_type.name} {one.name}": partial(_write_domain_event, one) for one in _DOMAIN_EVENTS},
    **{one.name: partial(_write_credential_change, one) for one in CREDENTIAL_TYPES},
}
