"""What only the service can tell: clock, key, permissions, regions, compartments, retention.

Owns: these checks. Must not: ask for more than a minute of a place's events, or more than `MAX_COMPARTMENTS` places.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from ociaudit.errors import OciAuditError, Refused, RequestError, ScopeUnreadable, SignInRejected
from ociaudit.jobs.examination import Examination
from ociaudit.jobs.finding import INSPECT_COMPARTMENTS, INSPECT_TENANCIES, READ_EVENTS, Finding, describe_failure
from ociaudit.jobs.scope import SETTLE_MINUTES
from ociaudit.plan.shard import Place, Shard
from ociaudit.plan.window import Window, floor_minute

MAX_COMPARTMENTS = 200
_IN_FLIGHT = 8
_LONGEST_RETENTION_DAYS = 365
_MAX_SKEW_SECONDS = 300
_DOUBTFUL_SKEW_SECONDS = 60
_UNAUTHORIZED = 401
_DENIED_STATUSES = frozenset({403, 404})
_NAMES_SHOWN = 5


async def look_at_service(examination: Examination) -> list[Finding]:
    """Ask for the regions: the answer tells of the service, the clock, the key and the permission at once."""
    tools, service = examination.asked
    try:
        examination.listing = await service.identity.list_regions()
    except SignInRejected as error:
        examination.rejection = error
    except ScopeUnreadable as error:
        examination.listing = error
    except OciAuditError as error:
        hint = "check the network, the proxy, the certificates and --endpoint"
        return [replace(describe_failure("service", error), hint=hint)]
    return [
        Finding("service", "ok", f"Identity answers at {tools.endpoints.locate('identity', tools.credentials.region)}")
    ]


async def look_at_clock(examination: Examination) -> list[Finding]:
    """Compare the local clock with the service's."""
    _, service = examination.asked
    skew = service.transport.skew_seconds
    if skew is None:
        return [Finding("clock", "warning", "the service does not say its time", "check the local clock by hand")]
    way = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the service's"
    hint = "set the clock, for example with: timedatectl set-ntp true"
    if abs(skew) > _MAX_SKEW_SECONDS:
        return [Finding("clock", "failed", f"{way}; signatures are refused beyond {_MAX_SKEW_SECONDS} s", hint)]
    if abs(skew) > _DOUBTFUL_SKEW_SECONDS:
        return [Finding("clock", "warning", f"{way}; beyond {_MAX_SKEW_SECONDS} s signatures are refused", hint)]
    return [Finding("clock", "ok", "within a minute of the service's")]


async def look_at_sign_in(examination: Examination) -> list[Finding]:
    """Judge whether the key was accepted."""
    if examination.rejection is not None:
        return [describe_failure("sign-in", examination.rejection)]
    return [Finding("sign-in", "ok", "the service accepts the signature")]


async def look_at_region_list(examination: Examination) -> list[Finding]:
    """Judge the list of regions, and choose those to look at."""
    tools, _ = examination.asked
    listing, named = examination.listing, examination.patient.regions
    if isinstance(listing, ScopeUnreadable):
        examination.regions = named or (tools.credentials.region,)
        hint = "ask for the policy, or name the regions with --region"
        return [replace(describe_failure("list of regions", listing, policy=INSPECT_TENANCIES), hint=hint)]
    ready = sorted(region.name for region in listing.items if region.status == "READY")
    others = sorted(region.name for region in listing.items if region.status != "READY")
    examination.regions = named or tuple(ready)
    unknown = sorted(set(named) - set(ready))
    if unknown:
        hint = f"subscribed and ready: {', '.join(ready)}"
        return [Finding("list of regions", "failed", f"the tenancy has not subscribed to {', '.join(unknown)}", hint)]
    more = f"; not ready: {', '.join(others)}" if others else ""
    return [Finding("list of regions", "ok", f"{len(ready)} ready: {', '.join(ready)}{more}")]


async def look_at_compartment_list(examination: Examination) -> list[Finding]:
    """Ask for the compartments."""
    _, service = examination.asked
    try:
        listing = await service.identity.list_compartments()
    except ScopeUnreadable as error:
        hint = "ask for the policy, or name compartments with --compartment OCID --no-subtree"
        return [replace(describe_failure("list of compartments", error, policy=INSPECT_COMPARTMENTS), hint=hint)]
    except OciAuditError as error:
        return [describe_failure("list of compartments", error)]
    examination.compartments = listing.items
    return [Finding("list of compartments", "ok", f"{len(listing.items)} and the root")]


