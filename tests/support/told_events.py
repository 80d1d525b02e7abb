"""Events as a test tells them: who did what from where, and when.

Owns: their JSON. Must not: import the program.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

BEGIN = datetime(2025, 12, 1, tzinfo=UTC)


def at(hours: float) -> str:
    """Return the time so many hours after the beginning."""
    moment = BEGIN + timedelta(hours=hours)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def tell(
    name: str,
    who: str | None = "anna",
    where: str | None = "198.51.100.1",
    *,
    hours: float = 0,
    status: str | None = "200",
    service: str = "computeApi",
    **data: Any,
) -> bytes:
    """Return an event; `data` goes into its `data`."""
    event = {
        "eventType": f"com.oraclecloud.{service}.{name}",
        "eventId": f"{name}-{who}-{where}-{hours}",
        "eventTime": at(hours),
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


def tell_sign_in(outcome: str, who: str = "anna", where: str = "198.51.100.1", *, hours: float = 0) -> bytes:
    """Return a sign-in, or the failure of one."""
    details = {"eventId": f"sso.session.create.{outcome}"}
    return tell(
        "InteractiveLogin",
        who,
        where,
        hours=hours,
        status=None,
        service="IdentitySignOn",
        additionalDetails=details,
    )


def tell_change(name: str, who: str = "anna", where: str = "198.51.100.1", *, hours: float = 0, **data: Any) -> bytes:
    """Return a change to IAM."""
    return tell(name, who, where, hours=hours, service="identityControlPlane", **data)


def write_lines(events: list[bytes]) -> bytes:
    """Return the file of an export."""
    return b"[\n" + b",\n".join(events) + (b"\n" if events else b"") + b"]\n"
