"""The events of a file that this program wrote: do they ascend, and does none stand twice?

Owns: that check, block by block. Must not: read the file.

Invariants
- Events are made only of blocks in which something is unusual; a sound file costs one look at each line.
- Two records of the same time and id stand in the order of their bytes as served; where those were derived from,
  by another spelling, an origin or redaction, the order of equal ones is not looked at.
- Of redacted events only the times are compared: the order is that of the events as served, and an id may be gone.

An export checked against what it states of itself, offline.

Owns: what is checked. Must not: ask the service, or change anything.

Invariants
- Every byte of output, ledger and manifest is covered by a hash that is compared.
- The file streams by: memory does not grow with it.
- "Consistent" is all that an unsigned manifest proves; who made it, only a signature does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.errors import CorruptRun, UsageError
from ociaudit.events.event import Event, read_instant_of
from ociaudit.formats.json_reader import (
    BadArray,
    LineBlock,
    read_chunks,
    read_line_blocks,
    scan_block,
    split_lines,
    unpack_chunks,
)
from ociaudit.formats.validate import NOT_READ_AGAIN, count_rows, read_lines
from ociaudit.planning.shard import Target
from ociaudit.planning.window import Coverage, Window, parse_minute
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.ledger import BlockDigest, BlockLine, LedgerLine, ShardLine
from ociaudit.storage.manifest import FileEntry, Manifest, load_manifest, name_manifest
from ociaudit.storage.signing import SignatureCheck, check_signature, name_signature


class OrderCheck:
    """Takes the blocks of a file in turn; `count` is how many events they held."""

    def __init__(
        self, shape: str, *, is_as_served: bool = True, is_redacted: bool = False, report: Callable[[str, int], None]
    ) -> None:
        """Check events in this shape; `report` gets what is wrong, in words, and at which byte.

        `is_as_served`: their bytes are those that Oracle sent.
        """
        self.count = 0
        self._shape = shape
        self._is_as_served = shape == "api" and is_as_served and not is_redacted
        self._is_redacted = is_redacted
        self._report = report
        self._previous = Event(b"", b"", "", None, None)

    def check(self, block: LineBlock) -> None:
        """Take the next lines.

        Raises:
            BadArray: they do not hold an event each.
        """
        scan = scan_block(block) if self._shape == "api" and not self._is_redacted else None
        if scan is not None and scan.first > self._previous.order:
            self.count += scan.events
            self._previous = scan.last
            return
        batch = split_lines(block, self._shape)
        self.check_events(batch.events, batch.offsets)

    def check_events(self, events: Sequence[Event], offsets: Sequence[int]) -> None:
        """Take the next events, with the byte at which each begins."""
        previous = self._previous
        for event, offset in zip(events, offsets, strict=True):
            if event.order <= previous.order:
                self._look_closer(previous, event, offset)
            previous = event
        self._previous = previous
        self.count += len(events)

    def _look_closer(self, previous: Event, event: Event, offset: int) -> None:
        if self._is_redacted and read_instant_of(event.order) >= read_instant_of(previous.order):
            return
        if event.order < previous.order or (self._is_as_served and event.raw < previous.raw):
            self._report("an event stands out of order", offset)
        elif self._is_as_served and event.raw == previous.raw:
            self._report("a record stands twice", offset)


_MAX_PROBLEMS = 100
Authorship = Literal["unsigned", "missing", "unfit", "unknown_signer", "other_signer", "expected_signer"]
"""Who made the manifest: not signed; not signed although a signer was expected; a signature that does not fit; one by
a key that nobody named; by another key than the one named; by the one named."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that does not agree; `offset` is the byte of the file from which on, where that is known."""

    file: str
    text: str
    offset: int | None = None


@dataclass(slots=True)
class Verification:
    """What the check found. `signature` None means that the manifest is not signed."""

    manifest: Manifest
    manifest_sha256: str
    signature: SignatureCheck | None = None
    authorship: Authorship = "unsigned"
    problems: list[Problem] = field(default_factory=list)
    settled: dict[Target, Coverage] = field(default_factory=dict)
    """What the ledger's shards cover that were answered in good time."""
    answered: dict[Target, Coverage] = field(default_factory=dict)
    """The same, with those that were asked too soon, which may have been asked again in vain."""
    has_ledger: bool = False
    notes: list[str] = field(default_factory=list)
    """What was not looked at."""

    @property
    def is_consistent(self) -> bool:
        """Tell whether nothing disagreed."""
        return not self.problems


