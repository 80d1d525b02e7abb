"""The state of an archive: its fold, what is requested next, what becomes of targets, and what may be said of it."""

from collections.abc import Sequence
from typing import Literal

import msgspec
import pytest

from ociaudit.archive.commit import (
    Answered,
    Compartment,
    EventCounts,
    LateArrivals,
    ScopeChange,
    SegmentEntry,
    TargetWindow,
)
from ociaudit.archive.state import (
    ArchiveState,
    diff_scope,
    due_rings,
    find_final_dates,
    find_lost,
    find_retention_start,
    find_settled_dates,
    group_answers,
    judge_archive,
    judge_closures,
    list_targets,
    make_calendar,
    parse_rings,
    plan_asks,
)
from ociaudit.errors import CorruptRun, ExitCode, UsageError
from ociaudit.planning.shard import Gap, Target, Window, format_minute
from ociaudit.storage.verdict import VerdictKind, describe_verdict
from support.drawn_commits import (
    DAY,
    HOME,
    NOT_FOUND,
    NOW,
    RINGS,
    ROOT,
    apply_commit,
    deny,
    find_final_until,
    list_compartments,
    make_commit,
    name_compartment,
    plan_sync,
    run_sync,
)

HERE = Target(HOME, ROOT)
ONE = name_compartment(1)
THERE = Target(HOME, ONE)
START = NOW - 30 * DAY


def sync_hourly(state: ArchiveState, first: int, last: int, **options: object) -> None:
    """Sync every hour from `first` to `last`."""
    for now in range(first, last + 1, 60):
        run_sync(state, now, **options)


def make_segment(date: str, number: int, rows: int) -> SegmentEntry:
    """Make the entry of a segment."""
    path = f"events/event_date={date}/{number:032x}.parquet"
    return SegmentEntry(path=path, date=date, rows=rows, size_bytes=rows, sha256="a", rows_sha256="b")


@pytest.mark.parametrize(
    ("text", "rings"),
    [("2h,26h,7d", RINGS), ("1d", (1440,)), (" 30m , 2h ", (30, 120)), ("P1D,P7D", (1440, 10080))],
)
def test_rings_are_read_in_minutes(text: str, rings: tuple[int, ...]) -> None:
    """One to three ascending durations are rings, in minutes."""
    assert parse_rings(text) == rings


@pytest.mark.parametrize("text", ["", " ", "26h,2h", "2h,2h", "0m", "0h,2h", "1h,2h,3h,4h", "2h,,7d", "2h,soon", "-2h"])
def test_rings_in_another_order_or_number_are_rejected(text: str) -> None:
    """Rings that are missing, too many, not positive or not ascending are a usage error with a hint."""
    with pytest.raises(UsageError) as caught:
        parse_rings(text)
    assert caught.value.hint


def test_the_first_ring_runs_always_the_second_daily_and_the_third_weekly() -> None:
    """Over two weeks of hourly syncs the rings run 336, 14 and 2 times."""
    state, runs = ArchiveState(), dict.fromkeys(RINGS, 0)
    for hour in range(14 * 24):
        for ring in run_sync(state, NOW + 60 * hour, start=START).rings_run:
            runs[ring] += 1
    assert list(runs.values()) == [14 * 24, 14, 2]


def test_a_ring_is_due_up_to_thirty_minutes_early() -> None:
    """A daily ring is due 23.5 hours after its last run, not a minute earlier; a ring that is new is due at once."""
    state = ArchiveState()
    run_sync(state, NOW, start=START)
    assert due_rings(state, now=NOW + DAY - 31, rings=RINGS) == RINGS[:1]
    assert due_rings(state, now=NOW + DAY - 30, rings=RINGS) == RINGS[:2]
    assert due_rings(state, now=NOW + 1, rings=(120, 1000)) == (120, 1000)
    assert due_rings(state, now=NOW + 1, rings=(RINGS[2],)) == (RINGS[2],)
    assert due_rings(state, now=NOW - 1, rings=RINGS) == RINGS  # its last run cannot have been then


