import gzip
import hashlib
import json
import re
import stat
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from support.emulator import Emulator
from support.exports import read_manifest, run_export
from support.processes import Finished, prepare_in_shell
from support.truth import (
    find_compartment,
    list_compartments,
    list_descendants,
    list_events,
    list_regions,
    write_array,
)

KEPT = ("--retention-days", "36500")
DAYS = ("--start", "2025-06-02", "--end", "2025-06-04")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"


@dataclass(frozen=True)
class Whole:
    """The whole tenancy exported once, and what it should hold."""

    finished: Finished
    folder: Path
    data: bytes
    manifest: dict[str, Any]
    log: list[dict[str, Any]]
    expected: list[bytes]


@pytest.fixture(scope="module")
def whole(shared_emulator, tmp_path_factory):
    """The whole tenancy, exported by the command."""
    folder = tmp_path_factory.mktemp("whole")
    shared_emulator.clear_log()
    # Without a umask the modes are the program's own.
    finished = run_export(shared_emulator, folder, *DAYS, "-o", "audit.json", wrap=partial(prepare_in_shell, "umask 0"))
    return Whole(
        finished=finished,
        folder=folder,
        data=(folder / "audit.json").read_bytes(),
        manifest=read_manifest(folder / "audit.json"),
        log=shared_emulator.log(),
        expected=list_events(shared_emulator, START, END),
    )


def read_shards(ledger):
    """Return the ledger's lines about shards."""
    return [line for line in map(json.loads, ledger.splitlines()) if "status" in line]


def export_sha256(folder, *flags, options=()):
    """Export the same days from another emulator and return the digest of the file."""
    with Emulator(*KEPT, "--events-per-day", "300", *flags) as emulator:
        finished = run_export(emulator, folder, *DAYS, *options, "-o", "audit.json")
    assert finished.code == 10, finished.stderr
    return hashlib.sha256((folder / "audit.json").read_bytes()).hexdigest()


def test_whole_tenancy_is_exported_to_the_byte(whole):
    """The file is the events of every readable compartment as served, in canonical order, and nothing else."""
    assert len(whole.expected) > 900
    assert whole.data == write_array(whole.expected)


def test_file_is_one_json_array(whole):
    """Any JSON parser reads the file as one list of as many objects as the manifest states."""
    events = json.loads(whole.data)
    assert len(events) == whole.manifest["totals"]["written"]
    assert all(isinstance(event, dict) for event in events)


def test_each_forbidden_place_is_a_gap(whole, shared_emulator):
    """A forbidden compartment is one denied gap in every region, stated, printed, and exit 10."""
    compartments = list_compartments(shared_emulator, is_forbidden=True)
    forbidden = [(region, one) for region in list_regions(shared_emulator) for one in compartments]
    gaps = whole.manifest["gaps"]
    assert whole.finished.code == 10
    assert [(gap["region"], gap["compartment"]) for gap in gaps] == forbidden
    for gap in gaps:
        assert (gap["start"], gap["end"], gap["kind"]) == (START, END, "denied")
        assert "404 NotAuthorizedOrNotFound" in gap["reason"]
        assert gap["request_id"]
    assert f"INCOMPLETE: {len(forbidden)} gaps" in whole.finished.stderr
    assert "read audit-events in tenancy" in whole.finished.stderr


def test_every_other_place_is_covered(whole, shared_emulator):
    """The manifest states the whole range as covered for every readable region × compartment, silent ones too."""
    covered = {(c["region"], c["compartment"]): c["windows"] for c in whole.manifest["coverage"]}
    readable = {(r, c) for r in list_regions(shared_emulator) for c in list_compartments(shared_emulator)}
    assert {target for target, windows in covered.items() if windows == [[START, END]]} == readable
    assert {target for target, windows in covered.items() if not windows} == covered.keys() - readable


