"""Inputs: what a command reads events from: a file, stdin, or an archive.

`open_inputs` makes an `Input` of each path on a command line. Commands read events from inputs and need not know what
they are, except for speed: `file` names a file that can be read directly, `view` an archive's segments.

Invariants
- What limits an archive is never ignored: it is an error where an input is not an archive.
- An archive is opened once, so that all that is said about it, and all events, are of one commit.
- An object of a store is copied to a private folder first, in ranges of one version of it, and compared with the hash
  that its writer stated; its manifest, signature and ledger come with it. Then it is a file like any other.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Protocol

from ociaudit.archive.commit_log import ArchiveFolder, is_archive, report_damage
from ociaudit.archive.reader import Archive, ArchiveView, open_archive
from ociaudit.client.object_storage import ObjectFacts, ObjectStore, ObjectUrl, read_whole
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.formats.base import Record
from ociaudit.formats.detect import KIND_WORDS
from ociaudit.formats.reader import check_source, ignore_incomplete, open_records
from ociaudit.planning.shard import Target, format_minute
from ociaudit.planning.time_range import parse_time, resolve_range
from ociaudit.storage.atomic_io import explain_disk, open_private, write_all
from ociaudit.storage.ledger import open_origins
from ociaudit.storage.manifest import (
    CoverageStatement,
    ManifestFile,
    load_manifest,
    name_ledger,
    name_manifest,
    name_signature,
)
from ociaudit.storage.verdict import (
    Verdict,
    VerdictKind,
    describe_verdict,
    find_notice,
    has_qualifiers,
    judge,
    judge_file,
    name_verdict,
)

_LIMITS_HINT = "they select from an archive; of a file, oci-audit convert selects with --event-after and other filters"


@dataclass(frozen=True, slots=True)
class Limits:
    """What of an archive is wanted, as typed; without any, all of it.

    `start` and `end` are times in any form of `planning.time_range` and mean event time.
    """

    start: str | None = None
    end: str | None = None
    regions: tuple[str, ...] = ()
    compartments: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self != Limits()

    def resolve_times(self, *, now: datetime) -> tuple[int | None, int | None]:
        """Return the minutes `[start, end)`; None: not limited.

        Raises:
            UsageError: a time is unreadable, or the start is in the future or not before the end.
        """
        start = end = None
        if self.start is not None:
            start = resolve_range(self.start, self.end or "now", now=now).window.start
        if self.end is not None:
            end = parse_time(self.end, now=now).as_end
        return start, end


class Records(Protocol):
    """The records of one input. Iterate it once; the counters and the description grow meanwhile."""

    @property
    def name(self) -> str:
        """Return the input's name in messages."""

    @property
    def description(self) -> str:
        """Return what the input is, in words."""

    @property
    def records(self) -> int:
        """Return how many records have been read."""

    @property
    def with_origin(self) -> int:
        """Return how many records have an origin that is known."""

    @property
    def kinds(self) -> Counter[str]:
        """Return the kinds of the records read, as `formats.detect` names them."""

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the records in batches, none of them empty."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFacts:
    """What a manifest states about a file, or the commits about an archive. Times are RFC 3339.

    `labels` are (label, value) of what identifies the content, such as digests. `statement` is None without a
    manifest; `events` is the number that it states. `basis` says which time `start` and `end` mean.
    """

    name: str
    verdict: Verdict
    words: tuple[str, ...]
    """The verdict in words: the headline, then its qualifiers."""
    labels: tuple[tuple[str, str], ...] = ()
    size_bytes: int = 0
    statement: CoverageStatement | None = None
    start: str | None = None
    end: str | None = None
    basis: str = ""
    paths: Mapping[str, str] = field(default_factory=dict)
    requested_by: tuple[tuple[str, str], ...] = ()
    events: int | None = None
    filtered: int = 0
    has_own_digest: bool = True


