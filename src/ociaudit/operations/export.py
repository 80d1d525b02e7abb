"""An export: every audit event of a range in one file, with the manifest beside it.

The steps: resolve the range once, lock and inspect the run directory, decide (begin, resume, nothing to do), resolve
the scope, fetch every missing shard into the spool, merge the spool into the output, write ledger and manifest.

Invariants
- Nothing is written before the options, the credentials and what an earlier run left have been checked.
- The plan is on disk before the first request for events.
- A cancellation ends the requests immediately and keeps every page that has arrived.
- The output gets its name when all of it is on stable storage; ledger and manifest follow. The run directory is removed
  last, and stays while anything is missing.
- An output of a store is an output of a work folder first. It is uploaded under the lock of its run directory, and the
  local files go when all of it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from ociaudit.client.object_storage import ObjectUrl
from ociaudit.errors import Interrupted, OciAuditError, UsageError, format_count
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter
from ociaudit.events.redaction import Redactor
from ociaudit.formats.base import EventEncoder
from ociaudit.formats.compression import make_compressor
from ociaudit.formats.registry import make_format
from ociaudit.operations.context import (
    Callbacks,
    ExportOptions,
    RunContext,
    Service,
    check_scope,
    connect,
    make_plan,
    make_span,
    resolve_times,
    resolve_waivers,
    run_async,
    run_cancellable,
    settled_until,
    warn_about_range,
)
from ociaudit.operations.fetcher import Fetcher, GapTracker, SpoolWriter
from ociaudit.operations.publish import (
    ManifestFacts,
    RemoteOutput,
    WrittenFile,
    make_manifest,
    open_output_target,
    write_events,
    write_ledger,
)
from ociaudit.operations.resume import (
    Action,
    ResumeOptions,
    Workspace,
    choose_action,
    choose_leftover,
    find_leftovers,
    has_relative_range,
    is_run_spent,
    name_repetition,
    open_workspace,
    resolve_run_path,
)
from ociaudit.planning.planner import FetchState, PlannedShard, SplitPolicy, plan_regions
from ociaudit.planning.scope import has_compartment
from ociaudit.planning.shard import MINUTES_PER_DAY, Coverage, Gap, Target, Window, format_second
from ociaudit.planning.time_range import TimeRange, expand_name
from ociaudit.storage.atomic_io import explain_disk, remove_file, write_file
from ociaudit.storage.journal import GapLine, PublishLine
from ociaudit.storage.ledger import LedgerTotals, OriginRecorder
from ociaudit.storage.manifest import (
    FileEntry,
    Manifest,
    Redaction,
    check_signing_key,
    encode_manifest,
    make_gap_entry,
    name_manifest,
    name_signature,
    sign_bytes,
)
from ociaudit.storage.merge import CanonicalReader, MergeCounts
from ociaudit.storage.run_dir import EventSource, ExportArguments, RunPlan
from ociaudit.storage.spool import Spool, open_spool
from ociaudit.storage.verdict import Verdict, judge

_LEFTOVERS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ExportResult:
    """How an export ended. `gaps` are those that count; the waived ones are apart.

    `digest` is the manifest's, None where no manifest was written. `tally` counts names over all scanned events, where
    the options request that. `was_complete_before`: the output existed already, and nothing was requested. `policy` is
    the IAM statement that lets these credentials read audit events. `url` is where the output went, if not to a file.
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
    nearest_values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values nearest to those of a filter that no event matched, by the name of the condition."""
    url: ObjectUrl | None = None

    @property
    def shown_output(self) -> str | None:
        """Return the output's path or URL; None for stdout."""
        return str(self.url or self.output) if self.url or self.output else None

    @property
    def shown_manifest(self) -> str | None:
        """Return the manifest's path or URL; None where there is none."""
        if self.url is not None:
            return str(self.url.beside(name_manifest(Path(self.url.file_name)).name))
        return str(self.manifest_path) if self.manifest_path else None

    def __repr__(self) -> str:
        """Return the facts in one line; the manifest and the coverage would fill pages."""
        return (
            f"{type(self).__name__}(output={self.shown_output!r}, events={self.events}, "
            f"gaps={len(self.gaps)}, waived={len(self.waived)})"
        )

    @property
    def verdict(self) -> Verdict:
        """Return the verdict, by the waivers of this call: with its qualifiers, its exit code and `is_final`."""
        return judge(
            msgspec.structs.replace(
                self.manifest,
                complete=not self.gaps,
                gaps=tuple(map(make_gap_entry, self.gaps)),
                waived_gaps=tuple(map(make_gap_entry, self.waived)),
            )
        )

    @property
    def complete(self) -> bool:
        """Return whether everything that was planned came back or is waived."""
        return not self.gaps

    @property
    def events(self) -> int:
        """Return the number of events written."""
        return self.manifest.totals.written