def test_files_are_private_whatever_the_umask(whole):
    """Every file that a run makes is 0600 and every folder 0700, even with a umask of 0."""
    made = list(whole.folder.rglob("*"))
    assert {path.name for path in made} >= {"audit.json", "audit.json.manifest.json", "audit.json.run", "plan.json"}
    for path in made:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_manifest_counts_what_happened(whole):
    """Totals, hash and size in the manifest are those of the file, of the ledger and of the requests served."""
    totals = whole.manifest["totals"]
    pages = [entry for entry in whole.log if entry["operation"] == "ListEvents" and entry["status"] == 200]
    assert totals["scanned"] == totals["written"] == len(whole.expected) == sum(entry["items"] for entry in pages)
    assert (totals["filtered"], totals["identical"], totals["conflicting_ids"]) == (0, 0, 0)
    assert totals["pages"] == len(pages)
    assert totals["shards"] == 42
    output = whole.manifest["output"]
    assert output == {
        "name": "audit.json",
        "size_bytes": len(whole.data),
        "sha256": hashlib.sha256(whole.data).hexdigest(),
    }
    ledger = (whole.folder / whole.manifest["ledger"]["name"]).read_bytes()
    assert whole.manifest["ledger"]["sha256"] == hashlib.sha256(ledger).hexdigest()
    lines = read_shards(ledger)
    by_status = {(line["region"], line["compartment"]): line["status"] for line in lines}
    assert Counter(by_status.values()) == {"complete": 42, "denied": 3}
    assert sum(line["events"] for line in lines) == len(whole.expected)
    assert whole.manifest["complete"] is False


def test_ledger_names_the_request_ids_that_were_served(whole):
    """Every answer that the service gave can be found in the ledger by its opc-request-id."""
    ledger = (whole.folder / whole.manifest["ledger"]["name"]).read_bytes()
    named = {one for line in read_shards(ledger) for one in line["request_ids"]}
    assert named == {entry["requestId"] for entry in whole.log if entry["operation"] == "ListEvents"}


def test_ranges_asked_are_printed(whole):
    """The resolved range, its meaning and the scope stand on stderr, and nothing on stdout."""
    assert (
        f"requesting {START} to {END} (processed time, end exclusive) in 3 regions × 15 comp" in whole.finished.stderr
    )
    assert whole.finished.stdout == b""


def test_requests_say_who_we_are(whole):
    """The User-Agent of every request names the program and its version."""
    assert {entry["userAgent"].split("/")[0] for entry in whole.log} == {"oci-audit"}


@pytest.mark.parametrize(
    "flags",
    [("--page-size", "7", "--no-shuffle"), ("--page-size", "500"), ("--page-size", "1-40", "--gzip")],
    ids=["pages of 7", "pages of 500", "pages that vary"],
)
def test_paging_does_not_change_the_file(whole, tmp_path, flags):
    """However the server pages, shuffles and compresses, the file has the same SHA-256."""
    assert export_sha256(tmp_path, *flags) == hashlib.sha256(whole.data).hexdigest()


def test_short_windows_do_not_change_the_file(whole, emulator, tmp_path):
    """Windows of one day ask more questions, in pieces where a day is dense, and write the same bytes."""
    finished = run_export(emulator, tmp_path, *DAYS, "--max-window-days", "1", "-o", "audit.json")
    assert finished.code == 10
    assert (tmp_path / "audit.json").read_bytes() == whole.data
    asked = {(entry["startTime"], entry["endTime"]) for entry in emulator.log() if entry["operation"] == "ListEvents"}
    assert asked >= {
        ("2025-06-02T00:00:00Z", "2025-06-03T00:00:00Z"),
        ("2025-06-03T00:00:00Z", "2025-06-04T00:00:00Z"),
        ("2025-06-04T00:00:00Z", "2025-06-05T00:00:00Z"),
    }
    assert not [start for start, end in asked if start[8:10] != end[8:10] and end[11:] != "00:00:00Z"]


def test_whole_minutes_are_asked_of_a_strict_service(tmp_path):
    """A service that refuses seconds answers every window of a range that was typed with seconds."""
    with Emulator(*KEPT, "--strict-minutes") as emulator:
        payments = find_compartment(emulator, "payments")
        finished = run_export(
            emulator,
            tmp_path,
            *("--start", "2025-06-02T08:00:30.5+02:00", "--end", "2025-06-02T11:59:01Z", "-o", "audit.json"),
            *("--compartment", payments, "--region", "us-ashburn-1"),
        )
        span = ("2025-06-02T06:00:00Z", "2025-06-02T12:00:00Z")
        expected = list_events(emulator, *span, regions=["us-ashburn-1"], compartments=[payments])
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert len(expected) > 10


