"""The reader of audit events from any file or from stdin.

`open_records` accepts JSON documents that follow each other: events, arrays of them, and pages that hold events in
lists (as the OCI CLI and Logging Search print them), nested in any way; CSV and Parquet with the column `event`; and
all of these but Parquet compressed with gzip or zstd. What a file is follows from its first bytes, never from its name
(`formats/detect.py`).

`read_files` reads many files, with processes that read ahead where there are enough of them: parsing holds the
interpreter's lock, so threads would not help. A process runs `serve_files`: it gets the names of files and returns
their records. What it cannot read is read here, which gives the same error.

`read_plain_lines` and `read_plain_events` are fast paths for files in the layout of `JsonArray` or `Ndjson`: they split
lines without parsing them, three times as fast. The caller checks the events as JSON, and reads the whole file again
with `open_records` when the layout or an event is not as expected. `split_plain` cuts such a file into parts, each of
which reads like a file, for several processes.

Over 700 lines: every way of reading a file has to give the same records and refuse the same files.

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
import fcntl
import os
import re
import shlex
import struct
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BufferedReader, FileIO, RawIOBase
from itertools import chain, islice, pairwise, repeat
from pathlib import Path
from typing import IO, Any, NamedTuple, Self

import msgspec

from ociaudit.errors import DiskError, UnreadableInput, UsageError
from ociaudit.formats.base import InvalidFile, Record
from ociaudit.formats.compression import GZIP_MAGIC, ZSTD_MAGIC, decompress, read_pieces
from ociaudit.formats.detect import (
    KIND_WORDS,
    UNKNOWN,
    DetectedInput,
    ObjectDetector,
    detect_input,
    is_plain,
    may_hold_others,
)
from ociaudit.planning.shard import Target

_MAX_UNKNOWN_FIRST = 1000
_HINT = (
    "name an export, or a file that `oci audit event list`, the SDK, Connector Hub or Logging Search wrote; "
    "if it is one, it is damaged: create it again"
)
_LINES_SUFFIX = re.compile(r"\.(ndjson|jsonl)(\.(gz|zst))?\Z", re.IGNORECASE)

_PIECE_BYTES = 256 * 1024
_COMPRESSED_BYTES = 64 * 1024
_USUAL_COMPRESSION = 6
"""How many times as large as a compressed file its text usually is."""
_EVENTS_SHARES = {"": 1.0, "gzip": 0.6, "zstd": 0.8}
"""Which part of reading a file is the work on its events; the rest is decompression."""
_LINES_PER_BATCH = 64
"""The lines and what is read from them should fit in the processor's cache."""
_MAX_LINE_BYTES = 1024 * 1024
_ARRAY_START = b"[\n"
_SEPARATOR = b",\n"
_ARRAY_END = b"]\n"


class RecordSource:
    """The records of one file. Iterate it once; the counters and the description grow meanwhile."""

    def __init__(
        self,
        name: str,
        detected: DetectedInput,
        compression: str,
        *,
        origins: Iterator[Target | None] | None = None,
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
    origins: Iterator[Target | None] | None = None,
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


_MAX_READERS = 3
_FILES_PER_READER = 2
"""How many files a process knows in advance, so that it never waits for a name."""
_FEWEST_FILES = 16
_FEWEST_BYTES = 4 * 1024 * 1024
_PIPE_BYTES = 1024 * 1024
"""How far a process reads ahead within a file: what Linux permits."""
_LENGTH = struct.Struct("<I")
_SERVE = "import sys; sys.path.insert(0, sys.argv[1]); from {0} import {1}; {1}()"


class _Batch(msgspec.Struct, array_like=True, tag=True):
    """Some records of a file; `origins` is None where no origin is known."""

    raws: list[bytes]
    origins: list[Target | None] | None


class _End(msgspec.Struct, array_like=True, tag=True):
    """What is known of a file after its last record."""

    description: str
    kinds: dict[str, int]
    with_origin: int
    incomplete: list[str]


class _Failed(msgspec.Struct, array_like=True, tag=True):
    """The file cannot be read to its end."""


_encode_answer = msgspec.msgpack.Encoder().encode
_decode_answer = msgspec.msgpack.Decoder(_Batch | _End | _Failed).decode


def read_files(
    paths: Sequence[Path], *, on_incomplete: Callable[[str], None] = ignore_incomplete
) -> Generator[RecordSource | AheadSource]:
    """Yield the records of each file in turn; read all of one before the next.

    Raises:
        UsageError, UnreadableInput, DiskError: as `open_records`, while iterating.
    """
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(reader) for reader in _start_readers(paths)]
        if not readers:
            for path in paths:
                with open_records(path, on_incomplete=on_incomplete) as source:
                    yield source
            return
        for number, path in enumerate(paths):
            reader = readers[number % len(readers)]
            last = min(len(paths), number + _FILES_PER_READER * len(readers))
            reader.request([paths[index] for index in range(number, last, len(readers))])
            ahead = AheadSource(path, reader, on_incomplete)
            yield ahead
            reader.finish(ahead)


