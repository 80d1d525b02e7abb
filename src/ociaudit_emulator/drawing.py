"""One event, drawn: its type, who called, how it ended, and every value that varies.

Owns: the draws of an event.
Must not: decide how many events there are, or when.

Invariants:
- a draw depends on the seed, the place, the minute and the event's number in it alone;
- an event lies in its minute, or as much earlier as `late_share` and `late_minutes` allow.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

from ociaudit_emulator.behaviour import Behaviour
from ociaudit_emulator.event_shape import MARKED_FILL, Call, Fill, Outcome, Template, shape_call
from ociaudit_emulator.event_source import Target
from ociaudit_emulator.event_types import IDENTITY_MIX, RESOURCE_MIX, EventType
from ociaudit_emulator.instants import MS_PER_MINUTE, format_http_date, format_instant_ms
from ociaudit_emulator.randomness import draw_bytes, make_ocid
from ociaudit_emulator.tenancy import HOME_REGION, Principal, Tenancy

_RESOURCES_PER_TARGET = 16
_TEMPLATES_REMEMBERED = 2048
_GLOBAL_KINDS = frozenset({"user", "group", "policy", "groupmembership"})
_REFUSED = Outcome("404", "NotAuthorizedOrNotFound")
_FAILURES = (
    *[_REFUSED] * 5,
    Outcome("409", "IncorrectState"),
    Outcome("429", "TooManyRequests"),
    Outcome("500", "InternalServerError"),
)
_FAILURES_OUT_OF_256 = 12


class EventDrawing:
    """Draws ordinary events, and the values of special ones."""

    def __init__(self, tenancy: Tenancy, behaviour: Behaviour) -> None:
        """Keep what every draw depends on."""
        self._tenancy = tenancy
        self._seed = behaviour.seed
        self._late_share = behaviour.late_share
        self._late_ms = behaviour.late_minutes * MS_PER_MINUTE
        self._principal_ends = list(accumulate(one.share for one in tenancy.principals))
        self._template = lru_cache(maxsize=_TEMPLATES_REMEMBERED)(self._make_template)
        self._resource = lru_cache(maxsize=_TEMPLATES_REMEMBERED)(self._make_resource)

    def draw_event(self, target: Target, minute: int, number: int) -> bytes:
        """Draw an ordinary event of a place's minute."""
        drawn = draw_bytes(self._seed, target.region, target.compartment_id, minute, number)
        event_type = self._choose_type(target, int.from_bytes(drawn[0:2], "big"))
        principal = self._choose_principal(drawn[2] / 256)
        outcome = self._choose_outcome(event_type, drawn[3], drawn[4])
        values = self._draw_values(target, minute, drawn, event_type.resource)
        values["ip_address"] = principal.addresses[drawn[5] % len(principal.addresses)]
        template = self._template(event_type, principal, outcome)
        return template.render(values)

    def draw_fill(self, target: Target, minute: int, name: str) -> Fill:
        """Draw the values of a special event, which its name tells from others of the minute."""
        drawn = draw_bytes(self._seed, target.region, target.compartment_id, minute, name)
        return Fill(**self._draw_values(target, minute, drawn, "user"))

    def _draw_values(self, target: Target, minute: int, drawn: bytes, resource: str) -> dict[str, str]:
        """Draw everything that varies from one event to the next."""
        digits = drawn.hex()
        event_ms = self._draw_time_ms(minute, drawn)
        resource_id, resource_name = self._resource(target, resource or "none", drawn[6] % _RESOURCES_PER_TARGET)
        request_id = f"{digits[32:64]}/{digits[64:96]}/{digits[96:128]}".upper()
        return {
            "event_id": f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}",
            "event_time": format_instant_ms(event_ms),
            "response_time": format_instant_ms(event_ms + drawn[7]),
            "http_date": format_http_date(event_ms // 1000),
            "grouping_id": f"csid{digits[40:60]}/{digits[60:82]}",
            "request_id": request_id,
            "resource_id": resource_id,
            "resource_name": resource_name,
            "compartment_id": target.compartment_id,
            "compartment_name": self._name_compartment(target.compartment_id),
            "region": target.region,
            "availability_domain": f"AD{1 + drawn[8] % 3}",
            "ip_address": f"203.0.113.{100 + drawn[9] % 100}",
            "session_id": digits[80:112],
        }

    def _draw_time_ms(self, minute: int, drawn: bytes) -> int:
        """Draw when an event of a processed minute happened."""
        event_ms = minute * MS_PER_MINUTE + int.from_bytes(drawn[10:13], "big") % MS_PER_MINUTE
        if self._late_share and int.from_bytes(drawn[13:16], "big") / 2**24 < self._late_share:
            event_ms -= 1 + int.from_bytes(drawn[16:20], "big") % self._late_ms
        return event_ms

    def _choose_type(self, target: Target, number: int) -> EventType:
        """Choose what was called; identity lives in the home region's root compartment."""
        is_identity = target.compartment_id == self._tenancy.id and target.region == HOME_REGION
        return (IDENTITY_MIX if is_identity else RESOURCE_MIX).choose(number)

    def _choose_principal(self, share: float) -> Principal:
        """Choose who called."""
        at = bisect_right(self._principal_ends, share)
        return self._tenancy.principals[min(at, len(self._principal_ends) - 1)]

    def _choose_outcome(self, event_type: EventType, chance: int, which: int) -> Outcome:
        """Choose how the call ended."""
        if chance < _FAILURES_OUT_OF_256:
            return _FAILURES[which % len(_FAILURES)]
        return Outcome("204" if event_type.action == "DELETE" else "200")

    def _make_template(self, event_type: EventType, principal: Principal, outcome: Outcome) -> Template:
        """Make the text of every event that this principal's calls of this type leave."""
        return Template(shape_call(Call(self._tenancy.id, event_type, principal, outcome), MARKED_FILL))

    def _make_resource(self, target: Target, kind: str, number: int) -> tuple[str, str]:
        """Make one of the resources of a place: its OCID and its name."""
        is_global = kind in _GLOBAL_KINDS
        region_key = "" if is_global else self._tenancy.region_by_name[target.region].key.lower()
        ocid = make_ocid(kind, self._seed, target.compartment_id, number, region_key=region_key)
        return ocid, f"{kind}-{self._name_compartment(target.compartment_id)}-{number:02d}"

    def _name_compartment(self, compartment_id: str) -> str:
        """Give a compartment's name; root has the tenancy's."""
        if compartment_id == self._tenancy.id:
            return self._tenancy.name
        return self._tenancy.compartment_by_id[compartment_id].name
