"""Long operations: two events, begin and end, that share their `eventGroupingId`.

Owns: this pair.
Must not: decide when it comes.
"""

from __future__ import annotations

from dataclasses import replace

from ociaudit_emulator.chance import make_hex
from ociaudit_emulator.event_shape import Call, Fill, JsonObject, Outcome, shape_call
from ociaudit_emulator.event_types import find_event_type
from ociaudit_emulator.template import write_compact
from ociaudit_emulator.tenancy import Tenancy


def write_beginning(tenancy: Tenancy, work_name: str, fill: Fill) -> bytes:
    """Write the event of the call that begins the work."""
    return write_compact(_shape(tenancy, work_name, fill, "begin"))


def write_end(tenancy: Tenancy, work_name: str, fill: Fill) -> bytes:
    """Write the event of the work's end, which nobody called."""
    event = _shape(tenancy, work_name, fill, "end")
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


def _shape(tenancy: Tenancy, work_name: str, fill: Fill, stage: str) -> JsonObject:
    """Shape one of the two events."""
    grouping_id = f"csid{make_hex(24, work_name)}/{make_hex(22, work_name, 'group')}"
    kind = find_event_type("LaunchInstance")
    caller = tenancy.find_principal("ci-deployer")
    event = shape_call(Call(tenancy.id, kind, caller, Outcome("200")), replace(fill, grouping_id=grouping_id))
    event["eventType"] = f"{kind.full_name}.{stage}"
    return event
