"""The manifest beside an output: what was requested, what was answered, what is missing, and which file it describes.

The format is `oci-audit-manifest/1`; `docs/reference/manifest.schema.json` is generated from the classes here. What a
manifest contains is collected in `operations/publish.py`. Manifests, and the commits of an archive, are signed and
checked by OpenSSH (`ssh-keygen -Y`), which alone reads private keys.

Invariants
- A manifest is small however many shards there were: coverage is merged, and long lists are truncated and say so.
- `digest` is the SHA-256 of the manifest's bytes with the 64 digits of the digest itself replaced by zeros, so that any
  changed byte is noticed.
- A signature is bound to a namespace, `oci-audit-manifest` or `oci-audit-commit`; one made for another purpose does not
  count. Only a key that the caller named is the expected signer; any other good signature is reported with its key.
- A manifest contains no key, token or header value.
"""

from __future__ import annotations

import hashlib
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.planning.shard import Coverage, Gap, Target, Window, format_minute, parse_minute
from ociaudit.storage.atomic_io import explain_disk, write_file
from ociaudit.storage.run_dir import ExportArguments

MANIFEST_SCHEMA = "oci-audit-manifest/1"
_NO_DIGEST = "0" * 64
_DIGEST_FIELD = re.compile(rb'"digest": "([0-9a-f]{64})"')


class Tool(msgspec.Struct, frozen=True):
    """The program that wrote the file."""

    name: str
    version: str


class Principal(msgspec.Struct, frozen=True):
    """The identity that signed in for the requests."""

    tenancy: str
    principal: str
    key_fingerprint: str | None


RangeTime = Literal["processed time", "event time"]


def name_time(source: str) -> RangeTime:
    """Return which time of an event a source of events selects by."""
    return "event time" if source == "logging-search" else "processed time"


class Range(msgspec.Struct, frozen=True):
    """The requested range, in RFC 3339, half-open.

    ListEvents filters by the time at which it processed an event, Logging Search by the time at which it happened.
    """

    start: str
    end: str
    time: RangeTime = "processed time"

    @property
    def window(self) -> Window:
        """Return the parsed range.

        Raises:
            ValueError: its start or end cannot be read.
        """
        return Window(parse_minute(self.start), parse_minute(self.end))


class EventRange(msgspec.Struct, frozen=True):
    """The requested range of event times, in RFC 3339, half-open; events outside it were dropped and are counted.

    Processing times from `start` to `late` after `end` were requested. `is_settled` is false if that end was in the
    future: some events of the range may not have been processed yet.
    """

    start: str
    end: str
    late: str
    is_settled: bool


class EventTimes(msgspec.Struct, frozen=True):
    """The `eventTime` of the written events: the first, the last, and how many are outside the requested range."""

    first: str | None
    last: str | None
    outside_range: int
    unreadable: int


class Scope(msgspec.Struct, frozen=True):
    """The regions and compartments of the export.

    The request ids are those of the listings; they are empty for what was named on the command line.
    `unlisted_compartments_seen` occur in events but not in the listing: they were deleted more than 90 days ago, and
    for them completeness cannot be proven. `retention_days` is the setting of the tenancy, if it could be read.
    `compartment_paths` are the paths of the compartments by OCID, such as `root/production/payments`: of those of the
    scope from the listing, of unlisted ones the name that an event states. It is empty where none is known.
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
    compartment_paths: dict[str, str] = {}


class Totals(msgspec.Struct, frozen=True):
    """Counts: `scanned` = `written` + `filtered` + `identical` + `reserialised`.

    Where a dense shard was split, or started again because the service rejected its page token, or requested again
    because it was provisional, the first pages were requested twice: their events are scanned twice, and are identical
    or filtered the second time. `fetched_twice` of the `identical` come from that; the service returned the others more
    than once.
    `shards` were answered completely; `confirmed_empty` of them a second time because they returned no events.
    `requests` is how many requests the `pages` took, retries included. Requests that led to no page, because of a gap
    or because the run was killed, are not counted: the count would not survive a kill.
    `reserialised` records repeat another one with the same JSON value in other bytes: only the smallest bytes are
    written, and they do not count as conflicts. `outside_event_range` of the `filtered` events were dropped for their
    `eventTime`, the others by the filter.
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
    reserialised: int = 0
    fetched_twice: int = 0


