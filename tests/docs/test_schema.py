import json
import subprocess
from pathlib import Path

import jsonschema
import msgspec
import pytest

from ociaudit.storage.manifest import Manifest

PUBLISHED = Path(__file__).resolve().parents[2] / "docs" / "manifest.schema.json"


def make_schema() -> str:
    """Return the JSON Schema of the manifest as the code has it."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "oci-audit-manifest/1",
        **msgspec.json.schema(Manifest),
    }
    return json.dumps(schema, indent=1, sort_keys=True) + "\n"


def test_the_published_schema_is_that_of_the_code() -> None:
    """docs/manifest.schema.json is what the program writes by; `make schema` renews it."""
    assert PUBLISHED.read_text() == make_schema()


def test_a_manifest_keeps_to_the_schema(reader, make_folder) -> None:
    """A manifest with gaps, as a run writes it, is valid by the published schema, and a changed one is not."""
    folder = make_folder()
    command = ["oci-audit", "export", "--start=2025-12-01", "--end=2025-12-01", "-o", "a.json", "--quiet"]
    done = subprocess.run(command, cwd=folder, env=reader.environment, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 10, done.stderr
    manifest = json.loads((folder / "a.json.manifest.json").read_text())
    validator = jsonschema.Draft202012Validator(json.loads(PUBLISHED.read_text()))
    validator.validate(manifest)
    assert manifest["gaps"]
    for field in manifest:
        if field not in {"also_asked_by", "event_range", "redaction", "schema", "digest"}:
            with pytest.raises(jsonschema.ValidationError):
                validator.validate({name: value for name, value in manifest.items() if name != field})


if __name__ == "__main__":
    PUBLISHED.write_text(make_schema())
