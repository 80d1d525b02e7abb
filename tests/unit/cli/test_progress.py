import pytest

from ociaudit.cli.progress import LineProgress, QuietProgress, choose_progress, describe_gap
from ociaudit.cli.wording import count, describe_seconds
from ociaudit.errors import ConnectionFailed
from ociaudit.plan.shard import Gap
from ociaudit.plan.window import Window
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
    assert describe_seconds(seconds) == words


def test_a_number_has_its_plural() -> None:
    """One gap, two gaps, a thousand with its comma."""
    assert [count(number, "gap") for number in (0, 1, 2, 1000)] == ["0 gaps", "1 gap", "2 gaps", "1,000 gaps"]
