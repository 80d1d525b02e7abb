"""What a caller of the library asks for, as the program's own words.

Owns: the reading of dates, spans and paths, and their refusal. Must not: read the environment.

Who asks, through what, and what the environment says of it.

Owns: the resolution of the environment, once per call. Must not: ask the service.

The functions for Python: `stream` and `export`, and what the commands need beside them.

Owns: their options. Must not: read the environment, print or exit.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from urllib.request import getproxies_environment

from ociaudit.client.auth import SignIn
from ociaudit.client.config_file import DEFAULT_CONFIG_FILE, read_profile
from ociaudit.client.network import CaBundle, Endpoints, check_proxies, choose_bundle, make_ssl_context
from ociaudit.client.signer import AuthKind, Credentials
from ociaudit.client.transport import TransportLimits
from ociaudit.clock import SystemClock
from ociaudit.errors import UsageError
from ociaudit.events.field_naming import Shape
from ociaudit.events.filters import FilterSpec
from ociaudit.formats.compression import CompressionName
from ociaudit.formats.registry import FormatName, choose_output_format
from ociaudit.operations.context import (
    Callbacks,
    Cancellation,
    CountedName,
    ExportOrder,
    RunContext,
    choose_time,
    split_filter,
)
from ociaudit.operations.doctor import CheckResult, DoctorInputs, run_doctor
from ociaudit.operations.export import ExportResult, export_events
from ociaudit.operations.preview import Preview, preview_export, run_loop
from ociaudit.operations.resume import ResumeOptions
from ociaudit.operations.stream import Events, EventStream, OnGap
from ociaudit.planning.time_range import parse_duration
from ociaudit.storage.run_dir import ExportArguments, TimeKind

When = str | date | datetime


def describe_request(
    credentials: Credentials,
    start: When,
    end: When,
    *,
    regions: Sequence[str],
    compartments: Sequence[str],
    is_subtree: bool,
    by: TimeKind,
    late: str | None,
    settle: str | None,
    event_types: Sequence[str] = (),
    wanted: FilterSpec | None = None,
    **form: Any,
) -> ExportArguments:
    """Return what is asked for; `form` is how it is to be written.

    Raises:
        UsageError: a span is none, or `late` goes with a range of processed time.
    """
    return ExportArguments(
        tenancy=credentials.tenancy,
        start=_write_when(start),
        end=_write_when(end),
        profile=credentials.profile,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=is_subtree,
        **split_filter(event_types, wanted),
        **choose_time(by, late),
        settle_minutes=parse_duration(settle) if settle is not None else 0,
        **form,
    )


def locate(path: str | Path | None) -> Path | None:
    """Return where a file really is to stand: a link is kept, and what it leads to is replaced."""
    return Path(path).resolve() if path is not None else None


def make_limits(concurrency: int, max_requests_per_second: float | None) -> TransportLimits:
    """Return how much may be asked at a time.

    Raises:
        UsageError: nothing could be asked.
    """
    if concurrency < 1:
        raise UsageError("concurrency below one", hint="the default is 16; 1 asks one question after the other")
    if max_requests_per_second is not None and not max_requests_per_second > 0:
        raise UsageError("the most requests per second must be more than none", hint="leave it out for no such limit")
    return TransportLimits(max_in_flight=concurrency, max_per_second=max_requests_per_second)


def check_window_days(days: int) -> int:
    """Return the longest window of a question, in days.

    Raises:
        UsageError: it is none.
    """
    if days < 1:
        raise UsageError(f"a window of {days} days is none", hint="choose at least 1")
    return days


def _write_when(moment: When) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


ENDPOINT_VARIABLE = "OCI_AUDIT_ENDPOINT"


@dataclass(frozen=True, slots=True)
class Access:
    """How to sign in and where to ask, as a caller named it; None leaves it to the environment and the profile."""

    profile: str | None = None
    config_file: str | None = None
    auth: AuthKind | None = None
    uses_cli_variables: bool = True
    ca_bundle: str | Path | None = None
    endpoint: str | None = None

    def resolve(
        self,
        *,
        callbacks: Callbacks | None = None,
        stop: Cancellation | None = None,
        limits: TransportLimits | None = None,
    ) -> RunContext:
        """Read the environment and the profile.

        Raises:
            OciAuditError: what they say cannot be used; the class says by whose fault.
        """
        bundle = self._choose_bundle()
        context = make_ssl_context(bundle) if bundle else None
        sign_in = SignIn(self.profile, self.config_file, self.auth, self.uses_cli_variables)
        return RunContext(
            credentials=sign_in.load(os.environ, bundle.path if bundle else None),
            endpoints=Endpoints(self.endpoint or os.environ.get(ENDPOINT_VARIABLE) or None),
            clock=SystemClock(),
            callbacks=callbacks or Callbacks(),
            stop=stop or Cancellation(),
            limits=limits or TransportLimits(),
            proxies=check_proxies(getproxies_environment()),
            ssl_context=context,
        )

    def describe_inputs(self, regions: Sequence[str]) -> DoctorInputs:
        """Return what a diagnosis looks at, none of it resolved yet."""
        bundle = self._choose_bundle()
        target = self.config_file or os.environ.get("OCI_CLI_CONFIG_FILE") or DEFAULT_CONFIG_FILE
        return DoctorInputs(
            config_file=Path(os.path.expanduser(target)),  # noqa: PTH111 - an unknown `~user` stays
            read_fields=lambda: read_profile(self.config_file, self.profile, os.environ).fields,
            load=self.resolve,
            authorities=((bundle.named_by, bundle.path),) if bundle else (),
            proxies=getproxies_environment(),
            regions=tuple(regions),
        )

    def _choose_bundle(self) -> CaBundle | None:
        return choose_bundle(Path(self.ca_bundle) if self.ca_bundle is not None else None, os.environ)


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
    resume_options: ResumeOptions | None = None,
    waived: Iterable[str] = (),
    tally: CountedName | None = None,
    signing_key: str | Path | None = None,
    confirm_empty: bool = False,
    settle: str | None = None,
    callbacks: Callbacks | None = None,
    stop: Cancellation | None = None,
) -> ExportResult:
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
    form = choose_output_format(
        Path(output) if output is not None else None, file_format=file_format, compression=compression
    )
    limits = make_limits(concurrency, max_requests_per_second)
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    context = access.resolve(callbacks=callbacks, stop=stop, limits=limits)
    for notice in form.notices:
        context.callbacks.on_notice(notice)
    order = ExportOrder(
        arguments=describe_request(
            context.credentials,
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
        resume_options=resume_options or ResumeOptions(),
        waived=frozenset(waived),
        tally=tally,
        signing_key=Path(signing_key).expanduser() if signing_key is not None else None,
        confirm_empty=confirm_empty,
        deadline_seconds=60 * parse_duration(deadline) if deadline is not None else None,
    )
    return export_events(order, context)


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
    callbacks: Callbacks | None = None,
) -> Preview:
    """Find out what an export would ask, and with `is_probing` estimate from a few pages what it would bring.

    Arguments as for `export`. Nothing is written.

    Raises:
        OciAuditError: as the export would, before its first question for events.
    """
    limits = make_limits(concurrency, max_requests_per_second)
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    context = access.resolve(callbacks=callbacks, limits=limits)
    arguments = describe_request(
        context.credentials,
        start,
        end,
        regions=regions,
        compartments=compartments,
        is_subtree=is_subtree,
        by=by,
        late=late,
        settle=settle,
    )
    return preview_export(arguments, context, max_window_days=check_window_days(max_window_days), is_probing=is_probing)


def diagnose(
    *,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    ca_bundle: str | Path | None = None,
    regions: Sequence[str] = (),
    endpoint: str | None = None,
) -> tuple[CheckResult, ...]:
    """Find out whether everything is in place for an export: a finding for each thing that was looked at.

    Raises:
        UsageError: a region or the endpoint cannot be one. A configuration that is not usable is a finding.
    """
    inputs = Access(profile, config_file, auth, ca_bundle=ca_bundle, endpoint=endpoint).describe_inputs(regions)
    return run_loop(lambda: run_doctor(inputs))


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
    callbacks: Callbacks | None = None,
) -> Events:
    """Return the events of a range, lazily and in the order of arrival, as dictionaries.

    Arguments as for `export`. When all has been given and there are gaps, the iteration raises
    `IncompleteExport`; with `on_gap="collect"` it just ends, and `.gaps` holds them.

    Raises:
        UsageError: the arguments cannot be carried out; other errors come while iterating.
    """
    access = Access(profile, config_file, auth, uses_cli_variables, ca_bundle, endpoint)
    context = access.resolve(callbacks=callbacks)
    arguments = describe_request(
        context.credentials,
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
    return Events(EventStream(order, context, on_gap=on_gap), shape)
