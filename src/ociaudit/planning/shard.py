"""Windows, targets, shards, page cursors and gaps: the units in which events are fetched and their absence is recorded.

A window is a half-open span of whole UTC minutes; `Coverage` is the union of the windows answered for one target.
`AskedCoverage` also knows when each minute was last requested, and never changes, so that targets can share it.

Invariants
- A window is never empty: `start < end`.
- The tiles of a window are consecutive, without holes or overlaps, and none is longer than the given maximum.
- The windows of a coverage are sorted, disjoint and not adjacent; adjacent spans of an `AskedCoverage` differ in when
  they were requested.
- The missing and the covered parts of a window make up the window, wherever the boundaries of the shards were.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from ociaudit.errors import format_count

MINUTES_PER_DAY = 24 * 60
SETTLE_MINUTES = 15
"""Events usually show up within 15 minutes of being processed; a window requested earlier may still grow."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_COMPARTMENTS_SHOWN = 2
CONFIRMING_ATTEMPT = 1_000_000
"""The number of the first attempt that fetches a shard again because an earlier one returned no events."""


class Window(msgspec.Struct, frozen=True, order=True, array_like=True):
    """`[start, end)` in whole minutes since 1970-01-01T00:00Z."""

    start: int
    end: int

    def __post_init__(self) -> None:
        """Reject an empty window; creating one is a bug."""
        if self.start >= self.end:
            raise ValueError(f"empty window: {self.start} is not before {self.end}")

    def __str__(self) -> str:
        """Return both ends in RFC 3339."""
        return f"{format_minute(self.start)} .. {format_minute(self.end)}"

    @property
    def minutes(self) -> int:
        """Return the length in minutes."""
        return self.end - self.start


def tile_window(window: Window, max_minutes: int) -> Iterator[Window]:
    """Yield consecutive windows of at most `max_minutes` that make up `window`."""
    for start in range(window.start, window.end, max_minutes):
        yield Window(start, min(start + max_minutes, window.end))


def floor_minute(moment: datetime) -> int:
    """Return the minute that contains a timezone-aware datetime."""
    return (moment - _EPOCH) // _MINUTE


