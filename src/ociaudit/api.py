"""The Python API: `export`, `stream`, `sync` and `open_archive` with plain arguments, and what the commands call.

With `cli`, this is the only module that reads the environment: once per call, into a `RunContext`. What only archives
need is imported in the functions for them, so that an export does not wait for it.

    import ociaudit

    for event in ociaudit.stream("2025-12-01", "2025-12-07"):
        print(event["eventType"])

    result = ociaudit.export("7d", "now", output="audit.json")
    assert result.complete, result.gaps
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import getproxies_environment

from ociaudit.client.auth import SignIn
from ociaudit.client.config_file import choose_location, clean_variables, read_profile
from ociaudit.client.network import (
    CaBundle,
    Endpoints,
    check_proxies,
    choose_bundle,
    make_ssl_context,
    read_realm,
    split_regions,
)
from ociaudit.client.object_storage import ObjectStore, ObjectUrl, is_object_url, parse_object_url
from ociaudit.client.signer import AuthKind, Credentials
from ociaudit.clock import SystemClock
from ociaudit.errors import ConfigError, UsageError
from ociaudit.events.field_naming import Shape
from ociaudit.events.filters import FilterSpec
from ociaudit.formats.compression import CompressionName
from ociaudit.formats.registry import FormatName, choose_output_format
from ociaudit.operations.context import (
    Callbacks,
    Cancellation,
    ConnectionOptions,
    ExportOptions,
    RunContext,
    When,
    run_async,
    use_store,
)
from ociaudit.operations.doctor import CheckResult, DoctorInputs, run_doctor
from ociaudit.operations.export import ExportResult, export_events
from ociaudit.operations.preview import Preview, preview_export
from ociaudit.operations.resume import ResumeOptions
from ociaudit.operations.stream import Events, EventStream, OnGap, decode_event
from ociaudit.storage.atomic_io import name_output
from ociaudit.storage.manifest import CoveredTarget
from ociaudit.storage.run_dir import EventSource, TimeBasis, make_private_folders
from ociaudit.storage.verdict import Verdict

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from ociaudit.archive.reader import Archive
    from ociaudit.archive.remote import RemoteArchive
    from ociaudit.operations.sync import SyncOptions, SyncPreview, SyncResult

ENDPOINT_VARIABLE = "OCI_AUDIT_ENDPOINT"
SCRATCH_VARIABLE = "SPARK_LOCAL_DIRS"


def export(  # long because: every option of an export is named here
    start: When,
    end: When = "now",
    *,
    output: str | Path | None,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    endpoint: str | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    event_types: Sequence[str] = (),
    filter: FilterSpec | None = None,  # noqa: A002 - the word a caller looks for
    time_basis: TimeBasis = "processed-time",
    source: EventSource = "list-events",
    late: str | None = None,
    settle: str | None = None,
    shape: Shape = "api",
    file_format: FormatName | None = None,
    compression: CompressionName | None = None,
    with_origin: bool = False,
    redact: bool = False,
    manifest: str | Path | None = None,
    signing_key: str | Path | None = None,
    waived: Iterable[str] = (),
    confirm_empty: bool = False,
    deadline: str | None = None,
    max_window_days: int = 14,
    concurrency: int = 16,
    max_requests_per_second: float | None = None,
    overwrite: bool = False,
    resume: bool = False,
    restart: bool = False,
    work_folder: str | Path | None = None,
) -> ExportResult:
    """Export every audit event of a range into one file, with its manifest beside it.

    An unfinished run of the same request is resumed. Gaps do not raise: see `complete` and `gaps` of the result.

    Args:
        start: A date, a time with an offset, an age such as "7d", or a `date` or `datetime`.
        end: The same, or "now", the default. A date includes that day; a time is exclusive.
        output: The file to write, a URL such as "oci://bucket@namespace/audit.json", or None for stdout. Its suffix
            selects format and compression where those are None.
        regions: The regions to cover, by name or key; without any, all that the tenancy has subscribed to.
        compartments: The compartments to cover, by OCID, name or path; without any, the whole tenancy.
        is_subtree: Whether a compartment includes those below it.
        event_types: Regular expressions searched in the event type.
        filter: All other conditions.
        time_basis: "event-time" if the range means when events happened; processing is then requested until `late`
            (a duration, "1h" by default) after its end.
        source: "logging-search" reads from Logging Search, which selects by event time, instead of ListEvents.
        settle: The range ends at least this long before the present: a duration such as "15m".
        redact: Replace what looks like a credential.
        waived: Compartments, by OCID, name or path, whose denial does not make the export incomplete.
        confirm_empty: Request windows that returned no event once more at the end.
        deadline: What is not complete after this duration becomes gaps.
        concurrency: The most requests in flight.
        overwrite: Replace an existing output.
        resume: Finish an interrupted run whose relative range has moved on.
        restart: Discard an unfinished run.
        work_folder: Where an output that goes to a URL is made; without it, below the user's cache.

    Raises:
        OciAuditError: The export could not be finished; the class and its `exit_code` say why.
    """
    path, url = place_output(output, work_folder)
    options = ExportOptions(
        start=start,
        end=end,
        regions=_listed(regions),
        compartments=_listed(compartments),
        is_subtree=is_subtree,
        event_types=_listed(event_types),
        filter=filter,
        time_basis=time_basis,
        source=source,
        late=late,
        settle=settle,
        max_window_days=max_window_days,
        output=path,
        url=url,
        shape=shape,
        with_origin=with_origin,
        redact=redact,
        manifest=resolve_path(manifest),
        signing_key=Path(signing_key).expanduser() if signing_key is not None else None,
        waived=frozenset(_listed(waived)),
        confirm_empty=confirm_empty,
        deadline=deadline,
        resume=ResumeOptions(overwrite=overwrite, resume=resume, restart=restart),
    )
    connection = ConnectionOptions(
        profile=profile,
        config_file=config_file,
        auth=auth,
        uses_cli_variables=uses_cli_variables,
        ca_bundle=ca_bundle,
        endpoint=endpoint,
        concurrency=concurrency,
        max_requests_per_second=max_requests_per_second,
    )
    return run_export(options, connection, file_format=file_format, compression=compression)


def stream(  # long because: every option of a stream is named here
    start: When,
    end: When = "now",
    *,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    endpoint: str | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    event_types: Sequence[str] = (),
    filter: FilterSpec | None = None,  # noqa: A002 - the word a caller looks for
    time_basis: TimeBasis = "processed-time",
    late: str | None = None,
    settle: str | None = None,
    shape: Shape = "api",
    max_window_days: int = 14,
    on_gap: OnGap = "raise",
) -> Events:
    """Return the events of a range as dictionaries, lazily and in the order of arrival.

    Arguments as for `export`. When all events have been returned and there are gaps, the iteration raises
    `IncompleteExport`; with `on_gap="collect"` it ends, and `.gaps` holds them.

    Raises:
        UsageError: The arguments cannot be used; other errors come while iterating.
    """
    options = ExportOptions(
        start=start,
        end=end,
        regions=_listed(regions),
        compartments=_listed(compartments),
        is_subtree=is_subtree,
        event_types=_listed(event_types),
        filter=filter,
        time_basis=time_basis,
        late=late,
        settle=settle,
        max_window_days=max_window_days,
        shape=shape,
    )
    connection = ConnectionOptions(
        profile=profile,
        config_file=config_file,
        auth=auth,
        uses_cli_variables=uses_cli_variables,
        ca_bundle=ca_bundle,
        endpoint=endpoint,
    )
    return Events(EventStream(options, resolve_connection(connection), on_gap=on_gap), shape)


def sync(  # long because: every option of a sync is named here
    archive: str | Path,
    *,
    start: When | None = None,
    profile: str | None = None,
    config_file: str | None = None,
    auth: AuthKind | None = None,
    uses_cli_variables: bool = True,
    ca_bundle: str | Path | None = None,
    endpoint: str | None = None,
    regions: Sequence[str] = (),
    compartments: Sequence[str] = (),
    is_subtree: bool = True,
    settle: str = "15m",
    rescan: str = "2h,26h,7d",
    waived: Iterable[str] = (),
    signing_key: str | Path | None = None,
    tail_keep: str = "30d",
    max_window_days: int = 14,
    concurrency: int = 16,
    max_requests_per_second: float | None = None,
    work_folder: str | Path | None = None,
) -> SyncResult:
    """Bring an archive of all audit events up to date; create it where there is none.

    Arguments as for `export`. Gaps do not raise: see `verdict` of the result, and `state.gaps`.

    Args:
        archive: The folder of the archive, or a URL such as "oci://bucket@namespace/archive".
        start: Where the archive begins; without it, where the retention period does. An earlier start than before
            fills in what precedes.
        settle: How long after its end a minute is first requested.
        rescan: How far back to request again for late events: with every sync, once a day, once a week.
        signing_key: The private SSH key that signs the commits; an archive is signed from its first commit on.
        tail_keep: How long to keep the list of what each commit added.
        work_folder: Where the copy of an archive at a URL is; without it, below the user's cache.

    Raises:
        OciAuditError: The sync could not be finished; what was received is kept, and the next call continues.
    """
    from ociaudit.operations.sync import SyncOptions

    path, url = place_archive(archive, work_folder)
    options = SyncOptions(
        archive=path,
        start=start,
        regions=_listed(regions),
        compartments=_listed(compartments),
        is_subtree=is_subtree,
        settle=settle,
        rescan=rescan,
        waived=frozenset(_listed(waived)),
        signing_key=Path(signing_key).expanduser() if signing_key is not None else None,
        max_window_days=max_window_days,
        tail_keep=tail_keep,
    )
    connection = ConnectionOptions(
        profile=profile,
        config_file=config_file,
        auth=auth,
        uses_cli_variables=uses_cli_variables,
        ca_bundle=ca_bundle,
        endpoint=endpoint,
        concurrency=concurrency,
        max_requests_per_second=max_requests_per_second,
    )
    return run_sync(options, connection, url=url)


def run_sync(
    options: SyncOptions,
    connection: ConnectionOptions,
    *,
    url: ObjectUrl | None = None,
    callbacks: Callbacks | None = None,
    cancellation: Cancellation | None = None,
) -> SyncResult:
    """Sync as the options say; the environment and the profile are read for each call.

    `url` is where the archive is, if not in the options' folder alone.

    Raises:
        OciAuditError: The sync could not be finished.
    """
    from ociaudit.operations.sync import sync_archive

    context = resolve_connection(connection, callbacks=callbacks, cancellation=cancellation)
    remote = None if url is None else open_remote_archive(url, options.archive, context)
    return sync_archive(options, context, remote=remote)


def run_sync_preview(
    options: SyncOptions,
    connection: ConnectionOptions,
    *,
    url: ObjectUrl | None = None,
    callbacks: Callbacks | None = None,
) -> SyncPreview:
    """Find out what a sync would request; nothing is written, except that a copy of an archive's commits is updated.

    Raises:
        OciAuditError: As the sync would, before its first request for events.
    """
    from ociaudit.operations.sync import preview_sync

    context = resolve_connection(connection, callbacks=callbacks)
    if url is not None:
        from ociaudit.archive.remote import hold_copy

        with hold_copy(options.archive):
            open_remote_archive(url, options.archive, context).pull()
    return preview_sync(options, context)


class OpenArchive:
    """An archive open for reading, as of its newest commit when it was opened; nothing is written to it."""

    def __init__(self, archive: Archive) -> None:
        """Use `open_archive`."""
        self._archive = archive

    def events(
        self,
        start: When | None = None,
        end: When | None = None,
        *,
        regions: Sequence[str] = (),
        compartments: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Yield the events as dictionaries, by time; those with an unreadable time come first, whatever the range.

        Args:
            start: The first event time, as for `export`; without it, all that the archive holds.
            end: The last day, or the first minute that is excluded, as for `export`.
            regions: Only events from these regions, by name or key.
            compartments: Only events from these compartments, by OCID, name or path, and those below them.

        Raises:
            UsageError: A time, a region or a compartment cannot be used.
            CorruptRun: A segment is missing or damaged.
        """
        from ociaudit.archive.inputs import Limits, select_view

        limits = Limits(
            None if start is None else _type_time(start),
            None if end is None else _type_time(end),
            _listed(regions),
            _listed(compartments),
        )
        view = select_view(self._archive, limits, now=SystemClock().now())
        return (decode_event(record.raw) for batch in view.read() for record in batch)

    @property
    def coverage(self) -> tuple[CoveredTarget, ...]:
        """Return the windows that were answered, for each region and compartment, as a manifest states them."""
        return self._archive.select().coverage

    @property
    def verdict(self) -> Verdict:
        """Return what may be said of the archive: complete or not, and until when it is final."""
        return self._archive.verdict

    def to_duckdb(self) -> DuckDBPyConnection:
        """Return a DuckDB connection with the view `events`: every event once, with the columns of `oci-audit query`.

        The rows stay those of this commit, whatever a sync does meanwhile.

        Raises:
            CorruptRun: A segment is missing or damaged.
        """
        from ociaudit.analysis.query import connect_archive

        return connect_archive(self._archive.select())


