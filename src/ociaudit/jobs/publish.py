"""From the spool to the file under its final name.

Owns: the pass over all events: canonical order, shape, format, compression, hash, disk.
Must not: ask anything, or know what was asked.

Invariants
- The bytes depend on the records, the shape, the format and the suffix; on nothing else.
- The next chunk is made while the last one is hashed and written; at most two chunks are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice

from ociaudit.formats.base import EventFormat
from ociaudit.formats.compression import Compressor
from ociaudit.store.ledger import BlockDigest, BlockLine

_EVENTS_PER_CHUNK = 1_000


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What has been written: bytes, their SHA-256, and that of each block, so that damage can be located."""

    size_bytes: int
    sha256: str
    blocks: tuple[BlockLine, ...]


def write_events(
    events: Iterable[tuple[bytes, int]],
    *,
    reshape: Callable[[bytes], bytes] | None,
    event_format: EventFormat,
    compressor: Compressor,
    write: Callable[[bytes], None],
    on_written: Callable[[int], None],
) -> WrittenFile:
    """Write events (with their origins) through `write` and return what was written.

    Raises:
        DiskError: as `write` does.
    """
    digest = BlockDigest()

    def put(chunk: bytes) -> None:
        data = compressor.compress(chunk)
        digest.update(data)
        write(data)

    with ThreadPoolExecutor(1, thread_name_prefix="publish") as thread:
        pending: Future[None] | None = None
        for chunk in _make_chunks(events, reshape, event_format, on_written):
            if pending is not None:
                pending.result()
            pending = thread.submit(put, chunk)
        if pending is not None:
            pending.result()
    rest = compressor.flush()
    digest.update(rest)
    write(rest)
    blocks = digest.finish()
    return WrittenFile(digest.size_bytes, digest.sha256, blocks)


def _make_chunks(
    events: Iterable[tuple[bytes, int]],
    reshape: Callable[[bytes], bytes] | None,
    event_format: EventFormat,
    on_written: Callable[[int], None],
) -> Iterator[bytes]:
    yield event_format.begin()
    stream = iter(events)
    while batch := [raw for raw, _ in islice(stream, _EVENTS_PER_CHUNK)]:
        yield event_format.write([reshape(raw) for raw in batch] if reshape else batch)
        on_written(len(batch))
    yield event_format.finish()
