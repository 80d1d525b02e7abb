from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.cli.console import ProgressBar, format_count, format_duration
from ociaudit.cli.export_command import choose_progress
from ociaudit.cli.json_log import JsonLog
from ociaudit.cli.progress import LineProgress, QuietProgress, describe_gap, describe_regions
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import ConnectionFailed, UsageError
from ociaudit.planning.shard import Gap, Target
from ociaudit.planning.window import Window
from support.drawn_shards import HERE, THERE, make_shard

GAP = Gap(HERE, Window(0, 60), "denied", "404 no\x1b[2J", "r-1")


class Watch:
    """A clock that goes when it is told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    """A clock for the progress."""
    return Watch()


@pytest.fixture
def progress(watch: Watch) -> LineProgress:
    """A progress of plain lines whose plan is known."""
    lines = LineProgress(monotonic=watch)
    lines.on_plan(Window(0, 1440), [HERE, THERE], 4)
    return lines


def test_the_plan_is_said_first(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """Range, its kind of time, regions, compartments and windows."""
    LineProgress(monotonic=watch).on_plan(Window(0, 1440), [HERE, THERE], 4)
    said = capsys.readouterr().err
    assert "1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z (processed time, end exclusive)" in said
    assert "2 regions × 2 compartments: 4 windows" in said


def test_a_line_comes_every_few_seconds(
    progress: LineProgress, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not with every page, and with events, rate, windows, gaps and the time left."""
    capsys.readouterr()
    progress.on_page(make_shard(), scanned=100, kept=1)
    progress.on_shard_done(make_shard())
    assert capsys.readouterr().err == ""
    watch.seconds += 10
    progress.on_page(make_shard(), scanned=1_900, kept=0)
    assert capsys.readouterr().err == "2,000 events (200/s), 1 of 4 windows, about 30 s left\n"
    assert progress.fraction == 0.25
    progress.on_gap(GAP)
    assert "1 gap" in progress.describe()


def test_writing_is_shown_when_asking_is_over(progress: LineProgress) -> None:
    """The fraction turns to what is written and never passes one."""
    progress.on_publish(10)
    progress.on_written(4)
    assert progress.describe() == "writing: 4 of 10 events"
    assert progress.fraction == 0.4
    progress.on_written(40)
    assert progress.fraction == 1.0


def test_a_plan_without_windows_divides_by_nothing(watch: Watch) -> None:
    """Nothing to ask is no failure, and neither is time that stands still."""
    lines = LineProgress(monotonic=watch)
    assert lines.fraction == 0.0
    assert "0 of 0 windows" in lines.describe()
    lines.on_publish(0)
    assert lines.fraction == 0.0


