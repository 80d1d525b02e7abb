from __future__ import annotations

import gzip
import io
import itertools

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats import compression
from ociaudit.formats.base import InvalidFile
from ociaudit.formats.compression import decompress, make_compressor, read_chunks, read_pieces

PIECES = st.lists(st.binary(max_size=100) | st.builds(bytes, st.integers(0, 400_000)), max_size=5)


def compress(name: str, pieces: list[bytes]) -> bytes:
    """Compress pieces as one file."""
    compressor = make_compressor(name)
    return b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()


@given(PIECES)
def test_gzip_depends_on_the_bytes_alone(pieces: list[bytes]) -> None:
    """The output depends on no name, time or size of pieces, and Python's gzip reads it."""
    compressed = compress("gz", pieces)
    assert compressed == compress("gz", [b"".join(pieces)])
    assert gzip.decompress(compressed) == b"".join(pieces)
    assert compressed[3:8] == bytes(5)  # no flags, so no name; no time


@given(PIECES)
def test_zstd_depends_on_the_bytes_alone(pieces: list[bytes]) -> None:
    """The output does not depend on the size of the pieces, and is one frame with a checksum."""
    compressed = compress("zst", pieces)
    assert compressed == compress("zst", [b"".join(pieces)])
    reader = zstandard.ZstdDecompressor().decompressobj()
    assert reader.decompress(compressed) == b"".join(pieces)
    assert (reader.eof, reader.unused_data) == (True, b"")
    assert zstandard.get_frame_parameters(compressed).has_checksum


@pytest.mark.parametrize("pieces", [[], [b"a", b"b"]])
def test_none_leaves_the_bytes_as_they_are(pieces: list[bytes]) -> None:
    """Without compression the bytes are unchanged."""
    assert compress("none", pieces) == b"".join(pieces)


def split(data: bytes, positions: list[int]) -> list[bytes]:
    """Split bytes as a pipe may deliver them."""
    bounds = [0, *sorted(min(position, len(data)) for position in positions), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(bounds)]


def read(data: bytes, splits: list[int] | None = None, *, is_single: bool = False) -> tuple[str, bytes]:
    """Return the compression's name and the uncompressed bytes."""
    name, pieces = decompress((piece for piece in split(data, splits or []) if piece), is_single=is_single)
    return name, b"".join(pieces)


COMPRESSORS = {
    "": lambda data: data,
    "gzip": gzip.compress,
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress,
}
parts = st.lists(st.binary(max_size=50).map(lambda data: b"x" + data), min_size=1, max_size=4)
positions_to_split = st.lists(st.integers(0, 200), max_size=4)


@given(parts, positions_to_split, st.sampled_from(sorted(COMPRESSORS)))
def test_consecutive_members_are_one_stream(contents: list[bytes], splits: list[int], name: str) -> None:
    """All members of a file are decompressed, wherever the file is split on the way."""
    compressed = b"".join(map(COMPRESSORS[name], contents))
    assert read(compressed, splits) == (name, b"".join(contents))


@given(
    st.lists(st.binary(max_size=300).map(lambda data: b"x" + 9 * data), min_size=1, max_size=4),
    positions_to_split,
    st.sampled_from(["gzip", "zstd"]),
    st.integers(1, 400),
    st.sampled_from([b"", b"\0\0\0\0"]),
)
def test_what_follows_a_member_is_read_wherever_pieces_end(
    contents: list[bytes], splits: list[int], name: str, piece: int, padding: bytes
) -> None:
    """A member that expands to more than a piece, with more behind it in the same input, is not the end of the file."""
    compressed = b"".join(map(COMPRESSORS[name], contents)) + padding
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compression, "_PIECE_BYTES", piece)
        patch.setattr(compression, "_ZSTD_INPUT_BYTES", piece)
        assert read(compressed, splits) == (name, b"".join(contents))
        with pytest.raises(InvalidFile, match="damaged"):
            read(compressed + b"x", splits)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("end", [b"", b"\0" * 9])
def test_large_members_follow_each_other(name: str, end: bytes) -> None:
    """Members of real sizes, of which each expands to much more than a piece, are read to the last."""
    text = b"".join(b'{"eventId":"%d","eventTime":"2025-12-01T00:00:00.000Z"}\n' % number for number in range(20_000))
    compressed = COMPRESSORS[name](text)
    assert read(compressed * 3 + end) == (name, text * 3)


