"""`oci-audit export`: the main job from the command line.

Owns: its options. Must not: import the library before it is needed, so that `--help` stays quick.

How an export ended, in words. Owns: the summary lines. Must not: print.

What an export would ask, in words and as JSON. Owns: the lines of the dry run. Must not: print.

The modes of `oci-audit export`: which options go together, and the dry run's answer.

Owns: the refusal of options that would be ignored. Must not: resolve anything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ociaudit.cli import console
from ociaudit.cli.console import count, describe_bytes, describe_redaction, describe_seconds
from ociaudit.cli.options import (
    AuthOption,
    CaBundleOption,
    CompressOption,
    ConfigFileOption,
    EndpointOption,
    Filter,
    FormatOption,
    OverwriteOption,
    ProfileOption,
    RedactOption,
    RegionOption,
    ShapeOption,
    WithOriginOption,
    take_filter,
)
from ociaudit.cli.progress import RunStats, describe_gap, describe_shard_time
from ociaudit.errors import UsageError
from ociaudit.events.event_names import find_recorded_names
from ociaudit.events.filters import FilterSpec
from ociaudit.operations.export import ExportResult
from ociaudit.operations.preview import Preview
from ociaudit.planning.estimate import Amount, Estimate
from ociaudit.planning.shard import Gap
from ociaudit.planning.window import MINUTES_PER_DAY, format_minute
from ociaudit.storage.manifest import Manifest

INCOMPLETE_EXIT_CODE = 10


@take_filter
def export(  # long because: typer reads the options from the signature
    *,
    start: Annotated[
        str,
        typer.Option(
            help="First day or moment: 2025-12-01, 01.12.25, 2025-12-01T08:00:00Z, or an age: 7d, 36h, 90m.",
            metavar="TIME",
        ),
    ],
    end: Annotated[
        str, typer.Option(help="Last day, included; or a moment, excluded; or now.", metavar="TIME")
    ] = "now",
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="File to write; its suffix names format and compression; - is stdout; {start} {end} are filled in.",
            show_default="required, but with --dry-run",
            metavar="FILE",
        ),
    ] = None,
    file_format: FormatOption = None,
    compress: CompressOption = None,
    shape: ShapeOption = "api",
    with_origin: WithOriginOption = False,
    redact: RedactOption = False,
    profile: ProfileOption = None,
    config_file: ConfigFileOption = None,
    auth: AuthOption = None,
    ca_bundle: CaBundleOption = None,
    region: RegionOption = None,
    compartment: Annotated[
        list[str] | None,
        typer.Option(
            help="Ask only this compartment and all below it; repeatable.",
            show_default="the whole tenancy",
            metavar="OCID",
        ),
    ] = None,
    no_subtree: Annotated[
        bool, typer.Option("--no-subtree", help="Ask exactly the compartments named, not what lies below.")
    ] = False,
    wanted: Filter,
    by: Annotated[
        str, typer.Option(help="Time that the range means: processed-time or event-time.", metavar="KIND")
    ] = "processed-time",
    late: Annotated[
        str | None,
        typer.Option(
            help="How long after its end events of a range of event time are waited for.",
            show_default="1h",
            metavar="SPAN",
        ),
    ] = None,
    max_window_days: Annotated[int, typer.Option(min=1, help="Longest window of one question.", metavar="DAYS")] = 14,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Most requests under way at a time, all regions together.", metavar="COUNT")
    ] = 16,
    max_requests_per_second: Annotated[
        float | None,
        typer.Option(
            help="Most requests that leave in a second.", show_default="none before the service's 429", metavar="NUMBER"
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        typer.Option(help="Stop asking after so long, for example 2h; what is left becomes gaps.", metavar="DURATION"),
    ] = None,
    endpoint: EndpointOption = None,
    waive: Annotated[
        list[str] | None,
        typer.Option(
            help="Compartment whose denial is known and no reason for exit 10; repeatable; or a file of them.",
            metavar="OCID|FILE",
        ),
    ] = None,
    manifest: Annotated[
        Path | None, typer.Option(help="Where the manifest goes.", show_default="beside the output", metavar="FILE")
    ] = None,
    sign: Annotated[Path | None, typer.Option(help="Private SSH key to sign the manifest with.", metavar="KEY")] = None,
    confirm_empty: Annotated[
        bool, typer.Option("--confirm-empty", help="Ask windows that brought no event once more at the end.")
    ] = False,
    settle: Annotated[
        str | None,
        typer.Option(help="End the range at least so long before now: 15m, 1h, 2d.", metavar="SPAN"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what would be asked; writes nothing, asks for the scope alone.")
    ] = False,
    probe: Annotated[
        bool, typer.Option("--probe", help="With --dry-run: ask up to 24 pages, and estimate events and time.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="With --dry-run: print one JSON object.")] = False,
    overwrite: OverwriteOption = False,
    resume: Annotated[bool, typer.Option("--resume", help="Finish a run over a relative range that was left.")] = False,
    restart: Annotated[bool, typer.Option("--restart", help="Throw a run away that was left.")] = False,
    log_format: Annotated[
        Literal["text", "json"], typer.Option(help="Form of what goes to stderr.", metavar="text|json")
    ] = "text",
    verbose: Annotated[
        int,
        typer.Option("-v", "--verbose", count=True, show_default=False, help="Say more; -vv says a line per request."),
    ] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only notices, gaps and errors.")] = False,
) -> int:
    """Write every audit event of a range into one file, with the proof of what it holds beside it.

    Exit codes: 0 complete, 10 finished with gaps, 2 usage, 3 sign-in or permission, 4 service, 5 disk, 6 what an
    earlier run left is damaged, 130 or 143 interrupted. After 3, 4, 5, 10 and an interruption the same command goes on.
    """
    from ociaudit import api
    from ociaudit.cli.console import cancel_on_signals
    from ociaudit.cli.options import choose_progress, read_waivers
    from ociaudit.errors import OciAuditError, find_exit_status
    from ociaudit.operations.context import Cancellation, check_time_kind
    from ociaudit.operations.resume import ResumeOptions
    from ociaudit.planning.time_range import is_relative

    progress = choose_progress(is_quiet=quiet, log_format=log_format, verbosity=verbose)
    stop = Cancellation()
    try:
        check_modes(output=output, dry_run=dry_run, probe=probe, as_json=as_json)
        asked: dict[str, Any] = {  # what a dry run asks as the export does
            "profile": profile,
            "config_file": config_file,
            "auth": auth,
            "ca_bundle": ca_bundle,
            "regions": region or (),
            "compartments": compartment or (),
            "is_subtree": not no_subtree,
            "by": check_time_kind(by),
            "late": late,
            "settle": settle,
            "max_window_days": max_window_days,
            "concurrency": concurrency,
            "max_requests_per_second": max_requests_per_second,
            "endpoint": endpoint,
            "callbacks": progress,
        }
        if dry_run:
            preview = api.preview(start, end, **asked, is_probing=probe)
            return print_preview(preview, as_json=as_json)
        progress.waived = frozenset(read_waivers(waive or ()))
        with cancel_on_signals(stop):
            outcome = api.export(
                start,
                end,
                **asked,
                output=None if output == "-" else output,
                filter=wanted,
                shape=shape,
                file_format=file_format,
                compression=compress,
                with_origin=with_origin,
                redact=redact,
                deadline=deadline,
                manifest=manifest,
                waived=progress.waived,
                signing_key=sign,
                confirm_empty=confirm_empty,
                resume_options=ResumeOptions(overwrite=overwrite, resume=resume, restart=restart),
                stop=stop,
            )
    except OciAuditError as error:
        if progress.report_error(error):
            return find_exit_status(error)
        raise
    finally:
        progress.close()
    exit_code = 0 if outcome.complete else INCOMPLETE_EXIT_CODE
    if progress.report_end(outcome, exit_code=exit_code):
        return exit_code
    if not quiet:
        for line in (*describe_empty_filter(outcome), *describe_outcome(outcome), *describe_effort(progress)):
            console.print_message(line)
    if outcome.gaps:
        lines = describe_gaps(
            outcome.gaps,
            policy=outcome.policy,
            is_kept=outcome.output is not None,
            is_relative=is_relative(start) or is_relative(end),
            can_waive=True,
        )
        for line in lines:
            console.print_message(line)
    return exit_code


_GAPS_SHOWN = 40
_TYPES_SHOWN = 10
_SLOW_SECONDS = 1.0
_SLOWEST_SHOWN = 3
_UNAUTHORIZED = "401 "


def describe_outcome(outcome: ExportResult) -> Iterator[str]:
    """Yield the summary, line by line."""
    manifest = outcome.manifest
    totals = manifest.totals
    if outcome.was_complete_before:
        yield f"already complete: {outcome.output} holds {count(totals.written, 'event')}; nothing was asked"
        return
    where = f" to {outcome.output}" if outcome.output else ""
    yield f"{count(totals.written, 'event')} written{where} ({manifest.output.size_bytes:,} bytes)"
    yield (
        f"{totals.scanned:,} scanned = {totals.written:,} written + {totals.filtered:,} filtered out + "
        f"{totals.identical:,} identical; {count(totals.pages, 'page')} in {count(totals.requests, 'request')}, "
        f"{count(totals.shards, 'window')}"
    )
    yield from _describe_event_range(manifest)
    times = manifest.event_times
    if times.first:
        yield f"eventTime from {times.first} to {times.last}; {times.outside_range:,} outside the range asked"
    if totals.conflicting_ids:
        yield f"{totals.conflicting_ids:,} event ids have more than one record; all are kept, see the manifest"
    if manifest.redaction is not None:
        yield from describe_redaction(manifest.redaction.fields, manifest.redaction.events)
        if outcome.gaps and outcome.output:
            yield f"{outcome.output}.run keeps the events as served, not redacted, until the gaps are filled"
    if manifest.provisional:
        yield f"{count(len(manifest.provisional), 'window')} provisional: asked within 15 minutes of their end"
    for name in manifest.scope.unlisted_compartments_seen:
        yield f"compartment {name} occurs in events but is not listed any more; its own events may be missing"
    if outcome.waived:
        yield f"{count(len(outcome.waived), 'waived gap')}: {_list_targets(outcome.waived)}"
    if outcome.digest:
        yield f"manifest {outcome.manifest_path} sha256:{outcome.digest}"


def _describe_event_range(manifest: Manifest) -> Iterator[str]:
    asked = manifest.event_range
    if asked:
        yield (
            f"{manifest.totals.outside_event_range:,} of the filtered out happened outside {asked.start} .. {asked.end}"
            + ("" if asked.is_settled else f"; {asked.late} after that was still to come, so late ones may be missing")
        )


def describe_effort(run_stats: RunStats) -> Iterator[str]:
    """Yield what a run took, and its slowest windows where one was slow; nothing where nothing was asked."""
    if not run_stats.requests:
        return
    elapsed = run_stats.elapsed_seconds
    asked = f"{count(run_stats.requests, 'request')} ({run_stats.requests / elapsed:,.1f}/s)"
    yield (
        f"took {describe_seconds(elapsed)}: {asked}, {run_stats.throttled:,} × 429, "
        f"{describe_bytes(run_stats.received_bytes)} received, {count(run_stats.splits, 'window')} cut"
    )
    slowest = [taken for taken in run_stats.slowest if taken.seconds >= _SLOW_SECONDS][:_SLOWEST_SHOWN]
    if slowest:
        yield "slowest windows:"
    for taken in slowest:
        yield f"  {describe_shard_time(taken)}"


def describe_gaps(
    gaps: Sequence[Gap], *, policy: str, is_kept: bool = True, is_relative: bool = False, can_waive: bool = False
) -> Iterator[str]:
    """Yield the gaps, summed up, and what to do about them.

    `policy` is the IAM statement to ask for where places are denied. `is_kept`: the run's directory stays.
    `is_relative`: the range was typed as an age or `now`, so that the same command means another one by then.
    `can_waive`: the command has the option `--waive`.
    """
    yield f"INCOMPLETE: {count(len(gaps), 'gap')}"
    groups = _group_gaps(gaps)
    for group in groups[:_GAPS_SHOWN]:
        more = f"; and the same for {count(len(group) - 1, 'more compartment')}" if len(group) > 1 else ""
        yield f"  {describe_gap(group[0])}{more}"
    rest = sum(map(len, groups[_GAPS_SHOWN:]))
    if rest:
        yield f"  … and {rest:,} more; all are in the manifest"
    yield from _advise(gaps, policy, can_waive=can_waive)
    if is_kept and is_relative:
        yield "hint: the same command with --resume asks for the gaps alone"
    elif is_kept:
        yield "hint: the same command again asks for the gaps alone"
    else:
        yield "hint: nothing is kept of a run to stdout; with -o FILE the same command again asks for the gaps alone"


def _group_gaps(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Put gaps together that one answer caused: those of a whole region, as a rule."""

    def find_cause(gap: Gap) -> tuple[object, ...]:
        return gap.target.region, gap.window, gap.kind, gap.reason, gap.request_id

    return [list(group) for _, group in groupby(gaps, find_cause)]


