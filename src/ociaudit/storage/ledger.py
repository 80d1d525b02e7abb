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

from ociaudit.planning.shard import CONFIRMING_ATTEMPT, Gap, Shard, Target
from ociaudit.planning.window import Coverage, format_minute
from ociaudit.storage.journal import GapLine, JournalLine, PageLine, RunLine, SplitLine, VoidLine


class ShardLine(msgspec.Struct, frozen=True, kw_only=True, tag="shard", tag_field="kind"):
    """What became of one shard; a shard that was asked twice, to confirm that it is empty, has two lines.

    `cut`: it was dense, and is asked in pieces, which have lines of their own; what had come of it is kept.
    """

    region: str
    compartment: str
    start: str
    end: str
    status: Literal["complete", "provisional", "cut", "denied", "failed", "begun"]
    events: int = 0
    pages: int = 0
    attempts: int = 0
    request_ids: tuple[str, ...] = ()
    first_at: str | None = None
    last_at: str | None = None
    reason: str | None = None


class BlockLine(msgspec.Struct, frozen=True, tag="block", tag_field="kind"):
    """The hash of all of the output up to the end of a block: the first that differs tells where damage begins."""

    end: int
    sha256: str


LedgerLine = ShardLine | BlockLine
BLOCK_BYTES = 8 * 1024 * 1024
_MAX_UNLISTED = 1_000


class BlockDigest:
    """Hashes bytes as they come, and notes the hash so far at the end of each block."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.size_bytes = 0
        self._digest = hashlib.sha256()
        self._blocks: list[BlockLine] = []

    def update(self, data: bytes) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        while view:
            piece = view[: BLOCK_BYTES - self.size_bytes % BLOCK_BYTES]
            self._digest.update(piece)
            self.size_bytes += len(piece)
            view = view[len(piece) :]
            if self.size_bytes % BLOCK_BYTES == 0:
                self._blocks.append(BlockLine(self.size_bytes, self.sha256))

    def finish(self) -> tuple[BlockLine, ...]:
        """Return the blocks' lines; nothing may come after."""
        if self.size_bytes % BLOCK_BYTES:
            self._blocks.append(BlockLine(self.size_bytes, self.sha256))
        return tuple(self._blocks)

    @property
    def sha256(self) -> str:
        """Return the hash of all bytes taken so far."""
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
    confirmed: int = 0
    provisional: list[ShardLine] = field(default_factory=list)
    tally: Counter[str] = field(default_factory=Counter)
    unlisted: set[str] = field(default_factory=set)
    asked_by: set[tuple[str, str | None]] = field(default_factory=set)


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
            shard = open_shards.get(line.shard) or open_shards.setdefault(line.shard, _OpenShard(line))
            is_next = shard.add(line)
            provisional.record_page(line)
            if line.is_last and is_next:  # else a page before it was found damaged, and the shard was asked again
                totals.confirmed += line.chain >= CONFIRMING_ATTEMPT
                totals.shards += 1
                is_provisional = provisional.is_asked_too_soon(line)
                entry = open_shards.pop(line.shard).close("provisional" if is_provisional else "complete")
                provisional.record_end(line, entry)
                yield entry
        elif isinstance(line, SplitLine):
            if line.shard in open_shards:  # else its pages were found damaged
                yield open_shards.pop(line.shard).close("cut")
        elif isinstance(line, RunLine):
            totals.asked_by.add((line.principal, line.key_fingerprint))
        elif isinstance(line, GapLine):
            yield _describe_gap(line.gap, line.at)
    totals.provisional = provisional.list_standing()
    for left in open_shards.values():
        yield left.close("begun")


class _ProvisionalShards:
    """Which shards were asked too soon after their end, and not again later."""

    def __init__(self) -> None:
        self._asked_too_soon: set[tuple[Shard, int]] = set()
        self._ended: dict[Shard, ShardLine] = {}
        self._settled: dict[Target, Coverage] = {}

    def record_page(self, line: PageLine) -> None:
        if line.is_provisional:
            self._asked_too_soon.add((line.shard, line.chain))
        elif line.page == 1:  # asked again, from its beginning
            self._asked_too_soon.discard((line.shard, line.chain))

    def is_asked_too_soon(self, line: PageLine) -> bool:
        return (line.shard, line.chain) in self._asked_too_soon

    def record_end(self, line: PageLine, entry: ShardLine) -> None:
        if entry.status == "provisional":
            self._ended[line.shard] = entry
        else:
            self._settled.setdefault(line.shard.target, Coverage()).add(line.shard.window)

    def list_standing(self) -> list[ShardLine]:
        return [
            entry
            for shard, entry in self._ended.items()
            if shard.target not in self._settled or self._settled[shard.target].find_missing(shard.window)
        ]


def _add_page(totals: LedgerTotals, line: PageLine) -> None:
    totals.scanned += line.scanned
    totals.kept += line.kept
    totals.outside += line.outside
    totals.pages += 1
    totals.requests += line.attempts
    if len(totals.unlisted) < _MAX_UNLISTED:
        totals.unlisted.update(line.unlisted)
    if line.tally:
        totals.tally.update(line.tally)


class _OpenShard:
    """A shard's line while its pages are still being read."""

    def __init__(self, first: PageLine) -> None:
        self._first = first
        self._events = self._pages = self._attempts = 0
        self._request_ids: list[str] = []
        self._reached: dict[int, int] = {}
        self._last_at = first.at

    def add(self, line: PageLine) -> bool:
        """Take a page, and tell whether no page before it in its chain is missing."""
        self._events += line.scanned
        self._pages += 1
        self._attempts += line.attempts
        self._last_at = line.at
        if line.request_id:
            self._request_ids.append(line.request_id)
        reached = self._reached.get(line.chain, 0)
        if line.page > reached + 1:
            return False
        self._reached[line.chain] = line.page
        return True

    def close(self, status: Literal["begun", "complete", "cut", "provisional"]) -> ShardLine:
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
        **_name_shard(Shard(gap.target, gap.window)),
        status=gap.kind,
        request_ids=(gap.request_id,) if gap.request_id else (),
        last_at=at,
        reason=gap.reason,
    )


def _name_shard(shard: Shard) -> dict[str, Any]:
    return {
        "region": shard.target.region,
        "compartment": shard.target.compartment,
        "start": format_minute(shard.window.start),
        "end": format_minute(shard.window.end),
    }
