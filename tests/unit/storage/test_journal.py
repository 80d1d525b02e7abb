from __future__ import annotations

import itertools
import random
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from ociaudit.errors import CorruptRun
from ociaudit.planning.shard import Coverage, Gap, PageCursor, Shard, Target, Window
from ociaudit.storage.journal import (
    CHECK_LENGTH,
    BadLine,
    DictionaryLine,
    GapLine,
    JournalLine,
    JournalState,
    PageLine,
    PublishLine,
    RunLine,
    VoidLine,
    decode_line,
    encode_line,
    replay_journal,
)
from support.drawn_shards import HERE, THERE, make_page_line, make_shard

texts = st.text(st.characters(exclude_categories=["Cs"]))
pages = st.builds(
    make_page_line,
    st.builds(make_shard, st.integers(-9, 9), st.integers(10, 99)),
    st.integers(1, 99),
    attempt=st.integers(0, 3),
    offset=st.integers(0, 2**62),
    next_token=st.none() | texts,
    is_provisional=st.booleans(),
    tally=st.none() | st.dictionaries(texts, st.integers(0, 9), max_size=3),
)
lines = (
    pages
    | st.builds(RunLine, texts, texts)
    | st.builds(DictionaryLine, st.integers(0, 9), st.integers(0, 9), texts)
    | st.builds(
        GapLine,
        st.builds(
            Gap, st.just(HERE), st.just(Window(0, 1)), st.sampled_from(["denied", "failed"]), texts, st.none() | texts
        ),
        texts,
    )
    | st.builds(VoidLine, st.integers(0, 9))
    | st.builds(PublishLine, texts, st.integers(0, 9))
)


@given(lines)
def test_a_line_survives_the_way_to_the_disk(line: JournalLine) -> None:
    """What was written is read back and takes one line, whatever texts it contains."""
    data = encode_line(line)
    assert decode_line(data) == line
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")


@given(lines, st.data())
def test_a_changed_line_is_noticed(line: JournalLine, data: st.DataObject) -> None:
    """Up to 32 consecutive changed bits anywhere in a line, in its check and its line break too, are noticed."""
    good = encode_line(line)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    flips = data.draw(st.integers(0, 2**31 - 1)) << 1 | 1
    changed = int.from_bytes(good, "little") ^ (flips << bit)
    with pytest.raises(BadLine):
        decode_line((changed & ((1 << len(good) * 8) - 1)).to_bytes(len(good), "little"))


def test_every_single_flipped_bit_is_noticed() -> None:
    """A change of any bit of a page's line is noticed."""
    good = encode_line(make_page_line(make_shard(), 1, offset=5, next_token="t"))
    for position in range(len(good)):
        for bit in range(8):
            changed = bytearray(good)
            changed[position] ^= 1 << bit
            with pytest.raises(BadLine):
                decode_line(bytes(changed))


@given(lines, st.data())
def test_a_torn_line_is_noticed(line: JournalLine, data: st.DataObject) -> None:
    """A prefix of a line, and two lines without a line break between them, are bad lines."""
    good = encode_line(line)
    with pytest.raises(BadLine):
        decode_line(good[: data.draw(st.integers(0, len(good) - 1))])
    with pytest.raises(BadLine):
        decode_line(good[:-1] + good)


@pytest.mark.parametrize(
    "body",
    [
        b'{"kind":"other"',
        b'{"kind":"void"',
        b'{"kind":"void","offset":"x"',
        b"[",
        b"",
        b"{",
        b'{"kind":"run","at":"x"',
        b'{"kind":"page","shard":{"target":{"region":"r","compartment":"c"},"window":[5,5]}',
    ],
)
def test_a_foreign_line_with_a_valid_check_is_noticed(body: bytes) -> None:
    """A line that this program did not write is a bad line, even if its check matches."""
    import zlib

    with pytest.raises(BadLine):
        decode_line(body + b',"check":"%08x"}\n' % zlib.crc32(body))


