"""The ledger: the journal of a finished run as it is published, without tokens, and what belongs to the output's bytes.

`make_ledger` turns journal lines into one `ShardLine` per shard and sums them up in `LedgerTotals`; `BlockDigest`
hashes the output and makes the `BlockLine`s that follow them in the file; `OriginRecorder` packs the origin of every
written event into `OriginLine`s, which come last, so that events stay as served; `open_origins` reads them.

Where many tasks fetch parts of one plan, each writes an `Attempt` into a file of its own; `join_attempts` makes one of
those at the same part.

Invariants
- Every shard that was requested has one line for each time it was answered or given up.
- The totals count pages that are in the log and not void.
- Only the shards that are still open are in memory.
- A file of an attempt is whole, or it is refused. Of several attempts at a part, only what all were answered counts.
"""

from __future__ import annotations

import hashlib
import sys
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec
import zstandard

from ociaudit.errors import CorruptRun
from ociaudit.planning.shard import (
    CONFIRMING_ATTEMPT,
    SETTLE_MINUTES,
    Coverage,
    Gap,
    Shard,
    Target,
    Window,
    format_minute,
    parse_minute,
)
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.journal import GapLine, JournalLine, PageLine, RunLine, SplitLine, VoidLine
from ociaudit.storage.manifest import Manifest, load_manifest, name_ledger, name_manifest
from ociaudit.storage.verdict import Verdict, VerdictKind, is_described

_ORIGINS_PER_LINE = 65_536
_ORIGIN_LEVEL = 3
_ORIGIN_START = b'{"kind":"origins"'
_TYPECODES: dict[int, str] = {1: "B", 2: "H", 4: "I"}
ATTEMPT_SCHEMA = "oci-audit-attempt/1"
BLOCK_BYTES = 8 * 1024 * 1024
_MAX_UNLISTED = 1_000


class ShardLine(msgspec.Struct, frozen=True, kw_only=True, tag="shard", tag_field="kind"):
    """What became of one shard; a shard that was fetched twice, to confirm that it is empty, has two lines.

    `split`: the shard was dense and its sub-shards, which have lines of their own, replaced it; what it had returned
    before is kept. Earlier versions wrote `cut` instead. `begun`: the shard never ended.
    """

    region: str
    compartment: str
    start: str
    end: str
    status: Literal["complete", "provisional", "split", "cut", "denied", "failed", "begun"]
    events: int = 0
    pages: int = 0
    tries: int = msgspec.field(default=0, name="attempts")
    """How many requests the pages took, retries included."""
    request_ids: tuple[str, ...] = ()
    first_at: str | None = None
    last_at: str | None = None
    reason: str | None = None


class BlockLine(msgspec.Struct, frozen=True, tag="block", tag_field="kind"):
    """The hash of the output from its first byte to the end of a block.

    Damage begins in the first block whose hash differs.
    """

    end: int
    sha256: str


class OriginLine(msgspec.Struct, frozen=True, tag="origins", tag_field="kind"):
    """The origins of the next `events` events of the output.

    `data` is base64 of zstd of one unsigned little-endian number of `width` bytes for each: the index of its target in
    the manifest's `coverage`.
    """

    count: int
    width: Literal[1, 2, 4]
    data: bytes


LedgerLine = ShardLine | BlockLine | OriginLine
_origin_decoder = msgspec.json.Decoder(OriginLine)


class OriginRecorder:
    """Packs the origins of an output's events into lines, given in the order of the events."""

    def __init__(self) -> None:
        """Start without events."""
        self._pending = array("I")
        self._lines: list[OriginLine] = []

    def add(self, numbers: Sequence[int]) -> None:
        """Add the numbers of the next events' targets."""
        self._pending.extend(numbers)
        if len(self._pending) >= _ORIGINS_PER_LINE:
            self._pack()

    def finish(self) -> tuple[OriginLine, ...]:
        """Return all lines; nothing may be added afterwards."""
        if self._pending:
            self._pack()
        return tuple(self._lines)

    def _pack(self) -> None:
        most = max(self._pending)
        width: Literal[1, 2, 4] = 1 if most < 1 << 8 else 2 if most < 1 << 16 else 4
        numbers = array(_TYPECODES[width], self._pending)
        if sys.byteorder == "big":
            numbers.byteswap()
        self._lines.append(OriginLine(len(numbers), width, zstandard.compress(numbers.tobytes(), _ORIGIN_LEVEL)))
        self._pending = array("I")


