import json
from datetime import UTC, datetime, timedelta

import pytest

from support.exports import run_export
from support.processes import Finished
from support.truth import find_compartment, list_events

DAYS = ("--start", "2025-06-02", "--end", "2025-06-30")
SCOPE_OPERATIONS = {"ListRegionSubscriptions", "ListCompartments", "GetConfiguration"}


def preview(emulator, folder, *arguments: str) -> Finished:
    """Run a dry run in a folder."""
    return run_export(emulator, folder, *arguments, "--dry-run")


def list_operations(emulator) -> list[str]:
    """What was asked, in order."""
    return [entry["operation"] for entry in emulator.log()]


def test_a_dry_run_asks_for_the_scope_alone_and_writes_nothing(emulator, tmp_path):
    """Regions, compartments and retention are asked, no event is; the folder stays as it was, with -o or without."""
    for output in ((), ("-o", "audit.json")):
        emulator.clear_log()
        finished = preview(emulator, tmp_path, *DAYS, *output)
        assert finished.code == 0, finished.stderr
        assert set(list_operations(emulator)) == SCOPE_OPERATIONS
        assert list(tmp_path.iterdir()) == []
        said = finished.stdout.decode()
        assert "2025-06-02T00:00:00Z to 2025-07-01T00:00:00Z" in said
        assert "3: ap-tokyo-1, eu-frankfurt-1, us-ashburn-1" in said
        assert "3 × 15 compartments = 45" in said
        assert "at least 135: 3 windows of at most 14 days" in said
        assert "the whole range is kept" in said
        assert "no window is provisional" in said


def test_the_least_number_of_requests_is_what_a_quiet_export_needs(emulator, tmp_path):
    """An export asks as many windows as the dry run announced."""
    scope = ("--region", "eu-frankfurt-1", "--compartment", find_compartment(emulator, "payments"), "--no-subtree")
    announced = json.loads(preview(emulator, tmp_path, *DAYS, *scope, "--json").stdout)
    emulator.clear_log()
    assert run_export(emulator, tmp_path, *DAYS, *scope, "-o", "audit.json").code == 0
    windows = {(one["startTime"], one["endTime"]) for one in emulator.log() if one["operation"] == "ListEvents"}
    assert announced["requests_at_least"] == len(windows) == 3


def test_a_range_beyond_retention_is_told(emulator, tmp_path):
    """The dry run says that the range begins before what the tenancy keeps, in words and in JSON."""
    emulator.faults([{"operation": "GetConfiguration", "times": 2, "fault": {"kind": "retention", "days": 30}}])
    assert "THE RANGE STARTS BEFORE THAT" in preview(emulator, tmp_path, *DAYS).stdout.decode()
    shown = json.loads(preview(emulator, tmp_path, *DAYS, "--json").stdout)
    assert (shown["retention_days"], shown["is_beyond_retention"]) == (30, True)
    assert emulator.fault_states()[0]["completed"]


def test_a_range_that_has_not_settled_is_told(emulator, tmp_path):
    """Up to now, what would be provisional is named; with `--settle` nothing is."""
    shown = json.loads(preview(emulator, tmp_path, "--start", "2d", "--json").stdout)
    assert shown["is_provisional"]
    assert "--settle 15m" in preview(emulator, tmp_path, "--start", "2d").stdout.decode()
    settled = json.loads(preview(emulator, tmp_path, "--start", "2d", "--settle", "15m", "--json").stdout)
    assert not settled["is_provisional"]
    assert settled["end"] <= settled["settled_until"]


def test_a_probe_tells_how_many_requests_it_made(emulator, tmp_path):
    """At most 24 first pages are asked, and the number told is the number served."""
    emulator.clear_log()
    shown = json.loads(preview(emulator, tmp_path, *DAYS, "--probe", "--json").stdout)
    log = emulator.log()
    asked = [entry for entry in log if entry["operation"] == "ListEvents"]
    assert shown["requests_made"] == len(log)
    assert shown["estimate"]["questions"] == len(asked) <= 24
    assert not any(entry["hasPage"] for entry in asked)
    assert len({entry["compartmentId"] for entry in asked}) > 8
    assert list(tmp_path.iterdir()) == []


def test_a_probe_of_a_few_windows_counts_them(emulator, tmp_path):
    """Where every window fits into a page and all are asked, the estimate is the truth."""
    payments = find_compartment(emulator, "payments")
    days = ("--start", "2025-06-02", "--end", "2025-06-02")
    scope = ("--region", "us-ashburn-1", "--compartment", payments, "--no-subtree")
    shown = json.loads(preview(emulator, tmp_path, *days, *scope, "--probe", "--json").stdout)
    where = {"regions": ["us-ashburn-1"], "compartments": [payments]}
    truth = list_events(emulator, "2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z", **where)
    estimate = shown["estimate"]
    assert estimate["is_exact"]
    assert estimate["events"] == {"likely": len(truth), "low": len(truth), "high": len(truth)}
    assert estimate["requests"]["likely"] == 1


