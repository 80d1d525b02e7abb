"""A sync: everything that an archive does not hold yet is fetched, merged and committed.

A sync is a sequence of rounds. A round plans what is missing, fetches it oldest first into the spool in `work/`, merges
it with the archive's segments and commits. A round ends after `ROUND_EVENTS` events or `ROUND_SECONDS`, so that the
first sync of a long retention is useful, and safe, long before it is over. At the end, days that have become final are
compacted.

Invariants
- The commit is what counts. Segments are durable before it; whatever a killed sync leaves is resumed or removed by the
  next one, under the archive's lock.
- A spool whose run is in the chain is discarded; any other is resumed, so that nothing that arrived is lost.
- A window counts as asked at the present of its round's plan, the smaller of the local clock and the service's. That
  is never later than the request.
- Only minutes inside the retention period when they were answered count as covered.
- What the archive follows never becomes narrower.
- Every round but the last covers something that no round of this sync has requested before, so that a sync ends.
"""

# Over 700 lines: plan, rounds, merge, commit and recovery keep one set of promises about what counts and what is kept.

from __future__ import annotations

import contextlib
import hashlib
import shutil
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from importlib import metadata
from math import ceil
from pathlib import Path

import msgspec

from ociaudit.archive.commit import Commit, Compartment, LateArrivals, SegmentEntry, Selection, Writer
from ociaudit.archive.commit_log import (
    ArchiveFolder,
    CommitLog,
    check_archive,
    create_archive,
    is_archive,
    lock_archive,
)
from ociaudit.archive.delta import check_delta, has_log, update_delta
from ociaudit.archive.reader import load_state
from ociaudit.archive.remote import RemoteArchive, hold_copy
from ociaudit.archive.segments import OrderedEvent, compact_date, merge_ordered
from ociaudit.archive.state import (
    DEFAULT_RINGS,
    DEFAULT_SETTLE,
    RETENTION_MARGIN_MINUTES,
    ArchiveState,
    Totals,
    carry_gaps,
    diff_scope,
    due_rings,
    find_lost,
    find_retention_start,
    find_settled_dates,
    group_answers,
    judge_archive,
    judge_closures,
    list_reopened,
    list_targets,
    parse_rings,
    plan_asks,
)
from ociaudit.archive.tail import drop_record_ids, write_record_ids
from ociaudit.client.audit import Page
from ociaudit.client.network import split_regions
from ociaudit.errors import CorruptRun, DiskError, ScopeUnreadable, ServiceError, UsageError, format_count
from ociaudit.events.event import read_instant_of
from ociaudit.events.fields import UNREADABLE_INSTANT, minute_of_instant, read_facts
from ociaudit.events.filters import EventFilter, FilterSpec
from ociaudit.operations.context import (
    RunContext,
    Service,
    When,
    connect,
    read_retention,
    resolve_regions,
    resolve_waivers,
    run_async,
    run_cancellable,
)
from ociaudit.operations.fetcher import Fetcher, GapTracker, SpoolWriter
from ociaudit.planning.planner import FetchState, SplitPolicy, plan_regions
from ociaudit.planning.scope import choose_compartments, find_compartment, is_ocid_like, name_compartments
from ociaudit.planning.shard import (
    MINUTES_PER_DAY,
    Coverage,
    Gap,
    Target,
    Window,
    floor_minute,
    format_minute,
    format_second,
    parse_minute,
)
from ociaudit.planning.time_range import is_relative, parse_duration, resolve_range
from ociaudit.storage.atomic_io import explain_disk, make_private_folder, move_file, remove_locked_folder, write_file
from ociaudit.storage.manifest import check_signing_key
from ociaudit.storage.merge import CanonicalReader
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Recovered, Spool, open_spool
from ociaudit.storage.verdict import Verdict
from ociaudit.version import VERSION

PLAN_SCHEMA = "oci-audit-sync-plan/1"
ROUND_EVENTS = 1_000_000
ROUND_SECONDS = 30 * 60
_TILE_GROWTH = 8
_UNDIVIDED_MINUTES = 2 * MINUTES_PER_DAY
"""What is not longer than this is one stretch of time, so that a usual sync sends one request for each target."""
_ANSWER_MARGIN_MINUTES = 10
"""How far inside retention a minute must be when its answer has come; the clocks of service and client differ."""
_MAX_SKEW_SECONDS = 300.0
"""The service rejects a signature that is further from its own clock; so much is proved by any answer."""
_OUTDATED_MINUTES = 15
"""A resumed plan that is older than this leaves a gap to the present, which another round closes."""
_MIN_FREE_BYTES = 256 * 1024 * 1024
_DATES_PER_COMPACTION = 31
_REPLACED_KEPT = timedelta(hours=24)
"""How long a replaced segment stays for those who are reading it."""
_COMMITS_PER_LOOK = 64
_STALLED_ROUNDS = 3
"""After so many rounds that came no nearer to the present a sync ends; otherwise it would never end."""
_KEPT = "while syncing; everything received is kept, and the next sync continues"
_OWN_CALL = b'"ListEvents"'


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncOptions:
    """What an archive is to follow, and how. None and empty values mean: as before, or the default for a new archive.

    `start` is as typed; without it a new archive begins with the retention period. `settle` is how long after its end a
    minute is first asked, `rescan` the rescan rings: the first with every sync, the second once a day, the third once a
    week. `waived` are compartments, by OCID, name or path, whose denial is known.

    Raises:
        UsageError: a value cannot be what it is given for.
    """

    archive: Path
    start: When | None = None
    regions: Sequence[str] = ()
    compartments: Sequence[str] = ()
    is_subtree: bool = True
    settle: str = DEFAULT_SETTLE
    rescan: str = DEFAULT_RINGS
    waived: frozenset[str] = frozenset()
    signing_key: Path | None = None
    max_window_days: int = 14
    tail_keep: str = "30d"
    round_events: int = ROUND_EVENTS
    round_seconds: float = ROUND_SECONDS
    """A round commits after about so many events, or so many seconds."""
    is_delta: bool = False
    """Whether to keep a Delta log of the segments."""

    def __post_init__(self) -> None:
        """Validate what does not need the clock or the service."""
        if self.max_window_days < 1:
            raise UsageError(f"the longest window is {self.max_window_days} days", hint="choose at least 1")
        if not self.is_subtree and not self.compartments:
            raise UsageError(
                "--no-subtree has no effect without --compartment", hint="name a compartment, or omit --no-subtree"
            )
        parse_duration(self.settle, option="--settle")
        parse_duration(self.tail_keep, option="--tail-keep")
        parse_rings(self.rescan)
        if self.signing_key is not None:
            check_signing_key(self.signing_key)
        if self.is_delta:
            check_delta(self.archive)

    @property
    def settle_minutes(self) -> int:
        """Return `settle` in minutes."""
        return parse_duration(self.settle)

    @property
    def rings(self) -> tuple[int, ...]:
        """Return the rescan rings in minutes, ascending."""
        return parse_rings(self.rescan)

    @property
    def max_window_minutes(self) -> int:
        """Return the longest window of one request, in minutes."""
        return self.max_window_days * MINUTES_PER_DAY

    def resolve_start(self, now: datetime, *, settle_minutes: int = 0) -> int | None:
        """Return the start as a minute; None if none was typed.

        Raises:
            UsageError: it is unreadable, in the future, or within the last `settle_minutes`.
        """
        if self.start is None:
            return None
        text = self.start if isinstance(self.start, str) else self.start.isoformat()
        return resolve_range(text, "now", now=now, settle_minutes=settle_minutes).window.start

    def select(self, before: Selection | None) -> Selection:
        """Return what is to be followed: what the options name, else what was followed before."""
        if not self.regions and not self.compartments:
            return before or Selection()
        return Selection(split_regions(self.regions), tuple(self.compartments), self.is_subtree)


