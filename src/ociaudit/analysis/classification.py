"""What a kind of event means to somebody who looks for trouble.

Owns: which events are sign-ins, changes to IAM, new credentials, wider rights, a weaker second factor, blinded
watchers and things taken away. Pure; decided by names alone, and so once for each name.

Invariants
- Names are compared without regard to case; `.begin` and `.end` of the Events service do not count.
- A name that is not listed is never more than a change to IAM, by its service and its verb.

Source: Oracle's documentation of the services' events, and recorded events.

Some events side by side: a list for each thing that is counted, so that counting runs in C.

Owns: reading events into such lists. Must not: count.

Invariant: every list but `pairs` has one entry for each event; all are in the order of the events.
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

ChangeKind = Literal["credential", "rights", "second factor", "people", "blinding", "taking"]


class EventClass(NamedTuple):
    """What the name of an event tells; `kind` is None for most."""

    is_sign_in: bool
    is_iam_change: bool
    kind: ChangeKind | None


ORDINARY = EventClass(is_sign_in=False, is_iam_change=False, kind=None)
_NAMES: Mapping[ChangeKind, str] = MappingProxyType(
    {
        "credential": """
            UploadApiKey CreateApiKey CreateAuthToken CreateCustomerSecretKey CreateSmtpCredential CreateDbCredential
            CreateOAuthClientCredential CreateOAuth2ClientCredential CreateSwiftPassword CreateOrResetPassword
            CreateOrResetUIPassword UpdateUserUIPassword""",
        "rights": """
            CreatePolicy UpdatePolicy DeletePolicy AddUserToGroup CreateDynamicGroup UpdateDynamicGroup
            CreateIdentityProvider UpdateIdentityProvider CreateIdpGroupMapping UpdateIdpGroupMapping
            UpdateAuthenticationPolicy UpdateUserCapabilities CreateNetworkSource UpdateNetworkSource""",
        "second factor": "DeleteMfaTotpDevice",
        "people": "CreateUser UpdateUserState DeleteUser",
        "blinding": """
            DeleteLog DeleteLogGroup DeleteServiceConnector DeactivateServiceConnector DeleteDetectorRecipe
            DeleteFlowLog DeleteUnifiedAgentConfiguration""",
        "taking": """
            GetSecretBundle GetSecretBundleByName GenerateAutonomousDatabaseWallet CreatePreauthenticatedRequest
            CreateKubeconfig ExportImage GetConsoleHistoryContent ExportKey""",
    }
)
_KINDS: Mapping[str, ChangeKind] = MappingProxyType(
    {name.casefold(): kind for kind, names in _NAMES.items() for name in names.split()}
)
_SERVICE_KINDS: tuple[tuple[str, str, ChangeKind], ...] = (
    ("audit", "updateconfiguration", "blinding"),
    ("cloudguard", "updateconfiguration", "blinding"),
    ("cloudguard", "deletetarget", "blinding"),
    ("event", "deleterule", "blinding"),
)
"""Names that several services have: (part of the service, name, kind)."""
_DOMAIN_CREDENTIAL = re.compile(
    r"apikey|authtoken|customersecretkey|smtpcredential|dbcredential|password", re.IGNORECASE
)
_IAM_SERVICES = ("identitycontrolplane", "identityprovisioning", "identitydomain", "compartments")
_READING = re.compile(r"(get|list|search|summarize|head|validate|check|test|authenticate|fetch|read|count|describe)")
_DOMAIN_READING = re.compile(r"\.(search|get|list|read|view)\.", re.IGNORECASE)


def classify_event(event_type: str | None, event_name: str | None, domain_event: str | None) -> EventClass:
    """Find out what an event of these names means; `domain_event` as in `events.facts`.

    What means nothing is the object `ORDINARY` itself.
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


def is_taking(event_name: str) -> bool:
    """Tell whether an event of this name takes secrets or data out."""
    return _KINDS.get(event_name.casefold()) == "taking"


def _split_type(event_type: str) -> tuple[str, str]:
    """Return (service, name) of `com.oraclecloud.service.Name`, in lower case."""
    folded = event_type.casefold().removesuffix(".begin").removesuffix(".end")
    service, _, name = folded.rpartition(".")
    return service, name


def _find_service_kind(service: str, name: str) -> ChangeKind | None:
    for part, wanted, kind in _SERVICE_KINDS:
        if name == wanted and part in service:
            return kind
    return None


_NO_DATA, _NO_IDENTITY, _NO_RESPONSE, _NO_DETAILS = Data(), Identity(), Response(), Details()
_NO_SOURCE = ("",)
Pair = tuple[str, str]
EventKind = str | tuple[str | None, str | None, str | None]
"""The event type; or event type, event name and the identity domain's own name, where there is more than the type."""


class EventBatch(NamedTuple):
    """Events side by side. A principal is a name, else an id; an empty text stands for none, as for no address."""

    raws: Sequence[bytes]
    facts: list[Facts]
    datas: list[Data]
    identities: list[Identity]
    statuses: list[str | None]
    outcomes: list[Outcome]
    instants: list[int]
    kinds: list[EventKind]
    """All that its meaning depends on."""
    people: list[str]
    pairs: list[tuple[Pair, int]]
    """(principal, address) and the index of the event, which comes once for each of its addresses."""


def read_batch(raws: Sequence[bytes]) -> EventBatch:
    """Read events.

    Raises:
        ValueError: one is not a JSON object.
    """
    facts = list(map(read_facts, raws))
    datas = [one.data or _NO_DATA for one in facts]
    identities = [data.identity or _NO_IDENTITY for data in datas]
    people = [one.principal_name or one.principal_id or one.caller_name or "" for one in identities]
    statuses = [(data.response or _NO_RESPONSE).status for data in datas]
    details = [(data.additional_details or _NO_DETAILS).event_id for data in datas]
    return EventBatch(
        raws=raws,
        facts=facts,
        datas=datas,
        identities=identities,
        statuses=statuses,
        outcomes=[
            OUTCOME_BY_STATUS.get(status) or judge_outcome(status, detail, data.message)
            for status, detail, data in zip(statuses, details, datas, strict=True)
        ],
        instants=[read_instant(one.event_time) for one in facts],
        kinds=[
            one.event_type if one.event_type and detail is None else (one.event_type, data.event_name, detail)
            for one, data, detail in zip(facts, datas, details, strict=True)
        ],
        people=people,
        pairs=_pair(people, identities),
    )


def _pair(people: Sequence[str], identities: Sequence[Identity]) -> list[tuple[Pair, int]]:
    return [
        ((person, address), index)
        for index, (person, one) in enumerate(zip(people, identities, strict=True))
        for address in split_addresses(one.ip_address) or _NO_SOURCE
    ]
