"""What a kind of event means to somebody who looks for trouble.

Owns: which events are sign-ins, changes to IAM, new credentials, wider rights, a weaker second factor, blinded
watchers and things taken away. Pure; decided by names alone, and so once for each name.

Invariants
- Names are compared without regard to case; `.begin` and `.end` of the Events service do not count.
- A name that is not listed is never more than a change to IAM, by its service and its verb.

Source: Oracle's documentation of the services' events, and recorded events.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from ociaudit.events.outcome import is_sign_in

Kind = Literal["credential", "rights", "second factor", "people", "blinding", "taking"]


class Meaning(NamedTuple):
    """What the name of an event tells; `kind` is None for most."""

    is_sign_in: bool
    is_iam_change: bool
    kind: Kind | None


ORDINARY = Meaning(is_sign_in=False, is_iam_change=False, kind=None)
_NAMES: Mapping[Kind, str] = MappingProxyType(
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
_KINDS: Mapping[str, Kind] = MappingProxyType(
    {name.casefold(): kind for kind, names in _NAMES.items() for name in names.split()}
)
_SERVICE_KINDS: tuple[tuple[str, str, Kind], ...] = (
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


def find_meaning(event_type: str | None, event_name: str | None, domain_event: str | None) -> Meaning:
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
    meaning = Meaning(is_sign_in(event_type, domain_event), is_change, kind)
    return ORDINARY if meaning == ORDINARY else meaning


def is_taking(event_name: str) -> bool:
    """Tell whether an event of this name takes secrets or data out."""
    return _KINDS.get(event_name.casefold()) == "taking"


def _split_type(event_type: str) -> tuple[str, str]:
    """Return (service, name) of `com.oraclecloud.service.Name`, in lower case."""
    folded = event_type.casefold().removesuffix(".begin").removesuffix(".end")
    service, _, name = folded.rpartition(".")
    return service, name


def _find_service_kind(service: str, name: str) -> Kind | None:
    for part, wanted, kind in _SERVICE_KINDS:
        if name == wanted and part in service:
            return kind
    return None