def _start_readers(paths: Sequence[Path]) -> list[_Reader]:
    """Return as many processes as pay."""
    helpers = min(count_helpers(), _MAX_READERS)
    if not helpers or len(paths) < _FEWEST_FILES:
        return []
    with _explain_disk("the files"):
        size_bytes = sum(path.stat().st_size for path in paths if path.exists())
    if size_bytes < _FEWEST_BYTES:
        return []
    try:
        return [_Reader() for _ in range(helpers)]
    except OSError:  # no more processes are allowed
        return []


def count_helpers() -> int:
    """Return how many processes can work beside this one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores - 1 if sys.executable else 0


def start_helper(module: str, function: str) -> subprocess.Popen[bytes]:
    """Start a process that runs a function of this program; it talks through stdin and stdout.

    Raises:
        OSError: no more processes are allowed.
    """
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _SERVE.format(module, function), str(Path(__file__).parents[2])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # Ctrl-C is for this process, which then ends the other one
    )


class _Reader:
    """A process that reads files ahead. Use it as a context manager."""

    def __init__(self) -> None:
        self._process = start_helper("ociaudit.formats.reader", "serve_files")
        if self._process.stdout is not None and hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # the user has too many pipes
                fcntl.fcntl(self._process.stdout, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._requested: deque[Path] = deque()
        self._is_lost = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        with contextlib.suppress(OSError):
            self._process.communicate()

    def request(self, paths: Sequence[Path]) -> None:
        """Have these files read, of which the first ones may have been requested before."""
        for path in paths[len(self._requested) :]:
            self._requested.append(path)
            try:
                _write_frame(self._process.stdin, os.fsencode(path))
            except OSError:
                self._is_lost = True

    def receive(self) -> _Batch | _End | _Failed:
        """Return the next answer about the first file; a process that has ended gives none."""
        if self._is_lost:
            return _Failed()
        frame = _read_frame(self._process.stdout)
        self._is_lost = frame is None
        return _decode_answer(frame) if frame is not None else _Failed()

    def finish(self, source: AheadSource) -> None:
        """Drop what remains of the first file."""
        while not source.is_finished:
            source.receive()
        self._requested.popleft()


class AheadSource:
    """The records of a file that a process reads ahead; as `RecordSource`."""

    def __init__(self, path: Path, reader: _Reader, on_incomplete: Callable[[str], None]) -> None:
        """Take the answers of the reader about this file."""
        self._path = path
        self._reader = reader
        self._on_incomplete = on_incomplete
        self.name = str(path)
        self.description = ""
        self.records = self.with_origin = 0
        self.kinds: Counter[str] = Counter()
        self.is_finished = False
        """Whether there is nothing more to receive."""

    def receive(self) -> _Batch | _End | _Failed:
        """Return the next answer."""
        answer = self._reader.receive()
        self.is_finished = not isinstance(answer, _Batch)
        return answer

    def __iter__(self) -> Iterator[list[Record]]:
        """Yield the records in batches; raise as `RecordSource`."""
        while not self.is_finished:
            answer = self.receive()
            match answer:
                case _Batch(raws, origins):
                    self.records += len(raws)
                    yield [Record(raw, None) for raw in raws] if origins is None else list(map(Record, raws, origins))
                case _End():
                    self.description, self.with_origin = answer.description, answer.with_origin
                    self.kinds.update(answer.kinds)
                    for reason in answer.incomplete:
                        self._on_incomplete(reason)
                case _Failed():
                    yield from self._read_here()

    def _read_here(self) -> Iterator[list[Record]]:
        """Yield the records that have not been received yet; usually raises the error that the process met."""
        known = self.records
        with open_records(self._path, on_incomplete=self._on_incomplete) as source:
            for batch in source:
                rest = batch[max(0, known - source.records + len(batch)) :]
                self.records += len(rest)
                if rest:
                    yield rest
            self.description, self.with_origin, self.kinds = source.description, source.with_origin, source.kinds


def serve_files() -> None:
    """Read the files named on stdin, and write their records to stdout, until stdin ends."""
    with open(0, "rb") as names, open(1, "wb") as answers:
        while (name := _read_frame(names)) is not None:
            for answer in _serve_file(Path(os.fsdecode(name))):
                _write_frame(answers, _encode_answer(answer))


def _serve_file(path: Path) -> Iterator[_Batch | _End | _Failed]:
    incomplete: list[str] = []
    try:
        with open_records(path, on_incomplete=incomplete.append) as source:
            for batch in source:
                origins = [record.origin for record in batch]
                yield _Batch([record.raw for record in batch], origins if any(origins) else None)
            yield _End(source.description, dict(source.kinds), source.with_origin, incomplete)
    except (UsageError, UnreadableInput, DiskError):
        yield _Failed()


def _write_frame(file: IO[bytes] | None, data: bytes) -> None:
    if file is not None:
        file.write(_LENGTH.pack(len(data)))
        file.write(data)
        file.flush()


def _read_frame(file: IO[bytes] | None) -> bytes | None:
    """Return the next frame; None where the other side has ended."""
    head = file.read(_LENGTH.size) if file is not None else b""
    if len(head) < _LENGTH.size or file is None:
        return None
    (length,) = _LENGTH.unpack(head)
    data = file.read(length)
    return data if len(data) == length else None


def check_source(path: Path) -> None:
    """Check that a path is a file, before any work starts.

    Raises:
        UsageError: it does not exist, or is a folder.
        DiskError: its folder cannot be read.
    """
    with _explain_disk(str(path)):
        if path.is_dir():
            raise UsageError(f"{path} is a folder", hint=advise_files(path))
        if not path.exists():
            raise UsageError(f"{path} does not exist", hint="name a file that holds audit events, or - for stdin")


def advise_files(folder: Path) -> str:
    """Return a hint for a folder that a command cannot read: some commands take one file, others several."""
    return (
        f"name a file in it, or the folder of an archive; a command that takes several files takes all of them as "
        f"{shlex.quote(str(folder))}/*"
    )


def check_distinct(sources: Sequence[Path | None]) -> None:
    """Check that no file or archive is named twice, through links or not: its events would count twice.

    Raises:
        UsageError: one is, or does not exist.
        DiskError: its folder cannot be read.
    """
    if sources.count(None) > 1:
        raise UsageError("stdin is named twice", hint="name - once")
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
    """A file that `read_plain_lines` or `read_plain_events` cannot read, because its layout is another one."""


def open_plain(path: Path) -> BufferedReader:
    """Open a file for `read_plain_lines` or `read_plain_events`."""
    return BufferedReader(FileIO(path), _PIECE_BYTES)


class FilePart(NamedTuple):
    """The lines that begin in the bytes `[start, end)` of a file, and what has to be around them to read as a file.

    Lines of a compressed file begin in what these bytes decompress to, of which only whole pieces are counted.
    """

    path: bytes
    start: int
    end: int
    before: bytes = b""
    after: bytes = b""
    is_compressed: bool = False


def split_plain(path: Path, count: int, *, smallest: int = 0, head_start: int = 0) -> list[FilePart]:
    """Return a file in the layout of `JsonArray` or `Ndjson` as up to `count` parts of whole lines.

    Processes that read a part each should end together: the one of the first part reads `head_start` bytes until the
    others have started; those of the later parts of a compressed file decompress everything before them, so that these
    are smaller. A file of less than `smallest` bytes, in any other layout, or with very long lines is one part. Both
    numbers are those of a file that is not compressed.
    """
    name = os.fsencode(path)
    with open_plain(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole = [FilePart(name, 0, size)]
        if size * _USUAL_COMPRESSION < smallest:  # most files are, whatever they hold
            return whole
        try:
            compression, pieces = decompress(iter(partial(file.read, _COMPRESSED_BYTES), b""), is_single=True)
            start = next(pieces, b"")[: len(_ARRAY_START)]
        except ValueError:
            return whole
        is_array = start == _ARRAY_START
        if not is_array and not start.startswith(b"{"):
            return whole
        if size * (_USUAL_COMPRESSION if compression else 1) < smallest:
            return whole
        if compression:
            head_start //= _USUAL_COMPRESSION
        bounds = _choose_bounds(size, count, head_start=head_start, share=_EVENTS_SHARES[compression])
        if compression:
            bounds = [bound - bound % _COMPRESSED_BYTES for bound in bounds]
        else:
            bounds = [_find_line(file, max(len(start), bound), is_array=is_array) for bound in bounds]
    if [0, *bounds, size] != sorted({0, *bounds, size}):
        return whole
    cut = len(_SEPARATOR) if is_array and not compression else 0
    return [
        FilePart(
            name,
            first,
            last - cut if last < size else last,
            _ARRAY_START if is_array and first else b"",
            b"\n" + _ARRAY_END if is_array and last < size else b"",
            bool(compression),
        )
        for first, last in pairwise([0, *bounds, size])
    ]


def _choose_bounds(size: int, count: int, *, head_start: int, share: float) -> list[int]:
    """Return where all parts but the first one begin.

    Of the work on a byte, `share` is done by the one process that has it in its part; the rest also by those after it.
    With e[k] as the end of part k, all processes end at the same time t if e[0] = t, and
    head_start + e[k] - share * e[k - 1] = t for all others.
    """
    powers = [share**number for number in range(count)]
    time = (size + head_start * sum(powers[:-1])) / sum(powers)
    ends = [time]
    for _ in range(count - 2):
        ends.append(time - head_start + share * ends[-1])
    return [int(end) for end in ends[: count - 1]]


def _find_line(file: BufferedReader, position: int, *, is_array: bool) -> int:
    """Return where the first line at or after a position begins; 0 if it has another layout or is the end."""
    file.seek(position)
    end = position + len(file.readline(_MAX_LINE_BYTES))
    file.seek(end - len(_SEPARATOR))
    found = file.read(len(_SEPARATOR))
    is_cut = found == _SEPARATOR if is_array else found[1:] == b"\n"
    return end if is_cut else 0


def open_part(part: FilePart) -> BufferedReader:
    """Open a part of a file for `read_plain_lines` or `read_plain_events`."""
    return BufferedReader(_PartFile(_read_compressed(part) if part.is_compressed else _read_part(part)), _PIECE_BYTES)


def _read_part(part: FilePart) -> Iterator[bytes]:
    yield part.before
    with FileIO(part.path) as file:
        file.seek(part.start)
        left = part.end - part.start
        while left:
            piece = file.read(min(left, _PIECE_BYTES))
            if not piece:
                raise NotPlainLines("the file became shorter while it was read")
            left -= len(piece)
            yield piece
    yield part.after


def _read_compressed(part: FilePart) -> Iterator[bytes]:
    """Yield the text of a part of a compressed file; what follows its end is not read."""
    yield part.before
    held = b""
    for text in _read_compressed_lines(part):
        if held:
            yield held
        held = text
    if part.after and not held.endswith(_SEPARATOR):
        raise NotPlainLines("an array is cut elsewhere than between two events")
    yield held.removesuffix(_SEPARATOR) if part.after else held
    yield part.after


def _read_compressed_lines(part: FilePart) -> Iterator[bytes]:
    position = 0  # of the compressed bytes

    def read() -> bytes:
        nonlocal position
        piece = file.read(_COMPRESSED_BYTES)
        position += len(piece)
        return piece

    has_begun, is_line_start = not part.start, True
    with FileIO(part.path) as file:
        for text in decompress(iter(read, b""), is_single=True)[1]:
            line = 0 if is_line_start else text.find(b"\n") + 1 or None
            first, last = 0, len(text)
            if not has_begun and position > part.start and line is not None:
                has_begun, first = True, line
            is_over = position > part.end and line is not None
            if is_over:
                last = line or 0
            if has_begun and first < last:
                yield text[first:last]
            if is_over:
                return
            is_line_start = text.endswith(b"\n")


class _PartFile(RawIOBase):
    """What an iterator yields as a file that is read once."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(self._rest), len(buffer))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def read_plain_lines(file: BufferedReader, *, keeps_line_breaks: bool = False) -> Iterator[list[bytes]]:
    """Yield the events in the lines of a file, in batches; they are UTF-8, but not checked to be JSON.

    The file is at its beginning, and may be compressed as one gzip member or zstd frame. With `keeps_line_breaks` a
    line break belongs to its event, if no comma precedes it.

    Raises:
        NotPlainLines: the layout is not that of `JsonArray` or `Ndjson`, or a line is longer than a megabyte.
        ValueError: it is not UTF-8, or compressed in another way, or damaged.
    """
    if file.peek(len(GZIP_MAGIC))[: len(GZIP_MAGIC)] == GZIP_MAGIC or file.peek()[: len(ZSTD_MAGIC)] == ZSTD_MAGIC:
        _, pieces = decompress(iter(partial(file.read, _PIECE_BYTES), b""), is_single=True)
        lines = _split_lines(pieces)
    else:
        lines = iter(partial(file.readline, _MAX_LINE_BYTES), b"")
    first = next(lines, b"")
    if first == _ARRAY_START:
        batches = _read_array(lines, keeps_line_breaks=keeps_line_breaks)
    elif first.startswith(b"{"):
        batches = _read_lines(chain([first], lines))
        if not keeps_line_breaks:
            batches = ([line.removesuffix(b"\n") for line in batch] for batch in batches)
    else:
        raise NotPlainLines
    for batch in batches:
        if not all(map(bytes.isascii, batch)):
            b"".join(batch).decode()  # msgspec does not check the strings that it skips
        yield batch


