"""The face for Python: `stream`, `export`, and the classes of the documented scripts.

Owns: the resolution of the environment, once per call. Must not: print or exit.

    import ociaudit

    for event in ociaudit.stream("2025-12-01", "2025-12-07"):
        print(event["eventType"])

    outcome = ociaudit.export("7d", "now", output="audit.json")
    assert outcome.complete, outcome.gaps
"""
# long because: every option is named for `export` and for `stream`

# long because: every option is named once for each function that takes it

# long because: every option is named for `export` and for `stream`
from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar
from urllib.request import getproxies_environment

from ociaudit.errors import IncompleteExport, UsageError
from ociaudit.events.facts import read_sdk_facts
from ociaudit.events.filters import EventFilter, FilterSpec
from ociaudit.events.shapes import Shape
from ociaudit.formats.form import CompressionName, FormatName, choose_form
from ociaudit.formats.json_array import JsonArray
from ociaudit.jobs.doctor import examine
from ociaudit.jobs.event_objects import Events
from ociaudit.jobs.examination import Patient
from ociaudit.jobs.export import Outcome, export_events
from ociaudit.jobs.finding import Finding
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import ExportOrder, Tally, Tools, choose_time, split_filter
from ociaudit.jobs.preview import Preview, preview_export, run_loop
from ociaudit.jobs.rerun import RerunOptions
from ociaudit.jobs.stop import StopRequest
from ociaudit.jobs.stream import EventStream, OnGap
from ociaudit.plan.shard import Gap
from ociaudit.plan.time_range import parse_duration
from ociaudit.source.auth import SignIn, load_credentials
from ociaudit.source.certificates import choose_bundle, make_ssl_context
from ociaudit.source.clock import SystemClock
from ociaudit.source.config_file import DEFAULT_CONFIG_FILE, read_profile
from ociaudit.source.credentials import AuthKind
from ociaudit.source.endpoints import Endpoints
from ociaudit.source.proxies import check_proxies
from ociaudit.source.transport import TransportLimits
from ociaudit.store.durable import new_file, write_all
from ociaudit.store.run_folder import ExportArguments, TimeKind

