"""Folders of Connector Hub as inputs of the commands, run as processes."""

import gzip
import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.connector_folders import (
    CONNECTOR,
    deliver,
    deliver_hours,
    make_api_event,
    make_cloud_event,
    name_delivery,
    wrap,
)
from support.processes import Finished, find_command, obey_file_modes, run_process

START = datetime(2025, 6, 1, tzinfo=UTC)
COUNT = "SELECT count(*) AS n FROM events"


def run(folder: Path, *words: str) -> Finished:
    """Run the program in a folder."""
    return run_process([find_command("oci-audit"), *words], cwd=folder)


def read_ids(path: Path) -> list[str]:
    """Return the ids in a file of lines, in its order."""
    return [json.loads(line)["eventId"] for line in path.read_bytes().splitlines()]


@pytest.mark.parametrize("pattern", ["hub", f"hub/{CONNECTOR}", "hub/*/*.log.gz", "hub/**/*Z.0.log.gz"])
def test_every_file_of_a_folder_or_pattern_is_read_in_order(pattern, tmp_path):
    """The events of all files come in the order of the ranges in their names, in the API's shape."""
    events = deliver_hours(tmp_path / "hub", 30, per_file=4)
    finished = run(tmp_path, "convert", pattern, "-o", "all.ndjson")
    assert finished.code == 0, finished.stderr
    assert "30 files of Connector Hub" in finished.stderr
    assert read_ids(tmp_path / "all.ndjson") == [event["eventId"] for event in events]
    first = json.loads((tmp_path / "all.ndjson").read_bytes().splitlines()[0])
    assert {name: first[name] for name in ("eventType", "eventTime", "data")} == {
        name: events[0][name] for name in ("eventType", "eventTime", "data")
    }


def test_processes_that_read_ahead_give_the_bytes_of_reading_one_file_after_the_other(tmp_path):
    """A folder with enough files for reading ahead gives the bytes that its files give when each is named."""
    events = deliver_hours(tmp_path / "hub", 40, per_file=500)
    padding = os.urandom(160_000).hex()  # so that the files have the size from which reading ahead pays
    wrapped = [wrap(make_cloud_event(make_api_event(10**6, START)) | {"data": {"padding": padding}}, "us-ashburn-1")]
    deliver(tmp_path / "hub", wrapped * 30, START, minutes=1)
    names = sorted(str(path.relative_to(tmp_path)) for path in (tmp_path / "hub").rglob("*.gz"))
    assert sum((tmp_path / name).stat().st_size for name in names) > 4 * 1024 * 1024
    for what, words in (("folder", ["hub"]), ("files", names)):
        finished = run(tmp_path, "convert", *words, "-o", f"{what}.ndjson", "--with-origin")
        assert finished.code == 0, finished.stderr
    assert (tmp_path / "folder.ndjson").read_bytes() == (tmp_path / "files.ndjson").read_bytes()
    assert len(read_ids(tmp_path / "folder.ndjson")) == len(events) + 30
    assert b'"origin":{"region":"us-ashburn-1"' in (tmp_path / "folder.ndjson").read_bytes()


def test_limits_select_files_by_name_and_events_by_time(tmp_path):
    """Events of the range are all written, those in files far away are left out and counted."""
    events = deliver_hours(tmp_path / "hub", 24 * 6, per_file=2)
    late = make_api_event(900_000, START + timedelta(days=2, hours=1))
    deliver(tmp_path / "hub", [make_cloud_event(late)], START + timedelta(days=4), number=7)  # 26 hours less a bit
    untimed = make_cloud_event(make_api_event(900_001, START)) | {"time": "yesterday"}
    deliver(tmp_path / "hub", [untimed], START + timedelta(days=2), number=8)
    finished = run(tmp_path, "convert", "hub", "--start", "2025-06-03", "--end", "2025-06-03", "-o", "day.ndjson")
    assert finished.code == 0, finished.stderr
    wanted = [event["eventId"] for event in events if event["eventTime"].startswith("2025-06-03")]
    assert sorted(read_ids(tmp_path / "day.ndjson")) == sorted([*wanted, late["eventId"], untimed["id"]])
    said = " ".join(finished.stderr.split())
    assert "68 of 146 files left out" in said
    assert "more than 26 hours" in said
    assert "outside the range" in said


def test_overlapping_files_are_counted_once_on_demand(tmp_path):
    """Redelivered events are written once with --sort, and counted."""
    events = deliver_hours(tmp_path / "hub", 3, per_file=5)
    deliver(tmp_path / "hub", [make_cloud_event(event) for event in events], START, minutes=180, number=1)
    finished = run(tmp_path, "convert", "hub", "--sort", "-o", "once.ndjson")
    assert finished.code == 0, finished.stderr
    assert "30 read = 15 written + 0 filtered out + 15 identical" in finished.stderr
    assert read_ids(tmp_path / "once.ndjson") == [event["eventId"] for event in events]


