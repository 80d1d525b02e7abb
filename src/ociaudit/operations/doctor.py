"""The doctor: checks whether everything is ready for an export, from the configuration to every compartment.

Checks run in order; one that needs another that failed is skipped. Local checks come before those that send requests.
Each result is `ok`, `warning`, `failed` or `skipped`, with what to do and the IAM policy to ask for.
"""

from __future__ import annotations

import asyncio
import shlex
import ssl
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from ociaudit.client.config_file import list_private_files
from ociaudit.client.identity import Listing
from ociaudit.client.network import choose_proxy, show_proxy, try_proxy
from ociaudit.client.transport import RetryPolicy, TransportLimits
from ociaudit.errors import (
    ConfigError,
    OciAuditError,
    RequestError,
    ScopeUnreadable,
    ServiceError,
    ServiceUnreachable,
    SignInRejected,
    format_count,
)
from ociaudit.operations.context import RunContext, Service, connect, settled_until
from ociaudit.planning.scope import Compartment, Region, find_home_region, name_compartments, suggest_region
from ociaudit.planning.shard import Shard, Target, Window

Status = Literal["ok", "warning", "failed", "skipped"]
Subject = TypeVar("Subject")

READ_EVENTS = "Allow group <group> to read audit-events in tenancy"
INSPECT_COMPARTMENTS = "Allow group <group> to inspect compartments in tenancy"
INSPECT_TENANCIES = "Allow group <group> to inspect tenancies in tenancy"

