"""An archive in a store of objects, with a folder on this machine that is the same archive, or a part of it.

A writer has a whole archive in its work folder, as without a store, and pushes what the store lacks: segments, record
ids and signature, then the commit, then HEAD. A reader copies the commits and the segments that it needs.

The commit's object is the commit point for everyone else. It is created exclusively, so that of two writers the store
accepts one. A writer that was killed is ahead of the store; the next one pushes what is missing, or is refused because
another writer was faster.

Invariants
- Objects of an archive have unique names and are never replaced, except for HEAD, which is replaced only if it is what
  was read. Whether a commit's answer was lost or its object is another writer's is decided by the bytes.
- A commit is pushed after everything that it names.
- What is copied here has the hash that its commit states, or it is not kept. A commit counts if it follows the one
  before it.
- Nothing in the store is removed but segments that a commit has replaced. Segments without a commit stay: they may be
  those of a writer that is about to commit.
- A store that refuses to replace HEAD or to remove segments, as a retention rule makes it, keeps a sound archive:
  readers follow the commits.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shlex
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from ociaudit.archive.commit import SEGMENT_PATH, Commit, Head, SegmentEntry
from ociaudit.archive.commit_log import ArchiveFolder, CommitLog, is_archive, read_header
from ociaudit.archive.reader import load_state
from ociaudit.client.object_storage import ObjectStore, ObjectUrl, UploadWatch, for_each, read_whole
from ociaudit.errors import AccessError, CorruptRun, ObjectConflict, ServiceUnreachable, UsageError
from ociaudit.storage.atomic_io import (
    create_exclusively,
    explain_disk,
    lock_folder,
    make_private_folder,
    new_file,
    write_all,
    write_file,
)
from ociaudit.storage.manifest import name_signature
from ociaudit.storage.run_dir import make_private_folders

RunWithStore = Callable[[Callable[[ObjectStore], Awaitable[None]]], None]
"""Runs work with the store of the archive's bucket, to its end."""
_HEADER_NAME = "archive.json"
_LOCK_POLL_SECONDS = 0.2
_COMMIT_OBJECT = re.compile(r"commits/([0-9]{12})\.json")
_ONE_WRITER = "only one oci-audit may write to an archive; end the other one"