def test_every_command_reads_a_folder(tmp_path):
    """Summary, query, report, diff and import count the events that the files hold."""
    events = deliver_hours(tmp_path / "hub", 5, per_file=3)
    assert run(tmp_path, "convert", "hub", "-o", "all.ndjson").code == 0
    summary = json.loads(run(tmp_path, "summary", "hub", "--json").stdout)
    assert summary["events"] == len(events)
    query = run(tmp_path, "query", "hub", COUNT, "--format", "json")
    assert json.loads(query.stdout)[0]["n"] == len(events)
    report = run(tmp_path, "report", "hub", "-o", "report.html")
    assert report.code == 0, report.stderr
    assert f"{len(events)} events" in report.stderr
    diff = run(tmp_path, "diff", "hub", "all.ndjson")
    assert diff.code == 0, diff.stdout.decode() + diff.stderr
    refused = run(tmp_path, "import", "archive", "hub")
    assert refused.code == 2
    assert "is not an archive" in refused.stderr


def test_what_is_not_a_folder_of_a_connector_is_refused_by_name(tmp_path):
    """Another folder, other files beside, a pattern without a match and limits that do not apply are exit 2."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("x")
    deliver_hours(tmp_path / "hub", 2, per_file=1)
    deliver_hours(tmp_path / "mixed", 1, per_file=1)
    (tmp_path / "mixed" / "part.log.gz.tmp").write_bytes(b"")
    (tmp_path / "mixed" / ".DS_Store").write_bytes(b"")
    (tmp_path / "mixed" / name_delivery(START, START).replace("0601", "1399")).write_bytes(b"")
    cases = (
        (("convert", "other", "-o", "x.json"), "other is a folder, and neither an archive nor one with files of"),
        (("convert", "mixed", "-o", "x.json"), "2 files not named like them: mixed/20251399"),
        (("convert", "none/*.gz", "-o", "x.json"), "none/*.gz matches no file"),
        (("convert", "hub", f"hub/{CONNECTOR}", "-o", "x.json"), "name each file once"),
        (("convert", "hub", "-o", "hub/x.json"), "is inside the folder hub"),
        (("summary", "hub", "--region", "iad"), "--region and --compartment do not apply"),
        (("report", "hub", "--manifest", "x", "-o", "x.html"), "which has no manifest"),
        (("query", "hub/*/*.gz", "hub", COUNT), "name each file once"),
    )
    for words, said in cases:
        finished = run(tmp_path, *words)
        assert finished.code == 2, (words, finished.stderr)
        assert said in " ".join(finished.stderr.split()), words
        assert finished.hint_lines


@pytest.mark.parametrize("files", [3, 40])
def test_a_damaged_file_is_named_with_the_byte(files, tmp_path):
    """A truncated gzip file and one that is not gzip inside are exit 6, also where processes read ahead."""
    deliver_hours(tmp_path / "hub", files, per_file=3)
    noise = [make_cloud_event(make_api_event(1, START)) | {"data": {"x": os.urandom(3_000_000).hex()}}]
    deliver(tmp_path / "hub", noise, START + timedelta(hours=1), number=9)
    broken = deliver(tmp_path / "hub", noise, START + timedelta(hours=2), number=5)
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])
    finished = run(tmp_path, "convert", "hub", "-o", "x.json")
    assert finished.code == 6, finished.stderr
    assert f"{broken.relative_to(tmp_path)}: the gzip stream is truncated, at byte" in " ".join(finished.stderr.split())
    assert not (tmp_path / "x.json").exists()
    broken.write_bytes(gzip.compress(gzip.decompress(whole)[:-100]))
    finished = run(tmp_path, "convert", "hub", "-o", "x.json")
    assert finished.code == 6
    assert str(broken.relative_to(tmp_path)) in " ".join(finished.stderr.split())


def test_an_unreadable_folder_is_refused(tmp_path):
    """A folder below that cannot be listed is exit 5 with its name: its files are not passed over."""
    deliver_hours(tmp_path / "hub", 2, per_file=1)
    hidden = tmp_path / "hub" / "closed"
    hidden.mkdir(mode=0)
    command = obey_file_modes([find_command("oci-audit"), "convert", "hub", "-o", "x.json"])
    finished = run_process(command, cwd=tmp_path)
    hidden.chmod(0o700)
    assert finished.code == 5, finished.stderr
    assert "cannot look into hub/closed" in finished.stderr


def test_links_are_followed_once(tmp_path):
    """A link to a folder with files is followed, and one that leads back ends there."""
    deliver_hours(tmp_path / "elsewhere", 2, per_file=3)
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "one").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "hub" / "again").symlink_to(tmp_path / "hub", target_is_directory=True)
    finished = run(tmp_path, "query", "hub", COUNT, "--format", "json")
    assert finished.code == 0, finished.stderr
    assert json.loads(finished.stdout)[0]["n"] == 6
