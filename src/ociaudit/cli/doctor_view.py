"""A diagnosis in words and as JSON. Owns: its lines. Must not: print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from ociaudit.jobs.finding import Finding

_STATUS_WIDTH = 8


def describe_findings(findings: Sequence[Finding]) -> Iterator[str]:
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


def show_findings(findings: Sequence[Finding]) -> dict[str, Any]:
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
