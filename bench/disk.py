"""An export from nothing: how much disk it takes at the most, beside what it leaves."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bench.benchmark import Row, Workshop
from bench.check import check_export
from bench.contenders import make_export_command
from bench.events_file import make_event_file
from bench.measure import run_measured
from bench.server import Server

_LOOK_SECONDS = 0.02
_BLOCK_BYTES = 512  # what `st_blocks` counts, whatever the file system's blocks are
_MOST_RATIO = 1.3


def run_disk(workshop: Workshop) -> Sequence[Row]:
    """Look at the folder's blocks again and again while it is filled."""
    folder = workshop.make_folder("disk")
    made = make_event_file(folder / "events.ndjson", workshop.events)
    run = workshop.make_folder("disk/run")
    output = run / "audit.json"
    with Server(folder / "config", events=made.path) as server, _Watch(run) as watch:
        run_measured(make_export_command(server, made, output), run)
    check_export(output, made)
    ratio = watch.peak_bytes / output.stat().st_size
    run_stats = {"output MB": output.stat().st_size / 1e6, "peak MB": watch.peak_bytes / 1e6, "ratio": ratio}
    return [Row(f"{workshop.events:,} events", run_stats, f"at most {_MOST_RATIO}", ratio <= _MOST_RATIO)]


class _Watch:
    """Notes the most that the files of a folder take, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self.peak_bytes = 0
        self._folder = folder
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._is_over.wait(_LOOK_SECONDS):
            self.peak_bytes = max(self.peak_bytes, _measure_folder(self._folder))


def _measure_folder(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(path) / name).st_blocks * _BLOCK_BYTES
            except FileNotFoundError:
                continue  # it has just got its final name
    return total
