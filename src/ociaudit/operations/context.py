"""What a use case works with: its options, its callbacks, its cancellation, and its connection to the service.

`ExportOptions` and `ConnectionOptions` are the one form in which options travel, from the command line or the Python
API to export, stream and preview. They hold values as typed and are validated once, when they are made. `RunContext`
holds the collaborators of a run: what the connection options were resolved to, and who watches.

The scope of a run is resolved once, at its start: from options as typed to a plan of targets and a window.

Invariants of the scope
- A listing that cannot be read stops the run; it never narrows the scope.
- A region that the tenancy has not subscribed to is rejected before the first request for events. Only where the
  subscriptions may not be read are regions taken as named, with a notice.
- Compartments are not listed where exactly the OCIDs named are requested.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path, PurePosixPath
from typing import Any, Literal, TypeVar, get_args

import msgspec

from ociaudit.client.audit import AuditReader, PageReader, ParsePage
from ociaudit.client.identity import IdentityReader, explain_rejection
from ociaudit.client.logging_search import MAX_QUERY_DAYS, LoggingSearchReader
from ociaudit.client.network import Endpoints, split_regions
from ociaudit.client.object_storage import CloudStore, ObjectStore, ObjectUrl, OciStore
from ociaudit.client.rate_limiter import RateLimiter
from ociaudit.client.signer import AuthKind, Credentials
from ociaudit.client.transport import FinishedRequest, HttpClient, MemoryBudget, RetryPolicy, Transport, TransportLimits
from ociaudit.clock import Clock
from ociaudit.errors import Interrupted, RequestError, ScopeUnreadable, ServiceError, UsageError
from ociaudit.events.event import parse_page
from ociaudit.events.field_naming import Shape
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import FilterSpec, TimeSpan
from ociaudit.formats.compression import CompressionName
from ociaudit.formats.registry import FormatName
from ociaudit.operations.resume import ResumeOptions
from ociaudit.planning.scope import (
    check_compartment_name,
    choose_compartments,
    choose_regions,
    find_compartment,
    find_home_region,
    is_ocid_like,
    make_targets,
    name_compartments,
)
from ociaudit.planning.shard import (
    MINUTES_PER_DAY,
    SETTLE_MINUTES,
    Gap,
    Shard,
    Target,
    Window,
    floor_minute,
    format_minute,
    format_second,
)
from ociaudit.planning.time_range import (
    TimeRange,
    check_placeholders,
    parse_duration,
    pin_instant,
    pin_time,
    resolve_event_range,
    resolve_range,
)
from ociaudit.storage.run_dir import EventSource, ExportArguments, RunPlan, TimeBasis, identify_plan

T = TypeVar("T")
When = str | date | datetime
"""A point in time as a caller gives it: text in any form that `planning.time_range` parses, a date, or a datetime."""
CountedName = Literal["event_type", "event_name"]
DEFAULT_LATE = "1h"
"""How long after the end of a range of event times processing is requested for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """How to sign in, where to connect and how fast. None leaves a value to the environment and the profile.

    Raises:
        UsageError: no request could ever be sent.
    """

    profile: str | None = None
    config_file: str | None = None
    auth: AuthKind | None = None
    uses_cli_variables: bool = True
    """Whether the `OCI_CLI_*` variables count."""
    ca_bundle: str | Path | None = None
    endpoint: str | None = None
    """A URL, with `{region}` where the region's name goes."""
    concurrency: int = 16
    """The most requests in flight."""
    max_requests_per_second: float | None = None

    def __post_init__(self) -> None:
        """Validate the limits."""
        if self.concurrency < 1:
            raise UsageError("concurrency is below 1", hint="omit it for 16 requests in flight; 1 sends one at a time")
        if self.max_requests_per_second is not None and not self.max_requests_per_second > 0:
            raise UsageError("the maximum of requests per second must be above 0", hint="omit it for no such limit")

    @property
    def limits(self) -> TransportLimits:
        """Return the limits in the transport's form."""
        return TransportLimits(max_in_flight=self.concurrency, max_per_second=self.max_requests_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """What to export, and into what.

    `start` and `end` are as typed. `regions` are names or keys; `compartments` are OCIDs, names or paths. Without them
    the scope is the whole tenancy. `event_types` are regular expressions, and `filter` holds all other conditions.
    `late`, `settle` and `deadline` are durations such as "15m". `output` None means stdout; `manifest` None puts the
    manifest beside the output.

    Raises:
        UsageError: a value cannot be what it is given for, or two of them contradict each other.
    """

    start: When
    end: When
    regions: Sequence[str] = ()
    compartments: Sequence[str] = ()
    is_subtree: bool = True
    """Whether a compartment includes those below it."""
    event_types: Sequence[str] = ()
    filter: FilterSpec | None = None
    time_basis: TimeBasis = "processed-time"
    """The time that `start` and `end` mean."""
    source: EventSource = "list-events"
    """The service that gives the events. Logging Search selects by event time."""
    late: str | None = None
    """How long after the end events may be processed, where the range means event time."""
    settle: str | None = None
    """The range ends at least this long before the present."""
    max_window_days: int = 14
    output: Path | None = None
    url: ObjectUrl | None = None
    """Where the output goes when it is whole; `output` is then its place in a work folder until that."""
    shape: Shape = "api"
    format: FormatName = "json"
    compression: CompressionName = "none"
    with_origin: bool = False
    redact: bool = False
    manifest: Path | None = None
    signing_key: Path | None = None
    waived: frozenset[str] = frozenset()
    """Compartments, by OCID, name or path, whose denial is known: their gaps do not make the run incomplete."""
    confirm_empty: bool = False
    """Request shards that returned no event once more at the end."""
    deadline: str | None = None
    """What is not complete after this long becomes gaps."""
    resume: ResumeOptions = field(default_factory=ResumeOptions)
    counted_name: CountedName | None = None
    """What to count over all scanned events."""

    def __post_init__(self) -> None:
        """Validate what does not need the clock or the service."""
        if self.max_window_days < 1:
            raise UsageError(f"the longest window is {self.max_window_days} days", hint="choose at least 1")
        self._check_values()
        if self.source == "logging-search":
            self._check_search()
        self._check_combinations()
        for path in (self.output, self.manifest, PurePosixPath(self.url.name) if self.url else None):
            if path is not None:
                check_placeholders(path)
        durations = (("--late", self.late), ("--settle", self.settle), ("--deadline", self.deadline))
        for option, duration in durations:
            if duration is not None:
                parse_duration(duration, option=option)

    def _check_values(self) -> None:
        for name, value, known in (
            ("time_basis", self.time_basis, get_args(TimeBasis)),
            ("source", self.source, get_args(EventSource)),
            ("shape", self.shape, get_args(Shape)),
        ):
            if value not in known:
                raise UsageError(f"{name} is {value!r}", hint=f"choose {', '.join(known[:-1])} or {known[-1]}")
        for name, time in (("start", self.start), ("end", self.end)):
            if not isinstance(time, str | date):
                raise UsageError(f"{name} is {time!r}", hint="give a text such as 2025-12-01, a date or a datetime")
        if self.filter is not None and not isinstance(self.filter, FilterSpec):
            raise UsageError(f"filter is {self.filter!r}", hint="give an ociaudit.FilterSpec")

    def _check_combinations(self) -> None:
        if self.late is not None and self.time_basis != "event-time":
            raise UsageError(
                "--late applies only to ranges of event time",
                hint="add --time-basis event-time, or omit --late",
            )
        if self.settle is not None and self.time_basis == "event-time":
            raise UsageError(
                "--settle is for ranges of processed time", hint="omit it, or omit --time-basis event-time"
            )
        if not self.is_subtree and not self.compartments:
            raise UsageError(
                "--no-subtree has no effect without --compartment", hint="name a compartment, or omit --no-subtree"
            )
        if self.url is not None and self.manifest is not None:
            raise UsageError(
                f"--manifest has no effect: the manifest of {self.url} is beside it",
                hint="omit --manifest, or write to a file with -o FILE",
            )

    def _check_search(self) -> None:
        if self.max_window_days > MAX_QUERY_DAYS:
            raise UsageError(
                f"Logging Search accepts {MAX_QUERY_DAYS} days at most per query, not {self.max_window_days}",
                hint="omit --max-window-days, or choose a smaller number",
            )
        if self.late is not None:
            raise UsageError("--late is for ListEvents; Logging Search selects by event time", hint="omit --late")

    @property
    def deadline_seconds(self) -> float | None:
        """Return the deadline in seconds."""
        return 60 * parse_duration(self.deadline) if self.deadline is not None else None

    def to_arguments(self, credentials: Credentials, *, now: datetime) -> ExportArguments:
        """Return the part that makes two exports the same request, in the form in which plan and manifest keep it.

        `yesterday` becomes its date: the same command on the next day is another request.
        """
        spec = pin_filter(self.filter or FilterSpec(), now=now)
        is_search = self.source == "logging-search"
        late = (self.late or DEFAULT_LATE) if self.time_basis == "event-time" and not is_search else ""
        return ExportArguments(
            tenancy=credentials.tenancy,
            start=pin_time(_to_text(self.start), now=now),
            end=pin_time(_to_text(self.end), now=now),
            profile=credentials.profile,
            regions=split_regions(self.regions),
            compartments=tuple(self.compartments),
            is_subtree=self.is_subtree,
            event_types=(*self.event_types, *spec.event_types),
            filter=msgspec.structs.replace(spec, event_types=()),
            time_basis="event-time" if is_search else self.time_basis,
            late=late,
            source=self.source,
            shape=self.shape,
            settle_minutes=parse_duration(self.settle) if self.settle is not None else 0,
            format=self.format,
            compress=self.compression,
            with_origin=self.with_origin,
            redact=self.redact,
        )


def pin_filter(spec: FilterSpec, *, now: datetime) -> FilterSpec:
    """Return a filter whose bounds on the event time are dates or RFC 3339 times, as `EventFilter` reads them.

    Raises:
        UsageError: a bound is an age, or in no known form; the message names its option.
    """
    pinned: dict[str, str] = {}
    for name, text in (("event_after", spec.event_after), ("event_before", spec.event_before)):
        if text is not None:
            try:
                pinned[name] = pin_instant(text, now=now)
            except UsageError as error:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option}: {error}", hint=error.hint) from error
    return msgspec.structs.replace(spec, **pinned)