async def look_at_regions(examination: Examination) -> list[Finding]:
    """Ask a minute of the root compartment's events in each region."""
    tools, _ = examination.asked
    places = [Place(region, tools.credentials.tenancy) for region in examination.regions]
    answers = await _read_a_minute(examination, places)
    examination.answers = {place.region: error for place, error in answers.items()}
    return [_judge_region(region, error) for region, error in examination.answers.items()]


async def look_at_events(examination: Examination) -> list[Finding]:
    """Judge the permission to read audit events."""
    denied = {
        region: error
        for region, error in examination.answers.items()
        if isinstance(error, Refused) and error.is_oci and error.status in _DENIED_STATUSES
    }
    if denied:
        where = f"in {', '.join(denied)}"
        finding = describe_failure("audit events", next(iter(denied.values())), policy=READ_EVENTS)
        hint = "ask for the policy; `inspect` is not enough"
        return [replace(finding, message=f"the root compartment cannot be read {where}: {finding.message}", hint=hint)]
    if not examination.readable_regions:
        return [Finding("audit events", "skipped", "not checked, because of: no region answers")]
    return [Finding("audit events", "ok", "the root compartment can be read in every region that answers")]


async def look_into_compartments(examination: Examination) -> list[Finding]:
    """Ask a minute of every compartment's events, in the first region that answers."""
    region = next(iter(examination.readable_regions), None)
    if region is None:
        return [Finding("compartments", "skipped", "not checked, because of: no region answers")]
    step = -(-len(examination.compartments) // MAX_COMPARTMENTS) or 1
    chosen = {Place(region, one.id): one for one in examination.compartments[::step]}
    answers = await _read_a_minute(examination, chosen)
    denied = [chosen[place] for place, error in answers.items() if isinstance(error, Refused)]
    failed = sum(error is not None for error in answers.values()) - len(denied)
    some = f" of {len(examination.compartments)}" if step > 1 else ""
    if not denied and not failed:
        return [Finding("compartments", "ok", f"all {len(chosen)}{some} asked can be read")]
    names = ", ".join(f"{one.name} ({one.id})" for one in denied[:_NAMES_SHOWN])
    more = f" and {len(denied) - _NAMES_SHOWN} more" if len(denied) > _NAMES_SHOWN else ""
    message = f"{len(denied)} of {len(chosen)}{some} asked cannot be read: {names}{more}"
    if failed:
        message += f"; {failed} did not answer"
    hint = "each is a gap of an export; where that is meant to be, --waive OCID keeps it on record without exit 10"
    return [Finding("compartments", "warning", message, hint, READ_EVENTS if denied else None)]


async def look_at_retention(examination: Examination) -> list[Finding]:
    """Ask for how long events are kept."""
    tools, service = examination.asked
    region = next(iter(examination.readable_regions), tools.credentials.region)
    try:
        days = await service.audit.read_retention_days(region=region, tenancy=tools.credentials.tenancy)
    except RequestError as error:
        hint = "an export goes on without knowing it, and cannot say when its range begins too early"
        return [replace(describe_failure("retention", error, status="warning"), hint=hint)]
    if days < _LONGEST_RETENTION_DAYS:
        hint = (
            f"raise it to {_LONGEST_RETENTION_DAYS} days in the console (tenancy details), and export before events go"
        )
        return [Finding("retention", "warning", f"events are kept for {days} days only", hint)]
    return [Finding("retention", "ok", f"events are kept for {days} days")]


def _judge_region(region: str, error: RequestError | None) -> Finding:
    name = f"region {region}"
    if error is None or (isinstance(error, Refused) and error.is_oci and error.status in _DENIED_STATUSES):
        return Finding(name, "ok", "Audit answers")
    finding = describe_failure(name, error)
    if isinstance(error, Refused) and error.is_oci and error.status == _UNAUTHORIZED:
        return replace(finding, hint="the tenancy has not subscribed to this region, or is still subscribing")
    return replace(finding, hint="check the network and https://ocistatus.oraclecloud.com; an export has a gap there")


async def _read_a_minute(examination: Examination, places: Iterable[Place]) -> dict[Place, RequestError | None]:
    """Ask a settled minute of each place, a few at a time; return what went wrong, or None."""
    tools, service = examination.asked
    minute = floor_minute(tools.clock.now()) - SETTLE_MINUTES - 1
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def read(place: Place) -> RequestError | None:
        async with room:
            try:
                await service.audit.read_first_page(Shard(place, Window(minute, minute + 1)))
            except RequestError as error:
                return error
            return None

    listed = list(places)
    return dict(zip(listed, await asyncio.gather(*map(read, listed)), strict=True))
