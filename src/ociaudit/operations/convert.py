"""Records of any files in canonical order, each once.

Owns: the scratch file in which they wait. Order and identity are those of `store.canonical`, as in an export.

Invariants
- Memory does not grow with the records: they wait compressed in one private file, their order in part files.
- A record that several files hold is given out once; if only some of them know its origin, with that origin.

Events of files, in another form: read, filtered, put in order, redacted, spelled, written.

Owns: the steps, and what is refused before the first one. Must not: print.

Invariants
- The inputs' order is kept; or it is the canonical one, with every record once.
- The output is none of the inputs, whatever they are called, and gets its name only when it is whole.
- Everything read is written, filtered out, or identical to what was written: the counts add up.
- Memory does not grow with the inputs.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain, groupby
from pathlib import Path

from ociaudit.errors import CorruptRun, UnreadableInput, UsageError
from ociaudit.events.event import BadPage, parse_page
from ociaudit.events.filters import EventFilter
from ociaudit.events.redaction import Redactor
from ociaudit.formats.base import EventShape, Record
from ociaudit.formats.compression import make_compressor
from ociaudit.formats.reader import check_source, open_records
from ociaudit.formats.registry import OutputFormat, make_format
from ociaudit.operations.context import Callbacks, Cancellation
from ociaudit.operations.publish import open_output_target, write_events
from ociaudit.planning.shard import Target
from ociaudit.storage.atomic_io import check_replaceable, explain_disk, make_private_folder, open_private, write_all
from ociaudit.storage.event_log import FrameCodec, LogReader, train_dictionary
from ociaudit.storage.manifest import load_manifest, name_manifest
from ociaudit.storage.merge import CanonicalReader, EventIndex, MergeCounts

_UNKNOWN_ORIGIN = 2**32 - 1
"""Sorts behind every known one, so that of equal records the one with an origin is kept."""
_END = 2**71
_SAMPLE_EVENTS = 400


class OrderedRecords:
    """Takes records in any order and gives them back in canonical order."""

    def __init__(self, folder: Path) -> None:
        """Keep everything in `folder`, which is private, empty, and removed by the caller."""
        make_private_folder(folder)
        self._path = folder / "records"
        self._index = EventIndex(folder)
        self._descriptor = open_private(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        self._codec: FrameCodec | None = None
        self._offset = 0
        self._numbers: dict[Target | None, int] = {None: _UNKNOWN_ORIGIN}
        self._places: list[Target] = []
        self.counts = MergeCounts()
        """What the merge met; filled while the records are given out."""

    def add(self, records: Sequence[Record]) -> None:
        """Take records.

        Raises:
            DiskError: there is no room.
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
                yield Record(raw, None if number == _UNKNOWN_ORIGIN else self._places[number])

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
        except BadPage as error:  # what a reader gives is valid JSON, but one may be nested too deeply for this
            raise UnreadableInput(f"an event cannot be put in order: {error}", hint="convert without --sort") from error
        lengths = list(map(len, frames))
        self._index.add(events, origin=origin, offset=self._offset, lengths=lengths)
        self._offset += sum(lengths)

    def _number_origin(self, origin: Target | None) -> int:
        number = self._numbers.get(origin)
        if number is None:
            number = self._numbers[origin] = len(self._places)
            if origin is not None:
                self._places.append(origin)
        return number


@contextmanager
def order_records(scratch: Path, batches: Iterable[Sequence[Record]]) -> Iterator[OrderedRecords]:
    """Take all records of `batches`; `scratch` is a folder name that is free to use."""
    ordered = OrderedRecords(scratch)
    with contextlib.closing(ordered):
        for batch in batches:
            ordered.add(batch)
        yield ordered


_STATEMENT = re.compile(r"\.(manifest\.json(\.sig)?|ledger\.ndjson)\Z")


@dataclass(frozen=True, slots=True)
class ConvertOptions:
    """One conversion. Of `inputs`, None means stdin; `output` None means stdout."""

    inputs: tuple[Path | None, ...]
    output: Path | None
    event_filter: EventFilter = field(default_factory=EventFilter)
    form: OutputFormat = field(default_factory=OutputFormat)
    spelling: EventShape = field(default_factory=EventShape)
    is_sorted: bool = False
    """Canonical order, every record once; else the inputs' order, everything."""
    is_redacted: bool = False
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class InputSummary:
    """What an input was taken for, and how many events it held."""

    name: str
    description: str
    events: int
    with_origin: int
    unknown: int


@dataclass(slots=True)
class Conversion:
    """How a conversion ended. `read` = `written` + `filtered` + `identical`.

    `redacted_events` were changed by redaction; `redacted_fields` counts the values replaced by their path,
    None where nothing was to be redacted.
    `conflicting_ids` have more than one record; it is counted only where the records were put in order.
    """

    inputs: list[InputSummary] = field(default_factory=list)
    read: int = 0
    filtered: int = 0
    identical: int = 0
    written: int = 0
    conflicting_ids: int = 0
    redacted_events: int = 0
    redacted_fields: dict[str, int] | None = None
    size_bytes: int = 0


