"""The chain of commits on disk: an archive's folder, its commits, HEAD, checkpoints, and what a crash leaves behind.

A commit file is the commit point: segments are durable before it appears, HEAD and the clean-up follow. HEAD may lack
commits that follow it: the newest one after a crash, several in a copy that was taken during a sync, HEAD first. They
are rolled forward; any other disagreement is damage, and nothing is deleted then.

Invariants
- A commit file appears complete and synced, and never replaces another one.
- In a signed archive, a commit's signature is there before the commit is.
- A symbolic link, another device or a path that is not a segment's is never followed, written or removed.
- A checkpoint only saves time: without a valid one, the commits are read from the first.
"""

# Over 700 lines: who writes the chain, who reads it and who verifies it agree on every name and order in one place.

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shlex
import stat
import uuid
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Self, TypeVar

import msgspec

from ociaudit.archive.commit import (
    ARCHIVE_SCHEMA,
    COMMIT_SCHEMA,
    DATE_FOLDER,
    DIGEST,
    SEGMENT_PATH,
    ArchiveHeader,
    Commit,
    Head,
    check_segment_path,
    encode_commit,
    validate_commit,
)
from ociaudit.errors import CorruptRun, OciAuditError, UsageError
from ociaudit.planning.shard import format_second
from ociaudit.storage.atomic_io import (
    create_exclusively,
    explain_disk,
    lock_folder,
    make_private_folder,
    remove_file,
    sync_folder,
    write_file,
)
from ociaudit.storage.manifest import COMMIT_NAMESPACE, check_signature, name_signature, read_fingerprint, sign_bytes

CHECKPOINT_INTERVAL = 2
"""After so many commits without a checkpoint, one is due: adding three commits takes as long as reading one."""
_CHECKPOINTS_KEPT = 2
_HEADER_NAME = "archive.json"
_HEAD_NAME = "HEAD"
_FOLDERS = ("commits", "checkpoints", "events", "replaced", "tail")
_EXPECTED_NAMES = frozenset({_HEADER_NAME, _HEAD_NAME, "lock", "work", ".DS_Store", *_FOLDERS})
_COMMIT_NAME = re.compile(r"([0-9]{12})\.json")
_SIGNATURE_NAME = re.compile(r"([0-9]{12})\.json\.sig")
_TAIL_NAME = re.compile(r"([0-9]{12})\.ids")
_TEMPORARY_NAME = re.compile(
    r"\.(archive\.json|HEAD|[0-9]{12}\.(json(\.sig)?|ids)|[0-9a-f]{32}\.parquet)(\.[a-z0-9_]+)?\.partial"
)
_VERSION = re.compile(r"(oci-audit-[a-z]+)/([0-9]{1,9})")
_Kind = TypeVar("_Kind", bound=msgspec.Struct)


class _Schema(msgspec.Struct, frozen=True):
    schema: str


class _NewerFormat(CorruptRun):
    """A file was written by a newer version: nothing is known about it."""


class _CheckpointHeader(msgspec.Struct, frozen=True, kw_only=True):
    schema: Literal["oci-audit-checkpoint/1"] = "oci-audit-checkpoint/1"
    sequence: int
    digest: str
    data_sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What the commits up to `sequence`, whose file has this digest, add up to; `data` is not interpreted here."""

    sequence: int
    digest: str
    data: bytes


class ArchiveFolder:
    """The paths of an archive."""

    def __init__(self, path: Path) -> None:
        """Name the paths; nothing is read."""
        self.path = path
        self.header_path = path / _HEADER_NAME
        self.head_path = path / _HEAD_NAME
        self.commits = path / "commits"
        self.checkpoints = path / "checkpoints"
        self.events = path / "events"
        """The live segments."""
        self.replaced = path / "replaced"
        """The segments that are no longer part of the archive."""
        self.tail = path / "tail"
        """The record ids that each commit added."""
        self.work = path / "work"
        """The run directory of the sync that is running or was killed."""

    def commit_path(self, sequence: int) -> Path:
        """Return the path of a commit."""
        return self.commits / f"{sequence:012}.json"

    def checkpoint_path(self, sequence: int) -> Path:
        """Return the path of a checkpoint."""
        return self.checkpoints / f"{sequence:012}.json"

    def tail_path(self, sequence: int) -> Path:
        """Return the path of the record ids of a commit."""
        return self.tail / f"{sequence:012}.ids"

    def segment_path(self, path: str) -> Path:
        """Return where the segment lies that a commit names `events/…`.

        Raises:
            CorruptRun: `path` is not that of a segment.
        """
        check_segment_path(path, where=str(self.path))
        return self.path / path

    def replaced_path(self, path: str) -> Path:
        """Return where the segment that a commit names `events/…` lies once it is replaced.

        Raises:
            CorruptRun: `path` is not that of a segment.
        """
        return self.replaced / self.segment_path(path).relative_to(self.events)

    def check_folders(self) -> None:
        """Check that no folder of the archive is a link, a file, or on another device.

        Raises:
            CorruptRun: one of them is; nothing was changed.
            DiskError: they cannot be inspected.
        """
        with explain_disk("look into", self.path):
            if not self.path.exists():
                return
            device = self.path.stat().st_dev
        for name in (*_FOLDERS, "work"):
            _check_folder(self.path / name, device)


def is_temporary(path: Path) -> bool:
    """Return whether a file's name is that of one which was being written."""
    return _TEMPORARY_NAME.fullmatch(path.name) is not None


