import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.plan.shard import Gap
from ociaudit.plan.window import Window
from ociaudit.store.journal import (
    CHECK_LENGTH,
    BadLine,
    DictionaryLine,
    GapLine,
    JournalLine,
    PublishLine,
    RunLine,
    VoidLine,
    decode_line,
    encode_line,
)
from support.drawn_shards import HERE, make_page_line, make_shard

texts = st.text(st.characters(exclude_categories=["Cs"]))
pages = st.builds(
    make_page_line,
    st.builds(make_shard, st.integers(-9, 9), st.integers(10, 99)),
    st.integers(1, 99),
    chain=st.integers(0, 3),
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
    """What was written is read back, and stands on one line whatever texts it holds."""
    data = encode_line(line)
    assert decode_line(data) == line
    assert data.count(b"\n") == 1
    assert data.endswith(b"\n")


@given(lines, st.data())
def test_a_changed_line_is_noticed(line: JournalLine, data: st.DataObject) -> None:
    """Up to 32 changed bits in a row anywhere in a line, its check and its line break included, are noticed."""
    good = encode_line(line)
    bit = data.draw(st.integers(0, len(good) * 8 - 1))
    flips = data.draw(st.integers(0, 2**31 - 1)) << 1 | 1
    changed = int.from_bytes(good, "little") ^ (flips << bit)
    with pytest.raises(BadLine):
        decode_line((changed & ((1 << len(good) * 8) - 1)).to_bytes(len(good), "little"))


def test_every_single_flipped_bit_is_noticed() -> None:
    """Each bit of a page's line is guarded."""
    good = encode_line(make_page_line(make_shard(), 1, offset=5, next_token="t"))
    for place in range(len(good)):
        for bit in range(8):
            changed = bytearray(good)
            changed[place] ^= 1 << bit
            with pytest.raises(BadLine):
                decode_line(bytes(changed))


@given(lines, st.data())
def test_a_torn_line_is_noticed(line: JournalLine, data: st.DataObject) -> None:
    """No prefix of a line, and no two lines in one, pass for a line."""
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
        b'{"kind":"page","shard":{"place":{"region":"r","compartment":"c"},"window":[5,5]}',
    ],
)
def test_a_foreign_line_is_noticed_in_spite_of_its_check(body: bytes) -> None:
    """A line that is not of this program does not count, even if its check fits."""
    import zlib

    with pytest.raises(BadLine):
        decode_line(body + b',"check":"%08x"}\n' % zlib.crc32(body))


@given(st.binary(max_size=80))
def test_noise_is_no_line(noise: bytes) -> None:
    """Any other bytes are a bad line and nothing worse."""
    with pytest.raises(BadLine):
        decode_line(noise)
    with pytest.raises(BadLine):
        decode_line(b"\0" * CHECK_LENGTH * 2)
