"""A simulated Audit service in virtual time: targets with events, pages, latency, limits and faults.

It shares nothing with the program's planning.
"""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, TypeVar
from urllib.parse import parse_qs, urlsplit

from ociaudit.client.transport import GET, Call, HttpResponse, Reservation
from ociaudit.errors import ConnectionFailed, ServiceError
from ociaudit.planning.shard import Target
from support.virtual_time import START

T = TypeVar("T")
PageOrder = Literal["ascending", "descending", "random"]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class SimulatedEvent(NamedTuple):
    """The minutes since 1970 in which an event was processed and in which it happened, and its id."""

    processed: float
    happened: float
    id: str


@dataclass(slots=True)
class SimulatedService:
    """A transport that responds as Oracle does; all regions share one address, `https://audit/{region}`.

    `per_second` and `bucket` are the rate and the size of each region's token bucket. `failure_share` is the share
    of requests whose connection is reset. `dead_regions` never respond.
    """

    events: Mapping[Target, Sequence[SimulatedEvent]]
    page_size: int = 100
    order: PageOrder = "ascending"
    latency_seconds: float = 0.3
    per_second: float | None = None
    bucket: float = 1.0
    retry_after_seconds: float | None = None
    failure_share: float = 0.0
    denied: frozenset[Target] = frozenset()
    dead_regions: frozenset[str] = frozenset()
    seed: int = 0
    has_responded: bool = True
    requests: Counter[str] = field(default_factory=Counter)
    throttled: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    _random: random.Random = field(default_factory=random.Random)
    _levels: dict[str, tuple[float, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Sort the events by processing time."""
        self.events = {target: sorted(events) for target, events in self.events.items()}
        self._random.seed(self.seed)

    async def send(
        self,
        url: str,
        check: Callable[[bytes], T],
        *,
        try_number: int,
        reservation: Reservation,
        call: Call = GET,
    ) -> HttpResponse[T]:
        """Respond to one attempt after the latency."""
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            return await self._respond(url, check, try_number, reservation)
        finally:
            self.in_flight -= 1

    async def _respond(
        self, url: str, check: Callable[[bytes], T], try_number: int, reservation: Reservation
    ) -> HttpResponse[T]:
        parts = urlsplit(url)
        region = parts.path.split("/")[1]
        self.requests[region] += 1
        if region in self.dead_regions:
            await asyncio.sleep(60)
            raise ConnectionFailed("silence")
        self._throttle(region)
        await asyncio.sleep(self.latency_seconds * self._random.uniform(0.8, 1.2))
        if self._random.random() < self.failure_share:
            raise ConnectionFailed("reset")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        target = Target(region, query["compartmentId"])
        if target in self.denied:
            raise ServiceError("404 NotAuthorizedOrNotFound", status=404, code="NotAuthorizedOrNotFound", is_oci=True)
        body, token = self._make_page(target, query)
        await reservation.acquire(len(body))
        return HttpResponse(check(body), len(body), token, "id", try_number, START, reservation)

    def _throttle(self, region: str) -> None:
        if self.per_second is None:
            return
        now = asyncio.get_running_loop().time()
        level, at = self._levels.get(region, (self.bucket, now))
        level = min(self.bucket, level + (now - at) * self.per_second)
        if level < 1:
            self._levels[region] = (level, now)
            self.throttled += 1
            raise ServiceError(
                "429 TooManyRequests",
                status=429,
                code="TooManyRequests",
                is_oci=True,
                retry_after_seconds=self.retry_after_seconds,
            )
        self._levels[region] = (level - 1, now)

    def _make_page(self, target: Target, query: Mapping[str, str]) -> tuple[bytes, str | None]:
        events = self.events.get(target, ())
        low, high = (bisect_left(events, (_parse_minute(query[name]), -1.0, "")) for name in ("startTime", "endTime"))
        inside = list(events[low:high])
        if self.order == "descending":
            inside.reverse()
        elif self.order == "random":
            random.Random(f"{target}{low}-{high}").shuffle(inside)
        start = int(query.get("page", "0"))
        end = start + self.page_size
        rows = ",".join(
            f'{{"eventId":"{event.id}","eventTime":"{_format_time(event.happened)}"}}' for event in inside[start:end]
        )
        return f"[{rows}]".encode(), str(end) if end < len(inside) else None


def _parse_minute(text: str) -> float:
    return (datetime.fromisoformat(text) - _EPOCH) / timedelta(minutes=1)


def _format_time(minute: float) -> str:
    return (_EPOCH + timedelta(minutes=minute)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
