"""Many questions at a time, against the emulator as a process: the ceiling, the cuts, the deadline, and going on."""

import hashlib
import signal
import time
from itertools import pairwise

import pytest

from support.emulator import Emulator
from support.exports import make_command, point_at, read_manifest, run_export
from support.processes import finish_process, start_process
from support.run_directories import read_journal
from support.truth import list_events, write_array

FLAGS = ("--retention-days", "36500", "--events-per-day", "900", "--page-size", "20")
DAYS = ("--start", "2025-06-02", "--end", "2025-06-04")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"
INCOMPLETE = 10


@pytest.fixture(scope="module")
def slow():
    """An emulator whose pages take a while, while others are answered; its tenancy has one forbidden compartment."""
    with Emulator(*FLAGS, "--latency-ms", "60") as running:
        yield running


@pytest.fixture(scope="module")
def truth(slow):
    """The file that every export of the three days holds."""
    return write_array(list_events(slow, START, END))


def list_requests(emulator):
    """Return when each question for events began and ended, and what it asked."""
    return [entry for entry in emulator.log() if entry["operation"] == "ListEvents"]


def find_most_at_once(questions) -> int:
    """Return how many questions were under way at the busiest moment."""
    moments = [(entry["started"], 1) for entry in questions] + [(entry["ended"], -1) for entry in questions]
    most = now = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_as_many_questions_as_allowed_and_the_same_bytes(slow, truth, tmp_path, concurrency):
    """The ceiling is reached and not passed, and the file does not depend on it."""
    slow.clear_log()
    finished = run_export(slow, tmp_path, *DAYS, "-o", "audit.json", "--concurrency", str(concurrency))
    assert finished.code == INCOMPLETE, finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == truth
    most = find_most_at_once(list_requests(slow))
    assert most <= concurrency
    assert most >= min(concurrency, 8)


def test_a_dense_window_is_cut(slow, truth, tmp_path):
    """The journal says into which pieces, the pieces make it up, and nothing is written twice."""
    process = start_process(make_command(slow, *DAYS, "-o", "audit.json"), cwd=tmp_path, variables=point_at(slow))
    finished = finish_process(process)
    assert finished.code == INCOMPLETE
    splits = [line for line in read_journal(tmp_path / "audit.json.run") if line["kind"] == "split"]
    assert splits
    for split in splits:
        pieces = split["windows"]
        assert [pieces[0][0], pieces[-1][1]] == split["shard"]["window"]
        assert all(one[1] == other[0] for one, other in pairwise(pieces))
    assert read_manifest(tmp_path / "audit.json")["totals"]["identical"] > 0
    assert (tmp_path / "audit.json").read_bytes() == truth


def test_a_deadline_leaves_gaps_that_the_same_command_fills(slow, truth, tmp_path):
    """What was not answered in time is said, with the reason; asked again, it comes, and nothing else is asked."""
    arguments = (*DAYS, "-o", "audit.json", "--concurrency", "2", "--max-requests-per-second", "5")
    hurried = run_export(slow, tmp_path, *arguments, "--deadline", "0m")
    assert hurried.code == INCOMPLETE, hurried.stderr
    gaps = read_manifest(tmp_path / "audit.json")["gaps"]
    assert {gap["reason"] for gap in gaps} == {"the deadline passed before it was complete"}
    finished = run_export(slow, tmp_path, *DAYS, "-o", "audit.json")
    assert finished.code == INCOMPLETE
    assert (tmp_path / "audit.json").read_bytes() == truth
    assert {gap["kind"] for gap in read_manifest(tmp_path / "audit.json")["gaps"]} == {"denied"}


@pytest.mark.parametrize("seconds", [0.4, 0.9, 1.6])
def test_a_killed_sweep_asks_again_for_what_was_in_flight(slow, truth, tmp_path, seconds):
    """With sixteen questions under way, a SIGKILL costs those and what was not committed in a quarter of a second."""
    command = make_command(slow, *DAYS, "-o", "audit.json")
    slow.clear_log()
    whole = run_export(slow, tmp_path, *DAYS, "-o", "whole.json")
    assert whole.code == INCOMPLETE
    needed = len(list_requests(slow))
    slow.clear_log()
    process = start_process(command, cwd=tmp_path, variables=point_at(slow))
    while not list_requests(slow):
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    finish_process(process)
    assert run_export(slow, tmp_path, *DAYS, "-o", "audit.json").code == INCOMPLETE
    assert (tmp_path / "audit.json").read_bytes() == truth == (tmp_path / "whole.json").read_bytes()
    per_second = 16 / 0.06
    lost = 16 + per_second * 1.0  # commits wait for the disk, and the machine may be busy
    assert len(list_requests(slow)) <= needed + lost


def test_a_dead_region_is_a_gap_and_the_others_are_whole(tmp_path):
    """A region that breaks every connection costs its own gaps alone."""
    with Emulator(*FLAGS) as emulator:
        everything = {"match": {"region": "eu-frankfurt-1"}, "times": None}
        emulator.faults([{"operation": "ListEvents", **everything, "fault": {"kind": "reset"}}])
        finished = run_export(emulator, tmp_path, *DAYS, "-o", "audit.json")
        assert finished.code == INCOMPLETE, finished.stderr
        gaps = read_manifest(tmp_path / "audit.json")["gaps"]
        assert {gap["region"] for gap in gaps if gap["kind"] == "failed"} == {"eu-frankfurt-1"}
        emulator.clear_faults()
        assert run_export(emulator, tmp_path, *DAYS, "-o", "audit.json").code == INCOMPLETE
        expected = write_array(list_events(emulator, START, END))
    assert hashlib.sha256((tmp_path / "audit.json").read_bytes()).digest() == hashlib.sha256(expected).digest()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--concurrency", "0"), "not in the range x>=1"),
        (("--max-requests-per-second", "0"), "above 0"),
        (("--max-requests-per-second", "-1"), "above 0"),
        (("--max-requests-per-second", "nan"), "above 0"),
        (("--deadline", "soon"), "'soon'"),
    ],
)
def test_bad_limits_are_refused(slow, tmp_path, options, words):
    """Nothing is asked, and the error says what would be right."""
    slow.clear_log()
    finished = run_export(slow, tmp_path, *DAYS, "-o", "audit.json", *options)
    assert finished.code == 2
    assert words in finished.stderr
    assert "hint: " in finished.stderr
    assert slow.log() == []
