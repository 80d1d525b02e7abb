"""Publishing: from merged events to an output under its final name, and the ledger and manifest that describe it.

Invariants
- The bytes depend on the records, the shape, the format and the compression, and on nothing else.
- The next chunk is encoded while the last one is hashed and written; at most two chunks are in memory.
- `scanned = written + filtered + identical + reserialised`, or the run directory is corrupt and no manifest is written.
- The ledger is written before the manifest that names its hash.
- What goes to a store is whole on this machine first. Ledger, signature and manifest go before the output, which gets
  its name last and in one step; what a killed upload leaves is recognized by its entity tags and bytes, and completed.
- An object is replaced only if that was requested, or if this output's own earlier upload wrote it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
from collections.abc import Awaitable, Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from ociaudit.client.object_storage import (
    ObjectFacts,
    ObjectStore,
    ObjectUrl,
    UploadWatch,
    hash_file,
    read_whole,
)
from ociaudit.client.signer import Credentials
from ociaudit.errors import CorruptRun, DiskError, ObjectConflict, OciAuditError, UsageError, format_count
from ociaudit.events.event import read_order
from ociaudit.events.fields import format_instant
from ociaudit.formats.base import EventFormat
from ociaudit.formats.compression import Compressor
from ociaudit.operations.context import RunContext, is_beyond_retention, use_store
from ociaudit.planning.shard import Coverage, Gap, Target, format_minute, format_second
from ociaudit.planning.time_range import parse_duration
from ociaudit.storage.atomic_io import (
    explain_disk,
    make_private_folder,
    new_file,
    remove_file,
    write_all,
    write_file,
    write_to_reader,
)
from ociaudit.storage.journal import JournalLine, VoidLine, decode_line
from ociaudit.storage.ledger import BlockDigest, BlockLine, LedgerTotals, OriginLine, find_void_lines, make_ledger
from ociaudit.storage.manifest import (
    CoveredTarget,
    EventRange,
    EventTimes,
    FileEntry,
    Manifest,
    Principal,
    ProvisionalEntry,
    Range,
    Redaction,
    Scope,
    Tool,
    Totals,
    decode_manifest,
    make_gap_entry,
    name_ledger,
    name_manifest,
    name_signature,
    name_time,
)
from ociaudit.storage.merge import MergeCounts
from ociaudit.storage.run_dir import RunDirectory, RunPlan, open_scratch
from ociaudit.version import VERSION

_EVENTS_PER_CHUNK = 1_000
_LINES_PER_WRITE = 1_000
_UPLOADING = "while uploading; the local file is whole"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What was written: size, SHA-256, and the SHA-256 up to each block, so that damage can be located."""

    size_bytes: int
    sha256: str
    blocks: tuple[BlockLine, ...]


def write_events(
    events: Iterable[tuple[bytes, T]],
    *,
    locate: Callable[[T], Target | None],
    event_format: EventFormat,
    compressor: Compressor,
    write: Callable[[bytes], None],
    on_written: Callable[[int], None],
    on_origins: Callable[[Sequence[T]], None] | None = None,
) -> WrittenFile:
    """Write events through `write` and return what was written; `locate` turns what accompanies each into its origin.

    `on_origins` gets what accompanies the events, batch by batch in their order.

    Raises:
        DiskError: as `write` does, or a format's scratch file cannot be written.
    """
    digest = BlockDigest()

    def put(chunk: bytes) -> None:
        data = compressor.compress(chunk)
        digest.update(data)
        write(data)

    with (
        closing(event_format),
        ThreadPoolExecutor(1, thread_name_prefix="publish") as thread,
        closing(_make_chunks(events, locate, event_format, on_written, on_origins)) as chunks,
    ):
        pending: Future[None] | None = None
        for chunk in chunks:
            if pending is not None:
                pending.result()
            pending = thread.submit(put, chunk)
        if pending is not None:
            pending.result()
    rest = compressor.flush()
    digest.update(rest)
    write(rest)
    blocks = digest.finish()
    return WrittenFile(digest.size_bytes, digest.sha256, blocks)


