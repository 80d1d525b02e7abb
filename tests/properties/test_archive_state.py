"""An archive's state against a model with one entry per minute: nothing is missed, nothing is claimed too early."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.archive.commit import Commit, Compartment
from ociaudit.archive.state import (
    ArchiveState,
    find_final_dates,
    find_retention_start,
    group_answers,
    judge_archive,
    make_calendar,
)
from ociaudit.planning.shard import MINUTES_PER_DAY, AskedCoverage, Coverage, Gap, Target, Window, format_minute
from ociaudit.storage.verdict import VerdictKind
from support.drawn_commits import (
    DAY,
    HOME,
    NOT_FOUND,
    NOW,
    ROOT,
    apply_commit,
    find_final_until,
    list_compartments,
    make_commit,
    name_compartment,
    plan_sync,
    run_sync,
)

HERE = Target(HOME, ROOT)
rings_of_any_kind = st.lists(st.integers(1, 3_000), min_size=1, max_size=3, unique=True).map(sorted).map(tuple)
settles = st.integers(0, 40)
pauses = st.one_of(st.integers(1, 90), st.integers(50, 70), st.integers(1, 3 * DAY))


@dataclass
class Service:
    """A service that knows the true time, and the model: when each minute of a target was last truly answered."""

    now: int = NOW
    denied: set[Target] = field(default_factory=set)
    failing: set[Target] = field(default_factory=set)
    answers: dict[Target, dict[int, int]] = field(default_factory=dict)
    requests: int = 0

    def answer(self, target: Target, window: Window) -> Gap | None:
        """Answer a window up to the true time, or return a gap."""
        self.requests += 1
        if target in self.failing:
            return Gap(target, window, "failed", "503 ServiceUnavailable")
        if target in self.denied:
            return Gap(target, window, "denied", NOT_FOUND)
        minutes = range(window.start, min(window.end, self.now))
        self.answers.setdefault(target, {}).update(dict.fromkeys(minutes, self.now))
        return None


def list_minutes(coverage: AskedCoverage) -> dict[int, int | None]:
    """Return when each covered minute was last asked."""
    return {minute: span.asked_at for span in coverage.spans for minute in range(span.start, span.end)}


def is_canonical(coverage: AskedCoverage) -> bool:
    """Return whether spans are sorted, disjoint, not empty, and joined where they can be."""
    pairs = itertools.pairwise(coverage.spans)
    return all(span.start < span.end for span in coverage.spans) and all(
        left.end < right.start or (left.end == right.start and left.asked_at != right.asked_at) for left, right in pairs
    )


class TestCoverage:
    """Coverage with the time it was asked behaves like a table with one entry per minute."""

    windows = st.builds(lambda start, length: Window(start, start + length), st.integers(0, 60), st.integers(1, 25))
    asks = st.lists(st.tuples(windows, st.integers(0, 120)), max_size=12)

    @staticmethod
    def build(asks: Sequence[tuple[Window, int]]) -> tuple[AskedCoverage, dict[int, int | None]]:
        """Add the asks to a coverage and to a table; collapse every third time."""
        coverage, table = AskedCoverage(), {}
        for number, (window, asked_at) in enumerate(asks):
            coverage = coverage.add(window, asked_at)
            for minute in range(window.start, window.end):
                known = table.get(minute, asked_at)
                table[minute] = None if known is None else max(known, asked_at)
            if number % 3 == 2:
                coverage = coverage.collapse(reach=20, now=90)
                for minute, known in table.items():
                    if known is not None and known <= 90 and known - minute >= 20:
                        table[minute] = None
        return coverage, table

    @given(asks)
    def test_adding_and_collapsing(self, asks: list[tuple[Window, int]]) -> None:
        """The later time wins per minute, final stays final, and the spans are as few as possible."""
        coverage, table = self.build(asks)
        assert list_minutes(coverage) == table
        assert is_canonical(coverage)
        assert coverage.end == (max(table) + 1 if table else None)

    @given(asks, windows, st.integers(0, 60), st.integers(0, 120))
    def test_finding(self, asks: list[tuple[Window, int]], window: Window, reach: int, now: int) -> None:
        """What is missing, unsatisfied or final is what the table says."""
        coverage, table = self.build(asks)
        missing = {minute for part in coverage.find_missing(window) for minute in range(part.start, part.end)}
        assert missing == set(range(window.start, window.end)) - table.keys()
        unsatisfied = {
            minute
            for minute, asked_at in table.items()
            if asked_at is not None and (asked_at > now or asked_at - minute < reach)
        }
        found = coverage.find_unsatisfied(window, reach=reach, now=now)
        inside = {minute for part in found for minute in range(part.start, part.end)}
        assert inside == unsatisfied & set(range(window.start, window.end))
        until = find_final_until(coverage, window.start, reach=reach, now=now)
        expected = window.start
        while expected in table and expected not in unsatisfied:
            expected += 1
        assert until == expected
        span = coverage.find_span(window.start)
        assert (span is not None) is (window.start in table)
        assert span is None or span.asked_at == table[window.start]

    @given(asks, st.integers(0, 120), st.integers(0, 120))
    def test_distrusting(self, asks: list[tuple[Window, int]], now: int, back: int) -> None:
        """After a clock was ahead, nothing is later than it may have been, and nothing else has changed."""
        coverage, table = self.build(asks)
        since = max(0, now - back)
        expected: dict[int, int | None] = {}
        for minute, asked_at in table.items():
            if asked_at is not None and asked_at <= now:
                expected[minute] = asked_at
            elif asked_at is None and since - minute >= 20:
                expected[minute] = None
            elif minute < since:
                expected[minute] = since
        result = coverage.distrust(reach=20, now=now, asked_since=since)
        assert list_minutes(result) == expected
        assert is_canonical(result)


@settings(max_examples=60)
@given(st.lists(pauses, min_size=5, max_size=120), rings_of_any_kind, settles, st.data())
def test_a_late_event_is_found_by_the_ring_that_is_longer(
    steps: list[int], rings: tuple[int, ...], settle: int, data: st.DataObject
) -> None:
    """After a ring of R minutes ran, every event is found that was late by up to R - 1 minutes and is over R old.

    An event of any minute that shows up R - 1 minutes later is visible at R; so each minute that is older than
    R + settle must have been truly answered at an age of at least R, whatever the syncs' phase.
    """
    service, state = Service(), ArchiveState()
    start = NOW - data.draw(st.integers(0, 2 * DAY))
    satisfied = dict.fromkeys(rings, start)
    for step in steps:
        service.now += step
        commit = run_sync(state, service.now, start=start, settle=settle, rings=rings, refuse=service.answer)
        answers = service.answers.get(HERE, {})
        for ring in commit.rings_run:
            for minute in range(satisfied[ring], service.now - settle - ring):
                assert answers[minute] - minute >= ring
                satisfied[ring] = minute + 1
    assert satisfied[rings[0]] == max(start, service.now - settle - rings[0])


clocks = st.one_of(st.just(0), st.just(0), st.integers(5 * DAY, 40 * DAY), st.integers(-3 * DAY, -1))
"""How far the clock of a sync is ahead; ahead by less than the time to the next sync cannot be noticed."""


@settings(max_examples=60)
@given(
    st.lists(st.tuples(st.integers(1, DAY), clocks, st.booleans()), min_size=3, max_size=40),
    st.sampled_from([(10,), (10, 60), (10, 60, 300)]),
    settles,
)
def test_wrong_clocks_claim_nothing(steps: list[tuple[int, int, bool]], rings: tuple[int, ...], settle: int) -> None:
    """After a sync with a right clock, what is covered was answered when it was over, what is final was old enough."""
    service, state = Service(), ArchiveState()
    start = NOW - DAY
    for pause, ahead, is_failing in steps:
        service.now += pause
        service.failing = {HERE} if is_failing else set()
        run_sync(state, service.now + ahead, start=start, settle=settle, rings=rings, refuse=service.answer)
        if ahead == 0:
            check_claims(state, service)


def check_claims(state: ArchiveState, service: Service) -> None:
    """Check that every covered minute was truly answered, and at the age that is claimed."""
    for target, one in state.targets.items():
        answers = service.answers.get(target, {})
        for minute, asked_at in list_minutes(one.coverage).items():
            assert minute < service.now
            assert minute in answers
            if asked_at is None:
                assert answers[minute] - minute >= state.reach
            else:
                assert asked_at <= answers[minute]


@dataclass
class World:
    """A tenancy in the course of time, and the syncs over it."""

    service: Service = field(default_factory=Service)
    state: ArchiveState = field(default_factory=ArchiveState)
    regions: list[str] = field(default_factory=lambda: [HOME])
    compartments: dict[str, Compartment] = field(default_factory=lambda: list_compartments(2))
    waived: tuple[str, ...] = ()
    commits: list[Commit] = field(default_factory=list)

    def list_targets(self, number: int) -> set[Target]:
        """Return the targets of a compartment."""
        return {Target(region, name_compartment(number)) for region in (HOME, "us-ashburn-1", "uk-london-1")}

    def step(self, action: str, number: int) -> None:
        """Let something happen to a compartment, a region or the service."""
        ocid = name_compartment(number)
        listed = self.compartments.get(ocid, Compartment(f"root/c{number}", "ACTIVE"))
        match action:
            case "list":
                self.compartments[ocid] = Compartment(listed.path, "ACTIVE")
            case "rename":
                self.compartments[ocid] = Compartment("root/renamed", listed.state)
            case "delete" if number:
                self.compartments[ocid] = Compartment(listed.path, "DELETED")
            case "unlist" if number:
                self.compartments.pop(ocid, None)
            case "subscribe":
                self.regions = sorted({*self.regions, ("us-ashburn-1", "uk-london-1")[number % 2]})
            case "waive":
                self.waived = (ocid,)
        self.change_service("deny" if action == "delete" and number else action, self.list_targets(number))

    def change_service(self, action: str, targets: set[Target]) -> None:
        """Let the service change its mind about targets."""
        match action:
            case "deny":
                self.service.denied |= targets
            case "allow":
                self.service.denied -= targets
            case "fail":
                self.service.failing |= targets
            case "heal":
                self.service.failing -= targets

    def sync(self, pause: int) -> None:
        """Sync after some minutes, with a retention of three days and short rings."""
        self.service.now += pause
        commit = run_sync(
            self.state,
            self.service.now,
            days=3,
            rings=(10, 60, 300),
            regions=self.regions,
            compartments=self.compartments,
            refuse=self.service.answer,
            waived=self.waived,
        )
        self.commits.append(commit)


ACTIONS = ["list", "rename", "delete", "unlist", "deny", "allow", "fail", "heal", "subscribe", "waive"]
actions = st.sampled_from([*ACTIONS, "nothing", "nothing"])
stories = st.lists(st.tuples(actions, st.integers(0, 3), st.integers(1, DAY)), min_size=1, max_size=12)


def tell(story: Sequence[tuple[str, int, int]]) -> World:
    """Let a story happen."""
    world = World()
    for action, number, pause in story:
        world.step(action, number)
        world.sync(pause)
    return world


@settings(max_examples=30)
@given(stories)
def test_whatever_happens_to_targets(story: list[tuple[str, int, int]]) -> None:
    """Each minute of a target is covered as answered, lost, or a gap; verdict, calendar and finality agree with it."""
    world = tell(story)
    state, service = world.state, world.service
    check_claims(state, service)
    oldest = find_retention_start(service.now, 3)
    is_incomplete = False
    unfinished: set[int] = set()
    for target, one in state.targets.items():
        answers = service.answers.get(target, {})
        covered, lost = list_minutes(one.coverage), Coverage(one.lost)
        assert covered.keys() == answers.keys()
        end = min(state.end, one.coverage.end or 0) if one.is_closed else state.end
        waived = target.compartment in state.waived and target not in service.failing
        for minute in range(one.since, end):
            is_lost = not lost.find_missing(Window(minute, minute + 1))
            if minute not in answers:
                assert is_lost or (minute >= oldest and not one.is_closed), "neither covered, nor lost, nor a gap"
                is_incomplete |= not waived
                if not waived:
                    unfinished.add(minute // DAY)
            elif not one.is_closed and answers[minute] - minute < state.reach:
                unfinished.add(minute // DAY)
    assert (judge_archive(state).kind is VerdictKind.INCOMPLETE) is is_incomplete
    for day in range(state.start // DAY, state.end // DAY + 1):
        is_whole = state.start <= day * DAY and (day + 1) * DAY <= state.end
        assert bool(find_final_dates(state, [format_minute(day * DAY)[:10]])) is (is_whole and day not in unfinished)
    for one in make_calendar(state):
        day = next(
            day for day in range(NOW // DAY - 5, service.now // DAY + 1) if format_minute(day * DAY)[:10] == one.date
        )
        assert (one.kind == "final") is (day not in unfinished)


@settings(max_examples=40)
@given(stories)
def test_a_lost_active_compartment_is_always_requested(story: list[tuple[str, int, int]]) -> None:
    """Every target that a listing ever held is requested by the next sync, or closed by a denial of a deleted one."""
    world = tell(story)
    asks = plan_sync(world.state, world.service.now + 60, days=3, rings=(10, 60, 300))
    ever = {ocid for commit in world.commits if commit.scope for ocid in commit.scope.compartments}
    assert set(world.state.targets) == {Target(region, ocid) for region in world.regions for ocid in ever}
    for target in world.state.targets:
        is_deleted = world.state.compartments[target.compartment].state == "DELETED"
        has_closed = any(target in commit.closed for commit in world.commits)
        assert target in asks or (has_closed and is_deleted)


@settings(max_examples=40)
@given(stories, st.data())
def test_a_checkpoint_replaces_the_commits_before_it(story: list[tuple[str, int, int]], data: st.DataObject) -> None:
    """A checkpoint and the commits after it give the same bytes as all commits, wherever it was taken."""
    world = tell(story)
    cut = data.draw(st.integers(0, len(world.commits)))
    state = ArchiveState()
    for commit in world.commits[:cut]:
        apply_commit(state, commit)
    state = ArchiveState.decode(state.encode())
    for commit in world.commits[cut:]:
        apply_commit(state, commit)
    assert state.encode() == world.state.encode()
    assert state == world.state
    assert ArchiveState.decode(state.encode()).encode() == state.encode()


drawn_targets = st.builds(Target, st.sampled_from([HOME, "us-ashburn-1"]), st.integers(0, 3).map(name_compartment))
drawn_windows = st.builds(lambda start, length: Window(start, start + length), st.integers(1, 40), st.integers(1, 9))


@given(
    st.dictionaries(drawn_targets, st.lists(drawn_windows, max_size=3), max_size=8),
    st.sets(drawn_targets, max_size=8),
    st.randoms(use_true_random=False),
)
def test_grouped_answers_mean_what_was_answered(coverage, closing, random) -> None:
    """Every target is covered by exactly its own windows, open or closing, and the order of targets does not matter."""
    state = ArchiveState()
    listed = list_compartments(4)
    refuse = lambda target, window: Gap(target, window, "failed", "503")  # noqa: E731 - one line says it
    run_sync(state, 1_000, start=1, regions=(HOME, "us-ashburn-1"), compartments=listed, refuse=refuse)
    remaining = [target for target in state.targets if target not in closing]
    answered = group_answers(coverage, remaining)
    shuffled = list(coverage.items())
    random.shuffle(shuffled)
    random.shuffle(remaining)
    assert group_answers(dict(shuffled), remaining) == answered
    assert sum(one.targets is None for one in answered) <= 1
    apply_commit(
        state, make_commit(state, now=1_000, start=1, end=900, answered=answered, closed=tuple(sorted(closing)))
    )
    for target, one in state.targets.items():
        windows = Coverage(Window(span.start, span.end) for span in one.coverage.spans).windows
        assert windows == Coverage(coverage.get(target, ())).windows


def test_a_year_of_syncs_stays_small() -> None:
    """In a year of syncs about every hour a target has at most 250 spans, and 1.1 windows are requested per sync."""
    state, windows, most_spans = ArchiveState(), 0, 0
    for number in range(365 * 24):
        commit = run_sync(state, NOW + number * 60 + number % 7)
        windows += commit.requests
        most_spans = max(most_spans, len(state.targets[HERE].coverage.spans))
    assert windows <= 1.1 * 365 * 24
    assert 7 * 2 < most_spans <= 250
    assert len(state.trail) <= 400 + 24
    assert judge_archive(state).kind is VerdictKind.COMPLETE_SO_FAR
    assert len(state.encode()) < 50_000


@settings(max_examples=50)
@given(st.lists(st.integers(-3_000, 3_000), min_size=1, max_size=40))
def test_the_trail_is_thinned_to_one_time_a_day(steps: list[int]) -> None:
    """Whatever the clock does, the trail has every sync of the last day that is still believed, then one a day."""
    state, now = ArchiveState(), NOW
    expected: list[int] = []
    for step in steps:
        now = max(now + step, NOW)
        run_sync(state, now)
        expected = [*(one for one in expected if one <= now), now]
        kept: list[int] = []
        for one in expected:
            if one > now - MINUTES_PER_DAY or not kept or one - kept[-1] >= MINUTES_PER_DAY:
                kept.append(one)
        expected = kept
        assert list(state.trail) == expected


def test_a_sync_of_many_targets_states_little() -> None:
    """The commit of a quiet sync of 2,000 targets with one denied is as small as that of a few targets."""
    state = ArchiveState()
    listed = list_compartments(500)
    regions = (HOME, "us-ashburn-1", "uk-london-1", "eu-zurich-1")
    service = Service(denied={HERE})
    run_sync(state, NOW, start=NOW - DAY, regions=regions, compartments=listed, refuse=service.answer)
    commit = run_sync(state, NOW + 60, regions=regions, compartments=listed, refuse=service.answer)
    assert len(state.targets) == 2_000
    assert [len(one.targets or ()) for one in commit.answered] == [1, 0]
    assert len({id(one) for one in state.targets.values()}) == 2
