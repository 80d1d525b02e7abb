"""What `oci-audit diff` says of two exports: of itself, of another tool, or of an array that somebody laid out anew."""

import gzip
import json
import random
import re
import shutil
from pathlib import Path

import msgspec
import pytest

from ociaudit.operations.context import ExportOptions
from ociaudit.storage.manifest import name_manifest
from support.emulator import Emulator
from support.exports import export_here, make_tools
from support.forging import forge_manifest, parse_manifest
from support.kill_at_call import Ended
from support.processes import make_environment
from support.stands import END, REGION, SECOND, START
from support.truth import find_compartment, list_events

EMULATOR_FLAGS = ("--events-per-day", "60", "--page-size", "7")  # a quiet tenancy

TOKEN = re.compile(rb'("(?:[^"\\]|\\.)*")|([{}\[\],:])')


def export(emulator, output: Path, *, compartments=None, start=START, end=END, regions=(REGION,), **given):
    """Export in this process."""
    options = ExportOptions(
        start=start,
        end=end,
        regions=regions,
        compartments=tuple(compartments or [emulator.tenancy()["id"]]),
        is_subtree=False,
        **given,
    )
    return export_here(options, output, make_tools(emulator))


@pytest.fixture(scope="module")
def originals(shared_emulator, tmp_path_factory):
    """Two collections of the same two days."""
    folder = tmp_path_factory.mktemp("originals")
    for name in ("a.json", "b.json"):
        assert export(shared_emulator, folder / name).complete
    return folder


@pytest.fixture
def folder(originals, tmp_path):
    """A copy of them that may be changed."""
    target = tmp_path / "copy"
    shutil.copytree(originals, target)
    return target


def diff(command, folder, *arguments: str) -> Ended:
    """Run the command."""
    return command(["diff", *arguments], cwd=folder, variables=make_environment(folder))


def compare(command, folder, a="a.json", b="b.json"):
    """Return the comparison as the command prints it in JSON, and insist on the exit code that fits it."""
    ended = diff(command, folder, a, b, "--json")
    assert ended.status in {0, 7}, ended.stderr
    answer = json.loads(ended.stdout)
    assert (answer["is_same"] and answer["is_compared"]) is (ended.status == 0)
    return answer


def split_lines(path: Path) -> list[bytes]:
    """Return the events of an output."""
    return [line.removesuffix(b",") for line in path.read_bytes().splitlines()[1:-1]]


def rewrite(path: Path, lines: list[bytes]) -> None:
    """Write other events into an output, in their order, and state them with all hashes right."""
    path.write_bytes(b"[\n" + b",\n".join(lines) + b"\n]\n")
    forge_manifest(path, parse_manifest(path))


def forget_manifest(path: Path) -> None:
    """Make a bare array of an export."""
    name_manifest(path).unlink()


def count(answer):
    """Return what is only in A, only in B, and in both."""
    return answer["a"]["only"], answer["b"]["only"], answer["in_both"]


def test_two_collections_are_equal(command, folder):
    """Two collections of the same range hold the same, exit 0: this is how the second proves the first."""
    lines = split_lines(folder / "a.json")
    ended = diff(command, folder, "a.json", "b.json")
    assert ended.status == 0, ended.stdout
    assert "no difference" in ended.stdout
    assert count(compare(command, folder)) == (0, 0, len(lines))


@pytest.mark.parametrize("name", ["a.json", "b.json"])
def test_event_in_one_only(command, folder, name):
    """An event that only one of them has is counted for it and shown, exit 7."""
    lines = split_lines(folder / name)
    rewrite(folder / name, [*lines[:5], *lines[6:]])
    answer = compare(command, folder)
    assert count(answer) == (int(name == "b.json"), int(name == "a.json"), len(lines) - 1)
    ended = diff(command, folder, "a.json", "b.json")
    assert json.loads(lines[5])["eventId"] in ended.stdout
    assert "THEY DIFFER" in ended.stdout


