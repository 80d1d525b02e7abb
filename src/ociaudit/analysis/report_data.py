"""The data of a report: everything that its page draws, within fixed limits.

`make_report_data` turns the statistics into `ReportData`, which the page reads as JSON. `map_coverage` turns the
coverage and gaps of a manifest into a `CoverageMap`: a row for each target, a bin for each day or group of days.

Invariants
- The data is small however large the file is: every list and every text has a limit, and what is left out is counted.
- A bin shows the worst state of any of its minutes: a gap of one minute colors its whole day. A bin is drawn as far as
  the range reaches: 37 minutes of today are not a whole day. Time inside the range that is neither covered nor a gap is
  shown as not requested, never as covered. Rows with gaps come first.
- Times of events are milliseconds since 1970, or None if an event has no readable time.
- All texts are the events' own and therefore untrusted; the page makes them harmless.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import groupby
from typing import Literal, NamedTuple

import msgspec

from ociaudit.analysis.activity import ActorSummary, classify_event, rank_actors, read_pairs
from ociaudit.analysis.detections import (
    DETECTION_WEIGHT,
    Detection,
    TimelineItem,
    describe_timeline,
    find_detections,
)
from ociaudit.analysis.report_stats import EPOCH, SERIES, ReportStats, SampledEvent, Series
from ociaudit.analysis.stats import EventStats
from ociaudit.events.fields import Facts
from ociaudit.planning.shard import Coverage, Target, Window
from ociaudit.storage.manifest import CoverageStatement

STATES = ("covered", "provisional", "waived", "not requested", "denied", "failed")
"""The states of coverage, from best to worst."""
LONGEST_TEXT = 400
_STATE_LETTERS = "cpwndx"
_SERIES_INDEX = {name: number for number, name in enumerate(SERIES)}
_DAY = 1_440
_SHORT_STEPS = ((1, 4 * 60), (5, 8 * 60), (15, 24 * 60), (60, 48 * 60))
"""The width of a bin and the longest range that it suits, in minutes; longer ranges have bins of whole days."""
_MOST_BINS = 400
_MOST_ROWS = 6_000
_MOST_GAPS = 300
_MOST_RANKED = 50
_MOST_ADDRESSES = 1_000
_MOST_PARTNERS = 3
_MOST_HIGH, _MOST_MEDIUM = 10, 3
_SIGN_IN, _CHANGE = 1, 2
_REVERSALS = ("delete", "remove")
_TargetKey = tuple[str, str]
_CoverageByState = list[Coverage]


class CoverageMap(msgspec.Struct, frozen=True):
    """The states of all targets over time.

    There are `bins` bins of `step` seconds from `start`, in seconds since 1970. The range is `range_start` to
    `range_end`; the first and the last bin may reach beyond it. A pattern is a text of runs such as
    `c6x1`: six covered bins, then one that failed; the letter of a state is its first one, except `x` for failed. A
    row is (region, compartment, pattern), each an index; a compartment is (id, name).
    """

    start: int
    step: int
    bins: int
    range_start: int
    range_end: int
    regions: tuple[str, ...]
    compartments: tuple[tuple[str, str], ...]
    patterns: tuple[str, ...]
    rows: tuple[tuple[int, int, int], ...]
    targets: int
    targets_with_gaps: int
    """Targets with a gap, or with a time that was not requested."""
    targets_waived: int
    """Targets whose only gaps are waived; they did not answer either."""
    targets_provisional: int
    """Targets that answered, but in part too early to be final."""
    rows_left_out: int


class GapRow(NamedTuple):
    """A gap as a row of the table of gaps."""

    region: str
    compartment: str
    name: str
    start: str
    end: str
    kind: str
    reason: str
    request_id: str


def map_coverage(stated: CoverageStatement, names: dict[str, str]) -> CoverageMap:
    """Return the map of stated coverage; `names` maps compartment ids to names, where known."""
    window = stated.window
    step = next((step for step, longest in _SHORT_STEPS if window.minutes <= longest), _DAY)
    while -(-window.end // step) - window.start // step > _MOST_BINS:
        step += _DAY
    first = window.start // step
    bins = [
        Window(max(window.start, number * step), min(window.end, (number + 1) * step))
        for number in range(first, -(-window.end // step))
    ]
    targets = _read_targets(stated)
    patterns: dict[str, int] = {}
    regions: dict[str, int] = {}
    compartments: dict[str, int] = {}
    ranked: list[tuple[int, str, str, int]] = []
    for (region, compartment), coverage in targets.items():
        levels = _find_worst_states(bins, coverage)
        pattern = patterns.setdefault(_encode_runs(levels), len(patterns))
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
        range_start=window.start * 60,
        range_end=window.end * 60,
        regions=tuple(regions),
        compartments=tuple((one, names.get(one, "")) for one in compartments),
        patterns=tuple(patterns),
        rows=rows,
        targets=len(ranked),
        targets_with_gaps=sum(-row[0] >= STATES.index("not requested") for row in ranked),
        targets_waived=sum(-row[0] == STATES.index("waived") for row in ranked),
        targets_provisional=sum(-row[0] == STATES.index("provisional") for row in ranked),
        rows_left_out=len(ranked) - len(shown),
    )


def list_gaps(stated: CoverageStatement, names: dict[str, str]) -> tuple[list[GapRow], int]:
    """Return the first gaps as rows, and the number of all others."""
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
        for gap in stated.gaps[:_MOST_GAPS]
    ]
    return gaps, len(stated.gaps) - len(gaps)


def _read_targets(stated: CoverageStatement) -> dict[_TargetKey, _CoverageByState]:
    """Return for each target the coverage of each state, in the order of `STATES`."""
    windows_by_state: dict[_TargetKey, list[list[Window]]] = {}

    def add(target: Target, state: str, windows: Iterable[Window]) -> None:
        by_state = windows_by_state.setdefault((target.region, target.compartment), [[] for _ in STATES])
        by_state[STATES.index(state)].extend(windows)

    for entry in stated.coverage:
        add(entry.target, "covered", entry.coverage.windows)  # even without a window: the target is in the map
    for each in stated.provisional:
        add(each.target, "provisional", [each.window])
    for gap in stated.waived_gaps:
        add(gap.target, "waived", [gap.window])
    for gap in stated.gaps:
        add(gap.target, gap.kind, [gap.window])
    return {target: [Coverage(windows) for windows in by_state] for target, by_state in windows_by_state.items()}


def _find_worst_states(bins: Sequence[Window], coverage: _CoverageByState) -> list[int]:
    """Return the worst state of each bin, as an index of `STATES`."""
    levels = [0] * len(bins)
    known = Coverage([window for one in coverage for window in one.windows])
    _raise_levels(levels, bins, known.find_missing(Window(bins[0].start, bins[-1].end)), STATES.index("not requested"))
    for level, one in enumerate(coverage):
        if level:
            _raise_levels(levels, bins, one.windows, level)
    return levels


def _raise_levels(levels: list[int], bins: Sequence[Window], windows: Iterable[Window], level: int) -> None:
    """Raise the level of each bin that a window touches to at least `level`."""
    for window in windows:
        first = bisect_right(bins, window.start, key=lambda one: one.end)
        for number in range(first, len(bins)):
            if bins[number].start >= window.end:
                break
            levels[number] = max(levels[number], level)


def _encode_runs(levels: Sequence[int]) -> str:
    return "".join(f"{_STATE_LETTERS[level]}{sum(1 for _ in run)}" for level, run in groupby(levels))


class Ranking(msgspec.Struct, frozen=True):
    """The most frequent names as (name, events, failures); `distinct` is the number of all known names."""

    rows: tuple[tuple[str, int, int], ...]
    distinct: int


class ChangeRow(NamedTuple):
    """A change to IAM; `outcome` is an index of `SERIES`, `event` one of the sample, or None if it is not in it."""

    time: int | None
    name: str
    outcome: int
    principal: str
    address: str
    resource: str
    event: int | None


class AddressRow(NamedTuple):
    """A source address with its totals and a few of its principals."""

    address: str
    first: int | None
    last: int | None
    events: int
    failures: int
    failed_sign_ins: int
    changes: int
    principals: tuple[str, ...]


class EventRow(NamedTuple):
    """An event.

    `kinds` is 1 for a sign-in plus 2 for a change to IAM. `raw` is empty if the event is too long or the page is full,
    `region` if it is not known.
    """

    time: int | None
    name: str
    outcome: int
    principal: str
    address: str
    compartment: str
    kinds: int
    raw: str
    region: str


class TimelineRow(NamedTuple):
    """One line of a finding's timeline."""

    time: int | None
    text: str
    tone: Literal["bad", "warn", "calm"]


