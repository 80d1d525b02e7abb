"""The terminal: everything that is printed, and the signals that stop a command.

stdout carries data only. Everything else goes to stderr, except the output of commands whose result is text
(`print_output`, `print_data`). The functions `format_...`, `describe_...` and `list_...` turn numbers and gaps into the
words that all commands use; they do not print.

Invariants
- Text from events or from the service is attacker-controlled: control characters, escape sequences and
  bidirectional overrides never reach the terminal.
- An error is always followed by a hint.
- On a terminal, lines break between words to fit its width; elsewhere every line is whole. Data is never changed.
- A stream that is closed, or that nobody reads any more, does not stop the program.
- Importing this module stays cheap, because `--help` needs it: what few commands use is imported in functions.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import click

from ociaudit.errors import DiskError, Interrupted, OciAuditError, RequestError, format_count

if TYPE_CHECKING:
    from types import FrameType

    from ociaudit.planning.shard import Gap, Target
    from ociaudit.storage.manifest import GapEntry, Range

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_SIZE_UNITS = ((10**9, "GB"), (10**6, "MB"), (10**3, "kB"))
_PATHS_SHOWN = 30
_GAPS_SHOWN = 40
_UNAUTHORIZED = "401 "
_USUAL_WIDTH, _NARROWEST = 80, 40
_WORD = re.compile(r" *[^ ]+")
_COLUMN_GAP = re.compile(r"(?<=[^ ]) {2,}(?=[^ ])")
_COLORS = {
    "ok": "green",
    "complete": "green",
    "already complete": "green",
    "no difference": "green",
    "error": "red",
    "failed": "red",
    "gap": "red",
    "unknown": "yellow",
    "warning": "yellow",
    "notice": "yellow",
    "note": "yellow",
    "hint": "cyan",
    "policy": "cyan",
    "skipped": "bright_black",
}
"""Words that begin a line, or what follows its label, and their colors."""
_LABEL = re.compile(rf"( *(?:[\w-]+ {{2,}})?)({'|'.join(_COLORS)})(?=[\s:,;]|$)")
_ALARM = re.compile(r"\b(?:INCOMPLETE|ALTERED|DAMAGED|GAP|UNKNOWN|SIGNATURE|NOT SIGNED AS EXPECTED|THEY DIFFER)\b")


def clean_text(text: str) -> str:
    """Return text that is safe on a terminal: every character that is not visible is replaced."""
    if text.isascii() and text.isprintable():
        return text
    import unicodedata

    return "".join(_REPLACEMENT if unicodedata.category(char) in _HIDDEN_CATEGORIES else char for char in text)


def print_message(text: str = "") -> None:
    """Print a line to stderr."""
    _print_text(clean_line(text), sys.stderr)


def print_notice(text: str) -> None:
    """Print a notice to stderr."""
    print_message(f"notice: {text}")


def choose_notice(*, is_strict: bool) -> Callable[[str], None]:
    """Return what to do with the sentence that an input is not whole: print it once, or reject the input."""
    from ociaudit.formats.reader import reject_incomplete

    if is_strict:
        return reject_incomplete
    printed: set[str] = set()

    def print_once(text: str) -> None:
        if text not in printed:
            printed.add(text)
            print_notice(text)

    return print_once


def print_output(text: str) -> None:
    """Print a line to stdout: what the command was run for."""
    _print_text(clean_line(text), sys.stdout)


def print_data(text: str, *, to_stderr: bool = False) -> None:
    """Print a line for programs, such as JSON, which is neither folded nor colored."""
    _print(clean_line(text), sys.stderr if to_stderr else sys.stdout)


def print_error(error: OciAuditError) -> None:
    """Print what failed and what to do next."""
    request_id = error.request_id if isinstance(error, RequestError) else None
    suffix = f" (opc-request-id {request_id})" if request_id else ""
    print_message(f"error: {error}{suffix}")
    print_message(f"hint: {error.hint}")


def print_bug(error: BaseException) -> None:
    """Print an unexpected exception with its traceback, and how to report it."""
    import traceback

    for line in "".join(traceback.format_exception(error)).splitlines():
        print_message(line)
    print_message("error: this is a bug in oci-audit")
    print_message("hint: please report it with the lines above, after removing names you do not want to share")


def print_lines(text: str, *, to_stderr: bool = False) -> None:
    """Print a text of our own, such as help with its colors, without cleaning it."""
    for line in text.splitlines():
        _print(line, sys.stderr if to_stderr else sys.stdout)


def is_terminal() -> bool:
    """Return whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def uses_color(*, to_stderr: bool = False) -> bool:
    """Return whether to color the output: as `--color` says, or else on a terminal without `NO_COLOR`."""
    stream = sys.stderr if to_stderr else sys.stdout
    context = click.get_current_context(silent=True)
    if context is not None and context.color is not None:
        return context.color
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"  # https://no-color.org
    return stream is not None and stream.isatty() and not is_plain


