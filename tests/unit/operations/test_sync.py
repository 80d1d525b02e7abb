"""One sync after another of a simulated tenancy: what is asked, what counts, and what is refused."""

import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from ociaudit.archive.commit import Commit
from ociaudit.archive.commit_log import create_archive
from ociaudit.archive.reader import open_archive
from ociaudit.archive.state import ArchiveState, judge_archive, list_open_gaps
from ociaudit.errors import RequestError, ServiceUnreachable, SignInRejected, UsageError
from ociaudit.operations.archive_changes import import_files, prune_archive
from ociaudit.operations.sync import SyncOptions, recover_archive, sync_archive
from ociaudit.planning.shard import Target, Window, format_minute
from ociaudit.storage.verdict import VerdictKind
from support.archives import make_commit, make_segment, write_archive
from support.clocks import NoWaitClock
from support.drawn_commits import find_final_until
from support.event_archives import make_event
from support.simulated_archive import (
    check_counts,
    check_files,
    check_rows,
    find_holes,
    kill_sync,
    read_rows,
    signal_sync,
    sync,
)
from support.simulated_tenancy import (
    BEGIN,
    CREDENTIALS,
    DAY,
    HOME,
    LATER,
    OTHER,
    ROOT,
    SimulatedCompartment,
    SimulatedTenancy,
    make_error,
    make_record,
    make_silence,
)

ONE = "ocid1.compartment.oc1..one"
HERE, THERE = Target(HOME, ROOT), Target(OTHER, ROOT)
SETTLE = 15
Refusal = Callable[[Target, int], RequestError | None]


@pytest.fixture
def tenancy() -> SimulatedTenancy:
    """Two regions and a compartment beside the root, with a record every three hours."""
    made = SimulatedTenancy(compartments={ONE: SimulatedCompartment("one")})
    for target in made.list_targets():
        name = f"{target.region}/{target.compartment[-3:]}"
        made.add(target, (make_record(f"{name}-{n}", BEGIN - 29 * DAY + n * 180) for n in range(600)))
    return made


@pytest.fixture
def options(tmp_path: Path) -> SyncOptions:
    """An archive that is to begin two days ago."""
    return SyncOptions(archive=tmp_path / "archive", start="2d")


def state_of(options: SyncOptions) -> ArchiveState:
    """Return the state of an archive."""
    return open_archive(options.archive).state


def silence(*regions: str) -> Refusal:
    """Return what lets regions not respond."""
    return lambda target, _: make_silence() if target.region in regions else None


def deny(*targets: Target) -> Refusal:
    """Return what lets targets be denied."""
    return lambda target, _: make_error(404, "NotAuthorizedOrNotFound") if target in targets else None


def check_all(tenancy: SimulatedTenancy, options: SyncOptions, tmp_path: Path) -> None:
    """Check an archive's files, counts and rows, and that every target is covered to the end."""
    check_files(options.archive)
    check_counts(options.archive)
    check_rows(tenancy, options.archive, tmp_path / "scratch")
    state = state_of(options)
    assert state.end == tenancy.now - SETTLE
    assert {target: find_holes(state, target) for target in tenancy.list_targets()} == dict.fromkeys(
        tenancy.list_targets(), ()
    )


def kill_half_way(tenancy: SimulatedTenancy, options: SyncOptions) -> None:
    """Kill a sync when some of its pages are committed."""
    begin = tenancy.requests

    def stop(number: int) -> None:
        if number == begin + 6:
            raise KeyboardInterrupt

    tenancy.before_request = stop
    with pytest.raises(KeyboardInterrupt):
        sync(tenancy, options)
    tenancy.before_request = lambda _: None
    assert (options.archive / "work" / "plan.json").exists()


