from hypothesis import given
from hypothesis import strategies as st

from ociaudit.planning.planner import FetchState, plan_shards
from ociaudit.planning.shard import Coverage, PageCursor, Shard, Target, Window
from support.drawn_shards import HERE, THERE

TARGETS = (HERE, THERE)
RANGE = Window(10, 50)
windows = st.builds(lambda start, length: Window(start, start + length), st.integers(0, 55), st.integers(1, 15))
coverages = st.dictionaries(st.sampled_from(TARGETS), st.lists(windows, max_size=4).map(Coverage))
begun_shards = st.dictionaries(
    st.builds(Shard, st.sampled_from(TARGETS), windows),
    st.builds(PageCursor, st.integers(0, 2), st.integers(1, 9), st.just("token")),
    max_size=4,
)


def list_minutes(window: Window) -> set[int]:
    """Return every minute of a window."""
    return set(range(window.start, window.end))


@given(coverages, begun_shards, st.integers(1, 20), st.integers(0, 60))
def test_a_plan_is_exactly_what_is_missing(
    covered: dict[Target, Coverage], begun: dict[Shard, PageCursor], max_minutes: int, settled_until: int
) -> None:
    """In every target, shards and coverage make up the range without overlap, in shards of limited length."""
    plan = list(
        plan_shards(
            TARGETS, RANGE, max_minutes=max_minutes, settled_until=settled_until, progress=FetchState(covered, begun)
        )
    )
    for target in TARGETS:
        known = {m for w in covered.get(target, Coverage()).windows for m in list_minutes(w)}
        planned = [minute for shard, _ in plan if shard.target == target for minute in list_minutes(shard.window)]
        assert len(planned) == len(set(planned))
        assert set(planned) == list_minutes(RANGE) - known
    for shard, cursor in plan:
        if cursor is None:
            assert shard.window.minutes <= max_minutes
            assert not shard.window.start < settled_until < shard.window.end
        else:
            assert begun[shard] == cursor


@given(windows, st.integers(1, 20))
def test_a_started_shard_continues_if_it_can(window: Window, max_minutes: int) -> None:
    """A started shard within the range continues from its page cursor, whatever the window size is now."""
    shard, cursor = Shard(HERE, window), PageCursor(0, 3, "token")
    plan = list(
        plan_shards(
            [HERE], RANGE, max_minutes=max_minutes, settled_until=60, progress=FetchState(begun={shard: cursor})
        )
    )
    is_within = RANGE.start <= window.start and window.end <= RANGE.end
    assert ((shard, cursor) in plan) == is_within


def test_planning_does_not_change_what_is_known() -> None:
    """Planning leaves the given coverage unchanged."""
    known = Coverage([Window(20, 30)])
    begun = {Shard(HERE, Window(30, 40)): PageCursor(0, 1, "token")}
    list(plan_shards([HERE], RANGE, max_minutes=7, settled_until=60, progress=FetchState({HERE: known}, begun)))
    assert known.windows == (Window(20, 30),)


def test_a_plan_is_lazy() -> None:
    """The first of ten million shards is available before the others are made."""
    shards = plan_shards([HERE], Window(0, 10_000_000), max_minutes=1, settled_until=0)
    assert next(shards) == (Shard(HERE, Window(0, 1)), None)
