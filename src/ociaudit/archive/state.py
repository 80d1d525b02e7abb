"""The state of an archive: what its commits add up to, what the next sync requests, and what may be said of it.

`ArchiveState` is a fold over commits. For each target it knows which minutes are covered and when each was last asked.
`plan_asks` turns that into windows to request, `judge_archive` into a verdict.

Invariants
- The state depends on the commits alone: no clock, no file. Folding all commits, or a checkpoint and the commits after
  it, gives the same bytes.
- Nothing at or after a sync's `now` counts as covered.
- A minute is final once it was requested at an age of at least the widest ring + settle, at a time that no later sync
  contradicts. Final stays final, unless a later sync shows that a clock was ahead.
- Targets in the same situation share one `TargetState`, and each question is answered once per situation, so that the
  cost grows with situations rather than with targets.
"""

# Over 700 lines: the fold, the plan and the judgement read one state, and a rule such as "closed" is the same in all.

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Literal, NamedTuple

import msgspec

from ociaudit.archive.commit import (
    UNKNOWN_DATE,
    Answered,
    Commit,
    Compartment,
    ScopeChange,
    SegmentEntry,
    Selection,
    TargetWindow,
)
from ociaudit.errors import CorruptRun, UsageError
from ociaudit.planning.shard import (
    MINUTES_PER_DAY,
    AskedCoverage,
    Coverage,
    Gap,
    Target,
    Window,
    format_minute,
    parse_minute,
    shorten_reason,
)
from ociaudit.planning.time_range import parse_duration
from ociaudit.storage.verdict import Verdict, VerdictKind

DEFAULT_SETTLE, DEFAULT_RINGS = "15m", "2h,26h,7d"
RETENTION_MARGIN_MINUTES = 60
"""The oldest minutes inside retention that are not requested, because they may pass out of it meanwhile."""
_RING_PERIODS = (0, MINUTES_PER_DAY, 7 * MINUTES_PER_DAY)
"""How often the first, second and third ring run, in minutes."""
_RING_TOLERANCE_MINUTES = 30
"""A ring is due this much before its period is over, so that a timer's jitter does not delay it by a whole sync."""
_RINGS_HINT = "give one to three durations, each longer than the one before: --rescan 2h,26h,7d"
_TRAIL_DAYS = 400
_NEVER = 1 << 40
"""A minute after all others."""
_DELETED = "DELETED"
_ACTIVE = "ACTIVE"


class TargetState(msgspec.Struct, frozen=True, array_like=True):
    """What is known of a target.

    `since` is the first minute that it is expected to be covered from: the archive's start, or the oldest minute that
    could be requested when the target was first listed. `lost` are windows that passed out of retention unanswered.
    """

    coverage: AskedCoverage = AskedCoverage()
    since: int = 0
    is_closed: bool = False
    lost: tuple[Window, ...] = ()


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """Sums over the commits of an archive; their fields are those of `EventCounts` and `LateArrivals`.

    `rows` are those of the live segments. `late_medians` counts the late events of commits by their median lateness.
    """

    rows: int = 0
    requests: int = 0
    received: int = 0
    added: int = 0
    known: int = 0
    identical: int = 0
    reserialised: int = 0
    conflicting: int = 0
    own: int = 0
    """Added events that are ListEvents calls of the principal that syncs."""
    late: int = 0
    late_after_final: int = 0
    late_worst_minutes: int = 0
    late_medians: dict[int, int] = {}
    commits: dict[str, int] = {}
    """How many commits there are of each kind."""
    imported_files: int = 0

    @property
    def late_median_minutes(self) -> int:
        """Return the median of the commits' medians, weighted by their late events; 0 without late events."""
        position = 0
        for minutes, count in sorted(self.late_medians.items()):
            position += count
            if 2 * position >= self.late:
                return minutes
        return 0

    def add(self, commit: Commit, *, rows: int) -> Totals:
        """Return these totals with a commit that changes the live rows by `rows`."""
        counts, late = commit.counts, commit.late
        medians, commits = dict(self.late_medians), dict(self.commits)
        commits[commit.kind] = commits.get(commit.kind, 0) + 1
        if late.count:
            medians[late.median_minutes] = medians.get(late.median_minutes, 0) + late.count
        return Totals(
            rows=self.rows + rows,
            requests=self.requests + commit.requests,
            received=self.received + counts.received,
            added=self.added + counts.added,
            known=self.known + counts.known,
            identical=self.identical + counts.identical,
            reserialised=self.reserialised + counts.reserialised,
            conflicting=self.conflicting + counts.conflicting,
            own=self.own + counts.own,
            late=self.late + late.count,
            late_after_final=self.late_after_final + late.after_final,
            late_worst_minutes=max(self.late_worst_minutes, late.worst_minutes),
            late_medians=medians,
            commits=commits,
            imported_files=self.imported_files + len(commit.sources),
        )


