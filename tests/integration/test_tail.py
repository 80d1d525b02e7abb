"""`oci-audit tail` as people run it: lines, cursors, signals, readers that go away, and bad input."""

from __future__ import annotations

import hashlib
import json
import signal
import subprocess
from pathlib import Path

import pytest

from support.event_archives import TARGET, EventArchive, make_event
from support.processes import Finished, find_command, finish_process, run_process, start_process

HARD = [
    make_event(1, text="\ud800 lone"),
    make_event(2, text="line\nbreak\r\u2028\u2029\x85"),
    make_event(3, record_id="mine", origin="mine"),
    make_event(4, record_id_=1, record_id=2),
    b'{"eventTime":"2025-12-01T01:00:00Z","eventId":"5","\\u0072ecord_id":"hidden"}',
]


@pytest.fixture
def archive(tmp_path) -> EventArchive:
    """An archive of two commits."""
    archive = EventArchive(tmp_path / "archive")
    archive.add(HARD)
    archive.add([make_event(number, date="2025-12-02") for number in range(20)])
    return archive


def tail(archive: EventArchive, *arguments: str) -> Finished:
    """Run the command beside the archive."""
    command = [find_command("oci-audit"), "tail", "archive", *arguments]
    return run_process(command, cwd=archive.path.parent)


def start(archive: EventArchive, *arguments: str) -> subprocess.Popen[bytes]:
    """Start the command beside the archive."""
    return start_process([find_command("oci-audit"), "tail", "archive", *arguments], cwd=archive.path.parent)


def read_cursor(archive: EventArchive) -> dict[str, object]:
    """Return what the file `c` holds."""
    return json.loads((archive.path.parent / "c").read_bytes())


def test_each_call_gives_what_is_new_as_lines(archive) -> None:
    """The first call gives every event as served, one per line; the next ones what later commits add."""
    first = tail(archive, "--cursor", "c")
    assert first.code == 0
    assert first.stdout.split(b"\n")[:5] == HARD
    assert len(first.stdout.splitlines()) == first.stdout.count(b"\n") == 25
    assert tail(archive, "--cursor", "c").stdout == b""
    archive.add([make_event(50), make_event(1, date="2025-12-02")])
    assert tail(archive, "--cursor", "c").stdout == make_event(50) + b"\n"
    assert (archive.path.parent / "c").stat().st_mode & 0o777 == 0o600


def test_the_record_id_is_the_hash_of_the_event_as_served(archive) -> None:
    """`--with-record-id` adds the SHA-256 as the last member, in any shape, under a name that is free."""
    for shape in ("api", "cli"):
        lines = tail(archive, "--with-record-id", "--with-origin", "--shape", shape).stdout.splitlines()
        for raw, line in zip(HARD, lines, strict=False):
            pairs = json.loads(line, object_pairs_hook=list)
            name, value = pairs[-1]
            assert value == hashlib.sha256(raw).hexdigest()
            assert [key for key, _ in pairs].count(name) == 1
            assert dict(pairs[-2][1]) == {"region": TARGET.region, "compartment": TARGET.compartment}
    assert json.loads(lines[2])["record_id_"] == hashlib.sha256(HARD[2]).hexdigest()


def test_what_a_kill_left_of_a_line_spoils_no_other(archive) -> None:
    """A file to append to whose last line is cut off gets a line break first: every event is a line of its own."""
    path = archive.path.parent / "out.ndjson"
    path.write_bytes(HARD[0] + b"\n" + HARD[1][:20])
    command = f"{find_command('oci-audit')} tail archive --cursor c --quiet >> out.ndjson"
    assert run_process(["sh", "-c", command], cwd=archive.path.parent).code == 0
    lines = path.read_bytes().split(b"\n")
    assert lines[:2] == [HARD[0], HARD[1][:20]]
    assert lines[2:7] == HARD
    archive.add([make_event(50)])
    assert run_process(["sh", "-c", command], cwd=archive.path.parent).code == 0
    assert path.read_bytes().split(b"\n")[-2:] == [make_event(50), b""]
    assert b"\n\n" not in path.read_bytes()


def test_a_filter_selects_and_the_cursor_passes_the_rest(archive) -> None:
    """Events that a filter drops are not given later, either."""
    found = tail(archive, "--cursor", "c", "--event-after", "2025-12-02T00:00:10Z")
    assert len(found.stdout.splitlines()) == 10
    assert tail(archive, "--cursor", "c").stdout == b""