def _make_chunks(
    events: Iterable[tuple[bytes, T]],
    locate: Callable[[T], Target | None],
    event_format: EventFormat,
    on_written: Callable[[int], None],
    on_origins: Callable[[Sequence[T]], None] | None,
) -> Generator[bytes]:
    yield event_format.begin()
    stream = iter(events)
    while batch := list(islice(stream, _EVENTS_PER_CHUNK)):
        origins = [origin for _, origin in batch]
        if on_origins is not None:
            on_origins(origins)
        yield event_format.write([raw for raw, _ in batch], list(map(locate, origins)))
        on_written(len(batch))
    yield from event_format.finish()


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """Everything that a manifest states about a run."""

    plan: RunPlan
    credentials: Credentials
    coverage: Mapping[Target, Coverage]
    gaps: Sequence[Gap]
    waived: Sequence[Gap]
    counts: MergeCounts
    totals: LedgerTotals
    output: FileEntry
    ledger: FileEntry
    skew_seconds: float | None
    finished_at: datetime
    redaction: Redaction | None = None


def write_ledger(
    folder: RunDirectory, path: Path, totals: LedgerTotals, output_lines: Iterable[BlockLine | OriginLine]
) -> FileEntry:
    """Write the ledger from the run's journal and the lines about the output, fill `totals`, and return its entry.

    Raises:
        DiskError: it cannot be written.
    """
    has_void = any(
        isinstance(line, VoidLine) for line in _read_journal(folder)
    )  # rare; memory then grows with the pages
    void = find_void_lines(_read_journal(folder)) if has_void else set()
    encoder = msgspec.json.Encoder()
    digest = hashlib.sha256()
    size = 0
    with new_file(path) as descriptor:
        lines = chain(make_ledger(_read_journal(folder), void, totals), output_lines)
        for chunk in _in_chunks(encoder.encode(line) + b"\n" for line in lines):
            write_all(descriptor, chunk, path)
            digest.update(chunk)
            size += len(chunk)
    return FileEntry(path.name, size, digest.hexdigest())


def make_manifest(found: ManifestFacts) -> Manifest:
    """Return the manifest.

    Raises:
        CorruptRun: the counts of journal and event log do not add up.
    """
    plan, counts = found.plan, found.counts
    merged = counts.written + counts.identical + counts.reserialised
    if found.totals.kept != merged:
        raise CorruptRun(f"the journal counts {format_count(found.totals.kept, 'event')}, the event log holds {merged}")
    return Manifest(
        complete=not found.gaps,
        tool=Tool("oci-audit", VERSION),
        arguments=plan.arguments,
        asked_by=Principal(plan.tenancy, found.credentials.principal, found.credentials.fingerprint),
        also_asked_by=_make_others(found),
        range=Range(
            format_minute(plan.window.start),
            format_minute(plan.window.end),
            name_time(plan.arguments.source),
        ),
        event_range=_make_event_range(plan),
        event_times=_make_event_times(counts),
        scope=_make_scope(found),
        totals=_make_totals(found),
        conflicting_ids=tuple(counts.conflicting_ids),
        coverage=tuple(_make_coverage(target, found.coverage.get(target)) for target in plan.targets),
        gaps=tuple(map(make_gap_entry, found.gaps)),
        waived_gaps=tuple(map(make_gap_entry, found.waived)),
        provisional=tuple(
            ProvisionalEntry(line.region, line.compartment, line.start, line.end, line.last_at or "")
            for line in found.totals.provisional
        ),
        redaction=found.redaction,
        output=found.output,
        ledger=found.ledger,
        clock_skew_seconds=found.skew_seconds,
        started_at=plan.started_at,
        finished_at=format_second(found.finished_at),
    )


def _make_others(found: ManifestFacts) -> tuple[Principal, ...]:
    own = (found.credentials.principal, found.credentials.fingerprint)
    others = sorted(found.totals.asked_by - {own, ("", None)}, key=str)
    return tuple(Principal(found.plan.tenancy, principal, fingerprint) for principal, fingerprint in others)


def _make_event_times(counts: MergeCounts) -> EventTimes:
    return EventTimes(
        first=format_instant(read_order(counts.first_order)[0]) if counts.first_order else None,
        last=format_instant(read_order(counts.last_order)[0]) if counts.first_order else None,
        outside_range=counts.outside,
        unreadable=counts.unreadable,
    )


