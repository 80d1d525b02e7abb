"""Times and durations as typed, against references that share no code with the parser."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction

import pytest
import pytz
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ociaudit.errors import UsageError
from ociaudit.planning.shard import floor_minute
from ociaudit.planning.time_range import (
    TypedTime,
    is_relative,
    parse_date,
    parse_duration,
    parse_time,
    pin_instant,
    pin_time,
)

NOW = datetime(2026, 11, 29, 0, 20, 30, tzinfo=UTC)  # a Sunday, the last day of ISO week 48
EPOCH = date(1970, 1, 1)
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/St_Johns", "UTC"]
days = st.dates(date(1970, 1, 1), date(2099, 12, 30))
seconds = st.integers(0, 4_000_000_000)


def parse(text: str, *, now: datetime = NOW) -> TypedTime:
    """Return what a text means."""
    return parse_time(text, now=now)


def minute_of(day: date) -> int:
    """Return the minutes from 1970 to midnight UTC of a day."""
    return (day - EPOCH).days * 1440


DAY_FORMS: dict[str, Callable[[date], str]] = {
    "dashes": lambda day: f"{day.year:04}-{day.month:02}-{day.day:02}",
    "digits": lambda day: f"{day.year:04}{day.month:02}{day.day:02}",
    "slashes": lambda day: f"{day.year:04}/{day.month:02}/{day.day:02}",
    "dots": lambda day: f"{day.day:02}.{day.month:02}.{day.year:04}",
}


@given(days, st.sampled_from(sorted(DAY_FORMS)))
def test_a_day_is_its_24_hours_in_every_form(day: date, form: str) -> None:
    """A date in any form means that day in UTC, from its first minute to its last."""
    text = DAY_FORMS[form](day)
    assert parse(text) == TypedTime(minute_of(day), minute_of(day) + 1440)
    assert parse(f"  {text} ") == parse(text)


@given(st.dates(date(1969, 1, 1), date(2068, 12, 30)))
def test_a_short_year_is_near(day: date) -> None:
    """`20.11.26` is a day of 2026; years of two digits are between 1969 and 2068."""
    assert parse(day.strftime("%d.%m.%y")) == parse(day.isoformat())


@given(days)
def test_a_month_is_its_days(day: date) -> None:
    """`2026-11` means from the first day of the month to its last."""
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    assert parse(day.isoformat()[:7]) == TypedTime(minute_of(first), minute_of(following))


@given(days, st.sampled_from(["%G-W%V", "%GW%V", "%G-w%V"]))
@example(date(2026, 12, 31), "%G-W%V")
@example(date(2027, 1, 3), "%G-W%V")
def test_a_week_is_that_of_iso_8601(day: date, directive: str) -> None:
    """`2026-W47` means seven days from Monday, in the year that ISO 8601 counts the week to."""
    monday = day - timedelta(days=day.weekday())
    assert parse(day.strftime(directive)) == TypedTime(minute_of(monday), minute_of(monday) + 7 * 1440)


@given(st.datetimes(datetime(2000, 1, 1), datetime(2099, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_words_mean_periods_of_the_present(now: datetime) -> None:
    """Words mean days, ISO weeks and months of UTC, and are kept as the period that they mean now."""
    today = now.date()
    monday = today - timedelta(days=today.weekday())
    first = today.replace(day=1)
    expected = {
        "today": (today, today),
        "Yesterday": (today - timedelta(days=1),) * 2,
        "this week": (monday, monday + timedelta(days=6)),
        " LAST  week ": (monday - timedelta(days=7), monday - timedelta(days=1)),
        "last month": ((first - timedelta(days=1)).replace(day=1), first - timedelta(days=1)),
    }
    for word, (start, last) in expected.items():
        assert parse(word, now=now) == TypedTime(minute_of(start), minute_of(last) + 1440)
        later = now + timedelta(days=40)
        assert parse(pin_time(word, now=now), now=later) == parse(word, now=now)
        assert not is_relative(word)


def test_only_words_of_the_calendar_are_pinned() -> None:
    """Every other text is kept as typed."""
    assert pin_time("yesterday", now=NOW) == "2026-11-28"
    assert pin_time("last week", now=NOW) == "2026-W47"
    for text in ("7d", "now", " 2026-11-20", "20261120", "nonsense"):
        assert pin_time(text, now=NOW) == text


counts = st.tuples(*[st.none() | st.integers(0, 60)] * 4).filter(lambda parts: any(part is not None for part in parts))


def write_span(parts: tuple[int | None, ...], form: str) -> str:
    """Return weeks, days, hours and minutes as a text of a form."""
    units = {"short": "wdhm", "long": (" weeks ", " days ", " hours ", " minutes ")}
    if form == "iso":
        half = [f"{part}{unit}" for part, unit in zip(parts, "WDHM", strict=True) if part is not None]
        date_part = [one for one in half if one[-1] in "WD"]
        time_part = [one for one in half if one[-1] in "HM"]
        return "P" + "".join(date_part) + ("T" + "".join(time_part) if time_part else "")
    return "".join(f"{part}{unit}" for part, unit in zip(parts, units[form], strict=True) if part is not None)


@given(counts, st.sampled_from(["short", "long", "iso"]), st.sampled_from(["", " ago"]))
@example((1, None, None, None), "short", "")
@example((None, 2, 12, None), "short", "")
@example((None, 7, None, None), "iso", "")
@example((None, None, 24, None), "short", " ago")
def test_an_age_is_the_sum_of_its_parts(parts: tuple[int | None, ...], form: str, suffix: str) -> None:
    """An age means that many minutes before the current one, in every form; a duration that many minutes."""
    minutes = sum((part or 0) * factor for part, factor in zip(parts, (10080, 1440, 60, 1), strict=True))
    text = write_span(parts, form)
    expected = floor_minute(NOW - timedelta(minutes=minutes))
    assert parse(text + suffix) == TypedTime(expected, expected, is_relative=True)
    assert is_relative(text + suffix)
    assert parse_duration(text) == minutes


@given(st.integers(1_000_000_000, 9_999_999_999), st.integers(0, 999))
def test_digits_are_seconds_or_milliseconds(second: int, thousandth: int) -> None:
    """Ten digits are seconds since 1970 and thirteen are milliseconds; both are rounded outward."""
    assert parse(str(second)) == TypedTime(second // 60, -(-second // 60))
    exact = second + Fraction(thousandth, 1000)
    assert parse(f"{second}{thousandth:03}") == TypedTime(exact // 60, -(-exact // 60))


@given(seconds, st.sampled_from(sorted(DAY_FORMS)), st.integers(-839, 839), st.sampled_from(["T", " ", "t"]))
def test_a_time_with_an_offset_is_its_instant(second: int, form: str, offset: int, separator: str) -> None:
    """A date in any form, a time with or without seconds, and an offset mean one instant, rounded outward."""
    local = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=second, minutes=offset)
    zone = f"{'-' if offset < 0 else '+'}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    for clock, exact in (
        (local.strftime("%H:%M:%S"), second),
        (local.strftime("%H:%M"), second - second % 60),
        (local.strftime("%H%M%S"), second),
        (local.strftime("%H:%M:%S,5"), Fraction(2 * second + 1, 2)),
    ):
        for written in (zone, zone.replace(":", ""), f" {zone}"):
            found = parse(DAY_FORMS[form](local.date()) + separator + clock + written)
            assert (found.as_start, found.as_end) == (exact // 60, -(-exact // 60))


@given(st.datetimes(datetime(1971, 1, 1), datetime(2036, 1, 1)), st.sampled_from(ZONES))  # noqa: DTZ001
@example(datetime(2026, 10, 25, 2, 30), "Europe/Berlin")  # noqa: DTZ001
@example(datetime(2026, 3, 29, 2, 30), "Europe/Berlin")  # noqa: DTZ001
@example(datetime(2026, 4, 5, 1, 45), "Australia/Lord_Howe")  # noqa: DTZ001
@example(datetime(2026, 3, 8, 2, 0), "America/New_York")  # noqa: DTZ001
@example(datetime(2026, 3, 8, 3, 0), "America/New_York")  # noqa: DTZ001
@example(datetime(2026, 11, 1, 1, 59), "America/New_York")  # noqa: DTZ001
def test_a_time_in_a_zone_is_its_instant_or_is_rejected_with_both_offsets(local: datetime, zone: str) -> None:
    """A local time means what pytz says; one that clocks show twice or never is rejected with both offsets."""
    local = local.replace(second=0, microsecond=0)
    text = f"{local:%Y-%m-%d %H:%M} {zone}"
    reference = pytz.timezone(zone)
    try:
        expected = floor_minute(reference.localize(local, is_dst=None).astimezone(UTC))
    except pytz.InvalidTimeError:
        both = {reference.localize(local, is_dst=flag).strftime("%z") for flag in (False, True)}
        with pytest.raises(UsageError) as caught:
            parse(text)
        offered = re.findall(r"\d\d-\d\dT[\d:]+([+-]\d\d):(\d\d)", caught.value.hint)
        assert {"".join(one) for one in offered} == both
        for one in re.findall(r"\S+T\S+", caught.value.hint):
            assert parse(one)
        return
    assert parse(text) == parse(text.lower()) == TypedTime(expected, expected)


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("12/01/2025", "can mean 2025-01-12 or 2025-12-01", "write 2025-01-12 or 2025-12-01"),
        ("12-01-2025", "can mean 2025-01-12 or 2025-12-01", "write 2025-01-12 or 2025-12-01"),
        ("12/01/2025 08:00 Z", "can mean 2025-01-12 or 2025-12-01", "write 2025-01-12"),
        ("1/2/25", "can mean 2001-02-25 or 2025-01-02 or 2025-02-01", "write 2001-02-25"),
        ("25/12/2025", "not in a known format", "write 2025-12-25"),
        ("202611", "not in a known format", "8 digits are a date"),
        ("176362560", "not in a known format", "13 are milliseconds"),
        ("20112026", "the date '20112026' does not exist", "8 digits are a date"),
        ("P1M", "not in a known format", "no fixed length"),
        ("1 month ago", "not in a known format", "no fixed length"),
        ("1y", "not in a known format", "no fixed length"),
        ("PT30S", "not in a known format", "PT90M"),
        ("yesterdy", "not in a known format", "did you mean yesterday?"),
        ("last wek", "not in a known format", "did you mean last week?"),
        ("2025-W53", "does not exist", "2025-W49"),
        ("2026-13", "does not exist", "2025-12"),
        ("2026-11-20 08:00", "has no UTC offset", "Europe/Berlin"),
        ("2026-11-20 08:00 CET", "ambiguous form", "Europe/Berlin"),
        ("2026-11-20 08:00 EST", "ambiguous form", "full name"),
        ("2026-11-20 08:00 pm", "ambiguous form", "full name"),
        ("2026-11-20 08:00 GMT+1", "ambiguous form", "+01:00"),
        ("2026-11-20 08:00 Etc/GMT+5", "ambiguous form", "+01:00"),
        ("2026-11-20 08:00 Europe/Berln", "unknown zone", "did you mean Europe/Berlin?"),
        ("2026-11-20 08:00 right/UTC", "unknown zone", "full name"),
        ("2026-11-20T24:00Z", "does not exist", "2025-12-01"),
        ("2026-11-20T08:00+24:00", "does not exist", "2025-12-01"),
        ("2026-11-20T08:00+01:60", "does not exist", "2025-12-01"),
    ],
)
def test_what_cannot_be_read_is_explained(text: str, words: str, hint: str) -> None:
    """Each unreadable or ambiguous text says why and shows what to write."""
    with pytest.raises(UsageError, match=re.escape(words)) as caught:
        parse(text)
    assert hint in caught.value.hint


# How people write dates; dots are day first wherever they are used. Years of two digits are as in POSIX.
READINGS = [
    *("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y", "%d.%m.%y", "%Y%m%d", "%d%m%Y", "%m%d%Y"),
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d/%m/%y", "%m/%d/%y", "%y/%m/%d", "%y-%m-%d", "%d-%m-%y"),
    *("%y%m%d", "%d%m%y", "%m%d%y"),
]


def list_readings(text: str) -> set[date]:
    """Return the days of 1970 to 2099 that a text can mean to somebody."""
    found: set[date] = set()
    for directive in READINGS:
        try:
            day = datetime.strptime(text, directive).replace(tzinfo=UTC).date()
        except ValueError:
            continue
        if 1970 <= day.year <= 2099:
            found.add(day)
    return found


@given(days, st.sampled_from(READINGS))
@example(date(2025, 1, 12), "%m/%d/%Y")
@example(date(2012, 10, 11), "%d%m%Y")
def test_no_ambiguous_date_is_accepted(day: date, directive: str) -> None:
    """A date that people read in two ways is rejected, and an accepted one is the only reading."""
    assume("%y" not in directive or 1969 <= day.year <= 2068)
    text = day.strftime(directive)
    try:
        found = parse(text)
    except UsageError:
        return
    assert {minute_of(reading) for reading in list_readings(text)} == {found.as_start}


@given(st.text("0123456789-:./TWZdhmwP +nowag", max_size=26) | st.text(max_size=12))
def test_any_text_is_a_time_or_a_usage_error(text: str) -> None:
    """Any text is a time whose end is not before its start, or a usage error."""
    try:
        found = parse(text)
    except UsageError:
        return
    assert found.as_start <= found.as_end
    assert found.is_relative == is_relative(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("now", True), (" NOW", True), ("7d", True), ("24h ago", True), ("2025-12-01", False), ("7", False)],
)
def test_only_ages_and_now_are_relative(text: str, expected: bool) -> None:
    """A typed time is relative if it means something else in a minute."""
    assert is_relative(text) == expected


def test_a_date_is_parsed_strictly() -> None:
    """The scripts' dates have two forms; a text in another one is not a date, and the day must exist."""
    assert parse_date("2025-12-01") == parse_date("01.12.25") == datetime(2025, 12, 1, tzinfo=UTC)
    for text in ("2025-12-01 ", "20251201", "2025/12/01", "01.12.2025", "yesterday"):
        assert parse_date(text) is None
    with pytest.raises(UsageError):
        parse_date("2025-00-01")