def test_a_ring_begins_its_length_before_the_end_covered_when_it_last_ran() -> None:
    """Each ring asks again every minute that its last run asked at an age below its length plus settle."""
    state = ArchiveState()
    run_sync(state, NOW, start=START)
    run_sync(state, NOW + 60)
    end = NOW - 15
    assert plan_sync(state, NOW + 120) == {HERE: (Window(end + 60 - RINGS[0] + 1, end + 120),)}
    assert plan_sync(state, NOW + DAY) == {HERE: (Window(end - RINGS[1] + 1, end + DAY),)}
    assert plan_sync(state, NOW + 7 * DAY) == {HERE: (Window(end - RINGS[2] + 1, end + 7 * DAY),)}


def test_the_first_sync_requests_everything_in_retention() -> None:
    """A first sync requests the retention from an hour inside it up to settle before the present."""
    state = ArchiveState()
    commit = run_sync(state, NOW)
    assert commit.answered == (Answered((Window(NOW - 365 * DAY + 60, NOW - 15),)),)
    assert (state.start, state.end, state.now) == (NOW - 365 * DAY + 60, NOW - 15, NOW)


def test_an_earlier_start_fills_in_and_a_later_one_changes_nothing() -> None:
    """A start before what is covered is requested; one after it neither drops nor requests anything."""
    state = ArchiveState()
    run_sync(state, NOW, start=NOW - 10 * DAY)
    assert plan_sync(state, NOW + 1, start=NOW - 20 * DAY)[HERE][0] == Window(NOW - 20 * DAY, NOW - 10 * DAY)
    run_sync(state, NOW + 1, start=NOW - DAY)
    assert state.start == NOW - 10 * DAY
    run_sync(state, NOW + 2, start=NOW - 20 * DAY)
    assert state.start == NOW - 20 * DAY
    assert judge_archive(state).gaps == 0
    assert judge_archive(state, window=Window(NOW - 20 * DAY, NOW - 9 * DAY)).kind is VerdictKind.COMPLETE


@pytest.mark.parametrize(
    ("window", "unrequested", "is_cut_by_retention"),
    [
        (Window(NOW - 20 * DAY, NOW - 18 * DAY), 1, False),
        (Window(NOW - 20 * DAY, NOW - 9 * DAY), 1, False),
        (Window(NOW - 800 * DAY, NOW - 9 * DAY), 1, True),
        (Window(NOW + DAY, NOW + 2 * DAY), 1, False),
        (Window(NOW - 10 * DAY, NOW - 9 * DAY), 0, False),
    ],
)
def test_what_an_archive_never_requested_is_not_complete(
    window: Window, unrequested: int, is_cut_by_retention: bool
) -> None:
    """A range before the archive's start or behind its end is unrequested, and retention no excuse where it is none."""
    state = ArchiveState()
    run_sync(state, NOW, start=NOW - 10 * DAY)
    run_sync(state, NOW + 8 * 60, start=NOW - 10 * DAY)
    verdict = judge_archive(state, window=window)
    assert verdict.unrequested == unrequested
    assert (verdict.kind is VerdictKind.INCOMPLETE) == bool(unrequested)
    assert (verdict.retention_days is not None) == is_cut_by_retention
    assert verdict.end <= format_minute(state.end)


def test_what_retention_or_a_prune_took_is_not_unrequested() -> None:
    """An archive of all that the service kept lacks nothing that it could have requested."""
    state = ArchiveState()
    run_sync(state, NOW)
    verdict = judge_archive(state, window=Window(NOW - 800 * DAY, NOW - 9 * DAY))
    assert (verdict.unrequested, verdict.retention_days) == (0, 365)


@pytest.mark.parametrize("days", [None, 10, 800])
def test_a_range_that_ends_before_everything_requested_is_incomplete(days: int | None) -> None:
    """Nothing is known of such a range, wherever the archive begins: even before what the service keeps."""
    state = ArchiveState()
    run_sync(state, NOW, start=None if days is None else NOW - days * DAY)
    verdict = judge_archive(state, window=Window(NOW - 900 * DAY, NOW - 850 * DAY))
    assert (verdict.kind, verdict.unrequested) == (VerdictKind.INCOMPLETE, 1)
    verdict = judge_archive(state, window=Window(NOW - 500 * DAY, NOW - 400 * DAY))
    assert (verdict.kind, verdict.unrequested) == (VerdictKind.INCOMPLETE, 1)


