"""`oci-audit export`: its options, its run and its screens.

The options come first, then the run from options to exit code, then what is printed: the summary of an export, and the
preview of `--dry-run`. What is imported here is what `--help` needs; everything else is imported in the
functions that use it.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import click

from ociaudit.cli import console
from ociaudit.cli.console import describe_gaps, describe_redaction, format_duration, format_size
from ociaudit.cli.options import (
    BEHAVIOR,
    FILE,
    OUTPUT,
    OUTPUT_FILE,
    OUTPUT_PLACE,
    SPEED,
    Command,
    file_options,
    filter_options,
    make_connection_options,
    message_options,
    option,
    scope_options,
    sign_in_options,
    speed_options,
    work_folder_option,
)
from ociaudit.errors import ExitCode, OciAuditError, UsageError, find_exit_status, format_count

if TYPE_CHECKING:
    from pathlib import Path

    from ociaudit.cli.progress import QuietProgress
    from ociaudit.client.object_storage import ObjectUrl
    from ociaudit.operations.context import Cancellation, ExportOptions
    from ociaudit.operations.export import ExportResult
    from ociaudit.operations.preview import Preview
    from ociaudit.operations.resume import ResumeOptions
    from ociaudit.planning.planner import Amount, Estimate
    from ociaudit.storage.manifest import Totals

LogFormat = Literal["text", "json"]

_RANGE = "Range"
_STDOUT = "-"
_FILE_LIKE = re.compile(r"\A(\.{1,2}/|~)|\.(txt|list|lst|csv|conf|cfg)\Z", re.IGNORECASE)
"""A value of `--waive` that is meant as a file."""
# Options whose values are fields of `ExportOptions` as they are.
_EXPORT_FIELDS = (
    *("start", "end", "time_basis", "source", "late", "settle", "regions", "compartments"),
    *("shape", "with_origin", "redact", "max_window_days", "deadline", "confirm_empty"),
)

_TYPES_SHOWN = 10
_REGIONS_SHOWN = 40
_FAILED_PROBES_SHOWN = 10
_EXAMPLE_HINT = "for example: oci-audit export --start 7d -o audit.json; see `oci-audit export --help`"


@click.command(
    cls=Command,
    usage="--start TIME -o FILE [OPTIONS]",
    examples=(
        ("The last seven days of the whole tenancy", "oci-audit export --start 7d -o audit.json"),
        (
            "One week, compressed, with the start date in the file name",
            "oci-audit export --start 2025-12-01 --end 2025-12-07 -o '{start}.json.gz'",
        ),
        (
            "MFA events in one region, as Parquet",
            "oci-audit export --start 7d --region uk-london-1 --preset mfa -o mfa.parquet",
        ),
        ("Estimate the size and duration of a large export", "oci-audit export --start 90d --dry-run --probe"),
    ),
)
@option(
    "--start",
    section=_RANGE,
    aliases=["--since", "--from"],
    metavar="TIME",
    help="Start of the range: a date (2025-12-01, or 01.12.25 for day.month.year), yesterday, a month (2025-12), a "
    "week (2025-W49), a timestamp (2025-12-01T08:00Z), or an age (7d, 36h, 90m). Dates are in UTC. "
    "[required, except with --last]",
)
@option(
    "--end",
    section=_RANGE,
    aliases=["--until", "--to"],
    metavar="TIME",
    show_default="now",
    help="End of the range: a date, month or week (inclusive), a timestamp (exclusive), or now.",
)
@option("--last", section=_RANGE, metavar="DURATION", help="Range from this long ago until now: 7d, 36h, 2d12h.")
@option(
    "--time-basis",
    section=_RANGE,
    aliases=["--by"],
    type=click.Choice(["processed-time", "event-time"], case_sensitive=False),
    default="processed-time",
    metavar="KIND",
    help="Timestamp that the range applies to: processed-time (when Audit processed the event) or event-time (when "
    "it happened).",
)
@option(
    "--source",
    section=_RANGE,
    type=click.Choice(["list-events", "logging-search"]),
    default="list-events",
    metavar="SERVICE",
    help="Service to read from: list-events (Audit) or logging-search (Logging Search, which selects by event time).",
)
@option(
    "--late",
    section=_RANGE,
    metavar="DURATION",
    show_default="1h",
    help="With --time-basis event-time: how long after the end of the range to look for late events.",
)
@option(
    "--settle",
    section=_RANGE,
    metavar="DURATION",
    help="End the range at least this long before now, such as 15m, 1h, or 2d.",
)
@scope_options
@option(
    "-o",
    "--output",
    section=OUTPUT,
    metavar="FILE|URL",
    type=OUTPUT_PLACE,
    help="Output file, oci://bucket@namespace/name, or - for stdout. The extension sets the format and compression. "
    "{start} and {end} are "
    "replaced with the range's start and end. [required, except with --dry-run]",
)
@file_options
@work_folder_option
@option(
    "--manifest",
    section=OUTPUT,
    type=OUTPUT_FILE,
    metavar="FILE",
    show_default="next to the output",
    help="Where to write the manifest.",
)
@option(
    "--sign",
    "signing_key",
    section=OUTPUT,
    type=FILE,
    metavar="KEY",
    help="Private SSH key to sign the manifest with.",
)
@filter_options
@sign_in_options
@speed_options
@option(
    "--deadline",
    section=SPEED,
    metavar="DURATION",
    help="Stop sending requests after this long, such as 2h. Anything not yet fetched is reported as a gap.",
)
@option(
    "--dry-run",
    section=BEHAVIOR,
    is_flag=True,
    help="Show what the export would request, without writing files. Only regions, compartments, and retention are "
    "fetched, unless --probe is given.",
)
@option(
    "--probe",
    section=BEHAVIOR,
    is_flag=True,
    help="With --dry-run: fetch up to 24 pages to estimate the number of events and the duration.",
)
@option("--json", "as_json", section=BEHAVIOR, is_flag=True, help="With --dry-run: print one JSON object.")
@option(
    "--resume",
    section=BEHAVIOR,
    is_flag=True,
    help="Continue an earlier run that is unfinished or has gaps and whose range is relative, such as 7d.",
)
@option("--restart", section=BEHAVIOR, is_flag=True, help="Discard an unfinished run and start again.")
@option(
    "--confirm-empty",
    section=BEHAVIOR,
    is_flag=True,
    help="At the end, request again any window that returned no events.",
)
@option(
    "--require-final",
    section=BEHAVIOR,
    is_flag=True,
    help="Exit with 11 if the export is complete only so far: a window is provisional, or the range is not over.",
)
@message_options
def export(
    *, output: Path | ObjectUrl | None, dry_run: bool, probe: bool, as_json: bool, quiet: bool, **options: Any
) -> int:
    """Write every audit event of a time range to one file, and a manifest that describes what the file contains.

    Exit codes: 0 complete, 10 finished with gaps, 11 not final with --require-final, 2 usage error, 3 sign-in or
    permission error, 4 service error, 5 disk error, 6 the saved state of an earlier run is damaged, 130 or 143
    interrupted. After 3, 4, 5, 10, 11, or an interruption, run the same command again to continue; a relative range
    such as 7d needs --resume.
    """
    from ociaudit.operations.context import Cancellation

    progress = choose_progress(
        is_quiet=quiet, log_format=options["log_format"], verbosity=options["verbose"], source=options["source"]
    )
    cancellation = Cancellation()
    with contextlib.ExitStack() as signals:
        try:
            options["start"], options["end"] = choose_range(options["start"], options["end"], options["last"])
            check_modes(output=output, dry_run=dry_run, probe=probe, as_json=as_json)
            if dry_run:
                return print_preview(_preview(options, progress, is_probing=probe), as_json=as_json)
            signals.enter_context(console.handle_signals(cancellation.cancel))
            result = _export(output, options, progress, cancellation)
        except OciAuditError as error:
            if progress.report_error(error):
                return find_exit_status(error)
            progress.close()
            _print_kept(progress)
            raise
        finally:
            progress.close()
        return _report(result, progress, options, is_quiet=quiet)


def _report(result: ExportResult, progress: QuietProgress, options: Mapping[str, Any], *, is_quiet: bool) -> ExitCode:
    exit_code = result.verdict.find_exit_code(require_final=options["require_final"])
    if not progress.report_end(result, exit_code=exit_code):
        _print_result(result, progress, options, is_quiet=is_quiet)
        if exit_code is ExitCode.NOT_FINAL:
            _print_not_final(result, _make_resume_options(options), is_quiet=is_quiet)
    return exit_code


def _print_not_final(result: ExportResult, resume: ResumeOptions, *, is_quiet: bool) -> None:
    from ociaudit.storage.verdict import describe_headline

    if is_quiet:
        console.print_message(describe_headline(result.verdict))
    console.print_message(f"hint: {_advise_final(result, resume)}")


def _advise_final(result: ExportResult, resume: ResumeOptions) -> str:
    """Return how the range of an export becomes final."""
    from ociaudit.operations.resume import has_relative_range, name_repetition
    from ociaudit.planning.shard import SETTLE_MINUTES

    if has_relative_range(result.manifest.arguments):
        return f"--settle {SETTLE_MINUTES}m ends the range where it is final"
    if result.output is None:
        return f"run the same command again from {result.verdict.final_from} on"
    options = name_repetition(result.manifest.arguments, resume)
    command = f"the same command{options and f' {options}'}"
    return f"from {result.verdict.final_from} on, {command} requests what is not final yet"


def _export(
    output: Path | ObjectUrl | None, options: Mapping[str, Any], progress: QuietProgress, cancellation: Cancellation
) -> ExportResult:
    from ociaudit import api

    export_options = _make_export_options(output, options, waived=frozenset(read_waivers(options["waive"])))
    return api.run_export(
        export_options,
        make_connection_options(options),
        file_format=options["file_format"],
        compression=options["compression"],
        callbacks=progress,
        cancellation=cancellation,
    )


def _preview(options: Mapping[str, Any], progress: QuietProgress, *, is_probing: bool) -> Preview:
    from ociaudit import api

    export_options = _make_export_options(None, options)
    connection = make_connection_options(options)
    return api.run_preview(export_options, connection, is_probing=is_probing, callbacks=progress)


def _make_export_options(
    output: Path | ObjectUrl | None, options: Mapping[str, Any], *, waived: frozenset[str] = frozenset()
) -> ExportOptions:
    from ociaudit.api import place_output, resolve_path
    from ociaudit.operations.context import ExportOptions

    path, url = place_output(None if str(output) == _STDOUT else output, options["work_folder"])
    return ExportOptions(
        **{name: options[name] for name in _EXPORT_FIELDS},
        is_subtree=not options["no_subtree"],
        filter=options["wanted"],
        output=path,
        url=url,
        manifest=resolve_path(options["manifest"]),
        signing_key=options["signing_key"].expanduser() if options["signing_key"] else None,
        waived=waived,
        resume=_make_resume_options(options),
    )


def _make_resume_options(options: Mapping[str, Any]) -> ResumeOptions:
    from ociaudit.operations.resume import ResumeOptions

    return ResumeOptions(overwrite=options["overwrite"], resume=options["resume"], restart=options["restart"])


def choose_range(start: str | None, end: str | None, last: str | None) -> tuple[str, str]:
    """Return the typed start and end of the range.

    Raises:
        UsageError: no start is given, or `--last` beside one, or `--last` is not a duration.
    """
    from ociaudit.planning.time_range import parse_duration

    if last is None:
        if start is None:
            raise UsageError("missing option '--start'", hint=_EXAMPLE_HINT)
        return start, "now" if end is None else end
    if start is not None or end is not None:
        other = "--start" if start is not None else "--end"
        raise UsageError(f"--last and {other} exclude each other", hint=f"omit {other}; --last ends now")
    if last.strip().lower() in {"week", "month"}:
        raise UsageError(
            f"--last takes a duration, not {last!r}",
            hint=f"write --start 'last {last}' --end 'last {last}' for that of the calendar, or --last 7d",
        )
    parse_duration(last, option="--last")
    return last, "now"


def check_modes(*, output: Path | ObjectUrl | None, dry_run: bool, probe: bool, as_json: bool) -> None:
    """Check that no option is given that would be ignored, and that none is missing.

    Raises:
        UsageError: an option needs `--dry-run`, or the output is missing.
    """
    if dry_run:
        return
    for name, is_given in (("--probe", probe), ("--json", as_json)):
        if is_given:
            raise UsageError(f"{name} has no effect without --dry-run", hint=f"add --dry-run, or omit {name}")
    if output is None:
        raise UsageError("missing option '-o' / '--output'", hint=_EXAMPLE_HINT)


def choose_progress(
    *, is_quiet: bool, log_format: LogFormat = "text", verbosity: int = 0, source: str = "list-events"
) -> QuietProgress:
    """Return the progress that suits who watches: a terminal, a file, a program, or nobody.

    Raises:
        UsageError: both quiet and verbose.
    """
    from ociaudit.cli.json_log import JsonLog
    from ociaudit.cli.progress import BarProgress, LineProgress, QuietProgress

    if is_quiet and verbosity:
        raise UsageError("--quiet and --verbose exclude each other", hint="omit one of them")
    if log_format == "json":
        return JsonLog(is_quiet=is_quiet, verbosity=verbosity)
    if is_quiet:
        return QuietProgress()
    from ociaudit.storage.manifest import name_time

    kind = BarProgress if console.is_terminal() else LineProgress
    return kind(verbosity=verbosity, time_basis=name_time(source))


def read_waivers(arguments: Sequence[str]) -> tuple[str, ...]:
    """Return the OCIDs, names and paths that are given directly, or one per line in files; `#` begins a comment.

    Raises:
        UsageError: an argument is neither an OCID, a name nor a readable file of such.
    """
    from ociaudit.planning.scope import check_compartment_name

    return tuple(check_compartment_name(text) for argument in arguments for text in _expand_waiver(argument))


def _expand_waiver(argument: str) -> Iterator[str]:
    from pathlib import Path

    try:
        text = Path(argument).read_text("utf-8")
    except (FileNotFoundError, NotADirectoryError) as error:
        if _FILE_LIKE.search(argument):
            raise UsageError(
                f"--waive {argument}: there is no such file", hint=_suggest_file(Path(argument))
            ) from error
        yield argument  # an OCID, a name or a path, which the tenancy's listing decides
        return
    except (OSError, ValueError) as error:
        raise UsageError(
            f"--waive {argument}: neither a compartment nor a readable file",
            hint="give an OCID, a name or a path, or a file with one of these per line",
        ) from error
    for line in text.splitlines():
        ocid = line.split("#", 1)[0].strip()
        if ocid:
            yield ocid


def _suggest_file(path: Path) -> str:
    """Return a hint with the names beside a missing file that are most similar to its name."""
    from difflib import get_close_matches

    names: list[str] = []
    with contextlib.suppress(OSError):
        names = [each.name for each in path.parent.iterdir() if each.is_file()]
    close = get_close_matches(path.name, names, n=3, cutoff=0.6)
    nearest = f"did you mean {' or '.join(str(path.parent / name) for name in close)}? " if close else ""
    return nearest + "give a file with one OCID, name or path per line, or one of these itself"


def _print_result(result: ExportResult, progress: QuietProgress, options: Mapping[str, Any], *, is_quiet: bool) -> None:
    """Print how an export ended; when quiet, only its gaps."""
    from ociaudit.cli.progress import describe_effort
    from ociaudit.operations.resume import name_repetition
    from ociaudit.storage.verdict import describe_headline

    if not is_quiet:
        for line in (*describe_empty_filter(result), *describe_result(result), *describe_effort(progress)):
            console.print_message(line)
    manifest = result.manifest
    if result.gaps:
        lines = describe_gaps(
            result.gaps,
            policy=result.policy,
            is_kept=result.output is not None,
            repetition=name_repetition(manifest.arguments, _make_resume_options(options)),
            can_waive=True,
            paths=manifest.scope.compartment_paths,
            requested=manifest.range,
            is_detailed=bool(options["verbose"]),
            headline=describe_headline(result.verdict),
            is_finished=result.was_complete_before,
        )
        for line in (*lines, *_describe_pinned_range(result, options)):
            console.print_message(line)
    if result.gaps or not is_quiet:
        _print_kept(progress)


def _print_kept(progress: QuietProgress) -> None:
    """Print which run directory stays, and how large it is."""
    if progress.kept is not None:
        folder, size_bytes = progress.kept
        console.print_message(f"kept: {folder} ({format_size(size_bytes)}) holds what has been fetched so far")


def _describe_pinned_range(result: ExportResult, options: Mapping[str, Any]) -> Iterator[str]:
    """Yield what to type from the next day on, if the range was typed as `yesterday` or the like."""
    arguments = result.manifest.arguments
    if result.output is not None and (arguments.start, arguments.end) != (options["start"], options["end"]):
        output = shlex.quote(str(result.shown_output))
        yield f"hint: on another day, write --start {arguments.start} --end {arguments.end} -o {output}"


def describe_result(result: ExportResult) -> Iterator[str]:
    """Yield the summary of an export, line by line."""
    manifest = result.manifest
    totals = manifest.totals
    if result.was_complete_before:
        yield f"{result.shown_output} exists with {format_count(totals.written, 'event')}; nothing was requested"
        yield from _describe_verdict(result)
        return
    where = f" to {result.shown_output}" if result.output else ""
    reserialised = f" + {totals.reserialised:,} reserialised" if totals.reserialised else ""
    yield f"{format_count(totals.written, 'event')} written{where} ({format_count(manifest.output.size_bytes, 'byte')})"
    yield (
        f"{totals.scanned:,} scanned = {totals.written:,} written + {totals.filtered:,} filtered out"
        f"{_describe_identical(totals)}{reserialised}; {format_count(totals.pages, 'page')}, "
        f"{format_count(totals.shards, 'window')}"
    )
    times = manifest.event_times
    if times.first:
        yield f"eventTime from {times.first} to {times.last}; {times.outside_range:,} outside the range requested"
    if totals.conflicting_ids:
        ids = format_count(totals.conflicting_ids, "event id")
        yield f"{ids} with more than one record; all are kept, see the manifest"
    if manifest.redaction is not None:
        yield from describe_redaction(manifest.redaction.fields, manifest.redaction.events)
        if result.gaps and result.output:
            yield f"{result.output}.run keeps the events as served, not redacted, until the gaps are filled"
    yield from _describe_verdict(result)
    if result.digest:
        yield f"manifest {result.shown_manifest} sha256:{result.digest}"


def _describe_verdict(result: ExportResult) -> Iterator[str]:
    """Yield the verdict; where there are gaps, its headline comes with them."""
    from ociaudit.storage.verdict import describe_verdict

    headline, *qualifiers = describe_verdict(result.verdict)
    if not result.gaps:
        yield headline
    yield from (f"  {line}" for line in qualifiers)


def _describe_identical(totals: Totals) -> str:
    """Return the records that were read more than once, by why."""
    again = f" + {totals.fetched_twice:,} fetched twice" if totals.fetched_twice else ""
    return f"{again} + {totals.identical - totals.fetched_twice:,} identical"


def describe_empty_filter(result: ExportResult) -> Iterator[str]:
    """Yield what was scanned if no event matched the filter."""
    from ociaudit.events.conditions import find_aliases, find_recorded_names
    from ociaudit.events.filters import FilterSpec

    arguments, totals = result.manifest.arguments, result.manifest.totals
    patterns = (*arguments.event_types, *arguments.filter.event_names)
    if arguments.whole_filter == FilterSpec() or totals.written or result.was_complete_before:
        return
    is_plain = arguments.filter == FilterSpec()
    what = " or ".join(map(repr, arguments.event_types)) if is_plain else str(arguments.whole_filter)
    yield f"no event matched {what} among {totals.scanned:,} scanned"
    seen = sorted(result.tally.items(), key=lambda item: (-item[1], item[0]))[:_TYPES_SHOWN]
    if seen:
        yield "most frequent of those scanned:"
    for name, number in seen:
        yield f"  {number:>9,}  {name}"
    for name, values in result.nearest_values.items():
        yield f"hint: nearest {name} among the events scanned: {', '.join(values)}"
    for pattern in patterns:
        found = None if find_aliases(pattern) else find_recorded_names(pattern)  # aliases are resolved already
        if found:
            yield f"hint: Audit records {found[0]} as {', '.join(found[1])}"


def print_preview(preview: Preview, *, as_json: bool) -> int:
    """Print the preview to stdout, and return the exit code."""
    if as_json:
        import json

        from ociaudit.operations.preview import encode_preview

        console.print_data(json.dumps(encode_preview(preview)))
    else:
        for line in describe_preview(preview):
            console.print_output(line)
    return ExitCode.OK


def describe_preview(preview: Preview) -> Iterator[str]:
    """Yield the preview of a dry run, line by line."""
    from ociaudit.cli.progress import describe_shard
    from ociaudit.planning.shard import MINUTES_PER_DAY, format_minute
    from ociaudit.storage.manifest import name_time

    plan = preview.plan
    regions, compartments = preview.regions, preview.compartment_count
    more = f", and {len(regions) - _REGIONS_SHOWN:,} more" if len(regions) > _REGIONS_SHOWN else ""
    yield f"dry run: {format_count(preview.requests_made, 'request')} made, nothing written"
    yield (
        f"range       {format_minute(plan.window.start)} to {format_minute(plan.window.end)} "
        f"({name_time(plan.arguments.source)}, end exclusive; {plan.window.minutes / MINUTES_PER_DAY:,.2f} days)"
    )
    yield f"regions     {len(regions):,}: {', '.join(regions[:_REGIONS_SHOWN])}{more}"
    yield f"targets     {len(regions):,} × {format_count(compartments, 'compartment')} = {len(plan.targets):,}"
    per_target = preview.windows // max(1, len(plan.targets))
    yield (
        f"requests    at least {preview.windows:,}: {format_count(per_target, 'window')} of at most "
        f"{format_count(preview.max_window_days, 'day')} for each target, and a page or more for each"
    )
    yield f"retention   {_describe_retention(preview)}"
    yield f"settled     {_describe_horizon(preview)}"
    if preview.estimate is not None:
        yield from _describe_estimate(preview, preview.estimate)
    for shard, error in preview.failed[:_FAILED_PROBES_SHOWN]:
        request_id = f" (opc-request-id {error.request_id})" if error.request_id else ""
        yield f"rejected    {describe_shard(shard, plan.listed_compartments or {})}: {error}{request_id}"
    if len(preview.failed) > _FAILED_PROBES_SHOWN:
        yield f"rejected    and {len(preview.failed) - _FAILED_PROBES_SHOWN:,} more"


def _describe_retention(preview: Preview) -> str:
    days = preview.plan.retention_days
    if days is None:
        return "unknown: GetConfiguration failed"
    if preview.is_beyond_retention:
        return f"{format_count(days, 'day')}: THE RANGE STARTS BEFORE THAT; older events are gone"
    return f"{format_count(days, 'day')}: the whole range is kept"


def _describe_horizon(preview: Preview) -> str:
    from ociaudit.planning.shard import format_minute

    horizon = format_minute(preview.settled_until)
    if preview.plan.window.end > preview.settled_until:
        return f"until {horizon}; later windows are marked provisional (--settle 15m omits them)"
    return f"until {horizon}: no window is provisional"


def _describe_estimate(preview: Preview, estimate: Estimate) -> Iterator[str]:
    yield (
        f"sample      {format_count(preview.probes, 'request')}: the first page of {estimate.sampled:,} of "
        f"{format_count(estimate.windows, 'window')}, {estimate.dense:,} of them with more pages"
        f"{' and slices of those' if estimate.dense else ''}; {estimate.seconds_per_request:.2f} s each"
    )
    yield f"events      {_describe_amount(estimate.events, is_exact=estimate.is_exact)}"
    size = estimate.size_bytes
    shown = f"about {format_size(size.likely)} ({format_size(size.low)} to {format_size(size.high)})"
    yield f"bytes       {format_size(size.likely) if estimate.is_exact else shown}, uncompressed"
    yield f"requests    {_describe_amount(estimate.requests, is_exact=estimate.is_exact)}"
    time, most = estimate.seconds, preview.speed.max_per_second
    cap = f" and at most {most:g} per second" if most else ""
    likely = "less than 1 s" if time.likely < 0.5 else f"about {format_duration(time.likely)}"
    time_range = "" if estimate.is_exact else f" ({format_duration(time.low)} to {format_duration(time.high)})"
    yield (
        f"time        {likely}{time_range} with "
        f"{format_count(preview.speed.concurrency, 'request')} in flight{cap}, if the service does not throttle"
    )
    if not estimate.is_exact:
        yield (
            "method      mean density of the sample, root compartments separately, times all windows; the range allows "
            "for a few compartments with most of the events, as is usual"
        )
    if estimate.unlike_share:
        yield (
            f"            up to {estimate.unlike_share:.0%} of the windows may differ from all sampled ones: "
            "a few dense targets can be missed"
        )


def _describe_amount(amount: Amount, *, is_exact: bool) -> str:
    if is_exact:
        return f"{round(amount.likely):,}"
    return f"about {_round(amount.likely):,} ({_round(amount.low):,} to {_round(amount.high):,})"


def _round(number: float) -> int:
    """Round to three digits: an estimate does not know more."""
    whole = round(number)
    return round(whole, 3 - len(str(whole))) if whole >= 1000 else whole
