"""The commands that take a file take an archive: synced by real processes from a service on which events come late."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest

import ociaudit
from support.emulator import Emulator
from support.exports import point_at, run_export
from support.processes import Finished, find_command, run_process

FLAGS = (
    *("--retention-days", "36500", "--events-per-day", "600", "--seed", "5"),
    *("--now", "2025-06-05T00:20:00Z", "--delayed-share", "0.2", "--delayed-by", "20h"),
)
SINCE = "2025-06-02"


def run(folder: Path, *words: str) -> Finished:
    """Run a command of ours in a folder."""
    return run_process([find_command("oci-audit"), *words], cwd=folder)


def sync(emulator: Emulator, folder: Path, *words: str) -> None:
    """Sync the archive in a folder."""
    command = [find_command("oci-audit"), "sync", "archive", "--config-file", str(emulator.config_path), *words]
    finished = run_process(command, cwd=folder, variables=point_at(emulator))
    assert finished.code in {0, 10}, finished.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with an archive of two syncs a day apart, and exports of the same service after the second one."""
    folder = tmp_path_factory.mktemp("place")
    with Emulator(*FLAGS) as emulator:
        sync(emulator, folder, "--start", SINCE)
        emulator.clock(advance="1d")
        sync(emulator, folder)
        scopes = {
            "all.json": ("--start", "2025-06-02", "--end", "2025-06-05"),
            "part.json": (
                *("--start", "2025-06-03T06:10Z", "--end", "2025-06-04T18:45Z"),
                *("--region", "us-ashburn-1", "--compartment", "production"),
            ),
        }
        for name, scope in scopes.items():
            words = ("--time-basis", "event-time", "--late", "30d", *scope, "-o", name)
            finished = run_export(emulator, folder, *words)
            assert finished.code in {0, 10}, finished.stderr
    return folder


@pytest.fixture
def archive(place: Path, tmp_path: Path) -> Path:
    """A copy of the archive."""
    return Path(shutil.copytree(place / "archive", tmp_path / "archive"))


PART = (
    *("--start", "2025-06-03T06:10Z", "--end", "2025-06-04T18:45Z"),
    *("--region", "iad", "--compartment", "root/production"),
)


@pytest.mark.parametrize(("name", "scope"), [("all.json", ("--end", "2025-06-05")), ("part.json", PART)])
def test_a_conversion_is_the_export_by_event_time(place: Path, tmp_path: Path, name: str, scope: tuple[str]) -> None:
    """To the byte, and private; events that came late are in it."""
    output = tmp_path / "x.json"
    finished = run(place, "convert", "archive", "-o", str(output), *scope)
    assert finished.code == 0, finished.stderr
    assert output.read_bytes() == (place / name).read_bytes()
    assert output.stat().st_size > 20_000
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    commits = [json.loads(path.read_bytes()) for path in sorted((place / "archive" / "commits").glob("*.json"))]
    assert sum(commit.get("late", {}).get("count", 0) for commit in commits) > 20
    assert any(len(list(each.iterdir())) > 1 for each in (place / "archive" / "events").iterdir())


def test_a_query_counts_what_the_export_has(place: Path) -> None:
    """Rows, columns and JSON are those of the export; a second input adds its own rows."""
    sql = (
        "SELECT count(*) AS n, count(DISTINCT event_id) AS ids, count(event->>'$.eventTime') AS times, "
        "min(event_time) AS first, count(user_agent) AS agents FROM events"
    )
    rows = {}
    for name, words in {"all.json": (), "archive": ("--end", "2025-06-05")}.items():
        finished = run(place, "query", name, sql, "--format", "json", *words)
        assert finished.code == 0, finished.stderr
        rows[name] = json.loads(finished.stdout)
    assert rows["archive"] == rows["all.json"]
    both = run(place, "query", "archive", "all.json", "SELECT count(*) AS n FROM events", "--format", "json")
    alone = run(place, "query", "archive", "SELECT count(*) AS n FROM events", "--format", "json")
    assert json.loads(both.stdout)[0]["n"] == json.loads(alone.stdout)[0]["n"] + rows["all.json"][0]["n"]
    origin = "SELECT DISTINCT origin_region FROM events"
    assert b"us-ashburn-1" in run(place, "query", "archive", "--region", "iad", origin, "--format", "csv").stdout
    assert "archive: " in alone.stderr  # the verdict: there are gaps