def test_the_calendar_begins_where_something_is_expected() -> None:
    """Days that no sync requests, because they are older than retention or were pruned, are not final."""
    state = ArchiveState()
    run_sync(state, NOW, start=NOW - 800 * DAY)
    oldest = find_retention_start(NOW, 365)
    assert make_calendar(state)[0].date == format_minute(oldest)[:10]
    apply_commit(state, make_commit(state, kind="prune", start=NOW - NOW % DAY - 3 * DAY))
    assert make_calendar(state)[0].date == format_minute(NOW - 3 * DAY)[:10]
    window = Window(NOW - 20 * DAY, NOW - 10 * DAY)
    verdict = judge_archive(state, window=window)
    assert (verdict.kind, verdict.is_pruned, verdict.unrequested) == (VerdictKind.INCOMPLETE, True, 0)
    assert "removed by oci-audit prune" in describe_verdict(verdict)[0]


def test_what_was_pruned_is_no_gap() -> None:
    """A denial of which all was pruned leaves nothing missing, and nothing unrequested."""
    state, listed = ArchiveState(), list_compartments(2)
    run_sync(state, NOW, start=START, compartments=listed, refuse=deny(ONE))
    apply_commit(state, make_commit(state, kind="prune", start=NOW + DAY - NOW % DAY))
    verdict = judge_archive(state)
    assert (verdict.gaps, verdict.unrequested, verdict.targets_with_gaps) == (0, 0, 0)


def test_a_target_that_becomes_readable_is_requested_from_the_start() -> None:
    """A denied target is a gap in each sync and is asked for all that it lacks; once it answers, nothing is missing."""
    state, listed = ArchiveState(), list_compartments(2)
    run_sync(state, NOW, start=START, compartments=listed, refuse=deny(ONE))
    run_sync(state, NOW + 60, compartments=listed, refuse=deny(ONE))
    assert [gap.window for gap in state.gaps] == [Window(START, NOW + 45)]
    verdict = judge_archive(state)
    assert (verdict.kind, verdict.gaps, verdict.targets_with_gaps) == (VerdictKind.INCOMPLETE, 1, 1)
    assert verdict.exit_code is ExitCode.INCOMPLETE
    run_sync(state, NOW + 120, compartments=listed)
    assert state.gaps == ()
    assert judge_archive(state).kind is VerdictKind.COMPLETE_SO_FAR


def test_a_waived_denial_is_no_gap_but_a_failure_is() -> None:
    """What a waived compartment lacks does not make the archive incomplete, unless the service failed."""
    state, listed = ArchiveState(), list_compartments(2)
    run_sync(state, NOW, start=START, compartments=listed, refuse=deny(ONE), waived=(ONE,))
    old = Window(START, START + DAY)
    assert judge_archive(state, window=old).kind is VerdictKind.COMPLETE_EXCEPT_WAIVED
    assert judge_archive(state, window=old).waived == (THERE,)
    assert find_final_dates(state, [format_minute(START + DAY)[:10]])

    def fail(target: Target, window: Window) -> Gap | None:
        return Gap(target, window, "failed", "503") if target == THERE else None

    run_sync(state, NOW + 60, compartments=listed, refuse=fail, waived=(ONE,))
    assert judge_archive(state, window=old).kind is VerdictKind.INCOMPLETE


@pytest.mark.parametrize(
    ("before", "after", "is_closed"),
    [
        ("ACTIVE", "ACTIVE", False),
        ("ACTIVE", "DELETING", False),
        ("ACTIVE", "DELETED", True),
        ("ACTIVE", "", False),
        ("DELETING", "", True),
        ("DELETED", "", True),
        ("INACTIVE", "", True),
    ],
)
def test_only_a_deleted_compartment_is_closed_by_a_denial(before: str, after: str, is_closed: bool) -> None:
    """A 404 closes a target that is listed as DELETED, or no longer listed and was not ACTIVE; else it is a gap."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2, c1=before))
    commit = run_sync(state, NOW + 60, compartments=list_compartments(2, c1=after), refuse=deny(ONE))
    assert commit.closed == ((THERE,) if is_closed else ())
    assert [gap.target for gap in commit.gaps] == ([] if is_closed else [THERE])
    assert state.is_open(THERE) is not is_closed
    verdict = judge_archive(state)
    assert verdict.kind is (VerdictKind.COMPLETE_SO_FAR if is_closed else VerdictKind.INCOMPLETE)
    assert verdict.closed == is_closed
    assert any("1 target closed" in line for line in describe_verdict(verdict)) is is_closed
    assert (THERE in plan_sync(state, NOW + 120)) is not is_closed


def test_another_failure_never_closes_a_target() -> None:
    """A deleted compartment whose request failed, or was denied otherwise than with 404, stays open."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2, c1="DELETED"))
    window = Window(NOW, NOW + 1)
    assert judge_closures(state, [Gap(THERE, window, "failed", NOT_FOUND)]) == ()
    assert judge_closures(state, [Gap(THERE, window, "denied", "401 NotAuthenticated: no")]) == ()
    assert judge_closures(state, [Gap(THERE, window, "denied", NOT_FOUND)]) == (THERE,)


