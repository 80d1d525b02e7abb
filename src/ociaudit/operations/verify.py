"""Verification: an export checked offline against its manifest, ledger and signature, or an archive against its chain.

Invariants
- Every byte of output, ledger and manifest is covered by a hash that is compared; of an archive, every byte of
  `archive.json`, HEAD, the commits and the live segments. Its checkpoints and the record ids of its tail are derived
  again and compared.
- The file is read as a stream: memory does not grow with it.
- "Consistent" is all that an unsigned manifest proves; only a signature proves who made it.
- Events are decoded only in blocks where something is unusual; a sound file costs one look at each line.
- Two records of the same time and id are ordered by their bytes as served. Where the bytes were derived (another shape,
  an origin), the order of such equals is not checked; of redacted events only the times are, since ids may be redacted.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from ociaudit.archive.commit import SEGMENT_PATH, Commit, Head, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder, ChainFacts, CommitLog, is_temporary, verify_chain
from ociaudit.archive.delta import is_log_entry
from ociaudit.archive.segments import check_segment, read_record_hashes
from ociaudit.archive.state import ArchiveState, judge_archive
from ociaudit.archive.tail import read_record_ids
from ociaudit.errors import CorruptRun, UsageError, format_count
from ociaudit.events.event import Event, read_instant_of
from ociaudit.formats.base import InvalidFile
from ociaudit.formats.compression import decompress, read_chunks
from ociaudit.formats.csv import count_csv_rows
from ociaudit.formats.json import LineBlock, parse_block, read_line_blocks, read_ndjson, scan_block
from ociaudit.formats.parquet import count_parquet_rows
from ociaudit.planning.shard import Coverage, Target, Window, parse_minute
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.ledger import BlockDigest, BlockLine, LedgerLine, ShardLine, find_ledger
from ociaudit.storage.manifest import (
    FileEntry,
    Manifest,
    SignatureCheck,
    check_signature,
    load_manifest,
    name_manifest,
    name_signature,
)
from ociaudit.storage.verdict import Verdict, VerdictKind, judge

_MAX_PROBLEMS = 100
_FINDER_NAME = ".DS_Store"
_NOT_PARSED = "the events of a table are not parsed: only the file's bytes and its number of rows are checked"
Authorship = Literal["unsigned", "missing", "unfit", "unknown_signer", "other_signer", "expected_signer"]
"""Who made the manifest: not signed; not signed although a signer was expected; a signature that does not match; signed
by a key that was not named; by another key than the one named; by the one named."""


class OrderCheck:
    """Checks that the events of a file ascend and that none is repeated, block by block; `count` is their number."""

    def __init__(
        self, shape: str, *, is_as_served: bool = True, is_redacted: bool = False, report: Callable[[str, int], None]
    ) -> None:
        """Check events in this shape; `report` receives what is wrong and at which byte.

        `is_as_served`: their bytes are those that Oracle sent.
        """
        self.count = 0
        self._shape = shape
        self._is_as_served = shape == "api" and is_as_served and not is_redacted
        self._is_redacted = is_redacted
        self._report = report
        self._previous = Event(b"", b"", "", None, None)

    def check(self, block: LineBlock) -> None:
        """Check the next lines.

        Raises:
            InvalidFile: a line does not hold one event.
        """
        scan = scan_block(block) if self._shape == "api" and not self._is_redacted else None
        if scan is not None and scan.first > self._previous.order:
            self.count += scan.events
            self._previous = scan.last
            return
        batch = parse_block(block, self._shape)
        self.check_events(batch.events, batch.offsets)

    def check_events(self, events: Sequence[Event], offsets: Sequence[int]) -> None:
        """Check the next events, each with the byte at which it begins."""
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
            self._report("an event is out of order", offset)
        elif self._is_as_served and event.raw == previous.raw:
            self._report("a record is repeated", offset)


@dataclass(frozen=True, slots=True)
class Problem:
    """A disagreement; `offset` is the byte of the file where it begins, if known."""

    file: str
    text: str
    offset: int | None = None


@dataclass(slots=True)
class Verification:
    """The result of a verification. `signature` None means that the manifest is not signed."""

    manifest: Manifest
    manifest_sha256: str
    signature: SignatureCheck | None = None
    authorship: Authorship = "unsigned"
    problems: list[Problem] = field(default_factory=list)
    settled: dict[Target, Coverage] = field(default_factory=dict)
    """What the ledger's complete and settled shards cover."""
    answered: dict[Target, Coverage] = field(default_factory=dict)
    """The same with provisional shards, which may have been requested again without success."""
    has_ledger: bool = False
    notes: list[str] = field(default_factory=list)
    """What was not checked."""

    @property
    def is_consistent(self) -> bool:
        """Return whether nothing disagrees."""
        return not self.problems

    @property
    def verdict(self) -> Verdict:
        """Return the verdict; where anything disagrees, the export is altered."""
        return judge(self.manifest, is_altered=not self.is_consistent)


