"""`oci-audit sync` and `oci-audit status` as commands: screens, exit codes, bad input, the loop, metrics."""

import json
import re
import shutil
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ociaudit.archive.commit_log import create_archive, lock_archive
from ociaudit.clock import SystemClock
from support.archive_syncs import (
    ONE_TARGET,
    hash_tree,
    make_sync_command,
    read_lines_until,
    read_rows,
    read_state,
    run_status,
    run_sync,
    start_sync,
)
from support.emulator import Emulator
from support.exports import point_at
from support.processes import finish_process, obey_file_modes, run_process
from support.truth import find_compartment

EMULATOR_FLAGS = ("--events-per-day", "2000")
REFUSED = {"operation": "*", "times": None, "fault": {"kind": "status", "status": 401, "code": "NotAuthenticated"}}
COMMIT_LINE = re.compile(r"^commit  (\d+):([0-9a-f]{64})$", re.MULTILINE)


@pytest.fixture
def time_machine(emulator: Emulator):
    """The emulator, whose clock and events are as at its start again afterwards."""
    yield emulator
    emulator.request("DELETE", "clock")
    emulator.request("DELETE", "appearance")


@pytest.fixture(scope="module")
def synced(shared_emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an archive of one target, synced once."""
    folder = tmp_path_factory.mktemp("synced")
    done = run_sync(shared_emulator, folder, "--start", "2d", *ONE_TARGET)
    assert done.code == 0, done.stderr
    return folder


def test_a_damaged_journal_names_what_begins_again(emulator: Emulator, tmp_path: Path) -> None:
    """The hint for the remains of a killed sync helps: without what it names, the next sync works."""
    stall = {"kind": "stall", "seconds": 30, "after": "half"}
    emulator.faults([{"operation": "ListEvents", "skip": 3, "times": 1, "fault": stall}])
    process = start_sync(emulator, tmp_path, "--start", "3d", *ONE_TARGET, "--concurrency", "1")
    journal = tmp_path / "archive" / "work" / "journal.ndjson"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
        pass
    process.kill()
    finish_process(process)
    emulator.clear_faults()
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], b"garbage\n", *lines[2:]]))
    done = run_sync(emulator, tmp_path, *ONE_TARGET)
    assert done.code == 6, done.stderr
    (hint,) = done.hint_lines
    assert "--restart" not in hint
    named = re.search(r"remove the folder (\S+);", hint)
    assert named
    shutil.rmtree(tmp_path / named[1])
    assert run_sync(emulator, tmp_path, "--start", "3d", *ONE_TARGET).code == 0


def test_compartments_that_are_named_by_ocid_need_no_listing(emulator: Emulator, tmp_path: Path) -> None:
    """Who may not list compartments gets a hint that helps: their OCIDs, without what is below them."""
    refused = {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound"}
    emulator.faults([{"operation": "ListCompartments", "times": None, "fault": refused}])
    done = run_sync(emulator, tmp_path, "--start", "1d", "--region", "us-ashburn-1")
    assert done.code == 3
    assert "or name them with --compartment OCID --no-subtree" in done.hint_lines[0]
    ocid = find_compartment(emulator, "payments")
    done = run_sync(
        emulator, tmp_path, "--start", "1d", "--region", "us-ashburn-1", "--compartment", ocid, "--no-subtree"
    )
    assert done.code == 0, done.stderr
    assert "the list of compartments cannot be read" in done.stderr
    assert read_rows(tmp_path / "archive")
    emulator.clear_faults()
    assert run_sync(emulator, tmp_path).code == 0
    emulator.faults([{"operation": "ListCompartments", "times": None, "fault": refused}])
    assert run_sync(emulator, tmp_path).code == 0
    assert {one.path for one in read_state(tmp_path / "archive").compartments.values()} == {"root/production/payments"}


def test_late_events_are_announced_and_only_where_some_came(time_machine: Emulator, tmp_path: Path) -> None:
    """The first sync and one without late events do not say "late"; the one that finds some says how late."""
    time_machine.clock(advance="-6h")
    time_machine.set_appearance(delays=[{"share": 0.5, "by": "1d"}])
    options = ("--rescan", "26h")
    first = run_sync(time_machine, tmp_path, "--start", "3d", "--region", "us-ashburn-1", *options)
    assert (first.code, "late" in first.stderr) == (10, False), first.stderr
    time_machine.clock(advance="5h")
    second = run_sync(time_machine, tmp_path, *options)
    found = re.search(
        r"^late +([\d,]+) events? came at least .+ late \(median\), the worst", second.stderr, re.MULTILINE
    )
    assert found, second.stderr
    late = read_state(tmp_path / "archive").totals.late
    assert int(found[1].replace(",", "")) == late > 0
    time_machine.request("DELETE", "appearance")
    time_machine.set_appearance(delays=[])
    third = run_sync(time_machine, tmp_path, *options)
    totals = read_state(tmp_path / "archive").totals
    assert ("late" in third.stderr) == (totals.late > late)
    shown = run_status(tmp_path).stdout.decode()
    assert f"late        {totals.late:,} event" in shown
    status = json.loads(run_status(tmp_path, "--json").stdout)
    assert status["late"]["events"] == totals.late
    assert status["late"]["worst_minutes"] >= status["late"]["median_minutes"] > 0


def test_gaps_are_shown_by_name_and_waived_ones_are_not_failures(emulator: Emulator, tmp_path: Path) -> None:
    """A denied compartment is exit 10 with its path; once it is waived, the archive is complete and says so."""
    scope = ("--start", "1d", "--region", "us-ashburn-1", "--compartment", "investigations")
    done = run_sync(emulator, tmp_path, *scope)
    assert done.code == 10
    assert "root/security/investigations: denied in us-ashburn-1 (404)" in done.stderr
    assert "hint: every sync requests them again" in done.stderr
    shown = run_status(tmp_path)
    assert shown.code == 10
    assert "root/security/investigations: denied" in shown.stdout.decode()
    done = run_sync(emulator, tmp_path, "--waive", "investigations")
    assert (done.code, "gaps:" in done.stderr) == (0, False)
    assert "waived: root/security/investigations denied in us-ashburn-1" in done.stderr
    assert run_status(tmp_path).code == 0


def test_the_screen_ends_with_what_an_anchor_needs(emulator: Emulator, synced: Path) -> None:
    """Sequence and digest of the last commit are those of HEAD, in 80 columns, for people and programs."""
    done = run_sync(emulator, synced)
    (commit,) = COMMIT_LINE.findall(done.stderr)
    head = json.loads((synced / "archive/HEAD").read_bytes())
    assert [int(commit[0]), commit[1]] == [head["sequence"], head["digest"]]
    assert all(len(line) <= 80 for line in done.stderr.splitlines() if line.startswith("commit"))
    log = run_sync(emulator, synced, "--log-format", "json").stderr.splitlines()
    last = json.loads(log[-1])
    assert (last["event"], last["exit_code"], last["sequence"]) == ("sync", 0, int(commit[0]) + 1)
    assert run_sync(emulator, synced, "--quiet").stderr == ""


def test_a_dry_run_writes_nothing(emulator: Emulator, synced: Path, tmp_path: Path) -> None:
    """Where there is no archive, and where there is one, `--dry-run` requests no event and changes no file."""
    emulator.clear_log()
    done = run_sync(emulator, tmp_path, "--start", "30d", "--dry-run", *ONE_TARGET)
    text = done.stdout.decode()
    assert (done.code, list(tmp_path.iterdir())) == (0, []), done.stderr
    assert "does not exist yet; a sync creates it" in text
    assert re.search(r"requests +at least 3: 1 window in 1 target", text)
    before = hash_tree(synced)
    text = run_sync(emulator, synced, "--dry-run").stdout.decode()
    assert re.search(r"rescan +of the last 2h", text)
    assert "archive     archive exists" in text
    assert hash_tree(synced) == before
    operations = {line["operation"] for line in emulator.log()}
    assert "ListRegionSubscriptions" in operations
    assert "ListEvents" not in operations


def test_a_listing_that_lost_an_active_compartment_is_a_warning(time_machine: Emulator, tmp_path: Path) -> None:
    """The compartment is named, and requested again; its denial is a gap, not the end of its history."""
    time_machine.clock(advance="-2h")
    created = [{"change": "createCompartment", "name": "project-x"}]
    time_machine.request("POST", "changes", json.dumps(created).encode())
    scope = ("--region", "us-ashburn-1", "--waive", "investigations")
    assert run_sync(time_machine, tmp_path, "--start", "1d", *scope).code == 0
    time_machine.clock(advance="1h")
    deleted = [{"change": "deleteCompartment", "compartment": "project-x", "listedDays": 0}]
    time_machine.request("POST", "changes", json.dumps(deleted).encode())
    for options in ((), ("--quiet",)):
        done = run_sync(time_machine, tmp_path, *scope, *options)
        assert done.code == 10
        warned = "warning: root/project-x (" in done.stderr
        assert warned == (options == ())  # the next sync knows that it is not listed
        assert "root/project-x: denied in us-ashburn-1 (404)" in done.stderr
    time_machine.request("DELETE", "changes")


# Bad input


def make_file(folder: Path) -> None:
    """A file is where the archive should be."""
    (folder / "archive").write_text("x")


def make_foreign_folder(folder: Path) -> None:
    """The folder contains something else."""
    (folder / "archive").mkdir()
    (folder / "archive/thesis.doc").write_text("x")


def make_outer_archive(folder: Path) -> None:
    """The folder is inside another archive."""
    create_archive(folder / "outer", tenancy="x", now=SystemClock().now())
    (folder / "archive").symlink_to(folder / "outer/inner")
    (folder / "outer/inner").mkdir()


def make_archive_of_another_tenancy(folder: Path) -> None:
    """The archive belongs to another tenancy."""
    create_archive(folder / "archive", tenancy="ocid1.tenancy.oc1..other", now=SystemClock().now())


def make_newer_archive(folder: Path) -> None:
    """A newer version wrote the archive."""
    create_archive(folder / "archive", tenancy="x", now=SystemClock().now())
    header = folder / "archive/archive.json"
    header.write_text(header.read_text().replace("oci-audit-archive/1", "oci-audit-archive/2"))


def make_archive_without_header(folder: Path) -> None:
    """There are commits, but no `archive.json`."""
    (folder / "archive/commits").mkdir(parents=True)
    (folder / "archive/commits/000000000001.json").write_text("{}")


BAD_FOLDERS = [
    (make_file, 2, "is not a folder; an archive is a folder"),
    (make_foreign_folder, 2, "contains other files, for example thesis.doc"),
    (make_outer_archive, 2, "is inside the archive"),
    (make_archive_of_another_tenancy, 2, "is the archive of another tenancy, ocid1.tenancy.oc1..other"),
    (make_newer_archive, 6, "oci-audit-archive/2, which is newer than this version"),
    (make_archive_without_header, 6, "but no archive.json"),
]


@pytest.mark.parametrize(("make", "code", "message"), BAD_FOLDERS, ids=[make.__name__ for make, _, _ in BAD_FOLDERS])
def test_a_folder_that_cannot_be_the_archive_is_refused(
    emulator, tmp_path: Path, make, code: int, message: str
) -> None:
    """Exit 2 or 6 with one sentence and a hint, no event requested, no file changed, also with `--dry-run`."""
    make(tmp_path)
    before = hash_tree(tmp_path)
    for extra in ((), ("--dry-run",)):
        done = run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET, *extra)
        assert (done.code, len(done.error_lines), len(done.hint_lines)) == (code, 1, 1), done.stderr
        assert message in done.error_lines[0]
        assert hash_tree(tmp_path) == before
    assert not [line for line in emulator.log() if line["operation"] == "ListEvents"]


BAD_OPTIONS = [
    (("--rescan", "26h,2h"), "not in ascending order"),
    (("--rescan", "1h,2h,3h,4h"), "4 rescan rings"),
    (("--rescan", ""), "0 rescan rings"),
    (("--for", "1h"), "--for has no effect without --every"),
    (("--every", "0m"), "--every is shorter than a minute"),
    (("--settle", "soon"), "the duration 'soon'"),
    (("--no-subtree",), "--no-subtree has no effect without --compartment"),
    (("--metrics-file", "nowhere/x.prom"), "nowhere does not exist"),
    (("--metrics-file", "archive/x.prom"), "is inside the archive"),
    (("--dry-run", "--every", "1h"), "--every has no effect with --dry-run"),
    (("--dry-run", "--metrics-file", "x.prom"), "--metrics-file has no effect with --dry-run"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS, ids=[" ".join(options) for options, _ in BAD_OPTIONS])
def test_options_that_make_no_sense_are_refused(emulator, synced: Path, options, message: str) -> None:
    """Exit 2 with one sentence, before anything is requested or changed."""
    before = hash_tree(synced)
    done = run_sync(emulator, synced, *options)
    assert (done.code, len(done.error_lines)) == (2, 1), done.stderr
    assert message in done.error_lines[0]
    assert (hash_tree(synced), emulator.log()) == (before, [])


def test_a_half_made_archive_is_completed(emulator: Emulator, tmp_path: Path) -> None:
    """What a sync leaves that is killed while it creates the archive is completed by the next one."""
    for name in ("commits", "events"):
        (tmp_path / "archive" / name).mkdir(parents=True)
    (tmp_path / "archive/.archive.json.abc.partial").write_text("{")
    done = run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET)
    assert done.code == 0, done.stderr
    assert read_state(tmp_path / "archive").sequence == 1


def test_a_folder_without_write_permission_is_a_disk_error(emulator: Emulator, tmp_path: Path) -> None:
    """Exit 5 names the folder, and nothing is there afterwards."""
    (tmp_path / "closed").mkdir(mode=0o500)
    done = run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET, archive="closed/archive", wrap=obey_file_modes)
    assert (done.code, len(done.error_lines), len(done.hint_lines)) == (5, 1, 1), done.stderr
    assert "closed/archive" in done.error_lines[0]
    assert list((tmp_path / "closed").iterdir()) == []


def test_a_second_sync_is_refused(emulator: Emulator, synced: Path) -> None:
    """While another process holds the archive, a sync ends with exit 2 and changes nothing."""
    before = hash_tree(synced)
    with lock_archive(synced / "archive"):
        done = run_sync(emulator, synced)
    assert (done.code, "another oci-audit process is writing" in done.error_lines[0]) == (2, True)
    assert hash_tree(synced) == before


def test_an_earlier_start_fills_in_and_a_later_one_changes_nothing(emulator: Emulator, tmp_path: Path) -> None:
    """An earlier `--start` adds what precedes; a later one is answered with a notice."""
    today = datetime.now(UTC)
    first, later_start, earlier_start = (f"{today - timedelta(days=days):%Y-%m-%d}" for days in (3, 1, 5))
    assert run_sync(emulator, tmp_path, "--start", first, *ONE_TARGET, "--rescan", "2h").code == 0
    archive = tmp_path / "archive"
    rows, start = set(read_rows(archive)), read_state(archive).start
    later = run_sync(emulator, tmp_path, "--start", later_start, "--rescan", "2h")
    assert later.code == 0
    assert f"notice: --start has no effect: the archive begins at {first}T00:00:00Z already" in later.stderr
    assert read_state(archive).start == start
    earlier = run_sync(emulator, tmp_path, "--start", earlier_start, "--rescan", "2h")
    assert (earlier.code, "late" in earlier.stderr) == (0, False), earlier.stderr
    assert read_state(archive).start == start - 2 * 1440
    assert rows < set(read_rows(archive))


# The loop


def test_a_sync_that_waits_is_ended_by_a_signal(emulator: Emulator, tmp_path: Path) -> None:
    """SIGTERM between two syncs ends the process with 143, although the next one is an hour away."""
    process = start_sync(emulator, tmp_path, "--start", "1d", "--every", "1h", *ONE_TARGET)
    read_lines_until(process, "took ")
    process.send_signal(signal.SIGTERM)
    done = finish_process(process)
    assert (done.code, "everything is committed" in done.stderr) == (143, True), done.stderr
    assert read_state(tmp_path / "archive").sequence == 1


def test_a_sync_that_fetches_is_ended_by_a_signal_and_keeps_what_arrived(emulator: Emulator, tmp_path: Path) -> None:
    """SIGTERM while a response hangs ends it with 143, also in the metrics; the next sync asks only for the rest."""
    hang = {"operation": "ListEvents", "skip": 2, "times": 1, "fault": {"kind": "stall", "seconds": 100}}
    emulator.faults([hang])
    day = f"{datetime.now(UTC) - timedelta(days=5):%Y-%m-%d}"
    scope = ("--start", day, *ONE_TARGET)
    options = ("--every", "1h", "--concurrency", "1", "-vv", "--metrics-file", "sync.prom")
    process = start_sync(emulator, tmp_path, *options, *scope)
    read_lines_until(process, "auditEvents 200")
    read_lines_until(process, "auditEvents 200")
    while not emulator.fault_states()[0]["fired"]:
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    done = finish_process(process)
    assert (done.code, read_state(tmp_path / "archive").sequence) == (143, 0), done.stderr
    assert "everything received is kept" in done.stderr
    metrics = read_metrics(tmp_path / "sync.prom")
    assert metrics["oci_audit_last_attempt_exit_code"] == 143
    assert metrics["oci_audit_last_attempt_requests"] >= 2
    emulator.clear_faults()
    assert run_sync(emulator, tmp_path).code == 0
    assert run_sync(emulator, tmp_path, *scope, archive="other").code == 0
    assert read_rows(tmp_path / "archive") == read_rows(tmp_path / "other")


def test_a_refused_sign_in_ends_one_sync_and_not_a_loop(emulator: Emulator, tmp_path: Path) -> None:
    """Exit 3 without `--every`; with it, the time of the next try is printed, and the metrics say `sign_in_failed`."""
    emulator.faults([REFUSED])
    options = ("--start", "1d", "--metrics-file", "sync.prom", *ONE_TARGET)
    done = run_sync(emulator, tmp_path, *options)
    assert (done.code, len(done.error_lines)) == (3, 1), done.stderr
    assert read_metrics(tmp_path / "sync.prom")["oci_audit_sign_in_failed"] == 1
    (tmp_path / "sync.prom").unlink()
    process = start_sync(emulator, tmp_path, "--every", "1h", *options)
    shown = read_lines_until(process, "the next try is at ")
    assert "error: " in shown
    assert re.search(r"the next try is at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", shown)
    metrics = read_metrics(tmp_path / "sync.prom")
    assert (metrics["oci_audit_sign_in_failed"], metrics["oci_audit_last_attempt_exit_code"]) == (1, 3)
    assert "oci_audit_last_success_timestamp_seconds" not in metrics
    process.send_signal(signal.SIGTERM)
    assert finish_process(process).code == 143
    assert emulator.fault_states()[0]["fired"] >= 2


def test_the_loop_ends_after_its_time_with_the_exit_code_of_the_last_sync(emulator: Emulator, tmp_path: Path) -> None:
    """`--for 1m --every 1h` is one sync, and its gaps are the exit code."""
    scope = ("--region", "us-ashburn-1", "--compartment", "investigations")
    done = run_sync(emulator, tmp_path, "--start", "1d", "--every", "1h", "--for", "1m", *scope)
    assert (done.code, read_state(tmp_path / "archive").sequence) == (10, 1), done.stderr


def test_a_delta_log_that_is_not_kept_up_is_reported(emulator: Emulator, tmp_path: Path) -> None:
    """A sync without `--delta` says that the Delta log of the archive is left behind, if there is one."""
    assert "Delta" not in run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET).stderr
    (tmp_path / "archive" / "events" / "_delta_log").mkdir()
    done = run_sync(emulator, tmp_path)
    assert (done.code, "did not bring up to date" in done.stderr, "--delta" in done.stderr) == (0, True, True)


# Metrics


def read_metrics(path: Path) -> dict[str, float]:
    """Return the values of a metrics file, as Prometheus' own parser reads them."""
    families = list(text_string_to_metric_families(path.read_text("utf-8")))
    assert all(family.documentation and family.type in {"gauge", "counter"} for family in families)
    return {sample.name: sample.value for family in families for sample in family.samples if not sample.labels}


def test_the_metrics_are_those_of_the_archive(emulator: Emulator, tmp_path: Path) -> None:
    """Prometheus' parser reads the file; its values are the state's, others may read it, and no name is in it."""
    path = tmp_path / "oci.prom"
    assert run_sync(emulator, tmp_path, "--start", "2d", *ONE_TARGET, "--metrics-file", str(path)).code == 0
    metrics, state = read_metrics(path), read_state(tmp_path / "archive")
    assert metrics["oci_audit_events"] == state.totals.rows > 0
    assert metrics["oci_audit_sequence"] == state.sequence
    assert metrics["oci_audit_last_success_timestamp_seconds"] == 60 * state.now
    assert metrics["oci_audit_requests_total"] == state.totals.requests > 0
    assert metrics["oci_audit_last_attempt_requests"] > 0
    assert metrics["oci_audit_lag_seconds"] >= 15 * 60
    for name in ("gaps", "lost_windows", "late_events_total", "sign_in_failed", "last_attempt_throttled"):
        assert metrics[f"oci_audit_{name}"] == 0
    assert path.stat().st_mode & 0o777 == 0o644
    assert not re.search(r"ocid1|payments|ashburn", path.read_text())
    path.chmod(0o600)
    emulator.faults([{"operation": "*", "times": None, "fault": {"kind": "status", "status": 400}}])
    failed = run_sync(emulator, tmp_path, "--metrics-file", str(path))
    assert failed.code not in {0, 10}
    assert emulator.fault_states()[0]["fired"]
    after = read_metrics(path)
    assert after["oci_audit_last_attempt_exit_code"] == failed.code
    assert after["oci_audit_last_success_timestamp_seconds"] == metrics["oci_audit_last_success_timestamp_seconds"]
    assert path.stat().st_mode & 0o777 == 0o600


# Status


def test_an_archive_that_is_not_current_is_exit_12(time_machine: Emulator, tmp_path: Path) -> None:
    """The age counts from the last sync that requested all that was due; `--max-age` decides."""
    time_machine.clock(advance="-5h")
    assert run_sync(time_machine, tmp_path, "--start", "1d", *ONE_TARGET).code == 0
    for limit, code in (("4h", 12), ("2d", 0)):
        done = run_status(tmp_path, "--max-age", limit)
        assert (done.code, "STALE" in done.stdout.decode()) == (code, code == 12)
    assert json.loads(run_status(tmp_path, "--json", "--max-age", "4h").stdout)["is_stale"] is True
    assert run_status(tmp_path).code == 0


def test_the_status_of_an_archive_without_a_commit(tmp_path: Path) -> None:
    """An archive whose first sync was killed is incomplete, and stale; a folder that is not an archive is exit 2."""
    create_archive(tmp_path / "archive", tenancy="x", now=SystemClock().now())
    assert run_status(tmp_path).code == 10
    assert run_status(tmp_path, "--max-age", "1h").code == 12
    status = json.loads(run_status(tmp_path, "--json").stdout)
    assert (status["verdict"], status["events"], status["next_sync"]) == ("unknown", 0, None)
    assert run_status(tmp_path, archive="nowhere").code == 2


def test_the_status_counts_what_is_in_the_archive(emulator: Emulator, synced: Path) -> None:
    """Events, days and the next requests of the screen and of the JSON are those of the segments and the plan."""
    status = json.loads(run_status(synced, "--json").stdout)
    rows = read_rows(synced / "archive")
    assert status["events"] == len(rows) == sum(day["rows"] for day in status["calendar"])
    assert status["size_bytes"] == sum(path.stat().st_size for path in (synced / "archive/events").rglob("*.parquet"))
    assert status["next_sync"]["requests_at_least"] == 1
    text = run_status(synced).stdout.decode()
    assert "\x1b" not in text
    assert f"holds       {len(rows):,} events" in text
    marks = "".join(line[12:43] for line in text.partition("calendar")[2].splitlines()[1:])
    assert len(marks.replace(" ", "")) == len(status["calendar"])


def test_the_syncs_own_calls_are_counted(tmp_path: Path) -> None:
    """Requests for events become events themselves; the status says how many they are, and their share."""
    with Emulator("--retention-days", "36500", "--events-per-day", "300", "--self-audit") as emulator:
        emulator.clock(advance="-3h")
        assert run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET).code == 0
        sent = [line for line in emulator.log() if line["operation"] == "ListEvents"]
        emulator.clock(advance="1h")
        assert run_sync(emulator, tmp_path).code == 0
    status = json.loads(run_status(tmp_path, "--json").stdout)
    assert status["own_calls"]["events"] == len(sent) > 0
    assert status["own_calls"]["share"] == round(len(sent) / status["events"], 4)
    assert f"own calls   {len(sent):,} of the events" in run_status(tmp_path).stdout.decode()