def format_second(moment: datetime) -> str:
    """Write a UTC time as RFC 3339, to the second."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def format_minute(minute: int) -> str:
    """Return a minute in the form that the API expects: `2025-12-01T08:00:00Z`."""
    moment = _EPOCH + minute * _MINUTE
    return moment.replace(tzinfo=None).isoformat() + "Z"  # strftime writes the year 999 with three digits


def parse_minute(text: str) -> int:
    """Return the minute that `format_minute` wrote.

    Raises:
        ValueError: the text is not in that form.
    """
    return floor_minute(datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC))


class Coverage:
    """The union of the windows answered for one target."""

    def __init__(self, windows: Iterable[Window] = ()) -> None:
        """Start with the union of `windows`."""
        self._starts: list[int] = []
        self._ends: list[int] = []
        for window in windows:
            self.add(window)

    @property
    def windows(self) -> tuple[Window, ...]:
        """Return the merged windows, in time order."""
        return tuple(map(Window, self._starts, self._ends))

    def add(self, window: Window) -> None:
        """Add a window; adjacent and overlapping windows become one."""
        low = bisect_left(self._ends, window.start)
        high = bisect_right(self._starts, window.end)
        start, end = window.start, window.end
        if low < high:
            start = min(start, self._starts[low])
            end = max(end, self._ends[high - 1])
        self._starts[low:high] = [start]
        self._ends[low:high] = [end]

    def find_missing(self, window: Window) -> tuple[Window, ...]:
        """Return the parts of `window` that are not covered, in time order."""
        missing: list[Window] = []
        position = window.start
        for index in range(bisect_right(self._ends, window.start), len(self._starts)):
            start, end = self._starts[index], self._ends[index]
            if start >= window.end:
                break
            if start > position:
                missing.append(Window(position, start))
            position = max(position, end)
        if position < window.end:
            missing.append(Window(position, window.end))
        return tuple(missing)

    def without(self, window: Window) -> Coverage:
        """Return a copy of this coverage without the minutes of `window`."""
        return Coverage(part for own in self.windows for part in Coverage([window]).find_missing(own))


class Target(msgspec.Struct, frozen=True, order=True):
    """A region and a compartment: the scope of one ListEvents request."""

    region: str
    compartment: str


class Shard(msgspec.Struct, frozen=True, order=True):
    """A target and a window: the unit of fetching."""

    target: Target
    window: Window

    def __str__(self) -> str:
        """Return region, compartment and window, for messages."""
        return f"{self.target.region} {self.target.compartment} {self.window}"


class PageCursor(msgspec.Struct, frozen=True):
    """Where a shard continues: after its last committed page (`attempt`, `page`), with the token of the next page.

    Without a token, it continues at the first page of that attempt.
    """

    attempt: int
    page: int
    token: str | None


class Gap(msgspec.Struct, frozen=True, order=True):
    """A part of the plan that did not come back complete.

    `denied`: the service refused access to the target. `failed`: every attempt ended in an error.
    `reason` is one sentence. `request_id` is the `opc-request-id` of the last response, if there was one.
    """

    target: Target
    window: Window
    kind: Literal["denied", "failed"]
    reason: str
    request_id: str | None = None


class GapGroup(msgspec.Struct, frozen=True, order=True):
    """Gaps of one cause in the same regions: a line on a screen.

    `windows` is the number of gaps; `span` reaches from the first window to the last.
    """

    compartments: tuple[str, ...]
    regions: tuple[str, ...]
    kind: Literal["denied", "failed"]
    cause: str
    windows: int
    span: Window


def group_gaps(gaps: Iterable[Gap]) -> list[GapGroup]:
    """Group gaps by compartment and cause, and compartments that have gaps in the same regions for the same cause.

    The cause is the reason up to its first colon, such as "404 NotAuthorizedOrNotFound".
    """
    by_compartment: dict[tuple[str, str, str], list[Gap]] = {}
    for gap in gaps:
        by_compartment.setdefault((gap.kind, shorten_reason(gap.reason), gap.target.compartment), []).append(gap)
    merged: dict[tuple[object, ...], list[list[Gap]]] = {}
    for (kind, cause, _), found in by_compartment.items():
        regions = tuple(sorted({gap.target.region for gap in found}))
        windows = tuple(sorted({gap.window for gap in found}))
        merged.setdefault((kind, cause, regions, windows), []).append(found)
    return sorted(_make_group(lists) for lists in merged.values())


def _make_group(lists: list[list[Gap]]) -> GapGroup:
    gaps = [gap for found in lists for gap in found]
    span = Window(min(gap.window.start for gap in gaps), max(gap.window.end for gap in gaps))
    return GapGroup(
        compartments=tuple(sorted(found[0].target.compartment for found in lists)),
        regions=tuple(sorted({gap.target.region for gap in gaps})),
        kind=gaps[0].kind,
        cause=shorten_reason(gaps[0].reason),
        windows=len(gaps),
        span=span,
    )


def shorten_reason(reason: str) -> str:
    """Return a reason without the service's message: "404" for a denial, status and code for other errors."""
    cause = reason.split(": ", 1)[0].strip()
    return "404" if cause == "404 NotAuthorizedOrNotFound" else cause


def describe_group(group: GapGroup, names: Mapping[str, str], *, window: Window | None = None) -> str:
    """Return a group in one line: "root/investigations: denied in us-ashburn-1, eu-frankfurt-1 (404)".

    `names` are the paths of compartments by OCID. The windows are added unless they are all of `window`.
    """
    shown = [names.get(one) or one for one in group.compartments[:_COMPARTMENTS_SHOWN]]
    more = len(group.compartments) - len(shown)
    who = ", ".join(shown) + (f" and {format_count(more, 'more compartment')}" if more else "")
    if len(group.compartments) > _COMPARTMENTS_SHOWN + 1:
        who = f"{format_count(len(group.compartments), 'compartment')} ({shown[0]}, …)"
    is_whole = group.span == window and group.windows == len(group.compartments) * len(group.regions)
    when = "" if is_whole else f", {format_count(group.windows, 'window')} in {group.span}"
    return f"{who}: {group.kind} in {', '.join(group.regions)} ({group.cause}){when}"


class AskedSpan(msgspec.Struct, frozen=True, array_like=True):
    """Covered minutes `[start, end)` and the minute at which they were last asked; None: they are final."""

    start: int
    end: int
    asked_at: int | None