class Ask(msgspec.Struct, frozen=True, array_like=True):
    """Windows to request for each of some targets, given by their numbers in the plan."""

    windows: tuple[Window, ...]
    targets: tuple[int, ...]


class SyncPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What one round asks, decided once; an event's origin is the index of its target in `targets`."""

    schema: str = PLAN_SCHEMA
    run_id: str
    now: int
    start: int
    end: int
    settle_minutes: int
    rings: tuple[int, ...]
    rings_run: tuple[int, ...]
    retention_days: int | None
    selection: Selection
    regions: tuple[str, ...]
    compartments: dict[str, Compartment]
    targets: tuple[Target, ...]
    asks: tuple[Ask, ...]
    waived: tuple[str, ...] = ()
    follows: str = ""
    """The run of the sync before, by the archive's state."""
    pruned_before: int = 0
    """What had been pruned when the plan was made."""
    ahead_seconds: float = 0.0
    """How far the local clock was ahead of the service's when the plan was made."""
    check: str = ""
    """The SHA-256 of the plan without this field."""

    def list_asks(self) -> dict[Target, tuple[Window, ...]]:
        """Return the windows to request, by target."""
        return {self.targets[number]: ask.windows for ask in self.asks for number in ask.targets}


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What one round committed, whether more is left to request, and warnings about the scope.

    `behind` is how many minutes of its plan it did not reach, because it had taken long enough to be committed.
    `planned_at` is the present of its plan; None if an earlier process made that.
    """

    commit: Commit
    has_more: bool
    planned_at: int | None
    behind: int
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class _Fetched:
    """What a round has received so far.

    `answered` are the windows that count as covered. Everything planned before the minute `reached` has been requested.
    `recovered` is what an earlier process received; it counts as far as it was inside retention at `recovered_at`.
    """

    answered: dict[Target, Coverage] = field(default_factory=dict)
    gaps: set[Gap] = field(default_factory=set)
    reached: int = 0
    requests: int = 0
    recovered: Mapping[Target, Coverage] = field(default_factory=dict)
    recovered_at: int = 0
    """When the last of what an earlier process received was requested."""
    oldest: int = 0
    """The oldest minute that could be requested when this process began."""


class _AddedRecorder:
    """Looks at every event that a commit adds: is it late, and is it a call of the sync itself?"""

    def __init__(self, state: ArchiveState, principal: str) -> None:
        self._state = state
        self._principal = principal
        self._minutes: Counter[int] = Counter()
        self._after_final = 0
        self.own = 0

    def record(self, raw: bytes, origin: Target | None, order: bytes) -> None:
        """Record one added event."""
        if _OWN_CALL in raw and self._is_own(raw):
            self.own += 1
        known = self._state.targets.get(origin) if origin is not None else None
        if known is None:
            return
        instant = read_instant_of(order)
        if instant == UNREADABLE_INSTANT:
            return
        minute = minute_of_instant(instant)
        span = known.coverage.find_span(minute)
        if span is not None:
            age = self._state.reach if span.asked_at is None else span.asked_at - minute
            self._minutes[max(age, 0)] += 1
            self._after_final += span.asked_at is None

    @property
    def late(self) -> LateArrivals:
        """Return how many events were late, and how late."""
        count = self._minutes.total()
        seen = median = 0
        for minutes, number in sorted(self._minutes.items()):
            seen += number
            if 2 * seen >= count:
                median = minutes
                break
        return LateArrivals(count, self._after_final, median, max(self._minutes, default=0))

    def _is_own(self, raw: bytes) -> bool:
        data = read_facts(raw).data
        identity = data.identity if data else None
        return (
            data is not None
            and identity is not None
            and data.event_name == "ListEvents"
            and identity.principal_id == self._principal
        )


class _CountingWriter(SpoolWriter):
    """A spool writer that counts the events of its pages, and the requests behind them."""

    requests = 0
    events = 0

    async def handle_page(self, page: Page) -> None:
        """Keep a page and count."""
        self.requests += page.tries
        self.events += len(page.events)
        await super().handle_page(page)


class _TileFetcher:
    """Fetches one stretch of time after another; what was denied once is not requested again."""

    def __init__(
        self,
        options: SyncOptions,
        context: RunContext,
        service: Service,
        writer: SpoolWriter,
        progress: FetchState,
    ) -> None:
        """Pass pages to `writer`; `progress` is what an earlier process received."""
        self._options = options
        self._callbacks = context.callbacks
        self._service = service
        self._writer = writer
        self._progress = progress
        self._tracker = GapTracker(
            identity=service.identity,
            credentials=service.credentials,
            callbacks=context.callbacks,
            has_responded_before=bool(progress.covered),
            is_last_word=False,  # the stretch of time may be one that only a silent region lacks
        )

    def check_responded(self) -> None:
        """Check that anything at all was answered or rejected.

        Raises:
            ServiceUnreachable: nothing was.
        """
        self._tracker.check_responded()

    async def run(
        self, tile: Window, parts: Mapping[Target, tuple[Window, ...]], *, settled_until: int
    ) -> tuple[tuple[Gap, ...], Mapping[Target, Coverage]]:
        """Fetch the parts of a stretch of time that targets ask for; return the gaps and the coverage.

        The coverage also contains what was not requested.
        """
        targets = tuple(target for target, windows in parts.items() if windows)
        covered = {target: Coverage(Coverage(parts[target]).find_missing(tile)) for target in targets}
        for target, outside in covered.items():
            for known in self._progress.covered.get(target, Coverage()).windows:
                outside.add(known)
        fetcher = Fetcher(
            audit=self._service.audit,
            rate_limiter=self._service.rate_limiter,
            gap_tracker=self._tracker,
            handler=self._writer,
            targets=targets,
            window=tile,
            covered=covered,
            callbacks=self._callbacks,
            split_policy=SplitPolicy(),
        )
        shards = plan_regions(
            targets,
            tile,
            max_minutes=self._options.max_window_minutes,
            settled_until=settled_until,
            progress=replace(self._progress, covered=covered),
        )
        return await fetcher.run(shards), fetcher.coverage


class _Planner:
    """Decides what a round requests: lists the scope, and finds what the archive lacks."""

    def __init__(
        self, options: SyncOptions, context: RunContext, state: ArchiveState, *, began: int | None = None
    ) -> None:
        """Plan on top of `state`, which stays as it is.

        What was requested since the minute `began` is not requested again: the same sync did it, in an earlier round.
        """
        self._options = options
        self._context = context
        self._state = state
        self._began = began
        self.warnings: tuple[str, ...] = ()

    async def make_plan(self, service: Service) -> SyncPlan:
        """List the scope, and decide what to request."""
        context, options, state = self._context, self._options, self._state
        selection = options.select(state.selection)
        regions, _, home = await resolve_regions(selection.regions, service, context.callbacks)
        selection, compartments, paths = await self._list_compartments(service, selection)
        retention = await read_retention(service, home, context.callbacks)
        now = self._find_present(service)
        if now < state.start:
            raise UsageError(
                f"the clock shows {format_minute(now)}, which is before the archive begins: it is wrong",
                hint="set the clock (for example with: timedatectl set-ntp true), then run the same command again",
            )
        start = self._choose_start(now, retention)
        oldest = find_retention_start(now, retention)
        change, self.warnings = diff_scope(
            state, regions=regions, compartments=compartments, is_region_choice=bool(selection.regions)
        )
        seen = state.preview_scope(change, start=start, retention_start=oldest)
        targets = list_targets(seen)
        due = due_rings(state, now=now, rings=options.rings)
        asks = plan_asks(seen, now=now, settle=options.settle_minutes, due=due, retention_start=oldest, targets=targets)
        if self._began is not None:
            asks = _drop_fresh(asks, seen, since=self._began)
        plan = SyncPlan(
            run_id=uuid.uuid4().hex,
            now=now,
            start=start,
            end=now - options.settle_minutes,
            settle_minutes=options.settle_minutes,
            rings=options.rings,
            rings_run=due,
            retention_days=retention,
            selection=selection,
            regions=regions,
            compartments=compartments,
            targets=targets,
            asks=_number_asks(asks, targets),
            waived=tuple(sorted(resolve_waivers(options.waived, paths or None))),
            follows=state.run_id,
            pruned_before=state.pruned_before,
            ahead_seconds=_read_skew(service),
        )
        return msgspec.structs.replace(plan, check=_hash_plan(plan))

    async def _list_compartments(
        self, service: Service, selection: Selection
    ) -> tuple[Selection, dict[str, Compartment], dict[str, str]]:
        """Return the selection with OCIDs for names, the compartments that it means, and the paths of all.

        Compartments that are named by OCID, without what is below them, need no listing: it only tells their names.

        Raises:
            ScopeUnreadable, SignInRejected, ServiceUnreachable: the listing could not be read, and is needed.
            UsageError: a name is not that of one compartment, or the archive follows more than the selection.
        """
        tenancy = service.credentials.tenancy
        try:
            listing = await service.identity.list_compartments()
        except ScopeUnreadable as error:
            if not _is_denied(error) or not _names_all(selection):
                raise
            _check_wider(self._state.selection, selection)
            known = self._state.compartments
            self._context.callbacks.on_notice(f"{error}; the compartments that are named by OCID are requested")
            as_known = {ocid: known.get(ocid, Compartment(ocid, "UNKNOWN")) for ocid in selection.compartments}
            return selection, as_known, {ocid: one.path for ocid, one in known.items()}
        paths = name_compartments(listing.items, tenancy=tenancy)
        named = tuple(find_compartment(text, paths) for text in selection.compartments)
        selection = msgspec.structs.replace(selection, compartments=named)
        _check_wider(self._state.selection, selection)
        states = {one.id: one.state for one in listing.items}
        chosen = choose_compartments(listing.items, named, tenancy=tenancy, is_subtree=selection.is_subtree)
        compartments = {
            ocid: Compartment(paths.get(ocid, ocid), states.get(ocid, "ACTIVE" if ocid == tenancy else "UNKNOWN"))
            for ocid in chosen
        }
        return selection, compartments, paths

    def _find_present(self, service: Service) -> int:
        """Return the present in minutes: the smaller of the local clock and the service's."""
        return floor_minute(self._context.clock.now() - timedelta(seconds=_read_skew(service)))

    def _choose_start(self, now: int, retention_days: int | None) -> int:
        """Return the first minute that the archive is to hold.

        Raises:
            UsageError: it was not named, and the retention period is not known; or a new archive would begin with
                minutes that are not requested yet.
        """
        settle = 0 if self._state.start else self._options.settle_minutes
        typed = self._options.resolve_start(self._context.clock.now(), settle_minutes=settle)
        is_moving = isinstance(self._options.start, str) and is_relative(self._options.start)
        if typed is not None and self._state.start and typed > self._state.start and not is_moving:
            begin = format_minute(self._state.start)
            self._context.callbacks.on_notice(f"--start has no effect: the archive begins at {begin} already")
        if typed is not None:
            return min(typed, self._state.start or typed)
        if self._state.start:
            return self._state.start
        if retention_days is None:
            raise UsageError(
                "the retention period cannot be read, so the start of the archive is not known",
                hint="name it with --start, for example --start 365d",
            )
        # An hour more than what may be requested, so that the oldest minutes do not pass out of it meanwhile.
        return find_retention_start(now, retention_days) + RETENTION_MARGIN_MINUTES