_PROXY_SECONDS = 5.0
MAX_COMPARTMENTS = 200
_IN_FLIGHT = 8
_LONGEST_RETENTION_DAYS = 365
_MAX_SKEW_SECONDS = 300
_DOUBTFUL_SKEW_SECONDS = 60
_UNAUTHORIZED = 401
_DENIED_STATUSES = frozenset({403, 404})
_NAMES_SHOWN = 5
_RETRY = RetryPolicy(max_tries=2, max_retry_after_seconds=5.0)
_LIMITS = TransportLimits(connect_seconds=5.0, silence_seconds=20.0)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    `hint` is what to do, `policy` the IAM statement to ask an administrator for; both are None where nothing is wrong.
    """

    check: str
    status: Status
    message: str
    hint: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Check(Generic[Subject]):
    """A check. It is skipped if one of `needs`, which run before it, failed or was skipped."""

    name: str
    run: Callable[[Subject], Awaitable[list[CheckResult]]]
    needs: tuple[str, ...] = ()


async def run_checks(
    checks: Iterable[Check[Subject]], diagnosis: Subject, found: list[CheckResult]
) -> list[CheckResult]:
    """Run the checks in order and return their results, appended to `found`."""
    for check in checks:
        broken = {result.check for result in found if result.status in {"failed", "skipped"}}
        missing = [need for need in check.needs if need in broken][:1]
        if missing:
            found.append(CheckResult(check.name, "skipped", f"not checked, because of: {missing[0]}"))
        else:
            found.extend(await check.run(diagnosis))
    return found


def describe_failure(
    check: str, error: OciAuditError, *, status: Status = "failed", policy: str | None = None
) -> CheckResult:
    """Return an error as a result."""
    request_id = error.request_id if isinstance(error, RequestError) else None
    suffix = f" (opc-request-id {request_id})" if request_id else ""
    return CheckResult(check, status, f"{error}{suffix}", error.hint, policy)


@dataclass(frozen=True, slots=True)
class DoctorInputs:
    """What to check. `load` and `read_fields` raise `ConfigError` where the configuration cannot be used.

    `config_file` is None where the sign-in needs no file. `authorities` are the certificate files that were named, each
    with what names it. `regions` are those to check; without any, all that the tenancy has subscribed to.
    """

    config_file: Path | None
    read_fields: Callable[[], Mapping[str, Any]]
    load: Callable[[], RunContext]
    authorities: Sequence[tuple[str, Path]] = ()
    proxies: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()


@dataclass(slots=True)
class Diagnosis:
    """What the checks have found out so far."""

    inputs: DoctorInputs
    context: RunContext | None = None
    service: Service | None = None
    listing: Listing[Region] | ScopeUnreadable = field(default_factory=lambda: Listing((), ()))
    rejection: SignInRejected | None = None
    compartments: tuple[Compartment, ...] = ()
    paths: Mapping[str, str] = field(default_factory=dict)
    regions: tuple[str, ...] = ()
    errors: dict[str, RequestError | None] = field(default_factory=dict)

    @property
    def connection(self) -> tuple[RunContext, Service]:
        """Return the collaborators of checks that send requests."""
        if self.context is None or self.service is None:
            raise AssertionError("a check that sends requests needs the configuration")
        return self.context, self.service

    @property
    def readable_regions(self) -> list[str]:
        """Return the regions in which the root compartment can be read."""
        return [region for region, error in self.errors.items() if error is None]


async def check_configuration(diagnosis: Diagnosis) -> list[CheckResult]:
    """Load the configuration: profile, key, region, endpoint."""
    try:
        context = diagnosis.inputs.load()
    except (ConfigError, SignInRejected, ServiceUnreachable) as error:
        return [describe_failure("configuration", error)]
    diagnosis.context = context
    who = context.credentials
    return [
        CheckResult(
            "configuration", "ok", f"profile {who.profile}: {who.principal} of {who.tenancy}, region {who.region}"
        )
    ]


async def check_private_files(diagnosis: Diagnosis) -> list[CheckResult]:
    """Check who may read the configuration, the key and the token."""
    config_file = diagnosis.inputs.config_file
    if config_file is None:
        return [CheckResult("private files", "ok", "this sign-in needs none")]
    try:
        fields = diagnosis.inputs.read_fields()
    except ConfigError:
        return [CheckResult("private files", "skipped", "not checked, because of: configuration")]
    files = list(list_private_files(config_file, fields))
    found = [
        CheckResult(
            "private files",
            "warning",
            f"{file.named_by} {file.path} can be read by others (mode {file.mode:04o})",
            f"chmod 600 {shlex.quote(str(file.path))}",
        )
        for file in files
        if file.is_exposed and file.mode is not None
    ]
    found += [
        CheckResult("private files", "failed", f"{file.named_by} {file.path}: {file.problem}", "name a readable file")
        for file in files
        if file.problem
    ]
    return found or [
        CheckResult("private files", "ok", f"{format_count(len(files), 'file')}, readable only by the owner")
    ]


async def check_certificates(diagnosis: Diagnosis) -> list[CheckResult]:
    """Load the certificate files that were named."""
    found = []
    for named_by, path in diagnosis.inputs.authorities:
        try:
            context = ssl.create_default_context(
                cafile=None if path.is_dir() else str(path), capath=str(path) if path.is_dir() else None
            )
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            reason = getattr(error, "strerror", None) or "not a file path"
            hint = "name a PEM file with the certificates of the authorities to trust"
            found.append(CheckResult("certificates", "failed", f"{named_by} {path} cannot be used: {reason}", hint))
        else:
            number = len(context.get_ca_certs())
            found.append(CheckResult("certificates", "ok", f"{named_by} {path}: {number} authorities are trusted"))
    return found or [CheckResult("certificates", "ok", "the system's authorities are trusted; no others are named")]


async def check_proxy(diagnosis: Diagnosis) -> list[CheckResult]:
    """Connect to the proxy that the service is reached through, if there is one."""
    proxies = diagnosis.inputs.proxies
    if not diagnosis.context:
        return [CheckResult("proxy", "skipped", "not checked, because of: configuration")]
    context = diagnosis.context
    url = context.endpoints.locate("identity", context.credentials.region)
    proxy = choose_proxy(url, proxies)
    if proxy is None:
        why = "NO_PROXY exempts the service" if proxies.keys() - {"no"} else "the environment names none"
        return [CheckResult("proxy", "ok", f"none is used: {why}")]
    try:
        await try_proxy(proxy, timeout_seconds=_PROXY_SECONDS)
    except RequestError as error:
        hint = "correct HTTPS_PROXY, or exempt the service with NO_PROXY"
        return [CheckResult("proxy", "failed", str(error), hint)]
    return [CheckResult("proxy", "ok", f"{show_proxy(proxy)} is used")]


async def check_service(diagnosis: Diagnosis) -> list[CheckResult]:
    """List the regions: one response shows whether service, clock, key and permission are in order."""
    context, service = diagnosis.connection
    try:
        diagnosis.listing = await service.identity.list_regions()
    except SignInRejected as error:
        diagnosis.rejection = error
    except ScopeUnreadable as error:
        diagnosis.listing = error
    except OciAuditError as error:
        hint = "check the network, the proxy, the certificates and --endpoint"
        return [replace(describe_failure("service", error), hint=hint)]
    return [
        CheckResult(
            "service", "ok", f"Identity responds at {context.endpoints.locate('identity', context.credentials.region)}"
        )
    ]


async def check_clock(diagnosis: Diagnosis) -> list[CheckResult]:
    """Compare the local clock with the service's."""
    _, service = diagnosis.connection
    skew = service.transport.skew_seconds
    if skew is None:
        return [
            CheckResult("clock", "warning", "the service does not state its time", "check the local clock yourself")
        ]
    way = f"{abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} the service's"
    hint = "set the clock, for example with: timedatectl set-ntp true"
    if abs(skew) > _MAX_SKEW_SECONDS:
        return [CheckResult("clock", "failed", f"{way}; signatures are rejected beyond {_MAX_SKEW_SECONDS} s", hint)]
    if abs(skew) > _DOUBTFUL_SKEW_SECONDS:
        return [CheckResult("clock", "warning", f"{way}; beyond {_MAX_SKEW_SECONDS} s signatures are rejected", hint)]
    return [CheckResult("clock", "ok", "within a minute of the service's")]


