"""What a report says, ready to be put into its page.

Owns: the form of the data that the page draws, and its limits. Pure. Must not: read files, or know of HTML.

Invariants
- It is small, whatever the file is: every list has a limit, and says how much it leaves out.
- Times are milliseconds since 1970, or None where an event has none that can be read.
- Texts are the events' own, hostile; the page makes them harmless.
"""

from __future__ import annotations

import heapq
from typing import NamedTuple

import msgspec

from ociaudit.events.facts import Facts
from ociaudit.events.fields import UNREADABLE_INSTANT
from ociaudit.insight.event_sample import Kept
from ociaudit.insight.intrusions import Finding
from ociaudit.insight.report_coverage import CoverageMap
from ociaudit.insight.report_tally import NameCounter, ReportTally, Seen, shorten
from ociaudit.insight.time_bins import EPOCH, SERIES, Series

_MOST_RANKED = 50
_MOST_ADDRESSES = 1_000
_SERIES = {name: number for number, name in enumerate(SERIES)}
_SIGN_IN, _CHANGE = 1, 2


class Ranking(msgspec.Struct, frozen=True):
    """The most frequent names as (name, events, failures); `distinct` counts all, `forgotten` those not counted."""

    rows: tuple[tuple[str, int, int], ...]
    distinct: int
    forgotten: int


class ChangeRow(NamedTuple):
    """An identity change; `outcome` is an index of `SERIES`."""

    time: int | None
    name: str
    outcome: int
    principal: str
    address: str
    target: str
    event_id: str


class AddressRow(NamedTuple):
    """A source address."""

    address: str
    first: int | None
    last: int | None
    events: int
    failures: int
    failed_sign_ins: int
    changes: int
    principals: tuple[str, ...]


class EventRow(NamedTuple):
    """An event of the table; `kinds` is 1 for a sign-in plus 2 for an identity change; `raw` is empty if too long."""

    time: int | None
    name: str
    outcome: int
    principal: str
    address: str
    compartment: str
    kinds: int
    raw: str


class StepRow(NamedTuple):
    """A step of a finding."""

    first: int | None
    last: int | None
    text: str
    detail: str
    tone: str


class FindingRow(NamedTuple):
    """Something worth a look."""

    severity: str
    title: str
    search: str
    steps: tuple[StepRow, ...]


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page draws; `start` and `end` are seconds since 1970."""

    start: int
    end: int
    events: int
    timeline: Series
    sign_ins: Series
    types: Ranking
    principals: Ranking
    addresses: tuple[AddressRow, ...]
    distinct_addresses: int
    top_addresses: Ranking
    changes: tuple[ChangeRow, ...]
    all_changes: int
    findings: tuple[FindingRow, ...]
    coverage: CoverageMap | None
    sample: tuple[EventRow, ...]
    is_sampled: bool


def make_report_data(tally: ReportTally, coverage: CoverageMap | None, span: tuple[int, int]) -> ReportData:
    """Bring a tally into the form of the page; `span` is the range that the time axes show."""
    start, end = span
    kept = tally.sample.choose({name: events for name, (events, _) in tally.types.counts.items()})
    return ReportData(
        start=start,
        end=end,
        events=tally.events,
        timeline=tally.times.show(start, end),
        sign_ins=tally.sign_ins.show(start, end),
        types=_rank(tally.types),
        principals=_rank(tally.principals),
        addresses=tuple(_list_addresses(tally.addresses)),
        distinct_addresses=len(tally.addresses) + tally.addresses_forgotten,
        top_addresses=_rank_addresses(tally),
        changes=tuple(_show_change(change.facts) for change in sorted(tally.latest_changes)),
        all_changes=tally.changes,
        findings=tuple(_show_finding(finding) for finding in tally.intrusions.list_findings()),
        coverage=coverage,
        sample=tuple(_show_event(each, tally) for each in kept),
        is_sampled=len(kept) < tally.events,
    )


def _rank(counter: NameCounter) -> Ranking:
    return Ranking(tuple(counter.rank(_MOST_RANKED)), len(counter.counts) + counter.forgotten, counter.forgotten)


def _rank_addresses(tally: ReportTally) -> Ranking:
    ranked = heapq.nsmallest(_MOST_RANKED, tally.addresses.items(), key=lambda item: (-item[1].events, item[0]))
    rows = tuple((address, seen.events, seen.failures) for address, seen in ranked)
    return Ranking(rows, len(tally.addresses) + tally.addresses_forgotten, tally.addresses_forgotten)


def _list_addresses(addresses: dict[str, Seen]) -> list[AddressRow]:
    """List the addresses by first seen; when there are too many, those with failed sign-ins and changes first."""
    chosen = heapq.nlargest(
        _MOST_ADDRESSES,
        addresses.items(),
        key=lambda item: (item[1].failed_sign_ins + item[1].changes > 0, item[1].first, item[0]),
    )
    return [
        AddressRow(
            address,
            to_milliseconds(seen.first),
            to_milliseconds(seen.last),
            seen.events,
            seen.failures,
            seen.failed_sign_ins,
            seen.changes,
            tuple(sorted(seen.principals)),
        )
        for address, seen in sorted(chosen, key=lambda item: (item[1].first, item[0]))
    ]


def _show_change(facts: Facts) -> ChangeRow:
    details = facts.details
    return ChangeRow(
        to_milliseconds(facts.instant),
        _cut(details.event_name or facts.event_type),
        _SERIES[facts.outcome],
        _cut(facts.identity.principal_name),
        _cut(facts.identity.ip_address),
        _cut(details.resource_name or details.resource_id),
        _cut(facts.event_id),
    )


def _show_event(kept: Kept, tally: ReportTally) -> EventRow:
    facts, details = kept.facts, kept.facts.details
    is_sign_in, is_change = tally.tell_kind(facts.event_type, facts.domain_event)
    return EventRow(
        to_milliseconds(facts.instant),
        _cut(details.event_name or facts.event_type),
        _SERIES[facts.outcome],
        _cut(facts.identity.principal_name),
        _cut(facts.identity.ip_address),
        _cut(details.compartment_name or details.compartment_id),
        _SIGN_IN * is_sign_in + _CHANGE * is_change,
        kept.raw.decode("utf-8", "replace"),
    )


def _show_finding(finding: Finding) -> FindingRow:
    steps = tuple(
        StepRow(to_milliseconds(step.first), to_milliseconds(step.last), step.text, step.detail, step.tone)
        for step in finding.steps
    )
    return FindingRow(finding.severity, finding.title, finding.search, steps)


def to_milliseconds(instant: int) -> int | None:
    """Return an instant in milliseconds since 1970, None for an unreadable one."""
    return None if instant == UNREADABLE_INSTANT else (instant - EPOCH) // 1_000_000


def _cut(text: str | None) -> str:
    return shorten(text) if text else ""
