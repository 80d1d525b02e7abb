import asyncio

from ociaudit.errors import ConfigError, ServiceError
from ociaudit.operations.doctor import Check, CheckResult, describe_failure, run_checks


class Visits:
    """Remembers which checks have looked."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def make(self, name: str, *statuses: str, needs: tuple[str, ...] = ()) -> Check["Visits"]:
        """A check that finds something of each status."""

        async def look(visits: Visits) -> list[CheckResult]:
            visits.names.append(name)
            return [CheckResult(name, status, "said") for status in statuses]  # type: ignore[arg-type]

        return Check(name, look, needs)


def run(visits: Visits, *checks: Check[Visits]) -> dict[str, str]:
    """Run checks; return the status of each."""
    return {finding.check: finding.status for finding in asyncio.run(run_checks(checks, visits, []))}


def test_what_needs_a_failed_check_is_skipped_and_does_not_look() -> None:
    """A failure passes on through what needs it, however indirectly; what does not need it goes on."""
    visits = Visits()
    found = run(
        visits,
        visits.make("a", "failed"),
        visits.make("b", "ok", needs=("a",)),
        visits.make("c", "ok", needs=("b",)),
        visits.make("d", "ok"),
        visits.make("e", "ok", needs=("d",)),
    )
    assert found == {"a": "failed", "b": "skipped", "c": "skipped", "d": "ok", "e": "ok"}
    assert visits.names == ["a", "d", "e"]


def test_a_warning_stops_nothing() -> None:
    """What may be doubtful is no reason not to look further."""
    visits = Visits()
    assert run(visits, visits.make("a", "warning"), visits.make("b", "ok", needs=("a",)))["b"] == "ok"


def test_one_failure_among_several_findings_counts() -> None:
    """A check that found several things has gone wrong when one of them has."""
    visits = Visits()
    assert run(visits, visits.make("a", "failed", "ok"), visits.make("b", "ok", needs=("a",)))["b"] == "skipped"


def test_an_error_becomes_a_finding_with_its_hint_and_request_id() -> None:
    """What failed, what to do, and the number that support asks for."""
    finding = describe_failure("x", ConfigError("bad", hint="mend it"))
    assert (finding.status, finding.message, finding.hint) == ("failed", "bad", "mend it")
    refused = ServiceError("404 no", status=404, code="N", is_oci=True, request_id="r-1")
    assert describe_failure("x", refused, status="warning").message == "404 no (opc-request-id r-1)"