def open_archive(path: str | Path) -> OpenArchive:
    """Open an archive that `oci-audit sync` keeps, for reading.

    Raises:
        UsageError: The folder is not an archive.
        CorruptRun: Its commits are damaged, or were written by a newer version.
    """
    from ociaudit.archive.inputs import is_archive_folder
    from ociaudit.archive.reader import open_archive as read_archive

    folder = Path(path).expanduser()
    if not is_archive_folder(folder):
        raise UsageError(f"{folder} is not an archive", hint="name the folder that oci-audit sync wrote")
    return OpenArchive(read_archive(folder))


def _type_time(time: When) -> str:
    return time if isinstance(time, str) else time.isoformat()


def run_export(
    options: ExportOptions,
    connection: ConnectionOptions,
    *,
    file_format: str | None = None,
    compression: str | None = None,
    callbacks: Callbacks | None = None,
    cancellation: Cancellation | None = None,
) -> ExportResult:
    """Export as the options say; `file_format` and `compression` override the output's suffix.

    Raises:
        OciAuditError: The export could not be finished.
    """
    chosen = choose_output_format(options.output, file_format=file_format, compression=compression)
    context = resolve_connection(connection, callbacks=callbacks, cancellation=cancellation)
    for notice in chosen.notices:
        context.callbacks.on_notice(notice)
    return export_events(replace(options, format=chosen.format, compression=chosen.compression), context)


