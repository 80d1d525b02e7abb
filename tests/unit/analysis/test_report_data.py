import re

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis.report_data import STATES, map_coverage
from ociaudit.planning.shard import Coverage, Window, format_minute
from ociaudit.storage.manifest import (
    CoveredTarget,
    EventTimes,
    FileEntry,
    GapEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Scope,
    Tool,
    Totals,
)
from ociaudit.storage.run_dir import ExportArguments

DAY = 1_440
FIRST = 20_000 * DAY + 600


def make_manifest(minutes: int, covered, *, gaps=(), waived=(), provisional=()) -> Manifest:
    """Make a manifest of one target; windows are (start, end) in minutes of the range, gaps also have a kind."""

    def show(minute: int) -> str:
        return format_minute(FIRST + minute)

    def list_gaps(windows) -> tuple[GapEntry, ...]:
        return tuple(GapEntry("r", "c", show(start), show(end), kind, "why", None) for start, end, kind in windows)

    return Manifest(
        complete=not gaps,
        tool=Tool("t", "0"),
        arguments=ExportArguments(start="", end="", profile=""),
        asked_by=Principal("t", "p", None),
        range=Range(show(0), show(minutes)),
        event_times=EventTimes(None, None, 0, 0),
        scope=Scope((), (), (), (), (), None, reaches_beyond_retention=False),
        totals=Totals(0, 0, 0, 0, 0, 0, 0, 0, 0),
        conflicting_ids=(),
        coverage=(CoveredTarget("r", "c", tuple((show(start), show(end)) for start, end in covered)),),
        gaps=list_gaps(gaps),
        waived_gaps=list_gaps(waived),
        provisional=tuple(ProvisionalEntry("r", "c", show(start), show(end), "") for start, end in provisional),
        output=FileEntry("", 0, ""),
        ledger=FileEntry("", 0, ""),
        clock_skew_seconds=None,
        started_at="",
        finished_at="",
    )


def expand(pattern: str) -> str:
    """Return the letter of the state of each bin."""
    return "".join(letter * int(length) for letter, length in re.findall(r"([a-z])(\d+)", pattern))


def map_states(manifest: Manifest) -> str:
    """Return the states of the one target."""
    coverage = map_coverage(manifest, {})
    assert len(coverage.rows) == 1
    return expand(coverage.patterns[coverage.rows[0][2]])


def test_a_minute_colors_its_day() -> None:
    """A state of one minute shows in the day that contains it and in no other, if it is the worst of that day."""
    minutes = 5 * DAY
    whole = [(0, minutes)]
    hole = [(0, 3 * DAY), (3 * DAY + 1, minutes)]
    assert map_states(make_manifest(minutes, whole)) == "cccccc"
    assert map_states(make_manifest(minutes, hole)) == "cccncc"
    assert map_states(make_manifest(minutes, hole, gaps=[(3 * DAY, 3 * DAY + 1, "failed")])) == "cccxcc"
    assert map_states(make_manifest(minutes, hole, gaps=[(3 * DAY, 3 * DAY + 1, "denied")])) == "cccdcc"
    assert map_states(make_manifest(minutes, hole, waived=[(3 * DAY, 3 * DAY + 1, "denied")])) == "cccwcc"
    assert map_states(make_manifest(minutes, whole, provisional=[(minutes - 15, minutes)])) == "cccccp"
    assert map_states(make_manifest(minutes, [], gaps=[(0, minutes, "denied")])) == "dddddd"


SPANS = st.tuples(st.integers(0, 3_999), st.integers(1, 900)).map(lambda span: (span[0], min(4_000, sum(span))))


@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=3), st.lists(SPANS, max_size=3))
def test_a_bin_shows_the_worst_of_its_minutes(covered, failed, provisional) -> None:
    """The map is the same as one computed minute by minute: nothing missing is ever shown as covered."""
    manifest = make_manifest(
        4_000, covered, gaps=[(start, end, "failed") for start, end in failed], provisional=provisional
    )
    union = Coverage(Window(start, end) for start, end in [*covered, *failed, *provisional])
    days: dict[int, int] = {}
    for minute in range(4_000):
        level = 0 if not union.find_missing(Window(minute, minute + 1)) else STATES.index("not requested")
        if any(start <= minute < end for start, end in provisional):
            level = max(level, STATES.index("provisional"))
        if any(start <= minute < end for start, end in failed):
            level = STATES.index("failed")
        day = (FIRST + minute) // DAY
        days[day] = max(days.get(day, 0), level)
    assert map_states(manifest) == "".join("cpwndx"[level] for _, level in sorted(days.items()))


def test_a_long_range_has_wider_columns() -> None:
    """Ten years fit into 400 columns, and a gap of one minute still shows."""
    minutes = 3_650 * DAY
    coverage = map_coverage(make_manifest(minutes, [(0, minutes)], gaps=[(DAY, DAY + 1, "failed")]), {})
    assert coverage.bins <= 400
    assert expand(coverage.patterns[coverage.rows[0][2]]).count("x") == 1
    assert coverage.step % 86_400 == 0


@given(st.integers(1, 2 * DAY))
def test_a_short_range_has_narrow_columns(minutes: int) -> None:
    """A range of up to two days has columns of an hour or less: one minute is not drawn as a day."""
    coverage = map_coverage(make_manifest(minutes, [(0, minutes)]), {})
    assert coverage.bins <= 400
    assert coverage.step <= 3_600
    assert coverage.step <= max(60, minutes * 60 / 20)


def test_the_map_knows_where_the_range_begins_and_ends() -> None:
    """The first and the last column are drawn as far as the range reaches: a part of today is not a whole day."""
    minutes = 5 * DAY + 37
    coverage = map_coverage(make_manifest(minutes, [(0, minutes)]), {})
    assert (coverage.range_start, coverage.range_end) == (FIRST * 60, (FIRST + minutes) * 60)
    assert coverage.start < coverage.range_start
    assert coverage.start + coverage.bins * coverage.step > coverage.range_end