def _make_event_range(plan: RunPlan) -> EventRange | None:
    window, late = plan.event_window, plan.arguments.late
    if window is None:
        return None
    is_settled = plan.window.end >= window.end + parse_duration(late)
    return EventRange(format_minute(window.start), format_minute(window.end), late, is_settled=is_settled)


def _make_scope(found: ManifestFacts) -> Scope:
    plan, unlisted = found.plan, found.totals.unlisted
    compartments = sorted({target.compartment for target in plan.targets})
    paths = {**unlisted, **(plan.listed_compartments or {})}
    return Scope(
        regions=tuple(sorted({target.region for target in plan.targets})),
        compartments=tuple(compartments),
        region_request_ids=plan.region_request_ids,
        compartment_request_ids=plan.compartment_request_ids,
        unlisted_compartments_seen=tuple(sorted(unlisted)),
        retention_days=plan.retention_days,
        reaches_beyond_retention=is_beyond_retention(plan, now=found.finished_at),
        compartment_paths={ocid: paths[ocid] for ocid in sorted({*compartments, *unlisted}) if paths.get(ocid)},
    )


def _make_totals(found: ManifestFacts) -> Totals:
    totals, counts = found.totals, found.counts
    return Totals(
        scanned=totals.scanned,
        written=counts.written,
        filtered=totals.scanned - totals.kept,
        identical=counts.identical,
        reserialised=counts.reserialised,
        conflicting_ids=counts.conflicting_count,
        shards=totals.shards,
        confirmed_empty=totals.confirmed,
        pages=totals.pages,
        requests=totals.requests,
        outside_event_range=totals.outside,
        fetched_twice=min(counts.identical, totals.refetched),
    )


def _make_coverage(target: Target, coverage: Coverage | None) -> CoveredTarget:
    windows = coverage.windows if coverage else ()
    return CoveredTarget(
        target.region,
        target.compartment,
        tuple((format_minute(w.start), format_minute(w.end)) for w in windows),
    )


def _read_journal(folder: RunDirectory) -> Iterator[JournalLine]:
    with folder.journal_path.open("rb") as file:
        yield from map(decode_line, file)


def _in_chunks(lines: Iterable[bytes]) -> Iterator[bytes]:
    chunk: list[bytes] = []
    for line in lines:
        chunk.append(line)
        if len(chunk) == _LINES_PER_WRITE:
            yield b"".join(chunk)
            chunk.clear()
    yield b"".join(chunk)


@contextmanager
def open_output_target(
    output: Path | None, *, stdout: int, check_cancelled: Callable[[], None], may_replace: bool
) -> Iterator[Callable[[bytes], None]]:
    """Yield the function that writes; `output` None means the descriptor `stdout`.

    After a clean exit the file has its name; after an exception nothing has changed under that name. Without
    `may_replace`, a file that has appeared under it stays.

    Raises:
        UsageError: a file has appeared, or another process writes one.
        DiskError: the file cannot be written, or stdout was closed.
        Interrupted: as `check_cancelled` does.
    """
    if output is None:
        yield lambda data: write_to_stdout(stdout, data, check_cancelled)
        return
    with new_file(output, may_replace=may_replace) as descriptor:

        def write(data: bytes) -> None:
            check_cancelled()
            write_all(descriptor, data, output)

        yield write


def write_to_stdout(descriptor: int, data: bytes, check_cancelled: Callable[[], None]) -> None:
    """Write to a reader that may pause.

    Raises:
        DiskError: the reader has closed its end.
    """
    try:
        write_to_reader(descriptor, data, Path("stdout"), check=check_cancelled)
    except DiskError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in {errno.EPIPE, errno.EBADF}:
            raise DiskError(
                "stdout was closed before all events were written",
                hint="let the reader read to the end, or use -o FILE",
            ) from error
        raise


class _UploadRecord(msgspec.Struct, frozen=True):
    """What is known of the upload of an output, in a file beside it: it tells our own objects from those of others.

    `etags` are those of the objects that it wrote, by name; `open_uploads` the ids of uploads in parts, by name.
    `is_finished`: everything is there, and the local files go.
    """

    url: str
    is_finished: bool = False
    etags: dict[str, str] = {}
    open_uploads: dict[str, str] = {}


