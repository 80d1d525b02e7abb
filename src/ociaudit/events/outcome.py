"""Whether what an event tells of succeeded.

Owns: that decision, from the three places in which Audit may state it. Pure.
Source: recorded events; sign-ins have no status and tell their outcome in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

Outcome = Literal["success", "failure", "unknown"]

_WORDS: Mapping[str, Outcome] = {"success": "success", "failure": "failure"}
_SIGN_IN_TYPES = ("IdentitySignOn.", "sso.session.create.", "sso.authentication.")


def read_outcome(event: Mapping[str, Any]) -> Outcome:
    """Read the outcome: `response.status`, else `additionalDetails.eventId`, else `data.message`."""
    data = _mapping(event.get("data"))
    status = str(_mapping(data.get("response")).get("status") or "")
    if status.isdecimal():
        return "success" if float(status) < 400 else "failure"  # an int of 5,000 digits is refused
    details = str(_mapping(data.get("additionalDetails")).get("eventId") or "")
    word = _WORDS.get(details.rsplit(".", 1)[-1])
    if word is not None:
        return word
    message = str(data.get("message") or "").casefold()
    if "fail" in message:
        return "failure"
    return "success" if "succe" in message else "unknown"


def is_sign_in(event: Mapping[str, Any]) -> bool:
    """Tell whether an event is somebody signing in to the console, or trying to."""
    data = _mapping(event.get("data"))
    texts = (event.get("eventType"), _mapping(data.get("additionalDetails")).get("eventId"))
    return any(isinstance(text, str) and kind in text for text in texts for kind in _SIGN_IN_TYPES)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
