from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.fields import NANOSECONDS, read_instant
from ociaudit.insight.time_bins import EPOCH, SERIES, STEPS_SECONDS, TimeBins

DAY = 86_400
INSTANTS = st.integers(min_value=1, max_value=9_999 * 366 * DAY * NANOSECONDS)


def count(series) -> int:
    """All events of a series."""
    return sum(series.success) + sum(series.failure) + sum(series.unknown) + series.outside


@given(
    st.lists(st.tuples(INSTANTS, st.sampled_from(SERIES)), max_size=300),
    st.integers(-DAY, 40 * 365 * DAY),
    st.integers(1, 400),
)
def test_every_event_is_in_one_bin_or_outside(events, start, days) -> None:
    """Whatever the times are and whatever is shown, the counts add up."""
    bins = TimeBins()
    for number in range(0, len(events), 7):
        instants, outcomes = zip(*events[number : number + 7], strict=True)
        bins.add(instants, outcomes)
    shown = bins.show(start, start + days * DAY)
    assert count(shown) == len(events)
    assert len(shown.success) == len(shown.failure) == len(shown.unknown) <= 402


def test_many_times_are_held_in_few_bins() -> None:
    """An event in each of 200,000 days takes no more than 4,096 bins, and none is lost."""
    bins = TimeBins()
    for day in range(200_000):
        bins.add([EPOCH + day * DAY * NANOSECONDS], [SERIES[day % 3]])
    assert len(bins._bins) <= 4_096
    assert count(bins.show(0, 200_000 * DAY)) == 200_000


def test_steps_divide_each_other() -> None:
    """A wider bin is made of whole narrower ones, so that merging moves no event over a border."""
    assert all(wide % narrow == 0 for narrow, wide in pairwise(STEPS_SECONDS))


def test_bins_are_as_wide_as_the_range_needs() -> None:
    """A day is shown by the quarter of an hour, a week by the hour, a year by the day."""
    bins = TimeBins()
    bins.add([EPOCH], ["success"])
    assert [bins.show(0, days * DAY).step for days in (1, 7, 365)] == [300, 3_600, DAY]


def test_a_few_far_times_do_not_stretch_the_picture() -> None:
    """Without a range of the manifest's own, one event of 1971 among thousands is told and not drawn."""
    bins = TimeBins()
    first = read_instant("2025-12-01T00:00:00.000Z")
    for minute in range(3_000):
        bins.add([first + minute * 60 * NANOSECONDS], ["success"])
    far = [read_instant("1971-01-01T00:00:00.000Z"), 0, read_instant("9999-01-01T00:00:00.000Z")]
    bins.add(far, ["failure"] * 3)
    start, end = bins.find_range()
    shown = bins.show(start, end)
    assert (end - start) < 40 * DAY
    assert shown.outside == 2
    assert TimeBins().find_range() is None
