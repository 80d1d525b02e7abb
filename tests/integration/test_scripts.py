import ast
import csv
import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci
import pandas as pd
import pytest

from support.emulator import Emulator
from support.processes import Finished, find_command, obey_file_modes, run_process
from support.truth import find_compartment, list_events

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-ashburn-1"
# The emulator lives some days after the last of the documented dates.
NOW = "2025-12-10T12:00:00Z"
STREAMER, LOGSTREAMER = "oci_audit_streamer.py", "files/logstreamer.py"


@dataclass(frozen=True)
class Case:
    """One documented command line, and what it asks."""

    script: str
    command: str
    arguments: tuple[str, ...]
    output: str
    start: str
    end: str
    compartment: str
    pattern: str | None = None


JANUARY = Case(
    STREAMER,
    "oci-audit-streamer",
    (
        *("--startdate", "2024-01-01", "--enddate", "2024-01-31", "--profilename", "DEFAULT"),
        *("--outputfile", "jan.json", "--eventfilter", "{payments}"),
    ),
    "jan.json",
    "2024-01-01T00:00:00Z",
    "2024-02-01T00:00:00Z",
    "payments",
)
DECEMBER = Case(
    LOGSTREAMER,
    "logstreamer",
    (
        *("--startdate", "01.12.25", "--enddate", "07.12.25", "--profilename", "DEFAULT"),
        *("--outputfile", "a.json", "--eventfilter", "Instance|Compute;Identity"),
    ),
    "a.json",
    "2025-12-01T00:00:00Z",
    "2025-12-08T00:00:00Z",
    "root",
    "Instance|Compute|Identity",
)


@pytest.fixture(scope="module")
def shared_emulator():
    """An emulator whose events reach back beyond the oldest documented date."""
    flags = ("--now", NOW, "--retention-days", "36500", "--events-per-day", "300")
    with Emulator(*flags) as running:
        yield running


def run_script(emulator, folder: Path, case: Case, *, is_installed: bool = False, arguments=None) -> Finished:
    """Run a documented command line as written, in a folder, with the configuration where everybody has it."""
    home = folder / ".oci"
    if not home.is_symlink():
        home.symlink_to(emulator.config_path.parent)
    ocids = {"payments": find_compartment(emulator, "payments")}
    head = [find_command(case.command)] if is_installed else [sys.executable, str(ROOT / case.script)]
    filled = [part.format(**ocids) for part in (case.arguments if arguments is None else arguments)]
    return run_process([*head, *filled], cwd=folder, variables={"OCI_AUDIT_ENDPOINT": emulator.url})


def replace_arguments(case: Case, **changes: str | None) -> tuple[str, ...]:
    """Return a case's arguments with some options changed, added, or left out where None."""
    pairs = dict(zip(case.arguments[::2], case.arguments[1::2], strict=True))
    pairs |= {f"--{name}": value for name, value in changes.items()}
    return tuple(part for name, value in pairs.items() if value is not None for part in (name, value))


@pytest.fixture(scope="module")
def ask_sdk(shared_emulator):
    """Ask Oracle's SDK for a case's events, as `oci.util.to_dict` gives them; each question once."""
    config = oci.config.from_file(str(shared_emulator.config_path))
    client = oci.audit.AuditClient(config, service_endpoint=shared_emulator.url)
    answers: dict[tuple[str, str, str], list[dict[str, Any]]] = {}

    def ask(case: Case) -> list[dict[str, Any]]:
        key = (find_compartment(shared_emulator, case.compartment), case.start, case.end)
        if key not in answers:
            compartment, start, end = key
            found = oci.pagination.list_call_get_all_results(
                client.list_events, compartment, pd.Timestamp(start).to_pydatetime(), pd.Timestamp(end).to_pydatetime()
            )
            answers[key] = [oci.util.to_dict(event) for event in found.data]
        return answers[key]

    return ask


