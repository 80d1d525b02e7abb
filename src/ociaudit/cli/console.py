"""What a person sees: the one module that prints.

Owns: the terminal. stdout carries data only; everything here goes to stderr, but for what a command calls its
answer (`say_answer`).

Invariants
- Text that came from events or from the service is attacker-controlled: control characters, escape sequences
  and bidirectional overrides never reach the terminal.
- An error is always followed by a hint.
- A screen that nobody reads any more, or that was closed from the beginning, stops nothing.

How numbers are said. Owns: these phrases. Must not: print.

SIGINT and SIGTERM as a wish to stop.

Owns: the handlers. The first signal ends the run in good order; a second one ends the process at once, which
loses nothing that was committed either.

What a redaction touched, in words. Owns: these lines. Must not: print.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import traceback
import unicodedata
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any, TextIO

from ociaudit.errors import Interrupted, OciAuditError, RequestError
from ociaudit.operations.context import Cancellation

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def clean_text(text: str) -> str:
    """Return text that is safe on a terminal: whatever is not a visible character is replaced."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_REPLACEMENT if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in text)


def print_message(text: str = "") -> None:
    """Print a line to stderr."""
    _print(text, sys.stderr)


def print_output(text: str) -> None:
    """Print a line to stdout: what the command was asked for."""
    _print(text, sys.stdout)


def print_error(error: OciAuditError) -> None:
    """Print what failed and what to do next."""
    request_id = error.request_id if isinstance(error, RequestError) else None
    suffix = f" (opc-request-id {request_id})" if request_id else ""
    print_message(f"error: {error}{suffix}")
    print_message(f"hint: {error.hint}")


def print_bug(error: BaseException) -> None:
    """Print an unexpected exception with its trace, and how to report it."""
    for line in "".join(traceback.format_exception(error)).splitlines():
        print_message(line)
    print_message("error: this is a bug in oci-audit")
    print_message("hint: please report it with the lines above, after removing names you do not want to share")


def is_terminal() -> bool:
    """Tell whether a person is watching stderr."""
    return sys.stderr is not None and sys.stderr.isatty()


def find_width() -> int | None:
    """Return how many cells wide the terminal is that shows stdout; None where stdout is none."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    return shutil.get_terminal_size().columns


def fill_closed_streams() -> None:
    """Open what is closed of stdin, stdout and stderr, so that no file of ours gets its number.

    Nothing can be written to a stdout that was closed: data must not vanish.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one


class Bar:
    """A progress bar at the bottom of the terminal, with lines below it; what is printed meanwhile appears above."""

    def __init__(self) -> None:
        """Prepare; nothing is drawn."""
        self._live: Any = None
        self._lines: tuple[str, ...] = ()

    def start(self) -> None:
        """Draw it."""
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=1.0)
        # While it is shown, sys.stderr leads through it, so `say` needs to know nothing of it.
        self._live = Live(
            get_renderable=self._render,
            console=Console(stderr=True, highlight=False, markup=False),
            transient=True,
            redirect_stdout=False,
        )
        self._live.start()

    def show(self, fraction: float, text: str, lines: tuple[str, ...] = ()) -> None:
        """Move it, and show other lines below."""
        if self._live is not None:
            self._progress.update(self._task, completed=fraction)
            self._lines = (text, *lines)  # a line of its own: beside the bar it would be cut

    def stop(self) -> None:
        """Take it away; may be called again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = (Text(clean_text(line), no_wrap=True, overflow="ellipsis") for line in self._lines)
        return Group(self._progress.get_renderable(), *lines)


def _print(text: str, stream: TextIO | None) -> None:
    if stream is None:  # was closed when the program began
        return
    encoding = stream.encoding or "utf-8"
    safe = " ".join(clean_text(line) for line in text.splitlines())  # a line break could forge a line of ours
    try:
        print(safe.encode(encoding, "replace").decode(encoding), file=stream, flush=True)
    except BrokenPipeError:
        # Whoever read has gone. What is still in the buffer must not fail again at the end of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


_SIZES = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))


def describe_seconds(seconds: float) -> str:
    """Return a span as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def describe_bytes(size: float) -> str:
    """Return a size as a person says it."""
    for unit, name in _SIZES:
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{size:.0f} bytes"


def count(number: int, noun: str) -> str:
    """Return `1 gap` or `2 gaps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def cancel_on_signals(stop: Cancellation) -> Iterator[None]:
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
def interrupt_on_signals() -> Iterator[None]:
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


_PATHS_SHOWN = 30


def describe_redaction(fields: Mapping[str, int], events: int) -> Iterator[str]:
    """Yield how many values were replaced in which fields."""
    if not fields:
        yield "redacted: nothing in it looked like a credential"
        return
    yield f"redacted: {count(sum(fields.values()), 'value')} in {count(events, 'event')}"
    for path, number in list(fields.items())[:_PATHS_SHOWN]:
        yield f"  {number:>8,}  {path}"
    if len(fields) > _PATHS_SHOWN:
        yield f"  … and {count(len(fields) - _PATHS_SHOWN, 'more field')}"
