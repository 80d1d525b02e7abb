import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from ociaudit.archive.commit import ArchiveHeader, Commit, Head
from ociaudit.storage.manifest import Manifest
from support.archives import write_archive

REFERENCE = Path(__file__).resolve().parents[2] / "docs/reference"
PUBLISHED = REFERENCE / "manifest.schema.json"
PUBLISHED_ARCHIVE = REFERENCE / "archive.schema.json"


def make_schema() -> str:
    """Return the JSON Schema of the manifest as the code has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oci-audit-manifest/1",
        **msgspec.json.schema(Manifest),
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def make_archive_schema() -> str:
    """Return the JSON Schema of archive.json, HEAD and the commits as the code has it: one definition for each."""
    references, definitions = msgspec.json.schema_components(
        [ArchiveHeader, Head, Commit], ref_template="#/$defs/{name}"
    )
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oci-audit-archive/1",
        "anyOf": list(references),
        "$defs": definitions,
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def test_the_published_schema_is_that_of_the_code() -> None:
    """docs/reference/manifest.schema.json describes what the program writes; `make schema` renews it."""
    assert PUBLISHED.read_text() == make_schema()


def test_a_manifest_keeps_to_the_schema(day_with_gaps: Path) -> None:
    """A manifest with gaps, as a run writes it, is valid by the published schema, and a changed one is not."""
    manifest = json.loads((day_with_gaps / "a.json.manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
    validator.validate(manifest)
    assert manifest["gaps"]
    for field in manifest:
        if field not in {"also_asked_by", "event_range", "redaction", "schema", "digest"}:
            with pytest.raises(jsonschema.ValidationError):
                validator.validate({name: value for name, value in manifest.items() if name != field})


def test_the_published_schema_of_the_archive_is_that_of_the_code() -> None:
    """docs/reference/archive.schema.json describes what the program writes; `make schema` renews it."""
    assert PUBLISHED_ARCHIVE.read_text() == make_archive_schema()


def test_an_archive_keeps_to_the_schema(tmp_path: Path) -> None:
    """archive.json, HEAD and each commit are valid by their definitions, and without a required field they are not."""
    write_archive(tmp_path, 2)
    published = json.loads(PUBLISHED_ARCHIVE.read_text())
    files = {"archive.json": "ArchiveHeader", "HEAD": "Head"} | {f"commits/{one:012}.json": "Commit" for one in (1, 2)}
    for name, definition in files.items():
        validator = jsonschema.Draft202012Validator(published | {"anyOf": [{"$ref": f"#/$defs/{definition}"}]})
        document = json.loads((tmp_path / name).read_text())
        validator.validate(document)
        required = published["$defs"][definition]["required"]
        assert required
        for field in required:
            with pytest.raises(jsonschema.ValidationError):
                validator.validate({each: value for each, value in document.items() if each != field})
    for name in ("oci-audit-commit/1", "oci-audit-archive/1"):
        assert name in PUBLISHED_ARCHIVE.read_text()


if __name__ == "__main__":
    PUBLISHED.write_text(make_schema())
    PUBLISHED_ARCHIVE.write_text(make_archive_schema())