def drop_unknown(ours: Any, theirs: Any) -> Any:
    """Take out of our value what the SDK dropped from its own."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return {name: drop_unknown(value, theirs[name]) for name, value in ours.items() if name in theirs}
    return ours


def is_rounded_time(ours: Any, theirs: Any) -> bool:
    """Say whether a time differs only because it is finer than the SDK can hold."""
    return ours["event_time"].endswith("123456Z") and theirs["event_time"][:23] == ours["event_time"][:23]


def assert_equal_to_sdk(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    """Insist that both hold the same events, spelled alike but for what the SDK drops."""
    by_id = {event["event_id"]: event for event in theirs}
    assert len(ours) == len(theirs) == len(by_id)
    for event in ours:
        other = by_id[event["event_id"]]
        kept = drop_unknown(event, other)
        assert set(kept) == set(other)
        if is_rounded_time(event, other):
            kept["event_time"] = other["event_time"]
        assert kept == other


@pytest.fixture(scope="module")
def documented(shared_emulator, tmp_path_factory):
    """Both documented command lines, run from a checkout and installed, each in a folder of its own."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:

        def run(case, is_installed):
            folder = tmp_path_factory.mktemp("documented")
            return run_script(shared_emulator, folder, case, is_installed=is_installed), folder

        variants = [(case, is_installed) for case in (JANUARY, DECEMBER) for is_installed in (False, True)]
        runs = {variant: threads.submit(run, *variant) for variant in variants}
        return {variant: future.result() for variant, future in runs.items()}


@pytest.mark.parametrize("is_installed", [False, True], ids=["from a checkout", "installed"])
@pytest.mark.parametrize("case", [JANUARY, DECEMBER], ids=lambda case: case.command)
def test_documented_command_lines_equal_the_sdk(documented, ask_sdk, case, is_installed):
    """Both documented command lines run as written, and write what the SDK's `to_dict` gives, event by event."""
    finished, folder = documented[case, is_installed]
    theirs = ask_sdk(case)
    if case.pattern:
        names = case.pattern.split("|")
        theirs = [event for event in theirs if any(name in event["event_type"] for name in names)]
    ours = json.loads((folder / case.output).read_bytes())
    assert finished.code == 0, finished.stderr
    assert finished.stdout == b""
    assert len(ours) > 100
    assert_equal_to_sdk(ours, theirs)


@pytest.mark.parametrize("case", [JANUARY, DECEMBER], ids=lambda case: case.command)
def test_what_the_sdk_drops_is_kept(emulator, tmp_path, case):
    """Every key and value that was served stands in the output, unknown fields included."""
    arguments = replace_arguments(case, eventfilter=find_compartment(emulator, case.compartment))
    assert run_script(emulator, tmp_path, case, arguments=arguments).code == 0
    ours = {event["event_id"]: event for event in json.loads((tmp_path / case.output).read_bytes())}
    compartment = find_compartment(emulator, case.compartment)
    served = list_events(emulator, case.start, case.end, regions=[REGION], compartments=[compartment])
    assert len(ours) == len(served)
    unknown = 0
    for line in served:
        event = json.loads(line)
        other = ours[event["eventId"]]
        for name in event.keys() - {"eventTime", "data"}:
            spelled = "".join(f"_{char.lower()}" if char.isupper() else char for char in name)
            assert other.get(spelled, other.get(name)) == event[name]
        for name in ("systemTags", "securityAttributes", "internalDetails", "message"):
            if name in event["data"]:
                unknown += 1
                assert other["data"][name] == event["data"][name]
        assert other["data"]["additional_details"] == event["data"].get("additionalDetails")
    assert unknown > 0


@pytest.mark.parametrize(
    ("case", "days"), [(JANUARY, 14), (DECEMBER, 7)], ids=lambda value: getattr(value, "command", value)
)
def test_chunks_cover_the_range_with_its_last_day(emulator, tmp_path, case, days):
    """The questions tile the range without hole or overlap, none is longer than documented, the end day is in."""
    start, end = ("2024-01-01", "2024-01-31") if case is JANUARY else ("20.11.25", "07.12.25")
    arguments = replace_arguments(case, startdate=start, enddate=end)
    assert run_script(emulator, tmp_path, case, arguments=arguments).code == 0
    questions = {(one["startTime"], one["endTime"]) for one in emulator.log() if one["operation"] == "ListEvents"}
    ordered = sorted(questions)
    assert [later[0] for later in ordered[1:]] == [earlier[1] for earlier in ordered[:-1]]
    assert ordered[-1][1] == case.end
    lengths = {(pd.Timestamp(until) - pd.Timestamp(since)).days for since, until in ordered}
    assert max(lengths) == days
    assert {one["region"] for one in emulator.log()} == {REGION}


