"""Forged exports: a ledger and a manifest with any content, and with valid hashes."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ociaudit.storage.ledger import BlockDigest
from ociaudit.storage.manifest import FileEntry, Manifest, encode_manifest, load_manifest, name_manifest


def parse_manifest(output: Path) -> Manifest:
    """Return the manifest beside an output."""
    found = load_manifest(name_manifest(output))
    assert found is not None
    return found.manifest


def forge_manifest(output: Path, manifest: Manifest, *, shards: Sequence[dict[str, Any]] | None = None) -> None:
    """Write a ledger and a manifest for the output as it is now, with the content of `manifest` and valid hashes.

    `shards` are the ledger's lines about shards; the default is to keep them.
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
    ledger_digest = BlockDigest()
    ledger_digest.update(ledger.read_bytes())
    data, _ = encode_manifest(
        msgspec.structs.replace(
            manifest,
            output=FileEntry(output.name, digest.size_bytes, digest.sha256),
            ledger=FileEntry(ledger.name, ledger_digest.size_bytes, ledger_digest.sha256),
        )
    )
    name_manifest(output).write_bytes(data)
