"""Sign-ins and credential changes: everything that people look for by name.

Owns: the turns of sign-ins (old style and identity domains) and of changed credentials.
Must not: decide when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from ociaudit_emulator.event_shape import Call, Fill, Outcome, shape_call
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
from ociaudit_emulator.sign_in_shape import SignIn, shape_sign_in
from ociaudit_emulator.template import write_compact
from ociaudit_emulator.tenancy import Tenancy

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
