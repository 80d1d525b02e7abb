"""`oci-audit query`: a question in SQL about files of events. Owns: its options."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ociaudit.cli import console
from ociaudit.errors import DiskError, UsageError

if TYPE_CHECKING:
    from ociaudit.insight.query import Answer


class AnswerFormat(StrEnum):
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
    answer_format: Annotated[
        AnswerFormat | None,
        typer.Option("--format", help="How the answer is written.", show_default="by -o, else table"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the answer to this file.", metavar="FILE")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file if it exists.")] = False,
    is_list: Annotated[bool, typer.Option("--list", help="List the named queries and the columns.")] = False,
) -> int:
    """Ask one SELECT over the events of any files, as the table `events`."""
    from ociaudit.cli.output_file import check_output
    from ociaudit.cli.query_output import list_queries
    from ociaudit.cli.signals import raise_on_signals
    from ociaudit.insight.query import answer_query

    if is_list:
        for line in list_queries():
            console.say_answer(line)
        return 0
    inputs, sql = _split_arguments(arguments or [], named)
    chosen = _choose_format(answer_format, output)
    if output:
        check_output(output, inputs=[Path(one) for one in inputs], can_overwrite=overwrite)
    with (
        raise_on_signals(),
        answer_query([None if one == "-" else Path(one) for one in inputs], sql) as answer,
    ):
        _write_answer(answer, chosen, output)
    return 0


def _split_arguments(arguments: list[str], named: str | None) -> tuple[list[str], str]:
    """Return the files and the query."""
    from ociaudit.insight.named_queries import find_named_query

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


def _choose_format(chosen: AnswerFormat | None, output: Path | None) -> AnswerFormat:
    if chosen is not None:
        return chosen
    if output is None:
        return AnswerFormat.TABLE
    for each in AnswerFormat:
        if output.suffix.lower() == f".{each.value}" or (each is AnswerFormat.TABLE and output.suffix == ".txt"):
            return each
    raise UsageError(
        f"{output.name} does not tell how the answer is to be written",
        hint="name it .json, .csv or .txt, or choose with --format",
    )


def _write_answer(answer: Answer, chosen: AnswerFormat, output: Path | None) -> None:
    from ociaudit.cli.query_output import draw_table, write_csv, write_json
    from ociaudit.store.durable import new_file, write_all

    if chosen is AnswerFormat.TABLE and output is None:
        for line in draw_table(answer, width=console.find_width()):
            console.say_answer(line)
        return
    pieces: Iterator[bytes]
    if chosen is AnswerFormat.TABLE:
        pieces = (line.encode() + b"\n" for line in draw_table(answer, width=None))
    else:
        pieces = write_json(answer) if chosen is AnswerFormat.JSON else write_csv(answer)
    if output is None:
        _write_to_stdout(pieces)
        return
    with new_file(output) as descriptor:
        for piece in pieces:
            write_all(descriptor, piece, output)


def _write_to_stdout(pieces: Iterator[bytes]) -> None:
    """Write until the end, or until nobody reads any more: `head` has seen enough, and that is no failure."""
    from ociaudit.store.durable import write_to_reader

    try:
        for piece in pieces:
            write_to_reader(1, piece, Path("stdout"), check=lambda: None)
    except DiskError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
