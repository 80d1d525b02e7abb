from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.planning.shard import Window, floor_minute, format_minute, parse_minute
from ociaudit.planning.time_range import check_placeholders, expand_name, resolve_event_range, resolve_range

NOW = datetime(2025, 12, 10, 12, 34, 56, 789, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FORMATS = ["%Y-%m-%d", "%d.%m.%y"]
days = st.dates(date(1970, 1, 1), date(2025, 12, 9))


def resolve(start: str, end: str = "now") -> str:
    """Return a resolved range as text."""
    return str(resolve_range(start, end, now=NOW).window)


@given(days, days, st.sampled_from(FORMATS), st.sampled_from(FORMATS))
@example(date(2024, 2, 29), date(2024, 2, 29), *FORMATS)
@example(date(2023, 12, 31), date(2024, 1, 1), *FORMATS)
def test_dates_mean_whole_days(first: date, last: date, directive: str, other_directive: str) -> None:
    """A range from date to date holds every minute of both days and of the days between, in either format."""
    assume(first <= last)
    window = resolve_range(first.strftime(directive), last.strftime(other_directive), now=NOW).window
    assert window.start == (first - EPOCH.date()).days * 1440
    assert window.minutes == ((last - first).days + 1) * 1440


moments = st.datetimes(datetime(2000, 1, 1), datetime(2025, 12, 10, 12, 0))  # noqa: DTZ001 - hypothesis wants them naive
fractions = st.text("0123456789", max_size=12)
offsets = st.integers(-1439, 1439)


def write_time(moment: datetime, digits: str, offset: int) -> tuple[str, Fraction]:
    """Return a time with its offset as text, and the exact minute since 1970 that it means."""
    moment = moment.replace(microsecond=0)
    sign, minutes = "-+"[offset >= 0], abs(offset)
    text = moment.isoformat() + (f".{digits}" if digits else "") + f"{sign}{minutes // 60:02}:{minutes % 60:02}"
    seconds = (moment.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1) - offset * 60
    return text, (seconds + Fraction(int(digits or 0), 10 ** len(digits))) / 60


@given(moments, fractions, offsets, moments, fractions, offsets)
@example(datetime(2025, 12, 1), "", 0, datetime(2025, 12, 1, 8), "0000001", 0)  # noqa: DTZ001 - hypothesis wants them naive
def test_rounding_loses_no_instant(
    start: datetime, start_digits: str, start_offset: int, end: datetime, end_digits: str, end_offset: int
) -> None:
    """A start is rounded down and an end up, both by less than a minute, whatever the typed digits."""
    first, exact_first = write_time(start, start_digits, start_offset)
    last, exact_last = write_time(end, end_digits, end_offset)
    assume(exact_last - exact_first > 1)
    window = resolve_range(first, last, now=NOW + timedelta(days=3)).window
    assert 0 <= exact_first - window.start < 1
    assert 0 <= window.end - exact_last < 1


@pytest.mark.parametrize(
    ("typed", "window"),
    [
        (("7d", "now"), "2025-12-03T12:34:00Z .. 2025-12-10T12:34:00Z"),
        (("36H", "90m"), "2025-12-09T00:34:00Z .. 2025-12-10T11:04:00Z"),
        ((" 2 d ", " NOW "), "2025-12-08T12:34:00Z .. 2025-12-10T12:34:00Z"),
        (("2025-12-01T08:00Z", "2025-12-01t09:00:00z"), "2025-12-01T08:00:00Z .. 2025-12-01T09:00:00Z"),
        (("2025-12-01 08:00:00,5+0130", "01.12.25"), "2025-12-01T06:30:00Z .. 2025-12-02T00:00:00Z"),
        (("2024-02-29", "29.02.24"), "2024-02-29T00:00:00Z .. 2024-03-01T00:00:00Z"),
    ],
)
def test_every_format_is_understood(typed: tuple[str, str], window: str) -> None:
    """Dates, times with an offset, ages and `now` are understood in either case and with white space around them."""
    assert resolve(*typed) == window


def test_a_day_on_which_clocks_change_has_24_hours() -> None:
    """Every day has 24 hours, because all times are UTC."""
    for day in ("2025-03-30", "2025-10-26", "2025-03-09", "2025-11-02"):
        assert resolve_range(day, day, now=NOW).window.minutes == 1440


@pytest.mark.parametrize("end", ["now", "2025-12-10", "2030-01-01", "2025-12-10T12:35:00Z", "9998-12-31T23:59:59Z"])
def test_the_end_is_at_most_the_current_minute(end: str) -> None:
    """An end in the future becomes the current minute, with a notice."""
    found = resolve_range("2025-12-09", end, now=NOW)
    assert found.window.end == parse_minute("2025-12-10T12:34:00Z")
    assert bool(found.notices) == (end != "now")


def test_an_end_within_the_current_minute_is_that_minute() -> None:
    """Events between the start of the current minute and now are not fetched, with a notice."""
    assert resolve_range("2025-12-09", "2025-12-10T12:34:10Z", now=NOW).notices


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        (("2025-12-11", "now"), "is in the future"),
        (("now", "now"), "is the current minute, which has not ended"),
        (("0m", "now"), "is the current minute, which has not ended"),
        (("2025-12-09", "2025-12-08"), "is not before"),
        (("2025-12-09T08:00:00Z", "2025-12-09T08:00:00Z"), "is not before"),
        (("1h", "2h"), "is not before"),
        (("2025-02-29", "now"), "the date '2025-02-29' does not exist"),
        (("31.11.25", "now"), "does not exist"),
        (("", "now"), "not in a known format"),
        (("2025-12-01T08:00:00", "now"), "has no UTC offset"),
        (("2025-12-01T08:61:00Z", "now"), "does not exist"),
        (("2025-12-01T08:00:00+24:00", "now"), "does not exist"),
        (("2025-12-1", "now"), "not in a known format"),
        (("1.12.25", "now"), "not in a known format"),
        (("-7d", "now"), "not in a known format"),
        (("٧d", "now"), "not in a known format"),
        (("999999999d", "now"), "does not exist"),
        (("9999999999d", "now"), "not in a known format"),
        (("0001-01-01T00:00:00+01:00", "now"), "does not exist"),
        (("2025-12-01", "9999-12-31"), "is out of range"),
        (("2025-12-01", "9999-12-31T23:59:59Z"), "is out of range"),
        (("2025-12-01", "\ud800"), "not in a known format"),
    ],
)
def test_a_wrong_range_is_explained(typed: tuple[str, str], words: str) -> None:
    """Every invalid range is a usage error that says what is wrong and has a hint."""
    with pytest.raises(UsageError, match=words) as caught:
        resolve_range(*typed, now=NOW)
    assert caught.value.hint


