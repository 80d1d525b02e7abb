"""From the spool to the file under its final name.

Owns: the pass over all events: canonical order, shape, format, compression, hash, disk.
Must not: ask anything, or know what was asked.

Invariants
- The bytes depend on the records, the spelling, the format and the compression; on nothing else.
- The next chunk is made while the last one is hashed and written; at most two chunks are in memory.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from ociaudit.formats.base import EventFormat
from ociaudit.formats.compression import Compressor
from ociaudit.plan.shard import Place
from ociaudit.store.ledger import BlockDigest, BlockLine

_EVENTS_PER_CHUNK = 1_000
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class WrittenFile:
    """What has been written: bytes, their SHA-256, and that of each block, so that damage can be located."""

    size_bytes: int
    sha256: str
    blocks: tuple[BlockLine, ...]


def write_events(
    events: Iterable[tuple[bytes, T]],
    *,
    locate: Callable[[T], Place | None],
    event_format: EventFormat,
    compressor: Compressor,
    write: Callable[[bytes], None],
    on_written: Callable[[int], None],
) -> WrittenFile:
    """Write events through `write` and return what was written; `locate` turns what comes with each into its origin.

    Raises:
        DiskError: as `write` does, or a format's scratch file was refused.
    """
    digest = BlockDigest()

    def put(chunk: bytes) -> None:
        data = compressor.compress(chunk)
        digest.update(data)
        write(data)

    with (
        closing(event_format),
        ThreadPoolExecutor(1, thread_name_prefix="publish") as thread,
        closing(_make_chunks(events, locate, event_format, on_written)) as chunks,
    ):
        pending: Future[None] | None = None
        for chunk in chunks:
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
    events: Iterable[tuple[bytes, T]],
    locate: Callable[[T], Place | None],
    event_format: EventFormat,
    on_written: Callable[[int], None],
) -> Generator[bytes]:
    yield event_format.begin()
    stream = iter(events)
    while batch := list(islice(stream, _EVENTS_PER_CHUNK)):
        yield event_format.write([raw for raw, _ in batch], [locate(origin) for _, origin in batch])
        on_written(len(batch))
    yield from event_format.finish()
