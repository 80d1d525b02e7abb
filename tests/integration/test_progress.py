import json
import re

import pytest

from support.emulator import Emulator
from support.exports import make_command, point_at, run_export
from support.processes import finish_process, start_process
from support.terminals import run_on_screen

DAYS = ("--start", "2025-06-02", "--end", "2025-06-03")
OUTPUT = ("-o", "audit.json")
# What a hostile event or answer may try on a terminal: a title, a colour, a cleared screen, a bell, a bidi override.
HOSTILE = "\x1b]0;owned\x07\x1b[31m\x1b[2J\x9b2J\x08\r\n\u202ereversed\x00"
ESCAPED = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# What rich itself uses: colours, moving the cursor, clearing a line, hiding the cursor. No title, no cleared screen.
ALLOWED = re.compile(r"\x1b\[(?:[0-9;]*m|[0-9]*[AKG]|\?25[lh])")


@pytest.fixture(scope="module", autouse=True)
def long_run(tmp_path_factory):
    """A run that takes longer than the time between two lines; it begins when the module does."""
    flags = ("--retention-days", "36500", "--events-per-day", "300", "--latency-ms", "150")
    with Emulator(*flags) as slow:
        folder = tmp_path_factory.mktemp("long")
        process = start_process(
            make_command(slow, *DAYS, *OUTPUT, "--concurrency", "1"), cwd=folder, variables=point_at(slow)
        )
        yield process
        process.kill()
        process.communicate()


def run_on_terminal(emulator, folder, *arguments):
    """Run an export whose stderr is a terminal, and return its exit code, stdout and what the terminal got."""
    stdout = folder / "stdout"
    command = make_command(emulator, *arguments)
    code, seen = run_on_screen(command, folder, point_at(emulator), columns=120, stdout=stdout)
    return code, stdout.read_bytes(), seen


def script_hostile_gap(emulator):
    """Let one place be refused in hostile words."""
    fault = {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound", "message": HOSTILE}
    emulator.faults([{"operation": "ListEvents", "match": {"region": "eu-frankfurt-1"}, "fault": fault}])


def test_pipe_gets_plain_lines(emulator, tmp_path):
    """On a pipe are the plan, the summary and a line per compartment with gaps; no control character, and no stdout."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT)
    assert finished.code == 10
    assert finished.stdout == b""
    lines = finished.stderr.splitlines()
    assert lines[0].startswith("requesting 2025-06-02T00:00:00Z to 2025-06-04T00:00:00Z")
    assert len([line for line in lines if "investigations: denied in ap-tokyo-1, eu-frankfurt-1," in line]) == 1
    assert [line for line in lines if "scanned = " in line]
    assert all(line.isprintable() for line in lines)


def test_a_run_directory_that_stays_is_named_with_its_size(emulator, tmp_path):
    """After gaps the run directory is named with its size."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, "--quiet")
    size = sum(path.stat().st_size for path in (tmp_path / "audit.json.run").iterdir())
    (line,) = [line for line in finished.stderr.splitlines() if line.startswith("kept: ")]
    assert str(tmp_path / "audit.json.run") in line
    assert re.search(r"\(([\d.]+) ([kM]?)B\)", line)
    number, unit = re.search(r"\(([\d.]+) ([kM]?)B\)", line).groups()
    assert abs(float(number) * {"": 1, "k": 1e3, "M": 1e6}[unit] - size) <= 0.06 * {"": 1, "k": 1e3, "M": 1e6}[unit]


def test_quiet_says_only_what_must_not_be_missed(emulator, tmp_path):
    """With `--quiet` there are the gaps and what to do about them, and nothing of the plan and the summary."""
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, "--quiet")
    assert finished.code == 10
    assert "INCOMPLETE: 3 gaps" in finished.stderr
    assert "requesting" not in finished.stderr
    assert "scanned" not in finished.stderr