class ArchiveFacts(msgspec.Struct, kw_only=True):
    """What the commits of an archive state, apart from its targets. Times are minutes; 0: none yet.

    `now` is that of the last sync, `[start, end)` what the archive is to hold. `ring_runs` holds, by ring in minutes,
    the `now` of the sync that last ran it. `gaps` are open. `pruned_before`: earlier events were pruned.
    """

    sequence: int = 0
    digest: str = ""
    run_id: str = ""
    """That of the last sync."""
    selection: Selection | None = None
    """What the archive follows, as named."""
    key_fingerprint: str | None = None
    start: int = 0
    end: int = 0
    now: int = 0
    last_sync_at: str = ""
    settle_minutes: int = 0
    rings: tuple[int, ...] = ()
    ring_runs: dict[int, int] = msgspec.field(default_factory=dict)
    retention_days: int | None = None
    pruned_before: int = 0
    regions: tuple[str, ...] = ()
    compartments: dict[str, Compartment] = msgspec.field(default_factory=dict)
    """All that were ever listed, by OCID, as last listed."""
    unlisted: tuple[str, ...] = ()
    waived: tuple[str, ...] = ()
    gaps: tuple[Gap, ...] = ()
    segments: dict[str, SegmentEntry] = msgspec.field(default_factory=dict)
    """The live segments by path."""
    totals: Totals = Totals()
    trail: tuple[int, ...] = ()
    """The `now` of syncs that no later one contradicts, ascending; of those over a day old, one a day."""

    @property
    def reach(self) -> int:
        """Return the age, in minutes, at which a minute must be asked to be final; before the first sync, the usual."""
        if not self.rings:
            return max(parse_rings(DEFAULT_RINGS)) + parse_duration(DEFAULT_SETTLE)
        return max(self.rings) + self.settle_minutes


class _TargetGroup(msgspec.Struct, frozen=True, array_like=True):
    """Targets that share a state; `members` holds positions in the list of compartments, by region."""

    state: TargetState
    members: dict[str, tuple[int, ...]]


