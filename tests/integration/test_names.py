"""Names instead of OCIDs: compartments by name and path, regions by key, gaps in one line per compartment."""

import csv
import json
import sys

import pytest

from ociaudit.storage.manifest import decode_manifest
from support.emulator import Emulator
from support.exports import point_at, read_manifest, run_export
from support.processes import find_command, run_process
from support.reports import read_data
from support.truth import find_compartment

DAY = ("--start", "2025-06-02", "--end", "2025-06-02")
REGIONS = ("--region", "iad,FRA", "--region", "AP-TOKYO-1")


def count_event_requests(emulator):
    """Return how many requests for events an emulator has answered."""
    return sum(entry["operation"] == "ListEvents" for entry in emulator.log())


@pytest.fixture(scope="module")
def exported(shared_emulator, tmp_path_factory):
    """A day of the whole tenancy: the process, and the folder with the output."""
    folder = tmp_path_factory.mktemp("exported")
    return run_export(shared_emulator, folder, *DAY, *REGIONS, "-o", "a.json"), folder


def test_the_manifest_names_every_compartment_by_path(exported, shared_emulator):
    """The manifest has the path of every compartment of the scope by OCID."""
    paths = read_manifest(exported[1] / "a.json")["scope"]["compartment_paths"]
    listed = shared_emulator.tenancy()["compartments"]
    assert {ocid: path.rpartition("/")[2] for ocid, path in paths.items() if path != "root"} == {
        one["id"]: one["name"] for one in listed if one["parentId"] in paths
    }
    assert paths[find_compartment(shared_emulator, "payments")] == "root/production/payments"
    assert paths[shared_emulator.tenancy()["id"]] == "root"


def test_gaps_are_one_line_per_compartment_with_its_path(exported):
    """The compartment that all regions deny is one line, with its path, and no request id is on the screen."""
    finished, folder = exported
    assert finished.code == 10, finished.stderr
    lines = [line for line in finished.stderr.splitlines() if "investigations" in line]
    assert len(lines) == 1
    assert lines[0].startswith("  root/security/investigations: denied in ap-tokyo-1, eu-frankfurt-1,")
    assert "opc-request-id" not in finished.stderr
    assert max(map(len, lines)) <= 80
    assert all(gap["request_id"] for gap in read_manifest(folder / "a.json")["gaps"])


@pytest.mark.parametrize("arguments", [("summary",), ("verify",)])
def test_other_commands_name_the_compartment(exported, shared_emulator, arguments):
    """Summary and verify show the path of the compartment with gaps, and not the end of its OCID."""
    command, *rest = arguments
    finished = run_process([find_command("oci-audit"), command, *rest, "a.json"], cwd=exported[1])
    assert "root/security/investigations: denied in ap-tokyo-1, eu-frankfurt-1" in finished.stdout.decode()


def test_a_report_names_the_compartment(exported, tmp_path):
    """The report's page holds the path."""
    output = tmp_path / "report.html"
    run_process([find_command("oci-audit"), "report", "a.json", "-o", str(output)], cwd=exported[1])
    assert "root/security/investigations" in output.read_text("utf-8")


def test_a_doctor_names_the_compartment_and_asks_the_home_region(emulator, tmp_path):
    """The doctor names a denied compartment by its path, and requests the retention period in the home region."""
    command = [find_command("oci-audit"), "doctor", "--config-file", str(emulator.config_path), "--region", "nrt"]
    finished = run_process(command, cwd=tmp_path, variables=point_at(emulator))
    assert "root/security/investigations" in finished.stdout.decode()
    asked = [entry for entry in emulator.log() if entry["operation"] == "GetConfiguration"]
    assert [entry["region"] for entry in asked] == ["us-ashburn-1"]


@pytest.mark.parametrize("name", ["payments", "root/production/payments", "production/payments", "Payments"])
def test_a_compartment_is_exported_by_name(emulator, tmp_path, name):
    """A name or path means the compartment with that OCID, and the plan and manifest hold the OCID."""
    finished = run_export(emulator, tmp_path, *DAY, "--region", "iad", "--compartment", name, "-o", "a.json")
    assert finished.code == 0, finished.stderr
    manifest = read_manifest(tmp_path / "a.json")
    assert manifest["scope"]["compartments"] == [find_compartment(emulator, "payments")]
    assert manifest["scope"]["regions"] == ["us-ashburn-1"]


