"""From a request to a spool that holds all its answers.

Owns: the asynchronous half of an export: connect, plan, sweep. Must not: publish.

Invariants
- The plan is on the disk before the first event is asked for.
- A stop asked for from outside ends the questions at once and keeps every page that has arrived.

The main job: every audit event of a range, in one file, with the statement beside it.

Owns: the order of the steps. Each step is elsewhere: asking in `jobs.collect`, writing in `jobs.publish`,
stating in `jobs.statement`, what to do about leftovers in `jobs.rerun`.

Invariants
- Nothing is written before the arguments, the credentials and the leftovers have been checked.
- The output gets its name only when all of it is on stable storage; ledger and manifest come after it.
- The run directory goes last, and stays while anything is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from ociaudit.errors import Interrupted
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter
from ociaudit.events.redaction import Redactor
from ociaudit.formats.base import EventShape
from ociaudit.formats.compression import make_compressor
from ociaudit.formats.registry import make_format
from ociaudit.operations.context import ExportOrder, RunContext, Service, connect
from ociaudit.operations.fetcher import Fetcher, GapTracker, SpoolWriter
from ociaudit.operations.publish import (
    ManifestFacts,
    WrittenFile,
    make_manifest,
    write_events,
    write_ledger,
    write_to_stdout,
)
from ociaudit.operations.resume import Action, Workspace, choose_action, is_run_spent, open_workspace
from ociaudit.operations.scope_resolution import (
    SETTLE_MINUTES,
    check_scope,
    make_plan,
    make_span,
    resolve_times,
    warn_about_range,
)
from ociaudit.planning.planner import Ask, FetchState, SplitPolicy, plan_regions
from ociaudit.planning.shard import Gap, Target
from ociaudit.planning.time_range import TimeRange, expand_name, is_relative
from ociaudit.planning.window import MINUTES_PER_DAY, Coverage, Window, floor_minute
from ociaudit.storage.atomic_io import explain_disk, new_file, remove_file, write_all, write_file
from ociaudit.storage.journal import GapLine, PublishLine
from ociaudit.storage.ledger import LedgerTotals
from ociaudit.storage.manifest import FileEntry, GapEntry, Manifest, Redaction, encode_manifest
from ociaudit.storage.merge import CanonicalReader, MergeCounts
from ociaudit.storage.recovery import open_spool
from ociaudit.storage.run_dir import ExportArguments, RunPlan
from ociaudit.storage.signing import check_signing_key, name_signature, sign_bytes
from ociaudit.storage.spool import Spool


@dataclass(frozen=True, slots=True)
class Collected:
    """A run whose every question has been asked. The spool is open."""

    plan: RunPlan
    spool: Spool
    coverage: Mapping[Target, Coverage]
    gaps: tuple[Gap, ...]
    skew_seconds: float | None


def collect_events(
    order: ExportOrder, context: RunContext, workspace: Workspace, *, window: Window, stack: contextlib.ExitStack
) -> Collected:
    """Ask for everything that is missing and return the open spool, which `stack` will close.

    Raises:
        Interrupted: a stop was asked for; the run can be resumed.
        OciAuditError: what stops a run, see `jobs.scope` and `jobs.sweep`.
    """

    def run() -> Collected:
        return asyncio.run(_collect_until_cancelled(order, context, workspace, window, stack))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    # Called from within a loop, as in a notebook: that one is blocked, ours runs in a thread of its own.
    with ThreadPoolExecutor(1, thread_name_prefix="ociaudit-export") as thread:
        return thread.submit(run).result()


async def _collect_until_cancelled(
    order: ExportOrder, context: RunContext, workspace: Workspace, window: Window, stack: contextlib.ExitStack
) -> Collected:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_collect(order, context, workspace, window, stack))
    context.stop.attach(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await task
    except asyncio.CancelledError:
        context.stop.check("before the first event was asked for")
        raise
    finally:
        context.stop.attach(None)


async def _collect(
    order: ExportOrder, context: RunContext, workspace: Workspace, window: Window, stack: contextlib.ExitStack
) -> Collected:
    event_filter = EventFilter(order.arguments.whole_filter)
    async with connect(context, cut=event_filter.parse_page) as service:
        plan = workspace.plan
        if plan is None:
            plan = await make_plan(
                order.arguments,
                window=window,
                event_window=resolve_times(order.arguments, now=context.clock.now()).event_window,
                service=service,
                now=context.clock.now(),
                may_replace=order.resume_options.overwrite
                or order.resume_options.is_script
                or workspace.left.output_exists,
                callbacks=context.callbacks,
            )
            workspace.folder.write_plan(plan)
        warn_about_range(plan, now=context.clock.now(), notify=context.callbacks.on_notice)
        spool, progress = _open_spool(plan, workspace, context)
        stack.enter_context(spool)
        sink = _make_writer(order, plan, spool, context, event_filter)
        sweep = _make_fetcher(order, plan, progress, service, sink, context)
        try:
            gaps = await _sweep(sweep, order, plan, progress, context)
        finally:
            await sink.close()
        for gap in gaps:
            spool.append_line(GapLine(gap, _show_time(context.clock.now())))
        spool.commit()
        return Collected(plan, spool, sweep.coverage, gaps, service.transport.skew_seconds)


def _make_fetcher(  # noqa: PLR0917 - the collaborators of a sweep, each once
    order: ExportOrder, plan: RunPlan, progress: FetchState, service: Service, sink: SpoolWriter, context: RunContext
) -> Fetcher:
    return Fetcher(
        audit=service.audit,
        rate_limiter=service.rate_limiter,
        gap_tracker=GapTracker(
            identity=service.identity,
            credentials=service.credentials,
            callbacks=context.callbacks,
            has_responded_before=bool(progress.covered),
        ),
        sink=sink,
        targets=plan.targets,
        window=plan.window,
        covered=progress.covered,
        callbacks=context.callbacks,
        split_policy=SplitPolicy(),
        deadline_seconds=order.deadline_seconds,
        is_noting_empty=order.confirm_empty,
    )


async def _sweep(
    sweep: Fetcher, order: ExportOrder, plan: RunPlan, progress: FetchState, context: RunContext
) -> tuple[Gap, ...]:
    settled_until = floor_minute(context.clock.now()) - SETTLE_MINUTES

    def plan_again() -> dict[str, Iterator[Ask]]:  # once to count, once to ask
        return plan_regions(
            plan.targets,
            plan.window,
            max_minutes=order.max_window_days * MINUTES_PER_DAY,
            settled_until=settled_until,
            progress=progress,
        )

    context.callbacks.on_plan(plan.window, plan.targets, sum(1 for asks in plan_again().values() for _ in asks))
    try:
        gaps = await sweep.run(plan_again())
        if order.confirm_empty:
            gaps = await sweep.confirm_empty(sorted({*progress.empty, *sweep.empty}))
        return gaps
    except asyncio.CancelledError:
        if context.stop.signal_number is None:
            raise
        raise _explain_cancellation(sweep, plan, context.stop.signal_number) from None


def _open_spool(plan: RunPlan, workspace: Workspace, context: RunContext) -> tuple[Spool, FetchState]:
    def check_cancelled() -> None:
        context.stop.check("while what an earlier run had received was read; all of it is kept")

    recovered = open_spool(
        workspace.folder,
        plan_id=plan.id,
        asked_by=(context.credentials.principal, context.credentials.fingerprint),
        origins={target: number for number, target in enumerate(plan.targets)},
        at=_show_time(context.clock.now()),
        on_page=check_cancelled,
    )
    for notice in recovered.notices:
        context.callbacks.on_notice(notice)
    return recovered.spool, recovered.progress


def _make_writer(
    order: ExportOrder, plan: RunPlan, spool: Spool, context: RunContext, event_filter: EventFilter
) -> SpoolWriter:
    return SpoolWriter(
        spool,
        event_filter=event_filter,
        span=make_span(plan.event_window),
        tally=order.tally or ("event_type" if event_filter else None),
        listed_compartments=frozenset(plan.listed_compartments) if plan.listed_compartments else None,
        callbacks=context.callbacks,
    )


def _explain_cancellation(sweep: Fetcher, plan: RunPlan, signal_number: int) -> Interrupted:
    planned = plan.window.minutes * len(plan.targets)
    covered = sum(window.minutes for coverage in sweep.coverage.values() for window in coverage.windows)
    return Interrupted(
        f"interrupted with {covered / planned:.0%} of the plan's windows complete; everything received is kept",
        signal_number=signal_number,
    )


def _show_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class ExportResult:
    """How an export ended. `gaps` are those that count; waived ones are apart.

    `manifest` is what was stated. `digest` is the manifest's, None where none was written. `coverage` and
    `places` tell where was asked. `tally` counts names over all scanned events, where that was ordered.
    `was_complete_before`: nothing was asked, the output was there already. `policy` is the IAM statement that lets
    whoever asked read events.
    """

    manifest: Manifest
    digest: str | None
    output: Path | None
    manifest_path: Path | None
    gaps: tuple[Gap, ...] = ()
    waived: tuple[Gap, ...] = ()
    coverage: Mapping[Target, Coverage] = field(default_factory=dict)
    tally: Mapping[str, int] = field(default_factory=dict)
    was_complete_before: bool = False
    policy: str = ""

    @property
    def complete(self) -> bool:
        """Tell whether everything that was planned came back, or is waived."""
        return not self.gaps

    @property
    def events(self) -> int:
        """Return how many events were written."""
        return self.manifest.totals.written


def export_events(order: ExportOrder, context: RunContext) -> ExportResult:
    """Export, or go on with an export that was left.

    Raises:
        OciAuditError: the run could not be carried to its end; the class says by whose fault.
    """
    arguments = order.arguments
    time_range = resolve_times(arguments, now=context.clock.now())
    event_filter = EventFilter(arguments.whole_filter)
    check_scope(arguments, context.endpoints)
    if order.signing_key is not None:
        check_signing_key(order.signing_key)
    output = order.output
    if output is not None:
        output = output.with_name(expand_name(output.name, time_range.named_window))
    with open_workspace(
        output, manifest=order.manifest, may_discard=order.resume_options.restart or order.resume_options.is_script
    ) as workspace:
        window = time_range.window
        workspace = _drop_spent_run(order, workspace)  # noqa: PLW2901 - the one before is not used any more
        action = choose_action(arguments, workspace.left, order.resume_options, output=str(output), window=window)
        if action in {Action.NOTHING, Action.CLEAN_UP}:
            workspace.folder.remove()
            return _repeat_outcome(order, context, workspace)
        for notice in (*time_range.notices, *event_filter.notices):
            context.callbacks.on_notice(notice)
        if action is Action.BEGIN:
            if workspace.left.run is not None:
                context.callbacks.on_notice(f"an unfinished run in {workspace.folder.path} is thrown away")
            workspace = workspace.discard_previous()  # noqa: PLW2901 - as above
        elif not _is_relative(arguments):
            workspace = workspace.widen(window)  # noqa: PLW2901 - as above
        try:
            return _run(order, context, workspace, time_range)
        except Interrupted as error:
            if output is not None:
                raise
            raise Interrupted(
                "interrupted; what stdout has got is not the whole",
                signal_number=error.signal_number,
                hint="run the same command again; with -o FILE, an interrupted run goes on where it was",
            ) from error


def _drop_spent_run(order: ExportOrder, workspace: Workspace) -> Workspace:
    if is_run_spent(order.arguments, workspace.left, order.resume_options):
        return workspace.discard_previous()
    return workspace


def _run(order: ExportOrder, context: RunContext, workspace: Workspace, time_range: TimeRange) -> ExportResult:
    with contextlib.ExitStack() as stack:
        collected = collect_events(order, context, workspace, window=time_range.window, stack=stack)
        context.callbacks.on_publish(len(collected.spool.index))
        redactor = Redactor() if collected.plan.arguments.redact else None
        written, counts = _publish(context, workspace, collected, redactor)
        outcome = _conclude(
            context,
            workspace,
            collected,
            written,
            counts,
            redaction=_state_redaction(redactor),
            waived_targets=order.waived,
            signing_key=order.signing_key,
        )
    if outcome.complete and not (_is_repeatable(outcome) or time_range.is_clipped):
        workspace.folder.remove()
    return outcome


def _publish(
    context: RunContext, workspace: Workspace, collected: Collected, redactor: Redactor | None
) -> tuple[WrittenFile, MergeCounts]:
    """Write the events under their final name, or to stdout; their order is that of what was served."""
    plan = collected.plan
    output = workspace.output
    named = plan.event_window or plan.window
    with contextlib.ExitStack() as stack:
        reader = collected.spool.open_reader()
        stack.callback(reader.close)
        canonical = CanonicalReader(
            collected.spool.index,
            reader,
            start=instant_of_minute(named.start),
            end=instant_of_minute(named.end),
        )
        descriptor = stack.enter_context(new_file(output)) if output else context.stdout

        def check_cancelled() -> None:
            context.stop.check("while the output was written; everything received is kept")

        def write(data: bytes) -> None:
            check_cancelled()
            if output:
                write_all(descriptor, data, output)
            else:
                write_to_stdout(descriptor, data, check_cancelled)

        written = write_events(
            ((redactor.redact(raw), origin) for raw, origin in canonical) if redactor else canonical,
            locate=plan.targets.__getitem__,
            event_format=make_format(
                plan.arguments.format,
                EventShape(plan.arguments.shape, plan.arguments.with_origin),
                scratch=workspace.folder.path,
            ),
            compressor=make_compressor(plan.arguments.compress),
            write=write,
            on_written=context.callbacks.on_written,
        )
        if output:
            collected.spool.append_line(PublishLine(written.sha256, written.size_bytes))
            collected.spool.commit()
            if workspace.manifest_path:  # an earlier statement does not speak of the new file
                remove_file(workspace.manifest_path)
                remove_file(name_signature(workspace.manifest_path))
    return written, canonical.counts


def _conclude(
    context: RunContext,
    workspace: Workspace,
    collected: Collected,
    written: WrittenFile,
    counts: MergeCounts,
    *,
    redaction: Redaction | None,
    waived_targets: frozenset[str],
    signing_key: Path | None,
) -> ExportResult:
    """Write ledger and manifest, and say how it ended."""
    waived = tuple(gap for gap in collected.gaps if gap.kind == "denied" and gap.target.compartment in waived_targets)
    known = set(waived)
    gaps = tuple(gap for gap in collected.gaps if gap not in known)
    for compartment in sorted(waived_targets - {gap.target.compartment for gap in waived}):
        context.callbacks.on_notice(f"--waive {compartment} waives nothing: it was not denied")
    totals = LedgerTotals()
    ledger = write_ledger(workspace.folder, workspace.ledger_path, totals, written.blocks)
    manifest = make_manifest(
        ManifestFacts(
            plan=collected.plan,
            credentials=context.credentials,
            coverage=collected.coverage,
            gaps=gaps,
            waived=waived,
            counts=counts,
            totals=totals,
            output=FileEntry(workspace.output.name if workspace.output else "-", written.size_bytes, written.sha256),
            ledger=ledger,
            skew_seconds=collected.skew_seconds,
            finished_at=context.clock.now(),
            redaction=redaction,
        )
    )
    digest = _write_manifest(manifest, workspace.manifest_path, signing_key)
    return ExportResult(
        manifest=manifest,
        digest=digest,
        output=workspace.output,
        manifest_path=workspace.manifest_path,
        gaps=gaps,
        waived=waived,
        policy=_state_policy(context),
        coverage=collected.coverage,
        tally=Counter(totals.tally),
    )


def _state_redaction(redactor: Redactor | None) -> Redaction | None:
    return Redaction(redactor.events, dict(redactor.paths.most_common())) if redactor else None


def _write_manifest(manifest: Manifest, path: Path | None, signing_key: Path | None) -> str | None:
    """Write the manifest and, before it, its signature; return the digest it states."""
    if path is None:
        return None
    data, digest = encode_manifest(manifest)
    if signing_key is not None:
        sign_bytes(data, signing_key, name_signature(path))
    write_file(path, data)
    return digest


def _is_repeatable(outcome: ExportResult) -> bool:
    """Tell whether the same command would ask again for what was asked too soon."""
    return bool(outcome.manifest.provisional) and not _is_relative(outcome.manifest.arguments)


def _is_relative(arguments: ExportArguments) -> bool:
    return is_relative(arguments.start) or is_relative(arguments.end)


def _repeat_outcome(order: ExportOrder, context: RunContext, workspace: Workspace) -> ExportResult:
    """Return how a finished export ended, judged by the waivers of now; sign it, if that is new."""
    manifest, path = workspace.manifest, workspace.manifest_path
    if manifest is None or path is None:
        raise AssertionError("an output counts as finished only with its manifest")
    if order.signing_key is not None and not name_signature(path).exists():
        with explain_disk("read", path):
            sign_bytes(path.read_bytes(), order.signing_key, name_signature(path))
    gaps = tuple(_read_gap(entry) for entry in (*manifest.gaps, *manifest.waived_gaps))
    return ExportResult(
        manifest=manifest,
        digest=manifest.digest,
        output=workspace.output,
        manifest_path=path,
        gaps=tuple(gap for gap in gaps if gap.target.compartment not in order.waived),
        waived=tuple(gap for gap in gaps if gap.target.compartment in order.waived),
        was_complete_before=True,
        policy=_state_policy(context),
    )


def _state_policy(context: RunContext) -> str:
    return context.credentials.state_policy("read audit-events")


def _read_gap(entry: GapEntry) -> Gap:
    return Gap(entry.target, entry.window, entry.kind, entry.reason, entry.request_id)