def test_a_deleted_compartment_that_answers_stays_open() -> None:
    """A target listed as DELETED is requested as long as it answers."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2, c1="DELETED"))
    assert state.is_open(THERE)
    assert THERE in plan_sync(state, NOW + 60)


def test_a_closed_target_that_is_listed_again_is_opened() -> None:
    """A closed target whose compartment is listed as ACTIVE is requested from where it ended."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2))
    run_sync(state, NOW + 60, compartments=list_compartments(2, c1="DELETED"), refuse=deny(ONE))
    run_sync(state, NOW + 120, compartments=list_compartments(2, c1=""))
    assert not state.is_open(THERE)
    commit = run_sync(state, NOW + 180, compartments=list_compartments(2))
    assert commit.reopened == (THERE,)
    assert state.is_open(THERE)
    assert judge_archive(state).kind is VerdictKind.COMPLETE_SO_FAR
    assert state.targets[THERE].coverage.find_missing(Window(START, NOW + 165)) == ()


def test_what_retention_passed_while_a_target_was_closed_is_lost_when_it_opens() -> None:
    """The commit that opens a target again records what can no longer be requested from it."""
    state = ArchiveState()
    run_sync(state, NOW, days=90, compartments=list_compartments(2, c1="DELETED"), refuse=deny(ONE))
    first = state.start
    run_sync(state, NOW + DAY, days=90, compartments=list_compartments(2, c1="DELETED"), refuse=deny(ONE))
    commit = run_sync(state, NOW + 2 * DAY, days=90, compartments=list_compartments(2), refuse=deny(ONE))
    assert commit.reopened == (THERE,)
    assert commit.lost == (TargetWindow(THERE, Window(first, first + 2 * DAY)),)


def test_a_hole_in_a_target_that_closes_is_lost() -> None:
    """What a deleted compartment never answered is on record as lost, what came after its end is not expected."""
    state = ArchiveState()
    hole = Window(START + 100, START + 200)
    listed = list_compartments(2)
    run_sync(state, NOW, start=START, compartments=listed, refuse=deny(ONE))
    answered = Answered((Window(START, START + 100), Window(START + 200, NOW - 15)), (THERE,))
    apply_commit(state, make_commit(state, now=NOW, start=START, end=NOW - 15, rings=RINGS, answered=(answered,)))
    commit = run_sync(state, NOW + 60, compartments=list_compartments(2, c1="DELETED"), refuse=deny(ONE))
    assert commit.lost == (TargetWindow(THERE, hole),)
    assert judge_archive(state).lost == 1
    assert judge_archive(state, window=Window(START + 200, START + 300)).kind is VerdictKind.COMPLETE


def test_a_listing_that_lost_an_active_compartment_is_a_warning() -> None:
    """An ACTIVE compartment that is no longer listed is named in a warning and still requested."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(3, c2="DELETED"))
    change, warnings = diff_scope(state, regions=[HOME], compartments=list_compartments(3, c1="", c2=""))
    assert change is not None
    assert change.unlisted == (ONE, name_compartment(2))
    assert [ONE in line for line in warnings] == [True]
    run_sync(state, NOW + 60, compartments=list_compartments(1))
    assert THERE in plan_sync(state, NOW + 120)
    assert diff_scope(state, regions=[HOME], compartments=list_compartments(1)) == (None, ())


def test_a_renamed_compartment_stays_one_target() -> None:
    """A new path is recorded under the same OCID, and nothing is requested again for it."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2))
    renamed = {**list_compartments(2), ONE: Compartment("root/other", "ACTIVE")}
    before = plan_sync(state, NOW + 60)
    commit = run_sync(state, NOW + 60, compartments=renamed)
    assert commit.scope == ScopeChange(compartments={ONE: Compartment("root/other", "ACTIVE")})
    assert commit.answered == (Answered(before[THERE]),)
    assert judge_archive(state).paths[ONE] == "root/other"


