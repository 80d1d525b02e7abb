"""SIGINT and SIGTERM as a wish to stop.

Owns: the handlers. The first signal ends the run in good order; a second one ends the process at once, which
loses nothing that was committed either.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType

from ociaudit.errors import Interrupted
from ociaudit.jobs.stop import StopRequest

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_on_signals(stop: StopRequest) -> Iterator[None]:
    """Pass the signals on to `stop` inside the block."""

    def handle(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        stop.ask(number)

    before = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Let the signals unwind the block, so that temporary files go; for work that cannot be resumed.

    Raises:
        Interrupted: one came.
    """

    def handle(number: int, _: FrameType | None) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        raise Interrupted("interrupted", signal_number=number, hint="run the same command again")

    before = {each: signal.signal(each, handle) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