@pytest.mark.parametrize(
    ("text", "minutes"),
    [
        *(("15m", 15), ("1h", 60), ("2d", 2880), (" 90 M ", 90), ("0m", 0), ("3660d", 3660 * 1440)),
        *(("1h30m", 90), ("15min", 15), ("1w", 10080), ("P7D", 10080), ("PT15M", 15)),
    ],
)
def test_a_duration_is_whole_minutes(text: str, minutes: int) -> None:
    """Weeks, days, hours and minutes become whole minutes."""
    assert parse_duration(text) == minutes


@pytest.mark.parametrize(
    "text", ["", "90s", "m", "-5m", "1.5h", "15", "٣m", "999999999d", "3661d", "now", "1h ago", "30m1h", "P1M", "week"]
)
def test_a_duration_in_another_format_is_rejected(text: str) -> None:
    """Seconds, fractions, signs and excessive durations are usage errors whose hint shows valid ones."""
    with pytest.raises(UsageError) as caught:
        parse_duration(text, option="--every")
    assert str(caught.value).startswith("--every: the duration ")
    assert "15m, 1h, 2d" in caught.value.hint
    assert "window" not in caught.value.hint


PINNED = {
    "2025-12-01": "2025-12-01",
    "01.12.25": "2025-12-01",
    "20251201": "2025-12-01",
    "Yesterday": "2026-11-28",
    "last week": "2026-11-16",
    "2026-W01": "2025-12-29",
    "2026-11": "2026-11-01",
    "2025-12-01 09:00 Europe/Berlin": "2025-12-01T08:00:00Z",
    "2025-12-01T08:00+01:00": "2025-12-01T07:00:00Z",
    "2025-12-01t08:00:30.000000001z": "2025-12-01T08:00:30.000000001Z",
    "2025-12-01 08:00:30,25Z": "2025-12-01T08:00:30.25Z",
    "1764576030": "2025-12-01T08:00:30Z",
    "1764576030007": "2025-12-01T08:00:30.007Z",
}


@pytest.mark.parametrize("text", PINNED)
def test_an_instant_keeps_its_seconds_and_a_period_means_its_first(text: str) -> None:
    """A typed bound of event times is pinned to a date or an RFC 3339 time that means the same minute as a start."""
    assert pin_instant(text, now=NOW) == PINNED[text]
    assert parse(PINNED[text]).as_start == parse(text).as_start


@pytest.mark.parametrize("text", ["7d", "now", "24h ago", "P1W", "12/01/2025", "", "2025-12-01T08:00", "soon"])
def test_an_instant_is_no_age(text: str) -> None:
    """An age, and what cannot be read as a time, is a usage error that names the text and has a hint."""
    with pytest.raises(UsageError, match=re.escape(repr(text))) as caught:
        pin_instant(text, now=NOW)
    assert caught.value.hint
