"""Comparison: two exports event by event, within what both cover.

Both files are read once in canonical order, side by side; a file in another order is first sorted outside memory.

An event does not say when the service processed it nor from which region it was read. Where two exports cover different
things, an event that only one of them has is judged by its compartment and the minute of its `eventTime`: it is a
difference if the other export covers that minute of that compartment in every region in which the first one does;
otherwise it is not comparable, and counted apart.

Invariants
- Every event of both files is exactly one of: in both, changed, only in A, only in B, not comparable.
- Memory does not grow with the files; only examples are kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

from ociaudit.archive.inputs import Input
from ociaudit.errors import CorruptRun, UnreadableInput, UsageError
from ociaudit.events.event import BadPage, Event, parse_page, read_event, read_order
from ociaudit.events.field_naming import choose_shape
from ociaudit.events.fields import minute_of_instant
from ociaudit.events.filters import FilterSpec
from ociaudit.formats.base import InvalidFile
from ociaudit.formats.compression import decompress, read_chunks
from ociaudit.formats.detect import compact_json
from ociaudit.formats.json import parse_block, read_array, read_line_blocks, read_ndjson, scan_block
from ociaudit.formats.reader import check_source, reject_incomplete
from ociaudit.planning.shard import Coverage, Target, Window, parse_minute
from ociaudit.storage.atomic_io import explain_disk, make_private_folder, open_private
from ociaudit.storage.manifest import CoverageStatement, Manifest
from ociaudit.storage.merge import EventIndex, split_location
from ociaudit.storage.verdict import VerdictKind

_EXAMPLES, _EXAMPLES_KEPT = 20, 1_000
_IDS_REMEMBERED = 100_000
_RECORDS_REMEMBERED = 1_000
_CHANGES_COMPARED = 10_000
_PATHS_COUNTED = 1_000
_FIELDS_COMPARED, _FIELDS_SHOWN = 200, 20
_LONGEST_VALUE = 200


class SharedCoverage:
    """What both exports cover: which events both should hold."""

    def __init__(self, a: CoverageStatement | None, b: CoverageStatement | None, notes: list[str]) -> None:
        """Compare what manifests or archives state; None counts as equal to the other.

        What is not comparable is added to `notes`.
        """
        self._always = a is None or b is None or _list_coverage(a) == _list_coverage(b)
        self._coverages = [map_coverage(one) for one in (a, b)]
        if a is None or b is None:
            notes.append("a file without a manifest is assumed to cover what the other one does")
        elif not self._always:
            notes.append("the two cover different things; what only one of them requested is not comparable")
        if a is not None and b is not None and _find_filter(a) != _find_filter(b):
            notes.append("the two were filtered differently; events that only one filter removed show as differences")

    def is_comparable(self, number: int, event: Event) -> bool:
        """Return whether the other export should hold this event of export `number`."""
        if self._always:
            return True
        instant = read_order(event.order)[0]
        own, other = self._coverages[number], self._coverages[1 - number]
        if not instant or event.compartment is None:
            return False
        minute = minute_of_instant(instant)
        moment = Window(minute, minute + 1)
        regions = [target for target, coverage in own.items() if _is_in(target, event, coverage, moment)]
        return bool(regions) and all(_is_in(target, event, other.get(target), moment) for target in regions)


def _is_in(target: Target, event: Event, coverage: Coverage | None, moment: Window) -> bool:
    return coverage is not None and target.compartment == event.compartment and not coverage.find_missing(moment)


def _find_filter(stated: CoverageStatement) -> FilterSpec:
    """Return what restricted an export or an archive beside its coverage."""
    return stated.arguments.whole_filter if isinstance(stated, Manifest) else FilterSpec()


def _list_coverage(stated: CoverageStatement) -> list[tuple[Target, tuple[Window, ...]]]:
    return sorted((target, coverage.windows) for target, coverage in map_coverage(stated).items() if coverage.windows)


def map_coverage(stated: CoverageStatement | None) -> dict[Target, Coverage]:
    """Return what each target's events are known of; nothing for None."""
    if stated is None:
        return {}
    within = stated.event_range if isinstance(stated, Manifest) else None
    if within is None:
        return {entry.target: entry.coverage for entry in stated.coverage}
    window = Window(parse_minute(within.start), parse_minute(within.end))  # what happened outside it was dropped
    return {
        entry.target: Coverage(Coverage(entry.coverage.find_missing(window)).find_missing(window))
        for entry in stated.coverage
    }