class _Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An encoded state."""

    schema: Literal["oci-audit-checkpoint/1"] = "oci-audit-checkpoint/1"
    facts: ArchiveFacts
    compartments: tuple[str, ...]
    groups: tuple[_TargetGroup, ...]


class ArchiveState(ArchiveFacts, kw_only=True):
    """The sum of an archive's commits; a new one is the state of an empty archive.

    Do not change its parts; `apply` replaces them.
    """

    targets: dict[Target, TargetState] = msgspec.field(default_factory=dict)

    def copy(self) -> ArchiveState:
        """Return a copy that can be changed without changing this state."""
        return msgspec.structs.replace(
            self,
            targets=dict(self.targets),
            compartments=dict(self.compartments),
            segments=dict(self.segments),
            ring_runs=dict(self.ring_runs),
        )

    def apply(self, commit: Commit, digest: str) -> None:
        """Add the next commit, whose file has this digest.

        Raises:
            CorruptRun: the commit is not the next one.
        """
        if commit.sequence != self.sequence + 1:
            raise CorruptRun(
                f"commit {commit.sequence} follows commit {self.sequence}",
                hint="restore the archive's folder from a copy; nothing was changed",
            )
        self.sequence, self.digest = commit.sequence, digest
        self.key_fingerprint = self.key_fingerprint or commit.key_fingerprint
        self.run_id = commit.run_id or self.run_id
        self.selection = commit.selection or self.selection
        self._apply_times(commit)
        if commit.scope is not None:
            self.change_scope(commit.scope)
        if commit.kind in {"sync", "import"}:
            self.expect_from(max(self.start, find_retention_start(commit.now, commit.retention_days)))
        self._change_targets(commit.reopened, lambda one: msgspec.structs.replace(one, is_closed=False))
        self._apply_answers(commit)
        self._change_targets(commit.closed, lambda one: msgspec.structs.replace(one, is_closed=True))
        self._apply_lost(commit.lost)
        rows = sum(one.rows for one in commit.added) - sum(
            self.segments.pop(path).rows for path in commit.replaced if path in self.segments
        )
        self.segments.update((one.path, one) for one in commit.added)
        self.totals = self.totals.add(commit, rows=rows)
        self._share()

    def preview_scope(self, change: ScopeChange | None, *, start: int, retention_start: int) -> ArchiveState:
        """Return the state as a sync sees it that plans after such a change of scope, before anything is answered."""
        state = self.copy()
        state.start = min(self.start or start, start)
        if change is not None:
            state.change_scope(change)
        state.expect_from(max(state.start, retention_start))
        return state

    def change_scope(self, change: ScopeChange) -> None:
        """Add what a listing has changed, with the targets that it makes."""
        self.compartments.update(change.compartments)
        self.unlisted = tuple(sorted({*self.unlisted, *change.unlisted} - change.compartments.keys()))
        self.regions = tuple(sorted({*self.regions, *change.added_regions} - set(change.removed_regions)))
        new = TargetState(since=_NEVER)
        for region in self.regions:
            for compartment in self.compartments:
                self.targets.setdefault(Target(region, compartment), new)

    def is_open(self, target: Target) -> bool:
        """Return whether a target is still to be requested: its region is in scope, and it is not closed."""
        state = self.targets.get(target)
        return state is not None and not state.is_closed and target.region in self.regions

    def group_targets(self) -> list[tuple[TargetState, list[Target]]]:
        """Return the targets by state, those of regions out of scope left out."""
        groups: dict[int, tuple[TargetState, list[Target]]] = {}
        regions = set(self.regions)
        for target, state in self.targets.items():
            if target.region in regions:
                groups.setdefault(id(state), (state, []))[1].append(target)
        return list(groups.values())

    def group_segments(self) -> dict[str, tuple[SegmentEntry, ...]]:
        """Return the live segments by date, both in order."""
        by_date: dict[str, list[SegmentEntry]] = {}
        for _, segment in sorted(self.segments.items()):
            by_date.setdefault(segment.date, []).append(segment)
        return {date: tuple(by_date[date]) for date in sorted(by_date)}

    def encode(self) -> bytes:
        """Return the state as JSON; equal states give equal bytes."""
        compartments = sorted({target.compartment for target in self.targets})
        positions = {ocid: index for index, ocid in enumerate(compartments)}
        members: dict[TargetState, dict[str, list[int]]] = {}
        shared: dict[int, dict[str, list[int]]] = {}
        for target, state in sorted(self.targets.items()):
            if id(state) not in shared:
                shared[id(state)] = members.setdefault(state, {})
            shared[id(state)].setdefault(target.region, []).append(positions[target.compartment])
        groups = [
            _TargetGroup(state, {key: tuple(sorted(some)) for key, some in found.items()})
            for state, found in members.items()
        ]
        facts = ArchiveFacts(**{name: getattr(self, name) for name in ArchiveFacts.__struct_fields__})
        checkpoint = _Checkpoint(facts=facts, compartments=tuple(compartments), groups=tuple(groups))
        # Only text keys can be sorted, so the keys that are numbers become text first.
        return msgspec.json.encode(msgspec.to_builtins(checkpoint, str_keys=True), order="deterministic")

    @classmethod
    def decode(cls, data: bytes) -> ArchiveState:
        """Return the state that `encode` wrote.

        Raises:
            CorruptRun: the bytes are not those of a state.
        """
        try:
            found = msgspec.json.decode(data, type=_Checkpoint)
            targets = {
                Target(region, found.compartments[index]): group.state
                for group in found.groups
                for region, indexes in group.members.items()
                for index in indexes
            }
        except (msgspec.MsgspecError, IndexError) as error:
            raise CorruptRun(
                f"a checkpoint cannot be read: {error}", hint="delete the archive's checkpoints; its commits suffice"
            ) from error
        return cls(**{name: getattr(found.facts, name) for name in ArchiveFacts.__struct_fields__}, targets=targets)

    def _apply_times(self, commit: Commit) -> None:
        """Take over a commit's times, and mark what has become final, or is no longer believed."""
        if commit.kind == "prune":
            self.pruned_before = max(self.pruned_before, commit.start)
            return
        if commit.start:
            self.start = min(self.start or commit.start, commit.start)
        if commit.kind != "sync":
            self.end = max(self.end, commit.end)
            return
        now, is_back = commit.now, commit.now < self.now
        self.rings, self.settle_minutes, self.retention_days = (
            commit.rings,
            commit.settle_minutes,
            commit.retention_days,
        )
        self.ring_runs = {ring: run for ring, run in self.ring_runs.items() if run <= now}
        self.ring_runs.update(dict.fromkeys(commit.rings_run, now))
        self.last_sync_at, self.gaps, self.waived = commit.at, commit.gaps, commit.waived
        self.end = commit.end if is_back else max(self.end, commit.end)
        if is_back:
            self.trail = tuple(one for one in self.trail if one <= now)
            asked_since = self.trail[-1] if self.trail else 0
            self._change_coverage(
                self.targets, lambda one: one.distrust(reach=self.reach, now=now, asked_since=asked_since)
            )
        else:
            self._change_coverage(self.targets, lambda one: one.collapse(reach=self.reach, now=now))
        self.trail = _thin_trail((*self.trail, now))
        self.now = now

    def expect_from(self, since: int) -> None:
        """Expect targets to be covered from `since` on where that is earlier than before."""
        if any(state.since > since for state in self.targets.values()):
            self._change_targets(self.targets, lambda one: msgspec.structs.replace(one, since=min(one.since, since)))

    def _apply_answers(self, commit: Commit) -> None:
        named = {target for one in commit.answered for target in one.targets or ()}
        closed = set(commit.closed)
        for answer in commit.answered:
            targets = answer.targets
            if targets is None:
                targets = tuple(
                    one for one in self.targets if one not in named and one not in closed and self.is_open(one)
                )
            asked_at = commit.now if answer.asked_at is None else answer.asked_at
            self._change_coverage(targets, partial(_add_windows, windows=answer.windows, now=asked_at))

    def _apply_lost(self, lost: Iterable[TargetWindow]) -> None:
        windows: dict[Target, list[Window]] = {}
        for one in lost:
            windows.setdefault(one.target, []).append(one.window)
        for target, some in windows.items():
            state = self.targets.get(target, TargetState())
            self.targets[target] = msgspec.structs.replace(state, lost=Coverage([*state.lost, *some]).windows)

    def _change_coverage(self, targets: Iterable[Target], change: Callable[[AskedCoverage], AskedCoverage]) -> None:
        self._change_targets(targets, lambda one: msgspec.structs.replace(one, coverage=change(one.coverage)))

    def _change_targets(self, targets: Iterable[Target], change: Callable[[TargetState], TargetState]) -> None:
        """Replace the states of targets, once for all targets that share a state."""
        changed: dict[int, tuple[TargetState, TargetState]] = {}
        empty = TargetState()
        for target in list(targets):
            state = self.targets.get(target, empty)
            pair = changed.get(id(state))
            if pair is None:
                pair = changed[id(state)] = (state, change(state))  # keeps the old one alive, and so its id unique
            self.targets[target] = pair[1]

    def _share(self) -> None:
        """Let targets of equal states share one object."""
        canonical: dict[TargetState, TargetState] = {}
        known: dict[int, TargetState] = {}
        for state in self.targets.values():
            if id(state) not in known:
                known[id(state)] = canonical.setdefault(state, state)
        if len(canonical) < len(known):
            self.targets = {target: known[id(state)] for target, state in self.targets.items()}