class TestRegions:
    """A region that does not answer costs its own targets, and nothing else."""

    def test_down_for_long(self, tenancy, options):
        """While a region is down for three weeks, the archive stays current everywhere else."""
        sync(tenancy, options)
        tenancy.refuse = silence(OTHER)
        for _ in range(21):
            tenancy.pass_minutes(DAY)
            result = sync(tenancy, options)
            assert result.state.targets[HERE].coverage.end == tenancy.now - SETTLE
            assert {gap.target.region for gap in result.state.gaps} == {OTHER}
        assert result.verdict.kind is VerdictKind.INCOMPLETE
        tenancy.refuse = silence()
        result = sync(tenancy, options)
        assert result.state.gaps == ()
        assert find_holes(result.state, THERE) == ()

    def test_down_from_the_first(self, tenancy, options):
        """A region that is down in the whole first sync is a gap, and the other region is committed."""
        tenancy.refuse = silence(OTHER)
        result = sync(tenancy, options)
        assert {gap.target.region for gap in result.state.gaps} == {OTHER}
        assert find_holes(result.state, HERE) == ()
        assert len(result.commits) == 1

    def test_not_subscribed(self, tenancy, options):
        """A region that rejects the key, which is good elsewhere, is a gap."""
        tenancy.refuse = lambda target, _: make_error(401, "NotAuthenticated") if target.region == OTHER else None
        result = sync(tenancy, options)
        assert {(gap.target.region, gap.kind) for gap in result.state.gaps} == {(OTHER, "denied")}
        assert find_holes(result.state, HERE) == ()

    def test_subscribed_later(self, tenancy, options, tmp_path):
        """A region that is subscribed to later is followed from then on, back to the archive's start."""
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        tenancy.regions = {**tenancy.regions, LATER: 0}
        tenancy.add(Target(LATER, ROOT), [make_record("new", BEGIN - DAY)])
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)

    def test_everything_down(self, tenancy, options, tmp_path):
        """When no region responds the sync ends with an error and keeps its plan; the next one goes on."""
        tenancy.refuse = silence(HOME, OTHER)
        with pytest.raises(ServiceUnreachable):
            sync(tenancy, options)
        tenancy.refuse = silence()
        assert (options.archive / "work" / "plan.json").exists()
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)