@dataclass(slots=True)
class Side:
    """What only one of the two files holds; `examples` are the first such events."""

    events: int = 0
    only: int = 0
    not_comparable: int = 0
    examples: list[Event] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FieldChange:
    """A field that differs: its JSON path, such as `data.identity.ipAddress`, and both values as truncated JSON.

    None represents a field that one of the two does not have.
    """

    path: str
    old: str | None
    new: str | None


@dataclass(frozen=True, slots=True)
class ChangedEvent:
    """An event of both files whose records differ; `fields` are the first that do, none where only the bytes differ."""

    event_id: str
    fields: tuple[FieldChange, ...]


@dataclass(slots=True)
class Difference:
    """How two exports differ.

    `changed` counts events of one id that both files hold with different bytes; they do not count as `only`. Of those,
    `reserialized` have the same JSON value. `changed_fields` counts the paths that differ. `notes` say what could not
    be compared.
    """

    a: Side = field(default_factory=Side)
    b: Side = field(default_factory=Side)
    in_both: int = 0
    changed: int = 0
    reserialized: int = 0
    changed_fields: Counter[str] = field(default_factory=Counter)
    changed_examples: list[ChangedEvent] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def is_same(self) -> bool:
        """Return whether both hold the same events, as far as they can be compared."""
        return not (self.a.only or self.b.only or self.changed)

    @property
    def is_compared(self) -> bool:
        """Return whether anything could be compared: False where each event is one that the other should not have."""
        return not self.is_same or self.in_both > 0 or not (self.a.not_comparable or self.b.not_comparable)


def compare_inputs(a: Input, b: Input, *, is_strict: bool = False) -> Difference:
    """Compare two files of events, with their manifests where they have one, or archives.

    Where a file itself says that it is not whole, a note says so; with `is_strict` the file is rejected.

    Raises:
        UsageError: a file is missing, or is a pipe.
        CorruptRun: a manifest or an archive cannot be read, or a file does not hold events; the message names it.
        DiskError: a file cannot be read.
    """
    difference = Difference()
    exports = [_Export(source) for source in (a, b)]
    has_manifests = all(export.statement is not None for export in exports)
    if has_manifests and exports[0].is_redacted != exports[1].is_redacted:
        redacted = a.name if exports[0].is_redacted else b.name
        difference.notes.append(f"{redacted} is redacted, the other is not; redacted values show as changes")
    is_one_layout = exports[0].shape == exports[1].shape and exports[0].with_origin == exports[1].with_origin
    if not all(export.is_own for export in exports) or not is_one_layout:
        for export in exports:
            export.read_as_any_format(reject_incomplete if is_strict else difference.notes.append)
    for source, export in zip((a, b), exports, strict=True):
        if export.statement is not None:
            difference.notes.append(f"{source.name}: {'; '.join(export.facts.words)}")
    shared = SharedCoverage(exports[0].statement, exports[1].statement, difference.notes)
    with tempfile.TemporaryDirectory(prefix="oci-audit-") as scratch:
        ordered = [
            export.read_in_order(Path(scratch) / str(number), side)
            for number, (export, side) in enumerate(zip(exports, (difference.a, difference.b), strict=True))
        ]
        if not has_manifests:
            difference.notes.append("white space between JSON tokens is ignored")
        normalize = _choose_normalizer(exports, has_manifests=has_manifests)
        _walk(_group(ordered[0], normalize), _group(ordered[1], normalize), difference, shared)
    return difference


_Group = dict[bytes, Event]
"""The distinct records of one instant and id, keyed by the bytes that are compared."""


def _walk(a: Iterator[_Group], b: Iterator[_Group], difference: Difference, shared: SharedCoverage) -> None:
    """Read both side by side, group by group of the same instant and id."""
    pairing = _Pairing(difference, shared)
    left, right = next(a, None), next(b, None)
    while left or right:
        if not right or (left and _read_order(left) < _read_order(right)):
            pairing.count_only(0, (left or {}).values())
            left = next(a, None)
        elif not left or _read_order(right) < _read_order(left):
            pairing.count_only(1, right.values())
            right = next(b, None)
        else:
            difference.in_both += len(left.keys() & right.keys())
            pairing.count_group(
                [event for record, event in left.items() if record not in right],
                [event for record, event in right.items() if record not in left],
            )
            left, right = next(a, None), next(b, None)
    pairing.finish()


