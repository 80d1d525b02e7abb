"""What the demo shows of an export. Owns: its lines. Must not: print."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TypeVar

from ociaudit.insight.glance import Glance
from ociaudit.jobs.export import Outcome

T = TypeVar("T")
_NAMES_SHOWN = 8
_FAILURES_SHOWN = 6
_SHORT_OCID = 12


def describe_demo(outcome: Outcome, glance: Glance) -> Iterator[str]:
    """Yield the demo's screen."""
    yield ""
    yield f"{glance.events:,} audit events in {outcome.output}"
    yield ""
    yield "most frequent"
    for name, number in _rank(glance.names, _NAMES_SHOWN):
        yield f"  {number:>7,}  {name}"
    yield ""
    yield f"failed sign-ins: {glance.sign_in_failures.total():,}"
    for (who, address), number in _rank(glance.sign_in_failures, _FAILURES_SHOWN):
        yield f"  {number:>7,}  {who} from {address}"
    yield ""
    yield from _describe_coverage(outcome)
    yield ""
    yield f"the proof: {outcome.manifest_path} (sha256:{outcome.digest})"
    yield ""
    yield "somebody's password was guessed in it; see what the summary points at:"
    yield f"  oci-audit summary {outcome.output}"
    yield ""
    yield "with your own profile in ~/.oci/config:"
    yield "  oci-audit export --start 7d -o audit.json"
    yield "  oci-audit export --start 2025-12-01 --end 2025-12-07 --event-type 'Login|ApiKey' -o logins.json"
    yield "  oci-audit export --start 90d --region eu-frankfurt-1 -o 'audit-{start}.json.gz'"


def _rank(counter: Counter[T], number: int) -> list[tuple[T, int]]:
    return sorted(counter.items(), key=lambda item: (-item[1], str(item[0])))[:number]


def _describe_coverage(outcome: Outcome) -> Iterator[str]:
    """Yield a table: a line per compartment, a column per region."""
    places = outcome.manifest.coverage
    regions = sorted({place.region for place in places})
    gaps = {gap.place: gap for gap in outcome.gaps}
    covered = {(place.region, place.compartment): bool(place.windows) for place in places}
    yield f"coverage from {outcome.manifest.range.start} to {outcome.manifest.range.end}"
    yield "  " + " " * (_SHORT_OCID + 3) + "  ".join(f"{region:<16}" for region in regions).rstrip()
    for compartment in sorted({place.compartment for place in places}):
        cells = ["complete" if covered.get((region, compartment)) else "GAP" for region in regions]
        yield f"  …{compartment[-_SHORT_OCID:]}  " + "  ".join(f"{cell:<16}" for cell in cells).rstrip()
    for gap in gaps.values():
        yield f"  GAP {gap.place.region} …{gap.place.compartment[-_SHORT_OCID:]} {gap.reason}"
    yield f"  {len(covered) - len(gaps)} of {len(covered)} places complete"
    if gaps:
        yield "  (one compartment of the made tenancy is forbidden, so that you see what a gap looks like)"
