"""`oci-audit tail`, `import` and `prune`: their options, their runs and their screens."""

from __future__ import annotations

import select
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import BEHAVIOR, FILE, OUTPUT, SHAPES, Command, argument, filter_options, option
from ociaudit.errors import DiskError, ExitCode, Interrupted, format_count

if TYPE_CHECKING:
    from ociaudit.events.filters import FilterSpec
    from ociaudit.formats.base import Record
    from ociaudit.operations.archive_changes import ImportResult, PruneResult
    from ociaudit.operations.context import Cancellation

_STDOUT = 1
_POLL_MILLISECONDS, _POLLS = 200, 5
_GRACE_SECONDS = 2.0
"""How long a reader that pauses may take for the last lines after a signal, so that none is cut off."""
_SHOWN = 20

# --- tail ------------------------------------------------------------------------------------------------------------


@click.command(
    cls=Command,
    examples=(
        ("Everything new since the last call, for a log shipper", "oci-audit tail audit-archive --cursor siem.cursor"),
        (
            "Failed calls as they arrive",
            "oci-audit tail audit-archive --cursor siem.cursor --follow --outcome failure",
        ),
    ),
)
@argument("archive", type=FILE, metavar="ARCHIVE", help="Folder of the archive.")
@option(
    "--cursor",
    section=OUTPUT,
    type=FILE,
    metavar="FILE",
    help="File that holds how far you have read; created at the first call, which begins at the first commit.",
)
@option("--follow", section=OUTPUT, is_flag=True, help="Wait for new commits at the end, until interrupted.")
@option(
    "--shape",
    section=OUTPUT,
    type=click.Choice(SHAPES),
    default="api",
    help="Field names and structure: api (as the API returns them), sdk (as in Oracle's Python SDK), or cli (as in "
    "Oracle's CLI).",
)
@option("--with-origin", section=OUTPUT, is_flag=True, help="Add the region and compartment an event was fetched from.")
@option(
    "--with-record-id",
    section=OUTPUT,
    is_flag=True,
    help="Add record_id, the SHA-256 of the event as served, by which a receiver drops repeated events.",
)
@filter_options
@option("-q", "--quiet", section=BEHAVIOR, is_flag=True, help="Print only notices and errors.")
def tail(archive: Path, *, wanted: FilterSpec, quiet: bool, **options: Any) -> int:
    """Print the events that an archive gained since the last call, one JSON object per line.

    The cursor is saved after the events were written: a killed process gives some of them again, and never loses one.

    Exit codes: 0 done, 2 usage, 5 disk or stdout was closed, 6 the archive is damaged, 130 or 143 interrupted.
    """
    from ociaudit.archive.tail import tail_archive
    from ociaudit.events.filters import EventFilter
    from ociaudit.formats.base import EventEncoder
    from ociaudit.operations.context import Cancellation

    cancellation = Cancellation()
    event_filter = EventFilter(wanted)
    for notice in event_filter.notices:
        console.print_notice(notice)
    encoder = EventEncoder(options["shape"], options["with_origin"], options["with_record_id"])
    output = _make_tail_output(event_filter.is_wanted if event_filter else None, encoder.encode, cancellation)
    if not options["follow"]:
        output = output.__class__(output.encode, output.write, output.check)
    with (
        console.handle_signals(cancellation.cancel),
        tempfile.TemporaryDirectory(prefix="oci-audit-") as scratch,
    ):
        written = tail_archive(
            archive,
            output,
            cursor_path=options["cursor"],
            scratch=Path(scratch),
            on_notice=console.choose_notice(is_strict=False),
        )
        if not quiet:
            console.print_message(f"{format_count(written, 'event')} written")
    return ExitCode.OK


def _make_tail_output(
    is_wanted: Callable[[bytes], bool] | None,
    encode: Callable[[Sequence[bytes], Sequence[Any]], Sequence[bytes]],
    cancellation: Cancellation,
) -> Any:
    """Return the output to stdout, which stops at a signal between two portions."""
    from ociaudit.archive.tail import TailOutput
    from ociaudit.clock import SystemClock
    from ociaudit.storage.atomic_io import write_to_reader

    clock = SystemClock()
    deadlines: list[float] = []

    def encode_wanted(records: Sequence[Record]) -> Sequence[bytes]:
        chosen = [one for one in records if is_wanted is None or is_wanted(one.raw)]
        return encode([one.raw for one in chosen], [one.origin for one in chosen])

    def check() -> None:
        cancellation.check("; the cursor is behind what was written")

    def check_pause() -> None:
        if cancellation.signal_number is None:
            return
        deadlines.append(clock.monotonic() + _GRACE_SECONDS)
        del deadlines[1:]
        if clock.monotonic() > deadlines[0]:
            raise Interrupted(
                "interrupted while nobody read stdout; its last line may be cut off",
                signal_number=cancellation.signal_number,
                hint="run the same command again: the cursor is before what was not written",
            )

    def write(data: bytes) -> None:
        try:
            write_to_reader(_STDOUT, data, Path("stdout"), check=check_pause)
        except DiskError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise _report_closed() from error
            raise

    def wait() -> None:
        poll = select.poll()
        poll.register(_STDOUT, 0)
        for _ in range(_POLLS):
            check()
            if any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(_POLL_MILLISECONDS)):
                raise _report_closed()

    return TailOutput(encode_wanted, write, check, wait)


def _report_closed() -> DiskError:
    return DiskError(
        "stdout was closed by its reader",
        hint="run the same command again: with --cursor it continues behind what was read",
    )