def verify_export(output: Path, *, manifest_path: Path | None = None, signer: Path | None = None) -> Verification:
    """Check an output with its ledger, manifest and signature; the manifest is beside it unless it is named.

    Raises:
        CorruptRun: there is no manifest, or it cannot be read.
        UsageError: the output is missing, or a signer is named and there is no signature.
        DiskError: a file cannot be read.
    """
    if not output.is_file():
        raise UsageError(f"{output} is not a file", hint="name the file that oci-audit export wrote")
    manifest_path = manifest_path or name_manifest(output)
    found = load_manifest(manifest_path)
    if found is None:
        raise CorruptRun(
            f"there is no manifest {manifest_path}",
            hint="without it nothing can be proven; name it with --manifest if it was moved",
        )
    manifest, data = found.manifest, found.data
    result = Verification(manifest, hashlib.sha256(data).hexdigest())
    if not found.has_own_digest:
        result.problems.append(Problem(manifest_path.name, "its bytes do not match its digest"))
    _check_signature(result, data, manifest_path, signer)
    blocks = _check_ledger(result, find_ledger(output, manifest, manifest_path=manifest_path))
    _check_output(result, output, blocks)
    try:
        _check_manifest(result, manifest_path.name)
    except ValueError as error:
        result.problems.append(Problem(manifest_path.name, f"a time in it cannot be read: {error}"))
    return result


def _check_signature(result: Verification, data: bytes, manifest_path: Path, signer: Path | None) -> None:
    path = name_signature(manifest_path)
    if not path.exists():
        if signer is not None:
            result.authorship = "missing"
            result.problems.append(Problem(path.name, "there is no signature, although one was expected"))
        return
    result.signature = check_signature(data, path, signer)
    if not result.signature.is_good:
        result.authorship = "unfit"
        result.problems.append(Problem(path.name, f"the signature does not match: {result.signature.message}"))
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
        result.problems.append(Problem("ledger", "it is missing, both beside the file and beside the manifest"))
        return []
    result.has_ledger = True
    blocks: list[BlockLine] = []
    digest = hashlib.sha256()
    position = events = origins = 0
    decoder: msgspec.json.Decoder[LedgerLine] = msgspec.json.Decoder(LedgerLine)
    with explain_disk("read", path), path.open("rb") as file:
        for raw in file:
            digest.update(raw)
            try:
                line = decoder.decode(raw)
                if isinstance(line, ShardLine):
                    _cover(result, line)
            except (msgspec.MsgspecError, RecursionError, ValueError):
                result.problems.append(Problem(stated.name, "this is not a line of a ledger", position))
                return blocks
            position += len(raw)
            if isinstance(line, BlockLine):
                blocks.append(line)
            elif isinstance(line, ShardLine):
                events += line.events
            else:
                origins += line.count
    _compare_file(result, stated, position, digest.hexdigest())
    if origins not in {0, result.manifest.totals.written}:  # 0: written by an earlier version
        written = result.manifest.totals.written
        text = f"it states {format_count(origins, 'origin')}, the manifest {format_count(written, 'event')}"
        result.problems.append(Problem(stated.name, text))
    if events != result.manifest.totals.scanned:
        scanned = result.manifest.totals.scanned
        text = f"its shards add up to {format_count(events, 'event')}, the manifest states {scanned:,} scanned"
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
        text = f"it has {format_count(size_bytes, 'byte')}, the manifest states {stated.size_bytes:,}"
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
            _, content = decompress(stream, is_single=True)
            match arguments.format:
                case "csv" | "parquet" as table:
                    order.count = count_csv_rows(content) if table == "csv" else count_parquet_rows(file)
                    result.notes.append(_NOT_PARSED)
                case "ndjson":
                    for batch in read_ndjson(content, shape=arguments.shape):
                        order.check_events(batch.events, batch.offsets)
                case _:
                    for block in read_line_blocks(content):
                        order.check(block)
        except InvalidFile as error:
            result.problems.append(Problem(stated.name, error.reason, error.offset))
        for _ in stream:  # after damage the rest still has to be hashed
            pass
    _locate_damage(result, blocks, digest.finish())
    _compare_file(result, stated, digest.size_bytes, digest.sha256)
    written = result.manifest.totals.written
    if order.count != written and not any(problem.file == stated.name for problem in result.problems):
        text = f"it holds {format_count(order.count, 'event')}, the manifest states {written:,}"
        result.problems.append(Problem(stated.name, text))


