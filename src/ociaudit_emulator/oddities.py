r"""Odd events: whatever has been seen in the wild and breaks careless readers.

Owns: one function per oddity, and the names by which tests find them.
Must not: decide when they come, or make an event that Oracle's own SDK cannot read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from ociaudit_emulator.event_shape import Call, Fill, Outcome, shape_call
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.template import write_compact
from ociaudit_emulator.tenancy import Tenancy

WriteOddity = Callable[[Tenancy, Fill], bytes]

SCANNER_NAME = "recon-scanner"
_LARGE_EVENT_ENTRIES = 800
# What someone can type into a user agent to hurt those who read it later.
HOSTILE_TEXTS: Mapping[str, str] = {
    "terminal escape": "curl/8.5 \x1b]0;owned\x07\x1b[31m\x1b[2J",
    "bidirectional override": "curl/8.5 \u202egnp.exe\u202c",
    "markup": "<script>alert(document.cookie)</script><img src=x onerror=alert(1)>",
    "formula": "=cmd|' /C calc'!A0",
    "line breaks": "curl/8.5\r\n2025-01-01T00:00:00Z forged line\u2028next\u2029",
    "null character": "curl/8.5\x00hidden",
}


def _shape(tenancy: Tenancy, fill: Fill, name: str = "ListUsers", caller: str = "tom.okafor@example.com") -> Any:
    """Shape a plain call, to be made odd."""
    call = Call(tenancy.id, find_event_type(name), tenancy.find_principal(caller), Outcome("200"))
    return shape_call(call, fill)


def _write_address_list(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a call that came through a proxy: the address is a list with a comma."""
    return write_compact(_shape(tenancy, replace(fill, ip_address="10.0.64.84,252.138.125.19")))


def _write_unknown_fields(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event with fields that the SDK does not know, on every level."""
    event = _shape(tenancy, fill, "UpdatePolicy")
    event["tagSlug"] = "AAAAAQAAAAE="
    event["data"] |= {
        "systemTags": {"orcl-cloud": {"free-tier-retained": "true"}},
        "securityAttributes": {"Oracle-ZPR": {"zone": {"value": "internal", "mode": "enforce"}}},
        "internalDetails": {"attributes": None},
    }
    event["data"]["identity"]["sessionContext"] = {"mfa": True}
    return write_compact(event)


def _write_integers(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event with numbers that floating point would change."""
    event = _shape(tenancy, fill)
    event["data"]["additionalDetails"] = {
        "X-Real-Port": 60760,
        "bytesSent": 18446744073709551615,
        "ratio": "@@",
    }
    return write_compact(event).replace(b'"@@"', b"1.10E+2")


def _write_surrogate(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a user agent with half of a surrogate pair, which is JSON but no Unicode."""
    event = _shape(tenancy, fill, "GetUser")
    event["data"]["identity"]["userAgent"] = "python-requests/2.32 \ud800 broken"
    return json.dumps(event, separators=(",", ":")).encode()


def _write_pretty(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event over many lines."""
    return json.dumps(_shape(tenancy, fill, "ListPolicies"), indent=1, ensure_ascii=False).encode()


def _write_escapes(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write the same characters raw and escaped; whoever writes JSON anew changes one of them."""
    event = _shape(tenancy, fill)
    event["data"]["resourceName"] = "größe-🔑-@@"
    return write_compact(event).replace(b"@@", rb"gr\u00f6\u00DFe-\ud83d\udd11-a\/b")


def _write_nanoseconds(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a time that is finer than a microsecond."""
    return write_compact(_shape(tenancy, replace(fill, event_time=fill.event_time.replace("Z", "123456Z"))))


def _write_nulls(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event in which everything is null that may be."""
    event = _shape(tenancy, fill)
    kept = {"compartmentId", "eventName"}
    event["data"] = {name: value if name in kept else None for name, value in event["data"].items()}
    return write_compact(event)


def _write_sparse(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event that has hardly any field, and its data first."""
    data = {"eventName": "ListUsers", "compartmentId": tenancy.id}
    plain = _shape(tenancy, fill)
    names = ("eventType", "eventId", "eventTime")
    return write_compact({"data": data, **{name: plain[name] for name in names}})


def _write_secrets(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event whose headers hold what should have been masked."""
    event = _shape(tenancy, fill)
    event["data"]["request"]["headers"] |= {
        "Authorization": ["Bearer example-not-a-secret-0001"],
        "Cookie": ["session=example-not-a-secret-0002"],
        "opc-obo-token": ["example-not-a-secret-0003"],
    }
    return write_compact(event)


def _write_service_caller(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a call that a service made on behalf of a user."""
    event = _shape(tenancy, fill, "ListCompartments", "exampleidp/li.wei@example.com")
    event["data"]["identity"] |= {
        "callerName": "loganalytics",
        "callerId": "loganalytics/C5C0E55526E263A3F9B1255D",
    }
    return write_compact(event)


def _write_large(tenancy: Tenancy, fill: Fill) -> bytes:
    """Write an event of more than 60 KB."""
    event = _shape(tenancy, fill, "UpdatePolicy")
    statement = "Allow group readers to read audit-events in tenancy where request.region = 'iad' -- {}"
    statements = [statement.format(number) for number in range(_LARGE_EVENT_ENTRIES)]
    event["data"]["stateChange"] = {"previous": {"statements": []}, "current": {"statements": statements}}
    return write_compact(event)


def _write_hostile(text: str, tenancy: Tenancy, fill: Fill) -> bytes:
    """Write a refused call of a scanner that types hostile text into its user agent and names."""
    scanner = replace(tenancy.find_principal("tom.okafor@example.com"), name=SCANNER_NAME, user_agent=text)
    outcome = Outcome("404", "NotAuthorizedOrNotFound")
    call = Call(tenancy.id, find_event_type("ListUsers"), scanner, outcome)
    event = shape_call(call, replace(fill, ip_address="198.51.100.200"))
    return write_compact({**event, "resourceName": text})


ODDITIES: Mapping[str, WriteOddity] = {
    "address list": _write_address_list,
    "unknown fields": _write_unknown_fields,
    "integers": _write_integers,
    "lone surrogate": _write_surrogate,
    "pretty printed": _write_pretty,
    "escapes": _write_escapes,
    "nanoseconds": _write_nanoseconds,
    "nulls": _write_nulls,
    "sparse": _write_sparse,
    "secrets": _write_secrets,
    "service caller": _write_service_caller,
    "large": _write_large,
    **{f"hostile {name}": partial(_write_hostile, text) for name, text in HOSTILE_TEXTS.items()},
}
