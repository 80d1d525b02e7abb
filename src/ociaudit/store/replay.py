"""What a journal says: the pages that count, what they cover, and where each begun shard goes on.

Owns: the meaning of a journal. Pure: bytes in, state out. Must not: touch files.

Invariants
- A line that is torn at the end of the journal does not count, and neither does anything behind it.
- Nor does anything from a hole on: bytes that a loss of power kept from the disk read as zeros, in whole sectors,
  even with lines behind them that did get there. None of our lines has a zero byte.
- Any other line that is damaged with good lines behind it is an error: nothing of it is guessed.
- A shard is covered when one of its chains has every page from 1 to its last; the order of lines and lines
  that stand twice change nothing.
- A chain is made of pages in the order in which they came, which is that of the log: a page that was asked
  again takes the place of the earlier one and of all behind it, because the service need not cut its pages at
  the same events twice.
- A shard that seemed empty and brought events when it was asked once more is not covered before that has ended.
- A shard that was cut is not gone on with; its pieces are the boundaries of what is asked instead.
- A provisional shard (asked too soon after its end) is not covered: it is asked again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.planner import Progress
from ociaudit.plan.shard import CONFIRMING_CHAIN, Bookmark, Place, Shard
from ociaudit.plan.window import Window
from ociaudit.store.journal import (
    BadLine,
    CutLine,
    DictionaryLine,
    JournalLine,
    PageLine,
    PublishLine,
    RunLine,
    VoidLine,
    decode_line,
)

_SECTOR_BYTES = 512


class CommittedPage(msgspec.Struct, frozen=True, gc=False):
    """What is remembered of a page in the log: little, because a year of a large tenancy has millions of them."""

    shard: Shard
    chain: int
    page: int
    offset: int
    length: int
    digest: bytes
    """The SHA-256 of its block."""
    next_token: str | None
    has_events: bool
    is_provisional: bool


@dataclass(slots=True)
class JournalState:
    """A journal read to its end. `length` is how many of its bytes are whole lines."""

    length: int = 0
    run: RunLine | None = None
    dictionary: DictionaryLine | None = None
    publish: PublishLine | None = None
    published: set[PublishLine] = field(default_factory=set)
    """Every file that this run has given, or was about to give, the output's name."""
    pages: dict[int, CommittedPage] = field(default_factory=dict)
    """By their offset in the log."""
    cuts: dict[Shard, tuple[Window, ...]] = field(default_factory=dict)
    """Shards that were given up for their pieces."""
    _latest: dict[Place, Shard] = field(default_factory=dict)
    """The shard of each place's latest page, whose objects the next one shares where they are the same."""

    def remember(self, line: PageLine) -> None:
        """Count a page."""
        self.pages[line.offset] = CommittedPage(
            self._share(line.shard),
            line.chain,
            line.page,
            line.offset,
            line.length,
            bytes.fromhex(line.sha256),
            line.next_token,
            line.scanned > 0,
            line.is_provisional,
        )

    def _share(self, shard: Shard) -> Shard:
        latest = self._latest.setdefault(shard.place, shard)
        if latest != shard:
            latest = self._latest[latest.place] = Shard(latest.place, shard.window)
        return latest

    def forget(self, page: CommittedPage) -> None:
        """Stop counting a page."""
        self.pages.pop(page.offset, None)

    def find_progress(self) -> Progress:
        """Return what the pages cover and where the begun shards go on."""
        chains: dict[tuple[Shard, int], list[CommittedPage]] = {}
        for offset in sorted(self.pages):
            page = self.pages[offset]
            chain = chains.setdefault((page.shard, page.chain), [])
            if 1 <= page.page <= len(chain) + 1:  # else pages before it are missing
                chain[page.page - 1 :] = [page]
        covered: dict[Place, Coverage] = {}
        begun: dict[Shard, Bookmark] = {}
        empty: set[Shard] = set()
        for (shard, number), pages in sorted(chains.items(), key=lambda item: item[0]):
            if not pages or any(page.is_provisional for page in pages):
                continue
            token = pages[-1].next_token
            if token is not None:
                if shard not in self.cuts:
                    begun[shard] = Bookmark(number, len(pages), token)
                if number >= CONFIRMING_CHAIN and shard.place in covered and any(page.has_events for page in pages):
                    covered[shard.place] = covered[shard.place].without(shard.window)  # it was not empty after all
                    empty.discard(shard)
                continue
            covered.setdefault(shard.place, Coverage()).add(shard.window)
            if number >= CONFIRMING_CHAIN:
                empty.discard(shard)
            elif not any(page.has_events for page in pages):
                empty.add(shard)
        return Progress(covered, begun, frozenset(empty), self._find_cuts())

    def _find_cuts(self) -> dict[Place, list[int]]:
        cuts: dict[Place, set[int]] = {}
        for shard, pieces in self.cuts.items():
            cuts.setdefault(shard.place, set()).update(
                minute for piece in pieces for minute in (piece.start, piece.end)
            )
        return {place: sorted(minutes) for place, minutes in cuts.items()}


def replay_journal(lines: Iterable[bytes], *, plan_id: str, where: str) -> JournalState:
    """Read a journal, line by line, each with its line break.

    `where` names the journal in errors.

    Raises:
        CorruptRun: a line inside is damaged, or the journal belongs to another plan.
    """
    state = JournalState()
    torn: str | None = None
    for number, data in enumerate(lines, start=1):
        if torn is not None:
            raise CorruptRun(f"{where} is damaged in line {number - 1}: {torn}")
        try:
            line = decode_line(data)
        except BadLine as error:
            if _has_hole(data, at=state.length):
                break
            torn = str(error)
            continue
        if line.plan_id != plan_id if isinstance(line, RunLine) else number == 1:
            raise CorruptRun(f"{where} does not belong to the plan.json beside it")
        _apply_line(state, line)
        state.length += len(data)
    return state


def _has_hole(data: bytes, *, at: int) -> bool:
    """Tell whether zeros in a line, which begins at this byte of the file, end where a sector or the file does."""
    start, end = data.find(b"\0"), data.rfind(b"\0") + 1
    is_whole = end > 0 and (end == len(data) or (at + end) % _SECTOR_BYTES == 0)
    return is_whole and not data[start:end].strip(b"\0")


def _apply_line(state: JournalState, line: JournalLine) -> None:
    match line:
        case RunLine():
            state.run = line
        case DictionaryLine():
            state.dictionary = line
        case PublishLine():
            state.publish = line
            state.published.add(line)
        case PageLine():
            state.remember(line)
        case CutLine():
            state.cuts[line.shard] = line.pieces
        case VoidLine():
            state.pages.pop(line.offset, None)
            if state.dictionary is not None and state.dictionary.offset == line.offset:
                state.dictionary = None
        case _:
            pass  # gaps are told in the ledger; a resume asks for them again
