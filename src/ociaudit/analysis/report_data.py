"""The coverage of an export, as a picture shows it: places by bins of time, the worst state in each.

Owns: turning a manifest's coverage and gaps into rows of states. Pure. Must not: read files, or draw.

Invariants
- A bin shows the worst that is true anywhere in it: a gap of one minute colours its whole day.
- Time inside the range that is neither covered nor a gap is shown as not asked, never as covered.
- However many places there are, the rows with gaps come first, and what is cut off is counted.

What a report says, ready to be put into its page.

Owns: the form of the data that the page draws, and its limits. Pure. Must not: read files, or know of HTML.

Invariants
- It is small, whatever the file is: every list and every text has a limit, and says what is left out.
- Times are milliseconds since 1970, or None where an event has none that can be read.
- Texts are the events' own, hostile; the page makes them harmless.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from heapq import nlargest, nsmallest
from typing import Literal, NamedTuple

import msgspec

from ociaudit.analysis.activity import ActorSummary
from ociaudit.analysis.classification import classify_event
from ociaudit.analysis.detections import Detection, Line, describe_timeline, find_detections
from ociaudit.analysis.report_stats import EPOCH, SERIES, Kept, ReportStats, Series
from ociaudit.analysis.stats import EventStats
from ociaudit.events.fields import Facts
from ociaudit.planning.window import Coverage, Window
from ociaudit.storage.manifest import Manifest

STATES = ("covered", "provisional", "waived", "not asked", "denied", "failed")
"""From best to worst. In a pattern each is its first letter, `x` for a failed one."""
_LETTERS = "cpwndx"
_DAY = 1_440
_MOST_BINS = 400
_MOST_ROWS = 6_000
_MOST_GAPS = 300


class CoverageMap(msgspec.Struct, frozen=True):
    """Rows of states.

    `patterns` are runs such as `c6x1`: six covered bins, then one that failed. A row is (region, compartment,
    pattern), each an index; rows with gaps first. `bins` bins of `step` seconds begin at `start`.
    """

    start: int
    step: int
    bins: int
    regions: tuple[str, ...]
    compartments: tuple[tuple[str, str], ...]
    patterns: tuple[str, ...]
    rows: tuple[tuple[int, int, int], ...]
    targets: int
    targets_with_gaps: int
    rows_left_out: int
    worst: str


class GapRow(NamedTuple):
    """A gap as text, for a list."""

    region: str
    compartment: str
    name: str
    start: str
    end: str
    kind: str
    reason: str
    request_id: str


def map_coverage(manifest: Manifest, names: dict[str, str]) -> CoverageMap:
    """Return the picture of a manifest's coverage; `names` are those of compartments, where known."""
    window = manifest.window
    step = _DAY
    while -(-window.end // step) - window.start // step > _MOST_BINS:
        step += _DAY
    first = window.start // step
    bins = [
        Window(max(window.start, number * step), min(window.end, (number + 1) * step))
        for number in range(first, -(-window.end // step))
    ]
    states = _map_states(manifest)
    patterns: dict[str, int] = {}
    regions: dict[str, int] = {}
    compartments: dict[str, int] = {}
    worst_of_all = [0] * len(bins)
    ranked: list[tuple[int, str, str, int]] = []
    for (region, compartment), layers in states.items():
        levels = _judge_bins(bins, layers)
        worst_of_all = list(map(max, worst_of_all, levels))
        pattern = patterns.setdefault(_write_runs(levels), len(patterns))
        ranked.append((-max(levels), region, compartment, pattern))
    ranked.sort(key=lambda row: (row[0], names.get(row[2], "~"), row[2], row[1]))
    shown = ranked[:_MOST_ROWS]
    rows = tuple(
        (regions.setdefault(region, len(regions)), compartments.setdefault(compartment, len(compartments)), pattern)
        for _, region, compartment, pattern in shown
    )
    return CoverageMap(
        start=first * step * 60,
        step=step * 60,
        bins=len(bins),
        regions=tuple(regions),
        compartments=tuple((one, names.get(one, "")) for one in compartments),
        patterns=tuple(patterns),
        rows=rows,
        targets=len(ranked),
        targets_with_gaps=sum(-row[0] >= STATES.index("not asked") for row in ranked),
        rows_left_out=len(ranked) - len(shown),
        worst=_write_runs(worst_of_all),
    )


def list_gaps(manifest: Manifest, names: dict[str, str]) -> tuple[list[GapRow], int]:
    """Return the first gaps of a manifest as rows, and how many more there are."""
    gaps = [
        GapRow(
            gap.region,
            gap.compartment,
            names.get(gap.compartment, ""),
            gap.start,
            gap.end,
            gap.kind,
            gap.reason,
            gap.request_id or "",
        )
        for gap in manifest.gaps[:_MOST_GAPS]
    ]
    return gaps, len(manifest.gaps) - len(gaps)


_TargetRow = tuple[str, str]
_Layers = list[Coverage]


def _map_states(manifest: Manifest) -> dict[_TargetRow, _Layers]:
    """Return for each place one coverage per state, in the order of `STATES`."""
    spans: dict[_TargetRow, list[list[Window]]] = {}

    def put(target: _TargetRow, state: str, windows: Iterable[Window]) -> None:
        spans.setdefault(target, [[] for _ in STATES])[STATES.index(state)].extend(windows)

    for entry in manifest.coverage:
        put((entry.region, entry.compartment), "covered", entry.coverage.windows)
    for each in manifest.provisional:
        put((each.region, each.compartment), "provisional", [each.window])
    for gaps, state in ((manifest.waived_gaps, "waived"), (manifest.gaps, "")):
        for gap in gaps:
            put((gap.region, gap.compartment), state or gap.kind, [gap.window])
    return {target: [Coverage(windows) for windows in layers] for target, layers in spans.items()}


def _judge_bins(bins: Sequence[Window], layers: _Layers) -> list[int]:
    """Return the worst state of each bin, as an index of `STATES`."""
    levels = [0] * len(bins)
    known = Coverage([window for layer in layers for window in layer.windows])
    _paint(levels, bins, known.find_missing(Window(bins[0].start, bins[-1].end)), STATES.index("not asked"))
    for level, layer in enumerate(layers):
        if level:
            _paint(levels, bins, layer.windows, level)
    return levels


def _paint(levels: list[int], bins: Sequence[Window], windows: Iterable[Window], level: int) -> None:
    """Put a state into each bin that a window touches, unless a worse one stands there."""
    for window in windows:
        first = bisect_right(bins, window.start, key=lambda one: one.end)
        for number in range(first, len(bins)):
            if bins[number].start >= window.end:
                break
            levels[number] = max(levels[number], level)


def _write_runs(levels: Sequence[int]) -> str:
    return "".join(f"{_LETTERS[level]}{count}" for level, count in _count_runs(levels))


def _count_runs(levels: Sequence[int]) -> Iterator[tuple[int, int]]:
    previous, count = -1, 0
    for level in levels:
        if level == previous:
            count += 1
            continue
        if count:
            yield previous, count
        previous, count = level, 1
    if count:
        yield previous, count


LONGEST_TEXT = 400
_MOST_RANKED = 50
_MOST_ADDRESSES = 1_000
_MOST_PARTNERS = 3
_MOST_HIGH, _MOST_MEDIUM = 10, 3
_HIGH_WEIGHT = 5
_SERIES = {name: number for number, name in enumerate(SERIES)}
_SIGN_IN, _CHANGE = 1, 2
_UNDOING = ("delete", "remove")


class Ranking(msgspec.Struct, frozen=True):
    """The most frequent names as (name, events, failures); `distinct` counts all that are known."""

    rows: tuple[tuple[str, int, int], ...]
    distinct: int


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
    """A line of a story."""

    time: int | None
    text: str
    tone: Literal["bad", "warn", "calm"]


class FindingRow(NamedTuple):
    """Something worth a look: who, from where, why, and what happened."""

    severity: Literal["high", "medium"]
    principal: str
    address: str
    reasons: str
    first: int | None
    last: int | None
    events: int
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
    top_addresses: Ranking
    addresses: tuple[AddressRow, ...]
    changes: tuple[ChangeRow, ...]
    all_changes: int
    findings: tuple[FindingRow, ...]
    findings_left_out: int
    coverage: CoverageMap | None
    sample: tuple[EventRow, ...]
    is_sampled: bool


def make_report_data(tally: ReportStats, coverage: CoverageMap | None, span: tuple[int, int]) -> ReportData:
    """Bring a tally into the form of the page; `span` is the range that the time axes show."""
    stats, (start, end) = tally.stats, span
    principals, actor_summaries = stats.list_principals(), stats.list_addresses()
    suspicions = find_detections(stats, principals, actor_summaries)
    high = [one for one in suspicions if one.weight >= _HIGH_WEIGHT]
    shown = high[:_MOST_HIGH] + suspicions[len(high) :][:_MOST_MEDIUM]
    told = {(one.principal, one.address) for one in high}
    kept = tally.sample.choose(stats.types.counts, lambda facts: _is_reported(facts, told))
    return ReportData(
        start=start,
        end=end,
        events=stats.events,
        timeline=tally.times.show(start, end),
        sign_ins=tally.sign_ins.show(start, end),
        types=_rank_types(tally),
        principals=_rank(principals),
        top_addresses=_rank(actor_summaries),
        addresses=tuple(_list_addresses(stats, actor_summaries)),
        changes=tuple(_show_change(change.facts) for change in sorted(tally.latest_changes)),
        all_changes=tally.changes,
        findings=tuple(_show_finding(stats, one) for one in shown),
        findings_left_out=len(suspicions) - len(shown),
        coverage=coverage,
        sample=tuple(_show_event(each) for each in kept),
        is_sampled=len(kept) < stats.events,
    )


def _is_reported(facts: Facts, told: set[tuple[str, str]]) -> bool:
    identity = facts.identity
    person = identity.principal_name or identity.principal_id or identity.caller_name or ""
    return any((person, address) in told or ("", address) in told for address in facts.addresses)


def _rank_types(tally: ReportStats) -> Ranking:
    types, failed = tally.stats.types, tally.failed_types.counts
    rows = tuple((_cut(name), number, failed[name]) for name, number in types.rank(_MOST_RANKED))
    return Ranking(rows, len(types.counts))


def _rank(actor_summaries: Sequence[ActorSummary]) -> Ranking:
    ranked = nsmallest(_MOST_RANKED, actor_summaries, key=lambda one: (-one.events, one.name))
    return Ranking(tuple((_cut(one.name), one.events, one.failures) for one in ranked), len(actor_summaries))


def _list_addresses(stats: EventStats, actor_summaries: Sequence[ActorSummary]) -> list[AddressRow]:
    """List the addresses by first seen; when there are too many, those with failed sign-ins and changes first."""
    failed: defaultdict[str, int] = defaultdict(int)
    changes: defaultdict[str, int] = defaultdict(int)
    for (_, address), activity in stats.activities.items():
        special = activity.special
        if activity.is_special and (special.failed_sign_ins or special.steps):
            failed[address] += special.failed_sign_ins
            changes[address] += len(special.steps) + special.steps_left_out
    chosen = nlargest(_MOST_ADDRESSES, actor_summaries, key=lambda one: (one.name in failed, one.first, one.name))
    return [
        AddressRow(
            address=_cut(one.name),
            first=to_milliseconds(one.first),
            last=to_milliseconds(one.last),
            events=one.events,
            failures=one.failures,
            failed_sign_ins=failed.get(one.name, 0),
            changes=changes.get(one.name, 0),
            principals=tuple(map(_cut, filter(None, one.partners)))[:_MOST_PARTNERS],
        )
        for one in sorted(chosen, key=lambda one: (one.first, one.name))
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


def _show_event(kept: Kept) -> EventRow:
    facts, details = kept.facts, kept.facts.details
    event_class = classify_event(facts.event_type, details.event_name, facts.domain_event)
    return EventRow(
        to_milliseconds(facts.instant),
        _cut(details.event_name or facts.event_type),
        _SERIES[facts.outcome],
        _cut(facts.identity.principal_name),
        _cut(facts.identity.ip_address),
        _cut(details.compartment_name or details.compartment_id),
        _SIGN_IN * event_class.is_sign_in + _CHANGE * event_class.is_iam_change,
        kept.raw.decode("utf-8", "replace"),
    )


def _show_finding(stats: EventStats, detection: Detection) -> FindingRow:
    is_high = detection.weight >= _HIGH_WEIGHT
    return FindingRow(
        severity="high" if is_high else "medium",
        principal=_cut(detection.principal),
        address=_cut(detection.address),
        reasons="; ".join(reason.text for reason in detection.reasons),
        first=to_milliseconds(detection.first),
        last=to_milliseconds(detection.last),
        events=detection.events,
        steps=tuple(_show_line(line, is_high=is_high) for line in describe_timeline(stats, detection)),
    )


def _show_line(line: Line, *, is_high: bool) -> StepRow:
    is_undoing = line.text.casefold().startswith(_UNDOING) and " by " in line.text
    return StepRow(
        to_milliseconds(line.instant), _cut(line.text), "calm" if is_undoing else "bad" if is_high else "warn"
    )


def to_milliseconds(instant: int) -> int | None:
    """Return an instant in milliseconds since 1970, None for an unreadable one."""
    return (instant - EPOCH) // 1_000_000 if instant else None


def _cut(text: str | None) -> str:
    if not text:
        return ""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