def _add_windows(coverage: AskedCoverage, windows: Iterable[Window], now: int) -> AskedCoverage:
    """Add windows that were requested at `now`; what is not over by then is not covered."""
    for window in windows:
        if window.start < now:
            coverage = coverage.add(Window(window.start, min(window.end, now)), now)
    return coverage


def _thin_trail(trail: tuple[int, ...]) -> tuple[int, ...]:
    """Drop all but one time a day from what is over a day old; all but the last time were thinned when they came."""
    last = trail[-1]
    first = bisect_right(trail, last - _TRAIL_DAYS * MINUTES_PER_DAY)
    thinned = bisect_right(trail, trail[-2] - MINUTES_PER_DAY) if len(trail) > 1 else 0
    begin = max(thinned - 1, 0)
    kept: list[int] = []
    for one in trail[begin:]:
        if one > last - MINUTES_PER_DAY or not kept or one - kept[-1] >= MINUTES_PER_DAY:
            kept.append(one)
    return (*trail[first:begin], *(one for one in kept if one > last - _TRAIL_DAYS * MINUTES_PER_DAY))


def find_retention_start(now: int, retention_days: int | None) -> int:
    """Return the oldest minute that may be requested, an hour inside retention; 0 if the retention is not known."""
    return 0 if retention_days is None else now - retention_days * MINUTES_PER_DAY + RETENTION_MARGIN_MINUTES


def parse_rings(text: str) -> tuple[int, ...]:
    """Return the rescan rings of a text such as `2h,26h,7d`, in minutes.

    Raises:
        UsageError: there is none or are more than three, one is not positive, or they are not in ascending order.
    """
    rings = tuple(parse_duration(one.strip()) for one in text.split(",")) if text.strip() else ()
    check_rings(rings)
    return rings


def check_rings(rings: Sequence[int]) -> None:
    """Check rescan rings, in minutes.

    Raises:
        UsageError: there is none or are more than three, one is not positive, or they are not in ascending order.
    """
    if not 1 <= len(rings) <= len(_RING_PERIODS):
        raise UsageError(f"there are {len(rings)} rescan rings", hint=_RINGS_HINT)
    if rings[0] <= 0:
        raise UsageError("a rescan ring is not longer than zero", hint=_RINGS_HINT)
    if any(later <= earlier for earlier, later in pairwise(rings)):
        raise UsageError("the rescan rings are not in ascending order", hint=_RINGS_HINT)


def due_rings(state: ArchiveState, *, now: int, rings: Sequence[int]) -> tuple[int, ...]:
    """Return the rings that a sync at `now` runs: the first always, the second once a day, the third once a week."""
    due = []
    for ring, period in zip(rings, _RING_PERIODS, strict=False):
        last = state.ring_runs.get(ring)
        if not period or last is None or last > now or now - last >= period - _RING_TOLERANCE_MINUTES:
            due.append(ring)
    return tuple(due)


class ScopeDifference(NamedTuple):
    """What a listing changes, None if nothing, and warnings for what should not have changed."""

    change: ScopeChange | None
    warnings: tuple[str, ...]


