import json
import os
import re
import signal
import socket
import time

import pytest

from support.processes import find_command, run_process, start_process


def is_listening(port: int) -> bool:
    """Say whether anybody accepts connections at a port."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def find_port(text: str) -> int:
    """Find where the demo's server answered."""
    return int(re.search(r"is served at http://127\.0\.0\.1:(\d+)", text)[1])


def wait_until_closed(port: int) -> None:
    """Wait until a server is gone."""
    deadline = time.monotonic() + 15
    while is_listening(port):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """One run of the demo: how it ended, and where."""
    folder = tmp_path_factory.mktemp("demo")
    return run_process([find_command("oci-audit"), "demo"], cwd=folder), folder


def test_demo_shows_what_it_promises(demo):
    """Exit 0, and on stdout the events, names, failed sign-ins, coverage with its gap, and three commands to try."""
    finished, folder = demo
    text = finished.stdout.decode()
    manifest = json.loads((folder / "oci-audit-demo" / "audit.json.manifest.json").read_bytes())
    written = manifest["totals"]["written"]
    assert finished.code == 0, finished.stderr
    assert written > 5_000
    assert f"{written:,} audit events" in text
    assert re.search(r"most frequent\n +[\d,]+  \w+", text)
    failures = re.search(r"failed sign-ins: ([\d,]+)\n((?: +[\d,]+  .+\n)+)", text)
    counts = [int(line.split()[0].replace(",", "")) for line in failures[2].splitlines()]
    assert sum(counts) == int(failures[1].replace(",", "")) >= 9
    for region in ("us-ashburn-1", "eu-frankfurt-1", "ap-tokyo-1"):
        assert region in text
    gap = "GAP root/security/investigations: denied in ap-tokyo-1, eu-frankfurt-1, us-ashburn-1 (404)"
    assert " ".join(text.split()).count(gap) == 1
    assert "42 of 45 targets complete" in text
    assert len(re.findall(r"^ +oci-audit export .*$", text, re.MULTILINE)) == 3


def test_demo_ends_with_the_path_of_its_report(demo):
    """The last line names the report, a private page that is complete, about the exported file."""
    finished, folder = demo
    page = folder / "oci-audit-demo" / "report.html"
    assert finished.stdout.decode().splitlines()[-1] == f"report: open {page.resolve()} in a browser"
    assert page.read_text("utf-8").rstrip().endswith("</html>")


def test_demo_opens_nothing(tmp_path):
    """No browser or viewer is started: on PATH and in BROWSER there is only one that would leave a trace."""
    opener = tmp_path / "opener"
    opener.write_text(f"#!/bin/sh\ntouch '{tmp_path / 'opened'}'\n")
    opener.chmod(0o755)
    for name in ("xdg-open", "open", "sensible-browser", "x-www-browser", "chromium", "firefox"):
        (tmp_path / name).symlink_to(opener)
    path = f"{tmp_path}:{os.environ['PATH']}"
    variables = {"BROWSER": str(opener), "DISPLAY": ":99", "PATH": path}
    assert run_process([str(tmp_path / "xdg-open")], cwd=tmp_path, variables=variables).code == 0
    assert (tmp_path / "opened").exists()  # the trap works
    (tmp_path / "opened").unlink()
    command = [find_command("oci-audit"), "demo", "--days", "1"]
    finished = run_process(command, cwd=tmp_path, variables=variables)
    assert finished.code == 0, finished.stderr
    assert not (tmp_path / "opened").exists()


def test_demo_counts_what_it_wrote(demo):
    """The names that the demo shows are the most frequent ones of the file that it leaves."""
    finished, folder = demo
    events = json.loads((folder / "oci-audit-demo" / "audit.json").read_bytes())
    names = [event["data"]["eventName"] for event in events]
    shown = re.findall(r"^ +([\d,]+)  (\w+)$", finished.stdout.decode().partition("failed")[0], re.MULTILINE)
    assert len(shown) >= 5
    assert all(int(number.replace(",", "")) == names.count(name) for number, name in shown)


def test_demo_ends_with_an_archive(demo):
    """The third act syncs an archive twice, names what came late in between, and shows the status with a calendar."""
    finished, folder = demo
    _, first, second, status = re.split(r"^oci-audit (?:sync|status) .*$", finished.stdout.decode(), flags=re.MULTILINE)
    assert "created " in first
    assert " late " not in first
    assert int(re.search(r"late +([\d,]+) events? came at least", second)[1].replace(",", "")) >= 1
    archive = folder / "oci-audit-demo" / "archive"
    head = json.loads((archive / "HEAD").read_bytes())
    assert head["sequence"] >= 2
    for text in (second, status):
        assert f"{head['sequence']}:{head['digest']}" in text
    assert re.search(r"holds +[\d,]+ events", status)
    assert "calendar    # final" in status


def test_demo_leaves_its_files_and_no_server(demo):
    """The files stand in ./oci-audit-demo, private, and the server has gone."""
    finished, folder = demo
    assert [path.name for path in folder.iterdir()] == ["oci-audit-demo"]
    names = {path.name for path in (folder / "oci-audit-demo").iterdir()}
    assert {"audit.json", "audit.json.manifest.json", "audit.json.ledger.ndjson", "config"} <= names
    for path in (folder / "oci-audit-demo").rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert not is_listening(find_port(finished.stderr))


def test_demo_runs_again_in_the_same_place(demo):
    """A second run in the same folder works as the first one did."""
    _, folder = demo
    again = run_process([find_command("oci-audit"), "demo", "--days", "1"], cwd=folder)
    assert again.code == 0, again.stderr
    assert "42 of 45 targets complete" in again.stdout.decode()


def test_demo_whose_reader_goes_away(tmp_path):
    """`oci-audit demo | head -1` shows no traceback."""
    command = [find_command("oci-audit"), "demo", "--days", "1"]
    finished = run_process(["/bin/sh", "-c", '"$@" | head -1', "sh", *command], cwd=tmp_path)
    assert "Traceback" not in finished.stderr
    assert "BrokenPipe" not in finished.stderr


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_server_ends_with_a_demo_that_is_ended(tmp_path, number):
    """The server is gone when the demo is, even after a SIGKILL, which leaves nobody to end it."""
    process = start_process([find_command("oci-audit"), "demo", "--days", "60"], cwd=tmp_path)
    first = process.stderr.readline().decode()
    port = find_port(first)
    assert is_listening(port)
    process.send_signal(number)
    process.stdout.close()
    process.stderr.close()
    process.wait(timeout=30)
    wait_until_closed(port)
    assert process.returncode == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