def _to_text(moment: When) -> str:
    return moment if isinstance(moment, str) else moment.isoformat()


class Callbacks:
    """What a run reports while it works. Every method of this class does nothing; override what you want to see."""

    def on_notice(self, text: str) -> None:
        """Handle something a person should know that does not stop the run."""

    def on_scope(self, paths: Mapping[str, str], waived: frozenset[str]) -> None:
        """Handle the paths of compartments by OCID, as far as they are known, and the OCIDs that are waived."""

    def on_plan(self, window: Window, targets: Sequence[Target], shard_count: int) -> None:
        """Handle the resolved scope; at least `shard_count` shards will be requested."""

    def on_request(self, request: FinishedRequest) -> None:
        """Handle one try of a request that has ended, well or not."""

    def on_rate(self, region: str, *, in_flight: int, ceiling: int, per_second: float | None) -> None:
        """Handle a changed rate limit: requests in flight, how many may be, and requests per second if limited."""

    def on_split(self, shard: Shard, piece_count: int) -> None:
        """Handle a dense shard that was split into `piece_count` sub-shards."""

    def on_shard_begun(self, shard: Shard) -> None:
        """Handle the first request of a shard; called again when the shard starts over."""

    def on_page(self, shard: Shard, *, scanned: int, kept: int) -> None:
        """Handle a page that has arrived: the events scanned, and those that passed the filter."""

    def on_shard_done(self, shard: Shard) -> None:
        """Handle a shard that is complete."""

    def on_gap(self, gap: Gap) -> None:
        """Handle a shard that did not come back complete."""

    def on_retry(self, error: RequestError, wait_seconds: float) -> None:
        """Handle a failed request that will be sent again after a wait."""

    def on_publish(self, event_count: int) -> None:
        """Handle the end of fetching: `event_count` events of the spool are about to be merged."""

    def on_written(self, event_count: int) -> None:
        """Handle `event_count` more events that are in the output."""

    def on_kept(self, folder: Path, size_bytes: int) -> None:
        """Handle the end of a run whose run directory stays, because something is missing."""