def run_preview(
    options: ExportOptions, connection: ConnectionOptions, *, is_probing: bool, callbacks: Callbacks | None = None
) -> Preview:
    """Find out what an export would request and, with `is_probing`, estimate from a few pages what it would return.

    Nothing is written.

    Raises:
        OciAuditError: As the export would, before its first request for events.
    """
    return preview_export(options, resolve_connection(connection, callbacks=callbacks), is_probing=is_probing)


def diagnose(connection: ConnectionOptions, *, regions: Sequence[str] = ()) -> tuple[CheckResult, ...]:
    """Check whether everything is ready for an export, and return one result or more for each check.

    Raises:
        UsageError: A region or the endpoint is malformed. A configuration that cannot be used is a result.
    """
    bundle = _choose_bundle(connection)
    path = choose_location(connection.config_file, clean_variables(os.environ))[0]
    inputs = DoctorInputs(
        config_file=Path(os.path.expanduser(path)),  # noqa: PTH111 - an unknown `~user` stays
        read_fields=lambda: read_profile(connection.config_file, connection.profile, os.environ).fields,
        load=lambda: resolve_connection(connection),
        authorities=((bundle.named_by, bundle.path),) if bundle else (),
        proxies=getproxies_environment(),
        regions=split_regions(regions),
    )
    return run_async(lambda: run_doctor(inputs))