def report_damage(message: str, *, archive: Path) -> CorruptRun:
    """Return the error for an archive that is not what oci-audit wrote; `message` names the file."""
    return CorruptRun(
        message,
        hint=f"nothing was changed; see all that is wrong with: oci-audit verify {shlex.quote(str(archive))}, "
        "then restore the named files from a backup",
    )


def is_archive(path: Path) -> bool:
    """Return whether a folder is an archive: whether it has an `archive.json`, which may be damaged."""
    try:
        return path.is_dir() and stat.S_IFMT((path / _HEADER_NAME).lstat().st_mode) != stat.S_IFDIR
    except (OSError, ValueError):
        return False


def create_archive(path: Path, *, tenancy: str, now: datetime) -> ArchiveHeader:
    """Make a folder an archive and return its header; one that is an archive of this tenancy already stays as it is.

    The folder may exist and be empty; its parent must exist. `archive.json` comes last: what a killed process left is
    not an archive, and the next call completes it.

    Raises:
        UsageError: `path` is a file, a folder with something else in it, inside another archive, or another tenancy's.
        CorruptRun: there are commits but no `archive.json`, or it is damaged.
        DiskError: something cannot be written, or the file system has no hard links.
    """
    folder = ArchiveFolder(path)
    if check_archive(path, tenancy=tenancy) is None:
        make_private_folder(path)
        for name in _FOLDERS:
            make_private_folder(path / name)
        header = ArchiveHeader(id=uuid.uuid4().hex, tenancy=tenancy, created_at=format_second(now))
        if create_exclusively(folder.header_path, msgspec.json.format(msgspec.json.encode(header), indent=1) + b"\n"):
            return header
    return _check_tenancy(path, tenancy)


def check_archive(path: Path, *, tenancy: str) -> ArchiveHeader | None:
    """Return the header of this tenancy's archive, None if there is none and one can be created; nothing is written.

    Raises:
        OciAuditError: as `create_archive`, before it writes.
    """
    if is_archive(path):
        return _check_tenancy(path, tenancy)
    _check_creatable(ArchiveFolder(path))
    return None


def _check_tenancy(path: Path, tenancy: str) -> ArchiveHeader:
    header, _ = read_header(path)
    if header.tenancy != tenancy:
        raise UsageError(
            f"{path} is the archive of another tenancy, {header.tenancy}",
            hint="name that tenancy's profile with --profile, or another folder for the archive",
        )
    return header