class TestResumption:
    """A sync that was stopped goes on where it was, and reaches the present."""

    def test_only_what_is_missing(self, tenancy, options, tmp_path):
        """The next sync does not request again what was complete, nor a ring that was run a minute ago."""
        kill_half_way(tenancy, options)
        before, tenancy.asked = tenancy.asked, []
        result = sync(tenancy, options)
        assert len(result.commits) == 1
        assert len(before) + len(tenancy.asked) <= len(tenancy.list_targets()) + 2
        check_all(tenancy, options, tmp_path)

    def test_reaches_the_present(self, tenancy, options, tmp_path):
        """Hours later the next sync commits what was planned, and then what has come since."""
        kill_half_way(tenancy, options)
        tenancy.pass_minutes(300)
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)

    def test_earlier_start(self, tenancy, options, tmp_path):
        """A start that is named when the sync goes on counts."""
        kill_half_way(tenancy, options)
        sync(tenancy, replace(options, start="5d"))
        assert state_of(options).start == BEGIN - 5 * DAY
        check_all(tenancy, options, tmp_path)

    def test_more_compartments(self, tenancy, options):
        """Compartments that are named when the sync goes on count."""
        narrow = replace(options, compartments=(ONE,), is_subtree=False)
        kill_half_way(tenancy, replace(narrow, start="20d"))
        sync(tenancy, replace(narrow, compartments=(ONE, ROOT)))
        assert {target.compartment for target in state_of(options).targets} == {ONE, ROOT}

    def test_short_settle(self, tenancy, options, tmp_path):
        """With a settle below fifteen minutes, what was asked so early is asked again, and nothing is missed."""
        options = replace(options, settle="0m")
        tenancy.add(HERE, [make_record("just now", BEGIN - 1, late=3)])
        kill_half_way(tenancy, options)
        tenancy.pass_minutes(10)
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        sync(tenancy, options)
        rows = check_rows(tenancy, options.archive, tmp_path / "scratch")
        assert any(b"just now" in row.raw for row in rows)

    def test_older_than_the_archive(self, tenancy, options, tmp_path):
        """A leftover that the archive has overtaken, as after a restore, is discarded and takes nothing back."""
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        kill_half_way(tenancy, options)
        shutil.copytree(options.archive / "work", tmp_path / "kept")
        for _ in range(3):
            tenancy.pass_minutes(60)
            sync(tenancy, options)
        before = state_of(options)
        shutil.copytree(tmp_path / "kept", options.archive / "work")
        sync(tenancy, options)
        after = state_of(options)
        assert after.now == before.now
        assert after.end == before.end
        check_all(tenancy, options, tmp_path)

    def test_what_was_pruned_meanwhile_stays_away(self, tenancy, options):
        """A leftover that requested dates which have been pruned since is discarded: they do not come back."""
        sync(tenancy, options)
        tenancy.pass_minutes(DAY)
        kill_half_way(tenancy, replace(options, rescan="2h,3d"))
        date = format_minute(tenancy.now)[:10]
        assert min(entry.date for entry in state_of(options).segments.values()) < date
        prune_archive(options.archive, date, clock=NoWaitClock(), is_confirmed=True)
        assert not [one for one in state_of(options).segments.values() if one.date < date]
        sync(tenancy, replace(options, rescan="2h,3d"))
        assert not [one for one in state_of(options).segments.values() if one.date < date]
        assert state_of(options).now == tenancy.now

    def test_from_the_future(self, tenancy, options, tmp_path):
        """A plan that a clock made which was a day ahead is not carried out once the clock is right."""
        sync(tenancy, options)
        tenancy.ahead, tenancy.has_dates = 86_400.0, False
        kill_half_way(tenancy, options)
        tenancy.ahead, tenancy.has_dates = 0.0, True
        sync(tenancy, options)
        assert state_of(options).now == tenancy.now
        check_all(tenancy, options, tmp_path)

    def test_no_date(self, tenancy, options, tmp_path):
        """Without a `Date`, nothing counts from five minutes before the local clock on, which a signature proves."""
        tenancy.has_dates, tenancy.ahead = False, 300.0
        sync(tenancy, options)
        assert state_of(options).now == tenancy.now
        tenancy.ahead = 0.0
        tenancy.pass_minutes(60)
        sync(tenancy, options)
        assert state_of(options).now == tenancy.now - 5
        check_rows(tenancy, options.archive, tmp_path / "scratch")

    def test_retention_passed_meanwhile(self, tenancy, tmp_path):
        """A first sync that goes on two days later asks for nothing that is gone, and the archive begins behind it."""
        options = SyncOptions(archive=tmp_path / "archive")
        kill_half_way(tenancy, options)
        tenancy.pass_minutes(2 * DAY)
        result = sync(tenancy, options)
        assert [gap.reason for commit in result.commits for gap in commit.gaps] == []
        assert [commit.lost for commit in result.commits if commit.lost] == []
        check_all(tenancy, options, tmp_path)

    def test_sign_in_ended(self, tenancy, options, tmp_path):
        """When the key is rejected in the middle, what was received is kept, and the next sync goes on."""
        begin = tenancy.requests

        def reject(number: int) -> None:
            if number > begin + 6:
                raise make_error(401, "NotAuthenticated")

        tenancy.before_request = reject
        with pytest.raises(SignInRejected):
            sync(tenancy, options)
        tenancy.before_request = lambda _: None
        asked, tenancy.asked = set(tenancy.asked), []
        sync(tenancy, options)
        assert len(asked & set(tenancy.asked)) <= 2
        check_all(tenancy, options, tmp_path)

    def test_first_request_fails(self, tenancy, options, tmp_path):
        """What a sync leaves whose first request failed does not disturb the next one."""
        tenancy.before_request = lambda _: (_ for _ in ()).throw(make_error(401, "NotAuthenticated"))
        with pytest.raises(SignInRejected):
            sync(tenancy, options)
        tenancy.before_request = lambda _: None
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)