def verify_export(output: Path, *, manifest_path: Path | None = None, signer: Path | None = None) -> Verification:
    """Check an output with its ledger, manifest and signature; the manifest stands beside it, unless it is named.

    Raises:
        CorruptRun: there is no manifest, or it cannot be read.
        UsageError: the output is missing, or a signer is named and there is no signature.
        DiskError: a file cannot be read.
    """
    if not output.is_file():
        raise UsageError(f"{output} is not a file that is there", hint="name the file that oci-audit export wrote")
    manifest_path = manifest_path or name_manifest(output)
    found = load_manifest(manifest_path)
    if found is None:
        raise CorruptRun(
            f"there is no manifest {manifest_path}",
            hint="without it nothing can be proven; name it with --manifest if it moved",
        )
    result = Verification(found.manifest, hashlib.sha256(found.data).hexdigest())
    if not found.has_own_digest:
        result.problems.append(Problem(manifest_path.name, "its bytes are not those that its digest speaks of"))
    _check_signature(result, found.data, manifest_path, signer)
    blocks = _check_ledger(result, _find_ledger(output, manifest_path, found.manifest))
    _check_output(result, output, blocks)
    try:
        _check_statement(result, manifest_path.name)
    except ValueError as error:
        result.problems.append(Problem(manifest_path.name, f"a time in it cannot be read: {error}"))
    return result


def _find_ledger(output: Path, manifest_path: Path, manifest: Manifest) -> Path | None:
    """Return the ledger, which stands beside the output, or beside the manifest where the output was stdout."""
    name = manifest.ledger.name
    if not name or name != Path(name).name:
        return None
    candidates = (output.with_name(name), manifest_path.with_name(name))
    return next((path for path in candidates if path.is_file()), None)


def _check_signature(result: Verification, data: bytes, manifest_path: Path, signer: Path | None) -> None:
    path = name_signature(manifest_path)
    if not path.exists():
        if signer is not None:
            result.authorship = "missing"
            result.problems.append(Problem(path.name, "there is no signature, and one was expected"))
        return
    result.signature = check_signature(data, path, signer)
    if not result.signature.is_good:
        result.authorship = "unfit"
        result.problems.append(Problem(path.name, f"the signature does not fit: {result.signature.message}"))
    elif signer is None:
        result.authorship = "unknown_signer"
    elif result.signature.is_expected_signer:
        result.authorship = "expected_signer"
    else:
        result.authorship = "other_signer"
        result.problems.append(Problem(path.name, result.signature.message))


def _check_ledger(result: Verification, path: Path | None) -> list[BlockLine]:
    """Check the ledger's bytes and sums; return the output's block hashes."""
    stated = result.manifest.ledger
    if path is None:
        result.problems.append(Problem("ledger", "it is missing, beside the file and beside the manifest"))
        return []
    result.has_ledger = True
    blocks: list[BlockLine] = []
    digest = hashlib.sha256()
    position = events = 0
    decoder: msgspec.json.Decoder[LedgerLine] = msgspec.json.Decoder(LedgerLine)
    with explain_disk("read", path), path.open("rb") as file:
        for raw in file:
            digest.update(raw)
            try:
                line = decoder.decode(raw)
                if isinstance(line, ShardLine):
                    _cover(result, line)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                result.problems.append(Problem(stated.name, "this line is not of a ledger", position))
                return blocks
            position += len(raw)
            if isinstance(line, BlockLine):
                blocks.append(line)
            else:
                events += line.events
    _compare_file(result, stated, position, digest.hexdigest())
    if events != result.manifest.totals.scanned:
        text = f"its shards add up to {events:,} events, the manifest states {result.manifest.totals.scanned:,} scanned"
        result.problems.append(Problem(stated.name, text))
    return blocks


def _cover(result: Verification, line: ShardLine) -> None:
    window = Window(parse_minute(line.start), parse_minute(line.end))
    target = Target(line.region, line.compartment)
    if line.status == "complete":
        result.settled.setdefault(target, Coverage()).add(window)
    if line.status in {"complete", "provisional"}:
        result.answered.setdefault(target, Coverage()).add(window)


def _compare_file(result: Verification, stated: FileEntry, size_bytes: int, sha256: str) -> None:
    if size_bytes != stated.size_bytes:
        text = f"it has {size_bytes:,} bytes, the manifest states {stated.size_bytes:,}"
        result.problems.append(Problem(stated.name, text, min(size_bytes, stated.size_bytes)))
    elif sha256 != stated.sha256:
        result.problems.append(Problem(stated.name, "its SHA-256 is not the one in the manifest"))


