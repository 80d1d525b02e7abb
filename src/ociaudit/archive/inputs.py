"""Inputs: what a command reads events from: a file, stdin, an archive, or the folder of a Connector Hub.

`open_inputs` makes an `Input` of each path on a command line. Commands read events from inputs and need not know what
they are, except for speed: `file` names a file that can be read directly, `view` an archive's segments.

A Connector Hub delivers `<connector OCID>/<start>_<end>.<number>.log.gz`. `read_delivery_name` and `select_deliveries`
need names alone, so that they serve objects as well as files.

Over 700 lines, because what the kinds of input have in common is one interface.

Invariants
- What limits an input is never ignored: it is an error where it does not apply.
- An archive is opened once, so that all that is said about it, and all events, are of one commit.
- Every file in the folder of a connector is read, left out by the range in its name and counted, or refused by name.
- An object of a store is copied to a private folder first, in ranges of one version of it, and compared with the hash
  that its writer stated; its manifest, signature and ledger come with it. Then it is a file like any other.
"""

from __future__ import annotations

import glob
import hashlib
import os
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ociaudit.errors import UnreadableInput, UsageError, format_count
from ociaudit.events.event import BadPage, encode_instant, parse_page, read_instant_of
from ociaudit.events.fields import UNREADABLE_INSTANT, instant_of_minute
from ociaudit.formats.base import Record
from ociaudit.formats.detect import KIND_WORDS
from ociaudit.formats.reader import advise_files, check_source, ignore_incomplete, open_records, read_files
from ociaudit.planning.shard import Target, floor_minute, format_minute
from ociaudit.planning.time_range import parse_time, resolve_range
from ociaudit.storage.atomic_io import explain_disk, is_part_of, open_private, write_all
from ociaudit.storage.manifest import (
    CoverageStatement,
    ManifestFile,
    load_manifest,
    name_ledger,
    name_manifest,
    name_signature,
)
from ociaudit.storage.run_dir import make_private_folders
from ociaudit.storage.verdict import (
    Verdict,
    VerdictKind,
    describe_verdict,
    find_notice,
    has_qualifiers,
    hash_file,
    judge,
    judge_file,
    name_verdict,
)

if TYPE_CHECKING:
    from ociaudit.archive.reader import Archive, ArchiveView
    from ociaudit.client.object_storage import ObjectFacts, ObjectStore, ObjectUrl

# What reads archives and ledgers, and what talks to a store, is imported where it is used: to import all of it takes
# longer than reading a small file.