def test_gzip_holds_the_same_bytes_and_is_deterministic(whole, emulator, tmp_path):
    """A `.json.gz` unpacks to the plain file, and two runs write it alike, without name or time in it."""
    packed = []
    for name in ("one.json.gz", "two.json.gz"):
        finished = run_export(emulator, tmp_path, *DAYS, "-o", name)
        assert finished.code == 10
        packed.append((tmp_path / name).read_bytes())
    assert packed[0] == packed[1]
    assert packed[0][4:8] == b"\0\0\0\0"
    assert gzip.decompress(packed[0]) == whole.data
    assert read_manifest(tmp_path / "one.json.gz")["output"]["sha256"] == hashlib.sha256(packed[0]).hexdigest()


def test_stdout_gets_the_bytes_and_nothing_else(whole, emulator, tmp_path):
    """`-o -` writes the file's bytes to stdout, everything else to stderr, and leaves nothing on the disk."""
    work, temporary = tmp_path / "work", tmp_path / "temporary"
    work.mkdir()
    temporary.mkdir()
    finished = run_export(emulator, work, *DAYS, "-o", "-", variables={"TMPDIR": str(temporary)})
    assert finished.code == 10
    assert finished.stdout == whole.data
    assert "INCOMPLETE: 3 gaps" in finished.stderr
    assert list(work.iterdir()) == list(temporary.iterdir()) == []


def test_stdout_with_a_manifest(emulator, tmp_path):
    """`-o - --manifest PATH` states what went to stdout, hash included."""
    payments = find_compartment(emulator, "payments")
    finished = run_export(
        emulator, tmp_path, *DAYS, "-o", "-", "--manifest", "proof.json", "--compartment", payments, "--no-subtree"
    )
    manifest = json.loads((tmp_path / "proof.json").read_bytes())
    assert finished.code == 0
    assert manifest["complete"] is True
    assert manifest["output"]["sha256"] == hashlib.sha256(finished.stdout).hexdigest()


def test_event_type_filter_counts_apart(whole, emulator, tmp_path):
    """`--event-type` writes what any expression is found in, and counts scanned, written and filtered apart."""
    wanted = re.compile("ObjectStorage|ListUsers$")
    finished = run_export(
        emulator,
        tmp_path,
        *DAYS,
        *("--event-type", "ObjectStorage", "--event-type", "ListUsers$", "-o", "audit.json"),
    )
    kept = [line for line in whole.expected if wanted.search(json.loads(line)["eventType"] or "")]
    totals = read_manifest(tmp_path / "audit.json")["totals"]
    assert finished.code == 10
    assert 0 < len(kept) < len(whole.expected)
    assert (tmp_path / "audit.json").read_bytes() == write_array(kept)
    assert (totals["scanned"], totals["written"]) == (len(whole.expected), len(kept))
    assert totals["filtered"] == len(whole.expected) - len(kept)
    assert (
        f"{len(whole.expected):,} scanned = {len(kept):,} written + {totals['filtered']:,} filtered out"
    ) in finished.stderr


def test_filter_that_matches_nothing_says_what_there_is(whole, emulator, tmp_path):
    """An empty result names the most frequent event types seen, and what Audit records for the name asked for."""
    finished = run_export(emulator, tmp_path, *DAYS, "--event-type", "CreateApiKey$", "-o", "audit.json")
    seen = Counter(json.loads(line)["eventType"] for line in whole.expected)
    assert finished.code == 10
    assert (tmp_path / "audit.json").read_bytes() == b"[\n]\n"
    assert f"no event matched 'CreateApiKey$' among {len(whole.expected):,} scanned" in finished.stderr
    for name, number in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:10]:
        assert re.search(rf"^ +{number:,}  {re.escape(name)}$", finished.stderr, re.MULTILINE)
    assert "hint: Audit records CreateApiKey as identityControlPlane.UploadApiKey" in finished.stderr


