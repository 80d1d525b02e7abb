import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ociaudit.client.transport import TransportLimits
from ociaudit.errors import ScopeUnreadable, ServiceUnreachable, SignInRejected
from ociaudit.operations.context import Callbacks, ExportOptions
from support.clocks import FastForwardClock, NoWaitClock
from support.emulator import Emulator
from support.exports import export_here, make_tools, run_export
from support.truth import find_compartment, list_events, sort_events, write_array

EMULATOR_FLAGS = ("--events-per-day", "800", "--page-size", "50")  # so that a window of a day has several pages

REGION = "us-ashburn-1"
START, SECOND, THIRD, END = (f"2025-06-0{day}T00:00:00Z" for day in (2, 3, 4, 5))
# A stalled connection is given up after a tenth of a second, so that no test waits a minute.
IMPATIENT = TransportLimits(silence_seconds=0.1)
IN_TURN = replace(IMPATIENT, max_in_flight=1)
SHORT_STALL = {"kind": "stall", "seconds": 0.6}

# Faults that pass, on any page.
ANYWHERE = {
    "500": {"kind": "status", "status": 500, "code": "InternalServerError"},
    "502 without a body of Oracle's": {"kind": "status", "status": 502, "code": ""},
    "503": {"kind": "status", "status": 503},
    "504": {"kind": "status", "status": 504},
    "409": {"kind": "status", "status": 409},
    "429": {"kind": "status", "status": 429},
    "429 with Retry-After": {"kind": "status", "status": 429, "headers": {"Retry-After": "7"}},
    "reset before the answer": {"kind": "reset"},
    "reset within the body": {"kind": "reset", "afterBytes": 5_000},
    "short body": {"kind": "short_body"},
    "body cut cleanly": {"kind": "cut_body"},
    "body cut to nothing": {"kind": "cut_body", "keptBytes": 0},
    "html with 200": {"kind": "html"},
    "an object": {"kind": "not_an_array", "body": "object"},
    "a string": {"kind": "not_an_array", "body": "string"},
    "strings": {"kind": "not_an_array", "body": "strings"},
    "numbers": {"kind": "not_an_array", "body": "numbers"},
    "null": {"kind": "not_an_array", "body": "null"},
    "nothing": {"kind": "not_an_array", "body": "nothing"},
    "no UTF-8": {"kind": "invalid_utf8"},
    "nested too deeply": {"kind": "deep_nesting"},
    "stall before the answer": SHORT_STALL,
    "stall after the headers": {**SHORT_STALL, "after": "headers"},
    "stall within the body": {**SHORT_STALL, "after": "half"},
    "gzip cut": {"kind": "bad_gzip", "how": "truncated"},
    "gzip garbage": {"kind": "bad_gzip", "how": "garbage"},
    "empty page": {"kind": "empty_page"},
    "repeated token": {"kind": "repeated_token"},
    "foreign token": {"kind": "foreign_token"},
    "duplicates within a page": {"kind": "duplicate_within", "count": 5},
}
# Faults that only a page with a token in its request can have.
LATER = {
    "expired token": {"kind": "expired_token"},
    "token refused otherwise": {"kind": "status", "status": 400, "code": "InvalidParameter"},
}
# Faults that never end, and the words of the gap.
FOR_EVER = {
    "503": ({"kind": "status", "status": 503}, "503"),
    "429": ({"kind": "status", "status": 429, "headers": {"Retry-After": "1"}}, "429"),
    "400": ({"kind": "status", "status": 400}, "400 InvalidParameter"),
    "404": ({"kind": "status", "status": 404}, "404 NotAuthorizedOrNotFound"),
    "403": ({"kind": "status", "status": 403}, "403 NotAllowed"),
    "reset": ({"kind": "reset"}, "connection"),
    "short body": ({"kind": "short_body"}, "connection"),
    "cut body": ({"kind": "cut_body"}, "answered 200, but"),
    "html": ({"kind": "html"}, "answered 200, but"),
    "no array": ({"kind": "not_an_array"}, "answered 200, but"),
    "no UTF-8": ({"kind": "invalid_utf8"}, "UTF-8"),
    "nested too deeply": ({"kind": "deep_nesting"}, "nested"),
    "stall": (SHORT_STALL, "stopped responding"),
    "repeated token": ({"kind": "repeated_token"}, "same page token twice"),
    "foreign token": ({"kind": "foreign_token"}, "400"),
}


@dataclass(frozen=True)
class Undisturbed:
    """What an export of one compartment over three days holds when nothing goes wrong."""

    compartment: str
    data: bytes
    lines: list[bytes]


