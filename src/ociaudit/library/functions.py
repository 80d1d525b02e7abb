"""The functions for Python: `stream` and `export`, and what the commands need beside them.

Owns: their options. Must not: read the environment, print or exit.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from ociaudit.events.filters import FilterSpec
from ociaudit.events.shapes import Shape
from ociaudit.formats.form import CompressionName, FormatName, choose_form
from ociaudit.jobs.doctor import examine
from ociaudit.jobs.event_objects import Events
from ociaudit.jobs.export import Outcome, export_events
from ociaudit.jobs.finding import Finding
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import ExportOrder, Tally
from ociaudit.jobs.preview import Preview, preview_export, run_loop
from ociaudit.jobs.rerun import RerunOptions
from ociaudit.jobs.stop import StopRequest
from ociaudit.jobs.stream import EventStream, OnGap
from ociaudit.library.environment import Access
from ociaudit.library.request import When, check_window_days, describe_request, locate, make_limits
from ociaudit.plan.time_range import parse_duration
from ociaudit.source.credentials import AuthKind
from ociaudit.store.run_folder import TimeKind


def export(  # long because: every option of an export is named here once
    start: When,
    end: When,
    *,
    output: str | Path | None,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    event_types: Sequence[str] = (),
    filter: FilterSpec | None = None,  # noqa: A002 - the word a caller looks for
    by: TimeKind = "processed-time",
    late: str | None = None,
    shape: Shape = "api",
    file_format: FormatName | None = None,
    compression: CompressionName | None = None,
    with_origin: bool = False,
    redact: bool = False,
    max_window_days: int = 14,
    concurrency: int = 16,
    max_requests_per_second: float | None = None,
    deadline: str | None = None,
    endpoint: str | None = None,
    manifest: str | Path | None = None,
    rerun: RerunOptions | None = None,
    waived: Iterable[str] = (),
    tally: Tally | None = None,
    signing_key: str | Path | None = None,
    confirm_empty: bool = False,
    settle: str | None = None,
    observer: Observer | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Export every audit event of a range into one file, with its manifest beside it.

    `start` and `end` are dates, times with an offset, ages such as "7d", or "now"; a date as end includes that
    day. `output` None writes to stdout. Without `regions` and `compartments` it is the whole tenancy.
    `event_types` are regular expressions searched in the event type, `filter` is more of that. With `by="event-time"`
    the range means when events happened, and processing is asked until `late` ("1h") after it. With `settle`, such as
    "15m", it ends at least so long before now. `file_format` and `compression` are read from the output's suffix where
    they are None. `redact` replaces what looks like a credential. A leftover run of the same request is resumed.
    `concurrency` is the ceiling of requests under way; what is not answered within `deadline`, such as "2h", becomes
    gaps. Gaps do not raise: look at `complete` and `gaps` of what is returned.

    Raises:
        OciAuditError: the export could not be carried to its end; the class says by whose fault.
    """
    form = choose_form(Path(output) if output is not None else None, file_format=file_format, compression=compression)
    limits = make_limits(concurrency, max_requests_per_second)
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    tools = access.resolve(observer=observer, stop=stop, limits=limits)
    for notice in form.notices:
        tools.observer.on_notice(notice)
    order = ExportOrder(
        arguments=describe_request(
            tools.credentials,
            start,
            end,
            regions=regions,
            compartments=compartments,
            is_subtree=is_subtree,
            event_types=event_types,
            wanted=filter,
            by=by,
            late=late,
            shape=shape,
            settle=settle,
            format=form.format,
            compress=form.compression,
            with_origin=with_origin,
            redact=redact,
        ),
        output=locate(output),
        manifest=locate(manifest),
        max_window_days=check_window_days(max_window_days),
        rerun=rerun or RerunOptions(),
        waived=frozenset(waived),
        tally=tally,
        signing_key=Path(signing_key).expanduser() if signing_key is not None else None,
        confirm_empty=confirm_empty,
        deadline_seconds=60 * parse_duration(deadline) if deadline is not None else None,
    )
    return export_events(order, tools)


def preview(
    start: When,
    end: When,
    *,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    by: TimeKind = "processed-time",
    late: str | None = None,
    max_window_days: int = 14,
    concurrency: int = 16,
    max_requests_per_second: float | None = None,
    endpoint: str | None = None,
    settle: str | None = None,
    is_probing: bool = False,
    observer: Observer | None = None,
) -> Preview:
    """Find out what an export would ask, and with `is_probing` estimate from a few pages what it would bring.

    Arguments as for `export`. Nothing is written.

    Raises:
        OciAuditError: as the export would, before its first question for events.
    """
    limits = make_limits(concurrency, max_requests_per_second)
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    tools = access.resolve(observer=observer, limits=limits)
    arguments = describe_request(
        tools.credentials,
        start,
        end,
        regions=regions,
        compartments=compartments,
        is_subtree=is_subtree,
        by=by,
        late=late,
        settle=settle,
    )
    return preview_export(arguments, tools, max_window_days=check_window_days(max_window_days), is_probing=is_probing)


def diagnose(
    *,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    ca_bundle: str | Path | None = None,
    regions: Sequence[str] = (),
    endpoint: str | None = None,
) -> tuple[Finding, ...]:
    """Find out whether everything is in place for an export: a finding for each thing that was looked at.

    Raises:
        UsageError: a region or the endpoint cannot be one. A configuration that is not usable is a finding.
    """
    patient = Access(profile, config_file, auth, ca_bundle=ca_bundle, endpoint=endpoint).describe_patient(regions)
    return run_loop(lambda: examine(patient))


def stream(
    start: When,
    end: When,
    *,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    event_types: Sequence[str] = (),
    filter: FilterSpec | None = None,  # noqa: A002 - the word a caller looks for
    by: TimeKind = "processed-time",
    late: str | None = None,
    shape: Shape = "api",
    max_window_days: int = 14,
    endpoint: str | None = None,
    settle: str | None = None,
    on_gap: OnGap = "raise",
    observer: Observer | None = None,
) -> Events:
    """Return the events of a range, lazily and in the order of arrival, as dictionaries.

    Arguments as for `export`. When all has been given and there are gaps, the iteration raises
    `IncompleteExport`; with `on_gap="collect"` it just ends, and `.gaps` holds them.

    Raises:
        UsageError: the arguments cannot be carried out; other errors come while iterating.
    """
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    tools = access.resolve(observer=observer)
    arguments = describe_request(
        tools.credentials,
        start,
        end,
        regions=regions,
        compartments=compartments,
        is_subtree=is_subtree,
        event_types=event_types,
        wanted=filter,
        by=by,
        late=late,
        shape=shape,
        settle=settle,
    )
    order = ExportOrder(arguments, None, max_window_days=check_window_days(max_window_days))
    return Events(EventStream(order, tools, on_gap=on_gap), shape)
