"""What two exports cover both.

Owns: whether an event that only one of them has should be in the other. Must not: read events.

An event does not say when the service processed it nor from which region it was read. So where two exports do
not cover the same, an event that only one of them has is judged by its compartment and the minute of its
`eventTime`: it is a difference when the other export covers that minute of that compartment in every region in
which the first one does; otherwise it is not comparable, and counted apart.
"""

from __future__ import annotations

from ociaudit.events.event import Event, read_order
from ociaudit.events.fields import minute_of_instant
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Place
from ociaudit.plan.window import Window, parse_minute
from ociaudit.store.manifest import Manifest


class SharedCoverage:
    """Which events both exports should hold."""

    def __init__(self, a: Manifest | None, b: Manifest | None, notes: list[str]) -> None:
        """Compare what two manifests state, None being like the other; `notes` gets what is not comparable."""
        self._always = a is None or b is None or _list_coverage(a) == _list_coverage(b)
        self._coverages = [_map_coverage(manifest) for manifest in (a, b)]
        if a is None or b is None:
            notes.append("a file without a manifest is taken to cover what the other one does")
        elif not self._always:
            notes.append("the two do not cover the same; what only one of them asked for is not comparable")
        if a is not None and b is not None and _list_cuts(a) != _list_cuts(b):
            notes.append("the two were filtered differently; what the filters took out shows as a difference")

    def is_comparable(self, number: int, event: Event) -> bool:
        """Tell whether the other export should hold an event of export `number` as well."""
        if self._always:
            return True
        instant = read_order(event.order)[0]
        own, other = self._coverages[number], self._coverages[1 - number]
        if not instant or event.compartment is None:
            return False
        minute = minute_of_instant(instant)
        moment = Window(minute, minute + 1)
        regions = [place for place, coverage in own.items() if _is_in(place, event, coverage, moment)]
        return bool(regions) and all(_is_in(place, event, other.get(place), moment) for place in regions)


def _is_in(place: Place, event: Event, coverage: Coverage | None, moment: Window) -> bool:
    return coverage is not None and place.compartment == event.compartment and not coverage.find_missing(moment)


def _list_cuts(manifest: Manifest) -> tuple[object, ...]:
    """Return what was taken out of an export."""
    return manifest.arguments.whole_filter, manifest.event_range


def _list_coverage(manifest: Manifest) -> list[tuple[Place, tuple[Window, ...]]]:
    return sorted((place, coverage.windows) for place, coverage in _map_coverage(manifest).items() if coverage.windows)


def _map_coverage(manifest: Manifest | None) -> dict[Place, Coverage]:
    if manifest is None:
        return {}
    return {
        Place(entry.region, entry.compartment): Coverage(
            Window(parse_minute(start), parse_minute(end)) for start, end in entry.windows
        )
        for entry in manifest.coverage
    }
