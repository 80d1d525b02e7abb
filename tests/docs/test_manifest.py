import json
from pathlib import Path

import msgspec
import pytest

from ociaudit.storage.manifest import Manifest
from support.documents import cut_section

# What a filter consists of is in filters.md.
DOCUMENTED_ELSEWHERE = {"Criteria", "FilterSpec"}


@pytest.fixture(scope="module")
def page(repository: Path) -> str:
    """The page about manifest and ledger."""
    return (repository / "docs/reference/manifest.md").read_text("utf-8")


def test_every_field_of_the_manifest_is_documented(page: str) -> None:
    """docs/reference/manifest.md names every field that the schema has."""
    parts = msgspec.json.schema(Manifest)["$defs"]
    fields = {field for name in parts.keys() - DOCUMENTED_ELSEWHERE for field in parts[name].get("properties", {})}
    assert len(fields) > 50
    assert {field for field in fields if f"`{field}`" not in page} == set()


def test_every_field_of_the_ledger_is_documented(page: str, day_with_gaps: Path) -> None:
    """docs/reference/manifest.md names every field and status of the lines that a run with gaps writes."""
    section = cut_section(page, "## The ledger")
    lines = [json.loads(line) for line in (day_with_gaps / "a.json.ledger.ndjson").read_text("utf-8").splitlines()]
    assert {line["kind"] for line in lines} == {"shard", "block", "origins"}
    words = {field for line in lines for field in line} | {line["status"] for line in lines if "status" in line}
    assert {word for word in words if f"`{word}`" not in section} == set()