class RemoteOutput:
    """An output that goes to a store with its manifest, ledger and signature, once they are whole in a work folder.

    The caller holds the lock of the output's run directory.
    """

    def __init__(self, url: ObjectUrl, output: Path, context: RunContext) -> None:
        """Prepare the upload of `output` to `url`; nothing is read yet."""
        self.url = url
        self._output = output
        self._context = context
        self._record_path = output.with_name(f"{output.name}.upload.json")
        self._record = self._read_record()
        self._seen: dict[str, ObjectFacts] = {}

    @property
    def _files(self) -> tuple[Path, ...]:
        """Return the files in the order in which they are uploaded; the signature need not exist."""
        manifest = name_manifest(self._output)
        return name_ledger(self._output), name_signature(manifest), manifest, self._output

    def check(self, *, may_overwrite: bool) -> None:
        """Look at what exists in the store, before any work is done.

        Raises:
            UsageError: something exists that would be replaced, and may not be.
            OciAuditError: the store cannot be used.
        """
        self._run(lambda store: self._check(store, may_overwrite=may_overwrite))

    async def _check(self, store: ObjectStore, *, may_overwrite: bool) -> None:
        for path in self._files:
            url = self.url.beside(path.name)
            facts = await store.head(url.name)
            if facts is None:
                continue
            self._seen[path.name] = facts
            if not may_overwrite and not self._is_ours(path, facts):
                raise UsageError(f"{url} exists", hint="choose another name with -o, or replace it with --overwrite")
        for name, upload_id in self._record.open_uploads.items():
            with contextlib.suppress(OciAuditError):  # it is not visible, and may be gone
                await store.abort(self.url.beside(name).name, upload_id)
        self._keep(open_uploads={})

    def _is_ours(self, path: Path, facts: ObjectFacts) -> bool:
        """Return whether an earlier upload of this output wrote an object: it said so, or was killed before it did."""
        if self._record.etags.get(path.name) == facts.etag:
            return True
        with explain_disk("look at", path):
            is_alike = bool(facts.sha256) and path.is_file() and path.stat().st_size == facts.size_bytes
        return is_alike and hash_file(path) == facts.sha256

    def find_finished(self) -> Manifest | None:
        """Return the manifest of an output that exists in the store, None if there is none, or a work folder with more.

        Call it before `check`.
        """
        if self._record_path.exists() or self._output.exists():
            return None
        found: list[Manifest] = []

        async def look(store: ObjectStore) -> None:
            facts = await store.head(self.url.name)
            manifest_url = self.url.beside(name_manifest(self._output).name)
            stated = await store.head(manifest_url.name) if facts else None
            if facts is None or stated is None:
                return
            data = b"".join([chunk async for chunk in read_whole(store, manifest_url.name, stated)])
            with contextlib.suppress(CorruptRun):  # somebody else's file
                manifest = decode_manifest(data, where=str(manifest_url))
                found.extend([manifest] if manifest.output.size_bytes == facts.size_bytes else [])

        self._run(look)
        return found[0] if found else None

    def begin(self) -> None:
        """Record that the work for this output has begun.

        Raises:
            DiskError: it cannot be written.
        """
        self._keep(etags=self._record.etags)

    @property
    def is_pending(self) -> bool:
        """Return whether an earlier run made the output whole and did not finish its upload."""
        manifest = name_manifest(self._output)
        return self._record_path.exists() and self._output.exists() and manifest.exists()

    def publish(self, sha256: str) -> None:
        """Upload the files that are not there yet; `sha256` is that of the output.

        Raises:
            ObjectConflict: another program has written one of them meanwhile.
            OciAuditError: the store failed; the same command continues.
        """
        self._run(lambda store: self._publish(store, sha256))

    async def _publish(self, store: ObjectStore, sha256: str) -> None:
        for path in self._files:
            url, seen = self.url.beside(path.name), self._seen.get(path.name)
            if not path.exists():
                if seen is not None and path.suffix == ".sig":  # of a manifest that is replaced by an unsigned one
                    await store.delete(url.name)
                continue
            watch = _RecordingWatch(self, path.name, sha256 if path == self._output else hash_file(path))
            if seen is not None and (seen.size_bytes, seen.sha256) == (path.stat().st_size, watch.sha256):
                self._keep(etags={**self._record.etags, path.name: seen.etag})
                continue
            try:
                facts = await store.put_file(url.name, path, replaces=seen.etag if seen else None, watch=watch)
            except ObjectConflict as error:
                error.hint = f"{path} is whole and kept; choose another name with -o, or --overwrite"
                raise
            self._keep(etags={**self._record.etags, path.name: facts.etag}, open_uploads={})

    def finish_clean_up(self) -> None:
        """Remove what a killed run has left of an output that was uploaded.

        Raises:
            DiskError: it cannot be removed.
        """
        if self._record.is_finished:
            self.clean_up()

    def clean_up(self) -> None:
        """Remove the local files of an output that is uploaded, or given up; the record goes last.

        Raises:
            DiskError: they cannot be removed.
        """
        self._keep(is_finished=True)
        for path in (*reversed(self._files), self._record_path):
            remove_file(path)
        self._record = _UploadRecord(str(self.url))

    def note_upload(self, name: str, upload_id: str) -> None:
        """Record an upload in parts, so that one that a kill leaves behind is aborted by the next run."""
        self._keep(open_uploads={**self._record.open_uploads, name: upload_id})

    def _keep(self, **changes: Any) -> None:
        record = msgspec.structs.replace(self._record, **changes)
        if record != self._record or not self._record_path.exists():
            self._record = record
            write_file(self._record_path, msgspec.json.encode(record) + b"\n")

    def _read_record(self) -> _UploadRecord:
        empty = _UploadRecord(str(self.url))
        with explain_disk("read", self._record_path):
            if not self._record_path.exists():
                return empty
            data = self._record_path.read_bytes()
        try:
            found = msgspec.json.decode(data, type=_UploadRecord)
        except (msgspec.MsgspecError, RecursionError, ValueError) as error:
            raise CorruptRun(
                f"{self._record_path} is not the record of an upload: {error}", hint=f"remove {self._record_path}"
            ) from error
        return found if found.url == str(self.url) else empty

    def _run(self, work: Callable[[ObjectStore], Awaitable[None]]) -> None:
        use_store(self._context, self.url, work, moment=_UPLOADING)