_LIMITS_HINT = "they select from an archive; of a file, oci-audit convert selects with --event-after and other filters"
_DELIVERY = re.compile(r"(\d{8}T\d{6}Z)_(\d{8}T\d{6}Z)\.(\d{1,9})\.log(?:\.gz)?", re.ASCII)
_GLOB_CHARACTERS = re.compile(r"[*?\[]")
_MARGIN_MINUTES = 26 * 60
"""How far outside of the range in a file's name its events may have happened: a connector retries for 24 hours."""
_NAMES_SHOWN = 3
_MAX_OTHERS = 1_000
"""A folder with so many files, and none of a connector, is another one: a home, or a whole disk."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What of an archive or of a connector's folder is wanted, as typed; without any, all of it.

    `start` and `end` are times in any form of `planning.time_range` and mean event time. A connector's folder has
    no others.
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

    @property
    def kind(self) -> str:
        """Return what it is, in a word for messages."""
        ...

    @property
    def is_rereadable(self) -> bool:
        """Return whether it can be read more than once."""
        ...

    def holds(self, path: Path) -> bool:
        """Return whether a path is the input itself, or inside of it; links are followed.

        Raises:
            DiskError: it cannot be inspected.
        """
        ...

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

    @property
    def kind(self) -> str:
        """Return `file`, or `stdin`."""
        return "stdin" if self.path is None else "file"

    @property
    def is_rereadable(self) -> bool:
        """Return whether it is a plain file, not a pipe."""
        return self.path is not None and self.path.is_file()

    def holds(self, path: Path) -> bool:
        """Return whether a path leads to the file."""
        return self.path is not None and is_same_file(self.path, path)

    @contextmanager
    def open(
        self, *, needs_origins: bool = False, on_incomplete: Callable[[str], None] = ignore_incomplete
    ) -> Iterator[Records]:
        """Open the file with the reader of any format; origins come from the ledger beside it, if they are needed."""
        origins = self.open_origins() if needs_origins else None
        with open_records(self.path, origins=origins, on_incomplete=on_incomplete, shown_as=self.url) as records:
            yield records

    def open_origins(self) -> Iterator[Target | None] | None:
        """Return the origins in the ledger beside the file."""
        from ociaudit.storage.ledger import open_origins

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
        content = hash_file(self.path) if with_digest else None
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

    @property
    def kind(self) -> str:
        """Return `archive`."""
        return "archive"

    @property
    def is_rereadable(self) -> bool:
        """Return True."""
        return True

    def holds(self, path: Path) -> bool:
        """Return whether a path leads into the archive."""
        return is_part_of(path, self.path)

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
        has_range = bool(archive.state.end) or view.is_limited_in_time
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
            start=format_minute(window.start) if has_range else None,
            end=format_minute(window.end) if has_range else None,
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


class Delivery(NamedTuple):
    """A file that a connector delivered, in the order of what it holds.

    `start` and `end` are the minutes of the half-open range in its name, rounded outwards; `name` is a path, or
    whatever names an object.
    """

    start: int
    end: int
    number: int
    name: str


def read_delivery_name(name: str) -> Delivery | None:
    """Return what the name of a delivered file or object says; None if it is not named like one."""
    match = _DELIVERY.fullmatch(name.rpartition("/")[2])
    if match is None:
        return None
    try:
        start, end = (datetime.strptime(one, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for one in match.group(1, 2))
    except ValueError:
        return None
    last = floor_minute(end) + (end.second > 0)
    return Delivery(floor_minute(start), max(floor_minute(start), last), int(match[3]), name)


def select_deliveries(deliveries: Iterable[Delivery], start: int | None, end: int | None) -> list[Delivery]:
    """Return, in order, the files that may hold events of the minutes `[start, end)`; None: not limited.

    The range in a name is about when the records arrived, so each file counts for 26 hours before and after it.
    """
    return sorted(
        one
        for one in deliveries
        if (start is None or one.end + _MARGIN_MINUTES > start) and (end is None or one.start - _MARGIN_MINUTES < end)
    )


@dataclass(frozen=True, slots=True)
class ConnectorInput:
    """What a Connector Hub delivered: a folder of files, or the files that a pattern names.

    `deliveries` are those to be read, of `listed`; `start` and `end` are the minutes of event time that are wanted.
    """

    name: str
    path: Path
    deliveries: tuple[Delivery, ...]
    listed: int
    start: int | None = None
    end: int | None = None

    @property
    def file(self) -> None:
        """Return None."""
        return

    @property
    def view(self) -> None:
        """Return None."""
        return

    @property
    def sidecars(self) -> tuple[Path, ...]:
        """Return nothing."""
        return ()

    @property
    def kind(self) -> str:
        """Return `folder`."""
        return "folder"

    @property
    def is_rereadable(self) -> bool:
        """Return True."""
        return True

    def holds(self, path: Path) -> bool:
        """Return whether a path leads into the folder, or to one of the files."""
        return is_part_of(path, self.path) or any(is_same_file(Path(one.name), path) for one in self.deliveries)

    @contextmanager
    def open(
        self, *, needs_origins: bool = False, on_incomplete: Callable[[str], None] = ignore_incomplete
    ) -> Iterator[Records]:
        """Open the files, one after the other, in the order of the ranges in their names."""
        paths = [Path(one.name) for one in self.deliveries]
        with closing(read_files(paths, on_incomplete=on_incomplete)) as sources:
            yield _DeliveredRecords(self, sources)

    def open_origins(self) -> None:
        """Return None: only reading the records tells which of them name their origin."""
        return

    def count_regions(self) -> Counter[str]:
        """Return nothing, as `open_origins`."""
        return Counter()

    def find_notice(self) -> str | None:
        """Return how many files the limits leave out; None if there are none."""
        left_out = self.listed - len(self.deliveries)
        return describe_left_out(self.name, left_out, self.listed) if left_out else None

    def read_facts(self, *, with_digest: bool = False) -> InputFacts:
        """Return that nothing is stated: a connector does not say what it missed."""
        sizes = [_measure(Path(one.name)) for one in self.deliveries] if with_digest else []
        files = format_count(len(self.deliveries), "file")
        return InputFacts(
            name=self.name,
            verdict=judge(None),
            words=("unknown: a connector does not state what it delivered; compare it with an export: reconcile",),
            labels=(("Folder", f"{files} of Connector Hub"),) if with_digest else (),
            size_bytes=sum(sizes),
        )


def describe_left_out(name: str, left_out: int, listed: int) -> str:
    """Return how many of a connector's files are left out by the ranges in their names."""
    return (
        f"{name}: {left_out:,} of {format_count(listed, 'file')} left out: the ranges in their names are "
        f"more than {_MARGIN_MINUTES // 60} hours from the one wanted"
    )


