"""Sample events for tests of the analysis: who did what, from where, and when."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from ociaudit.analysis.stats import EventStats
from ociaudit.formats.base import Record

_START = datetime(2025, 12, 1, tzinfo=UTC)


def encode_event(
    name: str,
    who: str | None = "anna",
    where: str | None = "198.51.100.1",
    *,
    hours: float = 0,
    status: str | None = "200",
    service: str = "computeApi",
    **data: Any,
) -> bytes:
    """Return an event as JSON, `hours` after the start of 2025-12-01; `data` is merged into its `data`."""
    moment = _START + timedelta(hours=hours)
    event = {
        "eventType": f"com.oraclecloud.{service}.{name}",
        "eventId": f"{name}-{who}-{where}-{hours}",
        "eventTime": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "data": {
            "eventName": name,
            "compartmentId": "ocid1.compartment.oc1..aaaa",
            "identity": {
                "principalName": who,
                "principalId": f"ocid1.user.oc1..{who}" if who else None,
                "ipAddress": where,
                "userAgent": "tool/1.0",
            },
            "request": {"action": None},
            "response": {"status": status},
            **data,
        },
    }
    return json.dumps(event, separators=(",", ":")).encode()


def encode_sign_in(outcome: str, who: str = "anna", where: str = "198.51.100.1", *, hours: float = 0) -> bytes:
    """Return a sign-in with an outcome of `success` or `failure`."""
    details = {"eventId": f"sso.session.create.{outcome}"}
    return encode_event(
        "InteractiveLogin",
        who,
        where,
        hours=hours,
        status=None,
        service="IdentitySignOn",
        additionalDetails=details,
    )


def encode_change(name: str, who: str = "anna", where: str = "198.51.100.1", *, hours: float = 0, **data: Any) -> bytes:
    """Return a change to IAM."""
    return encode_event(name, who, where, hours=hours, service="identityControlPlane", **data)


def encode_export(events: Sequence[bytes]) -> bytes:
    """Return events as a JSON array in the layout of an export."""
    return b"[\n" + b",\n".join(events) + (b"\n" if events else b"") + b"]\n"


def make_records(events: Iterable[bytes]) -> list[Record]:
    """Return records without an origin."""
    return [Record(event, None) for event in events]


def collect_stats(*batches: Iterable[bytes]) -> EventStats:
    """Return the statistics of batches of events."""
    stats = EventStats()
    for batch in batches:
        stats.add(make_records(batch))
    return stats
