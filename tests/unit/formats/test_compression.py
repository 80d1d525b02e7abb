from __future__ import annotations

import gzip
import io
import itertools

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats.compression import BadFile, make_compressor, read_pieces, unpack_pieces

PIECES = st.lists(st.binary(max_size=100) | st.builds(bytes, st.integers(0, 400_000)), max_size=5)


def compress(name: str, pieces: list[bytes]) -> bytes:
    """Compress pieces as one file."""
    compressor = make_compressor(name)
    return b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()


@given(PIECES)
def test_gzip_depends_on_the_bytes_alone(pieces: list[bytes]) -> None:
    """Name, time and the size of the pieces leave no trace, and everyone's gzip reads it."""
    packed = compress("gz", pieces)
    assert packed == compress("gz", [b"".join(pieces)])
    assert gzip.decompress(packed) == b"".join(pieces)
    assert packed[3:8] == bytes(5)  # no flags, so no name; no time


@given(PIECES)
def test_zstd_depends_on_the_bytes_alone(pieces: list[bytes]) -> None:
    """The size of the pieces leaves no trace, and the library reads one frame with a check sum."""
    packed = compress("zst", pieces)
    assert packed == compress("zst", [b"".join(pieces)])
    reader = zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(packed) == b"".join(pieces)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert zstandard.get_frame_parameters(packed).has_checksum


@pytest.mark.parametrize("pieces", [[], [b"a", b"b"]])
def test_none_leaves_the_bytes_as_they_are(pieces: list[bytes]) -> None:
    """Without compression nothing is added."""
    assert compress("none", pieces) == b"".join(pieces)


def cut(data: bytes, targets: list[int]) -> list[bytes]:
    """Cut bytes as a pipe may give them."""
    bounds = [0, *sorted(min(target, len(data)) for target in targets), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def unpack(data: bytes, targets: list[int] | None = None) -> tuple[str, bytes]:
    """Return the compression's name and the whole of what is inside."""
    name, pieces = unpack_pieces(piece for piece in cut(data, targets or []) if piece)
    return name, b"".join(pieces)


PACKERS = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
parts = st.lists(st.binary(max_size=50).map(lambda data: b"x" + data), min_size=1, max_size=4)
targets = st.lists(st.integers(0, 200), max_size=4)


@given(parts, targets, st.sampled_from(sorted(PACKERS)))
def test_members_one_behind_the_other_are_one_stream(contents: list[bytes], splits: list[int], name: str) -> None:
    """However many members a file has, and wherever it is cut on the way, what comes out is all that was put in."""
    packed = b"".join(map(PACKERS[name], contents))
    assert unpack(packed, splits) == (name, b"".join(contents))


@given(parts, st.data(), st.sampled_from(["gzip", "zstd"]))
def test_a_cut_stream_is_no_shorter_stream(contents: list[bytes], data: st.DataObject, name: str) -> None:
    """A file that ends inside a member is refused."""
    *before, last = map(PACKERS[name], contents)
    missing = data.draw(st.integers(1, len(last) - 4))
    with pytest.raises(BadFile, match="cut"):
        unpack(b"".join([*before, last[:-missing]]))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_damage_is_refused_with_its_place(name: str) -> None:
    """A changed byte, or rubbish behind the end, is named with the byte up to which the stream was read."""
    packed = PACKERS[name](bytes(range(256)) * 40)
    damaged = packed[:-6] + bytes([packed[-6] ^ 0xFF]) + packed[-5:]
    with pytest.raises(BadFile, match=rf"{name} stream is .*byte [\d,]+"):
        unpack(damaged)
    with pytest.raises(BadFile, match=rf"{name} stream is damaged"):
        unpack(packed + b"rubbish behind the end")


def test_padding_behind_the_end_is_no_damage() -> None:
    """Zero bytes behind a member, as tapes and block devices leave them, are passed over."""
    assert unpack(gzip.compress(b"a") + b"\0" * 512) == ("gzip", b"a")


def test_a_small_file_unpacks_in_bounded_pieces() -> None:
    """A gzip bomb gives bounded pieces, one at a time."""
    _, pieces = unpack_pieces(iter([gzip.compress(bytes(20_000_000))]))
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024


def test_a_file_comes_in_pieces() -> None:
    """Reading gives all bytes, in bounded pieces, and nothing for an empty file."""
    data = bytes(range(256)) * 5000
    pieces = list(read_pieces(io.BytesIO(data)))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 256 * 1024
    assert unpack(b"") == ("", b"")
