"""One verdict, in one wording, on every screen that speaks of an export."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from support.emulator import Emulator
from support.exports import run_export
from support.processes import find_command, run_process
from support.truth import find_compartment

REGION = "us-ashburn-1"
PAST, FORBIDDEN = "2025-06-07", "investigations"


@pytest.fixture(scope="module")
def emulator():
    """A tenancy in which little happens, up to the present."""
    with Emulator("--retention-days", "36500", "--events-per-day", "40") as running:
        yield running


@pytest.fixture(scope="module")
def denied(emulator):
    """The compartment that nobody may read."""
    return find_compartment(emulator, FORBIDDEN)


def export(emulator, folder, *options, start=PAST, end=PAST):
    """Export a range of one region."""
    emulator.clear_log()
    return run_export(
        emulator, folder, "--start", start, "--end", end, "--region", REGION, "-o", "audit.json", *options
    )


def run(folder, *arguments):
    """Run the installed command in a folder, and return the exit code and everything that it printed."""
    finished = run_process([find_command("oci-audit"), *arguments], cwd=folder)
    return finished.code, finished.stdout.decode() + finished.stderr


def read_verdict(folder):
    """Return what `verify --json` says."""
    return json.loads(run(folder, "verify", "audit.json", "--json")[1])


def list_screens(folder):
    """Return what verify, summary and report print about the export, each with its exit code."""
    return [
        run(folder, *arguments)
        for arguments in (
            ("verify", "audit.json"),
            ("summary", "audit.json"),
            ("report", "audit.json", "-o", "page.html", "--overwrite"),
        )
    ]


def count_days(days: int) -> str:
    """Return a date that many days from today."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%d")


def test_a_waived_target_is_named_on_every_screen(emulator, denied, tmp_path):
    """Export, verify, summary and report call an export with a waiver complete except that target, and name it."""
    finished = export(emulator, tmp_path, "--waive", denied)
    assert finished.code == 0, finished.stderr
    (headline,) = [line for line in finished.stderr.splitlines() if line.startswith("complete")]
    assert headline == "complete except 1 waived target: 14 of 15 targets answered"
    for code, text in list_screens(tmp_path):
        assert code == 0
        assert headline in text
        assert f"waived: root/security/investigations denied in {REGION}" in text
    page = (tmp_path / "page.html").read_text("utf-8")
    assert headline[1:] in page
    assert "root/security/investigations" in page[: page.index('<dl class="figures">')]


def test_a_waiver_of_what_is_not_covered_does_not_stop_a_repeated_export(emulator, denied, tmp_path):
    """A nightly job names all waivers, whatever its scope; repeated, it requests nothing and says so."""
    for done in (1, 2):
        finished = export(emulator, tmp_path, "--waive", "root/security/investigations", "--compartment", "payments")
        assert finished.code == 0, finished.stderr
        assert ("nothing was requested" in finished.stderr) == (done == 2)
        assert "--waive root/security/investigations has no effect" in finished.stderr


def test_a_waiver_that_is_taken_back_contradicts_nothing(emulator, denied, tmp_path):
    """Without its waiver the same command says what is missing, once, and its hint names what would help."""
    assert export(emulator, tmp_path, "--waive", denied).code == 0
    again = export(emulator, tmp_path)
    assert (again.code, emulator.log()) == (10, [])
    assert "complete" not in again.stderr
    assert again.stderr.count("INCOMPLETE: 1 gap in 1 of 15 targets") == 1
    assert "requests only the gaps" not in again.stderr
    assert "hint: these gaps were waived when the file was written: repeat --waive, or use --overwrite" in again.stderr
    assert export(emulator, tmp_path, "--waive", denied).code == 0


def test_a_filter_and_its_cost_are_on_every_screen(emulator, denied, tmp_path):
    """Export, verify, summary and report name the filter, and how many of the scanned events it let pass."""
    finished = export(emulator, tmp_path, "--waive", denied, "--event-name", "GetInstance")
    totals = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())["totals"]
    assert 0 < totals["written"] < totals["scanned"]
    words = f"for filter event name 'GetInstance': {totals['written']} of {totals['scanned']} scanned events written"
    for text in (finished.stderr, *(text for _, text in list_screens(tmp_path))):
        assert words in text


@pytest.mark.parametrize("is_settled", [True, False])
def test_a_range_that_is_not_over_is_complete_so_far(emulator, denied, tmp_path, *, is_settled):
    """An end in the future is `complete so far` with and without provisional windows; --require-final exits with 11."""
    tomorrow = count_days(1)
    options = ("--waive", denied, *(("--settle", "15m") if is_settled else ()))
    finished = export(emulator, tmp_path, *options, start=count_days(-1), end=tomorrow)
    assert finished.code == 0, finished.stderr
    manifest = json.loads((tmp_path / "audit.json.manifest.json").read_bytes())
    assert bool(manifest["provisional"]) is not is_settled
    verdict = read_verdict(tmp_path)
    assert (verdict["verdict"], verdict["is_final"]) == ("complete_so_far", False)
    assert verdict["final_from"] == f"{count_days(2)}T00:15:00Z"
    headline = f"complete so far, until {verdict['final_until']}; can be final from {verdict['final_from']}"
    for text in (finished.stderr, *(text for _, text in list_screens(tmp_path))):
        assert headline in text
        assert "the range is not over" in text.lower()
    assert run(tmp_path, "verify", "audit.json", "--require-final")[0] == 11
    required = export(emulator, tmp_path, *options, "--require-final", "--quiet", start=count_days(-1), end=tomorrow)
    assert required.code == 11
    assert "complete so far, until" in required.stderr
    assert "hint: from " in required.stderr


def test_a_final_export_passes(emulator, denied, tmp_path):
    """What is final is so for --require-final too, waived or not; a gap stays exit code 10."""
    assert export(emulator, tmp_path, "--waive", denied, "--require-final").code == 0
    assert run(tmp_path, "verify", "audit.json", "--require-final")[0] == 0
    assert export(emulator, tmp_path, "--require-final", "--overwrite").code == 10
    assert run(tmp_path, "verify", "audit.json", "--require-final")[0] == 10


def test_provisional_windows_are_counted_once_after_a_resume(emulator, denied, tmp_path):
    """An export up to now that is resumed has as many provisional windows as targets, not twice as many."""
    scope = ("--compartment", denied, "--compartment", find_compartment(emulator, "payments"), "--no-subtree")
    first = export(emulator, tmp_path, *scope, start="2d", end="now")
    assert first.code == 10
    assert "1 window provisional" in first.stderr
    again = export(emulator, tmp_path, *scope, "--resume", start="2d", end="now")
    assert again.code == 10
    assert "1 window provisional" in again.stderr
    assert len(json.loads((tmp_path / "audit.json.manifest.json").read_bytes())["provisional"]) == 1
