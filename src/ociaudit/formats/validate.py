"""Exports in other formats than JSON arrays read again, as far as that proves something.

Owns: what is read of lines, CSV and Parquet. Must not: compare with what an export states.

Invariants
- Of lines, every event is read; of CSV and Parquet, derived forms, only the number of rows is counted.
- A file that is not of its form is a `BadArray` with the byte from which on it cannot be read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

from ociaudit.events.event import BadPage, parse_page
from ociaudit.formats.csv import HEAD, ROW_END
from ociaudit.formats.json_reader import BadArray, ElementBatch

NOT_READ_AGAIN = "the events of a table are not read again: what was checked is its bytes and its number of rows"


def count_rows(chunks: Iterable[bytes], file: BinaryIO, *, is_csv: bool) -> int:
    """Count the rows of a table; `chunks` are the bytes of `file`, and are read to their end.

    Raises:
        BadArray: it is no such table.
    """
    if is_csv:
        return count_csv_rows(chunks)
    for _ in chunks:  # they are hashed on their way
        pass
    return count_parquet_rows(file)


def read_lines(chunks: Iterable[bytes], *, shape: str = "api") -> Iterator[ElementBatch]:
    """Yield the events of lines as `ndjson` writes them, each with the byte at which it stands.

    Raises:
        BadArray: a line is no event, or the last one is not ended.
    """
    offset = 0
    rest = b""
    for chunk in chunks:
        rest += chunk
        cut = rest.rfind(b"\n")
        if cut >= 0:
            yield _split_block(rest[:cut], offset, shape)
            offset += cut + 1
            rest = rest[cut + 1 :]
    if rest:
        raise BadArray("the last line is cut", offset)


def _split_block(block: bytes, offset: int, shape: str) -> ElementBatch:
    lines = block.split(b"\n")
    try:
        events = parse_page(b"[" + b",".join(lines) + b"]", shape)
    except BadPage:
        events = []
    if [event.raw for event in events] == lines:
        offsets = []
        for line in lines:
            offsets.append(offset)
            offset += len(line) + 1
        return ElementBatch(events, offsets)
    for line in lines:  # which of them is it?
        try:
            if [event.raw for event in parse_page(b"[" + line + b"]", shape)] != [line]:
                raise BadArray("a line does not hold one event", offset)
        except BadPage as error:
            raise BadArray(f"this is not valid JSON: {error}", offset) from error
        offset += len(line) + 1
    raise BadArray("the events do not stand one in a line", offset)


def count_csv_rows(chunks: Iterable[bytes]) -> int:
    """Count the rows of a table that `csv_table` wrote.

    Raises:
        BadArray: it does not begin or end like one.
    """
    stream = iter(chunks)
    text = b""
    while len(text) < len(HEAD) and (chunk := next(stream, b"")):
        text += chunk
    if not text.startswith(HEAD):
        raise BadArray("this does not begin with the head of a table", 0)
    count = 0
    position = len(HEAD)
    tail = b""
    for chunk in chain([text[len(HEAD) :]], stream):
        position += len(chunk)
        count += (tail[-len(ROW_END) + 1 :] + chunk).count(ROW_END)
        tail = (tail + chunk)[-len(ROW_END) :]
    if tail not in {b"", ROW_END}:
        raise BadArray("the table is cut", position)
    return count


def count_parquet_rows(file: BinaryIO) -> int:
    """Count the rows that a Parquet file says it has.

    Raises:
        BadArray: it is not a Parquet file.
    """
    import duckdb

    try:
        with duckdb.connect() as engine:
            found = engine.execute(
                "SELECT num_rows FROM parquet_file_metadata(?)", [f"/dev/fd/{file.fileno()}"]
            ).fetchone()
    except duckdb.Error as error:
        raise BadArray(f"this is no Parquet file ({str(error).partition(chr(10))[0]})", 0) from error
    return int(found[0]) if found else 0