def _report(result: Verification, problem: Problem) -> None:
    if len(result.problems) < _MAX_PROBLEMS:
        result.problems.append(problem)


def _locate_damage(result: Verification, stated: Sequence[BlockLine], found: Sequence[BlockLine]) -> None:
    begin = 0
    for line, seen in zip(stated, found, strict=False):
        if line != seen:
            text = f"it was altered somewhere in the {format_count(seen.end - begin, 'byte')} from here on"
            result.problems.append(Problem(result.manifest.output.name, text, begin))
            return
        begin = line.end


def _hash_beside(chunks: Iterable[bytes], digest: BlockDigest) -> Iterator[bytes]:
    """Yield the chunks while another thread hashes them."""
    with ThreadPoolExecutor(1) as thread:
        pending: Future[None] | None = None
        for chunk in chunks:
            if pending is not None:
                pending.result()
            pending = thread.submit(digest.update, chunk)
            yield chunk
        if pending is not None:
            pending.result()


def _check_manifest(result: Verification, name: str) -> None:
    """Check the manifest against itself: sums, and that coverage and gaps make up what was requested."""
    manifest = result.manifest
    totals = manifest.totals
    if totals.scanned != totals.written + totals.filtered + totals.identical + totals.reserialised:
        result.problems.append(Problem(name, "scanned does not equal written + filtered + identical"))
    if manifest.complete == bool(manifest.gaps):
        result.problems.append(Problem(name, "complete and the list of gaps contradict each other"))
    requested = manifest.window
    known = {entry.target: Coverage() for entry in manifest.coverage}
    for entry in manifest.coverage:
        for window in entry.coverage.windows:
            known[entry.target].add(window)
    accounted = {target: Coverage(coverage.windows) for target, coverage in known.items()}
    for gap in (*manifest.gaps, *manifest.waived_gaps):
        accounted.setdefault(gap.target, Coverage()).add(gap.window)
    for target in sorted({*known, *result.answered}) if result.has_ledger else ():
        is_less = not _holds(accounted.get(target), result.settled.get(target))
        if is_less or not _holds(result.answered.get(target), known.get(target)):
            text = f"the coverage of {target.region} {target.compartment} does not match the ledger's complete shards"
            result.problems.append(Problem(name, text))
    for target, coverage in accounted.items():
        for missing in coverage.find_missing(requested):
            text = f"{target.region} {target.compartment} {missing} is neither covered nor a gap"
            result.problems.append(Problem(name, text))


def _holds(outer: Coverage | None, inner: Coverage | None) -> bool:
    return inner is None or not any((outer or Coverage()).find_missing(window) for window in inner.windows)