def test_all_event_names_are_counted(emulator, documented):
    """`allevents.json` counts every event scanned by its name, whatever the filter lets through."""
    _, folder = documented[DECEMBER, True]
    served = list_events(
        emulator, DECEMBER.start, DECEMBER.end, regions=[REGION], compartments=[emulator.tenancy()["id"]]
    )
    expected = Counter((json.loads(line).get("data") or {}).get("eventName") or "(none)" for line in served)
    assert json.loads((folder / "allevents.json").read_bytes()) == expected
    assert sum(expected.values()) > len(json.loads((folder / "a.json").read_bytes()))


def test_event_without_a_name_is_counted(tmp_path):
    """An event whose name is null is counted as "(none)"."""
    events = [
        {"eventId": str(number), "eventTime": "2025-12-01T10:00:00.000Z", "eventType": "x", "data": {"eventName": name}}
        for number, name in enumerate(["LaunchInstance", None, None])
    ]
    (tmp_path / "events.json").write_text(json.dumps(events))
    with Emulator("--events", str(tmp_path / "events.json"), "--now", NOW) as emulator:
        arguments = replace_arguments(DECEMBER, eventfilter=None)
        finished = run_script(emulator, tmp_path, DECEMBER, arguments=arguments)
    assert finished.code == 0, finished.stderr
    assert json.loads((tmp_path / "allevents.json").read_bytes()) == {"(none)": 2, "LaunchInstance": 1}


@pytest.mark.parametrize("name", ["allevents.json", "./allevents.json", "link.json"])
def test_the_counts_do_not_replace_the_output(emulator, tmp_path, name):
    """An output of the name that the counts have is rejected before anything is requested."""
    (tmp_path / "link.json").symlink_to("allevents.json")
    emulator.clear_log()
    finished = run_script(emulator, tmp_path, DECEMBER, arguments=replace_arguments(DECEMBER, outputfile=name))
    assert finished.code == 2, finished.stderr
    assert "is the file for the counts of events by name" in finished.stderr
    assert emulator.log() == []


@pytest.mark.parametrize("why", ["folder is read-only", "a folder has that name"])
def test_counts_that_cannot_be_written_only_warn(emulator, tmp_path, why):
    """When `allevents.json` cannot be written a notice says so; the output and the exit code are the same."""
    work = tmp_path / "work"
    work.mkdir()
    (work / ".oci").symlink_to(emulator.config_path.parent)
    if why == "folder is read-only":
        work.chmod(0o500)
    else:
        (work / "allevents.json").mkdir()
    output = tmp_path / "a.json"
    command = [find_command("logstreamer"), *replace_arguments(DECEMBER, outputfile=str(output))]
    finished = run_process(obey_file_modes(command), cwd=work, variables={"OCI_AUDIT_ENDPOINT": emulator.url})
    work.chmod(0o700)
    assert finished.code == 0, finished.stderr
    assert "notice: the counts of event names were not written" in finished.stderr
    assert json.loads(output.read_bytes())
    assert not [path.name for path in work.iterdir() if "partial" in path.name]


@pytest.mark.parametrize(
    ("case", "changes", "target", "pattern"),
    [
        (JANUARY, {"eventfilter": "{payments};CreateVolume;Object"}, "payments", ("CreateVolume", "Object")),
        (JANUARY, {"eventfilter": "List", "compartment": "{payments}"}, "payments", ("List",)),
        (JANUARY, {"eventfilter": "ListUsers$"}, "root", ("ListUsers",)),
        (DECEMBER, {"eventfilter": "{payments};CreateVolume;Object"}, "payments", ("CreateVolume", "Object")),
        (DECEMBER, {"eventfilter": " {payments} ; "}, "payments", ("",)),
        (DECEMBER, {"eventfilter": None, "compartment": "{payments}"}, "payments", ("",)),
    ],
    ids=lambda value: getattr(value, "command", ""),
)
def test_filter_names_compartment_and_events(emulator, tmp_path, case, changes, target, pattern):
    """An OCID in the filter or `--compartment` names the one compartment asked; other parts filter event types."""
    end = "2024-01-05" if case is JANUARY else "05.12.25"
    finished = run_script(emulator, tmp_path, case, arguments=replace_arguments(case, enddate=end, **changes))
    compartment = find_compartment(emulator, target)
    last = case.start[:8] + "06T00:00:00Z"
    served = map(json.loads, list_events(emulator, case.start, last, regions=[REGION], compartments=[compartment]))
    wanted = {event["eventId"] for event in served if any(part in event["eventType"] for part in pattern)}
    assert finished.code == 0, finished.stderr
    assert {event["event_id"] for event in json.loads((tmp_path / case.output).read_bytes())} == wanted
    assert {one["compartmentId"] for one in emulator.log() if one["operation"] == "ListEvents"} == {compartment}


