"""The journal: one line for everything in the log that counts.

Owns: the form of the lines, and the check that finds a damaged one. Must not: write files.

Form: NDJSON; each line is a JSON object with a `kind`, and ends with `"check"`, the CRC-32 of all before it.

Invariants
- A line is written after the bytes that it speaks of are on stable storage; what no line names does not count.
- A page's line names the token of the next page, so that a later run goes on from there.
- The tokens stay here; the ledger that is kept beside the output has none.

What a journal says: the pages that count, what they cover, and where each begun shard goes on.

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

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.planning.planner import FetchState
from ociaudit.planning.shard import CONFIRMING_ATTEMPT, Gap, PageCursor, Shard, Target
from ociaudit.planning.window import Coverage, Window


class RunLine(msgspec.Struct, frozen=True, tag="run", tag_field="kind"):
    """The first line: which plan this journal belongs to; and when a run or a resume began, and who asked."""

    plan_id: str
    at: str
    principal: str = ""
    key_fingerprint: str | None = None


class DictionaryLine(msgspec.Struct, frozen=True, tag="dictionary", tag_field="kind"):
    """Where in the log the compression dictionary stands."""

    offset: int
    length: int
    sha256: str


class PageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="page", tag_field="kind"):
    """One committed page: where its block stands in the log, and what the answer was.

    A shard's pages are numbered from 1 within a chain; when the service refuses a token the shard is asked
    from its first page again, which is the next chain. `scanned` events came, `kept` of them passed the filter
    and are in the block; `outside` of the others lay outside the range of event times asked for. `is_last`: with this
    page the shard is complete. `tally` counts names among what was scanned, where the run wants to know.
    `is_provisional`: asked too soon after the window's end. `at` is when the page's request was sent, RFC 3339.
    """

    shard: Shard
    chain: int
    page: int
    offset: int = -1
    length: int = 0
    sha256: str = ""
    scanned: int
    kept: int
    outside: int = 0
    is_last: bool
    next_token: str | None
    request_id: str | None
    attempts: int
    at: str
    is_provisional: bool = False
    tally: dict[str, int] | None = None
    unlisted: tuple[str, ...] = ()
    """Compartments that occur in the events and not in the listing."""


class SplitLine(msgspec.Struct, frozen=True, tag="cut", tag_field="kind"):
    """A dense shard is not followed any more; these windows, which make it up, are asked instead."""

    shard: Shard
    pieces: tuple[Window, ...]


class GapLine(msgspec.Struct, frozen=True, tag="gap", tag_field="kind"):
    """A part of the plan that did not come back in this run."""

    gap: Gap
    at: str


class VoidLine(msgspec.Struct, frozen=True, tag="void", tag_field="kind"):
    """The page or the dictionary that stood at this offset was found damaged and does not count any more."""

    offset: int


class PublishLine(msgspec.Struct, frozen=True, tag="publish", tag_field="kind"):
    """The output is about to get its final name: from here on, a file of this hash there is ours."""

    sha256: str
    size_bytes: int


JournalLine = RunLine | DictionaryLine | PageLine | SplitLine | GapLine | VoidLine | PublishLine

_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)
_CHECK = b',"check":"%08x"}\n'
CHECK_LENGTH = len(_CHECK % 0)


class BadLine(ValueError):
    """A line that was not written whole by this program."""


def encode_line(line: JournalLine) -> bytes:
    """Write a line with its check and line break."""
    body = msgspec.json.encode(line)[:-1]
    return body + _CHECK % zlib.crc32(body)


def decode_line(data: bytes) -> JournalLine:
    """Read a line that `encode_line` wrote, line break included.

    Raises:
        BadLine: it is cut, changed or foreign.
    """
    body = data[:-CHECK_LENGTH]
    if len(data) <= CHECK_LENGTH or data[-CHECK_LENGTH:] != _CHECK % zlib.crc32(body):
        raise BadLine("the check at the end of the line does not fit the line")
    try:
        return _decoder.decode(body + b"}")
    except msgspec.MsgspecError as error:
        raise BadLine(f"the line is not of this program: {error}") from error


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
    splits: dict[Shard, tuple[Window, ...]] = field(default_factory=dict)
    """Shards that were given up for their pieces."""
    _latest: dict[Target, Shard] = field(default_factory=dict)
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
        latest = self._latest.setdefault(shard.target, shard)
        if latest != shard:
            latest = self._latest[latest.target] = Shard(latest.target, shard.window)
        return latest

    def forget(self, page: CommittedPage) -> None:
        """Stop counting a page."""
        self.pages.pop(page.offset, None)

    def find_progress(self) -> FetchState:
        """Return what the pages cover and where the begun shards go on."""
        chains: dict[tuple[Shard, int], list[CommittedPage]] = {}
        for offset in sorted(self.pages):
            page = self.pages[offset]
            chain = chains.setdefault((page.shard, page.chain), [])
            if 1 <= page.page <= len(chain) + 1:  # else pages before it are missing
                chain[page.page - 1 :] = [page]
        covered: dict[Target, Coverage] = {}
        begun: dict[Shard, PageCursor] = {}
        empty: set[Shard] = set()
        for (shard, number), pages in sorted(chains.items(), key=lambda item: item[0]):
            if not pages or any(page.is_provisional for page in pages):
                continue
            token = pages[-1].next_token
            if token is not None:
                if shard not in self.splits:
                    begun[shard] = PageCursor(number, len(pages), token)
                if number >= CONFIRMING_ATTEMPT and shard.target in covered and any(page.has_events for page in pages):
                    covered[shard.target] = covered[shard.target].without(shard.window)  # it was not empty after all
                    empty.discard(shard)
                continue
            covered.setdefault(shard.target, Coverage()).add(shard.window)
            if number >= CONFIRMING_ATTEMPT:
                empty.discard(shard)
            elif not any(page.has_events for page in pages):
                empty.add(shard)
        return FetchState(covered, begun, frozenset(empty), self._find_splits())

    def _find_splits(self) -> dict[Target, list[int]]:
        splits: dict[Target, set[int]] = {}
        for shard, pieces in self.splits.items():
            splits.setdefault(shard.target, set()).update(
                minute for piece in pieces for minute in (piece.start, piece.end)
            )
        return {target: sorted(minutes) for target, minutes in splits.items()}


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
        case SplitLine():
            state.splits[line.shard] = line.pieces
        case VoidLine():
            state.pages.pop(line.offset, None)
            if state.dictionary is not None and state.dictionary.offset == line.offset:
                state.dictionary = None
        case _:
            pass  # gaps are told in the ledger; a resume asks for them again
