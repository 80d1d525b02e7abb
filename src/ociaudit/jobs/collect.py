"""From a request to a spool that holds all its answers.

Owns: the asynchronous half of an export: connect, plan, sweep. Must not: publish.

Invariants
- The plan is on the disk before the first event is asked for.
- A stop asked for from outside ends the questions at once and keeps every page that has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from ociaudit.errors import Interrupted
from ociaudit.events.filters import EventFilter
from ociaudit.jobs.gap_book import GapBook
from ociaudit.jobs.order import ExportOrder, Tools
from ociaudit.jobs.scope import SETTLE_MINUTES, make_plan, make_span, resolve_times, warn_about_range
from ociaudit.jobs.service import Service, connect
from ociaudit.jobs.spool_sink import SpoolSink
from ociaudit.jobs.sweep import Sweep
from ociaudit.jobs.workspace import Workspace
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.density import CutPolicy
from ociaudit.plan.planner import Ask, Progress, plan_regions
from ociaudit.plan.shard import Gap, Place
from ociaudit.plan.window import MINUTES_PER_DAY, Window, floor_minute
from ociaudit.store.journal import GapLine
from ociaudit.store.recovery import open_spool
from ociaudit.store.run_folder import RunPlan
from ociaudit.store.spool import Spool


@dataclass(frozen=True, slots=True)
class Collected:
    """A run whose every question has been asked. The spool is open."""

    plan: RunPlan
    spool: Spool
    coverage: Mapping[Place, Coverage]
    gaps: tuple[Gap, ...]
    skew_seconds: float | None


def collect_events(
    order: ExportOrder, tools: Tools, workspace: Workspace, *, window: Window, stack: contextlib.ExitStack
) -> Collected:
    """Ask for everything that is missing and return the open spool, which `stack` will close.

    Raises:
        Interrupted: a stop was asked for; the run can be resumed.
        OciAuditError: what stops a run, see `jobs.scope` and `jobs.sweep`.
    """

    def run() -> Collected:
        return asyncio.run(_collect_until_stopped(order, tools, workspace, window, stack))

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run()
    # Called from within a loop, as in a notebook: that one is blocked, ours runs in a thread of its own.
    with ThreadPoolExecutor(1, thread_name_prefix="ociaudit-export") as thread:
        return thread.submit(run).result()


async def _collect_until_stopped(
    order: ExportOrder, tools: Tools, workspace: Workspace, window: Window, stack: contextlib.ExitStack
) -> Collected:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(_collect(order, tools, workspace, window, stack))
    tools.stop.attach(lambda: loop.call_soon_threadsafe(task.cancel))
    try:
        return await task
    except asyncio.CancelledError:
        tools.stop.check("before the first event was asked for")
        raise
    finally:
        tools.stop.attach(None)


async def _collect(
    order: ExportOrder, tools: Tools, workspace: Workspace, window: Window, stack: contextlib.ExitStack
) -> Collected:
    event_filter = EventFilter(order.arguments.whole_filter)
    async with connect(tools, cut=event_filter.cut_page) as service:
        plan = workspace.plan
        if plan is None:
            plan = await make_plan(
                order.arguments,
                window=window,
                event_window=resolve_times(order.arguments, now=tools.clock.now()).event_window,
                service=service,
                now=tools.clock.now(),
                may_replace=order.rerun.overwrite or order.rerun.is_script or workspace.left.output_exists,
                observer=tools.observer,
            )
            workspace.folder.write_plan(plan)
        warn_about_range(plan, now=tools.clock.now(), notify=tools.observer.on_notice)
        spool, progress = _open_spool(plan, workspace, tools)
        stack.enter_context(spool)
        sink = _make_sink(order, plan, spool, tools, event_filter)
        sweep = _make_sweep(order, plan, progress, service, sink, tools)
        try:
            gaps = await _sweep(sweep, order, plan, progress, tools)
        finally:
            await sink.close()
        for gap in gaps:
            spool.append_line(GapLine(gap, _show_time(tools.clock.now())))
        spool.commit()
        return Collected(plan, spool, sweep.coverage, gaps, service.transport.skew_seconds)


def _make_sweep(  # noqa: PLR0917 - the collaborators of a sweep, each once
    order: ExportOrder, plan: RunPlan, progress: Progress, service: Service, sink: SpoolSink, tools: Tools
) -> Sweep:
    return Sweep(
        audit=service.audit,
        gate=service.gate,
        gap_book=GapBook(
            identity=service.identity,
            credentials=service.credentials,
            observer=tools.observer,
            has_answered_before=bool(progress.covered),
        ),
        sink=sink,
        places=plan.places,
        window=plan.window,
        covered=progress.covered,
        observer=tools.observer,
        cut_policy=CutPolicy(),
        deadline_seconds=order.deadline_seconds,
        is_noting_empty=order.confirm_empty,
    )


async def _sweep(sweep: Sweep, order: ExportOrder, plan: RunPlan, progress: Progress, tools: Tools) -> tuple[Gap, ...]:
    settled_until = floor_minute(tools.clock.now()) - SETTLE_MINUTES

    def plan_again() -> dict[str, Iterator[Ask]]:  # once to count, once to ask
        return plan_regions(
            plan.places,
            plan.window,
            max_minutes=order.max_window_days * MINUTES_PER_DAY,
            settled_until=settled_until,
            progress=progress,
        )

    tools.observer.on_plan(plan.window, plan.places, sum(1 for asks in plan_again().values() for _ in asks))
    try:
        gaps = await sweep.run(plan_again())
        if order.confirm_empty:
            gaps = await sweep.confirm_empty(sorted({*progress.empty, *sweep.empty}))
        return gaps
    except asyncio.CancelledError:
        if tools.stop.signal_number is None:
            raise
        raise _explain_stop(sweep, plan, tools.stop.signal_number) from None


def _open_spool(plan: RunPlan, workspace: Workspace, tools: Tools) -> tuple[Spool, Progress]:
    def check_stop() -> None:
        tools.stop.check("while what an earlier run had received was read; all of it is kept")

    recovered = open_spool(
        workspace.folder,
        plan_id=plan.id,
        asked_by=(tools.credentials.principal, tools.credentials.fingerprint),
        origins={place: number for number, place in enumerate(plan.places)},
        at=_show_time(tools.clock.now()),
        on_page=check_stop,
    )
    for notice in recovered.notices:
        tools.observer.on_notice(notice)
    return recovered.spool, recovered.progress


def _make_sink(order: ExportOrder, plan: RunPlan, spool: Spool, tools: Tools, event_filter: EventFilter) -> SpoolSink:
    return SpoolSink(
        spool,
        event_filter=event_filter,
        span=make_span(plan.event_window),
        tally=order.tally or ("event_type" if event_filter else None),
        listed_compartments=frozenset(plan.listed_compartments) if plan.listed_compartments else None,
        observer=tools.observer,
    )


def _explain_stop(sweep: Sweep, plan: RunPlan, signal_number: int) -> Interrupted:
    planned = plan.window.minutes * len(plan.places)
    covered = sum(window.minutes for coverage in sweep.coverage.values() for window in coverage.windows)
    return Interrupted(
        f"interrupted with {covered / planned:.0%} of the plan's windows complete; everything received is kept",
        signal_number=signal_number,
    )


def _show_time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
