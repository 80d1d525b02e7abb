"""Every command that reads files: inputs that are not whole, and files that are not those of their manifests."""

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from ociaudit.events.field_naming import choose_shape
from ociaudit.events.filters import FilterSpec
from ociaudit.operations.context import ExportOptions
from support.exports import export_here, make_tools
from support.processes import Finished, find_command, run_process
from support.stands import END, REGION, START

EMULATOR_FLAGS = ("--events-per-day", "120", "--page-size", "50")
SQL = "SELECT count(*) AS n FROM events"
COMMANDS = {
    "convert": ("convert", "in.json", "-o", "out.ndjson"),
    "summary": ("summary", "in.json"),
    "query": ("query", "in.json", SQL),
    "report": ("report", "in.json", "-o", "out.html"),
    "diff": ("diff", "in.json", "in.json"),
}


def run(folder: Path, *words: str) -> Finished:
    """Run the program in a folder."""
    return run_process([find_command("oci-audit"), *words], cwd=folder)


def said(finished: Finished) -> str:
    """Return all that was printed, as one line."""
    return " ".join((finished.stdout.decode() + finished.stderr).split())


@pytest.mark.parametrize("command", COMMANDS)
def test_an_input_that_is_not_whole_is_read_with_a_notice_and_refused_with_strict(command, original, tmp_path):
    """Every command reads the events and says that more exist; with --strict the exit code is 6."""
    events = json.loads(original.read_bytes())
    (tmp_path / "in.json").write_text(json.dumps({"data": events, "opc-next-page": "x"}))
    lenient = run(tmp_path, *COMMANDS[command])
    assert lenient.code == 0, lenient.stderr
    assert "in.json is not whole: it names a next page" in said(lenient)
    (tmp_path / "out.html").unlink(missing_ok=True)
    (tmp_path / "out.ndjson").unlink(missing_ok=True)
    strict = run(tmp_path, *COMMANDS[command], "--strict")
    assert strict.code == 6, strict.stderr
    assert "--strict" in strict.hint_lines[0]


@pytest.mark.parametrize("command", ["convert", "summary", "query", "diff"])
def test_a_file_that_is_not_the_one_of_its_manifest_is_named(command, original, tmp_path):
    """A file of the same size with other bytes, and one of another size, are said not to be the manifest's."""
    manifest = (original.parent / "audit.json.manifest.json").read_bytes()
    (tmp_path / "in.json.manifest.json").write_bytes(manifest)
    data = original.read_bytes()
    time = data.index(b"eventTime") + len('eventTime":"2025-')
    words = diff_words(command, original) or COMMANDS[command]
    altered = (data[:time] + b"02" + data[time + 2 :], b"[\n]\n")
    for content in (*altered, data):
        (tmp_path / "in.json").write_bytes(content)
        (tmp_path / "out.ndjson").unlink(missing_ok=True)
        text = said(run(tmp_path, *words))
        assert ("ALTERED: the file is not the one of its manifest" in text) == (content in altered), text


@pytest.mark.parametrize("command", ["convert", "summary", "query", "diff"])
def test_a_manifest_that_was_edited_is_noticed(command, original, tmp_path):
    """A manifest that does not match its own digest makes every command call the file altered."""
    manifest = (original.parent / "audit.json.manifest.json").read_bytes()
    edited = manifest.replace(b'"started_at": "2', b'"started_at": "1')
    assert edited != manifest
    (tmp_path / "in.json").write_bytes(original.read_bytes())
    for content in (edited, manifest):
        (tmp_path / "in.json.manifest.json").write_bytes(content)
        (tmp_path / "out.ndjson").unlink(missing_ok=True)
        text = said(run(tmp_path, *(diff_words(command, original) or COMMANDS[command])))
        assert ("ALTERED: the file is not the one of its manifest" in text) == (content is edited), text


@pytest.mark.parametrize("command", ["convert", "query"])
def test_a_notice_states_the_verdict_unless_the_file_is_complete(command, original, shared_emulator, tmp_path):
    """Gaps, a filter and an unreadable manifest are reported on stderr; a complete export without a filter is not."""
    root = shared_emulator.tenancy()["id"]
    whole = ExportOptions(start=START, end=END, regions=(REGION,), compartments=(root,), is_subtree=False)
    for name, options in (("whole", whole), ("filtered", replace(whole, filter=FilterSpec(event_types=("List",))))):
        export_here(options, tmp_path / f"{name}.json", make_tools(shared_emulator))
    shutil.copytree(original.parent, tmp_path, dirs_exist_ok=True)
    (tmp_path / "broken.json").write_bytes(original.read_bytes())
    (tmp_path / "broken.json.manifest.json").write_bytes(b"{")
    notices = {
        "whole": "",
        "filtered": "complete for filter",
        "audit": "INCOMPLETE: ",
        "broken": "whether broken.json is complete is unknown",
    }
    for name, words in notices.items():
        options = {"convert": ("-o", f"{name}.ndjson", "-q"), "query": (SQL,)}[command]
        done = run(tmp_path, command, f"{name}.json", *options)
        assert done.code == 0, done.stderr
        notice = "".join(line for line in done.stderr.splitlines(keepends=True) if f"{name}.json" in line)
        assert words in notice, done.stderr
        assert bool(notice) == bool(words), done.stderr