def test_a_region_newly_subscribed_is_requested_from_the_start() -> None:
    """A new region is requested for all that retention holds, with every compartment."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2))
    commit = run_sync(state, NOW + 60, regions=(HOME, "us-ashburn-1"), compartments=list_compartments(2))
    assert commit.scope == ScopeChange(added_regions=("us-ashburn-1",))
    added = state.targets[Target("us-ashburn-1", ONE)]
    assert added.coverage.find_missing(Window(START, NOW + 45)) == ()


def test_a_region_no_longer_listed_is_requested_unless_the_user_dropped_it() -> None:
    """A listing without a region is a warning; a choice without it ends its targets."""
    state = ArchiveState()
    regions = (HOME, "us-ashburn-1")
    run_sync(state, NOW, start=START, regions=regions)
    change, warnings = diff_scope(state, regions=[HOME], compartments=list_compartments())
    assert change is None
    assert "us-ashburn-1" in warnings[0]
    change, warnings = diff_scope(state, regions=[HOME], compartments=list_compartments(), is_region_choice=True)
    assert change == ScopeChange(removed_regions=("us-ashburn-1",))
    assert warnings
    apply_commit(state, make_commit(state, now=NOW, start=START, end=NOW - 15, rings=RINGS, scope=change))
    assert list_targets(state) == (HERE,)


def test_a_gap_that_passes_out_of_retention_is_lost_for_ever() -> None:
    """What no request answered within retention is lost: named once, never requested again, in every later verdict."""
    state, listed = ArchiveState(), list_compartments(2)
    run_sync(state, NOW, days=90, compartments=listed, refuse=deny(ONE))
    first = state.start
    commit = run_sync(state, NOW + 2 * DAY, days=90, compartments=listed, refuse=deny(ONE))
    assert commit.lost == (TargetWindow(THERE, Window(first, first + 2 * DAY)),)
    commit = run_sync(state, NOW + 3 * DAY, days=90, compartments=listed)
    assert commit.lost == (TargetWindow(THERE, Window(first + 2 * DAY, first + 3 * DAY)),)
    assert run_sync(state, NOW + 4 * DAY, days=90, compartments=listed).lost == ()
    verdict = judge_archive(state)
    assert (verdict.kind, verdict.lost, verdict.gaps, verdict.unrequested) == (VerdictKind.INCOMPLETE, 1, 0, 0)
    assert describe_verdict(verdict)[0] == "INCOMPLETE: 1 lost window in 1 of 2 targets"
    date = format_minute(first + DAY)[:10]
    assert not find_final_dates(state, [date])
    assert find_settled_dates(state, [date]) == {date}


def test_a_denial_does_not_keep_dates_from_being_compacted_but_a_failure_does() -> None:
    """A date that lacks only what the service denies is settled and not final; while a region fails it is neither."""
    listed, date = list_compartments(2), format_minute(START + DAY)[:10]
    kinds: Sequence[Literal["denied", "failed"]] = ("denied", "failed")
    for kind in kinds:
        state = ArchiveState()

        def refuse(target: Target, window: Window, kind: Literal["denied", "failed"] = kind) -> Gap | None:
            return Gap(target, window, kind, "404") if target == THERE else None

        run_sync(state, NOW, start=START, compartments=listed, refuse=refuse)
        assert not find_final_dates(state, [date])
        assert find_settled_dates(state, [date]) == ({date} if kind == "denied" else frozenset())
        assert not find_settled_dates(state, [format_minute(NOW - DAY)[:10], "unknown"])


def test_a_region_that_is_no_longer_followed_and_targets_listed_later_are_in_the_verdict() -> None:
    """The words name a dropped region where the question is about it, and from when on later targets are expected."""
    state, names = ArchiveState(), ("us-ashburn-1", "eu-frankfurt-1")
    run_sync(state, NOW, days=90, regions=names)
    later = NOW + 200 * DAY
    run_sync(state, later, days=90, regions=names, compartments=list_compartments(3))
    verdict = judge_archive(state)
    expected = format_minute(later - 90 * DAY + 60)
    assert (verdict.listed_later, verdict.listed_later_from) == (4, expected)
    assert any("4 targets first listed" in line and expected in line for line in describe_verdict(verdict))
    assert judge_archive(state, window=Window(later - 10 * DAY, later - 9 * DAY)).listed_later == 0
    change, _ = diff_scope(state, regions=names[1:], compartments=state.compartments, is_region_choice=True)
    apply_commit(state, make_commit(state, now=later, start=state.start, end=later - 15, rings=RINGS, scope=change))
    assert judge_archive(state).dropped_regions == names[:1]
    assert any("no longer followed: us-ashburn-1" in line for line in describe_verdict(judge_archive(state)))
    assert judge_archive(state, regions=names[1:]).dropped_regions == ()


def test_a_compartment_first_listed_later_lacks_nothing_before_its_retention() -> None:
    """An archive older than retention expects a new compartment from the oldest minute that can be requested."""
    state = ArchiveState()
    run_sync(state, NOW, days=90)
    run_sync(state, NOW + 200 * DAY, days=90, compartments=list_compartments(2))
    assert find_lost(state, retention_start=find_retention_start(NOW + 200 * DAY, 90)) == ()
    assert judge_archive(state, targets=[THERE]).kind is VerdictKind.COMPLETE_SO_FAR


def test_what_was_asked_too_soon_and_cannot_be_asked_again_is_never_final() -> None:
    """Minutes whose last request came before they could be final, and that retention has passed, stay provisional."""
    state = ArchiveState()
    run_sync(state, NOW, days=90)
    run_sync(state, NOW + 200 * DAY, days=90)
    verdict = judge_archive(state, window=Window(NOW - 8 * DAY, NOW - 15))
    assert verdict.kind is VerdictKind.COMPLETE_SO_FAR
    assert (verdict.final_from, verdict.is_final) == (None, False)
    assert "can no longer be requested" in describe_verdict(verdict)[0]


def test_a_clock_that_was_ahead_covers_nothing_of_the_future() -> None:
    """After a sync three days ahead, the next one requests those days, and nothing they touched is final."""
    state = ArchiveState()
    sync_hourly(state, NOW, NOW + DAY, start=START)
    run_sync(state, NOW + 4 * DAY)
    run_sync(state, NOW + DAY + 60)
    coverage = state.targets[HERE].coverage
    assert coverage.end == NOW + DAY + 45
    assert state.end == NOW + DAY + 45
    assert find_final_until(coverage, START, reach=state.reach, now=state.now) <= NOW + DAY - state.reach + 61
    sync_hourly(state, NOW + DAY + 120, NOW + 4 * DAY)
    assert judge_archive(state).kind is VerdictKind.COMPLETE_SO_FAR


def test_a_clock_that_was_ahead_twice_makes_nothing_final() -> None:
    """Finality that two syncs with a wrong clock agreed on is withdrawn by the first one with a right clock."""
    state = ArchiveState()
    sync_hourly(state, NOW, NOW + DAY, start=START)
    run_sync(state, NOW + 30 * DAY)
    run_sync(state, NOW + 31 * DAY)
    assert find_final_until(state.targets[HERE].coverage, START, reach=state.reach, now=state.now) > NOW + DAY
    run_sync(state, NOW + DAY + 60)
    until = find_final_until(state.targets[HERE].coverage, START, reach=state.reach, now=state.now)
    assert until <= NOW + DAY + 60 - state.reach + 1


def test_nothing_from_now_on_counts_as_covered() -> None:
    """A commit that claims answers beyond its `now` covers nothing from then on."""
    state = ArchiveState()
    run_sync(state, NOW - DAY, start=START)
    answered = (Answered((Window(NOW - DAY, NOW + 10), Window(NOW + 20, NOW + 30))),)
    apply_commit(state, make_commit(state, now=NOW, start=START, end=NOW, rings=RINGS, answered=answered))
    assert state.targets[HERE].coverage.end == NOW


def test_a_ring_run_of_a_clock_that_was_ahead_does_not_count() -> None:
    """After a clock was ahead, a ring is due by its last run before, also once the wrong time has come."""
    state = ArchiveState()
    run_sync(state, NOW, start=START)
    run_sync(state, NOW + 30 * DAY)
    apply_commit(state, make_commit(state, now=NOW + 60, start=START, end=NOW + 45, rings=RINGS))
    assert due_rings(state, now=NOW + 30 * DAY + 1, rings=RINGS) == RINGS


def test_a_clock_that_jumps_back_by_a_minute_costs_nothing() -> None:
    """A sync a minute before the last one requests what that one requested, and loses no coverage."""
    state = ArchiveState()
    now = NOW + 10 * DAY + 59
    sync_hourly(state, NOW, now + 1, start=START)
    assert sum(one.minutes for one in plan_sync(state, now)[HERE]) <= 4 * 60
    run_sync(state, now)
    assert judge_archive(state).gaps == judge_archive(state).unrequested == 0


def test_usual_answers_are_stated_once() -> None:
    """The most frequent windows are stated for every other open target, all others by name."""
    targets = [Target(HOME, name_compartment(number)) for number in range(1, 6)]
    usual, other = Window(10, 20), Window(5, 20)
    coverage = {
        targets[4]: [other],
        targets[1]: [Window(10, 15), Window(15, 20)],
        targets[0]: [usual],
        targets[2]: [usual],
    }
    assert group_answers(coverage, targets) == (
        Answered((), (targets[3],)),
        Answered((other,), (targets[4],)),
        Answered((usual,)),
    )
    assert group_answers({}, targets) == ()
    assert group_answers({}, []) == ()


def test_a_closing_target_is_answered_by_name_alone() -> None:
    """Windows that a target answered before it closed are stated for it, not for every other open target."""
    state = ArchiveState()
    run_sync(state, NOW, start=START, compartments=list_compartments(2))
    window = Window(NOW - 15, NOW)
    answered = group_answers({HERE: [window], THERE: [window]}, [HERE])
    commit = make_commit(
        state, now=NOW + 60, start=START, end=NOW + 45, rings=RINGS, answered=answered, closed=(THERE,)
    )
    apply_commit(state, commit)
    assert state.targets[HERE].coverage.end == state.targets[THERE].coverage.end == NOW
    assert not state.is_open(THERE)


def test_segments_and_totals_add_up() -> None:
    """Added segments are live until a later commit replaces them; counts, late events and kinds are summed."""
    state = ArchiveState()
    first, second, both = (make_segment("2025-01-02", number, rows) for number, rows in ((1, 10), (2, 5), (3, 15)))
    unknown = make_segment("unknown", 4, 2)
    times = {"now": NOW, "start": START, "end": NOW - 15, "rings": RINGS}
    late = LateArrivals(count=3, after_final=1, median_minutes=40, worst_minutes=90)
    counts = EventCounts(received=12, added=10, known=2, own=4)
    apply_commit(
        state, make_commit(state, added=(first,), late=late, counts=counts, requests=7, key_fingerprint="k", **times)
    )
    late = LateArrivals(count=1, median_minutes=500, worst_minutes=500)
    apply_commit(state, make_commit(state, added=(second, unknown), late=late, counts=counts, requests=5, **times))
    apply_commit(state, make_commit(state, kind="compaction", added=(both,), replaced=(first.path, second.path)))
    totals = state.totals
    assert state.group_segments() == {"2025-01-02": (both,), "unknown": (unknown,)}
    assert (totals.rows, totals.requests, totals.added, totals.own) == (17, 12, 20, 8)
    assert (totals.late, totals.late_after_final, totals.late_median_minutes, totals.late_worst_minutes) == (
        4,
        1,
        40,
        500,
    )
    assert totals.commits == {"sync": 2, "compaction": 1}
    assert (state.key_fingerprint, state.last_sync_at, state.sequence, state.digest) == ("k", "at 1", 3, "digest-3")


def test_a_commit_out_of_order_is_refused() -> None:
    """A commit that is not the next one is corruption, and nothing of it is applied."""
    state = ArchiveState()
    before = state.encode()
    with pytest.raises(CorruptRun, match="commit 2 follows commit 0"):
        state.apply(msgspec.structs.replace(make_commit(state), sequence=2), "digest")
    assert state.encode() == before


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b'{"schema":"oci-audit-checkpoint/2"}'])
def test_a_damaged_checkpoint_is_refused(data: bytes) -> None:
    """Bytes that are not a state's are corruption, with a way out."""
    with pytest.raises(CorruptRun, match="checkpoint") as caught:
        ArchiveState.decode(data)
    assert "delete" in caught.value.hint


