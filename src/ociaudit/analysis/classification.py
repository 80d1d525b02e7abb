"""The classification of events: sign-ins, changes to IAM, and the kinds of change that detections look for.

An event is classified by its names alone, so `stats` classifies each distinct set of names once. `read_batch` reads
the fields of many events side by side, one list for each field, so that counting can run in C.

Source of the names: Oracle's documentation of the events that its services emit, and recorded events.

Invariants
- Names are compared without regard to case; the suffixes `.begin` and `.end` of the Events service are ignored.
- An event whose name is not listed is at most a change to IAM, decided by its service and its verb.
- Every list of an `EventBatch` except `pairs` has one entry for each event; all lists are in the events' order.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from ociaudit.events.fields import (
    OUTCOME_BY_STATUS,
    Data,
    Details,
    Facts,
    Identity,
    Outcome,
    Response,
    is_sign_in,
    judge_outcome,
    read_facts,
    read_instant,
    split_addresses,
)

ChangeKind = Literal["credential", "permission", "mfa", "user", "monitoring", "data access"]
Pair = tuple[str, str]
"""(principal, address). A principal is a name, or else an id; either text is empty where the event has none."""
ClassificationKey = str | tuple[str | None, str | None, str | None]
"""What a classification depends on: (event type, event name, domain event), or the event type where that suffices."""

_NAMES: Mapping[ChangeKind, str] = MappingProxyType(
    {
        "credential": """
            UploadApiKey CreateApiKey CreateAuthToken CreateCustomerSecretKey CreateSmtpCredential CreateDbCredential
            CreateOAuthClientCredential CreateOAuth2ClientCredential CreateSwiftPassword CreateOrResetPassword
            CreateOrResetUIPassword UpdateUserUIPassword""",
        "permission": """
            CreatePolicy UpdatePolicy DeletePolicy AddUserToGroup CreateDynamicGroup UpdateDynamicGroup
            CreateIdentityProvider UpdateIdentityProvider CreateIdpGroupMapping UpdateIdpGroupMapping
            UpdateAuthenticationPolicy UpdateUserCapabilities CreateNetworkSource UpdateNetworkSource""",
        "mfa": "DeleteMfaTotpDevice",
        "user": "CreateUser UpdateUserState DeleteUser",
        "monitoring": """
            DeleteLog DeleteLogGroup DeleteServiceConnector DeactivateServiceConnector DeleteDetectorRecipe
            DeleteFlowLog DeleteUnifiedAgentConfiguration""",
        "data access": """
            GetSecretBundle GetSecretBundleByName GenerateAutonomousDatabaseWallet CreatePreauthenticatedRequest
            CreateKubeconfig ExportImage GetConsoleHistoryContent ExportKey""",
    }
)
_KINDS: Mapping[str, ChangeKind] = MappingProxyType(
    {name.casefold(): kind for kind, names in _NAMES.items() for name in names.split()}
)
_SERVICE_KINDS: tuple[tuple[str, str, ChangeKind], ...] = (
    ("audit", "updateconfiguration", "monitoring"),
    ("cloudguard", "updateconfiguration", "monitoring"),
    ("cloudguard", "deletetarget", "monitoring"),
    ("event", "deleterule", "monitoring"),
)
"""Names that several services share: (part of the service, name, kind)."""
_DOMAIN_CREDENTIAL = re.compile(
    r"apikey|authtoken|customersecretkey|smtpcredential|dbcredential|password", re.IGNORECASE
)
_IAM_SERVICES = ("identitycontrolplane", "identityprovisioning", "identitydomain", "compartments")
_READING = re.compile(r"(get|list|search|summarize|head|validate|check|test|authenticate|fetch|read|count|describe)")
_DOMAIN_READING = re.compile(r"\.(search|get|list|read|view)\.", re.IGNORECASE)
_NO_DATA, _NO_IDENTITY, _NO_RESPONSE, _NO_DETAILS = Data(), Identity(), Response(), Details()
_NO_SOURCE = ("",)


class EventClass(NamedTuple):
    """The classification of an event; `kind` is None for most events."""

    is_sign_in: bool
    is_iam_change: bool
    kind: ChangeKind | None


ORDINARY = EventClass(is_sign_in=False, is_iam_change=False, kind=None)


def classify_event(event_type: str | None, event_name: str | None, domain_event: str | None) -> EventClass:
    """Return the classification of an event with these names.

    `domain_event` is the identity domain's own name of the event, as in `Facts.domain_event`. An ordinary event
    returns the object `ORDINARY` itself, so that callers can compare by identity.
    """
    service, name = _split_type(event_type or event_name or "")
    kind = _KINDS.get(name) or _find_service_kind(service, name)
    is_change = any(one in service for one in _IAM_SERVICES) and not _READING.match(name)
    if domain_event and domain_event.startswith("admin."):
        is_change = not _DOMAIN_READING.search(domain_event)
        if kind is None and is_change and _DOMAIN_CREDENTIAL.search(domain_event):
            kind = "credential"
    event_class = EventClass(is_sign_in(event_type, domain_event), is_change, kind)
    return ORDINARY if event_class == ORDINARY else event_class


def is_data_access(event_name: str) -> bool:
    """Return whether an event of this name fetches secrets or takes data out of the tenancy."""
    return _KINDS.get(event_name.casefold()) == "data access"


def _split_type(event_type: str) -> tuple[str, str]:
    """Return (service, name) of `com.oraclecloud.service.Name`, in lower case."""
    folded = event_type.casefold().removesuffix(".begin").removesuffix(".end")
    service, _, name = folded.rpartition(".")
    return service, name


def _find_service_kind(service: str, name: str) -> ChangeKind | None:
    for service_part, shared_name, kind in _SERVICE_KINDS:
        if name == shared_name and service_part in service:
            return kind
    return None


class EventBatch(NamedTuple):
    """The fields of many events, side by side."""

    raws: Sequence[bytes]
    facts: list[Facts]
    datas: list[Data]
    identities: list[Identity]
    statuses: list[str | None]
    outcomes: list[Outcome]
    instants: list[int]
    keys: list[ClassificationKey]
    principals: list[str]
    pairs: list[tuple[Pair, int]]
    """The pair and the index of its event; an event with several addresses has one entry for each of them."""


def read_pairs(facts: Facts) -> list[Pair]:
    """Return the pairs of one event: its principal with each of its addresses."""
    identity = facts.identity
    principal = identity.principal_name or identity.principal_id or identity.caller_name or ""
    return [(principal, address) for address in facts.addresses or _NO_SOURCE]


def read_batch(raws: Sequence[bytes]) -> EventBatch:
    """Read events in shape `api`.

    Raises:
        ValueError: one of them is not a JSON object.
    """
    facts = list(map(read_facts, raws))
    datas = [one.data or _NO_DATA for one in facts]
    identities = [data.identity or _NO_IDENTITY for data in datas]
    principals = [one.principal_name or one.principal_id or one.caller_name or "" for one in identities]
    statuses = [(data.response or _NO_RESPONSE).status for data in datas]
    domain_events = [(data.additional_details or _NO_DETAILS).event_id for data in datas]
    return EventBatch(
        raws=raws,
        facts=facts,
        datas=datas,
        identities=identities,
        statuses=statuses,
        outcomes=[
            OUTCOME_BY_STATUS.get(status) or judge_outcome(status, domain_event, data.message)
            for status, domain_event, data in zip(statuses, domain_events, datas, strict=True)
        ],
        instants=[read_instant(one.event_time) for one in facts],
        keys=[
            one.event_type
            if one.event_type and domain_event is None
            else (one.event_type, data.event_name, domain_event)
            for one, data, domain_event in zip(facts, datas, domain_events, strict=True)
        ],
        principals=principals,
        pairs=[
            ((principal, address), index)
            for index, (principal, identity) in enumerate(zip(principals, identities, strict=True))
            for address in split_addresses(identity.ip_address) or _NO_SOURCE
        ],
    )