class Cancellation:
    """A request to stop a run, passed from a signal handler or a closed stream to where the work is done."""

    def __init__(self) -> None:
        """Start without a request to stop."""
        self.signal_number: int | None = None
        self._wake: Callable[[], object] | None = None

    def cancel(self, signal_number: int) -> None:
        """Request a stop. Safe to call from a signal handler, and more than once."""
        self.signal_number = signal_number
        if self._wake is not None:
            self._wake()

    def attach(self, wake: Callable[[], object] | None) -> None:
        """Call `wake` when a stop is requested, or immediately if one has been."""
        self._wake = wake
        if wake is not None and self.signal_number is not None:
            wake()

    def check(self, moment: str = "", *, is_kept: bool = True) -> None:
        """Stop here if a stop was requested; `moment` completes "interrupted" with how far the run had come.

        `is_kept` says whether the same command continues from here or starts from the beginning.

        Raises:
            Interrupted: a stop was requested.
        """
        if self.signal_number is None:
            return
        raise Interrupted(
            f"interrupted {moment}".rstrip(),
            signal_number=self.signal_number,
            hint=None if is_kept else "run the same command again; it starts from the beginning",
        )


@dataclass(frozen=True, slots=True)
class RunContext:
    """The collaborators of a run."""

    credentials: Credentials
    endpoints: Endpoints
    clock: Clock
    callbacks: Callbacks = field(default_factory=Callbacks)
    cancellation: Cancellation = field(default_factory=Cancellation)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    limits: TransportLimits = field(default_factory=TransportLimits)
    proxies: Mapping[str, str] = field(default_factory=dict)
    """Scheme to proxy URL, and `no` for the exceptions, as `urllib.request.getproxies_environment` returns them."""
    ssl_context: ssl.SSLContext | None = None
    """The trusted certificates; None for those that the system trusts."""
    stdout: int = 1
    """The descriptor that an export without an output file writes to."""