def test_same_id_with_other_bytes(command, folder):
    """A record whose bytes differ counts once, as changed, with the field that differs and both values."""
    lines = split_lines(folder / "b.json")
    changed = lines[3].replace(b"com.oraclecloud", b"com.oraclec1oud", 1)
    assert changed != lines[3]
    rewrite(folder / "b.json", [*lines[:3], changed, *lines[4:]])
    answer = compare(command, folder)
    assert count(answer) == (0, 0, len(lines) - 1)
    assert (answer["changed"], answer["reserialized"], answer["is_same"]) == (1, 0, False)
    (example,) = answer["changed_examples"]
    assert example["event_id"] == json.loads(lines[3])["eventId"]
    for each in example["fields"]:
        assert each["new"] == each["old"].replace("com.oraclecloud", "com.oraclec1oud")
    assert answer["changed_fields"] == {each["path"]: 1 for each in example["fields"]}
    ended = diff(command, folder, "a.json", "b.json")
    assert "changed        1\n" in ended.stdout
    assert "com.oraclec1oud" in ended.stdout
    assert "THEY DIFFER" in ended.stdout


def test_same_id_at_another_time(command, folder):
    """A record whose time differs, and which so stands elsewhere, is found by its id all the same."""
    lines = split_lines(folder / "b.json")
    event = json.loads(lines[3])
    moved = lines[3].replace(event["eventTime"].encode(), b"2025-06-03T23:59:59.999Z", 1)
    rewrite(folder / "b.json", [*lines[:3], *lines[4:], moved])
    answer = compare(command, folder)
    assert count(answer) == (0, 0, len(lines) - 1)
    assert answer["a"]["examples"] == answer["b"]["examples"] == []
    (example,) = answer["changed_examples"]
    assert example["event_id"] == event["eventId"]
    assert {"path": "eventTime", "old": json.dumps(event["eventTime"]), "new": '"2025-06-03T23:59:59.999Z"'} in (
        example["fields"]
    )


def test_unstated_change_of_layout_is_a_difference(command, folder):
    """Between two exports of oci-audit the bytes count, white space too."""
    lines = split_lines(folder / "b.json")
    rewrite(folder / "b.json", [lines[0].replace(b'":', b'": ', 1), *lines[1:]])
    answer = compare(command, folder)
    assert (answer["changed"], answer["reserialized"], answer["changed_fields"]) == (1, 1, {})


@pytest.mark.parametrize("is_pretty", [False, True], ids=["one line", "pretty"])
@pytest.mark.parametrize("is_sorted", [True, False], ids=["sorted", "unsorted"])
def test_bare_array(command, folder, is_pretty, is_sorted):
    """An array without a manifest, laid out anew and in any order, is compared by what it says."""
    path = folder / "b.json"
    events = split_lines(path)
    if not is_sorted:
        random.Random(7).shuffle(events)
    lay_out(path, events, is_pretty=is_pretty)
    forget_manifest(path)
    answer = compare(command, folder)
    assert count(answer) == (0, 0, len(events))
    assert any("without a manifest" in note for note in answer["notes"])
    lay_out(path, events[1:], is_pretty=is_pretty)
    assert count(compare(command, folder)) == (1, 0, len(events) - 1)


def lay_out(path: Path, events: list[bytes], *, is_pretty: bool) -> None:
    """Write events as another tool would: with other white space, but the same tokens."""
    if is_pretty:
        events = [TOKEN.sub(lambda token: token[1] or b"\n " + token[2] + b"\t", event) for event in events]
    path.write_bytes(b"  [" + b" , ".join(events) + b"]")


def test_two_bare_arrays(command, folder):
    """Neither of the two needs a manifest."""
    for name in ("a.json", "b.json"):
        forget_manifest(folder / name)
    assert compare(command, folder)["is_same"] is True


def test_compressed(command, folder):
    """A compressed export is compared with a plain one by its content."""
    (folder / "b.json.gz").write_bytes(gzip.compress((folder / "b.json").read_bytes()))
    assert compare(command, folder, b="b.json.gz")["is_same"] is True
    (folder / "cut.json.gz").write_bytes((folder / "b.json.gz").read_bytes()[:-20])
    ended = diff(command, folder, "a.json", "cut.json.gz")
    assert ended.status == 6
    assert "cut.json.gz" in ended.stderr


