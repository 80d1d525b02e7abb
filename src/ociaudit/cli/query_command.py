"""`oci-audit query`: its options, its run, and its result as a table, as JSON or as CSV.

Invariants
- A table has no character that a terminal acts on; JSON is ASCII; in CSV no text begins a formula.
- Rows are written as they arrive. Only the first batch of a table is held, to find the widths of its columns.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from ociaudit.cli import console
from ociaudit.cli.console import clean_text, fit_widths
from ociaudit.cli.options import (
    BEHAVIOR,
    OUTPUT,
    OUTPUT_FILE,
    PLACE,
    STRICT_HELP,
    Command,
    Places,
    argument,
    check_output,
    complete_names,
    limit_options,
    open_command_inputs,
    option,
    place_options,
)
from ociaudit.errors import DiskError, ExitCode, UsageError, format_count

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from ociaudit.analysis.query import QueryResult
    from ociaudit.archive.inputs import Limits

_QUERY = "Query"
_WIDEST_CELL = 60
_NARROWEST_CELL = 8
_CUT_NOTE = ", … marks what did not fit; --format json has it whole"
_WIDEST_IN_FILE = 200
_HANGING = " " * 4
_SQL = re.compile(r"[\s(]*(select|with|from)\s", re.IGNORECASE)
_OCID = re.compile(r"ocid1\.[\w.*-]+")
"""An OCID, which Audit masks with asterisks in some fields."""
_UNBROKEN = re.compile(r"ocid1\.[\w.*-]+| *(?:(?!ocid1\.)[^ ])+| +")
"""The parts of a text that stay on one line if they fit: OCIDs, and the words around them."""
_NON_ASCII = re.compile(r"[^\x00-\x7f]+")
_NUMBERS = frozenset(
    {"BIGINT", "INTEGER", "HUGEINT", "DOUBLE", "DECIMAL", "SMALLINT", "TINYINT", "UBIGINT", "UINTEGER"}
)


class ResultFormat(StrEnum):
    """How a result is written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def _complete_named(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    from ociaudit.analysis.query import NAMED_QUERIES

    return complete_names({name: query.question for name, query in NAMED_QUERIES.items()}, incomplete)


@click.command(
    cls=Command,
    usage="IN... [SQL] [OPTIONS]",
    examples=(
        ("Count events by name", 'oci-audit query a.json "SELECT event_name, count(*) FROM events GROUP BY 1"'),
        ("A named query, as CSV", "oci-audit query audit.json --named sign-in-failures -o failures.csv"),
        ("List the named queries and the columns", "oci-audit query --list"),
    ),
)
@argument(
    "arguments",
    nargs=-1,
    type=click.Path(),
    metavar="IN... [SQL]",
    help="One or more event files, oci:// URLs of them, or archives (- for stdin), followed by the query in quotes.",
)
@option(
    "--named",
    section=_QUERY,
    metavar="NAME",
    shell_complete=_complete_named,
    help="Run this named query instead of SQL; see --list.",
)
@option(
    "--format",
    "result_format",
    section=OUTPUT,
    type=click.Choice([each.value for each in ResultFormat]),
    show_default="from the extension of -o; otherwise, table",
    help="Format of the result.",
)
@option("-o", "--output", section=OUTPUT, type=OUTPUT_FILE, metavar="FILE", help="Write the result to this file.")
@option("--overwrite", section=OUTPUT, is_flag=True, help="Overwrite the output file if it exists.")
@option("--list", "is_list", section=_QUERY, is_flag=True, help="List the named queries and the columns.")
@limit_options
@place_options
@option("--strict", "is_strict", section=BEHAVIOR, is_flag=True, help=STRICT_HELP)
def query(
    arguments: tuple[str, ...],
    *,
    limits: Limits,
    places: Places,
    named: str | None,
    result_format: str | None,
    output: Path | None,
    overwrite: bool,
    is_list: bool,
    is_strict: bool,
) -> int:
    """Run one SELECT statement on the events in files or archives. The table is named `events`."""
    from ociaudit.analysis.query import run_query

    if is_list:
        for line in list_queries():
            console.print_output(line)
        return ExitCode.OK
    inputs, sql = _split_arguments(list(arguments), named)
    chosen = _choose_format(result_format, output)
    named_inputs = [PLACE.convert(one, None, None) for one in inputs]
    if output:
        local = [one for one in named_inputs if isinstance(one, Path)]
        check_output(output, inputs=local, can_overwrite=overwrite)
    sources = open_command_inputs(named_inputs, limits, places)
    with (
        console.handle_signals(console.raise_interrupted),
        run_query(sources, sql, on_incomplete=console.choose_notice(is_strict=is_strict)) as result,
    ):
        for source in sources:
            if notice := source.find_notice():
                console.print_notice(notice)
        _write_result(result, chosen, output, may_replace=overwrite)
    return ExitCode.OK


def _split_arguments(arguments: list[str], named: str | None) -> tuple[list[str], str]:
    """Return the files and the query."""
    from ociaudit.analysis.query import find_named_query

    hint = 'for example: oci-audit query audit.json "SELECT event_name, count(*) FROM events GROUP BY 1"'
    if named is not None:
        sql, inputs = find_named_query(named).sql, arguments
        typed = next((one for one in arguments if _SQL.match(one) and not _find_kind(one)), None)
        if typed is not None:
            raise UsageError(f"--named and the query {typed!r} exclude each other", hint="omit one of them")
    else:
        if not arguments:
            raise UsageError("neither a file nor a query is named", hint=hint)
        *inputs, sql = arguments
        if what := "URL" if sql.startswith("oci://") else _find_kind(sql):
            raise UsageError(f"the query is missing: the last argument, {sql}, is a {what}", hint=hint)
    if not inputs:
        raise UsageError("no file is named", hint=hint)
    if inputs.count("-") > 1:
        raise UsageError("stdin can be read only once", hint="name - once")
    return inputs, sql


def _find_kind(text: str) -> str:
    """Return the kind of what exists under a name; empty if there is nothing, which is usual for a query."""
    try:
        path = Path(text)
        return "" if not text or not path.exists() else "folder" if path.is_dir() else "file"
    except (OSError, ValueError):  # no name is so long, holds such a character, or can be looked up
        return ""


def _choose_format(chosen: str | None, output: Path | None) -> ResultFormat:
    if chosen is not None:
        return ResultFormat(chosen)
    if output is None:
        return ResultFormat.TABLE
    for each in ResultFormat:
        if output.suffix.lower() == f".{each.value}" or (each is ResultFormat.TABLE and output.suffix == ".txt"):
            return each
    raise UsageError(
        f"the suffix of {output.name} does not name a format of the result",
        hint="use the suffix .json, .csv or .txt, or choose with --format",
    )


def _write_result(result: QueryResult, chosen: ResultFormat, output: Path | None, *, may_replace: bool) -> None:
    from ociaudit.storage.atomic_io import new_file, write_all

    if chosen is ResultFormat.TABLE and output is None:
        for line in format_table(result, width=console.find_width()):
            console.print_data(line)
        return
    chunks: Iterator[bytes]
    if chosen is ResultFormat.TABLE:
        chunks = (line.encode() + b"\n" for line in format_table(result, width=None))
    else:
        chunks = encode_json(result) if chosen is ResultFormat.JSON else encode_csv(result)
    if output is None:
        _write_to_stdout(chunks)
        return
    with new_file(output, may_replace=may_replace) as descriptor:
        for chunk in chunks:
            write_all(descriptor, chunk, output)


def _write_to_stdout(chunks: Iterator[bytes]) -> None:
    """Write until the end, or until the reader closes the pipe, as `head` does; that is not a failure."""
    from ociaudit.storage.atomic_io import write_to_reader

    try:
        for chunk in chunks:
            write_to_reader(1, chunk, Path("stdout"), check=lambda: None)
    except DiskError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise


def encode_json(result: QueryResult) -> Iterator[bytes]:
    """Yield one JSON array in ASCII, one row per line."""
    names = _encode_names(result.names)
    is_json = [kind == "JSON" for kind in result.types]
    begin = b"[\n"
    for batch in result.batches:
        rows = [
            "{" + ", ".join(f"{name}: {_encode(value, kind)}" for name, value, kind in zip(names, row, is_json)) + "}"  # noqa: B905 - the same for each row
            for row in batch
        ]
        yield begin + ",\n".join(rows).encode("ascii")
        begin = b",\n"
    yield b"[]\n" if begin == b"[\n" else b"\n]\n"


def encode_csv(result: QueryResult) -> Iterator[bytes]:
    """Yield CSV as in RFC 4180, in UTF-8, with a header."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow([_defuse(name) for name in result.names])
    for batch in result.batches:
        writer.writerows([[_encode_cell(value) for value in row] for row in batch])
        yield text.getvalue().encode("utf-8", "backslashreplace")
        text.seek(0)
        text.truncate()
    yield text.getvalue().encode("utf-8", "backslashreplace")


def format_table(result: QueryResult, *, width: int | None) -> Iterator[str]:
    """Yield a text table; if `width` is given, wide columns are truncated so that a line fits into that many cells."""
    from itertools import chain

    from rich.cells import cell_len, set_cell_size

    batches = iter(result.batches)
    first = next(batches, [])
    names = [clean_text(name) for name in result.names]
    shown = [[_format_cell(value) for value in row] for row in first]
    widths = [max(map(cell_len, column)) for column in zip(names, *shown, strict=True)]
    wanted = widths
    if width:
        widths = fit_widths(widths, width, narrowest=_NARROWEST_CELL, widest=_WIDEST_CELL)
        if len(names) * (_NARROWEST_CELL + 2) - 2 > width or _cuts_ids(shown, widths):
            yield from _format_records(names, chain(first, *batches), width)
            return
    else:
        widths = [min(one, _WIDEST_IN_FILE) for one in widths]
    is_right = [kind.rstrip("0123456789(,) ") in _NUMBERS for kind in result.types]

    is_cut = bool(width) and any(new < old for new, old in zip(widths, wanted, strict=True))

    def fit(text: str, cells: int, right: bool) -> str:  # noqa: FBT001 - of the column
        nonlocal is_cut
        if cell_len(text) > cells and width:
            is_cut = True
            return set_cell_size(text, cells - 1) + "…"
        padding = " " * (cells - cell_len(text))
        return padding + text if right else text + padding

    def draw(cells: Iterable[str]) -> str:
        return "  ".join(map(fit, cells, widths, is_right)).rstrip()

    yield draw(names)
    yield "  ".join("-" * one for one in widths)
    row_count = 0
    for row in chain(shown, ([_format_cell(value) for value in row] for batch in batches for row in batch)):
        yield draw(row)
        row_count += 1
    yield f"({format_count(row_count, 'row')}{_CUT_NOTE if is_cut else ''})"


def _cuts_ids(rows: Iterable[Sequence[str]], widths: Sequence[int]) -> bool:
    """Return whether a cell holds an OCID that its column is too narrow for; what is left of it would say nothing."""
    cells = ((cell, width) for row in rows for cell, width in zip(row, widths, strict=True))
    return any(len(cell) > width and _OCID.fullmatch(cell) for cell, width in cells)


def _format_records(names: Sequence[str], rows: Iterable[Sequence[Any]], width: int) -> Iterator[str]:
    """Yield the rows one below the other, with a line per column: side by side they do not fit."""
    widest = min(max(map(len, names)), width // 2)
    number = 0
    for number, row in enumerate(rows, start=1):
        yield f"row {number:,}"
        for name, value in zip(names, row, strict=True):
            label = f"  {name:<{widest}}  "
            first, *others = _break_text(_format_cell(value), len(label), width)
            yield (label + first).rstrip()
            yield from (_HANGING + other for other in others)
    yield f"({format_count(number, 'row')})"


def _break_text(text: str, used: int, width: int) -> Iterator[str]:
    """Yield a text as lines for a terminal: the first after `used` cells, the others indented by four.

    A line is broken between words, and inside one where it is longer than a line, but never inside an OCID.
    """
    from rich.cells import cell_len, chop_cells

    line, room = "", width - used
    for part in _UNBROKEN.findall(text):
        is_long = cell_len(part) > width - len(_HANGING) and not _OCID.fullmatch(part)
        for piece in chop_cells(part, width - len(_HANGING)) if is_long else [part]:
            if cell_len(line) + cell_len(piece) > room and (line or room < width - len(_HANGING)):
                yield line
                line, room = "", width - len(_HANGING)
                piece = piece.lstrip(" ")  # noqa: PLW2901 - the spaces before it end the line
            line += piece
    yield line


def list_queries() -> Iterator[str]:
    """Yield the named queries and the columns, for `--list`."""
    from ociaudit.analysis.query import NAMED_QUERIES
    from ociaudit.events.columns import COLUMNS

    yield "named queries: oci-audit query FILE --named NAME"
    for name, named in NAMED_QUERIES.items():
        yield f"  {name:<18}{named.question}"
    yield ""
    yield "columns of the table `events`"
    for column in COLUMNS:
        yield f"  {column.name:<20}{column.description}"


def _format_cell(value: Any) -> str:
    """Return a value as text for the table, on one line."""
    text = "" if value is None else value if isinstance(value, str) else _simplify_to_text(value)
    return clean_text(" ".join(text.split("\n")) if "\n" in text else text)


def _simplify_to_text(value: Any) -> str:
    plain = _simplify(value)
    return plain if isinstance(plain, str) else _dump(plain, is_ascii=False)


def _dump(value: Any, *, is_ascii: bool = True) -> str:
    """Return a value of `_simplify` as JSON; a decimal keeps all its digits."""
    match value:
        case Decimal():
            return format(value, "f") if value.is_finite() else "null"
        case list():
            return "[" + ", ".join([_dump(one, is_ascii=is_ascii) for one in value]) + "]"
        case dict():
            members = [
                f"{json.dumps(key, ensure_ascii=is_ascii)}: {_dump(value[key], is_ascii=is_ascii)}" for key in value
            ]
            return "{" + ", ".join(members) + "}"
        case _:
            return json.dumps(value, ensure_ascii=is_ascii)


def _simplify(value: Any) -> Any:
    """Return a value of DuckDB as one that JSON can represent; decimals stay."""
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else None
        case Decimal():
            return value
        case datetime():
            return _format_time(value)
        case date() | time():
            return value.isoformat()
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [_simplify(one) for one in value]
        case dict():
            return {_simplify_to_text(key): _simplify(one) for key, one in value.items()}
        case timedelta() | UUID():
            return str(value)
        case _:
            return str(value)


def _format_time(value: datetime) -> str:
    """Return a time as RFC 3339; one with a zone is in UTC, because DuckDB's zone is set to UTC."""
    digits = "milliseconds" if value.microsecond % 1000 == 0 else "microseconds"
    return value.isoformat(timespec=digits).replace("+00:00", "Z")


def _encode(value: Any, is_json: bool) -> str:  # noqa: FBT001 - a property of the column
    if is_json and isinstance(value, str):
        return _NON_ASCII.sub(lambda match: json.dumps(match[0])[1:-1], value)
    return _dump(_simplify(value))


def _encode_cell(value: Any) -> str | int | float | None:
    plain = _simplify(value)
    if plain is None or isinstance(plain, int | float):
        return plain
    if isinstance(plain, Decimal):
        return _dump(plain)
    return _defuse(plain if isinstance(plain, str) else _dump(plain, is_ascii=False))


def _defuse(text: str) -> str:
    """Prefix an apostrophe to what a spreadsheet would take for a formula."""
    from ociaudit.formats.csv import FORMULA_SIGNS

    return "'" + text if text[:1] in FORMULA_SIGNS else text


def _encode_names(names: Sequence[str]) -> list[str]:
    """Return the names as JSON strings, made unique with a suffix."""
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