class Input(Protocol):
    """Something that holds events."""

    @property
    def name(self) -> str:
        """Return the name in messages."""

    @property
    def path(self) -> Path | None:
        """Return the path; None for stdin."""

    @property
    def file(self) -> Path | None:
        """Return the path of a file; None for stdin and archives."""

    @property
    def view(self) -> ArchiveView | None:
        """Return what of an archive is to be read; None for files."""

    @property
    def sidecars(self) -> tuple[Path, ...]:
        """Return the files that belong to the input."""

    def open(
        self, *, needs_origins: bool = False, on_incomplete: Callable[[str], None] = ignore_incomplete
    ) -> AbstractContextManager[Records]:
        """Open the input; `on_incomplete` is as in `open_records`.

        Raises:
            UsageError: it does not exist.
            UnreadableInput: a file holds no audit events, or is damaged.
            CorruptRun: a segment of an archive is missing or damaged.
            DiskError: it cannot be read.
        """
        ...

    def open_origins(self) -> Iterator[Target | None] | None:
        """Return the origins of the events in their order; None if they are not known."""

    def count_regions(self) -> Counter[str]:
        """Return how many events each region served, as far as that is known."""
        ...

    def find_notice(self) -> str | None:
        """Return the verdict in one line; None if it is complete without qualifiers, or there is no manifest."""

    def read_facts(self, *, with_digest: bool = False) -> InputFacts:
        """Return what is stated about the input; `with_digest`: labels and size, too.

        Raises:
            CorruptRun: the manifest cannot be read.
            DiskError: a file cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class FileInput:
    """A file of events, or stdin (None). Its manifest is beside it, unless it is named.

    `url` is where it was copied from.
    """

    path: Path | None
    manifest_path: Path | None = None
    url: str = ""

    @property
    def name(self) -> str:
        """Return the file's name in messages."""
        return self.url or ("stdin" if self.path is None else str(self.path))

    @property
    def file(self) -> Path | None:
        """Return the path."""
        return self.path

    @property
    def view(self) -> None:
        """Return None."""
        return

    @property
    def sidecars(self) -> tuple[Path, ...]:
        """Return the paths of manifest and ledger, which need not exist."""
        return () if self.path is None else (self.manifest_path or name_manifest(self.path), name_ledger(self.path))

    @contextmanager
    def open(
        self, *, needs_origins: bool = False, on_incomplete: Callable[[str], None] = ignore_incomplete
    ) -> Iterator[Records]:
        """Open the file with the reader of any format; origins come from the ledger beside it, if they are needed."""
        origins = open_origins(self.path) if needs_origins and self.path is not None else None
        with open_records(self.path, origins=origins, on_incomplete=on_incomplete, shown_as=self.url) as records:
            yield records

    def open_origins(self) -> Iterator[Target | None] | None:
        """Return the origins in the ledger beside the file."""
        return None if self.path is None else open_origins(self.path)

    def count_regions(self) -> Counter[str]:
        """Return how many events each region served, by the ledger."""
        return Counter(origin.region for origin in self.open_origins() or () if origin is not None)

    def find_notice(self) -> str | None:
        """Return the verdict on the file in one line, if it has a manifest and is not simply complete."""
        notice = find_notice(self.path) if self.path is not None and self.path.is_file() else None
        return notice.replace(str(self.path), self.name) if notice else None

    def read_facts(self, *, with_digest: bool = False) -> InputFacts:
        """Return what the manifest states, checked against the file's bytes."""
        if self.path is None:
            return InputFacts(name="stdin", verdict=judge(None), words=("unknown: stdin has no manifest",))
        found = self._load_manifest()
        content = _hash_file(self.path) if with_digest else None
        verdict = judge_file(self.path, found, content=content)
        digest = f"sha256:{found.manifest.digest}" if found else "none beside the file"
        facts = InputFacts(
            name=self.name,
            verdict=verdict,
            words=tuple(describe_verdict(verdict)),
            labels=(("File", f"sha256:{content[0]}"), ("Manifest", digest)) if content else (),
            size_bytes=content[1] if content else 0,
        )
        if found is None:
            return facts
        manifest = found.manifest
        return replace(
            facts,
            statement=manifest,
            start=manifest.range.start,
            end=manifest.range.end,
            basis=manifest.range.time,
            paths=manifest.scope.compartment_paths,
            requested_by=(("Requested by", manifest.asked_by.principal), ("Tenancy", manifest.asked_by.tenancy)),
            events=manifest.totals.written,
            filtered=manifest.totals.filtered,
            has_own_digest=found.has_own_digest,
        )

    def _load_manifest(self) -> ManifestFile | None:
        if self.path is None:
            return None
        path = self.manifest_path or name_manifest(self.path)
        with explain_disk("read", path):
            is_file = path.is_file()
        if not is_file and self.manifest_path is not None:
            raise UsageError(f"{path} is not a file", hint="pass the manifest of the export, or omit --manifest")
        return load_manifest(path) if is_file else None