def test_quiet_and_complete_says_nothing(emulator, tmp_path):
    """With `--quiet` a complete run writes not a byte to the screen."""
    scope = ("--compartment", emulator.tenancy()["id"], "--no-subtree")
    finished = run_export(emulator, tmp_path, *DAYS, *OUTPUT, *scope, "--quiet")
    assert (finished.code, finished.stdout, finished.stderr) == (0, b"", "")


def test_terminal_gets_a_bar(emulator, tmp_path):
    """On a terminal a bar shows events and windows while it works, and the summary stays when it is gone."""
    code, stdout, seen = run_on_terminal(emulator, tmp_path, *DAYS, *OUTPUT)
    assert code == 10
    assert stdout == b""
    assert "━" in seen
    assert re.search(r"\d+ of 45 windows", ESCAPED.sub("", seen))
    assert "INCOMPLETE: 3 gaps" in ESCAPED.sub("", seen)
    assert re.search(r"\x1b\[[0-9;]*31m(\x1b\[1m)?INCOMPLETE", seen)
    assert "\x1b[?25h" in seen  # the cursor is there again
    assert not ALLOWED.sub("", seen).replace("\r", "").replace("\n", "").count("\x1b")


def test_terminal_with_data_on_stdout(emulator, tmp_path):
    """With `-o -` the bar is on the terminal and the data alone on stdout."""
    code, stdout, seen = run_on_terminal(emulator, tmp_path, *DAYS, "-o", "-")
    assert code == 10
    assert json.loads(stdout)
    assert "━" in seen


def test_terminal_gets_requests_above_the_block(emulator, tmp_path):
    """With -vv each request is a line of its own, whole, and the bar stays below."""
    code, _, seen = run_on_terminal(emulator, tmp_path, *DAYS, *OUTPUT, "-vv")
    assert code == 10
    plain = " ".join(ESCAPED.sub("", seen).split())
    served = [entry["requestId"] for entry in emulator.log()]
    assert served
    assert all(f"opc-request-id {request_id}" in plain for request_id in served)
    assert "━" in seen
    assert not ALLOWED.sub("", seen).replace("\r", "").replace("\n", "").count("\x1b")


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_control_characters_of_an_answer_reach_no_screen(emulator, tmp_path, kind):
    """What a hostile service says about a gap is shown without its control characters."""
    script_hostile_gap(emulator)
    if kind == "terminal":
        _, _, seen = run_on_terminal(emulator, tmp_path, *DAYS, *OUTPUT, "-v")
    else:
        seen = run_export(emulator, tmp_path, *DAYS, *OUTPUT, "-v").stderr
    assert emulator.fault_states()[0]["completed"]
    assert_harmless(seen)


def assert_harmless(seen):
    """Insist that the hostile text is there, and none of its control characters."""
    assert "owned" in seen
    assert "reversed" in seen
    plain = ALLOWED.sub("", seen)
    assert not set(plain) & set("\x1b\x07\x08\x00\x9b\u202e")
    assert "\x1b[2J" not in seen
    assert "\x1b[31m\ufffd" not in seen


@pytest.mark.parametrize("kind", ["terminal", "pipe"])
def test_control_characters_of_events_reach_no_screen(tmp_path, kind):
    """Event types are shown, when a filter matched nothing, without their control characters."""
    event = {"eventId": "1", "eventTime": "2025-06-02T10:00:00.000Z", "eventType": HOSTILE, "data": {"eventName": "x"}}
    (tmp_path / "events.json").write_text(json.dumps([event]))
    with Emulator("--events", str(tmp_path / "events.json")) as emulator:
        arguments = (*DAYS, *OUTPUT, "--event-type", "nothing like it")
        if kind == "terminal":
            _, _, seen = run_on_terminal(emulator, tmp_path, *arguments)
        else:
            seen = run_export(emulator, tmp_path, *arguments).stderr
    assert "no event matched" in seen
    assert_harmless(seen)


def test_long_run_shows_where_it_is(long_run):
    """On a pipe a run of several seconds says every few seconds how far it is."""
    stderr = finish_process(long_run).stderr
    assert re.search(r"^[\d,]+ events \([\d,]+/s\), \d+ of 45 windows.*left$", stderr, re.MULTILINE), stderr
