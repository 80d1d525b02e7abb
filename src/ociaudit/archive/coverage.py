"""Coverage with the time of asking: which minutes of a target are covered, and when each was last asked.

Invariants
- Spans are sorted and disjoint; adjacent ones differ in when they were asked.
- A coverage never changes: every method returns another one, so that targets can share it.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import msgspec

from ociaudit.planning.shard import Coverage, Window


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
        """Return this coverage with a window that was asked; per minute the later time wins, and final stays final."""
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

    def find_final_until(self, start: int, *, reach: int, now: int) -> int:
        """Return the first minute from `start` on that is not final."""
        position = start
        for span in self.spans[bisect_right(self.spans, start, key=lambda span: span.end) :]:
            if span.start > position:
                break
            left = self.find_unsatisfied(Window(position, span.end), reach=reach, now=now)
            if left:
                return left[0].start
            position = span.end
        return position

    def find_span(self, minute: int) -> AskedSpan | None:
        """Return the span that covers a minute; None if it is not covered."""
        return next(iter(self._overlap(Window(minute, minute + 1))), None)

    def collapse(self, *, reach: int, now: int) -> AskedCoverage:
        """Return this coverage with what is final marked as final, so that its spans merge."""
        spans: list[AskedSpan] = []
        for span in self.spans:
            if span.asked_at is None or span.asked_at > now:
                spans.append(span)
                continue
            final_end = min(max(span.start, span.asked_at - reach + 1), span.end)
            if span.start < final_end:
                spans.append(AskedSpan(span.start, final_end, None))
            if final_end < span.end:
                spans.append(AskedSpan(final_end, span.end, span.asked_at))
        return _join_spans(spans)

    def distrust(self, *, reach: int, now: int, asked_since: int) -> AskedCoverage:
        """Return this coverage without what a clock that was ahead made of it.

        Minutes from `now` on are no longer covered. `asked_since` is when the last sync ran that `now` does not
        contradict: what claims to have been asked after `now` was asked then or later. So that is its time now, and of
        the minutes from then on nobody knows whether they were over when they were asked: they are not covered.
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
