"""`oci-audit doctor`: its options, its run and its screen."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from ociaudit.cli import console
from ociaudit.cli.options import OUTPUT, Command, make_connection_options, option, region_option, sign_in_options
from ociaudit.errors import ExitCode

if TYPE_CHECKING:
    from ociaudit.operations.doctor import CheckResult

_STATUS_WIDTH = 8


@click.command(
    cls=Command,
    examples=(
        ("Check everything with the default profile", "oci-audit doctor"),
        ("Check one region and print JSON for scripts", "oci-audit doctor --region eu-frankfurt-1 --json"),
    ),
)
@region_option
@option("--json", "as_json", section=OUTPUT, is_flag=True, help="Print one JSON object.")
@sign_in_options
def doctor(*, as_json: bool, **options: Any) -> int:
    """Check sign-in, proxy, certificates, clock, regions, permissions, and retention, and show how to fix problems.

    Exit codes: 0 nothing failed, 3 a check failed, 2 usage.
    """
    results = _diagnose(options)
    if as_json:
        import json

        console.print_data(json.dumps(encode_results(results)))
    else:
        for line in describe_results(results):
            console.print_output(line)
    return ExitCode.OK if is_ready(results) else ExitCode.NOT_READY


def _diagnose(options: dict[str, Any]) -> tuple[CheckResult, ...]:
    from ociaudit import api

    return api.diagnose(make_connection_options(options), regions=options["regions"])


def is_ready(results: Sequence[CheckResult]) -> bool:
    """Return whether no check failed."""
    return not any(result.status == "failed" for result in results)


def describe_results(results: Sequence[CheckResult]) -> Iterator[str]:
    """Yield a line for each check, what to do below it, and the totals at the end."""
    width = max((len(result.check) for result in results), default=0)
    margin = " " * (_STATUS_WIDTH + 1)
    for result in results:
        yield f"{result.status:{_STATUS_WIDTH}} {result.check:{width}}  {result.message}"
        if result.hint:
            yield f"{margin}hint: {result.hint}"
        if result.policy:
            yield f"{margin}policy: {result.policy}"
    totals = Counter(result.status for result in results)
    yield ", ".join(f"{number} {status}" for status, number in totals.items())


def encode_results(results: Sequence[CheckResult]) -> dict[str, Any]:
    """Return the results as one JSON object; `is_ready` if no check failed."""
    return {
        "is_ready": is_ready(results),
        "findings": [
            {
                "check": result.check,
                "status": result.status,
                "message": result.message,
                "hint": result.hint,
                "policy": result.policy,
            }
            for result in results
        ],
    }