def diff_scope(
    state: ArchiveState,
    *,
    regions: Collection[str],
    compartments: Mapping[str, Compartment],
    is_region_choice: bool = False,
) -> ScopeDifference:
    """Compare the scope with a listing: READY regions, and compartments by OCID with the root.

    A region that is no longer listed stays in scope, unless the user chose the regions (`is_region_choice`).
    """
    gone = tuple(sorted(set(state.regions) - set(regions)))
    unlisted = tuple(sorted(state.compartments.keys() - compartments.keys() - set(state.unlisted)))
    relisted = set(state.unlisted) & compartments.keys()
    change = ScopeChange(
        added_regions=tuple(sorted(set(regions) - set(state.regions))),
        removed_regions=gone if is_region_choice else (),
        compartments={
            ocid: one
            for ocid, one in sorted(compartments.items())
            if ocid in relisted or state.compartments.get(ocid) != one
        },
        unlisted=unlisted,
    )
    warnings = [f"region {one} is no longer listed as ready; it is still requested" for one in gone]
    if is_region_choice:
        warnings = [f"region {one} is no longer in the scope; the archive ends there" for one in gone]
    for ocid in unlisted:
        known = state.compartments[ocid]
        if known.state == _ACTIVE:
            warnings.append(f"{known.path} ({ocid}) was ACTIVE and is no longer listed; it is still requested")
    return ScopeDifference(change if change != ScopeChange() else None, tuple(warnings))


def list_reopened(state: ArchiveState) -> tuple[Target, ...]:
    """Return the closed targets whose compartments are listed as not deleted, in order."""
    listed = {ocid for ocid, one in state.compartments.items() if one.state != _DELETED} - set(state.unlisted)
    found = [group for one, group in state.group_targets() if one.is_closed]
    return tuple(sorted(target for group in found for target in group if target.compartment in listed))


def list_targets(state: ArchiveState) -> tuple[Target, ...]:
    """Return the targets to request, in order: those not closed, listed or not, and those to be opened again."""
    found = [target for one, group in state.group_targets() if not one.is_closed for target in group]
    return tuple(sorted([*found, *list_reopened(state)]))


def plan_asks(
    state: ArchiveState,
    *,
    now: int,
    settle: int,
    due: Sequence[int],
    retention_start: int,
    targets: Iterable[Target],
) -> dict[Target, tuple[Window, ...]]:
    """Return the windows to request from each target, in time order; targets without any are left out.

    They are the minutes up to `now - settle` that are not covered, those of open gaps, and one window from the first
    minute that a due ring has to ask again up to that end. Nothing before retention, before the start or before what
    was pruned is requested.
    """
    floor, end = max(state.start, retention_start, state.pruned_before), now - settle
    if floor >= end:
        return {}
    window, reach = Window(floor, end), max(due) + settle if due else 0
    planned: dict[int, tuple[Window, ...]] = {}
    empty = TargetState()
    asks: dict[Target, tuple[Window, ...]] = {}
    gaps = _group_gaps(state.gaps)
    for target in targets:
        coverage = state.targets.get(target, empty).coverage
        windows = planned.get(id(coverage))
        if windows is None:
            windows = planned[id(coverage)] = _plan_windows(coverage, window, reach=reach, now=now)
        if target in gaps:  # also of minutes that an earlier sync covered: a rescan that failed
            windows = Coverage([*windows, *clip(gaps[target], window)]).windows
        if windows:
            asks[target] = windows
    return asks


def _plan_windows(coverage: AskedCoverage, window: Window, *, reach: int, now: int) -> tuple[Window, ...]:
    planned = Coverage(coverage.find_missing(window))
    again = coverage.find_unsatisfied(window, reach=reach, now=now)
    if again:
        planned.add(Window(again[0].start, window.end))
    return planned.windows


def _group_gaps(gaps: Iterable[Gap]) -> dict[Target, list[Window]]:
    grouped: dict[Target, list[Window]] = {}
    for gap in gaps:
        grouped.setdefault(gap.target, []).append(gap.window)
    return grouped


def clip(windows: Iterable[Window], limits: Window) -> Iterator[Window]:
    """Yield what of some windows is within limits."""
    for window in windows:
        start, end = max(window.start, limits.start), min(window.end, limits.end)
        if start < end:
            yield Window(start, end)


def carry_gaps(
    state: ArchiveState, requested: Mapping[Target, Iterable[Window]], *, targets: Iterable[Target], oldest: int
) -> list[Gap]:
    """Return what of the open gaps of some targets was not requested again, and still can be from `oldest` on."""
    known, limits = set(targets), Window(max(oldest, state.pruned_before), _NEVER)
    return [
        msgspec.structs.replace(gap, window=part)
        for gap in state.gaps
        if gap.target in known
        for part in clip(Coverage(requested.get(gap.target, ())).find_missing(gap.window), limits)
    ]


