"""Exports that are killed or interrupted at random moments, and started again until one ends."""

from __future__ import annotations

import os
import random
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass

from support.kill_at_call import Ended
from support.stands import Stand


@dataclass(frozen=True, slots=True)
class Stopped:
    """An export that received a signal: how it ended, and how many seconds after the signal."""

    ended: Ended
    seconds: float


def empty_folder(stand: Stand) -> None:
    """Remove everything that earlier exports wrote."""
    for path in stand.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def measure(stand: Stand) -> float:
    """Return how many seconds an undisturbed export takes once the caches are warm."""
    for _ in range(2):
        empty_folder(stand)
        started = time.monotonic()
        stand.export()
    seconds = time.monotonic() - started
    empty_folder(stand)
    return seconds


def stop_at_random(
    stand: Stand, number: signal.Signals, *, seconds: float, randomness: random.Random
) -> Iterator[Stopped]:
    """Start exports and send a signal to each at a random moment; yield those that it stopped.

    Each export starts with what the one before left.
    """
    while True:
        running = stand.start()
        time.sleep(randomness.uniform(0, seconds))
        os.kill(running.process_id, number)
        sent = time.monotonic()
        ended = running.wait()
        if ended.status != 0:
            yield Stopped(ended, time.monotonic() - sent)
        elif randomness.random() < 0.9:  # it had ended: start from nothing, or let the next one find the output
            empty_folder(stand)
