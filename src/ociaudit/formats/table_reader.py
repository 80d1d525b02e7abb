"""Events read back from our tables: CSV and Parquet, whose column `event` holds each event whole.

Owns: which columns count. Must not: make an event of the other columns.

Invariants
- A row is an event and its origin; a row that is cut or whose event is no JSON object is named.
- Rows come in the file's order; one batch is held.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from ociaudit.events.page import BadPage, cut_page
from ociaudit.formats.recognition import make_place
from ociaudit.formats.unpacking import BadFile
from ociaudit.plan.shard import Place

EVENT_COLUMN = "event"
_ORIGIN_COLUMNS = ("origin_region", "origin_compartment")
_ROWS = 500
_MAX_CELL_CHARACTERS = 64 * 1024 * 1024
_GLOB_MARKS = str.maketrans({"[": "[[]", "*": "[*]", "?": "[?]"})
_SETTINGS = MappingProxyType({"autoinstall_known_extensions": False, "autoload_known_extensions": False})
_raw_decoder = msgspec.json.Decoder(list[msgspec.Raw])


class Rows(NamedTuple):
    """Consecutive rows: the events as JSON and, if the file says it beside them, where each was asked from."""

    events: list[bytes]
    origins: list[Place | None] | None


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
        origin_at = [head.index(name) if name in head else None for name in _ORIGIN_COLUMNS]
        while batch := list(islice(reader, _ROWS)):
            batch = [row for row in batch if row]
            if any(len(row) != len(head) for row in batch):
                raise BadFile(f"a row has not the {len(head)} cells of the head, in or before line {reader.line_num:,}")
            origins = [make_place(*("" if at is None else row[at] for at in origin_at)) for row in batch]
            yield _check_rows([row[event_at].encode() for row in batch], origins, row_count)
            row_count += len(batch)
    except csv.Error as error:
        raise BadFile(f"the CSV is cut or damaged: {error}, in or before line {reader.line_num:,}") from error
    except UnicodeDecodeError as error:
        raise BadFile(f"this is not UTF-8, behind line {reader.line_num:,}") from error


def read_parquet(path: Path) -> Iterator[Rows]:
    """Yield the rows of a Parquet file that has the column `event`.

    Raises:
        BadFile: the file is cut or damaged, or has no such column, or an event in it is no JSON object.
    """
    import duckdb

    with duckdb.connect(config={**_SETTINGS}) as connection:
        try:
            source = connection.read_parquet(str(path).translate(_GLOB_MARKS))
            columns = source.columns
            if EVENT_COLUMN not in columns:
                raise BadFile(f"the Parquet file has no column {EVENT_COLUMN!r}, only {', '.join(columns[:40])}")
            wanted = ", ".join(name if name in columns else "NULL" for name in (EVENT_COLUMN, *_ORIGIN_COLUMNS))
            row_count = 0
            result = connection.execute(
                f"SELECT {wanted} FROM read_parquet(?)",  # noqa: S608 - only names from above
                [str(path).translate(_GLOB_MARKS)],
            )
            while batch := result.fetchmany(_ROWS):
                if any(not isinstance(row[0], str) for row in batch):
                    raise BadFile(f"the column {EVENT_COLUMN!r} holds no text behind row {row_count:,}")
                events = [row[0].encode() for row in batch]
                yield _check_rows(events, [make_place(row[1], row[2]) for row in batch], row_count)
                row_count += len(batch)
        except duckdb.Error as error:
            raise BadFile(f"the Parquet file is cut or damaged: {str(error).splitlines()[0]}") from error


def _check_rows(events: list[bytes], origins: list[Place | None], rows_before: int) -> Rows:
    """Return the rows if every event is a JSON object."""
    try:
        if _raw_decoder.decode(b"[" + b",".join(events) + b"]") == events:
            return Rows(events, origins)
    except (msgspec.MsgspecError, RecursionError):
        pass
    for number, event in enumerate(events, rows_before + 1):
        try:
            cut = cut_page(b"[" + event + b"]")
        except BadPage as error:
            raise BadFile(f"the event in row {number:,} is cut or no JSON object: {error}") from error
        if len(cut) != 1:
            raise BadFile(f"the cell in row {number:,} holds {len(cut)} events")
    return Rows(events, origins)
