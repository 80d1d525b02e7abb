"""Conversion: events of any files, filtered, ordered, redacted, and written in another format or shape.

Invariants
- The order of the inputs is kept; with `is_sorted` it is the canonical order, every record once. A record that several
  inputs hold is then written with its origin, if any of them knows it.
- The output is none of the inputs, whatever they are called, and gets its name only when it is complete.
- Everything read is written, filtered out, or identical to what was written, in the same or other bytes: the counts
  add up.
- Memory does not grow with the inputs: sorted records wait compressed in a private scratch file.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, groupby
from pathlib import Path

from ociaudit.archive.inputs import Input
from ociaudit.errors import UnreadableInput, UsageError
from ociaudit.events.event import BadPage, parse_page, replace_lone_surrogates
from ociaudit.events.filters import EventFilter
from ociaudit.events.redaction import Redactor
from ociaudit.formats.base import EventEncoder, Record
from ociaudit.formats.compression import make_compressor
from ociaudit.formats.reader import check_source, reject_incomplete
from ociaudit.formats.registry import OutputFormat, make_format
from ociaudit.operations.context import Callbacks, Cancellation
from ociaudit.operations.publish import open_output_target, write_events
from ociaudit.planning.shard import Target
from ociaudit.planning.time_range import reject_placeholders
from ociaudit.storage.atomic_io import (
    check_replaceable,
    explain_disk,
    make_private_folder,
    open_private,
    write_all,
)
from ociaudit.storage.manifest import name_manifest
from ociaudit.storage.merge import CanonicalReader, EventIndex, FrameCodec, LogReader, MergeCounts, train_dictionary

_UNKNOWN_ORIGIN = 2**32 - 1
"""Sorts after every known origin, so that of equal records the one with an origin is kept."""
_END = 2**71
_SAMPLE_EVENTS = 400
_SIDECAR = re.compile(r"\.(manifest\.json(\.sig)?|ledger\.ndjson)\Z")


class OrderedRecords:
    """Accepts records in any order and returns them in canonical order, each once."""

    def __init__(self, folder: Path, targets: Iterable[Target] = ()) -> None:
        """Keep everything in `folder`, which is created here and removed by the caller.

        Of equal records with several origins, the one is kept that comes first in `targets`.
        """
        make_private_folder(folder)
        self._path = folder / "records"
        self._index = EventIndex(folder)
        self._descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._codec: FrameCodec | None = None
        self._offset = 0
        self._numbers: dict[Target | None, int] = {None: _UNKNOWN_ORIGIN}
        self._targets: list[Target] = []
        self.counts = MergeCounts()
        """The counts of the merge; filled while the records are read back."""
        for target in targets:
            self._number_origin(target)

    def add(self, records: Sequence[Record]) -> None:
        """Add records.

        Raises:
            DiskError: the disk is full.
        """
        for origin, group in groupby(records, key=lambda record: record.origin):
            self._add([record.raw for record in group], self._number_origin(origin))

    def iterate(self) -> Iterator[Record]:
        """Yield the records, once.

        Raises:
            DiskError: they cannot be read back.
        """
        reader = LogReader(self._path, self._codec or FrameCodec())
        with contextlib.closing(reader):
            merge = CanonicalReader(self._index, reader, start=0, end=_END)
            self.counts = merge.counts
            for raw, number in merge:
                yield Record(raw, None if number == _UNKNOWN_ORIGIN else self._targets[number])

    def close(self) -> None:
        """Close the scratch file."""
        os.close(self._descriptor)

    def _add(self, raws: list[bytes], origin: int) -> None:
        if self._codec is None:
            self._codec = FrameCodec(train_dictionary(raws[:_SAMPLE_EVENTS]))
        frames = self._codec.compress(raws)
        write_all(self._descriptor, b"".join(frames), self._path)
        try:
            events = parse_page(b"[" + b",".join(raws) + b"]")
        except BadPage as error:  # a reader returns valid JSON, but it may be nested too deeply for this
            raise UnreadableInput(f"an event cannot be ordered: {error}", hint="convert without --sort") from error
        lengths = list(map(len, frames))
        self._index.add(events, origin=origin, offset=self._offset, lengths=lengths)
        self._offset += sum(lengths)

    def _number_origin(self, origin: Target | None) -> int:
        number = self._numbers.get(origin)
        if number is None:
            number = self._numbers[origin] = len(self._targets)
            if origin is not None:
                self._targets.append(origin)
        return number


@contextmanager
def order_records(
    scratch: Path, batches: Iterable[Sequence[Record]], targets: Iterable[Target] = ()
) -> Iterator[OrderedRecords]:
    """Collect all records of `batches` in `scratch`, a folder that does not exist yet; `targets` as in its class."""
    ordered = OrderedRecords(scratch, targets)
    with contextlib.closing(ordered):
        for batch in batches:
            ordered.add(batch)
        yield ordered


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """One conversion. `output` None means stdout."""

    inputs: tuple[Input, ...]
    output: Path | None
    event_filter: EventFilter = field(default_factory=EventFilter)
    output_format: OutputFormat = field(default_factory=OutputFormat)
    encoder: EventEncoder = field(default_factory=EventEncoder)
    is_sorted: bool = False
    """Canonical order, every record once; otherwise the order of the inputs, every record."""
    is_redacted: bool = False
    is_valid_unicode: bool = False
    """Replace every lone surrogate with U+FFFD."""
    overwrite: bool = False
    is_strict: bool = False
    """Reject an input that itself says that it is not whole."""


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What an input was detected as, and how many events it held."""

    name: str
    description: str
    events: int
    with_origin: int
    unknown: int