def test_region_narrows_the_scope(emulator, tmp_path):
    """`--region` asks that region alone, in every compartment."""
    finished = run_export(emulator, tmp_path, *DAYS, "--region", "eu-frankfurt-1", "-o", "audit.json")
    assert finished.code == 10
    expected = list_events(emulator, START, END, regions=["eu-frankfurt-1"])
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert {entry["region"] for entry in emulator.log() if entry["operation"] == "ListEvents"} == {"eu-frankfurt-1"}


def test_compartment_includes_what_lies_below(emulator, tmp_path):
    """`--compartment` asks the compartment and everything below it."""
    production = find_compartment(emulator, "production")
    below = list_descendants(emulator, production)
    assert len(below) == 4
    finished = run_export(emulator, tmp_path, *DAYS, "--compartment", production, "-o", "audit.json")
    assert finished.code == 0
    expected = list_events(emulator, START, END, compartments=below)
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert read_manifest(tmp_path / "audit.json")["complete"] is True
    assert not (tmp_path / "audit.json.run").exists()


def test_no_subtree_asks_the_compartment_alone(emulator, tmp_path):
    """`--no-subtree` with a region and a compartment lists no compartments, and requests that one target."""
    root = emulator.tenancy()["id"]
    finished = run_export(
        emulator,
        tmp_path,
        *(*DAYS, "--compartment", root, "--no-subtree", "--region", "us-ashburn-1", "-o", "audit.json"),
    )
    assert finished.code == 0
    expected = list_events(emulator, START, END, regions=["us-ashburn-1"], compartments=[root])
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert {entry["operation"] for entry in emulator.log()} == {
        "ListRegionSubscriptions",
        "GetConfiguration",
        "ListEvents",
    }


def test_region_that_is_not_subscribed_is_a_gap_of_its_own(emulator, tmp_path):
    """Where the subscriptions may not be read, a 401 from one region is its gap; the others are exported."""
    emulator.faults(
        [{"operation": "ListRegionSubscriptions", "times": None, "fault": {"kind": "status", "status": 404}}]
    )
    root = emulator.tenancy()["id"]
    finished = run_export(
        emulator,
        tmp_path,
        *("--region", "sa-saopaulo-1", "--region", "us-ashburn-1"),
        *(*DAYS, "--compartment", root, "--no-subtree", "-o", "audit.json"),
    )
    assert finished.code == 10, finished.stderr
    expected = list_events(emulator, START, END, regions=["us-ashburn-1"], compartments=[root])
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert [gap["region"] for gap in read_manifest(tmp_path / "audit.json")["gaps"]] == ["sa-saopaulo-1"]


def test_output_name_is_filled_in(emulator, tmp_path):
    """`{start}` and `{end}` in the output's name become the days asked, or the minutes where there are any."""
    scope = ("--compartment", emulator.tenancy()["id"], "--no-subtree", "--region", "ap-tokyo-1")
    days = run_export(emulator, tmp_path, *DAYS, *scope, "-o", "audit-{start}-{end}.json")
    hours = run_export(
        emulator,
        tmp_path,
        *("--start", "2025-06-02T08:00Z", "--end", "2025-06-02T09:30Z", *scope, "-o", "audit-{start}.json"),
    )
    assert (days.code, hours.code) == (0, 0), days.stderr + hours.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix == ".json" and "manif" not in path.name) == [
        "audit-2025-06-02-2025-06-04.json",
        "audit-2025-06-02T0800Z.json",
    ]


def test_late_events_are_kept(tmp_path):
    """Events processed inside the range are written whatever their own time says, and counted as outside."""
    with Emulator(*KEPT, "--events-per-day", "300", "--late-share", "0.5", "--late-minutes", "600") as emulator:
        finished = run_export(emulator, tmp_path, *DAYS, "-o", "audit.json")
        expected = list_events(emulator, START, END)
    outside = [line for line in expected if not START <= json.loads(line)["eventTime"] < END]
    times = read_manifest(tmp_path / "audit.json")["event_times"]
    assert finished.code == 10
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert times["outside_range"] == len(outside) > 5
    assert times["first"] < START