class _RecordingWatch(UploadWatch):
    """Records the id of an upload in parts."""

    def __init__(self, remote: RemoteOutput, name: str, sha256: str) -> None:
        self._remote = remote
        self._name = name
        self.sha256 = sha256

    def on_upload(self, upload_id: str) -> None:
        """Record the id."""
        self._remote.note_upload(self._name, upload_id)


@contextmanager
def stage_output(url: ObjectUrl, work_folder: Path, context: RunContext, *, may_overwrite: bool) -> Iterator[Path]:
    """Yield the path of a file to write; when the block ends it is uploaded and removed.

    The file is in a private folder inside `work_folder`. Nothing is uploaded after an exception.

    Raises:
        UsageError: the object exists, or a manifest does that would then describe another one.
        OciAuditError: the store cannot be used.
    """

    async def look(store: ObjectStore) -> ObjectFacts | None:
        manifest = url.beside(name_manifest(Path(url.file_name)).name)
        if await store.head(manifest.name) is not None:
            raise UsageError(
                f"{url} is an export with a manifest, which would then describe another file",
                hint="choose another name with -o",
            )
        facts = await store.head(url.name)
        if facts is not None and not may_overwrite:
            raise UsageError(f"{url} exists", hint="choose another name with -o, or replace it with --overwrite")
        return facts

    seen = use_store(context, url, look, moment="before anything was written", is_kept=False)
    with open_scratch(work_folder) as folder:
        path = folder / "output" / url.file_name
        make_private_folder(path.parent)
        yield path
        use_store(
            context,
            url,
            lambda store: store.put_file(url.name, path, replaces=seen.etag if seen else None, watch=UploadWatch()),
            moment="while uploading; nothing was written",
            is_kept=False,
        )