class TestSignals:
    """A signal ends a sync wherever it is, and the next one makes up for it."""

    def test_first_sync(self, tenancy, options, tmp_path):
        """Whenever the signal comes in a first sync, the next one completes the archive."""
        stopped = 0
        for call in range(1, 90, 8):
            stopped += signal_sync(tenancy, replace(options, archive=tmp_path / f"{call}"), call)
            again = replace(options, archive=tmp_path / f"{call}")
            sync(tenancy, again)
            check_all(tenancy, again, tmp_path)
        assert stopped > 3

    def test_compaction(self, tenancy, options, tmp_path):
        """A signal before a date is compacted ends the sync without that; the next one compacts it."""
        options = replace(options, rescan="30m")
        for _ in range(3):
            sync(tenancy, options)
            tenancy.pass_minutes(4 * 60)
        tenancy.pass_minutes(DAY)
        before = state_of(options).sequence
        stopped = [call for call in range(30, 130, 6) if signal_sync(tenancy, options, call)]
        assert stopped
        assert state_of(options).sequence > before
        sync(tenancy, options)
        segments = state_of(options).group_segments()
        assert len(segments[format_minute(BEGIN)[:10]]) == 1
        check_all(tenancy, options, tmp_path)


class TestTime:
    """Clocks that are wrong, and minutes that pass out of retention."""

    def test_before_the_start(self, tenancy, options):
        """A clock that shows a time before the archive's start is refused, and nothing changes."""
        sync(tenancy, options)
        before = state_of(options).encode()
        tenancy.pass_minutes(-3 * DAY)
        with pytest.raises(UsageError, match="before the archive begins: it is wrong"):
            sync(tenancy, options)
        assert state_of(options).encode() == before

    def test_whole_retention_by_name(self, tenancy, options, tmp_path):
        """A start at the edge of the retention leaves nothing lost, although time passes until the answers."""
        tenancy.seconds_per_request = 10.0
        tenancy.second = 50.0
        result = sync(tenancy, replace(options, start=f"{tenancy.retention_days}d"))
        state = result.state
        assert {find_holes(state, target) for target in state.targets} == {()}
        tenancy.pass_minutes(DAY)
        assert [commit.lost for commit in sync(tenancy, options).commits] == [()]

    def test_gap_passes_out_of_retention(self, tenancy, options):
        """What stays denied until retention has passed it is lost, on record, and not asked for again."""
        tenancy.refuse = deny(HERE)
        sync(tenancy, replace(options, start="28d"))
        tenancy.pass_minutes(10 * DAY)
        sync(tenancy, options)
        tenancy.refuse = deny()
        state = sync(tenancy, options).state
        assert state.targets[HERE].lost == (Window(BEGIN - 28 * DAY, tenancy.now - 30 * DAY + 60),)
        assert find_holes(state, HERE) == ()
        assert min(start for _, start, _ in tenancy.asked[-8:]) >= tenancy.now - 30 * DAY

    def test_failed_rescan(self, tenancy, options, tmp_path):
        """A rescan that fails is a gap, though its minutes were covered before, and the next sync requests it again."""
        sync(tenancy, options)
        tenancy.pass_minutes(27 * 60)
        tenancy.add(HERE, [make_record("late", tenancy.now - 60, happened=tenancy.now - 32 * 60)])
        tenancy.refuse = deny(HERE)
        gaps = sync(tenancy, options).state.gaps
        assert any(gap.window.start < tenancy.now - 32 * 60 for gap in gaps), "the rescan did not fail"
        tenancy.refuse = deny()
        tenancy.pass_minutes(60)
        assert sync(tenancy, options).state.gaps == ()
        check_all(tenancy, options, tmp_path)

    def test_failed_rescan_alone(self, tenancy, options):
        """Where nothing but a rescan fails, the verdict and the listed gaps are the same, until it is answered."""
        sync(tenancy, options)
        tenancy.refuse = deny(HERE)
        state = sync(tenancy, options).state
        verdict = judge_archive(state)
        assert (verdict.kind, verdict.gaps, verdict.targets_with_gaps) == (VerdictKind.INCOMPLETE, 1, 1)
        assert len(list_open_gaps(state)) == 1
        tenancy.refuse = deny()
        assert judge_archive(sync(tenancy, options).state).kind is VerdictKind.COMPLETE_SO_FAR

    def test_late_events(self, tenancy, options):
        """An event that appears in a minute that was asked is late, and one whose minute is final is counted apart."""
        options = replace(options, rescan="30m")
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        tenancy.add(HERE, [make_record("late", tenancy.now - 80, late=75)])
        assert sync(tenancy, options).commits[0].late.count == 1
        tenancy.pass_minutes(DAY)
        tenancy.add(HERE, [make_record("very late", tenancy.now - 30, happened=tenancy.now - DAY - 500)])
        late = sync(tenancy, options).commits[0].late
        assert (late.count, late.after_final) == (1, 1)
        assert state_of(options).totals.late_after_final == 1


