from pathlib import Path

import click
import pytest

from ociaudit import api
from ociaudit.archive.state import Day, Totals
from ociaudit.cli.app import run_command_line
from ociaudit.cli.archive_commands import _describe_late, _describe_rescan, _list_rings, draw_calendar

DAYS = (
    Day("2026-01-30", 4, None),
    Day("2026-01-31", 10, "final"),
    Day("2026-02-01", 0, "final"),
    Day("2026-02-02", 5, "gap"),
    Day("2026-02-03", 0, "lost"),
    Day("2026-02-28", 1_200, "provisional"),
    Day("unknown", 2, None),
)


def test_the_calendar_has_a_line_for_each_month_and_a_character_for_each_day() -> None:
    """The worst of a day is its character, in the column of its date; events without a date have their own line."""
    legend, january, february, unknown = draw_calendar(DAYS, has_color=False)
    assert "~ provisional" in legend
    assert january == "  2026-01   " + " " * 29 + "+#" + "        14 events".rjust(17)
    assert february == "  2026-02   .!x" + " " * 24 + "~   " + "     1,205 events".rjust(17)
    assert unknown.split() == ["no", "date", "2", "events"]
    assert all(len(line) <= 80 for line in (legend, january, february, unknown))


def test_colors_change_nothing_but_the_color() -> None:
    """Without its escape sequences, the colored calendar is the plain one."""
    colored = list(draw_calendar(DAYS, has_color=True))
    assert "\x1b" in colored[1]
    assert [click.unstyle(line) for line in colored] == list(draw_calendar(DAYS, has_color=False))


def test_an_archive_without_days_has_no_calendar() -> None:
    """No day, no line."""
    assert list(draw_calendar((), has_color=False)) == []


def test_rings_are_shown_as_they_are_typed() -> None:
    """Minutes, hours and days, the largest unit that fits."""
    assert _list_rings((45, 120, 1560, 10_080)) == "45m, 2h, 26h, 7d"
    assert _list_rings(()) == "none"


def test_a_rescan_is_that_of_the_widest_ring() -> None:
    """The widest ring that is due includes the others, and is the one that is shown."""
    assert _describe_rescan((120, 1560)) == "of the last 26h"
    assert _describe_rescan(()) == "not due"


def test_metrics_are_written_after_a_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync that ends with exit 1, because of a bug, leaves metrics that say so."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(api, "run_sync", fail)
    path = tmp_path / "sync.prom"
    command = ["sync", str(tmp_path / "archive"), "--quiet", "--metrics-file", str(path)]
    assert run_command_line(command) == 1
    assert "oci_audit_last_attempt_exit_code 1\n" in path.read_text()


def test_late_events_say_how_late_at_least() -> None:
    """Median and worst have units that suit them, and events after the last ring are counted."""
    totals = Totals(late=3, late_after_final=1, late_worst_minutes=2880, late_medians={41: 3})
    expected = "3 events came at least 41 min late (median), the worst 2.0 days; 1 after the minute was final"
    assert _describe_late(totals) == expected