@given(st.binary(max_size=80))
def test_noise_is_a_bad_line(noise: bytes) -> None:
    """Any other bytes are a bad line; nothing else fails."""
    with pytest.raises(BadLine):
        decode_line(noise)
    with pytest.raises(BadLine):
        decode_line(b"\0" * CHECK_LENGTH * 2)


PLAN = "5" * 64
RUN = RunLine(PLAN, "2025-12-01T00:00:00Z")
SHARD = make_shard(0, 10)


def replay(*lines: JournalLine) -> JournalState:
    """Replay a journal that begins with a run line, as every journal does."""
    return replay_journal([encode_line(line) for line in (RUN, *lines)], plan_id=PLAN, where="journal")


def describe(state: JournalState) -> tuple[object, object]:
    """Return coverage and page cursors as values that can be compared."""
    progress = state.compute_progress()
    return {target: coverage.windows for target, coverage in progress.covered.items()}, progress.begun


def lay_out(*pages: PageLine) -> list[PageLine]:
    """Give pages ascending offsets in the log."""
    return [replace(page, offset=100 * number) for number, page in enumerate(pages)]


@st.composite
def draw_attempts(draw: st.DrawFn) -> tuple[list[PageLine], dict[Shard, int | None]]:
    """Draw complete or interrupted attempts; return the pages and, by shard, how many arrived (None: all)."""
    pages: list[PageLine] = []
    arrived: dict[Shard, int | None] = {}
    for start, target in draw(st.sets(st.tuples(st.sampled_from([0, 10, 20]), st.sampled_from([HERE, THERE])))):
        shard = make_shard(start, start + 10, target)
        total = draw(st.integers(1, 4))
        number = draw(st.integers(0, total))
        pages += [
            make_page_line(shard, page, next_token=None if page == total else f"{start} {page}")
            for page in range(1, number + 1)
        ]
        arrived[shard] = None if number == total else number
    order = draw(st.randoms())
    order.shuffle(pages)
    return lay_out(*sorted(pages, key=lambda page: page.page)), arrived


@given(draw_attempts(), st.randoms())
def test_progress_does_not_depend_on_the_order_of_lines(
    drawn: tuple[list[PageLine], dict[Shard, int | None]], order: random.Random
) -> None:
    """Complete shards are covered and others continue after their last page, for any order and repetition of lines."""
    pages, arrived = drawn
    lines = [*pages, *pages]
    order.shuffle(lines)
    covered: dict[object, Coverage] = {}
    begun = {}
    for shard, number in arrived.items():
        if number is None:
            covered.setdefault(shard.target, Coverage()).add(shard.window)
        elif number:
            begun[shard] = PageCursor(0, number, f"{shard.window.start} {number}")
    assert describe(replay(*lines)) == ({target: each.windows for target, each in covered.items()}, begun)


@given(draw_attempts(), st.data())
def test_a_missing_page_is_never_covered(
    drawn: tuple[list[PageLine], dict[Shard, int | None]], data: st.DataObject
) -> None:
    """A shard with a missing or void page is not covered; it continues before the first such page."""
    pages, _ = drawn
    if not pages:
        return
    missing = data.draw(st.sampled_from(pages))
    is_void = data.draw(st.booleans())
    lines = [*pages, VoidLine(missing.offset)] if is_void else [page for page in pages if page != missing]
    progress = replay(*lines).compute_progress()
    coverage = progress.covered.get(missing.shard.target, Coverage())
    assert coverage.find_missing(missing.shard.window)
    cursor = progress.begun.get(missing.shard)
    assert (cursor.page if cursor else 0) == missing.page - 1