class TestScope:
    """Compartments that come, change and go, and a scope that only grows."""

    def test_quiet_sync(self, tenancy, options):
        """A sync in which nothing happened sends one request for each target."""
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        tenancy.asked = []
        result = sync(tenancy, options)
        assert sorted(target for target, _, _ in tenancy.asked) == tenancy.list_targets()
        assert result.commits[0].requests == len(tenancy.list_targets())

    def test_start_within_settle(self, tenancy, options):
        """A new archive cannot begin with minutes that are not requested yet; one that exists just keeps its start."""
        with pytest.raises(UsageError, match="within the last 15 minutes"):
            sync(tenancy, replace(options, start="5m"))
        first = sync(tenancy, options).state.start
        assert sync(tenancy, replace(options, start="5m")).state.start == first

    def test_imported_before(self, tenancy, options, tmp_path):
        """The first sync of an archive of imported events alone begins where it is told to."""
        create_archive(options.archive, tenancy=CREDENTIALS.tenancy, now=NoWaitClock().now())
        file = tmp_path / "some.ndjson"
        file.write_bytes(make_event(1) + b"\n")
        import_files(options.archive, [file], clock=NoWaitClock())
        assert not state_of(options).start
        sync(tenancy, options)
        assert state_of(options).start == tenancy.now - 2 * DAY

    def test_denied_then_readable(self, tenancy, options, tmp_path):
        """A target that becomes readable is fetched back to the archive's start."""
        target = Target(HOME, ONE)
        tenancy.refuse = deny(target)
        assert sync(tenancy, options).verdict.kind is VerdictKind.INCOMPLETE
        tenancy.pass_minutes(3 * DAY)
        sync(tenancy, options)
        tenancy.refuse = deny()
        tenancy.pass_minutes(60)
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)

    def test_waived(self, tenancy, options):
        """A denial that is known does not make the archive incomplete; it is waived by name, and says so."""
        tenancy.refuse = deny(Target(HOME, ONE), Target(OTHER, ONE))
        result = sync(tenancy, replace(options, waived=frozenset({"one"})))
        assert result.verdict.kind in {VerdictKind.COMPLETE_SO_FAR, VerdictKind.COMPLETE_EXCEPT_WAIVED}
        assert set(result.verdict.waived) == {Target(HOME, ONE), Target(OTHER, ONE)}

    def test_deleted(self, tenancy, options):
        """A compartment that is listed as deleted and answers 404 is closed: asked no more, and no gap."""
        sync(tenancy, options)
        tenancy.compartments[ONE].states = ((0, "DELETED"),)
        tenancy.refuse = deny(Target(HOME, ONE), Target(OTHER, ONE))
        tenancy.pass_minutes(60)
        state = sync(tenancy, options).state
        assert state.targets[Target(HOME, ONE)].is_closed
        assert state.gaps == ()
        tenancy.asked = []
        tenancy.pass_minutes(60)
        assert sync(tenancy, options).verdict.kind is VerdictKind.COMPLETE_SO_FAR
        assert {target.compartment for target, _, _ in tenancy.asked} == {ROOT}

    def test_unlisted(self, tenancy, options, tmp_path):
        """A compartment that was active and is no longer listed is still asked, and a warning names it."""
        sync(tenancy, options)
        tenancy.compartments[ONE].states = ((0, ""),)
        tenancy.pass_minutes(60)
        result = sync(tenancy, options)
        assert any("root/one" in warning for warning in result.warnings)
        check_all(tenancy, options, tmp_path)

    def test_narrower(self, tenancy, options):
        """A narrower scope is refused; a wider one is fetched back to the start."""
        named = replace(options, compartments=("one",))
        sync(tenancy, named)
        with pytest.raises(UsageError, match="are not named here"):
            sync(tenancy, replace(named, regions=(HOME,)))
        tenancy.pass_minutes(60)
        sync(tenancy, replace(options, compartments=("one", "root")))
        assert find_holes(state_of(options), HERE) == ()
        assert state_of(options).targets[HERE].since == state_of(options).start

    @pytest.mark.parametrize("start", ["6d", "1d"])
    def test_start(self, tenancy, options, tmp_path, start):
        """An earlier start is fetched; a later one changes nothing."""
        sync(tenancy, options)
        tenancy.pass_minutes(60)
        sync(tenancy, replace(options, start=start))
        assert state_of(options).start == min(BEGIN - 2 * DAY, tenancy.now - int(start[0]) * DAY)
        check_all(tenancy, options, tmp_path)

    def test_smallest_origin(self, tenancy, options, tmp_path):
        """The origin of a record is the smallest target that served it, in whichever sync."""
        records = [make_record("shared", BEGIN - 100, forms=2), make_record("later", BEGIN - 90)]
        for target in (THERE, Target(OTHER, ONE)):
            tenancy.add(target, records)
        sync(tenancy, options)
        tenancy.add(HERE, [replace(records[0], forms=records[0].forms[::-1])])
        tenancy.pass_minutes(6)
        sync(tenancy, options)
        rows = {row.raw: row.origin for row in read_rows(options.archive, tmp_path / "scratch")}
        [shared] = [raw for raw in rows if b"shared" in raw]
        assert shared == min(records[0].forms)
        assert rows[shared] == HERE
        assert rows[records[1].forms[0]] == min(THERE, Target(OTHER, ONE))
        check_all(tenancy, options, tmp_path)