class Witness(Callbacks):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.retries = []
        self.gaps = []

    def on_retry(self, error, wait_seconds):
        self.retries.append((error, wait_seconds))

    def on_gap(self, gap):
        self.gaps.append(gap)


@pytest.fixture(scope="module")
def undisturbed(shared_emulator):
    """The truth about one busy compartment."""
    compartment = find_compartment(shared_emulator, "payments")
    lines = list_events(shared_emulator, START, END, regions=[REGION], compartments=[compartment])
    assert len(lines) > 7 * 50
    return Undisturbed(compartment, write_array(lines), lines)


def export(emulator, undisturbed, output: Path, *, clock=None, callbacks=None, limits=IMPATIENT):
    """Export the compartment in windows of a day, without waiting."""
    options = ExportOptions(
        start=START,
        end=END,
        regions=(REGION,),
        compartments=(undisturbed.compartment,),
        is_subtree=False,
    )
    context = make_tools(emulator, clock=clock, limits=limits, callbacks=callbacks)
    return export_here(options, output, context, max_window_days=1)


def script(emulator, fault, *, page="any", times: int | None = 1, skip=0, **match):
    """Let a fault happen to questions for events."""
    match = {"page": page, **match}
    emulator.faults([{"operation": "ListEvents", "match": match, "skip": skip, "times": times, "fault": fault}])


def assert_fired(emulator, times: int | None = 1):
    """Insist that every fault did what it was scripted to do."""
    states = emulator.fault_states()
    assert states
    for state in states:
        assert state["fired"] >= (times or 1)
        assert state["completed"] is (times is not None)


@pytest.mark.parametrize("fault", ANYWHERE.values(), ids=ANYWHERE)
def test_fault_that_passes_changes_nothing(emulator, undisturbed, tmp_path, fault):
    """A fault that ends, on a first and on a later page, ends in the same bytes as an undisturbed run."""
    times = 1 if "token" in fault["kind"] else 2  # a window is begun again twice at most
    script(emulator, fault, page="first", times=times)
    script(emulator, fault, page="later", times=times)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, times)
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data
    assert list(outcome.manifest.conflicting_ids) == []


@pytest.mark.parametrize("fault", LATER.values(), ids=LATER)
def test_refused_token_begins_the_window_again(emulator, undisturbed, tmp_path, fault):
    """A token that the service refuses leads back to the window's first page; nothing is missing or twice."""
    script(emulator, fault, page="later", times=2)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, 2)
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data


def test_empty_token_is_the_end(emulator, undisturbed, tmp_path):
    """A last page whose token header is there but empty ends the window, without another request for it."""
    script(emulator, {"kind": "empty_token"}, times=2)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, 2)
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data
    pages = [entry for entry in emulator.log() if entry["operation"] == "ListEvents"]
    assert len(pages) == outcome.manifest.totals.pages


def test_empty_pages_are_not_the_end(emulator, undisturbed, tmp_path):
    """A page without events and with a token is followed: only the missing token ends a window."""
    script(emulator, {"kind": "empty_page"}, page="first", times=3)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, 3)
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data
    assert outcome.manifest.totals.identical == 0


def test_duplicates_across_windows_are_written_once(tmp_path):
    """Events that come in two windows are written once and counted as identical."""
    with Emulator("--retention-days", "36500", "--events-per-day", "100", "--page-size", "40") as emulator:
        root = emulator.tenancy()["id"]
        emulator.faults(
            [
                {
                    "operation": "ListEvents",
                    "match": {"startTime": "2025-06-28T00:00:00Z"},
                    "fault": {"kind": "duplicate_across", "count": 4},
                }
            ]
        )
        # The fault takes its events from the thirty days before the window that it hits.
        finished = run_export(
            emulator,
            tmp_path,
            *("--start", "2025-05-29", "--end", "2025-06-29", "--max-window-days", "30", "-o", "audit.json"),
            *("--compartment", root, "--no-subtree", "--region", REGION),
        )
        (state,) = emulator.fault_states()
        span = ("2025-05-29T00:00:00Z", "2025-06-30T00:00:00Z")
        expected = list_events(emulator, *span, regions=[REGION], compartments=[root])
    assert state["completed"]
    assert finished.code == 0, finished.stderr
    assert (tmp_path / "audit.json").read_bytes() == write_array(expected)
    assert "4 identical" in finished.stderr