def diff_words(command: str, original: Path) -> tuple[str, ...]:
    """Return the words of a comparison of the input with the original."""
    return ("diff", "in.json", str(original)) if command == "diff" else ()


@pytest.mark.parametrize("form", ["csv", "parquet", "ndjson.gz", "lines", "pages", "sdk", "cli"])
def test_any_two_files_of_events_can_be_compared(form, original, tmp_path):
    """A file in any format or shape holds the same events as the export; with one fewer, it does not."""
    events = original.read_bytes()[2:-3].split(b",\n")
    for name, kept in (("same", events), ("fewer", events[1:])):
        (tmp_path / f"{name}.json").write_bytes(b"[" + b",".join(kept) + b"]")
        path = tmp_path / f"{name}.other"
        if form == "lines":
            path.write_bytes(b"\n".join(kept))
        elif form == "pages":
            path.write_bytes(b"\n".join(b'{"data": [%b]}' % one for one in kept))
        elif form in {"sdk", "cli"}:
            path.write_bytes(b"[" + b",".join(map(choose_shape(form), kept)) + b"]")
        else:
            path = tmp_path / f"{name}.{form}"
            assert run(tmp_path, "convert", f"{name}.json", "-o", path.name).code == 0
        done = run(tmp_path, "diff", str(original), path.name, "--json")
        assert done.code == (0 if name == "same" else 7), done.stderr
        answer = json.loads(done.stdout)
        assert (answer["in_both"], answer["a"]["only"]) == (len(kept), len(events) - len(kept))


def test_a_query_keeps_the_digits_of_decimals(original, tmp_path):
    """Decimals are written with all their digits in every format, inside of lists too."""
    number = "12345678901234567890.123456789012345678"
    sql = f"SELECT CAST('{number}' AS DECIMAL(38, 18)) AS a, [CAST('{number}' AS DECIMAL(38, 18))] AS b"
    for form in ("json", "csv", "table"):
        done = run(tmp_path, "query", str(original), f"{sql} FROM events LIMIT 1", "--format", form)
        assert done.stdout.decode().count(number) == 2, done.stderr
    done = run(tmp_path, "query", str(original), "SELECT CAST(-1.50 AS DECIMAL(9, 2)) AS a", "--format", "csv")
    assert list(csv.reader(done.stdout.decode().splitlines())) == [["a"], ["-1.50"]]


@pytest.mark.parametrize("link", ["same", "symbolic", "hard"])
@pytest.mark.parametrize("command", ["convert", "summary", "query"])
def test_a_file_named_twice_is_refused(command, link, original, tmp_path):
    """A file that is named twice, through a link or not, is exit 2: its events would count twice."""
    (tmp_path / "in.json").write_bytes(original.read_bytes())
    other = tmp_path / "other.json"
    if link == "symbolic":
        other.symlink_to("in.json")
    elif link == "hard":
        other.hardlink_to(tmp_path / "in.json")
    words = list(COMMANDS[command])
    words.insert(2, "in.json" if link == "same" else "other.json")
    finished = run(tmp_path, *words)
    assert finished.code == 2, finished.stderr
    assert "are the same file" in finished.error_lines[0]


def test_a_pipe_is_read_once_or_refused(original, tmp_path):
    """A pipe beside a file that needs a slower reader is summarized whole; diff, which reads twice, rejects it."""
    events = json.loads(original.read_bytes())
    (tmp_path / "in.json").write_text(json.dumps(events[:3], indent=1))
    program = find_command("oci-audit")
    script = f'mkfifo pipe; cat "{original}" > pipe & "{program}" summary pipe in.json; code=$?; wait; exit $code'
    finished = run_process(["/bin/sh", "-c", script], cwd=tmp_path)
    assert finished.code == 0, finished.stderr
    assert f"{len(events) + 3:,} events" in finished.stdout.decode()
    refused = run(tmp_path, "diff", "pipe", "in.json")
    assert refused.code == 2
    assert "pipe is not a file" in refused.error_lines[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("diff", "-", "in.json"), "stdin is not a file; diff reads each file more than once"),
        (("diff", "in.json", "-"), "stdin is not a file; diff reads each file more than once"),
        (("summary", "-", "-"), "stdin is named twice"),
        (("reconcile", "-", "-"), "stdin is named twice"),
        (("import", "archive", "-"), "import does not read stdin"),
    ],
)
def test_stdin_is_refused_where_it_would_be_read_twice(words, message, original, tmp_path):
    """A command that cannot read stdin, or not twice, says so with exit 2."""
    (tmp_path / "in.json").write_bytes(original.read_bytes())
    finished = run(tmp_path, *words)
    assert finished.code == 2
    assert message in finished.error_lines[0]
    assert finished.hint_lines
