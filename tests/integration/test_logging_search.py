"""`export --source logging-search` against the emulator: the events of ListEvents, whatever goes wrong."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from ociaudit.client.auth import load_credentials
from ociaudit.client.transport import TransportLimits
from ociaudit.operations.context import ExportOptions
from support.emulator import Emulator
from support.exports import export_here, make_command, make_tools, point_at, read_manifest, run_export
from support.hand_signing import SigningCredentials, sign_headers
from support.processes import Finished, find_command, make_environment, run_process
from support.truth import find_compartment, list_compartments, list_events

EMULATOR_FLAGS = ("--events-per-day", "6000")  # so that the busiest compartment has several pages of a thousand
REGION = "us-ashburn-1"
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"
SEARCH = ("--source", "logging-search", "--start", START, "--end", END, "--region", REGION, "--no-subtree")
IMPATIENT = TransportLimits(silence_seconds=2.0)  # a search that is computed for the first time takes a second

ANYWHERE = {
    "500": {"kind": "status", "status": 500},
    "429": {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}},
    "reset": {"kind": "reset", "afterBytes": 5_000},
    "short body": {"kind": "short_body"},
    "body cut cleanly": {"kind": "cut_body"},
    "html with 200": {"kind": "html"},
    "no object of results": {"kind": "not_an_array", "body": "object"},
    "an array": {"kind": "not_an_array", "body": "strings"},
    "no UTF-8": {"kind": "invalid_utf8"},
    "nested too deeply": {"kind": "deep_nesting"},
    "stall": {"kind": "stall", "seconds": 5.0, "after": "half"},
    "empty page": {"kind": "empty_page"},
    "duplicates": {"kind": "duplicate_within", "count": 5},
    "repeated token": {"kind": "repeated_token"},
    "foreign token": {"kind": "foreign_token"},
}


@pytest.fixture(scope="module")
def busy(shared_emulator):
    """Return the busiest compartment."""
    return find_compartment(shared_emulator, "payments")


def export(emulator, compartment, output: Path, **options):
    """Export the compartment in this process, without waiting."""
    chosen = ExportOptions(
        start=START, end=END, regions=(REGION,), compartments=(compartment,), is_subtree=False, source="logging-search"
    )
    return export_here(replace(chosen, **options), output, make_tools(emulator, limits=IMPATIENT))


@pytest.fixture(scope="module")
def undisturbed(shared_emulator, busy, tmp_path_factory):
    """Return the bytes of an export in which nothing goes wrong."""
    output = tmp_path_factory.mktemp("undisturbed") / "audit.json"
    assert export(shared_emulator, busy, output).complete
    return output.read_bytes()


def reconcile(folder: Path, *words: str) -> Finished:
    """Reconcile two files in a folder."""
    return run_process([find_command("oci-audit"), "reconcile", *words, "--json"], cwd=folder)


def test_a_search_gives_the_events_of_list_events_and_says_where_they_are_from(emulator, busy, tmp_path):
    """Same ids, same data, whatever the compartment; manifest, screen and verdict name the source and its time."""
    quiet = find_compartment(emulator, "data-lake")
    scope = ("--compartment", busy, "--compartment", quiet)
    search = run_export(emulator, tmp_path, *SEARCH, *scope, "-o", "search.json")
    assert search.code == 0, search.stderr
    listed = run_export(emulator, tmp_path, *SEARCH[2:], *scope, "-o", "listed.json")
    assert listed.code == 0, listed.stderr
    found = reconcile(tmp_path, "search.json", "listed.json")
    assert found.code == 0, found.stdout
    truth = {
        event["eventId"]: event
        for event in map(json.loads, list_events(emulator, START, END, regions=[REGION], compartments=[busy, quiet]))
        if event.get("eventId")
    }
    events = {event["eventId"]: event for event in json.loads((tmp_path / "search.json").read_bytes())}
    assert len(events) > 4_000
    for event_id, event in events.items():
        served = truth[event_id]
        for name in ("eventType", "eventTime", "source", "data", "contentType"):
            assert event.get(name) == served.get(name)
        assert event["oracle"]["loggroupid"] == "_Audit"
        assert "datetime" not in event
    manifest = read_manifest(tmp_path / "search.json")
    assert manifest["arguments"]["source"] == "logging-search"
    assert manifest["range"]["time"] == "event time"
    assert "read from Logging Search, by event time" in " ".join(search.stderr.split())
    verified = run_process([find_command("oci-audit"), "verify", "search.json"], cwd=tmp_path)
    assert verified.code == 0, verified.stdout
    assert "read from Logging Search" in " ".join((verified.stdout.decode() + verified.stderr).split())


def test_no_query_is_longer_than_14_days_and_a_denied_compartment_is_a_gap(emulator, tmp_path):
    """A range of 40 days is three queries or more; a forbidden compartment is exit 10, with the policy that helps."""
    quiet = find_compartment(emulator, "data-lake")
    denied = list_compartments(emulator, is_forbidden=True)[0]
    arguments = ("--source", "logging-search", "--start", "2025-05-01", "--end", "2025-06-09", "--region", REGION)
    scope = ("--no-subtree", "--compartment", quiet, "--compartment", denied)
    finished = run_export(emulator, tmp_path, *arguments, *scope, "-o", "search.json")
    assert finished.code == 10, finished.stderr
    assert "read log-content" in finished.stderr
    asked = [entry for entry in emulator.log() if entry["operation"] == "SearchLogs"]
    assert len(asked) >= 4
    for entry in asked:
        start, end = (datetime.fromisoformat(entry[name]) for name in ("startTime", "endTime"))
        assert timedelta(0) < end - start <= timedelta(days=14)
        assert entry["method"] == "POST"
    (gap,) = read_manifest(tmp_path / "search.json")["gaps"]
    assert gap["compartment"] == denied


@pytest.mark.parametrize("fault", ANYWHERE.values(), ids=ANYWHERE)
def test_a_fault_that_passes_changes_nothing(emulator, busy, undisturbed, tmp_path, fault):
    """A fault on a first and on a later page ends in the bytes of an undisturbed run."""
    for page in ("first", "later"):
        entry = {"operation": "SearchLogs", "match": {"page": page}, "skip": 0, "times": 1, "fault": fault}
        emulator.clear_faults()
        emulator.faults([entry])
        outcome = export(emulator, busy, tmp_path / f"{page}.json")
        assert [state["fired"] for state in emulator.fault_states()] == [1]
        assert outcome.complete
        assert (tmp_path / f"{page}.json").read_bytes() == undisturbed


def test_a_lasting_fault_is_a_gap_that_the_same_command_fills(emulator, busy, undisturbed, tmp_path):
    """A window that fails is a gap; later, the same command requests it alone and ends in the undisturbed bytes."""
    fault = {"kind": "status", "status": 400}
    entry = {"operation": "SearchLogs", "match": {"covers": "2025-06-03T12:00:00Z"}, "times": None, "fault": fault}
    emulator.faults([entry])
    outcome = export(emulator, busy, tmp_path / "audit.json")
    assert not outcome.complete
    emulator.clear_faults()
    emulator.clear_log()
    assert export(emulator, busy, tmp_path / "audit.json").complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed


def test_a_killed_export_continues_in_the_middle_of_a_search(busy, undisturbed, tmp_path):
    """After a SIGKILL the same command gives the bytes of an undisturbed run, and goes on behind the last page."""
    with Emulator("--retention-days", "36500", *EMULATOR_FLAGS, "--latency-ms", "400") as slow:
        command = make_command(slow, *SEARCH, "--compartment", busy, "-o", "audit.json")
        variables = make_environment(tmp_path, **point_at(slow))
        process = subprocess.Popen(command, cwd=tmp_path, env=variables, stderr=subprocess.DEVNULL)
        journal = tmp_path / "audit.json.run" / "journal.ndjson"
        for _ in range(1_000):
            if journal.exists() and journal.read_bytes().count(b'"page"') >= 2:
                break
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        assert not (tmp_path / "audit.json").exists()
        slow.clear_log()
        finished = run_process(command, cwd=tmp_path, variables=point_at(slow))
        assert finished.code == 0, finished.stderr
        asked = [entry for entry in slow.log() if entry["operation"] == "SearchLogs"]
        assert asked[0]["hasPage"]
    assert (tmp_path / "audit.json").read_bytes() == undisturbed


@pytest.mark.parametrize("cap", [130, 1_000])
def test_a_limit_on_the_results_of_a_query_loses_nothing(busy, undisturbed, tmp_path, cap):
    """A service that ends a query after some results, without a word, gives the same file."""
    with Emulator("--retention-days", "36500", *EMULATOR_FLAGS, "--search-cap", cap) as limited:
        assert export(limited, busy, tmp_path / "audit.json").complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed


def test_options_that_do_not_fit_are_refused(emulator, busy, tmp_path):
    """Longer queries than 14 days and --late are exit 2, before anything is requested."""
    for words, said in (
        (("--max-window-days", "15"), "Logging Search accepts 14 days at most per query, not 15"),
        (("--late", "2h", "--time-basis", "event-time"), "--late is for ListEvents"),
    ):
        finished = run_export(emulator, tmp_path, *SEARCH, "--compartment", busy, "-o", "x.json", *words)
        assert finished.code == 2, finished.stderr
        assert said in finished.stderr
        assert finished.hint_lines
    assert emulator.log() == []


def test_an_import_takes_the_events_and_not_the_coverage(emulator, busy, tmp_path):
    """An archive takes the events of a search; it does not count them as what ListEvents answered."""
    context = make_tools(emulator)
    export_here(
        ExportOptions(start=START, end=END, regions=(REGION,), compartments=(busy,), is_subtree=False),
        tmp_path / "listed.json",
        context,
    )
    assert export(emulator, busy, tmp_path / "search.json").complete
    finished = run_process([find_command("oci-audit"), "import", "archive", "listed.json", "search.json"], cwd=tmp_path)
    assert finished.code == 0, finished.stderr
    assert "search.json: its events count, its coverage does not: it was read from Logging Search" in finished.stderr


def test_the_body_of_a_search_is_part_of_its_signature(emulator, busy):
    """The emulator answers the body that was signed, and refuses another one and one that is not signed with 401."""
    credentials = load_credentials(str(emulator.config_path))
    target, host = f"/{REGION}/20190909/search?limit=1", f"127.0.0.1:{emulator.port}"
    body = json.dumps(
        {"timeStart": START, "timeEnd": END, "searchQuery": f'search "{busy}/_Audit" | sort by datetime asc'}
    ).encode()
    signed = credentials.sign(
        url=emulator.url + target, host=host, path=target, now_seconds=time.time(), method="POST", signed_body=body
    )
    unsigned = sign_headers(SigningCredentials.read(emulator.config_path), host, target, method="POST")

    def post(headers, sent):
        connection = http.client.HTTPConnection(host, timeout=30)
        with contextlib.closing(connection):
            connection.request("POST", target, body=sent, headers=headers)
            return connection.getresponse().status

    assert post(signed, body) == 200
    assert post(signed, body.replace(b"asc", b"dsc")) == 401
    assert post(unsigned, body) == 401
