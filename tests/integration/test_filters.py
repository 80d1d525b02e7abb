import json
import re
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import oci
import pytest

import ociaudit
from ociaudit.operations.context import Callbacks, ExportOptions
from ociaudit.storage.manifest import EventRange
from support import naive_filter
from support.clocks import FastForwardClock, SkewedClock
from support.emulator import Emulator
from support.exports import export_here, make_tools, point_at, read_manifest, run_export
from support.processes import Finished, find_command, run_process
from support.run_directories import list_requests
from support.truth import find_compartment, list_events, write_array

ROOT = Path(__file__).resolve().parents[2]
KEPT = ("--retention-days", "36500")
DAYS = ("--start", "2025-06-02", "--end", "2025-06-04")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"


@dataclass(frozen=True)
class Asked:
    """A tenancy that is asked again and again, and the lines of an export of it without a filter."""

    emulator: Emulator
    scope: tuple[str, ...]
    lines: list[bytes]
    example: dict[str, str]
    """Values that some of the events have."""


@pytest.fixture(scope="module")
def asked():
    """A tenancy with sign-ins, failures and addresses of both kinds, in compartments that can all be read."""
    with Emulator(*KEPT, "--events-per-day", "400") as emulator:
        compartments = (emulator.tenancy()["id"], find_compartment(emulator, "payments"))
        lines = list_events(emulator, START, END, compartments=compartments)
        events = [event for event in map(json.loads, lines) if (event.get("data") or {}).get("identity")]
        event = next(
            event for event in events if event["data"].get("resourceId") and event["data"]["identity"]["ipAddress"]
        )
        example = {
            "principal": event["data"]["identity"]["principalName"],
            "address": event["data"]["identity"]["ipAddress"].split(",")[0].strip(),
            "resource": event["data"]["resourceId"],
            "compartment": event["data"]["compartmentName"],
        }
        scope = (*DAYS, "--no-subtree", *(part for one in compartments for part in ("--compartment", one)))
        yield Asked(emulator, scope, lines, example)


CASES: dict[str, tuple[tuple[str, ...], dict[str, Any]]] = {
    "event type": (("--event-type", "ObjectStorage|objectStorage"), {"event_types": ["ObjectStorage|objectStorage"]}),
    "event name": (("--event-name", "list*"), {"event_names": ["list*"]}),
    "asked-for name": (("--event-name", "loginFAILURE"), {"event_names": ["LoginFailure"]}),
    "principal": (("--principal", "{PRINCIPAL}"), {"principals": ["{principal}"]}),
    "address": (("--ip", "{address}"), {"addresses": ["{address}"]}),
    "networks": (("--ip", "10.0.0.0/8,2001:db8::/32"), {"addresses": ["10.0.0.0/8,2001:db8::/32"]}),
    "compartment": (("--compartment-name", "{COMPARTMENT}"), {"compartment_names": ["{compartment}"]}),
    "resource": (("--resource", "{resource}"), {"resources": ["{resource}"]}),
    "outcome": (("--outcome", "failure"), {"outcomes": ["failure"]}),
    "unknown outcome": (("--outcome", "Unknown"), {"outcomes": ["unknown"]}),
    "status": (("--status", "4xx", "--status", "500-599"), {"statuses": ["4xx", "500-599"]}),
    "after": (("--event-after", "2025-06-03"), {"event_after": "2025-06-03T00:00:00Z"}),
    "before": (("--event-before", "03.06.25"), {"event_before": "2025-06-03T00:00:00Z"}),
    "after a time of a zone": (
        ("--event-after", "2025-06-03 02:00 Europe/Berlin"),
        {"event_after": "2025-06-03T00:00:00Z"},
    ),
    "before milliseconds": (("--event-before", "1748908800001"), {"event_before": "2025-06-03T00:00:00.001Z"}),
    "after a day in digits": (("--event-after", "20250603"), {"event_after": "2025-06-03T00:00:00Z"}),
    "together": (
        ("--event-name", "Get*", "--outcome", "success", "--exclude-principal", "{principal}"),
        {"event_names": ["Get*"], "outcomes": ["success"], "exclude": {"principals": ["{principal}"]}},
    ),
    "without types": (("--exclude-event-type", "identity"), {"exclude": {"event_types": ["identity"]}}),
    "without names": (("--exclude-event-name", "get*"), {"exclude": {"event_names": ["get*"]}}),
    "without addresses": (("--exclude-ip", "0.0.0.0/0"), {"exclude": {"addresses": ["0.0.0.0/0"]}}),
    "without a compartment": (
        ("--exclude-compartment-name", "{compartment}"),
        {"exclude": {"compartment_names": ["{compartment}"]}},
    ),
    "without resources": (("--exclude-resource", "ocid1.*"), {"exclude": {"resources": ["ocid1.*"]}}),
    "without successes": (("--exclude-outcome", "success"), {"exclude": {"outcomes": ["success"]}}),
    "without statuses": (("--exclude-status", "2xx"), {"exclude": {"statuses": ["2xx"]}}),
}