@dataclass(slots=True)
class SurrogateCounts:
    """Replaces lone surrogates, and counts them and the events that had any."""

    replaced: int = 0
    events: int = 0

    def make_valid(self, raw: bytes) -> bytes:
        """Return an event without lone surrogates."""
        valid, number = replace_lone_surrogates(raw)
        self.replaced += number
        self.events += number > 0
        return valid


@dataclass(slots=True)
class Conversion:
    """How a conversion ended. `read` = `written` + `filtered` + `identical` + `reserialised`.

    `surrogates` counts the lone surrogates that were replaced, None without that option. `redacted_events` were changed
    by redaction; `redacted_fields` counts the replaced values by path, None without redaction. `conflicting_ids` have
    more than one record; they are counted only in canonical order.
    """

    inputs: list[InputSummary] = field(default_factory=list)
    read: int = 0
    filtered: int = 0
    identical: int = 0
    reserialised: int = 0
    written: int = 0
    conflicting_ids: int = 0
    redacted_events: int = 0
    redacted_fields: dict[str, int] | None = None
    surrogates: SurrogateCounts | None = None
    size_bytes: int = 0
    nearest_values: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """For a filter that matched no event: the values read that come nearest to its own, by what they are."""


def convert_events(
    options: ConvertOptions,
    *,
    callbacks: Callbacks | None = None,
    cancellation: Cancellation | None = None,
    stdout: int = 1,
) -> Conversion:
    """Convert, and return the counts.

    Raises:
        UsageError: an input does not exist, or the output must not be written.
        UnreadableInput: an input is damaged, or holds no events.
        DiskError: a file cannot be read or written.
        Interrupted: a stop was requested; nothing has changed under the output's name, and stdout is incomplete.
    """
    watch = callbacks or Callbacks()
    cancelled = cancellation or Cancellation()
    inputs = choose_inputs(options.inputs, watch)
    _check_output(options, inputs)
    for notice in (*options.output_format.notices, *options.event_filter.notices):
        watch.on_notice(notice)
    conversion = Conversion(surrogates=SurrogateCounts() if options.is_valid_unicode else None)
    redactor = Redactor() if options.is_redacted else None
    kept = "nothing was written" if options.output else "stdout holds only a part of the events"
    check_cancelled = partial(cancelled.check, f"while converting; {kept}", is_kept=False)
    batches = _read_inputs(inputs, options, conversion, check_cancelled, watch.on_notice)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oci-audit-")))
        records: Iterable[Record] = chain.from_iterable(batches)
        if options.is_sorted:
            ordered = stack.enter_context(order_records(scratch / "order", batches))
            records = ordered.iterate()
        write = stack.enter_context(
            open_output_target(
                options.output, stdout=stdout, check_cancelled=check_cancelled, may_replace=options.overwrite
            )
        )
        written = write_events(
            _transform(records, redactor, conversion.surrogates),
            locate=_keep_origin,
            event_format=make_format(options.output_format.format, options.encoder, scratch=scratch),
            compressor=make_compressor(options.output_format.compression),
            write=write,
            on_written=watch.on_written,
        )
        if options.is_sorted:
            conversion.identical = ordered.counts.identical
            conversion.reserialised = ordered.counts.reserialised
            conversion.conflicting_ids = ordered.counts.conflicting_count
    conversion.size_bytes = written.size_bytes
    if redactor is not None:
        conversion.redacted_events = redactor.events
        conversion.redacted_fields = dict(redactor.paths.most_common())
    conversion.written = conversion.read - conversion.filtered - conversion.identical - conversion.reserialised
    if not conversion.written:
        conversion.nearest_values = options.event_filter.suggest_values()
    return conversion


