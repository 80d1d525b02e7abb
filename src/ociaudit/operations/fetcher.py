"""Fetching: every shard of a plan, many in flight, its pages to a handler and its failures to gaps.

`Fetcher` chooses the next shard of each region and follows its pages. `GapTracker` decides what a failed shard means: a
gap, or the end of the run. `SpoolWriter` is the handler of an export: it filters pages and commits them to the spool.

Invariants
- Every shard ends complete or in a gap; coverage and gaps together are the plan, whatever went wrong.
- A shard is covered when its last page is with the handler, and not before.
- A region's next shard is chosen when a request to that region could leave; sub-shards of a dense shard go first. A
  region has at most `_USUALLY_ACTIVE` shards in flight, or as many as requests may be.
- A dense shard is split at the end of a page, when the handler has that page; its sub-shards make it up exactly.
- A region that stops responding begins nothing new while a request is in flight: an outage costs few shards. One that
  never responded is given up after `_SILENT_SHARDS` shards: each takes eight tries, and minutes.
- A target that was denied once is not requested again; its gap is all of it that is not covered.
- 401 is a gap of its region only while the key is good elsewhere and the region never responded; otherwise the sign-in
  has ended and the run stops (`SignInRejected`), resumable. When nothing at all was answered, not even with a
  rejection, now or earlier, the run stops (`ServiceUnreachable`).
- A page is committed within `COMMIT_SECONDS`, plus the time the disk takes for it and for the batch before. At most
  twice `COMMIT_BYTES` wait while a batch is written; then handling a page waits.
- Whatever ends fetching early ends every request in flight.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec

from ociaudit.client.audit import Page, PageReader
from ociaudit.client.identity import explain_rejection
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import Credentials
from ociaudit.errors import RequestError, ServiceError, ServiceUnreachable
from ociaudit.events.event import Event, read_instant_of
from ociaudit.events.fields import UNREADABLE_INSTANT, replace_surrogates
from ociaudit.events.filters import EventFilter, TimeSpan
from ociaudit.operations.context import Callbacks, CountedName, settled_until
from ociaudit.planning.planner import PlannedShard, SplitDecider, SplitPolicy
from ociaudit.planning.shard import CONFIRMING_ATTEMPT, Coverage, Gap, PageCursor, Shard, Target, Window, format_second
from ociaudit.storage import spool
from ociaudit.storage.journal import PageLine, SplitLine

Key = TypeVar("Key")
_SILENT_SHARDS = 3
_USUALLY_ACTIVE = 64
_UNAUTHORIZED = 401
_DENIED_STATUSES = frozenset({403, 404})
NO_NAME = "(none)"
_MAX_NAME = 200


class KeyCheck(Protocol):
    """Knows whether the key is still accepted anywhere."""

    async def is_sign_in_accepted(self) -> bool:
        """Return whether the service accepts the signature, by one request."""
        ...


class GapTracker:
    """Turns the failures of a run into gaps."""

    def __init__(
        self,
        *,
        identity: KeyCheck,
        credentials: Credentials,
        callbacks: Callbacks,
        has_responded_before: bool,
        is_last_word: bool = True,
    ) -> None:
        """Start without gaps; `has_responded_before`: the service responded to an earlier run.

        Without `is_last_word`, more is fetched after the gaps have been listed: the caller calls `check_responded`.
        """
        self._identity = identity
        self._credentials = credentials
        self._callbacks = callbacks
        self._failed: list[Gap] = []
        self._denied: dict[Target, RequestError] = {}
        self._dead_regions: dict[str, RequestError] = {}
        self._responding_regions: set[str] = set()
        self._silent_shards: Counter[str] = Counter()
        self._silent_regions: dict[str, RequestError] = {}
        self._has_responded = has_responded_before
        self._is_last_word = is_last_word

    def check_responded(self) -> None:
        """Check that the service has responded at all.

        Raises:
            ServiceUnreachable: no request was ever answered or rejected, and at least one failed.
        """
        if self._failed and not self._has_responded:
            raise ServiceUnreachable(f"no request got a usable answer; the last failure: {self._failed[-1].reason}")

    def record_response(self, region: str) -> None:
        """Record that a page of this region has arrived."""
        self._responding_regions.add(region)
        self._has_responded = True

    def is_closed(self, target: Target) -> bool:
        """Return whether requesting this target is pointless."""
        return target in self._denied or target.region in self._dead_regions or target.region in self._silent_regions

    async def record_shard_failure(self, shard: Shard, error: RequestError) -> None:
        """Turn a failed shard into a gap.

        Raises:
            SignInRejected: the key is no longer accepted.
        """
        target = shard.target
        if isinstance(error, ServiceError) and error.is_oci:
            self._has_responded |= not error.retryable  # a window beyond retention is a gap, not a silent service
            if error.status == _UNAUTHORIZED:
                if target.region in self._responding_regions or not await self._identity.is_sign_in_accepted():
                    raise explain_rejection(error, self._credentials) from error
                self._close(self._dead_regions, target.region, shard, error)
                return
            if error.status in _DENIED_STATUSES:
                self._close(self._denied, target, shard, error)
                return
        gap = _make_gap(shard, "failed", error)
        self._failed.append(gap)
        self._callbacks.on_gap(gap)
        if target.region not in self._responding_regions:
            self._silent_shards[target.region] += 1
            if self._silent_shards[target.region] >= _SILENT_SHARDS:
                self._silent_regions.setdefault(target.region, error)

    def list_gaps(
        self,
        targets: Sequence[Target],
        window: Window,
        coverage: Mapping[Target, Coverage],
        *,
        unasked: str | None = None,
    ) -> tuple[Gap, ...]:
        """Return the gaps in canonical order; `unasked` is the reason for what was never requested.

        Raises:
            ServiceUnreachable: no request was ever answered or rejected, and at least one failed.
        """
        if self._is_last_word:
            self.check_responded()
        failed: dict[Target, list[Gap]] = {}
        for gap in self._failed:
            failed.setdefault(gap.target, []).append(gap)
        gaps = list(self._failed)
        for target in targets:
            error = self._denied.get(target) or self._dead_regions.get(target.region)
            silence = self._silent_regions.get(target.region)
            known = Coverage(coverage.get(target, Coverage()).windows)
            for gap in failed.get(target, ()):
                known.add(gap.window)
            for missing in known.find_missing(window):
                if error is not None:
                    gaps.append(_make_gap(Shard(target, missing), "denied", error))
                elif silence is not None:
                    gaps.append(_make_gap(Shard(target, missing), "failed", silence))
                else:  # impossible without a deadline; if it happens, it is a gap and not silence
                    gaps.append(Gap(target, missing, "failed", unasked or "it was never requested, which is a bug"))
        return tuple(sorted(gaps, key=lambda gap: (gap.target, gap.window)))

    def _close(self, closed: dict[Key, RequestError], key: Key, shard: Shard, error: RequestError) -> None:
        """Request nothing more there; report it once, however many requests were in flight."""
        if key not in closed:
            closed[key] = error
            self._callbacks.on_gap(_make_gap(shard, "denied", error))


def _make_gap(shard: Shard, kind: Literal["denied", "failed"], error: RequestError) -> Gap:
    return Gap(shard.target, shard.window, kind, str(error), error.request_id)


class PageHandler(Protocol):
    """Handles the pages that a fetcher brings."""

    async def handle_page(self, page: Page) -> None:
        """Keep the page; the next one is being requested meanwhile."""
        ...

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Record that the shard is replaced by these sub-shards."""
        ...


