"""The ledger: the final journal, one line per shard, without tokens; and the hashes of the output's blocks.

Owns: the form of its lines and the totals over them. Must not: keep more than the open shards in memory.

Invariants
- Every shard that was asked stands in it once for each time it was answered or given up.
- Its totals count pages that are in the log and not void.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import CONFIRMING_CHAIN, Gap, Place, Shard
from ociaudit.plan.window import format_minute
from ociaudit.store.journal import GapLine, JournalLine, PageLine, VoidLine


class ShardLine(msgspec.Struct, frozen=True, kw_only=True, tag="shard", tag_field="kind"):
    """What became of one shard; a shard that was asked twice, to confirm that it is empty, has two lines."""

    region: str
    compartment: str
    start: str
    end: str
    status: Literal["complete", "provisional", "denied", "failed", "begun"]
    events: int = 0
    pages: int = 0
    attempts: int = 0
    request_ids: tuple[str, ...] = ()
    first_at: str | None = None
    last_at: str | None = None
    reason: str | None = None


class BlockLine(msgspec.Struct, frozen=True, tag="block", tag_field="kind"):
    """The hash of one block of the output, so that damage can be located."""

    offset: int
    length: int
    sha256: str


LedgerLine = ShardLine | BlockLine
BLOCK_BYTES = 8 * 1024 * 1024


class BlockDigest:
    """Hashes bytes as they come, as a whole and block by block."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.size_bytes = 0
        self._whole = hashlib.sha256()
        self._block = hashlib.sha256()
        self._begun_at = 0
        self._blocks: list[BlockLine] = []

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        self._whole.update(data)
        view = memoryview(data)
        while view:
            piece = view[: self._begun_at + BLOCK_BYTES - self.size_bytes]
            self._block.update(piece)
            self.size_bytes += len(piece)
            view = view[len(piece) :]
            if self.size_bytes == self._begun_at + BLOCK_BYTES:
                self._end_block()

    def finish(self) -> tuple[BlockLine, ...]:
        """Return the blocks' lines; nothing may come after."""
        if self.size_bytes > self._begun_at:
            self._end_block()
        return tuple(self._blocks)

    @property
    def sha256(self) -> str:
        """Return the hash of all bytes taken."""
        return self._whole.hexdigest()

    def _end_block(self) -> None:
        length = self.size_bytes - self._begun_at
        self._blocks.append(BlockLine(self._begun_at, length, self._block.hexdigest()))
        self._begun_at = self.size_bytes
        self._block = hashlib.sha256()


@dataclass(slots=True)
class LedgerTotals:
    """Sums over a journal."""

    scanned: int = 0
    kept: int = 0
    pages: int = 0
    requests: int = 0
    shards: int = 0
    confirmed: int = 0
    provisional: list[ShardLine] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    unlisted: set[str] = field(default_factory=set)


def find_void_lines(lines: Iterable[JournalLine]) -> set[int]:
    """Return the positions of the page lines that a later line made void.

    A page's offset may be used again after the log was cut, so the position of the line is what counts.
    """
    standing: dict[int, int] = {}
    void: set[int] = set()
    for position, line in enumerate(lines):
        if isinstance(line, PageLine):
            standing[line.offset] = position
        elif isinstance(line, VoidLine) and line.offset in standing:
            void.add(standing.pop(line.offset))
    return void


def make_ledger(lines: Iterable[JournalLine], void: set[int], totals: LedgerTotals) -> Iterator[ShardLine]:
    """Yield a line per shard as it ends in the journal, then those that never ended; fill `totals`."""
    open_shards: dict[Shard, _OpenShard] = {}
    provisional = _ProvisionalShards()
    for position, line in enumerate(lines):
        if isinstance(line, PageLine) and position not in void:
            _add_page(totals, line)
            open_shards.setdefault(line.shard, _OpenShard(line)).add(line)
            provisional.note_page(line)
            if line.is_last:
                totals.confirmed += line.chain >= CONFIRMING_CHAIN
                totals.shards += 1
                is_provisional = provisional.is_asked_too_soon(line)
                entry = open_shards.pop(line.shard).close("provisional" if is_provisional else "complete")
                provisional.note_end(line, entry)
                yield entry
        elif isinstance(line, GapLine):
            yield _describe_gap(line.gap, line.at)
    totals.provisional = provisional.list_standing()
    for shard in open_shards.values():
        yield shard.close("begun")


class _ProvisionalShards:
    """Which shards were asked too soon after their end, and not again later."""

    def __init__(self) -> None:
        self._asked_too_soon: set[tuple[Shard, int]] = set()
        self._ended: dict[Shard, ShardLine] = {}
        self._settled: dict[Place, Coverage] = {}

    def note_page(self, line: PageLine) -> None:
        if line.is_provisional:
            self._asked_too_soon.add((line.shard, line.chain))
        elif line.page == 1:  # asked again, from its beginning
            self._asked_too_soon.discard((line.shard, line.chain))

    def is_asked_too_soon(self, line: PageLine) -> bool:
        return (line.shard, line.chain) in self._asked_too_soon

    def note_end(self, line: PageLine, entry: ShardLine) -> None:
        if entry.status == "provisional":
            self._ended[line.shard] = entry
        else:
            self._settled.setdefault(line.shard.place, Coverage()).add(line.shard.window)

    def list_standing(self) -> list[ShardLine]:
        return [
            entry
            for shard, entry in self._ended.items()
            if shard.place not in self._settled or self._settled[shard.place].find_missing(shard.window)
        ]


def _add_page(totals: LedgerTotals, line: PageLine) -> None:
    totals.scanned += line.scanned
    totals.kept += line.kept
    totals.pages += 1
    totals.requests += line.attempts
    totals.unlisted.update(line.unlisted)
    if line.tally:
        totals.tally.update(line.tally)


class _OpenShard:
    """A shard's line while its pages are still being read."""

    def __init__(self, first: PageLine) -> None:
        self._first = first
        self._events = self._pages = self._attempts = 0
        self._request_ids: list[str] = []
        self._last_at = first.at

    def add(self, line: PageLine) -> None:
        self._events += line.scanned
        self._pages += 1
        self._attempts += line.attempts
        self._last_at = line.at
        if line.request_id:
            self._request_ids.append(line.request_id)

    def close(self, status: Literal["begun", "complete", "provisional"]) -> ShardLine:
        return ShardLine(
            **_name_shard(self._first.shard),
            status=status,
            events=self._events,
            pages=self._pages,
            attempts=self._attempts,
            request_ids=tuple(self._request_ids),
            first_at=self._first.at,
            last_at=self._last_at,
        )


def _describe_gap(gap: Gap, at: str) -> ShardLine:
    return ShardLine(
        **_name_shard(Shard(gap.place, gap.window)),
        status=gap.kind,
        request_ids=(gap.request_id,) if gap.request_id else (),
        last_at=at,
        reason=gap.reason,
    )


def _name_shard(shard: Shard) -> dict[str, Any]:
    return {
        "region": shard.place.region,
        "compartment": shard.place.compartment,
        "start": format_minute(shard.window.start),
        "end": format_minute(shard.window.end),
    }
