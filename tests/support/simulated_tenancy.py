"""A simulated tenancy whose services change in the course of time, behind the program's own clients, without a socket.

`SimulatedTenancy.connect` takes the place of `Transport`, so that everything above it is the program: rate limiter,
retries, listings, pages, spool, archive. Time passes only where a test says so. What was served is recorded.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar
from unittest.mock import patch
from urllib.parse import parse_qs, urlsplit

from ociaudit.client.network import Endpoints
from ociaudit.client.signer import Credentials
from ociaudit.client.transport import GET, Call, HttpResponse, Reservation
from ociaudit.errors import ConnectionFailed, RequestError, ServiceError
from ociaudit.operations import context
from ociaudit.planning.shard import Target

T = TypeVar("T")
DAY = 1440
BEGIN = 29_000_160
"""A minute at the beginning of a day."""
ROOT = "ocid1.tenancy.oc1..sim"
HOME, OTHER, LATER = "us-one-1", "us-two-1", "us-three-1"
PRINCIPAL = "ocid1.user.oc1..sync"
CREDENTIALS = Credentials(ROOT, HOME, PRINCIPAL, "ab:cd", "DEFAULT", "api_key", _signer=lambda _: None)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PAGE_SIZE = 4


@dataclass(frozen=True, slots=True)
class SimulatedRecord:
    """A record that is processed in a minute, and shown from another minute on, in one form after the other."""

    processed: int
    visible: int
    forms: tuple[bytes, ...]

    def at(self, minute: int) -> bytes:
        """Return the bytes that are served in a minute."""
        return self.forms[(minute // 7) % len(self.forms)]


def make_record(
    name: str, processed: int, *, late: int = 0, happened: int | None = None, value: str = "", forms: int = 1
) -> SimulatedRecord:
    """Return a record whose id is `name`; `forms` is in how many serialisations it is served."""
    time = (_EPOCH + timedelta(minutes=processed if happened is None else happened, seconds=len(name) % 60)).isoformat()
    content = {"eventId": name, "eventTime": time.replace("+00:00", "Z"), "data": {"eventName": "x", "note": value}}
    texts = [
        json.dumps(content, separators=(",", ":")),
        json.dumps(dict(reversed(content.items()))),
        json.dumps(content, separators=(", ", ":")),
    ]
    return SimulatedRecord(processed, processed + 1 + late, tuple(text.encode() for text in texts[:forms]))


@dataclass(slots=True)
class SimulatedCompartment:
    """A compartment: from when on it exists, and what is listed of it at a minute; `states` are (from, state).

    The state `""` means that it is not listed.
    """

    name: str
    created: int = 0
    states: tuple[tuple[int, str], ...] = ((0, "ACTIVE"),)
    renamed: tuple[int, str] = (1 << 40, "")

    def list_at(self, minute: int) -> tuple[str, str] | None:
        """Return name and state as listed; None if it is not."""
        state = [state for since, state in self.states if since <= minute][-1]
        if minute < self.created or not state:
            return None
        return (self.renamed[1] if minute >= self.renamed[0] else self.name), state


@dataclass(slots=True)
class SimulatedTenancy:
    """The services at the minute `now`; `second` is that of the local clock, `ahead` how wrong it is.

    `refuse` may return an error for a target; `before_request` is called with the number of each request, and may
    raise. `seconds_per_request` is how much time passes with each request of events.
    """

    now: int = BEGIN
    second: float = 0.0
    ahead: float = 0.0
    has_dates: bool = True
    retention_days: int = 30
    regions: Mapping[str, int] = field(default_factory=lambda: {HOME: 0, OTHER: 0})
    compartments: dict[str, SimulatedCompartment] = field(default_factory=dict)
    records: dict[Target, list[SimulatedRecord]] = field(default_factory=dict)
    refuse: Callable[[Target, int], RequestError | None] = lambda _target, _minute: None
    before_request: Callable[[int], None] = lambda _number: None
    seconds_per_request: float = 0.0
    requests: int = 0
    asked: list[tuple[Target, int, int]] = field(default_factory=list)
    """The windows requested: target, start, end; of first pages."""
    served: dict[bytes, set[Target]] = field(default_factory=dict)
    waited: float = 0.0

    def add(self, target: Target, records: Iterable[SimulatedRecord]) -> None:
        """Let a target process records."""
        own = self.records.setdefault(target, [])
        own.extend(records)
        own.sort(key=lambda one: (one.processed, one.forms))

    def pass_minutes(self, minutes: int) -> None:
        """Let time pass."""
        self.now += minutes

    @contextmanager
    def install(self) -> Iterator[context.RunContext]:
        """Let the program connect to this tenancy, and yield the context to run it with."""
        with patch.object(context, "Transport", self.connect):
            yield self.make_context()

    def make_context(self, **given: Any) -> context.RunContext:
        """Return the collaborators of a run."""
        return context.RunContext(
            credentials=CREDENTIALS, endpoints=Endpoints("https://sim/{region}"), clock=_Clock(self), **given
        )

    def connect(self, *_: Any, **__: Any) -> _Transport:
        """Return what the program takes for its transport."""
        return _Transport(self)

    def list_regions(self) -> list[str]:
        """Return the regions that the tenancy is subscribed to."""
        return [region for region, since in self.regions.items() if since <= self.now]

    def list_targets(self) -> list[Target]:
        """Return every region × every compartment that exists or existed."""
        ocids = [ROOT, *(ocid for ocid, one in self.compartments.items() if one.created <= self.now)]
        return sorted(Target(region, ocid) for region in self.list_regions() for ocid in ocids)

    def respond(self, path: str, query: Mapping[str, str]) -> tuple[bytes, str | None]:
        """Return a body and the token of the next page."""
        if path.endswith("/regionSubscriptions"):
            return _encode(
                {"regionName": one, "status": "READY", "isHomeRegion": one == HOME} for one in self.list_regions()
            ), None
        if path.endswith("/compartments"):
            listed = ((ocid, one.list_at(self.now)) for ocid, one in self.compartments.items())
            return _encode(
                {"id": ocid, "compartmentId": ROOT, "name": found[0], "lifecycleState": found[1]}
                for ocid, found in listed
                if found
            ), None
        if path.endswith("/configuration"):
            return json.dumps({"retentionPeriodDays": self.retention_days}).encode(), None
        if path.endswith("/auditEvents"):
            return self._list_events(Target(path.split("/")[1], query["compartmentId"]), query)
        return b"{}", None

    def _list_events(self, target: Target, query: Mapping[str, str]) -> tuple[bytes, str | None]:
        start, end = _parse_minute(query["startTime"]), _parse_minute(query["endTime"])
        if "page" not in query:
            self.asked.append((target, start, end))
        if target.region not in self.list_regions():
            raise make_error(401, "NotAuthenticated")
        if start < self.now - self.retention_days * DAY:
            raise make_error(400, "InvalidParameter")
        error = self.refuse(target, self.now)
        if error is not None:
            raise error
        inside = [
            one.at(self.now)
            for one in self.records.get(target, ())
            if start <= one.processed < end and one.visible <= self.now
        ]
        first = int(query.get("page", "0"))
        page = inside[first : first + _PAGE_SIZE]
        for raw in page:
            self.served.setdefault(raw, set()).add(target)
        return b"[" + b",".join(page) + b"]", str(first + _PAGE_SIZE) if first + _PAGE_SIZE < len(inside) else None


class _Clock:
    """The local clock: the tenancy's time and an error; waits take no time but its own."""

    def __init__(self, tenancy: SimulatedTenancy) -> None:
        self._tenancy = tenancy

    def now(self) -> datetime:
        tenancy = self._tenancy
        return _EPOCH + timedelta(minutes=tenancy.now, seconds=tenancy.second + tenancy.ahead)

    def monotonic(self) -> float:
        return self._tenancy.waited + 60 * self._tenancy.now + self._tenancy.second

    async def sleep(self, seconds: float) -> None:
        self._tenancy.waited += seconds
        await asyncio.sleep(0)

    def draw(self) -> float:
        return 0.5


