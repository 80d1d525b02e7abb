import re
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.events.fields import (
    NANOSECONDS,
    UNREADABLE_INSTANT,
    format_instant,
    instant_of_minute,
    read_instant,
    read_loose_fields,
    replace_surrogates,
)

ORDINAL_ZERO = datetime(1, 1, 1, tzinfo=UTC) - datetime.resolution * 0
DAY = 86_400 * NANOSECONDS
naive_times = st.datetimes(min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29))  # noqa: DTZ001 - hypothesis wants them naive
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


def count_nanoseconds(moment: datetime) -> Fraction:
    """Count from the day before 0001-01-01, by exact arithmetic of the standard library."""
    return Fraction((moment - ORDINAL_ZERO) // timedelta(microseconds=1)) * 1000 + DAY


@given(naive_times, st.text("0123456789", max_size=12), offsets, st.sampled_from("Tt "), st.booleans())
def test_an_instant_is_exact_to_the_nanosecond(
    time: datetime, digits: str, offset: int, letter: str, has_colon: bool
) -> None:
    """Any RFC 3339 time is read to the nanosecond, whatever its offset and number of digits."""
    time = time.replace(microsecond=0)
    sign, minutes = "-+"[offset >= 0], abs(offset)
    text = time.isoformat().replace("T", letter) + (f".{digits}" if digits else "")
    text += f"{sign}{minutes // 60:02}{':' if has_colon else ''}{minutes % 60:02}"
    expected = count_nanoseconds(time.replace(tzinfo=UTC) - timedelta(minutes=offset))
    assert read_instant(text) == expected + int((digits + "0" * 9)[:9])


@given(naive_times, st.sampled_from("Zz"))
def test_the_usual_form_is_read_like_any_other(time: datetime, zone: str) -> None:
    """The form with milliseconds and Z, which has a way of its own, gives the instant of the general one."""
    text = time.isoformat(timespec="milliseconds")
    assert read_instant(text + zone) == read_instant(text + "+00:00") > 0


@given(st.text("0123456789-:.TZtz +x", max_size=32) | st.text(max_size=32))
def test_any_text_is_read_or_unreadable(text: str) -> None:
    """No text makes reading fail, and a readable one can be written again as the same instant."""
    instant = read_instant(text)
    if instant != UNREADABLE_INSTANT:
        assert read_instant(format_instant(instant)) == instant


@given(st.data(), naive_times)
def test_a_damaged_time_is_not_guessed(data: st.DataObject, time: datetime) -> None:
    """A letter in the place of a digit or colon makes the usual form unreadable."""
    text = time.isoformat(timespec="milliseconds") + "Z"
    place = data.draw(st.sampled_from([*range(10), *range(11, 23)]))
    assert read_instant(text[:place] + "X" + text[place + 1 :]) == UNREADABLE_INSTANT


@given(st.integers(DAY, 3_652_060 * DAY - 1))
def test_writing_an_instant_and_reading_it_gives_it_back(instant: int) -> None:
    """Every instant of the years 1 to 9999 survives the way through text, with 0, 3, 6 or 9 digits."""
    text = format_instant(instant)
    assert read_instant(text) == instant
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3}|\.\d{6}|\.\d{9})?Z", text)


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "2025-12-01",
        "2025-12-01T08:00Z",
        "2025-12-01T24:00:00.000Z",
        "2025-12-01T08:60:00.000Z",
        "2025-12-01T08:00:61.000Z",
        "2025-02-29T08:00:00.000Z",
        "2025-13-01T08:00:00.000Z",
        "0000-01-01T00:00:00.000Z",
        "2025-12-01T08:00x59.123Z",
        "2025-12-01T08:00:00+24:00",
        "2025-12-01T08:00:00+01:60",
        "٢٠٢٥-12-01T08:00:00.000Z",
        "2025-12-01T08:00:²0.000Z",
        " 2025-12-01T08:00:00.000Z",
        "2025-12-01T08:00:00.000Z\n",
        "9999-12-31T23:59:59.999-00:01",
        "9999-12-31T23:59:60Z",
        "0001-01-01T00:00:00+00:01",
        "\ud800",
    ],
)
def test_what_is_no_time_is_unreadable(text: str | None) -> None:
    """A missing, impossible, damaged or unwritable time is unreadable, and sorts first."""
    assert read_instant(text) == UNREADABLE_INSTANT < read_instant("0001-01-01T00:00:00Z")


def test_a_leap_second_is_the_next_minute() -> None:
    """Second 60 counts as the first of the minute behind it."""
    assert read_instant("2016-12-31T23:59:60Z") == read_instant("2017-01-01T00:00:00Z")
    assert read_instant("2016-12-31T23:59:60.500Z") == read_instant("2017-01-01T00:00:00.5Z")


@given(st.integers(-1_000_000_000, 4_000_000_000))
def test_a_minute_begins_at_its_instant(minute: int) -> None:
    """Minutes since 1970 and instants are two names of the same moment."""
    moment = datetime(1970, 1, 1, tzinfo=UTC)
    if -1_035_000_000 < minute < 4_000_000_000:
        assert instant_of_minute(minute) == count_nanoseconds(moment + timedelta(minutes=minute))


@given(
    st.dictionaries(st.sampled_from(["eventTime", "eventId", "eventType", "data"]), st.from_type(object), max_size=4)
)
def test_a_field_of_another_type_counts_as_absent(event: dict[str, object]) -> None:
    """Reading never fails, whatever stands in the fields."""
    fields = read_loose_fields(event)
    assert fields.event_id is None or isinstance(fields.event_id, str)
    assert fields.data is not None


@given(st.text(st.characters(categories=["L", "Cs", "Nd"])))
def test_names_can_be_written_after_surrogates_are_replaced(text: str) -> None:
    """Text with lone surrogates becomes text that UTF-8 can hold; other text stays."""
    clean = replace_surrogates(text)
    clean.encode()
    if not any("\ud800" <= char <= "\udfff" for char in text):
        assert clean == text