def fill_in(value: Any, example: dict[str, str]) -> Any:
    """Put the example's values where a case has their names; a name in capitals is the value in capitals."""
    if isinstance(value, str):
        for name, text in example.items():
            value = value.replace(f"{{{name}}}", text).replace(f"{{{name.upper()}}}", text.upper())
        return value
    if isinstance(value, dict):
        return {name: fill_in(inner, example) for name, inner in value.items()}
    return [fill_in(inner, example) for inner in value]


@pytest.mark.parametrize("case", CASES)
def test_an_option_writes_what_its_definition_says(asked: Asked, tmp_path: Path, case: str) -> None:
    """Each option of a filter writes exactly the events that it should, and the counts add up."""
    options, spec = fill_in(list(CASES[case]), asked.example)
    finished = run_export(asked.emulator, tmp_path, *asked.scope, *options, "-o", "audit.json")
    assert finished.code == 0, finished.stderr
    kept = naive_filter.select(asked.lines, spec)
    assert 0 < len(kept) < len(asked.lines)
    assert (tmp_path / "audit.json").read_bytes() == write_array(kept)
    manifest = read_manifest(tmp_path / "audit.json")
    dropped = len(asked.lines) - len(kept)
    assert (manifest["totals"]["written"], manifest["totals"]["filtered"]) == (len(kept), dropped)
    assert manifest["totals"]["outside_event_range"] == 0
    assert manifest["arguments"]["filter"] or manifest["arguments"]["event_types"]
    assert f"{len(kept):,} written + {dropped:,} filtered out + 0 identical" in finished.stderr
    verified = run_process([find_command("oci-audit"), "verify", "audit.json"], cwd=tmp_path)
    assert verified.code == 0, verified.stderr


def test_presets_are_combined_with_other_filters(asked: Asked, tmp_path: Path) -> None:
    """Presets are alternatives among each other, in any case, and conditions beside the rest."""
    options = ("--preset", "SIGN-INS,api-keys", "--preset", "deletions", "--exclude-preset", "sign-in-failures")
    finished = run_export(asked.emulator, tmp_path, *asked.scope, *options, "-o", "audit.json")
    assert finished.code == 0, finished.stderr
    pattern = re.compile(r"\.IdentitySignOn\.|\.(UploadApiKey|DeleteApiKey)$|\.(Delete|Terminate)")
    kept = [
        line
        for line, event in ((line, json.loads(line)) for line in asked.lines)
        if pattern.search(event["eventType"] or "")
        and not ("IdentitySignOn" in event["eventType"] and naive_filter.read_outcome(event) == "failure")
    ]
    assert any(b"IdentitySignOn" in line for line in kept)
    assert any(b"TerminateInstance" in line for line in kept)
    assert (tmp_path / "audit.json").read_bytes() == write_array(kept)