@dataclass(frozen=True, slots=True)
class _Request:
    """What is requested, and what its times and its filter mean now."""

    arguments: ExportArguments
    time_range: TimeRange
    event_filter: EventFilter


def export_events(options: ExportOptions, context: RunContext) -> ExportResult:
    """Export, or resume the unfinished export of the same request.

    Raises:
        OciAuditError: the export could not be finished; the class says why.
    """
    now = context.clock.now()
    arguments = options.to_arguments(context.credentials, now=now)
    time_range = resolve_times(arguments, now=now)
    request = _Request(arguments, time_range, EventFilter(arguments.whole_filter))
    check_scope(arguments, context.endpoints)
    if options.signing_key is not None:
        check_signing_key(options.signing_key)
    output, manifest = _name_files(options, arguments, time_range, context.callbacks)
    may_discard = options.resume.restart or options.resume.is_script
    if options.url is not None and output is not None:
        with open_workspace(output, manifest=manifest, may_discard=True):
            RemoteOutput(options.url.beside(output.name), output, context).finish_clean_up()
    with open_workspace(output, manifest=manifest, may_discard=may_discard) as workspace:
        try:
            if options.url is None or output is None:
                return _export(options, context, request, workspace)
            remote = RemoteOutput(options.url.beside(output.name), output, context)
            return _export_to_object(options, context, request, workspace, remote)
        except OciAuditError as error:
            if _is_kept(options, workspace):
                error.repeat_with(name_repetition(arguments, options.resume))
            raise


def _is_kept(options: ExportOptions, workspace: Workspace) -> bool:
    """Return whether there is something that a later command can continue: a run, or an output to upload."""
    if workspace.output is None:
        return False
    return workspace.folder.plan_path.exists() or (options.url is not None and workspace.output.exists())


def _export_to_object(
    options: ExportOptions, context: RunContext, request: _Request, workspace: Workspace, remote: RemoteOutput
) -> ExportResult:
    """Export into the locked workspace in the work folder, and upload."""
    arguments, time_range = request.arguments, request.time_range
    finished = remote.find_finished()
    if finished is not None and _is_same_request(finished, arguments, time_range) and not options.resume.overwrite:
        return replace(_repeat_result(options, context, workspace, manifest=finished), url=remote.url)
    remote.check(may_overwrite=options.resume.overwrite)
    remote.begin()
    if _is_upload_left(arguments, workspace, remote, options.resume):
        result = _repeat_result(options, context, workspace, manifest=workspace.manifest)
    else:
        # The option is about the object; what is in the work folder is our own, unless it is another request's.
        is_other = workspace.previous.finished not in {None, arguments}
        resume = replace(options.resume, overwrite=options.resume.overwrite and is_other)
        result = _export(replace(options, resume=resume), context, request, workspace)
    remote.publish(result.manifest.output.sha256)
    if not workspace.folder.plan_path.exists():
        remote.clean_up()
    return replace(result, url=remote.url)


def _is_upload_left(
    arguments: ExportArguments, workspace: Workspace, remote: RemoteOutput, options: ResumeOptions
) -> bool:
    """Return whether an output of a relative range is whole in the work folder, and is to be uploaded as it is.

    Raises:
        UsageError: no option says whether that one or the present range is wanted.
    """
    previous = workspace.previous
    is_whole = remote.is_pending and previous.finished == arguments and previous.run is None
    if not is_whole or not has_relative_range(arguments):
        return False
    if options.restart:
        remote.clean_up()
        remote.begin()
        return False
    if not options.resume:
        raise UsageError(
            f"an export over {previous.finished_window} is whole in {workspace.output}, and its upload was not "
            f"finished; {arguments.start!r} to {arguments.end!r} now means another range",
            hint="--resume uploads it, --restart discards it and begins with the present range",
        )
    return True