class _LiveSegments(Mapping[str, Sequence[SegmentEntry]]):
    """The live segments by date, for a merge; those of a date are copied from the store when the date is looked at."""

    def __init__(self, live: Mapping[str, Sequence[SegmentEntry]], remote: RemoteArchive | None) -> None:
        self._live = live
        self._remote = remote

    def __getitem__(self, date: str) -> Sequence[SegmentEntry]:
        entries = self._live[date]
        if self._remote is not None:
            self._remote.fetch(entries)
        return entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._live)

    def __len__(self) -> int:
        return len(self._live)


class _Round:
    """One round of a sync: plan or resume, fetch, merge, commit. The archive is locked."""

    def __init__(
        self,
        options: SyncOptions,
        context: RunContext,
        log: CommitLog,
        state: ArchiveState,
        *,
        began: int | None,
        remote: RemoteArchive | None = None,
    ) -> None:
        """Prepare a round on top of `state`, which its commit will advance.

        `began` is the present of this sync's first plan: what was requested since then is not requested again.
        `remote` is where segments are that the folder lacks.
        """
        self._remote = remote
        self._options = options
        self._context = context
        self._log = log
        self._state = state
        self._folder = log.folder
        self._work = RunDirectory(log.folder.work)
        self._fetched = _Fetched()
        self._warnings: tuple[str, ...] = ()
        self._began = began
        self._is_resumed = False
        self._is_outdated = False
        self._service: Service | None = None

    def run(self) -> RoundResult:
        """Run the round to its commit.

        Raises:
            OciAuditError: it could not be finished; what was received is kept, and the next sync continues.
        """
        context = self._context
        make_private_folder(self._folder.work)
        with contextlib.ExitStack() as stack:
            plan, spool = run_async(lambda: run_cancellable(self._fetch(stack), context.cancellation, _KEPT))
            commit = self._commit(plan, spool)
        remove_locked_folder(self._folder.work, first=self._work.plan_path)
        behind = max(0, plan.end - self._fetched.reached)
        planned_at = None if self._is_resumed else plan.now
        return RoundResult(commit, self._is_outdated or behind > 0, planned_at, behind, self._warnings)

    async def _fetch(self, stack: contextlib.ExitStack) -> tuple[SyncPlan, Spool]:
        context, fetched = self._context, self._fetched
        everything = EventFilter(FilterSpec())
        async with connect(context, parse=everything.parse_page) as service:
            plan = self._read_plan() or await self._make_plan(service)
            paths = {ocid: one.path for ocid, one in plan.compartments.items()}
            context.callbacks.on_scope(paths, frozenset(plan.waived))
            try:
                recovered = open_spool(
                    self._work,
                    plan_id=plan.run_id,
                    asked_by=(context.credentials.principal, context.credentials.fingerprint),
                    origins={target: number for number, target in enumerate(plan.targets)},
                    at=format_second(context.clock.now()),
                    on_page=lambda: context.cancellation.check(_KEPT),
                )
            except CorruptRun as error:
                error.hint = self._describe_restart()
                raise
            for notice in recovered.notices:
                context.callbacks.on_notice(notice)
            spool = stack.enter_context(recovered.spool)
            fetched.recovered = recovered.progress.covered
            if recovered.state.last_requested_at:
                fetched.recovered_at = parse_minute(recovered.state.last_requested_at[:-3] + "00Z")
            self._service = service
            fetched.oldest = self._find_oldest(plan)
            writer = _CountingWriter(
                spool, event_filter=everything, tally=None, listed_compartments=None, callbacks=context.callbacks
            )
            try:
                await self._fetch_tiles(plan, service, writer, recovered)
            finally:
                await writer.close()
            fetched.requests = writer.requests
            spool.commit()
            return plan, spool

    async def _make_plan(self, service: Service) -> SyncPlan:
        plan = await _Planner(self._options, self._context, self._state, began=self._began).make_plan(service)
        write_file(self._work.plan_path, msgspec.json.encode(plan))
        return plan

    def _read_plan(self) -> SyncPlan | None:
        """Return the plan of the round that a killed sync left; one that is in the chain already is discarded."""
        path = self._work.plan_path
        if not path.exists():
            self._work.discard()
            return None
        with explain_disk("read", path):
            data = path.read_bytes()
        hint = self._describe_restart()
        try:
            plan = msgspec.json.decode(data, type=SyncPlan)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise CorruptRun(f"{path} is not the plan of a sync: {error}", hint=hint) from error
        if plan.schema != PLAN_SCHEMA or plan.check != _hash_plan(plan):
            raise CorruptRun(f"{path} was changed, or another version of oci-audit wrote it", hint=hint)
        if plan.run_id == self._state.run_id or not self._is_resumable(plan):
            self._work.discard()
            return None
        self._is_resumed = True
        self._is_outdated = self._needs_another(plan)
        return plan

    def _describe_restart(self) -> str:
        """Return a hint on how to begin without what an earlier sync left."""
        return f"remove the folder {self._folder.work}; what is in it is then requested again"

    def _is_resumable(self, plan: SyncPlan) -> bool:
        """Return whether a plan follows what the archive holds, and is not from the future."""
        if plan.follows != self._state.run_id:
            self._context.callbacks.on_notice("an unfinished sync is older than the archive; it is discarded")
            return False
        if plan.pruned_before != self._state.pruned_before:
            self._context.callbacks.on_notice(
                "an unfinished sync requested what has been pruned since; it is discarded"
            )
            return False
        if plan.now > floor_minute(self._context.clock.now()) + _OUTDATED_MINUTES:
            self._context.callbacks.on_notice(
                f"an unfinished sync was planned at {format_minute(plan.now)}, which is in the future: the clock was "
                "wrong; what it received is requested again"
            )
            return False
        return True

    def _needs_another(self, plan: SyncPlan) -> bool:
        """Return whether a resumed plan leaves something out that is to be requested by now."""
        options = self._options
        now = self._context.clock.now() - timedelta(seconds=plan.ahead_seconds)
        typed = options.resolve_start(self._context.clock.now())
        wanted = options.select(plan.selection)
        return (
            floor_minute(now) - plan.now > _OUTDATED_MINUTES
            or (wanted.regions, wanted.is_subtree) != (plan.selection.regions, plan.selection.is_subtree)
            or (bool(options.compartments) and set(options.compartments) != set(plan.selection.compartments))
            or not options.waived <= set(plan.waived)
            or (typed is not None and typed < plan.start)
            or (options.settle_minutes, options.rings) != (plan.settle_minutes, plan.rings)
        )

    def _find_oldest(self, plan: SyncPlan) -> int:
        """Return the oldest minute that the service still answers for, with a margin for clocks that differ."""
        ahead = plan.ahead_seconds if self._service is None else _read_skew(self._service) or plan.ahead_seconds
        now = floor_minute(self._context.clock.now() - timedelta(seconds=ahead))
        return _find_answerable(now, plan.retention_days)

    async def _fetch_tiles(
        self, plan: SyncPlan, service: Service, writer: _CountingWriter, recovered: Recovered
    ) -> None:
        """Fetch the plan oldest first, a stretch of time after another, until the round is full."""
        context, options, fetched = self._context, self._options, self._fetched
        kept = len(recovered.spool.index)
        wanted = {target: Coverage(windows) for target, windows in plan.list_asks().items()}
        position = min((coverage.windows[0].start for coverage in wanted.values()), default=plan.end)
        longest = max((sum(window.minutes for window in one.windows) for one in wanted.values()), default=0)
        length = plan.end - position if longest <= _UNDIVIDED_MINUTES else MINUTES_PER_DAY
        if wanted:
            _, requests = count_requests(plan.list_asks(), max_window_minutes=options.max_window_minutes)
            context.callbacks.on_plan(Window(position, plan.end), tuple(wanted), requests)
        fetch = _TileFetcher(options, context, service, writer, recovered.progress)
        began = context.clock.monotonic()
        fetched.reached = plan.end
        while position < plan.end:
            tile = Window(position, _end_tile(min(plan.end, position + length), recovered.progress))
            before = writer.events
            asked = {target: _intersect(one, tile) for target, one in wanted.items()}
            oldest = self._find_oldest(plan)
            parts = {target: _clip(windows, oldest) for target, windows in asked.items()}
            gaps, coverage = await fetch.run(tile, parts, settled_until=plan.end)
            fetched.gaps.update(gaps)
            self._record_answers(plan, asked, coverage)
            position = fetched.reached = tile.end
            is_full = kept + writer.events >= options.round_events
            is_full |= context.clock.monotonic() - began >= options.round_seconds
            if is_full and any(one.windows for one in fetched.answered.values()):  # else the next round would repeat it
                break
            if not any(_intersect(one, tile) for one in fetched.recovered.values()):  # else its density is not known
                length = _choose_length(tile.minutes, writer.events - before, fitting=options.round_events // 2)
        fetch.check_responded()

    def _record_answers(
        self, plan: SyncPlan, asked: Mapping[Target, tuple[Window, ...]], coverage: Mapping[Target, Coverage]
    ) -> None:
        """Keep the windows that were answered, as far as they were inside retention at that moment."""
        fetched = self._fetched
        oldest = self._find_oldest(plan)
        oldest_recovered = _find_answerable(fetched.recovered_at, plan.retention_days)
        for target, windows in asked.items():
            answered = fetched.answered.setdefault(target, Coverage())
            recovered = fetched.recovered.get(target)
            for known, start in ((coverage.get(target), oldest), (recovered, oldest_recovered)):
                for window in _clip(windows, start) if known is not None else ():
                    for part in _intersect(known or Coverage(), window):
                        answered.add(part)

    def _commit(self, plan: SyncPlan, spool: Spool) -> Commit:
        """Merge what the round received into the archive, and commit it."""
        context, state = self._context, self._state
        recorder = _AddedRecorder(state, context.credentials.principal)
        context.callbacks.on_publish(len(spool.index))
        with contextlib.closing(spool.open_reader()) as reader:
            merged = merge_ordered(
                self._folder.path,
                _LiveSegments(state.group_segments(), self._remote),
                self._iterate_events(CanonicalReader(spool.index, reader, start=0, end=1), plan.targets),
                scratch=self._folder.work,
                on_added=recorder.record,
                check=lambda: context.cancellation.check(_KEPT),
            )
        commit = self._state_facts(plan)
        commit = msgspec.structs.replace(
            commit,
            added=merged.added,
            replaced=merged.replaced,
            counts=msgspec.structs.replace(merged.counts, own=recorder.own),
            late=recorder.late,
        )
        write_record_ids(self._folder, commit.sequence, merged.record_ids)
        return append_commit(self._log, state, commit, signing_key=self._options.signing_key)

    def _state_facts(self, plan: SyncPlan) -> Commit:
        """Return the commit of this round without its events: what was requested, answered, and is missing."""
        state, fetched = self._state, self._fetched
        is_region_choice = bool(plan.selection.regions)
        change, self._warnings = diff_scope(
            state, regions=plan.regions, compartments=plan.compartments, is_region_choice=is_region_choice
        )
        oldest = find_retention_start(plan.now, plan.retention_days)
        start = plan.start
        if not state.start and self._options.start is None:  # the retention passed while nothing was running
            start = max(start, fetched.oldest)
        seen = state.preview_scope(change, start=start, retention_start=oldest)
        closed = judge_closures(seen, fetched.gaps)
        is_last = fetched.reached >= plan.end
        open_targets = set(list_targets(seen)) - set(closed)
        commit = Commit(
            sequence=self._log.next_sequence,
            previous=self._log.previous,
            kind="sync",
            at=format_second(self._context.clock.now()),
            run_id=plan.run_id,
            writer=make_writer(),
            now=plan.now,
            start=start,
            end=fetched.reached,
            settle_minutes=plan.settle_minutes,
            rings=plan.rings,
            rings_run=plan.rings_run if is_last else (),
            retention_days=plan.retention_days,
            requests=fetched.requests,
            selection=plan.selection if plan.selection != state.selection else None,
            scope=change,
            answered=group_answers(
                {target: coverage.windows for target, coverage in fetched.answered.items()},
                open_targets,
            ),
            gaps=_join_gaps(self._list_gaps(plan, open_targets)),
            waived=plan.waived,
            closed=closed,
            reopened=list_reopened(seen),
        )
        after = state.copy()
        after.apply(commit, "")
        return msgspec.structs.replace(commit, lost=find_lost(after, retention_start=oldest, closing=closed))

    def _list_gaps(self, plan: SyncPlan, targets: Collection[Target]) -> list[Gap]:
        """Return the gaps of this round, and earlier ones that it did not come to."""
        gaps = [gap for gap in self._fetched.gaps if gap.target in targets]
        requested = {target: list(coverage.windows) for target, coverage in self._fetched.answered.items()}
        for gap in gaps:
            requested.setdefault(gap.target, []).append(gap.window)
        oldest = find_retention_start(plan.now, plan.retention_days)
        return gaps + carry_gaps(self._state, requested, targets=targets, oldest=oldest)

    def _iterate_events(self, events: CanonicalReader, targets: Sequence[Target]) -> Iterator[OrderedEvent]:
        """Yield every record with its origin, and stop where that is requested."""
        for number, (order, raw, origin) in enumerate(events.iterate_all()):
            if number and number % 1_000 == 0:
                self._context.cancellation.check(_KEPT)
                self._context.callbacks.on_written(1_000)
            yield order, raw, targets[origin]


@dataclass(frozen=True, slots=True)
class SyncResult:
    """How a sync ended: its commits, and the archive's state after them."""

    folder: ArchiveFolder
    state: ArchiveState
    commits: tuple[Commit, ...]
    warnings: tuple[str, ...]
    was_created: bool
    policy: str = ""

    @property
    def totals(self) -> Totals:
        """Return the sums over the commits of this sync alone."""
        totals = Totals()
        for commit in self.commits:
            totals = totals.add(commit, rows=0)
        return totals

    @property
    def verdict(self) -> Verdict:
        """Return what may be said of the archive now."""
        return judge_archive(self.state)


@dataclass(frozen=True, slots=True)
class SyncPreview:
    """What the next sync would request.

    `exists`: there is an archive. `is_resumed`: a sync that did not finish has left a plan, which is completed first.
    """

    plan: SyncPlan
    warnings: tuple[str, ...]
    exists: bool
    is_resumed: bool
    requests_at_least: int
    windows: int

    @property
    def begin(self) -> int | None:
        """Return the oldest minute that would be requested, None if nothing would be."""
        return min((window.start for ask in self.plan.asks for window in ask.windows), default=None)


def preview_sync(options: SyncOptions, context: RunContext) -> SyncPreview:
    """Find out what a sync would request now. Only the scope is requested, and nothing is written.

    Raises:
        OciAuditError: as `sync_archive`, before its first request for events.
    """
    exists = check_archive(options.archive, tenancy=context.credentials.tenancy) is not None
    state = ArchiveState()
    if exists:
        log = CommitLog.open(options.archive)
        log.check_key(options.signing_key)
        state = load_state(log)
    planner = _Planner(options, context, state)

    async def make_plan() -> SyncPlan:
        async with connect(context) as service:
            return await planner.make_plan(service)

    plan = run_async(make_plan)
    windows, requests = count_requests(plan.list_asks(), max_window_minutes=options.max_window_minutes)
    return SyncPreview(
        plan=plan,
        warnings=planner.warnings,
        exists=exists,
        is_resumed=exists and RunDirectory(ArchiveFolder(options.archive).work).plan_path.exists(),
        requests_at_least=requests,
        windows=windows,
    )


def count_requests(asks: Mapping[Target, Sequence[Window]], *, max_window_minutes: int) -> tuple[int, int]:
    """Return how many windows are to be requested, and how many requests that takes at least."""
    windows = [window for some in asks.values() for window in some]
    return len(windows), sum(ceil(window.minutes / max_window_minutes) for window in windows)


def sync_archive(  # long because: the order of its steps is what a kill at any moment must find
    options: SyncOptions,
    context: RunContext,
    *,
    on_commit: Callable[[Commit], None] = lambda _: None,
    remote: RemoteArchive | None = None,
) -> SyncResult:
    """Bring an archive up to date; create it where there is none. `on_commit` gets each commit.

    With `remote`, the archive is one in a store: its commits are copied first, and each new one is pushed.

    Raises:
        UsageError: another process is writing to the archive, the folder is not one, it belongs to another tenancy, or
            it would follow less than before; the store has another writer's commit.
        CorruptRun: the archive is damaged; nothing was changed.
        OciAuditError: the sync could not be finished; what was received is kept, and the next sync continues.
    """
    if remote is not None:
        with hold_copy(options.archive):
            remote.pull()
    was_created = not is_archive(options.archive)
    create_archive(options.archive, tenancy=context.credentials.tenancy, now=context.clock.now())
    commits: list[Commit] = []
    warnings: dict[str, None] = {}

    def record(commit: Commit) -> None:
        commits.append(commit)
        on_commit(commit)
        if remote is not None:
            remote.push()

    with lock_archive(options.archive):
        if remote is not None:
            remote.push()  # what a killed sync has committed here and nowhere else
        log = CommitLog.open(options.archive)
        log.check_key(options.signing_key)
        state = recover_archive(log, now=context.clock.now())
        check_space(log.folder, "a sync")
        has_more, began = True, None
        least, stalled = sys.maxsize, 0
        while has_more and stalled < _STALLED_ROUNDS:
            done = _Round(options, context, log, state, began=began, remote=remote).run()
            began = done.planned_at if began is None else began
            warnings.update(dict.fromkeys(done.warnings))
            has_more = done.has_more
            stalled = stalled + 1 if done.behind >= least else 0
            least = min(least, done.behind) if done.behind else sys.maxsize
            record(done.commit)
        if has_more:
            left = format_count(done.behind, "minute")
            warnings[f"the service answers more slowly than time passes: {left} left to the next sync"] = None
        for commit in _compact(options, context, log, state, remote):
            record(commit)
        _update_derived(options, context, log, state)
        if remote is not None:
            remote.sweep(
                _find_replaced(log, since=context.clock.now() - _REPLACED_KEPT),
                live=state.segments.keys(),
                find_replaced=lambda: {path for commit in log.read_commits(1) for path in commit.replaced},
            )
    policy = context.credentials.format_policy("read audit-events")
    return SyncResult(log.folder, state, tuple(commits), tuple(warnings), was_created, policy)


def _update_derived(options: SyncOptions, context: RunContext, log: CommitLog, state: ArchiveState) -> None:
    """Write what follows from the commits: a checkpoint when it is due, and the Delta log; drop old record ids."""
    if log.is_checkpoint_due():
        log.write_checkpoint(state.encode())
    kept = timedelta(minutes=parse_duration(options.tail_keep))
    drop_record_ids(log.folder, before=context.clock.now() - kept)
    if options.is_delta:
        update_delta(log, state)
    elif has_log(log.folder):
        context.callbacks.on_notice(
            "the archive has a Delta log, which this sync did not bring up to date: engines that read it miss what "
            "is new; add --delta, or remove the folder events/_delta_log"
        )


def recover_archive(log: CommitLog, *, now: datetime) -> ArchiveState:
    """Return the state of a locked archive; complete what a killed writer began, and remove what is no longer needed.

    Segments that were replaced within a day stay, for those who are reading them.

    Raises:
        CorruptRun: chain and HEAD do not agree; nothing is removed then.
    """
    state = load_state(log)
    replaced = _find_replaced(log, since=now - _REPLACED_KEPT)
    log.recover(known=state.segments.keys() | replaced)
    _reinstate(log.folder, state.segments)
    _retire(log.folder, replaced - state.segments.keys())
    return state


def append_commit(log: CommitLog, state: ArchiveState, commit: Commit, *, signing_key: Path | None) -> Commit:
    """Append a commit to the chain, advance `state` by it, and move what it replaces out of the way.

    Raises:
        DiskError: it cannot be written.
        UsageError: another writer was faster.
    """
    if commit.sequence == 1:
        commit = msgspec.structs.replace(commit, key_fingerprint=log.check_key(signing_key))
    head = log.append(commit, signing_key=signing_key)
    state.apply(commit, head.digest)
    _retire(log.folder, commit.replaced)
    return commit


def make_writer() -> Writer:
    """Return the versions that write segments."""
    return Writer(VERSION, metadata.version("duckdb"))


def _compact(
    options: SyncOptions, context: RunContext, log: CommitLog, state: ArchiveState, remote: RemoteArchive | None
) -> Iterator[Commit]:
    """Rewrite every date that is settled and has several segments into one; commit a month of dates at a time."""
    segments = {date: entries for date, entries in state.group_segments().items() if len(entries) > 1}
    dates = sorted(find_settled_dates(state, segments))
    for first in range(0, len(dates), _DATES_PER_COMPACTION):
        some = dates[first : first + _DATES_PER_COMPACTION]
        check_space(log.folder, "a sync", sum(one.size_bytes for date in some for one in segments[date]))
        added = []
        make_private_folder(log.folder.work)
        live = _LiveSegments(segments, remote)
        for date in some:
            entry = compact_date(
                log.folder.path,
                date,
                live[date],
                scratch=log.folder.work,
                check=lambda: context.cancellation.check("while compacting; everything received is committed"),
            )
            added += [entry] if entry else []
        commit = Commit(
            sequence=log.next_sequence,
            previous=log.previous,
            kind="compaction",
            at=format_second(context.clock.now()),
            writer=make_writer(),
            added=tuple(added),
            replaced=tuple(one.path for date in some for one in segments[date]),
        )
        yield append_commit(log, state, commit, signing_key=options.signing_key)
    remove_locked_folder(log.folder.work, first=RunDirectory(log.folder.work).plan_path)


def _find_replaced(log: CommitLog, *, since: datetime) -> set[str]:
    """Return the paths that commits written after a moment have replaced."""
    limit, count = format_second(since), _COMMITS_PER_LOOK
    while True:
        commits = list(log.read_commits(max(1, log.next_sequence - count)))
        if not commits or commits[0].sequence == 1 or commits[0].at < limit:
            return {path for one in commits if one.at >= limit for path in one.replaced}
        count *= 4  # most archives have far fewer commits a day than the first look reads


def _retire(folder: ArchiveFolder, paths: Iterable[str]) -> None:
    """Move segments that are no longer part of the archive to `replaced/`, where readers still find them."""
    for path in sorted(paths):
        source, goal = folder.segment_path(path), folder.replaced_path(path)
        if source.exists():
            make_private_folder(goal.parent)
            move_file(source, goal)


def _reinstate(folder: ArchiveFolder, paths: Iterable[str]) -> None:
    """Move live segments that lie in `replaced/` back: a copy taken during a sync may have them there."""
    for path in sorted(paths):
        source, goal = folder.replaced_path(path), folder.segment_path(path)
        if not goal.exists() and source.exists():
            make_private_folder(goal.parent)
            move_file(source, goal)


def _join_gaps(gaps: Iterable[Gap]) -> tuple[Gap, ...]:
    """Return the gaps in order, those of one cause that touch each other as one."""
    joined: list[Gap] = []
    for gap in sorted(gaps):
        last = joined[-1] if joined else None
        if last and (last.target, last.kind, last.reason, last.window.end) == (
            gap.target,
            gap.kind,
            gap.reason,
            gap.window.start,
        ):
            joined[-1] = msgspec.structs.replace(last, window=Window(last.window.start, gap.window.end))
        else:
            joined.append(gap)
    return tuple(joined)


def _read_skew(service: Service) -> float:
    """Return how many seconds the local clock is ahead of the service's; without a `Date`, how many it can be."""
    skew = service.transport.skew_seconds
    return _MAX_SKEW_SECONDS if skew is None else max(0.0, skew)


def _find_answerable(now: int, retention_days: int | None) -> int:
    """Return the oldest minute whose answer counts at `now`; 0 if the retention is not known."""
    if retention_days is None:
        return 0
    return find_retention_start(now, retention_days) - RETENTION_MARGIN_MINUTES + _ANSWER_MARGIN_MINUTES


def _intersect(coverage: Coverage, window: Window) -> tuple[Window, ...]:
    """Return the parts of a window that are covered."""
    return Coverage(coverage.find_missing(window)).find_missing(window)


def _clip(windows: Iterable[Window], start: int) -> tuple[Window, ...]:
    """Return what of some windows is not before `start`."""
    return tuple(Window(max(window.start, start), window.end) for window in windows if start < window.end)


def _end_tile(end: int, progress: FetchState) -> int:
    """Return `end`, or a later minute if a shard that an earlier process began would be cut there."""
    for window in sorted(one.window for one in progress.begun):
        if window.start < end < window.end:
            end = window.end
    return end


def _drop_fresh(
    asks: Mapping[Target, tuple[Window, ...]], state: ArchiveState, *, since: int
) -> dict[Target, tuple[Window, ...]]:
    """Return windows to request without what this very sync has requested since it began, or what is final."""
    left: dict[tuple[int, tuple[Window, ...]], tuple[Window, ...]] = {}
    kept: dict[Target, tuple[Window, ...]] = {}
    for target, windows in asks.items():
        coverage = state.targets[target].coverage
        key = (id(coverage), windows)
        if key not in left:
            fresh = Coverage(
                Window(span.start, span.end)
                for span in coverage.spans
                if span.asked_at is None or span.asked_at >= since
            )
            left[key] = tuple(part for window in windows for part in fresh.find_missing(window))
        if left[key]:
            kept[target] = left[key]
    return kept


def _number_asks(asks: Mapping[Target, tuple[Window, ...]], targets: Sequence[Target]) -> tuple[Ask, ...]:
    """Group targets with equal windows, so that the plan stays small."""
    groups: dict[tuple[Window, ...], list[int]] = {}
    for number, target in enumerate(targets):
        if windows := asks.get(target):
            groups.setdefault(windows, []).append(number)
    return tuple(Ask(windows, tuple(numbers)) for windows, numbers in groups.items())


def _is_denied(error: ScopeUnreadable) -> bool:
    """Return whether the service answered as it does without the permission to list."""
    return isinstance(error.__cause__, ServiceError) and error.__cause__.status in {403, 404}


def _names_all(selection: Selection) -> bool:
    """Return whether a selection names all of its compartments by OCID."""
    named = selection.compartments
    return bool(named) and not selection.is_subtree and all(map(is_ocid_like, named))


def _hash_plan(plan: SyncPlan) -> str:
    return hashlib.sha256(msgspec.json.encode(msgspec.structs.replace(plan, check=""))).hexdigest()


def _choose_length(minutes: int, events: int, *, fitting: int) -> int:
    """Return how long the next stretch of time is, so that it has `fitting` events if it is as dense as the last."""
    return max(60, min(ceil(minutes * fitting / max(events, 1)), minutes * _TILE_GROWTH))


def _check_wider(before: Selection | None, now: Selection) -> None:
    if before is not None and not now.includes(before):
        raise UsageError(
            "the archive follows regions or compartments that are not named here; following less would leave holes",
            hint="omit --region and --compartment to continue as before, name those that it follows as well, "
            "or begin another archive",
        )


def check_space(folder: ArchiveFolder, what: str, written: int = 0) -> None:
    """Check that an archive's disk has space for so many bytes and some more, before `what` begins to write.

    Raises:
        DiskError: it has not.
    """
    needed = _MIN_FREE_BYTES + written
    with explain_disk("look into", folder.path):
        free = shutil.disk_usage(folder.path).free
    if free < needed:
        raise DiskError(
            f"the disk of {folder.path} has {free // 2**20:,} MiB left, and {what} needs {needed // 2**20:,} MiB",
            hint="make room, then run the same command again; nothing is lost",
        )
