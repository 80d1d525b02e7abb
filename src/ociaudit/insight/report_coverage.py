"""The coverage of an export, as a picture shows it: places by bins of time, the worst state in each.

Owns: turning a manifest's coverage and gaps into rows of states. Pure. Must not: read files, or draw.

Invariants
- A bin shows the worst that is true anywhere in it: a gap of one minute colours its whole day.
- Time inside the range that is neither covered nor a gap is shown as not asked, never as covered.
- However many places there are, the rows with gaps come first, and what is cut off is counted.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import msgspec

from ociaudit.plan.coverage import Coverage
from ociaudit.plan.window import Window, parse_minute
from ociaudit.store.manifest import GapEntry, Manifest

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
    places: int
    places_with_gaps: int
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
    window = Window(parse_minute(manifest.range.start), parse_minute(manifest.range.end))
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
        places=len(ranked),
        places_with_gaps=sum(-row[0] >= STATES.index("not asked") for row in ranked),
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


_Place = tuple[str, str]
_Layers = list[Coverage]


def _map_states(manifest: Manifest) -> dict[_Place, _Layers]:
    """Return for each place one coverage per state, in the order of `STATES`."""
    spans: dict[_Place, list[list[Window]]] = {}

    def put(place: _Place, state: str, windows: Iterable[Window]) -> None:
        spans.setdefault(place, [[] for _ in STATES])[STATES.index(state)].extend(windows)

    for entry in manifest.coverage:
        windows = [Window(parse_minute(start), parse_minute(end)) for start, end in entry.windows]
        put((entry.region, entry.compartment), "covered", windows)
    for each in manifest.provisional:
        put((each.region, each.compartment), "provisional", [Window(parse_minute(each.start), parse_minute(each.end))])
    for gaps, state in ((manifest.waived_gaps, "waived"), (manifest.gaps, "")):
        for gap in gaps:
            put((gap.region, gap.compartment), state or gap.kind, [_read_window(gap)])
    return {place: [Coverage(windows) for windows in layers] for place, layers in spans.items()}


def _read_window(gap: GapEntry) -> Window:
    return Window(parse_minute(gap.start), parse_minute(gap.end))


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
