import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ociaudit.formats.compression import choose_compressor


def compress(path: Path | None, pieces: list[bytes]) -> bytes:
    """Compress pieces as one file."""
    compressor = choose_compressor(path)
    return b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_gzip_depends_on_the_bytes_alone(pieces: list[bytes]) -> None:
    """Name, time and the size of the pieces leave no trace, and everyone's gzip reads it."""
    packed = compress(Path("a.json.gz"), pieces)
    assert packed == compress(Path("other.gz"), [b"".join(pieces)])
    assert gzip.decompress(packed) == b"".join(pieces)
    assert packed[3:8] == bytes(5)  # no flags, so no name; no time


@pytest.mark.parametrize("path", [None, Path("a.json"), Path("gz"), Path("a.gz.json"), Path(".gz")])
def test_anything_else_is_left_as_it_is(path: Path | None) -> None:
    """Only the suffix `.gz` compresses; stdout never does."""
    assert compress(path, [b"a", b"b"]) == b"ab"