def _check_creatable(folder: ArchiveFolder) -> None:
    path = folder.path
    with explain_disk("look into", path):
        outer = next((each for each in path.resolve().parents if is_archive(each)), None)
        is_taken = os.path.lexists(path) and not path.is_dir()
        parent = path.absolute().parent
        is_parent = parent.is_dir()
        names = sorted(each.name for each in path.iterdir()) if path.is_dir() else []
    if outer is not None:
        raise UsageError(f"{path} is inside the archive {outer}", hint="choose a folder outside it for the archive")
    if is_taken:
        raise UsageError(f"{path} is not a folder; an archive is a folder", hint="name a folder that is empty or new")
    if not is_parent:
        raise UsageError(
            f"the folder {parent} does not exist", hint=f"create it with: mkdir -p {shlex.quote(str(parent))}"
        )
    foreign = [name for name in names if name not in _EXPECTED_NAMES and not _TEMPORARY_NAME.fullmatch(name)]
    if foreign:
        raise UsageError(
            f"{path} is not an archive and contains other files, for example {foreign[0]}",
            hint="name a folder that is empty or new",
        )
    folder.check_folders()
    for each in (folder.commits, folder.events):
        with explain_disk("look into", each):
            content = sorted(one.name for one in each.iterdir()) if each.is_dir() else []
        if content or folder.head_path.exists():
            found = f"{each.name}/{content[0]}" if content else _HEAD_NAME
            raise report_damage(f"{path} has {found}, but no {_HEADER_NAME}", archive=path)


@contextlib.contextmanager
def lock_archive(path: Path) -> Iterator[Callable[[], bool]]:
    """Hold the lock of the only writer, which ends with the process; yield a function: is it still held?

    Raises:
        UsageError: another process holds it, or `path` is not an archive.
        DiskError: the lock cannot be opened.
    """
    if not is_archive(path):
        raise UsageError(f"{path} is not an archive", hint=f"create one with: oci-audit sync {shlex.quote(str(path))}")
    with contextlib.ExitStack() as stack:
        try:
            is_held = stack.enter_context(lock_folder(path))
        except UsageError as error:
            raise UsageError(
                f"another oci-audit process is writing to {path}", hint="wait until it ends, then run this again"
            ) from error
        yield is_held


def read_header(path: Path) -> tuple[ArchiveHeader, str]:
    """Return an archive's header and its digest, which the first commit names.

    Raises:
        UsageError: the folder is not an archive.
        CorruptRun: the header is damaged, or has the format of a newer version.
        DiskError: it cannot be read.
    """
    header_path = ArchiveFolder(path).header_path
    data = _read_file(header_path)
    if data is None:
        raise UsageError(f"{path} is not an archive: it has no {_HEADER_NAME}", hint="name the folder of an archive")
    return _decode(data, ArchiveHeader, ARCHIVE_SCHEMA, where=header_path, archive=path), _hash(data)