def _transform(
    records: Iterable[Record], redactor: Redactor | None, surrogates: SurrogateCounts | None
) -> Iterable[Record]:
    """Yield the records, redacted and without lone surrogates where that is wanted."""
    if redactor is not None:
        records = (Record(redactor.redact(raw), origin) for raw, origin in records)
    if surrogates is not None:
        records = (Record(surrogates.make_valid(raw), origin) for raw, origin in records)
    return records


def choose_inputs(inputs: Sequence[Input], callbacks: Callbacks) -> list[Input]:
    """Check the inputs, and omit manifests and ledgers, which a glob may name.

    Raises:
        UsageError: one does not exist or is named twice, or none is left.
    """
    chosen: list[Input] = []
    seen: dict[tuple[int, int] | None, Input] = {}
    for source in inputs:
        key = None
        if source.path is None:
            if key in seen:
                raise UsageError("stdin is named twice", hint="name - once")
        else:
            if source.file is not None:
                check_source(source.file)
                if _SIDECAR.search(source.file.name):
                    callbacks.on_notice(f"{source.name} is omitted: it accompanies an export and holds no events")
                    continue
            with explain_disk("look at", source.path):
                status = source.path.stat()
            key = status.st_dev, status.st_ino
            if key in seen:
                raise UsageError(
                    f"{source.name} and {seen[key].name} are the same {source.kind}", hint="name each once"
                )
            if notice := source.find_notice():
                callbacks.on_notice(notice)
        seen[key] = source
        chosen.append(source)
    if not chosen:
        raise UsageError("no file of events is named", hint="name one or more, or - for stdin")
    return chosen


def _check_output(options: ConvertOptions, inputs: Sequence[Input]) -> None:
    """Reject an output that must not be written, before anything is read."""
    output = options.output
    if output is None:
        return
    reject_placeholders(output)
    check_replaceable(output)
    for source in inputs:
        if source.holds(output):
            if source.file is not None:
                raise UsageError(f"the output {output} is the input {source.name}", hint="write to another file")
            raise UsageError(
                f"the output {output} is inside the {source.kind} {source.name}", hint="write it elsewhere"
            )
    if output.exists() and not options.overwrite:
        raise UsageError(f"{output} exists", hint="replace it with --overwrite, or choose another name with -o")
    if name_manifest(output).exists():
        raise UsageError(
            f"{output} is an export with a manifest, which would then describe another file",
            hint="choose another name with -o",
        )


def _read_inputs(
    inputs: Sequence[Input],
    options: ConvertOptions,
    conversion: Conversion,
    check_cancelled: Callable[[], None],
    on_notice: Callable[[str], None],
) -> Iterator[list[Record]]:
    """Yield the records that pass the filter, input by input; with the origins in ledgers, if the output has them."""
    event_filter = options.event_filter
    on_incomplete = reject_incomplete if options.is_strict else on_notice
    needs_origins = options.encoder.with_origin or options.output_format.format in {"csv", "parquet"}
    for each in inputs:
        with each.open(needs_origins=needs_origins, on_incomplete=on_incomplete) as source:
            for batch in source:
                check_cancelled()
                wanted = [record for record in batch if event_filter.is_wanted(record.raw)] if event_filter else batch
                conversion.read += len(batch)
                conversion.filtered += len(batch) - len(wanted)
                if wanted:
                    yield wanted
            conversion.inputs.append(
                InputSummary(
                    source.name, source.description, source.records, source.with_origin, source.kinds["unknown"]
                )
            )


def _keep_origin(origin: Target | None) -> Target | None:
    return origin
