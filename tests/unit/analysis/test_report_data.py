import re

from hypothesis import given
from hypothesis import strategies as st

from ociaudit.analysis.report_data import STATES, map_coverage
from ociaudit.planning.window import Coverage, Window, format_minute
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
    """A manifest of one place; windows are (start, end) in minutes of the range, gaps with their kind."""

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


def unfold(pattern: str) -> str:
    """A state's letter per bin."""
    return "".join(letter * int(length) for letter, length in re.findall(r"([a-z])(\d+)", pattern))


def draw(manifest: Manifest) -> str:
    """The states of the one place."""
    drawn = map_coverage(manifest, {})
    assert len(drawn.rows) == 1
    return unfold(drawn.patterns[drawn.rows[0][2]])


def test_a_minute_colours_its_day() -> None:
    """The shortest gap shows in the day that holds it and in no other; so does what was not asked or is provisional."""
    minutes = 5 * DAY
    whole = [(0, minutes)]
    hole = [(0, 3 * DAY), (3 * DAY + 1, minutes)]
    assert draw(make_manifest(minutes, whole)) == "cccccc"
    assert draw(make_manifest(minutes, hole)) == "cccncc"
    assert draw(make_manifest(minutes, hole, gaps=[(3 * DAY, 3 * DAY + 1, "failed")])) == "cccxcc"
    assert draw(make_manifest(minutes, hole, gaps=[(3 * DAY, 3 * DAY + 1, "denied")])) == "cccdcc"
    assert draw(make_manifest(minutes, hole, waived=[(3 * DAY, 3 * DAY + 1, "denied")])) == "cccwcc"
    assert draw(make_manifest(minutes, whole, provisional=[(minutes - 15, minutes)])) == "cccccp"
    assert draw(make_manifest(minutes, [], gaps=[(0, minutes, "denied")])) == "dddddd"


SPANS = st.tuples(st.integers(0, 3_999), st.integers(1, 900)).map(lambda span: (span[0], min(4_000, sum(span))))


@given(st.lists(SPANS, max_size=6), st.lists(SPANS, max_size=3), st.lists(SPANS, max_size=3))
def test_a_bin_shows_the_worst_of_its_minutes(covered, failed, provisional) -> None:
    """Minute by minute, by hand, the picture is the same: nothing that is missing is ever shown as covered."""
    manifest = make_manifest(
        4_000, covered, gaps=[(start, end, "failed") for start, end in failed], provisional=provisional
    )
    union = Coverage(Window(start, end) for start, end in [*covered, *failed, *provisional])
    days: dict[int, int] = {}
    for minute in range(4_000):
        level = 0 if not union.find_missing(Window(minute, minute + 1)) else STATES.index("not asked")
        if any(start <= minute < end for start, end in provisional):
            level = max(level, STATES.index("provisional"))
        if any(start <= minute < end for start, end in failed):
            level = STATES.index("failed")
        day = (FIRST + minute) // DAY
        days[day] = max(days.get(day, 0), level)
    assert draw(manifest) == "".join("cpwndx"[level] for _, level in sorted(days.items()))


def test_a_long_range_has_wider_columns() -> None:
    """Ten years fit into four hundred columns, and a minute still shows."""
    minutes = 3_650 * DAY
    drawn = map_coverage(make_manifest(minutes, [(0, minutes)], gaps=[(DAY, DAY + 1, "failed")]), {})
    assert drawn.bins <= 400
    assert unfold(drawn.patterns[drawn.rows[0][2]]).count("x") == 1
    assert drawn.step % 86_400 == 0
