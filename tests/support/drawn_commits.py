"""Commits with short names, and a sync that answers what the plan requests, for tests of an archive's state.

Owns: their making. Must not: know what a test does with them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import msgspec

from ociaudit.archive.commit import Commit, CommitKind, Compartment, Writer
from ociaudit.archive.state import (
    ArchiveState,
    diff_scope,
    due_rings,
    find_lost,
    find_retention_start,
    group_answers,
    judge_closures,
    list_reopened,
    list_targets,
    plan_asks,
)
from ociaudit.planning.shard import AskedCoverage, Gap, Target, Window

DAY = 24 * 60
ROOT = "ocid1.tenancy.oc1..aaaa"
HOME = "eu-frankfurt-1"
RINGS = (120, 26 * 60, 7 * DAY)
NOW = 400 * DAY
NOT_FOUND = "404 NotAuthorizedOrNotFound: Authorization failed or requested resource not found"
WRITER = Writer(oci_audit="1.0", duckdb="1.4")

Refuse = Callable[[Target, Window], Gap | None]
"""Returns the gap that a request ends in, None if it is answered."""


def name_compartment(number: int) -> str:
    """Return the OCID of a compartment; 0 is the root."""
    return f"ocid1.compartment.oc1..c{number:04}" if number else ROOT


def list_compartments(count: int = 1, **states: str) -> dict[str, Compartment]:
    """Return a listing of ACTIVE compartments, the root first; `c2="DELETED"` states another lifecycle state."""
    return {
        name_compartment(number): Compartment(
            path=f"root/c{number}" if number else "root", state=states.get(f"c{number}", "ACTIVE")
        )
        for number in range(count)
        if states.get(f"c{number}") != ""
    }


def make_commit(state: ArchiveState, *, kind: CommitKind = "sync", **fields: object) -> Commit:
    """Make the commit that follows a state."""
    return msgspec.structs.replace(
        Commit(sequence=state.sequence + 1, previous=state.digest, kind=kind, at=f"at {state.sequence}", writer=WRITER),
        **fields,
    )


def apply_commit(state: ArchiveState, commit: Commit) -> Commit:
    """Apply a commit under a digest made of its number."""
    state.apply(commit, f"digest-{commit.sequence}")
    return commit


def deny(*compartments: str) -> Refuse:
    """Return a service that answers 404 for some compartments."""
    return lambda target, window: (
        Gap(target, window, "denied", NOT_FOUND) if target.compartment in compartments else None
    )


def plan_sync(
    state: ArchiveState, now: int, *, start: int = 0, settle: int = 15, rings: Sequence[int] = RINGS, days: int = 365
) -> dict[Target, tuple[Window, ...]]:
    """Return what a sync would request within the scope that is known."""
    retention_start = find_retention_start(now, days)
    return plan_asks(
        state.preview_scope(None, start=start or state.start or retention_start, retention_start=retention_start),
        now=now,
        settle=settle,
        due=due_rings(state, now=now, rings=rings),
        retention_start=retention_start,
        targets=list_targets(state),
    )


def run_sync(
    state: ArchiveState,
    now: int,
    *,
    start: int = 0,
    settle: int = 15,
    rings: Sequence[int] = RINGS,
    days: int = 365,
    regions: Collection[str] = (HOME,),
    compartments: Mapping[str, Compartment] | None = None,
    refuse: Refuse | None = None,
    waived: tuple[str, ...] = (),
) -> Commit:
    """Apply the commit of one sync at `now`, as operations put it together, and return it."""
    listed = list_compartments() if compartments is None else compartments
    retention_start = find_retention_start(now, days)
    start = start or state.start or retention_start
    change = diff_scope(state, regions=regions, compartments=listed).change
    seen = state.preview_scope(change, start=start, retention_start=retention_start)
    due = due_rings(state, now=now, rings=rings)
    targets = list_targets(seen)
    asks = plan_asks(seen, now=now, settle=settle, due=due, retention_start=retention_start, targets=targets)
    answered: dict[Target, list[Window]] = {}
    gaps: list[Gap] = []
    for target, windows in asks.items():
        for window in windows:
            gap = refuse(target, window) if refuse else None
            if gap is None:
                answered.setdefault(target, []).append(window)
            else:
                gaps.append(gap)
    closed = judge_closures(seen, gaps)
    commit = make_commit(
        state,
        now=now,
        start=start,
        end=max(now - settle, 0),
        settle_minutes=settle,
        rings=tuple(rings),
        rings_run=due,
        retention_days=days,
        requests=sum(map(len, asks.values())),
        scope=change,
        answered=group_answers(answered, [target for target in targets if target not in closed]),
        gaps=tuple(gap for gap in gaps if gap.target not in closed),
        waived=waived,
        closed=closed,
        reopened=list_reopened(seen),
        lost=find_lost(seen, retention_start=retention_start, closing=closed),
    )
    return apply_commit(state, commit)


def find_final_until(coverage: AskedCoverage, start: int, *, reach: int, now: int) -> int:
    """Return the first minute from `start` on that is not final."""
    end = max(coverage.end or start, start + 1)
    holes = (
        *coverage.find_missing(Window(start, end)),
        *coverage.find_unsatisfied(Window(start, end), reach=reach, now=now),
    )
    return min((hole.start for hole in holes), default=end)
