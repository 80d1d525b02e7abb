"""`oci-audit query`: a question in SQL about files of events. Owns: its options.

An answer as a table for people, as JSON or as CSV.

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
from enum import StrEnum
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from ociaudit.analysis.query import NAMED_QUERIES, QueryResult
from ociaudit.cli import console
from ociaudit.cli.console import clean_text
from ociaudit.errors import DiskError, UsageError
from ociaudit.events.columns import COLUMNS
from ociaudit.formats.csv import FORMULA_SIGNS

if TYPE_CHECKING:
    from ociaudit.analysis.query import QueryResult


class ResultFormat(StrEnum):
    """How an answer is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def query(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(help="Files with audit events, - is stdin; then the query, in quotes.", metavar="IN... SQL"),
    ] = None,
    *,
    named: Annotated[str | None, typer.Option(help="Ask the query of this name; see --list.", metavar="NAME")] = None,
    result_format: Annotated[
        ResultFormat | None,
        typer.Option("--format", help="How the answer is written.", show_default="by -o, else table"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the answer to this file.", metavar="FILE")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file if it exists.")] = False,
    is_list: Annotated[bool, typer.Option("--list", help="List the named queries and the columns.")] = False,
) -> int:
    """Ask one SELECT over the events of any files, as the table `events`."""
    from ociaudit.analysis.query import run_query
    from ociaudit.cli.console import interrupt_on_signals
    from ociaudit.cli.options import check_output

    if is_list:
        for line in list_queries():
            console.print_output(line)
        return 0
    inputs, sql = _split_arguments(arguments or [], named)
    chosen = _choose_format(result_format, output)
    if output:
        check_output(output, inputs=[Path(one) for one in inputs], can_overwrite=overwrite)
    with (
        interrupt_on_signals(),
        run_query([None if one == "-" else Path(one) for one in inputs], sql) as answer,
    ):
        _write_result(answer, chosen, output)
    return 0


def _split_arguments(arguments: list[str], named: str | None) -> tuple[list[str], str]:
    """Return the files and the query."""
    from ociaudit.analysis.query import find_named_query

    hint = 'for example: oci-audit query audit.json "SELECT event_name, count(*) FROM events GROUP BY 1"'
    if named is not None:
        sql, inputs = find_named_query(named).sql, arguments
    else:
        if not arguments:
            raise UsageError("neither a file nor a query was named", hint=hint)
        *inputs, sql = arguments
        if Path(sql).is_file():
            raise UsageError(f"the query is missing: the last argument, {sql}, is a file", hint=hint)
    if not inputs:
        raise UsageError("no file was named", hint=hint)
    if inputs.count("-") > 1:
        raise UsageError("stdin can be read only once", hint="name - once")
    return inputs, sql


def _choose_format(chosen: ResultFormat | None, output: Path | None) -> ResultFormat:
    if chosen is not None:
        return chosen
    if output is None:
        return ResultFormat.TABLE
    for each in ResultFormat:
        if output.suffix.lower() == f".{each.value}" or (each is ResultFormat.TABLE and output.suffix == ".txt"):
            return each
    raise UsageError(
        f"{output.name} does not tell how the answer is to be written",
        hint="name it .json, .csv or .txt, or choose with --format",
    )


def _write_result(answer: QueryResult, chosen: ResultFormat, output: Path | None) -> None:
    from ociaudit.storage.atomic_io import new_file, write_all

    if chosen is ResultFormat.TABLE and output is None:
        for line in draw_table(answer, width=console.find_width()):
            console.print_output(line)
        return
    pieces: Iterator[bytes]
    if chosen is ResultFormat.TABLE:
        pieces = (line.encode() + b"\n" for line in draw_table(answer, width=None))
    else:
        pieces = write_json(answer) if chosen is ResultFormat.JSON else write_csv(answer)
    if output is None:
        _write_to_stdout(pieces)
        return
    with new_file(output) as descriptor:
        for piece in pieces:
            write_all(descriptor, piece, output)


def _write_to_stdout(pieces: Iterator[bytes]) -> None:
    """Write until the end, or until nobody reads any more: `head` has seen enough, and that is no failure."""
    from ociaudit.storage.atomic_io import write_to_reader

    try:
        for piece in pieces:
            write_to_reader(1, piece, Path("stdout"), check=lambda: None)
    except DiskError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise


_WIDEST_CELL = 60
_WIDEST_IN_FILE = 200
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")


def write_json(answer: QueryResult) -> Iterator[bytes]:
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


def write_csv(answer: QueryResult) -> Iterator[bytes]:
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


def draw_table(answer: QueryResult, *, width: int | None) -> Iterator[str]:
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
    return "'" + text if text[:1] in FORMULA_SIGNS else text


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
