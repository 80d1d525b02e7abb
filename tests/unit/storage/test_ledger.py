import hashlib
import json
import random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ociaudit.planning.shard import Gap, parse_minute
from ociaudit.storage import ledger as ledger_module
from ociaudit.storage.journal import GapLine, JournalLine, SplitLine, VoidLine
from ociaudit.storage.ledger import (
    BLOCK_BYTES,
    BlockDigest,
    BlockLine,
    LedgerLine,
    LedgerTotals,
    OriginRecorder,
    ShardLine,
    find_void_lines,
    make_ledger,
    unpack_origins,
)
from support.drawn_shards import HERE, make_page_line, make_shard

targets = st.lists(st.integers(0, 2**32 - 1)) | st.lists(st.sampled_from([0, 1, 255, 256, 65_535, 65_536]))


@settings(max_examples=50)
@given(st.lists(targets), st.integers(1, 5))
def test_packed_origins_are_what_was_recorded(batches: list[list[int]], per_line: int) -> None:
    """Origins come back in their order, whatever the numbers and the batches, through a line of the ledger."""
    recorder = OriginRecorder()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ledger_module, "_ORIGINS_PER_LINE", per_line)
        for batch in batches:
            recorder.add(batch)
        lines = [msgspec.json.encode(line) for line in recorder.finish()]
    decoded = [msgspec.json.decode(line, type=LedgerLine) for line in lines]
    assert all(line.startswith(b'{"kind":"origins"') for line in lines)
    assert [number for line in decoded for number in unpack_origins(line)] == [n for batch in batches for n in batch]


SHARD, OTHER = make_shard(0, 10), make_shard(10, 20)


def build(*lines: JournalLine) -> tuple[list[ShardLine], LedgerTotals]:
    """Return the ledger of some journal lines, and its totals."""
    totals = LedgerTotals()
    return list(make_ledger(lines, find_void_lines(lines), totals)), totals


def describe(entries: list[ShardLine]) -> list[tuple[str, str, int, int]]:
    """Return what tests compare: start, status, pages and events."""
    return [(entry.start[11:16], entry.status, entry.pages, entry.events) for entry in entries]


def test_a_shard_has_a_line_when_it_ends() -> None:
    """The pages, events and request ids of a shard are summed; shards that never ended come last."""
    entries, totals = build(
        make_page_line(OTHER, 1, offset=0, scanned=1, next_token="t"),
        make_page_line(SHARD, 1, offset=1, scanned=2, kept=1, next_token="t", tally={"a": 2}),
        make_page_line(SHARD, 2, offset=2, scanned=3, kept=3, tally={"a": 1, "b": 2}),
    )
    assert describe(entries) == [("00:00", "complete", 2, 5), ("00:10", "begun", 1, 1)]
    assert entries[0].request_ids == ("request-0-1", "request-0-2")
    assert (totals.scanned, totals.kept, totals.pages, totals.requests, totals.shards) == (6, 4, 3, 3, 1)
    assert totals.tally == {"a": 3, "b": 2}


def test_void_pages_do_not_count() -> None:
    """A void page is not summed, even if its offset in the log was used again."""
    lines = [
        make_page_line(SHARD, 1, offset=0, scanned=7, kept=7),
        VoidLine(0),
        make_page_line(SHARD, 1, offset=0, scanned=5, kept=5),
        VoidLine(99),
    ]
    assert find_void_lines(lines) == {0}
    entries, totals = build(*lines)
    assert describe(entries) == [("00:00", "complete", 1, 5)]
    assert (totals.scanned, totals.pages) == (5, 1)


def test_a_gap_is_listed_with_its_reason() -> None:
    """A gap has a line of its own, with its reason and request id."""
    gap = Gap(HERE, SHARD.window, "denied", "404 NotAuthorizedOrNotFound", "request-9")
    entries, totals = build(GapLine(gap, "2025-12-01T00:00:00Z"))
    assert describe(entries) == [("00:00", "denied", 0, 0)]
    assert (entries[0].reason, entries[0].request_ids) == (gap.reason, ("request-9",))
    assert totals.shards == 0


def test_a_split_shard_is_listed_as_split() -> None:
    """A dense shard keeps a line with what it returned before the split; its sub-shards have lines of their own."""
    first, second = make_shard(0, 5), make_shard(5, 10)
    entries, totals = build(
        make_page_line(SHARD, 1, offset=0, scanned=2, next_token="t"),
        SplitLine(SHARD, (first.window, second.window)),
        make_page_line(first, 1, offset=1, scanned=1),
        make_page_line(second, 1, offset=2, scanned=1),
    )
    assert describe(entries) == [("00:00", "split", 1, 2), ("00:00", "complete", 1, 1), ("00:05", "complete", 1, 1)]
    assert (totals.scanned, totals.shards) == (4, 2)


def test_a_ledger_line_keeps_its_published_keys() -> None:
    """The tries of a shard's requests are written as `attempts`."""
    (entry,), _ = build(make_page_line(SHARD, 1, offset=0))
    assert json.loads(msgspec.json.encode(entry)) == {
        "kind": "shard",
        "region": HERE.region,
        "compartment": HERE.compartment,
        "start": "1970-01-01T00:00:00Z",
        "end": "1970-01-01T00:10:00Z",
        "status": "complete",
        "events": 0,
        "pages": 1,
        "attempts": 1,
        "request_ids": ["request-0-1"],
        "first_at": "2025-12-01T00:00:00Z",
        "last_at": "2025-12-01T00:00:00Z",
        "reason": None,
    }


