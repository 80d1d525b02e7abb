"""The generator of ordinary events: type, caller, outcome, and every value that varies between events.

Invariants:
- an event depends only on the seed, the target, its minute, and its number in the day;
- an event happens in the minute in which it is processed, or earlier as far as `late_share` and
  `late_minutes` allow.
"""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate

from ociaudit_emulator.event_shape import PLACEHOLDERS, AuditedCall, EventValues, Outcome, Template, shape_call
from ociaudit_emulator.event_store import Target
from ociaudit_emulator.event_types import IDENTITY_MIX, RESOURCE_MIX, EventType
from ociaudit_emulator.randomness import draw_bytes, make_ocid
from ociaudit_emulator.settings import Settings
from ociaudit_emulator.tenancy import HOME_REGION, Principal, Tenancy
from ociaudit_emulator.time_formats import MS_PER_MINUTE, format_http_date, format_time_ms

_RESOURCES_PER_TARGET = 16
_CACHED_TEMPLATES = 2048
_GLOBAL_KINDS = frozenset({"user", "group", "policy", "groupmembership"})
_DENIED = Outcome("404", "NotAuthorizedOrNotFound")
_FAILURES = (
    *[_DENIED] * 5,
    Outcome("409", "IncorrectState"),
    Outcome("429", "TooManyRequests"),
    Outcome("500", "InternalServerError"),
)
_FAILURES_OUT_OF_256 = 12


class EventGenerator:
    """A generator of ordinary events, and of the values of special events."""

    def __init__(self, tenancy: Tenancy, settings: Settings) -> None:
        """Keep what every event depends on."""
        self._tenancy = tenancy
        self._seed = settings.seed
        self._late_share = settings.late_share
        self._late_ms = settings.late_minutes * MS_PER_MINUTE
        self._principal_ends = list(accumulate(one.share for one in tenancy.principals))
        self._template = lru_cache(maxsize=_CACHED_TEMPLATES)(self._make_template)
        self._resource = lru_cache(maxsize=_CACHED_TEMPLATES)(self._make_resource)

    def draw_event(self, target: Target, minute: int, number: int) -> bytes:
        """Return an ordinary event that is processed in a minute since 1970."""
        drawn = draw_bytes(self._seed, target.region, target.compartment_id, minute, number)
        event_type = self._choose_type(target, int.from_bytes(drawn[0:2], "big"))
        principal = self._choose_principal(drawn[2] / 256)
        outcome = self._choose_outcome(event_type, drawn[3], drawn[4])
        values = self._draw_values(target, minute, drawn, event_type.resource)
        values["ip_address"] = principal.addresses[drawn[5] % len(principal.addresses)]
        template = self._template(event_type, principal, outcome)
        return template.render(values)

    def draw_event_values(self, target: Target, minute: int, name: str) -> EventValues:
        """Return the values of a special event; its name distinguishes it from others of the same minute."""
        drawn = draw_bytes(self._seed, target.region, target.compartment_id, minute, name)
        return EventValues(**self._draw_values(target, minute, drawn, "user"))

    def _draw_values(self, target: Target, minute: int, drawn: bytes, resource: str) -> dict[str, str]:
        """Return everything that varies between events, by the field names of EventValues."""
        digits = drawn.hex()
        event_ms = self._draw_time_ms(minute, drawn)
        resource_id, resource_name = self._resource(target, resource or "none", drawn[6] % _RESOURCES_PER_TARGET)
        request_id = f"{digits[32:64]}/{digits[64:96]}/{digits[96:128]}".upper()
        return {
            "event_id": f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}",
            "event_time": format_time_ms(event_ms),
            "response_time": format_time_ms(event_ms + drawn[7]),
            "http_date": format_http_date(event_ms // 1000),
            "grouping_id": f"csid{digits[40:60]}/{digits[60:82]}",
            "request_id": request_id,
            "resource_id": resource_id,
            "resource_name": resource_name,
            "compartment_id": target.compartment_id,
            "compartment_name": self._tenancy.find_name(target.compartment_id, minute),
            "region": target.region,
            "availability_domain": f"AD{1 + drawn[8] % 3}",
            "ip_address": f"203.0.113.{100 + drawn[9] % 100}",
            "session_id": digits[80:112],
        }

    def _draw_time_ms(self, minute: int, drawn: bytes) -> int:
        """Return the time of an event that is processed in a minute."""
        event_ms = minute * MS_PER_MINUTE + int.from_bytes(drawn[10:13], "big") % MS_PER_MINUTE
        if self._late_share and int.from_bytes(drawn[13:16], "big") / 2**24 < self._late_share:
            event_ms -= 1 + int.from_bytes(drawn[16:20], "big") % self._late_ms
        return event_ms

    def _choose_type(self, target: Target, number: int) -> EventType:
        """Return the called operation; identity operations are recorded in the home region's root compartment."""
        is_identity = target.compartment_id == self._tenancy.id and target.region == HOME_REGION
        return (IDENTITY_MIX if is_identity else RESOURCE_MIX).choose(number)

    def _choose_principal(self, share: float) -> Principal:
        at = bisect_right(self._principal_ends, share)
        return self._tenancy.principals[min(at, len(self._principal_ends) - 1)]

    def _choose_outcome(self, event_type: EventType, drawn_outcome: int, drawn_failure: int) -> Outcome:
        if drawn_outcome < _FAILURES_OUT_OF_256:
            return _FAILURES[drawn_failure % len(_FAILURES)]
        return Outcome("204" if event_type.action == "DELETE" else "200")

    def _make_template(self, event_type: EventType, principal: Principal, outcome: Outcome) -> Template:
        """Return the template of all events of this type, principal and outcome."""
        return Template(shape_call(AuditedCall(self._tenancy.id, event_type, principal, outcome), PLACEHOLDERS))

    def _make_resource(self, target: Target, kind: str, number: int) -> tuple[str, str]:
        """Return the OCID and the name of one of a target's resources."""
        is_global = kind in _GLOBAL_KINDS
        region_key = "" if is_global else self._tenancy.region_by_name[target.region].key.lower()
        ocid = make_ocid(kind, self._seed, target.compartment_id, number, region_key=region_key)
        return ocid, f"{kind}-{self._name_compartment(target.compartment_id)}-{number:02d}"

    def _name_compartment(self, compartment_id: str) -> str:
        """Return the first name of a compartment, which its resources keep; the name of root is the tenancy's."""
        return self._tenancy.find_name(compartment_id, 0)
