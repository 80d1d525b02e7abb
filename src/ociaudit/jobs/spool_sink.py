"""What happens to a page on its way into the spool.

Owns: filter, tally and provisional mark of a page, and when what has come is committed.
Must not: wait for the disk in the event loop.

Invariants
- A page is committed within `COMMIT_SECONDS`, and the time the disk takes for it and for the batch before.
- At most twice `COMMIT_BYTES` wait while a batch is written out; then whoever brings pages waits.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable

from ociaudit.events.event import Event
from ociaudit.events.fields import replace_surrogates
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import Tally
from ociaudit.jobs.scope import SETTLE_MINUTES
from ociaudit.plan.shard import Shard
from ociaudit.plan.window import Window, floor_minute
from ociaudit.source.audit import Page
from ociaudit.store import spool
from ociaudit.store.journal import CutLine, PageLine

NO_NAME = "(none)"
_MAX_NAME = 200

_TALLIED: dict[Tally, Callable[[Event], str | None]] = {
    "event_type": lambda event: event.event_type,
    "event_name": lambda event: event.event_name,
}


class SpoolSink:
    """Filters pages, appends them to the spool, and commits them in turn."""

    def __init__(
        self,
        open_spool: spool.Spool,
        *,
        event_filter: EventFilter,
        span: TimeSpan | None = None,
        tally: Tally | None,
        listed_compartments: frozenset[str] | None,
        observer: Observer,
    ) -> None:
        """`tally` names what is counted over all scanned events; None counts nothing. `span` is of event times."""
        self._spool = open_spool
        self._span = span
        self._filter = event_filter
        self._read_name: Callable[[Event], str | None] | None = _TALLIED[tally] if tally else None
        self._listed = listed_compartments
        self._observer = observer
        self._committing: asyncio.Task[None] | None = None
        self._is_pending = asyncio.Event()
        self._is_full = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_closing = False

    async def take_page(self, page: Page) -> None:
        """Keep a page; returns at once, unless too much waits for the disk already.

        Raises:
            DiskError: the disk refused an earlier page.
        """
        try:
            while not self._has_room.is_set():
                await self._has_room.wait()
        except asyncio.CancelledError:  # a stop from outside loses no page that has arrived
            self._append(page)
            raise
        self._raise_failure()
        kept = self._append(page)
        self._note_pending()
        self._observer.on_page(page.shard, scanned=len(page.events), kept=kept)

    async def take_cut(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Note that a shard is asked in pieces from here on."""
        self._spool.append_line(CutLine(shard, pieces))
        self._note_pending()

    async def close(self) -> None:
        """End the committing; leaving the spool commits what is left.

        Raises:
            DiskError: a commit was refused.
        """
        self._is_closing = True
        self._is_pending.set()
        self._is_full.set()
        if self._committing is not None:
            await asyncio.wait([self._committing])
            self._raise_failure()

    def _note_pending(self) -> None:
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_in_turn())
        self._is_pending.set()
        if self._spool.pending_bytes >= spool.COMMIT_BYTES:
            self._is_full.set()
        if self._spool.pending_bytes >= 2 * spool.COMMIT_BYTES:
            self._has_room.clear()

    async def _commit_in_turn(self) -> None:
        """Commit again and again: when enough is pending, or has been for long enough.

        The batch is written out in a thread: compressing and waiting for the disk hold up no question.
        """
        try:
            while True:
                await self._is_pending.wait()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._is_full.wait(), spool.COMMIT_SECONDS)
                if self._is_closing:
                    return
                self._is_pending.clear()
                self._is_full.clear()
                batch = self._spool.take_batch()
                self._has_room.set()
                await asyncio.to_thread(self._spool.write_batch, batch)
        finally:
            self._has_room.set()

    def _raise_failure(self) -> None:
        """Raise what ended the committing, if it has ended."""
        if self._committing is not None and self._committing.done():
            self._committing.result()

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
