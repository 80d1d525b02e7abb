"""`oci-audit reconcile` as a process: a connector's folder beside an export of the emulator."""

import gzip
import json
import shutil
from datetime import datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest

from support.connector_folders import deliver, make_api_event, make_cloud_event, wrap
from support.exports import run_export
from support.hostile_events import HOSTILE_TEXTS
from support.processes import Finished, find_command, run_process
from support.stands import END, REGION, START

EMULATOR_FLAGS = ("--events-per-day", "120", "--page-size", "50")


def run(folder: Path, *words: str) -> Finished:
    """Run the program in a folder."""
    return run_process([find_command("oci-audit"), *words], cwd=folder)


def read_moment(text: str) -> datetime:
    """Return a time that was typed as a text."""
    return datetime.fromisoformat(text)


@pytest.fixture
def stage(original, tmp_path):
    """Return a folder with an export, and a connector's folder that holds exactly its events in its range."""
    for path in original.parent.iterdir():
        if path.is_file():
            shutil.copy(path, tmp_path)
    events = [event for event in json.loads(original.read_bytes()) if event.get("eventTime")]
    start, end = read_moment(START), read_moment(END)
    minutes = int((end - start).total_seconds() // 60)
    deliver(tmp_path / "hub", [wrap(cloud(event), REGION) for event in events], start, minutes=minutes)
    return tmp_path, events, start, minutes


def cloud(event):
    """Return an event of the emulator as a connector delivers it."""
    made = make_api_event(0, read_moment("2025-06-01T00:00:00+00:00"))
    return make_cloud_event({**made, **event, "data": {"compartmentId": None, **(event.get("data") or {})}})


def test_a_whole_delivery_is_exit_0_and_planted_differences_exit_7(stage):
    """A loss, a redelivery and an addition are found by target and day, on the screen, as JSON and as a page."""
    folder, events, start, minutes = stage
    same = run(folder, "reconcile", "hub", "audit.json")
    assert same.code == 0, same.stdout.decode() + same.stderr
    assert "no difference" in same.stdout.decode()
    middle = [event for event in events[len(events) // 2 :] if event["data"].get("compartmentId")]
    lost, doubled = middle[0], middle[1]
    added = make_api_event(777, read_moment(middle[2]["eventTime"]))
    added["data"]["compartmentId"] = middle[2]["data"]["compartmentId"]
    shutil.rmtree(folder / "hub")
    kept = [wrap(cloud(event), REGION) for event in events if event is not lost]
    deliver(folder / "hub", [*kept, wrap(cloud(added), REGION)], start, minutes=minutes)
    deliver(folder / "hub", [wrap(cloud(doubled), REGION)], start, minutes=minutes, number=1)
    found = run(folder, "reconcile", "hub", "audit.json", "--html", "page.html")
    assert found.code == 7, found.stdout.decode() + found.stderr
    said = found.stdout.decode()
    assert "A lacks 1 event that B holds" in said
    assert lost["eventId"] in said
    result = json.loads(run(folder, "reconcile", "hub", "audit.json", "--json").stdout)
    totals = result["totals"]
    assert totals == {"lost": 1, "doubled": 1, "surplus": 1, "matched": len(events) - 1}
    assert [one["event_id"] for one in result["examples"]["lost"]] == [lost["eventId"]]
    assert [one["event_id"] for one in result["examples"]["doubled"]] == [doubled["eventId"]]
    assert [one["event_id"] for one in result["examples"]["surplus"]] == [added["eventId"]]
    row = next(row for row in result["rows"] if row["lost"])
    assert (row["date"], row["region"]) == (lost["eventTime"][:10], REGION)
    page = (folder / "page.html").read_text()
    assert lost["eventId"] in page
    assert run(folder, "reconcile", "hub", "audit.json", "--html", "page.html").code == 2


def test_what_the_export_does_not_cover_is_not_compared(stage):
    """Deliveries before the export's range are not comparable, and the ranges are named."""
    folder, _, start, minutes = stage
    early = make_api_event(888, read_moment("2024-01-01T00:00:00+00:00"))
    deliver(folder / "hub", [wrap(make_cloud_event(early), REGION)], start, minutes=minutes, number=3)
    found = run(folder, "reconcile", "hub", "audit.json")
    assert found.code == 0, found.stdout.decode()
    said = found.stdout.decode()
    assert "not comparable 1 event of A" in said
    assert "by the names of its files" in said


def test_ranges_without_a_common_time_compare_nothing(stage):
    """Where the two ranges do not overlap, the output says so instead of naming a range that ends before it begins."""
    folder, _, _, _ = stage
    shutil.rmtree(folder / "hub")
    start = read_moment("2025-01-01T00:00:00+00:00")
    deliver(folder / "hub", [wrap(cloud(make_api_event(777, start)), REGION)], start, minutes=10)
    found = run(folder, "reconcile", "hub", "audit.json")
    assert "compared       nothing\n" in found.stdout.decode()
    assert "the two have no time in common" in found.stdout.decode()
    assert "NOTHING COMPARED: no event is in what both cover" in found.stdout.decode()
    assert found.code == 7
    compared = json.loads(run(folder, "reconcile", "hub", "audit.json", "--json").stdout)["compared"]
    assert compared["start"] == compared["end"]


def test_a_connector_that_ended_lacks_what_the_named_range_holds(stage):
    """In a named range, what B holds after the last file is lost; without one, the result says that it is limited."""
    folder, events, start, _ = stage
    shutil.rmtree(folder / "hub")
    days = sorted({event["eventTime"][:10] for event in events})
    first = [event for event in events if event["eventTime"][:10] == days[0]]
    deliver(folder / "hub", [wrap(cloud(event), REGION) for event in first], start, minutes=24 * 60)
    found = run(folder, "reconcile", "hub", "audit.json")
    assert (found.code, found.stdout.decode().splitlines()[-1]) == (0, "no difference in what both cover")
    named = run(folder, "reconcile", "hub", "audit.json", "--start", days[0], "--end", days[-1], "--json")
    result = json.loads(named.stdout)
    assert named.code == 7
    assert result["totals"]["lost"] == len([one for one in events if one["eventTime"][:10] != days[0]])


def test_hostile_texts_are_escaped_on_the_page_and_cleaned_on_the_screen(tmp_path):
    """Text from events cannot become markup or control the terminal."""
    moment = read_moment("2025-06-01T00:00:00+00:00")
    events = [make_api_event(number, moment) | {"eventType": text} for number, text in enumerate(HOSTILE_TEXTS)]
    for event, text in zip(events, HOSTILE_TEXTS, strict=True):
        event["data"]["compartmentId"] = event["data"]["request"]["id"] = text
    (tmp_path / "a.ndjson").write_text(json.dumps(make_api_event(9_999, moment)) + "\n")
    (tmp_path / "b.ndjson").write_text("".join(json.dumps(event) + "\n" for event in events))
    found = run(tmp_path, "reconcile", "a.ndjson", "b.ndjson", "--html", "page.html")
    assert found.code == 7, found.stderr
    assert not any(ord(char) < 32 and char != "\n" for char in found.stdout.decode())
    tags: set[str] = set()

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

    Tags().feed((tmp_path / "page.html").read_text())
    assert tags <= {
        *("html", "head", "meta", "title", "style", "body", "main", "p", "h1", "h2", "b", "bdi", "div", "span"),
        *("table", "tr", "th", "td"),
    }
    json.loads(run(tmp_path, "reconcile", "a.ndjson", "b.ndjson", "--json").stdout)


def test_bad_input_is_refused_by_name(stage):
    """A damaged delivery is exit 6 with its byte; swapped inputs, a page of another name and nothing are exit 2."""
    folder, _, start, minutes = stage
    cases = (
        (("reconcile", "audit.json", "hub"), "is the folder of a connector, and named second"),
        (("reconcile", "hub", "audit.json", "--html", "page.txt"), "ends in .html"),
        (("reconcile", "hub", "audit.json", "--html", "hub/page.html"), "is an input, or inside one"),
        (("reconcile", "nothing", "audit.json"), "nothing does not exist"),
        (("reconcile", "hub", "audit.json", "--start", "never"), "never"),
    )
    for words, said in cases:
        finished = run(folder, *words)
        assert finished.code == 2, (words, finished.stderr)
        assert said in " ".join(finished.stderr.split()), words
        assert finished.hint_lines
    damaged = deliver(folder / "hub", [], start, minutes=minutes, number=9)
    damaged.write_bytes(gzip.compress(b'{"id":"x","specversion":"1.0"')[:-6])
    finished = run(folder, "reconcile", "hub", "audit.json")
    assert finished.code == 6, finished.stderr
    assert damaged.name in finished.stderr


def test_an_archive_is_the_other_side(stage):
    """An archive that has the export's events and coverage gives the result of the export; a range limits both."""
    folder, events, start, minutes = stage
    assert run(folder, "import", "archive", "audit.json").code == 0
    same = run(folder, "reconcile", "hub", "archive")
    assert same.code == 0, same.stdout.decode() + same.stderr
    lost = next(event for event in events[len(events) // 2 :] if event["data"].get("compartmentId"))
    shutil.rmtree(folder / "hub")
    deliver(
        folder / "hub", [wrap(cloud(event), REGION) for event in events if event is not lost], start, minutes=minutes
    )
    found = json.loads(run(folder, "reconcile", "hub", "archive", "--json").stdout)
    assert found["totals"]["lost"] == 1
    assert found["rows"][0]["region"] == REGION
    moment = read_moment(lost["eventTime"]).replace(second=0, microsecond=0)
    before = run(folder, "reconcile", "hub", "archive", "--end", moment.strftime("%Y-%m-%dT%H:%MZ"), "--json")
    assert before.code == 0, before.stderr
    assert json.loads(before.stdout)["totals"]["lost"] == 0


def test_a_filtered_export_is_compared_in_what_its_filter_lets_pass(stage, shared_emulator):
    """What the filter of B omits is not comparable, and the result says that B is filtered."""
    folder, events, _, _ = stage
    name = next(event["data"]["eventName"] for event in events if event["data"].get("eventName"))
    options = ("--start", START, "--end", END, "--region", REGION, "--event-name", name, "-o", "some.json")
    exported = run_export(shared_emulator, folder, *options)
    assert exported.code in {0, 10}, exported.stderr
    found = run(folder, "reconcile", "hub", "some.json", "--json")
    assert found.code == 0, found.stdout
    result = json.loads(found.stdout)
    wanted = sum(event["data"].get("eventName") == name for event in events)
    assert result["totals"]["matched"] == wanted
    assert result["a"]["not_comparable"] == len(events) - wanted
    assert any("B is filtered" in note for note in result["notes"])