LAYOUTS = {
    "sdk.json": {"shape": "sdk"},
    "cli.ndjson": {"shape": "cli"},
    "origin.json": {"with_origin": True},
    "sdk-origin.ndjson.gz": {"shape": "sdk", "with_origin": True},
    "table.csv": {},
    "sdk.csv.zst": {"shape": "sdk"},
    "table.parquet": {},
}


@pytest.fixture(scope="module")
def layouts(shared_emulator, tmp_path_factory):
    """The same range in other shapes and formats, each with its manifest."""
    folder = tmp_path_factory.mktemp("layouts")
    for name, given in LAYOUTS.items():
        assert export(shared_emulator, folder / name, **given).complete
    return folder


@pytest.mark.parametrize("name", LAYOUTS)
def test_exports_in_any_two_layouts_are_compared(command, folder, layouts, name):
    """Exports with manifests that differ in shape, format or origins hold the same events; one fewer is found."""
    for each in layouts.iterdir():
        shutil.copy(each, folder)
    lines = split_lines(folder / "a.json")
    for other in ("a.json", "sdk.json", "origin.json"):
        assert count(compare(command, folder, name, other)) == (0, 0, len(lines)), other
    rewrite(folder / "a.json", lines[1:])
    assert count(compare(command, folder, name, "a.json")) == (1, 0, len(lines) - 1)


def test_an_edited_manifest_is_said_to_be_altered(command, folder):
    """A manifest whose bytes are not those of its digest proves nothing: its export is not called complete."""
    manifest = name_manifest(folder / "b.json")
    manifest.write_text(manifest.read_text().replace('"waived_gaps"', ' "waived_gaps"', 1))
    notes = compare(command, folder)["notes"]
    assert [note for note in notes if "ALTERED" in note and "b.json" in note], notes
    assert not any("a.json: ALTERED" in note for note in notes)


def test_a_redacted_export_is_compared_and_said_to_be_redacted(command, emulator, folder):
    """What redaction replaced shows as changed fields, and a note says why."""
    export(emulator, folder / "redacted.json", redact=True)
    answer = compare(command, folder, "a.json", "redacted.json")
    assert count(answer)[:2] == (0, 0)
    assert any("redacted.json is redacted, the other is not" in note for note in answer["notes"])


@pytest.mark.parametrize("where", ["[\n", "data"])
def test_strict_rejects_an_altered_export_that_says_it_is_not_whole(command, folder, where):
    """An export that was replaced by a file with an error object is read with a note; with --strict it is exit 6."""
    lines = split_lines(folder / "a.json")
    error = b'{"code":"TooManyRequests","status":429,"message":"slow down"}'
    whole = b",\n".join([*lines, error])
    content = b"[\n" + whole + b"\n]\n" if where == "[\n" else b'{"data":[' + whole + b"]}"
    (folder / "a.json").write_bytes(content)
    answer = compare(command, folder)
    assert answer["in_both"] == len(lines)
    assert any("a.json is not whole: it holds an error: TooManyRequests slow down" in note for note in answer["notes"])
    strict = diff(command, folder, "a.json", "b.json", "--strict")
    assert strict.status == 6
    assert "a.json is not whole" in strict.stderr


@pytest.mark.parametrize("content", [b"null", b'"text"', b"[1, 2]", b"[{}", b'[{"a": 1},]', b"\xff\xfe", b"[\n{]\n"])
def test_not_an_array_of_events(command, folder, content):
    """What is not a JSON array of objects is exit 6, with the file's name and the byte."""
    (folder / "b.json").write_bytes(content)
    forget_manifest(folder / "b.json")
    ended = diff(command, folder, "a.json", "b.json")
    assert ended.status == 6, ended.stdout
    assert "b.json" in ended.stderr
    assert "at byte" in ended.stderr
    assert "hint: " in ended.stderr


def test_missing_file(command, folder):
    """A file that is not there is exit 2."""
    assert diff(command, folder, "a.json", "c.json").status == 2