def test_a_ledger_of_an_earlier_version_is_read() -> None:
    """A split shard was once written as `cut`; such a line still reads."""
    line = (
        b'{"kind":"shard","region":"r","compartment":"c","start":"1970-01-01T00:00:00Z","end":"1970-01-01T00:10:00Z",'
        b'"status":"cut","events":3,"pages":1,"attempts":2}'
    )
    entry = msgspec.json.decode(line, type=LedgerLine)
    assert (entry.status, entry.events, entry.tries) == ("cut", 3, 2)


def test_one_page_fetched_too_soon_makes_the_shard_provisional() -> None:
    """Any page of a shard makes it provisional: a late event may belong to the first one."""
    entries, totals = build(
        make_page_line(SHARD, 1, offset=0, next_token="t", is_provisional=True),
        make_page_line(SHARD, 2, offset=1),
    )
    assert [entry.status for entry in entries] == ["provisional"]
    assert totals.provisional == entries


def test_a_shard_fetched_again_is_not_provisional_any_more() -> None:
    """Once all of its minutes were answered late enough, in any windows, a shard is final."""
    soon = make_page_line(SHARD, 1, offset=0, is_provisional=True)
    whole = make_page_line(SHARD, 1, offset=1)
    halves = [make_page_line(make_shard(start, start + 5), 1, offset=9 + start) for start in (0, 5)]
    for again in ([whole], halves, [*halves, soon]):
        entries, totals = build(soon, *again)
        assert totals.provisional == []
        assert [entry.status for entry in entries[:2]] == ["provisional", "complete"]
    assert len(build(soon, halves[0])[1].provisional) == 1
    assert len(build(soon, soon)[1].provisional) == 1


@given(st.lists(st.binary(max_size=50), max_size=6))
def test_hashes_do_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    """Size and hash are those of all bytes, however they were passed."""
    digest, whole = BlockDigest(), BlockDigest()
    for piece in pieces:
        digest.update(piece)
    whole.update(b"".join(pieces))
    assert digest.finish() == whole.finish()
    assert (digest.size_bytes, digest.sha256) == (whole.size_bytes, whole.sha256)


def test_blocks_show_where_damage_begins() -> None:
    """Each block has the hash of all bytes up to its end, however they were passed; the last one that of the whole."""
    data = random.Random(1).randbytes(BLOCK_BYTES) * 2 + b"rest"
    digests = []
    for step in (len(data), 3_000_000, BLOCK_BYTES):
        digest = BlockDigest()
        for start in range(0, len(data), step):
            digest.update(data[start : start + step])
        digests.append(digest.finish())
    assert digests[0] == digests[1] == digests[2]
    assert digests[0] == tuple(
        BlockLine(end, hashlib.sha256(data[:end]).hexdigest()) for end in (BLOCK_BYTES, 2 * BLOCK_BYTES, len(data))
    )
    assert BlockDigest().finish() == ()


def test_what_a_split_reads_twice_is_counted() -> None:
    """The kept events of a shard's pages before its split, and of an attempt that was given up, are fetched twice."""
    first, second = make_shard(0, 5), make_shard(5, 10)
    _, totals = build(
        make_page_line(SHARD, 1, offset=0, scanned=9, kept=7, next_token="t"),
        SplitLine(SHARD, (first.window, second.window)),
        make_page_line(first, 1, offset=1, scanned=5, kept=4),
        make_page_line(second, 1, offset=2, scanned=4, kept=3),
        make_page_line(OTHER, 1, offset=3, scanned=2, kept=2, next_token="t"),
        make_page_line(OTHER, 1, attempt=2, offset=4, scanned=3, kept=3),
    )
    assert totals.refetched == 7 + 2
    assert totals.kept - totals.refetched == 4 + 3 + 3


def test_what_is_provisional_is_counted_once() -> None:
    """A resumed run requests provisional minutes again in other windows; each minute counts once."""
    late, later = make_shard(5, 10), make_shard(8, 12)
    _, totals = build(
        make_page_line(late, 1, offset=0, scanned=1, kept=1, is_provisional=True),
        make_page_line(make_shard(5, 8), 1, offset=1, scanned=1, kept=1),
        make_page_line(later, 1, offset=2, scanned=2, kept=2, is_provisional=True),
    )
    assert [(entry.start[11:16], entry.end[11:16]) for entry in totals.provisional] == [("00:08", "00:12")]
    assert totals.refetched == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9), st.booleans()), max_size=8))
def test_provisional_windows_never_overlap(requests: list[tuple[int, int, bool]]) -> None:
    """Whatever was requested again in which windows, a minute is provisional if no settled request covers it."""
    lines = [
        make_page_line(make_shard(start, start + length), 1, attempt=number, offset=number, is_provisional=is_early)
        for number, (start, length, is_early) in enumerate(requests)
    ]
    _, totals = build(*lines)
    minutes = [
        minute for entry in totals.provisional for minute in range(parse_minute(entry.start), parse_minute(entry.end))
    ]
    early = {m for start, length, is_early in requests if is_early for m in range(start, start + length)}
    settled = {m for start, length, is_early in requests if not is_early for m in range(start, start + length)}
    assert sorted(minutes) == sorted(early - settled)
