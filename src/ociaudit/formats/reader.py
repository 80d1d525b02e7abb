"""The reader of audit events from any file or from stdin.

`open_records` accepts JSON documents that follow each other: events, arrays of them, and pages that hold events in
lists (as the OCI CLI and Logging Search print them), nested in any way; CSV and Parquet with the column `event`; and
all of these but Parquet compressed with gzip or zstd. What a file is follows from its first bytes, never from its name
(`formats/detect.py`).

`read_plain_lines` is a fast path for uncompressed files in the layout of `JsonArray` or `Ndjson`: it splits lines
without parsing them, three times as fast. The caller checks the events as JSON, and reads the whole file again with
`open_records` when the layout or an event is not as expected.

Invariants
- `open_records` yields every record of a file exactly once, in the file's order, or raises an error that names the
  file and the position in it.
- A file in which no record is detected as an event is rejected.
- An event changes in nothing but its shape.
- Memory holds a piece of the file and one batch, whatever the size of the file; the fast path never holds a line of
  more than a megabyte.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from typing import BinaryIO

from ociaudit.errors import DiskError, UnreadableInput, UsageError
from ociaudit.formats.base import InvalidFile, Record
from ociaudit.formats.compression import decompress, read_pieces
from ociaudit.formats.detect import KIND_WORDS, UNKNOWN, DetectedInput, ObjectDetector, detect_input
from ociaudit.planning.shard import Target

_MAX_UNKNOWN_FIRST = 1000
_HINT = (
    "name an export, or a file that `oci audit event list`, the SDK, Connector Hub or Logging Search wrote; "
    "if it is one, it is damaged: create it again"
)
_LINES_SUFFIX = re.compile(r"\.(ndjson|jsonl)(\.(gz|zst))?\Z", re.IGNORECASE)

_LINES_PER_BATCH = 64
"""The lines and what is read from them should fit in the processor's cache."""
_MAX_LINE_BYTES = 1024 * 1024
_ARRAY_START = b"[\n"
_ARRAY_END = b"]\n"


