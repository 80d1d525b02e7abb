"""`oci-audit export`: the main job from the command line.

Owns: its options. Must not: import the library before it is needed, so that `--help` stays quick.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ociaudit.cli import console
from ociaudit.cli.filter_options import Filter, take_filter
from ociaudit.cli.form_options import (
    CompressOption,
    FormatOption,
    OverwriteOption,
    RedactOption,
    ShapeOption,
    WithOriginOption,
)
from ociaudit.cli.sign_in_options import (
    AuthOption,
    CaBundleOption,
    ConfigFileOption,
    EndpointOption,
    ProfileOption,
    RegionOption,
)

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
    from ociaudit import library
    from ociaudit.cli.exit_status import find_exit_status
    from ociaudit.cli.export_modes import check_modes, say_preview
    from ociaudit.cli.outcome_view import describe_effort, describe_empty_filter, describe_gaps, describe_outcome
    from ociaudit.cli.signals import stop_on_signals
    from ociaudit.cli.waivers import read_waivers
    from ociaudit.cli.watching import choose_progress
    from ociaudit.errors import OciAuditError
    from ociaudit.jobs.order import check_time_kind
    from ociaudit.jobs.rerun import RerunOptions
    from ociaudit.jobs.stop import StopRequest
    from ociaudit.plan.time_range import is_relative

    progress = choose_progress(is_quiet=quiet, log_format=log_format, verbosity=verbose)
    stop = StopRequest()
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
            "observer": progress,
        }
        if dry_run:
            preview = library.preview(start, end, **asked, is_probing=probe)
            return say_preview(preview, as_json=as_json)
        progress.waived = frozenset(read_waivers(waive or ()))
        with stop_on_signals(stop):
            outcome = library.export(
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
                rerun=RerunOptions(overwrite=overwrite, resume=resume, restart=restart),
                stop=stop,
            )
    except OciAuditError as error:
        if progress.tell_error(error):
            return find_exit_status(error)
        raise
    finally:
        progress.close()
    exit_code = 0 if outcome.complete else INCOMPLETE_EXIT_CODE
    if progress.tell_end(outcome, exit_code=exit_code):
        return exit_code
    if not quiet:
        for line in (*describe_empty_filter(outcome), *describe_outcome(outcome), *describe_effort(progress)):
            console.say(line)
    if outcome.gaps:
        lines = describe_gaps(
            outcome.gaps,
            policy=outcome.policy,
            is_kept=outcome.output is not None,
            is_relative=is_relative(start) or is_relative(end),
            can_waive=True,
        )
        for line in lines:
            console.say(line)
    return exit_code