def unpack_origins(line: OriginLine) -> array[int]:
    """Return the numbers in a line.

    Raises:
        ValueError: the line does not hold as many as it states.
    """
    size = line.count * line.width
    numbers = array(_TYPECODES[line.width], zstandard.decompress(line.data, max_output_size=size))
    if sys.byteorder == "big":
        numbers.byteswap()
    if len(numbers) != line.count:
        raise ValueError("the line has another number of origins than it states")
    return numbers


def find_ledger(output: Path, manifest: Manifest, *, manifest_path: Path | None = None) -> Path | None:
    """Return the ledger that a manifest names, beside the output or beside the manifest; None if there is none."""
    name = manifest.ledger.name
    if not name or name != Path(name).name:
        return None
    candidates = (output.with_name(name), (manifest_path or output).with_name(name), name_ledger(output))
    return next((path for path in candidates if path.is_file()), None)


def open_origins(output: Path) -> Iterator[Target] | None:
    """Return the origins of an export's events in their order, from the ledger beside it; None if they are not known.

    They are known if manifest and ledger are beside the output, and neither they nor the output were altered: else the
    first events would get the origins of others.

    Raises:
        DiskError: a file cannot be read.
    """
    try:
        found = load_manifest(name_manifest(output))
    except CorruptRun:
        return None
    path = find_ledger(output, found.manifest) if found is not None and found.has_own_digest else None
    if found is None or path is None:
        return None
    with explain_disk("read", path):
        if not output.is_file():
            return None
        manifest = found.manifest
        if path.stat().st_size != manifest.ledger.size_bytes or not is_described(output, manifest):
            return None
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != manifest.ledger.sha256:
                return None
            file.seek(0)
            try:
                stated = sum(_origin_decoder.decode(line).count for line in file if line.startswith(_ORIGIN_START))
            except msgspec.MsgspecError:
                return None
    targets = [covered.target for covered in manifest.coverage]
    return _read_origins(path, targets) if stated and stated == manifest.totals.written else None


def _read_origins(path: Path, targets: Sequence[Target]) -> Iterator[Target]:
    with explain_disk("read", path), path.open("rb") as file:
        for raw in file:
            if raw.startswith(_ORIGIN_START):
                yield from map(targets.__getitem__, unpack_origins(_origin_decoder.decode(raw)))


class BlockDigest:
    """Hashes the bytes of an output and records the hash at the end of each block of 8 MiB."""

    def __init__(self) -> None:
        """Start with no bytes."""
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._blocks: list[BlockLine] = []

    def update(self, data: bytes) -> None:
        """Add the next bytes."""
        view = memoryview(data)
        while view:
            piece = view[: BLOCK_BYTES - self.size_bytes % BLOCK_BYTES]
            self._digest.update(piece)
            self.size_bytes += len(piece)
            view = view[len(piece) :]
            if self.size_bytes % BLOCK_BYTES == 0:
                self._blocks.append(BlockLine(self.size_bytes, self.sha256))

    def finish(self) -> tuple[BlockLine, ...]:
        """Return the lines of all blocks; nothing may be added afterwards."""
        if self.size_bytes % BLOCK_BYTES:
            self._blocks.append(BlockLine(self.size_bytes, self.sha256))
        return tuple(self._blocks)

    @property
    def sha256(self) -> str:
        """Return the hash of all bytes so far, in hexadecimal."""
        return self._digest.hexdigest()


@dataclass(slots=True)
class LedgerTotals:
    """Sums over a journal."""

    scanned: int = 0
    kept: int = 0
    outside: int = 0
    pages: int = 0
    requests: int = 0
    shards: int = 0
    """Shards that were answered, provisional ones included."""
    refetched: int = 0
    """Kept events that were requested again: of shards that were split or started over, or requested too soon."""
    confirmed: int = 0
    """Shards that were fetched again to confirm that they are empty."""
    provisional: list[ShardLine] = field(default_factory=list)
    """What is still provisional at the end of the journal: no minute of a target twice."""
    tally: Counter[str] = field(default_factory=Counter)
    unlisted: dict[str, str] = field(default_factory=dict)
    """About the first thousand compartments that occur in events but not in the listing, and a name that one states."""
    asked_by: set[tuple[str, str | None]] = field(default_factory=set)
    """Principal and key fingerprint of every run and resumption."""


def find_void_lines(lines: Iterable[JournalLine]) -> set[int]:
    """Return the positions of the page lines that a later line makes void.

    A position identifies a page; an offset does not, because it is used again after the log was truncated.
    """
    current: dict[int, int] = {}
    void: set[int] = set()
    for position, line in enumerate(lines):
        if isinstance(line, PageLine):
            current[line.offset] = position
        elif isinstance(line, VoidLine) and line.offset in current:
            void.add(current.pop(line.offset))
    return void