class AskedCoverage(msgspec.Struct, frozen=True, array_like=True):
    """The covered minutes of one target, each with when it was last asked: sorted, disjoint spans.

    Adjacent spans differ in `asked_at`. `reach` in the methods is a ring + settle: how old a minute must be when asked.
    """

    spans: tuple[AskedSpan, ...] = ()

    @property
    def end(self) -> int | None:
        """Return the end of the last covered minute; None if nothing is covered."""
        return self.spans[-1].end if self.spans else None

    def add(self, window: Window, asked_at: int) -> AskedCoverage:
        """Return this coverage with a requested window; per minute the later time wins, and final stays final."""
        low = bisect_right(self.spans, window.start, key=lambda span: span.end)
        high = bisect_left(self.spans, window.end, key=lambda span: span.start)
        changed: list[AskedSpan] = []
        position = window.start
        for span in self.spans[low:high]:
            start, end = max(span.start, window.start), min(span.end, window.end)
            if span.start < start:
                changed.append(AskedSpan(span.start, start, span.asked_at))
            if position < start:
                changed.append(AskedSpan(position, start, asked_at))
            changed.append(AskedSpan(start, end, None if span.asked_at is None else max(span.asked_at, asked_at)))
            if end < span.end:
                changed.append(AskedSpan(end, span.end, span.asked_at))
            position = end
        if position < window.end:
            changed.append(AskedSpan(position, window.end, asked_at))
        return _join_spans((*self.spans[:low], *changed, *self.spans[high:]))

    def find_missing(self, window: Window) -> tuple[Window, ...]:
        """Return the parts of a window that are not covered, in time order."""
        missing: list[Window] = []
        position = window.start
        for span in self._overlap(window):
            if position < span.start:
                missing.append(Window(position, span.start))
            position = span.end
        if position < window.end:
            missing.append(Window(position, window.end))
        return tuple(missing)

    def find_unsatisfied(self, window: Window, *, reach: int, now: int) -> tuple[Window, ...]:
        """Return the covered parts of a window that were last asked at an age below `reach`, or later than `now`."""
        found = Coverage()
        for span in self._overlap(window):
            if span.asked_at is not None:
                satisfied_end = span.asked_at - reach + 1 if span.asked_at <= now else span.start
                start, end = max(span.start, satisfied_end, window.start), min(span.end, window.end)
                if start < end:
                    found.add(Window(start, end))
        return found.windows

    def find_span(self, minute: int) -> AskedSpan | None:
        """Return the span that covers a minute; None if it is not covered."""
        return next(iter(self._overlap(Window(minute, minute + 1))), None)

    def collapse(self, *, reach: int, now: int) -> AskedCoverage:
        """Return this coverage with what is final marked as final, so that its spans merge."""
        spans: list[AskedSpan] = []
        for span in self.spans:
            if span.asked_at is None or span.asked_at > now or span.asked_at - reach < span.start:
                spans.append(span)
                continue
            final_end = min(span.asked_at - reach + 1, span.end)
            spans.append(AskedSpan(span.start, final_end, None))
            if final_end < span.end:
                spans.append(AskedSpan(final_end, span.end, span.asked_at))
        return _join_spans(spans)

    def distrust(self, *, reach: int, now: int, asked_since: int) -> AskedCoverage:
        """Return this coverage without what a clock that was ahead made of it.

        Minutes from `now` on are no longer covered. `asked_since` is when the last sync ran that `now` does not
        contradict: what claims a request after `now` was requested then or later. So that is its time now, and of
        the minutes from then on nobody knows whether they were over when they were requested: they are not covered.
        """
        final_until = asked_since - reach + 1
        spans: list[AskedSpan] = []
        for span in self.spans:
            if span.asked_at is None:
                sure_end = min(max(span.start, final_until), span.end)
                spans += [AskedSpan(span.start, sure_end, None)]
                spans += [AskedSpan(sure_end, min(span.end, asked_since), asked_since)]
            elif span.asked_at > now:
                spans.append(AskedSpan(span.start, min(span.end, asked_since), asked_since))
            else:
                spans.append(span)
        return _join_spans(span for span in spans if span.start < span.end)

    def _overlap(self, window: Window) -> tuple[AskedSpan, ...]:
        low = bisect_right(self.spans, window.start, key=lambda span: span.end)
        high = bisect_left(self.spans, window.end, key=lambda span: span.start)
        return self.spans[low:high]


def _join_spans(spans: Iterable[AskedSpan]) -> AskedCoverage:
    """Merge adjacent spans of the same `asked_at`."""
    joined: list[AskedSpan] = []
    for span in spans:
        if joined and joined[-1].end == span.start and joined[-1].asked_at == span.asked_at:
            joined[-1] = AskedSpan(joined[-1].start, span.end, span.asked_at)
        else:
            joined.append(span)
    return AskedCoverage(tuple(joined))
