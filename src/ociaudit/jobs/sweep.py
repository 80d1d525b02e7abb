"""Asking every shard of a plan, many at a time.

Owns: which shard is asked next, and the tasks that ask. Must not: keep events, or know the disk.

Invariants
- A shard is covered when its last page is with the sink, and not before.
- A region's shards are taken one by one, when a request of that region could leave; the pieces of a dense shard
  go before what is still to come. At most `_USUALLY_ACTIVE` shards of a region are under way, or as many as requests
  may be.
- A region that answers no more begins nothing new while something is under way: an outage costs few shards.
- A dense shard is cut at the end of a page, when the sink has it; its pieces make it up.
- Whatever ends the sweep early ends every request that is under way.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from ociaudit.errors import RequestError
from ociaudit.events.event import read_instant_of
from ociaudit.events.fields import UNREADABLE_INSTANT
from ociaudit.jobs.gap_book import GapBook
from ociaudit.jobs.observer import Observer
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.density import CutPolicy, ShardWatch
from ociaudit.plan.planner import Ask
from ociaudit.plan.shard import CONFIRMING_CHAIN, Bookmark, Gap, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.source.audit import AuditReader, Page
from ociaudit.source.gate import Gate

_USUALLY_ACTIVE = 64


class PageSink(Protocol):
    """Takes the pages of a sweep."""

    async def take_page(self, page: Page) -> None:
        """Keep the page; the next one is asked for meanwhile."""
        ...

    async def take_cut(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Note that the shard is asked in pieces from here on."""
        ...


class _Turn(NamedTuple):
    """A shard to ask, where to go on in it, and when to cut it."""

    shard: Shard
    bookmark: Bookmark | None
    policy: CutPolicy | None


@dataclass(slots=True)
class _Lane:
    """One region: the plan, the pieces that go first, and how many shards are under way."""

    region: str
    plan: Iterator[Ask]
    pieces: deque[_Turn] = field(default_factory=deque)
    active: int = 0
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)

    def peek(self, policy: CutPolicy | None) -> _Turn | None:
        """Return what is asked next, which stays the next; what is new is cut by `policy`."""
        if not self.pieces:
            ask = next(self.plan, None)
            if ask is None:
                return None
            self.pieces.append(_Turn(*ask, policy))
        return self.pieces[0]


