"""The commands that work on an archive: `oci-audit sync` and `oci-audit status`, their options and their screens.

Each command has a section: its options, its run, its screen. What they share comes last.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.console import describe_gaps, format_size
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    OUTPUT_FILE,
    PLACE,
    Command,
    Places,
    argument,
    json_option,
    make_connection_options,
    message_options,
    option,
    place_options,
    scope_options,
    sign_in_options,
    speed_options,
    work_folder_option,
)
from ociaudit.errors import ExitCode, OciAuditError, UsageError, find_exit_status, format_count

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ociaudit.archive.state import ArchiveState, Day, Totals
    from ociaudit.cli.progress import QuietProgress
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.operations.context import Cancellation
    from ociaudit.operations.status import Attempt, MetricsFile, NextSync, Status
    from ociaudit.operations.sync import SyncOptions, SyncPreview, SyncResult

_HISTORY, _SCHEDULE = "History", "Schedule"
_SYNC_FIELDS = ("start", "settle", "rescan", "regions", "compartments", "max_window_days", "tail_keep", "is_delta")
"""Options of `sync` whose values are fields of `SyncOptions` as they are."""
_LOST_SHOWN = 20
_REGIONS_SHOWN = 40
_OWN_SHARE_SHOWN = 0.2


# oci-audit sync: options


@click.command(
    cls=Command,
    examples=(
        ("Create an archive of the whole retention period, or bring it up to date", "oci-audit sync audit-archive"),
        ("Keep it current until stopped", "oci-audit sync audit-archive --every 1h --metrics-file sync.prom"),
        ("Show what the next sync would request", "oci-audit sync audit-archive --dry-run"),
    ),
)
@argument(
    "archive",
    type=PLACE,
    metavar="ARCHIVE",
    help="Folder of the archive, or oci://bucket@namespace/name; the first sync creates it.",
)
@option(
    "--start",
    section=_HISTORY,
    metavar="TIME",
    show_default="as far back as the service keeps events",
    help="Where the archive begins, as for `export`. An earlier start than before fills in what precedes.",
)
@option(
    "--settle",
    section=_HISTORY,
    metavar="DURATION",
    default="15m",
    help="How long after its end a minute is first requested.",
)
@option(
    "--rescan",
    section=_HISTORY,
    metavar="DURATIONS",
    default="2h,26h,7d",
    help="How far back to request again for late events: the first with every sync, the second once a day, the third "
    "once a week.",
)
@option(
    "--tail-keep",
    section=_HISTORY,
    metavar="DURATION",
    default="30d",
    help="How long to keep the list of what each commit added, which `tail` reads.",
)
@scope_options
@option(
    "--every",
    section=_SCHEDULE,
    metavar="DURATION",
    help="Sync again and again, this long after the start of the one before, until stopped.",
)
@option("--for", "for_span", section=_SCHEDULE, metavar="DURATION", help="With --every: stop after this long.")
@work_folder_option
@option("--sign", "signing_key", section=OUTPUT, type=FILE, metavar="KEY", help="Private SSH key to sign commits with.")
@option(
    "--delta",
    "is_delta",
    section=OUTPUT,
    is_flag=True,
    help="Keep a Delta log of the events, for engines that read Delta tables.",
)
@option(
    "--metrics-file",
    section=OUTPUT,
    type=OUTPUT_FILE,
    metavar="FILE",
    help="Write metrics for Prometheus to this file after each sync.",
)
@sign_in_options
@speed_options
@option(
    "--dry-run",
    section=BEHAVIOR,
    is_flag=True,
    help="Show what the sync would request, without writing files. Only regions, compartments, and retention are "
    "fetched.",
)
@message_options
def sync(*, archive: Path | ObjectUrl, every: str | None, for_span: str | None, dry_run: bool, **options: Any) -> int:
    """Create an archive of all audit events, or bring it up to date.

    Exit codes: 0 complete, 10 finished with gaps, 2 usage error, 3 sign-in or permission error, 4 service error, 5
    disk error, 6 the archive is damaged, 130 or 143 interrupted. After each of them, the same command continues where
    this one ended.
    """
    from ociaudit import api
    from ociaudit.operations.context import Cancellation
    from ociaudit.planning.time_range import parse_duration

    if for_span is not None and every is None:
        raise UsageError("--for has no effect without --every", hint="add --every, or omit --for")
    every_minutes = None if every is None else parse_duration(every, option="--every")
    for_minutes = None if for_span is None else parse_duration(for_span, option="--for")
    if every_minutes is not None and every_minutes < 1:
        raise UsageError("--every is shorter than a minute", hint="choose at least 1m; 1h suits most tenancies")
    path, url = api.place_archive(archive, options["work_folder"])
    if url is not None and options["is_delta"]:
        raise UsageError(f"--delta needs a folder, and {url} is not one", hint="omit --delta, or sync a folder")
    sync_options = _make_sync_options(path, options)
    if dry_run and (every is not None or options["metrics_file"] is not None):
        name = "--every" if every is not None else "--metrics-file"
        raise UsageError(f"{name} has no effect with --dry-run", hint=f"omit {name}, or omit --dry-run")
    if dry_run:
        return _print_preview(sync_options, options, url)
    cancellation = Cancellation()
    run = _SyncRun(sync_options, options, cancellation, url)
    with console.handle_signals(cancellation.cancel):
        if every_minutes is None:
            return run.finish(run.run_once)
        return run.finish(lambda: run.keep_running(every_minutes, for_minutes))


def _make_sync_options(archive: Path, options: Mapping[str, Any]) -> SyncOptions:
    from ociaudit.cli.export_command import read_waivers
    from ociaudit.operations.sync import SyncOptions

    return SyncOptions(
        archive=archive,
        **{name: options[name] for name in _SYNC_FIELDS},
        is_subtree=not options["no_subtree"],
        waived=frozenset(read_waivers(options["waive"])),
        signing_key=options["signing_key"].expanduser() if options["signing_key"] else None,
    )


# oci-audit sync: run


class _SyncRun:
    """One or more syncs with the same options; the connection is resolved for each."""

    def __init__(
        self,
        sync_options: SyncOptions,
        options: Mapping[str, Any],
        cancellation: Cancellation,
        url: ObjectUrl | None = None,
    ) -> None:
        from ociaudit.clock import SystemClock

        self._sync_options = sync_options
        self._url = url
        self._options = options
        self._cancellation = cancellation
        self._clock = SystemClock()
        self._progress = _choose_progress(options)
        self._metrics = self._open_metrics()

    def run_once(self) -> int:
        """Sync, print how it ended, write the metrics, and return the exit code.

        Raises:
            OciAuditError: the sync could not be finished; the metrics are written then, too, and after a bug.
        """
        from ociaudit import api

        progress = self._progress = _choose_progress(self._options)
        try:
            result = api.run_sync(
                self._sync_options,
                make_connection_options(self._options),
                url=self._url,
                callbacks=progress,
                cancellation=self._cancellation,
            )
        except OciAuditError as error:
            progress.close()
            self._write_metrics(_describe_attempt(progress, find_exit_status(error), error))
            raise
        except Exception:
            progress.close()
            self._write_metrics(_describe_attempt(progress, ExitCode.BUG))
            raise
        finally:
            progress.close()
        exit_code = result.verdict.exit_code
        if not progress.report_sync(result, exit_code=exit_code):
            for line in describe_sync(result, progress, self._options, url=self._url):
                console.print_message(line)
        self._write_metrics(_describe_attempt(progress, exit_code))
        return exit_code

    def keep_running(self, every_minutes: int, for_minutes: int | None) -> int:
        """Sync again and again; return the exit code of the last sync.

        Raises:
            OciAuditError: as `SyncLoop.run`.
        """
        from ociaudit.operations.status import SyncLoop

        loop = SyncLoop(
            clock=self._clock,
            every_seconds=60.0 * every_minutes,
            for_seconds=None if for_minutes is None else 60.0 * for_minutes,
            cancellation=self._cancellation,
            on_failure=self._report_failure,
        )
        return loop.run(self.run_once)

    def finish(self, work: Any) -> int:
        """Do the work; return its exit code, or that of its error where the progress reports errors itself.

        Raises:
            OciAuditError: the work failed.
        """
        try:
            code: int = work()
        except OciAuditError as error:
            if self._progress.report_error(error):
                return find_exit_status(error)
            raise
        return code

    def _report_failure(self, error: OciAuditError, next_try: datetime) -> None:
        from ociaudit.planning.shard import format_second

        until = format_second(next_try)
        if self._progress.report_error(error):
            self._progress.report_wait(until)
            return
        console.print_error(error)
        console.print_message(f"the sync failed; the next try is at {until}")

    def _open_metrics(self) -> MetricsFile | None:
        from ociaudit.operations.status import MetricsFile

        path = self._options["metrics_file"]
        return None if path is None else MetricsFile(path, self._sync_options.archive)

    def _write_metrics(self, attempt: Attempt) -> None:
        """Write the metrics; a file that cannot be written does not make the sync fail."""
        if self._metrics is None:
            return
        try:
            self._metrics.write(attempt, now=self._clock.now())
        except OciAuditError as error:
            self._progress.on_notice(f"the metrics were not written: {error}")


def _choose_progress(options: Mapping[str, Any]) -> QuietProgress:
    from ociaudit.cli.export_command import choose_progress

    return choose_progress(is_quiet=options["quiet"], log_format=options["log_format"], verbosity=options["verbose"])


def _describe_attempt(progress: QuietProgress, exit_status: int, error: OciAuditError | None = None) -> Attempt:
    from ociaudit.operations.status import Attempt

    return Attempt(
        exit_status=exit_status,
        error=error,
        requests=progress.requests,
        throttled=progress.throttled,
        seconds=progress.elapsed_seconds,
    )


# oci-audit sync: screen


def describe_sync(
    result: SyncResult, progress: QuietProgress, options: Mapping[str, Any], *, url: ObjectUrl | None = None
) -> Iterator[str]:
    """Yield how a sync ended, line by line; when quiet, only warnings and gaps."""
    from ociaudit.archive.state import list_open_gaps
    from ociaudit.cli.progress import describe_effort
    from ociaudit.storage.verdict import describe_headline, describe_verdict

    yield from (f"warning: {text}" for text in result.warnings)
    if not options["quiet"]:
        yield from _describe_new(result, url)
        headline, *qualifiers = describe_verdict(result.verdict)
        yield from (headline, *(f"  {line}" for line in qualifiers))
        yield f"commit  {result.state.sequence}:{result.state.digest}"
        yield from describe_effort(progress)
    elif result.verdict.exit_code and not result.verdict.gaps:
        yield describe_headline(result.verdict)
    if result.verdict.gaps:
        yield from describe_gaps(
            list_open_gaps(result.state),
            policy=result.policy,
            can_waive=True,
            paths=list_paths(result.state),
            is_detailed=bool(options["verbose"]),
            headline=describe_headline(result.verdict) if options["quiet"] else "gaps:",
            is_archive=True,
        )


def _describe_new(result: SyncResult, url: ObjectUrl | None) -> Iterator[str]:
    """Yield what a sync added."""
    totals = result.totals
    if result.was_created:
        yield f"created     {url or result.folder.path}"
    other = ((totals.known, "known"), (totals.identical, "identical"), (totals.reserialised, "reserialised"))
    rest = "".join(f", {number:,} {word}" for number, word in other if number)
    new = format_count(totals.added, "event") if totals.added else "nothing"
    yield f"new         {new}; {totals.received:,} received{rest}"
    if totals.late:
        yield f"late        {_describe_late(totals)}"
    if totals.conflicting:
        yield f"conflicts   {format_count(totals.conflicting, 'event id')} with more than one record; all are kept"
    compactions = [commit for commit in result.commits if commit.kind == "compaction"]
    if compactions:
        days, before = sum(len(one.added) for one in compactions), sum(len(one.replaced) for one in compactions)
        yield f"compacted   {format_count(days, 'final day')}: {before:,} segments became {days:,}"


def _describe_late(totals: Totals) -> str:
    """Return late events in words; how late they are is a lower bound."""
    events, median = format_count(totals.late, "event"), _format_minutes(totals.late_median_minutes)
    after = f"; {totals.late_after_final:,} after the minute was final" if totals.late_after_final else ""
    return (
        f"{events} came at least {median} late (median), the worst {_format_minutes(totals.late_worst_minutes)}{after}"
    )


def _print_preview(sync_options: SyncOptions, options: Mapping[str, Any], url: ObjectUrl | None) -> int:
    from ociaudit import api

    progress = _choose_progress(options)
    preview = api.run_sync_preview(sync_options, make_connection_options(options), url=url, callbacks=progress)
    for line in describe_preview(preview, sync_options, requests_made=progress.requests):
        console.print_output(line)
    return ExitCode.OK


def describe_preview(preview: SyncPreview, sync_options: SyncOptions, *, requests_made: int) -> Iterator[str]:
    """Yield what the next sync would request, line by line."""
    from ociaudit.planning.shard import format_minute

    plan = preview.plan
    state = "exists" if preview.exists else "does not exist yet; a sync creates it"
    regions, compartments = console.list_names(plan.regions, shown=_REGIONS_SHOWN), len(plan.compartments)
    asked = sum(len(ask.targets) for ask in plan.asks)
    yield f"dry run: {format_count(requests_made, 'request')} made, nothing written"
    yield f"archive     {sync_options.archive} {state}"
    if preview.is_resumed:
        yield "resumes     a sync that did not finish; it is completed first, as it was planned"
    yield f"begins      {format_minute(plan.start)}"
    yield f"ends        {format_minute(plan.end)} ({plan.settle_minutes} minutes before now)"
    yield f"regions     {len(plan.regions):,}: {regions}"
    yield f"targets     {format_count(len(plan.targets), 'target')} from {format_count(compartments, 'compartment')}"
    yield f"rescan      {_describe_rescan(plan.rings_run)}"
    yield (
        f"requests    at least {preview.requests_at_least:,}: {format_count(preview.windows, 'window')} in "
        f"{format_count(asked, 'target')}, and a page or more for each"
    )
    if preview.begin is not None:
        yield f"oldest      {format_minute(preview.begin)}"
    days = "unknown" if plan.retention_days is None else format_count(plan.retention_days, "day")
    yield f"retention   {days}"
    yield from (f"warning: {text}" for text in preview.warnings)


# oci-audit status


@click.command(
    cls=Command,
    examples=(
        ("What is in the archive, and what is missing?", "oci-audit status audit-archive"),
        ("Fail if the last sync is older than 90 minutes", "oci-audit status audit-archive --max-age 90m"),
    ),
)
@argument("archive", type=PLACE, metavar="ARCHIVE", help="Folder of the archive, or its oci:// URL.")
@option("--max-age", metavar="DURATION", help="Exit with 12 if the last complete sync began longer ago than this.")
@option("--html", "page", type=OUTPUT_FILE, metavar="FILE", help="Also write a page with the calendar to this file.")
@json_option
@place_options
def status(*, archive: Path | ObjectUrl, max_age: str | None, page: Path | None, as_json: bool, places: Places) -> int:
    """Show what an archive holds, what is missing, and what the next sync would request.

    Exit codes: 0 complete, 10 with gaps, 12 not current (see --max-age), 2 usage error, 3 or 4 a URL cannot be used, 5
    disk error, 6 the archive is damaged.
    """
    from datetime import timedelta

    from ociaudit.archive.reader import open_archive
    from ociaudit.clock import SystemClock
    from ociaudit.operations.status import encode_status, make_status
    from ociaudit.planning.time_range import parse_duration

    limit = None if max_age is None else timedelta(minutes=parse_duration(max_age, option="--max-age"))
    path = places.open_archive_folder(archive)
    if page is not None:
        _check_page(page, path)
    found = make_status(open_archive(path), now=SystemClock().now())
    if page is not None:
        _write_page(page, found, limit)
    if as_json:
        console.print_data(places.call_by_url(encode_status(found, max_age=limit)))
    else:
        for line in describe_status(found, limit):
            console.print_output(places.call_by_url(line))
        console.print_lines("\n".join(draw_calendar(found.calendar, has_color=console.uses_color())))
    return found.find_exit_code(limit)


def describe_status(found: Status, max_age: Any) -> Iterator[str]:
    """Yield the status of an archive, line by line, without its calendar."""
    from ociaudit.operations.status import summarize
    from ociaudit.storage.verdict import describe_verdict

    state = found.archive.state
    yield summarize(found)
    if not state.sequence:
        yield f"hint: run oci-audit sync {shlex.quote(str(found.archive.folder.path))}"
        return
    yield from (f"  {line}" for line in describe_verdict(found.verdict)[1:])
    yield from _describe_holdings(found, max_age)
    yield from _describe_missing(found)
    if state.totals.late:
        yield f"late        {_describe_late(state.totals)}"
    yield from _describe_own_calls(found)
    if found.next_sync is not None:
        first = "lists the tenancy, and requests what it keeps"
        yield f"next sync   {_describe_next(found.next_sync) if state.targets else first}"


def _describe_holdings(found: Status, max_age: Any) -> Iterator[str]:
    from ociaudit.archive.state import find_first_expected
    from ociaudit.operations.status import describe_age
    from ociaudit.planning.shard import MINUTES_PER_DAY, format_minute

    state = found.archive.state
    start = min(max(find_first_expected(state), state.pruned_before), state.end)
    days = f"{(state.end - start) / MINUTES_PER_DAY:,.1f} " + "days"  # a decimal number has a plural
    stale = " STALE: older than --max-age" if found.is_stale(max_age) else ""
    last = "none was complete yet"
    if found.current_until is not None:
        last = f"{format_minute(found.current_until)} ({describe_age(found.age)})"
    yield f"archive     {found.archive.folder.path}"
    yield f"tenancy     {found.archive.header.tenancy}"
    if state.end:
        yield f"range       {format_minute(start)} to {format_minute(state.end)} ({days})"
    yield f"last sync   {last}{stale}"
    yield (
        f"holds       {format_count(state.totals.rows, 'event')} in {format_count(len(state.segments), 'segment')}, "
        f"{format_size(found.size_bytes)}"
    )
    yield f"commit  {state.sequence}:{state.digest}"


def _describe_missing(found: Status) -> Iterator[str]:
    """Yield gaps and lost windows by name."""
    paths = list_paths(found.archive.state)
    if found.gaps:
        yield f"gaps        {found.verdict.gaps:,}"
        yield from console.list_gap_lines(found.gaps, paths, requested=None, kept_in="the newest commit")
    windows = [(target, one) for target, some in found.lost.items() for one in some]
    if windows:
        yield f"lost        {format_count(len(windows), 'window')}"
        yield from (f"  {console.describe_target(target, paths)} {window}" for target, window in windows[:_LOST_SHOWN])
    if len(windows) > _LOST_SHOWN:
        yield f"  … and {len(windows) - _LOST_SHOWN:,} more; see --json"


def _describe_own_calls(found: Status) -> Iterator[str]:
    own = found.archive.state.totals.own
    if own:
        yield f"own calls   {own:,} of the events ({found.own_share:.1%}) are the syncs' own ListEvents calls"
    if found.own_share >= _OWN_SHARE_SHOWN:
        yield "hint: each sync adds such events; hourly syncs add fewer than frequent ones"


def _describe_next(following: NextSync) -> str:
    from ociaudit.planning.shard import format_minute

    if following.begin is None or following.end is None:
        return "nothing to request yet"
    return (
        f"at least {format_count(following.requests_at_least, 'request')} to "
        f"{format_count(following.targets, 'target')}, from {format_minute(following.begin)} on; "
        f"rescan {_describe_rescan(following.rings)}"
    )


_DAY_MARKS: Mapping[str | None, str] = {"final": "#", "provisional": "~", "gap": "!", "lost": "x", None: "+"}
_DAY_COLORS = {"#": "green", ".": "green", "~": "yellow", "!": "red", "x": "red"}
_LEGEND = "# final  . final, empty  ~ provisional  ! gap  x lost  + outside"


def draw_calendar(calendar: tuple[Day, ...], *, has_color: bool) -> Iterator[str]:
    """Yield a line for each month, with a character for each day and the number of events."""
    months: dict[str, list[Day]] = {}
    for day in calendar:
        months.setdefault(day.date[:7], []).append(day)
    if calendar:
        yield f"calendar    {_LEGEND}"
    for month, days in months.items():
        events = format_count(sum(day.rows for day in days), "event")
        cells = [" "] * 31
        for day in days:
            if day.date[8:].isdecimal():
                cells[int(day.date[8:]) - 1] = _mark_day(day)
        label = month if days[0].date[8:] else "no date"
        shown = "".join(_paint_day(cell) if has_color else cell for cell in cells)
        yield f"  {label}   {shown}  {events:>15}"


def _mark_day(day: Day) -> str:
    return "." if day.kind == "final" and not day.rows else _DAY_MARKS[day.kind]


def _paint_day(mark: str) -> str:
    return click.style(mark, fg=_DAY_COLORS[mark]) if mark in _DAY_COLORS else mark


def _check_page(page: Path, archive: Path) -> None:
    from ociaudit.storage.atomic_io import check_replaceable

    if page.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"--html {page}: the name of a page ends in .html", hint="for example: --html status.html")
    check_replaceable(page, option="--html")
    if page.resolve().is_relative_to(archive.resolve()):
        raise UsageError(f"{page} is inside the archive {archive}", hint="choose a file outside it")


def _write_page(page: Path, found: Status, max_age: Any) -> None:
    from ociaudit.analysis.report import render_asset
    from ociaudit.storage.atomic_io import write_file

    lines = list(describe_status(found, max_age))
    months: dict[str, list[dict[str, Any]]] = {}
    for day in found.calendar:
        cell = {"date": day.date, "kind": day.kind or "outside", "rows": day.rows}
        months.setdefault(day.date[:7], []).append(cell)
    write_file(
        page,
        render_asset(
            "status.html",
            "status.css",
            title=str(found.archive.folder.path),
            verdict=found.verdict.kind if found.archive.state.sequence else "unknown",
            headline=lines[0],
            lines=lines[1:],
            months=months,
            marks={kind: _DAY_MARKS[kind] for kind in ("provisional", "gap", "lost")},
        ),
    )


# What the commands share


def list_paths(state: ArchiveState) -> dict[str, str]:
    """Return the paths of an archive's compartments by OCID."""
    return {ocid: one.path for ocid, one in state.compartments.items()}


def _format_minutes(minutes: int) -> str:
    return console.format_duration(60 * minutes) if minutes < 2880 else f"{minutes / 1440:.1f} days"


def _describe_rescan(rings: tuple[int, ...]) -> str:
    """Return how far back a sync requests again: `the last 26h`; the widest ring includes the others."""
    return f"of the last {_list_rings(rings[-1:])}" if rings else "not due"


def _list_rings(rings: tuple[int, ...]) -> str:
    """Return rings as they are typed: `2h, 26h, 7d`."""
    names = []
    for ring in rings:
        unit, name = (1440, "d") if ring % 1440 == 0 else (60, "h") if ring % 60 == 0 else (1, "m")
        names.append(f"{ring // unit}{name}")
    return ", ".join(names) or "none"