def make_ledger(lines: Iterable[JournalLine], void: set[int], totals: LedgerTotals) -> Iterator[ShardLine]:
    """Yield a line per shard as it ends in the journal, then one per shard that never ended; fill `totals`.

    `void` are the positions of page lines to skip, as `find_void_lines` returns them.
    """
    open_shards: dict[Shard, _OpenShard] = {}
    provisional = _ProvisionalShards()
    for position, line in enumerate(lines):
        if isinstance(line, PageLine) and position not in void:
            _add_page(totals, line)
            shard = open_shards.get(line.shard) or open_shards.setdefault(line.shard, _OpenShard(line))
            is_next = shard.add(line)
            provisional.record_page(line)
            if line.is_last and is_next:  # otherwise a page before it is void, and the shard was fetched again
                totals.confirmed += line.attempt >= CONFIRMING_ATTEMPT
                totals.shards += 1
                is_provisional = provisional.is_provisional(line)
                ended = open_shards.pop(line.shard)
                totals.refetched += ended.kept - ended.count_kept(line.attempt)
                entry = ended.close("provisional" if is_provisional else "complete")
                provisional.record_end(line, entry, ended.count_kept(line.attempt))
                yield entry
        elif isinstance(line, SplitLine):
            if line.shard in open_shards:  # otherwise its pages are void
                totals.refetched += open_shards[line.shard].kept
                yield open_shards.pop(line.shard).close("split")
        elif isinstance(line, RunLine):
            totals.asked_by.add((line.principal, line.key_fingerprint))
        elif isinstance(line, GapLine):
            yield _describe_gap(line.gap, line.at)
    totals.provisional, refetched = provisional.list_unsettled()
    totals.refetched += refetched
    for unfinished in open_shards.values():
        yield unfinished.close("begun")


def _add_page(totals: LedgerTotals, line: PageLine) -> None:
    totals.scanned += line.scanned
    totals.kept += line.kept
    totals.outside += line.outside
    totals.pages += 1
    totals.requests += line.tries
    if len(totals.unlisted) < _MAX_UNLISTED:
        for compartment in line.unlisted:
            totals.unlisted[compartment] = totals.unlisted.get(compartment) or line.unlisted_names.get(compartment, "")
    if line.tally:
        totals.tally.update(line.tally)


class _OpenShard:
    """Sums over the pages of a shard that has not ended yet."""

    def __init__(self, first: PageLine) -> None:
        self._first = first
        self._events = self._pages = self._tries = 0
        self._request_ids: list[str] = []
        self._kept: Counter[int] = Counter()
        """The events of each attempt that passed the filter."""
        self._reached: dict[int, int] = {}
        """The last page of each attempt."""
        self._last_at = first.at

    @property
    def kept(self) -> int:
        return self._kept.total()

    def count_kept(self, attempt: int) -> int:
        return self._kept[attempt]

    def add(self, line: PageLine) -> bool:
        """Add a page; return whether no page before it in its attempt is missing."""
        self._events += line.scanned
        self._kept[line.attempt] += line.kept
        self._pages += 1
        self._tries += line.tries
        self._last_at = line.at
        if line.request_id:
            self._request_ids.append(line.request_id)
        if line.page > self._reached.get(line.attempt, 0) + 1:
            return False
        self._reached[line.attempt] = line.page
        return True

    def close(self, status: Literal["begun", "complete", "split", "provisional"]) -> ShardLine:
        return ShardLine(
            **_identify_shard(self._first.shard),
            status=status,
            events=self._events,
            pages=self._pages,
            tries=self._tries,
            request_ids=tuple(self._request_ids),
            first_at=self._first.at,
            last_at=self._last_at,
        )


