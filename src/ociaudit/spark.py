"""The Spark data source `oci_audit`: the audit events of a range as rows, or as a stream, fetched by Spark's tasks.

    import ociaudit.spark

    ociaudit.spark.register(spark)
    events = spark.read.format("oci_audit").option("start", "7d").option("end", "now").load()

The driver lists the scope, checks the retention period and divides the coarse plan of an export into partitions of
equal expected work. A task fetches its partition as an export does, into a spool in the worker's temporary folder, and
yields the merged events as Arrow batches. What the tasks of a ledger folder wrote is read back by `coverage`.

Invariants
- Partitions are disjoint: a minute of a target belongs to one task, so that splits of dense shards and repeated pages
  overlap only within a task, whose merge yields a record once. Two tasks yield the same record only if the service
  returned it from two windows or compartments.
- A gap fails the task before its first row, unless there is a ledger; then the task's file names it.
- A task's file is written after its last row, under a name that no other attempt uses. Of several attempts at a
  partition, only what all of them were answered counts, because Spark does not say whose rows it kept.
- Options are objects of the Python processes only. A key or pass phrase is in no plan, repr, ledger or message.
- Everything that is sent to a task pickles, and the memory of a task does not grow with its events.
"""

# Over 700 lines: options, plan, tasks, ledger and stream are one protocol between the processes of one Spark job

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import tempfile
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from ociaudit.api import find_scratch_folder, resolve_connection
from ociaudit.archive.state import find_retention_start, parse_rings
from ociaudit.client.signer import AUTH_KINDS, AuthKind
from ociaudit.errors import CorruptRun, IncompleteExport, OciAuditError, ServiceUnreachable, UsageError, format_count
from ociaudit.events.columns import ColumnKind
from ociaudit.events.event import parse_page
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter
from ociaudit.formats.base import ROWS_PER_BATCH
from ociaudit.formats.parquet import SEGMENT_COLUMNS, SegmentBatch
from ociaudit.operations.context import (
    Callbacks,
    ConnectionOptions,
    ExportOptions,
    RunContext,
    check_scope,
    connect,
    make_plan,
    resolve_times,
    run_async,
    settled_until,
)
from ociaudit.operations.fetcher import Fetcher, GapTracker, SpoolWriter
from ociaudit.planning.planner import FetchState, Share, SplitPolicy, plan_regions, share_work
from ociaudit.planning.shard import (
    MINUTES_PER_DAY,
    Coverage,
    Gap,
    Target,
    Window,
    describe_group,
    floor_minute,
    format_minute,
    format_second,
    group_gaps,
    parse_minute,
)
from ociaudit.planning.time_range import is_relative, parse_duration, parse_time, pin_time
from ociaudit.storage.atomic_io import explain_disk, make_private_folder, write_file
from ociaudit.storage.ledger import (
    Attempt,
    AttemptLine,
    TaskRun,
    encode_attempt,
    list_windows,
    read_attempt,
    split_final,
)
from ociaudit.storage.merge import CanonicalReader
from ociaudit.storage.run_dir import RunDirectory, RunPlan
from ociaudit.storage.spool import Spool, open_spool
from ociaudit.storage.verdict import describe_verdict

try:
    from pyspark.sql.datasource import DataSource, DataSourceReader, DataSourceStreamReader, InputPartition
    from pyspark.sql.types import DataType, IntegerType, StringType, StructField, StructType, TimestampType
except ImportError as error:  # the interpreter's own message does not say what to install
    raise ImportError(
        "ociaudit.spark needs Spark 4.0 or newer; hint: pip install 'oci-audit-streamer[spark]'", name=error.name
    ) from error

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

FORMAT_NAME = "oci_audit"
MAX_PARTITIONS = 256
"""The most tasks of one read: each has connections and a rate limit of its own."""
_DEFAULT_PARTITIONS = 16
_BATCH_BYTES = 4 * 1024 * 1024
_GROUPS_SHOWN = 5
_RUNS_PER_RING = 4
"""How often a rescan ring runs within its own length."""
_STREAM_SETTLE = "15m"
_STREAM_RESCAN = "2h,26h,7d"
_LOCAL_MASTER = re.compile(r"local\[(\d+)(?:,\d+)?\]")
_LOCAL_CLUSTER = re.compile(r"local-cluster\[\s*(\d+)\s*,\s*(\d+)\s*,\s*\d+\s*\]")
_MICROSECONDS_LENGTH = len("2026-01-01T00:00:00.000000Z")
_logger = logging.getLogger(__name__)

