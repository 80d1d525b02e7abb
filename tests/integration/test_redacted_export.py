"""An export with `--redact`: planted secrets do not reach the output, and the manifest says what was done."""

import json
from pathlib import Path

import pytest

from support.emulator import Emulator
from support.exports import read_manifest, run_export
from support.processes import find_command, run_process

SECRET = "Zx9Qw7Er5Ty3"
DAYS = ("--start", "2025-06-02", "--end", "2025-06-02")


def make_event(number: int, tenancy: str) -> dict[str, object]:
    """Make an event with a secret of each kind; every third pair shares time and id."""
    return {
        "eventType": "com.oraclecloud.x.Y",
        "eventId": f"id-{number // 3}",
        "eventTime": f"2025-06-02T00:00:{number // 3:02}.000Z",
        "data": {
            "eventName": "Y",
            "compartmentId": tenancy,
            "identity": {"credentials": f"ST${SECRET}{10 - number}", "principalName": "keeper@example.com"},
            "request": {"headers": {"Authorization": [SECRET], "opc-obo-token": [SECRET], "Accept": ["*/*"]}},
            "response": {"payload": {"newPassword": SECRET, "text": f"password={SECRET}"}},
        },
    }


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory):
    """A tenancy whose root holds twelve events with secrets in them."""
    path: Path = tmp_path_factory.mktemp("events") / "events.json"
    with Emulator("--retention-days", "36500") as other:
        tenancy = other.tenancy()["id"]
    path.write_text(json.dumps([make_event(number, tenancy) for number in range(12)]))
    with Emulator("--retention-days", "36500", "--events", str(path)) as running:
        yield running


def test_an_export_is_redacted_and_says_so(emulator, tmp_path):
    """No secret in the output, the manifest, the ledger or on the screen; the counts are in the manifest."""
    root = ("--compartment", emulator.tenancy()["id"], "--no-subtree", "--region", "us-ashburn-1")
    done = run_export(emulator, tmp_path, *DAYS, *root, "--redact", "-o", "a.json")
    assert done.code == 0, done.stderr
    for path in tmp_path.iterdir():
        assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in done.stderr
    events = json.loads((tmp_path / "a.json").read_bytes())
    assert len(events) == 12
    assert events[0]["data"]["identity"] == {"credentials": "(redacted)", "principalName": "keeper@example.com"}
    assert events[0]["data"]["request"]["headers"]["Accept"] == ["*/*"]
    manifest = read_manifest(tmp_path / "a.json")
    assert manifest["arguments"]["redact"] is True
    assert manifest["redaction"] == {
        "events": 12,
        "fields": dict.fromkeys(
            [
                "data.identity.credentials",
                "data.request.headers.Authorization",
                "data.request.headers.opc-obo-token",
                "data.response.payload.newPassword",
                "data.response.payload.text",
            ],
            12,
        ),
    }
    assert "redacted: 60 values in 12 events" in done.stderr
    assert manifest["totals"]["identical"] == 0
    assert manifest["totals"]["conflicting_ids"] == 4


def test_a_redacted_export_is_verified_and_a_comparison_says_that_it_is_redacted(emulator, tmp_path):
    """Records that only a secret told apart are no fault of the file; beside a file as served, a note says so."""
    root = ("--compartment", emulator.tenancy()["id"], "--no-subtree", "--region", "us-ashburn-1")
    for form in ("a.json", "b.ndjson.gz"):
        assert run_export(emulator, tmp_path, *DAYS, *root, "--redact", "-o", form).code == 0
        verified = run_process([find_command("oci-audit"), "verify", form], cwd=tmp_path)
        assert verified.code == 0, verified.stdout
    plain = run_export(emulator, tmp_path, *DAYS, *root, "-o", "c.json")
    assert plain.code == 0
    assert SECRET in (tmp_path / "c.json").read_text()
    assert read_manifest(tmp_path / "c.json")["redaction"] is None
    differ = run_process([find_command("oci-audit"), "diff", "a.json", "c.json"], cwd=tmp_path)
    assert differ.code == 7
    assert "is redacted, the other is not" in (differ.stdout.decode() + differ.stderr)
    again = run_export(emulator, tmp_path, *DAYS, *root, "-o", "a.json")
    assert again.code == 2
    assert "redact" in again.stderr


def test_convert_and_export_redact_alike(emulator, tmp_path):
    """The export as served, converted with `--redact`, is the redacted export."""
    root = ("--compartment", emulator.tenancy()["id"], "--no-subtree", "--region", "us-ashburn-1")
    assert run_export(emulator, tmp_path, *DAYS, *root, "--redact", "-o", "a.json").code == 0
    assert run_export(emulator, tmp_path, *DAYS, *root, "-o", "b.json").code == 0
    done = run_process([find_command("oci-audit"), "convert", "b.json", "--redact", "-o", "c.json"], cwd=tmp_path)
    assert done.code == 0, done.stderr
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "a.json").read_bytes()


def test_what_is_kept_for_the_next_run_is_told(emulator, tmp_path):
    """With gaps the run directory stays, with events as served in it, and the screen says so."""
    done = run_export(emulator, tmp_path, *DAYS, "--region", "us-ashburn-1", "--redact", "-o", "a.json")
    assert done.code == 10, done.stderr
    assert "a.json.run keeps the events as served, not redacted" in done.stderr
    assert SECRET.encode() not in (tmp_path / "a.json").read_bytes()