class _ProvisionalShards:
    """The shards that were fetched too soon after their end, and not again later."""

    def __init__(self) -> None:
        self._fetched_too_soon: set[tuple[Shard, int]] = set()
        self._ended: list[tuple[Shard, ShardLine, int]] = []
        """Each with its entry and its kept events, in the order in which they ended."""
        self._settled: dict[Target, Coverage] = {}

    def record_page(self, line: PageLine) -> None:
        if line.is_provisional:
            self._fetched_too_soon.add((line.shard, line.attempt))
        elif line.page == 1:  # the attempt starts again from its first page
            self._fetched_too_soon.discard((line.shard, line.attempt))

    def is_provisional(self, line: PageLine) -> bool:
        return (line.shard, line.attempt) in self._fetched_too_soon

    def record_end(self, line: PageLine, entry: ShardLine, kept: int) -> None:
        if entry.status == "provisional":
            self._ended.append((line.shard, entry, kept))
        else:
            self._settled.setdefault(line.shard.target, Coverage()).add(line.shard.window)

    def list_unsettled(self) -> tuple[list[ShardLine], int]:
        """Return what nothing later covers, and the events of shards that later ones cover wholly.

        A run that is resumed requests provisional minutes again, often in other windows: the latest request counts.
        """
        found: list[ShardLine] = []
        refetched = 0
        known = {target: Coverage(coverage.windows) for target, coverage in self._settled.items()}
        for shard, entry, kept in reversed(self._ended):
            coverage = known.setdefault(shard.target, Coverage())
            parts = coverage.find_missing(shard.window)
            refetched += 0 if parts else kept
            coverage.add(shard.window)
            for part in parts:
                ends = {"start": format_minute(part.start), "end": format_minute(part.end)}
                found.append(msgspec.structs.replace(entry, **ends))
        return found[::-1], refetched


def _describe_gap(gap: Gap, at: str) -> ShardLine:
    return ShardLine(
        **_identify_shard(Shard(gap.target, gap.window)),
        status=gap.kind,
        request_ids=(gap.request_id,) if gap.request_id else (),
        last_at=at,
        reason=gap.reason,
    )


def _identify_shard(shard: Shard) -> dict[str, Any]:
    return {
        "region": shard.target.region,
        "compartment": shard.target.compartment,
        "start": format_minute(shard.window.start),
        "end": format_minute(shard.window.end),
    }


class AttemptLine(msgspec.Struct, frozen=True, kw_only=True, tag="attempt", tag_field="kind"):
    """The first line of an attempt's file: which part of which plan was finished, and when it was begun.

    `run` is the same for every plan of the same rows, `named_end` the end of the range as typed; `retention_days` is
    the retention period, where the range begins before it.
    """

    schema: str = ATTEMPT_SCHEMA
    run: str
    plan: str
    planned_at: str
    part: int
    parts: int
    tenancy: str
    start: str
    end: str
    named_end: str
    retention_days: int | None
    asked_at: str
    events: int


class WindowLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="window", tag_field="kind"):
    """A window of a target, and how it ended; only an answered one has no reason."""

    region: str
    compartment: str
    path: str | None = None
    start: str
    end: str
    status: Literal["answered", "denied", "failed"]
    reason: str | None = None
    request_id: str | None = None

    @property
    def target(self) -> Target:
        """Return the region and compartment."""
        return Target(self.region, self.compartment)

    @property
    def window(self) -> Window:
        """Return the parsed window."""
        return Window(parse_minute(self.start), parse_minute(self.end))

    def move(self, window: Window) -> WindowLine:
        """Return this line for another window."""
        return msgspec.structs.replace(self, start=format_minute(window.start), end=format_minute(window.end))