class _ShardTask(NamedTuple):
    """A shard to fetch, where to continue in it, and when to split it."""

    shard: Shard
    cursor: PageCursor | None
    policy: SplitPolicy | None


@dataclass(slots=True)
class _RegionQueue:
    """One region: its plan, the sub-shards that go first, and how many shards are in flight."""

    region: str
    plan: Iterator[PlannedShard]
    pieces: deque[_ShardTask] = field(default_factory=deque)
    active: int = 0
    has_changed: asyncio.Event = field(default_factory=asyncio.Event)

    def peek(self, policy: SplitPolicy | None) -> _ShardTask | None:
        """Return the next shard without removing it; a new one is split by `policy`."""
        if not self.pieces:
            planned = next(self.plan, None)
            if planned is None:
                return None
            self.pieces.append(_ShardTask(*planned, policy))
        return self.pieces[0]


class Fetcher:
    """Fetches shards, as many concurrently as the rate limiter allows, and passes their pages to a handler."""

    def __init__(
        self,
        *,
        audit: PageReader,
        rate_limiter: RateLimiter,
        gap_tracker: GapTracker,
        handler: PageHandler,
        targets: Sequence[Target],
        window: Window,
        covered: Mapping[Target, Coverage],
        callbacks: Callbacks,
        split_policy: SplitPolicy | None = None,
        deadline_seconds: float | None = None,
        records_empty: bool = False,
    ) -> None:
        """Fetch `window` of all `targets`; `covered` is what earlier runs hold already.

        Without a `split_policy` no shard is split. `deadline_seconds` counts from the start of `run`; what is not
        complete by then becomes gaps.
        """
        self._audit = audit
        self._rate_limiter = rate_limiter
        self._gap_tracker = gap_tracker
        self._handler = handler
        self._targets = targets
        self._window = window
        self._callbacks = callbacks
        self._split_policy = split_policy
        self._deadline_seconds = deadline_seconds
        self._deadline_at: float | None = None
        self._unasked: str | None = None
        self.coverage = {target: Coverage(coverage.windows) for target, coverage in covered.items()}
        self._records_empty = records_empty
        self.empty: set[Shard] = set()
        """Shards that were completed in this run without an event; recorded only where the options request it."""

    async def run(self, plan: Mapping[str, Iterator[PlannedShard]]) -> tuple[Gap, ...]:
        """Fetch every shard of every region's plan and return the gaps, in canonical order.

        Raises:
            SignInRejected: the key is no longer accepted.
            ServiceUnreachable: no request was answered or rejected, and at least one failed.
        """
        if self._deadline_seconds is not None and self._deadline_at is None:
            self._deadline_at = asyncio.get_running_loop().time() + self._deadline_seconds
        deadline = asyncio.timeout_at(self._deadline_at)
        try:
            async with deadline:
                await self._run_queues([_RegionQueue(region, shards) for region, shards in plan.items()])
        except TimeoutError:
            if not deadline.expired():
                raise
            self._unasked = "the deadline passed before it was complete"
        return self._gap_tracker.list_gaps(self._targets, self._window, self.coverage, unasked=self._unasked)

    async def confirm_empty(self, shards: Sequence[Shard]) -> tuple[Gap, ...]:
        """Request shards without events once more; return all gaps, including those that failed this time.

        Raises:
            SignInRejected, ServiceUnreachable: as `run`.
        """
        plan: dict[str, list[PlannedShard]] = {}
        for shard in () if self._unasked else shards:  # until it is complete again, nothing is known about it
            self.coverage[shard.target] = self.coverage.get(shard.target, Coverage()).without(shard.window)
            plan.setdefault(shard.target.region, []).append((shard, PageCursor(CONFIRMING_ATTEMPT, 0, None)))
        return await self.run({region: iter(asks) for region, asks in plan.items()})

    async def _run_queues(self, queues: Sequence[_RegionQueue]) -> None:
        failure: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for queue in queues:
                    tasks.create_task(self._run_queue(queue, tasks))
        except BaseExceptionGroup as group:  # the first failure has ended the others
            failure = _find_cause(group)
        if failure is not None:
            raise failure

    async def _run_queue(self, queue: _RegionQueue, tasks: asyncio.TaskGroup) -> None:
        while True:
            if self._may_begin(queue) and self._find_next(queue) is not None:
                await self._rate_limiter.reserve(queue.region)
                chosen = self._find_next(
                    queue
                )  # not the one from before: sub-shards of a dense shard may have been added
                if chosen is None or not self._may_begin(queue):
                    self._rate_limiter.release_reserved(queue.region)
                    continue
                queue.pieces.popleft()
                queue.active += 1
                tasks.create_task(self._fetch(queue, chosen))
            elif queue.active:
                queue.has_changed.clear()
                await queue.has_changed.wait()
            else:
                return

    def _may_begin(self, queue: _RegionQueue) -> bool:
        """Return whether another shard may begin: not while the region no longer responds to those in flight."""
        most = max(_USUALLY_ACTIVE, self._rate_limiter.max_in_flight)
        return queue.active < most and not (queue.active and self._rate_limiter.is_failing(queue.region))

    def _find_next(self, queue: _RegionQueue) -> _ShardTask | None:
        """Return the next shard that is worth requesting, without removing it."""
        while (chosen := queue.peek(self._split_policy)) is not None and self._gap_tracker.is_closed(
            chosen.shard.target
        ):
            queue.pieces.popleft()
        return chosen

    async def _fetch(self, queue: _RegionQueue, task: _ShardTask) -> None:
        try:
            pieces = await self._follow(queue, task)
            queue.pieces.extendleft(reversed(pieces))
        except RequestError as error:
            await self._gap_tracker.record_shard_failure(task.shard, error)
        finally:
            queue.active -= 1
            queue.has_changed.set()

    async def _follow(self, queue: _RegionQueue, task: _ShardTask) -> Sequence[_ShardTask]:
        """Pass the shard's pages to the handler, up to the last or until it is split; return the sub-shards, if any."""
        shard, cursor, policy = task
        is_confirming = cursor is not None and cursor.attempt >= CONFIRMING_ATTEMPT
        decider = None
        if policy is not None and not is_confirming:
            decider = SplitDecider(shard.window, policy, pages_before=cursor.page if cursor else 0)

        def should_stop(page: Page) -> bool:
            return decider is not None and decider.record_page(_read_instants(page))

        scanned = 0
        self._callbacks.on_shard_begun(shard)
        pages = self._audit.follow_shard(shard, cursor=cursor, should_stop=should_stop)
        async with contextlib.aclosing(pages):
            async for page in pages:
                self._gap_tracker.record_response(shard.target.region)
                queue.has_changed.set()
                await self._handler.handle_page(page)
                scanned += len(page.events)
        if decider is not None and decider.sub_windows:
            await self._handler.handle_split(shard, decider.sub_windows)
            self._callbacks.on_split(shard, len(decider.sub_windows))
            return [_ShardTask(Shard(shard.target, piece), None, decider.sub_policy) for piece in decider.sub_windows]
        self.coverage.setdefault(shard.target, Coverage()).add(shard.window)
        if self._records_empty and not scanned and not is_confirming:
            self.empty.add(shard)
        self._callbacks.on_shard_done(shard)
        return ()