def convert_events(
    order: ConvertOptions, *, callbacks: Callbacks | None = None, stop: Cancellation | None = None, stdout: int = 1
) -> Conversion:
    """Convert, and return the counts.

    Raises:
        UsageError: an input does not exist, or the output must not be written.
        UnreadableInput: an input is damaged, or holds no events.
        DiskError: a file cannot be read or written.
        Interrupted: a stop was asked for; nothing stands under the output's name that did not before.
    """
    watch = callbacks or Callbacks()
    wish = stop or Cancellation()
    inputs = _choose_inputs(order.inputs, watch)
    _check_output(order, inputs)
    for notice in (*order.form.notices, *order.event_filter.notices):
        watch.on_notice(notice)
    conversion = Conversion()

    def check_cancelled() -> None:
        wish.check("; nothing was written")

    batches = _read_inputs(inputs, order.event_filter, conversion, check_cancelled)
    redactor = Redactor()
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="oci-audit-")))
        records: Iterable[Record] = chain.from_iterable(batches)
        if order.is_sorted:
            ordered = stack.enter_context(order_records(scratch / "order", batches))
            records = ordered.iterate()
        if order.is_redacted:
            records = (Record(redactor.redact(raw), origin) for raw, origin in records)
        written = write_events(
            records,
            locate=_keep_origin,
            event_format=make_format(order.form.format, order.spelling, scratch=scratch),
            compressor=make_compressor(order.form.compression),
            write=stack.enter_context(open_output_target(order.output, stdout=stdout, check_cancelled=check_cancelled)),
            on_written=watch.on_written,
        )
        if order.is_sorted:
            conversion.identical = ordered.counts.identical
            conversion.conflicting_ids = ordered.counts.conflicting_count
    conversion.size_bytes = written.size_bytes
    if order.is_redacted:
        conversion.redacted_events = redactor.events
        conversion.redacted_fields = dict(redactor.paths.most_common())
    conversion.written = conversion.read - conversion.filtered - conversion.identical
    return conversion


def _choose_inputs(inputs: Sequence[Path | None], callbacks: Callbacks) -> list[Path | None]:
    """Check the inputs, and leave out what stands beside exports and holds no events, as a glob may name it."""
    chosen: list[Path | None] = []
    for path in inputs:
        if path is None:
            if None in chosen:
                raise UsageError("stdin is named twice", hint="name - once")
        else:
            check_source(path)
            if _STATEMENT.search(path.name):
                callbacks.on_notice(f"{path} is left out: it stands beside an export and holds no events")
                continue
            for other in chosen:
                if other is not None and _is_same(path, other):
                    raise UsageError(f"{path} and {other} are the same file", hint="name every file once")
            _report_gaps(path, callbacks)
        chosen.append(path)
    if not chosen:
        raise UsageError("no file of events is named", hint="name one or more, or - for stdin")
    return chosen


def _report_gaps(path: Path, callbacks: Callbacks) -> None:
    """Say so where the statement beside an input says that it is not complete."""
    try:
        found = load_manifest(name_manifest(path))
    except CorruptRun as error:
        callbacks.on_notice(f"{error}; whether {path} is complete is not known")
        return
    if found is not None and not found.manifest.complete:
        callbacks.on_notice(
            f"{path} is incomplete, with {len(found.manifest.gaps)} gaps as its manifest says; so is what is made of it"
        )


def _check_output(order: ConvertOptions, inputs: Sequence[Path | None]) -> None:
    """Refuse an output that must not be written, before anything is read."""
    output = order.output
    if output is None:
        return
    check_replaceable(output)
    for path in inputs:
        if path is not None and _is_same(path, output):
            raise UsageError(f"the output {output} is the input {path}", hint="write to another file")
    if output.exists() and not order.overwrite:
        raise UsageError(f"{output} exists", hint="replace it with --overwrite, or choose another name with -o")
    if name_manifest(output).exists():
        raise UsageError(
            f"{output} is an export with a manifest, which would speak of another file then",
            hint="choose another name with -o",
        )


def _is_same(a: Path, b: Path) -> bool:
    """Tell whether two names lead to one file, through links or not."""
    with explain_disk("look at", a):
        return b.exists() and a.samefile(b)


def _read_inputs(
    inputs: Sequence[Path | None],
    event_filter: EventFilter,
    conversion: Conversion,
    check_cancelled: Callable[[], None],
) -> Iterator[list[Record]]:
    """Yield what passes the filter, input by input."""
    for path in inputs:
        with open_records(path) as source:
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
