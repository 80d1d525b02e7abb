"""Special events: sign-ins, credential changes, unusual events, long operations and the attack scenario.

The calendar fixes the minutes of a target's special events on each day. An unusual event has properties of real
records that break careless readers; Oracle's own SDK can read every one. A long operation leaves two events that
share their `eventGroupingId`.

Invariants:
- every kind of sign-in, credential change and unusual event happens at least every third day;
- the special events of a day depend only on the seed, the target and the day.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ociaudit_emulator.event_shape import AuditedCall, EventValues, JsonObject, Outcome, encode_compact, shape_call
from ociaudit_emulator.event_store import Target
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.randomness import draw_number, make_hex
from ociaudit_emulator.scenario import find_scenario, list_steps
from ociaudit_emulator.sign_ins import SIGN_INS, MakeEvent
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

SCANNER_NAME = "recon-scanner"
_PERIOD_DAYS = 3
_FIRST_MINUTE, _LAST_MINUTE = 9 * 60, 18 * 60
_LONG_OPERATION_MINUTES = 2
_LEAST_SHARE_FOR_LONG_OPERATIONS = 0.02
_LARGE_EVENT_STATEMENTS = 800
# User agents that attack the terminals, spreadsheets and browsers of their readers.
HOSTILE_TEXTS: Mapping[str, str] = {
    "terminal escape": "curl/8.5 \x1b]0;owned\x07\x1b[31m\x1b[2J",
    "bidirectional override": "curl/8.5 \u202egnp.exe\u202c",
    "markup": "<script>alert(document.cookie)</script><img src=x onerror=alert(1)>",
    "formula": "=cmd|' /C calc'!A0",
    "line breaks": "curl/8.5\r\n2025-01-01T00:00:00Z forged line\u2028next\u2029",
    "null character": "curl/8.5\x00hidden",
}


@dataclass(frozen=True, slots=True)
class SpecialEvent:
    """An event at a fixed minute; `make` returns its bytes from the values drawn for it."""

    minute_of_day: int
    name: str
    make: Callable[[EventValues], bytes]


class SpecialCalendar:
    """The special events of every target and day."""

    def __init__(self, tenancy: Tenancy, seed: int) -> None:
        """Keep what the special events depend on."""
        self._tenancy = tenancy
        self._seed = seed
        self._rotation = {**SIGN_INS, **_UNUSUAL_EVENTS}

    def list_specials(self, target: Target, day: int) -> Sequence[SpecialEvent]:
        """Return the special events of a target on a day since 1970, in the order of their minutes."""
        if target.region != HOME_REGION:
            return ()
        specials = [*self._list_long_operation(target, day), *self._list_scenario(target, day)]
        if target.compartment_id == self._tenancy.id:
            specials += self._list_rotation(day)
        return sorted(specials, key=lambda special: special.minute_of_day)

    def _list_rotation(self, day: int) -> list[SpecialEvent]:
        """Return the sign-ins, credential changes and unusual events that are due on a day."""
        return [
            SpecialEvent(self._draw_minute(name, day), name, partial(make, self._tenancy))
            for number, (name, make) in enumerate(self._rotation.items())
            if (number + day) % _PERIOD_DAYS == 0
        ]

    def _list_long_operation(self, target: Target, day: int) -> list[SpecialEvent]:
        """Return the start and the end of a day's long operation; quiet compartments have none."""
        if self._tenancy.compartment_by_id[target.compartment_id].share < _LEAST_SHARE_FOR_LONG_OPERATIONS:
            return []
        minute = self._draw_minute(target.compartment_id, day)
        name = f"{self._seed} {target.compartment_id} {day}"
        return [
            SpecialEvent(minute, "work begins", partial(_make_start, self._tenancy, name)),
            SpecialEvent(minute + _LONG_OPERATION_MINUTES, "work ends", partial(_make_end, self._tenancy, name)),
        ]

    def _list_scenario(self, target: Target, day: int) -> list[SpecialEvent]:
        """Return the events of the attack scenario in a target, on the days on which it happens."""
        scenario = find_scenario(self._seed, self._tenancy, day)
        if scenario is None:
            return []
        return [
            SpecialEvent(step.minute_of_day, step.name, step.make)
            for step in list_steps(scenario)
            if step.compartment_id == target.compartment_id
        ]

    def _draw_minute(self, name: str, day: int) -> int:
        """Return a minute of the day within office hours."""
        drawn = draw_number("special", self._seed, name, day)
        return _FIRST_MINUTE + drawn % (_LAST_MINUTE - _FIRST_MINUTE)


def _shape(
    tenancy: Tenancy, values: EventValues, name: str = "ListUsers", caller: str = "tom.okafor@example.com"
) -> Any:
    """Return the event of a plain call, to be modified."""
    call = AuditedCall(tenancy.id, find_event_type(name), tenancy.find_principal(caller), Outcome("200"))
    return shape_call(call, values)


