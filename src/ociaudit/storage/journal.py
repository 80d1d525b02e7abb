"""The journal of a run: what in the event log counts, one line per page, and the state it adds up to.

`journal.ndjson` is NDJSON. Each line is a JSON object with a `kind` and ends with `"check"`, the CRC-32 of everything
before it. `encode_line` and `decode_line` are the line format; `replay_journal` reads a whole journal into a
`JournalState`, which says what is covered and where to continue. This module does not touch files.

Invariants of the format
- A line is written after the bytes it refers to are on stable storage; what no line refers to does not count.
- A page's line holds the token of the next page, so that a later run continues from there. The tokens stay here; the
  ledger beside the output has none.

Invariants of the replay
- A torn line at the end of the journal does not count, and neither does anything after it.
- A hole ends the journal: bytes that a power loss kept from the disk read as zeros, in whole sectors, even with later
  lines that did reach the disk. No line contains a zero byte.
- Any other damaged line with good lines after it is an error: its content is not guessed.
- A shard is covered when one of its attempts has every page from 1 to its last. The order of the lines, and repeated
  lines, change nothing.
- The pages of an attempt count in the order in which they arrived, which is that of the log: a page that was fetched
  again replaces the earlier one and all after it, because the service need not split its pages at the same events.
- A shard that returned no events, and then some when it was fetched again to confirm that, is not covered before
  that attempt has ended.
- A split shard is not continued; the boundaries of its sub-shards are fetched instead.
- A provisional shard, fetched too soon after its end, is not covered: it is fetched again.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ociaudit.errors import CorruptRun
from ociaudit.planning.planner import FetchState
from ociaudit.planning.shard import CONFIRMING_ATTEMPT, Coverage, Gap, PageCursor, Shard, Target, Window

_CHECK = b',"check":"%08x"}\n'
CHECK_LENGTH = len(_CHECK % 0)
_SECTOR_BYTES = 512


class BadLine(ValueError):
    """A line that this program did not write, or not completely."""


class RunLine(msgspec.Struct, frozen=True, tag="run", tag_field="kind"):
    """The start of a run or of its resumption: the plan it belongs to, when it started, and who signed in.

    The first line of every journal is one.
    """

    plan_id: str
    at: str
    principal: str = ""
    key_fingerprint: str | None = None


class DictionaryLine(msgspec.Struct, frozen=True, tag="dictionary", tag_field="kind"):
    """Where the compression dictionary is in the log, and its SHA-256."""

    offset: int
    length: int
    sha256: str


class PageLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag="page", tag_field="kind"):
    """One committed page: its block in the log, and what the response contained.

    The pages of a shard are numbered from 1 within an attempt. When the service rejects a token, the shard is fetched
    again from its first page, which is the next attempt. `tries` is how often the page was requested.

    `scanned` events were in the response; `kept` of them passed the filter and are in the block; `outside` of the
    others are outside the range of event times. `tally` counts names over all scanned events, if the run wants it.
    With an `is_last` page the shard is complete. `is_provisional`: fetched too soon after the window's end. `at` is
    when the page was requested, RFC 3339.
    """

    shard: Shard
    attempt: int
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
    tries: int
    at: str
    is_provisional: bool = False
    tally: dict[str, int] | None = None
    unlisted: tuple[str, ...] = ()
    """Compartments that occur in the events but not in the listing."""
    unlisted_names: dict[str, str] = {}
    """The names of some of them, as an event states them."""


class SplitLine(msgspec.Struct, frozen=True, tag="split", tag_field="kind"):
    """A dense shard is not followed any further; sub-shards with these windows, which make it up, replace it."""

    shard: Shard
    windows: tuple[Window, ...]


class GapLine(msgspec.Struct, frozen=True, tag="gap", tag_field="kind"):
    """A part of the plan that did not come back complete in this run."""

    gap: Gap
    at: str


class VoidLine(msgspec.Struct, frozen=True, tag="void", tag_field="kind"):
    """The page or the dictionary at this offset is damaged and does not count any more."""

    offset: int


class PublishLine(msgspec.Struct, frozen=True, tag="publish", tag_field="kind"):
    """The output is about to get its final name: from now on a file there with this hash is this run's."""

    sha256: str
    size_bytes: int


JournalLine = RunLine | DictionaryLine | PageLine | SplitLine | GapLine | VoidLine | PublishLine
_decoder: msgspec.json.Decoder[JournalLine] = msgspec.json.Decoder(JournalLine)


def encode_line(line: JournalLine) -> bytes:
    """Return a line with its check and its line break."""
    body = msgspec.json.encode(line)[:-1]
    return body + _CHECK % zlib.crc32(body)


def decode_line(data: bytes) -> JournalLine:
    """Parse a line that `encode_line` wrote, line break included.

    Raises:
        BadLine: it is truncated, changed or foreign.
    """
    body = data[:-CHECK_LENGTH]
    if len(data) <= CHECK_LENGTH or data[-CHECK_LENGTH:] != _CHECK % zlib.crc32(body):
        raise BadLine("the check at the end of the line does not match the line")
    try:
        return _decoder.decode(body + b"}")
    except msgspec.MsgspecError as error:
        raise BadLine(f"the line was not written by oci-audit: {error}") from error