def test_a_copy_is_independent() -> None:
    """Applying a commit to a copy changes nothing of the original."""
    state = ArchiveState()
    run_sync(state, NOW, start=START)
    before = state.encode()
    run_sync(state.copy(), NOW + 60, compartments=list_compartments(3))
    assert state.encode() == before


def test_an_import_covers_what_its_export_asked_then() -> None:
    """Imported coverage counts as asked when its export asked, moves no clock, and is a qualifier of the verdict."""
    state = ArchiveState()
    run_sync(state, NOW, start=NOW - DAY)
    old = Window(NOW - 20 * DAY, NOW - 19 * DAY)
    answered = (Answered((old,), (HERE,)),)
    commit = make_commit(
        state, kind="import", now=NOW - 5 * DAY, start=old.start, answered=answered, sources=("a.json sha",)
    )
    apply_commit(state, commit)
    assert (state.now, state.end) == (NOW, NOW - 15)
    verdict = judge_archive(state, window=old)
    assert verdict.kind is VerdictKind.COMPLETE
    assert any("1 imported file" in line for line in describe_verdict(verdict))


def test_pruned_time_is_not_requested_and_is_named() -> None:
    """Nothing before a prune is requested again, and a verdict that reaches there says that it was removed."""
    state = ArchiveState()
    run_sync(state, NOW, start=START)
    apply_commit(state, make_commit(state, kind="prune", start=NOW - DAY, reason="policy"))
    asks = plan_asks(
        state, now=NOW + 7 * DAY, settle=15, due=RINGS, retention_start=NOW - 90 * DAY, targets=list_targets(state)
    )
    assert asks[HERE][0].start == NOW - DAY
    assert any("prune" in line for line in describe_verdict(judge_archive(state)))