def test_the_range_of_an_estimate_holds_the_truth(emulator, tmp_path):
    """For the home region's root over four weeks, the truth lies between low and high."""
    scope = ("--region", "us-ashburn-1", "--compartment", emulator.tenancy()["id"], "--no-subtree")
    shown = json.loads(preview(emulator, tmp_path, *DAYS, *scope, "--max-window-days", "1", "--probe", "--json").stdout)
    where = {"regions": ["us-ashburn-1"], "compartments": [emulator.tenancy()["id"]]}
    truth = len(list_events(emulator, "2025-06-02T00:00:00Z", "2025-07-01T00:00:00Z", **where))
    events = shown["estimate"]["events"]
    assert events["low"] <= truth <= events["high"], (truth, events)
    assert events["likely"] == pytest.approx(truth, rel=0.5)


def test_a_refused_probe_is_told_and_its_place_not_asked_again(emulator, tmp_path):
    """A forbidden compartment does not stop the probe; it is listed with its reason, once."""
    forbidden = find_compartment(emulator, "investigations")
    scope = ("--region", "us-ashburn-1", "--compartment", forbidden, "--no-subtree")
    finished = preview(emulator, tmp_path, *DAYS, *scope, "--probe", "--json")
    shown = json.loads(finished.stdout)
    assert finished.code == 0
    assert shown["estimate"] is None
    (refused,) = shown["refused"]
    assert (refused["region"], refused["compartment"]) == ("us-ashburn-1", forbidden)
    assert refused["reason"].startswith("404")
    assert refused["request_id"]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"operation": "ListCompartments", "fault": {"kind": "status", "status": 404}}, 3),
        ({"operation": "*", "times": None, "fault": {"kind": "status", "status": 401}}, 3),
        ({"operation": "*", "times": None, "fault": {"kind": "reset"}}, 4),
    ],
)
def test_a_dry_run_fails_as_the_export_would(emulator, tmp_path, fault, code):
    """A scope that cannot be read stops the dry run with the export's own exit code, and prints no answer."""
    emulator.faults([fault])
    finished = preview(emulator, tmp_path, *DAYS)
    assert (finished.code, finished.stdout) == (code, b"")
    assert len(finished.error_lines) == len(finished.hint_lines) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_settled_export_has_nothing_provisional_and_resumes_as_itself(emulator, tmp_path):
    """`--settle` is a part of the request: nothing is provisional, and without it it is another request."""
    scope = ("--region", "us-ashburn-1", "--compartment", find_compartment(emulator, "payments"), "--no-subtree")
    command = ("--start", "2d", *scope, "-o", "audit.json")
    finished = run_export(emulator, tmp_path, *command, "--settle", "1h")
    assert finished.code == 0, finished.stderr
    assert "provisional" not in finished.stderr
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())
    assert manifest["arguments"]["settle_minutes"] == 60
    assert manifest["provisional"] == []
    other = run_export(emulator, tmp_path, *command)
    assert other.code == 2
    assert "settle_minutes was 60, is 0" in other.stderr


def test_a_settled_run_that_was_left_is_resumed(emulator, tmp_path):
    """The range stays as it was settled at first, and only what is missing is asked again."""
    scope = ("--region", "us-ashburn-1", "--compartment", find_compartment(emulator, "payments"), "--no-subtree")
    command = ("--start", "3d", "--settle", "1h", *scope, "-o", "audit.json", "--max-window-days", "1")
    emulator.faults([{"operation": "ListEvents", "times": 1, "fault": {"kind": "status", "status": 404}}])
    left = run_export(emulator, tmp_path, *command)
    assert left.code == 10
    first = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())["range"]
    again = run_export(emulator, tmp_path, *command)
    assert again.code == 2
    assert "--resume" in again.stderr
    resumed = run_export(emulator, tmp_path, *command, "--resume")
    assert resumed.code == 0, resumed.stderr
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())
    assert manifest["range"] == first
    assert manifest["provisional"] == []


def test_a_settled_end_that_is_still_to_come_goes_on_later(emulator, tmp_path):
    """An absolute end inside the last hour is cut with a notice; the run is kept, and the same command is no error."""
    scope = ("--region", "us-ashburn-1", "--compartment", find_compartment(emulator, "payments"), "--no-subtree")
    now = datetime.now(UTC)
    start, end = (f"{moment:%Y-%m-%dT%H:%M:00Z}" for moment in (now - timedelta(days=1), now))
    command = ("--start", start, "--end", end, "--settle", "1h", *scope, "-o", "audit.json")
    finished = run_export(emulator, tmp_path, *command)
    assert finished.code == 0
    assert "has not settled yet" in finished.stderr
    assert (tmp_path / "audit.json.run").is_dir()
    assert run_export(emulator, tmp_path, *command).code == 0
