"""The statement beside an output: what was asked, what answered, what is missing, and what the file is.

Owns: the form `oci-audit-manifest/1`, and the digest that the manifest states of itself.
Must not: collect what it states.

Invariants
- It is small however many shards there were: coverage is merged, lists are bounded and say so.
- `digest` is the SHA-256 of the manifest's bytes with the 64 digits of the digest replaced by zeros, so
  changing any byte shows.
- No key, token or header value stands in it.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.storage.run_dir import ExportArguments

MANIFEST_SCHEMA = "oci-audit-manifest/1"
_NO_DIGEST = "0" * 64
_DIGEST_FIELD = re.compile(rb'"digest": "([0-9a-f]{64})"')


class Tool(msgspec.Struct, frozen=True):
    """What made the file."""

    name: str
    version: str


class Principal(msgspec.Struct, frozen=True):
    """Who asked."""

    tenancy: str
    principal: str
    key_fingerprint: str | None


class Range(msgspec.Struct, frozen=True):
    """What was asked for, in RFC 3339, half-open; the service filters by the time it processed an event."""

    start: str
    end: str
    time: Literal["processed time"] = "processed time"


class EventRange(msgspec.Struct, frozen=True):
    """The event times asked for, in RFC 3339, half-open; what lay outside was dropped, and is counted.

    Processing was asked from `start` to `late` after `end`. `is_settled` is false where that end was still to come:
    events of the range may not have been processed yet.
    """

    start: str
    end: str
    late: str
    is_settled: bool


class EventTimes(msgspec.Struct, frozen=True):
    """The written events by their own `eventTime`: the first, the last, and how many lie outside the range asked."""

    first: str | None
    last: str | None
    outside_range: int
    unreadable: int


class Scope(msgspec.Struct, frozen=True):
    """Where was asked.

    The request ids are those of the listings; empty where places were named by hand.
    `unlisted_compartments_seen` occur in events but not in the listing: deleted more than 90 days ago, for
    which completeness cannot be proven. `retention_days` is what the tenancy is set to, if that could be read.
    """

    regions: tuple[str, ...]
    compartments: tuple[str, ...]
    region_request_ids: tuple[str, ...]
    compartment_request_ids: tuple[str, ...]
    unlisted_compartments_seen: tuple[str, ...]
    retention_days: int | None
    reaches_beyond_retention: bool
    note: str = (
        "Compartments deleted more than 90 days ago are not listed by the service; "
        "for them completeness cannot be proven."
    )


class Totals(msgspec.Struct, frozen=True):
    """Counts: `scanned` = `written` + `filtered` + `identical`.

    Where a dense shard was cut, or began anew because its token was refused, its first pages were asked twice: their
    events are scanned twice, and are identical or filtered the second time.
    `shards` were answered complete, `confirmed_empty` of them a second time because they brought no event.
    `requests` is what the `pages` took, repeats included. Requests that led to no page, of gaps or of a run that was
    killed meanwhile, are not in it: nothing that survives a kill could count them.
    `outside_event_range` of the `filtered` were dropped for their `eventTime`, the others for the filter.
    """

    scanned: int
    written: int
    filtered: int
    identical: int
    conflicting_ids: int
    shards: int
    confirmed_empty: int
    pages: int
    requests: int
    outside_event_range: int = 0


class CoveredTarget(msgspec.Struct, frozen=True):
    """The merged windows of one place that were answered complete."""

    region: str
    compartment: str
    windows: tuple[tuple[str, str], ...]


class GapEntry(msgspec.Struct, frozen=True):
    """A part of the plan that did not come back complete."""

    region: str
    compartment: str
    start: str
    end: str
    kind: Literal["denied", "failed"]
    reason: str
    request_id: str | None


class ProvisionalEntry(msgspec.Struct, frozen=True):
    """A shard that was asked too soon after its end to be final."""

    region: str
    compartment: str
    start: str
    end: str
    asked_at: str


class Redaction(msgspec.Struct, frozen=True):
    """What was replaced by a mark, because it looked like a credential.

    `events` were changed; `fields` counts the values by the path of names that leads to them, the most frequent
    first; of very many paths the last ones are counted together.
    """

    events: int
    fields: dict[str, int]


class FileEntry(msgspec.Struct, frozen=True):
    """A file beside the manifest."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole statement."""

    schema: Literal["oci-audit-manifest/1"] = "oci-audit-manifest/1"
    complete: bool
    tool: Tool
    arguments: ExportArguments
    asked_by: Principal
    also_asked_by: tuple[Principal, ...] = ()
    """Who asked in earlier runs that this one went on with, where that was somebody else."""
    range: Range
    event_range: EventRange | None = None
    event_times: EventTimes
    scope: Scope
    totals: Totals
    conflicting_ids: tuple[str, ...]
    """The first thousand ids that have more than one record."""
    coverage: tuple[CoveredTarget, ...]
    gaps: tuple[GapEntry, ...]
    waived_gaps: tuple[GapEntry, ...]
    provisional: tuple[ProvisionalEntry, ...]
    redaction: Redaction | None = None
    """None: events are as served. Counts, order and conflicts above speak of the events before the redaction."""
    output: FileEntry
    ledger: FileEntry
    clock_skew_seconds: float | None
    """How far the local clock was ahead of the service's."""
    started_at: str
    finished_at: str
    digest: str = _NO_DIGEST


def name_manifest(path: Path) -> Path:
    """Return where the manifest of a file stands, unless another place was named: beside it."""
    return path.parent / f"{path.name}.manifest.json"


def name_ledger(path: Path) -> Path:
    """Return where the ledger of a file stands: beside it."""
    return path.parent / f"{path.name}.ledger.ndjson"


def encode_manifest(manifest: Manifest) -> tuple[bytes, str]:
    """Return the manifest's bytes and the digest they state."""
    blank = msgspec.structs.replace(manifest, digest=_NO_DIGEST)
    data = msgspec.json.format(msgspec.json.encode(blank), indent=1) + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    return _put_digest(data, digest), digest


def decode_manifest(data: bytes, *, where: str) -> Manifest:
    """Read a manifest; its digest is not checked here.

    Raises:
        CorruptRun: the bytes are no manifest of this version.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise CorruptRun(
            f"{where} is not a manifest of oci-audit: {error}",
            hint="ask for everything anew with --overwrite, or restore the manifest from its copy",
        ) from error


def has_own_digest(data: bytes) -> bool:
    """Tell whether a manifest's bytes are those that its digest speaks of."""
    matches = list(_DIGEST_FIELD.finditer(data))
    if not matches:
        return False
    stated = matches[-1][1].decode()
    return hashlib.sha256(_put_digest(data, _NO_DIGEST)).hexdigest() == stated


def _put_digest(data: bytes, digest: str) -> bytes:
    """Put a digest into the last digest field; it is the manifest's own."""
    *_, last = _DIGEST_FIELD.finditer(data)
    return data[: last.start(1)] + digest.encode() + data[last.end(1) :]
