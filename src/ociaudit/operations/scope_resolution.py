"""The scope of a run, resolved once at its start: from options as typed to a plan of targets and a window.

Invariants
- A listing that cannot be read stops the run; it never narrows the scope.
- A region that the tenancy has not subscribed to is rejected before the first request for events. Only where the
  subscriptions may not be read are regions taken as named, with a notice.
- Compartments are not listed where exactly the OCIDs named are requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime

import msgspec

from ociaudit.client.identity import explain_rejection
from ociaudit.client.network import Endpoints
from ociaudit.errors import RequestError, ScopeUnreadable, ServiceError, UsageError
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import TimeSpan
from ociaudit.operations.context import Callbacks, Service
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
from ociaudit.planning.shard import MINUTES_PER_DAY, SETTLE_MINUTES, Window, floor_minute, format_minute, format_second
from ociaudit.planning.time_range import TimeRange, resolve_event_range, resolve_range
from ociaudit.storage.run_dir import ExportArguments, RunPlan, identify_plan


def settled_until(now: datetime) -> int:
    """Return the minute before which windows requested at `now` are settled; what ends later is provisional."""
    return floor_minute(now) - SETTLE_MINUTES


def resolve_times(arguments: ExportArguments, *, now: datetime) -> TimeRange:
    """Return what the times as typed mean at `now`. Called once per run: later, relative times mean something else.

    Raises:
        UsageError: they cannot be read, or the range is empty.
    """
    if arguments.time_basis == "event-time":
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
