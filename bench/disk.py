"""The peak disk usage of an export, compared with the size of its output."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bench.benchmark import Row, Workspace
from bench.check import check_export
from bench.contenders import make_export_command
from bench.emulator import EmulatorProcess
from bench.events_file import make_event_file
from bench.measure import run_measured

_POLL_SECONDS = 0.02
_BLOCK_BYTES = 512  # the unit of `st_blocks` on every file system
_MAX_RATIO = 1.3


def run_disk(workspace: Workspace) -> Sequence[Row]:
    """Measure the folder's blocks repeatedly during an export."""
    folder = workspace.make_folder("disk")
    served = make_event_file(folder / "events.ndjson", workspace.events)
    run = workspace.make_folder("disk/run")
    output = run / "audit.json"
    with EmulatorProcess(folder / "config", events=served.path) as emulator, _DiskMonitor(run) as monitor:
        run_measured(make_export_command(emulator, served, output), run)
    check_export(output, served)
    ratio = monitor.peak_bytes / output.stat().st_size
    figures = {"output MB": output.stat().st_size / 1e6, "peak MB": monitor.peak_bytes / 1e6, "ratio": ratio}
    return [Row(f"{workspace.events:,} events", figures, f"at most {_MAX_RATIO}", ratio <= _MAX_RATIO)]


class _DiskMonitor:
    """A thread that measures the peak size of the files in a folder."""

    def __init__(self, folder: Path) -> None:
        self.peak_bytes = 0
        self._folder = folder
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._poll)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _poll(self) -> None:
        while not self._stop.wait(_POLL_SECONDS):
            self.peak_bytes = max(self.peak_bytes, _measure_folder(self._folder))


def _measure_folder(folder: Path) -> int:
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(Path(path) / name).st_blocks * _BLOCK_BYTES
            except FileNotFoundError:
                continue  # it was renamed in the meantime
    return total
