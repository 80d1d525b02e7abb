"""Exports that state of themselves what somebody wants them to state, with all hashes right.

Owns: the restating of ledger and manifest. Must not: sign.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ociaudit.storage.ledger import BlockDigest
from ociaudit.storage.manifest import FileEntry, Manifest, decode_manifest, encode_manifest, name_manifest


def parse_manifest(output: Path) -> Manifest:
    """Return the manifest beside an output."""
    path = name_manifest(output)
    return decode_manifest(path.read_bytes(), where=str(path))


def forge_manifest(output: Path, manifest: Manifest, *, shards: Sequence[dict[str, Any]] | None = None) -> None:
    """Write ledger and manifest anew for the output as it is now, whatever it is, and state what `manifest` does.

    `shards` are the ledger's lines about shards; by default those that it has.
    """
    ledger = output.with_name(manifest.ledger.name)
    if shards is None:
        shards = [line for line in map(json.loads, ledger.read_bytes().splitlines()) if line["kind"] == "shard"]
    digest = BlockDigest()
    with output.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    blocks = digest.finish()
    lines: Iterable[bytes] = (msgspec.json.encode(line) + b"\n" for line in (*shards, *blocks))
    ledger.write_bytes(b"".join(lines))
    of_ledger = BlockDigest()
    of_ledger.update(ledger.read_bytes())
    data, _ = encode_manifest(
        msgspec.structs.replace(
            manifest,
            output=FileEntry(output.name, digest.size_bytes, digest.sha256),
            ledger=FileEntry(ledger.name, of_ledger.size_bytes, of_ledger.sha256),
        )
    )
    name_manifest(output).write_bytes(data)