def _read_instants(page: Page) -> list[int]:
    instants = (read_instant_of(event.order) for event in page.events)
    return [instant for instant in instants if instant != UNREADABLE_INSTANT]


def _find_cause(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error = group.exceptions[0]
    return _find_cause(error) if isinstance(error, BaseExceptionGroup) else error


_TALLIED: dict[CountedName, Callable[[Event], str | None]] = {
    "event_type": lambda event: event.event_type,
    "event_name": lambda event: event.event_name,
}


class _CompartmentData(msgspec.Struct):
    compartmentName: str | None = None  # noqa: N815 - the API's name


class _NamedCompartment(msgspec.Struct):
    data: _CompartmentData


class SpoolWriter:
    """A page handler that filters pages, appends them to the spool, and commits them batch by batch."""

    def __init__(
        self,
        open_spool: spool.Spool,
        *,
        event_filter: EventFilter,
        span: TimeSpan | None = None,
        tally: CountedName | None,
        listed_compartments: frozenset[str] | None,
        callbacks: Callbacks,
    ) -> None:
        """`tally` is what to count over all scanned events, if anything; `span` keeps a range of event times."""
        self._spool = open_spool
        self._span = span
        self._filter = event_filter
        self._read_name: Callable[[Event], str | None] | None = _TALLIED[tally] if tally else None
        self._listed = listed_compartments
        self._callbacks = callbacks
        self._committing: asyncio.Task[None] | None = None
        self._is_pending = asyncio.Event()
        self._is_full = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_closing = False

    async def handle_page(self, page: Page) -> None:
        """Keep a page; returns immediately unless too much is waiting for the disk.

        Raises:
            DiskError: an earlier page could not be written.
        """
        try:
            while not self._has_room.is_set():
                await self._has_room.wait()
        except asyncio.CancelledError:  # a cancellation loses no page that has arrived
            self._append(page)
            raise
        self._raise_failure()
        kept = self._append(page)
        self._record_pending()
        self._callbacks.on_page(page.shard, scanned=len(page.events), kept=kept)

    async def handle_split(self, shard: Shard, pieces: tuple[Window, ...]) -> None:
        """Record that a shard is replaced by these sub-shards."""
        self._spool.append_line(SplitLine(shard, pieces))
        self._record_pending()

    async def close(self) -> None:
        """Stop committing; closing the spool commits the rest.

        Raises:
            DiskError: a commit failed.
        """
        self._is_closing = True
        self._is_pending.set()
        self._is_full.set()
        if self._committing is not None:
            await asyncio.wait([self._committing])
            self._raise_failure()

    def _record_pending(self) -> None:
        if self._committing is None:
            self._committing = asyncio.create_task(self._commit_batches())
        self._is_pending.set()
        if self._spool.pending_bytes >= spool.COMMIT_BYTES:
            self._is_full.set()
        if self._spool.pending_bytes >= 2 * spool.COMMIT_BYTES:
            self._has_room.clear()

    async def _commit_batches(self) -> None:
        """Commit whenever enough is pending, or has been pending for long enough.

        A batch is written in a thread, so that compressing and waiting for the disk delay no request.
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
                batch = self._spool.pop_batch()
                self._has_room.set()
                await asyncio.to_thread(self._spool.write_batch, batch)
        finally:
            self._has_room.set()

    def _raise_failure(self) -> None:
        """Raise what ended the committing, if anything did."""
        if self._committing is not None and self._committing.done():
            self._committing.result()

    def _append(self, page: Page) -> int:
        inside = self._span.select(page.events) if self._span else page.events
        kept = self._filter.select(inside)
        unlisted = self._find_unlisted(page.events)
        line = PageLine(
            shard=page.shard,
            attempt=page.attempt,
            page=page.number,
            scanned=len(page.events),
            kept=len(kept),
            outside=len(page.events) - len(inside),
            is_last=page.is_last,
            next_token=page.next_token,
            request_id=page.request_id,
            tries=page.tries,
            at=format_second(page.requested_at),
            is_provisional=settled_until(page.requested_at) < page.shard.window.end,
            tally=self._count_names(page.events),
            unlisted=tuple(unlisted),
            unlisted_names={ocid: name for ocid, name in unlisted.items() if name},
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

    def _find_unlisted(self, events: list[Event]) -> dict[str, str]:
        """Return the compartments that are not listed, and the name that the first event of each states."""
        if self._listed is None:
            return {}
        seen = {event.compartment for event in events} - self._listed - {None, ""}
        found: dict[str, str] = {}
        for event in events if seen else ():  # rare
            if event.compartment in seen:
                seen.discard(event.compartment)
                found[replace_surrogates(event.compartment or "")] = _read_compartment_name(event)
        return dict(sorted(found.items()))


def _read_compartment_name(event: Event) -> str:
    try:
        name = msgspec.json.decode(event.raw, type=_NamedCompartment).data.compartmentName
    except msgspec.MsgspecError:  # a lone surrogate, or a name that is not text
        return ""
    return (name or "")[:_MAX_NAME]