class _DeliveredRecords:
    """The records of a connector's files."""

    def __init__(self, source: ConnectorInput, sources: Iterator[Records]) -> None:
        self._source = source
        self._sources = sources
        self.name = source.name
        self.records = self.with_origin = self._outside = 0
        self.kinds: Counter[str] = Counter()

    @property
    def description(self) -> str:
        words = f"{format_count(len(self._source.deliveries), 'file')} of Connector Hub"
        kinds = [KIND_WORDS[kind] for kind, count in self.kinds.most_common() if count]
        outside = f"; {self._outside:,} more outside the range" if self._outside else ""
        return f"{words}: events {' and '.join(kinds)}{outside}" if kinds else words + outside

    def __iter__(self) -> Iterator[list[Record]]:
        is_limited = self._source.start is not None or self._source.end is not None
        for source in self._sources:
            self.name = source.name
            for batch in source:
                wanted = self._select(batch) if is_limited else batch
                self.records += len(wanted)
                self.with_origin += sum(record.origin is not None for record in wanted)
                if wanted:
                    yield wanted
            self.kinds.update(source.kinds)
        self.name = self._source.name

    def _select(self, batch: list[Record]) -> list[Record]:
        """Return the records in the range, and those whose time cannot be read."""
        try:
            events = parse_page(b"[" + b",".join([record.raw for record in batch]) + b"]")
        except BadPage as error:
            raise UnreadableInput(f"{self.name}: an event cannot be read: {error}") from error
        start, end = self._source.start, self._source.end
        first = b"" if start is None else encode_instant(instant_of_minute(start))
        last = None if end is None else encode_instant(instant_of_minute(end))
        wanted = [
            record
            for record, event in zip(batch, events, strict=True)
            if read_instant_of(event.order) == UNREADABLE_INSTANT
            or (event.order >= first and (last is None or event.order < last))
        ]
        self._outside += len(batch) - len(wanted)
        return wanted


def open_inputs(
    paths: Sequence[Path | None],
    limits: Limits | None = None,
    *,
    now: datetime | None = None,
    find_url: Callable[[Path | None], str] = lambda _: "",
) -> tuple[Input, ...]:
    """Return the inputs that paths name; None is stdin, a folder is an archive or a connector's, and a pattern several.

    Archives are opened. `limits` apply to archives and the folders of connectors; relative times in them refer to
    `now`. `find_url` returns what a path is a copy of; empty for any other.

    Raises:
        UsageError: a path does not exist, a folder is neither, a connector's file is named twice, or there are limits
            that do not apply.
        CorruptRun: an archive is damaged, or of a newer version.
        DiskError: something cannot be read.
    """
    inputs: list[Input] = []
    for path in paths:
        if path is not None and _is_pattern(path):
            inputs += _open_pattern(path, limits or Limits(), now)
        else:
            inputs.append(open_input(path, limits, now=now, url=find_url(path)))
    _check_deliveries(inputs)
    return tuple(inputs)


def expand_path(path: Path) -> list[Path]:
    """Return the files of a connector's folder or of a pattern, in order; for any other path, that path.

    Raises:
        UsageError: the path is an archive.
        UsageError, DiskError: as `open_inputs`.
    """
    if _is_pattern(path):
        return [found for one in _match(path) for found in expand_path(one)]
    is_folder = _is_folder(path)
    if is_folder and _looks_like_archive(path):
        raise UsageError(
            f"{path} is an archive, not a file of events",
            hint=f"write its events to a file first: oci-audit convert {shlex.quote(str(path))} -o events.ndjson.gz",
        )
    return [Path(one.name) for one in list_deliveries(path)] if is_folder else [path]