def test_empty_arrays(command, folder):
    """Two empty arrays hold the same; an empty one lacks everything that the other has."""
    (folder / "none.json").write_bytes(b"[]")
    lines = split_lines(folder / "a.json")
    assert compare(command, folder, "none.json", "none.json")["is_same"] is True
    assert count(compare(command, folder, "none.json", "a.json")) == (0, len(lines), 0)


def test_other_coverage(command, emulator, folder):
    """Where the two cover different days only the shared one is compared, and the rest is counted apart."""
    export(emulator, folder / "day.json", end=SECOND)
    compartments = [emulator.tenancy()["id"]]
    shared = list_events(emulator, START, SECOND, regions=[REGION], compartments=compartments)
    answer = compare(command, folder, "a.json", "day.json")
    assert answer["is_same"] is True
    assert count(answer) == (0, 0, len(shared))
    assert answer["a"]["not_comparable"] == len(split_lines(folder / "a.json")) - len(shared)
    assert answer["b"]["not_comparable"] == 0
    assert any("cover different things" in note for note in answer["notes"])
    rewrite(folder / "day.json", split_lines(folder / "day.json")[1:])
    assert count(compare(command, folder, "a.json", "day.json")) == (1, 0, len(shared) - 1)


def test_other_compartments(command, emulator, folder):
    """A compartment that only one of them has asked is not a difference."""
    root, payments = emulator.tenancy()["id"], find_compartment(emulator, "payments")
    export(emulator, folder / "more.json", compartments=[root, payments])
    answer = compare(command, folder, "a.json", "more.json")
    assert answer["is_same"] is True
    assert answer["b"]["not_comparable"] > 0


def test_gap_is_not_a_difference(command, emulator, folder):
    """What one of them could not get is not comparable; what it should have is."""
    fault = {"kind": "status", "status": 400}
    emulator.faults([{"operation": "ListEvents", "match": {"startTime": SECOND}, "times": None, "fault": fault}])
    options = ExportOptions(
        start=START,
        end=END,
        regions=(REGION,),
        compartments=(emulator.tenancy()["id"],),
        is_subtree=False,
    )
    outcome = export_here(options, folder / "gap.json", make_tools(emulator), max_window_days=1)
    assert not outcome.complete
    answer = compare(command, folder, "a.json", "gap.json")
    assert answer["is_same"] is True
    assert answer["a"]["not_comparable"] > 0


def test_late_arrivals_are_visible(command, tmp_path):
    """Events that the service has learned of between two collections are only in the second."""
    events = [
        {
            "eventId": f"id-{number}",
            "eventTime": f"2025-06-02T{number:02}:00:00Z",
            "eventType": "com.oraclecloud.test.Made",
            "data": {"eventName": "Made", "compartmentId": None},
        }
        for number in range(12)
    ]
    for name, served in (("first", [*events[:3], *events[5:]]), ("second", events)):
        (tmp_path / name).write_bytes(msgspec.json.encode(served))
        with Emulator("--events", str(tmp_path / name)) as emulator:
            assert export(emulator, tmp_path / f"{name}.json").complete
    answer = compare(command, tmp_path, "first.json", "second.json")
    assert count(answer) == (0, 2, 10)
    assert [example.split()[1] for example in answer["b"]["examples"]] == ["id-3", "id-4"]


@pytest.mark.parametrize(("content", "words"), [(b"", "is empty"), (b"{}", "none of its JSON objects is an audit")])
def test_no_events_at_all(command, folder, content, words):
    """An empty file and an object that is not an event are exit 6, with the file's name."""
    (folder / "b.json").write_bytes(content)
    forget_manifest(folder / "b.json")
    ended = diff(command, folder, "a.json", "b.json")
    assert ended.status == 6, ended.stdout
    assert "b.json" in ended.stderr
    assert words in ended.stderr


def test_temporary_files_are_gone(command, folder, tmp_path):
    """Sorting an array outside memory leaves nothing."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    path = folder / "b.json"
    lay_out(path, split_lines(path)[::-1], is_pretty=False)
    forget_manifest(path)
    ended = command(["diff", "a.json", "b.json"], cwd=folder, variables=make_environment(folder, TMPDIR=str(temporary)))
    assert ended.status == 0, ended.stdout
    assert list(temporary.iterdir()) == []
