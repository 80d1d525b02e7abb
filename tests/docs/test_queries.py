import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ociaudit.analysis.query import NAMED_QUERIES, run_query
from ociaudit.archive.inputs import open_input
from support.documents import read_blocks

ROOT = Path(__file__).resolve().parents[2]
HEADING = re.compile(r"### (?P<name>[\w-]+)\n\n(?P<question>[^\n]+)\n\n```sql\n(?P<sql>.+?)\n```", re.DOTALL)
SHOWN = {
    match["name"]: (match["question"], match["sql"])
    for match in HEADING.finditer((ROOT / "docs/reference/query.md").read_text(encoding="utf-8"))
}


@pytest.fixture(scope="module")
def export(reader, tmp_path_factory) -> Path:
    """A week of the synthetic tenancy, with its incident in it."""
    folder = tmp_path_factory.mktemp("week")
    command = ["oci-audit", "export", "--start", "2025-12-01", "--end", "2025-12-07", "-o", "week.json", "--quiet"]
    done = subprocess.run(command, cwd=folder, env=reader.environment, capture_output=True, check=False)
    assert done.returncode == 10, done.stderr
    return folder / "week.json"


def test_the_document_shows_the_named_queries() -> None:
    """docs/reference/query.md has each named query, its question and its text, and no others."""
    named = {name: (query.question, query.sql.strip()) for name, query in NAMED_QUERIES.items()}
    assert named == SHOWN


@pytest.mark.parametrize("name", SHOWN)
def test_a_query_of_the_document_has_an_answer(name: str, export: Path) -> None:
    """Every query that the document shows runs, and has rows in a week that holds a bit of everything."""
    with run_query([open_input(export)], SHOWN[name][1]) as answer:
        rows = [row for batch in answer.batches for row in batch]
    assert rows
    assert len(set(answer.names)) == len(answer.names)


def test_the_counts_are_those_of_the_file(export: Path) -> None:
    """What `top-events` and `new-api-keys` say is what the file holds."""
    events = json.loads(export.read_bytes())
    names = [event["data"]["eventName"] for event in events]
    with run_query([open_input(export)], SHOWN["top-events"][1]) as answer:
        rows = [row for batch in answer.batches for row in batch]
    assert all(row[1] == names.count(row[0]) for row in rows)
    with run_query([open_input(export)], SHOWN["new-api-keys"][1]) as answer:
        fingerprints = {row[4] for batch in answer.batches for row in batch}
    keys = [event["data"]["response"]["payload"] for event in events if event["data"]["eventName"] == "UploadApiKey"]
    assert fingerprints == {key.get("fingerprint") for key in keys}


@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_the_recipes_for_a_siem_lose_no_event(export: Path, tmp_path: Path, reader) -> None:
    """Both ways to get lines, the file for jq and the objects for Splunk hold every event of the export."""
    shown = [command for block in read_blocks(ROOT / "docs/how-to/siem.md") for command in block.commands]
    written = ("> december.ndjson", "> lines.ndjson", "-o for-jq.json", "> for-splunk.ndjson")
    commands = [one for one in shown if one.endswith(written) and "new.ndjson" not in one]  # that of an archive
    assert len(commands) == 4
    (tmp_path / "december.json").write_bytes(export.read_bytes())
    for command in commands:
        subprocess.run(["/bin/sh", "-c", command], cwd=tmp_path, env=reader.environment, check=True)
    events = json.loads(export.read_bytes())
    for name in ("december.ndjson", "lines.ndjson"):
        assert [json.loads(line) for line in (tmp_path / name).read_bytes().splitlines()] == events
    assert len(json.loads((tmp_path / "for-jq.json").read_bytes())) == len(events)
    sent = [json.loads(line) for line in (tmp_path / "for-splunk.ndjson").read_bytes().splitlines()]
    assert [one["event"]["eventId"] for one in sent] == [event["eventId"] for event in events]
    assert all(isinstance(one["time"], int) for one in sent)