OPTIONS: Mapping[str, str] = {
    "start": "the first day, time or age, as `oci-audit export --start`; required",
    "end": "the last day, or the minute at which the range ends; `now` without it; not for a stream",
    "profile": "the profile of the configuration file",
    "configFile": "the OCI configuration file, which must exist on the driver and on every worker",
    "auth": f"the kind of sign-in: {', '.join(AUTH_KINDS)}",
    "user": "the user's OCID, instead of the profile's",
    "fingerprint": "the fingerprint of the API key, instead of the profile's",
    "tenancy": "the tenancy's OCID, instead of the profile's",
    "region": "the region to sign in to, instead of the profile's",
    "keyContent": "the text of the API key's private key, instead of a file on every worker",
    "passPhrase": "the pass phrase of that key",
    "caBundle": "a PEM file with the certificate authorities to trust, on the driver and on every worker",
    "endpoint": "a URL instead of Oracle's own, with `{region}` where the region's name goes",
    "regions": "the regions to cover, separated by commas; all subscribed ones without it",
    "compartments": "the compartments to cover, by OCID, name or path, separated by commas, and those below them; "
    "the whole tenancy without it",
    "settle": "the range ends at least this long before the present; `15m` in a stream",
    "maxWindowDays": "the longest window of one request, in days; 14 without it",
    "numPartitions": f"the most partitions, from 1 to {MAX_PARTITIONS}",
    "requestsPerSecond": "the most requests per second, of all tasks together",
    "ledger": "a folder that the driver and all workers share; gaps are recorded there instead of failing the job",
    "rescan": "how far back a stream requests again for late events: up to three durations such as "
    f"`{_STREAM_RESCAN}`, or `none`; only for a stream",
}
"""Every option, as documented in docs/reference/spark.md."""
_VARIABLES: Mapping[str, str] = {
    "user": "OCI_CLI_USER",
    "fingerprint": "OCI_CLI_FINGERPRINT",
    "tenancy": "OCI_CLI_TENANCY",
    "region": "OCI_CLI_REGION",
    "keyContent": "OCI_CLI_KEY_CONTENT",
    "passPhrase": "OCI_CLI_PASSPHRASE",
}
_SPARK_TYPES: Mapping[ColumnKind, DataType] = {
    "text": StringType(),
    "json": StringType(),
    "integer": IntegerType(),
    "time": TimestampType(),
}
SCHEMA = StructType([StructField(column.name, _SPARK_TYPES[column.kind]) for column in SEGMENT_COLUMNS])
"""The columns of `--format parquet`, with their types, and `event_sha256`."""


def register(spark: SparkSession) -> None:
    """Make the format `oci_audit` known to a session; the workers need the same version of this package installed.

    The session's configuration is read for how many tasks can run at the same time.
    """
    cluster = _Cluster.of(spark)
    # A class of its own is pickled with its attributes: the processes that plan a read do not know the session.
    spark.dataSource.register(type("OciAuditSource", (OciAuditDataSource,), {"cluster": cluster}))


@dataclass(frozen=True, slots=True)
class _Cluster:
    """How many tasks can run at the same time, None if the configuration does not say; and whether any run twice."""

    slots: int | None = None
    is_speculative: bool = False

    @classmethod
    def of(cls, spark: SparkSession) -> _Cluster:
        """Read it from a session's configuration, which is all that a Connect client sees."""

        def get(name: str, default: str = "") -> str:
            return str(spark.conf.get(name, default) or default)

        return cls(_find_slots(get), get("spark.speculation", "false").casefold() == "true")


