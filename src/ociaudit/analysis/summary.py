"""The summary of files of events: what `oci-audit summary` shows and prints as JSON.

`Summary` and the structs it holds are the JSON form of `oci-audit summary --json`; `make_summary` fills it from the
statistics of the files. `make_overview` counts the few things that `oci-audit demo` shows of one export.

Invariants
- Coverage is what the manifest beside a file, or the commits of an archive, state, or unknown; it is never inferred
  from events.
- Whatever was truncated or dropped is stated in `limits`.
- All strings are the events' own and therefore untrusted. Times are RFC 3339 in UTC.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ociaudit.analysis.activity import ActorSummary, rank_actors
from ociaudit.analysis.detections import describe_timeline, find_detections
from ociaudit.analysis.stats import EventStats
from ociaudit.archive.inputs import Input
from ociaudit.errors import format_count
from ociaudit.events.fields import NANOSECONDS, Facts, format_instant, read_facts
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.manifest import GapEntry

_TOP = 50
_PARTNERS = 20
_CHANGES = 100
_NEW_PART = 4
"""Actors are new if they first appear in the last quarter of the range."""


class CoverageEntry(msgspec.Struct, frozen=True):
    """What the manifest beside a file states, or the commits of an archive; without these, most fields are empty.

    `state` is the kind of the verdict and `verdict` its words: the headline and a line for each qualifier.
    `compartment_paths` are the paths of compartments by OCID, as far as they are known.
    """

    file: str
    state: str
    verdict: tuple[str, ...] = ()
    is_final: bool = True
    asked_start: str | None = None
    asked_end: str | None = None
    targets: int = 0
    targets_answered: int = 0
    gaps: tuple[GapEntry, ...] = ()
    waived_gaps: int = 0
    provisional: int = 0
    filtered: int = 0
    compartment_paths: dict[str, str] = {}
    regions: dict[str, int] = {}
    """Events by the region that served them, where that is known, the most first."""


class ActorEntry(msgspec.Struct, frozen=True):
    """A principal with its addresses, or an address with its principals; `with_` has the first 20 by first seen."""

    name: str
    events: int
    failures: int
    first_seen: str | None
    last_seen: str | None
    with_: tuple[str, ...] = msgspec.field(name="with")
    with_total: int = 0


class FailureEntry(msgspec.Struct, frozen=True):
    """How often an event name failed with a status."""

    event_name: str
    status: str
    events: int


class ChangeEntry(msgspec.Struct, frozen=True):
    """A change to IAM."""

    time: str | None
    event_name: str
    principal: str
    address: str
    resource: str
    event_id: str | None


class TimelineEntry(msgspec.Struct, frozen=True):
    """One line of a finding's timeline."""

    time: str | None
    text: str
    event_id: str | None


class DetectionEntry(msgspec.Struct, frozen=True):
    """A finding: what was detected, why, and its timeline; `weight` is the sum of the rules' weights."""

    principal: str
    address: str
    first: str | None
    last: str | None
    events: int
    weight: int
    reasons: tuple[str, ...]
    timeline: tuple[TimelineEntry, ...]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """The whole summary."""

    files: tuple[CoverageEntry, ...]
    events: int
    raw_bytes: int
    first_event_time: str | None
    last_event_time: str | None
    untimed: int
    disordered: int
    findings: tuple[DetectionEntry, ...]
    event_names: dict[str, int]
    """The 50 most frequent event names, in descending order; `event_types` likewise."""
    event_types: dict[str, int]
    principals: tuple[ActorEntry, ...]
    addresses: tuple[ActorEntry, ...]
    principals_total: int
    addresses_total: int
    outcomes: dict[str, int]
    statuses: dict[str, int]
    failures: tuple[FailureEntry, ...]
    sign_ins: dict[str, int]
    sign_ins_by_day: dict[str, dict[str, int]]
    new_since: str | None
    new_principals: tuple[ActorEntry, ...]
    new_addresses: tuple[ActorEntry, ...]
    new_principals_total: int
    new_addresses_total: int
    iam_changes: int
    iam_change_names: dict[str, int]
    iam_changes_latest: tuple[ChangeEntry, ...]
    limits: tuple[str, ...]
    """What is not exact, in one clause each."""


def make_summary(stats: EventStats, files: Sequence[CoverageEntry]) -> Summary:
    """Make the summary of the statistics of `files`."""
    principals, addresses = stats.list_actors()
    new_since = stats.last - (stats.last - stats.first) // _NEW_PART
    new = [[one for one in actors if one.first > new_since] for actors in (principals, addresses)]
    return Summary(
        files=tuple(files),
        events=stats.events,
        raw_bytes=stats.raw_bytes,
        first_event_time=_format_time(stats.first),
        last_event_time=_format_time(stats.last),
        untimed=stats.untimed,
        disordered=stats.disordered,
        findings=_list_findings(stats, principals, addresses),
        event_names=dict(stats.names.rank(_TOP)),
        event_types=dict(stats.types.rank(_TOP)),
        principals=_list_top(principals),
        addresses=_list_top(addresses),
        principals_total=len(principals),
        addresses_total=len(addresses),
        outcomes={str(outcome): number for outcome, number in stats.outcomes.items()},
        statuses=dict(sorted(stats.statuses.items())),
        failures=tuple(FailureEntry(*key, number) for key, number in stats.failures.rank(_TOP)),
        sign_ins=dict(_sum_sign_ins(stats)),
        sign_ins_by_day=_group_sign_ins(stats),
        new_since=_format_time(new_since),
        new_principals=_list_top(new[0]),
        new_addresses=_list_top(new[1]),
        new_principals_total=len(new[0]),
        new_addresses_total=len(new[1]),
        iam_changes=stats.change_names.counts.total() + stats.change_names.dropped,
        iam_change_names=dict(stats.change_names.rank(_TOP)),
        iam_changes_latest=_list_changes(stats),
        limits=tuple(list_limits(stats, files)),
    )


