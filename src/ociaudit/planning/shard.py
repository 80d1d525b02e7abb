"""Targets, shards, page cursors and gaps: the units in which events are fetched and their absence is recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from ociaudit.errors import format_count
from ociaudit.planning.window import Window

_COMPARTMENTS_SHOWN = 2
CONFIRMING_ATTEMPT = 1_000_000
"""The number of the first attempt that fetches a shard again because an earlier one returned no events."""


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