class CoveredTarget(msgspec.Struct, frozen=True):
    """The windows of one target that were answered completely, merged."""

    region: str
    compartment: str
    windows: tuple[tuple[str, str], ...]

    @property
    def target(self) -> Target:
        """Return the region and compartment."""
        return Target(self.region, self.compartment)

    @property
    def coverage(self) -> Coverage:
        """Return the parsed windows.

        Raises:
            ValueError: a time in them cannot be read.
        """
        return Coverage(Window(parse_minute(start), parse_minute(end)) for start, end in self.windows)


class _TargetWindow(msgspec.Struct, frozen=True):
    region: str
    compartment: str
    start: str
    end: str

    @property
    def target(self) -> Target:
        """Return the region and compartment."""
        return Target(self.region, self.compartment)

    @property
    def window(self) -> Window:
        """Return the parsed window.

        Raises:
            ValueError: its start or end cannot be read.
        """
        return Window(parse_minute(self.start), parse_minute(self.end))


class GapEntry(_TargetWindow, frozen=True):
    """A part of the plan that did not come back complete."""

    kind: Literal["denied", "failed"]
    reason: str
    request_id: str | None

    @property
    def gap(self) -> Gap:
        """Return the gap.

        Raises:
            ValueError: its start or end cannot be read.
        """
        return Gap(self.target, self.window, self.kind, self.reason, self.request_id)


class ProvisionalEntry(_TargetWindow, frozen=True):
    """A window that was requested too soon after its end to be final; those of a target do not overlap."""

    asked_at: str


class Redaction(msgspec.Struct, frozen=True):
    """The values that were replaced by a marker because they looked like credentials.

    `events` were changed. `fields` counts the values by the path of names that leads to them, the most frequent first;
    if there are very many paths, the last ones are counted together.
    """

    events: int
    fields: dict[str, int]


class FileEntry(msgspec.Struct, frozen=True):
    """A file beside the manifest."""

    name: str
    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole manifest."""

    schema: Literal["oci-audit-manifest/1"] = "oci-audit-manifest/1"
    complete: bool
    tool: Tool
    arguments: ExportArguments
    asked_by: Principal
    also_asked_by: tuple[Principal, ...] = ()
    """Other identities that signed in for earlier runs which this one continued."""
    range: Range
    event_range: EventRange | None = None
    event_times: EventTimes
    scope: Scope
    totals: Totals
    conflicting_ids: tuple[str, ...]
    """The first thousand of the ids that have more than one record."""
    coverage: tuple[CoveredTarget, ...]
    gaps: tuple[GapEntry, ...]
    waived_gaps: tuple[GapEntry, ...]
    provisional: tuple[ProvisionalEntry, ...]
    redaction: Redaction | None = None
    """None: events are as served. Counts, order and conflicts refer to the events before redaction."""
    output: FileEntry
    ledger: FileEntry
    clock_skew_seconds: float | None
    """How far the local clock is ahead of the service's."""
    started_at: str
    finished_at: str
    digest: str = _NO_DIGEST

    @property
    def window(self) -> Window:
        """Return the requested range.

        Raises:
            ValueError: its start or end cannot be read.
        """
        return self.range.window


class CoverageStatement(Protocol):
    """What a manifest states about coverage, and an archive likewise."""

    @property
    def window(self) -> Window:
        """Return the requested range."""

    @property
    def coverage(self) -> tuple[CoveredTarget, ...]:
        """Return the windows that were answered, by target; targets without any are included."""

    @property
    def gaps(self) -> tuple[GapEntry, ...]:
        """Return what is missing."""

    @property
    def waived_gaps(self) -> tuple[GapEntry, ...]:
        """Return what is missing because of a known denial."""

    @property
    def provisional(self) -> tuple[ProvisionalEntry, ...]:
        """Return what was answered and may still grow."""


