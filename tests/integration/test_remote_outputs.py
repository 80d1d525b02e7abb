"""Outputs that go to Object Storage, and inputs that come from there, through the command line."""

import hashlib
import json
import os
import random
import signal
import time
from datetime import UTC, datetime

import pytest

import ociaudit
from support.connector_folders import deliver_hours
from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import KillableCommand
from support.processes import make_environment
from support.stands import END, KILLED, REGION, START
from support.store_stands import BUCKET, NAME, REQUESTS, URL, open_stand
from support.truth import find_compartment

pytestmark = pytest.mark.timeout(600)
FLAGS = ("--retention-days", "36500", "--events-per-day", "240", "--page-size", "60")
SIDECARS = (".ledger.ndjson", ".manifest.json")
# Calls that leave something else on the disk than stood there before.
CHANGES = ("mkdir(", "write(", "replace(", "unlink(", "rmdir(")
ALL = sorted([NAME, *(NAME + suffix for suffix in SIDECARS)])


@pytest.fixture(scope="module")
def running():
    """An emulator and a process that forks commands: every page is a commit, and the output goes in parts."""
    small = {"COMMIT_BYTES": 0, "MULTIPART_BYTES": 64 * 1024, "_PART_BYTES": 200 * 1024}
    with Emulator(*FLAGS, "--bucket", BUCKET) as emulator, KillableCommand(**small) as command:
        yield emulator, command


@pytest.fixture
def stand(running, tmp_path):
    """A stand without objects, files, faults and a log, in memory where there is a folder for that."""
    with open_stand(*running, tmp_path) as made:
        yield made


@pytest.fixture
def expected(stand) -> bytes:
    """The bytes of the same export to a file."""
    assert stand.export(output="local.json").status == 0
    content = (stand.folder / "local.json").read_bytes()
    for path in stand.folder.iterdir():
        path.unlink()
    stand.emulator.clear_log()
    return content


def test_an_export_goes_to_an_object_with_its_manifest_and_ledger(stand, expected):
    """The object has the bytes of a file, its manifest verifies it, and nothing is left on this machine."""
    ended = stand.export()
    assert ended.status == 0, ended.stderr
    assert stand.list_objects() == ALL
    assert stand.emulator.read_object(BUCKET, NAME) == expected
    assert stand.list_files() == []
    assert f"written to {URL}" in ended.stderr
    assert f"manifest {URL}.manifest.json sha256:" in ended.stderr
    verified = stand.use("verify", URL)
    assert verified.status == 0, verified.stderr + verified.stdout
    assert f"{URL}: " in verified.stdout


def test_the_output_comes_last(stand):
    """Ledger and manifest are there before the output appears."""
    stand.export()
    log = [(one["operation"], one["object"]) for one in stand.emulator.log()]
    writes = [name for operation, name in log if operation in {"PutObject", "CommitMultipartUpload"}]
    assert writes == [NAME + ".ledger.ndjson", NAME + ".manifest.json", NAME]
    assert [operation for operation, _ in log].count("UploadPart") > 1


def test_the_work_folder_is_private_and_may_be_named(stand):
    """What is not uploaded yet lies in folders of mode 0700 and files of mode 0600, below --work-folder."""
    stand.emulator.faults([{"operation": "PutObject", "times": None, "fault": {"kind": "status", "status": 400}}])
    ended = stand.export("--work-folder", "work")
    assert ended.status == 4, ended.stderr
    found = list((stand.folder / "work").rglob("*"))
    assert {one.stat().st_mode & 0o777 for one in (stand.folder / "work", *found) if one.is_dir()} == {0o700}
    assert {one.stat().st_mode & 0o777 for one in found if one.is_file()} == {0o600}
    assert any(one.name == "audit.json" for one in found)
    stand.emulator.clear_faults()
    stand.emulator.clear_log()
    assert stand.export("--work-folder", "work").status == 0
    assert stand.count_asked() == 0
    assert stand.list_objects() == ALL


def test_nothing_is_overwritten_without_being_told(stand, expected):
    """An object that is there stops the export before its first request for events, and --overwrite replaces it."""
    stand.emulator.write_object(BUCKET, NAME, b"somebody else's")
    ended = stand.export()
    assert ended.status == 2
    assert f"error: {URL} exists" in ended.stderr
    assert "--overwrite" in ended.stderr
    assert stand.count_asked() == 0
    assert stand.emulator.read_object(BUCKET, NAME) == b"somebody else's"
    assert stand.export("--overwrite").status == 0
    assert stand.emulator.read_object(BUCKET, NAME) == expected


