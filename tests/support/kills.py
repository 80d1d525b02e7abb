"""Exports that are killed or interrupted at random moments, and begun again until they come to an end.

Owns: the moments. Must not: judge what comes out.
"""

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
    """An export that got a signal: how it ended, and how long it took it to."""

    ended: Ended
    seconds: float


def empty_folder(stand: Stand) -> None:
    """Remove everything that exports have left."""
    for path in stand.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def measure(stand: Stand) -> float:
    """Return how many seconds an undisturbed export takes, once everything is warm."""
    for _ in range(2):
        empty_folder(stand)
        began = time.monotonic()
        stand.export()
    seconds = time.monotonic() - began
    empty_folder(stand)
    return seconds


def stop_at_random(
    stand: Stand, number: signal.Signals, *, seconds: float, randomness: random.Random
) -> Iterator[Stopped]:
    """Begin exports and send a signal to each at some moment of its time; yield those that it met at work.

    Each begins with what the one before has left.
    """
    while True:
        running = stand.start()
        time.sleep(randomness.uniform(0, seconds))
        os.kill(running.process_id, number)
        sent = time.monotonic()
        ended = running.wait()
        if ended.status != 0:
            yield Stopped(ended, time.monotonic() - sent)
        elif randomness.random() < 0.9:  # it had come to its end: begin anew, or let the next one find the output
            empty_folder(stand)
