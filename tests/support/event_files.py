"""The files that an export writes, made in memory for tests of readers and writers."""

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


def make_event_file(
    name: FormatName,
    raws: Sequence[bytes],
    *,
    origins: Sequence[Target | None] | None = None,
    encoder: EventEncoder | None = None,
    compression: CompressionName = "none",
    splits: Sequence[int] = (),
) -> bytes:
    """Return a file of these events in a format, written in batches that end at `splits`."""
    compressor = make_compressor(compression)
    known = list(origins) if origins is not None else [None] * len(raws)
    bounds = [0, *sorted(min(split, len(raws)) for split in splits), len(raws)]
    with (
        tempfile.TemporaryDirectory() as scratch,
        closing(make_format(name, encoder or EventEncoder(), scratch=Path(scratch))) as writer,
    ):
        pieces = [writer.begin()]
        pieces += [
            writer.write(raws[start:end], known[start:end]) for start, end in itertools.pairwise(bounds) if start < end
        ]
        pieces += writer.finish()
    return b"".join(compressor.compress(piece) for piece in pieces) + compressor.flush()