async def check_sign_in(diagnosis: Diagnosis) -> list[CheckResult]:
    """Report whether the key was accepted."""
    if diagnosis.rejection is not None:
        return [describe_failure("sign-in", diagnosis.rejection)]
    return [CheckResult("sign-in", "ok", "the service accepts the signature")]


async def check_region_list(diagnosis: Diagnosis) -> list[CheckResult]:
    """Report the list of regions, and choose those to check."""
    context, _ = diagnosis.connection
    listing, named = diagnosis.listing, diagnosis.inputs.regions
    if isinstance(listing, ScopeUnreadable):
        diagnosis.regions = named or (context.credentials.region,)
        hint = "ask for the policy, or name the regions with --region"
        return [replace(describe_failure("list of regions", listing, policy=INSPECT_TENANCIES), hint=hint)]
    ready = sorted(region.name for region in listing.items if region.status == "READY")
    others = sorted(region.name for region in listing.items if region.status != "READY")
    diagnosis.regions = named or tuple(ready)
    unknown = sorted(set(named) - set(ready))
    if unknown:
        suggestions = filter(None, (suggest_region(name, ready) for name in unknown))
        hint = " ".join([*suggestions, f"subscribed and ready: {', '.join(ready)}"])
        return [
            CheckResult("list of regions", "failed", f"the tenancy has not subscribed to {', '.join(unknown)}", hint)
        ]
    more = f"; not ready: {', '.join(others)}" if others else ""
    return [CheckResult("list of regions", "ok", f"{len(ready)} ready: {', '.join(ready)}{more}")]


async def check_compartment_list(diagnosis: Diagnosis) -> list[CheckResult]:
    """List the compartments."""
    context, service = diagnosis.connection
    try:
        listing = await service.identity.list_compartments()
    except ScopeUnreadable as error:
        hint = "ask for the policy, or name compartments with --compartment OCID --no-subtree"
        return [replace(describe_failure("list of compartments", error, policy=INSPECT_COMPARTMENTS), hint=hint)]
    except OciAuditError as error:
        return [describe_failure("list of compartments", error)]
    diagnosis.compartments = listing.items
    diagnosis.paths = name_compartments(listing.items, tenancy=context.credentials.tenancy)
    return [CheckResult("list of compartments", "ok", f"{len(listing.items)} and the root")]


async def check_regions(diagnosis: Diagnosis) -> list[CheckResult]:
    """Request a minute of the root compartment's events in each region."""
    context, _ = diagnosis.connection
    targets = [Target(region, context.credentials.tenancy) for region in diagnosis.regions]
    errors = await _read_a_minute(diagnosis, targets)
    diagnosis.errors = {target.region: error for target, error in errors.items()}
    return [_report_region(region, error) for region, error in diagnosis.errors.items()]


async def check_events(diagnosis: Diagnosis) -> list[CheckResult]:
    """Report whether audit events may be read."""
    denied = {
        region: error
        for region, error in diagnosis.errors.items()
        if isinstance(error, ServiceError) and error.is_oci and error.status in _DENIED_STATUSES
    }
    if denied:
        where = f"in {', '.join(denied)}"
        failure = describe_failure("audit events", next(iter(denied.values())), policy=READ_EVENTS)
        hint = "ask for the policy; `inspect` is not enough"
        return [replace(failure, message=f"the root compartment cannot be read {where}: {failure.message}", hint=hint)]
    if not diagnosis.readable_regions:
        return [CheckResult("audit events", "skipped", "not checked, because of: no region responds")]
    return [CheckResult("audit events", "ok", "the root compartment can be read in every region that responds")]