@dataclass(frozen=True, slots=True)
class Service:
    """Audit, Logging Search and Identity over one transport, called in the name of `credentials`."""

    audit: AuditReader
    logging_search: LoggingSearchReader
    identity: IdentityReader
    credentials: Credentials
    transport: Transport
    rate_limiter: RateLimiter

    def choose_reader(self, source: EventSource) -> PageReader:
        """Return the reader of a source of events."""
        return self.logging_search if source == "logging-search" else self.audit


@contextlib.asynccontextmanager
async def _open_client(context: RunContext) -> AsyncIterator[tuple[HttpClient, Transport, RateLimiter]]:
    """Open the connections for the duration of the block."""
    rate_limiter = RateLimiter(
        clock=context.clock,
        max_in_flight=context.limits.max_in_flight,
        max_per_second=context.limits.max_per_second,
        on_rate=lambda endpoint, limit: context.callbacks.on_rate(
            endpoint, in_flight=limit.in_flight, ceiling=limit.allowed_in_flight, per_second=limit.per_second
        ),
    )
    async with Transport(
        context.credentials,
        clock=context.clock,
        limits=context.limits,
        proxies=context.proxies,
        ssl_context=context.ssl_context,
    ) as transport:
        client = HttpClient(
            transport,
            rate_limiter=rate_limiter,
            clock=context.clock,
            budget=MemoryBudget(context.limits.memory_budget_bytes, max_responses=context.limits.max_in_flight),
            retry=context.retry,
            first_response_seconds=context.limits.first_response_seconds,
            on_retry=context.callbacks.on_retry,
            on_request=context.callbacks.on_request,
        )
        try:
            yield client, transport, rate_limiter
        finally:
            await rate_limiter.close()


@contextlib.asynccontextmanager
async def connect(context: RunContext, *, parse: ParsePage = parse_page) -> AsyncIterator[Service]:
    """Open the connections for the duration of the block; `parse` turns a page's body into events."""
    async with _open_client(context) as (client, transport, rate_limiter):
        yield Service(
            audit=AuditReader(client, context.endpoints, parse=parse),
            logging_search=LoggingSearchReader(client, context.endpoints, parse=parse),
            identity=IdentityReader(client, context.endpoints, context.credentials),
            credentials=context.credentials,
            transport=transport,
            rate_limiter=rate_limiter,
        )