@dataclass(slots=True)
class ArchiveVerification:
    """The result of the verification of an archive.

    `state` is what its commits add up to, None where the chain is damaged. `segments` were checked.
    """

    chain: ChainFacts
    state: ArchiveState | None = None
    segments: int = 0
    is_signer_named: bool = False
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What was not checked, and what is unusual and harmless."""

    @property
    def is_consistent(self) -> bool:
        """Return whether nothing disagrees."""
        return not self.problems

    @property
    def verdict(self) -> Verdict:
        """Return the verdict; where anything disagrees, the archive is altered."""
        if self.state is None:
            return Verdict(kind=VerdictKind.ALTERED, is_archive=True, is_anchored=self.chain.is_anchored)
        verdict = judge_archive(self.state, is_anchored=self.chain.is_anchored)
        return verdict if self.is_consistent else verdict.mark_altered()


def verify_archive(
    path: Path, *, expect: Head | None = None, signer: Path | None = None, since: int | None = None
) -> ArchiveVerification:
    """Check an archive: the chain of its commits, HEAD, every segment with every row, counts, and surplus files.

    `expect` is an anchor that was kept elsewhere. With `since`, the commits from that one on and the segments that they
    added are checked, and the ones before are trusted.

    Raises:
        UsageError: the folder is not an archive, or `since` is a commit that does not exist yet.
        CorruptRun: `archive.json` cannot be read, or something has the format of a newer version.
        DiskError: a file cannot be read.
    """
    chain = verify_chain(path, expect=expect, since=since or 1, signer=signer)
    newest = chain.head
    if since is not None and newest is None and not chain.faults:  # all that there is was left out
        newest = CommitLog.open(path).head
    if since is not None and newest is not None and since > newest.sequence:
        raise UsageError(
            f"there is no commit {since} in {path}; the newest is {newest.sequence}", hint="choose an earlier one"
        )
    result = ArchiveVerification(chain, is_signer_named=signer is not None)
    if chain.is_anchored and expect is None:
        result.notes.append(
            "the signatures show who wrote it; without --expect, a rollback to an older one would not be noticed"
        )
    result.problems += [Problem(fault.path, fault.problem) for fault in chain.faults]
    _ArchiveCheck(ArchiveFolder(path), result, since).run()
    return result


class _ArchiveCheck:
    """One verification of an archive beyond its chain."""

    def __init__(self, folder: ArchiveFolder, result: ArchiveVerification, since: int | None) -> None:
        self._folder = folder
        self._result = result
        self._since = since or 1
        self._added: dict[str, int] = {}
        """The commit that added each segment, live or replaced."""
        self._may_lack_ids = False
        """Whether a record that a commit added may be gone: replaced by smaller bytes, or pruned."""

    def run(self) -> None:
        result = self._result
        if result.chain.head is None and not result.problems:
            raise UsageError(
                f"the archive {self._folder.path} is empty: its first sync has not committed anything yet",
                hint=f"continue it with: oci-audit sync {shlex.quote(str(self._folder.path))}",
            )
        try:
            result.state = self._fold()
        except CorruptRun as error:
            if not result.problems:
                raise
            result.notes.append(f"the segments were not checked, because the chain is damaged: {error}")
            return
        self._check_segments(result.state)
        self._check_surplus(result.state)
        self._check_record_ids(result.state)
        if self._since > 1:
            result.notes.append(f"the commits before {self._since} and their segments were not checked")

    def _report(self, path: str, text: str) -> None:
        if len(self._result.problems) < _MAX_PROBLEMS:
            self._result.problems.append(Problem(path, text))

    def _fold(self) -> ArchiveState:
        """Return what all commits add up to; checkpoints are compared with it, and not trusted."""
        log = CommitLog.open(self._folder.path)
        checkpoints = log.list_checkpoints()
        state = ArchiveState()
        held: Commit | None = None
        for commit in log.read_commits():
            if held is not None:
                self._apply(state, held, commit.previous, checkpoints)
            held = commit
        if held is not None and log.head is not None:
            self._apply(state, held, log.head.digest, checkpoints)
        return state

    def _apply(self, state: ArchiveState, commit: Commit, digest: str, checkpoints: Mapping[int, Path]) -> None:
        where = self._folder.commit_path(commit.sequence).relative_to(self._folder.path).as_posix()
        before = state.totals.rows
        for path in commit.replaced:
            if path not in state.segments:
                self._report(where, f"it replaces {path}, which is not part of the archive then")
        for entry in commit.added:
            if entry.path in state.segments and entry.path not in commit.replaced:
                self._report(where, f"it adds {entry.path}, which is part of the archive already")
            self._added[entry.path] = commit.sequence
        state.apply(commit, digest)
        counts, late = commit.counts, commit.late
        if counts.received != counts.added + counts.known + counts.identical + counts.reserialised:
            self._report(where, "received is not the sum of added, known, identical and reserialised")
        if commit.kind != "prune" and state.totals.rows - before != counts.added:
            text = f"it states {format_count(counts.added, 'added event')}, its segments change the number of rows by "
            self._report(where, text + f"{state.totals.rows - before:,}")
        if late.count > counts.added or late.after_final > late.count:
            self._report(where, "it states more late events than it adds")
        if commit.kind == "sync" and any(part.end > commit.now for one in commit.answered for part in one.windows):
            self._report(where, "it states that minutes are covered that were not over")
        self._may_lack_ids |= counts.reserialised > 0 or commit.kind == "prune"
        if commit.sequence in checkpoints and commit.sequence >= self._since:
            self._check_checkpoint(checkpoints[commit.sequence], state)

    def _check_checkpoint(self, path: Path, state: ArchiveState) -> None:
        found = CommitLog.open(self._folder.path).read_checkpoint(state.sequence)
        name = path.relative_to(self._folder.path).as_posix()
        try:
            if found is None:
                self._report(name, "is damaged, or not of this chain; it can be removed, the commits suffice")
            elif ArchiveState.decode(found.data).encode() != state.encode():
                self._report(name, "does not state what the commits add up to; remove it, the commits suffice")
        except CorruptRun as error:
            self._report(name, str(error))

    def _check_segments(self, state: ArchiveState) -> None:
        for path, entry in sorted(state.segments.items()):
            if self._added.get(path, 0) >= self._since:
                self._result.segments += 1
                try:
                    check_segment(self._folder.path, entry)
                    if not self._folder.segment_path(path).exists():
                        self._report(path, "the segment is live, but it is in replaced/")
                except CorruptRun as error:
                    self._report(path, str(error))

    def _check_surplus(self, state: ArchiveState) -> None:
        """Look for files that no commit names, but a glob over the folder would read."""
        found = [
            (root, path.relative_to(root).as_posix())
            for root in (self._folder.events, self._folder.replaced)
            for path in _list_below(root)
        ]
        added = {**self._added, **_list_added(self._folder, state.sequence)}  # a sync may have committed meanwhile
        if any(is_log_entry(f"{root.name}/{name}") for root, name in found):
            self._result.notes.append("the Delta log is derived from the commits and not checked")
        for root, name in found:
            path, segment = f"{root.name}/{name}", f"events/{name}"
            if is_log_entry(path):
                continue
            if segment not in added:
                self._report_surplus(path, root / name)
            elif root == self._folder.events and segment not in state.segments and added[segment] <= state.sequence:
                self._result.notes.append(f"{path} was replaced and waits for the next sync to move it to replaced/")

    def _report_surplus(self, name: str, path: Path) -> None:
        """Report a file that no commit names; an unfinished sync has such files, and its run directory."""
        is_segment = SEGMENT_PATH.fullmatch(f"events/{path.parent.name}/{path.name}") is not None
        if is_temporary(path) or (is_segment and self._folder.work.exists()):
            self._result.notes.append(f"{name} is of a sync that is running or was killed; the next one removes it")
        else:
            self._report(name, "no commit names it, but a glob over the folder would read it")

    def _check_record_ids(self, state: ArchiveState) -> None:
        """Check the sidecars of `tail`: as many ids as events were added, and each that of an event."""
        log = CommitLog.open(self._folder.path)
        by_date = state.group_segments()
        for commit in log.read_commits(self._since):
            if commit.sequence > state.sequence:
                break
            name = self._folder.tail_path(commit.sequence).relative_to(self._folder.path).as_posix()
            try:
                ids = read_record_ids(self._folder, commit.sequence)
            except CorruptRun as error:
                self._report(name, str(error))
                continue
            if ids is None:
                continue
            if sum(map(len, ids.values())) != commit.counts.added:
                self._report(name, "it has another number of record ids than its commit has added events")
            elif not self._may_lack_ids:
                for date, some in ids.items():
                    self._look_up(name, some, by_date.get(date, ()))

    def _look_up(self, name: str, ids: frozenset[bytes], entries: Sequence[SegmentEntry]) -> None:
        try:
            stored = read_record_hashes(self._folder.path, entries)
        except CorruptRun:  # the segment itself has been reported
            return
        if any(one not in stored for one in ids):
            self._report(name, "it has a record id that is not that of an event of its date")


def _list_below(root: Path) -> Iterator[Path]:
    """Yield everything below a folder that is not a folder; links are not followed."""
    with explain_disk("list", root):
        if not root.is_dir():
            return
        for folder, folders, names in os.walk(root):
            links = [name for name in folders if Path(folder, name).is_symlink()]
            yield from (Path(folder, name) for name in sorted([*names, *links]) if name != _FINDER_NAME)


def _list_added(folder: ArchiveFolder, after: int) -> dict[str, int]:
    """Return the segments that commits after this one have added, by path."""
    try:
        commits = CommitLog.open(folder.path).read_commits(after + 1)
        return {entry.path: commit.sequence for commit in commits for entry in commit.added}
    except CorruptRun:
        return {}