def test_a_name_that_audit_does_not_record_is_explained_once(asked: Asked, tmp_path: Path) -> None:
    """A notice says what the name is taken for, also when all else is quiet; events are those that failed."""
    options = ("--event-name", "LoginFailure", "--event-name", "loginfailure", "--quiet")
    finished = run_export(asked.emulator, tmp_path, *asked.scope, *options, "-o", "audit.json")
    assert finished.stderr.count("Audit does not record LoginFailure") == 1
    command = [find_command("oci-audit"), "convert", "audit.json", "-o", "again.json", *options]
    assert run_process(command, cwd=tmp_path).stderr.count("Audit does not record LoginFailure") == 1
    events = json.loads((tmp_path / "audit.json").read_bytes())
    assert {event["data"]["message"] for event in events} <= {
        f" {name} failed" for name in ("InteractiveLogin", "FederatedInteractiveLogin", "VerifyMfaToken")
    }
    assert events


def test_a_filter_that_lets_nothing_pass_is_told_in_words(asked: Asked, tmp_path: Path) -> None:
    """The screen shows the filter, and which event types there were."""
    finished = run_export(asked.emulator, tmp_path, *asked.scope, "--principal", "nobody", "-o", "audit.json")
    assert (tmp_path / "audit.json").read_bytes() == b"[\n]\n"
    assert f"no event matched principal 'nobody' among {len(asked.lines):,} scanned" in finished.stderr
    assert "most frequent of those scanned:" in finished.stderr


def test_another_filter_is_another_request(asked: Asked, tmp_path: Path) -> None:
    """The same filter again finds the output complete; another one is refused over it, with the difference."""
    first = (*asked.scope, "--principal", "*a*", "-o", "audit.json")
    assert run_export(asked.emulator, tmp_path, *first).code == 0
    again = run_export(asked.emulator, tmp_path, *first)
    assert "nothing was requested" in again.stderr
    other = run_export(asked.emulator, tmp_path, *asked.scope, "--principal", "*b*", "-o", "audit.json")
    assert other.code == 2
    assert "filter was principal '*a*', is principal '*b*'" in other.stderr


SCRIPT_DAYS = ("--startdate", "2025-06-02", "--enddate", "2025-06-04", "--profilename", "DEFAULT")
LOGSTREAMER_DAYS = ("--startdate", "02.06.25", "--enddate", "04.06.25", "--profilename", "DEFAULT")


def run_script(asked: Asked, folder: Path, script: str, days: tuple[str, ...], eventfilter: str) -> Finished:
    """Run a documented script with a filter over the root compartment."""
    (folder / ".oci").symlink_to(asked.emulator.config_path.parent)
    command = [sys.executable, str(ROOT / script), *days, "--outputfile", "a.json", "--eventfilter", eventfilter]
    return run_process(command, cwd=folder, variables={"OCI_AUDIT_ENDPOINT": asked.emulator.url})


@pytest.mark.parametrize(
    ("script", "days"),
    [("oci_audit_streamer.py", SCRIPT_DAYS), ("files/logstreamer.py", LOGSTREAMER_DAYS)],
)
@pytest.mark.parametrize(
    ("eventfilter", "spec"),
    [
        ("LoginFailure", {"event_types": ["LoginFailure"]}),
        ("Audit;loginfailure|CreateApiKey", {"event_types": ["Audit", "LoginFailure", "CreateApiKey"]}),
    ],
)
def test_both_scripts_take_the_names_people_ask_for(
    asked: Asked, tmp_path: Path, script: str, days: tuple[str, ...], eventfilter: str, spec: dict[str, Any]
) -> None:
    """`--eventfilter LoginFailure` writes the sign-ins that failed, beside what other parts find; a notice says so."""
    finished = run_script(asked, tmp_path, script, days, eventfilter)
    assert finished.code == 0, finished.stderr
    assert finished.stderr.count("Audit does not record LoginFailure") == 1
    region = oci.config.from_file(str(asked.emulator.config_path))["region"]
    root = asked.emulator.tenancy()["id"]
    lines = list_events(asked.emulator, START, END, regions=[region], compartments=[root])
    expected = [json.loads(line)["eventId"] for line in naive_filter.select(lines, spec)]
    assert 0 < len(expected) < len(lines)
    assert [event["event_id"] for event in json.loads((tmp_path / "a.json").read_bytes())] == expected


