"""Archives in Object Storage: synced by one writer, refused to a second, killed at any request, read from anywhere."""

import contextlib
import json
import shutil
import signal
import time

import pytest

from ociaudit.archive.remote import hold_copy
from ociaudit.errors import Interrupted, UsageError
from ociaudit.operations.context import Cancellation
from support.emulator import Emulator
from support.exports import point_at
from support.kill_at_call import KillableCommand
from support.processes import make_environment
from support.stands import KILLED
from support.store_stands import BUCKET, REQUESTS, open_stand

pytestmark = pytest.mark.timeout(600)
ARCHIVE = "audit/archive"
URL = f"oci://{BUCKET}/{ARCHIVE}"
NOW = "2025-06-20T12:00:00Z"
FLAGS = ("--retention-days", "36500", "--events-per-day", "60", "--now", NOW)
ARGUMENTS = ("--start", "2025-06-17", "--region", "us-ashburn-1", "--quiet", "--waive", "investigations")
COMMIT = f"{ARCHIVE}/commits/000000000001.json"


@pytest.fixture(scope="module")
def running():
    """An emulator and a process that forks commands."""
    with Emulator(*FLAGS, "--bucket", BUCKET) as emulator, KillableCommand(COMMIT_SECONDS=60) as command:
        yield emulator, command


@pytest.fixture
def stand(running, tmp_path):
    """A stand without objects and files; the service's clock is where it began."""
    with open_stand(*running, tmp_path) as made:
        made.emulator.clock(now=NOW)
        yield made


def sync(stand, *options, work="work", url=URL, **kill):
    """Sync the archive."""
    return stand.use("sync", url, *ARGUMENTS, "--work-folder", work, *options, **kill)


def read(stand, name):
    """Return an object of the archive."""
    return stand.emulator.read_object(BUCKET, f"{ARCHIVE}/{name}")


def list_kept(stand):
    """Return the names of the archive's objects that are part of it, relative to it."""
    return [name.removeprefix(ARCHIVE + "/") for name in stand.list_objects()]


def find_copy(stand, work="work"):
    """Return the writer's folder."""
    (header,) = (stand.folder / work / "archives").glob("*/archive/archive.json")
    return header.parent


def count_rows(stand, place=URL, *options):
    """Return how many events the archive has, as a reader in a folder of its own sees it."""
    sql = "SELECT count(*) AS n FROM events"
    ended = stand.use("query", place, sql, "--format", "json", "--work-folder", "reader", *options)
    assert ended.status == 0, ended.stderr
    return json.loads(ended.stdout)[0]["n"]


def test_a_synced_archive_is_in_the_store_as_in_the_folder(stand):
    """Commits, segments and HEAD are objects with the bytes of the folder's files, and every reader takes the URL."""
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    folder = find_copy(stand)
    names = list_kept(stand)
    assert {"archive.json", "HEAD", "commits/000000000001.json"} <= set(names)
    for name in names:
        assert read(stand, name) == (folder / name).read_bytes(), name
    rows = count_rows(stand)
    assert rows > 0
    assert rows == count_rows(stand, str(folder))
    verified = stand.use("verify", URL, "--work-folder", "reader")
    assert verified.status == 0, verified.stderr + verified.stdout
    assert f"{URL}" in verified.stdout
    status = stand.use("status", URL, "--work-folder", "reader")
    assert status.status == 0, status.stderr
    assert f"archive     {URL}" in status.stdout
    tail = stand.use("tail", URL, "--work-folder", "reader", "--cursor", "c")
    assert tail.stdout.count("\n") == rows, tail.stderr
    converted = stand.use("convert", URL, "-o", "all.ndjson", "--work-folder", "reader")
    assert converted.status == 0, converted.stderr
    assert (stand.folder / "all.ndjson").read_bytes().count(b"\n") == rows
    assert [name for name in stand.list_files() if "scratch" in name] == []


def test_a_second_sync_pushes_what_is_new(stand):
    """A later sync adds a commit and its segments, replaces HEAD, and a tail gives the new events alone."""
    assert sync(stand).status == 0
    first = count_rows(stand)
    assert stand.use("tail", URL, "--cursor", "c", "--work-folder", "reader").stdout.count("\n") == first
    stand.emulator.clock(advance="1d")
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    newest = json.loads(read(stand, "HEAD"))["sequence"]
    assert newest > 1
    second = count_rows(stand)
    assert second > first
    assert stand.use("tail", URL, "--cursor", "c", "--work-folder", "reader").stdout.count("\n") == second - first
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


