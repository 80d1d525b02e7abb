"""`oci-audit doctor`: whether everything is in place. Owns: its options. Must not: know the checks.

A diagnosis in words and as JSON. Owns: its lines. Must not: print.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import typer

from ociaudit.cli import console
from ociaudit.cli.options import (
    AuthOption,
    CaBundleOption,
    ConfigFileOption,
    EndpointOption,
    ProfileOption,
    RegionOption,
)
from ociaudit.operations.doctor import CheckResult

NOT_READY_EXIT_CODE = 3


def doctor(
    *,
    profile: ProfileOption = None,
    config_file: ConfigFileOption = None,
    auth: AuthOption = None,
    ca_bundle: CaBundleOption = None,
    region: RegionOption = None,
    endpoint: EndpointOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> int:
    """Check configuration, key, proxy, certificates, clock, regions, permissions and retention; say what to do.

    Exit codes: 0 nothing failed, 3 something did, 2 usage.
    """
    from ociaudit import api

    findings = api.diagnose(
        profile=profile,
        config_file=config_file,
        auth=auth,
        ca_bundle=ca_bundle,
        regions=region or (),
        endpoint=endpoint,
    )
    if as_json:
        console.print_output(json.dumps(show_findings(findings)))
    else:
        for line in describe_findings(findings):
            console.print_output(line)
    return NOT_READY_EXIT_CODE if any(finding.status == "failed" for finding in findings) else 0


_STATUS_WIDTH = 8


def describe_findings(findings: Sequence[CheckResult]) -> Iterator[str]:
    """Yield a line for each finding, what to do below it, and the sum at the end."""
    width = max((len(finding.check) for finding in findings), default=0)
    margin = " " * (_STATUS_WIDTH + 1)
    for finding in findings:
        yield f"{finding.status:{_STATUS_WIDTH}} {finding.check:{width}}  {finding.message}"
        if finding.hint:
            yield f"{margin}hint: {finding.hint}"
        if finding.policy:
            yield f"{margin}policy: {finding.policy}"
    sums = Counter(finding.status for finding in findings)
    yield ", ".join(f"{number} {status}" for status, number in sums.items())


def show_findings(findings: Sequence[CheckResult]) -> dict[str, Any]:
    """Return the diagnosis as one JSON object; `is_ready` when nothing failed."""
    return {
        "is_ready": not any(finding.status == "failed" for finding in findings),
        "findings": [
            {
                "check": finding.check,
                "status": finding.status,
                "message": finding.message,
                "hint": finding.hint,
                "policy": finding.policy,
            }
            for finding in findings
        ],
    }