ENDPOINT_VARIABLE = "OCI_AUDIT_ENDPOINT"
When = str | date | datetime


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
    sign_in = SignIn(profile, config_file, auth, uses_cli_variables)
    tools = _resolve_tools(sign_in, ca_bundle, endpoint, observer=observer, stop=stop)
    tools = replace(tools, limits=_make_limits(concurrency, max_requests_per_second))
    for notice in form.notices:
        tools.observer.on_notice(notice)
    order = ExportOrder(
        arguments=ExportArguments(
            tenancy=tools.credentials.tenancy,
            start=_write_when(start),
            end=_write_when(end),
            profile=tools.credentials.profile,
            regions=tuple(regions),
            compartments=tuple(compartments),
            is_subtree=is_subtree,
            **split_filter(event_types, filter),
            **choose_time(by, late),
            shape=shape,
            settle_minutes=_read_settle(settle),
            format=form.format,
            compress=form.compression,
            with_origin=with_origin,
            redact=redact,
        ),
        output=_locate(output),
        manifest=_locate(manifest),
        max_window_days=_check_window_days(max_window_days),
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
    sign_in = SignIn(profile, config_file, auth, uses_cli_variables)
    tools = _resolve_tools(sign_in, ca_bundle, endpoint, observer=observer)
    tools = replace(tools, limits=_make_limits(concurrency, max_requests_per_second))
    arguments = ExportArguments(
        tenancy=tools.credentials.tenancy,
        start=_write_when(start),
        end=_write_when(end),
        profile=tools.credentials.profile,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=is_subtree,
        **choose_time(by, late),
        settle_minutes=_read_settle(settle),
    )
    return preview_export(arguments, tools, max_window_days=_check_window_days(max_window_days), is_probing=is_probing)


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
    sign_in = SignIn(profile, config_file, auth, uses_cli_variables=True)
    bundle = choose_bundle(Path(ca_bundle) if ca_bundle is not None else None, os.environ)
    place = config_file or os.environ.get("OCI_CLI_CONFIG_FILE") or DEFAULT_CONFIG_FILE
    patient = Patient(
        config_file=Path(os.path.expanduser(place)),  # noqa: PTH111 - an unknown `~user` stays
        read_fields=lambda: read_profile(config_file, profile, os.environ).fields,
        load=lambda: _resolve_tools(sign_in, ca_bundle, endpoint),
        authorities=((bundle.named_by, bundle.path),) if bundle else (),
        proxies=getproxies_environment(),
        regions=tuple(regions),
    )
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
    sign_in = SignIn(profile, config_file, auth, uses_cli_variables)
    tools = _resolve_tools(sign_in, ca_bundle, endpoint, observer=observer)
    arguments = ExportArguments(
        tenancy=tools.credentials.tenancy,
        start=_write_when(start),
        end=_write_when(end),
        profile=tools.credentials.profile,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=is_subtree,
        **split_filter(event_types, filter),
        **choose_time(by, late),
        shape=shape,
        settle_minutes=_read_settle(settle),
    )
    order = ExportOrder(arguments, None, max_window_days=_check_window_days(max_window_days))
    return Events(EventStream(order, tools, on_gap=on_gap), shape)


class OciAuditStreamer:
    """The class of the documented scripts: one compartment, one region, chunk after chunk.

    `start_date` and `end_date` are `YYYY-MM-DD`, `DD.MM.YY` or dates; the end day is included. Without
    `compartment_ocid` the profile's tenancy is asked.
    """

    MAX_CHUNK_DAYS: ClassVar[int] = 7

    def __init__(
        self,
        profile_name: str,
        start_date: When,
        end_date: When,
        oci_config_path: str | None = None,
        *,
        compartment_ocid: str | None = None,
    ) -> None:
        """Read the profile.

        Raises:
            UsageError: the profile, a date or the OCID cannot be used.
        """
        credentials = load_credentials(oci_config_path, profile_name)
        self.compartment_ocid = compartment_ocid or credentials.tenancy
        self.gaps: tuple[Gap, ...] = ()
        self._arguments: Mapping[str, Any] = {
            "start": start_date,
            "end": end_date,
            "profile": profile_name,
            "config_file": oci_config_path,
            "uses_cli_variables": False,
            "regions": [credentials.region],
            "compartments": [self.compartment_ocid],
            "is_subtree": False,
            "shape": "sdk",
        }

    def fetch_events_generator(self) -> Iterator[dict[str, Any]]:
        """Yield the events in the SDK's spelling, one by one.

        Raises:
            IncompleteExport: at the end, when a chunk did not come; everything else has been yielded by then.
        """
        with stream(**self._arguments, max_window_days=self.MAX_CHUNK_DAYS, on_gap="collect") as events:
            yield from events
            self.gaps = events.gaps
        if self.gaps:
            raise IncompleteExport(f"{len(self.gaps)} chunks did not come: {self.gaps[0].reason}", gaps=self.gaps)


def stream_to_json_file(
    data_generator: Iterable[Mapping[str, Any]], output_file_path: str | Path, eventfilter: str | None = None
) -> int:
    """Write dictionaries as one JSON array and return how many were written.

    `eventfilter` holds regular expressions, separated by `;` and searched in `event_type`. The file replaces
    what stands there only when it is whole. If the generator ends with `IncompleteExport`, the file is written
    and the exception goes on.

    Raises:
        UsageError: an expression is wrong.
        DiskError: the file cannot be written.
    """
    wanted = EventFilter([part for part in (eventfilter or "").split(";") if part.strip()])
    layout = JsonArray()
    count = 0
    incomplete: IncompleteExport | None = None
    path = Path(output_file_path)
    with new_file(path) as descriptor:
        write_all(descriptor, layout.begin(), path)
        try:
            for item in data_generator:
                if wanted.is_wanted_by_facts(read_sdk_facts(item)):
                    write_all(descriptor, layout.write([json.dumps(item).encode()], [None]), path)
                    count += 1
        except IncompleteExport as error:
            incomplete = error
        write_all(descriptor, b"".join(layout.finish()), path)
    if incomplete is not None:
        raise incomplete
    return count


def _resolve_tools(
    sign_in: SignIn,
    ca_bundle: str | Path | None,
    endpoint: str | None,
    *,
    observer: Observer | None = None,
    stop: StopRequest | None = None,
) -> Tools:
    """Read the environment and the profile; the one place in the library that does."""
    bundle = choose_bundle(Path(ca_bundle) if ca_bundle is not None else None, os.environ)
    context = make_ssl_context(bundle) if bundle else None
    return Tools(
        credentials=sign_in.load(os.environ, bundle.path if bundle else None),
        endpoints=Endpoints(endpoint or os.environ.get(ENDPOINT_VARIABLE) or None),
        clock=SystemClock(),
        observer=observer or Observer(),
        stop=stop or StopRequest(),
        proxies=check_proxies(getproxies_environment()),
        ssl_context=context,
    )


def _write_when(moment: When) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


def _locate(path: str | Path | None) -> Path | None:
    """Return where a file really is to stand: a link is kept, and what it leads to is replaced."""
    return Path(path).resolve() if path is not None else None


def _make_limits(concurrency: int, max_requests_per_second: float | None) -> TransportLimits:
    if concurrency < 1:
        raise UsageError("concurrency below one", hint="the default is 16; 1 asks one question after the other")
    if max_requests_per_second is not None and not max_requests_per_second > 0:
        raise UsageError("the most requests per second must be more than none", hint="leave it out for no such limit")
    return TransportLimits(max_in_flight=concurrency, max_per_second=max_requests_per_second)


def _read_settle(settle: str | None) -> int:
    return parse_duration(settle) if settle is not None else 0


def _check_window_days(days: int) -> int:
    if days < 1:
        raise UsageError(f"a window of {days} days is none", hint="choose at least 1")
    return days
