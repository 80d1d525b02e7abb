"""The verdict on the page: the words that `verify` prints, with every qualifier."""

from datetime import UTC, datetime, timedelta

import pytest

from support.emulator import Emulator
from support.exports import run_export
from support.processes import find_command, run_process
from support.reports import make_event, write_export, write_report
from support.truth import find_compartment

PAST = ("--start", "2025-06-07", "--end", "2025-06-07")


@pytest.fixture(scope="module")
def emulator():
    """A tenancy in which little happens, up to the present."""
    with Emulator("--retention-days", "36500", "--events-per-day", "40") as running:
        yield running


@pytest.fixture
def export(emulator, tmp_path):
    """Export one region into an empty folder; a word `DENIED` is the compartment that nobody may read."""

    def run(*options: str):
        denied = find_compartment(emulator, "investigations")
        words = [denied if one == "DENIED" else one for one in options]
        done = run_export(emulator, tmp_path, "--region", "us-ashburn-1", "-o", "audit.json", *words)
        assert done.code in {0, 10}, done.stderr
        return tmp_path / "audit.json"

    return run


def read_verified(path) -> list[str]:
    """Return the lines of the verdict that `verify` prints."""
    done = run_process([find_command("oci-audit"), "verify", str(path)], cwd=path.parent)
    _, found, rest = done.stdout.decode().partition("\nverdict   ")
    assert found, done.stdout
    return [line.strip() for line in rest.splitlines()]


def write_page(path):
    """Write the report, whatever its exit code, and return its path."""
    page = path.with_name("page.html")
    done = run_process(
        [find_command("oci-audit"), "report", str(path), "-o", str(page), "--overwrite"], cwd=path.parent
    )
    assert page.is_file(), done.stderr
    return page


def count_days(days: int) -> str:
    """Return a date that many days from today."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%Y-%m-%d")


def assert_same_words(page, lines) -> None:
    """Check that the headline and every qualifier are on the page, in the words of `verify`."""
    headline, *qualifiers = lines
    assert page.locator(".verdict h2").inner_text().casefold() == headline.casefold()
    text = page.locator(".verdict").inner_text().casefold()
    assert [line for line in qualifiers if line.casefold() not in text] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((*PAST, "--waive", "DENIED"), ("complete except 1 waived target", "waived: root/security/investigations")),
        (
            (*PAST, "--waive", "DENIED", "--event-name", "GetInstance"),
            ("for filter event name", "scanned events written"),
        ),
        ((*PAST,), ("INCOMPLETE: 1 gap in 1 of 15 targets",)),
        ((*PAST, "--compartment", "payments", "--no-subtree"), ("complete: 1 of 1 target answered",)),
        (
            (*PAST, "--time-basis", "event-time", "--waive", "DENIED"),
            ("outside the event times", "complete except 1 waived target"),
        ),
        (
            ("--start", count_days(-1), "--end", count_days(1), "--waive", "DENIED"),
            ("complete so far", "provisional", "the range is not over", "waived: "),
        ),
    ],
    ids=["waived", "filter", "gaps", "complete", "event times", "provisional"],
)
def test_the_page_says_what_verify_says(export, open_page, options, words):
    """Headline and qualifiers are those of `verify`, word for word."""
    path = export(*options)
    lines = read_verified(path)
    printed = "\n".join(lines)
    assert [word for word in words if word not in printed] == []
    assert_same_words(open_page(write_page(path)), lines)


@pytest.mark.parametrize("change", ["event", "manifest"])
def test_an_altered_file_is_called_so_in_the_same_words(export, open_page, change):
    """A changed byte makes all say ALTERED, and the coverage on the page is only what the manifest states."""
    path = export(*PAST, "--waive", "DENIED")
    altered = path if change == "event" else path.with_name("audit.json.manifest.json")
    old, new = (
        (b"GetInstance", b"GetInstancf") if change == "event" else (b'"retention_days": ', b'"retention_days":  ')
    )
    content = altered.read_bytes()
    assert old in content
    altered.write_bytes(content.replace(old, new, 1))
    assert read_verified(path)[0].startswith("ALTERED")
    page = open_page(write_page(path))
    headline = page.locator(".verdict h2").inner_text()
    assert headline.startswith("ALTERED: ")
    done = run_process([find_command("oci-audit"), "summary", str(path)], cwd=path.parent)
    assert headline in " ".join((done.stdout.decode() + done.stderr).split())
    assert "do not rely" in page.locator(".verdict").inner_text()
    assert page.locator("#coverage-lead").inner_text().startswith("What the manifest states, which does not match")


def test_a_manifest_with_an_unreadable_time_is_altered(export, open_page):
    """A range that cannot be read is the verdict, and the coverage is unknown; the events are shown."""
    path = export(*PAST, "--waive", "DENIED")
    manifest = path.with_name("audit.json.manifest.json")
    content = manifest.read_bytes()
    assert b'"start": "2025-06-07T00:00:00Z"' in content
    manifest.write_bytes(content.replace(b'"start": "2025-06-07T00:00:00Z"', b'"start": "last Saturday"'))
    page = open_page(write_page(path))
    assert page.locator(".verdict h2").inner_text().startswith("ALTERED: ")
    assert page.locator("#coverage canvas").count() == 0
    assert page.locator("#event-table .open-row").count() > 0


def test_without_a_manifest_the_page_claims_nothing(tmp_path, open_page):
    """`verify` refuses, the page says unknown, and the word complete is on neither."""
    path = tmp_path / "alone.json"
    write_export(path, [make_event(1)])
    done = run_process([find_command("oci-audit"), "verify", str(path)], cwd=tmp_path)
    assert "there is no manifest" in done.stderr
    page = open_page(write_report(path))
    assert page.locator(".verdict h2").inner_text() == "Unknown: there is no manifest beside the file"
    assert "complete" not in page.locator(".verdict").inner_text().casefold()


def test_a_waived_target_did_not_answer(export, open_page):
    """The coverage counts a waived target apart from those that answered, as the verdict does."""
    path = export(*PAST, "--waive", "DENIED")
    page = open_page(write_page(path))
    assert "14 of 15 targets answered" in page.locator(".verdict").inner_text()
    lead = page.locator("#coverage-lead").inner_text()
    assert lead.startswith("14 of 15 targets (region × compartment) answered for the whole range; 1 target is denied")
    page.get_by_role("application", name="Coverage by target").focus()
    page.keyboard.press("ArrowDown")
    readout = page.locator("#coverage .readout").inner_text()
    assert "root/security/investigations · us-ashburn-1" in readout
    assert readout.endswith("denied, waived")


def test_events_have_a_region_where_the_origin_is_known(export, open_page):
    """With the ledger beside the export every row names its region; without it the column is absent."""
    path = export(*PAST, "--waive", "DENIED")
    page = open_page(write_page(path))
    regions = page.locator('#event-table td[data-label="Region"]').all_inner_texts()
    assert len(regions) == 25
    assert set(regions) == {"us-ashburn-1"}
    path.with_name("audit.json.ledger.ndjson").unlink()
    page = open_page(write_page(path))
    assert page.locator('#event-table td[data-label="Region"]').count() == 0