class _Transport:
    """A transport that asks the simulated tenancy."""

    has_responded = True

    def __init__(self, tenancy: SimulatedTenancy) -> None:
        self._tenancy = tenancy

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    @property
    def skew_seconds(self) -> float | None:
        return self._tenancy.ahead if self._tenancy.has_dates else None

    async def send(
        self,
        url: str,
        parse: Callable[[bytes], T],
        *,
        try_number: int,
        reservation: Reservation,
        call: Call = GET,
    ) -> HttpResponse[T]:
        tenancy = self._tenancy
        tenancy.requests += 1
        tenancy.before_request(tenancy.requests)
        await asyncio.sleep(0)
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.path.endswith("/auditEvents"):
            tenancy.second += tenancy.seconds_per_request
            minutes, tenancy.second = divmod(tenancy.second, 60)
            tenancy.now += int(minutes)
        requested_at = _Clock(tenancy).now()
        body, token = tenancy.respond(parts.path, query)
        await reservation.acquire(len(body))
        return HttpResponse(parse(body), len(body), token, "request", try_number, requested_at, reservation)


def make_error(status: int, code: str) -> ServiceError:
    """Return an error of the service."""
    return ServiceError(f"{status} {code}", status=status, code=code, is_oci=True, request_id="request")


def make_silence() -> ConnectionFailed:
    """Return the error of a region that does not respond."""
    return ConnectionFailed("the connection was reset")


def _encode(items: Iterable[Mapping[str, Any]]) -> bytes:
    return json.dumps(list(items)).encode()


def _parse_minute(text: str) -> int:
    return (datetime.fromisoformat(text) - _EPOCH) // timedelta(minutes=1)