def test_the_functions_for_python_take_filters(asked: Asked, tmp_path: Path, monkeypatch) -> None:
    """`export`, `stream` and `stream_to_json_file` let the same events pass as the command."""
    monkeypatch.setenv("OCI_AUDIT_ENDPOINT", asked.emulator.url + "/{region}")
    config = str(asked.emulator.config_path)
    wanted = ociaudit.FilterSpec(event_names=["LoginFailure"], exclude=ociaudit.Criteria(event_types="Federated"))
    spec = {"event_names": ["LoginFailure"], "exclude": {"event_types": ["Federated"]}}
    expected = naive_filter.select(asked.lines, spec)
    assert expected
    output = tmp_path / "a.json"
    scope = {"config_file": config, "compartments": asked.scope[6::2], "is_subtree": False}
    ociaudit.export("2025-06-02", "2025-06-04", output=output, filter=wanted, **scope)
    assert output.read_bytes() == write_array(expected)
    with ociaudit.stream("2025-06-02", "2025-06-04", filter=wanted, **scope) as events:
        assert sorted(event["eventId"] for event in events) == sorted(json.loads(line)["eventId"] for line in expected)
    served = ociaudit.stream(START, END, shape="sdk", **scope)
    count = ociaudit.stream_to_json_file(served, tmp_path / "b.json", eventfilter="loginfailure")
    assert count == len(naive_filter.select(asked.lines, {"event_types": ["loginfailure"]}))


@pytest.fixture(scope="module")
def late():
    """A tenancy in which a third of the events is processed up to 90 minutes late."""
    with Emulator(*KEPT, "--events-per-day", "600", "--late-share", "0.33", "--late-minutes", "90") as emulator:
        yield emulator


def list_happened(emulator: Emulator, compartment: str, *, until: str) -> list[bytes]:
    """Return what was processed before `until`, and happened in the three days or at an unknown time."""
    lines = list_events(emulator, START, until, compartments=[compartment])
    times = [(line, naive_filter.read_time(json.loads(line))) for line in lines]
    return [line for line, time in times if time is None or START <= time.isoformat().replace("+00:00", "Z") < END]


@pytest.mark.parametrize(("late_span", "until"), [("90m", "2025-06-05T01:30:00Z"), ("0m", END)])
def test_a_range_of_event_times(late: Emulator, tmp_path: Path, late_span: str, until: str) -> None:
    """What happened in the range is written though it was processed later; what did not is dropped and stated apart."""
    payments = find_compartment(late, "payments")
    options = ("--compartment", payments, "--by", "event-time", "--late", late_span)
    finished = run_export(late, tmp_path, *DAYS, *options, "-o", "audit-{start}-{end}.json")
    output = tmp_path / "audit-2025-06-02-2025-06-04.json"
    assert finished.code == 0, finished.stderr
    scanned = list_events(late, START, until, compartments=[payments])
    happened = list_happened(late, payments, until=until)
    assert 0 < len(happened) < len(scanned)
    assert output.read_bytes() == write_array(happened)
    manifest = read_manifest(output)
    outside = len(scanned) - len(happened)
    assert manifest["range"] == {"start": START, "end": until, "time": "processed time"}
    assert manifest["event_range"] == {"start": START, "end": END, "late": late_span, "is_settled": True}
    assert (manifest["arguments"]["by"], manifest["arguments"]["late"]) == ("event-time", late_span)
    assert manifest["totals"]["outside_event_range"] == manifest["totals"]["filtered"] == outside
    assert manifest["event_times"]["outside_range"] == 0
    assert f"{outside} events outside the event times {START} .. {END} dropped" in finished.stderr
    assert "the range is in event times" in finished.stderr
    if late_span == "90m":  # nothing comes later than that here, so all that ever happened then is there
        whole = list_happened(late, payments, until="2025-06-08T00:00:00Z")
        assert len(whole) == len(happened)
    again = run_export(late, tmp_path, *DAYS, *options, "-o", "audit-{start}-{end}.json")
    assert "nothing was requested" in again.stderr
    assert run_process([find_command("oci-audit"), "verify", output.name], cwd=tmp_path).code == 0