async def check_compartments(diagnosis: Diagnosis) -> list[CheckResult]:
    """Request a minute of every compartment's events, in the first region that responds."""
    region = next(iter(diagnosis.readable_regions), None)
    if region is None:
        return [CheckResult("compartments", "skipped", "not checked, because of: no region responds")]
    step = -(-len(diagnosis.compartments) // MAX_COMPARTMENTS) or 1
    chosen = {Target(region, one.id): one for one in diagnosis.compartments[::step]}
    errors = await _read_a_minute(diagnosis, chosen)
    denied = [chosen[target] for target, error in errors.items() if isinstance(error, ServiceError)]
    failed = sum(error is not None for error in errors.values()) - len(denied)
    some = f" of {len(diagnosis.compartments)}" if step > 1 else ""
    if not denied and not failed:
        return [CheckResult("compartments", "ok", f"{len(chosen)} of {len(chosen)}{some} requested can be read")]
    names = ", ".join(f"{diagnosis.paths[one.id]} ({one.id})" for one in denied[:_NAMES_SHOWN])
    more = f" and {len(denied) - _NAMES_SHOWN} more" if len(denied) > _NAMES_SHOWN else ""
    message = f"{len(denied)} of {len(chosen)}{some} requested cannot be read: {names}{more}"
    if failed:
        message += f"; {failed} did not respond"
    hint = "each becomes a gap; if that is intended, --waive NAME keeps it on record without exit 10"
    return [CheckResult("compartments", "warning", message, hint, READ_EVENTS if denied else None)]


async def check_retention(diagnosis: Diagnosis) -> list[CheckResult]:
    """Request the retention period."""
    context, service = diagnosis.connection
    listing = diagnosis.listing
    home = None if isinstance(listing, ScopeUnreadable) else find_home_region(listing.items)
    region = home or next(iter(diagnosis.readable_regions), context.credentials.region)
    try:
        days = await service.audit.read_retention_days(region=region, tenancy=context.credentials.tenancy)
    except RequestError as error:
        hint = "an export continues without it, and cannot say when its range begins too early"
        return [replace(describe_failure("retention", error, status="warning"), hint=hint)]
    if days < _LONGEST_RETENTION_DAYS:
        hint = (
            f"raise it to {_LONGEST_RETENTION_DAYS} days in the console (tenancy details); export before events expire"
        )
        return [CheckResult("retention", "warning", f"events are kept for only {days} days", hint)]
    return [CheckResult("retention", "ok", f"events are kept for {days} days")]


def _report_region(region: str, error: RequestError | None) -> CheckResult:
    name = f"region {region}"
    if error is None or (isinstance(error, ServiceError) and error.is_oci and error.status in _DENIED_STATUSES):
        return CheckResult(name, "ok", "Audit responds")
    failure = describe_failure(name, error)
    if isinstance(error, ServiceError) and error.is_oci and error.status == _UNAUTHORIZED:
        return replace(failure, hint="the tenancy has not subscribed to this region, or is still subscribing")
    return replace(failure, hint="check the network and https://ocistatus.oraclecloud.com; an export has a gap there")


async def _read_a_minute(diagnosis: Diagnosis, targets: Iterable[Target]) -> dict[Target, RequestError | None]:
    """Request a settled minute of each target, a few at a time; return the error of each, or None."""
    context, service = diagnosis.connection
    minute = settled_until(context.clock.now()) - 1
    room = asyncio.Semaphore(_IN_FLIGHT)

    async def read(target: Target) -> RequestError | None:
        async with room:
            try:
                await service.audit.read_first_page(Shard(target, Window(minute, minute + 1)))
            except RequestError as error:
                return error
            return None

    listed = list(targets)
    return dict(zip(listed, await asyncio.gather(*map(read, listed)), strict=True))


_LOCAL_CHECKS = (
    Check("configuration", check_configuration),
    Check("private files", check_private_files),
    Check("certificates", check_certificates),
    Check("proxy", check_proxy),
)
_SERVICE_CHECKS = (
    Check("service", check_service, ("configuration", "certificates", "proxy")),
    Check("clock", check_clock, ("service",)),
    Check("sign-in", check_sign_in, ("service", "clock")),
    Check("list of regions", check_region_list, ("sign-in",)),
    Check("list of compartments", check_compartment_list, ("sign-in",)),
    Check("regions", check_regions, ("sign-in",)),
    Check("audit events", check_events, ("regions", "sign-in")),
    Check("compartments", check_compartments, ("sign-in", "list of compartments", "audit events")),
    Check("retention", check_retention, ("sign-in",)),
)


async def run_doctor(inputs: DoctorInputs) -> tuple[CheckResult, ...]:
    """Run every check and return the results in the order in which a person would check.

    Raises:
        UsageError: a region or the endpoint is malformed.
    """
    diagnosis = Diagnosis(inputs)
    found = await run_checks(_LOCAL_CHECKS, diagnosis, [])
    if diagnosis.context is None:
        return tuple(await run_checks(_SERVICE_CHECKS, diagnosis, found))
    context = replace(diagnosis.context, retry=_RETRY, limits=_LIMITS)
    for region in inputs.regions:
        context.endpoints.check_region(region)
    async with connect(context) as service:
        diagnosis.service = service
        return tuple(await run_checks(_SERVICE_CHECKS, diagnosis, found))