def _find_slots(get: Any) -> int | None:
    """Return the most tasks that can run at the same time; None where the cluster may grow beyond what is known."""
    task_cores = max(1, int(get("spark.task.cpus", "1")))
    master = get("spark.master")
    if master == "local":
        return 1
    if found := _LOCAL_MASTER.fullmatch(master):
        return max(1, int(found[1]) // task_cores)
    if found := _LOCAL_CLUSTER.fullmatch(master):
        return max(1, int(found[1]) * (int(found[2]) // task_cores))
    is_dynamic = get("spark.dynamicAllocation.enabled", "false").casefold() == "true"
    executors = get("spark.dynamicAllocation.maxExecutors" if is_dynamic else "spark.executor.instances")
    cores = get("spark.executor.cores")
    if executors.isdecimal() and cores.isdecimal():
        return max(1, int(executors) * (int(cores) // task_cores))
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Settings:
    """The options of one read, parsed."""

    export: ExportOptions
    connection: ConnectionOptions
    variables: Mapping[str, str] = field(repr=False)
    partitions: int | None
    requests_per_second: float | None
    ledger: Path | None
    rings: tuple[int, ...]
    """How far back a stream requests again, in minutes, ascending."""

    def sign_in(self, *, endpoint: str | None = None, requests_per_second: float | None = None) -> RunContext:
        """Return the collaborators of a run on this machine.

        Raises:
            OciAuditError: the options or what this machine has cannot be used.
        """
        connection = replace(
            self.connection,
            endpoint=endpoint or self.connection.endpoint,
            max_requests_per_second=requests_per_second,
        )
        return resolve_connection(connection, callbacks=_LoggedNotices(), variables=self.variables)


class _LoggedNotices(Callbacks):
    """Writes notices to the log of the process, as there is no screen."""

    def on_notice(self, text: str) -> None:
        """Log it."""
        _logger.warning("%s", text)


@contextlib.contextmanager
def _hint_in_message() -> Iterator[None]:
    """Add the hint of an error to its message, which is all that Spark shows of it."""
    try:
        yield
    except OciAuditError as error:
        error.args = (f"{error}\nhint: {error.hint}",)
        raise


def _parse_options(options: Mapping[str, str], *, is_stream: bool) -> _Settings:
    """Return the options as settings; Spark gives their names in lower case.

    Raises:
        UsageError: an option is unknown, missing or unreadable; no message has the value of a secret.
    """
    known = {name.casefold(): name for name in OPTIONS}
    given: dict[str, str] = {}
    for name, value in options.items():
        if name.casefold() not in known:
            raise _explain_unknown(name, known)
        given[known[name.casefold()]] = value
    wrong = next((name for name in (("end",) if is_stream else ("rescan",)) if name in given), None)
    if wrong is not None:
        problem = "a stream has no end" if is_stream else "only a stream requests again"
        raise UsageError(f"option {wrong}: {problem}", hint=f'omit .option("{wrong}", …)')
    if not given.get("start"):
        raise UsageError("the option start is missing", hint='for example .option("start", "7d")')
    export = ExportOptions(
        start=given["start"],
        end=given.get("end") or "now",
        regions=_split_list(given.get("regions")),
        compartments=_split_list(given.get("compartments")),
        settle=given.get("settle") or (_STREAM_SETTLE if is_stream else None),
        max_window_days=_parse_number(given, "maxWindowDays", 14),
    )
    count = _parse_number(given, "numPartitions", 0)
    if count > MAX_PARTITIONS:
        raise UsageError(
            f"option numPartitions: {count:,} is more than {MAX_PARTITIONS}",
            hint="each task has connections of its own, and the service is the bottleneck; choose a smaller number",
        )
    rescan = given.get("rescan", _STREAM_RESCAN)
    return _Settings(
        export=export,
        connection=ConnectionOptions(
            profile=given.get("profile"),
            config_file=given.get("configFile"),
            auth=_parse_auth(given.get("auth")),
            ca_bundle=given.get("caBundle"),
            endpoint=given.get("endpoint"),
        ),
        variables={_VARIABLES[name]: given[name] for name in _VARIABLES if given.get(name)},
        partitions=count or None,
        requests_per_second=_parse_rate(given.get("requestsPerSecond")),
        ledger=_parse_folder(given["ledger"]) if given.get("ledger") else None,
        rings=() if rescan.strip().casefold() in {"", "none"} else parse_rings(rescan),
    )


def _explain_unknown(name: str, known: Mapping[str, str]) -> UsageError:
    near = get_close_matches(name.casefold(), known, n=3, cutoff=0.6)
    if name.casefold() == "path":
        hint = "load() takes no path: what to read is named by options"
    elif near:
        hint = f"did you mean {' or '.join(known[one] for one in near)}?"
    else:
        hint = f"the options are {', '.join(OPTIONS)}"
    return UsageError(f"the data source {FORMAT_NAME} has no option {name!r}", hint=hint)


def _split_list(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text or "").split(",") if part.strip())


def _parse_number(given: Mapping[str, str], name: str, default: int) -> int:
    text = given.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text.strip()) or int(text) < 1:
        raise UsageError(f"option {name}: {text!r} is not a whole number above 0", hint=f"{name} is {OPTIONS[name]}")
    return int(text)


def _parse_rate(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise UsageError(f"option requestsPerSecond: {text!r} is not a number above 0", hint="for example 20")
    return rate


def _parse_auth(text: str | None) -> AuthKind | None:
    for kind in get_args(AuthKind):
        if text == kind:
            found: AuthKind = kind
            return found
    if text is None:
        return None
    raise UsageError(f"option auth: unknown kind of sign-in: {text!r}", hint=f"auth is one of {', '.join(AUTH_KINDS)}")


def _parse_folder(text: str) -> Path:
    """Return the path of a ledger folder; it is opened as a file of the machine, not through Hadoop."""
    path = text.removeprefix("file://") if text.startswith("file:///") else text.removeprefix("file:")
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:", path):
        raise UsageError(
            f"the ledger {text!r} is a URL",
            hint="name a folder that is mounted at the same path on the driver and on every worker, "
            "such as /mnt/shared/ledger or, on Databricks, /dbfs/… or /Volumes/…",
        )
    if not path.startswith("/"):
        raise UsageError(f"the ledger {text!r} is not an absolute path", hint=f"for example /mnt/shared/{path}")
    return Path(path)


class OciAuditDataSource(DataSource):
    """The data source `oci_audit`; Spark makes one for each read."""

    cluster = _Cluster()

    @classmethod
    def name(cls) -> str:
        """Return the name of the format."""
        return FORMAT_NAME

    def schema(self) -> StructType:
        """Return the columns: those of Parquet files, and the SHA-256 of the event."""
        return SCHEMA

    def reader(self, schema: StructType) -> DataSourceReader:
        """Return a reader of a range."""
        with _hint_in_message():
            _check_schema(schema)
            return OciAuditReader(_parse_options(self.options, is_stream=False), self.cluster)

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 - Spark's name
        """Return a reader of a stream."""
        with _hint_in_message():
            _check_schema(schema)
            return OciAuditStreamReader(_parse_options(self.options, is_stream=True), self.cluster)


def _check_schema(asked: object) -> None:
    """Check that a schema is the one of this data source; Sail passes the schema that it was given, in Arrow's form.

    Raises:
        UsageError: it has other columns or types; the message names the first difference.
    """
    if not isinstance(asked, StructType):
        return
    own = [(one.name, one.dataType.simpleString()) for one in SCHEMA.fields]
    named = [(one.name, one.dataType.simpleString()) for one in asked.fields]
    for number, (left, right) in enumerate(zip(own, named, strict=False), 1):
        if left != right:
            raise UsageError(
                f"column {number} of the schema is {right[0]} {right[1]}; this data source has {left[0]} {left[1]}",
                hint="omit .schema(…), and choose or cast columns with select",
            )
    if len(own) != len(named):
        raise UsageError(
            f"the schema has {format_count(len(named), 'column')}; this data source has {len(own)}",
            hint="omit .schema(…), and choose columns with select",
        )


@dataclass(frozen=True, slots=True)
class _Job:
    """What the tasks of one plan have in common."""

    run: str
    """The same for every plan of the same rows: a batch of a stream that is planned again."""
    plan: str
    planned_at: str
    tenancy: str
    window: Window
    named_end: int
    """The minute at which the range as typed ends."""
    max_minutes: int
    retention_days: int | None
    """The retention period, where the range begins before it."""
    endpoint: str | None
    requests_per_second: float | None
    """The share of one task."""
    partitions: int


@dataclass(frozen=True, repr=False)
class OciAuditPartition(InputPartition):
    """The work of one task: windows, each with the targets to request it for."""

    job: _Job
    number: int
    pieces: Share
    paths: Mapping[str, str]
    """The paths of its compartments by OCID, as far as they are known."""

    def __repr__(self) -> str:
        """Return which task it is."""
        return f"{type(self).__name__}({self.number + 1} of {self.job.partitions})"

    def list_parts(self) -> dict[Target, Coverage]:
        """Return the minutes to request for each target."""
        parts: dict[Target, Coverage] = {}
        for window, targets in self.pieces:
            for target in targets:
                parts.setdefault(target, Coverage()).add(window)
        return parts


class OciAuditReader(DataSourceReader):
    """Plans a range on the driver and reads its partitions in tasks."""

    def __init__(self, settings: _Settings, cluster: _Cluster) -> None:
        """Keep what the tasks need; nothing is requested yet."""
        self._settings = settings
        self._cluster = cluster

    def partitions(self) -> list[InputPartition]:
        """List the scope and return the partitions.

        Raises:
            OciAuditError: the range or the scope cannot be read, or the range begins before the retention period.
        """
        with _hint_in_message():
            context = self._settings.sign_in()
            now = context.clock.now()
            arguments = self._settings.export.to_arguments(context.credentials, now=now)
            time_range = resolve_times(arguments, now=now)
            for notice in time_range.notices:
                context.callbacks.on_notice(notice)
            return [
                *_plan_partitions(
                    self._settings,
                    self._cluster,
                    context,
                    time_range.window,
                    run=uuid.uuid4().hex,
                    named_end=time_range.typed_end,
                )
            ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Fetch a partition and yield its events; called in a task."""
        return _read_partition(self._settings, partition)


def _plan_partitions(  # long because: what all tasks share is decided here, from one listing
    settings: _Settings,
    cluster: _Cluster,
    context: RunContext,
    window: Window,
    *,
    run: str,
    named_end: int | None = None,
    rescanned_until: int | None = None,
) -> list[OciAuditPartition]:
    """Resolve the scope and divide a window of it; what precedes `rescanned_until` was requested before.

    Raises:
        OciAuditError: the scope cannot be read, or the window begins before the retention period.
    """
    now = context.clock.now()
    if settings.ledger is not None:
        _prepare_ledger(settings.ledger)
    plan = run_async(lambda: _resolve_scope(settings, context, window, now))
    oldest = find_retention_start(floor_minute(now), plan.retention_days)
    if rescanned_until is not None:
        window = Window(max(window.start, min(oldest, rescanned_until)), window.end)
    if window.start < oldest and settings.ledger is None:
        raise UsageError(
            f"the range begins at {format_minute(window.start)}, before what the tenancy keeps: "
            f"{format_count(plan.retention_days or 0, 'day')}, so older events are gone",
            hint=f"start at {format_minute(oldest)} or later, or name a folder with the option ledger: "
            "then what is missing is recorded there",
        )
    count = _choose_count(settings, cluster)
    max_minutes, shares = share_work(
        plan.targets,
        window,
        tenancy=plan.tenancy,
        max_minutes=settings.export.max_window_days * MINUTES_PER_DAY,
        share_count=count,
    )
    at_once = min(len(shares), cluster.slots or len(shares)) * (2 if cluster.is_speculative else 1)
    rate = settings.requests_per_second
    job = _Job(
        run=run,
        plan=uuid.uuid4().hex,
        planned_at=format_second(now),
        tenancy=plan.tenancy,
        window=window,
        named_end=named_end or window.end,
        max_minutes=max_minutes,
        retention_days=plan.retention_days if window.start < oldest else None,
        endpoint=context.endpoints.override,
        requests_per_second=rate / at_once if rate is not None else None,
        partitions=len(shares),
    )
    paths = plan.listed_compartments or {}
    return [
        OciAuditPartition(job, number, pieces, _select_paths(pieces, paths)) for number, pieces in enumerate(shares)
    ]


def _select_paths(pieces: Share, paths: Mapping[str, str]) -> dict[str, str]:
    own = {target.compartment for _, targets in pieces for target in targets}
    return {ocid: paths[ocid] for ocid in own if ocid in paths}


async def _resolve_scope(settings: _Settings, context: RunContext, window: Window, now: datetime) -> RunPlan:
    arguments = settings.export.to_arguments(context.credentials, now=now)
    check_scope(arguments, context.endpoints)
    async with connect(context) as service:
        return await make_plan(
            arguments, window=window, service=service, now=now, may_replace=False, callbacks=context.callbacks
        )


def _choose_count(settings: _Settings, cluster: _Cluster) -> int:
    """Return the most partitions: as many as asked for, else two for each task that can run at the same time.

    A task with less than one request per second would only wait.
    """
    count = settings.partitions or min(MAX_PARTITIONS, 2 * cluster.slots if cluster.slots else _DEFAULT_PARTITIONS)
    if settings.requests_per_second is not None:
        count = min(count, max(1, int(settings.requests_per_second)))
    return count


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A partition whose shards have all been requested; its events are in the spool."""

    spool: Spool
    targets: tuple[Target, ...]
    gaps: tuple[Gap, ...]
    asked_at: int


def _read_partition(settings: _Settings, partition: InputPartition) -> Iterator[pa.RecordBatch]:
    """Fetch a partition and yield its events in batches, ordered by time, every record once.

    Raises:
        IncompleteExport: there are gaps, and no ledger to record them.
        OciAuditError: the task could not be finished.
    """
    if not isinstance(partition, OciAuditPartition):  # Spark's stand-in for a plan without partitions
        return
    with _hint_in_message(), contextlib.ExitStack() as stack:
        if settings.ledger is not None and not settings.ledger.is_dir():
            raise UsageError(
                f"the ledger folder {settings.ledger} does not exist on this worker",
                hint="name a folder that the driver and all workers share",
            )
        scratch = find_scratch_folder()
        name = stack.enter_context(tempfile.TemporaryDirectory(prefix="oci-audit-", dir=scratch))
        job = partition.job
        context = settings.sign_in(endpoint=job.endpoint, requests_per_second=job.requests_per_second)
        if context.credentials.tenancy != job.tenancy:
            raise UsageError(
                f"this worker signs in to the tenancy {context.credentials.tenancy}, the driver to {job.tenancy}",
                hint="give all machines the same configuration file, or the same principal",
            )
        fetched = run_async(lambda: _fetch_partition(partition, context, Path(name), stack))
        if fetched.gaps and settings.ledger is None:
            raise _explain_gaps(fetched.gaps, partition)
        reader = stack.enter_context(contextlib.closing(fetched.spool.open_reader()))
        canonical = CanonicalReader(
            fetched.spool.index,
            reader,
            start=instant_of_minute(job.window.start),
            end=instant_of_minute(job.window.end),
        )
        yield from _make_batches(canonical, fetched.targets)
        if settings.ledger is not None:
            _write_ledger(settings.ledger, partition, fetched, events=canonical.counts.written)


async def _fetch_partition(
    partition: OciAuditPartition, context: RunContext, folder: Path, stack: contextlib.ExitStack
) -> _Fetched:
    """Fetch every shard of a partition into a spool in `folder`; `stack` will close it."""
    job, parts = partition.job, partition.list_parts()
    targets = tuple(sorted(parts))
    elsewhere = {
        target: Coverage(missing) for target, own in parts.items() if (missing := own.find_missing(job.window))
    }
    now = context.clock.now()
    recovered = open_spool(
        RunDirectory(folder),
        plan_id=job.plan,
        origins={target: number for number, target in enumerate(targets)},
        at=format_second(now),
    )
    spool = stack.enter_context(recovered.spool)
    async with connect(context, parse=parse_page) as service:
        writer = SpoolWriter(
            spool, event_filter=EventFilter(), tally=None, listed_compartments=None, callbacks=context.callbacks
        )
        fetcher = Fetcher(
            audit=service.audit,
            rate_limiter=service.rate_limiter,
            gap_tracker=GapTracker(
                identity=service.identity,
                credentials=context.credentials,
                callbacks=context.callbacks,
                has_responded_before=True,  # the driver has listed the scope
            ),
            handler=writer,
            targets=targets,
            window=job.window,
            covered=elsewhere,
            callbacks=context.callbacks,
            split_policy=SplitPolicy(),
        )
        plans = plan_regions(
            targets,
            job.window,
            max_minutes=job.max_minutes,
            settled_until=settled_until(now),
            progress=FetchState(covered=elsewhere),
        )
        try:
            gaps = await fetcher.run(plans)
        finally:
            await writer.close()
    await asyncio.to_thread(spool.commit)
    return _Fetched(spool, targets, gaps, floor_minute(now))


def _explain_gaps(gaps: Sequence[Gap], partition: OciAuditPartition) -> IncompleteExport:
    groups = group_gaps(gaps)
    lines = [describe_group(group, partition.paths, window=partition.job.window) for group in groups[:_GROUPS_SHOWN]]
    if len(groups) > _GROUPS_SHOWN:
        lines.append(f"and {format_count(len(groups) - _GROUPS_SHOWN, 'more group')}")
    first = gaps[0]
    request = f" (opc-request-id {first.request_id})" if first.request_id else ""
    return IncompleteExport(
        f"{format_count(len(gaps), 'gap')}: {'; '.join(lines)}. The first is {first.target.compartment} "
        f"in {first.target.region}, {first.window}: {first.reason}{request}",
        gaps=gaps,
        hint='correct the cause and read again; or name a shared folder with .option("ledger", "/…"): '
        "then the job continues, and ociaudit.spark.coverage(spark, folder) names the gaps",
    )


def _make_batches(events: Iterable[tuple[bytes, int]], targets: Sequence[Target]) -> Iterator[pa.RecordBatch]:
    """Yield events with the number of their origin as batches of at most `ROWS_PER_BATCH` rows and about 4 MiB."""
    raws: list[bytes] = []
    origins: list[Target] = []
    size = 0
    for raw, origin in events:
        raws.append(raw)
        origins.append(targets[origin])
        size += len(raw)
        if len(raws) == ROWS_PER_BATCH or size >= _BATCH_BYTES:
            yield _make_batch(raws, origins)
            raws, origins, size = [], [], 0
    if raws:
        yield _make_batch(raws, origins)


def _make_batch(raws: Sequence[bytes], origins: Sequence[Target]) -> pa.RecordBatch:
    import pyarrow as pa

    batch = pa.record_batch(SegmentBatch(raws, origins))
    arrays, fields = [], []
    for column, array in zip(SEGMENT_COLUMNS, batch.columns, strict=True):
        if column.kind == "time":
            array = _read_times(array)  # noqa: PLW2901 - the same column in its type
        arrays.append(array)
        fields.append(pa.field(column.name, array.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _read_times(texts: pa.Array) -> pa.Array:
    import pyarrow as pa

    kind = pa.timestamp("us", tz="UTC")
    try:
        return texts.cast(kind)
    except pa.ArrowInvalid:
        return pa.array(map(_cut_nanoseconds, texts.to_pylist()), pa.string()).cast(kind)


def _cut_nanoseconds(text: str | None) -> str | None:
    """Return a time with at most six digits after the point, which is what Spark's timestamps and Parquet hold."""
    if text is None or len(text) <= _MICROSECONDS_LENGTH:
        return text
    return text[: _MICROSECONDS_LENGTH - 1] + "Z"


def _prepare_ledger(folder: Path) -> None:
    """Create the folder on the driver if it does not exist, and check that files can be created there.

    Raises:
        DiskError: it cannot be used.
    """
    if not folder.is_dir():
        with explain_disk("create the folder", folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
        make_private_folder(folder)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(
            f"the ledger folder {folder} cannot be written to",
            hint="give the user that runs Spark the right to create files there, or name another folder",
        )


def _write_ledger(folder: Path, partition: OciAuditPartition, fetched: _Fetched, *, events: int) -> None:
    """Write what a task was answered into a file of its own, complete or not at all.

    Raises:
        DiskError: the file cannot be written; the task fails, and Spark runs it again.
    """
    job = partition.job
    head = AttemptLine(
        run=job.run,
        plan=job.plan,
        planned_at=job.planned_at,
        part=partition.number,
        parts=job.partitions,
        tenancy=job.tenancy,
        start=format_minute(job.window.start),
        end=format_minute(job.window.end),
        named_end=format_minute(job.named_end),
        retention_days=job.retention_days,
        asked_at=format_minute(fetched.asked_at),
        events=events,
    )
    windows = list_windows(partition.list_parts(), fetched.gaps, partition.paths)
    name = f"{job.run}-{partition.number:05}-{uuid.uuid4().hex}.jsonl"
    write_file(folder / name, encode_attempt(head, windows))


COVERAGE_COLUMNS: tuple[tuple[str, str], ...] = (
    ("run", "string"),
    ("region", "string"),
    ("compartment", "string"),
    ("compartment_path", "string"),
    ("start", "timestamp"),
    ("end", "timestamp"),
    ("status", "string"),
    ("is_final", "boolean"),
    ("asked_at", "timestamp"),
    ("reason", "string"),
    ("request_id", "string"),
    ("verdict", "string"),
    ("verdict_text", "string"),
)
"""The columns of `coverage`."""


def coverage(spark: SparkSession, path: str | Path) -> DataFrame:
    """Return what the tasks of every run in a ledger folder were answered, as rows, each with the verdict on its run.

    A row is a window of a target. `status` is `answered`, `denied`, `failed`, or `unreported`: no task reported that
    partition, and the row has no target. The folder is read on the driver.

    Raises:
        UsageError: the folder does not exist, or has no ledger.
        CorruptRun: a file in it is damaged or was written by a newer version.
        DiskError: it cannot be read.
    """
    schema = ", ".join(f"`{name}` {kind}" for name, kind in COVERAGE_COLUMNS)
    return spark.createDataFrame(_make_coverage_rows(_parse_folder(str(path))), schema)


def _make_coverage_rows(folder: Path) -> list[tuple[Any, ...]]:
    runs: dict[str, list[Attempt]] = {}
    for attempt in _read_attempts(folder):
        runs.setdefault(attempt.head.run, []).append(attempt)
    if not runs:
        raise UsageError(
            f"the folder {folder} has no ledger of {FORMAT_NAME}",
            hint="name the folder of the option ledger; a task writes there when it has finished",
        )
    return [row for name in sorted(runs) for row in _make_run_rows(TaskRun.of(runs[name]))]


def _read_attempts(folder: Path) -> Iterator[Attempt]:
    with explain_disk("read the ledger folder", folder):
        paths = sorted(folder.glob("[!.]*.jsonl"))
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
            raise UsageError(
                f"the ledger folder {folder} " + ("cannot be read" if folder.exists() else "does not exist"),
                hint="name the folder of the option ledger, as the driver sees it",
            )
    return map(read_attempt, paths)


def _make_run_rows(run: TaskRun) -> Iterator[tuple[Any, ...]]:
    """Yield a row of `COVERAGE_COLUMNS` for each window and each partition without a report."""
    head, verdict = run.head, run.judge()
    tail = (verdict.kind.value, "; ".join(describe_verdict(verdict)))
    for number, lines in run.windows.items():
        asked_at = run.asked_at[number]
        for line in lines:
            for part, is_final in split_final(line.window, asked_at):
                yield (
                    *(head.run, line.region, line.compartment, line.path, _make_time(part.start), _make_time(part.end)),
                    *(line.status, is_final and line.status == "answered", _make_time(asked_at)),
                    *(line.reason, line.request_id, *tail),
                )
    start, end = _make_time(parse_minute(head.start)), _make_time(parse_minute(head.end))
    for number in run.missing:
        reason = f"no task reported partition {number + 1} of {head.parts}"
        yield (head.run, None, None, None, start, end, "unreported", False, None, reason, None, *tail)


def _make_time(minute: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(minutes=minute)


class OciAuditStreamReader(DataSourceStreamReader):
    """Plans the batches of a stream on the driver and reads their partitions in tasks.

    An offset is a settled minute: a batch holds what was processed from the start's minute to the end's. In between,
    each rescan ring requests again what is older, in time for every minute to be requested again at an age of at least
    the ring. Which batch a ring belongs to follows from its offsets alone, so that a replayed batch requests the same.
    """

    def __init__(self, settings: _Settings, cluster: _Cluster) -> None:
        """Keep what the tasks need; nothing is requested yet."""
        self._settings = settings
        self._cluster = cluster
        self._reached = 0

    def initialOffset(self) -> dict[str, str]:  # noqa: N802 - Spark's name
        """Return the minute at which the stream begins.

        Raises:
            UsageError: the start cannot be read, or is in the future.
        """
        with _hint_in_message():
            now = self._settings.sign_in().clock.now()
            first = parse_time(str(self._settings.export.start), now=now).as_start
            if first > floor_minute(now):
                raise UsageError(
                    f"the start {self._settings.export.start!r} ({format_minute(first)}) is in the future",
                    hint="choose an earlier start, or now",
                )
            self._reached = first
            return _make_offset(first)

    def latestOffset(self, start: Any = None, limit: Any = None) -> dict[str, str]:  # noqa: N802 - Spark's
        """Return the minute up to which events have settled; Spark gives `start` from 4.2 on.

        The service's clock counts where it is behind this machine's: a minute that is not over must not be passed.

        Raises:
            OciAuditError: the service cannot be reached, or does not accept the sign-in.
        """
        with _hint_in_message():
            context = self._settings.sign_in()
            ahead_seconds = run_async(lambda: self._measure_clock(context))
            settle = parse_duration(self._settings.export.settle or _STREAM_SETTLE)
            settled = floor_minute(context.clock.now() - timedelta(seconds=ahead_seconds)) - settle
            started = _read_offset(start) if start else 0
            self._reached = max(self._reached, started, settled)
            return _make_offset(self._reached)

    async def _measure_clock(self, context: RunContext) -> float:
        """Return how many seconds this machine's clock is ahead of the service's."""
        async with connect(context) as service:
            await service.identity.is_sign_in_accepted()
            skew_seconds = service.transport.skew_seconds
        if skew_seconds is None:
            raise ServiceUnreachable("the service did not respond, so its clock is not known")
        return max(0.0, skew_seconds)

    def partitions(self, start: dict[str, str], end: dict[str, str]) -> list[InputPartition]:
        """List the scope and return the partitions of a batch.

        Raises:
            OciAuditError: the scope cannot be read, or the batch begins before the retention period.
        """
        first, last = _read_offset(start), _read_offset(end)
        if first >= last:
            return []
        with _hint_in_message():
            context = self._settings.sign_in()
            begin = first - self._find_rescan(first, last)
            least = self._find_least(context.clock.now())
            window = Window(min(first, max(begin, least)), last)
            run = f"{format_minute(first)}--{format_minute(last)}".replace(":", "")
            return [*_plan_partitions(self._settings, self._cluster, context, window, run=run, rescanned_until=first)]

    def _find_rescan(self, first: int, last: int) -> int:
        """Return how far before its start a batch begins.

        A ring runs in the batch that passes a multiple of a quarter of its length. Its last run ended at the multiple
        before, or later, and nothing beyond was requested at the age of the ring then.
        """
        reach = 0
        for ring in self._settings.rings:
            period = max(1, ring // _RUNS_PER_RING)
            if last // period > first // period:
                reach = max(reach, ring + first % period)
        return reach

    def _find_least(self, now: datetime) -> int:
        """Return the minute before which a stream with an absolute start requests nothing."""
        start = str(self._settings.export.start)
        return 0 if is_relative(start) or pin_time(start, now=now) != start else parse_time(start, now=now).as_start

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """Fetch a partition and yield its events; called in a task."""
        return _read_partition(self._settings, partition)

    def commit(self, end: dict[str, str]) -> None:
        """Do nothing: Spark keeps the offsets."""


def _make_offset(minute: int) -> dict[str, str]:
    return {"settled": format_minute(minute)}


def _read_offset(offset: Mapping[str, str]) -> int:
    """Return the minute of an offset.

    Raises:
        CorruptRun: the checkpoint does not hold an offset of this data source.
    """
    try:
        return parse_minute(offset["settled"])
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptRun(
            f"the checkpoint holds {str(offset)[:80]!r}, which is not an offset of {FORMAT_NAME}",
            hint="use a checkpoint folder of its own for each query",
        ) from error
