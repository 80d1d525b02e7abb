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

from collections.abc import Iterator, Sequence

from ociaudit.events.columns import COLUMNS, Value, make_row
from ociaudit.events.facts import read_facts
from ociaudit.formats.spelling import Spelling
from ociaudit.plan.shard import Place

FORMULA_SIGNS = frozenset("=+-@\t\r\n＝＋－＠")
"""What a spreadsheet may take for the beginning of a formula, the full-width forms included."""
ROW_END = b'}"\r\n'
"""Ends every row behind the head."""

HEAD = ",".join(column.name for column in COLUMNS).encode() + b"\r\n"
"""The first line."""


class CsvTable:
    """Writes events as rows of CSV."""

    def __init__(self, spelling: Spelling) -> None:
        """Write the column `event` as `spelling` says; an origin has columns of its own."""
        self._spell = Spelling(spelling.shape).spell

    def begin(self) -> bytes:
        """Return the head."""
        return HEAD

    def write(self, raws: Sequence[bytes], origins: Sequence[Place | None]) -> bytes:
        """Return the events' rows."""
        return b"".join(map(_write_row, raws, self._spell(raws, origins), origins))

    def finish(self) -> Iterator[bytes]:
        """Nothing stands behind the last row."""
        yield b""

    def close(self) -> None:
        """Nothing is held."""


def _write_row(raw: bytes, event: bytes, origin: Place | None) -> bytes:
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