class _Pairing:
    """Counts the events that are not in both files; two of one id are one event that changed."""

    def __init__(self, difference: Difference, shared: SharedCoverage) -> None:
        self._difference = difference
        self._shared = shared
        self._sides = (difference.a, difference.b)
        self._waiting: tuple[dict[str, bytes], dict[str, bytes]] = ({}, {})
        """The events of one side, by id, whose time may have changed; the first ones with their records."""

    def count_group(self, left: Sequence[Event], right: Sequence[Event]) -> None:
        """Count records of one instant and id of which the other file has no copy."""
        paired = min(len(left), len(right)) if left and read_order(left[0].order)[1] else 0
        for one, other in zip(left[:paired], right[:paired], strict=True):
            self._count_change(read_order(one.order)[1], one.raw, other.raw)
        self.count_only(0, left[paired:])
        self.count_only(1, right[paired:])

    def count_only(self, number: int, events: Iterable[Event]) -> None:
        """Count events whose instant and id only one file has."""
        own, other = self._waiting[number], self._waiting[1 - number]
        for event in events:
            if not self._shared.is_comparable(number, event):
                self._sides[number].not_comparable += 1
                continue
            event_id = read_order(event.order)[1]
            if event_id and event_id in other:
                self._sides[1 - number].only -= 1
                pair = (event.raw, other.pop(event_id))
                self._count_change(event_id, *(pair if number == 0 else pair[::-1]))
                continue
            side = self._sides[number]
            side.only += 1
            if len(side.examples) < _EXAMPLES_KEPT:
                side.examples.append(event)
            if event_id and len(own) < _IDS_REMEMBERED:
                own[event_id] = event.raw if len(own) < _RECORDS_REMEMBERED else b""

    def finish(self) -> None:
        """Drop the examples that turned out to have changed."""
        changed = {event.event_id for event in self._difference.changed_examples}
        for number, side in enumerate(self._sides):
            waiting = self._waiting[number]
            side.examples = [
                event
                for event in side.examples
                if not (event_id := read_order(event.order)[1]) or event_id in waiting or event_id not in changed
            ][:_EXAMPLES]

    def _count_change(self, event_id: str, old: bytes, new: bytes) -> None:
        difference = self._difference
        difference.changed += 1
        if not (old and new) or difference.changed > _CHANGES_COMPARED:
            return
        fields = compare_records(old, new)
        difference.reserialized += not fields
        for each in fields:
            if each.path in difference.changed_fields or len(difference.changed_fields) < _PATHS_COUNTED:
                difference.changed_fields[each.path] += 1
        if len(difference.changed_examples) < _EXAMPLES:
            difference.changed_examples.append(ChangedEvent(event_id, fields[:_FIELDS_SHOWN]))


def compare_records(old: bytes, new: bytes) -> tuple[FieldChange, ...]:
    """Return the fields in which two records differ, at most a few hundred; none if their JSON values are the same.

    The order of keys means nothing; the text of a number does.
    """
    changes: list[FieldChange] = []
    try:
        _compare_values(_decode(old), _decode(new), "", changes)
    except (ValueError, RecursionError):  # not JSON, or nested too deeply to compare
        changes.append(FieldChange("", _show_value(old.decode("utf-8", "replace")), None))
    return tuple(changes)


class _Missing:
    """Represents a field that a record does not have."""


class _NumberText(str):
    """The text of a number with a fraction or an exponent, which a float would not keep."""

    __slots__ = ()


def _decode(raw: bytes) -> Any:
    return json.loads(raw, parse_float=_NumberText)


def _compare_values(old: Any, new: Any, path: str, changes: list[FieldChange]) -> None:
    if len(changes) >= _FIELDS_COMPARED:
        return
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            inner = f"{path}.{key}" if path else key
            _compare_values(old.get(key, _Missing), new.get(key, _Missing), inner, changes)
    elif isinstance(old, list) and isinstance(new, list):
        for index in range(max(len(old), len(new))):
            one, other = (each[index] if index < len(each) else _Missing for each in (old, new))
            _compare_values(one, other, f"{path}[{index}]", changes)
    elif type(old) is not type(new) or old != new:
        changes.append(FieldChange(path[:_LONGEST_VALUE], _show_value(old), _show_value(new)))


def _show_value(value: Any) -> str | None:
    if value is _Missing:
        return None
    text = str(value) if isinstance(value, _NumberText) else json.dumps(value)
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 1] + "…"


def _group(events: Iterator[Event], normalize: Callable[[bytes], bytes]) -> Iterator[_Group]:
    """Yield the distinct records of each instant and id."""
    for _, group in groupby(events, key=lambda event: event.order):
        yield {normalize(event.raw): event for event in group}


def _read_order(group: _Group) -> bytes:
    return next(iter(group.values())).order


def _choose_normalizer(exports: Sequence[_Export], *, has_manifests: bool) -> Callable[[bytes], bytes]:
    """Return what turns an event into the bytes that are compared."""
    if any(export.is_converted for export in exports):
        convert = choose_shape("sdk")  # one text for each time, and every known field
        return lambda raw: compact_json(convert(raw))
    return bytes if has_manifests else compact_json


