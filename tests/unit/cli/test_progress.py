from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.cli.console import ProgressBar, describe_gap, format_duration
from ociaudit.cli.export_command import choose_progress
from ociaudit.cli.json_log import JsonLog
from ociaudit.cli.progress import LineProgress, QuietProgress, describe_regions
from ociaudit.client.transport import FinishedRequest
from ociaudit.errors import ConnectionFailed, ServiceError, UsageError, format_count
from ociaudit.planning.shard import Gap, Target, Window
from support.drawn_shards import HERE, THERE, make_shard

GAP = Gap(HERE, Window(0, 60), "denied", "404 no\x1b[2J", "r-1")


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def watch() -> Watch:
    """Return the clock of the progress."""
    return Watch()


@pytest.fixture
def progress(watch: Watch) -> LineProgress:
    """Return a progress of plain lines whose plan is known."""
    lines = LineProgress(monotonic=watch)
    lines.on_plan(Window(0, 1440), [HERE, THERE], 4)
    return lines


def test_the_plan_is_printed_first(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """The plan has the range, its time basis, regions, compartments and windows."""
    LineProgress(monotonic=watch).on_plan(Window(0, 1440), [HERE, THERE], 4)
    printed = capsys.readouterr().err
    assert "1970-01-01T00:00:00Z to 1970-01-02T00:00:00Z (processed time, end exclusive)" in printed
    assert "2 regions × 2 compartments: 4 windows" in printed


def test_a_line_comes_every_few_seconds(
    progress: LineProgress, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line is printed every few seconds, with events, rate, windows, gaps and the time left."""
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


def test_an_estimate_that_has_passed_is_not_repeated(progress: LineProgress, watch: Watch) -> None:
    """While the last window waits for retries for longer than was estimated, no time is shown; then it is again."""
    for number in range(3):
        watch.seconds += 3
        progress.on_shard_done(make_shard(number))
    assert "about 3 s left" in progress.describe()
    watch.seconds += 20
    assert "left" not in progress.describe()
    progress.on_split(make_shard(3), 2)
    progress.on_shard_done(make_shard(3))
    assert "about 7 s left" in progress.describe()


def test_the_plan_names_the_time_that_the_source_selects_by(capsys: pytest.CaptureFixture[str]) -> None:
    """Logging Search selects by event time, ListEvents by processed time."""
    for source, words in (("logging-search", "(event time, "), ("list-events", "(processed time, ")):
        choose_progress(is_quiet=False, source=source).on_plan(Window(0, 1440), [HERE], 1)
        assert words in capsys.readouterr().err


def test_a_sync_plans_again_after_each_round(progress: LineProgress) -> None:
    """No more windows are done than there are; a new plan adds its windows and ends the writing of the last round."""
    for number in range(6):
        progress.on_shard_begun(make_shard(number))
        progress.on_shard_done(make_shard(number))
    assert "6 of 6 windows" in progress.describe()
    progress.on_publish(10)
    progress.on_written(10)
    progress.on_plan(Window(0, 60), [HERE], 2)
    assert "6 of 8 windows" in progress.describe()
    assert progress.fraction == 0.75
    assert progress.regions[HERE.region].shards == progress.regions[HERE.region].shards_done + 2


def test_writing_is_shown_after_requesting(progress: LineProgress) -> None:
    """While writing, the fraction is of the events written, and never passes one."""
    progress.on_publish(10)
    progress.on_written(4)
    assert progress.describe() == "writing: 4 of 10 events"
    assert progress.fraction == 0.4
    progress.on_written(40)
    assert progress.fraction == 1.0


def test_a_plan_without_windows_divides_by_nothing(watch: Watch) -> None:
    """A run without windows and a clock that does not move divide nothing by zero."""
    lines = LineProgress(monotonic=watch)
    assert lines.fraction == 0.0
    assert "0 of 0 windows" in lines.describe()
    lines.on_publish(0)
    assert lines.fraction == 0.0


def test_a_gap_is_one_safe_line(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """With -v a gap is a line with region, compartment, window, reason and request id, and no hostile character."""
    progress = LineProgress(monotonic=watch, verbosity=1)
    progress.on_gap(GAP)
    printed = capsys.readouterr().err
    for part in (HERE.region, HERE.compartment, str(GAP.window), "404 no", "(opc-request-id r-1)"):
        assert part in printed
    assert "\x1b" not in printed
    assert describe_gap(Gap(HERE, Window(0, 60), "failed", "reset")).endswith("reset")


def test_gaps_and_throttling_are_not_a_line_each(progress: LineProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """Without -v gaps wait for the end of the run, and all 429s together are one line and a number in the status."""
    capsys.readouterr()
    for number in range(58):
        progress.on_gap(Gap(HERE, Window(number, number + 1), "denied", "404 NotAuthorizedOrNotFound", "r-1"))
        progress.on_retry(ServiceError("slow down", status=429, code="TooManyRequests", is_oci=True), 2.0)
    (line,) = capsys.readouterr().err.splitlines()
    assert "429" in line
    assert "58 gaps" in progress.describe()


def test_paths_replace_ocids(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """Lines about windows and gaps show the path of the compartment, once it is known."""
    progress = LineProgress(monotonic=watch, verbosity=1)
    progress.on_scope({HERE.compartment: "root/production"}, frozenset())
    progress.on_gap(GAP)
    progress.on_split(make_shard(), 3)
    progress.on_shard_begun(make_shard())
    progress.on_shard_done(make_shard())
    printed = capsys.readouterr().err
    assert printed.count("root/production") == 3
    assert HERE.compartment not in printed


def test_only_long_waits_are_explained(progress: LineProgress, capsys: pytest.CaptureFixture[str]) -> None:
    """A retry within a second is not printed."""
    capsys.readouterr()
    progress.on_retry(ConnectionFailed("reset"), 0.9)
    assert capsys.readouterr().err == ""
    progress.on_retry(ConnectionFailed("reset"), 20.4)
    assert capsys.readouterr().err == "waiting 20 s: reset\n"


def test_quiet_prints_only_notices(capsys: pytest.CaptureFixture[str]) -> None:
    """When quiet, progress is not printed and notices are."""
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
def test_a_duration_has_the_unit_that_suits_it(seconds: float, words: str) -> None:
    """A duration is in seconds, minutes or hours."""
    assert format_duration(seconds) == words


def test_a_number_has_its_plural() -> None:
    """A number has the singular or plural of its noun, and commas."""
    assert [format_count(number, "gap") for number in (0, 1, 2, 1000)] == ["0 gaps", "1 gap", "2 gaps", "1,000 gaps"]
    assert [format_count(1, noun) for noun in ("address", "entry")] == ["1 address", "1 entry"]
    assert [format_count(2, noun) for noun in ("address", "entry", "day")] == ["2 addresses", "2 entries", "2 days"]


REQUEST = FinishedRequest(
    "audit.example", "/20190901/auditEvents", 429, 120, 0.25, 2, "r-9", "429 TooManyRequests: slow"
)


def test_rate_limit_throttling_and_splits_are_in_the_line(progress: LineProgress, watch: Watch) -> None:
    """Requests in flight, the rate limit, 429s and splits are in the line once they are known."""
    assert "in flight" not in progress.describe()
    progress.on_rate(HERE.region, in_flight=5, ceiling=16, per_second=None)
    assert "5 in flight," not in progress.describe()
    assert "5 in flight" in progress.describe()
    progress.on_rate(THERE.region, in_flight=2, ceiling=8, per_second=18.5)
    progress.on_request(REQUEST)
    progress.on_split(make_shard(), 8)
    watch.seconds += 4
    progress.on_shard_done(make_shard(0, 30))
    printed = progress.describe()
    assert "1 of 11 windows (1 split)" in printed
    assert "7 in flight, at most 18.5/s" in printed
    assert "1 × 429" in printed
    assert "about 40 s left" in printed


def test_a_long_sweep_has_a_line_for_each_region(
    progress: LineProgress, watch: Watch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every half minute each region has a line with its numbers, the least finished first."""
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
    """Twelve regions have lines, and one line counts the others."""
    lines = LineProgress(monotonic=watch)
    lines.on_plan(Window(0, 60), [Target(f"region-{number:02}", "c") for number in range(30)], 30)
    printed = list(describe_regions(lines))
    assert len(printed) == 13
    assert printed[-1] == "  and 18 more regions"


def test_a_waived_gap_is_called_so(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """A waived denial is not printed or counted as a gap; a failure always is."""
    progress = LineProgress(monotonic=watch, verbosity=1)
    progress.on_scope({}, frozenset({HERE.compartment}))
    progress.on_gap(GAP)
    assert capsys.readouterr().err.startswith("waived: denied ")
    progress.on_gap(Gap(HERE, Window(60, 120), "failed", "reset"))
    assert capsys.readouterr().err.startswith("gap: failed ")
    assert (progress.gaps, progress.waived_gaps) == (1, 1)


def test_verbose_prints_windows_splits_rates_and_retries(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """With -v each has a line, a rate limit when it changes, and requests have none."""
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
    printed = capsys.readouterr().err.splitlines()
    assert printed[0] == f"done: {make_shard()}: 2.5 s, 1 page, 7 events"
    assert printed[1] == f"split: {make_shard(60, 120)} is dense and requested as 8 sub-shards"
    assert printed[2] == "retrying: reset"
    assert printed[3] == f"rate: {HERE.region} up to 4 in flight, no limit known"
    assert len(printed) == 4


def test_very_verbose_prints_each_request(watch: Watch, capsys: pytest.CaptureFixture[str]) -> None:
    """With -vv a request has method, host, path, status, bytes, seconds, attempt, request id and error."""
    lines = LineProgress(monotonic=watch, verbosity=2)
    lines.on_request(REQUEST)
    lines.on_request(FinishedRequest("h", "/p", None, 0, 1.0, 1, None, "reset"))
    first, second = capsys.readouterr().err.splitlines()
    wanted = "GET audit.example /20190901/auditEvents 429 120 bytes 0.250 s attempt 2 opc-request-id r-9"
    assert first == f"request: {wanted}: 429 TooManyRequests: slow"
    assert second == "request: GET h /p no response 0 bytes 1.000 s attempt 1: reset"


@given(st.lists(st.floats(0, 1000), max_size=40))
def test_the_slowest_windows_are_kept(seconds: list[float]) -> None:
    """Of any number of windows only the five slowest are kept, the slowest first."""
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


def test_what_was_denied_or_split_is_not_kept(watch: Watch) -> None:
    """Windows that become gaps or are split are forgotten, so that memory does not grow."""
    run_stats = QuietProgress(monotonic=watch)
    for start in range(0, 6000, 60):
        run_stats.on_shard_begun(make_shard(start, start + 60))
        if start % 120:
            run_stats.on_split(make_shard(start, start + 60), 2)
        else:
            run_stats.on_gap(Gap(HERE, Window(start, start + 60), "failed", "reset"))
    assert run_stats._started == {}


def test_quiet_and_verbose_exclude_each_other() -> None:
    """Quiet and verbose together are a usage error; otherwise format and terminal decide."""
    with pytest.raises(UsageError, match="exclude each other"):
        choose_progress(is_quiet=True, verbosity=1)
    assert isinstance(choose_progress(is_quiet=True, log_format="json"), JsonLog)
    assert type(choose_progress(is_quiet=False)) is LineProgress


ESCAPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal(io.StringIO):
    """A stream that claims to be a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Return True."""
        return True


def draw(
    monkeypatch: pytest.MonkeyPatch, fraction: float, text: str, lines: tuple[str, ...], *, start: bool = True
) -> str:
    """Show a bar on a terminal of sixty columns, and return what was written to it."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        bar = ProgressBar()
        if start:
            bar.start("begins")
        bar.show(fraction, text, lines)
        bar.stop()
        bar.stop()
    return terminal.getvalue()


def test_a_bar_that_is_started_again_replaces_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync plans once in each round: the second bar is drawn, and nothing is left of the first."""
    terminal = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "60")
    with monkeypatch.context() as patch:
        patch.setattr("sys.stderr", terminal)
        bar = ProgressBar()
        bar.start("first round")
        bar.start("second round")
        bar.stop()
    assert terminal.getvalue().count("second round") >= 1
    assert terminal.getvalue().count("\x1b[?25h") == terminal.getvalue().count("\x1b[?25l") == 2


def test_the_block_has_a_bar_and_the_lines_below(monkeypatch: pytest.MonkeyPatch) -> None:
    """The block has a percentage, text and a line per region, fits the terminal, and restores the cursor."""
    drawn = draw(monkeypatch, 0.42, "12 events", ("  eu-frankfurt-1  " + "x" * 100, "  us-ashburn-1  done"))
    lines = ESCAPED.sub("", drawn).splitlines()
    assert " 0% " in lines[0]  # it is there from the start
    last = next(number for number, line in enumerate(lines) if " 42% " in line)
    lines = lines[last:]
    assert lines[0].lstrip("\r").startswith("━")
    assert lines[1] == "12 events"
    assert lines[2].startswith("  eu-frankfurt-1  x")
    assert len(lines[2]) == 60
    assert lines[3] == "  us-ashburn-1  done"
    assert "\x1b[?25h" in drawn


def test_hostile_text_in_the_block_is_stripped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text nor a line of the block can move the cursor or set a title."""
    drawn = draw(monkeypatch, 0.1, "a\x1b]0;owned\x07", ("b\x1b[2J\u202ec",))
    assert "owned" in drawn
    assert "\x1b]0" not in drawn
    assert "\x1b[2J" not in drawn
    assert not set(drawn) & set("\x07\u202e")


def test_a_block_that_was_never_started_draws_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Showing and stopping a block that was not started draw nothing."""
    assert draw(monkeypatch, 0.5, "text", ("line",), start=False) == ""