def test_a_manifest_of_somebody_else_is_not_overwritten_either(stand):
    """An object under the manifest's name stops the export, too."""
    stand.emulator.write_object(BUCKET, NAME + ".manifest.json", b"{}")
    ended = stand.export()
    assert ended.status == 2
    assert f"{URL}.manifest.json exists" in ended.stderr
    assert stand.list_objects() == [NAME + ".manifest.json"]


def test_a_finished_export_is_not_done_again(stand):
    """The same command finds its own finished output in the bucket and requests nothing; another range is refused."""
    assert stand.export().status == 0
    stand.emulator.clear_log()
    again = stand.export()
    assert again.status == 0, again.stderr
    assert f"{URL} exists with" in again.stderr
    assert stand.count_asked() == 0
    other = stand.export("--event-name", "List*")
    assert other.status == 2
    assert stand.count_asked() == 0


def test_a_gap_is_filled_and_the_object_replaced(stand, expected):
    """An incomplete export is uploaded as that; the next run asks for the gap alone, and replaces its own objects."""
    match = {"startTime": START}
    entry = {"operation": "ListEvents", "match": match, "times": None, "fault": {"kind": "status", "status": 400}}
    stand.emulator.faults([entry])
    assert stand.export().status == 10
    assert stand.list_objects() == ALL
    assert json.loads(stand.emulator.read_object(BUCKET, NAME + ".manifest.json"))["complete"] is False
    stand.emulator.clear_faults()
    stand.emulator.clear_log()
    ended = stand.export()
    assert ended.status == 0, ended.stderr
    assert 0 < stand.count_asked() < 10
    assert stand.emulator.read_object(BUCKET, NAME) == expected
    assert stand.list_files() == []


def test_an_incomplete_object_that_another_program_replaced_stays(stand):
    """Only what this output's own upload wrote is replaced without --overwrite."""
    entry = {"operation": "ListEvents", "match": {"startTime": START}, "times": None}
    stand.emulator.faults([entry | {"fault": {"kind": "status", "status": 400}}])
    assert stand.export().status == 10
    stand.emulator.clear_faults()
    stand.emulator.write_object(BUCKET, NAME, b"another's")
    assert stand.export().status == 2
    assert stand.emulator.read_object(BUCKET, NAME) == b"another's"


def test_an_object_that_appears_during_the_export_stays(stand):
    """Another program writes the name while events are fetched: exit 2, its bytes stay, and the local file is kept."""
    arguments = stand.list_arguments("--work-folder", "work")
    entry = {"operation": "ListEvents", "times": 1, "fault": {"kind": "stall", "seconds": 1}}
    stand.emulator.faults([entry])
    variables = make_environment(stand.folder, **point_at(stand.emulator))
    running = stand.command.start(arguments, cwd=stand.folder, variables=variables)
    while not stand.count_asked():
        time.sleep(0.01)
    stand.emulator.write_object(BUCKET, NAME, b"another's")
    ended = running.wait()
    assert ended.status == 2, ended.stderr
    assert "another program" in ended.stderr
    assert stand.emulator.read_object(BUCKET, NAME) == b"another's"
    assert any(name.endswith("/audit.json") for name in stand.list_files())


def test_a_whole_export_of_a_relative_range_waits_for_its_upload(stand):
    """With a range that moves, the same command asks what to do with an export that is whole; --resume uploads it."""
    age = datetime.now(UTC) - datetime.fromisoformat(START)
    arguments = ("--start", f"{age.days + 1}d", "--end", "2025-06-03", "--region", REGION, "--no-subtree", "-o", URL)
    compartment = find_compartment(stand.emulator, "payments")
    command = ("export", *arguments, "--compartment", compartment)
    stand.emulator.faults([{"operation": "PutObject", "times": None, "fault": {"kind": "status", "status": 400}}])
    assert stand.use(*command).status == 4
    stand.emulator.clear_faults()
    stand.emulator.clear_log()
    asked = stand.use(*command)
    assert asked.status == 2, asked.stderr
    assert "its upload was not finished" in asked.stderr
    resumed = stand.use(*command, "--resume")
    assert resumed.status == 0, resumed.stderr
    assert stand.count_asked() == 0
    assert stand.list_objects() == ALL
    assert stand.list_files() == []


