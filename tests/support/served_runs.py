"""A run's directory filled as a run does, from a service that cuts its pages as it likes.

Owns: the service, which is a table of events, and the way from it through spool to the output, recovery included.
Must not: know what a test did to the files in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ociaudit.events.event import Event
from ociaudit.planning.shard import PageCursor, Shard, Target
from ociaudit.storage.merge import CanonicalReader, MergeCounts
from ociaudit.storage.run_dir import RunDirectory
from ociaudit.storage.spool import Recovered, Spool, open_spool
from support.drawn_shards import HERE, THERE, make_page_line

PLAN_ID = "7" * 64
ORIGINS: Mapping[Target, int] = {HERE: 0, THERE: 1}
Service = Mapping[Shard, Sequence[Event]]


def open_run(path: Path) -> Recovered:
    """Open the run's spool, new or left over."""
    return open_spool(RunDirectory(path), plan_id=PLAN_ID, origins=ORIGINS, at="2025-12-10T12:00:00Z")


def ask_shard(
    spool: Spool, shard: Shard, events: Sequence[Event], *, page_size: int, cursor: PageCursor | None = None
) -> Iterator[int]:
    """Put a shard's pages into the spool, one at each step; a token is the number of the event it leads to."""
    attempt, number = (cursor.attempt, cursor.page) if cursor else (0, 0)
    start = int(cursor.token or 0) if cursor else 0
    while True:
        number += 1
        end = start + page_size
        page = list(events[start:end])
        token = str(end) if end < len(events) else None
        line = make_page_line(shard, number, attempt=attempt, scanned=len(page), kept=len(page), next_token=token)
        spool.append_page(line, page)
        yield number
        if token is None:
            return
        start = end


def ask_missing(recovered: Recovered, service: Service, *, page_size: int) -> Iterator[int]:
    """Ask for all that the recovered run does not cover, going on from its bookmarks."""
    progress = recovered.progress
    for shard, events in service.items():
        coverage = progress.covered.get(shard.target)
        if coverage is None or coverage.find_missing(shard.window):
            yield from ask_shard(recovered.spool, shard, events, page_size=page_size, cursor=progress.begun.get(shard))


def kill(spool: Spool) -> None:
    """Let go of the files as a killed process does: what was not committed is lost."""
    spool._log.close()
    spool._journal.close()


def read_output(spool: Spool) -> tuple[list[bytes], MergeCounts]:
    """Return the events in canonical order, and what the merge counted."""
    with contextlib.closing(spool.open_reader()) as reader:
        canonical = CanonicalReader(spool.index, reader, start=0, end=2**70)
        return [raw for raw, _ in canonical], canonical.counts


def sort_events(service: Service) -> list[bytes]:
    """The truth: every record once, in order."""
    events = {(event.order, event.raw) for events in service.values() for event in events}
    return [raw for _, raw in sorted(events)]
