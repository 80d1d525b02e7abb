"""`oci-audit query` as a process: formats, files, refusals and signals."""

import csv
import json
import signal
import time
from pathlib import Path

import pytest

from ociaudit.analysis.query import NAMED_QUERIES
from support.processes import Finished, find_command, run_process, start_process
from support.sample_events import encode_event, encode_export, encode_sign_in

EVENTS = [
    encode_event("ListUsers", hours=1),
    encode_event("ListUsers", "bob", hours=2),
    encode_event("=cmd()", "\x1b[31mred", hours=3, status="404"),
    encode_sign_in("failure", hours=4),
]
ENDLESS = "SELECT count(*) FROM range(100000000000) a, range(100000) b"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a small export."""
    (tmp_path / "audit.json").write_bytes(encode_export(EVENTS))
    return tmp_path


def run_query(folder: Path, *arguments: str) -> Finished:
    """Run `oci-audit query` in a folder."""
    return run_process([find_command("oci-audit"), "query", *arguments], cwd=folder)


def test_a_table_for_people(folder: Path) -> None:
    """Without a format the answer is a table, its hostile text cleaned."""
    done = run_query(folder, "audit.json", "SELECT event_name, principal_name, status FROM events ORDER BY event_time")
    assert done.code == 0, done.stderr
    head, _, *rows, count = done.stdout.decode().splitlines()
    assert head.split() == ["event_name", "principal_name", "status"]
    assert len(rows) == 4
    assert count == "(4 rows)"
    assert b"\x1b" not in done.stdout


@pytest.mark.parametrize("name", ["answer.json", "answer.csv", "answer.txt"])
def test_the_suffix_chooses_the_form(folder: Path, name) -> None:
    """A file is written in the form of its suffix, private and whole."""
    done = run_query(folder, "audit.json", "SELECT event_name, status FROM events ORDER BY event_time", "-o", name)
    assert (done.code, done.stdout) == (0, b""), done.stderr
    path = folder / name
    assert path.stat().st_mode & 0o777 == 0o600
    if name.endswith("json"):
        assert json.loads(path.read_bytes())[2] == {"event_name": "=cmd()", "status": 404}
    elif name.endswith("csv"):
        assert list(csv.reader(path.read_text().splitlines()))[3] == ["'=cmd()", "404"]
    else:
        assert path.read_text().splitlines()[-1] == "(4 rows)"


def test_named_queries_and_their_list(folder: Path) -> None:
    """A named query is asked by its name, and the list has all names and columns."""
    done = run_query(folder, "audit.json", "--named", "sign-in-failures", "--format", "json")
    assert done.code == 0, done.stderr
    assert json.loads(done.stdout)[0]["failures"] == 1
    listed = run_query(folder, "--list").stdout.decode()
    assert "sign-in-failures" in listed
    assert "console_session_id" in listed


def test_the_text_of_a_named_query_is_a_query(folder: Path) -> None:
    """What the documentation shows of a named query, which is longer than a file name, gives what its name gives."""
    text = max((query.sql for query in NAMED_QUERIES.values()), key=len)
    (name,) = (name for name, query in NAMED_QUERIES.items() if query.sql == text)
    typed, named = (run_query(folder, "audit.json", *words) for words in ([text], ["--named", name]))
    assert len(text) > 255
    assert (typed.code, typed.stdout) == (0, named.stdout), typed.stderr


def test_a_sample_is_a_query(folder: Path) -> None:
    """DuckDB's samples of rows work like in DuckDB."""
    for sql in ("FROM events USING SAMPLE 2", "SELECT event_name FROM events TABLESAMPLE reservoir(2 ROWS)"):
        done = run_query(folder, "audit.json", sql, "--format", "json")
        assert done.code == 0, done.stderr
        assert len(json.loads(done.stdout)) == 2


def test_stdin_and_several_files(folder: Path) -> None:
    """Files and stdin are one table."""
    command = """"$0" query audit.json - "SELECT count(*) AS n FROM events" --format json < audit.json"""
    done = run_process(["/bin/sh", "-c", command, find_command("oci-audit")], cwd=folder)
    assert json.loads(done.stdout) == [{"n": 8}], done.stderr