def _is_same_request(manifest: Manifest, arguments: ExportArguments, time_range: TimeRange) -> bool:
    """Return whether a finished export is what is requested now, and nothing is left to request."""
    is_same = manifest.arguments == arguments and not has_relative_range(arguments)
    return is_same and manifest.window == time_range.window and manifest.complete and not manifest.provisional


def _export(options: ExportOptions, context: RunContext, request: _Request, workspace: Workspace) -> ExportResult:
    """Export into a locked workspace, or resume the run that is there."""
    arguments, time_range, event_filter = request.arguments, request.time_range, request.event_filter
    output = workspace.output
    if is_run_spent(arguments, workspace.previous, options.resume):
        workspace = workspace.discard_previous()  # the directory is the same, its run is gone
    action = choose_action(arguments, workspace.previous, options.resume, output=str(output), window=time_range.window)
    if action in {Action.NOTHING, Action.CLEAN_UP}:
        workspace.folder.remove()
        return _repeat_result(options, context, workspace, manifest=workspace.manifest)
    for notice in (*time_range.notices, *event_filter.notices):
        context.callbacks.on_notice(notice)
    if action is Action.BEGIN:
        if workspace.previous.run is not None:
            context.callbacks.on_notice(f"discarding the unfinished run in {workspace.folder.path}")
        workspace = workspace.discard_previous()
    elif not has_relative_range(arguments):
        workspace = workspace.widen(time_range.window)
    with contextlib.nullcontext() if output else _stdout_interruptions_explained():
        try:
            return _Export(options, context, arguments, time_range, event_filter, workspace).run()
        finally:
            size_bytes = workspace.folder.measure() if output else 0
            if size_bytes:
                context.callbacks.on_kept(workspace.folder.path, size_bytes)


def _name_files(
    options: ExportOptions, arguments: ExportArguments, time_range: TimeRange, callbacks: Callbacks
) -> tuple[Path | None, Path | None]:
    """Return output and manifest, named after the range; with `--resume` after that of the run to resume.

    Other unfinished runs of the same pattern are reported: no later command would meet them.

    Raises:
        UsageError: more than one run could be resumed.
    """
    pattern, window, typed_end = options.output, time_range.named_window, time_range.typed_end
    if pattern is None:
        return None, _fill_in(options.manifest, window, typed_end)
    output = pattern.with_name(expand_name(pattern.name, window, typed_end=typed_end))
    leftovers = find_leftovers(pattern, output, arguments) if output != pattern else ()
    resumed = None
    if options.resume.resume and not resolve_run_path(output).exists():
        resumed = choose_leftover(leftovers, arguments)
    if resumed is not None and resumed.plan is not None:
        output, window = resumed.output, resumed.plan.event_window or resumed.plan.window
    others = [one for one in leftovers if one is not resumed]
    for leftover in others[:_LEFTOVERS_SHOWN]:
        callbacks.on_notice(str(leftover))
    if len(others) > _LEFTOVERS_SHOWN:
        callbacks.on_notice(f"and {format_count(len(others) - _LEFTOVERS_SHOWN, 'more such run')}")
    return output, _fill_in(options.manifest, window, typed_end)


def _fill_in(path: Path | None, window: Window, typed_end: int | None) -> Path | None:
    return path.with_name(expand_name(path.name, window, typed_end=typed_end)) if path is not None else None


@contextlib.contextmanager
def _stdout_interruptions_explained() -> Iterator[None]:
    try:
        yield
    except Interrupted as error:
        raise Interrupted(
            "interrupted; what was written to stdout is not complete",
            signal_number=error.signal_number,
            hint="run the same command again; with -o FILE, an interrupted export can be resumed",
        ) from error