def test_pages_before_and_after_a_repeat_do_not_add_up() -> None:
    """After page 1 was lost and fetched again, the old later pages do not count: they may begin at other events."""
    first, second, third = lay_out(
        make_page_line(SHARD, 1, next_token="a"),
        make_page_line(SHARD, 2, next_token="b"),
        make_page_line(SHARD, 3),
    )
    again = lay_out(first, second, third, make_page_line(SHARD, 1, next_token="c"))[3]
    assert describe(replay(first, second, third, VoidLine(first.offset), again)) == ({}, {SHARD: PageCursor(0, 1, "c")})


def test_a_page_fetched_again_replaces_those_after_it() -> None:
    """After page 2 was lost and fetched again, the old page 3 does not complete the shard."""
    pages = lay_out(
        make_page_line(SHARD, 1, next_token="a"),
        make_page_line(SHARD, 2, next_token="b"),
        make_page_line(SHARD, 3),
        make_page_line(SHARD, 2, next_token="c"),
        make_page_line(SHARD, 3),
    )
    lines = [*pages[:3], VoidLine(pages[1].offset), pages[3]]
    assert describe(replay(*lines)) == ({}, {SHARD: PageCursor(0, 2, "c")})
    assert describe(replay(*lines, pages[4])) == ({HERE: (SHARD.window,)}, {})


def test_an_attempt_needs_all_of_its_own_pages() -> None:
    """Pages of an earlier attempt do not replace missing ones of a later attempt."""
    mixed = lay_out(
        make_page_line(SHARD, 1, next_token="a"),
        make_page_line(SHARD, 2, attempt=1),
    )
    assert describe(replay(*mixed)) == ({}, {SHARD: PageCursor(0, 1, "a")})
    later = lay_out(make_page_line(SHARD, 1, next_token="a"), make_page_line(SHARD, 1, attempt=1, next_token="b"))
    assert describe(replay(*later)) == ({}, {SHARD: PageCursor(1, 1, "b")})


def test_a_provisional_shard_is_fetched_again_until_it_is_final() -> None:
    """One page that was fetched too soon leaves the shard open; a later attempt counts, even if it is shorter."""
    soon = [
        make_page_line(SHARD, 1, next_token="a", is_provisional=True),
        make_page_line(SHARD, 2, next_token="b", is_provisional=True),
        make_page_line(SHARD, 3, is_provisional=False),
    ]
    assert describe(replay(*lay_out(*soon))) == ({}, {})
    settled = lay_out(*soon, make_page_line(SHARD, 1, next_token="c"), make_page_line(SHARD, 2))
    assert describe(replay(*settled[:4])) == ({}, {SHARD: PageCursor(0, 1, "c")})
    assert describe(replay(*settled)) == ({HERE: (SHARD.window,)}, {})


def test_the_last_dictionary_and_publication_count() -> None:
    """Of several dictionary lines, and of several publish lines, the last one counts."""
    state = replay(DictionaryLine(0, 5, "a"), PublishLine("x", 1), DictionaryLine(9, 5, "b"), PublishLine("y", 2))
    assert state.dictionary == DictionaryLine(9, 5, "b")
    assert state.publish == PublishLine("y", 2)
    assert state.run == RUN


@given(st.binary(min_size=1, max_size=40).filter(lambda tail: b"\n" not in tail[:-1]))
def test_a_torn_end_does_not_count(tail: bytes) -> None:
    """Bytes after the last whole line do not count, and the length of the whole lines is known."""
    whole = [encode_line(RUN), encode_line(make_page_line(SHARD, 1, offset=0))]
    state = replay_journal([*whole, tail], plan_id=PLAN, where="journal")
    assert state.length == sum(map(len, whole))
    assert describe(state) == ({HERE: (SHARD.window,)}, {})


def lay_out_hole(start: int, end: int) -> tuple[list[bytes], list[bytes]]:
    """Return good lines, and the lines of the same bytes with zeros over a span of them."""
    good = [encode_line(line) for line in [RUN, *lay_out(*(make_page_line(SHARD, n) for n in range(1, 40)))]]
    data = b"".join(good)
    return good, (data[:start] + b"\0" * (end - start) + data[end:]).splitlines(keepends=True)


