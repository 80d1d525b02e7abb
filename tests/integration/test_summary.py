"""`oci-audit summary` on exports of the made tenancy: the hidden story must be seen, and little else."""

import json
import re
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.emulator import Emulator
from support.exports import run_export
from support.processes import Finished, find_command, run_process
from support.sample_events import encode_event, encode_export


def run_summary(folder: Path, *arguments: str) -> Finished:
    """Run `oci-audit summary` in a folder."""
    return run_process([find_command("oci-audit"), "summary", *arguments], cwd=folder)


def export_story(seed: int, folder: Path) -> tuple[dict, Path]:
    """Export a week of the made tenancy that ends half a day after the last story; return its facts."""
    with Emulator("--seed", str(seed), "--retention-days", "36500", "--events-per-day", "600") as emulator:
        story = emulator.tenancy()["story"]
        end = datetime.fromisoformat(story["endTime"]) + timedelta(hours=6)
        start = end - timedelta(days=5)
        span = [moment.strftime("%Y-%m-%dT%H:%M:00Z") for moment in (start, end)]
        root = emulator.tenancy()["id"]
        done = run_export(emulator, folder, "--start", span[0], "--end", span[1], "-o", "audit.json", "--quiet")
        assert done.code == 10, done.stderr
        assert root
    return story, folder / "audit.json"


@pytest.fixture(scope="module", params=[1, 2], ids=lambda seed: f"seed {seed}")
def told(request, tmp_path_factory):
    """A story, the file that hides it, and what the summary says of the file."""
    folder = tmp_path_factory.mktemp("told")
    story, path = export_story(request.param, folder)
    done = run_summary(folder, path.name)
    assert done.code == 0, done.stderr
    return story, path, done.stdout.decode()


def test_the_story_is_the_first_thing_to_look_at(told) -> None:
    """Principal, address, guessed password, key and policy are in the first lines after `findings`."""
    story, _, text = told
    lines = text.splitlines()
    at = lines.index("findings") + 1
    assert lines[at].startswith(f"!! {story['victimName']} from {story['address']}")
    told_lines = "\n".join(lines[at + 1 : at + 7])
    assert f"{story['failedSignIns']} failed sign-ins; one succeeded" in told_lines
    assert f"UploadApiKey {story['newFingerprint']}" in told_lines
    assert f"CreatePolicy: {story['policyStatement']}" in told_lines
    assert f"{story['burstCalls']} calls" in told_lines
    assert re.search(r"DeleteApiKey by ci-deployer", told_lines)
    assert at < 12


def test_nothing_else_is_told_as_a_story(told) -> None:
    """In five ordinary days of twelve principals no other pair weighs as much."""
    _, _, text = told
    assert text.count("\n!! ") == 1


def test_json_names_the_events(told, tmp_path) -> None:
    """The JSON has the event ids of the story, which lead to the events in the file."""
    story, path, _ = told
    done = run_summary(tmp_path, str(path), "--json", "--event-counts", "counts.json")
    assert done.code == 0, done.stderr
    summary = json.loads(done.stdout)
    finding = summary["findings"][0]
    assert (finding["principal"], finding["address"]) == (story["victimName"], story["address"])
    events = {event["eventId"]: event for event in json.loads(path.read_bytes())}
    named = [events[line["event_id"]]["data"]["eventName"] for line in finding["timeline"] if line["event_id"]]
    assert named == ["UploadApiKey", "CreatePolicy", "DeleteApiKey"]
    counts = json.loads((tmp_path / "counts.json").read_bytes())
    names = [event["data"]["eventName"] for event in events.values() if event["data"]["eventName"]]
    assert counts == {name: names.count(name) for name in set(names)}
    assert list(counts.values()) == sorted(counts.values(), reverse=True)
    assert (tmp_path / "counts.json").stat().st_mode & 0o077 == 0
    assert summary["events"] == len(events)
    assert summary["files"][0]["state"] == "incomplete"
    assert len(summary["files"][0]["gaps"]) == 3


def test_gaps_are_shown_and_an_altered_file_is_noticed(told, tmp_path) -> None:
    """What the manifest states is shown; a file of another size than it states has no known coverage."""
    _, path, text = told
    assert "coverage   INCOMPLETE: 3 gaps" in text
    manifest = path.with_name("audit.json.manifest.json").read_bytes()
    (tmp_path / "b.json").write_bytes(encode_export([encode_event("ListUsers")]))
    (tmp_path / "b.json.manifest.json").write_bytes(manifest)
    assert b"coverage   ALTERED" in run_summary(tmp_path, "b.json").stdout
    (tmp_path / "b.json.manifest.json").write_bytes(b"{}")
    assert run_summary(tmp_path, "b.json").code == 6


def test_stdin_and_several_files(tmp_path) -> None:
    """Files and stdin are counted together, and the summary says what that means."""
    (tmp_path / "a.json").write_bytes(encode_export([encode_event("ListUsers")]))
    command = '"$0" summary a.json - < a.json'
    done = run_process(["/bin/sh", "-c", command, find_command("oci-audit")], cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert b"a.json, stdin: 2 events" in done.stdout
    assert b"note: an event that occurs in several files is counted several times" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["cut.json"], 6, "cut.json"),
        (["empty.json"], 6, "empty.json is empty"),
        (["text.json"], 6, "text.json"),
        (["none.json"], 2, "does not exist"),
        (["good.json", "--event-counts", "good.json"], 2, "is an input"),
        (["good.json", "--event-counts", "there.json"], 2, "there.json exists"),
        (["good.json", "--event-counts", "none/x.json"], 2, "the folder none does not exist"),
        ([], 2, "FILE"),
    ],
)
def test_bad_input_is_a_sentence(tmp_path, arguments, code, words) -> None:
    """What cannot be read or written is told with a hint, and leaves nothing behind."""
    good = encode_export([encode_event("ListUsers")] * 3)
    files = {"good.json": good, "cut.json": good[:-30], "empty.json": b"", "text.json": b"hello\n", "there.json": b"{}"}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    done = run_summary(tmp_path, *arguments)
    assert done.code == code
    assert words in done.error_lines[0]
    assert done.hint_lines
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == files