def group_answers(coverage: Mapping[Target, Sequence[Window]], open_targets: Iterable[Target]) -> tuple[Answered, ...]:
    """Return answered windows as a commit states them: the most frequent ones once, for every target not named.

    `open_targets` are those open after the commit: the ones to which "every other open target" refers.
    """
    groups: dict[tuple[Window, ...], list[Target]] = {}
    others = set(open_targets)
    for target in sorted(others | coverage.keys()):
        groups.setdefault(Coverage(coverage.get(target, ())).windows, []).append(target)
    usual = max(groups, key=lambda windows: (sum(one in others for one in groups[windows]), windows), default=())
    answers = [
        Answered(windows, tuple(targets))
        for windows, targets in groups.items()
        if windows != usual and (windows or usual)
    ]
    if usual:
        answers += _state_usual(usual, groups[usual], others)
    return tuple(answers)


def _state_usual(usual: tuple[Window, ...], targets: Sequence[Target], others: Collection[Target]) -> list[Answered]:
    """Return the entry for every other open target, and one for those that are not open."""
    named = tuple(target for target in targets if target not in others)
    return [*([Answered(usual, named)] if named else []), Answered(usual)]


def judge_closures(state: ArchiveState, gaps: Iterable[Gap]) -> tuple[Target, ...]:
    """Return the targets that answered 404 because their compartments are deleted, in order.

    These are listed as DELETED, or no longer listed and were not ACTIVE when last listed. Any other denial is a gap.
    """
    closed = set()
    for gap in gaps:
        listed = state.compartments.get(gap.target.compartment)
        if gap.kind == "denied" and shorten_reason(gap.reason) == "404" and listed is not None:
            is_unlisted = gap.target.compartment in state.unlisted
            if listed.state == _DELETED or (is_unlisted and listed.state != _ACTIVE):
                closed.add(gap.target)
    return tuple(sorted(closed))


def find_lost(
    state: ArchiveState, *, retention_start: int, closing: Collection[Target] = ()
) -> tuple[TargetWindow, ...]:
    """Return what can never be requested again and is not on record yet, in order.

    That is what passed out of retention unanswered, and the holes in the coverage of targets that are `closing`.
    """
    lost: list[TargetWindow] = []
    leaving, returning = set(closing), set(list_reopened(state))
    for one, targets in state.group_targets():
        by_end: dict[int, list[Target]] = {}
        for target in targets:
            end = (one.coverage.end or 0) if one.is_closed or target in leaving else retention_start
            if target not in leaving:
                end = retention_start if target in returning else min(end, retention_start)
            by_end.setdefault(end, []).append(target)
        for end, some in by_end.items():
            missing = _find_unknown(one, Window(one.since, end)) if one.since < end else ()
            lost += [TargetWindow(target, window) for target in some for window in missing]
    return tuple(sorted(lost))


def _find_unknown(state: TargetState, window: Window) -> tuple[Window, ...]:
    """Return what of a window is neither covered nor lost."""
    known = Coverage(state.lost)
    missing = [part for one in state.coverage.find_missing(window) for part in known.find_missing(one)]
    return tuple(missing)


DayKind = Literal["final", "provisional", "gap", "lost"]
_DAY_KINDS: tuple[DayKind, ...] = ("final", "provisional", "gap", "lost")
"""The worst comes last."""


class Day(msgspec.Struct, frozen=True):
    """A UTC day of the calendar: the rows of its events, and the worst that holds for any minute of any target.

    `kind` is None where no minute is expected to be covered: before the archive's start, or the date is unknown.
    """

    date: str
    rows: int
    kind: DayKind | None


class _Situation(NamedTuple):
    """What is true of a target in a window: the parts that are neither covered nor lost, lost, and not final."""

    expected: Window
    missing: tuple[Window, ...]
    lost: tuple[Window, ...]
    provisional: tuple[Window, ...]

    def list_marks(self, *, is_waived: bool) -> Iterator[tuple[DayKind, Window]]:
        """Yield what keeps minutes from being final; what is missing of a waived target does not."""
        yield from (("provisional", window) for window in self.provisional)
        if not is_waived:
            yield from (("gap", window) for window in self.missing)
            yield from (("lost", window) for window in self.lost)


def _assess(state: ArchiveState, one: TargetState, window: Window) -> _Situation | None:
    """Return what is true of targets of one state in a window; None if nothing of it is expected to be covered.

    What was pruned is not expected: no sync requests it again.
    """
    start, end = max(window.start, one.since, state.pruned_before), min(window.end, state.end)
    if one.is_closed:
        end = min(end, one.coverage.end or 0)
    if start >= end:
        return None
    expected = Window(start, end)
    gone = one.coverage.find_missing(expected)
    missing = _find_unknown(one, expected)
    known = Coverage(missing)
    lost = tuple(part for hole in gone for part in known.find_missing(hole))
    return _Situation(expected, missing, lost, find_provisional(state, one, expected))


def find_provisional(state: ArchiveState, one: TargetState, window: Window) -> tuple[Window, ...]:
    """Return what of a window is covered and will be requested again: nothing of a closed target, or before a prune."""
    start = max(window.start, state.pruned_before)
    if one.is_closed or start >= window.end:
        return ()
    # Before the first sync, only imports said when they asked, and no later time contradicts them.
    return one.coverage.find_unsatisfied(Window(start, window.end), reach=state.reach, now=state.now or _NEVER)