@pytest.mark.parametrize("is_time_changed", [False, True], ids=["other field", "other time"])
def test_same_id_with_other_bytes_is_kept(emulator, undisturbed, tmp_path, is_time_changed):
    """Records that share an id and differ are all written, counted as conflicting and named."""
    script(emulator, {"kind": "same_id_other_bytes", "count": 2, "changeEventTime": is_time_changed}, page="later")
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator)
    written = (tmp_path / "audit.json").read_bytes().splitlines()[1:-1]
    lines = [line.removesuffix(b",") for line in written]
    added = set(lines) - set(undisturbed.lines)
    assert outcome.complete
    assert set(undisturbed.lines) < set(lines)
    assert len(lines) == len(undisturbed.lines) + 2
    assert lines == sort_events(lines)
    assert outcome.manifest.totals.conflicting_ids == 2
    assert sorted(outcome.manifest.conflicting_ids) == sorted(json.loads(line)["eventId"] for line in added)


@pytest.mark.parametrize(("fault", "words"), FOR_EVER.values(), ids=FOR_EVER)
def test_fault_that_never_ends_is_a_gap(emulator, undisturbed, tmp_path, fault, words):
    """A fault that never ends, on a first or a later page, is a stated gap of its window; the rest is written."""
    script(emulator, fault, page="later", times=None, startTime=SECOND)
    script(emulator, fault, page="first", times=None, startTime=THIRD)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    written = (tmp_path / "audit.json").read_bytes()
    lines = {line.removesuffix(b",") for line in written.splitlines()[1:-1]}
    first_day = list_events(emulator, START, SECOND, regions=[REGION], compartments=[undisturbed.compartment])
    assert not outcome.complete
    assert_gaps(outcome.manifest.gaps, words)
    assert outcome.manifest.output.sha256 == hashlib.sha256(written).hexdigest()
    # What came of a window before the fault is kept, and nothing that was never served.
    assert set(first_day) < lines < set(undisturbed.lines)
    assert outcome.manifest.coverage[0].windows == ((START, SECOND),)
    assert emulator.fault_states()[0]["fired"] > 0


def assert_gaps(gaps, words):
    """Insist that the second and the third day are gaps for a reason, each or, when denied, both in one."""
    assert min(gap.start for gap in gaps) == SECOND
    assert max(gap.end for gap in gaps) == END
    assert len(gaps) == 2 or gaps[0].kind == "denied"
    assert all(words in gap.reason for gap in gaps)


def test_gaps_are_asked_again_and_the_result_is_whole(emulator, undisturbed, tmp_path):
    """When the fault is over the same request fills the gap, and the bytes are those of an undisturbed run."""
    script(emulator, {"kind": "status", "status": 503}, page="later", times=None, startTime=THIRD)
    assert not export(emulator, undisturbed, tmp_path / "audit.json").complete
    emulator.clear_faults()
    emulator.clear_log()
    assert export(emulator, undisturbed, tmp_path / "audit.json").complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data
    assert {entry["startTime"] for entry in emulator.log() if entry["operation"] == "ListEvents"} == {THIRD}


def test_eight_attempts_with_growing_waits(emulator, undisturbed, tmp_path):
    """A request is tried eight times, with waits that grow, before it is a gap."""
    script(emulator, {"kind": "status", "status": 500}, times=None, startTime=THIRD)
    clock, witness = NoWaitClock(), Witness()
    export(emulator, undisturbed, tmp_path / "audit.json", clock=clock, callbacks=witness, limits=IN_TURN)
    assert emulator.fault_states()[0]["fired"] == 8
    assert len(clock.waits) == len(witness.retries) == 7
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[-1] > 20 * clock.waits[0]


def test_retry_after_is_honoured(emulator, undisturbed, tmp_path):
    """A wait is at least as long as `Retry-After` asks."""
    script(emulator, {"kind": "status", "status": 429, "headers": {"Retry-After": "42"}}, times=2)
    clock, witness = FastForwardClock(), Witness()
    assert export(emulator, undisturbed, tmp_path / "audit.json", clock=clock, callbacks=witness).complete
    assert_fired(emulator, 2)
    waits = [wait for error, wait in witness.retries if "429" in str(error)]  # a busy machine may retry others
    assert len(waits) == 2
    assert min(waits) >= 42


@pytest.mark.parametrize("status", [400, 404])
def test_refusals_are_not_repeated(emulator, undisturbed, tmp_path, status):
    """A 400 or a 404 is asked once, not eight times."""
    script(emulator, {"kind": "status", "status": status}, page="first", times=None)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json", limits=IN_TURN)
    assert not outcome.complete
    # A place that was denied is not asked in all its windows; the next one may be on its way already.
    assert emulator.fault_states()[0]["fired"] in ({3} if status == 400 else {1, 2})