def test_the_page_loads_nothing_and_escapes_names(emulator: Emulator, tmp_path: Path) -> None:
    """The page of `--html` has a policy without scripts, is private, and shows hostile names as text."""
    name = "<img src=x onerror=alert(1)>"
    assert run_sync(emulator, tmp_path, "--start", "1d", *ONE_TARGET, archive=name).code == 0
    assert run_status(tmp_path, "--html", "page.html", archive=name).code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "default-src 'none'; style-src 'sha256-" in page
    assert "<img" not in page
    assert "&lt;img src=x" in page
    assert "<script" not in page
    assert page.count("<td") == len(json.loads(run_status(tmp_path, "--json", archive=name).stdout)["calendar"])
    assert (tmp_path / "page.html").stat().st_mode & 0o777 == 0o600
    assert run_status(tmp_path, "--html", "page.json", archive=name).code == 2


def test_a_configuration_is_read_again_by_each_sync(emulator: Emulator, tmp_path: Path, monkeypatch, capsys) -> None:
    """A loop whose configuration breaks fails, and succeeds again once it is mended, without a restart."""
    from ociaudit.cli.archive_commands import _SyncRun
    from ociaudit.errors import ConfigError
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.sync import SyncOptions

    config = tmp_path / "config"
    config.write_text(emulator.config_path.read_text())
    config.chmod(0o600)
    values = {"config_file": str(config), "endpoint": emulator.url + "/{region}", "concurrency": 4}
    options = {"quiet": False, "log_format": "text", "verbose": 0, "metrics_file": None, **values}
    sync_options = SyncOptions(
        archive=tmp_path / "archive",
        start="1d",
        regions=("us-ashburn-1",),
        compartments=("payments",),
        is_subtree=False,
    )
    run = _SyncRun(sync_options, options, Cancellation())
    assert run.run_once() == 0
    config.write_text("[DEFAULT]\n")
    with pytest.raises(ConfigError):
        run.run_once()
    config.write_text(emulator.config_path.read_text())
    assert run.run_once() == 0
    assert read_state(tmp_path / "archive").sequence == 2


def test_python_syncs_too(emulator: Emulator, tmp_path: Path) -> None:
    """`ociaudit.sync` creates and updates an archive, and returns what it added and what may be said of it."""
    import ociaudit

    options = {"config_file": str(emulator.config_path), "endpoint": emulator.url + "/{region}"}
    scope = {"regions": "us-ashburn-1", "compartments": "payments", "is_subtree": False}
    first = ociaudit.sync(tmp_path / "archive", start="2d", **options, **scope)
    assert (first.was_created, first.totals.added) == (True, first.state.totals.rows)
    assert first.verdict.exit_code == 0
    again = ociaudit.sync(str(tmp_path / "archive"), **options)
    assert (again.was_created, again.state.sequence) == (False, 2)


def test_a_command_without_an_archive_shows_an_example(emulator: Emulator, tmp_path: Path) -> None:
    """`oci-audit sync` alone is exit 2 with a hint that can be typed."""
    command = make_sync_command(emulator, "archive")[:2]
    done = run_process(command, cwd=tmp_path, variables=point_at(emulator))
    assert (done.code, "oci-audit sync audit-archive" in done.stderr) == (2, True)