def find_settled_dates(state: ArchiveState, dates: Iterable[str]) -> frozenset[str]:
    """Return those UTC dates of some to which the usual syncs will add nothing: they can be compacted.

    These are the final ones, and those that lack only what is lost, or what the service denies. If a denial ends, the
    date gains a segment and is compacted once more.
    """
    failed = {gap.target for gap in state.gaps if gap.kind == "failed"}
    denied = {gap.target for gap in state.gaps if gap.kind == "denied"} - failed
    days = _find_days(state, dates)
    for one, is_waived, targets in _group_by_waiver(state):
        if is_waived or denied.issuperset(targets):
            continue
        for date, day in list(days.items()):
            found = _assess(state, one, day)
            if found is not None and (found.provisional or found.missing):
                del days[date]
    return frozenset(days)


def find_final_dates(state: ArchiveState, dates: Iterable[str]) -> frozenset[str]:
    """Return those UTC dates of some of which every minute is final for every target, so that nothing can be added.

    Of a closed target that is what is covered, and what a waived one lacks does not matter. The date of unreadable
    times is never final.
    """
    days = _find_days(state, dates)
    for one, is_waived, _ in _group_by_waiver(state):
        for date, day in list(days.items()):
            found = _assess(state, one, day)
            if found is not None and any(found.list_marks(is_waived=is_waived)):
                del days[date]
    return frozenset(days)


def _find_days(state: ArchiveState, dates: Iterable[str]) -> dict[str, Window]:
    """Return the dates that lie within what the archive is to hold, with their windows."""
    days = {date: _find_day(date) for date in dates if date != UNKNOWN_DATE}
    return {date: day for date, day in days.items() if state.start <= day.start and day.end <= state.end}


def _find_day(date: str) -> Window:
    start = parse_minute(f"{date}T00:00:00Z")
    return Window(start, start + MINUTES_PER_DAY)


def make_calendar(state: ArchiveState) -> tuple[Day, ...]:
    """Return the days that the archive is to hold or has events of, in order, the unknown date last."""
    rows = {date: sum(one.rows for one in segments) for date, segments in state.group_segments().items()}
    kinds: dict[str, DayKind] = {}
    start = max(find_first_expected(state), state.pruned_before)
    if start < state.end:
        whole = Window(start, state.end)
        marked: dict[DayKind, Coverage] = {"final": Coverage([whole])}
        for one, is_waived, _ in _group_by_waiver(state):
            found = _assess(state, one, whole)
            for kind, window in () if found is None else found.list_marks(is_waived=is_waived):
                marked.setdefault(kind, Coverage()).add(window)
        for kind in _DAY_KINDS:
            for window in marked.get(kind, Coverage()).windows:
                days = range(window.start - window.start % MINUTES_PER_DAY, window.end, MINUTES_PER_DAY)
                kinds.update((format_minute(start)[:10], kind) for start in days)
    return tuple(Day(date, rows.get(date, 0), kinds.get(date)) for date in sorted(rows.keys() | kinds.keys()))


def list_open_gaps(state: ArchiveState) -> tuple[Gap, ...]:
    """Return the open gaps of an archive; what is waived or was pruned is left out."""
    waived = set(state.waived)
    return tuple(
        gap
        for gap in state.gaps
        if (gap.kind != "denied" or gap.target.compartment not in waived) and gap.window.end > state.pruned_before
    )


def find_first_expected(state: ArchiveState) -> int:
    """Return the first minute that any target is expected to be covered from."""
    return max(state.start, min((one.since for one, _ in state.group_targets()), default=state.start))


def _group_by_waiver(state: ArchiveState) -> Iterator[tuple[TargetState, bool, list[Target]]]:
    """Yield the targets that share a state, those whose denial is waived apart."""
    waived = set(state.waived)
    failed = {gap.target for gap in state.gaps if gap.kind == "failed"}
    for one, targets in state.group_targets():
        for is_waived in (False, True):
            some = [
                target for target in targets if (target.compartment in waived and target not in failed) == is_waived
            ]
            if some:
                yield one, is_waived, some


def judge_archive(
    state: ArchiveState,
    *,
    window: Window | None = None,
    targets: Collection[Target] | None = None,
    regions: Collection[str] | None = None,
    is_anchored: bool = False,
) -> Verdict:
    """Return the verdict on an archive, or on a window and some targets of it.

    `regions` are those that the question is about, also such that the archive does not follow any more; None: all.
    `is_anchored`: a signature that was checked, or a digest kept elsewhere, vouches for the newest commit.
    """
    asked = window or Window(state.start, max(state.end, state.start + 1))
    tally = _Tally(state, asked, regions, is_part=window is not None)
    for one, is_waived, group in _group_by_waiver(state):
        some = group if targets is None else [target for target in group if target in targets]
        if some:
            tally.add(one, some, is_waived=is_waived)
    return tally.make_verdict(is_anchored=is_anchored)