class FindingRow(NamedTuple):
    """A finding: who, from where, why, and what happened.

    `in_sample` are the indices of those of its `events` that are in the sample. The page shows them by index, so that
    no text in an event decides what is shown.
    """

    severity: Literal["high", "medium"]
    principal: str
    address: str
    reasons: str
    first: int | None
    last: int | None
    events: int
    timeline: tuple[TimelineRow, ...]
    in_sample: tuple[int, ...]


class ReportData(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the page draws; `start` and `end` of the time axes are seconds since 1970.

    Without a range, because there is neither coverage nor an event with a time, there are no axes: both are 0, and the
    series None. `noun` says what the events were read from: a file, an archive or a folder.
    """

    noun: str
    start: int
    end: int
    events: int
    timeline: Series | None
    sign_ins: Series | None
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


def make_report_data(
    report_stats: ReportStats,
    coverage: CoverageMap | None,
    span: tuple[int, int] | None,
    origins: Iterable[Target | None] | None = None,
    *,
    noun: str = "file",
) -> ReportData:
    """Make the data of the page; `span` is the range of the time axes, in seconds since 1970, None if there is none.

    `origins` are those of all events in the order of the file, if they are known.
    """
    stats, (start, end) = report_stats.stats, span or (0, 0)
    principals, addresses = stats.list_actors()
    detections = find_detections(stats, principals, addresses)
    high = [one for one in detections if one.weight >= DETECTION_WEIGHT]
    shown = high[:_MOST_HIGH] + detections[len(high) :][:_MOST_MEDIUM]
    sample = report_stats.sample.choose(
        stats.types.counts, [report_stats.reserve.list_events(one.pairs) for one in shown]
    )
    indices = {event.number: index for index, event in enumerate(sample)}
    found = _find_events(shown, sample)
    regions = _find_regions(sample, origins)
    return ReportData(
        noun=noun,
        start=start,
        end=end,
        events=stats.events,
        timeline=report_stats.times.make_series(start, end) if span else None,
        sign_ins=report_stats.sign_ins.make_series(start, end) if span else None,
        types=_rank_types(report_stats),
        principals=_rank(principals),
        top_addresses=_rank(addresses),
        addresses=tuple(_list_addresses(stats, addresses)),
        changes=tuple(
            _make_change_row(change.facts, indices.get(change.number)) for change in sorted(report_stats.latest_changes)
        ),
        all_changes=report_stats.changes,
        findings=tuple(_make_finding_row(stats, one, rows) for one, rows in zip(shown, found, strict=True)),
        findings_left_out=len(detections) - len(shown),
        coverage=coverage,
        sample=tuple(_make_event_row(each, regions.get(each.number, "")) for each in sample),
        is_sampled=len(sample) < stats.events,
    )


def _find_events(shown: Sequence[Detection], sample: Sequence[SampledEvent]) -> list[list[int]]:
    """Return the indices of each detection's events in the sample."""
    found: list[list[int]] = [[] for _ in shown]
    for index, event in enumerate(sample):
        pairs = read_pairs(event.facts)
        for rows, detection in zip(found, shown, strict=True):
            if not detection.pairs.isdisjoint(pairs):
                rows.append(index)
    return found


def _rank_types(report_stats: ReportStats) -> Ranking:
    types, failed = report_stats.stats.types, report_stats.failed_types.counts
    rows = tuple((_truncate(name), number, failed[name]) for name, number in types.rank(_MOST_RANKED))
    return Ranking(rows, len(types.counts))


def _rank(actors: Sequence[ActorSummary]) -> Ranking:
    ranked = rank_actors(actors, _MOST_RANKED)
    return Ranking(tuple((_truncate(one.name), one.events, one.failures) for one in ranked), len(actors))


def _list_addresses(stats: EventStats, actors: Sequence[ActorSummary]) -> list[AddressRow]:
    """Return the addresses by first seen.

    If there are too many, those with failed sign-ins or changes to IAM are preferred, then the newest.
    """
    failed: defaultdict[str, int] = defaultdict(int)
    changes: defaultdict[str, int] = defaultdict(int)
    for (_, address), activity in stats.activities.items():
        actions = activity.notable
        if activity.is_notable and (actions.failed_sign_ins or actions.steps):
            failed[address] += actions.failed_sign_ins
            changes[address] += len(actions.steps) + actions.steps_left_out
    chosen = nlargest(_MOST_ADDRESSES, actors, key=lambda one: (one.name in failed, one.first, one.name))
    return [
        AddressRow(
            address=_truncate(one.name),
            first=to_milliseconds(one.first),
            last=to_milliseconds(one.last),
            events=one.events,
            failures=one.failures,
            failed_sign_ins=failed.get(one.name, 0),
            changes=changes.get(one.name, 0),
            principals=tuple(map(_truncate, filter(None, one.partners)))[:_MOST_PARTNERS],
        )
        for one in sorted(chosen, key=lambda one: (one.first, one.name))
    ]


def _make_change_row(facts: Facts, event: int | None) -> ChangeRow:
    details = facts.details
    return ChangeRow(
        to_milliseconds(facts.instant),
        _truncate(details.event_name or facts.event_type),
        _SERIES_INDEX[facts.outcome],
        _truncate(facts.identity.principal_name),
        _truncate(facts.identity.ip_address),
        _truncate(details.resource_name or details.resource_id),
        event,
    )


def _find_regions(sample: Sequence[SampledEvent], origins: Iterable[Target | None] | None) -> dict[int, str]:
    """Return the regions of sampled events by their position in the file."""
    wanted = {event.number for event in sample}
    return {number: origin.region for number, origin in enumerate(origins or ()) if origin and number in wanted}


def _make_event_row(event: SampledEvent, region: str) -> EventRow:
    facts, details = event.facts, event.facts.details
    event_class = classify_event(facts.event_type, details.event_name, facts.domain_event)
    return EventRow(
        to_milliseconds(facts.instant),
        _truncate(details.event_name or facts.event_type),
        _SERIES_INDEX[facts.outcome],
        _truncate(facts.identity.principal_name),
        _truncate(facts.identity.ip_address),
        _truncate(details.compartment_name or details.compartment_id),
        _SIGN_IN * event_class.is_sign_in + _CHANGE * event_class.is_iam_change,
        event.raw.decode("utf-8", "replace"),
        region,
    )


def _make_finding_row(stats: EventStats, detection: Detection, in_sample: Sequence[int]) -> FindingRow:
    is_high = detection.weight >= DETECTION_WEIGHT
    return FindingRow(
        severity="high" if is_high else "medium",
        principal=_truncate(detection.principal),
        address=_truncate(detection.address),
        reasons="; ".join(reason.text for reason in detection.reasons),
        first=to_milliseconds(detection.first),
        last=to_milliseconds(detection.last),
        events=max(detection.events, len(in_sample)),  # more are here if the tracker has dropped some
        timeline=tuple(_make_timeline_row(item, is_high=is_high) for item in describe_timeline(stats, detection)),
        in_sample=tuple(in_sample),
    )


def _make_timeline_row(item: TimelineItem, *, is_high: bool) -> TimelineRow:
    is_reversal = item.text.casefold().startswith(_REVERSALS) and " by " in item.text
    return TimelineRow(
        to_milliseconds(item.instant), _truncate(item.text), "calm" if is_reversal else "bad" if is_high else "warn"
    )


def to_milliseconds(instant: int) -> int | None:
    """Return an instant as milliseconds since 1970, or None for an unreadable one."""
    return (instant - EPOCH) // 1_000_000 if instant else None


def _truncate(text: str | None) -> str:
    if not text:
        return ""
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