def resolve_connection(
    connection: ConnectionOptions,
    *,
    callbacks: Callbacks | None = None,
    cancellation: Cancellation | None = None,
    variables: Mapping[str, str] | None = None,
) -> RunContext:
    """Read the environment and the profile, and return the collaborators of a run.

    `variables` are values of `OCI_CLI_*` that beat those of the environment.

    Raises:
        OciAuditError: What they contain cannot be used.
    """
    bundle = _choose_bundle(connection)
    sign_in = SignIn(connection.profile, connection.config_file, connection.auth, connection.uses_cli_variables)
    credentials = sign_in.load({**os.environ, **(variables or {})}, bundle.path if bundle else None)
    endpoint = connection.endpoint or os.environ.get(ENDPOINT_VARIABLE) or None
    return RunContext(
        credentials=credentials,
        endpoints=Endpoints(endpoint, realm=read_realm(credentials.tenancy)),
        clock=SystemClock(),
        callbacks=callbacks or Callbacks(),
        cancellation=cancellation or Cancellation(),
        limits=connection.limits,
        proxies=check_proxies(getproxies_environment()),
        ssl_context=make_ssl_context(bundle) if bundle else None,
    )


def find_scratch_folder() -> Path | None:
    """Return the folder for temporary files that a worker of a cluster names and clears in the end; None elsewhere."""
    folders = os.environ.get(SCRATCH_VARIABLE, "").split(",")
    return next((Path(folder) for folder in folders if folder and os.access(folder, os.W_OK)), None)


