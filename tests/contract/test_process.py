import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest

from support.emulator import Emulator, EmulatorError

STATUS = Path("/proc")
COMMAND = [sys.executable, "-m", "ociaudit_emulator"]


@pytest.fixture
def process():
    """A bare emulator process that is told to end with its standard input."""
    with subprocess.Popen(
        [*COMMAND, "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


def test_the_first_line_is_the_url_and_it_answers(process):
    """The first line on stdout is the base URL, connections are accepted by then, and nothing else is said."""
    url = process.stdout.readline().rstrip("\n")
    assert url == f"http://127.0.0.1:{int(url.rpartition(':')[2])}"
    with urllib.request.urlopen(f"{url}/_emulator/tenancy", timeout=10) as answer:
        assert answer.status == 200
    process.stdin.close()
    assert process.wait(timeout=5) == 0
    assert process.stdout.read() == ""
    assert process.stderr.read() == ""


def test_it_ends_when_its_parent_does(process):
    """The end of standard input ends the process within a second, with exit 0."""
    process.stdout.readline()
    process.stdin.write("ignored\n")
    process.stdin.flush()
    time.sleep(0.2)
    assert process.poll() is None
    started = time.monotonic()
    process.stdin.close()
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(process, number):
    """SIGTERM and SIGINT end the process within a second, with exit 0."""
    process.stdout.readline()
    started = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=5) == 0
    assert time.monotonic() - started < 1.5


def test_a_wrong_flag_is_exit_2(tmp_path):
    """Wrong flags, files and folders end with exit 2, one clear sentence, and nothing on stdout."""
    for flags, wanted in (
        (["--page-size", "none"], "whole number"),
        (["--events", str(tmp_path / "none")], "choose a readable file"),
        (["--trust-config", str(tmp_path)], "--write-config"),
    ):
        done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, done.stdout) == (2, "")
        assert wanted in done.stderr
        assert "Traceback" not in done.stderr


def test_a_taken_port_is_exit_2():
    """A port that someone else has ends with exit 2 and the advice to choose another."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr


def test_a_chosen_port_is_taken():
    """With --port the emulator listens where it was told to."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with Emulator("--port", str(port)) as emulator:
        assert emulator.port == port


def test_the_helper_says_why_a_start_failed():
    """A test that starts an emulator with a wrong flag is told what was wrong with it."""
    with pytest.raises(EmulatorError, match="unrecognized arguments"), Emulator("--fast"):
        pass


def test_a_dense_year_starts_at_once_and_stays_small():
    """A year at a million events a day answers its first pages with less than 150 MB of memory."""
    started = time.monotonic()
    with Emulator("--events-per-day", "1000000", "--now", "2026-01-10T00:00:00Z") as dense:
        assert time.monotonic() - started < 10
        tenancy = dense.tenancy()
        payments = next(one["id"] for one in tenancy["compartments"] if one["name"] == "payments")
        events = dense.events("us-ashburn-1", payments, "2026-01-07T15:00:00Z", "2026-01-07T15:20:00Z")
        assert len(events) > 1000
        if STATUS.is_dir():
            assert read_peak_megabytes(dense.process_id) < 150


def read_peak_megabytes(process_id):
    """The most memory that a process has had, on Linux."""
    lines = (STATUS / str(process_id) / "status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) / 1024