@given(st.text("0123456789-:.TZdhm +now", max_size=26), st.text("0123456789-:.TZdhm +now", max_size=26))
def test_any_text_is_a_range_or_a_usage_error(start: str, end: str) -> None:
    """Any text is a range or a usage error, and a range never reaches beyond the current minute."""
    try:
        found = resolve_range(start, end, now=NOW)
    except UsageError:
        return
    assert found.window.end <= parse_minute("2025-12-10T12:34:00Z")


def test_an_unknown_format_shows_the_known_ones() -> None:
    """The hint shows every known format."""
    with pytest.raises(UsageError) as caught:
        resolve("tomorrow")
    for form in ("2025-12-01", "01.12.25", "2025-12-01T08:00:00Z", "7d", "36h", "90m", "now"):
        assert form in caught.value.hint


@pytest.mark.parametrize(
    ("first", "last", "name"),
    [
        ("2025-12-01", "2025-12-07", "a-2025-12-01-2025-12-07.json"),
        ("2025-12-01", "2025-12-01", "a-2025-12-01-2025-12-01.json"),
        ("2025-12-01T08:00:00Z", "2025-12-01", "a-2025-12-01T0800Z-2025-12-02T0000Z.json"),
    ],
)
def test_a_name_is_filled_in(first: str, last: str, name: str) -> None:
    """Whole days are written as first and last day, other ranges as minutes; nothing else in the name changes."""
    window = resolve_range(first, last, now=NOW).window
    assert expand_name("a-{start}-{end}.json", window) == name
    assert expand_name("{ %s}}.json", window) == "{ %s}}.json"


