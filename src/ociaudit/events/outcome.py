"""Whether what an event tells of succeeded.

Owns: that decision, from the three places in which Audit may state it. Pure.
Source: recorded events; sign-ins have no status and tell their outcome in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

Outcome = Literal["success", "failure", "unknown"]

_WORDS: Mapping[str, Outcome] = MappingProxyType({"success": "success", "failure": "failure"})
_SIGN_IN_TYPES = ("IdentitySignOn.", "sso.session.create.", "sso.authentication.")
_FIRST_FAILURE = 400
_LONGEST_STATUS = 9  # Python refuses to read numbers of thousands of digits
OUTCOME_BY_STATUS: Mapping[str | None, Outcome] = MappingProxyType(
    {str(status): "success" if status < _FIRST_FAILURE else "failure" for status in range(100, 600)}
)
"""What the statuses of HTTP tell by themselves: so it is for nearly every event."""


def judge_outcome(status: str | None, detail: str | None, message: str | None) -> Outcome:
    """Judge by `response.status`, else by the suffix of `additionalDetails.eventId`, else by `data.message`."""
    known = OUTCOME_BY_STATUS.get(status)
    if known is not None:
        return known
    if status and status.isascii() and status.isdigit():
        return "success" if len(status) <= _LONGEST_STATUS and int(status) < _FIRST_FAILURE else "failure"
    if detail:
        word = _WORDS.get(detail.rsplit(".", 1)[-1])
        if word is not None:
            return word
    folded = message.casefold() if message else ""
    if "fail" in folded:
        return "failure"
    return "success" if "succe" in folded else "unknown"


def is_sign_in(event_type: str | None, detail: str | None) -> bool:
    """Tell whether an event is somebody signing in to the console, or trying to; `detail` as in `judge_outcome`."""
    return any(kind in text for text in (event_type, detail) if text for kind in _SIGN_IN_TYPES)
