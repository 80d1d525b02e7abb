"""What an examination found. Owns: the form of a finding, and the policies that are asked for. Must not: look."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from ociaudit.errors import OciAuditError, RequestError

Status = Literal["ok", "warning", "failed", "skipped"]
Examination = TypeVar("Examination")

READ_EVENTS = "Allow group <group> to read audit-events in tenancy"
INSPECT_COMPARTMENTS = "Allow group <group> to inspect compartments in tenancy"
INSPECT_TENANCIES = "Allow group <group> to inspect tenancies in tenancy"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of a diagnosis.

    `hint` is what to do, `policy` the IAM statement to ask an administrator for; both None where all is well.
    """

    check: str
    status: Status
    message: str
    hint: str | None = None
    policy: str | None = None


@dataclass(frozen=True, slots=True)
class Check(Generic[Examination]):
    """One thing to look at. It is skipped when one of `needs`, which come before it, has not gone well."""

    name: str
    look: Callable[[Examination], Awaitable[list[Finding]]]
    needs: tuple[str, ...] = ()


async def run_checks(
    checks: Iterable[Check[Examination]], examination: Examination, found: list[Finding]
) -> list[Finding]:
    """Run the checks one after the other and return what was found before and now."""
    for check in checks:
        broken = {finding.check for finding in found if finding.status in {"failed", "skipped"}}
        missing = [need for need in check.needs if need in broken][:1]
        if missing:
            found.append(Finding(check.name, "skipped", f"not checked, because of: {missing[0]}"))
        else:
            found.extend(await check.look(examination))
    return found


def describe_failure(
    check: str, error: OciAuditError, *, status: Status = "failed", policy: str | None = None
) -> Finding:
    """Make a finding of an error."""
    request_id = error.request_id if isinstance(error, RequestError) else None
    suffix = f" (opc-request-id {request_id})" if request_id else ""
    return Finding(check, status, f"{error}{suffix}", error.hint, policy)