class Sweep:
    """Asks shards, as many at a time as the gate lets through, and gives their pages to a sink."""

    def __init__(
        self,
        *,
        audit: AuditReader,
        gate: Gate,
        gap_book: GapBook,
        sink: PageSink,
        places: Sequence[Place],
        window: Window,
        covered: Mapping[Place, Coverage],
        observer: Observer,
        cut_policy: CutPolicy | None = None,
        deadline_seconds: float | None = None,
        is_noting_empty: bool = False,
    ) -> None:
        """Sweep towards `window` of all `places`; `covered` is what earlier runs hold already.

        Without a `cut_policy` no shard is cut. `deadline_seconds` counts from the beginning of `run`; what is not
        answered by then becomes gaps.
        """
        self._audit = audit
        self._gate = gate
        self._gap_book = gap_book
        self._sink = sink
        self._places = places
        self._window = window
        self._observer = observer
        self._cut_policy = cut_policy
        self._deadline_seconds = deadline_seconds
        self._deadline_at: float | None = None
        self._unasked: str | None = None
        self.coverage = {place: Coverage(coverage.windows) for place, coverage in covered.items()}
        self._is_noting_empty = is_noting_empty
        self.empty: set[Shard] = set()
        """Shards that were answered complete in this run and brought no event; empty unless they are noted."""

    async def run(self, plan: Mapping[str, Iterator[Ask]]) -> tuple[Gap, ...]:
        """Ask every shard of every region's plan and return the gaps, in canonical order.

        Raises:
            SignInRejected: the key is not accepted any more.
            ServiceUnreachable: no shard was answered or refused, and at least one failed.
        """
        if self._deadline_seconds is not None and self._deadline_at is None:
            self._deadline_at = asyncio.get_running_loop().time() + self._deadline_seconds
        deadline = asyncio.timeout_at(self._deadline_at)
        try:
            async with deadline:
                await self._run_lanes([_Lane(region, shards) for region, shards in plan.items()])
        except TimeoutError:
            if not deadline.expired():
                raise
            self._unasked = "the deadline came before it was answered"
        return self._gap_book.list_gaps(self._places, self._window, self.coverage, unasked=self._unasked)

    async def confirm_empty(self, shards: Sequence[Shard]) -> tuple[Gap, ...]:
        """Ask shards that brought no event once more; return all gaps, those among them that did not answer now.

        Raises:
            SignInRejected, ServiceUnreachable: as `run`.
        """
        plan: dict[str, list[Ask]] = {}
        for shard in () if self._unasked else shards:  # until it has answered again, nothing is known of it
            self.coverage[shard.place] = self.coverage.get(shard.place, Coverage()).without(shard.window)
            plan.setdefault(shard.place.region, []).append((shard, Bookmark(CONFIRMING_CHAIN, 0, None)))
        return await self.run({region: iter(asks) for region, asks in plan.items()})

    async def _run_lanes(self, lanes: Sequence[_Lane]) -> None:
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for lane in lanes:
                    tasks.create_task(self._run_lane(lane, tasks))
        except BaseExceptionGroup as group:  # the first failure has ended the others
            failure = _find_cause(group)
        if failure is not None:
            raise failure

    async def _run_lane(self, lane: _Lane, tasks: asyncio.TaskGroup) -> None:
        while True:
            if self._may_begin(lane) and self._find_next(lane) is not None:
                await self._gate.reserve(lane.region)
                chosen = self._find_next(lane)  # not the one from before: pieces of a dense shard may have come
                if chosen is None or not self._may_begin(lane):
                    self._gate.give_back(lane.region)
                    continue
                lane.pieces.popleft()
                lane.active += 1
                tasks.create_task(self._ask(lane, chosen))
            elif lane.active:
                lane.has_changed.clear()
                await lane.has_changed.wait()
            else:
                return

    def _may_begin(self, lane: _Lane) -> bool:
        """Tell whether another shard may be begun: not while those that have begun find no answer any more."""
        most = max(_USUALLY_ACTIVE, self._gate.max_in_flight)
        return lane.active < most and not (lane.active and self._gate.is_failing(lane.region))

    def _find_next(self, lane: _Lane) -> _Turn | None:
        """Return the next shard that is not asked in vain; it stays the next."""
        while (chosen := lane.peek(self._cut_policy)) is not None and self._gap_book.is_closed(chosen.shard.place):
            lane.pieces.popleft()
        return chosen

    async def _ask(self, lane: _Lane, turn: _Turn) -> None:
        try:
            pieces = await self._follow(lane, turn)
            lane.pieces.extendleft(reversed(pieces))
        except RequestError as error:
            await self._gap_book.take_failure(turn.shard, error)
        finally:
            lane.active -= 1
            lane.has_changed.set()

    async def _follow(self, lane: _Lane, turn: _Turn) -> Sequence[_Turn]:
        """Give the shard's pages to the sink, to the last one, or until it is cut; return the pieces then."""
        shard, bookmark, policy = turn
        is_confirming = bookmark is not None and bookmark.chain >= CONFIRMING_CHAIN
        watch = None
        if policy is not None and not is_confirming:
            watch = ShardWatch(shard.window, policy, pages_before=bookmark.page if bookmark else 0)

        def should_stop(page: Page) -> bool:
            return watch is not None and watch.note_page(_read_instants(page))

        scanned = 0
        self._observer.on_shard_begun(shard)
        pages = self._audit.follow_shard(shard, bookmark=bookmark, should_stop=should_stop)
        async with contextlib.aclosing(pages):
            async for page in pages:
                self._gap_book.note_answer(shard.place.region)
                lane.has_changed.set()
                await self._sink.take_page(page)
                scanned += len(page.events)
        if watch is not None and watch.pieces:
            await self._sink.take_cut(shard, watch.pieces)
            self._observer.on_cut(shard, len(watch.pieces))
            return [_Turn(Shard(shard.place, piece), None, watch.piece_policy) for piece in watch.pieces]
        self.coverage.setdefault(shard.place, Coverage()).add(shard.window)
        if self._is_noting_empty and not scanned and not is_confirming:
            self.empty.add(shard)
        self._observer.on_shard_done(shard)
        return ()


def _read_instants(page: Page) -> list[int]:
    instants = (read_instant_of(event.order) for event in page.events)
    return [instant for instant in instants if instant != UNREADABLE_INSTANT]


def _find_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _find_cause(error) if isinstance(error, BaseExceptionGroup) else error