def list_deliveries(folder: Path) -> list[Delivery]:
    """Return the files that connectors delivered to a folder and the folders below it, in order.

    Hidden files do not count.

    Raises:
        UsageError: there is none, or a file that is not named like one.
        DiskError: a folder cannot be read.
    """
    found: list[Delivery] = []
    others: list[str] = []
    seen: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        current = waiting.pop()
        with explain_disk("look into", current):
            status = current.stat()
            if (status.st_dev, status.st_ino) in seen:  # links that lead back
                continue
            seen.add((status.st_dev, status.st_ino))
            for entry in os.scandir(current):
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                elif (delivery := read_delivery_name(entry.path)) is not None:
                    found.append(delivery)
                else:
                    others.append(entry.path)
        if not found and (len(others) > _MAX_OTHERS or not waiting):
            raise UsageError(
                f"{folder} is a folder, and neither an archive nor one with files of Connector Hub",
                hint=advise_files(folder),
            )
    _reject_others(str(folder), found, others)
    return sorted(found)


def _reject_others(folder: str, found: Sequence[Delivery], others: Sequence[str]) -> None:
    """Refuse a connector's folder that has other files as well: whether they hold events is not known.

    Raises:
        UsageError: there are others.
    """
    if others:
        names = ", ".join(sorted(others)[:_NAMES_SHOWN]) + (", …" if len(others) > _NAMES_SHOWN else "")
        raise UsageError(
            f"{folder} has {format_count(len(found), 'file')} of Connector Hub, and "
            f"{format_count(len(others), 'file')} not named like them: {names}",
            hint="move these elsewhere, or name the files to read",
        )


def _is_pattern(path: Path) -> bool:
    """Return whether a path is a pattern that the shell has left as it is, and not a file of that name."""
    if not _GLOB_CHARACTERS.search(str(path)):
        return False
    with explain_disk("look at", path):
        return not path.exists()


def _match(pattern: Path) -> list[Path]:
    """Return what a pattern names.

    Raises:
        UsageError: nothing.
    """
    found = sorted(glob.glob(str(pattern), recursive=True))  # noqa: PTH207 - Path.glob takes no absolute pattern
    if not found:
        raise UsageError(f"{pattern} matches no file", hint="check the folder and the pattern with: ls")
    return [Path(one) for one in found]


def _open_pattern(pattern: Path, limits: Limits, now: datetime | None) -> list[Input]:
    """Return an input for the delivered files that a pattern names together, and one for anything else."""
    found = _match(pattern)
    files = {path: read_delivery_name(str(path)) for path in found if not path.is_dir()}
    deliveries = [delivery for delivery in files.values() if delivery is not None]
    others = [path for path in found if files.get(path) is None]
    inputs = [open_input(path, limits, now=now) for path in others]
    return [_make_connector_input(str(pattern), deliveries, limits, now), *inputs] if deliveries else inputs


def _make_connector_input(
    name: str, listed: Sequence[Delivery], limits: Limits, now: datetime | None, folder: Path | None = None
) -> ConnectorInput:
    if limits.regions or limits.compartments:
        raise UsageError(
            f"{name} is the folder of a connector, so --region and --compartment do not apply",
            hint="its files do not state where each event is from; --start and --end apply",
        )
    start, end = limits.resolve_times(now=now) if now is not None else (None, None)
    chosen = tuple(select_deliveries(listed, start, end))
    return ConnectorInput(name, folder or Path(listed[0].name), chosen, len(listed), start, end)