@dataclass(frozen=True, slots=True)
class ChainFault:
    """Something wrong with a chain: the file, relative to the archive, and what is wrong with it."""

    path: str
    problem: str


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What `verify_chain` found. `head` is the newest commit there is, `checked` how many were read.

    `is_anchored`: the anchor is in the chain, or the head has a good signature of the expected signer.
    """

    header: ArchiveHeader
    head: Head | None
    checked: int
    key_fingerprint: str | None
    is_anchored: bool
    faults: tuple[ChainFault, ...]


class CommitLog:
    """The chain of an archive's commits up to its head: a view for readers; under the lock, a writer appends to it.

    Opening reads HEAD, the commit that it names and those after it, however many there are before.
    """

    def __init__(self, folder: ArchiveFolder, header: ArchiveHeader, origin: str) -> None:
        """Use `open`."""
        self.folder = folder
        self.header = header
        self._origin = origin
        self._head, self._stated = _find_head(folder, origin)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an archive; nothing is written.

        Commits that HEAD does not name yet count, if they follow the one that HEAD names.

        Raises:
            UsageError: the folder is not an archive.
            CorruptRun: HEAD is ahead; a commit at HEAD, or one after it, is missing, changed, or of a newer version; a
                file or folder is a link.
            DiskError: a file cannot be read.
        """
        header, origin = read_header(path)
        folder = ArchiveFolder(path)
        folder.check_folders()
        return cls(folder, header, origin)

    @property
    def head(self) -> Head | None:
        """Return the newest commit, None before the first."""
        return self._head if self._head.sequence else None

    @property
    def origin(self) -> str:
        """Return the digest of `archive.json`, which the first commit names as `previous`."""
        return self._origin

    @property
    def next_sequence(self) -> int:
        """Return the sequence of the next commit."""
        return self._head.sequence + 1

    @property
    def previous(self) -> str:
        """Return the digest that the next commit names as `previous`."""
        return self._head.digest

    @property
    def key_fingerprint(self) -> str | None:
        """Return the fingerprint of the key that signs the commits, None for an archive that is not signed."""
        return self._read_commit(1)[0].key_fingerprint if self._head.sequence else None

    def read_commits(self, since: int = 1) -> Iterator[Commit]:
        """Yield the commits from `since` to the head, in order.

        A commit is yielded once the next one, or the head, confirms its digest.

        Raises:
            CorruptRun: a commit is missing or changed, or has the format of a newer version.
            DiskError: one cannot be read.
        """
        if since > self.next_sequence:
            return
        previous = self._origin if since == 1 else self._read_commit(since - 1)[1]
        held: Commit | None = None
        for sequence in range(since, self.next_sequence):
            commit, digest = self._read_commit(sequence)
            if commit.previous != previous:
                raise self._report_break(sequence)
            if held is not None:
                yield held
            held, previous = commit, digest
        if previous != self._head.digest:
            raise self._report_break(self.next_sequence)
        if held is not None:
            yield held

    def _report_break(self, sequence: int) -> CorruptRun:
        before = f"commit {sequence - 1}" if sequence > 1 else _HEADER_NAME
        after = f"commit {sequence} follows" if sequence < self.next_sequence else f"{_HEAD_NAME} names"
        return report_damage(f"{self.folder.path}: {before} is not the one that {after}", archive=self.folder.path)

    def _read_commit(self, sequence: int) -> tuple[Commit, str]:
        found = _read_commit(self.folder, sequence)
        if found is None:
            raise report_damage(
                f"commit {sequence} is missing: {self.folder.commit_path(sequence)} does not exist",
                archive=self.folder.path,
            )
        return found

    def check_key(self, signing_key: Path | None) -> str | None:
        """Check that a key may sign the next commit, before any work is done for it; return its fingerprint.

        Raises:
            UsageError: the archive is signed by another key, or signed and no key is named, or not signed and one is.
        """
        fingerprint = None if signing_key is None else read_fingerprint(signing_key)
        if self.head is None or fingerprint == self.key_fingerprint:
            return fingerprint
        if self.key_fingerprint is None:
            raise UsageError(
                f"{self.folder.path} is not signed; an archive is signed from its first commit on, or not at all",
                hint="leave out --sign, or begin another archive with it",
            )
        named = "no key is named" if fingerprint is None else f"{signing_key} is the key {fingerprint}"
        raise UsageError(
            f"{self.folder.path} is signed by the key {self.key_fingerprint}; {named}", hint="name that key with --sign"
        )

    def append(self, commit: Commit, *, signing_key: Path | None = None) -> Head:
        """Write the next commit durably, then HEAD; return the new head. The caller holds the lock.

        The commit must name `next_sequence` and `previous`; a first signed commit gets the key's fingerprint. After a
        DiskError the commit may be there all the same: open the archive again before the next one.

        Raises:
            UsageError: another process has written this commit, or `check_key` refuses the key.
            CorruptRun: the commit is not valid.
            DiskError: it cannot be written.
        """
        if (commit.sequence, commit.previous) != (self.next_sequence, self.previous):
            raise OciAuditError(f"commit {commit.sequence} does not follow {self._head}")
        fingerprint = self.check_key(signing_key)
        if commit.sequence == 1:
            commit = msgspec.structs.replace(commit, key_fingerprint=fingerprint)
        validate_commit(commit)
        self.folder.check_folders()
        data, path = encode_commit(commit), self.folder.commit_path(commit.sequence)
        head, self._stated = _find_head(self.folder, self._origin)
        if head == self._head:
            self._complete_head()  # so that a crash leaves HEAD one commit behind at most
            if signing_key is not None:
                sign_bytes(data, signing_key, name_signature(path), namespace=COMMIT_NAMESPACE)
            if create_exclusively(path, data):
                head = Head(commit.sequence, _hash(data))
        if head != Head(commit.sequence, _hash(data)):
            raise UsageError(
                f"another process has written commit {commit.sequence} of {self.folder.path}",
                hint="only one oci-audit may write to an archive; end the other one, then run this again",
            )
        self._head = head
        self._complete_head()
        return head

    def _complete_head(self) -> None:
        """Make HEAD name the newest commit."""
        if self._stated != self._head:
            sync_folder(self.folder.commits)  # the writer of the commit may have been killed before that
            write_file(self.folder.head_path, msgspec.json.encode(self._head) + b"\n")
            self._stated = self._head

    def recover(self, *, known: Collection[str] | None = None) -> tuple[str, ...]:
        """Complete what a killed writer began; return what was removed, relative to the archive. Hold the lock.

        HEAD gets the newest commit, missing folders are made, and temporary files go. `known` are the paths of all
        segments, live or replaced, up to the head: other segments were never committed and go too, as do the record
        ids of a commit that is not there. Without `known` these stay. Nothing is removed unless HEAD and chain agree,
        nor anything that is not named as oci-audit names it.

        Raises:
            CorruptRun: HEAD and chain disagree, or a folder is a link.
            DiskError: a file cannot be written or removed.
        """
        self.folder.check_folders()
        self._head, self._stated = _find_head(self.folder, self._origin)
        for name in _FOLDERS:
            if not (self.folder.path / name).exists():
                make_private_folder(self.folder.path / name)
        self._complete_head()
        removed = []
        for path in sorted(self._find_leftovers(known)):
            remove_file(path)
            removed.append(path.relative_to(self.folder.path).as_posix())
        return tuple(removed)

    def _find_leftovers(self, known: Collection[str] | None) -> Iterator[Path]:
        folder = self.folder
        for path in (folder.path, folder.commits, folder.checkpoints, folder.tail):
            yield from (each for each in _list_files(path) if _TEMPORARY_NAME.fullmatch(each.name))
        for path in _list_files(folder.commits):
            signature = _SIGNATURE_NAME.fullmatch(path.name)
            if signature and int(signature[1]) == self.next_sequence:
                yield path
        for path in _list_files(folder.tail):
            tail = _TAIL_NAME.fullmatch(path.name)
            if known is not None and tail and int(tail[1]) > self._head.sequence:
                yield path
        for root in (folder.events, folder.replaced):
            for path in _list_segment_files(root):
                name = f"events/{path.relative_to(root).as_posix()}"
                is_orphan = known is not None and SEGMENT_PATH.fullmatch(name) and name not in known
                if is_orphan or _TEMPORARY_NAME.fullmatch(path.name):
                    yield path

    def write_checkpoint(self, data: bytes) -> None:
        """Keep what the commits up to the head add up to, and remove checkpoints older than the one before.

        Raises:
            DiskError: it cannot be written.
        """
        sequence, digest = self._head.sequence, self._head.digest
        header = _CheckpointHeader(sequence=sequence, digest=digest, data_sha256=_hash(data))
        write_file(self.folder.checkpoint_path(sequence), msgspec.json.encode(header) + b"\n" + data)
        for path in self._list_checkpoints()[_CHECKPOINTS_KEPT:]:
            remove_file(path)

    def read_checkpoint(self, sequence: int | None = None) -> Checkpoint | None:
        """Return the newest checkpoint that belongs to this chain, or that of a commit; a damaged one is skipped."""
        for path in self._list_checkpoints():
            if sequence is not None and int(path.stem) != sequence:
                continue
            with contextlib.suppress(CorruptRun, msgspec.MsgspecError, RecursionError, ValueError):
                first, _, data = (_read_file(path) or b"").partition(b"\n")
                header = msgspec.json.decode(first, type=_CheckpointHeader)
                is_intact = path == self.folder.checkpoint_path(header.sequence) and header.data_sha256 == _hash(data)
                is_within = 1 <= header.sequence <= self._head.sequence
                if is_intact and is_within and self._read_commit(header.sequence)[1] == header.digest:
                    return Checkpoint(header.sequence, header.digest, data)
        return None

    def is_checkpoint_due(self) -> bool:
        """Return whether so many commits follow the newest checkpoint that opening gets slower."""
        newest = next(iter(self._list_checkpoints()), None)
        return self._head.sequence - (int(newest.stem) if newest else 0) >= CHECKPOINT_INTERVAL

    def list_checkpoints(self) -> dict[int, Path]:
        """Return the checkpoints up to the head by their commits, whether they are valid or not.

        Raises:
            DiskError: their folder cannot be read.
        """
        return {int(path.stem): path for path in self._list_checkpoints()}

    def _list_checkpoints(self) -> list[Path]:
        """Return the checkpoints up to the head, the newest first."""
        found = [path for path in _list_files(self.folder.checkpoints) if _COMMIT_NAME.fullmatch(path.name)]
        return sorted((path for path in found if int(path.stem) <= self._head.sequence), reverse=True)


