"""Which events change who may do what: users, groups, policies, credentials, second factors.

Owns: that predicate. Pure. Source: the event types in API-FACTS and the identity domains' own names.
"""

from __future__ import annotations

_PLACES = ("identitycontrolplane.", "identityprovisioning.")
_SIGN_ON_CHANGES = ("identitysignon.changepassword", "identitysignon.resetpassword")
_DOMAIN_CHANGES = "admin."
_READING_VERBS = ("get", "list", "read", "search", "summarize", "head", "download", "count")


def is_identity_change(event_type: str | None, domain_event: str | None) -> bool:
    """Tell whether an event of this type changes users, groups, policies or credentials, or tries to."""
    if domain_event and domain_event.startswith(_DOMAIN_CHANGES):
        return True
    folded = event_type.casefold() if event_type else ""
    if any(change in folded for change in _SIGN_ON_CHANGES):
        return True
    if not any(place in folded for place in _PLACES):
        return False
    return not folded.rpartition(".")[2].startswith(_READING_VERBS)