def test_another_work_folder_continues_the_archive(stand):
    """A writer with an empty work folder copies the commits, and only the segments that it has to merge with."""
    assert sync(stand).status == 0
    stand.emulator.clock(advance="1h")
    stand.emulator.clear_log()
    ended = sync(stand, work="other")
    assert ended.status == 0, ended.stderr
    fetched = {one["object"] for one in stand.emulator.log() if one["operation"] == "GetObject"}
    segments = [name for name in list_kept(stand) if name.startswith("events/")]
    assert len([name for name in fetched if name and "/events/" in name]) < len(segments)
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0
    # The first writer finds what the other one did, and continues from there.
    stand.emulator.clock(advance="1h")
    assert sync(stand).status == 0
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


def test_of_two_writers_one_is_refused_by_the_store(stand):
    """Two writers with the same next commit: the store takes the first, the second is named, and nothing is lost."""
    assert sync(stand).status == 0
    shutil.copytree(stand.folder / "work", stand.folder / "other")
    stand.emulator.clock(advance="1h")
    # Both have seen the same store: the second one pulls, and then commits what the first one has committed meanwhile.
    hold = {"operation": "ListEvents", "times": 1, "fault": {"kind": "stall", "seconds": 3}}
    stand.emulator.faults([hold])
    variables = make_environment(stand.folder, **point_at(stand.emulator))
    arguments = ["sync", URL, *ARGUMENTS, "--work-folder", "other", "--config-file", str(stand.emulator.config_path)]
    with KillableCommand() as command:
        slow = command.start(arguments, cwd=stand.folder, variables=variables)
        while not any(one["fired"] for one in stand.emulator.fault_states()):
            time.sleep(0.01)
        fast = sync(stand)
        refused = slow.wait()
    assert fast.status == 0, fast.stderr
    assert refused.status == 2, refused.stderr
    assert "another oci-audit has written commit" in refused.stderr
    assert "rm -r" in refused.stderr
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0
    again = sync(stand, work="other")
    assert again.status == 2, again.stderr
    shutil.rmtree(find_copy(stand, "other"))
    assert sync(stand, work="other").status == 0
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


@pytest.mark.parametrize("fault", [{"kind": "reset"}, {"kind": "status", "status": 503}])
def test_a_lost_answer_to_the_commit_is_no_other_writer(stand, fault):
    """The put of the commit succeeded and its answer was lost: the commit is recognized as our own."""
    entry = {"operation": "PutObject", "match": {"object": COMMIT}, "times": 1, "effect": "done", "fault": fault}
    stand.emulator.faults([entry])
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    assert [one["fired"] for one in stand.emulator.fault_states()] == [1]
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


def test_a_store_that_keeps_its_head_is_followed_by_its_commits(stand):
    """Where HEAD may not be replaced, a sync says so and goes on, and readers find the newest commit."""
    assert sync(stand).status == 0
    denied = {"kind": "status", "status": 403, "code": "NotAllowed"}
    match = {"object": f"{ARCHIVE}/HEAD"}
    stand.emulator.faults([{"operation": "PutObject", "match": match, "times": None, "fault": denied}])
    stand.emulator.clock(advance="1d")
    before = read(stand, "HEAD")
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    assert "readers follow the commits" in ended.stderr
    assert read(stand, "HEAD") == before
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


def test_a_bucket_without_permission_is_named(stand):
    """A bucket that may not be used ends the sync before its first request for events."""
    ended = sync(stand, url="oci://nowhere/archive")
    assert ended.status == 3, ended.stderr
    assert "target.bucket.name = 'nowhere'" in ended.stderr
    assert stand.count_asked() == 0


def test_a_damaged_segment_is_not_read(stand):
    """A segment whose object was changed is exit 6 for a reader, and exit 7 for verify, by its URL."""
    assert sync(stand).status == 0
    name = next(name for name in list_kept(stand) if name.startswith("events/"))
    stand.emulator.write_object(BUCKET, f"{ARCHIVE}/{name}", b"PAR1")
    ended = stand.use("query", URL, "SELECT 1", "--work-folder", "reader")
    assert ended.status == 6, ended.stderr
    assert f"{URL}/{name}" in ended.stderr
    verified = stand.use("verify", URL, "--work-folder", "reader")
    assert verified.status == 7, verified.stdout
    assert name in verified.stdout


def test_a_surplus_object_is_found(stand):
    """A segment that no commit names is reported by verify."""
    assert sync(stand).status == 0
    stand.emulator.write_object(BUCKET, f"{ARCHIVE}/events/event_date=2025-06-18/{'0' * 32}.parquet", b"x")
    verified = stand.use("verify", URL, "--work-folder", "reader")
    assert verified.status == 7, verified.stdout
    assert "no commit names it" in verified.stdout