def find_width(*, to_stderr: bool = False) -> int | None:
    """Return the width in cells of the terminal that stdout (or stderr) goes to; None if it is not a terminal."""
    stream = sys.stderr if to_stderr else sys.stdout
    if stream is None or not stream.isatty():
        return None
    named = os.environ.get("COLUMNS", "")
    if named.isdecimal() and int(named) > 0:
        return int(named)
    try:
        return os.get_terminal_size(stream.fileno()).columns or _USUAL_WIDTH
    except (OSError, ValueError):
        return _USUAL_WIDTH


def fold_line(text: str, width: int) -> list[str]:
    """Return a line as lines that fit into `width` cells, broken between words only.

    Later lines are indented to the line's last column, if it has columns. A longer word, such as an OCID, stays whole.
    """
    from rich.cells import cell_len

    if cell_len(text) <= width:
        return [text]
    indent = " " * _find_indent(text, width)
    lines = [""]
    for word in _WORD.findall(text):
        if lines[-1].strip() and cell_len(lines[-1] + word) > width:
            word = word.lstrip(" ")  # noqa: PLW2901 - the spaces before it end the line
            lines.append(indent[: max(2, width - cell_len(word))] + word)
        else:
            lines[-1] += word
    return lines


def _find_indent(text: str, width: int) -> int:
    """Return where the last column of a line begins; without columns, two cells after the line's own indent."""
    columns = [match.end() for match in _COLUMN_GAP.finditer(text) if match.end() <= width // 2]
    return columns[-1] if columns else min(len(text) - len(text.lstrip(" ")) + 2, width // 2)


def fill_closed_streams() -> None:
    """Open those of stdin, stdout and stderr that are closed, so that no file of ours gets their numbers.

    A write to a stdout that was closed fails: data must not vanish.
    """
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, flags)  # takes the lowest free number, which is this one


@contextlib.contextmanager
def handle_signals(handle: Callable[[int], object]) -> Iterator[None]:
    """Call `handle` with the number of the first SIGINT or SIGTERM that arrives inside the block.

    A second signal ends the process immediately, which loses nothing that was committed. The block includes the
    printing of the result: once the work is done, a signal must not turn it into an interruption.
    """
    import signal

    signals = (signal.SIGINT, signal.SIGTERM)

    def handle_first(number: int, _: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        handle(number)

    previous = {each: signal.signal(each, handle_first) for each in signals}
    try:
        yield
    finally:
        for each, handler in previous.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def end_cleanly() -> Iterator[None]:
    """Let SIGTERM unwind the stack, as Ctrl-C does, so that temporary files go; `handle_signals` may do more inside."""
    import signal
    import threading

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends the process immediately
        raise_interrupted(number)

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def raise_interrupted(number: int) -> NoReturn:
    """Unwind the stack after a signal, so that temporary files go; for work that cannot be resumed.

    Raises:
        Interrupted: always.
    """
    raise Interrupted("interrupted", signal_number=number, hint="run the same command again")


class ProgressBar:
    """A progress bar at the bottom of the terminal, with lines below it; messages appear above."""

    def __init__(self) -> None:
        """Prepare the bar without drawing it."""
        self._live: Any = None
        self._lines: tuple[str, ...] = ()

    def start(self, text: str) -> None:
        """Draw the bar with a line below it, in place of one that is there."""
        self.stop()
        from rich.console import Console
        from rich.live import Live
        from rich.text import Text

        class WholeLines(Console):
            """A console that does not break the lines of messages, which fit already, inside a long word."""

            def print(self, *objects: Any, **options: Any) -> None:
                is_text = bool(objects) and all(isinstance(each, Text) for each in objects)
                super().print(*objects, **({"soft_wrap": True} | options if is_text else options))

        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeElapsedColumn(),
            auto_refresh=False,
        )
        self._task = self._progress.add_task("", total=1.0)
        self._lines = (text,)
        # While the bar is shown, rich replaces sys.stderr, so `print_message` prints above it without knowing it.
        self._live = Live(
            get_renderable=self._render,
            console=WholeLines(stderr=True, highlight=False, markup=False, no_color=not uses_color(to_stderr=True)),
            transient=True,
            redirect_stdout=False,
        )
        self._live.start(refresh=True)

    def show(self, fraction: float, text: str, lines: tuple[str, ...] = ()) -> None:
        """Move the bar to a fraction from 0 to 1, and replace the lines below it."""
        if self._live is not None:
            self._progress.update(self._task, completed=fraction)
            self._lines = (text, *lines)  # beside the bar the text would be truncated

    def stop(self) -> None:
        """Remove the bar; may be called again."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _render(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        lines = (Text(clean_text(line), no_wrap=True, overflow="ellipsis") for line in self._lines)
        return Group(self._progress.get_renderable(), *lines)


def fit_widths(widths: Sequence[int], total: int, *, narrowest: int = 8, widest: int | None = None) -> list[int]:
    """Return the widths of columns, two cells apart, so that a row fits into `total` cells: the widest shrink first.

    `widest` limits every column if they do not fit; no column gets below `narrowest`.
    """
    room = total - 2 * (len(widths) - 1)
    result = [min(width, widest or width) for width in widths] if sum(widths) > room else list(widths)
    while sum(result) > room and max(result) > narrowest:
        result[result.index(max(result))] -= 1
    return result


def list_names(names: Sequence[str], *, shown: int) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {more:,} more" if more > 0 else "")


def format_duration(seconds: float) -> str:
    """Return a duration in the unit that suits it: `89 s`, `90 min` or `1.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def format_size(size_bytes: float) -> str:
    """Return a number of bytes in the unit that suits it, such as `5.0 GB`."""
    for unit, name in _SIZE_UNITS:
        if size_bytes >= unit:
            return f"{size_bytes / unit:,.1f} {name}"
    return f"{size_bytes:.0f} bytes"


def describe_redaction(fields: Mapping[str, int], events: int) -> Iterator[str]:
    """Yield how many values were redacted in which fields."""
    if not fields:
        yield "redacted: no value looked like a credential"
        return
    yield f"redacted: {format_count(sum(fields.values()), 'value')} in {format_count(events, 'event')}"
    for path, number in list(fields.items())[:_PATHS_SHOWN]:
        yield f"  {number:>8,}  {path}"
    if len(fields) > _PATHS_SHOWN:
        yield f"  … and {format_count(len(fields) - _PATHS_SHOWN, 'more field')}"


def describe_gaps(
    gaps: Sequence[Gap],
    *,
    policy: str,
    is_kept: bool = True,
    repetition: str = "",
    can_waive: bool = False,
    paths: Mapping[str, str] | None = None,
    requested: Range | None = None,
    is_detailed: bool = False,
    headline: str | None = None,
    is_finished: bool = False,
    is_archive: bool = False,
) -> Iterator[str]:
    """Yield the gaps, one line per compartment and cause, and what to do about them.

    `policy` is the IAM statement to ask for if targets are denied. `is_kept`: the run directory is kept.
    `repetition` are the options that the same command needs to continue, as `name_repetition` returns them.
    `can_waive`: the command has the option `--waive`. `paths` are the paths of compartments by OCID. Gaps of all of
    `requested` are shown without their time. `is_detailed` adds every gap with its request id. `headline` is the
    verdict. `is_finished`: the gaps were waived when the file was written, and its run directory is gone.
    `is_archive`: they are those of an archive.
    """
    yield headline or f"INCOMPLETE: {format_count(len(gaps), 'gap')}"
    kept_in = "the newest commit" if is_archive else "the manifest"
    yield from list_gap_lines(gaps, paths or {}, requested=requested, kept_in=kept_in)
    if is_detailed:
        yield from (f"  {describe_gap(gap)}" for gap in gaps[:_GAPS_SHOWN])
    yield from _advise(gaps, policy, can_waive=can_waive)
    if is_archive:
        yield "hint: every sync requests them again, until the service no longer keeps their events"
    elif is_finished:
        yield "hint: these gaps were waived when the file was written: repeat --waive, or use --overwrite"
    elif is_kept:
        yield f"hint: the same command again{repetition and f' {repetition}'} requests only the gaps"
    else:
        yield "hint: a run to stdout keeps nothing; with -o FILE the same command again requests only the gaps"


def list_gap_lines(
    gaps: Sequence[Gap], paths: Mapping[str, str], *, requested: Range | None, kept_in: str = "the manifest"
) -> Iterator[str]:
    """Yield gaps by compartment and cause, in lines that fit 80 columns where OCIDs and names permit.

    `kept_in` is where all of them are, if there are too many to show.
    """
    from ociaudit.planning.shard import describe_group, group_gaps

    try:
        window = requested.window if requested else None
    except ValueError:  # a manifest that was changed
        window = None
    groups = group_gaps(gaps)
    for group in groups[:_GAPS_SHOWN]:
        first, *others = wrap_text(describe_group(group, paths, window=window), 76)
        yield f"  {first}"
        yield from (f"    {line}" for line in others)
    rest = sum(group.windows for group in groups[_GAPS_SHOWN:])
    if rest:
        yield f"  … and {format_count(rest, 'more gap')}; all are in {kept_in}"


def list_gap_entries(
    entries: Sequence[GapEntry], paths: Mapping[str, str], requested: Range | None = None
) -> Iterator[str]:
    """Yield the gaps of a manifest as `list_gap_lines` does; as they are where their times cannot be read."""
    try:
        gaps = [entry.gap for entry in entries]
    except ValueError:
        for entry in entries[:_GAPS_SHOWN]:
            yield f"  {entry.kind} {entry.region} {entry.compartment} {entry.start} .. {entry.end}: {entry.reason}"
        return
    yield from list_gap_lines(gaps, paths, requested=requested)


def _advise(gaps: Sequence[Gap], policy: str, *, can_waive: bool) -> Iterator[str]:
    denied = [gap for gap in gaps if gap.kind == "denied"]
    if any(gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield "hint: 401 in only one region: the tenancy is not subscribed to it, or the subscription is in progress"
    if any(not gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield f"hint: for denied targets ask for: {policy}"
        if can_waive:
            yield "hint: if a denial is intended, --waive NAME keeps it on record without exit code 10"


def describe_gap(gap: Gap, paths: Mapping[str, str] | None = None) -> str:
    """Return region, compartment, window, reason and request id of a gap, in one line; with the path, if known."""
    request_id = f" (opc-request-id {gap.request_id})" if gap.request_id else ""
    where = describe_target(gap.target, paths or {})
    return f"{gap.kind} {where} {gap.window}: {gap.reason}{request_id}"


def describe_target(target: Target, paths: Mapping[str, str]) -> str:
    """Return a target by region and path; by the OCID where no path is known."""
    return f"{target.region} {paths.get(target.compartment) or target.compartment}"


def wrap_text(text: str, width: int = _USUAL_WIDTH) -> list[str]:
    """Return text as lines of at most `width` characters, broken only between words."""
    lines: list[str] = []
    for word in text.split():
        if lines and len(lines[-1]) + 1 + len(word) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines


def clean_line(text: str) -> str:
    """Return text as one safe line: a line break inside it could forge a line of ours."""
    return " ".join(clean_text(line) for line in text.splitlines())


def paint(line: str) -> str:
    """Return a line with the words in color that say how something went."""
    label = _LABEL.match(line)
    if label is not None:
        color = _COLORS[label[2]]
        rest = line[label.end() :]
        return label[1] + click.style(label[2], fg=color, bold=True) + _paint_alarms(rest)
    return _paint_alarms(line)


def _paint_alarms(text: str) -> str:
    return _ALARM.sub(lambda match: click.style(match[0], fg="red", bold=True), text)


def _print_text(line: str, stream: TextIO | None) -> None:
    to_stderr = stream is sys.stderr
    width = find_width(to_stderr=to_stderr)
    has_color = uses_color(to_stderr=to_stderr)
    # In one write, because a bar is redrawn after each.
    lines = [line] if width is None else fold_line(line, max(width, _NARROWEST))
    _print("\n".join(paint(each) if has_color else each for each in lines), stream)


def _print(line: str, stream: TextIO | None) -> None:
    if stream is None:  # was closed when the program began
        return
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(line.encode(encoding, "replace").decode(encoding) + "\n")
        stream.flush()
    except BrokenPipeError:
        # The reader has gone. What is still in the buffer must not fail again at the end of the program.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        if stream is not sys.stderr:  # a message that cannot be printed stops nothing
            raise DiskError(
                f"cannot write to stdout: {error.strerror or error}", hint="make room where stdout goes"
            ) from error
