"""Folders as a Connector Hub fills them in Object Storage: gzip files of CloudEvents, bare or wrapped."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

CONNECTOR = "ocid1.serviceconnector.oc1.iad.aaaa"
COMPARTMENT = "ocid1.compartment.oc1..aaaa"
TENANCY = "ocid1.tenancy.oc1..aaaa"


def make_api_event(
    number: int, moment: datetime, *, compartment: str = "ocid1.compartment.oc1..aaaa"
) -> dict[str, Any]:
    """Return an event as ListEvents gives it."""
    return {
        "eventType": "com.oraclecloud.objectstorage.getobject",
        "cloudEventsVersion": "0.1",
        "eventTypeVersion": "2.0",
        "source": "objectstorage",
        "eventId": f"00000000-0000-4000-a000-{number:012}",
        "eventTime": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "contentType": "application/json",
        "data": {
            "eventName": "GetObject",
            "compartmentId": compartment,
            "identity": {"principalName": f"user{number % 7}", "ipAddress": "192.0.2.1"},
            "request": {"id": f"request{number}", "action": "GET"},
            "response": {"status": "200"},
            "additionalDetails": {"text": f'né "{number}"'},
        },
    }


def make_cloud_event(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same event as a connector delivers it."""
    return {
        "data": event["data"],
        "dataschema": event["eventTypeVersion"],
        "datacontenttype": event["contentType"],
        "id": event["eventId"],
        "oracle": {
            "compartmentid": event["data"]["compartmentId"],
            "ingestedtime": event["eventTime"],
            "loggroupid": "_Audit",
            "tenantid": TENANCY,
        },
        "source": event["source"],
        "specversion": "1.0",
        "time": event["eventTime"],
        "type": event["eventType"],
    }


def wrap(record: Mapping[str, Any], region: str) -> dict[str, Any]:
    """Return a record in the wrapper that names its region."""
    moment = datetime.fromisoformat(record["time"])
    return {"datetime": int(moment.timestamp() * 1000), "logContent": record, "regionId": region}


def name_delivery(start: datetime, end: datetime, number: int = 0) -> str:
    """Return the name of a file that a connector delivers."""
    return f"{start:%Y%m%dT%H%M%SZ}_{end:%Y%m%dT%H%M%SZ}.{number}.log.gz"


def deliver(
    folder: Path,
    records: Sequence[Mapping[str, Any]],
    start: datetime,
    *,
    minutes: int = 10,
    number: int = 0,
    connector: str = CONNECTOR,
) -> Path:
    """Write one file, and return its path."""
    target = folder / connector
    target.mkdir(parents=True, exist_ok=True)
    path = target / name_delivery(start, start + timedelta(minutes=minutes), number)
    lines = [json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for record in records]
    path.write_bytes(gzip.compress(b"".join(lines), mtime=0))
    return path


def deliver_hours(folder: Path, hours: int, *, per_file: int, start: datetime | None = None) -> list[dict[str, Any]]:
    """Write a file for each hour, and return the events that are in them, as ListEvents gives them."""
    start = start or datetime(2025, 6, 1, tzinfo=UTC)
    events: list[dict[str, Any]] = []
    for hour in range(hours):
        moment = start + timedelta(hours=hour)
        made = [
            make_api_event(hour * per_file + number, moment + timedelta(seconds=number * 3_600 / per_file))
            for number in range(per_file)
        ]
        deliver(folder, [make_cloud_event(event) for event in made], moment, minutes=60)
        events += made
    return events