def test_window_beyond_retention_is_a_gap(tmp_path):
    """A window that reaches beyond retention is warned of, asked, and a gap when refused; the rest is written."""
    with Emulator("--retention-days", "9", "--now", "2025-06-12T12:00:00Z", "--events-per-day", "300") as emulator:
        scope = ("--region", "us-ashburn-1", "--compartment", emulator.tenancy()["id"], "--no-subtree")
        finished = run_export(emulator, tmp_path, *DAYS, *scope, "--max-window-days", "1", "-o", "audit.json")
        expected = list_events(
            emulator,
            "2025-06-03T00:00:00Z",
            END,
            regions=["us-ashburn-1"],
            compartments=[emulator.tenancy()["id"]],
        )
    manifest = read_manifest(tmp_path / "audit.json")
    assert finished.code == 10
    assert [(gap["start"], gap["kind"]) for gap in manifest["gaps"]] == [(START, "failed")]
    assert "older than the retention period" in manifest["gaps"][0]["reason"]
    assert manifest["scope"]["retention_days"] == 9
    assert manifest["scope"]["reaches_beyond_retention"] is True
    assert "notice: the range begins before what the tenancy keeps (9 days)" in finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)


def test_range_that_ends_now_is_finite_and_provisional(tmp_path):
    """A range that ends now does not feed on its own requests, and what may still grow is marked provisional."""
    with Emulator("--self-audit", "--events-per-day", "30000") as emulator:
        finished = run_export(emulator, tmp_path, "--start", "90m", "--end", "now", "-o", "audit.json")
        manifest = read_manifest(tmp_path / "audit.json")
        span = manifest["range"]
        expected = list_events(emulator, span["start"], span["end"])
        targets = {(r, c) for r in list_regions(emulator) for c in list_compartments(emulator)}
    assert finished.code == 10, finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert len(expected) > 50
    assert {(one["region"], one["compartment"]) for one in manifest["provisional"]} == targets
    assert {one["end"] for one in manifest["provisional"]} == {span["end"]}
    assert "notice: the range ends within the last 15 minutes" in finished.stderr
    assert "42 windows provisional" in finished.stderr


def test_session_token_and_pass_phrase_sign(tmp_path):
    """A profile with a session token and an encrypted key signs as well as one with an API key."""
    with Emulator(*KEPT, "--events-per-day", "300", "--pass-phrase", "correct horse") as emulator:
        scope = ("--region", "ap-tokyo-1", "--compartment", emulator.tenancy()["id"], "--no-subtree")
        outputs = []
        for profile in ("DEFAULT", "SESSION"):
            name = f"{profile}.json"
            finished = run_export(emulator, tmp_path, *DAYS, *scope, "--profile", profile, "-o", name)
            assert finished.code == 0, finished.stderr
            outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1] != b"[\n]\n"


def test_no_key_or_token_is_written_or_shown(emulator, tmp_path):
    """Nothing of the key or the session token stands in any file of a run or on the screen."""
    scope = ("--region", "ap-tokyo-1", "--compartment", emulator.tenancy()["id"], "--no-subtree")
    finished = run_export(emulator, tmp_path, *DAYS, *scope, "--profile", "SESSION", "-o", "audit.json")
    secrets = [
        line
        for path in emulator.config_path.parent.iterdir()
        if "public" not in path.name and path.name != "config"
        for line in path.read_text().splitlines()
        if len(line) > 40
    ]
    shown = finished.stderr + "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert finished.code == 0
    assert len(secrets) > 20
    assert not [secret for secret in secrets if secret in shown]


def test_rate_limit_is_waited_for(whole, tmp_path):
    """A service that answers 429 with Retry-After is asked again later, and nothing is missing."""
    with Emulator(*KEPT, "--events-per-day", "300", "--rate-limit", "4", "--retry-after", "1") as emulator:
        finished = run_export(emulator, tmp_path, *DAYS, "-o", "audit.json")
        statuses = Counter(entry["status"] for entry in emulator.log())
    assert finished.code == 10
    assert statuses[429] > 0
    assert (tmp_path / "audit.json").read_bytes() == whole.data
