"""Whether everything is in place for an export, and what to do where it is not.

Owns: which checks there are, and which need which. Must not: write.

Invariants
- Each check is a function of its own; none stops another, but one that needs a failed one is skipped.
- Every finding that is not ok says what to do; a missing permission comes with the policy to ask for.
- No key, pass phrase, token or password stands in a finding.
"""

from __future__ import annotations

from dataclasses import replace

from ociaudit.jobs import local_checks, service_checks
from ociaudit.jobs.examination import Examination, Patient
from ociaudit.jobs.finding import Check, Finding, run_checks
from ociaudit.jobs.service import connect
from ociaudit.source.retry import RetryPolicy
from ociaudit.source.transport import TransportLimits

_RETRY = RetryPolicy(max_attempts=2, max_retry_after_seconds=5.0)
_LIMITS = TransportLimits(connect_seconds=5.0, silence_seconds=20.0)

_AT_HOME = (
    Check("configuration", local_checks.look_at_configuration),
    Check("private files", local_checks.look_at_files),
    Check("certificates", local_checks.look_at_authorities),
    Check("proxy", local_checks.look_at_proxy),
)
_ASKING = (
    Check("service", service_checks.look_at_service, ("configuration", "certificates", "proxy")),
    Check("clock", service_checks.look_at_clock, ("service",)),
    Check("sign-in", service_checks.look_at_sign_in, ("service", "clock")),
    Check("list of regions", service_checks.look_at_region_list, ("sign-in",)),
    Check("list of compartments", service_checks.look_at_compartment_list, ("sign-in",)),
    Check("regions", service_checks.look_at_regions, ("sign-in",)),
    Check("audit events", service_checks.look_at_events, ("regions", "sign-in")),
    Check("compartments", service_checks.look_into_compartments, ("sign-in", "list of compartments", "audit events")),
    Check("retention", service_checks.look_at_retention, ("sign-in",)),
)


async def examine(patient: Patient) -> tuple[Finding, ...]:
    """Run every check and return what was found, in the order in which a person would look.

    Raises:
        UsageError: a region or the endpoint that was named cannot be one.
    """
    examination = Examination(patient)
    found = await run_checks(_AT_HOME, examination, [])
    if examination.tools is None:
        return tuple(await run_checks(_ASKING, examination, found))
    tools = replace(examination.tools, retry=_RETRY, limits=_LIMITS)
    for region in patient.regions:
        tools.endpoints.check_region(region)
    async with connect(tools) as service:
        examination.service = service
        return tuple(await run_checks(_ASKING, examination, found))