def test_follow_gives_new_commits_until_a_signal(archive) -> None:
    """With `--follow` a commit's events appear while it runs; SIGTERM ends it with 143, and nothing comes twice."""
    process = start(archive, "--cursor", "c", "--follow")
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(25)]
    archive.add([make_event(60)])
    lines.append(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    ended = finish_process(process)
    assert ended.code == 143
    assert ended.stdout == b""
    assert lines[-1] == make_event(60) + b"\n"
    assert tail(archive, "--cursor", "c").stdout == b""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_nobody_reads_loses_nothing(archive, number) -> None:
    """A reader that pauses does not keep the process from ending, and what was not written comes again."""
    archive.add([make_event(one, date="2025-12-03", text="x" * 2000) for one in range(1000)])
    process = start(archive, "--cursor", "c")
    assert process.stdout is not None
    first = process.stdout.readline()  # now it writes, and the pipe fills up
    process.send_signal(number)
    process.wait(timeout=60)
    ended = finish_process(process)
    assert ended.code == 128 + number
    assert "interrupted" in ended.stderr
    read = (first + ended.stdout).splitlines()
    rest = tail(archive, "--cursor", "c").stdout.splitlines()
    assert len(read) < 1025, "the signal came too late to test anything"
    assert len({*read, *rest} & {make_event(one, date="2025-12-03", text="x" * 2000) for one in range(1000)}) == 1000


@pytest.mark.parametrize("options", [(), ("--follow",)])
def test_a_reader_that_goes_away_ends_it(archive, options) -> None:
    """When stdout is closed, the command ends with 5 and a sentence, even while it waits for commits."""
    archive.add([make_event(one, date="2025-12-03", text="x" * 2000) for one in range(200)])
    process = start(archive, "--cursor", "c", *options)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 5
    assert process.stderr is not None
    assert b"stdout was closed by its reader" in process.stderr.read()
    process.stderr.close()
    assert len(tail(archive, "--cursor", "c").stdout.splitlines()) > 0


def test_a_reader_that_leaves_while_nothing_comes_is_noticed(archive) -> None:
    """With `--follow`, a closed stdout is noticed without a further event."""
    process = start(archive, "--cursor", "c", "--follow")
    assert process.stdout is not None
    for _ in range(25):
        process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=60) == 5
    assert process.stderr is not None
    process.stderr.close()
    assert read_cursor(archive)["sequence"] == 3


def test_a_disk_that_cannot_take_the_cursor_is_reported_before_an_event(archive) -> None:
    """Where the cursor's folder does not exist, nothing is written to stdout."""
    ended = tail(archive, "--cursor", "missing/c")
    assert ended.code in {2, 5}
    assert ended.stdout == b""
    assert "missing" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--cursor", "archive/c"), "inside the archive"),
        (("--cursor", "."), "."),
        (("--cursor", "archive/HEAD"), "inside the archive"),
        (("--shape", "xml"), "shape"),
        (("--event-after", "never"), "never"),
    ],
)
def test_bad_options_are_refused(archive, arguments, words) -> None:
    """Each has one sentence and exit 2, and stdout stays empty."""
    ended = tail(archive, *arguments)
    assert (ended.code, ended.stdout) == (2, b"")
    assert words in ended.error_lines[0]
    assert len(ended.hint_lines) == 1


def test_what_is_no_archive_is_refused(tmp_path) -> None:
    """A folder without an archive, a file and nothing at all: exit 2."""
    (tmp_path / "file").write_text("x")
    (tmp_path / "folder").mkdir()
    for name in ("file", "folder", "missing"):
        ended = run_process([find_command("oci-audit"), "tail", name], cwd=tmp_path)
        assert ended.code == 2, ended.stderr
        assert name in ended.error_lines[0]


def test_import_and_prune_as_commands(archive, tmp_path) -> None:
    """Both tell what they did; pruning without `--yes` is exit 2 and says so; `tail` gives what was imported."""
    oci_audit = find_command("oci-audit")
    tail(archive, "--cursor", "c")
    (tmp_path / "more.ndjson").write_bytes(make_event(70, date="2024-01-01") + b"\n" + HARD[1] + b"\n")
    for extra, words in ((("--dry-run",), "1 event would be added"), ((), "1 event added"), ((), "nothing was new")):
        ended = run_process([oci_audit, "import", "archive", "more.ndjson", *extra], cwd=tmp_path)
        assert ended.code == 0, ended.stderr
        assert words in ended.stderr
    assert tail(archive, "--cursor", "c").stdout == make_event(70, date="2024-01-01") + b"\n"
    command = [oci_audit, "prune", "archive", "--before", "2025-01-01"]
    ended = run_process(command, cwd=tmp_path)
    assert (ended.code, ended.stdout) == (2, b"")
    assert "1 date would go: 2024-01-01; 1 event" in ended.stderr
    assert "--yes" in ended.hint_lines[0]
    ended = run_process([*command, "--yes", "--reason", "policy"], cwd=tmp_path)
    assert ended.code == 0, ended.stderr
    assert "1 date removed" in ended.stderr
    assert run_process([*command, "--yes"], cwd=tmp_path).code == 0
    commits = sorted(Path(archive.path / "commits").glob("*.json"))
    assert json.loads(commits[-1].read_bytes())["reason"] == "policy"