@pytest.mark.parametrize("command", ["export", "convert"])
def test_an_interrupted_upload_is_aborted(stand, expected, command):
    """SIGINT while parts are sent ends with 130, no object and no open upload; the same command then ends well."""
    (stand.folder / "local.json").write_bytes(expected)
    uploads = stand.emulator.count_uploads(BUCKET)
    convert = ["convert", "local.json", "-o", URL, "--config-file", str(stand.emulator.config_path)]
    arguments = stand.list_arguments() if command == "export" else convert
    stand.emulator.faults([{"operation": "UploadPart", "times": None, "fault": {"kind": "stall", "seconds": 5}}])
    variables = make_environment(stand.folder, **point_at(stand.emulator))
    running = stand.command.start(arguments, cwd=stand.folder, variables=variables)
    while not any(one["fired"] for one in stand.emulator.fault_states()):
        time.sleep(0.01)
    os.kill(running.process_id, signal.SIGINT)
    ended = running.wait()
    assert ended.status == 130, ended.stderr
    assert "while uploading" in ended.stderr
    assert NAME not in stand.list_objects()
    assert stand.emulator.count_uploads(BUCKET) == uploads
    stand.emulator.clear_faults()
    assert stand.run(*arguments).status == 0
    assert NAME in stand.list_objects()


def test_placeholders_name_the_object(stand):
    """{start} in the object's name is filled in, and in a folder's name it is refused."""
    assert stand.export(output=f"oci://{BUCKET}/x/{{start}}.json").status == 0
    assert "x/2025-06-02.json" in stand.list_objects()
    ended = stand.export(output=f"oci://{BUCKET}/{{start}}/x.json")
    assert ended.status == 2
    assert "only in the file name" in ended.stderr


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("oci://exports", "names a bucket and no object"),
        ("oci://my/exports@ns/a.json", "has a slash"),
        ("webdav://exports/a.json", "known are oci://"),
        ("oci://exports@elsewhere/a.json", "write oci://exports@ax"),
        ("oci://nowhere/a.json", "target.bucket.name = 'nowhere'"),
    ],
)
def test_a_place_that_cannot_be_used_is_explained(stand, url, words):
    """A wrong URL, namespace or bucket stops every command that takes one, before any work, with what to write."""
    stand.run("export", "--help")
    ends = [stand.export(output=url), stand.use("verify", url), stand.use("convert", url, "-o", "x.json")]
    for ended in ends:
        assert ended.status in {2, 3}, ended.stderr
        assert words in ended.stderr
        assert len([line for line in ended.stderr.splitlines() if line.startswith("error: ")]) == 1
    assert stand.count_asked() == 0


def test_manifest_elsewhere_is_refused(stand):
    """--manifest beside a URL is a usage error, because the manifest is an object beside the output."""
    ended = stand.export("--manifest", "m.json")
    assert ended.status == 2
    assert "--manifest has no effect" in ended.stderr


def test_convert_and_report_write_and_read_objects(stand, expected):
    """Convert and report take an object and write one; the result is that of files, and copies are removed."""
    assert stand.export().status == 0
    converted = f"oci://{BUCKET}/converted.csv"
    ended = stand.use("convert", URL, "-o", converted)
    assert ended.status == 0, ended.stderr
    assert f"{URL}: " in ended.stderr
    assert f"written to {converted}" in ended.stderr
    (stand.folder / "local.json").write_bytes(expected)
    assert stand.run("convert", "local.json", "-o", "local.csv").status == 0
    rows = (stand.folder / "local.csv").read_bytes()
    assert stand.emulator.read_object(BUCKET, "converted.csv").count(b"\n") == rows.count(b"\n")
    ended = stand.use("report", URL, "-o", f"oci://{BUCKET}/report.html")
    assert ended.status == 0, ended.stderr
    page = stand.emulator.read_object(BUCKET, "report.html")
    assert b"audit.json" in page
    assert b"scratch-" not in page
    assert stand.use("convert", URL, "-o", converted).status == 2
    assert stand.use("convert", URL, "-o", converted, "--overwrite").status == 0
    assert stand.list_files() == ["local.csv", "local.json"]


def test_convert_does_not_replace_an_export(stand):
    """An object with a manifest beside it is an export, which convert refuses to replace even with --overwrite."""
    assert stand.export().status == 0
    ended = stand.use("convert", URL, "--overwrite", "-o", URL)
    assert ended.status == 2
    assert "is an export with a manifest" in ended.stderr


