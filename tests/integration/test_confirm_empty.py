"""`--confirm-empty` and `--waive`: what is asked twice, and what a known denial means."""

import json
import re

import pytest

from support.emulator import Emulator
from support.exports import run_export
from support.truth import find_compartment

REGION = "us-ashburn-1"
# Nothing happens in a compartment that was deleted long ago, and nobody may look into `investigations`.
QUIET, FORBIDDEN = "2025-06-07", "investigations"


@pytest.fixture(scope="module")
def emulator():
    """A tenancy in which next to nothing happens."""
    with Emulator("--retention-days", "36500", "--events-per-day", "20") as running:
        yield running


def read_ledger(folder):
    """Return the ledger's lines about shards."""
    lines = map(json.loads, (folder / "audit.json.ledger.ndjson").read_text().splitlines())
    return [line for line in lines if line["kind"] == "shard"]


def find_empty_compartment(emulator):
    """Return a compartment that may be read and in which nothing happened that day."""
    for compartment in emulator.tenancy()["compartments"]:
        day = (REGION, compartment["id"], f"{QUIET}T00:00:00Z", f"{QUIET}T23:59:00Z")
        if not compartment["isForbidden"] and not emulator.events(*day):
            return compartment["id"]
    pytest.fail("something happened everywhere")


def export(emulator, folder, *options):
    """Export a quiet day of one region."""
    emulator.clear_log()
    span = ("--start", QUIET, "--end", QUIET, "--region", REGION)
    return run_export(emulator, folder, *span, "-o", "audit.json", *options)


def test_a_window_without_events_is_asked_twice(emulator, tmp_path):
    """Every window that brought no event is asked once more, and both request ids stand in the ledger."""
    finished = export(emulator, tmp_path, "--confirm-empty", "--waive", find_compartment(emulator, FORBIDDEN))
    assert finished.code == 0, finished.stderr
    ledger = read_ledger(tmp_path)
    empty = [
        (line["compartment"], line["start"]) for line in ledger if line["status"] == "complete" and not line["events"]
    ]
    assert empty
    assert all(empty.count(shard) == 2 for shard in empty)
    request_ids = [request_id for line in ledger for request_id in line["request_ids"]]
    assert len(set(request_ids)) == len(request_ids)
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_text())
    assert manifest["totals"]["confirmed_empty"] == len(set(empty))
    asked = [entry for entry in emulator.log() if entry["operation"] == "ListEvents" and entry["items"] == 0]
    assert len(asked) >= len(empty)


def test_a_window_that_is_denied_when_asked_again_is_a_gap(emulator, tmp_path):
    """What looked empty and is denied the second time is no covered window: it is a gap, and asked again later."""
    empty = find_empty_compartment(emulator)
    options = ("--compartment", empty, "--no-subtree", "--confirm-empty")
    emulator.faults(
        [
            {
                "operation": "ListEvents",
                "match": {"compartmentId": empty},
                "skip": 1,
                "times": 1,
                "fault": {"kind": "status", "status": 404, "code": "NotAuthorizedOrNotFound", "message": "no"},
            }
        ]
    )
    first = export(emulator, tmp_path, *options)
    assert all(state["completed"] for state in emulator.fault_states())
    emulator.clear_faults()
    assert first.code == 10, first.stderr
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_text())
    assert [gap["kind"] for gap in manifest["gaps"]] == ["denied"]
    assert not manifest["complete"]
    second = export(emulator, tmp_path, *options)
    assert second.code == 0, second.stderr


def test_a_waived_denial_is_stated_and_makes_no_red_run(emulator, tmp_path):
    """The denial of a waived compartment stays in the manifest as waived, and the exit code is 0."""
    denied = find_compartment(emulator, FORBIDDEN)
    finished = export(emulator, tmp_path, "--waive", denied)
    assert finished.code == 0, finished.stderr
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_text())
    assert manifest["complete"]
    assert {gap["compartment"] for gap in manifest["waived_gaps"]} == {denied}
    assert not manifest["gaps"]
    assert "complete except 1 waived target" in finished.stderr
    assert re.search(rf"^  waived: root/(\S+/)?{FORBIDDEN} denied in", finished.stderr, re.MULTILINE)


def test_waivers_are_read_from_a_file(emulator, tmp_path):
    """A file with an OCID in each line waives them all; what it says behind a # is for people."""
    known = tmp_path / "known.txt"
    known.write_text(f"# nobody may look here\n{find_compartment(emulator, FORBIDDEN)}  # legal hold\n\n")
    assert export(emulator, tmp_path, "--waive", str(known)).code == 0


def test_a_waiver_that_is_taken_back_counts_the_gap_again(emulator, tmp_path):
    """The same command without its waiver asks nothing and tells the gap, with exit 10."""
    assert export(emulator, tmp_path, "--waive", find_compartment(emulator, FORBIDDEN)).code == 0
    again = export(emulator, tmp_path)
    assert again.code == 10, again.stderr
    assert not emulator.log()


def test_a_waiver_of_what_was_not_denied_is_told(emulator, tmp_path):
    """An OCID that was not denied waives nothing, and the run says so."""
    finished = export(emulator, tmp_path, "--waive", find_compartment(emulator, "network"))
    assert finished.code == 10
    assert "has no effect: access was not denied" in finished.stderr


def test_a_waiver_of_what_is_not_in_the_scope_is_told(emulator, tmp_path):
    """A compartment that exists and is not exported waives nothing; whether it is denied is not said."""
    scope = ("--compartment", find_compartment(emulator, "network"), "--no-subtree")
    finished = export(emulator, tmp_path, *scope, "--waive", "investigations")
    assert finished.code == 0, finished.stderr
    assert "--waive investigations has no effect: it is not in the scope of this export" in finished.stderr