@pytest.mark.parametrize("name", ["{foo}.json", "{start}{day}.json", "{}.json", "{Start}.json"])
def test_an_unknown_placeholder_is_rejected(name: str) -> None:
    """A file name with any other placeholder is a usage error that lists the known ones."""
    with pytest.raises(UsageError, match="unknown placeholder") as caught:
        check_placeholders(Path(name))
    assert "{start} and {end}" in caught.value.hint


def test_a_folder_has_no_placeholder() -> None:
    """Only a file's name is filled in; a placeholder in its folder is a usage error."""
    check_placeholders(Path("{x}/{start}-{end}.json"))
    with pytest.raises(UsageError, match="has a placeholder"):
        check_placeholders(Path("{start}/audit.json"))


@pytest.mark.parametrize(
    ("start", "end", "settle", "name"),
    [
        ("today", "today", 0, "2025-12-10_2025-12-10T1234Z"),
        ("2025-12-09", "2025-12", 0, "2025-12-09_2025-12-10T1234Z"),
        ("2025-12-09", "2025-12-10T13:00Z", 0, "2025-12-09T0000Z_2025-12-10T1234Z"),
        ("yesterday", "yesterday", 13 * 60, "2025-12-09_2025-12-09T2334Z"),
        ("2025-12-09", "now", 15, "2025-12-09T0000Z_2025-12-10T1219Z"),
    ],
)
def test_a_clipped_range_keeps_the_name_of_its_start(start: str, end: str, settle: int, name: str) -> None:
    """The start of a range that is not over is written as it will be when it is; its end is where it ends now."""
    found = resolve_range(start, end, now=NOW, settle_minutes=settle)
    assert expand_name("{start}_{end}", found.window, typed_end=found.typed_end) == name


@given(st.integers(0, 10_000_000), st.integers(1, 10_000_000))
def test_a_filled_in_name_is_a_valid_file_name(start: int, length: int) -> None:
    """A filled-in name has no colon and no slash, and different ranges have different names."""
    name = expand_name("{start}_{end}", Window(start, start + length))
    assert not set(name) & set(":/ {}")
    assert name != expand_name("{start}_{end}", Window(start, start + length + 1))


@pytest.mark.parametrize(
    ("typed", "window"),
    [
        (("yesterday", "yesterday"), "2025-12-09T00:00:00Z .. 2025-12-10T00:00:00Z"),
        (("last week", "last week"), "2025-12-01T00:00:00Z .. 2025-12-08T00:00:00Z"),
        (("last week", "now"), "2025-12-01T00:00:00Z .. 2025-12-10T12:34:00Z"),
        (("2025-11", "2025-11"), "2025-11-01T00:00:00Z .. 2025-12-01T00:00:00Z"),
        (("2025-11", "2025-W49"), "2025-11-01T00:00:00Z .. 2025-12-08T00:00:00Z"),
        (("today", "today"), "2025-12-10T00:00:00Z .. 2025-12-10T12:34:00Z"),
        (("2025-12-09 08:00 Europe/Berlin", "1765267200"), "2025-12-09T07:00:00Z .. 2025-12-09T08:00:00Z"),
    ],
)
def test_a_period_is_included_as_an_end(typed: tuple[str, str], window: str) -> None:
    """A period starts with its first minute and ends after its last one, or now; the default end stays now."""
    assert resolve(*typed) == window


def test_a_day_that_is_not_over_is_clipped() -> None:
    """`today` as the end means until now, and more of it later; `yesterday` is final."""
    assert resolve_range("yesterday", "today", now=NOW).is_clipped
    assert not resolve_range("yesterday", "yesterday", now=NOW).is_clipped


SETTLE_NOW = datetime(2025, 12, 10, 12, 34, 56, tzinfo=UTC)


