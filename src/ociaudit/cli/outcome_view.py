"""How an export ended, in words. Owns: the summary lines. Must not: print."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from ociaudit.cli.figures import Figures
from ociaudit.cli.progress_view import describe_gap, describe_shard_time
from ociaudit.cli.redaction_view import describe_redaction
from ociaudit.cli.wording import count, describe_bytes, describe_seconds
from ociaudit.events.filters import FilterSpec
from ociaudit.events.names import find_recorded_names
from ociaudit.jobs.export import Outcome
from ociaudit.plan.shard import Gap
from ociaudit.store.manifest import Manifest

_GAPS_SHOWN = 40
_TYPES_SHOWN = 10
_SLOW_SECONDS = 1.0
_SLOWEST_SHOWN = 3
_UNAUTHORIZED = "401 "


def describe_outcome(outcome: Outcome) -> Iterator[str]:
    """Yield the summary, line by line."""
    manifest = outcome.manifest
    totals = manifest.totals
    if outcome.was_complete_before:
        yield f"already complete: {outcome.output} holds {count(totals.written, 'event')}; nothing was asked"
        return
    where = f" to {outcome.output}" if outcome.output else ""
    yield f"{count(totals.written, 'event')} written{where} ({manifest.output.size_bytes:,} bytes)"
    yield (
        f"{totals.scanned:,} scanned = {totals.written:,} written + {totals.filtered:,} filtered out + "
        f"{totals.identical:,} identical; {count(totals.pages, 'page')} in {count(totals.requests, 'request')}, "
        f"{count(totals.shards, 'window')}"
    )
    yield from _describe_event_range(manifest)
    times = manifest.event_times
    if times.first:
        yield f"eventTime from {times.first} to {times.last}; {times.outside_range:,} outside the range asked"
    if totals.conflicting_ids:
        yield f"{totals.conflicting_ids:,} event ids have more than one record; all are kept, see the manifest"
    if manifest.redaction is not None:
        yield from describe_redaction(manifest.redaction.fields, manifest.redaction.events)
        if outcome.gaps and outcome.output:
            yield f"{outcome.output}.run keeps the events as served, not redacted, until the gaps are filled"
    if manifest.provisional:
        yield f"{count(len(manifest.provisional), 'window')} provisional: asked within 15 minutes of their end"
    for name in manifest.scope.unlisted_compartments_seen:
        yield f"compartment {name} occurs in events but is not listed any more; its own events may be missing"
    if outcome.waived:
        yield f"{count(len(outcome.waived), 'waived gap')}: {_list_places(outcome.waived)}"
    if outcome.digest:
        yield f"manifest {outcome.manifest_path} sha256:{outcome.digest}"


def _describe_event_range(manifest: Manifest) -> Iterator[str]:
    asked = manifest.event_range
    if asked:
        yield (
            f"{manifest.totals.outside_event_range:,} of the filtered out happened outside {asked.start} .. {asked.end}"
            + ("" if asked.is_settled else f"; {asked.late} after that was still to come, so late ones may be missing")
        )


def describe_effort(figures: Figures) -> Iterator[str]:
    """Yield what a run took, and its slowest windows where one was slow; nothing where nothing was asked."""
    if not figures.requests:
        return
    elapsed = figures.elapsed_seconds
    asked = f"{count(figures.requests, 'request')} ({figures.requests / elapsed:,.1f}/s)"
    yield (
        f"took {describe_seconds(elapsed)}: {asked}, {figures.throttled:,} × 429, "
        f"{describe_bytes(figures.received_bytes)} received, {count(figures.cuts, 'window')} cut"
    )
    slowest = [taken for taken in figures.slowest if taken.seconds >= _SLOW_SECONDS][:_SLOWEST_SHOWN]
    if slowest:
        yield "slowest windows:"
    for taken in slowest:
        yield f"  {describe_shard_time(taken)}"


def describe_gaps(
    gaps: Sequence[Gap], *, policy: str, is_kept: bool = True, is_relative: bool = False, can_waive: bool = False
) -> Iterator[str]:
    """Yield the gaps, summed up, and what to do about them.

    `policy` is the IAM statement to ask for where places are denied. `is_kept`: the run's directory stays.
    `is_relative`: the range was typed as an age or `now`, so that the same command means another one by then.
    `can_waive`: the command has the option `--waive`.
    """
    yield f"INCOMPLETE: {count(len(gaps), 'gap')}"
    groups = _group_gaps(gaps)
    for group in groups[:_GAPS_SHOWN]:
        more = f"; and the same for {count(len(group) - 1, 'more compartment')}" if len(group) > 1 else ""
        yield f"  {describe_gap(group[0])}{more}"
    rest = sum(map(len, groups[_GAPS_SHOWN:]))
    if rest:
        yield f"  … and {rest:,} more; all are in the manifest"
    yield from _advise(gaps, policy, can_waive=can_waive)
    if is_kept and is_relative:
        yield "hint: the same command with --resume asks for the gaps alone"
    elif is_kept:
        yield "hint: the same command again asks for the gaps alone"
    else:
        yield "hint: nothing is kept of a run to stdout; with -o FILE the same command again asks for the gaps alone"


def _group_gaps(gaps: Sequence[Gap]) -> list[list[Gap]]:
    """Put gaps together that one answer caused: those of a whole region, as a rule."""

    def find_cause(gap: Gap) -> tuple[object, ...]:
        return gap.place.region, gap.window, gap.kind, gap.reason, gap.request_id

    return [list(group) for _, group in groupby(gaps, find_cause)]


def _advise(gaps: Sequence[Gap], policy: str, *, can_waive: bool) -> Iterator[str]:
    denied = [gap for gap in gaps if gap.kind == "denied"]
    if any(gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield "hint: 401 in one region alone: the tenancy has not subscribed to it, or is still subscribing"
    if any(not gap.reason.startswith(_UNAUTHORIZED) for gap in denied):
        yield f"hint: for denied places ask for: {policy}"
        if can_waive:
            yield "hint: where a denial is meant to be, --waive OCID keeps it on record without exit 10"


def describe_empty_filter(outcome: Outcome) -> Iterator[str]:
    """Yield what was seen when a filter let nothing pass."""
    arguments, totals = outcome.manifest.arguments, outcome.manifest.totals
    patterns = (*arguments.event_types, *arguments.filter.event_names)
    if arguments.whole_filter == FilterSpec() or totals.written or outcome.was_complete_before:
        return
    is_plain = arguments.filter == FilterSpec()
    what = " or ".join(map(repr, arguments.event_types)) if is_plain else str(arguments.whole_filter)
    yield f"no event matched {what} among {totals.scanned:,} scanned"
    seen = sorted(outcome.tally.items(), key=lambda item: (-item[1], item[0]))[:_TYPES_SHOWN]
    if seen:
        yield "most frequent among what was scanned:"
    for name, number in seen:
        yield f"  {number:>9,}  {name}"
    for pattern in patterns:
        found = find_recorded_names(pattern)
        if found:
            yield f"hint: Audit records {found[0]} as {', '.join(found[1])}"


def _list_places(gaps: Sequence[Gap]) -> str:
    return ", ".join(f"{gap.place.region} {gap.place.compartment}" for gap in gaps[:_GAPS_SHOWN])