@dataclass(frozen=True, slots=True)
class ManifestFile:
    """A manifest with the bytes that it was read from."""

    manifest: Manifest
    data: bytes

    @property
    def has_own_digest(self) -> bool:
        """Return whether the bytes match the digest that they state."""
        return has_own_digest(self.data)


def make_gap_entry(gap: Gap) -> GapEntry:
    """Return the manifest entry of a gap."""
    return GapEntry(
        region=gap.target.region,
        compartment=gap.target.compartment,
        start=format_minute(gap.window.start),
        end=format_minute(gap.window.end),
        kind=gap.kind,
        reason=gap.reason,
        request_id=gap.request_id,
    )


def name_manifest(path: Path) -> Path:
    """Return the default path of a file's manifest: beside it."""
    return path.parent / f"{path.name}.manifest.json"


def name_ledger(path: Path) -> Path:
    """Return the path of a file's ledger: beside it."""
    return path.parent / f"{path.name}.ledger.ndjson"


def load_manifest(path: Path) -> ManifestFile | None:
    """Return the manifest in a file, or None if there is no such file; its digest is not checked.

    Raises:
        CorruptRun: the file is not a manifest of this format.
        DiskError: it cannot be read.
    """
    with explain_disk("read", path):
        if not path.exists():
            return None
        data = path.read_bytes()
    return ManifestFile(decode_manifest(data, where=str(path)), data)


def encode_manifest(manifest: Manifest) -> tuple[bytes, str]:
    """Return the manifest's bytes and the digest that they state."""
    blank = msgspec.structs.replace(manifest, digest=_NO_DIGEST)
    data = msgspec.json.format(msgspec.json.encode(blank), indent=1) + b"\n"
    digest = hashlib.sha256(data).hexdigest()
    return _put_digest(data, digest), digest


def decode_manifest(data: bytes, *, where: str) -> Manifest:
    """Parse a manifest; its digest is not checked. `where` names it in errors.

    Raises:
        CorruptRun: the bytes are not a manifest of this format.
    """
    try:
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise CorruptRun(
            f"{where} is not a manifest of oci-audit: {error}",
            hint="export everything again with --overwrite, or restore the manifest from a copy",
        ) from error


def has_own_digest(data: bytes) -> bool:
    """Return whether a manifest's bytes match the digest that they state."""
    matches = list(_DIGEST_FIELD.finditer(data))
    if not matches:
        return False
    stated = matches[-1][1].decode()
    return hashlib.sha256(_put_digest(data, _NO_DIGEST)).hexdigest() == stated


def _put_digest(data: bytes, digest: str) -> bytes:
    """Return the bytes with `digest` in the last field of that name, which is the manifest's own."""
    *_, last = _DIGEST_FIELD.finditer(data)
    return data[: last.start(1)] + digest.encode() + data[last.end(1) :]


NAMESPACE = "oci-audit-manifest"
COMMIT_NAMESPACE = "oci-audit-commit"
_IDENTITY = "signer"
_FINGERPRINT = re.compile(r"key (SHA256:\S+)")
_INSTALL_HINT = "install OpenSSH 8.1 or newer (for example: apt-get install openssh-client)"


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """The result of checking a signature: whether it matches the bytes, the key, and whether that key was expected."""

    is_good: bool
    is_expected_signer: bool
    fingerprint: str | None
    message: str


def name_signature(path: Path) -> Path:
    """Return the path of a file's signature: beside it, with the suffix `.sig`."""
    return path.with_name(path.name + ".sig")


def check_signing_key(key: Path) -> None:
    """Check that a key can sign, before any work is done for what it signs.

    Raises:
        UsageError: ssh-keygen is missing, or the key file does not exist or cannot sign.
    """
    _find_ssh_keygen()
    if not key.is_file():
        hint = f"create it with: ssh-keygen -t ed25519 -f {shlex.quote(str(key))}"
        raise UsageError(f"the signing key {key} does not exist", hint=hint)
    _sign(b"", key, NAMESPACE)