def verify_chain(path: Path, *, expect: Head | None = None, since: int = 1, signer: Path | None = None) -> ChainFacts:
    """Check every commit from `since` on, all names, HEAD and the signatures; return everything that is wrong.

    `expect` is an anchor kept elsewhere; `signer` a public key file, or an allowed-signers file of OpenSSH. Segments
    and checkpoints are not read. A writer may append meanwhile.

    Raises:
        UsageError: the folder is not an archive, or ssh-keygen is missing.
        CorruptRun: `archive.json` cannot be read, or a folder is a link.
        DiskError: a file cannot be read.
    """
    header, origin = read_header(path)
    folder = ArchiveFolder(path)
    folder.check_folders()
    return _ChainCheck(folder, header, origin).run(expect, max(since, 1), signer)


class _ChainCheck:
    """One verification: what was read of each commit, and what is wrong. The sequence of `archive.json` is 0."""

    def __init__(self, folder: ArchiveFolder, header: ArchiveHeader, origin: str) -> None:
        self._folder = folder
        self._header = header
        self._faults: list[ChainFault] = []
        self._digests: dict[int, str] = {0: origin}
        self._previous: dict[int, str] = {}
        self._key_fingerprint: str | None = None
        self._last = 0

    def run(self, expect: Head | None, since: int, signer: Path | None) -> ChainFacts:
        if expect is not None:
            since = min(since, max(expect.sequence, 1))
        stated = self._check_names()
        self._read_commits(since)
        self._check_digests(since, stated)
        is_signed = self._check_signatures(since, signer)
        is_expected = expect is not None and self._check_anchor(expect)
        head = Head(self._last, self._digests[self._last]) if self._last and self._last in self._digests else None
        return ChainFacts(
            header=self._header,
            head=head,
            checked=sum(sequence >= since for sequence in self._previous),
            key_fingerprint=self._key_fingerprint,
            is_anchored=is_expected or (signer is not None and is_signed),
            faults=tuple(self._faults),
        )

    def _report(self, path: Path, problem: str) -> None:
        self._faults.append(ChainFault(path.relative_to(self._folder.path).as_posix(), problem))

    def _check_names(self) -> Head | None:
        """Find the newest commit, and report holes and surplus files; return what HEAD names."""
        folder = self._folder
        stated, names = self._look()
        present = {int(match[1]) for name in names if (match := _COMMIT_NAME.fullmatch(name))}
        self._last = max(present, default=0)
        for name in sorted(names):
            signature = _SIGNATURE_NAME.fullmatch(name)
            is_ours = _COMMIT_NAME.fullmatch(name) or _TEMPORARY_NAME.fullmatch(name) or name in _EXPECTED_NAMES
            if not is_ours and not (signature and int(signature[1]) in {*present, self._last + 1}):
                self._report(folder.commits / name, "does not belong to the archive")
        for sequence in range(1, self._last + 1):
            if sequence not in present:
                self._report(folder.commit_path(sequence), f"commit {sequence} is missing")
        if isinstance(stated, CorruptRun):
            self._report(folder.head_path, str(stated))
            return None
        named = stated.sequence if stated else 0
        if stated is None and self._last > 1:  # after a crash it lacks the first commit at most
            self._report(folder.head_path, "is missing: without it, the end of the chain could be missing, too")
        if named > self._last:
            self._report(
                folder.head_path,
                f"names commit {named}, but the newest is {self._last}: the end of the chain is missing",
            )
        return stated

    def _look(self) -> tuple[Head | CorruptRun | None, set[str]]:
        """Return HEAD, or what is wrong with it, and the names of the commits; again if HEAD moved in between."""
        folder = self._folder
        while True:
            stated: Head | CorruptRun | None
            try:
                stated = _read_head(folder)
            except CorruptRun as error:
                stated = error
            with explain_disk("list", folder.commits):
                names = {each.name for each in folder.commits.iterdir()} if folder.commits.exists() else set()
            if isinstance(stated, CorruptRun) or _read_head(folder) == stated:
                return stated, names

    def _read_commits(self, since: int) -> None:
        for sequence in sorted({1, *range(max(since - 1, 1), self._last + 1)}):
            path = self._folder.commit_path(sequence)
            try:
                found = _read_commit(self._folder, sequence)
            except _NewerFormat:
                raise
            except CorruptRun as error:
                self._report(path, str(error))
                continue
            if found is not None:
                self._digests[sequence], self._previous[sequence] = found[1], found[0].previous
                if sequence == 1:
                    self._key_fingerprint = found[0].key_fingerprint

    def _check_digests(self, since: int, stated: Head | None) -> None:
        """Compare each digest with what HEAD and the next commit name, from the newest commit down."""
        is_confirmed = True
        for sequence in range(self._last, since - 2, -1):
            digest, named = self._digests.get(sequence), self._previous.get(sequence + 1)
            at_head = stated.digest if stated is not None and stated.sequence == sequence else None
            path = self._folder.commit_path(sequence) if sequence else self._folder.header_path
            if digest is None:
                is_confirmed = False
                continue
            if at_head not in {None, digest} and named == digest:
                self._report(self._folder.head_path, f"names another commit {sequence} than the one in the chain")
            elif at_head not in {None, digest}:
                self._report(path, f"is not the commit {sequence} that HEAD names")
            elif named not in {None, digest}:
                suspect = "" if is_confirmed else ", which is damaged itself"
                self._report(path, f"was changed, or exchanged: commit {sequence + 1}{suspect} names another digest")
            is_confirmed = at_head in {None, digest} and named in {None, digest}

    def _check_signatures(self, since: int, signer: Path | None) -> bool:
        """Return whether every commit has a good signature by the first commit's key, which must be `signer`'s."""
        before = len(self._faults)
        if self._key_fingerprint is None and signer is not None:
            self._report(self._folder.header_path, "the archive is not signed")
        for sequence in range(since, self._last + 1):
            if sequence in self._digests:
                self._check_signature(sequence, signer)
        return self._key_fingerprint is not None and len(self._faults) == before

    def _check_signature(self, sequence: int, signer: Path | None) -> None:
        path = self._folder.commit_path(sequence)
        signature_path = name_signature(path)
        try:
            is_there = _read_file(signature_path) is not None
        except CorruptRun as error:
            self._report(signature_path, str(error))
            return
        if self._key_fingerprint is None:
            if is_there:
                self._report(signature_path, "signs a commit, but the archive is not signed")
        elif not is_there:
            self._report(path, "has no signature")
        else:
            check = check_signature(_read_file(path) or b"", signature_path, signer, namespace=COMMIT_NAMESPACE)
            if not check.is_good:
                self._report(signature_path, f"is not a good signature: {check.message}")
            elif check.fingerprint != self._key_fingerprint or (signer is not None and not check.is_expected_signer):
                self._report(signature_path, f"is by another key: {check.message}")

    def _check_anchor(self, expect: Head) -> bool:
        if expect.sequence > self._last:
            problem = f"the newest commit is {self._last}, but the anchor is commit {expect.sequence}"
            self._report(self._folder.head_path, f"{problem}: the archive was rolled back")
            return False
        if self._digests.get(expect.sequence) != expect.digest:
            self._report(self._folder.commit_path(expect.sequence), "is not the commit of the anchor")
            return False
        return True