def test_every_reader_takes_an_object(stand, expected):
    """Query, summary, diff and import read an object as they read the file, and call it by its URL."""
    assert stand.export().status == 0
    (stand.folder / "local.json").write_bytes(expected)
    count = len(json.loads(expected))
    query = stand.use("query", URL, "SELECT count(*) AS n FROM events", "--format", "json")
    assert json.loads(query.stdout) == [{"n": count}], query.stderr
    summary = stand.use("summary", URL)
    assert summary.status == 0, summary.stderr
    assert f"{URL}: {count} events" in summary.stdout
    difference = stand.use("diff", URL, "local.json")
    assert difference.status == 0, difference.stderr
    imported = stand.use("import", "archive", URL)
    assert imported.status == 0, imported.stderr
    assert f"{URL}: whole" in imported.stderr
    assert f"{count:,} events added" in imported.stderr
    assert [name for name in stand.list_files() if "scratch" in name] == []


def test_verify_finds_an_altered_object(stand):
    """An object that another program changed is altered, exit 7."""
    assert stand.export().status == 0
    content = bytearray(stand.emulator.read_object(BUCKET, NAME))
    content[len(content) // 2] ^= 1
    stand.emulator.write_object(BUCKET, NAME, bytes(content))
    ended = stand.use("verify", URL)
    assert ended.status == 7, ended.stderr
    assert "ALTERED" in ended.stdout


def test_an_object_that_is_not_there_is_named(stand):
    """A missing object is exit 2 with its URL."""
    ended = stand.use("summary", URL)
    assert ended.status == 2
    assert f"there is no object {URL}" in ended.stderr


def test_the_library_exports_to_an_object(stand, expected, monkeypatch):
    """ociaudit.export takes a URL as its output, and a work folder."""
    for name, value in point_at(stand.emulator).items():
        monkeypatch.setenv(name, value)
    result = ociaudit.export(
        START,
        END,
        output=URL,
        work_folder=stand.folder / "work",
        config_file=str(stand.emulator.config_path),
        regions=[REGION],
        compartments=[find_compartment(stand.emulator, "payments")],
        is_subtree=False,
    )
    assert result.complete
    assert URL in repr(result)
    assert stand.emulator.read_object(BUCKET, NAME) == expected


def check_after_kill(stand, expected, where, *, uploads=0) -> None:
    """Insist that nothing partial is visible, that the same command ends well, and that nothing is left."""
    names = stand.list_objects()
    if NAME in names:
        assert stand.emulator.read_object(BUCKET, NAME) == expected, where
        assert names == ALL, where
    again = stand.export()
    assert again.status == 0, f"{where}: {again.stderr}"
    assert stand.emulator.read_object(BUCKET, NAME) == expected, where
    assert stand.list_objects() == ALL, where
    assert stand.emulator.count_uploads(BUCKET) <= uploads, where
    assert stand.list_files() == [], where
    manifest = json.loads(stand.emulator.read_object(BUCKET, NAME + ".manifest.json"))
    assert manifest["output"]["sha256"] == hashlib.sha256(expected).hexdigest(), where


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_call_leaves_the_whole_or_nothing(stand, expected, when):
    """Killed at every change of the disk and every request to the store, the same command ends with the same object."""
    undisturbed = stand.export(counts_requests=True)
    assert undisturbed.status == 0, undisturbed.stderr
    requests = [number for number, call in enumerate(undisturbed.calls, 1) if call.startswith(REQUESTS)]
    created = next(number for number in requests if undisturbed.calls[number - 1].endswith("/u"))
    recorded = next(
        number for number, call in enumerate(undisturbed.calls, 1) if number > created and call.startswith("replace(")
    )
    assert len(requests) >= 8
    changes = [number for number, call in enumerate(undisturbed.calls, 1) if call.startswith((*REQUESTS, *CHANGES))]
    for call in [number for number in changes if number >= requests[0]] if when == "before" else requests:
        text = undisturbed.calls[call - 1]
        if requests[3] < call < requests[4]:
            continue  # the spool's own calls, which test_kill_points kills
        stand.empty()
        uploads = stand.emulator.count_uploads(BUCKET)
        killed = stand.export(call=call, when=when, counts_requests=True)
        assert killed.status == KILLED, f"{text}: {killed.stderr}"
        # The id of an upload that a kill leaves before it is on record is known to nobody.
        uploads += created <= call <= recorded
        check_after_kill(stand, expected, f"killed {when} call {call}: {text}", uploads=uploads)


def test_a_kill_at_a_random_moment_leaves_the_whole_or_nothing(stand, expected):
    """A real process that is killed at random moments, and started again, ends with the same object."""
    started = time.monotonic()
    assert stand.export().status == 0
    seconds = time.monotonic() - started
    randomness = random.Random(os.urandom(8))
    kills = 0
    while kills < 12:
        stand.empty()
        uploads = stand.emulator.count_uploads(BUCKET)
        variables = make_environment(stand.folder, **point_at(stand.emulator))
        running = stand.command.start(stand.list_arguments(), cwd=stand.folder, variables=variables)
        time.sleep(randomness.uniform(0, seconds))
        os.kill(running.process_id, signal.SIGKILL)
        if running.wait().status == 0:
            continue
        kills += 1
        check_after_kill(stand, expected, "killed at random", uploads=uploads + 1)


def test_what_a_connector_delivered_below_a_url_is_read(stand, tmp_path):
    """Every file below a URL is read like those of a folder, and a range leaves files out by their names."""
    local = tmp_path / "delivered"
    events = deliver_hours(local, 72, per_file=3)
    for path in local.rglob("*.gz"):
        stand.emulator.write_object(BUCKET, f"logs/{path.relative_to(local)}", path.read_bytes())
    url = f"oci://{BUCKET}/logs/"
    assert stand.use("convert", str(local), "-o", "local.ndjson").status == 0
    whole = stand.use("convert", url, "-o", "remote.ndjson")
    assert whole.status == 0, whole.stderr
    assert (stand.folder / "remote.ndjson").read_bytes() == (stand.folder / "local.ndjson").read_bytes()
    assert f"error: {tmp_path}" not in whole.stderr
    stand.emulator.clear_log()
    part = stand.use("convert", url, "--start", "2025-06-03T06:00Z", "--end", "2025-06-03T07:00Z", "-o", "part.ndjson")
    assert part.status == 0, part.stderr
    assert "of 72 files left out" in part.stderr
    wanted = {one["eventId"] for one in events if one["eventTime"].startswith("2025-06-03T06")}
    assert {json.loads(line)["eventId"] for line in (stand.folder / "part.ndjson").read_bytes().splitlines()} == wanted
    got = {one["object"] for one in stand.emulator.log() if one["operation"] == "GetObject"}
    assert 0 < len([name for name in got if name.endswith(".gz")]) < 72
    assert stand.list_files() == ["local.ndjson", "part.ndjson", "remote.ndjson"]


def test_other_objects_below_a_url_are_refused_by_name(stand, tmp_path):
    """What is not named like a connector's file may hold events, so nothing is read."""
    deliver_hours(tmp_path / "delivered", 1, per_file=3)
    for path in (tmp_path / "delivered").rglob("*.gz"):
        stand.emulator.write_object(BUCKET, f"logs/{path.name}", path.read_bytes())
    stand.emulator.write_object(BUCKET, "logs/notes.json", b"[]")
    ended = stand.use("summary", f"oci://{BUCKET}/logs")
    assert ended.status == 2
    assert "1 file not named like them: logs/notes.json" in ended.stderr


def test_a_range_without_a_delivered_file_is_explained(stand, tmp_path):
    """Where no file's name is near the range, the command ends with exit 2 and writes nothing."""
    deliver_hours(tmp_path / "delivered", 1, per_file=3)
    for path in (tmp_path / "delivered").rglob("*.gz"):
        stand.emulator.write_object(BUCKET, f"logs/{path.name}", path.read_bytes())
    ended = stand.use("convert", f"oci://{BUCKET}/logs", "--start", "2024-01-01", "--end", "2024-01-02", "-o", "x.json")
    assert ended.status == 2
    assert f"oci://{BUCKET}/logs has no file for this range" in ended.stderr
    assert stand.list_files() == []


def test_a_delivered_object_that_cannot_be_read_ends_the_command(stand, tmp_path):
    """An object that is listed and no longer readable is named, and nothing is written."""
    deliver_hours(tmp_path / "delivered", 2, per_file=3)
    for path in (tmp_path / "delivered").rglob("*.gz"):
        stand.emulator.write_object(BUCKET, f"logs/{path.name}", path.read_bytes())
    stand.emulator.faults(
        [{"operation": "GetObject", "skip": 2, "times": None, "fault": {"kind": "status", "status": 404}}]
    )
    ended = stand.use("convert", f"oci://{BUCKET}/logs", "-o", "x.json")
    assert any(one["fault"] for one in stand.emulator.log() if one["operation"] == "GetObject")
    assert ended.status not in {0, 1}
    assert "/logs/2025" in ended.stderr
    assert ".log.gz" in ended.stderr
    assert "hint:" in ended.stderr
    assert stand.list_files() == []