def test_event_time_and_filters_are_counted_apart(late: Emulator, tmp_path: Path) -> None:
    """Filtered is the sum; what was dropped for its time alone is stated beside it. A stream gives the same events."""
    payments = find_compartment(late, "payments")
    options = ("--compartment", payments, "--by", "Event-Time", "--outcome", "success")
    assert run_export(late, tmp_path, *DAYS, *options, "-o", "audit.json").code == 0
    totals = read_manifest(tmp_path / "audit.json")["totals"]
    until = "2025-06-05T01:00:00Z"
    scanned = list_events(late, START, until, compartments=[payments])
    happened = list_happened(late, payments, until=until)
    kept = naive_filter.select(happened, {"outcomes": ["success"]})
    assert totals["outside_event_range"] == len(scanned) - len(happened)
    assert totals["filtered"] == len(scanned) - len(kept) > totals["outside_event_range"]
    stream = ociaudit.stream(
        "2025-06-02",
        "2025-06-04",
        config_file=str(late.config_path),
        compartments=[payments],
        endpoint=point_at(late)["OCI_AUDIT_ENDPOINT"],
        filter=ociaudit.FilterSpec(outcomes=["success"]),
        time_basis="event-time",
    )
    assert sorted(event["eventId"] for event in stream) == sorted(json.loads(line)["eventId"] for line in kept)