class TestRounds:
    """A long first sync commits again and again, the oldest first."""

    @staticmethod
    def run(tenancy: SimulatedTenancy, options: SyncOptions) -> tuple[list[Commit], list[ArchiveState]]:
        """Sync; return the commits, and the archive's state after each."""
        states: list[ArchiveState] = []
        with tenancy.install() as context:
            result = sync_archive(options, context, on_commit=lambda _: states.append(state_of(options)))
        return list(result.commits), states

    def test_by_events(self, tenancy, tmp_path):
        """Rounds of few events each end later than the one before, and what they cover has no holes."""
        options = SyncOptions(archive=tmp_path / "archive", round_events=200)
        commits, states = self.run(tenancy, options)
        ends = [commit.end for commit in commits if commit.kind == "sync"]
        assert len(ends) > 3
        assert ends == sorted(set(ends))
        for commit, state in zip(commits, states, strict=True):
            assert {find_holes(state, target) for target in state.targets} == {()}
            assert state.end == commit.end or commit.kind == "compaction"
            assert commit.counts.received < 600
        check_all(tenancy, options, tmp_path)

    def test_no_nearer(self, tenancy, tmp_path):
        """Where time passes faster than the service answers, a sync ends and says so; a faster one catches up later."""
        options = SyncOptions(archive=tmp_path / "archive", round_seconds=60)
        tenancy.seconds_per_request = 3_600.0
        result = sync(tenancy, options)
        (warning,) = [text for text in result.warnings if "more slowly than time passes" in text]
        assert re.search(r": [\d,]+ minutes left to the next sync", warning)
        assert len([commit for commit in result.commits if commit.kind == "sync"]) < 10
        tenancy.seconds_per_request = 0.0
        assert not [text for text in sync(tenancy, options).warnings if "more slowly" in text]
        assert state_of(options).end == tenancy.now - SETTLE

    def test_slowly_nearer(self, tenancy, tmp_path):
        """A slow sync that comes nearer with each commit goes on, however many it takes."""
        options = SyncOptions(archive=tmp_path / "archive", round_seconds=60)
        tenancy.seconds_per_request = 1_800.0
        result = sync(tenancy, options)
        assert len([commit for commit in result.commits if commit.kind == "sync"]) > 20
        assert not [text for text in result.warnings if "more slowly" in text]

    def test_by_time(self, tenancy, tmp_path):
        """Rounds that end by the clock leave nothing out, while the retention passes."""
        options = SyncOptions(archive=tmp_path / "archive", round_seconds=20)
        tenancy.seconds_per_request = 3.0
        commits, states = self.run(tenancy, options)
        assert len([commit for commit in commits if commit.kind == "sync"]) > 3
        assert not any(commit.lost or commit.gaps for commit in commits)
        assert states[-1].start == BEGIN - 30 * DAY + 120
        tenancy.seconds_per_request = 0.0
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)

    def test_killed_in_between(self, tenancy, tmp_path):
        """Killed anywhere, a sync of many rounds goes on, and ends as an undisturbed one."""
        options = SyncOptions(archive=tmp_path / "archive", round_events=200)
        killed = 0
        for call in range(40, 800, 40):
            killed += kill_sync(tenancy, options, call)
        assert killed > 3
        sync(tenancy, options)
        check_all(tenancy, options, tmp_path)

    def test_rings(self, tenancy, options, tmp_path):
        """A ring that has more events than a round comes to an end: each round asks what no round before it has."""
        options = replace(options, round_events=60, start="9d")
        sync(tenancy, options)
        tenancy.pass_minutes(8 * DAY)
        tenancy.asked = []
        commits, _ = self.run(tenancy, options)
        assert 3 < len([commit for commit in commits if commit.kind == "sync"]) < 20
        assert [commit.rings_run for commit in commits if commit.rings_run] == [options.rings]
        check_all(tenancy, options, tmp_path)
        last = state_of(options)
        reach = options.rings[-1] + SETTLE
        for target in tenancy.list_targets():  # what was covered before has been asked at that age now
            assert (
                find_final_until(last.targets[target].coverage, last.start, reach=reach, now=last.now) >= BEGIN - SETTLE
            )


def test_a_replaced_segment_stays_for_a_day_however_many_commits_follow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those who are reading it find it for a day; after that the next writer removes it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
    monkeypatch.setattr(os, "fdatasync", lambda _: None, raising=False)
    log = write_archive(tmp_path / "archive", 1)
    first = make_segment(1)
    log.append(msgspec.structs.replace(make_commit(log, added=[make_segment(2)]), replaced=(first.path,)))
    for number in range(3, 150):
        log.append(make_commit(log, added=[make_segment(number)]))
    kept = log.folder.replaced_path(first.path)
    kept.parent.mkdir(mode=0o700)
    kept.write_bytes(b"rows")
    written = datetime.fromisoformat(make_commit(log).at)
    recover_archive(log, now=written + timedelta(hours=23))
    assert kept.exists()
    recover_archive(log, now=written + timedelta(hours=25))
    assert not kept.exists()
