"""The face for Python: `stream`, `export`, and the classes of the documented scripts.

Owns: the resolution of the environment, once per call. Must not: print or exit.

    import ociaudit

    for event in ociaudit.stream("2025-12-01", "2025-12-07"):
        print(event["eventType"])

    outcome = ociaudit.export("7d", "now", output="audit.json")
    assert outcome.complete, outcome.gaps
"""
# long because: every option is named for `export` and for `stream`

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.request import getproxies_environment

from ociaudit.errors import IncompleteExport, UsageError
from ociaudit.events.facts import read_sdk_facts
from ociaudit.events.filters import EventFilter, FilterSpec
from ociaudit.events.shapes import Shape, choose_shape
from ociaudit.formats.form import CompressionName, FormatName, choose_form
from ociaudit.formats.json_array import JsonArray
from ociaudit.jobs.export import Outcome, export_events
from ociaudit.jobs.observer import Observer
from ociaudit.jobs.order import ExportOrder, Tally, Tools, choose_time, split_filter
from ociaudit.jobs.rerun import RerunOptions
from ociaudit.jobs.stop import StopRequest
from ociaudit.jobs.stream import EventStream, OnGap
from ociaudit.plan.shard import Gap
from ociaudit.source.auth import DEFAULT_PROFILE, load_credentials
from ociaudit.source.clock import SystemClock
from ociaudit.source.endpoints import Endpoints
from ociaudit.store.durable import new_file, write_all
from ociaudit.store.run_folder import ExportArguments, TimeKind

ENDPOINT_VARIABLE = "OCI_AUDIT_ENDPOINT"
When = str | date | datetime


def export(  # long because: every option of an export is named here once
    start: When,
    end: When,
    *,
    output: str | Path | None,
    profile: str = DEFAULT_PROFILE,
    config_file: str | None = None,
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
    endpoint: str | None = None,
    manifest: str | Path | None = None,
    rerun: RerunOptions | None = None,
    waived: Iterable[str] = (),
    tally: Tally | None = None,
    signing_key: str | Path | None = None,
    confirm_empty: bool = False,
    observer: Observer | None = None,
    stop: StopRequest | None = None,
) -> Outcome:
    """Export every audit event of a range into one file, with its manifest beside it.

    `start` and `end` are dates, times with an offset, ages such as "7d", or "now"; a date as end includes that
    day. `output` None writes to stdout. Without `regions` and `compartments` it is the whole tenancy.
    `event_types` are regular expressions searched in the event type, `filter` is more of that. With `by="event-time"`
    the range means when events happened, and processing is asked until `late` ("1h") after it. `file_format` and
    `compression` are read from the output's suffix where they are None. `redact` replaces what looks like a
    credential. A leftover run of
    the same request is resumed. Gaps do not raise: look at `complete` and `gaps` of what is returned.

    Raises:
        OciAuditError: the export could not be carried to its end; the class says by whose fault.
    """
    form = choose_form(Path(output) if output is not None else None, file_format=file_format, compression=compression)
    tools = _resolve_tools(profile, config_file, endpoint, observer=observer, stop=stop)
    for notice in form.notices:
        tools.observer.on_notice(notice)
    order = ExportOrder(
        arguments=ExportArguments(
            tenancy=tools.credentials.tenancy,
            start=_write_when(start),
            end=_write_when(end),
            profile=profile,
            regions=tuple(regions),
            compartments=tuple(compartments),
            is_subtree=is_subtree,
            **split_filter(event_types, filter),
            **choose_time(by, late),
            shape=shape,
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
    )
    return export_events(order, tools)


def stream(
    start: When,
    end: When,
    *,
    profile: str = DEFAULT_PROFILE,
    config_file: str | None = None,
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
    on_gap: OnGap = "raise",
    observer: Observer | None = None,
) -> Events:
    """Return the events of a range, lazily and in the order of arrival, as dictionaries.

    Arguments as for `export`. When all has been given and there are gaps, the iteration raises
    `IncompleteExport`; with `on_gap="collect"` it just ends, and `.gaps` holds them.

    Raises:
        UsageError: the arguments cannot be carried out; other errors come while iterating.
    """
    tools = _resolve_tools(profile, config_file, endpoint, observer=observer)
    arguments = ExportArguments(
        tenancy=tools.credentials.tenancy,
        start=_write_when(start),
        end=_write_when(end),
        profile=profile,
        regions=tuple(regions),
        compartments=tuple(compartments),
        is_subtree=is_subtree,
        **split_filter(event_types, filter),
        **choose_time(by, late),
        shape=shape,
    )
    order = ExportOrder(arguments, None, max_window_days=_check_window_days(max_window_days))
    return Events(EventStream(order, tools, on_gap=on_gap), shape)


class Events:
    """The events of `stream`: an iterator of dictionaries, which can be closed early."""

    def __init__(self, lines: EventStream, shape: Shape) -> None:
        """Read from `lines` and spell as `shape` says."""
        self._lines = lines
        self._reshape = choose_shape(shape)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Return itself."""
        return self

    def __next__(self) -> dict[str, Any]:
        """Return the next event; see `stream` for what is raised."""
        event: dict[str, Any] = json.loads(self._reshape(next(self._lines)), parse_int=_parse_int)
        return event

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """Return what did not come back complete; final when the iteration has ended."""
        return self._lines.gaps

    def close(self) -> None:
        """End the requests under way."""
        self._lines.close()


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
    profile: str,
    config_file: str | None,
    endpoint: str | None,
    *,
    observer: Observer | None = None,
    stop: StopRequest | None = None,
) -> Tools:
    """Read the environment and the profile; the one place in the library that does."""
    return Tools(
        credentials=load_credentials(config_file, profile),
        endpoints=Endpoints(endpoint or os.environ.get(ENDPOINT_VARIABLE) or None),
        clock=SystemClock(),
        observer=observer or Observer(),
        stop=stop or StopRequest(),
        proxies=getproxies_environment(),
    )


def _write_when(moment: When) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


def _locate(path: str | Path | None) -> Path | None:
    """Return where a file really is to stand: a link is kept, and what it leads to is replaced."""
    return Path(path).resolve() if path is not None else None


def _check_window_days(days: int) -> int:
    if days < 1:
        raise UsageError(f"a window of {days} days is none", hint="choose at least 1")
    return days


def _parse_int(text: str) -> int | str:
    """Numbers of thousands of digits, which Python will not convert, stay text."""
    try:
        return int(text)
    except ValueError:
        return text