def test_a_name_without_a_subtree_is_exactly_that_compartment(emulator, tmp_path):
    """With --no-subtree a name is looked up too, and its children are not requested."""
    arguments = (*DAY, "--region", "fra", "--compartment", "production", "--no-subtree", "-o", "a.json")
    assert run_export(emulator, tmp_path, *arguments).code == 0
    (compartment,) = read_manifest(tmp_path / "a.json")["scope"]["compartments"]
    assert compartment == find_compartment(emulator, "production")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--compartment", "paymnts"), "did you mean root/production/payments?"),
        (("--waive", "investigation"), "did you mean root/security/investigations?"),
        (("--region", "us-ashburn"), "did you mean us-ashburn-1?"),
        (("--region", "us-ashbrun-1"), "did you mean us-ashburn-1?"),
        (("--region", "iad,uk-london-1"), "has not subscribed to region 'uk-london-1'"),
        (("--region", "gru"), "in progress: sa-saopaulo-1"),
        (("--region", "iad", "--region", "uk-london-1", "--compartment", "web-shop"), "has not subscribed"),
    ],
)
def test_a_wrong_name_is_a_usage_error_before_any_event(emulator, tmp_path, arguments, words):
    """A name that the tenancy does not have is exit 2 with a suggestion, and no event is requested."""
    finished = run_export(emulator, tmp_path, *DAY, *arguments, "-o", "a.json")
    assert finished.code == 2, finished.stderr
    assert words in finished.stderr
    assert count_event_requests(emulator) == 0
    assert not list(tmp_path.iterdir())


def test_retention_is_read_in_the_home_region(emulator, tmp_path):
    """An export of another region alone requests the retention period in the home region."""
    assert run_export(emulator, tmp_path, *DAY, "--region", "nrt", "--waive", "investigations", "-o", "a").code == 0
    asked = [entry for entry in emulator.log() if entry["operation"] == "GetConfiguration"]
    assert [entry["region"] for entry in asked] == ["us-ashburn-1"]


def test_regions_are_taken_as_named_where_subscriptions_cannot_be_read(emulator, tmp_path):
    """Without the permission to list regions, the regions named are exported, and a notice says so."""
    emulator.faults(
        [{"operation": "ListRegionSubscriptions", "times": None, "fault": {"kind": "status", "status": 404}}]
    )
    finished = run_export(emulator, tmp_path, *DAY, "--region", "iad", "--compartment", "payments", "-o", "a.json")
    assert finished.code == 0, finished.stderr
    assert emulator.fault_states()[0]["fired"] > 0
    assert "the regions named are not checked" in finished.stderr


def test_a_waiver_by_name_survives_the_next_command(emulator, tmp_path):
    """A waived name waives its gaps now and when the finished export is repeated; an OCID of no compartment warns."""
    arguments = (*DAY, "--region", "iad", "--waive", "investigations", "-o", "a.json")
    stranger = "ocid1.compartment.oc1..aaaaaaaastranger"
    first = run_export(emulator, tmp_path, *arguments, "--waive", stranger)
    assert first.code == 0, first.stderr
    assert f"--waive {stranger} has no effect: the tenancy lists no such compartment" in first.stderr
    assert "complete except 1 waived target" in first.stderr
    assert run_export(emulator, tmp_path, *arguments).code == 0


def test_a_manifest_without_names_is_still_read(exported, tmp_path):
    """A manifest from before names existed is read, and its gaps show OCIDs."""
    content = json.loads((exported[1] / "a.json.manifest.json").read_bytes())
    del content["scope"]["compartment_paths"], content["totals"]["reserialised"]
    manifest = decode_manifest(json.dumps(content).encode(), where="here")
    assert manifest.scope.compartment_paths == {}
    assert manifest.totals.reserialised == 0


@pytest.fixture(scope="module")
def located(shared_emulator, exported):
    """The same day with origins in the events: id to region and compartment."""
    run_export(shared_emulator, exported[1], *DAY, *REGIONS, "--with-origin", "-o", "located.json")
    events = json.loads((exported[1] / "located.json").read_bytes())
    return {event["eventId"]: (event["origin"]["region"], event["origin"]["compartment"]) for event in events}


def run_here(folder, *arguments):
    """Run a command in a folder and return its stdout."""
    finished = run_process([find_command("oci-audit"), *arguments], cwd=folder)
    assert finished.code == 0, finished.stderr
    return finished.stdout.decode()


def test_the_origin_of_every_event_of_a_default_export_is_known(exported, located):
    """Query and convert know which target served each event, although the events are as served."""
    assert len({region for region, _ in located.values()}) == 3
    assert b'"origin"' not in (exported[1] / "a.json").read_bytes()
    sql = "SELECT event_id, origin_region, origin_compartment FROM events"
    rows = json.loads(run_here(exported[1], "query", "a.json", sql, "--format", "json"))
    assert {row["event_id"]: (row["origin_region"], row["origin_compartment"]) for row in rows} == located
    run_here(exported[1], "convert", "a.json", "-o", "a.csv")
    with (exported[1] / "a.csv").open(newline="", encoding="utf-8") as file:
        found = {row["event_id"]: (row["origin_region"], row["origin_compartment"]) for row in csv.DictReader(file)}
    assert found == located
    run_here(exported[1], "convert", "a.json", "--with-origin", "-o", "again.json")
    assert (exported[1] / "again.json").read_bytes() == (exported[1] / "located.json").read_bytes()


def test_summary_counts_events_by_region(exported, located):
    """The summary of a default export has the events of each region."""
    content = json.loads(run_here(exported[1], "summary", "a.json", "--json"))
    expected = [region for region, _ in located.values()]
    assert content["files"][0]["regions"] == {region: expected.count(region) for region in set(expected)}
    assert "regions" in run_here(exported[1], "summary", "a.json")