def test_what_is_not_an_archive_is_named(stand):
    """Readers of a URL without an archive end with its name."""
    for command in (["status", URL], ["tail", URL], ["query", URL, "SELECT 1"], ["verify", URL]):
        ended = stand.use(*command)
        assert ended.status == 2, ended.stderr
        assert URL in ended.stderr


def test_replaced_segments_move_out_of_the_way(stand):
    """After a compaction, the store's live segments are those of the folder, and the former ones are in replaced/."""
    assert sync(stand).status == 0
    stand.emulator.clock(advance="1d")
    assert sync(stand).status == 0
    stand.emulator.clock(advance="12d")
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    folder = find_copy(stand)
    names = [name for name in list_kept(stand) if name.endswith(".parquet")]
    here = sorted(str(one.relative_to(folder)) for one in folder.rglob("*.parquet"))
    assert any(name.startswith("replaced/") for name in names)
    assert names == here
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


def test_a_reader_waits_for_another_one_until_it_is_stopped(tmp_path):
    """A copy that another reader holds is waited for; a signal ends the wait, and so does the end of patience."""
    holder = contextlib.ExitStack()
    holder.enter_context(hold_copy(tmp_path))
    with pytest.raises(UsageError, match="another oci-audit process"), hold_copy(tmp_path):
        pass
    stopped = Cancellation()
    stopped.cancel(signal.SIGINT)
    with pytest.raises(Interrupted), hold_copy(tmp_path, patience_seconds=600, check=stopped.check):
        pass
    with hold_copy(tmp_path, patience_seconds=600, check=holder.close):  # released while it is waited for
        pass


def test_replaced_segments_that_a_push_left_go_with_a_later_sync(stand):
    """Where the store did not let a sync remove what a compaction replaced, a later one does: engines read it twice."""
    refused = {"kind": "status", "status": 403, "code": "NotAllowed"}
    assert sync(stand).status == 0
    stand.emulator.clock(advance="1d")
    assert sync(stand).status == 0
    stand.emulator.clock(advance="12d")
    stand.emulator.faults([{"operation": "DeleteObject", "times": None, "fault": refused}])
    ended = sync(stand)
    assert ended.status == 0, ended.stderr
    assert "stays where it was" in ended.stderr
    live = {str(one.relative_to(find_copy(stand))) for one in (find_copy(stand) / "events").rglob("*.parquet")}
    left = {name for name in list_kept(stand) if name.startswith("events/") and name.endswith(".parquet")}
    assert left > live
    stand.emulator.clear_faults()
    stand.emulator.clock(advance="3d")
    assert sync(stand).status == 0
    live = {str(one.relative_to(find_copy(stand))) for one in (find_copy(stand) / "events").rglob("*.parquet")}
    assert {name for name in list_kept(stand) if name.startswith("events/") and name.endswith(".parquet")} == live
    assert stand.use("verify", URL, "--work-folder", "reader").status == 0


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_kill_at_any_request_is_continued(stand, when):
    """Killed at every request to the store, a sync leaves a sound archive or none, and the next one completes it."""
    undisturbed = sync(stand, counts_requests=True)
    assert undisturbed.status == 0, undisturbed.stderr
    rows = count_rows(stand)
    requests = [number for number, call in enumerate(undisturbed.calls, 1) if call.startswith(REQUESTS)]
    writes = [number for number in requests if undisturbed.calls[number - 1].startswith(("PUT ", "POST ", "DELETE "))]
    chosen = requests[:4] + writes if when == "before" else writes
    for call in chosen:
        stand.empty()
        where = f"killed {when} {undisturbed.calls[call - 1]}"
        killed = sync(stand, call=call, when=when, counts_requests=True)
        assert killed.status == KILLED, f"{where}: {killed.stderr}"
        if f"{COMMIT}" in stand.list_objects():
            assert stand.use("verify", URL, "--work-folder", "reader").status == 0, where
        again = sync(stand)
        assert again.status == 0, f"{where}: {again.stderr}"
        verified = stand.use("verify", URL, "--work-folder", "reader")
        assert verified.status == 0, f"{where}: {verified.stdout}"
        assert count_rows(stand) == rows, where


def test_a_killed_writer_whose_folder_is_lost_harms_nobody(stand):
    """Segments that a lost writer pushed without a commit stay, and another work folder completes the archive."""
    calls = sync(stand, counts_requests=True).calls
    rows = count_rows(stand)
    stand.empty()
    commit = next(number for number, call in enumerate(calls, 1) if call.startswith("PUT ") and "/commits/" in call)
    assert sync(stand, call=commit, when="before", counts_requests=True).status == KILLED
    assert any("/events/" in name for name in stand.list_objects())
    shutil.rmtree(stand.folder / "work")
    assert sync(stand, work="other").status == 0
    assert count_rows(stand) == rows
