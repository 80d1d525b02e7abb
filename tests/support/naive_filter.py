"""What a filter should let pass, told anew and plainly from an event's parsed JSON.

Owns: an own reading of events and of a filter's rules, so that a mistake of the program shows.
Must not: import the program.
"""

from __future__ import annotations

import fnmatch
import ipaddress
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

Event = Mapping[str, Any]
# What the documentation says of names that Audit does not record: endings of event types and outcome, or domain names.
ASKED: Mapping[str, tuple[tuple[str, ...], str | None, tuple[str, ...]]] = {
    "createapikey": (("identitycontrolplane.uploadapikey",), None, ()),
    "loginfailure": (
        (".interactivelogin", ".federatedinteractivelogin", ".verifymfatoken"),
        "failure",
        ("sso.session.create.failure", "sso.authentication.failure"),
    ),
    "sessiontimeout": ((), None, ("sso.session.delete.success",)),
}


def is_wanted(event: Event, spec: Mapping[str, Any]) -> bool:
    """Tell whether an event passes; `spec` has the fields of a filter by their names."""
    if any(_meets(event, name, values) for name, values in spec.get("exclude", {}).items() if values):
        return False
    if not _is_in_time(event, spec.get("event_after"), spec.get("event_before")):
        return False
    return all(
        _meets(event, name, values)
        for name, values in spec.items()
        if values and name not in {"exclude", "event_after", "event_before"}
    )


def select(lines: Iterable[bytes], spec: Mapping[str, Any]) -> list[bytes]:
    """Return the lines whose events pass, in their order."""
    return [line for line in lines if is_wanted(json.loads(line), spec)]


def read_time(event: Event) -> datetime | None:
    """Return when an event happened, if that can be read."""
    text = event.get("eventTime")
    if not isinstance(text, str) or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


def read_outcome(event: Event) -> str:
    """Return how an event says that it ended."""
    status = _get(event, "data", "response", "status")
    if status and _is_number(status):
        return "success" if int(status) < 400 else "failure"
    ending = (_get(event, "data", "additionalDetails", "eventId") or "").rsplit(".", 1)[-1]
    if ending in {"success", "failure"}:
        return ending
    message = (_get(event, "data", "message") or "").lower()
    if "fail" in message:
        return "failure"
    return "success" if "succe" in message else "unknown"


def _get(event: Event, *path: str) -> str | None:
    value: Any = event
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        return None
    return str(value)


def _is_in_time(event: Event, after: str | None, before: str | None) -> bool:
    moment = read_time(event)
    if moment is None:
        return True
    first, end = (datetime.fromisoformat(text) if text else None for text in (after, before))
    return (first is None or moment >= first) and (end is None or moment < end)


def _meets(event: Event, name: str, values: Sequence[str]) -> bool:
    event_type = _get(event, "eventType") or ""
    match name:
        case "event_types":
            return any(re.search(value, event_type) or _is_asked(event, value) for value in values)
        case "event_names":
            dotted = [value for value in values if "." in value]
            return (
                _has_glob(values, _get(event, "data", "eventName"))
                or _has_glob(dotted, _get(event, "data", "additionalDetails", "eventId"))
                or any(_is_asked(event, value) for value in values)
            )
        case "principals":
            return _has_glob(
                values,
                _get(event, "data", "identity", "principalName"),
                _get(event, "data", "identity", "principalId"),
            )
        case "compartment_names":
            return _has_glob(values, _get(event, "data", "compartmentName"))
        case "resources":
            return _has_glob(values, _get(event, "data", "resourceName"), _get(event, "data", "resourceId"))
        case "addresses":
            return _is_from(_get(event, "data", "identity", "ipAddress"), values)
        case "outcomes":
            return read_outcome(event) in {part.strip().lower() for part in _split(values)}
        case "statuses":
            return _has_status(_get(event, "data", "response", "status"), values)
    raise AssertionError(name)


def _is_asked(event: Event, value: str) -> bool:
    if value.lower() not in ASKED:
        return False
    endings, outcome, domain_names = ASKED[value.lower()]
    event_type = (_get(event, "eventType") or "").lower()
    domain_name = _get(event, "data", "additionalDetails", "eventId") or ""
    is_typed = bool(endings) and event_type.endswith(endings) and outcome in {None, read_outcome(event)}
    return is_typed or domain_name.lower() in domain_names


def _has_glob(values: Iterable[str], *texts: str | None) -> bool:
    return any(
        fnmatch.fnmatchcase(text.casefold(), value.casefold()) for value in values for text in texts if text is not None
    )


def _is_from(text: str | None, values: Sequence[str]) -> bool:
    networks = [ipaddress.ip_network(part.strip(), strict=False) for part in _split(values)]
    for part in (text or "").split(","):
        try:
            address = ipaddress.ip_address(part.strip())
        except ValueError:
            continue
        mapped = getattr(address, "ipv4_mapped", None)
        if any((mapped or address) in network for network in networks):
            return True
    return False


def _is_number(status: str) -> bool:
    return re.fullmatch("[0-9]+", status) is not None


def _has_status(status: str | None, values: Sequence[str]) -> bool:
    if not status or not _is_number(status):
        return False
    for part in _split(values):
        if part.lower().endswith("xx"):
            if len(status) == 3 and status[0] == part[0]:
                return True
        else:
            first, _, last = part.partition("-")
            if int(first) <= int(status) <= int(last or first):
                return True
    return False


def _split(values: Iterable[str]) -> list[str]:
    return [part.strip() for value in values for part in value.split(",")]