def resolve_store(url: ObjectUrl, connection: ConnectionOptions) -> RunContext:
    """Return the collaborators of requests to the store of a URL; only Oracle's needs a profile.

    Raises:
        OciAuditError: What the environment and the profile contain cannot be used.
    """
    if url.scheme == "oci":
        return resolve_connection(connection)
    nobody = Credentials("", "", "", None, "", "api_key", _signer=_refuse_to_sign)
    return RunContext(credentials=nobody, endpoints=Endpoints(), clock=SystemClock())


def _refuse_to_sign(*_: object, **__: object) -> None:
    raise ConfigError("this request needs a profile of Oracle's, and none was read")


def resolve_path(path: str | Path | None) -> Path | None:
    """Return the absolute path of a file to write; a symbolic link is kept, and its target is replaced.

    Raises:
        UsageError: it cannot be the name of a file.
    """
    return name_output(path).resolve() if path is not None else None


def resolve_work_folder(path: str | Path | None) -> Path:
    """Return the absolute path of the folder for what is not uploaded yet and for local copies; it need not exist.

    Without a path it is below the user's cache: private, still there after a restart, and nothing in it is the only
    copy of anything: everything can be requested again. A folder for temporary files is none of that.
    """
    if path is not None:
        return Path(path).expanduser().absolute()
    cache = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(cache) if cache.startswith("/") else Path.home() / ".cache") / "oci-audit"


def place_output(
    output: str | Path | ObjectUrl | None, work_folder: str | Path | None
) -> tuple[Path | None, ObjectUrl | None]:
    """Return the path of a file to write, and the URL that it goes to when it is whole, if the output is one.

    Raises:
        UsageError: it cannot be the name of a file or the URL of an object.
        DiskError: the work folder cannot be created.
    """
    if isinstance(output, str) and is_object_url(output):
        output = parse_object_url(output)
    if not isinstance(output, ObjectUrl):
        return resolve_path(output), None
    folder = resolve_work_folder(work_folder) / output.local_name
    make_private_folders(folder)
    return folder / output.file_name, output


def place_archive(
    archive: str | Path | ObjectUrl, work_folder: str | Path | None, *, kind: str = "archives"
) -> tuple[Path, ObjectUrl | None]:
    """Return the folder of an archive, and the URL that it is a copy of; `kind` is the folder of all such copies.

    Raises:
        UsageError: it cannot be the URL of an archive.
    """
    if isinstance(archive, str) and is_object_url(archive):
        archive = parse_object_url(archive, what="archive")
    if not isinstance(archive, ObjectUrl):
        return Path(archive), None
    return resolve_work_folder(work_folder) / kind / archive.local_name / archive.file_name, archive


def open_remote_archive(url: ObjectUrl, path: Path, context: RunContext) -> RemoteArchive:
    """Return the archive at a URL, with its copy in a folder; nothing is requested yet."""
    from ociaudit.archive.remote import RemoteArchive

    def run(work: Callable[[ObjectStore], Awaitable[None]]) -> None:
        use_store(context, url, work, moment=f"while working with {url}; the next run continues")

    return RemoteArchive(url, path, run, on_notice=context.callbacks.on_notice)


def _choose_bundle(connection: ConnectionOptions) -> CaBundle | None:
    return choose_bundle(Path(connection.ca_bundle) if connection.ca_bundle is not None else None, os.environ)


def _listed(values: str | Iterable[str]) -> tuple[str, ...]:
    """Return the values as a tuple; one string is one value, not its characters."""
    return (values,) if isinstance(values, str) else tuple(values)
