"""The journal: one line for everything in the log that counts.

Owns: the form of the lines, and the check that finds a damaged one. Must not: write files.

Form: NDJSON; each line is a JSON object with a `kind`, and ends with `"check"`, the CRC-32 of all before it.

Invariants
- A line is written after the bytes that it speaks of are on stable storage; what no line names does not count.
- A page's line names the token of the next page, so that a later run goes on from there.
- The tokens stay here; the ledger that is kept beside the output has none.
"""

from __future__ import annotations

import zlib

import msgspec

from ociaudit.plan.shard import Gap, Shard
from ociaudit.plan.window import Window


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


class CutLine(msgspec.Struct, frozen=True, tag="cut", tag_field="kind"):
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


JournalLine = RunLine | DictionaryLine | PageLine | CutLine | GapLine | VoidLine | PublishLine

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
