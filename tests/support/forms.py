"""Events written in a form, in memory, as an export writes them.

Owns: that writing, for tests of readers and writers. Must not: read anything back.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from ociaudit.formats.base import EventEncoder
from ociaudit.formats.compression import CompressionName, make_compressor
from ociaudit.formats.registry import FormatName, make_format
from ociaudit.planning.shard import Target


def write_form(
    name: FormatName,
    raws: Sequence[bytes],
    *,
    origins: Sequence[Target | None] | None = None,
    spelling: EventEncoder | None = None,
    compression: CompressionName = "none",
    splits: Sequence[int] = (),
) -> bytes:
    """Return the file of these events, written in batches that end at `cuts`."""
    compressor = make_compressor(compression)
    known = list(origins) if origins is not None else [None] * len(raws)
    bounds = [0, *sorted(min(cut, len(raws)) for cut in splits), len(raws)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(make_format(name, spelling or EventEncoder(), scratch=Path(scratch))) as layout,
    ):
        pieces = [layout.begin()]
        pieces += [
            layout.write(raws[start:end], known[start:end]) for start, end in itertools.pairwise(bounds) if start < end
        ]
        pieces += layout.finish()
    return b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()