@pytest.mark.parametrize(
    ("end", "settled_end", "is_clipped", "notices"),
    [
        ("now", "2025-12-10T12:19:00Z", False, 0),
        ("10m", "2025-12-10T12:19:00Z", False, 0),
        ("1h", "2025-12-10T11:34:00Z", False, 0),
        ("2025-12-09", "2025-12-10T00:00:00Z", False, 0),
        ("2025-12-10", "2025-12-10T12:19:00Z", True, 1),
        ("2025-12-10T12:30:00Z", "2025-12-10T12:19:00Z", True, 1),
        ("2025-12-10T12:19:00Z", "2025-12-10T12:19:00Z", False, 0),
    ],
)
def test_minutes_that_have_not_settled_are_omitted(end: str, settled_end: str, is_clipped: bool, notices: int) -> None:
    """An end that has not settled moves back, with a notice if it is absolute; `now` means the last settled minute."""
    settled = resolve_range("2025-12-01", end, now=SETTLE_NOW, settle_minutes=15)
    assert format_minute(settled.window.end) == settled_end
    assert (settled.is_clipped, len(settled.notices)) == (is_clipped, notices)


def test_a_start_that_has_not_settled_is_rejected() -> None:
    """A range without a settled minute is a usage error that mentions --settle."""
    with pytest.raises(UsageError, match=r"10m.*--settle"):
        resolve_range("10m", "now", now=SETTLE_NOW, settle_minutes=15)


@given(st.integers(0, 5000), st.integers(1, 5000), st.integers(0, 5000))
def test_no_settled_minute_is_lost(settle: int, start_age: int, end_age: int) -> None:
    """The settled range is the whole range clipped at the last settled minute, or an error if nothing remains."""
    start, end = f"{start_age}m", f"{end_age}m"
    if start_age <= end_age or start_age <= settle:
        with pytest.raises(UsageError):
            resolve_range(start, end, now=SETTLE_NOW, settle_minutes=settle)
        return
    whole = resolve_range(start, end, now=SETTLE_NOW).window
    settled = resolve_range(start, end, now=SETTLE_NOW, settle_minutes=settle).window
    assert settled.start == whole.start
    assert settled.end == min(whole.end, floor_minute(SETTLE_NOW) - settle)


@given(days, days, st.integers(0, 60 * 1440))
def test_a_range_of_event_times_includes_late_events(first: date, last: date, late: int) -> None:
    """The typed range stays; the fetched window reaches from its start until `late` after its end, or until now."""
    assume(first <= last)
    named = resolve_range(first.isoformat(), last.isoformat(), now=NOW).window
    found = resolve_event_range(first.isoformat(), last.isoformat(), late=f"{late}m", now=NOW)
    current = parse_minute("2025-12-10T12:34:00Z")
    assert found.event_window == found.named_window == named
    assert found.window == Window(named.start, min(named.end + late, current))
    assert found.is_clipped == (named.end + late > current)
    assert len(found.notices) == 1 + found.is_clipped
    assert str(named) in found.notices[0]


@pytest.mark.parametrize(
    ("typed", "event_window", "end", "is_clipped"),
    [
        (("2025-12-09", "2025-12-10"), "2025-12-09T00:00:00Z .. 2025-12-11T00:00:00Z", "2025-12-10T12:34:00Z", True),
        (("2025-12-09", "now"), "2025-12-09T00:00:00Z .. 2025-12-10T12:34:00Z", "2025-12-10T12:34:00Z", False),
        (("2d", "30m"), "2025-12-08T12:34:00Z .. 2025-12-10T12:04:00Z", "2025-12-10T12:34:00Z", False),
        (("2d", "2h"), "2025-12-08T12:34:00Z .. 2025-12-10T10:34:00Z", "2025-12-10T11:34:00Z", False),
    ],
)
def test_a_range_of_event_times_at_the_present(
    typed: tuple[str, str], event_window: str, end: str, *, is_clipped: bool
) -> None:
    """The range of event times does not depend on now; the fetched window does, and only an absolute end is clipped."""
    found = resolve_event_range(*typed, late="1h", now=NOW)
    assert str(found.event_window) == event_window
    assert str(found.window).endswith(end)
    assert found.is_clipped is is_clipped


def test_the_last_days_of_the_calendar_are_accepted() -> None:
    """A range of event times may end on the last days of the calendar, whatever `late` is."""
    found = resolve_event_range("2025-12-09", "9999-12-30", late="365d", now=NOW)
    assert str(found.window) == "2025-12-09T00:00:00Z .. 2025-12-10T12:34:00Z"