def _make_address_list(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return a call through a proxy: its address is a list with a comma."""
    return encode_compact(_shape(tenancy, replace(values, ip_address="10.0.64.84,252.138.125.19")))


def _make_unknown_fields(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with fields on every level that the SDK does not know."""
    event = _shape(tenancy, values, "UpdatePolicy")
    event["tagSlug"] = "AAAAAQAAAAE="
    event["data"] |= {
        "systemTags": {"orcl-cloud": {"free-tier-retained": "true"}},
        "securityAttributes": {"Oracle-ZPR": {"zone": {"value": "internal", "mode": "enforce"}}},
        "internalDetails": {"attributes": None},
    }
    event["data"]["identity"]["sessionContext"] = {"mfa": True}
    return encode_compact(event)


def _make_integers(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with numbers that floating point would change."""
    event = _shape(tenancy, values)
    event["data"]["additionalDetails"] = {
        "X-Real-Port": 60760,
        "bytesSent": 18446744073709551615,
        "ratio": "@@",
    }
    return encode_compact(event).replace(b'"@@"', b"1.10E+2")


def _make_surrogate(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with a lone surrogate in its user agent, which JSON allows and Unicode does not."""
    event = _shape(tenancy, values, "GetUser")
    event["data"]["identity"]["userAgent"] = "python-requests/2.32 \ud800 broken"
    return json.dumps(event, separators=(",", ":")).encode()


def _make_pretty(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event on many lines."""
    return json.dumps(_shape(tenancy, values, "ListPolicies"), indent=1, ensure_ascii=False).encode()


def _make_escapes(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with the same characters raw and escaped; rewriting the JSON changes one of them."""
    event = _shape(tenancy, values)
    event["data"]["resourceName"] = "größe-🔑-@@"
    return encode_compact(event).replace(b"@@", rb"gr\u00f6\u00DFe-\ud83d\udd11-a\/b")


def _make_nanoseconds(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with a time in nanoseconds."""
    return encode_compact(_shape(tenancy, replace(values, event_time=values.event_time.replace("Z", "123456Z"))))


def _make_nulls(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with null in every field that can be null."""
    event = _shape(tenancy, values)
    kept = {"compartmentId", "eventName"}
    event["data"] = {name: value if name in kept else None for name, value in event["data"].items()}
    return encode_compact(event)


def _make_sparse(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with few fields, and `data` first."""
    data = {"eventName": "ListUsers", "compartmentId": tenancy.id}
    plain = _shape(tenancy, values)
    names = ("eventType", "eventId", "eventTime")
    return encode_compact({"data": data, **{name: plain[name] for name in names}})


def _make_secrets(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event with unmasked secrets in its headers."""
    event = _shape(tenancy, values)
    event["data"]["request"]["headers"] |= {
        "Authorization": ["Bearer example-not-a-secret-0001"],
        "Cookie": ["session=example-not-a-secret-0002"],
        "opc-obo-token": ["example-not-a-secret-0003"],
    }
    return encode_compact(event)


def _make_service_caller(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return a call by a service on behalf of a user."""
    event = _shape(tenancy, values, "ListCompartments", "exampleidp/li.wei@example.com")
    event["data"]["identity"] |= {
        "callerName": "loganalytics",
        "callerId": "loganalytics/C5C0E55526E263A3F9B1255D",
    }
    return encode_compact(event)


def _make_large(tenancy: Tenancy, values: EventValues) -> bytes:
    """Return an event of more than 60 KB."""
    event = _shape(tenancy, values, "UpdatePolicy")
    statement = "Allow group readers to read audit-events in tenancy where request.region = 'iad' -- {}"
    statements = [statement.format(number) for number in range(_LARGE_EVENT_STATEMENTS)]
    event["data"]["stateChange"] = {"previous": {"statements": []}, "current": {"statements": statements}}
    return encode_compact(event)


def _make_hostile(text: str, tenancy: Tenancy, values: EventValues) -> bytes:
    """Return a denied call by a scanner with hostile text in its user agent and its resource name."""
    scanner = replace(tenancy.find_principal("tom.okafor@example.com"), name=SCANNER_NAME, user_agent=text)
    outcome = Outcome("404", "NotAuthorizedOrNotFound")
    call = AuditedCall(tenancy.id, find_event_type("ListUsers"), scanner, outcome)
    event = shape_call(call, replace(values, ip_address="198.51.100.200"))
    return encode_compact({**event, "resourceName": text})


_UNUSUAL_EVENTS: Mapping[str, MakeEvent] = {
    "address list": _make_address_list,
    "unknown fields": _make_unknown_fields,
    "integers": _make_integers,
    "lone surrogate": _make_surrogate,
    "pretty printed": _make_pretty,
    "escapes": _make_escapes,
    "nanoseconds": _make_nanoseconds,
    "nulls": _make_nulls,
    "sparse": _make_sparse,
    "secrets": _make_secrets,
    "service caller": _make_service_caller,
    "large": _make_large,
    **{f"hostile {name}": partial(_make_hostile, text) for name, text in HOSTILE_TEXTS.items()},
}


def _make_start(tenancy: Tenancy, name: str, values: EventValues) -> bytes:
    """Return the event of the call that starts a long operation."""
    return encode_compact(_shape_long_operation(tenancy, name, values, "begin"))


def _make_end(tenancy: Tenancy, name: str, values: EventValues) -> bytes:
    """Return the event of the end of a long operation, which has no call."""
    event = _shape_long_operation(tenancy, name, values, "end")
    data = event["data"]
    if isinstance(data, dict):
        data["request"] = {
            "id": values.request_id,
            "path": None,
            "action": None,
            "parameters": None,
            "headers": None,
        }
        data["response"] = {
            "status": None,
            "responseTime": values.response_time,
            "headers": None,
            "payload": None,
            "message": None,
        }
    return encode_compact(event)


def _shape_long_operation(tenancy: Tenancy, name: str, values: EventValues, stage: str) -> JsonObject:
    grouping_id = f"csid{make_hex(24, name)}/{make_hex(22, name, 'group')}"
    event_type = find_event_type("LaunchInstance")
    caller = tenancy.find_principal("ci-deployer")
    call = AuditedCall(tenancy.id, event_type, caller, Outcome("200"))
    event = shape_call(call, replace(values, grouping_id=grouping_id))
    event["eventType"] = f"{event_type.full_name}.{stage}"
    return event