class _Export:
    """One of the two: a file or an archive."""

    def __init__(self, source: Input) -> None:
        self._source = source
        self._path = source.path or Path(source.name)
        if source.file is not None:
            check_source(source.file)
        if not source.is_rereadable:
            raise UsageError(
                f"{source.name} is not a file; diff reads each file more than once", hint="save it as a file first"
            )
        self.facts = source.read_facts()
        self.statement = self.facts.statement
        arguments = self.statement.arguments if isinstance(self.statement, Manifest) else None
        is_lines = arguments is not None and arguments.format in {"json", "ndjson"}
        self.is_own = source.view is not None or (is_lines and self.facts.verdict.kind is not VerdictKind.ALTERED)
        """Whether it is read in the layout that its manifest states, or as an archive, which is fast."""
        self.is_converted = False
        """Whether some of its events were in another shape than `api`."""
        self._is_lines = arguments is not None and arguments.format == "ndjson"
        self.is_redacted = arguments is not None and arguments.redact
        self.with_origin = arguments is not None and arguments.with_origin
        self.shape = arguments.shape if arguments else "api"

    def read_as_any_format(self, on_incomplete: Callable[[str], None]) -> None:
        """Read the file with the reader of any format from now on, unless its own layout gives the same events."""
        if self.is_own and self.shape == "api" and not self.with_origin:
            return
        self.is_own = False
        self.shape = "api"
        with self._source.open(on_incomplete=on_incomplete) as source:
            for _ in source:
                pass
            self.is_converted = any(source.kinds[kind] for kind in ("sdk", "cli", "cloudevents"))

    def read_in_order(self, scratch: Path, side: Side) -> Iterator[Event]:
        """Yield the events in canonical order; `scratch` is a folder that does not exist yet."""
        if self._is_sorted():
            for batch in self._read_batches():
                side.events += len(batch)
                yield from batch
            return
        make_private_folder(scratch)
        index = EventIndex(scratch)
        unsorted = scratch / "events"
        descriptor = open_private(unsorted, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        with explain_disk("write to", unsorted), os.fdopen(descriptor, "w+b") as file:
            offset = 0
            for batch in self._read_batches():
                lengths = [len(event.raw) for event in batch]
                file.write(b"".join(event.raw for event in batch))
                index.add(batch, origin=0, offset=offset, lengths=lengths)
                offset += sum(lengths)
                side.events += len(lengths)
            for entry in index.iterate():
                _, offset, length = split_location(entry)
                file.seek(offset)
                yield read_event(file.read(length), self.shape)

    def _is_sorted(self) -> bool:
        if self._source.view is not None:
            return True
        previous = b""
        for orders in self._read_orders():
            if any(later < earlier for earlier, later in pairwise([previous, *orders])):
                return False
            previous = orders[-1]
        return True

    def _read_orders(self) -> Iterator[list[bytes]]:
        """Yield the sort keys of the events; of blocks known to ascend, only the first and the last."""
        if not self.is_own or self.shape != "api" or self._is_lines:
            yield from ([event.order for event in batch] for batch in self._read_batches())
            return
        with self._name_file():
            for block in read_line_blocks(self._read_chunks()):
                scan = scan_block(block)
                if scan is not None:
                    yield [scan.first, scan.last.order]
                else:
                    yield [event.order for event in parse_block(block, self.shape).events]

    def _read_batches(self) -> Iterator[list[Event]]:
        if not self.is_own or self._source.view is not None:
            yield from self._read_records()
            return
        with self._name_file():
            chunks = self._read_chunks()
            batches = read_ndjson(chunks, shape=self.shape) if self._is_lines else read_array(chunks, shape=self.shape)
            for batch in batches:
                yield batch.events

    def _read_records(self) -> Iterator[list[Event]]:
        with self._source.open() as source:
            for batch in source:
                try:
                    yield parse_page(b"[" + b",".join([record.raw for record in batch]) + b"]")
                except BadPage as error:
                    raise UnreadableInput(f"{self._path}: an event cannot be read: {error}") from error

    def _read_chunks(self) -> Iterator[bytes]:
        with self._name_file(), explain_disk("read", self._path), self._path.open("rb", buffering=0) as file:
            yield from decompress(read_chunks(file), is_single=True)[1]

    @contextlib.contextmanager
    def _name_file(self) -> Iterator[None]:
        try:
            yield
        except InvalidFile as error:
            hint = "run oci-audit verify on it, or export it again"
            raise CorruptRun(f"{self._path}: {error}", hint=hint) from error