def test_a_verdict_says_what_it_is_anchored_to_and_what_is_not_requested_yet() -> None:
    """An archive without an anchor says so; one in the middle of its first sync is incomplete."""
    state = ArchiveState()
    assert judge_archive(state).kind is VerdictKind.INCOMPLETE
    scope = ScopeChange(added_regions=(HOME,), compartments=list_compartments())
    answered = (Answered((Window(START, START + DAY),)),)
    commit = make_commit(
        state, now=NOW, start=START, end=NOW - 15, settle_minutes=15, rings=RINGS, scope=scope, answered=answered
    )
    apply_commit(state, commit)
    verdict = judge_archive(state, is_anchored=False)
    assert describe_verdict(verdict)[0] == "INCOMPLETE: 1 unrequested window in 1 of 1 target"
    assert any("not anchored: without --expect" in line for line in describe_verdict(verdict))
    state.key_fingerprint = "SHA256:x"
    assert any("not anchored: its signatures are checked by" in line for line in describe_verdict(judge_archive(state)))
    assert not any("anchored" in line for line in describe_verdict(judge_archive(state, is_anchored=True)))
    assert judge_archive(state, window=Window(START, START + DAY)).kind is VerdictKind.COMPLETE


def test_the_calendar_shows_the_worst_of_each_day() -> None:
    """Days are final, provisional, gaps or lost; dates of events outside the range and unknown ones have no kind."""
    state, listed = ArchiveState(), list_compartments(2)
    start = NOW - 20 * DAY

    def refuse(target: Target, window: Window) -> Gap | None:
        return Gap(target, window, "failed", "503") if target == THERE else None

    run_sync(state, NOW, start=start, compartments=listed)
    run_sync(state, NOW + 3 * DAY, compartments=listed, refuse=refuse)
    segments = (
        make_segment(format_minute(start)[:10], 1, 5),
        make_segment("1969-01-01", 2, 1),
        make_segment("unknown", 3, 2),
    )
    apply_commit(state, make_commit(state, kind="compaction", added=segments))
    days = {day.date: day for day in make_calendar(state)}
    assert (days[format_minute(start)[:10]].kind, days[format_minute(start)[:10]].rows) == ("final", 5)
    assert days[format_minute(NOW - 2 * DAY)[:10]].kind == "provisional"
    assert days[format_minute(NOW + DAY)[:10]].kind == "gap"
    assert (days["1969-01-01"].kind, days["unknown"].kind, days["unknown"].rows) == (None, None, 2)
    assert list(days)[-1] == "unknown"
    finals = find_final_dates(state, days)
    assert finals == {date for date, day in days.items() if day.kind == "final"}
    assert not find_final_dates(state, ["unknown"])