def test_the_verdict_is_the_same_everywhere(place: Path, tmp_path: Path) -> None:
    """Summary, report, convert, query, verify and Python say the same of one archive; verify names the gaps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        headline = ociaudit.open_archive("archive").verdict
    summary = json.loads(run(place, "summary", "archive", "--json").stdout)
    [entry] = summary["files"]
    verify = run(place, "verify", "archive", "--json")
    stated = json.loads(verify.stdout)
    assert entry["verdict"] == stated["verdict_text"]
    assert entry["state"] == stated["verdict"] == headline.kind == "incomplete"
    assert verify.code == 10
    assert len(entry["gaps"]) == len(stated["gaps"]) > 0
    page = run(place, "report", "archive", "-o", str(tmp_path / "r.html"))
    assert page.code == 10
    assert entry["verdict"][0] in page.stderr
    assert (tmp_path / "r.html").stat().st_size > 10_000
    assert f"notice: archive: {entry['verdict'][0]}" in run(place, "convert", "archive", "-o", "-").stderr
    assert sum(entry["regions"].values()) == summary["events"]


def test_a_summary_and_a_report_of_a_part(place: Path, tmp_path: Path) -> None:
    """Both count the events of the part, and the verdict is about its range."""
    expected = (place / "part.json").read_bytes().count(b"\n") - 2
    summary = json.loads(run(place, "summary", "archive", "--json", *PART).stdout)
    assert summary["events"] == expected
    assert summary["files"][0]["asked_start"] == "2025-06-03T06:10:00Z"
    page = run(place, "report", "archive", "-o", str(tmp_path / "r.html"), *PART)
    assert f"{expected} events" in page.stderr.replace(",", "")
    text = (tmp_path / "r.html").read_text("utf-8")
    start, end = (f'<span class="whole">{time}</span>' for time in ("2025-06-03 06:10", "2025-06-04 18:45"))
    assert f"{start} to {end} UTC, event time" in text
    assert '"noun":"archive"' in text


def test_a_difference_is_judged_by_what_both_cover(place: Path, archive: Path) -> None:
    """An archive equals itself and the export of it; what only one was asked for is not comparable."""
    same = run(place, "diff", "archive", str(archive))
    assert same.code == 0, same.stdout
    mixed = run(place, "diff", "archive", "all.json", "--json")
    assert mixed.code == 0, mixed.stdout
    found = json.loads(mixed.stdout)
    assert found["in_both"] == (place / "all.json").read_bytes().count(b"\n") - 2
    part = json.loads(run(place, "diff", "archive", "part.json", "--json").stdout)
    assert part["is_same"]
    assert part["a"]["not_comparable"] > part["in_both"] > 0


def test_python_reads_an_archive(place: Path) -> None:
    """Events are dictionaries by time; coverage, verdict and DuckDB are of the same commit."""
    opened = ociaudit.open_archive(place / "archive")
    lines = (place / "all.json").read_bytes()[2:-3].split(b",\n")
    assert list(opened.events(end="2025-06-05")) == list(map(json.loads, lines))
    assert len(opened.coverage) == opened.verdict.targets
    assert {one.region for one in opened.coverage} >= {"us-ashburn-1"}
    assert opened.coverage[0].windows
    with opened.to_duckdb() as connection:
        number = connection.execute(
            "SELECT count(*) FROM events WHERE event_time < TIMESTAMPTZ '2025-06-06 00:00:00Z'"
        ).fetchone()
    assert number == (len(lines),)


def assert_refused(finished: Finished, code: int, *words: str) -> None:
    """Insist on an exit code, and one sentence with these words and a hint."""
    assert finished.code == code, finished.stderr
    assert len(finished.error_lines) == len(finished.hint_lines) == 1, finished.stderr
    for word in words:
        assert word in finished.error_lines[0], finished.stderr


COMMANDS = {
    "convert": ("convert", "IN", "-o", "out.json"),
    "summary": ("summary", "IN"),
    "query": ("query", "IN", "SELECT count(*) FROM events", "-o", "out.csv"),
    "report": ("report", "IN", "-o", "out.html"),
    "diff": ("diff", "IN", "IN"),
    "verify": ("verify", "IN"),
}


def run_all(folder: Path, source: str, *more: str, omitting: str = "") -> dict[str, Finished]:
    """Run every command on an input; none may leave an output."""
    results = {
        name: run(folder, *(source if word == "IN" else word for word in words), *more)
        for name, words in COMMANDS.items()
        if name not in omitting.split()
    }
    assert not list(folder.glob("out.*"))
    return results


def test_a_folder_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    """Whether it is empty or holds other files."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.json").write_bytes(b"[\n]\n")
    for name, finished in run_all(tmp_path, "folder").items():
        assert_refused(finished, 2, "folder is a folder")
        assert "an archive" in finished.hint_lines[0], name


def test_a_half_made_archive_is_refused(archive: Path) -> None:
    """Without archive.json it is damaged; without a commit it is empty, and the hint is to sync."""
    header = (archive / "archive.json").read_bytes()
    (archive / "archive.json").unlink()
    for finished in run_all(archive.parent, "archive").values():
        assert_refused(finished, 6, "archive.json")
    (archive / "archive.json").write_bytes(header)
    (archive / "HEAD").unlink()
    shutil.rmtree(archive / "commits")
    for finished in run_all(archive.parent, "archive").values():
        assert_refused(finished, 2, "its first sync has not committed anything")
        assert "oci-audit sync" in finished.hint_lines[0]


