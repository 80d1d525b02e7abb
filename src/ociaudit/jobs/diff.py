"""Two exports compared event by event.

Owns: what counts as a difference, and what cannot be compared. Must not: print.

Both files are walked once in canonical order. One that does not stand in that order (another tool's) is sorted
outside memory first.

An event does not say when the service processed it nor from which region it was read. So where two exports do
not cover the same, an event that only one of them has is judged by its compartment and the minute of its
`eventTime`: it is a difference when the other export covers that minute of that compartment in every region in
which the first one does; otherwise it is not comparable, and counted apart.

Invariants
- Every event of both files is in exactly one of: in both, only in A, only in B, not comparable.
- Memory does not grow with the files; only examples are kept.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ociaudit.errors import UsageError
from ociaudit.events.event import Event, read_order
from ociaudit.events.fields import minute_of_instant
from ociaudit.events.page import read_event
from ociaudit.formats.array_reader import Batch, read_array, read_chunks, unpack_chunks
from ociaudit.plan.coverage import Coverage
from ociaudit.plan.shard import Place
from ociaudit.plan.window import Window, parse_minute
from ociaudit.store.durable import explain_disk, make_private_folder
from ociaudit.store.index import OrderIndex, split_entry
from ociaudit.store.manifest import Manifest, decode_manifest

_EXAMPLES = 20
_IDS_REMEMBERED = 100_000


@dataclass(slots=True)
class Side:
    """What only one of the two files holds. `examples` are (order, event) of the first ones."""

    events: int = 0
    only: int = 0
    not_comparable: int = 0
    examples: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class Difference:
    """How two exports differ.

    `changed_ids` counts event ids that both files hold with other bytes; their records are among `only`, too.
    `notes` say what could not be compared.
    """

    a: Side = field(default_factory=Side)
    b: Side = field(default_factory=Side)
    in_both: int = 0
    changed_ids: int = 0
    changed_examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Tell whether, as far as they can be compared, they hold the same."""
        return not (self.a.only or self.b.only)


def compare_exports(path_a: Path, path_b: Path) -> Difference:
    """Compare two exports, with their manifests where they have one.

    Raises:
        UsageError: a file is missing, or the two spell their fields differently.
        CorruptRun: a manifest cannot be read.
        DiskError: a file cannot be read.
        BadArray: a file is not a JSON array of events.
    """
    difference = Difference()
    exports = [_Export(path) for path in (path_a, path_b)]
    if exports[0].shape != exports[1].shape:
        raise UsageError(
            f"{path_a} is in shape {exports[0].shape}, {path_b} in shape {exports[1].shape}",
            hint="export both in the same shape",
        )
    shared = _SharedCoverage(exports[0].manifest, exports[1].manifest, difference.notes)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as scratch:
        ordered = [
            export.read_in_order(Path(scratch) / str(number), side)
            for number, (export, side) in enumerate(zip(exports, (difference.a, difference.b), strict=True))
        ]
        _walk(ordered[0], ordered[1], difference, shared)
    return difference


def _walk(a: Iterator[Event], b: Iterator[Event], difference: Difference, shared: _SharedCoverage) -> None:
    """Walk both in step, group by group of the same instant and id."""
    ids: tuple[set[str], set[str]] = (set(), set())
    sides = (difference.a, difference.b)

    def take_only(number: int, events: Sequence[Event]) -> None:
        for event in events:
            if not shared.is_comparable(number, event):
                sides[number].not_comparable += 1
                continue
            sides[number].only += 1
            if len(sides[number].examples) < _EXAMPLES:
                sides[number].examples.append(event)
            if len(ids[number]) < _IDS_REMEMBERED:
                ids[number].add(read_order(event.order)[1])

    groups = (_group(a), _group(b))
    left, right = next(groups[0], None), next(groups[1], None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0].order < right[0].order):
            take_only(0, left or [])
            left = next(groups[0], None)
        elif left is None or right[0].order < left[0].order:
            take_only(1, right)
            right = next(groups[1], None)
        else:
            raws = {event.raw for event in left} & {event.raw for event in right}
            difference.in_both += len(raws)
            take_only(0, [event for event in left if event.raw not in raws])
            take_only(1, [event for event in right if event.raw not in raws])
            left, right = next(groups[0], None), next(groups[1], None)
    changed = sorted((ids[0] & ids[1]) - {""})
    difference.changed_ids = len(changed)
    difference.changed_examples = changed[:_EXAMPLES]


def _group(events: Iterator[Event]) -> Iterator[list[Event]]:
    """Yield the distinct records of each instant and id."""
    for _, group in groupby(events, key=lambda event: event.order):
        yield list({event.raw: event for event in group}.values())


class _Export:
    """One of the two files."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name two files that hold JSON arrays of audit events")
        self._path = path
        manifest_path = path.with_name(path.name + ".manifest.json")
        self.manifest: Manifest | None = None
        if manifest_path.exists():
            with explain_disk("read", manifest_path):
                self.manifest = decode_manifest(manifest_path.read_bytes(), where=str(manifest_path))
        self.shape = self.manifest.arguments.shape if self.manifest else _guess_shape(self._read_chunks())

    def read_in_order(self, scratch: Path, side: Side) -> Iterator[Event]:
        """Yield the events in canonical order; `scratch` is a folder name that is free to use."""
        if self._is_sorted():
            for batch in self._read_batches():
                side.events += len(batch.events)
                yield from batch.events
            return
        make_private_folder(scratch)
        index = OrderIndex(scratch)
        spread = scratch / "events"
        with explain_disk("write to", spread), spread.open("w+b") as file:
            offset = 0
            for batch in self._read_batches():
                lengths = [len(event.raw) for event in batch.events]
                file.write(b"".join(event.raw for event in batch.events))
                index.add(batch.events, origin=0, offset=offset, lengths=lengths)
                offset += sum(lengths)
                side.events += len(lengths)
            for entry in index.iterate():
                _, offset, length = split_entry(entry)[1]
                file.seek(offset)
                yield read_event(file.read(length), self.shape)

    def _is_sorted(self) -> bool:
        previous = b""
        for batch in self._read_batches():
            for event in batch.events:
                if event.order < previous:
                    return False
                previous = event.order
        return True

    def _read_batches(self) -> Iterator[Batch]:
        return read_array(self._read_chunks(), shape=self.shape, is_ours=self.manifest is not None)

    def _read_chunks(self) -> Iterator[bytes]:
        with explain_disk("read", self._path), self._path.open("rb", buffering=0) as file:
            yield from unpack_chunks(read_chunks(file))


class _SharedCoverage:
    """Which events both exports should hold."""

    def __init__(self, a: Manifest | None, b: Manifest | None, notes: list[str]) -> None:
        self._always = a is None or b is None or _list_coverage(a) == _list_coverage(b)
        self._coverages = [_map_coverage(manifest) for manifest in (a, b)]
        if a is None or b is None:
            notes.append("a file without a manifest is taken to cover what the other one does")
        elif not self._always:
            notes.append("the two do not cover the same; what only one of them asked for is not comparable")
        if a is not None and b is not None and a.arguments.event_types != b.arguments.event_types:
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


def _guess_shape(chunks: Iterator[bytes]) -> str:
    """Guess from the first event how a file without a manifest spells its fields."""
    head = next((chunk for chunk in chunks if chunk), b"")[:4096]
    if b'"event_type"' in head or b'"event_time"' in head:
        return "sdk"
    return "cli" if b'"event-type"' in head or b'"event-time"' in head else "api"
