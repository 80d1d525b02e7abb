"""Odd events: whatever has been seen in the wild and breaks careless readers.

Owns: one function per oddity, and the names by which tests find them.
Must not: decide when they come, or make an event that Oracle's own SDK cannot read.

Long operations: two events, begin and end, that share their `eventGroupingId`.

Owns: this pair.
Must not: decide when it comes.

Special events: those that come on a fixed turn and not by chance.

Owns: which special events a place has on a day, in the order of their minutes.
Must not: shape an event, or touch ordinary ones.

Invariants:
- every kind of sign-in, credential change and oddity comes at least every third day;
- whatever stands on a day depends on the seed, the place and the day alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ociaudit_emulator.event_shape import Call, Fill, JsonObject, Outcome, shape_call, write_compact
from ociaudit_emulator.event_source import Target
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.randomness import draw_number, make_hex
from ociaudit_emulator.scenario import find_scenario, list_steps
from ociaudit_emulator.sign_ins import SIGN_INS
from ociaudit_emulator.tenancy import HOME_REGION, Tenancy

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


def write_beginning(tenancy: Tenancy, work_name: str, fill: Fill) -> bytes:
    """Write the event of the call that begins the work."""
    return write_compact(_shape_work_request(tenancy, work_name, fill, "begin"))


def write_end(tenancy: Tenancy, work_name: str, fill: Fill) -> bytes:
    """Write the event of the work's end, which nobody called."""
    event = _shape_work_request(tenancy, work_name, fill, "end")
    data = event["data"]
    if isinstance(data, dict):
        data["request"] = {
            "id": fill.request_id,
            "path": None,
            "action": None,
            "parameters": None,
            "headers": None,
        }
        data["response"] = {
            "status": None,
            "responseTime": fill.response_time,
            "headers": None,
            "payload": None,
            "message": None,
        }
    return write_compact(event)


def _shape_work_request(tenancy: Tenancy, work_name: str, fill: Fill, stage: str) -> JsonObject:
    """Shape one of the two events."""
    grouping_id = f"csid{make_hex(24, work_name)}/{make_hex(22, work_name, 'group')}"
    kind = find_event_type("LaunchInstance")
    caller = tenancy.find_principal("ci-deployer")
    event = shape_call(Call(tenancy.id, kind, caller, Outcome("200")), replace(fill, grouping_id=grouping_id))
    event["eventType"] = f"{kind.full_name}.{stage}"
    return event


_TURN_DAYS = 3
_FIRST_MINUTE, _LAST_MINUTE = 9 * 60, 18 * 60
_WORK_TAKES_MINUTES = 2
_LEAST_SHARE_FOR_WORK = 0.02


@dataclass(frozen=True, slots=True)
class Special:
    """An event at a fixed minute; `write` makes its bytes from the values drawn for it."""

    minute_of_day: int
    name: str
    write: Callable[[Fill], bytes]


class SpecialCalendar:
    """Knows the special events of every place and day."""

    def __init__(self, tenancy: Tenancy, seed: int) -> None:
        """Keep what they depend on."""
        self._tenancy = tenancy
        self._seed = seed
        self._turns = {**SIGN_INS, **ODDITIES}

    def list_specials(self, target: Target, day: int) -> Sequence[Special]:
        """List the special events of a place's day, in the order of their minutes."""
        if target.region != HOME_REGION:
            return ()
        specials = [*self._list_work(target, day), *self._list_scenario(target, day)]
        if target.compartment_id == self._tenancy.id:
            specials += self._list_turns(day)
        return sorted(specials, key=lambda special: special.minute_of_day)

    def _list_turns(self, day: int) -> list[Special]:
        """List the sign-ins, credential changes and oddities whose turn it is."""
        return [
            Special(self._draw_minute(name, day), name, partial(write, self._tenancy))
            for number, (name, write) in enumerate(self._turns.items())
            if (number + day) % _TURN_DAYS == 0
        ]

    def _list_work(self, target: Target, day: int) -> list[Special]:
        """List the begin and end of the day's long operation, in every place that is not quiet."""
        if self._tenancy.compartment_by_id[target.compartment_id].share < _LEAST_SHARE_FOR_WORK:
            return []
        minute = self._draw_minute(target.compartment_id, day)
        names = (self._tenancy, f"{self._seed} {target.compartment_id} {day}")
        return [
            Special(minute, "work begins", partial(write_beginning, *names)),
            Special(minute + _WORK_TAKES_MINUTES, "work ends", partial(write_end, *names)),
        ]

    def _list_scenario(self, target: Target, day: int) -> list[Special]:
        """List the story's events in a place, on the days on which it happens."""
        scenario = find_scenario(self._seed, self._tenancy, day)
        if scenario is None:
            return []
        return [
            Special(step.minute_of_day, step.name, step.write)
            for step in list_steps(scenario)
            if step.compartment_id == target.compartment_id
        ]

    def _draw_minute(self, name: str, day: int) -> int:
        """Draw a minute in office hours."""
        drawn = draw_number("special", self._seed, name, day)
        return _FIRST_MINUTE + drawn % (_LAST_MINUTE - _FIRST_MINUTE)