def test_a_newer_format_is_refused(archive: Path) -> None:
    """Whether the header or a commit states it, the message names it and the way out."""
    for path in (archive / "archive.json", max((archive / "commits").iterdir())):
        data = path.read_bytes()
        name = "oci-audit-archive" if path.name == "archive.json" else "oci-audit-commit"
        path.write_bytes(data.replace(f"{name}/1".encode(), f"{name}/2".encode()))
        for finished in run_all(archive.parent, "archive").values():
            assert_refused(finished, 6, f"{name}/2")
            assert "update oci-audit" in finished.hint_lines[0]
        path.write_bytes(data)


def test_a_broken_segment_in_the_middle_is_refused(archive: Path) -> None:
    """The error names the segment, and no output appears."""
    segment = sorted((archive / "events").rglob("*.parquet"))[3]
    data = segment.read_bytes()
    segment.write_bytes(data[: len(data) // 8] + bytes(len(data) // 2) + data[len(data) // 8 + len(data) // 2 :])
    for name, finished in run_all(archive.parent, "archive", omitting="verify query diff").items():
        assert finished.code == 6, (name, finished.stderr)
        assert segment.parent.name.partition("=")[2] in finished.error_lines[0]
    whole = run(archive.parent, "query", "archive", "SELECT event FROM events", "-o", "out.csv")
    assert_refused(whole, 6, segment.name)
    assert not (archive.parent / "out.csv").exists()
    assert run(archive.parent, "verify", "archive").code == 7
    segment.unlink()
    for name, finished in run_all(archive.parent, "archive", omitting="verify").items():
        assert_refused(finished, 6, segment.name, "is missing"), name


def test_limits_are_for_archives(place: Path, tmp_path: Path) -> None:
    """A file among the inputs makes them an error with a hint; so do a manifest and an anchor with the wrong kind."""
    for words in (
        ("convert", "archive", "all.json", "-o", str(tmp_path / "x.json"), "--start", "2025-06-03"),
        ("summary", "all.json", "--end", "2025-06-03"),
        ("query", "all.json", "SELECT 1", "--region", "iad"),
        ("report", "all.json", "-o", str(tmp_path / "r.html"), "--compartment", "root"),
        ("diff", "archive", "all.json", "--start", "2025-06-03"),
    ):
        assert_refused(run(place, *words), 2, "all.json is not an archive")
    assert_refused(run(place, "verify", "all.json", "--since", "1"), 2, "is not an archive")
    assert_refused(run(place, "verify", "archive", "--manifest", "all.json.manifest.json"), 2, "has no manifest")
    assert_refused(run(place, "verify", "archive", "--expect", "1:abc"), 2, "--expect")
    swapped = ("--start", "2025-06-04", "--end", "2025-06-03")
    assert_refused(run(place, "summary", "archive", *swapped), 2, "is not before the end")
    assert_refused(run(place, "summary", "archive", "--region", "phx"), 2, "has no region 'us-phoenix-1'")
    assert_refused(run(place, "query", "SELECT 1", "archive"), 2, "the query is missing")
    assert list(tmp_path.iterdir()) == []


def test_an_archive_and_files_can_be_mixed(place: Path, tmp_path: Path) -> None:
    """The events of both are converted and counted; sorted, every record is once."""
    output = tmp_path / "x.json"
    finished = run(place, "convert", "archive", "part.json", "--sort", "-o", str(output))
    assert finished.code == 0, finished.stderr
    assert run(place, "convert", "archive", "-o", str(tmp_path / "y.json")).code == 0
    assert output.read_bytes() == (tmp_path / "y.json").read_bytes()
    summary = json.loads(run(place, "summary", "archive", "part.json", "--json").stdout)
    assert [entry["state"] for entry in summary["files"]] == ["incomplete", "complete"]


def test_nothing_is_written_into_an_archive(archive: Path) -> None:
    """An output inside it is refused, by any name, and reading leaves it as it was."""
    link = archive.parent / "link"
    link.symlink_to(archive)
    before = sorted((path, path.stat().st_mtime_ns) for path in archive.rglob("*"))
    for name in ("archive/x", "link/events/x"):
        for words in (
            ("convert", "archive", "-o", f"{name}.json"),
            ("query", "archive", "SELECT 1", "-o", f"{name}.csv"),
            ("report", "archive", "-o", f"{name}.html"),
            ("summary", "archive", "--event-counts", f"{name}.json"),
        ):
            assert run(archive.parent, *words).code == 2
    assert run(archive.parent, "convert", "link", "-o", "x.json").code == 0  # a link to an archive is one
    assert run(archive.parent, "verify", "link").code == 10
    assert sorted((path, path.stat().st_mtime_ns) for path in archive.rglob("*")) == before


def test_an_interrupted_conversion_leaves_nothing(archive: Path) -> None:
    """A reader that stops early, as head does, is no failure of the archive."""
    shell = f"{find_command('oci-audit')} query archive 'SELECT event FROM events' --format csv | head -n 1"
    finished = run_process(["/bin/sh", "-c", shell], cwd=archive.parent, variables={"PATH": os.environ["PATH"]})
    assert finished.stdout.strip() == b"event"
    assert finished.code != signal.SIGPIPE + 128
