"""The ledger: the final journal, one line per shard, without tokens.

Owns: the form of its lines and the totals over them. Must not: keep more than the open shards in memory.

Invariants
- Every shard that was asked stands in it once for each time it was answered or given up.
- Its totals count pages that are in the log and not void.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from ociaudit.plan.shard import Gap, Shard
from ociaudit.plan.window import format_minute
from ociaudit.store.journal import GapLine, JournalLine, PageLine, VoidLine


class LedgerLine(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one shard."""

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


@dataclass(slots=True)
class LedgerTotals:
    """Sums over a journal."""

    scanned: int = 0
    kept: int = 0
    pages: int = 0
    requests: int = 0
    shards: int = 0
    provisional: list[LedgerLine] = field(default_factory=list)
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


def make_ledger(lines: Iterable[JournalLine], void: set[int], totals: LedgerTotals) -> Iterator[LedgerLine]:
    """Yield a line per shard as it ends in the journal, then those that never ended; fill `totals`."""
    open_shards: dict[Shard, LedgerLine] = {}
    for position, line in enumerate(lines):
        if isinstance(line, PageLine) and position not in void:
            _add_page(totals, line)
            entry = _extend(open_shards.get(line.shard), line)
            if line.is_last:
                open_shards.pop(line.shard, None)
                totals.shards += 1
                if line.is_provisional:
                    totals.provisional.append(entry)
                yield entry
            else:
                open_shards[line.shard] = entry
        elif isinstance(line, GapLine):
            yield _describe_gap(line.gap, line.at)
    yield from open_shards.values()


def _add_page(totals: LedgerTotals, line: PageLine) -> None:
    totals.scanned += line.scanned
    totals.kept += line.kept
    totals.pages += 1
    totals.requests += line.attempts
    totals.unlisted.update(line.unlisted)
    if line.tally:
        totals.tally.update(line.tally)


def _extend(entry: LedgerLine | None, line: PageLine) -> LedgerLine:
    """Return the shard's line with one page more."""
    entry = entry or LedgerLine(**_name_shard(line.shard), status="begun", first_at=line.at)
    status: Literal["begun", "complete", "provisional"] = "begun"
    if line.is_last:
        status = "provisional" if line.is_provisional else "complete"
    return msgspec.structs.replace(
        entry,
        status=status,
        events=entry.events + line.scanned,
        pages=entry.pages + 1,
        attempts=entry.attempts + line.attempts,
        request_ids=(*entry.request_ids, line.request_id) if line.request_id else entry.request_ids,
        last_at=line.at,
    )


def _describe_gap(gap: Gap, at: str) -> LedgerLine:
    return LedgerLine(
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
