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

PROC = Path("/proc")
COMMAND = [sys.executable, "-m", "ociaudit_emulator"]


@pytest.fixture
def process():
    """An emulator process that ends with its standard input."""
    with subprocess.Popen(
        [*COMMAND, "--until-stdin-closes"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        yield running
        running.kill()


def test_the_first_line_is_the_url_of_a_listening_server(process):
    """The first line on stdout is the base URL, connections are accepted by then, and nothing else is printed."""
    url = process.stdout.readline().rstrip("\n")
    assert url == f"http://127.0.0.1:{int(url.rpartition(':')[2])}"
    with urllib.request.urlopen(f"{url}/_emulator/tenancy", timeout=10) as response:
        assert response.status == 200
    process.stdin.close()
    assert process.wait(timeout=5) == 0
    assert process.stdout.read() == ""
    assert process.stderr.read() == ""


def test_it_ends_when_its_parent_does(process):
    """The end of standard input ends the process within a second, with exit code 0."""
    process.stdout.readline()
    process.stdin.write("ignored\n")
    process.stdin.flush()
    time.sleep(0.2)
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it(process, number):
    """SIGTERM and SIGINT end the process, with exit code 0."""
    process.stdout.readline()
    process.send_signal(number)
    assert process.wait(timeout=60) == 0


def test_an_invalid_flag_is_exit_2(tmp_path):
    """Invalid flags, files and folders end with exit code 2, a message, and nothing on stdout."""
    for flags, expected in (
        (["--page-size", "none"], "whole number"),
        (["--events", str(tmp_path / "none")], "choose a readable file"),
        (["--trust-config", str(tmp_path)], "--write-config"),
    ):
        done = subprocess.run([*COMMAND, *flags], capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, done.stdout) == (2, "")
        assert expected in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_in_use_is_exit_2():
    """A port in use ends with exit code 2 and the hint to choose another."""
    with closing(socket.create_server(("127.0.0.1", 0))) as other:
        port = str(other.getsockname()[1])
        done = subprocess.run([*COMMAND, "--port", port], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 2
    assert "choose another --port" in done.stderr


def test_a_port_can_be_chosen():
    """With --port, the emulator listens on that port."""
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        port = free.getsockname()[1]
    with Emulator("--port", str(port)) as emulator:
        assert emulator.port == port


def test_the_test_helper_reports_why_a_start_failed():
    """A test that starts an emulator with an invalid flag gets its error message."""
    with pytest.raises(EmulatorError, match="unrecognized arguments"), Emulator("--fast"):
        pass


def test_a_dense_year_starts_quickly_and_stays_small():
    """With a million events per day, the emulator starts within 10 seconds and uses less than 150 MB of memory."""
    started = time.monotonic()
    with Emulator("--events-per-day", "1000000", "--now", "2026-01-10T00:00:00Z") as dense:
        assert time.monotonic() - started < 10
        tenancy = dense.tenancy()
        payments = next(one["id"] for one in tenancy["compartments"] if one["name"] == "payments")
        events = dense.events("us-ashburn-1", payments, "2026-01-07T15:00:00Z", "2026-01-07T15:20:00Z")
        assert len(events) > 1000
        if PROC.is_dir():
            assert read_peak_megabytes(dense.process_id) < 150


def read_peak_megabytes(process_id):
    """The peak memory of a process, on Linux."""
    lines = (PROC / str(process_id) / "status").read_text(encoding="ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines)
    return int(fields["VmHWM"].split()[0]) / 1024