@given(st.integers(0, 3_000), st.integers(1, 8))
def test_lines_after_a_hole_do_not_count(start: int, sectors: int) -> None:
    """With zeros up to the end of a sector the lines before them count, and none after them, whole or not."""
    good, holed = lay_out_hole(start, (start // 512 + sectors) * 512)
    state = replay_journal(holed, plan_id=PLAN, where="journal")
    assert state.length == sum(map(len, itertools.takewhile(lambda line: b"\0" not in line, holed)))
    assert state.length <= start
    assert len(state.pages) == max(0, len([line for line in itertools.accumulate(map(len, good)) if line <= start]) - 1)


@given(st.integers(0, 3_000), st.integers(1, 600))
def test_other_zeros_are_damage(start: int, length: int) -> None:
    """Zeros that end within a sector, with good lines after them, are damage: a power loss leaves whole sectors."""
    assume((start + length) % 512)
    with pytest.raises(CorruptRun, match="is damaged in line"):
        replay_journal(lay_out_hole(start, start + length)[1], plan_id=PLAN, where="journal")


def test_a_tail_of_zeros_does_not_count() -> None:
    """If the size of the file reached the disk and its last bytes did not, the last whole line is its end."""
    whole = [encode_line(RUN), encode_line(make_page_line(SHARD, 1, offset=0))]
    for tail in ([b"\0"], [b"\0" * 5_000], [whole[1][:20] + b"\0" * 100]):
        state = replay_journal([*whole, *tail], plan_id=PLAN, where="journal")
        assert state.length == sum(map(len, whole))


@pytest.mark.parametrize("damage", [b"\n", b"garbage\n", encode_line(RUN)[1:], b'{"kind":"void"}\n'])
def test_damage_before_the_end_is_an_error_that_names_the_line(damage: bytes) -> None:
    """A damaged line with good lines after it is an error with its number."""
    with pytest.raises(CorruptRun, match="the-journal is damaged in line 2"):
        replay_journal([encode_line(RUN), damage, encode_line(RUN)], plan_id=PLAN, where="the-journal")


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([RunLine("6" * 64, "x")], id="of-another-plan"),
        pytest.param([make_page_line(SHARD, 1, offset=0)], id="without-a-beginning"),
        pytest.param([RUN, RunLine("6" * 64, "x")], id="continued-by-another-plan"),
    ],
)
def test_a_foreign_journal_is_an_error(lines: list[JournalLine]) -> None:
    """A journal that belongs to another plan, all of it or a part, is an error."""
    with pytest.raises(CorruptRun, match="does not belong"):
        replay_journal(map(encode_line, lines), plan_id=PLAN, where="journal")


def test_an_empty_journal_is_a_run_that_has_not_started() -> None:
    """No line, and a torn first line, give the state of a new run."""
    for lines in ([], [encode_line(RUN)[:-1]], [b"\0" * 500]):
        state = replay_journal(lines, plan_id=PLAN, where="journal")
        assert (state.length, state.run, state.pages) == (0, None, {})


def test_a_page_takes_little_memory() -> None:
    """A page takes less than 400 bytes: a year of a large tenancy has millions, most of them alone in their shard."""
    targets = [Target(f"eu-region-{number % 5}", f"ocid1.compartment.oc1..{number:060}") for number in range(100)]

    def write_lines() -> Iterator[bytes]:
        yield encode_line(RUN)
        for number in range(20_000):
            shard = make_shard(number // 100, number // 100 + 1, targets[number % 100])
            line = make_page_line(shard, 1, offset=900 * number)
            yield encode_line(
                replace(line, sha256="5a" * 32, length=900, request_id="A" * 98, at="2025-12-01T00:00:00Z")
            )

    tracemalloc.start()
    try:
        state = replay_journal(write_lines(), plan_id=PLAN, where="journal")
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(state.pages) == 20_000
    assert taken / 20_000 < 400
