"""Planned windows have no hole and no overlap, for every form of start and end that a user can type."""

import itertools
from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.planning.planner import plan_shards
from ociaudit.planning.time_range import resolve_range
from support.drawn_shards import HERE

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
nows = st.datetimes(datetime(2024, 1, 1), datetime(2026, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001 - hypothesis wants them naive
day_formats = st.sampled_from(["%Y-%m-%d", "%d.%m.%y"])


@st.composite
def draw_moment(draw: st.DrawFn, now: datetime) -> tuple[str, datetime, datetime]:
    """Draw a time as a user types it; return it with the first moment of it and the first one after it."""
    back = timedelta(minutes=draw(st.integers(2, 200_000)))
    match draw(st.sampled_from(["day", "time", "age"])):
        case "day":
            day = (now - back).replace(hour=0, minute=0, second=0, microsecond=0)
            return day.strftime(draw(day_formats)), day, day + timedelta(days=1)
        case "time":
            moment = (now - back).replace(microsecond=0)
            offset = timedelta(minutes=draw(st.integers(-720, 840)))
            local = (moment + offset).replace(tzinfo=None).isoformat()
            sign, minutes = ("-" if offset < timedelta(0) else "+"), abs(offset) // timedelta(minutes=1)
            return f"{local}{sign}{minutes // 60:02}:{minutes % 60:02}", moment, moment
        case _:
            return f"{back // timedelta(minutes=1)}m", now - back, now - back


@given(st.data(), nows, st.integers(1, 20_000), st.integers(0, 30))
def test_the_windows_cover_the_typed_range(data: st.DataObject, now: datetime, max_minutes: int, settle: int) -> None:
    """Every moment between start and end is in exactly one window, leap days included."""
    start, first, _ = data.draw(draw_moment(now))
    end, _, after = data.draw(draw_moment(now))
    assume(first < after - timedelta(minutes=1))
    try:
        window = resolve_range(start, end, now=now).window
    except UsageError:
        assert first > now - timedelta(minutes=1)
        return
    shards = plan_shards([HERE], window, max_minutes=max_minutes, settled_until=window.end - settle)
    windows = [shard.window for shard, _ in shards]
    assert windows[0].start == window.start
    assert windows[-1].end == window.end
    assert all(left.end == right.start for left, right in itertools.pairwise(windows))
    assert all(0 < each.minutes <= max_minutes for each in windows)
    assert EPOCH + timedelta(minutes=window.start) <= first
    is_age = end.endswith("m")
    last = min(after, now.replace(second=0, microsecond=0))
    assert EPOCH + timedelta(minutes=window.end + is_age) >= last