def encode_counts(stats: EventStats) -> bytes:
    """Return a JSON object of event name and count, most frequent first."""
    return msgspec.json.format(msgspec.json.encode(dict(stats.names.rank())), indent=1) + b"\n"


def read_coverage(source: Input) -> CoverageEntry:
    """Return what is stated about an input: by the manifest beside a file, or by the commits of an archive.

    Raises:
        CorruptRun: the manifest cannot be read, or the archive is damaged.
        DiskError: a file cannot be accessed.
    """
    facts = source.read_facts()
    statement = facts.statement
    if statement is None:
        return CoverageEntry(facts.name, facts.verdict.kind, facts.words)
    return CoverageEntry(
        file=facts.name,
        state=facts.verdict.kind,
        verdict=facts.words,
        is_final=facts.verdict.is_final,
        asked_start=facts.start,
        asked_end=facts.end,
        targets=len(statement.coverage),
        targets_answered=sum(bool(target.windows) for target in statement.coverage),
        gaps=statement.gaps,
        waived_gaps=len(statement.waived_gaps),
        provisional=len(statement.provisional),
        filtered=facts.filtered,
        compartment_paths=dict(facts.paths),
        regions=dict(source.count_regions().most_common()),
    )


def list_limits(stats: EventStats, files: Sequence[CoverageEntry]) -> list[str]:
    """Return what is not exact in the statistics of `files`, in one clause each."""
    limits = []
    for noun, is_capped in (
        ("event names or types", stats.names.is_capped or stats.types.is_capped),
        ("principals", stats.are_principals_capped),
        ("addresses", stats.are_addresses_capped),
    ):
        if is_capped:
            limits.append(f"there are too many {noun} to count each of them; the rarest are omitted")
    if stats.tracker.dropped:
        limits.append("there are too many pairs of principal and address to track; some may be first seen earlier")
    if stats.change_names.counts.total() > len(stats.changes):
        limits.append(f"only the first {format_count(len(stats.changes), 'change')} to IAM examined one by one")
    if stats.disordered:
        limits.append("the events are not in the order of time; timelines may show the wrong sequence")
    if len(files) > 1:
        limits.append("an event that occurs in several files is counted several times")
    return limits


def _format_time(instant: int) -> str | None:
    return format_instant(instant) if instant else None


def _list_top(actors: Sequence[ActorSummary]) -> tuple[ActorEntry, ...]:
    return tuple(
        ActorEntry(
            name=one.name,
            events=one.events,
            failures=one.failures,
            first_seen=_format_time(one.first),
            last_seen=_format_time(one.last),
            with_=tuple(filter(None, one.partners))[:_PARTNERS],
            with_total=sum(map(bool, one.partners)),
        )
        for one in rank_actors(actors, _TOP)
    )


def _list_findings(
    stats: EventStats, principals: Sequence[ActorSummary], addresses: Sequence[ActorSummary]
) -> tuple[DetectionEntry, ...]:
    return tuple(
        DetectionEntry(
            principal=one.principal,
            address=one.address,
            first=_format_time(one.first),
            last=_format_time(one.last),
            events=one.events,
            weight=one.weight,
            reasons=tuple(reason.text for reason in one.reasons),
            timeline=tuple(
                TimelineEntry(_format_time(item.instant), item.text, item.event_id)
                for item in describe_timeline(stats, one)
            ),
        )
        for one in find_detections(stats, principals, addresses)
    )


def _sum_sign_ins(stats: EventStats) -> Counter[str]:
    total: Counter[str] = Counter()
    for (_, outcome), number in stats.sign_ins.items():
        total[outcome] += number
    return total


def _group_sign_ins(stats: EventStats) -> dict[str, dict[str, int]]:
    """Return the sign-ins by day and outcome."""
    days: dict[str, dict[str, int]] = {}
    for (hour, outcome), number in sorted(stats.sign_ins.items()):
        day = format_instant(hour // 24 * 24 * 3600 * NANOSECONDS)[:10]
        outcomes = days.setdefault(day, {})
        outcomes[outcome] = outcomes.get(outcome, 0) + number
    return days


def _list_changes(stats: EventStats) -> tuple[ChangeEntry, ...]:
    latest = sorted(stats.changes, key=lambda change: change.step.instant, reverse=True)[:_CHANGES]
    return tuple(
        ChangeEntry(
            time=_format_time(one.step.instant),
            event_name=one.step.name,
            principal=one.principal,
            address=one.address,
            resource=one.resource_name or one.step.resource_id or "",
            event_id=one.step.event_id,
        )
        for one in latest
    )


@dataclass(slots=True)
class Overview:
    """The counts that the demo shows of an export."""

    events: int = 0
    names: Counter[str] = field(default_factory=Counter)
    sign_in_failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(principal, address) -> failed sign-ins."""


def make_overview(path: Path) -> Overview:
    """Count the events of an uncompressed JSON array in the layout that `oci-audit export` writes.

    Raises:
        DiskError: the file cannot be read.
    """
    overview = Overview()
    with explain_disk("read", path), path.open("rb") as file:
        for line in file:
            text = line.rstrip(b"\n").rstrip(b",")
            if text not in {b"[", b"]"}:
                _count_event(overview, read_facts(text))
    return overview


def _count_event(overview: Overview, facts: Facts) -> None:
    overview.events += 1
    overview.names[facts.details.event_name or "(none)"] += 1
    if facts.is_sign_in and facts.outcome == "failure":
        principal = facts.identity.principal_name or "(unknown)"
        overview.sign_in_failures[principal, facts.identity.ip_address or "(no address)"] += 1
