"""Shards, pages and events with short names, for tests that need many of them.

Owns: their making. Must not: know what a test does with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

from ociaudit.client.audit import Page
from ociaudit.events.event import Event, read_event
from ociaudit.planning.shard import Shard, Target, Window
from ociaudit.storage.journal import PageLine

REGION = "eu-frankfurt-1"
TENANCY = "ocid1.tenancy.oc1..aaaa"
HERE = Target(REGION, TENANCY)
THERE = Target("us-ashburn-1", "ocid1.compartment.oc1..bbbb")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def make_shard(start: int = 0, end: int = 60, target: Target = HERE) -> Shard:
    """Make a shard of a place over minutes since 1970."""
    return Shard(target, Window(start, end))


def make_event(number: int, *, minute: int | None = None, extra: str = "") -> Event:
    """Make an event whose id and time follow from its number."""
    time = EPOCH + timedelta(minutes=number if minute is None else minute)
    event: Mapping[str, object] = {
        "eventId": f"id-{number:06}",
        "eventTime": time.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
        "eventType": "com.oraclecloud.test.Made",
        "data": {"eventName": "Made", "compartmentId": TENANCY, "extra": extra},
    }
    return read_event(json.dumps(event).encode())


def make_page_line(  # one argument for each thing that tests vary
    shard: Shard,
    page: int,
    *,
    attempt: int = 0,
    offset: int = -1,
    scanned: int = 0,
    kept: int = 0,
    next_token: str | None = None,
    is_provisional: bool = False,
    tally: dict[str, int] | None = None,
) -> PageLine:
    """Make the journal's line of a page; it is the last one where there is no next token."""
    return PageLine(
        shard=shard,
        attempt=attempt,
        page=page,
        offset=offset,
        scanned=scanned,
        kept=kept,
        is_last=next_token is None,
        next_token=next_token,
        request_id=f"request-{attempt}-{page}",
        tries=1,
        at="2025-12-01T00:00:00Z",
        is_provisional=is_provisional,
        tally=tally,
    )


def make_page(
    shard: Shard,
    number: int,
    events: list[Event],
    *,
    next_token: str | None = None,
    asked_at: datetime | None = None,
) -> Page:
    """Make the page of an answer, asked a day after the shard's end unless told otherwise."""
    return Page(
        shard=shard,
        attempt=0,
        number=number,
        events=events,
        size_bytes=sum(len(event.raw) for event in events),
        next_token=next_token,
        request_id=f"request-{number}",
        tries=1,
        requested_at=asked_at or EPOCH + timedelta(minutes=shard.window.end + 1440),
    )