class AttemptEnd(msgspec.Struct, frozen=True, tag="end", tag_field="kind"):
    """The last line of an attempt's file."""

    windows: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the file of an attempt states."""

    head: AttemptLine
    windows: tuple[WindowLine, ...]


_attempt_decoder = msgspec.json.Decoder(AttemptLine | WindowLine | AttemptEnd)


def list_windows(parts: Mapping[Target, Coverage], gaps: Iterable[Gap], paths: Mapping[str, str]) -> list[WindowLine]:
    """Return a line for each gap, and for what else was requested; `paths` are those of compartments by OCID."""
    by_target: dict[Target, list[Gap]] = {}
    for gap in gaps:
        by_target.setdefault(gap.target, []).append(gap)
    lines: list[WindowLine] = []
    for target, requested in parts.items():
        line = WindowLine(
            region=target.region,
            compartment=target.compartment,
            path=paths.get(target.compartment),
            start="",
            end="",
            status="answered",
        )
        missing = by_target.get(target, [])
        unanswered = Coverage(gap.window for gap in missing)
        lines += [line.move(part) for window in requested.windows for part in unanswered.find_missing(window)]
        for gap in missing:
            failed = msgspec.structs.replace(line, status=gap.kind, reason=gap.reason, request_id=gap.request_id)
            lines.append(failed.move(gap.window))
    return lines


def encode_attempt(head: AttemptLine, windows: Sequence[WindowLine]) -> bytes:
    """Return the file of an attempt."""
    return msgspec.json.Encoder().encode_lines([head, *windows, AttemptEnd(len(windows))])


def read_attempt(path: Path) -> Attempt:
    """Read the file of an attempt.

    Raises:
        CorruptRun: it is not whole, or was written by a newer version.
        DiskError: it cannot be read.
    """
    hint = "remove the file, and read its range again: what it stated is not known"
    with explain_disk("read", path):
        data = path.read_bytes()
    try:
        lines = _attempt_decoder.decode_lines(data)
        windows = tuple(line for line in lines[1:-1] if isinstance(line, WindowLine))
        for line in windows:
            _ = line.window
    except (msgspec.MsgspecError, RecursionError, ValueError) as error:
        raise CorruptRun(f"{path} is not the ledger of a task: {error}", hint=hint) from error
    head, end = (lines[0], lines[-1]) if lines else (None, None)
    if not isinstance(head, AttemptLine) or not isinstance(end, AttemptEnd) or end.windows != len(windows):
        raise CorruptRun(f"{path} is not complete", hint=hint)
    if head.schema != ATTEMPT_SCHEMA:
        raise CorruptRun(
            f"{path} has the format {head.schema!r}; this version of oci-audit reads {ATTEMPT_SCHEMA!r}",
            hint="read it with the version that wrote it",
        )
    return Attempt(head, windows)


def join_attempts(attempts: Sequence[Attempt]) -> tuple[WindowLine, ...]:
    """Return what every attempt at a part was answered, and the gaps of all of them, each minute once."""
    unanswered: dict[Target, Coverage] = {}
    joined: list[WindowLine] = []
    for line in (line for one in attempts for line in one.windows if line.status != "answered"):
        known = unanswered.setdefault(line.target, Coverage())
        joined += [line.move(part) for part in known.find_missing(line.window)]
        known.add(line.window)
    for line in (line for line in attempts[0].windows if line.status == "answered"):
        known = unanswered.get(line.target, Coverage())
        joined += [line.move(part) for part in known.find_missing(line.window)]
    return tuple(joined)


def split_final(window: Window, asked_at: int) -> Iterator[tuple[Window, bool]]:
    """Yield the parts of a window that were final, and those that were not, when they were requested."""
    settled = min(max(window.start, asked_at - SETTLE_MINUTES), window.end)
    if window.start < settled:
        yield Window(window.start, settled), True
    if settled < window.end:
        yield Window(settled, window.end), False


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What all tasks of one plan were answered, by the number of the part; no task reported the `missing` parts.

    `asked_at` is the minute at which a part was begun.
    """

    head: AttemptLine
    asked_at: Mapping[int, int]
    windows: Mapping[int, tuple[WindowLine, ...]]
    missing: tuple[int, ...]

    @classmethod
    def of(cls, attempts: Sequence[Attempt]) -> TaskRun:
        """Return the run of these attempts; of a batch that was planned again, only the newest plan counts."""
        newest = max(attempts, key=lambda one: (one.head.planned_at, one.head.plan)).head
        by_part: dict[int, list[Attempt]] = {}
        for one in attempts:
            if one.head.plan == newest.plan:
                by_part.setdefault(one.head.part, []).append(one)
        return cls(
            newest,
            {number: min(parse_minute(one.head.asked_at) for one in some) for number, some in by_part.items()},
            {number: join_attempts(some) for number, some in sorted(by_part.items())},
            tuple(number for number in range(newest.parts) if number not in by_part),
        )

    def judge(self) -> Verdict:
        """Return the verdict on the run."""
        head = self.head
        lines = [(line, self.asked_at[number]) for number, some in self.windows.items() for line in some]
        gaps = [line for line, _ in lines if line.status != "answered"]
        provisional = [
            part
            for line, asked_at in lines
            if line.status == "answered"
            for part, is_final in split_final(line.window, asked_at)
            if not is_final
        ]
        end, named_end = parse_minute(head.end), parse_minute(head.named_end)
        is_final = not provisional and named_end <= end
        kind = VerdictKind.COMPLETE if is_final else VerdictKind.COMPLETE_SO_FAR
        first = min([end, *(part.start for part in provisional)])
        last = max([named_end, *(part.end for part in provisional)]) + SETTLE_MINUTES
        return Verdict(
            kind=VerdictKind.INCOMPLETE if gaps or self.missing else kind,
            targets=len({line.target for line, _ in lines}),
            gaps=len(gaps),
            unrequested=len(self.missing),
            targets_with_gaps=len({line.target for line in gaps}),
            provisional=len(provisional),
            start=head.start,
            end=head.end,
            named_end=head.named_end,
            final_until=None if is_final else format_minute(first),
            final_from=None if is_final else format_minute(last),
            retention_days=head.retention_days,
        )