class RecordSource:
    """The records of one file. Iterate it once; the counters and the description grow meanwhile."""

    def __init__(
        self,
        name: str,
        detected: DetectedInput,
        compression: str,
        *,
        origins: Iterator[Target] | None = None,
        on_incomplete: Callable[[str], None],
    ) -> None:
        """Read the events of `detected`; `name` is the file's name in messages.

        `origins` are those of the file's records in their order, for records that do not state one themselves.
        """
        self._on_incomplete = on_incomplete
        self.name = name
        """The file's name in messages."""
        self._detected = detected
        self._compression = compression
        self._detector = ObjectDetector()
        self._origins = chain(origins, repeat(None)) if origins is not None else None
        self._found_origins = 0
        self.records = 0
        """How many records have been read."""

    @property
    def kinds(self) -> Counter[str]:
        """Kind of record (`api`, `sdk`, `cli`, `cloudevents`, `unknown`) -> how many there were."""
        return self._detector.kinds

    @property
    def with_origin(self) -> int:
        """How many records have an origin that is known."""
        return self._detector.with_origin + self._found_origins

    @property
    def description(self) -> str:
        """What the file is, in words, and the kinds of events read so far."""
        words = self._detected.description
        if self._compression:
            words += f", {self._compression}"
        kinds = [KIND_WORDS[kind] for kind, count in self.kinds.most_common() if count]
        return f"{words}: events {' and '.join(kinds)}" if kinds else words

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the records in batches, none of them empty.

        Raises:
            UnreadableInput: the file is truncated, damaged, or holds no events.
            DiskError: it cannot be read.
        """
        unknown: list[Record] = []  # held back until the first event is detected
        with _explain_invalid(self.name):
            for objects, origins in self._detected.rows:
                records = self._detector.detect(objects, origins)
                if self._origins is not None:
                    records = self._add_origins(records, self._origins)
                self.records += len(records)
                if not self._has_events:
                    unknown += records
                    if len(unknown) >= _MAX_UNKNOWN_FIRST:
                        break
                elif records:
                    yield unknown + records if unknown else records
                    unknown = []
            if unknown:
                raise InvalidFile(f"none of its JSON objects is an audit event ({len(unknown):,} checked)")
        for reason in self._detector.incomplete:
            self._on_incomplete(f"{self.name} is not whole: {reason}")

    def _add_origins(self, records: list[Record], origins: Iterator[Target | None]) -> list[Record]:
        before = sum(record.origin is not None for record in records)
        found = [Record(raw, origin or known) for (raw, origin), known in zip(records, origins, strict=False)]
        self._found_origins += sum(record.origin is not None for record in found) - before
        return found

    @property
    def _has_events(self) -> bool:
        return any(count for kind, count in self.kinds.items() if kind != UNKNOWN)


def ignore_incomplete(_: str) -> None:
    """Accept an input that says that it is not whole."""


def reject_incomplete(reason: str) -> None:
    """Reject an input that says that it is not whole.

    Raises:
        UnreadableInput: always.
    """
    raise UnreadableInput(reason, hint="fetch what is missing, or omit --strict to read what there is")


@contextmanager
def open_records(
    source: Path | None,
    *,
    stdin: int = 0,
    origins: Iterator[Target] | None = None,
    on_incomplete: Callable[[str], None] = ignore_incomplete,
    shown_as: str = "",
) -> Iterator[RecordSource]:
    """Open a file, or stdin (None: the descriptor `stdin`), and detect what it is; messages name it, or `shown_as`.

    `origins` are those of its records in their order, where they are known from elsewhere. After the last record,
    `on_incomplete` is called with each sentence in which the input itself says that it is not whole: it names a next
    page, is marked as truncated, or holds an error.

    An empty file counts as an export without events only if its name says that it holds lines (`.ndjson`, `.jsonl`).
    Any other empty file is rejected, because it may be one that was never written.

    Raises:
        UsageError: it does not exist, or is a folder.
        UnreadableInput: it is of no known kind, or empty.
        DiskError: it cannot be read.
    """
    name = shown_as or ("stdin" if source is None else str(source))
    if source is not None:
        check_source(source)
    with contextlib.ExitStack() as stack:
        with _explain_invalid(name):
            if source is None:
                file = stack.enter_context(open(stdin, "rb", buffering=0, closefd=False))
            else:
                with _explain_disk(name):
                    file = stack.enter_context(source.open("rb", buffering=0))
            compression, pieces = decompress(_explain_reading(read_pieces(file), name))
            regular = source if source is not None and source.is_file() and not compression else None
            detected = detect_input(pieces, file=regular)
            if detected is None:
                detected = _accept_empty(name, source)
        yield RecordSource(name, detected, compression, origins=origins, on_incomplete=on_incomplete)


def check_source(path: Path) -> None:
    """Check that a path is a file, before any work starts.

    Raises:
        UsageError: it does not exist, or is a folder.
        DiskError: its folder cannot be read.
    """
    with _explain_disk(str(path)):
        if path.is_dir():
            raise UsageError(
                f"{path} is a folder",
                hint=f"name the files in it, for example {path}/*, or an archive of oci-audit sync",
            )
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name a file that holds audit events, or - for stdin")


def check_distinct(sources: Sequence[Path | None]) -> None:
    """Check that no file or archive is named twice, through links or not: its events would count twice.

    Raises:
        UsageError: one is, or does not exist.
        DiskError: its folder cannot be read.
    """
    seen: dict[tuple[int, int], Path] = {}
    for path in sources:
        if path is None:
            continue
        with _explain_disk(str(path)):
            if not path.is_dir():  # an archive is a folder
                check_source(path)
            status = path.stat()
        key = (status.st_dev, status.st_ino)
        if key in seen:
            raise UsageError(
                f"{path} and {seen[key]} are the same {'archive' if path.is_dir() else 'file'}", hint="name each once"
            )
        seen[key] = path


def _accept_empty(name: str, source: Path | None) -> DetectedInput:
    if source is not None and _LINES_SUFFIX.search(source.name):
        return DetectedInput("an empty NDJSON file", iter(()))
    raise UnreadableInput(
        f"{name} is empty",
        hint="the command that should have written it failed, or it was `oci audit event list` and found no events",
    )


def _explain_reading(pieces: Iterator[bytes], name: str) -> Iterator[bytes]:
    with _explain_disk(name):
        yield from pieces


@contextmanager
def _explain_disk(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DiskError(
            f"cannot read {name}: {error.strerror or error}", hint="check the file's mode and the disk it is on"
        ) from error


@contextmanager
def _explain_invalid(name: str) -> Iterator[None]:
    try:
        yield
    except InvalidFile as error:
        raise UnreadableInput(f"{name}: {error}", hint=_suggest(name, error)) from error


def _suggest(name: str, error: InvalidFile) -> str:
    command = error.filter_command
    if command is None:
        return error.hint or _HINT
    if name == "stdin":
        return f"convert it on the way: {command}"
    target = shlex.quote(f"{name}.utf8")
    opener = {".gz": "gzip -dc", ".zst": "zstd -dc"}.get(Path(name).suffix.lower())
    if opener:
        return f"convert it: {opener} {shlex.quote(name)} | {command} > {target}"
    return f"convert it: {command} {shlex.quote(name)} > {target}"


class NotPlainLines(ValueError):
    """A file that `read_plain_lines` cannot read, because its layout is another one."""


def read_plain_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield the events in the lines of a file, in batches and unchecked.

    The file has been opened with a buffer and is at its beginning.

    Raises:
        NotPlainLines: the layout is not that of `JsonArray` or `Ndjson`, or a line is longer than a megabyte.
    """
    start = file.readline(len(_ARRAY_START))
    if start == _ARRAY_START:
        yield from _read_array(file)
    elif start[:1] == b"{":
        file.seek(0)
        yield from _read_lines(file)
    else:
        raise NotPlainLines


def _read_array(file: BinaryIO) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for lines in _read_lines(file):
        held += lines
        events, held = held[:-2], held[-2:]  # the last event is not followed by a comma
        if events:
            yield [line[:-2] for line in events]
    if not held or held[-1] != _ARRAY_END:
        raise NotPlainLines
    if len(held) == 2:
        yield held[:1]


def _read_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    lines = iter(partial(file.readline, _MAX_LINE_BYTES), b"")
    while batch := list(islice(lines, _LINES_PER_BATCH)):
        if max(map(len, batch)) == _MAX_LINE_BYTES:
            raise NotPlainLines
        yield batch
