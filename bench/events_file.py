"""The file of events that the emulator serves: always the same, generated in constant memory.

The events are those of the emulator's synthetic tenancy with new values, padded to 2,800 bytes on average. No two
events are equal: types, principals, addresses, user agents, outcomes, the ids of requests and resources, and
`additionalDetails` vary.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.emulator import EmulatorProcess

MEAN_BYTES = 2_800
END = datetime(2025, 6, 15, tzinfo=UTC)
_SAMPLE_DAYS = 4
_MAX_SAMPLE_BYTES = 3_500
_JITTER_BYTES = 300
_MAX_PADDING_BYTES = 2_000
_PRINCIPALS = 500
_RESOURCES = 20_000
_MAX_CREDENTIALS = 47
_PLACEHOLDER = re.compile(r"@@(\w+)@@")
_PADDING = "@@padding@@"
_PADDING_MARK = b"\0"
# The synthetic events are longer than 2,800 bytes; these headers are the same in all events of a principal.
_DROPPED_HEADERS = {
    "Accept",
    "Access-Control-Expose-Headers",
    "Authorization",
    "Connection",
    "X-Content-Type-Options",
    "opc-principal",
}
_PADDING_KEYS = ("vnicId", "volumeId", "imageId", "subnetId", "bootVolumeId", "routeTableId", "workRequestId")
_BASE32 = bytes.maketrans(bytes(range(256)), (b"abcdefghijklmnopqrstuvwxyz234567" * 8))
_EVENTS_PER_WRITE = 1_000


@dataclass(frozen=True, slots=True)
class ServedEvents:
    """A file of events, with digests that show whether an export holds exactly these events.

    `lines_digest` and `ids_digest` do not depend on the order of the events.
    """

    path: Path
    count: int
    size_bytes: int
    lines_digest: int
    ids_digest: int
    start: str
    end: str
    tenancy: str
    compartments: tuple[str, ...]


def compute_digest(data: bytes) -> int:
    """Return the number that an event or an id adds to a digest."""
    return int.from_bytes(hashlib.blake2b(data, digest_size=16).digest(), "big")


def add_to_digest(digest: int, data: bytes) -> int:
    """Return the digest with one more event or id."""
    return (digest + compute_digest(data)) % (1 << 128)


def make_event_file(
    path: Path,
    count: int,
    *,
    days: int = 14,
    end: datetime = END,
    is_spread: bool = False,
    compartments: Sequence[str] = (),
    is_short: bool = False,
    seed: int = 2_025,
) -> ServedEvents:
    """Write events, one per line, spread evenly over the days before `end`.

    They belong to the given compartments in turn: by default to root, with `is_spread` to all readable ones. Files
    with different seeds have no id in common. Short events lack headers, payloads and tags.
    """
    with EmulatorProcess(path.with_name(f"{path.name}.samples")) as emulator:
        tenancy = emulator.read_json("tenancy")
        samples = _read_samples(emulator, tenancy, is_short=is_short)
    if not compartments:
        readable = tuple(one["id"] for one in tenancy["compartments"] if not one["isForbidden"])
        compartments = readable if is_spread else (tenancy["id"],)
    size = lines_digest = ids_digest = 0
    with path.open("wb") as file:
        batch: list[bytes] = []
        span = (end - timedelta(days=days), end)
        for event_id, event in _draw_events(
            samples, count, span, compartments, mean_bytes=0 if is_short else MEAN_BYTES, seed=seed
        ):
            lines_digest = add_to_digest(lines_digest, event)
            ids_digest = add_to_digest(ids_digest, event_id)
            size += len(event) + 1
            batch.append(event)
            if len(batch) == _EVENTS_PER_WRITE:
                file.write(b"\n".join(batch) + b"\n")
                batch.clear()
        file.write(b"\n".join([*batch, b""]))
    return ServedEvents(
        path=path,
        count=count,
        size_bytes=size,
        lines_digest=lines_digest,
        ids_digest=ids_digest,
        start=format_day(end - timedelta(days=days)),
        end=format_day(end),
        tenancy=tenancy["id"],
        compartments=tuple(compartments),
    )


def format_day(moment: datetime) -> str:
    """Return the midnight of a day in the API's format."""
    return moment.strftime("%Y-%m-%dT00:00:00Z")


def _read_samples(emulator: EmulatorProcess, tenancy: Mapping[str, Any], *, is_short: bool) -> list[str]:
    """Return events of the synthetic tenancy as distinct format strings."""
    start, end = format_day(END - timedelta(days=_SAMPLE_DAYS)), format_day(END)
    texts: dict[str, None] = {}
    for compartment in tenancy["compartments"]:
        query = f"region=us-ashburn-1&compartmentId={compartment['id']}"
        events = emulator.read_json(f"events?{query}&startTime={start}&endTime={end}")
        for event in events:
            # Oracle's own CLI cannot print a lone surrogate, and the synthetic tenancy has a few.
            if isinstance(event.get("data"), dict) and "\\ud" not in json.dumps(event["data"].get("identity")):
                texts.setdefault(_make_template(_shorten(event) if is_short else event))
    return [text for text in texts if len(text) < _MAX_SAMPLE_BYTES]