def _check_output(result: Verification, path: Path, blocks: list[BlockLine]) -> None:
    """Check hash, blocks, JSON, order and count in one pass."""
    stated = result.manifest.output
    digest = BlockDigest()
    arguments = result.manifest.arguments
    order = OrderCheck(
        arguments.shape,
        is_as_served=not arguments.with_origin,
        is_redacted=arguments.redact,
        report=lambda text, offset: _report(result, Problem(stated.name, text, offset)),
    )
    with explain_disk("read", path), path.open("rb", buffering=0) as file:
        stream = _hash_beside(read_chunks(file), digest)
        try:
            if arguments.format in {"csv", "parquet"}:
                order.count = count_rows(unpack_chunks(stream), file, is_csv=arguments.format == "csv")
                result.notes.append(NOT_READ_AGAIN)
            elif arguments.format == "ndjson":
                for batch in read_lines(unpack_chunks(stream), shape=arguments.shape):
                    order.check_events(batch.events, batch.offsets)
            else:
                for block in read_line_blocks(unpack_chunks(stream)):
                    order.check(block)
        except BadArray as error:
            result.problems.append(Problem(stated.name, str(error), error.offset))
        for _ in stream:  # behind a bad place the rest still has to be hashed
            pass
    _locate_damage(result, blocks, digest.finish())
    _compare_file(result, stated, digest.size_bytes, digest.sha256)
    written = result.manifest.totals.written
    if order.count != written and not any(problem.file == stated.name for problem in result.problems):
        text = f"it holds {order.count:,} events, the manifest states {written:,}"
        result.problems.append(Problem(stated.name, text))


def _report(result: Verification, problem: Problem) -> None:
    if len(result.problems) < _MAX_PROBLEMS:
        result.problems.append(problem)


def _locate_damage(result: Verification, stated: Sequence[BlockLine], found: Sequence[BlockLine]) -> None:
    begin = 0
    for line, seen in zip(stated, found, strict=False):
        if line != seen:
            text = f"it is altered somewhere in the {seen.end - begin:,} bytes from here on"
            result.problems.append(Problem(result.manifest.output.name, text, begin))
            return
        begin = line.end


def _hash_beside(chunks: Iterable[bytes], digest: BlockDigest) -> Iterator[bytes]:
    """Pass the chunks on while another thread hashes them."""
    with ThreadPoolExecutor(1) as thread:
        pending: Future[None] | None = None
        for chunk in chunks:
            if pending is not None:
                pending.result()
            pending = thread.submit(digest.update, chunk)
            yield chunk
        if pending is not None:
            pending.result()


def _check_statement(result: Verification, name: str) -> None:
    """Check that the manifest agrees with itself: sums, and that coverage and gaps make up what was asked."""
    manifest = result.manifest
    totals = manifest.totals
    if totals.scanned != totals.written + totals.filtered + totals.identical:
        result.problems.append(Problem(name, "scanned is not written + filtered + identical"))
    if manifest.complete == bool(manifest.gaps):
        result.problems.append(Problem(name, "complete and the list of gaps contradict each other"))
    asked = manifest.window
    known: dict[Target, Coverage] = {}
    for entry in manifest.coverage:
        coverage = known.setdefault(entry.target, Coverage())
        for window in entry.coverage.windows:
            coverage.add(window)
    accounted = {target: Coverage(coverage.windows) for target, coverage in known.items()}
    for gap in (*manifest.gaps, *manifest.waived_gaps):
        accounted.setdefault(gap.target, Coverage()).add(gap.window)
    for target in sorted({*known, *result.answered}) if result.has_ledger else ():
        is_less = not _holds(accounted.get(target), result.settled.get(target))
        if is_less or not _holds(result.answered.get(target), known.get(target)):
            text = f"the coverage of {target.region} {target.compartment} is not that of the ledger's complete shards"
            result.problems.append(Problem(name, text))
    for target, coverage in accounted.items():
        for missing in coverage.find_missing(asked):
            text = f"{target.region} {target.compartment} {missing} is neither covered nor a gap"
            result.problems.append(Problem(name, text))


def _holds(outer: Coverage | None, inner: Coverage | None) -> bool:
    return inner is None or not any((outer or Coverage()).find_missing(window) for window in inner.windows)


Verdict = Literal["complete", "incomplete", "altered"]


def judge(result: Verification) -> Verdict:
    """Return what the check comes to."""
    if not result.is_consistent:
        return "altered"
    return "complete" if result.manifest.complete else "incomplete"