def test_a_gap_is_one_safe_line(progress: LineProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """Region, compartment, window, reason and request id; nothing of the service's text acts on the terminal."""
    progress.on_gap(GAP)
    said = capsys.readouterr().err
    for part in (HERE.region, HERE.compartment, str(GAP.window), "404 no", "(opc-request-id r-1)"):
        assert part in said
    assert "\x1b" not in said
    assert describe_gap(Gap(HERE, Window(0, 60), "failed", "reset")).endswith("reset")


def test_only_long_waits_are_explained(progress: LineProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """A retry within a second is nobody's business."""
    capsys.readouterr()
    progress.on_retry(ConnectionFailed("reset"), 0.9)
    assert capsys.readouterr().err == ""
    progress.on_retry(ConnectionFailed("reset"), 20.4)
    assert capsys.readouterr().err == "waiting 20 s: reset\n"


def test_quiet_says_only_notices(capsys: pytest.CaptureFixture[str]) -> None:
    """Progress is left out; what must not be missed is said."""
    quiet = choose_progress(is_quiet=True)
    assert type(quiet) is QuietProgress
    quiet.on_plan(Window(0, 1), [HERE], 1)
    quiet.on_page(make_shard(), scanned=1, kept=1)
    quiet.on_notice("the clock")
    quiet.close()
    assert capsys.readouterr().err == "notice: the clock\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (99_999, "27.8 h")],
)
def test_a_span_is_said_as_a_person_would(seconds: float, words: str) -> None:
    """Seconds, minutes or hours."""
    assert format_duration(seconds) == words


def test_a_number_has_its_plural() -> None:
    """One gap, two gaps, a thousand with its comma."""
    assert [format_count(number, "gap") for number in (0, 1, 2, 1000)] == ["0 gaps", "1 gap", "2 gaps", "1,000 gaps"]


REQUEST = FinishedRequest(
    "audit.example", "/20190901/auditEvents", 429, 120, 0.25, 2, "r-9", "429 TooManyRequests: slow"
)


def test_pace_throttling_and_cuts_are_in_the_line(progress: LineProgress, watch: Watch) -> None:
    """Requests in flight, the pace, 429s and what was cut stand there when they are known, and not before."""
    assert "in flight" not in progress.describe()
    progress.on_rate(HERE.region, in_flight=5, ceiling=16, per_second=None)
    assert "5 in flight," not in progress.describe()
    assert "5 in flight" in progress.describe()
    progress.on_rate(THERE.region, in_flight=2, ceiling=8, per_second=18.5)
    progress.on_request(REQUEST)
    progress.on_split(make_shard(), 8)
    watch.seconds += 4
    progress.on_shard_done(make_shard(0, 30))
    said = progress.describe()
    assert "1 of 11 windows (1 split)" in said
    assert "7 in flight, at most 18.5/s" in said
    assert "1 × 429" in said
    assert "about 40 s left" in said


def test_a_long_sweep_has_a_line_for_each_region(
    progress: LineProgress, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every half minute, with its own events, windows, pace and gaps, the least finished first."""
    progress.on_rate(THERE.region, in_flight=2, ceiling=8, per_second=18.5)
    progress.on_shard_done(make_shard())
    progress.on_gap(Gap(THERE, Window(0, 60), "failed", "reset"))
    capsys.readouterr()
    watch.seconds += 31
    progress.on_page(make_shard(), scanned=7, kept=7)
    lines = capsys.readouterr().err.splitlines()
    assert lines[1] == "  us-ashburn-1    0 events, 0 of 2 windows, 2 of 8 in flight, at most 18.5/s, 1 gap"
    assert lines[2] == "  eu-frankfurt-1  7 events, 1 of 2 windows"
    watch.seconds += 6
    progress.on_page(make_shard(), scanned=7, kept=7)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_many_regions_are_not_all_listed(watch: Watch) -> None:
    """Twelve lines, and one that counts the rest."""
    lines = LineProgress(monotonic=watch)
    lines.on_plan(Window(0, 60), [Target(f"region-{number:02}", "c") for number in range(30)], 30)
    said = list(describe_regions(lines))
    assert len(said) == 13
    assert said[-1] == "  and 18 more regions"


def test_a_waived_gap_is_called_so(progress: LineProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """A denial that is known is no `gap:` while the run works, and is not counted as one; a failure always is."""
    capsys.readouterr()
    progress.waived = frozenset({HERE.compartment})
    progress.on_gap(GAP)
    assert capsys.readouterr().err.startswith("waived: denied ")
    progress.on_gap(Gap(HERE, Window(60, 120), "failed", "reset"))
    assert capsys.readouterr().err.startswith("gap: failed ")
    assert (progress.gaps, progress.waived_gaps) == (1, 1)


def test_verbose_says_windows_cuts_pace_and_retries(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """With -v each has a line; requests have none, and a pace is said when it changes."""
    lines = LineProgress(monotonic=watch, verbosity=1)
    lines.on_shard_begun(make_shard())
    watch.seconds += 2.5
    lines.on_page(make_shard(), scanned=7, kept=7)
    lines.on_shard_done(make_shard())
    lines.on_split(make_shard(60, 120), 8)
    lines.on_retry(ConnectionFailed("reset"), 0.2)
    lines.on_request(REQUEST)
    for in_flight in (1, 2, 3):
        lines.on_rate(HERE.region, in_flight=in_flight, ceiling=4, per_second=None)
    said = capsys.readouterr().err.splitlines()
    assert said[0] == f"done: {make_shard()}: 2.5 s, 1 page, 7 events"
    assert said[1] == f"split: {make_shard(60, 120)} is dense and requested as 8 sub-shards"
    assert said[2] == "retrying: reset"
    assert said[3] == f"rate: {HERE.region} up to 4 in flight, no limit known"
    assert len(said) == 4


def test_very_verbose_says_each_request(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """Method, host, path, status, bytes, seconds, attempt, request id and what was wrong."""
    lines = LineProgress(monotonic=watch, verbosity=2)
    lines.on_request(REQUEST)
    lines.on_request(FinishedRequest("h", "/p", None, 0, 1.0, 1, None, "reset"))
    first, second = capsys.readouterr().err.splitlines()
    wanted = "GET audit.example /20190901/auditEvents 429 120 bytes 0.250 s attempt 2 opc-request-id r-9"
    assert first == f"request: {wanted}: 429 TooManyRequests: slow"
    assert second == "request: GET h /p no response 0 bytes 1.000 s attempt 1: reset"


@given(st.lists(st.floats(0, 1000), max_size=40))
def test_the_slowest_windows_are_kept(seconds: list[float]) -> None:
    """Of any number of windows the five slowest remain, the slowest first, and nothing of the others."""
    watch = Watch()
    run_stats = QuietProgress(monotonic=watch)
    for number, taken in enumerate(seconds):
        shard = make_shard(number, number + 1)
        watch.seconds = 0.0
        run_stats.on_shard_begun(shard)
        watch.seconds = taken
        run_stats.on_page(shard, scanned=1, kept=1)
        run_stats.on_shard_done(shard)
    assert [one.seconds for one in run_stats.slowest] == sorted(seconds, reverse=True)[:5]
    assert run_stats._started == {}


def test_what_was_denied_or_cut_is_not_kept(watch: Watch) -> None:
    """Windows that end otherwise than done leave nothing behind: memory does not grow with them."""
    run_stats = QuietProgress(monotonic=watch)
    for start in range(0, 6000, 60):
        run_stats.on_shard_begun(make_shard(start, start + 60))
        if start % 120:
            run_stats.on_split(make_shard(start, start + 60), 2)
        else:
            run_stats.on_gap(Gap(HERE, Window(start, start + 60), "failed", "reset"))
    assert run_stats._started == {}


def test_quiet_and_verbose_exclude_each_other() -> None:
    """It cannot be both; the choice else is by format."""
    with pytest.raises(UsageError, match="exclude each other"):
        choose_progress(is_quiet=True, verbosity=1)
    assert isinstance(choose_progress(is_quiet=True, log_format="json"), JsonLog)
    assert type(choose_progress(is_quiet=False)) is LineProgress


ESCAPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """Takes what a terminal would get."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def draw(
    monkeypatch: pytest.MonkeyPatch, fraction: float, text: str, lines: tuple[str, ...], *, start: bool = True
) -> str:
    """Show a bar on a terminal of sixty columns, and return what that got."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        bar = ProgressBar()
        if start:
            bar.start()
        bar.show(fraction, text, lines)
        bar.stop()
        bar.stop()
    return terminal.getvalue()


def test_the_block_has_a_bar_and_the_lines_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """Percentage, text and a line per region, cut at the terminal's width; the cursor is there again afterwards."""
    drawn = draw(monkeypatch, 0.42, "12 events", ("  eu-frankfurt-1  " + "x" * 100, "  us-ashburn-1  done"))
    lines = ESCAPED.sub("", drawn).splitlines()
    assert lines[0].startswith("━")
    assert " 42% " in lines[0]
    assert lines[1] == "12 events"
    assert lines[2].startswith("  eu-frankfurt-1  x")
    assert len(lines[2]) == 60
    assert lines[3] == "  us-ashburn-1  done"
    assert "\x1b[?25h" in drawn


def test_hostile_text_in_the_block_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text nor a line can move the cursor or set a title."""
    drawn = draw(monkeypatch, 0.1, "a\x1b]0;owned\x07", ("b\x1b[2J\u202ec",))
    assert "owned" in drawn
    assert "\x1b]0" not in drawn
    assert "\x1b[2J" not in drawn
    assert not set(drawn) & set("\x07\u202e")


def test_a_block_that_was_never_started_stays_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing and stopping without a start draw nothing."""
    assert draw(monkeypatch, 0.5, "text", ("line",), start=False) == ""
