"""A table as CSV: a head, then a row per event, with the whole event as JSON in the last column.

Owns: that form. The columns are those of `events.columns`.

Invariants
- RFC 4180 in UTF-8: comma, CRLF, quotes doubled. Every text is quoted, a number and what is absent is not, so
  that an empty text can be told from none.
- A spreadsheet must not run what a caller wrote: a text that begins with a sign which it would take for the
  beginning of a formula gets an apostrophe in front. `event` begins with a brace, and is never changed.
- Nothing is cut. A row ends in `}"` and CRLF, which stands nowhere else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from ociaudit.events.columns import COLUMNS, Value, make_row
from ociaudit.events.fields import read_facts
from ociaudit.formats.base import (
    EVENT_COLUMN,
    ORIGIN_COLUMNS,
    ROWS_PER_BATCH,
    EventShape,
    Rows,
    check_rows,
    make_target,
)
from ociaudit.formats.compression import BadFile
from ociaudit.planning.shard import Target

FORMULA_SIGNS = frozenset("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet may take for the beginning of a formula, the full-width forms included."""
ROW_END = b'}"\r\n'
"""Ends every row behind the head."""

HEAD = ",".join(column.name for column in COLUMNS).encode() + b"\r\n"
"""The first line."""


_MAX_CELL_CHARACTERS = 64 * 1024 * 1024


class CsvTable:
    """Writes events as rows of CSV."""

    def __init__(self, spelling: EventShape) -> None:
        """Write the column `event` as `spelling` says; an origin has columns of its own."""
        self._apply = EventShape(spelling.shape).apply

    def begin(self) -> bytes:
        """Return the head."""
        return HEAD

    def write(self, raws: Sequence[bytes], origins: Sequence[Target | None]) -> bytes:
        """Return the events' rows."""
        return b"".join(map(_write_row, raws, self._apply(raws, origins), origins))

    def finish(self) -> Iterator[bytes]:
        """Nothing stands behind the last row."""
        yield b""

    def close(self) -> None:
        """Nothing is held."""


def _write_row(raw: bytes, event: bytes, origin: Target | None) -> bytes:
    cells = [
        f'"{value}"'
        if value.__class__ is str and '"' not in value and value[:1] not in FORMULA_SIGNS
        else write_cell(value)
        for value in make_row(read_facts(raw), origin)
    ]
    cells.append('"')
    return b'%b%b"\r\n' % (",".join(cells).encode(), event.replace(b'"', b'""'))


def write_cell(value: Value) -> str:
    """Write one value; a text never begins a formula."""
    if value is None:
        return ""
    if isinstance(value, int):
        return str(value)
    if value[:1] in FORMULA_SIGNS:
        value = "'" + value
    if '"' in value:
        value = value.replace('"', '""')
    return f'"{value}"'


class _PieceFile(io.RawIOBase):
    """Pieces of bytes as a file that can be read once."""

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


def is_csv_head(head: bytes) -> bool:
    """Tell whether a file that begins so is a CSV with the column `event`."""
    line = head.removeprefix(b"\xef\xbb\xbf").split(b"\n", 1)[0].rstrip(b"\r")
    return EVENT_COLUMN.encode() in [name.strip(b'"') for name in line.split(b",")]


def read_csv(pieces: Iterator[bytes]) -> Iterator[Rows]:
    """Yield the rows of a CSV that has the column `event`.

    Raises:
        BadFile: the file is cut, is no CSV, or an event in it is no JSON object; the message names the line.
    """
    text = io.TextIOWrapper(io.BufferedReader(_PieceFile(pieces), 1 << 18), encoding="utf-8-sig", newline="")
    csv.field_size_limit(_MAX_CELL_CHARACTERS)
    reader = csv.reader(text, strict=True)
    try:
        row_count = 0
        head = next(reader, [])
        event_at = head.index(EVENT_COLUMN)
        origin_at = [head.index(name) if name in head else None for name in ORIGIN_COLUMNS]
        while batch := list(islice(reader, ROWS_PER_BATCH)):
            batch = [row for row in batch if row]
            if any(len(row) != len(head) for row in batch):
                raise BadFile(f"a row has not the {len(head)} cells of the head, in or before line {reader.line_num:,}")
            origins = [make_target(*("" if at is None else row[at] for at in origin_at)) for row in batch]
            yield check_rows([row[event_at].encode() for row in batch], origins, row_count)
            row_count += len(batch)
    except csv.Error as error:
        raise BadFile(f"the CSV is cut or damaged: {error}, in or before line {reader.line_num:,}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"this is not UTF-8, behind line {reader.line_num:,}") from error
