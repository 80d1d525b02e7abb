import json
from pathlib import Path

import jsonschema
import msgspec
import pytest

from ociaudit.storage.manifest import Manifest

PUBLISHED = Path(__file__).resolve().parents[2] / "docs/reference/manifest.schema.json"


def make_schema() -> str:
    """Return the JSON Schema of the manifest as the code has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oci-audit-manifest/1",
        **msgspec.json.schema(Manifest),
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


if __name__ == "__main__":
    PUBLISHED.write_text(make_schema())