def test_a_skippable_frame_is_named() -> None:
    """What zstd skips and this reader does not is named, instead of damage that is none."""
    with pytest.raises(InvalidFile, match="skippable frame") as caught:
        read(zstandard.compress(b"a") + b"\x50\x2a\x4d\x18\4\0\0\0abcd")
    assert caught.value.hint == "decompress it first: zstd -dc"


@pytest.mark.parametrize("window_log", [27, 28, 30, 31])
@pytest.mark.parametrize("before", [b"", zstandard.compress(b"before")], ids=["first", "second"])
def test_a_window_that_is_too_large_is_named(window_log: int, before: bytes) -> None:
    """What `zstd --long` wrote is read up to 128 MiB; beyond, the window and the way out are named, not damage."""
    parameters = zstandard.ZstdCompressionParameters(window_log=window_log, enable_ldm=True, job_size=1 << 20)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    frame = compressor.compress(b"a") + compressor.flush()
    if window_log == 27:
        assert read(before + frame) == ("zstd", b"before" * bool(before) + b"a")
        return
    with pytest.raises(InvalidFile, match="window is larger than 128 MiB") as caught:
        read(before + frame)
    assert caught.value.hint == "decompress it first: zstd -dc --long=31"


@given(parts, st.data(), st.sampled_from(["gzip", "zstd"]))
def test_a_truncated_stream_is_rejected(contents: list[bytes], data: st.DataObject, name: str) -> None:
    """A file that ends inside a member is rejected."""
    *before, last = map(COMPRESSORS[name], contents)
    missing = data.draw(st.integers(1, len(last) - 4))
    with pytest.raises(InvalidFile, match="truncated"):
        read(b"".join([*before, last[:-missing]]))


@pytest.mark.parametrize("name", ["gzip", "zstd"])
def test_damage_is_located(name: str) -> None:
    """A changed byte, or other data after the end, is reported with a byte of the file."""
    compressed = COMPRESSORS[name](bytes(range(256)) * 40)
    damaged = compressed[:-6] + bytes([compressed[-6] ^ 0xFF]) + compressed[-5:]
    with pytest.raises(InvalidFile, match=rf"{name} stream is .*byte [\d,]+"):
        read(damaged)
    with pytest.raises(InvalidFile, match=rf"{name} stream is damaged"):
        read(compressed + b"other data after the end")


def test_padding_after_the_end_is_allowed() -> None:
    """Zero bytes after a member, as tapes and block devices leave them, are skipped."""
    assert read(gzip.compress(b"a") + b"\0" * 512) == ("gzip", b"a")


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("more", [b"x", b"\0", b"\x1f\x8b"])
def test_a_single_stream_has_nothing_after_it(name: str, more: bytes) -> None:
    """Where exactly one member is allowed, anything after it is rejected, with its byte."""
    compressed = COMPRESSORS[name](b"content")
    assert read(compressed, [3, 9], is_single=True) == (name, b"content")
    end = len(compressed)
    for file in (compressed + more, compressed + compressed):
        for splits in ([], [end], [end - 1, end + 1]):
            with pytest.raises(InvalidFile, match="follows the end") as caught:
                read(file, splits, is_single=True)
            assert caught.value.offset == end


def test_a_small_file_expands_in_bounded_pieces() -> None:
    """A gzip bomb is decompressed in bounded pieces, one at a time; of zstd's, a piece is as large as 1 KiB can be."""
    bomb = zstandard.ZstdCompressor(level=19).compress(bytes(1_000_000_000))
    assert len(bomb) > 20 * 1024
    sizes = [len(piece) for piece in decompress(iter([bomb]))[1]]
    assert sum(sizes) == 1_000_000_000
    assert max(sizes) <= 32 * 1024 * 1024 + 256 * 1024
    _, pieces = decompress(iter([gzip.compress(bytes(20_000_000))]))
    sizes = [len(piece) for piece in pieces]
    assert sum(sizes) == 20_000_000
    assert max(sizes) <= 256 * 1024


def test_a_file_is_read_in_pieces() -> None:
    """Reading yields all bytes in bounded pieces, and nothing for an empty file."""
    data = bytes(range(256)) * 5000
    pieces = list(read_pieces(io.BytesIO(data)))
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= 256 * 1024
    assert list(read_chunks(io.BytesIO(data))) == [data]
    assert read(b"") == ("", b"")