def test_sign_in_that_ends_within_a_run_stops_it(emulator, undisturbed, tmp_path):
    """A 401 after good answers stops the run; the same request goes on from there to the undisturbed bytes."""
    script(emulator, {"kind": "status", "status": 401}, times=1, startTime=THIRD)
    with pytest.raises(SignInRejected):
        export(emulator, undisturbed, tmp_path / "audit.json", limits=IN_TURN)
    assert_fired(emulator)
    assert not (tmp_path / "audit.json").exists()
    emulator.clear_log()
    assert export(emulator, undisturbed, tmp_path / "audit.json").complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data
    assert START not in {entry["startTime"] for entry in emulator.log()}


def test_service_that_fails_everywhere_stops_the_run(emulator, undisturbed, tmp_path):
    """When no question for events is answered at all the run stops, instead of writing an empty file."""
    script(emulator, {"kind": "status", "status": 503}, times=None)
    with pytest.raises(ServiceUnreachable):
        export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, None)
    assert not (tmp_path / "audit.json").exists()


LISTINGS = ["ListRegionSubscriptions", "ListCompartments"]


@pytest.mark.parametrize("operation", LISTINGS)
@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "status": 500},
        {"kind": "html"},
        {"kind": "cut_body"},
        {"kind": "short_body"},
        {"kind": "reset"},
        {"kind": "not_an_array"},
        {"kind": "not_an_array", "body": "strings"},
        {"kind": "not_an_array", "body": "nothing"},
        SHORT_STALL,
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_listing_survives_a_fault_that_passes(emulator, tmp_path, operation, fault):
    """A listing that comes only at the third attempt gives the whole scope."""
    emulator.faults([{"operation": operation, "times": 2, "fault": fault}])
    options = ExportOptions(start=START, end="2025-06-02T00:01:00Z")
    outcome = export_here(options, tmp_path / "audit.json", make_tools(emulator, limits=IMPATIENT))
    assert_fired(emulator, 2)
    assert len(outcome.manifest.coverage) == 45


def test_listing_that_goes_round_in_circles_stops_the_run(emulator, tmp_path):
    """A list of compartments whose token comes twice never narrows the scope: the run stops."""
    emulator.faults([{"operation": "ListCompartments", "times": None, "fault": {"kind": "repeated_token"}}])
    options = ExportOptions(start=START, end=END)
    with pytest.raises(ServiceUnreachable, match="same page token twice"):
        export_here(options, tmp_path / "audit.json", make_tools(emulator, limits=IMPATIENT))
    assert_fired(emulator, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("operation", LISTINGS)
def test_listing_that_is_forbidden_stops_the_run(emulator, tmp_path, operation):
    """A listing that may not be read stops the run with the policy to ask for."""
    emulator.faults([{"operation": operation, "times": None, "fault": {"kind": "status", "status": 404}}])
    options = ExportOptions(start=START, end=END)
    with pytest.raises(ScopeUnreadable) as caught:
        export_here(options, tmp_path / "audit.json", make_tools(emulator, limits=IMPATIENT))
    assert_fired(emulator, None)
    assert "Allow group" in caught.value.hint
    assert list(tmp_path.iterdir()) == []


def test_retention_that_cannot_be_read_stops_nothing(emulator, undisturbed, tmp_path):
    """Without the retention period the export goes on, and the manifest says that it is not known."""
    emulator.faults([{"operation": "GetConfiguration", "times": None, "fault": {"kind": "status", "status": 404}}])
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, None)
    assert outcome.complete
    assert outcome.manifest.scope.retention_days is None
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data


def test_many_faults_in_one_run_leave_no_gap(emulator, undisturbed, tmp_path):
    """Faults of many kinds at every second request end in the undisturbed bytes."""
    for number, fault in enumerate(list(ANYWHERE.values())[::3]):
        script(emulator, fault, skip=number)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, 1)
    assert outcome.complete
    assert (tmp_path / "audit.json").read_bytes() == undisturbed.data


def test_range_that_is_refused_as_a_whole_is_a_gap(emulator, undisturbed, tmp_path):
    """When every window is refused, as beyond retention, these are gaps: the service is there."""
    script(emulator, {"kind": "status", "status": 400}, times=None)
    outcome = export(emulator, undisturbed, tmp_path / "audit.json")
    assert_fired(emulator, None)
    assert [gap.start for gap in outcome.manifest.gaps] == [START, SECOND, THIRD]
    assert (tmp_path / "audit.json").read_bytes() == b"[\n]\n"