def _find_head(folder: ArchiveFolder, origin: str) -> tuple[Head, Head]:
    """Return the newest commit, and the one that HEAD names; before the first, the sequence is 0.

    A writer may append while this reads, so HEAD is read again before damage is reported.
    """
    while True:
        stated = _read_head(folder) or Head(0, origin)
        try:
            return _roll_forward(folder, stated), stated
        except CorruptRun:
            if (_read_head(folder) or Head(0, origin)) == stated:
                raise


def _roll_forward(folder: ArchiveFolder, stated: Head) -> Head:
    """Return the newest commit, given the one that HEAD names."""
    if stated.sequence:
        named = _read_commit(folder, stated.sequence)
        if named is None:
            raise report_damage(
                f"{folder.head_path} names commit {stated.sequence}, which does not exist", archive=folder.path
            )
        if named[1] != stated.digest:
            raise report_damage(
                f"commit {stated.sequence} is not the one that {folder.head_path} names", archive=folder.path
            )
    newest = stated
    while (following := _read_commit(folder, newest.sequence + 1)) is not None:
        if following[0].previous != newest.digest:
            before = "the commit that HEAD names" if newest == stated else f"commit {newest.sequence}"
            raise report_damage(
                f"{folder.commit_path(newest.sequence + 1)} does not follow {before}", archive=folder.path
            )
        newest = Head(newest.sequence + 1, following[1])
    with explain_disk("look into", folder.commits):
        has_hole = os.path.lexists(folder.commit_path(newest.sequence + 2))
    if has_hole:
        raise report_damage(
            f"commit {newest.sequence + 1} is missing, but there is a commit {newest.sequence + 2}", archive=folder.path
        )
    return newest