def test_a_reader_that_has_seen_enough(folder: Path) -> None:
    """`oci-audit query … | head` is no failure and shows no trace."""
    command = (
        f"""'{find_command("oci-audit")}' query audit.json "SELECT * FROM range(2000000)" --format csv | head -n 1"""
    )
    done = run_process(["/bin/sh", "-c", command], cwd=folder)
    assert (done.code, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["audit.json", "SELECT principal FROM events"], 2, "no column 'principal'; did you mean principal_"),
        (["audit.json", "COPY events TO 'audit.json'"], 2, "not a single SELECT"),
        (["audit.json", "WITH a AS (COPY events TO 'audit.json') SELECT 1"], 2, "query"),
        (["audit.json", "SELECT * FROM read_text('audit.json')"], 2, "read_text()"),
        (["audit.json", "SELECT 1; SELECT 2"], 2, "not a single SELECT"),
        (["audit.json", "DROP TABLE events"], 2, "not a single SELECT"),
        (["audit.json", ""], 2, "not a single SELECT"),
        (["audit.json", "SELECT error('no') FROM events"], 2, "the query failed"),
        (["audit.json"], 2, "the query is missing"),
        (["SELECT 1"], 2, "no file is named"),
        ([], 2, "neither a file nor a query"),
        (["audit.json", "--named", "sign-in"], 2, "did you mean sign-in-failures"),
        (["-", "-", "SELECT 1"], 2, "stdin can be read only once"),
        (["none.json", "SELECT count(*) FROM events"], 2, "does not exist"),
        (["cut.json", "SELECT count(*) FROM events"], 6, "cut.json"),
        (["empty.json", "SELECT count(*) FROM events"], 6, "empty.json is empty"),
        (["text.json", "SELECT count(*) FROM events"], 6, "text.json"),
        (["audit.json", "SELECT 1", "-o", "audit.json"], 2, "is an input"),
        (["audit.json", "SELECT 1", "-o", "there.csv"], 2, "there.csv exists"),
        (["audit.json", "SELECT 1", "-o", "x.parquet"], 2, "does not name a format"),
        (["audit.json", "SELECT 1", "-o", "none/x.csv"], 2, "the folder none does not exist"),
    ],
)
def test_bad_input_is_a_sentence(folder: Path, arguments, code, words) -> None:
    """What cannot be asked, read or written is told with a hint; no file appears and none changes."""
    good = (folder / "audit.json").read_bytes()
    for name, data in {"cut.json": good[:-30], "empty.json": b"", "text.json": b"hi\n", "there.csv": b"x"}.items():
        (folder / name).write_bytes(data)
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    done = run_query(folder, *arguments)
    assert done.code == code
    assert words in done.error_lines[0]
    assert done.hint_lines
    assert "Traceback" not in done.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_nothing_half_written(folder: Path) -> None:
    """An answer that fails half-way leaves no file, and what stood there before still stands."""
    (folder / "answer.csv").write_text("old")
    sql = "SELECT CASE WHEN range < 900000 THEN range ELSE error('half-way') END FROM range(1000000)"
    done = run_query(folder, "audit.json", sql, "-o", "answer.csv", "--overwrite")
    assert done.code == 2
    assert "half-way" in done.error_lines[0]
    assert (folder / "answer.csv").read_text() == "old"
    assert sorted(path.name for path in folder.iterdir() if path.is_file()) == ["answer.csv", "audit.json"]


def test_the_list_of_files_may_be_replaced_when_asked(folder: Path) -> None:
    """`--overwrite` replaces an output that exists."""
    (folder / "answer.csv").write_text("old")
    assert run_query(folder, "audit.json", "SELECT 1 AS a", "-o", "answer.csv", "--overwrite").code == 0
    assert (folder / "answer.csv").read_bytes() == b"a\r\n1\r\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_query_and_its_files(folder: Path, number) -> None:
    """A query that would run for years ends at once, with 130 or 143, and takes its private folder along."""
    scratch = folder / "scratch"
    scratch.mkdir()
    command = [find_command("oci-audit"), "query", "audit.json", ENDLESS]
    process = start_process(command, cwd=folder, variables={"TMPDIR": str(scratch)})
    deadline = time.monotonic() + 30
    while not list(scratch.glob("*/rows_*")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(1)  # into the query, most likely; whenever it comes, the end is the same
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert b"error: interrupted" in stderr
    assert list(scratch.iterdir()) == []