class NoticeKeeper(Callbacks):
    """Remembers the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def on_notice(self, text: str) -> None:
        self.notices.append(text)


def show_minute(moment: datetime) -> str:
    """Write a minute as the manifest does."""
    return moment.strftime("%Y-%m-%dT%H:%M:00Z")


class MinuteHand(FastForwardClock):
    """A clock that moves on by a minute after it was read for the first time."""

    def __init__(self) -> None:
        """Start at the present minute."""
        super().__init__()
        self.reads = 0
        self._began_at = datetime.now(UTC).replace(second=0, microsecond=0)

    def now(self) -> datetime:
        """Return the minute of the start, then the next."""
        self.reads += 1
        return self._began_at + timedelta(minutes=min(self.reads - 1, 1))


def test_a_relative_range_is_resolved_once_per_run(shared_emulator, tmp_path: Path) -> None:
    """However long a run takes, the window requested and the range of event times are those of one moment."""
    options = ExportOptions(
        start="3h",
        end="1h",
        regions=("us-ashburn-1",),
        is_subtree=False,
        time_basis="event-time",
        late="10m",
        compartments=(shared_emulator.tenancy()["id"],),
    )
    clock = MinuteHand()
    manifest = export_here(options, tmp_path / "audit.json", make_tools(shared_emulator, clock=clock)).manifest
    assert clock.reads > 2, "the clock has moved on during the run"
    assert manifest.event_range is not None
    assert manifest.range.start == manifest.event_range.start
    end, late_end = (datetime.fromisoformat(one) for one in (manifest.event_range.end, manifest.range.end))
    assert late_end - end == timedelta(minutes=10)


def test_a_range_of_event_times_that_may_still_grow_is_asked_again(tmp_path: Path) -> None:
    """While late events may come, the manifest says so; the same command later asks for the rest and no more."""
    if datetime.now(UTC).second > 40:  # both runs belong into one minute
        time.sleep(61 - datetime.now(UTC).second)
    present = datetime.now(UTC).replace(second=0, microsecond=0)
    start, end = present - timedelta(hours=9), present - timedelta(minutes=30)
    moments = []
    with Emulator("--events-per-day", "9000", "--late-share", "0.3") as emulator:
        root = emulator.tenancy()["id"]
        options = ExportOptions(
            start=show_minute(start),
            end=show_minute(end),
            compartments=(root,),
            is_subtree=False,
            time_basis="event-time",
            late="31m",
        )
        for minutes in (0, 4):
            emulator.clear_log()
            callbacks = NoticeKeeper()
            context = make_tools(emulator, clock=SkewedClock(timedelta(minutes=minutes)), callbacks=callbacks)
            manifest = export_here(options, tmp_path / "audit.json", context).manifest
            asked_from = min(request.start for request in list_requests(emulator.log()))
            events = json.loads((tmp_path / "audit.json").read_bytes())
            moments.append((manifest, callbacks.notices, asked_from, [event["eventTime"] for event in events]))
    (first, notices, asked_from, times), (second, later_notices, asked_again_from, later_times) = moments
    assert any("31m after the end is in the future" in notice for notice in notices)
    assert first.event_range == EventRange(show_minute(start), show_minute(end), "31m", is_settled=False)
    assert (first.range.end, asked_from) == (show_minute(present), show_minute(start))
    assert not any("still to come" in notice for notice in later_notices)
    assert second.event_range == EventRange(show_minute(start), show_minute(end), "31m", is_settled=True)
    assert second.range.end == show_minute(present + timedelta(minutes=1))
    # What was asked in the last quarter of an hour was provisional, and is asked again; nothing else is.
    assert asked_again_from == show_minute(present - timedelta(minutes=15))
    for found in (times, later_times):
        assert found
        assert all(show_minute(start) <= moment < show_minute(end) for moment in found)
    assert set(times) <= set(later_times)


WRONG = [
    (("--ip", "10.0.0.0/40"), ("'10.0.0.0/40'", "neither an address nor a network")),
    (("--exclude-ip", "host.example.com"), ("'host.example.com'",)),
    (("--preset", "sgin-ins"), ("'sgin-ins'", "did you mean sign-ins")),
    (("--exclude-preset", "x"), ("'x' is not a preset",)),
    (("--outcome", "failed"), ("'failed' is not an outcome", "failure")),
    (("--status", "20"), ("'20'",)),
    (("--status", "5xx-6xx"), ("'5xx-6xx'",)),
    (("--principal", ""), ("empty principal",)),
    (("--event-after", ""), ("''",)),
    (("--event-after", "7d"), ("--event-after", "'7d' is an age")),
    (("--event-before", "12/01/2025"), ("--event-before", "can mean 2025-01-12 or 2025-12-01")),
    (("--event-before", "2025-10-26 02:30 Europe/Berlin"), ("--event-before", "twice")),
    (("--event-after", "2025-06-04", "--event-before", "2025-06-03"), ("'2025-06-04'", "'2025-06-03'")),
    (("--by", "clock"), ("'clock'",)),
    (("--late", "1h"), ("--late applies only to ranges of event time",)),
    (("--by", "event-time", "--late", "soon"), ("'soon'",)),
    (("--by", "event-time", "--late", "9999d"), ("'9999d'",)),
]


@pytest.mark.parametrize(("options", "words"), WRONG, ids=" ".join)
def test_what_cannot_be_filtered_by_is_refused(asked: Asked, tmp_path: Path, options, words) -> None:
    """A wrong value is exit 2 with one sentence that names it and a hint; nothing is asked and nothing is written."""
    asked.emulator.clear_log()
    finished = run_export(asked.emulator, tmp_path, *DAYS, "-o", "audit.json", *options)
    assert finished.code == 2, finished.stderr
    assert len(finished.error_lines) == len(finished.hint_lines) == 1
    assert all(word in finished.error_lines[0] for word in words), finished.stderr
    assert "Traceback" not in finished.stderr
    assert list(tmp_path.iterdir()) == []
    assert asked.emulator.log() == []


def test_the_presets_are_listed(tmp_path: Path) -> None:
    """All in lines, one with its event types, either as JSON; an unknown one is exit 2 with near names."""
    command = [find_command("oci-audit"), "presets"]
    lines = run_process(command, cwd=tmp_path).stdout.decode().splitlines()
    assert len(lines) == 13
    assert lines[0].startswith("iam ")
    one = run_process([*command, "API-keys"], cwd=tmp_path).stdout.decode()
    assert "    identityControlPlane.UploadApiKey\n" in one
    listed = json.loads(run_process([*command, "--json"], cwd=tmp_path).stdout)
    assert len(listed) == 13
    assert listed["sign-in-failures"]["parts"][0]["outcome"] == "failure"
    assert list(json.loads(run_process([*command, "cis", "--json"], cwd=tmp_path).stdout)) == ["cis"]
    wrong = run_process([*command, "delete"], cwd=tmp_path)
    assert (wrong.code, wrong.stdout) == (2, b"")
    assert "did you mean deletions" in wrong.stderr
