"""The main job: every audit event of a range, in one file, with the statement beside it.

Owns: the order of the steps. Each step is elsewhere: asking in `jobs.collect`, writing in `jobs.publish`,
stating in `jobs.statement`, what to do about leftovers in `jobs.rerun`.

Invariants
- Nothing is written before the arguments, the credentials and the leftovers have been checked.
- The output gets its name only when all of it is on stable storage; ledger and manifest come after it.
- The run directory goes last, and stays while anything is missing.
"""

from __future__ import annotations

import contextlib
import errno
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ociaudit.errors import DiskError
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import EventFilter
from ociaudit.events.shapes import choose_shape
from ociaudit.formats.compression import choose_compressor
from ociaudit.formats.json_array import JsonArray
from ociaudit.jobs.collect import Collected, collect_events
from ociaudit.jobs.order import ExportOrder, Tools
from ociaudit.jobs.publish import WrittenFile, write_events
from ociaudit.jobs.rerun import Action, choose_action
from ociaudit.jobs.scope import check_scope
from ociaudit.jobs.statement import Findings, make_manifest, write_ledger
from ociaudit.jobs.workspace import Workspace, open_workspace
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Gap, Place
from ociaudit.plan.time_range import expand_name, is_relative, resolve_range
from ociaudit.plan.window import Window
from ociaudit.store.canonical import CanonicalReader, MergeCounts
from ociaudit.store.durable import new_file, remove_file, write_all, write_file
from ociaudit.store.journal import PublishLine
from ociaudit.store.ledger import LedgerTotals
from ociaudit.store.manifest import FileEntry, Manifest, encode_manifest
from ociaudit.store.signature import check_signing_key, name_signature, sign_bytes


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an export ended. `gaps` are those that count; waived ones are apart.

    `manifest` is what was stated. `digest` is the manifest's, None where none was written. `coverage` and
    `places` tell where was asked. `tally` counts names over all scanned events, where that was ordered.
    `was_complete_before`: nothing was asked, the output was there already.
    """

    manifest: Manifest
    digest: str | None
    output: Path | None
    manifest_path: Path | None
    gaps: tuple[Gap, ...] = ()
    waived: tuple[Gap, ...] = ()
    coverage: Mapping[Place, Coverage] = field(default_factory=dict)
    tally: Mapping[str, int] = field(default_factory=dict)
    was_complete_before: bool = False

    @property
    def complete(self) -> bool:
        """Tell whether everything that was planned came back."""
        return self.manifest.complete

    @property
    def events(self) -> int:
        """Return how many events were written."""
        return self.manifest.totals.written


def export_events(order: ExportOrder, tools: Tools) -> Outcome:
    """Export, or go on with an export that was left.

    Raises:
        OciAuditError: the run could not be carried to its end; the class says by whose fault.
    """
    arguments = order.arguments
    time_range = resolve_range(arguments.start, arguments.end, now=tools.clock.now())
    EventFilter(arguments.event_types)
    check_scope(arguments, tools.endpoints)
    if order.signing_key is not None:
        check_signing_key(order.signing_key)
    output = order.output
    if output is not None:
        output = output.with_name(expand_name(output.name, time_range.window))
    with open_workspace(output, manifest=order.manifest, may_discard=order.rerun.restart) as workspace:
        action = choose_action(arguments, workspace.left, order.rerun, output=str(output))
        if action in {Action.NOTHING, Action.CLEAN_UP}:
            workspace.folder.remove()
            return _repeat_outcome(workspace)
        if action is Action.RESUME:
            return _run(order, tools, workspace, time_range.window)
        for notice in time_range.notices:
            tools.observer.on_notice(notice)
        return _run(order, tools, workspace.begin_anew(), time_range.window)


def _run(order: ExportOrder, tools: Tools, workspace: Workspace, window: Window) -> Outcome:
    with contextlib.ExitStack() as stack:
        collected = collect_events(order, tools, workspace, window=window, stack=stack)
        tools.observer.on_publish(len(collected.spool.index))
        written, counts = _publish(tools, workspace, collected)
        outcome = _conclude(
            tools, workspace, collected, written, counts, waived_places=order.waived, signing_key=order.signing_key
        )
    if _is_finished(outcome):
        workspace.folder.remove()
    return outcome


def _publish(tools: Tools, workspace: Workspace, collected: Collected) -> tuple[WrittenFile, MergeCounts]:
    """Write the events under their final name, or to stdout."""
    plan = collected.plan
    output = workspace.output
    with contextlib.ExitStack() as stack:
        reader = collected.spool.open_reader()
        stack.callback(reader.close)
        canonical = CanonicalReader(
            collected.spool.index,
            reader,
            start=instant_of_minute(plan.window.start),
            end=instant_of_minute(plan.window.end),
        )
        descriptor = stack.enter_context(new_file(output)) if output else tools.stdout

        def write(data: bytes) -> None:
            tools.stop.check("while the output was written; everything received is kept")
            _write_out(descriptor, data, output)

        written = write_events(
            canonical,
            reshape=None if plan.arguments.shape == "api" else choose_shape(plan.arguments.shape),
            event_format=JsonArray(),
            compressor=choose_compressor(output),
            write=write,
            on_written=tools.observer.on_written,
        )
        if output:
            collected.spool.append_line(PublishLine(written.sha256, written.size_bytes))
            collected.spool.commit()
            if workspace.manifest_path:  # an earlier statement does not speak of the new file
                remove_file(workspace.manifest_path)
                remove_file(name_signature(workspace.manifest_path))
    return written, canonical.counts


def _write_out(descriptor: int, data: bytes, output: Path | None) -> None:
    try:
        write_all(descriptor, data, output or Path("stdout"))
    except DiskError as error:
        cause = error.__cause__
        if output is None and isinstance(cause, OSError) and cause.errno in {errno.EPIPE, errno.EBADF}:
            raise DiskError(
                "stdout was closed before all events were written",
                hint="let the reader read to the end, or use -o FILE",
            ) from error
        raise


def _conclude(
    tools: Tools,
    workspace: Workspace,
    collected: Collected,
    written: WrittenFile,
    counts: MergeCounts,
    *,
    waived_places: frozenset[str],
    signing_key: Path | None,
) -> Outcome:
    """Write ledger and manifest, and say how it ended."""
    waived = tuple(gap for gap in collected.gaps if gap.kind == "denied" and gap.place.compartment in waived_places)
    gaps = tuple(gap for gap in collected.gaps if gap not in waived)
    totals = LedgerTotals()
    ledger = write_ledger(workspace.folder, workspace.ledger_path, totals, written.blocks)
    manifest = make_manifest(
        Findings(
            plan=collected.plan,
            credentials=tools.credentials,
            coverage=collected.coverage,
            gaps=gaps,
            waived=waived,
            counts=counts,
            totals=totals,
            output=FileEntry(workspace.output.name if workspace.output else "-", written.size_bytes, written.sha256),
            ledger=ledger,
            skew_seconds=collected.skew_seconds,
            finished_at=tools.clock.now(),
        )
    )
    digest = _write_manifest(manifest, workspace.manifest_path, signing_key)
    return Outcome(
        manifest=manifest,
        digest=digest,
        output=workspace.output,
        manifest_path=workspace.manifest_path,
        gaps=gaps,
        waived=waived,
        coverage=collected.coverage,
        tally=Counter(totals.tally),
    )


def _write_manifest(manifest: Manifest, path: Path | None, signing_key: Path | None) -> str | None:
    """Write the manifest and, before it, its signature; return the digest it states."""
    if path is None:
        return None
    data, digest = encode_manifest(manifest)
    if signing_key is not None:
        sign_bytes(data, signing_key, name_signature(path))
    write_file(path, data)
    return digest


def _is_finished(outcome: Outcome) -> bool:
    """Tell whether nothing is left that the same command could still ask for."""
    arguments = outcome.manifest.arguments
    is_repeatable = not (is_relative(arguments.start) or is_relative(arguments.end))
    return outcome.complete and not (outcome.manifest.provisional and is_repeatable)


def _repeat_outcome(workspace: Workspace) -> Outcome:
    manifest = workspace.manifest
    if manifest is None:
        raise AssertionError("an output counts as finished only with its manifest")
    return Outcome(
        manifest=manifest,
        digest=manifest.digest,
        output=workspace.output,
        manifest_path=workspace.manifest_path,
        was_complete_before=True,
    )
