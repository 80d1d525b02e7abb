import gzip

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats.compression import make_compressor

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