def _advise(gaps: Sequence[Gap], policy: str, *, can_waive: bool) -> Iterator[str]:
    denied = [gap for gap in gaps if gap.kind == "denied"]
    if any(gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield "hint: 401 in one region alone: the tenancy has not subscribed to it, or is still subscribing"
    if any(not gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield f"hint: for denied places ask for: {policy}"
        if can_waive:
            yield "hint: where a denial is meant to be, --waive OCID keeps it on record without exit 10"


def describe_empty_filter(outcome: ExportResult) -> Iterator[str]:
    """Yield what was seen when a filter let nothing pass."""
    arguments, totals = outcome.manifest.arguments, outcome.manifest.totals
    patterns = (*arguments.event_types, *arguments.filter.event_names)
    if arguments.whole_filter == FilterSpec() or totals.written or outcome.was_complete_before:
        return
    is_plain = arguments.filter == FilterSpec()
    what = " or ".join(map(repr, arguments.event_types)) if is_plain else str(arguments.whole_filter)
    yield f"no event matched {what} among {totals.scanned:,} scanned"
    seen = sorted(outcome.tally.items(), key=lambda item: (-item[1], item[0]))[:_TYPES_SHOWN]
    if seen:
        yield "most frequent among what was scanned:"
    for name, number in seen:
        yield f"  {number:>9,}  {name}"
    for pattern in patterns:
        found = find_recorded_names(pattern)
        if found:
            yield f"hint: Audit records {found[0]} as {', '.join(found[1])}"


def _list_targets(gaps: Sequence[Gap]) -> str:
    return ", ".join(f"{gap.target.region} {gap.target.compartment}" for gap in gaps[:_GAPS_SHOWN])


_REGIONS_SHOWN = 40
_REFUSED_SHOWN = 10


def describe_preview(preview: Preview) -> Iterator[str]:
    """Yield the dry run, line by line."""
    plan = preview.plan
    regions, compartments = _list_scope(preview)
    more = f", and {len(regions) - _REGIONS_SHOWN:,} more" if len(regions) > _REGIONS_SHOWN else ""
    yield f"dry run: {count(preview.requests_made, 'request')} made, nothing written"
    yield (
        f"range       {format_minute(plan.window.start)} to {format_minute(plan.window.end)} "
        f"(processed time, end exclusive; {plan.window.minutes / MINUTES_PER_DAY:,.2f} days)"
    )
    yield f"regions     {len(regions):,}: {', '.join(regions[:_REGIONS_SHOWN])}{more}"
    yield f"places      {len(regions):,} × {count(compartments, 'compartment')} = {len(plan.targets):,}"
    per_target = preview.windows // max(1, len(plan.targets))
    yield (
        f"requests    at least {preview.windows:,}: {count(per_target, 'window')} of at most "
        f"{count(preview.max_window_days, 'day')} for each place, and a page or more for each"
    )
    yield f"retention   {_describe_retention(preview)}"
    yield f"settled     {_describe_horizon(preview)}"
    if preview.estimate is not None:
        yield from _describe_estimate(preview, preview.estimate)
    for shard, error in preview.refused[:_REFUSED_SHOWN]:
        request_id = f" (opc-request-id {error.request_id})" if error.request_id else ""
        yield f"refused     {shard}: {error}{request_id}"
    if len(preview.refused) > _REFUSED_SHOWN:
        yield f"refused     and {len(preview.refused) - _REFUSED_SHOWN:,} more"


def show_preview(preview: Preview) -> dict[str, Any]:
    """Return the dry run as one JSON object."""
    plan, estimate = preview.plan, preview.estimate
    regions, compartments = _list_scope(preview)
    return {
        "start": format_minute(plan.window.start),
        "end": format_minute(plan.window.end),
        "regions": regions,
        "compartments": compartments,
        "targets": len(plan.targets),
        "max_window_days": preview.max_window_days,
        "requests_at_least": preview.windows,
        "requests_made": preview.requests_made,
        "retention_days": plan.retention_days,
        "is_beyond_retention": preview.is_beyond_retention,
        "settled_until": format_minute(preview.settled_until),
        "is_provisional": plan.window.end > preview.settled_until,
        "estimate": _show_estimate(preview, estimate) if estimate else None,
        "refused": [
            {
                "region": shard.target.region,
                "compartment": shard.target.compartment,
                "start": format_minute(shard.window.start),
                "end": format_minute(shard.window.end),
                "reason": str(error),
                "request_id": error.request_id,
            }
            for shard, error in preview.refused
        ],
    }


def _list_scope(preview: Preview) -> tuple[list[str], int]:
    targets = preview.plan.targets
    return sorted({target.region for target in targets}), len({target.compartment for target in targets})


def _describe_retention(preview: Preview) -> str:
    days = preview.plan.retention_days
    if days is None:
        return "not known: GetConfiguration did not answer"
    if preview.is_beyond_retention:
        return f"{count(days, 'day')}: THE RANGE BEGINS BEFORE THAT; older events are gone"
    return f"{count(days, 'day')}: the whole range is kept"


def _describe_horizon(preview: Preview) -> str:
    horizon = format_minute(preview.settled_until)
    if preview.plan.window.end > preview.settled_until:
        return f"until {horizon}; what lies after it is asked and marked provisional (--settle 15m leaves it out)"
    return f"until {horizon}: nothing asked is provisional"


def _describe_estimate(preview: Preview, estimate: Estimate) -> Iterator[str]:
    yield (
        f"sample      {count(preview.probes, 'question')}: the first page of {estimate.sampled:,} of "
        f"{count(estimate.windows, 'window')}, {estimate.dense:,} of them with more pages"
        f"{' and slices of those' if estimate.dense else ''}; {estimate.seconds_per_request:.2f} s each"
    )
    yield f"events      {_describe_amount(estimate.events, is_exact=estimate.is_exact)}"
    size = estimate.size_bytes
    size_range = "" if estimate.is_exact else f" ({describe_bytes(size.low)} to {describe_bytes(size.high)})"
    yield f"bytes       about {describe_bytes(size.likely)}{size_range}, uncompressed"
    yield f"requests    {_describe_amount(estimate.requests, is_exact=estimate.is_exact)}"
    time, most = estimate.seconds, preview.speed.max_per_second
    cap = f" and at most {most:g} per second" if most else ""
    time_range = "" if estimate.is_exact else f" ({describe_seconds(time.low)} to {describe_seconds(time.high)})"
    yield (
        f"time        about {describe_seconds(time.likely)}{time_range} with "
        f"{count(preview.speed.concurrency, 'request')} in flight{cap}, if the service asks for no pause"
    )
    if not estimate.is_exact:
        yield (
            "method      mean density of the sample, root compartments apart, times all windows; the range is two "
            "standard errors of the sample"
        )
    if estimate.unlike_share:
        yield (
            f"            up to {estimate.unlike_share:.0%} of the windows may be unlike all that were sampled: "
            "a few dense places can be missed"
        )


def _describe_amount(amount: Amount, *, is_exact: bool) -> str:
    if is_exact:
        return f"{round(amount.likely):,}"
    return f"about {_round(amount.likely):,} ({_round(amount.low):,} to {_round(amount.high):,})"


def _round(number: float) -> int:
    """Keep three digits: more would pretend to be known."""
    whole = round(number)
    return round(whole, 3 - len(str(whole))) if whole >= 1000 else whole


def _show_estimate(preview: Preview, estimate: Estimate) -> dict[str, Any]:
    def show(amount: Amount) -> dict[str, float]:
        return {"likely": round(amount.likely), "low": round(amount.low), "high": round(amount.high)}

    return {
        "questions": preview.probes,
        "windows": estimate.windows,
        "windows_sampled": estimate.sampled,
        "windows_dense": estimate.dense,
        "unlike_share": round(estimate.unlike_share, 4),
        "is_exact": estimate.is_exact,
        "concurrency": preview.speed.concurrency,
        "max_requests_per_second": preview.speed.max_per_second,
        "seconds_per_request": round(estimate.seconds_per_request, 4),
        "events": show(estimate.events),
        "bytes": show(estimate.size_bytes),
        "requests": show(estimate.requests),
        "seconds": show(estimate.seconds),
    }


def check_modes(*, output: str | None, dry_run: bool, probe: bool, as_json: bool) -> None:
    """Refuse options that mean nothing beside the others.

    Raises:
        UsageError: one of them would be ignored, or the output is missing.
    """
    if not dry_run:
        for name, is_given in (("--probe", probe), ("--json", as_json)):
            if is_given:
                raise UsageError(f"{name} means nothing without --dry-run", hint=f"add --dry-run, or leave {name} away")
        if output is None:
            raise UsageError("Missing option '-o' / '--output'.", hint="see `oci-audit export --help`")


def print_preview(preview: Preview, *, as_json: bool) -> int:
    """Print the dry run as what the command was asked for, and return the exit code."""
    if as_json:
        console.print_output(json.dumps(show_preview(preview)))
    else:
        for line in describe_preview(preview):
            console.print_output(line)
    return 0