@dataclass(frozen=True, slots=True)
class ArchiveInput:
    """An archive, or a part of one."""

    path: Path
    view: ArchiveView
    url: str = ""
    """What the folder is a copy of."""

    @property
    def name(self) -> str:
        """Return the archive's name in messages."""
        return self.url or str(self.path)

    @property
    def file(self) -> None:
        """Return None."""
        return

    @property
    def sidecars(self) -> tuple[Path, ...]:
        """Return nothing."""
        return ()

    @contextmanager
    def open(
        self,
        *,
        needs_origins: bool = False,
        on_incomplete: Callable[[str], None] = ignore_incomplete,
    ) -> Iterator[Records]:
        """Open the archive; its events come in canonical order with their origins."""
        yield _ArchiveRecords(self)

    def open_origins(self) -> Iterator[Target | None]:
        """Return the origins of the events."""
        return (record.origin for batch in self.view.read() for record in batch)

    def count_regions(self) -> Counter[str]:
        """Return how many events each region served."""
        return self.view.count_regions()

    def find_notice(self) -> str | None:
        """Return the verdict in one line, if it is not simply complete; that it is not anchored is for `verify`."""
        verdict = self.view.judge(is_anchored=True)
        if verdict.kind is VerdictKind.COMPLETE and not has_qualifiers(verdict):
            return None
        return name_verdict(self.path, verdict).replace(str(self.path), self.name)

    def read_facts(self, *, with_digest: bool = False) -> InputFacts:
        """Return what the commits state."""
        archive, view = self.view.archive, self.view
        verdict, window = view.judge(), view.window
        segments = [entry for _, entries, _ in view.list_dates() for entry in entries]
        return InputFacts(
            name=self.name,
            verdict=verdict,
            words=tuple(describe_verdict(verdict)),
            labels=(
                ("Archive", archive.header.id),
                ("Commit", f"{archive.state.sequence:,}, sha256:{archive.state.digest}"),
            ),
            size_bytes=sum(entry.size_bytes for entry in segments),
            statement=view,
            start=format_minute(window.start),
            end=format_minute(window.end),
            basis="event time",
            paths=archive.paths,
            requested_by=(("Tenancy", archive.header.tenancy),),
        )


class _ArchiveRecords:
    """The events of an archive."""

    def __init__(self, source: ArchiveInput) -> None:
        self._view = source.view
        self.name = source.name
        self.records = self.with_origin = 0

    @property
    def description(self) -> str:
        return f"archive as of commit {self._view.archive.state.sequence:,}: events {KIND_WORDS['api']}"

    @property
    def kinds(self) -> Counter[str]:
        return Counter(api=self.records)

    def __iter__(self) -> Iterator[list[Record]]:
        for batch in self._view.read():
            self.records += len(batch)
            self.with_origin += sum(record.origin is not None for record in batch)
            yield batch


def open_inputs(
    paths: Sequence[Path | None], limits: Limits | None = None, *, now: datetime | None = None
) -> tuple[Input, ...]:
    """Return an input for each path; None is stdin, and a folder must be an archive. Archives are opened.

    `limits` apply to archives; relative times in them refer to `now`.

    Raises:
        UsageError: a path does not exist, a folder is not an archive, or there are limits and a path is not an archive.
        CorruptRun: an archive is damaged, or of a newer version.
        DiskError: something cannot be read.
    """
    return tuple(open_input(path, limits, now=now) for path in paths)


