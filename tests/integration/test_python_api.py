import asyncio
import gc
import json
import threading
import time
from datetime import date

import pytest

import ociaudit
from support.truth import find_compartment, list_compartments, list_events, list_regions

REGION = "us-ashburn-1"
DAYS = ("2025-06-02", "2025-06-04")
START, END = "2025-06-02T00:00:00Z", "2025-06-05T00:00:00Z"
PAGE = 40
EMULATOR_FLAGS = ("--events-per-day", "800", "--page-size", str(PAGE))  # so that a window has several pages
FOR_EVER = 30.0


@pytest.fixture
def asked(emulator, monkeypatch):
    """The arguments that ask one busy compartment, and the endpoint where the library looks for it."""
    monkeypatch.setenv("OCI_AUDIT_ENDPOINT", emulator.url + "/{region}")
    return {
        "config_file": str(emulator.config_path),
        "regions": [REGION],
        "compartments": [find_compartment(emulator, "payments")],
        "is_subtree": False,
    }


@pytest.fixture(autouse=True)
def silent(capfd):
    """No library function prints."""
    yield
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.fixture(autouse=True)
def no_thread_left():
    """No thread of the library outlives its test."""
    yield
    assert not list_threads()


def list_threads():
    """Return the library's threads."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("ociaudit")]


def wait_until(is_reached):
    """Wait for something that must come soon."""
    deadline = time.monotonic() + 10
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def stall_later_pages(emulator):
    """Let every page but the first say nothing for a long time."""
    emulator.faults(
        [
            {
                "operation": "ListEvents",
                "match": {"page": "later"},
                "times": None,
                "fault": {"kind": "stall", "seconds": FOR_EVER},
            }
        ]
    )


def find_ids(emulator, **scope):
    """Return the ids of the events that must come."""
    scope = scope or {"regions": [REGION], "compartments": [find_compartment(emulator, "payments")]}
    return sorted(json.loads(line)["eventId"] for line in list_events(emulator, START, END, **scope))


def test_stream_gives_every_event(emulator, asked):
    """`stream` gives every event of the range once, as it was served, and no gaps."""
    events = ociaudit.stream(*DAYS, **asked)
    found = list(events)
    assert sorted(event["eventId"] for event in found) == find_ids(emulator)
    assert events.gaps == ()
    truth = {json.loads(line)["eventId"]: json.loads(line) for line in list_all(emulator)}
    assert all(event == truth[event["eventId"]] for event in found)


def list_all(emulator):
    """Return the lines of the compartment that is asked."""
    return list_events(emulator, START, END, regions=[REGION], compartments=[find_compartment(emulator, "payments")])


def test_stream_of_the_whole_tenancy_raises_at_its_end(emulator, asked):
    """All readable events come first; then `IncompleteExport` names the forbidden places, and it is over."""
    asked = {"config_file": asked["config_file"]}
    events = ociaudit.stream(*DAYS, **asked)
    found = []
    with pytest.raises(ociaudit.IncompleteExport) as caught:
        found.extend(event["eventId"] for event in events)
    (forbidden,) = list_compartments(emulator, is_forbidden=True)
    targets = [(gap.target.region, gap.target.compartment) for gap in caught.value.gaps]
    assert targets == [(region, forbidden) for region in list_regions(emulator)]
    assert events.gaps == caught.value.gaps
    assert "again" in caught.value.hint
    assert "same command" not in caught.value.hint
    assert next(events, None) is None


def test_stream_collects_gaps_when_asked(emulator, asked):
    """With `on_gap="collect"` the iteration just ends, everything readable has come, and `.gaps` holds the gaps."""
    asked = {"config_file": asked["config_file"]}
    with ociaudit.stream(*DAYS, **asked, on_gap="collect") as events:
        ids = sorted(event["eventId"] for event in events)
    everything = {"regions": list_regions(emulator), "compartments": list_compartments(emulator)}
    assert ids == find_ids(emulator, **everything)
    assert [gap.kind for gap in events.gaps] == ["denied"] * 3


def test_stream_is_lazy(emulator, asked):
    """Nothing is asked before the first event is wanted, and the first page's events do not wait for the second."""
    stall_later_pages(emulator)
    with ociaudit.stream(*DAYS, **asked) as events:
        assert emulator.log() == []
        first = [next(events)["eventId"] for _ in range(PAGE)]
        assert len(set(first)) == PAGE
        wait_until(lambda: emulator.fault_states()[0]["fired"] == 1)


def test_slow_reader_slows_the_questions(emulator, asked):
    """A reader that stops reading stops the questions after a few pages."""
    with ociaudit.stream(*DAYS, **asked) as events:
        next(events)
        time.sleep(0.5)
        pages = [entry for entry in emulator.log() if entry["operation"] == "ListEvents"]
        assert len(pages) <= 7 < len(find_ids(emulator)) / PAGE