def read_fingerprint(key: Path) -> str:
    """Return the fingerprint of the key that a key file signs with, `SHA256:…`, which is that of its public half.

    It is read from a signature: a public key beside the private one could be another's.

    Raises:
        UsageError: ssh-keygen is missing, or the key file does not exist or cannot sign.
    """
    check_signing_key(key)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as folder:
        signature_path = Path(folder) / "signature"
        sign_bytes(b"", key, signature_path)
        seen = check_signature(b"", signature_path, None)
    if not seen.is_good or seen.fingerprint is None:
        raise UsageError(f"the key {key} makes no good signature: {seen.message}", hint="name a usable private SSH key")
    return seen.fingerprint


def sign_bytes(data: bytes, key: Path, signature_path: Path, *, namespace: str = NAMESPACE) -> None:
    """Write the armored signature of `data` by the SSH key to `signature_path`.

    Raises:
        UsageError: the key cannot sign; the message is ssh-keygen's.
        DiskError: the signature cannot be written.
    """
    write_file(signature_path, _sign(data, key, namespace))


def _sign(data: bytes, key: Path, namespace: str) -> bytes:
    done = _run(["-Y", "sign", "-q", "-f", str(key), "-n", namespace], data)
    if done.returncode != 0:
        raise UsageError(
            f"the key {key} cannot sign: {_read_message(done)}", hint="name a usable private SSH key with --sign"
        )
    return done.stdout


def check_signature(
    data: bytes, signature_path: Path, signer: Path | None, *, namespace: str = NAMESPACE
) -> SignatureCheck:
    """Check a signature; `signer` is a public key file, or an allowed-signers file of OpenSSH.

    Raises:
        UsageError: ssh-keygen is missing, or `signer` is not a file.
        DiskError: `signer` cannot be read.
    """
    seen = _run(["-Y", "check-novalidate", "-n", namespace, "-s", str(signature_path)], data)
    found = _FINGERPRINT.search(seen.stdout.decode("utf-8", "replace"))
    fingerprint = found[1] if found else None
    if seen.returncode != 0:
        return SignatureCheck(
            is_good=False, is_expected_signer=False, fingerprint=fingerprint, message=_read_message(seen)
        )
    if signer is None:
        return SignatureCheck(
            is_good=True,
            is_expected_signer=False,
            fingerprint=fingerprint,
            message=f"signed by key {fingerprint}, which is not verified",
        )
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as folder:
        allowed, identity = _allow_signer(signer, signature_path, Path(folder) / "allowed_signers")
        done = _run(
            ["-Y", "verify", "-n", namespace, "-s", str(signature_path), "-f", str(allowed), "-I", identity], data
        )
    is_expected = done.returncode == 0
    signed = f"signed by {identity}, key {fingerprint}"
    message = signed if is_expected else f"signed by key {fingerprint}, which is not a key of {signer}"
    return SignatureCheck(is_good=True, is_expected_signer=is_expected, fingerprint=fingerprint, message=message)


def _allow_signer(signer: Path, signature_path: Path, allowed: Path) -> tuple[Path, str]:
    """Return an allowed-signers file for OpenSSH and the identity to look for in it."""
    if not signer.is_file():
        raise UsageError(f"--signer {signer}: there is no such file", hint="name the signer's public SSH key")
    with explain_disk("read", signer):
        text = signer.read_text("utf-8", "replace")
    if re.match(r"(ssh-|ecdsa-|sk-)", text):
        write_file(allowed, f"{_IDENTITY} {text.strip()}\n".encode())
        return allowed, _IDENTITY
    done = _run(["-Y", "find-principals", "-s", str(signature_path), "-f", str(signer)], b"")
    principals = done.stdout.decode("utf-8", "replace").splitlines()
    return signer, principals[0] if done.returncode == 0 and principals else "nobody"


def _run(arguments: Sequence[str], data: bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([_find_ssh_keygen(), *arguments], input=data, capture_output=True, check=False)


def _find_ssh_keygen() -> str:
    path = shutil.which("ssh-keygen")
    if path is None:
        raise UsageError("signing and checking signatures needs ssh-keygen, which is not installed", hint=_INSTALL_HINT)
    return path


def _read_message(done: subprocess.CompletedProcess[bytes]) -> str:
    lines = (done.stderr or done.stdout).decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else f"ssh-keygen failed with exit status {done.returncode}"