def _shorten(event: dict[str, Any]) -> dict[str, Any]:
    """Return the event without its largest parts: headers, payload and tags."""
    data = event["data"]
    for name in ("request", "response"):
        if data.get(name):
            data[name].update({"headers": {}, "payload": {}, "parameters": {}})
    data.update({"stateChange": None, "definedTags": {}, "freeformTags": {}})
    return event


def _make_template(event: dict[str, Any]) -> str:
    """Return an event as a `%` format string with placeholders for its varying values."""
    data = event["data"]
    identity = data.get("identity") or {}
    request = data.get("request") or {}
    response = data.get("response") or {}
    for headers in (request.get("headers") or {}, response.get("headers") or {}):
        for name in _DROPPED_HEADERS & headers.keys():
            del headers[name]
    if len(identity.get("credentials") or "") > _MAX_CREDENTIALS:
        identity["credentials"] = identity["credentials"][-_MAX_CREDENTIALS:]
    varying = {
        "event_id": event.get("eventId"),
        "event_time": event.get("eventTime"),
        "response_time": response.get("responseTime"),
        "grouping_id": data.get("eventGroupingId"),
        "request_id": request.get("id"),
        "resource_id": data.get("resourceId"),
        "compartment_id": data.get("compartmentId"),
        "principal_id": identity.get("principalId"),
        "principal_name": identity.get("principalName"),
        "address": identity.get("ipAddress"),
        "session_id": identity.get("consoleSessionId"),
    }
    details = data.get("additionalDetails") if isinstance(data.get("additionalDetails"), dict) else {}
    data["additionalDetails"] = {**details, "padding": _PADDING}
    text = json.dumps(event, ensure_ascii=False, separators=(",", ":"))
    for name, value in sorted(varying.items(), key=lambda item: -len(str(item[1]))):
        if isinstance(value, str) and len(value) > 6:
            text = text.replace(value, f"@@{name}@@")
    text = text.replace("%", "%%").replace(f'"padding":"{_PADDING}"', '"attached":{\0}')
    return _PLACEHOLDER.sub(r"%(\1)s", text)


def _draw_events(
    samples: Sequence[str],
    count: int,
    span: tuple[datetime, datetime],
    compartments: Sequence[str],
    *,
    mean_bytes: int,
    seed: int,
) -> Iterator[tuple[bytes, bytes]]:
    """Yield (id, event) in the order of event times."""
    rng = random.Random(seed)
    principals = [
        (_draw_ocid(rng, "user"), f"{rng.choice(('svc', 'ops', 'dev'))}.{rng.randbytes(5).hex()}@example.com")
        for _ in range(_PRINCIPALS)
    ]
    resources = [_draw_ocid(rng, "instance") for _ in range(_RESOURCES)]
    start, end = span
    step_ms = (end - start) / timedelta(milliseconds=1) / max(count, 1)
    total = 0
    for number in range(count):
        moment = start + timedelta(milliseconds=int((number + rng.random()) * step_ms))
        digits = rng.randbytes(64).hex()
        principal_id, principal_name = principals[int(rng.random() ** 2 * _PRINCIPALS)]
        event_id = f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:32]}"
        event_time = moment.isoformat(timespec="milliseconds")[:-6] + "Z"
        event = (
            rng.choice(samples)
            % {
                "event_id": event_id,
                "event_time": event_time,
                "response_time": event_time[:-4] + f"{rng.randrange(1000):03}Z",
                "grouping_id": f"csid{digits[40:60]}/{digits[60:82]}",
                "request_id": f"{digits[32:64]}/{digits[64:96]}/{digits[96:128]}".upper(),
                "resource_id": resources[int(rng.random() * _RESOURCES)],
                "compartment_id": compartments[number % len(compartments)],
                "principal_id": principal_id,
                "principal_name": principal_name,
                "address": f"198.51.{rng.randrange(256)}.{rng.randrange(256)}",
                "session_id": digits[80:112],
            }
        ).encode()
        missing = mean_bytes * (number + 1) - total - len(event) + rng.randint(-_JITTER_BYTES, _JITTER_BYTES)
        event = event.replace(_PADDING_MARK, _draw_padding(rng, resources, max(0, min(missing, _MAX_PADDING_BYTES))))
        total += len(event) + 1
        yield event_id.encode(), event


def _draw_padding(rng: random.Random, resources: Sequence[str], size: int) -> bytes:
    """Return members of a JSON object with about this many bytes: ids of resources, and a checksum."""
    members: list[str] = []
    left = size
    while left > 120:
        key = _PADDING_KEYS[len(members) % len(_PADDING_KEYS)]
        member = f'"{key}{len(members)}":"{resources[int(rng.random() * _RESOURCES)]}"'
        members.append(member)
        left -= len(member) + 1
    if left > 10:
        members.append(f'"etag":"{rng.randbytes(left // 2).hex()[: left - 9]}"')
    return ",".join(members).encode()


def _draw_ocid(rng: random.Random, kind: str) -> str:
    return f"ocid1.{kind}.oc1.iad.aaaa{rng.randbytes(56).translate(_BASE32).decode()}"