def _read_head(folder: ArchiveFolder) -> Head | None:
    data = _read_file(folder.head_path)
    if data is None:
        return None
    try:
        head = msgspec.json.decode(data, type=Head)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise report_damage(f"{folder.head_path} is damaged: {error}", archive=folder.path) from error
    if head.sequence < 1 or not DIGEST.fullmatch(head.digest):
        raise report_damage(f"{folder.head_path} names no commit", archive=folder.path)
    return head


def _read_commit(folder: ArchiveFolder, sequence: int) -> tuple[Commit, str] | None:
    """Return a commit and its digest, None if its file does not exist."""
    path = folder.commit_path(sequence)
    data = _read_file(path)
    if data is None:
        return None
    commit = _decode(data, Commit, COMMIT_SCHEMA, where=path, archive=folder.path)
    if commit.sequence != sequence:
        raise report_damage(f"{path} holds commit {commit.sequence}", archive=folder.path)
    validate_commit(commit, where=str(path))
    return commit, _hash(data)


def _decode(data: bytes, kind: type[_Kind], schema: str, *, where: Path, archive: Path) -> _Kind:
    """Parse a file of an archive; a newer format is rejected by name."""
    try:
        found = msgspec.json.decode(data, type=_Schema).schema
        if found == schema:
            return msgspec.json.decode(data, type=kind)
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise report_damage(f"{where} is damaged: {error}", archive=archive) from error
    known, other = _VERSION.fullmatch(schema), _VERSION.fullmatch(found)
    if known and other and known[1] == other[1] and int(other[2]) > int(known[2]):
        raise _NewerFormat(
            f"{where} has the format {found}, which is newer than this version of oci-audit reads ({schema})",
            hint="update oci-audit",
        )
    raise report_damage(f"{where} has the format {found!r}, not {schema!r}", archive=archive)