class RemoteArchive:
    """An archive in a store, and its folder on this machine."""

    def __init__(
        self, url: ObjectUrl, path: Path, run: RunWithStore, *, on_notice: Callable[[str], None] = lambda _: None
    ) -> None:
        """Name both; nothing is read yet. `on_notice` gets what the store refused and the archive can do without."""
        self.url = url
        self._folder = ArchiveFolder(path)
        self._run = run
        self._on_notice = on_notice
        self._pushed = -1
        """The newest commit that the store is known to have; -1: not known."""

    # Reading

    def pull(self) -> bool:
        """Copy the commits that the folder lacks; return whether the store has an archive.

        The caller holds the folder's lock.

        Raises:
            UsageError: the folder is another archive, or holds a commit that the store has with other bytes.
            CorruptRun: the archive in the store is damaged.
            OciAuditError: the store cannot be used.
        """
        found: list[bool] = []

        async def pull(store: ObjectStore) -> None:
            found.append(await self._pull(store))

        self._run(pull)
        return found[0]

    def exists(self) -> bool:
        """Return whether the store has an archive at the URL.

        Raises:
            OciAuditError: the store cannot be used.
        """
        found: list[bool] = []

        async def look(store: ObjectStore) -> None:
            found.append(await store.head(self.url.inside(_HEADER_NAME).name) is not None)

        self._run(look)
        return found[0]

    async def _pull(self, store: ObjectStore) -> bool:
        header = await self._read(store, _HEADER_NAME)
        if header is None:
            return False
        self._keep_header(header)
        head = await self._read(store, "HEAD")  # before the commits are listed, so that it names one of them
        there = [int(match[1]) async for match in self._match(store, "commits/", _COMMIT_OBJECT)]
        self._pushed = max(there, default=0)
        newest = self._find_newest()
        if newest and self._pushed:
            await self._compare(store, min(newest, self._pushed))
        for sequence in sorted(one for one in there if one > newest):
            await self._pull_commit(store, sequence)
        self._keep_head(head)
        return True

    def _keep_header(self, data: bytes) -> None:
        folder = self._folder
        if is_archive(folder.path):
            if _read_file(folder.header_path) != data:
                raise UsageError(
                    f"{folder.path} is another archive than {self.url}", hint="name another --work-folder for this one"
                )
        else:
            create_exclusively(folder.header_path, data)
            read_header(folder.path)
        for each in (folder.commits, folder.checkpoints, folder.events, folder.replaced, folder.tail):
            make_private_folder(each)

    async def _compare(self, store: ObjectStore, sequence: int) -> None:
        """Check that a commit is the same on both sides; then all before it are."""
        own = _read_file(self._folder.commit_path(sequence))
        if await self._read(store, f"commits/{sequence:012}.json") != own:
            raise self._refuse(sequence)

    async def _pull_commit(self, store: ObjectStore, sequence: int) -> None:
        path = self._folder.commit_path(sequence)
        signature = name_signature(path)
        data = await self._read(store, f"commits/{path.name}")
        if data is None:
            raise CorruptRun(
                f"{self.url.inside(f'commits/{path.name}')} was removed while it was read",
                hint=f"see what is wrong with: oci-audit verify {shlex.quote(str(self.url))}",
            )
        signed = await self._read(store, f"commits/{signature.name}")
        if signed is not None:
            write_file(signature, signed)
        create_exclusively(path, data)

    def _keep_head(self, data: bytes | None) -> None:
        """Keep the store's HEAD where it is newer than the folder's; opening the archive finds a wrong one."""
        if data is None:
            return
        path = self._folder.head_path
        with explain_disk("read", path):
            own = _decode_head(path.read_bytes()) if path.exists() else 0
        if _decode_head(data) > own:
            write_file(path, data)

    def fetch(self, entries: Iterable[SegmentEntry]) -> None:
        """Copy the segments that the folder lacks, each checked by its size and hash.

        Raises:
            CorruptRun: one is missing in the store, or damaged there.
            OciAuditError: the store cannot be used.
        """
        missing = [one for one in entries if not self._find_segment(one.path).exists()]
        if missing:
            self._run(lambda store: for_each(missing, lambda one: self._fetch_segment(store, one)))

    async def _fetch_segment(self, store: ObjectStore, entry: SegmentEntry) -> None:
        path = self._folder.segment_path(entry.path)
        make_private_folder(path.parent)
        below = entry.path.partition("/")[2]
        for name in (entry.path, f"replaced/{below}"):
            url = self.url.inside(name)
            facts = await store.head(url.name)
            if facts is None:
                continue
            digest = hashlib.sha256()
            with new_file(path) as descriptor:
                async for data in read_whole(store, url.name, facts):
                    await asyncio.to_thread(write_all, descriptor, data, path)
                    digest.update(data)
                if (facts.size_bytes, digest.hexdigest()) != (entry.size_bytes, entry.sha256):
                    raise CorruptRun(
                        f"{url} does not have the bytes that its commit states",
                        hint="restore it from a copy; nothing else is affected",
                    )
            return
        raise CorruptRun(
            f"{self.url.inside(entry.path)} is missing, and its commit states it", hint="restore it from a copy"
        )

    def fetch_for_tail(self, since: int) -> int:
        """Copy the record ids of the commits from `since` on, and the live segments of the dates that they touched.

        Return the sequence of the commit that comes next.

        Raises:
            OciAuditError: as `fetch`.
        """
        log = CommitLog.open(self._folder.path)
        state = load_state(log)
        commits = list(log.read_commits(max(since, 1)))
        dates = {one.date for commit in commits for one in commit.added}
        live = [one for date, some in state.group_segments().items() if date in dates for one in some]
        self.fetch(live)

        async def fetch_ids(store: ObjectStore) -> None:
            for commit in commits:
                path = self._folder.tail_path(commit.sequence)
                data = None if path.exists() else await self._read(store, f"tail/{path.name}")
                if data is not None:
                    write_file(path, data)

        self._run(fetch_ids)
        return log.next_sequence

    def fetch_everything(self) -> None:
        """Copy all live segments and record ids, and note by an empty file what no live segment's name is.

        Raises:
            OciAuditError: the store cannot be used. What is missing or damaged is left out: a verification finds it.
        """
        state = load_state(CommitLog.open(self._folder.path))

        async def fetch(store: ObjectStore) -> None:
            async def try_segment(entry: SegmentEntry) -> None:
                try:
                    await self._fetch_segment(store, entry)
                except CorruptRun as error:
                    self._on_notice(str(error))

            await for_each(list(state.segments.values()), try_segment)
            for prefix in ("events/", "replaced/"):
                async for name in store.list_names(self.url.inside(prefix).name):
                    self._note_object(name[len(self.url.name) + 1 :])
            async for name in store.list_names(self.url.inside("tail/").name):
                path = self._folder.tail / Path(name).name
                data = await self._read(store, f"tail/{path.name}")
                if data is not None and path.suffix == ".ids":
                    write_file(path, data)

        self._run(fetch)

    def _note_object(self, name: str) -> None:
        folder, _, below = name.partition("/")
        if not SEGMENT_PATH.fullmatch(f"events/{below}"):
            below = f"event_date=unknown/{Path(name).name}"
        path = self._folder.path / folder / below
        if not path.exists():
            make_private_folder(path.parent)
            write_file(path, b"")

    # Writing

    def push(self) -> None:
        """Push what the store lacks, up to the folder's newest commit, and HEAD. The caller holds the folder's lock.

        Raises:
            UsageError: another writer has created the archive, or written a commit.
            CorruptRun: a segment is missing or damaged here.
            OciAuditError: the store cannot be used; the next push continues.
        """
        self._run(self._push)

    async def _push(self, store: ObjectStore) -> None:
        folder = self._folder
        log = CommitLog.open(folder.path)
        if self._pushed < 0:
            await self._push_header(store)
        if log.head is None or self._pushed >= log.head.sequence:
            return
        commits = list(log.read_commits(self._pushed + 1))
        later = {path for commit in commits for path in commit.replaced}
        for commit in commits:
            await for_each(commit.added, lambda one: self._push_segment(store, one, replaced=later))
            await self._push_commit(store, commit)
            self._pushed = commit.sequence
        await self._push_head(store, log.head)
        await self._retire(store, later)

    async def _push_header(self, store: ObjectStore) -> None:
        try:
            await store.put(self.url.inside("archive.json").name, _read_file(self._folder.header_path), replaces=None)
        except ObjectConflict as error:
            raise UsageError(
                f"{self.url} is another archive than {self._folder.path}: another oci-audit has created it",
                hint=f"{_ONE_WRITER}, or continue what it began with another --work-folder",
            ) from error
        self._pushed = max([int(match[1]) async for match in self._match(store, "commits/", _COMMIT_OBJECT)], default=0)

    async def _push_segment(self, store: ObjectStore, entry: SegmentEntry, *, replaced: set[str]) -> None:
        path = self._find_segment(entry.path)
        if not path.exists():
            if entry.path in replaced:
                return
            raise CorruptRun(
                f"{path} is missing, and {self.url} does not have it yet",
                hint="restore it, or begin with an empty --work-folder: what only this one has is requested again",
            )
        watch = UploadWatch()
        watch.sha256 = entry.sha256
        await store.put_file(self.url.inside(entry.path).name, path, replaces=None, watch=watch)

    async def _push_commit(self, store: ObjectStore, commit: Commit) -> None:
        path = self._folder.commit_path(commit.sequence)
        tail, signature = self._folder.tail_path(commit.sequence), name_signature(path)
        for each, name in ((tail, f"tail/{tail.name}"), (signature, f"commits/{signature.name}")):
            if each.exists():
                await self._create(store, each, name, commit.sequence)
        await self._create(store, path, f"commits/{path.name}", commit.sequence)

    async def _create(self, store: ObjectStore, path: Path, name: str, sequence: int) -> None:
        try:
            await store.put(self.url.inside(name).name, _read_file(path), replaces=None)
        except ObjectConflict as error:
            raise self._refuse(sequence) from error

    def _refuse(self, sequence: int) -> UsageError:
        return UsageError(
            f"another oci-audit has written commit {sequence} of {self.url}; the one in {self._folder.path} is refused",
            hint=f"{_ONE_WRITER}, then run this again with another --work-folder, or after: "
            f"rm -r {shlex.quote(str(self._folder.path))}; what only this one has received is requested again",
        )

    async def _push_head(self, store: ObjectStore, head: Head) -> None:
        name = self.url.inside("HEAD").name
        data = msgspec.json.encode(head) + b"\n"
        facts = await store.head(name)
        try:
            await store.put(name, data, replaces=facts.etag if facts else None)
        except ObjectConflict as error:
            found = await self._read(store, "HEAD")
            if found is None or _decode_head(found) < head.sequence:
                raise self._refuse(head.sequence + 1) from error
        except (AccessError, ServiceUnreachable) as error:
            self._on_notice(f"{self.url.inside('HEAD')} could not be replaced; readers follow the commits: {error}")

    async def _retire(self, store: ObjectStore, paths: Iterable[str]) -> None:
        """Move segments that are no longer part of the archive to `replaced/`, where readers still find them."""
        try:
            for path in sorted(paths):
                local, below = self._find_segment(path), path.partition("/")[2]
                if local.exists():
                    name = self.url.inside(f"replaced/{below}").name
                    await store.put_file(name, local, replaces=None, watch=UploadWatch())
                await store.delete(self.url.inside(path).name)
        except (AccessError, ServiceUnreachable) as error:
            self._on_notice(f"a replaced segment of {self.url} stays where it was, and harms no reader: {error}")

    def sweep(self, keep: Collection[str], *, live: Collection[str], find_replaced: Callable[[], set[str]]) -> None:
        """Remove replaced segments from the store, except for those whose paths are in `keep`.

        A push that was killed may have left some where the `live` ones are; `find_replaced` returns all that commits
        have replaced. A segment that no commit names stays: `verify` reports it.

        Raises:
            OciAuditError: the store cannot be used. That it refuses is a notice.
        """
        kept = {f"replaced/{path.partition('/')[2]}" for path in keep}

        async def sweep(store: ObjectStore) -> None:
            try:
                names = store.list_names(self.url.inside("events/").name)
                left = {path async for name in names if (path := name[len(self.url.name) + 1 :]) not in live}
                left = {path for path in left if SEGMENT_PATH.fullmatch(path)}
                left &= find_replaced() if left else left
                await self._retire(store, left.intersection(keep))
                for path in sorted(left.difference(keep)):
                    await store.delete(self.url.inside(path).name)
                async for name in store.list_names(self.url.inside("replaced/").name):
                    below = name[len(self.url.name) + 1 :]
                    if below not in kept and SEGMENT_PATH.fullmatch(f"events/{below.partition('/')[2]}"):
                        await store.delete(name)
            except (AccessError, ServiceUnreachable) as error:
                self._on_notice(f"replaced segments of {self.url} stay, and harm no reader: {error}")

        self._run(sweep)

    # Both

    async def _read(self, store: ObjectStore, name: str) -> bytes | None:
        """Return a small object; None if there is none."""
        whole = self.url.inside(name).name
        facts = await store.head(whole)
        if facts is None:
            return None
        return b"".join([data async for data in read_whole(store, whole, facts)])

    async def _match(self, store: ObjectStore, prefix: str, pattern: re.Pattern[str]) -> AsyncIterator[re.Match[str]]:
        async for name in store.list_names(self.url.inside(prefix).name):
            match = pattern.fullmatch(name[len(self.url.name) + 1 :])
            if match:
                yield match

    def _find_newest(self) -> int:
        """Return the newest commit in the folder, 0 if there is none."""
        log = CommitLog.open(self._folder.path)
        return log.head.sequence if log.head else 0

    def _find_segment(self, path: str) -> Path:
        """Return where a segment lies here, live or replaced; where it would lie if it does not."""
        replaced = self._folder.replaced_path(path)
        return replaced if replaced.exists() else self._folder.segment_path(path)


@contextmanager
def hold_copy(path: Path, *, patience_seconds: float = 0.0, check: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock of the folder of a copy, which is created if there is none.

    `check` is called several times a second while another process holds it; it may raise to stop.

    Raises:
        UsageError: another process holds it, and has not released it after this long.
        DiskError: it cannot be created.
    """
    make_private_folders(path)
    attempts = 1 + int(patience_seconds / _LOCK_POLL_SECONDS)
    try:
        with ExitStack() as stack:
            for left in reversed(range(attempts)):
                try:
                    stack.enter_context(lock_folder(path))
                    break
                except UsageError:
                    if not left:
                        raise
                    check()
                    threading.Event().wait(_LOCK_POLL_SECONDS)
            yield
    except UsageError as error:
        if str(path) in str(error) and "another oci-audit process" in str(error):
            error.hint = "wait until it ends, or name another --work-folder"
        raise


def _read_file(path: Path) -> bytes:
    with explain_disk("read", path):
        return path.read_bytes()


def _decode_head(data: bytes) -> int:
    """Return the sequence that HEAD names; 0 for what is not a HEAD, which opening the archive reports."""
    try:
        return msgspec.json.decode(data, type=Head).sequence
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return 0