def test_closed_stream_ends_its_requests(emulator, asked):
    """Closing early cancels what is under way at once: no thread is left, and nothing more is asked."""
    stall_later_pages(emulator)
    events = ociaudit.stream(*DAYS, **asked)
    next(events)
    wait_until(lambda: emulator.fault_states()[0]["fired"] == 1)
    begun = time.monotonic()
    events.close()
    assert time.monotonic() - begun < FOR_EVER / 6
    assert not list_threads()
    asked_until_now = len(emulator.log())
    time.sleep(0.3)
    assert len(emulator.log()) == asked_until_now
    events.close()
    with pytest.raises(ociaudit.OciAuditError, match="closed before their end"):
        next(events)
    assert len(emulator.log()) == asked_until_now


def test_forgotten_stream_ends_its_thread(emulator, asked):
    """A stream that is dropped without closing ends its thread at once, without waiting for garbage collection."""
    stall_later_pages(emulator)
    gc.disable()
    try:
        events = ociaudit.stream(*DAYS, **asked)
        next(events)
        assert list_threads()
        del events
        assert not list_threads()
    finally:
        gc.enable()


def test_left_loop_ends_its_thread(emulator, asked):
    """Leaving a `for` loop early leaves no thread behind."""
    for _ in ociaudit.stream(*DAYS, **asked):
        break
    assert not list_threads()


def test_stream_works_inside_a_running_event_loop(emulator, asked):
    """The plain iteration works where an event loop is running already, as in a notebook."""

    async def read():
        return sorted(event["eventId"] for event in ociaudit.stream(*DAYS, **asked))

    assert asyncio.run(read()) == find_ids(emulator)


def test_export_works_inside_a_running_event_loop(emulator, asked, tmp_path):
    """`export` works where an event loop is running already, as in a notebook."""

    async def run():
        return ociaudit.export(*DAYS, output=tmp_path / "audit.json", **asked)

    assert asyncio.run(run()).complete


def test_several_streams_at_once(emulator, asked):
    """Two streams read in turn do not disturb each other."""
    both = zip(ociaudit.stream(*DAYS, **asked), ociaudit.stream(*DAYS, **asked), strict=True)
    assert all(one == other for one, other in both)


def test_stream_takes_dates(emulator, asked):
    """`date` objects are days, the last one included."""
    events = ociaudit.stream(date(2025, 6, 2), date(2025, 6, 4), **asked)
    assert sorted(event["eventId"] for event in events) == find_ids(emulator)


def test_the_end_of_a_stream_is_now_unless_given(emulator, asked):
    """`stream("1h")` ends now, and a single region or compartment may be a string."""
    asked = asked | {"regions": REGION, "compartments": asked["compartments"][0]}
    with ociaudit.stream("1h", **asked, on_gap="collect") as events:
        found = [event["eventTime"] for event in events]
    assert events.gaps == ()
    (first, *_) = [entry for entry in emulator.log() if entry["operation"] == "ListEvents"]
    assert first["region"] == REGION
    assert len({json.dumps(entry["region"]) for entry in emulator.log()}) == 1
    assert all(time >= "2025" for time in found)


def test_the_package_lists_its_functions():
    """`dir(ociaudit)` shows the public names before any of them is used, and each of them exists."""
    assert {"export", "stream", "FilterSpec", "OciAuditError", "__version__"} <= set(dir(ociaudit))
    assert all(getattr(ociaudit, name) is not None for name in dir(ociaudit))


def test_wrong_arguments_raise_before_anything_is_asked(emulator, asked):
    """A wrong argument is an exception at the call, with a hint, and not an exit."""
    with pytest.raises(ociaudit.OciAuditError, match="not before") as caught:
        ociaudit.stream(DAYS[1], DAYS[0], **asked)
    assert caught.value.hint
    with pytest.raises(ociaudit.OciAuditError, match="profile"):
        ociaudit.stream(*DAYS, **asked, profile="NOBODY")
    for argument in ({"on_gap": "Raise"}, {"time_basis": "event_time"}, {"shape": "SDK"}):
        ((name, value),) = argument.items()
        with pytest.raises(ociaudit.OciAuditError, match=f"{name} is {value!r}") as caught:
            ociaudit.stream(*DAYS, **asked, **argument)
        assert caught.value.hint.startswith("choose ")
    for start, changes, words in (
        (5, {}, "start is 5"),
        (None, {}, "start is None"),
        (DAYS[0], {"filter": {}}, "filter"),
    ):
        with pytest.raises(ociaudit.OciAuditError, match=words):
            ociaudit.stream(start, DAYS[1], **asked, **changes)
    assert emulator.log() == []


def test_rejected_key_raises_while_iterating(emulator, asked):
    """A sign-in that the service refuses is an exception of the iteration."""
    emulator.faults([{"operation": "*", "times": None, "fault": {"kind": "status", "status": 401}}])
    with pytest.raises(ociaudit.OciAuditError, match="signature") as caught:
        next(ociaudit.stream(*DAYS, **asked))
    assert caught.value.exit_code == 3


def test_duplicates_within_a_window_are_given_once(emulator, asked):
    """A record that comes again in the same window is given once."""
    emulator.faults([{"operation": "ListEvents", "times": 3, "fault": {"kind": "duplicate_within", "count": 9}}])
    ids = sorted(event["eventId"] for event in ociaudit.stream(*DAYS, **asked))
    assert emulator.fault_states()[0]["completed"]
    assert ids == find_ids(emulator)