def test_the_table_of_a_report_has_the_region(exported, located, tmp_path):
    """Every row of the report's table holds the region that served its event."""
    page = tmp_path / "report.html"
    run_process([find_command("oci-audit"), "report", "a.json", "-o", str(page)], cwd=exported[1])
    rows = [(json.loads(row[7])["eventId"], row[8]) for row in read_data(page)["sample"] if row[7]]
    assert len(rows) > 100
    assert all(located[event_id][0] == region for event_id, region in rows)


def test_another_file_of_the_same_name_has_no_origins(exported, tmp_path):
    """A file that is not as long as its manifest states gets no origins from it."""
    for name in ("a.json.manifest.json", "a.json.ledger.ndjson"):
        (tmp_path / name).write_bytes((exported[1] / name).read_bytes())
    (tmp_path / "a.json").write_bytes(b"[\n" + (exported[1] / "a.json").read_bytes().split(b",\n", 1)[1])
    sql = "SELECT count(*) AS n, count(origin_region) AS known FROM events"
    (row,) = json.loads(run_here(tmp_path, "query", "a.json", sql, "--format", "json"))
    assert row["n"] > 1
    assert row["known"] == 0


def test_a_record_in_other_bytes_is_counted_apart_from_conflicts(tmp_path):
    """One event served in two serialisations is written once as its smallest bytes, and verify agrees."""
    event = {"eventType": "t", "eventId": "one", "eventTime": "2025-06-02T10:00:00Z", "data": {"n": 1.50, "m": [1, 2]}}
    other = {"eventType": "t", "eventId": "two", "eventTime": "2025-06-02T10:00:00Z", "data": {"n": 1}}
    served = [json.dumps(event), json.dumps(dict(reversed(event.items())), separators=(",", ":"))]
    served += [json.dumps(other), json.dumps(other | {"data": {"n": 2}})]
    (tmp_path / "events.ndjson").write_text("".join(f"{line}\n" for line in served))
    with Emulator("--retention-days", "36500", "--events", str(tmp_path / "events.ndjson")) as running:
        arguments = (*DAY, "--region", "iad", "--compartment", "root", "--no-subtree", "-o", "a.json")
        finished = run_export(running, tmp_path, *arguments)
    assert finished.code == 0, finished.stderr
    totals = read_manifest(tmp_path / "a.json")["totals"]
    assert (totals["scanned"], totals["written"], totals["identical"], totals["reserialised"]) == (4, 3, 0, 1)
    assert totals["conflicting_ids"] == 1
    assert "+ 1 reserialised" in " ".join(finished.stderr.split())
    assert min(served[:2]).encode() in (tmp_path / "a.json").read_bytes().splitlines()[1]
    run_here(tmp_path, "verify", "a.json")


METADATA = [
    {"realmKey": "OC98", "realmDomainComponent": "One.example", "regionKey": "QQA", "regionIdentifier": "qq-first-1"},
    {"realmKey": "OC99", "realmDomainComponent": "two.example", "regionKey": "QQB", "regionIdentifier": "QQ-second-1"},
]
LOCATE = """
from ociaudit.client.config_file import resolve_region as resolve_profile
from ociaudit.client.network import Endpoints, resolve_region
for name in ({names}):
    region = resolve_region(name)
    assert resolve_profile(name, "profile") == region
    endpoints = Endpoints()
    endpoints.check_region(region)
    print(endpoints.locate("audit", region))
"""


@pytest.mark.parametrize("source", ["variable", "file"])
def test_regions_of_the_settings_are_known_to_options_and_profiles(tmp_path, source):
    """Regions in OCI_REGION_METADATA or regions-config.json have names, keys and realms like Oracle's."""
    variables = {}
    names = ["qqa", "QQ-FIRST-1"]
    if source == "variable":
        variables["OCI_REGION_METADATA"] = json.dumps(METADATA[0])
    else:
        (tmp_path / ".oci").mkdir()
        (tmp_path / ".oci" / "regions-config.json").write_text(json.dumps(METADATA))
        names += ["qqb", "qq-second-1"]
    finished = run_process([sys.executable, "-c", LOCATE.format(names=names)], cwd=tmp_path, variables=variables)
    assert finished.code == 0, finished.stderr
    expected = ["https://audit.qq-first-1.one.example/20190901"] * 2
    expected += ["https://audit.qq-second-1.two.example/20190901"] * (len(names) - 2)
    assert finished.stdout.decode().split() == expected


@pytest.mark.parametrize(
    "metadata", ["[1]", "5", '{"realmKey":1,"realmDomainComponent":1,"regionKey":1,"regionIdentifier":1}']
)
def test_region_metadata_of_another_form_is_a_configuration_error(emulator, tmp_path, metadata):
    """Metadata that is not an object of texts is exit 2 with its variable, not a traceback."""
    arguments = (*DAY, "--region", "qqq", "-o", "a.json")
    finished = run_export(emulator, tmp_path, *arguments, variables={"OCI_REGION_METADATA": metadata})
    assert finished.code == 2, finished.stderr
    assert "Traceback" not in finished.stderr