def _read_file(path: Path) -> bytes | None:
    """Return a file's bytes, None if it does not exist; a link, a folder or a device is damage."""
    with explain_disk("read", path):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise _refuse_file(path) from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise _refuse_file(path)
        with os.fdopen(descriptor, "rb") as file:
            return file.read()


def _refuse_file(path: Path) -> CorruptRun:
    return CorruptRun(
        f"{path} is not a file but a link or something else, which oci-audit never writes",
        hint="nothing was changed; restore the archive from a backup that you trust",
    )


def _check_folder(path: Path, device: int) -> None:
    """Check that a folder, if it exists, is a folder on this device."""
    with explain_disk("look into", path):
        try:
            found = path.lstat()
        except FileNotFoundError:
            return
    if not stat.S_ISDIR(found.st_mode) or found.st_dev != device:
        what = "on another file system" if stat.S_ISDIR(found.st_mode) else "a link or a file, not a folder"
        raise CorruptRun(
            f"{path} is {what}", hint="an archive is one folder on one file system; copy what it should hold there"
        )


def _list_files(folder: Path) -> list[Path]:
    """Return the regular files in a folder; links are left out."""
    with explain_disk("list", folder):
        try:
            with os.scandir(folder) as entries:
                return [folder / entry.name for entry in entries if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []


def _list_segment_files(root: Path) -> Iterator[Path]:
    """Yield the regular files in the date folders below `events` or `replaced`; links are left out."""
    with explain_disk("list", root):
        with os.scandir(root) as entries:
            found = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
        device = root.stat().st_dev
        folders = [root / name for name in sorted(found) if DATE_FOLDER.fullmatch(name)]
        folders = [path for path in folders if path.lstat().st_dev == device]
    for path in folders:
        yield from _list_files(path)


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