@dataclass(frozen=True, slots=True)
class _Fetched:
    """A run whose shards have all been requested. The spool is open."""

    plan: RunPlan
    spool: Spool
    coverage: Mapping[Target, Coverage]
    gaps: tuple[Gap, ...]
    skew_seconds: float | None


@dataclass(frozen=True, slots=True)
class _Export:
    """One export that has been decided on: fetch, publish, conclude."""

    options: ExportOptions
    context: RunContext
    arguments: ExportArguments
    time_range: TimeRange
    event_filter: EventFilter
    workspace: Workspace

    def run(self) -> ExportResult:
        with contextlib.ExitStack() as stack:
            cancellation, moment = self.context.cancellation, "before the first event was requested"
            fetched = run_async(lambda: run_cancellable(self._fetch(stack), cancellation, moment))
            self.context.callbacks.on_publish(len(fetched.spool.index))
            redactor = Redactor() if fetched.plan.arguments.redact else None
            origins = OriginRecorder()
            written, counts = self._publish(fetched, redactor, origins)
            result = self._conclude(fetched, written, counts, redactor, origins)
        if result.complete and not (_may_be_requested_again(result) or self.time_range.is_clipped):
            self.workspace.folder.remove()
        return result

    async def _fetch(self, stack: contextlib.ExitStack) -> _Fetched:
        """Fetch everything that is missing; `stack` will close the spool."""
        context = self.context
        async with connect(context, parse=self.event_filter.parse_page) as service:
            plan = self.workspace.plan or await self._make_plan(service)
            waived = resolve_waivers(self.options.waived, plan.listed_compartments)
            context.callbacks.on_scope(plan.listed_compartments or {}, waived)
            warn_about_range(plan, now=context.clock.now(), notify=context.callbacks.on_notice)
            spool, state = self._open_spool(plan)
            stack.enter_context(spool)
            writer = SpoolWriter(
                spool,
                event_filter=self.event_filter,
                span=make_span(plan.event_window),
                tally=self.options.counted_name or ("event_type" if self.event_filter else None),
                listed_compartments=frozenset(plan.listed_compartments) if plan.listed_compartments else None,
                callbacks=context.callbacks,
            )
            fetcher = self._make_fetcher(plan, state, service, writer)
            try:
                gaps = await self._run_fetcher(fetcher, plan, state)
            finally:
                await writer.close()
            for gap in gaps:
                spool.append_line(GapLine(gap, format_second(context.clock.now())))
            spool.commit()
            return _Fetched(plan, spool, fetcher.coverage, gaps, service.transport.skew_seconds)

    async def _make_plan(self, service: Service) -> RunPlan:
        resume = self.options.resume
        plan = await make_plan(
            self.arguments,
            window=self.time_range.window,
            event_window=self.time_range.event_window,
            service=service,
            now=self.context.clock.now(),
            may_replace=resume.overwrite or resume.is_script or self.workspace.previous.output_exists,
            callbacks=self.context.callbacks,
            waived=self.options.waived,
        )
        self.workspace.folder.write_plan(plan)
        return plan

    def _open_spool(self, plan: RunPlan) -> tuple[Spool, FetchState]:
        context = self.context

        def check_cancelled() -> None:
            context.cancellation.check("while reading what an earlier run had received; all of it is kept")

        recovered = open_spool(
            self.workspace.folder,
            plan_id=plan.id,
            asked_by=(context.credentials.principal, context.credentials.fingerprint),
            origins={target: number for number, target in enumerate(plan.targets)},
            at=format_second(context.clock.now()),
            on_page=check_cancelled,
        )
        for notice in recovered.notices:
            context.callbacks.on_notice(notice)
        return recovered.spool, recovered.progress

    def _make_fetcher(self, plan: RunPlan, state: FetchState, service: Service, writer: SpoolWriter) -> Fetcher:
        return Fetcher(
            audit=service.choose_reader(plan.arguments.source),
            rate_limiter=service.rate_limiter,
            gap_tracker=GapTracker(
                identity=service.identity,
                credentials=service.credentials,
                callbacks=self.context.callbacks,
                has_responded_before=bool(state.covered),
            ),
            handler=writer,
            targets=plan.targets,
            window=plan.window,
            covered=state.covered,
            callbacks=self.context.callbacks,
            split_policy=SplitPolicy(),
            deadline_seconds=self.options.deadline_seconds,
            records_empty=self.options.confirm_empty,
        )

    async def _run_fetcher(self, fetcher: Fetcher, plan: RunPlan, state: FetchState) -> tuple[Gap, ...]:
        context = self.context
        settled = settled_until(context.clock.now())

        def plan_shards() -> dict[str, Iterator[PlannedShard]]:  # called twice: to count, and to fetch
            return plan_regions(
                plan.targets,
                plan.window,
                max_minutes=self.options.max_window_days * MINUTES_PER_DAY,
                settled_until=settled,
                progress=state,
            )

        context.callbacks.on_plan(
            plan.window, plan.targets, sum(1 for shards in plan_shards().values() for _ in shards)
        )
        try:
            gaps = await fetcher.run(plan_shards())
            if self.options.confirm_empty:
                gaps = await fetcher.confirm_empty(sorted({*state.empty, *fetcher.empty}))
        except asyncio.CancelledError:
            if context.cancellation.signal_number is None:
                raise
            raise _explain_cancellation(fetcher, plan, context.cancellation.signal_number) from None
        return gaps

    def _publish(
        self, fetched: _Fetched, redactor: Redactor | None, origins: OriginRecorder
    ) -> tuple[WrittenFile, MergeCounts]:
        """Merge the spool into the output; the order is that of the events as served, redacted or not."""
        plan, output = fetched.plan, self.workspace.output
        named = plan.event_window or plan.window

        def check_cancelled() -> None:
            self.context.cancellation.check("while writing the output; everything received is kept")

        with (
            contextlib.closing(fetched.spool.open_reader()) as reader,
            open_output_target(
                output,
                stdout=self.context.stdout,
                check_cancelled=check_cancelled,
                may_replace=plan.may_replace or output in self.workspace.existing,
            ) as write,
        ):
            canonical = CanonicalReader(
                fetched.spool.index, reader, start=instant_of_minute(named.start), end=instant_of_minute(named.end)
            )
            written = write_events(
                ((redactor.redact(raw), origin) for raw, origin in canonical) if redactor else canonical,
                locate=plan.targets.__getitem__,
                event_format=make_format(
                    plan.arguments.format,
                    EventEncoder(plan.arguments.shape, plan.arguments.with_origin),
                    scratch=self.workspace.folder.path,
                ),
                compressor=make_compressor(plan.arguments.compress),
                write=write,
                on_written=self.context.callbacks.on_written,
                on_origins=origins.add,
            )
            if output:
                if not plan.may_replace:
                    self.workspace.reject_appeared()
                fetched.spool.append_line(PublishLine(written.sha256, written.size_bytes))
                fetched.spool.commit()
                if self.workspace.manifest_path:  # an earlier manifest does not describe the new file
                    remove_file(self.workspace.manifest_path)
                    remove_file(name_signature(self.workspace.manifest_path))
        return written, canonical.counts

    def _conclude(
        self,
        fetched: _Fetched,
        written: WrittenFile,
        counts: MergeCounts,
        redactor: Redactor | None,
        origins: OriginRecorder,
    ) -> ExportResult:
        """Write ledger and manifest, and return how the export ended."""
        context, workspace = self.context, self.workspace
        gaps, waived = self._split_waived(fetched)
        totals = LedgerTotals()
        ledger = write_ledger(workspace.folder, workspace.ledger_path, totals, (*written.blocks, *origins.finish()))
        manifest = make_manifest(
            ManifestFacts(
                plan=fetched.plan,
                credentials=context.credentials,
                coverage=fetched.coverage,
                gaps=gaps,
                waived=waived,
                counts=counts,
                totals=totals,
                output=FileEntry(
                    workspace.output.name if workspace.output else "-", written.size_bytes, written.sha256
                ),
                ledger=ledger,
                skew_seconds=fetched.skew_seconds,
                finished_at=context.clock.now(),
                redaction=Redaction(redactor.events, dict(redactor.paths.most_common())) if redactor else None,
            )
        )
        return ExportResult(
            manifest=manifest,
            digest=_write_manifest(manifest, workspace.manifest_path, self.options.signing_key),
            output=workspace.output,
            manifest_path=workspace.manifest_path,
            gaps=gaps,
            waived=waived,
            policy=_get_policy(context, self.arguments.source),
            coverage=fetched.coverage,
            tally=Counter(totals.tally),
            nearest_values=self.event_filter.suggest_values(),
        )

    def _split_waived(self, fetched: _Fetched) -> tuple[tuple[Gap, ...], tuple[Gap, ...]]:
        """Return the gaps that count and the waived ones; report waivers that waive nothing."""
        found, listed = fetched.gaps, fetched.plan.listed_compartments
        waivers = {text: resolve_waivers([text], listed) for text in self.options.waived}
        compartments = frozenset[str]().union(*waivers.values())
        waived = tuple(gap for gap in found if _is_waived(gap, compartments))
        used = {gap.target.compartment for gap in waived}
        in_scope = {target.compartment for target in fetched.plan.targets}
        for text, meant in sorted(waivers.items()):
            if listed is not None and not meant <= listed.keys():
                reason = "the tenancy lists no such compartment"
            elif not meant & in_scope:
                reason = "it is not in the scope of this export"
            else:
                reason = "access was not denied"
            if not meant & used:
                self.context.callbacks.on_notice(f"--waive {text} has no effect: {reason}")
        known = set(waived)
        return tuple(gap for gap in found if gap not in known), waived