@contextlib.asynccontextmanager
async def open_store(context: RunContext, url: ObjectUrl) -> AsyncIterator[ObjectStore]:
    """Open the store that holds the bucket of a URL for the duration of the block.

    Raises:
        UsageError: what the store needs is not installed, or its settings cannot be used.
    """
    if url.scheme != "oci":
        yield CloudStore(url)
        return
    async with _open_client(context) as (client, _, _):
        yield OciStore(client, context.endpoints, context.credentials, bucket=url.bucket, namespace=url.namespace)


def run_async(work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine to its end; inside a running loop, as in a notebook, in a thread with a loop of its own."""

    async def run() -> T:
        return await work()

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run())
    with ThreadPoolExecutor(1, thread_name_prefix="ociaudit") as thread:
        return thread.submit(lambda: asyncio.run(run())).result()


async def run_cancellable(
    work: Coroutine[Any, Any, T], cancellation: Cancellation, moment: str, *, is_kept: bool = True
) -> T:
    """Run a coroutine, and cancel it when a stop is requested; see `Cancellation.check` for the message.

    Raises:
        Interrupted: a stop was requested.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    cancellation.attach(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await task
    except asyncio.CancelledError:
        cancellation.check(moment, is_kept=is_kept)
        raise
    finally:
        cancellation.attach(None)


def use_store(
    context: RunContext,
    url: ObjectUrl,
    work: Callable[[ObjectStore], Awaitable[T]],
    *,
    moment: str,
    is_kept: bool = True,
) -> T:
    """Run `work` with the store of a URL, until it ends or is cancelled; see `Cancellation.check` for the message.

    Raises:
        OciAuditError: as `work` does.
        Interrupted: a stop was requested.
    """

    async def run() -> T:
        async with open_store(context, url) as store:
            return await work(store)

    return run_async(lambda: run_cancellable(run(), context.cancellation, moment, is_kept=is_kept))


def settled_until(now: datetime) -> int:
    """Return the minute before which windows requested at `now` are settled; what ends later is provisional."""
    return floor_minute(now) - SETTLE_MINUTES


def resolve_times(arguments: ExportArguments, *, now: datetime) -> TimeRange:
    """Return what the times as typed mean at `now`. Called once per run: later, relative times mean something else.

    Raises:
        UsageError: they cannot be read, or the range is empty.
    """
    if arguments.time_basis == "event-time" and arguments.source == "list-events":
        return resolve_event_range(arguments.start, arguments.end, late=arguments.late, now=now)
    return resolve_range(arguments.start, arguments.end, now=now, settle_minutes=arguments.settle_minutes)


def make_span(window: Window | None) -> TimeSpan | None:
    """Return the filter that keeps the events of a range of event times; None keeps all."""
    return TimeSpan(instant_of_minute(window.start), instant_of_minute(window.end)) if window else None


def check_scope(arguments: ExportArguments, endpoints: Endpoints) -> None:
    """Reject names that cannot be right, before anything is requested.

    Raises:
        UsageError: a region or an OCID is malformed or unknown.
    """
    for region in arguments.regions:
        endpoints.check_region(region)
    for compartment in arguments.compartments:
        check_compartment_name(compartment)


async def make_plan(
    arguments: ExportArguments,
    *,
    window: Window,
    event_window: Window | None = None,
    service: Service,
    now: datetime,
    may_replace: bool,
    callbacks: Callbacks,
    waived: Iterable[str] = (),
) -> RunPlan:
    """List what the scope needs and return the plan; names among `waived` need the listing of compartments.

    Raises:
        ScopeUnreadable, SignInRejected, ServiceUnreachable: a listing could not be read.
        UsageError: the tenancy has no such region or compartment, or a name is ambiguous.
    """
    tenancy = service.credentials.tenancy
    regions, region_ids, home = await resolve_regions(arguments.regions, service, callbacks)
    compartments = arguments.compartments
    compartment_ids: tuple[str, ...] = ()
    paths: dict[str, str] | None = None
    if not compartments or arguments.is_subtree or not all(map(is_ocid_like, (*compartments, *waived))):
        listing = await service.identity.list_compartments()
        compartment_ids = listing.request_ids
        paths = name_compartments(listing.items, tenancy=tenancy)
        compartments = choose_compartments(
            listing.items,
            [find_compartment(text, paths) for text in compartments],
            tenancy=tenancy,
            is_subtree=arguments.is_subtree,
        )
    resolve_waivers(waived, paths)
    retention = await read_retention(service, home, callbacks)
    plan = RunPlan(
        arguments=arguments,
        tenancy=tenancy,
        window=window,
        event_window=event_window,
        targets=make_targets(regions, compartments),
        listed_compartments=paths,
        region_request_ids=region_ids,
        compartment_request_ids=compartment_ids,
        retention_days=retention,
        may_replace=may_replace,
        started_at=format_second(now),
    )
    return msgspec.structs.replace(plan, id=identify_plan(plan))


async def resolve_regions(
    requested: tuple[str, ...], service: Service, callbacks: Callbacks
) -> tuple[tuple[str, ...], tuple[str, ...], str]:
    """Return the regions to fetch, the request ids of their listing, and the home region as far as it is known.

    Raises:
        ScopeUnreadable, SignInRejected, ServiceUnreachable: the listing could not be read.
        UsageError: the tenancy has not subscribed to a requested region.
    """
    try:
        listing = await service.identity.list_regions()
    except ScopeUnreadable as error:
        if not requested:
            raise
        callbacks.on_notice(f"the region subscriptions cannot be read, so the regions named are not checked: {error}")
        return tuple(sorted(set(requested))), (), service.credentials.region
    regions = choose_regions(listing.items, requested)
    return regions, listing.request_ids, find_home_region(listing.items) or service.credentials.region


def resolve_waivers(waived: Iterable[str], paths: Mapping[str, str] | None) -> frozenset[str]:
    """Return the OCIDs of the waived compartments; `paths` names the listed ones, None if they are not known.

    Raises:
        UsageError: a name is not that of exactly one compartment, or cannot be looked up.
    """
    names = [text for text in waived if not is_ocid_like(text)]
    if names and paths is None:
        raise UsageError(
            f"--waive {names[0]}: the names of compartments are not known here",
            hint="give the OCID: an export of exactly the OCIDs named (--no-subtree) does not list compartments",
        )
    return frozenset(find_compartment(text, paths or {}, option="--waive") for text in waived)


def is_beyond_retention(plan: RunPlan, *, now: datetime) -> bool:
    """Return whether the range begins before what the tenancy still keeps."""
    days = plan.retention_days
    return days is not None and plan.window.start < floor_minute(now) - days * MINUTES_PER_DAY


def warn_about_range(plan: RunPlan, *, now: datetime, notify: Callable[[str], None]) -> None:
    """Report where the range cannot be complete, or not yet."""
    if is_beyond_retention(plan, now=now):
        notify(
            f"the range begins before what the tenancy keeps ({plan.retention_days} days); "
            "older events are gone, and the service may reject the window"
        )
    settled = settled_until(now)
    if plan.window.end > settled:
        notify(
            f"the range ends within the last {SETTLE_MINUTES} minutes; events processed later may still join it, "
            f"so everything after {format_minute(settled)} is marked provisional"
        )


async def read_retention(service: Service, region: str, callbacks: Callbacks) -> int | None:
    """Return the tenancy's retention period in days, read in its home `region`; None if that fails.

    Raises:
        SignInRejected: the key is no longer accepted.
    """
    try:
        return await service.audit.read_retention_days(region=region, tenancy=service.credentials.tenancy)
    except RequestError as error:
        # A 401 from a region that the tenancy has not subscribed to says nothing about the key.
        if (
            isinstance(error, ServiceError)
            and error.is_oci
            and error.status == 401
            and not await service.identity.is_sign_in_accepted()
        ):
            raise explain_rejection(error, service.credentials) from error
        callbacks.on_notice(f"the retention period cannot be read ({error}); continuing without it")
        return None
