"""`oci-audit tail`, `import` and `prune`: their options, their runs and their screens."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    PLACE,
    SHAPES,
    Command,
    Places,
    argument,
    filter_options,
    option,
    place_options,
)
from ociaudit.errors import DiskError, ExitCode, UsageError, format_count

if TYPE_CHECKING:
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.events.filters import EventFilter, FilterSpec
    from ociaudit.formats.base import EventEncoder, Record
    from ociaudit.operations.archive_changes import ImportedFile, ImportResult, PruneResult
    from ociaudit.operations.context import Cancellation

_STDOUT = 1
_POLL_MILLISECONDS, _POLLS = 200, 5
_GRACE_SECONDS = 2.0
"""How long a reader that pauses may take for the last lines after a signal, so that none is cut off."""
_SHOWN = 20
_WAITS_PER_LOOK = 30
"""A tail that follows an archive in a store looks for new commits every so many seconds."""

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
@argument("archive", type=PLACE, metavar="ARCHIVE", help="Folder of the archive, or its oci:// URL.")
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
@option(
    "--valid-unicode",
    section=OUTPUT,
    is_flag=True,
    help="Replace lone surrogates, which jq and others reject, with U+FFFD.",
)
@filter_options
@place_options
@option("-q", "--quiet", section=BEHAVIOR, is_flag=True, help="Print only notices and errors.")
def tail(archive: Path | ObjectUrl, *, wanted: FilterSpec, quiet: bool, places: Places, **options: Any) -> int:
    """Print the events that an archive gained since the last call, one JSON object per line.

    The cursor is saved after the events were written: a killed process gives some of them again, and never loses one.
    What kill -9 leaves of a line at the end of a file is ended before the first new one.

    Exit codes: 0 done, 2 usage, 3 or 4 a URL cannot be used, 5 disk or stdout was closed, 6 the archive is damaged, 130
    or 143 interrupted.
    """
    from ociaudit.archive.tail import TailOutput, tail_archive
    from ociaudit.events.filters import EventFilter
    from ociaudit.formats.base import EventEncoder
    from ociaudit.operations.context import Cancellation

    cancellation = Cancellation()
    event_filter = EventFilter(wanted)
    for notice in event_filter.notices:
        console.print_notice(notice)
    encoder = EventEncoder(options["shape"], options["with_origin"], options["with_record_id"])
    stdout = _Stdout(
        event_filter,
        encoder,
        cancellation,
        is_valid_unicode=options["valid_unicode"],
        has_cursor=options["cursor"] is not None,
    )
    path = places.open_archive_folder(archive)
    wait = _prepare_copy(places, path, options["cursor"], stdout.wait) if places.is_copy(path) else stdout.wait
    output = TailOutput(stdout.encode, stdout.write, stdout.check, wait if options["follow"] else None)
    with (
        console.handle_signals(cancellation.cancel),
        tempfile.TemporaryDirectory(prefix="oci-audit-") as scratch,
    ):
        written = tail_archive(
            path,
            output,
            cursor_path=options["cursor"],
            scratch=Path(scratch),
            on_notice=console.choose_notice(is_strict=False),
        )
        if not quiet:
            console.print_message(f"{format_count(written, 'event')} written")
    return ExitCode.OK


def _prepare_copy(places: Places, path: Path, cursor_path: Path | None, wait: Callable[[], None]) -> Callable[[], None]:
    """Copy what the tail of an archive at a URL needs now; return a wait that looks for more now and then."""
    from ociaudit.archive.commit_log import read_header
    from ociaudit.archive.tail import load_cursor

    cursor = load_cursor(cursor_path, read_header(path)[0].id) if cursor_path is not None else None
    following = places.follow(path, cursor.sequence if cursor else 1)
    waits = 0

    def wait_and_look() -> None:
        nonlocal following, waits
        wait()
        waits += 1
        if waits % _WAITS_PER_LOOK == 0:
            following = places.follow(path, following)

    return wait_and_look


class _Stdout:
    """The stdout of a tail: written portion by portion; a signal stops it between two of them."""

    def __init__(
        self,
        event_filter: EventFilter,
        encoder: EventEncoder,
        cancellation: Cancellation,
        *,
        is_valid_unicode: bool,
        has_cursor: bool,
    ) -> None:
        from ociaudit.clock import SystemClock

        self._filter, self._encoder, self._cancellation = event_filter, encoder, cancellation
        self._is_valid_unicode, self._has_cursor = is_valid_unicode, has_cursor
        self._clock = SystemClock()
        self._is_file = stat.S_ISREG(os.fstat(_STDOUT).st_mode)
        self._begin = b"\n" if self._is_file and _ends_in_half_line() else b""
        self._deadline: float | None = None

    def encode(self, records: Sequence[Record]) -> Sequence[bytes]:
        """Return the lines of those records that are wanted."""
        from ociaudit.events.event import replace_lone_surrogates

        chosen = [one for one in records if self._filter.is_wanted(one.raw)] if self._filter else records
        lines = self._encoder.encode([one.raw for one in chosen], [one.origin for one in chosen])
        return [replace_lone_surrogates(line)[0] for line in lines] if self._is_valid_unicode else lines

    def check(self) -> None:
        """Stop if a signal has arrived; the cursor, if there is one, is after everything written."""
        place = "; the cursor is after the last event that was written" if self._has_cursor else ""
        self._cancellation.check(f"while reading the archive{place}", is_kept=self._has_cursor)

    def write(self, data: bytes) -> None:
        """Write whole lines; after a signal the reader has two seconds to take the rest of them.

        A file is synced, because the cursor after its lines will be, too.
        """
        from ociaudit.storage.atomic_io import sync_data, write_to_reader

        data, self._begin = self._begin + data, b""
        try:
            write_to_reader(_STDOUT, data, Path("stdout"), check=self._check_pause)
            if self._is_file:
                sync_data(_STDOUT, Path("stdout"))
        except DiskError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                raise _report_closed() from error
            raise

    def wait(self) -> None:
        """Wait a second; stop if a signal arrives or the reader goes away."""
        poll = select.poll()
        poll.register(_STDOUT, 0)
        for _ in range(_POLLS):
            self.check()
            if any(state & (select.POLLERR | select.POLLHUP) for _, state in poll.poll(_POLL_MILLISECONDS)):
                raise _report_closed()

    def _check_pause(self) -> None:
        if self._cancellation.signal_number is None:
            return
        if self._deadline is None:
            self._deadline = self._clock.monotonic() + _GRACE_SECONDS
        if self._clock.monotonic() > self._deadline:
            place = "; the cursor is before what was not written" if self._has_cursor else ""
            moment = f"while nobody read stdout; its last line may be cut off{place}"
            self._cancellation.check(moment, is_kept=self._has_cursor)


def _ends_in_half_line() -> bool:
    """Return whether stdout is a file to append to, whose last line a killed process has not finished."""
    try:
        descriptor = os.open(f"/dev/fd/{_STDOUT}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # it may not be read
        return False
    try:
        position = os.fstat(descriptor).st_size if fcntl.fcntl(_STDOUT, fcntl.F_GETFL) & os.O_APPEND else 0
        position = position or os.lseek(_STDOUT, 0, os.SEEK_CUR)
        return position > 0 and os.pread(descriptor, 1, position - 1) != b"\n"
    finally:
        os.close(descriptor)


def _report_closed() -> DiskError:
    return DiskError(
        "stdout was closed by its reader",
        hint="run the same command again; with --cursor it continues after what stdout had accepted",
    )


# --- import ----------------------------------------------------------------------------------------------------------


def _require_folder(archive: Path | ObjectUrl, command: str, work_folder: Path | None = None) -> Path:
    """Return the folder of an archive that is to be changed.

    Raises:
        UsageError: it is a URL; the hint names the folder in which syncs of the URL work.
    """
    if isinstance(archive, Path):
        return archive
    from ociaudit import api

    folder, _ = api.place_archive(archive, work_folder)
    if folder.is_dir():
        rest = "FILE..." if command == "import" else "--before DATE"
        hint = f"name that folder: oci-audit {command} {shlex.quote(str(folder))} {rest}; the next sync pushes it"
    else:
        hint = f"on the machine that syncs it, name the folder below archives/ in the work folder, such as {folder}"
    raise UsageError(f"{archive} is a URL; {command} works on the folder that its syncs write", hint=hint)


_sign_option = option(
    "--sign",
    "signing_key",
    type=FILE,
    metavar="KEY",
    help="SSH key of a signed archive, with which its commits are signed.",
)


@click.command(
    "import",
    cls=Command,
    usage="ARCHIVE FILE... [OPTIONS]",
    examples=(
        ("Add the exports of earlier years", "oci-audit import audit-archive audit-2024*.json"),
        ("See first what a file would add", "oci-audit import audit-archive connector-hub.json.gz --dry-run"),
    ),
)
@argument(
    "archive", type=PLACE, metavar="ARCHIVE", help="Folder of the archive; an export with its manifest creates it."
)
@argument(
    "files",
    nargs=-1,
    required=True,
    type=PLACE,
    metavar="FILE...",
    help="Exports with their manifests, or their oci:// URLs, or "
    "files of events from Oracle's CLI, SDK, Connector Hub, or Logging Search.",
)
@option("--dry-run", "is_dry_run", is_flag=True, help="Show what would be added, and change nothing.")
@_sign_option
@option("-q", "--quiet", is_flag=True, help="Print only notices and errors.")
@place_options
def import_command(
    archive: Path | ObjectUrl,
    files: tuple[Path | ObjectUrl, ...],
    *,
    is_dry_run: bool,
    signing_key: Path | None,
    quiet: bool,
    places: Places,
) -> int:
    """Add the events of files to an archive, each that it does not have once.

    Where a file is a whole export with its manifest, what it covers counts as covered, too.

    Exit codes: 0 done, 2 usage, 3 or 4 a URL cannot be used, 5 disk, 6 a file or the archive is damaged or altered, 130
    or 143 interrupted.
    """
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.clock import SystemClock
    from ociaudit.operations.archive_changes import import_files
    from ociaudit.operations.context import Cancellation

    folder = _require_folder(archive, "import", places.work_folder)
    if "-" in map(str, files):
        raise UsageError(
            "import does not read stdin: an archive records the files it has events from",
            hint="save it as a file first",
        )
    cancellation = Cancellation()
    with console.handle_signals(cancellation.cancel):
        result = import_files(
            folder,
            [places.fetch(one) for one in files],
            clock=SystemClock(),
            is_dry_run=is_dry_run,
            signing_key=signing_key,
            callbacks=QuietProgress(),
            cancellation=cancellation,
        )
        if not quiet:
            for line in describe_import(result, folder, is_dry_run=is_dry_run):
                console.print_message(places.call_by_url(line))
    return ExitCode.OK


def describe_import(result: ImportResult, archive: Path, *, is_dry_run: bool) -> Iterator[str]:
    """Yield what was added, or would be, and what of the files counts as covered."""
    for one in result.files[:_SHOWN]:
        yield f"{one.path}: {_describe_imported(one)}"
    if len(result.files) > _SHOWN:
        yield f"… and {format_count(len(result.files) - _SHOWN, 'more file')}"
    dates = sorted(result.added_by_date)
    span = f", {dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(f", {date}" for date in dates)
    verb = "would be added" if is_dry_run else "added"
    yield f"{result.read:,} read, {format_count(result.added, 'event')} {verb}{span}"
    if result.covered_minutes:
        verb = "would grow" if is_dry_run else "grew"
        yield f"coverage {verb} by {format_count(result.covered_minutes, 'target-minute')}"
    if result.skipped_targets:
        yield (
            f"coverage of {format_count(result.skipped_targets, 'target')} does not count: the archive does not "
            "follow them"
        )
    if is_dry_run:
        yield f"dry run: {f'{archive} was not created' if result.is_new else 'nothing was changed'}"
    elif result.commit is not None:
        yield f"commit {result.commit.sequence} of {archive}"
    elif result.is_new:
        yield f"{archive} was created and is empty: the files have no events, and no coverage that counts"
    else:
        yield "nothing was new; the archive is as before"


def _describe_imported(file: ImportedFile) -> str:
    if file.why_not:
        return f"its events count, its coverage does not: {file.why_not}"
    has_gaps = file.manifest is not None and bool(file.manifest.gaps or file.manifest.waived_gaps)
    return "its coverage counts" if has_gaps else "whole, its coverage counts"


# --- prune -----------------------------------------------------------------------------------------------------------


@click.command(
    cls=Command,
    examples=(
        ("See what would go", "oci-audit prune audit-archive --before 2024-01-01"),
        (
            "Remove it, with a reason on record",
            "oci-audit prune audit-archive --before 2024-01-01 --yes --reason 'policy 7'",
        ),
    ),
)
@argument("archive", type=PLACE, metavar="ARCHIVE", help="Folder of the archive.")
@option("--before", required=True, metavar="DATE", help="Remove the events of all UTC dates before this one.")
@option("--reason", default="", metavar="TEXT", help="Why, for the record.")
@option("--yes", "is_confirmed", is_flag=True, help="Do it; without, only show what would go.")
@_sign_option
def prune(archive: Path | ObjectUrl, *, before: str, reason: str, is_confirmed: bool, signing_key: Path | None) -> int:
    """Remove old events from an archive; a commit says what went, when, and why.

    Exit codes: 0 done, 2 usage or not confirmed, 5 disk, 6 the archive is damaged.
    """
    from ociaudit.clock import SystemClock
    from ociaudit.operations.archive_changes import prune_archive

    folder = _require_folder(archive, "prune")
    with console.handle_signals(lambda _: None):  # a commit is short, and is not left half done
        result = prune_archive(
            folder, before, clock=SystemClock(), is_confirmed=is_confirmed, reason=reason, signing_key=signing_key
        )
        for line in describe_pruning(result):
            console.print_message(line)
    if result.is_needed and result.commit is None:
        raise UsageError("nothing was removed: this cannot be undone", hint="add --yes to remove what is listed above")
    return ExitCode.OK


def describe_pruning(result: PruneResult) -> Iterator[str]:
    """Yield what went, or would go."""
    if not result.is_needed:
        yield f"the archive has nothing from before {result.before}"
        return
    verb = "would go" if result.commit is None else "removed"
    dates = result.dates
    span = f": {dates[0]} to {dates[-1]}" if len(dates) > 1 else "".join(f": {date}" for date in dates)
    yield (
        f"{format_count(len(dates), 'date')} {verb}{span}; {format_count(result.events, 'event')}, "
        f"{console.format_size(result.size_bytes)}"
    )
    if result.commit is not None:
        yield f"commit {result.commit.sequence}: nothing before {result.before} is requested again"
        yield "the files are in replaced/ for 24 hours and are deleted by the first sync after that"
