"""The form of a summary, as `oci-audit summary --json` prints it.

Owns: its fields. Must not: fill them. Strings are the events' own: hostile on a screen; times are RFC 3339 in UTC.

What a file of events tells at a glance: the summary, ready to be printed or encoded.

Owns: what is in a summary, and how long its lists are. Must not: print, or count.

Invariants
- Coverage is what a manifest beside a file states, or unknown; it is never inferred from events.
- What was cut or forgotten is said in `limits`.
- The strings are the events' own: hostile on a screen.

A first look at an export: how many events, of which kinds, and which sign-ins failed.

Owns: the counting. Must not: print, or hold the events.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from heapq import nsmallest
from pathlib import Path

import msgspec

from ociaudit.analysis.activity import ActorSummary
from ociaudit.analysis.detections import describe_timeline, find_detections
from ociaudit.analysis.stats import EventStats
from ociaudit.events.fields import NANOSECONDS, Facts, format_instant, read_facts
from ociaudit.storage.atomic_io import explain_disk
from ociaudit.storage.manifest import GapEntry, Manifest, load_manifest, name_manifest


class CoverageEntry(msgspec.Struct, frozen=True):
    """What the manifest beside a file states; all but the first two are empty without one.

    `state` is `complete`, `incomplete`, `unknown` (no manifest), or `altered` (the manifest tells another size).
    """

    file: str
    state: str
    asked_start: str | None = None
    asked_end: str | None = None
    targets: int = 0
    targets_answered: int = 0
    gaps: tuple[GapEntry, ...] = ()
    waived_gaps: int = 0
    provisional: int = 0
    filtered: int = 0


class Seen(msgspec.Struct, frozen=True):
    """A principal with its addresses, or an address with its principals (`with_`, by first seen, at most twenty)."""

    name: str
    events: int
    failures: int
    first_seen: str | None
    last_seen: str | None
    with_: tuple[str, ...] = msgspec.field(name="with")
    with_total: int = 0


class Failure(msgspec.Struct, frozen=True):
    """What failed how often."""

    event_name: str
    status: str
    events: int


class ChangeEntry(msgspec.Struct, frozen=True):
    """One change to IAM."""

    time: str | None
    event_name: str
    principal: str
    address: str
    resource: str
    event_id: str | None


class TimelineEntry(msgspec.Struct, frozen=True):
    """A line of a finding's story."""

    time: str | None
    text: str
    event_id: str | None


class DetectionEntry(msgspec.Struct, frozen=True):
    """Something worth a look, and why; `weight` is the sum of the rules' weights."""

    principal: str
    address: str
    first: str | None
    last: str | None
    events: int
    weight: int
    reasons: tuple[str, ...]
    story: tuple[TimelineEntry, ...]


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
    """The most frequent ones, as `event_types`."""
    event_types: dict[str, int]
    principals: tuple[Seen, ...]
    addresses: tuple[Seen, ...]
    principals_total: int
    addresses_total: int
    outcomes: dict[str, int]
    statuses: dict[str, int]
    failures: tuple[Failure, ...]
    sign_ins: dict[str, int]
    sign_ins_by_day: dict[str, dict[str, int]]
    new_since: str | None
    new_principals: tuple[Seen, ...]
    new_addresses: tuple[Seen, ...]
    new_principals_total: int
    new_addresses_total: int
    iam_changes: int
    iam_change_names: dict[str, int]
    iam_changes_latest: tuple[ChangeEntry, ...]
    limits: tuple[str, ...]
    """What is not exact because there was too much of it."""


_TOP = 50
_PARTNERS = 20
_CHANGES = 100
_LAST_PART = 4
"""New is what appears first in the last quarter of the range."""


def make_summary(stats: EventStats, files: Sequence[CoverageEntry]) -> Summary:
    """Make the summary of a census."""
    principals, addresses = stats.list_principals(), stats.list_addresses()
    new_since = stats.last - (stats.last - stats.first) // _LAST_PART
    new = [[one for one in seen if one.first > new_since] for seen in (principals, addresses)]
    return Summary(
        files=tuple(files),
        events=stats.events,
        raw_bytes=stats.raw_bytes,
        first_event_time=_show(stats.first),
        last_event_time=_show(stats.last),
        untimed=stats.untimed,
        disordered=stats.disordered,
        findings=_list_findings(stats, principals, addresses),
        event_names=dict(stats.names.rank(_TOP)),
        event_types=dict(stats.types.rank(_TOP)),
        principals=_rank(principals),
        addresses=_rank(addresses),
        principals_total=len(principals),
        addresses_total=len(addresses),
        outcomes={str(outcome): number for outcome, number in stats.outcomes.items()},
        statuses=dict(sorted(stats.statuses.items())),
        failures=tuple(Failure(*key, number) for key, number in stats.failures.rank(_TOP)),
        sign_ins=dict(_sum_sign_ins(stats)),
        sign_ins_by_day=_group_sign_ins(stats),
        new_since=_show(new_since),
        new_principals=_rank(new[0]),
        new_addresses=_rank(new[1]),
        new_principals_total=len(new[0]),
        new_addresses_total=len(new[1]),
        iam_changes=stats.change_names.counts.total() + stats.change_names.dropped,
        iam_change_names=dict(stats.change_names.rank(_TOP)),
        iam_changes_latest=_list_changes(stats),
        limits=tuple(list_limits(stats, files)),
    )


