from __future__ import annotations

import itertools
import re
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.planning.shard import Coverage, Window, floor_minute, format_minute, parse_minute, tile_window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
minutes = st.integers(-1_000_000_000, 4_000_000_000)


@given(st.integers(-10_000, 10_000), st.integers(1, 5_000), st.integers(1, 3_000))
def test_tiles_make_up_the_window(start: int, length: int, max_minutes: int) -> None:
    """Tiles are consecutive, without holes or overlaps, and none is longer than the maximum."""
    tiles = list(tile_window(Window(start, start + length), max_minutes))
    assert [minute for tile in tiles for minute in range(tile.start, tile.end)] == list(range(start, start + length))
    assert all(0 < tile.minutes <= max_minutes for tile in tiles)
    assert len(tiles) == -(-length // max_minutes)


@pytest.mark.parametrize("end", [0, -1])
def test_an_empty_window_is_a_bug(end: int) -> None:
    """A window without a minute can neither be created nor decoded."""
    with pytest.raises(ValueError, match="empty window"):
        Window(0, end)
    with pytest.raises(msgspec.ValidationError, match="empty window"):
        msgspec.json.decode(b"[0,%d]" % end, type=Window)


@given(st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)), st.integers(-1439, 1439))  # noqa: DTZ001 - hypothesis wants them naive
def test_a_minute_contains_its_moments(moment: datetime, offset: int) -> None:
    """A moment lies in its minute, whatever its time zone."""
    aware = moment.replace(tzinfo=timezone(timedelta(minutes=offset)))
    start = EPOCH + timedelta(minutes=floor_minute(aware))
    assert start <= aware < start + timedelta(minutes=1)


@given(minutes.filter(lambda minute: minute > -1_035_500_000))
def test_a_formatted_minute_parses_back(minute: int) -> None:
    """A minute in the API's form has a four-digit year and no fraction, and parses back to the same minute."""
    text = format_minute(minute)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:00Z", text)
    assert parse_minute(text) == minute


def test_a_three_digit_year_is_written_with_four() -> None:
    """The year 999 is written as 0999."""
    assert format_minute(parse_minute("0999-01-01T00:00:00Z")) == "0999-01-01T00:00:00Z"
    assert str(Window(0, 60)) == "1970-01-01T00:00:00Z .. 1970-01-01T01:00:00Z"


windows = st.builds(lambda start, length: Window(start, start + length), st.integers(0, 40), st.integers(1, 12))
several = st.lists(windows, max_size=8)


def list_minutes(some: object) -> set[int]:
    """Return every minute of some windows."""
    return {minute for window in some for minute in range(window.start, window.end)}


@given(several)
def test_a_coverage_is_the_union_of_its_windows(added: list[Window]) -> None:
    """The windows of a coverage hold exactly the minutes added, sorted, disjoint and not adjacent."""
    merged = Coverage(added).windows
    assert list_minutes(merged) == list_minutes(added)
    assert all(left.end < right.start for left, right in itertools.pairwise(merged))


@given(several, st.randoms())
def test_the_order_of_adding_does_not_matter(added: list[Window], random: object) -> None:
    """Windows added in any order, and added twice, give the same coverage."""
    mixed = [*added, *added]
    random.shuffle(mixed)
    assert Coverage(mixed).windows == Coverage(added).windows


@given(several, windows)
def test_missing_and_covered_make_up_the_window(added: list[Window], window: Window) -> None:
    """The missing windows are exactly the minutes that are not covered, in as few windows as possible."""
    missing = Coverage(added).find_missing(window)
    assert list_minutes(missing) == list_minutes([window]) - list_minutes(added)
    assert Coverage(missing).windows == missing


@given(several, windows)
def test_a_removed_window_is_missing(added: list[Window], removed: Window) -> None:
    """Removing a window removes exactly its minutes, and leaves the original coverage unchanged."""
    coverage = Coverage(added)
    assert list_minutes(coverage.without(removed).windows) == list_minutes(added) - list_minutes([removed])
    assert coverage.windows == Coverage(added).windows