def _check_deliveries(inputs: Sequence[Input]) -> None:
    """Check that no file of a connector is in two inputs.

    Raises:
        UsageError: one is.
    """
    if not any(isinstance(one, ConnectorInput) for one in inputs) or len(inputs) < 2:
        return
    seen: dict[str, str] = {}
    for one in inputs:
        names = [one.name for one in one.deliveries] if isinstance(one, ConnectorInput) else [str(one.path)]
        for name in map(os.path.realpath, names):
            if name in seen:
                raise UsageError(f"{name} is in {seen[name]} and in {one.name}", hint="name each file once")
            seen[name] = one.name


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
    if path is not None and _is_pattern(path):
        inputs = _open_pattern(path, limits, now)
        if len(inputs) == 1 and manifest_path is None:
            return inputs[0]
        raise UsageError(f"{path} matches {format_count(len(inputs), 'input')}", hint="name one file or folder")
    if path is None or not _is_folder(path):
        if limits:
            name = url or ("stdin" if path is None else str(path))
            raise UsageError(
                f"{name} is not an archive, so --start, --end, --region and --compartment do not apply",
                hint=_LIMITS_HINT,
            )
        return FileInput(path, manifest_path, url)
    from ociaudit.archive.reader import open_archive

    if not _looks_like_archive(path):
        if manifest_path is not None:
            raise UsageError(f"{path} is a folder, which has no manifest", hint="omit --manifest")
        return _make_connector_input(url or str(path), list_deliveries(path), limits, now, path)
    is_archive_folder(path)
    if manifest_path is not None:
        raise UsageError(f"{path} is an archive, which has no manifest", hint="omit --manifest")
    archive = open_archive(path)
    if not archive.state.sequence:
        raise UsageError(
            f"the archive {path} is empty: its first sync has not committed anything yet",
            hint=f"continue it with: oci-audit sync {shlex.quote(str(path))}",
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
    if not _is_folder(path):
        return False
    from ociaudit.archive.commit_log import ArchiveFolder, is_archive, report_damage

    if is_archive(path):
        return True
    if _has_commits(path):
        raise report_damage(f"{path} has commits, but no {ArchiveFolder(path).header_path.name}", archive=path)
    check_source(path)
    return False


def _is_folder(path: Path) -> bool:
    with explain_disk("look into", path):
        return path.is_dir()


def _looks_like_archive(path: Path) -> bool:
    """Return whether a folder is an archive, or what is left of one."""
    from ociaudit.archive.commit_log import is_archive

    return _has_commits(path) or is_archive(path)


def _has_commits(path: Path) -> bool:
    from ociaudit.archive.commit_log import ArchiveFolder

    folder = ArchiveFolder(path)
    with explain_disk("look into", path):
        return folder.head_path.exists() or (folder.commits.is_dir() and any(folder.commits.iterdir()))


def is_same_file(a: Path, b: Path) -> bool:
    """Return whether two names lead to one file, through links or not."""
    with explain_disk("look at", a):
        return b.exists() and a.samefile(b)


def _measure(path: Path) -> int:
    with explain_disk("look at", path):
        return path.stat().st_size


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


async def list_delivered_objects(store: ObjectStore, url: ObjectUrl) -> list[Delivery]:
    """Return the objects below a URL that connectors delivered, in order; none if nothing below it is named like them.

    Names that end in a slash are the folders of some tools, and do not count.

    Raises:
        UsageError: there are other objects too, or a name that no file below a folder can have.
        OciAuditError: the store cannot be used.
    """
    found: list[Delivery] = []
    others: list[str] = []
    async for name in store.list_names(f"{url.name}/"):
        delivery = read_delivery_name(name)
        parts = name.removeprefix(f"{url.name}/").split("/")
        if delivery is not None and (not name.isprintable() or not {"", ".", ".."}.isdisjoint(parts)):
            raise UsageError(f"{url} has an object whose name is not that of a file: {name!r}", hint="rename it")
        if delivery is not None:
            found.append(delivery)
        elif not name.endswith("/"):
            others.append(name)
    if found:
        _reject_others(str(url), found, others)
    return sorted(found)


async def download_deliveries(store: ObjectStore, url: ObjectUrl, deliveries: Sequence[Delivery], folder: Path) -> None:
    """Copy delivered objects below a URL to a private folder, several at a time, under the names that they have there.

    Raises:
        UnreadableInput, OciAuditError, DiskError: as `download_input`.
    """
    from ociaudit.client.object_storage import for_each

    async def copy(delivery: Delivery) -> None:
        path = folder.joinpath(*delivery.name.removeprefix(f"{url.name}/").split("/"))
        place = replace(url, name=delivery.name)
        facts = await store.head(place.name)
        if facts is None:
            raise UnreadableInput(f"{place} was removed while {url} was read", hint="run the same command again")
        make_private_folders(path.parent)
        await _download(store, place, facts, path)

    await for_each(deliveries, copy)


async def _download(store: ObjectStore, url: ObjectUrl, facts: ObjectFacts, path: Path) -> None:
    import asyncio

    from ociaudit.client.object_storage import read_whole

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