WRONG_ARGUMENTS = {
    "YYYY-MM-DD": (JANUARY, {"startdate": "01.01.24"}, "'01.01.24'"),
    "no such day": (JANUARY, {"enddate": "2024-02-30"}, "'2024-02-30'"),
    "DD.MM.YY": (DECEMBER, {"startdate": "2025-12-01"}, "'2025-12-01'"),
    "no such day, short": (DECEMBER, {"enddate": "31.11.25"}, "'31.11.25'"),
    "age": (DECEMBER, {"startdate": "7d"}, "'7d'"),
    "expression": (DECEMBER, {"eventfilter": "ok;a(b"}, "'a(b' is not a regular expression"),
    "two OCIDs": (JANUARY, {"eventfilter": "ocid1.tenancy.oc1..a;ocid1.tenancy.oc1..b"}, "more than one compartment"),
    "other OCID": (JANUARY, {"eventfilter": "ocid1.instance.oc1..a"}, "'ocid1.instance.oc1..a'"),
    "profile": (DECEMBER, {"profilename": "NOBODY"}, "no profile 'NOBODY'"),
    "folder": (JANUARY, {"outputfile": "missing/out.json"}, "missing does not exist"),
    "configuration": (DECEMBER, {"ociconfig": "missing"}, "missing does not exist"),
}


@pytest.fixture(scope="module")
def runs_with_wrong_arguments(shared_emulator, tmp_path_factory):
    """A run for each of the wrong arguments, as many at once as there are cores."""
    with ThreadPoolExecutor(os.cpu_count()) as threads:

        def run(case, changes):
            folder = tmp_path_factory.mktemp("wrong")
            arguments = replace_arguments(case, **changes)
            return run_script(shared_emulator, folder, case, is_installed=True, arguments=arguments), folder

        runs = {name: threads.submit(run, case, changes) for name, (case, changes, _) in WRONG_ARGUMENTS.items()}
        return {name: future.result() for name, future in runs.items()}


@pytest.mark.parametrize("name", WRONG_ARGUMENTS)
def test_wrong_arguments(runs_with_wrong_arguments, name):
    """A wrong argument is exit 2 with a sentence and a hint, a wrong date names the form wanted; nothing is written."""
    finished, folder = runs_with_wrong_arguments[name]
    case, changes, words = WRONG_ARGUMENTS[name]
    assert finished.code == 2, finished.stderr
    assert len(finished.error_lines) == len(finished.hint_lines) == 1, finished.stderr
    assert words in finished.error_lines[0]
    if changes.keys() & {"startdate", "enddate"}:
        assert ("YYYY-MM-DD" if case is JANUARY else "DD.MM.YY") in finished.hint_lines[0]
    assert "Traceback" not in finished.stderr
    assert [path.name for path in folder.iterdir()] == [".oci"]


@pytest.mark.parametrize("case", [JANUARY, DECEMBER], ids=lambda case: case.command)
def test_missing_arguments(emulator, tmp_path, case):
    """Arguments that are missing are exit 2 and named."""
    finished = run_script(emulator, tmp_path, case, arguments=())
    assert finished.code == 2
    for name in ("startdate", "enddate", "profilename", "outputfile"):
        assert f"--{name}" in finished.stderr


def test_filter_is_mandatory_where_it_is_documented_so(emulator, tmp_path):
    """`oci_audit_streamer.py` insists on `--eventfilter`."""
    without = run_script(emulator, tmp_path, JANUARY, arguments=replace_arguments(JANUARY, eventfilter=None))
    assert without.code == 2
    assert "--eventfilter" in without.stderr