def open_input(
    path: Path | None,
    limits: Limits | None = None,
    *,
    now: datetime | None = None,
    manifest_path: Path | None = None,
    url: str = "",
) -> Input:
    """Return one input; as `open_inputs`. `manifest_path` names the manifest of a file, `url` what it is a copy of.

    Raises:
        UsageError: as `open_inputs`, or a manifest is named for an archive.
        CorruptRun: the archive is damaged, or of a newer version.
        DiskError: something cannot be read.
    """
    limits = limits or Limits()
    if path is None or not is_archive_folder(path):
        if limits:
            name = url or ("stdin" if path is None else str(path))
            raise UsageError(
                f"{name} is not an archive, so --start, --end, --region and --compartment do not apply",
                hint=_LIMITS_HINT,
            )
        return FileInput(path, manifest_path, url)
    if manifest_path is not None:
        raise UsageError(f"{path} is an archive, which has no manifest", hint="omit --manifest")
    archive = open_archive(path)
    if not archive.state.sequence:
        raise UsageError(
            f"the archive {path} is empty: its first sync has not committed anything yet",
            hint=f"continue it with: oci-audit sync {path}",
        )
    return ArchiveInput(path, select_view(archive, limits, now=now), url)


def select_view(archive: Archive, limits: Limits, *, now: datetime | None = None) -> ArchiveView:
    """Return what of an archive is wanted.

    Raises:
        UsageError: a time, region or compartment cannot be used.
    """
    start, end = limits.resolve_times(now=now) if now is not None else (None, None)
    return archive.select(start=start, end=end, regions=limits.regions, compartments=limits.compartments)


def is_archive_folder(path: Path) -> bool:
    """Return whether a path is an archive; False for a file, or for nothing.

    Raises:
        UsageError: it is another folder.
        CorruptRun: it is an archive without `archive.json`.
    """
    with explain_disk("look into", path):
        if not path.is_dir():
            return False
        folder = ArchiveFolder(path)
        has_commits = folder.head_path.exists() or (folder.commits.is_dir() and any(folder.commits.iterdir()))
    if is_archive(path):
        return True
    if has_commits:
        raise report_damage(f"{path} has commits, but no {folder.header_path.name}", archive=path)
    check_source(path)
    return False


async def download_input(store: ObjectStore, url: ObjectUrl, folder: Path) -> Path | None:
    """Copy an object, with its manifest, signature and ledger if there are any, to a private folder; return the copy.

    None means that there is no such object. Memory does not grow with it.

    Raises:
        UnreadableInput: its bytes do not have the hash that its writer stated.
        OciAuditError: the store cannot be used, or another program changed the object meanwhile.
        DiskError: the copy cannot be written.
    """
    path = folder / url.file_name
    facts = await store.head(url.name)
    if facts is None:
        return None
    await _download(store, url, facts, path)
    manifest = name_manifest(path)
    for beside in (manifest, name_signature(manifest), name_ledger(path)):
        beside_url = url.beside(beside.name)
        found = await store.head(beside_url.name)
        if found is not None:
            await _download(store, beside_url, found, beside)
    return path


async def _download(store: ObjectStore, url: ObjectUrl, facts: ObjectFacts, path: Path) -> None:
    digest, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)

    def keep(data: bytes) -> None:
        write_all(descriptor, data, path)
        digest.update(data)
        md5.update(data)

    descriptor = open_private(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    try:
        async for data in read_whole(store, url.name, facts):
            await asyncio.to_thread(keep, data)
    finally:
        os.close(descriptor)
    for stated, found in ((facts.sha256, digest.hexdigest()), (facts.md5, md5.hexdigest())):
        if stated and stated != found:
            raise UnreadableInput(
                f"{url} is damaged: its bytes do not have the hash that is stated for them",
                hint="restore the object from a copy, or write it again",
            )


def _hash_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file."""
    with explain_disk("read", path), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