def _explain_cancellation(fetcher: Fetcher, plan: RunPlan, signal_number: int) -> Interrupted:
    planned = plan.window.minutes * len(plan.targets)
    covered = sum(window.minutes for coverage in fetcher.coverage.values() for window in coverage.windows)
    return Interrupted(
        f"interrupted with {covered / planned:.0%} of the plan's windows complete; everything received is kept",
        signal_number=signal_number,
    )


def _write_manifest(manifest: Manifest, path: Path | None, signing_key: Path | None) -> str | None:
    """Write the signature, if any, then the manifest, and return the manifest's digest."""
    if path is None:
        return None
    data, digest = encode_manifest(manifest)
    if signing_key is not None:
        sign_bytes(data, signing_key, name_signature(path))
    write_file(path, data)
    return digest


def _may_be_requested_again(result: ExportResult) -> bool:
    """Return whether the same command would request provisional windows again."""
    return bool(result.manifest.provisional) and not has_relative_range(result.manifest.arguments)


def _repeat_result(
    options: ExportOptions, context: RunContext, workspace: Workspace, *, manifest: Manifest | None
) -> ExportResult:
    """Return how a finished export ended, by the present waivers; sign a manifest that is here if that is new."""
    path = workspace.manifest_path
    if manifest is None or path is None:
        raise AssertionError("an output counts as finished only with its manifest")
    if options.signing_key is not None and path.exists() and not name_signature(path).exists():
        with explain_disk("read", path):
            sign_bytes(path.read_bytes(), options.signing_key, name_signature(path))
    gaps = tuple(entry.gap for entry in (*manifest.gaps, *manifest.waived_gaps))
    paths = manifest.scope.compartment_paths  # those of the scope; others cannot have gaps
    known = [text for text in options.waived if not paths or has_compartment(text, paths)]
    for text in sorted(options.waived.difference(known)):
        context.callbacks.on_notice(f"--waive {text} has no effect: the export does not cover such a compartment")
    waived = resolve_waivers(known, paths or None)
    return ExportResult(
        manifest=manifest,
        digest=manifest.digest,
        output=workspace.output,
        manifest_path=path,
        gaps=tuple(gap for gap in gaps if not _is_waived(gap, waived)),
        waived=tuple(gap for gap in gaps if _is_waived(gap, waived)),
        was_complete_before=True,
        policy=_get_policy(context, options.source),
    )


def _is_waived(gap: Gap, compartments: frozenset[str]) -> bool:
    return gap.kind == "denied" and gap.target.compartment in compartments


def _get_policy(context: RunContext, source: EventSource) -> str:
    return context.credentials.format_policy("read log-content" if source == "logging-search" else "read audit-events")
