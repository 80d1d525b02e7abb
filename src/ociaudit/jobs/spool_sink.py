"""What happens to a page on its way into the spool.

Owns: filter, tally and provisional mark of a page. Must not: wait for the disk in the event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from ociaudit.events.event import Event
from ociaudit.events.fields import replace_surrogates
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import Tally
from ociaudit.jobs.scope import SETTLE_MINUTES
from ociaudit.plan.window import floor_minute
from ociaudit.source.audit import Page
from ociaudit.store.journal import PageLine
from ociaudit.store.spool import COMMIT_SECONDS, Spool

NO_NAME = "(none)"
_MAX_NAME = 200


_TALLIED: dict[Tally, Callable[[Event], str | None]] = {
    "event_type": lambda event: event.event_type,
    "event_name": lambda event: event.event_name,
}


class SpoolSink:
    """Filters pages and appends them to the spool, one at a time."""

    def __init__(
        self,
        spool: Spool,
        *,
        event_filter: EventFilter,
        span: TimeSpan | None = None,
        tally: Tally | None,
        listed_compartments: frozenset[str] | None,
        observer: Observer,
    ) -> None:
        """`tally` names what is counted over all scanned events; None counts nothing. `span` is of event times."""
        self._spool = spool
        self._span = span
        self._filter = event_filter
        self._read_name: Callable[[Event], str | None] | None = _TALLIED[tally] if tally else None
        self._listed = listed_compartments
        self._observer = observer
        self._one_at_a_time = asyncio.Lock()
        self._late_commit: asyncio.Task[None] | None = None

    async def take_page(self, page: Page) -> None:
        """Keep a page; returns when it is in the spool, committed or soon to be.

        Raises:
            DiskError: the disk refused this commit, or an earlier one that nobody waited for.

        Appending takes 3 µs an event and stays in the loop: handing a page to another thread can cost more.
        Waiting for the disk does not.
        """
        async with self._one_at_a_time:
            self._take_late_outcome()
            kept = self._append(page)
            if self._spool.is_commit_due:
                await asyncio.to_thread(self._spool.commit)
            elif self._late_commit is None:
                self._late_commit = asyncio.create_task(self._commit_later())
        self._observer.on_page(scanned=len(page.events), kept=kept)

    async def close(self) -> None:
        """End the commit that waits; leaving the spool commits what is left.

        Raises:
            DiskError: a commit that nobody waited for was refused.
        """
        async with self._one_at_a_time:  # so it is not under way
            if self._late_commit is not None:
                self._late_commit.cancel()
                await asyncio.wait([self._late_commit])
            self._take_late_outcome()

    async def _commit_later(self) -> None:
        """Commit a page that no other follows soon: the service may take its time, and the page is here."""
        await asyncio.sleep(COMMIT_SECONDS)
        async with self._one_at_a_time:
            await asyncio.to_thread(self._spool.commit)

    def _take_late_outcome(self) -> None:
        if self._late_commit is not None and self._late_commit.done():
            late, self._late_commit = self._late_commit, None
            if not late.cancelled():
                late.result()

    def _append(self, page: Page) -> int:
        inside = self._span.select(page.events) if self._span else page.events
        kept = self._filter.select(inside)
        line = PageLine(
            shard=page.shard,
            chain=page.chain,
            page=page.number,
            scanned=len(page.events),
            kept=len(kept),
            outside=len(page.events) - len(inside),
            is_last=page.is_last,
            next_token=page.next_token,
            request_id=page.request_id,
            attempts=page.attempts,
            at=page.asked_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
            is_provisional=floor_minute(page.asked_at) < page.shard.window.end + SETTLE_MINUTES,
            tally=self._count_names(page.events),
            unlisted=self._find_unlisted(page.events),
        )
        self._spool.append_page(line, kept)
        return len(kept)

    def _count_names(self, events: list[Event]) -> dict[str, int] | None:
        if self._read_name is None:
            return None
        counts = Counter[str]()
        for name, number in Counter(map(self._read_name, events)).items():
            counts[replace_surrogates(name or NO_NAME)[:_MAX_NAME]] += number
        return dict(counts)

    def _find_unlisted(self, events: list[Event]) -> tuple[str, ...]:
        if self._listed is None:
            return ()
        seen = {event.compartment for event in events} - self._listed
        return tuple(sorted(replace_surrogates(name) for name in seen if name))