@pytest.mark.parametrize(
    ("case", "chunk"),
    [(JANUARY, "2024-01-15T00:00:00Z"), (DECEMBER, "2025-12-01T00:00:00Z")],
    ids=lambda value: getattr(value, "command", ""),
)
def test_failed_chunk_is_reported_and_the_next_goes_on(emulator, ask_sdk, tmp_path, case, chunk):
    """A chunk that fails is named, the other chunks are written, and the exit code is 10."""
    emulator.faults(
        [
            {
                "operation": "ListEvents",
                "match": {"startTime": chunk},
                "times": None,
                "fault": {"kind": "status", "status": 400},
            }
        ]
    )
    start = "2024-01-01" if case is JANUARY else "24.11.25"
    finished = run_script(emulator, tmp_path, case, arguments=replace_arguments(case, startdate=start))
    written = json.loads((tmp_path / case.output).read_bytes())
    assert emulator.fault_states()[0]["fired"] > 0
    assert finished.code == 10, finished.stderr
    assert "INCOMPLETE: 1 gap" in finished.stderr
    assert chunk in finished.stderr
    assert "400 InvalidParameter" in finished.stderr
    length = "14 days" if case is JANUARY else "7 days"
    failed_end = (pd.Timestamp(chunk) + pd.Timedelta(length)).strftime("%Y-%m-%dT%H:%M:%S+00:00")
    times = [event["event_time"] for event in written]
    assert times
    assert not [time for time in times if chunk.replace("Z", "+00:00") <= time < failed_end]


@pytest.mark.parametrize("case", [JANUARY, DECEMBER], ids=lambda case: case.command)
def test_output_is_overwritten_by_rename(emulator, tmp_path, case):
    """An output that exists is replaced as a whole: who has the old file open still reads it to its end."""
    output = tmp_path / case.output
    output.write_text("old content")
    with output.open() as old:
        assert run_script(emulator, tmp_path, case).code == 0
        assert old.read() == "old content"
    assert json.loads(output.read_bytes())
    assert output.stat().st_mode & 0o777 == 0o600


def test_output_stays_when_nothing_can_be_had(emulator, tmp_path):
    """When the run cannot be carried out the output of an earlier one stands as it was."""
    (tmp_path / "jan.json").write_text("old content")
    (tmp_path / ".oci").symlink_to(emulator.config_path.parent)
    finished = run_process(
        [find_command("oci-audit-streamer"), *replace_arguments(JANUARY, eventfilter=emulator.tenancy()["id"])],
        cwd=tmp_path,
        variables={"OCI_AUDIT_ENDPOINT": "http://192.0.2.1"},
    )
    assert finished.code == 2
    assert (tmp_path / "jan.json").read_text() == "old content"


@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER])
def test_script_parses_on_any_python(script):
    """The file is valid in the oldest Python 3 whose grammar can still be asked for."""
    text = (ROOT / script).read_text()
    ast.parse(text, feature_version=(3, 4))
    assert "f'" not in text
    assert 'f"' not in text


@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER])
def test_script_without_packages_says_what_to_install(tmp_path, script):
    """Without the dependencies the script is exit 2, names what is missing and what to type."""
    finished = run_process([sys.executable, "-I", "-S", str(ROOT / script), "--help"], cwd=tmp_path)
    assert finished.code == 2
    assert "error: a package is missing" in finished.stderr
    assert "pip install" in finished.hint_lines[0]
    assert "make setup" in finished.hint_lines[0]
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("script", [STREAMER, LOGSTREAMER])
def test_script_on_an_old_python_says_which_is_needed(tmp_path, script):
    """On a Python that is too old the script is exit 2, and says which one it needs and which one it has."""
    pretend = "import runpy, sys; sys.version_info = (3, 6, 9); runpy.run_path(sys.argv[1], run_name='__main__')"
    finished = run_process([sys.executable, "-I", "-c", pretend, str(ROOT / script)], cwd=tmp_path)
    assert finished.code == 2
    assert "error: Python 3.11 or newer is needed; this is 3.6" in finished.stderr
    assert len(finished.hint_lines) == 1


@pytest.mark.parametrize("case", [JANUARY, DECEMBER], ids=lambda case: case.command)
def test_documented_csv_recipe(documented, tmp_path, case):
    """The documented way to CSV, `json_normalize` over the file, gives a row per event and a column per field."""
    _, folder = documented[case, True]
    with (folder / case.output).open() as file:
        events = json.load(file)
    frame = pd.json_normalize(events)
    frame.to_csv(tmp_path / "events.csv", index=False, errors="backslashreplace")
    with (tmp_path / "events.csv").open(newline="") as file:
        csv.field_size_limit(10_000_000)
        rows = list(csv.DictReader(file))
    assert len(rows) == len(events) > 100
    assert [row["event_id"] for row in rows] == [event["event_id"] for event in events]
    names = [event["data"]["event_name"] or "" for event in events]
    assert [row["data.event_name"] for row in rows] == names
    assert "data.identity.ip_address" in rows[0]
