"""An answer as a table for people, as JSON or as CSV.

Owns: the three forms. Must not: print, or ask anything.

Invariants
- A table has no character that a terminal would act upon; JSON is ASCII; in CSV no text begins a formula.
- Rows are written as they come; only the first ones of a table are held, for the widths of its columns.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import chain
from typing import Any
from uuid import UUID

from ociaudit.cli.console import clean_text
from ociaudit.events.columns import COLUMNS
from ociaudit.insight.named_queries import NAMED_QUERIES
from ociaudit.insight.query import Answer

_WIDEST_CELL = 60
_WIDEST_IN_FILE = 200
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def write_json(answer: Answer) -> Iterator[bytes]:
    """Yield one JSON array, a row in each line."""
    names = _make_unique(answer.names)
    is_json = [kind == "JSON" for kind in answer.types]
    begin = b"[\n"
    for batch in answer.batches:
        rows = [
            "{" + ", ".join(f"{name}: {_encode(value, kind)}" for name, value, kind in zip(names, row, is_json)) + "}"  # noqa: B905 - the same for each row
            for row in batch
        ]
        yield begin + ",\n".join(rows).encode("ascii")
        begin = b",\n"
    yield b"[]\n" if begin == b"[\n" else b"\n]\n"


def write_csv(answer: Answer) -> Iterator[bytes]:
    """Yield RFC 4180 in UTF-8, with a head."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_defuse(name) for name in answer.names])
    for batch in answer.batches:
        writer.writerows([[_write_cell(value) for value in row] for row in batch])
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode("utf-8", "backslashreplace")


def draw_table(answer: Answer, *, width: int | None) -> Iterator[str]:
    """Yield a table for people, its wide columns cut to fit into `width` cells, if that is given."""
    from rich.cells import cell_len, set_cell_size

    batches = iter(answer.batches)
    first = next(batches, [])
    names = [clean_text(name) for name in answer.names]
    shown = [[_show(value) for value in row] for row in first]
    widths = [max(map(cell_len, column)) for column in zip(names, *shown, strict=True)]
    widths = _shrink(widths, width) if width else [min(one, _WIDEST_IN_FILE) for one in widths]
    is_right = [kind.rstrip("0123456789(,) ") in _NUMBERS for kind in answer.types]

    def fit(text: str, cells: int, right: bool) -> str:  # noqa: FBT001 - of the column
        if cell_len(text) > cells and width:
            return set_cell_size(text, cells - 1) + "…"
        padding = " " * (cells - cell_len(text))
        return padding + text if right else text + padding

    def draw(cells: Iterable[str]) -> str:
        return "  ".join(map(fit, cells, widths, is_right)).rstrip()

    yield draw(names)
    yield "  ".join("-" * one for one in widths)
    count = 0
    for row in chain(shown, ([_show(value) for value in row] for batch in batches for row in batch)):
        yield draw(row)
        count += 1
    yield f"({count:,} row{'' if count == 1 else 's'})"


def list_queries() -> Iterator[str]:
    """Yield the named queries and the columns, for `--list`."""
    yield "named queries: oci-audit query FILE --named NAME"
    for name, query in NAMED_QUERIES.items():
        yield f"  {name:<18}{query.question}"
    yield ""
    yield "columns of the table `events`"
    for column in COLUMNS:
        yield f"  {column.name:<20}{column.description}"


_NUMBERS = frozenset(
    {"BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "DECIMAL", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER"}
)


def _shrink(widths: Sequence[int], total: int) -> list[int]:
    """Make the widest columns narrower until all fit, but none narrower than eight."""
    result = [min(width, _WIDEST_CELL) for width in widths] if sum(widths) > total else list(widths)
    while sum(result) + 2 * (len(result) - 1) > total and max(result) > 8:
        widest = result.index(max(result))
        result[widest] -= 1
    return result


def _show(value: Any) -> str:
    """Return a value as people read it; a line break must not break the table."""
    text = "" if value is None else value if isinstance(value, str) else _simplify_to_text(value)
    return clean_text(" ".join(text.split("\n")) if "\n" in text else text)


def _simplify_to_text(value: Any) -> str:
    plain = _simplify(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _simplify(value: Any) -> Any:
    """Return a value of DuckDB as one that JSON knows."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return float(value) if value % 1 else int(value)
        case datetime():
            return _show_time(value)
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [_simplify(one) for one in value]
        case dict():
            return {str(_simplify(key)): _simplify(one) for key, one in value.items()}
        case timedelta() | UUID():
            return str(value)
        case _:
            return str(value)


def _show_time(value: datetime) -> str:
    """Write a time as RFC 3339; one with a zone is in UTC, because the engine's zone is."""
    digits = "milliseconds" if value.microsecond % 1000 == 0 else "microseconds"
    return value.isoformat(timespec=digits).replace("+00:00", "Z")


def _encode(value: Any, is_json: bool) -> str:  # noqa: FBT001 - a property of the column
    if is_json and isinstance(value, str):
        return _NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], value)
    return json.dumps(_simplify(value))


def _write_cell(value: Any) -> str | int | float | None:
    plain = _simplify(value)
    if plain is None or isinstance(plain, int | float):
        return plain
    return _defuse(plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False))


def _defuse(text: str) -> str:
    """Put an apostrophe before what a spreadsheet would take for a formula."""
    return "'" + text if text.startswith(_FORMULA_SIGNS) else text


def _make_unique(names: Sequence[str]) -> list[str]:
    """Return the names as JSON, none of them twice."""
    taken: set[str] = set()
    unique = []
    for name in names:
        own, number = name, 1
        while own in taken:
            number += 1
            own = f"{name}_{number}"
        taken.add(own)
        unique.append(json.dumps(own))
    return unique