def encode_counts(stats: EventStats) -> bytes:
    """Return the plain map from event name to count, most frequent first, as JSON."""
    return msgspec.json.format(msgspec.json.encode(dict(stats.names.rank())), indent=1) + b"\n"


def read_coverage(path: Path | None) -> CoverageEntry:
    """Read what the manifest beside a file says of its coverage; the file is not checked but for its size.

    Raises:
        CorruptRun: the manifest cannot be read.
        DiskError: the disk refused.
    """
    if path is None:
        return CoverageEntry("stdin", "unknown")
    manifest_path = name_manifest(path)
    with explain_disk("read", manifest_path):
        found = load_manifest(manifest_path) if manifest_path.is_file() else None
        if found is None:
            return CoverageEntry(str(path), "unknown")
        size_bytes = path.stat().st_size
    return _state_coverage(str(path), size_bytes, found.manifest)


def _state_coverage(name: str, size_bytes: int, manifest: Manifest) -> CoverageEntry:
    is_fitting = manifest.output.size_bytes == size_bytes
    return CoverageEntry(
        file=name,
        state=("complete" if manifest.complete else "incomplete") if is_fitting else "altered",
        asked_start=manifest.range.start,
        asked_end=manifest.range.end,
        targets=len(manifest.coverage),
        targets_answered=sum(bool(target.windows) for target in manifest.coverage),
        gaps=manifest.gaps,
        waived_gaps=len(manifest.waived_gaps),
        provisional=len(manifest.provisional),
        filtered=manifest.totals.filtered,
    )


def _show(instant: int) -> str | None:
    return format_instant(instant) if instant else None


def _rank(seen: Sequence[ActorSummary]) -> tuple[Seen, ...]:
    ranked = nsmallest(_TOP, seen, key=lambda one: (-one.events, one.name))
    return tuple(
        Seen(
            name=one.name,
            events=one.events,
            failures=one.failures,
            first_seen=_show(one.first),
            last_seen=_show(one.last),
            with_=tuple(filter(None, one.partners))[:_PARTNERS],
            with_total=sum(map(bool, one.partners)),
        )
        for one in ranked
    )


def _list_findings(
    stats: EventStats, principals: Sequence[ActorSummary], addresses: Sequence[ActorSummary]
) -> tuple[DetectionEntry, ...]:
    return tuple(
        DetectionEntry(
            principal=one.principal,
            address=one.address,
            first=_show(one.first),
            last=_show(one.last),
            events=one.events,
            weight=one.weight,
            reasons=tuple(reason.text for reason in one.reasons),
            story=tuple(
                TimelineEntry(_show(line.instant), line.text, line.event_id) for line in describe_timeline(stats, one)
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
    days: dict[str, dict[str, int]] = {}
    for (hour, outcome), number in sorted(stats.sign_ins.items()):
        day = format_instant(hour // 24 * 24 * 3600 * NANOSECONDS)[:10]
        of_day = days.setdefault(day, {})
        of_day[outcome] = of_day.get(outcome, 0) + number
    return days


def _list_changes(stats: EventStats) -> tuple[ChangeEntry, ...]:
    latest = sorted(stats.changes, key=lambda one: one.step.instant, reverse=True)[:_CHANGES]
    return tuple(
        ChangeEntry(
            time=_show(one.step.instant),
            event_name=one.step.name,
            principal=one.principal,
            address=one.address,
            resource=one.resource_name or one.step.resource_id or "",
            event_id=one.step.event_id,
        )
        for one in latest
    )


def list_limits(stats: EventStats, files: Sequence[CoverageEntry]) -> list[str]:
    """Return what is not exact because there was too much of it, a sentence each."""
    limits = []
    for noun, is_capped in (
        ("event names or types", stats.names.is_capped or stats.types.is_capped),
        ("principals", stats.principals.is_capped),
        ("addresses", stats.addresses.is_capped),
    ):
        if is_capped:
            limits.append(f"there are more {noun} than are counted one by one; those that are rare are left out")
    if stats.following.dropped:
        limits.append("there are more pairs of principal and address than can be followed; first seen may be too late")
    if stats.change_names.counts.total() > len(stats.changes):
        limits.append(f"of the changes to IAM only the first {len(stats.changes):,} were looked at one by one")
    if stats.disordered:
        limits.append("the events do not stand in the order of time; what followed what may be told wrongly")
    if len(files) > 1:
        limits.append("an event that stands in several files counts several times")
    return limits


@dataclass(slots=True)
class Overview:
    """Counts over an export. The strings are the events' own: treat them as hostile on a screen."""

    events: int = 0
    names: Counter[str] = field(default_factory=Counter)
    sign_in_failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    """(principal, address) -> failed sign-ins."""


def make_overview(path: Path) -> Overview:
    """Read an uncompressed JSON array as `oci-audit export` writes it, line by line.

    Raises:
        DiskError: the file cannot be read.
    """
    glance = Overview()
    with explain_disk("read", path), path.open("rb") as file:
        for line in file:
            text = line.rstrip(b"\n").rstrip(b",")
            if text not in {b"[", b"]"}:
                _count(glance, read_facts(text))
    return glance


def _count(glance: Overview, facts: Facts) -> None:
    glance.events += 1
    glance.names[facts.details.event_name or "(none)"] += 1
    if facts.is_sign_in and facts.outcome == "failure":
        who = facts.identity.principal_name or "(unknown)"
        glance.sign_in_failures[who, facts.identity.ip_address or "(no address)"] += 1
