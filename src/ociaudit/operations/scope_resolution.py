"""The scope of a run, resolved once at its start: from options as typed to a plan of targets and a window.

Invariants
- A listing that cannot be read stops the run; it never narrows the scope.
- Regions or compartments that are named are not listed where the listing is not needed.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import msgspec

from ociaudit.client.identity import explain_rejection
from ociaudit.client.network import Endpoints
from ociaudit.errors import RequestError, ServiceError
from ociaudit.events.fields import instant_of_minute
from ociaudit.events.filters import TimeSpan
from ociaudit.operations.context import Callbacks, Service
from ociaudit.planning.scope import check_ocid, choose_compartments, choose_regions, make_targets
from ociaudit.planning.time_range import TimeRange, resolve_event_range, resolve_range
from ociaudit.planning.window import MINUTES_PER_DAY, SETTLE_MINUTES, Window, floor_minute, format_minute, format_second
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
        check_ocid(compartment)


async def make_plan(
    arguments: ExportArguments,
    *,
    window: Window,
    event_window: Window | None = None,
    service: Service,
    now: datetime,
    may_replace: bool,
    callbacks: Callbacks,
) -> RunPlan:
    """List what the scope needs and return the plan.

    Raises:
        ScopeUnreadable, SignInRejected, ServiceUnreachable: a listing could not be read.
        UsageError: a named compartment is not in the tenancy.
    """
    tenancy = service.credentials.tenancy
    region_ids: tuple[str, ...] = ()
    compartment_ids: tuple[str, ...] = ()
    listed: tuple[str, ...] | None = None
    regions = arguments.regions
    if not regions:
        regions_listing = await service.identity.list_regions()
        regions, region_ids = choose_regions(regions_listing.items, ()), regions_listing.request_ids
    compartments = arguments.compartments
    if not compartments or arguments.is_subtree:
        listing = await service.identity.list_compartments()
        compartment_ids = listing.request_ids
        compartments = choose_compartments(
            listing.items, arguments.compartments, tenancy=tenancy, is_subtree=arguments.is_subtree
        )
        listed = (tenancy, *sorted(item.id for item in listing.items))
    home = service.credentials.region
    region = regions[0] if regions and home not in regions else home
    retention = await _read_retention(service, region, callbacks)
    plan = RunPlan(
        arguments=arguments,
        tenancy=tenancy,
        window=window,
        event_window=event_window,
        targets=make_targets(regions, compartments),
        listed_compartments=listed,
        region_request_ids=region_ids,
        compartment_request_ids=compartment_ids,
        retention_days=retention,
        may_replace=may_replace,
        started_at=format_second(now),
    )
    return msgspec.structs.replace(plan, id=identify_plan(plan))


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


async def _read_retention(service: Service, region: str, callbacks: Callbacks) -> int | None:
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
