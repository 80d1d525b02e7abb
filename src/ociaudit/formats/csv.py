"""The format `csv`: a header, then one row per event, with the whole event as JSON in the last column.

The columns are those of `events.columns`. `verify` counts the rows of such a file; `open_records` reads the events of
any CSV that has the column `event`.

Invariants
- RFC 4180 in UTF-8: comma, CRLF, quotes doubled. Every text is quoted; numbers and absent values are not, so that an
  empty text differs from an absent one.
- A spreadsheet must not run what a caller wrote: a text that begins like a formula is preceded by an apostrophe.
  `event` begins with a brace and is never changed.
- Nothing is truncated. Every row ends in `}"` and CRLF, which occurs nowhere else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any

from ociaudit.errors import format_count
from ociaudit.events.columns import COLUMNS, Value, make_row
from ociaudit.events.fields import read_facts
from ociaudit.formats.base import (
    EVENT_COLUMN,
    ORIGIN_COLUMNS,
    ROWS_PER_BATCH,
    EventEncoder,
    InvalidFile,
    Rows,
    check_rows,
    make_target,
)
from ociaudit.formats.json import describe_bytes, guess_encoding
from ociaudit.planning.shard import Target

FORMULA_SIGNS = frozenset("=+-@\t\r\n＝＋－＠")
"""Characters that a spreadsheet may take for the beginning of a formula, including the full-width forms."""

_HEADER = ",".join(column.name for column in COLUMNS).encode() + b"\r\n"
_ROW_END = b'}"\r\n'
_MAX_CELL_CHARACTERS = 64 * 1024 * 1024
_BUFFER_BYTES = 256 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvTable:
    """Writes events as rows of CSV."""

    def __init__(self, encoder: EventEncoder) -> None:
        """Write the column `event` in the encoder's shape; the origin has its own columns."""
        self._encode = EventEncoder(encoder.shape).encode

    def begin(self) -> bytes:
        """Return the header."""
        return _HEADER

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' rows."""
        return b"".join(map(_format_row, raws, self._encode(raws, origins), origins))

    def finish(self) -> Iterator[bytes]:
        """Yield nothing: the file ends with the last row."""
        yield b""

    def close(self) -> None:
        """Do nothing: there are no resources to release."""


def _format_row(raw: bytes, event: bytes, origin: Target | None) -> bytes:
    cells = [
        f'"{value}"'
        if value.__class__ is str and '"' not in value and value[:1] not in FORMULA_SIGNS
        else format_cell(value)
        for value in make_row(read_facts(raw), origin)
    ]
    cells.append('"')
    return b'%b%b"\r\n' % (",".join(cells).encode(), event.replace(b'"', b'""'))


def format_cell(value: Value) -> str:
    """Return one value as a cell; a text never begins a formula."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if value[:1] in FORMULA_SIGNS:
        value = "'" + value
    if '"' in value:
        value = value.replace('"', '""')
    return f'"{value}"'


def is_csv_header(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is a CSV with the column `event`."""
    line = head.removeprefix(_BYTE_ORDER_MARK).split(b"\n", 1)[0].rstrip(b"\r")
    return EVENT_COLUMN.encode() in [name.strip(b'"') for name in line.split(b",")]


def read_csv(pieces: Iterator[bytes], *, offset: int = 0, line: int = 1) -> Iterator[Rows]:
    """Yield the rows of a CSV that has the column `event`; `offset` and `line` are where it begins in its file.

    Raises:
        InvalidFile: the file is truncated or not a CSV, or an event in it is not a JSON object; the message names the
            line or the row.
    """
    checked = _check_utf8(pieces, offset, line)
    text = io.TextIOWrapper(io.BufferedReader(_PieceFile(checked), _BUFFER_BYTES), encoding="utf-8-sig", newline="")
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    reader = csv.reader(text, strict=True)
    try:
        row_count = 0
        header = next(reader, [])
        if header.count(EVENT_COLUMN) != 1:
            number = "no column" if EVENT_COLUMN not in header else "more than one column"
            raise InvalidFile(f"the CSV has {number} {EVENT_COLUMN!r}, the one that holds whole events")
        event_at = header.index(EVENT_COLUMN)
        origin_at = [header.index(name) if name in header else None for name in ORIGIN_COLUMNS]
        while batch := list(islice(reader, ROWS_PER_BATCH)):
            batch = [row for row in batch if row]
            if any(len(row) != len(header) for row in batch):
                where = f"in or before line {reader.line_num + line - 1:,}"
                raise InvalidFile(
                    f"a row does not have {format_count(len(header), 'cell')}, as the header has, {where}"
                )
            origins = [make_target(*("" if at is None else row[at] for at in origin_at)) for row in batch]
            yield check_rows([row[event_at].encode() for row in batch], origins, row_count)
            row_count += len(batch)
    except csv.Error as error:
        raise InvalidFile(
            f"the CSV is truncated or damaged: {error}, in or before line {reader.line_num + line - 1:,}"
        ) from error


def _check_utf8(pieces: Iterator[bytes], offset: int, line: int) -> Iterator[bytes]:
    """Yield the pieces of a text.

    Raises:
        InvalidFile: they are not UTF-8; the message names the encoding, the byte and the line.
    """
    held = b""
    for piece in chain(pieces, [b""]):
        text = held + piece
        held = b""
        try:
            if not text.isascii():
                text.decode()
        except UnicodeDecodeError as error:
            if piece and error.reason == "unexpected end of data":
                text, held = text[: error.start], text[error.start :]
            else:
                at, row = offset + error.start, line + text.count(b"\n", 0, error.start)
                around = text[text.rfind(b"\n", 0, error.start) + 1 :].split(b"\n", 1)[0]
                words = describe_bytes(around, error.start - text.rfind(b"\n", 0, error.start) - 1)
                raise InvalidFile(
                    f"this is not UTF-8 but {words}, at byte {at:,} (line {row:,})", encoding=guess_encoding(around)
                ) from error
        offset += len(text)
        line += text.count(b"\n")
        if text:
            yield text


class _PieceFile(io.RawIOBase):
    """An iterator of bytes as a file that can be read once."""

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
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def count_csv_rows(chunks: Iterable[bytes]) -> int:
    """Return how many rows a file has that `CsvTable` wrote, without parsing them.

    Raises:
        InvalidFile: the file does not begin or end as `CsvTable` writes it.
    """
    stream = iter(chunks)
    text = b""
    while len(text) < len(_HEADER) and (chunk := next(stream, b"")):
        text += chunk
    if not text.startswith(_HEADER):
        raise InvalidFile("this does not begin with the header of an exported CSV", 0)
    count = 0
    position = len(_HEADER)
    tail = b""
    for chunk in chain([text[len(_HEADER) :]], stream):
        position += len(chunk)
        count += (tail[-len(_ROW_END) + 1 :] + chunk).count(_ROW_END)
        tail = (tail + chunk)[-len(_ROW_END) :]
    if tail not in {b"", _ROW_END}:
        raise InvalidFile("the CSV is truncated", position)
    return count