class CommittedPage(msgspec.Struct, frozen=True, gc=False):
    """What is kept in memory of a page: little, because a year of a large tenancy has millions of them."""

    shard: Shard
    attempt: int
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
    """What the lines of a journal add up to."""

    length: int = 0
    """How many bytes of the journal are whole lines."""
    run: RunLine | None = None
    dictionary: DictionaryLine | None = None
    publish: PublishLine | None = None
    last_requested_at: str = ""
    """When the latest page was requested, RFC 3339; empty without pages."""
    published: set[PublishLine] = field(default_factory=set)
    """Every file that this run has given, or was about to give, the output's name."""
    pages: dict[int, CommittedPage] = field(default_factory=dict)
    """The pages that count, by their offset in the log."""
    splits: dict[Shard, tuple[Window, ...]] = field(default_factory=dict)
    """The windows of the sub-shards of each split shard."""
    _latest: dict[Target, Shard] = field(default_factory=dict)
    """The shard of each target's latest page; the next page shares the object if it is equal, to save memory."""

    def apply(self, line: JournalLine) -> None:
        """Add a line."""
        match line:
            case PageLine():
                self._add_page(line)
            case SplitLine():
                self.splits[line.shard] = line.windows
            case VoidLine():
                self.pages.pop(line.offset, None)
                if self.dictionary is not None and self.dictionary.offset == line.offset:
                    self.dictionary = None
            case RunLine():
                self.run = line
            case DictionaryLine():
                self.dictionary = line
            case PublishLine():
                self.publish = line
                self.published.add(line)
            case GapLine():
                pass  # for the ledger only; a resumed run fetches gaps again

    def _add_page(self, line: PageLine) -> None:
        shard = self._latest.setdefault(line.shard.target, line.shard)
        if shard != line.shard:
            shard = self._latest[shard.target] = Shard(shard.target, line.shard.window)
        self.last_requested_at = max(self.last_requested_at, line.at)
        self.pages[line.offset] = CommittedPage(
            shard,
            line.attempt,
            line.page,
            line.offset,
            line.length,
            bytes.fromhex(line.sha256),
            line.next_token,
            line.scanned > 0,
            line.is_provisional,
        )

    def compute_progress(self) -> FetchState:
        """Return what the pages cover and where the shards that were started continue."""
        covered: dict[Target, Coverage] = {}
        begun: dict[Shard, PageCursor] = {}
        empty: set[Shard] = set()
        for (shard, attempt), pages in sorted(self._group_by_attempt().items(), key=lambda item: item[0]):
            if not pages or any(page.is_provisional for page in pages):
                continue
            is_confirming = attempt >= CONFIRMING_ATTEMPT
            has_events = any(page.has_events for page in pages)
            token = pages[-1].next_token
            if token is not None:
                if shard not in self.splits:
                    begun[shard] = PageCursor(attempt, len(pages), token)
                if is_confirming and has_events and shard.target in covered:  # it was not empty after all
                    covered[shard.target] = covered[shard.target].without(shard.window)
                    empty.discard(shard)
                continue
            covered.setdefault(shard.target, Coverage()).add(shard.window)
            if is_confirming:
                empty.discard(shard)
            elif not has_events:
                empty.add(shard)
        return FetchState(covered, begun, frozenset(empty), self._collect_split_minutes())

    def _group_by_attempt(self) -> dict[tuple[Shard, int], list[CommittedPage]]:
        """Return the pages of each attempt, from its first on, without those after a missing page."""
        attempts: dict[tuple[Shard, int], list[CommittedPage]] = {}
        for offset in sorted(self.pages):
            page = self.pages[offset]
            pages = attempts.setdefault((page.shard, page.attempt), [])
            if 1 <= page.page <= len(pages) + 1:  # otherwise pages before it are missing
                pages[page.page - 1 :] = [page]
        return attempts

    def _collect_split_minutes(self) -> dict[Target, list[int]]:
        minutes: dict[Target, set[int]] = {}
        for shard, windows in self.splits.items():
            minutes.setdefault(shard.target, set()).update(
                minute for window in windows for minute in (window.start, window.end)
            )
        return {target: sorted(each) for target, each in minutes.items()}


def replay_journal(lines: Iterable[bytes], *, plan_id: str, where: str) -> JournalState:
    """Return the state that a journal's lines, each with its line break, add up to.

    `where` names the journal in errors.

    Raises:
        CorruptRun: a line before the end is damaged, or the journal belongs to another plan.
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
        state.apply(line)
        state.length += len(data)
    return state


def _has_hole(data: bytes, *, at: int) -> bool:
    """Return whether zeros in a line that begins at byte `at` of the file end where a sector or the file ends."""
    start, end = data.find(b"\0"), data.rfind(b"\0") + 1
    ends_at_boundary = end > 0 and (end == len(data) or (at + end) % _SECTOR_BYTES == 0)
    return ends_at_boundary and not data[start:end].strip(b"\0")