class _Tally:
    """Sums over the targets of an archive in a window, for its verdict."""

    def __init__(self, state: ArchiveState, asked: Window, regions: Collection[str] | None, *, is_part: bool) -> None:
        self._state, self._asked = state, asked
        dropped = {target.region for target in state.targets} - set(state.regions)
        self._dropped = sorted(dropped if regions is None else dropped & set(regions))
        self._end = min(asked.end, state.end)
        self._first = find_first_expected(state)
        self._is_pruned = is_part and 0 < asked.end <= state.pruned_before
        self._outside = self._find_outside()
        """What of the window the archive never requested, and is missing for that; None if nothing."""
        self._gap_windows = _group_gaps(state.gaps)
        self._targets = self._gaps = self._lost = self._unrequested = self._incomplete = self._closed = 0
        self._waived: list[Target] = []
        self._since: dict[int, int] = {}
        """How many targets are expected from which minute on."""
        self._not_final = Coverage()

    def add(self, one: TargetState, targets: Sequence[Target], *, is_waived: bool) -> None:
        found = _assess(self._state, one, self._asked)
        self._targets += len(targets)
        self._closed += one.is_closed * len(targets)
        self._since[one.since] = self._since.get(one.since, 0) + len(targets)
        outside = [self._outside] if self._outside and one.since <= self._first and not one.is_closed else []
        missing, lost, provisional = (
            (found.missing, found.lost, found.provisional) if found is not None else ((), (), ())
        )
        for part in provisional:
            self._not_final.add(part)
        for part in () if is_waived else (*outside, *missing, *lost):
            self._not_final.add(part)
        is_whole = not (outside or missing or lost)
        expected = found.expected if found is not None else None
        for target in targets:
            gaps = list(clip(self._gap_windows.get(target, ()), expected)) if expected is not None else []
            if is_whole and not gaps:
                continue
            if is_waived:
                self._waived.append(target)
                continue
            self._incomplete += 1
            self._gaps += len(gaps)
            self._lost += len(lost)
            explained = Coverage(gaps)
            self._unrequested += len(outside) + sum(len(explained.find_missing(hole)) for hole in missing)

    def _find_outside(self) -> Window | None:
        """Return what lies before the archive's start and was still kept, or the whole window if nothing was requested.

        A window that only begins too early for the service is judged by the rest; that it does is a qualifier.
        """
        state, asked = self._state, self._asked
        if self._is_pruned:
            return None
        start, end = max(asked.start, self._oldest, state.pruned_before), min(asked.end, state.start)
        if start < end:
            return Window(start, end)
        return asked if asked.end <= self._first or asked.start >= state.end > 0 else None

    def make_verdict(self, *, is_anchored: bool) -> Verdict:
        state, asked = self._state, self._asked
        if not self._targets:
            return Verdict(
                kind=VerdictKind.INCOMPLETE,
                is_archive=True,
                imported_files=state.totals.imported_files,
                is_anchored=is_anchored,
                is_signed=state.key_fingerprint is not None,
            )
        open_ends = [part.end - 1 + state.reach for part in self._not_final.windows if part.end > self._oldest]
        is_over = asked.end <= state.end
        if not is_over:
            open_ends.append(asked.end - 1 + state.reach)
        not_final = [part.start for part in self._not_final.windows] + (
            [] if is_over else [max(self._end, asked.start)]
        )
        kind = VerdictKind.COMPLETE_EXCEPT_WAIVED if self._waived else VerdictKind.COMPLETE
        if self._incomplete or self._is_pruned:
            kind = VerdictKind.INCOMPLETE
        elif not_final:
            kind = VerdictKind.COMPLETE_SO_FAR
        first = min(self._since)
        later = {since: number for since, number in self._since.items() if since > max(asked.start, first)}
        return Verdict(
            kind=kind,
            is_archive=True,
            targets=self._targets,
            gaps=self._gaps,
            lost=self._lost,
            unrequested=self._unrequested,
            targets_with_gaps=self._incomplete,
            waived=tuple(sorted(self._waived)),
            closed=self._closed,
            listed_later=sum(later.values()),
            listed_later_from=format_minute(max(later)) if later else "",
            dropped_regions=tuple(self._dropped),
            start=format_minute(asked.start),
            end=format_minute(self._end),
            named_end=format_minute(asked.end),
            final_until=format_minute(min(not_final)) if not_final else None,
            final_from=format_minute(max(open_ends)) if open_ends else None,
            retention_days=state.retention_days if asked.start < min(first, self._oldest) else None,
            imported_files=state.totals.imported_files,
            pruned_before=format_minute(state.pruned_before) if asked.start < state.pruned_before else "",
            is_pruned=self._is_pruned,
            is_anchored=is_anchored,
            is_signed=state.key_fingerprint is not None,
            paths={ocid: one.path for ocid, one in state.compartments.items()},
        )

    @property
    def _oldest(self) -> int:
        """The oldest minute that could still be requested at the last sync."""
        return find_retention_start(self._state.now, self._state.retention_days)