def test_export_returns_its_outcome(emulator, asked, tmp_path):
    """`export` returns whether it is complete, how many events were written, and no gaps."""
    outcome = ociaudit.export(*DAYS, output=tmp_path / "audit.json", **asked)
    assert outcome.complete
    assert outcome.gaps == ()
    assert outcome.events == len(json.loads((tmp_path / "audit.json").read_bytes())) == len(find_ids(emulator))
    path = str(tmp_path / "audit.json")
    assert repr(outcome) == f"ExportResult(output={path!r}, events={outcome.events}, gaps=0, waived=0)"


def test_export_with_gaps_does_not_raise(emulator, asked, tmp_path):
    """Gaps are in the outcome, not an exception; a waived denial leaves it complete."""
    asked |= {"compartments": list_compartments(emulator, is_forbidden=True)}
    outcome = ociaudit.export(*DAYS, output=tmp_path / "audit.json", **asked)
    assert not outcome.complete
    assert [gap.kind for gap in outcome.gaps] == ["denied"]
    waived = ociaudit.export(*DAYS, output=tmp_path / "other.json", **asked, waived=asked["compartments"])
    assert waived.complete
    assert waived.gaps == ()


class ByTheDay(ociaudit.OciAuditStreamer):
    """A streamer whose chunks are days, as its users may make it."""

    MAX_CHUNK_DAYS = 1


@pytest.mark.parametrize(("streamer", "days"), [(ociaudit.OciAuditStreamer, 7), (ByTheDay, 1)])
def test_streamer_asks_chunk_after_chunk(emulator, asked, streamer, days):
    """`OciAuditStreamer` asks its tenancy in the profile's region, in chunks of at most `MAX_CHUNK_DAYS`."""
    made = streamer("DEFAULT", "2025-06-02", "2025-06-11", asked["config_file"])
    events = list(made.fetch_events_generator())
    questions = [one for one in emulator.log() if one["operation"] == "ListEvents"]
    spans = sorted({(one["startTime"][8:10], one["endTime"][8:10]) for one in questions})
    assert {one["compartmentId"] for one in questions} == {emulator.tenancy()["id"]}
    assert {one["region"] for one in questions} == {REGION}
    assert len(events) == len({event["event_id"] for event in events}) > 100
    if days == 7:
        assert spans == [("02", "09"), ("09", "12")]
    else:
        assert spans == [(f"{day:02}", f"{day + 1:02}") for day in range(2, 12)]


def test_streamer_and_writer_together(emulator, asked, tmp_path):
    """The two documented names write one JSON array in the SDK's spelling, filtered, and say how many."""
    compartment = asked["compartments"][0]
    made = ociaudit.OciAuditStreamer("DEFAULT", *DAYS, asked["config_file"], compartment_ocid=compartment)
    path = tmp_path / "out.json"
    count = ociaudit.stream_to_json_file(made.fetch_events_generator(), path, "Object;ListInst")
    wanted = [json.loads(line) for line in list_all(emulator) if b"Object" in line or b"ListInst" in line]
    expected = sorted(
        one["eventId"] for one in wanted if "Object" in one["eventType"] or "ListInst" in one["eventType"]
    )
    written = json.loads(path.read_bytes())
    assert sorted(event["event_id"] for event in written) == expected
    assert count == len(written) > 0
    assert path.stat().st_mode & 0o777 == 0o600


def test_streamer_tells_of_a_chunk_that_failed(emulator, asked, tmp_path):
    """A failed chunk: the others are yielded and written, then `IncompleteExport` goes on to the caller."""
    day = {"startTime": "2025-06-03T00:00:00Z"}
    fault = {"kind": "status", "status": 400}
    emulator.faults([{"operation": "ListEvents", "match": day, "times": None, "fault": fault}])
    made = ByTheDay("DEFAULT", *DAYS, asked["config_file"], compartment_ocid=asked["compartments"][0])
    with pytest.raises(ociaudit.IncompleteExport):
        ociaudit.stream_to_json_file(made.fetch_events_generator(), tmp_path / "out.json")
    written = json.loads((tmp_path / "out.json").read_bytes())
    assert {event["event_time"][8:10] for event in written} == {"02", "04"}
    assert len(made.gaps) == 1


def test_writer_leaves_the_old_file_when_the_generator_fails(tmp_path):
    """When the generator raises, what stood there still stands and nothing is left beside it."""

    def fail():
        yield {"event_type": "x"}
        raise RuntimeError("no more")

    path = tmp_path / "out.json"
    path.write_text("old")
    with pytest.raises(RuntimeError):
        ociaudit.stream_to_json_file(fail(), path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_generator_that_is_closed_ends_its_requests(emulator, asked):
    """Closing the documented generator early ends its requests and its thread."""
    stall_later_pages(emulator)
    generator = ociaudit.OciAuditStreamer(
        "DEFAULT", *DAYS, asked["config_file"], compartment_ocid=asked["compartments"][0]
    ).fetch_events_generator()
    next(generator)
    generator.close()
    assert not list_threads()
