"""Events read from a file of any kind, or from stdin.

Owns: what a file is taken for, told by its first bytes and never by its name; and how one reads it.
Must not: change an event beyond its spelling, or hold a file.

Kinds: a JSON array, alone or as `data` or `results` of an object, as the OCI command and Logging Search print
it; JSON objects one behind the other; our CSV; our Parquet; gzip and zstd of all but the last.

Invariants
- Every record of a file comes out once, in the file's order; or an error names the file and the place in it.
- A file of which no record is recognised as an event is refused, not passed through.
- Memory is a piece of the file and one batch, however large the file is.

Events that stand one in a line, cut without a look inside: three times as fast as reading them with care.

Owns: that shortcut, for uncompressed files in the layout of `json_array` and for ndjson.
Must not: judge a file. Whoever reads the events checks them as JSON; whatever is not as it should be is
`NotInLines`, and then the file is to be read anew, with care.

Invariant: a line of more than a megabyte is never held.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from ociaudit.errors import DiskError, UnreadableInput, UsageError
from ociaudit.formats.base import Record
from ociaudit.formats.compression import BadFile, read_pieces, unpack_pieces
from ociaudit.formats.detect import KIND_WORDS, UNKNOWN, DetectedInput, ObjectDetector, open_detected

_MOST_UNKNOWN_FIRST = 1000
_HINT = (
    "name an export, or what `oci audit event list`, the SDK, Connector Hub or Logging Search wrote; "
    "if it was one, it is damaged: make it anew"
)
_LINES_SUFFIX = re.compile(r"\.(ndjson|jsonl)(\.(gz|zst))?\Z", re.IGNORECASE)


class EventSource:
    """The records of one file. Iterate it once; counters and description grow meanwhile."""

    def __init__(self, name: str, detected: DetectedInput, compression: str) -> None:
        """Read what `container` holds."""
        self.name = name
        """The file as a person is told of it."""
        self._detected = detected
        self._compression = compression
        self._detector = ObjectDetector()
        self.records = 0
        """How many records have been given out."""

    @property
    def kinds(self) -> Counter[str]:
        """Spelling (`api`, `sdk`, `cli`, `cloudevents`, `unknown`) -> how many records had it."""
        return self._detector.kinds

    @property
    def with_origin(self) -> int:
        """How many records know where they were asked from."""
        return self._detector.with_origin

    @property
    def description(self) -> str:
        """What the file is taken for, in words; of its events, what has been seen so far."""
        words = self._detected.description
        if self._compression:
            words += f", {self._compression}"
        kinds = [KIND_WORDS[kind] for kind, count in self.kinds.most_common() if count]
        return f"{words}: events {' and '.join(kinds)}" if kinds else words

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the records in batches, none of them empty.

        Raises:
            UnreadableInput: the file is cut, damaged, or holds no events.
            DiskError: it cannot be read.
        """
        unknown: list[Record] = []  # held back until the first one is recognised
        with _explain_file(self.name):
            for objects, origins in self._detected.rows:
                records = self._detector.detect(objects, origins)
                self.records += len(records)
                if not self._is_detected:
                    unknown += records
                    if len(unknown) >= _MOST_UNKNOWN_FIRST:
                        break
                elif records:
                    yield unknown + records if unknown else records
                    unknown = []
            if unknown:
                raise BadFile(f"no audit event is among its JSON objects ({len(unknown):,} looked at)")

    @property
    def _is_detected(self) -> bool:
        kinds = self.kinds
        return any(count for kind, count in kinds.items() if kind != UNKNOWN)


@contextmanager
def open_records(source: Path | None, *, stdin: int = 0) -> Iterator[EventSource]:
    """Open a file, or stdin (None: the descriptor `stdin`), and tell what it is.

    An empty file is an export without events only where its name says that it holds lines (`.ndjson`, `.jsonl`);
    otherwise it is refused: there is nothing by which to tell it from a file that was never written.

    Raises:
        UsageError: it does not exist, or is a folder.
        UnreadableInput: it is of no known kind, or empty.
        DiskError: it cannot be read.
    """
    name = "stdin" if source is None else str(source)
    if source is not None:
        check_source(source)
    with contextlib.ExitStack() as stack:
        with _explain_file(name):
            if source is None:
                file = stack.enter_context(open(stdin, "rb", buffering=0, closefd=False))
            else:
                with _explain_disk(name):
                    file = stack.enter_context(source.open("rb", buffering=0))
            compression, pieces = unpack_pieces(_explain_reading(read_pieces(file), name))
            regular = source if source is not None and source.is_file() and not compression else None
            detected = open_detected(pieces, file=regular)
            if detected is None:
                detected = _take_empty(name, source)
        yield EventSource(name, detected, compression)


def check_source(path: Path) -> None:
    """Refuse early what cannot be opened as a file.

    Raises:
        UsageError: it does not exist, or is a folder.
        DiskError: it cannot be looked at.
    """
    with _explain_disk(str(path)):
        if path.is_dir():
            raise UsageError(f"{path} is a folder", hint=f"name the files in it, for example {path}/*")
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name a file that holds audit events, or - for stdin")


def _take_empty(name: str, source: Path | None) -> DetectedInput:
    if source is not None and _LINES_SUFFIX.search(source.name):
        return DetectedInput("an empty file of lines", iter(()))
    raise UnreadableInput(
        f"{name} is empty",
        hint="what should have written it failed, or, if it was `oci audit event list`, found no event",
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
            f"cannot read {name}: {error.strerror or error}", hint="check the file's mode, and the disk it is on"
        ) from error


@contextmanager
def _explain_file(name: str) -> Iterator[None]:
    try:
        yield
    except BadFile as error:
        raise UnreadableInput(f"{name}: {error}", hint=_HINT) from error


_LINES = 64
"""Held at a time: with what is read from them they stay in the processor's cache."""
_LINE_BYTES = 1024 * 1024
_HEAD = b"[\n"
_TAIL = b"]\n"


class NotInLines(ValueError):
    """A file that has to be read with care."""


def read_plain_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    """Yield what stands in the lines of a file, unchecked; it was opened with a buffer and stands at its beginning.

    Raises:
        NotInLines: the layout is another one.
    """
    head = file.readline(len(_HEAD))
    if head == _HEAD:
        yield from _read_array(file)
    elif head[:1] == b"{":
        file.seek(0)
        yield from _read_lines(file)
    else:
        raise NotInLines


def _read_array(file: BinaryIO) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for lines in _read_lines(file):
        held += lines
        events, held = held[:-2], held[-2:]  # the last event has no comma behind it
        if events:
            yield [line[:-2] for line in events]
    if not held or held[-1] != _TAIL:
        raise NotInLines
    if len(held) == 2:
        yield held[:1]


def _read_lines(file: BinaryIO) -> Iterator[list[bytes]]:
    lines = iter(partial(file.readline, _LINE_BYTES), b"")
    while batch := list(islice(lines, _LINES)):
        if max(map(len, batch)) == _LINE_BYTES:
            raise NotInLines
        yield batch
