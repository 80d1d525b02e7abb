"""Write an archive of 400 dates and hourly commits, and print how many seconds of CPU it takes to open at worst.

How long that takes depends on how many commits follow the newest checkpoint. Run by `bench.archive`.
"""

from __future__ import annotations

import gc
import hashlib
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ociaudit.archive.commit import Answered, Commit, Compartment, ScopeChange, SegmentEntry, Selection, Writer
from ociaudit.archive.commit_log import CHECKPOINT_INTERVAL, CommitLog, create_archive, lock_archive
from ociaudit.archive.reader import open_archive
from ociaudit.archive.state import ArchiveState
from ociaudit.planning.shard import Window, format_minute

_FIRST = 29_000_160
_RINGS = (120, 1_560, 10_080)
_ROUNDS = 100
_DATES = 400


def main() -> None:
    """Write so many commits, then a few more, and open the archive several times after each of these."""
    path, count = Path(sys.argv[1]), int(sys.argv[2])
    os.fsync = os.fdatasync = lambda fd: None  # noqa: ARG005 - the name of the parameter is typed
    create_archive(path, tenancy="ocid1.tenancy.oc1..bench", now=datetime.now(UTC))
    state = ArchiveState()
    worst = 0.0
    with lock_archive(path):
        log = CommitLog.open(path)
        for number in range(count + CHECKPOINT_INTERVAL):
            commit = _make_commit(log, number)
            state.apply(commit, log.append(commit).digest)
            if log.is_checkpoint_due():
                log.write_checkpoint(state.encode())
            if number >= count:
                worst = max(worst, _measure(path))
    print(worst)


def _measure(path: Path) -> float:
    """Return the CPU seconds that opening an archive takes; what was written before is not looked at again."""
    gc.collect()
    gc.freeze()
    seconds = []
    for _ in range(_ROUNDS):
        started = time.process_time()
        open_archive(path)
        seconds.append(time.process_time() - started)
    return min(seconds)  # what disturbs a fraction of a millisecond only makes it longer


def _make_commit(log: CommitLog, number: int) -> Commit:
    now = _FIRST + 60 * number
    names = {f"ocid1.compartment.oc1..{each}": Compartment(f"root/{each}", "ACTIVE") for each in range(41)}
    due = _RINGS if number % 168 == 0 else _RINGS[:2] if number % 24 == 0 else _RINGS[:1]
    scope = ScopeChange(added_regions=("us-ashburn-1", "eu-frankfurt-1", "ap-tokyo-1"), compartments=names)
    return Commit(
        sequence=log.next_sequence,
        previous=log.previous,
        kind="sync",
        at=format_minute(now),
        run_id=str(number),
        writer=Writer("0", "0"),
        now=now,
        start=_FIRST - 1_440,
        end=now - 15,
        settle_minutes=15,
        rings=_RINGS,
        rings_run=due,
        retention_days=365,
        selection=None if number else Selection(),
        scope=None if number else scope,
        answered=(Answered((Window(now - 15 - (due[-1] + 75), now - 15),)),),
        added=() if number else tuple(map(_make_segment, range(_DATES))),
    )


def _make_segment(number: int) -> SegmentEntry:
    date = format_minute(_FIRST + 1_440 * number)[:10]
    rows = hashlib.sha256(b"%d" % number).hexdigest()
    return SegmentEntry(f"events/event_date={date}/{rows[:32]}.parquet", date, 1_000, 100_000, rows, rows)


if __name__ == "__main__":
    main()