def read_plain_events(file: BufferedReader) -> Iterator[list[bytes]]:
    """Yield the events of a file as `open_records` does, if the caller finds that all of them are JSON.

    They have no origins of their own.

    Raises:
        NotPlainLines: as `read_plain_lines`, or an event may have to be changed.
        ValueError: as `read_plain_lines`.
    """
    for events in read_plain_lines(file):
        if not all(event.endswith(b"}") for event in events):
            raise NotPlainLines
        _check_same([event for event in events if not is_plain(event)])
        yield events


def read_countable_lines(file: BufferedReader) -> Iterator[list[bytes]]:
    """Yield the lines of a file, with line breaks, if the caller finds that all of them are events by their fields.

    Fields of another shape are not changed, and origins not removed; but no line has an event inside.

    Raises:
        NotPlainLines: as `read_plain_lines`, or an event may have another one inside.
        ValueError: as `read_plain_lines`.
    """
    for lines in read_plain_lines(file, keeps_line_breaks=True):
        _check_same([line.rstrip(b"\n") for line in lines if may_hold_others(line)])
        yield lines


def _check_same(events: Sequence[bytes]) -> None:
    """Check that the reader of any layout would not change these, or find other events in them."""
    if not events:
        return
    detector = ObjectDetector()
    try:
        is_same = all(event.startswith(b"{") for event in events) and detector.detect(events) == [
            Record(event, None) for event in events
        ]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise NotPlainLines from error
    if not is_same or detector.incomplete or detector.kinds[UNKNOWN]:
        raise NotPlainLines


def _read_array(lines: Iterator[bytes], *, keeps_line_breaks: bool) -> Iterator[list[bytes]]:
    held: list[bytes] = []
    for batch in _read_lines(lines):
        held += batch
        events, held = held[:-2], held[-2:]  # the last event is not followed by a comma
        if events:
            if not all(event.endswith(_SEPARATOR) for event in events):
                raise NotPlainLines
            yield [line[:-2] for line in events]
    if not held or held[-1] != _ARRAY_END:
        raise NotPlainLines
    if len(held) == 2:
        yield [held[0] if keeps_line_breaks else held[0].removesuffix(b"\n")]


def _read_lines(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(lines, _LINES_PER_BATCH)):
        if max(map(len, batch)) >= _MAX_LINE_BYTES:
            raise NotPlainLines
        yield batch


def _split_lines(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the lines of a text with their line breaks."""
    rest = b""
    for piece in pieces:
        lines = piece.split(b"\n")
        lines[0] = rest + lines[0]
        rest = lines.pop()
        if len(rest) > _MAX_LINE_BYTES:
            raise NotPlainLines
        for line in lines:
            yield line + b"\n"
    if rest:
        yield rest
